/* jinja_tests.c — the tests behind `is`, and the functions a template can call by name. */
#include <math.h>
#include "chat/jinja_int.h"

#define T(name) static bool t_##name(lmj *j, jv v, const jargs *a)
static bool only(lmj *j, const jargs *a, const char *spec, jv *x) { return lmj_bind(j, "test", a, spec, x); }
#define NO_ARGS() do { jv none_[1]; if (!only(j, a, "", none_)) return false; } while (0)
static bool remainder_is(lmj *j, jv v, jv by, int64_t want) { const jv m = lmj_binary(j, OP_MOD, v, by); return !j->err && lmj_eq(j, m, jv_i(want)); }
T(odd) { NO_ARGS(); return remainder_is(j, v, jv_i(2), 1); }
T(even) { NO_ARGS(); return remainder_is(j, v, jv_i(2), 0); }
T(divisibleby) { jv x[1]; return only(j, a, "num!", x) && remainder_is(j, v, x[0], 0); }
T(defined) { NO_ARGS(); return v.t != JV_UNDEF; }
T(undefined) { NO_ARGS(); return v.t == JV_UNDEF; }
T(filter) { NO_ARGS(); return v.t == JV_STR && lmj_filter(v.s); }
T(test) { NO_ARGS(); return v.t == JV_STR && lmj_test(v.s); }
T(none) { NO_ARGS(); return v.t == JV_NONE; }
T(boolean) { NO_ARGS(); return v.t == JV_BOOL; }
T(false) { NO_ARGS(); return v.t == JV_BOOL && !v.b; }
T(true) { NO_ARGS(); return v.t == JV_BOOL && v.b; }
T(integer) { NO_ARGS(); return v.t == JV_INT; }
T(float) { NO_ARGS(); return v.t == JV_FLOAT; }
T(lower) { NO_ARGS(); return lmj_cased_all(lmj_text(j, v), false); }
T(upper) { NO_ARGS(); return lmj_cased_all(lmj_text(j, v), true); }
T(string) { NO_ARGS(); return v.t == JV_STR; }
T(mapping) { NO_ARGS(); return v.t == JV_DICT; }
T(number) { NO_ARGS(); return jv_is_num(v); }
T(sequence) { NO_ARGS(); return v.t == JV_UNDEF ? false : v.t == JV_STR || v.t == JV_LIST || v.t == JV_TUPLE || v.t == JV_DICT || v.t == JV_RANGE; }
T(iterable) {
    NO_ARGS();
    return v.t == JV_UNDEF || v.t == JV_STR || v.t == JV_LIST || v.t == JV_TUPLE || v.t == JV_DICT || v.t == JV_RANGE || v.t == JV_VIEW || v.t == JV_ITER ||
        v.t == JV_LOOP;
}
T(callable) { NO_ARGS(); return v.t == JV_FUNC || v.t == JV_METHOD || v.t == JV_MACRO || v.t == JV_LOOP || v.t == JV_JOINER || v.t == JV_UNDEF; }
T(escaped) { NO_ARGS(); return v.t == JV_STR && v.s->html; }
T(sameas) {
    jv x[1];
    if (!only(j, a, "other!", x) || v.t != x[0].t) return false;
    if (v.t == JV_NONE) return true;
    if (v.t == JV_BOOL) return v.b == x[0].b;
    if (v.t == JV_INT) return v.i == x[0].i && v.i >= -5 && v.i <= 256;    /* the integers of which Python has one each */
    return v.t != JV_FLOAT && v.t != JV_UNDEF && v.s == x[0].s;
}
T(in) { jv x[1]; return only(j, a, "seq!", x) && lmj_in(j, v, x[0]); }
T(eq) { jv x[1]; return only(j, a, "other!", x) && lmj_eq(j, v, x[0]); }
T(ne) { jv x[1]; return only(j, a, "other!", x) && !lmj_eq(j, v, x[0]); }
T(gt) { jv x[1]; return only(j, a, "other!", x) && lmj_less(j, v, x[0], OP_GT); }
T(ge) { jv x[1]; return only(j, a, "other!", x) && lmj_less(j, v, x[0], OP_GE); }
T(lt) { jv x[1]; return only(j, a, "other!", x) && lmj_less(j, v, x[0], OP_LT); }
T(le) { jv x[1]; return only(j, a, "other!", x) && lmj_less(j, v, x[0], OP_LE); }
static const jtest tests[] = {
    { "odd", t_odd }, { "even", t_even }, { "divisibleby", t_divisibleby }, { "defined", t_defined }, { "undefined", t_undefined }, { "filter", t_filter },
        { "test", t_test },
    { "none", t_none }, { "boolean", t_boolean }, { "false", t_false }, { "true", t_true }, { "integer", t_integer }, { "float", t_float }, { "lower", t_lower },
    { "upper", t_upper }, { "string", t_string }, { "mapping", t_mapping }, { "number", t_number }, { "sequence", t_sequence }, { "iterable", t_iterable },
    { "callable", t_callable }, { "sameas", t_sameas }, { "escaped", t_escaped }, { "in", t_in }, { "==", t_eq }, { "eq", t_eq }, { "equalto", t_eq },
        { "!=", t_ne },
    { "ne", t_ne }, { ">", t_gt }, { "gt", t_gt }, { "greaterthan", t_gt }, { "ge", t_ge }, { ">=", t_ge }, { "<", t_lt }, { "lt", t_lt }, { "lessthan", t_lt },
    { "<=", t_le }, { "le", t_le },
};
const jtest *lmj_test(const jstr *name) {
    for (int i = 0; i < LM_COUNT(tests); i++) if (lmj_is(name, tests[i].name)) return &tests[i];
    return NULL;
}

