/* q8.c — what the integer kernels share: the problem, the quantized rows of A, the division of C. */
#include <math.h>
#include <string.h>
#include "op/matmul/matmul.h"
#include "op/matmul/q8.h"
#include "op/rule.h"

static bool kind_of(const lm_quant *q, lm_q8_kind *k) {
    switch (q->gguf_id) {
    case 8: *k = LM_W_Q8_0; return true;
    case 2: *k = LM_W_Q4_0; return true;
    case 3: *k = LM_W_Q4_1; return true;
    case 6: *k = LM_W_Q5_0; return true;
    case 7: *k = LM_W_Q5_1; return true;
    case 20: *k = LM_W_IQ4_NL; return true;
    case 12: *k = LM_W_Q4_K; return true;
    case 13: *k = LM_W_Q5_K; return true;
    case 14: *k = LM_W_Q6_K; return true;
    default: return false;
    }
}
static bool accepts_one(const lm_call *c, int unit) {
    const lm_matmul_p *p = c->p;
    const lm_tensor *w = &c->in[1];
    lm_q8_kind k;
    return p->mm == LM_I8 && w->dtype == LM_QUANT && w->quant && w->quant->block == unit && w->quant->panels && kind_of(w->quant, &k) && !p->ta &&
           lm_gemm_accepts(c);
}
/* One of matmul, two or three of matmul_each: same A, same codes, starts of their own. */
static int weights_of(const lm_call *c) { return c->n_out == 1 ? 1 : lm_has(c, 3) ? 3 : 2; }
static bool accepts(const lm_call *c, int unit) {
    if (c->n_out == 1) return accepts_one(c, unit);
    for (int i = 0; i < weights_of(c); i++) {                            /* as a product by itself */
        lm_call one = { .op = c->op, .p = c->p, .n_in = 3, .n_out = 1 };
        one.in[0] = c->in[0]; one.in[1] = c->in[1 + i]; one.out[0] = c->out[i];
        if (lm_has(c, 1 + LM_MATMUL_EACH + i)) one.in[2] = c->in[1 + LM_MATMUL_EACH + i];
        if (!accepts_one(&one, unit)) return false;
    }
    return true;
}
bool lm_q8_accepts(const lm_call *c) { return accepts(c, 32); }
bool lm_qk_accepts(const lm_call *c) { return accepts(c, 256); }
static int64_t strips(const lm_q8 *t) { return t->M > LM_Q8_FEW ? lm_round_up(t->M, LM_Q8_ROWS) : lm_max64(t->M, 1); }       /* rows in whole strips */
/* Few rows: a member walks through a run of items, so they may be small, and the one that is late at the end costs little: of some microseconds of reading,
 * but sixteen where there are so many panels. What is packed goes two panels at a time. */
