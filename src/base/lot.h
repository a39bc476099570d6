/* lot.h — a run of tiles that belongs to one member of a team, who takes it from the front; whoever has none left takes it from the back. For pool.c and the
 * executor, whose products' weights are read in such runs.
 *
 * Lifetime: the caller's.  Threads: any member may take.  Errors: none. */
#ifndef LM_LOT_H
#define LM_LOT_H
#include <stdatomic.h>
#include "base/base.h"
/* How many tiles were taken from the front, and from the back (<< 32). Zeroed before; a run below 2^31. */
typedef struct { _Alignas(64) _Atomic uint64_t taken; } lm_lot;
/* The next of its `size` tiles; -1: none is left. */
static inline int64_t lm_lot_take(lm_lot *l, int64_t size, bool own) {
    uint64_t was = own ? 0 : atomic_load_explicit(&l->taken, memory_order_relaxed);     /* who is late looks before he writes to another's line */
    if ((int64_t)((was & 0xffffffff) + (was >> 32)) >= size) return -1;
    was = atomic_fetch_add_explicit(&l->taken, own ? 1 : (uint64_t)1 << 32, memory_order_relaxed);
    const int64_t front = (int64_t)(was & 0xffffffff), back = (int64_t)(was >> 32);
    return front + back >= size ? -1 : own ? front : size - 1 - back;
}
#endif
