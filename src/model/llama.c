/* llama.c — Llama 1, 2, 3.x and its kin (Mistral, SmolLM, TinyLlama): a pre-norm decoder (Touvron et al. 2023).
 *
 *   x += attention(rmsnorm(x));  x += mlp(rmsnorm(x));  n_layer times; then rmsnorm.
 *   attention: rotary positions on q and k, n_kv <= n_head key heads (grouped queries), causal, optionally within a window.
 *   mlp: SwiGLU, down(silu(gate x) * up x).
 * This file is the whole architecture. */
#include "model/model_int.h"
/* Values are made one statement at a time: arguments are evaluated in an order that every compiler chooses for itself, and the order of
 * values is part of a plan. */
static lm_value *linear(lm_graph *g, lm_value *x, lm_role role, int64_t out, int64_t in, bool bias, const char *name, int l) {
    lm_value *w = lm_param(g, role, out, in, "model.layers.%d.%s.weight", l, name);
    lm_value *b = bias ? lm_param(g, LM_ROLE_BIAS, out, 0, "model.layers.%d.%s.bias", l, name) : NULL;
    return lm_linear(g, x, w, b);                                                                       /* (N, out) */
}
static lm_value *norm(lm_graph *g, const lm_cfg *c, lm_value *x, const char *name, int l) {
    return lm_rmsnorm(g, x, lm_param(g, LM_ROLE_NORM, c->d, 0, "model.layers.%d.%s.weight", l, name), (float)c->eps);
}
static lm_value *attention(lm_graph *g, const lm_cfg *c, const lm_model_in *in, lm_value *rope, lm_value *x, int l) {
    const int64_t dq = c->n_head * c->d_head, dkv = c->n_kv * c->d_head;
    const lm_rope_p rp = { .d_head = (int)c->d_head, .rotary = (int)c->rope.d_head };
    const lm_attn_p ap = { .n_head = (int)c->n_head, .n_kv = (int)c->n_kv, .d_head = (int)c->d_head, .window = c->window,
                           .scale = (float)(1.0 / sqrt((double)c->d_head)) };
    lm_value *q = linear(g, x, LM_ROLE_COL, dq, c->d, c->attn_bias, "self_attn.q_proj", l);             /* (N, H*D) */
    lm_value *k = linear(g, x, LM_ROLE_COL, dkv, c->d, c->attn_bias, "self_attn.k_proj", l);            /* (N, Hk*D) */
    lm_value *v = linear(g, x, LM_ROLE_COL, dkv, c->d, c->attn_bias, "self_attn.v_proj", l);
    q = lm_rope(g, q, rope, &rp);
    k = lm_rope(g, k, rope, &rp);
    lm_value *o = lm_attn(g, q, k, v, in->start, &ap);                                                  /* (N, H*D) */
    return linear(g, o, LM_ROLE_ROW, c->d, dq, c->attn_bias, "self_attn.o_proj", l);
}
static lm_value *mlp(lm_graph *g, const lm_cfg *c, lm_value *x, int l) {
    lm_value *gate = linear(g, x, LM_ROLE_COL, c->d_ff, c->d, c->mlp_bias, "mlp.gate_proj", l);         /* (N, F) */
    lm_value *up = linear(g, x, LM_ROLE_COL, c->d_ff, c->d, c->mlp_bias, "mlp.up_proj", l);
    return linear(g, lm_mul(g, lm_silu(g, gate), up), LM_ROLE_ROW, c->d, c->d_ff, c->mlp_bias, "mlp.down_proj", l);
}
static lm_err build(lm_graph *g, const lm_cfg *c, const lm_model_in *in, lm_model_out *out) {
    lm_value *emb = lm_param(g, LM_ROLE_EMBED, c->vocab, c->d, "model.embed_tokens.weight");
    lm_value *rope = lm_rope_table(g, in->pos, &c->rope);                       /* (N, D): cos | sin, shared by all layers */
    lm_value *x = lm_embed(g, emb, in->tokens);                                 /* (N, d) */
    for (int l = 0; l < (int)c->n_layer; l++) {
        lm_block(g, l);
        lm_value *h = attention(g, c, in, rope, norm(g, c, x, "input_layernorm", l), l);
        x = lm_add(g, x, lm_model_drop(g, in, h, 2 * l));
        h = mlp(g, c, norm(g, c, x, "post_attention_layernorm", l), l);
        x = lm_add(g, x, lm_model_drop(g, in, h, 2 * l + 1));
    }
    lm_block(g, -1);
    out->hidden = lm_rmsnorm(g, x, lm_param(g, LM_ROLE_NORM, c->d, 0, "model.norm.weight"), (float)c->eps);
    out->head = c->tie ? emb : lm_param(g, LM_ROLE_EMBED, c->vocab, c->d, "lm_head.weight");
    return lm_graph_err(g);
}

