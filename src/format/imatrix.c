/* imatrix.c — see imatrix.h. */
#include "format/imatrix.h"
#include "base/file.h"
#include "format/cursor.h"
#include "format/gguf.h"
#include <math.h>
#include <stdlib.h>

typedef struct { const char *name; float *v; int64_t n; } entry;
struct lm_imatrix { lm_ctx *ctx; lm_arena *a; const char *path; entry *e; int n; };

static lm_err no_memory(const lm_imatrix *m) { return lm_fail(m->ctx, LM_E_NOMEM, "%s: out of memory", m->path); }
/* Sums over count inputs become means. */
static lm_err finish(const lm_imatrix *m, entry *e, double count) {
    for (int64_t i = 0; i < e->n; i++) {
        const float mean = count > 0 ? (float)((double)e->v[i] / count) : 1;
        if (!(e->v[i] >= 0) || !isfinite(e->v[i]) || !isfinite(mean))
            return lm_fail(m->ctx, LM_E_FORMAT, "%s: %s: importance %lld is %g over %g", m->path, e->name, (long long)i, (double)e->v[i], count);
        e->v[i] = mean;
    }
    return LM_OK;
}
static int by_name(const void *a, const void *b) { return strcmp(((const entry *)a)->name, ((const entry *)b)->name); }
static lm_err sorted(lm_imatrix *m) {
    if (m->n) qsort(m->e, (size_t)m->n, sizeof *m->e, by_name);
    for (int i = 1; i < m->n; i++)
        if (!strcmp(m->e[i].name, m->e[i - 1].name)) return lm_fail(m->ctx, LM_E_FORMAT, "%s: %s is there twice", m->path, m->e[i].name);
    return m->n ? LM_OK : lm_fail(m->ctx, LM_E_FORMAT, "%s: no importance is in it", m->path);
}
/* i32 entries | { i32 length, name, i32 calls, i32 count, f32 × count } … | what the tool noted */
static lm_err read_old(lm_imatrix *m, const void *p, size_t n) {
    lm_cursor c = lm_cursor_of(p, n);
    int32_t entries = 0;
    if (!lm_take_i32(&c, &entries) || entries < 1 || (uint64_t)entries > lm_cursor_left(&c) / 16)
        return lm_fail(m->ctx, LM_E_FORMAT, "%s is no importance matrix: %d entries cannot be in %zu bytes", m->path, entries, n);
    if (!(m->e = lm_arena_alloc(m->a, (size_t)entries * sizeof *m->e))) return no_memory(m);
    for (int32_t i = 0; i < entries; i++) {
        int32_t len = 0, calls = 0, count = 0;
        const uint8_t *name = NULL, *v = NULL;
        if (!lm_take_i32(&c, &len) || len < 1 || len > LM_GGUF_MAX_NAME || !lm_take(&c, (uint64_t)len, &name) || !lm_utf8_ok(name, (size_t)len) ||
            memchr(name, 0, (size_t)len) || !lm_take_i32(&c, &calls) || calls < 0 || !lm_take_i32(&c, &count) || count < 1 ||
            !lm_take(&c, (uint64_t)count * 4, &v))
            return lm_fail(m->ctx, LM_E_FORMAT, "%s: byte %zu: entry %d of %d is malformed", m->path, lm_cursor_at(&c), i, entries);
        entry *e = &m->e[m->n];
        e->name = lm_arena_printf(m->a, "%.*s", (int)len, (const char *)name);
        e->v = lm_arena_alloc(m->a, (size_t)count * 4); e->n = count;
        if (!e->name || !e->v) return no_memory(m);
        memcpy(e->v, v, (size_t)count * 4);
        m->n++;
        LM_TRY(finish(m, e, calls));
    }
    return sorted(m);
}
static lm_err read_gguf(lm_imatrix *m, lm_gguf *g) {
    static const char tail[] = ".in_sum2";
    const int all = lm_gguf_count(g);
    if (!(m->e = lm_arena_alloc(m->a, ((size_t)all + 1) * sizeof *m->e))) return no_memory(m);
    for (int i = 0; i < all; i++) {
        const lm_gguf_tensor *t = lm_gguf_at(g, i), *k;
        const size_t len = strlen(t->name), base = len - (sizeof tail - 1);
        if (len < sizeof tail || strcmp(t->name + base, tail)) continue;
        entry *e = &m->e[m->n];
        e->name = lm_arena_printf(m->a, "%.*s", (int)base, t->name);
        const char *counts = e->name ? lm_arena_printf(m->a, "%s.counts", e->name) : NULL;
        if (!counts) return no_memory(m);
        LM_TRY(lm_gguf_need(g, counts, &k));
        if (t->type->dtype != LM_F32 || k->type->dtype != LM_F32) return lm_fail(m->ctx, LM_E_FORMAT, "%s: %s is not F32", m->path, t->name);
        if (k->bytes != 4)
            return lm_fail(m->ctx, LM_E_UNSUPPORTED, "%s: %s is of %lld experts; models of experts are not written here yet", m->path,
                           e->name, (long long)k->bytes / 4);
        e->n = t->bytes / 4;
        if (!e->n || e->n != t->dim[t->rank - 1]) return lm_fail(m->ctx, LM_E_FORMAT, "%s: %s is not one row", m->path, t->name);
        if (!(e->v = lm_arena_alloc(m->a, (size_t)t->bytes))) return no_memory(m);
        float count = 0;
        LM_TRY(lm_gguf_read(g, t, e->v, 0, t->bytes));
        LM_TRY(lm_gguf_read(g, k, &count, 0, 4));
        if (!(count >= 0) || !isfinite(count)) return lm_fail(m->ctx, LM_E_FORMAT, "%s: %s is %g", m->path, counts, (double)count);
        m->n++;
        LM_TRY(finish(m, e, (double)count));
    }
    return sorted(m);
}
lm_err lm_imatrix_open_mem(lm_imatrix **out, lm_ctx *ctx, const char *name, const void *p, size_t n) {
    lm_arena *a;
    LM_TRY(lm_arena_new(&a, ctx, LM_MEM_IO, 0));
    lm_imatrix *m = lm_arena_alloc(a, sizeof *m);
    if (!m || !(m->path = lm_arena_strdup(a, name))) { lm_arena_free(a); return lm_fail(ctx, LM_E_NOMEM, "%s: out of memory", name); }
    m->ctx = ctx; m->a = a;
    lm_err err;
    if (n >= 4 && !memcmp(p, "GGUF", 4)) {
        lm_gguf *g;
        err = lm_gguf_open_mem(&g, ctx, name, p, n);
        if (!err) { err = read_gguf(m, g); lm_gguf_close(g); }
    } else err = read_old(m, p, n);
    if (err) lm_arena_free(a); else *out = m;
    return err;
}
lm_err lm_imatrix_open(lm_imatrix **out, lm_ctx *ctx, const char *path) {
    lm_file *f; const void *p; size_t n;
    LM_TRY(lm_file_open(&f, ctx, path));
    lm_err err = lm_file_map(f, &p, &n);
    if (!err) err = lm_imatrix_open_mem(out, ctx, path, p, n);
    lm_file_close(f);
    return err;
}
void lm_imatrix_free(lm_imatrix *m) { if (m) lm_arena_free(m->a); }
int lm_imatrix_count(const lm_imatrix *m) { return m->n; }
const float *lm_imatrix_find(const lm_imatrix *m, const char *name, int64_t *n) {
    const entry key = { .name = name }, *e = bsearch(&key, m->e, (size_t)m->n, sizeof *m->e, by_name);
    if (!e) return NULL;
    *n = e->n;
    return e->v;
}
