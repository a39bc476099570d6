/* ggml_types.c — the tensor types a GGUF file may name. Sizes are those of ggml's block structs; ids that ggml retired (4, 5, 31-33, 36-38)
 * are absent. */
#include "format/gguf.h"
#include <string.h>

static const lm_ggml_type table[] = {
    { 0, "F32", 1, 4, LM_F32 }, { 1, "F16", 1, 2, LM_F16 }, { 30, "BF16", 1, 2, LM_BF16 }, { 28, "F64", 1, 8, LM_F64 },
    { 24, "I8", 1, 1, LM_I8 }, { 25, "I16", 1, 2, LM_I16 }, { 26, "I32", 1, 4, LM_I32 }, { 27, "I64", 1, 8, LM_I64 },
    { 2, "Q4_0", 32, 18, LM_QUANT }, { 3, "Q4_1", 32, 20, LM_QUANT }, { 6, "Q5_0", 32, 22, LM_QUANT }, { 7, "Q5_1", 32, 24, LM_QUANT },
    { 8, "Q8_0", 32, 34, LM_QUANT }, { 9, "Q8_1", 32, 36, LM_QUANT },
    { 10, "Q2_K", 256, 84, LM_QUANT }, { 11, "Q3_K", 256, 110, LM_QUANT }, { 12, "Q4_K", 256, 144, LM_QUANT }, { 13, "Q5_K", 256, 176, LM_QUANT },
    { 14, "Q6_K", 256, 210, LM_QUANT }, { 15, "Q8_K", 256, 292, LM_QUANT },
    { 16, "IQ2_XXS", 256, 66, LM_QUANT }, { 17, "IQ2_XS", 256, 74, LM_QUANT }, { 22, "IQ2_S", 256, 82, LM_QUANT },
    { 18, "IQ3_XXS", 256, 98, LM_QUANT }, { 21, "IQ3_S", 256, 110, LM_QUANT }, { 19, "IQ1_S", 256, 50, LM_QUANT }, { 29, "IQ1_M", 256, 56, LM_QUANT },
    { 20, "IQ4_NL", 32, 18, LM_QUANT }, { 23, "IQ4_XS", 256, 136, LM_QUANT },
    { 34, "TQ1_0", 256, 54, LM_QUANT }, { 35, "TQ2_0", 256, 66, LM_QUANT },
    { 39, "MXFP4", 32, 17, LM_QUANT }, { 40, "NVFP4", 64, 36, LM_QUANT }, { 41, "Q1_0", 128, 18, LM_QUANT }, { 42, "Q2_0", 64, 18, LM_QUANT },
};
const lm_ggml_type *lm_ggml_at(int i) { return i >= 0 && i < LM_COUNT(table) ? &table[i] : NULL; }
const lm_ggml_type *lm_ggml_by_id(int id) {
    for (int i = 0; i < LM_COUNT(table); i++)
        if (table[i].id == id) return &table[i];
    return NULL;
}
const lm_ggml_type *lm_ggml_by_name(const char *name) {
    for (int i = 0; i < LM_COUNT(table); i++)
        if (!strcmp(table[i].name, name)) return &table[i];
    return NULL;
}
