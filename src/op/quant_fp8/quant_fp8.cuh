/* quant_fp8.cuh — a tile of 128×128 numbers to e4m3, by rows and transposed, on a CUDA device: for rows that make such tensors.
 *
 * A block of 256 threads has one tile in registers as bf16: thread t columns 8·(t%16)…+7 of rows 8·(t/16)…+7. Rows and columns get the scale
 * max|x|/448, or the whole tile one (blocks), or it for the transposed copy alone (square). Four rows of four are unpacked at a time and multiplied
 * both ways. The row copy is written from registers, 128 bytes a row; the transposed one goes through shared memory, eight rows of a column at a
 * time, at unit (t/16) ^ (t%16) so that no two lanes meet in a bank. Counts cost four instructions for four numbers: bytes that are not zero, by a
 * dot product; which numbers were zero or not finite is counted one by one where the least and the largest bits say that there are such.
 * Bytes of a plain call on bf16: 2 read, 2 written an element, and 1/16 of scales. What makes the numbers (S: eight rows of eight) is the caller's.
 * Counts are sums of integers and a maximum, so atomics leave no order behind.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_DEVICE. */
#ifndef LM_QUANT_FP8_CUH
#define LM_QUANT_FP8_CUH
#include <cuda_fp8.h>
#include "op/cuda.cuh"
extern "C" {
#include "op/quant_fp8/quant_fp8.h"
}
/* rows there are now, and room for */
typedef struct { int64_t rows, cap, cols; uint8_t *q, *qt; float *s, *st; unsigned long long *stats; } lm_fp8_to;
/* the four outputs from `out` on, and the counts of the params' group */
static inline lm_fp8_to lm_fp8_to_of(const lm_quant_fp8_p *p, int64_t rows, int64_t cols, const lm_tensor *out, const lm_tensor *counts) {
    lm_fp8_to o = {};
    o.rows = rows; o.cols = cols;
    o.cap = p->cols ? out[2].dim[1] : p->rows && !p->blocks ? out[1].dim[1] : lm_round_up(rows, LM_FP8_TILE);
    if (p->rows) { o.q = static_cast<uint8_t *>(out[0].data); o.s = static_cast<float *>(out[1].data); }
    if (p->cols) { o.qt = static_cast<uint8_t *>(out[2].data); o.st = static_cast<float *>(out[3].data); }
    o.stats = static_cast<unsigned long long *>(counts->data) + LM_FP8_COUNTS * p->group;
    return o;
}
/* the same but for columns from `first` on (not of blocks) */
static inline lm_fp8_to lm_fp8_from(lm_fp8_to o, int64_t first) {
    if (o.q) { o.q += first; o.s += first / LM_FP8_TILE * o.cap; }
    if (o.qt) { o.qt += first * o.cap; o.st += first; }
    return o;
}
/* the larger of two pairs of positive bf16, as bits: where a number is not one the other is taken */
__device__ __forceinline__ uint32_t lm_fp8_max2(uint32_t a, uint32_t b) {
    const __nv_bfloat162 m = __hmax2(*reinterpret_cast<const __nv_bfloat162 *>(&a), *reinterpret_cast<const __nv_bfloat162 *>(&b));
    return *reinterpret_cast<const uint32_t *>(&m);
}
__device__ __forceinline__ float lm_fp8_lo(uint32_t u) { return __uint_as_float(u << 16); }
__device__ __forceinline__ float lm_fp8_hi(uint32_t u) { return __uint_as_float(u & 0xffff0000u); }
__device__ __forceinline__ float lm_fp8_scale(float m) { return __fdiv_rn(fmaxf(m, LM_FP8_TINY), 448.0f); }
__device__ __forceinline__ float lm_fp8_inverse(float m) { return __fdiv_rn(448.0f, fmaxf(m, LM_FP8_TINY)); }
__device__ __forceinline__ uint32_t lm_fp8_pack2(float a, float b) { return __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, __NV_E4M3); }
struct lm_fp8_shared { uint4 part[16][16]; uint2 turned[128][16]; float row_m[128], row_inv[128], col_inv[128]; unsigned odd, flushed; };
/* Of a thread's 64 numbers: which are zero, which are not finite. Counted one by one only where there is any. */
__device__ __forceinline__ unsigned lm_fp8_zeros(const uint32_t (*v)[4]) {
    unsigned n = 0;
    for (int p = 0; p < 8; p++) for (int i = 0; i < 4; i++) n += !(v[p][i] & 0x7fffu) + !(v[p][i] & 0x7fff0000u);
    return n;
}
__device__ __forceinline__ unsigned lm_fp8_not_finite(const uint32_t (*v)[4]) {
    unsigned n = 0;
    for (int p = 0; p < 8; p++) for (int i = 0; i < 4; i++) n += ((v[p][i] & 0x7f80u) == 0x7f80u) + ((v[p][i] & 0x7f800000u) == 0x7f800000u);
    return n;
}
__device__ __forceinline__ uint32_t lm_fp8_pack4(float a, float b, float c, float d) { return lm_fp8_pack2(a, b) | lm_fp8_pack2(c, d) << 16; }
/* which scales belong to one row or one column of a tile: both, those of rows, none */
typedef enum { LM_FP8_TILES, LM_FP8_SQUARE, LM_FP8_BLOCKS } lm_fp8_form;
/* tile y of rows, x of columns */
template <lm_fp8_form form> __device__ __forceinline__ void lm_fp8_put(const uint32_t (*v)[4], const lm_fp8_to &o, lm_fp8_shared *sh, int64_t x, int64_t y) {
    const int t = threadIdx.x, l = t % 16, g = t / 16;
    const int64_t c0 = x * 128, r0 = y * 128;
    constexpr bool cols = form == LM_FP8_TILES, rows = form != LM_FP8_BLOCKS;
    if (!t) sh->odd = sh->flushed = 0;
    uint32_t cm[4] = {}, rm[4], low = 0x7fff7fffu, high = 0;      /* rm: rows 2i and 2i+1; least and largest bits */
#pragma unroll
    for (int p = 0; p < 8; p++) {
        uint32_t a[4];
#pragma unroll
        for (int i = 0; i < 4; i++) { a[i] = v[p][i] & 0x7fff7fffu; if (cols) cm[i] = lm_fp8_max2(cm[i], a[i]); }
#pragma unroll
        for (int i = 0; i < 4; i += 2) { low = __vimin3_u16x2(low, a[i], a[i + 1]); high = __vimax3_u16x2(high, a[i], a[i + 1]); }
        const uint32_t m = lm_fp8_max2(lm_fp8_max2(a[0], a[1]), lm_fp8_max2(a[2], a[3])), one = lm_fp8_max2(m, m >> 16) & 0xffff;
        rm[p / 2] = p % 2 ? rm[p / 2] | one << 16 : one;
    }
    if (cols) sh->part[g][l] = make_uint4(cm[0], cm[1], cm[2], cm[3]);
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int h = 8; h; h /= 2) rm[i] = lm_fp8_max2(rm[i], __shfl_xor_sync(0xffffffffu, rm[i], h));
        if (!l) { sh->row_m[8 * g + 2 * i] = lm_fp8_lo(rm[i]); sh->row_m[8 * g + 2 * i + 1] = lm_fp8_hi(rm[i]); }
    }
    __syncthreads();
    /* one division a row and a column */
    if (cols && t < 64) {
        uint32_t m = 0;
#pragma unroll
        for (int k = 0; k < 16; k++) m = lm_fp8_max2(m, reinterpret_cast<const uint32_t *>(&sh->part[k][0])[t]);
        const float a = lm_fp8_lo(m), b = lm_fp8_hi(m);
        sh->col_inv[2 * t] = lm_fp8_inverse(a); sh->col_inv[2 * t + 1] = lm_fp8_inverse(b);
        if (o.st) *reinterpret_cast<float2 *>(o.st + y * o.cols + c0 + 2 * t) = make_float2(lm_fp8_scale(a), lm_fp8_scale(b));
    } else if (rows && t >= 128) {
        const float m = sh->row_m[t - 128];
        sh->row_inv[t - 128] = lm_fp8_inverse(m);
        if (o.s) o.s[x * o.cap + r0 + t - 128] = lm_fp8_scale(m);
    }
    float most = 0;
    if (!cols || t < 32) {
        const float4 m = *reinterpret_cast<const float4 *>(&sh->row_m[t % 32 * 4]);
        most = lm_cuda_warp_max(fmaxf(fmaxf(m.x, m.y), fmaxf(m.z, m.w)));
    }
    const float all = cols ? 0.0f : lm_fp8_inverse(most);
    if (rows) __syncthreads();
    float ci[8];
