/* What cpuid says against what the kernel says, and that what is claimed can be executed. */
#include "test.h"
#include "device/cpu.h"
#include "device/device.h"
#include "device/probe_int.h"
#include "base/pool.h"
#include <pthread.h>

static bool kernel_flag(const char *flags, const char *name) {
    size_t n = strlen(name);
    for (const char *p = flags; (p = strstr(p, name)); p += n) if ((p[-1] == ' ' || p[-1] == '\t') && (p[n] == ' ' || p[n] == '\n')) return true;
    return false;
}

static void test_against_kernel(void) {
#if !defined(__x86_64__)
    LM_CHECK(lm_cpu_features() == LM_CPU_PORTABLE);
#else
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f) LM_SKIP("no /proc/cpuinfo");
    static char line[16384], model[256];
    bool found = false;
    while (fgets(line, sizeof line, f) && !found) {
        if (!strncmp(line, "model name", 10)) snprintf(model, sizeof model, "%s", strchr(line, ':') + 2);
        found = !strncmp(line, "flags", 5);
        if (found) break;
    }
    fclose(f);
    LM_CHECK(found);
    uint64_t has = lm_cpu_features();
    static const struct { int bit; const char *need[6];
    } t[] = {
        { LM_CPU_AVX2, { "avx2", "fma", "f16c" } },
        { LM_CPU_AVXVNNI, { "avx_vnni" } },
        { LM_CPU_AVX512, { "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd" } },
        { LM_CPU_AVX512_VNNI, { "avx512_vnni" } },
        { LM_CPU_AVX512_BF16, { "avx512_bf16" } },
        { LM_CPU_AMX_BF16, { "amx_tile", "amx_bf16" } },
        { LM_CPU_AMX_INT8, { "amx_tile", "amx_int8" } },
    };
    for (int i = 0; i < LM_COUNT(t); i++) {
        bool kernel = true;
        for (int k = 0; k < 6 && t[i].need[k]; k++) kernel &= kernel_flag(line, t[i].need[k]);
        if (kernel != !!(has & (uint64_t)t[i].bit)) { LM_CHECK(!"as the kernel says"); printf("  %s: kernel %d\n", t[i].need[0], kernel); }
    }
    char buf[64];
    LM_CHECK(!strncmp(lm_cpu_model(buf, sizeof buf), model, strlen(buf)) && strlen(buf) + 1 >= strlen(model));
    char small[5];
    LM_CHECK(strlen(lm_cpu_model(small, sizeof small)) < 5);
#endif
}

static void test_levels(void) {
    static const char *const names[] = { "portable", "avx2", "avx512", "avx512bf16", "amx" };
    uint64_t below = 0;
    for (int i = 0; i < LM_COUNT(names); i++) {
        uint64_t m = lm_cpu_mask_of(names[i]);
        LM_CHECK(m && (m & below) == below && m != below);
        LM_CHECK_STR(lm_cpu_isa_of(m), names[i]);
        LM_CHECK_STR(lm_cpu_isa_names()[i], names[i]);
        below = m;
    }
    LM_CHECK(!lm_cpu_isa_names()[LM_COUNT(names)] && below == (1u << LM_CPU_N) - 1);
    LM_CHECK(lm_cpu_mask_of("portable") == LM_CPU_PORTABLE && !lm_cpu_mask_of("sse9") && !lm_cpu_mask_of(""));
    LM_CHECK(!(lm_cpu_mask_of("avx2") & LM_CPU_AVX512) && (lm_cpu_mask_of("avx512") & LM_CPU_AVX512_VNNI) &&
             !(lm_cpu_mask_of("avx512") & LM_CPU_AVX512_BF16));
    LM_CHECK_STR(lm_cpu_isa_of(LM_CPU_PORTABLE | LM_CPU_AVX512), "portable");      /* a gap below ends the climb */
    LM_CHECK_STR(lm_cpu_feature_name(3), "avx512");
    LM_CHECK_STR(lm_cpu_feature_name(-1), "");
    LM_CHECK_STR(lm_cpu_feature_name(LM_CPU_N), "");
    LM_CHECK(lm_cpu_features() & LM_CPU_PORTABLE);
    LM_CHECK(lm_cpu_cores() == lm_usable_cores() && lm_cpu_cache_line() >= 16 && lm_cpu_cache(0) == 0 && lm_cpu_cache(4) == 0);
}

static void *ask(void *out) { *(uint64_t *)out = lm_cpu_features(); return NULL; }
static void test_threads(void) {
    pthread_t t[4];
    uint64_t f[4];
    for (int i = 0; i < 4; i++) LM_CHECK(!pthread_create(&t[i], NULL, ask, &f[i]));
    for (int i = 0; i < 4; i++) { pthread_join(t[i], NULL); LM_CHECK(f[i] == lm_cpu_features()); }
}

