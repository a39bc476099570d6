/* cmd_dist.c — ranks for commands: the environment is read here, and what a failing rank owes the others. */
#include <stdlib.h>
#include <time.h>
#include "cmd/cmd_dist.h"

static const char *environment(void *ud, const char *name) { (void)ud; return getenv(name); }
lm_err lm_cmd_dist_comm(lm_cli *cli, lm_comm **comm) {
    lm_dist_env env;
    LM_TRY(lm_dist_env_of(cli->ctx, environment, NULL, &env));
    LM_TRY(lm_comm_world(cli->ctx, &env, comm));
    if (*comm && (*comm)->rank) cli->quiet = true;                   /* one rank draws progress */
    return LM_OK;
}
void lm_cmd_dist_end(lm_cli *cli, lm_comm *comm, lm_err err) {
    if (!comm) return;
    if (!err || err == LM_E_CANCELLED) { comm->free(comm); return; } /* a cancelled run ended on all ranks, after the same step */
    /* Others may wait for this rank in an operation that will never come. Where all failed alike, rank 0 speaks first and ends the job before the others do. */
    if (comm->rank) nanosleep(&(struct timespec){ .tv_nsec = 400000000 }, NULL);
    lm_cli_progress_end(cli);
    if (comm->rank) fprintf(stderr, "loam: rank %d of %d: %s\n", comm->rank, comm->size, lm_error(cli->ctx));
    else fprintf(stderr, "loam: %s\n", lm_error(cli->ctx));
    fflush(NULL);
    lm_comm_abort(comm, 1);
}
