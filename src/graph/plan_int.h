/* plan_int.h — a plan's fields, shared by the planner and the executor. */
#ifndef LM_PLAN_INT_H
#define LM_PLAN_INT_H
#include <stdatomic.h>
#include "base/lot.h"
#include "base/pool.h"
#include "base/stream.h"
#include "graph/plan.h"
#include "op/join.h"
typedef struct { uintptr_t lo, hi; bool write; } lm_range;
enum { LM_MAX_RANGE = LM_MAX_IN + 2 * LM_MAX_OUT + 1 };
typedef struct {
    lm_call call; const lm_kernel *k; const lm_node *node;      /* node: only while planning */
    const char *op, *joined; int wait_for, n_range; bool effect;         /* joined: the join that runs it, at the extents in force; wait for steps 0..wait_for; -1 none */
    lm_range range[LM_MAX_RANGE];
    double flops, bytes;
    int nth;        /* of those beside, from 0 */
    int join, sums; /* on a device: the latest step that shares bytes with it of those beside (lm_kernel.aside 1; 2); -1 none */
    int many;                                                    /* on a device: > 1 so many from here run at once; -1 in an earlier one's */
    uint32_t adds, first;                                        /* outputs added to; those that nothing added to before in a run: lm_plan_fresh */
    int32_t away;                                                /* pieces of the stream that it and the steps before it use; gate: does it use any? */
    bool gate;
    int walk, lot;                                               /* the phase that reads (lm_phase.reads), and its number among such steps; -1: none */
    int32_t n_tile[LM_MAX_PHASE];                                /* at the extents in force, over all repetitions */
} lm_step;
/* steps [first, first + n) that one kernel may do; calls in the order of its pattern, `times` times where that repeats; `bytes` of device memory at `shared` */
typedef struct { const lm_join *row; int first, n, times, buf; const lm_call **call; size_t bytes; void *shared; } lm_joined;
typedef struct { _Atomic int32_t next[LM_MAX_PHASE], done[LM_MAX_PHASE]; } __attribute__((aligned(64))) lm_counter;
/* A member's run of tiles of a phase that reads: how many of them were taken by itself, from the front, and, times 2^32, by others, from the back. */
/* A member on its way through what its runs of tiles read, LM_SPANS stretches a step: p, in stretch `at`, is what it asks for next, as far as is sensible
 * beyond `done`, a number of stretches; before: bytes of the stretches before each. lap: it is in what the next run of the plan reads. */
typedef struct { _Alignas(64) const char *p; lm_span *span; uint64_t *before; int at, done; bool lap, off; } lm_walker;
/* on_dev: where it is on the device, t then its host mirror; stays: runs do not copy it back */
typedef struct { const char *name; lm_tensor t; int ext; bool input, stays; void *on_dev; } lm_port;
typedef struct { int64_t *dim; int slot; } lm_patch;
enum { LM_MAX_RECORDED = 128 };
typedef struct { void *work; uint64_t key; int runs; } lm_recorded;              /* a run of one set of extents */
struct lm_plan {
    lm_ctx *ctx; lm_arena *a; lm_comm *comm; lm_dev *dev; bool dry;
    lm_joined *joined; int n_joined;
    lm_step *step; int n_step; lm_counter *counter;
    lm_lot *lot; lm_walker *walker; int n_lot; bool alone;       /* lots: [step that reads][member]; alone: steps one by one, nobody asks ahead */
    char *arena, *threads, *consts; size_t thread_stride, arena_cap; bool borrowed_arena, borrowed_threads;
    lm_port *port; int n_port;
    lm_patch *patch; int n_patch; int64_t *ext, *cap; const char **ext_name; int n_ext; bool ext_dirty, hold, fresh;
    lm_stream *stream; int n_away; uint64_t lap;                 /* weights that stay in a file; pieces of a run; of the runs before this one */
    int n_aside;                                                 /* steps of the device's second lane */
    _Atomic int err;
    char *mirror, *side_mirror[2];                               /* mirror: the one in use */
    size_t side_bytes;
    int side;
    bool flew[2];                                                /* was that side's last run a record? */
    void *in_at;
    size_t in_bytes;
    int32_t *fault;
    lm_recorded *recorded;
    int n_recorded, aside_seen[2];
    unsigned char *timed;                                             /* a run that is timed: which of its times each step has (exec_dev.c) */
    bool checked; /* device plans: exec_dev.c */
    lm_plan_stats stats;
};
/* A stretch of the arena and the steps, first to last, that it is held for. */
typedef struct { size_t bytes, offset; int first, last; bool fixed; } lm_buf;
/* Set every offset; returns the arena's size. least: lm_place_least; scratch: room for 2 n pointers. */
size_t lm_place(lm_buf *b, int n, size_t least, lm_buf **scratch);
/* The largest sum of bytes held at one step: no placement is smaller. at: room for n_step + 2. */
size_t lm_place_least(const lm_buf *b, int n, int n_step, size_t *at);
/* Set every wait_for from the steps' ranges. Scratch comes from the graph's arena. */
lm_err lm_plan_waits(lm_graph *g, lm_plan *p);
/* Do steps a and b touch the same bytes, one of them writing? */
bool lm_step_conflict(const lm_step *a, const lm_step *b);
/* join.c: set p->joined from the steps, whose nodes are still there; live: the schedule, views included. */
lm_err lm_plan_join(lm_graph *g, lm_plan *p, lm_node *const *live, int n_live, lm_dev_kind kind, uint64_t features);
void lm_plan_apply_extents(lm_plan *p);
/* exec.c: room for lots and walkers; what members read, at the extents in force. */
lm_err lm_plan_walks(lm_plan *p);
void lm_plan_spans(lm_plan *p);
/* exec_dev.c: the same on a device. */
lm_err lm_plan_run_dev(lm_plan *p);
lm_err lm_plan_profile_dev(lm_plan *p, double *seconds, int n);
lm_err lm_plan_ports_dev(lm_plan *p);
lm_err lm_plan_fetch_dev(lm_plan *p, const lm_port *o);
void lm_plan_free_dev(lm_plan *p);
lm_err lm_plan_side_dev(lm_plan *p, int side);
lm_err lm_plan_start_dev(lm_plan *p);
lm_err lm_plan_await_dev(lm_plan *p, int side);
#endif
