/* cost.h — what a plan will take on a machine: time by a roofline per step, memory by what is laid out.
 *
 * A step of a plan takes flops / (e · rate) + bytes / (b · bandwidth), and a little for handing it out. rate is the measured matrix rate of the dtype (machine.h), bandwidth that of
 * the cache or memory which the step's bytes come from; e and b belong to the family of the kernel and were fitted once (docs/benchmarks/plan.md has the table, the
 * machine, and twelve runs beside their predictions, six of which were not used to fit). So a prediction moves with the machine's ceilings, not with the model.
 * Two things are known only here: how many documents share the rows of a batch (attention is priced per sequence, whole blocks of keys), and that the loss makes its logits in pieces.
 * Memory is not modelled but added up: states, arena and scratch are what the planner laid out; the rest of the process is what it holds before.
 *
 * Lifetime: values.  Threads: pure.  Errors: none. */
#ifndef LM_COST_H
#define LM_COST_H
#include "train/machine.h"
#include "train/train.h"
typedef struct { double seconds, flops, matrix_s; } lm_cost;       /* matrix_s: the part of rows that multiply matrices */
/* seqs, seq: sequences that the rows of a training batch are, and their length; 0: as planned (inference). */
lm_cost lm_cost_of(const lm_machine *m, const lm_plan *p, int64_t seqs, int64_t seq);
/* A training step: `accum` accumulations and one update. */
lm_cost lm_cost_step(const lm_machine *m, lm_trainer *t, int64_t accum);
/* Peak bytes of a run: `now` resident before the model is made (program, libraries, tokenizer, data), `peak` the highest so far. */
size_t lm_cost_memory(const lm_trainer_plan *p, const lm_batch *b, size_t now, size_t peak, size_t largest_param);
#endif
