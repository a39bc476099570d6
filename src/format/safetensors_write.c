/* safetensors_write.c — sizes first: with every tensor declared the shards and their headers are known before a byte of data is written. */
#include "format/safetensors.h"
#include "base/file.h"
#include "format/cursor.h"
#include "format/safetensors_int.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct { const char *name; lm_dtype dtype; int rank, shard; int64_t dim[LM_ST_MAX_RANK], bytes; } decl;
struct lm_st_writer {
    lm_ctx *ctx; lm_arena *a; const char *path;
    int64_t max_shard;
    decl *t; int n, cap;
    const char **meta; int n_meta, cap_meta;
    bool begun, sliced; lm_err failed;
    int n_shards, i_tensor;             /* the tensor that the next byte belongs to */
    int64_t left;                       /* of it */
    lm_out *out; int i_shard;
    lm_hasher *hasher; lm_hash128_t *hash; int64_t *bytes;      /* lm_st_writer_sum */
};

lm_err lm_st_writer_new(lm_st_writer **out, lm_ctx *ctx, const char *path, int64_t max_shard_bytes) {
    if (max_shard_bytes < 0) return lm_fail(ctx, LM_E_RANGE, "%s: a shard limit of %lld bytes", path, (long long)max_shard_bytes);
    lm_arena *a; LM_TRY(lm_arena_new(&a, ctx, LM_MEM_IO, 0));
    lm_st_writer *w = lm_arena_alloc(a, sizeof *w);
    if (!w || !(w->path = lm_arena_strdup(a, path))) { lm_arena_free(a); return lm_fail(ctx, LM_E_NOMEM, "%s: out of memory", path); }
    w->ctx = ctx; w->a = a; w->max_shard = max_shard_bytes; w->i_shard = -1;
    *out = w;
    return LM_OK;
}
void lm_st_writer_abort(lm_st_writer *w) {
    if (!w) return;
    lm_out_abort(w->out); lm_hasher_free(w->hasher);
    lm_free(w->ctx, w->t); lm_free(w->ctx, w->meta);
    lm_arena_free(w->a);
}
lm_err lm_st_writer_meta(lm_st_writer *w, const char *key, const char *value) {
    if (w->begun) return lm_fail(w->ctx, LM_E_INTERNAL, "%s: metadata \"%s\" comes after the first data", w->path, key);
    if (!lm_utf8_ok(key, strlen(key)) || !lm_utf8_ok(value, strlen(value)))
        return lm_fail(w->ctx, LM_E_FORMAT, "%s: metadata \"%s\" is not UTF-8", w->path, key);
    if (w->n_meta == w->cap_meta) {
        int cap = w->cap_meta ? w->cap_meta * 2 : 8;
        const char **m = lm_realloc(w->ctx, LM_MEM_IO, w->meta, (size_t)cap * 2 * sizeof *m);
        if (!m) return lm_fail(w->ctx, LM_E_NOMEM, "%s: out of memory", w->path);
        w->meta = m; w->cap_meta = cap;
    }
    const char *k = lm_arena_strdup(w->a, key), *v = lm_arena_strdup(w->a, value);
    if (!k || !v) return lm_fail(w->ctx, LM_E_NOMEM, "%s: out of memory", w->path);
    w->meta[2 * w->n_meta] = k; w->meta[2 * w->n_meta + 1] = v; w->n_meta++;
    return LM_OK;
}
lm_err lm_st_writer_add(lm_st_writer *w, const char *name, lm_dtype dtype, int rank, const int64_t *dim) {
    if (w->begun) return lm_fail(w->ctx, LM_E_INTERNAL, "%s: tensor \"%s\" is declared after the first data", w->path, name);
    if (!strcmp(name, "__metadata__") || !lm_utf8_ok(name, strlen(name)))
        return lm_fail(w->ctx, LM_E_FORMAT, "%s: \"%s\" cannot name a tensor", w->path, name);
    if (rank < 0 || rank > LM_ST_MAX_RANK)
        return lm_fail(w->ctx, LM_E_SHAPE, "%s: tensor \"%s\" has rank %d, the limit is %d", w->path, name, rank, (int)LM_ST_MAX_RANK);
    if (w->n >= LM_ST_MAX_TENSORS) return lm_fail(w->ctx, LM_E_RANGE, "%s: more than %d tensors", w->path, (int)LM_ST_MAX_TENSORS);
    decl d = { .dtype = dtype, .rank = rank };
    size_t size = 0;
#define X(nm, st, b, f) if (dtype == LM_##nm) size = (b);
    LM_DTYPE_MAP(X)
#undef X
    if (!size) return lm_fail(w->ctx, LM_E_UNSUPPORTED, "%s: tensor \"%s\": safetensors has no such dtype; write its components", w->path, name);
    d.bytes = (int64_t)size;
    for (int i = 0; i < rank; i++) {
        d.dim[i] = dim[i];
        if (dim[i] < 0 || __builtin_mul_overflow(d.bytes, dim[i], &d.bytes))
            return lm_fail(w->ctx, LM_E_SHAPE, "%s: tensor \"%s\": dimension %d is %lld", w->path, name, i, (long long)dim[i]);
    }
    if (w->n == w->cap) {
        int cap = w->cap ? w->cap * 2 : 64;
        decl *t = lm_realloc(w->ctx, LM_MEM_IO, w->t, (size_t)cap * sizeof *t);
        if (!t) return lm_fail(w->ctx, LM_E_NOMEM, "%s: out of memory for %d tensors", w->path, cap);
        w->t = t; w->cap = cap;
    }
    if (!(d.name = lm_arena_strdup(w->a, name))) return lm_fail(w->ctx, LM_E_NOMEM, "%s: out of memory", w->path);
    w->t[w->n++] = d;
    return LM_OK;
}

