/* join.c — finding joins (op/join.h) among a plan's steps, before memory is laid out.
 *
 * Names of a pattern are bound to values, statements to steps, with a step back where a choice does not work out (three products of one
 * input look alike until one of them is rotated). Joins may overlap: which ones run is decided by the sizes of a run, from the first step on. A join that is found makes the memory of its steps live from the first to the last of
 * them: the kernel reads all inputs while it writes all outputs. */
#include <ctype.h>
#include <string.h>
#include "graph/graph_int.h"
#include "graph/plan_int.h"

enum { NAMES = 26 };
typedef struct { const char *op; int op_n, out, n_in, in[LM_MAX_IN]; } statement;       /* out, in: letters; -1 none */
typedef struct { statement s[LM_JOIN_STEPS]; int n; } pattern;
typedef struct { lm_plan *p; const pattern *pat; int first, n, step[LM_JOIN_STEPS]; lm_value *name[NAMES]; } match;

static const char *skip(const char *s) { while (*s == ' ' || *s == ';') s++; return s; }
static bool parse(const char *s, pattern *p) {
    p->n = 0;
    for (s = skip(s); *s; s = skip(s)) {
        if (p->n == LM_JOIN_STEPS) return false;
        statement *t = &p->s[p->n++];
        t->out = *s - 'a'; t->n_in = 0;
        if (s[1] != '=') return false;
        t->op = s += 2;
        while (*s && *s != '(') s++;
        t->op_n = (int)(s - t->op);
        while (*s && *s != ')') { s++; if (t->n_in == LM_MAX_IN || !islower((unsigned char)*s)) return false; t->in[t->n_in++] = *s++ - 'a'; }
        if (*s++ != ')') return false;
    }
    return p->n > 1;
}
static bool search(match *m, int k) {
    if (k == m->pat->n) return true;
    const statement *t = &m->pat->s[k];
    lm_value *saved[NAMES];
    memcpy(saved, m->name, sizeof saved);
    for (int i = k ? m->first + 1 : m->first; i < m->first + (k ? m->n : 1); i++) {
        const lm_node *n = m->p->step[i].node;
        bool ok = strlen(n->op->name) == (size_t)t->op_n && !memcmp(n->op->name, t->op, (size_t)t->op_n) && n->n_in >= t->n_in && !n->acc;
        for (int q = 0; q < k; q++) ok = ok && m->step[q] != i;
        for (int q = 0; ok && q < t->n_in; q++) {
            ok = n->in[q] && (!m->name[t->in[q]] || m->name[t->in[q]] == n->in[q]);
            if (ok) m->name[t->in[q]] = n->in[q];
        }
        if (ok && !m->name[t->out]) {
            m->name[t->out] = n->out[0]; m->step[k] = i;
            if (search(m, k + 1)) return true;
        }
        memcpy(m->name, saved, sizeof saved);
    }
    return false;
}
/* Does a step outside of the join, or the plan's caller, read an output of a step whose outputs are not written? */
static bool hidden(const lm_graph *g, lm_node *const *live, int n_live, const match *m, const lm_join *j) {
    for (int k = 0; k < m->pat->n; k++) {
        if (j->keeps >> k & 1) continue;
        const lm_node *n = m->p->step[m->step[k]].node;
        for (int o = 0; o < n->n_out; o++) {
            for (int i = 0; i < g->n_output; i++) if (g->output[i].v == n->out[o]) return false;
            for (int i = 0; i < n_live; i++) {
                const lm_node *r = live[i];
                bool member = false;
                for (int q = 0; q < m->pat->n; q++) member |= m->p->step[m->step[q]].node == r;
                for (int q = 0; !member && q < r->n_in; q++) if (r->in[q] == n->out[o]) return false;
            }
        }
    }
    return true;
}
lm_err lm_plan_join(lm_graph *g, lm_plan *p, lm_node *const *live, int n_live, lm_dev_kind kind, uint64_t features) {
    int cap = 0;
    for (int first = 0; first < p->n_step; first++)
        for (int j = 0; lm_joins[j]; j++) {
            pattern pat;
            if (lm_joins[j]->device != kind || (lm_joins[j]->needs & ~features)) continue;
            if (!parse(lm_joins[j]->pattern, &pat)) return lm_graph_fail(g, LM_E_INTERNAL, "the join %s cannot be read", lm_joins[j]->name);
            match m = { .p = p, .pat = &pat, .first = first, .n = pat.n };
            if (first + pat.n > p->n_step || !search(&m, 0) || !hidden(g, live, n_live, &m, lm_joins[j])) continue;
            if (!lm_graph_grow(g, &p->joined, p->n_joined, &cap, sizeof *p->joined)) return LM_E_NOMEM;
            lm_joined *x = &p->joined[p->n_joined++];
            *x = (lm_joined){ .row = lm_joins[j], .first = first, .n = pat.n };
            for (int k = 0; k < pat.n; k++) x->call[k] = &p->step[m.step[k]].call;
        }
    if (!p->n_joined) return LM_OK;
    lm_joined *keep = lm_arena_alloc(p->a, (size_t)p->n_joined * sizeof *keep);          /* the graph's arena may go */
    if (!keep) return LM_E_NOMEM;
    memcpy(keep, p->joined, (size_t)p->n_joined * sizeof *keep);
    p->joined = keep;
    return LM_OK;
}
