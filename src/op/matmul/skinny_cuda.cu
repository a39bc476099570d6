/* skinny_cuda.cu — see skinny.cuh. Bound by reading the weights.
 *
 *   a unit is 8·NT rows of W and all of K; eight warps have an eighth of K each. A lane reads 16 bytes: eight neighbours along k of one row, so
 *   that a warp has 8 rows × 32 k, which is the right operand of two mma.m16n8k16 when k is counted in an order that both operands share.
 *   Two groups of eight such loads are in flight in registers; the first two are asked for before the kernel before this one is over.
 *   The rows of x lie in shared memory as bf16. The warps' sums meet there, and a few threads do what follows the product.
 *   More rows than fit (M K over 128 KB): a cluster of blocks has parts of K, and its sums meet in shared memory of the cluster. */
#include "op/matmul/skinny.cuh"
#include "op/overlap.cuh"

enum { WARPS = 8, THREADS = 256, X_MOST = 132 << 10 };
struct args { lm_skinny p; int64_t tiles; int units, kw, ks, pitch, buffers; unsigned red_at, part_at; };

__device__ __forceinline__ uint4 read_once(const void *p) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}
__device__ __forceinline__ void mma(float *c, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
__device__ __forceinline__ unsigned cluster_rank() { unsigned r; asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r)); return r; }
__device__ __forceinline__ void cluster_sync() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ float read_peer(const float *p, unsigned rank) {
    float v = 0;
#if __CUDA_ARCH__ >= 900
    unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(p)), there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(rank));
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(v) : "r"(there));
#endif
    return v;
}
__device__ __forceinline__ float kept(float x, int bf16) { return bf16 ? __bfloat162float(__float2bfloat16_rn(x)) : x; }