/* ---- config maps ------------------------------------------------------------------------------------------------------------ */
static lm_err from_hf(const lm_jv *j, lm_cfg *c) {
    const int64_t big = 1 << 28;
    LM_TRY(lm_json_int(j, "vocab_size", LM_JSON_NEED, 0, 1, big, &c->vocab));
    LM_TRY(lm_json_int(j, "hidden_size", LM_JSON_NEED, 0, 1, 1 << 20, &c->d));
    LM_TRY(lm_json_int(j, "num_hidden_layers", LM_JSON_NEED, 0, 0, 4096, &c->n_layer));
    LM_TRY(lm_json_int(j, "num_attention_heads", LM_JSON_NEED, 0, 1, 4096, &c->n_head));
    LM_TRY(lm_json_int(j, "num_key_value_heads", LM_JSON_OPT, c->n_head, 1, 4096, &c->n_kv));
    LM_TRY(lm_json_int(j, "head_dim", LM_JSON_OPT, c->d / c->n_head, 1, 4096, &c->d_head));
    LM_TRY(lm_json_int(j, "intermediate_size", LM_JSON_NEED, 0, 1, 1 << 22, &c->d_ff));
    LM_TRY(lm_json_int(j, "max_position_embeddings", LM_JSON_OPT, 2048, 1, big, &c->max_pos));
    LM_TRY(lm_json_num(j, "rms_norm_eps", LM_JSON_OPT, 1e-6, 0, 1, &c->eps));
    LM_TRY(lm_json_bool(j, "tie_word_embeddings", LM_JSON_OPT, false, &c->tie));
    LM_TRY(lm_json_bool(j, "attention_bias", LM_JSON_OPT, false, &c->attn_bias));
    LM_TRY(lm_json_bool(j, "mlp_bias", LM_JSON_OPT, false, &c->mlp_bias));
    LM_TRY(lm_json_num(j, "initializer_range", LM_JSON_OPT, 0.02, 0, 10, &c->init_std));
    if (!strcmp(c->hf_type, "mistral")) LM_TRY(lm_json_int(j, "sliding_window", LM_JSON_OPT, 0, 1, big, &c->window));
    const char *act;
    LM_TRY(lm_json_str(j, "hidden_act", LM_JSON_OPT, "silu", &act, NULL));
    if (strcmp(act, "silu") && strcmp(act, "swish")) return lm_json_fail(j, LM_E_UNSUPPORTED, "hidden_act is \"%s\"; this family has silu", act);
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
    json_object_set_new(o, "hidden_size", json_integer(c->d));
    json_object_set_new(o, "num_hidden_layers", json_integer(c->n_layer));
    json_object_set_new(o, "num_attention_heads", json_integer(c->n_head));
    json_object_set_new(o, "num_key_value_heads", json_integer(c->n_kv));
    json_object_set_new(o, "head_dim", json_integer(c->d_head));
    json_object_set_new(o, "intermediate_size", json_integer(c->d_ff));
    json_object_set_new(o, "max_position_embeddings", json_integer(c->max_pos));
    json_object_set_new(o, "rms_norm_eps", json_real(c->eps));
    json_object_set_new(o, "hidden_act", json_string("silu"));
    json_object_set_new(o, "attention_bias", json_boolean(c->attn_bias));
    json_object_set_new(o, "mlp_bias", json_boolean(c->mlp_bias));
    if (!strcmp(c->hf_type, "mistral")) json_object_set_new(o, "sliding_window", c->window ? json_integer(c->window) : json_null());
    return lm_model_rope_to_hf(c, o);
}
#define N(h, gname) { "model.layers.%d." h ".weight", "blk.%d." gname ".weight", false, false, false }
static const struct lm_name_map names[] = { { "model.embed_tokens.weight", "token_embd.weight", false, false, false },
                                            { "model.norm.weight", "output_norm.weight", false, false, false },
                                            { "lm_head.weight", "output.weight", false, false, false },
                                            N("input_layernorm", "attn_norm"),
                                            N("post_attention_layernorm", "ffn_norm"),
                                            { "model.layers.%d.self_attn.q_proj.weight", "blk.%d.attn_q.weight", false, true, false },
                                            { "model.layers.%d.self_attn.k_proj.weight", "blk.%d.attn_k.weight", false, false, true },
                                            N("self_attn.v_proj", "attn_v"),
                                            N("self_attn.o_proj", "attn_output"),
                                            N("mlp.gate_proj", "ffn_gate"),
                                            N("mlp.up_proj", "ffn_up"),
                                            N("mlp.down_proj", "ffn_down"),
                                            { "model.layers.%d.self_attn.q_proj.bias", "blk.%d.attn_q.bias", false, true, false },
                                            { "model.layers.%d.self_attn.k_proj.bias", "blk.%d.attn_k.bias", false, false, true },
                                            { "model.layers.%d.self_attn.v_proj.bias", "blk.%d.attn_v.bias", false, false, false },
                                            { "model.layers.%d.self_attn.o_proj.bias", "blk.%d.attn_output.bias", false, false, false },
                                            { "model.layers.%d.mlp.gate_proj.bias", "blk.%d.ffn_gate.bias", false, false, false },
                                            { "model.layers.%d.mlp.up_proj.bias", "blk.%d.ffn_up.bias", false, false, false },
                                            { "model.layers.%d.mlp.down_proj.bias", "blk.%d.ffn_down.bias", false, false, false },
                                            { NULL, NULL, false, false, false } };
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
