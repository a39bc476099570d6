/* model_rope.c — rotary positions of a configuration, in both spellings of config.json.
 *
 * Up to transformers 4 a file says rope_theta, and rope_scaling {rope_type (earlier: type), factor, …} where the context was extended;
 * from transformers 5 on one object, rope_parameters, holds it all. Both are read, by the same precedence as transformers:
 * rope_parameters, then rope_scaling, then the top level. What is written is the older spelling, which every version reads. */
#include "model/model_int.h"

static const struct { const char *name; lm_rope_scaling kind;
} kinds[] = { { "default", LM_ROPE_NONE },
              { "linear", LM_ROPE_LINEAR },
              { "dynamic", LM_ROPE_DYNAMIC },
              { "llama3", LM_ROPE_LLAMA3 },
              { "yarn", LM_ROPE_YARN },
              { "longrope", LM_ROPE_LONG },
              { "su", LM_ROPE_LONG } };                     /* its first name */
const char *lm_model_rope_name(lm_rope_scaling kind) {
    for (int i = 0; i < LM_COUNT(kinds); i++) if (kinds[i].kind == kind) return kinds[i].name;
    return "?";
}
static lm_err factors(const lm_jv *from, const char *key, int n, float *out) {
    lm_jv list, one;
    LM_TRY(lm_json_arr(from, key, LM_JSON_NEED, &list));
    if (lm_json_len(&list) != (size_t)n || n > LM_ROPE_FACTORS)
        return lm_json_fail(&list, LM_E_SHAPE, "%zu factors, wanted one for each of the %d frequencies (at most %d)", lm_json_len(&list), n, (int)LM_ROPE_FACTORS);
    for (int i = 0; i < n; i++) {
        double v;
        LM_TRY(lm_json_item(&list, (size_t)i, &one));
        LM_TRY(lm_json_as_num(&one, 1e-6, 1e6, &v));
        out[i] = (float)v;
    }
    return LM_OK;
}
/* from: rope_parameters or rope_scaling (v NULL: neither). */
static lm_err scaling(const lm_jv *config, const lm_jv *from, const lm_cfg *c, lm_rope_table_p *r) {
    const char *type, *older;
    LM_TRY(lm_json_str(from, "type", LM_JSON_OPT, "default", &older, NULL));
    LM_TRY(lm_json_str(from, "rope_type", LM_JSON_OPT, older, &type, NULL));
    int k = 0;
    while (k < LM_COUNT(kinds) && strcmp(kinds[k].name, type)) k++;
    if (k == LM_COUNT(kinds))
        return lm_json_fail(from, LM_E_UNSUPPORTED,
                            "rotary positions of type \"%s\" are not known; default, linear, dynamic, llama3, yarn and longrope are", type);
    r->scaling = kinds[k].kind;
    if (r->scaling == LM_ROPE_NONE) return LM_OK;
    const bool ratio = r->scaling == LM_ROPE_YARN || r->scaling == LM_ROPE_LONG;         /* of the two lengths, where no factor is given */
    LM_TRY(lm_json_num(from, "factor", ratio ? LM_JSON_OPT : LM_JSON_NEED, 0, ratio ? 0 : 1e-6, 1e6, &r->factor));
    if (r->scaling == LM_ROPE_LLAMA3 || ratio) {
        int64_t top;                                             /* some families keep it beside rope_scaling */
        LM_TRY(lm_json_int(config, "original_max_position_embeddings", LM_JSON_OPT, r->scaling == LM_ROPE_LONG ? 4096 : c->max_pos, 1, 1 << 28, &top));
        LM_TRY(lm_json_int(from, "original_max_position_embeddings", LM_JSON_OPT, top, 1, 1 << 28, &r->original_max_pos));
    }
    if (r->scaling == LM_ROPE_LONG) {
        LM_TRY(lm_json_num(from, "attention_factor", LM_JSON_OPT, 0, 0, 1e6, &r->attention_factor));
        LM_TRY(factors(from, "short_factor", r->d_head / 2, r->short_factor));
        return factors(from, "long_factor", r->d_head / 2, r->long_factor);
    }
    if (r->scaling == LM_ROPE_LLAMA3) {
        LM_TRY(lm_json_num(from, "low_freq_factor", LM_JSON_NEED, 0, 1e-6, 1e6, &r->low_freq_factor));
        LM_TRY(lm_json_num(from, "high_freq_factor", LM_JSON_NEED, 0, 1e-6, 1e6, &r->high_freq_factor));
        if (r->high_freq_factor <= r->low_freq_factor)
            return lm_json_fail(from, LM_E_RANGE, "low_freq_factor %g and high_freq_factor %g, wanted low < high", r->low_freq_factor,
                                r->high_freq_factor);
    }
    if (r->scaling == LM_ROPE_YARN) {
        LM_TRY(lm_json_num(from, "beta_fast", LM_JSON_OPT, 0, 0, 1e6, &r->beta_fast));
        LM_TRY(lm_json_num(from, "beta_slow", LM_JSON_OPT, 0, 0, 1e6, &r->beta_slow));
        LM_TRY(lm_json_num(from, "mscale", LM_JSON_OPT, 0, 0, 1e6, &r->mscale));
        LM_TRY(lm_json_num(from, "mscale_all_dim", LM_JSON_OPT, 0, 0, 1e6, &r->mscale_all_dim));
        LM_TRY(lm_json_num(from, "attention_factor", LM_JSON_OPT, 0, 0, 1e6, &r->attention_factor));
        bool truncate;
        LM_TRY(lm_json_bool(from, "truncate", LM_JSON_OPT, true, &truncate));
        r->no_truncate = !truncate;
    }
    return LM_OK;
}
lm_err lm_model_rope_from_hf(const lm_jv *config, lm_cfg *c) { return lm_model_rope_layers_from_hf(config, NULL, 10000, c); }
lm_err lm_model_rope_layers_from_hf(const lm_jv *config, const char *layers, double usual, lm_cfg *c) {
    lm_jv params, scale, part, *from = &params;
    LM_TRY(lm_json_obj(config, "rope_parameters", LM_JSON_OPT, &params));
    LM_TRY(lm_json_obj(config, "rope_scaling", LM_JSON_OPT, &scale));
    part.v = NULL;
    if (params.v && layers) LM_TRY(lm_json_obj(&params, layers, LM_JSON_OPT, &part));
    if (part.v) from = &part;
    else if (!params.v) from = &scale;
    else if (json_is_object(json_object_get(params.v, "full_attention")) || json_is_object(json_object_get(params.v, "sliding_attention")))
        return lm_json_fail(&params, LM_E_UNSUPPORTED, "rotary positions that differ between layers are not known");
    lm_rope_table_p r = { .d_head = (int)c->d_head, .max_pos = c->max_pos };
    double theta, partial;
    LM_TRY(lm_json_num(config, "partial_rotary_factor", LM_JSON_OPT, 1, 0, 1, &partial));
    if (from->v) LM_TRY(lm_json_num(from, "partial_rotary_factor", LM_JSON_OPT, partial, 0, 1, &partial));
    if (partial != 1) {
        r.d_head = (int)((double)c->d_head * partial);
        if (!c->model->partial_rope) return lm_json_fail(config, LM_E_UNSUPPORTED, "partial_rotary_factor is %g; this family rotates whole heads", partial);
        if (r.d_head < 2 || r.d_head % 2)
            return lm_json_fail(config, LM_E_UNSUPPORTED, "partial_rotary_factor %g of heads of %lld is %d dimensions; wanted an even number", partial,
                                (long long)c->d_head, r.d_head);
    }
    LM_TRY(lm_json_num(config, "rope_theta", LM_JSON_OPT, usual, 1e-6, 1e15, &theta));
    r.base = theta;
    if (from->v) {
        LM_TRY(lm_json_num(from, "rope_theta", LM_JSON_OPT, theta, 1e-6, 1e15, &r.base));
        LM_TRY(scaling(config, from, c, &r));
    }
    c->rope = r;
    return LM_OK;
}
static void put(json_t *o, const char *key, double v) { if (v != 0) json_object_set_new(o, key, json_real(v)); }
lm_err lm_model_rope_to_hf(const lm_cfg *c, json_t *config) {
    const lm_rope_table_p *r = &c->rope;
    json_object_set_new(config, "rope_theta", json_real(r->base));
    if (r->d_head != c->d_head) json_object_set_new(config, "partial_rotary_factor", json_real((double)r->d_head / (double)c->d_head));
    if (r->scaling == LM_ROPE_NONE) { json_object_set_new(config, "rope_scaling", json_null()); return LM_OK; }
    json_t *s = json_object();
    if (!s) return LM_E_NOMEM;
    /* "type" is what the versions from before rope_type know, and they know these two only; families with a local base are younger */
    bool old = (r->scaling == LM_ROPE_LINEAR || r->scaling == LM_ROPE_DYNAMIC) && c->rope_local == 0;
    json_object_set_new(s, old ? "type" : "rope_type", json_string(lm_model_rope_name(r->scaling)));
    if (r->scaling == LM_ROPE_LONG) {
        json_t *a = json_array(), *b = json_array();
        for (int i = 0; i < r->d_head / 2; i++) {
            json_array_append_new(a, json_real(lm_model_shortest((double)r->short_factor[i])));
            json_array_append_new(b, json_real(lm_model_shortest((double)r->long_factor[i])));
        }
        json_object_set_new(s, "short_factor", a); json_object_set_new(s, "long_factor", b);
        put(s, "factor", r->factor); put(s, "attention_factor", r->attention_factor);
        json_object_set_new(config, "original_max_position_embeddings", json_integer(r->original_max_pos));
        return json_object_set_new(config, "rope_scaling", s) ? LM_E_NOMEM : LM_OK;
    }
    put(s, "factor", r->factor > 0 ? r->factor : (double)c->max_pos / (double)r->original_max_pos);
    if (r->original_max_pos) json_object_set_new(s, "original_max_position_embeddings", json_integer(r->original_max_pos));
    put(s, "low_freq_factor", r->low_freq_factor); put(s, "high_freq_factor", r->high_freq_factor);
    put(s, "beta_fast", r->beta_fast); put(s, "beta_slow", r->beta_slow);
    put(s, "mscale", r->mscale); put(s, "mscale_all_dim", r->mscale_all_dim); put(s, "attention_factor", r->attention_factor);
    if (r->no_truncate) json_object_set_new(s, "truncate", json_false());
    return json_object_set_new(config, "rope_scaling", s) ? LM_E_NOMEM : LM_OK;
}
