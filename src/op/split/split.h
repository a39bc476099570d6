/* split.h — the last dimension cut into up to four pieces, as views: nothing is copied. Output i is piece i; outputs beyond n have rank 0. */
#ifndef LM_OP_SPLIT_H
#define LM_OP_SPLIT_H
#include "op/op.h"
enum { LM_MAX_SPLIT = 4 };
typedef struct { int n; int64_t size[LM_MAX_SPLIT]; } lm_split_p;
extern const lm_op lm_op_split;
lm_value *lm_split(lm_graph *g, lm_value *x, int n, const int64_t *size);   /* piece 0; lm_output(v, i) is piece i */
#endif
