/* exec.c — running a plan: tiles from counters, waits on prefixes, no barrier.
 *
 * One thread: a loop. Several: every member walks the steps in order. It waits until the steps its step conflicts with are complete (each
 * member remembers the prefix it has seen done, so the check is amortized), takes tiles until the counter runs out, and goes on without
 * waiting for the others. A kernel that repeats its phases (chunks) runs through the same counters: they go on counting over the
 * repetitions, and each member sees the call with its own `iter`.
 *
 * Phases whose tiles walk through weights (lm_phase.reads) have a counter for each member: it takes neighbours, from the front of its run of tiles, and
 * where it has none left, the last ones of others. So it is known what a member will read, step after step, and while it waits for others it asks for
 * that, up to FAR bytes into its second-level cache. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include "graph/plan_int.h"

/* Weights that stay in a file: a step waits for its own, and what the steps before it used may be read over. A member that comes here has no tile left
 * to do in earlier steps; the last one to come finds all of them complete and says so, so nobody waits for what has no room. */
static lm_err gate(lm_plan *p, const lm_step *s) { return s->gate ? lm_stream_wait(p->stream, p->lap + (uint64_t)s->away - 1) : LM_OK; }
static void used(lm_plan *p, const lm_step *s) { lm_stream_done(p->stream, p->lap + (uint64_t)s->away); }
static void lap_over(lm_plan *p) { if (p->stream) { p->lap += (uint64_t)p->n_away; lm_stream_done(p->stream, p->lap); } }
static lm_err step_serial(lm_plan *p, lm_step *s) {
    LM_TRY(gate(p, s));
    const int64_t times = s->k->repeat ? s->k->repeat(&s->call) : 1;
    lm_err err = LM_OK;
    for (s->call.iter = 0; s->call.iter < times && !err; s->call.iter++)
        for (int ph = 0; ph < s->k->n_phase && !err; ph++) {
            const int64_t n = s->k->repeat ? s->k->phase[ph].tiles(&s->call) : s->n_tile[ph];
            const lm_phase *f = &s->k->phase[ph];
            if (f->begin && n) err = f->begin(&s->call, p->threads);
            for (int64_t t = 0; t < n && !err; t++) err = (f->begin ? f->walk : f->run)(&s->call, t, p->threads);
        }
    s->call.iter = 0;
    if (s->gate) used(p, s);
    return err;
}
/* ---- walks ------------------------------------------------------------------------------------------------------------------------------ */
enum { FAR = 192 << 10, BURST = 4 /* lines between two looks at what is awaited */ };
lm_err lm_plan_walks(lm_plan *p) {
    const int nth = lm_ctx_threads(p->ctx);
    for (int i = 0; i < p->n_step; i++) {
        lm_step *s = &p->step[i];
        s->walk = s->lot = -1;
        for (int ph = 0; ph < s->k->n_phase && !s->k->repeat; ph++) if (s->k->phase[ph].reads) s->walk = ph;
        if (s->walk >= 0) s->lot = p->n_lot++;
    }
    if (!p->n_lot) return LM_OK;
    p->lot = lm_calloc(p->ctx, LM_MEM_GRAPH, (size_t)(p->n_lot * nth), sizeof *p->lot);
    p->walker = lm_calloc(p->ctx, LM_MEM_GRAPH, (size_t)nth, sizeof *p->walker);
    if (!p->lot || !p->walker) return LM_E_NOMEM;
    for (int m = 0; m < nth; m++) {
        lm_walker *w = &p->walker[m];
        w->span = lm_arena_alloc(p->a, (size_t)(LM_SPANS * p->n_lot) * sizeof *w->span);
        w->before = lm_arena_alloc(p->a, (size_t)(LM_SPANS * p->n_lot + 1) * sizeof *w->before);
        if (!w->span || !w->before) return LM_E_NOMEM;
    }
    return LM_OK;
}
void lm_plan_spans(lm_plan *p) {
    const int nth = lm_ctx_threads(p->ctx);
    for (int m = 0; m < nth && p->n_lot; m++) {
        lm_walker *w = &p->walker[m];
        memset(w->span, 0, (size_t)(LM_SPANS * p->n_lot) * sizeof *w->span);
        for (int i = 0; i < p->n_step; i++) {
            const lm_step *s = &p->step[i];
            if (s->lot < 0 || s->gate) continue;
            const int64_t n = s->n_tile[s->walk];
            if (n) s->k->phase[s->walk].reads(&s->call, n * m / nth, n * (m + 1) / nth, w->span + LM_SPANS * s->lot);
        }
        for (int i = 0; i < LM_SPANS * p->n_lot; i++) w->before[i + 1] = w->before[i] + (uint64_t)(w->span[i].end - w->span[i].p);
        w->off = !w->before[LM_SPANS * p->n_lot];
        w->at = w->done = 0; w->lap = false; w->p = w->span[0].p;
    }
}
/* The next stretch that is not empty. */
static void next_span(lm_walker *w, int n) {
    do if (++w->at == n) { w->at = 0; w->lap = true; } while (w->span[w->at].p == w->span[w->at].end);
    w->p = w->span[w->at].p;
}
/* Asks for the next lines; false: it is far enough. */
static inline bool ask(const lm_plan *p, lm_walker *w) {
    const int n = LM_SPANS * p->n_lot;
    if (w->off || (w->lap ? w->before[n] : 0) + w->before[w->at] + (uint64_t)(w->p - w->span[w->at].p) >= w->before[w->done] + FAR) return false;
    for (int i = 0; i < BURST; i++, w->p += 64) {
        if (w->p >= w->span[w->at].end) next_span(w, n);
        __builtin_prefetch(w->p, 0, 2);
    }
    return true;
}
/* A run of the plan begins; what the last one asked for ahead is there. */
static void walk_begin(lm_walker *w) {
    if (!w->lap) { w->at = 0; w->p = w->span[0].p; }
    w->lap = false; w->done = 0;
}
/* The member has read what a step has for it. */
static void walked(const lm_plan *p, lm_walker *w, const lm_step *s) {
    w->done = LM_SPANS * (s->lot + 1);
    if (w->off || w->lap || w->at >= w->done) return;
    w->at = w->done - 1;
    next_span(w, LM_SPANS * p->n_lot);
}
/* w: who waits, and asks for what comes; NULL: there is nothing to ask for. */
static inline void wait_until(const lm_plan *p, _Atomic int32_t *c, int32_t n, lm_walker *w) {
    for (int spin = 0; atomic_load_explicit(c, memory_order_acquire) < n; spin++) {
        if (!w || !ask(p, w)) lm_pause();
        if ((spin & 4095) == 4095) sched_yield();
    }
}
static void step_done(const lm_plan *p, const lm_step *s, lm_counter *c, lm_walker *w) {
    for (int ph = 0; ph < s->k->n_phase; ph++) wait_until(p, &c->done[ph], s->n_tile[ph], w);
}
static bool complete(const lm_step *s, lm_counter *c) {
    for (int ph = 0; ph < s->k->n_phase; ph++) if (atomic_load_explicit(&c->done[ph], memory_order_acquire) < s->n_tile[ph]) return false;
    return true;
}
static void run_tile(lm_plan *p, lm_step *s, int ph, const lm_call *call, int64_t t, lm_counter *c, void *scratch) {
    if (!atomic_load_explicit(&p->err, memory_order_relaxed)) {
        lm_err e = s->k->phase[ph].run(call, t, scratch);
        int none = 0;
        if (e) atomic_compare_exchange_strong(&p->err, &none, (int)e);
    }
    if (s->n_tile[ph] == 1) atomic_store_explicit(&c->done[ph], 1, memory_order_release);      /* need not wait for the line that others look at */
    else atomic_fetch_add_explicit(&c->done[ph], 1, memory_order_release);
}
/* Repetitions: tiles of repetition r are those from `base` on; nobody takes one before the last phase of the repetition before is done. */
static void step_repeated(lm_plan *p, lm_step *s, lm_counter *c, void *scratch) {
    lm_call call = s->call;
    const int64_t times = s->k->repeat(&call);
    int32_t base[LM_MAX_PHASE] = {0};
    for (call.iter = 0; call.iter < times; call.iter++)
        for (int ph = 0; ph < s->k->n_phase; ph++) {
            const int32_t end = base[ph] + (int32_t)s->k->phase[ph].tiles(&call);
            if (ph) wait_until(p, &c->done[ph - 1], base[ph - 1], NULL);                       /* already moved to the end of this repetition */
            else if (call.iter) wait_until(p, &c->done[s->k->n_phase - 1], base[s->k->n_phase - 1], NULL);
            for (int32_t t = atomic_load_explicit(&c->next[ph], memory_order_relaxed); t < end;)
                if (atomic_compare_exchange_weak_explicit(&c->next[ph], &t, t + 1, memory_order_relaxed, memory_order_relaxed)) {
                    run_tile(p, s, ph, &call, t - base[ph], c, scratch);
                    t = atomic_load_explicit(&c->next[ph], memory_order_relaxed);
                }
            base[ph] = end;
        }
}
/* The member's own run of tiles from its front, then those of others from their backs. */
static void step_walk(lm_plan *p, lm_step *s, lm_counter *c, int ith, int nth, void *scratch) {
    const lm_phase *f = &s->k->phase[s->walk];
    const int64_t n = s->n_tile[s->walk];
    bool begun = false;
    int32_t did = 0;
    for (int k = 0; k < nth; k++) {
        const int m = (ith + k) % nth;
        const int64_t first = n * m / nth, size = n * (m + 1) / nth - first;
        for (int64_t t; (t = lm_lot_take(&p->lot[s->lot * nth + m], size, !k)) >= 0; did++) {
            if (atomic_load_explicit(&p->err, memory_order_relaxed)) continue;
            lm_err e = LM_OK;
            if (f->begin && !begun) { e = f->begin(&s->call, scratch); begun = true; }
            if (!e) e = (f->begin ? f->walk : f->run)(&s->call, first + t, scratch);
            int none = 0;
            if (e) atomic_compare_exchange_strong(&p->err, &none, (int)e);
        }
    }
    if (did) atomic_fetch_add_explicit(&c->done[s->walk], did, memory_order_release);
}
static void member(void *ud, int ith, int nth) {
    lm_plan *p = ud;
    lm_walker *w = p->walker && !p->alone ? &p->walker[ith] : NULL;
    void *scratch = p->threads ? p->threads + (size_t)ith * p->thread_stride : NULL;
    int seen = 0;                                       /* steps [0, seen) are complete */
    if (w) walk_begin(w);
    for (int i = 0; i < p->n_step; i++) {
        lm_step *s = &p->step[i];
        lm_counter *c = &p->counter[i];
        for (; seen <= s->wait_for; seen++) step_done(p, &p->step[seen], &p->counter[seen], w);
        if (s->gate) {
            while (seen < i && complete(&p->step[seen], &p->counter[seen])) seen++;
            if (seen) used(p, &p->step[seen - 1]);
            const lm_err e = gate(p, s);
            int none = 0;
            if (e) atomic_compare_exchange_strong(&p->err, &none, (int)e);
        }
        if (s->k->repeat) { step_repeated(p, s, c, scratch); continue; }
        for (int ph = 0; ph < s->k->n_phase; ph++) {
            const int32_t n = s->n_tile[ph]; int32_t t;
            if (ph) wait_until(p, &c->done[ph - 1], s->n_tile[ph - 1], w);
            if (ph == s->walk) { step_walk(p, s, c, ith, nth, scratch); if (w) walked(p, w, s); continue; }
            /* who is late only looks, so that the line stays with whoever writes it */
            while (atomic_load_explicit(&c->next[ph], memory_order_relaxed) < n && (t = atomic_fetch_add_explicit(&c->next[ph], 1, memory_order_relaxed)) < n)
                run_tile(p, s, ph, &s->call, t, c, scratch);
        }
    }
    for (; seen < p->n_step; seen++) step_done(p, &p->step[seen], &p->counter[seen], w);
}
lm_err lm_plan_run(lm_plan *p) {
    if (p->dry) return lm_fail(p->ctx, LM_E_INTERNAL, "a dry plan cannot run");
    if (p->dev) return lm_plan_run_dev(p);
    lm_plan_apply_extents(p);
    if (lm_ctx_threads(p->ctx) == 1) {
        lm_err err = LM_OK;
        for (int i = 0; i < p->n_step && !err; i++) err = step_serial(p, &p->step[i]);
        lap_over(p);
        return err;
    }
    memset((void *)p->counter, 0, (size_t)p->n_step * sizeof *p->counter);
    if (p->lot) memset((void *)p->lot, 0, (size_t)(p->n_lot * lm_ctx_threads(p->ctx)) * sizeof *p->lot);
    atomic_store(&p->err, 0);
    lm_pool_run(lm_ctx_pool(p->ctx), member, p);
    lap_over(p);
    return (lm_err)atomic_load(&p->err);
}
static lm_err on_device(const lm_plan *p) {
    if (p->dev && !p->dry && !p->n_aside) return LM_OK;
    return lm_fail(p->ctx, LM_E_INTERNAL, "runs in flight are for plans on a device where no ranks meet");
}
lm_err lm_plan_side(lm_plan *p, int side) { LM_TRY(on_device(p)); return lm_plan_side_dev(p, side); }
lm_err lm_plan_start(lm_plan *p) { LM_TRY(on_device(p)); return lm_plan_start_dev(p); }
lm_err lm_plan_await(lm_plan *p, int side) { LM_TRY(on_device(p)); return lm_plan_await_dev(p, side); }
lm_err lm_plan_profile(lm_plan *p, double *seconds, int n) {
    if (p->dry) return lm_fail(p->ctx, LM_E_INTERNAL, "a dry plan cannot run");
    if (p->dev) return lm_plan_profile_dev(p, seconds, n);
    lm_plan_apply_extents(p);
    int all = p->n_step;
    memset((void *)p->counter, 0, (size_t)all * sizeof *p->counter);
    if (p->lot) memset((void *)p->lot, 0, (size_t)(p->n_lot * lm_ctx_threads(p->ctx)) * sizeof *p->lot);
    atomic_store(&p->err, 0);
    p->alone = true;
    lm_step *first = p->step; lm_counter *counter = p->counter;
    for (int i = 0; i < all && !atomic_load(&p->err); i++) {          /* one step at a time through the same team code */
        int wait = first[i].wait_for;
        first[i].wait_for = -1; p->step = &first[i]; p->counter = &counter[i]; p->n_step = 1;
        double t = lm_now();
        lm_pool_run(lm_ctx_pool(p->ctx), member, p);
        if (i < n) seconds[i] = lm_now() - t;
        if (first[i].gate) used(p, &first[i]);
        first[i].wait_for = wait;
    }
    p->step = first; p->counter = counter; p->n_step = all; p->alone = false;
    lap_over(p);
    return (lm_err)atomic_load(&p->err);
}

