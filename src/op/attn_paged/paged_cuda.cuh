/* paged_cuda.cuh — attention over bf16 pages with products in bf16, on tensor cores; for attn_paged_cuda.cu.
 *
 *   few    a cluster of up to eight blocks has one row and one kv head (all query heads that read it, up to 16): each block has a part of
 *          the pages, each of its four warps 16 tokens of a page at a time, so that nothing is shared before the end; parts are joined by warps,
 *          then by blocks through the cluster's memory, in order. Weights are split into two bf16 numbers, so only the inputs are rounded.
 *          For heads of 32 and programs without code for 9.0a; else decode_hopper_cuda.cu does the same.
 *   many   a block has 64·MT consecutive rows and one query head; rows of one sequence walk its pages together, two pages in shared memory.
 *          For prompts where prompt_hopper_cuda.cu has nothing (heads of 32, a program without code for 9.0a); weights are rounded to bf16.
 * A row's bits depend on its own keys, on how many blocks share it (by the class of rows × heads) and on which of the two has it: up to 64
 * rows go to `few`; of more, those whose neighbours are mostly of other sequences do (up to 512 rows), the rest to `many`. In deterministic mode all go to `few`,
 * four blocks each, or to alone_hopper_cuda.cu, which has its bits. Keys lie sixteen
 * tokens side by side in a page (op/kv_write): the transposing load of matrix fragments reads them as they are. */
#ifndef LM_PAGED_CUDA_CUH
#define LM_PAGED_CUDA_CUH
#include "op/attn_paged/decode.cuh"
#include "op/overlap.cuh"
enum { PAGED_ALONE = 4,                                                   /* blocks of a row and head where that may not go by their number */
       PAGED_SPLIT = 8, PAGED_BLOCKS = 512, PAGED_FEW = 64, PAGED_BOTH = 512 };

