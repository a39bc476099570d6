/* qwen_common.c — see qwen_common.h. */
#include "model/qwen_common.h"

lm_err lm_qwen_from_hf(const lm_jv *j, int64_t d_head, lm_cfg *c) {
    bool slides;
    LM_TRY(lm_decoder_from_hf(j, d_head, 1e-6, false, c));
    LM_TRY(lm_decoder_silu(j, c));
    LM_TRY(lm_json_bool(j, "use_sliding_window", LM_JSON_OPT, false, &slides));
    if (slides) {
        LM_TRY(lm_json_int(j, "sliding_window", LM_JSON_OPT, 4096, 1, 1 << 28, &c->window));
        LM_TRY(lm_json_int(j, "max_window_layers", LM_JSON_OPT, 28, 0, 1 << 20, &c->window_first));
        if (c->window_first >= c->n_layer) c->window = c->window_first = 0;
        LM_TRY(lm_decoder_windows_from_hf(j, c));
    }
    return lm_model_rope_from_hf(j, c);
}
lm_err lm_qwen_to_hf(const lm_cfg *c, json_t *o) {
    lm_decoder_to_hf(c, o);
    json_object_set_new(o, "hidden_act", json_string("silu"));
    json_object_set_new(o, "use_sliding_window", json_boolean(c->window != 0));
    json_object_set_new(o, "sliding_window", c->window ? json_integer(c->window) : json_null());
    json_object_set_new(o, "max_window_layers", json_integer(c->window ? c->window_first : c->n_layer));
    if (c->window) LM_TRY(lm_decoder_windows_to_hf(c, o));
    return lm_model_rope_to_hf(c, o);
}
lm_err lm_qwen_from_gguf(lm_ctx *ctx, lm_gguf *f, const char *arch, lm_cfg *c) {
    LM_TRY(lm_model_gguf_common(ctx, f, arch, c));
    c->hf_type = arch; c->act = LM_ACT_SILU;
    c->attn_bias = lm_gguf_find(f, "blk.0.attn_output.bias") != NULL;      /* Qwen2 has those of q, k and v always */
    return lm_model_gguf_rope(ctx, f, arch, c);
}
lm_err lm_qwen_to_gguf(lm_ctx *ctx, const lm_cfg *c, const char *arch, lm_gguf_writer *w) {
    if (c->window && (c->window_first || c->window_period))
        return lm_fail(ctx, LM_E_UNSUPPORTED, "a GGUF file of %s has no form for a window that only some layers have", arch);
    if (c->window && c->window < c->max_pos)
        lm_log(ctx, LM_LOG_WARN, "model", "llama.cpp reads no window of %lld tokens from a %s file: beyond it the two will differ",
               (long long)c->window, arch);
    LM_TRY(lm_model_gguf_put_common(c, arch, w));
    char key[64];
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    LM_TRY(lm_gguf_put_f32(w, key, (float)c->eps));
    return lm_model_gguf_put_rope(ctx, c, arch, w);
}
