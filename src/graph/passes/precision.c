/* precision.c — the compute dtype of every row that multiplies matrices. Rounding happens where operands are packed; sums, norms, softmax and losses stay f32. */
#include <string.h>
#include "graph/graph_int.h"
lm_err lm_pass_precision(lm_graph *g, lm_dtype mm) {
    LM_TRY(g->err);
    if (mm != LM_F32 && mm != LM_BF16) return lm_graph_fail(g, LM_E_UNSUPPORTED, "compute dtype %s: f32 and bf16 are known", lm_dtype_name(mm));
    for (int i = 0; i < g->n_node; i++) {
        const lm_op *op = g->node[i]->op;
        if (op->mm_at) memcpy((char *)g->node[i]->params + op->mm_at - 1, &mm, sizeof mm);
    }
    return LM_OK;
}
