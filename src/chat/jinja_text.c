/* jinja_text.c — values as text: str(), repr(), json.dumps, % and str.format, HTML escaping, strftime. */
#include <math.h>
#include <stdlib.h>
#include <time.h>
#include "chat/jinja_int.h"
#include "format/cursor.h"
#include "tok/unicode.h"

/* The shortest decimal that reads back as x, laid out as Python's repr: exponents below -4 and from 16 on. */
void lmj_float(char out[40], double x) {
    if (isnan(x)) { strcpy(out, "nan"); return; }
    if (isinf(x)) { strcpy(out, x < 0 ? "-inf" : "inf"); return; }
    char t[40];
    int p = 1;
    do snprintf(t, sizeof t, "%.*e", p - 1, x); while (strtod(t, NULL) != x && ++p <= 17);
    const int e = atoi(strchr(t, 'e') + 1);
    if (e >= -4 && e < 16) {
        snprintf(out, 40, "%.*f", p - 1 - e > 0 ? p - 1 - e : 1, x);
        return;
    }
    *strchr(t, 'e') = 0;
    snprintf(out, 40, "%.25se%c%02d", t, e < 0 ? '-' : '+', abs(e));
}
static void repr_str(jbuf *b, const jstr *s) {
    const char q = memchr(s->p, '\'', s->n) && !memchr(s->p, '"', s->n) ? '"' : '\'';
    lmj_put(b, &q, 1, false);
    size_t from = 0;
    for (size_t i = 0; i < s->n && !b->j->err;) {
        int k; const uint32_t c = lm_utf8_get((const uint8_t *)s->p + i, &k);
        char t[16] = "";
        if (c == '\\' || c == (uint32_t)q) snprintf(t, sizeof t, "\\%c", (char)c);
        else if (c == '\n') strcpy(t, "\\n");
        else if (c == '\r') strcpy(t, "\\r");
        else if (c == '\t') strcpy(t, "\\t");
        else if (!lmj_printable(c)) snprintf(t, sizeof t, c < 256 ? "\\x%02x" : c < 65536 ? "\\u%04x" : "\\U%08x", c);
        if (*t) { lmj_put_sub(b, s, from, i); lmj_put(b, t, strlen(t), lmj_mark_at(s, i)); from = i + (size_t)k; }
        i += (size_t)k;
    }
    lmj_put_sub(b, s, from, s->n);
    lmj_put(b, &q, 1, false);
}
static void repr_items(jbuf *b, const jlist *l) {
    for (int64_t i = 0; i < l->n && !b->j->err; i++) { if (i) lmj_puts(b, ", "); lmj_repr(b, l->v[i]); }
}
static void repr_dict(jbuf *b, const jdict *d) {
    lmj_puts(b, "{");
    for (int64_t i = 0; i < d->n && !b->j->err; i++) { if (i) lmj_puts(b, ", "); lmj_repr(b, d->v[i].key); lmj_puts(b, ": "); lmj_repr(b, d->v[i].val); }
    lmj_puts(b, "}");
}
static void number(jbuf *b, const char *fmt, long long i) { char t[96]; snprintf(t, sizeof t, fmt, i); lmj_puts(b, t); }
void lmj_repr(jbuf *b, jv v) {
    char t[160];
    if (!lmj_step(b->j, 1) || !lmj_enter(b->j)) return;
    switch (v.t) {
    case JV_MISSING: case JV_NONE: lmj_puts(b, "None"); break;
    case JV_UNDEF: lmj_puts(b, "Undefined"); break;
    case JV_BOOL: lmj_puts(b, v.b ? "True" : "False"); break;
    case JV_INT: number(b, "%lld", v.i); break;
    case JV_FLOAT: lmj_float(t, v.f); lmj_puts(b, t); break;
    case JV_STR:
        if (v.s->html) lmj_puts(b, "Markup(");
        repr_str(b, v.s);
        if (v.s->html) lmj_puts(b, ")");
        break;
    case JV_LIST: lmj_puts(b, "["); repr_items(b, v.l); lmj_puts(b, "]"); break;
    case JV_TUPLE: lmj_puts(b, "("); repr_items(b, v.l); lmj_puts(b, v.l->n == 1 ? ",)" : ")"); break;
    case JV_DICT: repr_dict(b, v.d); break;
    case JV_NS: lmj_puts(b, "<Namespace "); repr_dict(b, v.d); lmj_puts(b, ">"); break;
    case JV_RANGE:
        number(b, "range(%lld, ", v.r->start); number(b, "%lld", v.r->stop);
        if (v.r->step != 1) number(b, ", %lld", v.r->step);
        lmj_puts(b, ")");
        break;
    case JV_VIEW: {
        static const char *const name[] = { "dict_keys([", "dict_values([", "dict_items([" };
        jlist *l = lmj_items(b->j, v);
        lmj_puts(b, name[v.view->kind]);
        if (l) repr_items(b, l);
        lmj_puts(b, "])");
        break;
    }
    case JV_MACRO:
        lmj_puts(b, "<Macro ");
        if (v.m->name) repr_str(b, v.m->name); else lmj_puts(b, "anonymous");
        lmj_puts(b, ">");
        break;
    case JV_LOOP: {
        const int64_t n = lmj_len(b->j, v);
        number(b, "<LoopContext %lld/", v.loop->index0 + 1); number(b, "%lld>", n);
        break;
    }
    default: lmj_fail(b->j, "a %s has no text that two runs agree on", lmj_kind(v));
    }
    lmj_leave(b->j);
}
jstr *lmj_text(lmj *j, jv v) {
    if (v.t == JV_STR) return v.s;
    if (v.t == JV_UNDEF) return lmj_lit(j, "").s;
    jbuf b = { .j = j };
    lmj_repr(&b, v);
    return lmj_done(&b).s;
}

