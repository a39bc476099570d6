/* plan.c — kernels, memory, waits.
 *
 * Memory: every buffer has a lifetime [first step, last step] in schedule order; place.c gives it an offset. Inputs, constants and outputs
 * live throughout. Waits: steps may overlap in time, so after placement each step gets the latest earlier step that touches any byte it
 * touches (one of them writing; waits.c); the executor waits for that whole prefix. Reuse of memory is thus safe by construction: it shows
 * up as a conflict like any other. */
#include <stdlib.h>
#include <string.h>
#include "graph/graph_int.h"
#include "graph/plan_int.h"

typedef struct {                      /* where a value's bytes are */
    enum { AT_NONE, AT_BUF, AT_STATE } at; int buf; uintptr_t base; lm_tensor t; int root;   /* root: value id that owns the storage */
} place;
typedef struct {
    lm_plan *p;
    lm_graph *g;
    const lm_plan_opts *o;
    lm_node **list;
    int n;
    place *pl;
    bool *used, *laid;                /* laid: by node, its inputs are made where its output is: no step */
    lm_buf *b;
    int n_buf, cap_buf;
    uint64_t feat;
    uintptr_t fake;
    int n_away;                       /* states that stay in a file */
} planner;

static const uintptr_t ARENA_FAKE = (uintptr_t)1 << 44, STATE_FAKE = (uintptr_t)1 << 45;

static size_t type_bytes(const lm_type *t) {
    size_t n = 0;
    lm_storage_bytes(t->dtype, t->quant, LM_PLAIN, t->rank, t->dim, &n);
    return n;
}
static int buf_new(planner *s, size_t bytes, int first, int last, bool fixed) {
    if (!lm_graph_grow(s->g, &s->b, s->n_buf, &s->cap_buf, sizeof *s->b)) return -1;
    s->b[s->n_buf] = (lm_buf){ .bytes = (bytes + 63) & ~(size_t)63, .first = first, .last = last, .fixed = fixed };
    return s->n_buf++;
}
static lm_err mem_new(lm_plan *p, lm_mem_tag tag, size_t bytes, char **out) {
    void *d = NULL;
    if (p->dev) LM_TRY(p->dev->alloc(p->dev, bytes, &d));
    else if (!(d = lm_alloc(p->ctx, tag, bytes))) return LM_E_NOMEM;
    *out = d;
    return LM_OK;
}
static void mem_free(lm_plan *p, void *m) { if (p->dev) p->dev->free(p->dev, m); else lm_free(p->ctx, m); }
static lm_tensor desc(const lm_value *v) {
    lm_tensor t = lm_tensor_of(NULL, v->type.dtype, v->type.rank, v->type.dim);
    t.layout = (int8_t)v->layout; t.quant = v->type.quant;
    return t;
}
static void describe_view(planner *s, const lm_node *n) {
    lm_call c;
    lm_call_of(n, &c);
    c.in[0] = s->pl[n->in[0]->id].t;
    c.in[0].data = (char *)4096 + (uintptr_t)c.in[0].data;
    for (int k = 0; k < n->n_out; k++) {
        place *p = &s->pl[n->out[k]->id];
        if (!n->out[k]->type.rank) continue;
        p->t = c.out[k]; n->op->view(&c, k, &p->t);
        p->t.data = (void *)((uintptr_t)p->t.data - 4096);
        p->root = s->pl[n->in[0]->id].root;
    }
}
/* Tensor descriptors for all values, views with their strides; data is an offset from the root's start. */
static void describe(planner *s) {
    for (int i = 0; i < s->g->n_value; i++) { s->pl[i].t = desc(s->g->value[i]); s->pl[i].root = i; }
    for (int i = 0; i < s->n; i++) {
        lm_node *n = s->list[i];
        if (n->op->view) { describe_view(s, n); continue; }
        for (int k = 0; k < n->n_out; k++) {
            place *p = &s->pl[n->out[k]->id];
            if (n->acc >> k & 1) { p->root = n->acc_state[k]->id; p->t = desc(n->acc_state[k]); }
            else if (n->op->alias[k] && n->in[n->op->alias[k] - 1]) p->root = s->pl[n->in[n->op->alias[k] - 1]->id].root;
        }
    }
}
static void call_at(planner *s, const lm_node *n, lm_call *c) {
    lm_call_of(n, c);
    c->ctx = s->p->ctx; c->comm = s->p->comm; c->dev = s->p->dev;
    for (int k = 0; k < n->n_in; k++) if (n->in[k]) { c->in[k] = s->pl[n->in[k]->id].t; c->in[k].data = NULL; }
    for (int k = 0; k < n->n_out; k++) { c->out[k] = s->pl[n->out[k]->id].t; c->out[k].data = NULL; }
}
static const lm_kernel *choose(planner *s, const lm_node *n) {
    lm_call c; call_at(s, n, &c);
    if (!s->p->dev) return lm_kernel_choose(n->op, &c, LM_DEV_CPU, s->feat);
    const lm_kernel *k = lm_kernel_choose(n->op, &c, LM_DEV_CUDA, s->feat);
    return k || !s->p->dev->run ? k : lm_kernel_choose(n->op, &c, LM_DEV_CPU, lm_cpu_features_of(s->p->ctx));
}
/* A row without a kernel for strided inputs gets copies of its views. */
static lm_err materialise(planner *s) {
    bool again = false;
    const lm_op *copy = lm_op_by_name("copy");
    for (int i = 0; i < s->n; i++) {
        lm_node *n = s->list[i];
        if (n->op->view || choose(s, n)) continue;
        for (int k = 0; copy && k < n->n_in; k++) {
            if (!n->in[k] || !n->in[k]->node || !n->in[k]->node->op->view) continue;
            lm_value *c = lm_emit(s->g, copy, NULL, 1, &n->in[k]);
            if (!c) return s->g->err;
            c->node->order = n->order - 1e-6; c->node->backward = n->backward; n->in[k] = c; again = true;
        }
    }
    if (!again) return LM_OK;
    LM_TRY(lm_graph_schedule(s->g, &s->list, &s->n));
    if (!(s->pl = lm_arena_alloc(s->g->a, (size_t)(s->g->n_value + 1) * sizeof *s->pl))) return LM_E_NOMEM;
    describe(s);
    return LM_OK;
}
/* Rows that only put their inputs side by side (op->part): on a device the inputs are made there, if nobody else reads them and the rows that make
 * them can write with the strides it takes. */
