/* grammar_json.c — JSON as text: strings, numbers within bounds, white space, any value.
 *
 * What is written is valid for every reader: white space is a space or one newline with at most 20 of indentation, numbers have at most 18 digits before
 * and 17 behind the point and two in the exponent (a model that repeats a digit forever stops), \u escapes are whole characters. One character
 * is one character of the value however it is escaped, which is what minLength and maxLength count. */
#include <stdlib.h>
#include <string.h>
#include "grammar/grammar_int.h"

enum { WS, NEWLINE, CHAR, STRING, NUMBER, INTEGER, ANY, OBJECT, ARRAY };
enum { INT_DIGITS = 18, FRACTION_DIGITS = 17, INDENT = 20 };
/* Made once: *fresh says that the caller must define it. */
static int32_t once(lm_ast *a, int k, bool *fresh) {
    *fresh = false;
    if (a->err) return -1;
    if (a->json[k]) return a->json[k] - 1;
    const int32_t r = lm_g_rule(a, NULL, 0);
    *fresh = true;
    if (r >= 0) a->json[k] = r + 1;
    return r;
}
static int32_t range(lm_ast *a, uint32_t lo, uint32_t hi) { return lm_g_class(a, &(lm_grange){ lo, hi }, 1); }
int32_t lm_gj_ws(lm_ast *a) {
    bool fresh;
    const int32_t nl = once(a, NEWLINE, &fresh);
    if (fresh) lm_g_define(a, nl, LM_G_SEQ(a, lm_g_str(a, "\n"), lm_g_rep(a, lm_g_class(a, (const lm_grange[]){ { ' ', ' ' }, { '\t', '\t' } }, 2), 0, INDENT)));
    return LM_G_ALT(a, lm_g_empty(a), lm_g_str(a, " "), lm_g_call(a, nl));
}
static int32_t hex(lm_ast *a, int n) {
    return lm_g_rep(a, lm_g_class(a, (const lm_grange[]){ { '0', '9' }, { 'a', 'f' }, { 'A', 'F' } }, 3), n, n);
}
int32_t lm_gj_char(lm_ast *a) {
    bool fresh;
    const int32_t r = once(a, CHAR, &fresh);
    if (!fresh) return r < 0 ? -1 : a->rule[r].node;                   /* its own states where it stands: strings stay one machine */
    static const lm_grange raw[] = { { 0x20, 0x21 }, { 0x23, 0x5B }, { 0x5D, 0x10FFFF } },
                           one[] = { { '"', '"' }, { '\\', '\\' }, { '/', '/' }, { 'b', 'b' }, { 'f', 'f' }, { 'n', 'n' }, { 'r', 'r' }, { 't', 't' } },
                           first[] = { { '0', '9' }, { 'a', 'c' }, { 'A', 'C' }, { 'e', 'f' }, { 'E', 'F' } },
                           d[] = { { 'd', 'd' }, { 'D', 'D' } }, high[] = { { '8', '9' }, { 'a', 'b' }, { 'A', 'B' } }, low[] = { { 'c', 'f' }, { 'C', 'F' } };
    const int32_t unit = LM_G_ALT(a, LM_G_SEQ(a, lm_g_class(a, first, 5), hex(a, 3)), LM_G_SEQ(a, lm_g_class(a, d, 2), range(a, '0', '7'), hex(a, 2)),
                                  LM_G_SEQ(a, lm_g_class(a, d, 2), lm_g_class(a, high, 3), hex(a, 2), lm_g_str(a, "\\u"), lm_g_class(a, d, 2),
                                           lm_g_class(a, low, 2), hex(a, 2)));
    const int32_t x = LM_G_ALT(a, lm_g_class(a, raw, 3), LM_G_SEQ(a, lm_g_str(a, "\\"), LM_G_ALT(a, lm_g_class(a, one, 8), LM_G_SEQ(a, lm_g_str(a, "u"), unit))));
    lm_g_define(a, r, x);
    return x;
}
int32_t lm_gj_chars(lm_ast *a, const lm_grange *r, int n) {
    if (n == 1 && r[0].lo == 0 && r[0].hi >= 0x10FFFF) return lm_gj_char(a);
    lm_granges raw = { .a = a };
    lm_glist all = { .a = a };
    bool seen[0x5D] = { false };
    for (int i = 0; i < n; i++) {
        const uint32_t cut[][2] = { { 0x20, 0x21 }, { 0x23, 0x5B }, { 0x5D, 0x10FFFF } };
        for (int k = 0; k < 3; k++) {
            const uint32_t lo = r[i].lo > cut[k][0] ? r[i].lo : cut[k][0], hi = r[i].hi < cut[k][1] ? r[i].hi : cut[k][1];
            if (lo <= hi) lm_granges_add(&raw, lo, hi);
        }
        for (uint32_t c = r[i].lo; c <= r[i].hi && c < 0x5D; c++) seen[c] |= c < 0x20 || c == '"' || c == '\\';
    }
    if (raw.n) lm_glist_add(&all, lm_g_class(a, raw.v, raw.n));
    for (uint32_t c = 0; c < 0x5D; c++) {
        static const char from[] = "\b\f\n\r\t\"\\", to[] = "bfnrt\"\\";
        if (!seen[c]) continue;
        const char *k = c ? strchr(from, (int)c) : NULL;
        char t[8] = { '\\', k ? to[k - from] : 'u', 0 };
        if (!k) { const char *h = "0123456789abcdef"; memcpy(t + 2, "00", 2); t[4] = h[c >> 4]; t[5] = h[c & 15]; t[6] = 0; }
        lm_glist_add(&all, lm_g_str(a, t));
    }
    const int32_t x = a->err ? -1 : lm_g_alt(a, all.v, all.n);
    lm_granges_free(&raw); lm_glist_free(&all);
    return x;
}
int32_t lm_gj_string(lm_ast *a) {
    bool fresh;
    const int32_t r = once(a, STRING, &fresh);
    if (fresh) lm_g_define(a, r, LM_G_SEQ(a, lm_g_str(a, "\""), lm_g_rep(a, lm_gj_char(a), 0, -1), lm_g_str(a, "\"")));
    return lm_g_call(a, r);
}
static int32_t digits(lm_ast *a, int min, int max) { return lm_g_rep(a, range(a, '0', '9'), min, max); }
static int32_t whole(lm_ast *a) {
    return LM_G_SEQ(a, lm_g_rep(a, lm_g_str(a, "-"), 0, 1), LM_G_ALT(a, lm_g_str(a, "0"), LM_G_SEQ(a, range(a, '1', '9'), digits(a, 0, INT_DIGITS - 1))));
}
int32_t lm_gj_integer(lm_ast *a) {
    bool fresh;
    const int32_t r = once(a, INTEGER, &fresh);
    if (fresh) lm_g_define(a, r, whole(a));
    return lm_g_call(a, r);
}
static int32_t fraction(lm_ast *a) { return LM_G_SEQ(a, lm_g_str(a, "."), digits(a, 1, FRACTION_DIGITS)); }
int32_t lm_gj_number(lm_ast *a) {
    bool fresh;
    const int32_t r = once(a, NUMBER, &fresh);
    if (fresh) {
        static const lm_grange e[] = { { 'e', 'e' }, { 'E', 'E' } }, sign[] = { { '+', '+' }, { '-', '-' } };
        const int32_t exponent = LM_G_SEQ(a, lm_g_class(a, e, 2), lm_g_rep(a, lm_g_class(a, sign, 2), 0, 1), digits(a, 1, 2));
        lm_g_define(a, r, LM_G_SEQ(a, whole(a), lm_g_rep(a, fraction(a), 0, 1), lm_g_rep(a, exponent, 0, 1)));
    }
    return lm_g_call(a, r);
}
/* A node that stands twice in a machine: through a rule, unless it is small; else nesting would double it at every level. */
static int32_t shared(lm_ast *a, int32_t x) {
    if (a->err || x < 0) return -1;
    const uint8_t k = a->node[x].kind;
    if (k == LM_G_RULE || k == LM_G_EMPTY || k == LM_G_NEVER || (k == LM_G_TEXT && a->node[x].n < 8)) return x;
    const int32_t r = lm_g_rule(a, NULL, 0);
    lm_g_define(a, r, x);
    return lm_g_call(a, r);
}
int32_t lm_gj_list(lm_ast *a, int32_t item, int64_t min, int64_t max) {
    const int32_t x = shared(a, item), ws = lm_gj_ws(a);
    if (max == 0) return LM_G_SEQ(a, lm_g_str(a, "["), ws, lm_g_str(a, "]"));
    const int32_t more = lm_g_rep(a, LM_G_SEQ(a, lm_g_str(a, ","), ws, x), min > 1 ? min - 1 : 0, max < 0 ? -1 : max - 1);
    const int32_t some = LM_G_SEQ(a, ws, x, more, ws);
    return LM_G_SEQ(a, lm_g_str(a, "["), min > 0 ? some : LM_G_ALT(a, ws, some), lm_g_str(a, "]"));
}
int32_t lm_gj_array(lm_ast *a) {
    bool fresh;
    const int32_t r = once(a, ARRAY, &fresh);
    if (fresh) lm_g_define(a, r, lm_gj_list(a, lm_gj_any(a), 0, -1));
    return lm_g_call(a, r);
}
int32_t lm_gj_object(lm_ast *a) {
    bool fresh;
    const int32_t r = once(a, OBJECT, &fresh);
    if (fresh) {
        const int32_t ws = lm_gj_ws(a), pair = shared(a, LM_G_SEQ(a, lm_gj_string(a), lm_g_str(a, ":"), ws, lm_gj_any(a)));
        const int32_t some = LM_G_SEQ(a, ws, pair, lm_g_rep(a, LM_G_SEQ(a, lm_g_str(a, ","), ws, pair), 0, -1), ws);
        lm_g_define(a, r, LM_G_SEQ(a, lm_g_str(a, "{"), LM_G_ALT(a, ws, some), lm_g_str(a, "}")));
    }
    return lm_g_call(a, r);
}
int32_t lm_gj_any(lm_ast *a) {
    bool fresh;
    const int32_t r = once(a, ANY, &fresh);
    if (fresh)
        lm_g_define(a, r, LM_G_ALT(a, lm_gj_object(a), lm_gj_array(a), lm_gj_string(a), lm_gj_number(a), lm_g_str(a, "true"), lm_g_str(a, "false"),
            lm_g_str(a, "null")));
    return lm_g_call(a, r);
}

