/* mesh.c — several ranks as passes over the same two graphs (Li et al. 2020, data parallel; Rajbhandari et al. 2020 and Zhao et al. 2023, sharded).
 *
 * dp: every rank holds all states. The update graph first replaces each gradient state by its sum over ranks; from there on all ranks
 * compute the same bits.
 *
 * fsdp: a matrix of R rows is held as state "NAME#shard" of s = ceil(R/P) rows: rank k has rows [k·s, k·s + s), zeros below row R. Its
 * gradient and moments are parts too ("grad.NAME#shard"), so the update is the single-rank update on smaller tensors; only the squared
 * norm is summed over ranks. Vectors stay whole, with summed gradients.
 *   accumulate, eval   a use of the matrix reads an all_gather placed just before it; uses that lie close share one, later ones gather again, so that a matrix is whole only
 *                      while its layer runs, forward and backward, recomputed or not. The pass goes over the final order, after recomputation: it sees plain uses.
 *   gradients          go through a reduce_scatter placed right behind their producer, which adds into the part.
 * Nothing here knows a model, and no op knows the mesh. All ranks build the same graph, so all meet in the same calls in the same order. */
#include <math.h>
#include <string.h>
#include "dist/dist.h"
#include "op/all_gather/all_gather.h"
#include "op/all_reduce/all_reduce.h"
#include "op/assign/assign.h"
#include "op/reduce_scatter/reduce_scatter.h"
#include "op/shard/shard.h"
#include "train/train_int.h"

static const char SHARD[] = "#shard";
/* uses of sharded matrices between two uses of one for which it is kept: about a layer forward and back */
enum { NEAR = 16 };

static bool is_part(const char *name) {
    size_t n = strlen(name), k = sizeof SHARD - 1;
    return n > k && !strcmp(name + n - k, SHARD);
}
static bool sharded(lm_mesh_kind mesh, int ranks, const lm_type *t) { return mesh == LM_MESH_FSDP && ranks > 1 && t->rank == 2; }
static lm_type part_type(const lm_type *whole, int ranks) {
    lm_type t = *whole;
    t.dim[0] = lm_ceil_div(t.dim[0], ranks);
    return t;
}
static int64_t row_numbers(const lm_type *t) {
    int64_t n = 1;
    for (int i = 1; i < t->rank; i++) n *= t->dim[i];
    return n;
}
/* Rows [*from, *from + n) of a whole of `rows` are this rank's. */
static int64_t own_rows(int64_t rows, int64_t part, int rank, int64_t *from) {
    *from = lm_min64(rows, part * rank);
    return lm_min64(part, rows - *from);
}

/* ---- hooks of the update graph ---- */
static lm_value *sum_grad(void *ud, lm_graph *g, const char *param, lm_value *grad) {
    (void)ud;
    return is_part(param) ? grad : lm_assign(g, grad, lm_all_reduce(g, grad));      /* through the state: the sum needs no second set of gradients */
}
static lm_value *sum_norm(void *ud, lm_graph *g, lm_value *norm2) { (void)ud; return lm_all_reduce(g, norm2); }
static lm_value *whole(void *ud, lm_graph *g, lm_value *v, int64_t rows) { return lm_all_gather(g, v, rows, lm_trainer_ranks(ud)); }
static lm_value *part(void *ud, lm_graph *g, lm_value *v) { return lm_shard(g, v, lm_trainer_ranks(ud)); }

