/* tokenize.c — text into shards.
 *
 * One thread reads, cuts and writes; parsing and encoding go over the pool batch by batch. Documents are written in the order of the
 * inputs, so the files do not depend on how many threads encoded them. A shard is closed when the next document would not fit; a document
 * is never split. Held-out documents are those whose text hashes below val_fraction, so two equal texts land on one side. A run that was
 * killed reads on from the earliest document that is not in a finished shard; what comes before a side's own point is parsed but not
 * encoded again. */
#include "base/file_sys.h"
#include "data/tokenize.h"
#include <math.h>
#include <string.h>

#define SHARD_TOKENS ((int64_t)1 << 27)
#define WARN_MOST 20

static lm_err check_opts(lm_ctx *ctx, const lm_tokenize_opts *o) {
    if (!o->out || !*o->out) return lm_fail(ctx, LM_E_CONFIG, "no output folder");
    if (!(o->val_fraction >= 0 && o->val_fraction < 1))
        return lm_fail(ctx, LM_E_CONFIG, "val_fraction is %g; wanted at least 0 and less than 1", o->val_fraction);
    if (o->shard_tokens < 0) return lm_fail(ctx, LM_E_CONFIG, "shard_tokens is %lld; wanted a positive number", (long long)o->shard_tokens);
    if (o->on_error && strcmp(o->on_error, "fail") && strcmp(o->on_error, "skip"))
        return lm_fail(ctx, LM_E_CONFIG, "on_error is \"%s\"; \"fail\" and \"skip\" are known", o->on_error);
    return LM_OK;
}
static bool skips(const lm_tokenizing *t) { return t->o->on_error && !strcmp(t->o->on_error, "skip"); }
static bool held_out(const lm_tokenizing *t, const lm_doc *d) {
    return t->o->val_fraction > 0 && (double)(lm_hash64(d->text, d->n, 0x6c6f616d) >> 11) * 0x1p-53 < t->o->val_fraction;
}

/* ---- writing ------------------------------------------------------------------------------------------------------ */
static lm_err close_shard(lm_tokenizing *t, lm_side *s, lm_doc_at next) {
    lm_made m = { .next = next, .skipped = t->skipped };
    if (!s->w) return LM_OK;
    lm_shard_out *w = s->w;
    s->w = NULL;
    LM_TRY(lm_shard_finish(w, &m.sum));
    LM_TRY(lm_made_push(t->ctx, s, &m));
    return lm_journal_write(t);
}
static lm_err write_doc(lm_tokenizing *t, lm_side *s, const lm_doc *doc, const int32_t *id, size_t n) {
    int64_t all = (int64_t)n + (t->ends.bos >= 0) + (t->ends.eos >= 0);
    if (s->w && lm_shard_so_far(s->w).docs && lm_shard_so_far(s->w).tokens + all > t->shard_tokens) LM_TRY(close_shard(t, s, doc->at_file));
    if (!s->w) {
        char *path;
        LM_TRY(lm_data_file(t->ctx, &path, s->dir, s->n));
        lm_err err = lm_shard_create(&s->w, t->ctx, path, &t->kind);
        lm_free(t->ctx, path);
        if (err) return err;
    }
    if (t->ends.bos >= 0) LM_TRY(lm_shard_add(s->w, &t->ends.bos, 1));
    LM_TRY(lm_shard_add(s->w, id, n));
    if (t->ends.eos >= 0) LM_TRY(lm_shard_add(s->w, &t->ends.eos, 1));
    s->tokens += all;
    return lm_shard_end_doc(s->w, (int64_t)doc->n);
}

