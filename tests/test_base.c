/* Errors, memory, arena, strings, hashes, random numbers, time. */
#include "test.h"
#include <pthread.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* ---- errors ---- */
static void test_errors(void) {
    LM_CHECK_STR(lm_err_name(LM_E_SHAPE), "E_SHAPE");
    LM_CHECK_STR(lm_err_text(LM_OK), "fine");
    LM_CHECK_STR(lm_err_name((lm_err)999), "E_UNKNOWN");
    lm_ctx *ctx;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    LM_CHECK_STR(lm_error(ctx), "");
    LM_CHECK(lm_fail(NULL, LM_E_IO, "x") == LM_E_IO);
    LM_CHECK(lm_fail(ctx, LM_E_DATA, "line %d", 7) == LM_E_DATA);
    LM_CHECK_STR(lm_error(ctx), "line 7");
    LM_CHECK(lm_fail_in(ctx, LM_E_FORMAT, "file '%s'", "a") == LM_E_FORMAT);
    LM_CHECK_STR(lm_error(ctx), "file 'a': line 7");
    lm_fail(ctx, LM_E_DATA, "again: %s", lm_error(ctx));          /* an argument that is the old sentence */
    LM_CHECK_STR(lm_error(ctx), "again: file 'a': line 7");
    char *big = malloc(5000);
    memset(big, 'x', 4999);
    big[4999] = 0;
    lm_fail(ctx, LM_E_DATA, "%s", big);
    LM_CHECK(strlen(lm_error(ctx)) == 2047);
    lm_fail_in(ctx, LM_E_DATA, "%s", big);
    LM_CHECK(strlen(lm_error(ctx)) == 2047 && strstr(lm_error(ctx), "x: "));
    lm_fail(ctx, LM_E_DATA, "short");
    lm_fail_in(ctx, LM_E_DATA, "in");
    LM_CHECK_STR(lm_error(ctx), "in: short");
    free(big);
    LM_CHECK(lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = -1 }) == LM_E_RANGE);
    lm_ctx_free(ctx);
    lm_ctx_free(NULL);
}

static char logged[128];
static void keep_log(void *ud, lm_level level, const char *room, const char *msg) {
    snprintf(logged, sizeof logged, "%s/%d/%s/%s", (char *)ud, level, room, msg);
}
static void test_log(void) {
    lm_ctx *ctx;
    char ud[] = "u";
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1, .log = keep_log, .log_ud = ud, .isa_mask = 5 }));
    lm_log(ctx, LM_LOG_WARN, "base", "n=%d", 3);
    LM_CHECK_STR(logged, "u/1/base/n=3");
    LM_CHECK(lm_ctx_isa_mask(ctx) == 5 && lm_ctx_threads(ctx) == 1);
    lm_log(NULL, LM_LOG_WARN, "base", "nothing");
    lm_ctx_free(ctx);
}

