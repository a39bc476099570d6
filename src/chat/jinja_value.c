/* jinja_value.c — values: truth, equality, order, containers, iteration, subscripts, arithmetic. All of it as Python does it. */
#include <math.h>
#include <stdlib.h>
#include "chat/jinja_int.h"
#include "format/cursor.h"

const char *lmj_kind(jv v) {
    static const char *const names[] = { "missing", "Undefined", "NoneType", "bool", "int", "float", "str", "list", "tuple", "dict", "Namespace", "range",
        "generator",
                                         "dict view", "Macro", "function", "method", "LoopContext", "Cycler", "Joiner", "slice" };
    return names[v.t];
}
jv lmj_undef(lmj *j, const char *fmt, ...) {
    jwhy *w = lmj_alloc(j, sizeof *w);
    char t[256]; va_list ap;
    va_start(ap, fmt); vsnprintf(t, sizeof t, fmt, ap); va_end(ap);
    char *p = w ? lmj_alloc(j, strlen(t) + 1) : NULL;
    if (!p) return (jv){ .t = JV_UNDEF };
    memcpy(p, t, strlen(t) + 1);
    w->text = p;
    return (jv){ .t = JV_UNDEF, .why = w };
}
bool lmj_used(lmj *j, jv v) {
    if (v.t != JV_UNDEF) return true;
    lmj_fail(j, "%s", v.why ? v.why->text : "an undefined value is used");
    return false;
}
bool lmj_true(lmj *j, jv v) {
    switch (v.t) {
    case JV_MISSING: case JV_UNDEF: case JV_NONE: return false;
    case JV_BOOL: return v.b;
    case JV_INT: return v.i != 0;
    case JV_FLOAT: return v.f != 0;
    case JV_LOOP: return lmj_len(j, v) != 0;
    default: { const int64_t n = lmj_len(j, v); return n != 0; }
    }
}
int64_t lmj_len(lmj *j, jv v) {
    switch (v.t) {
    case JV_UNDEF: return 0;
    case JV_STR: return lmj_chars(v.s);
    case JV_LIST: case JV_TUPLE: return v.l->n;
    case JV_DICT: return v.d->n;
    case JV_RANGE: return v.r->n;
    case JV_VIEW: return v.view->d->n;
    case JV_LOOP: { const jv n = lmj_loop_attr(j, v.loop, lmj_lit(j, "length").s); return n.t == JV_INT ? n.i : 0; }
    default: return -1;
    }
}

