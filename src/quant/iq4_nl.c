/* iq4_nl.c — 32 nibbles that index a fixed non-uniform table, and a half-precision scale: x ≈ d·table[q]. 4.5 bits. Read only.
 *
 *   | d f16 | 16 bytes: element j in the low nibble, element j + 16 in the high one |                  18 bytes */
#include "quant/quant_int.h"

static const int8_t table[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };
static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 18) {
        const float d = lm_q_f16(b);
        for (int j = 0; j < 16; j++) {
            dst[i + j] = d * table[b[2 + j] & 15];
            dst[i + j + 16] = d * table[b[2 + j] >> 4];
        }
    }
}
const lm_quant lm_quant_iq4_nl = { .name = "IQ4_NL", .gguf_id = 20, .block = LM_QK, .n_comp = 1, .comp = { { "blocks", 18 } }, .bits = 4.5,
                                   .to_float = to_float };
