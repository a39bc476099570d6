/* all_reduce.c — one tile: the communicator does the work. Rows with effects never overlap and keep their order, so all ranks meet in the
 * same call. */
#include "op/all_reduce/all_reduce.h"
#include "op/collective.h"

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
static lm_err before(const lm_call *c) { return lm_coll_move(c, c->out[0].data, c->in[0].data, (size_t)lm_numel(&c->in[0]) * sizeof(float)); }
static lm_err meet(const lm_call *c) { return lm_coll_all_reduce(c, c->out[0].data, lm_numel(&c->in[0])); }
LM_COLLECTIVE(all_reduce, lm_accepts_flat, NULL, lm_coll_one, before, meet, NULL);
static const lm_sample samples[] = { LM_SAMPLES_ALIKE(" on one rank", NULL, LM_TIMES1, 0), { 0 } };
const lm_op lm_op_all_reduce = { .name = "all_reduce",
                                 .math = "y = sum over ranks of x",
                                 .n_in = 1,
                                 .n_out = 1,
                                 .pure_write = true,
                                 .meets = true,
                                 .inplace_ok = true,
                                 .shape = shape,
                                 .ref = ref,
                                 .cost = cost,
                                 .kernels = kernels,
                                 .samples = samples };
lm_value *lm_all_reduce(lm_graph *g, lm_value *x) { return lm_emit(g, &lm_op_all_reduce, NULL, 1, &x); }
