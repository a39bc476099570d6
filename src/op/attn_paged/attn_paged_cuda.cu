/* attn_paged_cuda.cu — attention of new tokens over pages. In bf16 on Hopper: paged_cuda.cuh. Here the rest, and attention with sinks: a block has one row, one kv head (up to LM_GROUP of the heads that read it) and
 * `each` pages; a second kernel joins the parts in order.
 *
 * Scores: a lane has one token of a page (keys lie sixteen tokens side by side), two lanes share it by halves of the dimensions. Values: a
 * thread has dimensions, tokens in order. A part is one page, or more where a sequence may have over PARTS: fixed by the table's capacity,
 * so a row's bits depend on nothing but its own keys. Few rows are bound by latency (so loads of eight dimensions or tokens are in flight
 * at once), many by reading the pages once per kv head and row. */
#include <cuda_fp16.h>
#include "op/attn_paged/paged_cuda.cuh"
extern "C" {
#include "op/attn_paged/attn_paged.h"
}
enum { PARTS = 32, LM_GROUP = 8 };                                         /* parts of a sequence at most; heads that share a reading */
struct args { lm_cv q, o; const void *k, *v; const int32_t *table, *seq, *pos; float *part; int64_t n, per, pages, window, seqs; int heads, kv, d, splits, each; float scale, cap; bool round; int32_t *fault; const float *sinks; };
template <int dtype> struct page_of { typedef float raw; };
template <> struct page_of<LM_BF16> { typedef __nv_bfloat16 raw; };
template <> struct page_of<LM_F16> { typedef __half raw; };
__device__ __forceinline__ float number(float x, bool round) { return round ? __bfloat162float(__float2bfloat16_rn(x)) : x; }
__device__ __forceinline__ float number(__nv_bfloat16 x, bool round) { (void)round; return __bfloat162float(x); }
__device__ __forceinline__ float number(__half x, bool round) { return number(__half2float(x), round); }
template <int dtype> __global__ void __launch_bounds__(128) parts(const args a) {
    typedef typename page_of<dtype>::raw raw;
    const raw *const keys = static_cast<const raw *>(a.k), *const values = static_cast<const raw *>(a.v);
    __shared__ float sq[LM_GROUP][LM_ATTN_MAX_D], sp[LM_GROUP][LM_KV_PAGE], top[LM_GROUP], keep[LM_GROUP], sum[LM_GROUP];
    const int64_t n = blockIdx.x; const int group = a.heads / a.kv, packs = (group + LM_GROUP - 1) / LM_GROUP, hk = blockIdx.y / packs, g0 = blockIdx.y % packs * LM_GROUP, G = min(LM_GROUP, group - g0);
    const int split = blockIdx.z, lane = threadIdx.x % 32, w = threadIdx.x / 32, h0 = hk * group + g0, D = a.d;
    const int64_t pos = a.pos[n], from = pos < 0 ? 0 : (a.window > 0 && pos - a.window + 1 > 0 ? pos - a.window + 1 : 0), p0 = from / LM_KV_PAGE / a.each * a.each + static_cast<int64_t>(split) * a.each;
    if (pos < 0 || p0 * LM_KV_PAGE > pos) return;
    const int64_t s = a.seq[n];
    if (s < 0 || s >= a.seqs || pos >= a.per * LM_KV_PAGE) { if (a.fault) *a.fault = LM_E_RANGE; return; }
    /* heads beyond the group take part with zeros */
    for (int i = threadIdx.x; i < LM_GROUP * LM_ATTN_MAX_D; i += 128) sq[i / LM_ATTN_MAX_D][i % LM_ATTN_MAX_D] = 0;
    for (int i = threadIdx.x; i < LM_GROUP * LM_KV_PAGE; i += 128) sp[i / LM_KV_PAGE][i % LM_KV_PAGE] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < G * D; i += 128) sq[i / D][i % D] = lm_in(a.q, n * a.q.rs + static_cast<int64_t>(h0) * D + i, a.round) * a.scale;
    if (threadIdx.x < LM_GROUP) { top[threadIdx.x] = -INFINITY; sum[threadIdx.x] = 0; }
    float o[LM_GROUP][2] = {};
    for (int64_t p = p0; p < p0 + a.each && p * LM_KV_PAGE <= pos; p++) {
        const int64_t page = a.table[s * a.per + p];
        if (page < 0 || page >= a.pages) { if (a.fault) *a.fault = LM_E_RANGE; return; }
        const int64_t base = (page * a.kv + hk) * LM_KV_PAGE * D;
        __syncthreads();
        {   /* scores: warp w has tokens 16w … 16w+15 */
            const int t = lane % 16, half = lane / 16, d0 = half * (D / 2), d1 = half ? D : D / 2; const int64_t x = p * LM_KV_PAGE + w * 16 + t;
            float acc[LM_GROUP] = {};
            for (int d = d0; d < d1; d += 8) {
                raw kd[8];
#pragma unroll
                for (int e = 0; e < 8; e++) kd[e] = keys[base + (static_cast<int64_t>(w) * D + (d + e < d1 ? d + e : d)) * 16 + t];
#pragma unroll
                for (int e = 0; e < 8; e++) {
                    const float x = d + e < d1 ? number(kd[e], a.round) : 0.0f;
#pragma unroll
                    for (int g = 0; g < LM_GROUP; g++) acc[g] = fmaf(sq[g][d + e < d1 ? d + e : d], x, acc[g]);
                }
            }
#pragma unroll
            for (int g = 0; g < LM_GROUP; g++) {
                float v = acc[g] + __shfl_xor_sync(0xffffffffu, acc[g], 16);
                if (a.cap > 0) v = a.cap * tanhf(v / a.cap);
                if (half == 0 && g < G) sp[g][w * 16 + t] = x > pos || x < from ? -INFINITY : v;
            }
        }
        __syncthreads();
        for (int g = w; g < G; g += 4) {                                    /* a warp per head: 64 scores become weights */
            const float u = sp[g][lane], v = sp[g][lane + 32], most = fmaxf(top[g], lm_cuda_warp_max(fmaxf(u, v))), b = most == -INFINITY ? 0.0f : most, eu = expf(u - b), ev = expf(v - b);
            const float add = lm_cuda_warp_sum(eu + ev);
            sp[g][lane] = eu; sp[g][lane + 32] = ev;
            __syncwarp();
            if (lane == 0) { keep[g] = expf(top[g] - b); sum[g] = sum[g] * keep[g] + add; top[g] = most; }
        }
        __syncthreads();
        const int tokens = static_cast<int>(pos - p * LM_KV_PAGE + 1 < LM_KV_PAGE ? pos - p * LM_KV_PAGE + 1 : LM_KV_PAGE);
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int d = threadIdx.x + e * 128;
            if (d >= D) continue;
#pragma unroll
            for (int g = 0; g < LM_GROUP; g++) if (g < G) o[g][e] *= keep[g];
            for (int t = 0; t < tokens; t += 8) {
                raw vd[8];
#pragma unroll
                for (int q = 0; q < 8; q++) vd[q] = values[base + static_cast<int64_t>(t + q < tokens ? t + q : t) * D + d];
#pragma unroll
                for (int q = 0; q < 8; q++) {
                    const float x = t + q < tokens ? number(vd[q], a.round) : 0.0f;
#pragma unroll
                    for (int g = 0; g < LM_GROUP; g++) o[g][e] = fmaf(t + q < tokens ? sp[g][t + q] : 0.0f, x, o[g][e]);
                }
            }
        }
    }
    __syncthreads();
