/* train.c — byte-pair encoding (Gage 1994; Sennrich et al. 2016): merge the most frequent pair, again and again.
 *
 * Words are arrays of ids with a count. Each pair has its count and a list of the words it was seen in; merging a pair visits those words only and
 * changes the counts of the neighbours. A heap holds (count, pair), lazily: counts only fall once a pair is known, so an entry that is too
 * high is pushed back with its true count. Ties go to the smaller left id, then the smaller right id, as in Hugging Face's trainer, so both learn
 * the same merges. */
#include "format/cursor.h"
#include "tok/train.h"

/* key = left << 32 | right; count -1: empty slot; head: chunk + 1; fill: words in it; merge: the last merge that made it */
typedef struct { uint64_t key; int64_t count; uint32_t head, fill, merge; } pair;
typedef struct { uint32_t word[7], next; } chunk;
typedef struct { int64_t count; uint64_t key; } cand;
typedef struct { size_t at; uint32_t n; int64_t count; } word;
typedef struct {
    lm_ctx *ctx;
    lm_tok *tok;
    word *w; int64_t n_w;
    int32_t *sym;
    pair *p; uint64_t n_p, mask;
    chunk *c; int64_t n_c, cap_c; uint32_t free_c;
    cand *h; int64_t n_h, cap_h;
    uint64_t *fresh; int64_t n_fresh, cap_fresh;           /* pairs made by the merge under way */
    int32_t *by_text; uint64_t text_mask;                  /* token text -> id, to notice a text that exists */
} merger;

/* ---- pairs ---- */
static lm_err pairs_grow(merger *m) {
    uint64_t size = m->p ? 2 * (m->mask + 1) : 1 << 16;
    pair *p = lm_alloc(m->ctx, LM_MEM_TOK, size * sizeof *p);
    if (!p) return LM_E_NOMEM;
    for (uint64_t i = 0; i < size; i++) p[i] = (pair){ .count = -1 };
    for (uint64_t i = 0; m->p && i <= m->mask; i++) {
        if (m->p[i].count < 0) continue;
        uint64_t k = lm_pair_hash(m->p[i].key) & (size - 1);
        while (p[k].count >= 0) k = (k + 1) & (size - 1);
        p[k] = m->p[i];
    }
    lm_free(m->ctx, m->p);
    m->p = p;
    m->mask = size - 1;
    return LM_OK;
}
static pair *pair_find(const merger *m, uint64_t key) {
    for (uint64_t i = lm_pair_hash(key) & m->mask;; i = (i + 1) & m->mask)
        if (m->p[i].count < 0 || m->p[i].key == key) return &m->p[i];
}
static lm_err pair_get(merger *m, uint64_t key, pair **out) {
    if (!m->p || 2 * m->n_p > m->mask) LM_TRY(pairs_grow(m));
    pair *p = pair_find(m, key);
    if (p->count < 0) { *p = (pair){ .key = key }; m->n_p++; }
    *out = p;
    return LM_OK;
}

static lm_err seen_in(merger *m, pair *p, uint32_t w) {
    if (p->head && m->c[p->head - 1].word[p->fill - 1] == w) return LM_OK;
    if (!p->head || p->fill == LM_COUNT(m->c->word)) {
        uint32_t k;
        if (m->free_c) { k = m->free_c - 1; m->free_c = m->c[k].next; }
        else {
            if (m->n_c >= UINT32_MAX - 1) return lm_fail(m->ctx, LM_E_RANGE, "too many different words to train on");
            LM_TRY(lm_tok_grow(m->ctx, (void **)&m->c, m->n_c + 1, &m->cap_c, sizeof *m->c));
            k = (uint32_t)m->n_c++;
        }
        m->c[k].next = p->head;
        p->head = k + 1;
        p->fill = 0;
    }
    m->c[p->head - 1].word[p->fill++] = w;
    return LM_OK;
}

