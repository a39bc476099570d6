/* q6_k.c — super-blocks of 256: sixteen groups of 16 six-bit codes, each with a signed byte as scale: x ≈ d·s·(q - 32). 6.5625 bits.
 *
 *   | 128 bytes: low four bits | 64 bytes: upper two | 16 signed scales | d f16 |                               210 bytes
 * Two halves of 128, each four runs of 32. Low bits: runs 0 and 1 in the low nibbles of bytes 0-31 and 32-63, runs 2 and 3 in the high ones.
 * Upper bits: byte l holds run r of element l at position 2·r. */
#include "quant/quant_fit.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 210) {
        const float d = lm_q_f16(b + 208);
        for (int j = 0; j < LM_QK_K; j++) {
            const int half = j / 128, run = j % 128 / 32, l = j % 32;
            const int low = b[half * 64 + run % 2 * 32 + l] >> (run / 2 * 4) & 15, high = b[128 + half * 32 + l] >> (run * 2) & 3;
            const float scale = d * (float)(int8_t)b[192 + j / 16];
            dst[i + j] = scale * (float)((low | high << 4) - 32);
        }
    }
}
static const lm_q_scaled fit = { .groups = 16, .len = 16, .lo = -32, .hi = 31, .s_lo = -128, .s_hi = 127 };
static void search(const lm_quant *q, const float *src, const float *weight, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 210) {
        lm_q_scaled_fit y;
        lm_q_fit_scaled(&fit, src + i, weight ? weight + i : NULL, &y);
        memset(b, 0, 192);
        for (int j = 0; j < LM_QK_K; j++) {
            const int c = y.level[j] + 32, half = j / 128, run = j % 128 / 32, l = j % 32;
            b[half * 64 + run % 2 * 32 + l] |= (uint8_t)((c & 15) << (run / 2 * 4));
            b[128 + half * 32 + l] |= (uint8_t)(c >> 4 << (run * 2));
        }
        memcpy(b + 192, y.s, 16); memcpy(b + 208, &y.d, 2);
    }
}
static void from_float(const lm_quant *q, const float *src, int64_t n, void *const *comp) { search(q, src, NULL, n, comp); }
const lm_quant lm_quant_q6_k = { .name = "Q6_K", .gguf_id = 14, .block = LM_QK_K, .n_comp = 1, .comp = { { "blocks", 210 } }, .bits = 6.5625,
                                 .panels = true, .tail = 1, .to_float = to_float, .from_float = from_float, .search = search };
