/* Dtypes, conversions (every code; every rounding boundary; tables of other implementations), storage sizes, panel layouts. */
#include "tests/test.h"
#include "tensor/tensor_int.h"
#include "format/safetensors.h"
#include <float.h>

static const lm_tensor_loops *const sets[] = { &lm_tensor_loops_portable, &lm_tensor_loops_avx2, &lm_tensor_loops_avx512 };
static bool usable(const lm_tensor_loops *l) { return (lm_cpu_features() & l->needs) == l->needs; }
static const lm_dtype small[] = { LM_F16, LM_BF16, LM_F8_E4M3, LM_F8_E5M2 };
static int n_codes(lm_dtype d) { return lm_dtype_size(d) == 2 ? 65536 : 256; }
/* all codes of a narrow type as floats */
static void all_floats(const lm_tensor_loops *l, lm_dtype d, float *f) {
    static uint16_t c16[65536]; static uint8_t c8[256];
    for (int i = 0; i < 65536; i++) c16[i] = (uint16_t)i;
    for (int i = 0; i < 256; i++) c8[i] = (uint8_t)i;
    l->to_f32[d](f, n_codes(d) == 256 ? (void *)c8 : (void *)c16, n_codes(d));
}
static void to_codes(const lm_tensor_loops *l, lm_dtype d, const float *f, int n, int32_t *codes) {
    static uint8_t buf[2 * 70000];
    l->from_f32[d](buf, f, n);
    for (int i = 0; i < n; i++) {
        uint16_t h;
        if (n_codes(d) == 256) codes[i] = buf[i];
        else { memcpy(&h, buf + 2 * i, 2); codes[i] = h; }
    }
}
static float *floats; static int32_t *codes;   /* scratch of the program */
static void alloc(void) {
    if (!floats) {
        floats = malloc(70000 * sizeof *floats);
        codes = malloc(70000 * sizeof *codes);
        if (!floats || !codes) exit(1);
    }
}

static void names(void) {
    lm_dtype d;
    for (int i = 0; i < LM_QUANT; i++) {
        LM_CHECK(lm_dtype_parse(lm_dtype_name((lm_dtype)i), &d) && d == (lm_dtype)i);
        LM_CHECK(lm_dtype_size((lm_dtype)i) >= 1 && lm_dtype_size((lm_dtype)i) <= 8);
    }
    LM_CHECK(lm_dtype_parse("bfloat16", &d) && d == LM_BF16);
    LM_CHECK(lm_dtype_parse("torch.float16", &d) && d == LM_F16);
    LM_CHECK(lm_dtype_parse("f8_e4m3", &d) && d == LM_F8_E4M3);
    d = LM_I8;
    LM_CHECK(!lm_dtype_parse("f31", &d) && !lm_dtype_parse("QUANT", &d) && !lm_dtype_parse(NULL, &d) && d == LM_I8);
    LM_CHECK(lm_dtype_size(LM_QUANT) == 0 && lm_dtype_size((lm_dtype)99) == 0);
    LM_CHECK(lm_dtype_is_float(LM_F8_E5M2) && !lm_dtype_is_float(LM_I32) && !lm_dtype_is_float(LM_QUANT));
}
static void round_trip(void) {
    alloc();
    for (int s = 0; s < LM_COUNT(sets); s++) for (int k = 0; usable(sets[s]) && k < LM_COUNT(small); k++) {
        const lm_dtype d = small[k];
        const int n = n_codes(d);
        all_floats(sets[s], d, floats);
        to_codes(sets[s], d, floats, n, codes);
        int bad = 0;
        for (int i = 0; i < n; i++) {
            if (isnan(floats[i])) {                    /* NaN stays NaN with its sign, quiet */
                float back; const uint16_t c = (uint16_t)codes[i]; const uint8_t b = (uint8_t)codes[i];
                sets[s]->to_f32[d](&back, n == 256 ? (const void *)&b : (const void *)&c, 1);
                bad += !isnan(back) || signbit(back) != signbit(floats[i]);
            } else bad += codes[i] != i;
        }
        if (bad) printf("%s %s: %d codes\n", sets[s]->name, lm_dtype_name(d), bad);
        LM_CHECK(bad == 0);
    }
}
/* Between neighbours a < b: the middle goes to the even code, one float below it to a, one above to b. With exact tables this is all of
 * rounding to nearest even, since conversion is monotonic in between. */