/* ---- JSON ---- */
static void json_str(jbuf *b, const jstr *s, bool ascii) {
    lmj_puts(b, "\"");
    size_t from = 0;
    for (size_t i = 0; i < s->n && !b->j->err;) {
        int k; const uint32_t c = lm_utf8_get((const uint8_t *)s->p + i, &k);
        static const char plain[] = "\"\\\n\r\t\f\b", code[] = "\"\\nrtfb";
        const char *p = c && c < 128 ? strchr(plain, (int)c) : NULL;
        char t[16] = "";
        if (p) snprintf(t, sizeof t, "\\%c", code[p - plain]);
        else if (c < 32 || (ascii && c > 126 && c < 65536)) snprintf(t, sizeof t, "\\u%04x", c);
        else if (ascii && c >= 65536) snprintf(t, sizeof t, "\\u%04x\\u%04x", 0xd800 + ((c - 65536) >> 10), 0xdc00 + ((c - 65536) & 0x3ff));
        if (*t) { lmj_put_sub(b, s, from, i); lmj_put(b, t, strlen(t), lmj_mark_at(s, i)); from = i + (size_t)k; }
        i += (size_t)k;
    }
    lmj_put_sub(b, s, from, s->n);
    lmj_puts(b, "\"");
}
static void json_float(jbuf *b, double x) {
    char t[40];
    if (isnan(x)) strcpy(t, "NaN");
    else if (isinf(x)) strcpy(t, x < 0 ? "-Infinity" : "Infinity");
    else lmj_float(t, x);
    lmj_puts(b, t);
}
static void json_key(jbuf *b, jv k, bool ascii) {
    if (k.t == JV_STR) { json_str(b, k.s, ascii); return; }
    lmj_puts(b, "\"");
    if (k.t == JV_BOOL) lmj_puts(b, k.b ? "true" : "false");
    else if (k.t == JV_NONE) lmj_puts(b, "null");
    else if (k.t == JV_INT) number(b, "%lld", k.i);
    else if (k.t == JV_FLOAT) json_float(b, k.f);
    else lmj_fail(b->j, "keys must be str, int, float, bool or None, not %s", lmj_kind(k));
    lmj_puts(b, "\"");
}
static void line(jbuf *b, const jstr *indent, int level) {
    if (!indent) return;
    lmj_puts(b, "\n");
    for (int i = 0; i < level && !b->j->err; i++) lmj_put_str(b, indent);
}
void lmj_json(jbuf *b, jv v, bool ascii, const jstr *indent, const jstr *comma, const jstr *colon, bool sort, int level) {
    lmj *j = b->j;
    if (!lmj_step(j, 1) || !lmj_enter(j)) return;
    switch (v.t) {
    case JV_NONE: lmj_puts(b, "null"); break;
    case JV_BOOL: lmj_puts(b, v.b ? "true" : "false"); break;
    case JV_INT: number(b, "%lld", v.i); break;
    case JV_FLOAT: json_float(b, v.f); break;
    case JV_STR: json_str(b, v.s, ascii); break;
    case JV_LIST: case JV_TUPLE:
        if (!v.l->n) { lmj_puts(b, "[]"); break; }
        lmj_puts(b, "[");
        for (int64_t i = 0; i < v.l->n && !j->err; i++) {
            if (i) lmj_put_str(b, comma);
            line(b, indent, level + 1);
            lmj_json(b, v.l->v[i], ascii, indent, comma, colon, sort, level + 1);
        }
        line(b, indent, level);
        lmj_puts(b, "]");
        break;
    case JV_DICT: {
        if (!v.d->n) { lmj_puts(b, "{}"); break; }
        jlist *keys = lmj_list(j, v.d->n).l;
        for (int64_t i = 0; i < v.d->n; i++) lmj_push(j, keys, v.d->v[i].key);
        if (sort) keys = lmj_sorted(j, keys, keys, false).l;
        lmj_puts(b, "{");
        for (int64_t i = 0; i < keys->n && !j->err; i++) {
            if (i) lmj_put_str(b, comma);
            line(b, indent, level + 1);
            json_key(b, keys->v[i], ascii);
            lmj_put_str(b, colon);
            const jv *x = lmj_get(j, v.d, keys->v[i]);
            if (x) lmj_json(b, *x, ascii, indent, comma, colon, sort, level + 1);
        }
        line(b, indent, level);
        lmj_puts(b, "}");
        break;
    }
    default: lmj_fail(j, "Object of type %s is not JSON serializable", lmj_kind(v));
    }
    lmj_leave(j);
}

