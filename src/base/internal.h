/* internal.h — the inside of a context, for base/ alone.
 *
 * Lifetime: as the context.  Threads: the sentence is guarded by its lock, the ledger is atomic.  Errors: none. */
#ifndef LM_BASE_INTERNAL_H
#define LM_BASE_INTERNAL_H
#include "base/base.h"
#include <pthread.h>
#include <stdatomic.h>

#define LM_SENTENCE 2048                  /* longest error sentence kept; a fixed buffer, so that out-of-memory can be reported */

struct lm_ctx {
    char error[LM_SENTENCE];
    pthread_mutex_t lock;                 /* guards error: allocation may fail on a worker thread */
    lm_log_fn *log; void *log_ud;
    uint64_t isa_mask;
    struct lm_pool *pool;
    _Alignas(64) _Atomic size_t now[LM_N_MEM];
    _Atomic size_t peak[LM_N_MEM], total_now, total_peak;
    _Atomic uint64_t n_alloc;
    _Atomic int64_t fail_at;              /* 0 = off, n > 0 = the nth next one fails, -1 = sticky and reached */
    _Atomic bool fail_sticky;
};

/* True where the sanitizer must see every block: no mappings of our own, poisoned gaps. */
#if defined(__SANITIZE_ADDRESS__)
#define LM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LM_ASAN 1
#endif
#endif
#ifndef LM_ASAN
#define LM_ASAN 0
#endif
#endif
