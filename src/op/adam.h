/* adam.h — the numbers of a step that AdamW's rows on the processor share, prepared in double as the common implementations do. For *_simd.c files.
 *
 * Lifetime: none.  Threads: pure.  Errors: none. */
#ifndef LM_ADAM_H
#define LM_ADAM_H
#include <math.h>
#include "op/hyper.h"
/* ob1, ob2: 1 - beta; keep: 1 - lr wd; step: lr / bias1; sb2: sqrt(bias2) */
typedef struct { float ob1, b2, ob2, keep, step, sb2, eps; } lm_adam;
static inline lm_adam lm_adam_of(const float *h) {
    return (lm_adam){ .ob1 = 1.0f - h[LM_HYPER_BETA1],
                      .b2 = h[LM_HYPER_BETA2],
                      .ob2 = h[LM_HYPER_ONE_MINUS_BETA2] != 0 ? h[LM_HYPER_ONE_MINUS_BETA2] : 1.0f - h[LM_HYPER_BETA2],
                      .keep = (float)(1.0 - (double)h[LM_HYPER_LR] * (double)h[LM_HYPER_WD]),
                      .step = (float)((double)h[LM_HYPER_LR] / (double)h[LM_HYPER_BIAS1]),
                      .sb2 = (float)sqrt((double)h[LM_HYPER_BIAS2]),
                      .eps = h[LM_HYPER_EPS] };
}
#endif
