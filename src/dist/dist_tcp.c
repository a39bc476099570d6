/* dist_tcp.c — the world without MPI: ranks that know RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT (torchrun, SLURM scripts) meet at rank 0.
 *
 * A star: rank 0 listens, every other rank connects once and says who it is. An operation is a message to rank 0 and one back; rank 0 adds and
 * hands round. That is right for what it is there for: a few bytes of agreement a step, NCCL's unique id, the tensors of a checkpoint. Gradients
 * of device runs go through NCCL; on processors they go through here too, correct (sums rank 0 first, the bits of dist_mpi.c) but not fast.
 * Every message begins with the operation, its number and size, so ranks that are in different calls say so instead of mixing bytes up. A rank
 * that ends closes its connection, which the others see: in the next operation, or at once in check(). Nothing waits longer than `timeout`. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "dist/dist_int.h"

enum { PROTOCOL = 1, PIECE = 1 << 16 };
typedef enum { OP_HELLO, OP_ALL_REDUCE, OP_ALL_GATHER, OP_REDUCE_SCATTER, OP_BROADCAST, OP_BARRIER } op;
static const char *const op_name[] = { "meeting", "all_reduce", "all_gather", "reduce_scatter", "broadcast", "barrier" };
typedef struct { char magic[4]; uint32_t op; uint64_t number, bytes; int32_t rank, size; } head;
typedef struct { int *peer; /* rank 0: by rank; others: [0] */ uint64_t number; float *piece; bool over; } star;

