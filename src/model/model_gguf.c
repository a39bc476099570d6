/* model_gguf.c — what all families have in GGUF metadata, read and written.
 *
 * Numbers there are f32; they are taken as the shortest decimal that means the same f32, so that 1e-05 stays 1e-05. Llama 3's frequency
 * bands are no metadata: converters put one factor per frequency into the tensor rope_freqs.weight. Reading finds the four numbers that
 * make exactly these factors, or refuses; writing makes the tensor. LongRoPE's two sets of factors are tensors too. Dynamic scaling has no
 * form in GGUF. */
#include <stdlib.h>
#include "model/model_int.h"
#define KEY(suffix) (snprintf(key, sizeof key, "%s." suffix, arch), key)

double lm_model_shortest(double v) {
    char s[40];
    for (int digits = 6; digits < 10; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, v);
        if ((float)strtod(s, NULL) == (float)v) return strtod(s, NULL);
    }
    return v;
}
static lm_err num(lm_gguf *f, const char *key, bool need, double def, double *out) {
    double v;
    LM_TRY(lm_gguf_num(f, key, need, def, &v));
    *out = v == def ? def : lm_model_shortest(v);
    return LM_OK;
}

lm_err lm_model_gguf_num(lm_gguf *f, const char *key, double def, double *out) { return num(f, key, false, def, out); }

/* ---- Llama 3's bands as factors --------------------------------------------------------------------------------------------------- */
static void bands_of(const lm_rope_table_p *r, float *factor) {
    const double pi = 3.14159265358979323846, low = (double)r->original_max_pos / r->low_freq_factor,
                 high = (double)r->original_max_pos / r->high_freq_factor;
    for (int i = 0; i < r->d_head / 2; i++) {
        const float freq = 1.0f / (float)pow((double)(float)r->base, (double)((float)(2 * i) / (float)r->d_head));
        const double wave = 2 * pi / (double)freq;
        const double smooth = ((double)r->original_max_pos / wave - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
        factor[i] = wave < high ? 1.0f : wave > low ? (float)r->factor : (float)(1 / ((1 - smooth) / r->factor + smooth));
    }
}
int lm_model_rope_factors(const lm_rope_table_p *r, lm_rope_factors out[2]) {
    if (r->scaling == LM_ROPE_LLAMA3 && r->d_head) {
        out[0].name = "rope_freqs.weight"; bands_of(r, out[0].v);
        return 1;
    }
    if (r->scaling != LM_ROPE_LONG) return 0;
    out[0].name = "rope_factors_long.weight"; memcpy(out[0].v, r->long_factor, sizeof r->long_factor);
    out[1].name = "rope_factors_short.weight"; memcpy(out[1].v, r->short_factor, sizeof r->short_factor);
    return 2;
}
static bool same_factors(const lm_rope_table_p *r, const float *want) {
    float got[LM_ROPE_MAX_D / 2];
    bands_of(r, got);
    for (int i = 0; i < r->d_head / 2; i++) if (!(fabsf(got[i] - want[i]) <= 2e-4f * want[i])) return false;
    return true;
}
/* A tensor of n factors; *there false: no such tensor. */
static lm_err read_factors(lm_ctx *ctx, lm_gguf *f, const char *name, int n, float *v, bool *there) {
    const lm_gguf_tensor *t = lm_gguf_find(f, name);
    if (!(*there = t != NULL)) return LM_OK;
    if (t->type->dtype != LM_F32 || t->rank != 1 || t->dim[0] != n)
        return lm_fail(ctx, LM_E_FORMAT, "%s: %s: got %s of rank %d with %lld numbers, wanted %d numbers in F32", lm_gguf_path(f), name, t->type->name,
                       t->rank, (long long)t->dim[0], n);
    LM_TRY(lm_gguf_read(f, t, v, 0, t->bytes));
    for (int i = 0; i < n; i++)
        if (!(v[i] >= 1e-3f && v[i] <= 1e6f)) return lm_fail(ctx, LM_E_RANGE, "%s: %s: number %d is %g", lm_gguf_path(f), name, i, (double)v[i]);
    return LM_OK;
}
static lm_err factors(lm_ctx *ctx, lm_gguf *f, lm_cfg *c) {
    float v[LM_ROPE_MAX_D / 2];
    const int n = c->rope.d_head / 2;
    bool there;
    LM_TRY(read_factors(ctx, f, "rope_freqs.weight", n, v, &there));
    if (!there) return LM_OK;
    bool ones = true;
    for (int i = 0; i < n; i++) ones &= v[i] == 1.0f;
    if (ones) return LM_OK;
    if (c->rope.scaling != LM_ROPE_NONE)
        return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: frequency factors (rope_freqs.weight) together with %s scaling are not known",
                       lm_gguf_path(f), lm_model_rope_name(c->rope.scaling));
    lm_rope_table_p r = c->rope;
    r.scaling = LM_ROPE_LLAMA3; r.factor = lm_model_shortest((double)v[n - 1]);
    static const double bands[][2] = { { 1, 4 }, { 1, 2 }, { 1, 8 }, { 1, 16 }, { 1, 32 } };
    for (int b = 0; b < LM_COUNT(bands); b++)
        for (r.original_max_pos = 16; r.original_max_pos <= 1 << 22; r.original_max_pos *= 2) {
            r.low_freq_factor = bands[b][0]; r.high_freq_factor = bands[b][1];
            if (same_factors(&r, v)) { c->rope = r; return LM_OK; }
        }
    return lm_fail(ctx, LM_E_UNSUPPORTED,
                   "%s: the frequency factors in rope_freqs.weight are not those of Llama 3's scaling, the only one known in this form",
                   lm_gguf_path(f));
}

