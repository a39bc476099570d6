/* dropout_simd.c — Philox 4x32-10 for VN blocks at a time (4 VN draws); the words are those of lm_rng_block. Compute bound: about 10 × 8
 * vector operations per 4 VN elements. Lane (L, p) of a vector (L = which 128 bits, p = which word in them) draws block p·VN/4 + L of the
 * group, so that turning 4×4 words inside each 128 bits puts the draws in order. Tiles start at multiples of 4 VN elements, so a tile
 * needs no draw of its neighbour, and a block's low counter word never wraps inside a group. */
#include "op/elementwise.h"
#include "op/dropout/dropout.h"
_Static_assert(LM_EW_TILE % (4 * VN) == 0, "a tile starts at a draw block");
#if defined(LM_ISA_IS_avx512)
#define X(name) _mm512_##name
typedef __m512i wide;
#elif defined(LM_ISA_IS_avx2)
#define X(name) _mm256_##name
typedef __m256i wide;
#elif defined(__SSE2__)
#define X(name) _mm_##name
typedef __m128i wide;
#endif
#if defined(X)
static inline void mul(vni a, uint32_t m, vni *hi, vni *lo) {
    const wide mv = X(set1_epi32)((int)m), low = (wide){ 0 } + 0xffffffffLL, even = X(mul_epu32)((wide)a, mv),
               odd = X(mul_epu32)(X(srli_epi64)((wide)a, 32), mv);
    *lo = (vni)((even & low) | X(slli_epi64)(odd, 32));
    *hi = (vni)(X(srli_epi64)(even, 32) | (odd & ~low));
}
static inline void draw(lm_rng r, uint64_t block, uint32_t *w) {
    vni c0, c1 = (vni){ 0 } + (int32_t)(block >> 32), c2 = (vni){ 0 } + (int32_t)r.stream, c3 = (vni){ 0 } + (int32_t)(r.stream >> 32), h0,
            l0, h2, l2;
    for (int i = 0; i < VN; i++) c0[i] = i % 4 * (VN / 4) + i / 4;
    c0 += (int32_t)block;
    uint32_t k0 = (uint32_t)r.seed, k1 = (uint32_t)(r.seed >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        mul(c0, 0xD2511F53u, &h0, &l0); mul(c2, 0xCD9E8D57u, &h2, &l2);
        c0 = h2 ^ c1 ^ (int32_t)k0; c1 = l2; c2 = h0 ^ c3 ^ (int32_t)k1; c3 = l0;
    }
    const wide a = X(unpacklo_epi32)((wide)c0, (wide)c1), b = X(unpackhi_epi32)((wide)c0, (wide)c1),
               d = X(unpacklo_epi32)((wide)c2, (wide)c3), e = X(unpackhi_epi32)((wide)c2, (wide)c3);
    const wide out[4] = { X(unpacklo_epi64)(a, d), X(unpackhi_epi64)(a, d), X(unpacklo_epi64)(b, e), X(unpackhi_epi64)(b, e) };
    memcpy(w, out, sizeof out);
}
#else
static inline void draw(lm_rng r, uint64_t block, uint32_t *w) { for (uint64_t i = 0; i < VN; i++) lm_rng_block(r, block + i, w + 4 * i); }
#endif
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; const lm_dropout_p *p = c->p; const lm_rng rng = lm_dropout_rng(p, c->in[1].data);
    const float up = 1.0f / (1.0f - p->p); uint32_t w[4 * VN];
    for (int64_t i = tile * LM_EW_TILE, end = lm_min64(i + LM_EW_TILE, lm_numel(&c->out[0])); i < end; i += 4 * VN) {
        const float *x = (const float *)c->in[0].data + i; float *y = (float *)c->out[0].data + i;
        draw(rng, (uint64_t)i / 4, w);
        LM_V_WALK(lm_min64(4 * VN, end - i), k, vni u; memcpy(&u, w + k, sizeof u);
            vn f = __builtin_convertvector((vni)((u >> 8) & 0xffffff), vn) * 0x1p-24f;
            LM_ST(y + k, vn_sel(f >= p->p, LM_LD(x + k) * up, (vn){ 0 })));
    }
    return LM_OK;
}
LM_ONE_KERNEL(dropout, lm_accepts_flat, lm_ew_tiles, run);
