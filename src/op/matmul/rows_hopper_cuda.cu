/* rows_hopper_cuda.cu — see rows.cuh. Bound by reading the weights.
 *
 *   The weights are the left operand of wgmma (m64nNk16), the rows of x, padded to N = 8, 16, 32 or 64, the right one. A block has a tile of 128
 *   rows of W and all of K, or an eighth of K where there are few tiles: then a cluster of eight shares a tile. One warp asks the copy engine
 *   for steps of 64 columns of both, through a ring of stages; two warpgroups have 64 rows of the tile each. What an eighth of K gave is sent
 *   to the block of the cluster that finishes those rows, which adds the eight parts in order.
 *   Pairs that belong together (gate and up, halves of a head) are the same row of the two warpgroups' halves. With 64 rows of x, whole tiles and up behind gate in
 *   memory, gate and up lie in turn by eight rows (one box of four dimensions): a thread then has both sums of a pair, and what they give is turned round
 *   in shared memory and stored in whole lines. The bits are the same.
 *   The ring's first stages are asked for before the kernel before this one is over; blocks of two kernels fit a multiprocessor, so the next does
 *   the same: at once where there are few rows, near the end where many rows of x are on their way and its weights would delay them.
 *   Reached on an H100 (2.94 TB/s read by a kernel that does nothing else; one kind alone, 16 or 64 rows, floor of the weights, us): q, k, v with
 *   their norm's kernel 7.9, 10.5 (4.3), o 5.2, 5.8 (2.9), gate and up with norm 25.0, 27.0 (22.9), down 13.1, 15.0 (11.4), head 176, 203 (179).
 *   A row's bits depend on K and on the number of rows of W, on nothing else: the order of additions is that of one wgmma after another. */
