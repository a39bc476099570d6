/* Formats against the gguf package's bytes and floats, sizes and rows of quantized storage, hostile values. */
#include "tests/test.h"
#include "quant/quant.h"
#include "format/safetensors.h"
#include "format/gguf.h"
#include <float.h>

typedef struct { void *p; int64_t n; } blob;       /* a copy: files' maps are aligned to one byte only */
static lm_ctx *ctx; static lm_st *st;
static void start(void) {
    if (lm_ctx_new(&ctx, NULL) || lm_st_open(&st, ctx, LM_FIXTURES "/quant.safetensors")) { printf("fixture: %s\n", lm_error(ctx)); exit(1); }
}
static void stop(void) { lm_st_close(st); lm_ctx_free(ctx); st = NULL; ctx = NULL; }
static blob get(const char *format, const char *what) {
    char name[64]; snprintf(name, sizeof name, "%s%s", format, what);
    const lm_st_tensor *t = lm_st_find(st, name);
    if (!t) return (blob){ 0 };
    blob b = { malloc((size_t)t->bytes), t->bytes };
    if (!b.p || lm_st_read(st, t, b.p, 0, t->bytes)) { printf("fixture: %s\n", lm_error(ctx)); exit(1); }
    return b;
}
static void against_gguf(void) {
    start();
    blob src = get("src", "");
    int written = 0, read = 0;
    for (int f = 0; lm_quants[f]; f++) {
        const lm_quant *q = lm_quants[f];
        blob raw = get(q->name, ".raw"), want = get(q->name, ".raw_floats");
        if (q->gguf_id < 0) continue;
        LM_CHECK(raw.p && want.p);
        if (!raw.p) continue;
        const int64_t n = want.n / 4;
        float *y = malloc((size_t)n * 4);
        if (!y) exit(1);
        q->to_float(q, (const void *const[]){ raw.p }, n, y);
        int bad = 0;
        for (int64_t i = 0; i < n; i++) bad += y[i] != ((float *)want.p)[i];
        if (bad) printf("%s: %d of %d floats differ\n", q->name, bad, (int)n);
        LM_CHECK(bad == 0 && n >= 2048);
        read++;
        free(y); free(raw.p); free(want.p);
        blob bytes = get(q->name, ".bytes");
        if (q->from_float && bytes.p) {
            uint8_t *out = malloc((size_t)bytes.n);
            if (!out) exit(1);
            q->from_float(q, src.p, src.n / 4, (void *const[]){ out });
            bad = 0;
            for (int64_t i = 0; i < bytes.n; i++) bad += out[i] != ((uint8_t *)bytes.p)[i];
            if (bad) printf("%s: %d of %d bytes differ\n", q->name, bad, (int)bytes.n);
            LM_CHECK(bad == 0);
            written++;
            free(out);
        }
        free(bytes.p);
    }
    LM_CHECK(read >= 13 && written >= 6);
    free(src.p);
    stop();
}
static void table(void) {
    for (int f = 0; lm_quants[f]; f++) {
        const lm_quant *q = lm_quants[f];
        LM_CHECK(lm_quant_by_name(q->name) == q);
        LM_CHECK(q->n_comp >= 1 && q->n_comp <= LM_QUANT_MAX_COMP && q->block > 0 && q->to_float);
        double bits = 0;
        for (int c = 0; c < q->n_comp; c++) {
            LM_CHECK(q->comp[c].name && q->comp[c].block_bytes > 0);
            bits += 8.0 * q->comp[c].block_bytes / q->block;
        }
        LM_CHECK_NEAR(q->bits, bits, 1e-9);
        for (int g = 0; g < f; g++) LM_CHECK(strcmp(lm_quants[g]->name, q->name) && (q->gguf_id < 0 || lm_quants[g]->gguf_id != q->gguf_id));
        if (q->gguf_id >= 0) {                          /* what the file format says of the same type */
            LM_CHECK(lm_quant_by_gguf(q->gguf_id) == q);
            const lm_ggml_type *t = lm_ggml_by_id(q->gguf_id);
            LM_CHECK(t && t->block == q->block && t->bytes == q->comp[0].block_bytes);
            if (t) LM_CHECK_STR(t->name, q->name);
        }
    }
    LM_CHECK(!lm_quant_by_name("Q9_9") && !lm_quant_by_name(NULL) && !lm_quant_by_gguf(-1) && !lm_quant_by_gguf(9999));
}
/* Sixteen rows side by side: rows moved in as a file has them, or written, read back as from PLAIN. */
static void panels(const lm_quant *q) {
    const int64_t dim[2] = { 19, 3 * q->block }, k = dim[1];
    size_t plain_bytes, bytes;
    LM_CHECK(lm_storage_bytes(LM_QUANT, q, LM_PLAIN, 2, dim, &plain_bytes) && lm_storage_bytes(LM_QUANT, q, LM_PANEL16, 2, dim, &bytes));
    LM_CHECK(bytes == plain_bytes / 19 * 32);
    uint8_t *p = calloc(1, plain_bytes), *a = calloc(1, bytes), *b = calloc(1, bytes);
    float *x = malloc((size_t)k * 4), *y = malloc((size_t)(19 * k) * 4), *z = malloc((size_t)(19 * k) * 4);
    if (!p || !a || !b || !x || !y || !z) exit(1);
    lm_tensor plain = lm_tensor_of(p, LM_QUANT, 2, dim), moved = lm_tensor_of(a, LM_QUANT, 2, dim), put = lm_tensor_of(b, LM_QUANT, 2, dim);
    plain.quant = moved.quant = put.quant = q; moved.layout = put.layout = LM_PANEL16;
    for (int64_t r = 18; r >= 0; r--) {
        for (int64_t i = 0; i < k; i++) x[i] = sinf((float)(r * k + i) * 0.7f) * (float)(r + 1);
        lm_quant_row_put(&plain, r, x); lm_quant_row_put(&put, r, x);
        lm_quant_row_move(&moved, r, lm_quant_row(&plain, 0, r));
    }
    LM_CHECK(!memcmp(a, b, bytes));
    lm_layout_get_rows(&plain, 0, 19, y); lm_layout_get_rows(&moved, 0, 19, z);
    LM_CHECK(!memcmp(y, z, (size_t)(19 * k) * 4));
    free(p); free(a); free(b); free(x); free(y); free(z);
}
/* a row written and read back is within the step of the format, whatever the order of writing */
static void rows(void) {
    for (int f = 0; lm_quants[f]; f++) {
        const lm_quant *q = lm_quants[f];
        const int64_t dim[2] = { 5, 3 * q->block }, k = dim[1];
        size_t bytes;
        LM_CHECK(lm_storage_bytes(LM_QUANT, q, LM_PLAIN, 2, dim, &bytes));
        LM_CHECK(!lm_storage_bytes(LM_QUANT, q, LM_PLAIN, 2, (int64_t[]){ 5, k + 1 }, &(size_t){ 0 }));
        LM_CHECK(lm_storage_bytes(LM_QUANT, q, LM_PANEL16, 2, dim, &(size_t){ 0 }) == q->panels);
        if (q->panels) panels(q);
        LM_CHECK(!lm_storage_bytes(LM_QUANT, q, LM_PLAIN, 2, (int64_t[]){ INT64_MAX / 16, k }, &(size_t){ 0 }));
        LM_CHECK(!lm_storage_bytes(LM_QUANT, q, LM_PLAIN, 2, (int64_t[]){ 1LL << 40, (1LL << 40) * q->block }, &(size_t){ 0 }));
        if (!q->from_float) continue;
        uint8_t *data = aligned_alloc(64, (size_t)lm_round_up((int64_t)bytes, 64));
        float *x = malloc((size_t)k * 4), *y = malloc((size_t)(5 * k) * 4);
        if (!data || !x || !y) exit(1);
        memset(data, 0, bytes);
        lm_tensor t = lm_tensor_of(data, LM_QUANT, 2, dim); t.quant = q;
        for (int64_t r = 4; r >= 0; r--) {                 /* rows do not touch each other */
            for (int64_t i = 0; i < k; i++) x[i] = sinf((float)(r * k + i)) * (float)(r + 1);
            lm_quant_row_put(&t, r, x);
        }
        lm_layout_get_rows(&t, 0, 5, y);
        double err = 0, ref = 0;
        for (int64_t i = 0; i < 5 * k; i++) {
            const double v = (double)sinf((float)i) * (double)(i / k + 1);
            err += (y[i] - v) * (y[i] - v);
            ref += v * v;
        }
        const double rel = sqrt(err / ref), step = pow(2, -(q->bits - 0.5));
        if (!(rel < 2.5 * step)) printf("%s: relative error %g\n", q->name, rel);
        LM_CHECK(rel < 2.5 * step && rel > 0);
        for (int c = 0; c < q->n_comp; c++) LM_CHECK(((uintptr_t)lm_quant_row(&t, c, 0) & 63) == 0);
        LM_CHECK((const uint8_t *)lm_quant_row(&t, q->n_comp - 1, 5) == data + bytes);
        free(data); free(x); free(y);
    }
}
/* infinities, NaN and extremes quantize to something without undefined behaviour, and are not hidden */
static void hostile(void) {
    const float odd[] = { INFINITY, -INFINITY, NAN, FLT_MAX, -FLT_MAX, 1e-45f, -1e-45f, 1e-38f };
    for (int f = 0; lm_quants[f]; f++) {
        const lm_quant *q = lm_quants[f];
        float *x = calloc((size_t)q->block, 4); uint8_t *b = calloc(1, 4096);
        if (!x || !b) exit(1);
        for (int o = 0; q->from_float && o < LM_COUNT(odd); o++) for (int at = 0; at < q->block; at += 13) {
            memset(x, 0, (size_t)q->block * 4); x[at] = odd[o];
            for (int i = 0; i < q->block; i += 3) if (i != at) x[i] = 1e-3f * (float)i;
            void *comp[LM_QUANT_MAX_COMP]; const void *in[LM_QUANT_MAX_COMP];
            for (int c = 0; c < q->n_comp; c++) in[c] = comp[c] = b + c * 1024;
            q->from_float(q, x, q->block, comp);
            q->to_float(q, in, q->block, x);
        }
        for (int v = 0; v < 256; v++) {                    /* any bytes can be read */
            memset(b, v, 4096);
            const void *in[LM_QUANT_MAX_COMP];
            for (int c = 0; c < q->n_comp; c++) in[c] = b + c * 1024;
            q->to_float(q, in, q->block, x);
        }
        free(x); free(b);
    }
    LM_CHECK(lm_quants[0]);
}
LM_TEST_MAIN(LM_T1(table), LM_T1(against_gguf), LM_T1(rows), LM_T1(hostile))
