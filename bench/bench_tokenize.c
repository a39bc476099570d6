/* bench_tokenize.c — lm_data_tokenize from end to end: text and tokens a second.
 * usage: bench_tokenize TOKENIZER OUT THREADS INPUT…      (TOKENIZER train:N makes a byte-level BPE of N ids from the first input) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "data/data.h"
int main(int argc, char **argv) {
    if (argc < 5) { fprintf(stderr, "usage: bench_tokenize TOKENIZER OUT THREADS INPUT...\n"); return 2; }
    lm_ctx *ctx;
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = atoi(argv[3]) })) return 1;
    lm_tok *tok;
    lm_shards *s = NULL;
    double t = lm_now(), train = 0;
    lm_err e = strncmp(argv[1], "train:", 6) ? lm_tok_open(ctx, argv[1], NULL, &tok)
                                             : lm_data_train_tokenizer(ctx, argv[4], atoll(argv[1] + 6), &tok);
    if (!strncmp(argv[1], "train:", 6)) train = lm_now() - t;
    t = lm_now();
    if (!e)
        e = lm_data_tokenize(
            ctx, tok,
            &(lm_tokenize_opts){
                .out = argv[2], .in = (const char *const *)(argv + 4), .n_in = argc - 4, .val_fraction = 0.01, .add_eos = true });
    t = lm_now() - t;
    if (!e) e = lm_shards_open(&s, ctx, argv[2]);
    if (e) { fprintf(stderr, "%s\n", lm_error(ctx)); return 1; }
    double v = lm_now();
    e = lm_shards_verify(s);
    v = lm_now() - v;
    printf("{\"threads\": %d, \"vocab\": %d, \"seconds\": %.2f, \"mb_s\": %.1f, \"mtokens_s\": %.2f, \"bytes_per_token\": %.3f, "
           "\"verify_gb_s\": %.2f, \"tokenizer_training_s\": %.2f, \"peak_rss_mb\": %.0f}\n",
           lm_ctx_threads(ctx), lm_tok_vocab(tok), t, (double)lm_shards_bytes(s) / t / 1e6, (double)lm_shards_tokens(s) / t / 1e6,
           (double)lm_shards_bytes(s) / (double)lm_shards_tokens(s),
           (double)lm_shards_tokens(s) * (lm_tok_vocab(tok) > 65536 ? 4 : 2) / v / 1e9, train, (double)lm_rss_peak() / 1e6);
    return e != LM_OK;
}
