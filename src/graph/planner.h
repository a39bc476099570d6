/* planner.h — a plan while it is made: shared by plan.c (kernels, steps, binding) and plan_memory.c (which bytes live where, and how long).
 *
 * Lifetime: of lm_plan_new.  Threads: one.  Errors: of lm_plan_new. */
#ifndef LM_PLANNER_H
#define LM_PLANNER_H
#include "graph/graph_int.h"
#include "graph/plan_int.h"

typedef struct {                      /* where a value's bytes are */
    enum { AT_NONE, AT_BUF, AT_STATE } at; int buf; uintptr_t base; lm_tensor t; int root;   /* root: value id that owns the storage */
} place;
typedef struct {
    lm_plan *p;
    lm_graph *g;
    const lm_plan_opts *o;
    lm_node **list;
    int n;
    place *pl;
    bool *used, *laid;                /* laid: by node, its inputs are made where its output is: no step */
    lm_buf *b;
    int n_buf, cap_buf;
    uint64_t feat;
    uintptr_t fake;
    int n_away;                       /* states that stay in a file */
} planner;
/* Where memory of a dry plan would be. */
#define LM_ARENA_FAKE ((uintptr_t)1 << 44)
#define LM_STATE_FAKE ((uintptr_t)1 << 45)
/* The value that owns v's storage: views, versions and results written over their input form short chains. */
int lm_place_root(planner *s, int v);
/* Memory of the plan's device, or of this processor. */
lm_err lm_plan_mem_new(lm_plan *p, lm_mem_tag tag, size_t bytes, char **out);
void lm_plan_mem_free(lm_plan *p, void *m);
/* In this order, once the steps and joins are there: steps that may run as one; where states are; every buffer's lifetime; offsets. scratch_of: by step, its buffer, or -1. */
void lm_plan_neighbours(planner *s);
lm_err lm_plan_states(planner *s);
lm_err lm_plan_buffers(planner *s);
lm_err lm_plan_offsets(planner *s, int *scratch_of);
/* When the steps' ranges are known: groups that conflict are taken apart; on a device, what waits for the second lane. */
void lm_plan_apart(lm_plan *p);
void lm_plan_lanes(lm_plan *p);
#endif
