/* attn.cuh — what the attention rows share on a CUDA device: matrix instructions, tiles in shared memory, and what a token sees. For
 * *_cuda.cu files.
 *
 * Fragments are those of mma.m16n8k16: a thread of a warp has, of a 16×8 result, two neighbours of row lane/4 and two of row lane/4 + 8,
 * so that a result of one product is, packed to bf16, an operand of the next without leaving registers. Tiles have rows of D + 8 numbers:
 * eight rows of 16 bytes never share a bank. */
#ifndef LM_ATTN_CUH
#define LM_ATTN_CUH
#include "device/hopper.cuh"
#include "op/cuda.cuh"
extern "C" {
#include "op/attn/attn.h"
}
struct lm_attn_args { lm_cv q, k, v, o; const int32_t *start; float *lse; int64_t n, window; int heads, kv, d; float scale, cap; bool round; };
enum { LM_ATTN_ROWS = 64 };                                                /* rows whose first visible keys are summed up together */
__device__ __forceinline__ int lm_first_key(const int32_t *start, int64_t window, int64_t i) {
    const int s = start[i], b = s < 0 ? 0 : s > i ? static_cast<int>(i) : s;
    const int w = window > 0 ? static_cast<int>(i - window + 1 > 0 ? i - window + 1 : 0) : 0;
    return w > b ? w : b;
}
__device__ __forceinline__ void lm_ldsm(uint32_t *r, const void *p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(lm_smem(p)));
}
__device__ __forceinline__ void lm_ldsm_t(uint32_t *r, const void *p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(lm_smem(p)));
}
__device__ __forceinline__ void lm_mma(float *c, const uint32_t *a, uint32_t b0, uint32_t b1) {
#ifdef LM_F16_ROWS
#define LM_MMA_TYPES "f16.f16"
#else
#define LM_MMA_TYPES "bf16.bf16"
#endif
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." LM_MMA_TYPES ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/* The three ways to read 16×16 of a tile t (rows of P numbers) at (r, c): as the left operand; as the right one, summed along columns; as
 * the right one, summed along rows. */
template <int P> __device__ __forceinline__ void lm_frag_a(uint32_t *f, const __nv_bfloat16 *t, int r, int c) {
    const int l = threadIdx.x % 32;
    lm_ldsm(f, t + (r + l % 16) * P + c + l / 16 * 8);
}
template <int P> __device__ __forceinline__ void lm_frag_bt(uint32_t *f, const __nv_bfloat16 *t, int r, int c) {
    const int l = threadIdx.x % 32;
    lm_ldsm(f, t + (r + l % 8 + l / 16 * 8) * P + c + l / 8 % 2 * 8);
}
template <int P> __device__ __forceinline__ void lm_frag_b(uint32_t *f, const __nv_bfloat16 *t, int r, int c) {
    const int l = threadIdx.x % 32;
    lm_ldsm_t(f, t + (r + l % 16) * P + c + l / 16 * 8);
}
/* Rows [r0, r0+R) and D columns from c0 into a tile, zero beyond n; bf16 without waiting (lm_tiles_wait). */
template <int D, int R, int threads>
__device__ __forceinline__ void lm_tile_load(__nv_bfloat16 *t, const lm_cv &x, int64_t r0, int64_t n, int64_t c0) {
    constexpr int per = D / 8;
    for (int i = threadIdx.x; i < R * per; i += threads) {
        const int r = i / per, c = i % per * 8; const int64_t at = (r0 + r) * x.rs + c0 + c;
        __nv_bfloat16 *to = t + r * (D + 8) + c;
        if (r0 + r >= n) { *reinterpret_cast<uint4 *>(to) = make_uint4(0, 0, 0, 0); continue; }
        if (x.bf16) {
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(lm_smem(to)), "l"(static_cast<const __nv_bfloat16 *>(x.p) + at));
            continue;
        }
        float f[8];
        lm_ld8(x, at, f);
        *reinterpret_cast<uint4 *>(to) = make_uint4(lm_pack2(f[0], f[1]), lm_pack2(f[2], f[3]), lm_pack2(f[4], f[5]), lm_pack2(f[6], f[7]));
    }
}
__device__ __forceinline__ void lm_tiles_commit() { asm volatile("cp.async.commit_group;"); }
template <int left> __device__ __forceinline__ void lm_tiles_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(left)); }
/* The left operand of 16×16 from two neighbouring results of 16×8. */
__device__ __forceinline__ void lm_frag_of(uint32_t *f, const float *x, const float *y) {
    f[0] = lm_pack2(x[0], x[1]);
    f[1] = lm_pack2(x[2], x[3]);
    f[2] = lm_pack2(y[0], y[1]);
    f[3] = lm_pack2(y[2], y[3]);
}
__device__ __forceinline__ void lm_st2(const lm_cv &v, int64_t at, float a, float b) {
    if (v.bf16) *reinterpret_cast<uint32_t *>(static_cast<__nv_bfloat16 *>(v.p) + at) = lm_pack2(a, b);
    else *reinterpret_cast<float2 *>(static_cast<float *>(v.p) + at) = make_float2(a, b);
}
__device__ __forceinline__ float lm_in(const lm_cv &v, int64_t at, bool round) {
    const float f = lm_ld1(v, at);
    return round ? __bfloat162float(__float2bfloat16_rn(f)) : f;
}
/* ---- what the mma.sync rows of attn and attn_grad do alike; a warp has 16·MT rows ------------------------------------------------------------ */
/* Two tiles of the same rows, as one group of copies. */
template <int D, int R, int threads>
__device__ __forceinline__ void lm_tiles_load(__nv_bfloat16 *t, __nv_bfloat16 *u, const lm_cv &x, const lm_cv &y, int64_t r0, int64_t n, int64_t c0) {
    lm_tile_load<D, R, threads>(t, x, r0, n, c0);
    lm_tile_load<D, R, threads>(u, y, r0, n, c0);
}
/* The left operands of 16·MT rows from `row` on, all 16·KS of their numbers. */
template <int P, int MT, int KS> __device__ __forceinline__ void lm_hold(uint32_t (*held)[MT][4], const __nv_bfloat16 *t, int row) {
#pragma unroll
    for (int k = 0; k < KS; k++)
#pragma unroll
        for (int m = 0; m < MT; m++) lm_frag_a<P>(held[k][m], t, row + m * 16, k * 16);
}
/* s += A Bᵀ over 16 of K: A held or from tile a, rows from `row` on; b has 8·NT rows. */
template <int P, int MT, int NT, bool HELD>
__device__ __forceinline__ void lm_scores(float (*s)[NT][4], uint32_t (*held)[4], const __nv_bfloat16 *a, int row, const __nv_bfloat16 *b, int k) {
    uint32_t here[MT][4], (*fa)[4] = HELD ? held : here;
#pragma unroll
    for (int m = 0; m < MT; m++) if (!HELD) lm_frag_a<P>(here[m], a, row + m * 16, k * 16);
#pragma unroll
    for (int x = 0; x < NT; x += 2) {
        uint32_t f[4];
        lm_frag_bt<P>(f, b, x * 8, k * 16);
#pragma unroll
        for (int m = 0; m < MT; m++) { lm_mma(s[m][x], fa[m], f[0], f[1]); lm_mma(s[m][x + 1], fa[m], f[2], f[3]); }
    }
}
/* o += S B over rows 16k … 16k+15 of b, S rounded to bf16. */
template <int P, int MT, int NT, int DT>
__device__ __forceinline__ void lm_weighted(float (*o)[DT][4], const float (*s)[NT][4], const __nv_bfloat16 *b, int k) {
    uint32_t fa[MT][4];
#pragma unroll
    for (int m = 0; m < MT; m++) lm_frag_of(fa[m], s[m][2 * k], s[m][2 * k + 1]);
#pragma unroll
    for (int x = 0; x < DT; x += 2) {
        uint32_t f[4];
        lm_frag_b<P>(f, b, k * 16, x * 8);
#pragma unroll
        for (int m = 0; m < MT; m++) { lm_mma(o[m][x], fa[m], f[0], f[1]); lm_mma(o[m][x + 1], fa[m], f[2], f[3]); }
    }
}
/* One row of results, from column `at` of the tensor on; e: the thread's first or second row of 16. */
template <int DT> __device__ __forceinline__ void lm_put_row(const lm_cv &to, int64_t at, const float (*c)[4], int e, float times) {
#pragma unroll
    for (int x = 0; x < DT; x++) lm_st2(to, at + x * 8 + threadIdx.x % 4 * 2, c[x][e * 2] * times, c[x][e * 2 + 1] * times);
}
/* The plain rows: a lane's dot product with one row of x; p_i times rows 0 … m-1 of x added up, lane l having dimensions l, l+32, … */
__device__ __forceinline__ float lm_plain_dot(const float *q, const lm_cv &x, int64_t at, int d, bool round) {
    float s = 0;
    for (int i = 0; i < d; i++) s = fmaf(q[i], lm_in(x, at + i, round), s);
    return s;
}
__device__ __forceinline__ void lm_plain_add(float *o, float p, const lm_cv &x, int64_t at, int d, bool round) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int e = 0; e < LM_ATTN_MAX_D / 32; e++) if (lane + 32 * e < d) o[e] = fmaf(p, lm_in(x, at + lane + 32 * e, round), o[e]);
}
/* A score of the plain kernels: scaled, capped. */
__device__ __forceinline__ float lm_plain_score(const lm_attn_args &a, float dot) {
    const float s = dot * a.scale;
    return a.cap > 0 ? a.cap * tanhf(s / a.cap) : s;
}
/* By what its gradient is smaller than that of an uncapped one. */
__device__ __forceinline__ float lm_plain_slope(const lm_attn_args &a, float score) {
    return a.cap > 0 ? 1.0f - (score / a.cap) * (score / a.cap) : 1.0f;
}
__device__ __forceinline__ void lm_plain_put(const lm_cv &to, int64_t at, const float *o, int d, float over) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int e = 0; e < LM_ATTN_MAX_D / 32; e++) if (lane + 32 * e < d) lm_st1(to, at + lane + 32 * e, o[e] / over);
}
static inline bool lm_attn_wide(const lm_attn_args *a) {
    const lm_cv v[4] = { a->q, a->k, a->v, a->o };
    if (LM_H16 == LM_F16 && !(a->q.bf16 && a->k.bf16 && a->v.bf16)) return false;      /* f32 rounded to half may be infinite */
    return a->round && a->cap == 0 && lm_cuda_vec8(v, 4, a->d);
}
static inline lm_attn_args lm_attn_args_of(const lm_call *c) {
    const lm_attn_p *p = static_cast<const lm_attn_p *>(c->p);
    lm_attn_args a = {};
    a.q = lm_cv_of(&c->in[0]); a.k = lm_cv_of(&c->in[1]); a.v = lm_cv_of(&c->in[2]); a.start = static_cast<const int32_t *>(c->in[3].data);
    a.n = c->in[0].dim[0]; a.window = p->window; a.heads = p->n_head; a.kv = p->n_kv; a.d = p->d_head; a.scale = p->scale; a.cap = p->cap; a.round = p->mm == LM_BF16;
    return a;
}
/* One row's part of an accumulator of 64×D (device/hopper.cuh) to bf16, y = c·times, c at the row's first number: neighbours make 16 bytes. */
template <int D> __device__ __forceinline__ void lm_store_row(const lm_cv &to, int64_t row, bool in, int64_t col, const float *c, float times) {
    __nv_bfloat16 *at = static_cast<__nv_bfloat16 *>(to.p) + row * to.rs + col + threadIdx.x % 4 * 8;
#pragma unroll
    for (int x = 0; x < D / 8; x += 4) {
        uint32_t w[4];
#pragma unroll
        for (int i = 0; i < 4; i++) w[i] = lm_pack2(c[4 * (x + i)] * times, c[4 * (x + i) + 1] * times);
        lm_quad_transpose(w);
        if (in) *reinterpret_cast<uint4 *>(at + x * 8) = make_uint4(w[0], w[1], w[2], w[3]);
    }
}
/* What the Hopper rows take: inputs and outputs with a bit set are bf16 with rows of whole 16 bytes; a head size they have. */
static inline bool lm_attn_hopper(const lm_call *c, uint32_t in, uint32_t out) {
    const lm_attn_p *p = static_cast<const lm_attn_p *>(c->p);
    if (!lm_cuda_accepts(c, in, out)) return false;
    for (int i = 0; i < c->n_in; i++) if (in >> i & 1 && (!lm_has(c, i) || c->in[i].dtype != LM_BF16 || lm_row_stride(&c->in[i]) % 8)) return false;
    for (int i = 0; i < c->n_out; i++) if (out >> i & 1 && (c->out[i].dtype != LM_BF16 || lm_row_stride(&c->out[i]) % 8)) return false;
    return p->mm == LM_BF16 && p->scale > 0 && p->cap == 0 && !p->both && c->in[3].dtype == LM_I32 &&
           (p->d_head == 64 || p->d_head == 96 || p->d_head == 128 || p->d_head == 256);
}
#define LM_HOPPER_ONE(op, order_id, accept, run_fn, shared)                                                                                          \
    extern "C" {                                                                                                                                     \
    extern const lm_kernel lm_k_##op##_hopper_cuda[];                                                                                                \
    const lm_kernel lm_k_##op##_hopper_cuda[] = {                                                                                                    \
        { #op ".hopper", LM_DEV_CUDA, LM_CUDA_WGMMA, order_id, accept, shared, NULL, 1, { { lm_cuda_one, run_fn } }, NULL }, {}                      \
    };                                                                                                                                               \
    }
#endif
