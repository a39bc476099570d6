/* jinja_methods.c — methods of Python's str, dict, list and of Jinja's helpers; those that change what they belong to are known and refused. */
#define _GNU_SOURCE 1                                               /* memmem */
#include <stdlib.h>
#include "chat/jinja_int.h"
#include "format/cursor.h"
#include "tok/unicode.h"

bool lmj_bind(lmj *j, const char *what, const jargs *a, const char *spec, jv *out) {
    int n = 0;
    for (const char *p = spec; *p; n++) {
        const size_t k = strcspn(p, " ");
        const bool need = p[k - 1] == '!';
        const size_t len = need ? k - 1 : k;
        out[n] = (jv){ 0 };
        if (n < a->n) out[n] = a->pos[n];
        for (int i = 0; i < a->n_kw; i++)
            if (a->name[i]->n == len && !memcmp(a->name[i]->p, p, len)) {
                if (n < a->n) { lmj_fail(j, "%s() got multiple values for argument '%.*s'", what, (int)len, p); return false; }
                out[n] = a->val[i];
            }
        if (need && out[n].t == JV_MISSING) { lmj_fail(j, "%s() missing required argument: '%.*s'", what, (int)len, p); return false; }
        p += k;
        while (*p == ' ') p++;
    }
    if (a->n > n) { lmj_fail(j, "%s() takes at most %d arguments, %d were given", what, n, a->n); return false; }
    for (int i = 0; i < a->n_kw; i++) {
        bool known = false;
        for (const char *p = spec; *p && !known;) {
            const size_t k = strcspn(p, " "), len = p[k - 1] == '!' ? k - 1 : k;
            known = a->name[i]->n == len && !memcmp(a->name[i]->p, p, len);
            p += k;
            while (*p == ' ') p++;
        }
        if (!known) { lmj_fail(j, "%s() got an unexpected keyword argument '%.*s'", what, (int)lm_min64((int64_t)a->name[i]->n, 60), a->name[i]->p); return false; }
    }
    return !j->err;
}
int64_t lmj_arg_int(lmj *j, const char *what, jv v, int64_t def) {
    if (v.t == JV_MISSING) return def;
    if (jv_is_int(v)) return jv_int(v);
    if (lmj_used(j, v)) lmj_fail(j, "%s: an integer is required, got '%s'", what, lmj_kind(v));
    return def;
}
static jstr *arg_str(lmj *j, const char *what, jv v) {
    if (v.t == JV_STR) return v.s;
    if (lmj_used(j, v)) lmj_fail(j, "%s: must be str, not %s", what, lmj_kind(v));
    return lmj_lit(j, "").s;
}

