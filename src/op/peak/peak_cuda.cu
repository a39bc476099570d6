/* peak_cuda.cu — a row is walked twice by a cluster of eight blocks (one block on older cards), each of which has a stretch of it; what they
 * find meets through the cluster's memory, in the order of the stretches. Sums have a fixed tree; the near ones of a stretch are noted as
 * they come and then put in order. Reads the row from the second-level cache. */
#include "op/overlap.cuh"
extern "C" {
#include "op/peak/peak.h"
}
enum { THREADS = 512, PARTS = 8 };
struct args { lm_cv x, how; float *y; int64_t ys; int V, parts; };
__device__ __forceinline__ void cluster_meet(int parts) {
    __syncthreads();
#if __CUDA_ARCH__ >= 900
    if (parts > 1) asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ uint32_t peer(const void *p, int rank, int parts) {
    if (parts == 1) return *static_cast<const uint32_t *>(p);
    uint32_t v = 0;
#if __CUDA_ARCH__ >= 900
    unsigned there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(static_cast<unsigned>(__cvta_generic_to_shared(p))), "r"(rank));
    asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(v) : "r"(there) : "memory");
#endif
    return v;
}
static __global__ void __launch_bounds__(THREADS) peak(const __grid_constant__ args a) {
    __shared__ int ids[LM_PEAK_MOST], count, bad;
    __shared__ float values[LM_PEAK_MOST], best, sum;
    const int rank = static_cast<int>(blockIdx.x) % a.parts, tid = static_cast<int>(threadIdx.x), per = (a.V + a.parts - 1) / a.parts, lo = rank * per, hi = min(a.V, lo + per);
    const int64_t r = blockIdx.x / static_cast<unsigned>(a.parts);
    lm_let_next_begin();
    lm_wait_before();
    const float *x = static_cast<const float *>(a.x.p) + r * a.x.rs;
    const float t = lm_ld1(a.how, r * a.how.rs), gap = lm_ld1(a.how, r * a.how.rs + 1);
    float *y = a.y + r * a.ys, most = -INFINITY;
    int wrong = 0;
#pragma unroll 8
    for (int i = lo + tid; i < hi; i += THREADS) { const float v = x[i]; wrong |= !(v < INFINITY); most = fmaxf(most, v); }
    most = lm_cuda_block_max<THREADS>(most);
    wrong = __syncthreads_or(wrong);
    if (tid == 0) { best = most; bad = wrong; count = 0; }
    cluster_meet(a.parts);
    wrong = 0;
    for (int q = 0; q < a.parts; q++) { most = fmaxf(most, __uint_as_float(peer(&best, q, a.parts))); wrong |= static_cast<int>(peer(&bad, q, a.parts)); }
    const float cut = most - gap;
    const bool sums = t > 0 && most > -INFINITY;
    float s = 0;
#pragma unroll 8
    for (int i = lo + tid; i < hi; i += THREADS) {
        const float v = x[i];
        if (sums) s += expf((v - most) / t);
        if (v >= cut) { const int k = atomicAdd(&count, 1); if (k < LM_PEAK_MOST) { ids[k] = i; values[k] = v; } }
    }
    s = lm_cuda_block_sum<THREADS>(s);
    if (tid == 0) sum = s;
    cluster_meet(a.parts);
    int total = 0, before = 0;
    float all = 0;
    for (int q = 0; q < a.parts; q++) { if (q == rank) before = total; total += static_cast<int>(peer(&count, q, a.parts)); all += __uint_as_float(peer(&sum, q, a.parts)); }
    const bool listed = !wrong && total <= LM_PEAK_MOST;
    if (listed && tid < count) {
        int place = before;
        for (int q = 0; q < count; q++) place += ids[q] < ids[tid];
        y[4 + place] = static_cast<float>(ids[tid]); y[4 + LM_PEAK_MOST + place] = values[tid];
    }
    if (rank == 0) {
        for (int i = listed ? total + tid : tid; i < LM_PEAK_MOST; i += THREADS) y[4 + i] = y[4 + LM_PEAK_MOST + i] = 0;
        if (tid == 0) { y[0] = wrong ? 0 : most; y[1] = wrong ? 0 : all; y[2] = wrong ? 0 : static_cast<float>(total); y[3] = wrong ? 1 : 0; }
    }
    cluster_meet(a.parts);                                              /* nobody leaves while its numbers are read */
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts_f32(c) && c->in[0].dim[1] <= 1 << 24; }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const args a = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), static_cast<float *>(c->out[0].data), lm_row_stride(&c->out[0]), static_cast<int>(c->in[0].dim[1]), c->dev && c->dev->features & LM_CUDA_SM90 ? PARTS : 1 };
    if (!c->in[0].dim[0]) return LM_OK;
    const bool hopper = a.parts > 1;
    return lm_launch_early(peak, a, dim3(static_cast<unsigned>(c->in[0].dim[0] * a.parts)), THREADS, 0, static_cast<unsigned>(a.parts), hopper, LM_CUDA_STREAM(scratch));
}
LM_CUDA_ONE(peak, "peak/cuda", accepts, run)
