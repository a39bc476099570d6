/* slice_rig.h — a whole checkpoint cut into shards as several ranks would have written it: for test_checkpoint.c and fuzz_checkpoint.c.
 * Lifetime: none.  Threads: one.  Errors: of the library. */
#ifndef LM_SLICE_RIG_H
#define LM_SLICE_RIG_H
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "train/train_int.h"

/* What one may do to a slice on its way; false: it is left out. */
typedef struct { int shard; char name[300]; lm_dtype dtype; int rank; int64_t dim[LM_ST_MAX_RANK], first, rows; lm_hash128_t hash; } cut_slice;
typedef struct { bool (*edit)(cut_slice *s, int number); bool again; /* vectors are in two shards */ } cut_opts;
static lm_err cut_one(lm_ctx *ctx, lm_st_writer **w, lm_st *f, const char *group, int n, int *number, const cut_opts *o, bool declare) {
    lm_err err = LM_OK;
    for (int i = 0; i < lm_st_count(f) && !err; i++) {
        const lm_st_tensor *t = lm_st_at(f, i);
        const int64_t rows = t->rank ? t->dim[0] : 1, each = t->rank > 1 ? lm_ceil_div(rows, n) : rows;
        for (int r = 0; r < n && !err; r++) {
            cut_slice s = { .shard = r, .dtype = t->dtype, .rank = t->rank, .first = t->rank > 1 ? lm_min64(rows, r * each) : 0 };
            s.rows = t->rank > 1 ? lm_min64(each, rows - s.first) : i % n == r ? rows : 0;
            if (s.rows <= 0) continue;
            const int64_t row = t->bytes / rows;
            char *data = lm_alloc(ctx, LM_MEM_IO, (size_t)(s.rows * row) + 1);
            if (!data) return LM_E_NOMEM;
            err = lm_st_read(f, t, data, s.first * row, s.rows * row);
            const int64_t have = s.rows;
            s.hash = lm_hash128(data, (size_t)(have * row));
            snprintf(s.name, sizeof s.name, "%s%s", group, t->name);
            if (t->rank) memcpy(s.dim, t->dim, (size_t)t->rank * sizeof *s.dim);
            const int k = (*number)++;
            if (!err && (!o || !o->edit || o->edit(&s, k))) {
                const size_t bytes = (size_t)(lm_min64(have, s.rows) * row);
                for (int twice = 0; twice <= (o && o->again && s.rank == 1) && !err; twice++) {
                    lm_st_writer *to = w[(s.shard + twice) % n];
                    err = declare ? lm_st_writer_slice(to, s.name, s.dtype, s.rank, s.dim, s.first, s.rows, s.hash) : lm_st_writer_write(to, data, bytes);
                }
            }
            lm_free(ctx, data);
        }
    }
    return err;
}
/* FROM, a whole checkpoint, as TO, one of n shards with a manifest that fits it. */
static lm_err cut_checkpoint(lm_ctx *ctx, const char *from, const char *to, int n, const cut_opts *o) {
    enum { MOST = 16 };
    lm_st_writer *w[MOST] = { 0 };
    lm_st *f[2] = { 0 };
    lm_manifest m, was;
    char path[700];
    lm_err err = lm_manifest_read(ctx, from, &was);
    m = was; m.file = NULL;
    if (!err) err = lm_manifest_new(ctx, n, &m);
    if (!err) err = lm_dir_make(ctx, to);
    for (int i = 0; i < 2 && !err; i++) { snprintf(path, sizeof path, "%s/%s", from, was.file[1 + i].name); err = lm_st_open(&f[i], ctx, path); }
    for (int r = 0; r < n && !err; r++) {
        snprintf(path, sizeof path, "%s/%s", to, m.file[1 + r].name);
        err = lm_st_writer_new(&w[r], ctx, path, 0);
        if (!err) err = lm_st_writer_sum(w[r], &m.file[1 + r].hash, &m.file[1 + r].bytes);
    }
    for (int declare = 1; declare >= 0 && !err; declare--) {
        int number = 0;
        err = cut_one(ctx, w, f[0], "", n, &number, o, declare);
        if (!err) err = cut_one(ctx, w, f[1], LM_CKPT_GROUP, n, &number, o, declare);
    }
    for (int r = 0; r < n; r++) {
        if (err) lm_st_writer_abort(w[r]); else err = lm_st_writer_commit(w[r]);
    }
    char *text; size_t bytes;
    snprintf(path, sizeof path, "%s/config.json", from);
    if (!err && !(err = lm_file_read_all(ctx, path, 1 << 20, &text, &bytes))) {
        snprintf(path, sizeof path, "%s/config.json", to);
        err = lm_file_write_atomic(ctx, path, text, bytes);
        lm_free(ctx, text);
    }
    if (!err) err = lm_manifest_sum(ctx, to, &m.file[0]);
    if (!err) err = lm_manifest_write(ctx, to, &m, "");
    lm_st_close(f[0]); lm_st_close(f[1]);
    lm_manifest_free(ctx, &m); lm_manifest_free(ctx, &was);
    return err;
}
#endif
