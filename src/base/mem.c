/* mem.c — tagged blocks, the ledger, injected failures.
 *
 * A block is preceded by a 64-byte header. Small ones come from the C library. Those of 2 MiB and more get a mapping of their own whose data
 * starts on a 2 MiB boundary (the header sits at the end of the page before), so that huge pages can back all of it and freeing returns it
 * to the system at once. Under the address sanitizer everything comes from the C library, where it can be watched. */
#include "base/internal.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define PAGE ((size_t)4096)

typedef struct {
    size_t size, cap;                     /* asked for; room up to the end of the block */
    lm_ctx *ctx;                          /* whose ledger */
    void *base; size_t mapped;            /* what to give back; mapped = 0: to free() */
    lm_mem_tag tag;
} head;
#define HEAD 64
_Static_assert(sizeof(head) <= HEAD, "the header must not break alignment");

static const char *const mem_names[LM_N_MEM] = {
#define X(name, text) text,
    LM_MEM_MAP(X)
#undef X
};
const char *lm_mem_name(lm_mem_tag tag) { return (unsigned)tag < LM_N_MEM ? mem_names[tag] : "unknown"; }

static head *head_of(void *p) { return (head *)((char *)p - HEAD); }

static void raise_peak(_Atomic size_t *peak, size_t v) {
    size_t old = atomic_load_explicit(peak, memory_order_relaxed);
    while (old < v && !atomic_compare_exchange_weak_explicit(peak, &old, v, memory_order_relaxed, memory_order_relaxed)) {}
}

static void ledger_add(lm_ctx *ctx, lm_mem_tag tag, size_t n) {
    if (!ctx) return;
    raise_peak(&ctx->peak[tag], atomic_fetch_add_explicit(&ctx->now[tag], n, memory_order_relaxed) + n);
    raise_peak(&ctx->total_peak, atomic_fetch_add_explicit(&ctx->total_now, n, memory_order_relaxed) + n);
}

static void ledger_sub(lm_ctx *ctx, lm_mem_tag tag, size_t n) {
    if (!ctx) return;
    atomic_fetch_sub_explicit(&ctx->now[tag], n, memory_order_relaxed);
    atomic_fetch_sub_explicit(&ctx->total_now, n, memory_order_relaxed);
}

/* Counts the attempt; true if it must fail. */
static bool injected(lm_ctx *ctx) {
    if (!ctx) return false;
    atomic_fetch_add_explicit(&ctx->n_alloc, 1, memory_order_relaxed);
    int64_t n = atomic_load_explicit(&ctx->fail_at, memory_order_relaxed);
    for (;;) {
        if (n == 0) return false;
        if (n < 0) return true;
        int64_t next = n > 1 ? n - 1 : atomic_load_explicit(&ctx->fail_sticky, memory_order_relaxed) ? -1 : 0;
        if (atomic_compare_exchange_weak_explicit(&ctx->fail_at, &n, next, memory_order_relaxed, memory_order_relaxed)) return n == 1;
    }
}