/* ---- equality and order ---- */
static bool same_items(lmj *j, const jlist *a, const jlist *b) {
    if (a->n != b->n) return false;
    for (int64_t i = 0; i < a->n && !j->err; i++) if (!lmj_eq(j, a->v[i], b->v[i])) return false;
    return true;
}
bool lmj_eq(lmj *j, jv a, jv b) {
    if (!lmj_step(j, 1)) return false;
    if (jv_is_num(a) && jv_is_num(b)) {
        if (a.t != JV_FLOAT && b.t != JV_FLOAT) return jv_int(a) == jv_int(b);
        return jv_num(a) == jv_num(b);
    }
    if (a.t != b.t) return false;
    bool same = false;
    switch (a.t) {
    case JV_UNDEF: case JV_NONE: case JV_MISSING: return true;
    case JV_STR: return a.s->n == b.s->n && lmj_step(j, (int64_t)(a.s->n / 64)) && !memcmp(a.s->p, b.s->p, a.s->n);
    case JV_LIST: case JV_TUPLE:
        if (a.l == b.l) return true;
        if (!lmj_enter(j)) return false;
        same = same_items(j, a.l, b.l);
        lmj_leave(j);
        return same;
    case JV_DICT:
        if (a.d == b.d) return true;
        if (a.d->n != b.d->n || !lmj_enter(j)) return false;
        same = true;
        for (int64_t i = 0; i < a.d->n && same && !j->err; i++) {
            const jv *o = lmj_get(j, b.d, a.d->v[i].key);
            same = o && lmj_eq(j, a.d->v[i].val, *o);
        }
        lmj_leave(j);
        return same;
    case JV_RANGE: return a.r->n == b.r->n && (!a.r->n || (a.r->start == b.r->start && (a.r->n == 1 || a.r->step == b.r->step)));
    case JV_FUNC: return a.fn == b.fn;
    default: return a.s == b.s;                                      /* identity */
    }
}
bool lmj_less(lmj *j, jv a, jv b, jop op) {
    static const char *const sign[] = { [OP_LT] = "<", [OP_LE] = "<=", [OP_GT] = ">", [OP_GE] = ">=" };
    if (!lmj_step(j, 1) || !lmj_used(j, a) || !lmj_used(j, b)) return false;
    if (jv_is_num(a) && jv_is_num(b)) {
        if (a.t != JV_FLOAT && b.t != JV_FLOAT) {
            const int64_t x = jv_int(a), y = jv_int(b);
            return op == OP_LT ? x < y : op == OP_LE ? x <= y : op == OP_GT ? x > y : x >= y;
        }
        const double x = jv_num(a), y = jv_num(b);
        return op == OP_LT ? x < y : op == OP_LE ? x <= y : op == OP_GT ? x > y : x >= y;
    }
    if (a.t == JV_STR && b.t == JV_STR) {                            /* UTF-8 orders as code points do */
        const size_t n = a.s->n < b.s->n ? a.s->n : b.s->n;
        int c = lmj_step(j, (int64_t)(n / 64)) ? memcmp(a.s->p, b.s->p, n) : 0;
        if (!c) c = a.s->n < b.s->n ? -1 : a.s->n > b.s->n;
        return op == OP_LT ? c < 0 : op == OP_LE ? c <= 0 : op == OP_GT ? c > 0 : c >= 0;
    }
    if (a.t == b.t && (a.t == JV_LIST || a.t == JV_TUPLE)) {
        bool r = false;
        if (!lmj_enter(j)) return false;
        int64_t i = 0;
        while (i < a.l->n && i < b.l->n && !j->err && lmj_eq(j, a.l->v[i], b.l->v[i])) i++;
        if (i < a.l->n && i < b.l->n) r = lmj_less(j, a.l->v[i], b.l->v[i], op);
        else r = op == OP_LT ? a.l->n < b.l->n : op == OP_LE ? a.l->n <= b.l->n : op == OP_GT ? a.l->n > b.l->n : a.l->n >= b.l->n;
        lmj_leave(j);
        return r;
    }
    lmj_fail(j, "'%s' not supported between instances of '%s' and '%s'", sign[op], lmj_kind(a), lmj_kind(b));
    return false;
}
jv lmj_sorted(lmj *j, jlist *keys, jlist *vals, bool reverse) {      /* merge sort from the bottom */
    const int64_t n = vals->n;
    int32_t *x = lmj_alloc(j, (size_t)(n + 1) * sizeof *x), *y = lmj_alloc(j, (size_t)(n + 1) * sizeof *y);
    const jv out = lmj_list(j, n);
    if (!x || !y || j->err) return out;
    for (int64_t i = 0; i < n; i++) x[i] = (int32_t)i;
    for (int64_t w = 1; w < n && !j->err; w *= 2) {
        for (int64_t lo = 0; lo < n; lo += 2 * w) {
            int64_t a = lo, b = lm_min64(lo + w, n), k = lo;
            const int64_t ae = b, be = lm_min64(lo + 2 * w, n);
            while (a < ae && b < be) {                               /* equal ones keep their order, reversed or not */
                const jv ka = keys->v[x[a]], kb = keys->v[x[b]];
                const bool take_b = reverse ? lmj_less(j, ka, kb, OP_LT) : lmj_less(j, kb, ka, OP_LT);
                if (j->err) return out;
                y[k++] = take_b ? x[b++] : x[a++];
            }
            while (a < ae) y[k++] = x[a++];
            while (b < be) y[k++] = x[b++];
        }
        int32_t *t = x; x = y; y = t;
    }
    for (int64_t i = 0; i < n; i++) lmj_push(j, out.l, vals->v[x[i]]);
    return out;
}

