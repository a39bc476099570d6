/* test_model_files.c — weights on disk: GGUF files that others made, folders with something missing or too much, wrong configurations;
 * memory and files that fail. */
#include <unistd.h>
#include "base/file.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "model/model.h"
#include "test.h"

static lm_ctx *ctx;
static size_t base;
static char t_dir[512];
static void begin(void) {
    const char *tmp = getenv("TMPDIR");
    lm_ledger l;
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 })) abort();
    lm_mem_ledger(ctx, &l);
    base = l.total_now;
    snprintf(t_dir, sizeof t_dir, "%s/loam-test-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(t_dir)) abort();
}
static void end(void) {
    lm_ledger l;
    LM_CHECK_OK(ctx, lm_dir_remove(ctx, t_dir));
    lm_mem_ledger(ctx, &l);
    LM_CHECK(l.total_now == base);
    lm_ctx_free(ctx);
}
static const char *at(const char *dir, const char *name) {
    static char buf[8][1200]; static int k;
    char *p = buf[k++ % 8];
    snprintf(p, sizeof buf[0], "%s/%s", dir, name);
    return p;
}
#define MODEL(name) LM_FIXTURES "/models/" name
#define GGUF(name) LM_FIXTURES "/gguf/" name
static lm_err load(const char *path, const lm_load_opts *o, lm_weights **w, lm_store **s) {
    LM_TRY(lm_weights_open(w, ctx, path));
    lm_err e = lm_store_new(s, ctx);
    if (!e && (e = lm_weights_load(*w, *s, o))) lm_store_free(*s);
    if (e) lm_weights_close(*w);
    return e;
}
static lm_err try_load(const char *path, const lm_load_opts *o) {
    lm_weights *w; lm_store *s;
    LM_TRY(load(path, o, &w, &s));
    lm_store_free(s); lm_weights_close(w);
    return LM_OK;
}
static const lm_load_opts f32 = { .dtype = LM_F32 };

/* ---- GGUF files made by the gguf package -------------------------------------------------------------------------------------------- */
static void gguf_against(const char *file, const char *folder, bool quantized) {
    lm_weights *a, *b; lm_store *sa, *sb;
    LM_NEED_OK(ctx, load(file, &f32, &a, &sa));
    LM_NEED_OK(ctx, load(folder, &f32, &b, &sb));
    LM_CHECK_STR(lm_weights_kind(a), "gguf");
    LM_CHECK(lm_weights_count(a) == lm_weights_count(b));
    int n_quant = 0;
    for (int i = 0; i < lm_weights_count(a); i++) {
        lm_weight_info info;
        lm_tensor x, y;
        lm_weights_info(a, i, &info);
        LM_CHECK(lm_store_get(sa, info.name, &x) && lm_store_get(sb, info.name, &y));
        LM_CHECK(lm_numel(&x) == lm_numel(&y) && info.dim[0] == y.dim[0]);
        n_quant += info.quant != NULL;
        double d = 0, m = 0;
        for (int64_t k = 0; k < lm_numel(&x); k++) {
            d = fmax(d, fabs((double)((float *)x.data)[k] - (double)((float *)y.data)[k]));
            m = fmax(m, fabs((double)((float *)y.data)[k]));
        }
        if (!(d <= m * (info.quant ? 1.0 / 200 : info.dtype == LM_F16 ? 0x1p-11 : 0))) {
            lm_t_fail++;
            printf("%s: %s is off by %.3g, its largest is %.3g\n", file, info.name, d, m);
        }
    }
    LM_CHECK(quantized == (n_quant > 0));
    const lm_cfg *p = lm_weights_cfg(a), *q = lm_weights_cfg(b);
    LM_CHECK(p->model == q->model && p->vocab == q->vocab && p->d == q->d && p->n_layer == q->n_layer && p->n_head == q->n_head &&
             p->n_kv == q->n_kv && p->d_head == q->d_head && p->d_ff == q->d_ff);
    LM_CHECK(p->max_pos == q->max_pos && p->eps == q->eps && p->tie == q->tie && p->act == q->act);
    LM_CHECK(p->rope.scaling == q->rope.scaling && p->rope.base == q->rope.base && p->rope.factor == q->rope.factor &&
             p->rope.original_max_pos == q->rope.original_max_pos && p->rope.low_freq_factor == q->rope.low_freq_factor &&
             p->rope.high_freq_factor == q->rope.high_freq_factor);
    if (quantized) LM_CHECK(p->bos == 1 && p->n_eos == 2 && p->eos[0] == 2 && p->eos[1] == 5);
    lm_store_free(sa); lm_weights_close(a); lm_store_free(sb); lm_weights_close(b);
}
static void test_gguf_of_others(void) {
    begin();
    gguf_against(GGUF("llama3.gguf"), MODEL("llama3"), false);
    gguf_against(GGUF("gpt2.gguf"), MODEL("gpt2"), false);
    gguf_against(GGUF("llama1-mixed.gguf"), MODEL("llama1"), true);
    end();
}

