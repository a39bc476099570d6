/* dist_peer.c — the communicator of devices of one host that reach each other's memory: copies by the copy engines, meetings by the streams.
 *
 * A library's collective is a kernel: it holds multiprocessors for as long as the slowest rank takes, and a matrix product whose tiles came out
 * even on all of them then takes one more wave. Here what moves is moved by the copy engines, who waits does so in the stream's front end, and
 * multiprocessors are taken only to add what has arrived. Every rank pulls:
 *   all_gather       meet; copy each other's part from where it lies; meet.
 *   reduce_scatter   meet; copy each other's share of my rows; meet. The copies are added on lane 2, which is where it ends: an addition waits
 *                    until blocks of lane 0 leave multiprocessors, and what meets next on lane 1, a matrix that is about to be used, need not.
 *                    Of bf16 half as much moves; it is added in f32.
 *   all_reduce       the same on my slice in place; meet; copy the others' sums; meet.
 * The first meeting says that a rank's memory is ready to be read, the last that nobody reads it any more. A meeting is a word for each pair and
 * kind, in memory that the processes share: set to 1 by one rank and back to 0 by the other, so the same recorded work can run again and again:
 * nobody sets a word a second time before it has heard from the other at a later meeting, which came after the other's 0.
 * Addresses are exchanged through the world whenever an operation is put on the lane, which for a recorded step is once. Small buffers go through a
 * stage of our own, because small allocations share a handle. Sums are added rank 0 first: the bits are those of TCP and MPI.
 *
 * That all this works is tried when the communicator is made, with a recorded exchange; where it does not, on any rank, the caller takes NCCL. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "dist/dist_int.h"

enum { MOST = 16, WORD = 64, SMALL = 1 << 20, STAGE = 8 << 20, PIECE = 4 << 20 /* numbers that are added at once */, SLOTS = 4 /* pieces that wait for it */ };
enum { HERE = LM_DEV_POINTS, ADDED /* … + SLOTS: points in time: lane 1 is where lane 2 takes over; slot k is free again */ };
typedef enum { READY, REDUCED, DONE, MEETINGS } meeting;
typedef enum { GATHER, SCATTER, REDUCE } kind;
typedef struct { kind k; void *mine, *all; size_t n; void *from; bool half; } op;      /* n: bytes (GATHER) or numbers of a share, of the whole; from: what others read; half: of bf16 */
static size_t each(const op *o) { return o->half ? sizeof(uint16_t) : sizeof(float); }
typedef struct { lm_dev_share key; int rank; void *base; } mapping;
typedef struct {
    lm_dev *dev; lm_comm *world;
    char *words; size_t words_bytes; void *words_dev;
    char *stage; float *scratch, *sum;                              /* scratch: SLOTS pieces of lane 2, one of lane 1; sum: one of each */
    int slot; uint64_t used_in[SLOTS];                              /* the next one; in which recording each was last used, + 1 */
    op *queue; int n, cap; bool grouped;
    lm_dev_share *mine, *theirs; int cap_share;
    mapping *map; int n_map, cap_map;
    bool stopped, left;                                             /* left: the lane is now 2, to which reduce_scatter goes on from lane 1 */
} peer;

