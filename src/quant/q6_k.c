/* q6_k.c — super-blocks of 256: sixteen groups of 16 six-bit codes, each with a signed byte as scale: x ≈ d·s·(q - 32). 6.5625 bits. Read only.
 *
 *   | 128 bytes: low four bits | 64 bytes: upper two | 16 signed scales | d f16 |                               210 bytes
 * Two halves of 128, each four runs of 32. Low bits: runs 0 and 1 in the low nibbles of bytes 0-31 and 32-63, runs 2 and 3 in the high ones.
 * Upper bits: byte l holds run r of element l at position 2·r. */
#include "quant/quant_int.h"

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
const lm_quant lm_quant_q6_k = { .name = "Q6_K", .gguf_id = 14, .block = LM_QK_K, .n_comp = 1, .comp = { { "blocks", 210 } }, .bits = 6.5625,
                                 .to_float = to_float };
