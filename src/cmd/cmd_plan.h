/* cmd_plan.h — what training or serving will take, by dry plans: nothing is allocated for the model.
 *
 * Lifetime: values; text in the arena.  Threads: the main one.  Errors: as the trainer's and the engine's planning. */
#ifndef LM_CMD_PLAN_H
#define LM_CMD_PLAN_H
#include "cmd/cmd_common.h"
#include "train/cost.h"
typedef struct {
    size_t params, grads, optim, act, scratch, base, peak;
    int64_t n_params, tokens;
    double flops, seconds, roofline;
    int recompute;
    int64_t micro;
} lm_train_need;
/* base: bytes the process holds before the model is made. ctx: the trainer's. */
lm_err lm_need_train(lm_ctx *ctx, const lm_machine *m, const lm_cfg *c, const lm_trainer_opts *o, int64_t accum, size_t base, lm_train_need *out);
void lm_need_of_trainer(lm_ctx *ctx, const lm_machine *m, lm_trainer *t, int64_t tokens, int64_t accum, int64_t micro, size_t base,
                        lm_train_need *out);
typedef struct {
    size_t weights, kv, scratch, base, peak;
    int64_t n_params, context;
    double prefill_s, decode_s, prefill_roof, decode_roof, flops; /* per token */
} lm_serve_need;
typedef struct { lm_dtype dtype; const lm_quant *quant; lm_dtype kv; const lm_quant *kv_quant; int64_t context; lm_dev *dev; } lm_serve_opts;         /* dev: as lm_engine_opts has it */
lm_err lm_need_serve(lm_ctx *ctx, const lm_machine *m, const lm_cfg *c, const lm_serve_opts *o, size_t base, lm_serve_need *out);
#endif
