/* model_save.c — see model_save.h. */
#include "base/pool.h"
#include "model/model_save.h"

static lm_err collect(void *ud, const char *name, const lm_type *t, lm_role role, bool head) {
    lm_saver *s = ud;
    if (s->n == s->cap) {
        int cap = s->cap ? s->cap * 2 : 128;
        lm_save_item *v = lm_arena_alloc(s->a, (size_t)cap * sizeof *v);
        if (!v) return LM_E_NOMEM;
        if (s->n) memcpy(v, s->v, (size_t)s->n * sizeof *v);
        s->v = v; s->cap = cap;
    }
    lm_save_item v = { .name = lm_arena_strdup(s->a, name), .role = role, .head = head, .dtype = LM_F32 };
    if (!v.name) return LM_E_NOMEM;
    v.as = v.name;
    if (!s->store) v.t = lm_tensor_of(NULL, LM_F32, t->rank, t->dim);
    else if (!lm_store_get(s->store, name, &v.t)) return lm_fail(s->ctx, LM_E_NOTFOUND, "%s is not in memory: the model cannot be written", name);
    bool same = v.t.rank == t->rank;
    for (int i = 0; same && i < t->rank; i++) same = v.t.dim[i] == t->dim[i];
    if (!same)
        return lm_fail(s->ctx, LM_E_SHAPE, "%s in memory has rank %d, first dimension %lld; the model has rank %d, first dimension %lld",
                       name, v.t.rank, (long long)v.t.dim[0], t->rank, (long long)t->dim[0]);
    v.rows = t->rank > 1 ? t->dim[0] : 1; v.cols = t->dim[t->rank - 1];
    s->v[s->n++] = v;
    return LM_OK;
}
lm_err lm_saver_open(lm_saver *s, lm_ctx *ctx, const lm_cfg *c, const lm_store *store, const lm_param_source *from) {
    *s = (lm_saver){ .ctx = ctx, .store = store, .from = from };
    LM_TRY(lm_cfg_check(ctx, c));
    LM_TRY(lm_arena_new(&s->a, ctx, LM_MEM_IO, 0));
    lm_err err = lm_model_walk(ctx, c, collect, s);
    if (err) lm_saver_close(s);
    return err;
}
void lm_saver_close(lm_saver *s) { lm_arena_free(s->a); s->a = NULL; }
lm_err lm_saver_dtype(lm_ctx *ctx, lm_dtype dtype) {
    return dtype == LM_F32 || dtype == LM_BF16 || dtype == LM_F16
               ? LM_OK
               : lm_fail(ctx, LM_E_UNSUPPORTED, "models are written in F32, BF16 or F16; got %s", lm_dtype_name(dtype));
}