/* 16 tokens of keys: pieces of 8 tokens of one dimension, two to a dimension, turned over so that eight dimensions never share a bank. */
__device__ __forceinline__ int key_piece(int d, int half) { return d * 2 + (half ^ (d >> 2 & 1)); }
__device__ __forceinline__ void copy16(void *to, const void *from, bool on) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(lm_smem(to)), "l"(from), "r"(on ? 16 : 0) : "memory");
}
/* Right operand of S for dimensions 16 ks … and the sixteen tokens: f[0], f[1] of the first eight, f[2], f[3] of the others. */
__device__ __forceinline__ void key_frag(uint32_t *f, const __nv_bfloat16 *k, int ks) {
    const int l = threadIdx.x % 32;
    lm_ldsm_t(f, k + key_piece(ks * 16 + l / 8 % 2 * 8 + l % 8, l / 16) * 8);
}
/* Left operand: rows r0 and r1 (this lane's two), dimensions 16 ks …; off rows are zero. */
__device__ __forceinline__ void query_frag(uint32_t *f, const lm_cv &q, int64_t at0, int64_t at1, bool on0, bool on1, int ks) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const int64_t at = (e & 1 ? at1 : at0) + ks * 16 + e / 2 * 8 + 2 * t;
        f[e] = (e & 1 ? on1 : on0) ? lm_pack2(lm_ld1(q, at), lm_ld1(q, at + 1)) : 0;
    }
}
__device__ __forceinline__ float peer(const float *p, unsigned rank) {
    float v = 0;
#if __CUDA_ARCH__ >= 900
    unsigned there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(lm_smem(p)), "r"(rank));
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(v) : "r"(there));
#endif
    return v;
}
__device__ __forceinline__ void cluster_meet() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}
template <int D> struct few_warp { __nv_bfloat16 k[2][16 * D], v[2][16 * (D + 8)]; };
template <int D> union few_mem { few_warp<D> w[4]; struct { float o[4][16][D], top[4][16], sum[4][16]; } end; };
template <int D> __global__ void __launch_bounds__(128) few(const __grid_constant__ paged a) {
    constexpr int KS = D / 16, DT = D / 8, P = D + 8;
    extern __shared__ __align__(128) char mem[];
    few_mem<D> &m = *reinterpret_cast<few_mem<D> *>(mem);
    __shared__ float bo[16][D], btop[16], bsum[16];
    const int rank = static_cast<int>(blockIdx.x % static_cast<unsigned>(a.split)), hk = static_cast<int>(blockIdx.y), G = a.heads / a.kv, lane = threadIdx.x % 32, w = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const int64_t n = blockIdx.x / static_cast<unsigned>(a.split);
    if (!a.early) lm_wait_before();
    int64_t pos = a.pos[n];
    const int64_t s = a.seq[n];
    if (a.choose && !scattered(a, n)) { lm_wait_before(); return; }       /* all blocks of the cluster alike */
    if (pos >= 0 && (s < 0 || s >= a.seqs || pos >= a.per * LM_KV_PAGE)) { if (a.fault) *a.fault = LM_E_RANGE; pos = -1; }
    const int64_t from = pos < 0 ? 0 : first_seen(a, pos), p0 = from / LM_KV_PAGE, count = pos < 0 ? 0 : pos / LM_KV_PAGE - p0 + 1, each = (count + a.split - 1) / a.split;
    const int64_t lo = p0 + rank * each, hi = lo + each < p0 + count ? lo + each : p0 + count;
    const int32_t *pages = a.table + s * a.per;
    auto base = [&](int64_t p) -> int64_t {                               /* this warp's tokens of page p */
        int64_t page = pages[p];
        if (page < 0 || page >= a.pages) { if (a.fault) *a.fault = LM_E_RANGE; page = 0; }
        return ((page * a.kv + hk) * LM_KV_PAGE + w * 16) * D;
    };
    if (a.early) {                                                        /* towards the second-level cache, which is safe even where a token is still to come */
        if (lo < hi) {
            const char *k = reinterpret_cast<const char *>(a.k + base(lo)), *v = reinterpret_cast<const char *>(a.v + base(lo));
            for (int i = lane * 128; i < 16 * D * 2; i += 32 * 128) {
                asm volatile("prefetch.global.L2 [%0];" ::"l"(k + i));
                asm volatile("prefetch.global.L2 [%0];" ::"l"(v + i));
            }
        }
        lm_wait_before();
    }
    lm_let_next_begin();                                                  /* its weights would be in the way of these pages */
    auto load = [&](int64_t p, int b) {
        if (p < hi) {
            const int64_t at = base(p), x = p * LM_KV_PAGE + w * 16;
            for (int i = lane; i < 2 * D; i += 32) copy16(&m.w[w].k[b][key_piece(i / 2, i % 2) * 8], a.k + at + i * 8, true);
            for (int i = lane; i < 2 * D; i += 32) { const int r = i / DT, c = i % DT * 8; copy16(&m.w[w].v[b][r * P + c], a.v + at + i * 8, x + r >= from && x + r <= pos); }
        }
        lm_tiles_commit();
    };
    load(lo, 0);
    uint32_t q[KS][4];
    const int64_t at = n * a.q.rs + static_cast<int64_t>(hk) * G * D;
#pragma unroll
    for (int ks = 0; ks < KS; ks++) query_frag(q[ks], a.q, at + g * D, at + (g + 8) * D, g < G, g + 8 < G, ks);
    const float s2 = a.scale * LM_LOG2E;
    float o[DT][4] = {}, top[2] = { -INFINITY, -INFINITY }, sum[2] = {};
    for (int64_t p = lo, b = 0; p < hi; p++, b ^= 1) {
        load(p + 1, static_cast<int>(b ^ 1));
        lm_tiles_wait<1>();
        __syncwarp();
        float c[2][4] = {};
#pragma unroll
        for (int ks = 0; ks < KS; ks++) {
            uint32_t f[4];
            key_frag(f, m.w[w].k[b], ks);
            lm_mma(c[0], q[ks], f[0], f[1]); lm_mma(c[1], q[ks], f[2], f[3]);
        }
        const int64_t x = p * LM_KV_PAGE + w * 16 + 2 * t;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float most = top[r];
#pragma unroll
            for (int j = 0; j < 2; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) { float &z = c[j][2 * r + e]; const int64_t y = x + 8 * j + e; z = y < from || y > pos ? -INFINITY : z * s2; most = fmaxf(most, z); }
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1)); most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
            const float zero = most == -INFINITY ? 0.0f : most, keep = lm_exp2(top[r] - zero);
            top[r] = most; sum[r] *= keep;
#pragma unroll
            for (int j = 0; j < 2; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) { float &z = c[j][2 * r + e]; z = lm_exp2(z - zero); sum[r] += z; }
