/* quant_fp8.cuh — a tile of 128×128 numbers to e4m3, by rows and transposed, on a CUDA device: for rows that make such tensors.
 *
 * A block of 256 threads has one tile in registers as bf16: thread t columns 8·(t%16)…+7 of rows 8·(t/16)…+7. Rows and columns get the scale
 * max|x|/448, or the whole tile one (blocks). The row copy is written from registers, 128 bytes a row; the transposed one goes through shared
 * memory, eight rows of a column at a time, at unit (t/16) ^ (t%16) so that no two lanes meet in a bank.
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
struct lm_fp8_shared { uint4 part[16][16]; uint2 turned[128][16]; float row_m[128], col_m[128]; unsigned lost[2]; };
template <bool blocks> __device__ __forceinline__ void lm_fp8_put(const uint32_t (*v)[4], const lm_fp8_to &o, lm_fp8_shared *sh) {
    const int t = threadIdx.x, l = t % 16, g = t / 16;
    const int64_t c0 = static_cast<int64_t>(blockIdx.x) * 128, r0 = static_cast<int64_t>(blockIdx.y) * 128;
    if (t < 2) sh->lost[t] = 0;
    uint32_t cm[4] = {}, rm[4];                                   /* rm: rows 2i and 2i+1 */
#pragma unroll
    for (int p = 0; p < 8; p++) {
        uint32_t a[4];
#pragma unroll
        for (int i = 0; i < 4; i++) { a[i] = v[p][i] & 0x7fff7fffu; cm[i] = lm_fp8_max2(cm[i], a[i]); }
        const uint32_t m = lm_fp8_max2(lm_fp8_max2(a[0], a[1]), lm_fp8_max2(a[2], a[3])), one = lm_fp8_max2(m, m >> 16) & 0xffff;
        rm[p / 2] = p % 2 ? rm[p / 2] | one << 16 : one;
    }
    sh->part[g][l] = make_uint4(cm[0], cm[1], cm[2], cm[3]);
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int h = 8; h; h /= 2) rm[i] = lm_fp8_max2(rm[i], __shfl_xor_sync(0xffffffffu, rm[i], h));
        if (!l) { sh->row_m[8 * g + 2 * i] = lm_fp8_lo(rm[i]); sh->row_m[8 * g + 2 * i + 1] = lm_fp8_hi(rm[i]); }
    }
    __syncthreads();
    if (t < 64) {
        uint32_t m = 0;
#pragma unroll
        for (int k = 0; k < 16; k++) m = lm_fp8_max2(m, reinterpret_cast<const uint32_t *>(&sh->part[k][0])[t]);
        sh->col_m[2 * t] = lm_fp8_lo(m); sh->col_m[2 * t + 1] = lm_fp8_hi(m);
    }
    __syncthreads();
    const float most = lm_cuda_warp_max(fmaxf(fmaxf(sh->col_m[t % 32], sh->col_m[t % 32 + 32]), fmaxf(sh->col_m[t % 32 + 64],
        sh->col_m[t % 32 + 96])));
    /* counted by bits: halves that are not zero, bytes that are not, bytes that are no numbers */
    unsigned flushed = 0, odd = 0;
#pragma unroll
    for (int p = 0; p < 8; p++) {
        const int64_t r = r0 + 8 * g + p;
        const float inv = lm_fp8_inverse(blocks ? most : p % 2 ? lm_fp8_hi(rm[p / 2]) : lm_fp8_lo(rm[p / 2]));
        uint32_t w[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const uint32_t a = v[p][2 * i], b = v[p][2 * i + 1];
            w[i] = lm_fp8_pack2(lm_fp8_lo(a) * inv, lm_fp8_hi(a) * inv) | lm_fp8_pack2(lm_fp8_lo(b) * inv, lm_fp8_hi(b) * inv) << 16;
            if (o.stats) {
                const uint32_t q = w[i] & 0x7f7f7f7fu;
                flushed += __popc(((a & 0x7fff7fffu) + 0x7fff7fffu) & 0x80008000u) + __popc(((b & 0x7fff7fffu) + 0x7fff7fffu) & 0x80008000u) -
                           __popc((q + 0x7f7f7f7fu) & 0x80808080u);
                odd += __popc((q + 0x01010101u) & 0x80808080u);
            }
        }
        if (o.q && r < o.rows) *reinterpret_cast<uint2 *>(o.q + r * o.cols + c0 + 8 * l) = make_uint2(w[0], w[1]);
    }
    if (o.qt)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float il = lm_fp8_inverse(blocks ? most : sh->col_m[8 * l + 2 * i]),
                ih = lm_fp8_inverse(blocks ? most : sh->col_m[8 * l + 2 * i + 1]);
            uint32_t a[2], b[2];
