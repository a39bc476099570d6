/* dist_mpi.c — the communicator over MPI, found at run time.
 *
 * Every operation is an exchange of pieces: rank r's piece for me and mine for r, all at once (Irecv, Isend), at most PIECE
 * numbers to a peer at a time, so that counts never reach 2^31 and scratch stays small. On one host the bytes go through shared memory.
 * What an operation moves per rank, of n numbers on P ranks: all_reduce 2 n (P-1)/P (for few numbers n (P-1), in one trip instead of two),
 * reduce_scatter and all_gather n (P-1)/P: as little as any algorithm can. Waiting is asking (Testall), so that a
 * rank that never comes is noticed. */
#include <dlfcn.h>
#include <sched.h>
#include <string.h>
#include "dist/dist_int.h"

enum { PIECE = 1 << 16, FEW = 2048, THREAD_SERIALIZED = 2, ERROR_TEXT = 256, TAG = 7 };
static const size_t BYTES = (size_t)1 << 26;                     /* of an exchange without sums: to one peer at a time */
typedef void *obj;                                              /* MPI_Comm, MPI_Datatype, MPI_Request: pointers in Open MPI */
typedef struct {
    int (*Init_thread)(int *, char ***, int, int *), (*Initialized)(int *), (*Finalized)(int *), (*Finalize)(void), (*Abort)(obj, int);
    int (*Comm_rank)(obj, int *), (*Comm_size)(obj, int *), (*Comm_set_errhandler)(obj, obj), (*Error_string)(int, char *, int *);
    int (*Irecv)(void *, int, obj, int, int, obj, obj *), (*Isend)(const void *, int, obj, int, int, obj, obj *),
        (*Testall)(int, obj *, int *, void *);
    int (*Ibcast)(void *, int, obj, int, obj, obj *), (*Ibarrier)(obj, obj *);
} calls;
typedef struct {
    calls mpi; void *lib; obj world, byte;
    bool started, over;                                          /* by us, so ended by us; an operation failed, the ranks are no longer together */
    obj *request; float *scratch;
} world;