/* ---- str ---- */
#define M(name) static jv s_##name(lmj *j, jv self, const jargs *a)
#define NONE(what) do { jv none_[1]; if (!lmj_bind(j, what, a, "", none_)) return self; } while (0)
M(upper) { NONE("upper"); return jv_s(lmj_case(j, self.s, 'u')); }
M(lower) { NONE("lower"); return jv_s(lmj_case(j, self.s, 'l')); }
M(casefold) {
    NONE("casefold");
    jbuf b = { .j = j };
    if (!lmj_step(j, (int64_t)(self.s->n / 8))) return self;
    for (size_t i = 0; i < self.s->n && !j->err;) {
        int k;
        uint32_t to[9];
        const int n = lmj_fold(lm_utf8_get((const uint8_t *)self.s->p + i, &k), to);
        for (int q = 0; q < n; q++) lmj_put_char(&b, to[q], lmj_mark_at(self.s, i));
        i += (size_t)k;
    }
    return lmj_done(&b);
}
M(title) { NONE("title"); return jv_s(lmj_case(j, self.s, 't')); }
M(capitalize) { NONE("capitalize"); return jv_s(lmj_case(j, self.s, 'c')); }
M(swapcase) { NONE("swapcase"); return jv_s(lmj_case(j, self.s, 's')); }
static jv stripped(lmj *j, jv self, const jargs *a, const char *what, int sides) {
    jv x[1];
    if (a->n_kw) return lmj_fail(j, "str.%s() takes no keyword arguments", what);
    return lmj_bind(j, what, a, "chars", x) ? jv_s(lmj_strip(j, self.s, x[0], sides)) : self;
}
M(strip) { return stripped(j, self, a, "strip", 3); }
M(lstrip) { return stripped(j, self, a, "lstrip", 1); }
M(rstrip) { return stripped(j, self, a, "rstrip", 2); }
static jv split_by(lmj *j, jv self, const jargs *a, bool right) {
    jv x[2];
    return lmj_bind(j, "split", a, "sep maxsplit", x) ? lmj_split(j, self.s, x[0], lmj_arg_int(j, "split", x[1], -1), right) : self;
}
M(split) { return split_by(j, self, a, false); }
M(rsplit) { return split_by(j, self, a, true); }
M(splitlines) { jv x[1]; return lmj_bind(j, "splitlines", a, "keepends", x) ? lmj_splitlines(j, self.s, lmj_true(j, x[0])) : self; }
static bool affix(lmj *j, const jstr *s, const jstr *x, size_t lo, size_t hi, bool end) {
    if (hi < lo || x->n > hi - lo || !lmj_step(j, (int64_t)(x->n / 64))) return false;
    return !memcmp(s->p + (end ? hi - x->n : lo), x->p, x->n);
}
/* start, end of Python: code points, negative from the end */
static bool range_of(lmj *j, jstr *s, jv start, jv end, size_t *lo, size_t *hi) {
    const int64_t n = lmj_chars(s);
    int64_t a = start.t == JV_NONE ? 0 : lmj_arg_int(j, "start", start, 0), b = end.t == JV_NONE ? n : lmj_arg_int(j, "end", end, n);
    if (a < 0) a = a < -n ? 0 : a + n;
    if (b < 0) b = b < -n ? 0 : b + n;
    if (b > n) b = n;
    if (a > n || a > b || j->err) return false;
    *lo = lmj_byte_at(s, a); *hi = lmj_byte_at(s, b);
    return lmj_step(j, (int64_t)(s->n / 64));
}
static jv with_affix(lmj *j, jv self, const jargs *a, bool end) {
    jv x[3]; size_t lo, hi;
    const char *what = end ? "endswith" : "startswith";
    if (!lmj_bind(j, what, a, "prefix! start end", x)) return self;
    if (x[0].t != JV_TUPLE && x[0].t != JV_STR) return lmj_fail(j, "%s first arg must be str or a tuple of str, not %s", what, lmj_kind(x[0]));
    if (!range_of(j, self.s, x[1], x[2], &lo, &hi)) return jv_b(false);
    if (x[0].t == JV_STR) return jv_b(affix(j, self.s, x[0].s, lo, hi, end));
    for (int64_t i = 0; i < x[0].l->n && !j->err; i++) if (affix(j, self.s, arg_str(j, what, x[0].l->v[i]), lo, hi, end)) return jv_b(true);
    return jv_b(false);
}
M(startswith) { return with_affix(j, self, a, false); }
M(endswith) { return with_affix(j, self, a, true); }
M(removeprefix) {
    jv x[1]; if (!lmj_bind(j, "removeprefix", a, "prefix!", x)) return self;
    const jstr *p = arg_str(j, "removeprefix", x[0]);
    return affix(j, self.s, p, 0, self.s->n, false) ? jv_s(lmj_sub(j, self.s, p->n, self.s->n)) : self;
}
M(removesuffix) {
    jv x[1]; if (!lmj_bind(j, "removesuffix", a, "suffix!", x)) return self;
    const jstr *p = arg_str(j, "removesuffix", x[0]);
    return p->n && affix(j, self.s, p, 0, self.s->n, true) ? jv_s(lmj_sub(j, self.s, 0, self.s->n - p->n)) : self;
}
M(replace) {
    jv x[3];
    if (!lmj_bind(j, "replace", a, "old! new! count", x)) return self;
    return lmj_replace(j, self.s, arg_str(j, "replace", x[0]), arg_str(j, "replace", x[1]), lmj_arg_int(j, "replace", x[2], -1));
}
static int64_t chars_before(const jstr *s, size_t byte) { int64_t n = 0; for (size_t i = 0; i < byte; i++) n += (s->p[i] & 0xc0) != 0x80; return n; }
static int64_t search(lmj *j, jv self, const jargs *a, const char *what, bool right) {
    jv x[3]; size_t lo, hi;
    if (!lmj_bind(j, what, a, "sub! start end", x)) return -1;
    const jstr *sub = arg_str(j, what, x[0]);
    if (!range_of(j, self.s, x[1], x[2], &lo, &hi) || sub->n > hi - lo) return -1;
    if (!right) {
        const char *p = sub->n ? memmem(self.s->p + lo, hi - lo, sub->p, sub->n) : self.s->p + lo;
        return p ? chars_before(self.s, (size_t)(p - self.s->p)) : -1;
    }
    for (size_t i = hi - sub->n + 1; i-- > lo && lmj_step(j, (int64_t)(sub->n / 64));)
        if (!memcmp(self.s->p + i, sub->p, sub->n) && (i == self.s->n || (self.s->p[i] & 0xc0) != 0x80)) return chars_before(self.s, i);
    return -1;
}
M(find) { return jv_i(search(j, self, a, "find", false)); }
M(rfind) { return jv_i(search(j, self, a, "rfind", true)); }
M(index) { const int64_t i = search(j, self, a, "index", false); return i < 0 ? lmj_fail(j, "substring not found") : jv_i(i); }
M(rindex) { const int64_t i = search(j, self, a, "rindex", true); return i < 0 ? lmj_fail(j, "substring not found") : jv_i(i); }
M(count) {
    jv x[3]; size_t lo, hi;
    if (!lmj_bind(j, "count", a, "sub! start end", x)) return self;
    const jstr *sub = arg_str(j, "count", x[0]);
    if (!range_of(j, self.s, x[1], x[2], &lo, &hi)) return jv_i(0);
    if (!sub->n) return jv_i(chars_before(self.s, hi) - chars_before(self.s, lo) + 1);
    int64_t n = 0;
    for (const char *p = self.s->p + lo; (p = memmem(p, (size_t)(self.s->p + hi - p), sub->p, sub->n)) != NULL; p += sub->n) n++;
    return jv_i(n);
}
M(join) {
    jv x[1];
    if (!lmj_bind(j, "join", a, "iterable!", x)) return self;
    jlist *l = lmj_items(j, x[0]);
    jbuf b = { .j = j };
    for (int64_t i = 0; l && i < l->n && !j->err; i++) {
        if (l->v[i].t != JV_STR) return lmj_fail(j, "sequence item %lld: expected str instance, %s found", (long long)i, lmj_kind(l->v[i]));
        if (i) lmj_put_str(&b, self.s);
        lmj_put_str(&b, l->v[i].s);
    }
    return lmj_done(&b);
}
static jv padded(lmj *j, jv self, const jargs *a, const char *what, int how) {
    jv x[2];
    if (!lmj_bind(j, what, a, "width! fillchar", x)) return self;
    const jstr *fill = x[1].t == JV_MISSING ? lmj_lit(j, " ").s : arg_str(j, what, x[1]);
    if (lmj_chars((jstr *)(uintptr_t)fill) != 1) return lmj_fail(j, "The fill character must be exactly one character long");
    const int64_t w = lmj_arg_int(j, what, x[0], 0), n = lmj_chars(self.s), extra = w > n ? w - n : 0;
    const int64_t left = how == 'l' ? 0 : how == 'r' ? extra : extra / 2 + (extra & w & 1);
    jbuf b = { .j = j };
    for (int64_t i = 0; i < left && !j->err && lmj_step(j, 1); i++) lmj_put_str(&b, fill);
    lmj_put_str(&b, self.s);
    for (int64_t i = left; i < extra && !j->err && lmj_step(j, 1); i++) lmj_put_str(&b, fill);
    return lmj_done(&b);
}
M(center) { return padded(j, self, a, "center", 'c'); }
M(ljust) { return padded(j, self, a, "ljust", 'l'); }
M(rjust) { return padded(j, self, a, "rjust", 'r'); }
M(zfill) {
    jv x[1];
    if (!lmj_bind(j, "zfill", a, "width!", x)) return self;
    const size_t sign = self.s->n && (*self.s->p == '-' || *self.s->p == '+');
    jbuf b = { .j = j };
    lmj_put_sub(&b, self.s, 0, sign);
    for (int64_t i = lmj_chars(self.s), w = lmj_arg_int(j, "zfill", x[0], 0); i < w && !j->err && lmj_step(j, 1); i++) lmj_puts(&b, "0");
    lmj_put_sub(&b, self.s, sign, self.s->n);
    return lmj_done(&b);
}
M(expandtabs) {
    jv x[1];
    if (!lmj_bind(j, "expandtabs", a, "tabsize", x)) return self;
    const int64_t tab = lmj_arg_int(j, "expandtabs", x[0], 8);
    int64_t col = 0;
    jbuf b = { .j = j };
    for (size_t i = 0; i < self.s->n && !j->err; i++) {
        const char c = self.s->p[i];
        if (c == '\t') { if (tab > 0) for (int64_t k = tab - col % tab; k-- > 0 && lmj_step(j, 1); col++) lmj_put(&b, " ", 1, lmj_mark_at(self.s, i)); }
        else { lmj_put_sub(&b, self.s, i, i + 1); if (c == '\n' || c == '\r') col = 0; else col += (c & 0xc0) != 0x80; }
    }
    return lmj_done(&b);
}
static jv parts(lmj *j, jstr *a, jstr *b, jstr *c) {
    jv t = lmj_list(j, 3);
    t.t = JV_TUPLE;
    lmj_push(j, t.l, jv_s(a)); lmj_push(j, t.l, jv_s(b)); lmj_push(j, t.l, jv_s(c));
    return t;
}
static jv partitioned(lmj *j, jv self, const jargs *a, bool right) {
    jv x[1];
    if (!lmj_bind(j, "partition", a, "sep!", x)) return self;
    jstr *sep = arg_str(j, "partition", x[0]), *none = lmj_lit(j, "").s;
    if (!sep->n) return lmj_fail(j, "empty separator");
    int64_t at = lmj_find(j, self.s, sep, 0);
    for (int64_t next = at; right && next >= 0 && !j->err; next = lmj_find(j, self.s, sep, (size_t)next + 1)) at = next;
    if (at < 0) return right ? parts(j, none, none, self.s) : parts(j, self.s, none, none);
    return parts(j, lmj_sub(j, self.s, 0, (size_t)at), sep, lmj_sub(j, self.s, (size_t)at + sep->n, self.s->n));
}
M(partition) { return partitioned(j, self, a, false); }
M(rpartition) { return partitioned(j, self, a, true); }
M(format) { return lmj_format(j, self.s, a); }
static jv all_of(lmj *j, jv self, const jargs *a, bool (*ok)(uint32_t)) {
    if (a->n || a->n_kw) return lmj_fail(j, "takes no arguments");
    int k;
    for (size_t i = 0; i < self.s->n; i += (size_t)k) if (!ok(lm_utf8_get((const uint8_t *)self.s->p + i, &k))) return jv_b(false);
    return lmj_step(j, (int64_t)(self.s->n / 16)) ? jv_b(self.s->n > 0) : self;
}
static bool decimal(uint32_t c) { return lm_uc_cat(c) == LM_UC_ND; }
static bool alnum(uint32_t c) { return lmj_alpha(c) || lmj_numeric(c); }
static bool ascii(uint32_t c) { return c < 128; }
M(isalpha) { return all_of(j, self, a, lmj_alpha); }
M(isdigit) { return all_of(j, self, a, lmj_digit); }
M(isdecimal) { return all_of(j, self, a, decimal); }
M(isnumeric) { return all_of(j, self, a, lmj_numeric); }
M(isalnum) { return all_of(j, self, a, alnum); }
M(isspace) { return all_of(j, self, a, lmj_space); }
M(isascii) { return self.s->n ? all_of(j, self, a, ascii) : jv_b(true); }
M(isprintable) { return self.s->n ? all_of(j, self, a, lmj_printable) : jv_b(true); }
bool lmj_cased_all(const jstr *s, bool upper) {
    bool any = false; int k;
    for (size_t i = 0; i < s->n; i += (size_t)k) {
        const uint32_t c = lm_utf8_get((const uint8_t *)s->p + i, &k);
        if ((upper ? lmj_is_lower(c) : lmj_is_upper(c)) || lm_uc_cat(c) == LM_UC_LT) return false;
        any |= upper ? lmj_is_upper(c) : lmj_is_lower(c);
    }
    return any;
}
M(isupper) { NONE("isupper"); return jv_b(lmj_cased_all(self.s, true)); }
M(islower) { NONE("islower"); return jv_b(lmj_cased_all(self.s, false)); }
M(istitle) {
    NONE("istitle");
    bool in_word = false, any = false; int k;
    for (size_t i = 0; i < self.s->n; i += (size_t)k) {
        const uint32_t c = lm_utf8_get((const uint8_t *)self.s->p + i, &k);
        const bool up = lmj_is_upper(c) || lm_uc_cat(c) == LM_UC_LT, low = lmj_is_lower(c);
        if (up ? in_word : low && !in_word) return jv_b(false);
        in_word = up || low; any |= in_word;
    }
    return jv_b(any);
}
M(isidentifier) {
    NONE("isidentifier");
    for (size_t i = 0; i < self.s->n; i++) {
        const char c = self.s->p[i];
        if (!((c | 32) >= 'a' && (c | 32) <= 'z') && c != '_' && !(i && c >= '0' && c <= '9') && !(c & 0x80)) return jv_b(false);
    }
    return jv_b(self.s->n > 0);
}
M(encode) { (void)a; (void)self; return lmj_fail(j, "str.encode makes bytes, which templates here have not"); }

