/* q4_1.c — 32 nibbles, a scale and a minimum: x ≈ d·q + m. 5 bits.
 *
 *   | d f16 | m f16 | 16 bytes: element j in the low nibble, element j + 16 in the high one |          20 bytes */
#include "quant/quant_fit.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 20) {
        const float d = lm_q_f16(b), m = lm_q_f16(b + 2);
        for (int j = 0; j < 16; j++) {
            dst[i + j] = (float)(b[4 + j] & 15) * d + m;
            dst[i + j + 16] = (float)(b[4 + j] >> 4) * d + m;
        }
    }
}
static void from_float(const lm_quant *q, const float *src, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 20) {
        const float *x = src + i;
        float lo, hi; lm_q_range(x, LM_QK, &lo, &hi);
        const float d = (hi - lo) / 15.0f, id = lm_q_inverse(d);
        lm_q_put16(b, d); lm_q_put16(b + 2, lo);
        for (int j = 0; j < 16; j++)
            b[4 + j] = (uint8_t)(lm_q_code((x[j] - lo) * id + 0.5f, 15) | lm_q_code((x[j + 16] - lo) * id + 0.5f, 15) << 4);
    }
}
static const lm_q_affine fit = { .groups = 1, .len = 32, .top = 15, .s_top = 0 };
static void search(const lm_quant *q, const float *src, const float *weight, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 20) {
        lm_q_affine_fit y;
        lm_q_fit_affine(&fit, src + i, weight ? weight + i : NULL, &y);
        memcpy(b, &y.d, 2); memcpy(b + 2, &y.dmin, 2);
        for (int j = 0; j < 16; j++) b[4 + j] = (uint8_t)(y.code[j] | y.code[j + 16] << 4);
    }
}
const lm_quant lm_quant_q4_1 = { .name = "Q4_1", .gguf_id = 3, .block = LM_QK, .n_comp = 1, .comp = { { "blocks", 20 } }, .bits = 5.0,
                                 .panels = true, .head = 2, .to_float = to_float, .from_float = from_float, .search = search };
