/* softcap_simd.c — one exp and one division per element. The loss of a capped head (op/xent) caps its logits by the same function. */
#include "op/elementwise.h"
#include "op/softcap/softcap.h"
LM_EW_KERNEL1(run, v, vn_softcap(v, ((const lm_softcap_p *)c->p)->cap))
LM_ONE_KERNEL(softcap, lm_accepts_rows, lm_ew_tiles, run);
