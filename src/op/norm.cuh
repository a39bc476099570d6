/* norm.cuh — norms together with what stands beside them, on a CUDA device: for the *_cuda.cu files of add_layernorm, add_rmsnorm, layernorm_back
 * and rmsnorm_back. MEAN: layernorm, else rmsnorm.
 *
 *   add_norm: s = a + b and y = norm(s), one row in a group's registers.
 *   norm_back: s = [h +] d norm(x)/dx · g, the sums over rows for w, b and of s itself, and y = norm(x) once more, where asked for. Groups of T
 *     threads take rows in turn, LM_NORM_PARTS blocks in all; a thread has the same columns of each, so its column sums stay in registers until
 *     the end; groups of a block, then blocks, are added in a fixed order.
 * Rows that are longer than 4096 or not aligned go to kernels of their own: a block to a row, columns summed by blocks of columns. */
#ifndef LM_NORM_CUH
#define LM_NORM_CUH
#include "op/rows.cuh"
typedef struct { lm_cv a, b, w, bias, s, y; float *mean, *rstd; int64_t rows, d; float eps, offset; } lm_add_norm_args;
/* what is normalised is what is stored, so that a norm made again later has the same bits */
__device__ __forceinline__ float lm_as_stored(const lm_cv &v, float x) { return v.bf16 ? __bfloat162float(__float2bfloat16_rn(x)) : x; }
template <bool MEAN, int T> __global__ void __launch_bounds__(T == 32 ? 128 : T) lm_add_norm(const lm_add_norm_args a) {
    const int64_t row = lm_row_index<T>();
    if (row >= a.rows) return;
    float v[LM_ROW_V][8], s = 0, q = 0, m = 0;
    {
        lm_raw8 x[LM_ROW_V], z[LM_ROW_V];
        LM_ROW_EACH(T, i, k, a.d) { x[i] = lm_ldraw(a.a, row * a.a.rs + k); z[i] = lm_ldraw(a.b, row * a.b.rs + k); }
        LM_ROW_EACH(T, i, k, a.d) {
            float f[8];
            lm_unraw(a.a, x[i], v[i]); lm_unraw(a.b, z[i], f);
#pragma unroll
            for (int e = 0; e < 8; e++) { v[i][e] = lm_as_stored(a.s, v[i][e] + f[e]); s += MEAN ? v[i][e] : v[i][e] * v[i][e]; }
            lm_st8(a.s, row * a.s.rs + k, v[i]);
        }
    }
    s = lm_cuda_block_sum<T>(s) / static_cast<float>(a.d);
    if (MEAN) {
        m = s;
        LM_ROW_EACH(T, i, k, a.d) {
#pragma unroll
            for (int e = 0; e < 8; e++) { v[i][e] -= m; q += v[i][e] * v[i][e]; }
        }
        s = lm_cuda_block_sum<T>(q) / static_cast<float>(a.d);
    }
    const float r = 1.0f / sqrtf(s + a.eps);
    LM_ROW_EACH(T, i, k, a.d) {
        float w[8], b[8] = {};
        lm_ld8(a.w, k, w);
        if (MEAN && a.bias.p) lm_ld8(a.bias, k, b);
#pragma unroll
        for (int e = 0; e < 8; e++) v[i][e] = MEAN ? v[i][e] * r * w[e] + b[e] : v[i][e] * r * (w[e] + a.offset);
        lm_st8(a.y, row * a.y.rs + k, v[i]);
    }
    if (threadIdx.x == 0) { if (MEAN) a.mean[row] = m; a.rstd[row] = r; }
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
#define LM_K(T) lm_add_norm<MEAN, T>
    if (!a.rows) return LM_OK;
    if (a.rows > INT32_MAX) return LM_E_RANGE;
    const unsigned n = static_cast<unsigned>(a.rows); const cudaStream_t st = LM_CUDA_STREAM(scratch);
    if (wide && a.d <= 32 * 8 * LM_ROW_V) LM_K(32)<<<(n + 3) / 4, dim3(32, 4), 0, st>>>(a);
    else if (wide && a.d <= 64 * 8 * 3) LM_K(64)<<<n, 64, 0, st>>>(a);
    else if (wide && a.d <= 128 * 8 * LM_ROW_V) LM_K(128)<<<n, 128, 0, st>>>(a);
    else if (wide && a.d <= 512 * 8 * LM_ROW_V) LM_K(512)<<<n, 512, 0, st>>>(a);
    else lm_add_norm_plain<MEAN><<<n, 256, 0, st>>>(a);
#undef LM_K
    return lm_cuda_launched();
}

