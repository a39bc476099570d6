/* quant_fp8.c — see quant_fp8.h. Scale and inverse are each one division in f32, x times the inverse one product: as on the device, to the bit. */
#include "op/quant_fp8/quant_fp8.h"
#include "op/rule.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
enum { T = LM_FP8_TILE };

static lm_type absent(void) { return (lm_type){ 0 }; }
lm_err lm_fp8_shape(lm_ctx *ctx, const char *op, int64_t rows, int64_t cols, const lm_quant_fp8_p *p, lm_type *out) {
    const int64_t cap = lm_round_up(rows, T);
    if (cols % T || (p->blocks && rows % T) || p->group < 0 || p->group >= LM_FP8_GROUPS)
        return lm_fail(ctx, LM_E_SHAPE, "%s: got %lld rows of %lld%s, group %d; wanted multiples of 128%s and a group under %d", op, (long long)rows,
                       (long long)cols, p->blocks ? " in blocks" : "", p->group, p->blocks ? "" : " in a row", LM_FP8_GROUPS);
    out[0] = p->rows ? LM_TYPE(LM_F8_E4M3, rows, cols) : absent();
    out[1] = !p->rows ? absent() : p->blocks ? LM_TYPE(LM_F32, rows / T, cols / T) : LM_TYPE(LM_F32, cols / T, cap);
    out[2] = p->cols ? LM_TYPE(LM_F8_E4M3, cols, cap) : absent();
    out[3] = !p->cols ? absent() : p->blocks || p->square ? LM_TYPE(LM_F32, cols / T, cap / T) : LM_TYPE(LM_F32, cap / T, cols);
    for (int i = 1; i < 4; i++) if (out[i].rank) out[i].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_tensor *n = &c->in[1];
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 2, 2));
    if (n->dtype != LM_I64 || n->rank != 1 || n->dim[0] != LM_FP8_COUNTS * LM_FP8_GROUPS)
        return lm_fail(ctx, LM_E_SHAPE, "quant_fp8: input 1: got %s, rank %d; wanted I64 of %d", lm_dtype_name((lm_dtype)n->dtype), n->rank,
                       LM_FP8_COUNTS * LM_FP8_GROUPS);
    LM_TRY(lm_fp8_shape(ctx, "quant_fp8", c->in[0].dim[0], c->in[0].dim[1], c->p, out));
    out[4] = LM_TYPE(LM_I64, n->dim[0]);
    return LM_OK;
}

