/* q4_k.c — super-blocks of 256: eight groups of 32 nibbles, each with a 6-bit scale and minimum: x ≈ d·s·q - dmin·m. 4.5 bits.
 *
 *   | d f16 | dmin f16 | 12 bytes of scales and minima | 128 bytes of codes |                                 144 bytes
 * Codes: 32 bytes per 64 elements, the first 32 in the low nibbles. */
#include "quant/quant_fit.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 144) {
        const float d = lm_q_f16(b), dmin = lm_q_f16(b + 2);
        for (int g = 0; g < 8; g++) {
            int s, m; lm_q_scale_min(b + 4, g, &s, &m);
            const float scale = d * (float)s, min = dmin * (float)m;
            const uint8_t *codes = b + 16 + g / 2 * 32;
            for (int j = 0; j < 32; j++) dst[i + g * 32 + j] = scale * (float)(codes[j] >> (g % 2 * 4) & 15) - min;
        }
    }
}
static const lm_q_affine fit = { .groups = 8, .len = 32, .top = 15, .s_top = 63 };
static void search(const lm_quant *q, const float *src, const float *weight, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 144) {
        lm_q_affine_fit y;
        lm_q_fit_affine(&fit, src + i, weight ? weight + i : NULL, &y);
        memcpy(b, &y.d, 2); memcpy(b + 2, &y.dmin, 2);
        lm_q_put_scale_min(b + 4, y.s, y.m);
        for (int j = 0; j < 128; j++) b[16 + j] = (uint8_t)(y.code[j / 32 * 64 + j % 32] | y.code[j / 32 * 64 + 32 + j % 32] << 4);
    }
}
static void from_float(const lm_quant *q, const float *src, int64_t n, void *const *comp) { search(q, src, NULL, n, comp); }
const lm_quant lm_quant_q4_k = { .name = "Q4_K", .gguf_id = 12, .block = LM_QK_K, .n_comp = 1, .comp = { { "blocks", 144 } }, .bits = 4.5,
                                 .panels = true, .head = 2, .to_float = to_float, .from_float = from_float, .search = search };
