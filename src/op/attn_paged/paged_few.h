/* paged_few.h — what paged_int_simd.c has for attn_paged_simd.c, by instruction set. Private.
 *
 * Lifetime: per call.  Threads: pure.  Errors: none. */
#ifndef LM_PAGED_FEW_H
#define LM_PAGED_FEW_H
#include "op/attn_paged/paged_int.h"
#define pi_scales LM_ISA_NAME(lm_pi_scales)
#define pi_widen LM_ISA_NAME(lm_pi_widen)
#define pi_pv LM_ISA_NAME(lm_pi_pv)
#define pi_nt LM_ISA_NAME(lm_pi_nt)
#define pi_codes LM_ISA_NAME(lm_pi_codes)
#define pi_ints LM_ISA_NAME(lm_pi_ints)
typedef struct { lm_pi_kind kind; int64_t D; const char *values, *next; const float *d; } pi_values;       /* of a kv head's page; d as pi_scales gives them */
void pi_scales(lm_pi_kind kind, const char *values, int64_t n, float *d);                                 /* of n blocks, one after another */
void pi_widen(lm_pi_kind kind, const char *values, const float *d, int64_t D, float *out);               /* 64 rows of blocks to (64, D) */
/* ac_pv and ac_nt (attn_core.h), the same bits; D a multiple of 32 */
void pi_pv(const pi_values *x, int rows, const float *p, const int *lo, const int *hi, int least, int from, int to, int most, float *c, int64_t ldc);
void pi_nt(lm_pi_kind kind, int rows, int g0, int g1, const float *a, int64_t lda, const char *keys, const char *next, int64_t D, float scale, float *s);
void pi_codes(const lm_pi_codes *c, lm_pi_kind kind, int64_t r, const float *x);                          /* row r from D floats */
void pi_ints(const lm_pi_keys *k, int r, int rows, int g0, int g1, float *s);
#endif
