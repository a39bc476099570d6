/* shard.c — a copy of rows. Which rows is the communicator's rank, so that all ranks plan one graph. */
#include "op/shard/shard.h"
#include "op/collective.h"

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_shard_p *p = c->p;
    LM_TRY(lm_want(ctx, c, 0, LM_F32, 1, LM_MAX_RANK));
    if (p->size < 1) return lm_fail(ctx, LM_E_SHAPE, "shard: among %d ranks", p->size);
    out[0] = lm_type_like(&c->in[0]);
    out[0].dim[0] = lm_ceil_div(c->in[0].dim[0], p->size);
    if (p->size > 1) out[0].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
static void ref(const lm_call *c) { memcpy(c->out[0].data, c->in[0].data, (size_t)lm_numel(&c->out[0]) * sizeof(double)); }
static void cost(const lm_call *c, double *flops, double *bytes) { *flops = 0; *bytes = 8 * (double)lm_numel(&c->out[0]); }
static int64_t one(const lm_call *c) { (void)c; return 1; }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile; (void)scratch;
    LM_TRY(lm_coll_ranks(c, ((const lm_shard_p *)c->p)->size));
    const int64_t n = lm_numel(&c->out[0]), all = lm_numel(&c->in[0]), at = lm_min64(c->comm->rank * n, all), have = lm_min64(n, all - at);
    float *y = c->out[0].data;
    LM_TRY(lm_coll_move(c, y, (const float *)c->in[0].data + at, (size_t)have * sizeof(float)));
    return lm_coll_zero(c, y + have, (size_t)(n - have) * sizeof(float));
}
static const lm_kernel k_shard[] = {
    { .name = "shard.comm", .order = "copy", .accepts = lm_accepts_flat, .n_phase = 1, .phase = { { one, run } } },
    { .name = "shard.device", .device = LM_DEV_CUDA, .order = "copy", .accepts = lm_accepts_flat, .n_phase = 1, .phase = { { one, run } } }, { 0 }
};
static const lm_kernel *const kernels[] = { k_shard, NULL };
static const lm_sample samples[] = { LM_SAMPLES_ALIKE(" on one rank", (&(const lm_shard_p){ 1 }), LM_TIMES1, 0), { 0 } };
const lm_op lm_op_shard = { .name = "shard", .math = "y = rows of this rank of x", .n_in = 1, .n_out = 1, .params_bytes = sizeof(lm_shard_p),
    .shape = shape, .ref = ref, .cost = cost, .kernels = kernels, .samples = samples };
lm_value *lm_shard(lm_graph *g, lm_value *x, int size) { return lm_emit(g, &lm_op_shard, &(lm_shard_p){ size }, 1, &x); }
