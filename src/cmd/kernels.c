/* kernels.c — `loam kernels`: every operation's kernels, and which this machine takes or why not. */
#include <string.h>
#include "cmd/cmd_text.h"
#include "device/cpu.h"
#include "device/device.h"
#include "op/op.h"
#ifndef LM_CUDA_ARCH_TEXT
#define LM_CUDA_ARCH_TEXT ""                                  /* what nvcc compiled for: the build says so (cmake/cuda.cmake) */
#endif

typedef struct { lm_cli_common common; const char *op; bool all; } opts;
/* Features by kind of device; the card that is here, or why none is. */
typedef struct { uint64_t f[2]; char card[128], libs[256]; const char *none; } machine;
static const lm_opt rows[] = {
    LM_CLI_COMMON(opts),
    { LM_OPT_STR, "op", offsetof(opts, op), NULL, 0, 0, NULL, "NAME", "only this operation" },
    { LM_OPT_BOOL, "all", offsetof(opts, all), "false", 0, 0, NULL, NULL, "also kernels that this machine does not take (--json always has all)" },
    LM_OPT_ROW_END };

/* A sample of the row as a call, types only: how accepts() is asked. */
static void call_of(const lm_op *op, const lm_sample *s, lm_call *c) {
    memset(c, 0, sizeof *c);
    c->op = op; c->p = s->params; c->n_out = op->n_out;
    for (int i = 0; i < op->n_in + op->n_opt; i++) {
        const lm_arg *a = &s->in[i];
        c->n_in = i + 1;
        if (!a->rank) continue;
        c->in[i] = lm_tensor_of(NULL, a->quant ? LM_QUANT : a->dtype, a->rank, a->dim);
        c->in[i].quant = a->quant ? lm_quant_by_name(a->quant) : NULL; c->in[i].layout = (int8_t)a->layout;
    }
    lm_type out[LM_MAX_OUT];
    memset(out, 0, sizeof out);
    if (op->shape(NULL, c, out)) return;
    for (int i = 0; i < op->n_out; i++) c->out[i] = lm_tensor_of(NULL, out[i].dtype, out[i].rank, out[i].dim);
}
/* On how many of the row's samples the kernel is the one that would run. */
static void chosen(const lm_op *op, const lm_kernel *k, uint64_t features, int *n, int *of) {
    *n = *of = 0;
    for (const lm_sample *s = op->samples; s && s->name; s++) {
        lm_call c; call_of(op, s, &c);
        const lm_kernel *best = lm_kernel_choose(op, &c, k->device, features);
        (*of)++; *n += best == k;
    }
}
static void missing(lm_str *s, uint64_t bits) {
    bool some = false;
    for (int b = 0; b < LM_CPU_N; b++) if (bits >> b & 1) { lm_str_printf(s, "%s%s", some ? "+" : "", lm_cpu_feature_name(b)); some = true; }
}
static lm_err look(lm_cli *cli, machine *m) {
    const uint64_t f = lm_cpu_features(), mask = lm_ctx_isa_mask(cli->ctx);
    *m = (machine){ .f = { [LM_DEV_CPU] = mask ? f & mask : f } };
    if (!lm_dev_built()) return LM_OK;
    lm_dev *d;
    if (lm_dev_open(&d, cli->ctx, "cuda")) {                     /* nothing that is wrong: the program runs without */
        m->none = lm_arena_strdup(cli->a, lm_error(cli->ctx));
        lm_error_clear(cli->ctx);
        return m->none ? LM_OK : LM_E_NOMEM;
    }
    m->f[LM_DEV_CUDA] = d->features;
    snprintf(m->card, sizeof m->card, "%s", d->name); snprintf(m->libs, sizeof m->libs, "%s", d->libs);
    lm_dev_close(d);
    return LM_OK;
}
static const char *card_needs(uint64_t needs) {
    return needs & LM_CUDA_WGMMA ? "sm_90a" : needs & LM_CUDA_SM90 ? "sm_90" : "sm_80";
}
static lm_err one(lm_cli *cli, const opts *o, const lm_op *op, const lm_kernel *k, const machine *m, lm_str *s, bool *some) {
    int n, of;
    const bool cuda = k->device == LM_DEV_CUDA;
    const uint64_t f = m->f[k->device], lacks = k->needs & ~(cuda ? f : lm_cpu_features());
    chosen(op, k, f, &n, &of);
    if (cuda && m->none) n = 0;                                  /* rows that need nothing of a card need one */
    lm_str needs = { .ctx = cli->ctx }, why = { .ctx = cli->ctx };
    if (cuda) lm_str_puts(&needs, card_needs(k->needs)); else missing(&needs, k->needs & ~(uint64_t)LM_CPU_PORTABLE);
    const bool has = (f & k->needs) == k->needs && (!cuda || !m->none);
    if (cuda && m->none) lm_str_puts(&why, "there is no GPU here");
    else if (lacks && cuda) lm_str_puts(&why, "not on this card, or not in this program");
    else if (lacks) { lm_str_puts(&why, "this processor has no "); missing(&why, lacks); }
    else if (!has) lm_str_puts(&why, "excluded by --isa");
    else if (!n && of) lm_str_puts(&why, "another kernel comes first for every sample");
    lm_str_puts(s, *some ? ",\n {\"op\": " : "\n {\"op\": "); *some = true;
    lm_str_json(s, op->name, strlen(op->name)); lm_str_puts(s, ", \"kernel\": "); lm_str_json(s, k->name, strlen(k->name));
    lm_str_printf(s, ", \"device\": \"%s\", \"needs\": ", cuda ? "cuda" : "cpu"); lm_str_json(s, needs.p ? needs.p : "", needs.n);
    lm_str_puts(s, ", \"order\": "); lm_str_json(s, k->order ? k->order : "", k->order ? strlen(k->order) : 0);
    lm_str_printf(s, ", \"available\": %s, \"chosen\": %s, \"chosen_samples\": %d, \"samples\": %d, \"why_not\": ", has ? "true" : "false",
                  n ? "true" : "false", n, of);
    lm_str_json(s, why.p ? why.p : "", why.n); lm_str_putc(s, '}');
    if (n || o->all)
        lm_cli_say(cli, "%-20s %-36s %-12s %-14s %s", op->name, k->name, needs.n ? needs.p : "-", k->order ? k->order : "",
                   n       ? lm_arena_printf(cli->a, "chosen for %d of %d samples", n, of)
                   : why.p ? why.p
                           : "");
    lm_err err = lm_str_err(&needs) ? LM_E_NOMEM : lm_str_err(&why);
    lm_str_free(&needs); lm_str_free(&why);
    return err;
}
static lm_err run(lm_cli *cli) {
    const opts *o = cli->opts;
    LM_TRY(lm_cli_need(cli, 0, "no argument"));
    if (o->op && !lm_op_by_name(o->op)) {
        const char *names[512]; int n = 0;
        for (; lm_ops[n] && n < 512; n++) names[n] = lm_ops[n]->name;
        const char *near = lm_nearest(o->op, names, n);
        return lm_fail(cli->ctx, LM_E_CONFIG, "no operation is called \"%s\"%s%s", o->op,
                       near ? "; did you mean " : "; `loam inspect --ops` lists them", near ? near : "");
    }
    machine m;
    LM_TRY(look(cli, &m));
    const uint64_t f = m.f[LM_DEV_CPU];
    char model[128];
    lm_str s = { .ctx = cli->ctx };
    lm_str_puts(&s, "{\"cpu\": "); lm_cpu_model(model, sizeof model); lm_str_json(&s, model, strlen(model));
    lm_str_printf(&s, ", \"isa\": \"%s\", \"features\": [", lm_cpu_isa_of(f));
    bool some = false;
    for (int b = 0; b < LM_CPU_N; b++) if (f >> b & 1) { lm_str_printf(&s, "%s\"%s\"", some ? ", " : "", lm_cpu_feature_name(b)); some = true; }
    lm_str_printf(&s, "], \"cuda\": {\"built\": %s, \"arch\": \"%s\", \"card\": ", lm_dev_built() ? "true" : "false", LM_CUDA_ARCH_TEXT);
    lm_str_json(&s, m.card, strlen(m.card));
    lm_str_puts(&s, "}, \"kernels\": [");
    lm_cli_say(cli, "%s: %s", model, lm_cpu_isa_of(f));
    if (!lm_dev_built()) lm_cli_say(cli, "no kernels for a GPU: this program was built without CUDA (cmake -DLM_CUDA=ON, or `make cuda`)");
    else if (m.none) lm_cli_say(cli, "kernels for a GPU (%s) that none here takes: %s", LM_CUDA_ARCH_TEXT, m.none);
    else lm_cli_say(cli, "%s (this program has %s): %s", m.card, LM_CUDA_ARCH_TEXT, m.libs);
    some = false;
    lm_err err = LM_OK;
    for (int i = 0; lm_ops[i] && !err; i++) {
        if (o->op && strcmp(o->op, lm_ops[i]->name)) continue;
        for (int a = 0; lm_ops[i]->kernels && lm_ops[i]->kernels[a]; a++)
            for (const lm_kernel *k = lm_ops[i]->kernels[a]; k->name && !err; k++)
                if (k->device == LM_DEV_CPU || lm_dev_built()) err = one(cli, o, lm_ops[i], k, &m, &s, &some);
    }
    lm_str_puts(&s, "\n]}");
    if (!err) err = lm_cli_result(cli, &s);
    lm_str_free(&s);
    return err;
}
const lm_cmd lm_cmd_kernels = {
    .name = "kernels",
    .summary = "the kernels of every operation and which this machine takes",
    .usage = "[--op NAME] [--all]",
    .details = "A kernel names the instruction sets it needs and the order in which it adds; kernels with one order id give equal bits. Kernels for a GPU\n"
               "are those of a program built with CUDA; which are taken goes by the card that is here.",
    .opts = rows,
    .opts_bytes = sizeof(opts),
    .run = run
};