/* ---- heap ---- */
static bool before(const cand *a, const cand *b) { return a->count != b->count ? a->count > b->count : a->key < b->key; }
static lm_err heap_push(merger *m, uint64_t key, int64_t count) {
    LM_TRY(lm_tok_grow(m->ctx, (void **)&m->h, m->n_h + 1, &m->cap_h, sizeof *m->h));
    cand x = { count, key };
    int64_t i = m->n_h++;
    for (; i && before(&x, &m->h[(i - 1) / 4]); i = (i - 1) / 4) m->h[i] = m->h[(i - 1) / 4];
    m->h[i] = x;
    return LM_OK;
}
static cand heap_pop(merger *m) {
    cand top = m->h[0], x = m->h[--m->n_h];
    int64_t i = 0, n = m->n_h;
    for (int64_t c; (c = 4 * i + 1) < n; ) {
        int64_t best = c;
        for (int64_t k = c + 1; k < c + 4 && k < n; k++)
            if (before(&m->h[k], &m->h[best])) best = k;
        if (!before(&m->h[best], &x)) break;
        m->h[i] = m->h[best];
        i = best;
    }
    if (n) m->h[i] = x;
    return top;
}

/* ---- merging one pair in one word ---- */
static lm_err change(merger *m, int32_t a, int32_t b, int64_t by, uint32_t w) {
    pair *p;
    LM_TRY(pair_get(m, (uint64_t)(uint32_t)a << 32 | (uint32_t)b, &p));
    p->count += by;
    if (p->count < 0) p->count = 0;                        /* only the pair being merged can fall too far, by overlapping with itself (aaa) */
    if (by < 0) return LM_OK;
    LM_TRY(seen_in(m, p, w));
    if (p->merge == (uint32_t)m->tok->n_merge) return LM_OK;
    p->merge = (uint32_t)m->tok->n_merge;
    LM_TRY(lm_tok_grow(m->ctx, (void **)&m->fresh, m->n_fresh + 1, &m->cap_fresh, sizeof *m->fresh));
    m->fresh[m->n_fresh++] = p->key;
    return LM_OK;
}

static lm_err merge_in(merger *m, uint32_t wi, int32_t a, int32_t b, int32_t id) {
    word *w = &m->w[wi];
    int32_t *s = m->sym + w->at;
    uint32_t n = w->n, o = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (s[i] != a || i + 1 >= n || s[i + 1] != b) { s[o++] = s[i]; continue; }
        if (o) {
            LM_TRY(change(m, s[o - 1], a, -w->count, wi));
            LM_TRY(change(m, s[o - 1], id, w->count, wi));
        }
        if (i + 2 < n) {
            LM_TRY(change(m, b, s[i + 2], -w->count, wi));
            LM_TRY(change(m, id, s[i + 2], w->count, wi));
        }
        s[o++] = id;
        i++;
    }
    w->n = o;
    return LM_OK;
}

/* ---- token texts ---- */
static int32_t text_find(const merger *m, const char *s, size_t n, uint64_t *at) {
    for (uint64_t i = lm_hash64(s, n, 0) & m->text_mask;; i = (i + 1) & m->text_mask) {
        size_t k;
        *at = i;
        if (m->by_text[i] < 0) return -1;
        const char *x = lm_tok_text_of(m->tok, m->by_text[i], &k);
        if (k == n && !memcmp(x, s, n)) return m->by_text[i];
    }
}
/* The id of a text, made if it is new. */
static lm_err text_id(merger *m, const char *s, size_t n, int32_t *id) {
    uint64_t at;
    *id = text_find(m, s, n, &at);
    if (*id >= 0) { m->tok->tok[*id].model = true; return LM_OK; }
    *id = m->tok->n_vocab;
    LM_TRY(lm_tok_put(m->tok, *id, s, n, LM_TOK_NORMAL, true));
    m->by_text[at] = *id;
    return LM_OK;
}

