/* embed.c — an encoder and its tokenizer opened, texts to ids, ids to vectors: for loam_embed and `loam embed`. */
#include <stdlib.h>
#include <string.h>
#include "api/api_int.h"
#include "infer/embed.h"
#include "quant/quant.h"

struct loam_embedder {
    lm_ctx *ctx; lm_weights *w; lm_store *store; lm_tok *tok;
    lm_embed_opts o; int64_t most; bool truncate;                     /* most: tokens of a run, but for longer texts */
    lm_embedder *e; int64_t longest, rows;                            /* planned for so much; planned anew when more comes */
};
enum { ROWS = 512 };

static lm_err pooling(lm_ctx *ctx, const char *name, const lm_cfg *cfg, lm_pooling *out) {
    static const char *const names[] = { "", "mean", "cls", "last" };
    *out = LM_POOL_NONE;
    for (int i = 1; name && i < LM_COUNT(names); i++) if (!strcmp(name, names[i])) *out = (lm_pooling)i;
    if (name && *name && *out == LM_POOL_NONE) return lm_fail(ctx, LM_E_CONFIG, "pooling %s: mean, cls and last are known", name);
    if (*out == LM_POOL_NONE && cfg->pool == LM_POOL_NONE)
        return lm_fail(ctx, LM_E_CONFIG, "the model does not say how a text's tokens become one vector; pool (--pool mean, cls or last) says it");
    return LM_OK;
}
static lm_err open_it(loam_embedder *e, const char *path, const lm_api_embed_opts *o) {
    const char *dtype = o->dtype;
    lm_load_opts lo = { .dtype = LM_QUANT, .panels = true, .stop = o->stop };
    e->o = (lm_embed_opts){ .normalize = o->normalize, .mm = LM_F32 };
    e->most = o->rows ? o->rows : ROWS; e->truncate = o->truncate;
    if (dtype && !strcmp(dtype, "f32")) lo.dtype = LM_F32;
    else if (dtype && !strcmp(dtype, "bf16")) lo.dtype = e->o.mm = LM_BF16;
    else if (dtype && strcmp(dtype, "auto") && !(lo.quant = lm_quant_by_name(dtype)))
        return lm_fail(e->ctx, LM_E_CONFIG, "dtype %s: auto, f32, bf16 and quantized formats such as Q8_0 are known", dtype);
    if (lo.quant && !lo.quant->from_float) return lm_fail(e->ctx, LM_E_UNSUPPORTED, "dtype %s: this format can be read, not made", dtype);
    LM_TRY(lm_weights_open(&e->w, e->ctx, path));
    LM_TRY(lm_tok_open_beside(e->ctx, path, &e->tok));
    const lm_cfg *cfg = lm_weights_cfg(e->w);
    if (lm_tok_vocab(e->tok) > cfg->vocab)
        return lm_fail(e->ctx, LM_E_MISMATCH, "%s: the tokenizer has %d ids, the model's embedding only %lld rows", path, lm_tok_vocab(e->tok),
                       (long long)cfg->vocab);
    LM_TRY(pooling(e->ctx, o->pool, cfg, &e->o.pool));
    LM_TRY(lm_store_new(&e->store, e->ctx));
    LM_TRY(lm_weights_load(e->w, e->store, &lo));
    if (lo.quant || lo.dtype == LM_QUANT) e->o.mm = lm_engine_mm_for(e->store);
    return LM_OK;
}
lm_err lm_api_embed_open(loam_embedder **out, lm_ctx *ctx, const char *path, const lm_api_embed_opts *o) {
    loam_embedder *e = calloc(1, sizeof *e);
    if (!e) return LM_E_NOMEM;
    e->ctx = ctx;
    const lm_err err = open_it(e, path, o);
    if (err) { loam_embedder_free(e); return err; }
    *out = e;
    return LM_OK;
}
int loam_embedder_open(loam_embedder **out, loam_context *c, const char *path, const loam_embedder_options *o) {
    if (o && o->size < sizeof *o) return (int)lm_fail(c->ctx, LM_E_CONFIG, "loam_embedder_options.size is %zu", o->size);
    return (int)lm_api_embed_open(out, c->ctx, path, &(lm_api_embed_opts){ .dtype = o ? o->dtype : NULL, .pool = o ? o->pool : NULL, .normalize = o ? o->normalize : 0 });
}
void loam_embedder_free(loam_embedder *e) {
    if (!e) return;
    lm_embedder_free(e->e); lm_store_free(e->store); lm_tok_free(e->tok); lm_weights_close(e->w);
    free(e);
}
int64_t loam_embedder_width(const loam_embedder *e) { return lm_weights_cfg(e->w)->d; }
int64_t loam_embedder_longest(const loam_embedder *e) { return lm_weights_cfg(e->w)->max_pos; }
/* Ids of all texts, each within the model's positions. */
static lm_err ids_of(loam_embedder *e, const char *const *texts, const size_t *bytes, size_t n, lm_tok_buf *ids, size_t *start, int64_t *longest) {
    const int64_t most = loam_embedder_longest(e);
    lm_tok_buf one = { .ctx = e->ctx };
    lm_err err = LM_OK;
    for (size_t i = 0; i < n && !err; i++) {
        start[i] = ids->n;
        one.n = 0;
        if ((err = lm_tok_encode(e->tok, texts[i], bytes[i], LM_TOK_ADD, &one))) { err = lm_fail_in(e->ctx, err, "text %zu", i + 1); break; }
        if ((int64_t)one.n > most && !e->truncate) {
            err = lm_fail(e->ctx, LM_E_RANGE, "text %zu has %zu tokens, the model has positions for %lld (loam embed --truncate cuts it)", i + 1, one.n, (long long)most);
            break;
        }
        if ((int64_t)one.n > most) { one.id[most - 1] = one.id[one.n - 1]; one.n = (size_t)most; }      /* what ends a text stays its end */
        *longest = lm_max64(*longest, (int64_t)one.n);
        if (ids->n + one.n > ids->cap) {
            const size_t cap = 2 * (ids->n + one.n) + 64;
            int32_t *p = lm_realloc(e->ctx, LM_MEM_TOK, ids->id, cap * sizeof *p);
            if (!p) { err = LM_E_NOMEM; break; }
            ids->id = p; ids->cap = cap;
        }
        memcpy(ids->id + ids->n, one.id, one.n * sizeof *one.id);
        ids->n += one.n;
    }
    start[n] = ids->n;
    lm_tok_buf_free(&one);
    return err;
}
lm_err lm_api_embed(loam_embedder *e, const char *const *texts, const size_t *bytes, size_t n, float *vectors, size_t *start) {
    lm_tok_buf ids = { .ctx = e->ctx };
    int64_t longest = 1;
    lm_err err = ids_of(e, texts, bytes, n, &ids, start, &longest);
    const int64_t rows = lm_max64(lm_min64(e->most, (int64_t)ids.n), longest);
    if (!err && (!e->e || longest > e->longest || rows > e->rows)) {
        lm_embed_opts o = e->o;
        lm_embedder_free(e->e);
        e->e = NULL;
        e->longest = o.longest = lm_max64(longest, e->longest); e->rows = o.rows = lm_max64(rows, e->rows);
        err = lm_embedder_new(&e->e, e->ctx, lm_weights_cfg(e->w), e->store, &o);
    }
    if (!err) err = lm_embed_texts(e->e, ids.id, start, n, vectors);
    lm_tok_buf_free(&ids);
    return err;
}
int loam_embed(loam_embedder *e, const char *const *texts, const size_t *bytes, size_t n, float *vectors) {
    if (!n) return LOAM_OK;
    size_t *start = calloc(n + 1, sizeof *start);
    const lm_err err = start ? lm_api_embed(e, texts, bytes, n, vectors, start) : LM_E_NOMEM;
    free(start);
    return (int)err;
}