#pragma unroll
    for (int g = 0; g < LM_GROUP; g++) {
        if (g >= G) continue;
        float *to = a.part + ((n * a.heads + h0 + g) * a.splits + split) * (D + 2);
#pragma unroll
        for (int e = 0; e < 2; e++) if (const int d = threadIdx.x + e * 128; d < D) to[d] = o[g][e];
        if (threadIdx.x == 0) { to[D] = top[g]; to[D + 1] = sum[g]; }
    }
}
static __global__ void __launch_bounds__(128) join(const args a) {
    const int64_t n = blockIdx.x; const int h = blockIdx.y, D = a.d;
    const int64_t pos = a.pos[n], from = pos < 0 ? 0 : (a.window > 0 && pos - a.window + 1 > 0 ? pos - a.window + 1 : 0), first = from / LM_KV_PAGE / a.each * a.each;
    const int count = pos < 0 ? 0 : static_cast<int>((pos / LM_KV_PAGE - first) / a.each + 1);
    const float *p = a.part + (n * a.heads + h) * a.splits * (D + 2);
    float top = -INFINITY, sum = 0, o[2] = {};
    for (int s = 0; s < count && s < a.splits; s++, p += D + 2) {
        const float m = fmaxf(top, p[D]), b = m == -INFINITY ? 0.0f : m, x = expf(top - b), y = expf(p[D] - b);
        sum = sum * x + p[D + 1] * y;
#pragma unroll
        for (int e = 0; e < 2; e++) if (const int d = threadIdx.x + e * 128; d < D) o[e] = o[e] * x + p[d] * y;
        top = m;
    }
    if (a.sinks) sum += expf(a.sinks[h] - top);                             /* may be infinite: then nothing is left */
#pragma unroll
    for (int e = 0; e < 2; e++) if (const int d = threadIdx.x + e * 128; d < D) lm_st1(a.o, n * a.o.rs + static_cast<int64_t>(h) * D + d, sum > 0 ? o[e] / sum : 0.0f);
}
static int each_of(const lm_call *c) { return static_cast<int>(lm_max64(1, lm_ceil_div(c->in[3].dim[1], PARTS))); }
/* a window may begin inside a part */
static int splits_of(const lm_call *c) { return static_cast<int>(lm_ceil_div(c->in[3].dim[1], each_of(c)) + (each_of(c) > 1)); }
/* Parts of every row and head; the forms of paged_cuda.cuh keep only a counter. Which of the two it will be is known from the strides: heads
 * of theirs are 64 bytes and more, and so is every beginning in a plan's memory. */
