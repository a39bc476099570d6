/* train_int.h — the trainer's fields, for the files of this room. */
#ifndef LM_TRAIN_INT_H
#define LM_TRAIN_INT_H
#include <stdio.h>
#include "train/train.h"
typedef struct {                             /* what a mesh changes; empty for one rank */
    lm_err (*before_recompute)(lm_trainer *t, lm_graph *g);
    const lm_optim_hooks *hooks;
} lm_mesh;
struct lm_trainer {
    lm_ctx *ctx; lm_arena *a; lm_cfg cfg; lm_store *store; lm_trainer_opts o; int recompute;
    lm_optim_param *param; int n_param, cap_param;
    lm_plan *acc, *upd, *eval; lm_mesh mesh;
};
lm_err lm_mesh_setup(lm_trainer *t);         /* mesh.c: data parallel and FSDP as passes */
#endif
