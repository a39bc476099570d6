/* build.c — what loaders fill: tokens, added tokens, merges, and the maps from strings to ids. */
#include "tok/tok_int.h"
#include <stdio.h>

lm_err lm_tok_grow(lm_ctx *ctx, void **p, int64_t need, int64_t *cap, size_t size) {
    if (need <= *cap) return LM_OK;
    int64_t c = *cap < 16 ? 16 : *cap;
    while (c < need)
        if (__builtin_mul_overflow(c, 2, &c)) return lm_fail(ctx, LM_E_NOMEM, "out of memory: %lld items", (long long)need);
    size_t bytes;
    if (!lm_mul_ok((size_t)c, size, &bytes)) return lm_fail(ctx, LM_E_NOMEM, "out of memory: %lld items", (long long)need);
    void *q = lm_realloc(ctx, LM_MEM_TOK, *p, bytes);
    if (!q) return lm_fail(ctx, LM_E_NOMEM, "out of memory: %zu bytes for a tokenizer", bytes);
    *p = q;
    *cap = c;
    return LM_OK;
}

lm_err lm_tok_new(lm_ctx *ctx, const char *name, lm_tok **out) {
    lm_tok *t = lm_calloc(ctx, LM_MEM_TOK, 1, sizeof *t);
    if (!t) return LM_E_NOMEM;
    t->ctx = ctx;
    t->blob.ctx = ctx;
    t->bos = t->unk = t->pad = -1;
    for (int i = 0; i < 256; i++) t->byte_id[i] = -1;
    t->locked_ok = !pthread_mutex_init(&t->lock, NULL);
    t->name = lm_strdup(ctx, LM_MEM_TOK, name);
    if (!t->name || !t->locked_ok) { lm_tok_free(t); return LM_E_NOMEM; }
    *out = t;
    return LM_OK;
}

static void trie_free(lm_ctx *ctx, lm_tok_trie *x) { lm_free(ctx, x->node); }

void lm_tok_free(lm_tok *t) {
    if (!t) return;
    while (t->idle) {
        lm_tok_scratch *s = t->idle;
        t->idle = s->next;
        lm_tok_scratch_free(s);
    }
    if (t->locked_ok) pthread_mutex_destroy(&t->lock);
    lm_ctx *c = t->ctx;
    lm_tok_pipeline_free(t);
    trie_free(c, &t->plain);
    trie_free(c, &t->normalized);
    void *own[] = { t->name,      t->tok,      t->by_text.slot, t->by_key.slot, t->merge,  t->table,  t->added,
                    t->json_norm, t->json_pre, t->json_post,    t->json_dec,    t->prefix, t->suffix, t->chat, t->wp_prefix };
    for (int i = 0; i < LM_COUNT(own); i++) lm_free(c, own[i]);
    lm_str_free(&t->blob);
    lm_free(c, t);
}

/* An id with its neighbours made (as LM_TOK_NONE). */
static lm_err reach(lm_tok *t, int64_t id) {
    int64_t cap = t->cap;
    LM_TRY(lm_tok_grow(t->ctx, (void **)&t->tok, id + 1, &cap, sizeof *t->tok));
    t->cap = (int32_t)cap;
    if (id >= t->n_all) {
        memset(t->tok + t->n_all, 0, (size_t)(id + 1 - t->n_all) * sizeof *t->tok);
        t->n_all = t->n_vocab = (int32_t)id + 1;
    }
    return LM_OK;
}

