/* added.c — added tokens: found before anything else, leftmost first, the longest of those that begin there.
 *
 * Two tries: tokens looked for in the text as given, and tokens looked for after normalization (their own text normalized too, as the reference
 * does: with a prepended meta symbol "<s>" then only matches at the start of a piece). */
#include "tok/tok_int.h"
#include "tok/unicode.h"

static lm_err insert(lm_tok *t, lm_tok_trie *x, const uint8_t *p, size_t n, int32_t added) {
    int32_t *at = &x->first[p[0]];
    size_t depth = 0;
    int32_t node = -1;
    while (depth < n) {
        uint8_t b = p[depth];
        while (*at >= 0 && x->node[*at].byte != b) at = &x->node[*at].next;
        if (*at < 0) {
            int32_t where = (int32_t)(at - (int32_t *)(void *)x->node);      /* growing moves the nodes; roots lie outside them */
            bool root = depth == 0;
            int64_t cap = x->cap;
            LM_TRY(lm_tok_grow(t->ctx, (void **)&x->node, (int64_t)x->n + 1, &cap, sizeof *x->node));
            x->cap = (int32_t)cap;
            at = root ? &x->first[b] : (int32_t *)(void *)x->node + where;
            x->node[x->n] = (lm_tok_node){ -1, -1, -1, b };
            *at = x->n++;
        }
        node = *at;
        at = &x->node[node].child;
        depth++;
    }
    x->node[node].added = added;
    return LM_OK;
}

static void only(lm_tok_trie *x) {
    int n = 0;
    x->only = -1;
    for (int b = 0; b < 256; b++)
        if (x->first[b] >= 0) { n++; x->only = b; }
    if (n != 1) x->only = -1;
}

lm_err lm_tok_added_build(lm_tok *t) {
    for (int b = 0; b < 256; b++) t->plain.first[b] = t->normalized.first[b] = -1;
    lm_tok_scratch *s = NULL;
    lm_str norm = { .ctx = t->ctx };
    lm_err err = LM_OK;
    for (int32_t i = 0; i < t->n_added && !err; i++) {
        const lm_tok_added *a = &t->added[i];
        size_t n;
        const uint8_t *p = (const uint8_t *)lm_tok_text_of(t, a->id, &n);
        if (a->flags & LM_ADDED_NORMALIZED && t->n_norm) {
            if (!s) err = lm_tok_scratch_get(t, t->ctx, &s);
            if (!err) err = lm_norm_run(t, s, t->ctx, p, n, true, &norm);
            if (err) break;
            p = (const uint8_t *)norm.p;
            n = norm.n;
        }
        bool after = a->flags & (LM_ADDED_NORMALIZED | LM_ADDED_EXACT);
        if (n) err = insert(t, after ? &t->normalized : &t->plain, p, n, i);
    }
    only(&t->plain);
    only(&t->normalized);
    lm_tok_scratch_put(t, s);
    lm_str_free(&norm);
    return err;
}

static bool word_char(uint32_t c) { return lm_uc_word(c) || c == 0x200c || c == 0x200d; }

static lm_err hit(lm_tok_hit **h, int64_t *n, int64_t *cap, lm_ctx *ctx, size_t s, size_t e, int32_t id) {
    LM_TRY(lm_tok_grow(ctx, (void **)h, *n + 1, cap, sizeof **h));
    (*h)[(*n)++] = (lm_tok_hit){ s, e, id };
    return LM_OK;
}

/* The longest token at p[i]; its index into added, or -1. */
static int32_t longest(const lm_tok_trie *x, const uint8_t *p, size_t i, size_t n, size_t *e) {
    int32_t best = -1, at = x->first[p[i]];
    while (at >= 0) {
        i++;
        if (x->node[at].added >= 0) { best = x->node[at].added; *e = i; }
        if (i == n) break;
        for (at = x->node[at].child; at >= 0 && x->node[at].byte != p[i];) at = x->node[at].next;
    }
    return best;
}

static bool guarded(const lm_tok_guard *g, size_t s, size_t e) {
    while (s < e && !g->byte[s]) s++;
    return s < e;
}

lm_err lm_tok_added_cut(const lm_tok *t, const lm_tok_trie *x, lm_ctx *ctx, const uint8_t *p, size_t n, bool special, const lm_tok_guard *guard,
                        lm_tok_hit **h, int64_t *n_hit, int64_t *cap) {
    size_t done = 0, i = 0;
    int k;
    lm_err err = LM_OK;
    while (x->n && i < n) {
        if (x->only >= 0) {
            const uint8_t *q = memchr(p + i, x->only, n - i);
            if (!q) break;
            i = (size_t)(q - p);
        } else {
            while (i < n && x->first[p[i]] < 0) i++;
            if (i == n) break;
        }
        size_t s = i, e = i;
        int32_t a = longest(x, p, i, n, &e);
        if (a < 0) { i++; continue; }
        i = e;
        const lm_tok_added *d = &t->added[a];
        if (d->flags & LM_ADDED_SPECIAL && !special) continue;
        if (guard && (d->flags & LM_ADDED_SPECIAL || (guard->id && guard->id[d->id / 8] >> d->id % 8 & 1)) && guarded(guard, s, e)) continue;
        if (d->flags & LM_ADDED_SINGLE_WORD) {
            if (s && word_char(lm_utf8_get(lm_utf8_prev(p, p + s), &k))) continue;
            if (e < n && word_char(lm_utf8_get(p + e, &k))) continue;
        }
        if (d->flags & LM_ADDED_LSTRIP)
            while (s > done) {
                const uint8_t *b = lm_utf8_prev(p, p + s);
                if (!lm_uc_space(lm_utf8_get(b, &k))) break;
                s = (size_t)(b - p);
            }
        if (d->flags & LM_ADDED_RSTRIP)
            while (e < n && lm_uc_space(lm_utf8_get(p + e, &k))) e += (size_t)k;
        if (e <= done) continue;                           /* inside white space that the token before took */
        if (s > done) LM_GOTO(hit(h, n_hit, cap, t->ctx, done, s, -1), out_of_memory);
        LM_GOTO(hit(h, n_hit, cap, t->ctx, s, e, d->id), out_of_memory);
        done = e;
    }
    if (done < n) LM_GOTO(hit(h, n_hit, cap, t->ctx, done, n, -1), out_of_memory);
    return LM_OK;
out_of_memory:
    return lm_fail(ctx, err, "out of memory: looking for added tokens in %zu bytes", n);
}
