/* tokenizer.c — `loam tokenizer`: text to ids and back, training a tokenizer, what a tokenizer is. */
#include <string.h>
#include "base/file.h"
#include "cmd/cmd_common.h"
#include "cmd/cmd_text.h"

typedef struct { lm_cli_common common; const char *data, *out; int64_t vocab; bool plain, special_text, raw; } opts;
static const lm_opt rows[] = {
    LM_CLI_COMMON(opts),
    { LM_OPT_BOOL, "plain", offsetof(opts, plain), "false", 0, 0, NULL, NULL, "encode: no BOS or EOS, whatever the tokenizer states" },
    { LM_OPT_BOOL, "special", offsetof(opts, special_text), "false", 0, 0, NULL, NULL,
      "encode: names of special tokens in the text mean those tokens; decode: write special tokens out" },
    { LM_OPT_BOOL, "raw", offsetof(opts, raw), "false", 0, 0, NULL, NULL,
      "encode: take bytes that are not UTF-8 as bytes instead of refusing them" },
    { LM_OPT_STR, "data", offsetof(opts, data), NULL, 0, 0, NULL, "PATH",
      "train: text or JSONL (packed or not), or a folder of such files" },
    { LM_OPT_INT, "vocab", offsetof(opts, vocab), "2048", 257, 1 << 20, NULL, "N", "train: vocabulary size" },
    { LM_OPT_STR, "out", offsetof(opts, out), NULL, 0, 0, NULL, "DIR", "train: folder for tokenizer.json and tokenizer_config.json" },
    LM_OPT_ROW_END
};
enum { MAX_TEXT = 1 << 30 };