#include "device/hopper.cuh"
#include "op/matmul/finish.cuh"
#include "op/matmul/rows.cuh"
#include "op/overlap.cuh"
namespace {
enum {
    TILE = 128,
    STEP = 64,
    HALF_BYTES = 64 * STEP * 2,
    W_BYTES = 2 * HALF_BYTES,
    CONSUMERS = 256,
    ALL = CONSUMERS + 32,
    STAGES = 8,
    SPLIT = LM_ROWS_PARTS,
    WHOLE = 96 /* tiles from which a block has all of K */,
    PIECES = 3 /* runs of this kernel that take no longer than the one of many rows */,
    BARS = 256
};
/* steps: of 64 columns, all of them; lead: steps before a block's last from which the next kernel may begin; AT_ONCE: from the start */
struct args { CUtensorMap w[3], x; lm_skinny p; int tiles, steps, stages, lead; };
enum { AT_ONCE = 1 << 20 };
/* By rows (up to 8, 16, 32, 64) and kind (PLAIN, ADD, GATED, QKV), what was best in the chain of a decode step on an H200: stages of the ring,
 * since two kernels and the pages' attention share a multiprocessor's memory, and the lead of kernels whose weights are not all on their way
 * from the start. */
constexpr int RING[4][4] = { { 6, 6, 6, 6 }, { 4, 4, 6, 4 }, { 4, 4, 5, 3 }, { 4, 3, 3, 3 } },
              LEAD[4][4] = { { AT_ONCE, AT_ONCE, AT_ONCE, AT_ONCE }, { AT_ONCE, 2, AT_ONCE, AT_ONCE }, { 4, 4, 4, AT_ONCE }, { 2, 2, 2, 2 } };
#ifdef LM_HOPPER_CODE
/* NaN where one is */
__device__ __forceinline__ float larger(float a, float b) {
    float y;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
}
#endif
template <int N, int KIND, int KS, bool IN_TURN = false> __global__ void __launch_bounds__(ALL, 2) rows(const __grid_constant__ args a) {
#ifdef LM_HOPPER_CODE
    constexpr int NX = N / 8, X_BYTES = N * STEP * 2, STAGE = W_BYTES + X_BYTES, GROUPS = 16 / KS /* of eight rows that a block finishes */;
    constexpr bool PAIRS = KIND == LM_SKINNY_GATED || KIND == LM_SKINNY_QKV;
    extern __shared__ __align__(1024) char mem[];
    const lm_skinny &p = a.p;
    const uint32_t base = lm_smem(mem), at_sums = base + a.stages * STAGE, full = at_sums + (IN_TURN ? N * 128 : PAIRS || KS > 1 ? NX * 4096 : 0),
                   empty = full + 8 * STAGES, got = empty + 8 * STAGES, at_squares = full + BARS, at_factor = at_squares + 8 * N * 4;
    const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0), lane = threadIdx.x % 32;
    const int rank = KS > 1 ? static_cast<int>(lm_cluster_rank()) : 0, tile = static_cast<int>(blockIdx.x) / KS, per = (a.steps + KS - 1) / KS;
    const int first = rank * per, steps = max(0, min(per, a.steps - first)), ready = min(steps, a.stages);
    /* ---- what asks for W and x ---- */
    const bool asks = warp == CONSUMERS / 32;
    const CUtensorMap *map[2] = { &a.w[0], &a.w[KIND == LM_SKINNY_GATED ? 1 : 0] };
    int row[2] = { tile * TILE, tile * TILE + 64 }, apart = 0;
    if (KIND == LM_SKINNY_GATED) row[0] = row[1] = tile * 64;
    if (KIND == LM_SKINNY_QKV && asks) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const lm_unit u = lm_unit_of(p, min(2 * tile + i, lm_units_of(p) - 1));
            map[i] = &a.w[u.part]; row[i] = u.head * p.d + u.a;
        }
        apart = p.d / 2;
    }
    const uint64_t once = lm_once();
    auto weights = [&](int i, int s) {
        const uint32_t to = base + s * STAGE, bar = full + 8 * s;
        const int col = (first + i) * STEP;
        lm_mbar_expect(bar, STAGE);
        if (KIND == LM_SKINNY_QKV) {
#pragma unroll
            for (int q = 0; q < 4; q++)
                lm_tma_get(to + q / 2 * HALF_BYTES + q % 2 * (HALF_BYTES / 2), map[q % 2], col, row[q % 2] + q / 2 * apart, bar, once);
        } else if (IN_TURN) {
            asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, %3, %3, %4}], [%5], %6;" ::"r"(to),
                         "l"(map[0]), "r"(col), "r"(0), "r"(tile * 8), "r"(bar), "l"(once)
                         : "memory");
        } else {
#pragma unroll
            for (int q = 0; q < 2; q++) lm_tma_get(to + q * HALF_BYTES, map[q], col, row[q], bar, once);
        }
    };
    auto rows_of_x = [&](int i, int s) {
        lm_tma_get(base + s * STAGE + W_BYTES, &a.x, (first + i) * STEP, 0, full + 8 * s);
    };
    if (asks && lane == 0) {
        for (int i = 0; i < a.stages; i++) { lm_mbar_init(full + 8 * i, 1); lm_mbar_init(empty + 8 * i, 8); }
        if (KS > 1) { lm_mbar_init(got, 1); lm_mbar_expect(got, NX * 4096); }
        lm_mbar_inited();
        if (!p.fixed) lm_wait_before();
        for (int i = 0; i < ready; i++) weights(i, i);
        if (a.lead == AT_ONCE) lm_let_next_begin();
    }
    __syncwarp();
    __syncthreads();
    if (KS > 1) { lm_cluster_arrive(); lm_cluster_wait(); }
    if (asks) {
        if (lane == 0) {
            lm_wait_before();
            for (int i = 0; i < ready; i++) rows_of_x(i, i);
            bool told = steps - ready <= a.lead;
            if (told && a.lead != AT_ONCE) lm_let_next_begin();
            for (int i = ready, s = 0, parity = 0; i < steps; i++) {
                lm_mbar_wait(empty + 8 * s, parity);
                weights(i, s); rows_of_x(i, s);
                if (!told && steps - i <= a.lead) { lm_let_next_begin(); told = true; }
                if (++s == a.stages) { s = 0; parity ^= 1; }
            }
        }
        return;
    }
    const int half = warp / 4;
    /* ---- rows whose norm is half done: what their sums are multiplied by, while x is on its way ---- */
    if (KIND != LM_SKINNY_ADD && p.parts) {
        lm_wait_before();
        const int n = static_cast<int>((p.K + TILE - 1) / TILE);                                    /* of 8 parts */
        for (int m = lane; m < p.M; m += 32) {
            float s = 0;
#pragma unroll 16
            for (int i = 0; i < n; i++) s += p.parts[(warp * n + i) * p.M + m];
            asm volatile("st.shared.f32 [%0], %1;" ::"r"(at_squares + (warp * N + m) * 4), "f"(s) : "memory");
        }
        lm_bar_sync(1, CONSUMERS);
    }
    auto factor = [&](int m) {
        if (KIND == LM_SKINNY_ADD || !p.parts || m >= p.M) return 1.0f;
        float s = 0;
#pragma unroll
        for (int q = 0; q < 8; q++) s += lm_ldsf(at_squares + (q * N + m) * 4);
        return lm_norm_factor(p, s);
    };
    if (IN_TURN) {
        if (const int m = static_cast<int>(threadIdx.x); m < N) asm volatile("st.shared.f32 [%0], %1;" ::"r"(at_factor + m * 4), "f"(factor(m)) : "memory");
        lm_bar_sync(1, CONSUMERS);
    }
    float c[N / 2] = {};
    for (int i = 0, s = 0, parity = 0; i < steps; i++) {
        const uint32_t w = base + s * STAGE + half * HALF_BYTES, x = base + s * STAGE + W_BYTES;
        lm_mbar_wait(full + 8 * s, parity);
        lm_wgmma_fence();
#pragma unroll
        for (int k = 0; k < STEP / 16; k++) lm_wgmma<N>::template ss<0, 0>(c, lm_desc_rows(w + k * 32), lm_desc_rows(x + k * 32));
        lm_wgmma_commit();
        lm_wgmma_wait<0>();
        lm_wgmma_pin<N / 2>(c);
        if (lane == 0 && i + a.stages < steps) lm_mbar_arrive(empty + 8 * s);
        if (++s == a.stages) { s = 0; parity ^= 1; }
    }
    lm_wait_before();
    if constexpr (IN_TURN) {
        const int64_t j = static_cast<int64_t>(tile) * 64 + warp * 8 + lane / 4;
#pragma unroll
        for (int i = 0; i < NX; i++) {
            const float2 f = lm_lds2(at_factor + (i * 8 + lane % 4 * 2) * 4);
            const float h0 = lm_gated(p, j, (0.0f + c[i * 4]) * f.x, (0.0f + c[i * 4 + 2]) * f.x), h1 = lm_gated(p, j, (0.0f + c[i * 4 + 1]) * f.y, (0.0f + c[i * 4 + 3]) * f.y);
            /* eight pairs of eight rows of x, rows and columns exchanged: sixteen bytes of each row, its unit `warp` */
            asm volatile("stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0], {%1};" ::"r"(at_sums + lm_swizzled(i * 8 + lane % 8, warp)), "r"(lm_pack2(h0, h1)) : "memory");
        }
        lm_bar_sync(1, CONSUMERS);
        for (int i = static_cast<int>(threadIdx.x); i < p.M * 8; i += CONSUMERS)
            *reinterpret_cast<int4 *>(static_cast<__nv_bfloat16 *>(p.out.p) + i / 8 * p.out.rs + static_cast<int64_t>(tile) * 64 + i % 8 * 8) = lm_ldsi4(at_sums + lm_swizzled(i / 8, i % 8));
        return;
    } else if constexpr (!PAIRS && KS == 1) {
        float top[NX * 2];
#pragma unroll
        for (int x = 0; x < NX * 2; x++) top[x] = -INFINITY;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int64_t r = static_cast<int64_t>(tile) * TILE + warp * 16 + h * 8 + lane / 4;
            if (r >= p.part[0].rows) continue;
#pragma unroll
            for (int x = 0; x < NX; x++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const int m = x * 8 + lane % 4 * 2 + e;
                    const float v = lm_with_bias(p.part[0], r, c[x * 4 + h * 2 + e]);
                    if (m < p.M && !p.tops) lm_st1(p.out, m * p.out.rs + r, v);
                    top[x * 2 + e] = larger(top[x * 2 + e], v);
                    c[x * 4 + h * 2 + e] = v;
                }
        }
        if (KIND != LM_SKINNY_PLAIN || !p.tops) return;
        /* the tile's largest: a warp's eight lines meet in registers, the warps in shared memory */
