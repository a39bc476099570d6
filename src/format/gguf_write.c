/* gguf_write.c — metadata is serialized as it is put, tensor infos when the first data comes; then data streams through with padding.
 * Always version 3. */
#include "format/gguf.h"
#include "base/file.h"
#include "format/cursor.h"
#include <stdlib.h>

enum { MAX_TENSOR_NAME = 63 };           /* llama.cpp keeps names in 64 bytes */
typedef struct { const char *name; const lm_ggml_type *type; int rank; int64_t dim[LM_GGUF_MAX_DIMS], bytes; } decl;
struct lm_gguf_writer {
    lm_ctx *ctx; lm_arena *a; const char *path;
    int64_t align;
    lm_str kv; int64_t n_kv;
    const char **keys; int cap_keys;
    decl *t; int n, cap;
    bool begun; lm_err failed;
    int i_tensor; int64_t left;
    lm_out *out;
};
static lm_err no_memory(const lm_gguf_writer *w) { return lm_fail(w->ctx, LM_E_NOMEM, "%s: out of memory", w->path); }
static void put64(lm_str *s, uint64_t v) { lm_str_add(s, &v, 8); }
static void put32(lm_str *s, uint32_t v) { lm_str_add(s, &v, 4); }

lm_err lm_gguf_writer_new(lm_gguf_writer **out, lm_ctx *ctx, const char *path, int64_t alignment) {
    int64_t al = alignment ? alignment : 32;
    if (al < 8 || al > LM_GGUF_MAX_ALIGN || al & (al - 1))
        return lm_fail(ctx, LM_E_RANGE, "%s: alignment %lld; wanted a power of two from 8 to %d", path, (long long)alignment,
                       (int)LM_GGUF_MAX_ALIGN);
    lm_arena *a; LM_TRY(lm_arena_new(&a, ctx, LM_MEM_IO, 0));
    lm_gguf_writer *w = lm_arena_alloc(a, sizeof *w);
    if (!w || !(w->path = lm_arena_strdup(a, path))) { lm_arena_free(a); return lm_fail(ctx, LM_E_NOMEM, "%s: out of memory", path); }
    w->ctx = ctx; w->a = a; w->align = al; w->kv.ctx = ctx;
    lm_err err = al == 32 ? LM_OK : lm_gguf_put_u32(w, "general.alignment", (uint32_t)al);
    if (err) { lm_gguf_writer_abort(w); return err; }
    *out = w;
    return LM_OK;
}
void lm_gguf_writer_abort(lm_gguf_writer *w) {
    if (!w) return;
    lm_out_abort(w->out);
    lm_str_free(&w->kv);
    lm_free(w->ctx, w->keys); lm_free(w->ctx, w->t);
    lm_arena_free(w->a);
}

