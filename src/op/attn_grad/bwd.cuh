/* bwd.cuh — what both kernels of attention's gradient for compute capability 9.0 have in common (hopper.cuh: heads of 64, 96, 128;
 * hopper_256.cuh): scratch, the order of items and of dq's sums, passes before, what is done to one block of scores.
 *
 *   prepare: D_i = dO_i·o_i - dlse_i and lse_i in base 2, a row per head; the least and greatest first key of each BM queries
 *   reach:   the last block of queries that sees a block of keys
 *   main:    one CTA per multiprocessor takes items (BN keys of one kv head) from a counter and walks over the blocks of BM queries that see them, of
 *            every head that reads these keys. dk and dv stay in registers; a block's part of dq is added to f32 sums in memory by the copy engine.
 *
 * Order of dq's sums: queries of block m get the parts of their blocks of keys one after the other; a word per (head, m) says whose turn it is,
 * a turn is passed on when the addition is in memory; the first one stores, the last one takes the sum back, adds its part in registers and
 * writes dq. So there is one order, whoever computes what, and no waiting to speak of: the CTA of the block of keys before this one came to m a
 * step earlier. Items only wait for items taken before them, so nothing waits for ever.
 * Upwards, where several heads read a kv head or texts are long: the longest items, those of a text's first keys, are taken first, of several texts and heads
 * at once (find_order); each walks from the last queries down with its heads inside, and turns go from the first keys to the diagonal. A text's blocks then go
 * side by side, and what is read is read together; at first each waits for the one before. Downwards, where there are many short items: the last keys first,
 * each from the diagonal on, one head after the other, so many at a time as leave q, dO and the sums of what is under way in the second-level cache. */
#ifndef LM_ATTN_GRAD_BWD_CUH
#define LM_ATTN_GRAD_BWD_CUH
#include "device/hopper.cuh"
#include "op/attn/attn.cuh"
extern "C" {
#include "op/attn_grad/attn_grad.h"
}

