/* embed.c — a copy of whole rows, so one kernel serves every instruction set: the conversions of tensor/ and quant/ choose their own. */
#include "op/embed/embed.h"
#include "op/embed_grad/embed_grad.h"
#include "op/rule.h"
#include <string.h>

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_tensor *w = &c->in[0];
    if (w->dtype != LM_QUANT) LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 2, 2));
    else LM_TRY(lm_want(ctx, c, 0, LM_QUANT, 2, 2));
    LM_TRY(lm_want(ctx, c, 1, LM_I32, 1, 1));
    out[0] = LM_TYPE(LM_F32, c->in[1].dim[0], w->dim[1]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const double *w = lm_f64(&c->in[0]); const int32_t *ids = c->in[1].data; double *y = lm_f64(&c->out[0]);
    int64_t n = c->in[1].dim[0], v = c->in[0].dim[0], d = c->in[0].dim[1];
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < d; j++) y[i * d + j] = ids[i] >= 0 && ids[i] < v ? w[ids[i] * d + j] : 0;
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    if (d->want[0]) d->gin[0] = lm_embed_grad(g, d->in[1], d->gout[0], lm_type_of(d->in[0])->dim[0]);
    return LM_OK;
}
/* What is read is the rows named, not the table. */
static void cost(const lm_call *c, double *flops, double *bytes) {
    const lm_tensor *w = &c->in[0]; size_t row = 0; int64_t dim[2] = { 16, w->dim[1] };
    lm_storage_bytes((lm_dtype)w->dtype, w->quant, (lm_layout)w->layout, 2, dim, &row);
    *flops = 0; *bytes = (double)c->in[1].dim[0] * ((double)row / 16 + (double)w->dim[1] * 4 + 4);
}

enum { ROWS = 16 };
static bool accepts(const lm_call *c) {
    const lm_tensor *w = &c->in[0];
    bool plain = w->layout == LM_PLAIN && (w->dtype == LM_QUANT || (lm_dtype_is_float((lm_dtype)w->dtype) && lm_rows_fold(w)));
    bool panel = (w->layout == LM_PANEL16 && (w->dtype == LM_F32 || w->dtype == LM_QUANT)) || (w->layout == LM_PANEL16X2 && w->dtype == LM_BF16);
    return (plain || panel) && c->in[1].dtype == LM_I32 && lm_is_contig(&c->in[1]) && c->out[0].dtype == LM_F32 &&
           c->out[0].layout == LM_PLAIN && lm_rows_fold(&c->out[0]);
}
static int64_t tiles(const lm_call *c) { return lm_ceil_div(c->in[1].dim[0], ROWS); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; const lm_tensor *w = &c->in[0]; const int32_t *ids = c->in[1].data;
    const int64_t d = w->dim[1], ld = lm_row_stride(&c->out[0]); lm_err err = LM_OK;
    for (int64_t i = tile * ROWS, end = lm_min64(i + ROWS, c->in[1].dim[0]); i < end; i++) {
        float *y = (float *)c->out[0].data + i * ld;
        if (ids[i] < 0 || ids[i] >= w->dim[0]) { err = LM_E_RANGE; continue; }
        if (w->dtype == LM_F32 && w->layout == LM_PLAIN) memcpy(y, (const float *)w->data + ids[i] * lm_row_stride(w), (size_t)d * 4);
        else lm_layout_get_rows(w, ids[i], 1, y);
    }
    return err;
}
static const lm_kernel rows[] = { { .name = "rows.any", .order = "rows", .accepts = accepts, .n_phase = 1, .phase = { { tiles, run } } }, { 0 } };
LM_CUDA_F16_DECLARE(lm_k_rows);
const lm_kernel *const lm_k_rows[] = { LM_CUDA_F16_ROWS(lm_k_rows) rows, NULL };

#define IDS(n, v) { .rank = 1, .dim = { n }, .dtype = LM_I32, .fill = LM_FILL_IDS, .arg = v }
static const lm_sample samples[] = {
    { .name = "one", .params = NULL, .in = { { .rank = 2, .dim = { 1, 1 } }, IDS(1, 1) } },
    { .name = "f32", .params = NULL, .in = { { .rank = 2, .dim = { 50, 33 } }, IDS(70, 50) } },
    { .name = "bf16", .params = NULL, .in = { { .rank = 2, .dim = { 50, 33 }, .dtype = LM_BF16 }, IDS(21, 50) } },
    { .name = "f16", .params = NULL, .in = { { .rank = 2, .dim = { 50, 33 }, .dtype = LM_F16 }, IDS(21, 50) } },
    { .name = "panels", .params = NULL, .in = { { .rank = 2, .dim = { 50, 37 }, .layout = LM_PANEL16 }, IDS(21, 50) } },
    { .name = "bf16 panels",
      .params = NULL,
      .in = { { .rank = 2, .dim = { 50, 37 }, .dtype = LM_BF16, .layout = LM_PANEL16X2 }, IDS(21, 50) } },
    { .name = "Q8_0 (no gradient check: a quantized weight has none)",
      .params = NULL,
      .in = { { .rank = 2, .dim = { 20, 64 }, .dtype = LM_QUANT, .quant = "Q8_0" }, IDS(21, 20) },
      .grad_tol = -1 },
    { 0 }
};
const lm_op lm_op_embed = { .name = "embed", .math = "y_i = W[ids_i]", .n_in = 2, .rows_from = 1, .n_out = 1, .opaque = 2,
    .shape = shape, .ref = ref, .grad = grad, .cost = cost, .kernels = lm_k_rows, .samples = samples };
lm_value *lm_embed(lm_graph *g, lm_value *w, lm_value *ids) { return lm_emit(g, &lm_op_embed, NULL, 2, (lm_value *const[]){ w, ids }); }
