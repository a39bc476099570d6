/* qwen3.c — Qwen3: Llama's block with q and k of each head normed before they are rotated, and no biases (Yang et al. 2025).
 *
 *   x += attention(rmsnorm(x));  x += mlp(rmsnorm(x));  n_layer times; then rmsnorm.
 * The head size is a number of its own (128 where the file says none). llama.cpp's rotary rows of this family are halves, as here. */
#include "model/qwen_common.h"

static lm_err build(lm_graph *g, const lm_cfg *c, const lm_model_in *in, lm_model_out *out) {
    return lm_decoder_build(g, c, &(lm_decoder){ .qkv_bias = c->attn_bias, .o_bias = c->attn_bias, .qk_norm = true }, in, out);
}
static lm_err from_hf(const lm_jv *j, lm_cfg *c) {
    LM_TRY(lm_json_bool(j, "attention_bias", LM_JSON_OPT, false, &c->attn_bias));
    return lm_qwen_from_hf(j, 128, c);
}
static lm_err from_gguf(lm_ctx *ctx, lm_gguf *f, lm_cfg *c) { return lm_qwen_from_gguf(ctx, f, "qwen3", c); }
static lm_err to_gguf(lm_ctx *ctx, const lm_cfg *c, lm_gguf_writer *w) {
    if (c->attn_bias) lm_log(ctx, LM_LOG_WARN, "model", "llama.cpp reads no biases of attention from a qwen3 file: the two will differ");
    return lm_qwen_to_gguf(ctx, c, "qwen3", w);
}
static lm_err to_hf(lm_ctx *ctx, const lm_cfg *c, json_t *o) {
    (void)ctx;
    json_object_set_new(o, "attention_bias", json_boolean(c->attn_bias));
    return lm_qwen_to_hf(c, o);
}
static const struct lm_name_map names[] = { LM_DECODER_TOP, LM_DECODER_BLOCK, LM_DECODER_QKV, LM_DECODER_QKV_BIAS, LM_DECODER_QK_NORM,
                                            LM_NAME("self_attn.o_proj.bias", "attn_output.bias"), LM_DECODER_GATE_UP, LM_NAMES_END };
static const char *const hf[] = { "Qwen3ForCausalLM", NULL };
static const char *const gguf[] = { "qwen3", NULL };
static void usual(lm_cfg *c) { c->act = LM_ACT_SILU; if (!c->d_ff) c->d_ff = lm_round_up(8 * c->d / 3, 64); }
const lm_model lm_model_qwen3 = { .name = "qwen3",
                                  .paper = "Yang et al. 2025, arXiv 2505.09388",
                                  .hf_archs = hf,
                                  .gguf_archs = gguf,
                                  .from_hf = from_hf,
                                  .from_gguf = from_gguf,
                                  .to_hf = to_hf,
                                  .to_gguf = to_gguf,
                                  .build = build,
                                  .usual = usual,
                                  .names = names };
