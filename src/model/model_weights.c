/* model_weights.c — opening: which kind of source, every parameter found, nothing left over. */
#include "model/model_weights.h"

lm_err lm_weights_shape(lm_weights *w, const lm_weight *e, int rank, const int64_t *dim) {
    int64_t want[LM_MAX_RANK];
    bool same = rank == e->type.rank;
    for (int i = 0; i < e->type.rank; i++) want[i] = e->type.dim[e->transpose ? e->type.rank - 1 - i : i];
    for (int i = 0; same && i < rank; i++) same = dim[i] == want[i];
    if (same) return LM_OK;
    lm_str got = { .ctx = w->ctx };
    for (int i = 0; i < rank; i++) lm_str_printf(&got, "%s%lld", i ? ", " : "", (long long)dim[i]);
    lm_err err = e->type.rank == 1 ? lm_fail(w->ctx, LM_E_SHAPE, "%s: %s: got (%s), wanted (%lld)", w->path, e->src, got.p ? got.p : "",
                                             (long long)want[0])
                                   : lm_fail(w->ctx, LM_E_SHAPE, "%s: %s: got (%s), wanted (%lld, %lld)", w->path, e->src,
                                             got.p ? got.p : "", (long long)want[0], (long long)want[1]);
    lm_str_free(&got);
    return err;
}
static lm_err collect(void *ud, const char *name, const lm_type *t, lm_role role, bool head) {
    lm_weights *w = ud;
    if (w->n == w->cap) {
        int cap = w->cap ? w->cap * 2 : 128;
        lm_weight *e = lm_arena_alloc(w->a, (size_t)cap * sizeof *e);
        if (!e) return LM_E_NOMEM;
        if (w->n) memcpy(e, w->e, (size_t)w->n * sizeof *e);
        w->e = e; w->cap = cap;
    }
    lm_weight e = { .name = lm_arena_strdup(w->a, name), .type = *t, .role = role, .head = head };
    if (!e.name) return LM_E_NOMEM;
    e.src = e.name;
    w->e[w->n++] = e;
    return LM_OK;
}
static lm_err find_all(lm_weights *w) {
    LM_TRY(lm_cfg_check(w->ctx, &w->cfg));
    LM_TRY(lm_model_walk(w->ctx, &w->cfg, collect, w));
    for (int i = 0; i < w->n; i++) {
        lm_weight *e = &w->e[i];
        LM_TRY(w->source->find(w, e));
        if (e->dtype != LM_QUANT && !lm_dtype_is_float(e->dtype))
            return lm_fail(w->ctx, LM_E_UNSUPPORTED, "%s: %s holds %s; weights are floats", w->path, e->src, lm_dtype_name(e->dtype));
        e->cols = e->type.rank > 1 ? e->type.dim[e->transpose ? 0 : 1] : 1;
        e->rows = e->type.dim[e->transpose && e->type.rank > 1 ? 1 : 0];
        if (e->type.rank == 1 && !e->perm_heads) { e->cols = e->rows; e->rows = 1; }
        if (e->dtype == LM_QUANT && e->cols % e->quant->block)
            return lm_fail(w->ctx, LM_E_SHAPE, "%s: %s: rows of %lld numbers are no whole blocks of %s (%d)", w->path, e->src,
                           (long long)e->cols, e->quant->name, e->quant->block);
        size_t all;
        const int64_t dim[] = { e->rows, e->cols };
        if (!lm_storage_bytes(e->dtype, e->quant, LM_PLAIN, 2, dim, &all)) return lm_fail(w->ctx, LM_E_SHAPE, "%s: %s is too large", w->path, e->src);
        e->row_bytes = e->rows ? all / (size_t)e->rows : 0;
        if (e->perm_heads && (e->rows % e->perm_heads || e->rows / e->perm_heads % 2))
            return lm_fail(w->ctx, LM_E_SHAPE, "%s: %s: %lld rows do not divide into %d heads of pairs", w->path, e->src,
                           (long long)e->rows, e->perm_heads);
    }
    return w->source->done(w);
}
static lm_err open_source(lm_weights *w) {
    if (lm_is_dir(w->path)) return lm_weights_open_hf(w);
    if (!lm_exists(w->path)) return lm_fail(w->ctx, LM_E_NOTFOUND, "there is no model at %s", w->path);
    lm_file *f;
    char magic[4];
    LM_TRY(lm_file_open(&f, w->ctx, w->path));
    lm_err err = lm_file_size(f) < 4 ? lm_fail(w->ctx, LM_E_FORMAT, "%s is too short to be a model", w->path) : lm_file_pread(f, magic, 4, 0);
    lm_file_close(f);
    LM_TRY(err);
    if (!memcmp(magic, "GGUF", 4)) return lm_weights_open_gguf(w);
    size_t n = strlen(w->path);
    if (n > 4 && !strcmp(w->path + n - 4, ".bin")) return lm_weights_open_llama2c(w);
    return lm_fail(w->ctx, LM_E_UNSUPPORTED, "%s is neither a Hugging Face folder nor a GGUF file nor a llama2.c checkpoint (.bin)", w->path);
}
lm_err lm_weights_open(lm_weights **out, lm_ctx *ctx, const char *path) {
    lm_arena *a;
    LM_TRY(lm_arena_new(&a, ctx, LM_MEM_IO, 0));
    lm_weights *w = lm_arena_alloc(a, sizeof *w);
    if (!w || !(w->path = lm_arena_strdup(a, path))) { lm_arena_free(a); return LM_E_NOMEM; }
    w->ctx = ctx; w->a = a; w->cfg.bos = -1;
    lm_err err = open_source(w);
    if (!err) err = find_all(w);
    if (err) { lm_weights_close(w); return err; }
    *out = w;
    return LM_OK;
}
void lm_weights_close(lm_weights *w) {
    if (!w) return;
    if (w->source && w->file) w->source->close(w);
    lm_arena_free(w->a);
}
const lm_cfg *lm_weights_cfg(const lm_weights *w) { return &w->cfg; }
const char *lm_weights_kind(const lm_weights *w) { return w->source->kind; }
int lm_weights_count(const lm_weights *w) { return w->n; }
void lm_weights_info(const lm_weights *w, int i, lm_weight_info *info) {
    const lm_weight *e = &w->e[i];
    *info = (lm_weight_info){
        .name = e->name, .dtype = e->dtype, .quant = e->quant, .rank = e->type.rank, .bytes = (uint64_t)e->rows * e->row_bytes
    };
    for (int k = 0; k < e->type.rank; k++) info->dim[k] = e->type.dim[k];
}
