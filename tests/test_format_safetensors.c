/* safetensors: files of the package of record, every malformed class by hand, torture, folders, and the writer's bytes. */
#include "format_test.h"
#include "format/safetensors.h"

static lm_err touch(const uint8_t *p, size_t n) {          /* open, look everything up, read every byte, close */
    lm_st *st; LM_TRY(lm_st_open_mem(&st, ctx, "t.safetensors", p, n));
    uint64_t h = T_FNV;
    for (int i = 0; i < lm_st_count(st); i++) {
        const lm_st_tensor *t = lm_st_at(st, i); const void *m;
        if (lm_st_find(st, t->name) != t) abort();
        if (lm_st_map(st, t, &m)) abort();
        h = t_fnv(m, (size_t)t->bytes, h);
        h = t_fnv(t->dim, (size_t)t->rank * sizeof *t->dim, h);
    }
    for (int i = 0; i < lm_st_meta_count(st); i++) { const char *k, *v; lm_st_meta_at(st, i, &k, &v); if (lm_st_meta(st, k) != v) abort(); }
    lm_st_close(st);
    return LM_OK;
}
static void test_small(void) {
    t_begin();
    lm_st *st; const lm_st_tensor *t;
    LM_NEED_OK(ctx, lm_st_open(&st, ctx, t_fix("small.safetensors")));
    LM_CHECK(lm_st_count(st) == 15 && lm_st_shards(st) == 1 && !lm_st_at(st, 15) && !lm_st_at(st, -1));
    LM_CHECK_STR(lm_st_meta(st, "note"), "caf\xc3\xa9 \"q\" \xf0\x9f\x98\x80");
    LM_CHECK_STR(lm_st_meta(st, "format"), "np");
    LM_CHECK(!lm_st_meta(st, "none") && lm_st_meta_count(st) == 2);
    static const struct {
        const char *name;
        lm_dtype d;
        int size;
    } kinds[] = { { "F32", LM_F32, 4 }, { "F64", LM_F64, 8 }, { "F16", LM_F16, 2 }, { "I8", LM_I8, 1 },
                  { "U8", LM_U8, 1 },   { "I16", LM_I16, 2 }, { "U16", LM_U16, 2 }, { "I32", LM_I32, 4 },
                  { "U32", LM_U32, 4 }, { "I64", LM_I64, 8 }, { "U64", LM_U64, 8 } };
    for (int i = 0; i < LM_COUNT(kinds); i++) {
        LM_NEED_OK(ctx, lm_st_need(st, kinds[i].name, &t));
        LM_CHECK(t->dtype == kinds[i].d && t->rank == 2 && t->dim[0] == 2 && t->dim[1] == 3 && t->bytes == 6 * kinds[i].size);
        uint8_t b[48] = { 0 }; int64_t v = 0;
        LM_CHECK_OK(ctx, lm_st_read(st, t, b, 0, t->bytes));
        if (!lm_dtype_is_float(t->dtype)) { memcpy(&v, b + 4 * kinds[i].size, (size_t)kinds[i].size); LM_CHECK(v == 5); }
        else if (t->dtype == LM_F32) { float f; memcpy(&f, b + 20, 4); LM_CHECK(f == 6); }
        else if (t->dtype == LM_F64) { double f; memcpy(&f, b + 40, 8); LM_CHECK(f == 6); }
    }
    LM_NEED_OK(ctx, lm_st_need(st, "scalar", &t)); LM_CHECK(t->rank == 0 && t->bytes == 4);
    LM_NEED_OK(ctx, lm_st_need(st, "empty", &t)); LM_CHECK(t->rank == 2 && t->dim[0] == 0 && t->dim[1] == 4 && t->bytes == 0);
    LM_NEED_OK(ctx, lm_st_need(st, "BOOL", &t)); LM_CHECK(t->dtype == LM_BOOL && t->bytes == 3);
    LM_NEED_OK(ctx, lm_st_need(st, "quote\"back\\slash\n\xc3\xa9\xf0\x9f\x98\x80", &t));
    int32_t v[2]; const void *m;
    LM_CHECK_OK(ctx, lm_st_read(st, t, v, 4, 8)); LM_CHECK(v[0] == 1 && v[1] == 2);
    LM_CHECK_OK(ctx, lm_st_map(st, t, &m)); LM_CHECK(!memcmp((const char *)m + 4, v, 8));
    LM_CHECK_ERR(ctx, lm_st_read(st, t, v, 16, 8), LM_E_RANGE, "bytes 16+8 of tensor");
    LM_CHECK_ERR(ctx, lm_st_read(st, t, v, -1, 1), LM_E_RANGE, "-1");
    LM_CHECK_ERR(ctx, lm_st_read(st, t, v, 0, INT64_MAX), LM_E_RANGE, "");
    LM_CHECK_ERR(ctx, lm_st_need(st, "scalra", &t), LM_E_NOTFOUND, "the nearest name is \"scalar\"");
    for (int i = 1; i < lm_st_count(st); i++) LM_CHECK(strcmp(lm_st_at(st, i - 1)->name, lm_st_at(st, i)->name) < 0);
    lm_st_close(st);
    LM_NEED_OK(ctx, lm_st_open(&st, ctx, t_fix("torch.safetensors")));
    LM_NEED_OK(ctx, lm_st_need(st, "bf16", &t)); LM_CHECK(t->dtype == LM_BF16 && t->bytes == 16);
    uint16_t h; LM_CHECK_OK(ctx, lm_st_read(st, t, &h, 14, 2)); LM_CHECK(lm_bf16_to_f32(h) == 7);
    uint8_t e;
    LM_NEED_OK(ctx, lm_st_need(st, "e4m3", &t));
    LM_CHECK(t->dtype == LM_F8_E4M3);
    LM_CHECK_OK(ctx, lm_st_read(st, t, &e, 6, 1));
    LM_CHECK(e == 0x4c /* 6 */);
    LM_NEED_OK(ctx, lm_st_need(st, "e5m2", &t)); LM_CHECK(t->dtype == LM_F8_E5M2); LM_CHECK_OK(ctx, lm_st_read(st, t, &e, 6, 1)); LM_CHECK(e == 0x46);
    lm_st_close(st);
    t_end();
}
static void test_real(void) {
    t_begin();
    static const char *const files[] = { "resnet_cifar10/resnet20.safetensors", "textgenrnn/textgenrnn_weights.safetensors",
                                         "tinystories-gru/tinystoriesgru-0.2M.safetensors" };
    int seen = 0;
    for (int i = 0; i < LM_COUNT(files); i++) {
        char rel[128]; snprintf(rel, sizeof rel, "weights/%s", files[i]);
        const char *path = t_data(rel), *want = t_expect("format_expect.txt", "st", files[i]);
        if (!path) continue;
        lm_st *st; LM_NEED_OK(ctx, lm_st_open(&st, ctx, path));
        uint64_t h = T_FNV; char got[64], b[256];
        for (int k = 0; k < lm_st_count(st); k++) {
            const lm_st_tensor *t = lm_st_at(st, k); int64_t n = lm_min64(t->bytes, 256);
            h = t_fnv(t->name, strlen(t->name) + 1, h);
            h = t_fnv(t->dim, (size_t)t->rank * 8, h);
            LM_CHECK_OK(ctx, lm_st_read(st, t, b, 0, n));
            h = t_fnv(b, (size_t)n, h);
        }
        snprintf(got, sizeof got, "%d %016llx", lm_st_count(st), (unsigned long long)h);
        LM_CHECK_STR(got, want);
        lm_st_close(st);
        seen++;
    }
    t_end();
    if (!seen) LM_SKIP("LOAM_DATA has no safetensors files");
}

