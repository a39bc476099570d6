/* checkpoint.c — a checkpoint is a folder that appears by rename when everything in it is on disk, and is believed only if its manifest is.
 *
 *   DIR/step-00000100/  config.json model.safetensors     a Hugging Face folder (with the tokenizer beside it): any tool loads it
 *                       optimizer.safetensors             moments and the like, by state name
 *                       manifest.json                     written last: step, position in the data, hashes of every file, of tokenizer, configuration and data, the kernels' name
 *   DIR/latest                                            name of the newest, by write-and-rename
 * Written as step-….tmp, every file fsynced, then renamed, parent fsynced, then `latest`. A crash at any point leaves the old checkpoint
 * whole and at most a .tmp folder, which the next save removes. Reading goes from the newest to the oldest until one verifies. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "device/cpu.h"
#include "dist/dist.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "train/train_int.h"

static const char *const files[] = { "config.json", "model.safetensors", "optimizer.safetensors" };

/* In pieces: a mapped file would count as this process's memory. */
static lm_err file_hash(lm_ctx *ctx, const char *path, lm_hash128_t *h, int64_t *bytes) {
    enum { PIECE = 1 << 20 };
    lm_file *f;
    LM_TRY(lm_file_open(&f, ctx, path));
    char *p = lm_alloc(ctx, LM_MEM_IO, PIECE);
    lm_hasher *s = lm_hasher_new();
    lm_err e = p && s ? LM_OK : lm_fail(ctx, LM_E_NOMEM, "out of memory hashing %s", path);
    *bytes = lm_file_size(f);
    for (int64_t at = 0; at < *bytes && !e; at += PIECE) {
        const size_t n = (size_t)lm_min64(PIECE, *bytes - at);
        if (!(e = lm_file_pread(f, p, n, at))) lm_hasher_add(s, p, n);
    }
    if (!e) *h = lm_hasher_get(s);
    lm_hasher_free(s); lm_free(ctx, p); lm_file_close(f);
    return e;
}
static bool is_param(const lm_trainer *t, const char *name) {
    for (int i = 0; i < t->n_param; i++) if (!strcmp(t->kept[i].name, name)) return true;
    return false;
}
static bool saved_state(const lm_trainer *t, int i) {
    const char *name = lm_store_name(t->store, i, NULL);
    return strncmp(name, "grad.", 5) && strncmp(name, "bf16.", 5) && strncmp(name, "fp8.", 4) && strncmp(name, "kv.", 3) && !is_param(t, name) && !lm_store_is_part(t->store, i);
}
static bool leader(const lm_trainer *t) { return t->o.comm->rank == 0; }
static lm_err agree(const lm_trainer *t, lm_err e, const char *what) {
    return lm_trainer_ranks(t) > 1 ? lm_comm_agree(t->o.comm, t->ctx, e, what) : e;
}
static lm_err declare(lm_trainer *t, lm_st_writer *w) {
    for (int i = 0; i < lm_store_count(t->store); i++) {
        lm_tensor s; lm_logical l;
        const char *name = lm_store_name(t->store, i, &s);
        if (!saved_state(t, i)) continue;
        lm_mesh_logical(t, name, &s, &l);
        if (s.rank) s.dim[0] = l.rows;
        LM_TRY(lm_st_writer_add(w, l.name, (lm_dtype)s.dtype, s.rank, s.dim));
    }
    return LM_OK;
}
/* All ranks gather state after state; the leader writes, and goes on gathering when it cannot. */
static lm_err save_optimizer(lm_trainer *t, const char *path) {
    lm_st_writer *w = NULL;
    lm_whole whole;
    LM_TRY(lm_whole_open(&whole, t));
    lm_err err = leader(t) ? lm_st_writer_new(&w, t->ctx, path, 0) : LM_OK;
    if (w && !err) err = declare(t, w);
    for (int i = 0; i < lm_store_count(t->store); i++) {
        lm_tensor s, x;
        const char *name = lm_store_name(t->store, i, &s);
        if (!saved_state(t, i)) continue;
        lm_err e = lm_whole_get(&whole, name, &s, &x);
        if (!e && w && !err) e = lm_st_writer_write(w, x.data, (size_t)lm_numel(&x) * lm_dtype_size((lm_dtype)x.dtype));
        if (!err) err = e;
    }
    lm_whole_close(&whole);
    if (err) lm_st_writer_abort(w);
    else if (w) err = lm_st_writer_commit(w);
    return agree(t, err, "writing the optimizer's state");
}
static lm_err save_manifest(lm_trainer *t, const char *dir, const lm_ckpt_state *st, lm_hash128_t weights) {
    lm_ctx *ctx = t->ctx;
    lm_str s = { .ctx = ctx };
    char hex[33], *path = NULL;
    lm_err err = LM_OK;
    lm_str_printf(&s, "{\n  \"format\": \"loam-checkpoint-1\",\n  \"step\": %lld,\n  \"sequences\": %lld,\n  \"best_val\": %.17g,\n",
                  (long long)st->step, (long long)st->seqs, st->best_val);
    lm_hash_hex(st->tok_hash, hex); lm_str_printf(&s, "  \"tokenizer_hash\": \"%s\",\n", hex);
    lm_hash_hex(st->config_hash, hex); lm_str_printf(&s, "  \"config_hash\": \"%s\",\n", hex);
    lm_hash_hex(st->data_hash, hex); lm_str_printf(&s, "  \"data_hash\": \"%s\",\n", hex);
    lm_hash_hex(weights, hex); lm_str_printf(&s, "  \"weights_hash\": \"%s\",\n", hex);
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
/* Out of the way first: what is half removed must not carry a checkpoint's name. */
static lm_err drop(lm_ctx *ctx, const char *path) {
    lm_str away = { .ctx = ctx };
    lm_str_printf(&away, "%s.tmp", path);
    lm_err err = lm_str_err(&away);
    if (!err) err = lm_rename(ctx, path, away.p);
    if (!err) err = lm_dir_remove(ctx, away.p);
    lm_str_free(&away);
    return err;
}
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
        err = old ? drop(ctx, p) : lm_dir_remove(ctx, p);
        lm_free(ctx, p);
    }
