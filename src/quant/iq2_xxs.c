/* iq2_xxs.c — super-blocks of 256: 32 vectors of eight magnitudes from {8, 25, 43}, one of 256 each, and signs; groups of 32 share a 4-bit scale:
 * x ≈ ±d·(s + 1/2)/4·grid. 2.0625 bits. Read only.
 *
 *   | d f16 | 8 groups: 4 bytes of codes, u32: seven sign bits of code k at 7·k, the scale at 28 |         66 bytes */
#include "quant/quant_grid.h"
#include "quant/quant_int.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 66) {
        const float d = lm_q_f16(b);
        for (int g = 0; g < 8; g++) {
            const uint8_t *code = b + 2 + g * 8;
            const uint32_t h = lm_q_u32(code + 4);
            const float scale = d * (0.5f + (float)(h >> 28)) * 0.25f;
            for (int k = 0; k < 4; k++) lm_q_iq2(dst + i + g * 32 + k * 8, scale, lm_q_grid_iq2xxs[code[k]], lm_q_signs(h >> (7 * k)));
        }
    }
}
const lm_quant lm_quant_iq2_xxs = { .name = "IQ2_XXS", .gguf_id = 16, .block = LM_QK_K, .n_comp = 1, .comp = { { "blocks", 66 } }, .bits = 2.0625,
                               .to_float = to_float };
