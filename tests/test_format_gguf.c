/* GGUF: files of the package of record, each malformed class by hand, torture, the writer's bytes. */
#include "format_test.h"
#include "format/gguf.h"

static lm_err touch(const uint8_t *p, size_t n) {
    lm_gguf *g; LM_TRY(lm_gguf_open_mem(&g, ctx, "t.gguf", p, n));
    uint64_t h = T_FNV; const void *m;
    for (int i = 0; i < lm_gguf_count(g); i++) {
        const lm_gguf_tensor *t = lm_gguf_at(g, i);
        if (lm_gguf_find(g, t->name) != t || lm_gguf_map(g, t, &m)) abort();
        h = t_fnv(m, (size_t)t->bytes, h);
    }
    for (int i = 0; i < lm_gguf_n_keys(g); i++) {
        lm_gguf_type type, item; int64_t k, v; double d; bool b; const char *s; size_t len; lm_gguf_nums a, f; lm_gguf_strs ss;
        const char *key = lm_gguf_key(g, i, &type, &item, &k);
        int good = 0;
        good += !lm_gguf_int(g, key, true, 0, INT64_MIN, INT64_MAX, &v);
        good += !lm_gguf_num(g, key, true, 0, &d);
        good += !lm_gguf_bool(g, key, true, false, &b);
        if (!lm_gguf_str(g, key, true, NULL, &s, &len)) { h = t_fnv(s, len + 1, h); good++; }
        if (!lm_gguf_arr_int(g, key, true, &a)) { for (int64_t j = -1; j <= a.n; j++) h += (uint64_t)lm_gguf_nums_int(&a, j); good++; }
        if (!lm_gguf_arr_num(g, key, true, &f)) { for (int64_t j = -1; j <= f.n; j++) h += lm_gguf_nums_num(&f, j) > 0; good++; }
        if (!lm_gguf_arr_str(g, key, true, &ss)) {
            for (int64_t j = 0; j < ss.n; j++) {
                s = lm_gguf_strs_at(&ss, j, &len);
                h = t_fnv(s, len, h);
            }
            good++;
        }
        if (!good && type != LM_GGUF_U64) abort();         /* every type has a getter (a u64 may be out of int's range: then num took it) */
    }
    lm_gguf_close(g);
    return LM_OK;
}
static void test_small(void) {
    t_begin();
    lm_gguf *g; int64_t v = 5; double d; bool b; const char *s; size_t n; lm_gguf_nums a; lm_gguf_strs ss; const lm_gguf_tensor *t;
    LM_NEED_OK(ctx, lm_gguf_open(&g, ctx, t_fix("small.gguf")));
    LM_CHECK(lm_gguf_version(g) == 3 && lm_gguf_alignment(g) == 64 && lm_gguf_count(g) == 4);
    static const struct {
        const char *key;
        int64_t v;
    } ints[] = { { "u8", 200 },         { "i8", -100 },         { "u16", 60000 },       { "i16", -30000 },
                 { "u32", 4000000000 }, { "i32", -2000000000 }, { "i64", -(1ll << 62) } };
    for (int i = 0; i < LM_COUNT(ints); i++) {
        LM_CHECK_OK(ctx, lm_gguf_int(g, ints[i].key, true, 0, INT64_MIN, INT64_MAX, &v));
        LM_CHECK(v == ints[i].v);
    }
    v = 5;
    LM_CHECK_ERR(ctx, lm_gguf_int(g, "u64", true, 0, INT64_MIN, INT64_MAX, &v), LM_E_RANGE, "key \"u64\"");
    LM_CHECK_ERR(ctx, lm_gguf_int(g, "u8", true, 0, 0, 100, &v), LM_E_RANGE, "key \"u8\" is 200, outside 0..100");
    LM_CHECK_ERR(ctx, lm_gguf_int(g, "f32", true, 0, 0, 100, &v), LM_E_CONFIG, "is of type f32, wanted an integer");
    LM_CHECK_ERR(ctx, lm_gguf_int(g, "yes", true, 0, 0, 100, &v), LM_E_CONFIG, "is of type bool");
    LM_CHECK_ERR(ctx, lm_gguf_int(g, "ints", true, 0, 0, 100, &v), LM_E_CONFIG, "array of i32");
    LM_CHECK_ERR(ctx, lm_gguf_int(g, "u9", true, 0, 0, 100, &v), LM_E_CONFIG, "no key \"u9\" among");
    LM_CHECK(v == 5);
    LM_CHECK_OK(ctx, lm_gguf_int(g, "u9", false, 17, 0, 1, &v)); LM_CHECK(v == 17);
    LM_CHECK_OK(ctx, lm_gguf_num(g, "u64", true, 0, &d)); LM_CHECK(d == 0x1p63);
    LM_CHECK_OK(ctx, lm_gguf_num(g, "f32", true, 0, &d)); LM_CHECK(d == 0.5);
    LM_CHECK_OK(ctx, lm_gguf_num(g, "f64", true, 0, &d)); LM_CHECK(d == 0.1);
    LM_CHECK_OK(ctx, lm_gguf_bool(g, "yes", true, false, &b)); LM_CHECK(b);
    LM_CHECK_OK(ctx, lm_gguf_bool(g, "no", true, true, &b)); LM_CHECK(!b);
    LM_CHECK_OK(ctx, lm_gguf_str(g, "text", true, NULL, &s, &n)); LM_CHECK_STR(s, "gr\xc3\xbc\xc3\x9f dich"); LM_CHECK(n == strlen(s));
    LM_CHECK_OK(ctx, lm_gguf_arr_int(g, "ints", true, &a));
    LM_CHECK(a.n == 3 && lm_gguf_nums_int(&a, 1) == -2 && lm_gguf_nums_int(&a, 3) == 0 && lm_gguf_nums_int(&a, -1) == 0);
    LM_CHECK_OK(ctx, lm_gguf_arr_num(g, "floats", true, &a)); LM_CHECK(a.n == 2 && lm_gguf_nums_num(&a, 1) == 1.5);
    LM_CHECK_OK(ctx, lm_gguf_arr_int(g, "bools", true, &a)); LM_CHECK(a.n == 2 && lm_gguf_nums_int(&a, 0) == 1 && lm_gguf_nums_int(&a, 1) == 0);
    LM_CHECK_OK(ctx, lm_gguf_arr_str(g, "strings", true, &ss)); LM_CHECK(ss.n == 3);
    s = lm_gguf_strs_at(&ss, 2, &n);
    LM_CHECK(n == 4 && !memcmp(s, "\xc3\x9f\xc3\x9f", 4));
    lm_gguf_strs_at(&ss, 0, &n);
    LM_CHECK(n == 0 && !lm_gguf_strs_at(&ss, 3, &n));
    LM_CHECK_ERR(ctx, lm_gguf_arr_int(g, "strings", true, &a), LM_E_CONFIG, "array of string, wanted array of integers");
    LM_CHECK_ERR(ctx, lm_gguf_arr_str(g, "ints", true, &ss), LM_E_CONFIG, "wanted array of strings");
    LM_CHECK_ERR(ctx, lm_gguf_arr_num(g, "u8", true, &a), LM_E_CONFIG, "is of type u8");
    LM_NEED_OK(ctx, lm_gguf_need(g, "f32", &t));
    LM_CHECK(t->rank == 3 && t->dim[0] == 2 && t->dim[1] == 3 && t->dim[2] == 4 && t->bytes == 96 && t->type->dtype == LM_F32 && t->offset % 64 == 0);
    float f[2]; LM_CHECK_OK(ctx, lm_gguf_read(g, t, f, 88, 8)); LM_CHECK(f[0] == 22 && f[1] == 23);
    LM_CHECK_ERR(ctx, lm_gguf_read(g, t, f, 92, 8), LM_E_RANGE, "bytes 92+8 of tensor \"f32\"");
    LM_NEED_OK(ctx, lm_gguf_need(g, "q8", &t));
    LM_CHECK(t->rank == 2 && t->dim[0] == 2 && t->dim[1] == 64 && t->bytes == 136 && t->type->dtype == LM_QUANT);
    LM_CHECK_STR(t->type->name, "Q8_0");
    LM_CHECK_ERR(ctx, lm_gguf_need(g, "q9", &t), LM_E_NOTFOUND, "no tensor \"q9\"");
    lm_gguf_close(g);
    t_end();
}
static void test_types(void) {      /* sizes against gguf-py's table as it was when this was written (Q8_1 is 36 in ggml itself, 40 there) */
    static const int want[][3] = { { 0, 1, 4 },      { 1, 1, 2 },      { 2, 32, 18 },    { 3, 32, 20 },    { 6, 32, 22 },
                                   { 7, 32, 24 },    { 8, 32, 34 },    { 9, 32, 36 },    { 10, 256, 84 },  { 11, 256, 110 },
                                   { 12, 256, 144 }, { 13, 256, 176 }, { 14, 256, 210 }, { 15, 256, 292 }, { 16, 256, 66 },
                                   { 17, 256, 74 },  { 18, 256, 98 },  { 19, 256, 50 },  { 20, 32, 18 },   { 21, 256, 110 },
                                   { 22, 256, 82 },  { 23, 256, 136 }, { 24, 1, 1 },     { 25, 1, 2 },     { 26, 1, 4 },
                                   { 27, 1, 8 },     { 28, 1, 8 },     { 29, 256, 56 },  { 30, 1, 2 },     { 34, 256, 54 },
                                   { 35, 256, 66 },  { 39, 32, 17 },   { 40, 64, 36 },   { 41, 128, 18 },  { 42, 64, 18 } };
    int n = 0;
    while (lm_ggml_at(n)) n++;
    LM_CHECK(n == LM_COUNT(want));
    for (int i = 0; i < LM_COUNT(want); i++) {
        const lm_ggml_type *t = lm_ggml_by_id(want[i][0]);
        LM_CHECK(t && t->block == want[i][1] && t->bytes == want[i][2] && lm_ggml_by_name(t->name) == t);
    }
    LM_CHECK(!lm_ggml_by_id(4) && !lm_ggml_by_id(31) && !lm_ggml_by_id(-1) && !lm_ggml_by_name("q8_0"));
}
static void test_real(void) {
    t_begin();
    static const char *const files[] = { "bert-bge", "deepseek-llm", "falcon", "gpt-2", "llama-spm", "phi-3", "starcoder" };
    int seen = 0;
    for (int i = 0; i < LM_COUNT(files); i++) {
        char name[64], rel[128], got[256];
        snprintf(name, sizeof name, "ggml-vocab-%s.gguf", files[i]);
        snprintf(rel, sizeof rel, "tokenizers/llama.cpp/%s", name);
        const char *path = t_data(rel), *model; lm_gguf *g; lm_gguf_strs toks; lm_gguf_nums types; size_t n; uint64_t h = T_FNV, ht = T_FNV;
        if (!path) continue;
        LM_NEED_OK(ctx, lm_gguf_open(&g, ctx, path));
        LM_CHECK_OK(ctx, lm_gguf_str(g, "tokenizer.ggml.model", true, NULL, &model, NULL));
        LM_CHECK_OK(ctx, lm_gguf_arr_str(g, "tokenizer.ggml.tokens", true, &toks));
        LM_CHECK_OK(ctx, lm_gguf_arr_int(g, "tokenizer.ggml.token_type", false, &types));
        for (int64_t k = 0; k < toks.n; k++) { const char *s = lm_gguf_strs_at(&toks, k, &n); h = t_fnv(s, n, h); h = t_fnv("", 1, h); }
        for (int64_t k = 0; k < types.n; k++) { int32_t v = (int32_t)lm_gguf_nums_int(&types, k); ht = t_fnv(&v, 4, ht); }
        snprintf(got, sizeof got, "%d %d %s %lld %016llx %016llx", lm_gguf_n_keys(g), lm_gguf_count(g), model, (long long)toks.n,
                 (unsigned long long)h, (unsigned long long)ht);
        LM_CHECK_STR(got, t_expect("format_expect.txt", "gguf", name));
        lm_gguf_close(g);
        seen++;
    }
    t_end();
    if (!seen) LM_SKIP("LOAM_DATA has no GGUF files");
}

