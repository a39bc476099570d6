/* quantize.c — `loam quantize`: a model to GGUF in a mix of quantized formats, with the error of every tensor.
 *
 * The work is model_quantize's: one tensor in memory at a time, the same bytes for any number of threads, nothing under OUT before it is whole. */
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "cmd/cmd_common.h"
#include "cmd/cmd_text.h"
#include "cmd/cmd_tok.h"
#include "eval/perplexity.h"
#include "model/model_quantize.h"

typedef struct { lm_cli_common common; const char *type, *imatrix, *data, *field, *tokenizer; bool pure, no_tok, force; int64_t window; } opts;
static const lm_opt rows[] = {
    LM_CLI_COMMON(opts),
    { LM_OPT_STR, "type", offsetof(opts, type), "Q4_K_M", 0, 0, NULL, "T",
      "a mix: Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q4_K_M, Q4_K_S, Q3_K_L, Q3_K_M, Q3_K_S, Q2_K, IQ4_XS, IQ4_NL, Q4_0 …" },
    { LM_OPT_BOOL, "pure", offsetof(opts, pure), "false", 0, 0, NULL, NULL, "every matrix in the one format --type names, no mix" },
    { LM_OPT_STR, "imatrix", offsetof(opts, imatrix), NULL, 0, 0, NULL, "FILE",
      "importance of the inputs of each matrix, as llama.cpp's tool writes it (either format)" },
    { LM_OPT_STR, "data", offsetof(opts, data), NULL, 0, 0, NULL, "PATH", "a text to measure perplexity on, before and after" },
    { LM_OPT_STR, "field", offsetof(opts, field), "text", 0, 0, NULL, "NAME", "member of a JSONL line that holds the text" },
    { LM_OPT_INT, "window", offsetof(opts, window), "0", 0, 1 << 24, NULL, "N",
      "perplexity: tokens looked back at; 0 = the model's context, 2048 at most" },
    { LM_OPT_STR, "tokenizer", offsetof(opts, tokenizer), NULL, 0, 0, NULL, "PATH", "take the tokenizer from here" },
    { LM_OPT_BOOL, "no-tokenizer", offsetof(opts, no_tok), "false", 0, 0, NULL, NULL, "write weights and configuration only" },
    { LM_OPT_BOOL, "force", offsetof(opts, force), "false", 0, 0, NULL, NULL, "replace OUT if it is there" },
    LM_OPT_ROW_END
};
typedef struct { lm_cli *cli; const opts *o; lm_cmd_tok_arg tok; int64_t window; double before, after; } job;

