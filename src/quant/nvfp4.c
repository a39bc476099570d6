/* nvfp4.c — blocks of 64: four groups of 16 numbers of 4 bits (E2M1), each with an 8-bit scale (unsigned E4M3): x ≈ s·q. 4.5 bits. Read only.
 *
 *   | 4 scales u8 | 32 bytes: 8 per group, element j in the low nibble, element j + 8 in the high one |     36 bytes
 * The table holds doubled values, so half the scale is used; scale codes 0 and 0x7f mean zero, the sign bit means nothing. */
#include "quant/quant_int.h"

static float half_scale(uint8_t c) {
    if (!c || c == 0x7f) return 0;
    const int e = c >> 3 & 15, m = c & 7;
    return e ? ldexpf((float)(8 + m), e - 11) : ldexpf((float)m, -10);
}
static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += 64, b += 36)
        for (int g = 0; g < 4; g++) {
            const float d = half_scale(b[g]);
            for (int j = 0; j < 8; j++) {
                dst[i + g * 16 + j] = (float)lm_q_e2m1[b[4 + g * 8 + j] & 15] * d;
                dst[i + g * 16 + j + 8] = (float)lm_q_e2m1[b[4 + g * 8 + j] >> 4] * d;
            }
        }
}
const lm_quant lm_quant_nvfp4 = { .name = "NVFP4", .gguf_id = 40, .block = 64, .n_comp = 1, .comp = { { "blocks", 36 } }, .bits = 4.5,
                               .to_float = to_float };
