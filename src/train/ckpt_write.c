/* ckpt_write.c — a checkpoint is a folder that appears by rename when everything in it is on disk, and is believed only if its manifest is.
 *
 *   DIR/step-00000100/  manifest.json                     written last: step, position in the data, hashes of every file, of tokenizer, configuration and data
 *                       config.json                       the model
 *     one rank          model.safetensors                 with config.json a Hugging Face folder: any tool loads it
 *                       optimizer.safetensors             moments and the like, by state name
 *     several           shard-00001-of-0000N.safetensors  rank 1's rows of weights ("NAME") and states ("optimizer/NAME"): format/safetensors.h
 *   DIR/latest                                            name of the newest, by write-and-rename
 *
 * Written as step-….tmp, every file fsynced, then renamed, parent fsynced, then `latest`. A crash at any point leaves the old checkpoint
 * whole and at most a .tmp folder, which the next save removes. Several ranks write at the same time, each what lm_mesh_share gives it, and move no tensor: they
 * hash what they write and tell rank 0, which looks whether it sees their files, writes the manifest and renames. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "dist/dist.h"
#include "train/train_int.h"

bool lm_ckpt_param(const lm_trainer *t, const char *name) {
    for (int i = 0; i < t->n_param; i++) if (!strcmp(t->kept[i].name, name)) return true;
    return false;
}
bool lm_ckpt_state_of(const lm_trainer *t, int i) {
    const char *name = lm_store_name(t->store, i, NULL);
    return strncmp(name, "grad.", 5) && strncmp(name, "bf16.", 5) && strncmp(name, "fp8.", 4) && strncmp(name, "kv.", 3) && !lm_ckpt_param(t, name) &&
           !lm_store_is_part(t->store, i);
}
static bool leader(const lm_trainer *t) { return t->o.comm->rank == 0; }
static lm_err agree(const lm_trainer *t, lm_err e, const char *what) {
    return lm_trainer_ranks(t) > 1 ? lm_comm_agree(t->o.comm, t->ctx, e, what) : e;
}

/* ---- one rank: whole tensors -------------------------------------------------------------------------------------------------------------- */
static lm_err write_states(lm_trainer *t, lm_st_writer *w) {
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < lm_store_count(t->store); i++) {
            lm_tensor s;
            const char *name = lm_store_name(t->store, i, &s);
            if (!lm_ckpt_state_of(t, i)) continue;
            if (!pass) LM_TRY(lm_st_writer_add(w, name, (lm_dtype)s.dtype, s.rank, s.dim));
            else LM_TRY(lm_st_writer_write(w, s.data, (size_t)lm_numel(&s) * lm_dtype_size((lm_dtype)s.dtype)));
        }
    return LM_OK;
}
static lm_err save_whole(lm_trainer *t, const char *dir, lm_manifest *m) {
    lm_st_writer *w;
    char *path;
    LM_TRY(lm_model_save_hf(t->ctx, &t->cfg, t->store, dir, LM_F32, 0));
    LM_TRY(lm_path_join(t->ctx, &path, dir, m->file[2].name));
    lm_err err = lm_st_writer_new(&w, t->ctx, path, 0);
    lm_free(t->ctx, path);
    LM_TRY(err);
    err = write_states(t, w);
    if (err) lm_st_writer_abort(w); else err = lm_st_writer_commit(w);
    for (int i = 0; i < m->n && !err; i++) err = lm_manifest_sum(t->ctx, dir, &m->file[i]);
    return err;
}

