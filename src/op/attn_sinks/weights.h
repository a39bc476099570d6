/* weights.h — what a sink leaves of attention's result, for the vectors of a *_simd.c file. Include there only.
 *
 * Lifetime, Threads, Errors: none, all inline. */
#ifndef LM_ATTN_SINKS_WEIGHTS_H
#define LM_ATTN_SINKS_WEIGHTS_H
#include "op/elementwise.h"
/* keep = 1/(1 + e^(s - lse)); e = e^-|s - lse| does not overflow. */
typedef struct { vn keep, e; } sink_weights;
LM_INL sink_weights sink_of(vn lse, vn s) {
    const vn d = s - lse, e = vn_exp(-vn_abs(d)), z = 1.0f / (1.0f + e);
    return (sink_weights){ vn_sel(d > (vn){ 0 }, e * z, z), e };
}
LM_INL void sink_keep(float *y, int64_t n, vn keep) { LM_V_WALK(n, k, LM_ST(y + k, LM_LD(y + k) * keep)); }
#endif
