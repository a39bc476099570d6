/* axpby.c — y = α a + β b. */
#include "op/axpby/axpby.h"
#include "op/scale/scale.h"
#include "op/rule.h"
LM_SIMD_CUDA_F16_KERNELS(lm_k_axpby);

static void ref(const lm_call *c) {
    const lm_axpby_p *p = c->p; const double *a = lm_f64(&c->in[0]), *b = lm_f64(&c->in[1]); double *y = lm_f64(&c->out[0]);
    for (int64_t i = 0, n = lm_numel(&c->out[0]); i < n; i++) y[i] = (double)p->alpha * a[i] + (double)p->beta * b[i];
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    const lm_axpby_p *p = d->p;
    if (d->want[0]) d->gin[0] = lm_scale(g, d->gout[0], p->alpha);
    if (d->want[1]) d->gin[1] = lm_scale(g, d->gout[0], p->beta);
    return LM_OK;
}
static const lm_sample samples[] = { LM_SAMPLES_ALIKE("", (&(lm_axpby_p){ 0.75f, -1.5f }), LM_TIMES2, 1e-6), { 0 } };
const lm_op lm_op_axpby = { .name = "axpby",
                            .math = "y = alpha a + beta b",
                            .n_in = 2,
                            .n_out = 1,
                            .params_bytes = sizeof(lm_axpby_p),
                            .inplace_ok = true,
                            .shape = lm_shape_like_first,
                            .ref = ref,
                            .grad = grad,
                            .kernels = lm_k_axpby,
                            .samples = samples };
lm_value *lm_axpby(lm_graph *g, lm_value *a, lm_value *b, float alpha, float beta) {
    return lm_emit(g, &lm_op_axpby, &(lm_axpby_p){ alpha, beta }, 2, (lm_value *const[]){ a, b });
}
