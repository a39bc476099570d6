/* cpu.h — what this processor can do, and what a run allows it to.
 *
 * A kernel row names the features it needs; it may be chosen if (lm_cpu_features() & mask) holds them all, the mask being that of the context
 * (lm_ctx_isa_mask(); 0 = everything). Named levels (--isa) are cumulative masks. Integer dot-product instructions are exact and change no
 * bits, so they belong to the level whose vectors they use and make none of their own.
 *
 * Lifetime: the answers are constants of the process.
 * Threads:  all safe. The first lm_cpu_features() also asks the kernel for the AMX tiles: ask before starting threads with small alternate
 *           signal stacks, for the kernel refuses while one exists (AMX is then simply not reported).
 * Errors:   none; what cannot be found out is 0 or "". */
#ifndef LM_CPU_H
#define LM_CPU_H
#include "base/base.h"
/* name, bit, text */
#define LM_CPU_MAP(X)                                                                             \
    X(PORTABLE, 0, "portable")         /* always there: a mask of nothing else is not 0 */        \
    X(AVX2, 1, "avx2")                 /* AVX2, FMA, F16C */                                      \
    X(AVXVNNI, 2, "avxvnni")                                                                      \
    X(AVX512, 3, "avx512")             /* F, BW, DQ, VL, CD */                                    \
    X(AVX512_VNNI, 4, "avx512vnni")                                                               \
    X(AVX512_BF16, 5, "avx512bf16")                                                               \
    X(AMX_BF16, 6, "amxbf16")          /* tiles usable by this process */                         \
    X(AMX_INT8, 7, "amxint8")
enum {
#define X(name, bit, text) LM_CPU_##name = 1 << bit,
    LM_CPU_MAP(X)
#undef X
    LM_CPU_N = 8
};
uint64_t lm_cpu_features_of(const struct lm_ctx *ctx);   /* those of this machine that the context allows (mask 0 = all) */
uint64_t lm_cpu_features(void);               /* this machine's, usable under this system */
const char *lm_cpu_feature_name(int bit);     /* 0 … LM_CPU_N-1; "" outside */
/* "portable", "avx2", "avx512", "avx512bf16", "amx" -> the features that level allows, all lower ones included; 0: no such level. */
uint64_t lm_cpu_mask_of(const char *isa);
const char *const *lm_cpu_isa_names(void);    /* those names, lowest first, NULL at the end: for an enum option */
/* The highest level all of whose defining features are in `features`: "avx512" … */
const char *lm_cpu_isa_of(uint64_t features);
const char *lm_cpu_model(char *buf, size_t n);   /* fills buf, returns it; "" if unknown */
size_t lm_cpu_cache(int level);               /* data cache bytes seen by one core: 1, 2, 3; 0 = unknown */
size_t lm_cpu_cache_line(void);               /* 64 if unknown */
int lm_cpu_cores(void);                       /* cores this process may use */
#endif
