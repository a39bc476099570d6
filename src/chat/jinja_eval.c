/* jinja_eval.c — walking the tree: names and scopes, expressions, statements, loops, macros.
 *
 * A scope is opened where jinja2 opens one: each turn of a loop, macros, blocks of set, filter, with and call; not by if. A name is looked for
 * from the innermost scope outwards, then among the variables given, then among the functions. jinja2 decides this when it compiles; walking
 * the scopes at run time gives the same answers. */
#include <stdlib.h>
#include "chat/jinja_int.h"
#include "format/cursor.h"

enum { FLOW_BREAK = 1, FLOW_CONTINUE };
static void block(lmj *j, jnode *const *n, int count, jscope *s);

/* ---- scopes ---- */
static void bind(lmj *j, jscope *s, jstr *name, jv v) {
    for (int i = 0; i < s->n; i++) if (s->var[i].name == name) { s->var[i].v = v; return; }
    if (s->n == s->cap) {
        const int cap = s->cap ? 2 * s->cap : 4;
        void *p = lmj_alloc(j, (size_t)cap * sizeof *s->var);
        if (!p) return;
        if (s->n) memcpy(p, s->var, (size_t)s->n * sizeof *s->var);
        s->var = p; s->cap = cap;
    }
    s->var[s->n].name = name; s->var[s->n++].v = v;
}
static jscope *inner(lmj *j, jscope *up) {
    static jscope none;
    jscope *s = lmj_alloc(j, sizeof *s);
    if (!s) return &none;
    s->up = up;
    return s;
}
static jv resolve(lmj *j, jscope *s, jstr *name) {
    for (; s; s = s->up) {
        if (!lmj_step(j, s->n / 8)) return jv_none();
        for (int i = 0; i < s->n; i++) if (s->var[i].name == name) return s->var[i].v;
    }
    const jv *p = lmj_get(j, j->vars, jv_s(name));
    if (p) return *p;
    const jfunc *f = lmj_func(name);
    if (f) return (jv){ .t = JV_FUNC, .fn = f };
    return lmj_undef(j, "'%.*s' is undefined", (int)lm_min64((int64_t)name->n, 80), name->p);
}
static void assign(lmj *j, const jnode *to, jv v, jscope *s) {
    if (j->err) return;
    if (to->k == N_NAME) { bind(j, s, to->name, v); return; }
    if (to->k == N_NSREF) {
        const jv ns = resolve(j, s, to->a->name);
        if (ns.t != JV_NS) { lmj_fail(j, "cannot assign attribute on non-namespace object"); return; }
        if (to->name->n && *to->name->p == '_') { lmj_fail(j, "Chat templates cannot store underscore-prefixed attributes on a namespace"); return; }
        lmj_set(j, ns.d, jv_s(to->name), v);
        return;
    }
    jlist *l = v.t == JV_LIST || v.t == JV_TUPLE ? v.l : lmj_items(j, v);
    if (!l) return;
    if (l->n != to->n_kid) {
        lmj_fail(j, l->n < to->n_kid ? "not enough values to unpack (expected %d, got %lld)" : "too many values to unpack (expected %d, got %lld)", to->n_kid,
            (long long)l->n);
        return;
    }
    for (int i = 0; i < to->n_kid; i++) assign(j, to->kid[i], l->v[i], s);
}