/* ---- one tile, on the processor ---------------------------------------------------------------------------------------------------- */
static float scale_of(float m) { return fmaxf(m, LM_FP8_TINY) / 448.0f; }
static float inverse_of(float m) { return 448.0f / fmaxf(m, LM_FP8_TINY); }
static uint8_t rounded(float x) { uint8_t q; lm_convert(&q, LM_F8_E4M3, &x, LM_F32, 1); return q; }
/* What a tile is: its numbers in bf16, the largest of each row and column (NaN aside), and whether bytes or doubles are asked for. */
typedef struct { float v[T][T], row[T], col[T], all; } tile;
static void measure(tile *t, const float *x, int64_t ld, int64_t n) {
    memset(t, 0, sizeof *t);
    for (int r = 0; r < n; r++) for (int c = 0; c < T; c++) {
        const float v = t->v[r][c] = lm_bf16_to_f32(lm_f32_to_bf16(x[r * ld + c])), a = fabsf(v);
        t->row[r] = fmaxf(t->row[r], a); t->col[c] = fmaxf(t->col[c], a); t->all = fmaxf(t->all, a);
    }
}
static void count(const lm_quant_fp8_p *p, const tile *t, int64_t n, int64_t *to) {
    int64_t odd = 0, flushed = 0; uint32_t bits; int64_t most;
    for (int r = 0; r < n; r++) {
        const float inv = inverse_of(p->blocks ? t->all : t->row[r]);
        for (int c = 0; c < T; c++) { const uint8_t q = rounded(t->v[r][c] * inv) & 0x7f; odd += q == 0x7f; flushed += !q && t->v[r][c] != 0; }
    }
    memcpy(&bits, &t->all, 4);
    most = bits;
    to += LM_FP8_COUNTS * p->group;
    __atomic_fetch_add(&to[LM_FP8_ELEMENTS], n * T, __ATOMIC_RELAXED);
    if (odd) __atomic_fetch_add(&to[LM_FP8_ODD], odd, __ATOMIC_RELAXED);
    if (flushed) __atomic_fetch_add(&to[LM_FP8_FLUSHED], flushed, __ATOMIC_RELAXED);
    for (int64_t old = __atomic_load_n(&to[LM_FP8_AMAX], __ATOMIC_RELAXED); old < most;)
        if (__atomic_compare_exchange_n(&to[LM_FP8_AMAX], &old, most, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) break;
}
void lm_fp8_tile(const lm_quant_fp8_p *p, const float *x, int64_t ld, int64_t r0, int64_t c0, int64_t n, const lm_tensor *out, int64_t *counts) {
    tile t;
    measure(&t, x, ld, n);
    for (int r = 0; p->rows && r < n; r++) {
        const float m = p->blocks ? t.all : t.row[r], inv = inverse_of(m);
        uint8_t *q = (uint8_t *)out[0].data + (r0 + r) * out[0].stride[0] + c0;
        for (int c = 0; c < T; c++) q[c] = rounded(t.v[r][c] * inv);
    }
    for (int r = 0; p->rows && r < (p->blocks ? 1 : T); r++)
        ((float *)out[1].data)[p->blocks ? r0 / T * out[1].stride[0] + c0 / T : c0 / T * out[1].stride[0] + r0 + r] =
            scale_of(p->blocks ? t.all : t.row[r]);
    for (int c = 0; p->cols && c < T; c++) {
        const bool one = p->blocks || p->square;
        const float m = one ? t.all : t.col[c], inv = inverse_of(m);
        uint8_t *q = (uint8_t *)out[2].data + (c0 + c) * out[2].stride[0] + r0;
        for (int r = 0; r < T; r++) q[r] = rounded(t.v[r][c] * inv);
        if (!one || !c)
            ((float *)out[3].data)[one ? c0 / T * out[3].stride[0] + r0 / T : r0 / T * out[3].stride[0] + c0 + c] = scale_of(m);
    }
    count(p, &t, n, counts);
}

/* ---- truth: the same roundings, into doubles ------------------------------------------------------------------------------------------ */
static double value(float x) { const uint8_t q = rounded(x); return (double)lm_f8_to_f32(q, LM_F8_E4M3); }
void lm_fp8_ref(const lm_quant_fp8_p *p, const double *x, int64_t rows, int64_t cols, const lm_tensor *out, int64_t *counts) {
    const int64_t cap = lm_round_up(rows, T);
    tile *t = malloc(sizeof *t); float *f = malloc(sizeof t->v);
    for (int64_t r0 = 0; r0 < cap && t && f; r0 += T)
        for (int64_t c0 = 0; c0 < cols; c0 += T) {
            const int64_t n = lm_min64(T, rows - r0);
            for (int64_t r = 0; r < n; r++) for (int c = 0; c < T; c++) f[r * T + c] = (float)x[(r0 + r) * cols + c0 + c];
            measure(t, f, T, n);
            for (int r = 0; r < T; r++) for (int c = 0; c < T; c++) {
                const float mr = p->blocks ? t->all : t->row[r], mc = p->blocks || p->square ? t->all : t->col[c];
                if (p->rows && r < n) lm_f64(&out[0])[(r0 + r) * cols + c0 + c] = value(t->v[r][c] * inverse_of(mr));
                if (p->cols) lm_f64(&out[2])[(c0 + c) * cap + r0 + r] = value(t->v[r][c] * inverse_of(mc));
                if (p->rows && !p->blocks) lm_f64(&out[1])[c0 / T * cap + r0 + r] = (double)scale_of(mr);
                if (p->cols && !p->blocks && !p->square) lm_f64(&out[3])[r0 / T * cols + c0 + c] = (double)scale_of(mc);
            }
            if (p->rows && p->blocks) lm_f64(&out[1])[r0 / T * (cols / T) + c0 / T] = (double)scale_of(t->all);
            if (p->cols && (p->blocks || p->square)) lm_f64(&out[3])[c0 / T * (cap / T) + r0 / T] = (double)scale_of(t->all);
            count(p, t, n, counts);
        }
    free(t); free(f);
}
static void ref(const lm_call *c) {
    lm_fp8_ref(c->p, lm_f64(&c->in[0]), c->in[0].dim[0], c->in[0].dim[1], c->out, c->out[4].data);
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    const lm_quant_fp8_p *p = c->p;
    const double n = (double)lm_numel(&c->in[0]);
    *flops = n * (2 + 2 * p->rows + 2 * p->cols);
    *bytes = n * ((double)lm_dtype_size((lm_dtype)c->in[0].dtype) + p->rows + p->cols);
}

/* ---- the processor's row ---------------------------------------------------------------------------------------------------------------- */
static bool accepts(const lm_call *c) {
    for (int i = 0; i < 4; i++) if (c->out[i].rank && (!lm_is_contig(&c->out[i]) || c->out[i].dtype != (i % 2 ? LM_F32 : LM_F8_E4M3))) return false;
    return (c->in[0].dtype == LM_F32 || c->in[0].dtype == LM_BF16) && c->in[0].layout == LM_PLAIN && lm_rows_fold(&c->in[0]);
}
/* rows of tiles; those behind the last row are there to be filled with zeros */
static int64_t tiles(const lm_call *c) {
    const lm_quant_fp8_p *p = c->p;
    const int64_t cap = p->cols ? c->out[2].dim[1] : p->blocks || !p->rows ? lm_round_up(c->in[0].dim[0], T) : c->out[1].dim[1];
    return cap / T * (c->in[0].dim[1] / T);
}
static lm_err run(const lm_call *c, int64_t i, void *scratch) {
    const int64_t across = c->in[0].dim[1] / T, r0 = i / across * T, c0 = i % across * T, n = lm_max64(0, lm_min64(T, c->in[0].dim[0] - r0)),
                  ld = lm_row_stride(&c->in[0]);
    if (c->in[0].dtype == LM_F32) lm_fp8_tile(c->p, n ? (const float *)c->in[0].data + r0 * ld + c0 : NULL, ld, r0, c0, n, c->out, c->out[4].data);
    else {
        float *x = scratch;
        for (int64_t r = 0; r < n; r++) lm_convert(x + r * T, LM_F32, (const uint16_t *)c->in[0].data + (r0 + r) * ld + c0, LM_BF16, T);
        lm_fp8_tile(c->p, x, T, r0, c0, n, c->out, c->out[4].data);
    }
    return LM_OK;
}
static size_t room(const lm_call *c) { return c->in[0].dtype == LM_F32 ? 0 : (size_t)T * T * sizeof(float); }
static const lm_kernel plain[] = { { .name = "quant_fp8.portable", .order = "quant_fp8", .accepts = accepts, .thread_bytes = room,
    .n_phase = 1, .phase = { { tiles, run } } }, { 0 } };
LM_CUDA_DECLARE(lm_k_quant_fp8);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_quant_fp8) plain, NULL };
#define P(...) &(const lm_quant_fp8_p){ __VA_ARGS__ }
#define X(r, c) { .rank = 2, .dim = { r, c } }
#define N { .rank = 1, .dim = { 12 }, .dtype = LM_I64, .fill = LM_FILL_IOTA }
static const lm_sample samples[] = {
    { "one tile", P(.rows = true, .cols = true), { X(128, 128), N } },
    { "rows short of a tile, by rows and transposed", P(.rows = true, .cols = true, .group = LM_FP8_GRADIENT), { X(37, 256), N } },
    { "by rows alone", P(.rows = true), { X(200, 384), N } },
    { "transposed alone", P(.cols = true), { X(300, 128), N } },
    { "blocks", P(.rows = true, .cols = true, .blocks = true, .group = LM_FP8_WEIGHT), { X(256, 384), N } },
    { "bf16 blocks", P(.rows = true, .cols = true, .blocks = true, .group = LM_FP8_WEIGHT),
      { { .rank = 2, .dim = { 128, 384 }, .dtype = LM_BF16 }, N } },
    { "blocks by rows", P(.rows = true, .blocks = true), { X(128, 256), N } },
    { "square", P(.rows = true, .cols = true, .square = true), { X(300, 256), N } },
    { "square, transposed alone", P(.cols = true, .square = true), { X(128, 128), N } },
    { "zeros", P(.rows = true, .cols = true), { { .rank = 2, .dim = { 130, 128 }, .fill = LM_FILL_ZERO }, N } },
    { "one row", P(.rows = true, .cols = true), { X(1, 128), N } },
    { NULL }
};
const lm_op lm_op_quant_fp8 = { .name = "quant_fp8", .math = "q s ~ x, qt st ~ xT in e4m3, one scale for 128 of a row, of a column, or 128x128",
    .n_in = 2,
    .n_out = 5, .params_bytes = sizeof(lm_quant_fp8_p), .alias = { 0, 0, 0, 0, 2 }, .opaque = 3, .shape = shape, .ref = ref, .cost = cost,
    .kernels = kernels, .samples = samples };
lm_value *lm_quant_fp8(lm_graph *g, lm_value *x, lm_value *counts, const lm_quant_fp8_p *p) {
    return lm_emit(g, &lm_op_quant_fp8, p, 2, (lm_value *const[]){ x, counts });
}