/* ---- a batch ------------------------------------------------------------------------------------------------------ */
static lm_err bad_doc(lm_tokenizing *t, const lm_doc *doc) {
    if (lm_doc_before(doc->at_file, lm_side_from(&t->side[0]))) return LM_OK;      /* counted by an earlier run */
    lm_err e = lm_data_why(t->ctx, t->tok, t->docs, doc);
    if (!skips(t) || e == LM_E_NOMEM) return e;
    t->skipped++;
    if (t->warned++ < WARN_MOST) lm_log(t->ctx, LM_LOG_WARN, "data", "left out: %s", lm_error(t->ctx));
    return LM_OK;
}
static lm_err one_batch(lm_tokenizing *t, lm_doc_batch *b) {
    lm_tok_buf ids = { .ctx = t->ctx };
    size_t *start = NULL;
    uint8_t *side = lm_calloc(t->ctx, LM_MEM_DATA, (size_t)b->n, 1);
    if (!side) return LM_E_NOMEM;
    for (int i = 0; i < b->n; i++) {
        lm_doc *d = &b->doc[i];
        if (d->bad) continue;
        side[i] = held_out(t, d);
        if (lm_doc_before(d->at_file, lm_side_from(&t->side[side[i]]))) d->n = 0;   /* in a shard already: like an empty one */
    }
    lm_err err = lm_data_encode(t->ctx, t->tok, b, &ids, &start);
    for (int i = 0; i < b->n && !err; i++) {
        const lm_doc *d = &b->doc[i];
        if (d->bad) err = bad_doc(t, d);
        else if (d->n) err = write_doc(t, &t->side[side[i]], d, ids.id + start[i], start[i + 1] - start[i]);
    }
    lm_tok_buf_free(&ids);
    lm_free(t->ctx, start);
    lm_free(t->ctx, side);
    return err;
}
static void report(const lm_tokenizing *t, int64_t bytes) {
    if (t->o->progress) t->o->progress(t->o->ud, bytes, t->in.bytes, t->side[0].tokens + t->side[1].tokens);
}
static lm_err all_batches(lm_tokenizing *t) {
    lm_doc_at a = lm_side_from(&t->side[0]), b = lm_side_from(&t->side[1]);
    LM_TRY(lm_docs_open(&t->docs, t->ctx, &t->in, t->o->field));
    lm_docs_start(t->docs, t->o->val_fraction > 0 && lm_doc_before(b, a) ? b : a);
    for (;;) {
        lm_doc_batch batch;
        LM_TRY(lm_docs_next(t->docs, lm_docs_want(t->ctx), &batch));
        if (!batch.n) break;
        LM_TRY(one_batch(t, &batch));
        report(t, lm_docs_taken(t->docs));
        if (t->o->stop && *t->o->stop) {
            const int made = t->side[0].n + t->side[1].n;
            return lm_fail(t->ctx, LM_E_CANCELLED, "interrupted: %d finished shard%s in %s; the same command goes on from there", made,
                           made == 1 ? " is" : "s are", t->o->out);
        }
    }
    for (int k = 0; k < 2; k++) LM_TRY(close_shard(t, &t->side[k], (lm_doc_at){ t->in.n, 0 }));
    return LM_OK;
}

/* ---- the run ------------------------------------------------------------------------------------------------------ */
static lm_err set_up(lm_tokenizing *t) {
    const lm_tokenize_opts *o = t->o;
    LM_TRY(lm_text_files_find(t->ctx, o->in, o->n_in, &t->in));
    t->ends = lm_doc_ends_of(t->tok, o->add_eos);
    t->kind = (lm_shard_kind){ lm_tok_vocab(t->tok), t->ends.eos, lm_tok_hash(t->tok) };
    t->shard_tokens = o->shard_tokens ? o->shard_tokens : SHARD_TOKENS;
    if (!(t->side[0].dir = lm_strdup(t->ctx, LM_MEM_DATA, o->out))) return LM_E_NOMEM;
    LM_TRY(lm_path_join(t->ctx, &t->side[1].dir, o->out, "val"));
    LM_TRY(lm_path_join(t->ctx, &t->index, o->out, "index.json"));
    LM_TRY(lm_path_join(t->ctx, &t->journal, o->out, "resume.json"));
    return lm_journal_made_from(t);
}
/* The folder of a model has a tokenizer and no journal: ours must not take its place. */
static lm_err check_folder(lm_tokenizing *t) {
    char *path;
    LM_TRY(lm_path_join(t->ctx, &path, t->o->out, "tokenizer.json"));
    bool taken = lm_exists(path) && !lm_exists(t->journal);
    lm_free(t->ctx, path);
    return taken ? lm_fail(t->ctx, LM_E_CONFIG, "%s: holds a tokenizer of its own; name another folder for the data", t->o->out) : LM_OK;
}
static lm_err finish(lm_tokenizing *t) {
    if (!t->side[0].tokens) {
        t->side[1].n = 0;                                   /* no run could go on with these */
        LM_TRY(lm_journal_sweep(t));
        if (lm_sys_unlink(t->journal) && errno != ENOENT) return lm_sys_fail(t->ctx, errno, "cannot remove", t->journal);
        if (t->side[1].tokens)
            return lm_fail(t->ctx, LM_E_DATA, "val_fraction %g held out every document: there is nothing left to train on",
                           t->o->val_fraction);
        if (t->in.n == 1 && !t->skipped) return lm_fail(t->ctx, LM_E_DATA, "%s: there is no text in it", t->in.v[0].path);
        return lm_fail(t->ctx, LM_E_DATA, "the inputs hold no text (%d files, %lld bad documents left out)", t->in.n, (long long)t->skipped);
    }
    if (t->o->val_fraction > 0 && !t->side[1].tokens)
        lm_log(t->ctx, LM_LOG_WARN, "data", "val_fraction %g held out no document: there are too few of them", t->o->val_fraction);
    if (t->warned > WARN_MOST) lm_log(t->ctx, LM_LOG_WARN, "data", "left out: %lld bad documents in all", (long long)t->skipped);
    LM_TRY(lm_tok_save(t->ctx, t->tok, t->o->out));
    if (t->o->val_fraction > 0) LM_TRY(lm_index_write(t, 1));
    return lm_index_write(t, 0);
}
static lm_err lock(lm_tokenizing *t) {
    char *path;
    LM_TRY(lm_path_join(t->ctx, &path, t->o->out, ".lock"));
    lm_err err = lm_lock_take(&t->lock, t->ctx, path, t->o->out);
    lm_free(t->ctx, path);
    return err;
}
/* A run that was killed between its last file and its end left its lock's file in a finished folder. Held by another process, or not to be
 * removed, it hinders nobody. */
