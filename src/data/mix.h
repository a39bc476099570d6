/* mix.h — which source sequence number i comes from: a fixed pattern with a period, so that any i is answered in O(1).
 *
 * Weights become whole shares of a period of P draws: the smallest P up to 65536 in which they are whole (0.7 and 0.3: P = 10), else 65536
 * shares by largest remainder. Within the period sources are ordered by Tijdeman's rule (The chairman assignment problem, 1980): after
 * every t draws each source was drawn less than one time more or less than t times its share. So the mix holds in every batch, for any
 * number of ranks, and needs no random numbers.
 *
 * Lifetime: the caller frees.  Threads: read only.  Errors: LM_E_CONFIG: a weight that is not positive, or below 1/65536 of all. */
#ifndef LM_DATA_MIX_H
#define LM_DATA_MIX_H
#include "base/base.h"
enum { LM_MIX_PERIOD = 65536, LM_MIX_SOURCES = 4096 };
typedef struct { uint32_t period, *share; uint16_t *who; uint16_t *before; int n; } lm_mix;   /* before: draws of who[i] earlier in the period */
lm_err lm_mix_new(lm_ctx *ctx, const double *weight, int n, lm_mix *out);
void lm_mix_free(lm_ctx *ctx, lm_mix *m);
/* Source of draw i; *k: how many draws of that source come before it. */
static inline int lm_mix_at(const lm_mix *m, uint64_t i, uint64_t *k) {
    uint64_t round = i / m->period, slot = i % m->period;
    int s = m->who[slot];
    *k = round * m->share[s] + m->before[slot];
    return s; }
#endif
