/* cmd_common.c — what several commands do. */
#include <string.h>
#include "base/file.h"
#include "cmd/cmd_common.h"
#include "quant/quant.h"

lm_err lm_cmd_tok_open(lm_ctx *ctx, const char *path, lm_tok **out) {
    size_t n = strlen(path);
    if (lm_is_dir(path) || n < 4 || strcmp(path + n - 4, ".bin")) return lm_tok_open(ctx, path, NULL, out);
    if (!lm_tok_open(ctx, path, NULL, out)) return LM_OK;                    /* a tokenizer.bin itself */
    /* A llama2.c checkpoint: the tokenizer lies beside it. */
    const char *slash = strrchr(path, '/');
    int dir = slash ? (int)(slash - path) : 1;
    const char *names[] = { "tokenizer.bin", "tok512.bin", "tokenizer.model", "tokenizer.json" };
    for (int i = 0; i < LM_COUNT(names); i++) {
        lm_str p = { .ctx = ctx };
        lm_str_printf(&p, "%.*s/%s", dir, slash ? path : ".", names[i]);
        if (lm_str_err(&p)) return LM_E_NOMEM;
        lm_err e = lm_exists(p.p) ? lm_tok_open(ctx, p.p, NULL, out) : LM_E_NOTFOUND;
        bool there = lm_exists(p.p);
        lm_str_free(&p);
        if (there) return e;
    }
    return lm_fail(ctx, LM_E_NOTFOUND, "%s: no tokenizer lies beside it (tokenizer.bin, tok512.bin, tokenizer.model or tokenizer.json)", path);
}
lm_err lm_cmd_model_open(lm_cli *cli, const char *path, const lm_cmd_model_opts *o, lm_cmd_model *m) {
    lm_ctx *ctx = cli->ctx;
    memset(m, 0, sizeof *m);
    double t = lm_now();
    lm_load_opts lo = { .dtype = LM_QUANT, .panels = true };
    lm_engine_opts eo = { .context = o->context, .max_seqs = o->max_seqs, .chunk = o->chunk, .mm = LM_F32, .kv = LM_F32 };
    lm_err err;
    const char *dtype = o->dtype ? o->dtype : "auto";
    if (!strcmp(dtype, "f32")) lo.dtype = LM_F32;
    else if (!strcmp(dtype, "bf16")) { lo.dtype = LM_BF16; eo.mm = LM_BF16; }
    else if (strcmp(dtype, "auto") && !(lo.quant = lm_quant_by_name(dtype)))
        return lm_fail(ctx, LM_E_CONFIG, "--dtype %s: auto, f32, bf16 and quantized formats such as Q8_0 are known", dtype);
    if (lo.quant && !lo.quant->from_float) return lm_fail(ctx, LM_E_UNSUPPORTED, "--dtype %s: this format can be read, not made", dtype);
    if (o->kv && !strcmp(o->kv, "bf16")) eo.kv = LM_BF16;
    else if (o->kv && strcmp(o->kv, "f32")) return lm_fail(ctx, LM_E_CONFIG, "--kv %s: f32 and bf16 are known", o->kv);
    LM_GOTO(lm_weights_open(&m->w, ctx, path), fail);
    m->cfg = lm_weights_cfg(m->w);
    if (!strcmp(dtype, "auto")) {                                          /* as stored: bf16 weights are multiplied in bf16 */
        int64_t bf16 = 0, all = 0;
        for (int i = 0; i < lm_weights_count(m->w); i++) { lm_weight_info k; lm_weights_info(m->w, i, &k); if (k.rank == 2) { all++; bf16 += k.dtype == LM_BF16; } }
        if (all && bf16 == all) eo.mm = LM_BF16;
    }
    if (o->need_tok) {
        LM_GOTO(lm_cmd_tok_open(ctx, path, &m->tok), fail);
        if (lm_tok_vocab(m->tok) > m->cfg->vocab) {
            err = lm_fail(ctx, LM_E_MISMATCH, "%s: the tokenizer has %d ids, the model's embedding only %lld rows", path, lm_tok_vocab(m->tok), (long long)m->cfg->vocab); goto fail; }
    }
    LM_GOTO(lm_store_new(&m->store, ctx), fail);
    LM_GOTO(lm_weights_load(m->w, m->store, &lo), fail);
    LM_GOTO(lm_engine_new(&m->e, ctx, m->cfg, m->store, &eo), fail);
    m->load_s = lm_now() - t;
    return LM_OK;
fail:
    lm_cmd_model_close(m);
    return err;
}
void lm_cmd_model_close(lm_cmd_model *m) {
    lm_engine_free(m->e); lm_store_free(m->store); lm_tok_free(m->tok); lm_weights_close(m->w);
    memset(m, 0, sizeof *m);
}
lm_err lm_cmd_prompt(lm_cli *cli, const lm_tok *tok, const char *text, size_t n, lm_tok_buf *ids) {
    ids->ctx = cli->ctx;
    LM_TRY(lm_tok_encode(tok, text, n, LM_TOK_ADD, ids));
    if (ids->n) return LM_OK;
    int k; const int32_t *eos = lm_tok_eos(tok, &k);
    int32_t first = lm_tok_bos(tok) >= 0 ? lm_tok_bos(tok) : k ? eos[0] : -1;
    if (first < 0) return LM_OK;
    if (!(ids->id = lm_alloc(cli->ctx, LM_MEM_TOK, 16 * sizeof *ids->id))) return LM_E_NOMEM;
    ids->cap = 16; ids->id[ids->n++] = first;
    return LM_OK;
}
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
