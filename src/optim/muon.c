/* muon.c — momentum, orthogonalized (Jordan et al. 2024): matrices move along the nearest semi-orthogonal matrix to their momentum.
 *
 *   buf ← lerp(buf, g, 1-μ);  u ← lerp(g, buf, μ) (Nesterov);  X = u/‖u‖;  five times X ← aX + (bA + cA²)X with A = XXᵀ;
 *   p ← p (1 - lr·wd) - lr · √max(1, rows/cols) · X.
 * The quintic (a, b, c) = (3.4445, -4.7750, 2.0315) pushes all singular values into about [0.7, 1.2] fast; it does not converge to exactly
 * one, by design. When a matrix is tall the iteration runs on its transpose, so that A is the small Gram matrix; here the transpose is a
 * matmul flag, never a copy. */
#include <math.h>
#include <stdio.h>
#include "op/axpby/axpby.h"
#include "op/matmul/matmul.h"
#include "op/muon_apply/muon_apply.h"
#include "op/muon_momentum/muon_momentum.h"
#include "op/normalize/normalize.h"
#include "optim/optim.h"
static lm_err build(lm_graph *g, lm_optim_arg *a) {
    char name[300];
    snprintf(name, sizeof name, "muon.buf.%s", a->param_name);
    lm_value *u = lm_muon_momentum(g, a->grad, lm_state(g, name, lm_type_of(a->param)), a->hyper, a->scale, true);     /* (rows, cols) */
    /* the iteration needs the matrix: every rank makes it and takes its rows */
    if (a->rows) u = a->hooks->whole(a->hooks->ud, g, u, a->rows);
    if (!u) return lm_graph_err(g);
    const lm_type *t = lm_type_of(u);
    bool tall = t->dim[0] > t->dim[1];
    lm_value *x = lm_normalize(g, u, 1e-7f);
    for (int i = 0; i < a->cfg->muon_steps; i++) {
        lm_value *A = lm_matmul(g, x, x, tall, !tall);                       /* X Xᵀ, or Xᵀ X for a tall X: (r, r), r the smaller side */
        lm_value *B = lm_axpby(g, A, lm_matmul(g, A, A, false, false), -4.7750f, 2.0315f);
        lm_value *C = tall ? lm_matmul(g, x, B, false, false) : lm_matmul(g, B, x, false, false);
        x = lm_axpby(g, x, C, 3.4445f, 1.0f);
    }
    double ratio = (double)t->dim[0] / (double)t->dim[1];
    if (a->rows) x = a->hooks->part(a->hooks->ud, g, x);
    a->now = lm_muon_apply(g, a->param, x, a->hyper, (float)sqrt(ratio > 1.0 ? ratio : 1.0));
    return lm_graph_err(g);
}
static void hyper(const lm_optim_cfg *c, double lr_scale, bool decay, int64_t step, float out[LM_HYPER]) {
    (void)step;
    for (int i = 0; i < LM_HYPER; i++) out[i] = 0.0f;
    out[0] = (float)(c->muon_lr * lr_scale); out[1] = (float)c->muon_momentum; out[4] = decay ? (float)c->muon_weight_decay : 0.0f;
}
const lm_optim lm_optim_muon = { .name = "muon",
                                 .paper = "Jordan et al. 2024, https://kellerjordan.github.io/posts/muon",
                                 .matrices_only = true,
                                 .build = build,
                                 .hyper = hyper,
                                 .state_copies = 1 };
