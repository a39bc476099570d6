/* tensor.c — dtype table and descriptions of tensors. */
#include "tensor/tensor.h"
#include <string.h>
#include <strings.h>

static const struct { const char *name; uint8_t size; bool is_float; } rows[LM_N_DTYPE] = {
#define X(n, st, b, f) [LM_##n] = { st, b, f },
    LM_DTYPE_MAP(X)
#undef X
};
/* How frameworks spell them in config.json and on command lines. */
static const struct { const char *name; lm_dtype d; } others[] = {
    { "float32", LM_F32 }, { "float", LM_F32 }, { "fp32", LM_F32 }, { "float64", LM_F64 }, { "double", LM_F64 }, { "fp64", LM_F64 },
    { "float16", LM_F16 }, { "half", LM_F16 }, { "fp16", LM_F16 }, { "bfloat16", LM_BF16 },
    { "float8_e4m3fn", LM_F8_E4M3 }, { "float8_e4m3", LM_F8_E4M3 }, { "e4m3", LM_F8_E4M3 }, { "float8_e5m2", LM_F8_E5M2 }, { "e5m2", LM_F8_E5M2 },
    { "int8", LM_I8 }, { "uint8", LM_U8 }, { "int16", LM_I16 }, { "uint16", LM_U16 }, { "int32", LM_I32 }, { "uint32", LM_U32 },
    { "int64", LM_I64 }, { "uint64", LM_U64 },
};
static bool known(int d) { return d >= 0 && d < LM_N_DTYPE; }
const char *lm_dtype_name(lm_dtype d) { return known((int)d) ? rows[d].name : "?"; }
size_t lm_dtype_size(lm_dtype d) { return known((int)d) ? rows[d].size : 0; }
bool lm_dtype_is_float(lm_dtype d) { return known((int)d) && rows[d].is_float; }
bool lm_dtype_parse(const char *s, lm_dtype *out) {
    if (!s) return false;
    if (!strncasecmp(s, "torch.", 6)) s += 6;
    for (int i = 0; i < LM_QUANT; i++) if (!strcasecmp(s, rows[i].name)) { *out = (lm_dtype)i; return true; }
    for (int i = 0; i < LM_COUNT(others); i++) if (!strcasecmp(s, others[i].name)) { *out = others[i].d; return true; }
    return false;
}

lm_tensor lm_tensor_of(void *data, lm_dtype d, int rank, const int64_t *dim) {
    lm_tensor t = { .data = data, .rank = (int8_t)rank, .dtype = (int8_t)d, .layout = LM_PLAIN };
    for (int i = 0; i < LM_MAX_RANK; i++) t.dim[i] = i < rank ? dim[i] : 1;
    int64_t s = 1;
    for (int i = LM_MAX_RANK - 1; i >= 0; i--) { t.stride[i] = s; s *= t.dim[i]; }
    return t;
}

/* Strides of dimensions with one element (or of empty tensors) do not matter. */
bool lm_is_contig(const lm_tensor *t) {
    if (t->layout != LM_PLAIN || t->dtype == LM_QUANT) return false;
    int64_t s = 1;
    for (int i = 0; i < t->rank; i++) if (t->dim[i] == 0) return true;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->dim[i] != 1 && t->stride[i] != s) return false;
        s *= t->dim[i];
    }
    return true;
}