/* ---- calls ---- */
static void add_kw(lmj *j, jargs *a, int *cap, jstr *name, jv v) {
    for (int i = 0; i < a->n_kw; i++)
        if (a->name[i]->n == name->n && !memcmp(a->name[i]->p, name->p, name->n)) {
            lmj_fail(j, "got multiple values for keyword argument '%.*s'", (int)lm_min64((int64_t)name->n, 60), name->p);
            return;
        }
    if (a->n_kw == *cap) {
        *cap = *cap ? 2 * *cap : 8;
        jstr **q = lmj_alloc(j, (size_t)*cap * sizeof *q);
        jv *w = lmj_alloc(j, (size_t)*cap * sizeof *w);
        if (!q || !w) return;
        if (a->n_kw) { memcpy(q, a->name, (size_t)a->n_kw * sizeof *q); memcpy(w, a->val, (size_t)a->n_kw * sizeof *w); }
        a->name = q; a->val = w;
    }
    a->name[a->n_kw] = name; a->val[a->n_kw++] = v;
}
static jargs arguments(lmj *j, const jargs_tree *t, jscope *s) {
    jargs a = { 0 };
    if (!t) return a;
    const jv pos = lmj_list(j, t->n);
    int cap = 0;
    for (int i = 0; i < t->n && !j->err; i++) lmj_push(j, pos.l, lmj_eval(j, t->pos[i], s));
    for (int i = 0; i < t->n_kw && !j->err; i++) add_kw(j, &a, &cap, t->name[i], lmj_eval(j, t->val[i], s));
    if (t->star && !j->err) {
        jlist *l = lmj_items(j, lmj_eval(j, t->star, s));
        for (int64_t i = 0; l && i < l->n; i++) lmj_push(j, pos.l, l->v[i]);
    }
    if (t->star2 && !j->err) {
        const jv d = lmj_eval(j, t->star2, s);
        if (!j->err && d.t != JV_DICT) lmj_fail(j, "argument after ** must be a mapping, not %s", lmj_kind(d));
        for (int64_t i = 0; !j->err && i < d.d->n; i++) {
            if (d.d->v[i].key.t != JV_STR) { lmj_fail(j, "keywords must be strings"); break; }
            add_kw(j, &a, &cap, d.d->v[i].key.s, d.d->v[i].val);
        }
    }
    a.pos = pos.l->v; a.n = (int)pos.l->n;
    return a;
}
/* What a body writes, as a string. */
static jv captured(lmj *j, jnode *const *n, int count, jscope *s) {
    jbuf b = { .j = j }, *out = j->out;
    j->out = &b; j->capture++;
    block(j, n, count, s);
    j->out = out; j->capture--;
    return lmj_done(&b);
}
static jv call_macro(lmj *j, const jmacro *m, const jargs *a) {
    const jnode *n = m->n;
    jscope *s = inner(j, m->scope);
    const int name_n = m->name ? (int)lm_min64((int64_t)m->name->n, 60) : 6;
    const char *name = m->name ? m->name->p : "caller";
    bool given[128] = { 0 };
    for (int i = 0; i < n->n_params; i++) {
        bind(j, s, n->params[i], lmj_undef(j, "parameter '%.*s' was not provided", (int)lm_min64((int64_t)n->params[i]->n, 60), n->params[i]->p));
        if (i < a->n) { bind(j, s, n->params[i], a->pos[i]); given[i] = true; }
    }
    jdict *rest = lmj_dict(j).d;
    jv caller = { 0 };
    for (int k = 0; k < a->n_kw && !j->err; k++) {
        int i = 0;
        while (i < n->n_params && (given[i] || a->name[k]->n != n->params[i]->n || memcmp(a->name[k]->p, n->params[i]->p, a->name[k]->n))) i++;
        if (i < n->n_params) { bind(j, s, n->params[i], a->val[k]); given[i] = true; }
        else if (n->uses_caller && lmj_is(a->name[k], "caller")) caller = a->val[k];
        else if (n->uses_kwargs) lmj_set(j, rest, jv_s(a->name[k]), a->val[k]);
        else if (lmj_is(a->name[k], "caller")) lmj_fail(j,
            "macro '%.*s' was invoked with two values for the special caller argument. This is most likely a bug.", name_n, name);
        else lmj_fail(j, "macro '%.*s' takes no keyword argument '%.*s'", name_n, name, (int)lm_min64((int64_t)a->name[k]->n, 60), a->name[k]->p);
    }
    if (a->n > n->n_params && !n->uses_varargs && !j->err) lmj_fail(j, "macro '%.*s' takes not more than %d argument(s)", name_n, name, n->n_params);
    if (n->uses_caller) {
        bool param = false;
        for (int i = 0; i < n->n_params; i++) param |= n->params[i] == j->t->caller;
        if (!param) bind(j, s, j->t->caller, caller.t != JV_MISSING && caller.t != JV_NONE ? caller : lmj_undef(j, "No caller defined"));
    }
    if (n->uses_kwargs) bind(j, s, j->t->kwargs, (jv){ .t = JV_DICT, .d = rest });
    if (n->uses_varargs) {
        jv l = lmj_list(j, 0);
        for (int i = n->n_params; i < a->n; i++) lmj_push(j, l.l, a->pos[i]);
        l.t = JV_TUPLE;
        bind(j, s, j->t->varargs, l);
    }
    for (int i = 0; i < n->n_params && !j->err; i++) {
        const int d = i - (n->n_params - n->n_other);
        if (!given[i] && d >= 0) bind(j, s, n->params[i], lmj_eval(j, n->other[d], s));
    }
    if (j->err || !lmj_enter(j)) return jv_none();
    const jv r = captured(j, n->kid, n->n_kid, s);
    lmj_leave(j);
    return r;
}
static void run_loop(lmj *j, const jnode *n, jv over, jscope *s, int64_t depth0);
static jv call_loop(lmj *j, const jloop *l, const jargs *a) {
    if (!l->node->recursive) return lmj_fail(j, "The loop must have the 'recursive' marker to be called recursively.");
    if (a->n != 1 || a->n_kw) return lmj_fail(j, "loop() takes one iterable");
    if (!lmj_enter(j)) return jv_none();
    jbuf b = { .j = j }, *out = j->out;
    j->out = &b; j->capture++;
    run_loop(j, l->node, a->pos[0], l->scope, l->depth0 + 1);
    j->out = out; j->capture--;
    lmj_leave(j);
    return lmj_done(&b);
}
jv lmj_call(lmj *j, jv f, const jargs *a) {
    if (j->err) return f;
    switch (f.t) {
    case JV_FUNC: return f.fn->fn(j, a);
    case JV_METHOD: return f.me->row->fn(j, f.me->self, a);
    case JV_MACRO: return call_macro(j, f.m, a);
    case JV_LOOP: return call_loop(j, f.loop, a);
    case JV_JOINER: return f.cy->at++ ? f.cy->items->v[0] : lmj_lit(j, "");
    case JV_UNDEF: lmj_used(j, f); return f;
    default: return lmj_fail(j, "'%s' object is not callable", lmj_kind(f));
    }
}