/* ---- lists and dicts ---- */
jv lmj_list(lmj *j, int64_t cap) {
    static jlist none;
    jlist *l = lmj_alloc(j, sizeof *l);
    if (!l) return (jv){ .t = JV_LIST, .l = &none };
    if (cap && (l->v = lmj_alloc(j, (size_t)cap * sizeof *l->v))) l->cap = cap;
    return (jv){ .t = JV_LIST, .l = l };
}
void lmj_push(lmj *j, jlist *l, jv v) {
    if (j->err || !lmj_step(j, 1)) return;
    if (l->n == l->cap) {
        const int64_t cap = l->cap ? 2 * l->cap : 4;
        jv *p = lmj_alloc(j, (size_t)cap * sizeof *p);
        if (!p) return;
        if (l->n) memcpy(p, l->v, (size_t)l->n * sizeof *p);
        l->v = p; l->cap = cap;
    }
    l->v[l->n++] = v;
}
jv lmj_dict(lmj *j) {
    static jdict none;
    jdict *d = lmj_alloc(j, sizeof *d);
    return (jv){ .t = JV_DICT, .d = d ? d : &none };
}
static uint64_t hash_of(lmj *j, jv k) {
    if (!lmj_step(j, 1)) return 0;
    switch (k.t) {
    case JV_STR: return lmj_step(j, (int64_t)(k.s->n / 64)) ? lm_hash64(k.s->p, k.s->n, 1) : 0;
    case JV_BOOL: case JV_INT: { const double x = (double)jv_int(k); return lm_hash64(&x, sizeof x, 2); }
    case JV_FLOAT: { const double x = k.f == 0 ? 0 : k.f; return lm_hash64(&x, sizeof x, 2); }
    case JV_NONE: return 3;
    case JV_UNDEF: return 4;
    case JV_TUPLE: {
        uint64_t h = 5;
        if (!lmj_enter(j)) return 0;
        for (int64_t i = 0; i < k.l->n && !j->err; i++) { const uint64_t x = hash_of(j, k.l->v[i]); h = lm_hash64(&x, sizeof x, h); }
        lmj_leave(j);
        return h;
    }
    case JV_LIST: case JV_DICT: lmj_fail(j, "unhashable type: '%s'", lmj_kind(k)); return 0;
    default: return lm_hash64(&k.s, sizeof k.s, 6);
    }
}
enum { INDEX_FROM = 16 };
static int64_t lookup(lmj *j, const jdict *d, jv key, uint64_t h) {
    if (!d->slot) {
        for (int64_t i = 0; i < d->n; i++) if (d->v[i].hash == h && lmj_eq(j, d->v[i].key, key)) return i;
        return -1;
    }
    for (int64_t s = (int64_t)(h & (uint64_t)(d->slots - 1));; s = (s + 1) & (d->slots - 1)) {
        const int32_t i = d->slot[s];
        if (!i) return -1;
        if (d->v[i - 1].hash == h && lmj_eq(j, d->v[i - 1].key, key)) return i - 1;
    }
}
static void index_all(lmj *j, jdict *d) {
    d->slots = d->slots ? d->slots : 4 * INDEX_FROM;
    while (d->slots < 3 * d->n) d->slots *= 2;
    d->slot = lmj_alloc(j, (size_t)d->slots * sizeof *d->slot);
    if (!d->slot) return;
    for (int64_t i = 0; i < d->n; i++) {
        int64_t s = (int64_t)(d->v[i].hash & (uint64_t)(d->slots - 1));
        while (d->slot[s]) s = (s + 1) & (d->slots - 1);
        d->slot[s] = (int32_t)i + 1;
    }
}
jv *lmj_get(lmj *j, const jdict *d, jv key) {
    const uint64_t h = hash_of(j, key);
    if (j->err) return NULL;
    const int64_t i = lookup(j, d, key, h);
    return i < 0 ? NULL : &d->v[i].val;
}
jv *lmj_gets(lmj *j, const jdict *d, const char *key) {
    jstr s = { .p = key, .n = strlen(key) };
    return lmj_get(j, d, jv_s(&s));
}
void lmj_set(lmj *j, jdict *d, jv key, jv val) {
    const uint64_t h = hash_of(j, key);
    if (j->err || !lmj_step(j, 1)) return;
    const int64_t at = lookup(j, d, key, h);
    if (at >= 0) { d->v[at].val = val; return; }
    if (d->n == INT32_MAX - 1) { lmj_limit(j, "a dict of 2^31 keys"); return; }
    if (d->n == d->cap) {
        const int64_t cap = d->cap ? 2 * d->cap : 4;
        jpair *p = lmj_alloc(j, (size_t)cap * sizeof *p);
        if (!p) return;
        if (d->n) memcpy(p, d->v, (size_t)d->n * sizeof *p);
        d->v = p; d->cap = cap;
    }
    d->v[d->n++] = (jpair){ key, val, h };
    if (d->n < INDEX_FROM) return;
    if (!d->slot || d->slots < 2 * d->n) { index_all(j, d); return; }
    int64_t s = (int64_t)(h & (uint64_t)(d->slots - 1));
    while (d->slot[s]) s = (s + 1) & (d->slots - 1);
    d->slot[s] = (int32_t)d->n;
}

