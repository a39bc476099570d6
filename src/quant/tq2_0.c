/* tq2_0.c — blocks of 256 ternary numbers in two bits each and a scale: x ≈ d·(t - 1). 2.0625 bits.
 *
 *   | 64 bytes: two halves of 128; byte l (0-31) holds elements l, l+32, l+64, l+96, lowest bits first | d f16 |      66 bytes
 * Writing gives t in {0, 1, 2}; a fourth code in a file means 2·d. */
#include "quant/quant_int.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 66) {
        const float d = lm_q_f16(b + 64);
        for (int j = 0; j < LM_QK_K; j++) dst[i + j] = (float)((int)(b[j / 128 * 32 + j % 32] >> (j % 128 / 32 * 2) & 3) - 1) * d;
    }
}
static void from_float(const lm_quant *q, const float *src, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 66) {
        const float *x = src + i, d = fabsf(lm_q_extreme(x, LM_QK_K)), id = lm_q_inverse(d);
        memset(b, 0, 64);
        for (int j = 0; j < LM_QK_K; j++) b[j / 128 * 32 + j % 32] |= (uint8_t)(lm_q_ternary(x[j] * id) << (j % 128 / 32 * 2));
        lm_q_put16(b + 64, d);
    }
}
const lm_quant lm_quant_tq2_0 = { .name = "TQ2_0", .gguf_id = 35, .block = LM_QK_K, .n_comp = 1, .comp = { { "blocks", 66 } }, .bits = 2.0625,
                               .to_float = to_float, .from_float = from_float };