static int64_t few_cols(const lm_q8 *t) {
    const int shift = t->M <= LM_Q8_FEW ? 4 : 5;
    const int64_t np = (t->N + (1 << shift) - 1) >> shift, wanted = lm_max64((np << shift) * t->block * t->nb >> 16, 16);
    return lm_max64((uint32_t)np / (uint32_t)wanted, 1) << shift;
}
static lm_q8 problem(const lm_call *c, int i, void *codes) {
    const bool one = c->n_out == 1;
    const lm_tensor *a = &c->in[0], *weights = &c->in[1 + i], *o = &c->out[i];
    const lm_quant *w = weights->quant;
    const int bias = one ? 2 : 1 + LM_MATMUL_EACH + i;
    lm_q8 t = { .panels = weights->layout == LM_PANEL16 };
    kind_of(w, &t.kind);
    t.M = lm_rows(a); t.N = weights->dim[0]; t.K = lm_cols(a); t.unit = w->block; t.nb = t.unit == 32 ? t.K / 32 : t.K / 256;
    t.a = a->data; t.a_rs = lm_row_stride(a); t.a_dtype = (lm_dtype)a->dtype;
    if (lm_has(c, bias)) { t.bias = c->in[bias].data; t.bias_dtype = (lm_dtype)c->in[bias].dtype; }
    t.w = weights->data; t.block = w->comp[0].block_bytes; t.head = w->head; t.halves = w->head + w->tail;
    t.strip = t.M > LM_Q8_FEW ? LM_Q8_ROWS : lm_max64(t.M, 1);
    const int64_t blocks = strips(&t) * t.nb;
    t.q = (int8_t *)codes + lm_round_up(sizeof(lm_q8_work), 64); t.d = (float *)(t.q + blocks * t.unit);
    t.start = (int32_t *)(t.d + blocks) + i * blocks * lm_q8_starts(&t);
    t.c = o->data; t.c_rs = lm_row_stride(o); t.acc = one && c->acc & 1;
    t.own = t.M > LM_Q8_FEW ? 0 : lm_round_up((int64_t)sizeof(lm_q8_work), 64) + lm_round_up(blocks * (t.unit + 4 + 4 * lm_q8_starts(&t) * weights_of(c)), 64);
    t.per = t.M <= LM_Q8_MID ? few_cols(&t) : 16 * LM_Q8_P;
    t.items = t.M ? (int64_t)((uint32_t)(t.N + t.per - 1) / (uint32_t)t.per) * (t.M <= LM_Q8_MID ? 1 : lm_ceil_div(t.M, LM_Q8_MB)) : 0;
    return t;
}
static size_t codes_bytes(const lm_call *c, int64_t rows) {
    lm_q8 t = problem(c, 0, NULL);
    t.M = rows;
    return (size_t)(lm_round_up(sizeof(lm_q8_work), 64) + strips(&t) * t.nb * (t.unit + 4 + 4 * lm_q8_starts(&t) * weights_of(c)));
}
size_t lm_q8_shared(const lm_call *c) { const int64_t M = lm_rows(&c->in[0]); return M > LM_Q8_FEW ? codes_bytes(c, M) : 0; }
size_t lm_q8_own(const lm_call *c) { return (size_t)lm_round_up((int64_t)codes_bytes(c, lm_min64(lm_rows(&c->in[0]), LM_Q8_FEW)), 64); }
static void prepare(const lm_call *c, lm_q8_work *w, void *codes) {
    w->n = weights_of(c);
    for (int i = 0; i < w->n; i++) { w->t[i] = problem(c, i, codes); w->last[i] = (i ? w->last[i - 1] : 0) + w->t[i].items; }
}
static int64_t row_tile(int64_t M) { return M <= LM_Q8_MID ? LM_Q8_ROWS : 2 * LM_Q8_ROWS; }
int64_t lm_q8_row_tiles(const lm_call *c) { const int64_t M = lm_rows(&c->in[0]); return M > LM_Q8_FEW ? lm_ceil_div(M, row_tile(M)) : 0; }
void lm_q8_row_tile(const lm_call *c, int64_t i, lm_q8_rows *rows) {
    lm_q8_work own, *w = i ? &own : c->shared;                             /* the first one leaves it for phase 1 */
    prepare(c, w, c->shared);
    const int64_t M = w->t[0].M, n = row_tile(M);
    (w->t[0].a_dtype == LM_F32 ? rows : lm_q8_rows_plain)(w, i * n, lm_min64((i + 1) * n, M));
}
void lm_q8_begin(const lm_call *c, void *scratch, lm_q8_rows *rows) {
    lm_q8_work *w = scratch;
    if (lm_rows(&c->in[0]) > LM_Q8_FEW) return;
    prepare(c, w, scratch);
    (w->t[0].a_dtype == LM_F32 ? rows : lm_q8_rows_plain)(w, 0, w->t[0].M);
}
void lm_q8_start(lm_q8_kind k, const int32_t *sum, int32_t *start) {
    static const int16_t times[] = { [LM_W_Q8_0] = -128, [LM_W_Q4_0] = -8, [LM_W_Q4_1] = 1, [LM_W_Q5_0] = -16, [LM_W_Q5_1] = 1, [LM_W_IQ4_NL] = -128 };
    if (k < LM_W_Q4_K) { *start = times[k] * (sum[0] + sum[1]); return; }
    if (k == LM_W_Q6_K) { for (int g = 0; g < 16; g++) start[g] = -32 * sum[g]; return; }
    for (int i = 0; i < 4; i++) {
        const int g = i / 2 * 4 + i % 2;
        start[i] = (int32_t)(((uint32_t)(sum[2 * g] + sum[2 * g + 1]) & 0xffffu) | (uint32_t)(sum[2 * g + 4] + sum[2 * g + 5]) << 16);
    }
}
void lm_q8_rows_plain(const lm_q8_work *w, int64_t m0, int64_t m1) {
    const lm_q8 t = w->t[0];
    for (int64_t m = m0; m < m1; m++)
        for (int64_t b = 0; b < t.nb; b++) {
            float x[256], top = 0;
            const int64_t at = m * t.a_rs + b * t.unit, to = lm_q8_at(&t, m, b);
            if (t.a_dtype == LM_BF16) for (int k = 0; k < t.unit; k++) x[k] = lm_bf16_to_f32(((const uint16_t *)t.a)[at + k]);
            else memcpy(x, (const float *)t.a + at, (size_t)t.unit * 4);
            bool finite = true;
            for (int k = 0; k < t.unit; k++) { const float v = fabsf(x[k]); finite &= v < INFINITY; top = v > top ? v : top; }
            const float scale = top > 0 ? 127.0f / top : 0;
            int8_t *q = t.q + to * t.unit;
            int32_t sum[16] = {0};
            t.d[to] = finite ? top / 127.0f : NAN;
            /* adding and taking 1.5 * 2^23 rounds to the nearest integer, ties to even */
            for (int k = 0; k < t.unit; k++) {
                q[k] = finite ? (int8_t)(int32_t)((x[k] * scale + 12582912.0f) - 12582912.0f) : 0;
                sum[k / 16] += q[k];
            }
            lm_q8_start_all(w->t, w->n, sum, to);
        }
}
int64_t lm_q8_tiles(const lm_call *c) {
    int64_t n = 0;
    for (int i = 0; i < weights_of(c); i++) n += problem(c, i, NULL).items;
    return n;
}
const lm_q8 *lm_q8_tile(const lm_call *c, int64_t i, const void *scratch, int64_t *m0, int64_t *m1, int64_t *n0, int64_t *n1) {
    const lm_q8_work *w = lm_rows(&c->in[0]) > LM_Q8_FEW ? c->shared : scratch;
    int k = 0;
    while (i >= w->last[k]) k++;
    if (k) i -= w->last[k - 1];
    const lm_q8 *t = &w->t[k];
    *m0 = 0; *m1 = t->M;
    if (t->M > LM_Q8_MID) {
        const int64_t n_m = lm_ceil_div(t->M, LM_Q8_MB);
        *m0 = i % n_m * LM_Q8_MB; *m1 = lm_min64(*m0 + LM_Q8_MB, t->M);
        i /= n_m;
    }
    *n0 = i * t->per; *n1 = lm_min64(*n0 + t->per, t->N);
    return t;
}
int lm_q8_reads(const lm_call *c, int64_t t0, int64_t t1, lm_span *out) {
    int n = 0;
    for (int i = 0; i < weights_of(c) && t1 > 0; i++) {
        const lm_q8 t = problem(c, i, NULL);
        if (t.M > LM_Q8_FEW || !t.panels || !t.w) return 0;
        const int64_t a = lm_max64(t0, 0), b = lm_min64(t1, t.items);
        if (a < b) out[n++] = (lm_span){ lm_q8_panel(&t, a * t.per, 0), lm_q8_panel(&t, lm_round_up(lm_min64(b * t.per, t.N), 16), 0) };
        t0 -= t.items; t1 -= t.items;
    }
    return n;
}
float lm_q8_bias(const lm_q8 *t, int64_t n) {
    return !t->bias ? 0 : t->bias_dtype == LM_BF16 ? lm_bf16_to_f32(((const uint16_t *)t->bias)[n]) : ((const float *)t->bias)[n];
}
typedef int32_t quads __attribute__((vector_size(16)));
typedef int32_t quads_u __attribute__((vector_size(16), aligned(1), may_alias));
/* Four rows and four groups of four bytes at a time, turned in registers; the last four groups may overlap those before. */
void lm_q8_turn(const lm_q8 *t, int64_t n0, int64_t n, int64_t b0, int64_t blocks, char *out) {
    static const char none[256];
    const int64_t groups = (t->block - 2 * t->halves) / 4;
    for (int64_t b = b0; b < b0 + blocks; b++) {
        const char *x[16];
        for (int j = 0; j < 16; j++) {
            x[j] = j < n ? lm_q8_row(t, n0 + j, b) : none;
            for (int h = 0; h < t->halves; h++) memcpy(out + 32 * h + 2 * j, x[j] + (h < t->head ? 2 * h : t->block - 2 * (t->halves - h)), 2);
            for (int64_t i = 0; i < t->block && j < n; i += 64) __builtin_prefetch(x[j] + 256 + i);
            x[j] += 2 * t->head;
        }
        out += 32 * t->halves;
        for (int64_t g = 0; g < groups; g += 4) {
            const int64_t at = 4 * lm_min64(g, groups - 4);
            for (int j = 0; j < 16; j += 4) {
                const quads r0 = *(const quads_u *)(x[j] + at), r1 = *(const quads_u *)(x[j + 1] + at), r2 = *(const quads_u *)(x[j + 2] + at),
                            r3 = *(const quads_u *)(x[j + 3] + at);
                const quads a = __builtin_shufflevector(r0, r1, 0, 4, 1, 5), c = __builtin_shufflevector(r0, r1, 2, 6, 3, 7),
                            d = __builtin_shufflevector(r2, r3, 0, 4, 1, 5), e = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
                char *o = out + 16 * at + 4 * j;
                *(quads_u *)o = __builtin_shufflevector(a, d, 0, 1, 4, 5); *(quads_u *)(o + 64) = __builtin_shufflevector(a, d, 2, 3, 6, 7);
                *(quads_u *)(o + 128) = __builtin_shufflevector(c, e, 0, 1, 4, 5); *(quads_u *)(o + 192) = __builtin_shufflevector(c, e, 2, 3, 6, 7);
            }
        }
        out += 64 * groups;
    }
}
