/* matmul_fp8.c — see matmul_fp8.h. */
#include "op/matmul_fp8/matmul_fp8.h"
#include "op/quant_fp8/quant_fp8.h"
#include "op/rule.h"
#include <string.h>
enum { T = LM_FP8_TILE };

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_matmul_fp8_p *p = c->p;
    const lm_tensor *a = &c->in[0], *sa = &c->in[1], *b = &c->in[2];
    LM_TRY(lm_want(ctx, c, 0, LM_F8_E4M3, 2, 2));
    LM_TRY(lm_want(ctx, c, 1, LM_F32, 2, 2));
    LM_TRY(lm_want(ctx, c, 2, LM_F8_E4M3, 2, 2));
    LM_TRY(lm_want(ctx, c, 3, LM_F32, 2, 2));
    const int64_t M = a->dim[0], K = a->dim[1], N = b->dim[0];
    if (K % T || N % T || b->dim[1] != K || sa->dim[0] != K / T || sa->dim[1] % T || sa->dim[1] < M)
        return lm_fail(ctx, LM_E_SHAPE,
            "matmul_fp8: got a (%lld, %lld), its scales (%lld, %lld), b (%lld, %lld); wanted columns alike, multiples of 128", (long long)M,
                       (long long)K, (long long)sa->dim[0], (long long)sa->dim[1], (long long)N, (long long)b->dim[1]);
    LM_TRY(p->b_blocks ? lm_want_dims(ctx, c, 3, LM_DIMS(N / T, K / T)) : lm_want_dims(ctx, c, 3, LM_DIMS(K / T, N)));
    if (lm_has(c, 4)) { LM_TRY(lm_want(ctx, c, 4, LM_ANY_FLOAT, 2, 2)); LM_TRY(lm_want_dims(ctx, c, 4, LM_DIMS(M, N))); }
    out[0] = LM_TYPE(LM_F32, M, N);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const lm_matmul_fp8_p *p = c->p;
    const int64_t M = c->in[0].dim[0], K = c->in[0].dim[1], N = c->in[2].dim[0], ld = c->in[1].dim[1];
    const double *a = lm_f64(&c->in[0]), *sa = lm_f64(&c->in[1]), *b = lm_f64(&c->in[2]), *sb = lm_f64(&c->in[3]),
                 *h = lm_has(c, 4) ? lm_f64(&c->in[4]) : NULL;
    for (int64_t m = 0; m < M; m++) for (int64_t n = 0; n < N; n++) {
        double s = h ? h[m * N + n] : 0;
        for (int64_t k = 0; k < K; k += T) {
            const double *x = a + m * K + k, *w = b + n * K + k;
            double t = 0;
            for (int i = 0; i < T; i++) t += x[i] * w[i];
            s += t * (sa[k / T * ld + m] * (p->b_blocks ? sb[n / T * (K / T) + k / T] : sb[k / T * N + n]));
        }
        lm_f64(&c->out[0])[m * N + n] = c->acc & 1 ? lm_f64(&c->out[0])[m * N + n] + s : s;
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    (void)bytes;
    *flops = 2.0 * (double)lm_numel(&c->out[0]) * (double)lm_cols(&c->in[0]);
}

/* ---- the processor's row: 32 rows of C at a time, side by side in memory; 128 products are added in f32, then scaled and added to the sum ----- */
enum { ROWS = 32 };
typedef float four __attribute__((vector_size(16)));
typedef union { four v[ROWS / 4]; float f[ROWS]; } column;
static bool accepts(const lm_call *c) {
    for (int i = 0; i < c->n_in; i++) if (lm_has(c, i) && (!lm_is_contig(&c->in[i]) || (i == 4 && c->in[i].dtype != LM_F32))) return false;
    return (c->out[0].dtype == LM_F32 || (c->out[0].dtype == LM_BF16 && !lm_has(c, 4))) && c->out[0].layout == LM_PLAIN && lm_is_contig(&c->out[0]);
}
/* in bf16 (a gradient that is stored so) rows are made in f32 first */
static size_t room(const lm_call *c) { return c->out[0].dtype == LM_BF16 ? (size_t)ROWS * (size_t)c->out[0].dim[1] * sizeof(float) : 0; }
static int64_t tiles(const lm_call *c) { return lm_ceil_div(c->out[0].dim[0], ROWS); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    const lm_matmul_fp8_p *p = c->p;
    const int64_t K = c->in[0].dim[1], N = c->in[2].dim[0], ld = c->in[1].dim[1], m0 = tile * ROWS, n_m = lm_min64(ROWS, c->out[0].dim[0] - m0);
    const uint8_t *a = (const uint8_t *)c->in[0].data + m0 * K, *b = c->in[2].data;
    const float *sa = (const float *)c->in[1].data + m0, *sb = c->in[3].data, *h = lm_has(c, 4) ? (const float *)c->in[4].data + m0 * N : NULL;
    column x[T], s;
    const bool half = c->out[0].dtype == LM_BF16;
    uint16_t *const stored = half ? (uint16_t *)c->out[0].data + m0 * N : NULL;
    float code[256], w[T], *y = half ? scratch : (float *)c->out[0].data + m0 * N;
    uint8_t all[256];
    for (int i = 0; i < 256; i++) all[i] = (uint8_t)i;
    lm_convert(code, LM_F32, all, LM_F8_E4M3, 256);
    memset(x, 0, sizeof x);
    if (half && c->acc & 1) lm_convert(y, LM_F32, stored, LM_BF16, n_m * N);
    for (int64_t i = 0; i < n_m * N; i++) y[i] = (c->acc & 1 ? y[i] : 0) + (h ? h[i] : 0);
    for (int64_t k = 0; k < K; k += T) {
        for (int i = 0; i < T; i++) for (int m = 0; m < n_m; m++) x[i].f[m] = code[a[m * K + k + i]];
        for (int64_t n = 0; n < N; n++) {
            const float scale = p->b_blocks ? sb[n / T * (K / T) + k / T] : sb[k / T * N + n];
            for (int i = 0; i < T; i++) w[i] = code[b[n * K + k + i]];
            memset(&s, 0, sizeof s);
            for (int i = 0; i < T; i++) for (int m = 0; m < ROWS / 4; m++) s.v[m] += x[i].v[m] * w[i];
            for (int m = 0; m < n_m; m++) y[m * N + n] += s.f[m] * (sa[k / T * ld + m] * scale);
        }
    }
    if (half) lm_convert(stored, LM_BF16, y, LM_F32, n_m * N);
    return LM_OK;
}
static const lm_kernel plain[] = { { .name = "matmul_fp8.portable", .order = "matmul_fp8", .accepts = accepts, .thread_bytes = room, .n_phase = 1,
                                     .phase = { { tiles, run } } }, { 0 } };
