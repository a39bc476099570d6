/* checkpoint.c — a checkpoint is a folder that appears by rename when everything in it is on disk, and is believed only if its manifest is.
 *
 *   DIR/step-00000100/  config.json model.safetensors     a Hugging Face folder (with the tokenizer beside it): any tool loads it
 *                       optimizer.safetensors             moments and the like, by state name
 *                       manifest.json                     written last: step, position in the data, hashes of every file
 *   DIR/latest                                            name of the newest, by write-and-rename
 * Written as step-….tmp, every file fsynced, then renamed, parent fsynced, then `latest`. A crash at any point leaves the old checkpoint whole and at most a .tmp folder,
 * which the next save removes. Reading goes from the newest to the oldest until one verifies. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "train/train_int.h"

static const char *const files[] = { "config.json", "model.safetensors", "optimizer.safetensors" };

static lm_err file_hash(lm_ctx *ctx, const char *path, lm_hash128_t *h, int64_t *bytes) {
    lm_file *f;
    LM_TRY(lm_file_open(&f, ctx, path));
    const void *p; size_t n;
    lm_err e = lm_file_map(f, &p, &n);
    if (!e) { *h = lm_hash128(p, n); *bytes = (int64_t)n; }
    lm_file_close(f);
    return e;
}
static bool is_param(const lm_trainer *t, const char *name) {
    for (int i = 0; i < t->n_param; i++) if (!strcmp(t->param[i].name, name)) return true;
    return false;
}
static bool saved_state(const lm_trainer *t, const char *name) {
    return strncmp(name, "grad.", 5) && strncmp(name, "kv.", 3) && !is_param(t, name);
}
static lm_err save_optimizer(lm_trainer *t, const char *path) {
    lm_st_writer *w;
    LM_TRY(lm_st_writer_new(&w, t->ctx, path, 0));
    lm_err err = LM_OK;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < lm_store_count(t->store); i++) {
            lm_tensor s;
            const char *name = lm_store_name(t->store, i, &s);
            if (!saved_state(t, name)) continue;
            if (!pass) LM_GOTO(lm_st_writer_add(w, name, (lm_dtype)s.dtype, s.rank, s.dim), fail);
            else LM_GOTO(lm_st_writer_write(w, s.data, (size_t)lm_numel(&s) * lm_dtype_size((lm_dtype)s.dtype)), fail);
        }
    return lm_st_writer_commit(w);
fail:
    lm_st_writer_abort(w); return err;
}
static lm_err save_manifest(lm_trainer *t, const char *dir, const lm_ckpt_state *st) {
    lm_ctx *ctx = t->ctx;
    lm_str s = { .ctx = ctx };
    char hex[33], *path = NULL;
    lm_err err = LM_OK;
    lm_str_printf(&s, "{\n  \"format\": \"loam-checkpoint-1\",\n  \"step\": %lld,\n  \"sequences\": %lld,\n  \"best_val\": %.17g,\n", (long long)st->step, (long long)st->seqs, st->best_val);
    lm_hash_hex(st->tok_hash, hex); lm_str_printf(&s, "  \"tokenizer_hash\": \"%s\",\n", hex);
    lm_hash_hex(st->config_hash, hex); lm_str_printf(&s, "  \"config_hash\": \"%s\",\n", hex);
    lm_hash_hex(lm_trainer_hash(t), hex); lm_str_printf(&s, "  \"weights_hash\": \"%s\",\n", hex);
    lm_str_puts(&s, "  \"kernels\": "); lm_str_json(&s, st->isa ? st->isa : "", st->isa ? strlen(st->isa) : 0); lm_str_puts(&s, ",\n  \"files\": [");
    for (int i = 0; i < LM_COUNT(files); i++) {
        lm_hash128_t h; int64_t bytes;
        LM_GOTO(lm_path_join(ctx, &path, dir, files[i]), done);
        LM_GOTO(file_hash(ctx, path, &h, &bytes), done);
        lm_free(ctx, path); path = NULL;
        lm_hash_hex(h, hex);
        lm_str_printf(&s, "%s\n    { \"name\": \"%s\", \"bytes\": %lld, \"xxh3_128\": \"%s\" }", i ? "," : "", files[i], (long long)bytes, hex);
    }
    lm_str_puts(&s, "\n  ]\n}\n");
    LM_GOTO(lm_str_err(&s), done);
    LM_GOTO(lm_path_join(ctx, &path, dir, "manifest.json"), done);
    err = lm_file_write_atomic(ctx, path, s.p, s.n);
done:
    lm_free(ctx, path); lm_str_free(&s);
    return err;
}
static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static bool is_step(const char *name) { return !strncmp(name, "step-", 5) && !strstr(name, ".tmp"); }
/* Keep the newest `keep` steps; .tmp folders of earlier crashes go too. */
static lm_err prune(lm_ctx *ctx, const char *dir, int keep) {
    char **names; int n;
    LM_TRY(lm_dir_list(ctx, dir, &names, &n));
    qsort(names, (size_t)n, sizeof *names, by_text);
    int steps = 0;
    lm_err err = LM_OK;
    for (int i = 0; i < n; i++) steps += is_step(names[i]);
    for (int i = 0; i < n && !err; i++) {
        bool old = is_step(names[i]) && steps > keep, tmp = !strncmp(names[i], "step-", 5) && strstr(names[i], ".tmp");
        if (!old && !tmp) continue;
        if (old) steps--;
        char *p;
        LM_GOTO(lm_path_join(ctx, &p, dir, names[i]), done);
        err = lm_dir_remove(ctx, p);
        lm_free(ctx, p);
    }
done:
    lm_free(ctx, names);
    return err;
}
lm_err lm_ckpt_save(lm_trainer *t, const char *dir, const lm_ckpt_state *st, int keep_last) {
    lm_ctx *ctx = t->ctx;
    char name[64], tmp_name[80], *tmp = NULL, *final = NULL, *path = NULL;
    snprintf(name, sizeof name, "step-%08lld", (long long)st->step);
    snprintf(tmp_name, sizeof tmp_name, "%s.tmp", name);
    lm_err err;
    LM_GOTO(lm_dir_make(ctx, dir), done);
    LM_GOTO(lm_path_join(ctx, &tmp, dir, tmp_name), done);
    LM_GOTO(lm_path_join(ctx, &final, dir, name), done);
    if (lm_exists(tmp)) LM_GOTO(lm_dir_remove(ctx, tmp), done);
    LM_GOTO(lm_dir_make(ctx, tmp), done);
    LM_GOTO(lm_model_save_hf(ctx, &t->cfg, t->store, tmp, LM_F32, 0), undo);
    LM_GOTO(lm_path_join(ctx, &path, tmp, "optimizer.safetensors"), undo);
    LM_GOTO(save_optimizer(t, path), undo);
    LM_GOTO(save_manifest(t, tmp, st), undo);
    LM_GOTO(lm_dir_sync(ctx, tmp), undo);
    if (lm_exists(final)) LM_GOTO(lm_dir_remove(ctx, final), undo);           /* the same step again: a run restarted without --resume refuses earlier */
    LM_GOTO(lm_rename(ctx, tmp, final), undo);
    lm_free(ctx, path); path = NULL;
    LM_GOTO(lm_path_join(ctx, &path, dir, "latest"), done);
    LM_GOTO(lm_file_write_atomic(ctx, path, name, strlen(name)), done);
    err = prune(ctx, dir, keep_last > 0 ? keep_last : 1);
    goto done;
undo:
    {   /* keep the sentence that says why, not one about the clean-up */
        char why[600]; snprintf(why, sizeof why, "%s", lm_error(ctx));
        lm_dir_remove(ctx, tmp);
        lm_fail(ctx, err, "the checkpoint of step %lld was not written, earlier ones are untouched: %s", (long long)st->step, why);
    }
done:
    lm_free(ctx, tmp); lm_free(ctx, final); lm_free(ctx, path);
    return err;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------------ */
static bool parse_hex(const char *s, lm_hash128_t *h) {
    if (strlen(s) != 32 || strspn(s, "0123456789abcdef") != 32) return false;
    char half[17] = {0};
    memcpy(half, s, 16); h->hi = strtoull(half, NULL, 16);
    memcpy(half, s + 16, 16); h->lo = strtoull(half, NULL, 16);
    return true;
}
static lm_err hex_field(const lm_jv *o, const char *key, lm_hash128_t *h) {
    const char *s;
    LM_TRY(lm_json_str(o, key, LM_JSON_NEED, NULL, &s, NULL));
    return parse_hex(s, h) ? LM_OK : lm_json_fail(o, LM_E_FORMAT, "%s is not 32 hexadecimal digits", key);
}
static lm_err read_manifest(lm_ctx *ctx, const char *path, bool hash, lm_ckpt_state *st, lm_hash128_t *weights) {
    char *mpath = NULL, *fpath = NULL;
    json_t *j = NULL;
    lm_err err;
    LM_GOTO(lm_path_join(ctx, &mpath, path, "manifest.json"), done);
    LM_GOTO(lm_json_load(ctx, mpath, 0, &j), done);
    lm_jv root = lm_json_root(ctx, mpath, j), list, item;
    const char *format;
    LM_GOTO(lm_json_str(&root, "format", LM_JSON_NEED, NULL, &format, NULL), done);
    if (strcmp(format, "loam-checkpoint-1")) { err = lm_json_fail(&root, LM_E_UNSUPPORTED, "the format is \"%s\", this program reads loam-checkpoint-1", format); goto done; }
    memset(st, 0, sizeof *st);
    LM_GOTO(lm_json_int(&root, "step", LM_JSON_NEED, 0, 0, INT64_MAX / 2, &st->step), done);
    LM_GOTO(lm_json_int(&root, "sequences", LM_JSON_NEED, 0, 0, INT64_MAX / 2, &st->seqs), done);
    LM_GOTO(lm_json_num(&root, "best_val", LM_JSON_NEED, 0, -1e300, 1e300, &st->best_val), done);
    LM_GOTO(hex_field(&root, "tokenizer_hash", &st->tok_hash), done);
    LM_GOTO(hex_field(&root, "config_hash", &st->config_hash), done);
    LM_GOTO(hex_field(&root, "weights_hash", weights), done);
    LM_GOTO(lm_json_arr(&root, "files", LM_JSON_NEED, &list), done);
    if (lm_json_len(&list) != (size_t)LM_COUNT(files)) { err = lm_json_fail(&list, LM_E_FORMAT, "%zu files are listed, a checkpoint has %d", lm_json_len(&list), LM_COUNT(files)); goto done; }
    for (size_t i = 0; i < lm_json_len(&list); i++) {
        const char *name; int64_t bytes, got_bytes; lm_hash128_t want, got;
        LM_GOTO(lm_json_item(&list, i, &item), done);
        LM_GOTO(lm_json_str(&item, "name", LM_JSON_NEED, NULL, &name, NULL), done);
        if (strcmp(name, files[i])) { err = lm_json_fail(&item, LM_E_FORMAT, "the file is %s, wanted %s", name, files[i]); goto done; }
        LM_GOTO(lm_json_int(&item, "bytes", LM_JSON_NEED, 0, 0, INT64_MAX / 2, &bytes), done);
        LM_GOTO(hex_field(&item, "xxh3_128", &want), done);
        LM_GOTO(lm_path_join(ctx, &fpath, path, name), done);
        if (hash) {
            LM_GOTO(file_hash(ctx, fpath, &got, &got_bytes), done);
            if (got_bytes != bytes) { err = lm_fail(ctx, LM_E_FORMAT, "%s has %lld bytes, its manifest says %lld", fpath, (long long)got_bytes, (long long)bytes); goto done; }
            if (got.lo != want.lo || got.hi != want.hi) { err = lm_fail(ctx, LM_E_FORMAT, "%s does not have the hash its manifest states: the file was changed or is damaged", fpath); goto done; }
        }
        lm_free(ctx, fpath); fpath = NULL;
    }
done:
    lm_json_free(j); lm_free(ctx, mpath); lm_free(ctx, fpath);
    return err;
}
lm_err lm_ckpt_verify(lm_ctx *ctx, const char *path) {
    lm_ckpt_state st; lm_hash128_t w;
    return read_manifest(ctx, path, true, &st, &w);
}
lm_err lm_ckpt_find(lm_ctx *ctx, const char *dir, char **out) {
    char **names; int n;
    if (!lm_is_dir(dir)) return lm_fail(ctx, LM_E_NOTFOUND, "%s is not a folder: there is no checkpoint to resume from", dir);
    LM_TRY(lm_dir_list(ctx, dir, &names, &n));
    qsort(names, (size_t)n, sizeof *names, by_text);
    lm_err err = LM_E_NOTFOUND;
    char *path = NULL;
    for (int i = n - 1; i >= 0 && err; i--) {
        if (!is_step(names[i])) continue;
        lm_free(ctx, path); path = NULL;
        if (lm_path_join(ctx, &path, dir, names[i])) break;
        if ((err = lm_ckpt_verify(ctx, path))) lm_log(ctx, LM_LOG_WARN, "train", "passing over %s: %s", path, lm_error(ctx));
    }
    lm_free(ctx, names);
    if (err) { lm_free(ctx, path); return lm_fail(ctx, LM_E_NOTFOUND, "%s holds no whole checkpoint", dir); }
    *out = path;
    return LM_OK;
}
static lm_err read_into(lm_ctx *ctx, lm_st *f, const char *name, const lm_tensor *dst) {
    const lm_st_tensor *x;
    LM_TRY(lm_st_need(f, name, &x));
    bool same = x->dtype == (lm_dtype)dst->dtype && x->rank == dst->rank;
    for (int k = 0; same && k < x->rank; k++) same = x->dim[k] == dst->dim[k];
    if (!same) return lm_fail(ctx, LM_E_MISMATCH, "%s: %s has another shape or type than this run's configuration gives", lm_st_path(f), name);
    return lm_st_read(f, x, dst->data, 0, x->bytes);
}
lm_err lm_ckpt_load(lm_trainer *t, const char *path, lm_ckpt_state *st) {
    lm_ctx *ctx = t->ctx;
    lm_hash128_t want, got;
    lm_st *model = NULL, *opt = NULL;
    char *mp = NULL, *op = NULL;
    lm_err err;
    LM_TRY(read_manifest(ctx, path, true, st, &want));
    LM_GOTO(lm_path_join(ctx, &mp, path, "model.safetensors"), done);
    LM_GOTO(lm_path_join(ctx, &op, path, "optimizer.safetensors"), done);
    LM_GOTO(lm_st_open(&model, ctx, mp), done);
    LM_GOTO(lm_st_open(&opt, ctx, op), done);
    for (int i = 0; i < lm_store_count(t->store); i++) {
        lm_tensor s;
        const char *name = lm_store_name(t->store, i, &s);
        if (is_param(t, name)) LM_GOTO(read_into(ctx, model, name, &s), done);
        else if (saved_state(t, name)) LM_GOTO(read_into(ctx, opt, name, &s), done);
        else memset(s.data, 0, (size_t)lm_numel(&s) * lm_dtype_size((lm_dtype)s.dtype));
    }
    got = lm_trainer_hash(t);
    if (got.lo != want.lo || got.hi != want.hi) err = lm_fail(ctx, LM_E_MISMATCH, "%s: the loaded weights do not have the hash the manifest states", path);
done:
    lm_st_close(model); lm_st_close(opt); lm_free(ctx, mp); lm_free(ctx, op);
    return err;
}
