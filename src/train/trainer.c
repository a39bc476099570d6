/* trainer.c — the two plans of a training step, and the forward-only one for validation. */
#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include "dist/dist.h"
#include "op/quant_fp8/quant_fp8.h"
#include "op/xent/xent.h"
#include "train/train_int.h"

static lm_err collect(void *ud, const char *name, const lm_type *t, lm_role role) {
    lm_trainer *tr = ud;
    if (tr->n_param == tr->cap_param) {
        int cap = tr->cap_param ? tr->cap_param * 2 : 128;
        lm_optim_param *p = lm_arena_alloc(tr->a, (size_t)cap * sizeof *p);
        if (!p) return LM_E_NOMEM;
        if (tr->n_param) memcpy(p, tr->param, (size_t)tr->n_param * sizeof *p);
        tr->param = p; tr->cap_param = cap;
    }
    char *n = lm_arena_strdup(tr->a, name);
    if (!n) return LM_E_NOMEM;
    tr->param[tr->n_param] = (lm_optim_param){ n, *t, role };
    if (tr->o.pure && t->rank == 2) tr->param[tr->n_param].type.dtype = LM_BF16;
    tr->n_param++;
    return LM_OK;
}
/* Forward to per-token losses (N); the parameters' values in p order. */
static lm_err forward(lm_trainer *t, lm_graph *g, bool training, lm_value **loss, lm_value **params) {
    int64_t N = t->o.batch * t->o.seq;
    lm_type ids = LM_TYPE(LM_I32, N), rng = LM_TYPE(LM_I64, 2);
    ids.ext[0] = (int8_t)lm_extent(g, "N");
    lm_model_in in = { .tokens = lm_input(g, "tokens", &ids), .pos = lm_input(g, "pos", &ids), .start = lm_input(g, "start", &ids), .context = t->o.seq };
    if (training && t->o.dropout > 0) { in.rng = lm_input(g, "rng", &rng); in.dropout = t->o.dropout; }
    lm_model_out out;
    LM_TRY(t->cfg.model->build(g, &t->cfg, &in, &out));
    if (!out.head) return lm_fail(t->ctx, LM_E_UNSUPPORTED, "%s is an encoder: there is no next token to train it on", t->cfg.model->name);
    *loss = lm_xent_capped(g, out.hidden, out.head, lm_input(g, "target", &ids), NULL, training ? (float)t->o.label_smoothing : 0.0f,
                           training ? (float)t->o.z_loss : 0.0f, (float)t->cfg.logit_cap);
    lm_graph_output(g, "loss", *loss);
    for (int i = 0; i < t->n_param; i++) {
        lm_value *p = lm_graph_find(g, LM_V_STATE, t->param[i].name);
        if (!p) return lm_fail(t->ctx, LM_E_INTERNAL, "%s is not in the graph", t->param[i].name);
        p->type.dtype = t->param[i].type.dtype;
        if (params) params[i] = p;
    }
    return lm_graph_err(g);
}
/* What products are taken in that are not in fp8, and are while the graph is built. */
static lm_dtype mm_of(const lm_trainer *t) { return t->o.mm == LM_F8_E4M3 ? LM_BF16 : t->o.mm; }
static lm_err accumulate_graph(lm_trainer *t, int recompute, lm_graph **out) {
    lm_graph *g;
    LM_TRY(lm_graph_new(&g, t->ctx, NULL));
    lm_value *loss, **p = lm_arena_alloc(lm_graph_arena(g), (size_t)(t->n_param + 1) * sizeof *p),
                    **d = lm_arena_alloc(lm_graph_arena(g), (size_t)(t->n_param + 1) * sizeof *d);
    lm_err err = p && d ? LM_OK : LM_E_NOMEM;
    if (err) goto fail;
    LM_GOTO(forward(t, g, true, &loss, p), fail);
    LM_GOTO(lm_pass_precision(g, mm_of(t)), fail);
    LM_GOTO(lm_pass_fuse(g, NULL), fail);
    if (t->copy) LM_GOTO(lm_pass_products(g, t->o.dev, lm_copies_name, t), fail);
    int n_wrt = 0;
    for (int i = 0; i < t->n_param; i++) if (lm_copies_lead(t, i)) p[n_wrt++] = lm_copies_weight(t, g, i, p[i]);
    LM_GOTO(lm_autodiff(g, 1, &loss, NULL, n_wrt, p, d), fail);
    for (int i = t->n_param - 1, k = n_wrt; i >= 0; i--) d[i] = lm_copies_lead(t, i) ? d[--k] : NULL;      /* by parameter again */
    for (int i = 0; i < t->n_param; i++) {
        if (!lm_copies_lead(t, i)) continue;
        if (!d[i]) { err = lm_fail(t->ctx, LM_E_INTERNAL, "%s has no gradient: nothing depends on it", t->param[i].name); goto fail; }
        lm_copies_half(t, g, i, d[i]);
        LM_GOTO(lm_mesh_accumulate(t, g, i, d[i]), fail);
    }
    if (t->o.mm == LM_F8_E4M3) LM_GOTO(lm_pass_fp8(g, NULL), fail);
    LM_GOTO(lm_pass_recompute(g, recompute), fail);
    LM_GOTO(lm_mesh_gather(t, g), fail);
    if (t->o.dev) LM_GOTO(lm_pass_unite(g, t->o.dev, 0, false, NULL), fail);
    LM_GOTO(lm_mesh_reduce(t, g), fail);
    if (t->o.dev && mm_of(t) == LM_BF16) { LM_GOTO(lm_pass_round_once(g, t->o.dev), fail); LM_GOTO(lm_pass_storage(g, t->o.dev), fail); }
    if (t->o.dev) LM_GOTO(lm_pass_unite(g, t->o.dev, 0, true, NULL), fail);
    *out = g; return LM_OK;
fail:
    lm_graph_free(g); return err;
}
/* What matrices that are updated at once may take on a device beside the rest: the arena is the accumulation's where that is larger. */
static const size_t TOGETHER = (size_t)512 << 20;
static lm_err update_graph(lm_trainer *t, lm_graph **out) {
    lm_graph *g;
    LM_TRY(lm_graph_new(&g, t->ctx, NULL));
    lm_optim_cfg c = t->o.optim;
    c.together = t->o.dev ? TOGETHER : 0;
    c.mm = t->o.dev ? mm_of(t) : LM_F32;
    lm_err err = lm_optim_build(g, &c, t->held, t->n_param, t->hooks);
    if (!err && c.mm == LM_BF16) err = lm_pass_storage(g, t->o.dev);
    if (err) { lm_graph_free(g); return err; }
    *out = g; return LM_OK;
}
static lm_err plan_of(lm_trainer *t, lm_graph *g, lm_mem_tag tag, bool dry, lm_plan *share, lm_plan **out) {
    const lm_plan_opts po = { .store = t->store,
                              .create_states = true,
                              .state_tag = tag,
                              .comm = t->o.dev && lm_trainer_ranks(t) > 1 ? t->o.dev_comm : t->o.comm,
                              .features = t->o.features,
                              .dry = dry,
                              .share = share,
                              .dev = t->o.dev };
    return lm_plan_new(out, t->ctx, g, &po);
}
static size_t type_bytes(const lm_type *t, lm_dtype d, int64_t rows) {
    size_t b = lm_dtype_size(d) * (size_t)rows;
    for (int k = 1; k < t->rank; k++) b *= (size_t)t->dim[k];
    return b;
}
static size_t states_total(const lm_trainer *t, size_t *params, size_t *grads, size_t *optim) {
    const int ranks = lm_trainer_ranks(t);
    *params = lm_copies_bytes(t); *grads = *optim = 0;
    for (int i = 0; i < t->n_param; i++) {
        const lm_type *h = &t->held[i].type, *w = &t->param[i].type;
        const int64_t rows = t->held[i].rows ? h->dim[0] * ranks : w->dim[0];
        const size_t part = type_bytes(h, LM_F32, h->dim[0]), whole = type_bytes(w, LM_F32, rows);
        *params += t->o.mesh == LM_MESH_FSDP ? type_bytes(h, h->dtype, h->dim[0]) : type_bytes(w, w->dtype, rows);
        *grads += (t->o.mesh >= LM_MESH_ZERO2 ? part : whole) / (t->param[i].grad == LM_BF16 ? 2 : 1);
        *optim += part * (size_t)lm_optim_for(&t->o.optim, &t->param[i])->state_copies;
    }
    return *params + *grads + *optim;
}
/* What may be used: the budget that was set; on a device what is free there, less a little for what is not planned (contexts of libraries,
 * the last bit of fragmented memory). 0: no limit is known. */
