/* xent_step_amx.c — loss, dx and dW on AMX: three products at the speed of bf16.
 *
 * Per chunk of rows:
 *   0  x is packed twice: as A of the logits, and as B of dW (its rows are the reduction there).
 *   1  logits in tiles of 16x16 floats, with block statistics; exp(z - block max) is left in place of z, so no exponential is taken twice. Capped logits
 *      stay as they are: the gradient wants them too.
 *   2  per 32 rows: lse, loss; exp(z - block max) times a factor per row and block is d loss / d z. Each 32x32 of it (4 KiB of floats) becomes, in place, two bf16
 *      blocks of dz (A of dx) and two of its transpose (A of dW).
 *   3  dx = dz W: work items are columns of dx; W is packed in pieces of KC of the vocabulary. dW += dzᵀ x: work items are rows of dW.
 * Bytes: logits written once as f32, read once, read back twice as bf16; W and dW pass once per chunk. */
#include "op/xent/xent_amx.h"
#include "op/xent/xent_cols.h"
#include "op/xent_step/xent_step.h"

enum { DX_P = 8, DX_KC = 64 /* blocks of k: 2048 */, DW_ROWS = 256, DW_P = 48 };

typedef struct { lm_xent_amx t; char *xb; lm_tensor *dx, *dw; int64_t nr, nvt; } step_t;   /* nr: blocks of 32 rows; nvt: column groups of z, even */

static size_t x_bytes(int64_t N, int64_t nk) { return (size_t)(lm_round_up(lm_ceil_div(N, 16), 2) * nk) * 1024; }
static size_t xb_bytes(int64_t N, int64_t d) { return (size_t)(lm_ceil_div(N, 32) * lm_ceil_div(d, 16)) * 1024; }
static step_t bind(const lm_call *c, int64_t rows, int64_t row0) {
    step_t s = { .t = { .c = c, .p = c->p, .row0 = row0, .N = rows, .V = c->in[1].dim[0], .d = c->in[0].dim[1] }, .nr = lm_ceil_div(rows, 32) };
    lm_xent_amx *t = &s.t;
    t->nk = lm_ceil_div(t->d, 32); t->n_b = lm_xent_amx_nb(t->V);
    s.nvt = lm_round_up(lm_ceil_div(t->V, 16), 2);
    t->n_m = lm_max64(1, lm_min64(lm_ceil_div(t->N, 64), lm_ceil_div(16, t->n_b)));
    t->mb = lm_max64(32, lm_round_up(lm_ceil_div(t->N, t->n_m), 32));
    t->n_m = lm_ceil_div(t->N, t->mb);
    t->z = c->shared;
    t->x = (char *)t->z + (size_t)(s.nr * 2 * s.nvt) * 1024;
    s.xb = t->x + x_bytes(rows, t->nk);
    t->part = (lm_xent_part *)(s.xb + xb_bytes(rows, t->d));
    t->zt = (float *)(t->part + t->n_b * rows);
    return s;
}
static step_t now(const lm_call *c) { int64_t r0, rows = lm_xent_chunk(c, &r0); return bind(c, rows, r0); }
static size_t shared(const lm_call *c) {
    const int64_t rows = lm_min64(lm_xent_rows(c), c->in[0].dim[0]);
    const step_t s = bind(c, rows, 0);
    return (size_t)(s.nr * 2 * s.nvt) * 1024 + x_bytes(rows, s.t.nk) + xb_bytes(rows, s.t.d) +
           (size_t)(s.t.n_b * rows) * sizeof(lm_xent_part) + (size_t)rows * 4 + 64;
}
static size_t bytes(const lm_call *c) {
    const size_t z = lm_xent_amx_scratch(c), x = 8192 + DX_P * DX_KC * 1024;
    return z > x ? z : x;
}

/* ---- 0: x ------------------------------------------------------------------------------------------------------------------------------- */
static int64_t x_tiles(const lm_call *c) { const step_t s = now(c); return s.nr; }
static lm_err x_run(const lm_call *c, int64_t i, void *scratch) {
    const step_t s = now(c);
    const lm_xent_amx *t = &s.t;
    lm_mat a = lm_mat_of(&c->in[0], true), b = lm_mat_of(&c->in[0], false);
    a.p = b.p = (const char *)a.p + (size_t)(t->row0 * a.os) * lm_dtype_size(a.dtype);
    for (int64_t g = 2 * i; g < 2 * i + 2 && g * 16 < t->N; g++)
        for (int64_t k = 0; k < t->nk; k++)
            lm_bf16_block(&a, 0, g * 16, lm_min64(16, t->N - g * 16), k * 32, t->d, true, 16, t->x + (g * t->nk + k) * 1024, scratch);
    for (int64_t p = 0; p * 16 < t->d; p++)
        lm_bf16_block(&b, 0, p * 16, lm_min64(16, t->d - p * 16), i * 32, t->N, false, 16, s.xb + (p * s.nr + i) * 1024, scratch);
    return LM_OK;
}

