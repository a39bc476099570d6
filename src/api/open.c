/* open.c — opening a model the usual way, for the public interface and the commands alike. */
#include <string.h>
#include "api/api_int.h"
#include "base/file.h"
#include "device/probe.h"
#include "format/yaml.h"
#include "quant/quant.h"

/* A checkpoint of a training run has no tokenizer of its own: RUN/checkpoints/step-N has the run's. */
static lm_err run_of(const char *path, lm_str *run, bool *is) {
    static const char *const names[] = { "manifest.json", "../../tokenizer.json", "../../config.yaml" };
    *is = true;
    for (int i = 0; i < LM_COUNT(names) && *is; i++) {
        lm_str_clear(run);
        lm_str_printf(run, "%s/%s", path, names[i]);
        LM_TRY(lm_str_err(run));
        *is = lm_exists(run->p);
    }
    lm_str_clear(run);
    lm_str_printf(run, "%s/../..", path);
    return lm_str_err(run);
}
lm_err lm_tok_open_beside(lm_ctx *ctx, const char *path, lm_tok **out) {
    size_t n = strlen(path);
    if (lm_is_dir(path)) {
        lm_str run = { .ctx = ctx };
        bool is;
        lm_err e = run_of(path, &run, &is);
        if (!e) e = lm_tok_open(ctx, is ? run.p : path, NULL, out);
        lm_str_free(&run);
        return e;
    }
    if (n < 4 || strcmp(path + n - 4, ".bin")) return lm_tok_open(ctx, path, NULL, out);
    if (!lm_tok_open(ctx, path, NULL, out)) return LM_OK;                    /* a tokenizer.bin itself */
    /* A llama2.c checkpoint: the tokenizer lies beside it. */
    const char *slash = strrchr(path, '/');
    int dir = slash ? (int)(slash - path) : 1;
    const char *names[] = { "tokenizer.bin", "tok512.bin", "tokenizer.model", "tokenizer.json" };
    for (int i = 0; i < LM_COUNT(names); i++) {
        lm_str p = { .ctx = ctx };
        lm_str_printf(&p, "%.*s/%s", dir, slash ? path : ".", names[i]);
        if (lm_str_err(&p)) { lm_str_free(&p); return LM_E_NOMEM; }
        bool there = lm_exists(p.p);
        lm_err e = there ? lm_tok_open(ctx, p.p, NULL, out) : LM_OK;
        lm_str_free(&p);
        if (there) return e;
    }
    return lm_fail(ctx, LM_E_NOTFOUND, "%s: no tokenizer lies beside it (tokenizer.bin, tok512.bin, tokenizer.model or tokenizer.json)", path);
}
static lm_err dtypes(lm_ctx *ctx, const lm_api_model_opts *o, lm_load_opts *lo, lm_engine_opts *eo) {
    const char *d = o->dtype ? o->dtype : "auto";
    if (!strcmp(d, "f32")) lo->dtype = LM_F32;
    else if (!strcmp(d, "bf16")) {
        lo->dtype = LM_BF16;
        eo->mm = LM_BF16;
    } else if (strcmp(d, "auto") && !(lo->quant = lm_quant_by_name(d)))
        return lm_fail(ctx, LM_E_CONFIG, "dtype %s: auto, f32, bf16 and quantized formats such as Q8_0 are known", d);
    if (lo->quant && !lo->quant->from_float) return lm_fail(ctx, LM_E_UNSUPPORTED, "dtype %s: this format can be read, not made", d);
    if (o->load && !strcmp(o->load, "map")) lo->map = !o->dev;                /* a device has its copy anyway */
    else if (o->load && strcmp(o->load, "read")) return lm_fail(ctx, LM_E_CONFIG, "load %s: read and map are known", o->load);
    return o->kv ? lm_engine_kv_of(ctx, o->kv, &eo->kv, &eo->kv_quant) : LM_OK;
}
lm_err lm_api_beside(lm_ctx *ctx, const lm_cfg *cfg, lm_store *types, const lm_engine_opts *eo, size_t *bytes) {
    lm_engine_opts o = *eo;
    lm_engine *e;
    lm_plan_stats st;
    size_t weights = 0;
    o.dry = true;
    LM_TRY(lm_engine_new(&e, ctx, cfg, types, &o));
    lm_plan_stats_of(lm_engine_plan(e), &st);
    lm_engine_free(e);
    for (int i = 0; i < lm_store_count(types); i++) {
        lm_tensor t; size_t b = 0;
        lm_store_name(types, i, &t);
        lm_storage_bytes((lm_dtype)t.dtype, t.quant, (lm_layout)t.layout, t.rank, t.dim, &b);
        weights += b;
    }
    *bytes = (st.state_bytes > weights ? st.state_bytes - weights : 0) + st.arena_bytes + st.thread_bytes;
    return LM_OK;
}
/* Does it fit? Read into memory it must; mapped, what does not fit is read from the file as it is used, by a way that knows the order (base/stream.h): the
 * system's own would forget each page right before it is needed. */