static size_t word(const lm_comm *c, meeting m, int from, int to) { return (((size_t)m * (size_t)c->size + (size_t)from) * (size_t)c->size + (size_t)to) * WORD; }
static lm_err meet(lm_comm *c, meeting m) {
    peer *p = c->impl;
    uint32_t *set[MOST], *await[MOST];
    int n = 0;
    for (int r = 0; r < c->size; r++) {
        if (r == c->rank) continue;
        set[n] = (uint32_t *)(void *)((char *)p->words_dev + word(c, m, c->rank, r));
        await[n++] = (uint32_t *)(void *)((char *)p->words_dev + word(c, m, r, c->rank));
    }
    return p->dev->meet(p->dev, set, await, n);
}
/* ---- whose memory is where --------------------------------------------------------------------------------------------------------------- */
static lm_err reach(lm_comm *c, int rank, const lm_dev_share *s, const char **at) {
    peer *p = c->impl;
    for (int i = 0; i < p->n_map; i++)
        if (p->map[i].rank == rank && !memcmp(p->map[i].key.handle, s->handle, sizeof s->handle)) {
            *at = (const char *)p->map[i].base + s->offset;
            return LM_OK;
        }
    if (p->n_map == p->cap_map) {
        const int cap = p->cap_map ? 2 * p->cap_map : 64;
        mapping *m = realloc(p->map, (size_t)cap * sizeof *m);
        if (!m) return LM_E_NOMEM;
        p->map = m; p->cap_map = cap;
    }
    void *base;
    LM_TRY(p->dev->reach(p->dev, s, &base));
    p->map[p->n_map++] = (mapping){ *s, rank, base };
    *at = (const char *)base + s->offset;
    return LM_OK;
}
static lm_err shares(lm_comm *c, op *q, int n) {
    peer *p = c->impl;
    if (n > p->cap_share) {
        free(p->mine); free(p->theirs);
        p->mine = malloc((size_t)n * sizeof *p->mine); p->theirs = malloc((size_t)n * (size_t)c->size * sizeof *p->theirs);
        p->cap_share = p->mine && p->theirs ? n : 0;
        if (!p->cap_share) return LM_E_NOMEM;
    }
    lm_err err = LM_OK;
    memset(p->mine, 0, (size_t)n * sizeof *p->mine);
    for (int i = 0; i < n && !err; i++) err = p->dev->share(p->dev, q[i].from, &p->mine[i]);
    const lm_err met = p->world->all_gather(p->world, p->mine, (size_t)n * sizeof *p->mine, p->theirs);   /* all meet, whatever happened here */
    return err ? err : met;
}
/* ---- what moves ------------------------------------------------------------------------------------------------------------------------------ */
/* own[0, n) of this rank becomes the sum over ranks; from[r]: rank r's numbers there. */
static lm_err add_all(lm_comm *c, float *own, size_t n, const char *const *from) {
    peer *p = c->impl;
    lm_dev *d = p->dev;
    for (size_t at = 0; at < n; at += PIECE) {
        const size_t m = n - at < PIECE ? n - at : PIECE;
        const bool first = c->rank < 2;                        /* a sum of two is the same either way round: ours may stand first */
        float *sum = first ? own + at : p->sum;
        for (int r = 0; r < c->size; r++) {
            float *arrived = p->scratch + (size_t)SLOTS * PIECE;
            const float *x = r == c->rank ? own + at : arrived;
            if (r == c->rank && first) continue;
            float *to = !first && !r ? sum : arrived;
            if (r != c->rank) LM_TRY(d->move(d, to, from[r] + at * sizeof(float), m * sizeof(float)));
            if (to != sum) LM_TRY(d->add(d, sum, sum, x, m));
        }
        if (!first) LM_TRY(d->move(d, own + at, sum, m * sizeof(float)));
    }
    return LM_OK;
}
/* y becomes a (f32, as is y; as o has it where `first`; NULL: nothing yet) and what arrived. */
static lm_err add_to(lm_dev *d, const op *o, float *y, const void *a, bool first, const void *x, size_t n) {
    if (o->half) return d->add_half(d, y, first ? NULL : a, first ? a : NULL, x, n);
    return a ? d->add(d, y, a, x, n) : d->move(d, y, x, n * sizeof *y);
}
/* own[0, o->n) becomes the sum over ranks of part, with the additions on lane 2; lane 1 only copies, and waits for a slot whose piece is not added yet. A point set before a recording began
 * is none within it; nothing is on lane 2 then. */