#pragma unroll
            for (int k = 0; k < 2; k++) {
                a[k] = lm_fp8_pack2(lm_fp8_lo(v[4 * k][i]) * il, lm_fp8_lo(v[4 * k + 1][i]) * il) |
                       lm_fp8_pack2(lm_fp8_lo(v[4 * k + 2][i]) * il, lm_fp8_lo(v[4 * k + 3][i]) * il) << 16;
                b[k] = lm_fp8_pack2(lm_fp8_hi(v[4 * k][i]) * ih, lm_fp8_hi(v[4 * k + 1][i]) * ih) |
                       lm_fp8_pack2(lm_fp8_hi(v[4 * k + 2][i]) * ih, lm_fp8_hi(v[4 * k + 3][i]) * ih) << 16;
            }
            sh->turned[8 * l + 2 * i][g ^ l] = make_uint2(a[0], a[1]);
            sh->turned[8 * l + 2 * i + 1][g ^ l] = make_uint2(b[0], b[1]);
        }
    if (o.stats) {
        flushed = __reduce_add_sync(0xffffffffu, flushed); odd = __reduce_add_sync(0xffffffffu, odd);
        if (t % 32 == 0) { if (odd) atomicAdd(&sh->lost[0], odd); if (flushed) atomicAdd(&sh->lost[1], flushed); }
    }
    __syncthreads();
    if (blocks) {
        if (!t && o.s) o.s[r0 / 128 * (o.cols / 128) + blockIdx.x] = lm_fp8_scale(most);
        if (!t && o.st) o.st[static_cast<int64_t>(blockIdx.x) * (o.cap / 128) + r0 / 128] = lm_fp8_scale(most);
    } else if (t < 128) { if (o.s) o.s[c0 / 128 * o.cap + r0 + t] = lm_fp8_scale(sh->row_m[t]); }
    else if (o.st) o.st[r0 / 128 * o.cols + c0 + t - 128] = lm_fp8_scale(sh->col_m[t - 128]);
    if (o.qt)
#pragma unroll
        for (int k = 0; k < 8; k++) {
            const int c = k * 16 + g;
            *reinterpret_cast<uint2 *>(o.qt + (c0 + c) * o.cap + r0 + 8 * l) = sh->turned[c][l ^ (c / 8)];
        }
    if (o.stats && !t) {
        const int64_t live = o.rows - r0 < 128 ? o.rows - r0 : 128;
        if (live > 0) atomicAdd(&o.stats[LM_FP8_ELEMENTS], static_cast<unsigned long long>(live * 128));
        if (sh->lost[0]) atomicAdd(&o.stats[LM_FP8_ODD], static_cast<unsigned long long>(sh->lost[0]));
        if (sh->lost[1]) atomicAdd(&o.stats[LM_FP8_FLUSHED], static_cast<unsigned long long>(sh->lost[1]));
        const unsigned long long bits = __float_as_uint(most);
        if (bits > *const_cast<volatile unsigned long long *>(&o.stats[LM_FP8_AMAX])) atomicMax(&o.stats[LM_FP8_AMAX], bits);
    }
}
/* S::N tensors of one shape at once: src.load gives this thread's eight rows of eight of each */
template <int N> struct lm_fp8_tos { lm_fp8_to t[N]; };
template <class S, bool blocks> __global__ void __launch_bounds__(256, S::N > 1 ? 2 : 3) lm_fp8_tiles(const S src, const lm_fp8_tos<S::N> o) {
    __shared__ lm_fp8_shared sh;
    uint32_t v[S::N][8][4];
    src.load(v, static_cast<int64_t>(blockIdx.y) * 128 + threadIdx.x / 16 * 8, static_cast<int64_t>(blockIdx.x) * 128 + threadIdx.x % 16 * 8,
        o.t[0].rows);
#pragma unroll
    for (int i = 0; i < S::N; i++) {
        if (i) __syncthreads();
        lm_fp8_put<blocks>(v[i], o.t[i], &sh);
    }
}
template <bool blocks, class S> static lm_err lm_fp8_run(const S &src, const lm_fp8_tos<S::N> &o, cudaStream_t s) {
    if (!o.t[0].cap || !o.t[0].cols) return LM_OK;
    lm_fp8_tiles<S, blocks><<<dim3(static_cast<unsigned>(o.t[0].cols / 128), LM_CUDA_GRID(o.t[0].cap, 128)), 256, 0, s>>>(src, o);
    return lm_cuda_launched();
}
/* Four rows of eight as they lie, zeros behind the last: bf16 (f32 is rounded). */
__device__ __forceinline__ void lm_fp8_rows4(uint32_t (*v)[4], const lm_cv &x, int64_t r, int64_t c, int64_t rows) {
    if (x.bf16) {
#pragma unroll
        for (int p = 0; p < 4; p++) {
            uint4 u = make_uint4(0, 0, 0, 0);
            if (r + p < rows) u = *reinterpret_cast<const uint4 *>(static_cast<const __nv_bfloat16 *>(x.p) + (r + p) * x.rs + c);
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
    for (int i = 0; i < c->n_out; i++) if (c->out[i].rank && (!lm_is_contig(&c->out[i]) || c->out[i].dtype == LM_BF16)) return false;
    return true;
}
#endif
