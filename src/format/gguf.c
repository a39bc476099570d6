/* gguf.c — the reader: one pass over the header builds two tables (keys, tensors), each with a hash index; values stay in the file's memory. */
#include "format/gguf.h"
#include "base/file.h"
#include "format/cursor.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    const char *key;
    lm_gguf_type type, item;
    const uint8_t *p;                  /* scalar bytes, or array items */
    const char *s;                     /* STR: NUL-terminated copy */
    int64_t n;                         /* STR: bytes; ARR: items */
    const uint64_t *at;                /* ARR of STR: where each length field is, from base */
} kv;
typedef struct { uint32_t *slot; size_t n_slot; } table;
struct lm_gguf {
    lm_ctx *ctx; lm_arena *a; const char *path;
    lm_file *f; const uint8_t *base; size_t size;
    int version; int64_t align;
    kv *kv; int n_kv; table kvs;
    lm_gguf_tensor *t; int n_t; table ts;
    lm_gguf **part; int n_part;        /* the further files of a split model: part[0] is tensor part 1 */
};
static const struct { const char *name; int size; } type_row[LM_N_GGUF] = {
    [LM_GGUF_U8] = { "u8", 1 }, [LM_GGUF_I8] = { "i8", 1 }, [LM_GGUF_U16] = { "u16", 2 }, [LM_GGUF_I16] = { "i16", 2 }, [LM_GGUF_U32] = { "u32", 4 },
    [LM_GGUF_I32] = { "i32", 4 }, [LM_GGUF_F32] = { "f32", 4 }, [LM_GGUF_BOOL] = { "bool", 1 }, [LM_GGUF_STR] = { "string", 0 },
    [LM_GGUF_ARR] = { "array", 0 }, [LM_GGUF_U64] = { "u64", 8 }, [LM_GGUF_I64] = { "i64", 8 }, [LM_GGUF_F64] = { "f64", 8 },
};
const char *lm_gguf_type_name(int t) { return t >= 0 && t < LM_N_GGUF ? type_row[t].name : "?"; }

static lm_err short_file(const lm_gguf *g, const lm_cursor *c, const char *what) {
    return lm_fail(g->ctx, LM_E_FORMAT, "%s: byte %zu: the file ends inside %s", g->path, lm_cursor_at(c), what);
}
static lm_err no_memory(const lm_gguf *g) { return lm_fail(g->ctx, LM_E_NOMEM, "%s: out of memory", g->path); }

/* ---- names -> rows ------------------------------------------------------------------------------------------- */
static lm_err table_new(lm_gguf *g, table *t, size_t n) {
    size_t cap = 16;
    while (cap < 2 * n) cap *= 2;
    if (!(t->slot = lm_calloc(g->ctx, LM_MEM_IO, cap, sizeof *t->slot))) return no_memory(g);
    t->n_slot = cap;
    return LM_OK;
}
static const char *kv_name(const lm_gguf *g, uint32_t i) { return g->kv[i].key; }
static const char *tensor_name(const lm_gguf *g, uint32_t i) { return g->t[i].name; }
typedef const char *name_fn(const lm_gguf *g, uint32_t i);
static uint32_t *table_slot(const lm_gguf *g, const table *t, name_fn *nm, const char *name) {
    size_t s = lm_hash64(name, strlen(name), 0) & (t->n_slot - 1);
    while (t->slot[s] && strcmp(nm(g, t->slot[s] - 1), name)) s = (s + 1) & (t->n_slot - 1);
    return &t->slot[s];
}

