/* cmd_bench_model.c — suites: infer (prefill and decode), train (a step). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cmd/cmd_bench.h"
#include "cmd/cmd_shapes.h"
#include "cmd/cmd_text.h"
#include "base/stream.h"
#include "dist/dist.h"
#include "quant/quant.h"
#include "train/cost.h"

/* Seconds by op of a plan, the largest first, with the bandwidth and rate that its bytes and operations at the last run's sizes make of them.
 * seqs, seq: as lm_cost_flops. */
static lm_err by_op(lm_bench *b, const lm_plan *plan, const char *what, int64_t seqs, int64_t seq) {
    enum { MOST = 128 };
    lm_plan *p = (lm_plan *)(uintptr_t)plan;                              /* as its owner last ran it */
    lm_cli *cli = b->cli;
    lm_plan_stats st; lm_plan_stats_of(p, &st);
    double *s = lm_arena_alloc(cli->a, (size_t)(st.n_steps + 1) * sizeof *s), sum = 0;
    struct { const char *op; double s, flops, bytes; int n; } row[MOST]; int n = 0;
    if (!s) return LM_E_NOMEM;
    LM_TRY(lm_plan_profile(p, s, st.n_steps));
    lm_plan_reprice(p);                                                   /* at the extents that it ran with */
    for (int i = 0; i < st.n_steps; i++) {
        const char *op, *kernel; double f, by; int q = 0;
        lm_plan_step(p, i, &op, &kernel, &f, &by);
        while (q < n && strcmp(row[q].op, op)) q++;
        if (q == n) { if (n == MOST) continue; row[n].op = op; row[n].s = row[n].flops = row[n].bytes = 0; row[n++].n = 0; }
        row[q].s += s[i]; row[q].flops += lm_cost_flops(lm_plan_call(p, i), f, seqs, seq); row[q].bytes += by; row[q].n++; sum += s[i];
    }
    for (int i = 0; i < n; i++)
        for (int k = i + 1; k < n; k++)
            if (row[k].s > row[i].s) {
                __typeof__(row[0]) t = row[i];
                row[i] = row[k];
                row[k] = t;
            }
    for (int i = 0; i < n; i++)
        lm_bench_put(b, lm_arena_printf(cli->a, "%s.%s", what, row[i].op), 1e3 * row[i].s, "ms", 0, 0,
                     lm_arena_printf(cli->a, "%4.1f%%, %d steps, %.0f GB/s, %.1f TFLOP/s", 100 * row[i].s / sum, row[i].n,
                                     row[i].bytes / row[i].s / 1e9, row[i].flops / row[i].s / 1e12));
    lm_bench_put(b, lm_arena_printf(cli->a, "%s.sum", what), 1e3 * sum, "ms", 0, 0, "one step at a time");
    double *ran = lm_arena_alloc(cli->a, (size_t)(st.n_steps + 1) * sizeof *ran);
    if (!ran) return LM_E_NOMEM;
    LM_TRY(lm_plan_waited(p, s, ran, st.n_steps));
    for (int q = 0; q < n; q++) {                                              /* meetings of ranks: what of them is not beside other work */
        double waited = 0, all = 0;
        for (int i = 0; i < st.n_steps; i++) {
            const char *op, *kernel; double f, by;
            lm_plan_step(p, i, &op, &kernel, &f, &by);
            if (!strcmp(op, row[q].op)) { waited += s[i]; all += ran[i]; }
        }
        if (all > 0)
            lm_bench_put(b, lm_arena_printf(cli->a, "%s.waits_for.%s", what, row[q].op), 1e3 * waited, "ms", 0, 0,
                         lm_arena_printf(cli->a, "it runs for %.2f ms beside the rest", 1e3 * all));
    }
    return LM_OK;
}
/* An engine's plan, in the mode in which it runs. */
static lm_err by_op_infer(lm_bench *b, const lm_cmd_model *m, const char *what, int64_t seqs, int64_t seq) {
    const uint64_t was = m->dev ? m->dev->features : 0;
    if (m->dev && b->o->deterministic) m->dev->features |= LM_CUDA_ROW_ALONE;
    const lm_err e = by_op(b, lm_engine_plan(m->e), what, seqs, seq);
    if (m->dev) m->dev->features = was;
    return e;
}
/* ---- infer ---------------------------------------------------------------------------------------------------------------------------- */
/* of a sequence, at most */
static int64_t tokens_of(const lm_bench_opts *o) { return lm_max64(o->prompt, o->depth + lm_max64(o->gen, o->ahead)); }
static lm_err open_shape(lm_bench *b, const char *name, lm_cfg *c, lm_cmd_model *m) {
    lm_ctx *ctx = b->cli->ctx;
    const char *dt = b->o->dtype && strcmp(b->o->dtype, "auto") ? b->o->dtype : "bf16";
    LM_TRY(lm_cmd_device(b->cli, b->o->device, &m->dev));
    lm_load_opts lo = { .dtype = LM_BF16, .panels = !m->dev };
    lm_engine_opts eo = { .dev = m->dev,
                          .context = tokens_of(b->o),
                          .max_seqs = b->o->seqs,
                          .chunk = b->o->chunk,
                          .deterministic = b->o->deterministic,
                          .mm = LM_F32 };
    if (!strcmp(dt, "f32")) lo.dtype = LM_F32;
    else if (!strcmp(dt, "bf16")) eo.mm = LM_BF16;
    lm_err err;
    if (strcmp(dt, "f32") && strcmp(dt, "bf16") && !(lo.quant = lm_quant_by_name(dt))) {
        err = lm_fail(ctx, LM_E_CONFIG, "--dtype %s: f32, bf16 and quantized formats such as Q8_0 are known", dt);
        goto fail;
    }
    LM_GOTO(lm_engine_kv_of(ctx, b->o->kv, &eo.kv, &eo.kv_quant), fail);
    LM_GOTO(lm_shape_cfg(ctx, name, c), fail);
    if (c->max_pos < eo.context) c->max_pos = eo.context;
    LM_GOTO(lm_store_new(&m->store, ctx), fail);
    LM_GOTO(lm_shape_weights(ctx, c, &lo, true, m->store), fail);
    eo.mm = lm_engine_mm_for(m->store);
    LM_GOTO(lm_engine_new(&m->e, ctx, c, m->store, &eo), fail);
    m->cfg = c;
    return LM_OK;
fail:
    lm_cmd_model_close(m);
    return err;
}
static lm_err drop(void *ud, int r, int64_t i, const float *l) { (void)ud; (void)r; (void)i; (void)l; return LM_OK; }
/* what a greedy run asks for: on a device the row's largest alone comes back */
static lm_err chosen(void *ud, int r, const lm_peak_row *p, const float *l) { (void)ud; (void)r; (void)p; (void)l; return LM_OK; }
static bool go_on(void *ud) { return !lm_cli_stopped(ud); }
/* Steps ahead from the given tokens, one a session. */
static lm_err steps_ahead(const lm_cmd_model *m, lm_session *const *s, lm_request *q, int64_t seqs, const int32_t *id, int64_t n, lm_cli *cli) {
    for (int64_t i = 0; i < seqs; i++) q[i] = (lm_request){ s[i], id, 1, LM_WANT_LAST };
    return lm_engine_greedy(m->e, q, (int)seqs, n, chosen, go_on, cli);
}
typedef struct { double weights, flops; } cost;                          /* bytes of weights that a token reads, operations of a token */
static cost per_token(const lm_cfg *c, const lm_store *store) {
    cost k = { 0, 0 };
    for (int i = 0; i < lm_store_count(store); i++) {
        lm_tensor t; size_t bytes = 0;
        const char *name = lm_store_name(store, i, &t);
        lm_storage_bytes((lm_dtype)t.dtype, t.quant, (lm_layout)t.layout, t.rank, t.dim, &bytes);
        bool looked_up = strstr(name, "embed_tokens") || strstr(name, ".wpe.") || strstr(name, ".wte.");
        if (looked_up && !(c->tie && !strstr(name, ".wpe."))) continue;
        k.weights += (double)bytes;
        if (t.rank == 2) k.flops += 2.0 * (double)lm_numel(&t);
    }
    return k;
}
/* What checking guesses costs: runs over 1 … N tokens behind --depth, by turns; each width's median. */
static lm_err rows_ahead(lm_bench *b, const lm_cmd_model *m, const int32_t *ids) {
    const lm_bench_opts *o = b->o;
    lm_session *s;
    double *t = lm_arena_alloc(b->cli->a, (size_t)(o->ahead * o->gen) * sizeof *t), one = 0;
    if (!t) return LM_E_NOMEM;
    LM_TRY(lm_session_new(&s, m->e));
    lm_request q = { s, ids, o->depth, LM_WANT_NONE };
    lm_err err = o->depth ? lm_engine_run(m->e, &q, 1, drop, NULL) : LM_OK;
    for (int64_t k = 0; k < o->gen && !err && !lm_cli_stopped(b->cli); k++)
        for (int64_t w = 1; w <= o->ahead && !err; w++) {
            q = (lm_request){ s, ids + o->depth, w, LM_WANT_ALL };
            const double from = lm_now();
            err = lm_engine_run(m->e, &q, 1, drop, NULL);
            t[(w - 1) * o->gen + k] = lm_now() - from;
            if (!err) err = lm_session_truncate(s, o->depth);
        }
    for (int64_t w = 1; w <= o->ahead && !err; w++) {
        const double x = lm_bench_median(t + (w - 1) * o->gen, (int)o->gen);
        if (w == 1) one = x;
        lm_bench_put(b, lm_arena_printf(b->cli->a, "rows.%lld", (long long)w), 1e3 * x, "ms", 0, 0, lm_arena_printf(b->cli->a, "%.2f of one row", x / one));
    }
    lm_session_free(s);
    if (!err && o->ops) err = by_op_infer(b, m, "rows", 1, o->depth + o->ahead);
    return err;
}
static lm_err infer(lm_bench *b) {
    const lm_bench_opts *o = b->o;
    lm_cli *cli = b->cli;
    lm_cmd_model m = {0};
    lm_cfg c;
    lm_err err;
    if (o->model && o->shape) return lm_fail(cli->ctx, LM_E_CONFIG, "--model and --shape exclude each other");
    if (o->model) {
        LM_TRY(lm_cmd_model_open(
            cli, o->model,
            &(lm_cmd_model_opts){
                .dtype = o->dtype, .kv = o->kv, .context = tokens_of(o), .chunk = o->chunk, .max_seqs = o->seqs, .device = o->device, .load = o->load, .memory = o->memory,
                .deterministic = o->deterministic },
            &m));
        c = *m.cfg;
    } else LM_TRY(open_shape(b, o->shape ? o->shape : "smollm-135m", &c, &m));
    double pre[1000], dec[1000], again[1000], first[1000], from_disk[1000];
    bool ahead = false;
    uint64_t was = 0, is = 0; double waited; bool direct = false, streams = lm_plan_streamed(lm_engine_plan(m.e), &was, &waited, &direct);
    int32_t *ids = lm_alloc(cli->ctx, LM_MEM_MISC, (size_t)tokens_of(o) * sizeof *ids);
    lm_session **s = lm_arena_alloc(cli->a, (size_t)o->seqs * sizeof *s);
    lm_request *q = lm_arena_alloc(cli->a, (size_t)o->seqs * sizeof *q);
    lm_near *near = lm_arena_alloc(cli->a, (size_t)o->seqs * sizeof *near);
    if (!ids || !s || !q || !near) { err = LM_E_NOMEM; goto done; }
    for (int64_t i = 0; i < tokens_of(o); i++) ids[i] = (int32_t)(i * 7919 % c.vocab);
    for (int64_t r = 0; r < o->repeat; r++) {
        if (lm_cli_stopped(cli)) { err = lm_cli_stop_err(cli); goto done; }
        lm_cli_progress(cli, "infer: run %lld of %lld", (long long)r + 1, (long long)o->repeat);
        for (int64_t i = 0; i < o->seqs; i++) LM_GOTO(lm_session_new(&s[i], m.e), done);
        for (int64_t i = 0; i < o->seqs; i++) q[i] = (lm_request){ s[i], ids, o->prompt, LM_WANT_LAST };
        for (int64_t k = 0; k < 2 && !r && m.dev; k++) {                    /* a device chooses products and records at the first runs of a size */
            LM_GOTO(lm_engine_choose(m.e, q, (int)o->seqs, near, chosen, NULL), done);
            for (int64_t i = 0; i < o->seqs; i++) LM_GOTO(lm_session_truncate(s[i], 0), done);
        }
        double t = lm_now();
        LM_GOTO(lm_engine_choose(m.e, q, (int)o->seqs, near, chosen, NULL), done);
        first[r] = lm_now() - t;
        pre[r] = (double)(o->prompt * o->seqs) / first[r];
        if (o->ops && r + 1 == o->repeat) LM_GOTO(by_op_infer(b, &m, "prefill", o->seqs, o->prompt), done);
        for (int64_t i = 0; i < o->seqs; i++) { LM_GOTO(lm_session_truncate(s[i], 0), done); q[i] = (lm_request){ s[i], ids, o->depth, LM_WANT_NONE }; }
        if (o->depth) LM_GOTO(lm_engine_run(m.e, q, (int)o->seqs, drop, NULL), done);
        ahead = lm_engine_ahead(m.e, (int)o->seqs);                            /* the device goes on with what it chose */
        for (int64_t k = 0; k < 3 && !r; k++) {                              /* what is prepared at the first runs of a size: not timed */
            for (int64_t i = 0; i < o->seqs; i++) q[i] = (lm_request){ s[i], ids + o->depth, 1, LM_WANT_LAST };
            LM_GOTO(ahead ? steps_ahead(&m, s, q, o->seqs, ids + o->depth, lm_min64(2, o->gen), cli) : lm_engine_choose(m.e, q, (int)o->seqs, near, chosen, NULL), done);
            for (int64_t i = 0; i < o->seqs; i++) LM_GOTO(lm_session_truncate(s[i], o->depth), done);
        }
        if (streams) lm_plan_streamed(lm_engine_plan(m.e), &was, &waited, &direct);
        t = lm_now();
        if (ahead) LM_GOTO(steps_ahead(&m, s, q, o->seqs, ids + o->depth, o->gen, cli), done);
        else for (int64_t k = 0; k < o->gen && !lm_cli_stopped(cli); k++) {
            for (int64_t i = 0; i < o->seqs; i++) q[i] = (lm_request){ s[i], ids + o->depth + k, 1, LM_WANT_LAST };
            LM_GOTO(lm_engine_choose(m.e, q, (int)o->seqs, near, chosen, NULL), done);
        }
        dec[r] = (double)(o->gen * o->seqs) / (lm_now() - t);
        if (ahead) {                                                        /* once more: for the first hundred steps behind prompts a card's clock is still low */
            for (int64_t i = 0; i < o->seqs; i++) LM_GOTO(lm_session_truncate(s[i], o->depth), done);
            t = lm_now();
            LM_GOTO(steps_ahead(&m, s, q, o->seqs, ids + o->depth, o->gen, cli), done);
            again[r] = (double)(o->gen * o->seqs) / (lm_now() - t);
        }
        if (streams) { lm_plan_streamed(lm_engine_plan(m.e), &is, &waited, &direct); from_disk[r] = (double)(is - was) / (lm_now() - t); }
        for (int64_t i = 0; i < o->seqs; i++) { lm_session_free(s[i]); s[i] = NULL; }
    }
    const cost k = per_token(&c, m.store);
    lm_plan_stats st; lm_plan_stats_of(lm_engine_plan(m.e), &st);
    if (o->ops) LM_GOTO(by_op_infer(b, &m, "decode", o->seqs, o->depth + o->gen), done);
    if (o->ahead) LM_GOTO(rows_ahead(b, &m, ids), done);
    double mm = st.mm_flops_bf16 > st.mm_flops_f32 ? b->m.mm_bf16 : b->m.mm_f32, read = b->m.read_n;
    if (m.dev) {
        lm_machine top;
        LM_GOTO(lm_machine_of_device(m.dev, &top), done);
        mm = st.mm_flops_bf16 > st.mm_flops_f32 ? top.mm_bf16 : 0; read = top.read_n;
    }
    const double a_token = (double)(is - was) / (double)(o->gen * o->seqs), disk = streams ? lm_stream_rate(cli->ctx, o->model, (size_t)512 << 20, 1) : 0;
    if (!m.dev && lm_engine_opts_of(m.e)->mm == LM_I8) mm = b->m.dot8;                  /* blocks are multiplied as integers */
    lm_bench_put(b, "prefill", lm_bench_median(pre, (int)o->repeat), "tokens/s", mm / k.flops, 0, "limit: operations over the matrix rate");
    lm_bench_put(b, "decode", lm_bench_median(dec, (int)o->repeat), "tokens/s", streams ? disk / a_token : read / k.weights * (double)o->seqs, 0,
                 streams ? "limit: what is read for a token over the file's own rate" : m.dev ? "limit: weights over the copy bandwidth" : "limit: weights over the read bandwidth");
    if (ahead)
        lm_bench_put(b, "decode_again", lm_bench_median(again, (int)o->repeat), "tokens/s", read / k.weights * (double)o->seqs, 0, "the same steps once more, no prompt before them");
    if (streams) {                                                     /* beside the same file read so by itself */
        lm_bench_put(b, "from_file", lm_bench_median(from_disk, (int)o->repeat), "B/s", disk, 0,
                     lm_arena_printf(cli->a, "weights read ahead while decoding, %s; limit: the file read alone", direct ? "past the system's cache" : "through the system's cache"));
        lm_bench_put(b, "from_file_a_token", a_token / 1e6, "MB", 0, 0, "the rest stays in memory");
    }
    lm_bench_put(b, "first_token", 1e3 * lm_bench_median(first, (int)o->repeat), "ms", 0, 0, "the prompt's logits");
    lm_bench_put(b, "weights", k.weights / 1e6, "MB", 0, 0, "read for each token");
    lm_bench_put(b, "peak_memory", (double)lm_rss_peak() / 1e6, "MB", 0, 0, NULL);
    if (m.dev) lm_bench_put(b, "device_memory", (double)m.dev->peak / 1e6, "MB", 0, 0, m.dev->name);
done:
    for (int64_t i = 0; s && i < o->seqs; i++) lm_session_free(s[i]);
    lm_free(cli->ctx, ids); lm_cmd_model_close(&m);
    return err;
}

