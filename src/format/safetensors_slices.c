/* safetensors_slices.c — a folder of shards that hold slices: one file a process, whole tensors for the reader.
 *
 * Slices are sorted by name and first row; then one pass makes a tensor of each run of equal names and finds what overlaps, is missing or does not
 * fit. The names of the files are made here from their count, so none is taken from the folder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "format/safetensors_int.h"

void lm_st_shard_name(char out[LM_ST_SHARD_NAME], int i, int n) { snprintf(out, LM_ST_SHARD_NAME, "shard-%05d-of-%05d.safetensors", i + 1, n); }
static bool digits(const char **p, int64_t *v) {
    const char *s = *p;
    for (*v = 0; **p >= '0' && **p <= '9'; ++*p)
        if (__builtin_mul_overflow(*v, 10, v) || __builtin_add_overflow(*v, **p - '0', v)) return false;
    return *p > s && (*s != '0' || *p == s + 1);
}
/* How many shards the folder says it has: 0, it has none. Files of two sets are an error. */
static lm_err count(lm_ctx *ctx, const char *folder, int *out) {
    char **names, name[LM_ST_SHARD_NAME];
    int n;
    lm_err err = LM_OK;
    *out = 0;
    LM_TRY(lm_dir_list(ctx, folder, &names, &n));
    for (int i = 0; i < n && !err; i++) {
        int k = 0, of = 0;
        if (sscanf(names[i], "shard-%5d-of-%5d", &k, &of) != 2 || k < 1 || of < 1 || k > of || of > LM_ST_MAX_SHARDS) continue;
        lm_st_shard_name(name, k - 1, of);
        if (strcmp(names[i], name)) continue;
        if (*out && of != *out) err = lm_fail(ctx, LM_E_FORMAT, "%s: %s lies beside shards of %d: two checkpoints in one folder", folder, name, *out);
        *out = of;
    }
    lm_free(ctx, names);
    return err;
}
bool lm_st_is_sliced(lm_ctx *ctx, const char *folder) {
    char *whole;
    int n = 0;
    if (!lm_is_dir(folder) || lm_path_join(ctx, &whole, folder, "model.safetensors")) return false;
    const bool there = lm_exists(whole);
    lm_free(ctx, whole);
    return !there && (count(ctx, folder, &n) || n);
}

