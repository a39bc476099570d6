/* nccl.c — libnccl.so.2 for tests: the calls that loam makes, between processes of one host over shared memory, for host memory.
 *
 * A stream is the fake device's (fake_dev.h): its first field puts a function on the lane. A collective posts its data, says "not yet" until all
 * ranks have posted theirs, then adds rank 0 first. Calls inside a group wait for its end, as NCCL's do. Ranks that meet in different calls get an
 * asynchronous error. MOCK_NCCL_VERSION is what GetVersion says; with MOCK_NCCL_FAIL
 * ranks cannot meet. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <stdatomic.h>
#include <time.h>

enum { RANKS = 8, SLOT = 1 << 21, OK = 0, INVALID_USAGE = 5, REMOTE = 6, CALLS = 256 };
typedef enum { REDUCE, GATHER, SCATTER, BCAST } kind;
typedef struct { _Atomic uint64_t posted, done; uint64_t what[2]; char data[2][SLOT]; } slot;
typedef struct { _Atomic int here, error; slot rank[RANKS]; } room;
typedef struct comm { room *r; int rank, size; uint64_t next; _Atomic int stopped; char name[64]; } comm;
typedef struct { void (*put)(void *lane, int (*f)(void *arg), const void *arg, size_t bytes); } stream;
typedef struct { comm *c; kind k; const char *send; char *recv; size_t n, size; int root, posted; } call;
typedef struct { char internal[128]; } unique_id;
#define API __attribute__((visibility("default")))

static int go(void *arg) {
    call *a = arg;
    comm *c = a->c;
    if (c->stopped) return 0;
    const uint64_t k = c->next;
    slot *me = &c->r->rank[c->rank];
    const size_t bytes = a->n * a->size, all = a->k == SCATTER ? bytes * (size_t)c->size : bytes;
    if (all > SLOT) { c->r->error = INVALID_USAGE; return 0; }
    if (me->posted == k) {
        for (int r = 0; r < c->size; r++) if (c->r->rank[r].done + 1 < k) return 1;           /* the slot is still read */
        me->what[k % 2] = (uint64_t)a->k << 56 | (uint64_t)bytes;
        if (a->k != BCAST || c->rank == a->root) memcpy(me->data[k % 2], a->send, all);
        me->posted = k + 1;
    }
    for (int r = 0; r < c->size; r++) if (c->r->rank[r].posted <= k) return 1;
    for (int r = 0; r < c->size; r++) if (c->r->rank[r].what[k % 2] != me->what[k % 2]) { c->r->error = INVALID_USAGE; return 1; }
    const size_t at = a->k == SCATTER ? bytes * (size_t)c->rank : 0;
    if (a->k == GATHER) for (int r = 0; r < c->size; r++) memcpy(a->recv + (size_t)r * bytes, c->r->rank[r].data[k % 2], bytes);
    else if (a->k == BCAST) memcpy(a->recv, c->r->rank[a->root].data[k % 2], bytes);
    else
        for (size_t i = 0; i < a->n; i++) {
            float s = 0, x;
            for (int r = 0; r < c->size; r++) { memcpy(&x, c->r->rank[r].data[k % 2] + at + i * sizeof x, sizeof x); s = r ? s + x : x; }
            memcpy(a->recv + i * sizeof s, &s, sizeof s);
        }
    me->done = k + 1;
    c->next = k + 1;
    return 0;
}
static int depth, n_held;
static struct { call a; void *s; } held[CALLS];
static int put(call a, void *s) {
    if (depth) { if (n_held == CALLS) return INVALID_USAGE; held[n_held].a = a; held[n_held++].s = s; return OK; }
    ((stream *)s)->put(s, go, &a, sizeof a);
    return OK;
}
API int ncclGetVersion(int *v) { const char *e = getenv("MOCK_NCCL_VERSION"); *v = e ? atoi(e) : 22703; return OK; }
API int ncclGetUniqueId(unique_id *id) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/loam-mock-%d-%lld", (int)getpid(), (long long)t.tv_nsec + (long long)t.tv_sec * 1000000000);
    return OK;
}
API int ncclCommInitRank(comm **out, int size, unique_id id, int rank) {
    if (size > RANKS || getenv("MOCK_NCCL_FAIL")) return INVALID_USAGE;
    comm *c = calloc(1, sizeof *c);
    const int fd = shm_open(id.internal, O_RDWR | O_CREAT, 0600);
    if (!c || fd < 0 || ftruncate(fd, sizeof(room))) return REMOTE;
    c->r = mmap(NULL, sizeof(room), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (c->r == MAP_FAILED) return REMOTE;
    c->rank = rank; c->size = size;
    snprintf(c->name, sizeof c->name, "%.60s", id.internal);
    c->r->here++;
    while (c->r->here < size) usleep(200);
    shm_unlink(c->name);
    *out = c;
    return OK;
}
API int ncclCommDestroy(comm *c) { munmap(c->r, sizeof(room)); free(c); return OK; }
/* Work on the lanes may still look at it. As NCCL's, it does not come back while graphs are alive: here with MOCK_NCCL_SLOW_ABORT never. */
API int ncclCommAbort(comm *c) {
    c->stopped = 1;
    while (getenv("MOCK_NCCL_SLOW_ABORT")) sleep(1);
    return OK;
}
API int ncclCommGetAsyncError(comm *c, int *e) { *e = c->r->error; return OK; }
API int ncclGroupStart(void) { depth++; return OK; }
API int ncclGroupEnd(void) {
    if (--depth) return OK;
    for (int i = 0; i < n_held; i++) ((stream *)held[i].s)->put(held[i].s, go, &held[i].a, sizeof held[i].a);
    n_held = 0;
    return OK;
}
API int ncclAllReduce(const void *send, void *recv, size_t n, int type, int op, comm *c, void *s) {
    return type == 7 && op == 0 ? put((call){ c, REDUCE, send, recv, n, 4, 0, 0 }, s) : INVALID_USAGE;
}
API int ncclReduceScatter(const void *send, void *recv, size_t n, int type, int op, comm *c, void *s) {
    return type == 7 && op == 0 ? put((call){ c, SCATTER, send, recv, n, 4, 0, 0 }, s) : INVALID_USAGE;
}
API int ncclAllGather(const void *send, void *recv, size_t n, int type, comm *c, void *s) {
    return type == 0 ? put((call){ c, GATHER, send, recv, n, 1, 0, 0 }, s) : INVALID_USAGE;
}
API int ncclBroadcast(const void *send, void *recv, size_t n, int type, int root, comm *c, void *s) {
    return type == 0 ? put((call){ c, BCAST, send, recv, n, 1, root, 0 }, s) : INVALID_USAGE;
}
API const char *ncclGetLastError(comm *c) { (void)c; return getenv("MOCK_NCCL_FAIL") ? "Duplicate GPU detected : rank 0 and rank 1\nmore of it" : ""; }
API const char *ncclGetErrorString(int e) {
    return e == OK ? "no error" : e == INVALID_USAGE ? "invalid usage" : "remote process exited or there was a network error";
}