/* ---- parsing --------------------------------------------------------------------------------------------------- */
static lm_err take_name(lm_gguf *g, lm_cursor *c, const char *what, const char **out) {
    uint64_t n; const uint8_t *p;
    if (!lm_take_u64(c, &n)) return short_file(g, c, what);
    if (n > LM_GGUF_MAX_NAME)
        return lm_fail(g->ctx, LM_E_FORMAT, "%s: byte %zu: %s of %llu bytes, the limit is %d", g->path, lm_cursor_at(c), what,
                       (unsigned long long)n, (int)LM_GGUF_MAX_NAME);
    if (!lm_take(c, n, &p)) return short_file(g, c, what);
    if (!n || memchr(p, 0, n) || !lm_utf8_ok(p, n))
        return lm_fail(g->ctx, LM_E_FORMAT, "%s: byte %zu: %s is empty, has a NUL or is not UTF-8", g->path, lm_cursor_at(c), what);
    char *s = lm_arena_alloc(g->a, n + 1);
    if (!s) return no_memory(g);
    memcpy(s, p, n);
    *out = s;
    return LM_OK;
}
static lm_err bad_bool(const lm_gguf *g, const char *key, int v) {
    return lm_fail(g->ctx, LM_E_FORMAT, "%s: key \"%s\": a bool is 0 or 1, got %d", g->path, key, v);
}
static lm_err take_array(lm_gguf *g, lm_cursor *c, kv *k) {
    uint32_t item; uint64_t n;
    if (!lm_take_u32(c, &item) || !lm_take_u64(c, &n)) return short_file(g, c, "an array's head");
    if (item >= LM_N_GGUF) return lm_fail(g->ctx, LM_E_FORMAT, "%s: key \"%s\": unknown item type %u", g->path, k->key, item);
    if (item == LM_GGUF_ARR) return lm_fail(g->ctx, LM_E_UNSUPPORTED, "%s: key \"%s\": arrays of arrays are not accepted", g->path, k->key);
    size_t each = item == LM_GGUF_STR ? 8 : (size_t)type_row[item].size;        /* at least */
    if (n > lm_cursor_left(c) / each)
        return lm_fail(g->ctx, LM_E_FORMAT, "%s: key \"%s\": %llu items of type %s do not fit in the %zu bytes that are left", g->path, k->key,
            (unsigned long long)n, type_row[item].name, lm_cursor_left(c));
    k->item = (lm_gguf_type)item; k->n = (int64_t)n; k->p = c->p;
    if (item == LM_GGUF_STR) {
        uint64_t *at = lm_arena_alloc(g->a, (size_t)n * sizeof *at + 1), len; const uint8_t *p;
        if (!at) return no_memory(g);
        for (uint64_t i = 0; i < n; i++) {
            at[i] = lm_cursor_at(c);
            if (!lm_take_u64(c, &len) || !lm_take(c, len, &p)) return short_file(g, c, "an array's string");
        }
        k->at = at;
        return LM_OK;
    }
    const uint8_t *p;
    if (!lm_take(c, n * each, &p)) return short_file(g, c, "an array");
    if (item == LM_GGUF_BOOL)
        for (uint64_t i = 0; i < n; i++)
            if (p[i] > 1) return bad_bool(g, k->key, p[i]);
    return LM_OK;
}
static lm_err take_kv(lm_gguf *g, lm_cursor *c, kv *k) {
    uint32_t type; uint64_t n;
    LM_TRY(take_name(g, c, "a key", &k->key));
    if (!lm_take_u32(c, &type)) return short_file(g, c, "a key's type");
    if (type >= LM_N_GGUF) return lm_fail(g->ctx, LM_E_FORMAT, "%s: key \"%s\": unknown type %u", g->path, k->key, type);
    k->type = (lm_gguf_type)type;
    if (type == LM_GGUF_ARR) return take_array(g, c, k);
    if (type == LM_GGUF_STR) {
        if (!lm_take_u64(c, &n) || !lm_take(c, n, &k->p)) return short_file(g, c, "a string");
        char *s = lm_arena_alloc(g->a, (size_t)n + 1);
        if (!s) return no_memory(g);
        memcpy(s, k->p, n);
        k->s = s; k->n = (int64_t)n;
        return LM_OK;
    }
    if (!lm_take(c, (uint64_t)type_row[type].size, &k->p)) return short_file(g, c, "a value");
    return type == LM_GGUF_BOOL && *k->p > 1 ? bad_bool(g, k->key, *k->p) : LM_OK;
}
static lm_err take_tensor(lm_gguf *g, lm_cursor *c, lm_gguf_tensor *t) {
    uint32_t rank, id; uint64_t d, off;
    LM_TRY(take_name(g, c, "a tensor's name", &t->name));
    if (!lm_take_u32(c, &rank)) return short_file(g, c, "a tensor's rank");
    if (rank > LM_GGUF_MAX_DIMS)
        return lm_fail(g->ctx, LM_E_FORMAT, "%s: tensor \"%s\": rank %u, the limit is %d", g->path, t->name, rank, (int)LM_GGUF_MAX_DIMS);
    t->rank = (int)rank;
    for (int i = 0; i < LM_GGUF_MAX_DIMS; i++) t->dim[i] = 1;
    for (uint32_t i = 0; i < rank; i++) {
        if (!lm_take_u64(c, &d)) return short_file(g, c, "a tensor's shape");
        if (d > INT64_MAX) return lm_fail(g->ctx, LM_E_FORMAT, "%s: tensor \"%s\": dimension %u is %llu", g->path, t->name, i, (unsigned long long)d);
        t->dim[rank - 1 - i] = (int64_t)d;
    }
    if (!lm_take_u32(c, &id) || !lm_take_u64(c, &off)) return short_file(g, c, "a tensor's type and offset");
    if (!(t->type = id < 1000 ? lm_ggml_by_id((int)id) : NULL)) {
        bool retired = id == 4 || id == 5 || (id >= 31 && id <= 33) || (id >= 36 && id <= 38);
        return lm_fail(g->ctx, LM_E_UNSUPPORTED, "%s: tensor \"%s\": %s tensor type %u", g->path, t->name, retired ? "retired" : "unknown", id);
    }
    int64_t cols = rank ? t->dim[rank - 1] : 1, bytes;
    if (cols % t->type->block)
        return lm_fail(g->ctx, LM_E_FORMAT, "%s: tensor \"%s\": %lld columns are no multiple of the block of %s (%d)", g->path, t->name,
                       (long long)cols, t->type->name, t->type->block);
    bytes = cols / t->type->block;
    bool ok = !__builtin_mul_overflow(bytes, (int64_t)t->type->bytes, &bytes);
    for (int i = 0; i + 1 < t->rank && ok; i++) ok = !__builtin_mul_overflow(bytes, t->dim[i], &bytes);
    if (!ok || bytes > (int64_t)g->size)
        return lm_fail(g->ctx, LM_E_FORMAT, "%s: tensor \"%s\": its shape needs more bytes than the file has (%zu)", g->path, t->name, g->size);
    if (off > g->size)
        return lm_fail(g->ctx, LM_E_FORMAT, "%s: tensor \"%s\": offset %llu is past the end of the file", g->path, t->name,
                       (unsigned long long)off);
    t->bytes = bytes; t->offset = (int64_t)off;
    return LM_OK;
}
static int by_offset(const void *a, const void *b) {
    const lm_gguf_tensor *x = *(const lm_gguf_tensor *const *)a, *y = *(const lm_gguf_tensor *const *)b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}