done:
    lm_free(ctx, names);
    return err;
}
/* The leader's part before and after the tensors are written. */
static lm_err begin(lm_ctx *ctx, const char *dir, const char *tmp) {
    LM_TRY(lm_dir_make(ctx, dir));
    if (lm_exists(tmp)) LM_TRY(lm_dir_remove(ctx, tmp));
    return lm_dir_make(ctx, tmp);
}
static lm_err publish(lm_ctx *ctx, const char *tmp, const char *final) {
    LM_TRY(lm_dir_sync(ctx, tmp));
    if (lm_exists(final)) LM_TRY(lm_dir_remove(ctx, final));           /* the same step again: a run restarted without --resume refuses earlier */
    return lm_rename(ctx, tmp, final);
}
lm_err lm_ckpt_save(lm_trainer *t, const char *dir, const lm_ckpt_state *st, int keep_last) {
    lm_ctx *ctx = t->ctx;
    const bool lead = leader(t);
    lm_hash128_t weights;
    char name[64], tmp_name[80], *tmp = NULL, *final = NULL, *path = NULL, *latest = NULL;
    snprintf(name, sizeof name, "step-%08lld", (long long)st->step);
    snprintf(tmp_name, sizeof tmp_name, "%s.tmp", name);
    lm_err err = lm_path_join(ctx, &tmp, dir, tmp_name);
    if (!err) err = lm_path_join(ctx, &final, dir, name);
    if (!err) err = lm_path_join(ctx, &path, tmp, "optimizer.safetensors");
    if (!err) err = lm_path_join(ctx, &latest, dir, "latest");
    if (!err && lead) err = begin(ctx, dir, tmp);
    LM_GOTO(agree(t, err, "beginning a checkpoint"), done);
    LM_GOTO(lm_trainer_save_hf(t, tmp), undo);
    LM_GOTO(save_optimizer(t, path), undo);
    weights = lm_trainer_hash(t);
    if (lead) { err = save_manifest(t, tmp, st, weights); if (!err) err = publish(ctx, tmp, final); }
    LM_GOTO(agree(t, err, "finishing a checkpoint"), undo);
    if (lead) { err = lm_file_write_atomic(ctx, latest, name, strlen(name)); if (!err) err = prune(ctx, dir, keep_last > 0 ? keep_last : 1); }
    err = agree(t, err, "naming the newest checkpoint");
    goto done;
undo:
    {   /* keep the sentence that says why, not one about the clean-up */
        char why[600]; snprintf(why, sizeof why, "%s", lm_error(ctx));
        if (lead) lm_dir_remove(ctx, tmp);
        lm_fail(ctx, err, "the checkpoint of step %lld was not written, earlier ones are untouched: %s", (long long)st->step, why);
    }
done:
    lm_free(ctx, tmp); lm_free(ctx, final); lm_free(ctx, path); lm_free(ctx, latest);
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
static lm_err kernels_field(const lm_jv *o, const char **isa) {
    const char *s;
    LM_TRY(lm_json_str(o, "kernels", LM_JSON_NEED, NULL, &s, NULL));
    *isa = "";
    for (const char *const *n = lm_cpu_isa_names(); *n; n++) if (!strcmp(*n, s)) *isa = *n;
    return LM_OK;
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
    if (strcmp(format, "loam-checkpoint-1")) {
        err = lm_json_fail(&root, LM_E_UNSUPPORTED, "the format is \"%s\", this program reads loam-checkpoint-1", format);
        goto done;
    }
    memset(st, 0, sizeof *st);
    LM_GOTO(lm_json_int(&root, "step", LM_JSON_NEED, 0, 0, INT64_MAX / 2, &st->step), done);
    LM_GOTO(lm_json_int(&root, "sequences", LM_JSON_NEED, 0, 0, INT64_MAX / 2, &st->seqs), done);
    LM_GOTO(lm_json_num(&root, "best_val", LM_JSON_NEED, 0, -1e300, 1e300, &st->best_val), done);
    LM_GOTO(hex_field(&root, "tokenizer_hash", &st->tok_hash), done);
    LM_GOTO(hex_field(&root, "config_hash", &st->config_hash), done);
    LM_GOTO(hex_field(&root, "data_hash", &st->data_hash), done);
    LM_GOTO(hex_field(&root, "weights_hash", weights), done);
    LM_GOTO(kernels_field(&root, &st->isa), done);
    LM_GOTO(lm_json_arr(&root, "files", LM_JSON_NEED, &list), done);
    if (lm_json_len(&list) != (size_t)LM_COUNT(files)) {
        err = lm_json_fail(&list, LM_E_FORMAT, "%zu files are listed, a checkpoint has %d", lm_json_len(&list), LM_COUNT(files));
        goto done;
    }
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
            if (got_bytes != bytes) {
                err = lm_fail(ctx, LM_E_FORMAT, "%s has %lld bytes, its manifest says %lld", fpath, (long long)got_bytes, (long long)bytes);
                goto done;
            }
            if (got.lo != want.lo || got.hi != want.hi) {
                err = lm_fail(ctx, LM_E_FORMAT, "%s does not have the hash its manifest states: the file was changed or is damaged", fpath);
                goto done;
            }
        }
        lm_free(ctx, fpath); fpath = NULL;
    }