/* ---- expressions ---- */
static jv filtered(lmj *j, const jnode *n, jscope *s, jv in) {       /* in: for filter blocks, whose first filter has no operand */
    const jv v = !n->a ? in : n->a->k == N_FILTER ? filtered(j, n->a, s, in) : lmj_eval(j, n->a, s);
    if (j->err) return v;
    j->line = n->line;
    if (!n->filter) return lmj_fail(j, "No filter named '%.*s' found.", (int)lm_min64((int64_t)n->name->n, 60), n->name->p);
    const jargs a = arguments(j, n->args, s);
    return j->err ? v : n->filter->fn(j, v, &a);
}
static bool compared(lmj *j, jop op, jv a, jv b) {
    switch (op) {
    case OP_EQ: return lmj_eq(j, a, b);
    case OP_NE: return !lmj_eq(j, a, b);
    case OP_IN: return lmj_in(j, a, b);
    case OP_NOTIN: return !lmj_in(j, a, b);
    default: return lmj_less(j, a, b, op);
    }
}
static jv sequence(lmj *j, const jnode *n, jscope *s) {
    jv l = lmj_list(j, n->n_kid);
    for (int i = 0; i < n->n_kid && !j->err; i++) lmj_push(j, l.l, lmj_eval(j, n->kid[i], s));
    if (n->k == N_TUPLE) l.t = JV_TUPLE;
    return l;
}
static jv slice_of(lmj *j, const jnode *n, jscope *s) {
    jslice *sl = lmj_alloc(j, sizeof *sl);
    if (!sl) return jv_none();
    sl->lo = n->a ? lmj_eval(j, n->a, s) : jv_none();
    sl->hi = n->b ? lmj_eval(j, n->b, s) : jv_none();
    sl->step = n->c ? lmj_eval(j, n->c, s) : jv_none();
    return (jv){ .t = JV_SLICE, .sl = sl };
}
static jv signed_of(lmj *j, jv v, bool neg) {
    if (v.t == JV_FLOAT) return jv_f(neg ? -v.f : v.f);
    if (!jv_is_int(v)) { if (!lmj_used(j, v)) return v; return lmj_fail(j, "bad operand type for unary %c: '%s'", neg ? '-' : '+', lmj_kind(v)); }
    const int64_t i = jv_int(v);
    return neg && i == INT64_MIN ? lmj_limit(j, "an integer of more than 64 bits") : jv_i(neg ? -i : i);
}
static jv call_node(lmj *j, const jnode *n, jscope *s, jv caller) {
    const jv f = lmj_eval(j, n->a, s);
    jargs a = arguments(j, n->args, s);
    if (caller.t != JV_MISSING && !j->err) { int cap = a.n_kw; add_kw(j, &a, &cap, j->t->caller, caller); }
    j->line = n->line;
    return lmj_call(j, f, &a);
}
static jv evaluate(lmj *j, const jnode *n, jscope *s) {
    jv a, b;
    switch (n->k) {
    case N_CONST: return n->v;
    case N_NAME: return resolve(j, s, n->name);
    case N_LIST: case N_TUPLE: return sequence(j, n, s);
    case N_DICT:
        a = lmj_dict(j);
        for (int i = 0; i < n->n_kid && !j->err; i++) { b = lmj_eval(j, n->kid[i], s); lmj_set(j, a.d, b, lmj_eval(j, n->other[i], s)); }
        return a;
    case N_ATTR: a = lmj_eval(j, n->a, s); return j->err ? a : lmj_attr(j, a, n->name);
    case N_ITEM: a = lmj_eval(j, n->a, s); b = lmj_eval(j, n->b, s); return j->err ? a : lmj_index(j, a, b);
    case N_SLICE: return slice_of(j, n, s);
    case N_CALL: return call_node(j, n, s, (jv){ 0 });
    case N_FILTER: return filtered(j, n, s, jv_none());
    case N_TEST: {
        a = lmj_eval(j, n->a, s);
        if (!n->test) return lmj_fail(j, "No test named '%.*s' found.", (int)lm_min64((int64_t)n->name->n, 60), n->name->p);
        const jargs x = arguments(j, n->args, s);
        return j->err ? a : jv_b(n->test->fn(j, a, &x));
    }
    case N_NOT: a = lmj_eval(j, n->a, s); return jv_b(!lmj_true(j, a));
    case N_NEG: case N_POS: a = lmj_eval(j, n->a, s); return j->err ? a : signed_of(j, a, n->k == N_NEG);
    case N_AND: a = lmj_eval(j, n->a, s); return j->err || !lmj_true(j, a) ? a : lmj_eval(j, n->b, s);
    case N_OR: a = lmj_eval(j, n->a, s); return j->err || lmj_true(j, a) ? a : lmj_eval(j, n->b, s);
    case N_COND:
        a = lmj_eval(j, n->a, s);
        if (j->err) return a;
        if (lmj_true(j, a)) return lmj_eval(j, n->b, s);
        return n->c ? lmj_eval(j, n->c, s) : lmj_undef(j, "the inline if-expression on line %d evaluated to false and no else section was defined.", n->line);
    case N_BINARY: a = lmj_eval(j, n->a, s); b = lmj_eval(j, n->b, s); return j->err ? a : lmj_binary(j, n->op, a, b);
    case N_CONCAT: {
        jbuf out = { .j = j };
        for (int i = 0; i < n->n_kid && !j->err; i++) lmj_put_str(&out, lmj_text(j, lmj_eval(j, n->kid[i], s)));
        return lmj_done(&out);
    }
    case N_COMPARE:
        a = lmj_eval(j, n->kid[0], s);
        for (int i = 0; i + 1 < n->n_kid && !j->err; i++) {
            b = lmj_eval(j, n->kid[i + 1], s);
            if (j->err || !compared(j, n->ops[i], a, b)) return jv_b(false);
            a = b;
        }
        return jv_b(true);
    default: return lmj_fail(j, "not an expression");
    }
}
jv lmj_eval(lmj *j, const jnode *n, jscope *s) {
    if (!lmj_step(j, 1) || !lmj_enter(j)) return jv_none();
    const int line = j->line;
    j->line = n->line;
    const jv v = evaluate(j, n, s);
    if (!j->err) j->line = line;
    lmj_leave(j);
    return v;
}