#pragma unroll
        for (int x = 0; x < NX * 2; x++) {
#pragma unroll
            for (int b = 4; b < 32; b *= 2) top[x] = larger(top[x], __shfl_xor_sync(0xffffffffu, top[x], b));
            int at = TILE;
#pragma unroll
            for (int h = 1; h >= 0; h--)
                if (c[x / 2 * 4 + h * 2 + x % 2] == top[x] && static_cast<int64_t>(tile) * TILE + warp * 16 + h * 8 + lane / 4 < p.part[0].rows) at = warp * 16 + h * 8 + lane / 4;
#pragma unroll
            for (int b = 4; b < 32; b *= 2) at = min(at, __shfl_xor_sync(0xffffffffu, at, b));
            if (lane < 4)
                asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(at_squares + (warp * N + x / 2 * 8 + lane * 2 + x % 2) * 8), "f"(top[x]), "f"(__int_as_float(at)) : "memory");
        }
        lm_bar_sync(1, CONSUMERS);
        if (const int m = static_cast<int>(threadIdx.x); m < p.M) {
            float most = -INFINITY;
            int at = TILE;
#pragma unroll
            for (int q = 0; q < 8; q++) {                                   /* the first warp that has it: the least row */
                const float2 z = lm_lds2(at_squares + (q * N + m) * 8);
                if (at == TILE || z.x > most) { most = larger(most, z.x); at = __float_as_int(z.y); }
                else most = larger(most, z.x);
            }
            p.tops[static_cast<int64_t>(m) * a.tiles + tile] = make_float2(most < INFINITY ? most : NAN, __int_as_float(tile * TILE + min(at, TILE - 1)));
        }
        return;
    } else {
        /* ---- parts of K, or of a pair, to who finishes: [block that had the part][group][eight columns of x][lane] of two floats ---- */
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int g = PAIRS ? warp % 4 * 2 + h : warp * 2 + h, owner = PAIRS ? g / (8 / KS) : g / GROUPS,
                      at = PAIRS ? g % (8 / KS) * 2 + half : g % GROUPS;
            const uint32_t to = at_sums + (((KS > 1 ? rank : 0) * GROUPS + at) * NX) * 256 + lane * 8;
            if (KS > 1) {
                const uint32_t there = lm_smem_of(to, static_cast<uint32_t>(owner)), bar = lm_smem_of(got, static_cast<uint32_t>(owner));
#pragma unroll
                for (int x = 0; x < NX; x++) lm_send2(there + x * 256, c[x * 4 + h * 2], c[x * 4 + h * 2 + 1], bar);
            } else {
#pragma unroll
                for (int x = 0; x < NX; x++)
                    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to + x * 256), "f"(c[x * 4 + h * 2]), "f"(c[x * 4 + h * 2 + 1])
                                 : "memory");
            }
        }
        auto sum = [&](int g, int x) {
            float2 y = make_float2(0, 0);
#pragma unroll
            for (int q = 0; q < KS; q++) { const float2 z = lm_lds2(at_sums + ((q * GROUPS + g) * NX + x) * 256 + lane * 8); y.x += z.x; y.y += z.y; }
            return y;
        };
        const int m0 = warp % NX * 8 + lane % 4 * 2;                       /* this thread's two rows of x, whichever line it has */
        const float f0 = factor(m0), f1 = factor(m0 + 1);
        if constexpr (KIND == LM_SKINNY_GATED) {
            constexpr int LINES = GROUPS / 2 * NX, TURNS = (LINES + 7) / 8; /* eight pairs × eight rows of x: a warp has one at a time */
            if (KS > 1) lm_mbar_wait_cluster(got, 0); else lm_bar_sync(1, CONSUMERS);
#pragma unroll
            for (int i = 0; i < TURNS; i++) {
                const int line = warp + i * 8, g = line / NX;
                if (line >= LINES) break;
                const float2 u = sum(2 * g, warp % NX), v = sum(2 * g + 1, warp % NX);
                const int64_t j = static_cast<int64_t>(tile) * 64 + (rank * (8 / KS) * (KS > 1) + g) * 8 + lane / 4;
                if (j >= p.part[0].rows) continue;
                if (m0 < p.M) lm_finish_gated(p, m0, j, __fmul_rn(u.x, f0), __fmul_rn(v.x, f0));
                if (m0 + 1 < p.M) lm_finish_gated(p, m0 + 1, j, __fmul_rn(u.y, f1), __fmul_rn(v.y, f1));
            }
        } else if constexpr (KIND == LM_SKINNY_QKV) {
            const int j = rank * 8 + lane / 4, u64 = 2 * tile + j / 32;
            const lm_unit u = lm_unit_of(p, min(u64, lm_units_of(p) - 1));
            const int da = u.a + j % 32;
            float cs[2] = {}, sn[2] = {};
#pragma unroll
            for (int e = 0; e < 2; e++)
                if (const int m = m0 + e; u.part < 2 && m < p.M) {
                    cs[e] = lm_ld1(p.turn, m * p.turn.rs + da);
                    sn[e] = lm_ld1(p.turn, m * p.turn.rs + p.d / 2 + da);
                }
            lm_mbar_wait_cluster(got, 0);
            if (warp < NX && u64 < lm_units_of(p)) {
                const float2 y = sum(0, warp), z = sum(1, warp);
                if (m0 < p.M) lm_finish_qkv(p, m0, u.part, u.head, da, da + p.d / 2, __fmul_rn(y.x, f0), __fmul_rn(z.x, f0), cs[0], sn[0]);
                if (m0 + 1 < p.M) lm_finish_qkv(p, m0 + 1, u.part, u.head, da, da + p.d / 2, __fmul_rn(y.y, f1), __fmul_rn(z.y, f1), cs[1], sn[1]);
            }
        } else {
            /* a warp has all of the block's rows of W for eight rows of x */
            const int64_t r0 = static_cast<int64_t>(tile) * TILE + rank * GROUPS * 8 + lane / 4;
            float r[GROUPS][2] = {}, w[GROUPS] = {}, s[2] = {};
            if (KIND == LM_SKINNY_ADD && warp < NX)
#pragma unroll
                for (int g = 0; g < GROUPS; g++) {
                    const int64_t at = r0 + g * 8;
                    if (at >= p.part[0].rows) continue;
#pragma unroll
                    for (int e = 0; e < 2; e++) if (m0 + e < p.M) r[g][e] = lm_ld1(p.res, (m0 + e) * p.res.rs + at);
                    if (p.next) w[g] = __fadd_rn(lm_ld1(p.norm_next, at), p.offset_next);
                }
            lm_mbar_wait_cluster(got, 0);
            if (warp < NX)
#pragma unroll
                for (int g = 0; g < GROUPS; g++) {
                    const int64_t at = r0 + g * 8;
                    const float2 y = sum(g, warp);
                    if (at >= p.part[0].rows) continue;
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        const int m = m0 + e;
                        if (m >= p.M) continue;
                        const float v = lm_with_bias(p.part[0], at, __fmul_rn(e ? y.y : y.x, e ? f1 : f0)),
                                    o = lm_kept(KIND == LM_SKINNY_ADD ? r[g][e] + v : v, p.out.bf16);
                        lm_st1(p.out, m * p.out.rs + at, o);
                        if (KIND != LM_SKINNY_ADD || !p.next) continue;
                        static_cast<__nv_bfloat16 *>(p.next)[m * p.part[0].rows + at] = __float2bfloat16_rn(o * w[g]);
                        s[e] = fmaf(o, o, s[e]);
                    }
                }
            if (KIND == LM_SKINNY_ADD && p.next && warp < NX) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
