/* report.c — curves, metrics hygiene, configuration identity, and the tokenizer a run trains for itself. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "format/json.h"
#include "format/svg.h"
#include "format/yaml.h"
#include "train/report.h"

typedef struct { double *x, *y; int64_t n, cap; } series;
static lm_err push(lm_ctx *ctx, series *s, double x, double y) {
    if (s->n == s->cap) {
        int64_t cap = s->cap ? 2 * s->cap : 1024;
        double *nx = lm_realloc(ctx, LM_MEM_MISC, s->x, (size_t)cap * sizeof *nx);
        if (!nx) return LM_E_NOMEM;
        s->x = nx;
        double *ny = lm_realloc(ctx, LM_MEM_MISC, s->y, (size_t)cap * sizeof *ny);
        if (!ny) return LM_E_NOMEM;
        s->y = ny; s->cap = cap;
    }
    s->x[s->n] = x; s->y[s->n++] = y;
    return LM_OK;
}
/* Lines of a metrics file, one JSON object each; fn returns an error to stop. A torn last line (a killed run) is passed over. */
static lm_err each_line(lm_ctx *ctx, const char *path, lm_err (*fn)(void *, const lm_jv *, const char *, size_t), void *ud) {
    char *text; size_t n;
    LM_TRY(lm_file_read_all(ctx, path, (size_t)4 << 30, &text, &n));
    lm_err err = LM_OK;
    for (size_t i = 0; i < n && !err;) {
        size_t e = i;
        while (e < n && text[e] != '\n') e++;
        json_t *j = NULL;
        if (e < n && e > i && !lm_json_parse(ctx, path, text + i, e - i, 0, &j)) {
            lm_jv root = lm_json_root(ctx, path, j);
            err = fn(ud, &root, text + i, e - i);
        }
        lm_json_free(j);
        i = e + 1;
    }
    lm_free(ctx, text);
    return err;
}
typedef struct { lm_ctx *ctx; series train, val; } curves;
static lm_err take(void *ud, const lm_jv *o, const char *line, size_t n) {
    curves *c = ud; int64_t step; double loss = NAN, val = NAN;
    (void)line; (void)n;
    LM_TRY(lm_json_int(o, "step", LM_JSON_NEED, 0, 0, INT64_MAX / 2, &step));
    LM_TRY(lm_json_num(o, "loss", LM_JSON_OPT, NAN, -1e300, 1e300, &loss));
    LM_TRY(lm_json_num(o, "val_loss", LM_JSON_OPT, NAN, -1e300, 1e300, &val));
    if (isfinite(loss)) LM_TRY(push(c->ctx, &c->train, (double)step, loss));
    if (isfinite(val)) LM_TRY(push(c->ctx, &c->val, (double)step, val));
    return LM_OK;
}
lm_err lm_run_curves(lm_ctx *ctx, const char *out_dir) {
    curves c = { .ctx = ctx };
    char *in = NULL, *out = NULL;
    lm_err err;
    LM_GOTO(lm_path_join(ctx, &in, out_dir, "metrics.jsonl"), done);
    LM_GOTO(lm_path_join(ctx, &out, out_dir, "loss.svg"), done);
    LM_GOTO(each_line(ctx, in, take, &c), done);
    const lm_svg_series s[] = { { "training", c.train.x, c.train.y, c.train.n }, { "validation", c.val.x, c.val.y, c.val.n } };
    const lm_svg_chart chart = { .title = "loss", .x_title = "step", .y_title = "nats per token", .series = s, .n_series = c.val.n ? 2 : 1 };
    err = lm_svg_save(ctx, out, &chart);
done:
    lm_free(ctx, c.train.x); lm_free(ctx, c.train.y); lm_free(ctx, c.val.x); lm_free(ctx, c.val.y); lm_free(ctx, in); lm_free(ctx, out);
    return err;
}
typedef struct { lm_str s; int64_t step; } trim;
static lm_err keep(void *ud, const lm_jv *o, const char *line, size_t n) {
    trim *t = ud; int64_t step;
    LM_TRY(lm_json_int(o, "step", LM_JSON_NEED, 0, 0, INT64_MAX / 2, &step));
    if (step <= t->step) { lm_str_add(&t->s, line, n); lm_str_putc(&t->s, '\n'); }
    return LM_OK;
}
lm_err lm_run_trim_metrics(lm_ctx *ctx, const char *path, int64_t step) {
    if (!lm_exists(path)) return LM_OK;
    trim t = { .s = { .ctx = ctx }, .step = step };
    lm_err err = each_line(ctx, path, keep, &t);
    if (!err) err = lm_str_err(&t.s);
    if (!err) err = lm_file_write_atomic(ctx, path, t.s.p ? t.s.p : "", t.s.n);
    lm_str_free(&t.s);
    return err;
}
lm_err lm_run_sweep(lm_ctx *ctx, const char *dir) {
    char **names; int n;
    if (!lm_is_dir(dir)) return LM_OK;
    LM_TRY(lm_dir_list(ctx, dir, &names, &n));
    lm_err err = LM_OK;
    for (int i = 0; i < n && !err; i++) {
        const char *t = strstr(names[i], ".tmp-");
        char *path, *end;
        const size_t len = strlen(names[i]);
        /* a checkpoint on its way in or out; the folder is locked, so nobody is at it */
        if (!strncmp(names[i], "step-", 5) && len > 4 && !strcmp(names[i] + len - 4, ".tmp")) {
            if (!(err = lm_path_join(ctx, &path, dir, names[i]))) { (void)lm_dir_remove(ctx, path); lm_free(ctx, path); }
            continue;
        }
        const long pid = t ? strtol(t + 5, &end, 10) : 0;
        if (pid <= 0 || *end || !kill((pid_t)pid, 0) || errno != ESRCH) continue;      /* alive, or not for us to say */
        /* litter that stays does no harm */
        if (!(err = lm_path_join(ctx, &path, dir, names[i]))) {
            if (lm_is_dir(path)) (void)lm_dir_remove(ctx, path);
            else unlink(path);
            lm_free(ctx, path);
        }
    }
    lm_free(ctx, names);
    return err;
}
static lm_run_cfg identity(const lm_run_cfg *c) {
    lm_run_cfg k = *c;
    k.out = ""; k.threads = 0; k.mesh = ""; k.device = NULL;
    k.train.checkpoint_every = k.train.keep = k.train.val_every = k.train.val_batches = k.train.sample_every = k.train.sample_tokens =
        k.train.log_every = 1;
    k.train.memory_budget = k.train.recompute = k.train.timeout = k.train.gather = 0; k.train.sample_prompt = ""; k.train.steps = 0;
    return k;
}
lm_hash128_t lm_run_cfg_hash(const lm_run_cfg *c) {
    const lm_run_cfg k = identity(c);
    lm_str s = {0};
    lm_opt_dump_yaml(&s, lm_run_options, &k);
    lm_hash128_t h = lm_hash128(s.p ? s.p : "", s.n);
    lm_str_free(&s);
    return h;
}
static lm_err flat(lm_ctx *ctx, lm_arena *a, const lm_run_cfg *c, lm_yaml *y) {
    const lm_run_cfg k = identity(c);
    lm_str s = { .ctx = ctx };
    lm_opt_dump_yaml(&s, lm_run_options, &k);
    lm_err err = lm_str_err(&s);
    if (!err) err = lm_yaml_parse(ctx, a, "configuration", s.p, s.n, y);
    lm_str_free(&s);
    return err;
}
lm_err lm_run_cfg_differs(lm_ctx *ctx, lm_arena *a, const char *file, const lm_run_cfg *c, const char **what) {
    lm_run_cfg old;
    lm_yaml y, now, was;
    *what = "";
    LM_TRY(lm_opt_defaults(ctx, a, lm_run_options, &old));
    lm_err err = lm_yaml_load(ctx, a, file, &y);
    if (!err) err = lm_yaml_apply(ctx, a, file, &y, "", lm_run_options, &old);
    if (err) return err == LM_E_NOMEM ? err : LM_OK;
    LM_TRY(flat(ctx, a, c, &now));
    LM_TRY(flat(ctx, a, &old, &was));
    for (int i = 0; i < now.n; i++) {
        const lm_yaml_entry *n = &now.v[i], *w = lm_yaml_find(&was, n->key);
        if (w && !strcmp(w->value, n->value)) continue;
        *what = lm_arena_printf(a, "%s is %s now, it was %s", n->key, *n->value ? n->value : "not set", w && *w->value ? w->value : "not set");
        return *what ? LM_OK : LM_E_NOMEM;
    }
    return LM_OK;
}
