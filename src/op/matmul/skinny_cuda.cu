/* skinny_cuda.cu — see skinny.cuh; what rows.cuh does not take. Bound by reading the weights.
 *
 *   a unit is 8·NT rows of W and all of K (of the block's part of it); it comes in chunks of up to 2048/NT columns, row by row with the copy
 *   engine, into a ring in shared memory. One warp only asks for chunks: the ring's first ones before the kernel before this one is over.
 *   Eight warps have an eighth of each chunk's columns: a lane reads eight neighbours of one row at a time, so that a warp has 8 rows ×
 *   32 k, the right operand of two mma.m16n8k16 when k is counted in an order that both operands share. The rows of x lie in shared memory
 *   as bf16. The warps' sums meet there, and a few threads do what follows the product.
 *   Rows of x that do not fit: a cluster of blocks has parts of K, and its sums meet in the shared memory of the cluster. */
#include "op/matmul/finish.cuh"
#include "op/matmul/rows.cuh"
#include "op/overlap.cuh"

enum { WARPS = 8, THREADS = WARPS * 32, ALL = THREADS + 32 /* one warp more asks for the weights */, MOST_STAGES = 6, CHUNK = 2048, RING = 100 << 10, SHARED = 225 << 10, X_MOST = 132 << 10, PAD = 32 /* numbers */ };
/* span: columns that a block has; chunk: of them at a time; kw: a warp's of a chunk; pitch: of the rows of x */
struct args { lm_skinny p; int64_t tiles; int units, x_bulk, span, chunk, kw, ks, pitch, stages; unsigned ring_at, red_at, part_at; };

__device__ __forceinline__ unsigned at_shared(const void *p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }
__device__ __forceinline__ void bar_init(uint64_t *b, unsigned n) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at_shared(b)), "r"(n) : "memory"); }
__device__ __forceinline__ void bar_arrive(uint64_t *b) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at_shared(b)) : "memory"); }
__device__ __forceinline__ void bar_expect(uint64_t *b, unsigned bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at_shared(b)), "r"(bytes) : "memory");
#endif
}
__device__ __forceinline__ void bar_wait(uint64_t *b, unsigned parity) {
#if __CUDA_ARCH__ >= 900
    asm volatile("{\n.reg .pred p;\nAGAIN: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@p bra DONE;\nbra AGAIN;\nDONE:\n}" ::"r"(at_shared(b)), "r"(parity) : "memory");
#endif
}
__device__ __forceinline__ void bulk(void *to, const void *from, unsigned bytes, uint64_t *b) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(at_shared(to)), "l"(from), "r"(bytes), "r"(at_shared(b)) : "memory");
#endif
}
/* the same for what is read once: it goes from the second-level cache first, so that rows, tables and pages stay */
__device__ __forceinline__ void bulk_once(void *to, const void *from, unsigned bytes, uint64_t *b) {
#if __CUDA_ARCH__ >= 900
    uint64_t policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(at_shared(to)), "l"(from), "r"(bytes), "r"(at_shared(b)), "l"(policy) : "memory");