/* ---- backward ---- */
/* Blocks: 384 threads on each of 132 multiprocessors, or 256 where a thread has 24 columns and more: registers allow no more. */
enum { LM_NORM_PARTS = 396, LM_NORM_FEW = 264, LM_NORM_MOST = 528, LM_NORM_SUMS = 3 };
/* mean, rstd NULL: made here. y.p, h.p NULL: absent. part: sums of w, b, s, each `parts` rows of d, used as `sums` has bits. */
typedef struct {
    lm_cv g, x, w, bias, h, s, y;
    const float *mean, *rstd;
    float *part;
    int64_t rows, d;
    float eps, offset;
    uint32_t sums;
} lm_norm_back_args;
/* USUAL: x is f32, g, h, s and y are bf16, known when this is compiled; else each is what it says. */
template <bool MEAN, bool USUAL, int T, int V>
__global__ void __launch_bounds__(T == 32 ? 128 : T, (V < 3 ? 384 : 256) / (T == 32 ? 128 : T)) lm_norm_back(const lm_norm_back_args a) {
    constexpr int B = T == 32 ? 128 : T, G = B / T;        /* threads and groups of a block */
    const int group = threadIdx.x / T, lane = threadIdx.x % T;
    const bool again = !a.rstd, more = a.h.p;
    lm_cv cg = a.g, cx = a.x, ch = a.h, cs = a.s, cy = a.y;
    if (USUAL) { cx.bf16 = 0; cg.bf16 = ch.bf16 = cs.bf16 = cy.bf16 = 1; }
    float sw[V][8] = {}, sb[MEAN ? V : 1][8] = {}, ss[V][8] = {}, m = 0, r = 0, m1 = 0, r1 = 0;
    lm_raw8 rx[V], rg[V], rh[V], g1[V], h1[V];                             /* of this row; of the next, asked for before this one is worked on */
    const int64_t stride = static_cast<int64_t>(gridDim.x) * G;
    const auto ask = [&](int64_t row) {
        const int64_t ax = row * cx.rs, ag = row * cg.rs, ah = row * ch.rs;
        if (!again) { r1 = a.rstd[row]; if (MEAN) m1 = a.mean[row]; }
#pragma unroll
        for (int i = 0; i < V; i++) if (const int k = (lane + i * T) * 8; k < a.d) { rx[i] = lm_ldraw(cx, ax + k); g1[i] = lm_ldraw(cg, ag + k); }
        if (more) {
#pragma unroll
            for (int i = 0; i < V; i++) if (const int k = (lane + i * T) * 8; k < a.d) h1[i] = lm_ldraw(ch, ah + k);
        }
    };
    int64_t row = static_cast<int64_t>(blockIdx.x) * G + group;
    if (row < a.rows) ask(row);
    for (; row < a.rows; row += stride) {
        float x[V][8];
        m = m1; r = r1;
#pragma unroll
        for (int i = 0; i < V; i++) { rg[i] = g1[i]; rh[i] = h1[i]; }
#pragma unroll
        for (int i = 0; i < V; i++) {
            if ((lane + i * T) * 8 < a.d) lm_unraw(cx, rx[i], x[i]);
            else {
#pragma unroll
                for (int e = 0; e < 8; e++) x[i][e] = 0;
            }
        }
        if (row + stride < a.rows) ask(row + stride);
        if (again) {                                       /* as the forward has them */
            float t = 0;
#pragma unroll
            for (int i = 0; i < V; i++)
#pragma unroll
                for (int e = 0; e < 8; e++) t += MEAN ? x[i][e] : x[i][e] * x[i][e];
            t = lm_cuda_block_sum<T>(t) / static_cast<float>(a.d);
            if (MEAN) {
                m = t; t = 0;
#pragma unroll
                for (int i = 0; i < V; i++) if ((lane + i * T) * 8 < a.d) {
#pragma unroll
                    for (int e = 0; e < 8; e++) t += (x[i][e] - m) * (x[i][e] - m);
                }
                t = lm_cuda_block_sum<T>(t) / static_cast<float>(a.d);
            }
            r = 1.0f / sqrtf(t + a.eps);
        }
        float2 p = make_float2(0, 0);
#pragma unroll
        for (int i = 0; i < V; i++) if (const int k = (lane + i * T) * 8; k < a.d) {
            float w[8], g[8], y[8];
            lm_ld8(a.w, k, w); lm_unraw(cg, rg[i], g);
#pragma unroll
            for (int e = 0; e < 8; e++) {
                const float hat = (x[i][e] - m) * r, ww = MEAN ? w[e] : w[e] + a.offset;
                x[i][e] = hat;
                sw[i][e] += g[e] * hat;
                if (MEAN) sb[i][e] += g[e];
                g[e] *= ww;
                p.x += g[e]; p.y += g[e] * hat;
                y[e] = hat * ww;
            }
            if (cy.p) {
                if (MEAN && a.bias.p) {
                    float b[8];
                    lm_ld8(a.bias, k, b);
#pragma unroll
                    for (int e = 0; e < 8; e++) { const float ww = w[e]; y[e] = x[i][e] * ww + b[e]; }
                }
                lm_st8(cy, row * cy.rs + k, y);
            }
        }
        p = lm_cuda_block_sum2<T>(p);
        const float pg = MEAN ? p.x / static_cast<float>(a.d) : 0.0f, pq = p.y / static_cast<float>(a.d);
#pragma unroll
        for (int i = 0; i < V; i++) if (const int k = (lane + i * T) * 8; k < a.d) {
            float h[8] = {}, g[8], w[8];
            if (more) lm_unraw(ch, rh[i], h);
            lm_ld8(a.w, k, w); lm_unraw(cg, rg[i], g);
#pragma unroll
            for (int e = 0; e < 8; e++) { h[e] += (g[e] * (MEAN ? w[e] : w[e] + a.offset) - pg - x[i][e] * pq) * r; ss[i][e] += h[e]; }
            lm_st8(cs, row * cs.rs + k, h);
        }
    }
    __shared__ float t[G][V * T * 8];
#pragma unroll
    for (int which = 0; which < LM_NORM_SUMS; which++) {
        if (!(a.sums >> which & 1) || (which == 1 && !MEAN)) continue;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < V; i++)
#pragma unroll
            for (int e = 0; e < 8; e++) t[group][(lane + i * T) * 8 + e] = which == 0 ? sw[i][e] : which == 1 ? sb[MEAN ? i : 0][e] : ss[i][e];
        __syncthreads();
        for (int k = threadIdx.x; k < a.d; k += B) {
            float y = 0;
#pragma unroll
            for (int j = 0; j < G; j++) y += t[j][k];
            a.part[(static_cast<int64_t>(which) * gridDim.x + blockIdx.x) * a.d + k] = y;
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
    const size_t parts = static_cast<size_t>(LM_NORM_SUMS) * LM_NORM_MOST * static_cast<size_t>(d) * 4,
                 slow = static_cast<size_t>(rows) * 8 + 256 + lm_colsum_bytes(d);
    return parts > slow ? parts : slow;
}
template <bool MEAN, bool USUAL> static void lm_norm_back_of(const lm_norm_back_args &a, int parts, cudaStream_t st) {
    if (a.d <= 256) lm_norm_back<MEAN, USUAL, 32, 1><<<parts, 128, 0, st>>>(a);
    else if (a.d <= 512) lm_norm_back<MEAN, USUAL, 32, 2><<<parts, 128, 0, st>>>(a);
    else if (a.d <= 768) lm_norm_back<MEAN, USUAL, 32, 3><<<parts, 128, 0, st>>>(a);
    else if (a.d <= 1024) lm_norm_back<MEAN, USUAL, 32, 4><<<parts, 128, 0, st>>>(a);
    else if (a.d <= 1536) lm_norm_back<MEAN, USUAL, 64, 3><<<parts, 64, 0, st>>>(a);
    else if (a.d <= 2048) lm_norm_back<MEAN, USUAL, 128, 2><<<parts, 128, 0, st>>>(a);
    else lm_norm_back<MEAN, USUAL, 128, 4><<<parts, 128, 0, st>>>(a);
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
    if (a.rows > INT32_MAX) return LM_E_RANGE;
    if (wide && a.d <= 4096) {
        a.part = static_cast<float *>(c->shared);
        const bool usual = !a.x.bf16 && a.g.bf16 && a.s.bf16 && (!a.h.p || a.h.bf16) && (!a.y.p || a.y.bf16);
        const int parts = a.d > 1024 && a.d <= 1536 ? LM_NORM_MOST : (a.d > 512 && a.d <= 1024) || a.d > 2048 ? LM_NORM_FEW : LM_NORM_PARTS;
        if (usual) lm_norm_back_of<MEAN, true>(a, parts, st); else lm_norm_back_of<MEAN, false>(a, parts, st);
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
    return c->out[0].dtype == LM_F32 || !c->out[LM_NORM_SUMS].rank || (lm_cols(&c->in[0]) % 8 == 0 && lm_cols(&c->in[0]) <= 4096);
}
#endif
