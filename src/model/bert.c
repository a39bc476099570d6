/* bert.c — BERT and its kin (MiniLM, BGE, E5…): an encoder, every token sees the whole text (Devlin et al. 2018).
 *
 *   x = norm(word[token] + position[pos] + type[type])
 *   x = norm(x + attention(x));  x = norm(x + mlp(x));  n_layer times.
 *   attention: both ways, within a document; mlp: down(gelu(up x)). Norms are LayerNorms behind the sums; every product has a bias.
 * What it makes of a text is pooled into one vector: `loam embed`. The pooler and the heads that checkpoints may carry are not read. */
#include "model/model_int.h"

static lm_value *linear(lm_graph *g, lm_value *x, lm_role role, int64_t out, int64_t in, const char *name, int l) {
    lm_value *w = lm_param(g, role, out, in, "encoder.layer.%d.%s.weight", l, name);
    lm_value *b = lm_param(g, LM_ROLE_BIAS, out, 0, "encoder.layer.%d.%s.bias", l, name);
    return lm_linear(g, x, w, b);                                                            /* (N, out) */
}
static lm_value *norm(lm_graph *g, const lm_cfg *c, lm_value *x, const char *name, int l) {
    lm_value *w = lm_param(g, LM_ROLE_NORM, c->d, 0, "encoder.layer.%d.%s.weight", l, name);
    lm_value *b = lm_param(g, LM_ROLE_BIAS, c->d, 0, "encoder.layer.%d.%s.bias", l, name);
    return lm_layernorm(g, x, w, b, (float)c->eps);
}
static lm_value *attention(lm_graph *g, const lm_cfg *c, const lm_model_in *in, lm_value *x, int l) {
    const lm_attn_p ap = { .n_head = (int)c->n_head, .n_kv = (int)c->n_head, .d_head = (int)c->d_head,
                           .scale = (float)(1.0 / sqrt((double)c->d_head)), .both = true };
    lm_value *q = linear(g, x, LM_ROLE_COL, c->d, c->d, "attention.self.query", l);
    lm_value *k = linear(g, x, LM_ROLE_COL, c->d, c->d, "attention.self.key", l);
    lm_value *v = linear(g, x, LM_ROLE_COL, c->d, c->d, "attention.self.value", l);
    return linear(g, lm_attn(g, q, k, v, in->start, &ap), LM_ROLE_ROW, c->d, c->d, "attention.output.dense", l);
}
static lm_value *mlp(lm_graph *g, const lm_cfg *c, lm_value *x, int l) {
    lm_value *h = linear(g, x, LM_ROLE_COL, c->d_ff, c->d, "intermediate.dense", l);         /* (N, F) */
    return linear(g, lm_gelu(g, h, c->act == LM_ACT_GELU_TANH), LM_ROLE_ROW, c->d, c->d_ff, "output.dense", l);
}
static lm_err build(lm_graph *g, const lm_cfg *c, const lm_model_in *in, lm_model_out *out) {
    if (c->n_head * c->d_head != c->d || c->n_kv != c->n_head || c->types < 1)
        return lm_graph_fail(g, LM_E_CONFIG, "bert: %lld heads of %lld (%lld of keys) and %lld token types do not make up the width %lld",
                             (long long)c->n_head, (long long)c->d_head, (long long)c->n_kv, (long long)c->types, (long long)c->d);
    lm_value *word = lm_param(g, LM_ROLE_EMBED, c->vocab, c->d, "embeddings.word_embeddings.weight");
    lm_value *place = lm_param(g, LM_ROLE_EMBED, c->max_pos, c->d, "embeddings.position_embeddings.weight");
    lm_value *type = lm_param(g, LM_ROLE_EMBED, c->types, c->d, "embeddings.token_type_embeddings.weight");
    lm_value *x = lm_embed(g, word, in->tokens);                                              /* (N, d) */
    x = lm_add(g, x, lm_embed(g, type, lm_const(g, lm_type_of(in->tokens), 0)));             /* one text: type 0 */
    x = lm_add(g, x, lm_embed(g, place, in->pos));
    lm_value *w = lm_param(g, LM_ROLE_NORM, c->d, 0, "embeddings.LayerNorm.weight"), *b = lm_param(g, LM_ROLE_BIAS, c->d, 0, "embeddings.LayerNorm.bias");
    x = lm_layernorm(g, x, w, b, (float)c->eps);
    for (int l = 0; l < (int)c->n_layer; l++) {
        lm_block(g, l);
        x = lm_add(g, attention(g, c, in, x, l), x);
        x = norm(g, c, x, "attention.output.LayerNorm", l);
        x = lm_add(g, mlp(g, c, x, l), x);
        x = norm(g, c, x, "output.LayerNorm", l);
    }
    lm_block(g, -1);
    out->hidden = x; out->head = NULL;
    return lm_graph_err(g);
}

