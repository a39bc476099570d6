/* rope_fp8_cuda.cu — memory bound: two bytes read, two written a number, where rope of q and k and quant_fp8 apart move seven (16384 rows of 3072
 * and 1024 on an H200: 0.091 ms, apart 0.144). The other half of a pair is another lane's: a tile of 128 columns is whole heads. Rounds where they
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
    __device__ __forceinline__ void angles(int64_t r, int i, float *f) const {
        if (t.bf16) {
            const uint2 u = *reinterpret_cast<const uint2 *>(static_cast<const __nv_bfloat16 *>(t.p) + r * t.rs + i);
            f[0] = lm_fp8_lo(u.x); f[1] = lm_fp8_hi(u.x); f[2] = lm_fp8_lo(u.y); f[3] = lm_fp8_hi(u.y);
            return;
        }
        const float4 u = *reinterpret_cast<const float4 *>(static_cast<const float *>(t.p) + r * t.rs + i);
        f[0] = u.x; f[1] = u.y; f[2] = u.z; f[3] = u.w;
    }
    __device__ __forceinline__ void load(uint32_t (*w)[8][4], int64_t r, int64_t c, int64_t rows) const {
        if (c >= wide) {                       /* the same for the whole block */
            lm_fp8_rows4(w[0], v, r, c - wide, rows);
            lm_fp8_rows4(w[0] + 4, v, r + 4, c - wide, rows);
            return;
        }
        const int k = static_cast<int>(c) & (2 * half - 1), i = k & (half - 1), lanes = half / 8;
        const bool low = k < half;
        if (!x.bf16) {
            const float z = low ? -sign : sign;
#pragma unroll
            for (int p = 0; p < 8; p++) {
                float cs[8] = {}, sn[8] = {}, a[8] = {}, b[8] = {};
                if (r + p < rows) {
                    lm_ld8(t, (r + p) * t.rs + i, cs); lm_ld8(t, (r + p) * t.rs + half + i, sn);
                    lm_ld8(x, (r + p) * x.rs + c, a); lm_ld8(x, (r + p) * x.rs + (c ^ half), b);
                }
#pragma unroll
                for (int e = 0; e < 8; e++) a[e] = fmaf(a[e], cs[e], b[e] * (sn[e] * z));
#pragma unroll
                for (int q = 0; q < 4; q++) w[0][p][q] = lm_pack2(a[2 * q], a[2 * q + 1]);
            }
            return;
        }
        /* Two lanes have eight pairs, one the first halves, one the second: each turns four pairs whole, so each angle is read by one of them, and four
         * rows' are in flight with the rows. */
        const int from = i + (low ? 0 : 4);
#pragma unroll
        for (int h = 0; h < 8; h += 4) {
            float cs[4][4] = {}, sn[4][4] = {};
            lm_fp8_rows4(w[0] + h, x, r + h, c, rows);
#pragma unroll
            for (int p = 0; p < 4; p++) if (r + h + p < rows) { angles(r + h + p, from, cs[p]); angles(r + h + p, half + from, sn[p]); }
#pragma unroll
            for (int p = 0; p < 4; p++) pairs(w[0][h + p], cs[p], sn[p], low, lanes);
        }
    }
    /* Four pairs of the eight numbers that this lane and its neighbour have of a row. */
    __device__ __forceinline__ void pairs(uint32_t *v, const float *cs, const float *sn, bool low, int lanes) const {
        uint32_t turned[2][2];
#pragma unroll
        for (int q = 0; q < 2; q++) {
            const uint32_t mine = low ? v[q] : v[2 + q], other = __shfl_xor_sync(0xffffffffu, low ? v[2 + q] : v[q], lanes),
                first = low ? mine : other, second = low ? other : mine;
            const float a0 = lm_fp8_lo(first), a1 = lm_fp8_hi(first), b0 = lm_fp8_lo(second), b1 = lm_fp8_hi(second),
                s0 = sn[2 * q] * sign, s1 = sn[2 * q + 1] * sign;
            turned[0][q] = lm_pack2(fmaf(a0, cs[2 * q], b0 * -s0), fmaf(a1, cs[2 * q + 1], b1 * -s1));
            turned[1][q] = lm_pack2(fmaf(b0, cs[2 * q], a0 * s0), fmaf(b1, cs[2 * q + 1], a1 * s1));
        }
#pragma unroll
        for (int q = 0; q < 2; q++) {
            const uint32_t back = __shfl_xor_sync(0xffffffffu, low ? turned[1][q] : turned[0][q], lanes);
            v[q] = low ? turned[0][q] : back;
            v[2 + q] = low ? back : turned[1][q];
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
