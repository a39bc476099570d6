/* stream.c — see stream.h. Input goes through one buffer; each kind is a function that fills dst from it. */
#include "data/stream.h"
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

enum { PLAIN, GZIP, ZSTD };
#define BUFFER ((size_t)1 << 18)

struct lm_stream {
    lm_ctx *ctx;
    lm_file *f;
    int64_t size, at;                     /* of the file; read so far */
    int kind;
    uint8_t *buf; size_t have, used;
    z_stream z; bool z_on, z_inside;      /* inside: between a member's head and its end */
    ZSTD_DStream *zd; bool zd_inside;
};

static void *z_get(void *ud, unsigned n, unsigned size) { return lm_calloc(ud, LM_MEM_IO, n, size); }
static void z_put(void *ud, void *p) { lm_free(ud, p); }

static bool ends(const char *s, size_t n, const char *with) {
    size_t k = strlen(with);
    return n >= k && !memcmp(s + n - k, with, k);
}
size_t lm_stream_bare(const char *path) {
    size_t n = strlen(path);
    return ends(path, n, ".gz") ? n - 3 : ends(path, n, ".zst") ? n - 4 : n;
}

static lm_err refill(lm_stream *s) {
    if (s->used < s->have || s->at >= s->size) return LM_OK;
    size_t n = (size_t)lm_min64((int64_t)BUFFER, s->size - s->at);
    LM_TRY(lm_file_pread(s->f, s->buf, n, s->at));
    s->at += (int64_t)n;
    s->have = n;
    s->used = 0;
    return LM_OK;
}
static bool dry(const lm_stream *s) { return s->used == s->have && s->at >= s->size; }

static uint32_t le32(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }
static lm_err recognize(lm_stream *s, const char *path) {
    LM_TRY(refill(s));
    const uint8_t *p = s->buf;
    if (s->have >= 3 && p[0] == 0x1f && p[1] == 0x8b && p[2] == 8) s->kind = GZIP;
    else if (s->have >= 4 && (le32(p) == 0xFD2FB528u || (le32(p) & 0xFFFFFFF0u) == 0x184D2A50u)) s->kind = ZSTD;
    size_t n = strlen(path);
    const char *said = ends(path, n, ".gz") ? "gzip" : ends(path, n, ".zst") ? "zstd" : NULL;
    if (said && s->kind != (said[0] == 'g' ? GZIP : ZSTD)) return lm_fail(s->ctx, LM_E_FORMAT, "%s: is not %s, as its name says", path, said);
    if (s->kind == GZIP) {
        s->z = (z_stream){ .zalloc = z_get, .zfree = z_put, .opaque = s->ctx };
        if (inflateInit2(&s->z, 16 + MAX_WBITS) != Z_OK) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory for unpacking", path);
        s->z_on = true;
    }
    if (s->kind == ZSTD && !(s->zd = ZSTD_createDStream())) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory for unpacking", path);
    return LM_OK;
}

lm_err lm_stream_open(lm_stream **out, lm_ctx *ctx, const char *path) {
    lm_stream *s = lm_calloc(ctx, LM_MEM_IO, 1, sizeof *s);
    if (!s) return LM_E_NOMEM;
    s->ctx = ctx;
    s->buf = lm_alloc(ctx, LM_MEM_IO, BUFFER);
    lm_err err = s->buf ? lm_file_open(&s->f, ctx, path) : LM_E_NOMEM;
    if (!err) { s->size = lm_file_size(s->f); err = recognize(s, path); }
    if (err) { lm_stream_close(s); return err; }
    *out = s;
    return LM_OK;
}
void lm_stream_close(lm_stream *s) {
    if (!s) return;
    if (s->z_on) inflateEnd(&s->z);
    ZSTD_freeDStream(s->zd);
    lm_file_close(s->f);
    lm_free(s->ctx, s->buf);
    lm_free(s->ctx, s);
}
int64_t lm_stream_taken(const lm_stream *s) { return s->at - (int64_t)(s->have - s->used); }

static lm_err cut_off(lm_stream *s) {
    return lm_fail(s->ctx, LM_E_FORMAT, "%s: ends inside its %s data: the file is cut off (%lld bytes)", lm_file_path(s->f),
                   s->kind == GZIP ? "gzip" : "zstd", (long long)s->size);
}

static lm_err read_plain(lm_stream *s, void *dst, size_t cap, size_t *n) {
    LM_TRY(refill(s));
    size_t k = s->have - s->used < cap ? s->have - s->used : cap;
    memcpy(dst, s->buf + s->used, k);
    s->used += k;
    *n = k;
    return LM_OK;
}
static lm_err read_gzip(lm_stream *s, void *dst, size_t cap, size_t *n) {
    s->z.next_out = dst;
    s->z.avail_out = cap > UINT32_MAX ? UINT32_MAX : (unsigned)cap;
    unsigned room = s->z.avail_out;
    while (s->z.avail_out == room) {
        LM_TRY(refill(s));
        if (dry(s)) {
            if (s->z_inside) return cut_off(s);
            break;
        }
        s->z_inside = true;
        s->z.next_in = s->buf + s->used;
        s->z.avail_in = (unsigned)(s->have - s->used);
        int rc = inflate(&s->z, Z_NO_FLUSH);
        s->used = s->have - s->z.avail_in;
        if (rc == Z_MEM_ERROR) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory for unpacking", lm_file_path(s->f));
        if (rc == Z_STREAM_END) { s->z_inside = false; inflateReset(&s->z); }
        else if (rc != Z_OK && rc != Z_BUF_ERROR)
            return lm_fail(s->ctx, LM_E_FORMAT, "%s: damaged gzip data before byte %lld: %s", lm_file_path(s->f),
                           (long long)lm_stream_taken(s), s->z.msg ? s->z.msg : "unknown");
    }
    *n = room - s->z.avail_out;
    return LM_OK;
}
static lm_err read_zstd(lm_stream *s, void *dst, size_t cap, size_t *n) {
    ZSTD_outBuffer o = { dst, cap, 0 };
    while (!o.pos) {
        LM_TRY(refill(s));
        /* Even with no input left: output may wait inside. */
        ZSTD_inBuffer in = { s->buf, s->have, s->used };
        if (dry(s) && !s->zd_inside) break;
        size_t rc = ZSTD_decompressStream(s->zd, &o, &in);
        bool moved = in.pos > s->used || o.pos;
        s->used = in.pos;
        if (ZSTD_isError(rc)) {
            bool mem = ZSTD_getErrorCode(rc) == ZSTD_error_memory_allocation;
            return lm_fail(s->ctx, mem ? LM_E_NOMEM : LM_E_FORMAT, "%s: zstd data before byte %lld: %s", lm_file_path(s->f),
                           (long long)lm_stream_taken(s), ZSTD_getErrorName(rc));
        }
        s->zd_inside = rc != 0;
        if (!moved && dry(s)) { if (s->zd_inside) return cut_off(s); break; }
    }
    *n = o.pos;
    return LM_OK;
}
lm_err lm_stream_read(lm_stream *s, void *dst, size_t cap, size_t *n) {
    if (!cap) { *n = 0; return LM_OK; }
    return s->kind == GZIP ? read_gzip(s, dst, cap, n) : s->kind == ZSTD ? read_zstd(s, dst, cap, n) : read_plain(s, dst, cap, n);
}
