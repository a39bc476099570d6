/* model_load.c — weights into the store: each in its final dtype and layout, by blocks of rows over all threads.
 *
 * First every tensor gets its storage, then one list of blocks covers them all, so that threads stay busy across tensors. A block is read
 * into its thread's buffer (about a megabyte), converted and written where it belongs; where file and storage agree byte for byte it is
 * read in place, or (map) stays where it is: a mapping of the file costs neither the copy nor fresh pages. Nothing is ever held twice. */
#include <stdatomic.h>
#include <stdlib.h>
#include "base/pool.h"
#include "model/model_quantize.h"
#include "model/model_weights.h"

enum { BLOCK = 1 << 18 };                                    /* numbers of a converted block; four times as many bytes at most */
typedef struct { lm_tensor t; int64_t step, tile0; bool direct, added, borrowed /* read in the map */; } dest;
typedef struct {
    lm_weights *w; dest *d; char *buf; size_t raw, each; int first, end; const volatile int *stop; _Atomic int err;
    int32_t *order; int64_t *bound;                          /* tiles of each member, its part of every matrix; where each member's begin */
} job;

static bool divides(const lm_quant *q, int64_t cols) { return cols % q->block == 0; }
/* The file has just what the store would hold. */
static bool as_it_is(const lm_weight *e, const lm_type *t, lm_layout layout) {
    return t->dtype == e->dtype && t->quant == e->quant && layout == LM_PLAIN && !e->transpose && !e->perm_heads && !e->plus_one && (!e->quant || e->quant->n_comp == 1);
}
/* May it be used at this place in a mapping? GGUF aligns to 32 bytes; safetensors promise nothing. NULL: it is in several places. */
static bool stays(const lm_weight *e, const void *p) { return p && (uintptr_t)p % (e->quant ? 32 : lm_dtype_size(e->dtype)) == 0; }
/* Panels for what is only multiplied, but where the file's own rows are to be used as they lie. */
static lm_layout layout_of(const lm_weight *e, const lm_load_opts *o, const lm_type *t, bool multiplied) {
    if (!o->panels || !multiplied || (o->map && t->dtype != LM_BF16 && as_it_is(e, t, LM_PLAIN))) return LM_PLAIN;
    if (t->dtype == LM_QUANT) return t->quant->panels ? LM_PANEL16 : LM_PLAIN;
    return t->dtype == LM_BF16 ? LM_PANEL16X2 : LM_PANEL16;
}
/* What a parameter becomes. */
static lm_err decide(lm_weights *w, const lm_weight *e, const lm_load_opts *o, int *n_quant, lm_type *type, lm_layout *layout) {
    int layer;
    const struct lm_name_map *row = lm_model_name_row(w->cfg.model, e->name, &layer);
    const bool matrix = e->type.rank == 2, in_out = row && row->transpose,
               multiplied = matrix && !in_out && (e->role == LM_ROLE_COL || e->role == LM_ROLE_ROW || e->head);
    *type = e->type; *layout = LM_PLAIN; type->quant = NULL; type->dtype = LM_F32;
    if (!matrix) return LM_OK;
    if (o->quant && matrix && ((multiplied && e->role != LM_ROLE_EMBED) || (e->role == LM_ROLE_EMBED && o->quant_embed))) {
        if (divides(o->quant, type->dim[1])) {
            type->dtype = LM_QUANT; type->quant = o->quant; (*n_quant)++;
            *layout = layout_of(e, o, type, multiplied);
            return LM_OK;
        }
        lm_log(w->ctx, LM_LOG_WARN, "model", "%s stays unquantized: its rows of %lld numbers are no whole blocks of %s (%d)", e->name,
               (long long)type->dim[1], o->quant->name, o->quant->block);
    }
    /* Bf16 is what matrices are multiplied in. What is also looked up, an embedding, enters the sums as it is stored: so it does in
     * training, and the figures are the trainer's to the bit. */
    if (o->dtype == LM_BF16 && e->role == LM_ROLE_EMBED && !(e->head && !w->cfg.tie) && e->dtype != LM_BF16) type->dtype = LM_F32;
    else if (o->dtype != LM_QUANT) type->dtype = o->dtype;
    else if (e->dtype == LM_QUANT && !in_out) { type->dtype = LM_QUANT; type->quant = e->quant; }
    else if (e->dtype == LM_BF16) type->dtype = LM_BF16;     /* what kernels read as it is; F16 and the like widen to F32, which loses nothing */
    *layout = layout_of(e, o, type, multiplied);
    return LM_OK;
}
static void put_transposed(const lm_weight *e, const lm_tensor *t, const float *src, int64_t r0, int64_t n) {
    for (int64_t c = 0; c < e->cols; c++)
        for (int64_t r = 0; r < n; r++) {
            const int64_t at = c * e->rows + r0 + r;
            if (t->dtype == LM_F32) ((float *)t->data)[at] = src[r * e->cols + c];
            else ((uint16_t *)t->data)[at] = lm_f32_to_bf16(src[r * e->cols + c]);
        }
}
static lm_err load_block(job *j, int i, int64_t r0, int64_t n, char *raw, float *f) {
    const lm_weight *e = &j->w->e[i];
    const dest *d = &j->d[i];
    const size_t rb = e->row_bytes;
    const int64_t from = r0 * (int64_t)rb, bytes = n * (int64_t)rb;
    if (d->direct) return j->w->source->read(j->w, e, (char *)d->t.data + from, from, bytes);
    LM_TRY(j->w->source->read(j->w, e, raw, from, bytes));
    if (d->t.dtype == LM_QUANT && e->quant == d->t.quant) {                /* the same format: rows move as they are */
        for (int64_t r = 0; r < n; r++) lm_quant_row_move(&d->t, lm_weights_row(e, r0 + r), raw + (size_t)r * rb);
        return LM_OK;
    }
    if (e->dtype == LM_F32 && !e->perm_heads) f = (float *)raw;           /* nothing to do: a source's rows lie together */
    else for (int64_t r = 0; r < n; r++) {                                /* blocks are whole heads, so a permuted row stays inside its block */
        float *to = f + (lm_weights_row(e, r0 + r) - r0) * e->cols;
        const char *row = raw + (size_t)r * rb;
        if (e->dtype == LM_QUANT) e->quant->to_float(e->quant, (const void *const[]){ row }, e->cols, to);
        else lm_convert(to, LM_F32, row, e->dtype, e->cols);
    }
    if (e->plus_one) for (int64_t k = 0; k < n * e->cols; k++) f[k] -= 1.0f;
    if (e->transpose) put_transposed(e, &d->t, f, r0, n);
    else if (e->type.rank == 1) memcpy((float *)d->t.data + r0 * e->cols, f, (size_t)(n * e->cols) * 4);
    else if (d->t.dtype == LM_QUANT) for (int64_t r = 0; r < n; r++) lm_quant_row_put(&d->t, r0 + r, f + r * e->cols);
    else lm_layout_put_rows(&d->t, r0, n, f);
    return LM_OK;
}
static void tile(void *ud, int64_t at, int ith) {
    job *j = ud;
    const int64_t k = j->order[at];
    if (atomic_load_explicit(&j->err, memory_order_relaxed)) return;
    int lo = j->first, hi = j->end - 1;                                          /* the last tensor that begins at or before k */
    while (lo < hi) { int mid = (lo + hi + 1) / 2; if (j->d[mid].tile0 <= k) lo = mid; else hi = mid - 1; }
    const int64_t r0 = (k - j->d[lo].tile0) * j->d[lo].step;
    char *raw = j->buf + (size_t)ith * j->each;
    lm_err e = j->stop && *j->stop ? lm_fail(j->w->ctx, LM_E_CANCELLED, "stopped while %s was read", j->w->path)
                                   : load_block(j, lo, r0, lm_min64(j->d[lo].step, j->w->e[lo].rows - r0), raw, (float *)(raw + j->raw));
    int none = 0;
    if (e) atomic_compare_exchange_strong(&j->err, &none, (int)e);
}
/* A member reads the part of each matrix that it will multiply (lm_phase.reads: the same shares), so that it lies near to it. */
static lm_err hand_out(job *j, int64_t tiles) {
    lm_ctx *ctx = j->w->ctx;
    const int nth = lm_ctx_threads(ctx);
    if (tiles > INT32_MAX) return lm_fail(ctx, LM_E_RANGE, "%s: %lld blocks to read", j->w->path, (long long)tiles);
    j->order = lm_alloc(ctx, LM_MEM_IO, ((size_t)tiles + 1) * sizeof *j->order);
    j->bound = lm_alloc(ctx, LM_MEM_IO, ((size_t)nth + 1) * sizeof *j->bound);
    if (!j->order || !j->bound) return LM_E_NOMEM;
    int64_t n = 0;
    for (int m = 0; m < nth; m++) {
        j->bound[m] = n;
        for (int i = j->first; i < j->end; i++) {
            const int64_t at = j->d[i].tile0, all = (i + 1 < j->end ? j->d[i + 1].tile0 : tiles) - at;
            for (int64_t t = all * m / nth; t < all * (m + 1) / nth; t++) j->order[n++] = (int32_t)(at + t);
        }
    }
    j->bound[nth] = n;
    return LM_OK;
}
static lm_err check(lm_weights *w, const lm_load_opts *o) {
    if (o->dtype != LM_F32 && o->dtype != LM_BF16 && o->dtype != LM_QUANT)
        return lm_fail(w->ctx, LM_E_CONFIG, "weights are kept as F32, BF16 or as stored; got %s", lm_dtype_name(o->dtype));
    if (o->quant && !o->quant->from_float) return lm_fail(w->ctx, LM_E_UNSUPPORTED, "%s can be read but not made here", o->quant->name);
    return LM_OK;
}
/* ---- what stays in the file where memory is short -------------------------------------------------------------------------------------------- */
typedef struct { bool *on; lm_file **file; int64_t *offset; size_t ring; } spare;
enum { RING = 128 << 20, LARGE = 4 };                       /* of a ring, where there is room; so many times the usual matrix is large */
static void spare_free(lm_weights *w, spare *s) { lm_free(w->ctx, s->on); lm_free(w->ctx, s->file); lm_free(w->ctx, s->offset); *s = (spare){ 0 }; }
static bool may_stay(lm_weights *w, const lm_weight *e, const lm_type *t, lm_file **file, int64_t *offset) {
    return e->type.rank == 2 && e->role != LM_ROLE_EMBED && (e->role == LM_ROLE_COL || e->role == LM_ROLE_ROW || e->head) && as_it_is(e, t, LM_PLAIN) &&
           w->source->where && w->source->where(w, e, file, offset) && *offset % (e->quant ? 32 : (int64_t)lm_dtype_size(e->dtype)) == 0;
}
static int by_size(const void *a, const void *b) { const size_t x = *(const size_t *)a, y = *(const size_t *)b; return x < y ? -1 : x > y; }
/* Nothing where all fits (on NULL). Large matrices stay in memory while that leaves room for the rest, since a ring must hold two of what goes through it. Of
 * the others as many as fit stay in memory too, evenly, so that between two reads there is work. */
