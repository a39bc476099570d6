/* grammar_trie.c — a vocabulary as a trie of bytes, in preorder: what a rejected byte rules out is skipped in one step. */
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
    if (!t->bytes || !t->at || !t->eos || !t->order) return LM_E_NOMEM;
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
/* Tokens in order: each shares a prefix with the one before; the rest are new nodes. */
static lm_err nodes(lm_trie *t, int32_t n) {
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
    t->node = lm_alloc(t->ctx, LM_MEM_TOK, most * sizeof *t->node);
    int32_t *open = lm_alloc(t->ctx, LM_MEM_MISC, ((size_t)t->max_depth + 1) * sizeof *open);       /* the path to the last node */
    if (!t->node || !open) { lm_free(t->ctx, open); return LM_E_NOMEM; }
    t->node[t->n_node++] = (lm_tnode){ 0 };                            /* the root: no byte */
    open[0] = 0;
    size_t deep = 0;
    for (int32_t i = 0; i < n; i++) {
        const size_t m = t->at[t->order[i] + 1] - t->at[t->order[i]];
        const char *p = t->bytes + t->at[t->order[i]];
        size_t k = 0;
        while (k < m && k < deep && (uint8_t)p[k] == t->node[open[k + 1]].byte) k++;
        for (; deep > k; deep--) t->node[open[deep]].end = t->n_node;
        for (; deep < m; deep++) {
            open[deep + 1] = t->n_node;
            t->node[t->n_node++] = (lm_tnode){ .token = i, .depth = (uint32_t)deep + 1, .byte = (uint8_t)p[deep] };
        }
        if (!t->node[open[deep]].n_token) t->node[open[deep]].token = i;
        t->node[open[deep]].n_token++;
    }
    for (;; deep--) { t->node[open[deep]].end = t->n_node; if (!deep) break; }
    t->node[0].token = 0;
    /* what is below: each node hands its byte and what it has to its parent, once it is complete, that is when the next one is not below it */
    deep = 0;
    for (int32_t i = 1; i <= t->n_node; i++) {
        const size_t to = i < t->n_node ? t->node[i].depth : 1;
        for (; deep >= to; deep--) {
            const lm_tnode *x = &t->node[open[deep]];
            t->node[open[deep - 1]].groups |= x->groups | (1u << lm_g_group((uint8_t)x->byte));
        }
        if (i < t->n_node) open[++deep] = i;
    }
    lm_free(t->ctx, open);
    return LM_OK;
}
lm_err lm_trie_new(lm_trie **out, lm_ctx *ctx, const lm_piece *piece, int64_t vocab, const int32_t *eos, int n_eos) {
    if (vocab < 0 || vocab > (1 << 24) - 1) return lm_fail(ctx, LM_E_RANGE, "a vocabulary of %lld tokens", (long long)vocab);
    lm_trie *t = lm_calloc(ctx, LM_MEM_TOK, 1, sizeof *t);
    if (!t) return LM_E_NOMEM;
    t->ctx = ctx; t->vocab = vocab;
    lm_err err;
    LM_GOTO(copy(t, piece, eos, n_eos), fail);
    int32_t n = 0;
    for (int32_t i = 0; i < vocab; i++) if (t->at[i + 1] > t->at[i]) t->order[n++] = i;
    qsort_r(t->order, (size_t)n, sizeof *t->order, by_bytes, t);
    t->n_order = n;
    LM_GOTO(nodes(t, n), fail);
    *out = t;
    return LM_OK;
fail:
    lm_trie_free(t);
    return err;
}
void lm_trie_free(lm_trie *t) {
    if (!t) return;
    lm_free(t->ctx, t->node); lm_free(t->ctx, t->order); lm_free(t->ctx, t->bytes); lm_free(t->ctx, t->at); lm_free(t->ctx, t->eos); lm_free(t->ctx, t);
}
int64_t lm_trie_vocab(const lm_trie *t) { return t->vocab; }
int64_t lm_trie_nodes(const lm_trie *t) { return t->n_node; }
