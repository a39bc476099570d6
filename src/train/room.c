/* room.c — is there room for a run? Asked of a dry trainer, before weights are made. */
#include "device/probe.h"
#include "train/train.h"

lm_err lm_trainer_room(lm_ctx *ctx, const lm_cfg *cfg, const lm_trainer_opts *o) {
    lm_trainer_opts dry = *o;
    lm_trainer_plan p = { 0 };
    lm_trainer *t = NULL;
    lm_store *s;
    dry.dry = true;
    LM_TRY(lm_store_new(&s, ctx));
    const lm_err e = lm_trainer_new(&t, ctx, cfg, s, &dry);
    if (!e) lm_trainer_plan_of(t, &p);
    lm_trainer_free(t); lm_store_free(s);
    const size_t have = lm_memory_available(), want = o->dev ? p.n_params * sizeof(float) : p.total;
    if (e || !have || want <= have) return e;
    if (o->dev)
        return lm_fail(ctx, LM_E_NOMEM, "the parameters, which begin in the host's memory, take %.2f GB, %.2f GB are available", (double)want / 1e9, (double)have / 1e9);
    return lm_fail(ctx, LM_E_NOMEM,
                   "training does not fit this machine: %.2f GB are needed (parameters %.2f, gradients %.2f, optimizer %.2f, activations %.2f), %.2f GB are available",
                   (double)want / 1e9, (double)p.params / 1e9, (double)p.grads / 1e9, (double)p.optim / 1e9,
                   (double)(p.accumulate.arena_bytes + p.accumulate.thread_bytes) / 1e9, (double)have / 1e9);
}