static lm_err budget_of(lm_trainer *t, size_t *budget) {
    size_t total = 0;
    *budget = (size_t)t->o.memory_budget;
    if (*budget || !t->o.dev) return LM_OK;
    LM_TRY(t->o.dev->room(t->o.dev, budget, &total));
    *budget -= *budget / 32;
    return LM_OK;
}
static lm_err need_at(lm_trainer *t, int level, size_t *total) {
    lm_graph *g; lm_plan *plan; lm_plan_stats st;
    LM_TRY(accumulate_graph(t, level, &g));
    const lm_err e = plan_of(t, g, LM_MEM_GRADS, true, NULL, &plan);
    lm_graph_free(g);
    LM_TRY(e);
    lm_plan_stats_of(plan, &st);
    lm_plan_free(plan);
    size_t p, gr, o;
    *total = states_total(t, &p, &gr, &o) + st.arena_bytes + st.thread_bytes;    /* the graph decides about copies of weights */
    return LM_OK;
}
/* Under fsdp on a device: is there room for matrices that are gathered for the forward to stay until the backward? */
static lm_err choose_gather(lm_trainer *t) {
    size_t budget, total;
    t->gather_once = t->o.mesh == LM_MESH_FSDP && t->o.gather != LM_GATHER_AGAIN && lm_trainer_ranks(t) > 1 && (t->o.dev || t->o.gather == LM_GATHER_ONCE);
    if (!t->gather_once || t->o.gather == LM_GATHER_ONCE) return LM_OK;
    LM_TRY(budget_of(t, &budget));
    LM_TRY(need_at(t, t->recompute, &total));
    t->gather_once = total <= budget;
    return LM_OK;
}
/* The lowest level that fits the budget (memory falls with the level, time rises); on a device not below 1, where norms and activations are
 * made again, which costs less than keeping them. */
