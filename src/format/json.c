/* json.c — see json.h. */
#include "format/json.h"
#include "base/file.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* jansson recurses 2048 deep before it objects; this looks once, without recursion, and says where. */
static lm_err check_depth(lm_ctx *ctx, const char *name, const char *t, size_t n) {
    int depth = 0; size_t line = 1, line_start = 0;
    for (size_t i = 0; i < n; i++) {
        char c = t[i];
        if (c == '"') {
            for (i++; i < n && t[i] != '"'; i++) {
                if (t[i] == '\\') i++;
                else if (t[i] == '\n') break;      /* not JSON: jansson will say so */
            }
        }
        if (i < n && t[i] == '\n') { line++; line_start = i + 1; }
        if (c == '[' || c == '{') {
            if (++depth > LM_JSON_MAX_DEPTH)
                return lm_fail(ctx, LM_E_RANGE, "%s:%zu:%zu: nested deeper than %d", name, line, i - line_start + 1, (int)LM_JSON_MAX_DEPTH);
        } else if ((c == ']' || c == '}') && depth) depth--;
    }
    return LM_OK;
}

lm_err lm_json_parse(lm_ctx *ctx, const char *name, const char *text, size_t n, unsigned flags, json_t **out) {
    if (n > LM_JSON_MAX_BYTES) return lm_fail(ctx, LM_E_RANGE, "%s: %zu bytes of JSON, the limit is %d", name, n, (int)LM_JSON_MAX_BYTES);
    /* jansson passes over one after a number */
    if (n && memchr(text, 0, n)) return lm_fail(ctx, LM_E_FORMAT, "%s: a NUL byte in the text", name);
    LM_TRY(check_depth(ctx, name, text, n));
    json_error_t e;
    json_t *v = json_loadb(n ? text : "", n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | (flags & LM_JSON_ALLOW_NUL ? JSON_ALLOW_NUL : 0), &e);
    if (!v) {
        if (json_error_code(&e) == json_error_out_of_memory) return lm_fail(ctx, LM_E_NOMEM, "%s: out of memory while parsing JSON", name);
        return lm_fail(ctx, LM_E_FORMAT, "%s:%d:%d: %s", name, e.line, e.column, e.text);
    }
    *out = v;
    return LM_OK;
}
lm_err lm_json_load(lm_ctx *ctx, const char *path, unsigned flags, json_t **out) {
    char *text; size_t n;
    LM_TRY(lm_file_read_all(ctx, path, LM_JSON_MAX_BYTES, &text, &n));
    lm_err err = lm_json_parse(ctx, path, text, n, flags, out);
    lm_free(ctx, text);
    return err;
}
void lm_json_free(json_t *v) { json_decref(v); }
lm_jv lm_json_root(lm_ctx *ctx, const char *file, json_t *v) { return (lm_jv){ .ctx = ctx, .file = file, .v = v }; }

/* ---- errors ------------------------------------------------------------------------------------------------ */
static void put_pointer(lm_str *s, const lm_jv *at) {        /* RFC 6901; depth is bounded by LM_JSON_MAX_DEPTH */
    if (!at->up) return;
    put_pointer(s, at->up);
    lm_str_putc(s, '/');
    if (!at->key) { lm_str_printf(s, "%zu", at->index); return; }
    for (const char *k = at->key; *k; k++) {
        if (*k == '~') lm_str_puts(s, "~0");
        else if (*k == '/') lm_str_puts(s, "~1");
        else lm_str_putc(s, *k);
    }
}
lm_err lm_json_fail(const lm_jv *at, lm_err code, const char *fmt, ...) {
    lm_str s = { .ctx = at->ctx };
    put_pointer(&s, at);
    lm_str_add(&s, "", 0);
    char msg[512]; va_list ap;
    va_start(ap, fmt); vsnprintf(msg, sizeof msg, fmt, ap); va_end(ap);
    if (s.n && !s.bad) lm_fail(at->ctx, code, "%s: %s: %s", at->file, s.p, msg);
    else lm_fail(at->ctx, code, "%s: %s", at->file, msg);
    lm_str_free(&s);
    return code;
}
static const char *kind(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number"; case JSON_TRUE: return "true"; case JSON_FALSE: return "false"; default: return "null";
    }
}
static lm_err wrong(const lm_jv *v, const char *want) {
    if (json_is_string(v->v)) return lm_json_fail(v, LM_E_CONFIG, "wanted %s, got the string \"%.60s\"", want, json_string_value(v->v));
    return lm_json_fail(v, LM_E_CONFIG, "wanted %s, got %s", want, kind(v->v));
}

/* ---- values ------------------------------------------------------------------------------------------------ */
lm_err lm_json_as_int(const lm_jv *v, int64_t min, int64_t max, int64_t *out) {
    int64_t x;
    if (json_is_integer(v->v)) x = json_integer_value(v->v);
    else if (json_is_real(v->v) && fabs(json_real_value(v->v)) <= 0x1p53 && rint(json_real_value(v->v)) == json_real_value(v->v))
        x = (int64_t)json_real_value(v->v);                    /* 4096.0 is an integer to those who write JSON */
    else return wrong(v, "an integer");
    if (x < min || x > max)
        return lm_json_fail(v, LM_E_RANGE, "%lld is outside %lld..%lld", (long long)x, (long long)min, (long long)max);
    *out = x;
    return LM_OK;
}
lm_err lm_json_as_num(const lm_jv *v, double min, double max, double *out) {
    if (!json_is_number(v->v)) return wrong(v, "a number");
    double x = json_number_value(v->v);
    if (!(x >= min && x <= max)) return lm_json_fail(v, LM_E_RANGE, "%g is outside %g..%g", x, min, max);
    *out = x;
    return LM_OK;
}
lm_err lm_json_as_bool(const lm_jv *v, bool *out) {
    if (!json_is_boolean(v->v)) return wrong(v, "true or false");
    *out = json_is_true(v->v);
    return LM_OK;
}
lm_err lm_json_as_str(const lm_jv *v, const char **out, size_t *n) {
    if (!json_is_string(v->v)) return wrong(v, "a string");
    const char *s = json_string_value(v->v); size_t len = json_string_length(v->v);
    if (!n && strlen(s) != len) return lm_json_fail(v, LM_E_CONFIG, "the string contains a NUL character");
    *out = s;
    if (n) *n = len;
    return LM_OK;
}

