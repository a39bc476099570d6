/* tensor_simd.c — conversion loops and panel packing, one source for every instruction set.
 *
 * Weights are converted and interleaved while they are read, so this must keep up with memory: conversions are straight lines of integer
 * and float steps that the compiler vectorizes; packing transposes 16x16 words in registers (four rounds of interleaving halves, which
 * rotate the bits of the element's index until row and column have changed places).
 * Rounding to nearest even throughout; overflow gives infinity (E4M3 has none: NaN); NaN stays NaN. */
#include "tensor/tensor_int.h"
#include <string.h>
#ifdef LM_ISA_IS_avx512
#define NEEDS LM_CPU_AVX512
#elif defined(LM_ISA_IS_avx2)
#define NEEDS LM_CPU_AVX2
#else
#define NEEDS 0
#endif

/* E5M2 is the upper half of f16. E4M3 (bias 7) is shifted into f32's place and scaled by 2^120, exact for subnormals too. */
static inline float e5m2_in(uint8_t b) { return lm_f16_in((uint16_t)(b << 8)); }
static inline float e4m3_in(uint8_t b) {
    const uint32_t sign = (uint32_t)(b & 0x80u) << 24, a = b & 0x7fu;
    const uint32_t mag = lm_f32_bits(lm_f32_of_bits(a << 20) * 0x1p120f);
    return lm_f32_of_bits(sign | (a == 0x7fu ? 0x7fc00000u : mag));
}
static inline uint8_t e5m2_out(float f) {
    const uint32_t u = lm_f32_bits(f), a = u & 0x7fffffffu, sign = u >> 24 & 0x80u;
    const uint32_t normal = (a - (112u << 23) + 0xfffffu + (a >> 21 & 1u)) >> 21;
    const uint32_t small = lm_f32_bits(lm_f32_of_bits(a) + 0x1p7f) - 0x43000000u;       /* ulp of 2^7 is 2^-16, the smallest subnormal */
    return (uint8_t)(sign | (a > 0x7f800000u ? 0x7eu : a >= 0x47700000u ? 0x7cu : a < 0x38800000u ? small : normal));
}
static inline uint8_t e4m3_out(float f) {
    const uint32_t u = lm_f32_bits(f), a = u & 0x7fffffffu, sign = u >> 24 & 0x80u;
    const uint32_t normal = (a - (120u << 23) + 0x7ffffu + (a >> 20 & 1u)) >> 20;
    const uint32_t small = lm_f32_bits(lm_f32_of_bits(a) + 0x1p14f) - 0x46800000u;      /* ulp of 2^14 is 2^-9 */
    return (uint8_t)(sign | (a > 0x43e80000u ? 0x7fu : a < 0x3c800000u ? small : normal));   /* 464 rounds to 448, more is NaN */
}
/* Lost bits are OR-ed into the last one, so that a later rounding to 22 bits or fewer is as if from the double itself. */
static inline float f64_odd(double d) {
    const float f = (float)d;
    const double back = (double)f;
    if (back == d || f != f) return f;
    uint32_t u = lm_f32_bits(f);
    const uint32_t mag = u & 0x7fffffffu;
    if (mag == 0x7f800000u || (mag && (back > d) == (back > 0))) u--;    /* rounded away from zero: one step back */
    return lm_f32_of_bits(u | 1u);
}
#define LOOP(name, D, S, expr)                                                          \
    static void name(void *restrict dst, const void *restrict src, int64_t n) {          \
        D *restrict y = dst; const S *restrict x = src;                                  \
        for (int64_t i = 0; i < n; i++) y[i] = (expr);                                   \
    }
LOOP(f32_f64, double, float, (double)x[i])
LOOP(f32_f16, uint16_t, float, lm_f16_out(x[i]))
LOOP(f32_bf16, uint16_t, float, lm_f32_to_bf16(x[i]))
LOOP(f32_e4m3, uint8_t, float, e4m3_out(x[i]))
LOOP(f32_e5m2, uint8_t, float, e5m2_out(x[i]))
LOOP(f64_f32, float, double, (float)x[i])
LOOP(f64_f32_odd, float, double, f64_odd(x[i]))
LOOP(f16_f32, float, uint16_t, lm_f16_in(x[i]))
LOOP(bf16_f32, float, uint16_t, lm_bf16_to_f32(x[i]))
LOOP(e4m3_f32, float, uint8_t, e4m3_in(x[i]))
LOOP(e5m2_f32, float, uint8_t, e5m2_in(x[i]))

/* ---- packing ------------------------------------------------------------------------------------------------------ */
typedef uint32_t word16 __attribute__((vector_size(64)));
static inline word16 load(const void *p) { word16 v; memcpy(&v, p, sizeof v); return v; }
static inline void transpose(word16 a[16]) {
    for (int round = 0; round < 4; round++) {
        word16 t[16];
        for (int i = 0; i < 8; i++) {
            t[2 * i] = __builtin_shufflevector(a[i], a[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            t[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        for (int i = 0; i < 16; i++) a[i] = t[i];
    }
}
static inline word16 round_bf16(word16 u) {                   /* in the low half */
    const word16 normal = (u + 0x7fffu + (u >> 16 & 1u)) >> 16, nan = u >> 16 | 0x40u;
    const word16 is_nan = (word16)((u & 0x7fffffffu) > 0x7f800000u);
    return (nan & is_nan) | (normal & ~is_nan);
}
static void put16(float *restrict panel, int64_t k, const float *restrict src) {
    int64_t i = 0;
    for (; i + 16 <= k; i += 16) {
        word16 a[16];
        for (int r = 0; r < 16; r++) a[r] = load(src + r * k + i);
        transpose(a);
        memcpy(panel + i * 16, a, sizeof a);
    }
    for (; i < k; i++) for (int r = 0; r < 16; r++) panel[i * 16 + r] = src[r * k + i];
}
static void put16x2(uint16_t *restrict panel, int64_t k, const float *restrict src) {
    int64_t i = 0;
    for (; i + 32 <= k; i += 32) {
        word16 a[16];
        for (int r = 0; r < 16; r++) {
            const word16 x = load(src + r * k + i), y = load(src + r * k + i + 16);
            const word16 even = __builtin_shufflevector(x, y, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            const word16 odd = __builtin_shufflevector(x, y, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            a[r] = round_bf16(even) | round_bf16(odd) << 16;
        }
        transpose(a);
        memcpy(panel + i * 16, a, sizeof a);
    }
    for (; i < k; i++) for (int r = 0; r < 16; r++) panel[i / 2 * 32 + 2 * r + i % 2] = lm_f32_to_bf16(src[r * k + i]);
}

const lm_tensor_loops LM_TENSOR_CAT(lm_tensor_loops, LM_ISA) = {
    .name = LM_TENSOR_STR(LM_ISA), .needs = NEEDS,
    .from_f32 = { [LM_F64] = f32_f64, [LM_F16] = f32_f16, [LM_BF16] = f32_bf16, [LM_F8_E4M3] = f32_e4m3, [LM_F8_E5M2] = f32_e5m2 },
    .to_f32 = { [LM_F64] = f64_f32, [LM_F16] = f16_f32, [LM_BF16] = bf16_f32, [LM_F8_E4M3] = e4m3_f32, [LM_F8_E5M2] = e5m2_f32 },
    .f64_odd = f64_f32_odd, .put16 = put16, .put16x2 = put16x2,
};
