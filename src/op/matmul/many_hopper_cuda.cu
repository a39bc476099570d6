/* many_hopper_cuda.cu — rows.cuh's products of more rows than the kernel of few has, with its bits: for deterministic mode, where prompts must be what
 * a decoder would have made of them one by one.
 *
 *   The sums of an output are those of rows_hopper_cuda.cu: K in the parts that a cluster of eight has there, each part one chain of wgmma from zero, parts
 *   added in order in f32; where that kernel has all of K, so has this one. A matrix unit's number depends on its sixteen products and on what they
 *   are added to, not on which operand is left or how wide the other is (tests/test_infer.c, test_rows_alone), so here rows of x are the left one.
 *   What follows a product is finish.cuh's, sums of squares have the same tree.
 *   CTA: tiles of 128×128, one after another; a cluster of two has two tiles of rows and one of W, of which each brings one half for both. Six
 *   stages of 64 of K (32 KB). Two warpgroups multiply 64×128 each: 64 registers for a part's chain, 64 for the sums. A finished tile is kept in
 *   64 more and worked on in eight slices behind the next tile's first stages of products; what a slice reads was asked for a slice earlier. */
#include "device/hopper.cuh"
#include "op/matmul/finish.cuh"
#include "op/matmul/rows.cuh"
#include "op/matmul/silu.cuh"
#include "op/overlap.cuh"
namespace {
enum {
    BM = 128, BN = 128, BK = 64, STAGES = 6, A_BYTES = BM * BK * 2, B_BYTES = BN * BK * 2, STAGE = A_BYTES + B_BYTES, SLICES = 8, WARPS = 8,
    AT_BAR = STAGES * STAGE, SMEM = AT_BAR + STAGES * 16 + 1024, SIDE = 8 /* pairs of row tiles beside each other */
};
/* What is known when this is compiled, so that nothing branches: all columns are there, two at a time, no bias, sums and residual in f32 or in bf16 (GATED and QKV: results
 * and pages), weights of a norm and angles in f32. */
enum { ANY, F32, BF16 };
/* steps: of 64 of K; per: of a part; pairs: of tiles of rows; two: numbers lie so that two are taken at once; factors: of rows whose norm is half done */
struct args { CUtensorMap w[3], x; lm_skinny p; const float *factors; int steps, per, pairs, tiles_n, two; };
#ifdef LM_HOPPER_CODE
__device__ __forceinline__ void get_for_both(uint32_t to, const CUtensorMap *m, int col, int row, uint32_t bar) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to), "l"(m),
                 "r"(col), "r"(row), "r"(bar), "h"(static_cast<uint16_t>(3))
                 : "memory");
}
/* This warp has read its stage: both producers are told, since both write there. (With .release.cluster each would wait for all that the warp has stored:
 * a microsecond and more.) */
