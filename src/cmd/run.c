/* run.c — `loam run`: text from a model. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "cmd/cmd_common.h"

typedef struct {
    lm_cli_common common; const char *prompt, *prompt_file, *dtype, *kv, *device; int64_t max_tokens, n, context, seed, top_k, window, logprobs;
    double temperature, top_p, min_p, repetition, presence, frequency; lm_strlist stop, bias; bool ignore_eos, stats;
} opts;
static const lm_opt rows[] = {
    LM_CLI_COMMON(opts),
    { LM_OPT_STR, "prompt", offsetof(opts, prompt), NULL, 0, 0, NULL, "TEXT", "how the text begins" },
    { LM_OPT_STR, "prompt-file", offsetof(opts, prompt_file), NULL, 0, 0, NULL, "FILE", "the prompt from a file" },
    { LM_OPT_INT, "max-tokens", offsetof(opts, max_tokens), "128", 1, 1 << 24, NULL, "N", "tokens to write at most" },
    { LM_OPT_INT, "n", offsetof(opts, n), "1", 1, 1024, NULL, "N", "texts from the one prompt, side by side" },
    { LM_OPT_INT, "context", offsetof(opts, context), "0", 0, 1 << 28, NULL, "N", "tokens of context; 0 = what the model states" },
    { LM_OPT_STR, "dtype", offsetof(opts, dtype), "auto", 0, 0, NULL, "T", "weights: auto (as stored), f32, bf16, or a quantized format such as Q8_0" },
    { LM_OPT_STR, "device", offsetof(opts, device), "cpu", 0, 0, NULL, "NAME", "where it runs: cpu, cuda or cuda:N" },
    { LM_OPT_STR, "kv", offsetof(opts, kv), "f32", 0, 0, NULL, "T", "key-value pages: f32 or bf16" },
    { LM_OPT_FLOAT, "temperature", offsetof(opts, temperature), "0.8", 0, 100, NULL, "X", "0 = always the most likely token" },
    { LM_OPT_INT, "top-k", offsetof(opts, top_k), "0", 0, 1 << 28, NULL, "N", "only the N most likely; 0 = off" },
    { LM_OPT_FLOAT, "top-p", offsetof(opts, top_p), "0.95", 0, 1, NULL, "X", "only the most likely with this sum; 1 = off" },
    { LM_OPT_FLOAT, "min-p", offsetof(opts, min_p), "0.05", 0, 1, NULL, "X", "only tokens this share as likely as the best; 0 = off" },
    { LM_OPT_FLOAT, "repetition-penalty", offsetof(opts, repetition), "1", 0.01, 100, NULL, "X", "divides the logits of tokens seen; 1 = off" },
    { LM_OPT_FLOAT, "presence-penalty", offsetof(opts, presence), "0", -100, 100, NULL, "X", "subtracted from tokens seen" },
    { LM_OPT_FLOAT, "frequency-penalty", offsetof(opts, frequency), "0", -100, 100, NULL, "X", "subtracted for each time seen" },
    { LM_OPT_INT, "penalty-window", offsetof(opts, window), "0", 0, 1 << 28, NULL, "N", "tokens the penalties look back at; 0 = all" },
    { LM_OPT_STRLIST, "logit-bias", offsetof(opts, bias), NULL, 0, 0, NULL, "ID=X", "add X to a token's logit (may be repeated; -inf forbids)" },
    { LM_OPT_INT, "seed", offsetof(opts, seed), "1", 0, 1ll << 62, NULL, "N", "decides every draw" },
    { LM_OPT_STRLIST, "stop", offsetof(opts, stop), NULL, 0, 0, NULL, "TEXT", "end before this text (may be repeated)" },
    { LM_OPT_BOOL, "ignore-eos", offsetof(opts, ignore_eos), "false", 0, 0, NULL, NULL, "go on past the end token" },
    { LM_OPT_INT, "logprobs", offsetof(opts, logprobs), "-1", -1, 100, NULL, "N", "report log-probabilities, and those of the N best; -1 = none" },
    { LM_OPT_BOOL, "stats", offsetof(opts, stats), "false", 0, 0, NULL, NULL, "print rates at the end" },
    LM_OPT_ROW_END };

static lm_err parse_bias(lm_cli *cli, const opts *o, int32_t *id, float *x) {
    for (int i = 0; i < o->bias.n; i++) {
        char *end;
        const char *s = o->bias.v[i];
        long v = strtol(s, &end, 10);
        if (end == s || (*end != '=' && *end != ':') || v < 0 || v > INT32_MAX) return lm_fail(cli->ctx, LM_E_CONFIG, "--logit-bias \"%s\": wanted ID=NUMBER", s);
        const char *num = end + 1;
        x[i] = strtof(num, &end);
        if (end == num || *end) return lm_fail(cli->ctx, LM_E_CONFIG, "--logit-bias \"%s\": wanted ID=NUMBER", s);
        id[i] = (int32_t)v;
    }
    return LM_OK;
}
static int print_text(void *ud, int i, const char *p, size_t n) { (void)ud; (void)i; fwrite(p, 1, n, stdout); fflush(stdout); return 0; }
static void number(lm_str *s, double v) { if (v > -1e30 && v < 1e30) lm_str_printf(s, "%.9g", v); else lm_str_puts(s, "null"); }
static void one(lm_str *s, const lm_tok *tok, const lm_generated *g, int n_top, bool lp) {
    lm_str_puts(s, "\"tokens\": [");
    for (int64_t i = 0; i < g->n; i++) lm_str_printf(s, i ? ", %d" : "%d", g->tokens[i]);
    lm_str_puts(s, "], \"text\": "); lm_str_json(s, g->text ? g->text : "", g->text_bytes);
    lm_str_printf(s, ", \"finish_reason\": \"%s\"", lm_stop_name(g->why));
    if (!lp) return;
    lm_str_puts(s, ", \"logprobs\": [");
    for (int64_t i = 0; i < g->n; i++) { if (i) lm_str_puts(s, ", "); number(s, (double)g->logprobs[i]); }
    lm_str_puts(s, "]");
    if (n_top < 1) return;
    lm_str_puts(s, ", \"top_logprobs\": [");
    for (int64_t i = 0; i < g->n; i++) {
        lm_str_puts(s, i ? ", [" : "[");
        for (int k = 0; k < n_top; k++) {
            size_t len; const char *piece = lm_tok_piece(tok, g->top_id[i * n_top + k], &len);
            lm_str_printf(s, "%s{\"id\": %d, \"text\": ", k ? ", " : "", g->top_id[i * n_top + k]);
            lm_str_json(s, piece ? piece : "", piece ? len : 0); lm_str_puts(s, ", \"logprob\": "); number(s, (double)g->top_lp[i * n_top + k]); lm_str_putc(s, '}');
        }
        lm_str_putc(s, ']');
    }
    lm_str_puts(s, "]");
}
static lm_err run(lm_cli *cli) {
    const opts *o = cli->opts;
    LM_TRY(lm_cli_need(cli, 1, "one model: a Hugging Face folder, a GGUF file or a llama2.c checkpoint"));
    if (o->prompt && o->prompt_file) return lm_fail(cli->ctx, LM_E_CONFIG, "--prompt and --prompt-file exclude each other");
    lm_cmd_model m;
    char *file = NULL; size_t n = o->prompt ? strlen(o->prompt) : 0;
    lm_tok_buf ids = { .ctx = cli->ctx };
    lm_generation g = {0};
    lm_str out = { .ctx = cli->ctx };
    lm_err err;
    LM_TRY(lm_cmd_model_open(cli, cli->pos.v[0], &(lm_cmd_model_opts){ .dtype = o->dtype, .kv = o->kv, .context = o->context, .max_seqs = o->n, .need_tok = true, .device = o->device }, &m));
    int32_t *bias_id = lm_arena_alloc(cli->a, (size_t)(o->bias.n + 1) * sizeof *bias_id);
    float *bias = lm_arena_alloc(cli->a, (size_t)(o->bias.n + 1) * sizeof *bias);
    if (!bias_id || !bias) { err = LM_E_NOMEM; goto done; }
    LM_GOTO(parse_bias(cli, o, bias_id, bias), done);
    if (o->prompt_file) LM_GOTO(lm_file_read_all(cli->ctx, o->prompt_file, 1 << 30, &file, &n), done);
    const char *text = file ? file : o->prompt ? o->prompt : "";
    LM_GOTO(lm_cmd_prompt(cli, m.tok, text, n, &ids), done);
    const lm_generate_opts go = { .max_tokens = o->max_tokens, .n = (int)o->n, .ignore_eos = o->ignore_eos, .want_logprobs = o->logprobs >= 0, .top_logprobs = o->logprobs > 0 ? (int)o->logprobs : 0,
        .sample = { .temperature = o->temperature, .top_p = o->top_p, .min_p = o->min_p, .repetition = o->repetition, .presence = o->presence, .frequency = o->frequency, .top_k = o->top_k,
                    .penalty_window = o->window, .seed = (uint64_t)o->seed, .bias_id = bias_id, .bias = bias, .n_bias = o->bias.n },
        .stop = o->stop.v, .n_stop = o->stop.n, .text = !cli->json && o->n == 1 ? print_text : NULL, .cancel = cli->stop };
    if (!cli->json && o->n == 1) { fwrite(text, 1, n, stdout); fflush(stdout); }
    LM_GOTO(lm_generate(m.e, m.tok, ids.id, (int64_t)ids.n, &go, &g), done);
    int64_t made = 0;
    for (int i = 0; i < g.n; i++) made += g.out[i].n;
    if (cli->json) {
        lm_str_putc(&out, '{');
        one(&out, m.tok, &g.out[0], go.top_logprobs, o->logprobs >= 0);
        if (g.n > 1) {
            lm_str_puts(&out, ", \"choices\": [");
            for (int i = 0; i < g.n; i++) { lm_str_puts(&out, i ? ", {" : "{"); one(&out, m.tok, &g.out[i], go.top_logprobs, o->logprobs >= 0); lm_str_putc(&out, '}'); }
            lm_str_puts(&out, "]");
        }
        lm_str_printf(&out, ", \"prompt_tokens\": %lld, \"load_s\": %.4f, \"prefill_s\": %.4f, \"decode_s\": %.4f, \"decode_tok_s\": %.2f}", (long long)g.prompt_tokens, m.load_s, g.prefill_s, g.decode_s,
                      g.decode_s > 0 ? (double)(made - g.n) / g.decode_s : 0.0);
        err = lm_cli_result(cli, &out);
    } else {
        if (g.n == 1) putchar('\n');
        else for (int i = 0; i < g.n; i++) printf("[%d] %s%.*s\n", i + 1, text, (int)g.out[i].text_bytes, g.out[i].text);
        if (o->stats)
            fprintf(stderr, "loaded in %s · prompt %lld tokens in %s · %lld tokens at %.1f tok/s\n", lm_cli_time(cli->a, m.load_s), (long long)g.prompt_tokens, lm_cli_time(cli->a, g.prefill_s),
                    (long long)made, g.decode_s > 0 ? (double)(made - g.n) / g.decode_s : 0.0);
    }
done:
    lm_str_free(&out); lm_free(cli->ctx, file); lm_tok_buf_free(&ids);
    if (g.a) lm_generation_free(&g);
    lm_cmd_model_close(&m);
    return err;
}
const lm_cmd lm_cmd_run = { .name = "run", .summary = "write text with a model", .usage = "MODEL [--prompt TEXT] [options]",
    .details = "MODEL is a Hugging Face folder, a GGUF file, or a llama2.c checkpoint with its tokenizer beside it. The same seed gives the same text.",
    .opts = rows, .opts_bytes = sizeof(opts), .run = run };