static lm_err check_ranges(lm_gguf *g, int64_t data_at) {
    const lm_gguf_tensor **order = lm_calloc(g->ctx, LM_MEM_IO, (size_t)g->n_t + 1, sizeof *order);
    if (!order) return no_memory(g);
    lm_err err = LM_OK;
    for (int i = 0; i < g->n_t && !err; i++) {
        lm_gguf_tensor *t = &g->t[i];
        if (t->offset % g->align)
            err = lm_fail(g->ctx, LM_E_FORMAT, "%s: tensor \"%s\": offset %lld is no multiple of the alignment %lld", g->path, t->name,
                          (long long)t->offset, (long long)g->align);
        t->offset += data_at;             /* both are below 2^62: bounded by the file's size and the alignment */
        if (!err && (t->offset > (int64_t)g->size || t->bytes > (int64_t)g->size - t->offset))
            err = lm_fail(g->ctx, LM_E_FORMAT, "%s: tensor \"%s\": bytes %lld+%lld are past the end of the file (%zu)", g->path, t->name,
                          (long long)t->offset, (long long)t->bytes, g->size);
        order[i] = t;
    }
    if (!err && g->n_t) {
        qsort(order, (size_t)g->n_t, sizeof *order, by_offset);
        for (int i = 1; i < g->n_t && !err; i++)
            if (order[i - 1]->offset + order[i - 1]->bytes > order[i]->offset)
                err = lm_fail(g->ctx, LM_E_FORMAT, "%s: tensors \"%s\" and \"%s\" overlap", g->path, order[i - 1]->name, order[i]->name);
    }
    lm_free(g->ctx, order);
    return err;
}
static lm_err parse(lm_gguf *g) {
    lm_cursor c = lm_cursor_of(g->base, g->size);
    uint32_t version; uint64_t n_t, n_kv; const uint8_t *magic;
    if (!lm_take(&c, 4, &magic) || memcmp(magic, "GGUF", 4)) return lm_fail(g->ctx, LM_E_FORMAT, "%s: not a GGUF file", g->path);
    if (!lm_take_u32(&c, &version)) return short_file(g, &c, "the version");
    if (version >> 16 && !(version & 0xffff)) return lm_fail(g->ctx, LM_E_UNSUPPORTED, "%s: a big-endian GGUF file", g->path);
    if (version != 2 && version != 3) return lm_fail(g->ctx, LM_E_UNSUPPORTED, "%s: GGUF version %u, versions 2 and 3 are read", g->path, version);
    g->version = (int)version;
    if (!lm_take_u64(&c, &n_t) || !lm_take_u64(&c, &n_kv)) return short_file(g, &c, "the counts");
    /* the shortest key is 8 + 1 + 4 + 1 bytes, the shortest tensor info 8 + 1 + 4 + 4 + 8 */
    if (n_kv > lm_cursor_left(&c) / 14 || n_kv > INT32_MAX / 2)
        return lm_fail(g->ctx, LM_E_FORMAT, "%s: %llu keys do not fit in %zu bytes", g->path, (unsigned long long)n_kv, g->size);
    if (n_t > lm_cursor_left(&c) / 25 || n_t > INT32_MAX / 2)
        return lm_fail(g->ctx, LM_E_FORMAT, "%s: %llu tensors do not fit in %zu bytes", g->path, (unsigned long long)n_t, g->size);
    if (!(g->kv = lm_calloc(g->ctx, LM_MEM_IO, (size_t)n_kv + 1, sizeof *g->kv)) ||
        !(g->t = lm_calloc(g->ctx, LM_MEM_IO, (size_t)n_t + 1, sizeof *g->t)))
        return no_memory(g);
    LM_TRY(table_new(g, &g->kvs, (size_t)n_kv));
    LM_TRY(table_new(g, &g->ts, (size_t)n_t));
    for (uint64_t i = 0; i < n_kv; i++) {
        LM_TRY(take_kv(g, &c, &g->kv[i]));
        uint32_t *s = table_slot(g, &g->kvs, kv_name, g->kv[i].key);
        if (*s) return lm_fail(g->ctx, LM_E_FORMAT, "%s: key \"%s\" is given twice", g->path, g->kv[i].key);
        *s = (uint32_t)++g->n_kv;
    }
    g->align = 32;
    uint32_t *s = table_slot(g, &g->kvs, kv_name, "general.alignment");
    if (*s) {
        const kv *k = &g->kv[*s - 1]; uint32_t v;
        if (k->type != LM_GGUF_U32)
            return lm_fail(g->ctx, LM_E_FORMAT, "%s: general.alignment is of type %s, wanted u32", g->path, type_row[k->type].name);
        memcpy(&v, k->p, 4);
        if (!v || v & (v - 1) || v > LM_GGUF_MAX_ALIGN)
            return lm_fail(g->ctx, LM_E_FORMAT, "%s: general.alignment is %u; wanted a power of two up to %d", g->path, v, (int)LM_GGUF_MAX_ALIGN);
        g->align = v;
    }
    for (uint64_t i = 0; i < n_t; i++) {
        LM_TRY(take_tensor(g, &c, &g->t[i]));
        s = table_slot(g, &g->ts, tensor_name, g->t[i].name);
        if (*s) return lm_fail(g->ctx, LM_E_FORMAT, "%s: tensor \"%s\" is given twice", g->path, g->t[i].name);
        *s = (uint32_t)++g->n_t;
    }
    return check_ranges(g, lm_round_up((int64_t)lm_cursor_at(&c), g->align));
}
static lm_err start(lm_gguf **out, lm_ctx *ctx, const char *path) {
    lm_arena *a; LM_TRY(lm_arena_new(&a, ctx, LM_MEM_IO, 0));
    lm_gguf *g = lm_arena_alloc(a, sizeof *g);
    if (!g || !(g->path = lm_arena_strdup(a, path))) { lm_arena_free(a); return lm_fail(ctx, LM_E_NOMEM, "%s: out of memory", path); }
    g->ctx = ctx; g->a = a;
    *out = g;
    return LM_OK;
}
lm_err lm_gguf_open_mem(lm_gguf **out, lm_ctx *ctx, const char *name, const void *p, size_t n) {
    lm_gguf *g; LM_TRY(start(&g, ctx, name));
    g->base = p; g->size = n;
    lm_err err = parse(g);
    if (err) { lm_gguf_close(g); return err; }
    *out = g;
    return LM_OK;
}
static lm_err open_file(lm_gguf **out, lm_ctx *ctx, const char *path) {
    lm_gguf *g; LM_TRY(start(&g, ctx, path));
    const void *p = NULL;
    lm_err err = lm_file_open(&g->f, ctx, path);
    if (!err && lm_file_size(g->f) < 24)
        err = lm_fail(ctx, LM_E_FORMAT, "%s: %lld bytes are too few for a GGUF file", path, (long long)lm_file_size(g->f));
    if (!err) err = lm_file_map(g->f, &p, &g->size);
    g->base = p;
    if (!err) err = parse(g);
    if (err) { lm_gguf_close(g); return err; }
    *out = g;
    return LM_OK;
}

