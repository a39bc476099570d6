/* rmsnorm.h — y = x·rstd·(w + offset), rstd = (mean x² + eps)^-½, over the last dimension.
 *
 * w may be shorter than a row: a row is then groups of w's length, each with its own rstd (the norms of queries and keys per head). offset is 1 for
 * models that store w - 1 (Gemma). Output 1 is rstd, (rows) or (rows, groups); no gradient flows through it.
 * Lifetime: row const.  Threads: pure.  Errors: builders return NULL when the graph is in error. */
#ifndef LM_OP_RMSNORM_H
#define LM_OP_RMSNORM_H
#include "op/op.h"
typedef struct { float eps, offset; } lm_rmsnorm_p;
extern const lm_op lm_op_rmsnorm;
lm_value *lm_rmsnorm(lm_graph *g, lm_value *x, lm_value *w, float eps);
lm_value *lm_rmsnorm_offset(lm_graph *g, lm_value *x, lm_value *w, float eps, float offset);
/* Shape of the statistics of x normalised in groups of d: dims of x without the last, then the groups if more than one. */
lm_type lm_norm_stat_type(const lm_tensor *x, int64_t d);
#endif