/* ---- malformed ------------------------------------------------------------------------------------------------- */
static lm_err craft(const char *json, size_t data) {       /* a file with this header and so many bytes of data */
    uint64_t n = strlen(json);
    uint8_t *p = malloc(8 + n + data + 1), *q;
    memcpy(p, &n, 8); memcpy(p + 8, json, n); memset(p + 8 + n, 7, data);
    q = t_copy(p, 8 + n + data);
    lm_err e = touch(q, 8 + n + data);
    free(p); free(q);
    return e;
}
#define T(name, dtype, shape, from, to) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" #from "," #to "]}"
static void test_malformed(void) {
    t_begin();
    static const struct { const char *json; size_t data; lm_err code; const char *say;
    } bad[] = {
        { "", 0, LM_E_FORMAT, "starts with {" },
        { " {}", 0, LM_E_FORMAT, "starts with {" },
        { "{", 0, LM_E_FORMAT, "" },
        { "[]", 0, LM_E_FORMAT, "starts with {" },
        { "{}", 4, LM_E_FORMAT, "take 0 bytes of data, the file has 4" },
        { "{} x", 0, LM_E_FORMAT, "after the closing" },
        { "{}\x01", 0, LM_E_FORMAT, "after the closing" },
        { "{" T("a", "F32", "2,2", 0, 16) "}", 15, LM_E_FORMAT, "\"a\": bytes 0..16 are not inside" },
        { "{" T("a", "F32", "2,2", 0, 16) "}", 17, LM_E_FORMAT, "take 16 bytes of data, the file has 17" },
        { "{" T("a", "F32", "2,2", 0, 12) "}", 12, LM_E_FORMAT, "its shape needs 16 bytes, its data_offsets give 12" },
        { "{" T("a", "F32", "1", 8, 4) "}", 8, LM_E_FORMAT, "bytes 8..4" },
        { "{" T("a", "F32", "4611686018427387904,4", 0, 0) "}", 0, LM_E_FORMAT, "the shape overflows" }, /* 2^62 × 4 × 4 wraps to 0 */
        { "{" T("a", "U8", "4294967296,4294967296", 0, 0) "}", 0, LM_E_FORMAT, "the shape overflows" },
        { "{" T("a", "U8", "9223372036854775808", 0, 0) "}", 0, LM_E_FORMAT, "over 63 bits" },
        { "{" T("a", "U8", "99999999999999999999999", 0, 0) "}", 0, LM_E_FORMAT, "over 63 bits" },
        { "{" T("a", "U8", "1", 0, 1) "," T("b", "U8", "4", 0, 4) "}", 4, LM_E_FORMAT, "overlapping the one before" },
        { "{" T("a", "U8", "2", 0, 2) "," T("b", "U8", "2", 1, 3) "}", 3, LM_E_FORMAT, "overlapping" },
        { "{" T("a", "U8", "1", 0, 1) "," T("b", "U8", "1", 2, 3) "}", 3, LM_E_FORMAT, "leaving a hole" },
        { "{" T("a", "U8", "1", 1, 2) "}", 2, LM_E_FORMAT, "leaving a hole" },
        { "{" T("a", "U8", "1", 0, 1) "," T("a", "U8", "1", 1, 2) "}", 2, LM_E_FORMAT, "tensor \"a\" is given twice" },
        { "{" T("a", "F33", "1", 0, 4) "}", 4, LM_E_UNSUPPORTED, "tensor \"a\": unknown dtype \"F33\"" },
        { "{" T("a", "QUANT", "0", 0, 0) "}", 0, LM_E_UNSUPPORTED, "unknown dtype" },
        { "{" T("a", "f32", "1", 0, 4) "}", 4, LM_E_UNSUPPORTED, "unknown dtype" },
        { "{" T("a", "U8", "1,1,1,1,1,1,1,1,1", 0, 1) "}", 1, LM_E_UNSUPPORTED, "more than 8" },
        { "{" T("a", "U8", "-1", 0, 1) "}", 1, LM_E_FORMAT, "non-negative" },
        { "{" T("a", "U8", "1.0", 0, 1) "}", 1, LM_E_FORMAT, "fraction" },
        { "{" T("a", "U8", "1e0", 0, 1) "}", 1, LM_E_FORMAT, "fraction" },
        { "{" T("a", "U8", "01", 0, 1) "}", 1, LM_E_FORMAT, "non-negative integer" },
        { "{" T("a", "U8", "true", 0, 1) "}", 1, LM_E_FORMAT, "integer" },
        { "{" T("a", "U8", "\"1\"", 0, 1) "}", 1, LM_E_FORMAT, "integer" },
        { "{" T("a", "U8", "1,", 0, 1) "}", 1, LM_E_FORMAT, "integer" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1, LM_E_UNSUPPORTED, "more than 2" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, LM_E_FORMAT, "has 1 numbers" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, LM_E_FORMAT, "no \"data_offsets\"" },
        { "{\"a\":{}}", 1, LM_E_FORMAT, "no \"dtype\"" },
        { "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, LM_E_FORMAT, "given twice" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}}", 1, LM_E_FORMAT, "unknown key \"x\"" },
        { "{\"a\":5}", 1, LM_E_FORMAT, "wanted an object" },
        { "{\"a\":{\"dtype\":1}}", 1, LM_E_FORMAT, "wanted a string" },
        { "{\"__metadata__\":{\"a\":1}}", 0, LM_E_FORMAT, "wanted a string" },
        { "{\"__metadata__\":[]}", 0, LM_E_FORMAT, "object of strings" },
        { "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, LM_E_FORMAT, "metadata key \"a\" is given twice" },
        { "{\"__metadata__\":{},\"__metadata__\":{}}", 0, LM_E_FORMAT, "__metadata__ is given twice" },
        { "{\"\\u0000\":{}}", 0, LM_E_FORMAT, "\\u0000" },
        { "{\"\\ud800\":{}}", 0, LM_E_FORMAT, "surrogate" },
        { "{\"\\udc00\":{}}", 0, LM_E_FORMAT, "surrogate" },
        { "{\"\\ud800\\u0041\":{}}", 0, LM_E_FORMAT, "surrogate" },
        { "{\"\xff\":{}}", 0, LM_E_FORMAT, "UTF-8" },
        { "{\"\xc0\x80\":{}}", 0, LM_E_FORMAT, "UTF-8" },
        { "{\"a\nb\":{}}", 0, LM_E_FORMAT, "control" },
        { "{\"\\x\":{}}", 0, LM_E_FORMAT, "escape" },
        { "{\"\\u12g4\":{}}", 0, LM_E_FORMAT, "hexadecimal" },
        { "{\"abc", 0, LM_E_FORMAT, "does not end" },
        { "{,}", 0, LM_E_FORMAT, "" },
        { "{\"a\":{},}", 0, LM_E_FORMAT, "" },
    };
    for (int i = 0; i < LM_COUNT(bad); i++) {
        LM_CHECK_ERR(ctx, craft(bad[i].json, bad[i].data), bad[i].code, bad[i].say);
        LM_CHECK(strstr(lm_error(ctx), "t.safetensors"));
    }
    /* fine although odd */
    LM_CHECK_OK(ctx, craft("{}", 0));
    LM_CHECK_OK(ctx, craft("{ } \n\t\r  ", 0));
    LM_CHECK_OK(ctx, craft("{" T("a", "U8", "0", 1, 1) "," T("b", "U8", "1", 0, 1) "," T("c", "F64", "3,0,2", 0, 0) "}", 1));
    LM_CHECK_OK(ctx, craft("{\"\\u00e9\\ud83d\\ude00\\/\":{ \"shape\" : [ ] , \"data_offsets\":[0 ,1],\"dtype\":\"U8\"}}", 1));
    /* the length field */
    static const uint64_t lens[] = { UINT64_MAX, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX - 7, 3, 100000001, 1ull << 32 };
    for (int i = 0; i < LM_COUNT(lens); i++) {
        uint8_t b[10]; memcpy(b, &lens[i], 8); memcpy(b + 8, "{}", 2);
        LM_CHECK_ERR(ctx, touch(b, 10), LM_E_FORMAT, "the header claims");
    }
    LM_CHECK_ERR(ctx, touch((const uint8_t *)"1234567", 7), LM_E_FORMAT, "too few");
    LM_CHECK_ERR(ctx, touch(NULL, 0), LM_E_FORMAT, "too few");
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, t_at("short"), "\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10));
    lm_st *st = NULL;
    LM_CHECK_ERR(ctx, lm_st_open(&st, ctx, t_at("short")), LM_E_FORMAT, "short: the header claims");
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, t_at("short"), "abc", 3));
    LM_CHECK_ERR(ctx, lm_st_open(&st, ctx, t_at("short")), LM_E_FORMAT, "short: 3 bytes");
    LM_CHECK_ERR(ctx, lm_st_open(&st, ctx, t_at("absent")), LM_E_NOTFOUND, "absent");
    LM_CHECK(!st);
    t_end();
}
static void test_torture(void) {
    t_begin();
    size_t n; char *p = t_read(t_fix("small.safetensors"), &n), *q = t_read(t_fix("tiny.safetensors"), &(size_t){ 0 });
    t_torture((uint8_t *)p, n, touch, true);
    lm_free(ctx, q);
    q = t_read(t_fix("tiny.safetensors"), &n);
    t_torture((uint8_t *)q, n, touch, true);
    t_nomem((uint8_t *)q, n, touch);
    lm_free(ctx, p); lm_free(ctx, q);
    t_end();
}
static void test_bomb(void) {      /* 100 000 entries in linear time; one entry too many is refused before its memory is taken */
    t_begin();
    lm_str s = { .ctx = ctx };
    uint64_t len = 0;
    lm_str_add(&s, &len, 8); lm_str_putc(&s, '{');
    for (int i = 0; i < 100000; i++)
        lm_str_printf(&s, "%s\"model.layers.%d.weight\":{\"dtype\":\"U8\",\"shape\":[1,1],\"data_offsets\":[%d,%d]}", i ? "," : "", i, i,
                      i + 1);
    lm_str_putc(&s, '}');
    len = s.n - 8; memcpy(s.p, &len, 8);
    for (int i = 0; i < 100000; i++) lm_str_putc(&s, 1);
    lm_st *st; double t0 = lm_now();
    LM_NEED_OK(ctx, lm_st_open_mem(&st, ctx, "bomb", s.p, s.n));
    double took = lm_now() - t0;
    LM_CHECK(lm_st_count(st) == 100000 && lm_st_find(st, "model.layers.77777.weight"));
    LM_CHECK(took < 5);                                    /* a quadratic parse would take minutes; the figure itself is in docs/rooms/format.md */
    if (getenv("LM_TIMES")) printf("100000 entries: %.0f ms\n", took * 1e3);
    lm_st_close(st);
    lm_str_free(&s);
    t_end();
}

