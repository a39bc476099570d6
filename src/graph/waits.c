/* waits.c — which earlier steps a step must wait for: the latest that touches any of its bytes, one of the two writing.
 *
 * The bytes that steps touch are kept as a sorted list of disjoint segments, each with the last step that wrote and the last that read it.
 * A step looks up its ranges, then leaves its own number there; ranges split segments at their ends. This is the definition
 * (lm_step_conflict over all pairs, which the tests compare with) without the pairs. */
#include <string.h>
#include "graph/graph_int.h"
#include "graph/plan_int.h"

typedef struct { uintptr_t lo, hi; int wrote, read; } segment;
typedef struct { lm_graph *g; segment *s; int n, cap; } map;

static int first_after(const map *m, uintptr_t lo) {               /* the first segment that ends behind lo */
    int a = 0, b = m->n;
    while (a < b) { int c = (a + b) / 2; if (m->s[c].hi > lo) b = c; else a = c + 1; }
    return a;
}
static bool insert(map *m, int at, segment x) {
    if (!lm_graph_grow(m->g, &m->s, m->n, &m->cap, sizeof *m->s)) return false;
    memmove(&m->s[at + 1], &m->s[at], (size_t)(m->n - at) * sizeof *m->s);
    m->s[at] = x; m->n++;
    return true;
}
static void look(const map *m, const lm_range *r, int *wait) {
    for (int i = first_after(m, r->lo); i < m->n && m->s[i].lo < r->hi; i++) {
        if (m->s[i].wrote > *wait) *wait = m->s[i].wrote;
        if (r->write && m->s[i].read > *wait) *wait = m->s[i].read;
    }
}
static bool leave(map *m, const lm_range *r, int step) {
    uintptr_t at = r->lo;
    for (int i = first_after(m, r->lo); at < r->hi; i++) {
        /* nothing here up to the end */
        if (i == m->n || m->s[i].lo >= r->hi) { if (!insert(m, i, (segment){ at, r->hi, -1, -1 })) return false; }
        else if (m->s[i].lo > at) { if (!insert(m, i, (segment){ at, m->s[i].lo, -1, -1 })) return false; }             /* a gap */
        else {
            if (m->s[i].lo < at) { segment left = m->s[i]; left.hi = at; if (!insert(m, i, left)) return false; m->s[++i].lo = at; }
            if (m->s[i].hi > r->hi) { segment left = m->s[i]; left.hi = r->hi; if (!insert(m, i, left)) return false; m->s[i + 1].lo = r->hi; }
        }
        if (r->write) m->s[i].wrote = step; else m->s[i].read = step;
        at = m->s[i].hi;
    }
    return true;
}
lm_err lm_plan_waits(lm_graph *g, lm_plan *p) {
    map m = { .g = g };
    int effect = -1;
    p->stats.n_waits = 0;
    for (int i = 0; i < p->n_step; i++) {
        lm_step *st = &p->step[i];
        st->wait_for = st->effect ? effect : -1;
        for (int k = 0; k < st->n_range; k++) if (st->range[k].lo < st->range[k].hi) look(&m, &st->range[k], &st->wait_for);
        for (int k = 0; k < st->n_range; k++) if (st->range[k].lo < st->range[k].hi && !leave(&m, &st->range[k], i)) return g->err;
        if (st->effect) effect = i;
        p->stats.n_waits += st->wait_for >= 0;
    }
    return LM_OK;
}
