/* all_gather_in.c — straight into the state, from where the part is. */
#include "op/all_gather_in/all_gather_in.h"
#include "op/collective.h"

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_all_gather_in_p *p = c->p;
    LM_TRY(lm_want(ctx, c, 0, LM_F32, 1, LM_MAX_RANK));
    LM_TRY(lm_want(ctx, c, 1, LM_F32, c->in[0].rank, c->in[0].rank));
    if (p->size < 1 || c->in[1].dim[0] != lm_ceil_div(c->in[0].dim[0], p->size))
        return lm_fail(ctx, LM_E_SHAPE, "all_gather_in: input 1: got %lld rows, wanted ceil(%lld / %d)", (long long)c->in[1].dim[0],
                       (long long)c->in[0].dim[0], p->size);
    for (int i = 1; i < c->in[0].rank; i++)
        if (c->in[1].dim[i] != c->in[0].dim[i]) return lm_fail(ctx, LM_E_SHAPE, "all_gather_in: the part has other columns than the state");
    out[0] = lm_type_like(&c->in[0]);
    return LM_OK;
}
static void ref(const lm_call *c) { memcpy(c->out[0].data, c->in[1].data, (size_t)lm_numel(&c->out[0]) * sizeof(double)); }
static void cost(const lm_call *c, double *flops, double *bytes) { (void)c; (void)bytes; *flops = 0; }
static lm_err before(const lm_call *c) { return lm_coll_ranks(c, ((const lm_all_gather_in_p *)c->p)->size); }
static lm_err meet(const lm_call *c) { return lm_coll_all_gather(c, c->in[1].data, (size_t)lm_numel(&c->in[1]) * sizeof(float), c->out[0].data); }
LM_COLLECTIVE(all_gather_in, lm_accepts_flat, NULL, lm_coll_one, before, meet, NULL);
static const lm_sample samples[] = { LM_SAMPLES_ALIKE(" on one rank", (&(const lm_all_gather_in_p){ 1 }), LM_TIMES2, 0), { 0 } };
const lm_op lm_op_all_gather_in = { .name = "all_gather_in",
                                    .math = "state := rows of all ranks",
                                    .n_in = 2,
                                    .n_out = 1,
                                    .alias = { 1 },
                                    .params_bytes = sizeof(lm_all_gather_in_p),
                                    .pure_write = true,
                                    .meets = true,
                                    .shape = shape,
                                    .ref = ref,
                                    .cost = cost,
                                    .kernels = kernels,
                                    .samples = samples };
lm_value *lm_all_gather_in(lm_graph *g, lm_value *state, lm_value *part, int size) {
    return lm_emit(g, &lm_op_all_gather_in, &(lm_all_gather_in_p){ size }, 2, (lm_value *const[]){ state, part });
}
