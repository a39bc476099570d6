/* mxfp4.c — OCP microscaling: 32 numbers of 4 bits (E2M1) and one power-of-two scale (E8M0): x ≈ 2^(e-127)·q. 4.25 bits.
 *
 *   | e u8 | 16 bytes: element j in the low nibble, element j + 16 in the high one |                   17 bytes
 * The table holds doubled values, so the scale used is 2^(e-128); for e < 2 that is subnormal. Quantizing takes the exponent of the largest magnitude
 * less 2 (the largest E2M1 number is 6 = 1.5·2^2, so values up to 8 saturate) and then the nearest number, the smaller code of equals. */
#include "quant/quant_int.h"

static float half_scale(uint8_t e) {
    const uint32_t u = e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23;
    float f; memcpy(&f, &u, 4); return f;
}
static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 17) {
        const float d = half_scale(b[0]);
        for (int j = 0; j < 16; j++) {
            dst[i + j] = d * lm_q_e2m1[b[1 + j] & 15];
            dst[i + j + 16] = d * lm_q_e2m1[b[1 + j] >> 4];
        }
    }
}
static uint8_t nearest(float x, float d) {
    uint8_t best = 0; float err = fabsf(x);
    for (uint8_t c = 1; c < 16; c++) {
        const float e = fabsf(d * lm_q_e2m1[c] - x);
        if (e < err) { err = e; best = c; }
    }
    return best;
}
static void from_float(const lm_quant *q, const float *src, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 17) {
        const float *x = src + i, top = fabsf(lm_q_extreme(x, LM_QK));
        int e = 0;
        if (top > 0 && isfinite(top)) { frexpf(top, &e); e += 127 - 3; }          /* floor(log2 top) = e - 1 */
        b[0] = (uint8_t)(e < 0 ? 0 : e > 254 ? 254 : e);
        const float d = half_scale(b[0]);
        for (int j = 0; j < 16; j++) b[1 + j] = (uint8_t)(nearest(x[j], d) | nearest(x[j + 16], d) << 4);
    }
}
const lm_quant lm_quant_mxfp4 = { .name = "MXFP4", .gguf_id = 39, .block = LM_QK, .n_comp = 1, .comp = { { "blocks", 17 } }, .bits = 4.25,
                                  .to_float = to_float, .from_float = from_float };
