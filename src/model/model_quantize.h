/* model_quantize.h — a model written to GGUF in quantized formats, tensor by tensor.
 *
 * One parameter at a time is read (as F32), written by all threads and forgotten, so memory is that of the largest tensor. Codes are searched for
 * (quant.h), weighted by importance where there is some. Rows do not depend on each other: any number of threads gives the same bytes. Each
 * tensor's error is measured from what a reader gets back, and goes into the file's metadata:
 *
 *   loam.quantize.type str | loam.quantize.tensors [str] | loam.quantize.rmse [f32] | loam.quantize.relative [f32] (rmse over the tensor's own)
 *   | loam.quantize.perplexity [f64 before, f64 after], if measured
 *
 * The file is made as PATH.part and gets its name when it is whole: what is interrupted leaves nothing under PATH and begins anew; the next run
 * removes what a killed one left. One process at a time writes a PATH (PATH.lock).
 *
 * Lifetime: the table is the caller's, lm_free.  Threads: one writer at a time (it uses the pool inside).
 * Errors: LM_E_RANGE for numbers that are not finite, naming tensor and what to do; LM_E_SHAPE for importance of another length. */
#ifndef LM_MODEL_QUANTIZE_H
#define LM_MODEL_QUANTIZE_H
#include "format/imatrix.h"
#include "model/model.h"
#include "model/model_mix.h"
enum { LM_QUANTIZED_NAME = 64 };
typedef struct {
    char name[LM_QUANTIZED_NAME];                      /* GGUF's */
    const lm_quant *quant, *wanted; lm_dtype dtype;    /* quant NULL: dtype; wanted differs: the fallback was taken */
    bool weighted;
    int64_t numbers, bytes;
    double rmse, relative, weighted_rmse;              /* 0 where nothing is quantized; weighted_rmse by the importance, if any */
} lm_quantized;
typedef struct {
    const lm_mix *mix; const lm_quant *pure;           /* one of them; pure: every matrix in this format */
    const lm_imatrix *imatrix; const char *imatrix_name;   /* NULL: none */
    bool perplexity;                                   /* make room for loam.quantize.perplexity */
    lm_err (*extra)(void *ud, lm_gguf_writer *w);      /* the tokenizer's metadata; may be NULL */
    lm_err (*done)(void *ud, const char *part);        /* the whole file, before it gets its name; may be NULL */
    bool (*progress)(void *ud, const lm_quantized *t, int i, int n);   /* after each tensor; false: stop; may be NULL */
    void *ud;
} lm_quantize_opts;
lm_err lm_model_quantize(lm_ctx *ctx, lm_weights *w, const char *path, const lm_quantize_opts *o, lm_quantized **table, int *n);
#endif