/* ---- several: each its rows --------------------------------------------------------------------------------------------------------------- */
typedef struct { lm_trainer *t; lm_st_writer *w; lm_hasher *h; float *wide; } shard;
enum { PIECE = 1 << 18 };                                            /* numbers that are widened at a time */
static lm_err put(shard *s, const void *p, size_t n) {
    if (!s->h) return lm_st_writer_write(s->w, p, n);
    lm_hasher_add(s->h, p, n);
    return LM_OK;
}
/* n numbers, weights as f32: through the hasher, or into the file. */
static lm_err pass(shard *s, const char *p, lm_dtype dtype, bool widen, int64_t n) {
    if (!widen) return put(s, p, (size_t)n * lm_dtype_size(dtype));
    for (int64_t at = 0; at < n; at += PIECE) {
        const int64_t k = lm_min64(PIECE, n - at);
        lm_convert(s->wide, LM_F32, p + (size_t)at * lm_dtype_size(dtype), dtype, k);
        LM_TRY(put(s, s->wide, (size_t)k * sizeof *s->wide));
    }
    return LM_OK;
}
/* State i, number k among those written: declared with its hash (the writer wants that before any data), or written. */
static lm_err one_slice(shard *s, int i, int k, bool declare) {
    lm_tensor x;
    lm_logical l;
    int64_t from, rows;
    char as[sizeof l.name + sizeof LM_CKPT_GROUP];
    const char *name = lm_store_name(s->t->store, i, &x);
    const bool param = lm_ckpt_param(s->t, name), widen = param && x.dtype != LM_F32;
    lm_mesh_logical(s->t, name, &x, &l);
    lm_mesh_share(s->t, &l, &x, k, &from, &rows);
    if (rows <= 0) return LM_OK;
    const int64_t here = x.rank ? x.dim[0] : 1, cols = lm_numel(&x) / here;
    const char *p = (const char *)x.data + (size_t)((from - (l.part ? l.from : 0)) * cols) * lm_dtype_size((lm_dtype)x.dtype);
    if (!declare) return pass(s, p, (lm_dtype)x.dtype, widen, rows * cols);
    if (!(s->h = lm_hasher_new())) return lm_fail(s->t->ctx, LM_E_NOMEM, "out of memory hashing %s", name);
    lm_err err = pass(s, p, (lm_dtype)x.dtype, widen, rows * cols);
    const lm_hash128_t h = lm_hasher_get(s->h);
    lm_hasher_free(s->h); s->h = NULL;
    if (x.rank) x.dim[0] = l.rows;
    snprintf(as, sizeof as, "%s%s", param ? "" : LM_CKPT_GROUP, l.name);
    return err ? err : lm_st_writer_slice(s->w, as, widen ? LM_F32 : (lm_dtype)x.dtype, x.rank, x.dim, from, rows, h);
}
static lm_err write_slices(shard *s) {
    for (int declare = 1; declare >= 0; declare--)
        for (int i = 0, k = 0; i < lm_store_count(s->t->store); i++)
            if (lm_ckpt_param(s->t, lm_store_name(s->t->store, i, NULL)) || lm_ckpt_state_of(s->t, i)) LM_TRY(one_slice(s, i, k++, declare));
    return LM_OK;
}
static lm_err apart(lm_trainer *t, int rank, const char *path, const char *did, int other) {
    return lm_fail(t->ctx, LM_E_IO,
                   "rank %d does not see %s, which rank %d %s: ranks that write a checkpoint together want one folder on a file system that they share",
                   rank, path, other, did);
}
static lm_err write_shard(lm_trainer *t, const char *dir, lm_ckpt_file *f) {
    shard s = { .t = t };
    char *path;
    LM_TRY(lm_path_join(t->ctx, &path, dir, f->name));
    lm_err err = (s.wide = lm_alloc(t->ctx, LM_MEM_IO, PIECE * sizeof *s.wide)) ? LM_OK : LM_E_NOMEM;
    if (!err) err = lm_st_writer_new(&s.w, t->ctx, path, 0);
    if (!err) err = lm_st_writer_sum(s.w, &f->hash, &f->bytes);
    if (!err) err = write_slices(&s);
    if (err) lm_st_writer_abort(s.w); else err = lm_st_writer_commit(s.w);
    lm_free(t->ctx, s.wide); lm_free(t->ctx, path);
    return err == LM_E_NOTFOUND ? apart(t, t->o.comm->rank, dir, "made", 0) : err;
}
/* Rank 0: are the others' files where its own are? */
static lm_err seen(lm_trainer *t, const char *dir, const lm_manifest *m) {
    for (int i = 1; i < m->n; i++) {
        char *path;
        lm_file *f;
        LM_TRY(lm_path_join(t->ctx, &path, dir, m->file[i].name));
        lm_err err = lm_file_open(&f, t->ctx, path);
        if (err == LM_E_NOTFOUND) err = apart(t, 0, path, "wrote", i - 1);
        if (!err) {
            if (lm_file_size(f) != m->file[i].bytes)                 /* another one of that name? */
                err = lm_fail(t->ctx, LM_E_IO, "%s has %lld bytes for rank 0; rank %d wrote %lld", path, (long long)lm_file_size(f), i - 1,
                              (long long)m->file[i].bytes);
            lm_file_close(f);
        }
        lm_free(t->ctx, path);
        LM_TRY(err);
    }
    return LM_OK;
}
static lm_err save_shards(lm_trainer *t, const char *dir, lm_manifest *m) {
    const int ranks = lm_trainer_ranks(t);
    lm_comm *c = t->o.comm;
    typedef struct { lm_hash128_t hash; int64_t bytes; } sum;
    sum *all = lm_alloc(t->ctx, LM_MEM_IO, (size_t)ranks * sizeof *all);
    lm_ckpt_file *own = &m->file[1 + c->rank];
    lm_err err = all ? LM_OK : LM_E_NOMEM;
    if (!err && leader(t)) err = lm_model_save_config(t->ctx, &t->cfg, dir, LM_F32);
    if (!err) err = write_shard(t, dir, own);
    err = agree(t, err, "writing a shard");
    if (!err) err = c->all_gather(c, &(sum){ own->hash, own->bytes }, sizeof *all, all);
    for (int r = 0; r < ranks && !err; r++) { m->file[1 + r].hash = all[r].hash; m->file[1 + r].bytes = all[r].bytes; }
    lm_free(t->ctx, all);
    if (err) return err;
    if (leader(t)) { err = seen(t, dir, m); if (!err) err = lm_manifest_sum(t->ctx, dir, &m->file[0]); }
    return agree(t, err, "looking for the shards");
}