/* ---- setting up ---- */
/* A whole parameter that is in the store (loaded) becomes this rank's part. */
static lm_err take_part(lm_trainer *t, int i) {
    const lm_optim_param *w = &t->param[i], *h = &t->held[i];
    lm_tensor src, dst;
    if (!lm_store_get(t->store, w->name, &src)) return LM_OK;
    if (src.dtype != LM_F32 || src.layout != LM_PLAIN || src.rank != 2 || src.dim[0] != w->type.dim[0] || src.dim[1] != w->type.dim[1])
        return lm_fail(t->ctx, LM_E_SHAPE, "%s is in memory with another shape or type than training wants", w->name);
    LM_TRY(lm_store_add(t->store, h->name, &h->type, LM_PLAIN, LM_MEM_WEIGHTS, &dst));
    int64_t from, n = own_rows(h->rows, h->type.dim[0], t->o.comm->rank, &from);
    memcpy(dst.data, (const float *)src.data + from * src.dim[1], (size_t)(n * src.dim[1]) * sizeof(float));
    return lm_store_remove(t->store, w->name);
}
lm_err lm_mesh_setup(lm_trainer *t) {
    t->held = t->param;
    const int ranks = lm_trainer_ranks(t);
    if (ranks == 1) return LM_OK;
    lm_optim_hooks *h = lm_arena_alloc(t->a, sizeof *h);
    if (!h) return LM_E_NOMEM;
    *h = (lm_optim_hooks){ .grad = sum_grad, .norm = sum_norm, .whole = whole, .part = part, .ud = t };
    t->hooks = h;
    if (t->o.mesh != LM_MESH_FSDP) return LM_OK;
    if (!(t->held = lm_arena_alloc(t->a, (size_t)(t->n_param + 1) * sizeof *t->held))) return LM_E_NOMEM;
    for (int i = 0; i < t->n_param; i++) {
        t->held[i] = t->param[i];
        if (!sharded(t->o.mesh, ranks, &t->param[i].type)) continue;
        t->held[i].name = lm_arena_printf(t->a, "%s%s", t->param[i].name, SHARD);
        t->held[i].type = part_type(&t->param[i].type, ranks);
        t->held[i].rows = t->param[i].type.dim[0];
        if (!t->held[i].name) return LM_E_NOMEM;
        if (!t->o.dry) LM_TRY(take_part(t, i));
    }
    return LM_OK;
}
typedef struct { lm_ctx *ctx; const lm_cfg *cfg; lm_store *store; uint64_t seed; lm_comm *comm; } init_arg;
/* Numbers [from, from + n) of a parameter as lm_model_init draws them; the tests hold the two together bit for bit. */
static void draw(const lm_cfg *c, uint64_t seed, const char *name, lm_role role, int64_t from, int64_t n, float *dst) {
    const lm_rng r = lm_rng_of(seed, name);
    const float fill = role == LM_ROLE_NORM ? 1.0f : 0.0f;
    const double std = c->init_std * (role == LM_ROLE_ROW && c->n_layer ? 1.0 / sqrt(2.0 * (double)c->n_layer) : 1.0);
    const bool random = role == LM_ROLE_COL || role == LM_ROLE_ROW || role == LM_ROLE_EMBED;
    for (int64_t i = 0; i < n; i++) dst[i] = random ? (float)(std * (double)lm_rng_normal(r, (uint64_t)(from + i))) : fill;
}
static lm_err init_part(void *ud, const char *name, const lm_type *t, lm_role role) {
    const init_arg *a = ud;
    char held[300];
    const bool cut = sharded(LM_MESH_FSDP, a->comm->size, t);
    if (snprintf(held, sizeof held, "%s%s", name, cut ? SHARD : "") >= (int)sizeof held)
        return lm_fail(a->ctx, LM_E_RANGE, "%.40s…: the name is too long", name);
    lm_type own = cut ? part_type(t, a->comm->size) : *t;
    lm_tensor w;
    LM_TRY(lm_store_add(a->store, held, &own, LM_PLAIN, LM_MEM_WEIGHTS, &w));
    int64_t from = 0, n = cut ? own_rows(t->dim[0], own.dim[0], a->comm->rank, &from) : t->dim[0], cols = row_numbers(t);
    draw(a->cfg, a->seed, name, role, from * cols, n * cols, w.data);
    return LM_OK;
}
lm_err lm_trainer_init(lm_ctx *ctx, const lm_cfg *cfg, lm_store *store, uint64_t seed, lm_mesh_kind mesh, lm_comm *comm) {
    if (mesh != LM_MESH_FSDP || !comm || comm->size == 1) return lm_model_init(ctx, cfg, store, seed);
    init_arg a = { ctx, cfg, store, seed, comm };
    return lm_model_params(ctx, cfg, init_part, &a);
}

/* ---- passes over the accumulate and eval graphs ---- */
/* The reduce_scatter of v, behind v's producer. A sum that autodiff made of two uses far apart (a tied embedding) goes as two: the first
 * need not wait for the second. */
