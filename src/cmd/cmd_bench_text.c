/* cmd_bench_text.c — suites: tokenizer (encode, decode, training), loader. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "cmd/cmd_bench.h"
#include "cmd/cmd_corpus.h"
#include "cmd/cmd_text.h"

static lm_err text_of(lm_bench *b, char **text, size_t *n) {
    if (b->o->data) return lm_file_read_all(b->cli->ctx, b->o->data, (size_t)1 << 30, text, n);
    return lm_cmd_corpus(b->cli->ctx, text, n);
}
static lm_err tok_of(lm_bench *b, const char *text, size_t n, lm_tok **tok, double *seconds) {
    *seconds = 0;
    if (b->o->model) return lm_cmd_tok_open(b->cli->ctx, b->o->model, tok);
    const lm_tok_train_opts to = { .vocab = 8192 };
    double t = lm_now();
    lm_err e = lm_tok_train(b->cli->ctx, &to, &(lm_tok_text){ text, n }, 1, tok);
    *seconds = lm_now() - t;
    return e;
}
static lm_err tokenizer(lm_bench *b) {
    lm_ctx *ctx = b->cli->ctx;
    char *text = NULL; size_t n;
    lm_tok *tok = NULL;
    lm_tok_buf ids = { .ctx = ctx };
    lm_str back = { .ctx = ctx };
    double train, best = 1e30, dec = 1e30, cold = 0;
    lm_err err;
    LM_TRY(text_of(b, &text, &n));
    LM_GOTO(tok_of(b, text, n, &tok, &train), done);
    for (int64_t i = 0; i < b->o->repeat + 1; i++) {
        if (lm_cli_stopped(b->cli)) { err = lm_cli_stop_err(b->cli); goto done; }
        ids.n = 0; lm_str_clear(&back);
        double t = lm_now();
        LM_GOTO(lm_tok_encode(tok, text, n, LM_TOK_RAW, &ids), done);
        t = lm_now() - t;
        if (!i) cold = t;
        if (t < best) best = t;
        t = lm_now();
        LM_GOTO(lm_tok_decode(tok, ids.id, ids.n, 0, &back), done);
        t = lm_now() - t;
        if (t < dec) dec = t;
    }
    if (train > 0) lm_bench_put(b, "train", (double)n / 1e6 / train, "MB/s", 0, 0, "byte-level BPE, 8192 ids");
    lm_bench_put(b, "encode", (double)n / 1e6 / best, "MB/s", 0, 0, "one thread, words seen before");
    lm_bench_put(b, "encode_cold", (double)n / 1e6 / cold, "MB/s", 0, 0, "one thread, first time");
    lm_bench_put(b, "decode", (double)n / 1e6 / dec, "MB/s", 0, 0, "one thread");
    lm_bench_put(b, "bytes_per_token", (double)n / (double)lm_max64((int64_t)ids.n, 1), "B", 0, 0, NULL);
done:
    lm_str_free(&back); lm_tok_buf_free(&ids); lm_tok_free(tok); lm_free(ctx, text);
    return err;
}
static lm_err loader(lm_bench *b) {
    lm_ctx *ctx = b->cli->ctx;
    char *text = NULL, path[] = "/tmp/loam-bench-XXXXXX"; size_t n; double train;
    const char *file = b->o->data;
    lm_tok *tok = NULL; lm_shards *s = NULL; lm_loader *l = NULL; lm_batch x = {0};
    lm_err err;
    int fd = -1;
    LM_TRY(text_of(b, &text, &n));
    if (!file) {
        if ((fd = mkstemp(path)) < 0) { err = lm_fail(ctx, LM_E_IO, "no temporary file can be made in /tmp"); goto done; }
        for (size_t at = 0; at < n;) {
            ssize_t k = write(fd, text + at, n - at);
            if (k <= 0) {
                err = lm_fail(ctx, LM_E_NOSPACE, "%s cannot be written", path);
                goto done;
            }
            at += (size_t)k;
        }
        file = path;
    }
    LM_GOTO(tok_of(b, text, n, &tok, &train), done);
    LM_GOTO(lm_shards_from_text(&s, ctx, tok, file), done);
    const lm_source src = { s, 1.0, 0, 0 };
    LM_GOTO(lm_loader_new(&l, ctx,
                          &(lm_loader_opts){ .sources = &src, .n_source = 1, .seq = 256, .seed = 1, .mask_docs = true, .shuffle = true }),
            done);
    LM_GOTO(lm_batch_alloc(ctx, &x, 16, 256), done);
    double end = lm_now() + 0.5, t0 = lm_now(); int64_t batches = 0;
    for (; lm_now() < end; batches++) LM_GOTO(lm_loader_fill(l, &x, (uint64_t)(batches * 16)), done);
    lm_bench_put(b, "loader", (double)(batches * x.n) / (lm_now() - t0), "tokens/s", 0, 0, "16 × 256 shuffled, documents masked, one thread");
done:
    if (fd >= 0) { close(fd); unlink(path); }
    lm_batch_free(ctx, &x); lm_loader_free(l); lm_shards_close(s); lm_tok_free(tok); lm_free(ctx, text);
    return err;
}
const lm_bench_suite lm_bench_text[] = { { "tokenizer", "encode and decode", tokenizer }, { "loader", "batches", loader }, { NULL, NULL, NULL } };
