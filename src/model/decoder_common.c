/* decoder_common.c — see decoder_common.h. */
#include "model/decoder_common.h"

lm_value *lm_decoder_linear(lm_graph *g, lm_value *x, lm_role role, int64_t out, int64_t in, bool bias, const char *name, int l) {
    lm_value *w = lm_param(g, role, out, in, "model.layers.%d.%s.weight", l, name);
    lm_value *b = bias ? lm_param(g, LM_ROLE_BIAS, out, 0, "model.layers.%d.%s.bias", l, name) : NULL;
    return lm_linear(g, x, w, b);                                                                       /* (N, out) */
}
lm_value *lm_decoder_norm(lm_graph *g, const lm_cfg *c, const lm_decoder *d, lm_value *x, int64_t width, const char *name, int l) {
    lm_value *w = lm_param(g, LM_ROLE_NORM, width, 0, "model.layers.%d.%s.weight", l, name);
    return lm_rmsnorm_offset(g, x, w, (float)c->eps, d->norm_offset);
}
lm_value *lm_decoder_mix(lm_graph *g, const lm_cfg *c, const lm_model_in *in, lm_value *rope, lm_value *q, lm_value *k, lm_value *v, int l) {
    const lm_rope_p rp = { .d_head = (int)c->d_head, .rotary = (int)c->rope.d_head };
    const double scale = 1.0 / sqrt(c->query_scale > 0 ? c->query_scale : (double)c->d_head);
    const lm_attn_p ap = { .n_head = (int)c->n_head, .n_kv = (int)c->n_kv, .d_head = (int)c->d_head, .window = lm_cfg_window(c, l),
                           .scale = (float)scale, .cap = (float)c->attn_cap };
    q = lm_rope(g, q, rope, &rp);
    k = lm_rope(g, k, rope, &rp);
    return lm_attn(g, q, k, v, in->start, &ap);                                                         /* (N, H*D) */
}
lm_value *lm_decoder_attention(lm_graph *g, const lm_cfg *c, const lm_decoder *d, const lm_model_in *in, lm_value *rope, lm_value *x, int l) {
    const int64_t dq = c->n_head * c->d_head, dkv = c->n_kv * c->d_head;
    lm_value *q = lm_decoder_linear(g, x, LM_ROLE_COL, dq, c->d, d->qkv_bias, "self_attn.q_proj", l);     /* (N, H*D) */
    lm_value *k = lm_decoder_linear(g, x, LM_ROLE_COL, dkv, c->d, d->qkv_bias, "self_attn.k_proj", l);    /* (N, Hk*D) */
    lm_value *v = lm_decoder_linear(g, x, LM_ROLE_COL, dkv, c->d, d->qkv_bias, "self_attn.v_proj", l);
    if (d->qk_norm) {
        q = lm_decoder_norm(g, c, d, q, c->d_head, "self_attn.q_norm", l);
        k = lm_decoder_norm(g, c, d, k, c->d_head, "self_attn.k_norm", l);
    }
    lm_value *o = lm_decoder_mix(g, c, in, rope, q, k, v, l);
    return lm_decoder_linear(g, o, LM_ROLE_ROW, c->d, dq, d->o_bias, "self_attn.o_proj", l);
}
lm_value *lm_decoder_mlp(lm_graph *g, const lm_cfg *c, const lm_decoder *d, lm_value *x, int l) {
    lm_value *gate = lm_decoder_linear(g, x, LM_ROLE_COL, c->d_ff, c->d, d->mlp_bias, "mlp.gate_proj", l);  /* (N, F) */
    lm_value *up = lm_decoder_linear(g, x, LM_ROLE_COL, c->d_ff, c->d, d->mlp_bias, "mlp.up_proj", l);
    gate = d->act == LM_ACT_SILU ? lm_silu(g, gate) : lm_gelu(g, gate, d->act == LM_ACT_GELU_TANH);
    return lm_decoder_linear(g, lm_mul(g, gate, up), LM_ROLE_ROW, c->d, c->d_ff, d->mlp_bias, "mlp.down_proj", l);
}
lm_err lm_decoder_build(lm_graph *g, const lm_cfg *c, const lm_decoder *d, const lm_model_in *in, lm_model_out *out) {
    lm_value *emb = lm_param(g, LM_ROLE_EMBED, c->vocab, c->d, "model.embed_tokens.weight");
    lm_rope_table_p table = c->rope;
    table.context = in->context ? in->context : c->max_pos;
    lm_value *rope = lm_rope_table(g, in->pos, &table);                         /* (N, D): cos | sin, shared by all layers */
    lm_value *x = lm_embed(g, emb, in->tokens);                                 /* (N, d) */
    for (int l = 0; l < (int)c->n_layer; l++) {
        lm_block(g, l);
        lm_value *h = lm_decoder_norm(g, c, d, x, c->d, "input_layernorm", l);
        h = (d->attention ? d->attention : lm_decoder_attention)(g, c, d, in, rope, h, l);
        x = lm_add(g, x, lm_model_drop(g, in, h, 2 * l));
        h = lm_decoder_norm(g, c, d, x, c->d, "post_attention_layernorm", l);
        h = (d->mlp ? d->mlp : lm_decoder_mlp)(g, c, d, h, l);
        x = lm_add(g, x, lm_model_drop(g, in, h, 2 * l + 1));
    }
    lm_block(g, -1);
    out->hidden = lm_rmsnorm_offset(g, x, lm_param(g, LM_ROLE_NORM, c->d, 0, "model.norm.weight"), (float)c->eps, d->norm_offset);
    out->head = c->tie ? emb : lm_param(g, LM_ROLE_EMBED, c->vocab, c->d, "lm_head.weight");
    return lm_graph_err(g);
}