#endif
}
/* barriers are made: the copy engine and other blocks may use them */
__device__ __forceinline__ void bar_ready() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
/* the eight warps alone */
__device__ __forceinline__ void meet() { asm volatile("bar.sync 1, 256;" ::: "memory"); }
__device__ __forceinline__ void mma(float *c, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
__device__ __forceinline__ unsigned cluster_rank() {
    unsigned r = 0;
#if __CUDA_ARCH__ >= 900
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
#endif
    return r;
}
__device__ __forceinline__ void cluster_sync() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}
/* one arrival at a barrier of block `rank` of the cluster; what was written before it is seen by who waits there */
__device__ __forceinline__ void bar_arrive_at(uint64_t *b, unsigned rank) {
#if __CUDA_ARCH__ >= 900
    unsigned there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at_shared(b)), "r"(rank));
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(there) : "memory");
#endif
}
__device__ __forceinline__ void bar_wait_cluster(uint64_t *b, unsigned parity) {
#if __CUDA_ARCH__ >= 900
    asm volatile("{\n.reg .pred p;\nAGAIN: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n@p bra DONE;\nbra AGAIN;\nDONE:\n}" ::"r"(at_shared(b)), "r"(parity) : "memory");
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
/* Sums u and v of row m: columns n and n+4 of tile t. */
template <int KIND> __device__ __forceinline__ void finish(const lm_skinny &p, int m, int64_t t, int n, float u, float v) {
    if constexpr (KIND == LM_SKINNY_GATED) lm_finish_gated(p, m, t * 4 + n, u, v);
    else if constexpr (KIND == LM_SKINNY_QKV) {
        int64_t r = t * 8;
        int i = 0;
        while (i < 2 && r >= p.part[i].rows) r -= p.part[i++].rows;
        const int in = static_cast<int>(r % p.d), a = i == 2 ? in + n : in / 2 + n, b = i == 2 ? a + 4 : a + p.d / 2;       /* dimensions of the head */
        const bool turn = i < 2;
        lm_finish_qkv(p, m, i, r / p.d, a, b, u, v, turn ? lm_ld1(p.turn, m * p.turn.rs + a) : 0, turn ? lm_ld1(p.turn, m * p.turn.rs + p.d / 2 + a) : 0);
    } else
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int64_t at = t * 8 + n + e * 4;
            if (at >= p.part[0].rows) continue;
            const float y = lm_with_bias(p.part[0], at, e ? v : u);
            lm_st1(p.out, m * p.out.rs + at, KIND == LM_SKINNY_ADD ? lm_ld1(p.res, m * p.res.rs + at) + y : y);
        }
}
/* ---- the rows of x, on their way to shared memory ---------------------------------------------------------------------------------------------
 * A piece is eight neighbours, f32 or bf16: two loads either way and no branch, so that the loads of a loop are in flight together. The sum
 * of squares has one tree whoever makes it: 256 lanes with every 256th piece, 32 lanes by halves, then eight sums in order. */
