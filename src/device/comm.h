/* comm.h — the communicator table: what collectives call and dist/ fills (MPI, NCCL; `self` here for one rank).
 *
 * Buffers are host or device pointers as the backend wants; counts are in elements. Reductions add in rank order for f32 (rank 0 first),
 * so results do not depend on message timing.
 *
 * Lifetime: a communicator outlives the plans bound to it.  Threads: one thread drives it.
 * Errors:   LM_E_COMM naming rank, operation and step. */
#ifndef LM_COMM_H
#define LM_COMM_H
#include "base/base.h"
typedef struct lm_comm lm_comm;
struct lm_comm {
    const char *name; int rank, size; lm_ctx *ctx; void *impl;
    lm_err (*all_reduce)(lm_comm *c, float *buf, int64_t n);                            /* sum, in place */
    lm_err (*all_gather)(lm_comm *c, const void *mine, size_t bytes, void *all);        /* all = size × bytes, by rank */
    lm_err (*reduce_scatter)(lm_comm *c, const float *all, int64_t n_each, float *mine);/* sum of everyone's slice `rank` */
    lm_err (*broadcast)(lm_comm *c, void *buf, size_t bytes, int root);
    lm_err (*barrier)(lm_comm *c);
    void (*free)(lm_comm *c);
};
lm_comm *lm_comm_self(void);   /* the communicator of one: static, every operation is a copy */
#endif
