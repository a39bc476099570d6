/* gpt2.c — GPT-2 (Radford et al. 2019): pre-norm decoder with learned positions, LayerNorm with bias, one fused qkv projection, GELU, tied head.
 *
 *   x = wte[token] + wpe[pos];  x += attention(ln_1(x));  x += mlp(ln_2(x));  n_layer times; then ln_f.
 * Its matrices are stored (in, out), "Conv1D": y = x W + b, no transpose. */
#include "model/model_int.h"

/* Values are made one statement at a time: arguments are evaluated in an order that every compiler chooses for itself, and the order of
 * values is part of a plan. */
static lm_value *conv(lm_graph *g, lm_value *x, lm_role role, int64_t in, int64_t out, const char *name, int l) {
    lm_value *w = lm_param(g, role, in, out, "transformer.h.%d.%s.weight", l, name);
    lm_value *b = lm_param(g, LM_ROLE_BIAS, out, 0, "transformer.h.%d.%s.bias", l, name);
    return lm_matmul_mm(g, x, w, b, false, false, LM_F32);                        /* (N, out) */
}
static lm_value *norm(lm_graph *g, const lm_cfg *c, lm_value *x, const char *name) {
    lm_value *w = lm_param(g, LM_ROLE_NORM, c->d, 0, "%s.weight", name);
    lm_value *b = lm_param(g, LM_ROLE_BIAS, c->d, 0, "%s.bias", name);
    return lm_layernorm(g, x, w, b, (float)c->eps);
}
static lm_value *attention(lm_graph *g, const lm_cfg *c, const lm_model_in *in, lm_value *x, int l) {
    const lm_attn_p ap = {
        .n_head = (int)c->n_head, .n_kv = (int)c->n_head, .d_head = (int)c->d_head, .scale = (float)(1.0 / sqrt((double)c->d_head))
    };
    lm_value *qkv = conv(g, x, LM_ROLE_COL, c->d, 3 * c->d, "attn.c_attn", l);     /* (N, 3d) */
    lm_value *q = lm_split(g, qkv, 3, (const int64_t[]){ c->d, c->d, c->d });
    return conv(g, lm_attn(g, q, lm_output(q, 1), lm_output(q, 2), in->start, &ap), LM_ROLE_ROW, c->d, c->d, "attn.c_proj", l);
}
static lm_value *mlp(lm_graph *g, const lm_cfg *c, lm_value *x, int l) {
    lm_value *h = conv(g, x, LM_ROLE_COL, c->d, c->d_ff, "mlp.c_fc", l);           /* (N, 4d) */
    return conv(g, lm_gelu(g, h, c->act == LM_ACT_GELU_TANH), LM_ROLE_ROW, c->d_ff, c->d, "mlp.c_proj", l);
}
static lm_err build(lm_graph *g, const lm_cfg *c, const lm_model_in *in, lm_model_out *out) {
    if (c->n_head * c->d_head != c->d || c->n_kv != c->n_head)
        return lm_graph_fail(g, LM_E_CONFIG, "gpt2: %lld heads of %lld (%lld of keys) do not make up the width %lld", (long long)c->n_head,
                             (long long)c->d_head, (long long)c->n_kv, (long long)c->d);
    lm_value *wte = lm_param(g, LM_ROLE_EMBED, c->vocab, c->d, "transformer.wte.weight");
    lm_value *wpe = lm_param(g, LM_ROLE_EMBED, c->max_pos, c->d, "transformer.wpe.weight");
    lm_value *tokens = lm_embed(g, wte, in->tokens), *pos = lm_embed(g, wpe, in->pos);
    lm_value *x = lm_add(g, tokens, pos);                                         /* (N, d) */
    char name[64];
    for (int l = 0; l < (int)c->n_layer; l++) {
        lm_block(g, l);
        snprintf(name, sizeof name, "transformer.h.%d.ln_1", l);
        x = lm_add(g, x, lm_model_drop(g, in, attention(g, c, in, norm(g, c, x, name), l), 2 * l));
        snprintf(name, sizeof name, "transformer.h.%d.ln_2", l);
        x = lm_add(g, x, lm_model_drop(g, in, mlp(g, c, norm(g, c, x, name), l), 2 * l + 1));
    }
    lm_block(g, -1);
    out->hidden = norm(g, c, x, "transformer.ln_f");
    out->head = c->tie ? wte : lm_param(g, LM_ROLE_EMBED, c->vocab, c->d, "lm_head.weight");
    return lm_graph_err(g);
}

