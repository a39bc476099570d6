/* cmd_tok.c — see cmd_tok.h. */
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "cmd/cmd_corpus.h"
#include "cmd/cmd_tok.h"

lm_err lm_cmd_tok_metadata(void *arg, lm_gguf_writer *w) {
    const lm_cmd_tok_arg *x = arg;
    return x->tok ? lm_tok_put_gguf(x->ctx, x->tok, w, x->vocab) : LM_OK;
}
static lm_err same_ids(lm_cli *cli, const lm_tok *a, const char *path, const char *text, size_t n, lm_tok *b) {
    lm_tok_buf x = { .ctx = cli->ctx }, y = { .ctx = cli->ctx };
    lm_err err;
    LM_GOTO(lm_tok_encode(a, text, n, LM_TOK_RAW, &x), done);
    LM_GOTO(lm_tok_encode(b, text, n, LM_TOK_RAW, &y), done);
    if (x.n != y.n || memcmp(x.id, y.id, x.n * sizeof *x.id))
        err = lm_fail(cli->ctx, LM_E_UNSUPPORTED,
                      "%s: this tokenizer cannot be expressed in the new format: the same text gives other ids there (--no-tokenizer "
                      "converts the weights alone)",
                      path);
done:
    lm_tok_buf_free(&x); lm_tok_buf_free(&y);
    return err;
}
static lm_err same_text(lm_cli *cli, const lm_tok *tok, const char *out, lm_tok *again) {
    static const char odd[] = "Hello world!  two  spaces\ttab\n\nlines\r\n 12345 3.14 don't I'LL \xc3\xa9t\xc3\xa9 "
                              "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e \xf0\x9f\x98\x80 x=y+1; \xe2\x80\x9cq\xe2\x80\x9d   ";
    char *text; size_t n;
    LM_TRY(same_ids(cli, tok, out, odd, sizeof odd - 1, again));
    LM_TRY(lm_cmd_corpus(cli->ctx, &text, &n));
    lm_err err = same_ids(cli, tok, out, text, n < 200000 ? n : 200000, again);
    lm_free(cli->ctx, text);
    return err;
}
lm_err lm_cmd_tok_survives(lm_cli *cli, const lm_tok *tok, bool gguf, const char *out, int64_t vocab) {
    lm_ctx *ctx = cli->ctx;
    lm_tok *again = NULL;
    lm_err err;
    if (!gguf) {
        lm_str s = { .ctx = ctx };
        err = lm_tok_to_json(ctx, tok, &s);
        if (!err) err = lm_tok_open_mem(ctx, "tokenizer.json", s.p, s.n, NULL, &again);
        lm_str_free(&s);
    } else {                                                          /* GGUF is read from files: one without tensors, beside OUT, for a moment */
        lm_gguf_writer *w = NULL;
        char *path = lm_arena_printf(cli->a, "%s.tokenizer-%d", out, (int)getpid());
        err = path ? lm_gguf_writer_new(&w, ctx, path, 0) : LM_E_NOMEM;
        if (!err) err = lm_gguf_put_str(w, "general.architecture", "llama", 5);
        if (!err) err = lm_tok_put_gguf(ctx, tok, w, vocab);
        if (err) lm_gguf_writer_abort(w); else err = lm_gguf_writer_commit(w);
        if (err) return path ? lm_fail_as(ctx, err, path, out) : err;
        err = lm_tok_open(ctx, path, NULL, &again);
        lm_file_remove(path);
    }
    if (!err) err = same_text(cli, tok, out, again);
    lm_tok_free(again);
    return err;
}
