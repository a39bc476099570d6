/* clip_scale.c — one number in, two out; in double. */
#include "op/clip_scale/clip_scale.h"
#include "op/rule.h"
#include <math.h>

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, 1)); LM_TRY(lm_want_dims(ctx, c, 0, LM_DIMS(1)));
    LM_TRY(lm_want(ctx, c, 1, LM_ANY_FLOAT, 1, 1)); LM_TRY(lm_want_dims(ctx, c, 1, LM_DIMS(2)));
    out[0] = out[1] = lm_type_like(&c->in[0]); out[0].ext[0] = out[1].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
static void clip(double gnorm2, double max_norm, double inv_tokens, double *scale, double *norm) {
    *norm = sqrt(gnorm2) * inv_tokens;
    *scale = max_norm > 0 && max_norm < *norm + 1e-6 ? inv_tokens * max_norm / (*norm + 1e-6) : inv_tokens;
}
static void ref(const lm_call *c) { clip(*lm_f64(&c->in[0]), lm_f64(&c->in[1])[0], lm_f64(&c->in[1])[1], lm_f64(&c->out[0]), lm_f64(&c->out[1])); }
static int64_t one(const lm_call *c) { (void)c; return 1; }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile; (void)scratch; const float *h = c->in[1].data; double s, n;
    clip((double)*(const float *)c->in[0].data, (double)h[0], (double)h[1], &s, &n);
    *(float *)c->out[0].data = (float)s; *(float *)c->out[1].data = (float)n;
    return LM_OK;
}
static const lm_kernel k_clip[] = { { .name = "clip_scale.f32", .order = "clip_scale", .n_phase = 1, .phase = { { one, run } } }, { 0 } };
LM_CUDA_DECLARE(lm_k_clip_scale);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_clip_scale) k_clip, NULL };
static const lm_sample samples[] = {
    { .name = "clipped or not",
      .params = NULL,
      .in = { { .rank = 1, .dim = { 1 }, .fill = LM_FILL_POSITIVE }, { .rank = 1, .dim = { 2 }, .fill = LM_FILL_UNIFORM } },
      .tol = 1e-6 },
    { .name = "no clipping",
      .params = NULL,
      .in = { { .rank = 1, .dim = { 1 }, .fill = LM_FILL_POSITIVE }, { .rank = 1, .dim = { 2 }, .fill = LM_FILL_IOTA } },
      .tol = 1e-6 },
    { .name = "zero gradient",
      .params = NULL,
      .in = { { .rank = 1, .dim = { 1 }, .fill = LM_FILL_ZERO }, { .rank = 1, .dim = { 2 }, .fill = LM_FILL_ONES } },
      .tol = 1e-6 },
    { 0 }
};
const lm_op lm_op_clip_scale = { .name = "clip_scale",
                                 .math = "scale = min(1, max_norm / (norm + 1e-6)) / tokens, norm = sqrt(gnorm2) / tokens",
                                 .n_in = 2,
                                 .n_out = 2,
                                 .shape = shape,
                                 .ref = ref,
                                 .kernels = kernels,
                                 .samples = samples };
lm_value *lm_clip_scale(lm_graph *g, lm_value *gnorm2, lm_value *hyper2) {
    return lm_emit(g, &lm_op_clip_scale, NULL, 2, (lm_value *const[]){ gnorm2, hyper2 });
}