#pragma unroll
            for (int d = 0; d < DT; d++) { o[d][2 * r] *= keep; o[d][2 * r + 1] *= keep; }
        }
        uint32_t big[4], small[4];
        lm_frag_of(big, c[0], c[1]);
        {
            float d0[4], d1[4];
#pragma unroll
            for (int e = 0; e < 4; e++) { d0[e] = c[0][e] - __bfloat162float(__float2bfloat16_rn(c[0][e])); d1[e] = c[1][e] - __bfloat162float(__float2bfloat16_rn(c[1][e])); }
            lm_frag_of(small, d0, d1);
        }
#pragma unroll
        for (int d = 0; d < DT; d += 2) {
            uint32_t f[4];
            lm_frag_b<P>(f, m.w[w].v[b], 0, d * 8);
            lm_mma(o[d], big, f[0], f[1]); lm_mma(o[d], small, f[0], f[1]);
            lm_mma(o[d + 1], big, f[2], f[3]); lm_mma(o[d + 1], small, f[2], f[3]);
        }
        __syncwarp();
    }
    lm_tiles_wait<0>();
    __syncthreads();                                                      /* tiles are done with: their memory is used again */
#pragma unroll
    for (int r = 0; r < 2; r++) {
        sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1); sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
        if (g + 8 * r >= G) continue;
        if (t == 0) { m.end.top[w][g + 8 * r] = top[r]; m.end.sum[w][g + 8 * r] = sum[r]; }
