/* data.c — `loam data`: text to shards, and looking at them. */
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "cmd/cmd_common.h"
#include "cmd/cmd_text.h"

typedef struct {
    lm_cli_common common;
    const char *tokenizer, *out, *field, *on_error;
    int64_t shard_tokens, from, count;
    double val;
    bool eos;
} opts;
static const lm_opt rows[] = {
    LM_CLI_COMMON(opts),
    { LM_OPT_STR, "tokenizer", offsetof(opts, tokenizer), NULL, 0, 0, NULL, "PATH",
      "tokenize: a model or any tokenizer file; inspect: the one to show text with" },
    { LM_OPT_STR, "out", offsetof(opts, out), NULL, 0, 0, NULL, "DIR", "tokenize: folder for the shards" },
    { LM_OPT_STR, "field", offsetof(opts, field), "text", 0, 0, NULL, "NAME", "tokenize: member of a JSONL line that holds the text" },
    { LM_OPT_INT, "shard-tokens", offsetof(opts, shard_tokens), "0", 0, 1ll << 40, NULL, "N",
      "tokenize: tokens in a shard; 0 = the usual" },
    { LM_OPT_FLOAT, "val-fraction", offsetof(opts, val), "0", 0, 0.9, NULL, "X",
      "tokenize: share of the documents, chosen by hash, that goes to DIR/val" },
    { LM_OPT_BOOL, "eos", offsetof(opts, eos), "true", 0, 0, NULL, NULL, "tokenize: end documents with the tokenizer's end token" },
    { LM_OPT_STR, "on-error", offsetof(opts, on_error), "fail", 0, 0, NULL, "WHAT",
      "tokenize: a document that cannot be read: fail or skip" },
    { LM_OPT_INT, "from", offsetof(opts, from), "0", 0, 1ll << 50, NULL, "N", "inspect: first token" },
    { LM_OPT_INT, "count", offsetof(opts, count), "128", 1, 1 << 24, NULL, "N", "inspect: tokens shown" },
    LM_OPT_ROW_END
};

