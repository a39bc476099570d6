/* cmd_shapes.h — well-known model shapes by name, for plans and benchmarks without a file.
 *
 * Lifetime: values; stores belong to the caller.  Threads: none shared.
 * Errors:   LM_E_CONFIG with the nearest name. */
#ifndef LM_CMD_SHAPES_H
#define LM_CMD_SHAPES_H
#include "cmd/cmd.h"
#include "model/model.h"
typedef struct {
    const char *name, *what, *family;
    int64_t vocab, d, n_layer, n_head, n_kv, d_head, d_ff, max_pos;
    double rope_base;
    bool tie;
} lm_shape;
extern const lm_shape lm_shapes[];                                    /* name NULL at the end */
lm_err lm_shape_cfg(lm_ctx *ctx, const char *name, lm_cfg *c);
/* Storage for every parameter as loading with these options would make it (lm_weights_load), filled with small random numbers that repeat.
 * fill = false: types only, no storage; enough for dry plans. */
lm_err lm_shape_weights(lm_ctx *ctx, const lm_cfg *c, const lm_load_opts *o, bool fill, lm_store *store);
#endif