#pragma unroll
        for (int d = 0; d < DT; d++) *reinterpret_cast<float2 *>(&m.end.o[w][g + 8 * r][d * 8 + 2 * t]) = make_float2(o[d][2 * r], o[d][2 * r + 1]);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < G * D; i += 128) {
        const int h = i / D, d = i % D;
        float most = -INFINITY, y = 0, z = 0;
#pragma unroll
        for (int q4 = 0; q4 < 4; q4++) most = fmaxf(most, m.end.top[q4][h]);
        const float zero = most == -INFINITY ? 0.0f : most;
#pragma unroll
        for (int q4 = 0; q4 < 4; q4++) { const float f = lm_exp2(m.end.top[q4][h] - zero); y = fmaf(m.end.o[q4][h][d], f, y); z = fmaf(m.end.sum[q4][h], f, z); }
        bo[h][d] = y;
        if (d == 0) { btop[h] = most; bsum[h] = z; }
    }
    cluster_meet();
    for (int i = rank * 128 + threadIdx.x; i < G * D; i += 128 * a.split) {
        const int h = i / D, d = i % D;
        float tops[PAGED_SPLIT], most = -INFINITY, y = 0, z = 0;
#pragma unroll
        for (int r = 0; r < PAGED_SPLIT; r++) if (r < a.split) { tops[r] = peer(&btop[h], static_cast<unsigned>(r)); most = fmaxf(most, tops[r]); }
        const float zero = most == -INFINITY ? 0.0f : most;
#pragma unroll
        for (int r = 0; r < PAGED_SPLIT; r++) if (r < a.split) { const float f = lm_exp2(tops[r] - zero); y = fmaf(peer(&bo[h][d], static_cast<unsigned>(r)), f, y); z = fmaf(peer(&bsum[h], static_cast<unsigned>(r)), f, z); }
        lm_st1(a.o, n * a.o.rs + (static_cast<int64_t>(hk) * G + h) * D + d, z > 0 ? y / z : 0.0f);
    }
    cluster_meet();
}
template <int D> struct many_mem { __nv_bfloat16 k[2][LM_KV_PAGE * D], v[2][LM_KV_PAGE * (D + 8)]; };
template <int D, int MT> __global__ void __launch_bounds__(128) many(const __grid_constant__ paged a) {
    constexpr int KS = D / 16, DT = D / 8, P = D + 8, ROWS = 64 * MT;
    extern __shared__ __align__(128) char mem[];
    many_mem<D> &m = *reinterpret_cast<many_mem<D> *>(mem);
    __shared__ int row_pos[ROWS], row_seq[ROWS];
    const int h = static_cast<int>(blockIdx.y), hk = h / (a.heads / a.kv), lane = threadIdx.x % 32, w = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const int64_t n0 = static_cast<int64_t>(gridDim.x - 1 - blockIdx.x) * ROWS;      /* long rows first */
    const int rows = static_cast<int>(a.n - n0 < ROWS ? a.n - n0 : ROWS);
    lm_let_next_begin();
    lm_wait_before();
    if (a.choose && scattered(a, n0)) return;
    for (int i = threadIdx.x; i < ROWS; i += 128) {
        int x = i < rows ? a.pos[n0 + i] : -1; const int s = i < rows ? a.seq[n0 + i] : -1;
        if (x >= 0 && (s < 0 || s >= a.seqs || x >= a.per * LM_KV_PAGE)) { if (a.fault) *a.fault = LM_E_RANGE; x = -1; }
        row_pos[i] = x; row_seq[i] = x < 0 ? -1 : s;
    }
    __syncthreads();
    uint32_t q[MT][KS][4];
    int pos[MT][2], from[MT][2];
    float o[MT][DT][4] = {}, top[MT][2], sum[MT][2] = {};
#pragma unroll
    for (int i = 0; i < MT; i++) {
        const int r = (w * MT + i) * 16 + g;
        const int64_t at = (n0 + r) * a.q.rs + static_cast<int64_t>(h) * D;
#pragma unroll
        for (int ks = 0; ks < KS; ks++) query_frag(q[i][ks], a.q, at, at + 8 * a.q.rs, r < rows, r + 8 < rows, ks);
#pragma unroll
        for (int e = 0; e < 2; e++) { pos[i][e] = row_pos[r + 8 * e]; from[i][e] = static_cast<int>(pos[i][e] < 0 ? 0 : first_seen(a, pos[i][e])); top[i][e] = -INFINITY; }
    }
    const float s2 = a.scale * LM_LOG2E;
    for (int r0 = 0, r1; r0 < rows; r0 = r1) {                            /* rows [r0, r1) are of one sequence */
        const int s = row_seq[r0];
        int lo = INT32_MAX, hi = -1;
        for (r1 = r0; r1 < rows && row_seq[r1] == s; r1++) if (s >= 0) { hi = max(hi, row_pos[r1]); lo = min(lo, static_cast<int>(first_seen(a, row_pos[r1]))); }
        if (hi < 0) continue;
        const int p0 = lo / LM_KV_PAGE, p1 = hi / LM_KV_PAGE;
        auto load = [&](int p, int b) {
            if (p <= p1) {
                int64_t page = a.table[s * a.per + p];
                if (page < 0 || page >= a.pages) { if (a.fault) *a.fault = LM_E_RANGE; page = 0; }
                const int64_t at = (page * a.kv + hk) * LM_KV_PAGE * D;
                for (int i = threadIdx.x; i < LM_KV_PAGE * DT; i += 128) { const int j = i % (2 * D); copy16(&m.k[b][i / (2 * D) * 16 * D + key_piece(j / 2, j % 2) * 8], a.k + at + i * 8, true); }
                for (int i = threadIdx.x; i < LM_KV_PAGE * DT; i += 128) { const int r = i / DT, c = i % DT * 8; copy16(&m.v[b][r * P + c], a.v + at + i * 8, p * LM_KV_PAGE + r >= lo && p * LM_KV_PAGE + r <= hi); }
            }
            lm_tiles_commit();
        };
        load(p0, 0);
        for (int p = p0, b = 0; p <= p1; p++, b ^= 1) {
            load(p + 1, b ^ 1);
            lm_tiles_wait<1>();
            __syncthreads();
#pragma unroll
            for (int i = 0; i < MT; i++) {
                const int x0 = p * LM_KV_PAGE;
                const int r = (w * MT + i) * 16 + g;
                const bool on0 = r >= r0 && r < r1 && pos[i][0] >= x0, on1 = r + 8 >= r0 && r + 8 < r1 && pos[i][1] >= x0;
                if (!__any_sync(0xffffffffu, on0 || on1)) continue;        /* nobody of these rows sees this page */
                float c[8][4] = {};
#pragma unroll
                for (int j = 0; j < 4; j++)
#pragma unroll
                    for (int ks = 0; ks < KS; ks++) {
                        uint32_t f[4];
                        key_frag(f, m.k[b] + j * 16 * D, ks);
                        lm_mma(c[2 * j], q[i][ks], f[0], f[1]); lm_mma(c[2 * j + 1], q[i][ks], f[2], f[3]);
                    }
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const bool mine = e ? on1 : on0, all = __all_sync(0xffffffffu, mine && pos[i][e] >= x0 + LM_KV_PAGE - 1 && from[i][e] <= x0);
                    float most = top[i][e];
#pragma unroll
                    for (int j = 0; j < 8; j++)
#pragma unroll
                        for (int z = 0; z < 2; z++) {
                            float &y = c[j][2 * e + z];
                            const int x = x0 + j * 8 + 2 * t + z;
                            y = all || (mine && x >= from[i][e] && x <= pos[i][e]) ? y * s2 : -INFINITY;
                            most = fmaxf(most, y);
                        }
                    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1)); most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
                    const float zero = most == -INFINITY ? 0.0f : most, keep = lm_exp2(top[i][e] - zero);
                    top[i][e] = most; sum[i][e] *= keep;
#pragma unroll
                    for (int j = 0; j < 8; j++)
#pragma unroll
                        for (int z = 0; z < 2; z++) { float &y = c[j][2 * e + z]; y = lm_exp2(y - zero); sum[i][e] += y; }
#pragma unroll
                    for (int d = 0; d < DT; d++) { o[i][d][2 * e] *= keep; o[i][d][2 * e + 1] *= keep; }
                }
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    uint32_t wgt[4];
                    lm_frag_of(wgt, c[2 * j], c[2 * j + 1]);
#pragma unroll
                    for (int d = 0; d < DT; d += 2) {
                        uint32_t f[4];
                        lm_frag_b<P>(f, m.v[b], j * 16, d * 8);
                        lm_mma(o[i][d], wgt, f[0], f[1]); lm_mma(o[i][d + 1], wgt, f[2], f[3]);
                    }
                }
            }
            __syncthreads();
        }
        lm_tiles_wait<0>();
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            float z = sum[i][e];
            z += __shfl_xor_sync(0xffffffffu, z, 1); z += __shfl_xor_sync(0xffffffffu, z, 2);
            const float f = z > 0 ? 1.0f / z : 0.0f;
            const int r = (w * MT + i) * 16 + g + 8 * e;
            if (r >= rows) continue;
