/* store.c — named tensors that outlive steps: an array in order of adding and an open-addressing index over the names. */
#include <string.h>
#include "graph/graph.h"

/* room: bytes there are (>= bytes: rows of padding). of: 1 + the entry whose memory it is a part of, from byte `at`. borrowed: not ours to free
 * or to write. */
typedef struct { char *name; lm_tensor t; size_t bytes, room, at; int of; void *on_dev; bool borrowed; lm_file *file; int64_t offset; } entry;
struct lm_store { lm_ctx *ctx; entry *e; int n, cap; int32_t *index; int n_index; lm_dev *dev; uint64_t epoch; size_t ring; };

static int32_t *find(const lm_store *s, const char *name) {
    if (!s->n_index) return NULL;
    uint64_t h = lm_hash64(name, strlen(name), 0);
    for (int i = (int)(h & (uint64_t)(s->n_index - 1));; i = (i + 1) & (s->n_index - 1))
        if (s->index[i] < 0 || !strcmp(s->e[s->index[i]].name, name)) return &s->index[i];
}
static lm_err reindex(lm_store *s, int want) {
    int n = 64; while (n < want * 2) n *= 2;
    int32_t *ix = lm_alloc(s->ctx, LM_MEM_GRAPH, (size_t)n * sizeof *ix);
    if (!ix) return LM_E_NOMEM;
    lm_free(s->ctx, s->index); s->index = ix; s->n_index = n;
    for (int i = 0; i < n; i++) ix[i] = -1;
    for (int i = 0; i < s->n; i++) *find(s, s->e[i].name) = i;
    return LM_OK;
}
lm_err lm_store_new(lm_store **out, lm_ctx *ctx) {
    lm_store *s = lm_calloc(ctx, LM_MEM_GRAPH, 1, sizeof *s);
    if (!s) return LM_E_NOMEM;
    s->ctx = ctx;
    if (reindex(s, 32)) { lm_free(ctx, s); return LM_E_NOMEM; }
    *out = s; return LM_OK;
}
void lm_store_free(lm_store *s) {
    if (!s) return;
    for (int i = 0; i < s->n; i++) {
        if (s->dev && !s->e[i].of) s->dev->free(s->dev, s->e[i].on_dev);
        if (!s->e[i].of && !s->e[i].borrowed) lm_free(s->ctx, s->e[i].t.data);
        lm_free(s->ctx, s->e[i].name);
    }
    lm_free(s->ctx, s->e); lm_free(s->ctx, s->index); lm_free(s->ctx, s);
}
static lm_err put(lm_store *s, const char *name, const lm_type *type, lm_layout layout, lm_mem_tag tag, bool storage, lm_tensor *out) {
    size_t bytes;
    if (!lm_storage_bytes(type->dtype, type->quant, layout, type->rank, type->dim, &bytes))
        return lm_fail(s->ctx, LM_E_SHAPE, "%s: a tensor of this shape and type cannot be stored (block size or overflow)", name);
    int32_t *slot = find(s, name);
    if (*slot >= 0) {
        entry *e = &s->e[*slot];
        bool same = e->t.dtype == (int8_t)type->dtype && e->t.quant == type->quant && e->t.rank == type->rank && e->t.layout == (int8_t)layout;
        for (int i = 0; same && i < type->rank; i++) same = e->t.dim[i] == type->dim[i];
        if (!same) return lm_fail(s->ctx, LM_E_MISMATCH, "%s is there already with another type or shape", name);
        if (out) *out = e->t;
        return LM_OK;
    }
    if (s->n == s->cap) {
        int cap = s->cap ? s->cap * 2 : 64;
        entry *e = lm_realloc(s->ctx, LM_MEM_GRAPH, s->e, (size_t)cap * sizeof *e);
        if (!e) return LM_E_NOMEM;
        s->e = e; s->cap = cap;
        LM_TRY(reindex(s, cap)); slot = find(s, name);
    }
    entry e = { .bytes = bytes, .room = bytes };
    e.name = lm_strdup(s->ctx, LM_MEM_GRAPH, name);
    if (!e.name) return LM_E_NOMEM;
    e.t = lm_tensor_of(storage ? lm_calloc(s->ctx, tag, bytes ? bytes : 1, 1) : NULL, type->dtype, type->rank, type->dim);
    if (storage && !e.t.data) { lm_free(s->ctx, e.name); return LM_E_NOMEM; }
    e.t.layout = (int8_t)layout; e.t.quant = type->quant;
    s->e[s->n] = e; *slot = s->n++;
    if (out) *out = e.t;
    return LM_OK;
}
lm_err lm_store_add(lm_store *s, const char *name, const lm_type *type, lm_layout layout, lm_mem_tag tag, lm_tensor *out) {
    return put(s, name, type, layout, tag, true, out);
}
lm_err lm_store_borrow(lm_store *s, const char *name, const lm_type *type, lm_layout layout, const void *data, lm_tensor *out) {
    if (*find(s, name) >= 0) return lm_fail(s->ctx, LM_E_MISMATCH, "%s is there already", name);
    LM_TRY(put(s, name, type, layout, LM_MEM_MISC, false, NULL));
    entry *e = &s->e[s->n - 1];
    e->borrowed = true;
    e->t.data = (void *)(uintptr_t)data;
    if (out) *out = e->t;
    return LM_OK;
}
lm_err lm_store_away(lm_store *s, const char *name, const lm_type *type, lm_file *file, int64_t offset) {
    if (*find(s, name) >= 0) return lm_fail(s->ctx, LM_E_MISMATCH, "%s is there already", name);
    LM_TRY(put(s, name, type, LM_PLAIN, LM_MEM_MISC, false, NULL));
    entry *e = &s->e[s->n - 1];
    e->borrowed = true; e->file = file; e->offset = offset;
    return LM_OK;
}
bool lm_store_where(const lm_store *s, const char *name, lm_file **file, int64_t *offset) {
    const int32_t *slot = find(s, name);
    if (!slot || *slot < 0 || !s->e[*slot].file) return false;
    *file = s->e[*slot].file; *offset = s->e[*slot].offset;
    return true;
}
void lm_store_set_ring(lm_store *s, size_t bytes) { s->ring = bytes; }
size_t lm_store_ring(const lm_store *s) { return s->ring; }
lm_err lm_store_declare(lm_store *s, const char *name, const lm_type *type, lm_layout layout) {
    return put(s, name, type, layout, LM_MEM_MISC, false, NULL);
}
bool lm_store_get(const lm_store *s, const char *name, lm_tensor *t) {
    const int32_t *slot = find(s, name);
    if (!slot || *slot < 0) return false;
    if (t) *t = s->e[*slot].t;
    return true;
}
lm_err lm_store_remove(lm_store *s, const char *name) {
    int32_t *slot = find(s, name);
    if (*slot < 0) return lm_fail(s->ctx, LM_E_NOTFOUND, "no tensor is called %s", name);
    int i = *slot;
    for (int k = 0; k < s->n; k++) if (s->e[k].of == i + 1 || s->e[i].of) return lm_fail(s->ctx, LM_E_INTERNAL, "%s has a part, or is one", name);
    for (int k = 0; k < s->n; k++) s->e[k].of -= s->e[k].of > i + 1;
    if (s->dev) s->dev->free(s->dev, s->e[i].on_dev);
    if (!s->e[i].borrowed) lm_free(s->ctx, s->e[i].t.data);
    lm_free(s->ctx, s->e[i].name);
    memmove(&s->e[i], &s->e[i + 1], (size_t)(s->n - i - 1) * sizeof *s->e);
    s->n--;
    for (int k = 0; k < s->n_index; k++) s->index[k] = -1;
    for (int k = 0; k < s->n; k++) *find(s, s->e[k].name) = k;
    return LM_OK;
}
lm_err lm_store_part(lm_store *s, const char *name, const char *whole, int64_t row, int64_t rows, const lm_type *type) {
    const int32_t *slot = find(s, whole);
    if (!slot || *slot < 0) return lm_fail(s->ctx, LM_E_NOTFOUND, "no tensor is called %s", whole);
    const int w = *slot;
    const int32_t *is = find(s, name);
    if (*is >= 0) {
        const entry *e = &s->e[*is];
        const size_t line = s->e[w].t.dim[0] ? s->e[w].bytes / (size_t)s->e[w].t.dim[0] : 0;
        if (e->of == w + 1 && e->at == line * (size_t)row) return LM_OK;
        return lm_fail(s->ctx, LM_E_MISMATCH, "%s is there already, and no such part of %s", name, whole);
    }
    const size_t each = s->e[w].t.dim[0] ? s->e[w].bytes / (size_t)s->e[w].t.dim[0] : 0, room = each * (size_t)rows;
    if (s->e[w].t.layout != LM_PLAIN || s->e[w].of || s->e[w].file || s->e[w].on_dev || s->e[w].t.rank != type->rank || row < 0 ||
        row + type->dim[0] > rows || rows < s->e[w].t.dim[0])
        return lm_fail(s->ctx, LM_E_INTERNAL, "%s cannot be a part of %s", name, whole);
    if ((room > s->e[w].room || s->e[w].borrowed) && s->e[w].t.data) {
        char *p = lm_alloc(s->ctx, LM_MEM_WEIGHTS, room);
        if (!p) return LM_E_NOMEM;
        memcpy(p, s->e[w].t.data, s->e[w].bytes);
        memset(p + s->e[w].bytes, 0, room - s->e[w].bytes);
        if (!s->e[w].borrowed) lm_free(s->ctx, s->e[w].t.data);
        s->e[w].t.data = p; s->e[w].borrowed = false;
    }
    if (room > s->e[w].room) s->e[w].room = room;
    LM_TRY(put(s, name, type, LM_PLAIN, LM_MEM_MISC, false, NULL));
    entry *e = &s->e[*find(s, name)];
    e->of = w + 1; e->at = each * (size_t)row;
    e->t.data = s->e[w].t.data ? (char *)s->e[w].t.data + e->at : NULL;
    return LM_OK;
}
bool lm_store_is_part(const lm_store *s, int i) { return s->e[i].of != 0; }
int lm_store_count(const lm_store *s) { return s->n; }
const char *lm_store_name(const lm_store *s, int i, lm_tensor *t) { if (t) *t = s->e[i].t; return s->e[i].name; }