static lm_err choose_recompute(lm_trainer *t, int *level) {
    size_t p, gr, o, budget, total;
    const bool given = t->o.recompute >= 0;
    *level = given ? t->o.recompute : 1;
    LM_TRY(budget_of(t, &budget));
    if (!budget || (given && (!t->o.dev || t->o.dry))) return LM_OK;
    size_t best = SIZE_MAX;
    int best_level = *level;
    for (int lo = given ? *level : t->o.dev && !t->o.memory_budget ? 1 : 0, hi = given ? *level : 1 + (int)t->cfg.n_layer; lo <= hi;) {
        const int mid = best == SIZE_MAX && !given && lo <= 1 ? 1 : (lo + hi) / 2;    /* most models fit at 1 */
        LM_TRY(need_at(t, mid, &total));
        if (total < best) { best = total; best_level = mid; }
        if (total <= budget) { best_level = mid; hi = mid - 1; } else lo = mid + 1;
    }
    *level = best_level;
    if (best <= budget) return LM_OK;
    const size_t states = states_total(t, &p, &gr, &o);
    char where[220];
    if (t->o.memory_budget) snprintf(where, sizeof where, "the budget is %.2f GB; a smaller train.batch or data.seq, or fewer parameters, would", (double)budget / 1e9);
    else snprintf(where, sizeof where, "%.2f of %.2f GB can be used on %s", (double)budget / 1e9, (double)t->o.dev->memory / 1e9, t->o.dev->name);
    return lm_fail(t->ctx, LM_E_NOMEM,
                   "training does not fit the %s: %.2f GB %s (parameters %.2f, gradients %.2f, optimizer %.2f, activations %.2f), %s",
                   t->o.memory_budget ? "memory budget" : "device", (double)best / 1e9, given ? "are needed" : "at the least", (double)p / 1e9,
                   (double)gr / 1e9, (double)o / 1e9, (double)(best - states) / 1e9, where);
}
static lm_err agree(lm_trainer *t, lm_err e, const char *what) { return lm_trainer_ranks(t) > 1 ? lm_comm_agree(t->o.comm, t->ctx, e, what) : e; }
/* Ranks may have other kernels and so need other scratch; the graphs must be the same, so the highest level of any rank is everyone's, and what
 * one has no room to keep all gather again. */