lm_err lm_tok_put(lm_tok *t, int64_t id, const char *text, size_t n, lm_tok_type type, bool model) {
    if (id < 0 || id >= LM_TOK_MAX_VOCAB)
        return lm_fail(t->ctx, LM_E_FORMAT, "%s: token \"%.*s\" has id %lld; wanted 0 to %d",
            t->name, (int)lm_min64((int64_t)n, 60), text, (long long)id, LM_TOK_MAX_VOCAB - 1);
    if (n > LM_TOK_MAX_PIECE)
        return lm_fail(t->ctx, LM_E_FORMAT, "%s: token %lld has %zu bytes, the limit is %d", t->name, (long long)id, n, LM_TOK_MAX_PIECE);
    LM_TRY(reach(t, id));
    lm_tok_one *o = &t->tok[id];
    if (o->type != LM_TOK_NONE) {
        size_t k;
        const char *s = lm_tok_text_of(t, (int32_t)id, &k);
        return lm_fail(t->ctx, LM_E_FORMAT, "%s: id %lld belongs to two tokens, \"%.*s\" and \"%.*s\"",
            t->name, (long long)id, (int)lm_min64((int64_t)k, 60), s,
                       (int)lm_min64((int64_t)n, 60), text);
    }
    if (t->blob.n + n > UINT32_MAX / 2) return lm_fail(t->ctx, LM_E_FORMAT, "%s: more than 2 GiB of tokens", t->name);
    uint32_t at = (uint32_t)t->blob.n;
    lm_str_add(&t->blob, text, n);
    LM_TRY(lm_str_err(&t->blob));
    *o = (lm_tok_one){ .text = at, .text_n = (uint32_t)n, .type = (uint8_t)type, .model = model };
    return LM_OK;
}

lm_err lm_tok_put_added(lm_tok *t, int64_t id, const char *text, size_t n, uint32_t flags) {
    if (!n) return LM_OK;                                  /* as the reference does: an empty one can never match */
    if (n > 4096) return lm_fail(t->ctx, LM_E_FORMAT, "%s: added token %lld has %zu bytes, the limit is 4096", t->name, (long long)id, n);
    lm_tok_type type = flags & LM_ADDED_SPECIAL ? LM_TOK_CONTROL : LM_TOK_ADDED;
    if (id < 0 || id >= t->n_all || t->tok[id].type == LM_TOK_NONE) LM_TRY(lm_tok_put(t, id, text, n, type, false));
    else {
        size_t k;
        const char *s = lm_tok_text_of(t, (int32_t)id, &k);
        if (k != n || memcmp(s, text, n))
            return lm_fail(t->ctx, LM_E_FORMAT, "%s: added token \"%.*s\" has the id %lld of \"%.*s\"",
                t->name, (int)lm_min64((int64_t)n, 60), text, (long long)id,
                           (int)lm_min64((int64_t)k, 60), s);
        if (t->tok[id].type != LM_TOK_UNKNOWN) t->tok[id].type = (uint8_t)type;
    }
    if (t->tok[id].added) { t->added[t->tok[id].added - 1].flags = flags; return LM_OK; }
    int64_t cap = t->cap_added;
    LM_TRY(lm_tok_grow(t->ctx, (void **)&t->added, (int64_t)t->n_added + 1, &cap, sizeof *t->added));
    t->cap_added = (int32_t)cap;
    t->added[t->n_added++] = (lm_tok_added){ (int32_t)id, flags };
    t->tok[id].added = t->n_added;
    return LM_OK;
}

lm_err lm_tok_put_merge(lm_tok *t, int32_t left, int32_t right, int32_t id, uint32_t rank) {
    int64_t cap = (int64_t)t->cap_merge;
    LM_TRY(lm_tok_grow(t->ctx, (void **)&t->merge, (int64_t)t->n_merge + 1, &cap, sizeof *t->merge));
    t->cap_merge = (size_t)cap;
    t->merge[t->n_merge++] = (lm_tok_merge){ left, right, id, rank };
    return LM_OK;
}

lm_err lm_tok_put_merge_text(lm_tok *t, const char *l, size_t ln, const char *r, size_t rn, uint32_t rank, size_t index) {
    int32_t a = lm_tok_find_text(t, l, ln), b = lm_tok_find_text(t, r, rn), c = -1;
    if (a >= 0 && b >= 0) {                                /* both lengths are a token's, so at most LM_TOK_MAX_PIECE */
        char few[512], *both = ln + rn <= sizeof few ? few : lm_alloc(t->ctx, LM_MEM_TOK, ln + rn);
        if (!both) return LM_E_NOMEM;
        memcpy(both, l, ln);
        memcpy(both + ln, r, rn);
        c = lm_tok_find_text(t, both, ln + rn);
        if (both != few) lm_free(t->ctx, both);
    }
    if (c < 0 || !ln || !rn)
        return lm_fail(t->ctx, LM_E_FORMAT, "%s: merge %zu (\"%.*s\" + \"%.*s\"): %s not in the vocabulary",
            t->name, index, (int)lm_min64((int64_t)ln, 60), l,
                       (int)lm_min64((int64_t)rn, 60), r, a < 0 ? "the left part is" : b < 0 ? "the right part is" : "the result is");
    return lm_tok_put_merge(t, a, b, c, rank);
}