static lm_err encode(lm_cli *cli, const opts *o) {
    LM_TRY(lm_cli_need(cli, 1, "one model or tokenizer; the text comes on standard input"));
    loam_context ctx = { .ctx = cli->ctx };
    loam_tokenizer *tok;
    LM_TRY((lm_err)loam_tokenizer_open(&tok, &ctx, cli->pos.v[0]));
    const int flags = (o->plain ? 0 : LOAM_ADD) | (o->special_text ? LOAM_SPECIAL : 0) | (o->raw ? LOAM_RAW : 0);
    char *text = NULL; size_t bytes = 0, n = 0;
    int32_t *ids = NULL;
    lm_str s = { .ctx = cli->ctx };
    lm_err err;
    LM_GOTO(lm_cli_stdin(cli, MAX_TEXT, &text, &bytes), done);
    for (size_t room = bytes + 16;; room = n) {                  /* about always enough; if not, the next size is exact */
        lm_free(cli->ctx, ids);
        n = room;
        if (!(ids = lm_alloc(cli->ctx, LM_MEM_TOK, room * sizeof *ids))) { err = LM_E_NOMEM; goto done; }
        err = (lm_err)loam_encode(tok, text, bytes, flags, ids, &n);
        if (err != LM_E_RANGE || n <= room) break;
    }
    if (err) goto done;
    if (cli->json) lm_str_puts(&s, "{\"ids\": [");
    for (size_t i = 0; i < n; i++) lm_str_printf(&s, i ? cli->json ? ", %d" : " %d" : "%d", ids[i]);
    if (cli->json) lm_str_puts(&s, "]}");
    LM_GOTO(lm_str_err(&s), done);
    if (cli->json) err = lm_cli_result(cli, &s); else lm_cli_say(cli, "%s", s.p ? s.p : "");
done:
    lm_str_free(&s); lm_free(cli->ctx, ids); lm_free(cli->ctx, text); loam_tokenizer_free(tok);
    return err;
}
static lm_err decode(lm_cli *cli, const opts *o) {
    LM_TRY(lm_cli_need(cli, 1, "one model or tokenizer; the ids come on standard input"));
    loam_context ctx = { .ctx = cli->ctx };
    loam_tokenizer *tok;
    LM_TRY((lm_err)loam_tokenizer_open(&tok, &ctx, cli->pos.v[0]));
    const int flags = o->special_text ? LOAM_SPECIAL : 0;
    char *given = NULL, *text = NULL; size_t n = 0, bytes = 0;
    lm_str j = { .ctx = cli->ctx };
    int32_t *ids; int64_t n_ids;
    lm_err err;
    LM_GOTO(lm_cli_stdin(cli, MAX_TEXT, &given, &n), done);
    LM_GOTO(lm_cli_ids(cli, "standard input", given, n, &ids, &n_ids), done);
    LM_GOTO((lm_err)loam_decode(tok, ids, (size_t)n_ids, flags, NULL, &bytes), done);
    if (!(text = lm_alloc(cli->ctx, LM_MEM_TOK, ++bytes))) { err = LM_E_NOMEM; goto done; }
    LM_GOTO((lm_err)loam_decode(tok, ids, (size_t)n_ids, flags, text, &bytes), done);
    if (cli->json) {
        lm_str_puts(&j, "{\"text\": "); lm_str_json(&j, text, bytes); lm_str_putc(&j, '}');
        err = lm_cli_result(cli, &j);
    } else fwrite(text, 1, bytes, stdout);
done:
    lm_str_free(&j); lm_free(cli->ctx, given); lm_free(cli->ctx, text); loam_tokenizer_free(tok);
    return err;
}
static lm_err train(lm_cli *cli, const opts *o) {
    LM_TRY(lm_cli_need(cli, 0, "no argument but --data, --vocab and --out"));
    if (!o->data) return lm_fail(cli->ctx, LM_E_CONFIG, "--data is missing: text to train on");
    if (!o->out) return lm_fail(cli->ctx, LM_E_CONFIG, "--out is missing: the folder for tokenizer.json");
    double t = lm_now();
    lm_tok *tok;
    lm_cli_progress(cli, "training a tokenizer on %s …", o->data);
    LM_TRY(lm_data_train_tokenizer(cli->ctx, o->data, o->vocab, &tok));
    lm_err err = lm_tok_save(cli->ctx, tok, o->out);
    if (!err) {
        t = lm_now() - t;
        lm_cli_say(cli, "%s/tokenizer.json: %d ids, %s", o->out, lm_tok_vocab(tok), lm_cli_time(cli->a, t));
        lm_str s = { .ctx = cli->ctx };
        lm_str_puts(&s, "{\"out\": ");
        lm_str_json(&s, o->out, strlen(o->out));
        lm_str_printf(&s, ", \"vocab\": %d, \"seconds\": %.3f}", lm_tok_vocab(tok), t);
        err = lm_cli_result(cli, &s);
        lm_str_free(&s);
    }
    lm_tok_free(tok);
    return err;
}
static lm_err info(lm_cli *cli, const opts *o) {
    (void)o;
    LM_TRY(lm_cli_need(cli, 1, "one model or tokenizer"));
    lm_tok *tok;
    LM_TRY(lm_cmd_tok_open(cli->ctx, cli->pos.v[0], &tok));
    static const char *const type_name[] = { "none", "normal", "control", "added", "byte", "unknown", "unused" };
    int64_t count[LM_COUNT(type_name)] = {0};
    size_t longest = 0, n;
    for (int32_t i = 0; i < lm_tok_vocab(tok); i++) {
        count[lm_tok_type_of(tok, i)]++;
        if (lm_tok_piece(tok, i, &n) && n > longest) longest = n;
    }
    char hex[33]; lm_hash_hex(lm_tok_hash(tok), hex);
    int n_eos; const int32_t *eos = lm_tok_eos(tok, &n_eos);
    lm_str s = { .ctx = cli->ctx };
    lm_str_printf(&s, "{\"kind\": \"%s\", \"vocab\": %d, \"bos\": %d, \"eos\": [", lm_tok_kind(tok), lm_tok_vocab(tok), lm_tok_bos(tok));
    for (int i = 0; i < n_eos; i++) lm_str_printf(&s, i ? ", %d" : "%d", eos[i]);
    lm_str_printf(&s, "], \"pad\": %d, \"unk\": %d, \"adds_bos\": %s, \"longest_piece\": %zu, \"types\": {", lm_tok_pad(tok),
                  lm_tok_unk(tok), lm_tok_adds_bos(tok) ? "true" : "false", longest);
    bool some = false;
    for (int i = 0; i < LM_COUNT(type_name); i++)
        if (count[i]) {
            lm_str_printf(&s, "%s\"%s\": %lld", some ? ", " : "", type_name[i], (long long)count[i]);
            some = true;
        }
    lm_str_printf(&s, "}, \"chat_template\": %s, \"hash\": \"%s\"}", lm_tok_template(tok) ? "true" : "false", hex);
    lm_err err = lm_cli_result(cli, &s);
    lm_str_free(&s);
    lm_cli_say(cli, "%s: %d ids, longest piece %zu bytes", lm_tok_kind(tok), lm_tok_vocab(tok), longest);
    const struct {
        const char *what;
        int32_t id;
    } ends[] = {
        { "BOS", lm_tok_bos(tok) }, { "EOS", n_eos ? eos[0] : -1 }, { "padding", lm_tok_pad(tok) }, { "unknown", lm_tok_unk(tok) }
    };
    for (int i = 0; i < LM_COUNT(ends); i++) {
        const char *p = ends[i].id >= 0 ? lm_tok_spelling(tok, ends[i].id, &n) : NULL;
        if (p) lm_cli_say(cli, "  %-8s %d  %.*s", ends[i].what, ends[i].id, (int)n, p);
    }
    for (int i = 0; i < LM_COUNT(type_name); i++) if (count[i]) lm_cli_say(cli, "  %-8s %lld", type_name[i], (long long)count[i]);
    lm_cli_say(cli, "  BOS is %sput first · chat template: %s · hash %s", lm_tok_adds_bos(tok) ? "" : "not ",
               lm_tok_template(tok) ? "yes" : "no", hex);
    lm_tok_free(tok);
    return err;
}
static lm_err run(lm_cli *cli) {
    static const char *const verbs[] = { "encode", "decode", "train", "info", NULL };
    static lm_err (*const fn[])(lm_cli *, const opts *) = { encode, decode, train, info };
    int which;
    LM_TRY(lm_cli_verb(cli, verbs, &which));
    return fn[which](cli, cli->opts);
}
const lm_cmd lm_cmd_tokenizer = {
    .name = "tokenizer",
    .summary = "text to token ids and back; train a tokenizer",
    .usage = "encode|decode|info MODEL, train --data PATH --vocab N --out DIR",
    .details =
        "encode reads text on standard input and prints ids; decode reads ids (a JSON list, {\"ids\": […]} or numbers) and prints text.\n"
        "MODEL is a model folder, a GGUF file, or any tokenizer file: tokenizer.json, tiktoken ranks, SentencePiece .model, llama2.c's "
        "tokenizer.bin.\n"
        "encode puts BOS first where the tokenizer states so; --plain does not.",
    .opts = rows,
    .opts_bytes = sizeof(opts),
    .run = run
};