static lm_err same_level(lm_trainer *t) {
    enum { MOST = 4096 };
    if (lm_trainer_ranks(t) == 1) return LM_OK;
    struct { int32_t level, again; } all[MOST], mine = { t->recompute, !t->gather_once };
    if (t->o.comm->size > MOST) return lm_fail(t->ctx, LM_E_UNSUPPORTED, "%d ranks; %d are the most", t->o.comm->size, MOST);
    LM_TRY(t->o.comm->all_gather(t->o.comm, &mine, sizeof mine, all));
    for (int i = 0; i < t->o.comm->size; i++) {
        if (all[i].level > t->recompute) t->recompute = all[i].level;
        if (all[i].again) t->gather_once = false;
    }
    return LM_OK;
}
/* What all ranks must have alike, or they would meet in different calls and wait for ever: the program's version, and the steps of the plans
 * (rows and shapes; kernels may differ). */
static uint64_t plan_hash(const lm_plan *p, uint64_t h) {
    lm_plan_stats st;
    lm_plan_stats_of(p, &st);
    for (int i = 0; i < st.n_steps; i++) {
        const lm_call *c = lm_plan_call(p, i);
        h = lm_hash64(c->op->name, strlen(c->op->name), h);
        for (int k = 0; k < c->n_out; k++) h = lm_hash64(c->out[k].dim, (size_t)c->out[k].rank * sizeof *c->out[k].dim, h);
    }
    return h;
}
typedef struct { char version[32], device[32]; uint64_t plan; int64_t steps; } identity;
static lm_err same_plans(lm_trainer *t) {
    const int n = lm_trainer_ranks(t);
    if (n == 1) return LM_OK;
    identity mine;
    memset(&mine, 0, sizeof mine);
    lm_plan_stats st;
    lm_plan_stats_of(t->acc, &st);
    snprintf(mine.version, sizeof mine.version, "%s", t->o.version ? t->o.version : LM_VERSION);
    snprintf(mine.device, sizeof mine.device, "%.31s", t->o.dev ? t->o.dev->kind : "cpu");
    mine.plan = plan_hash(t->eval, plan_hash(t->upd, plan_hash(t->acc, 0)));
    mine.steps = st.n_steps;
    identity *all = lm_alloc(t->ctx, LM_MEM_MISC, (size_t)n * sizeof *all);
    LM_TRY(agree(t, all ? LM_OK : LM_E_NOMEM, "comparing the plans"));
    lm_err err = t->o.comm->all_gather(t->o.comm, &mine, sizeof mine, all);
    for (int r = 1; r < n && !err; r++) {
        if (strcmp(all[r].version, all[0].version))
            err = lm_fail(t->ctx, LM_E_MISMATCH, "rank 0 runs loam %s, rank %d loam %s: all ranks must run the same program",
                          all[0].version, r, all[r].version);
        else if (strcmp(all[r].device, all[0].device))
            err = lm_fail(t->ctx, LM_E_MISMATCH, "rank 0 trains on %s, rank %d on %s", all[0].device, r, all[r].device);
        else if (all[r].plan != all[0].plan)
            err = lm_fail(t->ctx, LM_E_MISMATCH,
                          "rank %d has another plan than rank 0 (%lld steps, %lld there): configurations, or builds of the program, differ",
                          r, (long long)all[r].steps, (long long)all[0].steps);
    }
    lm_free(t->ctx, all);
    return err;
}
/* Matrices that are in the store as f32 are rounded to the nearest and kept in bf16 from here on. */
static lm_err narrow(lm_trainer *t) {
    for (int i = 0; i < t->n_param; i++) {
        const lm_optim_param *p = &t->param[i];
        lm_tensor w, n;
        if (p->type.dtype != LM_BF16 || !lm_store_get(t->store, p->name, &w) || w.dtype == LM_BF16) continue;
        if (w.dtype != LM_F32 || w.layout != LM_PLAIN) return lm_fail(t->ctx, LM_E_SHAPE, "%s is in memory with another type than training wants", p->name);
        const size_t bytes = (size_t)lm_numel(&w) * sizeof(uint16_t);
        void *half = lm_alloc(t->ctx, LM_MEM_IO, bytes);
        if (!half) return LM_E_NOMEM;
        lm_convert(half, LM_BF16, w.data, LM_F32, lm_numel(&w));
        lm_err e = lm_store_remove(t->store, p->name);
        if (!e) e = lm_store_add(t->store, p->name, &p->type, LM_PLAIN, LM_MEM_WEIGHTS, &n);
        if (!e) memcpy(n.data, half, bytes);
        lm_free(t->ctx, half);
        LM_TRY(e);
    }
    return LM_OK;
}
static lm_err shares(lm_trainer *t) {
    if (t->o.mm == LM_F8_E4M3 && t->o.mesh == LM_MESH_FSDP)
        return lm_fail(t->ctx, LM_E_UNSUPPORTED, "fp8 wants whole matrices on each rank: fsdp keeps parts of them; dp, zero1 and zero2 do");
    if (t->o.pure && t->o.mesh > LM_MESH_DP)
        return lm_fail(t->ctx, LM_E_UNSUPPORTED, "bf16_pure wants whole matrices on each rank: dp keeps them so; zero1, zero2 and fsdp update parts of them");
    if (t->o.pure && t->o.mm != LM_BF16) return lm_fail(t->ctx, LM_E_UNSUPPORTED, "weights in bf16 alone are multiplied in bf16");
    LM_TRY(lm_cfg_check(t->ctx, &t->cfg));
    LM_TRY(lm_model_params(t->ctx, &t->cfg, collect, t));
    if (t->o.pure && !t->o.dry) LM_TRY(narrow(t));
    LM_TRY(lm_mesh_setup(t));
    return lm_copies_setup(t);
}
/* Counts of e4m3 lie one behind the other, so that they are read at once; room for all weights, however many are joined, since trainers share a store. */
static lm_err counts_store(lm_trainer *t, lm_graph *g) {
    char name[64];
    const int n = t->n_param + 1;
    const lm_type all = LM_TYPE(LM_I64, (int64_t)n * LM_FP8_ALL_COUNTS), one = LM_TYPE(LM_I64, LM_FP8_ALL_COUNTS);
    if (!lm_graph_find(g, LM_V_STATE, LM_FP8_STATE ".0")) return LM_OK;
    LM_TRY(lm_store_add(t->store, LM_FP8_STATE, &all, LM_PLAIN, LM_MEM_GRADS, NULL));
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, LM_FP8_STATE ".%d", i);
        LM_TRY(lm_store_part(t->store, name, LM_FP8_STATE, (int64_t)i * LM_FP8_ALL_COUNTS, (int64_t)n * LM_FP8_ALL_COUNTS, &one));
    }
    return LM_OK;
}
static lm_err plans(lm_trainer *t) {
    lm_graph *g = NULL;
    lm_value *loss;
    lm_err err;
    LM_GOTO(accumulate_graph(t, t->recompute, &g), done);
    if (!t->o.dry) { LM_GOTO(lm_copies_store(t), done); LM_GOTO(counts_store(t, g), done); }
    LM_GOTO(plan_of(t, g, LM_MEM_GRADS, t->o.dry, NULL, &t->acc), done);
    lm_graph_free(g); g = NULL;
    LM_GOTO(update_graph(t, &g), done);
    LM_GOTO(plan_of(t, g, LM_MEM_OPTIM, t->o.dry, t->acc, &t->upd), done);
    lm_graph_free(g); g = NULL;
    if (lm_copies_bytes(t)) {
        LM_GOTO(lm_copies_graph(t, &g), done);
        LM_GOTO(plan_of(t, g, LM_MEM_WEIGHTS, t->o.dry, t->acc, &t->round), done);
        lm_graph_free(g); g = NULL;
    }
    LM_GOTO(lm_graph_new(&g, t->ctx, NULL), done);
    LM_GOTO(forward(t, g, false, &loss, NULL), done);
    LM_GOTO(lm_pass_precision(g, mm_of(t)), done);
    LM_GOTO(lm_pass_fuse(g, NULL), done);
    LM_GOTO(lm_mesh_gather(t, g), done);
    if (t->o.dev) LM_GOTO(lm_pass_unite(g, t->o.dev, 0, false, NULL), done);
    if (t->o.dev && mm_of(t) == LM_BF16) LM_GOTO(lm_pass_storage(g, t->o.dev), done);
    err = plan_of(t, g, LM_MEM_WEIGHTS, t->o.dry, t->acc, &t->eval);
done:
    lm_graph_free(g);
    return err;
}
lm_err lm_trainer_new(lm_trainer **out, lm_ctx *ctx, const lm_cfg *cfg, lm_store *store, const lm_trainer_opts *o) {
    lm_arena *a;
    LM_TRY(lm_arena_new(&a, ctx, LM_MEM_GRAPH, 0));
    lm_trainer *t = lm_arena_alloc(a, sizeof *t);
    if (!t) { lm_arena_free(a); return LM_E_NOMEM; }
    t->ctx = ctx; t->a = a; t->cfg = *cfg; t->store = store; t->o = *o;
    if (!t->o.comm) t->o.comm = lm_comm_self();
    lm_err err;
    if (t->o.dev && lm_trainer_ranks(t) > 1 && !t->o.dev_comm) {
        err = lm_fail(ctx, LM_E_INTERNAL, "%d ranks on %s have no communicator for it", lm_trainer_ranks(t), t->o.dev->kind);
        goto fail;
    }
    LM_GOTO(agree(t, shares(t), "sharing out the parameters"), fail);
    LM_GOTO(agree(t, choose_recompute(t, &t->recompute), "planning"), fail);
    LM_GOTO(agree(t, choose_gather(t), "planning"), fail);
    LM_GOTO(same_level(t), fail);
    LM_GOTO(agree(t, plans(t), "planning"), fail);
    LM_GOTO(same_plans(t), fail);
    *out = t; return LM_OK;
fail:
    lm_trainer_free(t); return err;
}
void lm_trainer_free(lm_trainer *t) {
    if (!t) return;
    lm_plan_free(t->eval); lm_plan_free(t->round); lm_plan_free(t->upd); lm_plan_free(t->acc);
    lm_arena_free(t->a);
}
void lm_trainer_plan_of(const lm_trainer *t, lm_trainer_plan *p) {
    memset(p, 0, sizeof *p);
    lm_plan_stats_of(t->acc, &p->accumulate); lm_plan_stats_of(t->upd, &p->update); lm_plan_stats_of(t->eval, &p->eval);
    states_total(t, &p->params, &p->grads, &p->optim);
    for (int i = 0; i < t->n_param; i++) {
        size_t n = 1;
        for (int k = 0; k < t->param[i].type.rank; k++) n *= (size_t)t->param[i].type.dim[k];
        p->n_params += n;
    }
    p->recompute = t->recompute; p->gather_once = t->gather_once;
    size_t arena = p->accumulate.arena_bytes > p->update.arena_bytes ? p->accumulate.arena_bytes : p->update.arena_bytes;
    if (p->eval.arena_bytes > arena) arena = p->eval.arena_bytes;
    size_t th = p->accumulate.thread_bytes > p->update.thread_bytes ? p->accumulate.thread_bytes : p->update.thread_bytes;
    p->total = p->params + p->grads + p->optim + arena + th;
}
lm_err lm_trainer_pull(lm_trainer *t) { return t->o.dev ? lm_store_pull(t->store) : LM_OK; }
lm_plan *lm_trainer_accumulate_plan(lm_trainer *t) { return t->acc; }
lm_plan *lm_trainer_eval_plan(lm_trainer *t) { return t->eval; }
lm_plan *lm_trainer_update_plan(lm_trainer *t) { return t->upd; }