static int to(const lm_comm *c, int r) { const star *s = c->impl; return c->rank ? s->peer[0] : s->peer[r]; }
/* The first failure is told; after it the ranks are no longer together, and what else is asked fails at once and leaves the sentence. */
static lm_err gone(lm_comm *c, op o, int r, const char *why) {
    ((star *)c->impl)->over = true;
    return lm_fail(c->ctx, LM_E_COMM, "rank %d of %d: %s, step %lld: rank %d %s", c->rank, c->size, op_name[o], (long long)c->step, r, why);
}
/* Wait until the socket can be read or written, until `end`. */
static lm_err ready(lm_comm *c, op o, int r, short what, double end) {
    struct pollfd p = { .fd = to(c, r), .events = what };
    for (;;) {
        const double left = c->timeout > 0 ? end - lm_now() : 1;
        char why[80];
        snprintf(why, sizeof why, "did not answer for %.0f seconds: it is stopped, gone or elsewhere", c->timeout);
        if (left <= 0) return gone(c, o, r, why);
        const int n = poll(&p, 1, (int)(left < 1 ? left * 1000 + 1 : 1000));
        if (n > 0) return LM_OK;
        if (n < 0 && errno != EINTR) return gone(c, o, r, strerror(errno));
    }
}
static lm_err send_all(lm_comm *c, op o, int r, const void *p, size_t n, double end) {
    for (const char *x = p; n;) {
        const ssize_t k = send(to(c, r), x, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (k > 0) { x += k; n -= (size_t)k; continue; }
        if (k < 0 && errno != EAGAIN && errno != EINTR) return gone(c, o, r, "has gone: its connection is closed");
        LM_TRY(ready(c, o, r, POLLOUT, end));
    }
    return LM_OK;
}
static lm_err recv_all(lm_comm *c, op o, int r, void *p, size_t n, double end) {
    for (char *x = p; n;) {
        const ssize_t k = recv(to(c, r), x, n, MSG_DONTWAIT);
        if (k > 0) { x += k; n -= (size_t)k; continue; }
        if (!k || (errno != EAGAIN && errno != EINTR)) return gone(c, o, r, "has gone: its connection is closed");
        LM_TRY(ready(c, o, r, POLLIN, end));
    }
    return LM_OK;
}
static lm_err send_head(lm_comm *c, op o, int r, uint64_t number, uint64_t bytes, double end) {
    const head h = { { 'l', 'o', 'a', 'm' }, o, number, bytes, c->rank, c->size };
    return send_all(c, o, r, &h, sizeof h, end);
}
static lm_err recv_head(lm_comm *c, op o, int r, uint64_t number, uint64_t bytes, double end) {
    head h;
    LM_TRY(recv_all(c, o, r, &h, sizeof h, end));
    if (memcmp(h.magic, "loam", 4)) return gone(c, o, r, "speaks another language: something else has this port");
    if (h.op == o && h.number == number && h.bytes == bytes) return LM_OK;
    char why[200];
    snprintf(why, sizeof why,
             "is in another call (%s number %llu of %llu bytes; here number %llu of %llu): the ranks do not run the same program on the "
             "same configuration",
             h.op < LM_COUNT(op_name) ? op_name[h.op] : "an unknown one", (unsigned long long)h.number, (unsigned long long)h.bytes,
             (unsigned long long)number, (unsigned long long)bytes);
    return gone(c, o, r, why);
}
static double until(const lm_comm *c) { return lm_now() + c->timeout; }
/* Every rank's bytes at rank 0 in `all`, by rank; mine may be there. */
static lm_err gather(lm_comm *c, op o, const void *mine, size_t bytes, char *all, double end) {
    star *s = c->impl;
    const uint64_t number = s->number++;
    if (s->over) return LM_E_COMM;
    if (c->rank) { LM_TRY(send_head(c, o, 0, number, bytes, end)); return send_all(c, o, 0, mine, bytes, end); }
    if (all + 0 != mine && bytes) memmove(all, mine, bytes);
    for (int r = 1; r < c->size; r++) {
        LM_TRY(recv_head(c, o, r, number, bytes, end));
        LM_TRY(recv_all(c, o, r, all + (size_t)r * bytes, bytes, end));
    }
    return LM_OK;
}
/* The same bytes from rank 0 to all. */
static lm_err spread(lm_comm *c, op o, void *p, size_t bytes, double end) {
    if (c->rank) return recv_all(c, o, 0, p, bytes, end);
    for (int r = 1; r < c->size; r++) LM_TRY(send_all(c, o, r, p, bytes, end));
    return LM_OK;
}
static lm_err all_gather(lm_comm *c, const void *mine, size_t bytes, void *all) {
    const double end = until(c);
    char *own = (char *)all + (size_t)c->rank * bytes;
    if (own != mine && bytes) memmove(own, mine, bytes);
    LM_TRY(gather(c, OP_ALL_GATHER, own, bytes, all, end));
    return spread(c, OP_ALL_GATHER, all, bytes * (size_t)c->size, end);
}
/* Sums of pieces: rank 0 has everyone's piece behind one another. */
static void sum(const lm_comm *c, const float *all, size_t n, float *out) {
    memmove(out, all, n * sizeof *out);
    for (int r = 1; r < c->size; r++) for (size_t i = 0; i < n; i++) out[i] += all[(size_t)r * n + i];
}
static lm_err all_reduce(lm_comm *c, float *buf, int64_t n) {
    const star *s = c->impl;
    for (int64_t at = 0; at < n; at += PIECE) {
        const double end = until(c);
        const size_t k = (size_t)lm_min64(PIECE, n - at);
        LM_TRY(gather(c, OP_ALL_REDUCE, buf + at, k * sizeof *buf, (char *)s->piece, end));
        if (!c->rank) sum(c, s->piece, k, buf + at);
        LM_TRY(spread(c, OP_ALL_REDUCE, buf + at, k * sizeof *buf, end));
    }
    return LM_OK;
}
static lm_err reduce_scatter(lm_comm *c, const float *all, int64_t n, float *mine) {
    const star *s = c->impl;
    for (int to_rank = 0; to_rank < c->size; to_rank++)
        for (int64_t at = 0; at < n; at += PIECE) {
            const double end = until(c);
            const size_t k = (size_t)lm_min64(PIECE, n - at);
            LM_TRY(gather(c, OP_REDUCE_SCATTER, all + to_rank * n + at, k * sizeof *all, (char *)s->piece, end));
            if (!c->rank) sum(c, s->piece, k, to_rank ? s->piece : mine + at);
            if (!c->rank && to_rank) LM_TRY(send_all(c, OP_REDUCE_SCATTER, to_rank, s->piece, k * sizeof *all, end));
            if (c->rank && c->rank == to_rank) LM_TRY(recv_all(c, OP_REDUCE_SCATTER, 0, mine + at, k * sizeof *all, end));
        }
    return LM_OK;
}
static lm_err broadcast(lm_comm *c, void *buf, size_t bytes, int root) {
    star *s = c->impl;
    const double end = until(c);
    const uint64_t number = s->number++;
    if (s->over) return LM_E_COMM;
    if (c->rank) LM_TRY(send_head(c, OP_BROADCAST, 0, number, bytes, end));       /* all say where they are, so that differing calls are found out */
    for (int r = 1; r < c->size && !c->rank; r++) LM_TRY(recv_head(c, OP_BROADCAST, r, number, bytes, end));
    if (root && c->rank == root) LM_TRY(send_all(c, OP_BROADCAST, 0, buf, bytes, end));
    if (root && !c->rank) LM_TRY(recv_all(c, OP_BROADCAST, root, buf, bytes, end));
    return spread(c, OP_BROADCAST, buf, bytes, end);
}
static lm_err barrier(lm_comm *c) {
    const double end = until(c);
    char none = 0, ok = 0;
    LM_TRY(gather(c, OP_BARRIER, &none, 0, &ok, end));
    return spread(c, OP_BARRIER, &ok, 1, end);
}
static lm_err check(lm_comm *c) {
    for (int r = 0; r < c->size; r++) {
        char x;
        if (r == c->rank || (c->rank && r)) continue;
        const ssize_t k = recv(to(c, r), &x, 1, MSG_PEEK | MSG_DONTWAIT);
        if (!k || (k < 0 && errno != EAGAIN && errno != EINTR))
            return lm_fail(c->ctx, LM_E_COMM, "rank %d has gone: its connection to rank %d is closed", r, c->rank);
    }
    return LM_OK;
}
/* The others see it now, not when this process is gone: its driver may take seconds to let go of a card that failed. */
static void stop(lm_comm *c) {
    star *s = c->impl;
    for (int r = 0; r < c->size; r++) if (s->peer[r] >= 0) shutdown(s->peer[r], SHUT_RDWR);
    s->over = true;
}
static void release(lm_comm *c) {
    star *s = c->impl;
    for (int r = 0; s && s->peer && r < c->size; r++) if (s->peer[r] >= 0) close(s->peer[r]);
    if (s) { lm_free(c->ctx, s->peer); lm_free(c->ctx, s->piece); }
    lm_free(c->ctx, s); lm_free(c->ctx, c);
}
/* ---- meeting --------------------------------------------------------------------------------------------------------------------------- */
static void ordinary(int fd) { const int one = 1; setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); fcntl(fd, F_SETFD, FD_CLOEXEC); }
static lm_err listen_at(lm_comm *c, const lm_dist_env *env, int *fd) {
    const struct addrinfo hint = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
    struct addrinfo *list = NULL;
    char port[16];
    int why = 0;
    snprintf(port, sizeof port, "%d", env->master_port);
    *fd = -1;
    const int e = getaddrinfo(NULL, port, &hint, &list);
    for (int family = AF_INET6; !e && *fd < 0; family = AF_INET) {       /* one socket for both, where the host has version 6 */
        for (struct addrinfo *a = list; a && *fd < 0; a = a->ai_next) {
            const int one = 1, zero = 0;
            if (a->ai_family != family || (*fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol)) < 0) continue;
            setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
            if (family == AF_INET6) setsockopt(*fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
            if (bind(*fd, a->ai_addr, a->ai_addrlen) || listen(*fd, c->size)) { why = errno; close(*fd); *fd = -1; }
        }
        if (family == AF_INET) break;
    }
    if (list) freeaddrinfo(list);
    if (*fd >= 0) return LM_OK;
    return lm_fail(c->ctx, LM_E_COMM, "rank 0 cannot listen at port %d (MASTER_PORT): %s; choose another", env->master_port,
                   why ? strerror(why)
                   : e ? gai_strerror(e)
                       : "no address");
}
static lm_err accept_all(lm_comm *c, const lm_dist_env *env, double end) {
    star *s = c->impl;
    int fd, here = 1;
    LM_TRY(listen_at(c, env, &fd));
    lm_err err = LM_OK;
    while (here < c->size && !err) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        const double left = end - lm_now();
        if (c->timeout > 0 && left <= 0) {
            lm_str who = { .ctx = c->ctx };
            for (int r = 1; r < c->size; r++) if (s->peer[r] < 0) lm_str_printf(&who, "%s%d", who.n ? ", " : "", r);
            err = lm_fail(c->ctx, LM_E_COMM, "rank 0 of %d waited %.0f seconds at port %d, but of the others %d came; missing: rank %s",
                          c->size, c->timeout, env->master_port, here - 1, who.p ? who.p : "");
            lm_str_free(&who);
            break;
        }
        if (poll(&p, 1, 200) <= 0) continue;
        const int k = accept(fd, NULL, NULL);
        if (k < 0) continue;
        /* who is it? Read through slot 0, which rank 0 has no other use for. */
        head h;
        s->peer[0] = k;
        const lm_err e = recv_all(c, OP_HELLO, 0, &h, sizeof h, c->timeout > 5 || c->timeout <= 0 ? lm_now() + 5 : end);
        s->peer[0] = -1; s->over = false;
        if (e || memcmp(h.magic, "loam", 4) || h.op != OP_HELLO) { close(k); continue; }          /* not one of ours */
        if (h.bytes != PROTOCOL)
            err = lm_fail(c->ctx, LM_E_MISMATCH, "rank %d is of another version of loam: all ranks must run the same program", h.rank);
        else if (h.size != c->size || h.rank < 1 || h.rank >= c->size)
            err = lm_fail(c->ctx, LM_E_CONFIG, "a process says that it is rank %d of %d; this is rank 0 of %d", h.rank, h.size, c->size);
        else if (s->peer[h.rank] >= 0) err = lm_fail(c->ctx, LM_E_CONFIG, "two processes say that they are rank %d of %d", h.rank, c->size);
        if (err) { close(k); break; }
        s->peer[h.rank] = k; here++;
        ordinary(k);
    }
    close(fd);
    return err;
}
static lm_err connect_to(lm_comm *c, const lm_dist_env *env, double end) {
    star *s = c->impl;
    const struct addrinfo hint = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    char port[16];
    snprintf(port, sizeof port, "%d", env->master_port);
    for (int e = 0, why = 0;;) {
        struct addrinfo *list = NULL;
        e = getaddrinfo(env->master_addr, port, &hint, &list);
        for (struct addrinfo *a = e ? NULL : list; a && s->peer[0] < 0; a = a->ai_next) {
            const int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
            if (fd < 0) continue;
            if (!connect(fd, a->ai_addr, a->ai_addrlen)) s->peer[0] = fd; else { why = errno; close(fd); }
        }
        if (list) freeaddrinfo(list);
        if (s->peer[0] >= 0) break;
        if (c->timeout > 0 && lm_now() > end)
            return lm_fail(c->ctx, LM_E_COMM,
                           "rank %d of %d cannot reach rank 0 at %s port %d (MASTER_ADDR, MASTER_PORT) in %.0f seconds: %s", c->rank,
                           c->size, env->master_addr, env->master_port, c->timeout, e ? gai_strerror(e) : strerror(why));
        poll(NULL, 0, 50);
    }
    ordinary(s->peer[0]);
    return send_head(c, OP_HELLO, 0, 0, PROTOCOL, end);
}
lm_err lm_comm_tcp(lm_ctx *ctx, const lm_dist_env *env, double timeout, lm_comm **out) {
    if (!env->master_addr)
        return lm_fail(ctx, LM_E_CONFIG,
                       "RANK=%d and WORLD_SIZE=%d are set, but MASTER_ADDR is not: where rank 0 is, the others cannot know", env->rank,
                       env->size);
    lm_comm *c = lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *c);
    star *s = lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *s);
    if (!c || !s) { lm_free(ctx, c); lm_free(ctx, s); return LM_E_NOMEM; }
    *c = (lm_comm){ .name = "tcp",
                    .rank = env->rank,
                    .size = env->size,
                    .local_rank = env->local_rank,
                    .ctx = ctx,
                    .impl = s,
                    .timeout = timeout,
                    .all_reduce = all_reduce,
                    .all_gather = all_gather,
                    .reduce_scatter = reduce_scatter,
                    .broadcast = broadcast,
                    .barrier = barrier,
                    .check = check,
                    .stop = stop,
                    .free = release };
    s->peer = lm_alloc(ctx, LM_MEM_MISC, (size_t)c->size * sizeof *s->peer);
    s->piece = lm_alloc(ctx, LM_MEM_SCRATCH, (size_t)(c->rank ? 1 : c->size) * PIECE * sizeof *s->piece);
    for (int r = 0; s->peer && r < c->size; r++) s->peer[r] = -1;
    lm_err err = s->peer && s->piece ? LM_OK : LM_E_NOMEM;
    if (!err) err = c->rank ? connect_to(c, env, lm_now() + timeout) : accept_all(c, env, lm_now() + timeout);
    if (!err) err = barrier(c);
    if (err) { release(c); return err; }
    *out = c;
    return LM_OK;
}
