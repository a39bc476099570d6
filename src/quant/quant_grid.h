/* quant_grid.h — codebooks of the IQ formats. Element i of a packed entry: (entry >> 2·i) & 3 (IQ1: less 1; IQ2: index into 8, 25, 43), or
 * (entry >> 4·i) & 7 (IQ3_XXS: index into 4, 12 … 52, 62; IQ3_S: 2·v + 1).
 *
 * Lifetime: static const.  Threads: pure.  Errors: none; an index is as wide as its table. */
#ifndef LM_QUANT_GRID_H
#define LM_QUANT_GRID_H
#include <stdint.h>
extern const uint16_t lm_q_grid_iq1s[2048], lm_q_grid_iq2xxs[256], lm_q_grid_iq2xs[512], lm_q_grid_iq2s[1024], lm_q_grid_iq3xxs[256],
    lm_q_grid_iq3s[512];
/* Seven signs are stored, the eighth makes the number of minuses even. */
static inline unsigned lm_q_signs(unsigned seven) { return (seven & 127) | ((unsigned)__builtin_popcount(seven & 127) & 1) << 7; }
/* Eight elements of IQ2, four of IQ3: d·magnitude, negative where the bit in signs is set. */
static inline void lm_q_iq2(float *dst, float d, unsigned entry, unsigned signs) {
    static const uint8_t value[4] = { 8, 25, 43, 0 };
    for (int i = 0; i < 8; i++) {
        const float v = d * (float)value[entry >> (2 * i) & 3];
        dst[i] = signs >> i & 1 ? -v : v;
    }
}
static inline void lm_q_iq1(float *dst, float d, unsigned entry, float delta) {
    for (int i = 0; i < 8; i++) dst[i] = d * ((float)((int)(entry >> (2 * i) & 3) - 1) + delta);
}
#endif