/* ---- 1: logits ---------------------------------------------------------------------------------------------------------------------------- */
static int64_t z_tiles(const lm_call *c) { const step_t s = now(c); return lm_xent_amx_items(&s.t); }
static lm_err z_run(const lm_call *c, int64_t i, void *scratch) { const step_t s = now(c); lm_xent_amx_logits(&s.t, i, scratch); return LM_OK; }

/* ---- 2: loss and dz ------------------------------------------------------------------------------------------------------------------------ */
/* dz of sixteen capped logits, before the target's part. */
static __m512 capped_dz(const float *z, __mmask16 in, float lse, float slope, float less, float cap) {
    float t[16];
    _mm512_storeu_ps(t, _mm512_maskz_loadu_ps(in, z));
    lm_xent_vec_avx512.grad(t, 16, lse, slope, less, cap);
    return _mm512_maskz_loadu_ps(in, t);
}
static int64_t g_tiles(const lm_call *c) { const step_t s = now(c); return s.nr; }
static lm_err g_run(const lm_call *c, int64_t i, void *scratch) {
    const step_t s = now(c);
    const lm_xent_amx *t = &s.t;
    const float ls = t->p->label_smoothing, cap = t->p->cap;
    float slope[32], less[32], factor[32], lse[32], weight[32], hit[32];       /* hit: what the target's dz has less */
    int32_t target[32];
    lm_err err = LM_OK;
    (void)scratch;
    for (int r = 0; r < 32; r++) {
        const int64_t row = i * 32 + r, at = t->row0 + row;
        slope[r] = less[r] = 0; target[r] = -1; lse[r] = 0; weight[r] = 0; hit[r] = 0;
        if (row >= t->N) continue;
        lm_xent_sum sum = LM_XENT_SUM;
        double mean = 0;
        for (int64_t b = 0; b < t->n_b; b++) { lm_xent_add(&sum, t->part[b * t->N + row].s); mean += t->part[b * t->N + row].sum; }
        lse[r] = lm_xent_end(&sum); weight[r] = lm_has(c, 3) ? ((const float *)c->in[3].data)[at] : 1.0f;
        const int32_t v = ((const int32_t *)c->in[2].data)[at];
        ((float *)c->out[1].data)[at] = lse[r];
        ((float *)c->out[0].data)[at] = v < 0 ? 0 : v >= t->V ? NAN : lm_xent_loss(t->p, weight[r], lse[r], t->zt[row], mean / (double)t->V);
        if (v >= t->V) err = LM_E_RANGE;
        if (v < 0 || v >= t->V) continue;
        target[r] = v; slope[r] = lm_xent_slope(t->p, weight[r], lse[r]); less[r] = (float)((double)weight[r] * ls / (double)t->V);
        const float y = cap > 0 ? t->zt[row] / cap : 0;
        hit[r] = (float)(weight[r] * (1 - (double)ls)) * (1.0f - y * y);
    }
    const __m512i zip = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3,
                                         18, 2, 17, 1, 16, 0);
    float *z0 = t->z + i * 2 * s.nvt * 256, *z1 = z0 + s.nvt * 256;
    for (int64_t v = 0; v < s.nvt; v += 2) {
        if (v * 16 % LM_XENT_BLOCK == 0)
            for (int r = 0; r < 32; r++) {
                const int64_t row = i * 32 + r;
                const float m = row < t->N ? t->part[v * 16 / LM_XENT_BLOCK * t->N + row].s.max : 0;
                factor[r] = slope[r] == 0 ? 0 : m == -INFINITY ? 0 : slope[r] * expf(m - lse[r]);
            }
        __m512 g[32][2];
        for (int h = 0; h < 2; h++) {
            const int64_t left = t->V - (v + h) * 16;
            const __mmask16 in = left >= 16 ? 0xffff : left > 0 ? (__mmask16)((1u << left) - 1) : 0;
            for (int r = 0; r < 32; r++) {
                const float *p = (r < 16 ? z0 : z1) + (v + h) * 256 + r % 16 * 16;
                const __mmask16 some = factor[r] != 0 ? in : 0;
                g[r][h] = cap > 0 ? capped_dz(p, target[r] < 0 ? 0 : in, lse[r], slope[r], less[r], cap)
                                  : _mm512_maskz_sub_ps(in, _mm512_mul_ps(_mm512_maskz_loadu_ps(some, p), _mm512_set1_ps(factor[r])), _mm512_set1_ps(less[r]));
                if (target[r] >= (v + h) * 16 && target[r] < (v + h) * 16 + 16)
                    g[r][h] = _mm512_mask_sub_ps(g[r][h], (__mmask16)(1u << (target[r] - (v + h) * 16)), g[r][h], _mm512_set1_ps(hit[r]));
            }
        }
        /* dz of rows 0-15 and 16-31, then the transposes of columns v and v+1: each takes one of the four KiB that were logits */
        for (int r = 0; r < 32; r++) _mm512_storeu_si512((r < 16 ? z0 : z1) + v * 256 + r % 16 * 16, (__m512i)_mm512_cvtne2ps_pbh(g[r][1], g[r][0]));
        for (int h = 0; h < 2; h++) {
            __m512i q[16];
            for (int r = 0; r < 16; r++) q[r] = _mm512_permutexvar_epi16(zip, (__m512i)_mm512_cvtne2ps_pbh(g[2 * r + 1][h], g[2 * r][h]));
            lm_bf16_transpose(q);
            for (int r = 0; r < 16; r++) _mm512_storeu_si512((h ? z1 : z0) + (v + 1) * 256 + r * 16, q[r]);
        }
    }
    return err;
}

