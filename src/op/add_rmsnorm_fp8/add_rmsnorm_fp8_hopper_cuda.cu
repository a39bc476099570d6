/* add_rmsnorm_fp8_hopper_cuda.cu — memory bound: two numbers read, one and two bytes written, where add_rmsnorm and quant_fp8 apart write and read the
 * norm in bf16 besides: 12 bytes a number of f32 and bf16, not 16.
 *
 * A tile of 128 rows is a cluster's; a block has ROWS of them, whole, and keeps the norm as bf16 in shared memory. Groups of threads take rows in turn
 * as norm.cuh's do (its sums, its bits), the next one asked for before this one is worked on. Sixteen lanes have 128 columns of a row: its scale,
 * so the bytes by rows are written at once. The largest of a tile is known when the blocks of a cluster have met; then each turns its rows, two columns
 * a thread, ROWS bytes of a column at a time. */
#include "device/hopper.cuh"
#include "op/norm.cuh"
#include "op/overlap.cuh"
#include "op/quant_fp8/quant_fp8.cuh"
extern "C" {
#include "op/add_rmsnorm_fp8/add_rmsnorm_fp8.h"
}
namespace {
struct args { lm_cv a, b, w, s; float *rstd; lm_fp8_to to; float eps, offset; };
/* groups of a block; each has a named barrier */
template <int T, int THREADS> constexpr int GROUPS = THREADS / T < 8 ? THREADS / T : 8;
enum { MOST_TILES = LM_NORM_COLS / LM_FP8_TILE };
#ifdef LM_HOPPER_CODE
__device__ __forceinline__ unsigned there(const unsigned *p, uint32_t rank) {
    unsigned v;
    asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(v) : "r"(lm_smem_of(lm_smem(p), rank)) : "memory");
    return v;
}
template <int T> __device__ __forceinline__ float group_sum(float v, float *room, int group) {
    v = lm_cuda_warp_sum(v);
    if (T == 32) return v;
    if (threadIdx.x % 32 == 0) room[threadIdx.x % T / 32] = v;
    lm_bar_sync(1 + group, T);
    v = room[0];
#pragma unroll
    for (int i = 1; i < T / 32; i++) v += room[i];
    return v;
}
/* A thread's eight numbers by rows: e4m3, and what is counted of them. */
__device__ __forceinline__ uint2 bytes_of(const uint32_t *u, float inv, unsigned &not_zero, unsigned &zero, unsigned &odd) {
    uint32_t w[2], low = 0x7fff7fffu, high = 0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint32_t a = u[2 * i], b = u[2 * i + 1];
        low = __vimin3_u16x2(low, a & 0x7fff7fffu, b & 0x7fff7fffu); high = __vimax3_u16x2(high, a & 0x7fff7fffu, b & 0x7fff7fffu);
        w[i] = lm_fp8_pack4(lm_fp8_lo(a) * inv, lm_fp8_hi(a) * inv, lm_fp8_lo(b) * inv, lm_fp8_hi(b) * inv);
        not_zero = __dp4a(((w[i] & 0x7f7f7f7fu) + 0x7f7f7f7fu) & 0x80808080u, 0x01010101u, not_zero);       /* times 128 */
    }
    if (!(low & 0xffffu) || low < 0x10000u) for (int i = 0; i < 4; i++) zero += !(u[i] & 0x7fffu) + !(u[i] & 0x7fff0000u);
    if ((high & 0xffffu) >= 0x7f80u || high >= 0x7f800000u)
        for (int i = 0; i < 4; i++) odd += ((u[i] & 0x7f80u) == 0x7f80u) + ((u[i] & 0x7f800000u) == 0x7f800000u);
    return make_uint2(w[0], w[1]);
}
/* USUAL: the stream is f32, what is added bf16; else looked up */
template <int T, int ROWS, int THREADS, bool USUAL> __device__ __forceinline__ void norm(const args &a) {
    constexpr int G = GROUPS<T, THREADS>, B = G * T, CLUSTER = 128 / ROWS;
    extern __shared__ uint4 y[];                                           /* ROWS rows of bf16 */
    __shared__ float room[G][2][T / 32];
    __shared__ unsigned top[MOST_TILES], odd, flushed;
    __shared__ float inverse[MOST_TILES];
    const int t = threadIdx.x, group = t / T, lane = t % T, k = lane * 8, d = static_cast<int>(a.to.cols), per = d / 8;
    const bool in = k < d;
    const uint32_t rank = lm_cluster_rank();
    const int64_t base = static_cast<int64_t>(blockIdx.x) * ROWS;
    const float share = 1.0f / static_cast<float>(d);
    lm_cv ca = a.a, cb = a.b, cs = a.s;
    if (USUAL) { ca.bf16 = cs.bf16 = 0; cb.bf16 = 1; }
    if (t < MOST_TILES) top[t] = 0;
    if (!t) odd = flushed = 0;
    __syncthreads();
    lm_raw8 ra = {}, rb = {};
    const auto ask = [&](int i) {
        if (!in || i >= ROWS || base + i >= a.to.rows) return;
        ra = lm_ldraw(ca, (base + i) * ca.rs + k); rb = lm_ldraw(cb, (base + i) * cb.rs + k);
    };
    unsigned not_zero = 0, zero = 0, wrong = 0, numbers = 0;
    ask(group);
#pragma unroll 1
    for (int i = group, turn = 0; i < ROWS; i += G, turn ^= 1) {
        const int64_t row = base + i;
        const bool live = row < a.to.rows;                                 /* the same for the group */
        float v[8] = {}, f[8], q = 0;
        if (live && in) {
            lm_unraw(ca, ra, v); lm_unraw(cb, rb, f);
#pragma unroll
            for (int e = 0; e < 8; e++) { v[e] = lm_as_stored(cs, v[e] + f[e]); q += v[e] * v[e]; }
            lm_st8(cs, row * cs.rs + k, v);
        }
        ask(i + G);
        q = group_sum<T>(q, room[group][turn], group) * share;
        const float r = rsqrtf(q + a.eps);
        if (live && lane == 0) a.rstd[row] = r;
        uint32_t u[4] = {};
        if (live && in) {
            float w[8];
            lm_ld8(a.w, k, w);
#pragma unroll
            for (int e = 0; e < 8; e++) v[e] = v[e] * r * (w[e] + a.offset);
#pragma unroll
            for (int e = 0; e < 4; e++) u[e] = lm_pack2(v[2 * e], v[2 * e + 1]);
        }
        uint32_t m = lm_fp8_max2(lm_fp8_max2(u[0] & 0x7fff7fffu, u[1] & 0x7fff7fffu), lm_fp8_max2(u[2] & 0x7fff7fffu, u[3] & 0x7fff7fffu));
        m = lm_fp8_max2(m, m >> 16) & 0xffff;
#pragma unroll
        for (int h = 8; h; h /= 2) m = lm_fp8_max2(m, __shfl_xor_sync(0xffffffffu, m, h)) & 0xffff;
        if (in) {
            const float largest = lm_fp8_lo(m);
            if (lane % 16 == 0) {
                a.to.s[k / 128 * a.to.cap + row] = lm_fp8_scale(largest);
                if (m <= 0x7f80) atomicMax(&top[k / 128], m);              /* not of a row without a number */
            }
            const uint2 bytes = bytes_of(u, lm_fp8_inverse(largest), not_zero, zero, wrong);
            numbers += 8;
            if (live) *reinterpret_cast<uint2 *>(a.to.q + row * d + k) = bytes;
            y[i * per + lane] = make_uint4(u[0], u[1], u[2], u[3]);
        }
        __syncwarp();
    }
    unsigned gone = numbers - not_zero / 128 - zero;
    gone = __reduce_add_sync(0xffffffffu, gone); wrong = __reduce_add_sync(0xffffffffu, wrong);
    if (t % 32 == 0) { if (gone) atomicAdd(&flushed, gone); if (wrong) atomicAdd(&odd, wrong); }
    lm_cluster_arrive(); lm_cluster_wait();
    if (t < d / 128) {
        unsigned m = 0;
#pragma unroll
        for (int i = 0; i < CLUSTER; i++) m = max(m, there(&top[t], i));
        const float largest = lm_fp8_lo(m);
        inverse[t] = lm_fp8_inverse(largest);
        if (!rank) {
            a.to.st[t * (a.to.cap / 128) + base / 128] = lm_fp8_scale(largest);
            const unsigned long long bits = __float_as_uint(largest);
            if (bits > *const_cast<volatile unsigned long long *>(&a.to.stats[LM_FP8_AMAX])) atomicMax(&a.to.stats[LM_FP8_AMAX], bits);
        }
    }
    if (!t) {
        const int64_t live = a.to.rows - base < ROWS ? a.to.rows - base : ROWS;
        if (live > 0) atomicAdd(&a.to.stats[LM_FP8_ELEMENTS], static_cast<unsigned long long>(live * d));
        if (odd) atomicAdd(&a.to.stats[LM_FP8_ODD], static_cast<unsigned long long>(odd));
        if (flushed) atomicAdd(&a.to.stats[LM_FP8_FLUSHED], static_cast<unsigned long long>(flushed));
    }
    lm_cluster_arrive();                                                   /* others' largest are read */
    __syncthreads();
    for (int c = t / 32 * 64 + t % 32 * 2; c < d; c += B * 2) {
        const float inv = inverse[c / 128];
        const uint32_t *from = reinterpret_cast<const uint32_t *>(y) + c / 2;
        uint8_t *to = a.to.qt + c * a.to.cap + base;
#pragma unroll
        for (int h = 0; h < ROWS; h += 16) {
            uint32_t lo[4], hi[4];
#pragma unroll
            for (int g = 0; g < 4; g++) {
                uint32_t x[4];
#pragma unroll
                for (int i = 0; i < 4; i++) x[i] = from[(h + 4 * g + i) * (per * 4)];
                lo[g] = lm_fp8_pack4(lm_fp8_lo(x[0]) * inv, lm_fp8_lo(x[1]) * inv, lm_fp8_lo(x[2]) * inv, lm_fp8_lo(x[3]) * inv);
                hi[g] = lm_fp8_pack4(lm_fp8_hi(x[0]) * inv, lm_fp8_hi(x[1]) * inv, lm_fp8_hi(x[2]) * inv, lm_fp8_hi(x[3]) * inv);
            }
            *reinterpret_cast<uint4 *>(to + h) = make_uint4(lo[0], lo[1], lo[2], lo[3]);
            *reinterpret_cast<uint4 *>(to + a.to.cap + h) = make_uint4(hi[0], hi[1], hi[2], hi[3]);
        }
    }
    lm_cluster_wait();
}
#endif
template <int T, int ROWS, int THREADS, bool USUAL>
__global__ void __launch_bounds__(T * GROUPS<T, THREADS>, 1024 / THREADS) kernel(const args a) {
#ifdef LM_HOPPER_CODE
    norm<T, ROWS, THREADS, USUAL>(a);
#endif
}
template <int T, int ROWS, int THREADS> lm_err launch(const args &a, cudaStream_t s) {
    const bool usual = !a.a.bf16 && a.b.bf16 && !a.s.bf16;
    const dim3 grid(static_cast<unsigned>(a.to.cap / ROWS));
    const size_t shared = static_cast<size_t>(ROWS) * static_cast<size_t>(a.to.cols) * 2;
    const unsigned threads = T * GROUPS<T, THREADS>;
    return usual ? lm_launch_early(kernel<T, ROWS, THREADS, true>, a, grid, threads, shared, 128 / ROWS, false, s)
                 : lm_launch_early(kernel<T, ROWS, THREADS, false>, a, grid, threads, shared, 128 / ROWS, false, s);
}
bool accepts(const lm_call *c) {
    const lm_quant_fp8_p *p = &static_cast<const lm_add_rmsnorm_fp8_p *>(c->p)->to;
    if (!p->rows || !p->cols || !p->square || p->blocks || c->in[0].dim[1] > LM_NORM_COLS) return false;
    for (int i = 2; i < 6; i++) if (!lm_is_contig(&c->out[i])) return false;
    return lm_fp8_reads(&c->in[0]) && lm_fp8_reads(&c->in[1]) && lm_is_f32_vec(&c->in[2]) && lm_fp8_reads(&c->out[0]) && lm_is_f32_vec(&c->out[1]);
}
lm_err run(const lm_call *c, int64_t tile, void *st) {
    (void)tile;
    const lm_add_rmsnorm_fp8_p *p = static_cast<const lm_add_rmsnorm_fp8_p *>(c->p);
    const int64_t d = c->in[0].dim[1];
    const args a = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), lm_cv_of(&c->in[2]), lm_cv_of(&c->out[0]), static_cast<float *>(c->out[1].data),
                     lm_fp8_to_of(&p->to, c->in[0].dim[0], d, c->out + 2, &c->out[6]), p->norm.eps, p->norm.offset };
    const lm_cv v[4] = { a.a, a.b, a.w, a.s };
    if (!lm_fp8_aligned(v, 4)) return LM_E_SHAPE;
    if (!a.to.cap) return LM_OK;
    if (a.to.cap > INT32_MAX) return LM_E_RANGE;
#define LM_K(T) return launch<T, T <= 256 ? 32 : 16, 1024>(a, LM_CUDA_STREAM(st))
    LM_NORM_GROUP(LM_K, d);
#undef LM_K
}
}
extern "C" {
extern const lm_kernel lm_k_add_rmsnorm_fp8_cuda[];
const lm_kernel lm_k_add_rmsnorm_fp8_cuda[] = { { "add_rmsnorm_fp8.hopper", LM_DEV_CUDA, LM_CUDA_WGMMA, "add_rmsnorm_fp8/hopper", accepts, NULL, NULL, 1,
    { { lm_cuda_one, run } }, NULL }, {} };
}
