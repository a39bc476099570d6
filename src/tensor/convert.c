/* convert.c — between float types, each result rounded once from the source's exact value (loops: tensor_simd.c). */
#include "tensor/tensor_int.h"
#include <string.h>

float lm_f16_to_f32(uint16_t h) { return lm_f16_in(h); }
uint16_t lm_f32_to_f16(float f) { return lm_f16_out(f); }
float lm_f8_to_f32(uint8_t b, lm_dtype kind) {
    float f;
    lm_tensor_loops_portable.to_f32[kind == LM_F8_E5M2 ? LM_F8_E5M2 : LM_F8_E4M3](&f, &b, 1);
    return f;
}

void lm_convert(void *dst, lm_dtype dd, const void *src, lm_dtype sd, int64_t n) {
    if (n <= 0 || !lm_dtype_is_float(dd) || !lm_dtype_is_float(sd)) return;
    if (dd == sd) { memmove(dst, src, (size_t)n * lm_dtype_size(dd)); return; }
    const lm_tensor_loops *l = lm_tensor_loops_best();
    if (sd == LM_F32) { l->from_f32[dd](dst, src, n); return; }
    if (dd == LM_F32) { l->to_f32[sd](dst, src, n); return; }
    /* through f32 in blocks that stay in the first-level cache; every type but f64 is exact in f32, and that one is rounded to odd */
    lm_cvt_loop *in = sd == LM_F64 ? l->f64_odd : l->to_f32[sd];
    float buf[1024];
    for (int64_t i = 0; i < n; i += LM_COUNT(buf)) {
        const int64_t m = lm_min64(n - i, LM_COUNT(buf));
        in(buf, (const char *)src + (size_t)i * lm_dtype_size(sd), m);
        l->from_f32[dd]((char *)dst + (size_t)i * lm_dtype_size(dd), buf, m);
    }
}
