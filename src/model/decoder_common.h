/* decoder_common.h — what the pre-norm decoders of Llama's kin share: Llama, Mistral, Qwen2, Qwen3, Phi-3, and the parts of Gemma's blocks.
 *
 *   x += attention(rmsnorm(x));  x += mlp(rmsnorm(x));  n_layer times; then rmsnorm.
 *   attention: rotary positions on q and k, n_kv <= n_head key heads, causal, within a window in the layers that have one.
 *   mlp: down(act(gate x) * up x), SwiGLU where act is silu.
 * A family's file says in an lm_decoder what is its own, and brings functions where a part is written differently. Values are made one
 * statement at a time: arguments are evaluated in an order that every compiler chooses for itself, and the order of values is part of a plan.
 *
 * Lifetime: values of a graph.  Threads: one builds a graph.  Errors: kept by the graph; the config maps as model.h. */
#ifndef LM_DECODER_COMMON_H
#define LM_DECODER_COMMON_H
#include "model/model_int.h"
typedef struct lm_decoder lm_decoder;
struct lm_decoder {
    bool qkv_bias, o_bias, mlp_bias;
    bool qk_norm;                        /* q and k of each head are normed before they are rotated */
    lm_act act;                          /* of the gate; silu where nothing is said */
    float norm_offset;                   /* norms multiply by weight + this */
    /* NULL: lm_decoder_attention, lm_decoder_mlp */
    lm_value *(*attention)(lm_graph *g, const lm_cfg *c, const lm_decoder *d, const lm_model_in *in, lm_value *rope, lm_value *x, int l);
    lm_value *(*mlp)(lm_graph *g, const lm_cfg *c, const lm_decoder *d, lm_value *x, int l);
};
lm_err lm_decoder_build(lm_graph *g, const lm_cfg *c, const lm_decoder *d, const lm_model_in *in, lm_model_out *out);
/* "model.layers.L.NAME.weight", and its bias: x Wᵀ + b */
lm_value *lm_decoder_linear(lm_graph *g, lm_value *x, lm_role role, int64_t out, int64_t in, bool bias, const char *name, int l);
/* width: of the weight, which divides x's (one norm a head) */
lm_value *lm_decoder_norm(lm_graph *g, const lm_cfg *c, const lm_decoder *d, lm_value *x, int64_t width, const char *name, int l);
/* The mixing of rotated heads in layer l. */
lm_value *lm_decoder_mix(lm_graph *g, const lm_cfg *c, const lm_model_in *in, lm_value *rope, lm_value *q, lm_value *k, lm_value *v, int l);
lm_value *lm_decoder_attention(lm_graph *g, const lm_cfg *c, const lm_decoder *d, const lm_model_in *in, lm_value *rope, lm_value *x, int l);
lm_value *lm_decoder_mlp(lm_graph *g, const lm_cfg *c, const lm_decoder *d, lm_value *x, int l);
/* The sizes, as all these families spell them. d_head 0: hidden_size / num_attention_heads where head_dim is not given. */
lm_err lm_decoder_from_hf(const lm_jv *j, int64_t d_head, double eps, bool tie, lm_cfg *c);
lm_err lm_decoder_silu(const lm_jv *j, lm_cfg *c);                /* hidden_act is silu, or refused */
void lm_decoder_to_hf(const lm_cfg *c, json_t *o);
/* layer_types, where it is given, must be what window, window_first and window_period can say. */
lm_err lm_decoder_windows_from_hf(const lm_jv *j, lm_cfg *c);
lm_err lm_decoder_windows_to_hf(const lm_cfg *c, json_t *o);      /* writes layer_types */
#define LM_NAME(h, gguf_name) { "model.layers.%d." h, "blk.%d." gguf_name, false, false, false, false }
#define LM_DECODER_TOP { "model.embed_tokens.weight", "token_embd.weight", false, false, false, false }, \
                       { "model.norm.weight", "output_norm.weight", false, false, false, false }, \
                       { "lm_head.weight", "output.weight", false, false, false, false }
#define LM_DECODER_BLOCK LM_NAME("input_layernorm.weight", "attn_norm.weight"), LM_NAME("post_attention_layernorm.weight", "ffn_norm.weight"), \
                         LM_NAME("self_attn.o_proj.weight", "attn_output.weight"), LM_NAME("mlp.down_proj.weight", "ffn_down.weight")
#define LM_DECODER_QKV LM_NAME("self_attn.q_proj.weight", "attn_q.weight"), LM_NAME("self_attn.k_proj.weight", "attn_k.weight"), \
                       LM_NAME("self_attn.v_proj.weight", "attn_v.weight")
#define LM_DECODER_QKV_BIAS LM_NAME("self_attn.q_proj.bias", "attn_q.bias"), LM_NAME("self_attn.k_proj.bias", "attn_k.bias"), \
                            LM_NAME("self_attn.v_proj.bias", "attn_v.bias")
#define LM_DECODER_QK_NORM LM_NAME("self_attn.q_norm.weight", "attn_q_norm.weight"), LM_NAME("self_attn.k_norm.weight", "attn_k_norm.weight")
#define LM_DECODER_GATE_UP LM_NAME("mlp.gate_proj.weight", "ffn_gate.weight"), LM_NAME("mlp.up_proj.weight", "ffn_up.weight")
#define LM_NAMES_END { NULL, NULL, false, false, false, false }
#endif
