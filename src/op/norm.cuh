/* norm.cuh — norms together with what stands beside them, on a CUDA device: for the *_cuda.cu files of add_layernorm, add_rmsnorm, layernorm_back
 * and rmsnorm_back. MEAN: layernorm, else rmsnorm.
 *
 *   add_norm: s = a + b and y = norm(s), one row in a group's registers.
 *   norm_back: s = [h +] d norm(x)/dx · g, the sums over rows for w, b and of s itself, and y = norm(x) once more, where asked for. As
 *     many groups as fit the multiprocessors take rows in turn; a thread has the same columns of each, so weights and column sums stay in registers
 *     until the end; then warps of a block and blocks are added in a fixed order. The next row is asked for before this one is worked on.
 * A group is a block, or a warp of four, with a thread for eight numbers of a row of 4096 at most (add_norm: four eights a thread beyond that). A row's sums
 * are those of its threads, by a tree in each warp, warps one after another: the same in both, so a norm made again has the forward's bits.
 * Rows that are longer or not aligned go to kernels of their own: a block to a row, columns summed by blocks of columns. */
#ifndef LM_NORM_CUH
#define LM_NORM_CUH
#include "op/rows.cuh"
enum { LM_NORM_COLS = 4096 };
typedef struct { lm_cv a, b, w, bias, s, y; float *mean, *rstd; int64_t rows, d; float eps, offset; } lm_add_norm_args;
/* what is normalised is what is stored, so that a norm made again later has the same bits */
__device__ __forceinline__ float lm_as_stored(const lm_cv &v, float x) { return v.bf16 ? lm_of16(lm_to16(x)) : x; }
/* Sums over a group of T threads, which is a warp or a block; a block's rooms are used in turn, so that whoever writes to one has met the block since it was
 * read. */
template <int T> __device__ __forceinline__ float2 lm_group_sum2(float2 v, float2 *room) {
#pragma unroll
    for (int h = 16; h; h /= 2) { v.x += __shfl_xor_sync(0xffffffffu, v.x, h); v.y += __shfl_xor_sync(0xffffffffu, v.y, h); }
    if (T == 32) return v;
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
    v = room[0];
#pragma unroll
    for (int i = 1; i < T / 32; i++) { v.x += room[i].x; v.y += room[i].y; }
    return v;
}
template <int T> __device__ __forceinline__ float lm_group_sum(float v, float2 *room) {
    v = lm_cuda_warp_sum(v);
    if (T == 32) return v;
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32].x = v;
    __syncthreads();
    v = room[0].x;
#pragma unroll
    for (int i = 1; i < T / 32; i++) v += room[i].x;
    return v;
}
/* F<T>() for the smallest group that has a row of d */
#define LM_NORM_GROUP(F, d) do {                                                                                                              \
    const int64_t n_ = ((d) + 255) / 256;                                                                                                     \
    if (n_ <= 1) F(32); else if (n_ <= 2) F(64); else if (n_ <= 3) F(96); else if (n_ <= 4) F(128); else if (n_ <= 5) F(160);                 \
    else if (n_ <= 6) F(192); else if (n_ <= 8) F(256); else if (n_ <= 12) F(384); else F(512); } while (0)
