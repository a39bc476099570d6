/* cmd_common.c — what several commands do. */
#include <string.h>
#include "api/api_int.h"
#include "cmd/cmd_common.h"

lm_err lm_cmd_tok_open(lm_ctx *ctx, const char *path, lm_tok **out) { return lm_tok_open_beside(ctx, path, out); }
lm_err lm_cmd_device(lm_cli *cli, const char *name, lm_dev **dev) {
    *dev = NULL;
    return name && strcmp(name, "cpu") ? lm_dev_open(dev, cli->ctx, name) : LM_OK;
}
lm_err lm_cmd_model_open(lm_cli *cli, const char *path, const lm_cmd_model_opts *o, lm_cmd_model *m) {
    memset(m, 0, sizeof *m);
    double t = lm_now();
    LM_TRY(lm_cmd_device(cli, o->device, &m->dev));
    const lm_api_model_opts ao = { .dev = m->dev, .dtype = o->dtype, .kv = o->kv, .context = o->context, .max_seqs = o->max_seqs, .chunk = o->chunk, .no_tok = !o->need_tok };
    const lm_err err = lm_api_open(cli->ctx, path, &ao, &m->w, &m->store, &m->e, &m->tok);
    if (err) { lm_dev_close(m->dev); m->dev = NULL; return err; }
    m->cfg = lm_weights_cfg(m->w);
    m->load_s = lm_now() - t;
    return LM_OK;
}
void lm_cmd_model_close(lm_cmd_model *m) {
    lm_engine_free(m->e); lm_store_free(m->store); lm_tok_free(m->tok); lm_weights_close(m->w); lm_dev_close(m->dev);
    memset(m, 0, sizeof *m);
}
lm_err lm_cmd_prompt(lm_cli *cli, const lm_tok *tok, const char *text, size_t n, lm_tok_buf *ids) { return lm_prompt_ids(cli->ctx, tok, text, n, ids); }
lm_err lm_cmd_context(lm_cli *cli, int threads, lm_ctx **out) {
    return lm_ctx_new(out, &(lm_ctx_opts){ .n_threads = threads, .isa_mask = lm_ctx_isa_mask(cli->ctx) });
}
lm_err lm_cmd_sample(void *ud, lm_ctx *ctx, const lm_cfg *cfg, lm_store *store, const lm_tok *tok, const char *prompt, int64_t n, lm_str *out) {
    (void)ud;
    lm_engine *e = NULL;
    lm_tok_buf ids = { .ctx = ctx };
    lm_cli cli = { .ctx = ctx };
    lm_generation g;
    lm_err err;
    LM_GOTO(lm_cmd_prompt(&cli, tok, prompt, strlen(prompt), &ids), done);
    int64_t room = cfg->max_pos - (int64_t)ids.n + 1;
    if (n > room) n = room;
    if (n < 1 || !ids.n) goto done;
    LM_GOTO(lm_engine_new(&e, ctx, cfg, store, &(lm_engine_opts){ .chunk = 64, .mm = LM_F32, .kv = LM_F32 }), done);
    lm_generate_opts o = { .max_tokens = n, .n = 1, .sample = lm_sample_defaults() };
    LM_GOTO(lm_generate(e, tok, ids.id, (int64_t)ids.n, &o, &g), done);
    lm_str_puts(out, prompt);
    lm_str_add(out, g.out[0].text, g.out[0].text_bytes);
    lm_generation_free(&g);
    err = lm_str_err(out);
done:
    lm_tok_buf_free(&ids); lm_engine_free(e);
    return err;
}
