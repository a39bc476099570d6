/* dist_env.c — what launchers say in the environment, and what that means. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "dist/dist.h"

typedef struct { lm_ctx *ctx; const char *(*get)(void *, const char *); void *ud; lm_err err; } look;
static const char *text(look *l, const char *name) { const char *s = l->get(l->ud, name); return s && *s ? s : NULL; }
/* The first of the names that is set, as a number in lo … hi; `other` where none is. */
static int number(look *l, const char *const *names, int lo, int hi, int other) {
    for (; *names; names++) {
        const char *s = text(l, *names);
        if (!s) continue;
        char *end; long v = strtol(s, &end, 10);
        const bool list = *end == '(' && !strncmp(*names, "SLURM", 5);        /* Slurm writes "4(x2)" for four tasks on each of two hosts */
        if ((*end && !list) || end == s || v < lo || v > hi) {
            if (!l->err && hi < INT_MAX) l->err = lm_fail(l->ctx, LM_E_CONFIG, "the environment has %s=%s: wanted a number from %d to %d", *names, s, lo, hi);
            else if (!l->err) l->err = lm_fail(l->ctx, LM_E_CONFIG, "the environment has %s=%s: wanted a number from %d up", *names, s, lo);
            return other;
        }
        return (int)v;
    }
    return other;
}
#define NAMES(...) ((const char *const[]){ __VA_ARGS__, NULL })
lm_err lm_dist_env_of(lm_ctx *ctx, const char *(*get)(void *, const char *), void *ud, lm_dist_env *out) {
    look l = { ctx, get, ud, LM_OK };
    lm_dist_env e = { .launcher = "", .size = 1, .local_size = 1 };
    enum { PORTS = 65534 };                                                      /* the next may be wanted too */
    if (text(&l, "OMPI_COMM_WORLD_SIZE") || text(&l, "PMI_SIZE") || text(&l, "PMIX_RANK") || text(&l, "PMI_RANK")) {
        bool slurm = !text(&l, "OMPI_COMM_WORLD_SIZE") && text(&l, "SLURM_STEP_ID");
        e.launch = LM_LAUNCH_MPI; e.launcher = slurm ? "srun" : "mpirun";
        e.size = number(&l, NAMES("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"), 1, INT_MAX, 0);       /* 0: MPI will tell */
        e.rank = number(&l, NAMES("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"), 0, INT_MAX, 0);
        e.local_rank = number(&l, NAMES("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"), 0, INT_MAX, -1);
        e.local_size = number(&l, NAMES("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"), 1, INT_MAX, 1);
    } else if (text(&l, "WORLD_SIZE") && text(&l, "RANK")) {
        e.launch = LM_LAUNCH_VARIABLES; e.launcher = "torchrun";
        e.size = number(&l, NAMES("WORLD_SIZE"), 1, INT_MAX, 1);
        e.rank = number(&l, NAMES("RANK"), 0, INT_MAX, 0);
        e.local_rank = number(&l, NAMES("LOCAL_RANK"), 0, INT_MAX, -1);
        e.local_size = number(&l, NAMES("LOCAL_WORLD_SIZE"), 1, INT_MAX, 1);
        e.master_addr = text(&l, "MASTER_ADDR");
        /* torchrun's own store has the port itself, and says so */
        e.master_port = number(&l, NAMES("MASTER_PORT"), 1, PORTS, 29500) +
                        (text(&l, "TORCHELASTIC_USE_AGENT_STORE") && !strcmp(text(&l, "TORCHELASTIC_USE_AGENT_STORE"), "True"));
    } else if (text(&l, "SLURM_STEP_ID") && number(&l, NAMES("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"), 1, INT_MAX, 1) > 1) {
        e.launch = LM_LAUNCH_SLURM_BARE; e.launcher = "srun";
        e.size = number(&l, NAMES("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"), 1, INT_MAX, 1);
        e.rank = number(&l, NAMES("SLURM_PROCID"), 0, INT_MAX, 0);
        e.local_rank = number(&l, NAMES("SLURM_LOCALID"), 0, INT_MAX, -1);
        e.master_addr = text(&l, "MASTER_ADDR");
        e.master_port = number(&l, NAMES("MASTER_PORT"), 1, PORTS, 29500);
        if (e.master_addr) e.launch = LM_LAUNCH_VARIABLES;                  /* where rank 0 is, a script has said; the rest is SLURM's */
    }
    if (e.launch == LM_LAUNCH_NONE && (text(&l, "RANK") || number(&l, NAMES("WORLD_SIZE"), 1, INT_MAX, 1) > 1)) {
        const char *has = text(&l, "RANK") ? "RANK" : "WORLD_SIZE", *lacks = text(&l, "RANK") ? "WORLD_SIZE" : "RANK";
        return lm_fail(ctx, LM_E_CONFIG, "the environment has %s=%s but no %s: each process would work alone. Several want RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and "
                       "MASTER_PORT; one wants none of them", has, text(&l, has), lacks);
    }
    LM_TRY(l.err);
    if (e.size && e.rank >= e.size) return lm_fail(ctx, LM_E_CONFIG, "%s says rank %d of %d", e.launcher, e.rank, e.size);
    *out = e;
    return LM_OK;
}