/* ---- memory ---- */
static void test_alloc(void) {
    lm_ctx *ctx;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    lm_ledger l0, l;
    lm_mem_ledger(ctx, &l0);
    static const size_t sizes[] = { 0, 1, 63, 64, 65, 4096, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 9 << 20 };
    void *p[LM_COUNT(sizes)];
    size_t sum = 0;
    for (int i = 0; i < LM_COUNT(sizes); i++) {
        p[i] = lm_alloc(ctx, LM_MEM_KV, sizes[i]);
        LM_CHECK(p[i] && (uintptr_t)p[i] % 64 == 0);
        memset(p[i], 0xA5, sizes[i]);
        sum += sizes[i];
    }
    lm_mem_ledger(ctx, &l);
    LM_CHECK(l.now[LM_MEM_KV] == sum && l.peak[LM_MEM_KV] == sum && l.total_now == l0.total_now + sum && l.n_alloc == l0.n_alloc + LM_COUNT(sizes));
    for (int i = 0; i < LM_COUNT(sizes); i++) lm_free(ctx, p[i]);
    lm_mem_ledger(ctx, &l);
    LM_CHECK(l.now[LM_MEM_KV] == 0 && l.peak[LM_MEM_KV] == sum && l.total_now == l0.total_now);
    lm_mem_reset_peak(ctx);
    lm_mem_ledger(ctx, &l);
    LM_CHECK(l.peak[LM_MEM_KV] == 0 && l.total_peak == l0.total_now);
    for (size_t n = 1000; n <= (5 << 20); n *= 71) {
        unsigned char *z = lm_calloc(ctx, LM_MEM_ACT, n, 1), bad = 0;
        LM_CHECK(z != NULL);
        for (size_t i = 0; i < n; i++) bad |= z[i];
        LM_CHECK(!bad);
        lm_free(ctx, z);
    }
    LM_CHECK(!lm_calloc(ctx, LM_MEM_ACT, SIZE_MAX / 2, 3));
    LM_CHECK(strstr(lm_error(ctx), "activations"));
    LM_CHECK(!lm_alloc(ctx, LM_MEM_ACT, SIZE_MAX) && !lm_alloc(ctx, LM_MEM_ACT, SIZE_MAX - 63) && !lm_alloc(ctx, LM_MEM_ACT, (size_t)PTRDIFF_MAX));
    char *s = lm_strdup(NULL, LM_MEM_MISC, "no context");
    LM_CHECK_STR(s, "no context");
    lm_free(NULL, s);
    lm_free(ctx, NULL);
    lm_mem_ledger(ctx, &l);
    LM_CHECK(l.total_now == l0.total_now);
    LM_CHECK_STR(lm_mem_name(LM_MEM_KV), "kv cache");
    lm_ctx_free(ctx);
}

/* Big blocks start on a huge page, and go back to the system whole. */
static size_t address_space(void) {
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%lu", &pages) != 1) pages = 0;
    if (f) fclose(f);
    return pages * 4096;
}
static void test_big_blocks(void) {
    if (SANITIZED) LM_SKIP("sanitizers keep memory of their own");
    lm_free(NULL, lm_alloc(NULL, LM_MEM_MISC, 2 << 20));
    size_t before = address_space();
    for (size_t i = 0; i < 300; i++) {
        char *p = lm_alloc(NULL, LM_MEM_MISC, ((size_t)2 << 20) + i * 1000);
        LM_CHECK(p && (uintptr_t)p % (2 << 20) == 0);
        lm_free(NULL, p);
    }
    LM_CHECK(address_space() <= before + (1 << 20));
}

static void test_realloc(void) {
    lm_ctx *ctx;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    lm_ledger l0, l;
    lm_mem_ledger(ctx, &l0);
    static const size_t walk[] = { 100, 60, 100, 10, 5000, 3 << 20, (2 << 20) + 5, (3 << 20) + 4095, 4 << 20, 77, 0, 33 };
    unsigned char *p = NULL;
    size_t had = 0;
    for (int i = 0; i < LM_COUNT(walk); i++) {
        unsigned char *q = lm_realloc(ctx, LM_MEM_DATA, p, walk[i]);
        LM_CHECK(q != NULL);
        if (!q) break;
        p = q;
        size_t same = had < walk[i] ? had : walk[i], k = 0;
        while (k < same && p[k] == (unsigned char)(k * 7)) k++;
        LM_CHECK(k == same);
        for (k = 0; k < walk[i]; k++) p[k] = (unsigned char)(k * 7);
        had = walk[i];
        lm_mem_ledger(ctx, &l);
        LM_CHECK(l.now[LM_MEM_DATA] == had);
    }
    lm_mem_fail_at(ctx, 1, false);
    LM_CHECK(!lm_realloc(ctx, LM_MEM_DATA, p, 34) && p[32] == (unsigned char)(32 * 7));
    lm_free(ctx, p);
    lm_mem_ledger(ctx, &l);
    LM_CHECK(l.total_now == l0.total_now);
    lm_ctx_free(ctx);
}

