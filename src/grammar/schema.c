/* schema.c — JSON Schema (draft 2020-12, the part that structured output uses) as a grammar of the texts that satisfy it.
 *
 * Every text of the grammar satisfies the schema; not every text that does is in the grammar: properties come in the order of `properties`, others only
 * where additionalProperties says so, white space and digits are bounded, and a schema without `type` whose keywords speak of some types gets those.
 * Known: type, enum, const, properties, required, additionalProperties, minProperties and maxProperties where they hold anyway, items, prefixItems,
 * minItems, maxItems, minLength, maxLength, pattern, format, minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf 1 of integers, anyOf, oneOf
 * (where no two branches can hold at once), allOf (merged), $ref within the document, recursive too, and annotations. Everything else is refused with its
 * JSON pointer: a keyword that was passed over would be a promise broken. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "format/json.h"
#include "grammar/grammar_int.h"

enum { REFS = 64, SEGMENTS = 64 };                                     /* references within one another that are merged; names in a pointer */
typedef struct { const json_t *v; int32_t rule; char *path; } target;
typedef struct {
    lm_ast *a; json_t *root; lm_jv top;
    target *t; int32_t n_t, cap_t;                                     /* rules by what $ref names; made in turn */
    json_t *made;                                                      /* array: merged schemas live as long as the tree */
    int depth, merges;
} in;
static int32_t schema(in *s, const lm_jv *at);
static int32_t fail(in *s, const lm_jv *at, lm_err e, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static int32_t fail(in *s, const lm_jv *at, lm_err e, const char *fmt, ...) {
    char msg[400];
    va_list ap;
    if (s->a->err) return -1;
    va_start(ap, fmt); vsnprintf(msg, sizeof msg, fmt, ap); va_end(ap);
    s->a->err = at->up ? lm_json_fail(at, e, "%s", msg) : lm_fail(s->a->ctx, e, "%s: /: %s", s->a->file, msg);
    return -1;
}
static lm_jv member(const lm_jv *o, const char *key) {
    return (lm_jv){ .ctx = o->ctx, .file = o->file, .up = o, .key = key, .v = json_object_get(o->v, key) };
}
static lm_jv element(const lm_jv *o, size_t i) {
    return (lm_jv){ .ctx = o->ctx, .file = o->file, .up = o, .index = i, .v = json_array_get(o->v, i) };
}
#define FAIL_IN(s, o, name, ...) fail(s, &(lm_jv){ .ctx = (o)->ctx, .file = (o)->file, .up = (o), .key = (name) }, __VA_ARGS__)
static json_t *own(in *s, json_t *v) {                                 /* kept until the end; NULL after an error */
    if (!v || json_array_append_new(s->made, v)) { s->a->err = s->a->err ? s->a->err : LM_E_NOMEM; return NULL; }
    return v;
}

/* ---- keywords ---- */
enum { T_NULL = 1, T_BOOL = 2, T_INT = 4, T_NUM = 8, T_STR = 16, T_ARR = 32, T_OBJ = 64, T_ALL = 127 };
static const struct { const char *name; int bit; } types[] = { { "null", T_NULL }, { "boolean", T_BOOL }, { "integer", T_INT }, { "number", T_NUM | T_INT },
                                                               { "string", T_STR }, { "array", T_ARR }, { "object", T_OBJ } };
static const struct { const char *name; int of; } keywords[] = {      /* of: types it speaks of; 0 all; -1 an annotation */
    { "type", 0 }, { "enum", 0 }, { "const", 0 }, { "anyOf", 0 }, { "oneOf", 0 }, { "allOf", 0 }, { "$ref", 0 },
    { "properties", T_OBJ }, { "required", T_OBJ }, { "additionalProperties", T_OBJ }, { "minProperties", T_OBJ }, { "maxProperties", T_OBJ },
    { "items", T_ARR }, { "prefixItems", T_ARR }, { "minItems", T_ARR }, { "maxItems", T_ARR }, { "uniqueItems", T_ARR },
    { "minLength", T_STR }, { "maxLength", T_STR }, { "pattern", T_STR }, { "format", T_STR },
    { "minimum", T_INT | T_NUM }, { "maximum", T_INT | T_NUM }, { "exclusiveMinimum", T_INT | T_NUM },
    { "exclusiveMaximum", T_INT | T_NUM }, { "multipleOf", T_INT | T_NUM },
    { "$defs", -1 }, { "definitions", -1 }, { "$schema", -1 }, { "$id", -1 }, { "id", -1 }, { "$comment", -1 }, { "title", -1 }, { "description", -1 },
    { "default", -1 },
    { "examples", -1 }, { "example", -1 }, { "deprecated", -1 }, { "readOnly", -1 }, { "writeOnly", -1 },
};
static int keyword(const char *name) { for (int i = 0; i < LM_COUNT(keywords); i++) if (!strcmp(keywords[i].name, name)) return i; return -1; }
/* Every key known? *bits: what the keys speak of; *n: keys that constrain. */
static bool keys(in *s, const lm_jv *at, int *bits, int *n) {
    const char *key;
    json_t *v;
    *bits = *n = 0;
    json_object_foreach(at->v, key, v) {
        const int k = keyword(key);
        if (k < 0 && !strncmp(key, "x-", 2)) continue;
        if (k < 0) {
            const char *names[LM_COUNT(keywords)];
            for (int i = 0; i < LM_COUNT(keywords); i++) names[i] = keywords[i].name;
            const char *near = lm_nearest(key, names, LM_COUNT(keywords));
            FAIL_IN(s, at, key, LM_E_UNSUPPORTED, "this keyword is not supported%s%s", near ? "; did you mean " : "", near ? near : "");
            return false;
        }
        if (keywords[k].of < 0) continue;
        ++*n;
        if (keywords[k].of > 0) *bits |= keywords[k].of;
    }
    return true;
}
static int type_bits(in *s, const lm_jv *at) {                         /* 0 after an error */
    const json_t *v = json_object_get(at->v, "type");
    int bits = 0;
    if (!v) return T_ALL;
    const size_t n = json_is_array(v) ? json_array_size(v) : 1;
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_is_array(v) ? json_array_get(v, i) : v);
        int bit = 0;
        for (int k = 0; name && k < LM_COUNT(types); k++) if (!strcmp(types[k].name, name)) bit = types[k].bit;
        if (!bit) {
            FAIL_IN(s, at, "type", LM_E_CONFIG, "wanted null, boolean, integer, number, string, array or object%s%.40s", name ? ", got " : "", name ? name : "");
            return 0;
        }
        bits |= bit;
    }
    if (!bits) FAIL_IN(s, at, "type", LM_E_CONFIG, "names no type");
    return bits;
}
static int bit_of(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_NULL: return T_NULL;
    case JSON_TRUE: case JSON_FALSE: return T_BOOL;
    case JSON_INTEGER: return T_INT | T_NUM;
    case JSON_REAL: return rint(json_real_value(v)) == json_real_value(v) ? T_INT | T_NUM : T_NUM;
    case JSON_STRING: return T_STR;
    case JSON_ARRAY: return T_ARR;
    default: return T_OBJ;
    }
}
static bool fits(int bits, const json_t *v) {
    const int b = bit_of(v);
    return b & T_NUM ? (bits & T_NUM) || ((bits & T_INT) && (b & T_INT)) : bits & b;
}
/* A count; -1 absent, -2 an error. */
static int64_t count(in *s, const lm_jv *at, const char *key) {
    const json_t *v = json_object_get(at->v, key);
    if (!v) return -1;
    const double d = json_number_value(v);
    if (!json_is_number(v) || !(d >= 0) || rint(d) != d || d > 1e15) { FAIL_IN(s, at, key, LM_E_CONFIG, "wanted a count"); return -2; }
    if (d > LM_GRAMMAR_REPEAT) { FAIL_IN(s, at, key, LM_E_RANGE, "%.0f, at most %d is supported", d, LM_GRAMMAR_REPEAT); return -2; }
    return (int64_t)d;
}

