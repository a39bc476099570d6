/* shards.c — a folder of shards, or a text tokenized in memory, as one run of ids. */
#include "data/data_int.h"
#include "format/json.h"
#include <stdio.h>
#include <string.h>

#define MOST_TOKENS ((int64_t)1 << 60)

lm_err lm_data_file(lm_ctx *ctx, char **out, const char *dir, int number) {
    char name[32];
    snprintf(name, sizeof name, "%05d.shard", number);
    return lm_path_join(ctx, out, dir, name);
}

void lm_shards_close(lm_shards *s) {
    if (!s) return;
    for (int i = 0; i < s->n; i++) lm_file_close(s->seg[i].f);
    lm_free(s->ctx, s->seg);
    lm_free(s->ctx, s->ids);
    lm_free(s->ctx, s->doc);
    lm_arena_free(s->a);
    lm_free(s->ctx, s);
}
static lm_err shards_new(lm_shards **out, lm_ctx *ctx, int n) {
    lm_shards *s = lm_calloc(ctx, LM_MEM_DATA, 1, sizeof *s);
    if (!s) return LM_E_NOMEM;
    s->ctx = ctx;
    lm_err err = lm_arena_new(&s->a, ctx, LM_MEM_DATA, 4096);
    if (err) { lm_free(ctx, s); return err; }
    s->seg = lm_calloc(ctx, LM_MEM_DATA, (size_t)n + 1, sizeof *s->seg);
    if (!s->seg) { lm_shards_close(s); return LM_E_NOMEM; }
    *out = s;
    return LM_OK;
}

/* ---- a folder ----------------------------------------------------------------------------------------------------- */
typedef struct { int64_t tokens, docs, bytes; } sums;
static lm_err get_sums(const lm_jv *o, sums *s) {
    LM_TRY(lm_json_int(o, "tokens", LM_JSON_NEED, 0, 0, MOST_TOKENS, &s->tokens));
    LM_TRY(lm_json_int(o, "documents", LM_JSON_NEED, 0, 0, MOST_TOKENS, &s->docs));
    return lm_json_int(o, "bytes", LM_JSON_NEED, 0, 0, MOST_TOKENS, &s->bytes);
}
static lm_err get_hash(const lm_jv *o, const char *key, lm_hash128_t *h) {
    const char *hex;
    LM_TRY(lm_json_str(o, key, LM_JSON_NEED, NULL, &hex, NULL));
    return lm_hash_parse(hex, h) ? LM_OK : lm_json_fail(o, LM_E_FORMAT, "\"%s\" is not a hash of 32 hexadecimal digits", key);
}
static lm_err open_seg(lm_shards *s, const char *dir, const lm_jv *row) {
    lm_seg *g = &s->seg[s->n];
    const char *name;
    char *path;
    sums want;
    lm_hash128_t hash;
    LM_TRY(lm_json_str(row, "file", LM_JSON_NEED, NULL, &name, NULL));
    if (!*name || name[0] == '.' || strchr(name, '/'))
        return lm_json_fail(row, LM_E_FORMAT, "\"file\": wanted the name of a file in this folder, got \"%.80s\"", name);
    LM_TRY(get_sums(row, &want));
    LM_TRY(get_hash(row, "hash", &hash));
    LM_TRY(lm_path_join(s->ctx, &path, dir, name));
    g->name = lm_arena_strdup(s->a, path);
    lm_err err = g->name ? lm_file_open(&g->f, s->ctx, path) : LM_E_NOMEM;
    lm_free(s->ctx, path);
    if (err) return err;
    s->n++;                                /* from here on closing s closes it */
    LM_TRY(lm_file_map(g->f, &g->map, &g->map_n));
    LM_TRY(lm_shard_parse(s->ctx, g->name, g->map, g->map_n, &g->s));
    if (g->s.n_tokens != want.tokens || g->s.n_docs != want.docs || g->s.n_bytes != want.bytes || !lm_hash_same(g->s.hash, hash))
        return lm_fail(s->ctx, LM_E_MISMATCH,
                       "%s: is not the file that index.json lists (%lld tokens in %lld documents; the index says %lld in %lld)", g->name,
                       (long long)g->s.n_tokens, (long long)g->s.n_docs, (long long)want.tokens, (long long)want.docs);
    if (!lm_hash_same(g->s.tok, s->tok) || g->s.vocab != s->vocab)
        return lm_fail(s->ctx, LM_E_MISMATCH, "%s: was made with another tokenizer than index.json says", g->name);
    g->first = s->tokens;
    s->tokens += g->s.n_tokens;
    s->docs += g->s.n_docs;
    s->bytes += g->s.n_bytes;
    return s->tokens > MOST_TOKENS || s->bytes > MOST_TOKENS ? lm_fail(s->ctx, LM_E_RANGE, "%s: more tokens than fit", g->name) : LM_OK;
}
static lm_err from_index(lm_shards **out, lm_ctx *ctx, const char *dir, const lm_jv *root) {
    const char *format;
    int64_t version, vocab;
    sums want;
    lm_jv rows, tok;
    lm_shards *s = NULL;
    LM_TRY(lm_json_str(root, "format", LM_JSON_NEED, NULL, &format, NULL));
    if (strcmp(format, "loam shards")) return lm_json_fail(root, LM_E_FORMAT, "\"format\" is \"%.40s\", wanted \"loam shards\"", format);
    LM_TRY(lm_json_int(root, "version", LM_JSON_NEED, 0, LM_SHARD_VERSION, LM_SHARD_VERSION, &version));
    LM_TRY(lm_json_int(root, "vocab", LM_JSON_NEED, 0, 1, LM_TOK_MAX_VOCAB, &vocab));
    LM_TRY(lm_json_obj(root, "tokenizer", LM_JSON_NEED, &tok));
    LM_TRY(get_sums(root, &want));
    LM_TRY(lm_json_arr(root, "shards", LM_JSON_NEED, &rows));
    size_t n = lm_json_len(&rows);
    if (n > 1 << 20) return lm_json_fail(&rows, LM_E_RANGE, "%zu shards", n);
    LM_TRY(shards_new(&s, ctx, (int)n));
    s->vocab = (int32_t)vocab;
    lm_err err;
    LM_GOTO(get_hash(&tok, "hash", &s->tok), fail);
    for (size_t i = 0; i < n; i++) {
        lm_jv row;
        LM_GOTO(lm_json_item(&rows, i, &row), fail);
        LM_GOTO(open_seg(s, dir, &row), fail);
    }
    if (s->tokens != want.tokens || s->docs != want.docs || s->bytes != want.bytes) {
        err = lm_json_fail(root, LM_E_MISMATCH, "the shards hold %lld tokens in %lld documents, the totals say %lld in %lld",
                           (long long)s->tokens, (long long)s->docs, (long long)want.tokens, (long long)want.docs);
        goto fail;
    }
    *out = s;
    return LM_OK;
fail:
    lm_shards_close(s);
    return err;
}
lm_err lm_shards_open(lm_shards **out, lm_ctx *ctx, const char *dir) {
    char *path;
    json_t *v = NULL;
    LM_TRY(lm_path_join(ctx, &path, dir, "index.json"));
    lm_err err = lm_json_load(ctx, path, 0, &v);
    if (err == LM_E_NOTFOUND)
        err = lm_is_dir(dir) ? lm_fail(ctx, err,
                                       "%s: has no index.json: not a folder made by `loam data tokenize`, or one that was not finished "
                                       "(the same command again goes on)",
                                       dir)
                             : lm_fail(ctx, err, "%s: no such folder", dir);
    if (!err) {
        lm_jv root = lm_json_root(ctx, path, v);
        err = from_index(out, ctx, dir, &root);
    }
    lm_json_free(v);
    lm_free(ctx, path);
    return err;
}

