/* iq1_m.c — IQ1_S with a scale for every 16 elements and a shift for every 8: x ≈ d·(2·s + 1)·(grid ± 1/8). 1.75 bits. Read only.
 *
 *   | 32 bytes: low eight bits of the codes | 16 bytes: a nibble for each code | 4 × u16: scales |         56 bytes
 * Nibble: three upper bits of the code, then the sign of its shift (set: -1/8). u16 number u holds the scales of groups of 16 4·u … 4·u + 3, three
 * bits each, and in its top four bits bits 4·u … of the half-precision d. */
#include "quant/quant_grid.h"
#include "quant/quant_int.h"

static void to_float(const lm_quant *q, const void *const *comp, int64_t n, float *dst) {
    (void)q;
    const uint8_t *b = comp[0];
    for (int64_t i = 0; i < n; i += LM_QK_K, b += 56) {
        unsigned s[4], half = 0;
        for (int u = 0; u < 4; u++) { s[u] = lm_q_u16(b + 48 + 2 * u); half |= s[u] >> 12 << (4 * u); }
        const float d = lm_f16_to_f32((uint16_t)half);
        for (int k = 0; k < 32; k++) {
            const unsigned h = b[32 + k / 2] >> (k % 2 * 4) & 15u;
            const float scale = d * (float)(2 * (s[k / 8] >> (k / 2 % 4 * 3) & 7) + 1);
            lm_q_iq1(dst + i + k * 8, scale, lm_q_grid_iq1s[b[k] | (h & 7) << 8], h & 8 ? -0.125f : 0.125f);
        }
    }
}
const lm_quant lm_quant_iq1_m = { .name = "IQ1_M", .gguf_id = 29, .block = LM_QK_K, .n_comp = 1, .comp = { { "blocks", 56 } }, .bits = 1.75,
                               .to_float = to_float };