enum { PIECE = 1 << 20, TILE = 1 << 14 };                   /* numbers */
typedef struct { const lm_save_item *v; int64_t r0, n, step; float *f, *back; double (*error)[4]; char *out; size_t row_bytes; } job;
static void quantize_row(const lm_save_item *v, const float *x, char *out) {
    if (v->search && v->quant->search) v->quant->search(v->quant, x, v->weight, v->cols, (void *const[]){ out });
    else v->quant->from_float(v->quant, x, v->cols, (void *const[]){ out });
}
static void row_error(const lm_save_item *v, const float *x, const char *row, float *y, double e[4]) {
    v->quant->to_float(v->quant, (const void *const[]){ row }, v->cols, y);
    e[0] = e[1] = e[2] = e[3] = 0;
    for (int64_t i = 0; i < v->cols; i++) {
        const double d = (double)y[i] - (double)x[i], w = v->weight ? (double)v->weight[i] : 1;
        e[0] += d * d; e[1] += (double)x[i] * (double)x[i]; e[2] += w * d * d; e[3] += w;
    }
}
static void get_rows(const lm_save_item *v, int64_t r0, int64_t n, float *dst) {
    if (v->transpose) {
        const size_t size = lm_dtype_size((lm_dtype)v->t.dtype);
        for (int64_t r = 0; r < n; r++)
            for (int64_t c = 0; c < v->cols; c++)
                lm_convert(dst + r * v->cols + c, LM_F32, (const char *)v->t.data + (size_t)(c * v->rows + r0 + r) * size,
                           (lm_dtype)v->t.dtype, 1);
        return;
    }
    if (!v->perm_heads) { lm_layout_get_rows(&v->t, r0, n, dst); return; }
    const int64_t total = v->t.dim[0], d = total / v->perm_heads, width = v->t.rank > 1 ? v->cols : 1;
    if (v->t.rank == 1) { n = total; r0 = 0; }              /* one row of numbers, each to its place */
    for (int64_t r = 0; r < n; r++) {
        const int64_t at = r0 + r, i = at % d, from = at - i + i / 2 + i % 2 * (d / 2);
        if (v->t.rank > 1) lm_layout_get_rows(&v->t, from, 1, dst + r * width);
        else lm_convert(dst + r, LM_F32, (const char *)v->t.data + (size_t)from * lm_dtype_size((lm_dtype)v->t.dtype), (lm_dtype)v->t.dtype, 1);
    }
}
static void tile(void *ud, int64_t k, int ith) {
    job *j = ud;
    (void)ith;
    const lm_save_item *v = j->v;
    const int64_t a = k * j->step, n = lm_min64(j->step, j->n - a);
    float *f = j->f + a * v->cols;
    get_rows(v, j->r0 + a, n, f);
    if (v->plus_one) for (int64_t i = 0; i < n * v->cols; i++) f[i] += 1.0f;
    char *out = j->out + (size_t)a * j->row_bytes;
    if (!v->quant) lm_convert(out, v->dtype, f, LM_F32, n * v->cols);
    else for (int64_t r = 0; r < n; r++) {
        quantize_row(v, f + r * v->cols, out + (size_t)r * j->row_bytes);
        if (v->error) row_error(v, f + r * v->cols, out + (size_t)r * j->row_bytes, j->back + (a + r) * v->cols, j->error[a + r]);
    }
}
lm_err lm_saver_write(lm_saver *s, const lm_save_item *v, lm_err (*write)(void *, const void *, size_t), void *to) {
    size_t row_bytes;
    lm_save_item fetched = *v;
    if (!s->store) { LM_TRY(s->from->fetch(s->from->ud, v->name, &fetched.t)); v = &fetched; }
    if (!lm_storage_bytes(v->quant ? LM_QUANT : v->dtype, v->quant, LM_PLAIN, 1, &v->cols, &row_bytes))
        return lm_fail(s->ctx, LM_E_INTERNAL, "%s: rows of %lld numbers cannot be written", v->name, (long long)v->cols);
    const int64_t per = lm_max64(1, lm_min64(v->rows, PIECE / lm_max64(v->cols, 1)));
    job j = { .v = v, .step = lm_max64(1, TILE / lm_max64(v->cols, 1)), .row_bytes = row_bytes };
    j.f = lm_alloc(s->ctx, LM_MEM_IO, (size_t)(per * v->cols) * 4 + 64);
    j.out = lm_alloc(s->ctx, LM_MEM_IO, (size_t)per * row_bytes + 64);
    if (v->error) {
        j.back = lm_alloc(s->ctx, LM_MEM_IO, (size_t)(per * v->cols) * 4 + 64);
        j.error = lm_alloc(s->ctx, LM_MEM_IO, (size_t)per * sizeof *j.error);
        memset(v->error, 0, sizeof *j.error);
    }
    lm_err err = j.f && j.out && (!v->error || (j.back && j.error)) ? LM_OK : LM_E_NOMEM;
    for (j.r0 = 0; !err && j.r0 < v->rows; j.r0 += j.n) {
        j.n = lm_min64(per, v->rows - j.r0);
        lm_pool_tiles(lm_ctx_pool(s->ctx), lm_ceil_div(j.n, j.step), tile, &j);
        if (v->error) for (int64_t r = 0; r < j.n; r++) for (int k = 0; k < 4; k++) v->error[k] += j.error[r][k];       /* in the order of rows */
        err = write(to, j.out, (size_t)j.n * row_bytes);
    }
    lm_free(s->ctx, j.f); lm_free(s->ctx, j.out); lm_free(s->ctx, j.back); lm_free(s->ctx, j.error);
    return err;
}
