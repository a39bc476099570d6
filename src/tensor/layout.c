/* layout.c — logical rows into storage. Whole panels of sixteen rows take the packed loops; the ends of a range go element by element.
 * (Reading back, which covers quantized storage too, stands with the formats in quant/quant.c.) */
#include "tensor/tensor_int.h"

void lm_layout_put_rows(const lm_tensor *w, int64_t row0, int64_t n, const float *src) {
    const int64_t k = lm_cols(w), kp = lm_round_up(k, 32);
    if (w->layout == LM_PLAIN) {
        const int64_t ld = w->rank > 1 ? w->stride[w->rank - 2] : k;
        const size_t size = lm_dtype_size((lm_dtype)w->dtype);
        for (int64_t r = 0; r < n; r++)
            lm_convert((char *)w->data + (size_t)((row0 + r) * ld) * size, (lm_dtype)w->dtype, src + r * k, LM_F32, k);
        return;
    }
    const lm_tensor_loops *l = lm_tensor_loops_best();
    for (int64_t r = row0, end = row0 + n; r < end;) {
        const int64_t first = r % 16, here = lm_min64(16 - first, end - r);
        const float *s = src + (r - row0) * k;
        if (w->layout == LM_PANEL16) {
            float *p = (float *)w->data + r / 16 * k * 16;
            if (here == 16) l->put16(p, k, s);
            else for (int64_t i = 0; i < here; i++) for (int64_t j = 0; j < k; j++) p[j * 16 + first + i] = s[i * k + j];
        } else {
            uint16_t *p = (uint16_t *)w->data + r / 16 * kp * 16;
            if (here == 16) l->put16x2(p, k, s);
            else for (int64_t i = 0; i < here; i++)
                for (int64_t j = 0; j < k; j++) p[j / 2 * 32 + 2 * (first + i) + j % 2] = lm_f32_to_bf16(s[i * k + j]);
        }
        r += here;
    }
}
