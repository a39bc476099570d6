/* q5_0.c — 32 five-bit codes and a half-precision scale: x ≈ d·(q - 16). 5.5 bits.
 *
 *   | d f16 | u32: fifth bit of element j is bit j | 16 bytes: low four bits, as in Q4_0 |             22 bytes */
#include "quant/quant_fit.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 22) {
        const float d = lm_q_f16(b);
        uint32_t high; memcpy(&high, b + 2, 4);
        for (int j = 0; j < 16; j++) {
            dst[i + j] = (float)((int)((b[6 + j] & 15u) | (high >> j & 1u) << 4) - 16) * d;
            dst[i + j + 16] = (float)((int)(b[6 + j] >> 4 | (high >> (j + 16) & 1u) << 4) - 16) * d;
        }
    }
}
static void from_float(const lm_quant *q, const float *src, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 22) {
        const float *x = src + i, d = lm_q_extreme(x, LM_QK) / -16.0f, id = lm_q_inverse(d);
        uint32_t high = 0;
        lm_q_put16(b, d);
        for (int j = 0; j < 16; j++) {
            const uint32_t u = lm_q_code(x[j] * id + 16.5f, 31), v = lm_q_code(x[j + 16] * id + 16.5f, 31);
            b[6 + j] = (uint8_t)((u & 15) | (v & 15) << 4);
            high |= u >> 4 << j | v >> 4 << (j + 16);
        }
        memcpy(b + 2, &high, 4);
    }
}
static const lm_q_scaled fit = { .groups = 1, .len = 32, .lo = -16, .hi = 15, .s_lo = 0, .s_hi = 0 };
static void search(const lm_quant *q, const float *src, const float *weight, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 22) {
        lm_q_scaled_fit y;
        lm_q_fit_scaled(&fit, src + i, weight ? weight + i : NULL, &y);
        memcpy(b, &y.d, 2); memset(b + 2, 0, 20);
        for (int j = 0; j < LM_QK; j++) {
            const int c = y.level[j] + 16;
            b[2 + j / 8] |= (uint8_t)(c >> 4 << (j % 8));
            b[6 + j % 16] |= (uint8_t)((c & 15) << (j / 16 * 4));
        }
    }
}
const lm_quant lm_quant_q5_0 = { .name = "Q5_0", .gguf_id = 6, .block = LM_QK, .n_comp = 1, .comp = { { "blocks", 22 } }, .bits = 5.5,
                                 .panels = true, .head = 1, .to_float = to_float, .from_float = from_float, .search = search };