namespace {
enum {
    NEAR = 12 << 20, /* bytes of q, dO and sums that CTAs of one time should share: a part of the second-level cache */
    SIDE = 16,       /* kv heads of texts that are begun together, upwards */
    LONG = 2048      /* tokens of a text from which on heads of 96 and 128 with keys of their own go upwards too */
};
/* Queries and keys of a block by head size; chains of turns a block of queries has. */
__host__ __device__ constexpr int bm_of(int d) { return d == 64 ? 128 : 64; }
__host__ __device__ constexpr int bn_of(int d) { return d == 256 ? 64 : 128; }
__host__ __device__ constexpr int chains_of(int d) { return d == 256 ? 2 : 1; }
struct args {
    lm_cv o, go, dq, dk, dv; const int32_t *start; const float *lse, *glse;
    float *sums, *lse2, *delta; int *first, *least, *most, *reach, *order, *turn, *counter, *span;
    int64_t window; int n, pad, heads, kv, group, m_blocks, k_blocks; float scale;
    float *part;                                                        /* SUMS: a row of sums for each k_block */
};
/* The order of items and turns: upwards, from a text's first keys on, or downwards. */
template <int D> __device__ __forceinline__ bool upwards(const args &a) { return a.group > 1 || ((D == 96 || D == 128) && *a.span >= LONG); }
/* The blocks of queries and heads of an item, in its order. */
struct walk {
    int m, g, m0, m1; bool up, first;
    __device__ walk(bool upward, int from, int to) : m(upward ? to : from), g(0), m0(from), m1(to), up(upward), first(true) {}
    __device__ bool last(const args &a) const { return g == a.group - 1 && m == (up ? m0 : m1); }
    __device__ void next(const args &a) {
        first = false;
        if (!up) { if (++m > m1) { m = m0; g++; } }
        else if (++g == a.group) { g = 0; m--; }
    }
    __device__ bool more(const args &a) const { return up ? m >= m0 : g < a.group; }
};
/* Block of keys j's turn among those that block of queries m sees, and whether it is the last. */
template <int D> __device__ __forceinline__ int turn_of(const args &a, bool up, int m, int j) {
    return up ? j - a.least[m] / bn_of(D) : m * bm_of(D) / bn_of(D) - j;
}
template <int D> __device__ __forceinline__ bool ends(const args &a, bool up, int m, int j) { return j == (up ? m * bm_of(D) : a.least[m]) / bn_of(D); }
/* The n-th item: a block of keys and a kv head, and the blocks of queries it walks over; j < 0: there is none. `wide` kv heads are walked together. */
struct item { int j, hk, m0, m1; };
template <int D> __device__ __forceinline__ int heads_near(const args &a, bool up) {
    const int64_t most = NEAR / (static_cast<int64_t>(*a.span) * a.group * D * 8);
    return static_cast<int>(min(max(most, static_cast<int64_t>(up ? SIDE : 1)), static_cast<int64_t>(a.kv)));
}
template <int D> __device__ __forceinline__ item item_of(const args &a, bool up, int n, int wide) {
    const int h0 = n / (wide * a.k_blocks) * wide, in = n - h0 * a.k_blocks, across = max(min(wide, a.kv - h0), 1), b = in / across;
    if (h0 >= a.kv || b >= a.k_blocks) return { -1, 0, 0, 0 };             /* the last heads may be fewer than wide */
    const int j = up ? a.order[b] : a.k_blocks - 1 - b;
    return { j, h0 + in % across, j * (bn_of(D) / bm_of(D)), a.reach[j] };
}

/* ---- before: neighbouring blocks have the heads of the same rows ---- */
template <int D> __global__ void __launch_bounds__(256) prepare(const args a) {
    constexpr int BM = bm_of(D), G = D <= 64 ? 8 : D <= 128 ? 16 : 32, R = 32 / G, I = BM / 8 / R;      /* lanes of a row, rows of a warp at a time */
    __shared__ int lo[BM / 32], hi[BM / 32];
    const int m = static_cast<int>(blockIdx.x) / a.heads, h = static_cast<int>(blockIdx.x) - m * a.heads;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, c = lane % G * 8, r0 = m * BM + warp * (BM / 8) + lane / G;
    const __nv_bfloat16 *go = static_cast<const __nv_bfloat16 *>(a.go.p) + static_cast<int64_t>(h) * D + c,
                        *o = static_cast<const __nv_bfloat16 *>(a.o.p) + static_cast<int64_t>(h) * D + c;
    uint4 u[I], v[I];
#pragma unroll
    for (int i = 0; i < I; i++) {
        u[i] = v[i] = make_uint4(0, 0, 0, 0);
        const int64_t r = r0 + i * R;
        if (r < a.n && c < D) { u[i] = *reinterpret_cast<const uint4 *>(go + r * a.go.rs); v[i] = *reinterpret_cast<const uint4 *>(o + r * a.o.rs); }
    }
#pragma unroll
    for (int i = 0; i < I; i++) {
        const int r = r0 + i * R;
        float x[8], y[8], s = 0;
        lm_unpack8(u[i], x); lm_unpack8(v[i], y);
#pragma unroll
        for (int e = 0; e < 8; e++) s = fmaf(x[e], y[e], s);
#pragma unroll
        for (int k = G / 2; k; k /= 2) s += __shfl_xor_sync(0xffffffffu, s, k);
        if (lane % G == 0) {
            const int64_t to = static_cast<int64_t>(h) * a.pad + r, from = static_cast<int64_t>(r) * a.heads + h;
            a.lse2[to] = r < a.n ? a.lse[from] * LM_LOG2E : INFINITY;                       /* P = 0 beyond the end */
            a.delta[to] = r < a.n ? s - (a.glse ? a.glse[from] : 0.0f) : 0.0f;
        }
    }
    if (threadIdx.x < chains_of(D)) a.turn[(h * a.m_blocks + m) * chains_of(D) + threadIdx.x] = 0;
    if (threadIdx.x == 0 && m == 0 && h == 0) *a.counter = *a.span = 0;
    if (h) return;
    if (threadIdx.x < BM) {
        const int r = m * BM + static_cast<int>(threadIdx.x), f = r < a.n ? lm_first_key(a.start, a.window, r) : 0;
        a.first[r] = f;
        const int least = __reduce_min_sync(0xffffffffu, r < a.n ? f : INT32_MAX), most = __reduce_max_sync(0xffffffffu, f);
        if (lane == 0) { lo[warp] = least; hi[warp] = most; }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        int least = lo[0], most = hi[0];
        for (int i = 1; i < BM / 32; i++) { least = min(least, lo[i]); most = max(most, hi[i]); }
        a.least[m] = least; a.most[m] = most;
    }
}
template <int D> __global__ void __launch_bounds__(128) find_reach(const args a) {
    constexpr int BM = bm_of(D), BN = bn_of(D);
    const int j = static_cast<int>(blockIdx.x) * 4 + static_cast<int>(threadIdx.x) / 32, from = j * (BN / BM);
    if (j >= a.k_blocks) return;
    int last = from;
    for (int m = from + static_cast<int>(threadIdx.x) % 32; m < a.m_blocks; m += 32) if (a.least[m] < (j + 1) * BN) last = max(last, m);
    last = __reduce_max_sync(0xffffffffu, last);
    if (threadIdx.x % 32 == 0) { a.reach[j] = last; atomicMax(a.span, (last + 1) * BM - j * BN); }
}
/* Order of blocks of keys upwards, by one block of threads: of as many texts as make SIDE kv heads those first that most blocks follow. A run of blocks that
 * some query sees two of stays in its order, so that an item waits only for items before it. */
template <int D> __global__ void __launch_bounds__(1024) find_order(const args a, int *left) {
    constexpr int BN = bn_of(D), PER = BN / bm_of(D);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, n = a.k_blocks;
    for (int j = warp; j < n; j += 32) {
        int end = j;
        for (unsigned ends_here = 0;; end += 32) {
            ends_here = __ballot_sync(0xffffffffu, end + lane >= n - 1 || a.reach[end + lane] < (end + lane + 1) * PER);
            if (ends_here) { end += __ffs(static_cast<int>(ends_here)) - 1; break; }
        }
        if (lane == 0) left[j] = end - j;
    }
    __syncthreads();
    const int64_t text = (*a.span + BN - 1) / BN, side = max(SIDE / heads_near<D>(a, true), 1), all = min(text * side, static_cast<int64_t>(n));
    for (int j = warp; j < n; j += 32) {
        const int from = j / static_cast<int>(all) * static_cast<int>(all), to = min(from + static_cast<int>(all), n), mine = left[j];
        int before = 0;
        for (int k = from + lane; k < to; k += 32) before += left[k] > mine || (left[k] == mine && k < j);
        before = __reduce_add_sync(0xffffffffu, before);
        if (lane == 0) a.order[from + before] = j;
    }
}

/* ---- one block's weights and slopes; s and dp are accumulators of 64 keys × BM queries (device/hopper.cuh) ---- */
#ifdef LM_HOPPER_CODE
/* Scores to Pᵀ as a left operand. key: the thread's first; last: the warpgroup's; q0: the first query; odd: some first key lies in this block of keys. */
template <int BM> __device__ __forceinline__ void weights(const args &a, float *s, uint32_t (*p)[4], uint32_t at_lse, int key, int last, int q0, bool odd, float s2) {
    const int pair = threadIdx.x % 4 * 2, q = q0 + pair;
#pragma unroll
    for (int x = 0; x < BM / 8; x++) {
        const float2 l = lm_lds2(at_lse + (pair + x * 8) * 4);
#pragma unroll
        for (int e = 0; e < 4; e++) s[4 * x + e] = lm_exp2(fmaf(s[4 * x + e], s2, -(e % 2 ? l.y : l.x)));
    }
    if (q0 < last)
#pragma unroll
        for (int i = 0; i < BM / 2; i++) if (key + i / 2 % 2 * 8 > q + i / 4 * 8 + i % 2) s[i] = 0;
    if (odd)
#pragma unroll
        for (int x = 0; x < BM / 8; x++) {
            int f0, f1;
            asm volatile("ld.global.v2.s32 {%0,%1}, [%2];" : "=r"(f0), "=r"(f1) : "l"(a.first + q + x * 8) : "memory"); /* in order: few registers */
#pragma unroll
            for (int e = 0; e < 4; e++) if (key + e / 2 * 8 < (e % 2 ? f1 : f0)) s[4 * x + e] = 0;
        }
#pragma unroll
    for (int k = 0; k < BM / 16; k++) lm_frag_of(p[k], s + 8 * k, s + 8 * k + 4);
}
/* dPᵀ to dSᵀ / scale as a left operand. P is as dv got it; the f32 one would need as many registers again. */
template <int BM> __device__ __forceinline__ void slopes(float *dp, const uint32_t (*p)[4], uint32_t (*ds)[4], uint32_t at_delta) {
#pragma unroll
    for (int x = 0; x < BM / 8; x++) {
        const float2 d = lm_lds2(at_delta + (threadIdx.x % 4 * 2 + x * 8) * 4);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const uint32_t two = p[x / 2][x % 2 * 2 + e / 2];
            dp[4 * x + e] = __uint_as_float(e % 2 ? two & 0xffff0000u : two << 16) * (dp[4 * x + e] - (e % 2 ? d.y : d.x));
        }
    }
#pragma unroll
    for (int k = 0; k < BM / 16; k++) lm_frag_of(ds[k], dp + 8 * k, dp + 8 * k + 4);
}
__device__ __forceinline__ void leave(uint32_t bar) { __syncwarp(); if (threadIdx.x % 32 == 0) lm_mbar_arrive(bar); }
#endif