/* ---- the stages ---- */
static lm_err alphabet(merger *m, int32_t byte_id[256]) {
    uint8_t order[256];
    int k = 0;
    for (uint32_t c = 0; c < 0x100 + 68; c++)              /* ids in the order of the alphabet's characters, as GPT-2 has them */
        if (lm_char_byte(c) >= 0) order[k++] = (uint8_t)lm_char_byte(c);
    lm_str s = { .ctx = m->ctx };
    lm_err err = LM_OK;
    for (int i = 0; i < 256 && !err; i++) {
        lm_str_clear(&s);
        lm_bytes_to_text(&order[i], 1, &s);
        err = lm_str_err(&s);
        if (!err) err = text_id(m, s.p, s.n, &byte_id[order[i]]);
    }
    lm_str_free(&s);
    return err;
}

/* All tables into one, then words as ids. */
static lm_err gather(merger *m, lm_tok_trainer *t, const int32_t byte_id[256]) {
    lm_count_table *all = &t->table[0];
    for (int i = 1; i < t->n_table; i++) {
        lm_count_table *c = &t->table[i];
        for (uint64_t k = 0; c->w && k <= c->mask; k++)
            if (c->w[k].count) LM_TRY(lm_count_add(m->ctx, all, (const uint8_t *)c->blob.p + c->w[k].at, c->w[k].n, c->w[k].count));
        lm_count_free(m->ctx, c);
    }
    if (all->n >= UINT32_MAX) return lm_fail(m->ctx, LM_E_RANGE, "too many different words to train on");
    m->w = lm_alloc(m->ctx, LM_MEM_TOK, (all->n + 1) * sizeof *m->w);
    m->sym = m->w ? lm_alloc(m->ctx, LM_MEM_TOK, (all->blob.n + 1) * sizeof *m->sym) : NULL;
    if (!m->sym) return LM_E_NOMEM;
    size_t at = 0;
    for (uint64_t k = 0; all->w && k <= all->mask; k++) {
        const lm_count_word *x = &all->w[k];
        if (!x->count) continue;
        m->w[m->n_w++] = (word){ at, x->n, x->count };
        for (uint32_t i = 0; i < x->n; i++) m->sym[at++] = byte_id[(uint8_t)all->blob.p[x->at + i]];
    }
    lm_count_free(m->ctx, all);
    return LM_OK;
}

static lm_err first_pairs(merger *m) {
    LM_TRY(pairs_grow(m));
    for (int64_t i = 0; i < m->n_w; i++)
        for (uint32_t k = 0; k + 1 < m->w[i].n; k++) {
            const int32_t *s = m->sym + m->w[i].at + k;
            pair *p;
            LM_TRY(pair_get(m, (uint64_t)(uint32_t)s[0] << 32 | (uint32_t)s[1], &p));
            p->count += m->w[i].count;
            LM_TRY(seen_in(m, p, (uint32_t)i));
        }
    for (uint64_t i = 0; i <= m->mask; i++)
        if (m->p[i].count > 0) LM_TRY(heap_push(m, m->p[i].key, m->p[i].count));
    return LM_OK;
}

static lm_err merge_pair(merger *m, uint64_t key) {
    int32_t a = (int32_t)(key >> 32), b = (int32_t)(uint32_t)key, id;
    lm_str s = { .ctx = m->ctx };
    size_t n;
    const char *x = lm_tok_text_of(m->tok, a, &n);
    lm_str_add(&s, x, n);
    x = lm_tok_text_of(m->tok, b, &n);
    lm_str_add(&s, x, n);
    lm_err err = lm_str_err(&s);
    if (!err) err = text_id(m, s.p, s.n, &id);
    lm_str_free(&s);
    LM_TRY(err);
    LM_TRY(lm_tok_put_merge(m->tok, a, b, id, (uint32_t)m->tok->n_merge));
    pair *p = pair_find(m, key);
    uint32_t c = p->head, fill = p->fill;
    p->head = p->fill = 0;
    m->n_fresh = 0;
    while (c) {
        for (uint32_t i = 0; i < fill; i++) LM_TRY(merge_in(m, m->c[c - 1].word[i], a, b, id));
        uint32_t next = m->c[c - 1].next;
        m->c[c - 1].next = m->free_c;
        m->free_c = c;
        c = next;
        fill = LM_COUNT(m->c->word);
    }
    pair_find(m, key)->count = 0;                          /* the table may have grown meanwhile */
    for (int64_t i = 0; i < m->n_fresh; i++) {
        p = pair_find(m, m->fresh[i]);
        if (p->count > 0) LM_TRY(heap_push(m, p->key, p->count));
    }
    return LM_OK;
}

