/* train.h — steps: plan, optimizer, checkpoint, log.
 *
 * A trainer holds two plans over one store of states: `accumulate` (forward, loss, gradients added into grad.*) and `update` (norm, clip,
 * optimizer). A step is some accumulations and one update; the loss and its gradient are sums over target tokens and are divided once, by
 * the count over all micro-batches and ranks, so one batch of eight and eight accumulated batches of one are the same step. A run
 * (lm_train_run) is the loop around it: data order by step number, schedule, validation, samples, metrics.jsonl, checkpoints under the
 * protocol of docs/rooms/train.md, resume to the bit.
 *
 * On several ranks (docs/rooms/dist.md) each has its own micro-batches; LM_MESH_ZERO1 keeps only parts of moments ("NAME#shard"), ZERO2 of
 * gradients too, FSDP of matrices too. Parameters that are whole in the store when the trainer is made are cut then. Each rank writes its rows of a
 * checkpoint (ckpt_write.c) and reads its rows of any: the mesh and the number of ranks may be others.
 *
 * Lifetime: the trainer owns plans and graphs, borrows store and comm.  Threads: one driver.
 * Errors:   a non-finite loss stops with the step's number; a checkpoint that is not whole is never read. */
#ifndef LM_TRAIN_H
#define LM_TRAIN_H
#include "data/data.h"
#include "model/model.h"
#include "op/quant_fp8/quant_fp8.h"
#include "optim/optim.h"
#include "graph/plan.h"

/* fsdp: are matrices gathered for the forward gathered again for the backward? AUTO: on a device with room they stay. The bits are the same. */
typedef enum { LM_GATHER_AUTO, LM_GATHER_AGAIN, LM_GATHER_ONCE } lm_gather_kind;
extern const char *const lm_gather_names[];                                 /* NULL-terminated */
typedef enum { LM_MESH_SINGLE, LM_MESH_DP, LM_MESH_ZERO1, LM_MESH_ZERO2, LM_MESH_FSDP } lm_mesh_kind;      /* mesh.c */
typedef struct {
    int64_t batch, seq;                      /* sequences per micro-batch on this rank, tokens per sequence */
    /* compute dtype of matrix rows: F32, BF16; F8_E4M3: linear layers in fp8 (lm_pass_fp8), the rest as BF16 */
    lm_dtype mm;
    bool pure;                               /* with mm BF16: matrices are kept in bf16 alone, no f32 beside them, updates rounded by chance */
    int recompute;                           /* level of lm_pass_recompute; -1 = 1 or the next that a device holds, or the lowest that fits memory_budget */
    int64_t memory_budget;
    lm_optim_cfg optim;
    double label_smoothing, z_loss, dropout;
    uint64_t seed;
    int64_t accum;                           /* micro-batches of a step; 0 = 1. Whole gradients are summed over ranks in the last */
    lm_comm *comm; lm_mesh_kind mesh; lm_gather_kind gather;        /* NULL: alone */
    lm_comm *dev_comm;                       /* with dev and several ranks: the device's, beside comm */
    lm_dev *dev;                             /* NULL: this processor. Then what is in the store is current on the device alone: lm_trainer_pull */
    const char *version;                     /* NULL: this program's; all ranks must have one */
    bool dry;                                /* plan only */
    uint64_t features;                       /* lm_plan_opts.features; 0 = the context's */
} lm_trainer_opts;
/* Sizes are this rank's; n_params the model's. */
typedef struct { lm_plan_stats accumulate, update, eval; size_t params, n_params, grads, optim, total; int recompute; bool gather_once; } lm_trainer_plan;
typedef struct lm_trainer lm_trainer;
/* "dp=2" and the like, for so many ranks; NULL or "": one rank. */
lm_err lm_mesh_of(lm_ctx *ctx, const char *text, int ranks, lm_mesh_kind *out);
/* Parameters must be in the store (lm_model_init or loaded, f32 PLAIN); gradients and optimizer states are added to it. */
lm_err lm_trainer_new(lm_trainer **out, lm_ctx *ctx, const lm_cfg *cfg, lm_store *store, const lm_trainer_opts *o);
/* Before weights are made, which takes minutes, and memory until there is none: LM_E_NOMEM and the ledger where one rank's training of this model fits neither
 * the budget, the device nor this machine (room.c). Nothing is allocated beyond plans. A device with a level of recomputation given is asked by
 * lm_trainer_new alone. */
