/* plan.c — `loam plan`: what a run or a model will take here, whether it fits, and the cheapest change that makes it fit. */
#include <string.h>
#include "base/stream.h"
#include "cmd/cmd_plan_fit.h"
#include "cmd/cmd_shapes.h"
#include "cmd/cmd_text.h"
#include "device/probe.h"
#include "quant/quant.h"

typedef struct { lm_cli_common common; const char *dtype, *kv, *device, *load; int64_t ctx, batch, memory; bool print; } opts;
static const lm_opt rows[] = { LM_CLI_COMMON(opts),
                               { LM_OPT_INT, "ctx", offsetof(opts, ctx), "0", 0, 1 << 28, NULL, "N",
                                 "tokens of context; 0 = as the model or data.seq says (a model: 4096 at most)" },
                               { LM_OPT_INT, "batch", offsetof(opts, batch), "0", 0, 1 << 24, NULL, "N",
                                 "sequences in a training step; 0 = as the configuration says (a model: 1)" },
                               { LM_OPT_STR, "dtype", offsetof(opts, dtype), "auto", 0, 0, NULL, "T",
                                 "a model's weights: auto (as stored; a shape: bf16), f32, bf16, or a quantized format" },
                               { LM_OPT_STR, "kv", offsetof(opts, kv), "f32", 0, 0, NULL, "T", "key-value pages: f32, bf16, f16, q8_0 or q4_0" },
                               { LM_OPT_STR, "load", offsetof(opts, load), "read", 0, 0, NULL, "HOW", "a model's weights: read into memory, or map: used where they lie in the file" },
                               { LM_OPT_STR, "device", offsetof(opts, device), "", 0, 0, NULL, "NAME",
                                 "cpu, cuda or cuda:N; empty: cpu, or as the configuration says" },
                               { LM_OPT_BYTES, "memory-budget", offsetof(opts, memory), "0", 0, 0, NULL, "BYTES",
                                 "plan for this much memory; 0 = what is available now (a configuration: and train.memory_budget)" },
                               { LM_OPT_BOOL, "steps", offsetof(opts, print), "false", 0, 0, NULL, NULL,
                                 "a configuration: also print every step of the plan: kernels, offsets, waits" },
                               LM_OPT_ROW_END };

typedef struct { lm_cli *cli; const opts *o; lm_machine m; size_t have; lm_str json; lm_dev *dev; } job;
static const char *B(const job *j, double n) { return lm_cli_bytes(j->cli->a, n); }

