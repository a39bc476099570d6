/* run.h — a training run: one configuration, one output folder, a loop that can be killed at any moment.
 *
 * OUT/config.yaml       the resolved configuration; feeding it back repeats the run
 * OUT/tokenizer.json    the tokenizer (given, or trained on the data at the start)
 * OUT/metrics.jsonl     one line per step, and one per validation
 * OUT/checkpoints/      step-N folders (train.h); OUT/best/ the checkpoint's weights with the lowest validation loss
 * OUT/model.safetensors, config.json   at the end: a Hugging Face folder;  OUT/loss.svg  the curves
 *
 * The data order is a function of (seed, step), so a resumed run continues as if it had not stopped: same batches, same bits.
 *
 * Lifetime: everything is made and freed inside lm_train_run.  Threads: one.
 * Errors:   nothing is half-written; LM_E_CANCELLED after a stop request that saved a checkpoint. */
#ifndef LM_RUN_H
#define LM_RUN_H
#include "base/option.h"
#include "train/train.h"
typedef struct {
    const char *out, *mesh, *device; int64_t threads;
    struct { const char *path, *val_path; lm_strlist mix; int64_t seq; double val_fraction; bool mask_docs; } data;
    struct { const char *path; int64_t vocab; } tokenizer;
    struct { const char *family, *from; int64_t d, n_layer, n_head, n_kv, d_head, d_ff, max_pos; double rope_theta, init_std; bool tie; } model;
    struct {
        int64_t steps, batch, micro_batch, seed, checkpoint_every, keep, val_every, val_batches, sample_every, sample_tokens, log_every,
            memory_budget, recompute, timeout;
        int dtype, gather;
        double dropout, label_smoothing, z_loss;
        const char *sample_prompt;
    } train;
    struct {
        const char *name;
        double lr, beta1, beta2, eps, weight_decay, clip, min_lr, muon_lr, muon_momentum, muon_weight_decay;
        int64_t warmup, decay_steps, muon_steps;
        int schedule;
    } optim;
} lm_run_cfg;
enum { LM_RUN_F32, LM_RUN_BF16, LM_RUN_FP8, LM_RUN_BF16_PURE };                /* train.dtype */
extern const lm_opt lm_run_options[];                       /* the keys of a training configuration */

typedef enum { LM_RUN_DATA, LM_RUN_PLAN, LM_RUN_START, LM_RUN_STEP, LM_RUN_VAL, LM_RUN_SAMPLE, LM_RUN_CKPT, LM_RUN_END,
               LM_RUN_NO_FIT } lm_run_kind;
typedef struct {
    lm_run_kind kind; int64_t step, steps, tokens /* of this step */, seen /* tokens so far */;
    double loss, lr, grad_norm, tok_s, step_s, eta_s, val_loss, val_bpb, flops /* of a step */; bool best;
    lm_trainer *trainer; int64_t accum;                             /* PLAN: for pricing; accumulations in a step */
    size_t rss; const lm_trainer_plan *plan; const char *text;      /* DATA, SAMPLE: a line to show; CKPT: the path */
    lm_hash128_t hash;                                              /* END: of the weights */
    int64_t data_tokens, data_bytes, val_tokens, vocab;
    const lm_trainer_opts *opts; const lm_cfg *model;               /* NO_FIT: what there is no room for, before the error is returned */
} lm_run_event;
typedef struct {
    bool resume, dry;                                        /* dry: stop after LM_RUN_PLAN, nothing is written */
    void (*event)(void *ud, const lm_run_event *e); void *ud;
    const volatile int *stop;                                /* becomes non-zero: finish the step, save, return LM_E_CANCELLED */
    /* Writes some text from the weights as they are (infer/ lives on this floor, so the caller connects it); NULL: no samples. */
    lm_err (*sample)(void *ud, lm_ctx *ctx, const lm_cfg *cfg, lm_store *store, const lm_tok *tok, const char *prompt, int64_t n, lm_str *out);
    lm_comm *comm;                                           /* NULL: alone */
    const char *link;                                        /* how devices of several ranks meet: lm_comm_devices */
    const char *nccl;                                        /* file of the library for several ranks on devices; NULL: where the system finds it */
} lm_run_opts;
lm_err lm_train_run(lm_ctx *ctx, const lm_run_cfg *cfg, const lm_run_opts *o);
/* The trainer it describes, for micro-batches of `micro` sequences, alone on this machine: ranks and device are the caller's to set. */
lm_trainer_opts lm_run_trainer_opts(const lm_run_cfg *c, int64_t micro);
/* The model a configuration describes (vocab from the tokenizer). */
lm_err lm_run_model(lm_ctx *ctx, const lm_run_cfg *cfg, int64_t vocab, lm_cfg *out);
/* Re-execute steps a..b from the checkpoint of step a and compare the weights' hash with the checkpoint of step b. */
lm_err lm_train_verify(lm_ctx *ctx, const char *out_dir, int64_t a, int64_t b, lm_hash128_t *want, lm_hash128_t *got,
                       void (*event)(void *, const lm_run_event *), void *ud);
#endif
