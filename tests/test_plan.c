/* test_plan.c — the planner's promises: nothing that lives overlaps, waits are the definition, predicted bytes are the ledger's, order and
 * dead code are as said. */
#include "device/cpu.h"
#include "graph/graph_int.h"
#include "graph/plan_int.h"
#include "infer/infer.h"
#include "op/add/add.h"
#include "op/attn/attn.h"
#include "op/attn_grad/attn_grad.h"
#include "op/attn_paged/attn_paged.h"
#include "op/copy/copy.h"
#include "op/matmul/matmul.h"
#include "op/mul/mul.h"
#include "op/rmsnorm/rmsnorm.h"
#include "op/scale/scale.h"
#include "op/silu/silu.h"
#include "op/split/split.h"
#include "test.h"
#include "train/cost.h"
#include "train/train.h"

/* ---- placement: random buffers, every pair looked at ---- */
static void test_placement(void) {
    enum { N = 300, STEPS = 90 };
    const lm_rng r = lm_rng_of(3, "placement");
    double worst = 1;
    for (int round = 0; round < 60; round++) {
        lm_buf b[N], *scratch[2 * N]; size_t at[STEPS + 2], sum = 0;
        const int n = 1 + (int)lm_rng_below(r, (uint64_t)round * 4096, N);
        for (int i = 0; i < n; i++) {
            const uint64_t k = (uint64_t)round * 4096 + 8 + (uint64_t)i * 4;
            const int first = (int)lm_rng_below(r, k, STEPS), len = (int)lm_rng_below(r, k + 1, round % 2 ? 6 : STEPS);
            b[i] = (lm_buf){ .bytes = 64 * lm_rng_below(r, k + 2, round % 3 ? 40 : 4000),
                             .first = first,
                             .last = first + len < STEPS ? first + len : STEPS - 1,
                             .offset = (size_t)-1 };
            sum += b[i].bytes;
        }
        const size_t least = lm_place_least(b, n, STEPS, at), total = lm_place(b, n, least, scratch);
        size_t top = 0, live_most = 0;
        for (int i = 0; i < n; i++) {
            if (b[i].bytes && b[i].offset + b[i].bytes > top) top = b[i].offset + b[i].bytes;
            for (int k = 0; k < i; k++) {
                const bool together = b[i].first <= b[k].last && b[k].first <= b[i].last, touch = b[i].bytes && b[k].bytes &&
                                                                                                  b[i].offset < b[k].offset + b[k].bytes &&
                                                                                                  b[k].offset < b[i].offset + b[i].bytes;
                LM_CHECK(!(together && touch));
            }
        }
        for (int t = 0; t < STEPS; t++) {                                      /* the bound, by definition */
            size_t live = 0;
            for (int i = 0; i < n; i++) if (b[i].first <= t && t <= b[i].last) live += b[i].bytes;
            if (live > live_most) live_most = live;
        }
        LM_CHECK(total == top && total >= least && total <= sum && least == live_most);
        if (least && (double)total / (double)least > worst) worst = (double)total / (double)least;
    }
    LM_CHECK(worst < 1.5);
}