/* ---- reading ------------------------------------------------------------------------------------------------------------------------------ */
typedef struct { const lm_st_tensor *t; int64_t first, total; lm_hash128_t hash; int shard; } found;
static int64_t rows_of(const lm_st_tensor *t) { return t->rank ? t->dim[0] : 1; }
static int by_key(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }
static const char *meta_of(const lm_st_header *h, const char *key) {
    const char **hit = h->n_meta ? bsearch(&key, h->meta, (size_t)h->n_meta, 2 * sizeof *h->meta, by_key) : NULL;
    return hit ? hit[1] : NULL;
}
/* What the file says of its tensor k. */
static lm_err describe(lm_ctx *ctx, const lm_st_shard *s, int k, lm_str *key, found *out) {
    const lm_st_tensor *t = &s->h.t[k];
    lm_str_clear(key);
    lm_str_puts(key, LM_ST_SLICE_KEY); lm_str_puts(key, t->name);
    LM_TRY(lm_str_err(key));
    const char *p = meta_of(&s->h, key->p);
    if (!p) return lm_fail(ctx, LM_E_FORMAT, "%s: no metadata \"%s\": which rows of it are these?", s->path, key->p);
    out->t = t;
    const char *v = p;
    if (!digits(&p, &out->first) || *p++ != ' ' || !digits(&p, &out->total) || *p++ != ' ' || !lm_hash_parse(p, &out->hash))
        return lm_fail(ctx, LM_E_FORMAT, "%s: metadata \"%s\" is \"%.80s\", wanted its first row, the rows of all and a hash", s->path, key->p, v);
    const int64_t rows = rows_of(t);
    if (!rows || !t->bytes) return lm_fail(ctx, LM_E_FORMAT, "%s: the slice of \"%s\" is empty", s->path, t->name);
    if (rows > out->total || out->first > out->total - rows || (!t->rank && out->total != 1))
        return lm_fail(ctx, LM_E_FORMAT, "%s: \"%s\": %lld rows from row %lld on are not rows of %lld", s->path, t->name, (long long)rows,
                       (long long)out->first, (long long)out->total);
    int64_t all;
    if (__builtin_mul_overflow(t->bytes / rows, out->total, &all))
        return lm_fail(ctx, LM_E_FORMAT, "%s: \"%s\": %lld rows take more than 2^63 bytes", s->path, t->name, (long long)out->total);
    return LM_OK;
}
static int by_place(const void *a, const void *b) {
    const found *x = a, *y = b;
    const int c = strcmp(x->t->name, y->t->name);
    return c ? c : x->first != y->first ? x->first < y->first ? -1 : 1 : x->shard - y->shard;
}
static bool alike(const found *a, const found *b) {
    bool same = a->t->dtype == b->t->dtype && a->t->rank == b->t->rank && a->total == b->total;
    for (int k = 1; same && k < a->t->rank; k++) same = a->t->dim[k] == b->t->dim[k];
    return same;
}
/* v[n] are the slices of one tensor. */
static lm_err joined(lm_st *st, const found *v, int64_t n, int64_t **dim) {
    const lm_st_tensor *t = v->t;
    int64_t next = 0;
    for (int64_t i = 0; i <= n; i++) {
        const int64_t first = i < n ? v[i].first : v->total;
        if (i < n && i && !alike(v, &v[i]))
            return lm_fail(st->ctx, LM_E_FORMAT, "%s: the slice of \"%s\" has another type or shape than the one in %s", st->sh[v[i].shard].path, t->name,
                           st->sh[v->shard].path);
        if (first < next)
            return lm_fail(st->ctx, LM_E_FORMAT, "%s: row %lld of \"%s\" is in %s as well", st->sh[v[i].shard].path, (long long)first, t->name,
                           st->sh[v[i - 1].shard].path);
        if (first > next)
            return lm_fail(st->ctx, LM_E_FORMAT, "%s: rows %lld to %lld of \"%s\" are in no shard", st->path, (long long)next, (long long)(first - 1), t->name);
        if (i < n) next = first + rows_of(v[i].t);
    }
    lm_st_tensor *out = &st->t[st->n];
    *out = *t;
    if (t->rank) { memcpy(*dim, t->dim, (size_t)t->rank * sizeof **dim); (*dim)[0] = v->total; }
    out->dim = *dim; *dim += t->rank;
    const int64_t row = t->bytes / rows_of(t);
    out->bytes = row * v->total; out->shard = v->shard;
    if (n > 1) { out->slice = st->n_slice; out->n_slice = (int)n; }       /* a whole in one place is like any other tensor */
    for (int64_t i = 0; i < n; i++)
        st->slice[st->n_slice++] = (lm_st_slice){ .at = v[i].first * row, .bytes = v[i].t->bytes, .offset = v[i].t->offset, .hash = v[i].hash,
                                                  .shard = v[i].shard, .tensor = st->n };
    st->n++;
    return LM_OK;
}
/* What remains for users of the metadata. */
static void hide(lm_st_header *h) {
    int n = 0;
    for (int i = 0; i < h->n_meta; i++) {
        if (!strncmp(h->meta[2 * i], LM_ST_SLICE_KEY, sizeof LM_ST_SLICE_KEY - 1)) continue;
        h->meta[2 * n] = h->meta[2 * i]; h->meta[2 * n + 1] = h->meta[2 * i + 1];
        n++;
    }
    h->n_meta = n;
}
static lm_err collect(lm_st *st, bool model, found *v, int64_t *n) {
    lm_str key = { .ctx = st->ctx };
    lm_err err = LM_OK;
    for (int i = 0; i < st->n_sh && !err; i++) {
        lm_st_shard *s = &st->sh[i];
        const char *format = meta_of(&s->h, "format");
        if (!format || strcmp(format, LM_ST_SLICES))
            err = lm_fail(st->ctx, LM_E_FORMAT, "%s: its metadata says format \"%.40s\", wanted %s", s->path, format ? format : "", LM_ST_SLICES);
        else if (s->h.n_meta != s->h.n + 1)
            err = lm_fail(st->ctx, LM_E_FORMAT, "%s: %d entries of metadata for %d tensors, wanted \"format\" and one for each", s->path, s->h.n_meta, s->h.n);
        for (int k = 0; k < s->h.n && !err; k++) {
            v[*n].shard = i;
            err = describe(st->ctx, s, k, &key, &v[*n]);
            if (!err && !(model && strchr(s->h.t[k].name, '/'))) ++*n;
        }
        hide(&s->h);
    }
    lm_str_free(&key);
    return err;
}
static lm_err assemble(lm_st *st, bool model) {
    int64_t all = 0, n = 0;
    size_t dims = 0;
    for (int i = 0; i < st->n_sh; i++) { all += st->sh[i].h.n; dims += st->sh[i].h.n_dim; }
    if (all > INT32_MAX) return lm_fail(st->ctx, LM_E_RANGE, "%s: %lld slices in all shards", st->path, (long long)all);
    found *v = lm_calloc(st->ctx, LM_MEM_IO, (size_t)all + 1, sizeof *v);
    st->t = lm_calloc(st->ctx, LM_MEM_IO, (size_t)all + 1, sizeof *st->t);
    st->slice = lm_calloc(st->ctx, LM_MEM_IO, (size_t)all + 1, sizeof *st->slice);
    st->dim = lm_calloc(st->ctx, LM_MEM_IO, dims + 1, sizeof *st->dim);
    lm_err err = v && st->t && st->slice && st->dim ? collect(st, model, v, &n)
                                                    : lm_fail(st->ctx, LM_E_NOMEM, "%s: out of memory for %lld slices", st->path, (long long)all);
    if (!err && n) qsort(v, (size_t)n, sizeof *v, by_place);
    int64_t *dim = st->dim;
    for (int64_t i = 0, k; i < n && !err; i = k) {
        for (k = i + 1; k < n && !strcmp(v[k].t->name, v[i].t->name);) k++;
        err = joined(st, v + i, k - i, &dim);
    }
    lm_free(st->ctx, v);
    if (!err && st->n > LM_ST_MAX_TENSORS)
        err = lm_fail(st->ctx, LM_E_RANGE, "%s: %d tensors in all shards, the limit is %d", st->path, st->n, (int)LM_ST_MAX_TENSORS);
    return err ? err : lm_st_index(st);
}
lm_err lm_st_open_sliced(lm_st **out, lm_ctx *ctx, const char *folder, bool model) {
    int n;
    lm_st *st;
    *out = NULL;
    LM_TRY(count(ctx, folder, &n));
    if (!n) return LM_OK;
    LM_TRY(lm_st_start(&st, ctx, folder, n));
    lm_err err = LM_OK;
    for (int i = 0; i < n && !err; i++) {
        char name[LM_ST_SHARD_NAME];
        lm_st_shard_name(name, i, n);
        err = lm_path_join(ctx, &st->sh[i].path, folder, name);
        if (!err) err = lm_st_shard_open(st, &st->sh[i]);
    }
    if (!err) err = assemble(st, model);
    if (err) { lm_st_close(st); return err; }
    *out = st;
    return LM_OK;
}
lm_err lm_st_open_slices(lm_st **out, lm_ctx *ctx, const char *folder) {
    LM_TRY(lm_st_open_sliced(out, ctx, folder, false));
    return *out ? LM_OK : lm_fail(ctx, LM_E_NOTFOUND, "%s: no shard-00001-of-… is in this folder", folder);
}
lm_err lm_st_read_slices(lm_st *st, const lm_st_tensor *t, void *dst, int64_t from, int64_t bytes) {
    int lo = t->slice, hi = t->slice + t->n_slice - 1;                    /* the last slice that begins at or before from */
    while (lo < hi) { const int mid = lo + (hi - lo + 1) / 2; if (st->slice[mid].at <= from) lo = mid; else hi = mid - 1; }
    for (char *p = dst; bytes; lo++) {
        const lm_st_slice *s = &st->slice[lo];
        const int64_t skip = from - s->at, n = lm_min64(bytes, s->bytes - skip);
        LM_TRY(lm_file_pread(st->sh[s->shard].f, p, (size_t)n, s->offset + skip));
        p += n; from += n; bytes -= n;
    }
    return LM_OK;
}
lm_err lm_st_check(lm_st *st, int shard) {
    enum { PIECE = 1 << 20 };
    char *buf = lm_alloc(st->ctx, LM_MEM_IO, PIECE);
    lm_err err = buf ? LM_OK : LM_E_NOMEM;
    for (int i = 0; i < st->n_slice && !err; i++) {
        const lm_st_slice *s = &st->slice[i];
        const lm_st_tensor *t = &st->t[s->tensor];
        if (s->shard != shard) continue;
        lm_hasher *h = lm_hasher_new();
        if (!h) { err = LM_E_NOMEM; break; }
        for (int64_t at = 0; at < s->bytes && !err; at += PIECE) {
            const int64_t n = lm_min64(PIECE, s->bytes - at);
            if (!(err = lm_file_pread(st->sh[shard].f, buf, (size_t)n, s->offset + at))) lm_hasher_add(h, buf, (size_t)n);
        }
        const lm_hash128_t got = lm_hasher_get(h);
        lm_hasher_free(h);
        const int64_t row = t->bytes / rows_of(t);
        if (!err && !lm_hash_same(got, s->hash))
            err = lm_fail(st->ctx, LM_E_FORMAT, "%s: rows %lld to %lld of \"%s\" do not have the hash that is stated for them: the file was changed or is damaged",
                          st->sh[shard].path, (long long)(s->at / row), (long long)((s->at + s->bytes) / row - 1), t->name);
    }
    lm_free(st->ctx, buf);
    return err;
}