/* ---- folders, one thing changed at a time ------------------------------------------------------------------------------------------- */
typedef struct {
    const char *drop, *add, *as;
    int add_rank;
    int64_t add_dim[4];
    lm_dtype add_dtype;
    bool same_as_emb;
    const char *rename_from, *rename_to;
} change;
/* A copy of a single-file folder with the change applied, config keys replaced by `patch` (a JSON object). */
static const char *variant(const char *folder, const change *c, const char *patch) {
    static int k;
    static char dir[700];
    char name[32];
    lm_st *st; lm_st_writer *w; json_t *conf, *p;
    snprintf(name, sizeof name, "v%d", k++);
    snprintf(dir, sizeof dir, "%s/%s", t_dir, name);
    if (lm_dir_make(ctx, dir) || lm_st_open(&st, ctx, folder) || lm_st_writer_new(&w, ctx, at(dir, "model.safetensors"), 0)) abort();
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < lm_st_count(st); i++) {
            const lm_st_tensor *t = lm_st_at(st, i);
            if (c && c->drop && !strcmp(t->name, c->drop)) continue;
            const char *as = c && c->rename_from && !strcmp(t->name, c->rename_from) ? c->rename_to : t->name;
            const void *data;
            if (!pass) { if (lm_st_writer_add(w, as, t->dtype, t->rank, t->dim)) abort(); continue; }
            if (lm_st_map(st, t, &data) || lm_st_writer_write(w, data, (size_t)t->bytes)) abort();
        }
        if (!c || !c->add) continue;
        if (!pass) { if (lm_st_writer_add(w, c->add, c->add_dtype, c->add_rank, c->add_dim)) abort(); continue; }
        size_t bytes = lm_dtype_size(c->add_dtype);
        for (int i = 0; i < c->add_rank; i++) bytes *= (size_t)c->add_dim[i];
        const lm_st_tensor *emb = lm_st_find(st, "model.embed_tokens.weight");
        const void *data = NULL;
        char *zero = calloc(1, bytes);
        if (c->same_as_emb && lm_st_map(st, emb, &data)) abort();
        if (lm_st_writer_write(w, data ? data : zero, bytes)) abort();
        free(zero);
    }
    if (lm_st_writer_commit(w) || lm_json_load(ctx, at(folder, "config.json"), 0, &conf) ||
        lm_json_parse(ctx, "patch", patch, strlen(patch), 0, &p))
        abort();
    json_object_update(conf, p);
    char *text = json_dumps(conf, 0);
    if (lm_file_write_atomic(ctx, at(dir, "config.json"), text, strlen(text))) abort();
    free(text); lm_json_free(conf); lm_json_free(p); lm_st_close(st);
    return dir;
}
static void test_tensors(void) {
    begin();
    const char *tied = MODEL("llama-linear"), *gpt2 = MODEL("gpt2");
    const int64_t v = 320, d = 48;
    LM_CHECK_OK(ctx, try_load(variant(tied, NULL, "{}"), &f32));
    LM_CHECK_ERR(ctx, try_load(variant(tied, &(change){ .drop = "model.layers.1.mlp.up_proj.weight" }, "{}"), &f32), LM_E_NOTFOUND,
                 "model.layers.1.mlp.up_proj.weight");
    LM_CHECK_ERR(
        ctx,
        try_load(variant(tied, &(change){ .add = "model.layers.0.self_attn.q_norm.weight", .add_rank = 1, .add_dim = { 16 } }, "{}"), &f32),
        LM_E_MISMATCH, "q_norm");
    LM_CHECK_ERR(ctx, try_load(variant(tied, NULL, "{\"num_hidden_layers\": 1}"), &f32), LM_E_MISMATCH, "model.layers.1.");
    LM_CHECK_ERR(ctx, try_load(variant(tied, NULL, "{\"num_hidden_layers\": 3}"), &f32), LM_E_NOTFOUND, "model.layers.2.");
    LM_CHECK_ERR(ctx, try_load(variant(tied, NULL, "{\"intermediate_size\": 45}"), &f32), LM_E_SHAPE, "got (44, 48), wanted (45, 48)");
    LM_CHECK_ERR(ctx, try_load(variant(tied, NULL, "{\"attention_bias\": true}"), &f32), LM_E_NOTFOUND, "q_proj.bias");
    LM_CHECK_ERR(ctx, try_load(variant(tied, NULL, "{\"tie_word_embeddings\": false}"), &f32), LM_E_NOTFOUND, "lm_head.weight");
    LM_CHECK_ERR(
        ctx,
        try_load(
            variant(
                tied,
                &(change){ .drop = "model.norm.weight", .add = "model.norm.weight", .add_rank = 1, .add_dim = { 48 }, .add_dtype = LM_I32 },
                "{}"),
            &f32),
        LM_E_UNSUPPORTED, "I32");
    /* written though tied: fine if equal, an error if not */
    LM_CHECK_OK(
        ctx,
        try_load(variant(tied, &(change){ .add = "lm_head.weight", .add_rank = 2, .add_dim = { v, d }, .same_as_emb = true }, "{}"), &f32));
    LM_CHECK_ERR(ctx, try_load(variant(tied, &(change){ .add = "lm_head.weight", .add_rank = 2, .add_dim = { v, d } }, "{}"), &f32),
                 LM_E_MISMATCH, "tie_word_embeddings");
    /* buffers of older versions */
    LM_CHECK_OK(
        ctx,
        try_load(variant(tied, &(change){ .add = "model.layers.0.self_attn.rotary_emb.inv_freq", .add_rank = 1, .add_dim = { 8 } }, "{}"),
                 &f32));
    LM_CHECK_OK(
        ctx, try_load(variant(gpt2,
                              &(change){
                                  .add = "transformer.h.0.attn.bias", .add_rank = 4, .add_dim = { 1, 1, 264, 264 }, .add_dtype = LM_BOOL },
                              "{}"),
                      &f32));
    LM_CHECK_OK(ctx, try_load(variant(gpt2, &(change){ .add = "transformer.h.1.attn.masked_bias", .add_rank = 0 }, "{}"), &f32));
    LM_CHECK_OK(ctx, try_load(variant(tied, &(change){ .rename_from = "model.norm.weight", .rename_to = "norm.weight" }, "{}"), &f32));
    LM_CHECK_ERR(ctx,
                 try_load(variant(tied, &(change){ .rename_from = "model.norm.weight", .rename_to = "final.norm.weight" }, "{}"), &f32),
                 LM_E_NOTFOUND, "model.norm.weight");
    end();
}
static void test_configs(void) {
    begin();
    static const struct { const char *patch; lm_err code; const char *say;
    } bad[] = { { "{\"architectures\": [\"FalconForCausalLM\"]}", LM_E_UNSUPPORTED, "FalconForCausalLM" },
                { "{\"architectures\": []}", LM_E_RANGE, "/architectures" },
                { "{\"hidden_size\": \"48\"}", LM_E_CONFIG, "/hidden_size" },
                { "{\"hidden_act\": \"relu\"}", LM_E_UNSUPPORTED, "relu" },
                { "{\"num_key_value_heads\": 2}", LM_E_CONFIG, "do not divide" },
                { "{\"head_dim\": 17}", LM_E_CONFIG, "even" },
                { "{\"rope_scaling\": {\"type\": \"shortrope\", \"factor\": 2}}", LM_E_UNSUPPORTED, "shortrope" },
                { "{\"rope_scaling\": {\"type\": \"longrope\", \"factor\": 2}}", LM_E_CONFIG, "short_factor: missing" },
                { "{\"rope_scaling\": {\"type\": \"su\", \"short_factor\": [1], \"long_factor\": [1]}}", LM_E_SHAPE, "1 factors" },
                { "{\"rope_scaling\": {\"rope_type\": \"linear\"}}", LM_E_CONFIG, "/rope_scaling/factor" },
                { "{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 1}}",
                  LM_E_RANGE, "low < high" },
                { "{\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10000, \"partial_rotary_factor\": 0.5}}",
                  LM_E_UNSUPPORTED, "partial_rotary_factor" },
                { "{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\"}}}", LM_E_UNSUPPORTED, "between layers" },
                { "{\"rope_theta\": -1}", LM_E_RANGE, "/rope_theta" },
                { "{\"quantization_config\": {\"quant_method\": \"gptq\"}}", LM_E_UNSUPPORTED, "quantized" },
                { "{\"vocab_size\": 0}", LM_E_RANGE, "/vocab_size" },
                { "{\"num_hidden_layers\": 100000}", LM_E_RANGE, "/num_hidden_layers" },
                { "{\"eos_token_id\": [1, 2, 3, 4, 5, 6, 7, 8, 9]}", LM_E_RANGE, "eos_token_id" } };
    for (int i = 0; i < LM_COUNT(bad); i++) {
        lm_weights *w = NULL;
        lm_err e = lm_weights_open(&w, ctx, variant(MODEL("llama-linear"), NULL, bad[i].patch));
        if (e != bad[i].code || !strstr(lm_error(ctx), bad[i].say)) {
            lm_t_fail++;
            printf("%s -> %s \"%s\"\n", bad[i].patch, lm_err_name(e), lm_error(ctx));
        }
        if (!e) lm_weights_close(w);
    }
    /* what the newer families refuse, and which layers have a window */
    static const struct { const char *model, *patch; lm_err code; const char *say; } kin[] = {
        { "qwen2", "{\"layer_types\": [\"full_attention\"]}", LM_E_SHAPE, "1 entries for 2 layers" },
        { "qwen2", "{\"layer_types\": [\"full_attention\", \"linear_attention\"]}", LM_E_UNSUPPORTED, "linear_attention" },
        { "gemma2", "{\"layer_types\": [\"full_attention\", \"sliding_attention\", \"full_attention\"]}", LM_E_UNSUPPORTED, "order of windows" },
        { "gemma2", "{\"use_bidirectional_attention\": true}", LM_E_UNSUPPORTED, "use_bidirectional_attention" },
        { "gemma2", "{\"hidden_activation\": \"relu\"}", LM_E_UNSUPPORTED, "relu" },
        { "gemma2", "{\"attn_logit_softcapping\": -1}", LM_E_RANGE, "attn_logit_softcapping" },
        { "gemma3", "{\"rope_parameters\": {\"sliding_attention\": {\"rope_type\": \"yarn\"}}}", LM_E_UNSUPPORTED, "yarn" },
        { "phi3", "{\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 2}}", LM_E_UNSUPPORTED, "phi3" },
        { "phi3", "{\"rope_parameters\": {\"rope_type\": \"longrope\", \"short_factor\": [1,1,1,1,1,0], \"long_factor\": [1,1,1,1,1,1]}}", LM_E_RANGE, "short_factor" },
        { "qwen3", "{\"hidden_act\": \"gelu\"}", LM_E_UNSUPPORTED, "gelu" } };
    for (int i = 0; i < LM_COUNT(kin); i++) {
        char of[300];
        lm_weights *w = NULL;
        snprintf(of, sizeof of, "%s/models/%s", LM_FIXTURES, kin[i].model);
        lm_err e = lm_weights_open(&w, ctx, variant(of, NULL, kin[i].patch));
        if (e != kin[i].code || !strstr(lm_error(ctx), kin[i].say)) {
            lm_t_fail++;
            printf("%s: %s -> %s \"%s\"\n", kin[i].model, kin[i].patch, lm_err_name(e), lm_error(ctx));
        }
        if (!e) lm_weights_close(w);
    }
    static const struct { const char *model, *patch; int64_t window[4]; } seen[] = {
        { "gemma2", "{}", { 11, 0, 11 } },
        { "gemma2", "{\"layer_types\": null}", { 11, 0, 11 } },
        { "gemma3", "{\"layer_types\": null, \"sliding_window_pattern\": 2}", { 9, 0, 9, 0 } },
        { "qwen2", "{\"layer_types\": null, \"max_window_layers\": 1}", { 0, 13 } },
        { "qwen2", "{\"layer_types\": [\"full_attention\", \"sliding_attention\"]}", { 0, 13 } },
        { "qwen2", "{\"use_sliding_window\": false}", { 0, 0 } } };
    for (int i = 0; i < LM_COUNT(seen); i++) {
        char of[300];
        lm_weights *w;
        snprintf(of, sizeof of, "%s/models/%s", LM_FIXTURES, seen[i].model);
        LM_NEED_OK(ctx, lm_weights_open(&w, ctx, variant(of, NULL, seen[i].patch)));
        for (int l = 0; l < 4 && l < (int)lm_weights_cfg(w)->n_layer; l++)
            if (lm_cfg_window(lm_weights_cfg(w), l) != seen[i].window[l]) { lm_t_fail++; printf("%s: %s: layer %d\n", seen[i].model, seen[i].patch, l); }
        lm_weights_close(w);
    }
    /* what rope says, in both spellings; the newer one goes before */
    static const struct { const char *patch; lm_rope_scaling kind; double base, factor; int64_t original;
    } rope[] = { { "{\"rope_scaling\": null}", LM_ROPE_NONE, 10000, 0, 0 },
                 { "{\"rope_scaling\": {\"rope_type\": \"default\"}}", LM_ROPE_NONE, 10000, 0, 0 },
                 { "{\"rope_parameters\": {\"rope_theta\": 5e5, \"rope_type\": \"default\"}}", LM_ROPE_NONE, 5e5, 0, 0 },
                 { "{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}}", LM_ROPE_DYNAMIC, 10000, 2, 0 },
                 { "{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}}", LM_ROPE_YARN, 10000, 4, 320 },
                 { "{\"rope_scaling\": {\"rope_type\": \"yarn\"}, \"original_max_position_embeddings\": 80}", LM_ROPE_YARN, 10000, 0, 80 },
                 { "{\"rope_parameters\": {\"type\": \"linear\", \"factor\": 3, \"rope_theta\": 7}, \"rope_scaling\": {\"type\": "
                   "\"dynamic\", \"factor\": 2}}",
                   LM_ROPE_LINEAR, 7, 3, 0 } };
    for (int i = 0; i < LM_COUNT(rope); i++) {
        lm_weights *w;
        LM_NEED_OK(ctx, lm_weights_open(&w, ctx, variant(MODEL("llama-linear"), NULL, rope[i].patch)));
        const lm_rope_table_p *r = &lm_weights_cfg(w)->rope;
        if (r->scaling != rope[i].kind || r->base != rope[i].base || r->factor != rope[i].factor ||
            r->original_max_pos != rope[i].original) {
            lm_t_fail++;
            printf("%s -> %d %g %g %lld\n", rope[i].patch, (int)r->scaling, r->base, r->factor, (long long)r->original_max_pos);
        }
        lm_weights_close(w);
    }
    lm_weights *w;
    const char *ids = variant(MODEL("llama-linear"), NULL, "{\"eos_token_id\": [7, 9], \"bos_token_id\": 3}");
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at(ids, "generation_config.json"), "{\"eos_token_id\": [9, 11]}", 25));
    LM_NEED_OK(ctx, lm_weights_open(&w, ctx, ids));
    const lm_cfg *c = lm_weights_cfg(w);
    LM_CHECK(c->bos == 3 && c->n_eos == 3 && c->eos[0] == 7 && c->eos[1] == 9 && c->eos[2] == 11);
    lm_weights_close(w);
    LM_CHECK_ERR(ctx, lm_weights_open(&w, ctx, at(t_dir, "nothing")), LM_E_NOTFOUND, "nothing");
    LM_CHECK_ERR(ctx, lm_weights_open(&w, ctx, t_dir), LM_E_NOTFOUND, "config.json");
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at(t_dir, "x.txt"), "hello, model", 12));
    LM_CHECK_ERR(ctx, lm_weights_open(&w, ctx, at(t_dir, "x.txt")), LM_E_UNSUPPORTED, "neither");
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at(t_dir, "x.bin"), "hello, model", 12));
    LM_CHECK_ERR(ctx, lm_weights_open(&w, ctx, at(t_dir, "x.bin")), LM_E_FORMAT, "header");
    end();
}
/* Metadata that cannot be kept, and factors that are not Llama 3's. */
typedef struct { const char *key; lm_gguf_type type; int64_t i; const char *s; } meta;
static lm_err add_meta(void *ud, lm_gguf_writer *w) {
    const meta *m = ud;
    if (m->type == LM_GGUF_STR) return lm_gguf_put_str(w, m->key, m->s, strlen(m->s));
    if (m->type == LM_GGUF_F32) return lm_gguf_put_f32(w, m->key, (float)m->i);
    return lm_gguf_put_u32(w, m->key, (uint32_t)m->i);
}
static void test_gguf_metadata(void) {
    begin();
    lm_weights *w, *x; lm_store *s;
    LM_NEED_OK(ctx, load(MODEL("llama1"), &f32, &w, &s));
    const char *file = at(t_dir, "m.gguf");
    static const struct { meta m; const char *say; } bad[] = {
        { { "llama.expert_count", LM_GGUF_U32, 8, NULL }, "experts" }, { { "llama.rope.scaling.type", LM_GGUF_STR, 0, "longrope" }, "longrope" },
        { { "llama.rope.scaling.attn_factor", LM_GGUF_F32, 2, NULL }, "attn_factor" } };
    for (int i = 0; i < LM_COUNT(bad); i++) {
        meta m = bad[i].m;
        LM_NEED_OK(ctx, lm_model_save_gguf(ctx, lm_weights_cfg(w), s, file, LM_F32, NULL, add_meta, &m));
        LM_CHECK_ERR(ctx, lm_weights_open(&x, ctx, file), LM_E_UNSUPPORTED, bad[i].say);
    }
    meta m = { "llama.rope.scaling.factor", LM_GGUF_F32, 4, NULL };             /* without a type it means linear */
    LM_NEED_OK(ctx, lm_model_save_gguf(ctx, lm_weights_cfg(w), s, file, LM_F32, NULL, add_meta, &m));
    LM_NEED_OK(ctx, lm_weights_open(&x, ctx, file));
    LM_CHECK(lm_weights_cfg(x)->rope.scaling == LM_ROPE_LINEAR && lm_weights_cfg(x)->rope.factor == 4);
    lm_weights_close(x);
    lm_cfg c = *lm_weights_cfg(w);                                               /* bands that no table holds: low 3, high 7, original 4000 */
    c.rope.scaling = LM_ROPE_LLAMA3; c.rope.factor = 8; c.rope.low_freq_factor = 3; c.rope.high_freq_factor = 7; c.rope.original_max_pos = 4000;
    LM_NEED_OK(ctx, lm_model_save_gguf(ctx, &c, s, file, LM_F32, NULL, NULL, NULL));
    LM_CHECK_ERR(ctx, lm_weights_open(&x, ctx, file), LM_E_UNSUPPORTED, "rope_freqs.weight");
    lm_store_free(s); lm_weights_close(w);
    end();
}

