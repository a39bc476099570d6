/* op_run.h — run one kernel of one op on tensors, without a graph: what the attention tests share. */
#ifndef LM_OP_RUN_H
#define LM_OP_RUN_H
#include "base/pool.h"
#include "op/op.h"
#include "test.h"
static bool t_op_reverse;                                                  /* tiles from the last to the first */
typedef struct { const lm_call *c; const lm_phase *ph; char *scratch; size_t each; int64_t n; lm_err err; } t_op_job;
static void t_op_tile(void *ud, int64_t tile, int ith) {
    t_op_job *j = ud;
    lm_err e = j->ph->run(j->c, t_op_reverse ? j->n - 1 - tile : tile, j->scratch + (size_t)ith * j->each);
    if (e) __atomic_store_n(&j->err, e, __ATOMIC_RELAXED);
}
/* Scratch and shared memory are filled with NaN bits first. */
static lm_err t_op_run(const lm_kernel *k, lm_call *c, lm_ctx *ctx) {
    const size_t shared = k->shared_bytes ? k->shared_bytes(c) : 0,
                 each = (size_t)lm_round_up((int64_t)(k->thread_bytes ? k->thread_bytes(c) : 0), 64);
    lm_err err = LM_OK;
    c->ctx = ctx;
    c->shared = lm_alloc(ctx, LM_MEM_SCRATCH, shared + 1);
    char *scratch = lm_alloc(ctx, LM_MEM_SCRATCH, each * (size_t)lm_ctx_threads(ctx) + 1);
    memset(c->shared, 0xff, shared); memset(scratch, 0xff, each * (size_t)lm_ctx_threads(ctx));
    for (int p = 0; p < k->n_phase && !err; p++) {
        t_op_job j = { c, &k->phase[p], scratch, each, k->phase[p].tiles(c), LM_OK };
        lm_pool_tiles(lm_ctx_pool(ctx), j.n, t_op_tile, &j);
        err = j.err;
    }
    lm_free(ctx, c->shared); lm_free(ctx, scratch);
    return err;
}
static uint64_t t_op_seed = 1;
static double t_op_uniform(void) {
    t_op_seed = t_op_seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(t_op_seed >> 11) / 9007199254740992.0;
}
static float *t_op_floats(int64_t n) {
    float *p = malloc((size_t)(n + 1) * 4);
    for (int64_t i = 0; i < n; i++) p[i] = (float)((t_op_uniform() + t_op_uniform() + t_op_uniform() - 1.5) * 2);
    return p;
}
static lm_tensor t_op_2d(void *p, lm_dtype d, int64_t n, int64_t m) { return lm_tensor_of(p, d, 2, (int64_t[]){ n, m }); }
static lm_tensor t_op_1d(void *p, lm_dtype d, int64_t n) { return lm_tensor_of(p, d, 1, &n); }
/* for every kernel of the op that this machine can run */
#define T_OP_KERNELS(op, k) for (int l_##k = 0; (op)->kernels[l_##k]; l_##k++) for (const lm_kernel *k = (op)->kernels[l_##k]; k->name; k++) if (k->device == LM_DEV_CPU && !(k->needs & ~lm_cpu_features()))
#endif
