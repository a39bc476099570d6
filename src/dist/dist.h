/* dist.h — who the other ranks are, and a communicator to them.
 *
 * A launcher (mpirun, srun) starts the same program several times and says so in the environment. The library reads no environment:
 * lm_dist_env_of() is given a function that looks a name up, and returns what the launcher said; lm_comm_world() then connects. MPI is
 * found when it is first needed (dlopen), so the program starts on machines without it; nothing is needed at build time. Open MPI's binary
 * interface is spoken: handles are addresses of its symbols.
 *
 * Sums of f32 are made here, not by MPI: ranks exchange slices, each adds its slice rank 0 first, and the sums are handed round. So a sum
 * depends neither on the network's timing nor on the algorithm MPI would pick, and all ranks hold the same bits.
 *
 * Lifetime: one world per process (MPI can be started once); it outlives the plans bound to it.
 * Threads:  any thread may call, one at a time (MPI_THREAD_SERIALIZED); all ranks call the same operations in the same order.
 * Errors:  LM_E_COMM naming rank, operation and MPI's own sentence; LM_E_CONFIG where the launcher cannot work. A rank that dies takes the
 *           others with it: MPI ends the job. */
#ifndef LM_DIST_H
#define LM_DIST_H
#include "device/comm.h"
typedef enum {
    LM_LAUNCH_NONE,
    LM_LAUNCH_MPI,
    LM_LAUNCH_SLURM_BARE /* srun without PMI */,
    LM_LAUNCH_VARIABLES /* RANK, WORLD_SIZE, MASTER_ADDR */
} lm_launch;
typedef struct {
    lm_launch launch; const char *launcher;      /* "mpirun", "srun", "torchrun": for sentences */
    int rank, size, local_rank, local_size;      /* as the launcher says; 0 of 1 where it says nothing. local: on this host */
    const char *master_addr; int master_port;    /* LM_LAUNCH_VARIABLES */
} lm_dist_env;
/* get(ud, name): the variable or NULL. A number that is none, or a rank outside the size, is LM_E_CONFIG. */
lm_err lm_dist_env_of(lm_ctx *ctx, const char *(*get)(void *ud, const char *name), void *ud, lm_dist_env *out);
/* *out = NULL when this process is alone. */
lm_err lm_comm_world(lm_ctx *ctx, const lm_dist_env *env, lm_comm **out);
/* End the whole job, every rank, now (MPI_Abort): what a rank does that cannot go on while others may wait for it. Does not return where c
 * has peers. */
void lm_comm_abort(lm_comm *c, int exit_code);

/* Do all ranks agree that things went well? Returns mine where it is an error, else LM_E_COMM naming the first rank that failed and its
 * code, else LM_OK. All ranks call it. */
lm_err lm_comm_agree(lm_comm *c, lm_ctx *ctx, lm_err mine, const char *what);
/* v[i] summed over the ranks in double, rank 0 first: the same bits everywhere. n at most 8. */
lm_err lm_comm_sum(lm_comm *c, double *v, int n);

#endif