/* Tile t's row that lane group g (0…7) reads. Pairs that belong together (halves of a head, gate and up) are g and g+4 of one tile. */
template <int KIND> __device__ __forceinline__ const __nv_bfloat16 *row_of(const lm_skinny &p, int64_t t, int g) {
    if (KIND == LM_SKINNY_GATED) { const lm_skinny_part &w = p.part[g / 4]; return static_cast<const __nv_bfloat16 *>(w.w) + (t * 4 + g % 4) * w.ld; }
    int64_t r = t * 8;
    if (KIND == LM_SKINNY_QKV) {
        int i = 0;
        while (i < 2 && r >= p.part[i].rows) r -= p.part[i++].rows;
        const int in = static_cast<int>(r % p.d);
        r = i == 2 ? r + g : r - in + in / 2 + g % 4 + g / 4 * (p.d / 2);
        return static_cast<const __nv_bfloat16 *>(p.part[i].w) + r * p.part[i].ld;
    }
    r += g;
    return static_cast<const __nv_bfloat16 *>(p.part[0].w) + (r < p.part[0].rows ? r : p.part[0].rows - 1) * p.part[0].ld;
}
__device__ __forceinline__ float with_bias(const lm_skinny_part &w, int64_t r, float v) {
    const lm_cv b = { const_cast<void *>(w.bias), 0, w.bias_bf16 };
    return kept(w.bias ? v + lm_ld1(b, r) : v, w.mid_bf16);
}
/* Sums u and v of row m: columns n and n+4 of tile t. */
template <int KIND> __device__ __forceinline__ void finish(const lm_skinny &p, int m, int64_t t, int n, float u, float v) {
    if constexpr (KIND == LM_SKINNY_GATED) {
        const int64_t j = t * 4 + n;
        u = with_bias(p.part[0], j, u); v = with_bias(p.part[1], j, v);
        lm_st1(p.out, m * p.out.rs + j, u / (1.0f + expf(-u)) * v);
    } else if constexpr (KIND == LM_SKINNY_QKV) {
        int64_t r = t * 8;
        int i = 0;
        while (i < 2 && r >= p.part[i].rows) r -= p.part[i++].rows;
        const int in = static_cast<int>(r % p.d), a = i == 2 ? in + n : in / 2 + n, b = i == 2 ? a + 4 : a + p.d / 2;       /* dimensions of the head */
        const int64_t h = r / p.d;
        u = with_bias(p.part[i], h * p.d + a, u); v = with_bias(p.part[i], h * p.d + b, v);
        if (i < 2) {
            const float c = lm_ld1(p.turn, m * p.turn.rs + a), s = lm_ld1(p.turn, m * p.turn.rs + p.d / 2 + a), x = u, y = v;
            u = fmaf(x, c, -(y * s)); v = fmaf(y, c, x * s);
        }
        if (i == 0) { lm_st1(p.out, m * p.out.rs + h * p.d + a, u); lm_st1(p.out, m * p.out.rs + h * p.d + b, v); return; }
        if (i == 1) { u = kept(u, p.k_bf16); v = kept(v, p.k_bf16); }
        const int64_t slot = p.slot[m];
        if (slot < 0) return;
        const int64_t page = slot / LM_KV_PAGE, tok = slot % LM_KV_PAGE, base = (page * (p.part[1].rows / p.d) + h) * LM_KV_PAGE * p.d;
        if (page >= p.pages) { if (p.fault) *p.fault = LM_E_RANGE; return; }
        const lm_cv to = { i == 1 ? p.kp : p.vp, 0, p.kv_bf16 };
        lm_st1(to, base + (i == 1 ? ((tok >> 4) * p.d + a) * 16 + (tok & 15) : tok * p.d + a), u);
        lm_st1(to, base + (i == 1 ? ((tok >> 4) * p.d + b) * 16 + (tok & 15) : tok * p.d + b), v);
    } else
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int64_t at = t * 8 + n + e * 4;
            if (at >= p.part[0].rows) continue;
            const float y = with_bias(p.part[0], at, e ? v : u);
            lm_st1(p.out, m * p.out.rs + at, KIND == LM_SKINNY_ADD ? lm_ld1(p.res, m * p.res.rs + at) + y : y);
        }
}
/* Sum of squares of the 8-wide pieces vt, vt + 256, … of a row. */
__device__ __forceinline__ float squares(const lm_skinny &p, int m, int vt) {
    float s = 0;
    for (int v = vt; v < p.K / 8; v += THREADS) {
        float f[8];
        lm_ld8(p.x, m * p.x.rs + v * 8, f);
#pragma unroll
        for (int e = 0; e < 8; e++) s = fmaf(f[e], f[e], s);
    }
    return s;
}
/* Piece lv of this block's part of row m goes to shared memory, times r and the norm's weights where there is a norm. */
__device__ __forceinline__ void put_x(const args &a, __nv_bfloat16 *sx, int m, int lv, int rank, float r) {
    const lm_skinny &p = a.p;
    const int64_t k = (static_cast<int64_t>(rank) * a.kw + lv) * 8;
    float f[8] = {};
    if (k < p.K) {
        lm_ld8(p.x, m * p.x.rs + k, f);
        if (p.norm.p) {
            float w[8];
            lm_ld8(p.norm, k, w);
#pragma unroll
            for (int e = 0; e < 8; e++) f[e] = f[e] * r * (w[e] + p.offset);
        }
    }
    *reinterpret_cast<uint4 *>(sx + m * a.pitch + lv * 8) = make_uint4(lm_pack2(f[0], f[1]), lm_pack2(f[2], f[3]), lm_pack2(f[4], f[5]), lm_pack2(f[6], f[7]));
}
/* One row is the work of all warps, several are a warp's each; the sum of squares has one tree either way. */
__device__ __forceinline__ void rows_in(const args &a, __nv_bfloat16 *sx, int rank) {
    const lm_skinny &p = a.p;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    __shared__ float part[WARPS];
    float r = 0;
    if (p.M == 1) {
        if (p.norm.p) {
            const float s = lm_cuda_warp_sum(squares(p, 0, threadIdx.x));
            if (lane == 0) part[warp] = s;
            __syncthreads();
            float all = 0;
#pragma unroll
            for (int w = 0; w < WARPS; w++) all += part[w];
            r = 1.0f / sqrtf(all / static_cast<float>(p.K) + p.eps);
        }
        for (int lv = threadIdx.x; lv < a.kw; lv += THREADS) put_x(a, sx, 0, lv, rank, r);
        return;
    }
    for (int m = warp; m < p.M; m += WARPS) {
        if (p.norm.p) {
            float all = 0;
#pragma unroll
            for (int w = 0; w < WARPS; w++) all += lm_cuda_warp_sum(squares(p, m, lane + 32 * w));
            r = 1.0f / sqrtf(all / static_cast<float>(p.K) + p.eps);
        }
#pragma unroll 4
        for (int lv = lane; lv < a.kw; lv += 32) put_x(a, sx, m, lv, rank, r);
    }
}
template <int MT, int NT, int KIND> __global__ void __launch_bounds__(THREADS, MT == 1 ? 2 : 1) stream(const __grid_constant__ args a) {
    constexpr int S = 8 / NT;                                           /* steps of 32 k in a group of loads */
    extern __shared__ __align__(128) char mem[];
    __nv_bfloat16 *sx = reinterpret_cast<__nv_bfloat16 *>(mem);
    float *red = reinterpret_cast<float *>(mem + a.red_at), *part = reinterpret_cast<float *>(mem + a.part_at);
    const lm_skinny &p = a.p;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4, M = p.M, steps = a.kw / 32;
    const int rank = a.ks > 1 ? static_cast<int>(cluster_rank()) : 0, blocks = static_cast<int>(gridDim.x) / a.ks, first = static_cast<int>(blockIdx.x) / a.ks;
    const int64_t k0 = (static_cast<int64_t>(rank) * WARPS + warp) * a.kw + 8 * t;
    lm_let_next_begin();
    if (!p.fixed) lm_wait_before();
    /* the reading side runs ahead by two groups */
    int ru = first, rs = 0;
    const __nv_bfloat16 *row[NT];
    auto aim = [&]() {
#pragma unroll
        for (int j = 0; j < NT; j++) { const int64_t tile = static_cast<int64_t>(ru) * NT + j; row[j] = row_of<KIND>(p, tile < a.tiles ? tile : a.tiles - 1, g) + k0; }
    };
    auto fetch = [&](uint4 (&b)[8]) {
        if (ru >= a.units) return;
#pragma unroll
        for (int s = 0; s < S; s++)
#pragma unroll
            for (int j = 0; j < NT; j++) b[s * NT + j] = rs + s < steps && k0 + 32 * (rs + s) < p.K ? read_once(row[j] + 32 * (rs + s)) : make_uint4(0, 0, 0, 0);
        if ((rs += S) < steps) return;
        rs = 0; ru += blocks;
        if (ru < a.units) aim();
    };
    uint4 b0[8], b1[8];
    if (ru < a.units) aim();
    fetch(b0); fetch(b1);
    lm_wait_before();
    rows_in(a, sx, rank);
    __syncthreads();
    int uu = first, us = 0, turn = 0;
    float acc[MT][NT][4] = {};
    const __nv_bfloat16 *mine = sx + warp * a.kw + 8 * t;
    auto use = [&](uint4 (&b)[8]) {
        if (uu >= a.units) return;
#pragma unroll
        for (int s = 0; s < S; s++) {
            if (us + s >= steps) break;
#pragma unroll
            for (int m = 0; m < MT; m++) {
                uint4 lo = make_uint4(0, 0, 0, 0), hi = lo;
                if (m * 16 + g < M) lo = *reinterpret_cast<const uint4 *>(mine + (m * 16 + g) * a.pitch + 32 * (us + s));
                if (m * 16 + 8 < M && m * 16 + 8 + g < M) hi = *reinterpret_cast<const uint4 *>(mine + (m * 16 + 8 + g) * a.pitch + 32 * (us + s));
#pragma unroll
                for (int j = 0; j < NT; j++) {
                    const uint4 w = b[s * NT + j];
                    mma(acc[m][j], lo.x, hi.x, lo.y, hi.y, w.x, w.y);
                    mma(acc[m][j], lo.z, hi.z, lo.w, hi.w, w.z, w.w);
                }
            }
        }
        if ((us += S) < steps) return;
        us = 0;
        float *mid = red + (turn % a.buffers) * WARPS * M * 8 * NT, *to = mid + warp * M * 8 * NT;
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int j = 0; j < NT; j++) {
                if (m * 16 + g < M) *reinterpret_cast<float2 *>(to + (m * 16 + g) * 8 * NT + j * 8 + 2 * t) = make_float2(acc[m][j][0], acc[m][j][1]);
                if (m * 16 + 8 + g < M) *reinterpret_cast<float2 *>(to + (m * 16 + 8 + g) * 8 * NT + j * 8 + 2 * t) = make_float2(acc[m][j][2], acc[m][j][3]);
#pragma unroll
                for (int e = 0; e < 4; e++) acc[m][j][e] = 0;
            }
        __syncthreads();
        /* pairs of columns: another warp begins each time */
        float *sum = part + (turn & 1) * M * 8 * NT;
        for (int e = (threadIdx.x + 32 * (WARPS - turn % WARPS)) % THREADS; e < M * 4 * NT; e += THREADS) {
            const int m = e / (4 * NT), j = e % (4 * NT) / 4, n = e % 4, at = m * 8 * NT + j * 8 + n;
            float u = 0, v = 0;
#pragma unroll
            for (int w = 0; w < WARPS; w++) { u += mid[w * M * 8 * NT + at]; v += mid[w * M * 8 * NT + at + 4]; }
            if (a.ks > 1) { sum[at] = u; sum[at + 4] = v; continue; }
            const int64_t tile = static_cast<int64_t>(uu) * NT + j;
            if (tile < a.tiles) finish<KIND>(p, m, tile, n, u, v);
        }
        if (a.ks > 1) {
            cluster_sync();
            for (int e = threadIdx.x * a.ks + rank; e < M * 4 * NT; e += THREADS * a.ks) {
                const int m = e / (4 * NT), j = e % (4 * NT) / 4, n = e % 4, at = m * 8 * NT + j * 8 + n;
                float u = 0, v = 0;
                for (int r = 0; r < a.ks; r++) { u += read_peer(sum + at, static_cast<unsigned>(r)); v += read_peer(sum + at + 4, static_cast<unsigned>(r)); }
                const int64_t tile = static_cast<int64_t>(uu) * NT + j;
                if (tile < a.tiles) finish<KIND>(p, m, tile, n, u, v);
            }
        } else if (a.buffers == 1) __syncthreads();
        uu += blocks; turn++;
    };
    while (uu < a.units) { use(b0); fetch(b0); use(b1); fetch(b1); }
    if (a.ks > 1) cluster_sync();
}
bool lm_skinny_takes(const lm_dev *d, const lm_cv *x, int64_t M, int64_t K, const lm_cv *w) {
    const lm_cv v[2] = { *x, *w };
    return d && (d->features & LM_CUDA_SM90) && w->bf16 && M >= 1 && M <= LM_SKINNY_ROWS && K >= 8 && K < 1 << 24 && lm_cuda_vec8(v, 2, K);
}
template <int MT, int NT> static lm_err launch(const args &a, unsigned grid, size_t shared, cudaStream_t s) {
    const unsigned c = static_cast<unsigned>(a.ks);
    switch (a.p.kind) {
    case LM_SKINNY_ADD: return lm_launch_early(stream<MT, NT, LM_SKINNY_ADD>, a, dim3(grid), THREADS, shared, c, true, s);
    case LM_SKINNY_GATED: return lm_launch_early(stream<MT, NT, LM_SKINNY_GATED>, a, dim3(grid), THREADS, shared, c, true, s);
    case LM_SKINNY_QKV: return lm_launch_early(stream<MT, NT, LM_SKINNY_QKV>, a, dim3(grid), THREADS, shared, c, true, s);
    default: return lm_launch_early(stream<MT, NT, LM_SKINNY_PLAIN>, a, dim3(grid), THREADS, shared, c, true, s);
    }
}
lm_err lm_skinny_run(const lm_dev *d, const lm_skinny *p, cudaStream_t s) {
    args a = {};
    a.p = *p;
    const int MT = p->M <= 16 ? 1 : p->M <= 32 ? 2 : 4, NT = MT == 1 ? 1 : 2, rows = MT == 1 && p->M <= 8 ? 8 : MT * 16;
    a.ks = 1;                                                           /* by the class of M alone, so that its bits have no other cause */
    do a.kw = static_cast<int>(lm_round_up(lm_ceil_div(p->K, WARPS * a.ks), 32)); while (static_cast<int64_t>(rows) * a.kw * WARPS * 2 > X_MOST && (a.ks *= 2) <= 8);
    if (a.ks > 8) return LM_E_UNSUPPORTED;
    a.pitch = a.kw * WARPS + 32; a.buffers = MT == 4 ? 1 : 2;
    int64_t n = 0;
    for (int i = 0; i < p->n_part; i++) n += p->part[i].rows;
    a.tiles = p->kind == LM_SKINNY_GATED ? p->part[0].rows / 4 : lm_ceil_div(n, 8);
    a.units = static_cast<int>(lm_ceil_div(a.tiles, NT));
    a.red_at = static_cast<unsigned>(p->M * a.pitch * 2);
    a.part_at = a.red_at + static_cast<unsigned>(a.buffers * WARPS * p->M * 8 * NT * 4);
    const size_t shared = a.part_at + (a.ks > 1 ? static_cast<size_t>(2 * p->M * 8 * NT * 4) : 0);
    const int64_t most = lm_max64(1, d->units / a.ks), each = lm_ceil_div(a.units, most);
    const unsigned grid = static_cast<unsigned>(lm_ceil_div(a.units, each) * a.ks);
    return MT == 1 ? launch<1, 1>(a, grid, shared, s) : MT == 2 ? launch<2, 2>(a, grid, shared, s) : launch<4, 2>(a, grid, shared, s);
}