static lm_err metadata(void *ud, lm_gguf_writer *w) { return lm_cmd_tok_metadata(&((job *)ud)->tok, w); }
static bool progress(void *ud, const lm_quantized *t, int i, int n) {
    job *j = ud;
    lm_cli_progress(j->cli, "%d/%d %s %s", i + 1, n, t->name, t->quant ? t->quant->name : lm_dtype_name(t->dtype));
    return !lm_cli_stopped(j->cli);
}
static bool go_on(void *ud, int64_t done, int64_t total, double rate, double nll) {
    lm_cli *cli = ud;
    lm_cli_progress(cli, "perplexity: %lld/%lld tokens · %.0f tok/s · %.4f nats", (long long)done, (long long)total, rate, nll);
    return !lm_cli_stopped(cli);
}
static lm_err measure(job *j, const char *path, double *ppl) {
    lm_cmd_model m;
    const lm_cmd_model_opts mo = { .dtype = "auto", .kv = "f32", .context = j->window, .chunk = 256, .rows = j->window, .need_tok = false };
    LM_TRY(lm_cmd_model_open(j->cli, path, &mo, &m));
    const lm_perplexity_opts po = {
        .window = j->window, .add_bos = lm_tok_adds_bos(j->tok.tok), .field = j->o->field, .progress = go_on, .ud = j->cli };
    lm_perplexity p;
    const lm_err err = lm_eval_perplexity_file(j->cli->ctx, m.e, j->tok.tok, j->o->data, &po, &p);
    if (!err) *ppl = p.ppl;
    lm_cmd_model_close(&m);
    return err;
}
static lm_err whole(void *ud, const char *part) {
    job *j = ud;
    if (!j->o->data) return LM_OK;
    LM_TRY(measure(j, part, &j->after));
    return lm_gguf_patch(j->cli->ctx, part, "loam.quantize.perplexity", LM_GGUF_F64, (double[2]){ j->before, j->after }, 2);
}
static void number(lm_str *s, const char *key, double v) {
    lm_str_printf(s, ", \"%s\": ", key);
    if (isfinite(v)) lm_str_printf(s, "%.9g", v); else lm_str_puts(s, "null");
}
static lm_err say(job *j, const char *out, const lm_quantized *t, int n, double seconds) {
    lm_cli *cli = j->cli;
    lm_str s = { .ctx = cli->ctx };
    double bytes = 0, numbers = 0;
    lm_cli_progress_end(cli);
    lm_str_puts(&s, "{\"out\": "); lm_str_json(&s, out, strlen(out));
    lm_str_puts(&s, ", \"type\": "); lm_str_json(&s, j->o->type, strlen(j->o->type));
    lm_str_puts(&s, ", \"tensors\": [");
    lm_cli_say(cli, "%-34s %-8s %12s %12s %10s", "tensor", "type", "numbers", "bytes", "error");
    for (int i = 0; i < n; i++) {
        const char *type = t[i].quant ? t[i].quant->name : lm_dtype_name(t[i].dtype);
        bytes += (double)t[i].bytes; numbers += (double)t[i].numbers;
        if (i) lm_str_putc(&s, ',');
        lm_str_puts(&s, "\n {\"name\": "); lm_str_json(&s, t[i].name, strlen(t[i].name));
        lm_str_printf(&s, ", \"type\": \"%s\", \"numbers\": %lld, \"bytes\": %lld", type, (long long)t[i].numbers, (long long)t[i].bytes);
        const char *instead = t[i].quant != t[i].wanted ? t[i].wanted->name : NULL;
        if (t[i].quant) {
            number(&s, "rmse", t[i].rmse); number(&s, "relative", t[i].relative);
            if (t[i].weighted) number(&s, "weighted_rmse", t[i].weighted_rmse);
        }
        if (instead) lm_str_printf(&s, ", \"instead_of\": \"%s\"", instead);
        if (t[i].quant || instead)
            lm_cli_say(cli, "%-34s %-8s %12lld %12lld %9.3f%%%s%s", t[i].name, type, (long long)t[i].numbers, (long long)t[i].bytes,
                       100 * t[i].relative, instead ? "  instead of " : "", instead ? instead : "");
        lm_str_putc(&s, '}');
    }
    lm_str_printf(&s, "],\n \"bytes\": %.0f, \"bits\": %.4f", bytes, numbers > 0 ? 8 * bytes / numbers : 0);
    if (j->o->data) { number(&s, "ppl_before", j->before); number(&s, "ppl_after", j->after); }
    lm_str_printf(&s, ", \"tokenizer\": %s, \"seconds\": %.3f}", j->tok.tok ? "true" : "false", seconds);
    lm_cli_say(cli, "%s: %s, %s, %.3f bits a number, in %s%s", out, j->o->type, lm_cli_bytes(cli->a, bytes), numbers > 0 ? 8 * bytes / numbers : 0,
               lm_cli_time(cli->a, seconds), j->tok.tok ? ", with its tokenizer" : "");
    if (j->o->data) lm_cli_say(cli, "perplexity %.4f before, %.4f after (%+.2f %%)", j->before, j->after, 100 * (j->after / j->before - 1));
    const lm_err err = lm_cli_result(cli, &s);
    lm_str_free(&s);
    return err;
}
static lm_err run(lm_cli *cli) {
    const opts *o = cli->opts;
    lm_ctx *ctx = cli->ctx;
    LM_TRY(lm_cli_need(cli, 2, "a model and where to write it"));
    const char *in = cli->pos.v[0], *out = cli->pos.v[1];
    lm_quantize_opts q = { .imatrix_name = o->imatrix, .perplexity = o->data != NULL, .extra = metadata, .done = whole, .progress = progress };
    if (o->pure) q.pure = lm_quant_by_name(o->type); else q.mix = lm_mix_by_name(o->type);
    if (o->pure ? !q.pure : !q.mix)
        return lm_fail(ctx, LM_E_CONFIG, "--type %s: no such %s", o->type,
                       o->pure ? "format; `loam inspect --quants` lists them"
                               : "mix; `loam quantize --help` lists them, --pure takes every format that is written");
    if (q.pure && !q.pure->from_float) return lm_fail(ctx, LM_E_UNSUPPORTED, "--type %s: this format can be read, not made", o->type);
    if (!o->force && lm_exists(out)) return lm_fail(ctx, LM_E_CONFIG, "%s is there already; --force replaces it", out);
    if (lm_is_dir(out)) return lm_fail(ctx, LM_E_CONFIG, "%s is a folder; a GGUF file is written", out);
    if (o->data && !lm_exists(o->data)) return lm_fail(ctx, LM_E_NOTFOUND, "--data %s: there is no such file", o->data);
    if (o->data && o->no_tok) return lm_fail(ctx, LM_E_CONFIG, "--data needs the tokenizer: take --no-tokenizer away");
    lm_weights *w = NULL; lm_tok *tok = NULL; lm_imatrix *im = NULL; lm_quantized *table = NULL;
    int n = 0;
    lm_err err;
    double t = lm_now();
    job j = { .cli = cli, .o = o };
    LM_GOTO(lm_weights_open(&w, ctx, in), done);
    if (!o->no_tok) {
        if ((err = lm_cmd_tok_open(ctx, o->tokenizer ? o->tokenizer : in, &tok))) {
            char *why = lm_arena_strdup(cli->a, lm_error(ctx));
            err = lm_fail(ctx, err, "%s (--no-tokenizer writes the weights alone)", why ? why : "");
            goto done;
        }
        if (lm_tok_vocab(tok) > lm_weights_cfg(w)->vocab) {
            err = lm_fail(ctx, LM_E_MISMATCH, "the tokenizer has %d ids, the model's embedding only %lld rows", lm_tok_vocab(tok),
                          (long long)lm_weights_cfg(w)->vocab);
            goto done;
        }
        LM_GOTO(lm_cmd_tok_survives(cli, tok, true, out, lm_weights_cfg(w)->vocab), done);
    }
    if (o->imatrix) LM_GOTO(lm_imatrix_open(&im, ctx, o->imatrix), done);
    q.imatrix = im; q.ud = &j;
    j.tok = (lm_cmd_tok_arg){ ctx, tok, lm_weights_cfg(w)->vocab };
    j.window = o->window ? o->window : lm_min64(lm_weights_cfg(w)->max_pos, 2048);
    if (o->data) LM_GOTO(measure(&j, in, &j.before), done);
    LM_GOTO(lm_model_quantize(ctx, w, out, &q, &table, &n), done);
    err = say(&j, out, table, n, lm_now() - t);
done:
    lm_free(ctx, table);
    lm_imatrix_free(im); lm_tok_free(tok); lm_weights_close(w);
    return err;
}
const lm_cmd lm_cmd_quantize = {
    .name = "quantize",
    .summary = "a model to GGUF in few bits, with the error of every tensor",
    .usage = "MODEL OUT.gguf --type Q4_K_M [--imatrix FILE] [--data PATH]",
    .details = "MODEL is a Hugging Face folder, a GGUF file or a llama2.c checkpoint. One tensor is in memory at a time; codes and\n"
               "scales are searched for the least squared error, weighted by the importance matrix if there is one. The bytes do not\n"
               "depend on the number of threads. OUT appears when it is whole; its metadata hold the error table (loam.quantize.*)\n"
               "and, with --data, perplexity before and after.",
    .opts = rows,
    .opts_bytes = sizeof(opts),
    .run = run
};
