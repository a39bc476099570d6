/* logits.c — `loam logits`: the scores of every vocabulary entry after each given token, as a NumPy array. */
#include <stdlib.h>
#include <string.h>
#include "cmd/cmd_common.h"
#include "cmd/cmd_text.h"
#include "format/npy.h"

typedef struct { lm_cli_common common; const char *ids, *out, *dtype, *kv; int64_t chunk; } opts;
static const lm_opt rows[] = {
    LM_CLI_COMMON(opts),
    { LM_OPT_STR, "ids", offsetof(opts, ids), NULL, 0, 0, NULL, "1,2,3", "token ids, taken as they are (no BOS is added)" },
    { LM_OPT_STR, "out", offsetof(opts, out), NULL, 0, 0, NULL, "FILE.npy", "where the array goes: float32 (tokens, vocabulary)" },
    { LM_OPT_STR, "dtype", offsetof(opts, dtype), "auto", 0, 0, NULL, "T", "weights: auto (as stored), f32, bf16, or a quantized format such as Q8_0" },
    { LM_OPT_STR, "kv", offsetof(opts, kv), "f32", 0, 0, NULL, "T", "key-value pages: f32 or bf16" },
    { LM_OPT_INT, "chunk", offsetof(opts, chunk), "256", 1, 1 << 20, NULL, "N", "tokens computed at a time; changes no bit of the result" },
    LM_OPT_ROW_END };

typedef struct { float *to; int64_t vocab; const volatile int *stop; } sink;
static lm_err put(void *ud, int r, int64_t i, const float *logits) {
    sink *s = ud; (void)r;
    memcpy(s->to + i * s->vocab, logits, (size_t)s->vocab * sizeof *logits);
    return *s->stop ? LM_E_CANCELLED : LM_OK;
}
static lm_err compute(lm_cli *cli, const lm_cmd_model *m, const int32_t *ids, int64_t n, float *to) {
    lm_session *s;
    LM_TRY(lm_session_new(&s, m->e));
    sink k = { to, m->cfg->vocab, cli->stop };
    const lm_request q = { s, ids, n, LM_WANT_ALL };
    lm_err err = lm_engine_run(m->e, &q, 1, put, &k);
    lm_session_free(s);
    return err == LM_E_CANCELLED ? lm_cli_stop_err(cli) : err;
}
static lm_err run(lm_cli *cli) {
    const opts *o = cli->opts;
    LM_TRY(lm_cli_need(cli, 1, "one model: a Hugging Face folder, a GGUF file or a llama2.c checkpoint"));
    if (!o->ids) return lm_fail(cli->ctx, LM_E_CONFIG, "--ids is missing: the tokens to run, such as --ids 1,2,3");
    if (!o->out) return lm_fail(cli->ctx, LM_E_CONFIG, "--out is missing: the .npy file to write");
    int32_t *ids; int64_t n;
    LM_TRY(lm_cli_ids(cli, "--ids", o->ids, strlen(o->ids), &ids, &n));
    if (!n) return lm_fail(cli->ctx, LM_E_CONFIG, "--ids is empty");
    lm_cmd_model m;
    LM_TRY(lm_cmd_model_open(cli, cli->pos.v[0], &(lm_cmd_model_opts){ .dtype = o->dtype, .kv = o->kv, .context = n, .chunk = o->chunk }, &m));
    lm_err err;
    float *all = NULL;
    size_t count, bytes;
    if (!lm_mul_ok((size_t)n, (size_t)m.cfg->vocab, &count) || !lm_mul_ok(count, sizeof *all, &bytes)) { err = lm_fail(cli->ctx, LM_E_RANGE, "%lld tokens by %lld logits is too much", (long long)n, (long long)m.cfg->vocab); goto done; }
    if (!(all = lm_alloc(cli->ctx, LM_MEM_MISC, bytes))) { err = LM_E_NOMEM; goto done; }
    LM_GOTO(compute(cli, &m, ids, n, all), done);
    const int64_t dim[] = { n, m.cfg->vocab };
    LM_GOTO(lm_npy_save(cli->ctx, o->out, LM_F32, 2, dim, all), done);
    lm_cli_say(cli, "%s: float32 (%lld, %lld)", o->out, (long long)n, (long long)m.cfg->vocab);
    lm_str s = { .ctx = cli->ctx };
    lm_str_puts(&s, "{\"out\": "); lm_str_json(&s, o->out, strlen(o->out));
    lm_str_printf(&s, ", \"shape\": [%lld, %lld], \"argmax\": [", (long long)n, (long long)m.cfg->vocab);
    for (int64_t i = 0; i < n; i++) { int32_t best; lm_top(all + i * m.cfg->vocab, m.cfg->vocab, 1, &best); lm_str_printf(&s, i ? ", %d" : "%d", best); }
    lm_str_puts(&s, "]}");
    err = lm_cli_result(cli, &s);
    lm_str_free(&s);
done:
    lm_free(cli->ctx, all);
    lm_cmd_model_close(&m);
    return err;
}
const lm_cmd lm_cmd_logits = { .name = "logits", .summary = "write a model's logits for given token ids", .usage = "MODEL --ids 1,2,3 --out FILE.npy",
    .details = "Row i holds the scores for the token after ids[0..i]. The bits do not depend on threads or chunk.", .opts = rows, .opts_bytes = sizeof(opts), .run = run };