/* ---- both --------------------------------------------------------------------------------------------------------------------------------- */
int lm_ckpt_by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
bool lm_ckpt_is_step(const char *name) { return !strncmp(name, "step-", 5) && !strstr(name, ".tmp"); }
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
    qsort(names, (size_t)n, sizeof *names, lm_ckpt_by_text);
    int steps = 0;
    lm_err err = LM_OK;
    for (int i = 0; i < n; i++) steps += lm_ckpt_is_step(names[i]);
    for (int i = 0; i < n && !err; i++) {
        bool old = lm_ckpt_is_step(names[i]) && steps > keep, tmp = !strncmp(names[i], "step-", 5) && strstr(names[i], ".tmp");
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
static lm_err publish(lm_trainer *t, const char *tmp, const char *final, const lm_manifest *m) {
    static const char *const mesh[] = { "", "dp", "zero1", "zero2", "fsdp" };
    char text[40] = "";
    if (lm_trainer_ranks(t) > 1) snprintf(text, sizeof text, "%s=%d", mesh[t->o.mesh], lm_trainer_ranks(t));
    LM_TRY(lm_manifest_write(t->ctx, tmp, m, text));
    LM_TRY(lm_dir_sync(t->ctx, tmp));
    if (lm_exists(final)) LM_TRY(lm_dir_remove(t->ctx, final));      /* the same step again: a run restarted without --resume refuses earlier */
    return lm_rename(t->ctx, tmp, final);
}
/* What this rank made; rank 0 the folder, and what is in it. */
static void undo(lm_trainer *t, const char *tmp, const lm_manifest *m) {
    char *own;
    if (!tmp) return;
    if (leader(t)) { (void)lm_dir_remove(t->ctx, tmp); return; }
    if (!m->file || lm_path_join(t->ctx, &own, tmp, m->file[1 + t->o.comm->rank].name)) return;
    lm_file_remove(own);
    lm_free(t->ctx, own);
}
lm_err lm_ckpt_save(lm_trainer *t, const char *dir, const lm_ckpt_state *st, int keep_last) {
    lm_ctx *ctx = t->ctx;
    const bool lead = leader(t);
    const int ranks = lm_trainer_ranks(t);
    lm_manifest m = { .st = *st };
    char name[64], tmp_name[80], *tmp = NULL, *final = NULL, *latest = NULL;
    snprintf(name, sizeof name, "step-%08lld", (long long)st->step);
    snprintf(tmp_name, sizeof tmp_name, "%s.tmp", name);
    lm_err err = lm_path_join(ctx, &tmp, dir, tmp_name);
    if (!err) err = lm_path_join(ctx, &final, dir, name);
    if (!err) err = lm_path_join(ctx, &latest, dir, "latest");
    if (!err) err = lm_manifest_new(ctx, ranks > 1 ? ranks : 0, &m);
    if (!err) err = lm_trainer_pull(t);
    if (!err && lead) err = begin(ctx, dir, tmp);
    LM_GOTO(agree(t, err, "beginning a checkpoint"), undo);
    LM_GOTO(ranks > 1 ? save_shards(t, tmp, &m) : save_whole(t, tmp, &m), undo);
    LM_GOTO(lm_weights_hash(t, &m.weights), undo);
    if (lead) err = publish(t, tmp, final, &m);
    LM_GOTO(agree(t, err, "finishing a checkpoint"), undo);
    if (lead) { err = lm_file_write_atomic(ctx, latest, name, strlen(name)); if (!err) err = prune(ctx, dir, keep_last > 0 ? keep_last : 1); }
    err = agree(t, err, "naming the newest checkpoint");
    goto done;
undo:
    {   /* keep the sentence that says why, not one about the clean-up */
        char why[600]; snprintf(why, sizeof why, "%s", lm_error(ctx));
        undo(t, tmp, &m);
        lm_fail(ctx, err, "the checkpoint of step %lld was not written, earlier ones are untouched: %s", (long long)st->step, why);
    }
done:
    lm_manifest_free(ctx, &m);
    lm_free(ctx, tmp); lm_free(ctx, final); lm_free(ctx, latest);
    return err;
}