static lm_err set(lm_tok *t, char **to, const char *s) {
    char *c = lm_strdup(t->ctx, LM_MEM_TOK, s ? s : "null");
    if (!c) return LM_E_NOMEM;
    lm_free(t->ctx, *to);
    *to = c;
    return LM_OK;
}
lm_err lm_tok_set_pipeline(lm_tok *t, const char *norm, const char *pre, const char *post, const char *dec) {
    LM_TRY(set(t, &t->json_norm, norm));
    LM_TRY(set(t, &t->json_pre, pre));
    LM_TRY(set(t, &t->json_post, post));
    return set(t, &t->json_dec, dec);
}
lm_err lm_tok_set_chat(lm_tok *t, const char *s, size_t n) {
    if (memchr(s, 0, n)) return lm_fail(t->ctx, LM_E_FORMAT, "%s: the chat template has a NUL character", t->name);
    char *c = lm_alloc(t->ctx, LM_MEM_TOK, n + 1);
    if (!c) return LM_E_NOMEM;
    memcpy(c, s, n);
    c[n] = 0;
    lm_free(t->ctx, t->chat);
    t->chat = c;
    return LM_OK;
}
lm_err lm_tok_add_eos(lm_tok *t, int32_t id) {
    for (int i = 0; i < t->n_eos; i++)
        if (t->eos[i] == id) return LM_OK;
    if (t->n_eos == LM_COUNT(t->eos)) return lm_fail(t->ctx, LM_E_FORMAT, "%s: more than %d end tokens", t->name, LM_COUNT(t->eos));
    t->eos[t->n_eos++] = id;
    return LM_OK;
}

/* ---- maps ---- */
const char *lm_tok_text_of(const lm_tok *t, int32_t id, size_t *n) {
    *n = t->tok[id].text_n;
    return t->blob.p ? t->blob.p + t->tok[id].text : "";
}
const char *lm_tok_key_of(const lm_tok *t, int32_t id, size_t *n) {
    const lm_tok_one *o = &t->tok[id];
    if (!t->byte_level) return lm_tok_text_of(t, id, n);
    *n = o->piece_n;
    return t->blob.p ? t->blob.p + o->piece : "";
}

typedef const char *str_of(const lm_tok *t, int32_t id, size_t *n);

static int32_t find(const lm_tok *t, const lm_tok_map *m, str_of *of, const void *s, size_t n) {
    if (!m->slot) return -1;
    for (uint32_t i = (uint32_t)lm_hash64(s, n, 0) & m->mask;; i = (i + 1) & m->mask) {
        int32_t id = m->slot[i];
        if (id < 0) return -1;
        size_t k;
        const char *x = of(t, id, &k);
        if (k == n && !memcmp(x, s, n)) return id;
    }
}
int32_t lm_tok_find_text(const lm_tok *t, const void *s, size_t n) { return find(t, &t->by_text, lm_tok_text_of, s, n); }
int32_t lm_tok_find_key(const lm_tok *t, const void *s, size_t n) { return find(t, &t->by_key, lm_tok_key_of, s, n); }