static void boundaries(void) {
    alloc();
    for (int s = 0; s < LM_COUNT(sets); s++) for (int k = 0; usable(sets[s]) && k < LM_COUNT(small); k++) {
        const lm_dtype d = small[k];
        const int half = n_codes(d) / 2, inf = d == LM_F16 ? 0x7c00 : d == LM_BF16 ? 0x7f80 : d == LM_F8_E5M2 ? 0x7c : 0x7f;
        all_floats(sets[s], d, floats);
        static float q[3 * 32768]; static int32_t got[70000], want[3 * 32768];
        int n = 0, bad = 0;
        for (int c = 0; c < inf - 1; c++) {
            const double mid = ((double)floats[c] + (double)floats[c + 1]) / 2;
            const float m = (float)mid;
            if ((double)m == mid) { q[n] = m; want[n++] = c & 1 ? c + 1 : c; }
            q[n] = nextafterf(m, 0); want[n++] = c;
            if ((double)m == mid) { q[n] = nextafterf(m, INFINITY); want[n++] = c + 1; }
        }
        for (int i = 0; i < n; i += 30000) {
            const int m = n - i < 30000 ? n - i : 30000;
            for (int sign = 0; sign < 2; sign++) {
                to_codes(sets[s], d, q + i, m, got);
                for (int j = 0; j < m; j++) { bad += got[j] != want[i + j] + sign * half; q[i + j] = -q[i + j]; }
            }
        }
        if (bad) printf("%s %s: %d of %d boundaries\n", sets[s]->name, lm_dtype_name(d), bad, n);
        LM_CHECK(bad == 0 && n > half);
        /* the end of the range */
        const float top = floats[inf - 1], edge[] = { FLT_MAX, INFINITY, top };
        to_codes(sets[s], d, edge, 3, got);
        LM_CHECK(got[0] == inf && got[1] == inf && got[2] == inf - 1);
    }
}
static void f16_of_compiler(void) {
#ifdef __FLT16_MAX__
    for (int i = 0; i < 65536; i++) {
        const uint16_t h = (uint16_t)i;
        _Float16 x; memcpy(&x, &h, 2);
        const float a = lm_f16_to_f32(h), b = (float)x;
        LM_CHECK(isnan(b) ? isnan(a) : memcmp(&a, &b, 4) == 0);
    }
    uint32_t u = 12345;
    int bad = 0;
    for (int i = 0; i < 2000000; i++) {
        u = u * 1664525u + 1013904223u;
        float f; memcpy(&f, &u, 4);
        if (isnan(f)) continue;
        const _Float16 x = (_Float16)f; uint16_t h; memcpy(&h, &x, 2);
        bad += h != lm_f32_to_f16(f);
    }
    LM_CHECK(bad == 0);
#else
    LM_SKIP("this compiler has no _Float16");
#endif
}
static lm_ctx *ctx; static lm_st *st;
static const void *fixture(const char *name, int64_t *n) {
    const lm_st_tensor *t; const void *p;
    if (!st && (lm_ctx_new(&ctx, NULL) || lm_st_open(&st, ctx, LM_FIXTURES "/tensor.safetensors"))) {
        printf("fixture: %s\n", lm_error(ctx));
        exit(1);
    }
    if (lm_st_need(st, name, &t) || lm_st_map(st, t, &p)) { printf("fixture: %s\n", lm_error(ctx)); exit(1); }
    *n = t->dim[0];
    return p;
}
static void tables_of_others(void) {
    alloc();
    int64_t n, m;
    static const struct { lm_dtype d; const char *table, *x, *y; } rows[] = {
        { LM_F16, NULL, "x_f16", "y_f16" }, { LM_BF16, NULL, "x_bf16", "y_bf16" },
        { LM_F8_E4M3, "f8_e4m3", "x_f8_e4m3", "y_f8_e4m3" }, { LM_F8_E5M2, "f8_e5m2", "x_f8_e5m2", "y_f8_e5m2" } };
    for (int s = 0; s < LM_COUNT(sets); s++) for (int k = 0; usable(sets[s]) && k < LM_COUNT(rows); k++) {
        const lm_dtype d = rows[k].d;
        if (rows[k].table) {
            const float *want = fixture(rows[k].table, &n);
            all_floats(sets[s], d, floats);
            for (int i = 0; i < 256; i++) {
                float w; memcpy(&w, (const char *)want + 4 * i, 4);
                LM_CHECK(isnan(w) ? isnan(floats[i]) : memcmp(&floats[i], &w, 4) == 0);
                const float one = lm_f8_to_f32((uint8_t)i, d);
                LM_CHECK(isnan(w) ? isnan(one) : memcmp(&one, &w, 4) == 0);
            }
        }
        const void *x = fixture("x", &n), *want = fixture(rows[k].x, &m);
        LM_CHECK(n == m && n > 5000);
        memcpy(floats, x, (size_t)n * 4);
        to_codes(sets[s], d, floats, (int)n, codes);
        for (int64_t i = 0; i < n; i++) {
                int32_t w; memcpy(&w, (const char *)want + 4 * i, 4);
                if (codes[i] != w) {
                    LM_CHECK(!"code differs");
                    printf("  %s of %a: %x, wanted %x\n", lm_dtype_name(d), (double)floats[i], (unsigned)codes[i], (unsigned)w);
                    break;
                }
            }
    }
    for (int k = 0; k < LM_COUNT(rows); k++) {                /* from double, rounded once */
        const void *y = fixture("y", &n), *want = fixture(rows[k].y, &m);
        double *in = malloc((size_t)n * 8); uint8_t *out = malloc((size_t)n * 2);
        if (!in || !out) exit(1);
        memcpy(in, y, (size_t)n * 8);
        for (int sign = 0; sign < 2; sign++) {
            lm_convert(out, rows[k].d, in, LM_F64, n);
            for (int64_t i = 0; i < n; i++) {
                int32_t w; uint16_t h; memcpy(&w, (const char *)want + 4 * i, 4); memcpy(&h, out + 2 * i, 2);
                const int32_t got = lm_dtype_size(rows[k].d) == 2 ? h : out[i];
                if (got != w + sign * n_codes(rows[k].d) / 2) {
                    LM_CHECK(!"double rounded twice");
                    printf("  %s of %a: %x, wanted %x\n", lm_dtype_name(rows[k].d), in[i], (unsigned)got, (unsigned)w);
                    break;
                }
                in[i] = -in[i];
            }
        }
        free(in); free(out);
    }
}
static void convert_all_pairs(void) {
    static const lm_dtype ds[] = { LM_F32, LM_F64, LM_F16, LM_BF16, LM_F8_E4M3, LM_F8_E5M2 };
    /* values exact in every type, odd lengths, unaligned starts, canaries */
    for (int a = 0; a < LM_COUNT(ds); a++) for (int b = 0; b < LM_COUNT(ds); b++) for (int n = 0; n < 2100; n = n < 40 ? n + 1 : n * 3 + 1) {
        const size_t sa = lm_dtype_size(ds[a]), sb = lm_dtype_size(ds[b]);
        float *x = malloc((size_t)(n + 1) * 4); double *back = malloc((size_t)(n + 1) * 8);
        uint8_t *p = malloc((size_t)(n + 1) * sa), *q = malloc((size_t)(n + 2) * sb);
        if (!x || !back || !p || !q) exit(1);
        for (int i = 0; i < n; i++) x[i] = (float)((i * 7) % 9 - 4) * 0.25f;
        lm_convert(p, ds[a], x, LM_F32, n);
        memset(q, 0xa5, (size_t)(n + 2) * sb);
        lm_convert(q + sb, ds[b], p, ds[a], n);
        lm_convert(back, LM_F64, q + sb, ds[b], n);
        int bad = 0;
        for (int i = 0; i < n; i++) bad += back[i] != (double)x[i];
        for (size_t i = 0; i < sb; i++) bad += q[i] != 0xa5 || q[(size_t)(n + 1) * sb + i] != 0xa5;
        LM_CHECK(bad == 0);
        free(x); free(back); free(p); free(q);
    }
    int32_t i32[2] = { 1, 2 }, keep[2] = { 7, 7 };
    lm_convert(keep, LM_F32, i32, LM_I32, 2);                /* not a float: nothing happens */
    LM_CHECK(keep[0] == 7 && keep[1] == 7);
}
static void sizes(void) {
    size_t b = 0;
    LM_CHECK(lm_storage_bytes(LM_F32, NULL, LM_PLAIN, 0, NULL, &b) && b == 4);
    LM_CHECK(lm_storage_bytes(LM_BF16, NULL, LM_PLAIN, 3, (int64_t[]){ 2, 3, 5 }, &b) && b == 60);
    LM_CHECK(lm_storage_bytes(LM_F32, NULL, LM_PLAIN, 2, (int64_t[]){ 0, 5 }, &b) && b == 0);
    LM_CHECK(lm_storage_bytes(LM_F32, NULL, LM_PANEL16, 2, (int64_t[]){ 17, 5 }, &b) && b == 32 * 5 * 4);
    LM_CHECK(lm_storage_bytes(LM_BF16, NULL, LM_PANEL16X2, 2, (int64_t[]){ 1, 33 }, &b) && b == 16 * 64 * 2);
    b = 77;
    LM_CHECK(!lm_storage_bytes(LM_F32, NULL, LM_PLAIN, 2, (int64_t[]){ INT64_MAX, 3 }, &b));
    LM_CHECK(!lm_storage_bytes(LM_F32, NULL, LM_PLAIN, 1, (int64_t[]){ INT64_MAX }, &b));
    LM_CHECK(!lm_storage_bytes(LM_F32, NULL, LM_PLAIN, 2, (int64_t[]){ -1, 3 }, &b));
    LM_CHECK(!lm_storage_bytes(LM_F32, NULL, LM_PLAIN, 4, (int64_t[]){ 1LL << 31, 1LL << 31, 1 << 20, 1 }, &b));
    LM_CHECK(!lm_storage_bytes(LM_F32, NULL, LM_PANEL16, 2, (int64_t[]){ INT64_MAX, 1 }, &b));
    LM_CHECK(!lm_storage_bytes(LM_BF16, NULL, LM_PANEL16X2, 2, (int64_t[]){ 1, INT64_MAX }, &b));
    LM_CHECK(!lm_storage_bytes(LM_BF16, NULL, LM_PANEL16, 2, (int64_t[]){ 1, 1 }, &b));
    LM_CHECK(!lm_storage_bytes(LM_F32, NULL, LM_PANEL16, 3, (int64_t[]){ 1, 1, 1 }, &b));
    LM_CHECK(!lm_storage_bytes(LM_QUANT, NULL, LM_PLAIN, 2, (int64_t[]){ 1, 32 }, &b));
    LM_CHECK(!lm_storage_bytes(LM_F32, NULL, LM_PLAIN, 5, (int64_t[]){ 1, 1, 1, 1, 1 }, &b));
    LM_CHECK(b == 77);
    const lm_tensor t = lm_tensor_of(NULL, LM_F32, 3, (int64_t[]){ 2, 3, 4 });
    LM_CHECK(t.stride[0] == 12 && t.stride[1] == 4 && t.stride[2] == 1 && t.dim[3] == 1 && lm_is_contig(&t) && lm_numel(&t) == 24 &&
             lm_rows(&t) == 6 && lm_cols(&t) == 4);
    lm_tensor v = t; v.dim[1] = 2;
    LM_CHECK(!lm_is_contig(&v));
    v.dim[0] = 1; LM_CHECK(lm_is_contig(&v));
    v = t; v.stride[2] = 2; LM_CHECK(!lm_is_contig(&v));
    v.dim[0] = 0; LM_CHECK(lm_is_contig(&v));
}
/* put in pieces of every size, compare each element with the formula in tensor.h, read back; pads untouched */
static void layouts(void) {
    static const struct {
        lm_dtype d;
        lm_layout l;
    } kinds[] = { { LM_F32, LM_PANEL16 }, { LM_BF16, LM_PANEL16X2 }, { LM_F32, LM_PLAIN }, { LM_BF16, LM_PLAIN }, { LM_F16, LM_PLAIN } };
    static const int64_t shapes[][2] = { { 1, 1 },   { 3, 7 },   { 16, 16 }, { 16, 32 }, { 17, 33 },
                                         { 31, 15 }, { 48, 64 }, { 50, 65 }, { 33, 100 } },
                         steps[] = { 1, 5, 16, 23, 1000 };
    for (int a = 0; a < LM_COUNT(kinds); a++) for (int s = 0; s < LM_COUNT(shapes); s++) for (int c = 0; c < LM_COUNT(steps); c++) {
        const int64_t n = shapes[s][0], k = shapes[s][1], kp = lm_round_up(k, 32);
        size_t bytes;
        LM_CHECK(lm_storage_bytes(kinds[a].d, NULL, kinds[a].l, 2, shapes[s], &bytes));
        char *data = calloc(1, bytes); float *x = malloc((size_t)(n * k) * 4), *y = malloc((size_t)(n * k) * 4);
        if (!data || !x || !y) exit(1);
        for (int64_t i = 0; i < n * k; i++) x[i] = (float)(i * 37 % 251 - 125) + 0.001f * (float)(i % 3);
        lm_tensor w = lm_tensor_of(data, kinds[a].d, 2, shapes[s]); w.layout = (int8_t)kinds[a].l;
        for (int64_t r = 0; r < n; r += steps[c]) lm_layout_put_rows(&w, r, lm_min64(steps[c], n - r), x + r * k);
        lm_layout_get_rows(&w, 0, n, y);
        int bad = 0;
        for (int64_t r = 0; r < n; r++) for (int64_t i = 0; i < k; i++) {
                const float v = x[r * k + i], want = kinds[a].d == LM_BF16  ? lm_bf16_to_f32(lm_f32_to_bf16(v))
                                                     : kinds[a].d == LM_F16 ? lm_f16_to_f32(lm_f32_to_f16(v))
                                                                            : v;
                bad += y[r * k + i] != want;
                if (kinds[a].l == LM_PANEL16) bad += ((float *)data)[((r / 16) * k + i) * 16 + r % 16] != want;
                if (kinds[a].l == LM_PANEL16X2)
                    bad += lm_bf16_to_f32(((uint16_t *)data)[(r / 16) * kp * 16 + i / 2 * 32 + r % 16 * 2 + i % 2]) != want;
        }
        double sum = 0, total = 0;
        if (kinds[a].l == LM_PANEL16X2) {                    /* nothing beside the elements: magnitudes add up */
            for (int64_t i = 0; i < n * k; i++) sum += fabs(y[i]);
            for (size_t i = 0; i < bytes / 2; i++) total += fabs(lm_bf16_to_f32(((uint16_t *)data)[i]));
            bad += sum != total;
        }
        LM_CHECK(bad == 0);
        free(data); free(x); free(y);
    }
    /* packed loops of each instruction set give the same bytes */
    float x[16 * 100]; static float p[3][16 * 100]; static uint16_t h[3][16 * 128];
    for (int i = 0; i < 16 * 100; i++) x[i] = (float)i * 1.001f;
    x[5] = NAN; x[6] = INFINITY;
    for (int s = 0; s < 3; s++) if (usable(sets[s])) {
        sets[s]->put16(p[s], 100, x); sets[s]->put16x2(h[s], 100, x);
        LM_CHECK(!memcmp(p[s], p[0], sizeof p[0]) && !memcmp(h[s], h[0], sizeof h[0]));
    }
    /* a strided plain view */
    float big[6] = { 0 }; lm_tensor v = lm_tensor_of(big, LM_F32, 2, (int64_t[]){ 2, 2 }); v.stride[0] = 3;
    lm_layout_put_rows(&v, 0, 2, (float[]){ 1, 2, 3, 4 });
    LM_CHECK(big[0] == 1 && big[1] == 2 && big[2] == 0 && big[3] == 3 && big[4] == 4);
    float back[2]; lm_layout_get_rows(&v, 1, 1, back);
    LM_CHECK(back[0] == 3 && back[1] == 4);
}

LM_TEST_MAIN(LM_T1(names), LM_T1(round_trip), LM_T1(boundaries), LM_T1(f16_of_compiler), LM_T1(tables_of_others), LM_T1(convert_all_pairs),
             LM_T1(sizes), LM_T1(layouts))