/* ---- 3: dx and dW --------------------------------------------------------------------------------------------------------------------------- */
static void dx_item(const step_t *s, int64_t i, char *scratch) {
    const lm_xent_amx *t = &s->t;
    const lm_call *c = t->c;
    const lm_mat w = lm_mat_of(&c->in[1], false);
    const int64_t p0 = i * DX_P, p1 = lm_min64(p0 + DX_P, lm_ceil_div(t->d, 16)), nv = s->nvt / 2, cs = c->out[2].stride[0];
    float *tmp = (float *)scratch, *edge = tmp + 1024, *dx = (float *)c->out[2].data + t->row0 * cs;
    char *pack = scratch + 8192;
    for (int64_t k = 0; k < nv; k += DX_KC) {
        const int64_t kn = lm_min64(DX_KC, nv - k);
        for (int64_t q = 0; q < kn; q++)
            for (int64_t p = p0; p < p1; p++)
                lm_bf16_block(&w, 0, p * 16, lm_min64(16, t->d - p * 16), (k + q) * 32, t->V, false, 16,
                              pack + ((p - p0) * DX_KC + q) * 1024, tmp);
        lm_amx u = { .nk = kn, .a_k = 2048, .a_o = s->nvt * 1024, .b_k = 1024, .b_o = DX_KC * 1024, .load = k > 0 };
        lm_amx_begin(16, 8);
        for (int64_t m = 0; m < t->N; m += 32)
            for (int64_t p = p0; p < p1; p += 2) {
                u.a = (const char *)t->z + (m / 16 * s->nvt + 2 * k) * 1024; u.b = pack + (p - p0) * DX_KC * 1024;
                lm_amx_into(&u, dx + m * cs + p * 16, cs, lm_min64(32, t->N - m), lm_min64(32, lm_min64(p1 * 16, t->d) - p * 16), edge);
            }
        lm_amx_end();
    }
}
static void dw_item(const step_t *s, int64_t i, char *scratch) {
    const lm_xent_amx *t = &s->t;
    const lm_call *c = t->c;
    const int64_t v0 = i * DW_ROWS, v1 = lm_min64(v0 + DW_ROWS, t->V), cs = c->out[3].stride[0], np = lm_ceil_div(t->d, 16);
    float *edge = (float *)scratch + 1024, *dw = c->out[3].data;
    lm_amx u = { .nk = s->nr,
                 .a_k = 2 * s->nvt * 1024,
                 .a_o = s->nvt * 1024,
                 .b_k = 1024,
                 .b_o = s->nr * 1024,
                 .load = c->iter > 0 || (c->acc >> 3 & 1) };
    lm_amx_begin(16, 8);
    for (int64_t q = 0; q < np; q += DW_P)
        for (int64_t v = v0; v < v1; v += 32)
            for (int64_t p = q; p < lm_min64(q + DW_P, np); p += 2) {
                u.a = (const char *)t->z + (v / 16 + 1) * 1024; u.b = s->xb + p * s->nr * 1024;
                lm_amx_into(&u, dw + v * cs + p * 16, cs, lm_min64(32, v1 - v), lm_min64(32, t->d - p * 16), edge);
            }
    lm_amx_end();
}
static int64_t d_tiles(const lm_call *c) {
    const step_t s = now(c);
    return (s.t.N ? lm_ceil_div(s.t.d, DX_P * 16) : 0) + lm_ceil_div(s.t.V, DW_ROWS);
}
static lm_err d_run(const lm_call *c, int64_t i, void *scratch) {
    const step_t s = now(c);
    const int64_t n = s.t.N ? lm_ceil_div(s.t.d, DX_P * 16) : 0;
    if (i < n) dx_item(&s, i, scratch); else dw_item(&s, i - n, scratch);
    return LM_OK;
}
const lm_kernel lm_k_xent_step_amx[] = { { .name = "xent_step.bf16.amx",
                                           .needs = LM_CPU_AVX2 | LM_CPU_AVX512 | LM_CPU_AVX512_BF16 | LM_CPU_AMX_BF16,
                                           .order = "bf16.amx",
                                           .accepts = lm_xent_cols_bf16,
                                           .shared_bytes = shared,
                                           .thread_bytes = bytes,
                                           .n_phase = 4,
                                           .phase = { { x_tiles, x_run }, { z_tiles, z_run }, { g_tiles, g_run }, { d_tiles, d_run } },
                                           .repeat = lm_xent_repeat },
                                         { 0 } };
