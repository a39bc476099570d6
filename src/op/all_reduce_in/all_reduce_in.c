/* all_reduce_in.c — the communicator does the work; neighbours go as one on a device. */
#include "op/all_reduce_in/all_reduce_in.h"
#include "op/collective.h"

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_F32, 1, LM_MAX_RANK));
    out[0] = lm_type_like(&c->in[0]);
    return LM_OK;
}
static void ref(const lm_call *c) { (void)c; }
static void cost(const lm_call *c, double *flops, double *bytes) {
    (void)bytes;
    *flops = (double)lm_numel(&c->in[0]) * (c->comm ? c->comm->size - 1 : 0);
}
static lm_err meet(const lm_call *c) { return lm_coll_all_reduce(c, c->out[0].data, lm_numel(&c->out[0])); }
LM_COLLECTIVE(all_reduce_in, lm_accepts_flat, NULL, lm_coll_last, NULL, meet, NULL);
static const lm_sample samples[] = { LM_SAMPLES_ALIKE(" on one rank", NULL, LM_TIMES1, 0), { 0 } };
const lm_op lm_op_all_reduce_in = { .name = "all_reduce_in",
                                    .math = "state := sum over ranks of state",
                                    .n_in = 1,
                                    .n_out = 1,
                                    .alias = { 1 },
                                    .pure_write = true,
                                    .meets = true,
                                    .shape = shape,
                                    .ref = ref,
                                    .cost = cost,
                                    .kernels = kernels,
                                    .samples = samples };
lm_value *lm_all_reduce_in(lm_graph *g, lm_value *state) { return lm_emit(g, &lm_op_all_reduce_in, NULL, 1, &state); }
