/* model_weights_hf.c — a Hugging Face folder: config.json and safetensors.
 *
 * Names are the model's own; folders made from a base model lack the first part ("transformer.", "model."). What may be there besides the
 * parameters: buffers of older versions (rotary inverse frequencies, GPT-2's causal masks), and an output matrix that is tied to the
 * embedding, if its bytes are the embedding's. */
#include "format/safetensors.h"
#include "model/model_weights.h"

static lm_err find(lm_weights *w, lm_weight *e) {
    lm_st *st = w->file;
    const lm_st_tensor *t = lm_st_find(st, e->name);
    const char *dot = strchr(e->name, '.');
    const char *prefix = w->cfg.model->hf_prefix;
    if (!t && prefix) {
        const char *longer = lm_arena_printf(w->a, "%s%s", prefix, e->name);
        if (!longer) return LM_E_NOMEM;
        t = lm_st_find(st, longer);
    } else if (!t && dot) t = lm_st_find(st, dot + 1);
    if (!t) return lm_st_need(st, e->name, &t);
    e->src = t->name; e->dtype = t->dtype; e->at = t;
    return lm_weights_shape(w, e, t->rank, t->dim);
}
static lm_err get(lm_weights *w, const lm_weight *e, void *dst, int64_t from, int64_t bytes) { return lm_st_read(w->file, e->at, dst, from, bytes); }
static bool ends(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && !strcmp(s + n - k, tail);
}
static bool buffer(const char *name) { return ends(name, ".rotary_emb.inv_freq") || ends(name, ".attn.bias") || ends(name, ".attn.masked_bias"); }
static bool unused(const lm_model *m, const char *name) {
    const size_t n = m->hf_prefix ? strlen(m->hf_prefix) : 0;
    if (n && !strncmp(name, m->hf_prefix, n)) name += n;
    for (int i = 0; m->unused && m->unused[i]; i++) if (!strncmp(name, m->unused[i], strlen(m->unused[i]))) return true;
    return false;
}
/* A tied output matrix that was written all the same. */
static lm_err same_as_embedding(lm_weights *w, const lm_st_tensor *t) {
    const lm_weight *e = NULL;
    for (int i = 0; i < w->n; i++) if (w->e[i].head) e = &w->e[i];
    const lm_st_tensor *u = e ? e->at : NULL;
    bool same = u && t->dtype == u->dtype && t->bytes == u->bytes;
    enum { PIECE = 1 << 20 };
    char *a = lm_alloc(w->ctx, LM_MEM_IO, 2 * PIECE);
    if (!a) return LM_E_NOMEM;
    lm_err err = LM_OK;
    for (int64_t at = 0; same && at < t->bytes; at += PIECE) {
        int64_t n = lm_min64(PIECE, t->bytes - at);
        if ((err = lm_st_read(w->file, t, a, at, n)) || (err = lm_st_read(w->file, u, a + PIECE, at, n))) break;
        same = !memcmp(a, a + PIECE, (size_t)n);
    }
    lm_free(w->ctx, a);
    LM_TRY(err);
    if (!same)
        return lm_fail(
            w->ctx, LM_E_MISMATCH,
            "%s: %s differs from %s, but tie_word_embeddings says that they are one; if they are not, set it to false in config.json",
            w->path, t->name, u ? u->name : "the embedding");
    lm_log(w->ctx, LM_LOG_INFO, "model", "%s: %s repeats %s and is not read", w->path, t->name, u->name);
    return LM_OK;
}
static lm_err done(lm_weights *w) {
    lm_st *st = w->file;
    if (lm_st_count(st) == w->n) return LM_OK;
    for (int i = 0; i < lm_st_count(st); i++) {
        const lm_st_tensor *t = lm_st_at(st, i);
        bool used = buffer(t->name) || unused(w->cfg.model, t->name);
        for (int k = 0; k < w->n && !used; k++) used = w->e[k].at == t;
        if (used) continue;
        if (w->cfg.tie && !strcmp(t->name, "lm_head.weight")) { LM_TRY(same_as_embedding(w, t)); continue; }
        return lm_fail(w->ctx, LM_E_MISMATCH, "%s: the tensor %s is not a parameter of %s with this config.json", w->path, t->name,
                       w->cfg.model->name);
    }
    return LM_OK;
}
static lm_err map(lm_weights *w, const lm_weight *e, const void **p) { return lm_st_map(w->file, e->at, p); }
static void close_hf(lm_weights *w) { lm_st_close(w->file); }
static bool where(lm_weights *w, const lm_weight *e, lm_file **file, int64_t *offset) { return lm_st_where(w->file, e->at, file, offset); }
static const lm_weights_source source = { "huggingface", find, done, get, map, where, close_hf };

