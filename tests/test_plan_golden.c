/* test_plan_golden.c — the plans of all models as text, tests/golden/plan/NAME.txt, on a fixed machine: one set of instructions, two
 * threads, round ceilings. The text is equal on every machine, so a change to a model, a pass or the planner shows as a difference here.
 * After a change that is meant, `build/tests/test_plan_golden rewrite` writes the files anew; look at them before they are committed. */
#include <sys/stat.h>
#include "base/file.h"
#include "device/cpu.h"
#include "infer/infer.h"
#include "model/model_int.h"
#include "test.h"
#include "train/cost.h"

#define DIR LM_ROOT "/tests/golden/plan"
static const uint64_t FEATURES = LM_CPU_PORTABLE | LM_CPU_AVX2 | LM_CPU_AVX512 | LM_CPU_AVX512_VNNI;
static const lm_machine FIXED = { .threads = 2,
                                  .fma_f32 = 250e9,
                                  .mm_f32 = 200e9,
                                  .mm_bf16 = 200e9,
                                  .read_1 = 12e9,
                                  .read_n = 20e9,
                                  .cache_n = 200e9,
                                  .mid_n = 40e9,
                                  .last_cache = 32e6 };
static bool rewrite;
static lm_ctx *ctx;

static void cost(const lm_plan *p, int64_t seqs, int64_t seq, lm_str *o) {
    const lm_cost c = lm_cost_of(&FIXED, p, seqs, seq);
    lm_str_printf(o, "operations %.6g  roofline %.4g us  by ceilings %.4g us\n", c.flops, 1e6 * c.roofline, 1e6 * c.seconds);
}
static void training(const char *title, const lm_cfg *c, lm_dtype mm, int recompute, const char *optim, lm_str *o) {
    lm_store *s = NULL; lm_trainer *t = NULL;
    const lm_trainer_opts to = { .batch = 2,
                                 .seq = 16,
                                 .mm = mm,
                                 .recompute = recompute,
                                 .dry = true,
                                 .features = FEATURES,
                                 .optim = { .name = optim,
                                            .lr = 1e-3,
                                            .beta1 = 0.9,
                                            .beta2 = 0.95,
                                            .eps = 1e-8,
                                            .clip = 1.0,
                                            .weight_decay = 0.1,
                                            .muon_lr = 0.02,
                                            .muon_momentum = 0.95,
                                            .muon_steps = 1 } };
    LM_NEED_OK(ctx, lm_store_new(&s, ctx));
    LM_CHECK_OK(ctx, lm_trainer_new(&t, ctx, c, s, &to));
    if (t) {
        lm_plan *p[] = { lm_trainer_accumulate_plan(t), lm_trainer_update_plan(t) };
        for (int i = 0; i < 2; i++) {
            lm_str_printf(o, "\n== %s: %s\n", title, i ? "update" : "accumulate");
            cost(p[i], i ? 0 : 2, i ? 0 : 16, o);
            lm_plan_print(p[i], o);
        }
    }
    lm_trainer_free(t); lm_store_free(s);
}
typedef struct { lm_store *s; const lm_cfg *c; lm_dtype dtype; const lm_quant *q; } weights;
/* as lm_weights_load lays them out for serving */
static lm_err declare(void *ud, const char *name, const lm_type *t, lm_role role, bool head) {
    const weights *w = ud;
    int layer;
    const struct lm_name_map *row = lm_model_name_row(w->c->model, name, &layer);
    const bool matrix = t->rank == 2, multiplied = matrix && !(row && row->transpose) && (role == LM_ROLE_COL || role == LM_ROLE_ROW || head);
    lm_type y = *t; lm_layout layout = LM_PLAIN;
    if (w->q && matrix && t->dim[1] % w->q->block == 0 && (multiplied || role == LM_ROLE_EMBED)) { y.dtype = LM_QUANT; y.quant = w->q; }
    else if (matrix) { y.dtype = w->dtype; if (multiplied) layout = w->dtype == LM_BF16 ? LM_PANEL16X2 : LM_PANEL16; }
    return lm_store_declare(w->s, name, &y, layout);
}
static void serving(const char *title, const lm_cfg *c, lm_dtype dtype, const char *quant, lm_dtype kv, lm_str *o) {
    weights w = { NULL, c, dtype, quant ? lm_quant_by_name(quant) : NULL };
    LM_NEED_OK(ctx, lm_store_new(&w.s, ctx));
    LM_CHECK_OK(ctx, lm_model_walk(ctx, c, declare, &w));
    for (int i = 0; i < 2; i++) {
        lm_engine *e = NULL;
        LM_CHECK_OK(
            ctx, lm_engine_new(
                     &e, ctx, c, w.s,
                     &(lm_engine_opts){
                         .context = 128, .chunk = i ? 1 : 16, .mm = lm_engine_mm_for(w.s), .kv = kv, .dry = true, .features = FEATURES }));
        if (!e) continue;
        lm_str_printf(o, "\n== %s: %s\n", title, i ? "paged decode, one row" : "prefill, 16 rows");
        cost(lm_engine_plan(e), 0, 0, o);
        lm_plan_print(lm_engine_plan(e), o);
        lm_engine_free(e);
    }
    lm_store_free(w.s);
}
/* The first lines that differ, with what comes before them. */
static void differ(const char *name, const char *want, const char *got) {
    int line = 1;
    const char *w = want, *g = got;
    for (;;) {
        const char *we = strchr(w, '\n'), *ge = strchr(g, '\n');
        const size_t wn = we ? (size_t)(we - w) : strlen(w), gn = ge ? (size_t)(ge - g) : strlen(g);
        if (wn != gn || memcmp(w, g, wn)) break;
        if (!we || !ge) return;
        w = we + 1; g = ge + 1; line++;
    }
    const char *title = w;
    while (title > want && strncmp(title, "== ", 3)) title--;
    printf("tests/golden/plan/%s.txt, line %d (%.*s):\n", name, line, (int)strcspn(title, "\n"), title);
    for (int k = 0; k < 6 && *w; k++) { const size_t n = strcspn(w, "\n"); printf("  - %.*s\n", (int)n, w); w += n + (w[n] == '\n'); }
    for (int k = 0; k < 6 && *g; k++) { const size_t n = strcspn(g, "\n"); printf("  + %.*s\n", (int)n, g); g += n + (g[n] == '\n'); }
    printf("  (if this is meant: build/tests/test_plan_golden rewrite)\n");
}
static void compare(const char *name, lm_str *o) {
    char path[600], *want = NULL; size_t n;
    snprintf(path, sizeof path, DIR "/%s.txt", name);
    LM_CHECK(!lm_str_err(o) && o->n > 0);
    if (!o->n) return;
    if (rewrite) LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, path, o->p, o->n));
    else {
        LM_CHECK_OK(ctx, lm_file_read_all(ctx, path, 1 << 24, &want, &n));
        if (want && strcmp(want, o->p)) { lm_t_fail++; differ(name, want, o->p); }
        lm_free(ctx, want);
    }
    lm_str_free(o);
}
static void open_ctx(void) { LM_CHECK(!lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 })); }
/* Every variant of the fixtures, one layer deep: training and serving in f32. */
static void test_variants(void) {
    static const char *const name[] = { "gpt2",         "gpt2-gelu",     "llama1",     "llama2-gqa", "llama3",
                                        "llama-linear", "llama-dynamic", "llama-yarn", "mistral",    "smollm-like" };
    open_ctx();
    for (int i = 0; i < LM_COUNT(name); i++) {
        char path[600];
        lm_weights *w = NULL;
        lm_str o = { .ctx = ctx };
        snprintf(path, sizeof path, LM_FIXTURES "/models/%s", name[i]);
        LM_CHECK_OK(ctx, lm_weights_open(&w, ctx, path));
        if (!w) continue;
        lm_cfg c = *lm_weights_cfg(w);
        c.n_layer = 1;
        lm_str_printf(&o, "%s, one layer: vocabulary %lld, width %lld, heads %lld of %lld, keys %lld\n", name[i], (long long)c.vocab,
                      (long long)c.d, (long long)c.n_head, (long long)c.d_head, (long long)c.n_kv);
        training("training, f32, AdamW", &c, LM_F32, 1, "adamw", &o);
        serving("serving, f32", &c, LM_F32, NULL, LM_F32, &o);
        lm_weights_close(w);
        compare(name[i], &o);
    }
    lm_ctx_free(ctx);
}
/* What passes and formats make of the two families: bf16, recomputed blocks, Muon; bf16 weights and pages, Q8_0. */
static void test_forms(void) {
    open_ctx();
    for (int f = 0; f < 2; f++) {
        lm_cfg c = { .model = lm_model_by_name(f ? "gpt2" : "llama"),
                     .vocab = 96,
                     .d = 64,
                     .n_layer = 2,
                     .n_head = 4,
                     .n_kv = f ? 4 : 2,
                     .d_head = 16,
                     .d_ff = 128,
                     .max_pos = 128,
                     .eps = 1e-5,
                     .init_std = 0.02,
                     .tie = f == 1,
                     .bos = -1,
                     .act = f ? LM_ACT_GELU_TANH : LM_ACT_SILU,
                     .hf_type = f ? "gpt2" : "llama" };
        c.rope.d_head = 16; c.rope.base = 10000; c.rope.max_pos = 128;
        lm_str o = { .ctx = ctx };
        lm_str_printf(&o, "%s, two layers of width 64\n", c.model->name);
        training("training, bf16, both blocks recomputed, Muon", &c, LM_BF16, 3, "muon", &o);
        serving("serving, bf16 weights and pages", &c, LM_BF16, NULL, LM_BF16, &o);
        serving("serving, Q8_0", &c, LM_F32, "Q8_0", LM_F32, &o);
        compare(f ? "forms-gpt2" : "forms-llama", &o);
    }
    lm_ctx_free(ctx);
}
int main(int argc, char **argv) {
    static const lm_t_case cases[] = { LM_T1(test_variants), LM_T1(test_forms) };
    if (argc > 1 && !strcmp(argv[1], "rewrite")) { rewrite = true; argc = 1; mkdir(LM_ROOT "/tests/golden", 0777); mkdir(DIR, 0777); }
    return lm_t_main(cases, LM_COUNT(cases), argc, argv);
}