/* ---- train ---------------------------------------------------------------------------------------------------------------------------------- */
/* This rank's share of the ranks; without a launcher *comm is NULL. */
static lm_err ranks_of(lm_bench *b, lm_comm **comm, lm_mesh_kind *mesh) {
    LM_TRY(lm_cmd_comm(b->cli, 600, comm));
    b->quiet = *comm && (*comm)->rank;
    return lm_mesh_of(b->cli->ctx, b->o->mesh, *comm ? (*comm)->size : 1, mesh);
}
static lm_err train_on(lm_bench *b, lm_comm *comm, lm_mesh_kind mesh) {
    const lm_bench_opts *o = b->o;
    lm_cli *cli = b->cli;
    lm_ctx *ctx = cli->ctx;
    lm_cfg c;
    lm_store *store = NULL; lm_trainer *t = NULL; lm_batch x = {0}; lm_dev *dev = NULL; lm_comm *dev_comm = NULL;
    const int ranks = comm ? comm->size : 1;
    const char *dt = o->dtype && strcmp(o->dtype, "auto") ? o->dtype : "f32";
    if (strcmp(dt, "f32") && strcmp(dt, "bf16") && strcmp(dt, "fp8") && strcmp(dt, "bf16_pure"))
        return lm_fail(ctx, LM_E_CONFIG, "--dtype %s: a step is computed in f32, bf16, bf16_pure or fp8", dt);
    const bool pure = !strcmp(dt, "bf16_pure"), bf16 = pure || !strcmp(dt, "bf16"), fp8 = !strcmp(dt, "fp8");
    lm_err err;
    LM_TRY(lm_shape_cfg(ctx, o->shape ? o->shape : "llama-30m", &c));
    if (c.max_pos < o->seq) c.max_pos = o->seq;
    if (strcmp(o->device, "cpu")) LM_TRY(lm_dist_device(&dev, ctx, comm, o->device));
    if (dev && comm) LM_GOTO(lm_comm_devices(&dev_comm, comm, dev, getenv("LOAM_LINK"), getenv("LOAM_NCCL")), done);
    const lm_trainer_opts to = {
        .dev = dev,
        .comm = comm,
        .dev_comm = dev_comm,
        .mesh = mesh,
        .recompute = (int)o->recompute,
        .gather = (lm_gather_kind)o->gather,
        .batch = o->batch,
        .seq = o->seq,
        .pure = pure,
        .mm = fp8 ? LM_F8_E4M3 : bf16 ? LM_BF16 : LM_F32,
        .optim = { .name = o->optim,
                   .lr = 1e-4,
                   .beta1 = 0.9,
                   .beta2 = 0.95,
                   .eps = 1e-8,
                   .weight_decay = 0.1,
                   .clip = 1.0,
                   .muon_lr = 1e-3,
                   .muon_momentum = 0.95,
                   .muon_steps = 5 }
    };
    if (ranks == 1) LM_GOTO(lm_trainer_room(ctx, &c, &to), done);
    LM_GOTO(lm_store_new(&store, ctx), done);
    LM_GOTO(lm_shape_weights(ctx, &c, &(lm_load_opts){ .dtype = LM_F32 }, true, store), done);
    LM_GOTO(lm_trainer_new(&t, ctx, &c, store, &to), done);
    LM_GOTO(lm_batch_alloc(ctx, &x, o->batch, o->seq), done);
    lm_rng r = lm_rng_of(3 + (uint64_t)(comm ? comm->rank : 0), "bench");
    for (int64_t i = 0; i < x.n; i++) {
        x.tokens[i] = (int32_t)lm_rng_below(r, (uint64_t)i, (uint64_t)c.vocab);
        x.target[i] = (int32_t)lm_rng_below(r, (uint64_t)(x.n + i), (uint64_t)c.vocab);
        x.pos[i] = (int32_t)(i % o->seq); x.start[i] = (int32_t)(i / o->seq * o->seq);
    }
    x.n_target = x.n;
    double step[1000], update[1000], loss_first = 0, loss_last = 0;
    for (int64_t s = 0; s <= o->repeat; s++) {                       /* the first one touches the memory */
        if (lm_cli_stopped(cli)) { err = lm_cli_stop_err(cli); goto done; }
        lm_cli_progress(cli, "train: step %lld of %lld", (long long)s, (long long)o->repeat);
        double loss = 0, norm, t0 = lm_now(), t1;
        LM_GOTO(lm_trainer_accumulate(t, &x, s, 0, &loss), done);
        if (!s) loss_first = loss;
        loss_last = loss;
        t1 = lm_now();
        LM_GOTO(lm_trainer_update(t, s + 1, 1.0, (double)x.n * ranks, &norm), done);
        if (s) { step[s - 1] = lm_now() - t0; update[s - 1] = lm_now() - t1; }
    }
    lm_trainer_plan p; lm_trainer_plan_of(t, &p);
    lm_machine top = {0};
    if (o->ops) {                                                    /* on every rank: they meet in it */
        double again;                                                /* here the update's arena lies over the inputs: they are put there anew */
        if (!dev) LM_GOTO(lm_trainer_accumulate(t, &x, o->repeat + 1, 0, &again), done);
        LM_GOTO(by_op(b, lm_trainer_accumulate_plan(t), "accumulate", o->batch, o->seq), done);
        LM_GOTO(by_op(b, lm_trainer_update_plan(t), "update", 0, 0), done);
    }
    size_t peak = dev ? dev->peak : 0;                               /* before the ceilings' own buffers */
    double all[2] = { loss_first, loss_last };
    if (comm) {
        double most[64] = { 0 };
        for (int q = 0; q < ranks && q < 64; q++) {                  /* the largest of any rank */
            most[q] = q == comm->rank ? (double)peak : 0;
            LM_GOTO(lm_comm_sum(comm, &most[q], 1), done);
            if (most[q] > (double)peak) peak = (size_t)most[q];
        }
        LM_GOTO(lm_comm_sum(comm, all, 2), done);
    }
    if (dev) LM_GOTO(lm_machine_of_device(dev, &top), done);
    const double loss0 = all[0] / ((double)x.n * ranks), loss1 = all[1] / ((double)x.n * ranks);
    /* what multiplies matrices, attention per sequence, at the rate of that alone */
    const lm_machine at = { .mm_f32 = dev ? top.mm_bf16 : b->m.mm_f32,
                            .mm_bf16 = dev ? top.mm_bf16 : b->m.mm_bf16,
                            .read_n = INFINITY,
                            .mid_n = INFINITY };
    const bool known = !fp8 && (!dev || (bf16 && top.mm_bf16 > 0));
    const double limit = known ? lm_cost_of(&at, lm_trainer_accumulate_plan(t), o->batch, o->seq).matrix_s : 0,
                 med = lm_bench_median(step, (int)o->repeat);
    lm_bench_put(b, "train_step", 1e3 * med, "ms", 0, 0,
                 lm_arena_printf(cli->a, "batch %lld, %lld tokens each; matrix products alone at the ceiling: %.1f ms", (long long)o->batch,
                                 (long long)o->seq, 1e3 * limit));
    lm_bench_put(b, "train", (double)x.n / med, "tokens/s", limit > 0 ? (double)x.n / limit : 0, 0,
                 ranks > 1 ? "of each rank; limit: matrix products at the ceiling" : "limit: matrix products at the ceiling");
    if (ranks > 1)
        lm_bench_put(b, "train_total", (double)x.n * ranks / med, "tokens/s", 0, 0,
                     lm_arena_printf(cli->a, "%d ranks, %s%s%s", ranks, o->mesh, dev_comm ? ", linked by " : "", dev_comm ? dev_comm->name : ""));
    lm_bench_put(b, "train_update", 1e3 * lm_bench_median(update, (int)o->repeat), "ms", 0, 0, "norm, clip, optimizer");
    lm_bench_put(b, "train_planned", (double)p.total / 1e6, "MB", 0, 0, "what the plan predicts");
    lm_bench_put(b, "train_memory", (double)lm_rss_peak() / 1e6, "MB", 0, 0, "peak of the process");
    lm_bench_put(b, "train_loss", loss1, "nats", 0, 0, lm_arena_printf(cli->a, "of the last step, %.4f of the first; random tokens", loss0));
    if (fp8) {
        static const char *const group[] = { "activations", "gradients", "weights" };
        int64_t n[LM_FP8_COUNTS * LM_FP8_GROUPS];
        LM_GOTO(lm_trainer_fp8_counts(t, n), done);
        for (int i = 0; i < LM_FP8_GROUPS; i++) {
            const int64_t *k = n + i * LM_FP8_COUNTS;
            lm_bench_put(b, lm_arena_printf(cli->a, "fp8_flushed_%s", group[i]), (double)k[LM_FP8_FLUSHED] / (double)lm_max64(k[LM_FP8_ELEMENTS], 1),
                "", 0, 0,
                         lm_arena_printf(cli->a, "part of %lld that became zero; %lld not finite", (long long)k[LM_FP8_ELEMENTS],
                             (long long)k[LM_FP8_ODD]));
        }
    }
    if (dev) {
        lm_bench_put(b, "device_memory", (double)peak / 1e6, "MB", 0, 0, dev->name);
        lm_bench_put(b, "device_memory_of_plan", (double)peak / (double)p.total, "", 0, 0, "reached over predicted, the largest of any rank");
        lm_bench_put(b, "device_copy", top.read_n, "B/s", 0, 0, "2 GB, read and written");
        lm_bench_put(b, "device_bf16", top.mm_bf16, "FLOP/s", 0, 0, dev->libs);
    }
done:
    if (err && dev_comm && dev_comm->stop) dev_comm->stop(dev_comm);
    lm_batch_free(ctx, &x); lm_trainer_free(t);
    if (dev_comm) dev_comm->free(dev_comm);
    lm_store_free(store); lm_dev_close(dev);
    return err;
}
static lm_err train(lm_bench *b) {
    lm_comm *comm = NULL;
    lm_mesh_kind mesh;
    lm_err err = ranks_of(b, &comm, &mesh);
    if (!err) err = train_on(b, comm, mesh);
    if (err && comm && !strcmp(comm->name, "mpi")) {                 /* the others may wait for this rank: the job ends here */
        fprintf(stderr, "loam bench: rank %d of %d: %s\n", comm->rank, comm->size, lm_error(b->cli->ctx));
        lm_comm_abort(comm, 1);
    }
    if (comm) comm->free(comm);
    return err;
}
const lm_bench_suite lm_bench_model[] = { { "infer", "prefill and decode", infer }, { "train", "a training step", train }, { NULL, NULL, NULL } };