/* ---- folders --------------------------------------------------------------------------------------------------- */
static void put_index(const char *dir, const char *map) {
    char text[1024], path[1100];
    int n = snprintf(text, sizeof text, "{\"metadata\":{},\"weight_map\":{%s}}", map);
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, path, text, (size_t)n));
}
static void test_folder(void) {
    t_begin();
    lm_st *st = NULL; const lm_st_tensor *t; float f[6]; int64_t c[3];
    LM_NEED_OK(ctx, lm_st_open(&st, ctx, t_fix("sharded")));
    LM_CHECK(lm_st_count(st) == 3 && lm_st_shards(st) == 2);
    LM_NEED_OK(ctx, lm_st_need(st, "model.b", &t)); LM_CHECK_OK(ctx, lm_st_read(st, t, f, 0, 24)); LM_CHECK(f[5] == 5 && t->shard == 0);
    LM_NEED_OK(ctx, lm_st_need(st, "model.c", &t)); LM_CHECK_OK(ctx, lm_st_read(st, t, c, 0, 24)); LM_CHECK(c[2] == 2 && t->shard == 1);
    LM_CHECK_STR(lm_st_meta(st, "format"), "pt");
    lm_st_close(st);
    LM_NEED_OK(ctx, lm_st_open(&st, ctx, t_fix("sharded/model.safetensors.index.json"))); LM_CHECK(lm_st_count(st) == 3);
    lm_st_close(st);
    LM_CHECK_ERR(ctx, lm_st_open(&st, ctx, t_dir), LM_E_NOTFOUND, "neither model.safetensors nor");
    for (int i = 1; i <= 2; i++) {
        size_t n; char name[64]; snprintf(name, sizeof name, "sharded/model-%05d-of-00002.safetensors", i);
        char *p = t_read(t_fix(name), &n);
        LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, t_at(name + 8), p, n));
        lm_free(ctx, p);
    }