#if defined(__x86_64__)
#include <immintrin.h>
__attribute__((target("avx512f,avx512vnni"))) static int vnni_sum(void) {
    return _mm512_reduce_add_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(3), _mm512_set1_epi8(-2)));
}
__attribute__((target("avx2,fma"))) static float fma_sum(void) {
    float o[8];
    _mm256_storeu_ps(o, _mm256_fmadd_ps(_mm256_set1_ps(2), _mm256_set1_ps(3), _mm256_set1_ps(1)));
    return o[7];
}
/* One tile product of 16x64 by 64x16 int8: each element 64 * 2 * 3. */
__attribute__((target("amx-tile,amx-int8"))) static int tile_product(void) {
    struct { uint8_t palette, start, reserved[14]; uint16_t colsb[16]; uint8_t rows[16]; } cfg = { .palette = 1 };
    for (int i = 0; i < 3; i++) { cfg.colsb[i] = 64; cfg.rows[i] = 16; }
    static int8_t a[1024], b[1024];
    static int32_t c[256];
    memset(a, 2, sizeof a);
    memset(b, 3, sizeof b);
    _tile_loadconfig(&cfg);
    _tile_zero(0);
    _tile_loadd(1, a, 64);
    _tile_loadd(2, b, 64);
    _tile_dpbssd(0, 1, 2);
    _tile_stored(0, c, 64);
    _tile_release();
    int same = c[0];
    for (int i = 0; i < 256; i++) if (c[i] != same) return -1;
    return same;
}
static void *tile_thread(void *out) { *(int *)out = tile_product(); return NULL; }
#endif

static void test_execute(void) {
#if defined(__x86_64__)
    uint64_t has = lm_cpu_features();
    if (has & LM_CPU_AVX2) LM_CHECK(fma_sum() == 7);
    if (has & LM_CPU_AVX512_VNNI) LM_CHECK(vnni_sum() == 16 * 4 * 3 * -2);
    if (has & LM_CPU_AMX_INT8) {
        LM_CHECK(tile_product() == 384);
        int there = 0;
        pthread_t t;
        LM_CHECK(!pthread_create(&t, NULL, tile_thread, &there));
        pthread_join(t, NULL);
        LM_CHECK(there == 384);
    } else printf("no AMX here\n");
#endif
}

/* The probes' loops do the work they are credited with. */
static void test_probes(void) {
    LM_CHECK(lm_probe_dot8_plain(10) == 10 * LM_PROBE_DOT_PLAIN * -6);
#if defined(__x86_64__)
    uint64_t has = lm_cpu_features();
    if (has & LM_CPU_AVX2) LM_CHECK(lm_probe_dot8_avx2(10) == 10 * LM_PROBE_DOT_AVX2 * -6 + 16 * 28);
    if (has & LM_CPU_AVX512_VNNI) LM_CHECK(lm_probe_dot8_vnni(10) == 10 * LM_PROBE_DOT_VNNI * -6 + 16 * 66);
#endif
    lm_ctx *ctx;
    LM_CHECK(!lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    LM_CHECK(lm_probe_dot8(ctx, 0.001) > 0 && lm_probe_fma(ctx, 0.001) > 0);
    LM_CHECK(lm_probe_read(ctx, 1 << 20, 0.001) > 0 && lm_probe_read_small(ctx, 1 << 20, 0.001) > 0 && lm_probe_read_small(ctx, 100, 0.001) > 0);
    lm_ctx_free(ctx);
    const size_t all = lm_memory_total(), now = lm_memory_available();
    LM_CHECK(all > 0 && now > 0 && now <= all);
}
/* Names of devices that are none, whatever this program was built with. */
static void test_names(void) {
    static const struct { const char *name, *says; } bad[] = { { "gpu", "are known" }, { "cuda0", "are known" }, { "cuda:", "wanted a number" }, { "cuda:x", "wanted a number" },
                                                               { "cuda:1x,stepwise", "wanted a number" }, { "cuda:-1", "wanted a number" }, { "cuda,fast", "only ,stepwise" }, { "cuda:0,", "only ,stepwise" } };
    lm_ctx *ctx;
    lm_dev *d;
    LM_CHECK(!lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    for (int i = 0; i < LM_COUNT(bad); i++) LM_CHECK_ERR(ctx, lm_dev_open(&d, ctx, bad[i].name), LM_E_CONFIG, bad[i].says);
    if (!lm_dev_built()) LM_CHECK_ERR(ctx, lm_dev_open(&d, ctx, "cuda:3,stepwise"), LM_E_UNSUPPORTED, "without CUDA");
    lm_ctx_free(ctx);
}
LM_TEST_MAIN(LM_T1(test_names), LM_T1(test_probes), LM_T1(test_against_kernel), LM_T1(test_levels), LM_T1(test_threads), LM_T1(test_execute))
