/* optim.c — the table, and the update graph of a whole model: global norm, clip factor, one update per parameter. */
#include <stdio.h>
#include <string.h>
#include "op/assign/assign.h"
#include "op/clip_scale/clip_scale.h"
#include "op/sum/sum.h"
#include "op/sumsq/sumsq.h"
#include "op/total/total.h"
#include "optim/optim.h"
#define OPTIM(n) extern const lm_optim lm_optim_##n;
#include "optim_list.inc"
#undef OPTIM
const lm_optim *const lm_optims[] = {
#define OPTIM(n) &lm_optim_##n,
#include "optim_list.inc"
#undef OPTIM
    NULL };
const lm_optim *lm_optim_by_name(const char *name) {
    for (int i = 0; lm_optims[i]; i++) if (!strcmp(lm_optims[i]->name, name)) return lm_optims[i];
    return NULL;
}
const lm_optim *lm_optim_for(const lm_optim_cfg *c, const lm_optim_param *p) {
    const lm_optim *o = lm_optim_by_name(c->name);
    bool hidden = p->type.rank == 2 && (p->role == LM_ROLE_COL || p->role == LM_ROLE_ROW);
    return o && o->matrices_only && !hidden ? lm_optim_by_name("adamw") : o;
}
/* Parameter i and those behind it that are updated with it: of its type, held alike, as many as its optimizer takes. All there are of a type are
 * shared out evenly. */
