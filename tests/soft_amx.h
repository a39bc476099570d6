/* soft_amx.h — AMX tiles and the AVX-512 BF16 instructions in software, so that a machine with AVX-512 alone can run the kernels that need them.
 *
 * Forced before the sources of those kernels (cmake/tests.cmake: test_ops_amx): the intrinsics become the functions below. Arithmetic is that
 * of the instructions: products of bf16 pairs are accumulated by FMA, even and odd elements apart where a tile is multiplied, denormals are
 * zero on both sides, rounding to nearest even. tests/golden/bits.txt has the hashes that a processor gave; test_ops_amx must give the same.
 *
 * Lifetime: tiles belong to the thread and to a configuration.  Threads: state per thread.  Errors: a tile used without a configuration traps. */
#ifndef LM_SOFT_AMX_H
#define LM_SOFT_AMX_H
#include <immintrin.h>
#include <stdint.h>
#include <string.h>
typedef struct { uint8_t rows[8]; uint16_t bytes[8]; uint8_t t[8][16][64]; int on; } lm_soft_tiles;
static __thread lm_soft_tiles lm_soft;
static inline lm_soft_tiles *soft(void) { if (!lm_soft.on) __builtin_trap(); return &lm_soft; }
static inline void soft_config(const void *p) {
    const uint8_t *c = p;
    memset(&lm_soft, 0, sizeof lm_soft);
    for (int i = 0; i < 8; i++) { memcpy(&lm_soft.bytes[i], c + 16 + 2 * i, 2); lm_soft.rows[i] = c[48 + i]; }
    lm_soft.on = 1;
}
static inline void soft_load(int n, const void *p, int64_t stride) {
    lm_soft_tiles *s = soft();
    memset(s->t[n], 0, sizeof s->t[n]);
    for (int r = 0; r < s->rows[n]; r++) memcpy(s->t[n][r], (const char *)p + r * stride, s->bytes[n]);
}
static inline void soft_store(int n, void *p, int64_t stride) {
    const lm_soft_tiles *s = soft();
    for (int r = 0; r < s->rows[n]; r++) memcpy((char *)p + r * stride, s->t[n][r], s->bytes[n]);
}
static inline void soft_zero(int n) { memset(soft()->t[n], 0, sizeof lm_soft.t[n]); }
static inline __m512 soft_even(__m512i pair) { return _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16)); }
static inline __m512 soft_odd(__m512i pair) { return _mm512_castsi512_ps(_mm512_and_si512(pair, _mm512_set1_epi32((int)0xffff0000u))); }
enum { SOFT_DENORMALS = 0x8040 };                                  /* flush to zero, denormals are zero */
static inline void soft_dp(int d, int a, int b) {
    lm_soft_tiles *s = soft();
    const unsigned csr = _mm_getcsr();
    _mm_setcsr(csr | SOFT_DENORMALS);
    __asm__ volatile("" ::: "memory");                             /* arithmetic stays between the two */
    for (int m = 0; m < s->rows[a]; m++) {
        __m512 e = _mm512_setzero_ps(), o = e;
        for (int k = 0; k < s->rows[b] && k < 16; k++) {
            int32_t pair; memcpy(&pair, &s->t[a][m][4 * k], 4);
            const __m512i x = _mm512_set1_epi32(pair), y = _mm512_loadu_si512(s->t[b][k]);
            e = _mm512_fmadd_ps(soft_even(x), soft_even(y), e);
            o = _mm512_fmadd_ps(soft_odd(x), soft_odd(y), o);
        }
        _mm512_storeu_ps(s->t[d][m], _mm512_add_ps(_mm512_loadu_ps(s->t[d][m]), _mm512_add_ps(e, o)));
    }
    __asm__ volatile("" ::: "memory");
    _mm_setcsr(csr);
}
/* vdpbf16ps: the odd product first, then the even one, each an FMA. */
static inline __m512 soft_dpbf16(__m512 c, __m512i a, __m512i b) {
    const unsigned csr = _mm_getcsr();
    _mm_setcsr(csr | SOFT_DENORMALS);
    __asm__ volatile("" : "+v"(c));
    c = _mm512_fmadd_ps(soft_even(a), soft_even(b), _mm512_fmadd_ps(soft_odd(a), soft_odd(b), c));
    __asm__ volatile("" : "+v"(c));
    _mm_setcsr(csr);
    return c;
}
/* vcvtneps2bf16: denormals become zero, NaN quiet. */
static inline __m256i soft_cvt(__m512 x) {
    const __m512i u = _mm512_castps_si512(x), mag = _mm512_and_si512(u, _mm512_set1_epi32(0x7fffffff));
    __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(_mm512_set1_epi32(0x7fff), _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1))));
    r = _mm512_mask_or_epi32(r, _mm512_cmpgt_epi32_mask(mag, _mm512_set1_epi32(0x7f800000)), u, _mm512_set1_epi32(0x400000));
    r = _mm512_mask_and_epi32(r, _mm512_cmplt_epi32_mask(mag, _mm512_set1_epi32(0x800000)), u, _mm512_set1_epi32((int)0x80000000u));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16));
}
static inline __m512i soft_cvt2(__m512 hi, __m512 lo) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(soft_cvt(lo)), soft_cvt(hi), 1);
}
#undef _tile_loadconfig
#undef _tile_release
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadconfig(p) soft_config(p)
#define _tile_release() (lm_soft.on = 0)
#define _tile_loadd(n, p, stride) soft_load(n, p, stride)
#define _tile_stored(n, p, stride) soft_store(n, p, stride)
#define _tile_zero(n) soft_zero(n)
#define _tile_dpbf16ps(d, a, b) soft_dp(d, a, b)
#define _mm512_cvtne2ps_pbh(hi, lo) ((__m512bh)soft_cvt2(hi, lo))
#define _mm512_dpbf16_ps(c, a, b) soft_dpbf16(c, (__m512i)(a), (__m512i)(b))
#endif
