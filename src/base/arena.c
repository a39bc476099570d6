/* arena.c — a list of chunks, bumped. The oldest chunk is kept by reset; a request larger than a chunk gets one of its own. */
#include "base/internal.h"
#include <stdio.h>
#include <string.h>
#if LM_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n) __asan_poison_memory_region(p, n)
#define UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#define GAP 16                            /* so that running over one thing's end is seen */
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#define GAP 0
#endif

typedef struct chunk { struct chunk *next; size_t cap, used; } chunk;
#define HEAD 64                           /* room for the chunk's header; data stays 64-byte aligned */

struct lm_arena { lm_ctx *ctx; lm_mem_tag tag; size_t chunk, used; chunk *first, *last; };

static char *data_of(chunk *c) { return (char *)c + HEAD; }

static chunk *chunk_new(lm_arena *a, size_t cap) {
    size_t all;
    chunk *c = lm_add_ok(cap, HEAD, &all) ? lm_alloc(a->ctx, a->tag, all) : NULL;
    if (!c) return NULL;
    *c = (chunk){ .cap = cap };
    POISON(data_of(c), cap);
    return c;
}

lm_err lm_arena_new(lm_arena **out, lm_ctx *ctx, lm_mem_tag tag, size_t chunk_bytes) {
    lm_arena *a = lm_calloc(ctx, tag, 1, sizeof *a);
    if (!a) return LM_E_NOMEM;
    *a = (lm_arena){ .ctx = ctx, .tag = tag, .chunk = chunk_bytes ? chunk_bytes : (size_t)64 << 10 };
    *out = a;
    return LM_OK;
}

static void chunk_free(lm_arena *a, chunk *c) {
    UNPOISON(data_of(c), c->cap);
    lm_free(a->ctx, c);
}

void lm_arena_reset(lm_arena *a) {
    if (!a->first) return;
    for (chunk *c = a->first->next, *next; c; c = next) { next = c->next; chunk_free(a, c); }
    a->first->next = NULL;
    a->first->used = 0;
    POISON(data_of(a->first), a->first->cap);
    a->last = a->first;
    a->used = 0;
}

void lm_arena_free(lm_arena *a) {
    if (!a) return;
    lm_arena_reset(a);
    if (a->first) chunk_free(a, a->first);
    lm_free(a->ctx, a);
}

void *lm_arena_alloc(lm_arena *a, size_t bytes) {
    size_t need;
    if (!lm_add_ok(bytes ? bytes : 1, GAP + 15, &need)) {
        lm_fail(a->ctx, LM_E_NOMEM, "out of memory: %zu bytes from an arena of %s", bytes, lm_mem_name(a->tag));
        return NULL;
    }
    need &= ~(size_t)15;
    chunk *c = a->last;
    if (!c || c->cap - c->used < need) {
        c = chunk_new(a, need > a->chunk ? need : a->chunk);
        if (!c) return NULL;
        if (a->last) a->last->next = c;
        else a->first = c;
        a->last = c;
    }
    char *p = data_of(c) + c->used;
    UNPOISON(p, bytes ? bytes : 1);
    c->used += need;
    a->used += bytes;
    return memset(p, 0, bytes);
}

char *lm_arena_strdup(lm_arena *a, const char *s) {
    size_t n = strlen(s) + 1;
    char *p = lm_arena_alloc(a, n);
    if (p) memcpy(p, s, n);
    return p;
}

char *lm_arena_printf(lm_arena *a, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : lm_arena_alloc(a, (size_t)n + 1);
    if (p) vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}

size_t lm_arena_used(const lm_arena *a) { return a->used; }
