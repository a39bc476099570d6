/* attn_grad_cuda.cu — the gradient of attention without float atomics: one kernel has the queries and makes dq, one has the keys and makes
 * dk and dv (one has each for heads of 256, whose two sums would be all registers of a thread). Each recomputes P from lse, so seven (eight) products
 * are done where five with atomics would do; results have one order.
 *
 *   prepare: D_i = dO_i·o_i - dlse_i; the least first key of every 64 queries, so that a tile of keys knows which queries can see it
 *   dq:      S = Q Kᵀ, dP = dO Vᵀ, dS = P (dP - D), dq += dS K             (four warps, 64 queries; tiles of keys)
 *   dk, dv:  Sᵀ = K Qᵀ, dPᵀ = V dOᵀ, dv += Pᵀ dO, dk += dSᵀ Q             (four warps, 64 keys; tiles of queries of all heads that read this kv head)
 *   plain:   the same with a warp per query and a warp per key, for f32 and other head sizes. */
#include "op/attn/attn.cuh"
struct args { lm_attn_args f; lm_cv go, dq, dk, dv; const float *lse, *glse; float *delta; int *least, *most; bool has_go; };

static __global__ void __launch_bounds__(128) prepare(const args a) {
    const int lane = threadIdx.x % 32; const int64_t id = static_cast<int64_t>(blockIdx.x) * 4 + threadIdx.x / 32;
    if (id >= a.f.n * a.f.heads) return;
    const int64_t i = id / a.f.heads; const int h = static_cast<int>(id % a.f.heads);
    float s = 0;
    if (a.has_go)
        for (int d = lane; d < a.f.d; d += 32)
            s += lm_ld1(a.go, i * a.go.rs + static_cast<int64_t>(h) * a.f.d + d) * lm_ld1(a.f.o, i * a.f.o.rs + static_cast<int64_t>(h) * a.f.d + d);
    s = lm_cuda_warp_sum(s);
    if (lane == 0) a.delta[id] = s - (a.glse ? a.glse[id] : 0.0f);
}
static __global__ void __launch_bounds__(LM_ATTN_ROWS) firsts(const args a) {
    __shared__ int t[2][LM_ATTN_ROWS];
    const int64_t i = static_cast<int64_t>(blockIdx.x) * LM_ATTN_ROWS + threadIdx.x;
    t[0][threadIdx.x] = i < a.f.n ? lm_first_key(a.f.start, a.f.window, i) : INT32_MAX;
    t[1][threadIdx.x] = i < a.f.n ? t[0][threadIdx.x] : 0;
    __syncthreads();
    for (int h = LM_ATTN_ROWS / 2; h; h /= 2) {
        if (threadIdx.x < h) {
            t[0][threadIdx.x] = min(t[0][threadIdx.x], t[0][threadIdx.x + h]);
            t[1][threadIdx.x] = max(t[1][threadIdx.x], t[1][threadIdx.x + h]);
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) { a.least[blockIdx.x] = t[0][0]; a.most[blockIdx.x] = t[1][0]; }
}
/* The last block of queries that sees a key up to `key`; each warp finds it. */
__device__ __forceinline__ int last_block(const args &a, int from, int key) {
    const int n = static_cast<int>((a.f.n + LM_ATTN_ROWS - 1) / LM_ATTN_ROWS);
    int last = from;
    for (int b = from + static_cast<int>(threadIdx.x) % 32; b < n; b += 32) if (a.least[b] <= key) last = max(last, b);
#pragma unroll
    for (int s = 16; s; s /= 2) last = max(last, __shfl_xor_sync(0xffffffffu, last, s));
    return last;
}

/* ---- tensor cores: dq. A warp has 16·MT queries; HELD: their fragments stay in registers. ---- */
template <int D, int MT, int BC> struct dq_tiles {
    __nv_bfloat16 q[64 * MT * (D + 8)], go[64 * MT * (D + 8)], k[2][BC * (D + 8)], v[2][BC * (D + 8)];
};
template <int D, int MT, int BC> __global__ void __launch_bounds__(128) dq_kernel(const args a) {
    constexpr int P = D + 8, NT = BC / 8, DT = D / 8, KS = D / 16, R = 64 * MT; constexpr bool HELD = D <= 64;
    extern __shared__ __align__(16) char mem[];
    dq_tiles<D, MT, BC> &t = *reinterpret_cast<dq_tiles<D, MT, BC> *>(mem);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, h = blockIdx.y, hk = h / (a.f.heads / a.f.kv), n = static_cast<int>(a.f.n);
    const int qb = static_cast<int>(gridDim.x - 1 - blockIdx.x), q0 = qb * R, row0 = q0 + warp * 16 * MT + lane / 4;
    const int64_t ch = static_cast<int64_t>(h) * D, ck = static_cast<int64_t>(hk) * D;
    lm_tiles_load<D, R, 128>(t.q, t.go, a.f.q, a.go, q0, a.f.n, ch);
    const float s2 = a.f.scale * LM_LOG2E;
    int first[MT][2], lo = INT32_MAX, hi = 0; float lse[MT][2], delta[MT][2];
#pragma unroll
    for (int m = 0; m < MT; m++) {
        if (q0 + m * 64 < n) { lo = min(lo, a.least[q0 / 64 + m]); hi = max(hi, a.most[q0 / 64 + m]); }
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int r = row0 + m * 16 + e * 8; const int64_t at = static_cast<int64_t>(r) * a.f.heads + h;
            first[m][e] = r < n ? lm_first_key(a.f.start, a.f.window, r) : INT32_MAX;
            lse[m][e] = r < n ? a.lse[at] * LM_LOG2E : 0.0f;
            delta[m][e] = r < n ? a.delta[at] : 0.0f;
        }
    }
    const int j0 = lo / BC * BC, end = min(n, q0 + R);
    uint32_t held_q[HELD ? KS : 1][MT][4], held_g[HELD ? KS : 1][MT][4];
    float dq[MT][DT][4] = {};
    lm_tiles_load<D, BC, 128>(t.k[0], t.v[0], a.f.k, a.f.v, j0, a.f.n, ck);
    lm_tiles_commit();
    for (int j = j0, b = 0; j < end; j += BC, b ^= 1) {
        if (j + BC < end) lm_tiles_load<D, BC, 128>(t.k[b ^ 1], t.v[b ^ 1], a.f.k, a.f.v, j + BC, a.f.n, ck);
        lm_tiles_commit();
        lm_tiles_wait<1>();
        __syncthreads();
        if (HELD && j == j0) {
            lm_hold<P, MT, HELD ? KS : 1>(held_q, t.q, warp * MT * 16);
            lm_hold<P, MT, HELD ? KS : 1>(held_g, t.go, warp * MT * 16);
        }
        float s[MT][NT][4] = {}, dp[MT][NT][4] = {};
#pragma unroll
        for (int k = 0; k < KS; k++) {
            lm_scores<P, MT, NT, HELD>(s, held_q[HELD ? k : 0], t.q, warp * MT * 16, t.k[b], k);
            lm_scores<P, MT, NT, HELD>(dp, held_g[HELD ? k : 0], t.go, warp * MT * 16, t.v[b], k);
        }
        const bool masked = j < hi || j + BC > q0 + 1;
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int x = 0; x < NT; x++)
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    const int e = c / 2, r = row0 + m * 16 + e * 8, key = j + x * 8 + lane % 4 * 2 + c % 2;
                    float p = lm_exp2(fmaf(s[m][x][c], s2, -lse[m][e]));
                    if (masked && (key < first[m][e] || key > r)) p = 0;
                    s[m][x][c] = p * (dp[m][x][c] - delta[m][e]);
                }
