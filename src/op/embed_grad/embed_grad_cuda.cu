/* embed_grad_cuda.cu — dW[ids_i] += dy_i without float atomics: rows are dealt to CLASSES blocks by their number, each block reads all ids
 * in order and adds those that are its own, so a row named often gets its terms in token order. A block keeps the row it is at in
 * registers, so a run of one id costs the reading of dy alone. */
#include "op/cuda.cuh"
extern "C" {
#include "op/embed_grad/embed_grad.h"
}
enum { CLASSES = 1024, AHEAD = 4 };
struct args { const int32_t *ids; lm_cv dy; float *dw; int64_t n, d, rows; int wide; int32_t *fault; };
__device__ __forceinline__ void take(const args &a, int64_t i, int64_t k, float *f) { lm_ld_to(a.dy, i, k, a.d, a.wide, f); }
static __global__ void __launch_bounds__(128) add(const args a) {
    __shared__ int32_t found[1024], of[1024];
    __shared__ int count[4];
    const int64_t k = static_cast<int64_t>(blockIdx.y) * 1024 + threadIdx.x * 8; const int lane = threadIdx.x % 32, w = threadIdx.x / 32;
    const bool mine = k < a.d;
    int64_t cur = -1; float acc[8];
    for (int64_t base = 0; base < a.n; base += 1024) {
        /* the tokens of this class among 1024, in order: each warp has 256 of them */
        int have = 0;
        for (int q = 0; q < 8; q++) {
            const int64_t i = base + w * 256 + q * 32 + lane; const int32_t id = i < a.n ? a.ids[i] : -2;
            if (i < a.n && (id < 0 || id >= a.rows) && a.fault) *a.fault = LM_E_RANGE;
            const bool hit = id >= 0 && id < a.rows && id % CLASSES == static_cast<int32_t>(blockIdx.x);
            const unsigned m = __ballot_sync(0xffffffffu, hit);
            if (hit) { const int at = w * 256 + have + __popc(m & ((1u << lane) - 1)); found[at] = static_cast<int32_t>(i - base); of[at] = id; }
            have += __popc(m);
        }
        if (lane == 0) count[w] = have;
        __syncthreads();
        for (int part = 0; part < 4; part++)
            for (int j = 0; j < count[part]; j += AHEAD) {
                float f[AHEAD][8];
#pragma unroll
                for (int e = 0; e < AHEAD; e++) if (mine && j + e < count[part]) take(a, base + found[part * 256 + j + e], k, f[e]);
#pragma unroll
                for (int e = 0; e < AHEAD; e++) if (mine && j + e < count[part]) {
                    const int64_t id = of[part * 256 + j + e];
                    if (id != cur) {
                        for (int q = 0; q < 8 && k + q < a.d; q++) { if (cur >= 0) a.dw[cur * a.d + k + q] = acc[q]; acc[q] = a.dw[id * a.d + k + q]; }
                        cur = id;
                    }
#pragma unroll
                    for (int q = 0; q < 8; q++) acc[q] += f[e][q];
                }
            }
        __syncthreads();
    }
    if (cur >= 0) for (int q = 0; q < 8 && k + q < a.d; q++) a.dw[cur * a.d + k + q] = acc[q];
}
static bool accepts(const lm_call *c) { return c->in[0].dtype == LM_I32 && lm_is_contig(&c->in[0]) && lm_cuda_float(&c->in[1]) && lm_is_f32_vec(&c->out[0]); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    args a = { static_cast<const int32_t *>(c->in[0].data), lm_cv_of(&c->in[1]), static_cast<float *>(c->out[0].data), c->in[0].dim[0], c->out[0].dim[1], c->out[0].dim[0], 0, c->fault };
    a.wide = lm_cuda_vec8(&a.dy, 1, a.d);
    if (!(c->acc & 1) && cudaMemsetAsync(a.dw, 0, static_cast<size_t>(a.rows * a.d) * 4, LM_CUDA_STREAM(scratch)) != cudaSuccess) return LM_E_DEVICE;
    if (!a.n || !a.d || !a.rows) return LM_OK;
    add<<<dim3(static_cast<unsigned>(lm_min64(CLASSES, a.rows)), LM_CUDA_GRID(a.d, 1024)), 128, 0, LM_CUDA_STREAM(scratch)>>>(a);
    return lm_cuda_launched();
}
extern "C" {
extern const lm_kernel lm_k_embed_grad_cuda[];
const lm_kernel lm_k_embed_grad_cuda[] = { { "rows_add.cuda", LM_DEV_CUDA, LM_CUDA_SM80, "rows_add", accepts, NULL, NULL, 1, { { lm_cuda_one, run } }, NULL }, {} };
}
