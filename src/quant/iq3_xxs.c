/* iq3_xxs.c — super-blocks of 256: 64 vectors of four magnitudes from eight (4, 12 … 52, 62), one of 256 each, and signs; groups of 32 share a 4-bit
 * scale: x ≈ ±d·(s + 1/2)/2·grid. 3.0625 bits. Read only.
 *
 *   | d f16 | 64 bytes of codes | 8 × u32: seven sign bits of elements 8·k … of the group at 7·k, its scale at 28 |   98 bytes */
#include "quant/quant_grid.h"
#include "quant/quant_int.h"

static const uint8_t value[8] = { 4, 12, 20, 28, 36, 44, 52, 62 };
static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 98) {
        const float d = lm_q_f16(b);
        for (int j = 0; j < LM_QK_K; j++) {
            const uint32_t h = lm_q_u32(b + 66 + j / 32 * 4);
            const float v = d * (0.5f + (float)(h >> 28)) * 0.5f * (float)value[lm_q_grid_iq3xxs[b[2 + j / 4]] >> (j % 4 * 4) & 7];
            dst[i + j] = lm_q_signs(h >> (j % 32 / 8 * 7)) >> (j % 8) & 1 ? -v : v;
        }
    }
}
const lm_quant lm_quant_iq3_xxs = { .name = "IQ3_XXS", .gguf_id = 18, .block = LM_QK_K, .n_comp = 1, .comp = { { "blocks", 98 } }, .bits = 3.0625,
                               .to_float = to_float };