/* ---- loops ---- */
bool lmj_filtered(lmj *j, jiter *it, jv *out) {
    while (lmj_next(j, it->inner, out)) {
        jscope *s = inner(j, it->scope);
        assign(j, it->node->a, *out, s);
        const jv ok = lmj_eval(j, it->node->c, s);
        if (j->err) return false;
        if (lmj_true(j, ok)) return true;
    }
    return false;
}
static bool loop_next(lmj *j, jloop *l, jv *out) {
    if (l->after.t != JV_MISSING) { *out = l->after; l->after = (jv){ 0 }; }
    else if (!lmj_next(j, &l->it, out)) return false;
    l->index0++;
    l->before = l->current; l->current = *out;
    return true;
}
static bool loop_peek(lmj *j, jloop *l) {
    if (l->after.t != JV_MISSING) return true;
    jv v;
    if (!lmj_next(j, &l->it, &v)) return false;
    l->after = v;
    return true;
}
static int64_t loop_length(lmj *j, jloop *l) {
    if (l->length >= 0) return l->length;
    const bool gen = l->it.k == IT_FILTERED;
    if (!gen) return l->length = l->it.k == IT_NONE ? 0 : lmj_len(j, l->it.src);
    jv rest = lmj_list(j, 0), v;
    while (lmj_next(j, &l->it, &v)) lmj_push(j, rest.l, v);
    l->it = (jiter){ .k = IT_ARRAY, .src = rest };
    return l->length = rest.l->n + l->index0 + 1 + (l->after.t != JV_MISSING);
}
static jv cycle(lmj *j, jv self, const jargs *a) {
    if (!a->n) return lmj_fail(j, "no items for cycling given");
    return a->pos[self.loop->index0 % a->n];
}
static jv changed(lmj *j, jv self, const jargs *a) {
    jloop *l = self.loop;
    jlist *now = lmj_list(j, a->n).l;
    for (int i = 0; i < a->n; i++) lmj_push(j, now, a->pos[i]);
    const bool same = l->changed && lmj_eq(j, (jv){ .t = JV_TUPLE, .l = l->changed }, (jv){ .t = JV_TUPLE, .l = now });
    l->changed = now;
    return jv_b(!same);
}
jv lmj_loop_attr(lmj *j, jloop *l, jstr *name) {
    static const jmethod_row rows[] = { { "cycle", cycle }, { "changed", changed } };
    if (lmj_is(name, "index0")) return jv_i(l->index0);
    if (lmj_is(name, "index")) return jv_i(l->index0 + 1);
    if (lmj_is(name, "first")) return jv_b(l->index0 == 0);
    if (lmj_is(name, "last")) return jv_b(!loop_peek(j, l));
    if (lmj_is(name, "length")) return jv_i(loop_length(j, l));
    if (lmj_is(name, "revindex0")) return jv_i(loop_length(j, l) - l->index0 - 1);
    if (lmj_is(name, "revindex")) return jv_i(loop_length(j, l) - l->index0);
    if (lmj_is(name, "depth0")) return jv_i(l->depth0);
    if (lmj_is(name, "depth")) return jv_i(l->depth0 + 1);
    if (lmj_is(name, "previtem")) return l->index0 == 0 ? lmj_undef(j, "there is no previous item") : l->before;
    if (lmj_is(name, "nextitem")) return loop_peek(j, l) ? l->after : lmj_undef(j, "there is no next item");
    for (int i = 0; i < LM_COUNT(rows); i++) {
        if (!lmj_is(name, rows[i].name)) continue;
        jmethod *m = lmj_alloc(j, sizeof *m);
        if (!m) return jv_none();
        *m = (jmethod){ { .t = JV_LOOP, .loop = l }, &rows[i] };
        return (jv){ .t = JV_METHOD, .me = m };
    }
    return (jv){ 0 };
}
static void run_loop(lmj *j, const jnode *n, jv over, jscope *s, int64_t depth0) {
    jloop *l = lmj_alloc(j, sizeof *l);
    if (!l) return;
    *l = (jloop){ .index0 = -1, .length = -1, .depth0 = depth0, .node = n, .scope = s };
    if (!lmj_iter(j, over, &l->it)) return;
    if (n->c) {
        jiter *of = lmj_alloc(j, sizeof *of);
        if (!of) return;
        *of = l->it;
        l->it = (jiter){ .k = IT_FILTERED, .inner = of, .node = n, .scope = s };
    }
    bool none = true;                                                /* as jinja2's: a turn that ends by continue does not count */
    jv v;
    while (loop_next(j, l, &v)) {
        jscope *turn = inner(j, s);
        bind(j, turn, j->t->loop, (jv){ .t = JV_LOOP, .loop = l });
        assign(j, n->a, v, turn);
        block(j, n->kid, n->n_kid, turn);
        if (j->err) return;
        const int flow = j->flow;
        j->flow = 0;
        if (!flow) none = false;
        if (flow == FLOW_BREAK) break;
    }
    if (none && !j->err && n->n_other) block(j, n->other, n->n_other, inner(j, s));
}