/* ---- iteration ---- */
bool lmj_iter(lmj *j, jv v, jiter *it) {
    *it = (jiter){ .src = v };
    switch (v.t) {
    case JV_LIST: case JV_TUPLE: it->k = IT_ARRAY; return true;
    case JV_STR: it->k = IT_STR; return true;
    case JV_DICT: it->k = IT_KEYS; return true;
    case JV_VIEW:
        it->k = v.view->kind == VIEW_KEYS ? IT_KEYS : v.view->kind == VIEW_VALUES ? IT_VALUES : IT_ITEMS;
        it->src = (jv){ .t = JV_DICT, .d = v.view->d };
        return true;
    case JV_RANGE: it->k = IT_RANGE; return true;
    case JV_UNDEF: it->k = IT_NONE; return true;
    case JV_ITER: *it = (jiter){ .k = IT_FILTERED, .inner = v.it }; return true;     /* shares the position */
    default: lmj_fail(j, "'%s' object is not iterable", lmj_kind(v)); return false;
    }
}
bool lmj_next(lmj *j, jiter *it, jv *out) {
    if (j->err || !lmj_step(j, 1)) return false;
    switch (it->k) {
    case IT_ARRAY: if (it->at >= it->src.l->n) return false; *out = it->src.l->v[it->at++]; return true;
    case IT_STR: {
        jstr *s = it->src.s;
        if (it->byte >= s->n) return false;
        const size_t k = (size_t)lm_utf8_len((const uint8_t *)s->p + it->byte, s->n - it->byte);
        *out = jv_s(lmj_sub(j, s, it->byte, it->byte + k));
        it->byte += k;
        return !j->err;
    }
    case IT_KEYS: case IT_VALUES: case IT_ITEMS: {
        const jdict *d = it->src.d;
        if (it->at >= d->n) return false;
        const jpair *p = &d->v[it->at++];
        if (it->k == IT_KEYS) *out = p->key;
        else if (it->k == IT_VALUES) *out = p->val;
        else {
            *out = lmj_list(j, 2);
            out->t = JV_TUPLE;
            lmj_push(j, out->l, p->key); lmj_push(j, out->l, p->val);
        }
        return !j->err;
    }
    case IT_RANGE: if (it->at >= it->src.r->n) return false; *out = jv_i(it->src.r->start + it->at++ * it->src.r->step); return true;
    case IT_FILTERED: return it->node ? lmj_filtered(j, it, out) : lmj_next(j, it->inner, out);
    default: return false;
    }
}
jlist *lmj_items(lmj *j, jv v) {
    jiter it; jv x;
    if (!lmj_iter(j, v, &it)) return NULL;
    const jv l = lmj_list(j, 0);
    while (lmj_next(j, &it, &x)) lmj_push(j, l.l, x);
    return j->err ? NULL : l.l;
}
jv lmj_gen(lmj *j, jlist *l) {
    jiter *it = lmj_alloc(j, sizeof *it);
    if (!it) return jv_none();
    *it = (jiter){ .k = IT_ARRAY, .src = { .t = JV_LIST, .l = l } };
    return (jv){ .t = JV_ITER, .it = it };
}
bool lmj_in(lmj *j, jv item, jv of) {
    if (of.t == JV_STR) {
        if (item.t != JV_STR) { lmj_fail(j, "'in <string>' requires string as left operand, not %s", lmj_kind(item)); return false; }
        return lmj_find(j, of.s, item.s, 0) >= 0;
    }
    if (of.t == JV_DICT || (of.t == JV_VIEW && of.view->kind == VIEW_KEYS)) return lmj_get(j, of.t == JV_DICT ? of.d : of.view->d, item) != NULL;
    if (of.t == JV_RANGE && jv_is_num(item)) {
        const double x = jv_num(item);
        for (int64_t i = 0; i < of.r->n && lmj_step(j, 1); i++) if ((double)(of.r->start + i * of.r->step) == x) return true;
        return false;
    }
    jiter it; jv x;
    if (of.t == JV_NONE || jv_is_num(of)) { lmj_fail(j, "argument of type '%s' is not iterable", lmj_kind(of)); return false; }
    if (!lmj_iter(j, of, &it)) return false;
    while (lmj_next(j, &it, &x)) if (lmj_eq(j, x, item)) return true;
    return false;
}