lm_err lm_trainer_room(lm_ctx *ctx, const lm_cfg *cfg, const lm_trainer_opts *o);
void lm_trainer_free(lm_trainer *t);
void lm_trainer_plan_of(const lm_trainer *t, lm_trainer_plan *p);
/* Parameters and states as they are now, in the store's host memory; what reads them there (hash, saving, sampling) asks for it. Nothing
 * without a device. */
lm_err lm_trainer_pull(lm_trainer *t);
lm_plan *lm_trainer_accumulate_plan(lm_trainer *t);
lm_plan *lm_trainer_eval_plan(lm_trainer *t);
lm_plan *lm_trainer_update_plan(lm_trainer *t);
lm_err lm_trainer_accumulate(lm_trainer *t, const lm_batch *b, int64_t step, int64_t micro, double *loss_sum);      /* adds to *loss_sum */
lm_err lm_trainer_update(lm_trainer *t, int64_t step /* 1-based */, double lr_scale, double n_tokens, double *grad_norm);
/* What was quantized on this rank since this was asked last (op/quant_fp8: counts by group); zeros where nothing is. */
lm_err lm_trainer_fp8_counts(lm_trainer *t, int64_t counts[LM_FP8_ALL_COUNTS]);
lm_err lm_trainer_eval(lm_trainer *t, const lm_batch *b, double *loss_sum);                                            /* forward only; adds */
/* ---- on several ranks these are asked of every rank together; alone they are plain ----------------------------------------------------------- */
/* of all parameters: equal on all ranks, and for equal weights on any mesh (weights_hash.c); nothing is gathered. Zero after an error */
lm_hash128_t lm_trainer_hash(const lm_trainer *t);
lm_err lm_trainer_save_hf(lm_trainer *t, const char *dir);       /* lm_model_save_hf of whole parameters, by rank 0, one parameter at a time */
lm_err lm_trainer_whole(lm_trainer *t, lm_store *out);           /* whole parameters into a store; out NULL: on this rank only take part */
/* Random initial weights of what a rank holds: lm_model_init's numbers, under LM_MESH_FSDP only its rows of them. comm NULL: alone. */
lm_err lm_trainer_init(lm_ctx *ctx, const lm_cfg *cfg, lm_store *store, uint64_t seed, lm_mesh_kind mesh, lm_comm *comm);
int lm_trainer_n_params(const lm_trainer *t);
const lm_optim_param *lm_trainer_param(const lm_trainer *t, int i);

/* ---- checkpoints: DIR/step-N/{config.json, manifest.json}, DIR/latest, and one rank's model.safetensors and optimizer.safetensors (config.json and
 * model.safetensors are a Hugging Face folder), or several ranks' shard-00001-of-0000N.safetensors: rows of the same tensors (format/safetensors.h) -- */
typedef struct {
    int64_t step, seqs;
    double best_val;
    lm_hash128_t tok_hash, config_hash, data_hash;
    char isa[64]; /* whose kernels: a name of lm_cpu_isa_names(), or a card's; "" if what was read is no name */
} lm_ckpt_state;
/* atomic; keeps the last k. Several ranks want a folder that all of them see: each writes its shard, rank 0 the manifest, and renames */
lm_err lm_ckpt_save(lm_trainer *t, const char *dir, const lm_ckpt_state *st, int keep_last);
/* newest whole one; LM_E_NOTFOUND if none; lm_free. All ranks of comm (NULL: alone) ask together and share the work */
lm_err lm_ckpt_find(lm_ctx *ctx, lm_comm *comm, const char *dir, char **path);
lm_err lm_ckpt_load(lm_trainer *t, const char *path, lm_ckpt_state *st);                       /* of any mesh; checks every hash; the store is filled */
lm_err lm_ckpt_peek(lm_ctx *ctx, const char *path, lm_ckpt_state *st);                         /* what its manifest says; no file is hashed */
lm_err lm_ckpt_verify(lm_ctx *ctx, const char *path);
#endif
