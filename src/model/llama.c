/* llama.c — Llama 1, 2, 3.x and its kin (Mistral, SmolLM, TinyLlama): a pre-norm decoder (Touvron et al. 2023).
 *
 *   x += attention(rmsnorm(x));  x += mlp(rmsnorm(x));  n_layer times; then rmsnorm.
 *   attention: rotary positions on q and k, n_kv <= n_head key heads (grouped queries), causal, optionally within a window.
 *   mlp: SwiGLU, down(silu(gate x) * up x).
 * Its parts are in decoder_common.c, for the families that grew from it. */
#include "model/decoder_common.h"

static lm_err build(lm_graph *g, const lm_cfg *c, const lm_model_in *in, lm_model_out *out) {
    return lm_decoder_build(g, c, &(lm_decoder){ .qkv_bias = c->attn_bias, .o_bias = c->attn_bias, .mlp_bias = c->mlp_bias }, in, out);
}

/* ---- config maps ------------------------------------------------------------------------------------------------------------ */
static lm_err from_hf(const lm_jv *j, lm_cfg *c) {
    LM_TRY(lm_decoder_from_hf(j, 0, 1e-6, false, c));
    LM_TRY(lm_json_bool(j, "attention_bias", LM_JSON_OPT, false, &c->attn_bias));
    LM_TRY(lm_json_bool(j, "mlp_bias", LM_JSON_OPT, false, &c->mlp_bias));
    if (!strcmp(c->hf_type, "mistral")) LM_TRY(lm_json_int(j, "sliding_window", LM_JSON_OPT, 0, 1, 1 << 28, &c->window));
    LM_TRY(lm_decoder_silu(j, c));
    return lm_model_rope_from_hf(j, c);
}
static lm_err from_gguf(lm_ctx *ctx, lm_gguf *f, lm_cfg *c) {
    LM_TRY(lm_model_gguf_common(ctx, f, "llama", c));
    c->hf_type = c->window ? "mistral" : "llama";
    return lm_model_gguf_rope(ctx, f, "llama", c);
}
static lm_err to_gguf(lm_ctx *ctx, const lm_cfg *c, lm_gguf_writer *w) {
    if (c->window && c->window < c->max_pos)
        lm_log(ctx, LM_LOG_WARN, "model", "llama.cpp reads no window of %lld tokens from a llama file: beyond it the two will differ",
               (long long)c->window);
    LM_TRY(lm_model_gguf_put_common(c, "llama", w));
    LM_TRY(lm_gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", (float)c->eps));
    return lm_model_gguf_put_rope(ctx, c, "llama", w);
}
static lm_err to_hf(lm_ctx *ctx, const lm_cfg *c, json_t *o) {
    (void)ctx;
    lm_decoder_to_hf(c, o);
    json_object_set_new(o, "hidden_act", json_string("silu"));
    json_object_set_new(o, "attention_bias", json_boolean(c->attn_bias));
    json_object_set_new(o, "mlp_bias", json_boolean(c->mlp_bias));
    if (!strcmp(c->hf_type, "mistral")) json_object_set_new(o, "sliding_window", c->window ? json_integer(c->window) : json_null());
    return lm_model_rope_to_hf(c, o);
}
static const struct lm_name_map names[] = { LM_DECODER_TOP, LM_DECODER_BLOCK, LM_DECODER_GATE_UP,
                                            { "model.layers.%d.self_attn.q_proj.weight", "blk.%d.attn_q.weight", false, true, false, false },
                                            { "model.layers.%d.self_attn.k_proj.weight", "blk.%d.attn_k.weight", false, false, true, false },
                                            LM_NAME("self_attn.v_proj.weight", "attn_v.weight"),
                                            { "model.layers.%d.self_attn.q_proj.bias", "blk.%d.attn_q.bias", false, true, false, false },
                                            { "model.layers.%d.self_attn.k_proj.bias", "blk.%d.attn_k.bias", false, false, true, false },
                                            LM_NAME("self_attn.v_proj.bias", "attn_v.bias"),
                                            LM_NAME("self_attn.o_proj.bias", "attn_output.bias"),
                                            LM_NAME("mlp.gate_proj.bias", "ffn_gate.bias"),
                                            LM_NAME("mlp.up_proj.bias", "ffn_up.bias"),
                                            LM_NAME("mlp.down_proj.bias", "ffn_down.bias"),
                                            LM_NAMES_END };
static const char *const hf[] = { "LlamaForCausalLM", "MistralForCausalLM", NULL };
static const char *const gguf[] = { "llama", NULL };
static void usual(lm_cfg *c) { c->act = LM_ACT_SILU; if (!c->d_ff) c->d_ff = lm_round_up(8 * c->d / 3, 64); }
const lm_model lm_model_llama = { .name = "llama",
                                  .paper = "Touvron et al. 2023, arXiv 2302.13971",
                                  .hf_archs = hf,
                                  .gguf_archs = gguf,
                                  .from_hf = from_hf,
                                  .from_gguf = from_gguf,
                                  .to_hf = to_hf,
                                  .to_gguf = to_gguf,
                                  .build = build,
                                  .usual = usual,
                                  .names = names };
