/* grammar_ast.c — building the tree of a grammar: nodes with limits, the first error kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "grammar/grammar_int.h"

lm_err lm_ast_fail(lm_ast *a, lm_err e, const char *fmt, ...) {
    if (a->err) return a->err;
    char msg[512];
    va_list ap;
    va_start(ap, fmt); vsnprintf(msg, sizeof msg, fmt, ap); va_end(ap);
    lm_fail(a->ctx, e, "%s: %s", a->file, msg);
    return a->err = e;
}
bool lm_g_room(lm_ctx *ctx, void **p, int32_t *cap, int32_t n, int32_t more, size_t size, int32_t most) {
    if (n + more <= *cap) return true;
    if (more > most - n) { lm_fail(ctx, LM_E_RANGE, "the grammar is too large: more than %d parts of one kind", most); return false; }
    int64_t want = *cap ? 2 * (int64_t)*cap : 64;
    if (want < (int64_t)n + more) want = (int64_t)n + more;
    if (want > most) want = most;
    void *q = lm_realloc(ctx, LM_MEM_MISC, *p, (size_t)want * size);
    if (!q) return false;
    *p = q; *cap = (int32_t)want;
    return true;
}
static bool room(lm_ast *a, void **p, int32_t *cap, int32_t n, int32_t more, size_t size, int32_t most) {
    if (a->err) return false;
    if (more > most - n) { lm_ast_fail(a, LM_E_RANGE, "the grammar is too large: more than %d parts", most); return false; }
    if (lm_g_room(a->ctx, p, cap, n, more, size, most)) return true;
    a->err = LM_E_NOMEM;
    return false;
}
#define ROOM(a, arr, more, most) room(a, (void **)&(a)->arr, &(a)->cap_##arr, (a)->n_##arr, more, sizeof *(a)->arr, most)
void lm_ast_free(lm_ast *a) {
    for (int32_t i = 0; i < a->n_rule; i++) lm_free(a->ctx, a->rule[i].name);
    lm_free(a->ctx, a->node); lm_free(a->ctx, a->kid); lm_free(a->ctx, a->range); lm_free(a->ctx, a->byte); lm_free(a->ctx, a->rule);
}
static int32_t add(lm_ast *a, lm_gnode x) {
    if (x.depth > LM_GRAMMAR_DEPTH) lm_ast_fail(a, LM_E_RANGE, "nested deeper than %d", LM_GRAMMAR_DEPTH);
    if (!ROOM(a, node, 1, LM_GRAMMAR_NODES)) return -1;
    a->node[a->n_node] = x;
    return a->n_node++;
}
int32_t lm_g_empty(lm_ast *a) { return add(a, (lm_gnode){ .kind = LM_G_EMPTY }); }
int32_t lm_g_never(lm_ast *a) { return add(a, (lm_gnode){ .kind = LM_G_NEVER }); }
static int by_lo(const void *p, const void *q) { const lm_grange *x = p, *y = q; return x->lo < y->lo ? -1 : x->lo > y->lo; }
static int join(lm_grange *r, int n) {
    if (n) qsort(r, (size_t)n, sizeof *r, by_lo);
    int m = 0;
    for (int i = 0; i < n; i++) {
        if (r[i].hi < r[i].lo) continue;
        if (m && r[i].lo <= r[m - 1].hi + 1) { if (r[i].hi > r[m - 1].hi) r[m - 1].hi = r[i].hi; }
        else r[m++] = r[i];
    }
    return m;
}
int32_t lm_g_class(lm_ast *a, const lm_grange *r, int n) {
    const int32_t at = a->n_range;
    if (n < 0 || !ROOM(a, range, 2 * n + 1, 8 * LM_GRAMMAR_NODES)) return -1;
    int m = 0;
    lm_grange *to = a->range + at;
    for (int i = 0; i < n; i++) {                                    /* without surrogates: they have no UTF-8 */
        const uint32_t hi = r[i].hi > 0x10FFFF ? 0x10FFFF : r[i].hi;
        if (r[i].lo > hi) continue;
        if (hi < 0xD800 || r[i].lo > 0xDFFF) { to[m++] = (lm_grange){ r[i].lo, hi }; continue; }
        if (r[i].lo < 0xD800) to[m++] = (lm_grange){ r[i].lo, 0xD7FF };
        if (hi > 0xDFFF) to[m++] = (lm_grange){ 0xE000, hi };
    }
    m = join(to, m);
    if (!m) return lm_g_never(a);
    a->n_range = at + m;
    return add(a, (lm_gnode){ .kind = LM_G_CLASS, .at = at, .n = m });
}
int32_t lm_g_not(lm_ast *a, const lm_grange *r, int n) {
    lm_granges l = { .a = a };
    for (int i = 0; i < n; i++) lm_granges_add(&l, r[i].lo, r[i].hi);
    lm_granges_invert(&l);
    const int32_t x = lm_g_class(a, l.v, l.n);
    lm_granges_free(&l);
    return x;
}
int32_t lm_g_text(lm_ast *a, const char *p, size_t n) {
    if (!n) return lm_g_empty(a);
    if (n > LM_GRAMMAR_BYTES) { lm_ast_fail(a, LM_E_RANGE, "a literal of %zu bytes", n); return -1; }
    const int32_t at = a->n_byte;
    if (!ROOM(a, byte, (int32_t)n, 4 * LM_GRAMMAR_BYTES)) return -1;
    memcpy(a->byte + at, p, n);
    a->n_byte += (int32_t)n;
    return add(a, (lm_gnode){ .kind = LM_G_TEXT, .at = at, .n = (int32_t)n });
}
int32_t lm_g_str(lm_ast *a, const char *s) { return lm_g_text(a, s, strlen(s)); }
static int32_t kids(lm_ast *a, lm_gkind kind, const int32_t *x, int n) {
    const int32_t at = a->n_kid;
    int32_t depth = 0;
    if (!ROOM(a, kid, n, 4 * LM_GRAMMAR_NODES)) return -1;
    for (int i = 0; i < n; i++) {
        if (x[i] < 0) return -1;
        a->kid[at + i] = x[i];
        if (a->node[x[i]].depth > depth) depth = a->node[x[i]].depth;
    }
    a->n_kid += n;
    return add(a, (lm_gnode){ .kind = (uint8_t)kind, .at = at, .n = n, .depth = depth + 1 });
}
int32_t lm_g_seq(lm_ast *a, const int32_t *x, int n) { return !n ? lm_g_empty(a) : n == 1 ? x[0] : kids(a, LM_G_SEQ, x, n); }
int32_t lm_g_alt(lm_ast *a, const int32_t *x, int n) { return !n ? lm_g_never(a) : n == 1 ? x[0] : kids(a, LM_G_ALT, x, n); }
int32_t lm_g_rep(lm_ast *a, int32_t x, int64_t min, int64_t max) {
    if (a->err || x < 0) return -1;
    if (min > LM_GRAMMAR_REPEAT || max > LM_GRAMMAR_REPEAT) {
        lm_ast_fail(a, LM_E_RANGE, "a repetition of %lld, at most %d", (long long)(max > min ? max : min), LM_GRAMMAR_REPEAT);
        return -1;
    }
    if (max >= 0 && max < min) return lm_g_never(a);
    if (max == 0) return lm_g_empty(a);
    if (min == 1 && max == 1) return x;
    return add(a, (lm_gnode){ .kind = LM_G_REP, .at = x, .min = (int32_t)min, .max = (int32_t)max, .depth = a->node[x].depth + 1 });
}
int32_t lm_g_call(lm_ast *a, int32_t rule) { return rule < 0 ? -1 : add(a, (lm_gnode){ .kind = LM_G_RULE, .at = rule }); }
int32_t lm_g_rule(lm_ast *a, const char *name, size_t n) {
    if (!ROOM(a, rule, 1, LM_GRAMMAR_RULES)) return -1;
    char *s = NULL;
    if (name) {
        if (!(s = lm_alloc(a->ctx, LM_MEM_MISC, n + 1))) { a->err = LM_E_NOMEM; return -1; }
        memcpy(s, name, n); s[n] = 0;
    }
    a->rule[a->n_rule] = (lm_grule){ -1, s };
    return a->n_rule++;
}
void lm_g_define(lm_ast *a, int32_t rule, int32_t node) { if (!a->err && rule >= 0 && node >= 0) a->rule[rule].node = node; }