/* ---- subscripts ---- */
static int64_t bound(lmj *j, jv v, int64_t def) {
    if (v.t == JV_NONE || v.t == JV_MISSING) return def;
    if (jv_is_int(v)) return jv_int(v);
    if (lmj_used(j, v)) lmj_fail(j, "slice indices must be integers or None or have an __index__ method");
    return def;
}
static jv item_of(lmj *j, jv v, int64_t i) {
    if (v.t == JV_RANGE) return jv_i(v.r->start + i * v.r->step);
    if (v.t != JV_STR) return v.l->v[i];
    const size_t a = lmj_byte_at(v.s, i);
    if (!lmj_step(j, (int64_t)(v.s->n / 64))) return jv_none();
    return jv_s(lmj_sub(j, v.s, a, a + (size_t)lm_utf8_len((const uint8_t *)v.s->p + a, v.s->n - a)));
}
static jv slice(lmj *j, jv v, const jslice *s) {
    const int64_t n = lmj_len(j, v);
    int64_t step = bound(j, s->step, 1);
    if (step > n + 1) step = n + 1;                                  /* one step leaves it either way */
    if (step < -n - 1) step = -n - 1;
    if (!step) return lmj_fail(j, "slice step cannot be zero");
    int64_t lo = bound(j, s->lo, step > 0 ? 0 : n - 1), hi = bound(j, s->hi, step > 0 ? n : -1);
    if (j->err) return v;
    const bool lo_given = s->lo.t != JV_NONE && s->lo.t != JV_MISSING, hi_given = s->hi.t != JV_NONE && s->hi.t != JV_MISSING;
    if (lo_given && lo < 0) lo = lo < -n ? -1 : lo + n;
    if (hi_given && hi < 0) hi = hi < -n ? -1 : hi + n;
    if (step > 0) { if (lo < 0) lo = 0; if (lo > n) lo = n; if (hi > n) hi = n; }
    else { if (lo >= n) lo = n - 1; if (hi >= n) hi = n - 1; }
    const int64_t m = step > 0 ? (hi > lo ? (hi - lo - 1) / step + 1 : 0) : (lo > hi ? (lo - hi - 1) / -step + 1 : 0);
    if (v.t == JV_STR && step == 1) {
        if (!m) return lmj_lit(j, "");
        const size_t a = lmj_byte_at(v.s, lo), b = lmj_byte_at(v.s, hi);
        return lmj_step(j, (int64_t)(v.s->n / 64)) ? jv_s(lmj_sub(j, v.s, a, b)) : v;
    }
    if (v.t == JV_STR) {
        jbuf b = { .j = j };
        const bool ascii = (size_t)n == v.s->n;
        if (!ascii && !lmj_step(j, m * (int64_t)(v.s->n / 64))) return v;
        for (int64_t i = 0, at = lo; i < m && !j->err; i++, at += step) {
            const size_t a = lmj_byte_at(v.s, at);
            lmj_put_sub(&b, v.s, a, a + (ascii ? 1 : (size_t)lm_utf8_len((const uint8_t *)v.s->p + a, v.s->n - a)));
            if (!lmj_step(j, 1)) break;
        }
        return lmj_done(&b);
    }
    if (v.t == JV_RANGE) {
        jrange *r = lmj_alloc(j, sizeof *r);
        if (r) *r = (jrange){ v.r->start + lo * v.r->step, 0, v.r->step * step, m };
        if (r) r->stop = r->start + m * r->step;
        return (jv){ .t = JV_RANGE, .r = r };
    }
    const jv out = lmj_list(j, m);
    for (int64_t i = 0, at = lo; i < m && !j->err; i++, at += step) lmj_push(j, out.l, v.l->v[at]);
    return (jv){ .t = v.t, .l = out.l };
}
/* obj[key] of Python; false: it raises TypeError or LookupError */
static bool subscript(lmj *j, jv v, jv key, jv *out) {
    if (v.t == JV_DICT) {
        if (key.t == JV_LIST || key.t == JV_DICT || key.t == JV_SLICE) return false;
        const jv *p = lmj_get(j, v.d, key);
        if (p) *out = *p;
        return p != NULL;
    }
    if (v.t != JV_STR && v.t != JV_LIST && v.t != JV_TUPLE && v.t != JV_RANGE) return false;
    if (key.t == JV_SLICE) { *out = slice(j, v, key.sl); return true; }
    if (!jv_is_int(key)) return false;
    const int64_t n = lmj_len(j, v);
    int64_t i = jv_int(key);
    if (i < 0) i += n;
    if (i < 0 || i >= n) return false;
    *out = item_of(j, v, i);
    return true;
}
static bool python_attr(lmj *j, jv v, jstr *name, jv *out) {
    if (v.t == JV_NS) {
        const jv *p = lmj_get(j, v.d, jv_s(name));
        if (p) { *out = *p; return true; }
    }
    if (v.t == JV_LOOP) { *out = lmj_loop_attr(j, v.loop, name); if (out->t != JV_MISSING) return true; }
    if (v.t == JV_MACRO && lmj_is(name, "name")) { *out = v.m->name ? jv_s(v.m->name) : jv_none(); return true; }
    if (v.t == JV_CYCLER && lmj_is(name, "current")) { *out = v.cy->items->v[v.cy->at]; return true; }
    bool unsafe = false;
    const jmethod_row *r = lmj_method(v, name, &unsafe);
    if (unsafe || (name->n > 1 && name->p[0] == '_' && name->p[1] == '_')) {
        *out = lmj_undef(j, "access to attribute '%.*s' of '%s' object is unsafe.", (int)lm_min64((int64_t)name->n, 60), name->p, lmj_kind(v));
        return true;
    }
    if (!r) return false;
    jmethod *m = lmj_alloc(j, sizeof *m);
    if (!m) return true;
    *m = (jmethod){ v, r };
    *out = (jv){ .t = JV_METHOD, .me = m };
    return true;
}
static jv nothing(lmj *j, jv v, jv key) {
    if (j->err) return key;
    if (key.t == JV_STR) return lmj_undef(j, "'%s object' has no attribute '%.*s'", lmj_kind(v), (int)lm_min64((int64_t)key.s->n, 80), key.s->p);
    if (key.t == JV_INT) return lmj_undef(j, "%s object has no element %lld", lmj_kind(v), (long long)key.i);
    return lmj_undef(j, "%s object has no such element", lmj_kind(v));
}
jv lmj_index(lmj *j, jv v, jv key) {
    jv out = { 0 };
    if (v.t == JV_UNDEF) { lmj_used(j, v); return v; }
    if (subscript(j, v, key, &out)) return out;
    if (key.t == JV_STR && !j->err && python_attr(j, v, key.s, &out)) return out;
    return nothing(j, v, key);
}
jv lmj_attr(lmj *j, jv v, jstr *name) {
    jv out = { 0 };
    static const char *const of_all[] = { "__class__", "__doc__", "__init__", "__module__", "__str__", "__repr__", "__hash__" };
    bool private = false;                                            /* even what is undefined has these, and nothing happens until they are used */
    for (int i = 0; i < LM_COUNT(of_all); i++) private |= lmj_is(name, of_all[i]);
    if (v.t == JV_UNDEF && !private) { lmj_used(j, v); return v; }
    if (python_attr(j, v, name, &out) || (!j->err && subscript(j, v, jv_s(name), &out))) return out;
    return nothing(j, v, jv_s(name));
}