static lm_err merges(merger *m, const lm_tok_trainer *t) {
    int64_t min = t->opts.min_count > 1 ? t->opts.min_count : 1;
    while (m->tok->n_vocab < t->opts.vocab && m->n_h) {
        cand top = heap_pop(m);
        int64_t now = pair_find(m, top.key)->count;
        if (now != top.count) {
            if (now > 0) LM_TRY(heap_push(m, top.key, now));
            continue;
        }
        if (top.count < min) break;
        LM_TRY(merge_pair(m, top.key));
        if (t->opts.progress && m->tok->n_vocab % 64 == 0 && !t->opts.progress(t->opts.ud, "merge", m->tok->n_vocab, t->opts.vocab))
            return lm_fail(m->ctx, LM_E_CANCELLED, "tokenizer training was stopped");
    }
    return LM_OK;
}

lm_err lm_tok_trainer_finish(lm_tok_trainer *t, lm_tok **out) {
    if (t->finished) return lm_fail(t->ctx, LM_E_CONFIG, "this trainer has finished");
    t->finished = true;
    merger m = { .ctx = t->ctx, .tok = t->tok };
    int32_t byte_id[256];
    uint64_t size = 1024;
    while (size < 2 * (uint64_t)t->opts.vocab) size *= 2;
    lm_err err = LM_E_NOMEM;
    m.by_text = lm_alloc(t->ctx, LM_MEM_TOK, size * sizeof *m.by_text);
    if (!m.by_text) goto done;
    m.text_mask = size - 1;
    memset(m.by_text, 0xff, size * sizeof *m.by_text);
    for (int32_t id = 0; id < t->tok->n_vocab; id++) {
        size_t n;
        uint64_t at;
        const char *s = lm_tok_text_of(t->tok, id, &n);
        if (text_find(&m, s, n, &at) < 0) m.by_text[at] = id;
    }
    LM_GOTO(alphabet(&m, byte_id), done);
    LM_GOTO(gather(&m, t, byte_id), done);
    LM_GOTO(first_pairs(&m), done);
    LM_GOTO(merges(&m, t), done);
    lm_tok_pipeline_free(t->tok);                          /* finish compiles it again, with the vocabulary there */
    LM_GOTO(lm_tok_finish(t->tok, NULL, false), done);
    *out = t->tok;
    t->tok = NULL;
done:;
    void *own[] = { m.by_text, m.w, m.sym, m.p, m.c, m.h, m.fresh };
    for (int i = 0; i < LM_COUNT(own); i++) lm_free(t->ctx, own[i]);
    return err;
}

/* ---- beginning and end ---- */
static lm_err special_id(lm_tok *t, const char *what, const char *name, int32_t *id) {
    *id = -1;
    if (!name) return LM_OK;
    for (int32_t i = 0; i < t->n_vocab; i++) {
        size_t n;
        const char *s = lm_tok_text_of(t, i, &n);
        if (n == strlen(name) && !memcmp(s, name, n)) { *id = i; return LM_OK; }
    }
    return lm_fail(t->ctx, LM_E_CONFIG, "tokenizer training: %s \"%.60s\" is not one of the special tokens", what, name);
}

