/* all_gather.c — straight into the output where the ranks divide the rows, else through scratch that has room for the padding. */
#include "op/all_gather/all_gather.h"
#include "op/rule.h"
#include <string.h>

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_all_gather_p *p = c->p;
    LM_TRY(lm_want(ctx, c, 0, LM_F32, 1, LM_MAX_RANK));
    if (p->size < 1 || p->rows < 1 || c->in[0].dim[0] != lm_ceil_div(p->rows, p->size))
        return lm_fail(ctx, LM_E_SHAPE, "all_gather: input 0: got %lld rows, wanted ceil(%lld / %d)", (long long)c->in[0].dim[0],
                       (long long)p->rows, p->size);
    out[0] = lm_type_like(&c->in[0]);
    out[0].dim[0] = p->rows; out[0].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
static void ref(const lm_call *c) { memcpy(c->out[0].data, c->in[0].data, (size_t)lm_numel(&c->out[0]) * sizeof(double)); }
static void cost(const lm_call *c, double *flops, double *bytes) { (void)c; (void)bytes; *flops = 0; }
static size_t bytes_of(const lm_call *c) { return (size_t)lm_numel(&c->in[0]) * sizeof(float); }
static bool whole(const lm_call *c) { const lm_all_gather_p *p = c->p; return p->rows % p->size == 0; }
static size_t shared(const lm_call *c) { return whole(c) ? 0 : bytes_of(c) * (size_t)((const lm_all_gather_p *)c->p)->size; }
static int64_t one(const lm_call *c) { (void)c; return 1; }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile; (void)scratch;
    const lm_all_gather_p *p = c->p;
    if (c->comm->size != p->size) return lm_fail(c->ctx, LM_E_COMM, "all_gather was planned for %d ranks, %d are there", p->size, c->comm->size);
    if (whole(c)) return c->comm->all_gather(c->comm, c->in[0].data, bytes_of(c), c->out[0].data);
    LM_TRY(c->comm->all_gather(c->comm, c->in[0].data, bytes_of(c), c->shared));
    memcpy(c->out[0].data, c->shared, (size_t)lm_numel(&c->out[0]) * sizeof(float));
    return LM_OK;
}
static const lm_kernel k_all_gather[] = { { .name = "all_gather.comm",
                                            .order = "all_gather",
                                            .accepts = lm_accepts_flat,
                                            .shared_bytes = shared,
                                            .n_phase = 1,
                                            .phase = { { one, run } } },
                                          { 0 } };
static const lm_kernel *const kernels[] = { k_all_gather, NULL };
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
                                 .shape = shape,
                                 .ref = ref,
                                 .cost = cost,
                                 .kernels = kernels,
                                 .samples = samples };
lm_value *lm_all_gather(lm_graph *g, lm_value *x, int64_t rows, int size) {
    lm_all_gather_p p = { .rows = rows, .size = size };
    return lm_emit(g, &lm_op_all_gather, &p, 1, &x);
}