/* ---- $ref ---- */
/* What "#/…" names, step by step into at[0..*n]; at[0] is the document. */
static bool resolve(in *s, const lm_jv *from, const char *ref, lm_jv at[SEGMENTS], char *names, size_t cap, int *n) {
    at[0] = s->top;
    *n = 0;
    if (ref[0] != '#' || (ref[1] && ref[1] != '/')) {
        FAIL_IN(s, from, "$ref", LM_E_UNSUPPORTED, "%.80s: only references within the document (#/…) are supported", ref);
        return false;
    }
    for (const char *p = ref + 1; *p;) {
        char *name = names;
        p++;
        if (*n + 1 == SEGMENTS) { FAIL_IN(s, from, "$ref", LM_E_RANGE, "more than %d names in a reference", SEGMENTS - 1); return false; }
        for (; *p && *p != '/'; p++) {
            char c = *p;
            unsigned x;
            if (c == '~' && (p[1] == '0' || p[1] == '1')) c = *++p == '0' ? '~' : '/';
            else if (c == '%' && sscanf(p + 1, "%2x", &x) == 1 && p[1] && p[2] && x) { c = (char)x; p += 2; }
            if (cap < 2) { FAIL_IN(s, from, "$ref", LM_E_RANGE, "the reference is too long"); return false; }
            *names++ = c; cap--;
        }
        *names++ = 0; cap--;
        const json_t *v = at[*n].v;
        if (json_is_object(v)) { at[*n + 1] = member(&at[*n], name); }
        else if (json_is_array(v) && *name >= '0' && *name <= '9') at[*n + 1] = element(&at[*n], (size_t)strtoul(name, NULL, 10));
        else at[*n + 1].v = NULL;
        if (!at[*n + 1].v) { FAIL_IN(s, from, "$ref", LM_E_CONFIG, "%.80s names nothing", ref); return false; }
        ++*n;
    }
    return true;
}
static int32_t reference(in *s, const lm_jv *at, const char *ref) {
    lm_jv path[SEGMENTS];
    char names[4096];
    int n;
    if (!resolve(s, at, ref, path, names, sizeof names, &n)) return -1;
    for (int32_t i = 0; i < s->n_t; i++) if (s->t[i].v == path[n].v) return lm_g_call(s->a, s->t[i].rule);
    if (!lm_g_room(s->a->ctx, (void **)&s->t, &s->cap_t, s->n_t, 1, sizeof *s->t, LM_GRAMMAR_RULES)) { s->a->err = LM_E_NOMEM; return -1; }
    char *copy = lm_strdup(s->a->ctx, LM_MEM_MISC, ref);
    if (!copy) { s->a->err = LM_E_NOMEM; return -1; }
    s->t[s->n_t++] = (target){ path[n].v, lm_g_rule(s->a, ref, strlen(ref)), copy };
    return lm_g_call(s->a, s->t[s->n_t - 1].rule);
}

