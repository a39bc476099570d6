/* attn_cuda.cu — attention without a score matrix (Dao et al. 2022, 2023) on tensor cores for bf16, and a plain kernel for f32 and other
 * head sizes.
 *
 *   tensor cores: four warps have 64·MT queries of one head; tiles of BC keys and values come into two buffers while the last is used;
 *                 S = Q Kᵀ (16×BC per warp in registers), online softmax in base 2, O += P V with P rounded to bf16.
 *   plain:        a warp per query; lanes take keys for the scores and dimensions for the sum. */
#include "op/attn/attn.cuh"

template <int D, int MT, int BC> struct fwd_tiles { __nv_bfloat16 q[64 * MT * (D + 8)], k[2][BC * (D + 8)], v[2][BC * (D + 8)]; };
template <int D, int MT, int BC> __global__ void __launch_bounds__(128) fwd(const lm_attn_args a) {
    constexpr int P = D + 8, NT = BC / 8, DT = D / 8, KS = D / 16;
    extern __shared__ __align__(16) char mem[];
    fwd_tiles<D, MT, BC> &t = *reinterpret_cast<fwd_tiles<D, MT, BC> *>(mem);
    __shared__ int lo_of[4], hi_of[4];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, h = blockIdx.y, hk = h / (a.heads / a.kv);
    const int64_t q0 = static_cast<int64_t>(gridDim.x - 1 - blockIdx.x) * 64 * MT;                 /* long rows first */
    const int n = static_cast<int>(a.n), row0 = static_cast<int>(q0) + warp * 16 * MT + lane / 4;
    lm_tile_load<D, 64 * MT, 128>(t.q, a.q, q0, a.n, static_cast<int64_t>(h) * D);
    int first[MT][2], lo = INT32_MAX, hi = 0;
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int r = row0 + m * 16 + e * 8;
            first[m][e] = r < n ? lm_first_key(a.start, a.window, r) : INT32_MAX;
            if (r < n) { lo = min(lo, first[m][e]); hi = max(hi, first[m][e]); }
        }
#pragma unroll
    for (int s = 16; s; s /= 2) { lo = min(lo, __shfl_xor_sync(0xffffffffu, lo, s)); hi = max(hi, __shfl_xor_sync(0xffffffffu, hi, s)); }
    if (lane == 0) { lo_of[warp] = lo; hi_of[warp] = hi; }
    __syncthreads();
    lo = min(min(lo_of[0], lo_of[1]), min(lo_of[2], lo_of[3])); hi = max(max(hi_of[0], hi_of[1]), max(hi_of[2], hi_of[3]));
    const int j0 = lo / BC * BC, end = min(n, static_cast<int>(q0) + 64 * MT);
    const float s2 = a.scale * LM_LOG2E;
    constexpr bool HELD = D <= 64;                                          /* the queries stay in registers */
    uint32_t held[HELD ? KS : 1][MT][4];
    float o[MT][DT][4] = {}, top[MT][2], sum[MT][2] = {};
#pragma unroll
    for (int m = 0; m < MT; m++) top[m][0] = top[m][1] = -INFINITY;
    const int64_t ck = static_cast<int64_t>(hk) * D;
    lm_tiles_load<D, BC, 128>(t.k[0], t.v[0], a.k, a.v, j0, a.n, ck);
    lm_tiles_commit();
    for (int j = j0, b = 0; j < end; j += BC, b ^= 1) {
        if (j + BC < end) lm_tiles_load<D, BC, 128>(t.k[b ^ 1], t.v[b ^ 1], a.k, a.v, j + BC, a.n, ck);
        lm_tiles_commit();
        lm_tiles_wait<1>();
        __syncthreads();
        float s[MT][NT][4] = {};
        if (HELD && j == j0) lm_hold<P, MT, HELD ? KS : 1>(held, t.q, warp * MT * 16);
#pragma unroll
        for (int k = 0; k < KS; k++) lm_scores<P, MT, NT, HELD>(s, held[HELD ? k : 0], t.q, warp * MT * 16, t.k[b], k);
        const bool masked = j < hi || j + BC > static_cast<int>(q0) + 1;
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int r = row0 + m * 16 + e * 8;
                float most = top[m][e];
#pragma unroll
                for (int x = 0; x < NT; x++)
#pragma unroll
                    for (int c = 0; c < 2; c++) {
                        float &v = s[m][x][e * 2 + c];
                        if (masked) { const int key = j + x * 8 + lane % 4 * 2 + c; if (key < first[m][e] || key > r) v = -INFINITY; }
                        most = fmaxf(most, v);
                    }
                most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1)); most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
                const float base = most == -INFINITY ? 0.0f : most * s2, keep = lm_exp2(fmaf(top[m][e], s2, -base));
                float add = 0;
#pragma unroll
                for (int x = 0; x < NT; x++)