static lm_err lay(planner *s) {
    int *uses;
    if (!(s->laid = lm_arena_alloc(s->g->a, (size_t)s->g->n_node + 1))) return LM_E_NOMEM;
    if (!s->p->dev) return LM_OK;
    LM_TRY(lm_graph_uses(s->g, &uses));
    for (int i = 0; i < s->n; i++) {
        lm_node *n = s->list[i];
        if (!n->op->part || n->acc || s->pl[n->out[0]->id].root != n->out[0]->id) continue;
        lm_call c;
        bool ok = true;
        call_at(s, n, &c);
        for (int k = 0; k < n->n_in && ok; k++) {
            const lm_value *v = n->in[k];
            ok = v && v->kind == LM_V_NODE && uses[v->id] == 1 && s->pl[v->id].root == v->id && v->type.dtype == n->out[0]->type.dtype &&
                 !v->node->op->view && !v->node->op->part && !(v->node->acc >> v->out & 1) && !v->node->op->alias[v->out];
        }
        if (!ok) continue;
        for (int k = 0; k < n->n_in; k++) {
            place *p = &s->pl[n->in[k]->id];
            c.out[0].data = (char *)4096;
            n->op->part(&c, k, &p->t);
            p->t.data = (void *)((uintptr_t)p->t.data - 4096);
        }
        for (int k = 0; k < n->n_in && ok; k++) ok = choose(s, n->in[k]->node) != NULL;
        for (int k = 0; k < n->n_in; k++) {
            place *p = &s->pl[n->in[k]->id];
            if (ok) p->root = n->out[0]->id; else p->t = desc(n->in[k]);
        }
        s->laid[n->id] = ok;
    }
    return LM_OK;
}
/* A row that may be made in place, of a piece of a matrix that it alone reads: on a device it is made over the piece, so that the matrix need not be
 * kept beside it for the sake of the other pieces. */
static bool over_piece(const planner *s, const lm_node *n, const int *uses) {
    const lm_value *a = n->n_in ? n->in[0] : NULL, *o = n->out[0];
    if (!n->op->inplace_ok || n->op->alias[0] || n->acc || !a || !a->node || !a->node->op->view || uses[a->id] != 1 || s->pl[o->id].root != o->id)
        return false;
    const lm_value *b = a->node->in[0];
    if (b->kind != LM_V_NODE || b->state || s->pl[b->id].root != b->id || a->type.dtype != o->type.dtype || a->type.rank != 2 || o->type.rank != 2)
        return false;
    for (int d = 0; d < 2; d++) if (a->type.dim[d] != o->type.dim[d]) return false;
    for (int i = 0; i < s->g->n_output; i++) if (s->g->output[i].v == o || s->g->output[i].v == b) return false;
    for (int k = 1; k < n->n_in; k++) if (n->in[k] && s->pl[n->in[k]->id].root == b->id) return false;
    const lm_tensor *t = &s->pl[a->id].t;
    const uintptr_t size = lm_dtype_size((lm_dtype)t->dtype), at = (uintptr_t)t->data, end = at + (uintptr_t)t->dim[1] * size,
                    row = (uintptr_t)t->stride[0] * size;
    for (int i = 0; i < s->n; i++) for (int j = 0; j < s->list[i]->n_in; j++) for (int k = 0; s->list[i]->in[j] == b && k < s->list[i]->n_out; k++) {
        const lm_value *w = s->list[i]->out[k];                            /* what else is read of it must be other columns */
        const lm_tensor *q = &s->pl[w->id].t;
        if (!s->list[i]->op->view) return false;
        if (w == a || !w->type.rank || !uses[w->id]) continue;
        if (q->rank != 2 || q->stride[0] != t->stride[0] || (uintptr_t)q->data + (uintptr_t)q->dim[1] * size > row || end > row) return false;
        if ((uintptr_t)q->data < end && at < (uintptr_t)q->data + (uintptr_t)q->dim[1] * size) return false;
    }
    return true;
}
static lm_err over(planner *s) {
    int *uses;
    if (!s->p->dev) return LM_OK;
    LM_TRY(lm_graph_uses(s->g, &uses));
    for (int i = 0; i < s->n; i++) {
        lm_node *n = s->list[i];
        if (!over_piece(s, n, uses)) continue;
        const lm_value *a = n->in[0];
        place *p = &s->pl[n->out[0]->id];
        const int b = s->pl[a->id].root;
        p->t = s->pl[a->id].t; p->root = b;
        bool ok = choose(s, n) != NULL;
        for (int pass = 0; pass < 2; pass++) {
            for (int q = 0; q < s->n; q++) if (s->list[q]->op->view) describe_view(s, s->list[q]);
            for (int q = i + 1; q < s->n && ok && !pass; q++)
                for (int k = 0; k < s->list[q]->n_in; k++)
                    if (s->list[q]->in[k] && s->pl[s->list[q]->in[k]->id].root == b && !s->list[q]->op->view) {
                        ok = choose(s, s->list[q]) != NULL;
                        break;
                    }
            if (ok) break;
            p->t = desc(n->out[0]); p->root = n->out[0]->id;               /* some reader wants it whole */
        }
    }
    return LM_OK;
}
static lm_err make_steps(planner *s) {
    lm_plan *p = s->p;
    if (!(p->step = lm_arena_alloc(p->a, (size_t)(s->n + 1) * sizeof *p->step))) return LM_E_NOMEM;
    for (int i = 0; i < s->n; i++) {
        lm_node *n = s->list[i];
        if (n->op->view || s->laid[n->id]) continue;
        lm_step *st = &p->step[p->n_step];
        call_at(s, n, &st->call);
        if (!(st->k = choose(s, n))) {
            lm_str txt = { .ctx = p->ctx };
            for (int k = 0; k < n->n_in; k++)
                if (n->in[k])
                    lm_str_printf(&txt, "%s%s", k ? ", " : "",
                                  n->in[k]->type.quant ? n->in[k]->type.quant->name : lm_dtype_name(n->in[k]->type.dtype));
            lm_err e = lm_fail(p->ctx, LM_E_UNSUPPORTED, "%s: no kernel %s takes (%s)", n->op->name,
                               p->dev ? "for this device" : "on this machine", txt.p ? txt.p : "");
            lm_str_free(&txt);
            return e;
        }
        if (n->op->params_bytes) {
            void *q = lm_arena_alloc(p->a, n->op->params_bytes);
            if (!q) return LM_E_NOMEM;
            memcpy(q, n->params, n->op->params_bytes); st->call.p = q;
        }
        st->node = n; st->op = n->op->name; st->wait_for = -1;
        st->effect = n->op->meets;
        lm_op_cost(&st->call, &st->flops, &st->bytes);
        p->stats.flops += st->flops; p->stats.bytes += st->bytes;
        if (n->op->mm_at) {
            lm_dtype mm; memcpy(&mm, (const char *)n->params + n->op->mm_at - 1, sizeof mm);
            *(mm == LM_BF16 ? &p->stats.mm_flops_bf16 : &p->stats.mm_flops_f32) += st->flops;
        }
        p->n_step++;
    }
    p->stats.n_steps = p->n_step;
    return LM_OK;
}
/* Neighbours of one row that can take several calls at once. Whether they are independent is known when memory is placed: their buffers, scratch
 * too, are then held for all of them (together), and a group that still conflicts is taken apart (apart). */
