/* model_save_gguf.c — one GGUF file as llama.cpp's converter makes it: its names, matrices (out, in), rotary rows as interleaved pairs,
 * vectors in F32. */
#include "model/model_save.h"

static lm_err put_all(void *to, const void *p, size_t n) { return lm_gguf_writer_write(to, p, n); }
static const struct { const char *name; uint32_t id;
} file_types[] = { /* general.file_type */
                   { "F32", 0 },   { "F16", 1 },   { "Q4_0", 2 },    { "Q4_1", 3 },    { "Q8_0", 7 },
                   { "Q5_0", 8 },  { "Q5_1", 9 },  { "Q2_K", 10 },   { "Q3_K", 11 },   { "Q4_K", 14 },
                   { "Q5_K", 16 }, { "Q6_K", 18 }, { "IQ4_NL", 25 }, { "IQ4_XS", 30 }, { "BF16", 32 },
                   { "TQ1_0", 36 }, { "TQ2_0", 37 }
};
lm_err lm_saver_gguf(lm_saver *s, const lm_cfg *c) {
    for (int i = 0; i < s->n; i++) {
        lm_save_item *v = &s->v[i];
        const struct lm_name_map *row = lm_model_name_row(c->model, v->name, &v->layer);
        if (!row) return lm_fail(s->ctx, LM_E_INTERNAL, "the name map of %s has no row for %s", c->model->name, v->name);
        const char *d = strstr(row->gguf, "%d");
        v->as = d ? lm_arena_printf(s->a, "%.*s%d%s", (int)(d - row->gguf), row->gguf, v->layer, d + 2) : row->gguf;
        if (!v->as) return LM_E_NOMEM;
        v->plus_one = row->plus_one;
        v->perm_heads = row->rope_q ? (int)c->n_head : row->rope_k ? (int)c->n_kv : 0;
        if (v->t.rank > 1 && row->transpose) { v->transpose = true; v->rows = v->t.dim[1]; v->cols = v->t.dim[0]; }
    }
    return LM_OK;
}
/* As in llama.cpp positions are added to F32, never multiplied. */
bool lm_saver_gguf_matrix(const lm_save_item *v) { return v->t.rank > 1 && strcmp(v->as, "position_embd.weight") && strcmp(v->as, "token_types.weight"); }
/* The type of every tensor. */
static lm_err describe(lm_saver *s, lm_dtype dtype, const lm_quant *most, const lm_quant *embed) {
    int n_quant = 0;
    for (int i = 0; i < s->n; i++) {
        lm_save_item *v = &s->v[i];
        if (!lm_saver_gguf_matrix(v)) continue;
        v->dtype = dtype;
        const lm_quant *q = embed && v->role == LM_ROLE_EMBED ? embed : most;
        if (q && v->cols % q->block == 0) {
            v->quant = q;
            n_quant++;
        } else if (q)
            lm_log(s->ctx, LM_LOG_WARN, "model", "%s is written as %s: its rows of %lld numbers are no whole blocks of %s (%d)", v->as,
                   lm_dtype_name(dtype), (long long)v->cols, q->name, q->block);
    }
    return most && !n_quant ? lm_fail(s->ctx, LM_E_UNSUPPORTED, "no matrix of this model can be written as %s: its blocks have %d numbers",
                                      most->name, most->block)
                            : LM_OK;
}
lm_err lm_saver_gguf_head(lm_saver *s, const lm_cfg *c, lm_gguf_writer *w, int file_type, bool quantized) {
    const char *arch = c->model->gguf_archs[0];
    LM_TRY(lm_gguf_put_str(w, "general.architecture", arch, strlen(arch)));
    LM_TRY(lm_gguf_put_str(w, "general.type", "model", 5));
    if (file_type >= 0) LM_TRY(lm_gguf_put_u32(w, "general.file_type", (uint32_t)file_type));
    if (quantized) LM_TRY(lm_gguf_put_u32(w, "general.quantization_version", 2));
    return c->model->to_gguf(s->ctx, c, w);
}
static int file_type_of(const char *type) {
    for (int i = 0; i < LM_COUNT(file_types); i++) if (!strcmp(file_types[i].name, type)) return (int)file_types[i].id;
    return -1;
}
lm_err lm_saver_gguf_tensors(lm_saver *s, const lm_cfg *c, lm_gguf_writer *w, lm_err (*after)(void *ud, int i), void *ud) {
    lm_rope_factors f[2];
    const int n_factors = lm_model_rope_factors(&c->rope, f);
    const int64_t n = c->rope.d_head / 2;
    for (int i = 0; i < n_factors; i++) LM_TRY(lm_gguf_writer_add(w, f[i].name, lm_ggml_by_name("F32"), 1, &n));
    for (int i = 0; i < s->n; i++) {
        const lm_save_item *v = &s->v[i];
        const lm_ggml_type *t = lm_ggml_by_name(v->quant ? v->quant->name : lm_dtype_name(v->dtype));
        if (!t) return lm_fail(s->ctx, LM_E_UNSUPPORTED, "GGUF has no type for %s", v->quant ? v->quant->name : lm_dtype_name(v->dtype));
        const int64_t dim[] = { v->rows, v->cols };
        LM_TRY(lm_gguf_writer_add(w, v->as, t, v->t.rank, v->t.rank > 1 ? dim : v->t.dim));
    }
    for (int i = 0; i < n_factors; i++) LM_TRY(lm_gguf_writer_write(w, f[i].v, (size_t)n * 4));
    for (int i = 0; i < s->n; i++) {
        LM_TRY(lm_saver_write(s, &s->v[i], put_all, w));
        if (after) LM_TRY(after(ud, i));
    }
    return LM_OK;
}
static bool writes(const lm_quant *q) { return !q || (q->from_float && q->n_comp == 1 && q->gguf_id >= 0); }
static lm_err save(lm_ctx *ctx, const lm_cfg *c, const lm_store *store, const lm_param_source *from, const char *path, lm_dtype dtype,
                   const lm_quant *quant, const lm_quant *embed, lm_err (*extra)(void *ud, lm_gguf_writer *w), void *ud) {
    LM_TRY(lm_saver_dtype(ctx, dtype));
    if (!writes(quant) || !writes(embed))
        return lm_fail(ctx, LM_E_UNSUPPORTED, "%s cannot be written to GGUF", writes(quant) ? embed->name : quant->name);
    lm_saver s;
    lm_gguf_writer *w = NULL;
    LM_TRY(lm_saver_open(&s, ctx, c, store, from));
    lm_err err;
    LM_GOTO(lm_saver_gguf(&s, c), done);
    LM_GOTO(describe(&s, dtype, quant, embed), done);
    LM_GOTO(lm_gguf_writer_new(&w, ctx, path, 0), done);
    LM_GOTO(lm_saver_gguf_head(&s, c, w, file_type_of(quant ? quant->name : lm_dtype_name(dtype)), quant != NULL), done);
    if (extra) LM_GOTO(extra(ud, w), done);
    LM_GOTO(lm_saver_gguf_tensors(&s, c, w, NULL, NULL), done);
    err = lm_gguf_writer_commit(w); w = NULL;
done:
    lm_gguf_writer_abort(w); lm_saver_close(&s);
    return err;
}
lm_err lm_model_save_gguf(lm_ctx *ctx, const lm_cfg *c, const lm_store *store, const char *path, lm_dtype dtype, const lm_quant *quant,
                          lm_err (*extra)(void *ud, lm_gguf_writer *w), void *ud) {
    return save(ctx, c, store, NULL, path, dtype, quant, NULL, extra, ud);
}
lm_err lm_model_save_gguf_from(lm_ctx *ctx, const lm_cfg *c, const lm_param_source *from, const char *path, lm_dtype dtype, const lm_quant *quant,
                               const lm_quant *embed, lm_err (*extra)(void *ud, lm_gguf_writer *w), void *ud) {
    return save(ctx, c, NULL, from, path, dtype, quant, embed, extra, ud);
}
