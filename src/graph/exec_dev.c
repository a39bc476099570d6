/* exec_dev.c — running a plan on a device: steps are put on its stream in order, inputs go before them and outputs come after.
 *
 * The first run waits after each step, so that what the device refuses is named by its op. The second run of a set of extents, and of outputs that are wanted, records the
 * whole, copies of inputs and outputs included, and later ones launch the record: one call, whatever the number of steps. Extents are part
 * of a record, so there is one per set of them, up to LM_MAX_RECORDED; other sets run step by step. Collectives are part of a record; they
 * go to the device's second lane and so run beside what follows (`aside`, `meet`), and whoever waits for a run looks whether the other
 * ranks are still there (`settle`). Small inputs that lie together go in one copy: what lies between
 * them is written by later steps. A step that finds an index outside writes to its word of `fault`, which is the host's memory. What fails within
 * a record has no name; a device opened as "cuda:0,stepwise" is waited for after every step of every run, and nothing is recorded. */
#include <stdio.h>
#include <string.h>
#include "graph/plan_int.h"
enum { ONE_COPY = 64 << 10 };       /* bytes of inputs, and of what lies between them */

static lm_err phases(const lm_kernel *k, lm_call *c, void *scratch) {
    const int64_t times = k->repeat ? k->repeat(c) : 1;
    lm_err err = LM_OK;
    for (c->iter = 0; c->iter < times && !err; c->iter++)
        for (int ph = 0; ph < k->n_phase && !err; ph++) {
            const int64_t n = k->phase[ph].tiles(c);
            for (int64_t t = 0; t < n && !err; t++) err = k->phase[ph].run(c, t, scratch);
        }
    c->iter = 0;
    return err;
}
/* a row of the processor, run by a device that is none */
typedef struct { const lm_kernel *k; void *scratch; lm_call call; } host_row;
static lm_err run_host_row(void *arg) { host_row *r = arg; return phases(r->k, &r->call, r->scratch); }
static lm_err step(lm_plan *p, lm_step *s) {
    if (s->many) {
        const lm_call *c[LM_MANY];
        for (int i = 0; i < s->many; i++) c[i] = &s[i].call;
        return s->many < 0 ? LM_OK : s->k->run_many(c, s->many, p->dev->stream);
    }
    if (s->k->device == LM_DEV_CUDA) return phases(s->k, &s->call, p->dev->stream);
    const host_row r = { s->k, p->threads, s->call };
    return p->dev->run(p->dev, run_host_row, &r, sizeof r);
}
/* ---- the second lane ------------------------------------------------------------------------------------------------------------------------ */
/* Points: 0 is where lane 0 is when a step goes aside, 1 + i % (LM_DEV_POINTS - 1) the end of step i. The pinned word behind the faults says
 * where the second lane is: 2 i + 1 step i has begun, 2 i + 2 it is done. */
static int point(int i) { return 1 + i % (LM_DEV_POINTS - 1); }
/* A run that is timed marks four times of each such step: lane 0 comes to where it needs it, lane 0 goes on, it begins, it is done. Steps for which
 * there are no marks are not timed. */