/* ---- config maps ------------------------------------------------------------------------------------------------------------ */
static lm_err from_hf(const lm_jv *j, lm_cfg *c) {
    LM_TRY(lm_json_int(j, "vocab_size", LM_JSON_NEED, 0, 1, 1 << 28, &c->vocab));
    LM_TRY(lm_json_int(j, "hidden_size", LM_JSON_NEED, 0, 1, 1 << 20, &c->d));
    LM_TRY(lm_json_int(j, "num_hidden_layers", LM_JSON_NEED, 0, 0, 4096, &c->n_layer));
    LM_TRY(lm_json_int(j, "num_attention_heads", LM_JSON_NEED, 0, 1, 4096, &c->n_head));
    LM_TRY(lm_json_int(j, "intermediate_size", LM_JSON_NEED, 0, 1, 1 << 22, &c->d_ff));
    LM_TRY(lm_json_int(j, "max_position_embeddings", LM_JSON_OPT, 512, 1, 1 << 28, &c->max_pos));
    LM_TRY(lm_json_int(j, "type_vocab_size", LM_JSON_OPT, 2, 1, 1 << 20, &c->types));
    LM_TRY(lm_json_num(j, "layer_norm_eps", LM_JSON_OPT, 1e-12, 0, 1, &c->eps));
    LM_TRY(lm_json_num(j, "initializer_range", LM_JSON_OPT, 0.02, 0, 10, &c->init_std));
    c->n_kv = c->n_head; c->d_head = c->d / c->n_head; c->tie = true; c->normalize = true;
    const char *act, *pos;
    LM_TRY(lm_json_str(j, "position_embedding_type", LM_JSON_OPT, "absolute", &pos, NULL));
    if (strcmp(pos, "absolute")) return lm_json_fail(j, LM_E_UNSUPPORTED, "position_embedding_type is \"%s\"; only absolute is known", pos);
    LM_TRY(lm_json_str(j, "hidden_act", LM_JSON_OPT, "gelu", &act, NULL));
    if (!strcmp(act, "gelu")) c->act = LM_ACT_GELU;
    else if (!strcmp(act, "gelu_new") || !strcmp(act, "gelu_pytorch_tanh")) c->act = LM_ACT_GELU_TANH;
    else return lm_json_fail(j, LM_E_UNSUPPORTED, "hidden_act is \"%s\"; bert has gelu, gelu_new and gelu_pytorch_tanh", act);
    return LM_OK;
}
static lm_err to_hf(lm_ctx *ctx, const lm_cfg *c, json_t *o) {
    (void)ctx;
    json_object_set_new(o, "hidden_size", json_integer(c->d));
    json_object_set_new(o, "num_hidden_layers", json_integer(c->n_layer));
    json_object_set_new(o, "num_attention_heads", json_integer(c->n_head));
    json_object_set_new(o, "intermediate_size", json_integer(c->d_ff));
    json_object_set_new(o, "max_position_embeddings", json_integer(c->max_pos));
    json_object_set_new(o, "type_vocab_size", json_integer(c->types));
    json_object_set_new(o, "layer_norm_eps", json_real(c->eps));
    json_object_set_new(o, "hidden_act", json_string(c->act == LM_ACT_GELU ? "gelu" : "gelu_new"));
    json_object_set_new(o, "position_embedding_type", json_string("absolute"));
    return LM_OK;
}
/* llama.cpp's numbers of pooling_type */
static const lm_pooling pools[] = { LM_POOL_NONE, LM_POOL_MEAN, LM_POOL_CLS, LM_POOL_LAST };
static lm_err from_gguf(lm_ctx *ctx, lm_gguf *f, lm_cfg *c) {
    int64_t pool;
    bool causal;
    LM_TRY(lm_model_gguf_common(ctx, f, "bert", c));
    LM_TRY(lm_gguf_bool(f, "bert.attention.causal", false, false, &causal));
    if (causal) return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: bert.attention.causal is true; only attention both ways is known for bert", lm_gguf_path(f));
    LM_TRY(lm_gguf_int(f, "bert.pooling_type", false, 0, 0, 4, &pool));
    if (pool == LM_COUNT(pools)) return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: bert.pooling_type is %lld (a ranking head); 0 to 3 are known", lm_gguf_path(f), (long long)pool);
    const lm_gguf_tensor *t;
    LM_TRY(lm_gguf_need(f, "token_types.weight", &t));
    c->types = t->rank == 2 ? t->dim[0] : 1;
    c->hf_type = "bert"; c->act = LM_ACT_GELU; c->pool = pools[pool]; c->normalize = true;
    c->attn_bias = c->mlp_bias = false; c->tie = true; c->n_eos = 0; c->bos = -1;
    return LM_OK;
}
static lm_err to_gguf(lm_ctx *ctx, const lm_cfg *c, lm_gguf_writer *w) {
    if (c->act != LM_ACT_GELU) return lm_fail(ctx, LM_E_UNSUPPORTED, "a GGUF file of bert means the exact form of GELU; this model has the tanh one");
    int pool = 0;
    while (pools[pool] != c->pool) pool++;
    LM_TRY(lm_model_gguf_put_common(c, "bert", w));
    LM_TRY(lm_gguf_put_f32(w, "bert.attention.layer_norm_epsilon", (float)c->eps));
    LM_TRY(lm_gguf_put_bool(w, "bert.attention.causal", false));
    LM_TRY(lm_gguf_put_u32(w, "tokenizer.ggml.token_type_count", (uint32_t)c->types));
    return pool ? lm_gguf_put_u32(w, "bert.pooling_type", (uint32_t)pool) : LM_OK;
}
#define ROW(h, gname) { "encoder.layer.%d." h ".weight", "blk.%d." gname ".weight", false, false, false, false }, \
                      { "encoder.layer.%d." h ".bias", "blk.%d." gname ".bias", false, false, false, false }