/* ---- weights where they lie: the same numbers, without a copy ----------------------------------------------------------------------------- */
/* read and mapped give each parameter the same rows; returns how many bytes are not in memory of ours. */
static size_t same_mapped(const char *path, lm_dtype dtype, bool panels) {
    lm_weights *w[2]; lm_store *s[2];
    size_t held[2];
    for (int i = 0; i < 2; i++) {
        lm_ledger l;
        lm_mem_ledger(ctx, &l);
        held[i] = l.total_now;
        const lm_load_opts o = { .dtype = dtype, .panels = panels, .map = i };
        if (load(path, &o, &w[i], &s[i])) { lm_t_fail++; printf("%s: %s\n", path, lm_error(ctx)); return 0; }
        lm_mem_ledger(ctx, &l);
        held[i] = l.total_now - held[i];
    }
    LM_CHECK(lm_store_count(s[0]) == lm_store_count(s[1]));
    for (int i = 0; i < 2; i++) {                                      /* what would be loaded is what was, and so many bytes stay in the file */
        lm_store *said; lm_load_need need;
        if (lm_store_new(&said, ctx)) { lm_t_fail++; return 0; }
        LM_CHECK_OK(ctx, lm_weights_declare(w[i], said, &(lm_load_opts){ .dtype = dtype, .panels = panels, .map = i }, &need));
        LM_CHECK(lm_store_count(said) == lm_store_count(s[i]) && (i ? need.mapped + (1 << 16) >= held[0] - held[1] : !need.mapped) && !need.away && need.all > 0);
        for (int k = 0; k < lm_store_count(said); k++) {
            lm_tensor a, b;
            LM_CHECK(lm_store_get(s[i], lm_store_name(said, k, &a), &b) && a.dtype == b.dtype && a.quant == b.quant && a.layout == b.layout && !a.data);
        }
        lm_store_free(said);
    }
    for (int k = 0; k < lm_store_count(s[0]); k++) {
        lm_tensor a, b;
        const char *name = lm_store_name(s[0], k, &a);
        LM_CHECK(lm_store_get(s[1], name, &b) && a.dtype == b.dtype && a.quant == b.quant);
        const int64_t rows = a.rank > 1 ? a.dim[0] : 1, cols = a.dim[a.rank - 1];
        float *x = malloc((size_t)cols * 4), *y = malloc((size_t)cols * 4);
        int bad = 0;
        for (int64_t r = 0; r < rows; r++) {
            lm_layout_get_rows(&a, r, 1, x); lm_layout_get_rows(&b, r, 1, y);
            bad += memcmp(x, y, (size_t)cols * 4) != 0;
        }
        if (bad) { lm_t_fail++; printf("%s: %s: %d rows differ\n", path, name, bad); }
        free(x); free(y);
    }
    for (int i = 0; i < 2; i++) { lm_store_free(s[i]); lm_weights_close(w[i]); }
    LM_CHECK(held[1] <= held[0]);
    return held[0] - held[1];
}
static void test_mapped(void) {
    begin();
    LM_CHECK(same_mapped(MODEL("gpt2"), LM_QUANT, true) > 100000);
    LM_CHECK(same_mapped(MODEL("llama2-gqa"), LM_QUANT, true) > 10000);
    LM_CHECK(same_mapped(MODEL("llama2-gqa"), LM_F32, false) > 10000);
    same_mapped(MODEL("llama2-gqa"), LM_BF16, true);
    lm_weights *w; lm_store *s;
    LM_NEED_OK(ctx, load(MODEL("llama1"), &f32, &w, &s));
    const char *file = at(t_dir, "map.gguf");
    static const char *const types[] = { "F32", "BF16", "Q8_0", "Q4_0" };
    for (int i = 0; i < LM_COUNT(types); i++) {
        const lm_quant *q = i > 1 ? lm_quant_by_name(types[i]) : NULL;
        LM_NEED_OK(ctx, lm_model_save_gguf(ctx, lm_weights_cfg(w), s, file, i == 1 ? LM_BF16 : LM_F32, q, NULL, NULL));
        LM_CHECK(same_mapped(file, LM_QUANT, false) > 0);
        LM_CHECK(same_mapped(file, LM_QUANT, true) > 0);
    }
    lm_store_free(s); lm_weights_close(w);
    end();
}

