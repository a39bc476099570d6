/* bench_schemas.c — JSON Schemas compiled one by one, and random sentences of each: what tools/verify/schemas.py validates.
 *
 *     build/bench_schemas SENTENCES FILE… > out.jsonl
 *     build/bench_schemas 4 -m TOKENIZER FILE…         # and every sentence is followed token by token: the time of each mask, nothing known about the schema before its first sentence
 *
 * A line per file: {"file", "ms", "error"} or {"file", "ms", "states", "texts": […]}. A sentence is a random walk over the bytes that may come next, which
 * prefers what closes a string, a list or an object, so that it ends. The last line sums up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "grammar/grammar.h"
#include "infer/generate.h"
#include "tok/tok.h"

static int up(const void *a, const void *b) { const double x = *(const double *)a, y = *(const double *)b; return x < y ? -1 : x > y; }
/* Microseconds: of masks that were worked out, of those that were known, of a schema's first sentence (a token, in the mean). */
enum { WORKED_OUT, KNOWN, SENTENCE, KINDS };
static struct { double *us; size_t n, cap; } took[KINDS];
static void note(int kind, double us) {
    if (took[kind].n == took[kind].cap) {
        took[kind].cap = took[kind].cap ? 2 * took[kind].cap : 4096;
        if (!(took[kind].us = realloc(took[kind].us, took[kind].cap * sizeof *took[kind].us))) exit(1);
    }
    took[kind].us[took[kind].n++] = us;
}
static lm_err follow(lm_ctx *ctx, lm_masker *m, const lm_tok *tok, const lm_str *text, bool first) {
    lm_matcher *x;
    lm_tok_buf ids = { .ctx = ctx };
    double sum = 0;
    LM_TRY(lm_matcher_new(&x, m));
    lm_err err = lm_tok_encode(tok, text->p, text->n, 0, &ids);
    for (size_t i = 0; i < ids.n && !err; i++) {
        const uint32_t *mask;
        const int64_t made = lm_masker_made(m);
        const double t = lm_now();
        err = lm_matcher_mask(x, &mask);
        const double us = 1e6 * (lm_now() - t);
        sum += us;
        note(lm_masker_made(m) > made ? WORKED_OUT : KNOWN, us);
        if (!err) err = lm_matcher_accept(x, ids.id[i]);
    }
    if (first && ids.n) note(SENTENCE, sum / (double)ids.n);
    lm_matcher_free(x); lm_tok_buf_free(&ids);
    return err;
}
static lm_err sentence(lm_ctx *ctx, lm_masker *m, lm_rng r, lm_str *out) {
    lm_matcher *x, *y;
    uint64_t draw = 0;
    LM_TRY(lm_matcher_new(&x, m));
    lm_err err = lm_matcher_new(&y, m);
    lm_str_clear(out);
    while (!err && !lm_matcher_ended(x) && out->n < 20000) {
        uint8_t may[256], close[256];
        int n = 0, n_close = 0;
        for (int b = 0; b < 256 && !err; b++) {
            const uint8_t c = (uint8_t)b;
            bool ok;
            lm_matcher_copy(y, x);
            err = lm_matcher_bytes(y, &c, 1, &ok);
            if (err || !ok) continue;
            may[n++] = c;
            if (c == '"' || c == ']' || c == '}') close[n_close++] = c;
        }
        if (lm_matcher_complete(x) && lm_rng_below(r, draw++, 3)) break;
        if (err || !n) break;
        const bool ends = n_close && (lm_rng_below(r, draw++, out->n > 2000 ? 1 : 3) == 0);
        const uint8_t c = ends ? close[lm_rng_below(r, draw++, (uint64_t)n_close)] : may[lm_rng_below(r, draw++, (uint64_t)n)];
        bool ok;
        err = lm_matcher_bytes(x, &c, 1, &ok);
        lm_str_putc(out, (char)c);
    }
    if (!err && !lm_matcher_complete(x)) err = lm_fail(ctx, LM_E_DATA, "the walk did not end");
    lm_matcher_free(x); lm_matcher_free(y);
    return err;
}
int main(int argc, char **argv) {
    lm_ctx *ctx;
    if (argc < 3 || lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 2;
    const int texts = atoi(argv[1]);
    double *ms = malloc((size_t)argc * sizeof *ms);
    int n = 0, refused = 0, from = 2;
    lm_tok *tok = NULL; lm_trie *trie = NULL;
    if (argc > 4 && !strcmp(argv[2], "-m")) {
        if (lm_tok_open(ctx, argv[3], NULL, &tok) || lm_tok_trie(&trie, ctx, tok, lm_tok_vocab(tok), NULL, 0)) { fprintf(stderr, "%s\n", lm_error(ctx)); return 1; }
        from = 4;
    }
    for (int i = from; i < argc && ms; i++) {
        char *text;
        size_t bytes;
        lm_grammar *g;
        lm_str s = { .ctx = ctx }, line = { .ctx = ctx };
        if (lm_file_read_all(ctx, argv[i], LM_GRAMMAR_BYTES, &text, &bytes)) { fprintf(stderr, "%s\n", lm_error(ctx)); return 1; }
        const double t = lm_now();
        lm_err err = lm_grammar_new(&g, ctx, "schema", argv[i], text, bytes);
        const double compiled = 1e3 * (lm_now() - t);
        lm_str_puts(&line, "{\"file\": "); lm_str_json(&line, argv[i], strlen(argv[i])); lm_str_printf(&line, ", \"ms\": %.3f", compiled);
        ms[n++] = compiled;
        if (err) { refused++; lm_str_puts(&line, ", \"error\": "); lm_str_json(&line, lm_error(ctx), strlen(lm_error(ctx))); }
        else {
            lm_masker *m = NULL;
            lm_str_printf(&line, ", \"states\": %lld, \"texts\": [", (long long)lm_grammar_size_of(g).states);
            err = lm_masker_new(&m, ctx, g, trie);
            for (int k = 0, put = 0; k < texts && !err; k++) {
                err = sentence(ctx, m, lm_rng_of((uint64_t)k, argv[i]), &s);
                if (err == LM_E_DATA) { err = LM_OK; continue; }
                if (tok) err = follow(ctx, m, tok, &s, !put);
                if (put++) lm_str_puts(&line, ", ");
                lm_str_json(&line, s.p ? s.p : "", s.n);
            }
            lm_str_putc(&line, ']');
            if (err) fprintf(stderr, "%s: %s\n", argv[i], lm_error(ctx));
            lm_masker_free(m); lm_grammar_free(g);
        }
        printf("%s}\n", line.p ? line.p : "");
        lm_str_free(&s); lm_str_free(&line); lm_free(ctx, text);
    }
    if (n) qsort(ms, (size_t)n, sizeof *ms, up);
    if (n) fprintf(stderr, "%d schemas, %d refused; compiled in %.3f ms (median), %.3f ms (p99), %.3f ms (slowest)\n", n, refused, ms[n / 2], ms[n * 99 / 100], ms[n - 1]);
    for (int k = 0; k < KINDS && trie; k++) {
        static const char *const what[KINDS] = { "masks that were worked out", "masks that were known", "schemas' first sentences, a token" };
        double sum = 0;
        if (!took[k].n) continue;
        for (size_t i = 0; i < took[k].n; i++) sum += took[k].us[i];
        qsort(took[k].us, took[k].n, sizeof *took[k].us, up);
        fprintf(stderr, "%zu %s: mean %.3g us, p50 %.3g, p99 %.3g, max %.4g\n", took[k].n, what[k], sum / (double)took[k].n, took[k].us[took[k].n / 2],
                took[k].us[took[k].n * 99 / 100], took[k].us[took[k].n - 1]);
        free(took[k].us);
    }
    free(ms);
    lm_trie_free(trie); lm_tok_free(tok);
    lm_ctx_free(ctx);
    return 0;
}