done:
    lm_json_free(j); lm_free(ctx, mpath); lm_free(ctx, fpath);
    return err;
}
lm_err lm_ckpt_peek(lm_ctx *ctx, const char *path, lm_ckpt_state *st) {
    lm_hash128_t w;
    return read_manifest(ctx, path, false, st, &w);
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
        if ((err = lm_path_join(ctx, &path, dir, names[i]))) break;
        err = lm_ckpt_verify(ctx, path);
        if (err == LM_E_NOMEM || err == LM_E_IO || err == LM_E_NOSPACE) break;       /* it may well be whole: an older one must not take its place */
        if (err) lm_log(ctx, LM_LOG_WARN, "train", "passing over %s: %s", path, lm_error(ctx));
    }
    lm_free(ctx, names);
    if (err) {
        lm_free(ctx, path);
        return err == LM_E_NOMEM || err == LM_E_IO || err == LM_E_NOSPACE ? err : lm_fail(ctx, LM_E_NOTFOUND, "%s holds no whole checkpoint", dir);
    }
    *out = path;
    return LM_OK;
}
/* This rank's rows of a whole tensor in the file; zeros below the last row. */
static lm_err read_into(lm_trainer *t, lm_st *f, const char *name, const lm_tensor *dst) {
    const lm_st_tensor *x;
    lm_logical l;
    lm_mesh_logical(t, name, dst, &l);
    LM_TRY(lm_st_need(f, l.name, &x));
    /* weights are in the file as f32; what a run keeps in bf16 was widened, and is narrowed without loss (the hash of all of them tells) */
    const bool narrow = is_param(t, name) && x->dtype == LM_F32 && dst->dtype == LM_BF16;
    bool same = (x->dtype == (lm_dtype)dst->dtype || narrow) && x->rank == dst->rank;
    for (int k = 0; same && k < x->rank; k++) same = x->dim[k] == (k ? dst->dim[k] : l.rows);
    if (!same) {
        char got[96] = "", want[96] = "";
        for (int k = 0; k < x->rank && k < 4; k++)
            snprintf(got + strlen(got), sizeof got - strlen(got), "%s%lld", k ? ", " : "", (long long)x->dim[k]);
        for (int k = 0; k < dst->rank && k < 4; k++)
            snprintf(want + strlen(want), sizeof want - strlen(want), "%s%lld", k ? ", " : "", (long long)(k ? dst->dim[k] : l.rows));
        return lm_fail(t->ctx, LM_E_MISMATCH, "%s: %s: got %s (%s), this run's configuration wants %s (%s)", lm_st_path(f), l.name,
                       lm_dtype_name(x->dtype), got, lm_dtype_name((lm_dtype)dst->dtype), want);
    }
    const int64_t bytes = lm_numel(dst) * (int64_t)lm_dtype_size((lm_dtype)dst->dtype), row = l.part ? bytes / dst->dim[0] : 0;
    if (narrow) {
        float *wide = lm_alloc(t->ctx, LM_MEM_IO, x->bytes + 1);
        if (!wide) return LM_E_NOMEM;
        const lm_err e = lm_st_read(f, x, wide, 0, x->bytes);
        if (!e) lm_convert(dst->data, LM_BF16, wide, LM_F32, lm_numel(dst));
        lm_free(t->ctx, wide);
        return e;
    }
    if (!l.part) return lm_st_read(f, x, dst->data, 0, x->bytes);
    memset((char *)dst->data + l.own * row, 0, (size_t)(bytes - l.own * row));
    return l.own ? lm_st_read(f, x, dst->data, l.from * row, l.own * row) : LM_OK;
}
static lm_err read_all(lm_trainer *t, const char *path, lm_ckpt_state *st, lm_hash128_t *want) {
    lm_ctx *ctx = t->ctx;
    lm_st *model = NULL, *opt = NULL;
    char *mp = NULL, *op = NULL;
    lm_err err;
    /* one rank hashes the files; the weights' hash below covers what all of them read */
    LM_TRY(read_manifest(ctx, path, leader(t), st, want));
    LM_GOTO(lm_path_join(ctx, &mp, path, "model.safetensors"), done);
    LM_GOTO(lm_path_join(ctx, &op, path, "optimizer.safetensors"), done);
    LM_GOTO(lm_st_open(&model, ctx, mp), done);
    LM_GOTO(lm_st_open(&opt, ctx, op), done);
    for (int i = 0; i < lm_store_count(t->store); i++) {
        lm_tensor s;
        const char *name = lm_store_name(t->store, i, &s);
        if (is_param(t, name)) LM_GOTO(read_into(t, model, name, &s), done);
        else if (saved_state(t, i)) LM_GOTO(read_into(t, opt, name, &s), done);
        else if (!lm_store_is_part(t->store, i)) memset(s.data, 0, (size_t)lm_numel(&s) * lm_dtype_size((lm_dtype)s.dtype));
    }
done:
    lm_st_close(model); lm_st_close(opt); lm_free(ctx, mp); lm_free(ctx, op);
    return err;
}
lm_err lm_ckpt_load(lm_trainer *t, const char *path, lm_ckpt_state *st) {
    lm_hash128_t want = {0}, got;
    LM_TRY(lm_trainer_pull(t));                                          /* room on the host for what lives on a device */
    LM_TRY(agree(t, read_all(t, path, st, &want), "reading the checkpoint"));
    if (t->o.dev) LM_TRY(lm_store_push(t->store));
    got = lm_trainer_hash(t);
    if (got.lo != want.lo || got.hi != want.hi)
        return lm_fail(t->ctx, LM_E_MISMATCH, "%s: the loaded weights do not have the hash the manifest states", path);
    return LM_OK;
}