__device__ __forceinline__ void leave(uint32_t bar) {
    if (threadIdx.x % 32 < 2)
        asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(lm_smem_of(bar, threadIdx.x % 32)) : "memory");
}
__device__ __forceinline__ void tile_of(const args &a, int t, int *pair, int *n) {
    const int per = SIDE * a.tiles_n, g = t / per, in = t - g * per, left = a.pairs - g * SIDE, side = left < SIDE ? left : SIDE;
    *pair = g * SIDE + in % side; *n = in / side;
}
/* two neighbours, of which n are there */
template <int MODE> __device__ __forceinline__ float2 get2(const lm_cv &v, int64_t at, int n, int two) {
    if (n <= 0) return make_float2(0, 0);
    if (MODE == ANY && !two) return make_float2(lm_ld1(v, at), n > 1 ? lm_ld1(v, at + 1) : 0.0f);
    if (MODE == F32 || (MODE == ANY && !v.bf16)) return *reinterpret_cast<const float2 *>(static_cast<const float *>(v.p) + at);
    return lm_two(*reinterpret_cast<const uint32_t *>(static_cast<const __nv_bfloat16 *>(v.p) + at));
}
template <int MODE> __device__ __forceinline__ void put2(const lm_cv &v, int64_t at, float x, float y, int n, int two) {
    if (n <= 0) return;
    if (MODE == ANY && !two) { lm_st1(v, at, x); if (n > 1) lm_st1(v, at + 1, y); return; }
    if (MODE == F32 || (MODE == ANY && !v.bf16)) *reinterpret_cast<float2 *>(static_cast<float *>(v.p) + at) = make_float2(x, y);
    else *reinterpret_cast<uint32_t *>(static_cast<__nv_bfloat16 *>(v.p) + at) = lm_pack2(x, y);
}
template <int MODE> __device__ __forceinline__ float biased(const lm_skinny_part &w, int64_t r, float v) { return MODE == ANY ? lm_with_bias(w, r, v) : lm_kept(v, w.mid_bf16); }
/* What is left to do with a finished tile: c[4x+2h+e] is row + 8 h, column 8x + 2 (lane % 4) + e of tile n. */
template <int KIND, int MODE> struct work {
    float c[64], pre[12], f[2]; int row, n; lm_unit unit[2]; int64_t slot[2];
    __device__ __forceinline__ static int in() { return static_cast<int>(threadIdx.x % 4) * 2; }
    /* of the two columns from j on, how many there are of `all` */
    __device__ __forceinline__ static int there(int j, int64_t all) { return MODE == ANY ? static_cast<int>(all) - j : 2; }
    __device__ __forceinline__ void begin(const args &a) {
        const lm_skinny &p = a.p;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int m = row + 8 * h;
            f[h] = KIND != LM_SKINNY_ADD && a.factors && m < p.M ? a.factors[m] : 1.0f;
            if (KIND == LM_SKINNY_QKV) slot[h] = m < p.M ? p.slot[m] : -1;
        }
        if constexpr (KIND == LM_SKINNY_QKV)
#pragma unroll
            for (int i = 0; i < 2; i++) unit[i] = lm_unit_of(p, min(2 * n + i, lm_units_of(p) - 1));
        ask<0>(a);
    }
    /* what slice u reads */
    template <int u> __device__ __forceinline__ void ask(const args &a) {
        if constexpr (u < SLICES) {
            const lm_skinny &p = a.p;
            if constexpr (KIND == LM_SKINNY_ADD) {
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    const int at = n * BN + 16 * u + 8 * j + in(), k = there(at, p.part[0].rows);
#pragma unroll
                    for (int h = 0; h < 2; h++) {
                        const float2 r = get2<MODE>(p.res, (row + 8 * h) * p.res.rs + at, row + 8 * h < p.M ? k : 0, a.two);
                        pre[4 * h + 2 * j] = r.x; pre[4 * h + 2 * j + 1] = r.y;
                    }
                    if (p.next) { const float2 w = get2<MODE == ANY ? ANY : F32>(p.norm_next, at, k, a.two); pre[8 + 2 * j] = w.x; pre[9 + 2 * j] = w.y; }
                }
            } else if constexpr (KIND == LM_SKINNY_QKV) {
                const int da = unit[u / 4].a + u % 4 * 8 + in();
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const int m = row + 8 * h, k = unit[u / 4].part < 2 && m < p.M ? 2 : 0;
                    const float2 x = get2<MODE == ANY ? ANY : F32>(p.turn, m * p.turn.rs + da, k, a.two), y = get2<MODE == ANY ? ANY : F32>(p.turn, m * p.turn.rs + p.d / 2 + da, k, a.two);
                    pre[4 * h] = x.x; pre[4 * h + 1] = x.y; pre[4 * h + 2] = y.x; pre[4 * h + 3] = y.y;
                }
            }
        }
    }
    template <int u> __device__ __forceinline__ void slice(const args &a) {
        const lm_skinny &p = a.p;
        float had[12];
#pragma unroll
        for (int i = 0; i < 12; i++) had[i] = pre[i];
        ask<u + 1>(a);
        if constexpr (KIND == LM_SKINNY_GATED) {
            const int at = n * (BN / 2) + 8 * u + in(), k = there(at, p.part[0].rows);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float y[2] = {};
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (e < k) {
                        const float g = __fmul_rn(__fadd_rn(0.0f, c[4 * u + 2 * h + e]), f[h]), v = __fmul_rn(__fadd_rn(0.0f, c[4 * (u + 8) + 2 * h + e]), f[h]);
                        y[e] = lm_silu_times(biased<MODE>(p.part[0], at + e, g), biased<MODE>(p.part[1], at + e, v));
                    }
                if (row + 8 * h < p.M) put2<MODE>(p.out, (row + 8 * h) * p.out.rs + at, y[0], y[1], k, a.two);
            }
        } else if constexpr (KIND == LM_SKINNY_QKV) {
            if (2 * n + u / 4 >= lm_units_of(p)) return;
            const lm_unit &z = unit[u / 4];
            const int x = u / 4 * 8 + u % 4, da = z.a + u % 4 * 8 + in(), db = da + p.d / 2;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int m = row + 8 * h;
                float l[2], r[2];
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    l[e] = __fmul_rn(c[4 * x + 2 * h + e], f[h]); r[e] = __fmul_rn(c[4 * (x + 4) + 2 * h + e], f[h]);
                    lm_turn<MODE == ANY>(p, z.part, z.head, da + e, db + e, l[e], r[e], had[4 * h + e], had[4 * h + 2 + e]);
                }
                if (m >= p.M) continue;
                if (z.part == 0) {
                    const int64_t at = m * p.out.rs + static_cast<int64_t>(z.head) * p.d;
                    put2<MODE>(p.out, at + da, l[0], l[1], 2, a.two); put2<MODE>(p.out, at + db, r[0], r[1], 2, a.two);
                    continue;
                }
                if (!lm_has_page(p, slot[h])) continue;
                const lm_cv to = { z.part == 1 ? p.kp : p.vp, 0, p.kv_bf16 };
                const int64_t at = lm_page_at(p, z.part, slot[h], z.head, da), bt = lm_page_at(p, z.part, slot[h], z.head, db);
                if (z.part == 2) { put2<MODE>(to, at, l[0], l[1], 2, 1); put2<MODE>(to, bt, r[0], r[1], 2, 1); continue; }
                /* a key's next dimension is sixteen tokens on */
                if (MODE == ANY) { lm_st1(to, at, l[0]); lm_st1(to, at + 16, l[1]); lm_st1(to, bt, r[0]); lm_st1(to, bt + 16, r[1]); continue; }
                __nv_bfloat16 *const page = static_cast<__nv_bfloat16 *>(p.kp);
                page[at] = __float2bfloat16_rn(l[0]); page[at + 16] = __float2bfloat16_rn(l[1]); page[bt] = __float2bfloat16_rn(r[0]); page[bt + 16] = __float2bfloat16_rn(r[1]);
            }
        } else {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int m = row + 8 * h;
                float s[2] = {};
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    const int at = n * BN + 16 * u + 8 * j + in(), k = there(at, p.part[0].rows);
                    float o[2] = {};
#pragma unroll
                    for (int e = 0; e < 2; e++)
                        if (e < k) {
                            const float v = biased<MODE>(p.part[0], at + e, c[4 * (2 * u + j) + 2 * h + e]);
                            o[e] = lm_kept(KIND == LM_SKINNY_ADD ? had[4 * h + 2 * j + e] + v : v, MODE == ANY ? p.out.bf16 : MODE == BF16);
                            if (KIND == LM_SKINNY_ADD) s[e] = fmaf(o[e], o[e], s[e]);
                        }
                    if (m >= p.M) continue;
                    put2<MODE>(p.out, m * p.out.rs + at, o[0], o[1], k, a.two);
                    if (KIND != LM_SKINNY_ADD || !p.next) continue;
                    const lm_cv next = { p.next, 0, 1 };
                    put2<MODE == ANY ? ANY : BF16>(next, m * p.part[0].rows + at, o[0] * __fadd_rn(had[8 + 2 * j], p.offset_next), o[1] * __fadd_rn(had[9 + 2 * j], p.offset_next), k, a.two);
                }
                if (KIND != LM_SKINNY_ADD || !p.next) continue;
                float sum = s[0] + s[1];                                  /* eight columns as eight lanes have them there */
                sum += __shfl_xor_sync(0xffffffffu, sum, 1); sum += __shfl_xor_sync(0xffffffffu, sum, 2);
                if (threadIdx.x % 4 == 0 && m < p.M) p.squares[static_cast<int64_t>(n * SLICES + u) * p.M + m] = sum;
            }
        }
    }
};
/* A warpgroup's way through the stages. */
template <int KIND, bool SPLIT, int MODE> struct multiply {
    const args &a; const uint32_t base; const int wg; int k, in;
    float c[64], sums[64];
    work<KIND, MODE> left;
    __device__ __forceinline__ multiply(const args &x, uint32_t at, int w) : a(x), base(at), wg(w), k(0), in(0) {
#pragma unroll
        for (int i = 0; i < 64; i++) c[i] = left.c[i] = 0.0f;
        left.row = 1 << 30; left.n = 0;                                   /* at first nothing: a row that is not there */
        for (int i = 0; i < 12; i++) left.pre[i] = 0;
        for (int i = 0; i < 2; i++) { left.f[i] = 0; left.slot[i] = -1; left.unit[i] = lm_unit{ 0, 0, 0 }; }
    }
    __device__ __forceinline__ void release(int i) const { leave(base + AT_BAR + (STAGES + i % STAGES) * 8); }
    __device__ __forceinline__ void products(bool first) {
        const int s = k % STAGES;
        lm_mbar_wait(base + AT_BAR + 8 * s, k / STAGES & 1);
        const uint64_t da = lm_desc_rows(base + s * STAGE + wg * (A_BYTES / 2)), db = lm_desc_rows(base + s * STAGE + A_BYTES);
        lm_wgmma_fence();
#pragma unroll
        for (int q = 0; q < 4; q++) lm_wgmma<128>::template add<0, 0>(c, da + 2 * q, db + 2 * q, !first || q);
        lm_wgmma_commit();
        k++;
    }
    /* a part's chain has ended */
    __device__ __forceinline__ void promote() {
#pragma unroll
        for (int x = 0; x < 64; x++) sums[x] = SPLIT ? sums[x] + c[x] : c[x];
        lm_wgmma_pin<64>(sums);                                           /* done before the next products want their registers */
    }
    /* the first stages of a tile, and behind each one's products slice u of the tile before */
    template <int u = 0> __device__ __forceinline__ void first() {
        if constexpr (u < SLICES) {
            products(in == 0);
            left.template slice<u>(a);
            lm_wgmma_wait<0>();
            lm_wgmma_pin<64>(c);
            release(k - 1);
            if (++in == a.per || u + 1 == a.steps) { promote(); in = 0; }
            first<u + 1>();
        }
    }
    /* the rest of them, part by part: two stages' products under way */
    __device__ __forceinline__ void others() {
        for (int i = SLICES; i < a.steps;) {
            const int end = min(a.steps, i + a.per - in);
            products(in == 0);
#pragma unroll 1
            for (i++; i < end; i++) {
                products(false);
                lm_wgmma_wait<1>();
                release(k - 2);
            }
            lm_wgmma_wait<0>();
            lm_wgmma_pin<64>(c);
            release(k - 1);
            promote();
            in = 0;
        }
    }
    template <int u = 0> __device__ __forceinline__ void rest() {
        if constexpr (u < SLICES) { left.template slice<u>(a); rest<u + 1>(); }
    }
    __device__ __forceinline__ void tile(int row, int n) {
#pragma unroll
        for (int x = 0; x < 64; x++) sums[x] = 0.0f;
        first();
        others();
#pragma unroll
        for (int x = 0; x < 64; x++) left.c[x] = sums[x];
        left.row = row; left.n = n;
        left.begin(a);
    }
};
#endif
template <int KIND, bool SPLIT, int MODE> __global__ void __launch_bounds__(384, 1) many(const __grid_constant__ args a) {
#ifdef LM_HOPPER_CODE
    extern __shared__ char raw[];
    const lm_skinny &p = a.p;
    const uint32_t base = (lm_smem(raw) + 1023) & ~1023u, full = base + AT_BAR, empty = full + STAGES * 8;
    const int wg = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0), rank = static_cast<int>(lm_cluster_rank()), total = a.pairs * a.tiles_n,
              step = static_cast<int>(gridDim.x) / 2;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) { lm_mbar_init(full + 8 * i, 1); lm_mbar_init(empty + 8 * i, 2 * WARPS); }
        lm_mbar_inited();
    }
    __syncthreads();
    lm_cluster_arrive(); lm_cluster_wait();                               /* both have their barriers */
    lm_let_next_begin();
    lm_wait_before();
    if (wg == 0) {
        lm_regs_less<40>();
        if (threadIdx.x == 0) {
            int k = 0;
            for (int t = static_cast<int>(blockIdx.x) / 2; t < total; t += step) {
                int pair, n;
                tile_of(a, t, &pair, &n);
                const CUtensorMap *map = &a.w[KIND == LM_SKINNY_GATED ? rank : 0];
                int row = KIND == LM_SKINNY_GATED ? n * (BN / 2) : n * BN + rank * (BN / 2);
                if (KIND == LM_SKINNY_QKV) {
                    const lm_unit u = lm_unit_of(p, min(2 * n + rank, lm_units_of(p) - 1));
                    map = &a.w[u.part]; row = u.head * p.d + u.a;
                }
                for (int i = 0; i < a.steps; i++, k++) {
                    const int s = k % STAGES;
                    const uint32_t to = base + s * STAGE, half = to + A_BYTES + rank * (B_BYTES / 2), bar = full + 8 * s;
                    lm_mbar_wait(empty + 8 * s, (k / STAGES & 1) ^ 1);
                    lm_mbar_expect(bar, STAGE);
                    lm_tma_get(to, &a.x, i * BK, (2 * pair + rank) * BM, bar);
                    get_for_both(half, map, i * BK, row, bar);
                    if (KIND == LM_SKINNY_QKV) get_for_both(half + B_BYTES / 4, map, i * BK, row + p.d / 2, bar);
                }
            }
        }
        __syncwarp();
    } else {
        lm_regs_more<232>();
        const int w = wg - 1, mine = w * 64 + static_cast<int>(threadIdx.x % 128 / 32) * 16 + static_cast<int>(threadIdx.x % 32) / 4;
        multiply<KIND, SPLIT, MODE> go(a, base, w);
        for (int t = static_cast<int>(blockIdx.x) / 2; t < total; t += step) {
            int pair, n;
            tile_of(a, t, &pair, &n);
            go.tile((2 * pair + rank) * BM + mine, n);
        }
        go.rest();
    }
    lm_cluster_arrive(); lm_cluster_wait();                               /* nobody leaves while the other writes to it or tells it something */