/* ---- allOf: one schema that says what two say ---- */
static json_t *merge(in *s, const lm_jv *at, json_t *x, json_t *y);
static json_t *looked_up(in *s, const lm_jv *at, json_t *x) {          /* with its $ref written out */
    for (int k = 0; x && json_is_object(x) && json_object_get(x, "$ref") && !s->a->err; k++) {
        lm_jv path[SEGMENTS];
        char names[4096];
        int n;
        const char *ref = json_string_value(json_object_get(x, "$ref"));
        if (!ref) { FAIL_IN(s, at, "$ref", LM_E_CONFIG, "wanted a string"); return NULL; }
        if (k == REFS) { FAIL_IN(s, at, "$ref", LM_E_RANGE, "references that lead to references without end"); return NULL; }
        if (!resolve(s, at, ref, path, names, sizeof names, &n)) return NULL;
        json_t *rest = own(s, json_copy(x));
        if (!rest) return NULL;
        json_object_del(rest, "$ref");
        x = json_object_size(rest) ? merge(s, at, path[n].v, rest) : path[n].v;
    }
    return s->a->err ? NULL : x;
}
static bool same_keys(const json_t *inner, const json_t *outer) {      /* every property of inner is one of outer */
    const char *k;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)inner, k, v) if (!json_object_get(outer, k)) return false;
    return true;
}
static bool closed(const json_t *x) { const json_t *v = json_object_get(x, "additionalProperties"); return v && !json_is_true(v); }
static json_t *merge_types(const json_t *x, const json_t *y) {
    json_t *out = json_array();
    const json_t *p[2] = { x, y };
    int bits[2] = { 0, 0 };
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < (json_is_array(p[k]) ? json_array_size(p[k]) : 1); i++) {
            const char *name = json_string_value(json_is_array(p[k]) ? json_array_get(p[k], i) : p[k]);
            for (int t = 0; name && t < LM_COUNT(types); t++) if (!strcmp(types[t].name, name)) bits[k] |= types[t].bit;
        }
    const int both = bits[0] & bits[1];
    for (int t = 0; t < LM_COUNT(types); t++)
        if ((types[t].bit & both) == types[t].bit && !(types[t].bit == T_INT && both & T_NUM)) json_array_append_new(out, json_string(types[t].name));
    return out;
}
static json_t *both_of(json_t *x, json_t *y) {                         /* {"allOf": [x, y]} */
    json_t *o = json_object(), *l = json_array();
    json_array_append(l, x); json_array_append(l, y);
    json_object_set_new(o, "allOf", l);
    return o;
}
static json_t *merge_key(in *s, const lm_jv *at, const char *key, json_t *x, json_t *y) {        /* a new reference */
    if (json_equal(x, y)) return json_incref(x);
    if (!strcmp(key, "type")) return merge_types(x, y);
    if (!strcmp(key, "properties") && json_is_object(x) && json_is_object(y)) {
        json_t *o = json_copy(x), *v, *w;
        const char *k;
        json_object_foreach(y, k, v) {
            if ((w = json_object_get(o, k))) json_object_set_new(o, k, both_of(w, v));
            else json_object_set(o, k, v);
        }
        return o;
    }
    if (!strcmp(key, "required") && json_is_array(x) && json_is_array(y)) { json_t *l = json_copy(x); json_array_extend(l, y); return l; }
    if (!strcmp(key, "items")) return both_of(x, y);
    if (!strcmp(key, "allOf") && json_is_array(x) && json_is_array(y)) { json_t *l = json_copy(x); json_array_extend(l, y); return l; }
    if (!strncmp(key, "min", 3) || !strcmp(key, "exclusiveMinimum")) return json_incref(json_number_value(x) > json_number_value(y) ? x : y);
    if (!strncmp(key, "max", 3) || !strcmp(key, "exclusiveMaximum")) return json_incref(json_number_value(x) < json_number_value(y) ? x : y);
    if (!strcmp(key, "enum") && json_is_array(x) && json_is_array(y)) {
        json_t *l = json_array();
        for (size_t i = 0; i < json_array_size(x); i++)
            for (size_t k = 0; k < json_array_size(y); k++)
                if (json_equal(json_array_get(x, i), json_array_get(y, k))) { json_array_append(l, json_array_get(x, i)); break; }
        return l;
    }
    FAIL_IN(s, at, key, LM_E_UNSUPPORTED, "two different values of this keyword meet here through allOf or $ref, and cannot be merged");
    return NULL;
}
static json_t *merge(in *s, const lm_jv *at, json_t *x, json_t *y) {   /* s->made keeps it; NULL after an error */
    if (s->a->err) return NULL;
    if (++s->merges > 1 << 14) { fail(s, at, LM_E_RANGE, "too many schemas are merged"); return NULL; }
    if (json_is_false(x) || json_is_true(y)) return x;
    if (json_is_false(y) || json_is_true(x)) return y;
    if (++s->depth > LM_GRAMMAR_DEPTH / 4) { fail(s, at, LM_E_RANGE, "allOf and $ref nested too deep"); return NULL; }
    x = looked_up(s, at, x); y = looked_up(s, at, y);
    s->depth--;
    if (s->a->err) return NULL;
    if (!json_is_object(x) || !json_is_object(y)) {
        if (json_is_false(x) || json_is_true(y)) return x;
        if (json_is_false(y) || json_is_true(x)) return y;
        fail(s, at, LM_E_CONFIG, "wanted a schema: an object, true or false");
        return NULL;
    }
    const json_t *px = json_object_get(x, "properties"), *py = json_object_get(y, "properties");
    if ((closed(x) && !same_keys(py, px)) || (closed(y) && !same_keys(px, py))) {
        FAIL_IN(s, at, "additionalProperties", LM_E_UNSUPPORTED,
            "it closes a schema that allOf or $ref joins with other properties: nothing satisfies both in general");
        return NULL;
    }
    json_t *out = own(s, json_copy(x)), *v, *w;
    const char *key;
    if (!out) return NULL;
    json_object_foreach(y, key, v) {
        const int k = keyword(key);
        if (k >= 0 && keywords[k].of < 0) continue;
        if (!(w = json_object_get(out, key))) { json_object_set(out, key, v); continue; }
        json_t *m = merge_key(s, at, key, w, v);
        if (!m) return NULL;
        json_object_set_new(out, key, m);
    }
    return out;
}

