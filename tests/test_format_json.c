/* JSON: the conformance suite, limits, and errors that name the place. */
#include "format_test.h"
#include "format/json.h"
#include <zstd.h>

static lm_err parse(const char *text, json_t **v) { return lm_json_parse(ctx, "t.json", text, strlen(text), 0, v); }

/* Refused on purpose although RFC 8259 allows them. */
static const char *const strict[] = { "y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json", "y_string_null_escape.json",
                                      "y_object_escaped_null_in_key.json" };

static void one_suite_file(const char *name, const char *p, size_t n, int *n_y, int *n_n) {
    json_t *v = NULL;
    lm_err e = lm_json_parse(ctx, name, p, n, 0, &v);
    if (e && (e != LM_E_FORMAT && e != LM_E_RANGE)) { lm_t_fail++; printf("%s: %s\n", name, lm_error(ctx)); }
    if (e && !strstr(lm_error(ctx), name)) { lm_t_fail++; printf("%s: the error does not name it: %s\n", name, lm_error(ctx)); }
    bool want = *name == 'y';
    for (int i = 0; i < LM_COUNT(strict); i++) if (!strcmp(name, strict[i])) want = false;
    if (*name != 'i' && want != !e) { lm_t_fail++; printf("%s: %s\n", name, e ? lm_error(ctx) : "was accepted"); }
    *n_y += *name == 'y'; *n_n += *name == 'n';
    lm_json_free(v);
}
static void test_suite(void) {
    const char *path = t_data("instruct/JSONTestSuite.tar.zst");
    if (!path) LM_SKIP("LOAM_DATA has no JSONTestSuite");
    t_begin();
    size_t n; char *z = t_read(path, &n);
    const size_t cap = 4 << 20;
    char *tar = malloc(cap);
    size_t size = ZSTD_decompress(tar, cap, z, n);
    LM_CHECK(!ZSTD_isError(size));
    if (ZSTD_isError(size)) size = 0;
    int n_y = 0, n_n = 0;
    for (size_t at = 0; at + 512 <= size && tar[at];) {
        char name[101] = { 0 }; memcpy(name, tar + at, 100);
        size_t len = strtoul(tar + at + 124, NULL, 8);
        const char *base = strrchr(name, '/'); base = base ? base + 1 : name;
        if (*base) {
            uint8_t *q = t_copy(tar + at + 512, len);
            one_suite_file(base, (char *)q, len, &n_y, &n_n);
            free(q);
        }
        at += 512 + (len + 511) / 512 * 512;
    }
    LM_CHECK(n_y > 90 && n_n > 180);
    free(tar); lm_free(ctx, z);
    t_end();
}
static void test_parse(void) {
    t_begin();
    json_t *v = NULL;
    LM_CHECK_ERR(ctx, parse("{\"a\": 1,\n \"b\": }", &v), LM_E_FORMAT, "t.json:2:7:");
    LM_CHECK_ERR(ctx, parse("{\"a\": 1, \"a\": 2}", &v), LM_E_FORMAT, "duplicate");
    LM_CHECK_ERR(ctx, parse("{\"a\": NaN}", &v), LM_E_FORMAT, "t.json:1");
    LM_CHECK_ERR(ctx, parse("", &v), LM_E_FORMAT, "t.json");
    LM_CHECK_ERR(ctx, parse("18446744073709551616", &v), LM_E_FORMAT, "integer");
    LM_CHECK_ERR(ctx, parse("\"\\u0000\"", &v), LM_E_FORMAT, "t.json");
    LM_CHECK(!v);
    LM_NEED_OK(ctx, lm_json_parse(ctx, "t", "\"a\\u0000b\"", 10, LM_JSON_ALLOW_NUL, &v));
    lm_jv r = lm_json_root(ctx, "t", v); const char *s; size_t n;
    LM_CHECK_ERR(ctx, lm_json_as_str(&r, &s, NULL), LM_E_CONFIG, "NUL");
    LM_CHECK_OK(ctx, lm_json_as_str(&r, &s, &n));
    LM_CHECK(n == 3);
    lm_json_free(v); v = NULL;
    char *deep = malloc(1 << 20);
    memset(deep, '[', 1 << 20);
    LM_CHECK_ERR(ctx, lm_json_parse(ctx, "t.json", deep, 1 << 20, 0, &v), LM_E_RANGE, "t.json:1:257: nested deeper than 256");
    for (int k = 255; k <= 257; k++) {                     /* just below and above the limit; brackets in strings do not count */
        int at = 0;
        for (int i = 0; i < k; i++) deep[at++] = '[';
        at += sprintf(deep + at, "\"[[[{\\\"[[\"");
        for (int i = 0; i < k; i++) deep[at++] = ']';
        lm_err e = lm_json_parse(ctx, "t.json", deep, (size_t)at, 0, &v);
        LM_CHECK(e == (k <= LM_JSON_MAX_DEPTH ? LM_OK : LM_E_RANGE));
        if (!e) lm_json_free(v);
    }
    free(deep);
    t_end();
}
static void test_getters(void) {
    t_begin();
    json_t *v = NULL; int64_t i = 7, list[4] = { 9, 9, 9, 9 }; double d; bool b; const char *s; int n; lm_jv o, a, x;
    LM_NEED_OK(ctx, parse("{\"n\": 12, \"f\": 1.5, \"whole\": 4096.0, \"t\": true, \"s\": \"hi\", \"z\": null, \"big\": 9223372036854775807,"
                          "\"o\": {\"a/b~c\": [1, {\"k\": \"v\"}]}, \"l\": [1, 2, 3], \"mixed\": [1, \"2\"]}", &v));
    lm_jv r = lm_json_root(ctx, "c.json", v);
    LM_CHECK_OK(ctx, lm_json_int(&r, "n", LM_JSON_NEED, 0, 0, 100, &i)); LM_CHECK(i == 12);
    LM_CHECK_OK(ctx, lm_json_int(&r, "whole", LM_JSON_NEED, 0, 0, 5000, &i)); LM_CHECK(i == 4096);
    LM_CHECK_OK(ctx, lm_json_int(&r, "big", LM_JSON_NEED, 0, 0, INT64_MAX, &i)); LM_CHECK(i == INT64_MAX);
    LM_CHECK_OK(ctx, lm_json_int(&r, "none", LM_JSON_OPT, -3, 0, 1, &i)); LM_CHECK(i == -3);
    LM_CHECK_OK(ctx, lm_json_int(&r, "z", LM_JSON_OPT, -4, 0, 1, &i)); LM_CHECK(i == -4);
    LM_CHECK_OK(ctx, lm_json_num(&r, "n", LM_JSON_NEED, 0, 0, 100, &d)); LM_CHECK(d == 12);
    LM_CHECK_OK(ctx, lm_json_bool(&r, "t", LM_JSON_NEED, false, &b)); LM_CHECK(b);
    LM_CHECK_OK(ctx, lm_json_str(&r, "s", LM_JSON_NEED, NULL, &s, NULL)); LM_CHECK_STR(s, "hi");
    LM_CHECK_OK(ctx, lm_json_str(&r, "none", LM_JSON_OPT, "def", &s, NULL)); LM_CHECK_STR(s, "def");
    LM_CHECK_OK(ctx, lm_json_ints(&r, "l", LM_JSON_NEED, 0, 9, list, 4, &n)); LM_CHECK(n == 3 && list[0] == 1 && list[2] == 3 && list[3] == 9);
    i = 7;
    LM_CHECK_ERR(ctx, lm_json_int(&r, "f", LM_JSON_NEED, 0, 0, 9, &i), LM_E_CONFIG, "c.json: /f: wanted an integer");
    LM_CHECK_ERR(ctx, lm_json_int(&r, "n", LM_JSON_NEED, 0, 0, 9, &i), LM_E_RANGE, "c.json: /n: 12 is outside 0..9");
    LM_CHECK_ERR(ctx, lm_json_int(&r, "s", LM_JSON_NEED, 0, 0, 9, &i), LM_E_CONFIG, "/s: wanted an integer, got the string \"hi\"");
    LM_CHECK_ERR(ctx, lm_json_int(&r, "none", LM_JSON_NEED, 0, 0, 9, &i), LM_E_CONFIG, "c.json: /none: missing");
    LM_CHECK_ERR(ctx, lm_json_int(&r, "z", LM_JSON_NEED, 0, 0, 9, &i), LM_E_CONFIG, "/z: wanted an integer, got null");
    LM_CHECK(i == 7);
    LM_CHECK_ERR(ctx, lm_json_ints(&r, "mixed", LM_JSON_NEED, 0, 9, list, 4, &n), LM_E_CONFIG, "/mixed/1: wanted an integer");
    LM_CHECK_ERR(ctx, lm_json_ints(&r, "l", LM_JSON_NEED, 0, 9, list, 2, &n), LM_E_RANGE, "/l: 3 items");
    LM_CHECK_OK(ctx, lm_json_obj(&r, "o", LM_JSON_NEED, &o));
    LM_CHECK_OK(ctx, lm_json_arr(&o, "a/b~c", LM_JSON_NEED, &a)); LM_CHECK(lm_json_len(&a) == 2);
    LM_CHECK_OK(ctx, lm_json_item(&a, 1, &x));
    LM_CHECK_ERR(ctx, lm_json_int(&x, "k", LM_JSON_NEED, 0, 0, 1, &i), LM_E_CONFIG, "c.json: /o/a~1b~0c/1/k: wanted an integer");
    LM_CHECK_ERR(ctx, lm_json_item(&a, 2, &x), LM_E_RANGE, "/o/a~1b~0c/2: past the end");
    LM_CHECK_ERR(ctx, lm_json_arr(&r, "o", LM_JSON_NEED, &a), LM_E_CONFIG, "/o: wanted an array, got an object");
    LM_CHECK_OK(ctx, lm_json_obj(&r, "none", LM_JSON_OPT, &o)); LM_CHECK(!o.v && lm_json_len(&o) == 0);
    static const char *const names[] = { "n", "f", "whole", "t", "s", "z", "big", "o", "l", "mixedd" };
    LM_CHECK_ERR(ctx, lm_json_only(&r, names, LM_COUNT(names)), LM_E_CONFIG, "c.json: /mixed: unknown key; did you mean \"mixedd\"?");
    static const char *const all[] = { "n", "f", "whole", "t", "s", "z", "big", "o", "l", "mixed" };
    LM_CHECK_OK(ctx, lm_json_only(&r, all, LM_COUNT(all)));
    lm_json_free(v);
    t_end();
}
static void test_load(void) {
    t_begin();
    json_t *v = NULL;
    LM_CHECK_ERR(ctx, lm_json_load(ctx, t_at("none.json"), 0, &v), LM_E_NOTFOUND, "none.json");
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, t_at("a.json"), "[1,\n2,]", 7));
    LM_CHECK_ERR(ctx, lm_json_load(ctx, t_at("a.json"), 0, &v), LM_E_FORMAT, "a.json:2:");
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, t_at("a.json"), "[1,2]", 5));
    LM_CHECK_OK(ctx, lm_json_load(ctx, t_at("a.json"), 0, &v)); LM_CHECK(json_array_size(v) == 2);
    lm_json_free(v);
    t_end();
}
LM_TEST_MAIN(LM_T1(test_suite), LM_T1(test_parse), LM_T1(test_getters), LM_T1(test_load))