/* ---- config maps ------------------------------------------------------------------------------------------------------------ */
lm_err lm_decoder_from_hf(const lm_jv *j, int64_t d_head, double eps, bool tie, lm_cfg *c) {
    const int64_t big = 1 << 28;
    LM_TRY(lm_json_int(j, "vocab_size", LM_JSON_NEED, 0, 1, big, &c->vocab));
    LM_TRY(lm_json_int(j, "hidden_size", LM_JSON_NEED, 0, 1, 1 << 20, &c->d));
    LM_TRY(lm_json_int(j, "num_hidden_layers", LM_JSON_NEED, 0, 0, 4096, &c->n_layer));
    LM_TRY(lm_json_int(j, "num_attention_heads", LM_JSON_NEED, 0, 1, 4096, &c->n_head));
    LM_TRY(lm_json_int(j, "num_key_value_heads", LM_JSON_OPT, c->n_head, 1, 4096, &c->n_kv));
    LM_TRY(lm_json_int(j, "head_dim", LM_JSON_OPT, d_head ? d_head : c->d / c->n_head, 1, 4096, &c->d_head));
    LM_TRY(lm_json_int(j, "intermediate_size", LM_JSON_NEED, 0, 1, 1 << 22, &c->d_ff));
    LM_TRY(lm_json_int(j, "max_position_embeddings", LM_JSON_OPT, 2048, 1, big, &c->max_pos));
    LM_TRY(lm_json_num(j, "rms_norm_eps", LM_JSON_OPT, eps, 0, 1, &c->eps));
    LM_TRY(lm_json_bool(j, "tie_word_embeddings", LM_JSON_OPT, tie, &c->tie));
    return lm_json_num(j, "initializer_range", LM_JSON_OPT, 0.02, 0, 10, &c->init_std);
}
lm_err lm_decoder_silu(const lm_jv *j, lm_cfg *c) {
    const char *act;
    c->act = LM_ACT_SILU;
    LM_TRY(lm_json_str(j, "hidden_act", LM_JSON_OPT, "silu", &act, NULL));
    return !strcmp(act, "silu") || !strcmp(act, "swish")
               ? LM_OK
               : lm_json_fail(j, LM_E_UNSUPPORTED, "hidden_act is \"%s\"; this family has silu", act);
}
void lm_decoder_to_hf(const lm_cfg *c, json_t *o) {
    json_object_set_new(o, "hidden_size", json_integer(c->d));
    json_object_set_new(o, "num_hidden_layers", json_integer(c->n_layer));
    json_object_set_new(o, "num_attention_heads", json_integer(c->n_head));
    json_object_set_new(o, "num_key_value_heads", json_integer(c->n_kv));
    json_object_set_new(o, "head_dim", json_integer(c->d_head));
    json_object_set_new(o, "intermediate_size", json_integer(c->d_ff));
    json_object_set_new(o, "max_position_embeddings", json_integer(c->max_pos));
    json_object_set_new(o, "rms_norm_eps", json_real(c->eps));
}
lm_err lm_decoder_windows_from_hf(const lm_jv *j, lm_cfg *c) {
    lm_jv list, one;
    LM_TRY(lm_json_arr(j, "layer_types", LM_JSON_OPT, &list));
    if (!list.v) return LM_OK;
    const int64_t n = (int64_t)lm_json_len(&list);
    if (n != c->n_layer) return lm_json_fail(&list, LM_E_SHAPE, "%lld entries for %lld layers", (long long)n, (long long)c->n_layer);
    lm_cfg k = { .window = 1 };
    int64_t sliding = 0, first = n, full = n;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < n; i++) {
            const char *type;
            LM_TRY(lm_json_item(&list, (size_t)i, &one));
            LM_TRY(lm_json_as_str(&one, &type, NULL));
            const bool slides = !strcmp(type, "sliding_attention");
            if (!slides && strcmp(type, "full_attention"))
                return lm_json_fail(&one, LM_E_UNSUPPORTED, "layers of type \"%s\" are not known; full_attention and sliding_attention are", type);
            if (pass && slides != (lm_cfg_window(&k, (int)i) != 0))
                return lm_json_fail(&one, LM_E_UNSUPPORTED, "this order of windows is not known: every layer from one on has a window, or all but each n-th");
            sliding += slides;
            if (slides && i < first) first = i;
            if (!slides && i < full) full = i;
        }
        if (full < n && first == 0) k.window_period = full + 1;
        else k.window_first = first;
    }
    if (!sliding) { c->window = c->window_first = c->window_period = 0; return LM_OK; }
    if (!c->window) return lm_json_fail(&list, LM_E_CONFIG, "%lld layers have a window, but sliding_window is not given", (long long)(sliding / 2));
    c->window_first = k.window_first; c->window_period = k.window_period;
    return LM_OK;
}
lm_err lm_decoder_windows_to_hf(const lm_cfg *c, json_t *o) {
    json_t *list = json_array();
    for (int l = 0; l < (int)c->n_layer; l++) json_array_append_new(list, json_string(lm_cfg_window(c, l) ? "sliding_attention" : "full_attention"));
    return json_object_set_new(o, "layer_types", list) ? LM_E_NOMEM : LM_OK;
}
