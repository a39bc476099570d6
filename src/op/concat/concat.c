/* concat.c — rows copied by memcpy; the gradient is split, which copies nothing. */
#include "op/concat/concat.h"
#include "op/split/split.h"
#include "op/rule.h"
#include <string.h>

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    int64_t cols = 0;
    for (int i = 0; i < c->n_in; i++) {
        LM_TRY(lm_want(ctx, c, i, LM_ANY_FLOAT, 1, LM_MAX_RANK));
        int64_t dim[LM_MAX_RANK]; memcpy(dim, c->in[0].dim, sizeof dim);
        if (c->in[i].rank == c->in[0].rank) dim[c->in[0].rank - 1] = lm_cols(&c->in[i]);
        LM_TRY(lm_want_dims(ctx, c, i, c->in[0].rank, dim));
        if (c->in[i].dtype != c->in[0].dtype)
            return lm_fail(ctx, LM_E_SHAPE, "concat: input %d: got %s, wanted %s as input 0 is", i, lm_dtype_name((lm_dtype)c->in[i].dtype),
                           lm_dtype_name((lm_dtype)c->in[0].dtype));
        if (__builtin_add_overflow(cols, lm_cols(&c->in[i]), &cols)) return lm_fail(ctx, LM_E_SHAPE, "concat: too many columns");
    }
    out[0] = lm_type_like(&c->in[0]);
    out[0].dim[out[0].rank - 1] = cols;
    return LM_OK;
}
static void ref(const lm_call *c) {
    int64_t rows = lm_rows(&c->out[0]); double *y = lm_f64(&c->out[0]);
    for (int64_t r = 0; r < rows; r++)
        for (int i = 0; i < c->n_in; i++) {
            int64_t d = lm_cols(&c->in[i]);
            memcpy(y, lm_f64(&c->in[i]) + r * d, (size_t)d * sizeof(double));
            y += d;
        }
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    int64_t size[LM_MAX_SPLIT];
    for (int i = 0; i < d->n_in; i++) { const lm_type *t = lm_type_of(d->in[i]); size[i] = t->dim[t->rank - 1]; }
    lm_value *v = lm_split(g, d->gout[0], d->n_in, size);
    for (int i = 0; i < d->n_in; i++) if (d->want[i]) d->gin[i] = lm_output(v, i);
    return LM_OK;
}
static void part(const lm_call *c, int i, lm_tensor *t) {
    int64_t at = 0;
    for (int k = 0; k < i; k++) at += lm_cols(&c->in[k]);
    *t = c->out[0];
    t->dim[t->rank - 1] = lm_cols(&c->in[i]);
    t->data = (char *)c->out[0].data + (size_t)at * lm_dtype_size((lm_dtype)t->dtype);
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)c; (void)bytes; *flops = 0; }
static bool accepts(const lm_call *c) {
    for (int i = 0; i < c->n_in; i++) if (c->in[i].layout != LM_PLAIN || !lm_rows_fold(&c->in[i])) return false;
    return c->out[0].layout == LM_PLAIN && c->out[0].dtype == c->in[0].dtype && lm_is_contig(&c->out[0]);
}
static int64_t per_tile(const lm_call *c) { return lm_max64(1, 8192 / lm_max64(1, lm_cols(&c->out[0]))); }
static int64_t tiles(const lm_call *c) { return lm_ceil_div(lm_rows(&c->out[0]), per_tile(c)); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; int64_t per = per_tile(c), cols = lm_cols(&c->out[0]); size_t size = lm_dtype_size((lm_dtype)c->out[0].dtype);
    for (int64_t r = tile * per, end = lm_min64(r + per, lm_rows(&c->out[0])); r < end; r++) {
        char *y = (char *)c->out[0].data + (size_t)(r * cols) * size;
        for (int i = 0; i < c->n_in; i++) {
            size_t n = (size_t)lm_cols(&c->in[i]) * size;
            memcpy(y, (const char *)c->in[i].data + (size_t)(r * lm_row_stride(&c->in[i])) * size, n);
            y += n;
        }
    }
    return LM_OK;
}
static const lm_kernel k_concat[] = {
    { .name = "concat.any", .order = "copy", .accepts = accepts, .n_phase = 1, .phase = { { tiles, run } } }, { 0 }
};
LM_CUDA_F16_DECLARE(lm_k_concat);
static const lm_kernel *const kernels[] = { LM_CUDA_F16_ROWS(lm_k_concat) k_concat, NULL };
static const lm_sample samples[] = {
    { .name = "two", .params = NULL, .in = { { .rank = 2, .dim = { 3, 7 } }, { .rank = 2, .dim = { 3, 2 } } } },
    { .name = "three",
      .params = NULL,
      .in = { { .rank = 2, .dim = { 40, 300 } }, { .rank = 2, .dim = { 40, 1 } }, { .rank = 2, .dim = { 40, 64 } } } },
    { .name = "four, vectors",
      .params = NULL,
      .in = { { .rank = 1, .dim = { 3 } }, { .rank = 1, .dim = { 4 } }, { .rank = 1, .dim = { 1 } }, { .rank = 1, .dim = { 90 } } } },
    { .name = "rank 3", .params = NULL, .in = { { .rank = 3, .dim = { 2, 5, 7 } }, { .rank = 3, .dim = { 2, 5, 9 } } } },
    { .name = "bf16",
      .params = NULL,
      .in = { { .rank = 2, .dim = { 3, 7 }, .dtype = LM_BF16 }, { .rank = 2, .dim = { 3, 2 }, .dtype = LM_BF16 } } },
    { 0 }
};
const lm_op lm_op_concat = { .name = "concat",
                             .math = "y = [a b c d]",
                             .n_in = 2,
                             .n_opt = 2,
                             .n_out = 1,
                             .part = part,
                             .shape = shape,
                             .ref = ref,
                             .grad = grad,
                             .cost = cost,
                             .kernels = kernels,
                             .samples = samples };
lm_value *lm_concat(lm_graph *g, int n, lm_value *const *x) { return lm_emit(g, &lm_op_concat, NULL, n, x); }
