/* convert.c — `loam convert`: a model from one format to another, its tokenizer with it.
 *
 * Parameters are read by all threads and written one after the other, so memory is the largest of them in f32, whatever the model's size. The
 * shards of a training run's checkpoint are such a model too. The tokenizer is written and opened again first and must give the ids of
 * the old one on real text, else nothing is converted. A signal is heeded between two parameters and leaves nothing behind. */
#include <string.h>
#include "base/file.h"
#include "cmd/cmd_common.h"
#include "cmd/cmd_text.h"
#include "cmd/cmd_tok.h"
#include "quant/quant.h"

static const char *const targets[] = { "auto", "hf", "gguf", NULL };
enum { AUTO, HF, GGUF };
typedef struct { lm_cli_common common; const char *dtype, *embedding, *tokenizer; int to; bool no_tok, force; int64_t shard; } opts;
static const lm_opt rows[] = {
    LM_CLI_COMMON(opts),
    { LM_OPT_ENUM, "to", offsetof(opts, to), "auto", 0, 0, targets, "FORMAT", "hf (a folder) or gguf (a file); auto: by OUT's name" },
    { LM_OPT_STR, "dtype", offsetof(opts, dtype), "auto", 0, 0, NULL, "T",
      "auto (as stored), f32, bf16, f16; gguf also quantized formats, all matrices alike: Q8_0, Q4_0 … (mixes: loam quantize)" },
    { LM_OPT_STR, "embedding", offsetof(opts, embedding), NULL, 0, 0, NULL, "T",
      "gguf: the embedding and the head in another quantized format than --dtype" },
    { LM_OPT_BYTES, "shard", offsetof(opts, shard), "0", 0, 0, NULL, "BYTES", "hf: largest file; 0 = one file" },
    { LM_OPT_STR, "tokenizer", offsetof(opts, tokenizer), NULL, 0, 0, NULL, "PATH", "take the tokenizer from here" },
    { LM_OPT_BOOL, "no-tokenizer", offsetof(opts, no_tok), "false", 0, 0, NULL, NULL, "write weights and configuration only" },
    { LM_OPT_BOOL, "force", offsetof(opts, force), "false", 0, 0, NULL, NULL, "replace OUT if it is there" },
    LM_OPT_ROW_END
};

