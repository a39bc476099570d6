/* grammar_trie.c — a vocabulary as a trie of bytes. It is made in preorder, as sorted tokens give it, and kept level by level: a walk looks at all children of a
 * node and goes into few, so what it looks at should lie together. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE                                                    /* qsort_r */
#endif
#include <stdlib.h>
#include <string.h>
#include "grammar/grammar_set.h"

static int by_bytes(const void *p, const void *q, void *ud) {
    const lm_trie *t = ud;
    const int32_t a = *(const int32_t *)p, b = *(const int32_t *)q;
    const size_t na = t->at[a + 1] - t->at[a], nb = t->at[b + 1] - t->at[b];
    const int c = memcmp(t->bytes + t->at[a], t->bytes + t->at[b], na < nb ? na : nb);
    return c ? c : na != nb ? (na < nb ? -1 : 1) : a < b ? -1 : a > b;
}
static lm_err copy(lm_trie *t, const lm_piece *piece, const int32_t *eos, int n_eos) {
    size_t all = 0;
    for (int64_t i = 0; i < t->vocab; i++)
        if (piece[i].p && (!lm_add_ok(all, piece[i].n, &all) || all > UINT32_MAX / 2 || piece[i].n >= 1 << 23))
            return lm_fail(t->ctx, LM_E_RANGE, "the vocabulary's texts are too long for a grammar");
    t->bytes = lm_alloc(t->ctx, LM_MEM_TOK, all + 1);
    t->at = lm_alloc(t->ctx, LM_MEM_TOK, (size_t)(t->vocab + 1) * sizeof *t->at);
    t->eos = lm_alloc(t->ctx, LM_MEM_TOK, (size_t)(n_eos + 1) * sizeof *t->eos);
    t->order = lm_alloc(t->ctx, LM_MEM_TOK, (size_t)(t->vocab + 1) * sizeof *t->order);
    const size_t words = (size_t)lm_ceil_div(t->vocab, 32);
    t->has[0] = lm_calloc(t->ctx, LM_MEM_TOK, 8 * words + 1, sizeof *t->has[0]);
    t->length = lm_calloc(t->ctx, LM_MEM_TOK, 32 * words + 1, 1);
    if (!t->bytes || !t->at || !t->eos || !t->order || !t->has[0] || !t->length) return LM_E_NOMEM;
    for (int k = 1; k < 8; k++) t->has[k] = t->has[0] + (size_t)k * words;
    memset(t->has[6], 0xFF, words * sizeof *t->has[6]);
    uint32_t at = 0;
    for (int64_t i = 0; i < t->vocab; i++) {
        t->at[i] = at;
        bool end = false;
        for (int k = 0; k < n_eos; k++) end |= eos[k] == i;
        if (!piece[i].p || end) continue;
        memcpy(t->bytes + at, piece[i].p, piece[i].n);
        at += (uint32_t)piece[i].n;
    }
    t->at[t->vocab] = at;
    for (int k = 0; k < n_eos; k++) {
        if (eos[k] < 0 || eos[k] >= t->vocab) return lm_fail(t->ctx, LM_E_RANGE, "end token %d is outside the vocabulary of %lld", eos[k], (long long)t->vocab);
        t->eos[t->n_eos++] = eos[k];
    }
    return LM_OK;
}
/* In preorder; end: past the subtree. */
typedef struct { int32_t end, depth; lm_tnode x; } pre;
/* Tokens in order: each shares a prefix with the one before; the rest are new nodes. */
static lm_err nodes(lm_trie *t, int32_t n, pre **out) {
    const char *before = "";
    size_t n_before = 0, most = 1;
    for (int32_t i = 0; i < n; i++) {
        const size_t m = t->at[t->order[i] + 1] - t->at[t->order[i]];
        const char *p = t->bytes + t->at[t->order[i]];
        size_t k = 0;
        while (k < m && k < n_before && p[k] == before[k]) k++;
        most += m - k;
        before = p; n_before = m;
        if ((int64_t)m > t->max_depth) t->max_depth = (int32_t)m;
    }
    if (most > INT32_MAX) return lm_fail(t->ctx, LM_E_RANGE, "the vocabulary is too large for a grammar");
    pre *node = *out = lm_alloc(t->ctx, LM_MEM_MISC, most * sizeof *node);
    int32_t *open = lm_alloc(t->ctx, LM_MEM_MISC, ((size_t)t->max_depth + 1) * sizeof *open);       /* the path to the last node */
    if (!node || !open) { lm_free(t->ctx, open); return LM_E_NOMEM; }
    node[t->n_node++] = (pre){0};                                      /* the root: no byte */
    open[0] = 0;
    size_t deep = 0;
    lm_err err = LM_OK;
    for (int32_t i = 0; i < n && !err; i++) {
        const size_t m = t->at[t->order[i] + 1] - t->at[t->order[i]];
        const char *p = t->bytes + t->at[t->order[i]];
        size_t k = 0;
        while (k < m && k < deep && (uint8_t)p[k] == node[open[k + 1]].x.byte) k++;
        for (; deep > k; deep--) { node[open[deep]].end = t->n_node; node[open[deep]].x.token_end = i; }
        for (; deep < m; deep++) {
            open[deep + 1] = t->n_node;
            node[t->n_node++] = (pre){ .depth = (int32_t)deep + 1, .x = { .token = i, .byte = (uint8_t)p[deep] } };
        }
        if (node[open[deep]].x.n_token++ == UINT16_MAX)
            err = lm_fail(t->ctx, LM_E_RANGE, "more than %d tokens of the vocabulary have the same text", UINT16_MAX);
    }
    for (;; deep--) { node[open[deep]].end = t->n_node; node[open[deep]].x.token_end = n; if (!deep) break; }
    lm_free(t->ctx, open);
    return err;
}
static lm_err by_level(lm_trie *t, const pre *p) {
    int32_t *from = lm_alloc(t->ctx, LM_MEM_MISC, (size_t)t->n_node * sizeof *from), n = 1;
    t->node = lm_alloc(t->ctx, LM_MEM_TOK, (size_t)(t->n_node + 1) * sizeof *t->node);
    if (!from || !t->node) { lm_free(t->ctx, from); return LM_E_NOMEM; }
    from[0] = 0;
    for (int32_t i = 0; i < n; i++) {
        t->node[i] = p[from[i]].x;
        t->node[i].kid = n;
        for (int32_t k = from[i] + 1; k < p[from[i]].end; k = p[k].end) from[n++] = k;
    }
    t->node[n] = (lm_tnode){ .kid = n };
    lm_free(t->ctx, from);
    return LM_OK;
}
/* Where a byte leads in UTF-8: what may come next (lo..hi, then `more` continuations); lo 0: a character may begin. */
typedef struct { uint8_t lo, hi, more; bool broken; } utf8_at;
static utf8_at utf8_next(utf8_at x, uint8_t b) {
    if (b < 0x80) return (utf8_at){ .broken = x.lo };                  /* whatever was before it, a character may begin after it */
    if (x.lo) return b >= x.lo && b <= x.hi ? (x.more ? (utf8_at){ 0x80, 0xBF, (uint8_t)(x.more - 1), false } : (utf8_at){0}) : (utf8_at){ 1, 0, 0, true };
    if (b < 0xC2 || b > 0xF4) return (utf8_at){ 1, 0, 0, true };       /* nothing fits from there on but ASCII */
    return (utf8_at){ b == 0xE0 ? 0xA0 : b == 0xF0 ? 0x90 : 0x80, b == 0xED ? 0x9F : b == 0xF4 ? 0x8F : 0xBF, b < 0xE0 ? 0 : b < 0xF0 ? 1 : 2, false };
}
/* What nodes and tokens are made of: each node hands what it has to its parent once it is complete, that is when the next one is not below it. */
static lm_err groups(lm_trie *t, pre *p) {
    struct { int32_t node; utf8_at at; uint8_t path; } *open = lm_calloc(t->ctx, LM_MEM_MISC, (size_t)t->max_depth + 1, sizeof *open);
    if (!open) return LM_E_NOMEM;
    int32_t deep = 0;
    for (int32_t i = 1; i <= t->n_node; i++) {
        const int32_t to = i < t->n_node ? p[i].depth : 1;
        for (; deep >= to; deep--) {
            lm_tnode *x = &p[open[deep].node].x, *up = &p[open[deep - 1].node].x;
            up->below |= x->groups | x->below;
            if (up->longest < x->longest) up->longest = x->longest;
            x->groups = open[deep].path | x->below;
            if (open[deep].at.lo) x->below |= LM_GG_BROKEN;            /* seen from here, not from its parents */
        }
        if (i == t->n_node) break;
        lm_tnode *x = &p[i].x;
        const utf8_at at = utf8_next(open[deep].at, x->byte);
        const uint8_t own = x->byte < 0x80 ? lm_g_group(x->byte) : LM_GG_BEYOND;
        x->groups = own | (at.broken ? LM_GG_BROKEN : 0);
        p[open[deep].node].x.next |= own;
        const uint8_t path = open[deep].path | x->groups;
        x->longest = (uint8_t)(deep + 1 < LM_TRIE_LONG ? deep + 1 : LM_TRIE_LONG);
        for (int32_t k = 0; k < x->n_token; k++) {
            const int32_t id = t->order[x->token + k];
            t->length[id] = x->longest;
            for (int g = 0; g < 8; g++) {
                uint32_t *w = &t->has[g][id >> 5];
                *w = (*w & ~(1u << (id & 31))) | (uint32_t)(path >> g & 1) << (id & 31);
            }
        }
        deep++;
        open[deep].node = i; open[deep].at = at; open[deep].path = path;
    }
    lm_free(t->ctx, open);
    return LM_OK;
}
lm_err lm_trie_new(lm_trie **out, lm_ctx *ctx, const lm_piece *piece, int64_t vocab, const int32_t *eos, int n_eos) {
    if (vocab < 0 || vocab > (1 << 24) - 1) return lm_fail(ctx, LM_E_RANGE, "a vocabulary of %lld tokens", (long long)vocab);
    lm_trie *t = lm_calloc(ctx, LM_MEM_TOK, 1, sizeof *t);
    if (!t) return LM_E_NOMEM;
    t->ctx = ctx; t->vocab = vocab;
    pre *p = NULL;
    lm_err err;
    LM_GOTO(copy(t, piece, eos, n_eos), fail);
    int32_t n = 0;
    for (int32_t i = 0; i < vocab; i++) if (t->at[i + 1] > t->at[i]) t->order[n++] = i;
    qsort_r(t->order, (size_t)n, sizeof *t->order, by_bytes, t);
    t->n_order = n;
    LM_GOTO(nodes(t, n, &p), fail);
    LM_GOTO(groups(t, p), fail);
    LM_GOTO(by_level(t, p), fail);
    lm_free(ctx, p);
    *out = t;
    return LM_OK;
fail:
    lm_free(ctx, p);
    lm_trie_free(t);
    return err;
}
void lm_trie_free(lm_trie *t) {
    if (!t) return;
    lm_free(t->ctx, t->node); lm_free(t->ctx, t->order); lm_free(t->ctx, t->bytes); lm_free(t->ctx, t->at); lm_free(t->ctx, t->has[0]); lm_free(t->ctx, t->length); lm_free(t->ctx, t->eos); lm_free(t->ctx, t);
}
int64_t lm_trie_vocab(const lm_trie *t) { return t->vocab; }
int64_t lm_trie_nodes(const lm_trie *t) { return t->n_node; }