/* ---- arithmetic ---- */
static jv too_big(lmj *j) { return lmj_limit(j, "an integer of more than 64 bits"); }
static jv bad_types(lmj *j, const char *op, jv a, jv b) {
    if (!lmj_used(j, a) || !lmj_used(j, b)) return a;
    return lmj_fail(j, "unsupported operand type(s) for %s: '%s' and '%s'", op, lmj_kind(a), lmj_kind(b));
}
static jv int_pow(lmj *j, int64_t a, int64_t b) {
    if (b < 0) { if (!a) return lmj_fail(j, "0.0 cannot be raised to a negative power"); return jv_f(pow((double)a, (double)b)); }
    int64_t r = 1;
    if (a == 0 || a == 1) return jv_i(b ? a : 1);
    if (a == -1) return jv_i(b & 1 ? -1 : 1);
    for (; b; b--) if (__builtin_mul_overflow(r, a, &r)) return too_big(j);
    return jv_i(r);
}
static jv ints(lmj *j, jop op, int64_t a, int64_t b) {
    int64_t r = 0;
    switch (op) {
    case OP_ADD: return __builtin_add_overflow(a, b, &r) ? too_big(j) : jv_i(r);
    case OP_SUB: return __builtin_sub_overflow(a, b, &r) ? too_big(j) : jv_i(r);
    case OP_MUL: return __builtin_mul_overflow(a, b, &r) ? too_big(j) : jv_i(r);
    case OP_DIV: return b ? jv_f((double)a / (double)b) : lmj_fail(j, "division by zero");
    case OP_FLOORDIV: case OP_MOD: {
        if (!b) return lmj_fail(j, op == OP_MOD ? "integer modulo by zero" : "integer division or modulo by zero");
        if (b == -1) return op == OP_MOD ? jv_i(0) : a == INT64_MIN ? too_big(j) : jv_i(-a);
        int64_t q = a / b, m = a % b;
        if (m && (m < 0) != (b < 0)) { m += b; q--; }
        return jv_i(op == OP_MOD ? m : q);
    }
    default: return int_pow(j, a, b);
    }
}
static jv floats(lmj *j, jop op, double a, double b) {
    switch (op) {
    case OP_ADD: return jv_f(a + b);
    case OP_SUB: return jv_f(a - b);
    case OP_MUL: return jv_f(a * b);
    case OP_DIV: return b != 0 ? jv_f(a / b) : lmj_fail(j, "float division by zero");
    case OP_FLOORDIV: case OP_MOD: {
        if (b == 0) return lmj_fail(j, op == OP_MOD ? "float modulo" : "float floor division by zero");
        double m = fmod(a, b), d = (a - m) / b;
        if (m != 0) { if ((b < 0) != (m < 0)) { m += b; d -= 1; } } else m = copysign(0, b);
        double f = d != 0 ? floor(d) : copysign(0, a / b);
        if (d != 0 && d - f > 0.5) f += 1;
        return jv_f(op == OP_MOD ? m : f);
    }
    default: {
        if (a == 0 && b < 0) return lmj_fail(j, "0.0 cannot be raised to a negative power");
        if (a < 0 && b != floor(b)) return lmj_fail(j, "a complex number");
        const double r = pow(a, b);
        if (isinf(r) && isfinite(a) && isfinite(b)) return lmj_fail(j, "(34, 'Numerical result out of range')");
        return jv_f(r);
    }
    }
}
static jv repeat(lmj *j, jv v, int64_t n) {
    if (v.t == JV_STR) {
        jbuf b = { .j = j };
        for (int64_t i = 0; i < n && !j->err && v.s->n && lmj_step(j, 1); i++) lmj_put_str(&b, v.s);
        return lmj_done(&b);
    }
    const jv out = lmj_list(j, 0);
    for (int64_t i = 0; i < n && !j->err && v.l->n; i++) for (int64_t k = 0; k < v.l->n && !j->err; k++) lmj_push(j, out.l, v.l->v[k]);
    return (jv){ .t = v.t, .l = out.l };
}
jv lmj_binary(lmj *j, jop op, jv a, jv b) {
    static const char *const sign[] = { "+", "-", "*", "/", "//", "%", "** or pow()" };
    if (jv_is_num(a) && jv_is_num(b)) {
        if (a.t != JV_FLOAT && b.t != JV_FLOAT) return ints(j, op, jv_int(a), jv_int(b));
        return floats(j, op, jv_num(a), jv_num(b));
    }
    if (op == OP_MOD && a.t == JV_STR) return lmj_percent(j, a.s, b);
    if (op == OP_ADD && a.t == JV_STR && b.t == JV_STR) {
        jbuf out = { .j = j };
        const bool html = a.s->html || b.s->html;                    /* escape()d text escapes what joins it */
        if (html && !a.s->html) a = lmj_escape(j, a);
        if (html && !b.s->html) b = lmj_escape(j, b);
        lmj_put_str(&out, a.s); lmj_put_str(&out, b.s);
        const jv r = lmj_done(&out);
        if (!j->err) r.s->html = html;
        return r;
    }
    if (op == OP_ADD && a.t == b.t && (a.t == JV_LIST || a.t == JV_TUPLE)) {
        const jv out = lmj_list(j, a.l->n + b.l->n);
        for (int64_t i = 0; i < a.l->n; i++) lmj_push(j, out.l, a.l->v[i]);
        for (int64_t i = 0; i < b.l->n; i++) lmj_push(j, out.l, b.l->v[i]);
        return (jv){ .t = a.t, .l = out.l };
    }
    if (op == OP_ADD && a.t == JV_STR && lmj_used(j, b)) return lmj_fail(j, "can only concatenate str (not \"%s\") to str", lmj_kind(b));
    if (op == OP_MUL) {
        const bool left = a.t == JV_STR || a.t == JV_LIST || a.t == JV_TUPLE, right = b.t == JV_STR || b.t == JV_LIST || b.t == JV_TUPLE;
        if (left && jv_is_int(b)) return repeat(j, a, jv_int(b));
        if (right && jv_is_int(a)) return repeat(j, b, jv_int(a));
    }
    return bad_types(j, sign[op], a, b);
}
/* Python's round(): to the nearest decimal, exact halves to even, by way of the shortest correctly rounded text. */
double lmj_round(double x, int64_t digits) {
    if (!isfinite(x) || digits > 320) return x;
    if (digits < -308) return copysign(0, x);
    if (digits >= 0) {
        char t[700];
        snprintf(t, sizeof t, "%.*f", (int)digits, x);
        return strtod(t, NULL);
    }
    const double p = pow(10, (double)-digits), q = x / p;
    double r = round(q);
    if (fabs(q - r) == 0.5) r = 2 * round(q / 2);
    return r * p;
}

