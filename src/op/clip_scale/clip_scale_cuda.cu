/* clip_scale_cuda.cu — one number in, two out; in double. */
#include "op/cuda.cuh"
static __global__ void clip(const float *gnorm2, const float *h, float *scale, float *norm) {
    const double inv = static_cast<double>(h[1]), most = static_cast<double>(h[0]), n = sqrt(static_cast<double>(*gnorm2)) * inv;
    *scale = static_cast<float>(most > 0 && most < n + 1e-6 ? inv * most / (n + 1e-6) : inv);
    *norm = static_cast<float>(n);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    clip<<<1, 1, 0, LM_CUDA_STREAM(scratch)>>>(static_cast<const float *>(c->in[0].data), static_cast<const float *>(c->in[1].data), static_cast<float *>(c->out[0].data), static_cast<float *>(c->out[1].data));
    return lm_cuda_launched();
}
LM_CUDA_ONE(clip_scale, "clip_scale/cuda", lm_cuda_accepts_f32, run)