typedef struct { lm_cli *cli; double t0, last; } clock_of;
static void progress(void *ud, int64_t bytes, int64_t total, int64_t tokens) {
    clock_of *c = ud;
    lm_arena *a = c->cli->a;
    const double t = lm_now(), rate = (double)bytes / (t - c->t0 + 1e-9);
    if (t - c->last < (c->cli->tty ? 0.1 : 5.0) && bytes < total) return;
    c->last = t;
    lm_cli_progress(c->cli, "%s of %s · %s tokens · %s/s · ETA %s", lm_cli_bytes(a, (double)bytes), lm_cli_bytes(a, (double)total),
                    lm_cli_count(a, (double)tokens), lm_cli_bytes(a, rate), lm_cli_time(a, rate > 0 ? (double)(total - bytes) / rate : 0));
    lm_cli_event(c->cli, "{\"bytes\": %lld, \"total\": %lld, \"tokens\": %lld, \"bytes_s\": %.0f}", (long long)bytes, (long long)total,
                 (long long)tokens, rate);
}
static lm_err summary(lm_cli *cli, const char *dir, double seconds) {
    lm_shards *s;
    LM_TRY(lm_shards_open(&s, cli->ctx, dir));
    char hex[33]; lm_hash_hex(lm_shards_tok_hash(s), hex);
    const double tokens = (double)lm_shards_tokens(s), bytes = (double)lm_shards_bytes(s);
    lm_cli_say(cli, "%s: %.0f tokens in %lld documents, %s of text, %.3f bytes a token%s%s", dir, tokens, (long long)lm_shards_docs(s),
               lm_cli_bytes(cli->a, bytes), bytes / fmax(tokens, 1), seconds > 0 ? " · " : "",
               seconds > 0 ? lm_arena_printf(cli->a, "%s, %s/s", lm_cli_time(cli->a, seconds), lm_cli_bytes(cli->a, bytes / seconds)) : "");
    lm_str j = { .ctx = cli->ctx };
    lm_str_puts(&j, "{\"out\": "); lm_str_json(&j, dir, strlen(dir));
    lm_str_printf(&j, ", \"tokens\": %.0f, \"documents\": %lld, \"bytes\": %.0f, \"tokenizer_hash\": \"%s\", \"seconds\": %.3f}", tokens,
                  (long long)lm_shards_docs(s), bytes, hex, seconds);
    lm_err err = lm_cli_result(cli, &j);
    lm_str_free(&j); lm_shards_close(s);
    return err;
}
static lm_err tokenize(lm_cli *cli, const opts *o) {
    if (!o->tokenizer) return lm_fail(cli->ctx, LM_E_CONFIG, "--tokenizer is missing: a model or tokenizer file");
    if (!o->out) return lm_fail(cli->ctx, LM_E_CONFIG, "--out is missing: the folder for the shards");
    if (!cli->pos.n) return lm_fail(cli->ctx, LM_E_CONFIG, "wanted text or JSONL files, or folders of them");
    if (strcmp(o->on_error, "fail") && strcmp(o->on_error, "skip"))
        return lm_fail(cli->ctx, LM_E_CONFIG, "--on-error %s: fail and skip are known", o->on_error);
    lm_tok *tok;
    LM_TRY(lm_cmd_tok_open(cli->ctx, o->tokenizer, &tok));
    clock_of c = { .cli = cli, .t0 = lm_now() };
    const lm_tokenize_opts to = { .out = o->out,
                                  .in = cli->pos.v,
                                  .n_in = cli->pos.n,
                                  .field = o->field,
                                  .shard_tokens = o->shard_tokens,
                                  .val_fraction = o->val,
                                  .add_eos = o->eos,
                                  .on_error = o->on_error,
                                  .progress = progress,
                                  .ud = &c,
                                  .stop = cli->stop };
    lm_err err = lm_data_tokenize(cli->ctx, tok, &to);
    lm_tok_free(tok);
    lm_cli_progress_end(cli);
    return err ? err : summary(cli, o->out, lm_now() - c.t0);
}
static lm_err verify(lm_cli *cli, const opts *o) {
    (void)o;
    LM_TRY(lm_cli_need(cli, 1, "one folder of shards"));
    lm_shards *s;
    LM_TRY(lm_shards_open(&s, cli->ctx, cli->pos.v[0]));
    lm_cli_progress(cli, "hashing %s …", cli->pos.v[0]);
    lm_err err = lm_shards_verify(s);
    lm_shards_close(s);
    if (err) return err;
    lm_cli_say(cli, "every byte is what it was when it was written");
    return summary(cli, cli->pos.v[0], 0);
}
/* Tokens with their text; a line begins where a document does. */
static lm_err inspect(lm_cli *cli, const opts *o) {
    LM_TRY(lm_cli_need(cli, 1, "one folder of shards"));
    const char *dir = cli->pos.v[0];
    char *own = lm_arena_printf(cli->a, "%s/tokenizer.json", dir);
    lm_shards *s; lm_tok *tok = NULL;
    lm_str j = { .ctx = cli->ctx }, piece = { .ctx = cli->ctx };
    lm_err err;
    if (!own) return LM_E_NOMEM;
    LM_TRY(lm_shards_open(&s, cli->ctx, dir));
    const char *tp = o->tokenizer ? o->tokenizer : lm_exists(own) ? own : NULL;
    const int64_t all = lm_shards_tokens(s), n = lm_min64(o->count, all - o->from);
    int32_t *ids = n > 0 ? lm_arena_alloc(cli->a, (size_t)n * sizeof *ids) : NULL;
    if (n < 1) { err = lm_fail(cli->ctx, LM_E_RANGE, "--from %lld: %s has %lld tokens", (long long)o->from, dir, (long long)all); goto done; }
    if (!ids) { err = LM_E_NOMEM; goto done; }
    LM_GOTO(lm_shards_get(s, o->from, n, ids), done);
    if (tp) {
        LM_GOTO(lm_cmd_tok_open(cli->ctx, tp, &tok), done);
        lm_hash128_t a = lm_tok_hash(tok), b = lm_shards_tok_hash(s);
        if (!lm_hash_same(a, b)) {
            err = lm_fail(cli->ctx, LM_E_MISMATCH, "%s was made with another tokenizer than %s", dir, tp);
            goto done;
        }
    }
    lm_str_printf(&j, "{\"tokens\": %lld, \"documents\": %lld, \"from\": %lld, \"ids\": [", (long long)all, (long long)lm_shards_docs(s),
                  (long long)o->from);
    for (int64_t i = 0; i < n; i++) lm_str_printf(&j, i ? ", %d" : "%d", ids[i]);
    lm_str_puts(&j, "], \"document_starts\": [");
    bool some = false;
    for (int64_t i = 0; i < n; i++) {
        const bool first = lm_shards_doc_start(s, o->from + i) == o->from + i;
        if (first) { lm_str_printf(&j, some ? ", %lld" : "%lld", (long long)(o->from + i)); some = true; }
        if (cli->json) continue;
        size_t len = 0;
        const char *p = tok ? lm_tok_piece(tok, ids[i], &len) : NULL;
        if (tok && !len) p = lm_tok_spelling(tok, ids[i], &len);
        if (first && i) putchar('\n');
        if (first) printf("── document at token %lld ──\n", (long long)(o->from + i));
        if (p) { lm_str_clear(&piece); lm_str_json(&piece, p, len); printf("%d%.*s ", ids[i], (int)piece.n, piece.p ? piece.p : ""); }
        else printf("%d ", ids[i]);
    }
    if (!cli->json) putchar('\n');
    lm_str_puts(&j, "]}");
    err = lm_cli_result(cli, &j);
done:
    lm_str_free(&j); lm_str_free(&piece); lm_tok_free(tok); lm_shards_close(s);
    return err;
}
static lm_err run(lm_cli *cli) {
    static const char *const verbs[] = { "tokenize", "verify", "inspect", NULL };
    static lm_err (*const fn[])(lm_cli *, const opts *) = { tokenize, verify, inspect };
    int which;
    LM_TRY(lm_cli_verb(cli, verbs, &which));
    return fn[which](cli, cli->opts);
}
const lm_cmd lm_cmd_data = { .name = "data",
                             .summary = "text to tokenized shards; look at and verify them",
                             .usage = "tokenize --tokenizer PATH --out DIR FILES… | verify DIR | inspect DIR",
                             .details = "tokenize reads text and JSONL, packed by gzip or zstd or not, and folders of such files; "
                                        "interrupted, the same command goes on where it was.\n"
                                        "The shards are the same bytes for any number of threads. `loam train data.path=DIR` reads them.",
                             .opts = rows,
                             .opts_bytes = sizeof(opts),
                             .run = run };