/* ---- split models ------------------------------------------------------------------------------------------------ */
/* One list and one name table over the tensors of all parts. */
static lm_err join_parts(lm_gguf *g) {
    int64_t n = g->n_t;
    for (int i = 0; i < g->n_part; i++) n += g->part[i]->n_t;
    if (n > INT32_MAX / 2) return lm_fail(g->ctx, LM_E_RANGE, "%s: %lld tensors in all parts", g->path, (long long)n);
    lm_gguf_tensor *t = lm_realloc(g->ctx, LM_MEM_IO, g->t, ((size_t)n + 1) * sizeof *t);
    if (!t) return no_memory(g);
    g->t = t;
    lm_free(g->ctx, g->ts.slot);
    g->ts = (table){ 0 };
    for (int i = 0; i < g->n_part; i++)
        for (int k = 0; k < g->part[i]->n_t; k++) { g->t[g->n_t] = g->part[i]->t[k]; g->t[g->n_t++].part = i + 1; }
    LM_TRY(table_new(g, &g->ts, (size_t)n));
    for (int i = 0; i < g->n_t; i++) {
        uint32_t *s = table_slot(g, &g->ts, tensor_name, g->t[i].name);
        if (*s)
            return lm_fail(g->ctx, LM_E_FORMAT, "%s: tensor \"%s\" is in parts %d and %d", g->path, g->t[i].name, g->t[*s - 1].part + 1,
                           g->t[i].part + 1);
        *s = (uint32_t)i + 1;
    }
    return LM_OK;
}
static lm_err open_parts(lm_gguf *g) {
    int64_t count, no, total; char tail[64];
    LM_TRY(lm_gguf_int(g, "split.count", false, 1, 0, LM_GGUF_MAX_PARTS, &count));
    if (count <= 1) return LM_OK;
    LM_TRY(lm_gguf_int(g, "split.no", true, 0, 0, count - 1, &no));
    size_t n = strlen(g->path), k = (size_t)snprintf(tail, sizeof tail, "-%05d-of-%05d.gguf", (int)no + 1, (int)count);
    if (no) return lm_fail(g->ctx, LM_E_CONFIG, "%s: part %d of %d of a split model: open the first part", g->path, (int)no + 1, (int)count);
    if (n < k || strcmp(g->path + n - k, tail))
        return lm_fail(g->ctx, LM_E_CONFIG, "%s: the first of %d parts must be named …%s", g->path, (int)count, tail);
    if (!(g->part = lm_arena_alloc(g->a, (size_t)count * sizeof *g->part))) return no_memory(g);
    for (int i = 1; i < count; i++) {
        int64_t c, o;
        char *path = lm_arena_printf(g->a, "%.*s-%05d-of-%05d.gguf", (int)(n - k), g->path, i + 1, (int)count);
        if (!path) return no_memory(g);
        LM_TRY(open_file(&g->part[g->n_part], g->ctx, path));
        lm_gguf *p = g->part[g->n_part++];
        LM_TRY(lm_gguf_int(p, "split.count", true, 0, 0, LM_GGUF_MAX_PARTS, &c));
        LM_TRY(lm_gguf_int(p, "split.no", true, 0, 0, LM_GGUF_MAX_PARTS, &o));
        if (c != count || o != i)
            return lm_fail(g->ctx, LM_E_MISMATCH, "%s: says it is part %d of %d, wanted part %d of %d", path, (int)o + 1, (int)c, i + 1,
                           (int)count);
    }
    LM_TRY(join_parts(g));
    LM_TRY(lm_gguf_int(g, "split.tensors.count", false, g->n_t, 0, INT32_MAX, &total));
    return total == g->n_t ? LM_OK
                           : lm_fail(g->ctx, LM_E_MISMATCH, "%s: split.tensors.count is %lld, the parts have %d tensors", g->path,
                                     (long long)total, g->n_t);
}
lm_err lm_gguf_open(lm_gguf **out, lm_ctx *ctx, const char *path) {
    lm_gguf *g; LM_TRY(open_file(&g, ctx, path));
    lm_err err = open_parts(g);
    if (err) { lm_gguf_close(g); return err; }
    *out = g;
    return LM_OK;
}
void lm_gguf_close(lm_gguf *g) {
    if (!g) return;
    for (int i = 0; i < g->n_part; i++) lm_gguf_close(g->part[i]);
    if (g->f) lm_file_close(g->f);
    lm_free(g->ctx, g->kv); lm_free(g->ctx, g->t); lm_free(g->ctx, g->kvs.slot); lm_free(g->ctx, g->ts.slot);
    lm_arena_free(g->a);
}

