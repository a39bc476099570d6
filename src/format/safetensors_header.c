/* safetensors_header.c — the header's own JSON scanner: one pass, no tree. It accepts the subset the format needs (an object of objects with three
 * known keys, strings, arrays of non-negative integers) and within that subset exactly what RFC 8259 accepts. Unescaped strings never outgrow
 * their source, so one buffer of the header's size holds them all. */
#include "format/safetensors_int.h"
#include "format/cursor.h"
#include <stdlib.h>

typedef struct { lm_ctx *ctx; const char *name; const uint8_t *base, *p, *end; char *text; } scan;

static lm_err bad(const scan *s, const char *what) {
    return lm_fail(s->ctx, LM_E_FORMAT, "%s: header, byte %zu: %s", s->name, (size_t)(s->p - s->base), what);
}
static void blank(scan *s) { while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r')) s->p++; }
static bool eat(scan *s, char c) {
    blank(s);
    if (s->p == s->end || *s->p != (uint8_t)c) return false;
    s->p++;
    return true;
}
static int hex4(const scan *s, const uint8_t *p) {
    if (s->end - p < 4) return -1;
    int v = 0;
    for (int i = 0; i < 4; i++) {
        int c = p[i], d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}
static char *put_utf8(char *o, uint32_t c) {
    if (c < 0x80) *o++ = (char)c;
    else if (c < 0x800) { *o++ = (char)(0xc0 | c >> 6); *o++ = (char)(0x80 | (c & 63)); }
    else if (c < 0x10000) { *o++ = (char)(0xe0 | c >> 12); *o++ = (char)(0x80 | (c >> 6 & 63)); *o++ = (char)(0x80 | (c & 63)); }
    else { *o++ = (char)(0xf0 | c >> 18); *o++ = (char)(0x80 | (c >> 12 & 63)); *o++ = (char)(0x80 | (c >> 6 & 63)); *o++ = (char)(0x80 | (c & 63)); }
    return o;
}
static lm_err string(scan *s, const char **out) {
    if (!eat(s, '"')) return bad(s, "wanted a string");
    char *start = s->text, *o = start;
    for (;;) {
        const uint8_t *q = s->p;                                     /* the common case: a run of plain ASCII */
        while (q < s->end && *q >= 0x20 && *q < 0x80 && *q != '"' && *q != '\\') q++;
        memcpy(o, s->p, (size_t)(q - s->p));
        o += q - s->p; s->p = q;
        if (s->p == s->end) return bad(s, "the string does not end");
        uint8_t c = *s->p;
        if (c == '"') break;
        if (c < 0x20) return bad(s, "a control character in a string");
        if (c != '\\') {
            int k = lm_utf8_len(s->p, (size_t)(s->end - s->p));
            if (!k) return bad(s, "invalid UTF-8 in a string");
            memcpy(o, s->p, (size_t)k);
            o += k; s->p += k;
            continue;
        }
        if (s->end - s->p < 2) return bad(s, "the string does not end");
        uint8_t e = s->p[1];
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        const char *at = e ? strchr(from, e) : NULL;
        if (at) { *o++ = to[at - from]; s->p += 2; continue; }
        if (e != 'u') return bad(s, "an unknown escape in a string");
        int u = hex4(s, s->p + 2);
        if (u < 0) return bad(s, "\\u wants four hexadecimal digits");
        if (u == 0) return bad(s, "\\u0000 in a string");
        if (u >= 0xdc00 && u < 0xe000) return bad(s, "a low surrogate without its high one");
        uint32_t full = (uint32_t)u;
        int used = 6;
        if (u >= 0xd800 && u < 0xdc00) {
            int lo = s->end - s->p >= 12 && s->p[6] == '\\' && s->p[7] == 'u' ? hex4(s, s->p + 8) : -1;
            if (lo < 0xdc00 || lo > 0xdfff) return bad(s, "a high surrogate without its low one");
            full = 0x10000u + (((uint32_t)u - 0xd800u) << 10) + ((uint32_t)lo - 0xdc00u);
            used = 12;
        }
        o = put_utf8(o, full);
        s->p += used;
    }
    s->p++;
    *o++ = 0;                       /* room: the two quotes are not copied */
    s->text = o;
    *out = start;
    return LM_OK;
}
static lm_err number(scan *s, int64_t *out) {
    blank(s);
    const uint8_t *start = s->p;
    int64_t v = 0;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s->p - '0', &v)) return bad(s, "an integer over 63 bits");
        s->p++;
    }
    if (s->p == start || (*start == '0' && s->p - start > 1)) return bad(s, "wanted a non-negative integer");
    if (s->p < s->end && (*s->p == '.' || *s->p == 'e' || *s->p == 'E')) return bad(s, "wanted an integer, not a fraction");
    *out = v;
    return LM_OK;
}
static lm_err integers(scan *s, int64_t *v, int cap, int *n, const char *what) {
    if (!eat(s, '[')) return bad(s, what);
    int k = 0;
    if (!eat(s, ']')) {
        do {
            if (k == cap)
                return lm_fail(s->ctx, LM_E_UNSUPPORTED, "%s: header, byte %zu: more than %d numbers in a list", s->name,
                               (size_t)(s->p - s->base), cap);
            LM_TRY(number(s, &v[k++]));
        } while (eat(s, ','));
        if (!eat(s, ']')) return bad(s, "wanted , or ]");
    }
    *n = k;
    return LM_OK;
}
bool lm_st_dtype(const char *s, lm_dtype *out, size_t *size) {
    static const struct { const char *name; size_t size; } row[] = {
#define X(n, st, b, f) [LM_##n] = { st, b },
        LM_DTYPE_MAP(X)
#undef X
    };
    for (int i = 0; i < LM_COUNT(row); i++)
        if (row[i].size && !strcmp(row[i].name, s)) { *out = (lm_dtype)i; *size = row[i].size; return true; }
    return false;
}