/* ---- training ---------------------------------------------------------------------------------------------------------------------------- */
static void train_text(const job *j, const lm_train_need *n) {
    lm_arena *a = j->cli->a;
    lm_cli_say(j->cli, "training: %s parameters", lm_cli_count(a, (double)n->n_params));
    lm_cli_say(j->cli, "  weights      %10s", B(j, (double)n->params));
    lm_cli_say(j->cli, "  gradients    %10s", B(j, (double)n->grads));
    lm_cli_say(j->cli, "  optimizer    %10s", B(j, (double)n->optim));
    lm_cli_say(j->cli, "  activations  %10s   micro-batch %lld, recompute level %d", B(j, (double)n->act), (long long)n->micro, n->recompute);
    lm_cli_say(j->cli, "  scratch      %10s", B(j, (double)n->scratch));
    lm_cli_say(j->cli, "  the program  %10s", B(j, (double)n->base));
    lm_cli_say(j->cli, "  peak memory  %10s   of %s available", B(j, (double)n->peak), B(j, (double)j->have));
    lm_cli_say(j->cli, "  a step       %10s   %lld tokens, %s: %.0f tokens/s; roofline %s", lm_cli_time(a, n->seconds),
               (long long)n->tokens, lm_cli_flops(a, n->flops), (double)n->tokens / n->seconds, lm_cli_time(a, n->roofline));
}
static void train_json(lm_str *s, const lm_train_need *n, size_t have) {
    lm_str_printf(s,
                  "\"parameters\": %lld, \"bytes\": {\"parameters\": %zu, \"gradients\": %zu, \"optimizer\": %zu, \"activations\": %zu, "
                  "\"scratch\": %zu, \"base\": %zu}, \"peak\": %zu, \"tokens\": %lld, "
                  "\"flops\": %.6g, \"step_s\": %.6g, \"roofline_s\": %.6g, \"tok_s\": %.6g, \"recompute\": %d, \"micro_batch\": %lld, "
                  "\"available\": %zu, \"fits\": %s",
                  (long long)n->n_params, n->params, n->grads, n->optim, n->act, n->scratch, n->base, n->peak, (long long)n->tokens,
                  n->flops, n->seconds, n->roofline, (double)n->tokens / n->seconds, n->recompute, (long long)n->micro, have,
                  n->peak <= have ? "true" : "false");
}
/* What would make it fit: the cheapest change, then the others that were tried. per: what `seconds` is of. */
static void changes(const job *j, const lm_changes *s, const char *per, const char *key, double now) {
    lm_str *o = (lm_str *)(uintptr_t)&j->json;
    lm_changes_say(j->cli, s, per, now, LM_CHANGES);
    if (s->best >= 0) {
        const lm_change *c = &s->c[s->best];
        lm_str_puts(o, ", \"change\": "); lm_str_json(o, c->what, strlen(c->what));
        lm_str_printf(o, ", \"change_peak\": %zu, \"change_%s\": %.6g", c->peak, key, c->seconds);
    }
    if (s->best < 0) lm_str_puts(o, ", \"change\": null");
    lm_str_puts(o, ", \"changes\": [");
    for (int i = 0; i < s->n; i++) {
        const lm_change *c = &s->c[i];
        lm_str_puts(o, i ? ", {\"change\": " : "{\"change\": "); lm_str_json(o, c->what, strlen(c->what));
        lm_str_puts(o, ", \"gives_up\": "); lm_str_json(o, c->gives_up, strlen(c->gives_up));
        lm_str_printf(o, ", \"peak\": %zu, \"%s\": %.6g, \"fits\": %s}", c->peak, key, c->seconds, c->fits ? "true" : "false");
    }
    lm_str_puts(o, "]");
}
typedef struct { job *j; lm_train_need n; bool have; size_t base, peak; const lm_run_cfg *c; lm_err err; lm_str steps; } dry;
static void on_event(void *ud, const lm_run_event *e) {
    dry *d = ud;
    if (e->kind == LM_RUN_DATA && !d->j->dev) { d->base = lm_rss_now(); d->peak = lm_rss_peak(); }
    if (e->kind != LM_RUN_PLAN) return;
    const int64_t micro = d->c->train.batch / e->accum;
    lm_need_of_trainer(d->j->cli->ctx, &d->j->m, e->trainer, d->c->train.batch * d->c->data.seq, e->accum, micro, d->base, &d->n);
    if (d->peak > d->n.peak) d->n.peak = d->peak;
    d->have = true;
    if (d->j->o->print) {
        lm_plan_print(lm_trainer_accumulate_plan(e->trainer), &d->steps);
        lm_plan_print(lm_trainer_update_plan(e->trainer), &d->steps);
    }
}
static lm_err model_of(job *j, const lm_run_cfg *c, lm_cfg *m) {
    lm_ctx *ctx = j->cli->ctx;
    if (c->model.from) {
        lm_weights *w;
        LM_TRY(lm_weights_open(&w, ctx, c->model.from));
        *m = *lm_weights_cfg(w);
        lm_weights_close(w);
        return LM_OK;
    }
    int64_t vocab = c->tokenizer.vocab;
    if (c->tokenizer.path) { lm_tok *t; LM_TRY(lm_cmd_tok_open(ctx, c->tokenizer.path, &t)); vocab = lm_tok_vocab(t); lm_tok_free(t); }
    return lm_run_model(ctx, c, vocab, m);
}
/* Where it would run: how fast that is, and what is free there. */
static lm_err place(job *j, const char *device) {
    size_t total;
    if (!device || !strcmp(device, "cpu")) {
        j->have = j->o->memory ? (size_t)j->o->memory : lm_memory_available();
        return lm_cmd_machine(j->cli, false, &j->m);
    }
    LM_TRY(lm_dev_open(&j->dev, j->cli->ctx, device));
    LM_TRY(lm_machine_of_device(j->dev, &j->m));
    LM_TRY(j->dev->room(j->dev, &j->have, &total));
    if (j->o->memory) j->have = (size_t)j->o->memory;
    if (j->m.mm_bf16 <= 0 || j->m.mm_f32 <= 0)
        return lm_fail(j->cli->ctx, LM_E_UNSUPPORTED, "plans for %s are priced by cuBLASLt's products: %s", j->dev->name, j->dev->libs);
    return LM_OK;
}
static lm_err plan_train(job *j) {
    lm_cli *cli = j->cli;
    lm_run_cfg c; lm_cfg model;
    LM_TRY(lm_cmd_train_config(cli->ctx, cli->a, &cli->pos, &c));
    if (*j->o->device) c.device = j->o->device;
    LM_TRY(place(j, c.device));
    if (j->o->ctx) c.data.seq = j->o->ctx;
    if (j->o->batch) c.train.batch = j->o->batch;
    dry d = { .j = j, .c = &c, .steps = { .ctx = cli->ctx } };
    if (c.train.memory_budget && !j->o->memory) j->have = (size_t)lm_min64((int64_t)j->have, c.train.memory_budget);
    int64_t micro = c.train.micro_batch ? c.train.micro_batch : c.train.batch;
    if (c.data.path) {                                              /* the data decide the vocabulary and what the process holds already */
        lm_err e = lm_train_run(cli->ctx, &c, &(lm_run_opts){ .dry = true, .event = on_event, .ud = &d, .stop = cli->stop });
        if (e == LM_E_NOMEM && c.train.memory_budget && !d.have) {
            c.train.memory_budget = 0;
            e = lm_train_run(cli->ctx, &c, &(lm_run_opts){ .dry = true, .event = on_event, .ud = &d, .stop = cli->stop });
        }
        if (e == LM_E_NOMEM && j->dev && !d.have) {                    /* what it would take where it takes least */
            LM_TRY(model_of(j, &c, &model));
            c.train.recompute = 1 + model.n_layer;
            e = lm_train_run(cli->ctx, &c, &(lm_run_opts){ .dry = true, .event = on_event, .ud = &d, .stop = cli->stop });
        }
        if (e) { lm_str_free(&d.steps); return e; }
    } else {
        LM_TRY(model_of(j, &c, &model));
        if (c.train.batch % micro)
            return lm_fail(cli->ctx, LM_E_CONFIG, "train.micro_batch = %lld does not divide train.batch = %lld", (long long)micro,
                           (long long)c.train.batch);
        lm_trainer_opts o = lm_run_trainer_opts(&c, micro);
        o.dev = j->dev;
        if (!j->dev) d.base = lm_rss_now();
        lm_err e = lm_need_train(cli->ctx, &j->m, &model, &o, c.train.batch / micro, d.base, &d.n);
        if (e == LM_E_NOMEM && o.memory_budget) {
            o.memory_budget = c.train.memory_budget = 0;
            e = lm_need_train(cli->ctx, &j->m, &model, &o, c.train.batch / micro, d.base, &d.n);
        }
        if (e == LM_E_NOMEM && j->dev) {
            o.recompute = 1 + (int)model.n_layer;
            e = lm_need_train(cli->ctx, &j->m, &model, &o, c.train.batch / micro, d.base, &d.n);
        }
        LM_TRY(e);
    }
    lm_str_puts(&j->json, "{\"kind\": \"training\", ");
    train_json(&j->json, &d.n, j->have);
    train_text(j, &d.n);
    lm_err err = LM_OK;
    if (d.n.peak > j->have) {
        if (c.data.path) err = model_of(j, &c, &model);
        lm_trainer_opts o = lm_run_trainer_opts(&c, micro);
        o.dev = j->dev;
        lm_changes f;
        if (!err) err = lm_fit_train(cli->ctx, cli->a, &j->m, &model, &o, c.train.batch / micro, d.base, j->have, &f);
        if (!err) changes(j, &f, "a step", "step_s", d.n.seconds);
    } else lm_cli_say(cli, "it fits");
    lm_str_puts(&j->json, "}");
    if (!err && j->o->print && !cli->json) fputs(d.steps.p ? d.steps.p : "", stdout);
    lm_str_free(&d.steps);
    return err;
}

