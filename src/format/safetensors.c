/* safetensors.c — one shard is a file and its header; a model is one or many of them under one sorted list and one hash table. */
#include "format/safetensors.h"
#include "base/file.h"
#include "format/cursor.h"
#include "format/json.h"
#include "format/safetensors_int.h"
#include <stdlib.h>

static lm_err check_length(lm_ctx *ctx, const char *name, uint64_t len, int64_t file) {
    if (len > LM_ST_MAX_HEADER)
        return lm_fail(ctx, LM_E_FORMAT, "%s: the header claims %llu bytes, the limit is %d", name, (unsigned long long)len,
                       (int)LM_ST_MAX_HEADER);
    if ((int64_t)len > file - 8)
        return lm_fail(ctx, LM_E_FORMAT, "%s: the header claims %llu bytes, the file has %lld", name, (unsigned long long)len,
                       (long long)file);
    return LM_OK;
}
lm_err lm_st_shard_open(lm_st *st, lm_st_shard *s) {
    lm_ctx *ctx = st->ctx; uint64_t len;
    LM_TRY(lm_file_open(&s->f, ctx, s->path));
    int64_t size = lm_file_size(s->f);
    if (size < 8) return lm_fail(ctx, LM_E_FORMAT, "%s: %lld bytes are too few for a safetensors file", s->path, (long long)size);
    LM_TRY(lm_file_pread(s->f, &len, 8, 0));
    LM_TRY(check_length(ctx, s->path, len, size));
    char *text = lm_alloc(ctx, LM_MEM_IO, (size_t)len + 1);
    if (!text) return lm_fail(ctx, LM_E_NOMEM, "%s: out of memory for a header of %llu bytes", s->path, (unsigned long long)len);
    lm_err err = len ? lm_file_pread(s->f, text, (size_t)len, 8) : LM_OK;
    if (!err) err = lm_st_header_parse(ctx, s->path, text, (size_t)len, 8 + (int64_t)len, size - 8 - (int64_t)len, &s->h);
    lm_free(ctx, text);
    return err;
}