static lm_err feed(lm_plan *p, const lm_batch *b) {
    const struct {
        const char *name;
        const int32_t *v;
    } in[] = { { "tokens", b->tokens }, { "pos", b->pos }, { "start", b->start }, { "target", b->target } };
    LM_TRY(lm_plan_extent(p, "N", b->n));
    for (int i = 0; i < LM_COUNT(in); i++) {
        void *dst = lm_plan_input(p, in[i].name, NULL);
        if (dst) memcpy(dst, in[i].v, (size_t)b->n * sizeof(int32_t));
    }
    return LM_OK;
}
static double sum_loss(lm_plan *p, int64_t n) {
    const float *l = lm_plan_output(p, "loss", NULL);
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += (double)l[i];
    return s;
}
/* for sentences about ranks that do not come */
static void at_step(lm_trainer *t, int64_t step) {
    if (lm_trainer_ranks(t) > 1) {
        t->o.comm->step = step;
        if (t->o.dev_comm) t->o.dev_comm->step = step;
    }
}
lm_err lm_trainer_accumulate(lm_trainer *t, const lm_batch *b, int64_t step, int64_t micro, double *loss_sum) {
    LM_TRY(feed(t->acc, b));
    int64_t *rng = lm_plan_input(t->acc, "rng", NULL);
    if (rng) { rng[0] = (int64_t)t->o.seed; rng[1] = (step << 20) + (micro * t->o.comm->size + t->o.comm->rank); }
    lm_plan_hold(t->acc, micro + 1 < t->o.accum);
    lm_plan_fresh(t->acc, t->o.dev && !micro);
    LM_TRY(lm_copies_fresh(t));
    at_step(t, step + 1);
    LM_TRY(lm_plan_run(t->acc));
    double s = sum_loss(t->acc, b->n);
    if (!isfinite(s))
        return lm_fail(t->ctx, LM_E_RANGE,
                       "the loss is not finite at step %lld; the last checkpoint is untouched. A lower optim.lr, optim.clip 1.0 or a "
                       "longer warm-up usually helps",
                       (long long)step);
    *loss_sum += s;
    return LM_OK;
}
lm_err lm_trainer_update(lm_trainer *t, int64_t step, double lr_scale, double n_tokens, double *grad_norm) {
    float *clip = lm_plan_input(t->upd, "clip", NULL);
    clip[0] = (float)t->o.optim.clip; clip[1] = (float)(1.0 / (n_tokens > 0 ? n_tokens : 1.0));
    for (int i = 0; lm_optims[i]; i++)
        for (int decay = 0; decay < 2; decay++) {
            char name[64];
            snprintf(name, sizeof name, "hyper.%s.%s", lm_optims[i]->name, decay ? "decay" : "plain");
            float *h = lm_plan_input(t->upd, name, NULL);
            if (h) lm_optims[i]->hyper(&t->o.optim, lr_scale, decay, step, h);
        }
    int64_t *rng = lm_plan_input(t->upd, "rng", NULL);
    if (rng) { rng[0] = (int64_t)t->o.seed; rng[1] = step; }
    LM_TRY(lm_plan_run(t->upd));
    lm_copies_updated(t);
    if (grad_norm) *grad_norm = (double)*(const float *)lm_plan_output(t->upd, "gnorm", NULL);
    return LM_OK;
}
lm_err lm_trainer_eval(lm_trainer *t, const lm_batch *b, double *loss_sum) {
    LM_TRY(feed(t->eval, b));
    if (t->o.mesh == LM_MESH_FSDP) LM_TRY(lm_copies_fresh(t));
    LM_TRY(lm_plan_run(t->eval));
    *loss_sum += sum_loss(t->eval, b->n);
    return LM_OK;
}
lm_err lm_trainer_fp8_counts(lm_trainer *t, int64_t counts[LM_FP8_ALL_COUNTS]) {
    lm_tensor all;
    memset(counts, 0, sizeof *counts * LM_FP8_ALL_COUNTS);
    for (int i = 0; i < lm_store_count(t->store); i++) {
        if (strcmp(lm_store_name(t->store, i, &all), LM_FP8_STATE)) continue;
        const int64_t n = lm_numel(&all);
        const size_t bytes = (size_t)n * sizeof *counts;
        int64_t *got = lm_alloc(t->ctx, LM_MEM_MISC, bytes);
        if (!got) return LM_E_NOMEM;
        lm_err e = lm_store_read(t->store, i, 0, got, bytes);
        for (int64_t k = 0; k < n && !e; k++) {
            int64_t *to = &counts[k % LM_FP8_ALL_COUNTS];
            *to = k % LM_FP8_COUNTS == LM_FP8_AMAX ? lm_max64(*to, got[k]) : *to + got[k];
        }
        memset(got, 0, bytes);
        if (!e) e = lm_store_write(t->store, i, 0, got, bytes);
        lm_free(t->ctx, got);
        return e;
    }
    return LM_OK;
}
int lm_trainer_n_params(const lm_trainer *t) { return t->n_param; }
const lm_optim_param *lm_trainer_param(const lm_trainer *t, int i) { return &t->param[i]; }
