/* stream.c — see stream.h. One mutex: what it guards are counters, a few thousand times a second. */
#define _GNU_SOURCE 1
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include "base/file_sys.h"
#include "base/stream.h"

enum { READERS = 2, CHUNK = 1 << 20, PAGE = 4096 };
/* at: the place in the ring, of the page its first byte is in; back: so many pieces before it is the last that has been where it goes. */
typedef struct { int fd; const char *path; int64_t from; size_t bytes, skip, at, whole; uint64_t back; } piece;
struct lm_stream {
    lm_ctx *ctx; piece *p; int n; char *ring, *alloc; int *fd; int n_fd; bool direct;
    pthread_mutex_t lock; pthread_cond_t loaded_cond, room_cond;
    pthread_t thread[READERS]; int n_thread;
    _Atomic uint64_t loaded;                                              /* pieces before this one are there */
    uint64_t done, next;                                                  /* next: the piece whose chunks are being handed out */
    size_t handed; int *left;                                             /* of it; chunks of a piece not read yet */
    bool stop, once /* all of them fit: read once */; int error; const char *path /* where it was */;
    uint64_t bytes; double waited;
};

static size_t room_of(const lm_stretch *s) { return ((size_t)(s->offset % PAGE) + s->bytes + PAGE - 1) / PAGE * PAGE; }
size_t lm_stream_least(const lm_stretch *s, int n) {
    size_t most = 0, sum = 0;
    for (int i = 0; i < n; i++) { const size_t r = room_of(&s[i]); most = r > most ? r : most; sum += r; }
    return sum < 2 * most ? sum : 2 * most;
}
/* Places in order, from the ring's start again where its end is near; then how far back the last piece is that overlaps each. */
static void lay(lm_stream *s, const lm_stretch *x, size_t ring) {
    size_t at = 0;
    for (int i = 0; i < s->n; i++) {
        piece *p = &s->p[i];
        p->whole = room_of(&x[i]); p->skip = (size_t)(x[i].offset % PAGE); p->from = x[i].offset - (int64_t)p->skip; p->bytes = x[i].bytes;
        if (at + p->whole > ring) at = 0;
        p->at = at;
        at += p->whole;
    }
    for (int i = 0; i < s->n; i++) {
        uint64_t b = 1;
        for (; b < (uint64_t)s->n; b++) {
            const piece *p = &s->p[i], *q = &s->p[(i + s->n - (int)b) % s->n];
            if (q->at < p->at + p->whole && p->at < q->at + q->whole) break;
        }
        s->p[i].back = b;
        s->once = (!i || s->once) && b == (uint64_t)s->n;
    }
}
/* One chunk; 0 or errno. */
static int read_chunk(const lm_stream *s, const piece *p, size_t at, size_t n) {
    const size_t want = p->skip + p->bytes;                               /* the rest of the last page may be past the file's end */
    char *to = s->ring + p->at + at;
    while (n) {
        const ssize_t got = lm_sys_pread(p->fd, to, n, p->from + (int64_t)at);
        if (got < 0) return errno;
        if (!got) return at >= want ? 0 : EIO;
        if (at + (size_t)got >= want) return 0;
        /* a short read: on from the last whole page, since where and how much are pages here */
        const size_t step = (size_t)got >= n ? n : s->direct ? (size_t)got / PAGE * PAGE : (size_t)got;
        if (!step) return EIO;
        to += step; at += step; n -= step;
    }
    return 0;
}
static void *reader(void *ud) {
    lm_stream *s = ud;
    pthread_mutex_lock(&s->lock);
    while (!s->stop && !s->error && !(s->once && s->next == (uint64_t)s->n)) {
        piece *p = &s->p[s->next % (uint64_t)s->n];
        if (s->next + 1 > s->done + p->back) { pthread_cond_wait(&s->room_cond, &s->lock); continue; }      /* piece next - back is in use */
        const uint64_t k = s->next;
        const int i = (int)(k % (uint64_t)s->n);
        const size_t at = s->handed, n = p->whole - at < CHUNK ? p->whole - at : CHUNK;
        if (!at) s->left[i] = (int)((p->whole + CHUNK - 1) / CHUNK);
        s->handed += n;
        if (s->handed == p->whole) { s->next++; s->handed = 0; }
        pthread_mutex_unlock(&s->lock);
        const int e = read_chunk(s, p, at, n);
        if (!s->direct && !e) posix_fadvise(p->fd, p->from + (int64_t)at, (off_t)n, POSIX_FADV_DONTNEED);
        pthread_mutex_lock(&s->lock);
        s->bytes += n;
        s->left[i]--;
        if (e && !s->error) { s->error = e; s->path = p->path; pthread_cond_broadcast(&s->room_cond); pthread_cond_broadcast(&s->loaded_cond); }
        uint64_t l = atomic_load(&s->loaded);
        while (l < s->next && !s->left[l % (uint64_t)s->n]) l++;
        if (l != atomic_load(&s->loaded)) { atomic_store_explicit(&s->loaded, l, memory_order_release); pthread_cond_broadcast(&s->loaded_cond); }
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}
static lm_err open_files(lm_stream *s, const lm_stretch *x) {
    const lm_file *last = NULL;
    s->direct = true;
    for (int i = 0; i < s->n; i++) {
        s->p[i].path = lm_file_path(x[i].file);
        if (x[i].file != last) {
            int had = -1;
            for (int k = 0; k < i && had < 0; k++) if (x[k].file == x[i].file) had = s->p[k].fd;
            last = x[i].file;
            if (had >= 0) { s->p[i].fd = had; continue; }
            const char *path = lm_file_path(last);
            int fd = s->direct ? lm_sys_open(path, O_RDONLY | O_DIRECT, 0) : -1;
            if (fd < 0) { s->direct = false; fd = lm_sys_open(path, O_RDONLY, 0); }
            if (fd < 0) return lm_sys_fail(s->ctx, errno, "cannot open", path);
            s->fd[s->n_fd++] = fd;
            s->p[i].fd = fd;
        } else s->p[i].fd = s->p[i - 1].fd;
    }
    if (!s->direct) lm_log(s->ctx, LM_LOG_INFO, "stream", "%s: its file system reads through the system's cache only", lm_file_path(x[0].file));
    return LM_OK;
}
lm_err lm_stream_new(lm_stream **out, lm_ctx *ctx, const lm_stretch *x, int n, size_t ring) {
    for (int i = 0; i < n; i++)
        if (!x[i].bytes || x[i].offset < 0 || x[i].offset > lm_file_size(x[i].file) || x[i].bytes > (uint64_t)(lm_file_size(x[i].file) - x[i].offset))
            return lm_fail(ctx, LM_E_RANGE, "'%s': bytes %lld+%zu are not in it", lm_file_path(x[i].file), (long long)x[i].offset, x[i].bytes);
    if (n < 1 || ring < lm_stream_least(x, n))
        return lm_fail(ctx, LM_E_NOMEM, "%zu bytes to read ahead into; the largest pieces want %zu", ring, n < 1 ? 0 : lm_stream_least(x, n));
    lm_stream *s = lm_calloc(ctx, LM_MEM_IO, 1, sizeof *s);
    if (!s) return LM_E_NOMEM;
    s->ctx = ctx; s->n = n;
    pthread_mutex_init(&s->lock, NULL); pthread_cond_init(&s->loaded_cond, NULL); pthread_cond_init(&s->room_cond, NULL);
    lm_err err = LM_E_NOMEM;
    if (!(s->p = lm_calloc(ctx, LM_MEM_IO, (size_t)n, sizeof *s->p)) || !(s->left = lm_calloc(ctx, LM_MEM_IO, (size_t)n, sizeof *s->left)) ||
        !(s->fd = lm_calloc(ctx, LM_MEM_IO, (size_t)n, sizeof *s->fd)) || !(s->alloc = lm_alloc(ctx, LM_MEM_WEIGHTS, ring + PAGE)))
        goto fail;
    s->ring = (char *)(((uintptr_t)s->alloc + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
    LM_GOTO(open_files(s, x), fail);
    lay(s, x, ring);
    for (; s->n_thread < READERS; s->n_thread++)
        if (pthread_create(&s->thread[s->n_thread], NULL, reader, s)) {
            if (s->n_thread) break;                                       /* one will do */
            err = lm_fail(ctx, LM_E_NOMEM, "no thread can be had to read ahead");
            goto fail;
        }
    *out = s;
    return LM_OK;
fail:
    lm_stream_free(s);
    return err;
}
void lm_stream_free(lm_stream *s) {
    if (!s) return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->room_cond);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->n_thread; i++) pthread_join(s->thread[i], NULL);
    for (int i = 0; i < s->n_fd; i++) lm_sys_close(s->fd[i]);
    pthread_cond_destroy(&s->room_cond); pthread_cond_destroy(&s->loaded_cond); pthread_mutex_destroy(&s->lock);
    lm_free(s->ctx, s->alloc); lm_free(s->ctx, s->fd); lm_free(s->ctx, s->left); lm_free(s->ctx, s->p); lm_free(s->ctx, s);
}
void *lm_stream_at(const lm_stream *s, int i) { return s->ring + s->p[i].at + s->p[i].skip; }
lm_err lm_stream_wait(lm_stream *s, uint64_t k) {
    if (s->once && k >= (uint64_t)s->n) k = (uint64_t)s->n - 1;
    if (atomic_load_explicit(&s->loaded, memory_order_acquire) > k) return LM_OK;
    const double t = lm_now();
    pthread_mutex_lock(&s->lock);
    while (atomic_load(&s->loaded) <= k && !s->error) pthread_cond_wait(&s->loaded_cond, &s->lock);
    s->waited += lm_now() - t;
    const int e = atomic_load(&s->loaded) <= k ? s->error : 0;
    pthread_mutex_unlock(&s->lock);
    return e ? lm_sys_fail(s->ctx, e, "cannot read ahead in", s->path) : LM_OK;
}
void lm_stream_done(lm_stream *s, uint64_t k) {
    pthread_mutex_lock(&s->lock);
    if (k > s->done) { s->done = k; pthread_cond_broadcast(&s->room_cond); }
    pthread_mutex_unlock(&s->lock);
}
void lm_stream_stats(lm_stream *s, uint64_t *bytes, double *waited, bool *direct) {
    pthread_mutex_lock(&s->lock);
    *bytes = s->bytes; *waited = s->waited; *direct = s->direct;
    pthread_mutex_unlock(&s->lock);
}
double lm_stream_rate(lm_ctx *ctx, const char *path, size_t most, double seconds) {
    enum { PIECES = 256 };
    lm_file *f;
    lm_stretch x[PIECES];
    lm_stream *s = NULL;
    double rate = 0;
    if (lm_file_open(&f, ctx, path)) return 0;
    const int64_t size = lm_file_size(f) / PAGE * PAGE, from = size / 2 / PAGE * PAGE;
    size_t each = (size_t)(size - from) / PIECES / PAGE * PAGE;
    if (each > most / PIECES) each = most / PIECES / PAGE * PAGE;
    for (int i = 0; i < PIECES; i++) x[i] = (lm_stretch){ f, from + (int64_t)((size_t)i * each), each };
    const double t = lm_now();
    if (each && !lm_stream_new(&s, ctx, x, PIECES, 8 * each)) {
        uint64_t k = 0;
        for (; k < PIECES && lm_now() - t < seconds && !lm_stream_wait(s, k); k++) lm_stream_done(s, k + 1);
        if (k) rate = (double)(k * each) / (lm_now() - t);
    }
    lm_stream_free(s);
    lm_file_close(f);
    return rate;
}
