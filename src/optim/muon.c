/* muon.c — momentum, orthogonalized (Jordan et al. 2024): matrices move along the nearest semi-orthogonal matrix to their momentum.
 *
 *   buf ← lerp(buf, g, 1-μ);  u ← lerp(g, buf, μ) (Nesterov);  X = u/‖u‖;  five times X ← aX + (bA + cA²)X with A = XXᵀ;
 *   p ← p (1 - lr·wd) - lr · √max(1, rows/cols) · X.
 * The quintic (a, b, c) = (3.4445, -4.7750, 2.0315) pushes all singular values into about [0.7, 1.2] fast; it does not converge to exactly
 * one, by design. When a matrix is tall the iteration runs on its transpose, so that A is the small Gram matrix; here the transpose is a
 * matmul flag, never a copy. Matrices of one shape iterate together, one behind the other in memory, where the products of one alone leave
 * processors of a device idle (lm_optim_cfg.together): each is made as if it were alone. */
#include <math.h>
#include <stdio.h>
#include "op/axpby/axpby.h"
#include "op/cast/cast.h"
#include "op/matmul/matmul.h"
#include "op/muon_apply/muon_apply.h"
#include "op/muon_momentum/muon_momentum.h"
#include "op/normalize/normalize.h"
#include "op/stack/stack.h"
#include "op/unstack/unstack.h"
#include "optim/optim.h"
/* What a matrix takes while it iterates: X and the product with it, A and A². */
static size_t iterates(int64_t rows, int64_t cols) {
    const int64_t r = lm_min64(rows, cols);
    return (size_t)(2 * rows * cols + 2 * r * r) * sizeof(float);
}
static int most(const lm_optim_cfg *c, int64_t rows, int64_t cols) {
    const size_t n = c->together / iterates(rows, cols);
    return n < 1 ? 1 : n > LM_MAX_STACK ? LM_MAX_STACK : (int)n;
}
static lm_err build(lm_graph *g, lm_optim_arg *a, int n) {
    char name[300];
    lm_value *x = NULL, *each[LM_MAX_STACK];
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "muon.buf.%s", a[i].param_name);
        lm_value *u = lm_muon_momentum(g, a[i].grad, lm_state(g, name, lm_type_of(a[i].param)), a[i].hyper, a[i].scale, true);     /* (rows, cols) */
        /* the iteration needs the matrix: every rank makes it and takes its rows */
        if (a->rows) u = a->hooks->whole(a->hooks->ud, g, u, a->rows);
        x = each[i] = lm_normalize(g, u, 1e-7f);
    }
    if (!x) return lm_graph_err(g);
    const int64_t rows = lm_type_of(x)->dim[0], cols = lm_type_of(x)->dim[1];
    const bool tall = rows > cols;
    const lm_dtype mm = a->cfg->mm;
    if (n > 1) x = lm_stack(g, n, each);
    for (int i = 0; i < a->cfg->muon_steps; i++) {
        lm_value *X = mm == LM_BF16 && !i ? lm_cast(g, x, LM_BF16) : x;      /* later ones may be stored so (lm_pass_storage) */
        lm_value *A = lm_matmul_mm(g, X, X, NULL, tall, !tall, mm);          /* X Xᵀ, or Xᵀ X for a tall X: (r, r), r the smaller side */
        lm_value *B = lm_axpby(g, A, lm_matmul_mm(g, A, A, NULL, false, false, mm), -4.7750f, 2.0315f);
        lm_value *C = tall ? lm_matmul_mm(g, X, B, NULL, false, false, mm) : lm_matmul_mm(g, B, X, NULL, false, false, mm);
        x = lm_axpby(g, x, C, 3.4445f, 1.0f);
    }
    const double ratio = (double)rows / (double)cols;
    for (int i = 0; i < n; i++) {
        lm_value *y = n > 1 ? lm_unstack(g, x, i) : x;
        if (a->rows) y = a->hooks->part(a->hooks->ud, g, y);
        a[i].now = lm_muon_apply(g, a[i].param, y, a[i].hyper, (float)sqrt(ratio > 1.0 ? ratio : 1.0));
    }
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
                                 .most = most,
                                 .hyper = hyper,
                                 .state_copies = 1 };
