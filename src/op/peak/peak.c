/* peak.c — see peak.h. No gradient: it chooses. */
#include "op/peak/peak.h"
#include "op/rule.h"
#include <math.h>
#include <string.h>

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 2, 2));
    LM_TRY(lm_want(ctx, c, 1, LM_F32, 2, 2));
    LM_TRY(lm_want_dims(ctx, c, 1, LM_DIMS(c->in[1].dim[0], 2)));
    if (c->in[1].dim[0] > c->in[0].dim[0])
        return lm_fail(ctx, LM_E_SHAPE, "peak: input 1: got %lld rows, wanted at most the %lld of logits", (long long)c->in[1].dim[0], (long long)c->in[0].dim[0]);
    if (c->in[0].dim[1] < 1 || c->in[0].dim[1] > 1 << 24)
        return lm_fail(ctx, LM_E_SHAPE, "peak: input 0: got %lld columns, wanted 1 to 2^24", (long long)c->in[0].dim[1]);
    LM_TRY(lm_want(ctx, c, 2, LM_F32, 2, 2));
    LM_TRY(lm_want_dims(ctx, c, 2, LM_DIMS(c->in[2].dim[0], LM_PEAK_BEST)));
    if (c->in[2].dim[0] < c->in[0].dim[0])
        return lm_fail(ctx, LM_E_SHAPE, "peak: input 2: got %lld rows, wanted as many as the %lld of logits or more", (long long)c->in[2].dim[0], (long long)c->in[0].dim[0]);
    out[0] = LM_TYPE(LM_F32, c->in[1].dim[0], LM_PEAK_COLS);
    out[1] = lm_type_like(&c->in[2]);
    out[1].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
static void ref(const lm_call *c) {
    const int64_t V = c->in[0].dim[1];
    if (c->out[1].data != c->in[2].data) memcpy(c->out[1].data, c->in[2].data, (size_t)lm_numel(&c->out[1]) * 8);
    for (int64_t r = 0; r < c->in[0].dim[0]; r++) {
        const double *x = lm_f64(&c->in[0]) + r * V;
        double *b = lm_f64(&c->out[1]) + r * LM_PEAK_BEST, max = -INFINITY;
        bool bad = false;
        int64_t n = 0, first = 0;
        for (int64_t i = 0; i < V; i++) { bad |= isnan(x[i]) || x[i] == INFINITY; max = fmax(max, x[i]); }
        while (!bad && x[first] < max) first++;
        b[0] = bad ? 0 : max; b[1] = (double)first; b[2] = bad; b[3] = 0;
        if (r >= c->in[1].dim[0]) continue;
        const double *how = lm_f64(&c->in[1]) + r * 2;
        double *y = lm_f64(&c->out[0]) + r * LM_PEAK_COLS;
        memset(y, 0, LM_PEAK_COLS * sizeof *y);
        y[3] = bad;
        if (bad) continue;
        const double cut = (double)((float)max - (float)how[1]);
        for (int64_t i = 0; i < V; i++) {
            if (how[0] > 0 && max > -INFINITY) y[1] += exp((x[i] - max) / how[0]);
            if (x[i] < cut) continue;
            if (n < LM_PEAK_MOST) { y[4 + n] = (double)i; y[4 + LM_PEAK_MOST + n] = x[i]; }
            n++;
        }
        if (n > LM_PEAK_MOST) memset(y + 4, 0, 2 * LM_PEAK_MOST * sizeof *y);
        y[0] = max; y[2] = (double)n;
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = 3 * (double)lm_numel(&c->in[0]); }

/* A row is a tile; the row is walked twice. */
static int64_t tiles(const lm_call *c) { return c->in[0].dim[0]; }
static lm_err run(const lm_call *c, int64_t r, void *scratch) {
    (void)scratch;
    const int64_t V = c->in[0].dim[1];
    const float *x = (const float *)c->in[0].data + r * lm_row_stride(&c->in[0]);
    float *b = (float *)c->out[1].data + r * LM_PEAK_BEST, max = -INFINITY;
    bool bad = false;
    int64_t n = 0, first = 0;
    double sum = 0;
    for (int64_t i = 0; i < V; i++) {
        bad |= !(x[i] < INFINITY);
        if (x[i] > max) { max = x[i]; first = i; }
    }
    b[0] = bad ? 0 : max; b[1] = bad ? 0 : (float)first; b[2] = bad ? 1.0f : 0.0f; b[3] = 0;
    if (r >= c->in[1].dim[0]) return LM_OK;
    const float *how = (const float *)c->in[1].data + r * lm_row_stride(&c->in[1]);
    float *y = (float *)c->out[0].data + r * lm_row_stride(&c->out[0]);
    memset(y, 0, LM_PEAK_COLS * sizeof *y);
    y[3] = b[2];
    if (bad) return LM_OK;
    const float cut = max - how[1];
    for (int64_t i = 0; i < V; i++) {
        if (how[0] > 0 && max > -INFINITY) sum += (double)expf((x[i] - max) / how[0]);
        if (x[i] < cut) continue;
        if (n < LM_PEAK_MOST) { y[4 + n] = (float)i; y[4 + LM_PEAK_MOST + n] = x[i]; }
        n++;
    }
    if (n > LM_PEAK_MOST) memset(y + 4, 0, 2 * LM_PEAK_MOST * sizeof *y);
    y[0] = max; y[1] = (float)sum; y[2] = (float)n;
    return LM_OK;
}
static bool accepts(const lm_call *c) { return lm_accepts_rows(c) && lm_is_contig(&c->out[1]); }
static const lm_kernel kernel[] = {
    { .name = "peak.cpu", .order = "peak", .accepts = accepts, .n_phase = 1, .phase = { { tiles, run } } }, { 0 }
};
LM_CUDA_DECLARE(lm_k_peak);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_peak) kernel, NULL };

#define S(nm, r, p, v, f) { .name = nm, .in = { { .rank = 2, .dim = { r, v }, .fill = f }, { .rank = 2, .dim = { p, 2 }, .fill = LM_FILL_UNIFORM }, { .rank = 2, .dim = { (r) + (r) / 3, LM_PEAK_BEST } } }, .tol = 2e-5, .grad_tol = -1 }
static const lm_sample samples[] = { S("one", 1, 1, 1, LM_FILL_NORMAL),
                                     S("few", 3, 3, 7, LM_FILL_NORMAL),
                                     S("a long row", 1, 1, 40011, LM_FILL_NORMAL),
                                     S("rows", 19, 19, 1003, LM_FILL_NORMAL),
                                     S("lists of some", 19, 5, 1003, LM_FILL_NORMAL),
                                     S("many are near", 4, 4, 3000, LM_FILL_UNIFORM),
                                     S("all alike", 2, 2, 300, LM_FILL_ONES),
                                     { 0 } };
const lm_op lm_op_peak = { .name = "peak", .math = "max x, sum exp((x - max)/t), and the x >= max - gap", .n_in = 3, .rows_from = 1, .n_out = 2, .alias = { 0, 3 }, .opaque = 7, .pure_write = true,
    .shape = shape, .ref = ref, .cost = cost, .kernels = kernels, .samples = samples };
lm_value *lm_peak(lm_graph *g, lm_value *logits, lm_value *how, lm_value *best) { return lm_emit(g, &lm_op_peak, NULL, 3, (lm_value *const[]){ logits, how, best }); }