/* ---- dict, list and tuple ---- */
static jv view(lmj *j, jv self, const jargs *a, jview_kind k) {
    if (a->n || a->n_kw) return lmj_fail(j, "takes no arguments");
    jview *v = lmj_alloc(j, sizeof *v);
    if (v) *v = (jview){ self.d, k };
    return (jv){ .t = JV_VIEW, .view = v };
}
static jv d_items(lmj *j, jv self, const jargs *a) { return view(j, self, a, VIEW_ITEMS); }
static jv d_keys(lmj *j, jv self, const jargs *a) { return view(j, self, a, VIEW_KEYS); }
static jv d_values(lmj *j, jv self, const jargs *a) { return view(j, self, a, VIEW_VALUES); }
static jv d_get(lmj *j, jv self, const jargs *a) {
    jv x[2];
    if (a->n_kw) return lmj_fail(j, "dict.get() takes no keyword arguments");
    if (!lmj_bind(j, "get", a, "key! default", x)) return self;
    const jv *p = lmj_get(j, self.d, x[0]);
    return p ? *p : x[1].t == JV_MISSING ? jv_none() : x[1];
}
static jv d_copy(lmj *j, jv self, const jargs *a) {
    const jv d = lmj_dict(j);
    if (a->n || a->n_kw) return lmj_fail(j, "copy() takes no arguments");
    for (int64_t i = 0; i < self.d->n && !j->err; i++) lmj_set(j, d.d, self.d->v[i].key, self.d->v[i].val);
    return d;
}
static jv d_fromkeys(lmj *j, jv self, const jargs *a) {
    jv x[2]; const jv d = lmj_dict(j);
    (void)self;
    if (!lmj_bind(j, "fromkeys", a, "iterable! value", x)) return d;
    jlist *l = lmj_items(j, x[0]);
    for (int64_t i = 0; l && i < l->n && !j->err; i++) lmj_set(j, d.d, l->v[i], x[1].t == JV_MISSING ? jv_none() : x[1]);
    return d;
}
static jv l_index(lmj *j, jv self, const jargs *a) {
    jv x[1];
    if (!lmj_bind(j, "index", a, "value!", x)) return self;
    for (int64_t i = 0; i < self.l->n && !j->err; i++) if (lmj_eq(j, self.l->v[i], x[0])) return jv_i(i);
    return lmj_fail(j, "the value is not in the %s", lmj_kind(self));
}
static jv l_count(lmj *j, jv self, const jargs *a) {
    jv x[1]; int64_t n = 0;
    if (!lmj_bind(j, "count", a, "value!", x)) return self;
    for (int64_t i = 0; i < self.l->n && !j->err; i++) n += lmj_eq(j, self.l->v[i], x[0]);
    return jv_i(n);
}
static jv l_copy(lmj *j, jv self, const jargs *a) {
    const jv l = lmj_list(j, self.l->n);
    if (a->n || a->n_kw) return lmj_fail(j, "copy() takes no arguments");
    for (int64_t i = 0; i < self.l->n && !j->err; i++) lmj_push(j, l.l, self.l->v[i]);
    return l;
}
static jv c_next(lmj *j, jv self, const jargs *a) {
    if (a->n || a->n_kw) return lmj_fail(j, "next() takes no arguments");
    const jv v = self.cy->items->v[self.cy->at];
    self.cy->at = (self.cy->at + 1) % self.cy->items->n;
    return v;
}
static jv c_reset(lmj *j, jv self, const jargs *a) { (void)a; (void)j; self.cy->at = 0; return jv_none(); }

