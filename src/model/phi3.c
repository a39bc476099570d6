/* phi3.c — Phi-3, Phi-3.5 and Phi-4: Llama's block with q, k, v in one matrix, gate and up in another (Abdin et al. 2024).
 *
 *   x += attention(rmsnorm(x));  x += mlp(rmsnorm(x));  n_layer times; then rmsnorm.
 *   attention: [q | k | v] = x Wᵀ, rotary positions on the first dimensions of each head of q and k, causal, within a window where there is one.
 *   mlp: [gate | up] = x Wᵀ; down(silu(gate) * up).
 * Long contexts: LongRoPE's two sets of factors, of which a plan uses one (rope_table.h). llama.cpp's rotary rows are halves, as here. */
#include "model/decoder_common.h"

static lm_value *attention(lm_graph *g, const lm_cfg *c, const lm_decoder *d, const lm_model_in *in, lm_value *rope, lm_value *x, int l) {
    const int64_t dq = c->n_head * c->d_head, dkv = c->n_kv * c->d_head;
    lm_value *qkv = lm_decoder_linear(g, x, LM_ROLE_COL, dq + 2 * dkv, c->d, d->qkv_bias, "self_attn.qkv_proj", l);   /* (N, (H + 2 Hk)*D) */
    lm_value *q = lm_split(g, qkv, 3, (const int64_t[]){ dq, dkv, dkv });
    lm_value *o = lm_decoder_mix(g, c, in, rope, q, lm_output(q, 1), lm_output(q, 2), l);
    return lm_decoder_linear(g, o, LM_ROLE_ROW, c->d, dq, d->o_bias, "self_attn.o_proj", l);
}
static lm_value *mlp(lm_graph *g, const lm_cfg *c, const lm_decoder *d, lm_value *x, int l) {
    lm_value *both = lm_decoder_linear(g, x, LM_ROLE_COL, 2 * c->d_ff, c->d, d->mlp_bias, "mlp.gate_up_proj", l);      /* (N, 2F) */
    lm_value *gate = lm_split(g, both, 2, (const int64_t[]){ c->d_ff, c->d_ff });
    return lm_decoder_linear(g, lm_mul(g, lm_silu(g, gate), lm_output(gate, 1)), LM_ROLE_ROW, c->d, c->d_ff, d->mlp_bias, "mlp.down_proj", l);
}
static lm_err build(lm_graph *g, const lm_cfg *c, const lm_model_in *in, lm_model_out *out) {
    return lm_decoder_build(g, c, &(lm_decoder){ .attention = attention, .mlp = mlp }, in, out);
}

/* ---- config maps ------------------------------------------------------------------------------------------------------------ */
static lm_err from_hf(const lm_jv *j, lm_cfg *c) {
    LM_TRY(lm_decoder_from_hf(j, 0, 1e-5, false, c));
    LM_TRY(lm_json_int(j, "sliding_window", LM_JSON_OPT, 0, 1, 1 << 28, &c->window));
    LM_TRY(lm_decoder_silu(j, c));
    LM_TRY(lm_model_rope_from_hf(j, c));
    return c->rope.scaling == LM_ROPE_NONE || c->rope.scaling == LM_ROPE_LONG
               ? LM_OK
               : lm_json_fail(j, LM_E_UNSUPPORTED, "rotary positions of type \"%s\" mean something else in phi3; default and longrope are known",
                              lm_model_rope_name(c->rope.scaling));
}
static lm_err to_hf(lm_ctx *ctx, const lm_cfg *c, json_t *o) {
    (void)ctx;
    lm_decoder_to_hf(c, o);
    json_object_set_new(o, "hidden_act", json_string("silu"));
    json_object_set_new(o, "sliding_window", c->window ? json_integer(c->window) : json_null());
    if (c->rope.scaling != LM_ROPE_LONG) json_object_set_new(o, "original_max_position_embeddings", json_integer(c->max_pos));
    json_object_set_new(o, "pad_token_id", json_null());                   /* the default lies beyond small vocabularies */
    return lm_model_rope_to_hf(c, o);
}
static lm_err from_gguf(lm_ctx *ctx, lm_gguf *f, lm_cfg *c) {
    LM_TRY(lm_model_gguf_common(ctx, f, "phi3", c));
    c->hf_type = "phi3"; c->act = LM_ACT_SILU;
    return lm_model_gguf_rope(ctx, f, "phi3", c);
}
static lm_err to_gguf(lm_ctx *ctx, const lm_cfg *c, lm_gguf_writer *w) {
    if (c->window && c->window < c->max_pos)
        lm_log(ctx, LM_LOG_WARN, "model", "llama.cpp leaves out the window of %lld tokens of a phi3 file: beyond it the two will differ",
               (long long)c->window);
    LM_TRY(lm_model_gguf_put_common(c, "phi3", w));
    if (!c->window) LM_TRY(lm_gguf_put_u32(w, "phi3.attention.sliding_window", 0));        /* said to be none: its reader guesses otherwise */
    LM_TRY(lm_gguf_put_f32(w, "phi3.attention.layer_norm_rms_epsilon", (float)c->eps));
    return lm_model_gguf_put_rope(ctx, c, "phi3", w);
}
static const struct lm_name_map names[] = { LM_DECODER_TOP, LM_DECODER_BLOCK, LM_NAME("self_attn.qkv_proj.weight", "attn_qkv.weight"),
                                            LM_NAME("mlp.gate_up_proj.weight", "ffn_up.weight"), LM_NAMES_END };
static const char *const hf[] = { "Phi3ForCausalLM", NULL };
static const char *const gguf[] = { "phi3", NULL };
static void usual(lm_cfg *c) { c->act = LM_ACT_SILU; if (!c->d_ff) c->d_ff = lm_round_up(8 * c->d / 3, 64); }
const lm_model lm_model_phi3 = { .name = "phi3",
                                 .paper = "Abdin et al. 2024, arXiv 2404.14219",
                                 .hf_archs = hf,
                                 .gguf_archs = gguf,
                                 .from_hf = from_hf,
                                 .from_gguf = from_gguf,
                                 .to_hf = to_hf,
                                 .to_gguf = to_gguf,
                                 .build = build,
                                 .usual = usual,
                                 .partial_rope = true,
                                 .names = names };
