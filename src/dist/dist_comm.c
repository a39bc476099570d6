/* dist_comm.c — what every communicator can do with its table: agree, and sum a few doubles. */
#include <string.h>
#include "dist/dist.h"
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
    if (c->size == 1) return LM_OK;
    double all[MAX_SIZE];
    for (int i = 0; i < n; i++) {
        if (c->size > MAX_SIZE) return lm_fail(c->ctx, LM_E_UNSUPPORTED, "%d ranks; %d are the most", c->size, MAX_SIZE);
        LM_TRY(c->all_gather(c, &v[i], sizeof *v, all));
        double s = 0;
        for (int r = 0; r < c->size; r++) s += all[r];
        v[i] = s;
    }
    return LM_OK;
}