/* ---- statements ---- */
static void write_value(lmj *j, jv v) {
    if (j->err) return;
    lmj_put_str(j->out, lmj_text(j, v));
    if (!j->capture && j->out->n > j->max_out) lmj_limit(j, "more than %zu bytes of output", j->max_out);
}
static jv macro_of(lmj *j, const jnode *n, jscope *s, jstr *name) {
    jmacro *m = lmj_alloc(j, sizeof *m);
    if (!m) return jv_none();
    *m = (jmacro){ n, s, name };
    return (jv){ .t = JV_MACRO, .m = m };
}
static void generation(lmj *j, const jnode *n, jscope *s) {
    const size_t start = j->out->n;
    block(j, n->kid, n->n_kid, inner(j, s));
    if (j->err || j->capture) return;
    if (j->n_span == j->cap_span) {
        const size_t cap = j->cap_span ? 2 * j->cap_span : 8;
        lm_jinja_span *p = lmj_alloc(j, cap * sizeof *p);
        if (!p) return;
        if (j->n_span) memcpy(p, j->span, j->n_span * sizeof *p);
        j->span = p; j->cap_span = cap;
    }
    j->span[j->n_span++] = (lm_jinja_span){ start, j->out->n };
}
static void if_chain(lmj *j, const jnode *n, jscope *s) {
    for (;;) {
        const jv test = lmj_eval(j, n->a, s);
        if (j->err) return;
        if (lmj_true(j, test)) { block(j, n->kid, n->n_kid, s); return; }
        if (n->n_other == 1 && n->other[0]->k == N_IF && n->other[0]->recursive) { n = n->other[0]; continue; }
        block(j, n->other, n->n_other, s);
        return;
    }
}
static void with_block(lmj *j, const jnode *n, jscope *s) {
    jscope *in = inner(j, s);
    for (int i = 0; i < n->a->n_kid && !j->err; i++) assign(j, n->a->kid[i], lmj_eval(j, n->b->kid[i], s), in);
    block(j, n->kid, n->n_kid, in);
}
static void execute(lmj *j, const jnode *n, jscope *s) {
    j->line = n->line;
    switch (n->k) {
    case N_TEXT: write_value(j, jv_s(n->name)); break;
    case N_PRINT: for (int i = 0; i < n->n_kid && !j->err; i++) write_value(j, lmj_eval(j, n->kid[i], s)); break;
    case N_FOR: { const jv v = lmj_eval(j, n->b, s); if (!j->err) run_loop(j, n, v, s, 0); break; }
    case N_IF: if_chain(j, n, s); break;
    case N_SET: assign(j, n->a, lmj_eval(j, n->b, s), s); break;
    case N_SETBLOCK: {
        jv v = captured(j, n->kid, n->n_kid, inner(j, s));
        if (j->flow || j->err) break;                                /* a break leaves without assigning */
        if (n->c) v = filtered(j, n->c, s, v);
        assign(j, n->a, v, s);
        break;
    }
    case N_MACRO: bind(j, s, n->name, macro_of(j, n, s, n->name)); break;
    case N_CALLBLOCK: write_value(j, call_node(j, n->a, s, macro_of(j, n, s, NULL))); break;
    case N_FILTERBLOCK: {
        jscope *in = inner(j, s);
        const jv v = captured(j, n->kid, n->n_kid, in);
        if (!j->flow && !j->err) write_value(j, filtered(j, n->a, in, v));
        break;
    }
    case N_WITH: with_block(j, n, s); break;
    case N_BREAK: j->flow = FLOW_BREAK; break;
    case N_CONTINUE: j->flow = FLOW_CONTINUE; break;
    case N_GENERATION: generation(j, n, s); break;
    case N_BLOCK: block(j, n->kid, n->n_kid, inner(j, j->root)); break;
    case N_REFUSE: lmj_fail(j, "{%% %.*s %%} needs other templates, which a chat template has not", (int)lm_min64((int64_t)n->name->n, 40), n->name->p); break;
    default: lmj_fail(j, "not a statement");
    }
}
static void block(lmj *j, jnode *const *n, int count, jscope *s) {
    if (!lmj_enter(j)) return;
    for (int i = 0; i < count && !j->err && !j->flow && lmj_step(j, 1); i++) execute(j, n[i], s);
    lmj_leave(j);
}

