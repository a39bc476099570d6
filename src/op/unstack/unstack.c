/* unstack.c — a view row: no kernel. */
#include "op/unstack/unstack.h"
#include "op/rule.h"
#include <string.h>

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const int64_t at = ((const lm_unstack_p *)c->p)->at;
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 2, LM_MAX_RANK));
    if (at < 0 || at >= c->in[0].dim[0]) return lm_fail(ctx, LM_E_SHAPE, "unstack: got %lld, wanted 0 to %lld", (long long)at, (long long)c->in[0].dim[0] - 1);
    out[0] = lm_type_make((lm_dtype)c->in[0].dtype, c->in[0].rank - 1, c->in[0].dim + 1);
    out[0].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
static void view(const lm_call *c, int i, lm_tensor *out) {
    (void)i;
    const lm_tensor *x = &c->in[0];
    *out = *x;
    out->rank--;
    for (int k = 0; k < out->rank; k++) { out->dim[k] = x->dim[k + 1]; out->stride[k] = x->stride[k + 1]; }
    if (x->data) out->data = (char *)x->data + (size_t)(((const lm_unstack_p *)c->p)->at * x->stride[0]) * lm_dtype_size((lm_dtype)x->dtype);
}
static void ref(const lm_call *c) {
    const int64_t n = lm_numel(&c->out[0]);
    memcpy(c->out[0].data, lm_f64(&c->in[0]) + ((const lm_unstack_p *)c->p)->at * n, (size_t)n * sizeof(double));
}
#define AT(i) &(lm_unstack_p){ i }
static const lm_sample samples[] = { { .name = "the only row", .params = AT(0), .in = { { .rank = 2, .dim = { 1, 7 } } } },
                                     { .name = "the first", .params = AT(0), .in = { { .rank = 3, .dim = { 2, 5, 12 } } } },
                                     { .name = "the last", .params = AT(2), .in = { { .rank = 3, .dim = { 3, 5, 33 } } } },
                                     { 0 } };
const lm_op lm_op_unstack = { .name = "unstack", .math = "y = x[i]", .n_in = 1, .n_out = 1, .params_bytes = sizeof(lm_unstack_p), .view = view, .shape = shape, .ref = ref, .samples = samples };
lm_value *lm_unstack(lm_graph *g, lm_value *x, int64_t at) { return lm_emit(g, &lm_op_unstack, &(lm_unstack_p){ at }, 1, &x); }
