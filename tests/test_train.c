/* test_train.c — the slice: a tiny Llama and a tiny GPT-2 through graph, autodiff, planner, executor, optimizer and paged decode; the bits
 * that must be equal are. */
#include "fake_dev.h"
#include "infer/infer.h"
#include "op/xent/xent.h"
#include "test.h"
#include "train/train.h"

enum { B = 3, T = 80, V = 97 };
static lm_cfg config(const char *family) {
    lm_cfg c = { .model = lm_model_by_name(family),
                 .vocab = V,
                 .d = 48,
                 .n_layer = 2,
                 .n_head = 4,
                 .n_kv = 2,
                 .d_head = 12,
                 .d_ff = 100,
                 .max_pos = 256,
                 .eps = 1e-5,
                 .init_std = 0.2,
                 .tie = true,
                 .bos = -1,
                 .act = LM_ACT_GELU_TANH,
                 .hf_type = family };
    if (!strcmp(family, "gpt2")) c.n_kv = 4;
    c.rope.d_head = 12; c.rope.base = 10000; c.rope.max_pos = 256;
    return c;
}
static lm_trainer_opts options(void) {
    return (lm_trainer_opts){ .batch = B,
                              .seq = T,
                              .mm = LM_F32,
                              .optim = { .name = "adamw",
                                         .lr = 3e-3,
                                         .beta1 = 0.9,
                                         .beta2 = 0.95,
                                         .eps = 1e-8,
                                         .weight_decay = 0.1,
                                         .clip = 1.0,
                                         .muon_lr = 0.02,
                                         .muon_momentum = 0.95,
                                         .muon_steps = 5 },
                              .seed = 7 };
}
/* Sequence s of a periodic language with some noise; documents of odd lengths inside. */
static void fill(lm_batch *b, int64_t first) {
    lm_rng r = lm_rng_of(11, "slice data");
    b->n_target = 0;
    for (int64_t s = 0; s < b->n_seq; s++)
        for (int64_t t = 0; t < b->seq; t++) {
            int64_t i = s * b->seq + t, doc = t < 29 ? 0 : 29;
            uint64_t at = (uint64_t)((first + s) * b->seq + t);
            b->tokens[i] = (int32_t)((t * t / 3 + first + s + (int64_t)lm_rng_below(r, at, 3)) % V);
            b->start[i] = (int32_t)(s * b->seq + doc); b->pos[i] = (int32_t)(t - doc);
            b->target[i] = (int32_t)(((t + 1) * (t + 1) / 3 + first + s) % V);
            if (t == 28 || (t + first + s) % 17 == 0) b->target[i] = -1;
            b->n_target += b->target[i] >= 0;
        }
}
typedef struct { lm_ctx *ctx; lm_store *store; lm_trainer *t; lm_batch b; size_t base; } rig;
static lm_err rig_new(rig *r, const lm_cfg *c, const lm_trainer_opts *o, int threads) {
    *r = (rig){0};
    LM_TRY(lm_ctx_new(&r->ctx, &(lm_ctx_opts){ .n_threads = threads }));
    lm_ledger l; lm_mem_ledger(r->ctx, &l);
    r->base = l.total_now;
    LM_TRY(lm_store_new(&r->store, r->ctx));
    LM_TRY(lm_model_init(r->ctx, c, r->store, 5));
    LM_TRY(lm_trainer_new(&r->t, r->ctx, c, r->store, o));
    return lm_batch_alloc(r->ctx, &r->b, o->batch, o->seq);
}
static void rig_free(rig *r) {
    lm_batch_free(r->ctx, &r->b); lm_trainer_free(r->t); lm_store_free(r->store);
    lm_ledger l; lm_mem_ledger(r->ctx, &l);
    LM_CHECK(l.total_now == r->base);
    lm_ctx_free(r->ctx);
}
static lm_err steps(rig *r, int from, int n, double *last) {
    for (int s = from; s < from + n; s++) {
        double loss = 0, norm;
        fill(&r->b, s % 4 * B);
        LM_TRY(lm_trainer_accumulate(r->t, &r->b, s, 0, &loss));
        LM_TRY(lm_trainer_update(r->t, s + 1, 1.0, (double)r->b.n_target, &norm));
        *last = loss / (double)r->b.n_target;
    }
    return LM_OK;
}