/* ---- host ---- */
size_t up(size_t n) { return (n + 255) & ~static_cast<size_t>(255); }
/* Scratch, from `at` on (NULL: how much). Blocks of queries are counted as if of 64. */
size_t lay(args *a, int64_t n, int64_t heads, int64_t d, char *at) {
    const int64_t pad = lm_round_up(n, static_cast<int64_t>(128)), blocks = pad / 64; size_t to = 0;
    const auto take = [&](int64_t words) { char *p = at + to; to += up(static_cast<size_t>(words) * 4); return reinterpret_cast<void *>(p); };
    a->pad = static_cast<int>(pad); a->k_blocks = static_cast<int>(lm_ceil_div(n, static_cast<int64_t>(bn_of(static_cast<int>(d)))));
    a->sums = static_cast<float *>(take(heads * pad * d));
    a->lse2 = static_cast<float *>(take(heads * pad));
    a->delta = static_cast<float *>(take(heads * pad));
    a->first = static_cast<int *>(take(pad));
    a->least = static_cast<int *>(take(blocks));
    a->most = static_cast<int *>(take(blocks));
    a->reach = static_cast<int *>(take(blocks));
    a->order = static_cast<int *>(take(2 * blocks));
    a->turn = static_cast<int *>(take(heads * blocks * chains_of(static_cast<int>(d)))); a->counter = static_cast<int *>(take(1)); a->span = static_cast<int *>(take(1));
    return to;
}
/* The passes before, then `main`. */
template <int D, class kernel> lm_err launch(kernel *main, int bytes, const lm_call *c, const lm_attn_args &f, args a, cudaStream_t s) {
    constexpr int BM = bm_of(D), BN = bn_of(D);
    CUtensorMap q, k, v, g;
    LM_TRY(lm_tma_map(&q, f.q.p, f.n, static_cast<int64_t>(f.heads) * D, f.q.rs, BM));
    LM_TRY(lm_tma_map(&k, f.k.p, f.n, static_cast<int64_t>(f.kv) * D, f.k.rs, BN));
    LM_TRY(lm_tma_map(&v, f.v.p, f.n, static_cast<int64_t>(f.kv) * D, f.v.rs, BN));
    LM_TRY(lm_tma_map(&g, a.go.p, f.n, static_cast<int64_t>(f.heads) * D, a.go.rs, BM));
    if (cudaFuncSetAttribute(main, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) != cudaSuccess) return LM_E_DEVICE;
    a.m_blocks = static_cast<int>(lm_ceil_div(f.n, static_cast<int64_t>(BM)));
    const unsigned items = static_cast<unsigned>(a.k_blocks * a.kv), units = static_cast<unsigned>(c->dev->units);
    prepare<D><<<static_cast<unsigned>(a.m_blocks) * static_cast<unsigned>(a.heads), 256, 0, s>>>(a);
    find_reach<D><<<LM_CUDA_GRID(a.k_blocks, 4), 128, 0, s>>>(a);
    if (a.group > 1 || D == 96 || D == 128) find_order<D><<<1, 1024, 0, s>>>(a, a.order + a.k_blocks);
    main<<<items < units ? items : units, 384, static_cast<size_t>(bytes), s>>>(q, k, v, g, a);
    return lm_cuda_launched();
}
}
#endif