#pragma unroll
                    for (int h = 4; h < 32; h *= 2) s[e] += __shfl_xor_sync(0xffffffffu, s[e], h);
                    if (lane < 4 && m0 + e < p.M) p.squares[(tile * SPLIT + rank) * p.M + m0 + e] = s[e];
                }
            }
        }
    }
#endif
}
/* What is in turn: whole tiles that are stored as bf16 by sixteen bytes, up behind gate and no further than a map reaches. */
bool in_turn(const lm_skinny &p, int ks) {
    if (p.kind != LM_SKINNY_GATED || ks > 1 || p.M <= 32 || p.part[0].rows % 64 || p.part[0].ld != p.part[1].ld || !p.out.bf16) return false;
    const uintptr_t gate = reinterpret_cast<uintptr_t>(p.part[0].w), up = reinterpret_cast<uintptr_t>(p.part[1].w);
    return up > gate && up - gate < uintptr_t{ 1 } << 40 && lm_cuda_vec8(&p.out, 1, p.part[0].rows);
}
/* (K, 8, 2, rows / 8) from gate on */
lm_err map_in_turn(CUtensorMap *m, const lm_skinny &p) {
    const char *gate = static_cast<const char *>(p.part[0].w), *up = static_cast<const char *>(p.part[1].w);
    const cuuint64_t ld = static_cast<cuuint64_t>(p.part[0].ld) * 2, dim[4] = { static_cast<cuuint64_t>(p.K), 8, 2, static_cast<cuuint64_t>(p.part[0].rows / 8) },
                     pitch[3] = { ld, static_cast<cuuint64_t>(up - gate), 8 * ld };
    const cuuint32_t box[4] = { STEP, 8, 2, 8 };
    return lm_tma_encode_nd(m, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 128, gate, 4, dim, pitch, box);
}
template <int N> lm_err run_as(args &a, int ks, cudaStream_t s) {
    const bool pairs = a.p.kind == LM_SKINNY_GATED || a.p.kind == LM_SKINNY_QKV, turn = in_turn(a.p, ks);
    constexpr int class_of = N == 8 ? 0 : N == 16 ? 1 : N == 32 ? 2 : 3;
    const int stage = W_BYTES + N * STEP * 2, rest = (turn ? N * 128 : pairs || ks > 1 ? N * 512 : 0) + BARS + (turn ? 9 * N * 4 : 8 * N * (a.p.tops ? 8 : 4)), per = (a.steps + ks - 1) / ks;
    a.stages = RING[class_of][a.p.kind]; a.lead = LEAD[class_of][a.p.kind];
    if (per <= a.stages) {
        a.stages = per;
        if (N <= 32) a.lead = AT_ONCE;
    }
    LM_TRY(lm_tma_map(&a.x, a.p.x.p, a.p.M, a.p.K, a.p.x.rs, N));
    const unsigned grid = static_cast<unsigned>(a.tiles * ks), cluster = static_cast<unsigned>(ks);
    const size_t shared = static_cast<size_t>(a.stages * stage + rest);
    switch (a.p.kind) {
    case LM_SKINNY_ADD: return lm_launch_early(rows<N, LM_SKINNY_ADD, SPLIT>, a, dim3(grid), ALL, shared, cluster, true, s);
    case LM_SKINNY_QKV: return lm_launch_early(rows<N, LM_SKINNY_QKV, SPLIT>, a, dim3(grid), ALL, shared, cluster, true, s);
    case LM_SKINNY_GATED:
        if constexpr (N == LM_ROWS)
            if (turn) {
                LM_TRY(map_in_turn(&a.w[0], a.p));
                return lm_launch_early(rows<N, LM_SKINNY_GATED, 1, true>, a, dim3(grid), ALL, shared, cluster, true, s);
            }
        return ks > 1 ? lm_launch_early(rows<N, LM_SKINNY_GATED, SPLIT>, a, dim3(grid), ALL, shared, cluster, true, s)
                      : lm_launch_early(rows<N, LM_SKINNY_GATED, 1>, a, dim3(grid), ALL, shared, cluster, true, s);
    default:
        return ks > 1 ? lm_launch_early(rows<N, LM_SKINNY_PLAIN, SPLIT>, a, dim3(grid), ALL, shared, cluster, true, s)
                      : lm_launch_early(rows<N, LM_SKINNY_PLAIN, 1>, a, dim3(grid), ALL, shared, cluster, true, s);
    }
}
}
bool lm_rows_takes(const lm_dev *d, const lm_skinny *p) {
    if (!d || !(d->features & LM_CUDA_WGMMA) || p->norm.p || !p->x.bf16 || p->M < 1 || p->K < LM_ROWS_K || p->K > INT32_MAX / 2)
        return false;
    if (p->M > LM_ROWS && (!(d->features & LM_CUDA_ROW_ALONE) || p->tops)) return false;
    if ((p->kind == LM_SKINNY_QKV && p->d % 64) || (p->parts && (p->kind == LM_SKINNY_PLAIN || p->kind == LM_SKINNY_ADD)) ||
        (p->next && p->kind != LM_SKINNY_ADD) || (p->tops && (p->kind != LM_SKINNY_PLAIN || p->part[0].rows <= (WHOLE - 1) * TILE || p->out.bf16)))
        return false;
    if (!lm_cuda_vec8(&p->x, 1, p->K)) return false;
    int64_t n = 0;
    for (int i = 0; i < p->n_part; i++) {
        const lm_cv w = { const_cast<void *>(p->part[i].w), p->part[i].ld, 1 };
        if (!lm_cuda_vec8(&w, 1, p->K)) return false;
        n += p->part[i].rows;
    }
    return n < INT32_MAX / 2;
}
/* Not many more rows than this kernel takes: it once more for each 64 of them. The sums of squares of a piece lie together, in both of the products that they are between. */
static void skip(lm_cv &v, int64_t m) { if (v.p) v.p = static_cast<char *>(v.p) + m * v.rs * (v.bf16 ? 2 : 4); }
static lm_err pieces(const lm_dev *d, const lm_skinny *p, int tiles, cudaStream_t s) {
    for (int m = 0; m < p->M; m += LM_ROWS) {
        lm_skinny q = *p;
        q.M = p->M - m < LM_ROWS ? p->M - m : static_cast<int>(LM_ROWS);
        skip(q.x, m); skip(q.out, m); skip(q.res, m); skip(q.turn, m);
        if (q.slot) q.slot += m;
        if (q.next) q.next = static_cast<__nv_bfloat16 *>(q.next) + m * q.part[0].rows;
        if (q.squares) q.squares += static_cast<int64_t>(m) * SPLIT * tiles;
        if (q.parts) q.parts += m * SPLIT * lm_ceil_div(q.K, static_cast<int64_t>(TILE));
        LM_TRY(lm_rows_run(d, &q, s));
    }
    return LM_OK;
}
lm_err lm_rows_run(const lm_dev *d, const lm_skinny *p, cudaStream_t s) {
    args a = {};
    a.p = *p;
    int64_t n = 0;
    for (int i = 0; i < p->n_part; i++) {
        LM_TRY(lm_tma_map(&a.w[i], p->part[i].w, p->part[i].rows, p->K, p->part[i].ld, p->kind == LM_SKINNY_QKV ? 32 : 64));
        n += p->part[i].rows;
    }
    a.tiles = static_cast<int>(lm_ceil_div(p->kind == LM_SKINNY_GATED ? 2 * p->part[0].rows : n, TILE));
    a.steps = static_cast<int>(lm_ceil_div(p->K, STEP));
    /* by the weights alone, so that bits have no other cause */
    const int ks = (p->kind == LM_SKINNY_PLAIN || p->kind == LM_SKINNY_GATED) && a.tiles >= WHOLE ? 1 : SPLIT;
    if (p->M > PIECES * LM_ROWS) return lm_rows_many(d, p, ks > 1, s);
    if (p->M > LM_ROWS) return pieces(d, p, a.tiles, s);
    return p->M <= 8 ? run_as<8>(a, ks, s) : p->M <= 16 ? run_as<16>(a, ks, s) : p->M <= 32 ? run_as<32>(a, ks, s) : run_as<64>(a, ks, s);
}