/* ---- reading ---------------------------------------------------------------------------------------------------------------------- */
static lm_err longrope(lm_ctx *ctx, lm_gguf *f, const char *arch, double attn, lm_cfg *c) {
    char key[128];
    lm_rope_table_p *r = &c->rope;
    const int n = r->d_head / 2;
    float v[LM_ROPE_MAX_D / 2];
    bool there;
    if (n > LM_ROPE_FACTORS) return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: %d longrope factors; at most %d are known", lm_gguf_path(f), n, (int)LM_ROPE_FACTORS);
    r->scaling = LM_ROPE_LONG;
    LM_TRY(lm_gguf_int(f, KEY("rope.scaling.original_context_length"), true, 0, 1, 1 << 28, &r->original_max_pos));
    LM_TRY(read_factors(ctx, f, "rope_factors_long.weight", n, v, &there));
    memcpy(r->long_factor, v, (size_t)n * 4);
    LM_TRY(read_factors(ctx, f, "rope_factors_short.weight", n, v, &there));
    if (!there) return lm_fail(ctx, LM_E_FORMAT, "%s: rope_factors_long.weight is there, rope_factors_short.weight is not", lm_gguf_path(f));
    memcpy(r->short_factor, v, (size_t)n * 4);
    float unused[LM_ROPE_MAX_D / 2], derived;
    lm_rope_inv_freq(r, 0, unused, &derived);
    if ((float)attn != derived) r->attention_factor = attn;
    return LM_OK;
}
lm_err lm_model_gguf_rope(lm_ctx *ctx, lm_gguf *f, const char *arch, lm_cfg *c) {
    char key[128];
    int64_t dims;
    if (c->d_head % 2 || c->d_head > LM_ROPE_MAX_D)
        return lm_fail(ctx, LM_E_CONFIG, "%s: the head size is %lld; it must be even and at most %d", lm_gguf_path(f), (long long)c->d_head,
                       (int)LM_ROPE_MAX_D);
    LM_TRY(lm_gguf_int(f, KEY("rope.dimension_count"), false, c->d_head, 1, 1 << 16, &dims));
    if (dims != c->d_head && (!c->model->partial_rope || dims % 2 || dims > c->d_head))
        return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: %s is %lld, the head size is %lld: rotating %s is not known for %s", lm_gguf_path(f),
                       KEY("rope.dimension_count"), (long long)dims, (long long)c->d_head, dims > c->d_head ? "more than the head" : "a part of the head",
                       arch);
    c->rope = (lm_rope_table_p){ .d_head = (int)dims, .max_pos = c->max_pos };
    LM_TRY(num(f, KEY("rope.freq_base"), false, 10000, &c->rope.base));
    double factor, attn;
    const char *type;
    LM_TRY(num(f, KEY("rope.scale_linear"), false, 0, &factor));                     /* files of 2023 */
    LM_TRY(num(f, KEY("rope.scaling.factor"), false, factor, &factor));
    LM_TRY(lm_gguf_str(f, KEY("rope.scaling.type"), false, factor > 0 && factor != 1 ? "linear" : "none", &type, NULL));
    LM_TRY(num(f, KEY("rope.scaling.attn_factor"), false, 1, &attn));
    if (lm_gguf_find(f, "rope_factors_long.weight")) return longrope(ctx, f, arch, attn, c);
    if (attn != 1) return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: %s is %g; only 1 is known", lm_gguf_path(f), KEY("rope.scaling.attn_factor"), attn);
    if (!strcmp(type, "linear")) { if (factor > 0 && factor != 1) { c->rope.scaling = LM_ROPE_LINEAR; c->rope.factor = factor; } }
    else if (!strcmp(type, "yarn")) {
        c->rope.scaling = LM_ROPE_YARN; c->rope.factor = factor;
        LM_TRY(lm_gguf_int(f, KEY("rope.scaling.original_context_length"), false, c->max_pos, 1, 1 << 28, &c->rope.original_max_pos));
        LM_TRY(num(f, KEY("rope.scaling.yarn_beta_fast"), false, 0, &c->rope.beta_fast));
        LM_TRY(num(f, KEY("rope.scaling.yarn_beta_slow"), false, 0, &c->rope.beta_slow));
    } else if (strcmp(type, "none"))
        return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: %s is \"%s\"; none, linear and yarn are known", lm_gguf_path(f),
                       KEY("rope.scaling.type"), type);
    return factors(ctx, f, c);
}
lm_err lm_model_gguf_common(lm_ctx *ctx, lm_gguf *f, const char *arch, lm_cfg *c) {
    char key[128];
    const int64_t big = 1 << 28;
    LM_TRY(lm_gguf_int(f, KEY("embedding_length"), true, 0, 1, 1 << 20, &c->d));
    LM_TRY(lm_gguf_int(f, KEY("block_count"), true, 0, 0, 4096, &c->n_layer));
    LM_TRY(lm_gguf_int(f, KEY("attention.head_count"), true, 0, 1, 4096, &c->n_head));
    LM_TRY(lm_gguf_int(f, KEY("attention.head_count_kv"), false, c->n_head, 1, 4096, &c->n_kv));
    LM_TRY(lm_gguf_int(f, KEY("attention.key_length"), false, c->d / c->n_head, 1, 4096, &c->d_head));
    LM_TRY(lm_gguf_int(f, KEY("feed_forward_length"), true, 0, 1, 1 << 22, &c->d_ff));
    LM_TRY(lm_gguf_int(f, KEY("context_length"), true, 0, 1, big, &c->max_pos));
    LM_TRY(lm_gguf_int(f, KEY("attention.sliding_window"), false, 0, 0, big, &c->window));
    int64_t value, experts;
    LM_TRY(lm_gguf_int(f, KEY("attention.value_length"), false, c->d_head, 1, 4096, &value));
    if (value != c->d_head)
        return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: keys of %lld and values of %lld numbers a head; they must be equal", lm_gguf_path(f),
                       (long long)c->d_head, (long long)value);
    LM_TRY(lm_gguf_int(f, KEY("expert_count"), false, 0, 0, 1 << 20, &experts));
    if (experts) return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: a mixture of %lld experts; this family is dense", lm_gguf_path(f), (long long)experts);
    LM_TRY(num(f, KEY("attention.layer_norm_rms_epsilon"), false, -1, &c->eps));
    if (c->eps < 0) LM_TRY(num(f, KEY("attention.layer_norm_epsilon"), true, 0, &c->eps));
    c->init_std = 0.02;

    const lm_gguf_tensor *emb = lm_gguf_find(f, "token_embd.weight");
    lm_gguf_strs tokens;
    LM_TRY(lm_gguf_arr_str(f, "tokenizer.ggml.tokens", false, &tokens));
    LM_TRY(lm_gguf_int(f, KEY("vocab_size"), false, tokens.n, 0, big, &c->vocab));
    if (emb && emb->rank == 2) c->vocab = emb->dim[0];
    c->tie = !lm_gguf_find(f, "output.weight");
    if (emb) c->attn_bias = lm_gguf_find(f, "blk.0.attn_q.bias") != NULL;
    if (emb) c->mlp_bias = lm_gguf_find(f, "blk.0.ffn_gate.bias") != NULL;

    static const char *const ends[] = { "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id" };
    int64_t id;
    LM_TRY(lm_gguf_int(f, "tokenizer.ggml.bos_token_id", false, -1, -1, INT32_MAX, &id));
    c->bos = (int32_t)id;
    for (int i = 0; i < LM_COUNT(ends); i++) {
        LM_TRY(lm_gguf_int(f, ends[i], false, -1, -1, INT32_MAX, &id));
        bool there = id < 0;
        for (int k = 0; k < c->n_eos; k++) there |= c->eos[k] == (int32_t)id;
        if (!there) c->eos[c->n_eos++] = (int32_t)id;
    }
    return LM_OK;
}

