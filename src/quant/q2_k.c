/* q2_k.c — super-blocks of 256: sixteen groups of 16 two-bit codes, each with a 4-bit scale and minimum: x ≈ d·s·q - dmin·m. 2.625 bits.
 *
 *   | 16 bytes: s low nibble, m high | 64 bytes of codes | d f16 | dmin f16 |                            84 bytes
 * Codes: two halves of 128; byte l (0-31) of a half holds elements l, l+32, l+64, l+96, lowest bits first. */
#include "quant/quant_fit.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 84) {
        const uint8_t *codes = b + 16;
        const float d = lm_q_f16(b + 80), dmin = lm_q_f16(b + 82);
        for (int j = 0; j < LM_QK_K; j++) {
            const int half = j / 128, shift = j % 128 / 32 * 2, s = b[j / 16];
            const float scale = d * (float)(s & 15), min = dmin * (float)(s >> 4);
            dst[i + j] = scale * (float)(codes[half * 32 + j % 32] >> shift & 3) - min;
        }
    }
}
static const lm_q_affine fit = { .groups = 16, .len = 16, .top = 3, .s_top = 15 };
static void search(const lm_quant *q, const float *src, const float *weight, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 84) {
        lm_q_affine_fit y;
        lm_q_fit_affine(&fit, src + i, weight ? weight + i : NULL, &y);
        memset(b, 0, 80);
        for (int g = 0; g < 16; g++) b[g] = (uint8_t)(y.s[g] | y.m[g] << 4);
        for (int j = 0; j < LM_QK_K; j++) b[16 + j / 128 * 32 + j % 32] |= (uint8_t)(y.code[j] << (j % 128 / 32 * 2));
        memcpy(b + 80, &y.d, 2); memcpy(b + 82, &y.dmin, 2);
    }
}
static void from_float(const lm_quant *q, const float *src, int64_t n, void *const *comp) { search(q, src, NULL, n, comp); }
const lm_quant lm_quant_q2_k = { .name = "Q2_K", .gguf_id = 10, .block = LM_QK_K, .n_comp = 1, .comp = { { "blocks", 84 } }, .bits = 2.625,
                                 .to_float = to_float, .from_float = from_float, .search = search };
