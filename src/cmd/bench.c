/* bench.c — `loam bench`: figures with their limits, by suites. */
#include <stdlib.h>
#include <string.h>
#include "cmd/cmd_bench.h"
#include "cmd/cmd_text.h"

#define O(f) offsetof(lm_bench_opts, f)
static const lm_opt rows[] = {
    LM_CLI_COMMON(lm_bench_opts),
    { LM_OPT_STR, "model", O(model), NULL, 0, 0, NULL, "MODEL", "infer: a model to load; tokenizer, grammar: a model or tokenizer" },
    { LM_OPT_STR, "shape", O(shape), NULL, 0, 0, NULL, "NAME",
      "infer, train: random weights of a known shape: tiny-1m, llama-30m, gpt2-124m, gpt2-774m, smollm-135m, llama-1b, llama-1.1b, llama-7b" },
    { LM_OPT_STR, "dtype", O(dtype), NULL, 0, 0, NULL, "T", "infer: auto, f32, bf16, Q8_0 …; train: f32, bf16, bf16_pure or fp8" },
    { LM_OPT_STR, "kv", O(kv), "f32", 0, 0, NULL, "T", "infer: key-value pages, f32, bf16, f16, q8_0 or q4_0" },
    { LM_OPT_STR, "device", O(device), "cpu", 0, 0, NULL, "NAME", "infer, train: where it runs: cpu, cuda or cuda:N" },
    { LM_OPT_STR, "load", O(load), "read", 0, 0, NULL, "HOW", "infer: weights read into memory, or map: used in the file, or read from it as they are used where they do not fit" },
    { LM_OPT_BYTES, "memory-budget", O(memory), "0", 0, 0, NULL, "BYTES", "infer: memory that a model may take; 0 = what is available now" },
    { LM_OPT_STR, "mesh", O(mesh), "", 0, 0, NULL, "KIND=N", "train: how N ranks share the work, as mesh of `loam train`; --batch is each rank's" },
    { LM_OPT_INT, "prompt", O(prompt), "512", 1, 1 << 24, NULL, "N", "infer: tokens of the prompt" },
    { LM_OPT_INT, "gen", O(gen), "128", 1, 1 << 24, NULL, "N", "infer: tokens generated, one at a time" },
    { LM_OPT_INT, "depth", O(depth), "0", 0, 1 << 24, NULL, "N", "infer: tokens already in the context when generation begins" },
    { LM_OPT_INT, "ahead", O(ahead), "0", 0, 1024, NULL, "N", "infer: also, runs over 1, 2 … N tokens of one sequence, all of their logits, as guesses are checked" },
    { LM_OPT_INT, "chunk", O(chunk), "512", 1, 1 << 20, NULL, "N", "infer: prompt tokens computed at a time" },
    { LM_OPT_INT, "seqs", O(seqs), "1", 1, 4096, NULL, "N", "infer: sequences side by side, each with its prompt and its tokens" },
    { LM_OPT_INT, "batch", O(batch), "4", 1, 1 << 16, NULL, "N", "train: sequences in a step" },
    { LM_OPT_INT, "seq", O(seq), "256", 1, 1 << 20, NULL, "N", "train: tokens in a sequence" },
    { LM_OPT_INT, "repeat", O(repeat), "3", 1, 1000, NULL, "N", "measurements; the median is reported" },
    { LM_OPT_STR, "data", O(data), NULL, 0, 0, NULL, "FILE", "tokenizer, loader: text to use instead of the program's own" },
    { LM_OPT_BOOL, "ops", O(ops), "false", 0, 0, NULL, NULL, "infer, train: seconds by operation, too" },
    { LM_OPT_BOOL, "deterministic", O(deterministic), "false", 0, 0, NULL, NULL, "infer: as --deterministic of `loam run`" },
    { LM_OPT_STR, "optim", O(optim), "adamw", 0, 0, NULL, "NAME", "train: adamw, or muon as in optim.name of `loam train`" },
    { LM_OPT_ENUM, "gather", O(gather), "auto", 0, 0, lm_gather_names, "WHEN", "train: as train.gather: auto, again or once" },
    { LM_OPT_INT, "recompute", O(recompute), "-1", -1, 4097, NULL, "N", "train: as train.recompute" },
    { LM_OPT_BOOL, "again", O(again), "false", 0, 0, NULL, NULL, "ceilings: measure again instead of reading what was kept" },
    LM_OPT_ROW_END
};

static int up(const void *a, const void *b) { double x = *(const double *)a, y = *(const double *)b; return x < y ? -1 : x > y; }
double lm_bench_median(double *v, int n) {
    qsort(v, (size_t)n, sizeof *v, up);
    return n < 1 ? 0 : n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}