/* ---- tensors --------------------------------------------------------------------------------------------------- */
const char *lm_gguf_path(const lm_gguf *g) { return g->path; }
int lm_gguf_version(const lm_gguf *g) { return g->version; }
int64_t lm_gguf_alignment(const lm_gguf *g) { return g->align; }
int lm_gguf_parts(const lm_gguf *g) { return 1 + g->n_part; }
int lm_gguf_count(const lm_gguf *g) { return g->n_t; }
const lm_gguf_tensor *lm_gguf_at(const lm_gguf *g, int i) { return i >= 0 && i < g->n_t ? &g->t[i] : NULL; }
const lm_gguf_tensor *lm_gguf_find(const lm_gguf *g, const char *name) {
    uint32_t s = *table_slot(g, &g->ts, tensor_name, name);
    return s ? &g->t[s - 1] : NULL;
}
static lm_err not_found(lm_gguf *g, lm_err code, const char *what, const char *name, name_fn *nm, int n) {
    const char *near = NULL, **names = n ? lm_calloc(g->ctx, LM_MEM_IO, (size_t)n, sizeof *names) : NULL;
    if (names) {
        for (int i = 0; i < n; i++) names[i] = nm(g, (uint32_t)i);
        near = lm_nearest(name, names, n);
    }
    lm_fail(g->ctx, code, "%s: no %s \"%s\" among %d%s%s%s", g->path, what, name, n, near ? "; the nearest is \"" : "", near ? near : "",
            near ? "\"" : "");
    lm_free(g->ctx, names);
    return code;
}
lm_err lm_gguf_need(lm_gguf *g, const char *name, const lm_gguf_tensor **out) {
    const lm_gguf_tensor *t = lm_gguf_find(g, name);
    if (!t) return not_found(g, LM_E_NOTFOUND, "tensor", name, tensor_name, g->n_t);
    *out = t;
    return LM_OK;
}
lm_err lm_gguf_read(lm_gguf *g, const lm_gguf_tensor *t, void *dst, int64_t from, int64_t bytes) {
    if (from < 0 || bytes < 0 || from > t->bytes || bytes > t->bytes - from)
        return lm_fail(g->ctx, LM_E_RANGE, "%s: bytes %lld+%lld of tensor \"%s\", which has %lld", g->path, (long long)from,
                       (long long)bytes, t->name, (long long)t->bytes);
    const lm_gguf *home = t->part ? g->part[t->part - 1] : g;
    if (!bytes) return LM_OK;
    if (home->f) return lm_file_pread(home->f, dst, (size_t)bytes, t->offset + from);
    memcpy(dst, g->base + t->offset + from, (size_t)bytes);
    return LM_OK;
}
bool lm_gguf_where(const lm_gguf *g, const lm_gguf_tensor *t, lm_file **file, int64_t *offset) {
    *file = (t->part ? g->part[t->part - 1] : g)->f; *offset = t->offset;
    return *file != NULL;
}
lm_err lm_gguf_map(lm_gguf *g, const lm_gguf_tensor *t, const void **p) { *p = (t->part ? g->part[t->part - 1] : g)->base + t->offset; return LM_OK; }

