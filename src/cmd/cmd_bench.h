/* cmd_bench.h — benchmark suites as rows: each adds its figures to one list.
 *
 * Lifetime: a bench lives during the command.  Threads: the main one.  Errors: a suite that cannot run says why and adds nothing. */
#ifndef LM_CMD_BENCH_H
#define LM_CMD_BENCH_H
#include "cmd/cmd_common.h"
typedef struct {
    lm_cli_common common;
    const char *model, *shape, *dtype, *kv, *data, *device, *mesh, *load, *optim;
    int64_t prompt, gen, chunk, seqs, batch, seq, repeat, depth, ahead, recompute, memory;
    int gather;
    bool again, ops, deterministic;
} lm_bench_opts;
typedef struct lm_bench {
    lm_cli *cli;
    const lm_bench_opts *o;
    lm_machine m;
    lm_str json;
    int n;
    const char *suite;
    bool quiet /* another rank tells */;
} lm_bench;
/* One figure. limit and peer: 0 = not known. */
void lm_bench_put(lm_bench *b, const char *name, double value, const char *unit, double limit, double peer, const char *note);
typedef struct { const char *name, *what; lm_err (*run)(lm_bench *b); } lm_bench_suite;
extern const lm_bench_suite lm_bench_core[], lm_bench_model[], lm_bench_text[], lm_bench_lab5[];       /* name NULL at the end */
double lm_bench_median(double *v, int n);
#endif