#define S1 "\"model-00001-of-00002.safetensors\""
#define S2 "\"model-00002-of-00002.safetensors\""
    st = NULL;
    put_index(t_dir, "\"model.a\":" S1 ",\"model.b\":" S1 ",\"model.c\":" S2);
    LM_CHECK_OK(ctx, lm_st_open(&st, ctx, t_dir)); lm_st_close(st); st = NULL;
    put_index(t_dir, "\"model.a\":" S1 ",\"model.b\":" S2 ",\"model.c\":" S2);
    LM_CHECK_ERR(ctx, lm_st_open(&st, ctx, t_dir), LM_E_MISMATCH, "tensor \"model.b\" is here, but the index says model-00002");
    put_index(t_dir, "\"model.a\":" S1 ",\"model.c\":" S2);
    LM_CHECK_ERR(ctx, lm_st_open(&st, ctx, t_dir), LM_E_MISMATCH, "tensor \"model.b\" is not in the index");
    put_index(t_dir, "\"model.a\":" S1 ",\"model.b\":" S1 ",\"model.c\":" S2 ",\"model.d\":" S2);
    LM_CHECK_ERR(ctx, lm_st_open(&st, ctx, t_dir), LM_E_MISMATCH, "tensor \"model.d\" is not in model-00002");
    put_index(t_dir, "\"model.a\":\"other.safetensors\"");
    LM_CHECK_ERR(ctx, lm_st_open(&st, ctx, t_dir), LM_E_NOTFOUND, "other.safetensors");
    static const char *const escapes[] = { "../model.safetensors", "/etc/passwd", "..", ".", "", "a/../../b", "sub/x.safetensors", "a\\\\b" };
    for (int i = 0; i < LM_COUNT(escapes); i++) {
        char map[128]; snprintf(map, sizeof map, "\"model.a\":\"%s\"", escapes[i]);
        put_index(t_dir, map);
        LM_CHECK_ERR(ctx, lm_st_open(&st, ctx, t_dir), LM_E_FORMAT, "not a plain file name");
        LM_CHECK(strstr(lm_error(ctx), "/weight_map/model.a"));
    }
    put_index(t_dir, "\"model.a\":7");
    LM_CHECK_ERR(ctx, lm_st_open(&st, ctx, t_dir), LM_E_CONFIG, "/weight_map/model.a: wanted a string");
    put_index(t_dir, "");
    LM_CHECK_ERR(ctx, lm_st_open(&st, ctx, t_dir), LM_E_FORMAT, "names no tensor");
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, t_at("model.safetensors.index.json"), "{}", 2));
    LM_CHECK_ERR(ctx, lm_st_open(&st, ctx, t_dir), LM_E_CONFIG, "/weight_map: missing");
    LM_CHECK(!st);
    t_end();
}

