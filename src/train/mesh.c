/* mesh.c — several ranks as passes over the same two graphs (Li et al. 2020, data parallel; Rajbhandari et al. 2020 and Zhao et al. 2023, sharded).
 *
 * What a rank holds whole (w) and in parts (p), of a matrix of R rows; vectors are whole everywhere, with summed gradients:
 *            weights  gradients  moments   ranks meet
 *   dp          w         w         w      in a sum of each gradient
 *   zero1       w         w         p      in a sum of which each keeps its rows; in a gathering of weights after the update
 *   zero2       w         p         p      the same, but gradients are summed and cut as they are made
 *   fsdp        p         p         p      the same; weights are gathered where they are used
 * A part is s = ceil(R/P) rows: rank k has rows [k·s, k·s + s), zeros below row R. It is the state "NAME#shard" ("grad.NAME#shard"), which under
 * zero is rows of the whole state's own memory (lm_store_part), so the update is the single-rank update on smaller tensors; only the squared
 * norm is summed over ranks.
 *   sums of whole gradients   once a step, in its last micro-batch (lm_plan_hold): each placed behind the last node that adds to it, some tens
 *                      of megabytes at a time in neighbours, which a device sends as one while the backward goes on.
 *   accumulate, eval   under fsdp a use of a matrix reads an all_gather placed before it (on a device some uses earlier, so that it is there
 *                      in time); uses that lie close share one, later ones gather again, so that a matrix is whole only while its layer runs, forward and
 *                      backward, recomputed or not; or, where there is room (`gather_once`), all uses share one, and what is whole in the forward stays until
 *                      the backward has read it. The pass goes over the final order, after recomputation: it sees plain uses.
 *   gradients          in parts go through a reduce_scatter placed right behind their producer, which adds into the part.
 * Nothing here knows a model, and no op knows the mesh. All ranks build the same graph, so all meet in the same calls in the same order. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "dist/dist.h"
#include "op/all_gather/all_gather.h"
#include "op/all_gather_in/all_gather_in.h"
#include "op/all_reduce/all_reduce.h"
#include "op/all_reduce_in/all_reduce_in.h"
#include "op/reduce_scatter/reduce_scatter.h"
#include "op/reduce_scatter_in/reduce_scatter_in.h"
#include "op/shard/shard.h"
#include "train/train_int.h"

static const char SHARD[] = "#shard";
/* uses of sharded matrices between two uses of one for which it is kept: about a layer forward and back */
enum { NEAR = 16 };
/* bytes of gradients that are summed as one, of matrices that a device gathers ahead of their use, and of those it gathers together */
enum { BUCKET = 25 << 20, AHEAD = 64 << 20, TOGETHER = 32 << 20 };

static bool is_part(const char *name) {
    size_t n = strlen(name), k = sizeof SHARD - 1;
    return n > k && !strcmp(name + n - k, SHARD);
}
static bool sharded(lm_mesh_kind mesh, int ranks, const lm_type *t) { return mesh >= LM_MESH_ZERO1 && ranks > 1 && t->rank == 2; }
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
static lm_value *sum_norm(void *ud, lm_graph *g, lm_value *norm2) { (void)ud; return lm_all_reduce(g, norm2); }
static lm_value *whole(void *ud, lm_graph *g, lm_value *v, int64_t rows) { return lm_all_gather(g, v, rows, lm_trainer_ranks(ud)); }
static lm_value *part(void *ud, lm_graph *g, lm_value *v) { return lm_shard(g, v, lm_trainer_ranks(ud)); }
static lm_err spread(void *ud, lm_graph *g, int i, lm_value *now) {
    const lm_trainer *t = ud;
    if (t->held[i].rows) lm_all_gather_in(g, lm_state(g, t->param[i].name, &t->param[i].type), now, lm_trainer_ranks(t));
    return lm_graph_err(g);
}

