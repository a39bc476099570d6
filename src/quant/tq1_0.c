/* tq1_0.c — blocks of 256 ternary numbers and a scale, five to a byte: x ≈ d·(t - 1), t in {0, 1, 2}. 1.6875 bits.
 *
 *   | 32 bytes: elements l + 32·k | 16 bytes: elements 160 + l + 16·k | 4 bytes: elements 240 + l + 4·k (four each) | d f16 |   54 bytes
 * A byte is ⌈256·v / 243⌉ with v = Σ t_k·3^(4 - k): multiplied by 3^k modulo 256, its next digit stands above the point (t = 3·byte / 256). */
#include "quant/quant_int.h"

static const struct { int at, bytes, digits, first; } part[3] = { { 0, 32, 5, 0 }, { 32, 16, 5, 160 }, { 48, 4, 4, 240 } };
static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 54) {
        const float d = lm_q_f16(b + 52);
        for (int p = 0; p < 3; p++) for (int l = 0; l < part[p].bytes; l++) {
            unsigned v = b[part[p].at + l];
            for (int k = 0; k < part[p].digits; k++, v = v * 3 & 255)
                dst[i + part[p].first + k * part[p].bytes + l] = (float)((int)(v * 3 >> 8) - 1) * d;
        }
    }
}
static void from_float(const lm_quant *q, const float *src, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 54) {
        const float *x = src + i, d = fabsf(lm_q_extreme(x, LM_QK_K)), id = lm_q_inverse(d);
        for (int p = 0; p < 3; p++) for (int l = 0; l < part[p].bytes; l++) {
            unsigned v = 0;
            for (int k = 0; k < 5; k++) v = v * 3 + (k < part[p].digits ? lm_q_ternary(x[part[p].first + k * part[p].bytes + l] * id) : 0u);
            b[part[p].at + l] = (uint8_t)((v * 256 + 242) / 243);
        }
        lm_q_put16(b + 52, d);
    }
}
const lm_quant lm_quant_tq1_0 = { .name = "TQ1_0", .gguf_id = 34, .block = LM_QK_K, .n_comp = 1, .comp = { { "blocks", 54 } }, .bits = 1.6875,
                               .to_float = to_float, .from_float = from_float };
