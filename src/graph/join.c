/* join.c — finding joins (op/join.h) among a plan's steps, before memory is laid out.
 *
 * Names of a pattern are bound to values, statements to steps, with a step back where a choice does not work out (three products of one
 * input look alike until one of them is rotated). Joins may overlap: which ones run is decided by the sizes of a run, from the first step on. A join that is found makes the memory of its steps live from the first to the last of
 * them: the kernel reads all inputs while it writes all outputs. */
#include <ctype.h>
#include <string.h>
#include "graph/graph_int.h"
#include "graph/plan_int.h"

enum { NAMES = 128 };
typedef struct { const char *op; int op_n, out, n_in, in[LM_MAX_IN]; } statement;       /* out, in: characters */
typedef struct { statement s[LM_JOIN_STEPS]; int n, body; } pattern;                    /* body: statements that repeat; 0 none */
/* statements [from, to) are looked for among the plan's steps from `first` on */
typedef struct { lm_plan *p; const pattern *pat; int from, to, first, step[LM_JOIN_STEPS]; lm_value *name[NAMES]; } match;

static const char *skip(const char *s) { while (*s == ' ' || *s == ';') s++; return s; }
static bool is_name(char c) { return isalnum((unsigned char)c); }
static bool parse(const char *s, pattern *p) {
    p->n = p->body = 0;
    for (s = skip(s); *s; s = skip(s)) {
        if (*s == '|') { p->body = p->n; s++; continue; }
        if (p->n == LM_JOIN_STEPS) return false;
        statement *t = &p->s[p->n++];
        t->out = *s; t->n_in = 0;
        if (!is_name(*s) || s[1] != '=') return false;
        t->op = s += 2;
        while (*s && *s != '(') s++;
        t->op_n = (int)(s - t->op);
        while (*s && *s != ')') { s++; if (t->n_in == LM_MAX_IN || !is_name(*s)) return false; t->in[t->n_in++] = *s++; }
        if (*s++ != ')') return false;
    }
    return p->n > 1;
}
static bool search(match *m, int k) {
    if (k == m->to) return true;
    const statement *t = &m->pat->s[k];
    lm_value *saved[NAMES];
    memcpy(saved, m->name, sizeof saved);
    const int n = m->to - m->from, head = k == m->from;
    for (int i = head ? m->first : m->first + 1; i < m->first + (head ? 1 : n); i++) {
        const lm_node *nd = m->p->step[i].node;
        bool ok = strlen(nd->op->name) == (size_t)t->op_n && !memcmp(nd->op->name, t->op, (size_t)t->op_n) && nd->n_in >= t->n_in && !nd->acc;
        for (int q = m->from; q < k; q++) ok = ok && m->step[q] != i;
        for (int q = 0; ok && q < t->n_in; q++) {
            ok = nd->in[q] && (!m->name[t->in[q]] || m->name[t->in[q]] == nd->in[q]);
            if (ok) m->name[t->in[q]] = nd->in[q];
        }
        if (ok && !m->name[t->out]) {
            m->name[t->out] = nd->out[0]; m->step[k] = i;
            if (search(m, k + 1)) return true;
        }
        memcpy(m->name, saved, sizeof saved);
    }
    return false;
}
/* Statements [from, to) at step `at`; chain: what the first of them reads first, or NULL. */
static bool stretch(match *m, int from, int to, int at, lm_value *chain) {
    m->from = from; m->to = to; m->first = at;
    if (at + to - from > m->p->n_step) return false;
    for (int i = 0; i < NAMES; i++) if (!isupper(i)) m->name[i] = NULL;
    if (chain) m->name[m->pat->s[from].in[0]] = chain;
    return search(m, from);
}
/* Steps of all statements, the body as often as it is there, to `step` (room for all of the plan); how many that is, 0 none. */
static int found(lm_plan *p, const pattern *pat, int first, int *step, int *times) {
    match m = { .p = p, .pat = pat };
    int n = 0;
    lm_value *chain = NULL;
    *times = 1;
    if (pat->body) {
        lm_value *throughout[NAMES];
        for (*times = 0;; ++*times) {
            memcpy(throughout, m.name, sizeof throughout);
            if (!stretch(&m, 0, pat->body, first + n, chain)) break;
            for (int k = 0; k < pat->body; k++) step[n++] = m.step[k];
            chain = m.name[pat->s[pat->body - 1].out];
        }
        memcpy(m.name, throughout, sizeof throughout);
        if (!n) return 0;
    }
    if (!stretch(&m, pat->body, pat->n, first + n, chain)) return 0;
    for (int k = pat->body; k < pat->n; k++) step[n++] = m.step[k];
    return n;
}
/* Does a step outside of the join, or the plan's caller, read an output of a step whose outputs are not written? Statement k of n steps. */
static bool hidden(const lm_graph *g, const lm_plan *p, lm_node *const *live, int n_live, const pattern *pat, const int *step, int n, const lm_join *j) {
    const int last = n - (pat->n - pat->body);                            /* from here on the pattern's second part */
    for (int k = 0; k < n; k++) {
        if (j->keeps >> (k < last ? k % pat->body : pat->body + k - last) & 1) continue;
        const lm_node *nd = p->step[step[k]].node;
        for (int o = 0; o < nd->n_out; o++) {
            for (int i = 0; i < g->n_output; i++) if (g->output[i].v == nd->out[o]) return false;
            for (int i = 0; i < n_live; i++) {
                const lm_node *r = live[i];
                bool member = false, reads = false;
                for (int q = 0; q < r->n_in; q++) reads |= r->in[q] == nd->out[o];
                for (int q = 0; reads && q < n; q++) member |= p->step[step[q]].node == r;
                if (reads && !member) return false;
            }
        }
    }
    return true;
}
/* Is there one of this row already that has this step? Of those that repeat the longest is enough. */
static bool within(const lm_plan *p, const lm_join *row, int first) {
    for (int i = 0; i < p->n_joined; i++)
        if (p->joined[i].row == row && row->run_all && first < p->joined[i].first + p->joined[i].n) return true;
    return false;
}
lm_err lm_plan_join(lm_graph *g, lm_plan *p, lm_node *const *live, int n_live, lm_dev_kind kind, uint64_t features) {
    int cap = 0, *step = lm_arena_alloc(g->a, ((size_t)p->n_step + 1) * sizeof *step);
    if (!step) return LM_E_NOMEM;
    for (int first = 0; first < p->n_step; first++)
        for (int j = 0; lm_joins[j]; j++) {
            const lm_join *row = lm_joins[j];
            pattern pat;
            int times;
            if (row->device != kind || (row->needs & ~features)) continue;
            if (!parse(row->pattern, &pat)) return lm_graph_fail(g, LM_E_INTERNAL, "the join %s cannot be read", row->name);
            const int n = within(p, row, first) ? 0 : found(p, &pat, first, step, &times);
            if (!n || !hidden(g, p, live, n_live, &pat, step, n, row)) continue;
            const lm_call **call = lm_arena_alloc(p->a, (size_t)n * sizeof *call);
            if (!call || !lm_graph_grow(g, &p->joined, p->n_joined, &cap, sizeof *p->joined)) return LM_E_NOMEM;
            for (int k = 0; k < n; k++) call[k] = &p->step[step[k]].call;
            const size_t bytes = row->shared ? row->shared(call, times) : 0;
            if (row->shared && !bytes) continue;
            p->joined[p->n_joined++] = (lm_joined){ .row = row, .first = first, .n = n, .times = times, .buf = -1, .call = call, .bytes = bytes };
        }
    if (!p->n_joined) return LM_OK;
    lm_joined *keep = lm_arena_alloc(p->a, (size_t)p->n_joined * sizeof *keep);          /* the graph's arena may go */
    if (!keep) return LM_E_NOMEM;
    memcpy(keep, p->joined, (size_t)p->n_joined * sizeof *keep);
    p->joined = keep;
    return LM_OK;
}
