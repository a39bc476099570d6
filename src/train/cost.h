/* cost.h — what a plan will take on a machine: time step by step, memory by what is laid out.
 *
 * A step's expected time comes from the machine's points of its kernel (machine.h). A kernel without points is priced by the ceilings:
 * operations over the matrix rate plus bytes over the bandwidth of the cache or memory that a run of the plan walks through. The roofline
 * beside it is what no kernel can beat: for each step the longer of the two, at the full ceilings, its bytes in the last cache where they
 * fit there. One thing is known only here: how many documents share the rows of a batch (attention is planned as if all rows were one, and
 * priced per sequence in whole blocks of keys). docs/benchmarks/plan.md has twelve runs beside their predictions. Memory is not modelled
 * but added up: states, arena and scratch are what the planner laid out; the rest of the process is what it holds before.
 *
 * Lifetime: values.  Threads: pure.  Errors: none. */
#ifndef LM_COST_H
#define LM_COST_H
#include "train/machine.h"
#include "train/train.h"
typedef struct { double seconds, roofline, flops, matrix_s; } lm_cost;       /* matrix_s: the part of rows that multiply matrices */
#define LM_COST_COLD " cold"                                                  /* ends keys of products whose weights come from memory */
/* seqs, seq: sequences that the rows of a training batch are, and their length; 0: as planned (inference). */
lm_cost lm_cost_of(const lm_machine *m, const lm_plan *p, int64_t seqs, int64_t seq);
/* Operations of a step whose rows are `seqs` sequences of `seq`, given those that it was planned with: attention's only are others, in which a
 * row then sees its own sequence (and no more than a window). Over pages they are the last of `seq` keys. seqs 0: as planned. */
double lm_cost_flops(const lm_call *c, double flops, int64_t seqs, int64_t seq);
/* The key that a step's points go by, and its work: operations where they decide, else bytes. flops: as the row states them, for attention
 * then per sequence. */
double lm_cost_work(const lm_call *c, const char *kernel, double *flops, double bytes, int64_t seqs, int64_t seq, char key[LM_MACHINE_KEY]);
bool lm_cost_attends(const lm_call *c);
/* A training step: `accum` accumulations and one update. */
lm_cost lm_cost_step(const lm_machine *m, lm_trainer *t, int64_t accum);
/* Peak bytes of a run: `now` resident before the model is made (program, libraries, tokenizer, data), `peak` the highest so far. */
size_t lm_cost_memory(const lm_trainer_plan *p, const lm_batch *b, size_t now, size_t peak, size_t largest_param);
#endif
