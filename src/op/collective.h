/* collective.h — what rows that move bytes between ranks share: one run for the processor and for a device.
 *
 * On the processor the communicator (MPI, TCP) has host memory and waits. On a device (NCCL) each operation is put on the current lane, and
 * so are the copies around it; neighbours go as one group: first what prepares each, then all operations, then what finishes each.
 * Rows with effects keep their order in a plan, so all ranks meet in the same call.
 *
 * Lifetime, Threads: as rows.  Errors: LM_E_COMM where the ranks are not those that were planned for, or as the communicator says. */
#ifndef LM_COLLECTIVE_H
#define LM_COLLECTIVE_H
#include <string.h>
#include "op/rule.h"
static inline int64_t lm_coll_one(const lm_call *c) { (void)c; return 1; }
static inline int64_t lm_coll_last(const lm_call *c) { return c->hold ? 0 : 1; }       /* tiles of what ends an accumulation */
static inline lm_err lm_coll_move(const lm_call *c, void *dst, const void *src, size_t n) {
    if (dst == src || !n) return LM_OK;
    if (c->dev) return c->dev->move(c->dev, dst, src, n);
    memmove(dst, src, n);
    return LM_OK;
}
static inline lm_err lm_coll_zero(const lm_call *c, void *dst, size_t n) {
    if (!n) return LM_OK;
    if (c->dev) return c->dev->zero(c->dev, dst, n);
    memset(dst, 0, n);
    return LM_OK;
}
static inline lm_err lm_coll_add(const lm_call *c, float *y, const float *x, int64_t n) {
    if (c->dev) return c->dev->add(c->dev, y, y, x, (size_t)n);
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
    return LM_OK;
}
static inline lm_err lm_coll_ranks(const lm_call *c, int size) {
    return c->comm->size == size ? LM_OK : lm_fail(c->ctx, LM_E_COMM, "%s was planned for %d ranks, %d are there", c->op->name, size, c->comm->size);
}
static inline lm_err lm_coll_all_gather(const lm_call *c, const void *mine, size_t bytes, void *all) {
    return c->comm->size == 1 ? lm_coll_move(c, all, mine, bytes) : c->comm->all_gather(c->comm, mine, bytes, all);
}
static inline lm_err lm_coll_reduce_scatter(const lm_call *c, const float *all, int64_t n, float *mine) {
    return c->comm->size == 1 ? lm_coll_move(c, mine, all, (size_t)n * sizeof *mine) : c->comm->reduce_scatter(c->comm, all, n, mine);
}
static inline lm_err lm_coll_reduce_scatter_half(const lm_call *c, const uint16_t *all, int64_t n, float *mine) {
    if (c->comm->size == 1) return c->dev->add_half(c->dev, mine, NULL, NULL, all, (size_t)n);
    if (!c->comm->reduce_scatter_half) return lm_fail(c->ctx, LM_E_UNSUPPORTED, "%s: %s has no sums of bf16", c->op->name, c->comm->name);
    return c->comm->reduce_scatter_half(c->comm, all, n, mine);
}
static inline lm_err lm_coll_all_reduce(const lm_call *c, float *x, int64_t n) {
    return c->comm->size == 1 ? LM_OK : c->comm->all_reduce(c->comm, x, n);
}
static inline lm_err lm_coll_open(const lm_call *c, bool open) { return c->comm->group && c->comm->size > 1 ? c->comm->group(c->comm, open) : LM_OK; }
/* What finishes a row may be put on another lane than what it began on (lm_comm.reduce_scatter). The two kernels of a row made of three parts (before, meet, after: NULL where there is none), and its list. */
typedef lm_err (*lm_coll_part)(const lm_call *c);
static inline lm_err lm_coll_run(const lm_call *c, lm_coll_part before, lm_coll_part meet, lm_coll_part after) {
    if (before) LM_TRY(before(c));
    LM_TRY(meet(c));
    return after ? after(c) : LM_OK;
}
static inline lm_err lm_coll_many(const lm_call *const *c, int n, lm_coll_part before, lm_coll_part meet, lm_coll_part after) {
    for (int i = 0; i < n && before; i++) LM_TRY(before(c[i]));
    LM_TRY(lm_coll_open(c[0], true));
    lm_err err = LM_OK;
    for (int i = 0; i < n && !err; i++) err = meet(c[i]);
    const lm_err shut = lm_coll_open(c[0], false);
    if (err || shut) return err ? err : shut;
    for (int i = 0; i < n && after; i++) LM_TRY(after(c[i]));
    return LM_OK;
}
#define LM_COLLECTIVE_ON(lane, op, accept, on_device, shared, tiles, before, meet, after)                                                                      \
    static lm_err run(const lm_call *c, int64_t tile, void *scratch) { (void)tile; (void)scratch; return lm_coll_run(c, before, meet, after); } \
    static lm_err run_many(const lm_call *const *c, int n, void *scratch) {                                                                \
        (void)scratch;                                                                                                                     \
        return tiles(c[0]) ? lm_coll_many(c, n, before, meet, after) : LM_OK;                                                              \
    }                                                                                                                                      \
    static const lm_kernel comm_rows[] = {                                                                                                      \
        { .name = #op ".comm", .order = #op, .accepts = accept, .shared_bytes = shared, .n_phase = 1, .phase = { { tiles, run } } },       \
        { .name = #op ".device", .device = LM_DEV_CUDA, .order = #op "/device", .accepts = on_device, .shared_bytes = shared, .n_phase = 1,   \
          .phase = { { tiles, run } }, .run_many = run_many, .aside = lane },                                                              \
        { 0 } };                                                                                                                           \
    static const lm_kernel *const kernels[] = { comm_rows, NULL }
#define LM_COLLECTIVE(op, accept, ...) LM_COLLECTIVE_ON(1, op, accept, accept, __VA_ARGS__)
#endif
