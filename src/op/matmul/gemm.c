/* gemm.c — views of operands and the division of C into tiles. */
#include "op/matmul/gemm.h"
#include "device/cpu.h"

lm_mat lm_mat_of(const lm_tensor *t, bool row) {
    lm_mat m = { .p = t->data, .dtype = (lm_dtype)t->dtype, .layout = (lm_layout)t->layout, .row = row, .cols = lm_cols(t) };
    const int64_t rs = t->rank > 1 ? t->stride[t->rank - 2] : lm_cols(t);
    m.os = row ? rs : 1;
    m.ks = row ? 1 : rs;
    m.bs = t->rank == 3 ? t->stride[0] : 0;
    if (t->dtype == LM_QUANT) m.t = t;
    return m;
}

lm_mat lm_mat_f32(const float *p, int64_t stride, bool row) {
    return (lm_mat){ .p = p, .dtype = LM_F32, .row = row, .os = row ? stride : 1, .ks = row ? 1 : stride };
}

static int64_t kc_unit(const lm_gemm *g) { return g->b.t && g->b.t->quant->block > 32 ? g->b.t->quant->block : 32; }
/* Most of k at once: a packed block of B of LM_GEMM_NBP panels takes 60 % of L2, the rest is for A and C passing by. At most LM_GEMM_KC,
 * for 8 rows of A in L1. */
static int64_t kc_most(void) {
    static int64_t known;
    int64_t kc = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (kc) return kc;
    const size_t l2 = lm_cpu_cache(2);
    kc = (int64_t)(l2 ? l2 : 1 << 20) * 6 / 10 / (LM_GEMM_NBP * 64) / 32 * 32;
    kc = lm_max64(128, lm_min64(kc, LM_GEMM_KC));
    __atomic_store_n(&known, kc, __ATOMIC_RELAXED);
    return kc;
}
static int64_t kc_cap(const lm_gemm *g) { return lm_max64(kc_most() / kc_unit(g), 1) * kc_unit(g); }
/* A block of k: equal parts of at most KC, whole blocks of a quantized format. */
int64_t lm_gemm_kc(const lm_gemm *g) {
    const int64_t unit = kc_unit(g), cap = kc_cap(g);
    if (g->K <= cap) return lm_max64(lm_round_up(g->K, unit), unit);
    return lm_min64(lm_round_up(lm_ceil_div(g->K, lm_ceil_div(g->K, cap)), unit), cap);
}

bool lm_gemm_b_here(const lm_gemm *g) { return g->b.layout == LM_PANEL16 && g->b.row && !g->round; }

/* Few rows: the tile is a stretch of columns. Else the cheapest of some tile sizes, costs being fractions of the work, fitted to
 * measurements: packing A again for every nbp panels; packing B again for every mb rows; and the idle time of 2, 4, 8 and 16 threads at the
 * end. Never the number of threads there are. */
lm_gemm_grid lm_gemm_f32_grid(const lm_gemm *g) {
    static const int16_t mbs[] = { 1024, 512, 256, 128, 64, 32 }, nbps[] = { 24, 12, 6, 3 };
    const int64_t np = lm_ceil_div(g->N, 16), M = lm_max64(g->M, 1);
    lm_gemm_grid t = { .mb = g->mb ? g->mb : M, .nbp = g->mb ? g->nbp : 8 };
    if (M > 16 && !g->mb) {
        double best = 1e30;
        for (int j = 0; j < LM_COUNT(nbps); j++)
            for (int i = 0; i < LM_COUNT(mbs); i++) {
                const int64_t n_m = lm_ceil_div(M, mbs[i]), mb = lm_round_up(lm_ceil_div(M, n_m), 24),
                              tiles = lm_ceil_div(M, mb) * lm_ceil_div(np, nbps[j]) * g->batch;
                double cost = (g->apack ? 0.4 : 0.8) / (double)nbps[j];
                cost += (lm_gemm_b_here(g) ? 12 : 48) / (double)mb;
                for (int n = 2; n <= 16; n *= 2) cost += 0.5 / n * (double)(lm_ceil_div(tiles, n) * n - tiles) / (double)tiles;
                if (cost < best) { best = cost; t.mb = mb; t.nbp = nbps[j]; }
            }
    }
    t.n_m = lm_ceil_div(g->M, t.mb);
    t.n_n = lm_ceil_div(np, t.nbp);
    t.tiles = t.n_m * t.n_n * g->batch;
    return t;
}

