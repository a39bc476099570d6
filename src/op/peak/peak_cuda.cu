/* peak_cuda.cu — a row is read by a cluster of eight blocks (one block on older cards), each of which has a stretch of it and keeps the first 16384
 * numbers in registers; more are read a second time. What the blocks find meets through the cluster's memory. Sums have a fixed tree; the near
 * ones of a stretch are noted as they come and then put in order. Bound by reading the row from the second-level cache. */
#include "op/overlap.cuh"
#include "op/peak/peak.cuh"
extern "C" {
#include "op/peak/peak.h"
}
enum { THREADS = 512, PARTS = 8, KEPT = 32 /* numbers of a thread */ };
/* listed: rows that have lists */
struct args { lm_cv x, how; float *y; int64_t ys, listed; float4 *best; int V, parts; };
__device__ __forceinline__ void cluster_meet(int parts) {
    __syncthreads();
#if __CUDA_ARCH__ >= 900
    if (parts > 1) asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ uint32_t peer(const void *p, int rank, int parts) {
    if (parts == 1) return *static_cast<const uint32_t *>(p);
    uint32_t v = 0;
#if __CUDA_ARCH__ >= 900
    unsigned there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(static_cast<unsigned>(__cvta_generic_to_shared(p))), "r"(rank));
    asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(v) : "r"(there) : "memory");
