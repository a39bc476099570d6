/* safetensors: the input as a whole file; and its tail as a header, which our scanner and a checker written over jansson must judge alike
 * (the first two bytes then say how long the data section is). */
#define _GNU_SOURCE 1
#include "format/json.h"
#include "format/safetensors.h"
#include "format/safetensors_int.h"
#include <stdlib.h>
#include <string.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
static void whole(lm_ctx *ctx, const uint8_t *p, size_t n) {
    lm_st *st; uint64_t h = 0; const void *m;
    if (lm_st_open_mem(&st, ctx, "fuzz.safetensors", p, n)) return;
    for (int i = 0; i < lm_st_count(st); i++) {
        const lm_st_tensor *t = lm_st_at(st, i);
        if (lm_st_find(st, t->name) != t || lm_st_map(st, t, &m)) abort();
        h += lm_hash64(m, (size_t)t->bytes, h);
    }
    lm_st_close(st);
}
typedef struct { int64_t at, bytes; } range;
static int by_at(const void *a, const void *b) {
    const range *x = a, *y = b;
    return x->at != y->at ? (x->at < y->at ? -1 : 1) : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}
static bool ints(json_t *a, size_t max, int64_t *v, size_t *n) {
    if (!json_is_array(a) || json_array_size(a) > max) return false;
    *n = json_array_size(a);
    for (size_t i = 0; i < *n; i++) {
        json_t *x = json_array_get(a, i);
        if (!json_is_integer(x) || (v[i] = json_integer_value(x)) < 0) return false;
    }
    return true;
}
static bool oracle_tree(json_t *root, int64_t data_bytes, int *count) {
    const char *key; json_t *v; bool ok = json_is_object(root); size_t n = 0, cap = json_object_size(root) + 1;
    range *r = calloc(cap, sizeof *r);
    if (ok && r) json_object_foreach(root, key, v) {
        if (!json_is_object(v)) { ok = false; break; }
        if (!strcmp(key, "__metadata__")) {
            const char *k; json_t *s;
            json_object_foreach(v, k, s) ok = ok && json_is_string(s);
            continue;
        }
        int64_t dim[LM_ST_MAX_RANK], off[2], bytes; size_t rank, n_off; lm_dtype d; size_t item;
        json_t *dt = json_object_get(v, "dtype");
        ok = ok && json_object_size(v) == 3 && json_is_string(dt) && lm_st_dtype(json_string_value(dt), &d, &item) &&
             ints(json_object_get(v, "shape"), LM_ST_MAX_RANK, dim, &rank) && ints(json_object_get(v, "data_offsets"), 2, off, &n_off) &&
             n_off == 2;
        if (!ok) break;
        bytes = (int64_t)item;
        for (size_t i = 0; i < rank; i++) ok = ok && !__builtin_mul_overflow(bytes, dim[i], &bytes);
        ok = ok && off[0] <= off[1] && off[1] <= data_bytes && bytes == off[1] - off[0];
        if (!ok) break;
        r[n++] = (range){ off[0], bytes };
    }
    int64_t at = 0;
    if (ok && n) qsort(r, n, sizeof *r, by_at);
    for (size_t i = 0; i < n && ok; i++) { ok = r[i].at == at; at += r[i].bytes; }
    free(r);
    *count = (int)n;
    return ok && at == data_bytes;
}
static int by_name(const void *a, const void *b) { return strcmp(((const lm_st_tensor *)a)->name, ((const lm_st_tensor *)b)->name); }
static bool unique(lm_st_header *h) {      /* the reader looks for this when it joins shards, after the header's parser */
    if (h->n) qsort(h->t, (size_t)h->n, sizeof *h->t, by_name);
    for (int i = 1; i < h->n; i++) if (!strcmp(h->t[i].name, h->t[i - 1].name)) return false;
    return true;
}
static void compare(lm_ctx *ctx, const char *text, size_t n, int64_t data_bytes) {
    lm_st_header h = { 0 }; int count = -1; bool theirs = false; json_error_t e;
    lm_err err = lm_st_header_parse(ctx, "fuzz", text, n, 8, data_bytes, &h);
    if (!err && !unique(&h)) err = LM_E_FORMAT;
    json_t *root = n && *text == '{' && !memchr(text, 0, n) ? json_loadb(text, n, JSON_REJECT_DUPLICATES, &e) : NULL;
    if (root) theirs = oracle_tree(root, data_bytes, &count);
    bool minus_zero = memmem(text, n, "-0", 2) != NULL;      /* an integer to jansson; serde and this project refuse it */
    if (!minus_zero && theirs != !err) abort();
    if (!err && theirs) {
        if (h.n != count) abort();
        for (int i = 0; i < h.n; i++) if (!json_object_get(root, h.t[i].name)) abort();
        for (int i = 0; i < h.n_meta; i++) {
            const char *s = json_string_value(json_object_get(json_object_get(root, "__metadata__"), h.meta[2 * i]));
            if (!s || strcmp(s, h.meta[2 * i + 1])) abort();
        }
    }
    json_decref(root);
    lm_st_header_clear(ctx, &h);
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    whole(ctx, data, size);
    if (size >= 2) compare(ctx, (const char *)data + 2, size - 2, data[0] | data[1] << 8);
    if (size >= 8) compare(ctx, (const char *)data + 8, size - 8, 0);
    return 0;
}
