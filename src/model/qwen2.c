/* qwen2.c — Qwen2 and Qwen2.5: Llama's block with biases on q, k and v, and none on the way out (Yang et al. 2024).
 *
 *   x += attention(rmsnorm(x));  x += mlp(rmsnorm(x));  n_layer times; then rmsnorm.
 * A window, where there is one, holds from layer max_window_layers on. llama.cpp's rotary rows of this family are halves, as here. */
#include "model/qwen_common.h"

static lm_err build(lm_graph *g, const lm_cfg *c, const lm_model_in *in, lm_model_out *out) {
    return lm_decoder_build(g, c, &(lm_decoder){ .qkv_bias = true }, in, out);
}
static lm_err from_hf(const lm_jv *j, lm_cfg *c) { return lm_qwen_from_hf(j, 0, c); }
static lm_err from_gguf(lm_ctx *ctx, lm_gguf *f, lm_cfg *c) { return lm_qwen_from_gguf(ctx, f, "qwen2", c); }
static lm_err to_gguf(lm_ctx *ctx, const lm_cfg *c, lm_gguf_writer *w) { return lm_qwen_to_gguf(ctx, c, "qwen2", w); }
static lm_err to_hf(lm_ctx *ctx, const lm_cfg *c, json_t *o) {
    (void)ctx;
    return lm_qwen_to_hf(c, o);
}
static const struct lm_name_map names[] = { LM_DECODER_TOP, LM_DECODER_BLOCK, LM_DECODER_QKV, LM_DECODER_QKV_BIAS, LM_DECODER_GATE_UP, LM_NAMES_END };
static const char *const hf[] = { "Qwen2ForCausalLM", NULL };
static const char *const gguf[] = { "qwen2", NULL };
static void usual(lm_cfg *c) { c->act = LM_ACT_SILU; if (!c->d_ff) c->d_ff = lm_round_up(8 * c->d / 3, 64); }
const lm_model lm_model_qwen2 = { .name = "qwen2",
                                  .paper = "Yang et al. 2024, arXiv 2407.10671",
                                  .hf_archs = hf,
                                  .gguf_archs = gguf,
                                  .from_hf = from_hf,
                                  .from_gguf = from_gguf,
                                  .to_hf = to_hf,
                                  .to_gguf = to_gguf,
                                  .build = build,
                                  .usual = usual,
                                  .names = names };