lm_err lm_st_writer_slice(lm_st_writer *w, const char *name, lm_dtype dtype, int rank, const int64_t *dim, int64_t first, int64_t rows,
                          lm_hash128_t hash) {
    int64_t own[LM_ST_MAX_RANK] = { 0 };
    char value[100], h[33];
    lm_hash_hex(hash, h);
    if (rank > 0 && rank <= LM_ST_MAX_RANK) { memcpy(own, dim, (size_t)rank * sizeof *own); own[0] = rows; }
    if (!w->sliced) LM_TRY(lm_st_writer_meta(w, "format", LM_ST_SLICES));
    w->sliced = true;
    LM_TRY(lm_st_writer_add(w, name, dtype, rank, own));
    const char *key = lm_arena_printf(w->a, "%s%s", LM_ST_SLICE_KEY, name);
    if (!key) return lm_fail(w->ctx, LM_E_NOMEM, "%s: out of memory", w->path);
    snprintf(value, sizeof value, "%lld %lld %s", (long long)first, (long long)(rank ? dim[0] : 1), h);
    return lm_st_writer_meta(w, key, value);
}
lm_err lm_st_writer_sum(lm_st_writer *w, lm_hash128_t *hash, int64_t *bytes) {
    if (w->begun || w->max_shard) return lm_fail(w->ctx, LM_E_INTERNAL, "%s: the sum of a file is asked for too late, or of a folder", w->path);
    if (!w->hasher && !(w->hasher = lm_hasher_new())) return lm_fail(w->ctx, LM_E_NOMEM, "%s: out of memory", w->path);
    w->hash = hash; w->bytes = bytes;
    return LM_OK;
}

