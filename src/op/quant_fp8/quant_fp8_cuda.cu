/* quant_fp8_cuda.cu — memory bound (H200, 16384 × 5632): 3.43 TB/s of bf16 read and bytes written, 3.75 with square; a copy of as many bytes 4.11. */
#include "op/quant_fp8/quant_fp8.cuh"
static bool accepts(const lm_call *c) { return lm_fp8_writes(c) && lm_fp8_reads(&c->in[0]); }
static lm_err run(const lm_call *c, int64_t t, void *st) {
    (void)t;
    const lm_quant_fp8_p *p = static_cast<const lm_quant_fp8_p *>(c->p);
    const lm_fp8_plain src = { lm_cv_of(&c->in[0]) };
    if (!lm_fp8_aligned(&src.x, 1)) return LM_E_SHAPE;
    const lm_fp8_tos<1> o = { { lm_fp8_to_of(p, c->in[0].dim[0], c->in[0].dim[1], c->out, &c->out[4]) } };
    const int64_t cols = c->in[0].dim[1];
    if (p->blocks) return lm_fp8_run<LM_FP8_BLOCKS>(src, o, cols, LM_CUDA_STREAM(st));
    return p->square ? lm_fp8_run<LM_FP8_SQUARE>(src, o, cols, LM_CUDA_STREAM(st)) : lm_fp8_run<LM_FP8_TILES>(src, o, cols, LM_CUDA_STREAM(st));
}
/* Weights, each a step of its own, in one launch. */
struct weights { lm_fp8_plain x[LM_MANY]; lm_fp8_to to[LM_MANY]; unsigned end[LM_MANY]; int n; };
static __global__ void __launch_bounds__(256, lm_fp8_plain::blocks(LM_FP8_BLOCKS)) tiles_of_many(const __grid_constant__ weights a) {
    __shared__ lm_fp8_shared sh;
    unsigned block;
    const int k = lm_cuda_among(a.end, a.n, &block);
    const unsigned across = static_cast<unsigned>(a.to[k].cols / 128), x = block % across, y = block / across;
    uint32_t v[1][8][4];
    a.x[k].load(v, y * 128ll + threadIdx.x / 16 * 8, x * 128ll + threadIdx.x % 16 * 8, a.to[k].rows);
    lm_fp8_put<LM_FP8_BLOCKS>(v[0], a.to[k], &sh, x, y);
}
static lm_err run_many(const lm_call *const *c, int n, void *st) {
    weights a = {};
    int64_t blocks = 0;
    for (int i = 0; i < n; i++) {
        const lm_quant_fp8_p *p = static_cast<const lm_quant_fp8_p *>(c[i]->p);
        if (!p->blocks) { LM_TRY(run(c[i], 0, st)); continue; }
        const lm_fp8_plain src = { lm_cv_of(&c[i]->in[0]) };
        if (!lm_fp8_aligned(&src.x, 1)) return LM_E_SHAPE;
        blocks += c[i]->in[0].dim[0] / 128 * (c[i]->in[0].dim[1] / 128);
        if (blocks > INT32_MAX) return LM_E_RANGE;
        a.x[a.n] = src; a.to[a.n] = lm_fp8_to_of(p, c[i]->in[0].dim[0], c[i]->in[0].dim[1], c[i]->out, &c[i]->out[4]);
        a.end[a.n++] = static_cast<unsigned>(blocks);
    }
    if (blocks) tiles_of_many<<<static_cast<unsigned>(blocks), 256, 0, LM_CUDA_STREAM(st)>>>(a);
    return lm_cuda_launched();
}
LM_CUDA_MANY(quant_fp8, "quant_fp8/cuda", accepts, run, NULL, run_many)
