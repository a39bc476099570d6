/* exec_dev.c — running a plan on a device: steps are put on its stream in order, inputs go before them and outputs come after.
 *
 * The first run waits after each step, so that what the device refuses is named by its op. The second run of a set of extents records the
 * whole, copies of inputs and outputs included, and later ones launch the record: one call, whatever the number of steps. Extents are part
 * of a record, so there is one per set of them, up to LM_MAX_RECORDED; other sets run step by step. A plan in which the host has a part
 * (collectives) is never recorded: no such row exists for a device yet. A step that finds an index outside writes to its word of `fault`;
 * all words come back with the outputs. */
#include <string.h>
#include "graph/plan_int.h"

static lm_err step(lm_plan *p, lm_step *s) {
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
static size_t port_bytes(const lm_plan *p, const lm_port *o) {
    size_t n = 0;
    lm_storage_bytes((lm_dtype)o->t.dtype, o->t.quant, LM_PLAIN, o->t.rank, o->t.dim, &n);
    return o->ext && o->t.dim[0] ? n / (size_t)o->t.dim[0] * (size_t)p->ext[o->ext - 1] : n;
}
static lm_err whole(lm_plan *p) {
    lm_dev *d = p->dev;
    for (int i = 0; i < p->n_port; i++) if (p->port[i].input) LM_TRY(d->put(d, p->port[i].on_dev, p->port[i].t.data, port_bytes(p, &p->port[i])));
    LM_TRY(d->zero(d, p->fault, (size_t)p->n_step * sizeof *p->fault));
    for (int i = 0; i < p->n_step; i++) {
        lm_err e = step(p, &p->step[i]);
        if (e)
            return *lm_error(p->ctx) ? lm_fail_in(p->ctx, e, "%s (%s)", p->step[i].op, p->step[i].k->name)
                                     : lm_fail(p->ctx, e, "%s (%s): %s", p->step[i].op, p->step[i].k->name, lm_err_text(e));
        if (!p->checked && (e = d->sync(d))) return lm_fail_in(p->ctx, e, "%s (%s)", p->step[i].op, p->step[i].k->name);
    }
    for (int i = 0; i < p->n_port; i++) if (!p->port[i].input) LM_TRY(d->get(d, p->port[i].t.data, p->port[i].on_dev, port_bytes(p, &p->port[i])));
    return d->get(d, p->faults, p->fault, (size_t)p->n_step * sizeof *p->fault);
}
static lm_recorded *find(lm_plan *p) {
    const uint64_t key = lm_hash64(p->ext, (size_t)p->n_ext * sizeof *p->ext, 0);
    for (int i = 0; i < p->n_recorded; i++) if (p->recorded[i].key == key) return &p->recorded[i];
    if (p->n_recorded == LM_MAX_RECORDED) return NULL;
    p->recorded[p->n_recorded] = (lm_recorded){ .key = key };
    return &p->recorded[p->n_recorded++];
}
static lm_err finish(lm_plan *p, lm_err err) {
    if (!err) err = p->dev->sync(p->dev);
    if (err) return err;
    for (int i = 0; i < p->n_step; i++)
        if (p->faults[i])
            return lm_fail(p->ctx, LM_E_RANGE, "%s (%s): an index is outside of what it points into", p->step[i].op, p->step[i].k->name);
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
    for (int i = 0; i < p->n_step && i + 1 < LM_DEV_MARKS; i++) { LM_TRY(step(p, &p->step[i])); LM_TRY(d->mark(d, i + 1)); }
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
    LM_TRY(d->pin(d, total + words, &m));
    p->mirror = m;
    size_t at = 0;
    for (int i = 0; i < p->n_port; i++) {
        lm_storage_bytes((lm_dtype)p->port[i].t.dtype, p->port[i].t.quant, LM_PLAIN, p->port[i].t.rank, p->port[i].t.dim, &n);
        p->port[i].on_dev = p->port[i].t.data; p->port[i].t.data = p->mirror + at;
        at += (n + 255) & ~(size_t)255;
    }
    p->faults = (int32_t *)(p->mirror + total);
    LM_TRY(d->alloc(d, words, &m));
    p->fault = m;
    for (int i = 0; i < p->n_step; i++) p->step[i].call.fault = p->fault + i;
    return (p->recorded = lm_arena_alloc(p->a, LM_MAX_RECORDED * sizeof *p->recorded)) ? d->sync(d) : LM_E_NOMEM;
}
void lm_plan_free_dev(lm_plan *p) {
    if (!p->dev) return;
    for (int i = 0; i < p->n_recorded; i++) p->dev->forget(p->dev, p->recorded[i].work);
    p->dev->unpin(p->dev, p->mirror);
    p->dev->free(p->dev, p->fault);
}
