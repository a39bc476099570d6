/* npy.c — see npy.h. */
#include "format/npy.h"
#include "base/file.h"
#include "format/cursor.h"
#include <stdio.h>

static const struct { const char *descr; lm_dtype dtype; int64_t size;
} row[] = {
    { "<f4", LM_F32, 4 }, { "<f8", LM_F64, 8 }, { "<f2", LM_F16, 2 }, { "<i4", LM_I32, 4 }, { "<i8", LM_I64, 8 }, { "<i2", LM_I16, 2 },
    { "|i1", LM_I8, 1 },  { "<u2", LM_U16, 2 }, { "<u4", LM_U32, 4 }, { "<u8", LM_U64, 8 }, { "|u1", LM_U8, 1 },  { "|b1", LM_BOOL, 1 },
};
typedef struct { lm_ctx *ctx; const char *name; const char *p, *end; } scan;
static lm_err bad(const scan *s, const char *what) { return lm_fail(s->ctx, LM_E_FORMAT, "%s: header: %s", s->name, what); }
static bool eat(scan *s, char c) {
    while (s->p < s->end && *s->p == ' ') s->p++;
    if (s->p == s->end || *s->p != c) return false;
    s->p++;
    return true;
}
static bool word(scan *s, const char *w) {
    size_t n = strlen(w);
    while (s->p < s->end && *s->p == ' ') s->p++;
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, w, n)) return false;
    s->p += n;
    return true;
}
static bool quoted(scan *s, char *out, size_t cap) {
    char q = eat(s, '\'') ? '\'' : eat(s, '"') ? '"' : 0;
    const char *close = q ? memchr(s->p, q, (size_t)(s->end - s->p)) : NULL;
    if (!close || (size_t)(close - s->p) >= cap || memchr(s->p, '\\', (size_t)(close - s->p)) || memchr(s->p, 0, (size_t)(close - s->p)))
        return false;
    memcpy(out, s->p, (size_t)(close - s->p));
    out[close - s->p] = 0;
    s->p = close + 1;
    return true;
}
static lm_err shape(scan *s, lm_npy *a) {
    if (!eat(s, '(')) return bad(s, "the shape is a tuple");
    bool comma = true;
    while (!eat(s, ')')) {
        int64_t v = 0; const char *start;
        if (!comma) return bad(s, "wanted , or ) in the shape");
        while (s->p < s->end && *s->p == ' ') s->p++;
        for (start = s->p; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++)
            if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s->p - '0', &v)) return bad(s, "a dimension over 63 bits");
        if (s->p == start) return bad(s, "a dimension is a non-negative integer");
        if (a->rank == LM_NPY_MAX_RANK) return lm_fail(s->ctx, LM_E_UNSUPPORTED, "%s: more than %d dimensions", s->name, (int)LM_NPY_MAX_RANK);
        a->dim[a->rank++] = v;
        comma = eat(s, ',');
    }
    return a->rank == 1 && !comma ? bad(s, "(n) is not a tuple, (n,) is") : LM_OK;
}
static lm_err header(scan *s, lm_npy *a, int64_t *size) {
    char key[32], text[32]; int have = 0; bool comma = true;
    if (!eat(s, '{')) return bad(s, "wanted {");
    while (!eat(s, '}')) {
        if (!comma) return bad(s, "wanted , or }");
        if (!quoted(s, key, sizeof key) || !eat(s, ':')) return bad(s, "wanted 'key':");
        int bit = !strcmp(key, "descr") ? 1 : !strcmp(key, "fortran_order") ? 2 : !strcmp(key, "shape") ? 4 : 0;
        if (!bit || have & bit) return lm_fail(s->ctx, LM_E_FORMAT, "%s: header: key '%s' is %s", s->name, key, bit ? "given twice" : "unknown");
        have |= bit;
        if (bit == 1) {
            if (!quoted(s, text, sizeof text)) return lm_fail(s->ctx, LM_E_UNSUPPORTED, "%s: only plain number arrays are read", s->name);
            int i = 0;
            while (i < LM_COUNT(row) && strcmp(row[i].descr, text)) i++;
            if (i == LM_COUNT(row)) return lm_fail(s->ctx, LM_E_UNSUPPORTED, "%s: dtype '%s' is not read", s->name, text);
            a->dtype = row[i].dtype; *size = row[i].size;
        } else if (bit == 2) {
            if (word(s, "True")) return lm_fail(s->ctx, LM_E_UNSUPPORTED, "%s: Fortran order is not read; save np.ascontiguousarray(x)", s->name);
            if (!word(s, "False")) return bad(s, "fortran_order is True or False");
        } else LM_TRY(shape(s, a));
        comma = eat(s, ',');
    }
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n')) s->p++;
    if (s->p != s->end) return bad(s, "bytes after the }");
    return have == 7 ? LM_OK : bad(s, "wanted the keys descr, fortran_order and shape");
}
lm_err lm_npy_parse(lm_ctx *ctx, const char *name, const void *p, size_t n, lm_npy *out) {
    lm_cursor c = lm_cursor_of(p, n); const uint8_t *magic, *text; uint8_t major, minor; uint16_t len16; uint32_t len;
    if (!lm_take(&c, 6, &magic) || memcmp(magic, "\x93NUMPY", 6)) return lm_fail(ctx, LM_E_FORMAT, "%s: not a .npy file", name);
    if (!lm_take_u8(&c, &major) || !lm_take_u8(&c, &minor)) return lm_fail(ctx, LM_E_FORMAT, "%s: the file ends in its head", name);
    if (major < 1 || major > 3) return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: .npy version %d.%d, versions 1 to 3 are read", name, major, minor);
    bool ok = major == 1 ? lm_take_copy(&c, &len16, 2) : lm_take_u32(&c, &len);
    if (ok && major == 1) len = len16;
    if (!ok || len > LM_NPY_MAX_HEADER || !lm_take(&c, len, &text)) return lm_fail(ctx, LM_E_FORMAT, "%s: the header's length is wrong", name);
    scan s = { ctx, name, (const char *)text, (const char *)text + len };
    lm_npy a = { .n = 1 }; int64_t size = 0, bytes;
    LM_TRY(header(&s, &a, &size));
    bool fits = true;
    for (int i = 0; i < a.rank && fits; i++) fits = !__builtin_mul_overflow(a.n, a.dim[i], &a.n);
    if (!fits || __builtin_mul_overflow(a.n, size, &bytes)) return lm_fail(ctx, LM_E_FORMAT, "%s: the shape overflows", name);
    if ((uint64_t)bytes != lm_cursor_left(&c))
        return lm_fail(ctx, LM_E_FORMAT, "%s: the shape needs %lld bytes of data, the file has %zu", name, (long long)bytes, lm_cursor_left(&c));
    a.data = c.p; a.bytes = (size_t)bytes;
    *out = a;
    return LM_OK;
}
lm_err lm_npy_load(lm_ctx *ctx, const char *path, lm_npy *out) {
    char *p; size_t n; lm_npy a;
    LM_TRY(lm_file_read_all(ctx, path, SIZE_MAX / 4, &p, &n));
    lm_err err = lm_npy_parse(ctx, path, p, n, &a);
    if (err) { lm_free(ctx, p); return err; }
    size_t head = n - a.bytes;
    if (head % 16) { memmove(p, p + head, a.bytes); a.data = p; }      /* a foreign writer with an odd header: the text is not needed any more */
    a.own = p;
    *out = a;
    return LM_OK;
}
void lm_npy_free(lm_ctx *ctx, lm_npy *a) { lm_free(ctx, a->own); *a = (lm_npy){ 0 }; }
lm_err lm_npy_save(lm_ctx *ctx, const char *path, lm_dtype dtype, int rank, const int64_t *dim, const void *data) {
    int r = 0;
    while (r < LM_COUNT(row) && row[r].dtype != dtype) r++;
    if (r == LM_COUNT(row)) return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: .npy has no dtype for this array; convert to f32", path);
    if (rank < 0 || rank > LM_NPY_MAX_RANK) return lm_fail(ctx, LM_E_SHAPE, "%s: rank %d, the limit is %d", path, rank, (int)LM_NPY_MAX_RANK);
    char head[10 + 512]; int64_t bytes = row[r].size;
    int n = snprintf(head + 10, 512, "{'descr': '%s', 'fortran_order': False, 'shape': (", row[r].descr);
    for (int i = 0; i < rank; i++) {
        if (dim[i] < 0 || __builtin_mul_overflow(bytes, dim[i], &bytes))
            return lm_fail(ctx, LM_E_SHAPE, "%s: dimension %d is %lld", path, i, (long long)dim[i]);
        n += snprintf(head + 10 + n, 512 - (size_t)n, rank == 1 ? "%lld," : i ? ", %lld" : "%lld", (long long)dim[i]);
    }
    n += snprintf(head + 10 + n, 512 - (size_t)n, "), }");
    while ((10 + n + 1) % 64) head[10 + n++] = ' ';
    head[10 + n++] = '\n';
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    head[8] = (char)(n & 255); head[9] = (char)(n >> 8);
    lm_out *o; LM_TRY(lm_out_open(&o, ctx, path));
    lm_err err = lm_out_write(o, head, 10 + (size_t)n);
    if (!err) err = lm_out_write(o, data, (size_t)bytes);
    if (err) { lm_out_abort(o); return err; }
    return lm_out_commit(o);
}
