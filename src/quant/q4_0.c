/* q4_0.c — 32 nibbles and a half-precision scale: x ≈ d·(q - 8). The scale is signed so that the largest magnitude is exactly -8. 4.5 bits.
 *
 *   | d f16 | 16 bytes: element j in the low nibble, element j + 16 in the high one |                  18 bytes */
#include "quant/quant_fit.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 18) {
        const float d = lm_q_f16(b);
        for (int j = 0; j < 16; j++) {
            dst[i + j] = (float)((b[2 + j] & 15) - 8) * d;
            dst[i + j + 16] = (float)((b[2 + j] >> 4) - 8) * d;
        }
    }
}
static void from_float(const lm_quant *q, const float *src, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 18) {
        const float *x = src + i, d = lm_q_extreme(x, LM_QK) / -8.0f, id = lm_q_inverse(d);
        lm_q_put16(b, d);
        for (int j = 0; j < 16; j++)
            b[2 + j] = (uint8_t)(lm_q_code(x[j] * id + 8.5f, 15) | lm_q_code(x[j + 16] * id + 8.5f, 15) << 4);
    }
}
static const lm_q_scaled fit = { .groups = 1, .len = 32, .lo = -8, .hi = 7, .s_lo = 0, .s_hi = 0 };
static void search(const lm_quant *q, const float *src, const float *weight, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 18) {
        lm_q_scaled_fit y;
        lm_q_fit_scaled(&fit, src + i, weight ? weight + i : NULL, &y);
        memcpy(b, &y.d, 2);
        for (int j = 0; j < 16; j++) b[2 + j] = (uint8_t)((y.level[j] + 8) | (y.level[j + 16] + 8) << 4);
    }
}
const lm_quant lm_quant_q4_0 = { .name = "Q4_0", .gguf_id = 2, .block = LM_QK, .n_comp = 1, .comp = { { "blocks", 18 } }, .bits = 4.5,
                                 .panels = true, .head = 1, .to_float = to_float, .from_float = from_float, .search = search };
