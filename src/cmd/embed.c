/* embed.c — `loam embed`: texts to vectors by an embedding model. */
#include <string.h>
#include "api/api_int.h"
#include "base/file.h"
#include "cmd/cmd_common.h"
#include "cmd/cmd_text.h"
#include "format/npy.h"

typedef struct { lm_cli_common common; const char *file, *out, *dtype, *text; int pool, normalize; bool truncate; int64_t rows; } opts;
static const char *const pools[] = { "auto", "mean", "cls", "last", NULL }, *const normalizes[] = { "auto", "yes", "no", NULL };
static const lm_opt rows[] = {
    LM_CLI_COMMON(opts),
    { LM_OPT_STR, "text", offsetof(opts, text), NULL, 0, 0, NULL, "TEXT", "one text (more may follow MODEL)" },
    { LM_OPT_STR, "file", offsetof(opts, file), NULL, 0, 0, NULL, "FILE", "texts, one a line; - is standard input" },
    { LM_OPT_STR, "out", offsetof(opts, out), NULL, 0, 0, NULL, "FILE.npy", "where the array goes: float32 (texts, width)" },
    { LM_OPT_ENUM, "pool", offsetof(opts, pool), "auto", 0, 0, pools, "HOW", "one vector from a text's tokens: mean, cls (the first), last; auto: as the model says" },
    { LM_OPT_ENUM, "normalize", offsetof(opts, normalize), "auto", 0, 0, normalizes, "WHEN", "vectors of length 1; auto: as the model says" },
    { LM_OPT_BOOL, "truncate", offsetof(opts, truncate), "false", 0, 0, NULL, NULL, "cut texts that are longer than the model's positions (else they are an error)" },
    { LM_OPT_STR, "dtype", offsetof(opts, dtype), "f32", 0, 0, NULL, "T", "f32, bf16, auto (as stored), or a quantized format such as Q8_0" },
    { LM_OPT_INT, "rows", offsetof(opts, rows), "1024", 1, 1 << 20, NULL, "N", "tokens computed at a time; changes no bit of the result" },
    LM_OPT_ROW_END
};
typedef struct { const char **v; size_t *bytes; size_t n, cap; } texts;
static lm_err add(lm_cli *cli, texts *t, const char *p, size_t n) {
    if (t->n == t->cap) {
        const size_t cap = t->cap ? 2 * t->cap : 64;
        const char **v = lm_arena_alloc(cli->a, cap * sizeof *v);
        size_t *bytes = lm_arena_alloc(cli->a, cap * sizeof *bytes);
        if (!v || !bytes) return LM_E_NOMEM;
        if (t->n) { memcpy(v, t->v, t->n * sizeof *v); memcpy(bytes, t->bytes, t->n * sizeof *bytes); }
        t->v = v; t->bytes = bytes; t->cap = cap;
    }
    t->v[t->n] = p; t->bytes[t->n++] = n;
    return LM_OK;
}
static lm_err lines(lm_cli *cli, const char *what, const char *p, size_t n, texts *t) {
    int64_t line = 0;
    for (const char *end = p + n, *e; p < end; p = e + 1) {
        e = memchr(p, '\n', (size_t)(end - p));
        if (!e) e = end;
        size_t k = (size_t)(e - p);
        if (k && p[k - 1] == '\r') k--;
        line++;
        if (!k) return lm_fail(cli->ctx, LM_E_DATA, "%s: line %lld is empty; every line is a text", what, (long long)line);
        LM_TRY(add(cli, t, p, k));
    }
    return LM_OK;
}
static lm_err tell(lm_cli *cli, const opts *o, int64_t d, const texts *t, const size_t *start, const float *v, double seconds) {
    if (o->out) lm_cli_say(cli, "%s: float32 (%zu, %lld)", o->out, t->n, (long long)d);
    else for (size_t i = 0; i < t->n; i++) {
        lm_str line = { .ctx = cli->ctx };
        for (int64_t j = 0; j < d; j++) lm_str_printf(&line, j ? " %.9g" : "%.9g", (double)v[(int64_t)i * d + j]);
        lm_err err = lm_str_err(&line);
        if (!err) lm_cli_say(cli, "%s", line.p);
        lm_str_free(&line);
        LM_TRY(err);
    }
    lm_str s = { .ctx = cli->ctx };
    lm_str_printf(&s, "{\"texts\": %zu, \"width\": %lld, \"tokens\": [", t->n, (long long)d);
    for (size_t i = 0; i < t->n; i++) lm_str_printf(&s, i ? ", %zu" : "%zu", start[i + 1] - start[i]);
    lm_str_printf(&s, "], \"seconds\": %.3f", seconds);
    if (o->out) { lm_str_puts(&s, ", \"out\": "); lm_str_json(&s, o->out, strlen(o->out)); }
    else {
        lm_str_puts(&s, ", \"vectors\": [");
        for (size_t i = 0; i < t->n; i++) {
            lm_str_puts(&s, i ? ", [" : "[");
            for (int64_t j = 0; j < d; j++) lm_str_printf(&s, j ? ", %.9g" : "%.9g", (double)v[(int64_t)i * d + j]);
            lm_str_puts(&s, "]");
        }
        lm_str_puts(&s, "]");
    }
    lm_str_puts(&s, "}");
    lm_err err = lm_cli_result(cli, &s);
    lm_str_free(&s);
    return err;
}
static lm_err run(lm_cli *cli) {
    const opts *o = cli->opts;
    if (cli->pos.n < 1) return lm_fail(cli->ctx, LM_E_CONFIG, "wanted one model, an embedding model such as MiniLM: a Hugging Face folder or a GGUF file");
    const char *path = cli->pos.v[0];
    texts t = { 0 };
    char *file = NULL; size_t file_n = 0;
    loam_embedder *e = NULL;
    float *v = NULL;
    lm_err err;
    if (o->text) LM_TRY(add(cli, &t, o->text, strlen(o->text)));
    for (int i = 1; i < cli->pos.n; i++) LM_TRY(add(cli, &t, cli->pos.v[i], strlen(cli->pos.v[i])));
    if (o->file) {
        if (!strcmp(o->file, "-")) LM_GOTO(lm_cli_stdin(cli, (size_t)1 << 30, &file, &file_n), done);
        else LM_GOTO(lm_file_read_all(cli->ctx, o->file, 1 << 30, &file, &file_n), done);
        LM_GOTO(lines(cli, strcmp(o->file, "-") ? o->file : "standard input", file, file_n, &t), done);
    }
    if (!t.n) { err = lm_fail(cli->ctx, LM_E_CONFIG, "no text: give texts after MODEL, --text, or --file with one a line"); goto done; }
    size_t *start = lm_arena_alloc(cli->a, (t.n + 1) * sizeof *start);
    if (!start) { err = LM_E_NOMEM; goto done; }
    const lm_api_embed_opts eo = { .dtype = o->dtype, .pool = o->pool ? pools[o->pool] : NULL, .normalize = o->normalize == 2 ? -1 : o->normalize,
                                   .truncate = o->truncate, .rows = o->rows, .stop = cli->stop };
    LM_GOTO(lm_api_embed_open(&e, cli->ctx, path, &eo), done);
    const int64_t d = loam_embedder_width(e);
    if (!(v = lm_alloc(cli->ctx, LM_MEM_MISC, t.n * (size_t)d * sizeof *v))) { err = LM_E_NOMEM; goto done; }
    const double t0 = lm_now();
    LM_GOTO(lm_api_embed(e, t.v, t.bytes, t.n, v, start), done);
    const double seconds = lm_now() - t0;
    if (o->out) LM_GOTO(lm_npy_save(cli->ctx, o->out, LM_F32, 2, (int64_t[]){ (int64_t)t.n, d }, v), done);
    err = tell(cli, o, d, &t, start, v, seconds);
done:
    lm_free(cli->ctx, v); lm_free(cli->ctx, file);
    loam_embedder_free(e);
    return err;
}
const lm_cmd lm_cmd_embed = { .name = "embed",
                              .summary = "make vectors of texts with an embedding model",
                              .usage = "MODEL TEXT… | --file FILE [--out FILE.npy]",
                              .details = "MODEL is an encoder such as MiniLM or BGE (a sentence-transformers folder, or GGUF), or a language model with --pool. Without --out the "
                                         "vectors are printed, a line a text. A text's vector does not depend on the other texts, on --rows or on threads.",
                              .opts = rows,
                              .opts_bytes = sizeof(opts),
                              .run = run };