static lm_err failed(lm_comm *c, const char *op, int code) {
    world *w = c->impl;
    char why[ERROR_TEXT + 1] = ""; int n = 0;
    if (w->over) return LM_E_COMM;                               /* the first failure is told; its sentence stays */
    w->over = true;
    if (w->mpi.Error_string(code, why, &n)) why[0] = 0;
    return lm_fail(c->ctx, LM_E_COMM, "rank %d of %d: %s, step %lld: %s", c->rank, c->size, op, (long long)c->step,
                   *why ? why : "MPI gives no reason");
}
static lm_err wait_all(lm_comm *c, const char *op, int n, obj *request) {
    world *w = c->impl;
    double t0 = 0;
    for (int spin = 0, done = 0;; spin++) {
        const int e = w->mpi.Testall(n, request, &done, NULL);
        if (e) return failed(c, op, e);
        if (done) return LM_OK;
        if ((spin & 1023) != 1023) continue;
        sched_yield();
        const double now = lm_now();
        if (t0 == 0) t0 = now;
        if (c->timeout <= 0 || now - t0 <= c->timeout) continue;
        w->over = true;
        return lm_fail(c->ctx, LM_E_COMM,
                           "rank %d of %d waited %.0f seconds in %s, step %lld: another rank is stopped, gone or elsewhere", c->rank,
                           c->size, c->timeout, op, (long long)c->step);
    }
}
/* Rank r gets n_send(r) bytes from send + r·send_step, and gives n_recv bytes to recv + r·recv_step. Own piece: left to the caller. */
static lm_err exchange(lm_comm *c, const char *op, const char *send, size_t send_step, const size_t *n_send, size_t n_send_all, char *recv,
                       size_t recv_step, size_t n_recv) {
    world *w = c->impl;
    int n = 0, e = 0;
    if (w->over) return LM_E_COMM;
    for (int k = 1; k < c->size && !e; k++) {
        int r = (c->rank + k) % c->size;
        if (n_recv) e = w->mpi.Irecv(recv + (size_t)r * recv_step, (int)n_recv, w->byte, r, TAG, w->world, &w->request[n++]);
    }
    for (int k = 1; k < c->size && !e; k++) {
        int r = (c->rank + c->size - k) % c->size;
        size_t bytes = n_send ? n_send[r] : n_send_all;
        if (bytes) e = w->mpi.Isend(send + (size_t)r * send_step, (int)bytes, w->byte, r, TAG, w->world, &w->request[n++]);
    }
    return e ? failed(c, op, e) : wait_all(c, op, n, w->request);
}
/* out[i] = the sum over ranks of part r, rank 0 first. Parts lie PIECE apart in scratch, the own one at `own`. */
static void sum(const lm_comm *c, const float *own, float *out, size_t n) {
    const world *w = c->impl;
    const float *first = c->rank == 0 ? own : w->scratch;
    if (out != first) memmove(out, first, n * sizeof *out);
    for (int r = 1; r < c->size; r++) {
        const float *x = r == c->rank ? own : w->scratch + (size_t)r * PIECE;
        for (size_t i = 0; i < n; i++) out[i] += x[i];
    }
}
static lm_err all_reduce(lm_comm *c, float *buf, int64_t n) {
    world *w = c->impl;
    const size_t own_at = (size_t)c->size * PIECE;
    float *own = w->scratch + own_at;                            /* a copy, for out may be where own is */
    size_t P = (size_t)c->size;
    if (n <= FEW) {
        size_t bytes = (size_t)n * sizeof(float);
        memcpy(own, buf, bytes);
        LM_TRY(exchange(c, "all_reduce", (char *)own, 0, NULL, bytes, (char *)w->scratch, PIECE * sizeof(float), bytes));
        sum(c, own, buf, (size_t)n);
        return LM_OK;
    }
    for (int64_t at = 0; at < n;) {
        size_t all = (size_t)lm_min64(n - at, (int64_t)(P * PIECE)), each = (all + P - 1) / P, lens[256], *len = lens;
        if (P > 256) len = (size_t *)(void *)(w->request + 2 * P);
        for (size_t r = 0; r < P; r++) len[r] = r * each >= all ? 0 : (all - r * each < each ? all - r * each : each) * sizeof(float);
        float *x = buf + at, *mine = x + (size_t)c->rank * each;
        size_t n_mine = len[c->rank] / sizeof(float);
        LM_TRY(exchange(c, "all_reduce, first half", (char *)x, each * sizeof(float), len, 0, (char *)w->scratch, PIECE * sizeof(float),
                        len[c->rank]));
        if (n_mine) { memcpy(own, mine, len[c->rank]); sum(c, own, mine, n_mine); }
        /* Hand the sums round: pieces may differ in length only at the end, so each length is its own exchange. */
        int e = 0, k = 0;
        for (int i = 1; i < c->size && !e; i++) {
            int r = (c->rank + i) % c->size;
            if (len[r]) e = w->mpi.Irecv(x + (size_t)r * each, (int)len[r], w->byte, r, TAG, w->world, &w->request[k++]);
        }
        for (int i = 1; i < c->size && !e; i++) {
            int r = (c->rank + c->size - i) % c->size;
            if (n_mine) e = w->mpi.Isend(mine, (int)len[c->rank], w->byte, r, TAG, w->world, &w->request[k++]);
        }
        if (e) return failed(c, "all_reduce, second half", e);
        LM_TRY(wait_all(c, "all_reduce, second half", k, w->request));
        at += (int64_t)all;
    }
    return LM_OK;
}
static lm_err all_gather(lm_comm *c, const void *mine, size_t bytes, void *all) {
    char *own = (char *)all + (size_t)c->rank * bytes;
    if (own != mine) memmove(own, mine, bytes);
    for (size_t at = 0; at < bytes; at += BYTES) {
        size_t n = bytes - at < BYTES ? bytes - at : BYTES;
        LM_TRY(exchange(c, "all_gather", own + at, 0, NULL, n, (char *)all + at, bytes, n));
    }
    return LM_OK;
}
static lm_err reduce_scatter(lm_comm *c, const float *all, int64_t n, float *mine) {
    world *w = c->impl;
    float *own = w->scratch + (size_t)c->size * PIECE;
    for (int64_t at = 0; at < n; at += PIECE) {
        size_t k = (size_t)lm_min64(PIECE, n - at), bytes = k * sizeof(float);
        LM_TRY(exchange(c, "reduce_scatter", (const char *)(all + at), (size_t)n * sizeof(float), NULL, bytes, (char *)w->scratch,
                        PIECE * sizeof(float), bytes));
        memcpy(own, all + (int64_t)c->rank * n + at, bytes);
        sum(c, own, mine + at, k);
    }
    return LM_OK;
}
static lm_err broadcast(lm_comm *c, void *buf, size_t bytes, int root) {
    world *w = c->impl;
    for (size_t at = 0; at < bytes; at += BYTES) {
        if (w->over) return LM_E_COMM;
        int e = w->mpi.Ibcast((char *)buf + at, (int)(bytes - at < BYTES ? bytes - at : BYTES), w->byte, root, w->world, w->request);
        if (e) return failed(c, "broadcast", e);
        LM_TRY(wait_all(c, "broadcast", 1, w->request));
    }
    return LM_OK;
}
static lm_err barrier(lm_comm *c) {
    world *w = c->impl;
    if (w->over) return LM_E_COMM;
    int e = w->mpi.Ibarrier(w->world, w->request);
    return e ? failed(c, "barrier", e) : wait_all(c, "barrier", 1, w->request);
}
static void release(lm_comm *c) {
    world *w = c->impl;
    int over = 1;
    if (w->started && !w->over && !w->mpi.Finalized(&over) && !over) w->mpi.Finalize();
    /* the library stays: MPI leaves handlers behind */
    lm_free(c->ctx, w->scratch); lm_free(c->ctx, w->request); lm_free(c->ctx, w); lm_free(c->ctx, c);
}
void lm_mpi_abort(lm_comm *c, int exit_code) {
    if (c->barrier != barrier) return;
    world *w = c->impl;
    w->mpi.Abort(w->world, exit_code);
}
/* ---- finding MPI ---------------------------------------------------------------------------------------------------------------------- */
static lm_err find(lm_ctx *ctx, const lm_dist_env *env, world *w) {
    const char *const names[] = { "libmpi.so.40", "libmpi.so" };
    for (int i = 0; i < LM_COUNT(names) && !w->lib; i++) w->lib = dlopen(names[i], RTLD_NOW | RTLD_GLOBAL);
    if (!w->lib)
        return lm_fail(
            ctx, LM_E_COMM,
            "%s started %d ranks, but Open MPI (libmpi.so.40) cannot be loaded: %s. Install openmpi-bin, or start one process without %s",
            env->launcher, env->size, dlerror(), env->launcher);
    const struct { const char *name; void **to;
    } want[] = {
#define F(n) { "MPI_" #n, (void **)(void *)&w->mpi.n }
        F(Init_thread),
        F(Initialized),
        F(Finalized),
        F(Finalize),
        F(Abort),
        F(Comm_rank),
        F(Comm_size),
        F(Comm_set_errhandler),
        F(Error_string),
        F(Irecv),
        F(Isend),
        F(Testall),
        F(Ibcast),
        F(Ibarrier),
#undef F
        { "ompi_mpi_comm_world", &w->world },
        { "ompi_mpi_byte", &w->byte }
    };
    for (int i = 0; i < LM_COUNT(want); i++)
        if (!(*want[i].to = dlsym(w->lib, want[i].name)))
            return lm_fail(ctx, LM_E_UNSUPPORTED, "the MPI library that was found has no %s: Open MPI 4 or 5 is wanted", want[i].name);
    return LM_OK;
}
static lm_err start(lm_ctx *ctx, const lm_dist_env *env, world *w, int *rank, int *size) {
    int on = 0, got = 0;
    if (w->mpi.Initialized(&on)) on = 0;
    if (!on) {
        if (w->mpi.Init_thread(NULL, NULL, THREAD_SERIALIZED, &got)) return lm_fail(ctx, LM_E_COMM, "rank %d: MPI did not start", env->rank);
        w->started = true;
        if (got < THREAD_SERIALIZED)
            return lm_fail(ctx, LM_E_UNSUPPORTED, "this MPI was built without threads (it offers level %d, wanted %d)", got,
                           THREAD_SERIALIZED);
    }
    obj ret = dlsym(w->lib, "ompi_mpi_errors_return");
    if (ret) w->mpi.Comm_set_errhandler(w->world, ret);           /* errors come back as codes: the sentence is ours */
    if (w->mpi.Comm_rank(w->world, rank) || w->mpi.Comm_size(w->world, size))
        return lm_fail(ctx, LM_E_COMM, "rank %d: MPI does not say who is there", env->rank);
    if (env->size && *size != env->size)
        return lm_fail(ctx, LM_E_CONFIG,
                       "%s started %d processes, but MPI sees %d: each would train alone. The launcher and the MPI library do not belong "
                       "together; start with Open MPI's mpirun%s",
                       env->launcher, env->size, *size, !strcmp(env->launcher, "srun") ? " or srun --mpi=pmix" : "");
    return LM_OK;
}
lm_err lm_comm_mpi(lm_ctx *ctx, const lm_dist_env *env, double timeout, lm_comm **out) {
    lm_comm *c = lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *c);
    world *w = lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *w);
    int rank = 0, size = 0;
    lm_err err = c && w ? LM_OK : LM_E_NOMEM;
    if (!err) err = find(ctx, env, w);
    if (!err) err = start(ctx, env, w, &rank, &size);
    if (!err && size > 1) {
        /* 2P requests, and P lengths of a large world */
        w->request = lm_calloc(ctx, LM_MEM_MISC, (size_t)size * 3 + 1, sizeof *w->request);
        w->scratch = lm_alloc(ctx, LM_MEM_SCRATCH, ((size_t)size + 1) * PIECE * sizeof(float));
        if (!w->request || !w->scratch) err = LM_E_NOMEM;
    }
    if (err || size == 1) {
        if (w && w->started && !err) w->mpi.Finalize();           /* after an error the others may be ahead: no farewell that would wait for them */
        if (w) { lm_free(ctx, w->request); lm_free(ctx, w->scratch); }
        lm_free(ctx, w); lm_free(ctx, c);
        if (!err) *out = NULL;
        return err;
    }
    *c = (lm_comm){ .name = "mpi",
                    .rank = rank,
                    .size = size,
                    .local_rank = env->local_rank,
                    .timeout = timeout,
                    .ctx = ctx,
                    .impl = w,
                    .all_reduce = all_reduce,
                    .all_gather = all_gather,
                    .reduce_scatter = reduce_scatter,
                    .broadcast = broadcast,
                    .barrier = barrier,
                    .free = release };
    *out = c;
    return LM_OK;
}
