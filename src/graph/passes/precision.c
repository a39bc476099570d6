/* precision.c — the compute dtype of every row that multiplies matrices. Rounding happens where operands are packed; sums, norms, softmax
 * and losses stay f32.
 *
 * F32 and BF16 mean every matrix row, quantized weights widened exactly. I8 means: weights whose format has panels (Q8_0, Q4_0, Q4_K …) are multiplied as
 * integers (exact inside a block, blocks added in order), everything else in f32. */
#include <string.h>
#include "graph/graph_int.h"
lm_err lm_pass_precision(lm_graph *g, lm_dtype mm) {
    LM_TRY(g->err);
    if (mm != LM_F32 && mm != LM_BF16 && mm != LM_I8)
        return lm_graph_fail(g, LM_E_UNSUPPORTED, "compute dtype %s: f32, bf16 and i8 are known", lm_dtype_name(mm));
    for (int i = 0; i < g->n_node; i++) {
        lm_node *n = g->node[i];
        if (!n->op->mm_at) continue;
        const lm_quant *q = !strcmp(n->op->name, "matmul") ? n->in[1]->type.quant : NULL;
        lm_dtype use = mm != LM_I8 ? mm : q && q->panels ? LM_I8 : LM_F32;
        memcpy((char *)n->params + n->op->mm_at - 1, &use, sizeof use);
    }
    return LM_OK;
}
