/* dist_nccl.c — the communicator of a device, over NCCL found at run time (dlopen): nothing of it is needed to build.
 *
 * The few functions used are declared here as NCCL's interface has had them since 2.4. Rank 0 makes the unique id, the world hands it round,
 * and all ranks meet once; afterwards every operation is put on the device's current lane and returns. Making the communicator can only wait
 * inside NCCL, so it is done by a thread that the caller waits for at most `timeout` seconds; all ranks have agreed just before that they are
 * ready for it. */
#define _GNU_SOURCE                                        /* pthread_timedjoin_np */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "dist/dist.h"

typedef struct { char internal[128]; } unique_id;
typedef void *comm_t, *stream_t;
enum { SUCCESS = 0, IN_PROGRESS = 7, INT8 = 0, FLOAT32 = 7, SUM = 0 };
typedef struct {
    int (*GetVersion)(int *), (*GetUniqueId)(unique_id *), (*CommInitRank)(comm_t *, int, unique_id, int), (*CommDestroy)(comm_t),
        (*CommAbort)(comm_t), (*CommGetAsyncError)(comm_t, int *), (*AllReduce)(const void *, void *, size_t, int, int, comm_t, stream_t),
        (*AllGather)(const void *, void *, size_t, int, comm_t, stream_t),
        (*ReduceScatter)(const void *, void *, size_t, int, int, comm_t, stream_t),
        (*Broadcast)(const void *, void *, size_t, int, int, comm_t, stream_t), (*GroupStart)(void), (*GroupEnd)(void);
    const char *(*GetErrorString)(int);
    const char *(*GetLastError)(comm_t);                /* what NCCL found wrong, in words; NULL: a library before 2.13 */
} calls;
typedef struct { calls nccl; comm_t comm; lm_dev *dev; lm_comm *world; bool stopped, ending; pthread_t end; } link_;
enum { END_S = 5 };                                     /* how long an abort is waited for */

static lm_err failed(lm_comm *c, const char *op, int code) {
    link_ *l = c->impl;
    if (code == SUCCESS || code == IN_PROGRESS) return LM_OK;
    const char *more = l->nccl.GetLastError ? l->nccl.GetLastError(NULL) : NULL;
    if (more && !*more) more = NULL;
    return lm_fail(c->ctx, LM_E_COMM, "rank %d of %d: NCCL %s, step %lld: %s%s%.*s", c->rank, c->size, op, (long long)c->step, l->nccl.GetErrorString(code),
                   more ? ": " : "", more ? (int)strcspn(more, "\n") : 0, more ? more : "");
}
static lm_err all_reduce(lm_comm *c, float *buf, int64_t n) {
    link_ *l = c->impl;
    return failed(c, "all_reduce", l->nccl.AllReduce(buf, buf, (size_t)n, FLOAT32, SUM, l->comm, l->dev->stream));
}
static lm_err all_gather(lm_comm *c, const void *mine, size_t bytes, void *all) {
    link_ *l = c->impl;
    return failed(c, "all_gather", l->nccl.AllGather(mine, all, bytes, INT8, l->comm, l->dev->stream));
}
static lm_err reduce_scatter(lm_comm *c, const float *all, int64_t n, float *mine) {
    link_ *l = c->impl;
    return failed(c, "reduce_scatter", l->nccl.ReduceScatter(all, mine, (size_t)n, FLOAT32, SUM, l->comm, l->dev->stream));
}
static lm_err broadcast(lm_comm *c, void *buf, size_t bytes, int root) {
    link_ *l = c->impl;
    return failed(c, "broadcast", l->nccl.Broadcast(buf, buf, bytes, INT8, root, l->comm, l->dev->stream));
}
static lm_err barrier(lm_comm *c) { link_ *l = c->impl; return l->world->barrier(l->world); }
static lm_err group(lm_comm *c, bool open) {
    link_ *l = c->impl;
    return failed(c, "group", open ? l->nccl.GroupStart() : l->nccl.GroupEnd());
}
static lm_err check(lm_comm *c) {
    link_ *l = c->impl;
    int code = SUCCESS;
    if (l->stopped) return LM_OK;
    LM_TRY(failed(c, "asking for errors", l->nccl.CommGetAsyncError(l->comm, &code)));
    LM_TRY(failed(c, "in the background", code));
    return l->world->check ? l->world->check(l->world) : LM_OK;
}
/* NCCL's abort first tells its kernels to quit, then waits until every recorded graph that holds them is gone: those are ours to free, so
 * a thread waits, and release waits for it, for a process that ends meanwhile dies in it; but not for ever, since an abort can hang on a card that failed. */
