/* cpu.c — cpuid, xgetbv, and the system's leave to use tiles. */
#define _GNU_SOURCE 1
#include "device/cpu.h"
#include "base/pool.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static uint64_t found;                    /* written once, under the once below */
static pthread_once_t once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)
static bool bits(unsigned word, unsigned want) { return (word & want) == want; }

/* Registers that the system saves for us. */
static uint64_t saved_state(void) {
    unsigned lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo | (uint64_t)hi << 32;
}

/* Linux keeps tile state only for processes that asked. */
static bool ask_for_tiles(void) {
    enum { ARCH_REQ_XCOMP_PERM_ = 0x1023, XFEATURE_TILEDATA = 18 };
    return !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM_, XFEATURE_TILEDATA);
}

static void detect(void) {
    uint64_t f = LM_CPU_PORTABLE;
    unsigned a, b, c, d, b7 = 0, c7 = 0, d7 = 0, a71 = 0;
    found = f;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !bits(c, bit_OSXSAVE | bit_AVX)) return;
    unsigned c1 = c, subleaves = 0;
    if (__get_cpuid_count(7, 0, &subleaves, &b, &c, &d)) { b7 = b; c7 = c; d7 = d; }
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) a71 = a;
    uint64_t os = saved_state();
    bool ymm = (os & 0x6) == 0x6, zmm = ymm && (os & 0xE0) == 0xE0, tiles = (os & 0x60000) == 0x60000;
    if (ymm && bits(c1, bit_FMA | bit_F16C) && bits(b7, bit_AVX2)) {
        f |= LM_CPU_AVX2;
        if (bits(a71, 1u << 4)) f |= LM_CPU_AVXVNNI;
        if (zmm && bits(b7, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL | bit_AVX512CD)) {
            f |= LM_CPU_AVX512;
            if (bits(c7, 1u << 11)) f |= LM_CPU_AVX512_VNNI;
            if (bits(a71, 1u << 5)) f |= LM_CPU_AVX512_BF16;
            bool amx_tile = bits(d7, 1u << 24), amx_bf16 = bits(d7, 1u << 22), amx_int8 = bits(d7, 1u << 25);
            if (tiles && amx_tile && (amx_bf16 || amx_int8) && ask_for_tiles())
                f |= (amx_bf16 ? LM_CPU_AMX_BF16 : 0) | (amx_int8 ? LM_CPU_AMX_INT8 : 0);
        }
    }
    found = f;
}
#else
static void detect(void) { found = LM_CPU_PORTABLE; }
#endif

uint64_t lm_cpu_features(void) {
    pthread_once(&once, detect);
    return found;
}

const char *lm_cpu_feature_name(int bit) {
    static const char *const names[LM_CPU_N] = {
#define X(name, bit, text) [bit] = text,
        LM_CPU_MAP(X)
#undef X
    };
    return bit >= 0 && bit < LM_CPU_N ? names[bit] : "";
}

/* needs: what a machine must have to be of the level; adds: what the level allows beyond the one below. */
#define LEVELS(X)                                                                  \
    X("portable", LM_CPU_PORTABLE, LM_CPU_PORTABLE)                                \
    X("avx2", LM_CPU_AVX2, LM_CPU_AVX2 | LM_CPU_AVXVNNI)                           \
    X("avx512", LM_CPU_AVX512, LM_CPU_AVX512 | LM_CPU_AVX512_VNNI)                 \
    X("avx512bf16", LM_CPU_AVX512_BF16, LM_CPU_AVX512_BF16)                        \
    X("amx", LM_CPU_AMX_BF16 | LM_CPU_AMX_INT8, LM_CPU_AMX_BF16 | LM_CPU_AMX_INT8)
#define X(name, needs, adds) name,
static const char *const level_names[] = { LEVELS(X) NULL };
#undef X
#define X(name, needs, adds) { needs, adds },
static const struct { uint64_t needs, adds; } levels[] = { LEVELS(X) };
#undef X

const char *const *lm_cpu_isa_names(void) { return level_names; }

uint64_t lm_cpu_mask_of(const char *isa) {
    uint64_t mask = 0;
    for (int i = 0; level_names[i]; i++) {
        mask |= levels[i].adds;
        if (!strcmp(isa, level_names[i])) return mask;
    }
    return 0;
}

const char *lm_cpu_isa_of(uint64_t features) {
    int i = 0;
    while (i + 1 < LM_COUNT(levels) && (features & levels[i + 1].needs) == levels[i + 1].needs) i++;
    return level_names[i];
}

const char *lm_cpu_model(char *buf, size_t n) {
    if (!n) return buf;
    buf[0] = 0;
#if defined(__x86_64__)
    unsigned w[13] = { 0 };
    for (unsigned i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002u + i, &w[4 * i], &w[4 * i + 1], &w[4 * i + 2], &w[4 * i + 3])) return buf;
    const char *s = (const char *)w;
    size_t k = 0;
    for (; *s && k + 1 < n; s++)          /* it comes padded with spaces, in front and within */
        if (*s != ' ' || (k && buf[k - 1] != ' ')) buf[k++] = *s;
    while (k && buf[k - 1] == ' ') k--;
    buf[k] = 0;
#endif
    return buf;
}

size_t lm_cpu_cache(int level) {
    static const int names[] = { _SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE };
    long v = level >= 1 && level <= 3 ? sysconf(names[level - 1]) : 0;
    return v > 0 ? (size_t)v : 0;
}

size_t lm_cpu_cache_line(void) {
    long v = sysconf(_SC_LEVEL1_DCACHE_LINESIZE);
    return v > 0 ? (size_t)v : 64;
}

int lm_cpu_cores(void) { return lm_usable_cores(); }

uint64_t lm_cpu_features_of(const struct lm_ctx *ctx) {
    uint64_t mask = lm_ctx_isa_mask(ctx);
    return mask ? mask & lm_cpu_features() : lm_cpu_features();
}
