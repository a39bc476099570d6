/* xent_amx.c — logits with statistics on AMX, and the kernel of xent: no logits are kept, 64 KiB of them exist per thread. */
#include "op/xent/xent_amx.h"

enum { NT = LM_XENT_BLOCK / 16, ROWS = 64 };           /* column groups of a block; rows of a work item of the last phase */

static bool w_here(const lm_call *c) { return c->in[1].layout == LM_PANEL16X2; }
/* 4 KiB to pack with, 64 KiB of logits, a piece of W. */
size_t lm_xent_amx_scratch(const lm_call *c) {
    return 4096 + 32 * LM_XENT_BLOCK * 4 + (w_here(c) ? 0 : (size_t)lm_ceil_div(c->in[0].dim[1], 32) * NT * 1024);
}
int64_t lm_xent_amx_items(const lm_xent_amx *t) { return t->n_b * t->n_m; }

static void stats(const lm_xent_amx *t, float *z, int64_t step, int64_t row, int64_t rows, int64_t v0, int64_t cols, int64_t block) {
    for (int64_t r = 0; r < rows; r++) {
        float *run = z + r / 16 * step + r % 16 * 16;
        if (t->p->cap > 0) for (int64_t v = 0; v < cols; v += 16) lm_xent_vec_avx512.cap(run + v * 16, 16, t->p->cap);
        lm_xent_part *p = t->part + block * t->N + row + r;
        const int32_t target = ((const int32_t *)t->c->in[2].data)[t->row0 + row + r];
        if (target >= v0 && target < v0 + cols) t->zt[row + r] = run[(target - v0) / 16 * 256 + (target - v0) % 16];
        p->sum = t->p->label_smoothing != 0 ? (float)lm_xent_vec_avx512.sum(run, 256, cols) : 0;
        lm_xent_vec_avx512.block(run, 256, cols, t->z && t->p->cap == 0, &p->s);
    }
}
void lm_xent_amx_logits(const lm_xent_amx *t, int64_t i, char *scratch) {
    const int64_t block = i / t->n_m, m0 = i % t->n_m * t->mb, m1 = lm_min64(m0 + t->mb, t->N), v0 = block * LM_XENT_BLOCK,
                  cols = lm_min64(LM_XENT_BLOCK, t->V - v0), nt = lm_ceil_div(cols, 16);
    const lm_mat w = lm_mat_of(&t->c->in[1], true);
    const bool here = w_here(t->c);
    float *tmp = (float *)scratch, *own = tmp + 1024;
    char *pack = scratch + 4096 + 32 * LM_XENT_BLOCK * 4;
    const int64_t nk = t->nk, step = t->z ? lm_round_up(lm_ceil_div(t->V, 16), 2) * 256 : NT * 256;
    if (!here)
        for (int64_t n = 0; n < nt; n++)
            for (int64_t k = 0; k < nk; k++)
                lm_bf16_block(&w, 0, v0 + n * 16, lm_min64(16, cols - n * 16), k * 32, t->d, false, 16, pack + (n * nk + k) * 1024, tmp);
    lm_amx u = { .nk = nk, .a_k = 1024, .a_o = nk * 1024, .b_k = 1024, .b_o = nk * 1024, .c_r = 64, .c_i = step, .c_j = 256 };
    lm_amx_begin(16, 8);
    for (int64_t r = m0; r < m1; r += 32) {
        const int64_t rows = lm_min64(32, m1 - r);
        float *z = t->z ? t->z + r / 16 * step + v0 * 16 : own;
        u.a = t->x + r / 16 * nk * 1024;
        for (int64_t n = 0; n < nt; n += 2) {
            u.b = here ? (const char *)w.p + (v0 / 16 + n) * nk * 1024 : pack + n * nk * 1024;
            u.c = z + n * 256;
            lm_amx_block(&u, rows > 16 ? 2 : 1, nt - n > 1 ? 2 : 1);
        }
        stats(t, z, step, r, rows, v0, cols, block);
    }
    lm_amx_end();
}