/* ---- members ----------------------------------------------------------------------------------------------- */
lm_err lm_json_get(const lm_jv *o, const char *key, lm_json_mode m, lm_jv *child) {
    if (!o->v) return lm_json_fail(o, LM_E_CONFIG, "is absent, wanted an object with \"%s\"", key);
    if (!json_is_object(o->v)) return wrong(o, "an object");
    lm_jv c = { .ctx = o->ctx, .file = o->file, .up = o, .key = key, .v = json_object_get(o->v, key) };
    if (c.v && json_is_null(c.v) && m == LM_JSON_OPT) c.v = NULL;
    if (!c.v && m == LM_JSON_NEED) return lm_json_fail(&c, LM_E_CONFIG, "missing");
    *child = c;
    return LM_OK;
}
lm_err lm_json_int(const lm_jv *o, const char *key, lm_json_mode m, int64_t def, int64_t min, int64_t max, int64_t *out) {
    lm_jv c; LM_TRY(lm_json_get(o, key, m, &c));
    if (!c.v) { *out = def; return LM_OK; }
    return lm_json_as_int(&c, min, max, out);
}
lm_err lm_json_num(const lm_jv *o, const char *key, lm_json_mode m, double def, double min, double max, double *out) {
    lm_jv c; LM_TRY(lm_json_get(o, key, m, &c));
    if (!c.v) { *out = def; return LM_OK; }
    return lm_json_as_num(&c, min, max, out);
}
lm_err lm_json_bool(const lm_jv *o, const char *key, lm_json_mode m, bool def, bool *out) {
    lm_jv c; LM_TRY(lm_json_get(o, key, m, &c));
    if (!c.v) { *out = def; return LM_OK; }
    return lm_json_as_bool(&c, out);
}
lm_err lm_json_str(const lm_jv *o, const char *key, lm_json_mode m, const char *def, const char **out, size_t *n) {
    lm_jv c; LM_TRY(lm_json_get(o, key, m, &c));
    if (!c.v) { *out = def; if (n) *n = def ? strlen(def) : 0; return LM_OK; }
    return lm_json_as_str(&c, out, n);
}
static lm_err get_kind(const lm_jv *o, const char *key, lm_json_mode m, json_type t, const char *want, lm_jv *child) {
    lm_jv c; LM_TRY(lm_json_get(o, key, m, &c));
    if (c.v && json_typeof(c.v) != t) return wrong(&c, want);
    *child = c;
    return LM_OK;
}
lm_err lm_json_obj(const lm_jv *o, const char *key, lm_json_mode m, lm_jv *child) { return get_kind(o, key, m, JSON_OBJECT, "an object", child); }
lm_err lm_json_arr(const lm_jv *o, const char *key, lm_json_mode m, lm_jv *child) { return get_kind(o, key, m, JSON_ARRAY, "an array", child); }
size_t lm_json_len(const lm_jv *arr) { return arr->v ? json_array_size(arr->v) : 0; }
lm_err lm_json_item(const lm_jv *arr, size_t i, lm_jv *child) {
    lm_jv c = { .ctx = arr->ctx, .file = arr->file, .up = arr, .index = i, .v = arr->v ? json_array_get(arr->v, i) : NULL };
    if (!c.v) return lm_json_fail(&c, LM_E_RANGE, "past the end: the array has %zu items", lm_json_len(arr));
    *child = c;
    return LM_OK;
}
lm_err lm_json_ints(const lm_jv *o, const char *key, lm_json_mode m, int64_t min, int64_t max, int64_t *dst, int cap, int *n) {
    lm_jv a, c; int64_t x;
    LM_TRY(lm_json_arr(o, key, m, &a));
    size_t len = lm_json_len(&a);
    if (len > (size_t)cap) return lm_json_fail(&a, LM_E_RANGE, "%zu items, at most %d fit here", len, cap);
    for (size_t i = 0; i < len; i++) { LM_TRY(lm_json_item(&a, i, &c)); LM_TRY(lm_json_as_int(&c, min, max, &x)); }
    /* dst is untouched on error */
    for (size_t i = 0; i < len; i++) { LM_TRY(lm_json_item(&a, i, &c)); LM_TRY(lm_json_as_int(&c, min, max, &dst[i])); }
    *n = (int)len;
    return LM_OK;
}
lm_err lm_json_only(const lm_jv *o, const char *const *names, int n) {
    if (!json_is_object(o->v)) return o->v ? wrong(o, "an object") : lm_json_fail(o, LM_E_CONFIG, "missing");
    const char *key; json_t *v;
    json_object_foreach(o->v, key, v) {
        int i = 0;
        while (i < n && strcmp(names[i], key)) i++;
        if (i < n) continue;
        const char *near = lm_nearest(key, names, n);
        lm_jv c = { .ctx = o->ctx, .file = o->file, .up = o, .key = key, .v = v };
        return near ? lm_json_fail(&c, LM_E_CONFIG, "unknown key; did you mean \"%s\"?", near) : lm_json_fail(&c, LM_E_CONFIG, "unknown key");
    }
    return LM_OK;
}
