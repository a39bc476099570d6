/* jinja_filters.c — the filters behind "|". */
#define _GNU_SOURCE 1                                               /* memmem */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include "chat/jinja_int.h"
#include "format/cursor.h"
#include "tok/unicode.h"

#define F(name) static jv f_##name(lmj *j, jv v, const jargs *a)
#define BIND(what, spec, n) jv x[n]; if (!lmj_bind(j, what, a, spec, x)) return v
static jstr *text(lmj *j, jv v) { return lmj_text(j, v); }
static bool given(jv v) { return v.t != JV_MISSING; }
static jv method(lmj *j, const char *name, jv self, const jargs *a) {
    bool unsafe;
    const jmethod_row *r = lmj_method(self, lmj_lit(j, name).s, &unsafe);
    return r ? r->fn(j, self, a) : lmj_fail(j, "no %s", name);
}
static jlist *pushed(lmj *j, jlist *l, jv v) { lmj_push(j, l, v); return l; }

/* ---- text ---- */
F(upper) { BIND("upper", "", 1); (void)x; return jv_s(lmj_case(j, text(j, v), 'u')); }
F(lower) { BIND("lower", "", 1); (void)x; return jv_s(lmj_case(j, text(j, v), 'l')); }
F(capitalize) { BIND("capitalize", "", 1); (void)x; return jv_s(lmj_case(j, text(j, v), 'c')); }
F(title) {                                                           /* words begin behind white space and -({[< */
    BIND("title", "", 1); (void)x;
    jstr *s = text(j, v);
    jbuf b = { .j = j };
    for (size_t i = 0; i < s->n && !j->err;) {
        int k;
        size_t e = i;
        bool sep = false;
        for (; e < s->n; e += (size_t)k) {
            const uint32_t c = lm_utf8_get((const uint8_t *)s->p + e, &k);
            const bool is = c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || lmj_space(c);
            if (e == i) sep = is; else if (is != sep) break;
        }
        size_t first = i + (size_t)lm_utf8_len((const uint8_t *)s->p + i, s->n - i);
        lmj_put_str(&b, lmj_case(j, lmj_sub(j, s, i, first), 'u'));
        lmj_put_str(&b, lmj_case(j, lmj_sub(j, s, first, e), 'l'));
        i = e;
    }
    return lmj_done(&b);
}
F(trim) { BIND("trim", "chars", 1); return jv_s(lmj_strip(j, text(j, v), x[0], 3)); }
F(string) { BIND("string", "", 1); (void)x; return jv_s(text(j, v)); }
F(safe) {
    BIND("safe", "", 1); (void)x;
    jstr *s = text(j, v), *r = lmj_sub(j, s, 0, s->n);
    if (!j->err) r->html = true;
    return jv_s(r);
}
F(escape) { BIND("escape", "", 1); (void)x; return lmj_escape(j, v); }
F(forceescape) {
    BIND("forceescape", "", 1); (void)x;
    jstr *s = text(j, v);
    return lmj_escape(j, jv_s(lmj_sub(j, s, 0, s->n)));
}
F(replace) {
    BIND("replace", "old! new! count", 3);
    return lmj_replace(j, text(j, v), text(j, x[0]), text(j, x[1]), x[2].t == JV_NONE ? -1 : lmj_arg_int(j, "replace", x[2], -1));
}
F(center) {
    BIND("center", "width", 1); const jv w = given(x[0]) ? x[0] : jv_i(80);
    return method(j, "center", jv_s(text(j, v)), &(jargs){ .pos = (jv[]){ w }, .n = 1 });
}
F(format) {
    if (a->n && a->n_kw) return lmj_fail(j, "can't handle positional and keyword arguments at the same time");
    if (a->n_kw) {
        const jv d = lmj_dict(j);
        for (int i = 0; i < a->n_kw; i++) lmj_set(j, d.d, jv_s(a->name[i]), a->val[i]);
        return lmj_percent(j, text(j, v), d);
    }
    jv t = lmj_list(j, a->n);
    t.t = JV_TUPLE;
    for (int i = 0; i < a->n; i++) lmj_push(j, t.l, a->pos[i]);
    return lmj_percent(j, text(j, v), t);
}
F(indent) {
    BIND("indent", "width first blank", 3);
    if (v.t != JV_STR) { if (!lmj_used(j, v)) return v; return lmj_fail(j, "indent wants a string, not %s", lmj_kind(v)); }
    jbuf in = { .j = j }, b = { .j = j };
    if (x[0].t == JV_STR) lmj_put_str(&in, x[0].s);
    else for (int64_t i = lmj_arg_int(j, "indent", x[0], 4); i > 0 && !j->err && lmj_step(j, 1); i--) lmj_puts(&in, " ");
    const jstr *by = lmj_done(&in).s;
    jbuf whole = { .j = j };
    lmj_put_str(&whole, v.s); lmj_puts(&whole, "\n");
    const jlist *lines = lmj_splitlines(j, lmj_done(&whole).s, false).l;
    const bool blank = lmj_true(j, x[2]);
    if (lmj_true(j, x[1])) lmj_put_str(&b, by);
    for (int64_t i = 0; i < lines->n && !j->err; i++) {
        if (i) { lmj_puts(&b, "\n"); if (blank || lines->v[i].s->n) lmj_put_str(&b, by); }
        lmj_put_str(&b, lines->v[i].s);
    }
    return lmj_done(&b);
}
F(truncate) {
    BIND("truncate", "length killwords end leeway", 4);
    const int64_t length = lmj_arg_int(j, "truncate", x[0], 255), leeway = x[3].t == JV_NONE ? 5 : lmj_arg_int(j, "truncate", x[3], 5);
    jstr *end = given(x[2]) ? text(j, x[2]) : lmj_lit(j, "...").s;
    if (v.t != JV_STR) { if (!lmj_used(j, v)) return v; return lmj_fail(j, "truncate wants a string, not %s", lmj_kind(v)); }
    if (length < lmj_chars(end)) return lmj_fail(j, "expected length >= %lld, got %lld", (long long)lmj_chars(end), (long long)length);
    if (leeway < 0) return lmj_fail(j, "expected leeway >= 0, got %lld", (long long)leeway);
    if (lmj_chars(v.s) - leeway <= length) return v;
    jstr *s = lmj_sub(j, v.s, 0, lmj_byte_at(v.s, length - lmj_chars(end)));
    if (!lmj_true(j, x[1])) { size_t k = s->n; while (k && s->p[k - 1] != ' ') k--; if (k) s = lmj_sub(j, s, 0, k - 1); }
    jbuf b = { .j = j };
    lmj_put_str(&b, s); lmj_put_str(&b, end);
    return lmj_done(&b);
}
F(wordcount) {
    BIND("wordcount", "", 1); (void)x;
    const jstr *s = text(j, v);
    int64_t n = 0; bool in = false; int k;
    for (size_t i = 0; i < s->n; i += (size_t)k) {
        const uint32_t c = lm_utf8_get((const uint8_t *)s->p + i, &k);
        const bool w = c == '_' || lmj_alpha(c) || lmj_numeric(c);
        n += w && !in; in = w;
    }
    return lmj_step(j, (int64_t)(s->n / 16)) ? jv_i(n) : v;
}
F(striptags) {                                                       /* comments and tags go, white space becomes one blank, entities their characters */
    BIND("striptags", "", 1); (void)x;
    const jstr *s = text(j, v);
    jbuf b = { .j = j };
    for (size_t i = 0; i < s->n && !j->err;) {
        if (s->p[i] == '<') {
            const bool comment = s->n - i >= 4 && !memcmp(s->p + i, "<!--", 4);
            const char *end = comment ? memmem(s->p + i, s->n - i, "-->", 3) : memchr(s->p + i, '>', s->n - i);
            if (end) { i = (size_t)(end - s->p) + (comment ? 3 : 1); continue; }
        }
        lmj_put_sub(&b, s, i, i + 1);
        i++;
    }
    const jv words = lmj_split(j, lmj_done(&b).s, (jv){ 0 }, -1, false);
    jv t = method(j, "join", lmj_lit(j, " "), &(jargs){ .pos = (jv[]){ words }, .n = 1 });
    static const char *const ent[][2] = { { "&lt;", "<" }, { "&gt;", ">" }, { "&#39;", "'" }, { "&#34;", "\"" }, { "&quot;", "\"" }, { "&amp;", "&" } };
    for (int i = 0; i < LM_COUNT(ent) && !j->err; i++) t = lmj_replace(j, t.s, lmj_lit(j, ent[i][0]).s, lmj_lit(j, ent[i][1]).s, -1);
    return t;
}
static void quote(jbuf *b, const jstr *s, bool form) {
    for (size_t i = 0; i < s->n && !b->j->err; i++) {
        const unsigned char c = (unsigned char)s->p[i];
        char t[4] = { (char)c };
        if (form && c == ' ') t[0] = '+';
        else if (!((c | 32) >= 'a' && (c | 32) <= 'z' && c < 128) && !(c >= '0' && c <= '9') && !(c && strchr("_.-~", c)) && !(c == '/' && !form)) snprintf(t,
            sizeof t, "%%%02X", c);
        lmj_put(b, t, strlen(t), lmj_mark_at(s, i));
    }
}
F(urlencode) {
    BIND("urlencode", "", 1); (void)x;
    jbuf b = { .j = j };
    if (v.t == JV_STR || v.t == JV_NONE || jv_is_num(v)) { quote(&b, text(j, v), false); return lmj_done(&b); }
    jview items = { v.d, VIEW_ITEMS };
    jlist *l = lmj_items(j, v.t == JV_DICT ? (jv){ .t = JV_VIEW, .view = &items } : v);
    for (int64_t i = 0; l && i < l->n && !j->err; i++) {
        jlist *p = lmj_items(j, l->v[i]);
        if (p && p->n != 2) return lmj_fail(j, "urlencode wants pairs");
        if (!p) break;
        if (i) lmj_puts(&b, "&");
        quote(&b, text(j, p->v[0]), true); lmj_puts(&b, "="); quote(&b, text(j, p->v[1]), true);
    }
    return lmj_done(&b);
}
F(xmlattr) {
    BIND("xmlattr", "autospace", 1);
    jbuf b = { .j = j };
    if (v.t != JV_DICT) { if (!lmj_used(j, v)) return v; return lmj_fail(j, "xmlattr wants a dict, not %s", lmj_kind(v)); }
    for (int64_t i = 0; i < v.d->n && !j->err; i++) {
        const jpair *p = &v.d->v[i];
        if (p->val.t == JV_NONE || p->val.t == JV_UNDEF) continue;
        const jstr *k = text(j, p->key);
        for (size_t q = 0; q < k->n; q++) if (strchr(" \t\n\r\f\v/>=", k->p[q])) return lmj_fail(j, "Invalid character in attribute name");
        if (b.n || !given(x[0]) || lmj_true(j, x[0])) lmj_puts(&b, " ");
        lmj_put_str(&b, lmj_escape(j, p->key).s); lmj_puts(&b, "=\""); lmj_put_str(&b, lmj_escape(j, p->val).s); lmj_puts(&b, "\"");
    }
    return lmj_done(&b);
}
F(tojson) {
    BIND("tojson", "ensure_ascii indent separators sort_keys", 4);
    jstr *indent = NULL, *comma, *colon = lmj_lit(j, ": ").s;
    if (x[1].t == JV_STR) indent = x[1].s;
    else if (given(x[1]) && x[1].t != JV_NONE) {
        jbuf b = { .j = j };
        for (int64_t i = lmj_arg_int(j, "indent", x[1], 0); i > 0 && !j->err && lmj_step(j, 1); i--) lmj_puts(&b, " ");
        indent = lmj_done(&b).s;
    }
    comma = lmj_lit(j, indent ? "," : ", ").s;
    if (given(x[2]) && x[2].t != JV_NONE) {
        jlist *l = lmj_items(j, x[2]);
        if (!l) return v;
        if (l->n != 2 || l->v[0].t != JV_STR || l->v[1].t != JV_STR) return lmj_fail(j, "separators: wanted two strings");
        comma = l->v[0].s; colon = l->v[1].s;
    }
    jbuf b = { .j = j };
    lmj_json(&b, v, lmj_true(j, x[0]), indent, comma, colon, lmj_true(j, x[3]), 0);
    return lmj_done(&b);
}
F(filesizeformat) {
    BIND("filesizeformat", "binary", 1);
    const bool bin = lmj_true(j, x[0]);
    if (!jv_is_num(v)) return lmj_fail(j, "filesizeformat wants a number");
    static const char *const unit[2][8] = { { "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB" }, { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB" } };
    const double base = bin ? 1024 : 1000, n = jv_num(v);
    char t[80];
    if (n == 1) return lmj_lit(j, "1 Byte");
    if (n < base) { snprintf(t, sizeof t, "%lld Bytes", (long long)n); return lmj_str_of(j, t, strlen(t), false); }
    double u = base;
    int i = 0;
    for (; i < 8; i++) { u *= base; if (n < u) break; }
    if (i == 8) i = 7;
    snprintf(t, sizeof t, "%.1f %s", base * n / u, unit[bin][i]);
    return lmj_str_of(j, t, strlen(t), false);
}

/* ---- numbers ---- */
static bool parse_int(const jstr *s, int64_t base, int64_t *out) {
    char t[80]; size_t n = 0, i = 0, e = s->n;
    while (i < e && lmj_space((unsigned char)s->p[i])) i++;
    while (e > i && lmj_space((unsigned char)s->p[e - 1])) e--;
    const bool neg = i < e && s->p[i] == '-';
    if (i < e && (s->p[i] == '-' || s->p[i] == '+')) i++;
    if (e - i > 1 && s->p[i] == '0') {
        const char c = (char)(s->p[i + 1] | 32);
        const int64_t has = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
        if (has && (base == has || base == 0)) { i += 2; base = has; if (i < e && s->p[i] == '_') i++; }
        else if (!has && base == 0) { for (size_t k = i; k < e; k++) if (s->p[k] != '0' && s->p[k] != '_') return false; base = 10; }
    }
    if (!base) base = 10;
    if (i == e) return false;
    for (; i < e; i++) {
        const char c = s->p[i];
        if (c == '_') { if (!n || i + 1 == e || s->p[i + 1] == '_') return false; continue; }
        const int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10 : 99;
        if (d >= base || n + 2 > sizeof t) return false;
        t[n++] = c;
    }
    t[n] = 0;
    errno = 0;
    const unsigned long long u = strtoull(t, NULL, (int)base);
    if (errno || u > (unsigned long long)INT64_MAX + neg) return false;
    *out = neg ? (int64_t)(0 - u) : (int64_t)u;
    return true;
}
static bool parse_float(const jstr *s, double *out) {
    char t[400]; size_t n = 0, i = 0, e = s->n;
    while (i < e && lmj_space((unsigned char)s->p[i])) i++;
    while (e > i && lmj_space((unsigned char)s->p[e - 1])) e--;
    if (i == e || e - i >= sizeof t) return false;
    for (; i < e; i++) {
        const char c = s->p[i];
        if (c == '_') { if (!n || t[n - 1] < '0' || t[n - 1] > '9' || i + 1 == e || s->p[i + 1] < '0' || s->p[i + 1] > '9') return false; continue; }
        if (c == 'x' || c == 'X' || c == '(' || !c) return false;
        t[n++] = c;
    }
    t[n] = 0;
    char *end;
    *out = strtod(t, &end);
    return !*end;
}
F(int) {
    BIND("int", "default base", 2);
    const jv def = given(x[0]) ? x[0] : jv_i(0);
    int64_t i; double d;
    if (v.t == JV_STR) {
        const int64_t base = lmj_arg_int(j, "int", x[1], 10);
        if (parse_int(v.s, base, &i)) return jv_i(i);
        if (!parse_float(v.s, &d)) return def;
    } else if (jv_is_int(v)) return jv_i(jv_int(v));
    else if (v.t == JV_FLOAT) d = v.f;
    else { lmj_used(j, v); return def; }
    if (!isfinite(d)) return def;
    if (fabs(d) >= 9.2e18) return lmj_limit(j, "an integer of more than 64 bits");
    return jv_i((int64_t)d);
}
F(float) {
    BIND("float", "default", 1);
    double d;
    if (jv_is_num(v)) return jv_f(jv_num(v));
    if (v.t == JV_STR && parse_float(v.s, &d)) return jv_f(d);
    lmj_used(j, v);
    return given(x[0]) ? x[0] : jv_f(0);
}
F(abs) {
    BIND("abs", "", 1); (void)x;
    if (v.t == JV_FLOAT) return jv_f(fabs(v.f));
    if (!jv_is_int(v)) { if (!lmj_used(j, v)) return v; return lmj_fail(j, "bad operand type for abs(): '%s'", lmj_kind(v)); }
    return jv_int(v) == INT64_MIN ? lmj_limit(j, "an integer of more than 64 bits") : jv_i(jv_int(v) < 0 ? -jv_int(v) : jv_int(v));
}
F(round) {
    BIND("round", "precision method", 2);
    const int64_t p = lmj_arg_int(j, "round", x[0], 0);
    const jstr *how = given(x[1]) ? text(j, x[1]) : lmj_lit(j, "common").s;
    if (!jv_is_num(v)) { if (!lmj_used(j, v)) return v; return lmj_fail(j, "type %s doesn't define __round__ method", lmj_kind(v)); }
    if (lmj_is(how, "common")) {
        if (v.t == JV_FLOAT) return jv_f(lmj_round(v.f, p));
        if (p >= 0) return jv_i(jv_int(v));
        if (p < -18) return jv_i(0);
        int64_t m = 1;
        for (int64_t k = p; k < 0; k++) m *= 10;
        int64_t i = jv_int(v), r = i % m;
        if (r < 0) r += m;
        const bool up = r > m / 2 || (r == m / 2 && ((i - r) / m) % 2 != 0);
        int64_t out;
        if (__builtin_sub_overflow(i, r, &out) || (up && __builtin_add_overflow(out, m, &out))) return lmj_limit(j, "an integer of more than 64 bits");
        return jv_i(out);
    }
    if (!lmj_is(how, "ceil") && !lmj_is(how, "floor")) return lmj_fail(j, "method must be common, ceil or floor");
    const jv scale = lmj_binary(j, OP_POW, jv_i(10), jv_i(p)), y = lmj_binary(j, OP_MUL, v, scale);
    if (j->err) return v;
    if (jv_is_int(y)) return lmj_binary(j, OP_DIV, y, scale);
    const double r = lmj_is(how, "ceil") ? ceil(jv_num(y)) : floor(jv_num(y));
    if (!isfinite(r) || fabs(r) > 9e18) return lmj_limit(j, "an integer of more than 64 bits");
    return lmj_binary(j, OP_DIV, jv_i((int64_t)r), scale);
}
/* ---- attributes by path: "a.b.0" ---- */
static jv path(lmj *j, jv item, jv attr, jv def) {
    if (attr.t == JV_NONE || attr.t == JV_MISSING) return item;
    if (attr.t != JV_STR) { item = lmj_index(j, item, attr); return item.t == JV_UNDEF && given(def) ? def : item; }
    for (size_t i = 0; i <= attr.s->n && !j->err;) {
        const char *dot = memchr(attr.s->p + i, '.', attr.s->n - i);
        const size_t e = dot ? (size_t)(dot - attr.s->p) : attr.s->n;
        bool num = e > i && e - i < 18; int64_t k = 0;
        for (size_t q = i; q < e; q++) { num &= attr.s->p[q] >= '0' && attr.s->p[q] <= '9'; if (num) k = k * 10 + (attr.s->p[q] - '0'); }
        item = lmj_index(j, item, num ? jv_i(k) : jv_s(lmj_sub(j, attr.s, i, e)));
        if (item.t == JV_UNDEF && given(def) && def.t != JV_NONE) item = def;
        i = e + 1;
    }
    return item;
}
static jv key_of(lmj *j, jv item, jv attr, bool cased) {
    const jv k = path(j, item, attr, (jv){ 0 });
    return !cased && k.t == JV_STR ? jv_s(lmj_case(j, k.s, 'l')) : k;
}
F(sum) {
    BIND("sum", "attribute start", 2);
    jlist *l = lmj_items(j, v);
    jv s = given(x[1]) ? x[1] : jv_i(0);
    if (s.t == JV_STR) return lmj_fail(j, "sum() can't sum strings [use ''.join(seq) instead]");
    for (int64_t i = 0; l && i < l->n && !j->err; i++) s = lmj_binary(j, OP_ADD, s, path(j, l->v[i], x[0], (jv){ 0 }));
    return s;
}
F(attr) {
    BIND("attr", "name!", 1); if (x[0].t != JV_STR) return lmj_fail(j, "attribute name must be string");
    const jv m = lmj_attr(j, v, x[0].s);
    return v.t == JV_DICT && m.t != JV_METHOD ? lmj_undef(j, "no such attribute") : m;
}

/* ---- sequences ---- */
F(length) {
    BIND("length", "", 1); (void)x;
    const int64_t n = lmj_len(j, v);
    return n < 0 ? lmj_fail(j, "object of type '%s' has no len()", lmj_kind(v)) : jv_i(n);
}
F(first) {
    BIND("first", "", 1); (void)x; jiter it; jv out; if (!lmj_iter(j, v, &it)) return v;
    return lmj_next(j, &it, &out) ? out : lmj_undef(j, "No first item, sequence was empty.");
}
F(last) {
    BIND("last", "", 1); (void)x;
    if (v.t == JV_ITER || v.t == JV_UNDEF || v.t == JV_NONE || jv_is_num(v)) {
        if (v.t == JV_UNDEF) return lmj_fail(j, "'Undefined' object is not reversible");
        return lmj_fail(j, "'%s' object is not reversible", lmj_kind(v));
    }
    jlist *l = lmj_items(j, v);
    return !l ? v : l->n ? l->v[l->n - 1] : lmj_undef(j, "No last item, sequence was empty.");
}
F(list) { BIND("list", "", 1); (void)x; jlist *l = lmj_items(j, v); return l ? (jv){ .t = JV_LIST, .l = l } : v; }
F(items) {
    BIND("items", "", 1); (void)x;
    if (v.t == JV_UNDEF) return lmj_gen(j, lmj_list(j, 0).l);
    if (v.t != JV_DICT) return lmj_fail(j, "Can only get item pairs from a mapping.");
    jview items = { v.d, VIEW_ITEMS };
    jlist *l = lmj_items(j, (jv){ .t = JV_VIEW, .view = &items });
    return l ? lmj_gen(j, l) : v;
}
F(reverse) {
    BIND("reverse", "", 1); (void)x;
    if (v.t == JV_STR) { jslice s = { jv_none(), jv_none(), jv_i(-1) }; return lmj_index(j, v, (jv){ .t = JV_SLICE, .sl = &s }); }
    jlist *l = lmj_items(j, v), *r = lmj_list(j, 0).l;
    for (int64_t i = l ? l->n : 0; i-- > 0 && !j->err;) lmj_push(j, r, l->v[i]);
    return v.t == JV_ITER ? (jv){ .t = JV_LIST, .l = r } : lmj_gen(j, r);
}
F(join) {
    BIND("join", "d attribute", 2);
    jlist *l = lmj_items(j, v);
    const jstr *d = given(x[0]) ? text(j, x[0]) : lmj_lit(j, "").s;
    jbuf b = { .j = j };
    for (int64_t i = 0; l && i < l->n && !j->err; i++) {
        if (i) lmj_put_str(&b, d);
        lmj_put_str(&b, text(j, path(j, l->v[i], x[1], (jv){ 0 })));
    }
    return lmj_done(&b);
}
F(default) {
    BIND("default", "default_value boolean", 2);
    return v.t == JV_UNDEF || (lmj_true(j, x[1]) && !lmj_true(j, v)) ? given(x[0]) ? x[0] : lmj_lit(j, "") : v;
}
F(sort) {
    BIND("sort", "reverse case_sensitive attribute", 3);
    jlist *l = lmj_items(j, v), *keys = lmj_list(j, 0).l;
    const bool cased = lmj_true(j, x[1]);
    const jv attrs = x[2].t == JV_STR ? lmj_split(j, x[2].s, lmj_lit(j, ","), -1, false) : (jv){ .t = JV_LIST, .l = pushed(j, lmj_list(j, 1).l, x[2]) };
    for (int64_t i = 0; l && i < l->n && !j->err; i++) {
        const jv k = lmj_list(j, 1);
        for (int64_t q = 0; q < attrs.l->n && !j->err; q++) lmj_push(j, k.l, key_of(j, l->v[i], attrs.l->v[q], cased));
        lmj_push(j, keys, k);
    }
    return j->err ? v : lmj_sorted(j, keys, l, lmj_true(j, x[0]));
}
F(dictsort) {
    BIND("dictsort", "case_sensitive by reverse", 3);
    const jstr *by = given(x[1]) ? text(j, x[1]) : lmj_lit(j, "key").s;
    if (!lmj_is(by, "key") && !lmj_is(by, "value")) return lmj_fail(j, "You can only sort by either \"key\" or \"value\"");
    if (v.t != JV_DICT) { if (!lmj_used(j, v)) return v; return lmj_fail(j, "'%s' object has no attribute 'items'", lmj_kind(v)); }
    jview items = { v.d, VIEW_ITEMS };
    jlist *l = lmj_items(j, (jv){ .t = JV_VIEW, .view = &items }), *keys = lmj_list(j, 0).l;
    for (int64_t i = 0; l && i < l->n && !j->err; i++) lmj_push(j, keys, key_of(j, l->v[i].l->v[lmj_is(by, "value")], (jv){ 0 }, lmj_true(j, x[0])));
    return j->err ? v : lmj_sorted(j, keys, l, lmj_true(j, x[2]));
}
F(unique) {
    BIND("unique", "case_sensitive attribute", 2);
    jlist *l = lmj_items(j, v), *out = lmj_list(j, 0).l;
    jdict *seen = lmj_dict(j).d;
    for (int64_t i = 0; l && i < l->n && !j->err; i++) {
        const jv k = key_of(j, l->v[i], x[1], lmj_true(j, x[0]));
        if (lmj_get(j, seen, k)) continue;
        lmj_set(j, seen, k, jv_b(true));
        lmj_push(j, out, l->v[i]);
    }
    return lmj_gen(j, out);
}
static jv extreme(lmj *j, jv v, const jargs *a, jop op) {
    BIND(op == OP_LT ? "min" : "max", "case_sensitive attribute", 2);
    jlist *l = lmj_items(j, v);
    if (!l) return v;
    if (!l->n) return lmj_undef(j, "No aggregated item, sequence was empty.");
    jv best = l->v[0], k = key_of(j, best, x[1], lmj_true(j, x[0]));
    for (int64_t i = 1; i < l->n && !j->err; i++) {
        const jv q = key_of(j, l->v[i], x[1], lmj_true(j, x[0]));
        if (lmj_less(j, q, k, op)) { best = l->v[i]; k = q; }
    }
    return best;
}
F(min) { return extreme(j, v, a, OP_LT); }
F(max) { return extreme(j, v, a, OP_GT); }
F(batch) {
    BIND("batch", "linecount! fill_with", 2);
    const int64_t n = lmj_arg_int(j, "batch", x[0], 1);
    jlist *l = lmj_items(j, v), *out = lmj_list(j, 0).l, *row = lmj_list(j, 0).l;
    for (int64_t i = 0; l && i < l->n && !j->err; i++) {
        if (row->n == n) { lmj_push(j, out, (jv){ .t = JV_LIST, .l = row }); row = lmj_list(j, 0).l; }
        lmj_push(j, row, l->v[i]);
    }
    if (row->n) {
        while (given(x[1]) && x[1].t != JV_NONE && row->n < n && !j->err) lmj_push(j, row, x[1]);
        lmj_push(j, out, (jv){ .t = JV_LIST, .l = row });
    }
    return lmj_gen(j, out);
}
F(slice) {
    BIND("slice", "slices! fill_with", 2);
    const int64_t n = lmj_arg_int(j, "slice", x[0], 1);
    jlist *l = lmj_items(j, v), *out = lmj_list(j, 0).l;
    if (!l) return v;
    if (!n) return lmj_fail(j, "integer division or modulo by zero");
    for (int64_t k = 0, at = 0; k < n && !j->err; k++) {
        jlist *part = lmj_list(j, 0).l;
        const int64_t take = l->n / n + (k < l->n % n);
        for (int64_t i = 0; i < take; i++) lmj_push(j, part, l->v[at++]);
        if (given(x[1]) && x[1].t != JV_NONE && k >= l->n % n) lmj_push(j, part, x[1]);
        lmj_push(j, out, (jv){ .t = JV_LIST, .l = part });
    }
    return lmj_gen(j, out);
}
F(groupby) {
    BIND("groupby", "attribute! default case_sensitive", 3);
    jlist *l = lmj_items(j, v), *keys = lmj_list(j, 0).l, *out = lmj_list(j, 0).l;
    const bool cased = lmj_true(j, x[2]);
    for (int64_t i = 0; l && i < l->n && !j->err; i++) {
        const jv k = path(j, l->v[i], x[0], x[1]);
        lmj_push(j, keys, !cased && k.t == JV_STR ? jv_s(lmj_case(j, k.s, 'l')) : k);
    }
    if (j->err) return v;
    const jlist *sorted = lmj_sorted(j, keys, l, false).l, *sk = lmj_sorted(j, keys, keys, false).l;
    for (int64_t i = 0; i < sorted->n && !j->err;) {
        jlist *group = lmj_list(j, 0).l;
        const int64_t from = i;
        while (i < sorted->n && !j->err && lmj_eq(j, sk->v[i], sk->v[from])) lmj_push(j, group, sorted->v[i++]);
        jv pair = lmj_list(j, 2);
        pair.t = JV_TUPLE;
        lmj_push(j, pair.l, cased ? sk->v[from] : path(j, group->v[0], x[0], x[1]));
        lmj_push(j, pair.l, (jv){ .t = JV_LIST, .l = group });
        lmj_push(j, out, pair);
    }
    return (jv){ .t = JV_LIST, .l = out };
}
static jargs rest_of(const jargs *a, int from) { return (jargs){ .pos = a->pos + from, .n = a->n - from, .name = a->name, .val = a->val, .n_kw = a->n_kw }; }
F(map) {
    if (!lmj_true(j, v)) return lmj_gen(j, lmj_list(j, 0).l);          /* none too: only what is true is looked into */
    jlist *l = lmj_items(j, v), *out = lmj_list(j, 0).l;
    jv attr = { 0 }, def = { 0 };
    if (!l) return v;
    if (!l->n) return lmj_gen(j, out);
    for (int i = 0; i < a->n_kw && !a->n; i++) {
        if (lmj_is(a->name[i], "attribute")) attr = a->val[i];
        else if (lmj_is(a->name[i], "default")) def = a->val[i];
        else return lmj_fail(j, "Unexpected keyword argument '%.*s'", (int)lm_min64((int64_t)a->name[i]->n, 60), a->name[i]->p);
    }
    if (!a->n && attr.t == JV_MISSING) return lmj_fail(j, "map requires a filter argument");
    const jfilter *f = NULL;
    if (a->n) {
        if (a->pos[0].t != JV_STR || !(f = lmj_filter(a->pos[0].s))) return lmj_fail(j, "No filter named '%.*s'.",
            (int)lm_min64((int64_t)text(j, a->pos[0])->n, 60), text(j, a->pos[0])->p);
    }
    const jargs rest = a->n ? rest_of(a, 1) : (jargs){ 0 };
    for (int64_t i = 0; i < l->n && !j->err; i++) lmj_push(j, out, f ? f->fn(j, l->v[i], &rest) : path(j, l->v[i], attr, def));
    return lmj_gen(j, out);
}
static jv chosen(lmj *j, jv v, const jargs *a, bool by_attr, bool want) {
    if (!lmj_true(j, v)) return lmj_gen(j, lmj_list(j, 0).l);
    jlist *l = lmj_items(j, v), *out = lmj_list(j, 0).l;
    if (!l) return v;
    if (!l->n) return lmj_gen(j, out);
    if (by_attr && !a->n) return lmj_fail(j, "Missing parameter for attribute name");
    const jtest *t = NULL;
    if (a->n > by_attr) {
        const jv name = a->pos[by_attr];
        if (name.t != JV_STR || !(t = lmj_test(name.s))) return lmj_fail(j, "No test named '%.*s'.", (int)lm_min64((int64_t)text(j, name)->n, 60), text(j, name)->p);
    }
    const jargs rest = t ? rest_of(a, by_attr + 1) : (jargs){ 0 };
    for (int64_t i = 0; i < l->n && !j->err; i++) {
        const jv x = by_attr ? path(j, l->v[i], a->pos[0], (jv){ 0 }) : l->v[i];
        if (j->err) break;
        if ((t ? t->fn(j, x, &rest) : lmj_true(j, x)) == want) lmj_push(j, out, l->v[i]);
    }
    return lmj_gen(j, out);
}
F(select) { return chosen(j, v, a, false, true); }
F(reject) { return chosen(j, v, a, false, false); }
F(selectattr) { return chosen(j, v, a, true, true); }
F(rejectattr) { return chosen(j, v, a, true, false); }
F(refused) { (void)a; (void)v; return lmj_fail(j, "this filter is not supported"); }

#define R(name) { #name, f_##name }
static const jfilter filters[] = {
    R(abs), R(attr), R(batch), R(capitalize), R(center), { "count", f_length }, { "d", f_default }, R(default), R(dictsort), { "e", f_escape }, R(escape),
        R(filesizeformat),
    R(first), R(float), R(forceescape), R(format), R(groupby), R(indent), R(int), R(items), R(join), R(last), R(length), R(list), R(lower), R(map), R(max), R(min),
    { "pprint", f_refused }, { "random", f_refused }, R(reject), R(rejectattr), R(replace), R(reverse), R(round), R(safe), R(select), R(selectattr), R(slice),
        R(sort), R(string),
    R(striptags), R(sum), R(title), R(tojson), R(trim), R(truncate), R(unique), R(upper), R(urlencode), { "urlize", f_refused }, R(wordcount),
    { "wordwrap", f_refused }, R(xmlattr),
};
const jfilter *lmj_filter(const jstr *name) {
    for (int i = 0; i < LM_COUNT(filters); i++) if (lmj_is(name, filters[i].name)) return &filters[i];
    return NULL;
}
