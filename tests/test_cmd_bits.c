/* test_cmd_bits.c — section "bits you can trust", through the program: what `loam run` and `loam logits` say of a text is, to the bit,
 * what the trainer computes for it; and eight sequences at once are the same step as eight accumulated ones. */
#include <math.h>
#include "cmd_run.h"
#include "infer/infer.h"
#include "op/xent/xent.h"
#include "train/train.h"
#define NEED_PROGRAM() do { if (!begin()) LM_SKIP("the program is not built"); calm(); text(); } while (0)
#define DATA "data.path=%s data.seq=32 tokenizer.vocab=300 model.d=32 model.n_layer=2 model.n_head=2 model.d_ff=64 train.val_every=0 "

static void text(void) {
    static bool did;
    if (did) return;
    did = true;
    char *p = malloc(20000); size_t n = 0;
    unsigned x = 1;
    static const char *const word[] = { "the ", "cat ", "sat ", "on ", "a ", "mat, ", "and ", "then ", "it ", "ran.\n" };
    while (n < 19000) { x = x * 1103515245u + 12345u; const char *w = word[(x >> 16) % 10]; memcpy(p + n, w, strlen(w)); n += strlen(w); }
    put_file(at("text"), p, n);
    free(p);
}

/* ---- the trainer's own figures for a row of ids -------------------------------------------------------------------------------------------- */
typedef struct { lm_ctx *ctx; lm_weights *w; lm_store *store; lm_trainer *t; lm_batch b; } rig;
static lm_err rig_new(rig *r, const char *model, lm_dtype mm, int64_t n) {
    *r = (rig){0};
    LM_TRY(lm_ctx_new(&r->ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    LM_TRY(lm_weights_open(&r->w, r->ctx, model));
    LM_TRY(lm_store_new(&r->store, r->ctx));
    LM_TRY(lm_weights_load(r->w, r->store, &(lm_load_opts){ .dtype = LM_F32 }));
    const lm_trainer_opts o = {
        .batch = 1, .seq = n, .mm = mm, .optim = { .name = "adamw", .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8 }, .seed = 1
    };
    LM_TRY(lm_trainer_new(&r->t, r->ctx, lm_weights_cfg(r->w), r->store, &o));
    return lm_batch_alloc(r->ctx, &r->b, 1, n);
}
static void rig_free(rig *r) {
    if (!r->ctx) return;
    lm_batch_free(r->ctx, &r->b); lm_trainer_free(r->t); lm_store_free(r->store); lm_weights_close(r->w); lm_ctx_free(r->ctx);
}
/* out[i] = log p(ids[i] | before), i >= 1. */
static lm_err teacher(rig *r, const int32_t *ids, int64_t n, float *out) {
    double sum = 0;
    lm_tensor t;
    for (int64_t i = 0; i < r->b.n; i++) {
        r->b.tokens[i] = ids[i < n ? i : n - 1];
        r->b.pos[i] = (int32_t)i;
        r->b.start[i] = 0;
        r->b.target[i] = i + 1 < n ? ids[i + 1] : -1;
    }
    r->b.n_target = n - 1;
    LM_TRY(lm_trainer_eval(r->t, &r->b, &sum));
    const float *loss = lm_plan_output(lm_trainer_eval_plan(r->t), "loss", &t);
    for (int64_t i = 1; i < n; i++) out[i] = -loss[i - 1];
    return LM_OK;
}
enum { GEN = 24 };
static int ids_of(const json_t *a, int32_t *ids) {
    for (size_t i = 0; i < json_array_size(a); i++) ids[i] = (int32_t)json_integer_value(json_array_get(a, i));
    return (int)json_array_size(a);
}
/* loam run's log-probabilities of what it wrote, for one timeline and for sixteen side by side; loam logits of the same ids in pieces of 1,
 * 7 and 64. */
static void compare(const char *model, const char *dtype, lm_dtype mm) {
    static const char prompt[] = "the cat sat on a mat, and then the ";
    int32_t ids[256], all[256];
    float want[256];
    rig r;
    json_t *j = json_of(run_in(prompt, strlen(prompt), "tokenizer encode %s --json", model));
    const int n_prompt = ids_of(json_object_get(j, "ids"), ids);
    json_decref(j);
    LM_CHECK(n_prompt > 4 && n_prompt < 64);
    if (n_prompt < 1 || n_prompt > 64) return;
    const int n = n_prompt + GEN;
    const lm_err e = rig_new(&r, model, mm, n);
    LM_CHECK_OK(r.ctx, e);
    if (e) { rig_free(&r); return; }
    for (int crowd = 1; crowd <= 16; crowd += 15) {
        j = json_of(run("run %s --prompt \"%s\" --max-tokens %d --temperature 1 --top-p 1 --min-p 0 --seed 5 --n %d --ignore-eos "
                        "--logprobs 0 --dtype %s --threads 2 --json",
                        model, prompt, (int)GEN, crowd, dtype));
        json_t *choices = json_object_get(j, "choices");
        if (j && crowd > 1) LM_CHECK((int)json_array_size(choices) == crowd);
        for (int c = 0; j && c < crowd; c += 5) {
            json_t *one = crowd > 1 ? json_array_get(choices, (size_t)c) : j, *lp = json_object_get(one, "logprobs");
            memcpy(all, ids, (size_t)n_prompt * sizeof *ids);
            LM_CHECK(ids_of(json_object_get(one, "tokens"), all + n_prompt) == GEN && json_array_size(lp) == GEN);
            LM_CHECK_OK(r.ctx, teacher(&r, all, n, want));
            int bad = 0;
            for (int i = 0; i < GEN; i++) bad += (float)json_number_value(json_array_get(lp, (size_t)i)) != want[n_prompt + i];
            if (bad) {
                lm_t_fail++;
                printf("%s %s: timeline %d of %d: %d of %d log-probabilities differ from the trainer's (%.9g, %.9g)\n", model, dtype, c,
                       crowd, bad, (int)GEN, json_number_value(json_array_get(lp, 0)), (double)want[n_prompt]);
            }
        }
        json_decref(j);
    }
    char list[2000] = ""; size_t at_ = 0;
    for (int i = 0; i < n; i++) at_ += (size_t)snprintf(list + at_, sizeof list - at_, i ? ",%d" : "%d", all[i]);
    for (int chunk = 1; chunk <= 64; chunk = chunk == 1 ? 7 : chunk == 7 ? 64 : 65) {
        ran o = run("logits %s --ids %s --out %s --chunk %d --dtype %s --quiet", model, list, at("x.npy"), chunk, dtype);
        LM_CHECK_RC(o, 0); done(&o);
        size_t bytes; char *p = get_file(at("x.npy"), &bytes);
        const int64_t V = lm_weights_cfg(r.w)->vocab;
        LM_CHECK(p && bytes > (size_t)(n * V) * 4);
        if (!p || bytes <= (size_t)(n * V) * 4) { free(p); continue; }
        const size_t head = bytes - (size_t)(n * V) * 4;
        int bad = 0;
        float *row = malloc((size_t)V * sizeof *row);
        for (int i = 1; i < n; i++) {
            memcpy(row, p + head + (size_t)(i - 1) * (size_t)V * 4, (size_t)V * 4);
            bad += row[all[i]] - lm_row_lse(row, V) != want[i];
        }
        if (bad) {
            lm_t_fail++;
            printf("%s %s: logits in pieces of %d: %d of %d log-probabilities differ from the trainer's\n", model, dtype, chunk, bad,
                   n - 1);
        }
        free(row); free(p);
    }
    rig_free(&r);
}
static void test_trainer_equals_program(void) {
    NEED_PROGRAM();
    static const char *const family[] = { "llama", "gpt2" };
    for (int f = 0; f < 2; f++) {
        char out[32], model[128];
        snprintf(out, sizeof out, "m-%s", family[f]); snprintf(model, sizeof model, "%s", at(out));
        ran r = run("train " DATA "model.family=%s model.max_pos=128 train.steps=20 train.batch=4 out=%s --quiet", at("text"), family[f], model);
        LM_CHECK_RC(r, 0); done(&r);
        compare(model, "f32", LM_F32);
        compare(model, "bf16", LM_BF16);
    }
}

/* ---- eight at once, eight in turn -------------------------------------------------------------------------------------------------------------- */
static int read_metrics(const char *run_dir, double *loss, double *norm, int cap) {
    char p[200]; snprintf(p, sizeof p, "%s/metrics.jsonl", at(run_dir));
    size_t n; char *s = get_file(p, &n); int k = 0;
    for (char *l = s; l && *l && k < cap; l = strchr(l, '\n') ? strchr(l, '\n') + 1 : NULL) {
        char *a = strstr(l, "\"loss\": "), *b = strstr(l, "\"grad_norm\": "), *e = strchr(l, '\n');
        if (!a || !b || !e || a > e || b > e) continue;
        loss[k] = strtod(a + 8, NULL); norm[k++] = strtod(b + 13, NULL);
    }
    free(s);
    return k;
}
static void test_accumulation(void) {
    NEED_PROGRAM();
    double loss[3][8], norm[3][8];
    static const char *const micro[] = { "8", "1", "2" };
    int n[3];
    for (int i = 0; i < 3; i++) {
        char out[16]; snprintf(out, sizeof out, "acc%s", micro[i]);
        ran r =
            run("train " DATA
                "train.steps=6 train.batch=8 train.micro_batch=%s optim.lr=0.002 optim.warmup=0 optim.clip=0.5 train.seed=3 out=%s --quiet",
                at("text"), micro[i], at(out));
        LM_CHECK_RC(r, 0); done(&r);
        n[i] = read_metrics(out, loss[i], norm[i], 8);
        LM_CHECK(n[i] == 6);
    }
    for (int i = 1; i < 3; i++) {
        /* The first step is on equal weights: loss and gradient are one sum in another order. (metrics.jsonl gives six digits of the norm,
         * nine of the loss.) */
        for (int s = 0; s < 6; s++) LM_CHECK_NEAR(loss[i][s], loss[0][s], (s ? 3e-6 : 1e-6) * loss[0][s]);
        LM_CHECK_NEAR(norm[i][0], norm[0][0], 2e-6 * norm[0][0]);
    }
    LM_CHECK(fabs(loss[0][5] - loss[0][0]) > 0.05);        /* it does learn: the figures are not equal because nothing happens */
}
LM_TEST_MAIN(LM_T1(test_trainer_equals_program), LM_T1(test_accumulation))