enum { COMES, GOES_ON, BEGUN, DONE, TIMES };
static lm_err stamp(lm_plan *p, int i, int which) {
    const int at = p->step[i].nth * TIMES + which;
    if (!p->timed || at >= LM_DEV_MARKS) return LM_OK;
    p->timed[i] |= (unsigned char)(1 << which);
    return p->dev->mark(p->dev, at);
}
static bool sits_out(const lm_step *s) { return s->many >= 0 && !s->k->phase[0].tiles(&s->call); }
/* The latest step up to i of a sort (lm_kernel.aside) that runs; -1: none. */
static int ran(const lm_plan *p, int i, int sort) {
    while (i >= 0 && (p->step[i].k->aside != sort || p->step[i].many < 0 || sits_out(&p->step[i]))) i--;
    return i;
}
static lm_err aside(lm_plan *p, int i) {
    lm_dev *d = p->dev;
    int32_t *word = p->fault + p->n_step;
    if (p->step[i].many < 0 || sits_out(&p->step[i])) return LM_OK;
    int sums = -1;
    for (int k = i, end = i + (p->step[i].many > 1 ? p->step[i].many : 1); k < end; k++) if (p->step[k].sums > sums) sums = p->step[k].sums;
    sums = ran(p, sums, 2);
    LM_TRY(d->fence(d, 0));
    LM_TRY(d->on(d, 1));
    lm_err e = d->after(d, 0);
    if (!e && sums >= 0) e = d->after(d, point(sums));
    if (!e) e = d->note(d, word, 2 * i + 1);
    if (!e) e = stamp(p, i, BEGUN);
    const void *lane1 = d->stream;
    if (!e) e = step(p, &p->step[i]);
    if (!e) e = stamp(p, i, DONE);
    const bool left = d->stream != lane1;                                 /* it ends on lane 2; what the word says is lane 1's */
    if (!e && left) e = d->on(d, 1);
    if (!e) e = d->note(d, word, 2 * i + 2);
    if (!e && left) { e = d->fence(d, 0); if (!e) e = d->on(d, 2); if (!e) e = d->after(d, 0); }
    if (!e) e = d->fence(d, point(i));
    const lm_err back = d->on(d, 0);
    return e ? e : back;
}
/* Before lane 0 does what shares bytes with step i beside it, of that sort: it waits for that one, or where that sits out, the last before it that did not. */
static lm_err meet(lm_plan *p, int i, int sort) {
    i = ran(p, i, sort);
    if (i <= p->aside_seen[sort - 1]) return LM_OK;
    p->aside_seen[sort - 1] = i;
    if (sort == 2 && p->aside_seen[0] < i) p->aside_seen[0] = i;          /* its end comes after all that was on lane 1 */
    LM_TRY(stamp(p, i, COMES));
    LM_TRY(p->dev->after(p->dev, point(i)));
    return stamp(p, i, GOES_ON);
}
static lm_err meet_both(lm_plan *p, int join, int sums) { LM_TRY(meet(p, sums, 2)); return meet(p, join, 1); }
/* All that was put on lane 0 is done; or a rank is missing, and then the sentence says where. */
static lm_err settle(lm_plan *p) {
    lm_dev *d = p->dev;
    lm_comm *c = p->comm;
    if (!p->n_aside || c->size == 1) return d->sync(d);
    const double t0 = lm_now();
    double looked = t0;
    for (bool done = false;;) {
        LM_TRY(d->idle(d, &done));
        if (done) return LM_OK;
        const double now = lm_now();
        if (now - looked < 1e-3) { lm_pause(); continue; }
        looked = now;
        lm_err e = c->check ? c->check(c) : LM_OK;
        if (!e && (c->timeout <= 0 || now - t0 < c->timeout)) continue;
        const int32_t word = *(volatile int32_t *)(p->fault + p->n_step), i = (word - 1) / 2;
        const bool begun = word & 1 && i >= 0 && i < p->n_step;
        char at[160];
        if (begun) {
            int of = 0, all = 0;
            for (int k = 0; k < p->n_step; k++) { const bool x = p->step[k].k->aside && p->step[k].many >= 0; all += x; of += x && k <= i; }
            snprintf(at, sizeof at, "%s, meeting %d of %d of step %lld", p->step[i].op, of, all, (long long)c->step);
        } else snprintf(at, sizeof at, "step %lld, outside of any meeting", (long long)c->step);
        if (c->stop) c->stop(c);
        if (e) return lm_fail_in(p->ctx, e, "rank %d of %d, in %s", c->rank, c->size, at);
        return lm_fail(p->ctx, LM_E_COMM,
                       "rank %d of %d waited %.0f seconds in %s: another rank is stopped, gone or elsewhere; the last checkpoint is whole",
                       c->rank, c->size, now - t0, at);
    }
}
static bool takes(const lm_joined *j) { return j->row->run_all ? j->row->accepts_all(j->call, j->times) : j->row->accepts(j->call); }
static lm_err run_joined(lm_plan *p, const lm_joined *j) {
    return j->row->run_all ? j->row->run_all(j->call, j->times, j->shared, p->dev->stream) : j->row->run(j->call, p->dev->stream);
}
/* Step i, or the join that begins with it and takes the sizes of now; n: how many steps that was. */
static lm_err next(lm_plan *p, int i, const lm_joined **join, int *n) {
    int lo = 0, hi = p->n_joined;
    while (lo < hi) { const int mid = (lo + hi) / 2; if (p->joined[mid].first < i) lo = mid + 1; else hi = mid; }
    const lm_joined *j = NULL;
    for (; !j && lo < p->n_joined && p->joined[lo].first == i; lo++) if (takes(&p->joined[lo])) j = &p->joined[lo];
    *n = j ? j->n : 1; *join = j;
    for (int k = 0; k < *n; k++) p->step[i + k].joined = j ? j->row->name : NULL;
    if (!p->n_aside) return j ? run_joined(p, j) : step(p, &p->step[i]);
    if (p->step[i].k->aside) return aside(p, i);
    int last = -1, sums = -1;
    for (int k = i, end = i + (p->step[i].many > *n ? p->step[i].many : *n); k < end; k++) {
        if (p->step[k].join > last) last = p->step[k].join;
        if (p->step[k].sums > sums) sums = p->step[k].sums;
    }
    LM_TRY(meet_both(p, last, sums));
    return j ? run_joined(p, j) : step(p, &p->step[i]);
}
static size_t port_bytes(const lm_plan *p, const lm_port *o) {
    size_t n = 0;
    lm_storage_bytes((lm_dtype)o->t.dtype, o->t.quant, LM_PLAIN, o->t.rank, o->t.dim, &n);
    return o->ext && o->t.dim[0] ? n / (size_t)o->t.dim[0] * (size_t)p->ext[o->ext - 1] : n;
}
static lm_err whole(lm_plan *p) {
    lm_dev *d = p->dev;
    p->aside_seen[0] = p->aside_seen[1] = -1;
    if (p->in_bytes) LM_TRY(d->put(d, p->in_at, p->mirror, p->in_bytes));
    else for (int i = 0; i < p->n_port; i++) if (p->port[i].input) LM_TRY(d->put(d, p->port[i].on_dev, p->port[i].t.data, port_bytes(p, &p->port[i])));
    for (int i = 0, n; i < p->n_step; i += n) {
        const lm_joined *j = NULL;
        lm_err e = next(p, i, &j, &n);
        const char *op = j ? j->row->name : p->step[i].op, *kernel = j ? "joined" : p->step[i].k->name;
        if (e)
            return *lm_error(p->ctx) ? lm_fail_in(p->ctx, e, "%s (%s)", op, kernel) : lm_fail(p->ctx, e, "%s (%s): %s", op, kernel, lm_err_text(e));
        if (!p->checked && p->step[i].k->aside) LM_TRY(meet_both(p, i, i));
        if (!p->checked && (e = settle(p))) return lm_fail_in(p->ctx, e, "%s (%s)", op, kernel);
    }
    LM_TRY(meet_both(p, p->n_step - 1, p->n_step - 1));
    for (int i = 0; i < p->n_port; i++) if (!p->port[i].input && !p->port[i].stays) LM_TRY(d->get(d, p->port[i].t.data, p->port[i].on_dev, port_bytes(p, &p->port[i])));
    return LM_OK;
}
lm_err lm_plan_fetch_dev(lm_plan *p, const lm_port *o) {
    LM_TRY(p->dev->get(p->dev, o->t.data, o->on_dev, port_bytes(p, o)));
    return p->dev->sync(p->dev);
}
static lm_recorded *find(lm_plan *p) {
    uint64_t key = lm_hash64(p->ext, (size_t)p->n_ext * sizeof *p->ext, 0);
    for (int i = 0; i < p->n_port; i++) if (p->port[i].stays) key = lm_hash64(&i, sizeof i, key);
    if (p->hold) key = lm_hash64("hold", 4, key);
    if (p->fresh) key = lm_hash64("fresh", 5, key);
    if (p->side) key = lm_hash64("side", 4, key);
    for (int i = 0; i < p->n_recorded; i++) if (p->recorded[i].key == key) return &p->recorded[i];
    if (p->n_recorded == LM_MAX_RECORDED) return NULL;
    p->recorded[p->n_recorded] = (lm_recorded){ .key = key };
    return &p->recorded[p->n_recorded++];
}
static lm_err faults(lm_plan *p) {
    for (int i = 0; i < p->n_step; i++)
        if (p->fault[i]) {
            memset(p->fault, 0, (size_t)p->n_step * sizeof *p->fault);
            return lm_fail(p->ctx, LM_E_RANGE, "%s (%s): an index is outside of what it points into", p->step[i].op, p->step[i].k->name);
        }
    p->checked = true;
    return LM_OK;
}
/* Puts a run on the device; *flew: as a record. */
static lm_err put_run(lm_plan *p, bool *flew) {
    lm_dev *d = p->dev;
    *flew = false;
    lm_plan_apply_extents(p);
    if (d->stepwise) { p->checked = false; return whole(p); }
    lm_recorded *r = find(p);
    if (r && !r->work && r->runs++) {
        LM_TRY(d->record(d));
        lm_err e = whole(p), e2 = d->recorded(d, &r->work);
        if (e || e2) return e ? e : e2;
    }
    if (!r || !r->work) return whole(p);
    *flew = true;
    return d->launch(d, r->work);
}
static lm_err named(lm_plan *p, bool flew, lm_err e) {
    return e == LM_E_DEVICE && flew ? lm_fail_in(p->ctx, e, "a recorded run of %d steps (as device=cuda:N,stepwise the one that fails is named)", p->n_step) : e;
}
lm_err lm_plan_run_dev(lm_plan *p) {
    bool flew;
    lm_err e = put_run(p, &flew);
    if (!e) e = settle(p);
    if (!e) e = faults(p);
    return named(p, flew, e);
}
/* ---- two runs in flight ---------------------------------------------------------------------------------------------------------------------- */
lm_err lm_plan_side_dev(lm_plan *p, int side) {
    if (!p->side_mirror[side]) {
        void *m;
        LM_TRY(p->dev->pin(p->dev, p->side_bytes, &m));
        p->side_mirror[side] = m;
    }
    for (int i = 0; i < p->n_port; i++) p->port[i].t.data = p->side_mirror[side] + ((char *)p->port[i].t.data - p->mirror);
    p->mirror = p->side_mirror[side]; p->side = side;
    return LM_OK;
}
lm_err lm_plan_start_dev(lm_plan *p) {
    const lm_err e = put_run(p, &p->flew[p->side]);
    return e ? named(p, p->flew[p->side], e) : p->dev->fence(p->dev, LM_DEV_SIDES + p->side);
}
lm_err lm_plan_await_dev(lm_plan *p, int side) {
    const lm_err e = p->dev->reached(p->dev, LM_DEV_SIDES + side);
    return named(p, p->flew[side], e ? e : faults(p));
}
lm_err lm_plan_profile_dev(lm_plan *p, double *seconds, int n) {
    lm_dev *d = p->dev;
    LM_TRY(lm_plan_run_dev(p));
    LM_TRY(d->mark(d, 0));
    p->aside_seen[0] = p->aside_seen[1] = -1;
    for (int i = 0, m; i < p->n_step && i + 1 < LM_DEV_MARKS; i += m) {                /* a join's time is its first step's */
        const lm_joined *j;
        LM_TRY(next(p, i, &j, &m));
        if (p->step[i].k->aside) LM_TRY(meet_both(p, i, i));                                /* one after the other here, so that each has its own time */
        const int many = p->step[i].many > 1 ? p->step[i].many : 1;                         /* one mark for all: more would be most of the time */
        if (many > m) m = many;
        for (int k = many > 1 ? i + m - 1 : i; k < i + m && k + 1 < LM_DEV_MARKS; k++) LM_TRY(d->mark(d, k + 1));
    }
    LM_TRY(settle(p));
    for (int i = 0; i < n; i++) seconds[i] = 0;
    for (int i = 0, m; i < p->n_step && i < n; i += m) {
        m = p->step[i].many > 1 ? p->step[i].many : 1;
        if (i + m < LM_DEV_MARKS) LM_TRY(d->between(d, i, i + m, &seconds[i]));
    }
    return LM_OK;
}
static lm_err lasted(lm_plan *p, int i, int from, int to, double *seconds) {
    const int both = 1 << from | 1 << to, at = p->step[i].nth * TIMES;
    return (p->timed[i] & both) == both ? p->dev->between(p->dev, at + from, at + to, seconds) : LM_OK;
}
lm_err lm_plan_waited(lm_plan *p, double *waited, double *ran, int n) {
    for (int i = 0; i < n; i++) waited[i] = ran[i] = 0;
    if (!p->dev || !p->n_aside) return LM_OK;
    lm_dev *d = p->dev;
    void *work = NULL;
    LM_TRY(lm_plan_run_dev(p));
    if (!(p->timed = lm_calloc(p->ctx, LM_MEM_MISC, (size_t)p->n_step + 1, 1))) return LM_E_NOMEM;
    lm_err err = d->record(d);
    if (!err) {
        const lm_err e = whole(p), e2 = d->recorded(d, &work);
        err = e ? e : e2;
    }
    for (int k = 0; k < 2 && !err; k++) {                              /* the first time a record runs it is still on its way to the device */
        err = d->launch(d, work);
        if (!err) err = settle(p);
    }
    for (int i = 0; i < p->n_step && i < n && !err; i++) {
        err = lasted(p, i, COMES, GOES_ON, &waited[i]);
        if (!err) err = lasted(p, i, BEGUN, DONE, &ran[i]);
    }
    d->forget(d, work);
    lm_free(p->ctx, p->timed);
    p->timed = NULL;
    return err;
}
/* Host mirrors of inputs and outputs, the words for faults, and room for records. */
lm_err lm_plan_ports_dev(lm_plan *p) {
    lm_dev *d = p->dev;
    size_t total = 0, n = 0;
    for (int i = 0; i < p->n_port; i++) {
        lm_storage_bytes((lm_dtype)p->port[i].t.dtype, p->port[i].t.quant, LM_PLAIN, p->port[i].t.rank, p->port[i].t.dim, &n);
        total += (n + 255) & ~(size_t)255;
    }
    void *m;
    const size_t words = ((size_t)p->n_step + 1) * sizeof *p->fault;
    uintptr_t lo = UINTPTR_MAX, hi = 0;
    for (int i = 0; i < p->n_port; i++) {
        if (!p->port[i].input) continue;
        lm_storage_bytes((lm_dtype)p->port[i].t.dtype, p->port[i].t.quant, LM_PLAIN, p->port[i].t.rank, p->port[i].t.dim, &n);
        if ((uintptr_t)p->port[i].t.data < lo) lo = (uintptr_t)p->port[i].t.data;
        if ((uintptr_t)p->port[i].t.data + n > hi) hi = (uintptr_t)p->port[i].t.data + n;
    }
    if (lo < hi && hi - lo <= ONE_COPY) { p->in_at = (void *)lo; p->in_bytes = hi - lo; }
    p->side_bytes = total + p->in_bytes + 256;
    LM_TRY(d->pin(d, p->side_bytes + words, &m));
    p->mirror = p->side_mirror[0] = m;
    size_t at = (p->in_bytes + 255) & ~(size_t)255;
    total += at;
    for (int i = 0; i < p->n_port; i++) {
        if (p->port[i].input && p->in_bytes) {
            p->port[i].on_dev = p->port[i].t.data; p->port[i].t.data = p->mirror + ((uintptr_t)p->port[i].on_dev - lo);
            continue;
        }
        lm_storage_bytes((lm_dtype)p->port[i].t.dtype, p->port[i].t.quant, LM_PLAIN, p->port[i].t.rank, p->port[i].t.dim, &n);
        p->port[i].on_dev = p->port[i].t.data; p->port[i].t.data = p->mirror + at;
        at += (n + 255) & ~(size_t)255;
    }
    p->fault = (int32_t *)(p->mirror + total);
    for (int i = 0; i < p->n_step; i++) p->step[i].call.fault = p->fault + i;
    return (p->recorded = lm_arena_alloc(p->a, LM_MAX_RECORDED * sizeof *p->recorded)) ? d->sync(d) : LM_E_NOMEM;
}
void lm_plan_free_dev(lm_plan *p) {
    if (!p->dev) return;
    for (int i = 0; i < p->n_recorded; i++) p->dev->forget(p->dev, p->recorded[i].work);
    for (int i = 0; i < 2; i++) p->dev->unpin(p->dev, p->side_mirror[i]);
}
