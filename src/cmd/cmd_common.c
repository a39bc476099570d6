/* cmd_common.c — what several commands do. */
#include <string.h>
#include "api/api_int.h"
#include "cmd/cmd_common.h"
#include "cmd/cmd_plan_fit.h"
#include "cmd/cmd_shipped.h"

lm_err lm_cmd_tok_open(lm_ctx *ctx, const char *path, lm_tok **out) { return lm_tok_open_beside(ctx, path, out); }
lm_err lm_cmd_device(lm_cli *cli, const char *name, lm_dev **dev) {
    *dev = NULL;
    return name && strcmp(name, "cpu") ? lm_dev_open(dev, cli->ctx, name) : LM_OK;
}
static void no_fit(lm_cli *cli, const char *path, const lm_cmd_model_opts *o, lm_dev *dev) {
    char *text = lm_arena_printf(cli->a, "%s", lm_error(cli->ctx));
    lm_weights *w;
    if (!lm_weights_open(&w, cli->ctx, path)) {
        const lm_cfg c = *lm_weights_cfg(w);
        bool half = true;
        for (int i = 0; i < lm_weights_count(w); i++) {
            lm_weight_info k;
            lm_weights_info(w, i, &k);
            half &= k.rank != 2 || k.dtype == LM_BF16;
        }
        const lm_serve_opts so = { .dtype = half || (o->dtype && !strcmp(o->dtype, "bf16")) ? LM_BF16 : LM_F32,
                                   .kv = o->kv && !strcmp(o->kv, "bf16") ? LM_BF16 : LM_F32,
                                   .context = o->context ? o->context : c.max_pos,
                                   .dev = dev };
        lm_weights_close(w);
        lm_no_fit_serve(cli, cli->ctx, &c, &so);
    }
    lm_error_clear(cli->ctx);
    if (text) lm_fail(cli->ctx, LM_E_NOMEM, "%s", text);
}
lm_err lm_cmd_model_open(lm_cli *cli, const char *path, const lm_cmd_model_opts *o, lm_cmd_model *m) {
    memset(m, 0, sizeof *m);
    double t = lm_now();
    LM_TRY(lm_cmd_model_path(cli, path, &path));
    LM_TRY(lm_cmd_device(cli, o->device, &m->dev));
    const lm_api_model_opts ao = { .dev = m->dev,
                                   .dtype = o->dtype,
                                   .kv = o->kv,
                                   .context = o->context,
                                   .max_seqs = o->max_seqs,
                                   .chunk = o->chunk,
                                   .rows = o->rows,
                                   .load = o->load,
                                   .memory = o->memory,
                                   .deterministic = o->deterministic,
                                   .no_tok = !o->need_tok };
    const lm_err err = lm_api_open(cli->ctx, path, &ao, &m->w, &m->store, &m->e, &m->tok);
    if (err == LM_E_NOMEM && m->dev) no_fit(cli, path, o, m->dev);
    if (err) { lm_dev_close(m->dev); m->dev = NULL; return err; }
    m->cfg = lm_weights_cfg(m->w);
    m->load_s = lm_now() - t;
    return LM_OK;
}
void lm_cmd_model_close(lm_cmd_model *m) {
    lm_engine_free(m->e); lm_store_free(m->store); lm_tok_free(m->tok); lm_weights_close(m->w); lm_dev_close(m->dev);
    memset(m, 0, sizeof *m);
}
lm_err lm_cmd_context(lm_cli *cli, int threads, lm_ctx **out) {
    return lm_ctx_new(out, &(lm_ctx_opts){ .n_threads = threads, .isa_mask = lm_ctx_isa_mask(cli->ctx) });
}
