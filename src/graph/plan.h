/* plan.h — from a graph to something that runs: kernels chosen, memory laid out, dependencies proven; then the executor.
 *
 * A plan is a list of steps, one per node. Every buffer of the step (activations, scratch) is an offset in one arena; a range is given to
 * a second buffer only when the first is dead in schedule order, and the resulting read/write conflicts become waits. The executor enters
 * the thread team once per run: members take tiles of a step from a counter and move on, waiting only where a plan wait says so, so
 * independent nodes overlap and a run of small nodes costs an atomic or two, not a barrier. With one thread it is a plain loop.
 * lm_plan_run_shuffled() is the fake asynchronous device: steps run in random order restricted to the explicit dependencies, on several
 * threads with delays, which finds a missing edge that a serial run hides.
 *
 * Lifetime: a plan borrows the store's storage and owns its arena.
 * Threads:  one run at a time per plan and per context.
 * Errors:   planning names the op without a kernel; running forwards what a kernel says. */
#ifndef LM_PLAN_H
#define LM_PLAN_H
#include "graph/graph.h"
typedef struct lm_plan lm_plan;
typedef struct {
    lm_store *store;               /* states are bound here; missing ones are an error unless create_states */
    lm_store *local;               /* states that are not in store are looked for, and made, here; NULL: in store */
    bool create_states;            /* allocate missing states, zeroed, tag by state_tag */
    lm_mem_tag state_tag;
    lm_comm *comm;                 /* NULL: the communicator of one */
    /* CPU features to choose kernels by; 0 = the context's. A dry plan may ask for another machine's, others get those that are here */
    uint64_t features;
    lm_dev *dev;                   /* NULL: this processor; else rows of LM_DEV_CUDA alone, all memory on the device */
    lm_plan *share;                /* borrow this plan's arena and scratch where they are large enough (the two never run at once); it must outlive */
    bool dry;                      /* lay out and cost only: no allocation, cannot run */
} lm_plan_opts;
typedef struct {
    int n_steps, n_waits, n_inplace;
    size_t arena_bytes, live_bytes /* the largest live set: no arena is smaller */, shared_bytes, thread_bytes, input_bytes, const_bytes,
        state_bytes;
    double flops, bytes;           /* at capacity */
    double mm_flops_f32, mm_flops_bf16;   /* the part done by matrix kernels */
} lm_plan_stats;
lm_err lm_plan_new(lm_plan **out, lm_ctx *ctx, lm_graph *g, const lm_plan_opts *o);
void lm_plan_free(lm_plan *p);
void lm_plan_stats_of(const lm_plan *p, lm_plan_stats *s);
/* Does it read weights from a file as it runs (lm_store_away)? Then what was read so far, and how long members waited for it, all together. */
bool lm_plan_streamed(const lm_plan *p, uint64_t *bytes, double *waited, bool *direct);
/* Buffers of named inputs and outputs, at capacity, contiguous; NULL if there is no such name (it may be dead). On a device these are host
 * memory that a run copies from and to. */
void *lm_plan_input(lm_plan *p, const char *name, lm_tensor *t);
void *lm_plan_output(lm_plan *p, const char *name, lm_tensor *t);
/* Whether the next runs bring an output back from the device (they do unless told); lm_plan_fetch brings it now. Nothing on this processor. */
void lm_plan_want(lm_plan *p, const char *name, bool on);
lm_err lm_plan_fetch(lm_plan *p, const char *name);
lm_err lm_plan_extent(lm_plan *p, const char *name, int64_t n);      /* runtime extent for the next runs, <= capacity */
/* Whether the next runs leave out what ends an accumulation: sums of gradients over ranks (all_reduce_in, reduce_scatter_in). Off at first. */
void lm_plan_hold(lm_plan *p, bool on);
/* Whether the next runs begin accumulations: the first step that would add to a state writes it, so that nobody need clear it. Off at first. */
void lm_plan_fresh(lm_plan *p, bool on);
lm_err lm_plan_run(lm_plan *p);
/* Two runs in flight, of a plan on a device where no ranks meet. Host memory of inputs and outputs is there twice: lm_plan_side says which one (0 at
 * first) lm_plan_input and _output name and the next runs use. lm_plan_start puts a run behind what is on the device and does not wait;
 * lm_plan_await waits for the last one that was started on that side: then its outputs are here. Before a side is used again it is waited for. */
lm_err lm_plan_side(lm_plan *p, int side);
lm_err lm_plan_start(lm_plan *p);
lm_err lm_plan_await(lm_plan *p, int side);
lm_err lm_plan_run_shuffled(lm_plan *p, uint64_t seed, int n_threads);
lm_err lm_plan_profile(lm_plan *p, double *seconds, int n);          /* one run, seconds per step (n = n_steps) */
/* One more run as it always goes, on a device with a second lane: for how many seconds the others waited for each step there, and how long it
 * ran, both with a few microseconds of the clock itself. Zero for steps that are not there. Changes what a run changes, twice. */
lm_err lm_plan_waited(lm_plan *p, double *waited, double *ran, int n);
/* Flops and bytes of all steps, and the calls' shapes, at the extents now set instead of at capacity: to price a size that will run. */
void lm_plan_reprice(lm_plan *p);
/* One step for tables: op name, kernel name, flops, bytes. */
void lm_plan_step(const lm_plan *p, int i, const char **op, const char **kernel, double *flops, double *bytes);
bool lm_plan_alone(const lm_plan *p);                /* do all of its kernels say lm_kernel.alone? */
const lm_call *lm_plan_call(const lm_plan *p, int i);                /* its shapes and types, for pricing */
void lm_plan_print(const lm_plan *p, lm_str *out);                   /* golden text: steps, kernels, offsets, waits */
#endif
