/* iq3_s.c — super-blocks of 256: 64 vectors of four odd magnitudes from 1 to 15, one of 512 each, and all signs; groups of 32 share an odd scale:
 * x ≈ ±d·(2·s + 1)·grid. 3.4375 bits. Read only.
 *
 *   | d f16 | 64 bytes: low eight bits of the codes | 8 bytes: ninth bits | 32 bytes of signs | 4 bytes: scale of group g in
 *   nibble g |                                                                                            110 bytes */
#include "quant/quant_grid.h"
#include "quant/quant_int.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 110) {
        const float d = lm_q_f16(b);
        for (int j = 0; j < LM_QK_K; j++) {
            const int k = j / 4, g = j / 32;
            const unsigned code = b[2 + k] | (b[66 + k / 8] >> (k % 8) & 1u) << 8, s = b[106 + g / 2] >> (g % 2 * 4) & 15u;
            const float v = d * (float)(1 + 2 * s) * (float)(2 * (lm_q_grid_iq3s[code] >> (j % 4 * 4) & 7) + 1);
            dst[i + j] = b[74 + j / 8] >> (j % 8) & 1 ? -v : v;
        }
    }
}
const lm_quant lm_quant_iq3_s = { .name = "IQ3_S", .gguf_id = 21, .block = LM_QK_K, .n_comp = 1, .comp = { { "blocks", 110 } }, .bits = 3.4375,
                               .to_float = to_float };