size_t lm_gemm_f32_scratch(const lm_gemm *g) {
    const size_t kc = (size_t)lm_min64(lm_max64(LM_GEMM_KC, kc_unit(g)), lm_round_up(lm_max64(g->K, 1), kc_unit(g))),
                 np = (size_t)lm_min64(lm_ceil_div(g->N, 16), LM_GEMM_NBP), strip = LM_GEMM_STRIP;
    return 4 * ((kc + 1) * 16 * np + 2 * strip * (kc + 16) + 16 * kc) + 256;
}

/* ---- bf16 --------------------------------------------------------------------------------------------------------------------- */
bool lm_bf16_b_here(const lm_gemm *g) { return g->b.layout == LM_PANEL16X2 && g->b.row; }
static int64_t a_blocks(const lm_gemm *g) { return g->batch * lm_ceil_div(g->M, 16) * lm_ceil_div(g->K, 32); }
static int64_t b_blocks(const lm_gemm *g) { return g->batch * lm_ceil_div(g->N, 16) * lm_ceil_div(g->K, 32); }
size_t lm_bf16_shared(const lm_gemm *g, bool b_too) {
    return g->M <= LM_BF16_FEW ? 0 : 1024 * (size_t)(a_blocks(g) + (b_too && !lm_bf16_b_here(g) ? b_blocks(g) : 0));
}
void lm_bf16_bind(lm_gemm *g, void *shared) {
    if (g->M <= LM_BF16_FEW) return;
    g->apack = shared;
    if (!lm_bf16_b_here(g)) g->bpack = (char *)shared + 1024 * a_blocks(g);
}
/* Few rows: room for their A, and a block of B of 12 panels; 4 KiB to pack with; 4 KiB for a ragged corner of C. */
size_t lm_bf16_scratch(const lm_gemm *g) {
    const int64_t few = lm_min64(g->M, LM_BF16_FEW);
    return (size_t)(8192 + few * 64 * lm_ceil_div(g->K, 32) + (lm_bf16_b_here(g) ? 0 : 12 * 1024 * LM_BF16_KC / 32));
}
lm_gemm_grid lm_bf16_grid(const lm_gemm *g) {
    static const int16_t mbs[] = { 512, 256, 128, 64, 32 }, nbps[] = { LM_BF16_NBP, 24, 16, 8, 4 };
    const int64_t np = lm_ceil_div(g->N, 16), M = lm_max64(g->M, 1), kp = lm_max64(lm_round_up(g->K, 32), 32);
    const int64_t kc = kp <= 1536 ? kp : lm_round_up(lm_ceil_div(kp, lm_ceil_div(kp, 1024)), 32);
    lm_gemm_grid t = { .mb = M, .nbp = 12 };
    if (M > LM_BF16_FEW) {
        double best = 1e30;
        for (int j = 0; j < LM_COUNT(nbps); j++)
            for (int i = 0; i < LM_COUNT(mbs); i++) {
                if (mbs[i] * kc > 512 * 1024 && i + 1 < LM_COUNT(mbs)) continue;      /* a block of A stays in L2 */
                const int64_t n_m = lm_ceil_div(M, mbs[i]), mb = lm_round_up(lm_ceil_div(M, n_m), 32),
                              tiles = lm_ceil_div(M, mb) * lm_ceil_div(np, nbps[j]) * g->batch;
                double cost = 2.0 / (double)nbps[j] + 32.0 / (double)mb;
                for (int n = 2; n <= 16; n *= 2) cost += 0.8 / n * (double)(lm_ceil_div(tiles, n) * n - tiles) / (double)tiles;
                if (cost < best) { best = cost; t.mb = mb; t.nbp = nbps[j]; }
            }
    }
    t.n_m = lm_ceil_div(g->M, t.mb);
    t.n_n = lm_ceil_div(np, t.nbp);
    t.tiles = t.n_m * t.n_n * g->batch;
    return t;
}
