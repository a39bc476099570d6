/* reduce_scatter_in.c — the sum goes to where this rank's rows are; the rest is zeroed for the next accumulation. */
#include "op/reduce_scatter_in/reduce_scatter_in.h"
#include "op/collective.h"

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_reduce_scatter_in_p *p = c->p;
    LM_TRY(lm_want(ctx, c, 0, LM_F32, 1, LM_MAX_RANK));
    if (p->size < 1) return lm_fail(ctx, LM_E_SHAPE, "reduce_scatter_in: among %d ranks", p->size);
    out[0] = lm_type_like(&c->in[0]);
    return LM_OK;
}
static void ref(const lm_call *c) { (void)c; }
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = (double)lm_numel(&c->in[0]); }
static int64_t each(const lm_call *c) {
    return lm_ceil_div(c->out[0].dim[0], c->comm->size) * (lm_numel(&c->out[0]) / lm_max64(1, c->out[0].dim[0]));
}
static lm_err before(const lm_call *c) { return lm_coll_ranks(c, ((const lm_reduce_scatter_in_p *)c->p)->size); }
static lm_err meet(const lm_call *c) {
    float *x = c->out[0].data;
    return lm_coll_reduce_scatter(c, x, each(c), x + c->comm->rank * each(c));
}
static lm_err after(const lm_call *c) {
    float *x = c->out[0].data;
    const int64_t n = each(c), at = c->comm->rank * n, all = n * c->comm->size;
    if (c->comm->size == 1) return LM_OK;
    LM_TRY(lm_coll_zero(c, x, (size_t)at * sizeof *x));
    return lm_coll_zero(c, x + at + n, (size_t)(all - at - n) * sizeof *x);
}
LM_COLLECTIVE_ON(2, reduce_scatter_in, lm_accepts_flat, lm_accepts_flat, NULL, lm_coll_last, before, meet, after);
static const lm_sample samples[] = { LM_SAMPLES_ALIKE(" on one rank", (&(const lm_reduce_scatter_in_p){ 1 }), LM_TIMES1, 0), { 0 } };
const lm_op lm_op_reduce_scatter_in = { .name = "reduce_scatter_in",
                                        .math = "own rows of state := sum over ranks, others := 0",
                                        .n_in = 1,
                                        .n_out = 1,
                                        .alias = { 1 },
                                        .params_bytes = sizeof(lm_reduce_scatter_in_p),
                                        .pure_write = true,
                                        .meets = true,
                                        .shape = shape,
                                        .ref = ref,
                                        .cost = cost,
                                        .kernels = kernels,
                                        .samples = samples };
lm_value *lm_reduce_scatter_in(lm_graph *g, lm_value *state, int size) {
    return lm_emit(g, &lm_op_reduce_scatter_in, &(lm_reduce_scatter_in_p){ size }, 1, &state);
}