static int ptr_cmp(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }
/* names[n] is sorted here. */
static lm_err unique(lm_st_writer *w, const char **names, int n, const char *what) {
    qsort(names, (size_t)n, sizeof *names, ptr_cmp);
    for (int i = 1; i < n; i++)
        if (!strcmp(names[i], names[i - 1])) return lm_fail(w->ctx, LM_E_CONFIG, "%s: %s \"%s\" is declared twice", w->path, what, names[i]);
    return LM_OK;
}
static lm_err check_unique(lm_st_writer *w) {
    const char **names = lm_calloc(w->ctx, LM_MEM_IO, (size_t)(w->n > w->n_meta ? w->n : w->n_meta) + 1, sizeof *names);
    if (!names) return lm_fail(w->ctx, LM_E_NOMEM, "%s: out of memory", w->path);
    for (int i = 0; i < w->n; i++) names[i] = w->t[i].name;
    lm_err err = unique(w, names, w->n, "tensor");
    for (int i = 0; i < w->n_meta; i++) names[i] = w->meta[2 * i];
    if (!err) err = unique(w, names, w->n_meta, "metadata");
    lm_free(w->ctx, names);
    return err;
}
static lm_err put(lm_st_writer *w, const void *p, size_t n) {
    LM_TRY(lm_out_write(w->out, p, n));
    if (w->hasher) { lm_hasher_add(w->hasher, p, n); *w->bytes = lm_out_tell(w->out); }
    return LM_OK;
}
static void shard_name(const lm_st_writer *w, int i, char out[64]) {
    if (w->n_shards == 1) snprintf(out, 64, "model.safetensors");
    else snprintf(out, 64, "model-%05d-of-%05d.safetensors", i + 1, w->n_shards);
}
static lm_err in_folder(lm_st_writer *w, const char *name, bool *there) {
    char *p; LM_TRY(lm_path_join(w->ctx, &p, w->path, name));
    *there = lm_exists(p);
    lm_free(w->ctx, p);
    return LM_OK;
}
static lm_err begin(lm_st_writer *w) {
    LM_TRY(check_unique(w));
    w->n_shards = 1;
    if (w->max_shard) {
        bool one, index;
        LM_TRY(lm_dir_make(w->ctx, w->path));
        LM_TRY(in_folder(w, "model.safetensors", &one));
        LM_TRY(in_folder(w, "model.safetensors.index.json", &index));
        if (one || index)
            return lm_fail(w->ctx, LM_E_CONFIG, "%s: already holds a model (model.safetensors%s): write into an empty folder", w->path,
                           one ? "" : ".index.json");
        int64_t used = 0;
        for (int i = 0; i < w->n; i++) {
            if (i && used && w->t[i].bytes > w->max_shard - used) { w->n_shards++; used = 0; }
            used = w->t[i].bytes > INT64_MAX - used ? INT64_MAX : used + w->t[i].bytes;
            w->t[i].shard = w->n_shards - 1;
        }
        if (w->n_shards > LM_ST_MAX_SHARDS)
            return lm_fail(w->ctx, LM_E_RANGE, "%s: %d shards, the limit is %d: raise the shard size", w->path, w->n_shards,
                           (int)LM_ST_MAX_SHARDS);
    }
    w->begun = true;
    return LM_OK;
}
static lm_err open_shard(lm_st_writer *w, int i) {
    char *path = NULL; const char *use = w->path; char file[64];
    if (w->max_shard) { shard_name(w, i, file); LM_TRY(lm_path_join(w->ctx, &path, w->path, file)); use = path; }
    lm_str s = { .ctx = w->ctx };
    lm_str_putc(&s, '{');
    if (w->n_meta) {
        lm_str_puts(&s, "\"__metadata__\":{");
        for (int k = 0; k < w->n_meta; k++) {
            if (k) lm_str_putc(&s, ',');
            lm_str_json(&s, w->meta[2 * k], strlen(w->meta[2 * k]));
            lm_str_putc(&s, ':');
            lm_str_json(&s, w->meta[2 * k + 1], strlen(w->meta[2 * k + 1]));
        }
        lm_str_putc(&s, '}');
    }
    int64_t at = 0; lm_err err = LM_OK;
    for (int k = 0; k < w->n; k++) {
        const decl *t = &w->t[k];
        if (t->shard != i) continue;
        if (s.n > 1) lm_str_putc(&s, ',');
        lm_str_json(&s, t->name, strlen(t->name));
        lm_str_printf(&s, ":{\"dtype\":\"%s\",\"shape\":[", lm_dtype_name(t->dtype));
        for (int d = 0; d < t->rank; d++) lm_str_printf(&s, d ? ",%lld" : "%lld", (long long)t->dim[d]);
        int64_t end;
        if (__builtin_add_overflow(at, t->bytes, &end)) {
            err = lm_fail(w->ctx, LM_E_RANGE, "%s: the tensors take more than 2^63 bytes", use);
            break;
        }
        lm_str_printf(&s, "],\"data_offsets\":[%lld,%lld]}", (long long)at, (long long)end);
        at = end;
    }
    lm_str_putc(&s, '}');
    while ((s.n + 8) % 64 && !s.bad) lm_str_putc(&s, ' ');
    if (!err && (err = lm_str_err(&s))) lm_fail(w->ctx, err, "%s: out of memory for the header", use);
    if (!err && s.n > LM_ST_MAX_HEADER)
        err = lm_fail(w->ctx, LM_E_RANGE, "%s: the header takes %zu bytes, the limit is %d", use, s.n, (int)LM_ST_MAX_HEADER);
    uint64_t n = s.n;
    if (!err) err = lm_out_open(&w->out, w->ctx, use);
    if (!err) err = put(w, &n, 8);
    if (!err) err = put(w, s.p, s.n);
    lm_str_free(&s);
    lm_free(w->ctx, path);
    w->i_shard = i;
    return err;
}
/* Step to the next tensor that wants bytes, finishing and opening shards on the way. */
static lm_err advance(lm_st_writer *w) {
    while (w->left == 0 && w->i_tensor < w->n) {
        const decl *t = &w->t[w->i_tensor];
        if (t->shard != w->i_shard) {
            if (w->out) { lm_out *o = w->out; w->out = NULL; LM_TRY(lm_out_commit(o)); }
            LM_TRY(open_shard(w, t->shard));
        }
        if (t->bytes) { w->left = t->bytes; break; }
        w->i_tensor++;
    }
    return LM_OK;
}
static lm_err write_some(lm_st_writer *w, const uint8_t *p, size_t n) {
    if (!w->begun) LM_TRY(begin(w));
    LM_TRY(advance(w));
    while (n) {
        if (w->i_tensor >= w->n) return lm_fail(w->ctx, LM_E_INTERNAL, "%s: %zu bytes more than the declared tensors take", w->path, n);
        size_t k = (uint64_t)w->left < n ? (size_t)w->left : n;
        LM_TRY(put(w, p, k));
        p += k; n -= k; w->left -= (int64_t)k;
        if (!w->left) { w->i_tensor++; LM_TRY(advance(w)); }
    }
    return LM_OK;
}
lm_err lm_st_writer_write(lm_st_writer *w, const void *p, size_t n) {
    if (w->failed) return w->failed;
    return w->failed = write_some(w, p, n);
}
static lm_err write_index(lm_st_writer *w) {
    lm_str s = { .ctx = w->ctx }; int64_t total = 0; char file[64], *path = NULL;
    for (int i = 0; i < w->n; i++) total += w->t[i].bytes;
    lm_str_printf(&s, "{\n  \"metadata\": {\"total_size\": %lld},\n  \"weight_map\": {", (long long)total);
    for (int i = 0; i < w->n; i++) {
        shard_name(w, w->t[i].shard, file);
        lm_str_puts(&s, i ? ",\n    " : "\n    ");
        lm_str_json(&s, w->t[i].name, strlen(w->t[i].name));
        lm_str_printf(&s, ": \"%s\"", file);
    }
    lm_str_puts(&s, "\n  }\n}\n");
    lm_err err = lm_str_err(&s);
    if (err) lm_fail(w->ctx, err, "%s: out of memory for the index", w->path);
    if (!err) err = lm_path_join(w->ctx, &path, w->path, "model.safetensors.index.json");
    if (!err) err = lm_file_write_atomic(w->ctx, path, s.p, s.n);
    lm_str_free(&s);
    lm_free(w->ctx, path);
    return err;
}
lm_err lm_st_writer_commit(lm_st_writer *w) {
    lm_err err = w->failed ? w->failed : write_some(w, NULL, 0);
    if (!err && w->i_tensor < w->n)
        err = lm_fail(w->ctx, LM_E_INTERNAL, "%s: tensor \"%s\" still wants %lld bytes", w->path, w->t[w->i_tensor].name, (long long)w->left);
    if (!err && w->i_shard < 0) err = open_shard(w, 0);        /* no tensors at all */
    if (!err && w->out) { lm_out *o = w->out; w->out = NULL; err = lm_out_commit(o); }
    if (!err && w->n_shards > 1) err = write_index(w);
    if (!err && w->hasher) *w->hash = lm_hasher_get(w->hasher);
    lm_st_writer_abort(w);
    return err;
}
