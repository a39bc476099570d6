/* dist.h — who the other ranks are, and a communicator to them.
 *
 * A launcher (mpirun, srun, torchrun) starts the same program several times and says so in the environment. The library reads no environment:
 * lm_dist_env_of() is given a function that looks a name up, and returns what the launcher said; lm_comm_world() then connects the ranks, by
 * MPI under mpirun and srun (found when it is first needed, so the program starts on machines without it; Open MPI's binary interface is
 * spoken), by a star of TCP connections where RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are all there is. lm_comm_nccl() makes the
 * communicator of a device beside the world, when all ranks are ready to train.
 *
 * Sums of f32 of a world are made here, not by MPI: ranks exchange slices, each adds its slice rank 0 first, and the sums are handed round. So
 * a sum depends neither on the network's timing nor on the algorithm MPI would pick, and all ranks hold the same bits.
 *
 * Lifetime: one world per process (MPI can be started once); it outlives the plans bound to it, and a device's communicator.
 * Threads:  any thread may call, one at a time (MPI_THREAD_SERIALIZED); all ranks call the same operations in the same order.
 * Errors:  LM_E_COMM naming rank, operation and step; LM_E_CONFIG where the launcher cannot work. No rank waits for others longer than
 *           `timeout` seconds; a rank that dies takes the others with it: MPI ends the job, a closed connection is seen. */
#ifndef LM_DIST_H
#define LM_DIST_H
#include "device/comm.h"
#include "device/device.h"
typedef enum {
    LM_LAUNCH_NONE,
    LM_LAUNCH_MPI,
    LM_LAUNCH_SLURM_BARE /* srun without PMI */,
    LM_LAUNCH_VARIABLES /* RANK, WORLD_SIZE, MASTER_ADDR */
} lm_launch;
typedef struct {
    lm_launch launch; const char *launcher;      /* "mpirun", "srun", "torchrun": for sentences */
    int rank, size, local_rank, local_size;      /* as the launcher says; 0 of 1 where it says nothing. local: on this host; local_rank -1: not said */
    const char *master_addr; int master_port;    /* LM_LAUNCH_VARIABLES */
} lm_dist_env;
/* get(ud, name): the variable or NULL. A number that is none, a rank outside the size, or one of RANK and WORLD_SIZE without the other is LM_E_CONFIG. */
lm_err lm_dist_env_of(lm_ctx *ctx, const char *(*get)(void *ud, const char *name), void *ud, lm_dist_env *out);
/* *out = NULL when this process is alone. timeout: seconds to wait for other ranks, here and later; 0 = for ever. */
lm_err lm_comm_world(lm_ctx *ctx, const lm_dist_env *env, double timeout, lm_comm **out);
/* The device of a rank, opened: "cuda" is the one of its number among the ranks of this host, or the only one it sees. LM_E_CONFIG where that number is not known,
 * where there are fewer devices, or where the second rank of a host would have the device that the first one has. */
lm_err lm_dist_device(lm_dev **out, lm_ctx *ctx, const lm_comm *world, const char *name);
/* The communicator of the world's ranks for `dev`, over NCCL; all ranks call it. lib: file of the library; NULL: libnccl.so.2 where the system
 * finds it. */
lm_err lm_comm_nccl(lm_comm **out, lm_comm *world, lm_dev *dev, const char *lib);
/* The same for devices of one host that reach each other's memory, by the copy engines alone (dist_peer.c): up to 16 ranks. An error, the same
 * on all ranks, where that does not work. */
lm_err lm_comm_peer(lm_comm **out, lm_comm *world, lm_dev *dev);
/* link: "auto" (NULL): peer where it works, else NCCL; "peer" or "nccl": that one. nccl: lm_comm_nccl's lib. */
lm_err lm_comm_devices(lm_comm **out, lm_comm *world, lm_dev *dev, const char *link, const char *nccl);
/* End the whole job, every rank, now (MPI_Abort): what a rank does that cannot go on while others may wait for it. Does not return where c
 * is MPI's; over TCP the others see this rank's end. */
void lm_comm_abort(lm_comm *c, int exit_code);

/* Do all ranks agree that things went well? Returns mine where it is an error, else LM_E_COMM naming the first rank that failed and its
 * code, else LM_OK. All ranks call it. */
lm_err lm_comm_agree(lm_comm *c, lm_ctx *ctx, lm_err mine, const char *what);
/* v[i] summed over the ranks in double, rank 0 first: the same bits everywhere. n at most 8. */
lm_err lm_comm_sum(lm_comm *c, double *v, int n);

#endif
