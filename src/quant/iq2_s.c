/* iq2_s.c — super-blocks of 256: 32 vectors of eight magnitudes, one of 1024 each, and all eight signs; groups of 16 share a 4-bit scale:
 * x ≈ ±d·(s + 1/2)/4·grid. 2.5625 bits. Read only.
 *
 *   | d f16 | 32 bytes: low eight bits of the codes | 32 bytes of signs | 8 bytes: upper two bits of code k at 2·k | 8 bytes: scale of group g in
 *   nibble g |                                                                                             82 bytes */
#include "quant/quant_grid.h"
#include "quant/quant_int.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 82) {
        const float d = lm_q_f16(b);
        for (int k = 0; k < 32; k++) {
            const unsigned code = b[2 + k] | (b[66 + k / 4] >> (k % 4 * 2) & 3u) << 8, s = b[74 + k / 4] >> (k / 2 % 2 * 4) & 15u;
            lm_q_iq2(dst + i + k * 8, d * (0.5f + (float)s) * 0.25f, lm_q_grid_iq2s[code], b[34 + k]);
        }
    }
}
const lm_quant lm_quant_iq2_s = { .name = "IQ2_S", .gguf_id = 22, .block = LM_QK_K, .n_comp = 1, .comp = { { "blocks", 82 } }, .bits = 2.5625,
                               .to_float = to_float };