void lm_glist_add(lm_glist *l, int32_t x) {
    if (x < 0 || !room(l->a, (void **)&l->v, &l->cap, l->n, 1, sizeof *l->v, LM_GRAMMAR_NODES)) return;
    l->v[l->n++] = x;
}
void lm_glist_free(lm_glist *l) { lm_free(l->a->ctx, l->v); *l = (lm_glist){ .a = l->a }; }
void lm_granges_add(lm_granges *l, uint32_t lo, uint32_t hi) {
    if (!room(l->a, (void **)&l->v, &l->cap, l->n, 1, sizeof *l->v, LM_GRAMMAR_NODES)) return;
    l->v[l->n++] = (lm_grange){ lo, hi };
}
void lm_granges_invert(lm_granges *l) {
    const int n = join(l->v, l->n);
    l->n = n;
    lm_granges_add(l, 0x110000, 0x110000);                             /* room for one more gap than ranges */
    if (l->a->err) return;
    uint32_t from = 0;
    int m = 0;
    for (int i = 0; i < n; i++) {
        const lm_grange r = l->v[i];
        if (r.lo > from) l->v[m++] = (lm_grange){ from, r.lo - 1 };
        from = r.hi + 1;
    }
    if (from <= 0x10FFFF) l->v[m++] = (lm_grange){ from, 0x10FFFF };
    l->n = m;
}
void lm_granges_free(lm_granges *l) { lm_free(l->a->ctx, l->v); *l = (lm_granges){ .a = l->a }; }

