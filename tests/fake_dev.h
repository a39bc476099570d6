/* fake_dev.h — a device that is none: host memory, the processor's rows, and lanes that run late and in turns drawn by chance.
 *
 * What is put on a lane is kept as a list and done when somebody waits; which lane goes on is drawn, restricted by fences alone, so that a
 * missing fence gives wrong numbers under some seed. Memory comes poisoned. Recording keeps calls in order and launch() issues them again. The
 * stream of a lane begins with a function that puts work there: the mock of NCCL (mock/nccl.c) uses it. Work may say "not yet" (1).
 *
 * Lifetime: fake_open to close.  Threads: one.  Errors: of the work, at the next wait. */
#ifndef LM_FAKE_DEV_H
#define LM_FAKE_DEV_H
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "device/device.h"
#include "tensor/tensor.h"

typedef struct fake fake;
typedef struct {
    void (*put)(void *lane, int (*f)(void *arg), const void *arg, size_t bytes);
    fake *d;
    int i;
} fake_stream; /* mock/nccl.c knows the first field */
typedef enum { F_CALL, F_HOST, F_COPY, F_ZERO, F_FENCE, F_AFTER } fake_kind;
typedef struct {
    fake_kind kind; int lane, point; long serial;
    int (*call)(void *); lm_err (*host)(void *); void *arg; size_t bytes;         /* arg: a copy */
    void *dst; const void *src; size_t n; bool own;                              /* own: src is a copy made when it was put */
} fake_item;
typedef struct { fake_item *v; size_t n, cap, head; } fake_list;
struct fake {
    lm_dev dev; fake_stream stream[LM_DEV_LANES]; fake_list lane[LM_DEV_LANES], *recording; int on;
    long serial, at[LM_DEV_MARKS], mark[LM_DEV_MARKS]; char *reached; size_t cap_reached;
    void *pinned[256]; size_t pinned_n[256]; int n_pinned;
    uint64_t rng; lm_err err; int asked;                                 /* asked: for memory, so often */
    char *shared; size_t shared_used; int shared_fd;                      /* where memory comes from that other processes reach */
};
enum { FAKE_SHARED = 256 << 20 };
static fake *fake_of(lm_dev *d) { return (fake *)(void *)d; }
static void *fake_copy(const void *p, size_t n) { void *q = malloc(n + 1); if (!q) abort(); memcpy(q, p, n); return q; }
static void fake_drop(fake_item *x) { free(x->arg); if (x->own) free((void *)(uintptr_t)x->src); x->arg = NULL; x->own = false; }
static void fake_append(fake_list *l, fake_item x) {
    if (l->n == l->cap) { l->cap = l->cap ? l->cap * 2 : 256; if (!(l->v = realloc(l->v, l->cap * sizeof *l->v))) abort(); }
    l->v[l->n++] = x;
}
static lm_err fake_put_item(fake *f, fake_item x) {
    x.lane = f->on;
    if (f->recording) { fake_append(f->recording, x); return f->err; }
    if (x.kind == F_FENCE) { x.serial = f->at[x.point] = ++f->serial; }
    if (x.kind == F_AFTER) x.serial = f->at[x.point];
    fake_append(&f->lane[x.lane], x);
    return f->err;
}
static int fake_do(fake *f, fake_item *x) {
    switch (x->kind) {
    case F_CALL: return x->call(x->arg);
    case F_HOST: { const lm_err e = x->host(x->arg); if (e && !f->err) f->err = e; return 0; }
    case F_COPY: memmove(x->dst, x->src, x->n); return 0;
    case F_ZERO: memset(x->dst, 0, x->n); return 0;
    case F_FENCE:
        if ((size_t)x->serial >= f->cap_reached) {
            const size_t cap = (size_t)x->serial * 2 + 64;
            if (!(f->reached = realloc(f->reached, cap))) abort();
            memset(f->reached + f->cap_reached, 0, cap - f->cap_reached);
            f->cap_reached = cap;
        }
        f->reached[x->serial] = 1;
        return 0;
    case F_AFTER: return !(x->serial <= 0 || ((size_t)x->serial < f->cap_reached && f->reached[x->serial]));
    }
    return 0;
}
/* One turn: some lane's first item, if it can be done. */
static void fake_turn(fake *f) {
    f->rng = f->rng * 6364136223846793005ull + 1442695040888963407ull;
    const int first = (int)(f->rng >> 40 & 0xffff) % LM_DEV_LANES, burst = 1 + (int)(f->rng >> 50 & 15);
    for (int k = 0; k < LM_DEV_LANES; k++) {
        fake_list *l = &f->lane[(first + k) % LM_DEV_LANES];
        int did = 0;
        while (did < burst && l->head < l->n) {
            fake_item x = l->v[l->head];
            const int r = fake_do(f, &x);
            if (r > 0) break;
            if (r < 0 && !f->err) f->err = LM_E_DEVICE;
            fake_drop(&x);
            l->head++; did++;
        }
        if (l->head == l->n) l->head = l->n = 0;
        if (did) return;
    }
    sched_yield();
}
static bool fake_empty(const fake *f, int lane) { return f->lane[lane].head == f->lane[lane].n; }
static lm_err fake_answer(fake *f) { const lm_err e = f->err; f->err = LM_OK; return e; }
static lm_err fake_sync(lm_dev *d) { fake *f = fake_of(d); while (!fake_empty(f, f->on)) fake_turn(f); return fake_answer(f); }
static lm_err fake_idle(lm_dev *d, bool *yes) {
    fake *f = fake_of(d);
    for (int i = 0; i < 64 && !fake_empty(f, f->on); i++) fake_turn(f);
    *yes = fake_empty(f, f->on);
    return fake_answer(f);
}
__attribute__((unused)) static int fake_allocations(lm_dev *d) { return fake_of(d)->asked; }
static lm_err fake_alloc(lm_dev *d, size_t n, void **p) {
    fake *f = fake_of(d);
    f->asked++;
    if (f->shared) {
        n = (n + 511) & ~(size_t)255;
        if (f->shared_used + n > FAKE_SHARED) return LM_E_NOMEM;
        *p = f->shared + f->shared_used;
        f->shared_used += n;
        memset(*p, 0xff, n);
        return LM_OK;
    }
    if (!(*p = aligned_alloc(256, (n + 511) & ~(size_t)255))) return LM_E_NOMEM;
    memset(*p, 0xff, (n + 511) & ~(size_t)255);
    d->used += n; if (d->used > d->peak) d->peak = d->used;
    return LM_OK;
}
static void fake_free(lm_dev *d, void *p) {
    fake *f = fake_of(d);
    for (int k = 0; k < LM_DEV_LANES; k++)
        while (!f->err && !fake_empty(f, k)) fake_turn(f);
    if (!f->shared) free(p);
}
static lm_err fake_room(lm_dev *d, size_t *free_now, size_t *total) { *total = d->memory; *free_now = d->memory > d->used ? d->memory - d->used : 0; return LM_OK; }
static lm_err fake_pin(lm_dev *d, size_t n, void **p) {
    fake *f = fake_of(d);
    f->asked++;
    if (f->n_pinned == 256 || !(*p = calloc(1, n + 1))) return LM_E_NOMEM;
    f->pinned[f->n_pinned] = *p; f->pinned_n[f->n_pinned++] = n;
    return LM_OK;
}
static void fake_unpin(lm_dev *d, void *p) {
    fake *f = fake_of(d);
    for (int i = 0; i < f->n_pinned; i++)
        if (f->pinned[i] == p) {
            f->n_pinned--;
            f->pinned[i] = f->pinned[f->n_pinned];
            f->pinned_n[i] = f->pinned_n[f->n_pinned];
        }
    free(p);
}
static bool fake_is_pinned(const fake *f, const void *p) {
    for (int i = 0; i < f->n_pinned; i++)
        if ((const char *)p >= (const char *)f->pinned[i] && (const char *)p < (const char *)f->pinned[i] + f->pinned_n[i]) return true;
    return false;
}
static lm_err fake_zero(lm_dev *d, void *p, size_t n) { return fake_put_item(fake_of(d), (fake_item){ .kind = F_ZERO, .dst = p, .n = n }); }
static lm_err fake_move(lm_dev *d, void *dst, const void *src, size_t n) {
    return fake_put_item(fake_of(d), (fake_item){ .kind = F_COPY, .dst = dst, .src = src, .n = n });
}
static lm_err fake_put(lm_dev *d, void *dst, const void *src, size_t n) {      /* pageable memory is read at once, pinned memory late */
    fake *f = fake_of(d);
    const bool late = fake_is_pinned(f, src);
    return fake_put_item(f, (fake_item){ .kind = F_COPY, .dst = dst, .src = late ? src : fake_copy(src, n), .n = n, .own = !late });
}
static lm_err fake_record(lm_dev *d) {
    fake *f = fake_of(d);
    d->recordings++;
    f->recording = calloc(1, sizeof *f->recording);
    return f->recording ? LM_OK : LM_E_NOMEM;
}
static lm_err fake_recorded(lm_dev *d, void **work) { fake *f = fake_of(d); d->recordings++; *work = f->recording; f->recording = NULL; return fake_answer(f); }
static lm_err fake_launch(lm_dev *d, void *work) {
    fake *f = fake_of(d);
    const fake_list *l = work;
    const int was = f->on;
    for (size_t i = 0; i < l->n; i++) {
        fake_item x = l->v[i];
        if (x.arg) x.arg = fake_copy(x.arg, x.bytes);
        if (x.own) x.src = fake_copy(x.src, x.n);
        f->on = x.lane;
        fake_put_item(f, x);
    }
    f->on = was;
    return LM_OK;
}
static void fake_forget(lm_dev *d, void *work) {
    (void)d;
    fake_list *l = work;
    for (size_t i = 0; l && i < l->n; i++) fake_drop(&l->v[i]);
    if (l) free(l->v);
    free(l);
}
static lm_err fake_on(lm_dev *d, int lane) { fake *f = fake_of(d); f->on = lane; d->stream = &f->stream[lane]; return LM_OK; }
static lm_err fake_fence(lm_dev *d, int i) { return fake_put_item(fake_of(d), (fake_item){ .kind = F_FENCE, .point = i }); }
static lm_err fake_after(lm_dev *d, int i) { return fake_put_item(fake_of(d), (fake_item){ .kind = F_AFTER, .point = i }); }
static lm_err fake_reached(lm_dev *d, int i) {
    fake *f = fake_of(d);
    while (!f->err && !((size_t)f->at[i] < f->cap_reached && f->reached[f->at[i]])) fake_turn(f);
    return fake_answer(f);
}
typedef struct { int32_t *p, v; } fake_noted;
static lm_err fake_do_note(void *a) { const fake_noted *n = a; *n->p = n->v; return LM_OK; }
static lm_err fake_run(lm_dev *d, lm_err (*f)(void *), const void *arg, size_t bytes) {
    return fake_put_item(fake_of(d), (fake_item){ .kind = F_HOST, .host = f, .arg = fake_copy(arg, bytes), .bytes = bytes });
}
static lm_err fake_note(lm_dev *d, int32_t *p, int32_t v) { const fake_noted n = { p, v }; return fake_run(d, fake_do_note, &n, sizeof n); }
/* time there is the number of marks so far, in ns */
typedef struct { long *at; } fake_marked;
static lm_err fake_do_mark(void *a) { static long clock; *((const fake_marked *)a)->at = ++clock; return LM_OK; }
static lm_err fake_mark(lm_dev *d, int i) { const fake_marked m = { &fake_of(d)->mark[i] }; return fake_run(d, fake_do_mark, &m, sizeof m); }
static lm_err fake_between(lm_dev *d, int a, int b, double *s) { *s = 1e-9 * (double)(fake_of(d)->mark[b] - fake_of(d)->mark[a]); return LM_OK; }
typedef struct { float *y; const float *a, *x; size_t n; } fake_added;
static lm_err fake_do_add(void *a) { const fake_added *s = a; for (size_t i = 0; i < s->n; i++) s->y[i] = s->a[i] + s->x[i]; return LM_OK; }
static lm_err fake_add(lm_dev *d, float *y, const float *a, const float *x, size_t n) {
    const fake_added s = { y, a, x, n };
    return fake_run(d, fake_do_add, &s, sizeof s);
}
typedef struct { float *y; const float *a; const uint16_t *h, *x; size_t n; } fake_halves;
static lm_err fake_do_add_half(void *a) {
    const fake_halves *s = a;
    for (size_t i = 0; i < s->n; i++) s->y[i] = s->h ? lm_bf16_to_f32(s->h[i]) + lm_bf16_to_f32(s->x[i]) : s->a ? s->a[i] + lm_bf16_to_f32(s->x[i]) : lm_bf16_to_f32(s->x[i]);
    return LM_OK;
}
static lm_err fake_add_half(lm_dev *d, float *y, const float *a, const uint16_t *h, const uint16_t *x, size_t n) {
    const fake_halves s = { y, a, h, x, n };
    return fake_run(d, fake_do_add_half, &s, sizeof s);
}
/* ---- memory that other processes reach: one file without a name, which they open by this process's number ---- */
static lm_err fake_share(lm_dev *d, const void *p, lm_dev_share *s) {
    fake *f = fake_of(d);
    if (!f->shared || (const char *)p < f->shared || (const char *)p >= f->shared + FAKE_SHARED) return LM_E_RANGE;
    memset(s, 0, sizeof *s);
    snprintf((char *)s->handle, sizeof s->handle, "/proc/%ld/fd/%d", (long)getpid(), f->shared_fd);
    s->offset = (uint64_t)((const char *)p - f->shared);
    return LM_OK;
}
static lm_err fake_reach(lm_dev *d, const lm_dev_share *s, void **base) {
    const int fd = open((const char *)s->handle, O_RDWR);
    void *m = fd < 0 ? MAP_FAILED : mmap(NULL, FAKE_SHARED, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0) close(fd);
    if (m == MAP_FAILED) return lm_fail(d->ctx, LM_E_DEVICE, "%s cannot be reached", (const char *)s->handle);
    *base = m;
    return LM_OK;
}
static void fake_unreach(lm_dev *d, void *base) { (void)d; munmap(base, FAKE_SHARED); }
static lm_err fake_words(lm_dev *d, void *host, size_t n, void **on_dev) { (void)d; (void)n; if (on_dev) *on_dev = host; return LM_OK; }
typedef struct { uint32_t *set[16], *await[16]; int n; } fake_meeting;
static int fake_do_set(void *a) { const fake_meeting *m = a; for (int i = 0; i < m->n; i++) __atomic_store_n(m->set[i], 1u, __ATOMIC_RELEASE); return 0; }
static int fake_do_await(void *a) {
    const fake_meeting *m = a;
    for (int i = 0; i < m->n; i++) if (__atomic_load_n(m->await[i], __ATOMIC_ACQUIRE) != 1) return 1;
    for (int i = 0; i < m->n; i++) __atomic_store_n(m->await[i], 0u, __ATOMIC_RELEASE);
    return 0;
}
static lm_err fake_meet(lm_dev *d, uint32_t *const *set, uint32_t *const *await, int n) {
    fake_meeting m = { .n = n };
    for (int i = 0; i < n; i++) m.set[i] = set[i], m.await[i] = await[i];
    fake_put_item(fake_of(d), (fake_item){ .kind = F_CALL, .call = fake_do_set, .arg = fake_copy(&m, sizeof m), .bytes = sizeof m });
    return fake_put_item(fake_of(d), (fake_item){ .kind = F_CALL, .call = fake_do_await, .arg = fake_copy(&m, sizeof m), .bytes = sizeof m });
}
static lm_err fake_use(lm_dev *d) { (void)d; return LM_OK; }
static void fake_put_call(void *lane, int (*f)(void *), const void *arg, size_t bytes) {
    fake_stream *s = lane;
    const int was = s->d->on;
    s->d->on = s->i;
    fake_put_item(s->d, (fake_item){ .kind = F_CALL, .call = f, .arg = fake_copy(arg, bytes), .bytes = bytes });
    s->d->on = was;
}
static void fake_close(lm_dev *d) {
    fake *f = fake_of(d);
    for (int k = 0; k < LM_DEV_LANES; k++) { for (size_t i = f->lane[k].head; i < f->lane[k].n; i++) fake_drop(&f->lane[k].v[i]); free(f->lane[k].v); }
    if (f->shared) { munmap(f->shared, FAKE_SHARED); close(f->shared_fd); }
    free(f->reached); free(f);
}
__attribute__((unused)) static void fake_share_memory(lm_dev *d) {
    fake *f = fake_of(d);
    char name[] = "/tmp/fake-device-XXXXXX";
    if ((f->shared_fd = mkstemp(name)) < 0 || unlink(name) || ftruncate(f->shared_fd, FAKE_SHARED)) abort();
    f->shared = mmap(NULL, FAKE_SHARED, PROT_READ | PROT_WRITE, MAP_SHARED, f->shared_fd, 0);
    if (f->shared == MAP_FAILED) abort();
    d->share = fake_share; d->reach = fake_reach; d->unreach = fake_unreach; d->words = fake_words; d->meet = fake_meet;
}
static lm_dev *fake_open(lm_ctx *ctx, uint64_t seed) {
    fake *f = calloc(1, sizeof *f);
    if (!f) abort();
    f->dev = (lm_dev){ .kind = "fake",
                       .ctx = ctx,
                       .memory = (size_t)1 << 40,
                       .units = 1,
                       .alloc = fake_alloc,
                       .free = fake_free,
                       .room = fake_room,
                       .pin = fake_pin,
                       .unpin = fake_unpin,
                       .zero = fake_zero,
                       .put = fake_put,
                       .get = fake_move,
                       .move = fake_move,
                       .sync = fake_sync,
                       .record = fake_record,
                       .recorded = fake_recorded,
                       .launch = fake_launch,
                       .forget = fake_forget,
                       .mark = fake_mark,
                       .between = fake_between,
                       .on = fake_on,
                       .fence = fake_fence,
                       .after = fake_after,
                       .reached = fake_reached,
                       .note = fake_note,
                       .add = fake_add,
                       .add_half = fake_add_half,
                       .idle = fake_idle,
                       .use = fake_use,
                       .run = fake_run,
                       .close = fake_close };
    strcpy(f->dev.name, "fake device"); strcpy(f->dev.libs, "none");
    f->rng = seed * 2654435761u + 12345;
    for (int k = 0; k < LM_DEV_LANES; k++) f->stream[k] = (fake_stream){ fake_put_call, f, k };
    f->dev.stream = &f->stream[0];
    return &f->dev;
}
#endif
