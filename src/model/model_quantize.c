/* model_quantize.c — see model_quantize.h. */
#include "base/file.h"
#include "model/model_quantize.h"
#include "model/model_save.h"

typedef struct {
    lm_ctx *ctx; lm_weights *w; const lm_quantize_opts *o;
    lm_store *store; const char *held;                 /* the one parameter in memory */
    lm_saver s;
    double (*error)[4]; lm_quantized *row; int n;      /* an entry for each parameter */
} work;

static lm_err fetch(void *ud, const char *name, lm_tensor *t) {
    work *k = ud;
    if (k->held) LM_TRY(lm_store_remove(k->store, k->held));
    k->held = NULL;
    LM_TRY(lm_weights_load_one(k->w, k->store, name));
    k->held = name;
    return lm_store_get(k->store, name, t) ? LM_OK : LM_E_INTERNAL;
}
static lm_err importance_of(work *k, lm_save_item *v, int *used) {
    if (!k->o->imatrix) return LM_OK;
    int64_t n = 0;
    const float *p = lm_imatrix_find(k->o->imatrix, v->as, &n);
    if (p && n != v->cols)
        return lm_fail(k->ctx, LM_E_SHAPE, "%s: the importance of %s has %lld numbers, its rows have %lld: it was made from another model",
                       k->o->imatrix_name, v->as, (long long)n, (long long)v->cols);
    v->weight = p;
    *used += p != NULL;
    return LM_OK;
}
/* Once for every format that another one stands in for, and for what the importance leaves out. */
static void tell(const work *k) {
    int bare = 0; const char *first = NULL;
    for (int i = 0; i < k->n; i++) {
        const lm_quantized *r = &k->row[i];
        if (r->quant && k->o->imatrix && !r->weighted) { bare++; first = first ? first : r->name; }
        if (r->quant == r->wanted) continue;
        int same = 0; bool told = false;
        for (int j = 0; j < k->n; j++) if (k->row[j].wanted == r->wanted && k->row[j].quant == r->quant) { same++; told |= j < i; }
        if (!told)
            lm_log(k->ctx, LM_LOG_WARN, "model",
                   "%d matrices are written as %s instead of %s: their rows are no whole blocks of it (%s: %lld numbers, blocks of %d)",
                   same, r->quant ? r->quant->name : "F16", r->wanted->name, r->name, (long long)k->s.v[i].cols, r->wanted->block);
    }
    if (bare)
        lm_log(k->ctx, LM_LOG_WARN, "model", "%s: %d matrices have no importance, their numbers count alike (%s)", k->o->imatrix_name, bare,
               first);
}
/* Which format each tensor gets. */
static lm_err choose(work *k, const lm_cfg *c) {
    int n_quant = 0, used = 0;
    for (int i = 0; i < k->n; i++) {
        lm_save_item *v = &k->s.v[i];
        lm_quantized *r = &k->row[i];
        const size_t len = strlen(v->as);
        if (len >= sizeof r->name) return lm_fail(k->ctx, LM_E_RANGE, "%s: the name is too long for GGUF", v->as);
        memcpy(r->name, v->as, len + 1);
        r->dtype = LM_F32;
        if (lm_saver_gguf_matrix(v)) {
            const lm_mix_at at = { v->as, v->cols, v->layer, (int)c->n_layer, c->n_kv ? c->n_head / c->n_kv : 1, c->tie, k->o->imatrix != NULL };
            if (k->o->pure) { r->wanted = k->o->pure; r->quant = lm_mix_fallback(r->wanted, v->cols); }
            else r->quant = lm_mix_pick(k->o->mix, &at, &r->wanted);
            v->dtype = r->dtype = r->quant ? LM_F32 : LM_F16;
            if ((v->quant = r->quant) != NULL) {
                LM_TRY(importance_of(k, v, &used));
                v->search = true; v->error = k->error[i]; r->weighted = v->weight != NULL;
                n_quant++;
            }
        }
        r->numbers = v->rows * v->cols;
        size_t bytes;
        if (!lm_storage_bytes(v->quant ? LM_QUANT : v->dtype, v->quant, LM_PLAIN, 2, (int64_t[]){ v->rows, v->cols }, &bytes))
            return lm_fail(k->ctx, LM_E_SHAPE, "%s is too large", v->as);
        r->bytes = (int64_t)bytes;
    }
    if (!n_quant) return lm_fail(k->ctx, LM_E_UNSUPPORTED, "no matrix of this model can be quantized: their rows are no whole blocks of any format");
    if (k->o->imatrix && !used)
        return lm_fail(k->ctx, LM_E_MISMATCH, "%s names no matrix of this model: it was made from another one", k->o->imatrix_name);
    tell(k);
    return LM_OK;
}
static lm_err metadata(work *k, lm_gguf_writer *w) {
    const lm_quantize_opts *o = k->o;
    const char *type = o->pure ? o->pure->name : o->mix->name;
    lm_err err = LM_OK;
    const char **names = lm_calloc(k->ctx, LM_MEM_IO, (size_t)k->n + 1, sizeof *names);
    float *zero = lm_calloc(k->ctx, LM_MEM_IO, (size_t)k->n + 1, sizeof *zero);
    if (!names || !zero) { err = LM_E_NOMEM; goto done; }
    for (int i = 0; i < k->n; i++) names[i] = k->row[i].name;
    LM_GOTO(lm_gguf_put_str(w, "loam.quantize.type", type, strlen(type)), done);
    LM_GOTO(lm_gguf_put_arr_str(w, "loam.quantize.tensors", names, NULL, k->n), done);
    LM_GOTO(lm_gguf_put_arr(w, "loam.quantize.rmse", LM_GGUF_F32, zero, k->n), done);
    LM_GOTO(lm_gguf_put_arr(w, "loam.quantize.relative", LM_GGUF_F32, zero, k->n), done);
    if (o->perplexity) LM_GOTO(lm_gguf_put_arr(w, "loam.quantize.perplexity", LM_GGUF_F64, (double[2]){ 0, 0 }, 2), done);
    if (!o->imatrix) goto done;
    const char *file = strrchr(o->imatrix_name, '/');
    file = file ? file + 1 : o->imatrix_name;
    LM_GOTO(lm_gguf_put_str(w, "quantize.imatrix.file", file, strlen(file)), done);
    err = lm_gguf_put_i32(w, "quantize.imatrix.entries_count", lm_imatrix_count(o->imatrix));
done:
    lm_free(k->ctx, names); lm_free(k->ctx, zero);
    return err;
}
static lm_err after(void *ud, int i) {
    work *k = ud;
    lm_quantized *r = &k->row[i];
    const double *e = k->error[i];
    if (r->quant) {
        if (!isfinite(e[1]))
            return lm_fail(k->ctx, LM_E_RANGE, "%s holds numbers that are not finite: the model is broken, nothing is written", r->name);
        if (!isfinite(e[0]))
            return lm_fail(k->ctx, LM_E_RANGE, "%s: numbers are too large for the scales of %s; choose another --type", r->name, r->quant->name);
        r->rmse = sqrt(e[0] / (double)lm_max64(r->numbers, 1));
        r->relative = e[1] > 0 ? sqrt(e[0] / e[1]) : 0;
        r->weighted_rmse = r->weighted && e[3] > 0 ? sqrt(e[2] / e[3]) : 0;
    }
    return !k->o->progress || k->o->progress(k->o->ud, r, i, k->n) ? LM_OK : lm_fail(k->ctx, LM_E_CANCELLED, "stopped; nothing is written");
}
/* The errors are known only now. */
static lm_err note(work *k, const char *path) {
    float *v = lm_calloc(k->ctx, LM_MEM_IO, (size_t)k->n + 1, sizeof *v);
    if (!v) return LM_E_NOMEM;
    for (int i = 0; i < k->n; i++) v[i] = (float)k->row[i].rmse;
    lm_err err = lm_gguf_patch(k->ctx, path, "loam.quantize.rmse", LM_GGUF_F32, v, k->n);
    for (int i = 0; i < k->n; i++) v[i] = (float)k->row[i].relative;
    if (!err) err = lm_gguf_patch(k->ctx, path, "loam.quantize.relative", LM_GGUF_F32, v, k->n);
    lm_free(k->ctx, v);
    return err;
}
static lm_err write(work *k, const lm_cfg *c, const char *part) {
    lm_gguf_writer *w;
    LM_TRY(lm_gguf_writer_new(&w, k->ctx, part, 0));
    lm_err err;
    LM_GOTO(lm_saver_gguf_head(&k->s, c, w, k->o->mix ? (int)k->o->mix->file_type : -1, true), fail);
    LM_GOTO(metadata(k, w), fail);
    if (k->o->extra) LM_GOTO(k->o->extra(k->o->ud, w), fail);
    LM_GOTO(lm_saver_gguf_tensors(&k->s, c, w, after, k), fail);
    LM_TRY(lm_gguf_writer_commit(w));
    LM_TRY(note(k, part));
    return k->o->done ? k->o->done(k->o->ud, part) : LM_OK;
fail:
    lm_gguf_writer_abort(w);
    return err;
}
/* What killed runs left beside PATH. The lock is held, so nobody is writing them. */
static lm_err sweep(lm_ctx *ctx, lm_arena *a, const char *part) {
    const char *slash = strrchr(part, '/'), *base = slash ? slash + 1 : part;
    const char *dir = slash ? lm_arena_printf(a, "%.*s", (int)(slash - part + 1), part) : ".";
    char **names; int n;
    if (!dir) return LM_E_NOMEM;
    LM_TRY(lm_dir_list(ctx, dir, &names, &n));
    lm_err err = LM_OK;
    for (int i = 0; i < n && !err; i++) {
        const size_t k = strlen(base);
        if (strncmp(names[i], base, k) || (names[i][k] && strncmp(names[i] + k, ".tmp-", 5))) continue;
        const char *p = lm_arena_printf(a, "%.*s%s", (int)(base - part), part, names[i]);
        if (p) lm_file_remove(p); else err = LM_E_NOMEM;
    }
    lm_free(ctx, names);
    return err;
}
lm_err lm_model_quantize(lm_ctx *ctx, lm_weights *w, const char *path, const lm_quantize_opts *o, lm_quantized **table, int *n) {
    work k = { .ctx = ctx, .w = w, .o = o };
    const lm_param_source from = { fetch, &k };
    const lm_quant *base = o->pure ? o->pure : o->mix ? lm_quant_by_name(o->mix->base) : NULL;
    if (!base || !base->from_float || base->n_comp != 1 || base->gguf_id < 0)
        return lm_fail(ctx, LM_E_UNSUPPORTED, "%s cannot be written to GGUF", base ? base->name : "this type");
    const lm_cfg *c = lm_weights_cfg(w);
    LM_TRY(lm_saver_open(&k.s, ctx, c, NULL, &from));
    k.n = k.s.n;
    k.error = lm_calloc(ctx, LM_MEM_IO, (size_t)k.n + 1, sizeof *k.error);
    k.row = lm_calloc(ctx, LM_MEM_IO, (size_t)k.n + 1, sizeof *k.row);
    char *part = lm_arena_printf(k.s.a, "%s.part", path);
    lm_err err = k.error && k.row && part ? lm_store_new(&k.store, ctx) : LM_E_NOMEM;
    if (!err) err = lm_saver_gguf(&k.s, c);
    if (!err) err = choose(&k, c);
    lm_lock *lock = NULL;
    const char *locked = err ? NULL : lm_arena_printf(k.s.a, "%s.lock", path);
    if (!err) err = locked ? lm_lock_take(&lock, ctx, locked, path) : LM_E_NOMEM;
    if (!err) {
        err = sweep(ctx, k.s.a, part);
        if (!err) err = write(&k, c, part);
        if (!err) err = lm_rename(ctx, part, path);
        if (err) lm_file_remove(part);
        lm_lock_drop(lock);
    }
    lm_store_free(k.store); lm_saver_close(&k.s);
    lm_free(ctx, k.error);
    if (err) { lm_free(ctx, k.row); return err; }
    *table = k.row; *n = k.n;
    return LM_OK;
}