int lm_g_utf8(const char *s, size_t n, uint32_t *c) {
    const uint8_t *p = (const uint8_t *)s;
    if (!n) return 0;
    if (p[0] < 0x80) { *c = p[0]; return 1; }
    const int k = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || n < (size_t)k) return 0;
    uint32_t x = p[0] & (0xFFu >> (k + 1));
    for (int i = 1; i < k; i++) { if ((p[i] & 0xC0) != 0x80) return 0; x = x << 6 | (p[i] & 0x3F); }
    if ((k == 3 && (x < 0x800 || (x >= 0xD800 && x <= 0xDFFF))) || (k == 4 && (x < 0x10000 || x > 0x10FFFF))) return 0;
    *c = x;
    return k;
}
/* Split at the lengths of UTF-8, then until all but the last differing byte are whole ranges. */
static void put(uint32_t lo, uint32_t hi, lm_gutf8 *out, int *n) {
    static const uint32_t most[] = { 0x7F, 0x7FF, 0xFFFF, 0x10FFFF };
    for (int k = 0; k < 3; k++) if (lo <= most[k] && hi > most[k]) { put(lo, most[k], out, n); put(most[k] + 1, hi, out, n); return; }
    int k = 0;
    while (hi > most[k]) k++;
    for (int i = 1; i <= k; i++) {
        const uint32_t m = (1u << (6 * i)) - 1;
        if ((lo & ~m) == (hi & ~m)) continue;
        if (lo & m) { put(lo, lo | m, out, n); put((lo | m) + 1, hi, out, n); return; }
        if ((hi & m) != m) { put(lo, (hi & ~m) - 1, out, n); put(hi & ~m, hi, out, n); return; }
    }
    lm_gutf8 *u = &out[(*n)++];
    u->n = k + 1;
    for (int i = 0; i <= k; i++) {
        const int shift = 6 * (k - i);
        const uint32_t mask = i ? 0x3F : k ? 0xFFu >> (k + 2) : 0x7F, lead = i ? 0x80 : k == 1 ? 0xC0 : k == 2 ? 0xE0 : k == 3 ? 0xF0 : 0;
        u->lo[i] = (uint8_t)(lead | (lo >> shift & mask)); u->hi[i] = (uint8_t)(lead | (hi >> shift & mask));
    }
}
int lm_g_utf8_ranges(uint32_t lo, uint32_t hi, lm_gutf8 out[16]) { int n = 0; put(lo, hi, out, &n); return n; }