static void neighbours(planner *s) {
    lm_plan *p = s->p;
    for (int i = 0, n; p->dev && i < p->n_step; i += n) {
        for (n = 1; p->step[i].k->run_many && n < LM_MANY && i + n < p->n_step && p->step[i + n].k == p->step[i].k;) n++;
        if (n == 1) continue;
        p->step[i].many = n;
        for (int k = 1; k < n; k++) p->step[i + k].many = -1;
    }
}
static void together(planner *s) {
    for (int i = 0; i < s->p->n_step; i++) {
        const int end = i + s->p->step[i].many - 1;
        for (int k = 0; end > i && k < s->n_buf; k++) {
            lm_buf *b = &s->b[k];
            if (b->first > i && b->first <= end) b->first = i;
            if (b->last >= i && b->last < end) b->last = end;
        }
    }
}
static int root_of(planner *s, int v);
static bool share_bytes(const lm_step *a, const lm_step *b) {
    for (int i = 0; i < a->n_range; i++)
        for (int k = 0; k < b->n_range; k++)
            if ((a->range[i].write || b->range[k].write) && a->range[i].lo < b->range[k].hi && b->range[k].lo < a->range[i].hi) return true;
    return false;
}
static void apart(planner *s) {
    lm_plan *p = s->p;
    for (int i = 0; i < p->n_step; i++) {
        const int n = p->step[i].many;
        bool ok = true;
        for (int a = 0; a < n && ok; a++) for (int b = a + 1; b < n && ok; b++) ok = !share_bytes(&p->step[i + a], &p->step[i + b]);
        for (int a = 0; a < n && !ok; a++) p->step[i + a].many = 0;
    }
}
/* ---- a device's second lane (lm_kernel.aside) ----------------------------------------------------------------------------------------------
 * Steps there begin when everything before them on lane 0 is done; a step of lane 0 waits for the latest of them that shares bytes with it, of
 * those that end there and of those that may end on lane 2; for the latter a step of lane 1 waits too. So
 * that memory is not reused at once, which would end the overlap, what such a step reads and its scratch are held until LATER bytes of others
 * have followed: a few hundred microseconds of an interconnect. What is not reached by then is waited for; nothing else depends on the number. */
