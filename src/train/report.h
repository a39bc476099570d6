/* report.h — what a run leaves for people: the loss curve, a metrics file without lines from the future, a configuration's identity. */
#ifndef LM_REPORT_H
#define LM_REPORT_H
#include "train/run.h"
lm_err lm_run_curves(lm_ctx *ctx, const char *out_dir);                          /* metrics.jsonl → loss.svg */
lm_err lm_run_trim_metrics(lm_ctx *ctx, const char *path, int64_t step);         /* drop lines after `step`: a resumed run writes them again */
/* remove what killed writers left: step-N.tmp, and NAME.tmp-PID of processes that are gone */
lm_err lm_run_sweep(lm_ctx *ctx, const char *dir);
/* Of the keys that decide the numbers; not of out, threads, logging, checkpointing, memory or how long to train. */
lm_hash128_t lm_run_cfg_hash(const lm_run_cfg *c);
/* The first of those keys in which c differs from the configuration file, as a phrase: "optim.lr is 0.5, it was 0.001"; "" if none does or
 * the file cannot be read. */
lm_err lm_run_cfg_differs(lm_ctx *ctx, lm_arena *a, const char *file, const lm_run_cfg *c, const char **what);
#endif