#define S(name) { #name, s_##name }
static const jmethod_row of_str[] = {
    S(upper), S(lower), S(casefold), S(title), S(capitalize), S(swapcase), S(strip), S(lstrip), S(rstrip), S(split), S(rsplit), S(splitlines), S(startswith),
        S(endswith),
    S(removeprefix), S(removesuffix), S(replace), S(find), S(rfind), S(index), S(rindex), S(count), S(join), S(center), S(ljust), S(rjust), S(zfill), S(expandtabs),
    S(partition), S(rpartition), S(format), S(isalpha), S(isdigit), S(isdecimal), S(isnumeric), S(isalnum), S(isspace), S(isascii), S(isprintable), S(isupper),
        S(islower),
    S(istitle), S(isidentifier), S(encode), { NULL, NULL }
};
static const jmethod_row of_dict[] = { { "items", d_items }, { "keys", d_keys }, { "values", d_values }, { "get", d_get }, { "copy", d_copy },
    { "fromkeys", d_fromkeys }, { NULL, NULL } };
static const jmethod_row of_list[] = { { "index", l_index }, { "count", l_count }, { "copy", l_copy }, { NULL, NULL } };
static const jmethod_row of_tuple[] = { { "index", l_index }, { "count", l_count }, { NULL, NULL } };
static const jmethod_row of_cycler[] = { { "next", c_next }, { "reset", c_reset }, { NULL, NULL } };
static const jmethod_row of_none[] = { { NULL, NULL } };
static const char *const change_dict[] = { "clear", "pop", "popitem", "setdefault", "update", NULL };
static const char *const change_list[] = { "append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove", NULL };

const jmethod_row *lmj_method(jv v, const jstr *name, bool *unsafe) {
    const jmethod_row *r = v.t == JV_STR ? of_str : v.t == JV_DICT ? of_dict : v.t == JV_LIST ? of_list : v.t == JV_TUPLE ? of_tuple : v.t == JV_CYCLER
        ? of_cycler : of_none;
    const char *const *change = v.t == JV_DICT ? change_dict : v.t == JV_LIST ? change_list : NULL;
    *unsafe = false;
    for (; change && *change; change++) if (lmj_is(name, *change)) { *unsafe = true; return NULL; }
    if (v.t == JV_FUNC && !strcmp(v.fn->name, "dict") && lmj_is(name, "fromkeys")) return &of_dict[5];
    for (; r->name; r++) if (lmj_is(name, r->name)) return r;
    return NULL;
}
