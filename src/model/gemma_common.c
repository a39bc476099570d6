/* gemma_common.c — see gemma_common.h. */
#include "model/gemma_common.h"

static const lm_decoder usual = { .norm_offset = 1, .act = LM_ACT_GELU_TANH }, normed = { .norm_offset = 1, .act = LM_ACT_GELU_TANH, .qk_norm = true };
lm_err lm_gemma_build(lm_graph *g, const lm_cfg *c, bool qk_norm, const lm_model_in *in, lm_model_out *out) {
    const lm_decoder *d = qk_norm ? &normed : &usual;
    lm_value *emb = lm_param(g, LM_ROLE_EMBED, c->vocab, c->d, "model.embed_tokens.weight");
    lm_value *rope = lm_rope_table(g, in->pos, &c->rope), *local = rope;        /* (N, D): cos | sin */
    if (c->rope_local > 0) local = lm_rope_table(g, in->pos, &(lm_rope_table_p){ .d_head = c->rope.d_head, .base = c->rope_local });
    lm_value *x = lm_scale(g, lm_embed(g, emb, in->tokens), (float)sqrt((double)c->d));                /* (N, d) */
    for (int l = 0; l < (int)c->n_layer; l++) {
        lm_block(g, l);
        lm_value *h = lm_decoder_norm(g, c, d, x, c->d, "input_layernorm", l);
        h = lm_decoder_attention(g, c, d, in, lm_cfg_window(c, l) ? local : rope, h, l);
        h = lm_decoder_norm(g, c, d, h, c->d, "post_attention_layernorm", l);
        x = lm_add(g, x, lm_model_drop(g, in, h, 2 * l));
        h = lm_decoder_norm(g, c, d, x, c->d, "pre_feedforward_layernorm", l);
        h = lm_decoder_mlp(g, c, d, h, l);
        h = lm_decoder_norm(g, c, d, h, c->d, "post_feedforward_layernorm", l);
        x = lm_add(g, x, lm_model_drop(g, in, h, 2 * l + 1));
    }
    lm_block(g, -1);
    out->hidden = lm_rmsnorm_offset(g, x, lm_param(g, LM_ROLE_NORM, c->d, 0, "model.norm.weight"), (float)c->eps, d->norm_offset);
    out->head = c->tie ? emb : lm_param(g, LM_ROLE_EMBED, c->vocab, c->d, "lm_head.weight");
    return lm_graph_err(g);
}

