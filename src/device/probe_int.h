/* probe_int.h — the loops, one per instruction set.  Lifetime, Threads, Errors: none. */
#ifndef LM_PROBE_INT_H
#define LM_PROBE_INT_H
#include "device/probe.h"
#define LM_PROBE_LOOPS(isa) float lm_probe_chain_##isa(int64_t rounds); uint64_t lm_probe_sum_##isa(const void *p, size_t n)
LM_PROBE_LOOPS(portable);
LM_PROBE_LOOPS(avx2);
LM_PROBE_LOOPS(avx512);
/* Products of bytes in a round. */
enum { LM_PROBE_DOT_VNNI = 12 * 64, LM_PROBE_DOT_AVX2 = 8 * 32, LM_PROBE_DOT_PLAIN = 64 };
int64_t lm_probe_dot8_vnni(int64_t rounds), lm_probe_dot8_avx2(int64_t rounds), lm_probe_dot8_plain(int64_t rounds);
enum { LM_PROBE_CHAINS = 12 };
int lm_probe_width_portable(void), lm_probe_width_avx2(void), lm_probe_width_avx512(void);      /* floats in a vector */
#endif
