/* assign.c — cast's kernel, writing into input 0. */
#include "op/assign/assign.h"
#include "op/cast/cast.h"
#include "op/rule.h"
#include <string.h>

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    if (c->in[1].dtype != LM_QUANT) LM_TRY(lm_want(ctx, c, 1, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    LM_TRY(lm_want_dims(ctx, c, 1, c->in[0].rank, c->in[0].dim));
    out[0] = lm_type_like(&c->in[0]);
    return LM_OK;
}
static void ref(const lm_call *c) { memcpy(c->out[0].data, c->in[1].data, (size_t)lm_numel(&c->in[1]) * sizeof(double)); }
static void cost(const lm_call *c, double *flops, double *bytes) { *flops = 0; *bytes *= lm_numel(&c->in[1]) ? 2.0 / 3 : 1; }
static bool accepts(const lm_call *c) { return lm_cast_accepts(&c->in[1], &c->out[0]); }
static int64_t tiles(const lm_call *c) { return lm_cast_tiles(&c->out[0]); }
static size_t scratch_bytes(const lm_call *c) { return lm_cast_scratch(&c->out[0]); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) { lm_cast_tile(&c->in[1], &c->out[0], tile, scratch); return LM_OK; }
static const lm_kernel k_assign[] = {
    { .name = "assign.any", .order = "cast", .accepts = accepts, .thread_bytes = scratch_bytes, .n_phase = 1, .phase = { { tiles, run } } },
    { 0 }
};
LM_CUDA_DECLARE(lm_k_assign);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_assign) k_assign, NULL };
static const lm_sample samples[] = {
    { .name = "f32", .params = NULL, .in = { { .rank = 2, .dim = { 3, 7 } }, { .rank = 2, .dim = { 3, 7 } } } },
    { .name = "f32 to bf16 panels",
      .params = NULL,
      .in = { { .rank = 2, .dim = { 37, 45 }, .dtype = LM_BF16, .layout = LM_PANEL16X2 }, { .rank = 2, .dim = { 37, 45 } } } },
    { .name = "f32 to panels",
      .params = NULL,
      .in = { { .rank = 2, .dim = { 50, 300 }, .layout = LM_PANEL16 }, { .rank = 2, .dim = { 50, 300 } } } },
    { .name = "panels to bf16 panels",
      .params = NULL,
      .in = { { .rank = 2, .dim = { 32, 64 }, .dtype = LM_BF16, .layout = LM_PANEL16X2 },
              { .rank = 2, .dim = { 32, 64 }, .layout = LM_PANEL16 } } },
    { .name = "bf16 to f32", .params = NULL, .in = { { .rank = 1, .dim = { 100 } }, { .rank = 1, .dim = { 100 }, .dtype = LM_BF16 } } },
    { 0 }
};
const lm_op lm_op_assign = { .name = "assign", .math = "state := x", .n_in = 2, .n_out = 1, .alias = { 1 }, .pure_write = true,
    .shape = shape, .ref = ref, .cost = cost, .kernels = kernels, .samples = samples };
lm_value *lm_assign(lm_graph *g, lm_value *state, lm_value *x) { return lm_emit(g, &lm_op_assign, NULL, 2, (lm_value *const[]){ state, x }); }
