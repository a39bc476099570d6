/* derive.c — merges from scores, and the merge table.
 *
 * SentencePiece and tiktoken keep no list of merges: any two neighbours whose concatenation is a token may merge, the best token first, the
 * leftmost among equals. That is a merge table too: every way to cut each token in two known parts is an entry whose rank is the token's place
 * in the order of scores. SentencePiece also merges characters that are no tokens themselves but occur in some; they get ids above
 * the vocabulary, which the encoder spells in bytes if they are left over. */
#define _GNU_SOURCE 1      /* qsort_r */
#include "format/cursor.h"
#include "tok/tok_int.h"
#include "tok/unicode.h"
#include <stdlib.h>

enum { MAX_CUT = 512 };                                    /* longer tokens would make deriving quadratic; none is known */

static bool mergeable(const lm_tok *t, int32_t id) {
    const lm_tok_one *o = &t->tok[id];
    return o->model && !o->raw && (o->type == LM_TOK_NORMAL || (o->type == LM_TOK_ADDED && t->spm)) ;
}

typedef struct { float score; int32_t id; } scored;
static int by_score(const void *a, const void *b) {
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* rank[id] = place of its score, equal scores alike. */
static lm_err ranks(lm_tok *t, uint32_t *rank) {
    scored *s = lm_alloc(t->ctx, LM_MEM_TOK, (size_t)t->n_all * sizeof *s);
    if (!s) return LM_E_NOMEM;
    int32_t n = 0;
    for (int32_t id = 0; id < t->n_all; id++)
        if (mergeable(t, id)) s[n++] = (scored){ t->tok[id].score, id };
    qsort(s, (size_t)n, sizeof *s, by_score);
    uint32_t r = 0;
    for (int32_t i = 0; i < n; i++) {
        if (i && s[i].score != s[i - 1].score) r++;
        rank[s[i].id] = r;
    }
    lm_free(t->ctx, s);
    return LM_OK;
}

/* Characters that occur in tokens and are none. */
static lm_err hidden_characters(lm_tok *t) {
    uint8_t *seen = lm_calloc(t->ctx, LM_MEM_TOK, 0x110000 / 8, 1);
    if (!seen) return LM_E_NOMEM;
    lm_err err = LM_OK;
    int32_t n_vocab = t->n_vocab;
    for (int32_t id = 0; id < n_vocab && !err; id++) {
        if (!mergeable(t, id)) continue;
        for (size_t i = 0, n = t->tok[id].text_n; i < n && !err;) {
            const uint8_t *p = (const uint8_t *)t->blob.p + t->tok[id].text + i;   /* put() may move the blob */
            int k = lm_utf8_len(p, n - i);
            if (!k) { err = lm_fail(t->ctx, LM_E_FORMAT, "%s: token %d is not UTF-8", t->name, id); break; }
            uint32_t c = lm_utf8_get(p, &k);
            i += (size_t)k;
            if ((size_t)k == n || (seen[c / 8] >> c % 8 & 1)) continue;
            seen[c / 8] |= (uint8_t)(1 << c % 8);
            int32_t at = lm_tok_find_key(t, p, (size_t)k);
            if (at >= 0 && mergeable(t, at)) continue;
            char copy[4];
            memcpy(copy, p, (size_t)k);
            if (t->n_all >= LM_TOK_MAX_VOCAB) err = lm_fail(t->ctx, LM_E_FORMAT, "%s: too many tokens", t->name);
            else err = lm_tok_put(t, t->n_all, copy, (size_t)k, LM_TOK_NORMAL, true);
        }
    }
    t->n_vocab = n_vocab;
    lm_free(t->ctx, seen);
    if (!err && t->n_all > n_vocab) err = lm_tok_index_key(t);
    return err;
}

static int chars(const lm_tok *t, int32_t id) {
    size_t n;
    const char *s = lm_tok_key_of(t, id, &n);
    int k = 0;
    for (size_t i = 0; i < n; i++) k += ((uint8_t)s[i] & 0xc0) != 0x80;
    return k;
}

/* The order that tokenizer.json will have. A list cannot say "equal, leftmost first"; for SentencePiece longer parts first come nearest
 * (runs of blanks whose tokens all have one score grow from the left either way), and Hugging Face's converter orders them so. */
static int by_rank(const void *a, const void *b, void *ud) {
    const lm_tok_merge *x = a, *y = b;
    const lm_tok *t = ud;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    if (!t->byte_level) {
        int l = chars(t, y->left) - chars(t, x->left), r = chars(t, y->right) - chars(t, x->right);
        if (l || r) return l ? l : r;
    }
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return x->right < y->right ? -1 : x->right > y->right;
}

lm_err lm_tok_derive(lm_tok *t) {
    if (!t->byte_level) LM_TRY(hidden_characters(t));
    uint32_t *rank = lm_calloc(t->ctx, LM_MEM_TOK, (size_t)t->n_all + 1, sizeof *rank);
    if (!rank) return LM_E_NOMEM;
    lm_err err = ranks(t, rank);
    for (int32_t id = 0; id < t->n_vocab && !err; id++) {
        if (!mergeable(t, id)) continue;
        size_t n;
        const char *s = lm_tok_key_of(t, id, &n);
        if (n > MAX_CUT) { err = lm_fail(t->ctx, LM_E_UNSUPPORTED, "%s: token %d has %zu bytes; merges are derived for up to %d",
            t->name, id, n, MAX_CUT); break; }
        for (size_t i = 1; i < n && !err; i++) {
            if (!t->byte_level && ((uint8_t)s[i] & 0xc0) == 0x80) continue;
            int32_t l = lm_tok_find_key(t, s, i), r = l >= 0 ? lm_tok_find_key(t, s + i, n - i) : -1;
            if (r >= 0 && mergeable(t, l) && mergeable(t, r)) err = lm_tok_put_merge(t, l, r, id, rank[id]);
        }
    }
    if (!err && t->n_merge) qsort_r(t->merge, t->n_merge, sizeof *t->merge, by_rank, t);
    lm_free(t->ctx, rank);
    return err;
}

lm_err lm_tok_table(lm_tok *t) {
    uint64_t size = 16;
    while (size < 2 * (uint64_t)t->n_merge) size *= 2;
    lm_tok_slot *s = lm_alloc(t->ctx, LM_MEM_TOK, size * sizeof *s);
    if (!s) return LM_E_NOMEM;
    for (uint64_t i = 0; i < size; i++) s[i] = (lm_tok_slot){ 0, 0, -1 };
    for (size_t k = 0; k < t->n_merge; k++) {
        const lm_tok_merge *m = &t->merge[k];
        uint64_t key = (uint64_t)(uint32_t)m->left << 32 | (uint32_t)m->right, i = lm_pair_hash(key) & (size - 1);
        while (s[i].id >= 0 && s[i].key != key) i = (i + 1) & (size - 1);
        s[i] = (lm_tok_slot){ key, m->rank, m->id };       /* a pair listed twice: the later line counts, as in the reference */
    }
    t->table = s;
    t->table_mask = size - 1;
    return LM_OK;
}