static lm_err prepare(lm_tok_trainer *tr, const lm_tok_train_opts *o) {
    static const char *const usual[] = { "<|endoftext|>" };
    const char *const *special = o->special ? o->special : usual;
    int n = o->special ? o->n_special : 1;
    lm_tok *t = tr->tok;
    if (o->vocab < n + 256 || o->vocab > LM_TOK_MAX_VOCAB)
        return lm_fail(t->ctx, LM_E_CONFIG, "tokenizer training: a vocabulary of %lld; wanted %d (special tokens and bytes) to %d",
            (long long)o->vocab, n + 256, LM_TOK_MAX_VOCAB);
    for (int i = 0; i < n; i++) {
        int32_t id;
        if (!special[i] || !*special[i] || !lm_utf8_ok(special[i], strlen(special[i])))
            return lm_fail(t->ctx, LM_E_CONFIG, "tokenizer training: special token %d is empty or not UTF-8", i);
        for (id = 0; id < t->n_vocab; id++) {
            size_t k;
            const char *s = lm_tok_text_of(t, id, &k);
            if (k == strlen(special[i]) && !memcmp(s, special[i], k))
                return lm_fail(t->ctx, LM_E_CONFIG, "tokenizer training: special token \"%.60s\" is given twice", special[i]);
        }
        LM_TRY(lm_tok_put(t, i, special[i], strlen(special[i]), LM_TOK_NORMAL, true));
        LM_TRY(lm_tok_put_added(t, i, special[i], strlen(special[i]), LM_ADDED_SPECIAL));
    }
    int32_t eos;
    LM_TRY(special_id(t, "bos", o->bos, &t->bos));
    LM_TRY(special_id(t, "pad", o->pad, &t->pad));
    LM_TRY(special_id(t, "eos", o->eos ? o->eos : n ? special[0] : NULL, &eos));
    if (eos >= 0) LM_TRY(lm_tok_add_eos(t, eos));
    if (o->add_bos && t->bos < 0) return lm_fail(t->ctx, LM_E_CONFIG, "tokenizer training: add_bos without bos");
    const lm_split_row *row = lm_split_by_name(o->pattern ? o->pattern : "gpt2");
    lm_split_row own = { "own", o->pattern, NULL };
    char *post;
    LM_TRY(lm_tok_post_template(t, o->add_bos ? t->bos : -1, -1, &post));
    lm_err err = lm_tok_byte_pipeline(t, row ? row : &own, false, post);
    lm_free(t->ctx, post);
    return err ? err : lm_tok_compile(t);
}

lm_err lm_tok_trainer_new(lm_ctx *ctx, const lm_tok_train_opts *opts, lm_tok_trainer **out) {
    lm_tok_trainer *t = lm_calloc(ctx, LM_MEM_TOK, 1, sizeof *t);
    if (!t) return LM_E_NOMEM;
    t->ctx = ctx;
    t->opts = *opts;
    t->n_table = lm_ctx_threads(ctx);
    lm_err err = LM_E_NOMEM;
    t->table = lm_calloc(ctx, LM_MEM_TOK, (size_t)t->n_table, sizeof *t->table);
    if (t->table) {
        for (int i = 0; i < t->n_table; i++) t->table[i].blob.ctx = ctx;
        err = lm_tok_new(ctx, "trained", &t->tok);
    }
    if (!err) err = prepare(t, opts);
    if (err) { lm_tok_trainer_free(t); return err; }
    *out = t;
    return LM_OK;
}

void lm_tok_trainer_free(lm_tok_trainer *t) {
    if (!t) return;
    for (int i = 0; t->table && i < t->n_table; i++) lm_count_free(t->ctx, &t->table[i]);
    lm_free(t->ctx, t->table);
    lm_tok_free(t->tok);
    lm_free(t->ctx, t);
}

lm_err lm_tok_train(lm_ctx *ctx, const lm_tok_train_opts *opts, const lm_tok_text *docs, size_t n, lm_tok **out) {
    lm_tok_trainer *t;
    LM_TRY(lm_tok_trainer_new(ctx, opts, &t));
    lm_err err = lm_tok_trainer_add(t, docs, n);
    if (!err) err = lm_tok_trainer_finish(t, out);
    lm_tok_trainer_free(t);
    return err;
}
