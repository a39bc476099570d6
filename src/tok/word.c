/* word.c — one word to ids: the cache, then the merge loop.
 *
 * Most words of a text were met before. Words of up to 15 bytes are looked up in a two-way set table: the word itself, zero-padded with its length
 * in the top byte, is the key, and up to three ids are in the same 32 bytes, so a hit is one cache line and two comparisons. Longer
 * ones (up to 72 bytes; common in scripts without spaces) go to a direct-mapped table.
 * A miss merges: symbols in an array with, for few of them, the rank of each neighbouring pair beside; the smallest rank, leftmost first, is
 * merged until none is left (as in tiktoken: short arrays beat heaps). From 64 symbols on a linked list and a heap do the same in n log n. */
#include "format/cursor.h"
#include "tok/tok_int.h"
#include "tok/unicode.h"

enum { FEW = 64 };
#define NO_RANK UINT32_MAX

static inline const lm_tok_slot *merge_of(const lm_tok *t, int32_t left, int32_t right) {
    if (left < 0 || right < 0) return NULL;
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (uint64_t i = lm_pair_hash(key) & t->table_mask;; i = (i + 1) & t->table_mask) {
        const lm_tok_slot *s = &t->table[i];
        if (s->id < 0) return NULL;
        if (s->key == key) return s;
    }
}

/* ---- what a merged word becomes ---- */
static lm_err no_token(const lm_tok *t, lm_ctx *ctx, const uint8_t *p, uint32_t len) {
    char hex[16] = "";
    for (uint32_t i = 0; i < len && i < 4; i++) { hex[2 * i] = "0123456789abcdef"[p[i] >> 4]; hex[2 * i + 1] = "0123456789abcdef"[p[i] & 15]; }
    return lm_fail(ctx, LM_E_DATA, "%s: the vocabulary has no token for the bytes %s and none for the unknown", t->name, hex);
}

/* Append the ids of symbols; room for one per byte is there. Symbols without a token: byte tokens, or the unknown token. */
static lm_err emit(const lm_tok *t, lm_ctx *ctx, const uint8_t *p, const lm_tok_sym *y, int32_t first, bool linked, int32_t n, lm_tok_buf *out) {
    bool was_unk = false;
    for (int32_t i = first; linked ? i >= 0 : i < n; i = linked ? y[i].next : i + 1) {
        int32_t id = y[i].id;
        if (id >= 0 && id < t->n_vocab) { out->id[out->n++] = id; was_unk = false; continue; }
        const uint8_t *c = p + y[i].at;
        bool all = t->byte_fallback;
        for (uint32_t k = 0; all && k < y[i].len; k++) all = t->byte_id[c[k]] >= 0;
        if (all) {
            for (uint32_t k = 0; k < y[i].len; k++) out->id[out->n++] = t->byte_id[c[k]];
            was_unk = false;
        } else if (t->unk >= 0) {
            if (!(was_unk && t->fuse_unk)) out->id[out->n++] = t->unk;
            was_unk = true;
        } else return no_token(t, ctx, c, y[i].len);
    }
    return LM_OK;
}

/* ---- merging few ---- */
static lm_err merge_few(const lm_tok *t, lm_ctx *ctx, const uint8_t *p, lm_tok_sym *y, int32_t n, lm_tok_buf *out) {
    uint32_t rank[FEW];
    int32_t to[FEW];
    for (int32_t i = 0; i + 1 < n; i++) {
        const lm_tok_slot *m = merge_of(t, y[i].id, y[i + 1].id);
        rank[i] = m ? m->rank : NO_RANK;
        to[i] = m ? m->id : -1;
    }
    while (n > 1) {
        int32_t at = 0;
        uint32_t best = rank[0];
        for (int32_t i = 1; i + 1 < n; i++)
            if (rank[i] < best) { best = rank[i]; at = i; }
        if (best == NO_RANK) break;
        y[at].id = to[at];
        y[at].len += y[at + 1].len;
        int32_t move = n - at - 2;                         /* symbols behind the pair */
        memmove(&y[at + 1], &y[at + 2], (size_t)move * sizeof *y);
        if (move) {
            memmove(&rank[at + 1], &rank[at + 2], (size_t)(move - 1) * sizeof *rank);
            memmove(&to[at + 1], &to[at + 2], (size_t)(move - 1) * sizeof *to);
        }
        n--;
        for (int32_t i = at ? at - 1 : 0; i <= at && i + 1 < n; i++) {
            const lm_tok_slot *m = merge_of(t, y[i].id, y[i + 1].id);
            rank[i] = m ? m->rank : NO_RANK;
            to[i] = m ? m->id : -1;
        }
    }
    return emit(t, ctx, p, y, 0, false, n, out);
}