static lm_err add_beside(lm_comm *c, const op *o, const char *const *from) {
    peer *p = c->impl;
    lm_dev *d = p->dev;
    float *own = o->mine;
    const char *part = (const char *)o->all + (size_t)c->rank * o->n * each(o);
    for (size_t at = 0; at < o->n; at += PIECE) {
        const size_t m = o->n - at < PIECE ? o->n - at : PIECE;
        const bool first = c->rank < 2;
        float *sum = first ? own + at : p->sum + PIECE;
        const void *so_far = first ? part + at * each(o) : NULL;       /* NULL: nothing yet */
        for (int r = 0; r < c->size; r++) {
            if (r == c->rank && first) continue;
            const void *x = part + at * each(o);
            int k = -1;
            if (r != c->rank) {
                k = p->slot; p->slot = (p->slot + 1) % SLOTS;
                float *to = p->scratch + (size_t)k * PIECE;
                if (p->used_in[k] == d->recordings + 1) LM_TRY(d->after(d, ADDED + k));
                p->used_in[k] = d->recordings + 1;
                LM_TRY(d->move(d, to, from[r] + at * each(o), m * each(o)));
                x = to;
            }
            LM_TRY(d->fence(d, HERE));
            LM_TRY(d->on(d, 2));
            LM_TRY(d->after(d, HERE));
            LM_TRY(add_to(d, o, sum, so_far, so_far && so_far != sum, x, m));
            so_far = sum;
            if (k >= 0) LM_TRY(d->fence(d, ADDED + k));
            if (!first && r == c->size - 1) LM_TRY(d->move(d, own + at, sum, m * sizeof(float)));
            LM_TRY(d->on(d, 1));
        }
    }
    return LM_OK;
}
/* Slice r of n numbers: [*at, *at + returned). */
static size_t slice(const lm_comm *c, size_t n, int r, size_t *at) {
    const size_t each = ((n + (size_t)c->size - 1) / (size_t)c->size + 63) & ~(size_t)63;
    *at = each * (size_t)r < n ? each * (size_t)r : n;
    return n - *at < each ? n - *at : each;
}
static lm_err pull(lm_comm *c, const op *o, const char *const *from) {
    peer *p = c->impl;
    lm_dev *d = p->dev;
    const char *share[MOST];
    size_t at, n;
    switch (o->k) {
    case GATHER:
        for (int k = 0; k < c->size; k++) {                            /* each begins with its neighbour: no card is read by all at once */
            const int r = (c->rank + k) % c->size;
            char *to = (char *)o->all + (size_t)r * o->n;
            const char *x = k ? from[r] : o->mine;
            if (to != x) LM_TRY(d->move(d, to, x, o->n));
        }
        return LM_OK;
    case SCATTER:
        for (int r = 0; r < c->size; r++) share[r] = from[r] + (size_t)c->rank * o->n * each(o);
        return add_beside(c, o, share);
    case REDUCE:
        n = slice(c, o->n, c->rank, &at);
        for (int r = 0; r < c->size; r++) share[r] = from[r] + at * sizeof(float);
        return add_all(c, (float *)o->from + at, n, share);
    }
    return LM_OK;
}
static lm_err pull_sums(lm_comm *c, const op *o, const char *const *from) {
    peer *p = c->impl;
    for (int k = 1; k < c->size; k++) {
        const int r = (c->rank + k) % c->size;
        size_t at;
        const size_t n = slice(c, o->n, r, &at);
        if (n) LM_TRY(p->dev->move(p->dev, (float *)o->from + at, from[r] + at * sizeof(float), n * sizeof(float)));
    }
    return LM_OK;
}
static lm_err run(lm_comm *c, op *q, int n) {
    peer *p = c->impl;
    lm_dev *d = p->dev;
    const char *(*from)[MOST] = malloc((size_t)n * sizeof *from);
    bool sums = false, beside = false;
    lm_err err = from ? LM_OK : LM_E_NOMEM;
    err = err ? err : shares(c, q, n);
    for (int i = 0; i < n && !err; i++) {
        sums |= q[i].k == REDUCE; beside |= q[i].k == SCATTER;
        for (int r = 0; r < c->size && !err; r++)
            if (r == c->rank) from[i][r] = q[i].from;
            else err = reach(c, r, &p->theirs[(size_t)r * (size_t)n + (size_t)i], &from[i][r]);
    }
    if (!err) err = meet(c, READY);
    for (int i = 0; i < n && !err; i++) err = pull(c, &q[i], from[i]);
    if (sums && !err) err = meet(c, REDUCED);
    for (int i = 0; i < n && !err; i++) if (q[i].k == REDUCE) err = pull_sums(c, &q[i], from[i]);
    if (!err) err = meet(c, DONE);
    for (int i = 0; i < n && !err; i++) if (q[i].k == REDUCE && q[i].from != q[i].mine) err = d->move(d, q[i].mine, q[i].from, q[i].n * sizeof(float));
    if (beside && !err) err = d->fence(d, HERE);
    if (beside && !err) err = d->on(d, 2);
    if (beside && !err) err = d->after(d, HERE);
    p->left = beside;
    free(from);
    return err;
}
/* What is queued, in runs that the stage holds. */
static lm_err flush(lm_comm *c) {
    peer *p = c->impl;
    lm_err err = LM_OK;
    p->left = false;
    for (int i = 0, first = 0; first < p->n && !err; first = i) {
        size_t used = 0;
        if (p->left) err = p->dev->on(p->dev, 1);
        for (i = first; i < p->n && !err; i++) {
            op *o = &p->queue[i];
            const size_t bytes = o->k == GATHER ? o->n : o->k == SCATTER ? o->n * each(o) * (size_t)c->size : o->n * sizeof(float);
            o->from = o->k == SCATTER ? o->all : o->mine;
            if (bytes >= SMALL) continue;
            if (used + bytes > STAGE) break;
            err = p->dev->move(p->dev, p->stage + used, o->from, bytes);
            o->from = p->stage + used;
            used += (bytes + 255) & ~(size_t)255;
        }
        if (!err) err = run(c, p->queue + first, i - first);
    }
    p->n = 0;
    return err;
}
static lm_err put(lm_comm *c, op o) {
    peer *p = c->impl;
    if (p->n == p->cap) {
        const int cap = p->cap ? 2 * p->cap : 64;
        op *q = realloc(p->queue, (size_t)cap * sizeof *q);
        if (!q) return LM_E_NOMEM;
        p->queue = q; p->cap = cap;
    }
    p->queue[p->n++] = o;
    return p->grouped ? LM_OK : flush(c);
}
static lm_err all_reduce(lm_comm *c, float *buf, int64_t n) { return n ? put(c, (op){ .k = REDUCE, .mine = buf, .n = (size_t)n }) : LM_OK; }
static lm_err all_gather(lm_comm *c, const void *mine, size_t bytes, void *all) {
    return bytes ? put(c, (op){ .k = GATHER, .mine = (void *)(uintptr_t)mine, .all = all, .n = bytes }) : LM_OK;
}
static lm_err reduce_scatter(lm_comm *c, const float *all, int64_t n, float *mine) {
    return n ? put(c, (op){ .k = SCATTER, .mine = mine, .all = (void *)(uintptr_t)all, .n = (size_t)n }) : LM_OK;
}
static lm_err reduce_scatter_half(lm_comm *c, const uint16_t *all, int64_t n, float *mine) {
    return n ? put(c, (op){ .k = SCATTER, .mine = mine, .all = (void *)(uintptr_t)all, .n = (size_t)n, .half = true }) : LM_OK;
}
static lm_err broadcast(lm_comm *c, void *buf, size_t bytes, int root) {
    (void)buf; (void)bytes; (void)root;
    return lm_fail(c->ctx, LM_E_UNSUPPORTED, "a broadcast between devices: the world has it");
}
static lm_err barrier(lm_comm *c) { peer *p = c->impl; return p->world->barrier(p->world); }
static lm_err group(lm_comm *c, bool open) { peer *p = c->impl; p->grouped = open; return open ? LM_OK : flush(c); }
static lm_err check(lm_comm *c) { peer *p = c->impl; return p->stopped || !p->world->check ? LM_OK : p->world->check(p->world); }
/* Whoever waits is let go, again and again: recorded work has many meetings. The mapping stays for as long as the process. */
typedef struct { char *words; size_t bytes; } released;
static void *let_go(void *arg) {
    const released r = *(released *)arg;
    free(arg);
    for (;;) {
        for (size_t i = 0; i < r.bytes; i += WORD) __atomic_store_n((uint32_t *)(void *)(r.words + i), 1u, __ATOMIC_RELEASE);
        nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
    }
    return NULL;
}
static void stop(lm_comm *c) {
    peer *p = c->impl;
    pthread_t th;
    released *r = p->stopped ? NULL : malloc(sizeof *r);
    if (r) {
        *r = (released){ p->words, p->words_bytes };
        if (!pthread_create(&th, NULL, let_go, r)) pthread_detach(th); else free(r);
    }
    p->stopped = true;
    if (p->world->stop) p->world->stop(p->world);
}
static void release(lm_comm *c) {
    peer *p = c->impl;
    lm_dev *d = p->dev;
    for (int i = 0; i < p->n_map; i++) d->unreach(d, p->map[i].base);
    d->free(d, p->stage); d->free(d, p->scratch); d->free(d, p->sum);
    if (p->words && !p->stopped) { if (p->words_dev) d->words(d, p->words, p->words_bytes, NULL); munmap(p->words, p->words_bytes); }
    free(p->queue); free(p->mine); free(p->theirs); free(p->map);
    lm_free(c->ctx, p); lm_free(c->ctx, c);
}
/* ---- making it -------------------------------------------------------------------------------------------------------------------------------- */
static lm_err map_words(lm_comm *c) {
    peer *p = c->impl;
    char name[64] = "";
    int fd = -1;
    p->words_bytes = ((size_t)MEETINGS * (size_t)c->size * (size_t)c->size * WORD + 4095) & ~(size_t)4095;
    if (!c->rank) {
        for (int i = 0; i < 100 && fd < 0; i++) {
            snprintf(name, sizeof name, "/loam-%ld-%d", (long)getpid(), i);
            fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
        }
        if (fd >= 0 && ftruncate(fd, (off_t)p->words_bytes)) { close(fd); shm_unlink(name); fd = -1; }
        if (fd < 0) name[0] = 0;
    }
    LM_TRY(p->world->broadcast(p->world, name, sizeof name, 0));
    if (c->rank && *name) fd = shm_open(name, O_RDWR, 0600);
    void *m = fd >= 0 ? mmap(NULL, p->words_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (fd >= 0) close(fd);
    const lm_err all = p->world->barrier(p->world);                    /* all have it, or have tried */
    if (!c->rank && *name) shm_unlink(name);
    LM_TRY(all);
    if (m == MAP_FAILED) return lm_fail(c->ctx, LM_E_UNSUPPORTED, "rank %d: no memory is shared with rank 0: %s", c->rank, strerror(errno));
    p->words = m;
    return p->dev->words(p->dev, p->words, p->words_bytes, &p->words_dev);
}
/* An all_gather, once as it is put and twice as it is recorded. */
static lm_err try_it(lm_comm *c) {
    enum { N = 4096 };
    peer *p = c->impl;
    lm_dev *d = p->dev;
    int32_t v[N];
    void *work = NULL;
    op o = { .k = GATHER, .mine = p->stage, .all = p->scratch, .n = sizeof v, .from = p->stage };
    lm_err err = LM_OK;
    for (int pass = 0; pass < 3; pass++) {
        for (int i = 0; i < N; i++) v[i] = i * 31 + c->rank * 7919 + pass;
        if (!err) err = d->put(d, p->stage, v, sizeof v);
        if (!err) err = d->sync(d);
        if (pass == 1 && !err) {
            err = d->record(d);
            if (!err) {
                const lm_err e = run(c, &o, 1), e2 = d->recorded(d, &work);
                err = e ? e : e2;
            }
        }
        err = lm_comm_agree(p->world, c->ctx, err, "recording an exchange");
        if (!err) err = pass ? d->launch(d, work) : run(c, &o, 1);
        bool done = false;
        for (const double t0 = lm_now(); !err && !done;) {
            err = d->idle(d, &done);
            if (!err && !done && lm_now() - t0 > 20) { stop(c); err = lm_fail(c->ctx, LM_E_COMM, "rank %d: a meeting of devices does not end", c->rank); }
        }
        for (int r = 0; r < c->size && !err; r++) {
            err = d->get(d, v, (const char *)(const void *)p->scratch + (size_t)r * sizeof v, sizeof v);
            if (!err) err = d->sync(d);
            for (int i = 0; i < N && !err; i++)
                if (v[i] != i * 31 + r * 7919 + pass) err = lm_fail(c->ctx, LM_E_DEVICE, "rank %d: rank %d's memory reads wrong", c->rank, r);
        }
        err = lm_comm_agree(p->world, c->ctx, err, "a trial exchange");
    }
    d->forget(d, work);
    return err;
}
lm_err lm_comm_peer(lm_comm **out, lm_comm *world, lm_dev *dev) {
    lm_ctx *ctx = world->ctx;
    lm_comm *c = lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *c);
    peer *p = lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *p);
    lm_err err = c && p ? LM_OK : LM_E_NOMEM;
    if (!err && (world->size > MOST || !dev->meet)) err = lm_fail(ctx, LM_E_UNSUPPORTED, "devices that meet by themselves: up to %d ranks with CUDA", MOST);
    err = lm_comm_agree(world, ctx, err, "looking for devices that meet by themselves");
    if (err) { lm_free(ctx, p); lm_free(ctx, c); return err; }
    *p = (peer){ .dev = dev, .world = world };
    *c = (lm_comm){ .name = "peer",
                    .rank = world->rank,
                    .size = world->size,
                    .local_rank = world->local_rank,
                    .ctx = ctx,
                    .impl = p,
                    .timeout = world->timeout,
                    .step = world->step,
                    .all_reduce = all_reduce,
                    .all_gather = all_gather,
                    .reduce_scatter = reduce_scatter,
                    .reduce_scatter_half = reduce_scatter_half,
                    .broadcast = broadcast,
                    .barrier = barrier,
                    .group = group,
                    .check = check,
                    .stop = stop,
                    .free = release };
    err = lm_comm_agree(world, ctx, map_words(c), "sharing memory between the ranks");
    if (!err) {
        lm_err e = dev->alloc(dev, STAGE, (void **)&p->stage);
        if (!e) e = dev->alloc(dev, (size_t)(SLOTS + 1) * PIECE * sizeof(float), (void **)&p->scratch);
        if (!e && c->rank > 1) e = dev->alloc(dev, (size_t)2 * PIECE * sizeof(float), (void **)&p->sum);
        err = lm_comm_agree(world, ctx, e, "memory for the exchange between devices");
    }
    if (!err) err = try_it(c);
    if (err) { release(c); return err; }
    *out = c;
    return LM_OK;
}
lm_err lm_comm_devices(lm_comm **out, lm_comm *world, lm_dev *dev, const char *link, const char *nccl) {
    if (!link || !*link) link = "auto";
    if (strcmp(link, "auto") && strcmp(link, "peer") && strcmp(link, "nccl"))
        return lm_fail(world->ctx, LM_E_CONFIG, "devices are linked by \"%s\"; auto, peer and nccl are known", link);
    if (strcmp(link, "nccl")) {
        const lm_err e = lm_comm_peer(out, world, dev);
        if (!e || !strcmp(link, "peer")) return e;
        if (!world->rank) lm_log(world->ctx, LM_LOG_WARN, "dist", "cards meet through NCCL, for they do not by themselves: %s (LOAM_LINK=nccl: not tried)", lm_error(world->ctx));
        lm_error_clear(world->ctx);
    }
    return lm_comm_nccl(out, world, dev, nccl);
}
