/* model.c — the table of architectures, and what is the same for all: checks, the parameter list, random initial weights. */
#include "model/model_int.h"
#define MODEL(n) extern const lm_model lm_model_##n;
#include "model_list.inc"
#undef MODEL
const lm_model *const lm_models[] = {
#define MODEL(n) &lm_model_##n,
#include "model_list.inc"
#undef MODEL
    NULL };
const lm_model *lm_model_by_name(const char *name) {
    for (int i = 0; lm_models[i]; i++) if (!strcmp(lm_models[i]->name, name)) return lm_models[i];
    return NULL;
}
lm_err lm_cfg_check(lm_ctx *ctx, const lm_cfg *c) {
    if (!c->model) return lm_fail(ctx, LM_E_CONFIG, "the configuration names no architecture");
    const struct {
        const char *name;
        int64_t v, max;
    } need[] = { { "vocabulary", c->vocab, 1 << 28 },      { "width", c->d, 1 << 20 },
                 { "number of heads", c->n_head, 4096 },   { "number of key-value heads", c->n_kv, 4096 },
                 { "head size", c->d_head, 4096 },         { "feed-forward width", c->d_ff, 1 << 22 },
                 { "context length", c->max_pos, 1 << 28 } };
    for (int i = 0; i < LM_COUNT(need); i++)
        if (need[i].v < 1 || need[i].v > need[i].max)
            return lm_fail(ctx, LM_E_CONFIG, "the model's %s is %lld; it must be 1 to %lld", need[i].name, (long long)need[i].v,
                           (long long)need[i].max);
    if (c->n_layer < 0 || c->n_layer > 4096)
        return lm_fail(ctx, LM_E_CONFIG, "the model's number of layers is %lld; it must be 0 to 4096", (long long)c->n_layer);
    if (c->n_head % c->n_kv)
        return lm_fail(ctx, LM_E_CONFIG, "%lld heads do not divide among %lld key-value heads", (long long)c->n_head, (long long)c->n_kv);
    if (c->window < 0 || c->window > 1 << 28)
        return lm_fail(ctx, LM_E_CONFIG, "the attention window is %lld; it must be 0 to %d", (long long)c->window, 1 << 28);
    if (c->window_first < 0 || c->window_first > 4096 || c->window_period < 0 || c->window_period > 4096)
        return lm_fail(ctx, LM_E_CONFIG, "windows from layer %lld on, but for each %lld-th: layers are 0 to 4096", (long long)c->window_first,
                       (long long)c->window_period);
    if (!(c->query_scale >= 0 && c->query_scale <= 1e6))
        return lm_fail(ctx, LM_E_CONFIG, "the scale of the queries is %g; it must be 0 to 1e6", c->query_scale);
    if (!(c->attn_cap >= 0 && c->attn_cap <= 1e6 && c->logit_cap >= 0 && c->logit_cap <= 1e6))
        return lm_fail(ctx, LM_E_CONFIG, "scores are capped at %g and logits at %g; it must be 0 (none) to 1e6", c->attn_cap, c->logit_cap);
    if (!(c->rope_local >= 0 && c->rope_local <= 1e15))
        return lm_fail(ctx, LM_E_CONFIG, "the base of local rotary positions is %g; it must be 0 (none) to 1e15", c->rope_local);
    if (!(c->eps >= 0 && c->eps < 1)) return lm_fail(ctx, LM_E_CONFIG, "the epsilon of the norms is %g; it must be 0 to 1", c->eps);
    if (c->d_head % 2 || c->d_head > LM_ATTN_MAX_D)
        return lm_fail(ctx, LM_E_CONFIG, "the head size is %lld; it must be even and at most %d", (long long)c->d_head, LM_ATTN_MAX_D);
    return LM_OK;
}
lm_err lm_cfg_from_hf(lm_ctx *ctx, const char *file, json_t *config, lm_cfg *c) {
    lm_jv root = lm_json_root(ctx, file, config), archs, first;
    LM_TRY(lm_json_arr(&root, "architectures", LM_JSON_NEED, &archs));
    LM_TRY(lm_json_item(&archs, 0, &first));
    const char *arch, *type;
    LM_TRY(lm_json_as_str(&first, &arch, NULL));
    LM_TRY(lm_json_str(&root, "model_type", LM_JSON_OPT, "", &type, NULL));
    lm_cfg k = { .bos = -1 };
    for (int i = 0; lm_models[i] && !k.model; i++)
        for (int a = 0; lm_models[i]->hf_archs[a]; a++) if (!strcmp(lm_models[i]->hf_archs[a], arch)) k.model = lm_models[i];
    if (!k.model)
        return lm_json_fail(&first, LM_E_UNSUPPORTED, "the architecture %s is not known; known ones are listed by `loam inspect --models`",
                            arch);
    k.hf_type = !strcmp(type, "mistral") ? "mistral" : k.model->name;
    LM_TRY(k.model->from_hf(&root, &k));
    int64_t bos;
    LM_TRY(lm_json_int(&root, "bos_token_id", LM_JSON_OPT, -1, -1, INT32_MAX, &bos));
    k.bos = (int32_t)bos;
    json_t *eos = json_object_get(config, "eos_token_id");
    if (json_is_array(eos)) {
        int64_t ids[8];
        LM_TRY(lm_json_ints(&root, "eos_token_id", LM_JSON_OPT, 0, INT32_MAX, ids, 8, &k.n_eos));
        for (int i = 0; i < k.n_eos; i++) k.eos[i] = (int32_t)ids[i];
    } else {
        int64_t e;
        LM_TRY(lm_json_int(&root, "eos_token_id", LM_JSON_OPT, -1, -1, INT32_MAX, &e));
        if (e >= 0) { k.eos[0] = (int32_t)e; k.n_eos = 1; }
    }
    LM_TRY(lm_cfg_check(ctx, &k));
    *c = k;
    return LM_OK;
}
lm_err lm_model_walk(lm_ctx *ctx, const lm_cfg *c, lm_err (*fn)(void *, const char *, const lm_type *, lm_role, bool), void *ud) {
    lm_graph *g;
    LM_TRY(lm_graph_new(&g, ctx, NULL));
    lm_type ids = LM_TYPE(LM_I32, 1);
    lm_model_in in = { .tokens = lm_input(g, "tokens", &ids), .pos = lm_input(g, "pos", &ids), .start = lm_input(g, "start", &ids) };
    lm_model_out out = { NULL, NULL };
    lm_err err = c->model->build(g, c, &in, &out);
    for (int i = 0; !err && i < lm_graph_n_values(g); i++) {
        const lm_value *v = lm_graph_value(g, i);
        if (v->kind == LM_V_STATE) err = fn(ud, v->name, &v->type, v->role, v == out.head);
    }
    lm_graph_free(g);
    return err;
}
typedef struct { lm_err (*fn)(void *, const char *, const lm_type *, lm_role); void *ud; } params_arg;
static lm_err param(void *ud, const char *name, const lm_type *t, lm_role role, bool head) {
    (void)head;
    return ((params_arg *)ud)->fn(((params_arg *)ud)->ud, name, t, role);
}
lm_err lm_model_params(lm_ctx *ctx, const lm_cfg *c, lm_err (*fn)(void *, const char *, const lm_type *, lm_role), void *ud) {
    return lm_model_walk(ctx, c, param, &(params_arg){ fn, ud });
}
lm_value *lm_model_logits(lm_graph *g, const lm_cfg *c, lm_value *hidden, lm_value *head) {
    lm_value *z = lm_linear(g, hidden, head, NULL);
    return c->logit_cap > 0 ? lm_softcap(g, z, (float)c->logit_cap) : z;
}
const struct lm_name_map *lm_model_name_row(const lm_model *m, const char *hf, int *layer) {
    for (const struct lm_name_map *r = m->names; r->hf; r++) {
        const char *d = strstr(r->hf, "%d"), *p = hf;
        size_t head = d ? (size_t)(d - r->hf) : strlen(r->hf);
        if (strncmp(hf, r->hf, head)) continue;
        if (!d) { if (!hf[head]) { *layer = -1; return r; } continue; }
        int n = 0, digits = 0;
        for (p += head; *p >= '0' && *p <= '9' && digits < 6; p++, digits++) n = n * 10 + (*p - '0');
        if (digits && !strcmp(p, d + 2)) { *layer = n; return r; }
    }
    return NULL;
}
typedef struct { lm_ctx *ctx; lm_store *store; const lm_cfg *c; uint64_t seed; } init_arg;
static lm_err init_one(void *ud, const char *name, const lm_type *t, lm_role role) {
    init_arg *a = ud;
    lm_tensor w;
    LM_TRY(lm_store_add(a->store, name, t, LM_PLAIN, LM_MEM_WEIGHTS, &w));
    lm_rng r = lm_rng_of(a->seed, name);
    int layer;
    const struct lm_name_map *row = lm_model_name_row(a->c->model, name, &layer);
    float *p = w.data, fill = role == LM_ROLE_NORM && !(row && row->plus_one) ? 1.0f : 0.0f;
    double std = a->c->init_std * (role == LM_ROLE_ROW && a->c->n_layer ? 1.0 / sqrt(2.0 * (double)a->c->n_layer) : 1.0);
    int64_t n = lm_numel(&w);
    bool random = role == LM_ROLE_COL || role == LM_ROLE_ROW || role == LM_ROLE_EMBED;
    for (int64_t i = 0; i < n; i++) p[i] = random ? (float)(std * (double)lm_rng_normal(r, (uint64_t)i)) : fill;
    return LM_OK;
}
lm_err lm_model_init(lm_ctx *ctx, const lm_cfg *c, lm_store *store, uint64_t seed) {
    init_arg a = { ctx, store, c, seed };
    return lm_model_params(ctx, c, init_one, &a);
}
lm_value *lm_model_drop(lm_graph *g, const lm_model_in *in, lm_value *x, int place) {
    if (!in->rng || in->dropout <= 0) return x;
    return lm_dropout(g, x, in->rng, (float)in->dropout, (uint64_t)place);
}