#pragma unroll
        for (int k = 0; k < BC / 16; k++) lm_weighted<P, MT, NT, DT>(dq, s, t.k[b], k);
        __syncthreads();
    }
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int r = row0 + m * 16 + e * 8;
            if (r >= n) continue;
            lm_put_row<DT>(a.dq, r * a.dq.rs + ch, dq[m], e, a.f.scale);
        }
}

/* ---- tensor cores: dk and dv. A warp has 16·MT keys. ---- */
/* lse, D and first key of the queries in q: three lists, or, for heads of 256, whose tiles are 99 KB (all there is on many cards), behind the rows of q */
template <int D, int BQ> struct kv_rows {
    float list[3][2][BQ];
    __device__ __forceinline__ float &of(int what, int b, int i, __nv_bfloat16 *) { return list[what][b][i]; }
};
template <int BQ> struct kv_rows<256, BQ> {
    __device__ __forceinline__ float &of(int what, int, int i, __nv_bfloat16 *q) { return reinterpret_cast<float *>(q + i * 264 + 256)[what]; }
};
template <int D, int MT, int BQ> struct kv_tiles : kv_rows<D, BQ> {
    __nv_bfloat16 k[64 * MT * (D + 8)], v[64 * MT * (D + 8)], q[2][BQ * (D + 8)], go[2][BQ * (D + 8)];
    __device__ __forceinline__ float &lse(int b, int i) { return this->of(0, b, i, q[b]); }
    __device__ __forceinline__ float &delta(int b, int i) { return this->of(1, b, i, q[b]); }
    __device__ __forceinline__ float &first(int b, int i) { return this->of(2, b, i, q[b]); }
};
static_assert(sizeof(kv_tiles<256, 1, 16>) <= 99 * 1024, "shared memory of a block");
template <int D, int MT, int BQ> __device__ __forceinline__ void load_queries(kv_tiles<D, MT, BQ> &t, const args &a, int b, int q, int h) {
    lm_tiles_load<D, BQ, 128>(t.q[b], t.go[b], a.f.q, a.go, q, a.f.n, static_cast<int64_t>(h) * D);
    for (int i = threadIdx.x; i < BQ; i += 128) {
        const int64_t r = q + i; const bool in = r < a.f.n;
        t.lse(b, i) = in ? a.lse[r * a.f.heads + h] * LM_LOG2E : 0.0f; t.delta(b, i) = in ? a.delta[r * a.f.heads + h] : 0.0f;
        t.first(b, i) = __int_as_float(in ? lm_first_key(a.f.start, a.f.window, r) : INT32_MAX);
    }
}
template <int D, int MT, int BQ, bool DK, bool DV> __global__ void __launch_bounds__(128) kv_kernel(const args a) {
    constexpr int P = D + 8, NT = BQ / 8, DT = D / 8, KS = D / 16, R = 64 * MT;
    extern __shared__ __align__(16) char mem[];
    kv_tiles<D, MT, BQ> &t = *reinterpret_cast<kv_tiles<D, MT, BQ> *>(mem);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, hk = blockIdx.y, group = a.f.heads / a.f.kv, n = static_cast<int>(a.f.n),
              k0 = blockIdx.x * R, key0 = k0 + warp * 16 * MT + lane / 4;
    const int64_t ck = static_cast<int64_t>(hk) * D;
    lm_tiles_load<D, R, 128>(t.k, t.v, a.f.k, a.f.v, k0, a.f.n, ck);
    lm_tiles_commit();
    const float s2 = a.f.scale * LM_LOG2E;
    float dk[MT][DT][4] = {}, dv[MT][DT][4] = {};
    const int last = last_block(a, k0 / LM_ATTN_ROWS, min(k0 + R - 1, n - 1)), end = min(n, (last + 1) * LM_ATTN_ROWS),
              steps = (end - k0 + BQ - 1) / BQ;
    load_queries<D, MT, BQ>(t, a, 0, k0, hk * group);
    lm_tiles_commit();
    for (int i = 0, b = 0; i < steps * group; i++, b ^= 1) {
        if (i + 1 < steps * group) load_queries<D, MT, BQ>(t, a, b ^ 1, k0 + (i + 1) % steps * BQ, hk * group + (i + 1) / steps);
        lm_tiles_commit();
        lm_tiles_wait<1>();
        __syncthreads();
        const int q = k0 + i % steps * BQ;
        if (a.least[q / LM_ATTN_ROWS] < k0 + R) {                           /* the same for all threads: these queries see some of these keys */
            const bool masked = q < k0 + R || a.most[q / LM_ATTN_ROWS] > k0;
            float s[MT][NT][4] = {}, dp[MT][NT][4] = {};
#pragma unroll
            for (int k = 0; k < KS; k++) {
                lm_scores<P, MT, NT, false>(s, NULL, t.k, warp * MT * 16, t.q[b], k);
                if (DK) lm_scores<P, MT, NT, false>(dp, NULL, t.v, warp * MT * 16, t.go[b], k);
            }
#pragma unroll
            for (int x = 0; x < NT; x++)
#pragma unroll
                for (int o = 0; o < 2; o++) {
                    const int at = x * 8 + lane % 4 * 2 + o, from = __float_as_int(t.first(b, at)); const float lse = t.lse(b, at), delta = t.delta(b, at);
#pragma unroll
                    for (int m = 0; m < MT; m++)
#pragma unroll
                        for (int e = 0; e < 2; e++) {
                            const int c = e * 2 + o, key = key0 + m * 16 + e * 8;
                            float p = lm_exp2(fmaf(s[m][x][c], s2, -lse));
                            if (masked && (key < from || key > q + at)) p = 0;
                            dp[m][x][c] = p * (dp[m][x][c] - delta);
                            s[m][x][c] = p;
                        }
                }
#pragma unroll
            for (int k = 0; k < BQ / 16; k++) {
                if (DV) lm_weighted<P, MT, NT, DT>(dv, s, t.go[b], k);
                if (DK) lm_weighted<P, MT, NT, DT>(dk, dp, t.q[b], k);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int r = key0 + m * 16 + e * 8;
            if (r >= n) continue;
            if (DK) lm_put_row<DT>(a.dk, r * a.dk.rs + ck, dk[m], e, a.f.scale);
            if (DV) lm_put_row<DT>(a.dv, r * a.dv.rs + ck, dv[m], e, 1.0f);
        }
}
template <int D, int MK, int BQ, bool DK, bool DV> static lm_err keys(const args &a, cudaStream_t s) {
    constexpr int bytes = static_cast<int>(sizeof(kv_tiles<D, MK, BQ>));
    if (cudaFuncSetAttribute(kv_kernel<D, MK, BQ, DK, DV>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) != cudaSuccess) return LM_E_DEVICE;
    kv_kernel<D, MK, BQ, DK, DV><<<dim3(LM_CUDA_GRID(a.f.n, 64 * MK), static_cast<unsigned>(a.f.kv)), 128, bytes, s>>>(a);
    return lm_cuda_launched();
}
template <int D, int MQ, int BC, int MK, int BQ> static lm_err launch(const args &a, cudaStream_t s) {
    constexpr int bytes = static_cast<int>(sizeof(dq_tiles<D, MQ, BC>));
    if (cudaFuncSetAttribute(dq_kernel<D, MQ, BC>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) != cudaSuccess) return LM_E_DEVICE;
    dq_kernel<D, MQ, BC><<<dim3(LM_CUDA_GRID(a.f.n, 64 * MQ), static_cast<unsigned>(a.f.heads)), 128, bytes, s>>>(a);
    LM_TRY(lm_cuda_launched());
    if constexpr (D < 256) return keys<D, MK, BQ, true, true>(a, s);
    else { LM_TRY((keys<D, MK, BQ, false, true>(a, s))); return keys<D, MK, BQ, true, false>(a, s); }
}

/* ---- plain -------------------------------------------------------------------------------------------------------------------------- */
enum { PER = LM_ATTN_MAX_D / 32 };
static __global__ void __launch_bounds__(128) plain_dq(const args a) {
    __shared__ float sq[4][LM_ATTN_MAX_D], sg[4][LM_ATTN_MAX_D];
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32; const int64_t id = static_cast<int64_t>(blockIdx.x) * 4 + w, i = id / a.f.heads;
    const int h = static_cast<int>(id % a.f.heads), hk = h / (a.f.heads / a.f.kv), D = a.f.d;
    const int64_t ch = static_cast<int64_t>(h) * D, ck = static_cast<int64_t>(hk) * D;
    if (i >= a.f.n) return;
    for (int d = lane; d < D; d += 32) {
        sq[w][d] = lm_in(a.f.q, i * a.f.q.rs + ch + d, a.f.round);
        sg[w][d] = a.has_go ? lm_ld1(a.go, i * a.go.rs + ch + d) : 0.0f;
    }
    __syncwarp();
    float dq[PER] = {};
    const float lse = a.lse[id], delta = a.delta[id];
    for (int64_t j = lm_first_key(a.f.start, a.f.window, i); j <= i; j += 32) {
        float ds = 0;
        if (j + lane <= i) {
            const float s = lm_plain_score(a.f, lm_plain_dot(sq[w], a.f.k, (j + lane) * a.f.k.rs + ck, D, a.f.round)),
                        dp = lm_plain_dot(sg[w], a.f.v, (j + lane) * a.f.v.rs + ck, D, a.f.round);
            ds = a.f.scale * lm_plain_slope(a.f, s) * expf(s - lse) * (dp - delta);
        }
        const int m = static_cast<int>(i - j + 1 < 32 ? i - j + 1 : 32);
        for (int q = 0; q < m; q++) lm_plain_add(dq, __shfl_sync(0xffffffffu, ds, q), a.f.k, (j + q) * a.f.k.rs + ck, D, a.f.round);
    }
    lm_plain_put(a.dq, i * a.dq.rs + ch, dq, D, 1.0f);
}
static __global__ void __launch_bounds__(128) plain_kv(const args a) {
    __shared__ float sk[4][LM_ATTN_MAX_D], sv[4][LM_ATTN_MAX_D];
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32; const int64_t id = static_cast<int64_t>(blockIdx.x) * 4 + w, j = id / a.f.kv;
    const int hk = static_cast<int>(id % a.f.kv), group = a.f.heads / a.f.kv, D = a.f.d; const int64_t ck = static_cast<int64_t>(hk) * D;
    if (j >= a.f.n) return;
    for (int d = lane; d < D; d += 32) {
        sk[w][d] = lm_in(a.f.k, j * a.f.k.rs + ck + d, a.f.round);
        sv[w][d] = lm_in(a.f.v, j * a.f.v.rs + ck + d, a.f.round);
    }
    __syncwarp();
    float dk[PER] = {}, dv[PER] = {};
    for (int g = 0; g < group; g++) {
        const int h = hk * group + g; const int64_t ch = static_cast<int64_t>(h) * D;
        for (int64_t b = j / LM_ATTN_ROWS; b * LM_ATTN_ROWS < a.f.n; b++) {
            if (a.least[b] > j) continue;
            for (int half = 0; half < LM_ATTN_ROWS; half += 32) {
                const int64_t i0 = b * LM_ATTN_ROWS + half, i = i0 + lane; float p = 0, ds = 0;
                if (i < a.f.n && i >= j && lm_first_key(a.f.start, a.f.window, i) <= j) {
                    const float s = lm_plain_score(a.f, lm_plain_dot(sk[w], a.f.q, i * a.f.q.rs + ch, D, a.f.round)),
                                dp = a.has_go ? lm_plain_dot(sv[w], a.go, i * a.go.rs + ch, D, false) : 0.0f;
                    p = expf(s - a.lse[i * a.f.heads + h]);
                    ds = a.f.scale * lm_plain_slope(a.f, s) * p * (dp - a.delta[i * a.f.heads + h]);
                }
                for (int q = 0; q < 32 && i0 + q < a.f.n; q++) {
                    const float x = __shfl_sync(0xffffffffu, ds, q), y = __shfl_sync(0xffffffffu, p, q);
                    if (x == 0 && y == 0) continue;
                    lm_plain_add(dk, x, a.f.q, (i0 + q) * a.f.q.rs + ch, D, a.f.round);
                    if (a.has_go) lm_plain_add(dv, y, a.go, (i0 + q) * a.go.rs + ch, D, false);
                }
            }
        }
    }
    lm_plain_put(a.dk, j * a.dk.rs + ck, dk, D, 1.0f);
    lm_plain_put(a.dv, j * a.dv.rs + ck, dv, D, 1.0f);
}

static size_t up(size_t n) { return (n + 255) & ~static_cast<size_t>(255); }
static size_t shared(const lm_call *c) {
    const int64_t n = c->in[0].dim[0]; const lm_attn_p *p = static_cast<const lm_attn_p *>(c->p);
    return up(static_cast<size_t>(n * p->n_head) * 4) + 2 * up(static_cast<size_t>(n / LM_ATTN_ROWS + 1) * 4);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const cudaStream_t s = LM_CUDA_STREAM(scratch);
    args a = {};
    a.f = lm_attn_args_of(c);
    const int64_t n = a.f.n, blocks = lm_ceil_div(n, LM_ATTN_ROWS);
    if (!n) return LM_OK;
    if (n > INT32_MAX / 2) return LM_E_RANGE;
    a.f.o = lm_cv_of(&c->in[4]);
    a.lse = static_cast<const float *>(c->in[5].data);
    a.has_go = lm_has(c, 6);
    a.glse = lm_has(c, 7) ? static_cast<const float *>(c->in[7].data) : NULL;
    if (a.has_go) a.go = lm_cv_of(&c->in[6]);
    a.dq = lm_cv_of(&c->out[0]); a.dk = lm_cv_of(&c->out[1]); a.dv = lm_cv_of(&c->out[2]);
    char *at = static_cast<char *>(c->shared);
    a.delta = reinterpret_cast<float *>(at); at += up(static_cast<size_t>(n * a.f.heads) * 4);
    a.least = reinterpret_cast<int *>(at); a.most = reinterpret_cast<int *>(at + up(static_cast<size_t>(n / LM_ATTN_ROWS + 1) * 4));
    prepare<<<LM_CUDA_GRID(n * a.f.heads, 4), 128, 0, s>>>(a);
    firsts<<<static_cast<unsigned>(blocks), LM_ATTN_ROWS, 0, s>>>(a);
    const lm_cv v[4] = { a.go, a.dq, a.dk, a.dv };
    int device = 0, room = 0;                                              /* shared memory of a block: 99 KB on many cards */
    if (cudaGetDevice(&device) != cudaSuccess || cudaDeviceGetAttribute(&room, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != cudaSuccess) return LM_E_DEVICE;
    const bool wide = room >= static_cast<int>(sizeof(dq_tiles<128, 1, 64>));
    if (a.has_go && lm_attn_wide(&a.f) && lm_cuda_vec8(v, 4, a.f.d)) switch (a.f.d) {
        case 32: return launch<32, 1, 64, 1, 64>(a, s);
        case 64: return launch<64, 2, 32, 2, 32>(a, s);
        case 96: return launch<96, 1, 64, 1, 32>(a, s);
        case 128: return wide ? launch<128, 1, 64, 1, 32>(a, s) : launch<128, 1, 32, 1, 32>(a, s);
        case 256: return launch<256, 1, 16, 1, 16>(a, s);
        default: break;
    }
    plain_dq<<<LM_CUDA_GRID(n * a.f.heads, 4), 128, 0, s>>>(a);
    plain_kv<<<LM_CUDA_GRID(n * a.f.kv, 4), 128, 0, s>>>(a);
    return lm_cuda_launched();
}
static bool accepts(const lm_call *c) {
    if (static_cast<const lm_attn_p *>(c->p)->both) return false;
    if (!lm_cuda_accepts(c, 1 | 2 | 4 | 16 | 64, 7) || c->in[3].dtype != LM_I32 || !lm_is_contig(&c->in[5])) return false;
    return !lm_has(c, 7) || lm_is_contig(&c->in[7]);
}
LM_CUDA_ONE_SHARED(attn_grad, "attn_grad/cuda", accepts, run, shared)