/* ---- the joint list ------------------------------------------------------------------------------------------ */
static int by_name(const void *a, const void *b) { return strcmp(((const lm_st_tensor *)a)->name, ((const lm_st_tensor *)b)->name); }
lm_err lm_st_index(lm_st *st) {
    lm_ctx *ctx = st->ctx;
    st->n_slot = 16;
    while (st->n_slot < 2 * (size_t)st->n) st->n_slot *= 2;
    if (!(st->slot = lm_calloc(ctx, LM_MEM_IO, st->n_slot, sizeof *st->slot)))
        return lm_fail(ctx, LM_E_NOMEM, "%s: out of memory for %d tensors", st->path, st->n);
    if (st->n) qsort(st->t, (size_t)st->n, sizeof *st->t, by_name);
    for (int i = 0; i < st->n; i++) {
        if (i && !strcmp(st->t[i].name, st->t[i - 1].name))
            return lm_fail(ctx, LM_E_FORMAT, "%s: tensor \"%s\" is given twice", st->sh[st->t[i].shard].path, st->t[i].name);
        size_t s = lm_hash64(st->t[i].name, strlen(st->t[i].name), 0) & (st->n_slot - 1);
        while (st->slot[s]) s = (s + 1) & (st->n_slot - 1);
        st->slot[s] = (uint32_t)i + 1;
    }
    return LM_OK;
}
static lm_err join(lm_st *st) {
    int64_t n = 0;
    for (int i = 0; i < st->n_sh; i++) n += st->sh[i].h.n;
    if (n > LM_ST_MAX_TENSORS)
        return lm_fail(st->ctx, LM_E_RANGE, "%s: %lld tensors in all shards, the limit is %d", st->path, (long long)n, (int)LM_ST_MAX_TENSORS);
    if (!(st->t = lm_calloc(st->ctx, LM_MEM_IO, (size_t)n + 1, sizeof *st->t)))
        return lm_fail(st->ctx, LM_E_NOMEM, "%s: out of memory for %lld tensors", st->path, (long long)n);
    for (int i = 0; i < st->n_sh; i++)
        for (int k = 0; k < st->sh[i].h.n; k++) { st->t[st->n] = st->sh[i].h.t[k]; st->t[st->n++].shard = i; }
    return lm_st_index(st);
}
lm_err lm_st_start(lm_st **out, lm_ctx *ctx, const char *path, int n_shards) {
    lm_st *st = lm_calloc(ctx, LM_MEM_IO, 1, sizeof *st);
    if (st) st->ctx = ctx;
    if (!st || !(st->path = lm_strdup(ctx, LM_MEM_IO, path)) || !(st->sh = lm_calloc(ctx, LM_MEM_IO, (size_t)n_shards, sizeof *st->sh))) {
        lm_st_close(st);
        return lm_fail(ctx, LM_E_NOMEM, "%s: out of memory", path);
    }
    st->n_sh = n_shards;
    *out = st;
    return LM_OK;
}
static lm_err open_one(lm_st **out, lm_ctx *ctx, const char *path) {
    lm_st *st; LM_TRY(lm_st_start(&st, ctx, path, 1));
    lm_err err = (st->sh[0].path = lm_strdup(ctx, LM_MEM_IO, path)) ? LM_OK : lm_fail(ctx, LM_E_NOMEM, "%s: out of memory", path);
    if (!err) err = lm_st_shard_open(st, &st->sh[0]);
    if (!err) err = join(st);
    if (err) { lm_st_close(st); return err; }
    *out = st;
    return LM_OK;
}
lm_err lm_st_open_mem(lm_st **out, lm_ctx *ctx, const char *name, const void *p, size_t n) {
    lm_cursor c = lm_cursor_of(p, n); uint64_t len; const uint8_t *text;
    if (!lm_take_u64(&c, &len)) return lm_fail(ctx, LM_E_FORMAT, "%s: %zu bytes are too few for a safetensors file", name, n);
    LM_TRY(check_length(ctx, name, len, (int64_t)n));
    if (!lm_take(&c, len, &text)) return lm_fail(ctx, LM_E_FORMAT, "%s: the header is cut short", name);
    lm_st *st; LM_TRY(lm_st_start(&st, ctx, name, 1));
    lm_st_shard *s = &st->sh[0];
    s->map = p; s->map_n = n;
    lm_err err = (s->path = lm_strdup(ctx, LM_MEM_IO, name)) ? LM_OK : lm_fail(ctx, LM_E_NOMEM, "%s: out of memory", name);
    if (!err) err = lm_st_header_parse(ctx, name, (const char *)text, (size_t)len, 8 + (int64_t)len, (int64_t)lm_cursor_left(&c), &s->h);
    if (!err) err = join(st);
    if (err) { lm_st_close(st); return err; }
    *out = st;
    return LM_OK;
}
void lm_st_close(lm_st *st) {
    if (!st) return;
    for (int i = 0; i < st->n_sh; i++) {
        lm_st_header_clear(st->ctx, &st->sh[i].h);
        if (st->sh[i].f) lm_file_close(st->sh[i].f);
        lm_free(st->ctx, st->sh[i].path);
    }
    lm_free(st->ctx, st->slice); lm_free(st->ctx, st->dim);
    lm_free(st->ctx, st->sh); lm_free(st->ctx, st->t); lm_free(st->ctx, st->slot); lm_free(st->ctx, st->path); lm_free(st->ctx, st);
}

