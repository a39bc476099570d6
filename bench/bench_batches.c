/* bench_batches.c — the sequences that a run trains on, in their order, for another trainer (bench/peers/torch_train_text.py) to take.
 * usage: bench_batches SHARDS OUT SEQ SEED COUNT [shuffle, 1]
 * OUT gets COUNT rows of SEQ+1 little-endian uint16: the ids of a sequence and the token after it, as `data.mask_docs: false` trains on them. */
#include <stdio.h>
#include <stdlib.h>
#include "data/data.h"

enum { ROWS = 64 };
static lm_err write_all(lm_ctx *ctx, char **v, int n) {
    const int64_t seq = atoll(v[3]), count = atoll(v[5]);
    lm_shards *s = NULL;
    lm_loader *l = NULL;
    lm_batch b = { 0 };
    FILE *f = NULL;
    uint16_t *row = NULL;
    lm_err err;
    LM_GOTO(lm_shards_open(&s, ctx, v[1]), done);
    lm_source src = { s, 1, 0, 0 };
    const lm_loader_opts lo = { .sources = &src, .n_source = 1, .seq = seq, .seed = (uint64_t)atoll(v[4]), .shuffle = n < 7 || atoi(v[6]) };
    LM_GOTO(lm_loader_new(&l, ctx, &lo), done);
    LM_GOTO(lm_batch_alloc(ctx, &b, ROWS, seq), done);
    err = LM_E_NOMEM;
    if (!(row = malloc((size_t)(seq + 1) * sizeof *row))) goto done;
    err = LM_E_IO;
    if (!(f = fopen(v[2], "wb"))) goto done;
    for (int64_t i = 0; i < count; i += ROWS) {
        LM_GOTO(lm_loader_fill(l, &b, (uint64_t)i), done);
        for (int64_t r = 0; r < ROWS && i + r < count; r++) {
            for (int64_t t = 0; t < seq; t++) row[t] = (uint16_t)b.tokens[r * seq + t];
            row[seq] = (uint16_t)b.target[r * seq + seq - 1];                   /* 65535: none, the source ends here */
            if (fwrite(row, sizeof *row, (size_t)(seq + 1), f) != (size_t)(seq + 1)) { err = LM_E_IO; goto done; }
        }
    }
    err = LM_OK;
done:
    if (f && fclose(f) && !err) err = LM_E_IO;
    free(row);
    lm_batch_free(ctx, &b);
    lm_loader_free(l);
    lm_shards_close(s);
    return err;
}
int main(int argc, char **argv) {
    lm_ctx *ctx;
    if (argc < 6) { fprintf(stderr, "usage: bench_batches SHARDS OUT SEQ SEED COUNT [shuffle]\n"); return 2; }
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 1;
    const lm_err err = write_all(ctx, argv, argc);
    if (err) fprintf(stderr, "bench_batches: %s\n", *lm_error(ctx) ? lm_error(ctx) : lm_err_name(err));
    lm_ctx_free(ctx);
    return err != LM_OK;
}
