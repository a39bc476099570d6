/* bench_train.c — one training step of a model shape: what it takes, and where the time goes. Memory is in MiB, as in peers/torch_train.py.
 * usage: bench_train [gpt2|llama] [f32|bf16] [B] [T] [layers] [threads] [recompute] [steps after the first; 0: only the plan] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "train/cost.h"
#include "train/train.h"
typedef struct { const char *name; double s, flops; int n; } row;
static int by_number(const void *a, const void *b) { const double x = *(const double *)a, y = *(const double *)b; return (x > y) - (x < y); }
static int by_time(const void *a, const void *b) { const row *x = a, *y = b; return x->s < y->s ? 1 : x->s > y->s ? -1 : 0; }
int main(int argc, char **argv) {
    const char *family = argc > 1 ? argv[1] : "gpt2", *dt = argc > 2 ? argv[2] : "f32";
    int64_t B = argc > 3 ? atoll(argv[3]) : 4, T = argc > 4 ? atoll(argv[4]) : 256, L = argc > 5 ? atoll(argv[5]) : 12;
    int threads = argc > 6 ? atoi(argv[6]) : 2, recompute = argc > 7 ? atoi(argv[7]) : 0;
    lm_ctx *ctx;
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = threads })) return 1;
    lm_cfg c = { .model = lm_model_by_name(family),
                 .vocab = 50257,
                 .d = 768,
                 .n_layer = L,
                 .n_head = 12,
                 .n_kv = 12,
                 .d_head = 64,
                 .d_ff = 3072,
                 .max_pos = 1024,
                 .eps = 1e-5,
                 .init_std = 0.02,
                 .tie = true,
                 .bos = -1,
                 .act = LM_ACT_GELU_TANH,
                 .hf_type = family };
    c.rope.d_head = 64; c.rope.base = 10000; c.rope.max_pos = 1024;
    lm_store *store; lm_trainer *t; lm_batch b;
    const lm_trainer_opts o = { .batch = B, .seq = T, .mm = !strcmp(dt, "bf16") ? LM_BF16 : LM_F32, .recompute = recompute,
        .optim = { .name = "adamw", .lr = 1e-4, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip = 1.0 } };
    lm_err e = lm_store_new(&store, ctx);
    if (!e) e = lm_model_init(ctx, &c, store, 1);
    if (!e) e = lm_trainer_new(&t, ctx, &c, store, &o);
    if (!e) e = lm_batch_alloc(ctx, &b, B, T);
    if (e) { fprintf(stderr, "%s\n", lm_error(ctx)); return 1; }
    for (int64_t i = 0; i < b.n; i++) {
        b.tokens[i] = (int32_t)(i * 7919 % 50257);
        b.target[i] = (int32_t)(i * 104729 % 50257);
        b.pos[i] = (int32_t)(i % T);
        b.start[i] = (int32_t)(i / T * T);
    }
    b.n_target = b.n;
    lm_trainer_plan p; lm_trainer_plan_of(t, &p);
    const double mib = 1024 * 1024;
    const double flops = lm_cost_of(&(lm_machine){ .mm_f32 = 1, .mm_bf16 = 1, .read_n = 1, .mid_n = 1 }, lm_trainer_accumulate_plan(t), B, T).flops;
    printf("plan: %.1f GFLOP; states %.0f MiB, arena %.0f MiB, scratch %.1f MiB, total %.0f MiB\n", flops / 1e9,
           (double)(p.params + p.grads + p.optim) / mib, (double)p.accumulate.arena_bytes / mib, (double)p.accumulate.thread_bytes / mib,
           (double)p.total / mib);
    enum { MOST = 64 };
    const int n_time = argc > 8 ? atoi(argv[8]) : 4;
    double took[MOST], update[MOST];
    if (n_time < 1 || n_time > MOST) return 0;
    for (int s = 0; s <= n_time; s++) {                              /* the first step meets fresh memory: reported, not counted */
        double loss = 0, norm, t0 = lm_now();
        e = lm_trainer_accumulate(t, &b, s, 0, &loss);
        double t1 = lm_now();
        if (!e) e = lm_trainer_update(t, s + 1, 1.0, (double)b.n, &norm);
        double t2 = lm_now();
        if (e) { fprintf(stderr, "%s\n", lm_error(ctx)); return 1; }
        if (s) { took[s - 1] = t2 - t0; update[s - 1] = t2 - t1; }
        printf("step %d: %.0f ms (update %.0f), loss %.4f\n", s, (t2 - t0) * 1e3, (t2 - t1) * 1e3, loss / (double)b.n);
    }
    qsort(took, (size_t)n_time, sizeof *took, by_number); qsort(update, (size_t)n_time, sizeof *update, by_number);
    const double mid = took[n_time / 2];
    printf("median %.0f ms, best %.0f, worst %.0f, update %.0f; %.0f tok/s, %.1f GFLOP/s; peak RSS %.0f MiB\n", mid * 1e3, took[0] * 1e3,
           took[n_time - 1] * 1e3, update[n_time / 2] * 1e3, (double)b.n / mid, flops / mid / 1e9,
           (double)lm_rss_peak() / mib);
    int n = p.accumulate.n_steps;
    double *sec = calloc((size_t)n, sizeof *sec);
    row r[128] = {0}; int m = 0;
    if (lm_plan_profile(lm_trainer_accumulate_plan(t), sec, n)) return 1;
    double all = 0;
    for (int i = 0; i < n; i++) {
        const char *op, *k; double f, by; int q = 0;
        lm_plan_step(lm_trainer_accumulate_plan(t), i, &op, &k, &f, &by);
        while (q < m && strcmp(r[q].name, k)) q++;
        if (q == m && m < 128) r[m++].name = k;
        r[q].s += sec[i]; r[q].flops += lm_cost_flops(lm_plan_call(lm_trainer_accumulate_plan(t), i), f, B, T); r[q].n++; all += sec[i];
    }
    qsort(r, (size_t)m, sizeof *r, by_time);
    for (int i = 0; i < m; i++)
        printf("%-34s %4d × %8.2f ms  %5.1f%%  %8.1f GFLOP/s\n", r[i].name, r[i].n, r[i].s * 1e3, 100 * r[i].s / all,
               r[i].flops / r[i].s / 1e9);
    return 0;
}
