/* iq2_xs.c — super-blocks of 256: 32 vectors of eight magnitudes, one of 512 each, and signs; groups of 16 share a 4-bit scale:
 * x ≈ ±d·(s + 1/2)/4·grid. 2.3125 bits. Read only.
 *
 *   | d f16 | 32 × u16: code in nine bits, seven sign bits above | 8 bytes: scale of group g in nibble g |  74 bytes */
#include "quant/quant_grid.h"
#include "quant/quant_int.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 74) {
        const float d = lm_q_f16(b);
        for (int k = 0; k < 32; k++) {
            const unsigned code = lm_q_u16(b + 2 + 2 * k), s = b[66 + k / 4] >> (k / 2 % 2 * 4) & 15u;
            lm_q_iq2(dst + i + k * 8, d * (0.5f + (float)s) * 0.25f, lm_q_grid_iq2xs[code & 511], lm_q_signs(code >> 9));
        }
    }
}
const lm_quant lm_quant_iq2_xs = { .name = "IQ2_XS", .gguf_id = 17, .block = LM_QK_K, .n_comp = 1, .comp = { { "blocks", 74 } }, .bits = 2.3125,
                               .to_float = to_float };
