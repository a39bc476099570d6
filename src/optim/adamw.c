/* adamw.c — Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), bias-corrected, in PyTorch's order of operations.
 *
 *   m ← β1 m + (1-β1) g;  v ← β2 v + (1-β2) g²;  p ← p (1 - lr·wd) - lr/(1-β1^t) · m / (√v/√(1-β2^t) + ε) */
#include <math.h>
#include <stdio.h>
#include "op/adamw/adamw.h"
#include "op/adamw_round/adamw_round.h"
#include "op/adamw_stochastic/adamw_stochastic.h"
#include "optim/optim.h"
static lm_err build(lm_graph *g, lm_optim_arg *a, int n) {
    (void)n;                                                             /* one */
    char name[300];
    lm_type moment = *lm_type_of(a->param);                              /* f32, whatever parameter and gradient are stored as */
    moment.dtype = LM_F32;
    snprintf(name, sizeof name, "adamw.m.%s", a->param_name);
    lm_value *m = lm_state(g, name, &moment);
    snprintf(name, sizeof name, "adamw.v.%s", a->param_name);
    lm_value *v = lm_state(g, name, &moment);
    if (a->rng) {
        a->now = lm_adamw_stochastic(g, a->param, a->grad, m, v, a->hyper, a->scale, a->rng, lm_rng_of(0, a->param_name).stream, !a->fresh);
        return lm_graph_err(g);
    }
    a->now = a->fresh ? lm_adamw_round(g, a->param, a->grad, m, v, a->hyper, a->scale, a->copy)
                      : lm_adamw(g, a->param, a->grad, m, v, a->hyper, a->scale);
    if (a->fresh) a->copy = NULL;
    return lm_graph_err(g);
}
static void hyper(const lm_optim_cfg *c, double lr_scale, bool decay, int64_t step, float out[LM_HYPER]) {
    out[0] = (float)(c->lr * lr_scale);
    out[1] = (float)c->beta1;
    out[2] = (float)c->beta2;
    out[3] = (float)c->eps;
    out[4] = decay ? (float)c->weight_decay : 0.0f;
    out[5] = (float)(1.0 - pow(c->beta1, (double)step)); out[6] = (float)(1.0 - pow(c->beta2, (double)step)); out[7] = (float)(1.0 - c->beta2);
}
const lm_optim lm_optim_adamw = {
    .name = "adamw", .paper = "Loshchilov & Hutter 2019, arXiv 1711.05101", .build = build, .hyper = hyper, .by_chance = true, .state_copies = 2, .half = true
};
