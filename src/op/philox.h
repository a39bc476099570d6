/* philox.h — Philox 4x32-10 for VN blocks at a time, 4 VN words: those of lm_rng_block, in draw order. For *_simd.c only.
 *
 * Lane (L, p) of a vector (L = which 128 bits, p = which word in them) draws block p·VN/4 + L of the group, so that turning 4×4 words inside each
 * 128 bits puts the draws in order. block is a multiple of VN, so its low counter word never wraps inside a group.
 *
 * Lifetime: none.  Threads: pure.  Errors: none. */
#ifndef LM_PHILOX_H
#define LM_PHILOX_H
#include "op/lanes.h"
#if defined(LM_ISA_IS_avx512)
#define LM_PX(name) _mm512_##name
typedef __m512i lm_philox_wide;
#elif defined(LM_ISA_IS_avx2)
#define LM_PX(name) _mm256_##name
typedef __m256i lm_philox_wide;
#elif defined(__SSE2__)
#define LM_PX(name) _mm_##name
typedef __m128i lm_philox_wide;
#endif
#if defined(LM_PX)
static inline void lm_philox_mul(vni a, uint32_t m, vni *hi, vni *lo) {
    const lm_philox_wide mv = LM_PX(set1_epi32)((int)m), low = (lm_philox_wide){ 0 } + 0xffffffffLL, even = LM_PX(mul_epu32)((lm_philox_wide)a, mv),
               odd = LM_PX(mul_epu32)(LM_PX(srli_epi64)((lm_philox_wide)a, 32), mv);
    *lo = (vni)((even & low) | LM_PX(slli_epi64)(odd, 32));
    *hi = (vni)(LM_PX(srli_epi64)(even, 32) | (odd & ~low));
}
static inline void lm_philox(lm_rng r, uint64_t block, uint32_t *w) {
    vni c0, c1 = (vni){ 0 } + (int32_t)(block >> 32), c2 = (vni){ 0 } + (int32_t)r.stream, c3 = (vni){ 0 } + (int32_t)(r.stream >> 32), h0,
            l0, h2, l2;
    for (int i = 0; i < VN; i++) c0[i] = i % 4 * (VN / 4) + i / 4;
    c0 += (int32_t)block;
    uint32_t k0 = (uint32_t)r.seed, k1 = (uint32_t)(r.seed >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        lm_philox_mul(c0, 0xD2511F53u, &h0, &l0); lm_philox_mul(c2, 0xCD9E8D57u, &h2, &l2);
        c0 = h2 ^ c1 ^ (int32_t)k0; c1 = l2; c2 = h0 ^ c3 ^ (int32_t)k1; c3 = l0;
    }
    const lm_philox_wide a = LM_PX(unpacklo_epi32)((lm_philox_wide)c0, (lm_philox_wide)c1), b = LM_PX(unpackhi_epi32)((lm_philox_wide)c0, (lm_philox_wide)c1),
               d = LM_PX(unpacklo_epi32)((lm_philox_wide)c2, (lm_philox_wide)c3), e = LM_PX(unpackhi_epi32)((lm_philox_wide)c2, (lm_philox_wide)c3);
    const lm_philox_wide out[4] = { LM_PX(unpacklo_epi64)(a, d), LM_PX(unpackhi_epi64)(a, d), LM_PX(unpacklo_epi64)(b, e), LM_PX(unpackhi_epi64)(b, e) };
    memcpy(w, out, sizeof out);
}
#else
static inline void lm_philox(lm_rng r, uint64_t block, uint32_t *w) { for (uint64_t i = 0; i < VN; i++) lm_rng_block(r, block + i, w + 4 * i); }
#endif
#endif