static bool like(const lm_optim_cfg *c, const lm_optim_param *a, const lm_optim_param *b) {
    if (lm_optim_for(c, a) != lm_optim_for(c, b) || lm_optim_decays(a) != lm_optim_decays(b) || a->rows != b->rows || a->type.dtype != b->type.dtype || a->type.rank != b->type.rank)
        return false;
    for (int d = 0; d < a->type.rank; d++) if (a->type.dim[d] != b->type.dim[d]) return false;
    return true;
}
static int alike(const lm_optim_cfg *c, const lm_optim_param *p, int n, int i, const bool *done, int *group) {
    const lm_optim *o = lm_optim_for(c, &p[i]);
    int most = o->most ? o->most(c, p[i].rows ? p[i].rows : p[i].type.dim[0], p[i].type.dim[1]) : 1, all = 0, m = 0;
    if (most <= 1) { group[0] = i; return 1; }
    for (int k = i; k < n; k++) all += !done[k] && like(c, &p[i], &p[k]);
    most = (int)lm_ceil_div(all, lm_ceil_div(all, most));
    for (int k = i; k < n && m < most; k++) if (!done[k] && like(c, &p[i], &p[k])) group[m++] = k;
    return m;
}
static lm_err arg_of(lm_graph *g, const lm_optim_cfg *c, const lm_optim *o, const lm_optim_param *p, lm_value *grad, lm_value *scale, const lm_optim_hooks *hooks,
                     lm_optim_arg *a) {
    const lm_type eight = LM_TYPE(LM_F32, LM_HYPER), draw = LM_TYPE(LM_I64, 2);
    char name[300];
    snprintf(name, sizeof name, "hyper.%s.%s", o->name, lm_optim_decays(p) ? "decay" : "plain");
    *a = (lm_optim_arg){ .param_name = p->name,
                         .param = lm_state(g, p->name, &p->type),
                         .grad = grad,
                         .scale = scale,
                         .hyper = lm_input(g, name, &eight),
                         .cfg = c,
                         .hooks = hooks,
                         .rows = p->rows,
                         .fresh = p->fresh };
    lm_type half = p->type;
    half.dtype = LM_BF16;
    if (p->type.dtype == LM_BF16) {
        if (!o->by_chance) return lm_fail(lm_graph_ctx(g), LM_E_UNSUPPORTED, "%s has no update of weights in bf16 alone; adamw has one", o->name);
        a->rng = lm_input(g, "rng", &draw);
    }
    if (p->copy) a->copy = lm_state(g, p->copy, &half);
    return LM_OK;
}
lm_err lm_optim_build(lm_graph *g, const lm_optim_cfg *c, const lm_optim_param *p, int n, const lm_optim_hooks *hooks) {
    lm_ctx *ctx = lm_graph_ctx(g);
    if (!lm_optim_by_name(c->name)) {
        const char *names[32]; int m = 0;
        for (; lm_optims[m] && m < 32; m++) names[m] = lm_optims[m]->name;
        const char *near = lm_nearest(c->name, names, m);
        return lm_fail(ctx, LM_E_CONFIG, "optim.name: no optimizer is called \"%s\"%s%s", c->name, near ? "; did you mean " : "", near ? near : "");
    }
    lm_value **grad = lm_arena_alloc(lm_graph_arena(g), (size_t)(n + 1) * sizeof *grad);
    lm_value **square = lm_arena_alloc(lm_graph_arena(g), (size_t)(n + 1) * sizeof *square), **part = lm_arena_alloc(lm_graph_arena(g), (size_t)(n + 1) * sizeof *part);
    if (!grad || !square || !part) return LM_E_NOMEM;
    char name[300];
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "grad.%s", p[i].name);
        lm_type gt = p[i].type;
        gt.dtype = p[i].grad;
        grad[i] = lm_state(g, name, &gt);
        if (!p[i].squares) square[i] = lm_sumsq(g, grad[i]);         /* all squares first: a device takes neighbours at once */
    }
    for (int i = 0; i < n; i++) {
        if (!p[i].squares) continue;
        const lm_type st = LM_TYPE(LM_F32, p[i].n_squares);
        square[i] = p[i].n_squares ? lm_sum(g, lm_state(g, p[i].squares, &st)) : NULL;
    }
    /* of parameters that are here whole, then of those that are rows of what all ranks have */
    int whole = 0, rows = 0;
    for (int i = 0; i < n; i++) if (!p[i].rows && square[i]) part[whole++] = square[i];
    for (int i = 0; i < n; i++) if (p[i].rows && square[i]) part[whole + rows++] = square[i];
    lm_value *norm2 = whole ? lm_total(g, part, whole) : NULL, *parts = rows ? lm_total(g, part + whole, rows) : NULL;
    if (parts && hooks && hooks->norm) parts = hooks->norm(hooks->ud, g, parts);
    if (parts) norm2 = norm2 ? lm_total(g, (lm_value *[]){ norm2, parts }, 2) : parts;
    const lm_type two = LM_TYPE(LM_F32, 2);
    lm_value *scale = lm_clip_scale(g, norm2, lm_input(g, "clip", &two));
    lm_graph_output(g, "gnorm", lm_output(scale, 1));
    bool *done = lm_arena_alloc(lm_graph_arena(g), (size_t)n + 1);
    int *group = lm_arena_alloc(lm_graph_arena(g), (size_t)(n + 1) * sizeof *group);
    lm_optim_arg *arg = lm_arena_alloc(lm_graph_arena(g), (size_t)(n + 1) * sizeof *arg);
    if (!done || !group || !arg) return LM_E_NOMEM;
    for (int i = 0; i < n; i++) {
        const int m = done[i] ? 0 : alike(c, p, n, i, done, group);
        if (!m) continue;
        const lm_optim *o = lm_optim_for(c, &p[i]);
        for (int k = 0; k < m; k++) LM_TRY(arg_of(g, c, o, &p[group[k]], grad[group[k]], scale, hooks, &arg[k]));
        LM_TRY(o->build(g, arg, m));
        for (int k = 0; k < m; k++) {
            if (arg[k].copy) lm_assign(g, arg[k].copy, arg[k].now);
            square[group[k]] = arg[k].now;
            done[group[k]] = true;
        }
    }
    for (int i = 0; i < n && hooks && hooks->done; i++)
        LM_TRY(hooks->done(hooks->ud, g, i, square[i])); /* last: updates that are neighbours go at once */
    return lm_graph_err(g);
}
