/* gemma2.c — Gemma 2 (Gemma Team 2024): every sublayer between two norms, windows in every other layer, caps on scores and logits.
 *
 *   x = sqrt(d) * embed[token];  x += norm(attention(norm(x)));  x += norm(mlp(norm(x)));  n_layer times; then norm.
 *   attention: scores are q·k / sqrt(query_pre_attn_scalar), capped; a window in layers 0, 2, 4…  logits: capped too, from the embedding.
 * The block is in gemma_common.c. llama.cpp's rotary rows of this family are halves, as here. */
#include "model/gemma_common.h"
enum { PERIOD = 2, LAYERS_27B = 46 };

static lm_err build(lm_graph *g, const lm_cfg *c, const lm_model_in *in, lm_model_out *out) { return lm_gemma_build(g, c, false, in, out); }
static lm_err from_hf(const lm_jv *j, lm_cfg *c) {
    LM_TRY(lm_gemma_from_hf(j, PERIOD, c));
    return lm_model_rope_from_hf(j, c);
}
static lm_err to_hf(lm_ctx *ctx, const lm_cfg *c, json_t *o) {
    (void)ctx;
    lm_gemma_to_hf(c, o);
    LM_TRY(lm_decoder_windows_to_hf(c, o));
    return lm_model_rope_to_hf(c, o);
}
static lm_err from_gguf(lm_ctx *ctx, lm_gguf *f, lm_cfg *c) {
    c->hf_type = "gemma2";
    return lm_gemma_from_gguf(ctx, f, "gemma2", PERIOD, LAYERS_27B, c);
}
static lm_err to_gguf(lm_ctx *ctx, const lm_cfg *c, lm_gguf_writer *w) { return lm_gemma_to_gguf(ctx, c, "gemma2", PERIOD, LAYERS_27B, w); }
static const struct lm_name_map names[] = { LM_GEMMA_NAMES, LM_NAMES_END };
static const char *const hf[] = { "Gemma2ForCausalLM", NULL };
static const char *const gguf[] = { "gemma2", NULL };
static void usual(lm_cfg *c) {
    c->act = LM_ACT_GELU_TANH; c->attn_cap = 50; c->logit_cap = 30; c->window = 4096; c->window_period = PERIOD;
    if (!c->d_ff) c->d_ff = 4 * c->d;
}
const lm_model lm_model_gemma2 = { .name = "gemma2",
                                   .paper = "Gemma Team 2024, arXiv 2408.00118",
                                   .hf_archs = hf,
                                   .gguf_archs = gguf,
                                   .from_hf = from_hf,
                                   .from_gguf = from_gguf,
                                   .to_hf = to_hf,
                                   .to_gguf = to_gguf,
                                   .build = build,
                                   .usual = usual,
                                   .names = names };
