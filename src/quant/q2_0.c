/* q2_0.c — 64 two-bit codes and a half-precision scale: x ≈ d·(q - 1). 2.25 bits. Read only.
 *
 *   | d f16 | 16 bytes: element j at bits 2·j |                                                           18 bytes */
#include "quant/quant_int.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += 64, b += 18) {
        const float d = lm_q_f16(b);
        for (int j = 0; j < 64; j++) dst[i + j] = (float)((int)(b[2 + j / 4] >> (j % 4 * 2) & 3) - 1) * d;
    }
}
const lm_quant lm_quant_q2_0 = { .name = "Q2_0", .gguf_id = 42, .block = 64, .n_comp = 1, .comp = { { "blocks", 18 } }, .bits = 2.25,
                               .to_float = to_float };