#pragma unroll
                    for (int c = 0; c < 2; c++) { float &v = s[m][x][e * 2 + c]; v = lm_exp2(fmaf(v, s2, -base)); add += v; }
                sum[m][e] = sum[m][e] * keep + add;
                top[m][e] = most;
#pragma unroll
                for (int x = 0; x < DT; x++) { o[m][x][e * 2] *= keep; o[m][x][e * 2 + 1] *= keep; }
            }
#pragma unroll
        for (int k = 0; k < BC / 16; k++) lm_weighted<P, MT, NT, DT>(o, s, t.v[b], k);
        __syncthreads();
    }
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int r = row0 + m * 16 + e * 8;
            float l = sum[m][e];
            l += __shfl_xor_sync(0xffffffffu, l, 1); l += __shfl_xor_sync(0xffffffffu, l, 2);
            if (r >= n) continue;
            lm_put_row<DT>(a.o, r * a.o.rs + static_cast<int64_t>(h) * D, o[m], e, 1.0f / l);
            if (lane % 4 == 0) a.lse[static_cast<int64_t>(r) * a.heads + h] = top[m][e] * a.scale + logf(l);
        }
}
template <int D, int MT, int BC> static lm_err launch(const lm_attn_args &a, cudaStream_t s) {
    constexpr int bytes = static_cast<int>(sizeof(fwd_tiles<D, MT, BC>));
    if (cudaFuncSetAttribute(fwd<D, MT, BC>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) != cudaSuccess) return LM_E_DEVICE;
    fwd<D, MT, BC><<<dim3(LM_CUDA_GRID(a.n, 64 * MT), static_cast<unsigned>(a.heads)), 128, bytes, s>>>(a);
    return lm_cuda_launched();
}

/* ---- the plain kernel: a warp per (query, head); scores of 32 keys at a time ---- */
static __global__ void __launch_bounds__(128) plain(const lm_attn_args a) {
    __shared__ float sq[4][LM_ATTN_MAX_D];
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32;
    const int64_t id = static_cast<int64_t>(blockIdx.x) * 4 + w, i = id / a.heads;
    const int h = static_cast<int>(id % a.heads), hk = h / (a.heads / a.kv);
    if (i >= a.n) return;
    for (int d = lane; d < a.d; d += 32) sq[w][d] = lm_in(a.q, i * a.q.rs + static_cast<int64_t>(h) * a.d + d, a.round);
    __syncwarp();
    float o[LM_ATTN_MAX_D / 32] = {}, top = -INFINITY, sum = 0;
    for (int64_t j = lm_first_key(a.start, a.window, i); j <= i; j += 32) {
        float s = -INFINITY;
        if (j + lane <= i) s = lm_plain_score(a, lm_plain_dot(sq[w], a.k, (j + lane) * a.k.rs + static_cast<int64_t>(hk) * a.d, a.d, a.round));
        const float most = fmaxf(top, lm_cuda_warp_max(s)), keep = expf(top - most), p = expf(s - most);
        sum = sum * keep + lm_cuda_warp_sum(p);
        top = most;
#pragma unroll
        for (int x = 0; x < LM_ATTN_MAX_D / 32; x++) o[x] *= keep;
        const int m = static_cast<int>(i - j + 1 < 32 ? i - j + 1 : 32);
        for (int q = 0; q < m; q++)
            lm_plain_add(o, __shfl_sync(0xffffffffu, p, q), a.v, (j + q) * a.v.rs + static_cast<int64_t>(hk) * a.d, a.d, a.round);
    }
    lm_plain_put(a.o, i * a.o.rs + static_cast<int64_t>(h) * a.d, o, a.d, sum);
    if (lane == 0) a.lse[i * a.heads + h] = top + logf(sum);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    lm_attn_args a = lm_attn_args_of(c);
    const cudaStream_t s = LM_CUDA_STREAM(scratch);
    a.o = lm_cv_of(&c->out[0]); a.lse = static_cast<float *>(c->out[1].data);
    if (!a.n) return LM_OK;
    if (a.n > INT32_MAX / 2) return LM_E_RANGE;
    if (lm_attn_wide(&a)) switch (a.d) {
        case 32: return launch<32, 2, 64>(a, s);
        case 64: return launch<64, 2, 64>(a, s);
        case 96: return launch<96, 1, 64>(a, s);
        case 128: return launch<128, 1, 64>(a, s);
        case 256: return launch<256, 1, 32>(a, s);
        default: break;
    }
    plain<<<LM_CUDA_GRID(a.n * a.heads, 4), 128, 0, s>>>(a);
    return lm_cuda_launched();
}
static bool accepts(const lm_call *c) { return !static_cast<const lm_attn_p *>(c->p)->both && lm_cuda_accepts(c, 7, 1) && c->in[3].dtype == LM_I32 && lm_is_contig(&c->out[1]); }
LM_CUDA_ONE(attn, "attn/cuda", accepts, run)
