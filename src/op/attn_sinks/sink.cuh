/* sink.cuh — what a sink makes of a head's result on a CUDA device: for *_cuda.cu files.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: none. */
#ifndef LM_ATTN_SINKS_SINK_CUH
#define LM_ATTN_SINKS_SINK_CUH
/* keep = 1/(1 + e^(s - lse)), of the result; the new lse. e^-|s - lse| does not overflow. */
struct lm_sunk { float keep, lse; };
static __device__ __forceinline__ lm_sunk lm_sink(float lse, float s) {
    const float e = expf(-fabsf(s - lse)), z = 1.0f / (1.0f + e);
    return { s > lse ? e * z : z, fmaxf(lse, s) + log1pf(e) };
}
#endif