static void number(lm_str *s, double v) { if (v > 0) lm_str_printf(s, "%.6g", v); else lm_str_puts(s, "null"); }
static const char *human(lm_arena *a, double v, const char *unit) {
    const struct { double f; const char *p; } u[] = { { 1e12, "T" }, { 1e9, "G" }, { 1e6, "M" } };
    for (int i = 0; i < 3; i++)
        if (v >= u[i].f && (!strcmp(unit, "FLOP/s") || !strcmp(unit, "OP/s") || !strcmp(unit, "B/s") || !strcmp(unit, "tokens/s")))
            return lm_arena_printf(a, "%.4g %s%s", v / u[i].f, u[i].p, unit);
    return lm_arena_printf(a, "%.4g %s", v, unit);
}
void lm_bench_put(lm_bench *b, const char *name, double value, const char *unit, double limit, double peer, const char *note) {
    lm_str *s = &b->json;
    if (b->quiet) return;
    lm_str_puts(s, b->n++ ? ",\n {\"name\": " : "\n {\"name\": "); lm_str_json(s, name, strlen(name));
    lm_str_printf(s, ", \"value\": %.6g, \"unit\": \"%s\", \"limit\": ", value, unit); number(s, limit);
    lm_str_puts(s, ", \"peer\": "); number(s, peer);
    lm_str_printf(s, ", \"suite\": \"%s\", \"note\": ", b->suite); lm_str_json(s, note ? note : "", note ? strlen(note) : 0); lm_str_putc(s, '}');
    char extra[160] = "";
    int n = 0;
    if (limit > 0) n += snprintf(extra + n, sizeof extra - (size_t)n, "  %3.0f%% of the limit", 100 * value / limit);
    if (peer > 0) snprintf(extra + n, sizeof extra - (size_t)n, "  %.2f × the peer", value / peer);
    const char *h = human(b->cli->a, value, unit);
    lm_cli_say(b->cli, "%-11s %-30s %-20s%s%s%s", b->suite, name, h ? h : "", extra, note ? "  " : "", note ? note : "");
}
static const lm_bench_suite *const groups[] = { lm_bench_core, lm_bench_model, lm_bench_text, lm_bench_lab5 };
static lm_err run(lm_cli *cli) {
    const lm_bench_opts *o = cli->opts;
    if (cli->pos.n > 1) return lm_cli_need(cli, 1, "one suite, or none for all");
    const char *want = cli->pos.n ? cli->pos.v[0] : NULL, *names[32]; int n = 0;
    bool known = !want;
    for (int g = 0; g < LM_COUNT(groups); g++)
        for (const lm_bench_suite *s = groups[g]; s->name; s++) {
            names[n++] = s->name;
            known |= want && !strcmp(s->name, want);
        }
    if (!known) {
        const char *near = lm_nearest(want, names, n);
        lm_str all = { .ctx = cli->ctx };
        for (int i = 0; i < n; i++) lm_str_printf(&all, "%s%s", i ? ", " : "", names[i]);
        lm_err e = lm_fail(cli->ctx, LM_E_CONFIG, "no suite is called \"%s\"%s%s; known: %s", want, near ? "; did you mean " : "",
                           near ? near : "", all.p ? all.p : "");
        lm_str_free(&all);
        return e;
    }
    lm_bench b = { .cli = cli, .o = o, .json = { .ctx = cli->ctx } };
    if (!want || !strcmp(o->device, "cpu") || (strcmp(want, "train") && strcmp(want, "infer")))
        LM_TRY(lm_cmd_machine(cli, o->again, &b.m)); /* a device states its own */
    lm_str_putc(&b.json, '[');
    lm_err err = LM_OK;
    for (int g = 0; g < LM_COUNT(groups) && !err; g++)
        for (const lm_bench_suite *s = groups[g]; s->name && !err; s++) {
            if (want && strcmp(s->name, want)) continue;
            if (lm_cli_stopped(cli)) { err = lm_cli_stop_err(cli); break; }
            b.suite = s->name;
            lm_cli_progress(cli, "%s: %s …", s->name, s->what);
            err = s->run(&b);
        }
    lm_str_puts(&b.json, "\n]");
    if (!err && !b.quiet) err = lm_cli_result(cli, &b.json);
    lm_str_free(&b.json);
    return err;
}
const lm_cmd lm_cmd_bench = { .name = "bench",
                              .summary = "measure this machine and this program on it",
                              .usage = "[SUITE] [options]",
                              .details = "Suites: ceilings, matmul, executor, plan, infer, train, tokenizer, loader, grammar, lab5; without one, all of "
                                         "them. A figure stands beside its limit on this machine (bytes over\n"
                                         "measured bandwidth, operations over the measured rate) and, where a peer's library is installed, "
                                         "beside the peer in the same run.\n"
                                         "lab5: one product of 4-bit weights and 8-bit activations, written six ways; the peer is the first of them.\n"
                                         "infer: prefill computes --prompt tokens from an empty context; decode then writes --gen tokens "
                                         "one at a time after --depth tokens of context.",
                              .opts = rows,
                              .opts_bytes = sizeof(lm_bench_opts),
                              .run = run };
