/* bench_tok.c — encode and decode speed of one tokenizer on one text file. usage: bench_tok TOKENIZER TEXT [runs] [threads] [chunk bytes];
 * one JSON line. The text is cut at line ends into documents of about chunk bytes; the file is read and the tokenizer opened before the
 * clock starts; one untimed run fills the caches (as the peer's script does). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/file.h"
#include "tok/tok.h"

static int by_value(const void *a, const void *b) { double x = *(const double *)a, y = *(const double *)b; return x < y ? -1 : x > y; }

int main(int argc, char **argv) {
    if (argc < 3) { fprintf(stderr, "usage: bench_tok TOKENIZER TEXT [runs] [threads] [chunk bytes]\n"); return 2; }
    int runs = argc > 3 ? atoi(argv[3]) : 5, threads = argc > 4 ? atoi(argv[4]) : 1;
    size_t chunk = argc > 5 ? (size_t)atoll(argv[5]) : 16384, n, n_docs = 0;
    lm_ctx *c;
    if (runs < 1 || runs > 1000 || !chunk || lm_ctx_new(&c, &(lm_ctx_opts){ .n_threads = threads })) return 1;
    lm_tok *t;
    char *text;
    double t0 = lm_now();
    if (lm_tok_open(c, argv[1], NULL, &t) || lm_file_read_all(c, argv[2], (size_t)2 << 30, &text, &n)) {
        fprintf(stderr, "bench_tok: %s\n", lm_error(c));
        return 1;
    }
    double load = lm_now() - t0;
    lm_tok_text *d = lm_alloc(c, LM_MEM_MISC, (n / chunk + 2) * sizeof *d);
    size_t *start = lm_alloc(c, LM_MEM_MISC, (n / chunk + 3) * sizeof *start);
    double *enc = lm_alloc(c, LM_MEM_MISC, (size_t)runs * sizeof *enc), *dec = lm_alloc(c, LM_MEM_MISC, (size_t)runs * sizeof *dec),
           *cpu = lm_alloc(c, LM_MEM_MISC, (size_t)runs * sizeof *cpu);
    if (!d || !start || !enc || !dec || !cpu) return 1;
    for (size_t i = 0; i < n;) {
        size_t e = i + chunk < n ? i + chunk : n;
        while (e < n && text[e - 1] != '\n') e++;
        d[n_docs++] = (lm_tok_text){ text + i, e - i };
        i = e;
    }
    lm_tok_buf b = { .ctx = c };
    lm_str s = { .ctx = c };
    for (int r = -1; r < runs; r++) {
        b.n = 0;
        double a = lm_now(), p = (double)clock() / CLOCKS_PER_SEC;
        lm_err err = LM_OK;
        if (threads == 1) for (size_t i = 0; i < n_docs && !err; i++) err = lm_tok_encode(t, d[i].p, d[i].n, LM_TOK_SPECIAL, &b);
        else err = lm_tok_encode_many(c, t, d, n_docs, LM_TOK_SPECIAL, &b, start);
        double m = lm_now();
        if (r >= 0) cpu[r] = (double)clock() / CLOCKS_PER_SEC - p;
        lm_str_clear(&s);
        if (!err) err = lm_tok_decode(t, b.id, b.n, LM_TOK_SPECIAL, &s);
        double z = lm_now();
        if (err) { fprintf(stderr, "bench_tok: %s\n", lm_error(c)); return 1; }
        if (r >= 0) { enc[r] = m - a; dec[r] = z - m; }
    }
    qsort(enc, (size_t)runs, sizeof *enc, by_value);
    qsort(dec, (size_t)runs, sizeof *dec, by_value);
    qsort(cpu, (size_t)runs, sizeof *cpu, by_value);
    printf("{\"bytes\": %zu, \"documents\": %zu, \"tokens\": %zu, \"threads\": %d, \"load_s\": %.3f, \"encode_s\": %.4f, "
           "\"encode_best_s\": %.4f, \"encode_MBps\": %.1f, \"encode_cpu_MBps\": %.1f, \"decode_MBps\": %.1f, \"hash\": \"%016llx\"}\n",
           n, n_docs, b.n, threads, load, enc[runs / 2], enc[0], (double)n / enc[runs / 2] / 1e6, (double)n / cpu[runs / 2] / 1e6,
           (double)s.n / dec[runs / 2] / 1e6, (unsigned long long)lm_hash64(b.id, b.n * sizeof *b.id, 0));
    lm_str_free(&s);
    lm_tok_buf_free(&b);
    void *own[] = { d, start, enc, dec, cpu, text };
    for (int i = 0; i < 6; i++) lm_free(c, own[i]);
    lm_tok_free(t);
    lm_ctx_free(c);
    return 0;
}
