/* q8_0.c — 32 signed bytes and a half-precision scale: x ≈ d·q, d = max|x| / 127. 8.5 bits.
 *
 *   | d f16 | q[32] i8 |                                                                               34 bytes */
#include "quant/quant_int.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 34) {
        const float d = lm_q_f16(b);
        for (int j = 0; j < LM_QK; j++) dst[i + j] = (float)(int8_t)b[2 + j] * d;
    }
}
static void from_float(const lm_quant *q, const float *src, int64_t n, void *const *comp) {
    (void)q;
    uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK, b += 34) {
        const float d = fabsf(lm_q_extreme(src + i, LM_QK)) / 127.0f, id = lm_q_inverse(d);
        lm_q_put16(b, d);
        for (int j = 0; j < LM_QK; j++) {
            const float v = roundf(src[i + j] * id);
            b[2 + j] = (uint8_t)(int8_t)(v >= 127 ? 127 : v <= -127 ? -127 : v == v ? (int)v : 0);
        }
    }
}
const lm_quant lm_quant_q8_0 = { .name = "Q8_0", .gguf_id = 8, .block = LM_QK, .n_comp = 1, .comp = { { "blocks", 34 } }, .bits = 8.5,
                                 .panels = true, .head = 1, .to_float = to_float, .from_float = from_float };
