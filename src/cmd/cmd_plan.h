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
    /* weights: all; mapped: those of them that stay in the file, not in the peak; away: those that are read for each token, through a ring */
    size_t weights, mapped, away, ring, kv, scratch, base, peak;
    int64_t n_params, context, prompt;
    /* Seconds for each token: of a prompt of `prompt` tokens, written behind it, written at the context's end. */
    double prefill_s, decode_s, decode_end_s, prefill_roof, decode_roof, flops;
} lm_serve_need;
/* dev: as lm_engine_opts has it. from: the weights are these as they are loaded, dtype then being LM_QUANT for "as stored"; NULL: all matrices alike. map:
 * used in the file where that is possible, and, where that is more than `have` bytes (0: no limit), read from it as they are used, `disk` bytes a second. */
typedef struct {
    lm_dtype dtype; const lm_quant *quant; lm_dtype kv; const lm_quant *kv_quant; int64_t context; lm_dev *dev; lm_weights *from; bool map; size_t have; double disk;
} lm_serve_opts;
lm_err lm_need_serve(lm_ctx *ctx, const lm_machine *m, const lm_cfg *c, const lm_serve_opts *o, size_t base, lm_serve_need *out);
#endif