/* ---- random graphs: plan, check every pair of steps, run, compare with the double interpreter ---- */
enum { ROWS = 6, MAXV = 80 };
static lm_value *random_graph(lm_graph *g, uint64_t seed, int n_op) {
    const lm_rng r = lm_rng_of(seed, "graph");
    lm_value *v[MAXV + 8]; int n = 0;
    const int64_t width[] = { 8, 16, 32 };
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        const lm_type t = LM_TYPE(LM_F32, ROWS, width[i]);
        v[n++] = lm_input(g, name, &t);
    }
    uint64_t d = 0;
    for (int i = 0; i < n_op && n < MAXV; i++) {
        lm_value *a = v[lm_rng_below(r, d, (uint64_t)n)], *b = v[lm_rng_below(r, d + 1, (uint64_t)n)], *y = NULL;
        const int64_t w = lm_type_of(a)->dim[1];
        switch (lm_rng_below(r, d + 2, 8)) {
        case 0: y = lm_silu(g, a); break;
        case 1: y = lm_scale(g, a, 0.5f); break;
        case 2: y = lm_copy(g, a); break;
        case 3: y = lm_rmsnorm(g, a, lm_param(g, LM_ROLE_NORM, w, 0, "norm.%lld", (long long)w), 1e-3f); break;
        case 4: if (w > 8) { y = lm_split(g, a, 2, (int64_t[]){ w / 2, w / 2 }); if (lm_rng_below(r, d + 3, 2)) y = lm_output(y, 1); } break;
        case 5: y = lm_matmul(g, a, lm_param(g, LM_ROLE_COL, width[lm_rng_below(r, d + 3, 3)], w, "w.%d", i), false, true); break;
        case 6: if (lm_type_of(b)->dim[1] == w) y = lm_add(g, a, b); break;
        default: if (lm_type_of(b)->dim[1] == w) y = lm_mul(g, a, b); break;
        }
        d += 4;
        if (y) v[n++] = y;
    }
    lm_graph_output(g, "y", v[n - 1]);
    if (n > 8) lm_graph_output(g, "z", v[n - 4]);
    return v[n - 1];
}
static double noise(uint64_t i) { return (double)((int64_t)(i * 2654435761u % 2001) - 1000) * 1e-3; }
static uint64_t of_name(const char *name) { return lm_hash64(name, strlen(name), 0) % 100000; }
static void fill_states(lm_store *s) {
    for (int i = 0; i < lm_store_count(s); i++) {
        lm_tensor t; const char *name = lm_store_name(s, i, &t);
        for (int64_t k = 0; k < lm_numel(&t); k++) ((float *)t.data)[k] = (float)noise(of_name(name) + (uint64_t)k);
    }
}
static void same_as_reference(lm_ctx *ctx, uint64_t seed, int n_op, lm_plan *p, const char *how) {
    lm_graph *g = NULL; lm_ref *ref = NULL;
    LM_NEED_OK(ctx, lm_graph_new(&g, ctx, NULL));
    random_graph(g, seed, n_op);
    LM_CHECK_OK(ctx, lm_ref_new(&ref, g));
    for (int i = 0; ref && i < lm_graph_n_values(g); i++) {
        lm_value *v = lm_graph_value(g, i);
        if (v->kind != LM_V_INPUT && v->kind != LM_V_STATE) continue;
        int64_t n = 1;
        for (int k = 0; k < v->type.rank; k++) n *= v->type.dim[k];
        double *d = lm_ref_data(ref, v);
        for (int64_t k = 0; k < n; k++) d[k] = (double)(float)noise(of_name(v->name) + (uint64_t)k);
    }
    LM_CHECK_OK(ctx, lm_ref_run(ref));
    for (int o = 0; ref && o < lm_graph_n_outputs(g); o++) {
        const char *name;
        lm_value *v = lm_graph_output_at(g, o, &name);
        const double *want = lm_ref_data(ref, v);
        lm_tensor t;
        const float *got = lm_plan_output(p, name, &t);
        double d2 = 0, w2 = 1e-12;
        for (int64_t i = 0; got && i < t.dim[0]; i++)
            for (int64_t k = 0; k < t.dim[1]; k++) {
                const double w = want[i * t.dim[1] + k], x = (double)got[i * t.stride[0] + k * t.stride[1]];
                d2 += (x - w) * (x - w);
                w2 += w * w;
            }
        if (!got || !(d2 <= 1e-10 * w2)) {
            lm_t_fail++;
            printf("seed %llu, %s, output %s: relative error %g\n", (unsigned long long)seed, how, name, sqrt(d2 / w2));
        }
    }
    lm_ref_free(ref); lm_graph_free(g);
}
static void one_graph(lm_ctx *ctx, uint64_t seed) {
    lm_graph *g = NULL; lm_store *s = NULL; lm_plan *p = NULL;
    const int n_op = 5 + (int)(seed * 7 % 70);
    LM_NEED_OK(ctx, lm_store_new(&s, ctx));
    LM_NEED_OK(ctx, lm_graph_new(&g, ctx, NULL));
    random_graph(g, seed, n_op);
    LM_CHECK_OK(ctx, lm_plan_new(&p, ctx, g, &(lm_plan_opts){ .store = s, .create_states = true, .state_tag = LM_MEM_WEIGHTS }));
    lm_graph_free(g);
    if (!p) { lm_store_free(s); return; }
    LM_CHECK(p->stats.arena_bytes >= p->stats.live_bytes);
    for (int i = 0; i < p->n_step; i++) {                                      /* waits: the latest conflict, by looking at all pairs */
        int want = -1;
        for (int k = i - 1; k >= 0 && want < 0; k--) if (lm_step_conflict(&p->step[i], &p->step[k])) want = k;
        LM_CHECK(p->step[i].wait_for == want);
    }
    /* Memory: what a step reads was last written by the step that made it. Owner of every byte of the arena, step by step. */
    int *owner = lm_alloc(ctx, LM_MEM_MISC, p->stats.arena_bytes * sizeof *owner + 4);
    for (size_t i = 0; i < p->stats.arena_bytes; i++) owner[i] = -1;
    for (int i = 0; i < p->n_step; i++)
        for (int k = 0; k < p->step[i].n_range; k++) {
            const lm_range *q = &p->step[i].range[k];
            const uintptr_t a = (uintptr_t)p->arena;
            if (!q->write || q->lo < a || q->hi > a + p->stats.arena_bytes) continue;
            for (uintptr_t x = q->lo; x < q->hi; x++) owner[x - a] = i;
        }
    for (int o = 0; o < p->n_port; o++) {                                       /* a named result is not written over */
        if (p->port[o].input) continue;
        const uintptr_t at = (uintptr_t)p->port[o].t.data - (uintptr_t)p->arena;
        if (at >= p->stats.arena_bytes) continue;
        int last = -1;
        for (int i = 0; i < p->n_step; i++)
            for (int k = 0; k < p->step[i].call.n_out; k++)
                if (p->step[i].call.out[k].data == p->port[o].t.data) last = i;
        LM_CHECK(last < 0 || owner[at] == last);
    }
    lm_free(ctx, owner);
    fill_states(s);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 3; i++) {
            char name[16]; lm_tensor t;
            snprintf(name, sizeof name, "x%d", i);
            float *x = lm_plan_input(p, name, &t);
            for (int64_t k = 0; x && k < lm_numel(&t); k++) x[k] = (float)noise(of_name(name) + (uint64_t)k);
        }
        if (!round) LM_CHECK_OK(ctx, lm_plan_run(p)); else LM_CHECK_OK(ctx, lm_plan_run_shuffled(p, seed * 10 + (uint64_t)round, 3));
        same_as_reference(ctx, seed, n_op, p, round ? "shuffled" : "in order");
    }
    lm_plan_free(p); lm_store_free(s);
}
static void test_random_graphs(void) {
    lm_ctx *ctx;
    LM_CHECK(!lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    for (uint64_t seed = 1; seed <= 40; seed++) one_graph(ctx, seed);
    lm_ctx_free(ctx);
}

/* ---- bytes
 * ---------------------------------------------------------------------------------------------------------------------------------------------
 * */
static lm_cfg config(const char *family, int layers) {
    lm_cfg c = { .model = lm_model_by_name(family),
                 .vocab = 211,
                 .d = 64,
                 .n_layer = layers,
                 .n_head = 4,
                 .n_kv = 4,
                 .d_head = 16,
                 .d_ff = 160,
                 .max_pos = 128,
                 .eps = 1e-5,
                 .init_std = 0.1,
                 .tie = true,
                 .bos = -1,
                 .act = LM_ACT_GELU_TANH,
                 .hf_type = family };
    c.rope.d_head = 16; c.rope.base = 10000; c.rope.max_pos = 128;
    return c;
}
static lm_trainer_opts options(int recompute, const char *optim) {
    return (lm_trainer_opts){ .batch = 2,
                              .seq = 64,
                              .mm = LM_F32,
                              .recompute = recompute,
                              .optim = { .name = optim,
                                         .lr = 1e-3,
                                         .beta1 = 0.9,
                                         .beta2 = 0.95,
                                         .eps = 1e-8,
                                         .clip = 1.0,
                                         .muon_lr = 0.01,
                                         .muon_momentum = 0.95,
                                         .muon_steps = 2 } };
}
static size_t page(size_t n) { return (n + 63) & ~(size_t)63; }
/* What a dry plan says is what the ledger holds once the trainer is real. */
static void test_bytes_are_the_ledgers(void) {
    static const struct {
        const char *family, *optim;
        int recompute;
    } runs[] = { { "llama", "adamw", 0 }, { "llama", "muon", 1 }, { "gpt2", "adamw", 4 }, { "gpt2", "muon", 2 } };
    for (int i = 0; i < LM_COUNT(runs); i++) {
        lm_ctx *ctx; lm_store *s = NULL; lm_trainer *t = NULL; lm_trainer_plan dry, real; lm_ledger a, b;
        const lm_cfg c = config(runs[i].family, 3);
        lm_trainer_opts o = options(runs[i].recompute, runs[i].optim);
        LM_CHECK(!lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
        o.dry = true;
        LM_NEED_OK(ctx, lm_store_new(&s, ctx));
        lm_mem_ledger(ctx, &a);
        LM_NEED_OK(ctx, lm_trainer_new(&t, ctx, &c, s, &o));
        lm_trainer_plan_of(t, &dry);
        lm_mem_ledger(ctx, &b);
        for (int k = 0; k < LM_N_MEM; k++) if (k != LM_MEM_GRAPH) LM_CHECK(a.now[k] == b.now[k]);       /* nothing is allocated for the model */
        lm_trainer_free(t); t = NULL;
        lm_store_free(s);
        o.dry = false;
        LM_NEED_OK(ctx, lm_store_new(&s, ctx));
        lm_mem_ledger(ctx, &a);
        LM_NEED_OK(ctx, lm_model_init(ctx, &c, s, 1));
        LM_NEED_OK(ctx, lm_trainer_new(&t, ctx, &c, s, &o));
        lm_trainer_plan_of(t, &real);
        lm_mem_ledger(ctx, &b);
        LM_CHECK(dry.total == real.total && dry.accumulate.arena_bytes == real.accumulate.arena_bytes &&
                 dry.accumulate.flops == real.accumulate.flops);
        LM_CHECK(b.now[LM_MEM_WEIGHTS] - a.now[LM_MEM_WEIGHTS] == real.params);
        LM_CHECK(b.now[LM_MEM_GRADS] - a.now[LM_MEM_GRADS] == real.grads);
        LM_CHECK(b.now[LM_MEM_OPTIM] - a.now[LM_MEM_OPTIM] == real.optim);
        const size_t arenas = b.now[LM_MEM_ACT] - a.now[LM_MEM_ACT], scratch = b.now[LM_MEM_SCRATCH] - a.now[LM_MEM_SCRATCH];
        size_t consts = real.accumulate.const_bytes + real.update.const_bytes + real.eval.const_bytes,
               largest = real.accumulate.arena_bytes, sum = consts;
        /* Plans share the first arena where it is large enough, else have their own. */
        const lm_plan_stats *st[] = { &real.update, &real.eval };
        for (int k = 0; k < 2; k++) { if (st[k]->arena_bytes > largest) sum += page(st[k]->arena_bytes) + 64; }
        LM_CHECK(arenas == sum + real.accumulate.arena_bytes + 64);
        size_t threads = real.accumulate.thread_bytes;
        for (int k = 0; k < 2; k++) if (st[k]->thread_bytes > real.accumulate.thread_bytes) threads += st[k]->thread_bytes;
        LM_CHECK(scratch == threads);
        lm_trainer_free(t); lm_store_free(s); lm_ctx_free(ctx);
    }
}
static void test_engine_bytes(void) {
    lm_ctx *ctx; lm_store *s = NULL; lm_engine *e = NULL; lm_ledger a, b; lm_plan_stats dry, real;
    const lm_cfg c = config("llama", 3);
    LM_CHECK(!lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    LM_NEED_OK(ctx, lm_store_new(&s, ctx));
    LM_NEED_OK(ctx, lm_model_init(ctx, &c, s, 1));
    lm_engine_opts o = { .context = 128, .chunk = 16, .max_seqs = 2, .mm = LM_F32, .kv = LM_BF16, .dry = true };
    LM_NEED_OK(ctx, lm_engine_new(&e, ctx, &c, s, &o));
    lm_plan_stats_of(lm_engine_plan(e), &dry);
    lm_engine_free(e); e = NULL;
    o.dry = false;
    lm_mem_ledger(ctx, &a);
    LM_NEED_OK(ctx, lm_engine_new(&e, ctx, &c, s, &o));
    lm_plan_stats_of(lm_engine_plan(e), &real);
    lm_mem_ledger(ctx, &b);
    LM_CHECK(dry.arena_bytes == real.arena_bytes && dry.state_bytes == real.state_bytes && dry.thread_bytes == real.thread_bytes &&
             dry.n_waits == real.n_waits);
    LM_CHECK(lm_engine_kv_bytes(e) == (size_t)(2 * 3 * 4 * 64 * 16 * 2 * 4));      /* k and v, layers, pages, tokens a page, head, bf16, heads */
    LM_CHECK(real.state_bytes == lm_engine_kv_bytes(e) + a.now[LM_MEM_WEIGHTS]);
    LM_CHECK(b.now[LM_MEM_ACT] - a.now[LM_MEM_ACT] == real.arena_bytes + 64 + real.const_bytes &&
             b.now[LM_MEM_SCRATCH] - a.now[LM_MEM_SCRATCH] == real.thread_bytes);
    lm_engine_free(e); lm_store_free(s); lm_ctx_free(ctx);
}
/* A budget picks the lowest level that fits; below the least there is a sentence with the parts. */
static void test_budget(void) {
    lm_ctx *ctx; size_t arena[6], total[6];
    LM_CHECK(!lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    const lm_cfg c = config("llama", 4);
    for (int level = 0; level < 6; level++) {
        lm_store *s = NULL; lm_trainer *t = NULL; lm_trainer_plan p;
        lm_trainer_opts o = options(level, "adamw");
        o.dry = true;
        LM_NEED_OK(ctx, lm_store_new(&s, ctx));
        LM_NEED_OK(ctx, lm_trainer_new(&t, ctx, &c, s, &o));
        lm_trainer_plan_of(t, &p);
        arena[level] = p.accumulate.arena_bytes; total[level] = p.params + p.grads + p.optim + p.accumulate.arena_bytes + p.accumulate.thread_bytes;
        if (getenv("LM_SHOW")) printf("level %d arena %zu live %zu\n", level, arena[level], p.accumulate.live_bytes);
        /* docs/design/memory.md */
        if (level) LM_CHECK(arena[level] <= arena[level - 1] && p.accumulate.arena_bytes <= p.accumulate.live_bytes + p.accumulate.live_bytes / 20);
        lm_trainer_free(t); lm_store_free(s);
    }
    LM_CHECK(arena[5] < arena[0] / 2);
    for (int level = 0; level < 6; level++) {
        if (level && total[level] == total[level - 1]) continue;
        lm_store *s = NULL; lm_trainer *t = NULL; lm_trainer_plan p;
        lm_trainer_opts o = options(-1, "adamw");
        o.dry = true; o.memory_budget = (int64_t)total[level];
        LM_NEED_OK(ctx, lm_store_new(&s, ctx));
        LM_CHECK_OK(ctx, lm_trainer_new(&t, ctx, &c, s, &o));
        if (t) { lm_trainer_plan_of(t, &p); LM_CHECK(p.recompute == level); }
        lm_trainer_free(t); lm_store_free(s);
    }
    lm_store *s = NULL; lm_trainer *t = NULL;
    lm_trainer_opts o = options(-1, "adamw");
    o.dry = true; o.memory_budget = (int64_t)total[5] - 64;
    LM_NEED_OK(ctx, lm_store_new(&s, ctx));
    LM_CHECK_ERR(ctx, lm_trainer_new(&t, ctx, &c, s, &o), LM_E_NOMEM, "does not fit the memory budget");
    lm_store_free(s); lm_ctx_free(ctx);
}

/* ---- passes, order, extents ---- */
static int steps_of(const lm_plan *p, const char *op) { int n = 0; for (int i = 0; i < p->n_step; i++) n += !strcmp(p->step[i].op, op); return n; }
static void test_dead_code_and_fusion(void) {
    lm_ctx *ctx; lm_graph *g = NULL; lm_plan *p = NULL;
    LM_CHECK(!lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    LM_NEED_OK(ctx, lm_graph_new(&g, ctx, NULL));
    const lm_type t = LM_TYPE(LM_F32, 4, 16);
    lm_value *x = lm_input(g, "x", &t), *y = lm_input(g, "y", &t), *unused = lm_scale(g, lm_silu(g, x), 3.0f);
    lm_graph_output(g, "o", lm_mul(g, lm_silu(g, x), y));
    int fused = 0;
    LM_CHECK(unused != NULL);
    LM_CHECK_OK(ctx, lm_pass_fuse(g, &fused));
    LM_NEED_OK(ctx, lm_plan_new(&p, ctx, g, &(lm_plan_opts){ .dry = true }));
    LM_CHECK(fused == 1 && p->n_step == 1 && steps_of(p, "swiglu") == 1);
    lm_plan_free(p); lm_graph_free(g);
    /* an inner value with another reader stays */
    LM_NEED_OK(ctx, lm_graph_new(&g, ctx, NULL));
    x = lm_input(g, "x", &t); y = lm_input(g, "y", &t);
    lm_value *s = lm_silu(g, x);
    lm_graph_output(g, "o", lm_mul(g, s, y)); lm_graph_output(g, "s", s);
    LM_CHECK_OK(ctx, lm_pass_fuse(g, &fused));
    LM_CHECK(fused == 0);
    lm_graph_free(g); lm_ctx_free(ctx);
}
/* Readers of a version come before the writer of the next, however late they are emitted. */
static void test_state_versions(void) {
    lm_ctx *ctx; lm_graph *g = NULL; lm_store *s = NULL; lm_plan *p = NULL;
    LM_CHECK(!lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    LM_NEED_OK(ctx, lm_store_new(&s, ctx));
    LM_NEED_OK(ctx, lm_graph_new(&g, ctx, NULL));
    const lm_type t = LM_TYPE(LM_F32, 1, 8);
    lm_value *w = lm_state(g, "w", &t), *before = lm_scale(g, w, 2.0f),
             *now = lm_emit(g, lm_op_by_name("assign"), NULL, 2, (lm_value *[]){ w, lm_input(g, "x", &t) });
    lm_value *after = lm_scale(g, now, 10.0f), *late = lm_scale(g, w, 4.0f);        /* reads version 0, emitted last */
    LM_CHECK(now && now->state == w && late);
    lm_graph_output(g, "before", before); lm_graph_output(g, "after", after); lm_graph_output(g, "late", late);
    LM_NEED_OK(ctx, lm_plan_new(&p, ctx, g, &(lm_plan_opts){ .store = s, .create_states = true, .state_tag = LM_MEM_WEIGHTS }));
    lm_graph_free(g);
    for (int round = 0; round < 8; round++) {
        lm_tensor st; lm_store_get(s, "w", &st);
        for (int i = 0; i < 8; i++) { ((float *)st.data)[i] = 1; ((float *)lm_plan_input(p, "x", NULL))[i] = 3; }
        if (round) LM_CHECK_OK(ctx, lm_plan_run_shuffled(p, (uint64_t)round, 3)); else LM_CHECK_OK(ctx, lm_plan_run(p));
        LM_CHECK(*(float *)lm_plan_output(p, "before", NULL) == 2 && *(float *)lm_plan_output(p, "after", NULL) == 30 &&
                 *(float *)lm_plan_output(p, "late", NULL) == 4 && *(float *)st.data == 3);
    }
    lm_plan_free(p); lm_store_free(s); lm_ctx_free(ctx);
}
static void test_extents(void) {
    lm_ctx *ctx; lm_graph *g = NULL; lm_plan *p = NULL;
    LM_CHECK(!lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    LM_NEED_OK(ctx, lm_graph_new(&g, ctx, NULL));
    lm_type t = LM_TYPE(LM_F32, 8, 4);
    t.ext[0] = (int8_t)lm_extent(g, "N");
    lm_graph_output(g, "y", lm_scale(g, lm_input(g, "x", &t), 2.0f));
    LM_NEED_OK(ctx, lm_plan_new(&p, ctx, g, &(lm_plan_opts){ 0 }));
    lm_graph_free(g);
    float *x = lm_plan_input(p, "x", NULL), *y = lm_plan_output(p, "y", NULL);
    for (int i = 0; i < 32; i++) { x[i] = 1; y[i] = -7; }
    LM_CHECK_OK(ctx, lm_plan_extent(p, "N", 3));
    LM_CHECK_OK(ctx, lm_plan_run(p));
    for (int i = 0; i < 32; i++) LM_CHECK(y[i] == (i < 12 ? 2 : -7));            /* kernels loop to the extent, not to the capacity */
    LM_CHECK_ERR(ctx, lm_plan_extent(p, "N", 9), LM_E_RANGE, "outside 0..8");
    LM_CHECK_ERR(ctx, lm_plan_extent(p, "M", 1), LM_E_NOTFOUND, "M");
    lm_plan_free(p); lm_ctx_free(ctx);
}

/* ---- prices
 * ----------------------------------------------------------------------------------------------------------------------------------------------------
 */
static void test_prices(void) {
    static lm_machine m = { .threads = 1, .mm_f32 = 1e9, .mm_bf16 = 1e9, .read_n = 1e9, .mid_n = 1e9, .last_cache = 1e6, .n_point = 4,
        .point = { { "a", 100, 1e-6 }, { "a", 1000, 4e-6 }, { "a", 10000, 31e-6 }, { "b", 50, 5e-6 } } };
    double t;
    LM_CHECK(lm_machine_price(&m, "a", 1000, &t)); LM_CHECK_NEAR(t, 4e-6, 1e-12);
    LM_CHECK(lm_machine_price(&m, "a", 5500, &t)); LM_CHECK_NEAR(t, 17.5e-6, 1e-12);
    LM_CHECK(lm_machine_price(&m, "a", 20000, &t)); LM_CHECK_NEAR(t, 62e-6, 1e-12);
    LM_CHECK(lm_machine_price(&m, "b", 100, &t)); LM_CHECK_NEAR(t, 10e-6, 1e-12);
    LM_CHECK(!lm_machine_price(&m, "c", 100, &t) && !lm_machine_price(&m, "", 100, &t) && !lm_machine_price(&m, "aa", 100, &t));
    /* more work never takes less */
    for (double w = 1, last = 0; w < 1e6; w *= 1.1) { LM_CHECK(lm_machine_price(&m, "a", w, &t) && t >= last); last = t; }
}
static void test_measure(void) {
    static lm_machine m;
    lm_ctx *ctx; lm_store *s = NULL; lm_trainer *t = NULL;
    LM_CHECK(!lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    LM_NEED_OK(ctx, lm_machine_kernels(ctx, &m));
    m.mm_f32 = m.mm_bf16 = m.read_n = m.mid_n = 1e3;                              /* so slow that a step priced by them would stand out */
    LM_CHECK(m.n_point > 20 && m.n_point <= LM_MACHINE_POINTS);          /* more where there was time */
    for (int i = 0; i < m.n_point; i++)
        LM_CHECK(m.point[i].seconds > 0 && m.point[i].work > 0 && (!i || strcmp(m.point[i - 1].key, m.point[i].key) <= 0));
    static const struct {
        const char *family, *optim;
        lm_dtype mm;
    } runs[] = { { "llama", "adamw", LM_F32 }, { "gpt2", "adamw", LM_F32 }, { "llama", "muon", LM_BF16 }, { "gpt2", "muon", LM_BF16 } };
    for (int i = 0; i < LM_COUNT(runs); i++) {                                    /* every kernel of both families' training has points */
        const lm_cfg c = config(runs[i].family, 2);
        lm_trainer_opts o = options(1, runs[i].optim);
        o.dry = true; o.mm = runs[i].mm;
        LM_NEED_OK(ctx, lm_store_new(&s, ctx));
        LM_NEED_OK(ctx, lm_trainer_new(&t, ctx, &c, s, &o));
        const lm_cost k = lm_cost_step(&m, t, 1);
        LM_CHECK(k.seconds > 0 && k.seconds < 60 && k.roofline > 60 && k.flops > 0 && k.matrix_s < k.seconds);
        lm_trainer_free(t); lm_store_free(s); t = NULL; s = NULL;
    }
    lm_ctx_free(ctx);
}
/* Attention's operations where sequences are known are those that its start says, though a plan knows only rows. */
static void test_attention_operations(void) {
    enum { SEQS = 3, T = 50, N = SEQS * T };
    int32_t start[N];
    const int64_t rows = N;
    for (int i = 0; i < N; i++) start[i] = i / T * T;
    const lm_tensor exact = lm_tensor_of(start, LM_I32, 1, &rows), planned = lm_tensor_of(NULL, LM_I32, 1, &rows);
    for (int k = 0; k < 8; k++) {
        const int64_t window = k % 4 == 1 ? 7 : k % 4 == 2 ? 60 : 0;
        const lm_attn_p p = { .n_head = 4, .n_kv = 2, .d_head = 16, .window = window, .scale = 0.25f, .mm = LM_F32, .both = k % 4 == 3 };
        lm_call c = { .op = k < 4 ? &lm_op_attn : &lm_op_attn_grad, .n_in = 4, .p = &p };
        double flops, bytes, want;
        c.in[0] = lm_tensor_of(NULL, LM_F32, 2, (int64_t[]){ N, 64 });
        c.in[3] = planned;
        lm_op_cost(&c, &flops, &bytes);
        LM_CHECK_NEAR(lm_cost_flops(&c, flops, 0, 0), flops, 0);                  /* nothing known: as planned */
        const double got = lm_cost_flops(&c, flops, SEQS, T);
        c.in[3] = exact;
        lm_op_cost(&c, &want, &bytes);
        LM_CHECK(want > 0 && want < flops);
        LM_CHECK_NEAR(got, want, 1e-9 * want);
        LM_CHECK_NEAR(want, (k < 4 ? 4.0 : 10.0) * 64 * lm_attn_pairs(&exact, &p), 1e-9 * want);
        if (k % 4 == 0) LM_CHECK_NEAR(got, (k < 4 ? 4.0 : 10.0) * 64 * SEQS * T * (T + 1) / 2, 1e-9 * want);   /* a causal sequence's half */
    }
    /* over pages: what each row sees, in place of all that its table has room for */
    const lm_attn_p p = { .n_head = 4, .n_kv = 2, .d_head = 16, .scale = 0.25f, .mm = LM_F32 },
                    w = { .n_head = 4, .n_kv = 2, .d_head = 16, .window = 20, .scale = 0.25f, .mm = LM_F32 };
    lm_call c = { .op = &lm_op_attn_paged, .n_in = 6, .p = &p };
    c.in[0] = lm_tensor_of(NULL, LM_F32, 2, (int64_t[]){ SEQS, 64 });
    c.in[3] = lm_tensor_of(NULL, LM_I32, 2, (int64_t[]){ 1, 8 });
    double flops, bytes;
    lm_op_cost(&c, &flops, &bytes);
    LM_CHECK_NEAR(flops, 4.0 * 64 * SEQS * 8 * LM_KV_PAGE, 0);
    LM_CHECK_NEAR(lm_cost_flops(&c, flops, SEQS, 100), 4.0 * 64 * SEQS * 100, 1e-6);
    c.in[0].dim[0] = SEQS * T;                                                   /* whole prompts: causal halves */
    LM_CHECK_NEAR(lm_cost_flops(&c, flops, SEQS, T), 4.0 * 64 * SEQS * T * (T + 1) / 2, 1e-6);
    c.in[0].dim[0] = SEQS; c.p = &w;
    LM_CHECK_NEAR(lm_cost_flops(&c, flops, SEQS, 100), 4.0 * 64 * SEQS * 20, 1e-6);
}
/* Products with a model's weights: every format, as loaded and as a file has them, from memory and from a cache; and a step is priced by where its weights
 * are. */
static void test_weights(void) {
    static lm_machine m;
    lm_ctx *ctx;
    LM_CHECK(!lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    m.last_cache = 8 << 20;
    LM_NEED_OK(ctx, lm_machine_weights(ctx, &m));
    LM_CHECK(m.n_point >= 6 && m.n_point <= LM_MACHINE_POINTS);          /* more where there was time */
    double cold = 0, t;
    for (int i = 0; i < m.n_point; i++) {
        LM_CHECK(m.point[i].seconds > 0 && m.point[i].work > 0 && (!i || strcmp(m.point[i - 1].key, m.point[i].key) <= 0));
        const char *end = strstr(m.point[i].key, " Q4_K" LM_COST_COLD);
        if (!end) continue;
        char key[LM_MACHINE_KEY];
        snprintf(key, sizeof key, "%.*s Q4_K", (int)(end - m.point[i].key), m.point[i].key);
        LM_CHECK(lm_machine_price(&m, m.point[i].key, m.point[i].work, &cold) && lm_machine_price(&m, key, m.point[i].work, &t) && cold > 0 && t > 0);
    }
    LM_CHECK(cold > 0);
    LM_CHECK(lm_machine_rate(&m, "Q4_K") > 0);
    LM_CHECK(!(lm_machine_rate(&m, "Q4") > 0) && !(lm_machine_rate(&m, "") > 0));
    /* the same plan costs what its keys cost: weights beyond the cache by the cold ones */
    lm_store *s; lm_plan *p; lm_graph *g;
    LM_NEED_OK(ctx, lm_store_new(&s, ctx));
    LM_NEED_OK(ctx, lm_graph_new(&g, ctx, s));
    lm_type tx = LM_TYPE(LM_F32, 1, 512), tw = LM_TYPE(LM_QUANT, 1024, 512);
    tw.quant = lm_quant_by_name("Q8_0");
    LM_NEED_OK(ctx, lm_store_declare(s, "w", &tw, LM_PANEL16));
    lm_graph_output(g, "y", lm_matmul_mm(g, lm_input(g, "x", &tx), lm_state(g, "w", &tw), NULL, false, true, LM_I8));
    LM_NEED_OK(ctx, lm_plan_new(&p, ctx, g, &(lm_plan_opts){ .store = s, .dry = true }));
    const char *op, *kernel; double flops, bytes; char key[LM_MACHINE_KEY];
    lm_plan_step(p, 0, &op, &kernel, &flops, &bytes);
    const double work = lm_cost_work(lm_plan_call(p, 0), kernel, &flops, bytes, 0, 0, key);
    static lm_machine two = { .mm_f32 = 1e9, .mm_bf16 = 1e9, .read_n = 1e9, .mid_n = 1e9, .dot8 = 1e9, .n_point = 2 };
    snprintf(two.point[0].key, LM_MACHINE_KEY, "%s", key); two.point[0].work = work; two.point[0].seconds = 1;
    LM_CHECK(snprintf(two.point[1].key, LM_MACHINE_KEY, "%.40s%s", key, LM_COST_COLD) > 0); two.point[1].work = work; two.point[1].seconds = 3;
    two.last_cache = 1e9; LM_CHECK_NEAR(lm_cost_of(&two, p, 0, 0).seconds, 1, 1e-9);
    two.last_cache = 1e3; LM_CHECK_NEAR(lm_cost_of(&two, p, 0, 0).seconds, 3, 1e-9);
    two.n_point = 1; LM_CHECK_NEAR(lm_cost_of(&two, p, 0, 0).seconds, 1, 1e-9);
    lm_plan_free(p); lm_graph_free(g); lm_store_free(s); lm_ctx_free(ctx);
}
LM_TEST_MAIN(LM_T1(test_weights), LM_T1(test_placement), LM_T1(test_random_graphs), LM_T1(test_bytes_are_the_ledgers), LM_T1(test_engine_bytes),
             LM_T1(test_budget), LM_T1(test_dead_code_and_fusion), LM_T1(test_state_versions), LM_T1(test_extents), LM_T1(test_prices),
             LM_T1(test_attention_operations), LM_T1(test_measure))