/* ---- a text ------------------------------------------------------------------------------------------------------- */
typedef struct {
    lm_ctx *ctx; const lm_tok *tok; lm_doc_ends ends;
    bool wide;
    char *ids; int64_t n, cap;
    int64_t *doc, n_doc, cap_doc, bytes;
} memory;

static lm_err grow(lm_ctx *ctx, void **p, int64_t *cap, int64_t need, size_t size) {
    if (need <= *cap) return LM_OK;
    int64_t to = lm_max64(need, *cap + *cap / 2 + 1024);
    size_t bytes;
    void *q = lm_mul_ok((size_t)to, size, &bytes) ? lm_realloc(ctx, LM_MEM_DATA, *p, bytes) : NULL;
    if (!q) return LM_E_NOMEM;
    *p = q;
    *cap = to;
    return LM_OK;
}
static void push(memory *m, const int32_t *id, size_t n) {
    if (m->wide) memcpy(m->ids + 4 * m->n, id, 4 * n);
    else for (size_t i = 0; i < n; i++) { uint16_t v = (uint16_t)id[i]; memcpy(m->ids + 2 * (m->n + (int64_t)i), &v, 2); }
    m->n += (int64_t)n;
}
static lm_err keep(memory *m, const lm_doc *doc, const int32_t *id, size_t n) {
    LM_TRY(grow(m->ctx, (void **)&m->ids, &m->cap, m->n + (int64_t)n + 2, m->wide ? 4 : 2));
    LM_TRY(grow(m->ctx, (void **)&m->doc, &m->cap_doc, m->n_doc + 2, sizeof *m->doc));
    if (m->ends.bos >= 0) push(m, &m->ends.bos, 1);
    push(m, id, n);
    if (m->ends.eos >= 0) push(m, &m->ends.eos, 1);
    if (!m->n_doc) m->doc[0] = 0;
    m->doc[++m->n_doc] = m->n;
    m->bytes += (int64_t)doc->n;
    return LM_OK;
}
static lm_err encode_batch(void *ud, lm_docs *d, lm_doc_batch *b) {
    memory *m = ud;
    lm_tok_buf ids = { .ctx = m->ctx };
    size_t *start = NULL;
    lm_err err = lm_data_encode(m->ctx, m->tok, b, &ids, &start);
    for (int i = 0; i < b->n && !err; i++) {
        const lm_doc *doc = &b->doc[i];
        if (doc->bad) err = lm_data_why(m->ctx, m->tok, d, doc);
        else if (doc->n) err = keep(m, doc, ids.id + start[i], start[i + 1] - start[i]);
    }
    lm_tok_buf_free(&ids);
    lm_free(m->ctx, start);
    return err;
}
lm_err lm_shards_from_text(lm_shards **out, lm_ctx *ctx, const lm_tok *tok, const char *path) {
    memory m = { .ctx = ctx, .tok = tok, .ends = lm_doc_ends_of(tok, true), .wide = lm_vocab_wide(lm_tok_vocab(tok)) };
    lm_shards *s = NULL;
    lm_err err;
    LM_GOTO(lm_docs_each(ctx, path, NULL, encode_batch, &m), fail);
    if (!m.n_doc) { err = lm_fail(ctx, LM_E_DATA, "%s: there is no text in it", path); goto fail; }
    LM_GOTO(shards_new(&s, ctx, 1), fail);
    lm_seg *g = &s->seg[0];
    if (!(g->name = lm_arena_strdup(s->a, path))) { err = LM_E_NOMEM; goto fail; }
    s->n = 1;
    s->ids = m.ids;
    s->doc = m.doc;
    s->tokens = m.n;
    s->docs = m.n_doc;
    s->bytes = m.bytes;
    s->vocab = lm_tok_vocab(tok);
    s->tok = lm_tok_hash(tok);
    g->s = (lm_shard){ .ids = s->ids,
                       .wide = m.wide,
                       .doc = s->doc,
                       .n_tokens = m.n,
                       .n_docs = m.n_doc,
                       .n_bytes = m.bytes,
                       .vocab = s->vocab,
                       .eos = m.ends.eos,
                       .tok = s->tok };
    *out = s;
    return LM_OK;
fail:
    lm_shards_close(s);
    lm_free(ctx, m.ids);
    lm_free(ctx, m.doc);
    return err;
}

