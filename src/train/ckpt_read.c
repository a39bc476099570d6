/* ckpt_read.c — from the newest checkpoint to the oldest until one verifies; then each rank reads the rows that it holds, from whichever files have them.
 *
 * Nothing here asks how many ranks wrote, or on what mesh: slices open as whole tensors (format/safetensors.h). The files' hashes are divided among the
 * ranks that read; the hash of all weights at the end covers what every one of them has read. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "dist/dist.h"
#include "train/train_int.h"

lm_err lm_ckpt_peek(lm_ctx *ctx, const char *path, lm_ckpt_state *st) {
    lm_manifest m;
    const lm_err err = lm_manifest_read(ctx, path, &m);
    if (!err) *st = m.st;
    lm_manifest_free(ctx, &m);
    return err;
}
static lm_err verify(lm_ctx *ctx, const char *path, int rank, int ranks) {
    lm_manifest m;
    lm_err err = lm_manifest_read(ctx, path, &m);
    if (!err) err = lm_manifest_check(ctx, path, &m, rank, ranks);
    lm_manifest_free(ctx, &m);
    return err;
}
lm_err lm_ckpt_verify(lm_ctx *ctx, const char *path) { return verify(ctx, path, 0, 1); }
/* It may well be whole: an older one must not take its place. */
static bool sick(lm_err e) { return e == LM_E_NOMEM || e == LM_E_IO || e == LM_E_NOSPACE; }
/* What all ranks say of one checkpoint: theirs, and whether the search ends there. */
static lm_err judged(lm_ctx *ctx, lm_comm *c, lm_err mine, bool *end) {
    double v[2] = { mine != LM_OK, sick(mine) };
    *end = true;
    LM_TRY(lm_comm_sum(c, v, 2));
    *end = v[0] == 0 || v[1] > 0;
    return lm_comm_agree(c, ctx, mine, "verifying a checkpoint");
}
lm_err lm_ckpt_find(lm_ctx *ctx, lm_comm *comm, const char *dir, char **out) {
    lm_comm *c = comm ? comm : lm_comm_self();
    char **names = NULL, name[256], *path = NULL;
    int n = 0;
    bool end = false;
    lm_err err = LM_OK;
    if (!c->rank)
        err = lm_is_dir(dir) ? lm_dir_list(ctx, dir, &names, &n)
                             : lm_fail(ctx, LM_E_NOTFOUND, "%s is not a folder: there is no checkpoint to resume from", dir);
    LM_GOTO(lm_comm_agree(c, ctx, err, "looking for a checkpoint"), done);
    if (n) qsort(names, (size_t)n, sizeof *names, lm_ckpt_by_text);
    for (int i = n - 1; !end; i--) {                                 /* rank 0 goes through the names, all look at each */
        while (!c->rank && i >= 0 && !lm_ckpt_is_step(names[i])) i--;
        memset(name, 0, sizeof name);
        if (!c->rank && i >= 0) snprintf(name, sizeof name, "%s", names[i]);
        LM_GOTO(c->broadcast(c, name, sizeof name, 0), done);
        lm_free(ctx, path); path = NULL;
        if (!*name) { err = lm_fail(ctx, LM_E_NOTFOUND, "%s holds no whole checkpoint", dir); goto done; }
        err = lm_path_join(ctx, &path, dir, name);
        if (!err) err = verify(ctx, path, c->rank, c->size);
        err = judged(ctx, c, err, &end);
        if (err && !end && !c->rank) lm_log(ctx, LM_LOG_WARN, "train", "passing over %s: %s", path, lm_error(ctx));
    }
done:
    lm_free(ctx, names);
    if (err) lm_free(ctx, path); else *out = path;
    return err;
}