LM_CUDA_DECLARE(lm_k_matmul_fp8);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_matmul_fp8) plain, NULL };

/* ---- a sum with the product is made where the product is ---------------------------------------------------------------------------------- */
static const char *const unites[] = { "X=matmul_fp8(a,s,b,t) S=add(h,X)", NULL };
static bool unite(const void *const *params, const lm_type *const *in, uint32_t outs, void *out) {
    (void)outs;
    memcpy(out, params[0], sizeof(lm_matmul_fp8_p));
    return in[4]->rank == 2 && in[4]->dim[1] == in[2]->dim[0];
}
#define P(...) &(const lm_matmul_fp8_p){ __VA_ARGS__ }
#define Q(r, c) { .rank = 2, .dim = { r, c }, .dtype = LM_F8_E4M3 }
#define S(r, c) { .rank = 2, .dim = { r, c }, .fill = LM_FILL_POSITIVE }
#define H(r, c) { .rank = 2, .dim = { r, c } }
#define F .tol = 2e-3, .tol_norm = 5e-4
static const lm_sample samples[] = {
    { "one tile, blocks", P(.b_blocks = true), { Q(128, 128), S(1, 128), Q(128, 128), S(1, 1) }, F },
    { "blocks 300x384x640", P(.b_blocks = true), { Q(300, 640), S(5, 384), Q(384, 640), S(3, 5) }, F },
    { "blocks, few rows", P(.b_blocks = true), { Q(5, 256), S(2, 128), Q(256, 256), S(2, 2) }, F },
    { "by columns 256x384x512", P(0), { Q(256, 512), S(4, 256), Q(384, 512), S(4, 384) }, F },
    { "by columns, parts of K", P(0), { Q(128, 4096), S(32, 128), Q(128, 4096), S(32, 128) }, F },
    { "by columns, large", P(0), { Q(256, 1024), S(8, 256), Q(512, 1024), S(8, 512) }, F },
    { "blocks, large", P(.b_blocks = true), { Q(256, 1024), S(8, 256), Q(512, 1024), S(4, 8) }, F },
    { "blocks added to, large", P(.b_blocks = true), { Q(256, 1024), S(8, 256), Q(512, 1024), S(4, 8), H(256, 512) }, F },
    { "blocks added to", P(.b_blocks = true), { Q(260, 384), S(3, 384), Q(256, 384), S(2, 3), H(260, 256) }, F },
    { "added to, parts of K", P(0), { Q(128, 2048), S(16, 128), Q(256, 2048), S(16, 256), H(128, 256) }, F },
    { NULL }
};
const lm_op lm_op_matmul_fp8 = { .name = "matmul_fp8", .math = "C = (a sa) (b sb)T [+ h] of e4m3 tiles, f32 sums", .n_in = 4, .n_opt = 1, .n_out = 1,
    .params_bytes = sizeof(lm_matmul_fp8_p), .acc_ok = 1, .opaque = 31, .shape = shape, .ref = ref, .cost = cost, .kernels = kernels,
        .samples = samples,
    .unite_in = "asbth", .unite_out = "S", .unites = unites, .unite = unite };
lm_value *lm_matmul_fp8(lm_graph *g, lm_value *a, lm_value *sa, lm_value *b, lm_value *sb, bool b_blocks) {
    const lm_matmul_fp8_p p = { .b_blocks = b_blocks };
    return lm_emit(g, &lm_op_matmul_fp8, &p, 4, (lm_value *const[]){ a, sa, b, sb });
}