#pragma unroll
    for (int e = 0; e < 8; e += 4) {
        float4 u = make_float4(all, all, all, all);
        if (cols) u = *reinterpret_cast<const float4 *>(&sh->col_inv[8 * l + e]);
        ci[e] = u.x; ci[e + 1] = u.y; ci[e + 2] = u.z; ci[e + 3] = u.w;
    }
    const int left = static_cast<int>(o.rows - r0 < 128 ? o.rows - r0 : 128) - 8 * g;
    uint8_t *q = o.q + (r0 + 8 * g) * o.cols + c0 + 8 * l;
    unsigned there = 0;                                           /* bytes that are not zero, times 128 */
    uint32_t turned[8][2];
    /* four rows of four: read once, written both ways */
#pragma unroll
    for (int k = 0; k < 2; k++) {
        float4 u = make_float4(all, all, all, all);
        if (rows) u = *reinterpret_cast<const float4 *>(&sh->row_inv[8 * g + 4 * k]);
        const float ri[4] = { u.x, u.y, u.z, u.w };
        uint32_t w[4][2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float f[4][4];
#pragma unroll
            for (int p = 0; p < 4; p++) {
                const uint32_t a = v[4 * k + p][2 * i], b = v[4 * k + p][2 * i + 1];
                f[p][0] = lm_fp8_lo(a); f[p][1] = lm_fp8_hi(a); f[p][2] = lm_fp8_lo(b); f[p][3] = lm_fp8_hi(b);
                w[p][i] = lm_fp8_pack4(f[p][0] * ri[p], f[p][1] * ri[p], f[p][2] * ri[p], f[p][3] * ri[p]);
                there = __dp4a(((w[p][i] & 0x7f7f7f7fu) + 0x7f7f7f7fu) & 0x80808080u, 0x01010101u, there);
            }
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const float s = ci[4 * i + c];
                turned[4 * i + c][k] = lm_fp8_pack4(f[0][c] * s, f[1][c] * s, f[2][c] * s, f[3][c] * s);
            }
        }
        if (o.q)
