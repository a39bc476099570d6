/* cast.h — y = x in another float dtype, rounded once to nearest even. x may be in any layout or quantized; y takes the layout its storage has.
 *
 * Lifetime: row const.  Threads: pure.  Errors: builders return NULL when the graph is in error. */
#ifndef LM_OP_CAST_H
#define LM_OP_CAST_H
#include "op/op.h"
typedef struct { lm_dtype dtype; } lm_cast_p;
extern const lm_op lm_op_cast;
lm_value *lm_cast(lm_graph *g, lm_value *x, lm_dtype dtype);
/* The kernel, for rows that convert x into y: tiles of whole panels. */
bool lm_cast_accepts(const lm_tensor *x, const lm_tensor *y);
int64_t lm_cast_tiles(const lm_tensor *y);
size_t lm_cast_scratch(const lm_tensor *y);
void lm_cast_tile(const lm_tensor *x, const lm_tensor *y, int64_t tile, float *scratch);
#endif
