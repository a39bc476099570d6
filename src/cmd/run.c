/* run.c — `loam run`: text from a model, by loam.h. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "cmd/cmd_common.h"
#include "cmd/cmd_shipped.h"
#include "cmd/cmd_text.h"
#include "grammar/grammar.h"

enum { MAX_PROMPT = 1 << 30 };
typedef struct {
    lm_cli_common common; const char *prompt, *prompt_file, *dtype, *kv, *device, *load; int64_t max_tokens, n, context, memory, seed, top_k, window, logprobs;
    double temperature, top_p, min_p, repetition, presence, frequency, typical, xtc, xtc_threshold, dry, dry_base; lm_strlist stop, bias; bool ignore_eos, stats;
    const char *grammar, *schema, *regex, *draft, *speculate; int64_t dry_length, draft_max;
} opts;
static const lm_opt rows[] = {
    LM_CLI_COMMON(opts),
    { LM_OPT_STR, "prompt", offsetof(opts, prompt), NULL, 0, 0, NULL, "TEXT", "how the text begins; - reads it from standard input" },
    { LM_OPT_STR, "prompt-file", offsetof(opts, prompt_file), NULL, 0, 0, NULL, "FILE", "the prompt from a file; - is standard input" },
    { LM_OPT_INT, "max-tokens", offsetof(opts, max_tokens), "128", 1, 1 << 24, NULL, "N", "tokens to write at most" },
    { LM_OPT_INT, "n", offsetof(opts, n), "1", 1, 1024, NULL, "N", "texts from the one prompt, side by side" },
    { LM_OPT_INT, "context", offsetof(opts, context), "0", 0, 1 << 28, NULL, "N", "tokens of context; 0 = what the model states" },
    { LM_OPT_STR, "dtype", offsetof(opts, dtype), "auto", 0, 0, NULL, "T",
      "weights: auto (as stored), f32, bf16, or a quantized format such as Q8_0" },
    { LM_OPT_STR, "device", offsetof(opts, device), "cpu", 0, 0, NULL, "NAME", "where it runs: cpu, cuda or cuda:N" },
    { LM_OPT_STR, "load", offsetof(opts, load), "read", 0, 0, NULL, "HOW",
      "weights: read into memory, or map: used where they lie in the file, which must then stay as it is; what does not fit into memory is read as it is used" },
    { LM_OPT_BYTES, "memory-budget", offsetof(opts, memory), "0", 0, 0, NULL, "BYTES", "memory that the model may take; 0 = what is available now" },
    { LM_OPT_STR, "kv", offsetof(opts, kv), "f32", 0, 0, NULL, "T", "key-value pages: f32, bf16, f16, q8_0 or q4_0" },
    { LM_OPT_FLOAT, "temperature", offsetof(opts, temperature), "0.8", 0, 100, NULL, "X", "0 = always the most likely token" },
    { LM_OPT_INT, "top-k", offsetof(opts, top_k), "0", 0, 1 << 28, NULL, "N", "only the N most likely; 0 = off" },
    { LM_OPT_FLOAT, "top-p", offsetof(opts, top_p), "0.95", 0, 1, NULL, "X", "only the most likely with this sum; 1 = off" },
    { LM_OPT_FLOAT, "min-p", offsetof(opts, min_p), "0.05", 0, 1, NULL, "X", "only tokens this share as likely as the best; 0 = off" },
    { LM_OPT_FLOAT, "typical-p", offsetof(opts, typical), "1", 0, 1, NULL, "X", "only the tokens of most usual surprise with this sum; 1 = off" },
    { LM_OPT_FLOAT, "xtc-probability", offsetof(opts, xtc), "0", 0, 1, NULL, "X", "how often the top choices are left out but for the last of them; 0 = off" },
    { LM_OPT_FLOAT, "xtc-threshold", offsetof(opts, xtc_threshold), "0.1", 0, 1, NULL, "X", "the probability that makes a token a top choice" },
    { LM_OPT_FLOAT, "repetition-penalty", offsetof(opts, repetition), "1", 0.01, 100, NULL, "X",
      "divides the logits of tokens seen; 1 = off" },
    { LM_OPT_FLOAT, "presence-penalty", offsetof(opts, presence), "0", -100, 100, NULL, "X", "subtracted from tokens seen" },
    { LM_OPT_FLOAT, "frequency-penalty", offsetof(opts, frequency), "0", -100, 100, NULL, "X", "subtracted for each time seen" },
    { LM_OPT_INT, "penalty-window", offsetof(opts, window), "0", 0, 1 << 28, NULL, "N", "tokens the penalties look back at; 0 = all" },
    { LM_OPT_FLOAT, "dry-multiplier", offsetof(opts, dry), "0", 0, 100, NULL, "X",
        "against repeated passages: subtracted from what would carry one on; 0 = off, 0.8 is usual" },
    { LM_OPT_FLOAT, "dry-base", offsetof(opts, dry_base), "1.75", 1, 100, NULL, "X", "times this for each token that the passage is longer" },
    { LM_OPT_INT, "dry-length", offsetof(opts, dry_length), "2", 1, 1 << 28, NULL, "N", "shorter passages may be repeated" },
    { LM_OPT_STRLIST, "logit-bias", offsetof(opts, bias), NULL, 0, 0, NULL, "ID=X",
      "add X to a token's logit (may be repeated; -inf forbids)" },
    { LM_OPT_INT, "seed", offsetof(opts, seed), "1", 0, 1ll << 62, NULL, "N", "decides every draw" },
    { LM_OPT_STRLIST, "stop", offsetof(opts, stop), NULL, 0, 0, NULL, "TEXT", "end before this text (may be repeated)" },
    { LM_OPT_BOOL, "ignore-eos", offsetof(opts, ignore_eos), "false", 0, 0, NULL, NULL, "go on past the end token" },
    { LM_OPT_INT, "logprobs", offsetof(opts, logprobs), "-1", -1, 100, NULL, "N",
      "report log-probabilities, and those of the N best; -1 = none" },
    { LM_OPT_STR, "grammar", offsetof(opts, grammar), NULL, 0, 0, NULL, "FILE", "the text must be a sentence of this grammar (GBNF, llama.cpp's notation)" },
    { LM_OPT_STR, "schema", offsetof(opts, schema), NULL, 0, 0, NULL, "FILE", "the text must be JSON that satisfies this JSON Schema" },
    { LM_OPT_STR, "regex", offsetof(opts, regex), NULL, 0, 0, NULL, "RE", "the text must match this regular expression from end to end" },
    { LM_OPT_STR, "speculate", offsetof(opts, speculate), NULL, 0, 0, NULL, "HOW",
      "guess ahead: draft (a small model, --draft) or lookup (what followed the last tokens before); the same text, sooner where guesses come true" },
    { LM_OPT_STR, "draft", offsetof(opts, draft), NULL, 0, 0, NULL, "MODEL", "the small model; best with the same vocabulary; given alone it means --speculate draft" },
    { LM_OPT_INT, "draft-max", offsetof(opts, draft_max), "8", 1, 16, NULL, "N", "tokens guessed ahead at most" },
    { LM_OPT_BOOL, "stats", offsetof(opts, stats), "false", 0, 0, NULL, NULL, "print rates at the end" },
    LM_OPT_ROW_END
};

static lm_err parse_bias(lm_cli *cli, const opts *o, int32_t *id, float *x) {
    for (int i = 0; i < o->bias.n; i++) {
        char *end;
        const char *s = o->bias.v[i];
        long v = strtol(s, &end, 10);
        if (end == s || (*end != '=' && *end != ':') || v < 0 || v > INT32_MAX)
            return lm_fail(cli->ctx, LM_E_CONFIG, "--logit-bias \"%s\": wanted ID=NUMBER", s);
        const char *num = end + 1;
        x[i] = strtof(num, &end);
        if (end == num || *end) return lm_fail(cli->ctx, LM_E_CONFIG, "--logit-bias \"%s\": wanted ID=NUMBER", s);
        id[i] = (int32_t)v;
    }
    return LM_OK;
}
/* nobody reads any more: no reason to go on */
static int print_text(void *ud, int i, const char *p, size_t n) {
    (void)ud;
    (void)i;
    fwrite(p, 1, n, stdout);
    return fflush(stdout) || ferror(stdout);
}
static void number(lm_str *s, double v) { if (v > -1e30 && v < 1e30) lm_str_printf(s, "%.9g", v); else lm_str_puts(s, "null"); }
static void one(lm_str *s, const loam_tokenizer *tok, const loam_text *t) {
    lm_str_puts(s, "\"tokens\": [");
    for (size_t i = 0; i < t->n_tokens; i++) lm_str_printf(s, i ? ", %d" : "%d", t->tokens[i]);
    lm_str_puts(s, "], \"text\": "); lm_str_json(s, t->text, t->bytes);
    lm_str_printf(s, ", \"finish_reason\": \"%s\"", t->finish);
    if (t->runs) lm_str_printf(s, ", \"runs\": %lld, \"drafted\": %lld, \"kept\": %lld", (long long)t->runs, (long long)t->drafted, (long long)t->kept);
    if (!t->logprobs) return;
    lm_str_puts(s, ", \"logprobs\": [");
    for (size_t i = 0; i < t->n_tokens; i++) { if (i) lm_str_puts(s, ", "); number(s, (double)t->logprobs[i]); }
    lm_str_puts(s, "]");
    if (!t->n_top) return;
    lm_str_puts(s, ", \"top_logprobs\": [");
    for (size_t i = 0; i < t->n_tokens; i++) {
        lm_str_puts(s, i ? ", [" : "[");
        for (size_t k = i * (size_t)t->n_top; k < (i + 1) * (size_t)t->n_top; k++) {
            size_t len = 0; const char *piece = loam_token_text(tok, t->top_tokens[k], &len);
            lm_str_printf(s, "%s{\"id\": %d, \"text\": ", k % (size_t)t->n_top ? ", " : "", t->top_tokens[k]);
            lm_str_json(s, piece ? piece : "", piece ? len : 0);
            lm_str_puts(s, ", \"logprob\": ");
            number(s, (double)t->top_logprobs[k]);
            lm_str_putc(s, '}');
        }
        lm_str_putc(s, ']');
    }
    lm_str_puts(s, "]");
}
static lm_err result(lm_cli *cli, const opts *o, const loam_model *m, const loam_text *t, const char *prompt, double load_s) {
    const loam_tokenizer *tok = loam_model_tokenizer(m);
    size_t made = 0;
    for (int i = 0; i < (int)o->n; i++) made += t[i].n_tokens;
    /* the first tokens belong to the prefill */
    const double rate = t->decode_seconds > 0 ? (double)(made - (size_t)o->n) / t->decode_seconds : 0;
    if (!cli->json) {
        if (o->n == 1) putchar('\n');
        else for (int i = 0; i < (int)o->n; i++) { printf("[%d] %s", i + 1, prompt); fwrite(t[i].text, 1, t[i].bytes, stdout); putchar('\n'); }
        if (o->stats)
            fprintf(stderr, "loaded in %s · prompt %lld tokens in %s · %zu tokens at %.1f tok/s\n", lm_cli_time(cli->a, load_s),
                    (long long)t->prompt_tokens, lm_cli_time(cli->a, t->prefill_seconds), made, rate);
        int64_t runs = 0, drafted = 0, kept = 0;
        for (int i = 0; i < (int)o->n; i++) { runs += t[i].runs; drafted += t[i].drafted; kept += t[i].kept; }
        if (o->stats && (o->draft || o->speculate))
            fprintf(stderr, "%lld runs of the model · %lld tokens guessed, %lld (%.0f %%) of them kept\n", (long long)runs, (long long)drafted, (long long)kept,
                    drafted ? 100.0 * (double)kept / (double)drafted : 0);
        for (int i = 0; i < (int)o->n; i++)
            if ((o->grammar || o->schema || o->regex) && !strcmp(t[i].finish, "length")) {
                fprintf(stderr, "loam run: cut at --max-tokens %lld: the text is only the beginning of what was asked for\n", (long long)o->max_tokens);
                break;
            }
        return LM_OK;
    }
    lm_str s = { .ctx = cli->ctx };
    lm_str_putc(&s, '{'); one(&s, tok, t);
    if (o->n > 1) {
        lm_str_puts(&s, ", \"choices\": [");
        for (int i = 0; i < (int)o->n; i++) { lm_str_puts(&s, i ? ", {" : "{"); one(&s, tok, &t[i]); lm_str_putc(&s, '}'); }
        lm_str_puts(&s, "]");
    }
    lm_str_printf(&s, ", \"prompt_tokens\": %lld, \"load_s\": %.4f, \"prefill_s\": %.4f, \"decode_s\": %.4f, \"decode_tok_s\": %.2f}",
                  (long long)t->prompt_tokens, load_s, t->prefill_seconds, t->decode_seconds, rate);
    lm_err err = lm_cli_result(cli, &s);
    lm_str_free(&s);
    return err;
}
static lm_err read_prompt(lm_cli *cli, const opts *o, char **owned, const char **text, size_t *n) {
    const char *file = o->prompt_file ? o->prompt_file : o->prompt && !strcmp(o->prompt, "-") ? "-" : NULL;
    *text = o->prompt ? o->prompt : ""; *n = strlen(*text);
    if (!file) return LM_OK;
    LM_TRY(!strcmp(file, "-") ? lm_cli_stdin(cli, MAX_PROMPT, owned, n) : lm_file_read_all(cli->ctx, file, MAX_PROMPT, owned, n));
    *text = *owned;
    return LM_OK;
}
static lm_err grammar(lm_cli *cli, const opts *o, loam_model *m, loam_grammar **out) {
    const char *file = o->grammar ? o->grammar : o->schema, *kind = o->grammar ? "gbnf" : o->schema ? "schema" : "regex";
    char *owned = NULL;
    size_t n = o->regex ? strlen(o->regex) : 0;
    if (!file && !o->regex) return LM_OK;
    if (file) LM_TRY(lm_file_read_all(cli->ctx, file, LM_GRAMMAR_BYTES, &owned, &n));
    const lm_err e = (lm_err)loam_grammar_new(out, m, kind, file ? file : "--regex", file ? owned : o->regex, n);
    lm_free(cli->ctx, owned);
    return e;
}
static lm_err run(lm_cli *cli) {
    const opts *o = cli->opts;
    const char *model, *draft = NULL;
    if (cli->pos.n > 1) return lm_cli_need(cli, 1, "one model: a Hugging Face folder, a GGUF file or a llama2.c checkpoint");
    LM_TRY(lm_cmd_model_path(cli, cli->pos.n ? cli->pos.v[0] : NULL, &model));
    if (o->prompt && o->prompt_file) return lm_fail(cli->ctx, LM_E_CONFIG, "--prompt and --prompt-file exclude each other");
    if ((o->grammar != NULL) + (o->schema != NULL) + (o->regex != NULL) > 1)
        return lm_fail(cli->ctx, LM_E_CONFIG, "--grammar, --schema and --regex exclude each other");
    if (o->draft) LM_TRY(lm_cmd_model_path(cli, o->draft, &draft));
    int32_t *bias_id = lm_arena_alloc(cli->a, (size_t)(o->bias.n + 1) * sizeof *bias_id);
    float *bias = lm_arena_alloc(cli->a, (size_t)(o->bias.n + 1) * sizeof *bias);
    loam_text *texts = lm_arena_alloc(cli->a, (size_t)o->n * sizeof *texts);
    if (!bias_id || !bias || !texts) return LM_E_NOMEM;
    LM_TRY(parse_bias(cli, o, bias_id, bias));
    loam_context ctx = { .ctx = cli->ctx };
    loam_model *m = NULL, *small = NULL;
    loam_grammar *g = NULL;
    char *owned = NULL; const char *text; size_t n;
    lm_err err;
    LM_GOTO(read_prompt(cli, o, &owned, &text, &n), done);
    double load_s = lm_now();
    LM_GOTO((lm_err)loam_model_open(&m, &ctx, model,
                                    &(loam_model_options){ .size = sizeof(loam_model_options),
                                                           .dtype = o->dtype,
                                                           .kv = o->kv,
                                                           .load = o->load,
                                                           .context = o->context,
                                                           .memory = o->memory,
                                                           .sessions = o->n,
                                                           .device = o->device }),
            done);
    if (draft)
        LM_GOTO((lm_err)loam_model_open(&small, &ctx, draft,
                                        &(loam_model_options){ .size = sizeof(loam_model_options), .dtype = o->dtype, .kv = o->kv, .load = o->load,
                                            .sessions = o->n, .device = o->device }),
                done);
    LM_GOTO(grammar(cli, o, m, &g), done);
    load_s = lm_now() - load_s;
    const bool stream = !cli->json && o->n == 1;
    const loam_generate_options go = { .size = sizeof go,
                                       .max_tokens = o->max_tokens,
                                       .temperature = o->temperature,
                                       .top_p = o->top_p,
                                       .min_p = o->min_p,
                                       .repetition_penalty = o->repetition,
                                       .top_k = o->top_k,
                                       .seed = (uint64_t)o->seed,
                                       .stop = o->stop.v,
                                       .n_stop = o->stop.n,
                                       .on_text = stream ? print_text : NULL,
                                       .n = (int)o->n,
                                       .presence_penalty = o->presence,
                                       .frequency_penalty = o->frequency,
                                       .penalty_window = o->window,
                                       .bias_ids = bias_id,
                                       .biases = bias,
                                       .n_bias = o->bias.n,
                                       .ignore_eos = o->ignore_eos,
                                       .logprobs = (int)o->logprobs + 1,
                                       .cancel = cli->stop,
                                       .grammar = g,
                                       .speculate = o->speculate,
                                       .draft = small,
                                       .draft_tokens = (int)o->draft_max,
                                       .typical_p = o->typical,
                                       .xtc_probability = o->xtc,
                                       .xtc_threshold = o->xtc_threshold,
                                       .dry_multiplier = o->dry,
                                       .dry_base = o->dry_base,
                                       .dry_length = o->dry_length };
    if (stream) { fwrite(text, 1, n, stdout); fflush(stdout); }
    LM_GOTO((lm_err)loam_generate(m, text, n, &go, texts), done);
    err = result(cli, o, m, texts, text, load_s);
    if (!err && *cli->stop) err = lm_cli_stop_err(cli);
done:
    for (int i = 0; i < (int)o->n; i++) loam_text_free(&texts[i]);
    lm_free(cli->ctx, owned); loam_grammar_free(g); loam_model_free(small); loam_model_free(m);
    return err;
}
const lm_cmd lm_cmd_run = { .name = "run",
                            .summary = "write text with a model",
                            .usage = "[MODEL] [--prompt TEXT] [options]",
                            .details = "MODEL is a Hugging Face folder, a GGUF file, a llama2.c checkpoint with its tokenizer beside it, or "
                                       "a shipped model: loam-30m (the default), loam-3m. The same seed gives the same text.",
                            .opts = rows,
                            .opts_bytes = sizeof(opts),
                            .run = run };