/* ---- the kernel of xent --------------------------------------------------------------------------------------------------------------- */
static size_t packed(int64_t N, int64_t nk) { return (size_t)(lm_ceil_div(N, 16) * nk) * 1024; }
static lm_xent_amx bind(const lm_call *c) {
    lm_xent_amx t = { .c = c, .p = c->p, .N = c->in[0].dim[0], .V = c->in[1].dim[0], .d = c->in[0].dim[1] };
    t.nk = lm_ceil_div(t.d, 32); t.n_b = lm_xent_amx_nb(t.V);
    t.n_m = lm_max64(1, lm_min64(lm_ceil_div(t.N, 64), lm_ceil_div(16, t.n_b)));
    t.mb = lm_max64(32, lm_round_up(lm_ceil_div(t.N, t.n_m), 32));
    t.n_m = lm_ceil_div(t.N, t.mb);
    t.x = c->shared;
    t.part = (lm_xent_part *)(t.x + packed(t.N, t.nk));
    t.zt = (float *)(t.part + t.n_b * t.N);
    return t;
}
static size_t shared(const lm_call *c) {
    lm_xent_amx t = bind(c);
    return packed(t.N, t.nk) + (size_t)(t.n_b * t.N) * sizeof(lm_xent_part) + (size_t)t.N * 4;
}
static int64_t x_tiles(const lm_call *c) { return lm_ceil_div(c->in[0].dim[0], 16); }
static lm_err x_run(const lm_call *c, int64_t i, void *scratch) {
    const lm_xent_amx t = bind(c);
    const lm_mat x = lm_mat_of(&c->in[0], true);
    for (int64_t k = 0; k < t.nk; k++)
        lm_bf16_block(&x, 0, i * 16, lm_min64(16, t.N - i * 16), k * 32, t.d, true, 16, t.x + (i * t.nk + k) * 1024, scratch);
    return LM_OK;
}
static int64_t z_tiles(const lm_call *c) { lm_xent_amx t = bind(c); return lm_xent_amx_items(&t); }
static lm_err z_run(const lm_call *c, int64_t i, void *scratch) { lm_xent_amx t = bind(c); lm_xent_amx_logits(&t, i, scratch); return LM_OK; }
static int64_t row_tiles(const lm_call *c) { return lm_ceil_div(c->in[0].dim[0], ROWS); }
static lm_err row_run(const lm_call *c, int64_t i, void *scratch) {
    const lm_xent_amx t = bind(c);
    lm_err err = LM_OK;
    (void)scratch;
    for (int64_t r = i * ROWS; r < lm_min64((i + 1) * ROWS, t.N); r++) {
        lm_xent_sum s = LM_XENT_SUM;
        double mean = 0;
        for (int64_t b = 0; b < t.n_b; b++) { lm_xent_add(&s, t.part[b * t.N + r].s); mean += t.part[b * t.N + r].sum; }
        const float lse = lm_xent_end(&s), w = lm_has(c, 3) ? ((const float *)c->in[3].data)[r] : 1.0f;
        const int32_t target = ((const int32_t *)c->in[2].data)[r];
        ((float *)c->out[1].data)[r] = lse;
        ((float *)c->out[0].data)[r] = target < 0 ? 0 : target >= t.V ? NAN : lm_xent_loss(t.p, w, lse, t.zt[r], mean / (double)t.V);
        if (target >= t.V) err = LM_E_RANGE;
    }
    return err;
}
const lm_kernel lm_k_xent_amx[] = { { .name = "xent.bf16.amx",
                                      .needs = LM_CPU_AVX2 | LM_CPU_AVX512 | LM_CPU_AVX512_BF16 | LM_CPU_AMX_BF16,
                                      .order = "bf16.amx",
                                      .accepts = lm_xent_accepts_bf16,
                                      .shared_bytes = shared,
                                      .thread_bytes = lm_xent_amx_scratch,
                                      .n_phase = 3,
                                      .phase = { { x_tiles, x_run }, { z_tiles, z_run }, { row_tiles, row_run } } },
                                    { 0 } };
