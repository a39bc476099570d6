/* all_gather.c — straight into the output where the ranks divide the rows, else through scratch that has room for the padding. */
#include "op/all_gather/all_gather.h"
#include "op/collective.h"

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_all_gather_p *p = c->p;
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    if (p->size < 1 || p->rows < 1 || c->in[0].dim[0] != lm_ceil_div(p->rows, p->size))
        return lm_fail(ctx, LM_E_SHAPE, "all_gather: input 0: got %lld rows, wanted ceil(%lld / %d)", (long long)c->in[0].dim[0],
                       (long long)p->rows, p->size);
    out[0] = lm_type_like(&c->in[0]);
    out[0].dim[0] = p->rows; out[0].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
static void ref(const lm_call *c) { memcpy(c->out[0].data, c->in[0].data, (size_t)lm_numel(&c->out[0]) * sizeof(double)); }
static void cost(const lm_call *c, double *flops, double *bytes) { (void)c; (void)bytes; *flops = 0; }
static size_t bytes_of(const lm_call *c) { return (size_t)lm_numel(&c->in[0]) * lm_dtype_size((lm_dtype)c->in[0].dtype); }
static bool whole(const lm_call *c) { const lm_all_gather_p *p = c->p; return p->rows % p->size == 0; }
static size_t shared(const lm_call *c) { return whole(c) ? 0 : bytes_of(c) * (size_t)((const lm_all_gather_p *)c->p)->size; }
static bool accepts(const lm_call *c) {
    const lm_tensor *x = &c->in[0], *y = &c->out[0];
    return (x->dtype == LM_F32 || x->dtype == LM_BF16) && y->dtype == x->dtype && x->layout == LM_PLAIN && y->layout == LM_PLAIN &&
           lm_is_contig(x) && lm_is_contig(y);
}
static lm_err before(const lm_call *c) { return lm_coll_ranks(c, ((const lm_all_gather_p *)c->p)->size); }
static lm_err meet(const lm_call *c) { return lm_coll_all_gather(c, c->in[0].data, bytes_of(c), whole(c) ? c->out[0].data : c->shared); }
static lm_err after(const lm_call *c) {
    return whole(c) ? LM_OK : lm_coll_move(c, c->out[0].data, c->shared, (size_t)lm_numel(&c->out[0]) * lm_dtype_size((lm_dtype)c->out[0].dtype));
}
LM_COLLECTIVE(all_gather, accepts, shared, lm_coll_one, before, meet, after);
#define P(n) &(const lm_all_gather_p){ n, 1 }
static const lm_sample samples[] = { { .name = "one row on one rank", .params = P(1), .in = { { .rank = 1, .dim = { 1 } } } },
                                     { .name = "5x9 on one rank", .params = P(5), .in = { { .rank = 2, .dim = { 5, 9 } } } },
                                     { .name = "130x257 on one rank", .params = P(130), .in = { { .rank = 2, .dim = { 130, 257 } } } },
                                     { 0 } };
const lm_op lm_op_all_gather = { .name = "all_gather",
                                 .math = "y = rows of all ranks",
                                 .n_in = 1,
                                 .n_out = 1,
                                 .params_bytes = sizeof(lm_all_gather_p),
                                 .pure_write = true,
                                 .meets = true,
                                 .shape = shape,
                                 .ref = ref,
                                 .cost = cost,
                                 .kernels = kernels,
                                 .samples = samples };
lm_value *lm_all_gather(lm_graph *g, lm_value *x, int64_t rows, int size) {
    lm_all_gather_p p = { .rows = rows, .size = size };
    return lm_emit(g, &lm_op_all_gather, &p, 1, &x);
}