static lm_err make(lm_tok *t, lm_tok_map *m, str_of *of, bool model_only, bool unique) {
    uint64_t size = 64;
    while (size < 2 * (uint64_t)t->n_all) size *= 2;
    int32_t *slot = lm_alloc(t->ctx, LM_MEM_TOK, size * sizeof *slot);
    if (!slot) return LM_E_NOMEM;
    memset(slot, 0xff, size * sizeof *slot);
    lm_free(t->ctx, m->slot);
    *m = (lm_tok_map){ slot, (uint32_t)(size - 1) };
    for (int32_t id = 0; id < t->n_all; id++) {
        const lm_tok_one *o = &t->tok[id];
        if (o->type == LM_TOK_NONE || (model_only && !o->model)) continue;
        size_t n;
        const char *s = of(t, id, &n);
        int32_t other = find(t, m, of, s, n);
        if (other >= 0) {
            if (!unique) continue;
            return lm_fail(t->ctx, LM_E_FORMAT, "%s: token \"%.*s\" has two ids, %d and %d", t->name, (int)lm_min64((int64_t)n, 60), s, other, id);
        }
        uint32_t i = (uint32_t)lm_hash64(s, n, 0) & m->mask;
        while (slot[i] >= 0) i = (i + 1) & m->mask;
        slot[i] = id;
    }
    return LM_OK;
}
lm_err lm_tok_index_text(lm_tok *t) { return make(t, &t->by_text, lm_tok_text_of, false, true); }
lm_err lm_tok_index_key(lm_tok *t) { return make(t, &t->by_key, lm_tok_key_of, true, false); }

int lm_tok_byte_token(const char *s, size_t n) {
    if (n != 6 || memcmp(s, "<0x", 3) || s[5] != '>') return -1;
    int v = 0;
    for (int i = 3; i < 5; i++) {
        char c = s[i];
        int d = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;     /* as HF and sentencepiece write them: capitals */
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}

/* ---- questions ---- */
static bool has(const lm_tok *t, int32_t id) { return id >= 0 && id < t->n_vocab && t->tok[id].type != LM_TOK_NONE; }
int32_t lm_tok_vocab(const lm_tok *t) { return t->n_vocab; }
lm_tok_type lm_tok_type_of(const lm_tok *t, int32_t id) { return has(t, id) ? (lm_tok_type)t->tok[id].type : LM_TOK_NONE; }
const char *lm_tok_piece(const lm_tok *t, int32_t id, size_t *n) {
    if (!has(t, id)) return NULL;
    *n = t->tok[id].piece_n;
    return t->blob.p + t->tok[id].piece;
}
const char *lm_tok_spelling(const lm_tok *t, int32_t id, size_t *n) { return has(t, id) ? lm_tok_text_of(t, id, n) : NULL; }
int32_t lm_tok_id(const lm_tok *t, const char *s, size_t n) {
    int32_t id = lm_tok_find_text(t, s, n);
    return id < t->n_vocab ? id : -1;
}
int32_t lm_tok_bos(const lm_tok *t) { return t->bos; }
int32_t lm_tok_pad(const lm_tok *t) { return t->pad; }
int32_t lm_tok_unk(const lm_tok *t) { return t->unk; }
const int32_t *lm_tok_eos(const lm_tok *t, int *n) { *n = t->n_eos; return t->eos; }
bool lm_tok_is_eos(const lm_tok *t, int32_t id) {
    for (int i = 0; i < t->n_eos; i++)
        if (t->eos[i] == id) return true;
    return false;
}
bool lm_tok_adds_bos(const lm_tok *t) { return t->bos >= 0 && t->n_prefix && t->prefix[0] == t->bos; }
const char *lm_tok_template(const lm_tok *t) { return t->chat; }
const char *lm_tok_kind(const lm_tok *t) { return t->wp_prefix ? "WordPiece" : t->byte_level ? "byte-level BPE" : t->spm ? "SentencePiece BPE" : "character BPE"; }
lm_hash128_t lm_tok_hash(const lm_tok *t) { return t->hash; }
void lm_tok_buf_free(lm_tok_buf *b) {
    lm_free(b->ctx, b->id);
    *b = (lm_tok_buf){ .ctx = b->ctx };
}
lm_err lm_tok_room(lm_tok_buf *b, size_t more) {
    if (more <= b->cap - b->n) return LM_OK;
    int64_t cap = (int64_t)b->cap;
    LM_TRY(lm_tok_grow(b->ctx, (void **)&b->id, (int64_t)(b->n + more), &cap, sizeof *b->id));
    b->cap = (size_t)cap;
    return LM_OK;
}
