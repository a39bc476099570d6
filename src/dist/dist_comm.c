/* dist_comm.c — which world there is; what every communicator can do with its table: agree, and sum a few doubles. */
#include <stdio.h>
#include <string.h>
#include "dist/dist_int.h"
enum { MAX_SIZE = 4096 };

lm_err lm_comm_agree(lm_comm *c, lm_ctx *ctx, lm_err mine, const char *what) {
    if (c->size == 1) return mine;
    int32_t all[MAX_SIZE], me = (int32_t)mine;
    if (c->size > MAX_SIZE) return lm_fail(ctx, LM_E_UNSUPPORTED, "%d ranks; %d are the most", c->size, MAX_SIZE);
    lm_err e = c->all_gather(c, &me, sizeof me, all);
    if (mine) return mine;
    LM_TRY(e);
    for (int r = 0; r < c->size; r++)
        if (all[r])
            return lm_fail(ctx, LM_E_COMM, "%s failed on rank %d (%s); this is rank %d", what, r,
                           all[r] > 0 && all[r] < LM_N_ERR ? lm_err_text((lm_err)all[r]) : "an unknown error", c->rank);
    return LM_OK;
}
lm_err lm_comm_sum(lm_comm *c, double *v, int n) {
    enum { MOST = 8, FEW = 64 };
    double few[MOST * FEW], *all = few;
    if (c->size == 1) return LM_OK;
    if (c->size > MAX_SIZE || n > MOST) return lm_fail(c->ctx, LM_E_UNSUPPORTED, "%d ranks; %d are the most", c->size, MAX_SIZE);
    if (c->size > FEW && !(all = lm_alloc(c->ctx, LM_MEM_MISC, (size_t)c->size * MOST * sizeof *all))) return LM_E_NOMEM;
    lm_err e = c->all_gather(c, v, (size_t)n * sizeof *v, all);
    for (int i = 0; i < n && !e; i++) {
        double s = 0;
        for (int r = 0; r < c->size; r++) s += all[r * n + i];
        v[i] = s;
    }
    if (all != few) lm_free(c->ctx, all);
    return e;
}
lm_err lm_comm_world(lm_ctx *ctx, const lm_dist_env *env, double timeout, lm_comm **out) {
    *out = NULL;
    if (env->size > MAX_SIZE) return lm_fail(ctx, LM_E_UNSUPPORTED, "%s says %d ranks; %d are the most", env->launcher, env->size, MAX_SIZE);
    switch (env->launch) {
    case LM_LAUNCH_NONE: return LM_OK;
    case LM_LAUNCH_SLURM_BARE:
        return lm_fail(ctx, LM_E_CONFIG,
                       "srun started %d tasks without PMI: they would be %d programs that know nothing of each other. Start with `srun "
                       "--mpi=pmix`, with mpirun inside the allocation, or "
                       "set MASTER_ADDR (the first host) and MASTER_PORT for all tasks; one task: srun -n 1",
                       env->size, env->size);
    case LM_LAUNCH_VARIABLES: return env->size == 1 ? LM_OK : lm_comm_tcp(ctx, env, timeout, out);
    case LM_LAUNCH_MPI: break;
    }
    return env->size == 1 ? LM_OK : lm_comm_mpi(ctx, env, timeout, out);
}
lm_err lm_dist_device(lm_dev **out, lm_ctx *ctx, const lm_comm *world, const char *name) {
    char own[80];
    const int n = lm_dev_count();
    if (!world || world->size == 1 || n <= 1 || strncmp(name, "cuda", 4)) return lm_dev_open(out, ctx, name);       /* alone, or the only one there is */
    if (name[4] == ':' && world->local_rank > 0)
        return lm_fail(ctx, LM_E_CONFIG, "rank %d is number %d on this host: device=%s is the first one's too; device=cuda gives each rank the card of its number",
                       world->rank, world->local_rank, name);
    if (strcspn(name, ",") != 4) return lm_dev_open(out, ctx, name);
    if (world->local_rank < 0)
        return lm_fail(ctx, LM_E_CONFIG, "which of this host's %d CUDA devices is rank %d's? LOCAL_RANK does not say: set it (0 for the first rank of a host), or let each rank "
                       "see one device (CUDA_VISIBLE_DEVICES)", n, world->rank);
    if (world->local_rank >= n)
        return lm_fail(ctx, LM_E_CONFIG, "rank %d is number %d on this host, but %d CUDA devices are visible: one rank a device", world->rank, world->local_rank, n);
    snprintf(own, sizeof own, "cuda:%d%.40s", world->local_rank, name + 4);
    return lm_dev_open(out, ctx, own);
}
void lm_comm_abort(lm_comm *c, int exit_code) { if (c) lm_mpi_abort(c, exit_code); }