/* ---- the machine ---- */
jv lmj_fail(lmj *j, const char *fmt, ...) {
    if (j->err) return jv_none();
    char t[512]; va_list ap;
    va_start(ap, fmt); vsnprintf(t, sizeof t, fmt, ap); va_end(ap);
    j->err = lm_fail(j->ctx, j->compiling ? LM_E_FORMAT : LM_E_DATA, "%s:%d: %s", j->t->name, j->line, t);
    return jv_none();
}
jv lmj_limit(lmj *j, const char *fmt, ...) {
    if (j->err) return jv_none();
    char t[256]; va_list ap;
    va_start(ap, fmt); vsnprintf(t, sizeof t, fmt, ap); va_end(ap);
    j->err = lm_fail(j->ctx, LM_E_RANGE, "%s:%d: %s: over the limit for templates", j->t->name, j->line, t);
    return jv_none();
}
void *lmj_alloc(lmj *j, size_t n) {
    if (j->err) return NULL;
    if (n > j->max_mem - j->mem) { lmj_limit(j, "more than %zu MiB of memory", j->max_mem >> 20); return NULL; }
    void *p = lm_arena_alloc(j->a, n);
    if (!p) { j->err = LM_E_NOMEM; return NULL; }
    j->mem += n;
    return p;
}
bool lmj_step(lmj *j, int64_t n) {
    if (j->err) return false;
    if ((j->steps += n) <= j->max_steps) return true;
    lmj_limit(j, "more than %lld steps", (long long)j->max_steps);
    return false;
}
bool lmj_enter(lmj *j) {
    if (j->err) return false;
    if (++j->depth <= j->max_depth) return true;
    j->depth--;
    lmj_limit(j, "more than %lld calls, blocks and values inside each other", (long long)j->max_depth);
    return false;
}
static void machine(lmj *j, lm_ctx *ctx, const lm_jinja *t, lm_arena *a, const lm_jinja_opts *o) {
    *j = (lmj){ .ctx = ctx, .a = a, .t = t, .line = 1 };
    j->max_steps = o && o->steps ? o->steps : 10000000;
    j->max_depth = o && o->depth ? o->depth : 400;
    j->max_mem = o && o->memory ? o->memory : (size_t)256 << 20;
    j->max_out = o && o->output ? o->output : (size_t)64 << 20;
    j->now = o && o->now ? *o->now : lm_wall();
}
lm_err lm_jinja_compile(lm_jinja **out, lm_ctx *ctx, const char *name, const char *text, size_t n) {
    if (n > LM_JINJA_MAX_TEMPLATE) return lm_fail(ctx, LM_E_RANGE, "%s: a template of %zu bytes, the limit is %d", name, n, LM_JINJA_MAX_TEMPLATE);
    if (!lm_utf8_ok(text, n)) return lm_fail(ctx, LM_E_FORMAT, "%s: the template is not UTF-8", name);
    lm_arena *a;
    LM_TRY(lm_arena_new(&a, ctx, LM_MEM_TOK, 0));
    lm_jinja *t = lm_arena_alloc(a, sizeof *t);
    lmj j;
    if (t) *t = (lm_jinja){ .ctx = ctx, .a = a, .name = lm_arena_strdup(a, name), .source = lm_arena_alloc(a, n + 1), .n_source = n };
    if (!t || !t->name || !t->source) { lm_arena_free(a); return LM_E_NOMEM; }
    if (n) memcpy(t->source, text, n);
    machine(&j, ctx, t, a, NULL);
    j.compiling = true;
    int n_tok = 0;
    const jtoken *tok = lmj_lex(&j, text, n, &n_tok);
    if (!j.err) lmj_parse(&j, t, tok, n_tok);
    if (j.err) { lm_arena_free(a); return j.err; }
    *out = t;
    return LM_OK;
}
void lm_jinja_free(lm_jinja *t) { if (t) lm_arena_free(t->a); }
const char *lm_jinja_source(const lm_jinja *t, size_t *n) { *n = t->n_source; return t->source; }

