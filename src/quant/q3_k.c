/* q3_k.c — super-blocks of 256: sixteen groups of 16 three-bit codes, each with a signed 6-bit scale: x ≈ d·(s - 32)·(q - 4). 3.4375 bits.
 *
 *   | 32 bytes: third bits | 64 bytes: low two bits, as in Q2_K | 12 bytes of scales | d f16 |             110 bytes
 * Third bit of element 32·k + l is bit k of byte l. Scale i: low nibble in byte i % 8 (its low half for i < 8, high half after), upper two bits
 * in byte 8 + i % 4, at position 2·(i / 4). */
#include "quant/quant_fit.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 110) {
        const uint8_t *codes = b + 32, *packed = b + 96;
        const float d = lm_q_f16(b + 108);
        float scale[16];
        for (int g = 0; g < 16; g++) {
            const int low = packed[g % 8] >> (g / 8 * 4) & 15, high = packed[8 + g % 4] >> (g / 4 * 2) & 3;
            scale[g] = d * (float)((low | high << 4) - 32);
        }
        for (int j = 0; j < LM_QK_K; j++) {
            const int low = codes[j / 128 * 32 + j % 32] >> (j % 128 / 32 * 2) & 3, high = b[j % 32] >> (j / 32) & 1;
            dst[i + j] = scale[j / 16] * (float)((low | high << 2) - 4);
        }
    }
}
static const lm_q_scaled fit = { .groups = 16, .len = 16, .lo = -4, .hi = 3, .s_lo = -32, .s_hi = 31 };
static void search(const lm_quant *q, const float *src, const float *weight, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 110) {
        lm_q_scaled_fit y;
        lm_q_fit_scaled(&fit, src + i, weight ? weight + i : NULL, &y);
        memset(b, 0, 108);
        for (int g = 0; g < 16; g++) {
            const int s = y.s[g] + 32;
            b[96 + g % 8] |= (uint8_t)((s & 15) << (g / 8 * 4));
            b[104 + g % 4] |= (uint8_t)(s >> 4 << (g / 4 * 2));
        }
        for (int j = 0; j < LM_QK_K; j++) {
            const int c = y.level[j] + 4;
            b[32 + j / 128 * 32 + j % 32] |= (uint8_t)((c & 3) << (j % 128 / 32 * 2));
            b[j % 32] |= (uint8_t)(c >> 2 << (j / 32));
        }
        memcpy(b + 108, &y.d, 2);
    }
}
static void from_float(const lm_quant *q, const float *src, int64_t n, void *const *comp) { search(q, src, NULL, n, comp); }
const lm_quant lm_quant_q3_k = { .name = "Q3_K", .gguf_id = 11, .block = LM_QK_K, .n_comp = 1, .comp = { { "blocks", 110 } }, .bits = 3.4375,
                                 .to_float = to_float, .from_float = from_float, .search = search };
