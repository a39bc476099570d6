/* verify.c — `loam verify`: are the files what they were, and do a run's steps come out again? */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "cmd/cmd_common.h"
#include "cmd/cmd_text.h"

typedef struct { lm_cli_common common; const char *steps; } opts;
static const lm_opt rows[] = { LM_CLI_COMMON(opts),
                               { LM_OPT_STR, "steps", offsetof(opts, steps), NULL, 0, 0, NULL, "A:B",
                                 "re-execute steps A to B from the checkpoint of A and compare the weights with the checkpoint of B" },
                               LM_OPT_ROW_END };

static void on_event(void *ud, const lm_run_event *e) {
    lm_cli *cli = ud;
    if (e->kind == LM_RUN_STEP) lm_cli_progress(cli, "step %lld · loss %.4f · %.0f tok/s", (long long)e->step, e->loss, e->tok_s);
}
static lm_err steps(lm_cli *cli, const char *dir, const char *range) {
    char *end;
    long long a = strtoll(range, &end, 10), b = 0;
    bool ok = end != range && *end == ':';
    if (ok) { const char *second = end + 1; b = strtoll(second, &end, 10); ok = end != second && !*end; }
    if (!ok) return lm_fail(cli->ctx, LM_E_CONFIG, "--steps %s: wanted A:B, two step numbers", range);
    lm_hash128_t want, got;
    LM_TRY(lm_train_verify(cli->ctx, dir, a, b, &want, &got, on_event, cli));
    char w[33], g[33];
    lm_hash_hex(want, w); lm_hash_hex(got, g);
    const bool same = lm_hash_same(want, got);
    lm_str s = { .ctx = cli->ctx };
    lm_str_puts(&s, "{\"run\": "); lm_str_json(&s, dir, strlen(dir));
    lm_str_printf(&s, ", \"from\": %lld, \"to\": %lld, \"recorded\": \"%s\", \"computed\": \"%s\", \"equal\": %s}", a, b, w, g,
                  same ? "true" : "false");
    lm_err err = same ? lm_cli_result(cli, &s)
                      : lm_fail(cli->ctx, LM_E_MISMATCH, "%s: steps %lld to %lld give weights %s, the checkpoint of step %lld has %s", dir,
                                a, b, g, b, w);
    lm_str_free(&s);
    if (same) lm_cli_say(cli, "%s: steps %lld to %lld give the recorded weights, %s", dir, a, b, w);
    return err;
}
typedef struct { lm_cli *cli; lm_str json; int n; } list;
static lm_err add(list *l, const char *path) {
    lm_cli_progress(l->cli, "hashing %s …", path);
    LM_TRY(lm_ckpt_verify(l->cli->ctx, path));
    lm_str_puts(&l->json, l->n++ ? ", " : ""); lm_str_json(&l->json, path, strlen(path));
    lm_cli_say(l->cli, "%s: whole", path);
    return LM_OK;
}
static bool holds(lm_cli *cli, const char *dir, const char *name, char **path) {
    return (*path = lm_arena_printf(cli->a, "%s/%s", dir, name)) && lm_exists(*path);
}
static lm_err files(lm_cli *cli, const char *dir) {
    char *p, **names; int n;
    list l = { .cli = cli, .json = { .ctx = cli->ctx } };
    lm_err err = LM_OK;
    if (!lm_is_dir(dir))
        return lm_exists(dir) ? lm_fail(cli->ctx, LM_E_UNSUPPORTED,
                                        "%s is a file; checkpoints, runs and folders of shards carry hashes to verify", dir)
                              : lm_fail(cli->ctx, LM_E_NOTFOUND, "%s: there is no such folder", dir);
    if (holds(cli, dir, "manifest.json", &p)) err = add(&l, dir);
    else if (holds(cli, dir, "index.json", &p)) {
        lm_shards *s;
        LM_TRY(lm_shards_open(&s, cli->ctx, dir));
        lm_cli_progress(cli, "hashing %s …", dir);
        err = lm_shards_verify(s);
        if (!err) { lm_str_json(&l.json, dir, strlen(dir)); l.n++; lm_cli_say(cli, "%s: %lld tokens, whole", dir, (long long)lm_shards_tokens(s)); }
        lm_shards_close(s);
    } else if (holds(cli, dir, "checkpoints", &p) && lm_is_dir(p)) {
        LM_TRY(lm_dir_list(cli->ctx, p, &names, &n));
        for (int i = 0; i < n && !err; i++)
            if (!strncmp(names[i], "step-", 5) && !strstr(names[i], ".tmp")) {
                char *c = lm_arena_printf(cli->a, "%s/%s", p, names[i]);
                err = lm_cli_stopped(cli) ? lm_cli_stop_err(cli) : c ? add(&l, c) : LM_E_NOMEM;
            }
        lm_free(cli->ctx, names);
        if (!err && !l.n) err = lm_fail(cli->ctx, LM_E_NOTFOUND, "%s holds no checkpoint", p);
    } else err = lm_fail(cli->ctx, LM_E_UNSUPPORTED, "%s is neither a checkpoint nor a run nor a folder of shards", dir);
    if (!err) {
        lm_str s = { .ctx = cli->ctx };
        lm_str_printf(&s, "{\"whole\": [%s]}", l.json.p ? l.json.p : "");
        err = lm_cli_result(cli, &s);
        lm_str_free(&s);
    }
    lm_str_free(&l.json);
    return err;
}
static lm_err run(lm_cli *cli) {
    const opts *o = cli->opts;
    LM_TRY(lm_cli_need(cli, 1, "a run, a checkpoint or a folder of shards"));
    return o->steps ? steps(cli, cli->pos.v[0], o->steps) : files(cli, cli->pos.v[0]);
}
const lm_cmd lm_cmd_verify = {
    .name = "verify",
    .summary = "re-hash files; re-execute steps of a run and compare",
    .usage = "RUN|CHECKPOINT|SHARDS [--steps A:B]",
    .details =
        "Without --steps every file of the checkpoints (or shards) is hashed and compared with what was recorded. With it, steps A to B "
        "are\n"
        "done again from the checkpoint of A; the weights must be those of the checkpoint of B, to the bit. Exit status 3 if they are not.",
    .opts = rows,
    .opts_bytes = sizeof(opts),
    .run = run
};