static lm_err scatter(lm_trainer *t, lm_graph *g, lm_value *state, lm_value *v, bool root) {
    lm_node *n = v->node;
    if (root && n && n->backward && !n->acc && !strcmp(n->op->name, "add") && n->in[0]->type.dim[0] == v->type.dim[0] &&
        n->in[1]->type.rank == v->type.rank) {
        int uses = 0;
        for (int i = 0; i < lm_graph_n_nodes(g); i++) for (int k = 0; k < lm_graph_node(g, i)->n_in; k++) uses += lm_graph_node(g, i)->in[k] == v;
        if (!uses) { LM_TRY(scatter(t, g, state, n->in[0], true)); return scatter(t, g, state, n->in[1], true); }
    }
    lm_graph_set_phase(g, true);
    lm_value *s = lm_reduce_scatter(g, v, lm_trainer_ranks(t));
    lm_graph_set_phase(g, false);
    if (!s) return lm_graph_err(g);
    if (n) { s->node->order = n->order + 1e-4; s->node->block = n->block; }
    return lm_accumulate(g, state, s);
}
lm_err lm_mesh_accumulate(lm_trainer *t, lm_graph *g, int i, lm_value *grad) {
    char name[300];
    snprintf(name, sizeof name, "grad.%s", t->held[i].name);
    lm_value *state = lm_state(g, name, &t->held[i].type);
    if (!state) return lm_graph_err(g);
    return t->held[i].rows ? scatter(t, g, state, grad, true) : lm_accumulate(g, state, grad);
}
lm_err lm_mesh_gather(lm_trainer *t, lm_graph *g) {
    if (t->held == t->param) return LM_OK;
    lm_node **list; int n, tick = 0;
    LM_TRY(lm_graph_schedule(g, &list, &n));
    const size_t np = (size_t)t->n_param + 1;
    lm_value **now = lm_arena_alloc(lm_graph_arena(g), np * sizeof *now), **full = lm_arena_alloc(lm_graph_arena(g), np * sizeof *full);
    int *last = lm_arena_alloc(lm_graph_arena(g), np * sizeof *last);
    if (!now || !full || !last) return LM_E_NOMEM;
    for (int i = 0; i < t->n_param; i++) full[i] = t->held[i].rows ? lm_state(g, t->param[i].name, &t->param[i].type) : NULL;
    LM_TRY(lm_graph_err(g));
    for (int k = 0; k < n; k++)
        for (int q = 0; q < list[k]->n_in; q++) {
            int i = 0;
            if (!list[k]->in[q] || list[k]->in[q]->kind != LM_V_STATE) continue;
            while (i < t->n_param && full[i] != list[k]->in[q]) i++;
            if (i == t->n_param) continue;
            if (!now[i] || ++tick - last[i] > NEAR) {
                if (!(now[i] = lm_all_gather(g, lm_state(g, t->held[i].name, &t->held[i].type), t->held[i].rows, lm_trainer_ranks(t))))
                    return lm_graph_err(g);
                now[i]->node->order = list[k]->order - 1e-5; now[i]->node->block = list[k]->block; now[i]->node->backward = list[k]->backward;
            }
            list[k]->in[q] = now[i]; last[i] = tick;
        }
    return lm_graph_err(g);
}

/* ---- whole tensors, one at a time ---- */
void lm_mesh_logical(const lm_trainer *t, const char *name, const lm_tensor *s, lm_logical *out) {
    *out = (lm_logical){ .rows = s->rank ? s->dim[0] : 1, .part = is_part(name) };
    snprintf(out->name, sizeof out->name, "%.*s", (int)(strlen(name) - (out->part ? sizeof SHARD - 1 : 0)), name);
    size_t best = 0, n = strlen(out->name);
    for (int i = 0; out->part && i < t->n_param; i++) {                     /* "adamw.m.NAME" belongs to NAME */
        size_t k = strlen(t->param[i].name);
        if (k > best && k <= n && !strcmp(out->name + n - k, t->param[i].name) && (k == n || out->name[n - k - 1] == '.')) {
            best = k;
            out->rows = t->param[i].type.dim[0];
        }
    }
    int64_t from = 0;
    out->own = out->part ? own_rows(out->rows, s->dim[0], t->o.comm->rank, &from) : out->rows;
    out->from = from;
}
lm_err lm_whole_open(lm_whole *w, const lm_trainer *t) {
    *w = (lm_whole){ .t = t };
    if (t->held == t->param) return LM_OK;
    size_t most = 0;
    for (int i = 0; i < lm_store_count(t->store); i++) {
        lm_tensor s;
        if (!is_part(lm_store_name(t->store, i, &s))) continue;
        size_t b = (size_t)lm_numel(&s) * sizeof(float) * (size_t)lm_trainer_ranks(t);
        if (b > most) most = b;
    }
    w->buf = lm_alloc(t->ctx, LM_MEM_IO, most + 1);
    lm_err e = lm_comm_agree(t->o.comm, t->ctx, w->buf ? LM_OK : LM_E_NOMEM, "allocating room for a whole tensor");
    if (e) lm_whole_close(w);
    return e;
}
lm_err lm_whole_get(lm_whole *w, const char *name, const lm_tensor *s, lm_tensor *out) {
    lm_logical l;
    lm_mesh_logical(w->t, name, s, &l);
    *out = *s;
    if (!l.part) return LM_OK;
    LM_TRY(w->t->o.comm->all_gather(w->t->o.comm, s->data, (size_t)lm_numel(s) * sizeof(float), w->buf));
    out->data = w->buf; out->dim[0] = l.rows;
    return LM_OK;
}
void lm_whole_close(lm_whole *w) { lm_free(w->t->ctx, w->buf); w->buf = NULL; }