static const struct lm_name_map names[] = { { "embeddings.word_embeddings.weight", "token_embd.weight", false, false, false, false },
                                            { "embeddings.position_embeddings.weight", "position_embd.weight", false, false, false, false },
                                            { "embeddings.token_type_embeddings.weight", "token_types.weight", false, false, false, false },
                                            { "embeddings.LayerNorm.weight", "token_embd_norm.weight", false, false, false, false },
                                            { "embeddings.LayerNorm.bias", "token_embd_norm.bias", false, false, false, false },
                                            ROW("attention.self.query", "attn_q"),
                                            ROW("attention.self.key", "attn_k"),
                                            ROW("attention.self.value", "attn_v"),
                                            ROW("attention.output.dense", "attn_output"),
                                            ROW("attention.output.LayerNorm", "attn_output_norm"),
                                            ROW("intermediate.dense", "ffn_up"),
                                            ROW("output.dense", "ffn_down"),
                                            ROW("output.LayerNorm", "layer_output_norm"),
                                            { NULL, NULL, false, false, false, false } };
static const char *const hf[] = { "BertModel", "BertForMaskedLM", NULL };
static const char *const gguf[] = { "bert", NULL };
static const char *const unused[] = { "pooler.", "cls.", "embeddings.position_ids", NULL };
static void usual(lm_cfg *c) { c->act = LM_ACT_GELU; c->types = 2; if (!c->d_ff) c->d_ff = 4 * c->d; }
const lm_model lm_model_bert = { .name = "bert",
                                 .paper = "Devlin et al. 2018, arXiv 1810.04805",
                                 .hf_archs = hf,
                                 .gguf_archs = gguf,
                                 .from_hf = from_hf,
                                 .from_gguf = from_gguf,
                                 .to_hf = to_hf,
                                 .to_gguf = to_gguf,
                                 .build = build,
                                 .usual = usual,
                                 .pos_table = true,
                                 .encoder = true,
                                 .hf_prefix = "bert.",
                                 .unused = unused,
                                 .names = names };
