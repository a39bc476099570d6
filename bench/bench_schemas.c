/* bench_schemas.c — JSON Schemas compiled one by one, and random sentences of each: what tools/verify/schemas.py validates.
 *
 *     build/bench_schemas SENTENCES FILE… > out.jsonl
 *
 * A line per file: {"file", "ms", "error"} or {"file", "ms", "states", "texts": […]}. A sentence is a random walk over the bytes that may come next, which
 * prefers what closes a string, a list or an object, so that it ends. The last line sums up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "grammar/grammar.h"

static int up(const void *a, const void *b) { const double x = *(const double *)a, y = *(const double *)b; return x < y ? -1 : x > y; }
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
    int n = 0, refused = 0;
    for (int i = 2; i < argc && ms; i++) {
        char *text;
        size_t bytes;
        lm_grammar *g;
        lm_str s = { .ctx = ctx }, line = { .ctx = ctx };
        if (lm_file_read_all(ctx, argv[i], LM_GRAMMAR_BYTES, &text, &bytes)) { fprintf(stderr, "%s\n", lm_error(ctx)); return 1; }
        const double t = lm_now();
        lm_err err = lm_grammar_new(&g, ctx, "schema", argv[i], text, bytes);
        const double took = 1e3 * (lm_now() - t);
        lm_str_puts(&line, "{\"file\": "); lm_str_json(&line, argv[i], strlen(argv[i])); lm_str_printf(&line, ", \"ms\": %.3f", took);
        ms[n++] = took;
        if (err) { refused++; lm_str_puts(&line, ", \"error\": "); lm_str_json(&line, lm_error(ctx), strlen(lm_error(ctx))); }
        else {
            lm_masker *m = NULL;
            lm_str_printf(&line, ", \"states\": %lld, \"texts\": [", (long long)lm_grammar_size_of(g).states);
            err = lm_masker_new(&m, ctx, g, NULL);
            for (int k = 0, put = 0; k < texts && !err; k++) {
                err = sentence(ctx, m, lm_rng_of((uint64_t)k, argv[i]), &s);
                if (err == LM_E_DATA) { err = LM_OK; continue; }
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
    free(ms);
    lm_ctx_free(ctx);
    return 0;
}