/* ---- metadata -------------------------------------------------------------------------------------------------- */
static lm_err put_key(lm_gguf_writer *w, const char *key, lm_gguf_type type) {
    size_t n = strlen(key);
    if (w->begun) return lm_fail(w->ctx, LM_E_INTERNAL, "%s: key \"%s\" comes after the first data", w->path, key);
    if (!n || n > LM_GGUF_MAX_NAME || !lm_utf8_ok(key, n)) return lm_fail(w->ctx, LM_E_FORMAT, "%s: \"%.80s\" cannot be a key", w->path, key);
    for (int64_t i = 0; i < w->n_kv; i++)
        if (!strcmp(w->keys[i], key))
            return lm_fail(w->ctx, LM_E_CONFIG, "%s: key \"%s\" is given twice%s", w->path, key,
                           strcmp(key, "general.alignment") ? "" : " (the alignment is an argument of the writer)");
    if (w->n_kv == w->cap_keys) {
        int cap = w->cap_keys ? w->cap_keys * 2 : 64;
        const char **k = lm_realloc(w->ctx, LM_MEM_IO, w->keys, (size_t)cap * sizeof *k);
        if (!k) return no_memory(w);
        w->keys = k; w->cap_keys = cap;
    }
    if (!(w->keys[w->n_kv] = lm_arena_strdup(w->a, key))) return no_memory(w);
    w->n_kv++;
    put64(&w->kv, n); lm_str_add(&w->kv, key, n); put32(&w->kv, (uint32_t)type);
    return LM_OK;
}
static lm_err done(lm_gguf_writer *w) { return lm_str_err(&w->kv) ? (w->failed = no_memory(w)) : LM_OK; }
static size_t item_size(lm_gguf_type t) {
    switch (t) {
    case LM_GGUF_U8: case LM_GGUF_I8: case LM_GGUF_BOOL: return 1;
    case LM_GGUF_U16: case LM_GGUF_I16: return 2;
    case LM_GGUF_U32: case LM_GGUF_I32: case LM_GGUF_F32: return 4;
    case LM_GGUF_U64: case LM_GGUF_I64: case LM_GGUF_F64: return 8;
    default: return 0;
    }
}
lm_err lm_gguf_put_scalar(lm_gguf_writer *w, const char *key, lm_gguf_type type, const void *v) {
    size_t n = item_size(type);
    if (!n) return lm_fail(w->ctx, LM_E_INTERNAL, "%s: key \"%s\": %s is not a scalar type", w->path, key, lm_gguf_type_name((int)type));
    if (!strcmp(key, "general.alignment")) {
        uint32_t al = 0;
        if (type == LM_GGUF_U32) memcpy(&al, v, 4);
        if ((int64_t)al != w->align) return lm_fail(w->ctx, LM_E_CONFIG, "%s: general.alignment is an argument of the writer", w->path);
    }
    LM_TRY(put_key(w, key, type));
    lm_str_add(&w->kv, v, n);
    return done(w);
}
lm_err lm_gguf_put_u32(lm_gguf_writer *w, const char *key, uint32_t v) { return lm_gguf_put_scalar(w, key, LM_GGUF_U32, &v); }
lm_err lm_gguf_put_i32(lm_gguf_writer *w, const char *key, int32_t v) { return lm_gguf_put_scalar(w, key, LM_GGUF_I32, &v); }
lm_err lm_gguf_put_u64(lm_gguf_writer *w, const char *key, uint64_t v) { return lm_gguf_put_scalar(w, key, LM_GGUF_U64, &v); }
lm_err lm_gguf_put_f32(lm_gguf_writer *w, const char *key, float v) { return lm_gguf_put_scalar(w, key, LM_GGUF_F32, &v); }
lm_err lm_gguf_put_bool(lm_gguf_writer *w, const char *key, bool v) { uint8_t b = v; return lm_gguf_put_scalar(w, key, LM_GGUF_BOOL, &b); }
lm_err lm_gguf_put_str(lm_gguf_writer *w, const char *key, const char *s, size_t n) {
    LM_TRY(put_key(w, key, LM_GGUF_STR));
    put64(&w->kv, n); lm_str_add(&w->kv, s, n);
    return done(w);
}
lm_err lm_gguf_put_arr(lm_gguf_writer *w, const char *key, lm_gguf_type item, const void *v, int64_t n) {
    size_t bytes;
    if (n < 0 || !item_size(item) || !lm_mul_ok((size_t)n, item_size(item), &bytes))
        return lm_fail(w->ctx, LM_E_INTERNAL, "%s: key \"%s\": an array of %lld items of type %s", w->path, key, (long long)n,
                       lm_gguf_type_name((int)item));
    LM_TRY(put_key(w, key, LM_GGUF_ARR));
    put32(&w->kv, (uint32_t)item); put64(&w->kv, (uint64_t)n); lm_str_add(&w->kv, v, bytes);
    return done(w);
}
lm_err lm_gguf_put_arr_str(lm_gguf_writer *w, const char *key, const char *const *s, const size_t *len, int64_t n) {
    if (n < 0) return lm_fail(w->ctx, LM_E_INTERNAL, "%s: key \"%s\": an array of %lld items", w->path, key, (long long)n);
    LM_TRY(put_key(w, key, LM_GGUF_ARR));
    put32(&w->kv, LM_GGUF_STR); put64(&w->kv, (uint64_t)n);
    for (int64_t i = 0; i < n; i++) {
        size_t k = len ? len[i] : strlen(s[i]);
        put64(&w->kv, k); lm_str_add(&w->kv, s[i], k);
    }
    return done(w);
}

