/* attn.h — causal attention over a flattened batch: documents, windows, grouped heads; memory linear in the tokens.
 *
 * Token i (a row) sees the keys j in [max(start_i, i-window+1), i]; start_i is the first row of its document, so batches of sequences and packed
 * documents are one case. A start above i counts as i, one below 0 as 0. Query head h reads kv head h / (n_head/n_kv).
 * With `both` token i sees its whole document, the rows around it that have the same start: encoders. With a cap scores are cap tanh(score / cap).
 * The same params serve the gradient (op/attn_grad) and the paged form (op/attn_paged), which gives the same bits: see attn_core.h.
 *
 * Lifetime: values of a graph.  Threads: one builds a graph.  Errors: LM_E_SHAPE from the shape rules. */
#ifndef LM_ATTN_H
#define LM_ATTN_H
#include "op/op.h"
enum { LM_ATTN_MAX_D = 256 };
typedef struct lm_attn_p {
    int n_head, n_kv, d_head;
    int64_t window;                /* keys a token sees at most, itself included; 0 = all of its document */
    float scale;                   /* of the dot products, always explicit: 1/sqrt(d_head) is the usual one */
    lm_dtype mm;                   /* LM_F32, or LM_BF16: q, k, v are rounded to it; sums stay f32 */
    float cap;                     /* of the scores, which then lie within ±cap; 0 = none */
    bool both;                     /* not causal: there is no window and no paged form */
} lm_attn_p;
extern const lm_op lm_op_attn;
/* q (N, n_head*d_head), k and v (N, n_kv*d_head), start I32 (N) -> o (N, n_head*d_head); output 1 is lse (N, n_head), natural logarithm. */
lm_value *lm_attn(lm_graph *g, lm_value *q, lm_value *k, lm_value *v, lm_value *start, const lm_attn_p *p);
/* Shared by the shape rules: the params make sense, or a sentence. */
lm_err lm_attn_check(lm_ctx *ctx, const char *op, const lm_attn_p *p);
/* Visible pairs (query, key) of one head: exact if start has data, else as if all rows were one document. */
double lm_attn_pairs(const lm_tensor *start, const lm_attn_p *p);
static inline int64_t lm_attn_start(int32_t start, int64_t i) { return start < 0 ? 0 : start > i ? i : start; }
/* The first row after i that is of another document, n at most. */
static inline int64_t lm_attn_end(const int32_t *start, int64_t i, int64_t n) {
    int64_t e = i + 1;
    while (e < n && lm_attn_start(start[e], e) == lm_attn_start(start[i], i)) e++;
    return e;
}
static inline int64_t lm_attn_first(int64_t start, int64_t i, int64_t window) {
    return window > 0 && i - window + 1 > start ? i - window + 1 : start;
}
#endif