#endif
}
/* As rows_hopper_cuda.cu does it: eight sums in order, then those in order. A block has 32 rows. */
struct norms { lm_skinny p; float *to; };
__global__ void __launch_bounds__(256) factors(const norms a) {
    __shared__ float part[8][32];
    const lm_skinny &p = a.p;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, m = static_cast<int>(blockIdx.x) * 32 + lane, n = static_cast<int>((p.K + BN - 1) / BN);
    lm_let_next_begin();
    lm_wait_before();
    float s = 0;
    if (m < p.M)
#pragma unroll 16
        for (int i = 0; i < n; i++) s += p.parts[static_cast<int64_t>(warp * n + i) * p.M + m];
    part[warp][lane] = s;
    __syncthreads();
    if (warp || m >= p.M) return;
    s = 0;
#pragma unroll
    for (int q = 0; q < 8; q++) s += part[q][lane];
    a.to[m] = lm_norm_factor(p, s);
}
template <int KIND, bool SPLIT, int MODE> lm_err launch(const args &a, int units, cudaStream_t s) {
    const int clusters = a.pairs * a.tiles_n < units / 2 ? a.pairs * a.tiles_n : units / 2;
    return lm_launch_early(many<KIND, SPLIT, MODE>, a, dim3(static_cast<unsigned>(2 * clusters)), 384, SMEM, 2, true, s);
}
int mode_of(const args &a, int64_t rows) {
    const lm_skinny &p = a.p;
    if (!a.two || rows % BN || (p.kind == LM_SKINNY_GATED && p.part[0].rows % (BN / 2))) return ANY;
    for (int i = 0; i < p.n_part; i++) if (p.part[i].bias) return ANY;
    if (p.kind == LM_SKINNY_ADD && (p.res.bf16 != p.out.bf16 || (p.next && p.norm_next.bf16))) return ANY;
    if (p.kind == LM_SKINNY_QKV && (!p.kv_bf16 || p.turn.bf16)) return ANY;
    if ((p.kind == LM_SKINNY_QKV || p.kind == LM_SKINNY_GATED) && !p.out.bf16) return ANY;
    return p.out.bf16 ? BF16 : F32;
}
template <int KIND, bool SPLIT> lm_err in_mode(const args &a, int mode, int units, cudaStream_t s) {
    if (mode == BF16) return launch<KIND, SPLIT, BF16>(a, units, s);
    if constexpr (KIND == LM_SKINNY_ADD || KIND == LM_SKINNY_PLAIN) if (mode == F32) return launch<KIND, SPLIT, F32>(a, units, s);
    return launch<KIND, SPLIT, ANY>(a, units, s);
}
/* Gate and up of many columns, all of K at once: tiles twice as wide, since no second set of sums is needed. */
bool wide(const lm_skinny *p, bool split) {
    const lm_skinny_part &g = p->part[0], &u = p->part[1];
    return p->kind == LM_SKINNY_GATED && !split && !g.bias && !u.bias && g.mid_bf16 && u.mid_bf16 && g.ld == u.ld && g.rows == u.rows && p->out.bf16 && lm_cuda_vec8(&p->out, 1, g.rows);
}
lm_err run_wide(const lm_dev *d, const args &a, cudaStream_t s) {
    const lm_skinny &p = a.p;
    lm_tile_silu e = {};
    lm_tiles t = { p.x.p, p.part[0].w, p.x.rs, p.part[0].ld, p.M, p.part[0].rows, p.K, 0, NULL, p.part[1].w };
    e.factors = a.factors; e.rows = p.M;
    LM_TRY(lm_tile_map(&e.y, p.out.p, p.M, p.part[0].rows, p.out.rs));
    return lm_tiles_run(&t, e, d->units, s);
}
bool two_at_once(const lm_cv &v) { return v.rs % 2 == 0 && reinterpret_cast<uintptr_t>(v.p) % 8 == 0; }
}
lm_err lm_rows_many(const lm_dev *d, const lm_skinny *p, bool split, cudaStream_t s) {
    args a = {};
    a.p = *p;
    int64_t n = 0;
    LM_TRY(lm_tma_map(&a.x, p->x.p, p->M, p->K, p->x.rs, BM));
    a.two = two_at_once(p->out) && two_at_once(p->res) && two_at_once(p->turn) && two_at_once(p->norm_next);
    for (int i = 0; i < p->n_part; i++) {
        LM_TRY(lm_tma_map(&a.w[i], p->part[i].w, p->part[i].rows, p->K, p->part[i].ld, p->kind == LM_SKINNY_QKV ? 32 : 64));
        a.two = a.two && p->part[i].rows % 2 == 0;
        n += p->part[i].rows;
    }
    a.steps = static_cast<int>(lm_ceil_div(p->K, static_cast<int64_t>(BK)));
    a.per = split ? (a.steps + LM_ROWS_PARTS - 1) / LM_ROWS_PARTS : a.steps;
    a.tiles_n = static_cast<int>(lm_ceil_div(p->kind == LM_SKINNY_GATED ? 2 * p->part[0].rows : n, static_cast<int64_t>(BN)));
    a.pairs = static_cast<int>(lm_ceil_div(p->M, 2 * BM));
    if (static_cast<int64_t>(a.pairs) * a.tiles_n > INT32_MAX / 4) return LM_E_RANGE;
    if (p->parts) {                                                       /* behind the sums of squares, in a product that nobody reads */
        float *to = const_cast<float *>(p->parts) + LM_ROWS_PARTS * lm_ceil_div(p->K, static_cast<int64_t>(BN)) * p->M;
        const norms f = { *p, to };
        LM_TRY(lm_launch_early(factors, f, dim3(static_cast<unsigned>(lm_ceil_div(p->M, 32))), 256, 0, 1, true, s));
        a.factors = to;
    }
    if (wide(p, split)) return run_wide(d, a, s);
    const int mode = mode_of(a, n);
    switch (p->kind) {
    case LM_SKINNY_ADD: return in_mode<LM_SKINNY_ADD, true>(a, mode, d->units, s);
    case LM_SKINNY_QKV: return in_mode<LM_SKINNY_QKV, true>(a, mode, d->units, s);
    case LM_SKINNY_GATED: return split ? in_mode<LM_SKINNY_GATED, true>(a, mode, d->units, s) : in_mode<LM_SKINNY_GATED, false>(a, mode, d->units, s);
    default: return split ? in_mode<LM_SKINNY_PLAIN, true>(a, mode, d->units, s) : in_mode<LM_SKINNY_PLAIN, false>(a, mode, d->units, s);
    }
}