static lm_err metadata(scan *s, lm_st_header *h) {
    if (!eat(s, '{')) return bad(s, "__metadata__ must be an object of strings");
    if (eat(s, '}')) return LM_OK;
    do {
        if (h->n_meta == h->cap_meta) {
            int cap = h->cap_meta ? h->cap_meta * 2 : 16;
            if (cap > 2 * LM_ST_MAX_TENSORS) return lm_fail(s->ctx, LM_E_RANGE, "%s: more than %d metadata entries", s->name, (int)LM_ST_MAX_TENSORS);
            const char **m = lm_realloc(s->ctx, LM_MEM_IO, h->meta, (size_t)cap * 2 * sizeof *m);
            if (!m) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory for metadata", s->name);
            h->meta = m; h->cap_meta = cap;
        }
        LM_TRY(string(s, &h->meta[2 * h->n_meta]));
        if (!eat(s, ':')) return bad(s, "wanted :");
        LM_TRY(string(s, &h->meta[2 * h->n_meta + 1]));
        h->n_meta++;
    } while (eat(s, ','));
    return eat(s, '}') ? LM_OK : bad(s, "wanted , or }");
}
static lm_err entry(scan *s, lm_st_header *h, const char *name, int64_t data_at, int64_t data_bytes) {
    int64_t dim[LM_ST_MAX_RANK], range[2] = { 0, 0 };
    int rank = 0, n_range = 0, have = 0;
    lm_dtype dtype = LM_F32; size_t size = 0;
    if (!eat(s, '{')) return bad(s, "wanted an object after the tensor's name");
    if (!eat(s, '}')) {
        do {
            const char *key, *dt;
            LM_TRY(string(s, &key));
            if (!eat(s, ':')) return bad(s, "wanted :");
            int bit = !strcmp(key, "dtype") ? 1 : !strcmp(key, "shape") ? 2 : !strcmp(key, "data_offsets") ? 4 : 0;
            if (!bit) return lm_fail(s->ctx, LM_E_FORMAT, "%s: tensor \"%s\": unknown key \"%.60s\"", s->name, name, key);
            if (have & bit) return lm_fail(s->ctx, LM_E_FORMAT, "%s: tensor \"%s\": key \"%s\" is given twice", s->name, name, key);
            have |= bit;
            if (bit == 1) {
                LM_TRY(string(s, &dt));
                if (!lm_st_dtype(dt, &dtype, &size))
                    return lm_fail(s->ctx, LM_E_UNSUPPORTED, "%s: tensor \"%s\": unknown dtype \"%.40s\"", s->name, name, dt);
            } else if (bit == 2) LM_TRY(integers(s, dim, LM_ST_MAX_RANK, &rank, "shape must be a list"));
            else LM_TRY(integers(s, range, 2, &n_range, "data_offsets must be a list"));
        } while (eat(s, ','));
        if (!eat(s, '}')) return bad(s, "wanted , or }");
    }
    if (have != 7)
        return lm_fail(s->ctx, LM_E_FORMAT, "%s: tensor \"%s\": no \"%s\"", s->name, name,
                       !(have & 1)   ? "dtype"
                       : !(have & 2) ? "shape"
                                     : "data_offsets");
    if (n_range != 2) return lm_fail(s->ctx, LM_E_FORMAT, "%s: tensor \"%s\": data_offsets has %d numbers, wanted 2", s->name, name, n_range);
    if (range[1] < range[0] || range[1] > data_bytes)
        return lm_fail(s->ctx, LM_E_FORMAT, "%s: tensor \"%s\": bytes %lld..%lld are not inside the data section of %lld bytes", s->name, name,
            (long long)range[0], (long long)range[1], (long long)data_bytes);
    int64_t bytes = (int64_t)size;
    for (int i = 0; i < rank; i++)
        if (__builtin_mul_overflow(bytes, dim[i], &bytes))
            return lm_fail(s->ctx, LM_E_FORMAT, "%s: tensor \"%s\": the shape overflows", s->name, name);
    if (bytes != range[1] - range[0])
        return lm_fail(s->ctx, LM_E_FORMAT, "%s: tensor \"%s\": its shape needs %lld bytes, its data_offsets give %lld", s->name, name,
                       (long long)bytes, (long long)(range[1] - range[0]));
    if (h->n == h->cap) {
        if (h->n >= LM_ST_MAX_TENSORS) return lm_fail(s->ctx, LM_E_RANGE, "%s: more than %d tensors", s->name, (int)LM_ST_MAX_TENSORS);
        int cap = h->cap ? h->cap * 2 : 256;
        lm_st_tensor *t = lm_realloc(s->ctx, LM_MEM_IO, h->t, (size_t)cap * sizeof *t);
        if (!t) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory for %d tensors", s->name, cap);
        h->t = t; h->cap = cap;
    }
    if (h->cap_dim - h->n_dim < (size_t)rank) {
        size_t cap = h->cap_dim ? h->cap_dim * 2 : 1024;
        int64_t *d = lm_realloc(s->ctx, LM_MEM_IO, h->dim, cap * sizeof *d);
        if (!d) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory for shapes", s->name);
        h->dim = d; h->cap_dim = cap;
    }
    if (rank) memcpy(h->dim + h->n_dim, dim, (size_t)rank * sizeof *dim);
    h->n_dim += (size_t)rank;
    h->t[h->n++] = (lm_st_tensor){ .name = name, .dtype = dtype, .rank = rank, .offset = data_at + range[0], .bytes = bytes };
    return LM_OK;
}
static int by_offset(const void *a, const void *b) {
    const lm_st_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;           /* empty tensors first, so that they never look like an overlap */
}
static int by_key(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

lm_err lm_st_header_parse(lm_ctx *ctx, const char *name, const char *text, size_t n, int64_t data_at, int64_t data_bytes, lm_st_header *h) {
    scan s = { ctx, name, (const uint8_t *)text, (const uint8_t *)text, (const uint8_t *)text + n, NULL };
    if (!n || *s.p != '{') return bad(&s, "a header starts with {");
    if (!(h->text = lm_alloc(ctx, LM_MEM_IO, n))) return lm_fail(ctx, LM_E_NOMEM, "%s: out of memory for a header of %zu bytes", name, n);
    s.text = h->text;
    s.p++;
    bool meta = false;
    if (!eat(&s, '}')) {
        do {
            const char *key;
            LM_TRY(string(&s, &key));
            if (!eat(&s, ':')) return bad(&s, "wanted :");
            if (strcmp(key, "__metadata__")) { LM_TRY(entry(&s, h, key, data_at, data_bytes)); continue; }
            if (meta) return bad(&s, "__metadata__ is given twice");
            meta = true;
            LM_TRY(metadata(&s, h));
        } while (eat(&s, ','));
        if (!eat(&s, '}')) return bad(&s, "wanted , or }");
    }
    blank(&s);
    if (s.p != s.end) return bad(&s, "bytes after the closing }");
    const int64_t *d = h->dim;                        /* the pool no longer moves */
    for (int i = 0; i < h->n; i++) { h->t[i].dim = d; if (h->t[i].rank) d += h->t[i].rank; }
    if (h->n) qsort(h->t, (size_t)h->n, sizeof *h->t, by_offset);
    int64_t at = data_at;
    for (int i = 0; i < h->n; i++) {
        const lm_st_tensor *t = &h->t[i];
        if (t->offset != at)
            return lm_fail(ctx, LM_E_FORMAT, "%s: tensor \"%s\" starts at byte %lld of the data, %s at %lld", name, t->name,
                           (long long)(t->offset - data_at),
                           t->offset < at ? "overlapping the one before, which ends" : "leaving a hole after", (long long)(at - data_at));
        at += t->bytes;
    }
    if (at - data_at != data_bytes)
        return lm_fail(ctx, LM_E_FORMAT, "%s: the tensors take %lld bytes of data, the file has %lld", name, (long long)(at - data_at),
                       (long long)data_bytes);
    if (h->n_meta) qsort(h->meta, (size_t)h->n_meta, 2 * sizeof *h->meta, by_key);
    for (int i = 1; i < h->n_meta; i++)
        if (!strcmp(h->meta[2 * i], h->meta[2 * i - 2]))
            return lm_fail(ctx, LM_E_FORMAT, "%s: metadata key \"%.60s\" is given twice", name, h->meta[2 * i]);
    return LM_OK;
}
void lm_st_header_clear(lm_ctx *ctx, lm_st_header *h) {
    lm_free(ctx, h->t); lm_free(ctx, h->dim); lm_free(ctx, h->text); lm_free(ctx, h->meta);
    *h = (lm_st_header){ 0 };
}