#endif
    return v;
}
/* W: numbers taken at once */
template <int W> static __global__ void __launch_bounds__(THREADS, 2) peak(const __grid_constant__ args a) {
    __shared__ int ids[LM_PEAK_MOST], count, bad, least;
    __shared__ float values[LM_PEAK_MOST], best, sum;
    constexpr int TURNS = KEPT / W;
    const int rank = static_cast<int>(blockIdx.x) % a.parts, tid = static_cast<int>(threadIdx.x), lane = tid % 32,
              per = (a.V + a.parts * W - 1) / (a.parts * W) * W, lo = min(a.V, rank * per), hi = min(a.V, lo + per);
    const int64_t r = blockIdx.x / static_cast<unsigned>(a.parts);
    lm_let_next_begin();
    lm_wait_before();
    const float *x = static_cast<const float *>(a.x.p) + r * a.x.rs;
    const bool lists = r < a.listed;
    const float t = lists ? lm_ld1(a.how, r * a.how.rs) : 0, gap = lists ? lm_ld1(a.how, r * a.how.rs + 1) : -1;
    float *y = a.y + r * a.ys, most = -INFINITY, v[TURNS][W];
    int wrong = 0;
    const auto get = [&](float *to, int i) {
        if (W == 4) {
            const float4 f = *reinterpret_cast<const float4 *>(x + i);
            to[0] = f.x; to[W > 1] = f.y; to[2 * (W > 2)] = f.z; to[3 * (W > 3)] = f.w;
        } else to[0] = x[i];
    };
    const auto seen = [&](const float *f) {
#pragma unroll
        for (int e = 0; e < W; e++) { wrong |= !(f[e] < INFINITY); most = fmaxf(most, f[e]); }
    };
    const int first = lo + tid * W, rest = first + KEPT * THREADS;
#pragma unroll
    for (int k = 0; k < TURNS; k++) {
#pragma unroll
        for (int e = 0; e < W; e++) v[k][e] = -INFINITY;
        if (first + k * THREADS * W < hi) get(v[k], first + k * THREADS * W);
    }
#pragma unroll
    for (int k = 0; k < TURNS; k++) seen(v[k]);
#pragma unroll 4
    for (int i = rest; i < hi; i += THREADS * W) { float f[W]; get(f, i); seen(f); }
    most = lm_cuda_block_max<THREADS>(most);
    wrong = __syncthreads_or(wrong);
    if (tid == 0) { best = most; bad = wrong; count = 0; least = a.V - 1; }
    cluster_meet(a.parts);
    most = lm_cuda_warp_max(lane < a.parts ? __uint_as_float(peer(&best, lane, a.parts)) : -INFINITY);
    wrong = __any_sync(0xffffffffu, lane < a.parts ? static_cast<int>(peer(&bad, lane, a.parts)) : 0);
    const float cut = most - gap;
    const bool sums = t > 0 && most > -INFINITY;
    float s = 0;
    const auto near = [&](const float *f, int i) {
#pragma unroll
        for (int e = 0; e < W; e++) {
            if (sums) s += expf((f[e] - most) / t);
            if (f[e] == most) atomicMin(&least, i + e);
            if (f[e] >= cut) { const int k = atomicAdd(&count, 1); if (k < LM_PEAK_MOST) { ids[k] = i + e; values[k] = f[e]; } }
        }
    };
#pragma unroll
    for (int k = 0; k < TURNS; k++) if (first + k * THREADS * W < hi) near(v[k], first + k * THREADS * W);
#pragma unroll 4
    for (int i = rest; i < hi; i += THREADS * W) { float f[W]; get(f, i); near(f, i); }
    s = lm_cuda_block_sum<THREADS>(s);
    if (tid == 0) sum = s;
    cluster_meet(a.parts);
    const int low = __reduce_min_sync(0xffffffffu, lane < a.parts ? static_cast<int>(peer(&least, lane, a.parts)) : a.V - 1);
    const int mine = lane < a.parts ? static_cast<int>(peer(&count, lane, a.parts)) : 0;
    const int before = __reduce_add_sync(0xffffffffu, lane < rank ? mine : 0), total = __reduce_add_sync(0xffffffffu, mine);
    const float all = lm_cuda_warp_sum(lane < a.parts ? __uint_as_float(peer(&sum, lane, a.parts)) : 0.0f);
    const bool listed = lists && !wrong && total <= LM_PEAK_MOST;
    if (listed && tid < count) {
        int place = before;
        for (int q = 0; q < count; q++) place += ids[q] < ids[tid];
        y[4 + place] = static_cast<float>(ids[tid]); y[4 + LM_PEAK_MOST + place] = values[tid];
    }
    if (rank == 0 && tid == 0) a.best[r] = make_float4(wrong ? 0 : most, wrong ? 0 : static_cast<float>(low), wrong ? 1 : 0, 0);
    if (rank == 0 && lists) {
        for (int i = listed ? total + tid : tid; i < LM_PEAK_MOST; i += THREADS) y[4 + i] = y[4 + LM_PEAK_MOST + i] = 0;
        if (tid == 0) { y[0] = wrong ? 0 : most; y[1] = wrong ? 0 : all; y[2] = wrong ? 0 : static_cast<float>(total); y[3] = wrong ? 1 : 0; }
    }
    cluster_meet(a.parts);                                              /* nobody leaves while its numbers are read */
}
/* Of each row's tiles: neighbours to neighbours, so that a thread's first is its least. */
struct best_args { const float2 *tops; float4 *best; int tiles; };
static __global__ void __launch_bounds__(256) best_of(const __grid_constant__ best_args a) {
    __shared__ int least;
    lm_let_next_begin();
    if (threadIdx.x == 0) least = INT32_MAX;
    lm_wait_before();
    const float2 *top = a.tops + static_cast<int64_t>(blockIdx.x) * a.tiles;
    float most = -INFINITY;
    int at = INT32_MAX, wrong = 0;
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < a.tiles; i += 256) {
        const float2 f = top[i];
        wrong |= !(f.x < INFINITY);
        if (f.x > most || at == INT32_MAX) { most = f.x; at = __float_as_int(f.y); }
    }
    const float all = lm_cuda_block_max<256>(most);
    wrong = __syncthreads_or(wrong);
    if (most == all && at != INT32_MAX) atomicMin(&least, at);
    __syncthreads();
    if (threadIdx.x == 0) a.best[blockIdx.x] = make_float4(wrong ? 0 : all, wrong ? 0 : static_cast<float>(least), wrong ? 1 : 0, 0);
}
lm_err lm_peak_best(const lm_call *c, const float2 *tops, cudaStream_t s) {
    const best_args a = { tops, static_cast<float4 *>(c->out[1].data), static_cast<int>(lm_ceil_div(c->in[0].dim[1], static_cast<int64_t>(LM_PEAK_TILE))) };
    if (!c->in[0].dim[0]) return LM_OK;
    return lm_launch_early(best_of, a, dim3(static_cast<unsigned>(c->in[0].dim[0])), 256, 0, 1, c->dev && c->dev->features & LM_CUDA_SM90, s);
}
bool lm_peak_accepts(const lm_call *c) {
    return lm_cuda_accepts_f32(c) && c->in[0].dim[1] <= 1 << 24 && lm_is_contig(&c->out[1]) && reinterpret_cast<uintptr_t>(c->out[1].data) % 16 == 0;
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const args a = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), static_cast<float *>(c->out[0].data), lm_row_stride(&c->out[0]), c->in[1].dim[0],
                     static_cast<float4 *>(c->out[1].data), static_cast<int>(c->in[0].dim[1]), c->dev && c->dev->features & LM_CUDA_SM90 ? PARTS : 1 };
    if (!c->in[0].dim[0]) return LM_OK;
    const bool hopper = a.parts > 1, wide = a.V % 4 == 0 && a.x.rs % 4 == 0 && reinterpret_cast<uintptr_t>(a.x.p) % 16 == 0;
    const dim3 grid(static_cast<unsigned>(c->in[0].dim[0] * a.parts));
    return lm_launch_early(wide ? peak<4> : peak<1>, a, grid, THREADS, 0, static_cast<unsigned>(a.parts), hopper, LM_CUDA_STREAM(scratch));
}
static size_t shared(const lm_call *c) {
    return static_cast<size_t>(c->in[0].dim[0] * lm_ceil_div(c->in[0].dim[1], static_cast<int64_t>(LM_PEAK_TILE))) * sizeof(float2);
}
LM_CUDA_ALONE(peak, "peak/cuda", lm_peak_accepts, run, shared, NULL)
