/* embed_grad.c — inputs ids, dy. */
#include "op/embed_grad/embed_grad.h"
#include "op/rule.h"
#include <string.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_embed_grad);

lm_err lm_rows_add_shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    int64_t rows = ((const lm_embed_grad_p *)c->p)->rows;
    LM_TRY(lm_want(ctx, c, 0, LM_I32, 1, 1));
    LM_TRY(lm_want(ctx, c, 1, LM_ANY_FLOAT, 2, 2));
    LM_TRY(lm_want_dims(ctx, c, 1, LM_DIMS(c->in[0].dim[0], c->in[1].dim[1])));
    if (rows < 0) return lm_fail(ctx, LM_E_SHAPE, "%s: rows: got %lld, wanted 0 or more", c->op->name, (long long)rows);
    out[0] = LM_TYPE((lm_dtype)c->in[1].dtype, rows, c->in[1].dim[1]);
    if (lm_has(c, 2)) {                            /* as many rows as that input has at run time (rows_from) */
        LM_TRY(lm_want_dims(ctx, c, 2, LM_DIMS(c->in[2].dim[0], c->in[1].dim[1])));
        out[0].dim[0] = c->in[2].dim[0];
    } else out[0].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
void lm_rows_add_ref(const lm_call *c) {
    const int32_t *ids = c->in[0].data; const double *dy = lm_f64(&c->in[1]); double *dw = lm_f64(&c->out[0]);
    int64_t n = c->in[0].dim[0], d = c->out[0].dim[1];
    memset(dw, 0, (size_t)lm_numel(&c->out[0]) * sizeof(double));
    for (int64_t i = 0; i < n; i++) if (ids[i] >= 0 && ids[i] < c->out[0].dim[0]) for (int64_t j = 0; j < d; j++) dw[ids[i] * d + j] += dy[i * d + j];
}
void lm_rows_add_cost(const lm_call *c, double *flops, double *bytes) {
    double n = (double)lm_numel(&c->in[1]);
    *flops = n; *bytes = n * 12 + (c->acc & 1 ? 0 : (double)lm_numel(&c->out[0]) * 4);
}
#define IDS(n, v) { .rank = 1, .dim = { n }, .dtype = LM_I32, .fill = LM_FILL_IDS, .arg = v }
static const lm_sample samples[] = {
    { .name = "one", .params = &(lm_embed_grad_p){ 1 }, .in = { IDS(1, 1), { .rank = 2, .dim = { 1, 1 } } }, .tol = 1e-6 },
    { .name = "repeats", .params = &(lm_embed_grad_p){ 5 }, .in = { IDS(40, 5), { .rank = 2, .dim = { 40, 33 } } }, .tol = 2e-6 },
    { .name = "several tiles",
      .params = &(lm_embed_grad_p){ 300 },
      .in = { IDS(70, 300), { .rank = 2, .dim = { 70, 150 } } },
      .tol = 1e-6 },
    { .name = "whole tiles", .params = &(lm_embed_grad_p){ 9 }, .in = { IDS(20, 9), { .rank = 2, .dim = { 20, 128 } } }, .tol = 1e-6 },
    { .name = "rows of thousands",
      .params = &(lm_embed_grad_p){ 2 },
      .in = { IDS(5000, 2), { .rank = 2, .dim = { 5000, 24 } } }, .tol = 2e-5, .tol_norm = 2e-6 },
    { .name = "more rows than classes",
      .params = &(lm_embed_grad_p){ 1300 },
      .in = { IDS(900, 1300), { .rank = 2, .dim = { 900, 1032 } } }, .tol = 1e-6 },
    { 0 }
};
const lm_op lm_op_embed_grad = { .name = "embed_grad",
                                 .math = "dW[ids_i] += dy_i",
                                 .n_in = 2,
                                 .n_out = 1,
                                 .params_bytes = sizeof(lm_embed_grad_p),
                                 .acc_ok = 1,
                                 .opaque = 1,
                                 .shape = lm_rows_add_shape,
                                 .ref = lm_rows_add_ref,
                                 .cost = lm_rows_add_cost,
                                 .kernels = lm_k_embed_grad,
                                 .samples = samples };
lm_value *lm_embed_grad(lm_graph *g, lm_value *ids, lm_value *dy, int64_t rows) {
    return lm_emit(g, &lm_op_embed_grad, &(lm_embed_grad_p){ rows }, 2, (lm_value *const[]){ ids, dy });
}
