/* iq4_nl.c — 32 nibbles that index a fixed non-uniform table, and a half-precision scale: x ≈ d·lm_q_iq4[q]. 4.5 bits.
 *
 *   | d f16 | 16 bytes: element j in the low nibble, element j + 16 in the high one |                  18 bytes */
#include "quant/quant_fit.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 18) {
        const float d = lm_q_f16(b);
        for (int j = 0; j < 16; j++) {
            dst[i + j] = d * lm_q_iq4[b[2 + j] & 15];
            dst[i + j + 16] = d * lm_q_iq4[b[2 + j] >> 4];
        }
    }
}
static const lm_q_scaled fit = { .groups = 1, .len = 32, .lo = -127, .hi = 113, .table = lm_q_iq4, .s_lo = 0, .s_hi = 0 };
static void search(const lm_quant *q, const float *src, const float *weight, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 18) {
        lm_q_scaled_fit y;
        lm_q_fit_scaled(&fit, src + i, weight ? weight + i : NULL, &y);
        memcpy(b, &y.d, 2);
        for (int j = 0; j < 16; j++) b[2 + j] = (uint8_t)(lm_q_iq4_code(y.level[j]) | lm_q_iq4_code(y.level[j + 16]) << 4);
    }
}
static void from_float(const lm_quant *q, const float *src, int64_t n, void *const *comp) { search(q, src, NULL, n, comp); }
const lm_quant lm_quant_iq4_nl = { .name = "IQ4_NL", .gguf_id = 20, .block = LM_QK, .n_comp = 1, .comp = { { "blocks", 18 } }, .bits = 4.5,
                                   .panels = true, .head = 1, .to_float = to_float, .from_float = from_float, .search = search };
