/* stack.c — inputs copied whole; on a device by its own copies, where they were not made in place. */
#include "op/stack/stack.h"
#include "op/collective.h"

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    for (int i = 0; i < c->n_in; i++) { LM_TRY(lm_want(ctx, c, i, LM_ANY_FLOAT, 1, LM_MAX_RANK - 1)); LM_TRY(lm_want_like(ctx, c, i, 0)); }
    int64_t dim[LM_MAX_RANK] = { c->n_in };
    memcpy(dim + 1, c->in[0].dim, (size_t)c->in[0].rank * sizeof *dim);
    out[0] = lm_type_make((lm_dtype)c->in[0].dtype, c->in[0].rank + 1, dim);
    out[0].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
static void ref(const lm_call *c) {
    const int64_t n = lm_numel(&c->in[0]);
    for (int i = 0; i < c->n_in; i++) memcpy(lm_f64(&c->out[0]) + i * n, c->in[i].data, (size_t)n * sizeof(double));
}
static void part(const lm_call *c, int i, lm_tensor *t) {
    *t = c->out[0];
    t->rank--;
    for (int k = 0; k < t->rank; k++) { t->dim[k] = c->out[0].dim[k + 1]; t->stride[k] = c->out[0].stride[k + 1]; }
    t->data = (char *)c->out[0].data + (size_t)(i * c->out[0].stride[0]) * lm_dtype_size((lm_dtype)t->dtype);
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)c; (void)bytes; *flops = 0; }
static bool accepts(const lm_call *c) {
    for (int i = 0; i < c->n_in; i++) if (c->in[i].layout != LM_PLAIN || c->in[i].dtype != c->out[0].dtype || !lm_is_contig(&c->in[i])) return false;
    return c->out[0].layout == LM_PLAIN && lm_is_contig(&c->out[0]);
}
static int64_t tiles(const lm_call *c) { return c->n_in; }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const size_t bytes = (size_t)lm_numel(&c->in[0]) * lm_dtype_size((lm_dtype)c->out[0].dtype);
    return lm_coll_move(c, (char *)c->out[0].data + (size_t)tile * bytes, c->in[tile].data, bytes);
}
static int64_t once(const lm_call *c) { (void)c; return 1; }
static lm_err run_all(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    for (int i = 0; i < c->n_in; i++) LM_TRY(run(c, i, scratch));
    return LM_OK;
}
static const lm_kernel k_stack[] = {
    { .name = "stack.any", .order = "copy", .accepts = accepts, .n_phase = 1, .phase = { { tiles, run } } },
    { .name = "stack.device", .device = LM_DEV_CUDA, .order = "copy", .accepts = accepts, .n_phase = 1, .phase = { { once, run_all } } }, { 0 }
};
static const lm_kernel *const kernels[] = { k_stack, NULL };
static const lm_sample samples[] = {
    { .name = "one", .params = NULL, .in = { { .rank = 2, .dim = { 3, 7 } } } },
    { .name = "two vectors", .params = NULL, .in = { { .rank = 1, .dim = { 33 } }, { .rank = 1, .dim = { 33 } } } },
    { .name = "three", .params = NULL, .in = { { .rank = 2, .dim = { 40, 301 } }, { .rank = 2, .dim = { 40, 301 } }, { .rank = 2, .dim = { 40, 301 } } } },
    { .name = "bf16", .params = NULL, .in = { { .rank = 2, .dim = { 5, 9 }, .dtype = LM_BF16 }, { .rank = 2, .dim = { 5, 9 }, .dtype = LM_BF16 } } },
    { 0 }
};
const lm_op lm_op_stack = { .name = "stack",
                            .math = "y[i] = x_i",
                            .n_in = 1,
                            .n_opt = LM_MAX_STACK - 1,
                            .n_out = 1,
                            .part = part,
                            .shape = shape,
                            .ref = ref,
                            .cost = cost,
                            .kernels = kernels,
                            .samples = samples };
lm_value *lm_stack(lm_graph *g, int n, lm_value *const *x) { return lm_emit(g, &lm_op_stack, NULL, n, x); }
