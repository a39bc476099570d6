/* iq4_xs.c — super-blocks of 256: eight groups of 32 nibbles into IQ4_NL's table, each with a signed 6-bit scale: x ≈ d·(s - 32)·lm_q_iq4[q].
 * 4.25 bits.
 *
 *   | d f16 | u16: upper two bits of scale g at 2·g | 4 bytes: low four bits of scale g in byte g/2 | 128 bytes of codes |   136 bytes
 * Codes: 16 bytes per group, element j in the low nibble, element j + 16 in the high one. */
#include "quant/quant_fit.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 136) {
        const float d = lm_q_f16(b);
        for (int g = 0; g < 8; g++) {
            const int low = b[4 + g / 2] >> (g % 2 * 4) & 15, high = (b[2 + g / 4] >> (g % 4 * 2)) & 3;
            const float scale = d * (float)((low | high << 4) - 32);
            const uint8_t *codes = b + 8 + g * 16;
            for (int j = 0; j < 16; j++) {
                dst[i + g * 32 + j] = scale * lm_q_iq4[codes[j] & 15];
                dst[i + g * 32 + j + 16] = scale * lm_q_iq4[codes[j] >> 4];
            }
        }
    }
}
static const lm_q_scaled fit = { .groups = 8, .len = 32, .lo = -127, .hi = 113, .table = lm_q_iq4, .s_lo = -32, .s_hi = 31 };
static void search(const lm_quant *q, const float *src, const float *weight, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 136) {
        lm_q_scaled_fit y;
        lm_q_fit_scaled(&fit, src + i, weight ? weight + i : NULL, &y);
        memset(b, 0, 8); memcpy(b, &y.d, 2);
        for (int g = 0; g < 8; g++) {
            const int s = y.s[g] + 32;
            b[4 + g / 2] |= (uint8_t)((s & 15) << (g % 2 * 4));
            b[2 + g / 4] |= (uint8_t)(s >> 4 << (g % 4 * 2));
            for (int j = 0; j < 16; j++)
                b[8 + g * 16 + j] = (uint8_t)(lm_q_iq4_code(y.level[g * 32 + j]) | lm_q_iq4_code(y.level[g * 32 + 16 + j]) << 4);
        }
    }
}
static void from_float(const lm_quant *q, const float *src, int64_t n, void *const *comp) { search(q, src, NULL, n, comp); }
const lm_quant lm_quant_iq4_xs = { .name = "IQ4_XS", .gguf_id = 23, .block = LM_QK_K, .n_comp = 1, .comp = { { "blocks", 136 } }, .bits = 4.25,
                                   .to_float = to_float, .from_float = from_float, .search = search };