/* ---- config maps ------------------------------------------------------------------------------------------------------------ */
/* A cap that may be null: none. Absent: def. */
static lm_err cap(const lm_jv *j, const char *key, double def, double *out) {
    lm_jv v;
    LM_TRY(lm_json_get(j, key, LM_JSON_OPT, &v));
    if (!v.v) { *out = json_object_get(j->v, key) ? 0 : def; return LM_OK; }
    return lm_json_as_num(&v, 1e-6, 1e6, out);
}
lm_err lm_gemma_from_hf(const lm_jv *j, int64_t period, lm_cfg *c) {
    const bool two = period == 2;
    const char *act, *older;
    bool bias, both;
    int64_t scalar, pattern;
    LM_TRY(lm_decoder_from_hf(j, 256, 1e-6, true, c));
    LM_TRY(lm_json_str(j, "hidden_act", LM_JSON_OPT, "gelu_pytorch_tanh", &older, NULL));
    LM_TRY(lm_json_str(j, "hidden_activation", LM_JSON_OPT, older, &act, NULL));
    c->act = LM_ACT_GELU_TANH;
    if (strcmp(act, "gelu_pytorch_tanh")) return lm_json_fail(j, LM_E_UNSUPPORTED, "hidden_activation is \"%s\"; this family has gelu_pytorch_tanh", act);
    LM_TRY(lm_json_bool(j, "attention_bias", LM_JSON_OPT, false, &bias));
    LM_TRY(lm_json_bool(j, "use_bidirectional_attention", LM_JSON_OPT, false, &both));
    if (bias || both) return lm_json_fail(j, LM_E_UNSUPPORTED, "%s is not known for this family", bias ? "attention_bias" : "use_bidirectional_attention");
    LM_TRY(lm_json_int(j, "query_pre_attn_scalar", LM_JSON_OPT, 256, 1, 1000000, &scalar));
    c->query_scale = scalar == c->d_head ? 0 : (double)scalar;
    LM_TRY(cap(j, "attn_logit_softcapping", two ? 50 : 0, &c->attn_cap));
    LM_TRY(cap(j, "final_logit_softcapping", two ? 30 : 0, &c->logit_cap));
    LM_TRY(lm_json_int(j, "sliding_window", LM_JSON_OPT, 4096, 1, 1 << 28, &c->window));
    LM_TRY(lm_json_int(j, "sliding_window_pattern", LM_JSON_OPT, period, 1, 4096, &pattern));
    const int64_t window = c->window;
    c->window_period = pattern;
    LM_TRY(lm_decoder_windows_from_hf(j, c));
    /* so few layers that the list does not show the period */
    if (c->window == window && !c->window_first && !c->window_period && c->n_layer < pattern) c->window_period = pattern;
    return LM_OK;
}
void lm_gemma_to_hf(const lm_cfg *c, json_t *o) {
    const double scale = c->query_scale > 0 ? c->query_scale : (double)c->d_head;
    lm_decoder_to_hf(c, o);
    json_object_set_new(o, "hidden_activation", json_string("gelu_pytorch_tanh"));
    json_object_set_new(o, "attention_bias", json_false());
    json_object_set_new(o, "query_pre_attn_scalar", scale == floor(scale) ? json_integer((json_int_t)scale) : json_real(scale));
    json_object_set_new(o, "attn_logit_softcapping", c->attn_cap > 0 ? json_real(c->attn_cap) : json_null());
    json_object_set_new(o, "final_logit_softcapping", c->logit_cap > 0 ? json_real(c->logit_cap) : json_null());
    json_object_set_new(o, "sliding_window", json_integer(c->window ? c->window : c->max_pos));
    if (c->window_period) json_object_set_new(o, "sliding_window_pattern", json_integer(c->window_period));
    json_object_set_new(o, "pad_token_id", json_null());
}
/* The file says nothing of the query's scale: readers take it from the head size, or from d / heads where the number of layers is that of the 27B. */
static double guessed(const lm_cfg *c, int layers_27b) {
    return c->n_layer == layers_27b ? (double)c->d / (double)c->n_head : (double)c->d_head;
}
lm_err lm_gemma_from_gguf(lm_ctx *ctx, lm_gguf *f, const char *arch, int64_t period, int layers_27b, lm_cfg *c) {
    char key[64];
    double scale;
#define KEY(suffix) (snprintf(key, sizeof key, "%s." suffix, arch), key)
    LM_TRY(lm_model_gguf_common(ctx, f, arch, c));
    c->act = LM_ACT_GELU_TANH; c->attn_bias = c->mlp_bias = false;
    LM_TRY(lm_model_gguf_num(f, KEY("attn_logit_softcapping"), period == 2 ? 50 : 0, &c->attn_cap));
    LM_TRY(lm_model_gguf_num(f, KEY("final_logit_softcapping"), period == 2 ? 30 : 0, &c->logit_cap));
    LM_TRY(lm_gguf_int(f, KEY("attention.sliding_window"), false, 4096, 0, 1 << 28, &c->window));
    LM_TRY(lm_gguf_int(f, KEY("attention.sliding_window_pattern"), false, period, 0, 4096, &c->window_period));
    LM_TRY(lm_model_gguf_num(f, KEY("attention.scale"), 1 / sqrt(guessed(c, layers_27b)), &scale));
    const double scalar = 1 / (scale * scale);
    c->query_scale = fabs(scalar - round(scalar)) < 1e-4 * scalar ? round(scalar) : scalar;
    if (c->query_scale == (double)c->d_head) c->query_scale = 0;
    if (!c->window) c->window_period = 0;
    return lm_model_gguf_rope(ctx, f, arch, c);
}
lm_err lm_gemma_to_gguf(lm_ctx *ctx, const lm_cfg *c, const char *arch, int64_t period, int layers_27b, lm_gguf_writer *w) {
    char key[64];
    const double scale = c->query_scale > 0 ? c->query_scale : (double)c->d_head;
    if (c->window_first) return lm_fail(ctx, LM_E_UNSUPPORTED, "a GGUF file of %s has no form for windows from layer %lld on", arch, (long long)c->window_first);
    LM_TRY(lm_model_gguf_put_common(c, arch, w));
    LM_TRY(lm_gguf_put_f32(w, KEY("attention.layer_norm_rms_epsilon"), (float)c->eps));
    if (!c->window) LM_TRY(lm_gguf_put_u32(w, KEY("attention.sliding_window"), 0));
    if (c->window && c->window_period != period) LM_TRY(lm_gguf_put_u32(w, KEY("attention.sliding_window_pattern"), (uint32_t)c->window_period));
    if (period == 2 || c->attn_cap > 0) LM_TRY(lm_gguf_put_f32(w, KEY("attn_logit_softcapping"), (float)c->attn_cap));
    if (period == 2 || c->logit_cap > 0) LM_TRY(lm_gguf_put_f32(w, KEY("final_logit_softcapping"), (float)c->logit_cap));
    if (scale != guessed(c, layers_27b)) {
        lm_log(ctx, LM_LOG_WARN, "model", "llama.cpp takes the scale of the queries from the sizes (%g); this model has %g, and will differ there",
               guessed(c, layers_27b), scale);
        LM_TRY(lm_gguf_put_f32(w, KEY("attention.scale"), (float)(1 / sqrt(scale))));
    }
    return lm_model_gguf_put_rope(ctx, c, arch, w);
}