static lm_err what_stays(lm_weights *w, const lm_load_opts *o, spare *out) {
    if (!o->room) return LM_OK;
    spare s = { 0 };
    size_t *bytes = lm_calloc(w->ctx, LM_MEM_IO, (size_t)w->n + 1, sizeof *bytes);
    size_t *sizes = lm_calloc(w->ctx, LM_MEM_IO, (size_t)w->n + 1, sizeof *sizes);
    s.on = lm_calloc(w->ctx, LM_MEM_IO, (size_t)w->n + 1, sizeof *s.on);
    s.file = lm_calloc(w->ctx, LM_MEM_IO, (size_t)w->n + 1, sizeof *s.file);
    s.offset = lm_calloc(w->ctx, LM_MEM_IO, (size_t)w->n + 1, sizeof *s.offset);
    lm_err err = bytes && sizes && s.on && s.file && s.offset ? LM_OK : LM_E_NOMEM;
    size_t all = 0, fixed = 0, need = 0;
    int n_quant = 0, n = 0;
    for (int i = 0; i < w->n && !err; i++) {
        lm_type type; lm_layout layout;
        if ((err = decide(w, &w->e[i], o, &n_quant, &type, &layout))) break;
        lm_storage_bytes(type.dtype, type.quant, layout, type.rank, type.dim, &bytes[i]);
        all += bytes[i];
        if (may_stay(w, &w->e[i], &type, &s.file[i], &s.offset[i])) { s.on[i] = true; sizes[n++] = bytes[i]; }
        else fixed += bytes[i];
    }
    if (err || all <= o->room || !n) {
        if (!err && all > o->room)
            err = lm_fail(w->ctx, LM_E_NOMEM, "%s: weights take %zu bytes of memory, there are %zu, and none of them can stay in the file", w->path, all, o->room);
        goto done;
    }
    qsort(sizes, (size_t)n, sizeof *sizes, by_size);
    const size_t usual = sizes[n / 2];
    bool fits = false;
    for (int pass = 0; pass < 2 && !fits; pass++) {          /* large ones in memory; then not */
        size_t large = 0, rest = 0, most = 0;
        for (int i = 0; i < w->n; i++) {
            if (!s.on[i]) continue;
            if (!pass && bytes[i] > LARGE * usual) { large += bytes[i]; continue; }
            rest += bytes[i]; most = bytes[i] > most ? bytes[i] : most;
        }
        const size_t least = 2 * (most + 8192);
        need = fixed + large + least;
        if (!most || need > o->room) continue;
        fits = true;
        size_t ring = (o->room - fixed - large) / 4;
        s.ring = ring > RING ? RING : ring;
        if (s.ring < least) s.ring = least;
        const double kept = (double)(o->room - fixed - large - s.ring) / (double)rest;          /* of the rest, in memory */
        double due = 0;
        for (int i = 0; i < w->n; i++) {
            if (!s.on[i]) continue;
            if (!pass && bytes[i] > LARGE * usual) { s.on[i] = false; continue; }
            due += kept * (double)bytes[i];
            if (due >= (double)bytes[i]) { due -= (double)bytes[i]; s.on[i] = false; }
        }
    }
    if (!fits)
        err = lm_fail(w->ctx, LM_E_NOMEM, "%s: weights take %zu bytes and there are %zu; read from the file as they are used they still want %zu: what is looked up or "
                      "changed on loading, and two of the largest matrices", w->path, all, o->room, need);
done:
    lm_free(w->ctx, bytes); lm_free(w->ctx, sizes);
    if (err || all <= o->room) spare_free(w, &s); else *out = s;
    return err;
}
static lm_err load(lm_weights *w, lm_store *store, const lm_load_opts *o, int first, int end) {
    job j = { .w = w, .first = first, .end = end, .stop = o->stop };
    lm_err err = LM_OK;
    int n_quant = 0;
    spare away = { 0 };
    LM_TRY(what_stays(w, o, &away));
    if (!(j.d = lm_calloc(w->ctx, LM_MEM_IO, (size_t)w->n + 1, sizeof *j.d))) { spare_free(w, &away); return LM_E_NOMEM; }
    int64_t tiles = 0;
    size_t raw = 0, floats = 0;
    for (int i = first; i < end; i++) {
        const lm_weight *e = &w->e[i];
        dest *d = &j.d[i];
        lm_type type;
        lm_layout layout;
        LM_GOTO(decide(w, e, o, &n_quant, &type, &layout), done);
        d->added = !lm_store_get(store, e->name, NULL);
        d->direct = as_it_is(e, &type, layout);
        d->tile0 = tiles;
        if (away.on && away.on[i] && d->added) { LM_GOTO(lm_store_away(store, e->name, &type, away.file[i], away.offset[i]), done); continue; }
        if (o->map && d->added && d->direct) {
            const void *p;
            LM_GOTO(w->source->map(w, e, &p), done);
            if (stays(e, p)) { LM_GOTO(lm_store_borrow(store, e->name, &type, layout, p, &d->t), done); d->borrowed = true; continue; }
        }
        if ((err = lm_store_add(store, e->name, &type, layout, LM_MEM_WEIGHTS, &d->t))) { d->added = false; goto done; }
        const int64_t unit = e->perm_heads ? e->rows / e->perm_heads : 16;
        d->step = lm_round_up(lm_max64((d->direct ? 8 : 1) * BLOCK / lm_max64(e->cols, 1), 1), unit);
        if (d->step > e->rows) d->step = lm_max64(e->rows, 1);
        tiles += lm_ceil_div(e->rows, d->step);
        if (d->direct) continue;
        if ((size_t)d->step * e->row_bytes > raw) raw = (size_t)d->step * e->row_bytes;
        if ((size_t)(d->step * e->cols) > floats) floats = (size_t)(d->step * e->cols);
    }
    if (o->quant && !n_quant) {
        err = lm_fail(w->ctx, LM_E_UNSUPPORTED, "%s: no matrix of %s can be kept as %s here", w->path, w->cfg.model->name, o->quant->name);
        goto done;
    }
    j.raw = (raw + 63) & ~(size_t)63;
    j.each = (j.raw + floats * 4 + 127) & ~(size_t)63;
    if (!(j.buf = lm_alloc(w->ctx, LM_MEM_IO, j.each * (size_t)lm_ctx_threads(w->ctx)))) { err = LM_E_NOMEM; goto done; }
    LM_GOTO(hand_out(&j, tiles), done);
    lm_pool_runs(lm_ctx_pool(w->ctx), j.bound, tile, &j);
    err = (lm_err)atomic_load(&j.err);
    for (int i = first; i < end && o->map && w->source->where; i++) {      /* copied: their pages in the file are not needed beside the copy */
        const lm_weight *e = &w->e[i];
        lm_file *f; int64_t at;
        if (!j.d[i].borrowed && w->source->where(w, e, &f, &at)) lm_file_map_spare(f, at, e->rows * (int64_t)e->row_bytes);
    }
done:
    if (err) for (int i = first; i < end; i++) if (j.d[i].added) lm_store_remove(store, w->e[i].name);
    if (!err && away.on) lm_store_set_ring(store, away.ring);
    spare_free(w, &away);
    lm_free(w->ctx, j.buf); lm_free(w->ctx, j.d); lm_free(w->ctx, j.order); lm_free(w->ctx, j.bound);
    return err;
}
lm_err lm_weights_load(lm_weights *w, lm_store *store, const lm_load_opts *o) {
    LM_TRY(check(w, o));
    return load(w, store, o, 0, w->n);
}
lm_err lm_weights_ahead(lm_weights *w, const lm_load_opts *o) {
    int n_quant = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < w->n && w->source->where; i++) {
            const lm_weight *e = &w->e[i];
            lm_type type;
            lm_layout layout;
            lm_file *f;
            int64_t at;
            if (!w->source->where(w, e, &f, &at)) continue;
            if (pass) { lm_file_ahead(f); continue; }
            LM_TRY(decide(w, e, o, &n_quant, &type, &layout));
            if (o->map && !as_it_is(e, &type, layout)) LM_TRY(lm_file_ahead_part(f, at, e->rows * (int64_t)e->row_bytes));
        }
    return LM_OK;
}
lm_err lm_weights_declare(lm_weights *w, lm_store *store, const lm_load_opts *o, lm_load_need *need) {
    LM_TRY(check(w, o));
    int n_quant = 0;
    lm_load_need n = { 0 };
    spare away = { 0 };
    LM_TRY(what_stays(w, o, &away));
    lm_err err = LM_OK;
    for (int i = 0; i < w->n && !err; i++) {
        const lm_weight *e = &w->e[i];
        lm_type type; lm_layout layout; const void *p;
        size_t bytes = 0;
        if ((err = decide(w, e, o, &n_quant, &type, &layout))) break;
        if (away.on && away.on[i]) {
            err = lm_store_away(store, e->name, &type, away.file[i], away.offset[i]);
            n.away += (size_t)e->rows * e->row_bytes; n.all += (size_t)e->rows * e->row_bytes;
            continue;
        }
        err = lm_store_declare(store, e->name, &type, layout);
        lm_storage_bytes(type.dtype, type.quant, layout, type.rank, type.dim, &bytes);
        n.all += bytes;
        if (err || !o->map || !as_it_is(e, &type, layout)) continue;
        err = w->source->map(w, e, &p);
        if (!err && stays(e, p)) n.mapped += (size_t)e->rows * e->row_bytes;
    }
    n.ring = away.on ? away.ring : 0;
    lm_store_set_ring(store, n.ring);
    spare_free(w, &away);
    if (!err && need) *need = n;
    return err;
}
lm_err lm_weights_load_one(lm_weights *w, lm_store *store, const char *name) {
    for (int i = 0; i < w->n; i++) if (!strcmp(w->e[i].name, name)) return load(w, store, &(lm_load_opts){ .dtype = LM_F32 }, i, i + 1);
    return lm_fail(w->ctx, LM_E_NOTFOUND, "%s: the model has no parameter %s", w->path, name);
}
