/* comm.h — the communicator table: what collectives call and dist/ fills (MPI, NCCL; `self` here for one rank).
 *
 * One process has up to two: the world (MPI or TCP), whose buffers are host memory and which also carries what ranks tell each other, and
 * one for a device (NCCL), whose buffers are the device's and whose operations are put on the device's current lane and return at once.
 * Counts are in elements. Reductions on the processor add in rank order for f32 (rank 0 first), so results do not depend on message timing.
 *
 * Lifetime: a communicator outlives the plans bound to it; a device's is freed before the device and the world.  Threads: one thread drives it.
 * Errors:   LM_E_COMM naming rank, operation and step, at the latest after `timeout` seconds. */
#ifndef LM_COMM_H
#define LM_COMM_H
#include "base/base.h"
typedef struct lm_comm lm_comm;
struct lm_comm {
    const char *name; int rank, size, local_rank; lm_ctx *ctx; void *impl;               /* local_rank: among those of this host */
    double timeout;
    int64_t step; /* seconds a rank waits for others (0: for ever); what now runs, for sentences */
    lm_err (*all_reduce)(lm_comm *c, float *buf, int64_t n);                            /* sum, in place */
    lm_err (*all_gather)(lm_comm *c, const void *mine, size_t bytes, void *all);        /* all = size × bytes, by rank */
    lm_err (*reduce_scatter)(lm_comm *c, const float *all, int64_t n_each, float *mine);/* sum of everyone's slice `rank`; of a device's: may go on to lane 2 */
    lm_err (*reduce_scatter_half)(lm_comm *c, const uint16_t *all, int64_t n_each, float *mine);      /* the same of bf16, added in f32. NULL: not of this one */
    lm_err (*broadcast)(lm_comm *c, void *buf, size_t bytes, int root);
    lm_err (*barrier)(lm_comm *c);
    lm_err (*group)(lm_comm *c, bool open);    /* operations between group(true) and group(false) may go as one; NULL: each goes by itself */
    lm_err (*check)(lm_comm *c);               /* is a peer known to be gone, has the transport failed? Never waits. NULL: others see to that */
    void (*stop)(lm_comm *c);                  /* give up what waits for peers; after it only free is sensible. NULL: nothing waits */
    void (*free)(lm_comm *c);
};
lm_comm *lm_comm_self(void);   /* the communicator of one: static, every operation is a copy */
#endif
