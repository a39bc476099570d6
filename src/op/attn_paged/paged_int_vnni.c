/* paged_int_vnni.c — scores with keys in blocks by vpdpbusd: sixteen keys are the lanes, four dimensions an instruction; a block of 32 takes eight of
 * them for each row, after eight loads (Q4_0: four) that all rows share. */
#include <immintrin.h>
#include <string.h>
#include "op/attn_paged/paged_int.h"
#define PI_INLINE static inline __attribute__((always_inline))
PI_INLINE void keys(const lm_pi_kind kind, const int R, const lm_pi_keys *k, int r0, int g0, int g1, float *s) {
    const int64_t nb = k->a->nb, step = kind == LM_PI_Q8_0 ? 544 : 288;
    const int8_t *q = k->a->q + r0 * k->a->D;
    const float *d = k->a->d + r0 * nb;
    const int32_t *start = k->a->start + r0 * nb;
    for (int g = g0; g < g1; g++) {
        const char *p = k->keys + g * nb * step, *ahead = k->next + g * nb * step;
        __m512 acc[LM_PI_ROWS];
        for (int r = 0; r < R; r++) acc[r] = _mm512_setzero_ps();
        for (int64_t b = 0; b < nb; b++, p += step, ahead += step) {
            const __m512 dk = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
            __m512i x[LM_PI_ROWS];
            for (int r = 0; r < R; r++) x[r] = _mm512_set1_epi32(start[r * nb + b]);
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                __m512i w;
                if (kind == LM_PI_Q8_0) w = _mm512_xor_si512(_mm512_loadu_si512(p + 32 + 64 * i), _mm512_set1_epi8((char)128));
                else {
                    w = _mm512_loadu_si512(p + 32 + 64 * (i % 4));
                    w = _mm512_and_si512(i / 4 ? _mm512_srli_epi16(w, 4) : w, _mm512_set1_epi8(15));
                }
                if (kind == LM_PI_Q8_0 || i % 2) _mm_prefetch(ahead + (kind == LM_PI_Q8_0 ? 64 : 32) * i, _MM_HINT_T0);
                for (int r = 0; r < R; r++) {
                    int32_t four;
                    memcpy(&four, q + r * k->a->D + b * 32 + i * 4, 4);
                    x[r] = _mm512_dpbusd_epi32(x[r], w, _mm512_set1_epi32(four));
                }
            }
            for (int r = 0; r < R; r++) acc[r] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_set1_ps(d[r * nb + b]), dk), _mm512_cvtepi32_ps(x[r]), acc[r]);
        }
        for (int r = 0; r < R; r++) _mm512_storeu_ps(s + r * LM_KV_PAGE + g * 16, _mm512_mul_ps(acc[r], _mm512_set1_ps(k->scale)));
    }
}
void lm_pi_nt_vnni(const lm_pi_keys *k, int r, int rows, int g0, int g1, float *s) {
    switch (rows * 2 + (k->kind == LM_PI_Q8_0)) {
#define CASE(R) case (R) * 2: keys(LM_PI_Q4_0, R, k, r, g0, g1, s); break; case (R) * 2 + 1: keys(LM_PI_Q8_0, R, k, r, g0, g1, s); break;
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#undef CASE
    default: break;
    }
}
