/* q5_1.c — 32 five-bit codes, a scale and a minimum: x ≈ d·q + m. 6 bits.
 *
 *   | d f16 | m f16 | u32: fifth bit of element j is bit j | 16 bytes: low four bits, as in Q4_1 |     24 bytes */
#include "quant/quant_fit.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 24) {
        const float d = lm_q_f16(b), m = lm_q_f16(b + 2);
        uint32_t high; memcpy(&high, b + 4, 4);
        for (int j = 0; j < 16; j++) {
            dst[i + j] = (float)((b[8 + j] & 15u) | (high >> j & 1u) << 4) * d + m;
            dst[i + j + 16] = (float)(b[8 + j] >> 4 | (high >> (j + 16) & 1u) << 4) * d + m;
        }
    }
}
static void from_float(const lm_quant *q, const float *src, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 24) {
        const float *x = src + i;
        float lo, hi; lm_q_range(x, LM_QK, &lo, &hi);
        const float d = (hi - lo) / 31.0f, id = lm_q_inverse(d);
        uint32_t high = 0;
        lm_q_put16(b, d); lm_q_put16(b + 2, lo);
        for (int j = 0; j < 16; j++) {
            const uint32_t u = lm_q_code((x[j] - lo) * id + 0.5f, 31), v = lm_q_code((x[j + 16] - lo) * id + 0.5f, 31);
            b[8 + j] = (uint8_t)((u & 15) | (v & 15) << 4);
            high |= u >> 4 << j | v >> 4 << (j + 16);
        }
        memcpy(b + 4, &high, 4);
    }
}
static const lm_q_affine fit = { .groups = 1, .len = 32, .top = 31, .s_top = 0 };
static void search(const lm_quant *q, const float *src, const float *weight, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 24) {
        lm_q_affine_fit y;
        lm_q_fit_affine(&fit, src + i, weight ? weight + i : NULL, &y);
        memcpy(b, &y.d, 2); memcpy(b + 2, &y.dmin, 2); memset(b + 4, 0, 20);
        for (int j = 0; j < LM_QK; j++) {
            b[4 + j / 8] |= (uint8_t)(y.code[j] >> 4 << (j % 8));
            b[8 + j % 16] |= (uint8_t)((y.code[j] & 15) << (j / 16 * 4));
        }
    }
}
const lm_quant lm_quant_q5_1 = { .name = "Q5_1", .gguf_id = 7, .block = LM_QK, .n_comp = 1, .comp = { { "blocks", 24 } }, .bits = 6.0,
                                 .panels = true, .head = 2, .to_float = to_float, .from_float = from_float, .search = search };