/* ---- formatting ---- */
typedef struct { char fill[5]; int n_fill; char align, sign, type; bool alt, zero, comma, under; int64_t width, prec; } spec;
static void pad(jbuf *b, const spec *s, int64_t n) {
    for (int64_t i = 0; i < n && !b->j->err && lmj_step(b->j, 1); i++) lmj_put(b, s->n_fill ? s->fill : " ", s->n_fill ? (size_t)s->n_fill : 1, false);
}
static void put_padded(jbuf *b, const spec *s, jstr *body, char def_align) {
    const int64_t n = lmj_chars(body), extra = s->width > n ? s->width - n : 0;
    const char a = s->align ? s->align : def_align;
    const int64_t left = a == '>' ? extra : a == '^' ? extra / 2 : 0;
    pad(b, s, left); lmj_put_str(b, body); pad(b, s, extra - left);
}
/* A number's text: sign, prefix, digits; zeros go between. */
static void put_number(jbuf *b, const spec *s, bool neg, const char *prefix, const char *digits) {
    char head[8];
    snprintf(head, sizeof head, "%s%s", neg ? "-" : s->sign == '+' ? "+" : s->sign == ' ' ? " " : "", prefix);
    char body[800]; size_t n = 0;
    const char *dot = strpbrk(digits, ".e");
    const size_t whole = dot ? (size_t)(dot - digits) : strlen(digits);
    for (size_t i = 0; digits[i] && n + 2 < sizeof body; i++) {
        if ((s->comma || s->under) && i && i < whole && (whole - i) % 3 == 0) body[n++] = s->comma ? ',' : '_';
        body[n++] = digits[i];
    }
    body[n] = 0;
    if ((s->zero && !s->align) || s->align == '=') {
        lmj_puts(b, head);
        const spec z = { .fill = "0", .n_fill = 1 };
        pad(b, s->align == '=' && s->n_fill ? s : &z, s->width - (int64_t)(strlen(head) + n));
        lmj_puts(b, body);
        return;
    }
    jbuf t = { .j = b->j };
    lmj_puts(&t, head); lmj_puts(&t, body);
    put_padded(b, s, lmj_done(&t).s, '>');
}
static void put_int(jbuf *b, const spec *s, int64_t i) {
    char d[72]; const bool neg = i < 0;
    uint64_t u = neg ? 0 - (uint64_t)i : (uint64_t)i;
    const char *prefix = "";
    if (s->type == 'x' || s->type == 'X') {
        snprintf(d, sizeof d, s->type == 'x' ? "%llx" : "%llX", (unsigned long long)u);
        if (s->alt) prefix = s->type == 'x' ? "0x" : "0X";
    }
    else if (s->type == 'o') { snprintf(d, sizeof d, "%llo", (unsigned long long)u); if (s->alt) prefix = "0o"; }
    else if (s->type == 'b') {
        int n = 0; char r[72];
        do r[n++] = (char)('0' + (u & 1)); while (u >>= 1);
        for (int k = 0; k < n; k++) d[k] = r[n - 1 - k];
        d[n] = 0;
        if (s->alt) prefix = "0b";
    } else snprintf(d, sizeof d, "%llu", (unsigned long long)u);
    put_number(b, s, neg, prefix, d);
}
static void put_float(jbuf *b, const spec *s, double x) {
    char d[700], f[16];
    const int64_t prec = s->prec < 0 ? 6 : s->prec;
    if (prec > 300) { lmj_limit(b->j, "a precision of more than 300 digits"); return; }
    char type = s->type ? s->type : 'g';
    const bool percent = type == '%';
    if (percent) { type = 'f'; x *= 100; }
    if (!s->type && s->prec < 0) { lmj_float(d, fabs(x)); }
    else { snprintf(f, sizeof f, s->alt ? "%%#.*%c" : "%%.*%c", type); snprintf(d, sizeof d, f, (int)prec, fabs(x)); }
    if (percent) strcat(d, "%");
    put_number(b, s, signbit(x) && !isnan(x), "", d);
}
static void put_text(jbuf *b, const spec *s, jstr *t) {
    if (s->prec >= 0 && lmj_chars(t) > s->prec) t = lmj_sub(b->j, t, 0, lmj_byte_at(t, s->prec));
    put_padded(b, s, t, '<');
}
jv lmj_percent(lmj *j, jstr *fmt, jv arg) {
    jbuf b = { .j = j };
    int64_t used = 0;
    const bool tuple = arg.t == JV_TUPLE;
    bool by_name = false;
    for (size_t i = 0; i < fmt->n && !j->err;) {
        const char *p = memchr(fmt->p + i, '%', fmt->n - i);
        const size_t at = p ? (size_t)(p - fmt->p) : fmt->n;
        lmj_put_sub(&b, fmt, i, at);
        if (!p) break;
        i = at + 1;
        spec s = { .prec = -1 };
        jv v = { 0 };
        if (i < fmt->n && fmt->p[i] == '(') {
            const size_t from = ++i;
            int deep = 1;
            while (i < fmt->n && (deep += (fmt->p[i] == '(') - (fmt->p[i] == ')')) > 0) i++;
            if (i >= fmt->n) return lmj_fail(j, "incomplete format key");
            if (arg.t != JV_DICT) return lmj_fail(j, "format requires a mapping");
            const jv *x = lmj_get(j, arg.d, jv_s(lmj_sub(j, fmt, from, i)));
            if (!x) return lmj_fail(j, "format key '%.*s' is missing", (int)lm_min64((int64_t)(i - from), 60), fmt->p + from);
            v = *x; by_name = true; i++;
        }
        for (bool more = true; more && i < fmt->n;) {
            switch (fmt->p[i]) {
            case '-': s.align = '<'; break;
            case '+': s.sign = '+'; break;
            case ' ': if (!s.sign) s.sign = ' '; break;
            case '#': s.alt = true; break;
            case '0': s.zero = true; break;
            default: more = false;
            }
            if (more) i++;
        }
        for (int part = 0; part < 2 && !j->err; part++) {            /* width, .precision */
            int64_t *to = part ? &s.prec : &s.width;
            if (part) { if (i >= fmt->n || fmt->p[i] != '.') break; i++; *to = 0; }
            if (i < fmt->n && fmt->p[i] == '*') {
                if (!tuple || used >= arg.l->n || !jv_is_int(arg.l->v[used])) return lmj_fail(j, "* wants int");
                *to = jv_int(arg.l->v[used++]); i++;
                if (!part && *to < 0) { s.align = '<'; *to = *to == INT64_MIN ? INT64_MAX : -*to; }
                continue;
            }
            for (; i < fmt->n && fmt->p[i] >= '0' && fmt->p[i] <= '9'; i++) {
                *to = *to * 10 + (fmt->p[i] - '0');
                if (*to > INT32_MAX) return lmj_limit(j, "a field wider than 2^31");
            }
        }
        while (i < fmt->n && strchr("hlL", fmt->p[i]) && fmt->p[i]) i++;
        if (i >= fmt->n) return lmj_fail(j, "incomplete format");
        s.type = fmt->p[i++];
        if (s.type == '%') { lmj_puts(&b, "%"); continue; }
        if (v.t == JV_MISSING) {
            if (tuple ? used >= arg.l->n : used >= 1) return lmj_fail(j, "not enough arguments for format string");
            v = tuple ? arg.l->v[used] : arg;
            used++;
        }
        if (s.align == '<') s.zero = false;
        const char def = s.align ? s.align : '>';
        spec as_text = s;
        as_text.align = def; as_text.zero = false;
        switch (s.type) {
        case 's': put_text(&b, &as_text, lmj_text(j, v)); break;
        case 'r': case 'a': { jbuf t = { .j = j }; lmj_repr(&t, v); put_text(&b, &as_text, lmj_done(&t).s); break; }
        case 'c':
            if (v.t == JV_STR && lmj_chars(v.s) == 1) put_text(&b, &as_text, v.s);
            else if (jv_is_int(v) && jv_int(v) >= 0 && jv_int(v) < 0x110000 && (jv_int(v) & ~0x7ff) != 0xd800) {
                jbuf t = { .j = j };
                lmj_put_char(&t, (uint32_t)jv_int(v), false);
                put_text(&b, &as_text, lmj_done(&t).s);
            } else return lmj_fail(j, "%%c requires int or char");
            break;
        case 'd': case 'i': case 'u': case 'x': case 'X': case 'o': {
            if (v.t == JV_FLOAT && strchr("diu", s.type) && fabs(v.f) < 9e18) v = jv_i((int64_t)v.f);
            if (!jv_is_int(v)) { if (!lmj_used(j, v)) return v; return lmj_fail(j, "%%%c format: a real number is required, not %s", s.type, lmj_kind(v)); }
            put_int(&b, &s, jv_int(v));
            break;
        }
        case 'e': case 'E': case 'f': case 'F': case 'g': case 'G':
            if (!jv_is_num(v)) { if (!lmj_used(j, v)) return v; return lmj_fail(j, "must be real number, not %s", lmj_kind(v)); }
            put_float(&b, &s, jv_num(v));
            break;
        default: return lmj_fail(j, "unsupported format character '%c'", s.type);
        }
    }
    const int64_t given = tuple ? arg.l->n : 1;
    const bool mapping = arg.t == JV_DICT || arg.t == JV_LIST;       /* what has __getitem__ and is not a tuple or str need not be used */
    if (!j->err && !by_name && used < given && !mapping) return lmj_fail(j, "not all arguments converted during string formatting");
    return lmj_done(&b);
}
static bool parse_spec(lmj *j, const jstr *f, spec *s) {
    *s = (spec){ .prec = -1 };
    size_t i = 0;
    if (f->n) {
        const int k = lm_utf8_len((const uint8_t *)f->p, f->n);
        if (k > 0 && (size_t)k < f->n && strchr("<>=^", f->p[k]) && f->p[k]) {
            memcpy(s->fill, f->p, (size_t)k); s->n_fill = k; s->align = f->p[k]; i = (size_t)k + 1;
        }
        else if (strchr("<>=^", f->p[0]) && f->p[0]) { s->align = f->p[0]; i = 1; }
    }
    if (i < f->n && strchr("+- ", f->p[i]) && f->p[i]) s->sign = f->p[i++];
    if (i < f->n && f->p[i] == '#') { s->alt = true; i++; }
    if (i < f->n && f->p[i] == '0') { s->zero = true; i++; }
    for (; i < f->n && f->p[i] >= '0' && f->p[i] <= '9'; i++) if ((s->width = s->width * 10 + (f->p[i] - '0')) > INT32_MAX) {
        lmj_limit(j, "a field wider than 2^31"); return false;
    }
    if (i < f->n && (f->p[i] == ',' || f->p[i] == '_')) { s->comma = f->p[i] == ','; s->under = !s->comma; i++; }
    if (i < f->n && f->p[i] == '.') {
        s->prec = 0;
        if (++i >= f->n || f->p[i] < '0' || f->p[i] > '9') { lmj_fail(j, "Format specifier missing precision"); return false; }
        for (; i < f->n && f->p[i] >= '0' && f->p[i] <= '9'; i++) if ((s->prec = s->prec * 10 + (f->p[i] - '0')) > INT32_MAX) {
            lmj_limit(j, "a precision beyond 2^31"); return false;
        }
    }
    if (i < f->n) s->type = f->p[i++];
    if (i < f->n) { lmj_fail(j, "Invalid format specifier"); return false; }
    return true;
}
static void put_value(jbuf *b, jv v, const jstr *how) {
    lmj *j = b->j;
    spec s;
    if (!how->n) { lmj_put_str(b, lmj_text(j, v)); return; }
    if (!parse_spec(j, how, &s)) return;
    if (v.t == JV_STR && (!s.type || s.type == 's')) {
        if (s.zero && !s.align) { s.n_fill = 1; s.fill[0] = '0'; s.align = '<'; }
        if (s.align == '=') { lmj_fail(j, "'=' alignment not allowed in string format specifier"); return; }
        put_text(b, &s, v.s);
    } else if (v.t == JV_INT && s.type && strchr("dxXobn", s.type)) put_int(b, &s, v.i);
    else if (v.t == JV_BOOL && s.type && strchr("dxXob", s.type)) put_int(b, &s, v.b);
    else if (v.t == JV_INT && !s.type && s.prec < 0) put_int(b, &s, v.i);
    else if (jv_is_num(v) && (!s.type || strchr("eEfFgG%", s.type)) && v.t != JV_BOOL) put_float(b, &s, jv_num(v));
    else lmj_fail(j, "unsupported format string passed to %s.__format__", lmj_kind(v));
}
/* str.format: {}, {0}, {name}, {0.attr[key]!r:spec}, with fields in the spec. */
static void format_into(jbuf *b, jstr *f, const jargs *a, int *next, int deep) {
    lmj *j = b->j;
    if (deep > 2) { lmj_fail(j, "Max string recursion exceeded"); return; }
    for (size_t i = 0; i < f->n && !j->err;) {
        const char c = f->p[i];
        if ((c == '{' || c == '}') && i + 1 < f->n && f->p[i + 1] == c) { lmj_put_sub(b, f, i, i + 1); i += 2; continue; }
        if (c == '}') { lmj_fail(j, "Single '}' encountered in format string"); return; }
        if (c != '{') { size_t k = i; while (k < f->n && f->p[k] != '{' && f->p[k] != '}') k++; lmj_put_sub(b, f, i, k); i = k; continue; }
        size_t e = ++i; int open = 1; size_t colon = 0, bang = 0;
        bool in_brackets = false;
        for (; e < f->n; e++) {
            const char d = f->p[e];
            if (in_brackets) { if (d == ']') in_brackets = false; continue; }
            if (d == '[' && !colon) in_brackets = true;
            if (d == '{') open++;
            if (d == '}' && !--open) break;
            if (d == '!' && open == 1 && !bang && !colon) bang = e;
            if (d == ':' && open == 1 && !colon) colon = e;
        }
        if (e >= f->n) { lmj_fail(j, "expected '}' before end of string"); return; }
        const size_t name_end = bang ? bang : colon ? colon : e;
        size_t k = i;
        while (k < name_end && f->p[k] != '.' && f->p[k] != '[') k++;
        jv v = { 0 };
        bool digits = k > i;
        int64_t index = 0;
        for (size_t q = i; q < k; q++) { digits &= f->p[q] >= '0' && f->p[q] <= '9'; if (digits && index < INT32_MAX) index = index * 10 + (f->p[q] - '0'); }
        if (k == i || digits) {
            if (k == i) { if (*next < 0) { lmj_fail(j, "cannot switch from manual field specification to automatic field numbering"); return; } index = (*next)++; }
            else { if (*next > 0) { lmj_fail(j, "cannot switch from automatic field numbering to manual field specification"); return; } *next = -1; }
            if (index >= a->n) { lmj_fail(j, "Replacement index %lld out of range for positional args tuple", (long long)index); return; }
            v = a->pos[index];
        } else {
            for (int q = 0; q < a->n_kw; q++) if (a->name[q]->n == k - i && !memcmp(a->name[q]->p, f->p + i, k - i)) v = a->val[q];
            if (v.t == JV_MISSING) { lmj_fail(j, "'%.*s'", (int)lm_min64((int64_t)(k - i), 60), f->p + i); return; }
        }
        while (k < name_end && !j->err) {
            const size_t from = k + 1;
            if (f->p[k] == '.') {
                for (k = from; k < name_end && f->p[k] != '.' && f->p[k] != '['; k++) continue;
                v = lmj_attr(j, v, lmj_sub(j, f, from, k));
            } else if (f->p[k] == '[') {
                for (k = from; k < name_end && f->p[k] != ']'; k++) continue;
                jstr *key = lmj_sub(j, f, from, k);
                bool num = key->n > 0 && key->n < 18; int64_t x = 0;
                for (size_t q = 0; q < key->n; q++) { num &= key->p[q] >= '0' && key->p[q] <= '9'; if (num) x = x * 10 + (key->p[q] - '0'); }
                v = lmj_index(j, v, num ? jv_i(x) : jv_s(key));
                if (k < name_end) k++;
            } else { lmj_fail(j, "Only '.' or '[' may follow ']' in format field specifier"); return; }
        }
        if (bang) {
            const char how = f->p[bang + 1];
            if (how == 'r' || how == 'a') { jbuf t = { .j = j }; lmj_repr(&t, v); v = lmj_done(&t); }
            else if (how == 's') v = jv_s(lmj_text(j, v));
            else { lmj_fail(j, "Unknown conversion specifier"); return; }
        }
        jstr *how = colon ? lmj_sub(j, f, colon + 1, e) : lmj_lit(j, "").s;
        if (memchr(how->p, '{', how->n)) { jbuf t = { .j = j }; format_into(&t, how, a, next, deep + 1); how = lmj_done(&t).s; }
        if (!j->err) put_value(b, v, how);
        i = e + 1;
    }
}
jv lmj_format(lmj *j, jstr *fmt, const jargs *a) {
    jbuf b = { .j = j };
    int next = 0;
    format_into(&b, fmt, a, &next, 1);
    return lmj_done(&b);
}
jv lmj_escape(lmj *j, jv v) {
    jstr *s = lmj_text(j, v);
    if (v.t == JV_STR && s->html) return v;
    jbuf b = { .j = j };
    size_t from = 0;
    for (size_t i = 0; i < s->n && !j->err; i++) {
        const char *t = s->p[i] == '&' ? "&amp;" : s->p[i] == '<' ? "&lt;" : s->p[i] == '>' ? "&gt;" : s->p[i] == '\'' ? "&#39;" : s->p[i] == '"' ? "&#34;" : NULL;
        if (!t) continue;
        lmj_put_sub(&b, s, from, i);
        lmj_put(&b, t, strlen(t), lmj_mark_at(s, i));
        from = i + 1;
    }
    lmj_put_sub(&b, s, from, s->n);
    const jv r = lmj_done(&b);
    if (!j->err) r.s->html = true;
    return r;
}
jv lmj_strftime(lmj *j, jstr *fmt) {
    if (fmt->n > 1000) return lmj_limit(j, "a date format of %zu bytes", fmt->n);
    const time_t t = (time_t)floor(j->now);
    struct tm tm;
    char f[4096], out[8192]; size_t n = 0;
    if (!localtime_r(&t, &tm)) return lmj_fail(j, "the clock says no time");
    for (size_t i = 0; i < fmt->n; i++) {                            /* %f, %z and %Z mean something else to Python, where times have no zone */
        if (fmt->p[i] == '%' && i + 1 < fmt->n && strchr("fzZ", fmt->p[i + 1]) && fmt->p[i + 1]) {
            if (fmt->p[++i] == 'f') n += (size_t)snprintf(f + n, 8, "%06d", (int)((j->now - floor(j->now)) * 1e6));
            continue;
        }
        f[n++] = fmt->p[i];
        if (fmt->p[i] == '%' && i + 1 < fmt->n) f[n++] = fmt->p[++i];
    }
    f[n++] = '|';                                                    /* so that an empty result is told from one that is too long */
    f[n] = 0;
    const size_t k = strftime(out, sizeof out, f, &tm);
    if (!k) return lmj_limit(j, "a date of more than %zu bytes", sizeof out);
    return lmj_str_of(j, out, k - 1, false);
}
