/* copy.c — rows copied by memcpy; any strides over the leading dimensions. */
#include "op/copy/copy.h"
#include "op/rule.h"
#include <string.h>

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    if (c->in[0].dtype == LM_QUANT) return lm_fail(ctx, LM_E_SHAPE, "copy: input 0: got a quantized tensor, wanted plain numbers");
    out[0] = lm_type_like(&c->in[0]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    size_t size = lm_dtype_is_float((lm_dtype)c->in[0].dtype) ? sizeof(double) : lm_dtype_size((lm_dtype)c->in[0].dtype);
    memcpy(c->out[0].data, c->in[0].data, (size_t)lm_numel(&c->in[0]) * size);
}
static lm_err grad(lm_graph *g, lm_grad *d) { (void)g; if (d->want[0]) d->gin[0] = d->gout[0]; return LM_OK; }
static void cost(const lm_call *c, double *flops, double *bytes) { (void)c; (void)bytes; *flops = 0; }
static bool accepts(const lm_call *c) {
    const lm_tensor *x = &c->in[0];
    if (c->acc && (x->dtype != LM_F32 || !lm_is_contig(x))) return false;      /* adding: f32, contiguous */
    return x->layout == LM_PLAIN && x->dtype != LM_QUANT && (lm_cols(x) <= 1 || x->stride[x->rank - 1] == 1) &&
           c->out[0].layout == LM_PLAIN && c->out[0].dtype == x->dtype && lm_is_contig(&c->out[0]);
}
enum { TILE = 16384 };
static bool flat(const lm_call *c) { return lm_is_contig(&c->in[0]); }
static int64_t per_tile(const lm_call *c) { return lm_max64(1, TILE / lm_max64(1, lm_cols(&c->in[0]))); }
static int64_t tiles(const lm_call *c) { return flat(c) ? lm_ceil_div(lm_numel(&c->in[0]), TILE) : lm_ceil_div(lm_rows(&c->in[0]), per_tile(c)); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; const lm_tensor *x = &c->in[0]; size_t size = lm_dtype_size((lm_dtype)x->dtype); char *y = c->out[0].data;
    if (flat(c)) {
        int64_t i = tile * TILE, n = lm_min64(TILE, lm_numel(x) - i);
        if (c->acc & 1) {
            float *d = (float *)c->out[0].data + i; const float *s = (const float *)x->data + i;
            for (int64_t k = 0; k < n; k++) d[k] += s[k];
            return LM_OK;
        }
        memcpy(y + (size_t)i * size, (const char *)x->data + (size_t)i * size, (size_t)n * size);
        return LM_OK;
    }
    int64_t d = lm_cols(x), per = per_tile(c);
    for (int64_t r = tile * per, end = lm_min64(r + per, lm_rows(x)); r < end; r++) {
        int64_t at = 0, rest = r;
        for (int i = x->rank - 2; i >= 0; i--) { at += rest % x->dim[i] * x->stride[i]; rest /= x->dim[i]; }
        memcpy(y + (size_t)(r * d) * size, (const char *)x->data + (size_t)at * size, (size_t)d * size);
    }
    return LM_OK;
}
static const lm_kernel k_copy[] = { { .name = "copy.any", .order = "copy", .accepts = accepts, .n_phase = 1, .phase = { { tiles, run } } }, { 0 } };
LM_CUDA_F16_DECLARE(lm_k_copy);
static const lm_kernel *const kernels[] = { LM_CUDA_F16_ROWS(lm_k_copy) k_copy, NULL };
static const lm_sample samples[] = {
    LM_SAMPLES_ALIKE("", NULL, LM_TIMES1, 0),
    { .name = "integers", .params = NULL, .in = { { .rank = 2, .dim = { 3, 7 }, .dtype = LM_I32, .fill = LM_FILL_IOTA } } },
    { .name = "bf16", .params = NULL, .in = { { .rank = 2, .dim = { 5, 9 }, .dtype = LM_BF16 } } },
    { 0 }
};
const lm_op lm_op_copy = { .name = "copy",
                           .math = "y = x",
                           .n_in = 1,
                           .n_out = 1,
                           .acc_ok = 1,
                           .shape = shape,
                           .ref = ref,
                           .grad = grad,
                           .cost = cost,
                           .kernels = kernels,
                           .samples = samples };
lm_value *lm_copy(lm_graph *g, lm_value *x) { return lm_emit(g, &lm_op_copy, NULL, 1, &x); }