/* T == 32: four rows to a block; else a block has one. */
template <bool MEAN, int T, int V> __global__ void __launch_bounds__(T == 32 ? 128 : T) lm_add_norm(const lm_add_norm_args a) {
    const int64_t row = T == 32 ? static_cast<int64_t>(blockIdx.x) * 4 + threadIdx.x / 32 : static_cast<int64_t>(blockIdx.x);
    if (row >= a.rows) return;
    __shared__ float2 room[2][T / 32];
    const int lane = threadIdx.x % T;
    const float inv = 1.0f / static_cast<float>(a.d);
    float v[V][8], s = 0, q = 0, m = 0;
    lm_raw8 x[V], z[V];
#pragma unroll
    for (int i = 0; i < V; i++) if (const int k = (lane + i * T) * 8; k < a.d) {
        x[i] = lm_ldraw(a.a, row * a.a.rs + k); z[i] = lm_ldraw(a.b, row * a.b.rs + k);
    }
#pragma unroll
    for (int i = 0; i < V; i++) if (const int k = (lane + i * T) * 8; k < a.d) {
        float f[8];
        lm_unraw(a.a, x[i], v[i]); lm_unraw(a.b, z[i], f);
#pragma unroll
        for (int e = 0; e < 8; e++) { v[i][e] = lm_as_stored(a.s, v[i][e] + f[e]); s += MEAN ? v[i][e] : v[i][e] * v[i][e]; }
        lm_st8(a.s, row * a.s.rs + k, v[i]);
    }
    s = lm_group_sum<T>(s, room[0]) * inv;
    if (MEAN) {
        m = s;
#pragma unroll
        for (int i = 0; i < V; i++) if ((lane + i * T) * 8 < a.d) {
#pragma unroll
            for (int e = 0; e < 8; e++) { v[i][e] -= m; q += v[i][e] * v[i][e]; }
        }
        s = lm_group_sum<T>(q, room[1]) * inv;
    }
    const float r = rsqrtf(s + a.eps);
#pragma unroll
    for (int i = 0; i < V; i++) if (const int k = (lane + i * T) * 8; k < a.d) {
        float w[8], b[8] = {};
        lm_ld8(a.w, k, w);
        if (MEAN && a.bias.p) lm_ld8(a.bias, k, b);
#pragma unroll
        for (int e = 0; e < 8; e++) v[i][e] = MEAN ? v[i][e] * r * w[e] + b[e] : v[i][e] * r * (w[e] + a.offset);
        lm_st8(a.y, row * a.y.rs + k, v[i]);
    }
    if (lane == 0) { if (MEAN) a.mean[row] = m; a.rstd[row] = r; }
}
template <bool MEAN> __global__ void __launch_bounds__(256) lm_add_norm_plain(const lm_add_norm_args a) {
    const int64_t row = blockIdx.x;
    float s = 0, q = 0, m = 0;
    for (int64_t k = threadIdx.x; k < a.d; k += 256) {
        const float v = lm_as_stored(a.s, lm_ld1(a.a, row * a.a.rs + k) + lm_ld1(a.b, row * a.b.rs + k));
        lm_st1(a.s, row * a.s.rs + k, v);
        s += MEAN ? v : v * v;
    }
    s = lm_cuda_block_sum<256>(s) / static_cast<float>(a.d);
    if (MEAN) {
        m = s;
        for (int64_t k = threadIdx.x; k < a.d; k += 256) { const float v = lm_ld1(a.s, row * a.s.rs + k) - m; q += v * v; }
        s = lm_cuda_block_sum<256>(q) / static_cast<float>(a.d);
    }
    const float r = 1.0f / sqrtf(s + a.eps);
    for (int64_t k = threadIdx.x; k < a.d; k += 256) {
        const float v = lm_ld1(a.s, row * a.s.rs + k);
        lm_st1(a.y, row * a.y.rs + k,
               MEAN ? (v - m) * r * lm_ld1(a.w, k) + (a.bias.p ? lm_ld1(a.bias, k) : 0.0f) : v * r * (lm_ld1(a.w, k) + a.offset));
    }
    if (threadIdx.x == 0) { if (MEAN) a.mean[row] = m; a.rstd[row] = r; }
}
template <bool MEAN> static lm_err lm_add_norm_run(const lm_add_norm_args &a, void *scratch) {
    const lm_cv v[6] = { a.a, a.b, a.w, a.bias, a.s, a.y };
    const bool wide = lm_cuda_vec8(v, 6, a.d);
    if (!a.rows) return LM_OK;
    if (a.rows > INT32_MAX) return LM_E_RANGE;
    const unsigned n = static_cast<unsigned>(a.rows); const cudaStream_t st = LM_CUDA_STREAM(scratch);
#define LM_K(T) lm_add_norm<MEAN, T, 1><<<T == 32 ? (n + 3) / 4 : n, T == 32 ? 128 : T, 0, st>>>(a)
    if (wide && a.d <= LM_NORM_COLS) LM_NORM_GROUP(LM_K, a.d);
    else if (wide && a.d <= 4 * LM_NORM_COLS) lm_add_norm<MEAN, 512, 4><<<n, 512, 0, st>>>(a);
    else lm_add_norm_plain<MEAN><<<n, 256, 0, st>>>(a);
#undef LM_K
    return lm_cuda_launched();
}