/* ---- failures on purpose ------------------------------------------------------------------------------------------------------------------ */
static lm_err everything(const char *dir) {
    lm_weights *w; lm_store *s;
    LM_TRY(load(MODEL("llama2-gqa"), &(lm_load_opts){ .dtype = LM_BF16, .panels = true }, &w, &s));
    lm_err e = lm_model_save_hf(ctx, lm_weights_cfg(w), s, dir, LM_F32, 0);
    if (!e) e = lm_model_save_gguf(ctx, lm_weights_cfg(w), s, at(dir, "m.gguf"), LM_F16, NULL, NULL, NULL);
    lm_store_free(s); lm_weights_close(w);
    if (!e) e = try_load(at(dir, "m.gguf"), &f32);
    if (!e) e = try_load(dir, &(lm_load_opts){ .dtype = LM_F32, .map = true });
    return e;
}
static void test_no_memory(void) {
    begin();
    int failed = 0;
    for (uint64_t n = 1;; n++) {
        lm_ledger l;
        lm_mem_fail_at(ctx, n, false);
        lm_err e = everything(at(t_dir, "out"));
        lm_mem_fail_at(ctx, 0, false);
        lm_mem_ledger(ctx, &l);
        if (l.total_now != base) { lm_t_fail++; printf("allocation %d failing leaves %zu bytes\n", (int)n, l.total_now - base); break; }
        if (!e) break;
        if (e != LM_E_NOMEM) { lm_t_fail++; printf("allocation %d: %s, %s\n", (int)n, lm_err_name(e), lm_error(ctx)); }
        failed++;
    }
    LM_CHECK(failed > 50);
    LM_CHECK_OK(ctx, everything(at(t_dir, "out")));
    end();
}
static void test_no_files(void) {
    begin();
    int failed = 0;
    for (uint64_t n = 1;; n++) {
        lm_ledger l;
        lm_file_fail_at(n, 5 /* EIO */, true);
        lm_err e = everything(at(t_dir, "out"));
        lm_file_fail_at(0, 0, false);
        lm_mem_ledger(ctx, &l);
        if (l.total_now != base) { lm_t_fail++; printf("file call %d failing leaves %zu bytes\n", (int)n, l.total_now - base); break; }
        if (!e) break;
        failed++;
    }
    LM_CHECK(failed > 30);
    LM_CHECK_OK(ctx, everything(at(t_dir, "out")));
    end();
}
LM_TEST_MAIN(LM_T1(test_gguf_of_others), LM_T1(test_tensors), LM_T1(test_configs), LM_T1(test_gguf_metadata), LM_T1(test_mapped), LM_T1(test_no_memory),
             LM_T1(test_no_files))