/* ---- values ---- */
static int32_t literal(in *s, const lm_jv *at, const json_t *v) {
    char *t = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!t) return fail(s, at, LM_E_NOMEM, "out of memory");
    const int32_t x = lm_g_text(s->a, t, strlen(t));
    free(t);
    return x;
}
static bool decimal(in *s, const lm_jv *at, const char *key, char out[80]) {     /* a bound without an exponent */
    const json_t *v = json_object_get(at->v, key);
    if (!v) return false;
    if (!json_is_number(v)) { FAIL_IN(s, at, key, LM_E_CONFIG, "wanted a number"); return false; }
    if (json_is_integer(v)) { snprintf(out, 80, "%lld", (long long)json_integer_value(v)); return true; }
    const double d = json_real_value(v);
    char e[40];
    int p = 0;
    if (!isfinite(d) || fabs(d) > 1e18 || (d != 0.0 && fabs(d) < 1e-16)) {
        FAIL_IN(s, at, key, LM_E_RANGE, "%g: bounds of numbers are supported from 1e-16 to 1e18", d);
        return false;
    }
    for (; p < 17; p++) { snprintf(e, sizeof e, "%.*e", p, d); if (strtod(e, NULL) == d) break; }
    const int x = atoi(strchr(e, 'e') + 1);
    snprintf(out, 80, "%.*f", p > x ? p - x : 0, d);                   /* as many digits as tell it from its neighbours */
    return true;
}
static int32_t number(in *s, const lm_jv *at, bool integer) {
    char lo[2][80], hi[2][80];
    const bool has[4] = { decimal(s, at, "minimum", lo[0]), decimal(s, at, "exclusiveMinimum", lo[1]), decimal(s, at, "maximum", hi[0]),
                          decimal(s, at, "exclusiveMaximum", hi[1]) };
    const json_t *m = json_object_get(at->v, "multipleOf");
    if (s->a->err) return -1;
    if (m && !(json_number_value(m) == 1.0)) return FAIL_IN(s, at, "multipleOf", LM_E_UNSUPPORTED,
        "only 1 is supported: multiples are not a grammar of reasonable size");
    integer |= m != NULL;
    if (!has[0] && !has[1] && !has[2] && !has[3]) return integer ? lm_gj_integer(s->a) : lm_gj_number(s->a);
    bool lo_open = has[1] && (!has[0] || strtod(lo[1], NULL) >= strtod(lo[0], NULL)), hi_open = has[3] && (!has[2] || strtod(hi[1], NULL) <= strtod(hi[0], NULL));
    const char *l = has[0] || has[1] ? lo[lo_open] : NULL, *h = has[2] || has[3] ? hi[hi_open] : NULL;
    char li[32], hi_i[32];
    if (integer) {                                                     /* to whole numbers, both ends in */
        const double most = 999999999999999872.0;
        if (l) {
            const double d = strtod(l, NULL);
            if (fabs(d) > most) return FAIL_IN(s, at, lo_open ? "exclusiveMinimum" : "minimum", LM_E_RANGE, "bounds of integers are supported up to 18 digits");
            long long n = strchr(l, '.') ? (long long)ceil(d) : strtoll(l, NULL, 10);
            if (lo_open && (double)n == d) n++;
            snprintf(li, sizeof li, "%lld", n);
            l = li;
        }
        if (h) {
            const double d = strtod(h, NULL);
            if (fabs(d) > most) return FAIL_IN(s, at, hi_open ? "exclusiveMaximum" : "maximum", LM_E_RANGE, "bounds of integers are supported up to 18 digits");
            long long n = strchr(h, '.') ? (long long)floor(d) : strtoll(h, NULL, 10);
            if (hi_open && (double)n == d) n--;
            snprintf(hi_i, sizeof hi_i, "%lld", n);
            h = hi_i;
        }
        lo_open = hi_open = false;
    }
    if (l && h && strtod(l, NULL) > strtod(h, NULL)) return lm_g_never(s->a);
    return lm_gj_range(s->a, l, lo_open, h, hi_open, integer);
}
static int32_t string(in *s, const lm_jv *at) {
    const int64_t min = count(s, at, "minLength"), max = count(s, at, "maxLength");
    const json_t *pattern = json_object_get(at->v, "pattern"), *format = json_object_get(at->v, "format");
    int32_t inner;
    if (s->a->err) return -1;
    if ((pattern != NULL) + (format != NULL) + (min > 0 || max >= 0) > 1)
        return FAIL_IN(s, at, pattern ? "pattern" : "format", LM_E_UNSUPPORTED, "together with %s it is not supported; say the length in the pattern",
                       pattern && format ? "format" : "minLength or maxLength");
    if (pattern) {
        if (!json_is_string(pattern)) return FAIL_IN(s, at, "pattern", LM_E_CONFIG, "wanted a string");
        inner = lm_g_regex(s->a, json_string_value(pattern), json_string_length(pattern), true, lm_gj_chars);
        if (s->a->err) { lm_fail_in(s->a->ctx, s->a->err, "pattern"); return -1; }
    } else if (format) {
        const char *f = json_string_value(format);
        if (!f) return FAIL_IN(s, at, "format", LM_E_CONFIG, "wanted a string");
        inner = lm_gj_format(s->a, f);
        if (s->a->err) return -1;
        if (inner < 0) {
            const char *names[32];
            const int n = lm_gj_formats(names, LM_COUNT(names));
            lm_str all = { .ctx = s->a->ctx };
            for (int i = 0; i < n; i++) lm_str_printf(&all, "%s%s", i ? ", " : "", names[i]);
            FAIL_IN(s, at, "format", LM_E_UNSUPPORTED, "\"%.40s\" is not supported; known: %s", f, all.p ? all.p : "");
            lm_str_free(&all);
            return -1;
        }
    } else if (min <= 0 && max < 0) return lm_gj_string(s->a);
    else {
        if (max >= 0 && max < min) return lm_g_never(s->a);
        inner = lm_g_rep(s->a, lm_gj_char(s->a), min > 0 ? min : 0, max);
    }
    return LM_G_SEQ(s->a, lm_g_str(s->a, "\""), inner, lm_g_str(s->a, "\""));
}
static int32_t array(in *s, const lm_jv *at) {
    lm_ast *a = s->a;
    int64_t min = count(s, at, "minItems"), max = count(s, at, "maxItems");
    const lm_jv items = member(at, "items"), prefix = member(at, "prefixItems"), unique = member(at, "uniqueItems");
    if (a->err) return -1;
    if (unique.v && !json_is_false(unique.v) && max != 0 && max != 1) return fail(s, &unique, LM_E_UNSUPPORTED, "unique items are not a grammar");
    if (items.v && json_is_array(items.v)) return fail(s, &items, LM_E_UNSUPPORTED, "a list of schemas is prefixItems since draft 2020-12");
    if (min < 0) min = 0;
    if (max >= 0 && max < min) return lm_g_never(a);
    const int32_t item = !items.v || json_is_true(items.v) ? lm_gj_any(a) : schema(s, &items);
    if (!prefix.v) return a->err ? -1 : json_is_false(items.v) ? (min ? lm_g_never(a) : lm_gj_list(a, item, 0, 0)) : lm_gj_list(a, item, min, max);
    if (!json_is_array(prefix.v)) return fail(s, &prefix, LM_E_CONFIG, "wanted a list of schemas");
    /* from the back: after item i, either the end, where there are enough, or one more */
    const int64_t n = (int64_t)json_array_size(prefix.v);
    const int32_t ws = lm_gj_ws(a), comma = lm_g_str(a, ",");
    const int64_t rest_min = min > n ? min - n : 0, rest_max = max < 0 ? -1 : max > n ? max - n : 0;
    int32_t rest = json_is_false(items.v) ? (rest_min ? lm_g_never(a) : lm_g_empty(a)) : lm_g_rep(a, LM_G_SEQ(a, comma, ws, item), rest_min, rest_max);
    for (int64_t i = n - 1; i >= 0 && !a->err; i--) {
        const lm_jv e = element(&prefix, (size_t)i);
        if (max >= 0 && i >= max) { rest = lm_g_empty(a); continue; }
        const int32_t x = schema(s, &e), r = lm_g_rule(a, NULL, 0);
        lm_g_define(a, r, i ? LM_G_SEQ(a, comma, ws, x, rest) : LM_G_SEQ(a, x, rest));
        rest = i >= min ? LM_G_ALT(a, lm_g_empty(a), lm_g_call(a, r)) : lm_g_call(a, r);
    }
    return LM_G_SEQ(a, lm_g_str(a, "["), ws, rest, ws, lm_g_str(a, "]"));
}
/* "key": value */
static int32_t pair(in *s, const char *key, int32_t value) {
    lm_str t = { .ctx = s->a->ctx };
    lm_str_json(&t, key, strlen(key));
    lm_str_putc(&t, ':');
    if (lm_str_err(&t)) lm_ast_fail(s->a, LM_E_NOMEM, "out of memory");
    const int32_t x = s->a->err ? -1 : LM_G_SEQ(s->a, lm_g_text(s->a, t.p, t.n), lm_gj_ws(s->a), value);
    lm_str_free(&t);
    return x;
}
/* Strings without escapes that are none of names[lo..hi) behind their first `at` bytes, which they share; sorted. What differs goes on freely. */
static int by_text(const void *p, const void *q) { return strcmp(*(const char *const *)p, *(const char *const *)q); }
static int32_t other_key(in *s, const char *const *names, size_t lo, size_t hi, size_t at, int32_t free_rest) {
    static const lm_grange plain[] = { { 0x20, 0x21 }, { 0x23, 0x5B }, { 0x5D, 0x10FFFF } };
    lm_ast *a = s->a;
    lm_glist l = { .a = a };
    lm_granges not = { .a = a };
    for (int i = 0; i < 3; i++) lm_granges_add(&not, plain[i].lo, plain[i].hi);
    if (!a->err) lm_granges_invert(&not);
    bool ends = false;
    for (size_t i = lo; i < hi && !a->err;) {
        uint32_t c;
        if (!names[i][at]) { ends = true; i++; continue; }
        const int k = lm_g_utf8(names[i] + at, strlen(names[i] + at), &c);
        size_t j = i;
        while (j < hi && k && !strncmp(names[i] + at, names[j] + at, (size_t)k)) j++;
        if (!k) { lm_ast_fail(a, LM_E_FORMAT, "a property's name is not UTF-8"); break; }
        if (at > 4 * LM_GRAMMAR_DEPTH / 2) { lm_ast_fail(a, LM_E_RANGE, "a property's name is too long beside additionalProperties"); break; }
        lm_granges_add(&not, c, c);
        if (c >= 0x20 && c != '"' && c != '\\') lm_glist_add(&l, LM_G_SEQ(a, lm_g_text(a, names[i] + at, (size_t)k), other_key(s, names, i, j, at + (size_t)k,
            free_rest)));
        i = j;
    }
    if (!a->err) { lm_granges_invert(&not); lm_glist_add(&l, LM_G_SEQ(a, lm_g_class(a, not.v, not.n), free_rest)); }
    if (!ends) lm_glist_add(&l, lm_g_empty(a));
    const int32_t x = a->err ? -1 : lm_g_alt(a, l.v, l.n);
    lm_glist_free(&l); lm_granges_free(&not);
    return x;
}
static int32_t extra_pair(in *s, const lm_jv *props, int32_t value) {
    lm_ast *a = s->a;
    const size_t n = json_object_size(props->v);
    int32_t key;
    if (!n) key = lm_gj_string(a);
    else {
        static const lm_grange plain[] = { { 0x20, 0x21 }, { 0x23, 0x5B }, { 0x5D, 0x10FFFF } };
        const char **names = lm_alloc(a->ctx, LM_MEM_MISC, n * sizeof *names), *k;
        json_t *v;
        size_t i = 0;
        if (!names) { a->err = LM_E_NOMEM; return -1; }
        json_object_foreach((json_t *)(uintptr_t)props->v, k, v) names[i++] = k;
        qsort(names, n, sizeof *names, by_text);
        const int32_t rest = lm_g_rule(a, NULL, 0);
        lm_g_define(a, rest, lm_g_rep(a, lm_g_class(a, plain, 3), 0, -1));
        key = LM_G_SEQ(a, lm_g_str(a, "\""), other_key(s, names, 0, n, 0, lm_g_call(a, rest)), lm_g_str(a, "\""));
        lm_free(a->ctx, names);
    }
    const int32_t r = lm_g_rule(a, NULL, 0);
    lm_g_define(a, r, LM_G_SEQ(a, key, lm_g_str(a, ":"), lm_gj_ws(a), value));
    return lm_g_call(a, r);
}
static int32_t object(in *s, const lm_jv *at) {
    lm_ast *a = s->a;
    const lm_jv props = member(at, "properties"), required = member(at, "required"), extra = member(at, "additionalProperties");
    const int64_t least = count(s, at, "minProperties"), most = count(s, at, "maxProperties");
    if (a->err) return -1;
    if (props.v && !json_is_object(props.v)) return fail(s, &props, LM_E_CONFIG, "wanted an object of schemas");
    if (required.v && !json_is_array(required.v)) return fail(s, &required, LM_E_CONFIG,
        "wanted a list of names (a property is made required in the object that has it)");
    json_t *all = own(s, json_object()), *need = own(s, json_object()), *v;
    const char *key;
    size_t i;
    if (!all || !need) return -1;
    json_object_foreach((json_t *)(uintptr_t)props.v, key, v) json_object_set(all, key, v);
    json_array_foreach(required.v, i, v) {
        const char *name = json_string_value(v);
        if (!name || strlen(name) != json_string_length(v)) { const lm_jv e = element(&required, i); return fail(s, &e, LM_E_CONFIG, "wanted a name"); }
        json_object_set(need, name, json_true());
        if (json_object_get(all, name)) continue;                      /* not described: what additionalProperties says, or anything */
        if (json_is_false(extra.v)) return lm_g_never(a);
        json_object_set(all, name, extra.v ? extra.v : json_true());
    }
    const int64_t n = (int64_t)json_object_size(all), n_need = (int64_t)json_object_size(need);
    /* others: where asked for, or where nothing at all is said about properties */
    const bool open = extra.v ? !json_is_false(extra.v) : !props.v && !required.v;
    if (least > n_need) return FAIL_IN(s, at, "minProperties", LM_E_UNSUPPORTED, "more than the required ones cannot be counted");
    if (most >= 0 && (open || most < n)) return FAIL_IN(s, at, "maxProperties", LM_E_UNSUPPORTED, "fewer than the possible ones cannot be counted");
    if (open && !n && (!extra.v || json_is_true(extra.v))) return lm_gj_object(a);
    const int32_t ws = lm_gj_ws(a), comma = lm_g_str(a, ",");
    lm_glist item = { .a = a }, must = { .a = a }, l = { .a = a };
    int64_t first_need = n;
    json_object_foreach(all, key, v) {
        lm_jv p = member(&props, key);
        if (!props.v) p.up = at;
        p.v = v;
        const bool needed = json_object_get(need, key);
        int32_t x = schema(s, &p);
        if (a->err) break;
        const int32_t r = lm_g_rule(a, NULL, 0);
        lm_g_define(a, r, pair(s, key, x));
        lm_glist_add(&item, lm_g_call(a, r));
        lm_glist_add(&must, needed);
        if (needed && first_need == n) first_need = item.n - 1;
    }
    int32_t others = -1, result = -1;
    if (open && !a->err) {
        lm_jv names = props;
        names.v = all;
        others = extra_pair(s, &names, !extra.v || json_is_true(extra.v) ? lm_gj_any(a) : schema(s, &extra));
    }
    if (!a->err && item.n == n) {
        /* rest[k]: what follows when something stands before property k. From the back; a rule where several ways lead to it. */
        int32_t rest = open ? lm_g_rep(a, LM_G_SEQ(a, comma, ws, others), 0, -1) : lm_g_empty(a);
        if (open) lm_glist_add(&l, LM_G_SEQ(a, others, rest));         /* nothing but others */
        const bool without = first_need == n;                          /* may there be no property at all? */
        if (!without) l.n = 0;
        for (int64_t k = n - 1; k >= 0; k--) {
            if (k <= first_need || k % 64 == 63) {                     /* it may be the first one there; and nesting has a limit */
                if (first_need > 0 || k % 64 == 63) { const int32_t r = lm_g_rule(a, NULL, 0); lm_g_define(a, r, rest); rest = lm_g_call(a, r); }
                if (k <= first_need) lm_glist_add(&l, LM_G_SEQ(a, item.v[k], rest));
            }
            const int32_t one = LM_G_SEQ(a, comma, ws, item.v[k]);
            rest = LM_G_SEQ(a, must.v[k] ? one : lm_g_rep(a, one, 0, 1), rest);
        }
        const int32_t some = l.n ? LM_G_SEQ(a, ws, lm_g_alt(a, l.v, l.n), ws) : -1;
        const int32_t body = some < 0 ? ws : without ? LM_G_ALT(a, ws, some) : some;
        result = LM_G_SEQ(a, lm_g_str(a, "{"), body, lm_g_str(a, "}"));
    }
    lm_glist_free(&item); lm_glist_free(&must); lm_glist_free(&l);
    return a->err ? -1 : result;
}