/* ---- metadata -------------------------------------------------------------------------------------------------- */
int lm_gguf_n_keys(const lm_gguf *g) { return g->n_kv; }
const char *lm_gguf_key(const lm_gguf *g, int i, lm_gguf_type *type, lm_gguf_type *item, int64_t *n) {
    if (i < 0 || i >= g->n_kv) return NULL;
    const kv *k = &g->kv[i];
    *type = k->type;
    if (item) *item = k->item;
    if (n) *n = k->n;
    return k->key;
}
static const kv *find(const lm_gguf *g, const char *key) {
    uint32_t s = *table_slot(g, &g->kvs, kv_name, key);
    return s ? &g->kv[s - 1] : NULL;
}
bool lm_gguf_has(const lm_gguf *g, const char *key) { return find(g, key) != NULL; }
static lm_err get(lm_gguf *g, const char *key, bool need, const kv **out) {
    const kv *k = find(g, key);
    if (!k && need) return not_found(g, LM_E_CONFIG, "key", key, kv_name, g->n_kv);
    *out = k;
    return LM_OK;
}
static lm_err mistyped(lm_gguf *g, const kv *k, const char *want) {
    return lm_fail(g->ctx, LM_E_CONFIG, "%s: key \"%s\" is of type %s%s, wanted %s", g->path, k->key, k->type == LM_GGUF_ARR ? "array of " : "",
        type_row[k->type == LM_GGUF_ARR ? k->item : k->type].name, want);
}
static bool is_int(lm_gguf_type t) { return t <= LM_GGUF_I32 || t == LM_GGUF_U64 || t == LM_GGUF_I64; }
static bool is_float(lm_gguf_type t) { return t == LM_GGUF_F32 || t == LM_GGUF_F64; }
static int64_t read_int(const uint8_t *p, lm_gguf_type t) {
    switch (t) {
    case LM_GGUF_U8: case LM_GGUF_BOOL: return *p;
    case LM_GGUF_I8: return (int8_t)*p;
    case LM_GGUF_U16: { uint16_t v; memcpy(&v, p, 2); return v; }
    case LM_GGUF_I16: { int16_t v; memcpy(&v, p, 2); return v; }
    case LM_GGUF_U32: { uint32_t v; memcpy(&v, p, 4); return v; }
    case LM_GGUF_I32: { int32_t v; memcpy(&v, p, 4); return v; }
    case LM_GGUF_U64: { uint64_t v; memcpy(&v, p, 8); return v > INT64_MAX ? INT64_MAX : (int64_t)v; }
    case LM_GGUF_I64: { int64_t v; memcpy(&v, p, 8); return v; }
    default: return 0;
    }
}
static double read_num(const uint8_t *p, lm_gguf_type t) {
    if (t == LM_GGUF_F32) { float v; memcpy(&v, p, 4); return (double)v; }
    if (t == LM_GGUF_F64) { double v; memcpy(&v, p, 8); return v; }
    if (t == LM_GGUF_U64) { uint64_t v; memcpy(&v, p, 8); return (double)v; }
    return (double)read_int(p, t);
}
lm_err lm_gguf_int(lm_gguf *g, const char *key, bool need, int64_t def, int64_t min, int64_t max, int64_t *out) {
    const kv *k = NULL; LM_TRY(get(g, key, need, &k));
    if (!k) { *out = def; return LM_OK; }
    if (!is_int(k->type)) return mistyped(g, k, "an integer");
    int64_t v = read_int(k->p, k->type);
    bool huge = k->type == LM_GGUF_U64 && k->p[7] & 0x80;
    if (huge || v < min || v > max)
        return lm_fail(g->ctx, LM_E_RANGE, "%s: key \"%s\" is %s%lld, outside %lld..%lld", g->path, key, huge ? "over " : "", (long long)v,
                       (long long)min, (long long)max);
    *out = v;
    return LM_OK;
}
lm_err lm_gguf_num(lm_gguf *g, const char *key, bool need, double def, double *out) {
    const kv *k = NULL; LM_TRY(get(g, key, need, &k));
    if (!k) { *out = def; return LM_OK; }
    if (!is_int(k->type) && !is_float(k->type)) return mistyped(g, k, "a number");
    *out = read_num(k->p, k->type);
    return LM_OK;
}
lm_err lm_gguf_bool(lm_gguf *g, const char *key, bool need, bool def, bool *out) {
    const kv *k = NULL; LM_TRY(get(g, key, need, &k));
    if (!k) { *out = def; return LM_OK; }
    if (k->type != LM_GGUF_BOOL) return mistyped(g, k, "bool");
    *out = *k->p != 0;
    return LM_OK;
}
lm_err lm_gguf_str(lm_gguf *g, const char *key, bool need, const char *def, const char **out, size_t *n) {
    const kv *k = NULL; LM_TRY(get(g, key, need, &k));
    if (!k) { *out = def; if (n) *n = def ? strlen(def) : 0; return LM_OK; }
    if (k->type != LM_GGUF_STR) return mistyped(g, k, "string");
    if (!n && strlen(k->s) != (size_t)k->n) return lm_fail(g->ctx, LM_E_CONFIG, "%s: key \"%s\" contains a NUL", g->path, key);
    *out = k->s;
    if (n) *n = (size_t)k->n;
    return LM_OK;
}
static lm_err get_nums(lm_gguf *g, const char *key, bool need, bool floats, lm_gguf_nums *out) {
    const kv *k = NULL; LM_TRY(get(g, key, need, &k));
    if (!k) { *out = (lm_gguf_nums){ 0 }; return LM_OK; }
    bool ok = k->type == LM_GGUF_ARR && (is_int(k->item) || (floats ? is_float(k->item) : k->item == LM_GGUF_BOOL));
    if (!ok) return mistyped(g, k, floats ? "array of numbers" : "array of integers");
    *out = (lm_gguf_nums){ k->p, k->item, k->n };
    return LM_OK;
}
lm_err lm_gguf_arr_int(lm_gguf *g, const char *key, bool need, lm_gguf_nums *out) { return get_nums(g, key, need, false, out); }
lm_err lm_gguf_arr_num(lm_gguf *g, const char *key, bool need, lm_gguf_nums *out) { return get_nums(g, key, need, true, out); }
lm_err lm_gguf_arr_str(lm_gguf *g, const char *key, bool need, lm_gguf_strs *out) {
    const kv *k = NULL; LM_TRY(get(g, key, need, &k));
    if (!k) { *out = (lm_gguf_strs){ 0 }; return LM_OK; }
    if (k->type != LM_GGUF_ARR || k->item != LM_GGUF_STR) return mistyped(g, k, "array of strings");
    *out = (lm_gguf_strs){ g->base, k->at, k->n };
    return LM_OK;
}
int64_t lm_gguf_nums_int(const lm_gguf_nums *a, int64_t i) { return i < 0 || i >= a->n ? 0 : read_int(a->p + i * type_row[a->item].size, a->item); }
double lm_gguf_nums_num(const lm_gguf_nums *a, int64_t i) { return i < 0 || i >= a->n ? 0 : read_num(a->p + i * type_row[a->item].size, a->item); }
const char *lm_gguf_strs_at(const lm_gguf_strs *a, int64_t i, size_t *n) {
    if (i < 0 || i >= a->n) return NULL;
    uint64_t len; memcpy(&len, a->base + a->at[i], 8);
    *n = (size_t)len;
    return (const char *)a->base + a->at[i] + 8;
}

/* ---- patching ------------------------------------------------------------------------------------------------ */
lm_err lm_gguf_patch(lm_ctx *ctx, const char *path, const char *key, lm_gguf_type item, const void *v, int64_t n) {
    lm_gguf *g;
    LM_TRY(lm_gguf_open(&g, ctx, path));
    const kv *k;
    int64_t at = 0;
    const size_t bytes = (size_t)n * (size_t)type_row[item].size;
    lm_err err = get(g, key, true, &k);
    if (!err && (k->type == LM_GGUF_ARR ? k->item != item || k->n != n : k->type != item || n != 1 || !bytes))
        err = lm_fail(ctx, LM_E_INTERNAL, "%s: key \"%s\" is not %lld of type %s", path, key, (long long)n, type_row[item].name);
    if (!err) at = k->p - g->base;
    lm_gguf_close(g);
    return err ? err : lm_file_patch(ctx, path, at, v, bytes);
}
