/* ahead.c — greedy steps in flight: while the device computes one, the next is already behind it.
 *
 * Where a token goes is known before the token is: position, page, row of the table. Its id is what the step before chose, and that is on the
 * device (op/peak leaves it, op/follow takes it). So the host's part of a step, its launch, and the way of its results are beside the device's
 * work and not between two pieces of it. Two sides of the plan's inputs and outputs take turns. A step that nobody wants any more, because a
 * text has ended, is waited for and its tokens are dropped; what it wrote to pages lies behind every session's end. */
#include <string.h>
#include "infer/infer_int.h"

bool lm_engine_ahead(const lm_engine *e, int n) { return e->peaks && n <= e->max_rows && n <= e->o.chunk && n <= e->o.max_seqs; }
/* Is there room for one more token each? */
static bool room(const lm_engine *e, const lm_request *req, int n) {
    int64_t pages = 0;
    for (int r = 0; r < n; r++) {
        if (req[r].s->n >= e->o.context) return false;
        pages += req[r].s->n % LM_KV_PAGE == 0;
    }
    return pages <= e->n_free;
}
/* One step behind what is on the device; follows: its tokens are the choices of the step before. */
static lm_err begin(lm_engine *e, const lm_request *req, int n, int side, bool follows) {
    lm_plan *p = e->plan;
    LM_TRY(lm_plan_side(p, side));
    int32_t *tokens = lm_plan_input(p, "tokens", NULL), *from = lm_plan_input(p, "from", NULL), *pos = lm_plan_input(p, "pos", NULL),
            *seq = lm_plan_input(p, "seq", NULL), *slot = lm_plan_input(p, "slot", NULL), *rows = lm_plan_input(p, "rows", NULL),
            *table = lm_plan_input(p, "table", NULL);
    for (int r = 0; r < n; r++) {
        lm_session *s = req[r].s;
        lm_session_grow(s);
        memcpy(table + r * e->pages_per_seq, s->page, (size_t)s->n_page * sizeof *s->page);
        tokens[r] = follows ? 0 : req[r].ids[0]; from[r] = follows ? r : -1;
        pos[r] = (int32_t)s->n; seq[r] = rows[r] = r;
        slot[r] = s->page[s->n / LM_KV_PAGE] * LM_KV_PAGE + (int32_t)(s->n % LM_KV_PAGE);
        s->id[s->n++] = tokens[r];
    }
    LM_TRY(lm_plan_extent(p, "N", n));
    LM_TRY(lm_plan_extent(p, "L", n));
    LM_TRY(lm_plan_extent(p, "P", 0));                                  /* the best alone: logits are not even stored */
    lm_plan_want(p, "logits", false);
    lm_plan_want(p, "peaks", false);
    lm_plan_want(p, "best", true);
    lm_engine_alone(e, true);
    const lm_err err = lm_plan_start(p);
    lm_engine_alone(e, false);
    return err;
}
static lm_err steps(lm_engine *e, const lm_request *req, int n, int64_t most, lm_err (*row)(void *, int, const lm_peak_row *, const float *),
                    bool (*go_on)(void *), void *ud) {
    LM_TRY(begin(e, req, n, 0, false));
    for (int64_t k = 0;; k++) {
        const int side = (int)(k & 1);
        const bool behind = k + 1 < most && room(e, req, n);
        if (behind) LM_TRY(begin(e, req, n, side ^ 1, true));
        LM_TRY(lm_plan_await(e->plan, side));
        LM_TRY(lm_plan_side(e->plan, side));
        const float *best = lm_plan_output(e->plan, "best", NULL);
        for (int r = 0; r < n; r++) {
            const lm_peak_row peak = lm_peak_of_best(best + r * LM_PEAK_BEST);
            if (behind) req[r].s->id[req[r].s->n - 1] = (int32_t)best[r * LM_PEAK_BEST + 1];
            LM_TRY(row(ud, r, &peak, NULL));
        }
        if (!behind) return LM_OK;
        if (go_on(ud)) continue;
        LM_TRY(lm_plan_await(e->plan, side ^ 1));
        for (int r = 0; r < n; r++) lm_session_drop(req[r].s, req[r].s->n - 1);
        return LM_OK;
    }
}
lm_err lm_engine_greedy(lm_engine *e, const lm_request *req, int n, int64_t most,
                        lm_err (*row)(void *ud, int r, const lm_peak_row *peak, const float *logits), bool (*go_on)(void *ud), void *ud) {
    if (!lm_engine_ahead(e, n))
        return lm_fail(e->ctx, LM_E_UNSUPPORTED, "steps ahead are for a device, and for as many sessions as one run takes");
    for (int r = 0; r < n; r++)
        if (req[r].n != 1)
            return lm_fail(e->ctx, LM_E_RANGE, "request %d has %lld tokens; steps ahead begin with one", r, (long long)req[r].n);
    int marked;
    lm_err err = lm_engine_check(e, req, n, &marked);
    if (!err && n && most > 0) err = steps(e, req, n, most, row, go_on, ud);
    if (err && err != LM_E_DEVICE) e->o.dev->sync(e->o.dev);          /* what is in flight reads inputs and writes pages that are free from now on */
    const lm_err back = lm_plan_side(e->plan, 0);
    if (!err) err = back;
    lm_engine_unmark(req, marked, err);
    return err;
}