static void test_fail_at(void) {
    lm_ctx *ctx;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    lm_mem_fail_at(ctx, 3, false);
    for (int i = 1; i <= 5; i++) {
        void *p = lm_alloc(ctx, LM_MEM_GRADS, 8);
        LM_CHECK(!p == (i == 3));
        lm_free(ctx, p);
    }
    LM_CHECK(strstr(lm_error(ctx), "gradients"));
    lm_mem_fail_at(ctx, 2, true);
    for (int i = 1; i <= 5; i++) {
        void *p = lm_alloc(ctx, LM_MEM_GRADS, 8);
        LM_CHECK(!p == (i >= 2));
        lm_free(ctx, p);
    }
    lm_mem_fail_at(ctx, 0, false);
    void *p = lm_alloc(ctx, LM_MEM_GRADS, 8);
    LM_CHECK(p);
    lm_free(ctx, p);
    lm_ctx_free(ctx);
}

static void *hammer(void *arg) {
    lm_ctx *ctx = arg;
    for (int i = 0; i < 2000; i++) {
        void *p = lm_alloc(ctx, LM_MEM_SCRATCH, (size_t)(i % 100) + 1);
        p = lm_realloc(ctx, LM_MEM_SCRATCH, p, (size_t)(i % 300) + 1);
        lm_free(ctx, p);
    }
    return NULL;
}
static void test_alloc_threads(void) {
    lm_ctx *ctx;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    pthread_t t[3];
    for (int i = 0; i < 3; i++) LM_CHECK(!pthread_create(&t[i], NULL, hammer, ctx));
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
    lm_ledger l;
    lm_mem_ledger(ctx, &l);
    LM_CHECK(l.now[LM_MEM_SCRATCH] == 0 && l.peak[LM_MEM_SCRATCH] >= 300 && l.peak[LM_MEM_SCRATCH] <= 3 * 400);
    lm_ctx_free(ctx);
}

/* ---- arena, strings: once right, then with every allocation failing in turn ---- */
static lm_err use_arena(lm_ctx *ctx, bool check) {
    lm_arena *a;
    LM_TRY(lm_arena_new(&a, ctx, LM_MEM_GRAPH, 256));
    lm_err err = LM_E_NOMEM;
    unsigned char *last = NULL;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 60; i++) {
            unsigned char *p = lm_arena_alloc(a, i * 11);
            if (!p) goto out;
            if (check) {
                LM_CHECK((uintptr_t)p % 16 == 0 && p != last);
                for (size_t k = 0; k < i * 11; k++) if (p[k]) { LM_CHECK(!"zeroed"); break; }
            }
            memset(p, 0xFF, i * 11);
            last = p;
        }
        char *s = lm_arena_strdup(a, "hello"), *t = s ? lm_arena_printf(a, "%s %d", s, 42) : NULL;
        if (!t) goto out;
        if (check) { LM_CHECK_STR(t, "hello 42"); LM_CHECK(lm_arena_used(a) == 11 * 60 * 59 / 2 + 6 + 9); }
        lm_arena_reset(a);
        if (check) LM_CHECK(lm_arena_used(a) == 0);
    }
    err = LM_OK;
out:
    lm_arena_free(a);
    return err;
}

static lm_err use_str(lm_ctx *ctx, bool check) {
    lm_str s = { .ctx = ctx };
    for (int i = 0; i < 100; i++) { lm_str_printf(&s, "%d,", i); lm_str_putc(&s, ';'); lm_str_puts(&s, "abc"); }
    if (check) { LM_CHECK(s.n == 290 + 100 + 300 && strlen(s.p) == s.n); LM_CHECK(!strncmp(s.p, "0,;abc1,;abc", 12)); }
    lm_str_json(&s, "x\"y", 3);
    lm_err err = lm_str_err(&s);
    if (!err && check) LM_CHECK_STR(s.p + 690, "\"x\\\"y\"");
    lm_str_free(&s);
    return err;
}

