/* plan.c — kernels, memory, waits.
 *
 * Memory: every buffer has a lifetime [first step, last step] in schedule order; place.c gives it an offset. Inputs, constants and outputs
 * live throughout. Waits: steps may overlap in time, so after placement each step gets the latest earlier step that touches any byte it
 * touches (one of them writing; waits.c); the executor waits for that whole prefix. Reuse of memory is thus safe by construction: it shows
 * up as a conflict like any other. */
#include <stdlib.h>
#include <string.h>
#include "graph/planner.h"

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
static void add_range(lm_step *st, const lm_tensor *t, bool write) {
    size_t n = 0;
    if (!lm_is_contig(t) && t->layout == LM_PLAIN && t->dtype != LM_QUANT) {
        int64_t span = 1;
        for (int i = 0; i < t->rank; i++) span += (t->dim[i] - 1) * t->stride[i];
        n = (size_t)span * lm_dtype_size((lm_dtype)t->dtype);
    } else lm_storage_bytes((lm_dtype)t->dtype, t->quant, (lm_layout)t->layout, t->rank, t->dim, &n);
    st->range[st->n_range++] = (lm_range){ (uintptr_t)t->data, (uintptr_t)t->data + n, write };
}
static void bind(planner *s, const int *scratch_of) {
    lm_plan *p = s->p;
    for (int i = 0; i < p->n_step; i++)                                  /* marked in `used`, which is needed no more */
        for (int k = 0; k < p->step[i].node->n_out; k++) s->used[lm_place_root(s, p->step[i].node->out[k]->id)] = false;
    uintptr_t arena = s->o->dry ? LM_ARENA_FAKE : (uintptr_t)p->arena;
    for (int i = 0; i < s->g->n_value; i++) {
        place *r = &s->pl[lm_place_root(s, i)];
        uintptr_t base = r->at == AT_STATE ? r->base : r->at == AT_BUF ? arena + s->b[r->buf].offset : 0;
        if (base) s->pl[i].t.data = (void *)(base + (uintptr_t)s->pl[i].t.data);
    }
    for (int i = 0; i < p->n_joined; i++) if (p->joined[i].buf >= 0) p->joined[i].shared = (void *)(arena + s->b[p->joined[i].buf].offset);
    for (int i = 0; i < p->n_step; i++) {
        lm_step *st = &p->step[i];
        const lm_node *n = st->node;
        for (int k = 0; k < n->n_in; k++) if (n->in[k]) {
            const int r = lm_place_root(s, n->in[k]->id);
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
            const lm_value *r = s->g->value[lm_place_root(s, st->node->out[k]->id)];
            lm_file *f; int64_t o;
            if (r->kind == LM_V_STATE && lm_store_where(s->o->store, r->name, &f, &o))
                return lm_fail(p->ctx, LM_E_UNSUPPORTED, "%s stays in its file and is not written", r->name);
        }
        for (int k = 0; k < st->node->n_in; k++) {
            if (!st->node->in[k]) continue;
            const int id = lm_place_root(s, st->node->in[k]->id);
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
            const lm_value *r = s->g->value[lm_place_root(s, p->step[i].node->in[k]->id)];
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
    lm_plan_neighbours(s);
    int *scratch_of = lm_arena_alloc(s->g->a, (size_t)(p->n_step + 1) * sizeof *scratch_of);
    if (!scratch_of) return LM_E_NOMEM;
    LM_TRY(lm_plan_states(s));
    LM_TRY(lm_plan_buffers(s));
    LM_TRY(lm_plan_offsets(s, scratch_of));
    if (!s->o->dry) {
        const lm_plan *q = s->o->share;
        if (q && q->arena_cap >= p->stats.arena_bytes) { p->arena = q->arena; p->arena_cap = q->arena_cap; p->borrowed_arena = true; }
        else { LM_TRY(lm_plan_mem_new(p, LM_MEM_ACT, p->stats.arena_bytes + 64, &p->arena)); p->arena_cap = p->stats.arena_bytes; }
        if (q && q->thread_stride >= p->thread_stride) { p->threads = q->threads; p->thread_stride = q->thread_stride; p->borrowed_threads = true; }
        else if (p->thread_stride && !(p->threads = lm_alloc(p->ctx, LM_MEM_SCRATCH, p->stats.thread_bytes))) return LM_E_NOMEM;
        if (!(p->counter = lm_calloc(p->ctx, LM_MEM_GRAPH, (size_t)p->n_step + 1, sizeof *p->counter))) return LM_E_NOMEM;
    }
    bind(s, scratch_of);
    lm_plan_apart(p);
    if (p->dev) lm_plan_lanes(p);
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
                  .fake = LM_STATE_FAKE };
    lm_err e = make(&s);
    if (e) { lm_plan_free(p); return e; }
    *out = p; return LM_OK;
}
void lm_plan_free(lm_plan *p) {
    if (!p) return;
    lm_plan_free_dev(p);
    lm_stream_free(p->stream);
    if (!p->borrowed_arena) lm_plan_mem_free(p, p->arena);
    if (!p->borrowed_threads) lm_free(p->ctx, p->threads);
    lm_free(p->ctx, p->counter); lm_free(p->ctx, p->lot); lm_free(p->ctx, p->walker); lm_plan_mem_free(p, p->consts);
    lm_arena_free(p->a);
}
