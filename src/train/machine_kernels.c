/* machine_kernels.c — how long each kernel's steps take here: small models of both families train, update and serve under the profiler.
 *
 * Models are chosen for their sizes, not for their sense: narrow ones that live in the caches, one whose states do not, one layer each,
 * since layers repeat. Every node is one observation of (key, work, seconds), the best of a few runs; observations of a key with nearly
 * equal work become one point. Serving is the graph that the engine plans (docs/rooms/infer.md), for one row and for many, with weights as
 * they are loaded: f32 and bf16 panels, quantized formats with panels. */
#include <stdlib.h>
#include <string.h>
#include "device/probe.h"
#include "op/gather/gather.h"
#include "op/matmul/matmul.h"
#include "train/cost.h"

enum { CONTEXT = 512, NOISE = 1 << 14, OBSERVED = 4096 };
static const double SAME = 1.3;                              /* works within this factor are one point */
typedef struct { lm_ctx *ctx; char *other; size_t others; lm_machine_point *seen; int n, round; double *best, *once; int cap; float noise[NOISE]; } watch;

static lm_cfg shape(const char *family, int64_t d, int64_t heads, int64_t ff, int64_t vocab, int64_t seq) {
    lm_cfg c = { .model = lm_model_by_name(family),
                 .vocab = vocab,
                 .d = d,
                 .n_layer = 1,
                 .n_head = heads,
                 .n_kv = heads,
                 .d_head = d / heads,
                 .d_ff = ff,
                 .max_pos = seq,
                 .eps = 1e-5,
                 .init_std = 0.02,
                 .tie = true,
                 .bos = -1,
                 .hf_type = family,
                 .act = strcmp(family, "gpt2") ? LM_ACT_SILU : LM_ACT_GELU_TANH };
    c.rope.d_head = (int)c.d_head; c.rope.base = 10000; c.rope.max_pos = seq;
    return c;
}
/* Runs once to touch the memory, then under the profiler. seqs, seq as lm_cost_of. */
static lm_err observe(watch *w, lm_plan *p, int runs, int64_t seqs, int64_t seq) {
    lm_plan_stats st;
    lm_plan_stats_of(p, &st);
    if (st.n_steps > w->cap) return lm_fail(w->ctx, LM_E_INTERNAL, "a model to measure with has %d steps", st.n_steps);
    LM_TRY(lm_plan_run(p));
    for (int i = 0; i < st.n_steps; i++) w->best[i] = 1e30;
    for (int r = 0; r < runs; r++) {
        LM_TRY(lm_plan_profile(p, w->once, st.n_steps));
        for (int i = 0; i < st.n_steps; i++) if (w->once[i] < w->best[i]) w->best[i] = w->once[i];
    }
    for (int i = 0; i < st.n_steps && w->n < OBSERVED; i++) {
        const char *op, *kernel; double flops, bytes;
        lm_plan_step(p, i, &op, &kernel, &flops, &bytes);
        lm_machine_point *x = &w->seen[w->n];
        x->work = lm_cost_work(lm_plan_call(p, i), kernel, &flops, bytes, seqs, seq, x->key);
        if (!w->round || w->best[i] < x->seconds) x->seconds = w->best[i];          /* rounds see the same nodes in the same order */
        w->n += x->work > 0;
    }
    return LM_OK;
}
/* Attention of one row once more, its pages pushed out of the caches as a model's weights do. */
static lm_err observe_cold(watch *w, lm_plan *p, int runs) {
    lm_plan_stats st;
    lm_plan_stats_of(p, &st);
    for (int i = 0; i < st.n_steps; i++) w->best[i] = 0;
    for (int r = 0; r < runs; r++) {
        lm_probe_walk(w->ctx, w->other, w->others);
        LM_TRY(lm_plan_profile(p, w->once, st.n_steps));
        for (int i = 0; i < st.n_steps; i++) w->best[i] += w->once[i] / runs;
    }
    for (int i = 0; i < st.n_steps && w->n < OBSERVED; i++) {
        const char *op, *kernel; double flops, bytes;
        lm_plan_step(p, i, &op, &kernel, &flops, &bytes);
        lm_machine_point *x = &w->seen[w->n];
        char key[LM_MACHINE_KEY];
        if (!lm_cost_attends(lm_plan_call(p, i))) continue;
        const double work = lm_cost_work(lm_plan_call(p, i), kernel, &flops, bytes, 0, 0, key);
        if (work <= 0 || snprintf(x->key, sizeof x->key, "%s%s", key, LM_COST_COLD) >= (int)sizeof x->key) continue;
        x->work = work;
        if (!w->round || w->best[i] < x->seconds) x->seconds = w->best[i];
        w->n++;
    }
    return LM_OK;
}
typedef struct { watch *w; lm_store *store; lm_dtype dtype; const lm_quant *quant; bool serve; } maker;
static lm_err make(void *ud, const char *name, const lm_type *t, lm_role role) {
    const maker *k = ud;
    lm_type y = *t; lm_layout layout = LM_PLAIN; lm_tensor x; size_t bytes, unit = NOISE * sizeof(float);
    const bool matrix = t->rank == 2 && (role == LM_ROLE_COL || role == LM_ROLE_ROW || role == LM_ROLE_EMBED);
    if (k->serve && matrix && k->quant) { y.dtype = LM_QUANT; y.quant = k->quant; layout = role != LM_ROLE_EMBED && k->quant->panels ? LM_PANEL16 : LM_PLAIN; }
    else if (k->serve && matrix) { y.dtype = k->dtype; layout = role == LM_ROLE_EMBED ? LM_PLAIN : k->dtype == LM_BF16 ? LM_PANEL16X2 : LM_PANEL16; }
    LM_TRY(lm_store_add(k->store, name, &y, layout, LM_MEM_WEIGHTS, &x));
    if (!lm_storage_bytes(y.dtype, y.quant, layout, y.rank, y.dim, &bytes)) return LM_E_RANGE;
    char *piece = lm_alloc(k->w->ctx, LM_MEM_SCRATCH, unit);
    if (!piece) return LM_E_NOMEM;
    if (y.dtype == LM_QUANT) unit = lm_quant_piece(&x, k->w->noise, NOISE / (16 * y.quant->block) * 16 * y.quant->block, piece);
    else { lm_convert(piece, y.dtype, k->w->noise, LM_F32, NOISE); unit = NOISE * lm_dtype_size(y.dtype); }
    for (size_t at = 0; at < bytes; at += unit) memcpy((char *)x.data + at, piece, bytes - at < unit ? bytes - at : unit);
    lm_free(k->w->ctx, piece);
    return LM_OK;
}
static lm_err training(watch *w, const lm_cfg *c, int64_t batch, int64_t seq, lm_dtype mm, const char *optim, int runs) {
    lm_store *store = NULL; lm_trainer *t = NULL; lm_batch b = {0};
    lm_err err;
    LM_GOTO(lm_store_new(&store, w->ctx), done);
    LM_GOTO(lm_model_params(w->ctx, c, make, &(maker){ w, store, LM_F32, NULL, false }), done);
    const lm_trainer_opts o = { .batch = batch,
                                .seq = seq,
                                .mm = mm,
                                .recompute = 1,
                                .optim = { .name = optim,
                                           .lr = 1e-4,
                                           .beta1 = 0.9,
                                           .beta2 = 0.95,
                                           .eps = 1e-8,
                                           .clip = 1.0,
                                           .muon_lr = 1e-4,
                                           .muon_momentum = 0.95,
                                           .muon_steps = 2 } };
    LM_GOTO(lm_trainer_new(&t, w->ctx, c, store, &o), done);
    LM_GOTO(lm_batch_alloc(w->ctx, &b, batch, seq), done);
    b.n = b.n_target = batch * seq;
    for (int64_t i = 0; i < b.n; i++) {
        b.tokens[i] = (int32_t)(i * 7919 % c->vocab); b.target[i] = (int32_t)(i * 104729 % c->vocab);
        b.pos[i] = (int32_t)(i % seq); b.start[i] = (int32_t)(i / seq * seq);
    }
    double loss = 0;
    LM_GOTO(lm_trainer_accumulate(t, &b, 0, 0, &loss), done);
    /* before the update, which shares its arena: the inputs are still there */
    LM_GOTO(observe(w, lm_trainer_accumulate_plan(t), runs, batch, seq), done);
    LM_GOTO(lm_trainer_update(t, 1, 1.0, (double)b.n, NULL), done);
    err = observe(w, lm_trainer_update_plan(t), runs, 0, 0);
done:
    lm_batch_free(w->ctx, &b); lm_trainer_free(t); lm_store_free(store);
    return err;
}
static lm_err serving_plan(watch *w, const lm_cfg *c, lm_store *store, lm_store *kv, int64_t rows, lm_dtype mm, lm_plan **out) {
    lm_graph *g;
    LM_TRY(lm_graph_new(&g, w->ctx, store));
    lm_type n = LM_TYPE(LM_I32, rows), one = LM_TYPE(LM_I32, 1), tab = LM_TYPE(LM_I32, 1, CONTEXT / LM_KV_PAGE);
    lm_model_in in = { .tokens = lm_input(g, "tokens", &n), .pos = lm_input(g, "pos", &n), .start = lm_input(g, "start", &n) };
    lm_model_out o;
    lm_err err = c->model->build(g, c, &in, &o);
    if (!err) {
        lm_graph_output(g, "logits", lm_model_logits(g, c, lm_gather(g, o.hidden, lm_input(g, "rows", &one)), o.head));
        lm_paged pg = { .kv_dtype = LM_F32,
                        .n_pages = CONTEXT / LM_KV_PAGE,
                        .table = lm_input(g, "table", &tab),
                        .seq = lm_input(g, "seq", &n),
                        .pos = in.pos,
                        .slot = lm_input(g, "slot", &n) };
        err = lm_pass_session(g, &pg, NULL);
    }
    if (!err) err = lm_pass_precision(g, mm);
    if (!err) err = lm_pass_fuse(g, NULL);
    if (!err) err = lm_pass_unite(g, NULL, 0, false, NULL);
    if (!err) err = lm_plan_new(out, w->ctx, g, &(lm_plan_opts){ .store = store, .local = kv, .create_states = true, .state_tag = LM_MEM_KV });
    lm_graph_free(g);
    return err;
}
static lm_err serving(watch *w, const lm_cfg *c, int64_t rows, lm_dtype dtype, const char *quant, int runs) {
    lm_store *store = NULL, *kv = NULL; lm_plan *p = NULL;
    lm_err err;
    const lm_quant *q = quant ? lm_quant_by_name(quant) : NULL;
    LM_GOTO(lm_store_new(&store, w->ctx), done);
    LM_GOTO(lm_store_new(&kv, w->ctx), done);
    LM_GOTO(lm_model_params(w->ctx, c, make, &(maker){ w, store, dtype, q, true }), done);
    for (int pass = 0; pass < 2; pass++) {                        /* one row, then many */
        const int64_t n = pass ? rows : 1;
        LM_GOTO(serving_plan(w, c, store, kv, n, q && q->panels ? LM_I8 : dtype, &p), done);
        int32_t *tok = lm_plan_input(p, "tokens", NULL), *pos = lm_plan_input(p, "pos", NULL), *seq = lm_plan_input(p, "seq", NULL),
                *slot = lm_plan_input(p, "slot", NULL), *table = lm_plan_input(p, "table", NULL), *row = lm_plan_input(p, "rows", NULL);
        /* every row sees the whole context, as a plan assumes */
        for (int64_t i = 0; i < n; i++) { tok[i] = (int32_t)(i * 7919 % c->vocab); pos[i] = CONTEXT - 1; seq[i] = 0; slot[i] = (int32_t)i; }
        for (int i = 0; i < CONTEXT / LM_KV_PAGE; i++) table[i] = i;
        row[0] = 0;
        LM_GOTO(observe(w, p, pass ? runs : 4 * runs, 0, 0), done);
        if (!pass && w->other) LM_GOTO(observe_cold(w, p, 2 * runs), done);
        lm_plan_free(p); p = NULL;
    }
done:
    lm_plan_free(p); lm_store_free(kv); lm_store_free(store);
    return err;
}
static int by_key(const void *a, const void *b) {
    const lm_machine_point *x = a, *y = b;
    const int k = strcmp(x->key, y->key);
    return k ? k : (x->work > y->work) - (x->work < y->work);
}
/* Observations → points: runs of nearly equal work become their mean. */
static void settle(watch *w, lm_machine *m) {
    qsort(w->seen, (size_t)w->n, sizeof *w->seen, by_key);
    m->n_point = 0;
    for (int i = 0, k; i < w->n && m->n_point < LM_MACHINE_POINTS; i = k) {
        lm_machine_point p = w->seen[i];
        p.work = p.seconds = 0;
        for (k = i; k < w->n && !strcmp(w->seen[k].key, w->seen[i].key) && w->seen[k].work <= SAME * w->seen[i].work; k++) {
            p.work += w->seen[k].work;
            p.seconds += w->seen[k].seconds;
        }
        p.work /= k - i; p.seconds /= k - i;
        m->point[m->n_point++] = p;
    }
}
/* A model to watch, the small ones first. optim: it trains on batch x seq; NULL: it serves one row, then seq rows. */
typedef struct { const lm_cfg *c; int64_t batch, seq; int runs; const char *optim; lm_dtype dtype; const char *quant; } probe;
lm_err lm_machine_kernels(lm_ctx *ctx, lm_machine *m) {
    enum { STEPS = 1024, ROUNDS = 2, LONGEST = 6 /* seconds; a quiet desktop takes 3 */, ALWAYS = 4 /* both families, however long it takes */ };
    const bool roomy = lm_memory_available() > (size_t)2 << 30;
    watch *w = lm_calloc(ctx, LM_MEM_SCRATCH, 1, sizeof *w);
    if (!w) return LM_E_NOMEM;
    w->ctx = ctx; w->cap = STEPS;
    w->seen = lm_calloc(ctx, LM_MEM_SCRATCH, OBSERVED, sizeof *w->seen);
    w->best = lm_calloc(ctx, LM_MEM_SCRATCH, STEPS, sizeof(double)); w->once = lm_calloc(ctx, LM_MEM_SCRATCH, STEPS, sizeof(double));
    lm_err err = w->seen && w->best && w->once ? LM_OK : LM_E_NOMEM;
    w->others = (size_t)lm_min64(2 * (int64_t)m->last_cache, (int64_t)512 << 20);
    if (roomy && w->others && (w->other = lm_alloc(ctx, LM_MEM_SCRATCH, w->others))) memset(w->other, 1, w->others);
    for (int i = 0; i < NOISE; i++) w->noise[i] = 1e-3f * (float)(i * 37 % 101 - 50);
    const lm_cfg small = shape("llama", 128, 4, 384, 1024, CONTEXT), mid = shape("llama", 384, 6, 1024, 4096, CONTEXT),
                 wide = shape("llama", 1024, 16, 2816, 8192, CONTEXT);
    const lm_cfg gsmall = shape("gpt2", 128, 2, 512, 1024, CONTEXT), gmid = shape("gpt2", 384, 6, 1536, 4096, CONTEXT),
                 gwide = shape("gpt2", 768, 12, 3072, 8192, CONTEXT);
    lm_cfg serve_small = shape("llama", 128, 4, 384, 2048, CONTEXT), serve = roomy ? shape("llama", 1536, 24, 4096, 4096, CONTEXT) : mid;
    serve_small.n_kv = 2; serve.n_kv /= 3;                           /* as most models: several heads share keys and values */
    const probe all[] = {
        { &small, 4, 128, 2, "adamw", LM_F32, NULL }, { &small, 4, 128, 2, "muon", LM_BF16, NULL },
        { &gsmall, 2, 256, 1, "adamw", LM_F32, NULL }, { &gsmall, 2, 256, 1, "muon", LM_BF16, NULL },
        { &serve_small, 0, 128, 2, NULL, LM_F32, NULL }, { &serve_small, 0, 128, 2, NULL, LM_BF16, NULL },
        { &gmid, 2, 256, 1, "adamw", LM_BF16, NULL },
        { &mid, 2, 256, 1, "adamw", LM_F32, NULL }, { &mid, 2, 256, 1, "adamw", LM_BF16, NULL },
        { &serve, 0, 128, 1, NULL, LM_F32, NULL }, { &serve, 0, 128, 1, NULL, LM_BF16, NULL },
        { &wide, 1, 128, 1, "adamw", LM_F32, NULL }, { &gwide, 1, 128, 1, "adamw", LM_BF16, NULL },
    };
    const int n_all = LM_COUNT(all) - (roomy ? 0 : 2);
    int n_did = n_all, n_seen = 0;
    const double begun = lm_now();
    for (int k = 0; k < ROUNDS && !err; k++) {                      /* rounds are seconds apart: what disturbs one may spare the other */
        w->round = k; w->n = 0;
        for (int i = 0; i < n_did && !err; i++) {
            /* a slow machine, or a build with sanitizers: what was seen must do */
            if (lm_now() - begun > LONGEST && (k || i >= ALWAYS)) { if (!k) n_did = i; break; }
            const probe *q = &all[i];
            err = q->optim ? training(w, q->c, q->batch, q->seq, q->dtype, q->optim, q->runs) : serving(w, q->c, q->seq, q->dtype, q->quant, q->runs);
        }
        n_seen = w->n = k ? n_seen : w->n;
    }
    if (!err) settle(w, m);
    lm_free(ctx, w->other); lm_free(ctx, w->seen); lm_free(ctx, w->best); lm_free(ctx, w->once); lm_free(ctx, w);
    return err;
}