static void sweep(lm_err (*use)(lm_ctx *, bool)) {
    lm_ctx *ctx;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    lm_ledger l0, l;
    lm_mem_ledger(ctx, &l0);
    LM_CHECK_OK(ctx, use(ctx, true));
    lm_mem_ledger(ctx, &l);
    uint64_t n = l.n_alloc - l0.n_alloc;
    LM_CHECK(n > 2);
    for (uint64_t k = 1; k <= n; k++)
        for (int sticky = 0; sticky < 2; sticky++) {
            lm_mem_fail_at(ctx, k, sticky);
            LM_CHECK_ERR(ctx, use(ctx, false), LM_E_NOMEM, "out of memory");
            lm_mem_fail_at(ctx, 0, false);
            lm_mem_ledger(ctx, &l);
            LM_CHECK(l.total_now == l0.total_now);
        }
    lm_ctx_free(ctx);
}
static void test_arena(void) { sweep(use_arena); }
static void test_str(void) { sweep(use_str); }

static void test_json(void) {
    static const struct { const char *in; size_t n; const char *out;
    } t[] = {
        { "", 0, "\"\"" },
        { "plain", 5, "\"plain\"" },
        { "a\"b\\c/", 6, "\"a\\\"b\\\\c/\"" },
        { "\b\f\n\r\t\x01\x1f\x7f", 8, "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"" },
        { "a\0b", 3, "\"a\\u0000b\"" },
        { "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"" },
        /* the Unicode standard's examples of maximal subparts (table 3-8 and its kin) */
        { "\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", 9, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\x41\"" },
        { "\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", 9,
          "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\x41\"" },
        { "\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
        { "\xf4\x90\x80\x80", 4, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
        { "\xe2\x82", 2, "\"\xef\xbf\xbd\"" },
        { "\xff", 1, "\"\xef\xbf\xbd\"" },
    };
    for (int i = 0; i < LM_COUNT(t); i++) {
        lm_str s = { 0 };
        char *exact = malloc(t[i].n + 1);                          /* so that reading beyond n is seen */
        memcpy(exact, t[i].in, t[i].n);
        exact = realloc(exact, t[i].n ? t[i].n : 1);
        lm_str_json(&s, exact, t[i].n);
        LM_CHECK_STR(s.p, t[i].out);
        free(exact);
        lm_str_free(&s);
    }
}

static void test_nearest(void) {
    static const char *const n[] = { "max-tokens", "temperature", "top-k", "top-p", "seed", "lr" };
    LM_CHECK_STR(lm_nearest("max_tokns", n, LM_COUNT(n)), "max-tokens");
    LM_CHECK_STR(lm_nearest("temprature", n, LM_COUNT(n)), "temperature");
    LM_CHECK_STR(lm_nearest("sede", n, LM_COUNT(n)), "seed");      /* a swap is one edit */
    LM_CHECK_STR(lm_nearest("temp", n, LM_COUNT(n)), "temperature");
    LM_CHECK_STR(lm_nearest("Top-P", n, LM_COUNT(n)), "top-p");
    LM_CHECK(!lm_nearest("completely-else", n, LM_COUNT(n)) && !lm_nearest("", n, LM_COUNT(n)) && !lm_nearest("zz", n, LM_COUNT(n)));
    char big[4000];
    memset(big, 'a', sizeof big - 1);
    big[sizeof big - 1] = 0;
    LM_CHECK(!lm_nearest(big, n, LM_COUNT(n)));
}

/* ---- hashes: values as published by the xxHash project ---- */
static void test_hash(void) {
    LM_CHECK(lm_hash64("", 0, 0) == 0x2D06800538D394C2ull);
    lm_hash128_t h = lm_hash128("", 0);
    LM_CHECK(h.hi == 0x99AA06D3014798D8ull && h.lo == 0x6001C324468D497Full);
    char hex[33];
    lm_hash_hex(h, hex);
    LM_CHECK_STR(hex, "99aa06d3014798d86001c324468d497f");
    lm_hash128_t back = { 0 };
    LM_CHECK(lm_hash_parse(hex, &back) && back.hi == h.hi && back.lo == h.lo);
    LM_CHECK(!lm_hash_parse("", &back) && !lm_hash_parse("99aa06d3014798d86001c324468d497", &back) && !lm_hash_parse("99aa06d3014798d86001c324468d497f0", &back) &&
             !lm_hash_parse("99AA06D3014798D86001C324468D497F", &back) && !lm_hash_parse("0x11223344556677889900aabbccddee", &back));
    unsigned char data[3000];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i * i + i / 3);
    for (size_t step = 1; step < 700; step = step * 3 + 1) {
        lm_hasher *s = lm_hasher_new();
        LM_CHECK(s);
        for (size_t i = 0; i < sizeof data; i += step) lm_hasher_add(s, data + i, sizeof data - i < step ? sizeof data - i : step);
        lm_hash128_t a = lm_hasher_get(s), b = lm_hash128(data, sizeof data);
        LM_CHECK(a.lo == b.lo && a.hi == b.hi);
        lm_hasher_free(s);
    }
    LM_CHECK(lm_hash64("a", 1, 0) != lm_hash64("a", 1, 1));
}

/* ---- random numbers: the Random123 known answers for philox4x32-10 ---- */
static void test_philox(void) {
    static const struct { uint64_t index, stream, seed; uint32_t want[4]; } t[] = {
        { 0, 0, 0, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { UINT64_MAX, UINT64_MAX, UINT64_MAX, { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { 0x85a308d3243f6a88, 0x0370734413198a2e, 0x299f31d0a4093822, { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    for (int i = 0; i < LM_COUNT(t); i++) {
        uint32_t w[4];
        lm_rng_block((lm_rng){ .seed = t[i].seed, .stream = t[i].stream }, t[i].index, w);
        LM_CHECK(!memcmp(w, t[i].want, sizeof w));
    }
    lm_rng r = lm_rng_of(7, "embed.weight");
    uint32_t w[4];
    lm_rng_block(r, 5, w);
    for (unsigned i = 0; i < 4; i++) LM_CHECK(lm_rng_u32(r, 20 + i) == w[i] && lm_rng_uniform(r, 20 + i) == (float)(w[i] >> 8) / 16777216.0f);
    LM_CHECK(lm_rng_double(r, 11) == (double)((w[2] | (uint64_t)w[3] << 32) >> 11) / 9007199254740992.0);
    LM_CHECK(lm_rng_of(7, "a").stream != lm_rng_of(7, "b").stream);
}

static void test_draws(void) {
    lm_rng r = lm_rng_of(1, "draws");
    enum { N = 200000 };
    double m = 0, v = 0, k4 = 0, u = 0, d = 0, lag = 0, prev = 0;
    int beyond = 0;
    uint64_t count[7] = { 0 };
    for (uint64_t i = 0; i < N; i++) {
        double x = lm_rng_normal(r, i);
        m += x; v += x * x; k4 += x * x * x * x; lag += x * prev; prev = x;
        beyond += fabs(x) > 2;
        float f = lm_rng_uniform(r, i);
        double g = lm_rng_double(r, i);
        LM_CHECK(f >= 0 && f < 1 && g >= 0 && g < 1);
        u += f; d += g;
        uint64_t b = lm_rng_below(r, i, 7);
        LM_CHECK(b < 7);
        count[b % 7]++;
    }
    LM_CHECK_NEAR(m / N, 0, 5 / sqrt(N));
    LM_CHECK_NEAR(v / N, 1, 5 * sqrt(2.0 / N));
    LM_CHECK_NEAR(k4 / N, 3, 5 * sqrt(96.0 / N));
    LM_CHECK_NEAR(lag / N, 0, 5 / sqrt(N));
    LM_CHECK_NEAR((double)beyond / N, 0.0455003, 5 * sqrt(0.0455 / N));
    LM_CHECK_NEAR(u / N, 0.5, 5 * sqrt(1 / 12.0 / N));
    LM_CHECK_NEAR(d / N, 0.5, 5 * sqrt(1 / 12.0 / N));
    for (int i = 0; i < 7; i++) LM_CHECK_NEAR((double)count[i] / N, 1 / 7.0, 5 * sqrt(1 / 7.0 / N));
    LM_CHECK(lm_rng_below(r, 3, 1) == 0 && lm_rng_below(r, 3, UINT64_MAX) < UINT64_MAX);
}

static void test_permute(void) {
    static unsigned char seen[2000];
    lm_rng r = lm_rng_of(3, "shuffle");
    for (uint64_t n = 1; n <= 2000; n++) {
        memset(seen, 0, sizeof seen);
        uint64_t bad = 0;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t j = lm_rng_permute(r, i, n);
            if (j >= n || seen[j]++) bad++;
        }
        LM_CHECK(!bad);
    }
    static const uint64_t big[] = { (uint64_t)1 << 32, ((uint64_t)1 << 40) + 1, (uint64_t)1 << 63, UINT64_MAX };
    for (int i = 0; i < LM_COUNT(big); i++) LM_CHECK(lm_rng_permute(r, big[i] - 1, big[i]) < big[i]);
    /* where each position goes, over many seeds: chi-squared on n*n cells, whose mean is (n-1)^2 */
    static const int ns[] = { 2, 3, 4, 5, 7, 16, 17 };
    for (int k = 0; k < LM_COUNT(ns); k++) {
        enum { SEEDS = 6000 };
        int n = ns[k], cell[17][17] = { { 0 } };
        for (int s = 0; s < SEEDS; s++)
            for (int i = 0; i < n; i++) cell[i][lm_rng_permute((lm_rng){ .seed = (uint64_t)s, .stream = 9 }, (uint64_t)i, (uint64_t)n)]++;
        double chi = 0, want = (double)SEEDS / n, df = (n - 1.0) * (n - 1.0);
        for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) chi += (cell[i][j] - want) * (cell[i][j] - want) / want;
        if (chi > df + 5 * sqrt(2 * df) + 10) { LM_CHECK(!"uniform"); printf("  n=%d chi2=%.1f df=%.0f\n", n, chi, df); }
    }
}

static void test_clock(void) {
    double a = lm_now(), b = lm_now();
    LM_CHECK(b >= a && lm_wall() > 1.6e9);
    LM_CHECK(lm_rss_now() > 100000 && lm_rss_peak() >= lm_rss_now() / 2);
    size_t before = lm_rss_now();
    char *p = lm_alloc(NULL, LM_MEM_MISC, 64 << 20);
    LM_CHECK(p);
    memset(p, 1, 64 << 20);
    LM_CHECK(lm_rss_now() >= before + (60 << 20));
    lm_free(NULL, p);
    LM_CHECK(lm_rss_peak() >= before + (60 << 20));
}

LM_TEST_MAIN(LM_T1(test_errors), LM_T1(test_log), LM_T1(test_alloc), LM_T1(test_big_blocks), LM_T1(test_realloc), LM_T1(test_fail_at),
             LM_T1(test_alloc_threads), LM_T1(test_arena), LM_T1(test_str), LM_T1(test_json), LM_T1(test_nearest), LM_T1(test_hash),
             LM_T1(test_philox), LM_T1(test_draws), LM_T1(test_permute), LM_T1(test_clock))
