/* ctx.c — the context's birth and end. */
#include "base/internal.h"
#include "base/pool.h"
#include <stdlib.h>
#include <string.h>

lm_err lm_ctx_new(lm_ctx **out, const lm_ctx_opts *opts) {
    static const lm_ctx_opts none;
    if (!opts) opts = &none;
    if (opts->n_threads < 0) return LM_E_RANGE;
    lm_ctx *ctx = aligned_alloc(64, (sizeof *ctx + 63) / 64 * 64);
    if (!ctx) return LM_E_NOMEM;
    memset(ctx, 0, sizeof *ctx);
    if (pthread_mutex_init(&ctx->lock, NULL)) { free(ctx); return LM_E_NOMEM; }
    ctx->log = opts->log;
    ctx->log_ud = opts->log_ud;
    ctx->isa_mask = opts->isa_mask;
    lm_err err = lm_pool_new(&ctx->pool, ctx, opts->n_threads ? opts->n_threads : lm_usable_cores());
    if (err) { lm_ctx_free(ctx); return err; }
    *out = ctx;
    return LM_OK;
}

void lm_ctx_free(lm_ctx *ctx) {
    if (!ctx) return;
    lm_pool_free(ctx->pool);
    pthread_mutex_destroy(&ctx->lock);
    free(ctx);
}

int lm_ctx_threads(const lm_ctx *ctx) { return ctx ? lm_pool_size(ctx->pool) : 1; }
struct lm_pool *lm_ctx_pool(lm_ctx *ctx) { return ctx->pool; }
uint64_t lm_ctx_isa_mask(const lm_ctx *ctx) { return ctx ? ctx->isa_mask : 0; }