/* ---- shards ---------------------------------------------------------------------------------------------------- */
static lm_err safe_shard_name(const lm_jv *at, const char *f) {
    size_t n = strlen(f);
    if (!n || n > 255 || strchr(f, '/') || strchr(f, '\\') || !strcmp(f, ".") || !strcmp(f, ".."))
        return lm_json_fail(at, LM_E_FORMAT, "the shard \"%.80s\" is not a plain file name of this folder", f);
    return LM_OK;
}
static int str_cmp(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }
static int shard_index(const char **files, int n, const char *f) {
    const char **hit = bsearch(&f, files, (size_t)n, sizeof *files, str_cmp);
    return hit ? (int)(hit - files) : -1;
}
static lm_err open_index_of(lm_st **out, lm_ctx *ctx, const char *path, json_t *root, char *dir, const char **files) {
    lm_jv r = lm_json_root(ctx, path, root), map, v; const char *key, *file; json_t *item; int n = 0;
    LM_TRY(lm_json_obj(&r, "weight_map", LM_JSON_NEED, &map));
    json_object_foreach(map.v, key, item) {
        LM_TRY(lm_json_get(&map, key, LM_JSON_NEED, &v));
        LM_TRY(lm_json_as_str(&v, &file, NULL));
        LM_TRY(safe_shard_name(&v, file));
        files[n++] = file;
    }
    if (!n) return lm_json_fail(&map, LM_E_FORMAT, "the index names no tensor");
    qsort(files, (size_t)n, sizeof *files, str_cmp);
    int u = 1;
    for (int i = 1; i < n; i++)
        if (strcmp(files[i], files[u - 1])) files[u++] = files[i];
    if (u > LM_ST_MAX_SHARDS) return lm_json_fail(&map, LM_E_RANGE, "%d shards, the limit is %d", u, (int)LM_ST_MAX_SHARDS);
    lm_st *st; LM_TRY(lm_st_start(&st, ctx, path, u));
    lm_err err = LM_OK;
    for (int i = 0; i < u && !err; i++) {
        err = lm_path_join(ctx, &st->sh[i].path, dir, files[i]);
        if (!err) err = lm_st_shard_open(st, &st->sh[i]);
    }
    if (!err) err = join(st);
    for (int i = 0; i < st->n && !err; i++) {
        const lm_st_tensor *t = &st->t[i];
        json_t *want = json_object_get(map.v, t->name);
        if (!want) err = lm_fail(ctx, LM_E_MISMATCH, "%s: tensor \"%s\" is not in the index %s", st->sh[t->shard].path, t->name, path);
        else if (shard_index(files, u, json_string_value(want)) != t->shard)
            err = lm_fail(ctx, LM_E_MISMATCH, "%s: tensor \"%s\" is here, but the index says %s", st->sh[t->shard].path, t->name,
                          json_string_value(want));
    }
    if (!err && (size_t)st->n != json_object_size(map.v)) json_object_foreach(map.v, key, item) if (!lm_st_find(st, key)) {
            err =
                lm_fail(ctx, LM_E_MISMATCH, "%s: tensor \"%s\" is not in %s, where the index puts it", path, key, json_string_value(item));
            break;
        }
    if (err) { lm_st_close(st); return err; }
    *out = st;
    return LM_OK;
}
static lm_err open_index(lm_st **out, lm_ctx *ctx, const char *path) {
    json_t *root; char *dir = NULL; const char **files = NULL;
    LM_TRY(lm_json_load(ctx, path, 0, &root));
    const char *slash = strrchr(path, '/');
    size_t n = json_object_size(json_object_get(root, "weight_map"));
    lm_err err = LM_OK;
    if (n > LM_ST_MAX_TENSORS) err = lm_fail(ctx, LM_E_RANGE, "%s: %zu tensors, the limit is %d", path, n, (int)LM_ST_MAX_TENSORS);
    else if (!(dir = lm_strdup(ctx, LM_MEM_IO, slash ? path : ".")) || !(files = lm_calloc(ctx, LM_MEM_IO, n + 1, sizeof *files)))
        err = lm_fail(ctx, LM_E_NOMEM, "%s: out of memory", path);
    else {
        if (slash) dir[slash == path ? 1 : slash - path] = 0;
        err = open_index_of(out, ctx, path, root, dir, files);
    }
    lm_free(ctx, dir); lm_free(ctx, files); lm_json_free(root);
    return err;
}
lm_err lm_st_open(lm_st **out, lm_ctx *ctx, const char *path) {
    size_t n = strlen(path);
    if (!lm_is_dir(path)) return n > 5 && !strcmp(path + n - 5, ".json") ? open_index(out, ctx, path) : open_one(out, ctx, path);
    char *one = NULL, *index = NULL;
    lm_err err = lm_path_join(ctx, &one, path, "model.safetensors");
    if (!err) err = lm_path_join(ctx, &index, path, "model.safetensors.index.json");
    if (!err) {
        if (lm_exists(one)) err = open_one(out, ctx, one);
        else if (lm_exists(index)) err = open_index(out, ctx, index);
        else if (!(err = lm_st_open_sliced(out, ctx, path, true)) && !*out)
            err = lm_fail(ctx, LM_E_NOTFOUND, "%s: neither model.safetensors nor model.safetensors.index.json is in this folder", path);
    }
    lm_free(ctx, one); lm_free(ctx, index);
    return err;
}

