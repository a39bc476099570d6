/* dist_int.h — the worlds there are, for dist_comm.c to choose from.  Lifetime, Threads, Errors: as dist.h. */
#ifndef LM_DIST_INT_H
#define LM_DIST_INT_H
#include "dist/dist.h"
lm_err lm_comm_mpi(lm_ctx *ctx, const lm_dist_env *env, double timeout, lm_comm **out);
lm_err lm_comm_tcp(lm_ctx *ctx, const lm_dist_env *env, double timeout, lm_comm **out);
void lm_mpi_abort(lm_comm *c, int exit_code);      /* nothing where c is no world over MPI */
#endif
