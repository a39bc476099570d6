/* test_model_parity.c — every checkpoint under tests/fixtures/models against what transformers computed with it: logits, losses, every
 * gradient, 256 greedy tokens; then what must be equal to the bit: chunked prefill, panels, trainer and engine, saved and loaded again.
 * LOAM_PARITY=1 prints the differences as a table. */
#include <unistd.h>
#include "base/file.h"
#include "format/safetensors.h"
#include "infer/infer.h"
#include "model/model_int.h"
#include "op/matmul/matmul.h"
#include "op/xent/xent.h"
#include "test.h"
#include "train/train.h"

enum { T = 37, PROMPT = 8, GEN = 256, ALL = PROMPT + GEN };
static char t_dir[512];
static bool table(void) { return getenv("LOAM_PARITY") != NULL; }

/* ---- a fixture, loaded ------------------------------------------------------------------------------------------------------------ */
typedef struct {
    const char *name;
    lm_ctx *ctx;
    lm_dev *dev;
    lm_weights *w;
    const lm_cfg *cfg;
    lm_store *store;
    lm_st *want;
    size_t base;
    char dir[700];
} rig;
static lm_err load(lm_ctx *ctx, const char *path, const lm_load_opts *o, lm_weights **w, lm_store **store) {
    LM_TRY(lm_weights_open(w, ctx, path));
    lm_err e = lm_store_new(store, ctx);
    if (!e) { e = lm_weights_load(*w, *store, o); if (e) lm_store_free(*store); }
    if (e) { lm_weights_close(*w); *w = NULL; *store = NULL; }
    return e;
}
static lm_err rig_new(rig *r, const char *name) {
    char file[800];
    *r = (rig){ .name = name };
    LM_TRY(lm_ctx_new(&r->ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    lm_ledger l; lm_mem_ledger(r->ctx, &l);
    r->base = l.total_now;
    snprintf(r->dir, sizeof r->dir, "%s/models/%s", LM_FIXTURES, name);
    snprintf(file, sizeof file, "%s/expected.safetensors", r->dir);
    LM_TRY(lm_st_open(&r->want, r->ctx, file));
    /* what transformers computed is then compared with this device's results */
    if (getenv("LM_DEVICE")) LM_TRY(lm_dev_open(&r->dev, r->ctx, getenv("LM_DEVICE")));
    LM_TRY(load(r->ctx, r->dir, &(lm_load_opts){ .dtype = LM_F32 }, &r->w, &r->store));
    r->cfg = lm_weights_cfg(r->w);
    return LM_OK;
}
static void rig_free(rig *r) {
    lm_store_free(r->store); lm_weights_close(r->w); lm_st_close(r->want); lm_dev_close(r->dev);
    lm_ledger l; lm_mem_ledger(r->ctx, &l);
    if (l.total_now != r->base) { lm_t_fail++; printf("%s: %zu bytes are left\n", r->name, l.total_now - r->base); }
    lm_ctx_free(r->ctx);
}
/* An expected tensor, as f32 or i32; free(). */
static void *want(const rig *r, const char *name, int64_t *n) {
    const lm_st_tensor *t;
    if (lm_st_need(r->want, name, &t)) { lm_t_fail++; printf("%s: %s\n", r->name, lm_error(r->ctx)); return calloc(1 << 20, 4); }
    const int64_t count = t->bytes / (int64_t)lm_dtype_size(t->dtype);
    char *raw = malloc((size_t)t->bytes);
    int32_t *out = malloc((size_t)count * 4);
    if (lm_st_read(r->want, t, raw, 0, t->bytes)) { lm_t_fail++; memset(raw, 0, (size_t)t->bytes); }
    for (int64_t i = 0; i < count; i++) {
        if (t->dtype == LM_I64) out[i] = (int32_t)((int64_t *)(void *)raw)[i];
        else memcpy(&out[i], raw + i * 4, 4);
    }
    free(raw);
    if (n) *n = count;
    return out;
}
static int each(void (*fn)(rig *)) {
    static const char *const names[] = { "gpt2",          "gpt2-gelu",  "llama1",  "llama2-gqa", "llama3",     "llama-linear",
                                         "llama-dynamic", "llama-yarn", "mistral", "llama-bias", "smollm-like",
                                         "qwen2",         "qwen3",      "phi3",    "phi3-long",
                                         "gemma2",        "gemma3" };
    lm_ctx *c; char **found; int n, dirs = 0;
    char at[700];
    if (lm_ctx_new(&c, NULL)) return 0;
    LM_CHECK_OK(c, lm_dir_list(c, LM_FIXTURES "/models", &found, &n));
    for (int i = 0; i < n; i++) { snprintf(at, sizeof at, "%s/models/%s", LM_FIXTURES, found[i]); dirs += lm_is_dir(at); }
    lm_free(c, found); lm_ctx_free(c);
    LM_CHECK(dirs == LM_COUNT(names));                        /* a new fixture must be walked too */
    for (int i = 0; i < LM_COUNT(names); i++) {
        rig r;
        lm_err e = rig_new(&r, names[i]);
        if (e) { lm_t_fail++; printf("%s: %s\n", names[i], lm_error(r.ctx)); lm_st_close(r.want); lm_ctx_free(r.ctx); continue; }
        fn(&r);
        rig_free(&r);
    }
    return dirs;
}
static bool dynamic(const rig *r) { return r->cfg->rope.scaling == LM_ROPE_DYNAMIC; }

/* ---- against transformers ----------------------------------------------------------------------------------------------------------- */
static lm_err dense(const rig *r, lm_store *store, lm_dtype mm, const int32_t *ids, int64_t rows, int64_t len, float *logits) {
    lm_graph *g;
    lm_plan *p = NULL;
    const int64_t n = rows * len;
    lm_type ty = LM_TYPE(LM_I32, n);
    LM_TRY(lm_graph_new(&g, r->ctx, store));
    lm_model_in in = { .tokens = lm_input(g, "tokens", &ty), .pos = lm_input(g, "pos", &ty), .start = lm_input(g, "start", &ty), .context = len };
    lm_model_out out;
    lm_err e = r->cfg->model->build(g, r->cfg, &in, &out);
    if (!e) lm_graph_output(g, "logits", lm_model_logits(g, r->cfg, out.hidden, out.head));
    if (!e) e = lm_pass_precision(g, mm);
    if (!e) e = lm_pass_fuse(g, NULL);
    if (!e) e = lm_plan_new(&p, r->ctx, g, &(lm_plan_opts){ .store = store, .dev = r->dev });
    lm_graph_free(g);
    LM_TRY(e);
    int32_t *tok = lm_plan_input(p, "tokens", NULL), *pos = lm_plan_input(p, "pos", NULL), *start = lm_plan_input(p, "start", NULL);
    for (int64_t i = 0; i < n; i++) { tok[i] = ids[i]; if (pos) pos[i] = (int32_t)(i % len); if (start) start[i] = (int32_t)(i - i % len); }
    e = lm_plan_run(p);
    if (!e) memcpy(logits, lm_plan_output(p, "logits", NULL), (size_t)(n * r->cfg->vocab) * 4);
    lm_plan_free(p);
    return e;
}
static double max_diff(const float *a, const float *b, int64_t n) {
    double m = 0;
    for (int64_t i = 0; i < n; i++) { double d = fabs((double)a[i] - (double)b[i]); if (!(d <= m)) m = d; }
    return m;
}
static lm_trainer_opts trainer_opts(int64_t batch, int64_t seq, lm_dtype mm) {
    return (lm_trainer_opts){ .batch = batch,
                              .seq = seq,
                              .mm = mm,
                              .optim = { .name = "adamw", .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1 },
                              .seed = 1 };
}
static lm_err batch_of(lm_ctx *ctx, lm_batch *b, const int32_t *ids, int64_t rows, int64_t len) {
    LM_TRY(lm_batch_alloc(ctx, b, rows, len));
    b->n_target = rows * (len - 1);
    for (int64_t i = 0; i < rows * len; i++) {
        b->tokens[i] = ids[i]; b->pos[i] = (int32_t)(i % len); b->start[i] = (int32_t)(i - i % len);
        b->target[i] = i % len + 1 < len ? ids[i + 1] : -1;
    }
    return LM_OK;
}
typedef struct { double logits, loss, row, grad, lp; } diffs;
static diffs worst;
static void gradients(rig *r, const int32_t *ids, diffs *d) {
    lm_trainer *t;
    lm_batch b;
    double loss = 0, sum = 0, all = 0;
    lm_trainer_opts o = trainer_opts(2, T, LM_F32);
    o.dev = r->dev;
    LM_NEED_OK(r->ctx, lm_trainer_new(&t, r->ctx, r->cfg, r->store, &o));
    LM_NEED_OK(r->ctx, batch_of(r->ctx, &b, ids, 2, T));
    LM_NEED_OK(r->ctx, lm_trainer_accumulate(t, &b, 0, 0, &loss));
    LM_NEED_OK(r->ctx, lm_trainer_pull(t));
    float *wl = want(r, "loss", NULL), *rows = want(r, "row_loss", NULL);
    d->loss = fabs(loss / (double)b.n_target - (double)wl[0]);
    const float *per = lm_plan_output(lm_trainer_accumulate_plan(t), "loss", NULL);
    for (int k = 0; k < 2; k++) {
        for (int i = k * T; i < k * T + T; i++) sum += (double)per[i];
        d->row = fmax(d->row, fabs(sum / (T - 1) - (double)rows[k])); sum = 0;
    }
    int n = lm_trainer_n_params(t), n_want = 0;
    for (int i = 0; i < lm_st_count(r->want); i++) n_want += !strncmp(lm_st_at(r->want, i)->name, "grad.", 5);
    LM_CHECK(n == n_want);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < n; i++) {
            char name[300];
            snprintf(name, sizeof name, "grad.%s", lm_trainer_param(t, i)->name);
            int64_t k;
            lm_tensor got;
            float *g = want(r, name, &k);
            LM_CHECK(lm_store_get(r->store, name, &got) && lm_numel(&got) == k);
            double num = 0, den = 0;
            for (int64_t q = 0; q < k; q++) {
                double x = (double)((float *)got.data)[q] / (double)b.n_target - (double)g[q];
                num += x * x;
                den += (double)g[q] * (double)g[q];
            }
            free(g);
            if (!pass) { all += den; continue; }
            double e = sqrt(num) / fmax(sqrt(den), 1e-6 * sqrt(all));
            if (!(e <= 1e-4)) { lm_t_fail++; printf("%s: gradient of %s: %.3g\n", r->name, name + 5, e); }
            d->grad = fmax(d->grad, e);
        }
    free(wl); free(rows);
    lm_batch_free(r->ctx, &b); lm_trainer_free(t);
}
typedef struct { int64_t V; float *logits; int id; float lp; } last;
static lm_err keep(void *ud, int q, int64_t i, const float *logits) {
    last *k = ud; (void)q; (void)i;
    k->id = 0;
    for (int64_t v = 1; v < k->V; v++) if (logits[v] > logits[k->id]) k->id = (int)v;
    k->lp = logits[k->id] - lm_row_lse(logits, k->V);
    return LM_OK;
}
static void greedy(rig *r, diffs *d) {
    lm_engine *e; lm_session *s;
    int32_t *prompt = want(r, "prompt", NULL), *text = want(r, "greedy", NULL);
    float *lp = want(r, "greedy_logprob", NULL);
    LM_NEED_OK(r->ctx, lm_engine_new(&e, r->ctx, r->cfg, r->store,
                                     &(lm_engine_opts){ .context = ALL, .chunk = 64, .mm = LM_F32, .kv = LM_F32, .dev = r->dev }));
    LM_NEED_OK(r->ctx, lm_session_new(&s, e));
    last k = { .V = r->cfg->vocab };
    lm_request q = { s, prompt, PROMPT, LM_WANT_LAST };
    for (int i = 0; i < GEN; i++) {
        LM_CHECK_OK(r->ctx, lm_engine_run(e, &q, 1, keep, &k));
        if (k.id != text[i]) { lm_t_fail++; printf("%s: greedy token %d is %d, transformers' is %d\n", r->name, i, k.id, text[i]); break; }
        d->lp = fmax(d->lp, fabs((double)k.lp - (double)lp[i]));
        q = (lm_request){ s, &text[i], 1, LM_WANT_LAST };
    }
    lm_session_free(s); lm_engine_free(e);
    free(prompt); free(text); free(lp);
}
static void parity(rig *r) {
    diffs d = {0};
    int64_t n, nl;
    int32_t *ids = want(r, "ids", &n);
    float *logits = want(r, "logits", &nl), *got = calloc((size_t)nl, 4);
    LM_CHECK(n == 2 * T && nl == n * r->cfg->vocab);
    LM_CHECK_OK(r->ctx, dense(r, r->store, LM_F32, ids, 2, T, got));
    d.logits = max_diff(got, logits, nl);
    gradients(r, ids, &d);
    greedy(r, &d);
    if (!(d.logits <= 1e-4) || !(d.loss <= 1e-4) || !(d.row <= 1e-4) || !(d.lp <= 1e-3)) {
        lm_t_fail++;
        printf("%s: logits %.3g, loss %.3g, row losses %.3g, greedy log-probabilities %.3g\n", r->name, d.logits, d.loss, d.row, d.lp);
    }
    if (table()) printf("| %s | %.1e | %.1e | %.1e | %.1e | %d of %d |\n", r->name, d.logits, fmax(d.loss, d.row), d.grad, d.lp, GEN, GEN);
    worst.logits = fmax(worst.logits, d.logits);
    free(ids); free(logits); free(got);
}
static void test_transformers(void) { each(parity); }

/* ---- bits ------------------------------------------------------------------------------------------------------------------------------ */
typedef struct { float *to; int64_t V; } rows_to;
static lm_err copy_row(void *ud, int q, int64_t i, const float *logits) {
    rows_to *c = ud;
    (void)q;
    memcpy(c->to + i * c->V, logits, (size_t)c->V * 4);
    return LM_OK;
}
static lm_err paged(const rig *r, lm_store *store, lm_dtype mm, int64_t chunk, const int32_t *ids, int64_t n, float *logits, float *lp) {
    lm_engine *e; lm_session *s = NULL;
    LM_TRY(lm_engine_new(&e, r->ctx, r->cfg, store, &(lm_engine_opts){ .context = ALL, .chunk = chunk, .mm = mm, .kv = LM_F32 }));
    lm_err err = lm_session_new(&s, e);
    rows_to c = { logits, r->cfg->vocab };
    const lm_request q = { s, ids, n, LM_WANT_ALL };
    if (!err) err = lp ? lm_engine_score(e, s, ids, n, lp) : lm_engine_run(e, &q, 1, copy_row, &c);
    lm_session_free(s); lm_engine_free(e);
    return err;
}
static void text_of(const rig *r, int32_t ids[ALL]) {
    int32_t *p = want(r, "prompt", NULL), *g = want(r, "greedy", NULL);
    memcpy(ids, p, PROMPT * 4); memcpy(ids + PROMPT, g, GEN * 4);
    free(p); free(g);
}
static void compare(const rig *r, const char *what, lm_dtype mm, const float *a, const float *b, int64_t n) {
    if (!memcmp(a, b, (size_t)n * 4)) return;
    int64_t bad = 0;
    for (int64_t i = 0; i < n; i++) bad += memcmp(&a[i], &b[i], 4) != 0;
    lm_t_fail++;
    printf("%s, mm %s: %s: %lld of %lld numbers differ, the most by %.3g\n", r->name, lm_dtype_name(mm), what, (long long)bad, (long long)n,
           max_diff(a, b, n));
}
static void chunks_and_panels(rig *r) {
    int32_t ids[ALL];
    text_of(r, ids);
    const int64_t n = ALL * r->cfg->vocab;
    float *a = malloc((size_t)n * 4), *b = malloc((size_t)n * 4);
    lm_weights *w; lm_store *panels, *half, *half_panels;
    LM_NEED_OK(r->ctx, load(r->ctx, r->dir, &(lm_load_opts){ .dtype = LM_F32, .panels = true }, &w, &panels)); lm_weights_close(w);
    LM_NEED_OK(r->ctx, load(r->ctx, r->dir, &(lm_load_opts){ .dtype = LM_BF16 }, &w, &half)); lm_weights_close(w);
    LM_NEED_OK(r->ctx, load(r->ctx, r->dir, &(lm_load_opts){ .dtype = LM_BF16, .panels = true }, &w, &half_panels)); lm_weights_close(w);
    const bool gpt2 = !strcmp(r->cfg->model->name, "gpt2");
    const char *one = gpt2 ? "transformer.wte.weight" : "model.layers.0.self_attn.o_proj.weight";
    lm_tensor t;
    LM_CHECK(lm_store_get(panels, one, &t) && t.dtype == LM_F32 && t.layout == LM_PANEL16);
    /* an embedding is as wide as in training */
    LM_CHECK(lm_store_get(half_panels, one, &t) && t.dtype == (gpt2 ? LM_F32 : LM_BF16) && t.layout == (gpt2 ? LM_PANEL16 : LM_PANEL16X2));
    LM_CHECK(lm_store_get(half, one, &t) && t.dtype == (gpt2 ? LM_F32 : LM_BF16) && t.layout == LM_PLAIN);
    if (gpt2) LM_CHECK(lm_store_get(panels, "transformer.h.0.attn.c_attn.weight", &t) && t.layout == LM_PLAIN);
    for (int k = 0; k < 2; k++) {
        const lm_dtype mm = k ? LM_BF16 : LM_F32;
        LM_CHECK_OK(r->ctx, paged(r, r->store, mm, ALL, ids, ALL, a, NULL));
        const int64_t chunk[] = { 1, 7, 64 };
        for (int c = LM_T_WATCHED; c < (LM_T_WATCHED ? 2 : 3); c++) {                          /* of dynamic frequencies too: a call is one run, whatever the chunk */
            LM_CHECK_OK(r->ctx, paged(r, r->store, mm, chunk[c], ids, ALL, b, NULL));
            compare(r, c == 0 ? "chunks of 1" : c == 1 ? "chunks of 7" : "chunks of 64", mm, a, b, n);
        }
        LM_CHECK_OK(r->ctx, paged(r, panels, mm, ALL, ids, ALL, b, NULL));
        compare(r, "panels", mm, a, b, n);
        if (!dynamic(r)) {
            LM_CHECK_OK(r->ctx, dense(r, r->store, mm, ids, 1, ALL, b));
            compare(r, "dense and paged", mm, a, b, n);
        }
        LM_CHECK_OK(r->ctx, paged(r, half, mm, ALL, ids, ALL, a, NULL));
        LM_CHECK_OK(r->ctx, paged(r, half_panels, mm, ALL, ids, ALL, b, NULL));
        compare(r, "bf16 panels", mm, a, b, n);
        if (table() && k) {
            LM_CHECK_OK(r->ctx, paged(r, r->store, LM_F32, ALL, ids, ALL, b, NULL));
            printf("%s: bf16 weights and products change logits by %.3g at most\n", r->name, max_diff(a, b, n));
        }
    }
    lm_store_free(panels); lm_store_free(half); lm_store_free(half_panels);
    free(a); free(b);
}
static void test_chunks_and_panels_keep_bits(void) { each(chunks_and_panels); }
static void trainer_engine(rig *r) {
    int32_t ids[ALL];
    float lp[ALL], loss[ALL];
    if (dynamic(r)) return;                                  /* a training row is one call, its text in the engine many */
    text_of(r, ids);
    for (int k = 0; k < 2; k++) {
        const lm_dtype mm = k ? LM_BF16 : LM_F32;
        lm_trainer *t; lm_batch b;
        double sum = 0;
        lm_trainer_opts o = trainer_opts(1, ALL, mm);
        LM_NEED_OK(r->ctx, lm_trainer_new(&t, r->ctx, r->cfg, r->store, &o));
        LM_NEED_OK(r->ctx, batch_of(r->ctx, &b, ids, 1, ALL));
        LM_CHECK_OK(r->ctx, lm_trainer_accumulate(t, &b, 0, 0, &sum));
        const float *per = lm_plan_output(lm_trainer_accumulate_plan(t), "loss", NULL);
        loss[0] = 0;
        for (int i = 0; i + 1 < ALL; i++) loss[i + 1] = -per[i];
        const int64_t chunk[] = { ALL, 64, 1 };
        for (int c = LM_T_WATCHED; c < (LM_T_WATCHED ? 2 : 3); c++) {
            LM_CHECK_OK(r->ctx, paged(r, r->store, mm, chunk[c], ids, ALL, NULL, lp));
            compare(r, "the trainer's losses and the engine's log-probabilities", mm, loss, lp, ALL);
        }
        lm_batch_free(r->ctx, &b); lm_trainer_free(t);
    }
}
static void test_trainer_is_engine(void) { each(trainer_engine); }

/* ---- saving ------------------------------------------------------------------------------------------------------------------------------ */
static bool same_cfg(const lm_cfg *a, const lm_cfg *b) {
    const lm_rope_table_p *p = &a->rope, *q = &b->rope;
    bool ok = a->model == b->model && a->vocab == b->vocab && a->d == b->d && a->n_layer == b->n_layer && a->n_head == b->n_head &&
              a->n_kv == b->n_kv && a->d_head == b->d_head && a->d_ff == b->d_ff && a->max_pos == b->max_pos && a->window == b->window &&
              a->window_first == b->window_first && a->window_period == b->window_period && a->query_scale == b->query_scale &&
              a->attn_cap == b->attn_cap && a->logit_cap == b->logit_cap && a->rope_local == b->rope_local &&
              a->eps == b->eps && a->act == b->act && a->tie == b->tie && a->attn_bias == b->attn_bias && a->mlp_bias == b->mlp_bias &&
              a->bos == b->bos && a->n_eos == b->n_eos && !memcmp(a->eos, b->eos, sizeof a->eos) && !strcmp(a->hf_type, b->hf_type);
    return ok && p->d_head == q->d_head && p->scaling == q->scaling && p->base == q->base && p->factor == q->factor &&
           p->low_freq_factor == q->low_freq_factor && p->high_freq_factor == q->high_freq_factor &&
           p->original_max_pos == q->original_max_pos && p->max_pos == q->max_pos && p->beta_fast == q->beta_fast &&
           p->beta_slow == q->beta_slow && p->mscale == q->mscale && p->mscale_all_dim == q->mscale_all_dim &&
           p->attention_factor == q->attention_factor && p->no_truncate == q->no_truncate &&
           !memcmp(p->short_factor, q->short_factor, sizeof p->short_factor) && !memcmp(p->long_factor, q->long_factor, sizeof p->long_factor);
}
/* A GGUF file holds 1 + w of some norms, and that number is what comes back. */
static void plus_one(const rig *r, const char *name, float *p, float *q, int64_t n) {
    int layer;
    if (!lm_model_name_row(r->cfg->model, name, &layer)->plus_one) return;
    for (int64_t i = 0; i < n; i++) { p[i] += 1.0f; q[i] += 1.0f; }
}
/* Every parameter of both stores as floats; round: those of a went through this dtype. */
static void same_weights(const rig *r, const char *what, const lm_store *a, const lm_store *b, lm_dtype round) {
    int n = 0;
    for (int i = 0; i < lm_weights_count(r->w); i++) {
        lm_weight_info info;
        lm_tensor x, y;
        lm_weights_info(r->w, i, &info);
        if (!lm_store_get(a, info.name, &x) || !lm_store_get(b, info.name, &y) || lm_numel(&x) != lm_numel(&y)) {
            lm_t_fail++;
            printf("%s: %s: %s is not there\n", r->name, what, info.name);
            continue;
        }
        const int64_t k = lm_numel(&x);
        float *p = malloc((size_t)k * 4), *q = malloc((size_t)k * 4);
        void *h = malloc((size_t)k * 4);
        lm_layout_get_rows(&x, 0, lm_rows(&x), p); lm_layout_get_rows(&y, 0, lm_rows(&y), q);
        if (strstr(what, "GGUF")) plus_one(r, info.name, p, q, k);
        if (round != LM_F32) { lm_convert(h, round, p, LM_F32, k); lm_convert(p, LM_F32, h, round, k); }
        if (memcmp(p, q, (size_t)k * 4)) { lm_t_fail++; printf("%s: %s: %s differs by %.3g\n", r->name, what, info.name, max_diff(p, q, k)); }
        free(p); free(q); free(h); n++;
    }
    LM_CHECK(n == lm_weights_count(r->w));
}
static void back(rig *r, const char *what, const char *path, lm_load_opts o, lm_dtype round) {
    lm_weights *w; lm_store *s;
    lm_err e = load(r->ctx, path, &o, &w, &s);
    if (e) { lm_t_fail++; printf("%s: %s: %s\n", r->name, what, lm_error(r->ctx)); return; }
    same_weights(r, what, r->store, s, round);
    if (!same_cfg(r->cfg, lm_weights_cfg(w))) { lm_t_fail++; printf("%s: %s: the configuration came back changed\n", r->name, what); }
    lm_store_free(s); lm_weights_close(w);
}
static void saving(rig *r) {
    char dir[700], file[800];
    snprintf(dir, sizeof dir, "%s/%s", t_dir, r->name);
    LM_CHECK_OK(r->ctx, lm_model_save_hf(r->ctx, r->cfg, r->store, dir, LM_F32, 0));
    back(r, "a saved folder", dir, (lm_load_opts){ .dtype = LM_F32 }, LM_F32);
    LM_CHECK_OK(r->ctx, lm_model_save_hf(r->ctx, r->cfg, r->store, dir, LM_BF16, 0));          /* takes the place of the first */
    back(r, "a folder in bf16", dir, (lm_load_opts){ .dtype = LM_QUANT }, LM_BF16);
    back(r, "bf16 widened into panels", dir, (lm_load_opts){ .dtype = LM_F32, .panels = true }, LM_BF16);
    LM_CHECK_ERR(r->ctx, lm_model_save_hf(r->ctx, r->cfg, r->store, dir, LM_F32, 50000), LM_E_CONFIG, "already");
    snprintf(dir, sizeof dir, "%s/%s-shards", t_dir, r->name);
    LM_CHECK_OK(r->ctx, lm_model_save_hf(r->ctx, r->cfg, r->store, dir, LM_F32, 50000));
    snprintf(file, sizeof file, "%s/model.safetensors.index.json", dir);
    LM_CHECK(lm_exists(file));
    back(r, "a sharded folder", dir, (lm_load_opts){ .dtype = LM_F32 }, LM_F32);

    snprintf(file, sizeof file, "%s/%s.gguf", t_dir, r->name);
    if (dynamic(r)) {
        LM_CHECK_ERR(r->ctx, lm_model_save_gguf(r->ctx, r->cfg, r->store, file, LM_F32, NULL, NULL, NULL), LM_E_UNSUPPORTED, "dynamic");
        return;
    }
    if (r->cfg->act == LM_ACT_GELU) {
        LM_CHECK_ERR(r->ctx, lm_model_save_gguf(r->ctx, r->cfg, r->store, file, LM_F32, NULL, NULL, NULL), LM_E_UNSUPPORTED, "GELU");
        return;
    }
    LM_CHECK_OK(r->ctx, lm_model_save_gguf(r->ctx, r->cfg, r->store, file, LM_F32, NULL, NULL, NULL));
    back(r, "a GGUF file", file, (lm_load_opts){ .dtype = LM_F32 }, LM_F32);
    back(r, "a GGUF file into panels", file, (lm_load_opts){ .dtype = LM_QUANT, .panels = true }, LM_F32);
    lm_weights *w; lm_store *s;
    const lm_dtype half[] = { LM_F16, LM_BF16 };
    for (int k = 0; k < 2; k++) {                                                              /* matrices are rounded, vectors are not */
        LM_CHECK_OK(r->ctx, lm_model_save_gguf(r->ctx, r->cfg, r->store, file, half[k], NULL, NULL, NULL));
        LM_NEED_OK(r->ctx, load(r->ctx, file, &(lm_load_opts){ .dtype = LM_QUANT }, &w, &s));
        for (int i = 0; i < lm_weights_count(w); i++) {
            lm_weight_info info;
            lm_tensor x, y;
            lm_weights_info(w, i, &info);
            lm_store_get(r->store, info.name, &x); lm_store_get(s, info.name, &y);
            const int64_t k2 = lm_numel(&x);
            float *p = malloc((size_t)k2 * 4), *q = malloc((size_t)k2 * 4);
            lm_layout_get_rows(&x, 0, lm_rows(&x), p); lm_layout_get_rows(&y, 0, lm_rows(&y), q);
            double d = 0;
            plus_one(r, info.name, p, q, k2);
            for (int64_t j = 0; j < k2; j++) d = fmax(d, fabs((double)p[j] - (double)q[j]) / (fabs((double)p[j]) + 1e-4));
            if (info.rank == 1 || info.dtype == LM_F32 ? d != 0 : !(d <= (k ? 0x1p-8 : 0x1p-10))) {
                lm_t_fail++;
                printf("%s: GGUF in %s: %s is off by %.3g\n", r->name, lm_dtype_name(half[k]), info.name, d);
            }
            free(p); free(q);
        }
        lm_store_free(s); lm_weights_close(w);
    }
}
static void test_saving(void) { each(saving); }

/* ---- quantized copies ----------------------------------------------------------------------------------------------------------------------- */
static double rel(const float *a, const float *b, int64_t n) {
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) { d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]); s += (double)a[i] * (double)a[i]; }
    return sqrt(d / s);
}
/* A random model whose widths blocks divide: quantized while loading, and written to GGUF and kept as stored, are the same model, near the
 * original. */