/* ---- merging many ---- */
static inline bool before(const lm_tok_cand *a, const lm_tok_cand *b) { return a->rank != b->rank ? a->rank < b->rank : a->pos < b->pos; }

static void sift_up(lm_tok_cand *h, int64_t i) {
    lm_tok_cand x = h[i];
    for (; i; i = (i - 1) / 4) {
        if (!before(&x, &h[(i - 1) / 4])) break;
        h[i] = h[(i - 1) / 4];
    }
    h[i] = x;
}
static void sift_down(lm_tok_cand *h, int64_t n) {
    lm_tok_cand x = h[0];
    int64_t i = 0;
    for (;;) {
        int64_t c = 4 * i + 1, best = c;
        if (c >= n) break;
        for (int64_t k = c + 1; k < c + 4 && k < n; k++)
            if (before(&h[k], &h[best])) best = k;
        if (!before(&h[best], &x)) break;
        h[i] = h[best];
        i = best;
    }
    h[i] = x;
}

static lm_err consider(const lm_tok *t, lm_tok_scratch *s, int32_t left, int32_t right) {
    if (left < 0 || right < 0) return LM_OK;
    const lm_tok_slot *m = merge_of(t, s->sym[left].id, s->sym[right].id);
    if (!m) return LM_OK;
    LM_TRY(lm_tok_grow(s->ctx, (void **)&s->heap, s->n_heap + 1, &s->cap_heap, sizeof *s->heap));
    s->heap[s->n_heap] = (lm_tok_cand){ m->rank, left, s->sym[left].id, s->sym[right].id };
    sift_up(s->heap, s->n_heap++);
    return LM_OK;
}

static lm_err merge_many(const lm_tok *t, lm_tok_scratch *s, lm_ctx *ctx, const uint8_t *p, int32_t n, lm_tok_buf *out) {
    lm_tok_sym *y = s->sym;
    for (int32_t i = 0; i < n; i++) { y[i].prev = i - 1; y[i].next = i + 1 < n ? i + 1 : -1; }
    s->n_heap = 0;
    for (int32_t i = 0; i + 1 < n; i++) LM_TRY(consider(t, s, i, i + 1));
    while (s->n_heap) {
        lm_tok_cand c = s->heap[0];
        s->heap[0] = s->heap[--s->n_heap];
        if (s->n_heap) sift_down(s->heap, s->n_heap);
        int32_t l = c.pos, r = y[l].next;
        if (y[l].len == 0 || r < 0 || y[l].id != c.left || y[r].id != c.right) continue;     /* one of the two is gone */
        y[l].id = merge_of(t, c.left, c.right)->id;
        y[l].len += y[r].len;
        y[r].len = 0;
        y[l].next = y[r].next;
        if (y[r].next >= 0) y[y[r].next].prev = l;
        LM_TRY(consider(t, s, y[l].prev, l));
        LM_TRY(consider(t, s, l, y[l].next));
    }
    return emit(t, ctx, p, y, 0, true, n, out);
}

/* ---- a word that is not in the cache ---- */
static lm_err fresh(const lm_tok *t, lm_tok_scratch *s, lm_ctx *ctx, const uint8_t *p, size_t n, lm_tok_buf *out) {
    if (n > INT32_MAX) return lm_fail(ctx, LM_E_DATA, "%s: a word of %zu bytes; at most 2 GiB without a break are taken", t->name, n);
    if (t->wp_prefix) return lm_wordpiece(t, ctx, p, n, out);
    if (t->ignore_merges) {
        int32_t id = lm_tok_find_key(t, p, n);
        if (id >= 0 && id < t->n_vocab) { out->id[out->n++] = id; return LM_OK; }
    }
    lm_tok_sym few[FEW], *y = few;
    if (n > FEW) {
        LM_TRY(lm_tok_grow(s->ctx, (void **)&s->sym, (int64_t)n, &s->cap_sym, sizeof *s->sym));
        y = s->sym;
    }
    int32_t k = 0;
    if (t->byte_level) {
        for (size_t i = 0; i < n; i++) {
            int32_t id = t->byte_id[p[i]];
            if (id < 0 && t->unk < 0) return no_token(t, ctx, p + i, 1);
            y[k++] = (lm_tok_sym){ .id = id, .at = (uint32_t)i, .len = 1 };
        }
    } else {
        for (size_t i = 0; i < n;) {
            int len = lm_utf8_len(p + i, n - i);
            if (!len) len = 1;                             /* LM_TOK_RAW */
            y[k++] = (lm_tok_sym){ .id = lm_tok_find_key(t, p + i, (size_t)len), .at = (uint32_t)i, .len = (uint32_t)len };
            i += (size_t)len;
        }
    }
    if (k <= FEW) return merge_few(t, ctx, p, y, k, out);
    return merge_many(t, s, ctx, p, k, out);
}

