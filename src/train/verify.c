/* verify.c — a stretch of a run done again: do the recorded weights come out?
 *
 * The checkpoint of step a is put (by hard links) into a scratch folder inside the run's, the run is resumed there with the run's own
 * configuration, and stops at step b. So what is verified is the very path that resuming takes: the same loader, trainer, optimizer and
 * checkpoint code. The scratch folder goes in any case. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "format/yaml.h"
#include "train/report.h"
#include "train/run.h"
#include "train/train_int.h"

typedef struct { int64_t until; volatile int stop; void (*event)(void *, const lm_run_event *); void *ud; } watch;
static void on_event(void *ud, const lm_run_event *e) {
    watch *w = ud;
    /* heard within the step that follows, which is the last */
    if ((e->kind == LM_RUN_START || e->kind == LM_RUN_STEP) && e->step >= w->until - 1) w->stop = 1;
    if (w->event) w->event(w->ud, e);
}
static lm_err weights_hash(lm_ctx *ctx, const char *ckpt, lm_hash128_t *h) {
    lm_manifest m;
    const lm_err err = lm_manifest_read(ctx, ckpt, &m);
    if (!err) *h = m.weights;
    lm_manifest_free(ctx, &m);
    return err;
}
static lm_err same_file(lm_ctx *ctx, const char *from, const char *to) {
    if (!link(from, to)) return LM_OK;
    char *p; size_t n;                                             /* a file system without links */
    LM_TRY(lm_file_read_all(ctx, from, (size_t)1 << 40, &p, &n));
    lm_err e = lm_file_write_atomic(ctx, to, p, n);
    lm_free(ctx, p);
    return e;
}
static lm_err same_folder(lm_ctx *ctx, lm_arena *a, const char *from, const char *to) {
    char **names; int n;
    LM_TRY(lm_dir_make(ctx, to));
    LM_TRY(lm_dir_list(ctx, from, &names, &n));
    lm_err err = LM_OK;
    for (int i = 0; i < n && !err; i++) {
        char *x = lm_arena_printf(a, "%s/%s", from, names[i]), *y = lm_arena_printf(a, "%s/%s", to, names[i]);
        err = x && y ? lm_is_dir(x) ? LM_OK : same_file(ctx, x, y) : LM_E_NOMEM;
    }
    lm_free(ctx, names);
    return err;
}
static lm_err need_step(lm_ctx *ctx, lm_arena *a, const char *out, int64_t step, char **path) {
    if (!(*path = lm_arena_printf(a, "%s/checkpoints/step-%08lld", out, (long long)step))) return LM_E_NOMEM;
    if (lm_is_dir(*path)) return lm_ckpt_verify(ctx, *path);
    char *dir = lm_arena_printf(a, "%s/checkpoints", out), **names; int n;
    if (!dir) return LM_E_NOMEM;
    if (!lm_is_dir(dir)) return lm_fail(ctx, LM_E_NOTFOUND, "%s holds no training run: there is no folder \"checkpoints\" in it", out);
    LM_TRY(lm_dir_list(ctx, dir, &names, &n));
    lm_str have = { .ctx = ctx };
    for (int i = 0; i < n; i++)
        if (!strncmp(names[i], "step-", 5) && !strstr(names[i], ".tmp"))
            lm_str_printf(&have, "%s%lld", have.n ? ", " : "", strtoll(names[i] + 5, NULL, 10));
    lm_err err = lm_fail(ctx, LM_E_NOTFOUND, "%s keeps no checkpoint of step %lld; it has %s (train.keep says how many are kept)", out,
                         (long long)step, have.p ? have.p : "none");
    lm_str_free(&have); lm_free(ctx, names);
    return err;
}
/* The data are what they were when they were tokenized. Text files are compared by the checkpoint's hash when the run is resumed. */
static lm_err whole_data(lm_ctx *ctx, const char *path) {
    lm_shards *s;
    if (!path || !lm_is_dir(path)) return LM_OK;
    LM_TRY(lm_shards_open(&s, ctx, path));
    lm_err err = lm_shards_verify(s);
    lm_shards_close(s);
    return err;
}
static lm_err config(lm_ctx *ctx, lm_arena *a, const char *out, const char *from, const char *scratch, lm_run_cfg *c) {
    char *path = lm_arena_printf(a, "%s/config.yaml", out);
    lm_yaml y;
    if (!path) return LM_E_NOMEM;
    LM_TRY(lm_opt_defaults(ctx, a, lm_run_options, c));
    LM_TRY(lm_yaml_load(ctx, a, path, &y));
    LM_TRY(lm_yaml_apply(ctx, a, path, &y, "", lm_run_options, c));
    if (c->mesh && *c->mesh)
        return lm_fail(ctx, LM_E_UNSUPPORTED, "%s was trained by several ranks (mesh=%s): its steps are re-executed by one here", out,
                       c->mesh);
    lm_ckpt_state st;
    LM_TRY(lm_ckpt_peek(ctx, from, &st));
    const lm_hash128_t h = lm_run_cfg_hash(c);
    if (!lm_hash_same(h, st.config_hash))
        return lm_fail(
            ctx, LM_E_MISMATCH,
            "%s is not the configuration that %s was written under: it was changed since (model, data, optimizer, seed or batch keys)",
            path, from);
    LM_TRY(whole_data(ctx, c->data.path));
    LM_TRY(whole_data(ctx, c->data.val_path));
    c->out = scratch; c->train.val_every = c->train.sample_every = c->train.checkpoint_every = 0; c->train.keep = 1000;
    return LM_OK;
}
lm_err lm_train_verify(lm_ctx *ctx, const char *out, int64_t a, int64_t b, lm_hash128_t *want, lm_hash128_t *got,
                       void (*event)(void *, const lm_run_event *), void *ud) {
    lm_arena *m;
    if (a < 0 || b <= a) return lm_fail(ctx, LM_E_CONFIG, "steps %lld:%lld: the second must be greater than the first", (long long)a, (long long)b);
    LM_TRY(lm_arena_new(&m, ctx, LM_MEM_MISC, 0));
    char *from, *to, *scratch = lm_arena_printf(m, "%s/verify.tmp-%d", out, (int)getpid()),
                     *dir = lm_arena_printf(m, "%s/checkpoints/step-%08lld", scratch ? scratch : "", (long long)a);
    char *tok = lm_arena_printf(m, "%s/tokenizer.json", out), *tok2 = lm_arena_printf(m, "%s/tokenizer.json", scratch ? scratch : ""),
         *after = lm_arena_printf(m, "%s/checkpoints/step-%08lld", scratch ? scratch : "", (long long)b);
    char *tc = lm_arena_printf(m, "%s/tokenizer_config.json", out), *tc2 = lm_arena_printf(m, "%s/tokenizer_config.json", scratch ? scratch : "");
    lm_run_cfg cfg;
    lm_err err = scratch && dir && tok && tok2 && after && tc && tc2 ? LM_OK : LM_E_NOMEM;
    if (err) goto done;
    LM_GOTO(need_step(ctx, m, out, a, &from), done);
    LM_GOTO(need_step(ctx, m, out, b, &to), done);
    LM_GOTO(weights_hash(ctx, to, want), done);
    LM_GOTO(config(ctx, m, out, from, scratch, &cfg), done);
    if (b > cfg.train.steps) {
        err = lm_fail(ctx, LM_E_RANGE, "the run has %lld steps, %lld were asked for", (long long)cfg.train.steps, (long long)b);
        goto done;
    }
    LM_GOTO(same_folder(ctx, m, from, dir), scrap);
    LM_GOTO(same_file(ctx, tok, tok2), scrap);
    if (lm_exists(tc)) LM_GOTO(same_file(ctx, tc, tc2), scrap);
    watch w = { .until = b, .event = event, .ud = ud };
    err = lm_train_run(ctx, &cfg, &(lm_run_opts){ .resume = true, .event = on_event, .ud = &w, .stop = &w.stop });
    if (err == LM_E_CANCELLED && lm_is_dir(after)) err = LM_OK;
    if (!err) err = weights_hash(ctx, after, got);
scrap:
    {   if (err) lm_fail_as(ctx, err, scratch, out);
        char why[1500]; snprintf(why, sizeof why, "%s", lm_error(ctx));
        lm_err e = lm_dir_remove(ctx, scratch);
        if (e) e = lm_dir_remove(ctx, scratch);
        if (err) lm_fail(ctx, err, "%s", why); else err = e; }
done:
    lm_arena_free(m);
    return err;
}
