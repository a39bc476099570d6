/* cmd_bench_text.c — suites: tokenizer (encode, decode, training), loader, grammar (token masks). */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "cmd/cmd_bench.h"
#include "cmd/cmd_corpus.h"
#include "cmd/cmd_text.h"
#include "infer/generate.h"

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
/* ---- grammar: a text that satisfies it is followed token by token; each mask is timed. First over a new masker, then again over what that found out. */
static const char record_schema[] =
    "{\"type\":\"object\",\"properties\":{\"id\":{\"type\":\"string\",\"format\":\"uuid\"},\"name\":{\"type\":\"string\",\"maxLength\":200},"
    "\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":150},\"born\":{\"type\":\"string\",\"format\":\"date\"},\"kind\":{\"enum\":[\"person\",\"company\",\"unknown\"]},"
    "\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"maxItems\":8},\"address\":{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"object\",\"properties\":{\"street\":"
    "{\"type\":\"string\"},\"zip\":{\"type\":\"string\",\"pattern\":\"^[0-9]{5}$\"}},\"required\":[\"street\",\"zip\"],\"additionalProperties\":false}]},"
    "\"parents\":{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}},\"required\":[\"id\",\"name\",\"kind\"],\"additionalProperties\":false}";
static const char record[] =
    "{\"id\": \"3f2504e0-4f89-11d3-9a0c-0305e82c3301\", \"name\": \"Catherine Earnshaw, of the Heights\", \"age\": 19, \"born\": \"1765-06-30\", \"kind\": \"person\",\n  \"tags\": "
    "[\"moor\", \"a \\\"wild\\\" thing\", \"Gimmerton\"],\n  \"address\": {\"street\": \"Wuthering Heights\", \"zip\": \"01801\"}, \"parents\": [{\"id\": "
    "\"3f2504e0-4f89-11d3-9a0c-0305e82c3302\", \"name\": \"Mr. Earnshaw the elder, who walked to Liverpool and back\", \"kind\": \"person\", \"address\": null}]}";
static const char sums[] = "root ::= line+\nline ::= sum \" = \" number \"\\n\"\nsum ::= product | product ws [-+] ws sum\nproduct ::= factor | factor ws [*/] ws product\n"
                           "factor ::= number | name | \"(\" sum \")\"\nnumber ::= [0-9]+ (\".\" [0-9]+)?\nname ::= [a-z] [a-z0-9_]*\nws ::= \" \"?\n";
