/* tensor_int.h — loops compiled once per instruction set (files *_simd.c), for this room and its tests.
 *
 * Every set gives the same bits: integer steps and exact or singly rounded float steps only. So the choice is by what the machine has,
 * without a mask.
 *
 * Lifetime: static const.  Threads: pure.  Errors: none. */
#ifndef LM_TENSOR_INT_H
#define LM_TENSOR_INT_H
#include "tensor/tensor.h"
#include "device/cpu.h"
typedef void lm_cvt_loop(void *restrict dst, const void *restrict src, int64_t n);
typedef struct {
    const char *name; uint64_t needs;
    lm_cvt_loop *from_f32[LM_N_DTYPE], *to_f32[LM_N_DTYPE];   /* NULL where there is none */
    lm_cvt_loop *f64_odd;                                     /* f64 to f32, rounded to odd */
    void (*put16)(float *restrict panel, int64_t k, const float *restrict src);        /* 16 whole rows into a panel */
    void (*put16x2)(uint16_t *restrict panel, int64_t k, const float *restrict src);
} lm_tensor_loops;
extern const lm_tensor_loops lm_tensor_loops_avx512, lm_tensor_loops_avx2, lm_tensor_loops_portable;
static inline const lm_tensor_loops *lm_tensor_loops_best(void) {
    const uint64_t have = lm_cpu_features();
    return (have & LM_CPU_AVX512) ? &lm_tensor_loops_avx512 : (have & LM_CPU_AVX2) ? &lm_tensor_loops_avx2 : &lm_tensor_loops_portable;
}
#define LM_TENSOR_CAT2(a, b) a##_##b
#define LM_TENSOR_CAT(a, b) LM_TENSOR_CAT2(a, b)
#define LM_TENSOR_STR2(a) #a
#define LM_TENSOR_STR(a) LM_TENSOR_STR2(a)
/* Half precision to single and back, also used one at a time. Subnormal halves are normalized by subtracting the implicit one in float
 * arithmetic: 2^-14·(1+m) - 2^-14 = m·2^-24, exactly. Subnormal results are rounded by adding 0.5, whose ulp is 2^-24. */
static inline uint32_t lm_f32_bits(float f) { union { float f; uint32_t u; } v = { .f = f }; return v.u; }
static inline float lm_f32_of_bits(uint32_t u) { union { uint32_t u; float f; } v = { .u = u }; return v.f; }
static inline float lm_f16_in(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, em = (uint32_t)(h & 0x7fffu) << 13, e = em & 0x0f800000u;
    const uint32_t normal = em + (112u << 23);
    const uint32_t special = (normal + (112u << 23)) | ((em & 0x007fffffu) ? 0x00400000u : 0u);
    const uint32_t small = lm_f32_bits(lm_f32_of_bits(em + (113u << 23)) - 0x1p-14f);
    return lm_f32_of_bits(sign | (e == 0x0f800000u ? special : e == 0 ? small : normal));
}
static inline uint16_t lm_f16_out(float f) {
    const uint32_t u = lm_f32_bits(f), a = u & 0x7fffffffu, sign = u >> 16 & 0x8000u;
    const uint32_t normal = (a - (112u << 23) + 0xfffu + (a >> 13 & 1u)) >> 13;
    const uint32_t small = lm_f32_bits(lm_f32_of_bits(a) + 0.5f) - 0x3f000000u;
    const uint32_t nan = 0x7e00u | (a >> 13 & 0x3ffu);
    return (uint16_t)(sign | (a > 0x7f800000u ? nan : a >= 0x477ff000u ? 0x7c00u : a < 0x38800000u ? small : normal));
}
#endif
