/* embed_grad_cuda.cu — dW[ids_i] += dy_i without float atomics: rows are dealt to CLASSES blocks by their number. A block looks through all ids for
 * tokens that name its rows and sorts what it found by row, then token: so each row gets its terms in token order, and as rows do not wait for each
 * other, several rows of dy and of dW are on their way at once; of a row with many terms, more of those. A key is a row's number in its class and a
 * token's in a window, which is as long as 32 bits allow. */
#include "op/cuda.cuh"
extern "C" {
#include "op/embed_grad/embed_grad.h"
}
/* four blocks a multiprocessor; tokens looked at before the list may be full */
enum { CLASSES = 512, THREADS = 128, IDS = 16, STEP = THREADS * IDS, LIST = 2 * STEP };
enum { ANY, F32, BF16 };                               /* dy: one number at a time; eight */
/* ids and dy from the window's first token on */
struct args { const int32_t *ids; lm_cv dy; float *dw; int64_t n, d, rows; int bits, fresh; int32_t *fault; };
/* eight numbers of a row, or those there are */
template <int KIND> struct eight {
    uint4 u[KIND == BF16 ? 1 : 2];
    __device__ __forceinline__ void ask(const void *p, int bf16, int64_t at, int64_t left) {
        if constexpr (KIND == BF16) u[0] = *reinterpret_cast<const uint4 *>(static_cast<const lm_h16 *>(p) + at);
        else if constexpr (KIND == F32) {
            const uint4 *f = reinterpret_cast<const uint4 *>(static_cast<const float *>(p) + at);
            u[0] = f[0]; u[1] = f[1];
        }
        else {
            const lm_cv v = { const_cast<void *>(p), 0, bf16 };
            const auto one = [&](int e) { return __float_as_uint(e < left ? lm_ld1(v, at + e) : 0.0f); };
#pragma unroll
            for (int e = 0; e < 2; e++) u[e] = make_uint4(one(4 * e), one(4 * e + 1), one(4 * e + 2), one(4 * e + 3));
        }
    }
    __device__ __forceinline__ void get(float *f) const {
        if constexpr (KIND == BF16) lm_unpack8(u[0], f);
        else {
#pragma unroll
            for (int e = 0; e < 2; e++) {
                f[4 * e] = __uint_as_float(u[e].x); f[4 * e + 1] = __uint_as_float(u[e].y);
                f[4 * e + 2] = __uint_as_float(u[e].z); f[4 * e + 3] = __uint_as_float(u[e].w);
            }
        }
    }
    __device__ __forceinline__ void add_to(float *f) const {
        float x[8];
        get(x);
#pragma unroll
        for (int e = 0; e < 8; e++) f[e] += x[e];
    }
};
template <int KIND> __device__ __forceinline__ void write(float *to, int64_t left, const float *f) {
    if constexpr (KIND != ANY) {
        reinterpret_cast<float4 *>(to)[0] = make_float4(f[0], f[1], f[2], f[3]);
        reinterpret_cast<float4 *>(to)[1] = make_float4(f[4], f[5], f[6], f[7]);
    } else {
#pragma unroll
        for (int e = 0; e < 8; e++) if (e < left) to[e] = f[e];
    }
}
template <int KIND> __device__ void add_up(const args &a, const uint32_t *key, int n, int64_t k, int fresh) {
    constexpr int RUN = KIND == BF16 ? 16 : 8, AHEAD = KIND == BF16 ? 6 : 4;       /* rows on their way: of one row of dW, of several */
    constexpr int W = KIND == ANY ? ANY : F32;
    const uint32_t mask = (1u << a.bits) - 1;
    const int64_t left = a.d - k;
    /* of that number in the class */
    const auto row = [&](uint32_t r) { return a.dw + (static_cast<int64_t>(r) * CLASSES + blockIdx.x) * a.d + k; };
    const auto from = [&](int j) { return static_cast<int64_t>(key[j] & mask) * a.dy.rs + k; };
    uint32_t cur = key[0] >> a.bits;
    float acc[8] = {};
    if (!fresh) { eight<W> w; w.ask(row(cur), 0, 0, left); w.get(acc); }
    for (int j = 0; j < n;) {
        if (j + RUN <= n && key[j] >> a.bits == cur && key[j + RUN - 1] >> a.bits == cur) {
            eight<KIND> y[RUN];
#pragma unroll
            for (int e = 0; e < RUN; e++) y[e].ask(a.dy.p, a.dy.bf16, from(j + e), left);
#pragma unroll
            for (int e = 0; e < RUN; e++) y[e].add_to(acc);
            j += RUN;
            continue;
        }
        eight<KIND> y[AHEAD];
        eight<W> w[AHEAD];
        uint32_t was = cur;
#pragma unroll
        for (int e = 0; e < AHEAD; e++) if (j + e < n) {
            const uint32_t r = key[j + e] >> a.bits;
            y[e].ask(a.dy.p, a.dy.bf16, from(j + e), left);
            if (!fresh && r != was) w[e].ask(row(r), 0, 0, left);
            was = r;
        }
#pragma unroll
        for (int e = 0; e < AHEAD; e++) if (j + e < n) {
            if (const uint32_t r = key[j + e] >> a.bits; r != cur) {
                write<KIND>(row(cur), left, acc);
                if (!fresh) w[e].get(acc);
                else
#pragma unroll
                    for (int q = 0; q < 8; q++) acc[q] = 0;
                cur = r;
            }
            y[e].add_to(acc);
        }
        j += AHEAD;
    }
    write<KIND>(row(cur), left, acc);
}
/* by halves of halves: as many as a power of two, the rest filled with the largest */
static __device__ void sort(uint32_t *key, int n) {
    int all = 2;
    while (all < n) all *= 2;
    for (int i = n + static_cast<int>(threadIdx.x); i < all; i += THREADS) key[i] = UINT32_MAX;
    for (int size = 2; size <= all; size *= 2)
        for (int step = size / 2; step; step /= 2) {
            __syncthreads();
            for (int p = threadIdx.x; p < all / 2; p += THREADS) {
                const int i = p / step * 2 * step + p % step; const uint32_t x = key[i], y = key[i + step];
                if ((x > y) != ((i & size) != 0)) { key[i] = y; key[i + step] = x; }
            }
        }
    __syncthreads();
}
template <int KIND> __global__ void __launch_bounds__(THREADS, 4) add(const args a) {
    __shared__ uint32_t key[LIST];
    __shared__ int count;
    const int64_t k = static_cast<int64_t>(blockIdx.y) * (THREADS * 8) + threadIdx.x * 8;
    int fresh = a.fresh, full = 0;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    for (int64_t base = 0; base < a.n; base += STEP) {
        int32_t id[IDS];
#pragma unroll
        for (int q = 0; q < IDS; q++) { const int64_t i = base + q * THREADS + threadIdx.x; id[q] = i < a.n ? a.ids[i] : -1; }
#pragma unroll
        for (int q = 0; q < IDS; q++) {
            const int64_t i = base + q * THREADS + threadIdx.x;
            if (id[q] < 0 || id[q] >= a.rows) { if (i < a.n && a.fault) *a.fault = LM_E_RANGE; continue; }
            if (static_cast<uint32_t>(id[q]) % CLASSES != blockIdx.x) continue;
            const int at = atomicAdd(&count, 1);
            key[at] = static_cast<uint32_t>(id[q]) / CLASSES << a.bits | static_cast<uint32_t>(i);
            full |= at >= LIST - STEP;
        }
        if (!__syncthreads_or(full) && base + STEP < a.n) continue;
        const int n = count;
        sort(key, n);
        if (n && k < a.d) add_up<KIND>(a, key, n, k, fresh);
        fresh = full = 0;
        __syncthreads();
        if (threadIdx.x == 0) count = 0;
        __syncthreads();
    }
}
static bool accepts(const lm_call *c) {
    return lm_cuda_ours(c) && c->in[0].dtype == LM_I32 && lm_is_contig(&c->in[0]) && lm_cuda_float(&c->in[1]) && lm_is_f32_vec(&c->out[0]);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const int64_t n = c->in[0].dim[0], d = c->out[0].dim[1], rows = c->out[0].dim[0];
    const cudaStream_t s = LM_CUDA_STREAM(scratch);
    float *dw = static_cast<float *>(c->out[0].data);
    const bool fresh = !(c->acc & 1);
    if (fresh && cudaMemsetAsync(dw, 0, static_cast<size_t>(rows * d) * 4, s) != cudaSuccess) return LM_E_DEVICE;
    if (!n || !d || !rows) return LM_OK;
    int bits = 31;
    while (lm_ceil_div(rows, CLASSES) > INT64_C(1) << (32 - bits)) bits--;                   /* UINT32_MAX is no key: a window is one token short */
    const int64_t window = (INT64_C(1) << bits) - 1;
    for (int64_t at = 0; at < n; at += window) {
        lm_cv dy = lm_cv_of(&c->in[1]);
        dy.p = static_cast<char *>(dy.p) + at * dy.rs * (dy.bf16 ? 2 : 4);
        const int32_t *ids = static_cast<const int32_t *>(c->in[0].data) + at;
        const args a = { ids, dy, dw, lm_min64(n - at, window), d, rows, bits, fresh && !at, c->fault };
        const dim3 grid(static_cast<unsigned>(lm_min64(CLASSES, rows)), LM_CUDA_GRID(d, THREADS * 8));
        const lm_cv both[2] = { dy, { dw, d, 0 } };
        if (!lm_cuda_vec8(both, 2, d)) add<ANY><<<grid, THREADS, 0, s>>>(a);
        else if (dy.bf16) add<BF16><<<grid, THREADS, 0, s>>>(a);
        else add<F32><<<grid, THREADS, 0, s>>>(a);
    }
    return lm_cuda_launched();
}
extern "C" {
extern const lm_kernel LM_CUDA_ROW(embed_grad)[];
const lm_kernel LM_CUDA_ROW(embed_grad)[] = {
    { LM_CUDA_ROW_NAME(rows_add), LM_DEV_CUDA, LM_CUDA_SM80, "rows_add", accepts, NULL, NULL, 1, { { lm_cuda_one, run } }, NULL }, {}
};
}