/* ---- backward ---- */
enum { LM_NORM_UNITS = 144 /* multiprocessors that are used, at most */, LM_NORM_SUMS = 3 };
/* mean, rstd NULL: made here. y.p, h.p NULL: absent. part: sums of w, b, s, each `parts` rows of d, used as `sums` has bits. */
typedef struct {
    lm_cv g, x, w, bias, h, s, y;
    const float *mean, *rstd;
    float *part;
    int64_t rows, d;
    float eps, offset;
    uint32_t sums;
} lm_norm_back_args;
/* Threads of a block, and blocks of a multiprocessor: 640 threads leave each the registers that it takes; where types are looked up they take more. */
template <int T> constexpr int LM_NORM_BLOCK = T == 32 ? 128 : T;
template <int T, int KIND> constexpr int LM_NORM_BLOCKS = (KIND ? 640 : 512) / LM_NORM_BLOCK<T>;
/* USUAL: x is f32, g, h, s and y are bf16, mean and rstd are given (GIVEN) or made here (AGAIN), all known when this is compiled; ANY: looked up. A register
 * too many is memory read by every row. */
enum lm_norm_kind { LM_NORM_ANY, LM_NORM_GIVEN, LM_NORM_AGAIN };
template <bool MEAN, lm_norm_kind KIND, int T>
__global__ void __launch_bounds__(LM_NORM_BLOCK<T>, LM_NORM_BLOCKS<T, KIND>) lm_norm_back(const lm_norm_back_args a) {
    constexpr int B = LM_NORM_BLOCK<T>, G = B / T;
    __shared__ float2 room[3][T / 32];
    __shared__ __align__(16) float t[G][T * 8];
    const int group = threadIdx.x / T, k = threadIdx.x % T * 8;
    const bool again = KIND == LM_NORM_ANY ? !a.rstd : KIND == LM_NORM_AGAIN, more = a.h.p, in = k < a.d;
    const float inv = 1.0f / static_cast<float>(a.d);
    lm_cv cg = a.g, cx = a.x, ch = a.h, cs = a.s, cy = a.y;
    if (KIND) { cx.bf16 = 0; cg.bf16 = ch.bf16 = cs.bf16 = cy.bf16 = 1; }
    float sw[8] = {}, sb[8] = {}, ss[8] = {}, w[8] = {}, b[8] = {}, m = 0, r = 0, m1 = 0, r1 = 0;
    lm_raw8 rx = {}, rg = {}, rh = {}, g1 = {}, h1 = {};                   /* of this row; of the next, asked for before this one is worked on */
    if (in) {
        lm_ld8(a.w, k, w);
        if (MEAN && a.bias.p) lm_ld8(a.bias, k, b);
#pragma unroll
        for (int e = 0; e < 8; e++) w[e] += MEAN ? 0.0f : a.offset;
    }
    const auto ask = [&](int64_t row) {
        if (!again) { r1 = a.rstd[row]; if (MEAN) m1 = a.mean[row]; }
        if (!in) return;
        rx = lm_ldraw(cx, row * cx.rs + k); g1 = lm_ldraw(cg, row * cg.rs + k);
        if (more) h1 = lm_ldraw(ch, row * ch.rs + k);
    };
    const int stride = static_cast<int>(gridDim.x) * G, rows = static_cast<int>(a.rows);
    int row = static_cast<int>(blockIdx.x) * G + group;
    if (row < rows) ask(row);
#pragma unroll 1
    for (; row < rows; row += stride) {
        float x[8];
        lm_unraw(cx, rx, x);                               /* zeros beyond the row */
        m = m1; r = r1; rg = g1; rh = h1;
        if (row + stride < rows) ask(row + stride);
        if (again) {                                       /* as the forward has them */
            float q = 0;
#pragma unroll
            for (int e = 0; e < 8; e++) q += MEAN ? x[e] : x[e] * x[e];
            q = lm_group_sum<T>(q, room[0]) * inv;
            if (MEAN) {
                m = q; q = 0;
#pragma unroll
                for (int e = 0; e < 8; e++) if (in) { const float v = x[e] - m; q += v * v; }
                q = lm_group_sum<T>(q, room[1]) * inv;
            }
            r = rsqrtf(q + a.eps);
        }
        float2 p = make_float2(0, 0);
        if (in) {
            float g[8], y[8];
            lm_unraw(cg, rg, g);
#pragma unroll
            for (int e = 0; e < 8; e++) {
                x[e] = (x[e] - m) * r;
                sw[e] += g[e] * x[e];
                if (MEAN) sb[e] += g[e];
                g[e] *= w[e];
                p.x += g[e]; p.y += g[e] * x[e];
                y[e] = MEAN ? x[e] * w[e] + b[e] : x[e] * w[e];
            }
            if (cy.p) lm_st8(cy, row * cy.rs + k, y);
        }
        if (!again && T > 32) __syncthreads();             /* the last row's has been read */
        p = lm_group_sum2<T>(p, room[2]);
        const float pg = MEAN ? p.x * inv : 0.0f, pq = p.y * inv;
        if (in) {
            float h[8] = {}, gw[8];
            if (more) lm_unraw(ch, rh, h);
            lm_unraw(cg, rg, gw);
#pragma unroll
            for (int e = 0; e < 8; e++) gw[e] *= w[e];
#pragma unroll
            for (int e = 0; e < 8; e++) { h[e] += (gw[e] - pg - x[e] * pq) * r; ss[e] += h[e]; }
            lm_st8(cs, row * cs.rs + k, h);
        }
    }
#pragma unroll
    for (int which = 0; which < LM_NORM_SUMS; which++) {
        if (!(a.sums >> which & 1) || (which == 1 && !MEAN)) continue;
        __syncthreads();
#pragma unroll
        for (int e = 0; e < 8; e++) t[group][k + e] = which == 0 ? sw[e] : which == 1 ? sb[e] : ss[e];
        __syncthreads();
        for (int j = threadIdx.x; j < a.d; j += B) {
            float y = 0;
#pragma unroll
            for (int i = 0; i < G; i++) y += t[i][j];
            a.part[(static_cast<int64_t>(which) * gridDim.x + blockIdx.x) * a.d + j] = y;
        }
    }
}
/* Any row: a block of 256 has one; g, x and s are read again by columns afterwards. */
template <bool MEAN> __global__ void __launch_bounds__(256) lm_norm_back_plain(const lm_norm_back_args a, float *stats) {
    const int64_t row = blockIdx.x;
    float m = 0, r, p = 0, q = 0, t = 0;
    if (a.rstd) { r = a.rstd[row]; if (MEAN) m = a.mean[row]; }
    else {
        for (int64_t k = threadIdx.x; k < a.d; k += 256) { const float v = lm_ld1(a.x, row * a.x.rs + k); t += MEAN ? v : v * v; }
        t = lm_cuda_block_sum<256>(t) / static_cast<float>(a.d);
        if (MEAN) {
            m = t; t = 0;
            for (int64_t k = threadIdx.x; k < a.d; k += 256) { const float v = lm_ld1(a.x, row * a.x.rs + k) - m; t += v * v; }
            t = lm_cuda_block_sum<256>(t) / static_cast<float>(a.d);
        }
        r = 1.0f / sqrtf(t + a.eps);
    }
    if (threadIdx.x == 0) { stats[2 * row] = m; stats[2 * row + 1] = r; }
    for (int64_t k = threadIdx.x; k < a.d; k += 256) {
        const float g = lm_ld1(a.g, row * a.g.rs + k) * (lm_ld1(a.w, k) + (MEAN ? 0.0f : a.offset));
        p += g;
        q += g * ((lm_ld1(a.x, row * a.x.rs + k) - m) * r);
    }
    const float pg = MEAN ? lm_cuda_block_sum<256>(p) / static_cast<float>(a.d) : 0.0f, pq = lm_cuda_block_sum<256>(q) / static_cast<float>(a.d);
    for (int64_t k = threadIdx.x; k < a.d; k += 256) {
        const float w = lm_ld1(a.w, k) + (MEAN ? 0.0f : a.offset), hat = (lm_ld1(a.x, row * a.x.rs + k) - m) * r;
        const float d = (lm_ld1(a.g, row * a.g.rs + k) * w - pg - hat * pq) * r, h = a.h.p ? lm_ld1(a.h, row * a.h.rs + k) : 0.0f;
        if (a.y.p) lm_st1(a.y, row * a.y.rs + k, hat * w + (MEAN && a.bias.p ? lm_ld1(a.bias, k) : 0.0f));
        lm_st1(a.s, row * a.s.rs + k, h + d);
    }
}
/* One number of a column: g x̂, g, or s. */
struct lm_norm_column {
    lm_cv g, x, s; const float *stats; int which, wide;
    __device__ void operator()(int64_t r, int64_t j, int64_t d, float *sum) const {
        float v[8], u[8];
        lm_ld_to(which == 2 ? s : g, r, j, d, wide, v);
        if (which == 0) {
            lm_ld_to(x, r, j, d, wide, u);
#pragma unroll
            for (int e = 0; e < 8; e++) v[e] *= (u[e] - stats[2 * r]) * stats[2 * r + 1];
        }
#pragma unroll
        for (int e = 0; e < 8; e++) sum[e] += v[e];
    }
};
/* The parts of one sum, a column per thread of 32, eight of them to a column in turn. */
static __global__ void __launch_bounds__(256) lm_norm_close(const float *part, int parts, int64_t d, float *y0, float *y1, float *y2, uint32_t acc) {
    const int which = blockIdx.y, slice = threadIdx.x / 32; const int64_t j = static_cast<int64_t>(blockIdx.x) * 32 + threadIdx.x % 32;
    float *y = which == 0 ? y0 : which == 1 ? y1 : y2;
    if (!y) return;
    float s = 0;
    if (j < d) {
#pragma unroll 10
        for (int p = slice; p < parts; p += 8) s += part[(static_cast<int64_t>(which) * parts + p) * d + j];
    }
    __shared__ float t[8][32];
    t[slice][threadIdx.x % 32] = s;
    __syncthreads();
    if (slice || j >= d) return;
#pragma unroll
    for (int p = 1; p < 8; p++) s += t[p][threadIdx.x];
    y[j] = acc >> which & 1 ? y[j] + s : s;
}
static inline size_t lm_norm_back_bytes(int64_t rows, int64_t d) {
    int blocks = 0;
#define LM_K(T) blocks = LM_NORM_BLOCKS<T, 1>
    LM_NORM_GROUP(LM_K, d);
#undef LM_K
    const size_t parts = static_cast<size_t>(LM_NORM_SUMS) * static_cast<size_t>(LM_NORM_UNITS * blocks) * static_cast<size_t>(d) * 4,
                 slow = static_cast<size_t>(rows) * 8 + 256 + lm_colsum_bytes(d);
    return d <= LM_NORM_COLS && parts > slow ? parts : slow;
}
/* c: outputs s, sum of w, of b, of s, y; those that are absent have rank 0. */
template <bool MEAN> static lm_err lm_norm_back_run(const lm_call *c, lm_norm_back_args a, void *scratch) {
    float *out[LM_NORM_SUMS]; const cudaStream_t st = LM_CUDA_STREAM(scratch);
    for (int o = 0; o < LM_NORM_SUMS; o++) {
        out[o] = c->out[o + 1].rank ? static_cast<float *>(c->out[o + 1].data) : NULL;
        if (out[o]) a.sums |= 1u << o;
    }
    lm_cv v[7] = { a.g, a.x, a.w, a.s, a.y, a.h, a.bias };
    const bool wide = lm_cuda_vec8(v, 7, a.d);
    if (a.rows > INT32_MAX / 2) return LM_E_RANGE;
    if (wide && a.d <= LM_NORM_COLS) {
        a.part = static_cast<float *>(c->shared);
        const int all = c->dev && c->dev->units > 0 ? c->dev->units : 1, units = all < LM_NORM_UNITS ? all : LM_NORM_UNITS;
        int parts = 0;
#define LM_K(KIND, T) lm_norm_back<MEAN, KIND, T><<<parts = units * LM_NORM_BLOCKS<T, KIND>, LM_NORM_BLOCK<T>, 0, st>>>(a)
#define LM_K0(T) LM_K(LM_NORM_ANY, T)
#define LM_K1(T) LM_K(LM_NORM_GIVEN, T)
#define LM_K2(T) LM_K(LM_NORM_AGAIN, T)
        const bool usual = !a.x.bf16 && a.g.bf16 && a.s.bf16 && (!a.h.p || a.h.bf16) && (!a.y.p || a.y.bf16);
        if (!usual) LM_NORM_GROUP(LM_K0, a.d); else if (a.rstd) LM_NORM_GROUP(LM_K1, a.d); else LM_NORM_GROUP(LM_K2, a.d);
#undef LM_K
#undef LM_K0
#undef LM_K1
#undef LM_K2
        lm_norm_close<<<dim3(LM_CUDA_GRID(a.d, 32), LM_NORM_SUMS), 256, 0, st>>>(a.part, parts, a.d, out[0], out[1], out[2], c->acc >> 1);
        return lm_cuda_launched();
    }
    float *stats = reinterpret_cast<float *>(static_cast<char *>(c->shared) + ((lm_colsum_bytes(a.d) + 255) & ~static_cast<size_t>(255)));
    lm_norm_column f = { a.g, a.x, a.s, stats, 0, 0 };
    const lm_cv three[3] = { a.g, a.x, a.s };
    f.wide = lm_cuda_vec8(three, 3, a.d);
    if (a.rows) lm_norm_back_plain<MEAN><<<static_cast<unsigned>(a.rows), 256, 0, st>>>(a, stats);
    for (f.which = 0; f.which < LM_NORM_SUMS; f.which++) if (out[f.which]) LM_TRY(lm_colsum(c, scratch, f, a.rows, a.d, f.which + 1));
    return lm_cuda_launched();
}
/* h: the bit of that input */
static inline bool lm_norm_back_accepts(const lm_call *c, uint32_t h) {
    if (!lm_cuda_accepts(c, 3 | h, 1 | 16)) return false;
    for (int o = 1; o <= LM_NORM_SUMS; o++) if (c->out[o].rank && !lm_is_contig(&c->out[o])) return false;
    /* such rows' sums of s are of s as stored: rounded before they are added */
    return c->out[0].dtype == LM_F32 || !c->out[LM_NORM_SUMS].rank || (lm_cols(&c->in[0]) % 8 == 0 && lm_cols(&c->in[0]) <= LM_NORM_COLS);
}
#endif