static lm_err make_room(lm_ctx *ctx, lm_weights *w, const lm_api_model_opts *o, const lm_engine_opts *eo, lm_load_opts *lo) {
    const size_t have = o->memory ? (size_t)o->memory : lm_memory_available();
    size_t file = 0, beside;
    for (int i = 0; i < lm_weights_count(w); i++) { lm_weight_info k; lm_weights_info(w, i, &k); file += k.bytes; }
    if (!have || o->dev || file < have / 16) return LM_OK;               /* as it plainly does: nothing need be planned twice */
    lm_store *types;
    lm_load_need need;
    lm_load_opts all = *lo;
    all.room = 0;
    LM_TRY(lm_store_new(&types, ctx));
    lm_err err = lm_weights_declare(w, types, &all, &need);
    lm_engine_opts e = *eo;
    if (lo->quant || !o->dtype || !strcmp(o->dtype, "auto")) e.mm = lm_engine_mm_for(types);
    if (!err) err = lm_api_beside(ctx, lm_weights_cfg(w), types, &e, &beside);
    lm_store_free(types);
    LM_TRY(err);
    beside += lm_api_slack(need.all);
    if (need.all + beside <= have) return LM_OK;
    if (!lo->map)
        return lm_fail(ctx, LM_E_NOMEM, "the model does not fit: weights of %zu MB, %zu MB beside them, %zu MB of memory; --load map reads what does not fit from the "
                       "file as it runs, --context and --kv make the rest smaller", need.all >> 20, beside >> 20, have >> 20);
    if (have <= beside)
        return lm_fail(ctx, LM_E_NOMEM, "the model does not fit: %zu MB beside its weights, %zu MB of memory; --context and --kv make that smaller", beside >> 20,
                       have >> 20);
    lo->map = false;
    lo->room = have - beside;
    return LM_OK;
}
lm_err lm_api_open(lm_ctx *ctx, const char *path, const lm_api_model_opts *o, lm_weights **wo, lm_store **so, lm_engine **eo_, lm_tok **to) {
    lm_load_opts lo = { .dtype = LM_QUANT, .panels = !o->dev };
    lm_engine_opts eo = {
        .dev = o->dev, .context = o->context, .max_seqs = o->max_seqs, .chunk = o->chunk, .rows = o->rows, .mm = LM_F32, .kv = LM_F32, .deterministic = o->deterministic
    };
    lm_weights *w = NULL; lm_store *s = NULL; lm_engine *e = NULL; lm_tok *t = NULL;
    lm_err err;
    LM_TRY(dtypes(ctx, o, &lo, &eo));
    LM_GOTO(lm_weights_open(&w, ctx, path), fail);
    const lm_cfg *cfg = lm_weights_cfg(w);
    LM_GOTO(make_room(ctx, w, o, &eo, &lo), fail);
    if (!lo.room) LM_GOTO(lm_weights_ahead(w, &lo), fail);             /* the disk reads while the tokenizer is made; what stays in its file has readers of its own */
    if (!o->no_tok) {
        LM_GOTO(lm_tok_open_beside(ctx, path, &t), fail);
        if (lm_tok_vocab(t) > cfg->vocab) {
            err = lm_fail(ctx, LM_E_MISMATCH, "%s: the tokenizer has %d ids, the model's embedding only %lld rows", path, lm_tok_vocab(t),
                          (long long)cfg->vocab);
            goto fail;
        }
    }
    LM_GOTO(lm_store_new(&s, ctx), fail);
    LM_GOTO(lm_weights_load(w, s, &lo), fail);
    if (lo.quant || !o->dtype || !strcmp(o->dtype, "auto")) eo.mm = lm_engine_mm_for(s);
    LM_GOTO(lm_engine_new(&e, ctx, cfg, s, &eo), fail);
    *wo = w; *so = s; *eo_ = e; *to = t;
    return LM_OK;
fail:
    lm_engine_free(e); lm_store_free(s); lm_tok_free(t); lm_weights_close(w);
    return err;
}
lm_err lm_prompt_ids(lm_ctx *ctx, const lm_tok *tok, const char *text, size_t n, lm_tok_buf *ids) {
    ids->ctx = ctx;
    LM_TRY(lm_tok_encode(tok, text, n, LM_TOK_ADD, ids));
    if (ids->n) return LM_OK;
    int k; const int32_t *eos = lm_tok_eos(tok, &k);
    int32_t first = lm_tok_bos(tok) >= 0 ? lm_tok_bos(tok) : k ? eos[0] : -1;
    if (first < 0) return LM_OK;
    if (!ids->id && !(ids->id = lm_alloc(ctx, LM_MEM_TOK, 16 * sizeof *ids->id))) return LM_E_NOMEM;
    if (!ids->cap) ids->cap = 16;
    ids->id[ids->n++] = first;
    return LM_OK;
}
lm_err lm_api_sample(void *ud, lm_ctx *ctx, const lm_cfg *cfg, lm_store *store, const lm_tok *tok, const char *prompt, int64_t n, lm_str *out) {
    (void)ud;
    lm_engine *e = NULL;
    lm_tok_buf ids = { .ctx = ctx };
    lm_generation g;
    lm_err err;
    LM_GOTO(lm_prompt_ids(ctx, tok, prompt, strlen(prompt), &ids), done);
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
lm_err lm_run_config(lm_ctx *ctx, lm_arena *a, const char *file, const char *const *settings, int n, lm_run_cfg *cfg) {
    LM_TRY(lm_opt_defaults(ctx, a, lm_run_options, cfg));
    if (file) {
        lm_yaml y;
        LM_TRY(lm_yaml_load(ctx, a, file, &y));
        LM_TRY(lm_yaml_apply(ctx, a, file, &y, "", lm_run_options, cfg));
    }
    for (int i = 0; i < n; i++) {
        const char *eq = strchr(settings[i], '=');
        if (!eq) return lm_fail(ctx, LM_E_CONFIG, "\"%s\" is not key=value", settings[i]);
        char *key = lm_arena_printf(a, "%.*s", (int)(eq - settings[i]), settings[i]);
        if (!key) return LM_E_NOMEM;
        LM_TRY(lm_opt_set(ctx, a, lm_run_options, cfg, key, eq + 1));
    }
    return LM_OK;
}
