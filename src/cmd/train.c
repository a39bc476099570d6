/* train.c — `loam train`: a YAML file and key=value overrides → a run. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cmd/cmd.h"
#include "cmd/cmd_plan_fit.h"
#include "dist/dist.h"
#include "format/yaml.h"
#include "train/run.h"

enum { KEPT = 1024 };                                        /* step times looked at for the median */
typedef struct { lm_cli_common common; bool resume, print_config, dry_run; } opts;
static const lm_opt rows[] = {
    LM_CLI_COMMON(opts),
    { LM_OPT_BOOL, "resume", offsetof(opts, resume), "false", 0, 0, NULL, NULL, "continue from the newest whole checkpoint in `out`" },
    { LM_OPT_BOOL, "dry-run", offsetof(opts, dry_run), "false", 0, 0, NULL, NULL, "print the plan and stop: nothing is allocated or written" },
    { LM_OPT_BOOL, "print-config", offsetof(opts, print_config), "false", 0, 0, NULL, NULL, "print the resolved configuration and stop" },
    LM_OPT_ROW_END };

lm_err lm_cmd_train_config(lm_ctx *ctx, lm_arena *a, const lm_strlist *pos, lm_run_cfg *cfg) {
    LM_TRY(lm_opt_defaults(ctx, a, lm_run_options, cfg));
    for (int i = 0; i < pos->n; i++) {
        const char *eq = strchr(pos->v[i], '=');
        if (!eq || (strchr(pos->v[i], '/') && strchr(pos->v[i], '/') < eq)) {
            if (i) return lm_fail(ctx, LM_E_CONFIG, "\"%s\" is neither the first argument (a configuration file) nor key=value", pos->v[i]);
            lm_yaml y;
            LM_TRY(lm_yaml_load(ctx, a, pos->v[i], &y));
            LM_TRY(lm_yaml_apply(ctx, a, pos->v[i], &y, "", lm_run_options, cfg));
            continue;
        }
        char *key = lm_arena_printf(a, "%.*s", (int)(eq - pos->v[i]), pos->v[i]);
        if (!key) return LM_E_NOMEM;
        LM_TRY(lm_opt_set(ctx, a, lm_run_options, cfg, key, eq + 1));
    }
    return LM_OK;
}
typedef struct {
    lm_cli *cli;
    lm_ctx *ctx;
    const lm_run_cfg *cfg;
    lm_run_event last;
    lm_machine m;
    double ceiling;
    lm_str result;
    size_t now, peak;
    lm_train_need need;
    double *took;
    int64_t n_took;
    bool on_device;
} view;
static int by_size(const void *a, const void *b) { double x = *(const double *)a, y = *(const double *)b; return x < y ? -1 : x > y; }
static double median_step(view *v) {
    if (!v->n_took) return 0;
    qsort(v->took, (size_t)v->n_took, sizeof *v->took, by_size);
    return v->took[v->n_took / 2];
}
static void plan_lines(view *v, const lm_run_event *e) {
    lm_arena *a = v->cli->a;
    const lm_trainer_plan *p = e->plan;
    lm_need_of_trainer(v->ctx, &v->m, e->trainer, v->cfg->train.batch * v->cfg->data.seq, e->accum, v->cfg->train.batch / e->accum, v->now, &v->need);
    if (v->peak > v->need.peak) v->need.peak = v->peak;
    if (v->on_device) {                                          /* this processor's prices say nothing of it */
        v->need.seconds = 0;
        lm_cli_say(v->cli,
                   "plan: %.2f M parameters · on the device of a rank: weights %s, gradients %s, optimizer %s, activations %s (recompute "
                   "level %d%s) → %s · %.2f GFLOP a step",
                   (double)p->n_params / 1e6, lm_cli_bytes(a, (double)p->params), lm_cli_bytes(a, (double)p->grads),
                   lm_cli_bytes(a, (double)p->optim), lm_cli_bytes(a, (double)p->accumulate.arena_bytes), p->recompute,
                   p->gather_once ? ", weights gathered once" : "",
                   lm_cli_bytes(a, (double)p->total), v->need.flops / 1e9);
        return;
    }
    lm_cli_say(v->cli,
               "plan: %.2f M parameters · weights %s, gradients %s, optimizer %s, activations %s (recompute level %d) → peak %s · %.2f "
               "GFLOP, %s a step",
               (double)p->n_params / 1e6, lm_cli_bytes(a, (double)p->params), lm_cli_bytes(a, (double)p->grads),
               lm_cli_bytes(a, (double)p->optim), lm_cli_bytes(a, (double)(p->accumulate.arena_bytes + p->accumulate.thread_bytes)),
               p->recompute, lm_cli_bytes(a, (double)v->need.peak), v->need.flops / 1e9, lm_cli_time(a, v->need.seconds));
}
static void on_event(void *ud, const lm_run_event *e) {
    view *v = ud;
    lm_arena *a = v->cli->a;
    switch (e->kind) {
    case LM_RUN_DATA:
        v->now = lm_rss_now(); v->peak = lm_rss_peak();
        lm_cli_say(v->cli, "data: %lld tokens (%s of text, vocabulary %lld), %lld held out", (long long)e->data_tokens,
                   lm_cli_bytes(a, (double)e->data_bytes), (long long)e->vocab, (long long)e->val_tokens);
        break;
    case LM_RUN_PLAN: plan_lines(v, e); break;
    case LM_RUN_NO_FIT:
        if (e->opts->comm && e->opts->comm->size > 1) lm_cli_say(v->cli, "rank %d of %d:", e->opts->comm->rank, e->opts->comm->size);
        lm_no_fit_train(v->cli, v->ctx, &v->m, e);
        break;
    case LM_RUN_START:
        if (e->step) lm_cli_say(v->cli, "resumed at step %lld of %lld", (long long)e->step, (long long)e->steps);
        break;
    case LM_RUN_STEP: {
        v->last = *e;
        if (v->took) v->took[v->n_took++ % KEPT] = e->step_s;
        if (v->n_took == 2 * KEPT) v->n_took = KEPT;
        char mfu[32] = "";
        if (v->ceiling > 0) snprintf(mfu, sizeof mfu, " · MFU %.0f%%", 100.0 * v->need.flops / e->step_s / v->ceiling);
        lm_cli_progress(v->cli, "step %lld/%lld · loss %.4f · %.0f tok/s%s · %s · ETA %s", (long long)e->step, (long long)e->steps, e->loss,
                        e->tok_s, mfu, lm_cli_bytes(a, (double)e->rss), lm_cli_time(a, e->eta_s));
        if (!v->cli->tty && e->step % v->cfg->train.log_every == 0)
            lm_cli_event(
                v->cli,
                "{\"step\": %lld, \"loss\": %.6g, \"lr\": %.4g, \"grad_norm\": %.4g, \"tok_s\": %.0f, \"rss\": %zu, \"eta_s\": %.1f}",
                (long long)e->step, e->loss, e->lr, e->grad_norm, e->tok_s, e->rss, e->eta_s);
        break;
    }
    case LM_RUN_VAL:
        lm_cli_say(v->cli, "step %lld: training loss %.4f · validation loss %.4f · %.4f bits per byte%s", (long long)e->step, v->last.loss,
                   e->val_loss, e->val_bpb, e->best ? " (best)" : "");
        break;
    case LM_RUN_SAMPLE: lm_cli_say(v->cli, "step %lld writes: %s", (long long)e->step, e->text); break;
    case LM_RUN_CKPT: lm_cli_event(v->cli, "{\"checkpoint\": %lld}", (long long)e->step); break;
    case LM_RUN_END: {
        char hex[33];
        lm_hash_hex(e->hash, hex);
        if (!e->steps) lm_cli_say(v->cli, "no step to take: %s holds the weights as they begin, %s", v->cfg->out, hex);
        else if (!v->last.step)
            lm_cli_say(v->cli, "%s is complete: all %lld steps were done before; the weights are %s", v->cfg->out, (long long)e->steps,
                       hex);
        else
            lm_cli_say(v->cli, "done: loss %.4f · validation %.4f bits per byte · peak memory %s · weights %s · %s", e->loss, e->val_bpb,
                       lm_cli_bytes(a, (double)e->rss), hex, v->cfg->out);
        if (v->n_took > KEPT) v->n_took = KEPT;
        const double step_s = median_step(v);
        if (v->last.step && !v->on_device)
            lm_cli_say(v->cli, "predicted beside measured: a step %s, %s · peak memory %s, %s", lm_cli_time(a, v->need.seconds),
                       lm_cli_time(a, step_s), lm_cli_bytes(a, (double)v->need.peak), lm_cli_bytes(a, (double)e->rss));
        lm_str_printf(&v->result, "{\"out\": "); lm_str_json(&v->result, v->cfg->out, strlen(v->cfg->out));
        lm_str_printf(&v->result, ", \"steps\": %lld, ", (long long)e->step);
        if (v->last.step) lm_str_printf(&v->result, "\"loss\": %.9g, ", e->loss);
        if (isfinite(e->val_loss) && e->val_loss != 0) lm_str_printf(&v->result, "\"val_loss\": %.9g, \"val_bpb\": %.9g, ", e->val_loss, e->val_bpb);
        if (v->last.step && v->on_device) lm_str_printf(&v->result, "\"step_s\": %.6g, ", step_s);
        else if (v->last.step)
            lm_str_printf(&v->result, "\"step_s\": %.6g, \"predicted_step_s\": %.6g, \"predicted_peak\": %zu, ", step_s, v->need.seconds,
                          v->need.peak);
        lm_str_printf(&v->result, "\"weights_hash\": \"%s\", \"peak_rss\": %zu, \"tok_s\": %.1f}", hex, e->rss, v->last.tok_s);
        break;
    }
    }
}
static lm_err run(lm_cli *cli) {
    const opts *o = cli->opts;
    lm_run_cfg cfg;
    if (!cli->pos.n)
        return lm_fail(cli->ctx, LM_E_CONFIG,
                       "wanted a configuration file or key=value settings; examples/tiny.yaml is one, and data.path=FILE alone is enough");
    LM_TRY(lm_cmd_train_config(cli->ctx, cli->a, &cli->pos, &cfg));
    view v = { .cli = cli, .cfg = &cfg, .result = { .ctx = cli->ctx } };
    if (o->print_config) {
        if (cli->json) lm_opt_dump_json(&v.result, lm_run_options, &cfg); else lm_opt_dump_yaml(&v.result, lm_run_options, &cfg);
        lm_err err = cli->json ? lm_cli_result(cli, &v.result) : lm_str_err(&v.result);
        if (!cli->json && !err) fputs(v.result.p, stdout);
        lm_str_free(&v.result);
        return err;
    }
    lm_comm *comm = NULL;
    lm_ctx *ctx = cli->ctx, *own = NULL;                          /* the file's threads key, unless the flag was given */
    lm_err err = LM_OK;
    if (cfg.threads && !o->common.threads && cfg.threads != lm_ctx_threads(ctx)) {
        err = lm_cmd_context(cli, (int)cfg.threads, &own);
        if (!err) ctx = own;
    }
    lm_cli with = *cli;
    with.ctx = ctx;
    v.on_device = cfg.device && strcmp(cfg.device, "cpu");
    if (!err && !v.on_device) err = lm_cmd_machine(&with, false, &v.m);           /* before MPI is started: it does not like children */
    v.ceiling = cfg.train.dtype ? v.m.mm_bf16 : v.m.mm_f32;
    if (!err && !(v.took = lm_arena_alloc(cli->a, KEPT * sizeof *v.took))) err = LM_E_NOMEM;
    if (!err) err = lm_cmd_comm(&with, (double)cfg.train.timeout, &comm);
    v.ctx = ctx;
    const lm_run_opts ro = {
        .resume = o->resume, .dry = o->dry_run, .event = on_event, .ud = &v, .stop = cli->stop, .sample = lm_api_sample, .comm = comm,
        .link = getenv("LOAM_LINK"),
        .nccl = getenv("LOAM_NCCL")
    };
    if (!err) err = lm_train_run(ctx, &cfg, &ro);
    if (own && err) lm_fail(cli->ctx, err, "%s", lm_error(own));
    if (err && err != LM_E_CANCELLED && comm && !strcmp(comm->name, "mpi")) {  /* the others may wait for this rank: the job ends here */
        const char *why = lm_error(cli->ctx);
        if (strncmp(why, "rank ", 5)) fprintf(stderr, "loam train: rank %d of %d: %s\n", comm->rank, comm->size, why); else fprintf(stderr, "loam train: %s\n", why);
        lm_comm_abort(comm, 1);
    }
    if (!err && !o->dry_run && (!comm || comm->rank == 0)) err = lm_cli_result(cli, &v.result);
    if (comm) comm->free(comm);                                   /* of the run's context */
    lm_ctx_free(own);
    lm_str_free(&v.result);
    return err;
}
const lm_cmd lm_cmd_train = {
    .name = "train",
    .summary = "train a model",
    .usage = "CONFIG.yaml [key=value …] [--resume]",
    .details = "CONFIG.yaml holds the keys that --print-config shows; key=value settings override it. A run writes everything under `out`, "
               "can be killed at\n"
               "any moment and continues with --resume, to the bit. Under mpirun, srun or torchrun mesh=dp=N, zero1=N, zero2=N or fsdp=N "
               "shares the work; on GPUs\n"
               "by copies within one host, where that works, else through NCCL (LOAM_NCCL=FILE says where libnccl.so.2 is, if the system does not find\n"
               "it); LOAM_LINK=peer or nccl takes that one or fails.",
    .opts = rows,
    .opts_bytes = sizeof(opts),
    .settings = true,
    .keys = lm_run_options,
    .run = run
};