/* ---- cache ---- */
static inline uint64_t mix(uint64_t lo, uint64_t hi) {
    __uint128_t m = (__uint128_t)(lo ^ 0x2d358dccaa6c78a5u) * (hi ^ 0x8bb84b93962eacc9u);
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* Eight times the room, empty; without memory the old one stays. */
static void grow_words(lm_tok_scratch *s) {
    uint32_t n = 8 * s->n_sets;
    lm_word_slot *w = lm_calloc(s->ctx, LM_MEM_TOK, 2 * (size_t)n, sizeof *w);
    s->n_word = 0;
    if (!w) return;
    lm_free(s->ctx, s->word);
    s->word = w;
    s->n_sets = n;
}
static void grow_longer(lm_tok_scratch *s) {
    uint32_t n = 8 * s->n_slots;
    lm_long_slot *w = lm_calloc(s->ctx, LM_MEM_TOK, n, sizeof *w);
    s->n_longer = 0;
    if (!w) return;
    lm_free(s->ctx, s->longer);
    s->longer = w;
    s->n_slots = n;
}

static lm_err long_word(const lm_tok *t, lm_tok_scratch *s, lm_ctx *ctx, const uint8_t *p, size_t n, lm_tok_buf *out) {
    LM_TRY(lm_tok_room(out, n));
    if (n > LM_LONG_BYTES) return fresh(t, s, ctx, p, n, out);
    uint64_t h = lm_hash64(p, n, 0);
    lm_long_slot *w = &s->longer[h & (s->n_slots - 1)];
    if (w->n && w->hash == h && w->len == n && !memcmp(w->byte, p, n)) {
        memcpy(out->id + out->n, w->id, w->n * sizeof *w->id);
        out->n += w->n;
        return LM_OK;
    }
    size_t was = out->n;
    LM_TRY(fresh(t, s, ctx, p, n, out));
    size_t got = out->n - was;
    if (got && got <= LM_LONG_IDS) {
        if (++s->n_longer > s->n_slots && s->n_slots < LM_LONG_SLOTS) { grow_longer(s); w = &s->longer[h & (s->n_slots - 1)]; }
        w->hash = h;
        w->len = (uint16_t)n;
        w->n = (uint16_t)got;
        memcpy(w->byte, p, n);
        memcpy(w->id, out->id + was, got * sizeof *w->id);
    }
    return LM_OK;
}

lm_err lm_tok_word(const lm_tok *t, lm_tok_scratch *s, lm_ctx *ctx, const uint8_t *p, size_t n, size_t readable, lm_tok_buf *out) {
    if (n > 15) return long_word(t, s, ctx, p, n, out);
    uint64_t lo, hi;
    if (readable >= 16) {
        memcpy(&lo, p, 8);
        memcpy(&hi, p + 8, 8);
        if (n < 8) { lo &= n ? UINT64_MAX >> (64 - 8 * n) : 0; hi = 0; }
        else hi &= n > 8 ? UINT64_MAX >> (128 - 8 * n) : 0;
    } else {
        uint8_t b[16] = { 0 };
        memcpy(b, p, n);
        memcpy(&lo, b, 8);
        memcpy(&hi, b + 8, 8);
    }
    hi |= (uint64_t)n << 56;
    uint64_t h = mix(lo, hi);
    lm_word_slot *w = &s->word[2 * (h & (s->n_sets - 1))];
    if (w[0].lo == lo && w[0].hi == hi && w[0].n) {}
    else if (w[1].lo == lo && w[1].hi == hi && w[1].n) {
        lm_word_slot x = w[0];
        w[0] = w[1];
        w[1] = x;
    } else {
        LM_TRY(lm_tok_room(out, 16));
        size_t was = out->n;
        LM_TRY(fresh(t, s, ctx, p, n, out));
        size_t got = out->n - was;
        if (got && got <= 3) {
            if (++s->n_word > s->n_sets && s->n_sets < LM_WORD_SETS) { grow_words(s); w = &s->word[2 * (h & (s->n_sets - 1))]; }
            w[1] = w[0];
            w[0] = (lm_word_slot){ .lo = lo, .hi = hi, .n = (uint32_t)got };
            memcpy(w[0].id, out->id + was, got * sizeof(int32_t));
        }
        return LM_OK;
    }
    if (out->cap - out->n < 3) LM_TRY(lm_tok_room(out, 3));
    memcpy(out->id + out->n, w[0].id, sizeof w[0].id);
    out->n += w[0].n;
    return LM_OK;
}
