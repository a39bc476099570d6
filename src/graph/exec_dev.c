/* exec_dev.c — running a plan on a device: steps are put on its stream in order, inputs go before them and outputs come after.
 *
 * The first run waits after each step, so that what the device refuses is named by its op. The second run of a set of extents, and of outputs that are wanted, records the
 * whole, copies of inputs and outputs included, and later ones launch the record: one call, whatever the number of steps. Extents are part
 * of a record, so there is one per set of them, up to LM_MAX_RECORDED; other sets run step by step. A plan in which the host has a part
 * (collectives) is never recorded: no such row exists for a device yet. Small inputs that lie together go in one copy: what lies between
 * them is written by later steps. A step that finds an index outside writes to its word of `fault`, which is the host's memory. */
#include <string.h>
#include "graph/plan_int.h"
enum { ONE_COPY = 64 << 10 };       /* bytes of inputs, and of what lies between them */

static lm_err step(lm_plan *p, lm_step *s) {
    if (s->many) {
        const lm_call *c[LM_MANY];
        for (int i = 0; i < s->many; i++) c[i] = &s[i].call;
        return s->many < 0 ? LM_OK : s->k->run_many(c, s->many, p->dev->stream);
    }
    const int64_t times = s->k->repeat ? s->k->repeat(&s->call) : 1;
    lm_err err = LM_OK;
    for (s->call.iter = 0; s->call.iter < times && !err; s->call.iter++)
        for (int ph = 0; ph < s->k->n_phase && !err; ph++) {
            const int64_t n = s->k->phase[ph].tiles(&s->call);
            for (int64_t t = 0; t < n && !err; t++) err = s->k->phase[ph].run(&s->call, t, p->dev->stream);
        }
    s->call.iter = 0;
    return err;
}
/* Step i, or the join that begins with it and takes the sizes of now; n: how many steps that was. */
static lm_err next(lm_plan *p, int i, const lm_joined **join, int *n) {
    int lo = 0, hi = p->n_joined;
    while (lo < hi) { const int mid = (lo + hi) / 2; if (p->joined[mid].first < i) lo = mid + 1; else hi = mid; }
    const lm_joined *j = lo < p->n_joined && p->joined[lo].first == i && p->joined[lo].row->accepts(p->joined[lo].call) ? &p->joined[lo] : NULL;
    *n = j ? j->n : 1; *join = j;
    for (int k = 0; k < *n; k++) p->step[i + k].joined = j ? j->row->name : NULL;
    return j ? j->row->run(j->call, p->dev->stream) : step(p, &p->step[i]);
}
static size_t port_bytes(const lm_plan *p, const lm_port *o) {
    size_t n = 0;
    lm_storage_bytes((lm_dtype)o->t.dtype, o->t.quant, LM_PLAIN, o->t.rank, o->t.dim, &n);
    return o->ext && o->t.dim[0] ? n / (size_t)o->t.dim[0] * (size_t)p->ext[o->ext - 1] : n;
}
static lm_err whole(lm_plan *p) {
    lm_dev *d = p->dev;
    if (p->in_bytes) LM_TRY(d->put(d, p->in_at, p->mirror, p->in_bytes));
    else for (int i = 0; i < p->n_port; i++) if (p->port[i].input) LM_TRY(d->put(d, p->port[i].on_dev, p->port[i].t.data, port_bytes(p, &p->port[i])));
    for (int i = 0, n; i < p->n_step; i += n) {
        const lm_joined *j = NULL;
        lm_err e = next(p, i, &j, &n);
        const char *op = j ? j->row->name : p->step[i].op, *kernel = j ? "joined" : p->step[i].k->name;
        if (e)
            return *lm_error(p->ctx) ? lm_fail_in(p->ctx, e, "%s (%s)", op, kernel) : lm_fail(p->ctx, e, "%s (%s): %s", op, kernel, lm_err_text(e));
        if (!p->checked && (e = d->sync(d))) return lm_fail_in(p->ctx, e, "%s (%s)", op, kernel);
    }
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
    for (int i = 0; i < p->n_recorded; i++) if (p->recorded[i].key == key) return &p->recorded[i];
    if (p->n_recorded == LM_MAX_RECORDED) return NULL;
    p->recorded[p->n_recorded] = (lm_recorded){ .key = key };
    return &p->recorded[p->n_recorded++];
}
static lm_err finish(lm_plan *p, lm_err err) {
    if (!err) err = p->dev->sync(p->dev);
    if (err) return err;
    for (int i = 0; i < p->n_step; i++)
        if (p->fault[i]) {
            memset(p->fault, 0, (size_t)p->n_step * sizeof *p->fault);
            return lm_fail(p->ctx, LM_E_RANGE, "%s (%s): an index is outside of what it points into", p->step[i].op, p->step[i].k->name);
        }
    p->checked = true;
    return LM_OK;
}
lm_err lm_plan_run_dev(lm_plan *p) {
    lm_dev *d = p->dev;
    lm_plan_apply_extents(p);
    lm_recorded *r = find(p);
    if (r && !r->work && r->runs++) {
        LM_TRY(d->record(d));
        lm_err e = whole(p), e2 = d->recorded(d, &r->work);
        if (e || e2) return e ? e : e2;
    }
    return finish(p, r && r->work ? d->launch(d, r->work) : whole(p));
}
lm_err lm_plan_profile_dev(lm_plan *p, double *seconds, int n) {
    lm_dev *d = p->dev;
    LM_TRY(lm_plan_run_dev(p));
    LM_TRY(d->mark(d, 0));
    for (int i = 0, m; i < p->n_step && i + 1 < LM_DEV_MARKS; i += m) {                /* a join's time is its first step's */
        const lm_joined *j;
        LM_TRY(next(p, i, &j, &m));
        for (int k = i; k < i + m && k + 1 < LM_DEV_MARKS; k++) LM_TRY(d->mark(d, k + 1));
    }
    LM_TRY(d->sync(d));
    for (int i = 0; i < n; i++) seconds[i] = 0;
    for (int i = 0; i < p->n_step && i + 1 < LM_DEV_MARKS && i < n; i++) LM_TRY(d->between(d, i, i + 1, &seconds[i]));
    return LM_OK;
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
    LM_TRY(d->pin(d, total + p->in_bytes + 256 + words, &m));
    p->mirror = m;
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
    p->dev->unpin(p->dev, p->mirror);
}