static void test_quantized(void) {
    static const struct { const char *name; double tol; } formats[] = { { "Q8_0", 0.05 }, { "Q4_0", 0.7 },  { "Q5_0", 0.4 }, { "Q2_K", 2.0 },
                                                                        { "Q3_K", 1.2 },  { "Q4_K", 0.6 },  { "Q5_K", 0.4 }, { "Q6_K", 0.2 },
                                                                        { "IQ4_NL", 0.6 }, { "IQ4_XS", 0.6 } };
    const lm_cfg c = { .model = lm_model_by_name("llama"),
                       .vocab = 300,
                       .d = 256,
                       .n_layer = 2,
                       .n_head = 4,
                       .n_kv = 2,
                       .d_head = 64,
                       .d_ff = 512,
                       .max_pos = ALL,
                       .eps = 1e-5,
                       .init_std = 0.08,
                       .bos = -1,
                       .hf_type = "llama",
                       .rope = { .d_head = 64, .base = 10000, .max_pos = ALL } };
    rig r = { .name = "random", .cfg = &c };
    lm_weights *w; lm_store *s, *g;
    char dir[700], file[800];
    int32_t ids[ALL];
    LM_NEED_OK(r.ctx, lm_ctx_new(&r.ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    lm_ledger l; lm_mem_ledger(r.ctx, &l);
    r.base = l.total_now;
    snprintf(dir, sizeof dir, "%s/random", t_dir); snprintf(file, sizeof file, "%s/random.gguf", t_dir);
    LM_NEED_OK(r.ctx, lm_store_new(&r.store, r.ctx));
    LM_NEED_OK(r.ctx, lm_model_init(r.ctx, &c, r.store, 3));
    LM_NEED_OK(r.ctx, lm_model_save_hf(r.ctx, &c, r.store, dir, LM_F32, 0));
    LM_NEED_OK(r.ctx, lm_weights_open(&r.w, r.ctx, dir));
    for (int i = 0; i < 60; i++) ids[i] = i * 37 % 300;
    const int64_t n = 60 * c.vocab;
    float *a = malloc((size_t)n * 4), *b = malloc((size_t)n * 4), *x = malloc((size_t)n * 4);
    LM_CHECK_OK(r.ctx, paged(&r, r.store, LM_F32, 60, ids, 60, a, NULL));
    for (int k = 0; k < LM_COUNT(formats); k += LM_T_WATCHED ? 2 : 1) {          /* (how each is made is test_quantize's) */
        const lm_quant *q = lm_quant_by_name(formats[k].name);
        LM_CHECK(q != NULL);
        if (!q || !q->from_float) continue;
        LM_NEED_OK(r.ctx, load(r.ctx, dir, &(lm_load_opts){ .dtype = LM_F32, .quant = q, .quant_embed = true }, &w, &s)); lm_weights_close(w);
        lm_tensor t;
        LM_CHECK(lm_store_get(s, "model.layers.1.mlp.down_proj.weight", &t) && t.dtype == LM_QUANT && t.quant == q);
        LM_CHECK_OK(r.ctx, paged(&r, s, LM_F32, 60, ids, 60, b, NULL));
        double e = rel(a, b, n);
        if (!(e <= formats[k].tol && e > 1e-4)) { lm_t_fail++; printf("%s: logits are off by %.3g of their norm\n", q->name, e); }
        if (table()) printf("%s: logits off by %.2g of their norm\n", q->name, e);
        LM_CHECK_OK(r.ctx, paged(&r, s, LM_F32, 7, ids, 60, x, NULL));
        compare(&r, "quantized, chunks of 7", LM_F32, b, x, n);
        LM_CHECK_OK(r.ctx, lm_model_save_gguf(r.ctx, &c, r.store, file, LM_F32, q, NULL, NULL));
        LM_NEED_OK(r.ctx, load(r.ctx, file, &(lm_load_opts){ .dtype = LM_QUANT, .panels = true }, &w, &g));
        same_weights(&r, "quantized while loading, and through GGUF", s, g, LM_F32);
        lm_store_free(g);
        LM_CHECK_OK(r.ctx, lm_store_new(&g, r.ctx));
        LM_CHECK_OK(r.ctx, lm_weights_load(w, g, &(lm_load_opts){ .dtype = LM_F32 }));          /* dequantized */
        same_weights(&r, "dequantized", s, g, LM_F32);
        LM_CHECK_OK(r.ctx, paged(&r, g, LM_F32, 60, ids, 60, x, NULL));
        compare(&r, "quantized, and dequantized in memory", LM_F32, b, x, n);
        lm_weights_close(w); lm_store_free(g); lm_store_free(s);
    }
    LM_CHECK_ERR(r.ctx, load(r.ctx, LM_FIXTURES "/models/gpt2", &(lm_load_opts){ .quant = lm_quant_by_name("Q8_0") }, &w, &s),
                 LM_E_UNSUPPORTED, "no matrix");
    free(a); free(b); free(x);
    lm_weights_close(r.w); lm_store_free(r.store);
    lm_mem_ledger(r.ctx, &l);
    LM_CHECK(l.total_now == r.base);
    lm_ctx_free(r.ctx);
}
/* A GGUF model whose way down is blocks of any ggml type: kept as stored it runs, and gives what its dequantized numbers give. */
static lm_err write_as(lm_ctx *ctx, const lm_cfg *c, const lm_store *store, const char *file, const lm_quant *q, const uint8_t *raw) {
    lm_gguf_writer *w;
    lm_err err = lm_gguf_writer_new(&w, ctx, file, 0);
    if (!err) err = lm_gguf_put_str(w, "general.architecture", "llama", 5);
    if (!err) err = c->model->to_gguf(ctx, c, w);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; !err && i < lm_store_count(store); i++) {
            lm_tensor t;
            int layer; char name[64] = "";
            const struct lm_name_map *row = lm_model_name_row(c->model, lm_store_name(store, i, &t), &layer);
            const char *d = strstr(row->gguf, "%d");
            if (d) snprintf(name, sizeof name, "%.*s%d%s", (int)(d - row->gguf), row->gguf, layer, d + 2);
            else snprintf(name, sizeof name, "%s", row->gguf);
            const bool down = strstr(name, "ffn_down") != NULL;
            if (!pass) err = lm_gguf_writer_add(w, name, down ? lm_ggml_by_id(q->gguf_id) : lm_ggml_by_name("F32"), t.rank, t.dim);
            else if (!down) err = lm_gguf_writer_write(w, t.data, (size_t)lm_numel(&t) * 4);
            else for (int64_t r = 0; !err && r < t.dim[0]; r++)      /* rows of 512: the fixture's second half, which ggml quantized */
                err = lm_gguf_writer_write(w, raw + 512 / q->block * q->comp[0].block_bytes, (size_t)(512 / q->block * q->comp[0].block_bytes));
        }
    return err ? err : lm_gguf_writer_commit(w);
}
static void test_every_type(void) {
    const lm_cfg c = { .model = lm_model_by_name("llama"), .vocab = 64, .d = 64, .n_layer = 1, .n_head = 2, .n_kv = 2, .d_head = 32, .d_ff = 512,
                       .max_pos = ALL, .eps = 1e-5, .init_std = 0.08, .bos = -1, .hf_type = "llama", .rope = { .d_head = 32, .base = 10000, .max_pos = ALL } };
    rig r = { .name = "every type", .cfg = &c };
    lm_st *st; lm_weights *w; lm_store *s, *g;
    char file[800], name[64];
    int32_t ids[20];
    float a[20 * 64], b[20 * 64];
    int rows = 0;
    LM_NEED_OK(r.ctx, lm_ctx_new(&r.ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    LM_NEED_OK(r.ctx, lm_st_open(&st, r.ctx, LM_FIXTURES "/quant_ggml.safetensors"));
    LM_NEED_OK(r.ctx, lm_store_new(&r.store, r.ctx));
    LM_NEED_OK(r.ctx, lm_model_init(r.ctx, &c, r.store, 3));
    snprintf(file, sizeof file, "%s/every.gguf", t_dir);
    for (int i = 0; i < 20; i++) ids[i] = i * 37 % 64;
    for (int f = 0; lm_quants[f]; f++) {
        const lm_quant *q = lm_quants[f];
        uint8_t raw[2048];
        snprintf(name, sizeof name, "%s.raw", q->name);
        const lm_st_tensor *t = q->gguf_id >= 0 ? lm_st_find(st, name) : NULL;
        if (!t || t->bytes > (int64_t)sizeof raw) continue;
        LM_NEED_OK(r.ctx, lm_st_read(st, t, raw, 0, t->bytes));
        LM_NEED_OK(r.ctx, write_as(r.ctx, &c, r.store, file, q, raw));
        LM_NEED_OK(r.ctx, load(r.ctx, file, &(lm_load_opts){ .dtype = LM_QUANT }, &w, &s));
        lm_tensor down;
        LM_CHECK(lm_store_get(s, "model.layers.0.mlp.down_proj.weight", &down) && down.dtype == LM_QUANT && down.quant == q);
        LM_CHECK_OK(r.ctx, paged(&r, s, LM_F32, 7, ids, 20, a, NULL));
        LM_NEED_OK(r.ctx, lm_store_new(&g, r.ctx));
        LM_CHECK_OK(r.ctx, lm_weights_load(w, g, &(lm_load_opts){ .dtype = LM_F32 }));
        LM_CHECK_OK(r.ctx, paged(&r, g, LM_F32, 20, ids, 20, b, NULL));
        compare(&r, q->name, LM_F32, a, b, 20 * 64);
        for (int i = 0; i < 20 * 64; i++) if (!isfinite(a[i])) { LM_CHECK(isfinite(a[i])); break; }
        lm_weights_close(w); lm_store_free(s); lm_store_free(g);
        rows++;
    }
    LM_CHECK(rows == 26);
    lm_st_close(st); lm_store_free(r.store); lm_ctx_free(r.ctx);
}
static void test_folder(void) {                              /* first: a place to write; last: away with it */
    lm_ctx *c;
    if (lm_ctx_new(&c, NULL)) abort();
    if (t_dir[0]) { LM_CHECK_OK(c, lm_dir_remove(c, t_dir)); t_dir[0] = 0; }
    lm_ctx_free(c);
}
/* ---- generation in bf16 on a device: joined steps and their kernels against the processor's ------------------------------------------------ */
enum { SIDE = 5 };
/* Logits of ids[PROMPT …] after the prompt, one token a run, of `n` sessions side by side (all alike); the first's are kept. */
static lm_err one_by_one(const rig *r, lm_store *store, lm_dev *dev, lm_dtype mm, int n, const int32_t *ids, int64_t upto, float *logits) {
    lm_engine *e; lm_session *s[SIDE] = {0}; lm_request q[SIDE];
    LM_TRY(lm_engine_new(&e, r->ctx, r->cfg, store, &(lm_engine_opts){ .context = ALL, .chunk = 64, .max_seqs = n, .mm = mm, .kv = mm, .dev = dev }));
    rows_to c = { logits, r->cfg->vocab };
    lm_err err = LM_OK;
    for (int i = 0; i < n && !err; i++) err = lm_session_new(&s[i], e);
    for (int64_t t = PROMPT - 1; t < upto && !err; t++) {
        for (int i = 0; i < n; i++) q[i] = (lm_request){ s[i], t < PROMPT ? ids : ids + t, t < PROMPT ? PROMPT : 1, i ? LM_WANT_NONE : LM_WANT_LAST };
        c.to = logits + (t - PROMPT + 1) * r->cfg->vocab - (t < PROMPT ? PROMPT - 1 : 0) * r->cfg->vocab;
        if (t >= PROMPT) err = lm_engine_run(e, q, n, copy_row, &c);
        else for (int i = 0; i < n && !err; i++) err = lm_engine_run(e, &q[i], 1, copy_row, &c);          /* alone: many rows have another order of sums */
    }
    for (int i = 0; i < n; i++) lm_session_free(s[i]);
    lm_engine_free(e);
    return err;
}
static void on_device(rig *r) {
    lm_weights *w; lm_store *s;
    int32_t ids[ALL];
    enum { UPTO = 48 };
    const int64_t n = (UPTO - PROMPT + 1) * r->cfg->vocab;
    float *exact = calloc((size_t)n, 4), *a = calloc((size_t)n, 4), *b = calloc((size_t)n, 4), *c = calloc((size_t)n, 4);
    text_of(r, ids);
    LM_NEED_OK(r->ctx, load(r->ctx, r->dir, &(lm_load_opts){ .dtype = LM_BF16 }, &w, &s));
    /* both are judged by the same bf16 weights multiplied in f32; the device stores activations as bf16 too, where the processor rounds operands alone */
    LM_CHECK_OK(r->ctx, one_by_one(r, s, NULL, LM_F32, 1, ids, UPTO, exact));
    LM_CHECK_OK(r->ctx, one_by_one(r, s, NULL, LM_BF16, 1, ids, UPTO, a));
    LM_CHECK_OK(r->ctx, one_by_one(r, s, r->dev, LM_BF16, 1, ids, UPTO, b));
    const double e = rel(b, exact, n), host = rel(a, exact, n);
    if (!(e <= 2.5 * host + 1e-3)) {
        lm_t_fail++;
        printf("%s: bf16 logits on the device are off by %.3g of their norm, the processor's by %.3g\n", r->name, e, host);
    }
    if (table()) printf("| %s | bf16 decode: logits within %.1e of f32's, the processor's bf16 within %.1e |\n", r->name, e, host);
    LM_CHECK_OK(r->ctx, one_by_one(r, s, r->dev, LM_BF16, 1, ids, UPTO, c));
    compare(r, "decode on the device, again", LM_BF16, b, c, n);
    LM_CHECK_OK(r->ctx, one_by_one(r, s, r->dev, LM_BF16, SIDE, ids, UPTO, c));
    /* rows that the kernel for few rows takes; others are the library's, whose order belongs to the shape */
    if (r->cfg->d % 8 == 0 && r->cfg->d_ff % 8 == 0)
        compare(r, "decode on the device, five sessions side by side", LM_BF16, b + r->cfg->vocab, c + r->cfg->vocab, n - r->cfg->vocab);
    lm_weights_close(w); lm_store_free(s);
    free(exact); free(a); free(b); free(c);
}
static void test_bf16_on_device(void) { if (getenv("LM_DEVICE")) each(on_device); }
int main(int argc, char **argv) {
    static const lm_t_case cases[] = { LM_T1(test_transformers), LM_T1(test_bf16_on_device), LM_T1(test_chunks_and_panels_keep_bits), LM_T1(test_trainer_is_engine),
                                       LM_T1(test_saving), LM_T1(test_quantized), LM_T1(test_every_type) };
    const char *tmp = getenv("TMPDIR");
    snprintf(t_dir, sizeof t_dir, "%s/loam-test-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(t_dir)) { printf("no folder for the test: %s\n", t_dir); return 1; }
    int rc = lm_t_main(cases, LM_COUNT(cases), argc, argv);
    test_folder();
    return rc;
}