lm_err lm_trainer_whole(lm_trainer *t, lm_store *out) {
    lm_whole w;
    LM_TRY(lm_trainer_pull(t));
    LM_TRY(lm_whole_open(&w, t));
    lm_err err = LM_OK;
    for (int i = 0; i < t->n_param; i++) {
        lm_tensor h, x, d;
        lm_err e = lm_store_get(t->store, t->held[i].name, &h) ? LM_OK : lm_fail(t->ctx, LM_E_NOTFOUND, "%s is not in memory", t->held[i].name);
        if (!e) e = lm_whole_get(&w, t->held[i].name, &h, &x);
        if (!e && out && !err) {
            e = lm_store_add(out, t->param[i].name, &t->param[i].type, LM_PLAIN, LM_MEM_WEIGHTS, &d);
            if (!e) memcpy(d.data, x.data, (size_t)lm_numel(&x) * sizeof(float));
        }
        if (e && !err) err = e;
    }
    lm_whole_close(&w);
    return lm_trainer_ranks(t) > 1 ? lm_comm_agree(t->o.comm, t->ctx, err, "gathering the weights") : err;
}
/* Parameters are gathered one after another while rank 0 writes them, so no rank holds more than one of them whole. */
typedef struct { lm_trainer *t; lm_whole w; int next; } stream;
static lm_err gather_next(stream *s, lm_tensor *out) {
    lm_tensor held;
    const char *name = s->t->held[s->next++].name;
    if (!lm_store_get(s->t->store, name, &held)) return lm_fail(s->t->ctx, LM_E_NOTFOUND, "%s is not in memory", name);
    return lm_whole_get(&s->w, name, &held, out);
}
static lm_err fetch(void *ud, const char *name, lm_tensor *out) {
    stream *s = ud;
    if (s->next >= s->t->n_param || strcmp(name, s->t->param[s->next].name))
        return lm_fail(s->t->ctx, LM_E_INTERNAL, "%s is written out of order", name);
    return gather_next(s, out);
}
static lm_err save_parts(lm_trainer *t, const char *dir) {
    stream s = { .t = t };
    lm_tensor x;
    LM_TRY(lm_whole_open(&s.w, t));
    const lm_param_source from = { fetch, &s };
    lm_err err = t->o.comm->rank == 0 ? lm_model_save_hf_from(t->ctx, &t->cfg, &from, dir, LM_F32, 0) : LM_OK;
    while (s.next < t->n_param) {                                        /* the other ranks; and rank 0 where it could not write on */
        const lm_err e = gather_next(&s, &x);
        if (e && !err) err = e;
    }
    lm_whole_close(&s.w);
    return err;
}
lm_err lm_trainer_save_hf(lm_trainer *t, const char *dir) {
    lm_err err = lm_trainer_pull(t);
    if (err) return err;
    if (t->held != t->param) err = save_parts(t, dir);
    else if (t->o.comm->rank == 0) err = lm_model_save_hf(t->ctx, &t->cfg, t->store, dir, LM_F32, 0);
    return lm_trainer_ranks(t) > 1 ? lm_comm_agree(t->o.comm, t->ctx, err, "writing the weights") : err;
}
