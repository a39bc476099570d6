/* weights.h — what a sink leaves and takes, for the vectors of a *_simd.c file: heads side by side in the lanes. Include there only.
 *
 * Lifetime, Threads, Errors: none, all inline. */
#ifndef LM_ATTN_SINK_WEIGHTS_H
#define LM_ATTN_SINK_WEIGHTS_H
#include "op/elementwise.h"
/* Of d = s - lse: 1/(1 + e^d), and the rest of one without its rounding; e = e^-|d| does not overflow. */
typedef struct { vn keep, sink, e; } sink_weights;
LM_INL sink_weights sink_of(vn lse, vn s) {
    const vn d = s - lse, e = vn_exp(-vn_abs(d)), one = vn_set(1), z = one / (one + e);
    const vni above = d > (vn){ 0 };
    return (sink_weights){ vn_sel(above, e, one) * z, vn_sel(above, one, e) * z, e };
}
#endif
