/* iq1_s.c — super-blocks of 256: 32 vectors of eight numbers from {-1, 0, 1}, one of 2048 each, shifted by ±1/8; groups of 32 share an odd scale and
 * the shift: x ≈ d·(2·s + 1)·(grid ± 1/8). 1.5625 bits. Read only.
 *
 *   | d f16 | 32 bytes: low eight bits of the codes | 8 × u16 |                                            50 bytes
 * u16 of group g: three upper bits of code k at 3·k, the scale at 12, the sign of the shift at 15 (set: -1/8). */
#include "quant/quant_grid.h"
#include "quant/quant_int.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 50) {
        const float d = lm_q_f16(b);
        for (int g = 0; g < 8; g++) {
            const unsigned h = lm_q_u16(b + 34 + 2 * g);
            const float scale = d * (float)(2 * (h >> 12 & 7) + 1), delta = h >> 15 ? -0.125f : 0.125f;
            for (int k = 0; k < 4; k++)
                lm_q_iq1(dst + i + g * 32 + k * 8, scale, lm_q_grid_iq1s[b[2 + g * 4 + k] | (h >> (3 * k) & 7) << 8], delta);
        }
    }
}
const lm_quant lm_quant_iq1_s = { .name = "IQ1_S", .gguf_id = 19, .block = LM_QK_K, .n_comp = 1, .comp = { { "blocks", 50 } }, .bits = 1.5625,
                               .to_float = to_float };