/* ---- serving -------------------------------------------------------------------------------------------------------------------------------- */
static void serve_json(lm_str *s, const lm_serve_need *n, size_t have) {
    lm_str_printf(
        s,
        "\"parameters\": %lld, \"bytes\": {\"weights\": %zu, \"mapped\": %zu, \"from_file\": %zu, \"ring\": %zu, \"kv\": %zu, "
        "\"scratch\": %zu, \"base\": %zu}, \"peak\": %zu, \"context\": "
        "%lld, \"prompt\": %lld, \"flops_per_token\": %.6g, \"prefill_tok_s\": %.6g, "
        "\"decode_tok_s\": %.6g, \"decode_end_tok_s\": %.6g, \"prefill_roofline_tok_s\": %.6g, \"decode_roofline_tok_s\": %.6g, \"available\": %zu, \"fits\": %s",
        (long long)n->n_params, n->weights, n->mapped, n->away, n->ring, n->kv, n->scratch, n->base, n->peak, (long long)n->context, (long long)n->prompt, n->flops,
        1 / n->prefill_s, 1 / n->decode_s, 1 / n->decode_end_s, 1 / n->prefill_roof, 1 / n->decode_roof, have, n->peak <= have ? "true" : "false");
}
/* What the matrices are stored as, what there is most of first: "Q4_K, Q6_K". */
static const char *formats(const job *j, const lm_weights *w) {
    struct { const char *name; uint64_t bytes; } k[32]; int n = 0;
    for (int i = 0; i < lm_weights_count(w); i++) {
        lm_weight_info x; int q = 0;
        lm_weights_info(w, i, &x);
        if (x.rank != 2) continue;
        const char *name = x.quant ? x.quant->name : lm_dtype_name(x.dtype);
        while (q < n && strcmp(k[q].name, name)) q++;
        if (q == n) { if (n == LM_COUNT(k)) continue; k[n].name = name; k[n++].bytes = 0; }
        k[q].bytes += x.bytes;
        for (; q && k[q].bytes > k[q - 1].bytes; q--) { __typeof__(k[0]) t = k[q]; k[q] = k[q - 1]; k[q - 1] = t; }
    }
    const char *s = n ? k[0].name : "?";
    for (int i = 1; i < n && s; i++) s = lm_arena_printf(j->cli->a, "%s, %s", s, k[i].name);
    return s ? s : "?";
}
static lm_err plan_model(job *j, const lm_cfg *c, lm_weights *w) {
    lm_cli *cli = j->cli;
    const opts *o = j->o;
    lm_serve_opts so = { .dtype = w ? LM_QUANT : LM_BF16,
                         .from = w,
                         .map = !strcmp(o->load, "map"),
                         .context = o->ctx ? o->ctx : lm_min64(c->max_pos, 4096),
                         .dev = j->dev };
    if (strcmp(o->load, "read") && !so.map) return lm_fail(cli->ctx, LM_E_CONFIG, "--load %s: read and map are known", o->load);
    LM_TRY(lm_engine_kv_of(cli->ctx, o->kv, &so.kv));
    if (!strcmp(o->dtype, "f32")) {
        so.dtype = LM_F32;
        so.quant = NULL;
    } else if (!strcmp(o->dtype, "bf16")) {
        so.dtype = LM_BF16;
        so.quant = NULL;
    } else if (strcmp(o->dtype, "auto") && !(so.quant = lm_quant_by_name(o->dtype)))
        return lm_fail(cli->ctx, LM_E_CONFIG, "--dtype %s: auto, f32, bf16 and quantized formats such as Q8_0 are known", o->dtype);
    const char *kinds = so.quant ? so.quant->name : so.dtype != LM_QUANT ? lm_dtype_name(so.dtype) : formats(j, w);
    if (j->dev && so.quant) return lm_fail(cli->ctx, LM_E_UNSUPPORTED, "--dtype %s: on %s weights are f32 or bf16", so.quant->name, j->dev->kind);
    const size_t base = j->dev ? 0 : lm_rss_now();
    if (!j->dev) so.have = j->have;
    if (so.map) {                                                        /* what does not fit is read as it is used: how fast is this file read? */
        if (!lm_is_dir(cli->pos.v[0])) so.disk = lm_stream_rate(cli->ctx, cli->pos.v[0], (size_t)256 << 20, 1);
    }
    lm_serve_need n;
    LM_TRY(lm_need_serve(cli->ctx, &j->m, c, &so, base, &n));
    lm_cli_say(cli, "serving: %s parameters as %s", lm_cli_count(cli->a, (double)n.n_params), kinds);
    if (n.away) {
        lm_cli_say(cli, "  weights      %10s   in memory, and %s to read ahead into", B(j, (double)(n.weights - n.away)), B(j, (double)n.ring));
        lm_cli_say(cli, "               %10s   read from the file for each token or piece of a prompt, at %s/s", B(j, (double)n.away), B(j, so.disk));
    } else if (n.mapped) {
        lm_cli_say(cli, "  weights      %10s   in memory", B(j, (double)(n.weights - n.mapped)));
        lm_cli_say(cli, "               %10s   in the file, its pages shared with whoever reads it", B(j, (double)n.mapped));
    } else lm_cli_say(cli, "  weights      %10s   in memory%s", B(j, (double)n.weights), j->dev ? "" : ", in the layout that products take");
    lm_cli_say(cli, "  key-values   %10s   context %lld", B(j, (double)n.kv), (long long)n.context);
    lm_cli_say(cli, "  scratch      %10s", B(j, (double)n.scratch));
    lm_cli_say(cli, "  the program  %10s", B(j, (double)n.base));
    lm_cli_say(cli, "  peak memory  %10s   of %s available", B(j, (double)n.peak), B(j, (double)j->have));
    lm_cli_say(cli, "  prefill      %10.1f   tokens/s, a prompt of %lld; roofline %.1f", 1 / n.prefill_s, (long long)n.prompt, 1 / n.prefill_roof);
    lm_cli_say(cli, "  decode       %10.1f   tokens/s behind it; roofline %.1f", 1 / n.decode_s, 1 / n.decode_roof);
    if (n.context > n.prompt) lm_cli_say(cli, "               %10.1f   tokens/s at the end of the context", 1 / n.decode_end_s);
    lm_str_puts(&j->json, "{\"kind\": \"model\", ");
    serve_json(&j->json, &n, j->have);
    lm_changes f;
    if (n.peak > j->have) {
        LM_TRY(lm_fit_serve(cli->ctx, cli->a, &j->m, c, &so, base, j->have, &f));
        changes(j, &f, "a token", "decode_s", n.decode_s);
    } else lm_cli_say(cli, "it fits");
    const lm_trainer_opts to = { .batch = o->batch ? o->batch : 1,
                                 .seq = lm_min64(so.context, 512),
                                 .dev = j->dev,
                                 .recompute = j->dev ? 1 : 0,
                                 .mm = LM_BF16,
                                 .optim = { .name = "adamw", .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1.0 } };
    lm_train_need t;
    LM_TRY(lm_need_train(cli->ctx, &j->m, c, &to, 1, base, &t));
    lm_str_puts(&j->json, ", \"training\": {");
    train_json(&j->json, &t, j->have);
    train_text(j, &t);
    if (t.peak > j->have) {
        LM_TRY(lm_fit_train(cli->ctx, cli->a, &j->m, c, &to, 1, base, j->have, &f));
        changes(j, &f, "a step", "step_s", t.seconds);
    } else lm_cli_say(cli, "it fits");
    lm_str_puts(&j->json, "}}");
    return LM_OK;
}
static bool ends(const char *s, const char *tail) { size_t a = strlen(s), b = strlen(tail); return a >= b && !strcmp(s + a - b, tail); }
static lm_err run(lm_cli *cli) {
    job j = { .cli = cli, .o = cli->opts, .json = { .ctx = cli->ctx } };
    if (!cli->pos.n)
        return lm_fail(cli->ctx, LM_E_CONFIG, "wanted a training configuration, key=value settings, a model, or a shape such as llama-1b");
    const char *what = cli->pos.v[0];
    const bool training = ends(what, ".yaml") || ends(what, ".yml") || (strchr(what, '=') && !lm_exists(what));
    lm_err err = training ? plan_train(&j) : place(&j, *j.o->device ? j.o->device : "cpu");
    if (!training && !err) {
        lm_cfg c;
        if ((err = lm_cli_need(cli, 1, "one model or shape (key=value settings go with a configuration)"))) { lm_dev_close(j.dev); return err; }
        bool shape = false;
        for (const lm_shape *s = lm_shapes; s->name; s++) shape |= !strcmp(s->name, what);
        if (shape) { err = lm_shape_cfg(cli->ctx, what, &c); if (!err) err = plan_model(&j, &c, NULL); }
        else {
            lm_weights *w;
            if ((err = lm_weights_open(&w, cli->ctx, what))) { lm_dev_close(j.dev); return err; }
            c = *lm_weights_cfg(w);
            err = plan_model(&j, &c, w);
            lm_weights_close(w);
        }
    }
    if (!err) err = lm_cli_result(cli, &j.json);
    lm_str_free(&j.json); lm_dev_close(j.dev);
    return err;
}
const lm_cmd lm_cmd_plan = {
    .name = "plan",
    .summary = "what a run or model will take on this machine, and whether it fits",
    .usage = "CONFIG.yaml [key=value …] | MODEL | SHAPE",
    .details = "Nothing is allocated for the model: headers and configuration are enough. Times come from how fast this machine runs this "
               "program's kernels, measured once; the roofline beside them from its ceilings (docs/benchmarks/plan.md); on a device from its ceilings "
               "alone: the least it can take. What does not fit "
               "is told with the cheapest change that does, and the others tried.\n"
               "Shapes: tiny-1m, llama-30m, gpt2-124m, gpt2-774m, smollm-135m, llama-1b, llama-1.1b, llama-7b.",
    .opts = rows,
    .opts_bytes = sizeof(opts),
    .settings = true,
    .run = run
};
