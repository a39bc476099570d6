/* report.c — `loam report`: a run as one page that needs nothing else: figures, curves, configuration. */
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "cmd/cmd_common.h"
#include "cmd/cmd_text.h"
#include "format/json.h"
#include "train/report.h"

typedef struct { lm_cli_common common; const char *out; } opts;
static const lm_opt rows[] = {
    LM_CLI_COMMON(opts),
    { LM_OPT_STR, "out", offsetof(opts, out), NULL, 0, 0, NULL, "FILE", "where the page goes; default: RUN/report.html" },
    LM_OPT_ROW_END };

typedef struct { int64_t steps, tokens; double first, last, best_val, best_bpb, val, bpb, time, tok_s, rss; int64_t best_step, n; } sums;
static lm_err read_metrics(lm_cli *cli, const char *path, sums *m) {
    char *text; size_t n;
    *m = (sums){ .first = NAN, .last = NAN, .best_val = NAN, .best_bpb = NAN, .val = NAN, .bpb = NAN };
    LM_TRY(lm_file_read_all(cli->ctx, path, (size_t)4 << 30, &text, &n));
    lm_err err = LM_OK;
    int64_t line = 0;
    for (size_t i = 0; i < n && !err;) {
        size_t e = i;
        json_t *j = NULL;
        while (e < n && text[e] != '\n') e++;
        line++;
        if (e == n) break;                                       /* a torn last line of a run that was killed */
        char *where = lm_arena_printf(cli->a, "%s:%lld", path, (long long)line);
        err = where ? lm_json_parse(cli->ctx, where, text + i, e - i, 0, &j) : LM_E_NOMEM;
        if (!err) {
            lm_jv o = lm_json_root(cli->ctx, where, j);
            double loss, val, bpb, ms, rss; int64_t step, tokens;
            err = lm_json_int(&o, "step", LM_JSON_NEED, 0, 0, INT64_MAX / 2, &step);
            if (!err) err = lm_json_num(&o, "loss", LM_JSON_OPT, NAN, -1e300, 1e300, &loss);
            if (!err) err = lm_json_num(&o, "val_loss", LM_JSON_OPT, NAN, -1e300, 1e300, &val);
            if (!err) err = lm_json_num(&o, "val_bpb", LM_JSON_OPT, NAN, -1e300, 1e300, &bpb);
            if (!err) err = lm_json_num(&o, "step_ms", LM_JSON_OPT, NAN, 0, 1e300, &ms);
            if (!err) err = lm_json_num(&o, "rss", LM_JSON_OPT, 0, 0, 1e300, &rss);
            if (!err) err = lm_json_int(&o, "tokens", LM_JSON_OPT, 0, 0, INT64_MAX / 2, &tokens);
            if (!err && isfinite(loss)) {
                if (!m->n++) m->first = loss;
                m->last = loss;
                m->steps = step;
                m->tokens = tokens;
                if (isfinite(ms)) m->time += ms / 1e3;
                if (rss > m->rss) m->rss = rss;
            }
            if (!err && isfinite(val)) {
                m->val = val;
                m->bpb = bpb;
                if (!(val >= m->best_val)) {
                    m->best_val = val;
                    m->best_bpb = bpb;
                    m->best_step = step;
                }
            }
        }
        lm_json_free(j);
        i = e + 1;
    }
    lm_free(cli->ctx, text);
    if (!err && !m->n) err = lm_fail(cli->ctx, LM_E_DATA, "%s holds no step", path);
    if (m->time > 0) m->tok_s = (double)m->tokens / m->time;
    return err;
}
static void html(lm_str *s, const char *t, size_t n) {
    for (size_t i = 0; i < n; i++) switch (t[i]) {
        case '<': lm_str_puts(s, "&lt;"); break;
        case '>': lm_str_puts(s, "&gt;"); break;
        case '&': lm_str_puts(s, "&amp;"); break;
        case '"': lm_str_puts(s, "&quot;"); break;
        default: lm_str_putc(s, t[i]);
        }
}
static void cell(lm_str *s, const char *what, const char *value) { lm_str_printf(s, "<tr><td>%s</td><td>%s</td></tr>\n", what, value ? value : ""); }
static lm_err page(lm_cli *cli, const char *dir, const sums *m, lm_str *s) {
    lm_arena *a = cli->a;
    char *svg = NULL, *cfg = NULL, *sp = lm_arena_printf(a, "%s/loss.svg", dir), *cp = lm_arena_printf(a, "%s/config.yaml", dir);
    size_t n_svg = 0, n_cfg = 0;
    if (!sp || !cp) return LM_E_NOMEM;
    LM_TRY(lm_run_curves(cli->ctx, dir));
    LM_TRY(lm_file_read_all(cli->ctx, sp, 64 << 20, &svg, &n_svg));
    if (lm_exists(cp)) { lm_err e = lm_file_read_all(cli->ctx, cp, 16 << 20, &cfg, &n_cfg); if (e) { lm_free(cli->ctx, svg); return e; } }
    lm_str_puts(s, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>"); html(s, dir, strlen(dir));
    lm_str_puts(s, "</title>\n<style>body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 "
                   "1rem;color:#222}table{border-collapse:collapse}td{padding:.2rem 1rem .2rem 0;"
                   "border-bottom:1px solid "
                   "#ddd}td:last-child{font-variant-numeric:tabular-nums}pre{background:#f6f6f6;padding:1rem;overflow:auto}svg{max-width:"
                   "100%;height:auto}</style></head><body>\n<h1>");
    html(s, dir, strlen(dir)); lm_str_puts(s, "</h1>\n<table>\n");
    cell(s, "steps", lm_arena_printf(a, "%lld", (long long)m->steps));
    cell(s, "tokens seen", lm_cli_count(a, (double)m->tokens));
    cell(s, "training loss, first and last", lm_arena_printf(a, "%.4f → %.4f", m->first, m->last));
    if (isfinite(m->val)) {
        cell(s, "validation loss, last", lm_arena_printf(a, "%.4f (%.4f bits per byte)", m->val, m->bpb));
        cell(s, "validation loss, best",
             lm_arena_printf(a, "%.4f (%.4f bits per byte) at step %lld", m->best_val, m->best_bpb, (long long)m->best_step));
    }
    cell(s, "time in steps", lm_cli_time(a, m->time)); cell(s, "tokens a second", lm_arena_printf(a, "%.0f", m->tok_s));
    if (m->rss > 0) cell(s, "memory while training", lm_cli_bytes(a, m->rss));
    lm_str_puts(s, "</table>\n<h2>Loss</h2>\n"); lm_str_add(s, svg, n_svg);
    if (cfg) { lm_str_puts(s, "\n<h2>Configuration</h2>\n<pre>"); html(s, cfg, n_cfg); lm_str_puts(s, "</pre>\n"); }
    lm_str_puts(s, "</body></html>\n");
    lm_free(cli->ctx, svg); lm_free(cli->ctx, cfg);
    return lm_str_err(s);
}
static void num(lm_str *s, const char *key, double v) {
    if (isfinite(v)) lm_str_printf(s, ", \"%s\": %.9g", key, v);
    else lm_str_printf(s, ", \"%s\": null", key);
}
static lm_err run(lm_cli *cli) {
    const opts *o = cli->opts;
    LM_TRY(lm_cli_need(cli, 1, "one training run (a folder)"));
    const char *dir = cli->pos.v[0];
    char *metrics = lm_arena_printf(cli->a, "%s/metrics.jsonl", dir), *out = lm_arena_printf(cli->a, "%s/report.html", dir);
    if (!metrics || !out) return LM_E_NOMEM;
    if (o->out) out = lm_arena_strdup(cli->a, o->out);
    if (!lm_exists(metrics)) return lm_fail(cli->ctx, LM_E_NOTFOUND, "%s is no training run: there is no metrics.jsonl in it", dir);
    sums m;
    LM_TRY(read_metrics(cli, metrics, &m));
    lm_str s = { .ctx = cli->ctx }, j = { .ctx = cli->ctx };
    lm_err err;
    LM_GOTO(page(cli, dir, &m, &s), done);
    LM_GOTO(lm_file_write_atomic(cli->ctx, out, s.p, s.n), done);
    lm_cli_say(cli, "%lld steps, loss %.4f → %.4f%s · %s", (long long)m.steps, m.first, m.last,
               isfinite(m.bpb) ? lm_arena_printf(cli->a, ", %.4f bits per byte held out", m.bpb) : "", out);
    lm_str_puts(&j, "{\"run\": "); lm_str_json(&j, dir, strlen(dir)); lm_str_puts(&j, ", \"page\": "); lm_str_json(&j, out, strlen(out));
    lm_str_printf(&j, ", \"steps\": %lld, \"tokens\": %lld", (long long)m.steps, (long long)m.tokens);
    num(&j, "first_loss", m.first);
    num(&j, "loss", m.last);
    num(&j, "val_loss", m.val);
    num(&j, "val_bpb", m.bpb);
    num(&j, "best_val_loss", m.best_val);
    num(&j, "best_val_bpb", m.best_bpb);
    lm_str_printf(&j, ", \"best_step\": %lld", (long long)m.best_step);
    num(&j, "seconds", m.time); num(&j, "tok_s", m.tok_s); lm_str_putc(&j, '}');
    err = lm_cli_result(cli, &j);
done:
    lm_str_free(&s); lm_str_free(&j);
    return err;
}
const lm_cmd lm_cmd_report = { .name = "report", .summary = "a training run as one page", .usage = "RUN [--out FILE]",
    .details = "Reads RUN/metrics.jsonl and config.yaml; writes loss.svg and a page that needs no other file and no network.",
    .opts = rows, .opts_bytes = sizeof(opts), .run = run };
