/* cmd_common.h — what several commands do: open a model to run, connect ranks, ask for the machine's ceiling. */
#ifndef LM_CMD_COMMON_H
#define LM_CMD_COMMON_H
#include "api/api_int.h"
#include "cmd/cmd.h"
#include "infer/generate.h"
#include "train/machine.h"
#include "train/run.h"
/* A model with its tokenizer, ready to run. */
typedef struct { lm_weights *w; lm_store *store; lm_tok *tok; lm_engine *e; const lm_cfg *cfg; double load_s; lm_dev *dev; } lm_cmd_model;
/* dtype: auto, f32, bf16, or a quantized format's name; device NULL: cpu */
typedef struct { const char *dtype, *kv; int64_t context, max_seqs, chunk, rows; bool need_tok, deterministic; const char *device, *load; int64_t memory; } lm_cmd_model_opts;
lm_err lm_cmd_model_open(lm_cli *cli, const char *path, const lm_cmd_model_opts *o, lm_cmd_model *m);
void lm_cmd_model_close(lm_cmd_model *m);
/* NULL for "cpu". */
lm_err lm_cmd_device(lm_cli *cli, const char *name, lm_dev **dev);
/* The tokenizer that goes with MODEL: a tokenizer file, a model folder, a GGUF, or the file beside a llama2.c checkpoint. */
lm_err lm_cmd_tok_open(lm_ctx *ctx, const char *path, lm_tok **out);
lm_err lm_cmd_train_config(lm_ctx *ctx, lm_arena *a, const lm_strlist *pos, lm_run_cfg *cfg);
/* Ranks if the program was started under mpirun or the like, else *comm = NULL. */
lm_err lm_cmd_comm(lm_cli *cli, double timeout, lm_comm **comm);
/* This machine's ceilings with the context's threads: from the user's cache, or measured (again: always). */
/* `loam --measure-machine FD THREADS MASK`: what lm_cmd_machine starts in a process of its own; the answer goes to FD. Exit status. */
#define LM_CMD_MEASURE "--measure-machine"
int lm_cmd_machine_child(int argc, char **argv);
lm_err lm_cmd_machine(lm_cli *cli, bool again, lm_machine *m);
void lm_cmd_machine_json(lm_str *s, const lm_machine *m);
/* Matrix flop/s that this machine reaches with all its threads, measured once and kept in the user's cache. */
lm_err lm_cmd_ceiling(lm_cli *cli, lm_dtype mm, double *flops);
lm_err lm_cmd_context(lm_cli *cli, int threads, lm_ctx **out);
#endif
