/* follow.c — see follow.h. Whole numbers: no gradient. */
#include "op/follow/follow.h"
#include "op/peak/peak.h"
#include "op/rule.h"

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_I32, 1, 1));
    LM_TRY(lm_want(ctx, c, 1, LM_I32, 1, 1));
    LM_TRY(lm_want_dims(ctx, c, 1, LM_DIMS(c->in[0].dim[0])));
    LM_TRY(lm_want(ctx, c, 2, LM_F32, 2, 2));
    LM_TRY(lm_want_dims(ctx, c, 2, LM_DIMS(c->in[2].dim[0], LM_PEAK_BEST)));
    out[0] = LM_TYPE(LM_I32, c->in[0].dim[0]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const int32_t *token = c->in[0].data, *from = c->in[1].data;
    int32_t *y = c->out[0].data;
    for (int64_t i = 0; i < c->in[0].dim[0]; i++) {
        const bool chosen = from[i] >= 0 && from[i] < c->in[2].dim[0];
        y[i] = chosen ? (int32_t)lm_f64(&c->in[2])[from[i] * LM_PEAK_BEST + 1] : token[i];
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) { *flops = 0; *bytes = 16.0 * (double)c->in[0].dim[0]; }

static int64_t tiles(const lm_call *c) { return c->in[0].dim[0] > 0; }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile; (void)scratch;
    const int32_t *token = c->in[0].data, *from = c->in[1].data;
    int32_t *y = c->out[0].data;
    lm_err err = LM_OK;
    for (int64_t i = 0; i < c->in[0].dim[0]; i++) {
        if (from[i] >= c->in[2].dim[0]) { err = LM_E_RANGE; y[i] = token[i]; continue; }
        y[i] = from[i] < 0 ? token[i] : (int32_t)((const float *)c->in[2].data)[from[i] * LM_PEAK_BEST + 1];
    }
    return err;
}
static const lm_kernel kernel[] = { { .name = "follow.any", .order = "follow", .n_phase = 1, .phase = { { tiles, run } } }, { 0 } };
LM_CUDA_DECLARE(lm_k_follow);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_follow) kernel, NULL };

#define I(n, m) { .rank = 1, .dim = { n }, .dtype = LM_I32, .fill = LM_FILL_IDS, .arg = m }
#define B(r) { .rank = 2, .dim = { r, LM_PEAK_BEST }, .fill = LM_FILL_IOTA }
static const lm_sample samples[] = { { .name = "one", .in = { I(1, 9), I(1, 1), B(1) }, .grad_tol = -1 },
                                     { .name = "rows", .in = { I(70, 1000), I(70, 40), B(40) }, .grad_tol = -1 },
                                     { 0 } };
const lm_op lm_op_follow = { .name = "follow", .math = "y_i = from_i < 0 ? token_i : best[from_i]'s id", .n_in = 3, .n_out = 1, .opaque = 7,
    .shape = shape, .ref = ref, .cost = cost, .kernels = kernels, .samples = samples };
lm_value *lm_follow(lm_graph *g, lm_value *token, lm_value *from, lm_value *best) {
    return lm_emit(g, &lm_op_follow, NULL, 3, (lm_value *const[]){ token, from, best });
}