static const char sum[] = "(12 + alpha) * (3.5 - beta_2) / ((gamma + 1) * 4) = 19.25\nx * (y + (z - (w / 2))) + 17 = 0.5\n";
/* us[i]: of token i; those for which a mask had to be worked out stand in first[*n_first] too. */
static lm_err follow(lm_bench *b, lm_masker *m, const lm_tok_buf *ids, const char *name, double *us, double *first, size_t *n_first) {
    lm_ctx *ctx = b->cli->ctx;
    lm_matcher *x;
    lm_err err = lm_matcher_new(&x, m);
    if (err) return err;
    for (size_t i = 0; i < ids->n && !err; i++) {
        const uint32_t *mask;
        const int64_t made = lm_masker_made(m);
        const double t = lm_now();
        err = lm_matcher_mask(x, &mask);
        us[i] = 1e6 * (lm_now() - t);
        if (lm_masker_made(m) > made) first[(*n_first)++] = us[i];
        if (!err && !(mask[ids->id[i] >> 5] >> (ids->id[i] & 31) & 1)) err = lm_fail(ctx, LM_E_INTERNAL, "%s: token %zu of its text is not allowed", name, i);
        if (!err) err = lm_matcher_accept(x, ids->id[i]);
    }
    if (!err && !lm_matcher_complete(x)) err = lm_fail(ctx, LM_E_INTERNAL, "%s: its text is not complete", name);
    lm_matcher_free(x);
    return err;
}
static void put_times(lm_bench *b, const char *name, double *us, size_t n, const char *what) {
    double all = 0;
    for (size_t i = 0; i < n; i++) all += us[i];
    (void)lm_bench_median(us, (int)n);                                 /* sorts */
    lm_bench_put(b, name, all / (double)n, "us", 0, 0, lm_arena_printf(b->cli->a, "%zu tokens, %s: p50 %.3g, p99 %.3g, max %.4g", n, what, us[n / 2], us[n * 99 / 100], us[n - 1]));
}
static lm_err grammar_of(lm_bench *b, const lm_tok *tok, const lm_trie *trie, const char *kind, const char *name, const char *text, const char *doc) {
    lm_ctx *ctx = b->cli->ctx;
    lm_grammar *g = NULL; lm_masker *m = NULL;
    lm_tok_buf ids = { .ctx = ctx };
    double *us = NULL, *first, t = lm_now();
    char *a = lm_arena_printf(b->cli->a, "%s_compile", name), *c = lm_arena_printf(b->cli->a, "%s_mask", name), *d = lm_arena_printf(b->cli->a, "%s_mask_new", name),
         *e = lm_arena_printf(b->cli->a, "%s_mask_first", name);
    lm_err err = a && c && d && e ? LM_OK : LM_E_NOMEM;
    if (!err) err = lm_grammar_new(&g, ctx, kind, name, text, strlen(text));
    if (!err) err = lm_masker_new(&m, ctx, g, trie);
    if (!err) {
        const lm_grammar_size z = lm_grammar_size_of(g);
        lm_bench_put(b, a, 1e3 * (lm_now() - t), "ms", 0, 0, lm_arena_printf(b->cli->a, "%lld rules, %lld states, %lld edges", (long long)z.rules,
            (long long)z.states, (long long)z.edges));
    }
    if (!err) err = lm_tok_encode(tok, doc, strlen(doc), 0, &ids);
    if (!err && !(us = lm_alloc(ctx, LM_MEM_MISC, 2 * (ids.n + 1) * sizeof *us))) err = LM_E_NOMEM;
    first = us ? us + ids.n + 1 : NULL;
    for (int pass = 0; pass < 2 && !err && ids.n; pass++) {            /* a text with other numbers and names would share less: the second pass is the best case */
        size_t n_first = 0;
        err = follow(b, m, &ids, name, us, first, &n_first);
        if (err) break;
        put_times(b, pass ? c : d, us, ids.n, pass ? "known" : "nothing known before");
        if (!pass && n_first) put_times(b, e, first, n_first, "of these, worked out");
    }
    lm_tok_buf_free(&ids); lm_masker_free(m); lm_grammar_free(g); lm_free(ctx, us);
    return err;
}
static lm_err grammar(lm_bench *b) {
    lm_ctx *ctx = b->cli->ctx;
    char *text = NULL; size_t n = 0;
    lm_tok *tok = NULL; lm_trie *trie = NULL;
    double train;
    lm_err err;
    if (!b->o->model) LM_TRY(text_of(b, &text, &n));
    LM_GOTO(tok_of(b, text, n, &tok, &train), done);
    const double t = lm_now();
    LM_GOTO(lm_tok_trie(&trie, ctx, tok, lm_tok_vocab(tok), NULL, 0), done);
    lm_bench_put(b, "vocabulary", 1e3 * (lm_now() - t), "ms", 0, 0, lm_arena_printf(b->cli->a, "%d tokens, %lld nodes", lm_tok_vocab(tok),
        (long long)lm_trie_nodes(trie)));
    LM_GOTO(grammar_of(b, tok, trie, "schema", "json", "true", record), done);
    LM_GOTO(grammar_of(b, tok, trie, "schema", "record", record_schema, record), done);
    err = grammar_of(b, tok, trie, "gbnf", "sums", sums, sum);
done:
    lm_trie_free(trie); lm_tok_free(tok); lm_free(ctx, text);
    return err;
}
const lm_bench_suite lm_bench_text[] = { { "tokenizer", "encode and decode", tokenizer }, { "loader", "batches", loader }, { "grammar", "token masks", grammar },
                                         { NULL, NULL, NULL } };
