/* model_mix.h — mixes: which tensor of a model gets which quantized format.
 *
 * A mix has a base format and rules for the tensors that suffer most: the output embedding, the values of attention, the way down of the MLP.
 * They are llama.cpp's (the same letters mean the same file there): "use more bits" is the first and last eighth of the layers and every third
 * between. Rows that are no whole blocks get the fallback format, and the caller says so.
 *
 * Lifetime: static const.  Threads: pure.  Errors: none. */
#ifndef LM_MODEL_MIX_H
#define LM_MODEL_MIX_H
#include "quant/quant.h"
typedef struct { const char *name; uint32_t file_type; const char *base; } lm_mix;     /* file_type: general.file_type */
extern const lm_mix lm_mixes[];                                            /* ends with name NULL */
const lm_mix *lm_mix_by_name(const char *name);                            /* "Q4_K_M"; NULL: unknown */
typedef struct {
    const char *tensor;                                                    /* GGUF's name of a matrix */
    int64_t cols; int layer, n_layer;                                      /* numbers in a row; layer -1: none */
    int64_t heads_per_kv; bool tied, importance;                           /* tied: no output.weight; importance: a matrix of it is given */
} lm_mix_at;
/* The format of a tensor; *wanted: before the fallback. NULL: its rows are blocks of nothing, it stays F16. */
const lm_quant *lm_mix_pick(const lm_mix *m, const lm_mix_at *at, const lm_quant **wanted);
/* What rows that are no whole blocks of q are written in; q itself if they are. */
const lm_quant *lm_mix_fallback(const lm_quant *q, int64_t cols);
#endif
