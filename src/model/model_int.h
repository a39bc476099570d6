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
#include "op/split/split.h"
lm_err lm_model_rope_from_hf(const lm_jv *config, lm_cfg *c);      /* rope_theta, rope_scaling / rope_parameters → c->rope */
lm_err lm_model_rope_to_hf(const lm_cfg *c, json_t *config);
lm_err lm_model_gguf_common(lm_ctx *ctx, const lm_gguf *f, const char *arch, lm_cfg *c);   /* ARCH.embedding_length … and rope keys */
/* Residual dropout, when training asks for it; the stream is named after its place. */
lm_value *lm_model_drop(lm_graph *g, const lm_model_in *in, lm_value *x, int place);
#endif
