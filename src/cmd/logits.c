/* logits.c — `loam logits`: the scores of every vocabulary entry after each given token, as a NumPy array; by loam.h. */
#include <stdlib.h>
#include <string.h>
#include "cmd/cmd_common.h"
#include "cmd/cmd_text.h"
#include "format/npy.h"

typedef struct { lm_cli_common common; const char *ids, *out, *dtype, *kv, *load; int64_t chunk; } opts;
static const lm_opt rows[] = {
    LM_CLI_COMMON(opts),
    { LM_OPT_STR, "ids", offsetof(opts, ids), NULL, 0, 0, NULL, "1,2,3", "token ids, taken as they are (no BOS is added)" },
    { LM_OPT_STR, "out", offsetof(opts, out), NULL, 0, 0, NULL, "FILE.npy", "where the array goes: float32 (tokens, vocabulary)" },
    { LM_OPT_STR, "dtype", offsetof(opts, dtype), "f32", 0, 0, NULL, "T",
      "f32: the stored weights exactly, multiplied in f32; auto: as `loam run` computes; bf16, or a quantized format such as Q8_0" },
    { LM_OPT_STR, "kv", offsetof(opts, kv), "f32", 0, 0, NULL, "T", "key-value pages: f32, bf16, f16, q8_0 or q4_0" },
    { LM_OPT_STR, "load", offsetof(opts, load), "read", 0, 0, NULL, "HOW", "weights: read into memory, or map: used where they lie in the file, or read from it as they are used where they do not fit" },
    { LM_OPT_INT, "chunk", offsetof(opts, chunk), "256", 1, 1 << 20, NULL, "N", "tokens computed at a time; changes no bit of the result" },
    LM_OPT_ROW_END
};

static lm_err run(lm_cli *cli) {
    const opts *o = cli->opts;
    LM_TRY(lm_cli_need(cli, 1, "one model: a Hugging Face folder, a GGUF file or a llama2.c checkpoint"));
    if (!o->ids) return lm_fail(cli->ctx, LM_E_CONFIG, "--ids is missing: the tokens to run, such as --ids 1,2,3");
    if (!o->out) return lm_fail(cli->ctx, LM_E_CONFIG, "--out is missing: the .npy file to write");
    int32_t *ids; int64_t n;
    LM_TRY(lm_cli_ids(cli, "--ids", o->ids, strlen(o->ids), &ids, &n));
    if (!n) return lm_fail(cli->ctx, LM_E_CONFIG, "--ids is empty");
    loam_context ctx = { .ctx = cli->ctx };
    loam_model *m = NULL; loam_session *session = NULL;
    LM_TRY((lm_err)loam_model_open(&m, &ctx, cli->pos.v[0],
                                   &(loam_model_options){ .size = sizeof(loam_model_options),
                                                          .dtype = o->dtype,
                                                          .kv = o->kv,
                                                          .load = o->load,
                                                          .context = n,
                                                          .chunk = o->chunk,
                                                          .logits_rows = n,
                                                          .no_tokenizer = 1 }));
    const int64_t V = loam_model_vocab(m), dim[] = { n, V };
    lm_err err;
    lm_str s = { .ctx = cli->ctx };
    float *all = NULL;
    size_t count, bytes;
    if (!lm_mul_ok((size_t)n, (size_t)V, &count) || !lm_mul_ok(count, sizeof *all, &bytes)) {
        err = lm_fail(cli->ctx, LM_E_RANGE, "%lld tokens by %lld logits is too much", (long long)n, (long long)V);
        goto done;
    }
    if (!(all = lm_alloc(cli->ctx, LM_MEM_MISC, bytes))) { err = LM_E_NOMEM; goto done; }
    LM_GOTO((lm_err)loam_session_new(&session, m), done);
    LM_GOTO((lm_err)loam_session_logits(session, ids, (size_t)n, all), done);
    LM_GOTO(lm_npy_save(cli->ctx, o->out, LM_F32, 2, dim, all), done);
    lm_cli_say(cli, "%s: float32 (%lld, %lld)", o->out, (long long)n, (long long)V);
    lm_str_puts(&s, "{\"out\": "); lm_str_json(&s, o->out, strlen(o->out));
    lm_str_printf(&s, ", \"shape\": [%lld, %lld], \"argmax\": [", (long long)n, (long long)V);
    for (int64_t i = 0; i < n; i++) { int32_t best; lm_top(all + i * V, V, 1, &best); lm_str_printf(&s, i ? ", %d" : "%d", best); }
    lm_str_puts(&s, "]}");
    err = lm_cli_result(cli, &s);
done:
    lm_str_free(&s); lm_free(cli->ctx, all);
    loam_session_free(session); loam_model_free(m);
    return err;
}
const lm_cmd lm_cmd_logits = { .name = "logits",
                               .summary = "write a model's logits for given token ids",
                               .usage = "MODEL --ids 1,2,3 --out FILE.npy",
                               .details =
                                   "Row i holds the scores for the token after ids[0..i]. The bits do not depend on threads or chunk.",
                               .opts = rows,
                               .opts_bytes = sizeof(opts),
                               .run = run };