enum { LATER = 256 << 20 };
static void linger(planner *s, const int *scratch_of) {
    lm_plan *p = s->p;
    size_t total = 0;
    int tail = 0, any = 0;                                               /* tail: the oldest whose buffers are held */
    for (int i = 0; i < p->n_step; i++) any |= p->step[i].k->aside;
    if (!any) return;
    size_t *bytes = lm_arena_alloc(s->g->a, (size_t)(p->n_step + 1) * sizeof *bytes);
    if (!bytes) return;                                                  /* no overlap then: only time */
    for (int i = 0; i < p->n_step; i++) {
        if (p->step[i].k->aside) {
            const lm_node *n = p->step[i].node;
            for (int k = 0; k < n->n_in; k++) {
                const place *r = n->in[k] ? &s->pl[root_of(s, n->in[k]->id)] : NULL;
                if (r && r->at == AT_BUF) bytes[i] += s->b[r->buf].bytes;
            }
            if (scratch_of[i] >= 0) bytes[i] += s->b[scratch_of[i]].bytes;
            total += bytes[i];
        }
        for (; total > LATER && tail < i; tail++) total -= bytes[tail];
        for (int q = tail; q <= i; q++) {
            if (!p->step[q].k->aside || !bytes[q]) continue;
            const lm_node *n = p->step[q].node;
            for (int k = 0; k < n->n_in; k++) {
                const place *r = n->in[k] ? &s->pl[root_of(s, n->in[k]->id)] : NULL;
                if (r && r->at == AT_BUF && s->b[r->buf].last < i) s->b[r->buf].last = i;
            }
            if (scratch_of[q] >= 0 && s->b[scratch_of[q]].last < i) s->b[scratch_of[q]].last = i;
        }
    }
}
static void lanes(lm_plan *p) {
    for (int i = 0; i < p->n_step; i++) {
        lm_step *st = &p->step[i];
        st->join = st->sums = -1; st->nth = p->n_aside;
        for (int k = i - 1; k >= 0 && p->n_aside && (st->sums < 0 || (!st->k->aside && st->join < 0)); k--) {
            int *last = p->step[k].k->aside == 2 ? &st->sums : &st->join;
            if (p->step[k].k->aside && *last < 0 && (last == &st->sums || !st->k->aside) && share_bytes(st, &p->step[k])) *last = k;
        }
        p->n_aside += st->k->aside != 0;
    }
}
/* Which values the plan touches: inputs of its steps, the states these are versions of, what is accumulated into, named results. */
static lm_err uses(planner *s) {
    if (!(s->used = lm_arena_alloc(s->g->a, (size_t)s->g->n_value + 1))) return LM_E_NOMEM;
    for (int k = 0; k < s->n; k++) {
        const lm_node *n = s->list[k];
        for (int q = 0; q < n->n_in; q++) if (n->in[q]) { s->used[n->in[q]->id] = true; if (n->in[q]->state) s->used[n->in[q]->state->id] = true; }
        for (int q = 0; q < n->n_out; q++) if (n->acc >> q & 1) s->used[n->acc_state[q]->id] = true;
    }
    for (int k = 0; k < s->g->n_output; k++) s->used[s->g->output[k].v->id] = true;
    return LM_OK;
}
/* The value that owns v's storage: views, versions and results written over their input form short chains. */
static int root_of(planner *s, int v) {
    while (s->pl[v].root != v) v = s->pl[v].root = s->pl[s->pl[v].root].root;
    return v;
}
static lm_err assign_states(planner *s) {
    for (int i = 0; i < s->g->n_value; i++) {
        lm_value *v = s->g->value[i];
        if (v->kind != LM_V_STATE) continue;
        if (!s->used[i]) continue;
        place *p = &s->pl[i];
        p->at = AT_STATE;
        size_t bytes = 0;
        lm_storage_bytes(v->type.dtype, v->type.quant, v->layout, v->type.rank, v->type.dim, &bytes);
        s->p->stats.state_bytes += bytes;
        if (s->o->dry) { p->base = s->fake; s->fake += (bytes + 4095) & ~(size_t)4095; continue; }
        lm_tensor t;
        lm_file *file; int64_t offset;
        if (s->o->store && lm_store_where(s->o->store, v->name, &file, &offset)) {                /* bind() knows the piece */
            lm_store_get(s->o->store, v->name, &t);
            if (p->t.dtype != t.dtype || p->t.quant != t.quant || v->layout != LM_PLAIN || s->p->dev)
                return lm_fail(s->p->ctx, LM_E_UNSUPPORTED, "%s stays in its file: it cannot be used as another type or on a device", v->name);
            p->base = s->fake; s->fake += (bytes + 4095) & ~(size_t)4095;
            s->n_away++;
            continue;
        }
        lm_store *made = s->o->local ? s->o->local : s->o->store;
        lm_store *in = s->o->store && s->o->local && lm_store_get(s->o->store, v->name, &t) ? s->o->store : made;
        if (in == made && s->o->create_states && s->p->dev)
            LM_TRY(lm_store_get(made, v->name, &t) ? LM_OK : lm_store_declare(made, v->name, &v->type, v->layout));
        else if (in == made && s->o->create_states) LM_TRY(lm_store_add(made, v->name, &v->type, v->layout, s->o->state_tag, &t));
        else if (!in || !lm_store_get(in, v->name, &t)) return lm_fail(s->p->ctx, LM_E_NOTFOUND, "the state %s has no storage", v->name);
        if (s->p->dev) { void *d; LM_TRY(lm_store_on_dev(in, v->name, s->p->dev, &d)); t.data = d; }
        p->base = (uintptr_t)t.data;
    }
    return LM_OK;
}
static void touch(planner *s, const lm_value *v, int step) {
    place *r = &s->pl[root_of(s, v->id)];
    if (r->at == AT_BUF && s->b[r->buf].last < step) s->b[r->buf].last = step;
}
static lm_err assign_buffers(planner *s) {
    lm_plan *p = s->p;
    int end = p->n_step;
    size_t const_bytes = 0;
    for (int i = 0; i < s->g->n_value; i++) {                            /* inputs and constants that are used */
        lm_value *v = s->g->value[i];
        if (v->kind != LM_V_INPUT && v->kind != LM_V_CONST) continue;
        if (!s->used[i]) continue;
        if (v->kind == LM_V_CONST) {                                     /* outside the arena, which another plan may share */
            s->pl[i].at = AT_STATE; s->pl[i].base = const_bytes;
            const_bytes += (type_bytes(&v->type) + 63) & ~(size_t)63;
            continue;
        }
        s->pl[i].at = AT_BUF;
        if ((s->pl[i].buf = buf_new(s, type_bytes(&v->type), 0, end, true)) < 0) return LM_E_NOMEM;
        p->stats.input_bytes += type_bytes(&v->type);
    }
    p->stats.const_bytes = const_bytes;
    if (const_bytes && !s->o->dry) LM_TRY(mem_new(p, LM_MEM_ACT, const_bytes, &p->consts));
    for (int i = 0; i < s->g->n_value; i++)
        if (s->g->value[i]->kind == LM_V_CONST && s->pl[i].at == AT_STATE) s->pl[i].base += s->o->dry ? s->fake : (uintptr_t)p->consts;
    s->fake += (const_bytes + 4095) & ~(size_t)4095;
    /* last use of each storage root, to find what may be overwritten in place */
    int *last = lm_arena_alloc(s->g->a, (size_t)(s->g->n_value + 1) * sizeof *last);
    if (!last) return LM_E_NOMEM;
    for (int i = 0; i < p->n_step; i++)
        for (int k = 0; k < p->step[i].node->n_in; k++) { lm_value *v = p->step[i].node->in[k]; if (v) last[root_of(s, v->id)] = i; }
    for (int i = 0; i < s->g->n_output; i++) last[root_of(s, s->g->output[i].v->id)] = end;
    for (int i = 0; i < p->n_step; i++) {
        const lm_node *n = p->step[i].node;
        for (int k = 0; k < n->n_out; k++) {
            int id = n->out[k]->id;
            if (s->pl[id].root != id) {                                      /* alias or accumulation: storage is elsewhere */
                const lm_value *r = s->g->value[s->pl[id].root];
                if (r->kind == LM_V_NODE && s->laid[r->node->id] && s->pl[r->id].at == AT_NONE) {      /* and begins with its first part */
                    s->pl[r->id].at = AT_BUF;
                    if ((s->pl[r->id].buf = buf_new(s, type_bytes(&r->type), i, i, false)) < 0) return LM_E_NOMEM;
                } else if (r->kind == LM_V_NODE && s->laid[r->node->id]) touch(s, r, i);
                continue;
            }
            lm_value *a = n->in[0];
            if (k == 0 && n->op->inplace_ok && !p->step[i].many && a && a->kind == LM_V_NODE && !a->state) {
                int r = root_of(s, a->id);
                bool same = type_bytes(&a->type) == type_bytes(&n->out[0]->type) && s->pl[a->id].t.data == NULL && lm_is_contig(&s->pl[a->id].t)
                            && s->pl[r].at == AT_BUF && type_bytes(&s->g->value[r]->type) == type_bytes(&a->type) && !s->b[s->pl[r].buf].fixed;
                for (int q = 1; q < n->n_in; q++) same &= !n->in[q] || root_of(s, n->in[q]->id) != r;
                if (same && last[r] == i) {
                    s->pl[id].root = r;                                      /* and with it what is a view or version of it */
                    last[r] = last[id]; p->stats.n_inplace++;
                    if (last[r] < i) last[r] = i;
                    s->b[s->pl[r].buf].last = last[r];
                    continue;
                }
            }
            s->pl[id].at = AT_BUF;
            if ((s->pl[id].buf = buf_new(s, type_bytes(&n->out[k]->type), i, i, false)) < 0) return LM_E_NOMEM;
        }
        for (int k = 0; k < n->n_in; k++) if (n->in[k]) touch(s, n->in[k], i);
    }
    for (int i = 0; i < s->g->n_output; i++) touch(s, s->g->output[i].v, end);
    /* Joins that repeat first: what goes into one and comes out of it lives throughout, what is handed on within is not touched. Of the others, which are
     * one kernel, everything they touch lives throughout. */
    for (int k = 0; k < 2 * p->n_joined; k++) {
        const lm_joined *x = &p->joined[k % p->n_joined];
        const bool repeats = x->row->run_all;
        const int behind = x->first + x->n;
        if (repeats != (k < p->n_joined)) continue;
        for (int i = x->first; i < behind; i++) {
            const lm_node *n = p->step[i].node;
            for (int q = 0; q < n->n_in + n->n_out; q++) {
                lm_value *v = q < n->n_in ? n->in[q] : n->out[q - n->n_in];
                place *r = v ? &s->pl[root_of(s, v->id)] : NULL;
                if (!r || r->at != AT_BUF) continue;
                lm_buf *b = &s->b[r->buf];
                const bool in = b->first < x->first, out = b->last >= behind;
                if (!out && (!repeats || in)) b->last = behind - 1;
                if (!in && (repeats ? out : q >= n->n_in)) b->first = x->first;
            }
        }
    }
    return LM_OK;
}
static lm_err place_buffers(planner *s, int *scratch_of) {
    lm_plan *p = s->p;
    for (int i = 0; i < p->n_step; i++) {
        lm_step *st = &p->step[i];
        size_t sh = st->k->shared_bytes ? st->k->shared_bytes(&st->call) : 0, th = st->k->thread_bytes ? st->k->thread_bytes(&st->call) : 0;
        scratch_of[i] = -1;
        if (sh && (scratch_of[i] = buf_new(s, sh, i, i, false)) < 0) return LM_E_NOMEM;
        p->stats.shared_bytes = sh > p->stats.shared_bytes ? sh : p->stats.shared_bytes;
        p->thread_stride = th > p->thread_stride ? th : p->thread_stride;
    }
    p->thread_stride = (p->thread_stride + 4095) & ~(size_t)4095;
    for (int k = 0; k < p->n_joined; k++) {                              /* a join's scratch, as its tensors (lay); one that repeats has its own */
        lm_joined *x = &p->joined[k];
        const int end = x->first + x->n;
        if (x->bytes && (x->buf = buf_new(s, x->bytes, x->first, end - 1, false)) < 0) return LM_E_NOMEM;
        for (int i = x->first; i < end && !x->row->run_all; i++)
            if (scratch_of[i] >= 0) {
                lm_buf *b = &s->b[scratch_of[i]];
                b->first = lm_min64(b->first, x->first); b->last = lm_max64(b->last, end - 1);
            }
    }
    if (p->dev) linger(s, scratch_of);
    together(s);
    lm_buf **scratch = lm_arena_alloc(s->g->a, (size_t)(s->n_buf + 1) * 2 * sizeof *scratch);
    size_t *at = lm_arena_alloc(s->g->a, (size_t)(p->n_step + 2) * sizeof *at);
    if (!scratch || !at) return LM_E_NOMEM;
    p->stats.live_bytes = lm_place_least(s->b, s->n_buf, p->n_step, at);
    p->stats.arena_bytes = lm_place(s->b, s->n_buf, p->stats.live_bytes, scratch);
    p->stats.thread_bytes = p->thread_stride * (size_t)lm_ctx_threads(p->ctx);
    return LM_OK;
}
static void add_range(lm_step *st, const lm_tensor *t, bool write) {
    size_t n = 0;
    if (!lm_is_contig(t) && t->layout == LM_PLAIN && t->dtype != LM_QUANT) {
        int64_t span = 1;
        for (int i = 0; i < t->rank; i++) span += (t->dim[i] - 1) * t->stride[i];
        n = (size_t)span * lm_dtype_size((lm_dtype)t->dtype);
    } else lm_storage_bytes((lm_dtype)t->dtype, t->quant, (lm_layout)t->layout, t->rank, t->dim, &n);
    st->range[st->n_range++] = (lm_range){ (uintptr_t)t->data, (uintptr_t)t->data + n, write };
}
bool lm_step_conflict(const lm_step *a, const lm_step *b) {
    if (a->effect && b->effect) return true;
    for (int i = 0; i < a->n_range; i++)
        for (int k = 0; k < b->n_range; k++)
            if ((a->range[i].write || b->range[k].write) && a->range[i].lo < b->range[k].hi && b->range[k].lo < a->range[i].hi) return true;
    return false;
}
static void bind(planner *s, const int *scratch_of) {
    lm_plan *p = s->p;
    for (int i = 0; i < p->n_step; i++)                                  /* marked in `used`, which is needed no more */
        for (int k = 0; k < p->step[i].node->n_out; k++) s->used[root_of(s, p->step[i].node->out[k]->id)] = false;
    uintptr_t arena = s->o->dry ? ARENA_FAKE : (uintptr_t)p->arena;
    for (int i = 0; i < s->g->n_value; i++) {
        place *r = &s->pl[root_of(s, i)];
        uintptr_t base = r->at == AT_STATE ? r->base : r->at == AT_BUF ? arena + s->b[r->buf].offset : 0;
        if (base) s->pl[i].t.data = (void *)(base + (uintptr_t)s->pl[i].t.data);
    }
    for (int i = 0; i < p->n_joined; i++) if (p->joined[i].buf >= 0) p->joined[i].shared = (void *)(arena + s->b[p->joined[i].buf].offset);
    for (int i = 0; i < p->n_step; i++) {
        lm_step *st = &p->step[i];
        const lm_node *n = st->node;
        for (int k = 0; k < n->n_in; k++) if (n->in[k]) {
            const int r = root_of(s, n->in[k]->id);
            st->call.in[k] = s->pl[n->in[k]->id].t; add_range(st, &st->call.in[k], false);
            if (s->g->value[r]->kind == LM_V_INPUT || (s->g->value[r]->kind == LM_V_STATE && s->used[r])) st->call.fixed |= 1u << k;
        }
        for (int k = 0; k < n->n_out; k++) {
            st->call.out[k] = s->pl[n->out[k]->id].t;
            add_range(st, &st->call.out[k], true);
        }
        if (scratch_of[i] >= 0) {
            st->call.shared = (void *)(arena + s->b[scratch_of[i]].offset);
            st->range[st->n_range++] = (lm_range){ (uintptr_t)st->call.shared, (uintptr_t)st->call.shared + s->b[scratch_of[i]].bytes, true };
        }
    }
}
/* States in a file: each use is a piece of the stream, in the order of the steps. */
static lm_err stream(planner *s) {
    lm_plan *p = s->p;
    if (!s->n_away || s->o->dry) return LM_OK;
    int n = 0, cap = 0;
    lm_stretch *x = NULL;
    int64_t *inside = NULL; int cap_inside = 0;
    for (int i = 0; i < p->n_step; i++) {
        lm_step *st = &p->step[i];
        for (int k = 0; k < st->node->n_out; k++) {
            const lm_value *r = s->g->value[root_of(s, st->node->out[k]->id)];
            lm_file *f; int64_t o;
            if (r->kind == LM_V_STATE && lm_store_where(s->o->store, r->name, &f, &o))
                return lm_fail(p->ctx, LM_E_UNSUPPORTED, "%s stays in its file and is not written", r->name);
        }
        for (int k = 0; k < st->node->n_in; k++) {
            if (!st->node->in[k]) continue;
            const int id = root_of(s, st->node->in[k]->id);
            const lm_value *r = s->g->value[id];
            lm_stretch y = { 0 };
            lm_file *f;
            if (r->kind != LM_V_STATE || !lm_store_where(s->o->store, r->name, &f, &y.offset)) continue;
            y.file = f;
            lm_storage_bytes(r->type.dtype, r->type.quant, LM_PLAIN, r->type.rank, r->type.dim, &y.bytes);
            if (!lm_graph_grow(s->g, &x, n, &cap, sizeof *x) || !lm_graph_grow(s->g, &inside, n, &cap_inside, sizeof *inside)) return LM_E_NOMEM;
            inside[n] = (int64_t)((uintptr_t)st->call.in[k].data - s->pl[id].base);
            x[n++] = y;
            st->gate = true;
        }
        st->away = n;
    }
    if (!n) return LM_OK;
    const size_t least = lm_stream_least(x, n), ring = lm_store_ring(s->o->store);
    LM_TRY(lm_stream_new(&p->stream, p->ctx, x, n, ring > least ? ring : least));
    p->n_away = n;
    for (int i = 0, at = 0; i < p->n_step; i++)
        for (int k = 0; k < p->step[i].node->n_in && at < p->step[i].away; k++) {
            if (!p->step[i].node->in[k]) continue;
            const lm_value *r = s->g->value[root_of(s, p->step[i].node->in[k]->id)];
            lm_file *f; int64_t o;
            if (r->kind != LM_V_STATE || !lm_store_where(s->o->store, r->name, &f, &o)) continue;
            p->step[i].call.in[k].data = (char *)lm_stream_at(p->stream, at) + inside[at];
            for (int q = i ? p->step[i - 1].away : 0; q < at; q++) {           /* one step's pieces are all there at once */
                const char *a = lm_stream_at(p->stream, q), *b = lm_stream_at(p->stream, at);
                if (a < b + x[at].bytes && b < a + x[q].bytes) return lm_fail(p->ctx, LM_E_NOMEM, "the ring of %zu bytes is too small for a step with two weights", ring);
            }
            at++;
        }
    return LM_OK;
}
/* The steps that are the first to add to a state, in the order in which they run. */
static lm_err firsts(planner *s) {
    bool *seen = lm_arena_alloc(s->g->a, (size_t)s->g->n_value + 1);
    if (!seen) return LM_E_NOMEM;
    for (int i = 0; i < s->p->n_step; i++) {
        lm_step *st = &s->p->step[i];
        st->adds = st->call.acc;
        for (int k = 0; k < st->node->n_out; k++) {
            if (!(st->adds >> k & 1)) continue;
            const int id = st->node->acc_state[k]->id;
            if (!seen[id]) st->first |= 1u << k;
            seen[id] = true;
        }
    }
    return LM_OK;
}
static lm_err ports(planner *s) {
    lm_plan *p = s->p;
    int n = s->g->n_output;
    for (int i = 0; i < s->g->n_value; i++) n += s->g->value[i]->kind == LM_V_INPUT;
    if (!(p->port = lm_arena_alloc(p->a, (size_t)(n + 1) * sizeof *p->port))) return LM_E_NOMEM;
    for (int i = 0; i < s->g->n_value; i++) {
        lm_value *v = s->g->value[i];
        if (v->kind != LM_V_INPUT || s->pl[i].at != AT_BUF) continue;
        p->port[p->n_port++] = (lm_port){ lm_arena_strdup(p->a, v->name), s->pl[i].t, v->type.ext[0], true, false };
    }
    for (int i = 0; i < s->g->n_output; i++)
        p->port[p->n_port++] =
            (lm_port){ lm_arena_strdup(p->a, s->g->output[i].name), s->pl[s->g->output[i].v->id].t, s->g->output[i].v->type.ext[0], false, false };
    for (int i = 0; i < p->n_port; i++) if (!p->port[i].name) return LM_E_NOMEM;
    return LM_OK;
}
static lm_err extents(planner *s) {
    lm_plan *p = s->p;
    p->n_ext = s->g->n_ext;
    p->ext = lm_arena_alloc(p->a, (size_t)(p->n_ext + 1) * sizeof *p->ext); p->cap = lm_arena_alloc(p->a, (size_t)(p->n_ext + 1) * sizeof *p->cap);
    p->ext_name = lm_arena_alloc(p->a, (size_t)(p->n_ext + 1) * sizeof *p->ext_name);
    p->patch = lm_arena_alloc(p->a, (size_t)p->n_step * (LM_MAX_IN + LM_MAX_OUT) * sizeof *p->patch + 16);
    if (!p->ext || !p->cap || !p->ext_name || !p->patch) return LM_E_NOMEM;
    for (int i = 0; i < p->n_ext; i++) if (!(p->ext_name[i] = lm_arena_strdup(p->a, s->g->ext[i]))) return LM_E_NOMEM;
    for (int i = 0; i < p->n_step; i++) {
        const lm_node *n = p->step[i].node;
        for (int k = 0; k < n->n_in + n->n_out; k++) {
            const lm_value *v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];
            lm_tensor *t = k < n->n_in ? &p->step[i].call.in[k] : &p->step[i].call.out[k - n->n_in];
            if (!v || !v->type.ext[0]) continue;
            p->patch[p->n_patch++] = (lm_patch){ &t->dim[0], v->type.ext[0] - 1 };
            if (t->dim[0] > p->cap[v->type.ext[0] - 1]) p->cap[v->type.ext[0] - 1] = t->dim[0];
        }
    }
    for (int i = 0; i < p->n_ext; i++) p->ext[i] = p->cap[i];
    p->ext_dirty = true;                                             /* tiles are counted before the first run */
    return LM_OK;
}
static lm_err fill_consts(planner *s) {
    lm_plan *p = s->p;
    char *host = p->dev && p->stats.const_bytes ? lm_alloc(p->ctx, LM_MEM_ACT, p->stats.const_bytes) : p->consts;
    if (!host && p->stats.const_bytes) return LM_E_NOMEM;
    for (int i = 0; i < s->g->n_value; i++) {
        lm_value *v = s->g->value[i];
        if (v->kind != LM_V_CONST || s->pl[i].at != AT_STATE) continue;
        int64_t n = lm_numel(&s->pl[i].t);
        void *d = host + ((char *)s->pl[i].t.data - p->consts);
        for (int64_t k = 0; k < n; k++) switch (v->type.dtype) {
            case LM_F32: ((float *)d)[k] = v->fill; break;
            case LM_BF16: ((uint16_t *)d)[k] = lm_f32_to_bf16(v->fill); break;
            case LM_I32: ((int32_t *)d)[k] = (int32_t)v->fill; break;
            case LM_I64: ((int64_t *)d)[k] = (int64_t)v->fill; break;
            default: break;
        }
    }
    if (!p->dev || !host) return LM_OK;
    lm_err e = p->dev->put(p->dev, p->consts, host, p->stats.const_bytes);
    if (!e) e = p->dev->sync(p->dev);
    lm_free(p->ctx, host);
    return e;
}
static lm_err make(planner *s) {
    lm_plan *p = s->p;
    LM_TRY(lm_graph_schedule(s->g, &s->list, &s->n));
    if (!(s->pl = lm_arena_alloc(s->g->a, (size_t)(s->g->n_value + 1) * sizeof *s->pl))) return LM_E_NOMEM;
    describe(s);
    LM_TRY(materialise(s));
    LM_TRY(over(s));
    LM_TRY(lay(s));
    LM_TRY(make_steps(s));
    if (p->dev) LM_TRY(lm_plan_join(s->g, p, s->list, s->n, LM_DEV_CUDA, s->feat));
    neighbours(s);
    int *scratch_of = lm_arena_alloc(s->g->a, (size_t)(p->n_step + 1) * sizeof *scratch_of);
    if (!scratch_of) return LM_E_NOMEM;
    LM_TRY(uses(s));
    LM_TRY(assign_states(s));
    LM_TRY(assign_buffers(s));
    LM_TRY(place_buffers(s, scratch_of));
    if (!s->o->dry) {
        const lm_plan *q = s->o->share;
        if (q && q->arena_cap >= p->stats.arena_bytes) { p->arena = q->arena; p->arena_cap = q->arena_cap; p->borrowed_arena = true; }
        else { LM_TRY(mem_new(p, LM_MEM_ACT, p->stats.arena_bytes + 64, &p->arena)); p->arena_cap = p->stats.arena_bytes; }
        if (q && q->thread_stride >= p->thread_stride) { p->threads = q->threads; p->thread_stride = q->thread_stride; p->borrowed_threads = true; }
        else if (p->thread_stride && !(p->threads = lm_alloc(p->ctx, LM_MEM_SCRATCH, p->stats.thread_bytes))) return LM_E_NOMEM;
        if (!(p->counter = lm_calloc(p->ctx, LM_MEM_GRAPH, (size_t)p->n_step + 1, sizeof *p->counter))) return LM_E_NOMEM;
    }
    bind(s, scratch_of);
    apart(s);
    if (p->dev) lanes(p);
    LM_TRY(lm_plan_waits(s->g, p));
    LM_TRY(stream(s));
    LM_TRY(firsts(s));
    LM_TRY(ports(s));
    LM_TRY(extents(s));
    if (!s->o->dry && !p->dev) LM_TRY(lm_plan_walks(p));
    if (!s->o->dry) LM_TRY(fill_consts(s));
    if (p->dev && !s->o->dry) LM_TRY(lm_plan_ports_dev(p));
    for (int i = 0; i < p->n_step; i++) p->step[i].node = NULL;
    return LM_OK;
}
lm_err lm_plan_new(lm_plan **out, lm_ctx *ctx, lm_graph *g, const lm_plan_opts *o) {
    LM_TRY(lm_graph_err(g));
    lm_arena *a;
    LM_TRY(lm_arena_new(&a, ctx, LM_MEM_GRAPH, 256 << 10));
    lm_plan *p = lm_arena_alloc(a, sizeof *p);
    if (!p) { lm_arena_free(a); return LM_E_NOMEM; }
    p->ctx = ctx; p->a = a; p->comm = o->comm ? o->comm : lm_comm_self(); p->dry = o->dry; p->dev = o->dev;
    planner s = { .p = p,
                  .g = g,
                  .o = o,
                  .feat = o->dev         ? o->dev->features
                          : !o->features ? lm_cpu_features_of(ctx)
                          : o->dry       ? o->features
                                         : o->features & lm_cpu_features_of(ctx),
                  .fake = STATE_FAKE };
    lm_err e = make(&s);
    if (e) { lm_plan_free(p); return e; }
    *out = p; return LM_OK;
}
void lm_plan_free(lm_plan *p) {
    if (!p) return;
    lm_plan_free_dev(p);
    lm_stream_free(p->stream);
    if (!p->borrowed_arena) mem_free(p, p->arena);
    if (!p->borrowed_threads) lm_free(p->ctx, p->threads);
    lm_free(p->ctx, p->counter); lm_free(p->ctx, p->lot); lm_free(p->ctx, p->walker); mem_free(p, p->consts);
    lm_arena_free(p->a);
}
bool lm_plan_streamed(const lm_plan *p, uint64_t *bytes, double *waited, bool *direct) {
    if (!p->stream) return false;
    lm_stream_stats(p->stream, bytes, waited, direct);
    return true;
}
void lm_plan_stats_of(const lm_plan *p, lm_plan_stats *s) { *s = p->stats; }
static void *port(lm_plan *p, const char *name, lm_tensor *t, bool input) {
    for (int i = 0; i < p->n_port; i++)
        if (p->port[i].input == input && !strcmp(p->port[i].name, name)) { if (t) *t = p->port[i].t; return p->port[i].t.data; }
    return NULL;
}
void *lm_plan_input(lm_plan *p, const char *name, lm_tensor *t) { return port(p, name, t, true); }
void *lm_plan_output(lm_plan *p, const char *name, lm_tensor *t) { return port(p, name, t, false); }
void lm_plan_want(lm_plan *p, const char *name, bool on) {
    for (int i = 0; i < p->n_port; i++) if (!p->port[i].input && !strcmp(p->port[i].name, name)) p->port[i].stays = !on;
}
lm_err lm_plan_fetch(lm_plan *p, const char *name) {
    for (int i = 0; p->dev && i < p->n_port; i++) if (!p->port[i].input && !strcmp(p->port[i].name, name)) return lm_plan_fetch_dev(p, &p->port[i]);
    return LM_OK;
}
lm_err lm_plan_extent(lm_plan *p, const char *name, int64_t n) {
    for (int i = 0; i < p->n_ext; i++) if (!strcmp(p->ext_name[i], name)) {
            if (n < 0 || n > p->cap[i])
                return lm_fail(p->ctx, LM_E_RANGE, "extent %s: %lld is outside 0..%lld", name, (long long)n, (long long)p->cap[i]);
            if (p->ext[i] != n) {
                p->ext[i] = n;
                p->ext_dirty = true; }
        return LM_OK;
    }
    return lm_fail(p->ctx, LM_E_NOTFOUND, "the plan has no extent called %s", name);
}
void lm_plan_apply_extents(lm_plan *p) {
    if (!p->ext_dirty) return;
    for (int i = 0; i < p->n_patch; i++) *p->patch[i].dim = p->ext[p->patch[i].slot];
    for (int i = 0; i < p->n_step; i++) {
        const lm_kernel *k = p->step[i].k;
        lm_call *c = &p->step[i].call;
        const int64_t times = k->repeat ? k->repeat(c) : 1;
        for (int ph = 0; ph < k->n_phase; ph++) {
            int64_t n = 0;
            for (c->iter = 0; c->iter < times; c->iter++) n += k->phase[ph].tiles(c);
            p->step[i].n_tile[ph] = (int32_t)n;
        }
        c->iter = 0;
    }
    lm_plan_spans(p);
    p->ext_dirty = false;
}
void lm_plan_hold(lm_plan *p, bool on) {
    if (p->hold == on) return;
    p->hold = on; p->ext_dirty = true;
    for (int i = 0; i < p->n_step; i++) p->step[i].call.hold = on;
}
void lm_plan_fresh(lm_plan *p, bool on) {
    if (p->fresh == on) return;
    p->fresh = on;
    for (int i = 0; i < p->n_step; i++) p->step[i].call.acc = p->step[i].adds & ~(on ? p->step[i].first : 0u);
}
void lm_plan_step(const lm_plan *p, int i, const char **op, const char **kernel, double *flops, double *bytes) {
    *op = p->step[i].joined ? p->step[i].joined : p->step[i].op; *kernel = p->step[i].k->name; *flops = p->step[i].flops; *bytes = p->step[i].bytes;
}
void lm_plan_reprice(lm_plan *p) {
    lm_plan_apply_extents(p);
    p->stats.flops = p->stats.bytes = 0;
    for (int i = 0; i < p->n_step; i++) {
        lm_step *s = &p->step[i];
        lm_call c = s->call;
        for (int k = 0; k < c.n_in; k++) c.in[k].data = NULL;                  /* as while planning: rows that look at data then assume the most */
        for (int k = 0; k < c.n_out; k++) c.out[k].data = NULL;
        lm_op_cost(&c, &s->flops, &s->bytes);
        p->stats.flops += s->flops; p->stats.bytes += s->bytes;
    }
}
const lm_call *lm_plan_call(const lm_plan *p, int i) { return &p->step[i].call; }
void lm_plan_print(const lm_plan *p, lm_str *o) {
    lm_str_printf(o, "steps %d  waits %d  in place %d  arena %zu (live %zu)  scratch %zu a thread  states %zu  inputs %zu  constants %zu\n",
                  p->n_step, p->stats.n_waits, p->stats.n_inplace, p->stats.arena_bytes, p->stats.live_bytes, p->thread_stride,
                  p->stats.state_bytes, p->stats.input_bytes, p->stats.const_bytes);
    for (int i = 0; i < p->n_step; i++) {
        const lm_step *s = &p->step[i];
        lm_str_printf(o, "%d %s %s wait %d", i, s->op, s->k->name, s->wait_for);
        for (int k = 0; k < s->call.n_out; k++) {
            lm_str_puts(o, k ? " ," : " ->");
            for (int d = 0; d < s->call.out[k].rank; d++) lm_str_printf(o, d ? "x%lld" : " %lld", (long long)s->call.out[k].dim[d]);
            uintptr_t at = (uintptr_t)s->call.out[k].data, a = p->dry ? ARENA_FAKE : (uintptr_t)p->arena;
            if (at >= a && at < a + p->stats.arena_bytes) lm_str_printf(o, " @%zu", (size_t)(at - a));
            else lm_str_puts(o, s->call.acc >> k & 1 ? " += @state" : " @state");
        }
        lm_str_putc(o, '\n');
    }
}