/* ---- what is in them ---------------------------------------------------------------------------------------------- */
int64_t lm_shards_tokens(const lm_shards *s) { return s->tokens; }
int64_t lm_shards_docs(const lm_shards *s) { return s->docs; }
int64_t lm_shards_bytes(const lm_shards *s) { return s->bytes; }
lm_hash128_t lm_shards_tok_hash(const lm_shards *s) { return s->tok; }

lm_hash128_t lm_shards_hash(const lm_shards *s) {
    lm_hash128_t h = {0}, pair[2];
    for (int i = 0; i < s->n; i++) {
        const lm_shard *g = &s->seg[i].s;
        pair[0] = h;
        if (s->seg[i].map) pair[1] = g->hash;
        else {
            const lm_hash128_t in[] = { lm_hash128(g->ids, (size_t)g->n_tokens * (g->wide ? 4 : 2)),
                                        lm_hash128(g->doc, ((size_t)g->n_docs + 1) * sizeof *g->doc) };
            pair[1] = lm_hash128(in, sizeof in);
        }
        h = lm_hash128(pair, sizeof pair);
    }
    return h;
}
int lm_seg_of(const lm_shards *s, int64_t t) {
    int lo = 0, hi = s->n;                 /* the last one that begins at or before t is not empty, as t is a token */
    while (hi - lo > 1) {
        int mid = lo + (hi - lo) / 2;
        if (s->seg[mid].first <= t) lo = mid; else hi = mid;
    }
    return lo;
}
lm_err lm_seg_bad_id(const lm_shards *s, int seg) {
    return lm_fail(s->ctx, LM_E_FORMAT, "%s: an id outside the vocabulary of %d: the file is damaged (`loam verify` re-hashes it)",
                   s->seg[seg].name, s->vocab);
}
lm_err lm_shards_get(const lm_shards *s, int64_t from, int64_t n, int32_t *ids) {
    if (from < 0 || n < 0 || from > s->tokens || n > s->tokens - from)
        return lm_fail(s->ctx, LM_E_RANGE, "%lld tokens from %lld on are wanted, there are %lld", (long long)n, (long long)from,
                       (long long)s->tokens);
    for (int i = n ? lm_seg_of(s, from) : 0; n; i++) {
        const lm_seg *g = &s->seg[i];
        int64_t at = from - g->first, k = lm_min64(n, g->s.n_tokens - at);
        if (!lm_shard_ids(&g->s, at, k, ids)) return lm_seg_bad_id(s, i);
        from += k; ids += k; n -= k;
    }
    return LM_OK;
}
int64_t lm_shards_doc_start(const lm_shards *s, int64_t token) {
    if (token < 0 || token >= s->tokens) return -1;
    const lm_seg *g = &s->seg[lm_seg_of(s, token)];
    return g->first + g->s.doc[lm_shard_doc_of(&g->s, token - g->first)];
}
lm_err lm_shards_verify(lm_shards *s) {
    for (int i = 0; i < s->n; i++) if (s->seg[i].map) LM_TRY(lm_shard_verify(s->ctx, s->seg[i].name, s->seg[i].map, s->seg[i].map_n));
    return LM_OK;
}
