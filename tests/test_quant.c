/* Formats against the gguf package's bytes and floats, sizes and rows of quantized storage, hostile values. */
#include "tests/test.h"
#include "quant/quant_grid.h"
#include "quant/quant.h"
#include "format/safetensors.h"
#include "format/gguf.h"
#include <float.h>

typedef struct { void *p; int64_t n; } blob;       /* a copy: files' maps are aligned to one byte only */
static lm_ctx *ctx; static lm_st *st;
static void start(const char *fixture) {
    if (lm_ctx_new(&ctx, NULL) || lm_st_open(&st, ctx, fixture)) { printf("fixture: %s\n", lm_error(ctx)); exit(1); }
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
    start(LM_FIXTURES "/quant.safetensors");
    blob src = get("src", "");
    int written = 0, read = 0;
    for (int f = 0; lm_quants[f]; f++) {
        const lm_quant *q = lm_quants[f];
        blob raw = get(q->name, ".raw"), want = get(q->name, ".raw_floats");
        if (!raw.p || !want.p) continue;                 /* the younger formats are in ggml's own fixture */
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
/* every row reads random and really quantized blocks as ggml's own code does, to the bit */
static void against_ggml(void) {
    start(LM_FIXTURES "/quant_ggml.safetensors");
    blob src = get("src", "");
    int rows = 0, written = 0;
    for (int f = 0; lm_quants[f]; f++) {
        const lm_quant *q = lm_quants[f];
        if (q->gguf_id < 0) continue;
        blob raw = get(q->name, ".raw"), want = get(q->name, ".floats");
        LM_CHECK(raw.p && want.n == 1024 * 4 && raw.n == 1024 / q->block * q->comp[0].block_bytes);
        if (!raw.p || want.n != 1024 * 4) continue;
        float y[1024];
        q->to_float(q, (const void *const[]){ raw.p }, 1024, y);
        int bad = 0;
        for (int i = 0; i < 1024; i++) bad += memcmp(&y[i], (float *)want.p + i, 4) != 0;
        if (bad) printf("%s: %d of 1024 floats differ\n", q->name, bad);
        LM_CHECK(bad == 0);
        if (q->from_float && !q->search && src.p) {          /* written by rounding alone: ggml's bytes */
            uint8_t row[1024];
            q->from_float(q, src.p, 512, (void *const[]){ row });
            LM_CHECK(!memcmp(row, (uint8_t *)raw.p + raw.n / 2, (size_t)raw.n / 2));
            written++;
        }
        rows++;
        free(raw.p); free(want.p);
    }
    free(src.p);
    LM_CHECK(rows == 26 && written >= 4);
    stop();
}
/* codebooks are sets: ascending, no entry twice, no element out of range */
static void grids(void) {
    const struct { const uint16_t *t; int n, bits, top; } g[] = { { lm_q_grid_iq1s, 2048, 2, 2 }, { lm_q_grid_iq2xxs, 256, 2, 2 },
        { lm_q_grid_iq2xs, 512, 2, 2 }, { lm_q_grid_iq2s, 1024, 2, 2 }, { lm_q_grid_iq3xxs, 256, 4, 7 }, { lm_q_grid_iq3s, 512, 4, 7 } };
    for (int k = 0; k < LM_COUNT(g); k++) {
        int bad = 0;
        for (int i = 0; i < g[k].n; i++) {
            bad += i && g[k].t[i] <= g[k].t[i - 1];
            for (int b = 0; b < 16; b += g[k].bits) bad += (g[k].t[i] >> b & ((1 << g[k].bits) - 1)) > g[k].top;
        }
        LM_CHECK(bad == 0);
    }
    for (unsigned s = 0; s < 128; s++) LM_CHECK((lm_q_signs(s) & 127) == s && __builtin_popcount(lm_q_signs(s)) % 2 == 0);
}
/* the search against ggml's own quantizers on three kinds of data: error without importance, and with importance weighted by it */
static void search(void) {
    start(LM_FIXTURES "/quant_ggml.safetensors");
    const char *const kind[] = { "normal", "heavy-tailed", "trained" };
    blob src = get("src", ""), imp = get("importance", "");
    LM_CHECK(src.n == 3 * 8192 * 4 && imp.n == 3 * 512 * 4);
    int written = 0;
    uint64_t bits = 0;
    for (int f = 0; src.p && imp.p && lm_quants[f]; f++) {
        const lm_quant *q = lm_quants[f];
        if (!q->from_float) continue;
        blob want = get(q->name, ".rmse");
        LM_CHECK(want.n == 6 * 8);
        const int64_t rb = 512 / q->block * q->comp[0].block_bytes;
        for (int s = 0; want.p && s < 3; s++) for (int weighted = 0; weighted < 2; weighted++) {
            const float *x = (const float *)src.p + s * 8192, *w = (const float *)imp.p + s * 512;
            double err = 0, sum = 0;
            for (int r = 0; r < 16; r++) {
                float y[512]; uint8_t row[1024], again[1024];
                memset(row, 0x55, sizeof row); memset(again, 0xaa, sizeof again);
                if (q->search) {
                    q->search(q, x + r * 512, weighted ? w : NULL, 512, (void *const[]){ row });
                    q->search(q, x + r * 512, weighted ? w : NULL, 512, (void *const[]){ again });
                } else {
                    q->from_float(q, x + r * 512, 512, (void *const[]){ row });
                    q->from_float(q, x + r * 512, 512, (void *const[]){ again });
                }
                LM_CHECK(!memcmp(row, again, (size_t)rb));            /* every byte is written, and the same */
                bits = lm_hash64(row, (size_t)rb, bits);
                q->to_float(q, (const void *const[]){ row }, 512, y);
                for (int i = 0; i < 512; i++) {
                    const double e = (double)y[i] - (double)x[r * 512 + i], v = weighted ? (double)w[i] : 1;
                    err += v * e * e; sum += v;
                }
            }
            const double rmse = sqrt(err / sum), theirs = ((double *)want.p)[s * 2 + weighted];
            if (getenv("LM_SHOW")) printf("%-8s %-12s %-10s %.4e %.4e %.4f\n", q->name, kind[s], weighted ? "importance" : "plain", rmse, theirs, rmse / theirs);
            if (!(rmse <= 1.01 * theirs)) printf("%s, %s data%s: error %.4e, ggml %.4e\n", q->name, kind[s], weighted ? ", importance" : "", rmse, theirs);
            LM_CHECK(rmse <= 1.01 * theirs);
        }
        written++;
        free(want.p);
    }
    LM_CHECK(written >= 13);
    /* the same bytes from every compiler and instruction set; a better search has another number here */
    if (bits != 0xcf383dafb444e923ull) printf("bits of what was written: %#llx\n", (unsigned long long)bits);
    LM_CHECK(bits == 0xcf383dafb444e923ull);
    free(src.p); free(imp.p);
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
    size_t plain_bytes = 0, bytes = 0;
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
        size_t bytes = 0;
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
LM_TEST_MAIN(LM_T1(table), LM_T1(against_gguf), LM_T1(against_ggml), LM_T1(grids), LM_T1(search), LM_T1(rows), LM_T1(hostile))
