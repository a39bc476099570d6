/* model_weights_gguf.c — a GGUF file: metadata instead of config.json, llama.cpp's names, rotary rows as interleaved pairs, matrices always
 * (out, in). */
#include "model/model_weights.h"

static lm_err find(lm_weights *w, lm_weight *e) {
    int layer;
    const struct lm_name_map *row = lm_model_name_row(w->cfg.model, e->name, &layer);
    if (!row) return lm_fail(w->ctx, LM_E_INTERNAL, "%s: the name map of %s has no row for %s", w->path, w->cfg.model->name, e->name);
    const char *d = strstr(row->gguf, "%d");
    e->src = d ? lm_arena_printf(w->a, "%.*s%d%s", (int)(d - row->gguf), row->gguf, layer, d + 2) : row->gguf;
    if (!e->src) return LM_E_NOMEM;
    const lm_gguf_tensor *t;
    LM_TRY(lm_gguf_need(w->file, e->src, &t));
    e->plus_one = row->plus_one;
    e->transpose = row->transpose && e->type.rank == 2;
    e->perm_heads = row->rope_q ? (int)w->cfg.n_head : row->rope_k ? (int)w->cfg.n_kv : 0;
    e->dtype = t->type->dtype; e->at = t;
    if (e->dtype == LM_QUANT && !(e->quant = lm_quant_by_gguf(t->type->id)))
        return lm_fail(w->ctx, LM_E_UNSUPPORTED, "%s: %s is stored as %s, which is not known here", w->path, e->src, t->type->name);
    return lm_weights_shape(w, e, t->rank, t->dim);
}
static lm_err done(lm_weights *w) {
    for (int i = 0; i < lm_gguf_count(w->file); i++) {
        const lm_gguf_tensor *t = lm_gguf_at(w->file, i);
        bool used = (!strcmp(t->name, "rope_freqs.weight") && w->cfg.rope.d_head) ||           /* went into the configuration */
                    (w->cfg.rope.scaling == LM_ROPE_LONG && (!strcmp(t->name, "rope_factors_long.weight") || !strcmp(t->name, "rope_factors_short.weight")));
        for (int k = 0; k < w->n && !used; k++) used = w->e[k].at == t;
        if (!used)
            return lm_fail(w->ctx, LM_E_MISMATCH, "%s: the tensor %s is not a parameter of %s with this metadata", w->path, t->name,
                           w->cfg.model->name);
    }
    return LM_OK;
}
static lm_err get(lm_weights *w, const lm_weight *e, void *dst, int64_t from, int64_t bytes) {
    return lm_gguf_read(w->file, e->at, dst, from, bytes);
}
static lm_err map(lm_weights *w, const lm_weight *e, const void **p) { return lm_gguf_map(w->file, e->at, p); }
static void close_gguf(lm_weights *w) { lm_gguf_close(w->file); }
static bool where(lm_weights *w, const lm_weight *e, lm_file **file, int64_t *offset) { return lm_gguf_where(w->file, e->at, file, offset); }
static const lm_weights_source source = { "gguf", find, done, get, map, where, close_gguf };

lm_err lm_weights_open_gguf(lm_weights *w) {
    lm_gguf *f;
    LM_TRY(lm_gguf_open(&f, w->ctx, w->path));
    w->source = &source; w->file = f;
    const char *arch;
    LM_TRY(lm_gguf_str(f, "general.architecture", true, NULL, &arch, NULL));
    for (int i = 0; lm_models[i] && !w->cfg.model; i++)
        for (int k = 0; lm_models[i]->gguf_archs[k]; k++) if (!strcmp(lm_models[i]->gguf_archs[k], arch)) w->cfg.model = lm_models[i];
    if (!w->cfg.model)
        return lm_fail(w->ctx, LM_E_UNSUPPORTED,
                       "%s: the architecture \"%s\" is not known; known ones are listed by `loam inspect --models`", w->path, arch);
    return w->cfg.model->from_gguf(w->ctx, f, &w->cfg);
}
