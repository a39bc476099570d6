/* softmax_grad.c — dx_j = s y_j (dy_j - Σ_k dy_k y_k). */
#include "op/softmax_grad/softmax_grad.h"
#include "op/rule.h"
LM_SIMD_CUDA_F16_KERNELS(lm_k_softmax_grad);

static void ref(const lm_call *c) {
    double s = (double)((const lm_softmax_p *)c->p)->scale;
    int64_t n = lm_rows(&c->in[0]), d = lm_cols(&c->in[0]);
    for (int64_t r = 0; r < n; r++) {
        const double *dy = lm_f64(&c->in[0]) + r * d, *y = lm_f64(&c->in[1]) + r * d; double *dx = lm_f64(&c->out[0]) + r * d, dot = 0;
        for (int64_t j = 0; j < d; j++) dot += dy[j] * y[j];
        for (int64_t j = 0; j < d; j++) dx[j] = s * y[j] * (dy[j] - dot);
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = 5 * (double)lm_numel(&c->in[0]); }
#define DY_Y(...) { { __VA_ARGS__ }, { __VA_ARGS__, .fill = LM_FILL_UNIFORM } }
static const lm_sample samples[] = { LM_SAMPLES_ALIKE("", (&(lm_softmax_p){ 0.5f }), DY_Y, 4e-6), { 0 } };
const lm_op lm_op_softmax_grad = { .name = "softmax_grad",
                                   .math = "dx_j = s y_j (dy_j - sum_k dy_k y_k)",
                                   .n_in = 2,
                                   .n_out = 1,
                                   .params_bytes = sizeof(lm_softmax_p),
                                   .inplace_ok = true,
                                   .shape = lm_shape_like_first,
                                   .ref = ref,
                                   .cost = cost,
                                   .kernels = lm_k_softmax_grad,
                                   .samples = samples };
lm_value *lm_softmax_grad(lm_graph *g, lm_value *dy, lm_value *y, float scale) {
    return lm_emit(g, &lm_op_softmax_grad, &(lm_softmax_p){ scale }, 2, (lm_value *const[]){ dy, y });
}
