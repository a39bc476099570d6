/* gemma_common.h — what Gemma 2 and Gemma 3 share: the block between four norms, and most of the config maps.
 *
 *   x = sqrt(d) * embed[token]
 *   x += norm(attention(norm(x)));  x += norm(mlp(norm(x)));  n_layer times; then norm.
 *   norms: x / rms(x) * (1 + w).  mlp: down(gelu(gate x) * up x), the tanh form.
 * GGUF keeps 1 + w (as llama.cpp's converter does): what comes back from a file multiplies by the same f32, though w may differ in the last bit.
 *
 * Lifetime: values of a graph.  Threads: one builds a graph.  Errors: kept by the graph; the config maps as model.h. */
#ifndef LM_GEMMA_COMMON_H
#define LM_GEMMA_COMMON_H
#include "model/decoder_common.h"
lm_err lm_gemma_build(lm_graph *g, const lm_cfg *c, bool qk_norm, const lm_model_in *in, lm_model_out *out);
lm_err lm_gemma_from_hf(const lm_jv *j, int64_t period, lm_cfg *c);               /* all but the rotary positions */
void lm_gemma_to_hf(const lm_cfg *c, json_t *o);
lm_err lm_gemma_from_gguf(lm_ctx *ctx, lm_gguf *f, const char *arch, int64_t period, int layers_27b, lm_cfg *c);
lm_err lm_gemma_to_gguf(lm_ctx *ctx, const lm_cfg *c, const char *arch, int64_t period, int layers_27b, lm_gguf_writer *w);
#define LM_GEMMA_NORM(h, gguf_name) { h ".weight", gguf_name ".weight", false, false, false, true }
#define LM_GEMMA_NAMES { "model.embed_tokens.weight", "token_embd.weight", false, false, false, false }, \
                       LM_GEMMA_NORM("model.norm", "output_norm"), \
                       { "lm_head.weight", "output.weight", false, false, false, false }, \
                       LM_GEMMA_NORM("model.layers.%d.input_layernorm", "blk.%d.attn_norm"), \
                       LM_GEMMA_NORM("model.layers.%d.post_attention_layernorm", "blk.%d.post_attention_norm"), \
                       LM_GEMMA_NORM("model.layers.%d.pre_feedforward_layernorm", "blk.%d.ffn_norm"), \
                       LM_GEMMA_NORM("model.layers.%d.post_feedforward_layernorm", "blk.%d.post_ffw_norm"), \
                       LM_NAME("self_attn.o_proj.weight", "attn_output.weight"), LM_NAME("mlp.down_proj.weight", "ffn_down.weight"), \
                       LM_DECODER_QKV, LM_DECODER_GATE_UP
#endif