typedef struct { int (*abort)(comm_t); comm_t comm; } ending;
static void *end(void *arg) {
    const ending e = *(ending *)arg;
    free(arg);
    e.abort(e.comm);
    return NULL;
}
static void stop(lm_comm *c) {
    link_ *l = c->impl;
    ending *e = l->stopped || !l->comm ? NULL : malloc(sizeof *e);
    if (e) {
        *e = (ending){ l->nccl.CommAbort, l->comm };
        l->ending = !pthread_create(&l->end, NULL, end, e);
        if (!l->ending) free(e);
    }
    l->stopped = true; l->comm = NULL;
    if (l->world->stop) l->world->stop(l->world);
}
static void release(lm_comm *c) {
    link_ *l = c->impl;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += END_S;
    if (l->ending && pthread_timedjoin_np(l->end, NULL, &until)) pthread_detach(l->end);
    if (l->comm && !l->stopped) l->nccl.CommDestroy(l->comm);
    lm_free(c->ctx, l); lm_free(c->ctx, c);               /* the library stays: it leaves threads behind */
}
static lm_err find(lm_ctx *ctx, const char *lib, calls *k) {
    void *so = dlopen(lib ? lib : "libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!so)
        return lm_fail(ctx, LM_E_UNSUPPORTED,
                       "several ranks on GPUs are connected by NCCL, which cannot be loaded: %s. Install libnccl2, or say where "
                       "libnccl.so.2 is (LOAM_NCCL=FILE or LD_LIBRARY_PATH)",
                       dlerror());
    const struct { const char *name; void **to;
    } want[] = {
#define F(n) { "nccl" #n, (void **)(void *)&k->n }
        F(GetVersion), F(GetUniqueId),   F(CommInitRank), F(CommDestroy), F(CommAbort), F(CommGetAsyncError), F(AllReduce),
        F(AllGather),  F(ReduceScatter), F(Broadcast),    F(GroupStart),  F(GroupEnd),  F(GetErrorString)
#undef F
    };
    for (int i = 0; i < LM_COUNT(want); i++)
        if (!(*want[i].to = dlsym(so, want[i].name)))
            return lm_fail(ctx, LM_E_UNSUPPORTED, "the NCCL library that was found has no %s", want[i].name);
    *(void **)(void *)&k->GetLastError = dlsym(so, "ncclGetLastError");
    return LM_OK;
}
/* ---- meeting: in a thread, for NCCL has no time limit of its own ---- */
typedef struct {
    pthread_mutex_t m;
    pthread_cond_t c;
    bool done, left;
    const calls *k;
    lm_dev *dev;
    comm_t comm;
    int size, rank, code;
    unique_id id;
    calls copy;
} meeting;
static void *meet(void *arg) {
    meeting *m = arg;
    comm_t c = NULL;
    const int e = m->dev->use(m->dev) ? 1 : m->copy.CommInitRank(&c, m->size, m->id, m->rank);
    pthread_mutex_lock(&m->m);
    m->comm = c; m->code = e; m->done = true;
    const bool left = m->left;                            /* nobody waits any more: it is this thread's to free */
    pthread_cond_signal(&m->c);
    pthread_mutex_unlock(&m->m);
    if (left) free(m);
    return NULL;
}
static lm_err meet_all(lm_comm *c, const unique_id *id) {
    link_ *l = c->impl;
    meeting *m = calloc(1, sizeof *m);
    pthread_t th;
    struct timespec end;
    if (!m) return LM_E_NOMEM;
    pthread_condattr_t at;
    pthread_condattr_init(&at); pthread_condattr_setclock(&at, CLOCK_MONOTONIC);
    pthread_mutex_init(&m->m, NULL); pthread_cond_init(&m->c, &at);
    pthread_condattr_destroy(&at);
    m->dev = l->dev; m->size = c->size; m->rank = c->rank; m->id = *id; m->copy = l->nccl;
    if (pthread_create(&th, NULL, meet, m)) { free(m); return lm_fail(c->ctx, LM_E_NOMEM, "no thread can be made"); }
    const double limit = c->timeout > 0 ? c->timeout : 1e8;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += (time_t)limit;
    pthread_mutex_lock(&m->m);
    int late = 0;
    while (!m->done && !late) late = pthread_cond_timedwait(&m->c, &m->m, &end);
    const bool done = m->done;
    const int code = m->code;
    l->comm = m->comm;
    m->left = !done;
    pthread_mutex_unlock(&m->m);
    if (done) pthread_join(th, NULL); else pthread_detach(th);
    if (!done)
        return lm_fail(c->ctx, LM_E_COMM,
                       "rank %d of %d: NCCL did not connect the ranks in %.0f seconds: another rank is stopped, gone or elsewhere", c->rank,
                       c->size, limit);
    free(m);
    return failed(c, "connecting the ranks", code);
}
lm_err lm_comm_nccl(lm_comm **out, lm_comm *world, lm_dev *dev, const char *lib) {
    lm_ctx *ctx = world->ctx;
    unique_id id;
    memset(&id, 0, sizeof id);
    lm_comm *c = lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *c);
    link_ *l = lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *l);
    lm_err err = c && l ? LM_OK : LM_E_NOMEM;
    if (!err) {
        *l = (link_){ .dev = dev, .world = world };
        *c = (lm_comm){ .name = "nccl",
                        .rank = world->rank,
                        .size = world->size,
                        .local_rank = world->local_rank,
                        .ctx = ctx,
                        .impl = l,
                        .timeout = world->timeout,
                        .step = world->step,
                        .all_reduce = all_reduce,
                        .all_gather = all_gather,
                        .reduce_scatter = reduce_scatter,
                        .broadcast = broadcast,
                        .barrier = barrier,
                        .group = group,
                        .check = check,
                        .stop = stop,
                        .free = release };
        err = find(ctx, lib, &l->nccl);
    }
    /* mixed libraries do not understand each other: the version goes with the id */
    int version = 0;
    if (!err) err = failed(c, "asking for the version", l->nccl.GetVersion(&version));
    if (!err && !c->rank) err = failed(c, "making an id", l->nccl.GetUniqueId(&id));
    err = lm_comm_agree(world, ctx, err, "looking for NCCL");
    double all[1] = { (double)version };
    if (!err) err = lm_comm_sum(world, all, 1);
    if (!err && all[0] != (double)version * c->size)
        err = lm_fail(ctx, LM_E_MISMATCH, "rank %d has NCCL %d.%d.%d, others have another version: all ranks must use the same", c->rank,
                      version / 10000, version / 100 % 100, version % 100);
    err = lm_comm_agree(world, ctx, err, "comparing NCCL's versions");
    if (!err) err = world->broadcast(world, &id, sizeof id, 0);
    if (!err) err = meet_all(c, &id);
    if (err) { lm_free(ctx, l); lm_free(ctx, c); return err; }
    *out = c;
    return LM_OK;
}