/* ---- the fake asynchronous device --------------------------------------------------------------------------------------------------- */
typedef struct { lm_plan *p; int *n_dep, **out, *n_out; int *ready, n_ready, n_done; atomic_flag lock; uint64_t seed; char **scratch; } fake;
static void fake_member(void *ud, int ith, int nth) {
    fake *f = ud; (void)nth;
    lm_rng r = lm_rng_of(f->seed, "fake device");
    for (uint64_t draw = 0;; draw++) {
        while (atomic_flag_test_and_set_explicit(&f->lock, memory_order_acquire)) sched_yield();
        if (f->n_done == f->p->n_step || atomic_load(&f->p->err)) { atomic_flag_clear_explicit(&f->lock, memory_order_release); return; }
        int i = -1;
        if (f->n_ready) {
            uint64_t k = lm_rng_below(r, draw * 64 + (uint64_t)ith, (uint64_t)f->n_ready);
            i = f->ready[k];
            f->ready[k] = f->ready[--f->n_ready];
        }
        atomic_flag_clear_explicit(&f->lock, memory_order_release);
        if (i < 0) { sched_yield(); continue; }
        for (uint64_t d = lm_rng_below(r, draw * 64 + 32 + (uint64_t)ith, 4); d; d--) sched_yield();       /* a random delay */
        lm_step *s = &f->p->step[i];
        lm_err e = LM_OK;
        lm_call call = s->call;
        const int64_t times = s->k->repeat ? s->k->repeat(&call) : 1;
        for (; call.iter < times && !e; call.iter++)
            for (int ph = 0; ph < s->k->n_phase && !e; ph++) {
                int64_t n = s->k->phase[ph].tiles(&call);
                /* backwards: tile order must not matter */
                for (int64_t t = n - 1; t >= 0 && !e; t--) e = s->k->phase[ph].run(&call, t, f->scratch[ith]);
            }
        int none = 0;
        if (e) atomic_compare_exchange_strong(&f->p->err, &none, (int)e);
        while (atomic_flag_test_and_set_explicit(&f->lock, memory_order_acquire)) sched_yield();
        f->n_done++;
        for (int k = 0; k < f->n_out[i]; k++) if (!--f->n_dep[f->out[i][k]]) f->ready[f->n_ready++] = f->out[i][k];
        atomic_flag_clear_explicit(&f->lock, memory_order_release);
    }
}
lm_err lm_plan_run_shuffled(lm_plan *p, uint64_t seed, int n_threads) {
    if (p->dry || p->dev || p->stream) return lm_fail(p->ctx, LM_E_INTERNAL, "a dry plan, one of a device or one that reads a file as it runs cannot run so");
    lm_plan_apply_extents(p);
    atomic_store(&p->err, 0);
    lm_arena *a;
    LM_TRY(lm_arena_new(&a, p->ctx, LM_MEM_GRAPH, 0));
    int n = p->n_step;
    lm_err err = LM_E_NOMEM;
    lm_pool *pool = NULL;
    fake f = { .p = p, .seed = seed, .lock = ATOMIC_FLAG_INIT };
    f.n_dep = lm_arena_alloc(a, (size_t)(n + 1) * sizeof(int)); f.n_out = lm_arena_alloc(a, (size_t)(n + 1) * sizeof(int));
    f.out = lm_arena_alloc(a, (size_t)(n + 1) * sizeof(int *)); f.ready = lm_arena_alloc(a, (size_t)(n + 1) * sizeof(int));
    f.scratch = lm_arena_alloc(a, (size_t)n_threads * sizeof(char *));
    if (!f.n_dep || !f.n_out || !f.out || !f.ready || !f.scratch) goto done;
    for (int i = 0; i < n_threads; i++) if (p->thread_stride && !(f.scratch[i] = lm_alloc(p->ctx, LM_MEM_SCRATCH, p->thread_stride))) goto done;
    for (int i = 0; i < n; i++) {
        if (!(f.out[i] = lm_arena_alloc(a, (size_t)(n - i) * sizeof(int)))) goto done;
        for (int k = i + 1; k < n; k++) if (lm_step_conflict(&p->step[i], &p->step[k])) { f.out[i][f.n_out[i]++] = k; f.n_dep[k]++; }
    }
    for (int i = 0; i < n; i++) if (!f.n_dep[i]) f.ready[f.n_ready++] = i;
    LM_GOTO(lm_pool_new(&pool, p->ctx, n_threads), done);
    lm_pool_run(pool, fake_member, &f);
    err = (lm_err)atomic_load(&p->err);
done:
    lm_pool_free(pool);
    for (int i = 0; f.scratch && i < n_threads; i++) lm_free(p->ctx, f.scratch[i]);
    lm_arena_free(a);
    return err;
}
