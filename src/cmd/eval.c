/* eval.c — `loam eval`: how good a model is. A task is a row. */
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "cmd/cmd_common.h"
#include "cmd/cmd_shipped.h"
#include "cmd/cmd_text.h"
#include "eval/perplexity.h"

static const char *const bos_names[] = { "auto", "yes", "no", NULL };
typedef struct { lm_cli_common common; const char *task, *data, *dtype, *kv, *field, *device, *against, *against_dtype, *against_kv, *load; int bos; int64_t stride, window, chunk; bool deterministic; } opts;
static const lm_opt rows[] = {
    LM_CLI_COMMON(opts),
    { LM_OPT_STR, "task", offsetof(opts, task), "perplexity", 0, 0, NULL, "NAME", "what to measure" },
    { LM_OPT_STR, "data", offsetof(opts, data), NULL, 0, 0, NULL, "PATH", "text or JSONL (packed or not), or a folder of such files" },
    { LM_OPT_STR, "field", offsetof(opts, field), "text", 0, 0, NULL, "NAME", "member of a JSONL line that holds the text" },
    { LM_OPT_INT, "window", offsetof(opts, window), "0", 0, 1 << 24, NULL, "N",
      "tokens a prediction may look back at, BOS included; 0 = the model's context, 2048 at most" },
    { LM_OPT_INT, "stride", offsetof(opts, stride), "0", 0, 1 << 24, NULL, "N", "tokens between windows; 0 = half a window" },
    { LM_OPT_ENUM, "bos", offsetof(opts, bos), "auto", 0, 0, bos_names, "WHEN",
      "begin windows with BOS: auto (as the tokenizer states), yes, no" },
    { LM_OPT_STR, "dtype", offsetof(opts, dtype), "auto", 0, 0, NULL, "T",
      "weights: auto (as stored), f32, bf16, or a quantized format such as Q8_0" },
    { LM_OPT_STR, "load", offsetof(opts, load), "read", 0, 0, NULL, "HOW", "weights: read into memory, or map: used where they lie in the file, or read from it as they are used where they do not fit" },
    { LM_OPT_STR, "against", offsetof(opts, against), NULL, 0, 0, NULL, "MODEL",
      "a reference with the same vocabulary: also how far the predictions are from its (KL divergence)" },
    { LM_OPT_STR, "against-dtype", offsetof(opts, against_dtype), "auto", 0, 0, NULL, "T", "the reference's weights, as --dtype" },
    { LM_OPT_STR, "against-kv", offsetof(opts, against_kv), NULL, 0, 0, NULL, "T", "the reference's key-value pages (as --kv)" },
    { LM_OPT_STR, "kv", offsetof(opts, kv), "f32", 0, 0, NULL, "T", "key-value pages: f32, bf16, f16, q8_0 or q4_0" },
    { LM_OPT_STR, "device", offsetof(opts, device), "cpu", 0, 0, NULL, "NAME", "where it runs: cpu, cuda or cuda:N" },
    { LM_OPT_INT, "chunk", offsetof(opts, chunk), "256", 1, 1 << 20, NULL, "N", "tokens computed at a time; changes no bit of the result" },
    { LM_OPT_BOOL, "deterministic", offsetof(opts, deterministic), "false", 0, 0, NULL, NULL,
      "on a device: no result depends on what is computed beside it, as on the processor; costs some speed" },
    LM_OPT_ROW_END
};