/* ---- from JSON ---- */
jv lmj_from_json(lmj *j, const json_t *v, bool marked) {
    if (!lmj_step(j, 1)) return jv_none();
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_STRING: return lmj_str_of(j, json_string_value(v), json_string_length(v), marked);
    case JSON_INTEGER: return jv_i(json_integer_value(v));
    case JSON_REAL: return jv_f(json_real_value(v));
    case JSON_TRUE: return jv_b(true);
    case JSON_FALSE: return jv_b(false);
    case JSON_ARRAY: {
        const jv l = lmj_list(j, (int64_t)json_array_size(v));
        if (!lmj_enter(j)) return l;
        for (size_t i = 0; i < json_array_size(v) && !j->err; i++) lmj_push(j, l.l, lmj_from_json(j, json_array_get(v, i), marked));
        lmj_leave(j);
        return l;
    }
    case JSON_OBJECT: {
        const jv d = lmj_dict(j);
        if (!lmj_enter(j)) return d;
        const char *key; json_t *x; size_t n;
        json_object_keylen_foreach((json_t *)(uintptr_t)v, key, n, x) {
            lmj_set(j, d.d, lmj_str_of(j, key, n, marked), lmj_from_json(j, x, marked)); if (j->err) break;
        }
        lmj_leave(j);
        return d;
    }
    default: return jv_none();
    }
}
