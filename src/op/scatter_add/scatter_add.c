/* scatter_add.c — embed_grad's kernel under its own name; its gradient is gather. */
#include "op/scatter_add/scatter_add.h"
#include "op/embed_grad/embed_grad.h"
#include "op/gather/gather.h"
#include "op/rule.h"
LM_SIMD_CUDA_F16_KERNELS(lm_k_embed_grad);

static lm_err grad(lm_graph *g, lm_grad *d) {
    if (d->want[1]) d->gin[1] = lm_gather(g, d->gout[0], d->in[0]);
    return LM_OK;
}
#define IDX(n, r) { .rank = 1, .dim = { n }, .dtype = LM_I32, .fill = LM_FILL_IDS, .arg = r }
static const lm_sample samples[] = {
    { .name = "few of many", .params = &(lm_embed_grad_p){ 90 }, .in = { IDX(7, 90), { .rank = 2, .dim = { 7, 33 } } }, .tol = 1e-6 },
    { .name = "repeats", .params = &(lm_embed_grad_p){ 3 }, .in = { IDX(30, 3), { .rank = 2, .dim = { 30, 65 } } }, .tol = 2e-6 },
    { .name = "rows as another's",
      .params = &(lm_embed_grad_p){ 3 },
      .in = { IDX(30, 3), { .rank = 2, .dim = { 30, 65 } }, { .rank = 2, .dim = { 3, 65 } } },
      .tol = 2e-6 },
    { 0 }
};
const lm_op lm_op_scatter_add = { .name = "scatter_add",
                                  .math = "y[idx_i] += dy_i",
                                  .n_in = 2,
                                  .n_opt = 1,
                                  .n_out = 1,
                                  .rows_from = 2,
                                  .params_bytes = sizeof(lm_embed_grad_p),
                                  .acc_ok = 1,
                                  .opaque = 1 | 4,
                                  .shape = lm_rows_add_shape,
                                  .ref = lm_rows_add_ref,
                                  .grad = grad,
                                  .cost = lm_rows_add_cost,
                                  .kernels = lm_k_embed_grad,
                                  .samples = samples };
lm_value *lm_scatter_add(lm_graph *g, lm_value *idx, lm_value *dy, int64_t rows, lm_value *like) {
    return lm_emit(g, &lm_op_scatter_add, &(lm_embed_grad_p){ rows }, 3, (lm_value *const[]){ idx, dy, like });
}