static void test_split(void) {
    t_begin();
    lm_gguf *g = NULL; const lm_gguf_tensor *t; float f[4]; const void *m; int64_t v;
    LM_NEED_OK(ctx, lm_gguf_open(&g, ctx, t_fix("split-00001-of-00003.gguf")));
    LM_CHECK(lm_gguf_parts(g) == 3 && lm_gguf_count(g) == 5);
    LM_CHECK_OK(ctx, lm_gguf_int(g, "answer", true, 0, 0, 100, &v)); LM_CHECK(v == 42);
    for (int i = 0; i < 5; i++) {
        char name[16]; snprintf(name, sizeof name, "t%d", i);
        LM_NEED_OK(ctx, lm_gguf_need(g, name, &t));
        LM_CHECK_OK(ctx, lm_gguf_read(g, t, f, 0, 16)); LM_CHECK(f[0] == i * 10 && f[3] == i * 10 + 3);
        LM_CHECK_OK(ctx, lm_gguf_map(g, t, &m)); LM_CHECK(!memcmp(m, f, 16));
    }
    LM_CHECK(t->part == 2);
    lm_gguf_close(g); g = NULL;
    LM_CHECK_ERR(ctx, lm_gguf_open(&g, ctx, t_fix("split-00002-of-00003.gguf")), LM_E_CONFIG, "part 2 of 3 of a split model: open the first part");
    for (int i = 1; i <= 3; i++) {
        size_t n; char name[64]; snprintf(name, sizeof name, "split-%05d-of-00003.gguf", i);
        char *p = t_read(t_fix(name), &n);
        if (i == 1) LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, t_at("other.gguf"), p, n));
        if (i != 3) LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, t_at(name), p, n));
        if (i == 1) LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, t_at("dup-00001-of-00003.gguf"), p, n));
        if (i == 2) {
            LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, t_at("dup-00002-of-00003.gguf"), p, n));
            LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, t_at("dup-00003-of-00003.gguf"), p, n));
        }
        lm_free(ctx, p);
    }
    LM_CHECK_ERR(ctx, lm_gguf_open(&g, ctx, t_at("other.gguf")), LM_E_CONFIG, "the first of 3 parts must be named");
    LM_CHECK_ERR(ctx, lm_gguf_open(&g, ctx, t_at("split-00001-of-00003.gguf")), LM_E_NOTFOUND, "split-00003-of-00003.gguf");
    LM_CHECK_ERR(ctx, lm_gguf_open(&g, ctx, t_at("dup-00001-of-00003.gguf")), LM_E_MISMATCH, "says it is part 2 of 3, wanted part 3 of 3");
    for (uint64_t k = 1; k < 1000; k++) {
        lm_mem_fail_at(ctx, k, false); lm_err e = lm_gguf_open(&g, ctx, t_fix("split-00001-of-00003.gguf")); lm_mem_fail_at(ctx, 0, false);
        if (!e) { lm_gguf_close(g); g = NULL; LM_CHECK(k > 10); break; }
        LM_CHECK(e == LM_E_NOMEM);
    }
    LM_CHECK(!g);
    t_end();
}