/* ---- functions ---- */
static jv f_range(lmj *j, const jargs *a) {
    if (!a->n || a->n > 3 || a->n_kw) return lmj_fail(j, "range expected 1 to 3 arguments");
    const int64_t x = lmj_arg_int(j, "range", a->pos[0], 0), y = a->n > 1 ? lmj_arg_int(j, "range", a->pos[1], 0) : 0;
    const int64_t start = a->n > 1 ? x : 0, stop = a->n > 1 ? y : x, step = a->n > 2 ? lmj_arg_int(j, "range", a->pos[2], 1) : 1;
    if (!step) return lmj_fail(j, "range() arg 3 must not be zero");
    const double n = step > 0 ? ceil(((double)stop - (double)start) / (double)step) : ceil(((double)start - (double)stop) / -(double)step);
    if (n > 100000) return lmj_fail(j, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
    jrange *r = lmj_alloc(j, sizeof *r);
    if (r) *r = (jrange){ start, stop, step, n > 0 ? (int64_t)n : 0 };
    return (jv){ .t = JV_RANGE, .r = r };
}
/* dict(mapping or pairs, key=value …) */
static void fill(lmj *j, jdict *d, const jargs *a) {
    if (a->n > 1) { lmj_fail(j, "dict expected at most 1 argument, got %d", a->n); return; }
    if (a->n && (a->pos[0].t == JV_DICT || a->pos[0].t == JV_NS)) {
        const jdict *o = a->pos[0].d;
        for (int64_t i = 0; i < o->n; i++) lmj_set(j, d, o->v[i].key, o->v[i].val);
    }
    else if (a->n) {
        jlist *l = lmj_items(j, a->pos[0]);
        for (int64_t i = 0; l && i < l->n && !j->err; i++) {
            jlist *p = lmj_items(j, l->v[i]);
            if (p && p->n != 2) lmj_fail(j, "dictionary update sequence element #%lld has length %lld; 2 is required", (long long)i, (long long)p->n);
            if (p && !j->err) lmj_set(j, d, p->v[0], p->v[1]);
        }
    }
    for (int i = 0; i < a->n_kw; i++) lmj_set(j, d, jv_s(a->name[i]), a->val[i]);
}
static jv f_dict(lmj *j, const jargs *a) { const jv d = lmj_dict(j); fill(j, d.d, a); return d; }
static jv f_namespace(lmj *j, const jargs *a) {
    const jv d = lmj_dict(j);
    fill(j, d.d, a);
    for (int64_t i = 0; i < d.d->n && !j->err; i++)
        if (d.d->v[i].key.t == JV_STR && d.d->v[i].key.s->n && *d.d->v[i].key.s->p == '_') return lmj_fail(j,
            "Chat templates cannot store underscore-prefixed attributes on a namespace");
    return (jv){ .t = JV_NS, .d = d.d };
}
static jv helper(lmj *j, jv_kind k, jlist *items) {
    jcycler *c = lmj_alloc(j, sizeof *c);
    if (c) c->items = items;
    return (jv){ .t = k, .cy = c };
}
static jv f_cycler(lmj *j, const jargs *a) {
    if (!a->n) return lmj_fail(j, "at least one item has to be provided");
    jlist *l = lmj_list(j, a->n).l;
    for (int i = 0; i < a->n; i++) lmj_push(j, l, a->pos[i]);
    return helper(j, JV_CYCLER, l);
}
static jv f_joiner(lmj *j, const jargs *a) {
    jv x[1];
    if (!lmj_bind(j, "joiner", a, "sep", x)) return jv_none();
    jlist *l = lmj_list(j, 1).l;
    lmj_push(j, l, x[0].t == JV_MISSING ? lmj_lit(j, ", ") : x[0]);
    return helper(j, JV_JOINER, l);
}
static jv f_raise(lmj *j, const jargs *a) {
    jv x[1];
    if (!lmj_bind(j, "raise_exception", a, "message!", x)) return jv_none();
    const jstr *s = lmj_text(j, x[0]);
    return lmj_fail(j, "the template refuses: %.*s", (int)lm_min64((int64_t)s->n, 300), s->p);
}
static jv f_strftime(lmj *j, const jargs *a) {
    jv x[1];
    if (!lmj_bind(j, "strftime_now", a, "format!", x)) return jv_none();
    if (x[0].t != JV_STR) return lmj_fail(j, "strftime() argument 1 must be str, not %s", lmj_kind(x[0]));
    return lmj_strftime(j, x[0].s);
}
static jv f_lipsum(lmj *j, const jargs *a) { (void)a; return lmj_fail(j, "lipsum() draws at random, which no two runs agree on"); }
static const jfunc funcs[] = { { "range", f_range }, { "dict", f_dict }, { "namespace", f_namespace }, { "cycler", f_cycler }, { "joiner", f_joiner },
    { "raise_exception", f_raise },
                               { "strftime_now", f_strftime }, { "lipsum", f_lipsum } };
const jfunc *lmj_func(const jstr *name) {
    for (int i = 0; i < LM_COUNT(funcs); i++) if (lmj_is(name, funcs[i].name)) return &funcs[i];
    return NULL;
}
