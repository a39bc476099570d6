/* train_int.h — the trainer's fields, for the files of this room. */
#ifndef LM_TRAIN_INT_H
#define LM_TRAIN_INT_H
#include <stdio.h>
#include "train/train.h"
/* Where a parameter's rounded copy and its gradient lie: from row `row` of `rows` of the states "bf16.WHOLE" (name) and "grad.WHOLE", which n
 * parameters share, the first of them number lead. n 0: no copy. */
typedef struct { const char *whole, *name; int lead, n; int64_t row, rows; } lm_copy;
struct lm_trainer {
    lm_ctx *ctx; lm_arena *a; lm_cfg cfg; lm_store *store; lm_trainer_opts o; int recompute;
    lm_optim_param *param, *held, *kept;
    int n_param, cap_param; /* the model's; what this rank updates of each; what it stores of each (the same array where that is all) */
    const lm_optim_hooks *hooks;                               /* NULL alone */
    lm_plan *acc, *upd, *eval;
    lm_copy *copy; lm_plan *round; uint64_t epoch;             /* copies.c; copy NULL: there are none. epoch: the store's, of which the copies are */
};
static inline int lm_trainer_ranks(const lm_trainer *t) { return t->o.mesh == LM_MESH_SINGLE ? 1 : t->o.comm->size; }

/* ---- copies.c: weights kept rounded on a device ---- */
lm_err lm_copies_setup(lm_trainer *t);
const char *lm_copies_name(void *ud, int n, lm_value *const *w);         /* lm_copy_name; ud: the trainer */
bool lm_copies_lead(const lm_trainer *t, int i);                         /* is it i that gets the gradient for all that lie with it? */
lm_value *lm_copies_weight(const lm_trainer *t, lm_graph *g, int i, lm_value *param);   /* what products read for i */
lm_err lm_copies_store(lm_trainer *t);                                   /* wholes and parts, before plans bind them */
lm_err lm_copies_graph(lm_trainer *t, lm_graph **out);                   /* rounds all */
/* a gradient that nobody reads may become bf16, and then be made with its squares: where param[i].squares is set, both are written to states */
void lm_copies_half(lm_trainer *t, lm_graph *g, int i, lm_value *grad);
lm_err lm_copies_squares(const lm_trainer *t, lm_graph *g, int i, lm_value *state, lm_value *grad);
size_t lm_copies_bytes(const lm_trainer *t);
lm_err lm_copies_fresh(lm_trainer *t);
void lm_copies_updated(lm_trainer *t);
/* ---- mesh.c: what several ranks change. Each is a plain no-op or pass-through alone. ---- */
lm_err lm_mesh_setup(lm_trainer *t);
/* lm_accumulate for parameter i, summed over ranks where held in parts */
lm_err lm_mesh_accumulate(lm_trainer *t, lm_graph *g, int i, lm_value *grad);
lm_err lm_mesh_reduce(lm_trainer *t, lm_graph *g); /* sums over ranks of what is accumulated whole; after all that moves accumulations */
lm_err lm_mesh_gather(lm_trainer *t, lm_graph *g);                                /* the last pass: uses of parameters held in parts */
/* What a stored state is of: its name and rows as a single rank has them, and the rows [from, from + own) that are here. */
typedef struct { char name[300]; int64_t rows, from, own; bool part; } lm_logical;
void lm_mesh_logical(const lm_trainer *t, const char *name, const lm_tensor *s, lm_logical *out);
/* Whole tensors one at a time; every rank asks for the same ones in the same order. What get gives lasts until the next get. */
typedef struct { const lm_trainer *t; char *buf; } lm_whole;
lm_err lm_whole_open(lm_whole *w, const lm_trainer *t);
lm_err lm_whole_get(lm_whole *w, const char *name, const lm_tensor *s, lm_tensor *out);
void lm_whole_close(lm_whole *w);
#endif
