/* cast.c — the conversions are tensor/'s, exact on every instruction set, so one kernel serves all. */
#include "op/cast/cast.h"
#include "op/rule.h"
#include <string.h>

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    lm_dtype to = ((const lm_cast_p *)c->p)->dtype;
    if (c->in[0].dtype != LM_QUANT) LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    if (!lm_dtype_is_float(to) || to == LM_QUANT) return lm_fail(ctx, LM_E_SHAPE, "cast: dtype: got %s, wanted a float", lm_dtype_name(to));
    out[0] = lm_type_make(to, c->in[0].rank, c->in[0].dim);
    return LM_OK;
}
static void ref(const lm_call *c) { memcpy(c->out[0].data, c->in[0].data, (size_t)lm_numel(&c->in[0]) * sizeof(double)); }
static lm_err grad(lm_graph *g, lm_grad *d) {
    lm_dtype from = lm_type_of(d->in[0])->dtype;
    if (d->want[0]) d->gin[0] = lm_type_of(d->gout[0])->dtype == from ? d->gout[0] : lm_cast(g, d->gout[0], from);
    return LM_OK;
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)c; (void)bytes; *flops = 0; }

/* Tiles are whole rows, sixteen or a multiple, so that a panel is one tile's; a long vector is cut at a fixed length. */
enum { TILE = 16384 };
static bool vector_form(const lm_tensor *y) { return lm_rows(y) == 1 && y->layout == LM_PLAIN; }
static int64_t rows_per_tile(const lm_tensor *y) { return 16 * lm_max64(1, TILE / 16 / lm_max64(1, lm_cols(y))); }
bool lm_cast_accepts(const lm_tensor *x, const lm_tensor *y) {
    const lm_tensor *t[2] = { x, y };
    for (int i = 0; i < 2; i++) {
        bool ok = t[i]->dtype == LM_QUANT ? i == 0 && t[i]->layout == LM_PLAIN : t[i]->layout == LM_PLAIN ? lm_rows_fold(t[i])
                  : t[i]->rank == 2 && t[i]->dtype == (t[i]->layout == LM_PANEL16 ? LM_F32 : LM_BF16);
        if (!ok) return false;
    }
    return lm_dtype_is_float((lm_dtype)y->dtype);
}
int64_t lm_cast_tiles(const lm_tensor *y) { return vector_form(y) ? lm_ceil_div(lm_cols(y), TILE) : lm_ceil_div(lm_rows(y), rows_per_tile(y)); }
size_t lm_cast_scratch(const lm_tensor *y) { return (size_t)lm_cols(y) * 16 * sizeof(float); }

