/* plan_use.c — a plan that is made: its ports, extents of the next runs, what it says of itself. */
#include <string.h>
#include "graph/planner.h"

bool lm_plan_streamed(const lm_plan *p, uint64_t *bytes, double *waited, bool *direct) {
    if (!p->stream) return false;
    lm_stream_stats(p->stream, bytes, waited, direct);
    return true;
}
void lm_plan_stats_of(const lm_plan *p, lm_plan_stats *s) { *s = p->stats; }
static void *port(lm_plan *p, const char *name, lm_tensor *t, bool input) {
    for (int i = 0; i < p->n_port; i++)
        if (p->port[i].input == input && !strcmp(p->port[i].name, name)) { if (t) *t = p->port[i].t; return p->port[i].t.data; }
    return NULL;
}
void *lm_plan_input(lm_plan *p, const char *name, lm_tensor *t) { return port(p, name, t, true); }
void *lm_plan_output(lm_plan *p, const char *name, lm_tensor *t) { return port(p, name, t, false); }
void lm_plan_want(lm_plan *p, const char *name, bool on) {
    for (int i = 0; i < p->n_port; i++) if (!p->port[i].input && !strcmp(p->port[i].name, name)) p->port[i].stays = !on;
}
lm_err lm_plan_fetch(lm_plan *p, const char *name) {
    for (int i = 0; p->dev && i < p->n_port; i++) if (!p->port[i].input && !strcmp(p->port[i].name, name)) return lm_plan_fetch_dev(p, &p->port[i]);
    return LM_OK;
}
lm_err lm_plan_extent(lm_plan *p, const char *name, int64_t n) {
    for (int i = 0; i < p->n_ext; i++) if (!strcmp(p->ext_name[i], name)) {
            if (n < 0 || n > p->cap[i])
                return lm_fail(p->ctx, LM_E_RANGE, "extent %s: %lld is outside 0..%lld", name, (long long)n, (long long)p->cap[i]);
            if (p->ext[i] != n) {
                p->ext[i] = n;
                p->ext_dirty = true; }
        return LM_OK;
    }
    return lm_fail(p->ctx, LM_E_NOTFOUND, "the plan has no extent called %s", name);
}
void lm_plan_apply_extents(lm_plan *p) {
    if (!p->ext_dirty) return;
    for (int i = 0; i < p->n_patch; i++) *p->patch[i].dim = p->ext[p->patch[i].slot];
    for (int i = 0; i < p->n_step; i++) {
        const lm_kernel *k = p->step[i].k;
        lm_call *c = &p->step[i].call;
        const int64_t times = k->repeat ? k->repeat(c) : 1;
        for (int ph = 0; ph < k->n_phase; ph++) {
            int64_t n = 0;
            for (c->iter = 0; c->iter < times; c->iter++) n += k->phase[ph].tiles(c);
            p->step[i].n_tile[ph] = (int32_t)n;
        }
        c->iter = 0;
    }
    lm_plan_spans(p);
    p->ext_dirty = false;
}
void lm_plan_hold(lm_plan *p, bool on) {
    if (p->hold == on) return;
    p->hold = on; p->ext_dirty = true;
    for (int i = 0; i < p->n_step; i++) p->step[i].call.hold = on;
}
void lm_plan_fresh(lm_plan *p, bool on) {
    if (p->fresh == on) return;
    p->fresh = on;
    for (int i = 0; i < p->n_step; i++) p->step[i].call.acc = p->step[i].adds & ~(on ? p->step[i].first : 0u);
}
void lm_plan_step(const lm_plan *p, int i, const char **op, const char **kernel, double *flops, double *bytes) {
    *op = p->step[i].joined ? p->step[i].joined : p->step[i].op; *kernel = p->step[i].k->name; *flops = p->step[i].flops; *bytes = p->step[i].bytes;
}
bool lm_plan_alone(const lm_plan *p) {
    for (int i = 0; i < p->n_step; i++) if (!p->step[i].k->alone) return false;
    return true;
}
void lm_plan_reprice(lm_plan *p) {
    lm_plan_apply_extents(p);
    p->stats.flops = p->stats.bytes = 0;
    for (int i = 0; i < p->n_step; i++) {
        lm_step *s = &p->step[i];
        lm_call c = s->call;
        for (int k = 0; k < c.n_in; k++) c.in[k].data = NULL;                  /* as while planning: rows that look at data then assume the most */
        for (int k = 0; k < c.n_out; k++) c.out[k].data = NULL;
        lm_op_cost(&c, &s->flops, &s->bytes);
        p->stats.flops += s->flops; p->stats.bytes += s->bytes;
    }
}
const lm_call *lm_plan_call(const lm_plan *p, int i) { return &p->step[i].call; }
void lm_plan_print(const lm_plan *p, lm_str *o) {
    lm_str_printf(o, "steps %d  waits %d  in place %d  arena %zu (live %zu)  scratch %zu a thread  states %zu  inputs %zu  constants %zu\n",
                  p->n_step, p->stats.n_waits, p->stats.n_inplace, p->stats.arena_bytes, p->stats.live_bytes, p->thread_stride,
                  p->stats.state_bytes, p->stats.input_bytes, p->stats.const_bytes);
    for (int i = 0; i < p->n_step; i++) {
        const lm_step *s = &p->step[i];
        lm_str_printf(o, "%d %s %s wait %d", i, s->op, s->k->name, s->wait_for);
        for (int k = 0; k < s->call.n_out; k++) {
            lm_str_puts(o, k ? " ," : " ->");
            for (int d = 0; d < s->call.out[k].rank; d++) lm_str_printf(o, d ? "x%lld" : " %lld", (long long)s->call.out[k].dim[d]);
            uintptr_t at = (uintptr_t)s->call.out[k].data, a = p->dry ? LM_ARENA_FAKE : (uintptr_t)p->arena;
            if (at >= a && at < a + p->stats.arena_bytes) lm_str_printf(o, " @%zu", (size_t)(at - a));
            else lm_str_puts(o, s->call.acc >> k & 1 ? " += @state" : " @state");
        }
        lm_str_putc(o, '\n');
    }
}
