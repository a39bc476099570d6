/* quant_int.h — small pieces the formats share.
 *
 * Lifetime: none.  Threads: pure.  Errors: none; codes of NaN are 0 (the scale of such a block is NaN or infinite, so it stays visible). */
#ifndef LM_QUANT_INT_H
#define LM_QUANT_INT_H
#include "quant/quant.h"
#include <math.h>
#include <string.h>
enum { LM_QK = 32, LM_QK_K = 256 };
/* little-endian, as all our machines */
static inline float lm_q_f16(const uint8_t *p) { uint16_t h; memcpy(&h, p, 2); return lm_f16_to_f32(h); }
static inline unsigned lm_q_u16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return v; }
static inline uint32_t lm_q_u32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline void lm_q_put16(uint8_t *p, float f) { const uint16_t h = lm_f32_to_f16(f); memcpy(p, &h, 2); }
/* truncate to 0..top */
static inline uint8_t lm_q_code(float v, int top) { return v >= (float)top ? (uint8_t)top : v > 0 ? (uint8_t)v : 0; }
/* -1, 0, 1 as 0, 1, 2: the nearest, halves away from zero; anything that is not a number is 0 */
static inline unsigned lm_q_ternary(float v) { return v >= 0.5f ? 2 : v <= -0.5f ? 0 : 1; }
/* four-bit floats (E2M1), doubled */
static const int8_t lm_q_e2m1[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };
/* IQ4_NL, IQ4_XS: what the sixteen codes mean */
static const int8_t lm_q_iq4[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };
static inline uint8_t lm_q_iq4_code(int8_t level) { int c = 0; while (c < 15 && lm_q_iq4[c] < level) c++; return (uint8_t)c; }
static inline float lm_q_inverse(float d) { return d != 0 ? 1.0f / d : 0.0f; }
/* the element of largest magnitude, with its sign; the first of equals */
static inline float lm_q_extreme(const float *x, int n) {
    float best = 0, at = 0;
    for (int i = 0; i < n; i++) if (fabsf(x[i]) > best) { best = fabsf(x[i]); at = x[i]; }
    return at;
}
static inline void lm_q_range(const float *x, int n, float *lo, float *hi) {
    *lo = *hi = x[0];
    for (int i = 1; i < n; i++) { if (x[i] < *lo) *lo = x[i]; if (x[i] > *hi) *hi = x[i]; }
}
/* Q4_K and Q5_K: eight 6-bit scales and minima in 12 bytes. Bytes 0-3 hold scales 0-3, bytes 4-7 minima 0-3 (six low bits each); bytes 8-11 hold the
 * low nibbles of scales (low half) and minima (high half) 4-7, whose upper two bits are the top bits of bytes 0-7. */
static inline void lm_q_scale_min(const uint8_t s[12], int i, int *scale, int *min) {
    if (i < 4) { *scale = s[i] & 63; *min = s[i + 4] & 63; }
    else { *scale = (s[i + 4] & 15) | (s[i - 4] >> 6) << 4; *min = s[i + 4] >> 4 | (s[i] >> 6) << 4; }
}
static inline void lm_q_put_scale_min(uint8_t p[12], const uint8_t scale[8], const uint8_t min[8]) {
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(scale[i] | scale[i + 4] >> 4 << 6);
        p[i + 4] = (uint8_t)(min[i] | min[i + 4] >> 4 << 6);
        p[i + 8] = (uint8_t)((scale[i + 4] & 15) | (min[i + 4] & 15) << 4);
    }
}
#endif
