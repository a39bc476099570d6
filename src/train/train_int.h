/* train_int.h — the trainer's fields, for the files of this room. */
#ifndef LM_TRAIN_INT_H
#define LM_TRAIN_INT_H
#include <stdio.h>
#include "format/safetensors.h"
#include "train/train.h"
/* Where a parameter's rounded copy and its gradient lie: from row `row` of `rows` of the states "bf16.WHOLE" (name) and "grad.WHOLE", which n
 * parameters share, the first of them number lead. n 0: no copy. */
typedef struct { const char *whole, *name; int lead, n; int64_t row, rows; } lm_copy;
struct lm_trainer {
    lm_ctx *ctx; lm_arena *a; lm_cfg cfg; lm_store *store; lm_trainer_opts o; int recompute; bool gather_once;
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
/* Which rows of it does this rank speak for, where all ranks together are to tell each row once (hashes, checkpoints)? Its own of what is held in
 * parts, as many of a matrix that all hold, all or none of a vector: these go round by their number k. */
void lm_mesh_share(const lm_trainer *t, const lm_logical *l, const lm_tensor *s, int k, int64_t *from, int64_t *n);
/* Whole tensors one at a time; every rank asks for the same ones in the same order. What get gives lasts until the next get. */
typedef struct { const lm_trainer *t; char *buf; } lm_whole;
lm_err lm_whole_open(lm_whole *w, const lm_trainer *t);
lm_err lm_whole_get(lm_whole *w, const char *name, const lm_tensor *s, lm_tensor *out);
void lm_whole_close(lm_whole *w);
/* ---- weights_hash.c ---- */
lm_err lm_weights_hash(const lm_trainer *t, lm_hash128_t *h);           /* lm_trainer_hash of what the host's memory has */
/* ---- ckpt_manifest.c: the list of a checkpoint's files ---- */
typedef struct { char name[LM_ST_SHARD_NAME]; int64_t bytes; lm_hash128_t hash; } lm_ckpt_file;
typedef struct { lm_ckpt_state st; lm_hash128_t weights; bool sliced; lm_ckpt_file *file; int n; } lm_manifest;       /* file: lm_manifest_free */
enum { LM_CKPT_WHOLE = 3 };                                             /* files of one rank's: config.json, model.safetensors, optimizer.safetensors */
lm_err lm_manifest_new(lm_ctx *ctx, int shards, lm_manifest *m);        /* names, for so many shards; 0: whole */
lm_err lm_manifest_read(lm_ctx *ctx, const char *path, lm_manifest *m); /* m is the caller's to free after an error too */
lm_err lm_manifest_write(lm_ctx *ctx, const char *path, const lm_manifest *m, const char *mesh);
lm_err lm_manifest_sum(lm_ctx *ctx, const char *path, lm_ckpt_file *f); /* size and hash of a file, by reading it */
/* Are the files first, first + step, … what the manifest says, and do all together make whole tensors? */
lm_err lm_manifest_check(lm_ctx *ctx, const char *path, const lm_manifest *m, int first, int step);
void lm_manifest_free(lm_ctx *ctx, lm_manifest *m);
/* ---- ckpt_write.c, ckpt_read.c ---- */
bool lm_ckpt_param(const lm_trainer *t, const char *name);              /* is it what the store keeps of a parameter? */
bool lm_ckpt_state_of(const lm_trainer *t, int i);                      /* is state i written beside the weights? */
#define LM_CKPT_GROUP "optimizer/"                                      /* before the names of such states, in shards */
bool lm_ckpt_is_step(const char *name);                                 /* a folder of that name is a checkpoint's, and not one half made */
int lm_ckpt_by_text(const void *a, const void *b);
#endif