/* ---- writing ---------------------------------------------------------------------------------------------------------------------- */
static lm_err put_u32(lm_gguf_writer *w, const char *key, int64_t v) { return lm_gguf_put_u32(w, key, (uint32_t)v); }
lm_err lm_model_gguf_put_common(const lm_cfg *c, const char *arch, lm_gguf_writer *w) {
    char key[128];
    LM_TRY(put_u32(w, KEY("context_length"), c->max_pos));
    LM_TRY(put_u32(w, KEY("embedding_length"), c->d));
    LM_TRY(put_u32(w, KEY("block_count"), c->n_layer));
    LM_TRY(put_u32(w, KEY("feed_forward_length"), c->d_ff));
    LM_TRY(put_u32(w, KEY("vocab_size"), c->vocab));
    LM_TRY(put_u32(w, KEY("attention.head_count"), c->n_head));
    LM_TRY(put_u32(w, KEY("attention.head_count_kv"), c->n_kv));
    LM_TRY(put_u32(w, KEY("attention.key_length"), c->d_head));
    LM_TRY(put_u32(w, KEY("attention.value_length"), c->d_head));
    if (c->window) LM_TRY(put_u32(w, KEY("attention.sliding_window"), c->window));
    return LM_OK;
}
lm_err lm_model_gguf_put_rope(lm_ctx *ctx, const lm_cfg *c, const char *arch, lm_gguf_writer *w) {
    char key[128];
    const lm_rope_table_p *r = &c->rope;
    LM_TRY(put_u32(w, KEY("rope.dimension_count"), r->d_head));
    LM_TRY(lm_gguf_put_f32(w, KEY("rope.freq_base"), (float)r->base));
    if (r->scaling == LM_ROPE_NONE || r->scaling == LM_ROPE_LLAMA3) return LM_OK;
    if (r->scaling == LM_ROPE_LONG) {
        float inv[LM_ROPE_MAX_D / 2], attn;
        lm_rope_inv_freq(r, 0, inv, &attn);
        LM_TRY(put_u32(w, KEY("rope.scaling.original_context_length"), r->original_max_pos));
        return lm_gguf_put_f32(w, KEY("rope.scaling.attn_factor"), attn);
    }
    const bool yarn = r->scaling == LM_ROPE_YARN;
    if (!yarn && r->scaling != LM_ROPE_LINEAR)
        return lm_fail(ctx, LM_E_UNSUPPORTED, "GGUF has no form for %s scaling of rotary positions", lm_model_rope_name(r->scaling));
    if (yarn && (r->mscale != 0 || r->mscale_all_dim != 0 || r->attention_factor != 0 || r->no_truncate))
        return lm_fail(ctx, LM_E_UNSUPPORTED, "GGUF has no form for yarn scaling with mscale, attention_factor or truncate");
    const char *type = lm_model_rope_name(r->scaling);
    LM_TRY(lm_gguf_put_str(w, KEY("rope.scaling.type"), type, strlen(type)));
    LM_TRY(lm_gguf_put_f32(w, KEY("rope.scaling.factor"), (float)(r->factor > 0 ? r->factor : (double)c->max_pos / (double)r->original_max_pos)));
    if (!yarn) return LM_OK;
    LM_TRY(put_u32(w, KEY("rope.scaling.original_context_length"), r->original_max_pos));
    if (r->beta_fast > 0) LM_TRY(lm_gguf_put_f32(w, KEY("rope.scaling.yarn_beta_fast"), (float)r->beta_fast));
    if (r->beta_slow > 0) LM_TRY(lm_gguf_put_f32(w, KEY("rope.scaling.yarn_beta_slow"), (float)r->beta_slow));
    return LM_OK;
}