static void *map_block(size_t bytes, head *h) {
    size_t len, all;
    if (!lm_add_ok(bytes, PAGE - 1, &len)) return NULL;
    len &= ~(PAGE - 1);
    if (!lm_add_ok(len, HUGE_PAGE + PAGE, &all)) return NULL;
    char *m = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED) return NULL;
    char *data = (char *)(((uintptr_t)m + PAGE + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    char *lo = data - PAGE, *hi = data + len;
    if (lo > m) munmap(m, (size_t)(lo - m));
    if (hi < m + all) munmap(hi, (size_t)(m + all - hi));
    madvise(data, len, MADV_HUGEPAGE);    /* advice: kernels without it are fine */
    *h = (head){ .cap = len, .base = lo, .mapped = (size_t)(hi - lo) };
    return data;
}

static void *heap_block(size_t bytes, head *h) {
    size_t all;
    void *m;
    if (LM_ASAN && bytes >> 36) return NULL;       /* the sanitizer would end the program where the system just says no */
    if (!lm_add_ok(bytes, HEAD, &all) || posix_memalign(&m, 64, all)) return NULL;
    *h = (head){ .cap = bytes, .base = m };
    return (char *)m + HEAD;
}

/* The common part of every allocation. *fresh: the pages are known to be zero. */
static void *get(lm_ctx *ctx, lm_mem_tag tag, size_t bytes, bool *fresh) {
    if ((unsigned)tag >= LM_N_MEM) tag = LM_MEM_MISC;
    head h;
    void *p = NULL;
    *fresh = !LM_ASAN && bytes >= HUGE_PAGE;
    if (!injected(ctx) && bytes <= PTRDIFF_MAX) p = *fresh ? map_block(bytes, &h) : heap_block(bytes, &h);
    if (!p) {
        lm_fail(ctx, LM_E_NOMEM, "out of memory: %zu bytes for %s", bytes, lm_mem_name(tag));
        return NULL;
    }
    h.size = bytes;
    h.ctx = ctx;
    h.tag = tag;
    *head_of(p) = h;
    ledger_add(ctx, tag, bytes);
    return p;
}

void *lm_alloc(lm_ctx *ctx, lm_mem_tag tag, size_t bytes) {
    bool fresh;
    return get(ctx, tag, bytes, &fresh);
}

void *lm_calloc(lm_ctx *ctx, lm_mem_tag tag, size_t n, size_t size) {
    size_t bytes;
    bool fresh;
    if (!lm_mul_ok(n, size, &bytes)) {
        lm_fail(ctx, LM_E_NOMEM, "out of memory: %zu times %zu bytes for %s", n, size, lm_mem_name(tag));
        return NULL;
    }
    void *p = get(ctx, tag, bytes, &fresh);
    if (p && !fresh) memset(p, 0, bytes);
    return p;
}

void lm_free(lm_ctx *ctx, void *p) {
    (void)ctx;                            /* the header knows whose it is */
    if (!p) return;
    head h = *head_of(p);
    ledger_sub(h.ctx, h.tag, h.size);
    if (h.mapped) munmap(h.base, h.mapped);
    else free(h.base);
}

void *lm_realloc(lm_ctx *ctx, lm_mem_tag tag, void *p, size_t bytes) {
    if (!p) return lm_alloc(ctx, tag, bytes);
    head *h = head_of(p);
    /* In place if it fits and not more than half is wasted; never under the sanitizer, which should see stale pointers and the exact end. */
    if (!LM_ASAN && bytes <= h->cap && bytes >= h->cap / 2) {
        if (injected(h->ctx)) {
            lm_fail(ctx, LM_E_NOMEM, "out of memory: %zu bytes for %s", bytes, lm_mem_name(h->tag));
            return NULL;
        }
        if (bytes > h->size) ledger_add(h->ctx, h->tag, bytes - h->size);
        else ledger_sub(h->ctx, h->tag, h->size - bytes);
        h->size = bytes;
        return p;
    }
    void *q = lm_alloc(ctx, h->tag, bytes);
    if (!q) return NULL;
    memcpy(q, p, bytes < h->size ? bytes : h->size);
    lm_free(ctx, p);
    return q;
}

char *lm_strdup(lm_ctx *ctx, lm_mem_tag tag, const char *s) {
    size_t n = strlen(s) + 1;
    char *p = lm_alloc(ctx, tag, n);
    if (p) memcpy(p, s, n);
    return p;
}

void lm_mem_ledger(const lm_ctx *ctx, lm_ledger *out) {
    lm_ledger l = { 0 };
    if (ctx) {
        for (int i = 0; i < LM_N_MEM; i++) {
            l.now[i] = atomic_load_explicit(&ctx->now[i], memory_order_relaxed);
            l.peak[i] = atomic_load_explicit(&ctx->peak[i], memory_order_relaxed);
        }
        l.total_now = atomic_load_explicit(&ctx->total_now, memory_order_relaxed);
        l.total_peak = atomic_load_explicit(&ctx->total_peak, memory_order_relaxed);
        l.n_alloc = atomic_load_explicit(&ctx->n_alloc, memory_order_relaxed);
    }
    *out = l;
}

void lm_mem_reset_peak(lm_ctx *ctx) {
    if (!ctx) return;
    for (int i = 0; i < LM_N_MEM; i++)
        atomic_store_explicit(&ctx->peak[i], atomic_load_explicit(&ctx->now[i], memory_order_relaxed), memory_order_relaxed);
    atomic_store_explicit(&ctx->total_peak, atomic_load_explicit(&ctx->total_now, memory_order_relaxed), memory_order_relaxed);
}

void lm_mem_fail_at(lm_ctx *ctx, uint64_t n, bool sticky) {
    if (!ctx) return;
    atomic_store_explicit(&ctx->fail_sticky, sticky, memory_order_relaxed);
    atomic_store_explicit(&ctx->fail_at, n > INT64_MAX ? INT64_MAX : (int64_t)n, memory_order_relaxed);
}