/* ---- on a device ------------------------------------------------------------------------------------------------------------------- */
lm_err lm_store_on_dev(lm_store *s, const char *name, lm_dev *dev, void **p) {
    const int32_t *slot = find(s, name);
    if (!slot || *slot < 0) return lm_fail(s->ctx, LM_E_NOTFOUND, "no tensor is called %s", name);
    if (s->dev && s->dev != dev) return lm_fail(s->ctx, LM_E_UNSUPPORTED, "%s is on another device already", name);
    entry *e = &s->e[*slot];
    if (e->file) return lm_fail(s->ctx, LM_E_UNSUPPORTED, "%s stays in its file, which only plans on the processor read", name);
    s->dev = dev;
    if (!e->on_dev && e->of) {
        void *whole;
        LM_TRY(lm_store_on_dev(s, s->e[e->of - 1].name, dev, &whole));
        e->on_dev = (char *)whole + e->at;
    }
    if (!e->on_dev) {
        LM_TRY(dev->alloc(dev, e->room, &e->on_dev));
        lm_err err = e->t.data ? dev->put(dev, e->on_dev, e->t.data, e->room) : dev->zero(dev, e->on_dev, e->room);
        if (err) { dev->free(dev, e->on_dev); e->on_dev = NULL; return err; }
    }
    *p = e->on_dev;
    return LM_OK;
}
lm_err lm_store_pull(lm_store *s) {
    for (int i = 0; i < s->n; i++) {
        entry *e = &s->e[i];
        if (!e->on_dev || e->of) continue;
        if (e->borrowed) { e->borrowed = false; e->t.data = NULL; }           /* read only: what comes from the device needs a place */
        if (!e->t.data && !(e->t.data = lm_alloc(s->ctx, LM_MEM_MISC, e->room ? e->room : 1))) return LM_E_NOMEM;
        LM_TRY(s->dev->get(s->dev, e->t.data, e->on_dev, e->room));
    }
    for (int i = 0; i < s->n; i++) if (s->e[i].of && s->e[s->e[i].of - 1].t.data) s->e[i].t.data = (char *)s->e[s->e[i].of - 1].t.data + s->e[i].at;
    return s->dev ? s->dev->sync(s->dev) : LM_OK;
}
lm_err lm_store_push(lm_store *s) {
    s->epoch++;
    for (int i = 0; i < s->n; i++)
        if (s->e[i].on_dev && s->e[i].t.data && !s->e[i].of) LM_TRY(s->dev->put(s->dev, s->e[i].on_dev, s->e[i].t.data, s->e[i].room));
    return s->dev ? s->dev->sync(s->dev) : LM_OK;
}
uint64_t lm_store_epoch(const lm_store *s) { return s->epoch + 1; }
void lm_store_changed(lm_store *s) { s->epoch++; }
lm_err lm_store_move(lm_store *s, int i, size_t to, size_t from, size_t bytes) {
    const entry *e = &s->e[i];
    if (e->on_dev) return s->dev->move(s->dev, (char *)e->on_dev + to, (const char *)e->on_dev + from, bytes);
    memmove((char *)e->t.data + to, (const char *)e->t.data + from, bytes);
    return LM_OK;
}
lm_err lm_store_read(lm_store *s, int i, size_t from, void *dst, size_t bytes) {
    const entry *e = &s->e[i];
    if (e->on_dev) { LM_TRY(s->dev->get(s->dev, dst, (const char *)e->on_dev + from, bytes)); return s->dev->sync(s->dev); }
    if (e->file) return lm_file_pread(e->file, dst, bytes, e->offset + (int64_t)from);
    memcpy(dst, (const char *)e->t.data + from, bytes);
    return LM_OK;
}
lm_err lm_store_write(lm_store *s, int i, size_t to, const void *src, size_t bytes) {
    const entry *e = &s->e[i];
    if (e->file) return lm_fail(s->ctx, LM_E_UNSUPPORTED, "%s stays in its file and is not written", e->name);
    if (e->on_dev) { LM_TRY(s->dev->put(s->dev, (char *)e->on_dev + to, src, bytes)); return s->dev->sync(s->dev); }
    memcpy((char *)e->t.data + to, src, bytes);
    return LM_OK;
}