#pragma unroll
            for (int d = 0; d < DT; d++) lm_st2(a.o, (n0 + r) * a.o.rs + static_cast<int64_t>(h) * D + d * 8 + 2 * t, o[i][d][2 * e] * f, o[i][d][2 * e + 1] * f);
        }
}
template <int D> static lm_err few_run(const paged &x, bool hopper, cudaStream_t s) {
    if (hopper) return lm_paged_decode(x, D, s);
    return lm_launch_early(few<D>, x, dim3(static_cast<unsigned>(x.n * x.split), static_cast<unsigned>(x.kv)), 128, sizeof(few_mem<D>), static_cast<unsigned>(x.split), true, s);
}
/* c: NULL, or the call, which the Hopper form of prompts takes. hopper: few rows go to decode_hopper_cuda.cu. alone: a row's bits depend on its own
 * keys alone (LM_CUDA_ROW_ALONE) */
template <int D> static lm_err paged_run(const paged &a, const lm_call *c, bool hopper, bool alone, cudaStream_t s) {
    paged x = a;
    constexpr int MT = D <= 64 ? 2 : 1;
    if (a.kv > 65535 || a.heads > 65535) return LM_E_RANGE;
    if (alone) {
        x.split = PAGED_ALONE;
        if (!hopper || a.n <= PAGED_FEW) return few_run<D>(x, hopper, s);
        x.choose = a.n <= PAGED_BOTH;
        if (x.choose) LM_TRY(few_run<D>(x, hopper, s));
        return lm_paged_alone(x, D, s);
    }
    for (x.split = 1; x.split < PAGED_SPLIT && a.n * a.kv * x.split < PAGED_BLOCKS; x.split *= 2) {}
    x.choose = a.n > PAGED_FEW && a.n <= PAGED_BOTH;
    if (a.n <= PAGED_BOTH) LM_TRY(few_run<D>(x, hopper, s));
    if (a.n <= PAGED_FEW) return LM_OK;
    if (c) return lm_paged_prompt(x, D, static_cast<int *>(c->shared), c->dev->units, s);
    return lm_launch_early(many<D, MT>, x, dim3(LM_CUDA_GRID(a.n, 64 * MT), static_cast<unsigned>(a.heads)), 128, sizeof(many_mem<D>), 1, true, s);
}
/* Can these be taken? */
static bool paged_takes(const lm_call *c) {
    const lm_attn_p *p = static_cast<const lm_attn_p *>(c->p);
    const lm_cv v[2] = { lm_cv_of(&c->in[0]), lm_cv_of(&c->out[0]) };
    return c->dev && !lm_has(c, 6) && (c->dev->features & LM_CUDA_SM90) && p->mm == LM_BF16 && p->cap == 0 && c->in[1].dtype == LM_BF16 && p->n_head / p->n_kv <= 16 && (p->d_head == 64 || p->d_head == 128 || p->d_head == 32) && lm_cuda_vec8(v, 2, p->d_head);
}
#endif