static bool progress(void *ud, int64_t done, int64_t total, double rate, double nll) {
    lm_cli *cli = ud;
    lm_cli_progress(cli, "%lld/%lld tokens · %.0f tok/s · %.4f nats · ETA %s", (long long)done, (long long)total, rate, nll,
                    lm_cli_time(cli->a, rate > 0 ? (double)(total - done) / rate : 0));
    return !lm_cli_stopped(cli);
}
static void said_divergence(lm_cli *cli, const lm_divergence *d, lm_str *s) {
    const double n = (double)d->tokens;
    lm_cli_say(cli, "against %.4f nats a token of the reference: KL mean %.6f, median %.6f, 99 %% %.6f, largest %.4f nats · the same likeliest token %.2f %%",
               d->nll_reference / n, d->mean, d->median, d->p99, d->largest, 100 * (double)d->same_top / n);
    lm_str_printf(s, ", \"reference_nll\": %.12g, \"kl_mean\": %.12g, \"kl_median\": %.12g, \"kl_p99\": %.12g, \"kl_max\": %.12g, \"same_top\": %.9g",
                  d->nll_reference / n, d->mean, d->median, d->p99, d->largest, (double)d->same_top / n);
}
static lm_err perplexity(lm_cli *cli, const opts *o, const lm_cmd_model *m, const lm_cmd_model *reference, lm_str *s) {
    lm_divergence d;
    lm_divergence_begin(&d, cli->ctx);
    const lm_perplexity_opts po = { .against = reference ? reference->e : NULL,
                                    .divergence = &d,
                                    .window = o->window,
                                    .stride = o->stride,
                                    .add_bos = o->bos == 1 || (!o->bos && lm_tok_adds_bos(m->tok)),
                                    .field = o->field,
                                    .progress = progress,
                                    .ud = cli };
    lm_perplexity p;
    const lm_err err = lm_eval_perplexity_file(cli->ctx, m->e, m->tok, o->data, &po, &p);
    lm_divergence_end(&d);
    LM_TRY(err);
    const double mean = p.nll / (double)p.tokens;
    lm_cli_say(cli,
               "%lld tokens of %lld documents: %.4f nats a token · perplexity %.4f · %.4f bits per byte · window %lld, stride %lld · %s",
               (long long)p.tokens, (long long)p.docs, mean, p.ppl, p.bits_per_byte, (long long)p.window, (long long)p.stride,
               lm_cli_time(cli->a, p.seconds));
    lm_str_printf(s, "{\"task\": \"perplexity\", \"nll\": %.12g, \"ppl\": ", mean);
    if (isfinite(p.ppl)) lm_str_printf(s, "%.12g", p.ppl); else lm_str_puts(s, "null");
    lm_str_printf(s,
                  ", \"bpb\": %.12g, \"tokens\": %lld, \"bytes\": %lld, \"documents\": %lld, \"nll_sum\": %.15g, \"window\": %lld, "
                  "\"stride\": %lld, \"seconds\": %.3f",
                  p.bits_per_byte, (long long)p.tokens, (long long)p.bytes, (long long)p.docs, p.nll, (long long)p.window,
                  (long long)p.stride, p.seconds);
    if (reference) said_divergence(cli, &d, s);
    lm_str_puts(s, "}");
    return LM_OK;
}
static const struct {
    const char *name;
    lm_err (*run)(lm_cli *, const opts *, const lm_cmd_model *, const lm_cmd_model *, lm_str *);
} tasks[] = { { "perplexity", perplexity } };

static lm_err run(lm_cli *cli) {
    const opts *o = cli->opts;
    LM_TRY(lm_cli_need(cli, 1, "one model: a Hugging Face folder, a GGUF file or a llama2.c checkpoint"));
    int t = 0;
    while (t < LM_COUNT(tasks) && strcmp(tasks[t].name, o->task)) t++;
    if (t == LM_COUNT(tasks)) return lm_fail(cli->ctx, LM_E_CONFIG, "no task is called \"%s\"; known: perplexity", o->task);
    if (!o->data) return lm_fail(cli->ctx, LM_E_CONFIG, "--data is missing: the text to measure on");
    if (!lm_exists(o->data)) return lm_fail(cli->ctx, LM_E_NOTFOUND, "--data %s: there is no such file", o->data);
    lm_cmd_model m;
    lm_str s = { .ctx = cli->ctx };
    lm_weights *w;
    const char *model;
    LM_TRY(lm_cmd_model_path(cli, cli->pos.v[0], &model));
    LM_TRY(lm_weights_open(&w, cli->ctx, model));
    const int64_t context = o->window ? o->window : lm_min64(lm_weights_cfg(w)->max_pos, 2048);
    lm_weights_close(w);
    lm_cmd_model_opts mo = { .dtype = o->dtype, .kv = o->kv, .context = context, .chunk = o->chunk, .rows = context, .need_tok = true, .device = o->device, .load = o->load, .deterministic = o->deterministic };
    LM_TRY(lm_cmd_model_open(cli, model, &mo, &m));
    lm_cmd_model reference = { .e = NULL };
    lm_err err = LM_OK;
    if (o->against) {
        if (o->against_kv) mo.kv = o->against_kv;
        mo.dtype = o->against_dtype; mo.need_tok = false;
        err = lm_cmd_model_open(cli, o->against, &mo, &reference);
    }
    if (!err) err = tasks[t].run(cli, o, &m, o->against ? &reference : NULL, &s);
    lm_cmd_model_close(&reference);
    if (!err) err = lm_cli_result(cli, &s);
    lm_str_free(&s);
    lm_cmd_model_close(&m);
    return err;
}
const lm_cmd lm_cmd_eval = { .name = "eval",
                             .summary = "measure a model on a task",
                             .usage = "MODEL --task perplexity --data PATH",
                             .details = "perplexity: strided windows over the text; nll is nats per token, ppl its exponential, bpb bits "
                                        "per byte of the text, which compares models\n"
                                        "whose tokenizers differ. --against REFERENCE compares the two models' predictions place by place: what quantizing, say, has lost.",
                             .opts = rows,
                             .opts_bytes = sizeof(opts),
                             .run = run };