enum { COUNTER = 256 };
static size_t shared(const lm_call *c) {
    const lm_attn_p *p = static_cast<const lm_attn_p *>(c->p);
    if (paged_takes(c) && lm_row_stride(&c->in[0]) % 8 == 0 && lm_row_stride(&c->out[0]) % 8 == 0) return COUNTER;
    return static_cast<size_t>(c->in[0].dim[0] * p->n_head * splits_of(c) * (p->d_head + 2)) * 4;
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_attn_p *p = static_cast<const lm_attn_p *>(c->p);
    args a = {};
    a.q = lm_cv_of(&c->in[0]); a.o = lm_cv_of(&c->out[0]); a.k = c->in[1].data; a.v = c->in[2].data; a.table = static_cast<const int32_t *>(c->in[3].data); a.seq = static_cast<const int32_t *>(c->in[4].data);
    a.pos = static_cast<const int32_t *>(c->in[5].data); a.part = static_cast<float *>(c->shared); a.n = c->in[0].dim[0]; a.per = c->in[3].dim[1]; a.pages = c->in[1].dim[0]; a.window = p->window;
    a.seqs = c->in[3].dim[0]; a.heads = p->n_head; a.kv = p->n_kv; a.d = p->d_head; a.splits = splits_of(c); a.each = each_of(c); a.scale = p->scale; a.cap = p->cap; a.round = p->mm == LM_BF16; a.fault = c->fault;
    a.sinks = lm_has(c, 6) ? static_cast<const float *>(c->in[6].data) : NULL;
    if (!a.n) return LM_OK;
    if (paged_takes(c)) {
        const paged x = { a.q, a.o, static_cast<const __nv_bfloat16 *>(a.k), static_cast<const __nv_bfloat16 *>(a.v), a.table, a.seq, a.pos, a.n, a.per, a.pages, a.window, a.seqs, a.heads, a.kv, 0, 1, a.scale, a.fault, (c->fixed >> 3 & 7) == 7 };
        const lm_call *const prompt = lm_paged_prompt_takes(c, a.d) ? c : NULL;
        const cudaStream_t on = LM_CUDA_STREAM(scratch);
        const bool alone = c->dev->features & LM_CUDA_ROW_ALONE;
        const bool hopper = lm_paged_decode_takes(c->dev, a.d);
        return a.d == 32 ? paged_run<32>(x, NULL, false, alone, on) : a.d == 64 ? paged_run<64>(x, prompt, hopper, alone, on) : paged_run<128>(x, prompt, hopper, alone, on);
    }
    const int packs = (a.heads / a.kv + LM_GROUP - 1) / LM_GROUP;
    if (a.splits > 65535 || a.kv * packs > 65535) return LM_E_RANGE;
    const dim3 grid(static_cast<unsigned>(a.n), static_cast<unsigned>(a.kv * packs), static_cast<unsigned>(a.splits));
    if (c->in[1].dtype == LM_BF16) parts<LM_BF16><<<grid, 128, 0, LM_CUDA_STREAM(scratch)>>>(a);
    else if (c->in[1].dtype == LM_F16) parts<LM_F16><<<grid, 128, 0, LM_CUDA_STREAM(scratch)>>>(a);
    else parts<LM_F32><<<grid, 128, 0, LM_CUDA_STREAM(scratch)>>>(a);
    join<<<dim3(static_cast<unsigned>(a.n), static_cast<unsigned>(a.heads)), 128, 0, LM_CUDA_STREAM(scratch)>>>(a);
    return lm_cuda_launched();
}
static bool accepts(const lm_call *c) {
    for (int i = 1; i < 3; i++) if ((c->in[i].dtype != LM_F32 && c->in[i].dtype != LM_BF16 && c->in[i].dtype != LM_F16) || c->in[i].dtype != c->in[1].dtype || !lm_is_contig(&c->in[i])) return false;
    for (int i = 3; i < 6; i++) if (c->in[i].dtype != LM_I32 || !lm_is_contig(&c->in[i])) return false;
    return lm_cuda_float(&c->in[0]) && lm_cuda_float(&c->out[0]) && (!lm_has(c, 6) || lm_is_f32_vec(&c->in[6]));
}
LM_CUDA_ALONE(attn_paged, "attn_paged/cuda", accepts, run, shared, NULL)
