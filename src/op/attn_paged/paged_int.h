/* paged_int.h — products of query rows with pages taken as they lie. Private to attn_paged's *_simd.c and *_vnni.c files.
 *
 * Keys in blocks meet a query in integers: each 32 numbers of a query row are rounded to a scale times int8 (largest / 127, ties to even), and
 *
 *   s_j = scale * (chain over blocks b of (dq_b * dk_jb) * (exact sum of the products of codes))
 *
 * so that bits differ between sets of instructions only where the chain's FMA does. The instructions want one side unsigned: key codes are taken + 128
 * (Q8_0) or as stored, + 8 (Q4_0), and a sum starts at what that adds, -128 or -8 times the sum of the query's codes. Values are d * code, which is exact
 * in f32, and join as values in f32 pages would. While a page is at work the same places of the next one are asked for.
 *
 * Lifetime: per call.  Threads: pure.  Errors: none. */
#ifndef LM_PAGED_INT_H
#define LM_PAGED_INT_H
#include "op/kv_write/kv_write.h"
enum { LM_PI_ROWS = 6 /* rows in a call */ };
typedef enum { LM_PI_F32, LM_PI_BF16, LM_PI_F16, LM_PI_Q8_0, LM_PI_Q4_0 } lm_pi_kind;
typedef struct { int64_t D, nb; int8_t *q; float *d; int32_t *start; } lm_pi_codes;      /* rows of D codes; of nb = D / 32 scales and starts */
/* Scores of `rows` rows from row r on with the keys of groups [g0, g1) of a kv head's page: s[row][64]. next: the page to ask for. */
typedef struct { lm_pi_kind kind; const lm_pi_codes *a; const char *keys, *next; float scale; } lm_pi_keys;
void lm_pi_nt_vnni(const lm_pi_keys *k, int r, int rows, int g0, int g1, float *s);
#endif
