/* all_reduce.c — one tile: the communicator does the work. Rows with effects never overlap and keep their order, so all ranks meet in the
 * same call. */
#include "op/all_reduce/all_reduce.h"
#include "op/rule.h"
#include <string.h>

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_F32, 1, LM_MAX_RANK));
    out[0] = lm_type_like(&c->in[0]);
    return LM_OK;
}
static void ref(const lm_call *c) { memcpy(c->out[0].data, c->in[0].data, (size_t)lm_numel(&c->in[0]) * sizeof(double)); }
static void cost(const lm_call *c, double *flops, double *bytes) {
    (void)bytes;
    *flops = (double)lm_numel(&c->in[0]) * (c->comm ? c->comm->size - 1 : 0);
}
static int64_t one(const lm_call *c) { (void)c; return 1; }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile; (void)scratch;
    const int64_t n = lm_numel(&c->in[0]);
    if (c->out[0].data != c->in[0].data) memcpy(c->out[0].data, c->in[0].data, (size_t)n * sizeof(float));
    return c->comm->all_reduce(c->comm, c->out[0].data, n);
}
static const lm_kernel k_all_reduce[] = {
    { .name = "all_reduce.comm", .order = "all_reduce", .accepts = lm_accepts_flat, .n_phase = 1, .phase = { { one, run } } }, { 0 }
};
static const lm_kernel *const kernels[] = { k_all_reduce, NULL };
static const lm_sample samples[] = { LM_SAMPLES_ALIKE(" on one rank", NULL, LM_TIMES1, 0), { 0 } };
const lm_op lm_op_all_reduce = { .name = "all_reduce",
                                 .math = "y = sum over ranks of x",
                                 .n_in = 1,
                                 .n_out = 1,
                                 .pure_write = true,
                                 .inplace_ok = true,
                                 .shape = shape,
                                 .ref = ref,
                                 .cost = cost,
                                 .kernels = kernels,
                                 .samples = samples };
lm_value *lm_all_reduce(lm_graph *g, lm_value *x) { return lm_emit(g, &lm_op_all_reduce, NULL, 1, &x); }
