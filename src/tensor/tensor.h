/* tensor.h — what a block of numbers is: dtype, shape, strides, physical layout, and the view that kernels get.
 *
 * A tensor here is a plain description with a pointer: it owns nothing. Shapes are in paper order, outermost first. A quantized tensor is
 * dtype LM_QUANT plus a format row (quant/quant.h) that knows its components; its shape is the logical one. The physical layout is a property
 * of storage: PLAIN is strided, the PANEL layouts interleave 16 output rows so that kernels vectorize across outputs and every output
 * keeps one order of additions (GEMV and GEMM give the same bits):
 *
 *   W (N, K) f32  PANEL16   : [ceil(N/16)][K][16]            element (n,k) at ((n/16)*K + k)*16 + n%16
 *   W (N, K) bf16 PANEL16X2 : [ceil(N/16)][Kp/2][16][2]      Kp = K rounded up to 32 (one AMX tile); pads are zero
 *   W (N, K) QUANT PANEL16  : [ceil(N/16)][blocks]{ two-byte numbers [][16]; byte[groups of four][16][4] }      where the format's row says `panels`;
 *                             of higher rank too: N is all dimensions but the last, folded
 *
 * Lifetime: data is borrowed.  Threads: values.  Errors: none here. */
#ifndef LM_TENSOR_H
#define LM_TENSOR_H
#include "base/base.h"
enum { LM_MAX_RANK = 4 };
/*        name  safetensors  bytes float */
#define LM_DTYPE_MAP(X) X(F32, "F32", 4, 1) X(F64, "F64", 8, 1) X(F16, "F16", 2, 1) X(BF16, "BF16", 2, 1) X(F8_E4M3, "F8_E4M3", 1, 1) \
    X(F8_E5M2, "F8_E5M2", 1, 1) X(I8, "I8", 1, 0) X(U8, "U8", 1, 0) X(I16, "I16", 2, 0) X(U16, "U16", 2, 0) X(I32, "I32", 4, 0)        \
    X(U32, "U32", 4, 0) X(I64, "I64", 8, 0) X(U64, "U64", 8, 0) X(BOOL, "BOOL", 1, 0) X(QUANT, "QUANT", 0, 0)
typedef enum {
#define X(n, st, b, f) LM_##n,
    LM_DTYPE_MAP(X)
#undef X
    LM_N_DTYPE
} lm_dtype;
const char *lm_dtype_name(lm_dtype d);              /* "F32": the safetensors spelling */
bool lm_dtype_parse(const char *s, lm_dtype *out);  /* any case; "float32", "bfloat16"… too */
size_t lm_dtype_size(lm_dtype d);                   /* 0 for QUANT */
bool lm_dtype_is_float(lm_dtype d);

typedef enum { LM_PLAIN, LM_PANEL16, LM_PANEL16X2 } lm_layout;
typedef struct lm_quant lm_quant;

typedef struct lm_tensor {
    void *data;
    int64_t dim[LM_MAX_RANK];       /* outermost first; unused are 1 */
    int64_t stride[LM_MAX_RANK];    /* in elements, PLAIN only */
    int8_t rank, dtype, layout;     /* lm_dtype, lm_layout */
    const lm_quant *quant;          /* dtype LM_QUANT */
} lm_tensor;

lm_tensor lm_tensor_of(void *data, lm_dtype d, int rank, const int64_t *dim);      /* contiguous PLAIN */
static inline int64_t lm_numel(const lm_tensor *t) { int64_t n = 1; for (int i = 0; i < t->rank; i++) n *= t->dim[i]; return n; }
bool lm_is_contig(const lm_tensor *t);
/* All but the last dimension folded: (rows, cols). A rank-1 tensor is one row. */
static inline int64_t lm_cols(const lm_tensor *t) { return t->rank ? t->dim[t->rank - 1] : 1; }
static inline int64_t lm_rows(const lm_tensor *t) { int64_t n = 1; for (int i = 0; i + 1 < t->rank; i++) n *= t->dim[i]; return n; }
/* Bytes of storage for a shape in a layout (QUANT: from the format row). False on overflow. */
bool lm_storage_bytes(lm_dtype d, const lm_quant *q, lm_layout l, int rank, const int64_t *dim, size_t *out);

/* ---- scalar conversions (round to nearest even; NaN kept, quieted) ------------------------------------------ */
static inline float lm_bf16_to_f32(uint16_t h) { union { uint32_t u; float f; } v = { .u = (uint32_t)h << 16 }; return v.f; }
static inline uint16_t lm_f32_to_bf16(float f) {
    union { float f; uint32_t u; } v = { .f = f };
    if ((v.u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((v.u >> 16) | 0x40u);
    return (uint16_t)((v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16); }
float lm_f16_to_f32(uint16_t h);
uint16_t lm_f32_to_f16(float f);
float lm_f8_to_f32(uint8_t b, lm_dtype kind);       /* E4M3 is the "fn" kind: no infinities, NaN 0x7f */
/* n elements, any float dtype to any float dtype, contiguous. */
void lm_convert(void *dst, lm_dtype dd, const void *src, lm_dtype sd, int64_t n);

/* ---- layouts: logical (N, K) rows <-> storage ---------------------------------------------------------------- */
/* Write rows [row0, row0+n) given contiguous f32 into storage of dtype F32/BF16 in layout l; K = dim[1]. Pads are the caller's (zeroed storage). */
void lm_layout_put_rows(const lm_tensor *w, int64_t row0, int64_t n, const float *src);
void lm_layout_get_rows(const lm_tensor *w, int64_t row0, int64_t n, float *dst);   /* works for PLAIN, panels and QUANT */
#endif
