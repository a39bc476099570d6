/* model_int.h — what the model files share: the builders they use, and the config maps of things all families have. */
#ifndef LM_MODEL_INT_H
#define LM_MODEL_INT_H
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "model/model.h"
#include "op/add/add.h"
#include "op/attn/attn.h"
#include "op/dropout/dropout.h"
#include "op/embed/embed.h"
#include "op/gelu/gelu.h"
#include "op/layernorm/layernorm.h"
#include "op/matmul/matmul.h"
#include "op/mul/mul.h"
#include "op/rmsnorm/rmsnorm.h"
#include "op/rope/rope.h"
#include "op/silu/silu.h"
#include "op/scale/scale.h"
#include "op/softcap/softcap.h"
#include "op/split/split.h"
lm_err lm_model_rope_from_hf(const lm_jv *config, lm_cfg *c);      /* rope_theta, rope_scaling / rope_parameters → c->rope */
/* The same where layers differ: rope_parameters' entry for this kind of layer, if there is one; theta: where none is given. */
lm_err lm_model_rope_layers_from_hf(const lm_jv *config, const char *layers, double theta, lm_cfg *c);
lm_err lm_model_gguf_num(lm_gguf *f, const char *key, double def, double *out);            /* an f32 as the shortest decimal that means it */
double lm_model_shortest(double v);                                /* the shortest decimal that is the same f32 */
lm_err lm_model_rope_to_hf(const lm_cfg *c, json_t *config);
const char *lm_model_rope_name(lm_rope_scaling kind);
lm_err lm_model_gguf_common(lm_ctx *ctx, lm_gguf *f, const char *arch, lm_cfg *c);   /* ARCH.embedding_length … */
lm_err lm_model_gguf_rope(lm_ctx *ctx, lm_gguf *f, const char *arch, lm_cfg *c);     /* after common: ARCH.rope.*, rope_freqs.weight */
lm_err lm_model_gguf_put_common(const lm_cfg *c, const char *arch, lm_gguf_writer *w);
lm_err lm_model_gguf_put_rope(lm_ctx *ctx, const lm_cfg *c, const char *arch, lm_gguf_writer *w);
/* LLAMA3 and LONG as GGUF keeps them: tensors of d_head/2 divisors of the frequencies, with these names; returns how many. */
typedef struct { const char *name; float v[LM_ROPE_MAX_D / 2]; } lm_rope_factors;
int lm_model_rope_factors(const lm_rope_table_p *r, lm_rope_factors out[2]);
/* As lm_model_params, and the name of the output embedding (lives as long as the call). */
lm_err lm_model_walk(lm_ctx *ctx, const lm_cfg *c, lm_err (*fn)(void *ud, const char *name, const lm_type *t, lm_role role, bool head), void *ud);
/* The row of the family's name map that a parameter's name fits; *layer is -1 if the row has none. NULL: no row. */
const struct lm_name_map *lm_model_name_row(const lm_model *m, const char *hf, int *layer);
/* Residual dropout, when training asks for it; the stream is named after its place. */
lm_value *lm_model_drop(lm_graph *g, const lm_model_in *in, lm_value *x, int place);
#endif
