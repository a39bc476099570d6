/* reduce_scatter.c — straight from the input where the ranks divide the rows, else from a padded copy. A run that adds gets the sum in
 * scratch first. bf16 between devices whose communicator adds that in f32. */
#include "op/reduce_scatter/reduce_scatter.h"
#include "op/collective.h"

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_reduce_scatter_p *p = c->p;
    LM_TRY(lm_want(ctx, c, 0, c->in[0].dtype == LM_BF16 ? LM_BF16 : LM_F32, 1, LM_MAX_RANK));
    if (p->size < 1) return lm_fail(ctx, LM_E_SHAPE, "reduce_scatter: among %d ranks", p->size);
    out[0] = lm_type_like(&c->in[0]);
    out[0].dtype = LM_F32;
    out[0].dim[0] = lm_ceil_div(c->in[0].dim[0], p->size);
    if (p->size > 1) out[0].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
static void ref(const lm_call *c) { memcpy(c->out[0].data, c->in[0].data, (size_t)lm_numel(&c->out[0]) * sizeof(double)); }
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = (double)lm_numel(&c->in[0]); }
static bool whole(const lm_call *c) { return c->in[0].dim[0] % ((const lm_reduce_scatter_p *)c->p)->size == 0; }
static size_t mine(const lm_call *c) { return (size_t)lm_numel(&c->out[0]) * sizeof(float); }
static size_t in_bytes(const lm_call *c) { return (size_t)lm_numel(&c->in[0]) * lm_dtype_size((lm_dtype)c->in[0].dtype); }
static size_t padded(const lm_call *c) {
    return whole(c) ? 0 : (size_t)lm_numel(&c->out[0]) * lm_dtype_size((lm_dtype)c->in[0].dtype) * (size_t)((const lm_reduce_scatter_p *)c->p)->size;
}
static size_t sum_from(const lm_call *c) { return (padded(c) + 255) & ~(size_t)255; }
static size_t shared(const lm_call *c) { return c->acc & 1 ? sum_from(c) + mine(c) : padded(c); }
/* where the sum goes first */
static float *sum_at(const lm_call *c) { return c->acc & 1 ? (float *)(void *)((char *)c->shared + sum_from(c)) : c->out[0].data; }
static lm_err before(const lm_call *c) {
    LM_TRY(lm_coll_ranks(c, ((const lm_reduce_scatter_p *)c->p)->size));
    if (!padded(c)) return LM_OK;
    LM_TRY(lm_coll_move(c, c->shared, c->in[0].data, in_bytes(c)));
    return lm_coll_zero(c, (char *)c->shared + in_bytes(c), padded(c) - in_bytes(c));
}
static lm_err meet(const lm_call *c) {
    const void *all = padded(c) ? c->shared : c->in[0].data;
    return c->in[0].dtype == LM_BF16 ? lm_coll_reduce_scatter_half(c, all, lm_numel(&c->out[0]), sum_at(c)) : lm_coll_reduce_scatter(c, all, lm_numel(&c->out[0]), sum_at(c));
}
static lm_err after(const lm_call *c) { return c->acc & 1 ? lm_coll_add(c, c->out[0].data, sum_at(c), lm_numel(&c->out[0])) : LM_OK; }
static bool on_device(const lm_call *c) { return lm_accepts_flat(c) || (c->in[0].dtype == LM_BF16 && c->out[0].dtype == LM_F32 && lm_is_contig(&c->in[0]) && lm_is_contig(&c->out[0])); }
LM_COLLECTIVE_ON(2, reduce_scatter, lm_accepts_flat, on_device, shared, lm_coll_one, before, meet, after);
static const lm_sample samples[] = { LM_SAMPLES_ALIKE(" on one rank", (&(const lm_reduce_scatter_p){ 1 }), LM_TIMES1, 0), { 0 } };
const lm_op lm_op_reduce_scatter = { .name = "reduce_scatter",
                                     .math = "y = rows of this rank of the sum over ranks of x",
                                     .n_in = 1,
                                     .n_out = 1,
                                     .params_bytes = sizeof(lm_reduce_scatter_p),
                                     .acc_ok = 1,
                                     .pure_write = true,
                                     .meets = true,
                                     .shape = shape,
                                     .ref = ref,
                                     .cost = cost,
                                     .kernels = kernels,
                                     .samples = samples };
lm_value *lm_reduce_scatter(lm_graph *g, lm_value *x, int size) { return lm_emit(g, &lm_op_reduce_scatter, &(lm_reduce_scatter_p){ size }, 1, &x); }