static jdict *variables(lmj *j, const json_t *vars, lm_jinja_trust *trusted, void *ud) {
    const jv d = lmj_dict(j);
    const char *key; json_t *v;
    json_object_foreach((json_t *)(uintptr_t)vars, key, v) {
        const jv name = lmj_str_of(j, key, strlen(key), false);
        if (strcmp(key, "messages") || !json_is_array(v) || !trusted) {
            lmj_set(j, d.d, name, lmj_from_json(j, v, !trusted || !trusted(ud, key, NULL, NULL))); continue;
        }
        const jv l = lmj_list(j, (int64_t)json_array_size(v));
        for (size_t i = 0; i < json_array_size(v) && !j->err; i++) {
            json_t *m = json_array_get(v, i), *x;
            const char *k;
            if (!json_is_object(m)) { lmj_push(j, l.l, lmj_from_json(j, m, true)); continue; }
            const jv o = lmj_dict(j);
            json_object_foreach(m, k, x) lmj_set(j, o.d, lmj_str_of(j, k, strlen(k), true), lmj_from_json(j, x, !trusted(ud, key, m, k)));
            lmj_push(j, l.l, o);
        }
        lmj_set(j, d.d, name, l);
    }
    return d.d;
}
lm_err lm_jinja_render(const lm_jinja *t, lm_ctx *ctx, const json_t *vars, lm_jinja_trust *trusted, void *ud, const lm_jinja_opts *o, lm_jinja_result *out) {
    if (!json_is_object(vars)) return lm_fail(ctx, LM_E_CONFIG, "%s: a template is rendered with an object of variables", t->name);
    lm_arena *a;
    LM_TRY(lm_arena_new(&a, ctx, LM_MEM_TOK, 0));
    lmj j;
    machine(&j, ctx, t, a, o);
    jbuf b = { .j = &j };
    jscope root = { 0 };
    j.out = &b; j.root = &root;
    j.vars = variables(&j, vars, trusted, ud);
    if (!j.err) block(&j, t->body, t->n_body, &root);
    lm_jinja_result r = { .text.ctx = ctx, .marks.ctx = ctx };
    lm_err err = j.err;
    if (!err) {
        lm_str_add(&r.text, b.n ? b.p : "", b.n);
        if (b.m) lm_str_add(&r.marks, b.m, b.n);
        else for (size_t i = 0; i < b.n; i++) lm_str_putc(&r.marks, b.marked);
        if (j.n_span && !(r.span = lm_alloc(ctx, LM_MEM_TOK, j.n_span * sizeof *r.span))) err = LM_E_NOMEM;
        else if (j.n_span) memcpy(r.span, j.span, j.n_span * sizeof *r.span);
        r.n_span = j.n_span;
        if (!err) err = lm_str_err(&r.text);
        if (!err) err = lm_str_err(&r.marks);
    }
    lm_arena_free(a);
    if (err) lm_jinja_result_free(ctx, &r); else *out = r;
    return err;
}
void lm_jinja_result_free(lm_ctx *ctx, lm_jinja_result *r) {
    lm_str_free(&r->text); lm_str_free(&r->marks); lm_free(ctx, r->span);
    memset(r, 0, sizeof *r);
}
