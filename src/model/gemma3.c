/* gemma3.c — Gemma 3, text (Gemma Team 2025): Gemma 2's block without the caps, q and k normed, five layers with a window to each without.
 *
 *   x = sqrt(d) * embed[token];  x += norm(attention(norm(x)));  x += norm(mlp(norm(x)));  n_layer times; then norm.
 *   attention: q and k of each head are normed, then rotated: with the local base where the layer has a window, with the global one (and its
 *   scaling) in every sixth layer, which sees everything.
 * The block is in gemma_common.c. llama.cpp's rotary rows of this family are halves, as here. */
#include "model/gemma_common.h"
enum { PERIOD = 6, LAYERS_27B = 62 };

static lm_err build(lm_graph *g, const lm_cfg *c, const lm_model_in *in, lm_model_out *out) { return lm_gemma_build(g, c, true, in, out); }
static lm_err from_hf(const lm_jv *j, lm_cfg *c) {
    lm_jv params, local;
    c->hf_type = "gemma3_text";
    LM_TRY(lm_gemma_from_hf(j, PERIOD, c));
    LM_TRY(lm_json_num(j, "rope_local_base_freq", LM_JSON_OPT, 10000, 1e-6, 1e15, &c->rope_local));
    LM_TRY(lm_json_obj(j, "rope_parameters", LM_JSON_OPT, &params));
    if (params.v) {
        const char *type;
        LM_TRY(lm_json_obj(&params, "sliding_attention", LM_JSON_OPT, &local));
        if (local.v) {
            LM_TRY(lm_json_str(&local, "rope_type", LM_JSON_OPT, "default", &type, NULL));
            if (strcmp(type, "default")) return lm_json_fail(&local, LM_E_UNSUPPORTED, "rope_type is \"%s\"; layers with a window have default", type);
            LM_TRY(lm_json_num(&local, "rope_theta", LM_JSON_OPT, c->rope_local, 1e-6, 1e15, &c->rope_local));
        }
    }
    return lm_model_rope_layers_from_hf(j, "full_attention", 1000000, c);
}
static lm_err to_hf(lm_ctx *ctx, const lm_cfg *c, json_t *o) {
    (void)ctx;
    lm_gemma_to_hf(c, o);
    LM_TRY(lm_decoder_windows_to_hf(c, o));
    json_object_set_new(o, "rope_local_base_freq", json_real(c->rope_local));
    return lm_model_rope_to_hf(c, o);
}
static lm_err from_gguf(lm_ctx *ctx, lm_gguf *f, lm_cfg *c) {
    c->hf_type = "gemma3_text";
    LM_TRY(lm_gemma_from_gguf(ctx, f, "gemma3", PERIOD, LAYERS_27B, c));
    return lm_model_gguf_num(f, "gemma3.rope.freq_base_swa", 10000, &c->rope_local);
}
static lm_err to_gguf(lm_ctx *ctx, const lm_cfg *c, lm_gguf_writer *w) {
    if (c->attn_cap > 0) return lm_fail(ctx, LM_E_UNSUPPORTED, "a GGUF file of gemma3 has no form for a cap of the scores (%g)", c->attn_cap);
    LM_TRY(lm_gemma_to_gguf(ctx, c, "gemma3", PERIOD, LAYERS_27B, w));
    if (c->rope_local == 10000) return LM_OK;
    return lm_gguf_put_f32(w, "gemma3.rope.freq_base_swa", (float)c->rope_local);
}
static const struct lm_name_map names[] = { LM_GEMMA_NAMES, LM_GEMMA_NORM("model.layers.%d.self_attn.q_norm", "blk.%d.attn_q_norm"),
                                            LM_GEMMA_NORM("model.layers.%d.self_attn.k_norm", "blk.%d.attn_k_norm"), LM_NAMES_END };
static const char *const hf[] = { "Gemma3ForCausalLM", NULL };
static const char *const gguf[] = { "gemma3", NULL };
static void usual(lm_cfg *c) {
    c->hf_type = "gemma3_text"; c->act = LM_ACT_GELU_TANH; c->window = 512; c->window_period = PERIOD; c->rope_local = 10000;
    if (!c->d_ff) c->d_ff = 4 * c->d;
}
const lm_model lm_model_gemma3 = { .name = "gemma3",
                                   .paper = "Gemma Team 2025, arXiv 2503.19786",
                                   .hf_archs = hf,
                                   .gguf_archs = gguf,
                                   .from_hf = from_hf,
                                   .from_gguf = from_gguf,
                                   .to_hf = to_hf,
                                   .to_gguf = to_gguf,
                                   .build = build,
                                   .usual = usual,
                                   .names = names };