/* ---- use ------------------------------------------------------------------------------------------------------- */
const char *lm_st_path(const lm_st *st) { return st->path; }
int lm_st_count(const lm_st *st) { return st->n; }
const lm_st_tensor *lm_st_at(const lm_st *st, int i) { return i >= 0 && i < st->n ? &st->t[i] : NULL; }
int lm_st_shards(const lm_st *st) { return st->n_sh; }
const char *lm_st_shard_path(const lm_st *st, int i) { return i >= 0 && i < st->n_sh ? st->sh[i].path : NULL; }
const lm_st_tensor *lm_st_find(const lm_st *st, const char *name) {
    size_t s = lm_hash64(name, strlen(name), 0) & (st->n_slot - 1);
    for (; st->slot[s]; s = (s + 1) & (st->n_slot - 1))
        if (!strcmp(st->t[st->slot[s] - 1].name, name)) return &st->t[st->slot[s] - 1];
    return NULL;
}
lm_err lm_st_need(lm_st *st, const char *name, const lm_st_tensor **out) {
    const lm_st_tensor *t = lm_st_find(st, name);
    if (t) { *out = t; return LM_OK; }
    const char *near = NULL, **names = st->n ? lm_calloc(st->ctx, LM_MEM_IO, (size_t)st->n, sizeof *names) : NULL;
    if (names) {
        for (int i = 0; i < st->n; i++) names[i] = st->t[i].name;
        near = lm_nearest(name, names, st->n);
    }
    lm_err err = near ? lm_fail(st->ctx, LM_E_NOTFOUND, "%s: no tensor \"%s\" among %d; the nearest name is \"%s\"", st->path, name, st->n, near)
                      : lm_fail(st->ctx, LM_E_NOTFOUND, "%s: no tensor \"%s\" among %d", st->path, name, st->n);
    lm_free(st->ctx, names);
    return err;
}
lm_err lm_st_read(lm_st *st, const lm_st_tensor *t, void *dst, int64_t from, int64_t bytes) {
    if (from < 0 || bytes < 0 || from > t->bytes || bytes > t->bytes - from)
        return lm_fail(st->ctx, LM_E_RANGE, "%s: bytes %lld+%lld of tensor \"%s\", which has %lld", st->path, (long long)from,
                       (long long)bytes, t->name, (long long)t->bytes);
    lm_st_shard *s = &st->sh[t->shard];
    if (!bytes) return LM_OK;
    if (t->n_slice) return lm_st_read_slices(st, t, dst, from, bytes);
    if (s->f) return lm_file_pread(s->f, dst, (size_t)bytes, t->offset + from);
    memcpy(dst, s->map + t->offset + from, (size_t)bytes);
    return LM_OK;
}
bool lm_st_where(const lm_st *st, const lm_st_tensor *t, lm_file **file, int64_t *offset) {
    *file = st->sh[t->shard].f; *offset = t->offset;
    return *file && !t->n_slice;
}
lm_err lm_st_map(lm_st *st, const lm_st_tensor *t, const void **p) {
    lm_st_shard *s = &st->sh[t->shard];
    if (t->n_slice) { *p = NULL; return LM_OK; }
    if (!s->map) {
        const void *m; size_t n;
        LM_TRY(lm_file_map(s->f, &m, &n));
        if (t->offset > (int64_t)n || t->bytes > (int64_t)n - t->offset)
            return lm_fail(st->ctx, LM_E_FORMAT, "%s: the file shrank to %zu bytes", s->path, n);
        s->map = m; s->map_n = n;
    }
    if (t->offset > (int64_t)s->map_n || t->bytes > (int64_t)s->map_n - t->offset)
        return lm_fail(st->ctx, LM_E_FORMAT, "%s: the file shrank to %zu bytes", s->path, s->map_n);
    *p = s->map + t->offset;
    return LM_OK;
}
int lm_st_meta_count(const lm_st *st) { return st->sh[0].h.n_meta; }
void lm_st_meta_at(const lm_st *st, int i, const char **key, const char **value) {
    *key = st->sh[0].h.meta[2 * i];
    *value = st->sh[0].h.meta[2 * i + 1];
}
const char *lm_st_meta(const lm_st *st, const char *key) {
    const lm_st_header *h = &st->sh[0].h;
    const char **hit = h->n_meta ? bsearch(&key, h->meta, (size_t)h->n_meta, 2 * sizeof *h->meta, str_cmp) : NULL;
    return hit ? hit[1] : NULL;
}