/* ---- setting up ---- */
lm_err lm_mesh_of(lm_ctx *ctx, const char *text, int ranks, lm_mesh_kind *out) {
    static const struct {
        const char *name;
        lm_mesh_kind kind;
    } known[] = { { "dp", LM_MESH_DP }, { "zero1", LM_MESH_ZERO1 }, { "zero2", LM_MESH_ZERO2 }, { "fsdp", LM_MESH_FSDP } };
    *out = LM_MESH_SINGLE;
    if (!text || !*text) {
        if (ranks > 1) return lm_fail(ctx, LM_E_CONFIG, "%d ranks run, but mesh is not set: mesh=dp=%d or mesh=fsdp=%d", ranks, ranks, ranks);
        return LM_OK;
    }
    const char *eq = strchr(text, '=');
    for (int i = 0; eq && i < LM_COUNT(known); i++)
        if (strlen(known[i].name) == (size_t)(eq - text) && !strncmp(text, known[i].name, (size_t)(eq - text))) *out = known[i].kind;
    if (*out == LM_MESH_SINGLE) return lm_fail(ctx, LM_E_CONFIG, "mesh is \"%s\"; dp=N, zero1=N, zero2=N and fsdp=N are known", text);
    char *end;
    const long n = strtol(eq + 1, &end, 10);
    if (*end || end == eq + 1 || n < 1) return lm_fail(ctx, LM_E_CONFIG, "mesh is \"%s\": wanted a number of ranks behind %.*s=", text, (int)(eq - text), text);
    if (n != ranks && ranks == 1)
        return lm_fail(ctx, LM_E_CONFIG, "mesh is %s, but this process is alone: start %ld of them (mpirun -n %ld loam train …, srun --mpi=pmix, torchrun), or leave mesh out", text, n, n);
    if (n != ranks) return lm_fail(ctx, LM_E_CONFIG, "mesh is %s, but %d ranks run", text, ranks);
    if (n == 1) *out = LM_MESH_SINGLE;
    return LM_OK;
}
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
/* Under zero: the part is rows of the whole, and so is, where gradients are whole, the gradient's. */
static lm_err name_part(lm_trainer *t, int i) {
    const lm_optim_param *w = &t->param[i], *h = &t->held[i];
    const int64_t s = h->type.dim[0], at = s * t->o.comm->rank, rows = s * t->o.comm->size;
    lm_tensor src;
    char whole_grad[300], part_grad[300];
    if (!lm_store_get(t->store, w->name, &src)) return lm_fail(t->ctx, LM_E_NOTFOUND, "%s is not in memory", w->name);
    if (src.dtype != LM_F32 || src.layout != LM_PLAIN)
        return lm_fail(t->ctx, LM_E_SHAPE, "%s is in memory with another type than training wants", w->name);
    LM_TRY(lm_store_part(t->store, h->name, w->name, at, rows, &h->type));
    if (t->o.mesh != LM_MESH_ZERO1) return LM_OK;
    snprintf(whole_grad, sizeof whole_grad, "grad.%s", w->name); snprintf(part_grad, sizeof part_grad, "grad.%s", h->name);
    if (t->o.dev) LM_TRY(lm_store_declare(t->store, whole_grad, &w->type, LM_PLAIN));
    else LM_TRY(lm_store_add(t->store, whole_grad, &w->type, LM_PLAIN, LM_MEM_GRADS, NULL));
    return lm_store_part(t->store, part_grad, whole_grad, at, rows, &h->type);
}
lm_err lm_mesh_setup(lm_trainer *t) {
    t->held = t->kept = t->param;
    const int ranks = lm_trainer_ranks(t);
    if (ranks == 1) return LM_OK;
    lm_optim_hooks *h = lm_arena_alloc(t->a, sizeof *h);
    if (!h) return LM_E_NOMEM;
    *h = (lm_optim_hooks){ .norm = sum_norm, .whole = whole, .part = part, .ud = t };
    t->hooks = h;
    if (t->o.mesh == LM_MESH_DP) return LM_OK;
    if (t->o.mesh != LM_MESH_FSDP) h->done = spread;
    if (!(t->held = lm_arena_alloc(t->a, (size_t)(t->n_param + 1) * sizeof *t->held))) return LM_E_NOMEM;
    if (t->o.mesh == LM_MESH_FSDP) t->kept = t->held;
    for (int i = 0; i < t->n_param; i++) {
        t->held[i] = t->param[i];
        if (!sharded(t->o.mesh, ranks, &t->param[i].type)) continue;
        t->held[i].name = lm_arena_printf(t->a, "%s%s", t->param[i].name, SHARD);
        t->held[i].type = part_type(&t->param[i].type, ranks);
        t->held[i].rows = t->param[i].type.dim[0];
        if (!t->held[i].name) return LM_E_NOMEM;
        if (!t->o.dry) LM_TRY(t->o.mesh == LM_MESH_FSDP ? take_part(t, i) : name_part(t, i));
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
        n->in[1]->type.rank == v->type.rank && !lm_graph_readers(g, v)) {
        LM_TRY(scatter(t, g, state, n->in[0], true));
        return scatter(t, g, state, n->in[1], true);
    }
    lm_graph_set_phase(g, true);
    lm_value *s = lm_reduce_scatter(g, v, lm_trainer_ranks(t));
    lm_graph_set_phase(g, false);
    if (!s) return lm_graph_err(g);
    if (n) { s->node->order = n->order + 1e-4; s->node->block = n->block; }
    return lm_accumulate(g, state, s);
}
/* Is the gradient of i whole on every rank, to be summed at the end of a step? */
static bool whole_grad(const lm_trainer *t, int i) { return !t->held[i].rows || t->o.mesh == LM_MESH_ZERO1; }
static lm_value *grad_state(lm_trainer *t, lm_graph *g, int i) {
    const lm_optim_param *p = whole_grad(t, i) ? &t->param[i] : &t->held[i];
    const bool with = t->copy && t->copy[i].n > 1;                          /* others' lie behind it */
    lm_type type = p->type;
    char name[300];
    if (with) type.dim[0] = t->copy[i].rows;
    type.dtype = p->grad;
    snprintf(name, sizeof name, "grad.%s", with ? t->copy[i].whole : p->name);
    return lm_state(g, name, &type);
}
/* A product's gradient that only goes to the other ranks is rounded to bf16, as its operands are and as autocast has it, where they add it in f32: half as much is written and moved. */
static void half_grad(const lm_trainer *t, lm_graph *g, lm_value *grad) {
    const lm_node *n = grad->node;
    lm_call c;
    if (t->o.mm != LM_BF16 || !t->o.dev_comm || !t->o.dev_comm->reduce_scatter_half || !n || !n->op->mm_at || n->n_out != 1 || lm_graph_readers(g, grad)) return;
    lm_call_of(n, &c);
    c.out[0].dtype = LM_BF16;
    if (lm_kernel_choose(n->op, &c, LM_DEV_CUDA, t->o.dev->features)) grad->type.dtype = LM_BF16;
}
lm_err lm_mesh_accumulate(lm_trainer *t, lm_graph *g, int i, lm_value *grad) {
    lm_value *state = grad_state(t, g, i);
    if (!state) return lm_graph_err(g);
    if (!whole_grad(t, i)) half_grad(t, g, grad);
    if (t->param[i].squares) return lm_copies_squares(t, g, i, state, grad);
    return whole_grad(t, i) ? lm_accumulate(g, state, grad) : scatter(t, g, state, grad, true);
}
typedef struct { lm_value *state; int i, at; double order; size_t bytes; } ready;
static int by_place(const void *a, const void *b) {
    const ready *x = a, *y = b;
    return x->at != y->at ? x->at - y->at : x->i - y->i;
}
lm_err lm_mesh_reduce(lm_trainer *t, lm_graph *g) {
    const int ranks = lm_trainer_ranks(t);
    if (ranks == 1) return LM_OK;
    lm_node **list; int n, m = 0;
    LM_TRY(lm_graph_schedule(g, &list, &n));
    ready *r = lm_arena_alloc(lm_graph_arena(g), (size_t)(t->n_param + 1) * sizeof *r);
    if (!r) return LM_E_NOMEM;
    for (int i = 0; i < t->n_param; i++) {
        if (!whole_grad(t, i) || !lm_copies_lead(t, i)) continue;
        r[m] = (ready){ .state = grad_state(t, g, i), .i = i, .at = -1, .bytes = sizeof(float) };
        if (!r[m].state) return lm_graph_err(g);
        for (int k = 0; k < r[m].state->type.rank; k++) r[m].bytes *= (size_t)r[m].state->type.dim[k];
        m++;
    }
    for (int k = 0; k < n; k++) for (int q = 0; q < list[k]->n_out; q++) for (int j = 0; list[k]->acc >> q & 1 && j < m; j++)
        if (list[k]->acc_state[q] == r[j].state) { r[j].at = k; r[j].order = list[k]->order; }
    qsort(r, (size_t)m, sizeof *r, by_place);
    lm_graph_set_phase(g, true);
    for (int first = 0, end; first < m; first = end) {
        size_t bytes = 0;
        double order = 0;
        for (end = first; end < m && (end == first || bytes + r[end].bytes <= BUCKET); end++) {
            bytes += r[end].bytes;
            if (r[end].order > order) order = r[end].order;
        }
        for (int j = first; j < end; j++) {
            lm_value *v = t->held[r[j].i].rows ? lm_reduce_scatter_in(g, r[j].state, ranks) : lm_all_reduce_in(g, r[j].state);
            if (!v) break;
            v->node->order = order + 1e-4; v->node->block = -1;
        }
    }
    lm_graph_set_phase(g, false);
    return lm_graph_err(g);
}
/* One use, or several close ones, of a parameter held in parts: where it is first read, and how much is gathered for it. */
typedef struct { double order; size_t bytes; } fetch_at;
static lm_value *gather(lm_trainer *t, lm_graph *g, int i, const lm_value *full) {
    lm_value *mine = lm_state(g, t->held[i].name, &t->held[i].type);
    if (!mine) return NULL;
    mine->role = full->role;
    if (t->held[i].copy) {                                 /* products round the matrix to bf16 anyway: half as much is moved, and the bits are the same */
        lm_type half = t->held[i].type;
        half.dtype = LM_BF16;
        if (!(mine = lm_state(g, t->held[i].copy, &half))) return NULL;
        mine->role = full->role;
    }
    lm_value *v = lm_all_gather(g, mine, t->held[i].rows, lm_trainer_ranks(t));
    if (v) v->role = full->role;
    return v;
}
lm_err lm_mesh_gather(lm_trainer *t, lm_graph *g) {
    if (t->kept == t->param) return LM_OK;
    lm_node **list; int n, tick = 0, n_fetch = 0;
    size_t together = 0;
    double with = 0;
    LM_TRY(lm_graph_schedule(g, &list, &n));
    const size_t np = (size_t)t->n_param + 1;
    lm_value **now = lm_arena_alloc(lm_graph_arena(g), np * sizeof *now), **full = lm_arena_alloc(lm_graph_arena(g), np * sizeof *full);
    int *last = lm_arena_alloc(lm_graph_arena(g), np * sizeof *last);
    fetch_at *at = lm_arena_alloc(lm_graph_arena(g), ((size_t)n * 4 + 1) * sizeof *at);
    if (!now || !full || !last || !at) return LM_E_NOMEM;
    for (int i = 0; i < t->n_param; i++) full[i] = t->held[i].rows ? lm_state(g, t->param[i].name, &t->param[i].type) : NULL;
    LM_TRY(lm_graph_err(g));
    for (int k = 0; k < n; k++)
        for (int q = 0; q < list[k]->n_in; q++) {
            int i = 0;
            if (!list[k]->in[q] || list[k]->in[q]->kind != LM_V_STATE) continue;
            while (i < t->n_param && full[i] != list[k]->in[q]) i++;
            if (i == t->n_param) continue;
            tick++;
            if (!now[i] || (!t->gather_once && tick - last[i] > NEAR)) {
                if (!(now[i] = gather(t, g, i, full[i]))) return lm_graph_err(g);
                lm_node *x = now[i]->node;
                size_t bytes = lm_dtype_size(now[i]->type.dtype);
                for (int d = 0; d < now[i]->type.rank; d++) bytes *= (size_t)now[i]->type.dim[d];
                double order = list[k]->order;
                if (t->o.dev && n_fetch < 4 * n) {                       /* beside the work of the uses before */
                    size_t ahead = bytes;
                    for (int f = n_fetch - 1; f >= 0 && (f == n_fetch - 1 || ahead + at[f].bytes <= AHEAD); f--) {
                        ahead += at[f].bytes;
                        order = at[f].order;
                    }
                    at[n_fetch++] = (fetch_at){ list[k]->order, bytes };
                    /* neighbours meet once: what is small costs as much waiting for each other as moving */
                    if (together && together + bytes <= TOGETHER) order = with;
                    else { together = 0; with = order; }
                    together += bytes;
                }
                x->order = order - 1e-5; x->block = list[k]->block; x->backward = list[k]->backward;
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
void lm_mesh_share(const lm_trainer *t, const lm_logical *l, const lm_tensor *s, int k, int64_t *from, int64_t *n) {
    const int ranks = lm_trainer_ranks(t);
    *from = l->from; *n = l->own;
    if (l->part || ranks == 1) return;
    if (s->rank > 1) *n = own_rows(l->rows, lm_ceil_div(l->rows, ranks), t->o.comm->rank, from);
    else if (k % ranks != t->o.comm->rank) *n = 0;
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
        lm_err e = lm_store_get(t->store, t->kept[i].name, &h) ? LM_OK : lm_fail(t->ctx, LM_E_NOTFOUND, "%s is not in memory", t->kept[i].name);
        if (!e) e = lm_whole_get(&w, t->kept[i].name, &h, &x);
        if (!e && out && !err) {
            e = lm_store_add(out, t->param[i].name, &t->param[i].type, LM_PLAIN, LM_MEM_WEIGHTS, &d);
            if (!e) memcpy(d.data, x.data, (size_t)lm_numel(&x) * lm_dtype_size((lm_dtype)x.dtype));
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
    const char *name = s->t->kept[s->next++].name;
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
    if (t->kept != t->param) err = save_parts(t, dir);
    else if (t->o.comm->rank == 0) err = lm_model_save_hf(t->ctx, &t->cfg, t->store, dir, LM_F32, 0);
    return lm_trainer_ranks(t) > 1 ? lm_comm_agree(t->o.comm, t->ctx, err, "writing the weights") : err;
}