/* ---- numbers within bounds ------------------------------------------------------------------------------------
 * Digit by digit from the left, knowing whether what is written still equals the lower bound's digits (tl), the upper's (th), both or neither; once
 * neither, all digits are free. So a range is a chain per bound, not a state per number. Both bounds are >= 0 here; negative numbers are the mirror image. */
typedef struct { const char *i, *f; int ni, nf; bool open; } bound;
typedef struct { lm_ast *a; bound lo, hi; bool integer; } between;
static int32_t span(lm_ast *a, int lo, int hi) { return lo > hi ? lm_g_never(a) : range(a, (uint32_t)('0' + lo), (uint32_t)('0' + hi)); }
static int32_t behind(const between *b, int i, bool tl, bool th);
static int32_t before(const between *b, int k, int i, bool tl, bool th);
/* One digit between the bounds' digits, then whatever follows; k < 0: behind the point. */
static int32_t digit(const between *b, int k, int i, int lo, int hi, bool tl, bool th) {
    lm_ast *a = b->a;
    int32_t x[3];
    int n = 0;
#define THEN(l, h) (k < 0 ? behind(b, i + 1, l, h) : before(b, k, i + 1, l, h))
    if (lo > hi) return lm_g_never(a);
    if (lo == hi) return LM_G_SEQ(a, span(a, lo, lo), THEN(tl, th));
    if (tl) { x[n++] = LM_G_SEQ(a, span(a, lo, lo), THEN(true, false)); lo++; }
    if (th) { x[n++] = LM_G_SEQ(a, span(a, hi, hi), THEN(false, true)); hi--; }
    if (lo <= hi) x[n++] = LM_G_SEQ(a, span(a, lo, hi), THEN(false, false));
#undef THEN
    return lm_g_alt(a, x, n);
}
static int32_t behind(const between *b, int i, bool tl, bool th) {
    lm_ast *a = b->a;
    const bound *lo = &b->lo, *hi = &b->hi;
    const int rest = i < FRACTION_DIGITS ? FRACTION_DIGITS - i : 0;
    if (tl && i >= lo->nf && !lo->open) tl = false;
    if (!tl && !th) return digits(a, i ? 0 : 1, rest ? rest : 1);
    if (th && i >= hi->nf) {                                           /* the upper bound itself, or above it */
        if (tl || hi->open) return lm_g_never(a);
        return lm_g_rep(a, lm_g_str(a, "0"), i ? 0 : 1, rest ? rest : 1);
    }
    if (tl && i >= lo->nf && !th) return LM_G_SEQ(a, lm_g_rep(a, lm_g_str(a, "0"), 0, rest), span(a, 1, 9), digits(a, 0, rest));
    const int32_t x = digit(b, -1, i, tl && i < lo->nf ? lo->f[i] - '0' : 0, th ? hi->f[i] - '0' : 9, tl, th);
    return i && !tl ? LM_G_ALT(a, lm_g_empty(a), x) : x;               /* ending here is below the upper bound, whose digits go on */
}
static int32_t before(const between *b, int k, int i, bool tl, bool th) {
    lm_ast *a = b->a;
    if (i < k) {
        if (!tl && !th && i) return LM_G_SEQ(a, digits(a, k - i, k - i), before(b, k, k, false, false));
        return digit(b, k, i, tl ? b->lo.i[i] - '0' : !i && k > 1 ? 1 : 0, th ? b->hi.i[i] - '0' : 9, tl, th);
    }
    const bool end = (!tl || (!b->lo.nf && !b->lo.open)) && (!th || b->hi.nf || !b->hi.open);
    if (b->integer) return end ? lm_g_empty(a) : lm_g_never(a);
    const int32_t x = LM_G_SEQ(a, lm_g_str(a, "."), behind(b, 0, tl, th));
    return end ? LM_G_ALT(a, lm_g_empty(a), x) : x;
}
static int32_t above_zero(lm_ast *a, bound lo, bound hi, bool integer) {
    const between b = { a, lo, hi, integer };
    lm_glist l = { .a = a };
    for (int k = lo.ni; k <= hi.ni; k++) lm_glist_add(&l, before(&b, k, 0, k == lo.ni, k == hi.ni));
    const int32_t x = a->err ? -1 : lm_g_alt(a, l.v, l.n);
    lm_glist_free(&l);
    return x;
}
static bound bound_of(const char *s, bool open, bool *negative) {
    bound b = { .open = open };
    *negative = *s == '-';
    s += *negative;
    b.i = s;
    while (s[b.ni] >= '0' && s[b.ni] <= '9') b.ni++;
    while (b.ni > 1 && *b.i == '0') { b.i++; b.ni--; }
    s = b.i + b.ni;
    if (*s == '.') { b.f = ++s; while (s[b.nf] >= '0' && s[b.nf] <= '9') b.nf++; }
    while (b.nf && b.f[b.nf - 1] == '0') b.nf--;
    if (b.ni == 1 && *b.i == '0' && !b.nf) *negative = false;
    return b;
}
int32_t lm_gj_range(lm_ast *a, const char *lo_s, bool lo_open, const char *hi_s, bool hi_open, bool integer) {
    static const char most[] = "1000000000000000000";                  /* INT_DIGITS zeros */
    const bound zero = { .i = "0", .ni = 1, .open = true };
    bool ln, hn;
    bound lo = bound_of(lo_s ? lo_s : "-1000000000000000000", lo_s ? lo_open : true, &ln), hi = bound_of(hi_s ? hi_s : most, hi_s ? hi_open : true, &hn);
    lm_glist l = { .a = a };
    if (!hn) { bound from = zero; from.open = false; lm_glist_add(&l, above_zero(a, ln ? from : lo, hi, integer)); }
    if (ln) lm_glist_add(&l, LM_G_SEQ(a, lm_g_str(a, "-"), above_zero(a, hn ? hi : zero, lo, integer)));
    const int32_t x = a->err ? -1 : lm_g_alt(a, l.v, l.n);
    lm_glist_free(&l);
    return x;
}