/* ---- config maps ------------------------------------------------------------------------------------------------------------ */
static lm_err from_hf(const lm_jv *j, lm_cfg *c) {
    LM_TRY(lm_json_int(j, "vocab_size", LM_JSON_NEED, 0, 1, 1 << 28, &c->vocab));
    LM_TRY(lm_json_int(j, "n_embd", LM_JSON_NEED, 0, 1, 1 << 20, &c->d));
    LM_TRY(lm_json_int(j, "n_layer", LM_JSON_NEED, 0, 0, 4096, &c->n_layer));
    LM_TRY(lm_json_int(j, "n_head", LM_JSON_NEED, 0, 1, 4096, &c->n_head));
    LM_TRY(lm_json_int(j, "n_inner", LM_JSON_OPT, 4 * c->d, 1, 1 << 22, &c->d_ff));
    LM_TRY(lm_json_int(j, "n_positions", LM_JSON_OPT, 1024, 1, 1 << 28, &c->max_pos));
    LM_TRY(lm_json_num(j, "layer_norm_epsilon", LM_JSON_OPT, 1e-5, 0, 1, &c->eps));
    LM_TRY(lm_json_num(j, "initializer_range", LM_JSON_OPT, 0.02, 0, 10, &c->init_std));
    LM_TRY(lm_json_bool(j, "tie_word_embeddings", LM_JSON_OPT, true, &c->tie));
    bool scale_attn, inverse;
    LM_TRY(lm_json_bool(j, "scale_attn_weights", LM_JSON_OPT, true, &scale_attn));
    LM_TRY(lm_json_bool(j, "scale_attn_by_inverse_layer_idx", LM_JSON_OPT, false, &inverse));
    if (!scale_attn || inverse) return lm_json_fail(j, LM_E_UNSUPPORTED, "only the usual attention scale 1/sqrt(head size) is known for gpt2");
    c->n_kv = c->n_head; c->d_head = c->d / c->n_head;
    const char *act;
    LM_TRY(lm_json_str(j, "activation_function", LM_JSON_OPT, "gelu_new", &act, NULL));
    if (!strcmp(act, "gelu_new") || !strcmp(act, "gelu_pytorch_tanh")) c->act = LM_ACT_GELU_TANH;
    else if (!strcmp(act, "gelu")) c->act = LM_ACT_GELU;
    else return lm_json_fail(j, LM_E_UNSUPPORTED, "activation_function is \"%s\"; gpt2 has gelu_new, gelu_pytorch_tanh and gelu", act);
    return LM_OK;
}
static lm_err from_gguf(lm_ctx *ctx, lm_gguf *f, lm_cfg *c) {
    c->hf_type = "gpt2"; c->act = LM_ACT_GELU_TANH;
    return lm_model_gguf_common(ctx, f, "gpt2", c);
}
static lm_err to_gguf(lm_ctx *ctx, const lm_cfg *c, lm_gguf_writer *w) {
    if (c->act != LM_ACT_GELU_TANH)
        return lm_fail(ctx, LM_E_UNSUPPORTED, "a GGUF file of gpt2 means the tanh form of GELU; this model has the exact one");
    LM_TRY(lm_model_gguf_put_common(c, "gpt2", w));
    return lm_gguf_put_f32(w, "gpt2.attention.layer_norm_epsilon", (float)c->eps);
}
static lm_err to_hf(lm_ctx *ctx, const lm_cfg *c, json_t *o) {
    (void)ctx;
    json_object_set_new(o, "n_embd", json_integer(c->d));
    json_object_set_new(o, "n_layer", json_integer(c->n_layer));
    json_object_set_new(o, "n_head", json_integer(c->n_head));
    json_object_set_new(o, "n_inner", json_integer(c->d_ff));
    json_object_set_new(o, "n_positions", json_integer(c->max_pos));
    json_object_set_new(o, "n_ctx", json_integer(c->max_pos));
    json_object_set_new(o, "layer_norm_epsilon", json_real(c->eps));
    json_object_set_new(o, "activation_function", json_string(c->act == LM_ACT_GELU ? "gelu" : "gelu_new"));
    return LM_OK;
}
#define N(h, gname, t) { "transformer.h.%d." h ".weight", "blk.%d." gname ".weight", t, false, false, false }, { "transformer.h.%d." h ".bias", "blk.%d." gname ".bias", false, false, false, false }
static const struct lm_name_map names[] = { { "transformer.wte.weight", "token_embd.weight", false, false, false, false },
                                            { "transformer.wpe.weight", "position_embd.weight", false, false, false, false },
                                            { "transformer.ln_f.weight", "output_norm.weight", false, false, false, false },
                                            { "transformer.ln_f.bias", "output_norm.bias", false, false, false, false },
                                            { "lm_head.weight", "output.weight", false, false, false, false },
                                            N("ln_1", "attn_norm", false),
                                            N("ln_2", "ffn_norm", false),
                                            N("attn.c_attn", "attn_qkv", true),
                                            N("attn.c_proj", "attn_output", true),
                                            N("mlp.c_fc", "ffn_up", true),
                                            N("mlp.c_proj", "ffn_down", true),
                                            { NULL, NULL, false, false, false, false } };
static const char *const hf[] = { "GPT2LMHeadModel", NULL };
static const char *const gguf[] = { "gpt2", NULL };
static void usual(lm_cfg *c) { c->act = LM_ACT_GELU_TANH; if (!c->d_ff) c->d_ff = 4 * c->d; }
const lm_model lm_model_gpt2 = { .name = "gpt2",
                                 .paper = "Radford et al. 2019",
                                 .hf_archs = hf,
                                 .gguf_archs = gguf,
                                 .from_hf = from_hf,
                                 .from_gguf = from_gguf,
                                 .to_hf = to_hf,
                                 .to_gguf = to_gguf,
                                 .build = build,
                                 .usual = usual,
                                 .pos_table = true,
                                 .names = names };