static void sweep_lock(lm_tokenizing *t) {
    char *path;
    if (t->lock || lm_path_join(t->ctx, &path, t->o->out, ".lock")) return;
    if (lm_exists(path)) (void)lm_lock_take(&t->lock, t->ctx, path, t->o->out);
    lm_free(t->ctx, path);
}
static lm_err run(lm_tokenizing *t, bool *made_dir) {
    bool done;
    LM_TRY(set_up(t));
    const bool begun = lm_is_dir(t->o->out) && !lm_exists(t->index);
    if (begun) LM_TRY(lock(t));                             /* before its journal is read; a finished folder may be read-only and is not written to */
    LM_TRY(lm_journal_read(t, &done));
    if (done) {
        sweep_lock(t);
        report(t, t->in.bytes);
        return LM_OK;
    }
    LM_TRY(check_folder(t));
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < t->side[k].n; i++) t->side[k].tokens += t->side[k].made[i].sum.tokens;
    if (t->side[0].n) t->skipped = t->side[0].made[t->side[0].n - 1].skipped;
    if (t->side[0].n + t->side[1].n)
        lm_log(t->ctx, LM_LOG_INFO, "data", "%s: going on after %d finished shards, %lld tokens", t->o->out, t->side[0].n + t->side[1].n,
               (long long)(t->side[0].tokens + t->side[1].tokens));
    for (int k = 0; k < (t->o->val_fraction > 0 ? 2 : 1); k++) {
        made_dir[k] = !lm_exists(t->side[k].dir);
        LM_TRY(lm_dir_make(t->ctx, t->side[k].dir));
        if (!k && !begun) LM_TRY(lock(t));
    }
    LM_TRY(lm_journal_sweep(t));
    LM_TRY(all_batches(t));
    return finish(t);
}
lm_err lm_data_tokenize(lm_ctx *ctx, const lm_tok *tok, const lm_tokenize_opts *o) {
    LM_TRY(check_opts(ctx, o));
    lm_tokenizing t = { .ctx = ctx, .tok = tok, .o = o };
    bool made_dir[2] = {0};
    lm_err err = run(&t, made_dir);
    for (int k = 1; k >= 0; k--) {
        lm_shard_abort(t.side[k].w);
        if (!k) lm_lock_drop(t.lock);
        if (err && made_dir[k]) (void)lm_sys_rmdir(t.side[k].dir);      /* unless something is in it to go on with */
        lm_free(ctx, t.side[k].made);
        lm_free(ctx, t.side[k].dir);
    }
    lm_docs_close(t.docs);
    lm_text_files_free(&t.in);
    lm_free(ctx, t.index);
    lm_free(ctx, t.journal);
    return err;
}