/* ---- formats: each a regular expression over the characters of the string ---------------------------------------------- */
#define MONTH_DAY "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
#define YEAR "([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
#define LEAP "([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
#define DATE "(" YEAR "-" MONTH_DAY "|" LEAP "-02-29)"
#define TIME "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define OCTET "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define H "[0-9A-Fa-f]{1,4}"
static const struct { const char *name, *re; } formats[] = {
    { "date", DATE },
    { "time", TIME },
    { "date-time", DATE "T" TIME },
    { "duration", "P([0-9]{1,9}W|([0-9]{1,9}Y)?([0-9]{1,9}M)?[0-9]{1,9}D(T[0-9]{1,9}[HMS])?|([0-9]{1,9}Y)?[0-9]{1,9}M|[0-9]{1,9}Y"
                  "|T([0-9]{1,9}H([0-9]{1,9}M([0-9]{1,9}S)?)?|[0-9]{1,9}M([0-9]{1,9}S)?|[0-9]{1,9}S))" },
    { "uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}" },
    { "ipv4", OCTET "\\." OCTET "\\." OCTET "\\." OCTET },
    { "ipv6", "((" H ":){7}" H "|(" H ":){1,7}:|(" H ":){1,6}:" H "|(" H ":){1,5}(:" H "){1,2}|(" H ":){1,4}(:" H "){1,3}|(" H ":){1,3}(:" H "){1,4}|(" H ":){1,2}(:" H
              "){1,5}|" H ":(:" H "){1,6}|:((:" H "){1,7}|:))" },
    { "email", "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,32}(\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,15}){0,1}@" LABEL "(\\." LABEL "){1,3}" },
    { "hostname", LABEL "(\\." LABEL "){0,3}" },
    { "uri", "[A-Za-z][A-Za-z0-9+.-]{0,15}:(//([A-Za-z0-9._~-]{1,32}(:[A-Za-z0-9._~-]{0,32})?@)?" LABEL "(\\." LABEL "){0,3}(:[0-9]{1,5})?)?"
             "(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*(\\?([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?(#([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?" },
};
int lm_gj_formats(const char **names, int most) {
    for (int i = 0; i < LM_COUNT(formats) && i < most; i++) names[i] = formats[i].name;
    return LM_COUNT(formats);
}
int32_t lm_gj_format(lm_ast *a, const char *format) {
    for (int i = 0; i < LM_COUNT(formats); i++)
        if (!strcmp(formats[i].name, format)) return lm_g_regex(a, formats[i].re, strlen(formats[i].re), false, lm_gj_chars);
    return -1;
}