typedef struct { uint4 a, b; } piece;
__device__ __forceinline__ piece load_piece(const lm_cv &v, int64_t at) {
    const char *p = static_cast<const char *>(v.p) + at * (v.bf16 ? 2 : 4);
    return { *reinterpret_cast<const uint4 *>(p), *reinterpret_cast<const uint4 *>(p + (v.bf16 ? 0 : 16)) };
}
__device__ __forceinline__ void numbers(const piece &x, int bf16, float *f) {
    float h[8];
    lm_unpack8(x.a, h);
    const uint32_t w[8] = { x.a.x, x.a.y, x.a.z, x.a.w, x.b.x, x.b.y, x.b.z, x.b.w };
#pragma unroll
    for (int e = 0; e < 8; e++) f[e] = bf16 ? h[e] : __uint_as_float(w[e]);
}
__device__ __forceinline__ float squares(const float *f, float s) {
#pragma unroll
    for (int e = 0; e < 8; e++) s = fmaf(f[e], f[e], s);
    return s;
}
__device__ __forceinline__ uint4 packed(const float *f) { return make_uint4(lm_pack2(f[0], f[1]), lm_pack2(f[2], f[3]), lm_pack2(f[4], f[5]), lm_pack2(f[6], f[7])); }
__device__ __forceinline__ uint4 normed(const lm_skinny &p, const float *f, const piece &w, float r) {
    float n[8], y[8];
    numbers(w, p.norm.bf16, n);
#pragma unroll
    for (int e = 0; e < 8; e++) y[e] = f[e] * r * (n[e] + p.offset);
    return packed(y);
}
/* A row by eight warps, up to MOST pieces a thread; to: where piece 0 goes; only pieces [lv0, lv1) are wanted, zeros beyond the row. */
enum { MOST_PIECES = LM_SKINNY_NORM / 8 / THREADS };
__device__ __forceinline__ void norm_row(const lm_skinny &p, int m, __nv_bfloat16 *to, int lv0, int lv1) {
    __shared__ float part[WARPS];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, n = static_cast<int>(p.K / 8);
    piece w[MOST_PIECES], x[MOST_PIECES];
    if (!p.fixed) lm_wait_before();
#pragma unroll
    for (int i = 0; i < MOST_PIECES; i++) if (const int v = threadIdx.x + i * THREADS; v < n) w[i] = load_piece(p.norm, v * 8);
    lm_wait_before();
    float s = 0;
#pragma unroll
    for (int i = 0; i < MOST_PIECES; i++) if (const int v = threadIdx.x + i * THREADS; v < n) x[i] = load_piece(p.x, m * p.x.rs + v * 8);
#pragma unroll
    for (int i = 0; i < MOST_PIECES; i++) if (const int v = threadIdx.x + i * THREADS; v < n) { float f[8]; numbers(x[i], p.x.bf16, f); s = squares(f, s); }
    s = lm_cuda_warp_sum(s);
    if (lane == 0) part[warp] = s;
    meet();
    float all = 0;
#pragma unroll
    for (int q = 0; q < WARPS; q++) all += part[q];
    const float r = 1.0f / sqrtf(all / static_cast<float>(p.K) + p.eps);
#pragma unroll
    for (int i = 0; i < MOST_PIECES; i++) {
        const int v = threadIdx.x + i * THREADS;
        if (v < lv0 || v >= lv1) continue;
        float f[8];
        if (v < n) numbers(x[i], p.x.bf16, f);
        *reinterpret_cast<uint4 *>(to + v * 8) = v < n ? normed(p, f, w[i], r) : make_uint4(0, 0, 0, 0);
    }
    meet();
}
/* By the eight warps; returns when all of it is there. */
__device__ __forceinline__ void rows_in(const args &a, __nv_bfloat16 *sx, int rank) {
    const lm_skinny &p = a.p;
    const int per = a.span / 8, lv0 = rank * per, n = static_cast<int>(p.K / 8);
    __nv_bfloat16 *to = sx - static_cast<int64_t>(rank) * a.span;
    if (p.norm.p) { norm_row(p, 0, to, lv0, lv0 + per); return; }        /* one row: see lm_skinny_run */
    lm_wait_before();
#pragma unroll 4
    for (int i = threadIdx.x; i < p.M * per; i += THREADS) {
        const int m = i / per, v = lv0 + i % per;
        float f[8];
        numbers(load_piece(p.x, m * p.x.rs + (v < n ? v : 0) * 8), p.x.bf16, f);
        *reinterpret_cast<uint4 *>(to + m * a.pitch + v * 8) = v < n ? packed(f) : make_uint4(0, 0, 0, 0);
    }
    meet();
}
/* The norm alone, a row to a block: for more rows than each block of the product would want to make again. */
static __global__ void __launch_bounds__(THREADS) norm_rows(const __grid_constant__ lm_skinny p) {
    lm_let_next_begin();
    norm_row(p, static_cast<int>(blockIdx.x), static_cast<__nv_bfloat16 *>(p.room) + static_cast<int64_t>(blockIdx.x) * p.K, 0, static_cast<int>(p.K / 8));
}
template <int MT, int NT, int KIND> __global__ void __launch_bounds__(ALL, MT == 1 ? 2 : 1) stream(const __grid_constant__ args a) {
    constexpr int ROWS = 8 * NT;
    extern __shared__ __align__(128) char mem[];
    __shared__ __align__(8) uint64_t full[MOST_STAGES], empty[MOST_STAGES], met, x_full;
    __nv_bfloat16 *sx = reinterpret_cast<__nv_bfloat16 *>(mem), *ring = reinterpret_cast<__nv_bfloat16 *>(mem + a.ring_at);
    float *red = reinterpret_cast<float *>(mem + a.red_at), *part = reinterpret_cast<float *>(mem + a.part_at);
    const lm_skinny &p = a.p;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4, M = p.M, wp = a.chunk + PAD;
    const int rank = a.ks > 1 ? static_cast<int>(cluster_rank()) : 0, blocks = static_cast<int>(gridDim.x) / a.ks, first = static_cast<int>(blockIdx.x) / a.ks;
    const int64_t k0 = static_cast<int64_t>(rank) * a.span, k1 = k0 + a.span < p.K ? k0 + a.span : p.K;       /* the block's columns */
    if (threadIdx.x == 0) {
        bar_init(&x_full, 1);
        for (int i = 0; i < a.stages; i++) { bar_init(&full[i], 1); bar_init(&empty[i], WARPS); }
        bar_init(&met, static_cast<unsigned>(a.ks));
        bar_ready();
    }
    if (a.ks > 1) cluster_sync(); else __syncthreads();
    if (warp == WARPS) {
        if (!p.fixed) lm_wait_before();
        int stage = 0, ahead = 0; unsigned parity = 1; bool asked = false;
        auto ask_x = [&]() {                                             /* rows of bf16 as they are */
            lm_wait_before();
            const unsigned bytes = static_cast<unsigned>((k1 - k0) * 2);
            if (lane == 0) bar_expect(&x_full, bytes * static_cast<unsigned>(M));
            __syncwarp();
            for (int m = lane; m < M; m += 32) bulk(sx + m * a.pitch, static_cast<const __nv_bfloat16 *>(p.x.p) + m * p.x.rs + k0, bytes, &x_full);
        };
        for (int u = first; u < a.units; u += blocks)
            for (int64_t k = k0; k < k1; k += a.chunk) {
                const unsigned bytes = static_cast<unsigned>((k + a.chunk < k1 ? a.chunk : k1 - k) * 2);
                bar_wait(&empty[stage], parity);
                if (lane == 0) bar_expect(&full[stage], bytes * ROWS);
                __syncwarp();
                if (lane < ROWS) {
                    const int64_t tile = static_cast<int64_t>(u) * NT + lane / 8;
                    bulk_once(ring + (stage * ROWS + lane) * wp, row_of<KIND>(p, tile < a.tiles ? tile : a.tiles - 1, lane % 8) + k, bytes, &full[stage]);
                }
                if (++stage == a.stages) { stage = 0; parity ^= 1; }
                if (a.x_bulk && !asked && (++ahead == a.stages || (u + blocks >= a.units && k + a.chunk >= k1))) { ask_x(); asked = true; }
            }
        if (a.ks > 1) cluster_sync();
        return;
    }
    if (a.x_bulk) { lm_wait_before(); bar_wait(&x_full, 0); } else rows_in(a, sx, rank);
    lm_let_next_begin();                                                /* not before: its weights would be in the way of these rows */
    int stage = 0, turn = 0; unsigned parity = 0;
    const __nv_bfloat16 *w0 = ring + g * wp + warp * a.kw + 8 * t, *x0 = sx + warp * a.kw + 8 * t;
    for (int u = first; u < a.units; u += blocks, turn++) {
        float acc[MT][NT][2][4] = {};
        for (int64_t k = k0; k < k1; k += a.chunk) {
            const int steps = static_cast<int>(k1 - k - warp * a.kw < a.kw ? (k1 - k - warp * a.kw + 31) / 32 : a.kw / 32), left = static_cast<int>(k1 - k) - warp * a.kw - 8 * t;
            const __nv_bfloat16 *w = w0 + stage * ROWS * wp, *x = x0 + (k - k0);
            bar_wait(&full[stage], parity);
#pragma unroll 4
            for (int s = 0; s < steps; s++) {
                uint4 b[NT];
#pragma unroll
                for (int j = 0; j < NT; j++) {
                    b[j] = *reinterpret_cast<const uint4 *>(w + j * 8 * wp + 32 * s);
                    if (32 * s >= left) b[j] = make_uint4(0, 0, 0, 0);
                }
#pragma unroll
                for (int m = 0; m < MT; m++) {                              /* rows beyond M are any row: what they give is not kept */
                    const int r0 = m * 16 + g < M ? m * 16 + g : M - 1, r1 = m * 16 + 8 + g < M ? m * 16 + 8 + g : M - 1;
                    const uint4 lo = *reinterpret_cast<const uint4 *>(x + r0 * a.pitch + 32 * s), hi = *reinterpret_cast<const uint4 *>(x + r1 * a.pitch + 32 * s);
#pragma unroll
                    for (int j = 0; j < NT; j++) {
                        mma(acc[m][j][0], lo.x, hi.x, lo.y, hi.y, b[j].x, b[j].y);
                        mma(acc[m][j][1], lo.z, hi.z, lo.w, hi.w, b[j].z, b[j].w);
                    }
                }
            }
            __syncwarp();
            if (lane == 0) bar_arrive(&empty[stage]);
            if (++stage == a.stages) { stage = 0; parity ^= 1; }
        }
        float *mid = red + (turn & 1) * WARPS * M * ROWS, *to = mid + warp * M * ROWS;
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int j = 0; j < NT; j++) {
                const float *c = acc[m][j][0], *d = acc[m][j][1];
                if (m * 16 + g < M) *reinterpret_cast<float2 *>(to + (m * 16 + g) * ROWS + j * 8 + 2 * t) = make_float2(c[0] + d[0], c[1] + d[1]);
                if (m * 16 + 8 + g < M) *reinterpret_cast<float2 *>(to + (m * 16 + 8 + g) * ROWS + j * 8 + 2 * t) = make_float2(c[2] + d[2], c[3] + d[3]);
            }
        meet();
        /* pairs of columns: another warp begins each time */
        float *sum = part + (turn & 1) * M * ROWS;
        for (int e = (threadIdx.x + 32 * (WARPS - turn % WARPS)) % THREADS; e < M * 4 * NT; e += THREADS) {
            const int m = e / (4 * NT), j = e % (4 * NT) / 4, n = e % 4, at = m * ROWS + j * 8 + n;
            float y = 0, z = 0;
#pragma unroll
            for (int q = 0; q < WARPS; q++) { y += mid[q * M * ROWS + at]; z += mid[q * M * ROWS + at + 4]; }
            if (a.ks > 1) { sum[at] = y; sum[at + 4] = z; continue; }
            const int64_t tile = static_cast<int64_t>(u) * NT + j;
            if (tile < a.tiles) finish<KIND>(p, m, tile, n, y, z);
        }
        if (a.ks > 1) {
            meet();
            if (threadIdx.x < static_cast<unsigned>(a.ks)) bar_arrive_at(&met, threadIdx.x);
            bar_wait_cluster(&met, turn & 1);
            for (int e = threadIdx.x * a.ks + rank; e < M * 4 * NT; e += THREADS * a.ks) {
                const int m = e / (4 * NT), j = e % (4 * NT) / 4, n = e % 4, at = m * ROWS + j * 8 + n;
                float y = 0, z = 0;
                for (int r = 0; r < a.ks; r++) { y += read_peer(sum + at, static_cast<unsigned>(r)); z += read_peer(sum + at + 4, static_cast<unsigned>(r)); }
                const int64_t tile = static_cast<int64_t>(u) * NT + j;
                if (tile < a.tiles) finish<KIND>(p, m, tile, n, y, z);
            }
        }
    }
    if (a.ks > 1) cluster_sync();                                      /* nobody leaves while its sums are read */
}
bool lm_skinny_takes(const lm_dev *d, const lm_cv *x, int64_t M, int64_t K, const lm_cv *w) {
    const lm_cv v[2] = { *x, *w };
    const int64_t rows = M <= 8 ? 8 : M <= 16 ? 16 : 32;
    if (d && d->features & LM_CUDA_WGMMA && M >= 1 && (M <= LM_ROWS || d->features & LM_CUDA_ROW_ALONE) && K >= LM_ROWS_K && x->bf16 && w->bf16 && lm_cuda_vec8(v, 2, K)) return true;
    if (d && d->features & LM_CUDA_ROW_ALONE) return false;                                                /* the order of what follows is of the class of M */
    if (rows * (lm_round_up(lm_ceil_div(K, 8), 256) + PAD) * 2 > X_MOST) return false;                     /* not even in eight parts */
    return d && (d->features & LM_CUDA_SM90) && w->bf16 && M >= 1 && M <= LM_SKINNY_ROWS && K >= 8 && K < 1 << 24 && lm_cuda_vec8(v, 2, K);
}
template <int MT, int NT> static lm_err launch(const args &a, unsigned grid, size_t shared, cudaStream_t s) {
    const unsigned c = static_cast<unsigned>(a.ks);
    switch (a.p.kind) {
    case LM_SKINNY_ADD: return lm_launch_early(stream<MT, NT, LM_SKINNY_ADD>, a, dim3(grid), ALL, shared, c, true, s);
    case LM_SKINNY_GATED: return lm_launch_early(stream<MT, NT, LM_SKINNY_GATED>, a, dim3(grid), ALL, shared, c, true, s);
    case LM_SKINNY_QKV: return lm_launch_early(stream<MT, NT, LM_SKINNY_QKV>, a, dim3(grid), ALL, shared, c, true, s);
    default: return lm_launch_early(stream<MT, NT, LM_SKINNY_PLAIN>, a, dim3(grid), ALL, shared, c, true, s);
    }
}
lm_err lm_skinny_run(const lm_dev *d, const lm_skinny *p, cudaStream_t s) {
    if (p->norm.p && p->K > LM_SKINNY_NORM) return LM_E_UNSUPPORTED;
    if (p->norm.p) {
        lm_skinny q = *p;
        q.norm.p = NULL; q.x.p = p->room; q.x.rs = p->K; q.x.bf16 = 1;
        if (p->M > 1 || lm_rows_takes(d, &q)) {
            LM_TRY(lm_launch_early(norm_rows, *p, dim3(static_cast<unsigned>(p->M)), THREADS, 0, 1, true, s));
            return lm_skinny_run(d, &q, s);
        }
    }
    if (lm_rows_takes(d, p)) return lm_rows_run(d, p, s);
    if (p->M > LM_SKINNY_ROWS || p->parts || p->next) return LM_E_UNSUPPORTED;
    args a = {};
    a.p = *p;
    const int MT = p->M <= 16 ? 1 : 2, NT = MT == 1 ? 1 : 2, rows = MT == 1 && p->M <= 8 ? 8 : MT * 16;
    const size_t rest = static_cast<size_t>(2 * WARPS + 2) * p->M * 8 * NT * 4;
    /* parts of K and the size of a chunk go by the class of M and by K alone, so that bits have no other cause */
    for (a.ks = 1; a.ks <= 8; a.ks *= 2) {
        a.span = static_cast<int>(lm_round_up(lm_ceil_div(p->K, a.ks), 256));
        a.pitch = a.span + PAD;
        if (static_cast<size_t>(rows * a.pitch) * 2 <= X_MOST) break;
    }
    if (a.ks > 8) return LM_E_UNSUPPORTED;
    a.chunk = a.span < CHUNK / NT ? a.span : CHUNK / NT; if (MT > 1 && a.chunk > 512) a.chunk = 512; a.kw = a.chunk / WARPS;
    a.x_bulk = p->M > 1 && !p->norm.p && p->x.bf16 && static_cast<int64_t>(a.ks) * a.span == p->K;
    const size_t stage = static_cast<size_t>(8 * NT * (a.chunk + PAD)) * 2, x = static_cast<size_t>(p->M) * a.pitch * 2;
    const size_t ring = x + RING + rest <= SHARED ? RING : x + rest < SHARED ? SHARED - x - rest : 0;
    a.stages = static_cast<int>(ring / stage < MOST_STAGES ? ring / stage : MOST_STAGES);
    if (a.stages < 1) return LM_E_UNSUPPORTED;
    int64_t n = 0;
    for (int i = 0; i < p->n_part; i++) n += p->part[i].rows;
    a.tiles = p->kind == LM_SKINNY_GATED ? p->part[0].rows / 4 : lm_ceil_div(n, 8);
    a.units = static_cast<int>(lm_ceil_div(a.tiles, NT));
    a.ring_at = static_cast<unsigned>(lm_round_up(static_cast<int64_t>(x), 128));
    a.red_at = static_cast<unsigned>(lm_round_up(static_cast<int64_t>(a.ring_at + a.stages * stage), 128));
    a.part_at = a.red_at + static_cast<unsigned>(2 * WARPS * p->M * 8 * NT * 4);
    const size_t shared = a.part_at + (a.ks > 1 ? static_cast<size_t>(2 * p->M * 8 * NT * 4) : 0);
    const int64_t most = lm_max64(1, d->units / a.ks), each = lm_ceil_div(a.units, most);
    const unsigned grid = static_cast<unsigned>(lm_ceil_div(a.units, each) * a.ks);
    return MT == 1 ? launch<1, 1>(a, grid, shared, s) : launch<2, 2>(a, grid, shared, s);
}
