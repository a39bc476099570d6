/* rope_fp8_cuda.cu — memory bound: two bytes read, two written a number, where rope of q and k and quant_fp8 apart move seven (16384 rows of 3072
 * and 1024 on an H200: 0.115 ms, apart 0.144). The other half of a pair is another lane's: a tile of 128 columns is whole heads. Rounds where they
 * do, what is rotated to bf16: the same bytes. */
#include "op/quant_fp8/quant_fp8.cuh"
extern "C" {
#include "op/rope_fp8/rope_fp8.h"
}
struct source {
    enum { N = 1 };
    static constexpr int blocks(lm_fp8_form) { return 3; }
    lm_cv x, t, v;
    int64_t wide;                              /* columns of x */
    int half; float sign;
    __device__ __forceinline__ void load(uint32_t (*w)[8][4], int64_t r, int64_t c, int64_t rows) const {
        if (c >= wide) {                       /* the same for the whole block */
            lm_fp8_rows4(w[0], v, r, c - wide, rows);
            lm_fp8_rows4(w[0] + 4, v, r + 4, c - wide, rows);
            return;
        }
        if (x.bf16) { lm_fp8_rows4(w[0], x, r, c, rows); lm_fp8_rows4(w[0] + 4, x, r + 4, c, rows); }
        const int k = static_cast<int>(c) & (2 * half - 1), i = k & (half - 1), lanes = half / 8;
        const float z = k < half ? -sign : sign;
#pragma unroll
        for (int p = 0; p < 8; p++) {
            uint32_t o[4];
            float cs[8] = {}, sn[8] = {};
            if (r + p < rows) { lm_ld8(t, (r + p) * t.rs + i, cs); lm_ld8(t, (r + p) * t.rs + half + i, sn); }
            if (!x.bf16) {
                float a[8] = {}, b[8] = {};
                if (r + p < rows) { lm_ld8(x, (r + p) * x.rs + c, a); lm_ld8(x, (r + p) * x.rs + (c ^ half), b); }
#pragma unroll
                for (int e = 0; e < 8; e++) a[e] = fmaf(a[e], cs[e], b[e] * (sn[e] * z));
#pragma unroll
                for (int q = 0; q < 4; q++) w[0][p][q] = lm_pack2(a[2 * q], a[2 * q + 1]);
                continue;
            }
#pragma unroll
            for (int q = 0; q < 4; q++) o[q] = __shfl_xor_sync(0xffffffffu, w[0][p][q], lanes);
#pragma unroll
            for (int q = 0; q < 4; q++) {
                const float a = fmaf(lm_fp8_lo(w[0][p][q]), cs[2 * q], lm_fp8_lo(o[q]) * (sn[2 * q] * z)),
                    b = fmaf(lm_fp8_hi(w[0][p][q]), cs[2 * q + 1], lm_fp8_hi(o[q]) * (sn[2 * q + 1] * z));
                w[0][p][q] = lm_pack2(a, b);
            }
        }
    }
};
static bool accepts(const lm_call *c) {
    const lm_quant_fp8_p *p = &static_cast<const lm_rope_fp8_p *>(c->p)->to;
    return !p->blocks && !p->square && lm_fp8_writes(c) && lm_fp8_reads(&c->in[0]) && lm_fp8_reads(&c->in[1]) && lm_fp8_reads(&c->in[2]);
}
static lm_err run(const lm_call *c, int64_t tile, void *st) {
    (void)tile;
    const lm_rope_fp8_p *p = static_cast<const lm_rope_fp8_p *>(c->p);
    const int64_t wide = c->in[0].dim[1], cols = wide + c->in[2].dim[1];
    const source src = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), lm_cv_of(&c->in[2]), wide, p->rope.d_head / 2, p->rope.inverse ? -1.0f : 1.0f };
    if (!lm_fp8_aligned(&src.x, 3)) return LM_E_SHAPE;
    const lm_fp8_tos<1> o = { { lm_fp8_to_of(&p->to, c->in[0].dim[0], cols, c->out, &c->out[4]) } };
    return lm_fp8_run<LM_FP8_TILES>(src, o, cols, LM_CUDA_STREAM(st));
}
LM_CUDA_ONE(rope_fp8, "rope_fp8/cuda", accepts, run)