static char *row_of(const lm_tensor *t, int64_t r) { return (char *)t->data + r * lm_row_stride(t) * (int64_t)lm_dtype_size((lm_dtype)t->dtype); }
static void zero_pads(const lm_tensor *y, int64_t r) {       /* of the panel that starts at row r, if it has any */
    int64_t k = lm_cols(y), kp = y->layout == LM_PANEL16 ? k : lm_round_up(k, 32); size_t panel = (size_t)kp * 16 * lm_dtype_size((lm_dtype)y->dtype);
    if (kp != k || r + 16 > lm_rows(y)) memset((char *)y->data + (size_t)(r / 16) * panel, 0, panel);
}
void lm_cast_tile(const lm_tensor *x, const lm_tensor *y, int64_t tile, float *scratch) {
    const int64_t k = lm_cols(y), rows = lm_rows(y); const lm_dtype xd = (lm_dtype)x->dtype, yd = (lm_dtype)y->dtype;
    const bool x_plain = x->layout == LM_PLAIN && xd != LM_QUANT;
    if (x_plain && vector_form(y)) {
        int64_t i = tile * TILE;
        lm_convert((char *)y->data + (size_t)i * lm_dtype_size(yd), yd, (const char *)x->data + (size_t)i * lm_dtype_size(xd), xd,
                   lm_min64(TILE, k - i));
        return;
    }
    if (vector_form(y)) { if (tile == 0) { lm_layout_get_rows(x, 0, 1, scratch); lm_convert(y->data, yd, scratch, LM_F32, k); } return; }
    int64_t per = rows_per_tile(y), r = tile * per, end = lm_min64(r + per, rows);
    if (x_plain && y->layout == LM_PLAIN) {
        if (lm_is_contig(x) && lm_is_contig(y)) { lm_convert(row_of(y, r), yd, row_of(x, r), xd, (end - r) * k); return; }
        for (; r < end; r++) lm_convert(row_of(y, r), yd, row_of(x, r), xd, k);
        return;
    }
    for (; r < end; r += 16) {
        int64_t n = lm_min64(16, end - r);
        const float *src = scratch;
        if (x_plain && xd == LM_F32 && lm_is_contig(x)) src = (const float *)row_of(x, r);
        else if (x_plain) for (int64_t i = 0; i < n; i++) lm_convert(scratch + i * k, LM_F32, row_of(x, r + i), xd, k);
        else lm_layout_get_rows(x, r, n, scratch);
        if (y->layout != LM_PLAIN) { zero_pads(y, r); lm_layout_put_rows(y, r, n, src); }
        else for (int64_t i = 0; i < n; i++) lm_convert(row_of(y, r + i), yd, src + i * k, LM_F32, k);
    }
}
static bool accepts(const lm_call *c) { return lm_cast_accepts(&c->in[0], &c->out[0]); }
static int64_t tiles(const lm_call *c) { return lm_cast_tiles(&c->out[0]); }
static size_t scratch_bytes(const lm_call *c) { return lm_cast_scratch(&c->out[0]); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) { lm_cast_tile(&c->in[0], &c->out[0], tile, scratch); return LM_OK; }
static const lm_kernel k_cast[] = {
    { .name = "cast.any", .order = "cast", .accepts = accepts, .thread_bytes = scratch_bytes, .n_phase = 1, .phase = { { tiles, run } } },
    { 0 }
};
LM_CUDA_DECLARE(lm_k_cast);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_cast) k_cast, NULL };

#define TO(d) &(lm_cast_p){ LM_##d }
static const lm_sample samples[] = {
    { .name = "f32 to f32", .params = TO(F32), .in = { { .rank = 2, .dim = { 3, 7 } } } },
    { .name = "f32 to bf16", .params = TO(BF16), .in = { { .rank = 2, .dim = { 37, 600 } } } },
    { .name = "f32 to f16", .params = TO(F16), .in = { { .rank = 2, .dim = { 5, 33 } } } },
    { .name = "bf16 to f32", .params = TO(F32), .in = { { .rank = 2, .dim = { 37, 45 }, .dtype = LM_BF16 } } },
    { .name = "f16 to f32", .params = TO(F32), .in = { { .rank = 1, .dim = { 100 }, .dtype = LM_F16 } } },
    { .name = "bf16 to f16", .params = TO(F16), .in = { { .rank = 2, .dim = { 3, 17 }, .dtype = LM_BF16 } } },
    { .name = "long vector", .params = TO(BF16), .in = { { .rank = 1, .dim = { 40001 } } } },
    { .name = "rank 3", .params = TO(BF16), .in = { { .rank = 3, .dim = { 2, 20, 9 } } } },
    { .name = "panels to f32", .params = TO(F32), .in = { { .rank = 2, .dim = { 37, 45 }, .layout = LM_PANEL16 } } },
    { .name = "panels to bf16, one row", .params = TO(BF16), .in = { { .rank = 2, .dim = { 1, 45 }, .layout = LM_PANEL16 } } },
    { .name = "bf16 panels to f32",
      .params = TO(F32),
      .in = { { .rank = 2, .dim = { 37, 45 }, .dtype = LM_BF16, .layout = LM_PANEL16X2 } } },
    { .name = "Q8_0 to f32 (no gradient check: quantized)",
      .params = TO(F32),
      .in = { { .rank = 2, .dim = { 37, 64 }, .dtype = LM_QUANT, .quant = "Q8_0" } },
      .grad_tol = -1 },
    { 0 }
};
const lm_op lm_op_cast = { .name = "cast", .math = "y = x, rounded to dtype", .n_in = 1, .n_out = 1, .params_bytes = sizeof(lm_cast_p),
    .shape = shape, .ref = ref, .grad = grad, .cost = cost, .kernels = kernels, .samples = samples };
lm_value *lm_cast(lm_graph *g, lm_value *x, lm_dtype dtype) { return lm_emit(g, &lm_op_cast, &(lm_cast_p){ dtype }, 1, &x); }
