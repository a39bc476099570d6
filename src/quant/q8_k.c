/* q8_k.c — 256 signed bytes, a float as scale and the sums of every 16 bytes, as products with K formats want their activations: x ≈ d·q. 9.125 bits.
 * Files do not hold it by custom; a reader takes it. Read only.
 *
 *   | d f32 | q[256] i8 | 16 sums i16 |                                                                 292 bytes */
#include "quant/quant_int.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 292) {
        float d; memcpy(&d, b, 4);
        for (int j = 0; j < LM_QK_K; j++) dst[i + j] = d * (float)(int8_t)b[4 + j];
    }
}
const lm_quant lm_quant_q8_k = { .name = "Q8_K", .gguf_id = 15, .block = LM_QK_K, .n_comp = 1, .comp = { { "blocks", 292 } }, .bits = 9.125,
                               .to_float = to_float };