#pragma unroll
            for (int p = 0; p < 4; p++) {
                if (4 * k + p < left) *reinterpret_cast<uint2 *>(q) = make_uint2(w[p][0], w[p][1]);
                q += o.cols;
            }
    }
    if (o.qt)
#pragma unroll
        for (int c = 0; c < 8; c++) sh->turned[8 * l + c][g ^ l] = make_uint2(turned[c][0], turned[c][1]);
    if (o.stats) {
        unsigned flushed = 64 - there / 128, odd = 0;
        if (!(low & 0xffffu) || low < 0x10000u) flushed -= lm_fp8_zeros(v);
        if ((high & 0xffffu) >= 0x7f80u || high >= 0x7f800000u) odd = lm_fp8_not_finite(v);
        flushed = __reduce_add_sync(0xffffffffu, flushed); odd = __reduce_add_sync(0xffffffffu, odd);
        if (t % 32 == 0) { if (odd) atomicAdd(&sh->odd, odd); if (flushed) atomicAdd(&sh->flushed, flushed); }
    }
    __syncthreads();
    if (!cols && !t) {
        if (!rows && o.s) o.s[y * (o.cols / 128) + x] = lm_fp8_scale(most);
        if (o.st) o.st[x * (o.cap / 128) + y] = lm_fp8_scale(most);
    }
    if (o.qt) {
        uint8_t *to = o.qt + (c0 + g) * o.cap + r0 + 8 * l;
#pragma unroll
        for (int k = 0; k < 8; k++, to += 16 * o.cap) *reinterpret_cast<uint2 *>(to) = sh->turned[k * 16 + g][l ^ (2 * k + g / 8)];
    }
    if (o.stats && !t) {
        const int64_t live = o.rows - r0 < 128 ? o.rows - r0 : 128;
        if (live > 0) atomicAdd(&o.stats[LM_FP8_ELEMENTS], static_cast<unsigned long long>(live * 128));
        if (sh->odd) atomicAdd(&o.stats[LM_FP8_ODD], static_cast<unsigned long long>(sh->odd));
        if (sh->flushed) atomicAdd(&o.stats[LM_FP8_FLUSHED], static_cast<unsigned long long>(sh->flushed));
        const unsigned long long bits = __float_as_uint(most);
        if (bits > *const_cast<volatile unsigned long long *>(&o.stats[LM_FP8_AMAX])) atomicMax(&o.stats[LM_FP8_AMAX], bits);
    }
}
/* S::N tensors of one shape at once: src.load gives this thread's eight rows of eight of each. S::blocks: of a multiprocessor. */
template <int N> struct lm_fp8_tos { lm_fp8_to t[N]; };
template <class S, lm_fp8_form form> __global__ void __launch_bounds__(256, S::blocks(form)) lm_fp8_tiles(const S src, const lm_fp8_tos<S::N> o) {
    __shared__ lm_fp8_shared sh;
    uint32_t v[S::N][8][4];
    const int64_t x = blockIdx.x, y = blockIdx.y;
    src.load(v, y * 128 + threadIdx.x / 16 * 8, x * 128 + threadIdx.x % 16 * 8, o.t[0].rows);
#pragma unroll
    for (int i = 0; i < S::N; i++) {
        if (i) __syncthreads();
        lm_fp8_put<form>(v[i], o.t[i], &sh, x, y);
    }
}
/* cols: columns that src has, of those of the outputs */
template <lm_fp8_form form, class S> static lm_err lm_fp8_run(const S &src, const lm_fp8_tos<S::N> &o, int64_t cols, cudaStream_t s) {
    if (!o.t[0].cap || !cols) return LM_OK;
    lm_fp8_tiles<S, form><<<dim3(static_cast<unsigned>(cols / 128), LM_CUDA_GRID(o.t[0].cap, 128)), 256, 0, s>>>(src, o);
    return lm_cuda_launched();
}
/* Four rows of eight as they lie, zeros behind the last: bf16 (f32 is rounded). */
__device__ __forceinline__ void lm_fp8_rows4(uint32_t (*v)[4], const lm_cv &x, int64_t r, int64_t c, int64_t rows) {
    if (x.bf16) {
        const __nv_bfloat16 *at = static_cast<const __nv_bfloat16 *>(x.p) + r * x.rs + c;
        const int left = static_cast<int>(rows - r < 4 ? rows - r : 4);
#pragma unroll
        for (int p = 0; p < 4; p++, at += x.rs) {
            uint4 u = make_uint4(0, 0, 0, 0);
            if (p < left) u = *reinterpret_cast<const uint4 *>(at);
            v[p][0] = u.x; v[p][1] = u.y; v[p][2] = u.z; v[p][3] = u.w;
        }
        return;
    }
#pragma unroll
    for (int p = 0; p < 4; p++) {
        float f[8] = {};
        if (r + p < rows) lm_ld8(x, (r + p) * x.rs + c, f);
#pragma unroll
        for (int i = 0; i < 4; i++) v[p][i] = lm_pack2(f[2 * i], f[2 * i + 1]);
    }
}
/* x as it is */
struct lm_fp8_plain {
    enum { N = 1 };
    static constexpr int blocks(lm_fp8_form f) { return f == LM_FP8_TILES ? 2 : 3; }       /* three would spill there: 8 % slower */
    lm_cv x;
    __device__ __forceinline__ void load(uint32_t (*v)[8][4], int64_t r, int64_t c, int64_t rows) const {
        lm_fp8_rows4(v[0], x, r, c, rows);
        lm_fp8_rows4(v[0] + 4, x, r + 4, c, rows);
    }
};
/* what these rows take of an input; pointers are looked at when the kernel runs */
static inline bool lm_fp8_reads(const lm_tensor *t) { return lm_cuda_float(t) && lm_row_stride(t) % 8 == 0; }
static inline bool lm_fp8_aligned(const lm_cv *v, int n) {
    for (int i = 0; i < n; i++) if (reinterpret_cast<uintptr_t>(v[i].p) % 16) return false;
    return true;
}
static inline bool lm_fp8_writes(const lm_call *c) {
    for (int i = 0; i < c->n_out; i++) if (c->out[i].rank && (!lm_is_contig(&c->out[i]) || c->out[i].dtype == LM_BF16 || c->out[i].dtype == LM_F16)) return false;
    return true;
}
#endif
