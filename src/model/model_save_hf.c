/* model_save_hf.c — a Hugging Face folder: model.safetensors, then config.json, each appearing by rename when whole. */
#include <stdlib.h>
#include <strings.h>
#include "base/file.h"
#include "format/safetensors.h"
#include "model/model_save.h"

static lm_err put_all(void *to, const void *p, size_t n) { return lm_st_writer_write(to, p, n); }
static lm_err weights(lm_saver *s, const char *dir, lm_dtype dtype, uint64_t max_shard) {
    lm_st_writer *w = NULL;
    char *path = NULL;
    lm_err err;
    uint64_t total = 0;
    for (int i = 0; i < s->n; i++) { s->v[i].dtype = dtype; total += (uint64_t)(s->v[i].rows * s->v[i].cols) * lm_dtype_size(dtype); }
    bool one = !max_shard || total <= max_shard;                /* one file can take the place of another; shards refuse a folder that has a model */
    LM_TRY(lm_path_join(s->ctx, &path, dir, "model.safetensors"));
    LM_GOTO(lm_st_writer_new(&w, s->ctx, one ? path : dir, one ? 0 : (int64_t)max_shard), done);
    LM_GOTO(lm_st_writer_meta(w, "format", "pt"), done);
    for (int i = 0; i < s->n; i++) LM_GOTO(lm_st_writer_add(w, s->v[i].as, dtype, s->v[i].t.rank, s->v[i].t.dim), done);
    for (int i = 0; i < s->n; i++) LM_GOTO(lm_saver_write(s, &s->v[i], put_all, w), done);
    err = lm_st_writer_commit(w); w = NULL;
done:
    lm_st_writer_abort(w); lm_free(s->ctx, path);
    return err;
}
/* The shortest digits that read back as the same numbers: 1e-5, not 1.0000000000000001e-5. */
static char *dump(json_t *o) {
    char *text = NULL;
    for (int digits = 6; digits <= 17; digits++) {
        free(text);
        if (!(text = json_dumps(o, (size_t)(JSON_INDENT(2) | JSON_SORT_KEYS) | JSON_REAL_PRECISION((size_t)digits)))) return NULL;
        json_t *back = json_loads(text, 0, NULL);
        const bool same = json_equal(o, back);
        json_decref(back);
        if (same) return text;
    }
    return text;
}
static json_t *id(int32_t v) { return v < 0 ? json_null() : json_integer(v); }
lm_err lm_cfg_to_hf(lm_ctx *ctx, const lm_cfg *c, lm_dtype dtype, json_t **out) {
    json_t *o = json_object();
    if (!o) return lm_fail(ctx, LM_E_NOMEM, "out of memory for config.json");
    const char *arch = c->model->hf_archs[0], *type = c->hf_type ? c->hf_type : c->model->name;
    for (int i = 0; c->model->hf_archs[i]; i++) if (!strncasecmp(c->model->hf_archs[i], type, strlen(type))) arch = c->model->hf_archs[i];
    const char *dt = dtype == LM_BF16 ? "bfloat16" : dtype == LM_F16 ? "float16" : "float32";
    json_object_set_new(o, "architectures", json_pack("[s]", arch));
    json_object_set_new(o, "model_type", json_string(type));
    json_object_set_new(o, "torch_dtype", json_string(dt));          /* "dtype" from transformers 5 on, which reads both */
    json_object_set_new(o, "vocab_size", json_integer(c->vocab));
    json_object_set_new(o, "bos_token_id", id(c->bos));
    json_t *eos = c->n_eos > 1 ? json_array() : id(c->n_eos ? c->eos[0] : -1);
    for (int i = 0; c->n_eos > 1 && i < c->n_eos; i++) json_array_append_new(eos, json_integer(c->eos[i]));
    json_object_set_new(o, "eos_token_id", eos);
    json_object_set_new(o, "tie_word_embeddings", json_boolean(c->tie));
    json_object_set_new(o, "initializer_range", json_real(c->init_std));
    json_object_set_new(o, "use_cache", json_true());
    lm_err err = c->model->to_hf(ctx, c, o);
    if (err) json_decref(o); else *out = o;
    return err;
}
static lm_err config(lm_ctx *ctx, const lm_cfg *c, const char *dir, lm_dtype dtype) {
    char *path = NULL, *text = NULL;
    json_t *o = NULL;
    lm_err err = lm_cfg_to_hf(ctx, c, dtype, &o);
    if (!err && !(text = dump(o))) err = lm_fail(ctx, LM_E_NOMEM, "out of memory for config.json");
    if (!err) err = lm_path_join(ctx, &path, dir, "config.json");
    if (!err) {
        lm_str s = { .ctx = ctx };
        lm_str_puts(&s, text); lm_str_putc(&s, '\n');
        err = lm_str_err(&s);
        if (!err) err = lm_file_write_atomic(ctx, path, s.p, s.n);
        lm_str_free(&s);
    }
    free(text); lm_free(ctx, path); json_decref(o);
    return err;
}
static lm_err put_text(lm_ctx *ctx, const char *dir, const char *name, const char *text) {
    char *path;
    LM_TRY(lm_path_join(ctx, &path, dir, name));
    lm_err err = lm_file_write_atomic(ctx, path, text, strlen(text));
    lm_free(ctx, path);
    return err;
}
/* What sentence-transformers wants beside an encoder: how states become one vector. */
static lm_err pooling(lm_ctx *ctx, const lm_cfg *c, const char *dir) {
    char text[700], *sub;
    if (!c->model->encoder || c->pool == LM_POOL_NONE) return LM_OK;
    LM_TRY(lm_path_join(ctx, &sub, dir, "1_Pooling"));
    lm_err err = lm_dir_make(ctx, sub);
    snprintf(text, sizeof text, "{\n  \"word_embedding_dimension\": %lld,\n  \"pooling_mode_cls_token\": %s,\n  \"pooling_mode_mean_tokens\": %s,\n  \"pooling_mode_lasttoken\": %s\n}\n",
             (long long)c->d, c->pool == LM_POOL_CLS ? "true" : "false", c->pool == LM_POOL_MEAN ? "true" : "false", c->pool == LM_POOL_LAST ? "true" : "false");
    if (!err) err = put_text(ctx, sub, "config.json", text);
    lm_free(ctx, sub);
    LM_TRY(err);
    int n = snprintf(text, sizeof text, "[");
    static const struct { const char *path, *type; } m[] = { { "", "Transformer" }, { "1_Pooling", "Pooling" }, { "2_Normalize", "Normalize" } };
    for (int i = 0; i < (c->normalize ? 3 : 2); i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s{\"idx\": %d, \"name\": \"%d\", \"path\": \"%s\", \"type\": \"sentence_transformers.models.%s\"}",
                      i ? ",\n " : "", i, i, m[i].path, m[i].type);
    snprintf(text + n, sizeof text - (size_t)n, "]\n");
    return put_text(ctx, dir, "modules.json", text);
}
lm_err lm_model_save_config(lm_ctx *ctx, const lm_cfg *c, const char *dir, lm_dtype dtype) {
    LM_TRY(config(ctx, c, dir, dtype));
    return pooling(ctx, c, dir);
}
static lm_err save(lm_ctx *ctx, const lm_cfg *c, const lm_store *store, const lm_param_source *from, const char *dir, lm_dtype dtype,
                   uint64_t max_shard) {
    LM_TRY(lm_saver_dtype(ctx, dtype));
    if (max_shard > INT64_MAX) return lm_fail(ctx, LM_E_RANGE, "a shard limit of %llu bytes", (unsigned long long)max_shard);
    lm_saver s;
    LM_TRY(lm_saver_open(&s, ctx, c, store, from));
    const bool ours = !lm_exists(dir);
    lm_err err = lm_dir_make(ctx, dir);
    if (!err) err = weights(&s, dir, dtype, max_shard);
    if (!err) err = lm_model_save_config(ctx, c, dir, dtype);
    lm_saver_close(&s);
    if (err && ours) {                                               /* half a model is none */
        char why[1500];
        snprintf(why, sizeof why, "%s", lm_error(ctx));
        (void)lm_dir_remove(ctx, dir);
        lm_fail(ctx, err, "%s", why);
    }
    return err;
}
lm_err lm_model_save_hf(lm_ctx *ctx, const lm_cfg *c, const lm_store *store, const char *dir, lm_dtype dtype, uint64_t max_shard) {
    return save(ctx, c, store, NULL, dir, dtype, max_shard);
}
lm_err lm_model_save_hf_from(lm_ctx *ctx, const lm_cfg *c, const lm_param_source *from, const char *dir, lm_dtype dtype, uint64_t max_shard) {
    return save(ctx, c, NULL, from, dir, dtype, max_shard);
}