/* ---- malformed: a builder that lies on request ------------------------------------------------------------------- */
static uint8_t B[1 << 16]; static size_t nB;
static void raw(const void *p, size_t n) { memcpy(B + nB, p, n); nB += n; }
static void u32(uint32_t v) { raw(&v, 4); }
static void u64(uint64_t v) { raw(&v, 8); }
static void str(const char *s) { u64(strlen(s)); raw(s, strlen(s)); }
static void head(uint64_t n_tensors, uint64_t n_kv) { nB = 0; raw("GGUF", 4); u32(3); u64(n_tensors); u64(n_kv); }
static void key(const char *k, uint32_t type) { str(k); u32(type); }
static void tensor(const char *name, uint32_t rank, uint64_t d0, uint64_t d1, uint32_t type, uint64_t off) {
    str(name); u32(rank);
    for (uint32_t i = 0; i < rank; i++) u64(i == 0 ? d0 : i == 1 ? d1 : 1);
    u32(type); u64(off);
}
static void data(size_t n) { while (nB % 32) B[nB++] = 0; memset(B + nB, 1, n); nB += n; }
static lm_err now(void) { uint8_t *q = t_copy(B, nB); lm_err e = touch(q, nB); free(q); return e; }
#define BAD(code, say) do { LM_CHECK_ERR(ctx, now(), code, say); LM_CHECK(strstr(lm_error(ctx), "t.gguf")); } while (0)
static void test_malformed(void) {
    t_begin();
    head(0, 0); LM_CHECK_OK(ctx, now());
    head(1, 0); tensor("a", 1, 8, 0, 0, 0); data(32); LM_CHECK_OK(ctx, now());
    head(1, 0); tensor("a", 0, 0, 0, 0, 0); data(4); LM_CHECK_OK(ctx, now());
    head(2, 0); tensor("b", 1, 8, 0, 0, 32); tensor("a", 2, 4, 2, 0, 0); data(64); LM_CHECK_OK(ctx, now());      /* out of order is fine */
    /* head */
    nB = 0; BAD(LM_E_FORMAT, "not a GGUF file"); raw("GGML", 4); u32(3); u64(0); u64(0); BAD(LM_E_FORMAT, "not a GGUF file");
    nB = 0;
    raw("GGUF", 4);
    u32(1);
    u64(0);
    u64(0);
    BAD(LM_E_UNSUPPORTED, "version 1");
    nB = 0;
    raw("GGUF", 4);
    u32(4);
    u64(0);
    u64(0);
    BAD(LM_E_UNSUPPORTED, "version 4");
    nB = 0; raw("GGUF", 4); u32(3u << 24); u64(0); u64(0); BAD(LM_E_UNSUPPORTED, "big-endian");
    /* counts that cannot fit */
    static const uint64_t huge[] = { UINT64_MAX, 1ull << 63, 1ull << 61, 1ull << 32, 1000 };
    for (int i = 0; i < LM_COUNT(huge); i++) {
        head(huge[i], 0); BAD(LM_E_FORMAT, "tensors do not fit"); head(0, huge[i]); BAD(LM_E_FORMAT, "keys do not fit");
        head(0, 1); str("a"); u32(9); u32(0); u64(huge[i]); BAD(LM_E_FORMAT, "items of type u8 do not fit");
        head(0, 1); str("a"); u32(9); u32(12); u64(huge[i]); raw("12345678", 8); BAD(LM_E_FORMAT, "do not fit");
        head(0, 1); str("a"); u32(9); u32(8); u64(huge[i]); u64(0); BAD(LM_E_FORMAT, "items of type string do not fit");
        head(0, 1); str("a"); u32(8); u64(huge[i]); raw("xx", 2); BAD(LM_E_FORMAT, "ends inside a string");
        head(0, 1); u64(huge[i]); raw("12345678901234567890", 20); BAD(LM_E_FORMAT, huge[i] > 65535 ? "a key of" : "ends inside a key");
        head(0, 1); str("a"); u32(9); u32(8); u64(1); u64(huge[i]); BAD(LM_E_FORMAT, "ends inside an array's string");
    }
    /* tiny file, array of arrays of length 2^63 */
    nB = 0; raw("GGUF", 4); u32(3); u64(0); u64(1); str("a"); u32(9); u32(9); u64(1ull << 63); raw("12", 2);
    BAD(LM_E_UNSUPPORTED, "arrays of arrays");
    /* types */
    head(0, 1);
    key("a", 13);
    u64(0);
    BAD(LM_E_FORMAT, "key \"a\": unknown type 13");
    head(0, 1);
    key("a", UINT32_MAX);
    u64(0);
    BAD(LM_E_FORMAT, "unknown type");
    head(0, 1); key("a", 9); u32(13); u64(0); BAD(LM_E_FORMAT, "unknown item type 13");
    head(0, 1);
    key("a", 7);
    raw("\x02", 1);
    BAD(LM_E_FORMAT, "a bool is 0 or 1, got 2");
    head(0, 1);
    key("a", 9);
    u32(7);
    u64(2);
    raw("\x01\xff", 2);
    BAD(LM_E_FORMAT, "a bool is 0 or 1, got 255");
    /* names */
    head(0, 2); key("a", 0); raw("x", 1); key("a", 0); raw("x", 1); BAD(LM_E_FORMAT, "key \"a\" is given twice");
    head(0, 1); key("", 0); raw("xx", 2); BAD(LM_E_FORMAT, "a key is empty"); head(0, 1); key("\xff", 0); raw("x", 1); BAD(LM_E_FORMAT, "not UTF-8");
    head(0, 1); u64(3); raw("a\0b", 3); u32(0); raw("x", 1); BAD(LM_E_FORMAT, "NUL");
    head(2, 0); tensor("a", 1, 8, 0, 0, 0); tensor("a", 1, 8, 0, 0, 32); data(64); BAD(LM_E_FORMAT, "tensor \"a\" is given twice");
    /* alignment */
    static const uint32_t al[] = { 0, 3, 48, 1u << 21, 1u << 31, UINT32_MAX };
    for (int i = 0; i < LM_COUNT(al); i++) { head(0, 1); key("general.alignment", 4); u32(al[i]); BAD(LM_E_FORMAT, "wanted a power of two"); }
    head(0, 1); key("general.alignment", 10); u64(32); BAD(LM_E_FORMAT, "is of type u64, wanted u32");
    head(0, 1); key("general.alignment", 8); str("x"); BAD(LM_E_FORMAT, "is of type string");
    head(1, 1); key("general.alignment", 4); u32(1 << 20); tensor("a", 1, 8, 0, 0, 0); data(32); BAD(LM_E_FORMAT, "past the end");
    head(1, 0); tensor("a", 1, 4, 0, 0, 16); data(64); BAD(LM_E_FORMAT, "no multiple of the alignment 32");
    /* shapes and ranges */
    head(1, 0);
    tensor("a", 5, 1, 1, 0, 0);
    data(32);
    BAD(LM_E_FORMAT, "rank 5");
    head(1, 0);
    str("a");
    u32(UINT32_MAX);
    raw("12345678901234567890", 20);
    BAD(LM_E_FORMAT, "rank 4294967295");
    head(1, 0); tensor("a", 1, 1ull << 63, 0, 0, 0); data(32); BAD(LM_E_FORMAT, "dimension 0 is 9223372036854775808");
    head(1, 0); tensor("a", 2, 1ull << 32, 1ull << 32, 0, 0); data(32); BAD(LM_E_FORMAT, "needs more bytes than the file has");
    head(1, 0); tensor("a", 2, 1ull << 31, 1ull << 31, 0, 0); data(32); BAD(LM_E_FORMAT, "needs more bytes");        /* 2^62 × 4 wraps to 0 */
    head(1, 0);
    tensor("a", 1, 1ull << 62, 0, 0, 0);
    data(32);
    BAD(LM_E_FORMAT, "needs more bytes");
    head(1, 0);
    tensor("a", 1, 9, 0, 0, 0);
    data(32);
    BAD(LM_E_FORMAT, "past the end");
    head(1, 0);
    tensor("a", 1, 8, 0, 0, 32);
    data(32);
    BAD(LM_E_FORMAT, "past the end");
    head(1, 0);
    tensor("a", 1, 8, 0, 0, UINT64_MAX - 31);
    data(32);
    BAD(LM_E_FORMAT, "past the end");
    head(1, 0); tensor("a", 1, 8, 0, 0, 1ull << 63); data(32); BAD(LM_E_FORMAT, "past the end");
    head(2, 0); tensor("a", 1, 16, 0, 0, 0); tensor("b", 1, 8, 0, 0, 32); data(64); BAD(LM_E_FORMAT, "tensors \"a\" and \"b\" overlap");
    head(2, 0); tensor("a", 1, 8, 0, 0, 0); tensor("b", 1, 8, 0, 0, 0); data(64); BAD(LM_E_FORMAT, "overlap");
    head(1, 0);
    tensor("a", 1, 33, 0, 8, 0);
    data(64);
    BAD(LM_E_FORMAT, "33 columns are no multiple of the block of Q8_0 (32)");
    head(1, 0);
    tensor("a", 0, 0, 0, 8, 0);
    data(64);
    BAD(LM_E_FORMAT, "1 columns");
    head(1, 0);
    tensor("a", 1, 32, 0, 4, 0);
    data(64);
    BAD(LM_E_UNSUPPORTED, "retired tensor type 4");
    head(1, 0);
    tensor("a", 1, 32, 0, 99, 0);
    data(64);
    BAD(LM_E_UNSUPPORTED, "tensor \"a\": unknown tensor type 99");
    head(1, 0); tensor("a", 1, 32, 0, UINT32_MAX, 0); data(64); BAD(LM_E_UNSUPPORTED, "unknown tensor type 4294967295");
    /* files */
    lm_gguf *g = NULL;
    LM_CHECK_ERR(ctx, lm_gguf_open(&g, ctx, t_at("absent")), LM_E_NOTFOUND, "absent");
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, t_at("short"), "GGUF", 4));
    LM_CHECK_ERR(ctx, lm_gguf_open(&g, ctx, t_at("short")), LM_E_FORMAT, "short: 4 bytes are too few");
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, t_at("empty"), "", 0));
    LM_CHECK_ERR(ctx, lm_gguf_open(&g, ctx, t_at("empty")), LM_E_FORMAT, "empty: 0 bytes");
    LM_CHECK(!g);
    t_end();
}
static void test_torture(void) {
    t_begin();
    size_t n; char *p = t_read(t_fix("small.gguf"), &n);
    t_torture((uint8_t *)p, n, touch, false);              /* the padding of the last tensor may be cut off */
    lm_free(ctx, p);
    p = t_read(t_fix("tiny.gguf"), &n);
    t_nomem((uint8_t *)p, n, touch);
    /* 8 bytes of the last 32 are data */
    for (size_t k = 0; k + 24 < n; k++) { uint8_t *q = t_copy(p, k); LM_CHECK(touch(q, k) != LM_OK); free(q); }
    lm_free(ctx, p);
    t_end();
}
static void test_work(void) {       /* 50 000 keys and 200 000 strings: linear */
    t_begin();
    lm_gguf_writer *w; lm_gguf *g; char name[64];
    LM_NEED_OK(ctx, lm_gguf_writer_new(&w, ctx, t_at("big"), 0));
    const char **s = malloc(200000 * sizeof *s);
    for (int i = 0; i < 200000; i++) s[i] = "token";
    LM_CHECK_OK(ctx, lm_gguf_put_arr_str(w, "strings", s, NULL, 200000));
    free(s);
    for (int i = 0; i < 2000; i++) { snprintf(name, sizeof name, "k%d", i); LM_CHECK_OK(ctx, lm_gguf_put_u32(w, name, (uint32_t)i)); }
    LM_CHECK_OK(ctx, lm_gguf_writer_commit(w));
    double t0 = lm_now();
    LM_NEED_OK(ctx, lm_gguf_open(&g, ctx, t_at("big")));
    LM_CHECK(lm_now() - t0 < 5 && lm_gguf_n_keys(g) == 2001);
    if (getenv("LM_TIMES")) printf("200000 strings, 2000 keys: %.1f ms\n", (lm_now() - t0) * 1e3);
    lm_gguf_close(g);
    t_end();
}