/* Chat models name the ids that end a turn in generation_config.json; they join those of config.json. */
static lm_err more_ends(lm_weights *w) {
    char *file;
    json_t *j;
    LM_TRY(lm_path_join(w->ctx, &file, w->path, "generation_config.json"));
    lm_err err = LM_OK;
    if (lm_exists(file) && !(err = lm_json_load(w->ctx, file, 0, &j))) {
        lm_jv root = lm_json_root(w->ctx, file, j), v;
        int64_t ids[8];
        int n = 0;
        err = lm_json_get(&root, "eos_token_id", LM_JSON_OPT, &v);
        if (!err && json_is_array(v.v)) err = lm_json_ints(&root, "eos_token_id", LM_JSON_OPT, 0, INT32_MAX, ids, LM_COUNT(ids), &n);
        else if (!err && v.v && !(err = lm_json_as_int(&v, -1, INT32_MAX, &ids[0]))) n = ids[0] >= 0;
        for (int i = 0; !err && i < n; i++) {
            bool there = w->cfg.n_eos == LM_COUNT(w->cfg.eos);
            for (int k = 0; k < w->cfg.n_eos; k++) there |= w->cfg.eos[k] == (int32_t)ids[i];
            if (!there) w->cfg.eos[w->cfg.n_eos++] = (int32_t)ids[i];
        }
        lm_json_free(j);
    }
    lm_free(w->ctx, file);
    return err;
}
/* sentence-transformers' folders: 1_Pooling/config.json, and Normalize among the modules. */
static lm_err pooling(lm_weights *w) {
    static const struct { const char *key; lm_pooling pool; } modes[] = {
        { "pooling_mode_mean_tokens", LM_POOL_MEAN }, { "pooling_mode_cls_token", LM_POOL_CLS }, { "pooling_mode_lasttoken", LM_POOL_LAST } };
    char *file;
    json_t *j;
    LM_TRY(lm_path_join(w->ctx, &file, w->path, "1_Pooling/config.json"));
    lm_err err = LM_OK;
    if (lm_exists(file) && !(err = lm_json_load(w->ctx, file, 0, &j))) {
        lm_jv root = lm_json_root(w->ctx, file, j);
        bool on[LM_COUNT(modes)];
        int n = 0;
        for (int i = 0; !err && i < LM_COUNT(modes); i++) {
            err = lm_json_bool(&root, modes[i].key, LM_JSON_OPT, false, &on[i]);
            if (!err && on[i]) { w->cfg.pool = modes[i].pool; n++; }
        }
        if (!err && n != 1) err = lm_json_fail(&root, LM_E_UNSUPPORTED, "%d of the poolings mean, cls and last token are on; one is wanted", n);
        lm_json_free(j);
    }
    lm_free(w->ctx, file);
    LM_TRY(err);
    LM_TRY(lm_path_join(w->ctx, &file, w->path, "modules.json"));
    if (lm_exists(file) && !(err = lm_json_load(w->ctx, file, 0, &j))) {
        w->cfg.normalize = false;
        for (size_t i = 0; i < json_array_size(j); i++) {
            const char *type = json_string_value(json_object_get(json_array_get(j, i), "type"));
            const size_t n = type ? strlen(type) : 0;
            w->cfg.normalize |= n >= 9 && !strcmp(type + n - 9, "Normalize");
        }
        lm_json_free(j);
    }
    lm_free(w->ctx, file);
    return err;
}
lm_err lm_weights_open_hf(lm_weights *w) {
    char *file;
    json_t *j;
    LM_TRY(lm_path_join(w->ctx, &file, w->path, "config.json"));
    lm_err err = lm_exists(file) ? lm_json_load(w->ctx, file, 0, &j)
                                 : lm_fail(w->ctx, LM_E_NOTFOUND, "%s has no config.json: it is not a Hugging Face model folder", w->path);
    if (!err) {
        lm_jv root = lm_json_root(w->ctx, file, j), q;
        err = lm_json_get(&root, "quantization_config", LM_JSON_OPT, &q);
        if (!err && q.v)
            err = lm_json_fail(&q, LM_E_UNSUPPORTED,
                               "quantized Hugging Face folders are not read; take the original weights, or a GGUF file");
        if (!err) err = lm_cfg_from_hf(w->ctx, file, j, &w->cfg);
        lm_json_free(j);
    }
    lm_free(w->ctx, file);
    LM_TRY(err);
    LM_TRY(more_ends(w));
    LM_TRY(pooling(w));
    lm_st *st;
    LM_TRY(lm_st_open(&st, w->ctx, w->path));
    w->source = &source; w->file = st;
    return LM_OK;
}