/* ---- tensors --------------------------------------------------------------------------------------------------- */
lm_err lm_gguf_writer_add(lm_gguf_writer *w, const char *name, const lm_ggml_type *type, int rank, const int64_t *dim) {
    size_t len = strlen(name);
    if (w->begun) return lm_fail(w->ctx, LM_E_INTERNAL, "%s: tensor \"%s\" is declared after the first data", w->path, name);
    if (!len || len > MAX_TENSOR_NAME || !lm_utf8_ok(name, len))
        return lm_fail(w->ctx, LM_E_FORMAT, "%s: tensor name \"%.80s\": wanted 1..%d bytes of UTF-8", w->path, name, (int)MAX_TENSOR_NAME);
    if (rank < 1 || rank > LM_GGUF_MAX_DIMS)
        return lm_fail(w->ctx, LM_E_SHAPE, "%s: tensor \"%s\": rank %d, wanted 1..%d", w->path, name, rank, (int)LM_GGUF_MAX_DIMS);
    if (dim[rank - 1] % type->block)
        return lm_fail(w->ctx, LM_E_SHAPE, "%s: tensor \"%s\": %lld columns are no multiple of the block of %s (%d)", w->path, name,
                       (long long)dim[rank - 1], type->name, type->block);
    decl d = { .type = type, .rank = rank, .bytes = type->bytes };
    for (int i = 0; i < rank; i++) {
        d.dim[i] = dim[i];
        int64_t k = i == rank - 1 ? dim[i] / type->block : dim[i];
        if (dim[i] < 1 || __builtin_mul_overflow(d.bytes, k, &d.bytes))
            return lm_fail(w->ctx, LM_E_SHAPE, "%s: tensor \"%s\": dimension %d is %lld", w->path, name, i, (long long)dim[i]);
    }
    if (d.bytes > INT64_MAX / 2) return lm_fail(w->ctx, LM_E_SHAPE, "%s: tensor \"%s\" is too large", w->path, name);
    if (w->n == w->cap) {
        if (w->cap > INT32_MAX / 4) return lm_fail(w->ctx, LM_E_RANGE, "%s: too many tensors", w->path);
        int cap = w->cap ? w->cap * 2 : 64;
        decl *t = lm_realloc(w->ctx, LM_MEM_IO, w->t, (size_t)cap * sizeof *t);
        if (!t) return no_memory(w);
        w->t = t; w->cap = cap;
    }
    if (!(d.name = lm_arena_strdup(w->a, name))) return no_memory(w);
    w->t[w->n++] = d;
    return LM_OK;
}
static int ptr_cmp(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }
static lm_err check_unique(lm_gguf_writer *w) {
    if (!w->n) return LM_OK;
    const char **names = lm_calloc(w->ctx, LM_MEM_IO, (size_t)w->n, sizeof *names);
    if (!names) return no_memory(w);
    for (int i = 0; i < w->n; i++) names[i] = w->t[i].name;
    qsort(names, (size_t)w->n, sizeof *names, ptr_cmp);
    lm_err err = LM_OK;
    for (int i = 1; i < w->n && !err; i++)
        if (!strcmp(names[i], names[i - 1])) err = lm_fail(w->ctx, LM_E_CONFIG, "%s: tensor \"%s\" is declared twice", w->path, names[i]);
    lm_free(w->ctx, names);
    return err;
}
static lm_err begin(lm_gguf_writer *w) {
    LM_TRY(check_unique(w));
    lm_str s = { .ctx = w->ctx };
    lm_str_add(&s, "GGUF", 4); put32(&s, 3); put64(&s, (uint64_t)w->n); put64(&s, (uint64_t)w->n_kv);
    lm_str_add(&s, w->kv.n ? w->kv.p : "", w->kv.n);
    int64_t at = 0; lm_err err = LM_OK;
    for (int i = 0; i < w->n && !err; i++) {
        const decl *t = &w->t[i];
        size_t n = strlen(t->name);
        put64(&s, n); lm_str_add(&s, t->name, n); put32(&s, (uint32_t)t->rank);
        for (int d = t->rank - 1; d >= 0; d--) put64(&s, (uint64_t)t->dim[d]);
        put32(&s, (uint32_t)t->type->id); put64(&s, (uint64_t)at);
        if (__builtin_add_overflow(at, t->bytes, &at) || at > INT64_MAX - w->align)
            err = lm_fail(w->ctx, LM_E_RANGE, "%s: the tensors take more than 2^63 bytes", w->path);
        else at = lm_round_up(at, w->align);
    }
    if (!err && (err = lm_str_err(&s))) no_memory(w);
    if (!err) err = lm_out_open(&w->out, w->ctx, w->path);
    if (!err) err = lm_out_write(w->out, s.p, s.n);
    if (!err) err = lm_out_pad(w->out, (size_t)w->align, 0);
    lm_str_free(&s);
    w->begun = true;
    if (w->n) w->left = w->t[0].bytes;
    return err;
}
static lm_err write_some(lm_gguf_writer *w, const uint8_t *p, size_t n) {
    if (!w->begun) LM_TRY(begin(w));
    while (n) {
        if (w->i_tensor >= w->n) return lm_fail(w->ctx, LM_E_INTERNAL, "%s: %zu bytes more than the declared tensors take", w->path, n);
        size_t k = (uint64_t)w->left < n ? (size_t)w->left : n;
        LM_TRY(lm_out_write(w->out, p, k));
        p += k; n -= k; w->left -= (int64_t)k;
        if (w->left) continue;
        LM_TRY(lm_out_pad(w->out, (size_t)w->align, 0));      /* the last one too: readers map whole padded tensors */
        if (++w->i_tensor < w->n) w->left = w->t[w->i_tensor].bytes;
    }
    return LM_OK;
}
lm_err lm_gguf_writer_write(lm_gguf_writer *w, const void *p, size_t n) {
    if (w->failed) return w->failed;
    return w->failed = write_some(w, p, n);
}
lm_err lm_gguf_writer_commit(lm_gguf_writer *w) {
    lm_err err = w->failed ? w->failed : write_some(w, NULL, 0);
    if (!err && w->i_tensor < w->n)
        err = lm_fail(w->ctx, LM_E_INTERNAL, "%s: tensor \"%s\" still wants %lld bytes", w->path, w->t[w->i_tensor].name, (long long)w->left);
    if (!err) { lm_out *o = w->out; w->out = NULL; err = lm_out_commit(o); }
    lm_gguf_writer_abort(w);
    return err;
}