/* ---- writer: tools/verify/format_roundtrip.py reads these very files with the package of record and keeps their hashes in written.txt ------- */
static const char *keep_dir(void) { return getenv("LM_KEEP") ? getenv("LM_KEEP") : t_dir; }
static const char *kept(const char *name) {
    static char b[4][1200];
    static int k;
    char *p = b[k++ % 4];
    snprintf(p, sizeof b[0], "%s/%s", keep_dir(), name);
    return p;
}
static void check_hash(const char *name) {
    size_t n; char *p = t_read(kept(name), &n), got[64];
    snprintf(got, sizeof got, "%zu %016llx", n, (unsigned long long)t_fnv(p, n, T_FNV));
    if (!getenv("LM_KEEP")) LM_CHECK_STR(got, t_expect("written.txt", "file", name));
    lm_free(ctx, p);
}
static lm_err write_all(const char *path, int64_t max) {
    static const lm_dtype d[] = { LM_F64, LM_I64, LM_U64,     LM_F32,     LM_I32, LM_U32, LM_BF16, LM_F16,
                                  LM_I16, LM_U16, LM_F8_E4M3, LM_F8_E5M2, LM_I8,  LM_U8,  LM_BOOL };
    lm_st_writer *w; LM_TRY(lm_st_writer_new(&w, ctx, path, max));
    lm_err e = lm_st_writer_meta(w, "format", "pt");
    if (!e) e = lm_st_writer_meta(w, "q\"\n", "\xc3\xa9 \\ \xf0\x9f\x98\x80");
    for (int i = 0; i < LM_COUNT(d) && !e; i++) {
        char name[64];
        snprintf(name, sizeof name, "t.%s", lm_dtype_name(d[i]));
        e = lm_st_writer_add(w, name, d[i], 2, (int64_t[]){ 3, i + 1 });
    }
    if (!e) e = lm_st_writer_add(w, "empty", LM_F32, 2, (int64_t[]){ 0, 5 });
    if (!e) e = lm_st_writer_add(w, "scalar", LM_F32, 0, NULL);
    uint8_t *all = malloc(4096); size_t n = 0;
    for (int i = 0; i < LM_COUNT(d); i++)
        for (size_t k = 0; k < (size_t)(3 * (i + 1)) * lm_dtype_size(d[i]); k++)
            all[n++] = d[i] == LM_BOOL ? (k & 1) : (uint8_t)((k * 7 + (size_t)i) & 0x3f);
    float two = 2.5f; memcpy(all + n, &two, 4); n += 4;
    for (size_t at = 0, step = 1; at < n && !e; at += step, step = step % 97 + 13) {
        if (step > n - at) step = n - at;
        e = lm_st_writer_write(w, all + at, step);
    }
    free(all);
    if (e) { lm_st_writer_abort(w); return e; }
    return lm_st_writer_commit(w);
}
static void test_write(void) {
    t_begin();
    LM_CHECK_OK(ctx, write_all(kept("one.safetensors"), 0));
    LM_CHECK_OK(ctx, write_all(kept("shards"), 300));
    LM_CHECK_OK(ctx, write_all(kept("fits"), 1 << 20));
    check_hash("one.safetensors");
    check_hash("shards/model.safetensors.index.json");
    check_hash("shards/model-00001-of-00003.safetensors");
    check_hash("shards/model-00003-of-00003.safetensors");
    lm_st *a, *b, *c; uint8_t x[512], y[512], z[512];
    LM_NEED_OK(ctx, lm_st_open(&a, ctx, kept("one.safetensors")));
    LM_NEED_OK(ctx, lm_st_open(&b, ctx, kept("shards")));
    LM_NEED_OK(ctx, lm_st_open(&c, ctx, kept("fits")));
    LM_CHECK(lm_st_count(a) == 17 && lm_st_count(b) == 17 && lm_st_shards(b) == 3 && lm_st_shards(c) == 1);
    LM_CHECK_STR(lm_st_meta(b, "q\"\n"), "\xc3\xa9 \\ \xf0\x9f\x98\x80");
    for (int i = 0; i < lm_st_count(a); i++) {
        const lm_st_tensor *t = lm_st_at(a, i), *u = lm_st_at(b, i), *v = lm_st_at(c, i);
        LM_CHECK_STR(t->name, u->name);
        LM_CHECK(t->bytes == u->bytes && t->bytes == v->bytes && t->dtype == u->dtype && t->rank == u->rank);
        LM_CHECK_OK(ctx, lm_st_read(a, t, x, 0, t->bytes));
        LM_CHECK_OK(ctx, lm_st_read(b, u, y, 0, t->bytes));
        LM_CHECK_OK(ctx, lm_st_read(c, v, z, 0, t->bytes));
        LM_CHECK(!memcmp(x, y, (size_t)t->bytes) && !memcmp(x, z, (size_t)t->bytes));
    }
    lm_st_close(a); lm_st_close(b); lm_st_close(c);
    LM_CHECK_ERR(ctx, write_all(kept("shards"), 300), LM_E_CONFIG, "already holds a model");
    LM_CHECK_ERR(ctx, write_all(kept("fits"), 300), LM_E_CONFIG, "already holds a model");
    t_end();
}
static void test_write_misuse(void) {
    t_begin();
    lm_st_writer *w; int64_t two[2] = { 2, 2 };
    LM_NEED_OK(ctx, lm_st_writer_new(&w, ctx, t_at("x"), 0));
    LM_CHECK_OK(ctx, lm_st_writer_add(w, "a", LM_F32, 2, two));
    LM_CHECK_ERR(ctx, lm_st_writer_add(w, "q", LM_QUANT, 2, two), LM_E_UNSUPPORTED, "\"q\"");
    LM_CHECK_ERR(ctx, lm_st_writer_add(w, "n", LM_F32, 1, (int64_t[]){ -1 }), LM_E_SHAPE, "dimension 0 is -1");
    LM_CHECK_ERR(ctx, lm_st_writer_add(w, "n", LM_F32, 2, (int64_t[]){ INT64_MAX, 2 }), LM_E_SHAPE, "\"n\"");
    LM_CHECK_ERR(ctx, lm_st_writer_add(w, "n", LM_F32, 9, two), LM_E_SHAPE, "rank 9");
    LM_CHECK_ERR(ctx, lm_st_writer_add(w, "__metadata__", LM_F32, 1, two), LM_E_FORMAT, "cannot name");
    LM_CHECK_ERR(ctx, lm_st_writer_add(w, "\xff", LM_F32, 1, two), LM_E_FORMAT, "cannot name");
    LM_CHECK_OK(ctx, lm_st_writer_write(w, "0123456789", 10));
    LM_CHECK_ERR(ctx, lm_st_writer_add(w, "late", LM_F32, 1, two), LM_E_INTERNAL, "\"late\" is declared after");
    LM_CHECK_ERR(ctx, lm_st_writer_commit(w), LM_E_INTERNAL, "tensor \"a\" still wants 6 bytes");
    LM_CHECK(!lm_exists(t_at("x")));
    LM_NEED_OK(ctx, lm_st_writer_new(&w, ctx, t_at("x"), 0));
    LM_CHECK_OK(ctx, lm_st_writer_add(w, "a", LM_U8, 1, two));
    LM_CHECK_ERR(ctx, lm_st_writer_write(w, "012", 3), LM_E_INTERNAL, "1 bytes more");
    LM_CHECK(lm_st_writer_commit(w) == LM_E_INTERNAL);
    LM_NEED_OK(ctx, lm_st_writer_new(&w, ctx, t_at("x"), 0));
    LM_CHECK_OK(ctx, lm_st_writer_add(w, "a", LM_U8, 1, two)); LM_CHECK_OK(ctx, lm_st_writer_add(w, "a", LM_U8, 1, two));
    LM_CHECK_ERR(ctx, lm_st_writer_commit(w), LM_E_CONFIG, "declared twice");
    LM_NEED_OK(ctx, lm_st_writer_new(&w, ctx, t_at("none"), 0));                 /* no tensors: still a valid file */
    LM_CHECK_OK(ctx, lm_st_writer_commit(w));
    lm_st *st; LM_CHECK_OK(ctx, lm_st_open(&st, ctx, t_at("none"))); lm_st_close(st);
    /* every allocation and every system call fails once: an error and no leak, or a whole file */
    for (uint64_t k = 1;; k++) {
        lm_mem_fail_at(ctx, k, false); lm_err e = write_all(t_at("sweep"), 0); lm_mem_fail_at(ctx, 0, false);
        if (!e) break;
        LM_CHECK(e == LM_E_NOMEM);
        /* failed after the rename */
        if (lm_exists(t_at("sweep"))) { LM_CHECK_OK(ctx, lm_st_open(&st, ctx, t_at("sweep"))); lm_st_close(st); unlink(t_at("sweep")); }
        if (k > 10000) { LM_CHECK(!"never"); break; }
    }
    uint64_t before = lm_file_calls();
    LM_CHECK_OK(ctx, write_all(t_at("s1"), 300));
    uint64_t calls = lm_file_calls() - before, failed = 0;
    for (uint64_t k = 1; k <= calls; k++) {
        lm_file_fail_at(k, 5, false); lm_err e = write_all(t_at("s2"), 300); lm_file_fail_at(0, 0, false);
        failed += e != LM_OK;
        st = NULL;
        if (lm_exists(t_at("s2/model.safetensors.index.json"))) {
            LM_CHECK_OK(ctx, lm_st_open(&st, ctx, t_at("s2")));
            LM_CHECK(st && lm_st_count(st) == 17);
        } else LM_CHECK(e != LM_OK);
        lm_st_close(st);
        if (lm_exists(t_at("s2"))) LM_CHECK_OK(ctx, lm_dir_remove(ctx, t_at("s2")));
    }
    LM_CHECK(failed > 10);
    t_end();
}
LM_TEST_MAIN(LM_T1(test_small), LM_T1(test_real), LM_T1(test_malformed), LM_T1(test_torture), LM_T1(test_bomb), LM_T1(test_folder),
             LM_T1(test_write), LM_T1(test_write_misuse))