static bool ends(const char *s, const char *tail) { size_t a = strlen(s), b = strlen(tail); return a >= b && !strcmp(s + a - b, tail); }
/* What the file has most of, by bytes. */
static lm_err stored(lm_cli *cli, lm_weights *w, lm_dtype *dtype, const lm_quant **quant) {
    struct { lm_dtype d; const lm_quant *q; uint64_t bytes; } seen[32] = {{0}};
    int n = 0, best = 0;
    for (int i = 0; i < lm_weights_count(w); i++) {
        lm_weight_info k; lm_weights_info(w, i, &k);
        if (k.rank < 2) continue;
        int j = 0;
        while (j < n && (seen[j].d != k.dtype || seen[j].q != k.quant)) j++;
        if (j == n) { if (n == LM_COUNT(seen)) continue; seen[n].d = k.dtype; seen[n++].q = k.quant; }
        seen[j].bytes += k.bytes;
        if (seen[j].bytes > seen[best].bytes) best = j;
    }
    (void)cli;
    *quant = n ? seen[best].q : NULL;
    *dtype = n && (seen[best].d == LM_BF16 || seen[best].d == LM_F16) ? seen[best].d : LM_F32;
    return LM_OK;
}
typedef struct { lm_cli *cli; lm_weights *w; lm_store *store; } source;
static lm_err fetch(void *ud, const char *name, lm_tensor *t) {
    source *s = ud;
    if (lm_cli_stopped(s->cli)) return lm_cli_stop_err(s->cli);
    if (lm_store_count(s->store)) LM_TRY(lm_store_remove(s->store, lm_store_name(s->store, 0, NULL)));
    LM_TRY(lm_weights_load_one(s->w, s->store, name));
    return lm_store_get(s->store, name, t) ? LM_OK : lm_fail(s->cli->ctx, LM_E_INTERNAL, "%s was read and is not in memory", name);
}
static lm_err write_out(lm_cli *cli, const opts *o, int to, const char *out, lm_weights *w, lm_store *store, const lm_tok *tok,
                        lm_dtype dtype, const lm_quant *quant, const lm_quant *embed) {
    source s = { cli, w, store };
    const lm_param_source from = { fetch, &s };
    const lm_cfg *cfg = lm_weights_cfg(w);
    if (to == HF) {
        LM_TRY(lm_model_save_hf_from(cli->ctx, cfg, &from, out, dtype, (uint64_t)o->shard));
        return tok ? lm_tok_save(cli->ctx, tok, out) : LM_OK;
    }
    lm_cmd_tok_arg x = { cli->ctx, tok, cfg->vocab };
    return lm_model_save_gguf_from(cli->ctx, cfg, &from, out, dtype, quant, embed, lm_cmd_tok_metadata, &x);
}
static double size_of(const char *path) {
    double sum = 0;
    char **names; int n;
    lm_file *f;
    if (!lm_is_dir(path)) { if (!lm_file_open(&f, NULL, path)) { sum = (double)lm_file_size(f); lm_file_close(f); } return sum; }
    lm_ctx *quiet;
    if (lm_ctx_new(&quiet, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    if (!lm_dir_list(quiet, path, &names, &n)) {
        for (int i = 0; i < n; i++) {
            char *p;
            if (ends(names[i], ".safetensors") && !lm_path_join(quiet, &p, path, names[i])) {
                if (!lm_is_dir(p)) sum += size_of(p);
                lm_free(quiet, p);
            }
        }
        lm_free(quiet, names);
    }
    lm_ctx_free(quiet);
    return sum;
}
static lm_err run(lm_cli *cli) {
    const opts *o = cli->opts;
    lm_ctx *ctx = cli->ctx;
    LM_TRY(lm_cli_need(cli, 2, "a model and where to write it"));
    const char *in = cli->pos.v[0], *out = cli->pos.v[1];
    const int to = o->to ? o->to : ends(out, ".gguf") ? GGUF : HF;
    lm_dtype dtype = LM_F32; const lm_quant *quant = NULL, *embed = NULL;
    const bool as_stored = !strcmp(o->dtype, "auto");
    if (!as_stored && (!lm_dtype_parse(o->dtype, &dtype) || (dtype != LM_F32 && dtype != LM_BF16 && dtype != LM_F16))) {
        dtype = LM_F32;
        if (!(quant = lm_quant_by_name(o->dtype)))
            return lm_fail(ctx, LM_E_CONFIG, "--dtype %s: auto, f32, bf16, f16 and quantized formats such as Q8_0 are known (mixes such as Q4_K_M: loam quantize)", o->dtype);
        if (!quant->from_float) return lm_fail(ctx, LM_E_UNSUPPORTED, "--dtype %s: this format can be read, not made", o->dtype);
        if (to == HF)
            return lm_fail(ctx, LM_E_UNSUPPORTED,
                           "--dtype %s: a Hugging Face folder holds f32, bf16 or f16; GGUF has quantized formats (name OUT *.gguf)",
                           o->dtype);
    }
    if (o->embedding && (to == HF || !(embed = lm_quant_by_name(o->embedding)) || !embed->from_float))
        return lm_fail(ctx, LM_E_CONFIG, "--embedding %s: wanted a quantized format that is written, such as Q8_0, and OUT a GGUF file",
                       o->embedding);
    if (!o->force && lm_exists(out) && (to == GGUF || !lm_is_dir(out)))
        return lm_fail(ctx, LM_E_CONFIG, "%s is there already; --force replaces it", out);
    if (to == HF && lm_is_dir(out)) {
        char *p = lm_arena_printf(cli->a, "%s/model.safetensors", out), *q = lm_arena_printf(cli->a, "%s/config.json", out);
        if (!p || !q) return LM_E_NOMEM;
        if (!o->force && (lm_exists(p) || lm_exists(q))) return lm_fail(ctx, LM_E_CONFIG, "%s already holds a model; --force replaces it", out);
    }
    lm_weights *w = NULL; lm_store *store = NULL; lm_tok *tok = NULL;
    lm_err err;
    double t = lm_now();
    LM_GOTO(lm_weights_open(&w, ctx, in), done);
    if (!o->no_tok) {
        err = lm_cmd_tok_open(ctx, o->tokenizer ? o->tokenizer : in, &tok);
        if (err) {
            char *why = lm_arena_strdup(cli->a, lm_error(ctx));
            err = lm_fail(ctx, err, "%s (--no-tokenizer converts the weights alone)", why ? why : "");
            goto done;
        }
        if (lm_tok_vocab(tok) > lm_weights_cfg(w)->vocab) {
            err = lm_fail(ctx, LM_E_MISMATCH, "the tokenizer has %d ids, the model's embedding only %lld rows", lm_tok_vocab(tok),
                          (long long)lm_weights_cfg(w)->vocab);
            goto done;
        }
    }
    if (as_stored) {
        LM_GOTO(stored(cli, w, &dtype, &quant), done);
        if (quant && (to == HF || !quant->from_float)) {
            err = lm_fail(ctx, LM_E_CONFIG, "%s is stored as %s: choose what to write with --dtype", in, quant->name);
            goto done;
        }
    }
    if (tok) LM_GOTO(lm_cmd_tok_survives(cli, tok, to == GGUF, out, lm_weights_cfg(w)->vocab), done);
    LM_GOTO(lm_store_new(&store, ctx), done);
    lm_cli_progress(cli, "writing %s …", out);
    const bool ours = to == HF && !lm_exists(out);
    err = write_out(cli, o, to, out, w, store, tok, dtype, quant, embed);
    /* half a model is none */
    if (err && ours) { char *why = lm_arena_strdup(cli->a, lm_error(ctx)); (void)lm_dir_remove(ctx, out); if (why) lm_fail(ctx, err, "%s", why); }
    if (err) goto done;
    t = lm_now() - t;
    const char *what = quant ? quant->name : lm_dtype_name(dtype);
    const double bytes = size_of(out);
    lm_cli_say(cli, "%s: %s, %s, %s in %s%s", out, to == HF ? "Hugging Face folder" : "GGUF", what, lm_cli_bytes(cli->a, bytes),
               lm_cli_time(cli->a, t), tok ? ", with its tokenizer" : "");
    lm_str s = { .ctx = ctx };
    lm_str_puts(&s, "{\"out\": "); lm_str_json(&s, out, strlen(out));
    lm_str_printf(&s, ", \"format\": \"%s\", \"dtype\": \"%s\", \"bytes\": %.0f, \"tokenizer\": %s, \"seconds\": %.3f}", targets[to], what,
                  bytes, tok ? "true" : "false", t);
    err = lm_cli_result(cli, &s);
    lm_str_free(&s);
done:
    lm_store_free(store); lm_tok_free(tok); lm_weights_close(w);
    return err;
}
const lm_cmd lm_cmd_convert = {
    .name = "convert",
    .summary = "a model from one format to another, its tokenizer with it",
    .usage = "MODEL OUT [--to hf|gguf] [--dtype T]",
    .details = "MODEL is a Hugging Face folder, a GGUF file, a llama2.c checkpoint or a training run's (RUN/checkpoints/step-N). "
               "OUT is a folder, or a file named *.gguf.",
    .opts = rows,
    .opts_bytes = sizeof(opts),
    .run = run
};
