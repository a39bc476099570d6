/* dropout_simd.c — Philox 4x32-10 for sixteen blocks at a time (64 draws), written as loops the compiler turns into vectors; the words are those of lm_rng_block.
 * Tiles start at multiples of 64 elements, so a tile needs no draw of its neighbour. */
#include "op/elementwise.h"
#include "op/dropout/dropout.h"
_Static_assert(LM_EW_TILE % 64 == 0, "a tile starts at a draw block");
static inline void draw64(lm_rng r, uint64_t block, uint32_t w[64]) {
    uint32_t c0[16], c1[16], c2[16], c3[16], k0 = (uint32_t)r.seed, k1 = (uint32_t)(r.seed >> 32);
    for (uint32_t j = 0; j < 16; j++) {
        c0[j] = (uint32_t)(block + j); c1[j] = (uint32_t)((block + j) >> 32); c2[j] = (uint32_t)r.stream; c3[j] = (uint32_t)(r.stream >> 32); }
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
        for (int j = 0; j < 16; j++) {
            uint64_t a = (uint64_t)0xD2511F53u * c0[j], b = (uint64_t)0xCD9E8D57u * c2[j];
            uint32_t n0 = (uint32_t)(b >> 32) ^ c1[j] ^ k0, n2 = (uint32_t)(a >> 32) ^ c3[j] ^ k1;
            c1[j] = (uint32_t)b; c3[j] = (uint32_t)a; c0[j] = n0; c2[j] = n2;
        }
    for (int j = 0; j < 16; j++) { w[4 * j] = c0[j]; w[4 * j + 1] = c1[j]; w[4 * j + 2] = c2[j]; w[4 * j + 3] = c3[j]; }
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; const lm_dropout_p *p = c->p; const lm_rng rng = lm_dropout_rng(p, c->in[1].data);
    const float up = 1.0f / (1.0f - p->p); uint32_t w[64];
    int64_t i = tile * LM_EW_TILE, end = lm_min64(i + LM_EW_TILE, lm_numel(&c->out[0]));
    for (; i < end; i += 64) {
        const float *x = (const float *)c->in[0].data + i; float *y = (float *)c->out[0].data + i;
        draw64(rng, (uint64_t)i / 4, w);
        LM_V_WALK(lm_min64(64, end - i), k, v16i u; memcpy(&u, w + k, 64);
            v16 f = __builtin_convertvector((v16i)((u >> 8) & 0xffffff), v16) * 0x1p-24f;
            LM_ST(y + k, lm_v_sel(f >= p->p, LM_LD(x + k) * up, (v16){ 0 })));
    }
    return LM_OK;
}
LM_ONE_KERNEL(dropout, lm_accepts_flat, lm_ew_tiles, run);
