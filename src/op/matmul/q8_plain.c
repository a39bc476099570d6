/* q8_plain.c — integer products in plain C, for machines without vectors of integers; both families, any weights. A piece of a panel becomes codes with
 * their sign, [k][16], in scratch. */
#include <string.h>
#include "op/matmul/q8.h"
#include "quant/quant_int.h"

typedef struct { int8_t q[256][16]; float d[16][16], min[8][16]; } piece_t;      /* scales by group, minima with theirs */

static float half_at(const char *p) { uint16_t h; memcpy(&h, p, 2); return lm_f16_to_f32(h); }
/* Element k of row r in a panel's block, less what makes it unsigned. */
static int code_at(lm_q8_kind kind, const uint8_t *p, int r, int k) {
#define BYTE(group) p[(group) * 64 + r * 4 + k % 4]
    const int i = k / 4, c = k / 64, half = k / 128, run = k % 128 / 32, quad = k % 32 / 4;
    switch (kind) {
    case LM_W_Q8_0: return (int8_t)BYTE(i);
    case LM_W_Q4_0: return (BYTE(i % 4) >> (i / 4 * 4) & 15) - 8;
    case LM_W_Q4_1: return BYTE(i % 4) >> (i / 4 * 4) & 15;
    case LM_W_Q5_0: return ((BYTE(1 + i % 4) >> (i / 4 * 4) & 15) | (p[r * 4 + k / 8] >> (k % 8) & 1) << 4) - 16;
    case LM_W_Q5_1: return (BYTE(1 + i % 4) >> (i / 4 * 4) & 15) | (p[r * 4 + k / 8] >> (k % 8) & 1) << 4;
    case LM_W_IQ4_NL: return lm_q_iq4[BYTE(i % 4) >> (i / 4 * 4) & 15];
    case LM_W_Q4_K: return BYTE(3 + c * 8 + quad) >> (k / 32 % 2 * 4) & 15;
    case LM_W_Q5_K: return (BYTE(11 + c * 8 + quad) >> (k / 32 % 2 * 4) & 15) | (BYTE(3 + quad) >> (k / 32) & 1) << 4;
    default: return ((BYTE(half * 16 + run % 2 * 8 + quad) >> (run / 2 * 4) & 15) | (BYTE(32 + half * 8 + quad) >> (run * 2) & 3) << 4) - 32;
    }
#undef BYTE
}
static void unpack(const lm_q8 *t, const char *panel, piece_t *w) {
    const uint8_t *p = (const uint8_t *)panel + 32 * t->halves;
    for (int r = 0; r < 16; r++) {
        const float d = half_at(panel + 2 * r);
        for (int k = 0; k < t->unit; k++) w->q[k][r] = (int8_t)code_at(t->kind, p, r, k);
        if (t->unit == 32) { w->d[0][r] = d; continue; }
        if (t->kind == LM_W_Q6_K) { for (int g = 0; g < 16; g++) w->d[g][r] = d * (float)(int8_t)p[(48 + g / 4) * 64 + r * 4 + g % 4]; continue; }
        const uint8_t *a = p + r * 4, *b = a + 64, *e = a + 128;                 /* as lm_q_scale_min has it */
        for (int g = 0; g < 4; g++) {
            w->d[g][r] = d * (float)(a[g] & 63); w->d[g + 4][r] = d * (float)((e[g] & 15) | a[g] >> 6 << 4);
            w->min[g][r] = (float)(b[g] & 63); w->min[g + 4][r] = (float)(e[g] >> 4 | b[g] >> 6 << 4);
        }
    }
}
static int32_t dot(const piece_t *w, const int8_t *x, int r, int k0, int k1) {
    int32_t s = 0;
    for (int k = k0; k < k1; k++) s += x[k] * w->q[k][r];
    return s;
}
/* acc[16] and one block of row m of A */
static void add(const lm_q8 *t, int64_t at, const piece_t *w, const float *dmin, float *acc) {
    const int8_t *x = t->q + at * t->unit;
    const int len = t->kind == LM_W_Q6_K ? 16 : 32;
    for (int r = 0; r < 16; r++) {
        if (t->unit == 32) {
            acc[r] += t->d[at] * w->d[0][r] * (float)dot(w, x, r, 0, 32);
            if (dmin) acc[r] += dmin[r] * (t->d[at] * (float)t->start[at]);
            continue;
        }
        float sum = 0;
        for (int g = 0; g < 256 / len; g++) sum += w->d[g][r] * (float)dot(w, x, r, g * len, (g + 1) * len);
        if (dmin) {
            int32_t u = 0;
            for (int g = 0; g < 8; g++) {
                int32_t s = 0;
                for (int k = 0; k < 32; k++) s += x[g * 32 + k];
                u += s * (int32_t)w->min[g][r];
            }
            sum -= dmin[r] * (float)u;
        }
        acc[r] += t->d[at] * sum;
    }
}
static size_t scratch_bytes(const lm_call *c) { return lm_q8_own(c) + sizeof(piece_t) + LM_Q8_MB * 64 + LM_Q8_TURNED; }
static lm_err walk(const lm_call *c, int64_t i, void *scratch) {
    int64_t m0, m1, n0, n1;
    const lm_q8 *t = lm_q8_tile(c, i, scratch, &m0, &m1, &n0, &n1);
    piece_t *w = (piece_t *)((char *)scratch + t->own);
    float *acc = (float *)(w + 1);
    char *turned = (char *)(acc + LM_Q8_MB * 16);
    for (int64_t n = n0; n < n1; n += 16) {
        const size_t cols = (size_t)lm_min64(16, n1 - n);
        memset(acc, 0, (size_t)(m1 - m0) * 64);
        for (int64_t m = m0; m < m1 && t->acc; m++) memcpy(acc + (m - m0) * 16, t->c + m * t->c_rs + n, cols * 4);
        for (int64_t b = 0; b < t->nb; b++) {
            const char *panel = turned;
            if (t->panels) panel = lm_q8_panel(t, n, b); else lm_q8_turn(t, n, (int64_t)cols, b, 1, turned);
            float dmin[16];
            const bool mins = lm_q8_mins(t->kind) || t->kind == LM_W_Q4_K || t->kind == LM_W_Q5_K;
            for (int r = 0; r < 16 && mins; r++) dmin[r] = half_at(panel + 32 + 2 * r);
            unpack(t, panel, w);
            for (int64_t m = m0; m < m1; m++) add(t, lm_q8_at(t, m, b), w, mins ? dmin : NULL, acc + (m - m0) * 16);
        }
        for (int64_t m = m0; m < m1; m++)
            for (int64_t j = 0; j < (int64_t)cols; j++) {
                const float v = acc[(m - m0) * 16 + j];
                t->c[m * t->c_rs + n + j] = t->bias ? v + lm_q8_bias(t, n + j) : v;
            }
    }
    return LM_OK;
}
static lm_err row_tile(const lm_call *c, int64_t i, void *scratch) { (void)scratch; lm_q8_row_tile(c, i, lm_q8_rows_plain); return LM_OK; }
static lm_err begin(const lm_call *c, void *scratch) { lm_q8_begin(c, scratch, lm_q8_rows_plain); return LM_OK; }
static lm_err run(const lm_call *c, int64_t i, void *scratch) { begin(c, scratch); return walk(c, i, scratch); }
#define KERNEL(id, ord, takes) { .name = id, .order = ord, .accepts = takes, .shared_bytes = lm_q8_shared, .thread_bytes = scratch_bytes, .n_phase = 2, \
    .phase = { { lm_q8_row_tiles, row_tile }, { lm_q8_tiles, run, lm_q8_reads, begin, walk } } }
const lm_kernel lm_k_matmul_q8_plain[] = { KERNEL("matmul.q8.plain", "q8.k32.mad", lm_q8_accepts), KERNEL("matmul.qk.plain", "q8.k256.mad", lm_qk_accepts),
                                           { 0 } };
const lm_kernel lm_k_matmul_each_q8_plain[] = { KERNEL("matmul_each.q8.plain", "q8.k32.mad", lm_q8_accepts),
                                               KERNEL("matmul_each.qk.plain", "q8.k256.mad", lm_qk_accepts),
                                               { 0 } };