/* ---- choices ---- */
static int32_t literals(in *s, const lm_jv *at, int bits) {
    const json_t *v = json_object_get(at->v, "const"), *list = json_object_get(at->v, "enum");
    lm_glist l = { .a = s->a };
    static const char *const beside[] = { "pattern", "format", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
                                          "properties", "required", "additionalProperties", "minProperties", "maxProperties", "items", "prefixItems",
                                              "minItems", "maxItems" };
    if (list && !json_is_array(list)) return FAIL_IN(s, at, "enum", LM_E_CONFIG, "wanted a list of values");
    for (int k = 0; k < LM_COUNT(beside); k++)
        if (json_object_get(at->v, beside[k])) return FAIL_IN(s, at, beside[k], LM_E_UNSUPPORTED,
            "beside enum or const: leave it out, or leave out the values it forbids");
    const size_t n = list ? json_array_size(list) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *x = list ? json_array_get(list, i) : v;
        if (!fits(bits, x) || (v && list && !json_equal(v, x))) continue;
        lm_glist_add(&l, literal(s, at, x));
    }
    const int32_t r = s->a->err ? -1 : lm_g_alt(s->a, l.v, l.n);
    lm_glist_free(&l);
    return r;
}
static json_t *values_of(const json_t *x, bool *one) {                 /* its enum, or its const */
    json_t *v = json_object_get(x, "const");
    *one = v != NULL;
    return v ? v : json_object_get(x, "enum");
}
static bool apart_values(const json_t *x, const json_t *y) {
    bool ox, oy;
    const json_t *vx = values_of(x, &ox), *vy = values_of(y, &oy);
    if (!vx || !vy) return false;
    for (size_t i = 0; i < (ox ? 1 : json_array_size(vx)); i++)
        for (size_t k = 0; k < (oy ? 1 : json_array_size(vy)); k++)
            if (json_equal(ox ? vx : json_array_get(vx, i), oy ? vy : json_array_get(vy, k))) return false;
    return true;
}
static bool none_fits(int bits, const json_t *values, bool one) {
    for (size_t i = 0; i < (one ? 1 : json_array_size(values)); i++) if (fits(bits, one ? values : json_array_get(values, i))) return false;
    return true;
}
static bool needs(const json_t *x, const char *name) {
    const json_t *r = json_object_get(x, "required");
    for (size_t i = 0; i < json_array_size(r); i++) { const char *n = json_string_value(json_array_get(r, i)); if (n && !strcmp(n, name)) return true; }
    return false;
}
/* Can no value satisfy both? By types, by values, by a property that both require, or by one that one requires and the other has no room for. */
static bool apart(in *s, const lm_jv *at, json_t *x, json_t *y) {
    x = looked_up(s, at, x); y = looked_up(s, at, y);
    if (!json_is_object(x) || !json_is_object(y)) return json_is_false(x) || json_is_false(y);
    const lm_jv jx = { .ctx = at->ctx, .file = at->file, .up = at, .key = "oneOf", .v = x }, jy = { .ctx = at->ctx, .file = at->file, .up = at,
        .key = "oneOf", .v = y };
    const int bx = type_bits(s, &jx), by = type_bits(s, &jy);
    if (s->a->err) return false;
    bool ox, oy;
    if (!(bx & by) || apart_values(x, y)) return true;
    const json_t *ex = values_of(x, &ox), *ey = values_of(y, &oy);
    if ((ex && !ey && none_fits(by, ex, ox)) || (ey && !ex && none_fits(bx, ey, oy))) return true;
    if ((bx & by) != T_OBJ) return false;
    const json_t *px = json_object_get(x, "properties"), *py = json_object_get(y, "properties");
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)px, key, v) {
        json_t *w = json_object_get(py, key);
        if (w && needs(x, key) && needs(y, key) && s->depth < 8) { s->depth++; const bool is = apart(s, at, v, w); s->depth--; if (is) return true; }
        if (!w && needs(x, key) && json_is_false(json_object_get(y, "additionalProperties"))) return true;
    }
    json_object_foreach((json_t *)(uintptr_t)py, key, v)
        if (needs(y, key) && !json_object_get(px, key) && json_is_false(json_object_get(x, "additionalProperties"))) return true;
    return false;
}
static int32_t choice(in *s, const lm_jv *at, const char *key, int n_keys) {
    const lm_jv list = member(at, key);
    lm_glist l = { .a = s->a };
    if (!json_is_array(list.v) || !json_array_size(list.v)) return fail(s, &list, LM_E_CONFIG, "wanted a list of schemas");
    json_t *base = own(s, json_copy(at->v));
    if (!base) return -1;
    json_object_del(base, key);
    if (!strcmp(key, "oneOf"))
        for (size_t i = 0; i < json_array_size(list.v) && !s->a->err; i++)
            for (size_t k = 0; k < i; k++)
                if (!apart(s, &list, json_array_get(list.v, k), json_array_get(list.v, i)) && !s->a->err)
                    fail(s, &list, LM_E_UNSUPPORTED, "branches %zu and %zu may hold at once, which a grammar cannot forbid; if that does no harm, say anyOf", k, i);
    for (size_t i = 0; i < json_array_size(list.v) && !s->a->err; i++) {
        lm_jv e = element(&list, i);
        if (n_keys > 1) e.v = merge(s, &e, base, e.v);
        lm_glist_add(&l, schema(s, &e));
    }
    const int32_t x = s->a->err ? -1 : lm_g_alt(s->a, l.v, l.n);
    lm_glist_free(&l);
    return x;
}
static int32_t joined(in *s, const lm_jv *at) {                        /* allOf, or $ref with something beside it */
    json_t *x = own(s, json_copy(at->v));
    if (!x) return -1;
    const lm_jv list = member(at, "allOf");
    if (list.v && !json_is_array(list.v)) return fail(s, &list, LM_E_CONFIG, "wanted a list of schemas");
    json_object_del(x, "allOf");
    if (json_object_get(x, "$ref")) x = looked_up(s, at, x);
    for (size_t i = 0; x && i < json_array_size(list.v); i++) { const lm_jv e = element(&list, i); x = merge(s, &e, x, e.v); }
    if (!x || s->a->err) return -1;
    lm_jv now = *at;
    now.v = x;
    return schema(s, &now);
}
static int32_t of_object(in *s, const lm_jv *at) {
    lm_ast *a = s->a;
    int bits, n;
    if (!keys(s, at, &bits, &n)) return -1;
    const json_t *ref = json_object_get(at->v, "$ref");
    if (ref && !json_is_string(ref)) return FAIL_IN(s, at, "$ref", LM_E_CONFIG, "wanted a string");
    if (ref && n == 1) return reference(s, at, json_string_value(ref));
    if (ref || json_object_get(at->v, "allOf")) return joined(s, at);
    if (json_object_get(at->v, "anyOf")) return choice(s, at, "anyOf", n);
    if (json_object_get(at->v, "oneOf")) return choice(s, at, "oneOf", n);
    if (!n) return lm_gj_any(a);
    int type = type_bits(s, at);
    if (a->err) return -1;
    if (json_object_get(at->v, "enum") || json_object_get(at->v, "const")) return literals(s, at, type);
    if (bits && !json_object_get(at->v, "type")) type = bits;
    int32_t x[8];
    int k = 0;
    if (type & T_OBJ) x[k++] = object(s, at);
    if (type & T_ARR) x[k++] = array(s, at);
    if (type & T_STR) x[k++] = string(s, at);
    if (type & (T_NUM | T_INT)) x[k++] = number(s, at, !(type & T_NUM));
    if (type & T_BOOL) x[k++] = LM_G_ALT(a, lm_g_str(a, "true"), lm_g_str(a, "false"));
    if (type & T_NULL) x[k++] = lm_g_str(a, "null");
    return a->err ? -1 : lm_g_alt(a, x, k);
}
static int32_t schema(in *s, const lm_jv *at) {
    if (s->a->err) return -1;
    if (json_is_true(at->v)) return lm_gj_any(s->a);
    if (json_is_false(at->v)) return lm_g_never(s->a);
    if (!json_is_object(at->v)) return fail(s, at, LM_E_CONFIG, "wanted a schema: an object, true or false");
    if (++s->depth > LM_GRAMMAR_DEPTH / 4) return fail(s, at, LM_E_RANGE, "schemas nested too deep");
    const int32_t x = of_object(s, at);
    s->depth--;
    return x;
}
static void targets(in *s) {                                           /* rules of $ref, which may find more */
    for (int32_t i = 0; i < s->n_t && !s->a->err; i++) {
        lm_jv path[SEGMENTS];
        char names[4096];
        int n;
        const target t = s->t[i];
        if (resolve(s, &s->top, t.path, path, names, sizeof names, &n)) lm_g_define(s->a, t.rule, schema(s, &path[n]));
    }
}
static lm_err parse(lm_ast *a, const char *text, size_t n) {
    in s = { .a = a };
    lm_err err = lm_json_parse(a->ctx, a->file, text, n, 0, &s.root);
    if (err) return a->err = err;
    s.top = lm_json_root(a->ctx, a->file, s.root);
    if ((s.made = json_array())) {
        a->root = lm_g_rule(a, "the schema", 10);
        lm_g_define(a, a->root, schema(&s, &s.top));
        targets(&s);
    } else a->err = LM_E_NOMEM;
    for (int32_t i = 0; i < s.n_t; i++) lm_free(a->ctx, s.t[i].path);
    lm_free(a->ctx, s.t);
    json_decref(s.made); lm_json_free(s.root);
    return a->err;
}
const lm_grammar_row lm_grammar_schema = { .name = "schema", .what = "JSON Schema, draft 2020-12 as structured output uses it", .parse = parse };