/* ---- writer ---------------------------------------------------------------------------------------------------- */
static const char *keep_dir(void) { return getenv("LM_KEEP") ? getenv("LM_KEEP") : t_dir; }
static lm_err write_all(const char *path, int64_t align) {
    lm_gguf_writer *w; LM_TRY(lm_gguf_writer_new(&w, ctx, path, align));
    int8_t i8 = -5; uint16_t u16 = 50000; int16_t i16 = -300; double f64 = 0.1; uint8_t u8 = 255; int64_t i64 = INT64_MIN;
    const char *strs[] = { "", "hello", "\xc3\x9f" }; const char *odd[] = { "a\0b", "c" }; size_t len[] = { 3, 1 };
    lm_err e = lm_gguf_put_str(w, "general.architecture", "llama", 5);
    if (!e) e = lm_gguf_put_u32(w, "u32", 4000000000u);
    if (!e) e = lm_gguf_put_i32(w, "i32", -7);
    if (!e) e = lm_gguf_put_u64(w, "u64", UINT64_MAX);
    if (!e) e = lm_gguf_put_f32(w, "f32", 0.25f);
    if (!e) e = lm_gguf_put_bool(w, "bool", true);
    if (!e) e = lm_gguf_put_scalar(w, "i8", LM_GGUF_I8, &i8);
    if (!e) e = lm_gguf_put_scalar(w, "u8", LM_GGUF_U8, &u8);
    if (!e) e = lm_gguf_put_scalar(w, "u16", LM_GGUF_U16, &u16);
    if (!e) e = lm_gguf_put_scalar(w, "i16", LM_GGUF_I16, &i16);
    if (!e) e = lm_gguf_put_scalar(w, "f64", LM_GGUF_F64, &f64);
    if (!e) e = lm_gguf_put_scalar(w, "i64", LM_GGUF_I64, &i64);
    if (!e) e = lm_gguf_put_arr_str(w, "strs", strs, NULL, 3);
    if (!e) e = lm_gguf_put_arr_str(w, "odd", odd, len, 2);
    if (!e) e = lm_gguf_put_arr(w, "arr_i32", LM_GGUF_I32, (int32_t[]){ 1, -2, 3 }, 3);
    if (!e) e = lm_gguf_put_arr(w, "arr_f32", LM_GGUF_F32, (float[]){ 0.5f, -1 }, 2);
    if (!e) e = lm_gguf_put_arr(w, "arr_none", LM_GGUF_U8, NULL, 0);
    if (!e) e = lm_gguf_writer_add(w, "token_embd.weight", lm_ggml_by_name("F32"), 2, (int64_t[]){ 3, 5 });
    if (!e) e = lm_gguf_writer_add(w, "blk.0.q8", lm_ggml_by_name("Q8_0"), 2, (int64_t[]){ 2, 64 });
    if (!e) e = lm_gguf_writer_add(w, "blk.0.q4_k", lm_ggml_by_name("Q4_K"), 3, (int64_t[]){ 2, 1, 256 });
    if (!e) e = lm_gguf_writer_add(w, "b", lm_ggml_by_name("BF16"), 1, (int64_t[]){ 3 });
    if (!e) e = lm_gguf_writer_add(w, "r4", lm_ggml_by_name("I32"), 4, (int64_t[]){ 2, 1, 3, 1 });
    uint8_t all[600]; size_t total = 60 + 136 + 288 + 6 + 24;
    for (size_t k = 0; k < total; k++) all[k] = (uint8_t)(k * 11 & 0x3f);
    for (size_t at = 0, step = 1; at < total && !e; at += step, step = step % 89 + 17) {
        if (step > total - at) step = total - at;
        e = lm_gguf_writer_write(w, all + at, step);
    }
    if (e) { lm_gguf_writer_abort(w); return e; }
    return lm_gguf_writer_commit(w);
}
static void test_write(void) {
    t_begin();
    for (int k = 0; k < 2; k++) {
        static const char *const names[] = { "a32.gguf", "a128.gguf" };
        char path[1200], got[64]; size_t n; lm_gguf *g; int64_t v; const lm_gguf_tensor *t; uint8_t b[4];
        snprintf(path, sizeof path, "%s/%s", keep_dir(), names[k]);
        LM_NEED_OK(ctx, write_all(path, k ? 128 : 0));
        char *p = t_read(path, &n);
        snprintf(got, sizeof got, "%zu %016llx", n, (unsigned long long)t_fnv(p, n, T_FNV));
        if (!getenv("LM_KEEP")) LM_CHECK_STR(got, t_expect("written.txt", "file", names[k]));
        LM_CHECK_OK(ctx, touch((uint8_t *)p, n));
        lm_free(ctx, p);
        LM_NEED_OK(ctx, lm_gguf_open(&g, ctx, path));
        LM_CHECK(lm_gguf_count(g) == 5 && lm_gguf_alignment(g) == (k ? 128 : 32));
        LM_CHECK_OK(ctx, lm_gguf_int(g, "i64", true, 0, INT64_MIN, INT64_MAX, &v)); LM_CHECK(v == INT64_MIN);
        LM_NEED_OK(ctx, lm_gguf_need(g, "r4", &t)); LM_CHECK(t->rank == 4 && t->dim[0] == 2 && t->dim[2] == 3 && t->dim[3] == 1);
        LM_CHECK_OK(ctx, lm_gguf_read(g, t, b, 0, 4)); LM_CHECK(b[1] == (491 * 11 & 0x3f));
        lm_gguf_close(g);
    }
    lm_gguf_writer *w;
    LM_CHECK_ERR(ctx, lm_gguf_writer_new(&w, ctx, t_at("x"), 48), LM_E_RANGE, "alignment 48");
    LM_NEED_OK(ctx, lm_gguf_writer_new(&w, ctx, t_at("x"), 0));
    LM_CHECK_OK(ctx, lm_gguf_put_u32(w, "k", 1));
    LM_CHECK_ERR(ctx, lm_gguf_put_u32(w, "k", 1), LM_E_CONFIG, "given twice");
    LM_CHECK_ERR(ctx, lm_gguf_put_u32(w, "general.alignment", 64), LM_E_CONFIG, "argument of the writer");
    LM_CHECK_ERR(ctx, lm_gguf_put_u32(w, "", 1), LM_E_FORMAT, "cannot be a key");
    LM_CHECK_ERR(ctx, lm_gguf_put_scalar(w, "s", LM_GGUF_STR, "x"), LM_E_INTERNAL, "not a scalar");
    const lm_ggml_type *q8 = lm_ggml_by_name("Q8_0");
    LM_CHECK_ERR(ctx, lm_gguf_writer_add(w, "t", q8, 1, (int64_t[]){ 33 }), LM_E_SHAPE, "33 columns");
    LM_CHECK_ERR(ctx, lm_gguf_writer_add(w, "t", q8, 5, (int64_t[]){ 32 }), LM_E_SHAPE, "rank 5");
    LM_CHECK_ERR(ctx, lm_gguf_writer_add(w, "t", q8, 2, (int64_t[]){ INT64_MAX, 32 }), LM_E_SHAPE, "\"t\"");
    LM_CHECK_ERR(ctx, lm_gguf_writer_add(w, "0123456789012345678901234567890123456789012345678901234567890123", q8, 1, (int64_t[]){ 32 }),
                 LM_E_FORMAT, "1..63 bytes");
    LM_CHECK_OK(ctx, lm_gguf_writer_add(w, "t", q8, 1, (int64_t[]){ 32 }));
    LM_CHECK_OK(ctx, lm_gguf_writer_write(w, "abc", 3));
    LM_CHECK_ERR(ctx, lm_gguf_put_u32(w, "late", 1), LM_E_INTERNAL, "after the first data");
    LM_CHECK_ERR(ctx, lm_gguf_writer_commit(w), LM_E_INTERNAL, "tensor \"t\" still wants 31 bytes");
    LM_CHECK(!lm_exists(t_at("x")));
    for (uint64_t k = 1;; k++) {
        lm_mem_fail_at(ctx, k, false); lm_err e = write_all(t_at("sweep"), 0); lm_mem_fail_at(ctx, 0, false);
        if (!e) break;
        LM_CHECK(e == LM_E_NOMEM);
        if (k > 10000) { LM_CHECK(!"never"); break; }
    }
    t_end();
}
LM_TEST_MAIN(LM_T1(test_small), LM_T1(test_types), LM_T1(test_real), LM_T1(test_split), LM_T1(test_malformed), LM_T1(test_torture),
             LM_T1(test_work), LM_T1(test_write))
