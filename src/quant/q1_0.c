/* q1_0.c — 128 signs and a half-precision scale: x ≈ ±d, bit set for plus. 1.125 bits. Read only.
 *
 *   | d f16 | 16 bytes: element j is bit j |                                                              18 bytes */
#include "quant/quant_int.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += 128, b += 18) {
        const float d = lm_q_f16(b);
        for (int j = 0; j < 128; j++) dst[i + j] = b[2 + j / 8] >> (j % 8) & 1 ? d : -d;
    }
}
const lm_quant lm_quant_q1_0 = { .name = "Q1_0", .gguf_id = 41, .block = 128, .n_comp = 1, .comp = { { "blocks", 18 } }, .bits = 1.125,
                               .to_float = to_float };
