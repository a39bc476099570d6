/* plan_memory.c — which bytes of a plan live where, and how long: states, inputs and constants, buffers of steps, scratch; and, since it is a matter of the bytes that steps
 * share, which steps run as one and which run beside others on a device. Placing itself is place.c's, waits are waits.c's. */
#include <string.h>
#include "graph/planner.h"

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
lm_err lm_plan_mem_new(lm_plan *p, lm_mem_tag tag, size_t bytes, char **out) {
    void *d = NULL;
    if (p->dev) LM_TRY(p->dev->alloc(p->dev, bytes, &d));
    else if (!(d = lm_alloc(p->ctx, tag, bytes))) return LM_E_NOMEM;
    *out = d;
    return LM_OK;
}
void lm_plan_mem_free(lm_plan *p, void *m) { if (p->dev) p->dev->free(p->dev, m); else lm_free(p->ctx, m); }
int lm_place_root(planner *s, int v) {
    while (s->pl[v].root != v) v = s->pl[v].root = s->pl[s->pl[v].root].root;
    return v;
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
static bool share_bytes(const lm_step *a, const lm_step *b) {
    for (int i = 0; i < a->n_range; i++)
        for (int k = 0; k < b->n_range; k++)
            if ((a->range[i].write || b->range[k].write) && a->range[i].lo < b->range[k].hi && b->range[k].lo < a->range[i].hi) return true;
    return false;
}
bool lm_step_conflict(const lm_step *a, const lm_step *b) { return (a->effect && b->effect) || share_bytes(a, b); }
/* Neighbours of one row that can take several calls at once. Whether they are independent is known when memory is placed: their buffers, scratch
 * too, are then held for all of them (together), and a group that still conflicts is taken apart (apart). */
void lm_plan_neighbours(planner *s) {
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
void lm_plan_apart(lm_plan *p) {
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
                const place *r = n->in[k] ? &s->pl[lm_place_root(s, n->in[k]->id)] : NULL;
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
                const place *r = n->in[k] ? &s->pl[lm_place_root(s, n->in[k]->id)] : NULL;
                if (r && r->at == AT_BUF && s->b[r->buf].last < i) s->b[r->buf].last = i;
            }
            if (scratch_of[q] >= 0 && s->b[scratch_of[q]].last < i) s->b[scratch_of[q]].last = i;
        }
    }
}
void lm_plan_lanes(lm_plan *p) {
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
lm_err lm_plan_states(planner *s) {
    LM_TRY(uses(s));
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
    place *r = &s->pl[lm_place_root(s, v->id)];
    if (r->at == AT_BUF && s->b[r->buf].last < step) s->b[r->buf].last = step;
}
lm_err lm_plan_buffers(planner *s) {
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
    if (const_bytes && !s->o->dry) LM_TRY(lm_plan_mem_new(p, LM_MEM_ACT, const_bytes, &p->consts));
    for (int i = 0; i < s->g->n_value; i++)
        if (s->g->value[i]->kind == LM_V_CONST && s->pl[i].at == AT_STATE) s->pl[i].base += s->o->dry ? s->fake : (uintptr_t)p->consts;
    s->fake += (const_bytes + 4095) & ~(size_t)4095;
    /* last use of each storage root, to find what may be overwritten in place */
    int *last = lm_arena_alloc(s->g->a, (size_t)(s->g->n_value + 1) * sizeof *last);
    if (!last) return LM_E_NOMEM;
    for (int i = 0; i < p->n_step; i++)
        for (int k = 0; k < p->step[i].node->n_in; k++) { lm_value *v = p->step[i].node->in[k]; if (v) last[lm_place_root(s, v->id)] = i; }
    for (int i = 0; i < s->g->n_output; i++) last[lm_place_root(s, s->g->output[i].v->id)] = end;
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
                int r = lm_place_root(s, a->id);
                bool same = type_bytes(&a->type) == type_bytes(&n->out[0]->type) && s->pl[a->id].t.data == NULL && lm_is_contig(&s->pl[a->id].t)
                            && s->pl[r].at == AT_BUF && type_bytes(&s->g->value[r]->type) == type_bytes(&a->type) && !s->b[s->pl[r].buf].fixed;
                for (int q = 1; q < n->n_in; q++) same &= !n->in[q] || lm_place_root(s, n->in[q]->id) != r;
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
                place *r = v ? &s->pl[lm_place_root(s, v->id)] : NULL;
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
lm_err lm_plan_offsets(planner *s, int *scratch_of) {
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