static void learns(const char *family, const char *optim) {
    lm_cfg c = config(family);
    lm_trainer_opts o = options();
    o.optim.name = optim;
    rig r;
    double first, last;
    LM_NEED_OK(r.ctx, rig_new(&r, &c, &o, 2));
    LM_NEED_OK(r.ctx, steps(&r, 0, 1, &first));
    LM_NEED_OK(r.ctx, steps(&r, 1, LM_T_WATCHED ? 6 : 60, &last));
    if (!(last < (LM_T_WATCHED ? 1 : 0.5) * first)) { lm_t_fail++; printf("%s %s: loss %g -> %g\n", family, optim, first, last); }
    rig_free(&r);
}
static void test_learns(void) {
    learns("llama", "adamw"); learns("gpt2", "adamw"); learns("llama", "muon"); learns("gpt2", "muon");
}
static lm_hash128_t hash_after(const char *family, lm_trainer_opts o, int threads, int n) {
    lm_cfg c = config(family);
    rig r;
    double last;
    lm_hash128_t h = {0};
    lm_err e = rig_new(&r, &c, &o, threads);
    if (!e) e = steps(&r, 0, n, &last);
    LM_CHECK_OK(r.ctx, e);
    if (!e) { h = lm_trainer_hash(r.t); rig_free(&r); }
    return h;
}
static void test_threads_and_recompute_keep_bits(void) {
    const char *const family[] = { "llama", "gpt2" };
    for (int f = 0; f < 2; f++)
        for (int mm = 0; mm < 2; mm++) {
            lm_trainer_opts o = options();
            o.mm = mm ? LM_BF16 : LM_F32; o.dropout = 0.1; o.z_loss = 1e-3;
            if (LM_T_WATCHED && f != mm) continue;
            const int n = LM_T_WATCHED ? 2 : 5;
            lm_hash128_t want = hash_after(family[f], o, 1, n);
            LM_CHECK(lm_hash_same(want, hash_after(family[f], o, 2, n)));
            LM_CHECK(lm_hash_same(want, hash_after(family[f], o, 7, n)));
            for (int level = 1; level <= 3; level++) { o.recompute = level; LM_CHECK(lm_hash_same(want, hash_after(family[f], o, 2, n))); }
        }
}
/* A plan run in random orders that respect only its explicit dependencies gives the same gradients. */
__attribute__((unused)) static void test_fake_device(void) {
    lm_cfg c = config("llama");
    lm_trainer_opts o = options();
    rig r;
    LM_NEED_OK(r.ctx, rig_new(&r, &c, &o, 1));
    fill(&r.b, 0);
    double loss = 0;
    LM_NEED_OK(r.ctx, lm_trainer_accumulate(r.t, &r.b, 0, 0, &loss));
    int n = lm_store_count(r.store);
    lm_hash128_t want[256] = {0};
    LM_CHECK(n < 256);
    for (int i = 0; i < n; i++) {
        lm_tensor t;
        const char *name = lm_store_name(r.store, i, &t);
        if (!strncmp(name, "grad.", 5)) {
            want[i] = lm_hash128(t.data, (size_t)lm_numel(&t) * 4);
            memset(t.data, 0, (size_t)lm_numel(&t) * 4);
        }
    }
    for (uint64_t seed = 1; seed <= (LM_T_WATCHED ? 5 : 20); seed++) {
        LM_NEED_OK(r.ctx, lm_plan_run_shuffled(lm_trainer_accumulate_plan(r.t), seed, 3));
        for (int i = 0; i < n; i++) {
            lm_tensor t; const char *name = lm_store_name(r.store, i, &t);
            if (strncmp(name, "grad.", 5)) continue;
            lm_hash128_t got = lm_hash128(t.data, (size_t)lm_numel(&t) * 4);
            if (!lm_hash_same(got, want[i])) { lm_t_fail++; printf("seed %d: %s differs\n", (int)seed, name); }
            memset(t.data, 0, (size_t)lm_numel(&t) * 4);
        }
    }
    rig_free(&r);
}
/* One batch of eight, or eight accumulated batches of one: the same step to 1e-6. */
static void test_accumulation(void) {
    lm_cfg c = config("llama");
    enum { AT_ONCE = 8 };
    lm_trainer_opts o = options(), o1 = o;
    o.batch = AT_ONCE; o1.batch = 1;
    rig a, b;
    LM_NEED_OK(a.ctx, rig_new(&a, &c, &o, 2));
    LM_NEED_OK(b.ctx, rig_new(&b, &c, &o1, 2));
    double la = 0, lb = 0, na = 0, nb = 0;
    fill(&a.b, 0);
    LM_NEED_OK(a.ctx, lm_trainer_accumulate(a.t, &a.b, 0, 0, &la));
    for (int i = 0; i < AT_ONCE; i++) { fill(&b.b, i); LM_NEED_OK(b.ctx, lm_trainer_accumulate(b.t, &b.b, 0, i, &lb)); nb += (double)b.b.n_target; }
    na = (double)a.b.n_target;
    LM_CHECK(na == nb);
    LM_CHECK_NEAR(la, lb, 1e-6 * fabs(la));
    for (int i = 0; i < lm_store_count(a.store); i++) {
        lm_tensor x, y; const char *name = lm_store_name(a.store, i, &x);
        if (strncmp(name, "grad.", 5)) continue;
        LM_CHECK(lm_store_get(b.store, name, &y));
        double d = 0, s = 0;
        for (int64_t k = 0; k < lm_numel(&x); k++) { double p = ((float *)x.data)[k], q = ((float *)y.data)[k]; d += (p - q) * (p - q); s += p * p; }
        if (!(sqrt(d) <= 1e-6 * sqrt(s) + 1e-12)) { lm_t_fail++; printf("%s: %g of %g\n", name, sqrt(d), sqrt(s)); }
    }
    rig_free(&a); rig_free(&b);
}
/* The trainer's per-token losses are the engine's log-probabilities, for any chunking and beside any other session. */
static lm_err ignore(void *ud, int r, int64_t i, const float *l) { (void)ud; (void)r; (void)i; (void)l; return LM_OK; }
static void bits(const char *family, lm_dtype mm) {
    lm_cfg c = config(family);
    lm_trainer_opts o = options();
    o.batch = 1; o.mm = mm;
    rig r;
    double last;
    LM_NEED_OK(r.ctx, rig_new(&r, &c, &o, 2));
    LM_NEED_OK(r.ctx, steps(&r, 0, 3, &last));
    for (int64_t t = 0; t < T; t++) {
        r.b.tokens[t] = (int32_t)(t * 7 % V);
        r.b.start[t] = 0;
        r.b.pos[t] = (int32_t)t;
        r.b.target[t] = (int32_t)((t + 1) * 7 % V);
    }
    LM_NEED_OK(r.ctx, lm_trainer_eval(r.t, &r.b, &last));
    float want[T], got[T];
    lm_tensor t;
    memcpy(want, lm_plan_output(lm_trainer_eval_plan(r.t), "loss", &t), sizeof want);
    const int64_t chunks[] = { 1, 7, 64, 256 };
    for (int k = LM_T_WATCHED ? 1 : 0; k < LM_COUNT(chunks); k += LM_T_WATCHED ? 2 : 1)
        for (int crowd = 1; crowd <= 16; crowd += 15) {
            lm_engine *e; lm_session *s[16];
            LM_NEED_OK(r.ctx, lm_engine_new(&e, r.ctx, &c, r.store,
                                            &(lm_engine_opts){ .chunk = chunks[k], .max_seqs = crowd, .mm = mm, .kv = LM_F32 }));
            for (int i = 0; i < crowd; i++) LM_NEED_OK(r.ctx, lm_session_new(&s[i], e));
            for (int i = 1; i < crowd; i++) {
                lm_request q = { s[i], r.b.tokens + i, 20 + i, LM_WANT_LAST };
                LM_NEED_OK(r.ctx, lm_engine_run(e, &q, 1, ignore, NULL));
            }
            LM_NEED_OK(r.ctx, lm_engine_score(e, s[0], r.b.tokens, T, got));
            int bad = 0;
            for (int i = 0; i + 1 < T; i++) bad += got[i + 1] != -want[i];
            if (bad) {
                lm_t_fail++;
                printf("%s mm %s chunk %d crowd %d: %d of %d log-probabilities differ (first pair %.9g %.9g)\n", family, lm_dtype_name(mm),
                       (int)chunks[k], crowd, bad, T - 1, (double)got[1], (double)-want[0]);
            }
            for (int i = 0; i < crowd; i++) lm_session_free(s[i]);
            lm_engine_free(e);
        }
    rig_free(&r);
}
static void test_trainer_equals_engine(void) { bits("llama", LM_F32); bits("llama", LM_BF16); bits("gpt2", LM_F32); bits("gpt2", LM_BF16); }
/* ---- a device's plans: rounded copies kept by the update, products of one input as one, gradients begun by writing ----------------------------- */
static void other_weights(rig *r, lm_dev *dev) {
    lm_tensor w;
    if (dev) LM_CHECK_OK(r->ctx, lm_store_pull(r->store));
    for (int i = 0; i < lm_trainer_n_params(r->t); i += 3) {
        LM_CHECK(lm_store_get(r->store, lm_trainer_param(r->t, i)->name, &w));
        for (int64_t k = 0; k < lm_numel(&w); k += 5) ((float *)w.data)[k] *= 1.25f;
    }
    if (dev) LM_CHECK_OK(r->ctx, lm_store_push(r->store));
}
static lm_err two_micro(rig *r, int s, double *loss, double *norm) {
    double n = 0;
    *loss = 0;
    for (int m = 0; m < 2; m++) {
        fill(&r->b, (2 * s + m) % 5 * B);
        LM_TRY(lm_trainer_accumulate(r->t, &r->b, s, m, loss));
        n += (double)r->b.n_target;
    }
    *loss /= n;
    return lm_trainer_update(r->t, s + 1, 1.0, n, norm);
}
/* How far the device's parameters are from the processor's; each copy must be its parameter, rounded. */
static double apart(rig *dev, rig *cpu, int *n_copy) {
    double num = 0, den = 0;
    LM_CHECK_OK(dev->ctx, lm_store_pull(dev->store));
    for (int i = 0; i < lm_trainer_n_params(dev->t); i++) {
        const char *name = lm_trainer_param(dev->t, i)->name;
        char copy[300];
        lm_tensor x, y, h;
        LM_CHECK(lm_store_get(dev->store, name, &x) && lm_store_get(cpu->store, name, &y));
        for (int64_t k = 0; k < lm_numel(&x); k++) {
            const double a = (double)((float *)x.data)[k], b = (double)((float *)y.data)[k];
            num += (a - b) * (a - b); den += b * b;
        }
        snprintf(copy, sizeof copy, "bf16.%s", name);
        if (!lm_store_get(dev->store, copy, &h)) continue;
        int64_t bad = 0;
        for (int64_t k = 0; k < lm_numel(&x); k++) bad += ((uint16_t *)h.data)[k] != lm_f32_to_bf16(((float *)x.data)[k]);
        LM_CHECK(!bad);
        ++*n_copy;
    }
    return sqrt(num / den);
}
static void copies(const char *family, const char *optim, int recompute, int want, const char *whole) {
    lm_cfg c = config(family);
    c.d_ff = 104;
    lm_trainer_opts o = options();
    o.mm = LM_BF16; o.accum = 2; o.optim.name = optim; o.recompute = recompute;
    rig cpu, dev = { 0 };
    int n = 0;
    LM_NEED_OK(cpu.ctx, rig_new(&cpu, &c, &o, 1));
    lm_dev *d;
    LM_NEED_OK(NULL, lm_ctx_new(&dev.ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    o.dev = d = fake_open(dev.ctx, 3);
    LM_NEED_OK(dev.ctx, lm_store_new(&dev.store, dev.ctx));
    LM_NEED_OK(dev.ctx, lm_model_init(dev.ctx, &c, dev.store, 5));
    LM_NEED_OK(dev.ctx, lm_trainer_new(&dev.t, dev.ctx, &c, dev.store, &o));
    LM_NEED_OK(dev.ctx, lm_batch_alloc(dev.ctx, &dev.b, o.batch, o.seq));
    LM_CHECK(!whole || lm_store_get(dev.store, whole, NULL));
    for (int s = 0; s < 6; s++) {
        double a, b, na, nb;
        LM_NEED_OK(cpu.ctx, two_micro(&cpu, s, &a, &na));
        LM_NEED_OK(dev.ctx, two_micro(&dev, s, &b, &nb));
        if (!(fabs(a - b) <= 2e-3 * a && fabs(na - nb) <= 2e-2 * na)) {
            lm_t_fail++;
            printf("%s %s: step %d: loss %.8g on the device, %.8g; norm %.6g, %.6g\n", family, optim, s, b, a, nb, na);
        }
        if (s == 3) { other_weights(&cpu, NULL); other_weights(&dev, d); }
    }
    const double e = apart(&dev, &cpu, &n);
    if (!(e <= 2e-3) || n != want) {
        lm_t_fail++;
        printf("%s %s: weights %.3g apart, %d copies, wanted %d\n", family, optim, e, n, want);
    }
    lm_batch_free(dev.ctx, &dev.b); lm_trainer_free(dev.t); lm_store_free(dev.store);
    lm_dev_close(d);
    lm_ctx_free(dev.ctx);
    rig_free(&cpu);
}
/* A checkpoint holds neither copies nor gradients; who resumes from it rounds anew. */
static void resumed(const char *dir) {
    lm_cfg c = config("llama");
    lm_trainer_opts o = options();
    o.mm = LM_BF16; o.accum = 2; o.recompute = 1;
    lm_hash128_t end[2] = { 0 };
    for (int k = 0; k < 2; k++) {                                          /* steps 0-3, saved at 2; then from 2 on in a new process's place */
        rig r = { 0 };
        lm_ckpt_state st = { .step = 2, .seqs = 1, .isa = "" }, got = { 0 };
        double loss, norm;
        char *path = NULL;
        LM_NEED_OK(NULL, lm_ctx_new(&r.ctx, &(lm_ctx_opts){ .n_threads = 1 }));
        lm_dev *d = o.dev = fake_open(r.ctx, 5 + (uint64_t)k);
        LM_NEED_OK(r.ctx, lm_store_new(&r.store, r.ctx));
        LM_NEED_OK(r.ctx, lm_model_init(r.ctx, &c, r.store, 5 + (uint64_t)k));
        LM_NEED_OK(r.ctx, lm_trainer_new(&r.t, r.ctx, &c, r.store, &o));
        LM_NEED_OK(r.ctx, lm_batch_alloc(r.ctx, &r.b, o.batch, o.seq));
        if (k) {
            LM_CHECK_OK(r.ctx, two_micro(&r, 0, &loss, &norm));            /* and it had been at work with other weights */
            LM_NEED_OK(r.ctx, lm_ckpt_find(r.ctx, NULL, dir, &path));
            LM_NEED_OK(r.ctx, lm_ckpt_load(r.t, path, &got));
            lm_free(r.ctx, path);
        }
        for (int s = k ? 2 : 0; s < 4; s++) {
            if (!k && s == 2) LM_NEED_OK(r.ctx, lm_ckpt_save(r.t, dir, &st, 1));
            LM_CHECK_OK(r.ctx, two_micro(&r, s, &loss, &norm));
        }
        end[k] = lm_trainer_hash(r.t);
        lm_batch_free(r.ctx, &r.b); lm_trainer_free(r.t); lm_store_free(r.store);
        lm_dev_close(d);
        lm_ctx_free(r.ctx);
    }
    LM_CHECK(lm_hash_same(end[0], end[1]));
}
/* Levels rise until a device holds a step; one that holds none says so. */
__attribute__((unused)) static void test_a_device_of_little_memory(void) {
    lm_cfg c = config("llama");
    lm_trainer_opts o = options();
    lm_ctx *ctx;
    lm_trainer_plan p = { 0 }, q = { 0 };
    size_t memory = 0;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    c.n_layer = 8; o.recompute = -1; o.dry = true;
    for (int k = 0; k < 3; k++) {
        lm_dev *d = o.dev = fake_open(ctx, 1);
        lm_store *s; lm_trainer *t;
        if (k) d->memory = memory;
        LM_NEED_OK(ctx, lm_store_new(&s, ctx));
        if (k == 2) LM_CHECK_ERR(ctx, lm_trainer_new(&t, ctx, &c, s, &o), LM_E_NOMEM, "does not fit the device");
        else {
            LM_NEED_OK(ctx, lm_trainer_new(&t, ctx, &c, s, &o));
            lm_trainer_plan_of(t, k ? &q : &p);
            lm_trainer_free(t);
        }
        memory = k ? p.params : p.total;                              /* a little too little; then next to nothing */
        lm_store_free(s); lm_dev_close(d);
    }
    LM_CHECK(p.recompute == 1 && q.recompute > 1 && q.total <= p.total - p.total / 32);
    lm_ctx_free(ctx);
}
/* A card that is lost while steps run: the error says how to find the row, and a run of steps one by one names it. Nothing hangs, nothing leaks. */
static int left;
static lm_err (*waits)(lm_dev *);
static lm_err dies(lm_dev *d) { return left-- > 0 ? waits(d) : lm_fail(d->ctx, LM_E_DEVICE, "card: waiting: an illegal address"); }
__attribute__((unused)) static void test_a_device_that_fails(void) {
    lm_cfg c = config("llama");
    lm_trainer_opts o = options();
    for (int stepwise = 0; stepwise < 2; stepwise++) {
        rig r = { 0 };
        double loss;
        LM_NEED_OK(NULL, lm_ctx_new(&r.ctx, &(lm_ctx_opts){ .n_threads = 1 }));
        lm_dev *d = o.dev = fake_open(r.ctx, 3);
        d->stepwise = stepwise;
        LM_NEED_OK(r.ctx, lm_store_new(&r.store, r.ctx));
        LM_NEED_OK(r.ctx, lm_model_init(r.ctx, &c, r.store, 5));
        LM_NEED_OK(r.ctx, lm_trainer_new(&r.t, r.ctx, &c, r.store, &o));
        LM_NEED_OK(r.ctx, lm_batch_alloc(r.ctx, &r.b, o.batch, o.seq));
        fill(&r.b, 0);
        const uint64_t before = d->recordings;
        for (int k = 0; k < 3; k++) LM_CHECK_OK(r.ctx, lm_trainer_accumulate(r.t, &r.b, 0, 0, &loss));
        LM_CHECK((d->recordings > before) == !stepwise);
        waits = d->sync; d->sync = dies; left = stepwise ? 3 : 0;         /* stepwise: the fourth step */
        LM_CHECK_ERR(r.ctx, lm_trainer_accumulate(r.t, &r.b, 0, 0, &loss), LM_E_DEVICE, stepwise ? "): card: waiting: an illegal address" : ",stepwise");
        d->sync = waits;
        lm_batch_free(r.ctx, &r.b); lm_trainer_free(r.t); lm_store_free(r.store);
        lm_dev_close(d);
        lm_ctx_free(r.ctx);
    }
}
__attribute__((unused)) static void test_copies_on_a_device(void) {
    char dir[] = "/tmp/loam-copies-XXXXXX", cmd[80];
    LM_CHECK(mkdtemp(dir) != NULL);
    resumed(dir);
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    LM_CHECK(!system(cmd));
    copies("llama", "adamw", 0, 14, "bf16.model.layers.0.self_attn.q_proj.weight+2");
    copies("llama", "adamw", 1, 14, "grad.model.layers.1.mlp.gate_proj.weight+1");
    copies("llama", "muon", 3, 14, "grad.model.layers.1.mlp.gate_proj.weight+1");
    copies("gpt2", "adamw", 1, 8, NULL);
}
#ifdef __SANITIZE_THREAD__                                               /* the fake device has one thread: nothing to be found there in minutes */
#define FAKE
#else
#define FAKE LM_T1(test_fake_device), LM_T1(test_copies_on_a_device), LM_T1(test_a_device_of_little_memory), LM_T1(test_a_device_that_fails),
#endif
LM_TEST_MAIN(LM_T1(test_learns), LM_T1(test_threads_and_recompute_keep_bits), FAKE LM_T1(test_accumulation), LM_T1(test_trainer_equals_engine))