/* ---- the state ---------------------------------------------------------------------------------------------------------------------------- */
static void shape_text(char out[96], int rank, const int64_t *dim, int64_t rows) {
    *out = 0;
    for (int k = 0, n = 0; k < rank && k < 4; k++) n += snprintf(out + n, 96 - (size_t)n, "%s%lld", k ? ", " : "", (long long)(k || rows < 0 ? dim[k] : rows));
}
static lm_err narrowed(lm_trainer *t, lm_st *f, const lm_st_tensor *x, uint16_t *dst, int64_t from, int64_t n) {
    enum { PIECE = 1 << 18 };
    float *wide = lm_alloc(t->ctx, LM_MEM_IO, PIECE * sizeof *wide);
    lm_err err = wide ? LM_OK : LM_E_NOMEM;
    for (int64_t at = 0; at < n && !err; at += PIECE) {
        const int64_t k = lm_min64(PIECE, n - at);
        err = lm_st_read(f, x, wide, (from + at) * (int64_t)sizeof *wide, k * (int64_t)sizeof *wide);
        if (!err) lm_convert(dst + at, LM_BF16, wide, LM_F32, k);
    }
    lm_free(t->ctx, wide);
    return err;
}
/* This rank's rows of a whole tensor in the file, whose name there is behind `group`; zeros below the last row. */
static lm_err read_into(lm_trainer *t, lm_st *f, const char *group, const char *name, const lm_tensor *dst, bool param) {
    const lm_st_tensor *x;
    lm_logical l;
    char as[sizeof l.name + sizeof LM_CKPT_GROUP];
    lm_mesh_logical(t, name, dst, &l);
    snprintf(as, sizeof as, "%s%s", group, l.name);
    LM_TRY(lm_st_need(f, as, &x));
    /* weights are in the file as f32; what a run keeps in bf16 was widened, and is narrowed without loss (the hash of all of them tells) */
    const bool narrow = param && x->dtype == LM_F32 && dst->dtype == LM_BF16;
    bool same = (x->dtype == (lm_dtype)dst->dtype || narrow) && x->rank == dst->rank;
    for (int k = 0; same && k < x->rank; k++) same = x->dim[k] == (k ? dst->dim[k] : l.rows);
    if (!same) {
        char got[96], want[96];
        shape_text(got, x->rank, x->dim, -1); shape_text(want, dst->rank, dst->dim, l.rows);
        return lm_fail(t->ctx, LM_E_MISMATCH, "%s: %s: got %s (%s), this run's configuration wants %s (%s)", lm_st_path(f), as,
                       lm_dtype_name(x->dtype), got, lm_dtype_name((lm_dtype)dst->dtype), want);
    }
    const int64_t size = (int64_t)lm_dtype_size((lm_dtype)dst->dtype), cols = l.part ? lm_numel(dst) / dst->dim[0] : 1;
    const int64_t from = l.part ? l.from * cols : 0, n = l.part ? l.own * cols : lm_numel(dst);
    if (narrow) return narrowed(t, f, x, dst->data, from, n);
    memset((char *)dst->data + n * size, 0, (size_t)((lm_numel(dst) - n) * size));
    return n ? lm_st_read(f, x, dst->data, from * size, n * size) : LM_OK;
}
static lm_err open_file(lm_st **out, lm_ctx *ctx, const char *path, const char *name) {
    char *p;
    LM_TRY(lm_path_join(ctx, &p, path, name));
    const lm_err err = lm_st_open(out, ctx, p);
    lm_free(ctx, p);
    return err;
}
static lm_err read_all(lm_trainer *t, const char *path, const lm_manifest *m) {
    lm_st *model = NULL, *opt = NULL;
    lm_err err;
    if (m->sliced) LM_GOTO(lm_st_open_slices(&model, t->ctx, path), done);
    else {
        LM_GOTO(open_file(&model, t->ctx, path, m->file[1].name), done);
        LM_GOTO(open_file(&opt, t->ctx, path, m->file[2].name), done);
    }
    for (int i = 0; i < lm_store_count(t->store); i++) {
        lm_tensor s;
        const char *name = lm_store_name(t->store, i, &s);
        if (lm_ckpt_param(t, name)) LM_GOTO(read_into(t, model, "", name, &s, true), done);
        else if (lm_ckpt_state_of(t, i)) LM_GOTO(read_into(t, opt ? opt : model, opt ? "" : LM_CKPT_GROUP, name, &s, false), done);
        else if (!lm_store_is_part(t->store, i)) memset(s.data, 0, (size_t)lm_numel(&s) * lm_dtype_size((lm_dtype)s.dtype));
    }
done:
    lm_st_close(model); lm_st_close(opt);
    return err;
}
lm_err lm_ckpt_load(lm_trainer *t, const char *path, lm_ckpt_state *st) {
    const int ranks = lm_trainer_ranks(t);
    lm_manifest m;
    lm_hash128_t got;
    lm_err err = lm_trainer_pull(t);                                     /* room on the host for what lives on a device */
    if (err) m = (lm_manifest){ 0 };
    else err = lm_manifest_read(t->ctx, path, &m);
    if (!err) err = lm_manifest_check(t->ctx, path, &m, ranks > 1 ? t->o.comm->rank : 0, ranks);
    if (!err) err = read_all(t, path, &m);
    if (ranks > 1) err = lm_comm_agree(t->o.comm, t->ctx, err, "reading the checkpoint");
    if (!err && t->o.dev) err = lm_store_push(t->store);
    if (!err) err = lm_weights_hash(t, &got);
    if (!err && !lm_hash_same(got, m.weights))
        err = lm_fail(t->ctx, LM_E_MISMATCH, "%s: the loaded weights do not have the hash the manifest states", path);
    if (!err) *st = m.st;
    lm_manifest_free(t->ctx, &m);
    return err;
}
