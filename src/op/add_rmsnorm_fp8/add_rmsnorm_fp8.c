/* add_rmsnorm_fp8.c — add_rmsnorm, then quant_fp8 of the norm. The processor's plans keep the two apart; its row is a plain one. */
#include "op/add_rmsnorm_fp8/add_rmsnorm_fp8.h"
#include "op/rule.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
enum { T = LM_FP8_TILE };

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_add_rmsnorm_fp8_p *p = c->p;
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 2, 2));
    LM_TRY(lm_want_like(ctx, c, 1, 0));
    LM_TRY(lm_want_cols(ctx, c, 2, 0));
    LM_TRY(lm_fp8_shape(ctx, "add_rmsnorm_fp8", c->in[0].dim[0], c->in[0].dim[1], &p->to, out + 2));
    out[0] = lm_type_like(&c->in[0]);
    out[1] = lm_norm_stat_type(&c->in[0], c->in[0].dim[1]);
    out[6] = LM_TYPE(LM_I64, c->in[3].dim[0]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const lm_add_rmsnorm_fp8_p *p = c->p;
    const int64_t n = c->in[0].dim[0], d = c->in[0].dim[1];
    const double *w = lm_f64(&c->in[2]);
    double *y = malloc((size_t)(n * d) * sizeof *y + 8);
    for (int64_t r = 0; r < n && y; r++) {
        const double *a = lm_f64(&c->in[0]) + r * d, *b = lm_f64(&c->in[1]) + r * d;
        double *s = lm_f64(&c->out[0]) + r * d, q = 0;
        for (int64_t j = 0; j < d; j++) { s[j] = a[j] + b[j]; q += s[j] * s[j]; }
        const double rstd = lm_f64(&c->out[1])[r] = 1 / sqrt(q / (double)d + (double)p->norm.eps);
        for (int64_t j = 0; j < d; j++) y[r * d + j] = s[j] * rstd * (w[j] + (double)p->norm.offset);
    }
    if (y) lm_fp8_ref(&p->to, y, n, d, c->out + 2, c->out[6].data);
    free(y);
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    const lm_quant_fp8_p *p = &((const lm_add_rmsnorm_fp8_p *)c->p)->to;
    const double n = (double)lm_numel(&c->in[0]);
    *flops = n * (7 + 2 * p->rows + 2 * p->cols);
    *bytes = n * (2 * (double)lm_dtype_size((lm_dtype)c->in[0].dtype) + (double)lm_dtype_size((lm_dtype)c->in[1].dtype) + p->rows + p->cols);
}
static const char *const unites[] = { "S,Y,R=add_rmsnorm(a,b,w) Q,E,T,D,N=quant_fp8(Y,n)", NULL };
static bool unite(const void *const *params, const lm_type *const *in, uint32_t outs, void *out) {
    (void)outs;
    lm_add_rmsnorm_fp8_p *p = out;
    memcpy(&p->norm, params[0], sizeof p->norm); memcpy(&p->to, params[1], sizeof p->to);
    return in[0]->rank == 2 && in[0]->dim[1] % T == 0 && !p->to.blocks;
}
static bool accepts(const lm_call *c) {
    for (int i = 2; i < 6; i++) if (c->out[i].rank && (!lm_is_contig(&c->out[i]) || c->out[i].dtype != (i % 2 ? LM_F32 : LM_F8_E4M3))) return false;
    for (int i = 0; i < 3; i++) if (c->in[i].dtype != LM_F32 || c->in[i].layout != LM_PLAIN || !lm_rows_fold(&c->in[i])) return false;
    return c->out[0].dtype == LM_F32 && lm_is_contig(&c->out[0]) && lm_is_contig(&c->out[1]) && lm_is_contig(&c->in[2]);
}
static int64_t tiles(const lm_call *c) { return lm_ceil_div(c->in[0].dim[0], T); }
static lm_err run(const lm_call *c, int64_t i, void *scratch) {
    const lm_add_rmsnorm_fp8_p *p = c->p;
    const int64_t d = c->in[0].dim[1], r0 = i * T, n = lm_min64(T, c->in[0].dim[0] - r0);
    const float *w = c->in[2].data;
    float *y = scratch;
    for (int64_t r = 0; r < n; r++) {
        const float *a = (const float *)c->in[0].data + (r0 + r) * lm_row_stride(&c->in[0]), *b = (const float *)c->in[1].data + (r0 + r) * lm_row_stride(&c->in[1]);
        float *s = (float *)c->out[0].data + (r0 + r) * d, q = 0;
        for (int64_t j = 0; j < d; j++) { s[j] = a[j] + b[j]; q += s[j] * s[j]; }
        const float rstd = ((float *)c->out[1].data)[r0 + r] = 1.0f / sqrtf(q / (float)d + p->norm.eps);
        for (int64_t j = 0; j < d; j++) y[r * d + j] = s[j] * rstd * (w[j] + p->norm.offset);
    }
    for (int64_t c0 = 0; c0 < d; c0 += T) lm_fp8_tile(&p->to, y + c0, d, r0, c0, n, c->out + 2, c->out[6].data);
    return LM_OK;
}
static size_t room(const lm_call *c) { return (size_t)T * (size_t)c->in[0].dim[1] * sizeof(float); }
static const lm_kernel plain[] = { { .name = "add_rmsnorm_fp8.portable", .order = "add_rmsnorm_fp8", .accepts = accepts, .thread_bytes = room, .n_phase = 1,
    .phase = { { tiles, run } } }, { 0 } };
LM_CUDA_DECLARE(lm_k_add_rmsnorm_fp8);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_add_rmsnorm_fp8) plain, NULL };
#define P(off) &(const lm_add_rmsnorm_fp8_p){ .norm = { 1e-5f, off }, .to = { .rows = true, .cols = true, .square = true } }
#define X(r, c) { .rank = 2, .dim = { r, c } }
#define S(r, c) { X(r, c), X(r, c), { .rank = 1, .dim = { c } }, { .rank = 1, .dim = { 12 }, .dtype = LM_I64, .fill = LM_FILL_IOTA } }
#define F .tol = 0.13, .tol_norm = 5e-3            /* a number on the edge between two codes is one of them or the other */
static const lm_sample samples[] = {
    { "one tile", P(0), S(128, 128), F },
    { "rows short of a tile, offset", P(1), S(150, 384), F },
    { "a warp's row", P(0), S(37, 256), F },
    { "2048 columns", P(0), S(300, 2048), F },
    { "4096 columns", P(0), S(130, 4096), F },
    { "2560 columns", P(0), S(20, 2560), F },
    { NULL }
};
const lm_op lm_op_add_rmsnorm_fp8 = { .name = "add_rmsnorm_fp8", .math = "s = a + b, q es ~ y, qt ds ~ yT in e4m3 for y = rmsnorm(s, w)", .n_in = 4, .n_out = 7,
    .params_bytes = sizeof(lm_add_rmsnorm_fp8_p), .alias = { 0, 0, 0, 0, 0, 0, 4 }, .opaque = 15, .sums = 1, .shape = shape, .ref = ref, .cost = cost,
    .kernels = kernels, .samples = samples, .unite_in = "abwn", .unite_out = "SRQETDN", .unites = unites, .unite = unite };
