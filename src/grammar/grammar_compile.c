/* grammar_compile.c — from the tree to the automaton: a small machine per rule.
 *
 * 1. Which rules have a sentence, which have the empty one, which have another: least fixed points over the tree. What has no sentence is left out, so
 *    that every state of the result can be completed.
 * 2. Per rule a Thompson machine with edges for bytes, calls and counted repetitions, then the subset construction, where calls are letters like bytes.
 *    The machine accepts the rule's sentences but the empty one; whoever calls a rule that may be empty has an edge past it. So a call always eats
 *    something, and after a byte rules only end, then only begin.
 * 3. Calls at the first place of rules give an order; a cycle there is left recursion and refused with its rules.
 * Small repetitions are written out; large ones are counted on the stack, so maxLength 100000 costs no states. Where determinism would blow up, a
 * rule keeps the machine without it: sets of states are followed anyway. */
#include <stdlib.h>
#include <string.h>
#include "grammar/grammar_int.h"

enum { WRITE_OUT = 64, DETERMINE = 1 << 22 };                          /* states that a repetition may become; steps for one grammar */
typedef struct { int32_t next, to, sym; uint8_t lo, hi; } nedge;       /* sym: -1 a byte range, -2 nothing, else calls[sym] */
typedef struct {
    lm_ast *a; lm_grammar *g; lm_ctx *ctx;
    bool *ok, *empty, *some; int32_t *size;                            /* per node: has a sentence, may be empty, may be more; states it takes */
    bool *rok, *rempty, *rsome; int32_t *body;                         /* per rule; per node: rule of a counted repetition, -1 */
    int32_t n_rule, *node_of, cap_rule;                                /* rules with those of repetitions */
    int32_t *first; int32_t n_state, cap_state;                        /* the machine being built */
    nedge *e; int32_t n_e, cap_e;
    lm_gcall *sym; int32_t n_sym, cap_sym;
    int64_t work;
} job;

/* ---- 1. sentences ---- */
static void judge(job *j, int32_t i) {
    const lm_ast *a = j->a;
    const lm_gnode *x = &a->node[i];
    const int32_t *kid = x->kind == LM_G_SEQ || x->kind == LM_G_ALT ? a->kid + x->at : NULL;
    bool ok = true, empty = true, some = false;
    int64_t size = 1;
    switch ((lm_gkind)x->kind) {
    case LM_G_EMPTY: break;
    case LM_G_NEVER: ok = empty = false; break;
    case LM_G_CLASS: empty = false; some = true; size = x->n < 1000 ? 1 + x->n / 2 : 500; break;
    case LM_G_TEXT: empty = false; some = true; size = x->n; break;
    case LM_G_SEQ:
        for (int32_t k = 0; k < x->n; k++) { ok &= j->ok[kid[k]]; empty &= j->empty[kid[k]]; some |= j->some[kid[k]]; size += j->size[kid[k]]; }
        some &= ok; empty &= ok;
        break;
    case LM_G_ALT:
        ok = empty = false;
        for (int32_t k = 0; k < x->n; k++) { ok |= j->ok[kid[k]]; empty |= j->empty[kid[k]]; some |= j->some[kid[k]]; size += j->size[kid[k]]; }
        break;
    case LM_G_REP: {
        ok = j->ok[x->at] || !x->min; empty = !x->min || j->empty[x->at]; some = j->some[x->at];
        const int64_t times = x->max < 0 ? lm_max64(x->min, 1) : x->max;
        size = j->size[x->at] * times <= WRITE_OUT ? j->size[x->at] * times : 2;
        break;
    }
    case LM_G_RULE: ok = j->rok[x->at]; empty = j->rempty[x->at]; some = j->rsome[x->at]; break;
    }
    j->ok[i] = ok; j->empty[i] = empty; j->some[i] = some; j->size[i] = (int32_t)lm_min64(size, LM_GRAMMAR_STATES);
}
/* Kids come before their nodes, so one pass settles the tree but for calls; calls settle by passes over what calls what changed. */
static lm_err sentences(job *j) {
    lm_ast *a = j->a;
    for (int32_t r = 0; r < a->n_rule; r++)
        if (a->rule[r].node < 0) return lm_ast_fail(a, LM_E_CONFIG, "the rule \"%s\" is used and not defined", a->rule[r].name ? a->rule[r].name : "?");
    /* Rules that name each other forwards need a pass per link: a worklist over callers keeps that linear. */
    const int32_t nn = a->n_node, nr = a->n_rule;
    int32_t *up = lm_alloc(j->ctx, LM_MEM_MISC, sizeof(int32_t) * (size_t)(nn + 1)), *next = NULL, *queue = NULL, *link = NULL;
    int32_t *slot = NULL;
    bool *in = NULL;
    lm_err err = LM_E_NOMEM;
    /* parents as linked edges: one per kid, one per repetition, one per rule body (node -> rule) and one per call (rule -> node) */
    const int64_t edges = (int64_t)a->n_kid + nn + nr;
    next = lm_alloc(j->ctx, LM_MEM_MISC, sizeof(int32_t) * (size_t)(edges + 1));
    link = lm_alloc(j->ctx, LM_MEM_MISC, sizeof(int32_t) * (size_t)(edges + 1));
    slot = lm_alloc(j->ctx, LM_MEM_MISC, sizeof(int32_t) * (size_t)(nr + 1));
    queue = lm_alloc(j->ctx, LM_MEM_MISC, sizeof(int32_t) * (size_t)(nn + nr + 1));
    in = lm_calloc(j->ctx, LM_MEM_MISC, (size_t)(nn + nr + 1), 1);
    if (!up || !next || !link || !slot || !queue || !in) goto done;
    for (int32_t i = 0; i < nn; i++) up[i] = -1;
    for (int32_t r = 0; r < nr; r++) slot[r] = -1;
    int32_t n = 0;
    for (int32_t i = 0; i < nn; i++) {
        const lm_gnode *x = &a->node[i];
        if (x->kind == LM_G_SEQ || x->kind == LM_G_ALT)
            for (int32_t k = 0; k < x->n; k++) { const int32_t c = a->kid[x->at + k]; link[n] = i; next[n] = up[c]; up[c] = n++; }
        else if (x->kind == LM_G_REP) { link[n] = i; next[n] = up[x->at]; up[x->at] = n++; }
        else if (x->kind == LM_G_RULE) { link[n] = i; next[n] = slot[x->at]; slot[x->at] = n++; }
    }
    for (int32_t r = 0; r < nr; r++) { link[n] = nn + r; next[n] = up[a->rule[r].node]; up[a->rule[r].node] = n++; }
    for (int32_t i = 0; i < nn; i++) judge(j, i);
    int32_t head = 0, count = 0;
    const int32_t cap = nn + nr + 1;
    for (int32_t r = 0; r < nr; r++) { queue[count++] = nn + r; in[nn + r] = true; }
    while (count) {
        const int32_t x = queue[head]; head = (head + 1) % cap; count--; in[x] = false;
        int32_t l;
        if (x >= nn) {
            const int32_t r = x - nn, b = a->rule[r].node;
            if (j->rok[r] == j->ok[b] && j->rempty[r] == j->empty[b] && j->rsome[r] == j->some[b]) continue;
            j->rok[r] = j->ok[b]; j->rempty[r] = j->empty[b]; j->rsome[r] = j->some[b];
            l = slot[r];
        } else {
            const bool o = j->ok[x], e = j->empty[x], s = j->some[x];
            judge(j, x);
            if (o == j->ok[x] && e == j->empty[x] && s == j->some[x]) continue;
            l = up[x];
        }
        for (; l >= 0; l = next[l]) if (!in[link[l]]) { in[link[l]] = true; queue[(head + count++) % cap] = link[l]; }
    }
    err = LM_OK;
    if (!j->rok[a->root])
        err = lm_ast_fail(a, LM_E_CONFIG, "no text can satisfy it%s",
                          j->a->rule[a->root].name ? ": every way through the first rule needs itself again or something impossible" : "");
done:
    lm_free(j->ctx, up); lm_free(j->ctx, next); lm_free(j->ctx, link); lm_free(j->ctx, slot); lm_free(j->ctx, queue); lm_free(j->ctx, in);
    return err;
}

/* ---- 2. machines ---- */
static int32_t state(job *j) {
    if (!lm_g_room(j->ctx, (void **)&j->first, &j->cap_state, j->n_state, 1, sizeof *j->first, LM_GRAMMAR_STATES)) return -1;
    j->first[j->n_state] = -1;
    return j->n_state++;
}
static bool edge(job *j, int32_t from, int32_t to, int32_t sym, uint8_t lo, uint8_t hi) {
    if (from < 0 || to < 0) return false;
    if (!lm_g_room(j->ctx, (void **)&j->e, &j->cap_e, j->n_e, 1, sizeof *j->e, 8 * LM_GRAMMAR_STATES)) return false;
    j->e[j->n_e] = (nedge){ j->first[from], to, sym, lo, hi };
    j->first[from] = j->n_e++;
    return true;
}
static int32_t letter(job *j, lm_gcall c) {
    for (int32_t i = j->n_sym - 1; i >= 0 && i > j->n_sym - 64; i--)
        if (j->sym[i].rule == c.rule && j->sym[i].min == c.min && j->sym[i].max == c.max) return i;
    if (!lm_g_room(j->ctx, (void **)&j->sym, &j->cap_sym, j->n_sym, 1, sizeof *j->sym, LM_GRAMMAR_STATES)) return -1;
    j->sym[j->n_sym] = c;
    return j->n_sym++;
}
static bool chars(job *j, const lm_gnode *x, int32_t from, int32_t to) {
    int32_t tail[4] = { to, -1, -1, -1 };                             /* states from which k whole continuation bytes lead to `to` */
    for (int32_t i = 0; i < x->n; i++) {
        lm_gutf8 u[16];
        const lm_grange r = j->a->range[x->at + i];
        const int n = lm_g_utf8_ranges(r.lo, r.hi, u);
        for (int k = 0; k < n; k++) {
            int32_t s = from;
            for (int b = 0; b < u[k].n; b++) {
                int rest = u[k].n - b - 1;
                bool whole = true;
                for (int c = b + 1; c < u[k].n; c++) whole &= u[k].lo[c] == 0x80 && u[k].hi[c] == 0xBF;
                int32_t t;
                if (whole) {
                    for (int c = 1; c <= rest; c++)
                        if (tail[c] < 0 && ((tail[c] = state(j)) < 0 || !edge(j, tail[c], tail[c - 1], -1, 0x80, 0xBF))) return false;
                    t = tail[rest];
                } else t = state(j);
                if (!edge(j, s, t, -1, u[k].lo[b], u[k].hi[b])) return false;
                s = t;
                if (whole) break;
            }
        }
    }
    return true;
}
static bool build(job *j, int32_t i, int32_t from, int32_t to);
/* A counted repetition: its own rule, called with a count. */
static bool counted(job *j, int32_t i, int32_t from, int32_t to) {
    const lm_gnode *x = &j->a->node[i];
    if (j->body[i] < 0) {
        if (!lm_g_room(j->ctx, (void **)&j->node_of, &j->cap_rule, j->n_rule, 1, sizeof *j->node_of, 2 * LM_GRAMMAR_RULES)) return false;
        j->node_of[j->n_rule] = x->at; j->body[i] = j->n_rule++;
    }
    const int32_t min = j->empty[x->at] ? 0 : x->min;                  /* an empty round counts without eating */
    const int32_t s = letter(j, (lm_gcall){ j->body[i], 0, min, x->max });
    return s >= 0 && edge(j, from, to, s, 0, 0) && (min || edge(j, from, to, -2, 0, 0));
}
static bool repeat(job *j, int32_t i, int32_t from, int32_t to) {
    const lm_gnode x = j->a->node[i];
    if (!j->ok[x.at] || !j->some[x.at]) return edge(j, from, to, -2, 0, 0);            /* none, or as many empty ones as it takes */
    const int64_t times = x.max < 0 ? lm_max64(x.min, 1) : x.max;
    if (times > 1 && times * j->size[x.at] > WRITE_OUT) return counted(j, i, from, to);
    int32_t s = from;
    for (int64_t k = 0; k < times; k++) {
        const bool loop = x.max < 0 && k + 1 == times;
        int32_t a = state(j), b = state(j);                            /* of its own: loops must not leak into what is around */
        if (!edge(j, s, a, -2, 0, 0) || !build(j, x.at, a, b) || (k >= x.min && !edge(j, s, to, -2, 0, 0)) || (loop && !edge(j, b, a, -2, 0, 0))) return false;
        s = b;
    }
    return edge(j, s, to, -2, 0, 0);
}
static bool build(job *j, int32_t i, int32_t from, int32_t to) {
    const lm_ast *a = j->a;
    const lm_gnode x = a->node[i];
    if (from < 0 || to < 0) return false;
    if (!j->ok[i]) return true;
    switch ((lm_gkind)x.kind) {
    case LM_G_EMPTY: return edge(j, from, to, -2, 0, 0);
    case LM_G_NEVER: return true;
    case LM_G_CLASS: return chars(j, &x, from, to);
    case LM_G_TEXT:
        for (int32_t k = 0; k < x.n; k++) {
            const uint8_t b = (uint8_t)a->byte[x.at + k];
            const int32_t t = k + 1 < x.n ? state(j) : to;
            if (!edge(j, from, t, -1, b, b)) return false;
            from = t;
        }
        return true;
    case LM_G_SEQ:
        for (int32_t k = 0; k < x.n; k++) {
            const int32_t t = k + 1 < x.n ? state(j) : to;
            if (!build(j, a->kid[x.at + k], from, t)) return false;
            from = t;
        }
        return true;
    case LM_G_ALT:
        for (int32_t k = 0; k < x.n; k++) if (!build(j, a->kid[x.at + k], from, to)) return false;
        return true;
    case LM_G_REP: return repeat(j, i, from, to);
    case LM_G_RULE: {
        const int32_t s = j->rsome[x.at] ? letter(j, (lm_gcall){ x.at, 0, -1, 0 }) : -2;
        return (!j->rsome[x.at] || (s >= 0 && edge(j, from, to, s, 0, 0))) && (!j->rempty[x.at] || edge(j, from, to, -2, 0, 0));
    }
    }
    return false;
}

/* ---- the subset construction ---- */
typedef struct { int32_t at, n; } set;
typedef struct {
    job *j; int32_t *mem; int32_t n_mem, cap_mem; set *set; int32_t n_set, cap_set; int32_t *table; int32_t n_table;
    int32_t *stack, *seen, stamp;                                      /* (states of the machine) */
} subsets;
static int by_int(const void *p, const void *q) { const int32_t x = *(const int32_t *)p, y = *(const int32_t *)q; return x < y ? -1 : x > y; }
/* The states of v[0..n) and all they reach without a byte, sorted, as a new run of mem; only those that matter (edges, or the end). */
static bool closure(subsets *s, const int32_t *v, int32_t n, int32_t end, set *out) {
    job *j = s->j;
    int32_t top = 0, at = s->n_mem;
    if (!lm_g_room(j->ctx, (void **)&s->mem, &s->cap_mem, s->n_mem, 1, sizeof *s->mem, 1 << 26)) return false;
    s->stamp++;
    for (int32_t i = 0; i < n; i++) if (s->seen[v[i]] != s->stamp) { s->seen[v[i]] = s->stamp; s->stack[top++] = v[i]; }
    while (top) {
        const int32_t x = s->stack[--top];
        bool matters = x == end || x == 0;                            /* the first state, to which nothing leads, keeps its set apart */
        for (int32_t e = j->first[x]; e >= 0; e = j->e[e].next) {
            j->work++;
            if (j->e[e].sym != -2) { matters = true; continue; }
            if (s->seen[j->e[e].to] != s->stamp) { s->seen[j->e[e].to] = s->stamp; s->stack[top++] = j->e[e].to; }
        }
        if (!matters) continue;
        if (!lm_g_room(j->ctx, (void **)&s->mem, &s->cap_mem, s->n_mem, 1, sizeof *s->mem, 1 << 26)) return false;
        s->mem[s->n_mem++] = x;
    }
    qsort(s->mem + at, (size_t)(s->n_mem - at), sizeof *s->mem, by_int);
    *out = (set){ at, s->n_mem - at };
    return true;
}
static bool grow_table(subsets *s) {
    const int32_t n = s->n_table ? 2 * s->n_table : 256;
    int32_t *t = lm_alloc(s->j->ctx, LM_MEM_MISC, (size_t)n * sizeof *t);
    if (!t) return false;
    for (int32_t i = 0; i < n; i++) t[i] = -1;
    for (int32_t i = 0; i < s->n_set; i++) {
        uint64_t h = lm_hash64(s->mem + s->set[i].at, (size_t)s->set[i].n * 4, 0);
        while (t[h & (uint64_t)(n - 1)] >= 0) h++;
        t[h & (uint64_t)(n - 1)] = i;
    }
    lm_free(s->j->ctx, s->table);
    s->table = t; s->n_table = n;
    return true;
}
/* The number of the set that lies at the end of mem; what is there already is dropped again. */
static int32_t intern(subsets *s, set x) {
    if (2 * (s->n_set + 1) > s->n_table && !grow_table(s)) return -1;
    uint64_t h = lm_hash64(s->mem + x.at, (size_t)x.n * 4, 0);
    for (int32_t i; (i = s->table[h & (uint64_t)(s->n_table - 1)]) >= 0; h++)
        if (s->set[i].n == x.n && !memcmp(s->mem + s->set[i].at, s->mem + x.at, (size_t)x.n * 4)) { s->n_mem = x.at; return i; }
    if (!lm_g_room(s->j->ctx, (void **)&s->set, &s->cap_set, s->n_set, 1, sizeof *s->set, LM_GRAMMAR_STATES)) return -1;
    s->table[h & (uint64_t)(s->n_table - 1)] = s->n_set;
    s->set[s->n_set] = x;
    return s->n_set++;
}
#define PUSH(arr, x, most) (lm_g_room(j->ctx, (void **)&g->arr, &g->cap_##arr, g->n_##arr, 1, sizeof *g->arr, most) ? (g->arr[g->n_##arr++] = (x), true) : false)
static bool byte_edge(job *j, lm_grammar *g, int32_t first, uint8_t lo, uint8_t hi, int32_t to) {
    if (g->n_edge > first && g->edge[g->n_edge - 1].to == to && g->edge[g->n_edge - 1].hi + 1 == lo) { g->edge[g->n_edge - 1].hi = hi; return true; }
    return PUSH(edge, ((lm_gedge){ lo, hi, to }), 8 * LM_GRAMMAR_STATES);
}
typedef struct { int32_t *v, n, cap; } ints;
static bool ints_add(job *j, ints *l, int32_t x) {
    if (!lm_g_room(j->ctx, (void **)&l->v, &l->cap, l->n, 1, sizeof *l->v, 1 << 26)) return false;
    l->v[l->n++] = x;
    return true;
}
static int by_sym(const void *p, const void *q) {
    const int32_t *x = p, *y = q;
    return x[0] != y[0] ? (x[0] < y[0] ? -1 : 1) : (x[1] < y[1] ? -1 : x[1] > y[1]);
}
/* Edges of set k. det: targets together make one set; else every edge has its own. all: the edges' numbers, scratch. */
static bool edges_of(subsets *s, int32_t k, int32_t base, int32_t end, bool det, ints *all, ints *to, ints *sy) {
    job *j = s->j;
    lm_grammar *g = j->g;
    const set from = s->set[k];
    lm_gstate st = { .edge = g->n_edge, .call = g->n_call };
    uint8_t cut[257] = {0};                                            /* a segment of bytes begins here */
    all->n = sy->n = 0;
    for (int32_t i = 0; i < from.n; i++) {
        const int32_t x = s->mem[from.at + i];
        st.final |= x == end;
        for (int32_t e = j->first[x]; e >= 0; e = j->e[e].next) {
            j->work++;
            if (j->e[e].sym == -1) { if (!ints_add(j, all, e)) return false; cut[j->e[e].lo] = 1; cut[j->e[e].hi + 1] = 1; }
            else if (j->e[e].sym >= 0 && (!ints_add(j, sy, j->e[e].sym) || !ints_add(j, sy, j->e[e].to))) return false;
        }
    }
    if (k == 0) st.final = false;                                     /* the first state: nothing leads there, so this takes the empty text out */
    for (int lo = 0; lo < 256 && all->n;) {
        int hi = lo;
        while (hi < 255 && !cut[hi + 1]) hi++;
        to->n = 0;
        for (int32_t i = 0; i < all->n; i++) {
            const nedge *e = &j->e[all->v[i]];
            if (e->lo <= lo && e->hi >= hi && !ints_add(j, to, e->to)) return false;
        }
        j->work += all->n;
        for (int32_t i = 0; i < to->n; i += det ? to->n : 1) {
            set x;
            int32_t id;
            if (!closure(s, to->v + i, det ? to->n : 1, end, &x) || (id = intern(s, x)) < 0 ||
                !byte_edge(j, g, st.edge, (uint8_t)lo, (uint8_t)hi, base + id)) return false;
        }
        if (to->n) for (int b = lo; b <= hi; b++) st.first[b >> 6] |= 1ull << (b & 63);
        lo = hi + 1;
    }
    if (sy->n) qsort(sy->v, (size_t)sy->n / 2, 2 * sizeof *sy->v, by_sym);
    for (int32_t i = 0; i < sy->n;) {
        int32_t m = i;
        to->n = 0;
        while (m < sy->n && sy->v[m] == sy->v[i] && (det || m == i)) { if (!ints_add(j, to, sy->v[m + 1])) return false; m += 2; }
        set x;
        int32_t id;
        if (!closure(s, to->v, to->n, end, &x) || (id = intern(s, x)) < 0) return false;
        lm_gcall c = j->sym[sy->v[i]];
        c.to = base + id;
        if (!PUSH(call, c, 8 * LM_GRAMMAR_STATES)) return false;
        i = m;
    }
    st.n_edge = g->n_edge - st.edge; st.n_call = g->n_call - st.call;
    return PUSH(state, st, LM_GRAMMAR_STATES);
}
static bool machine(job *j, int32_t r, bool det, bool *gave_up) {
    lm_grammar *g = j->g;
    const int32_t base = g->n_state, edges = g->n_edge, calls = g->n_call;
    subsets s = { .j = j };
    ints all = {0}, to = {0}, sy = {0};
    j->n_state = j->n_e = j->n_sym = 0;
    *gave_up = false;
    const int32_t from = state(j), end = state(j);
    bool fine = from >= 0 && end >= 0 && build(j, j->node_of[r], from, end);
    if (fine) {
        s.stack = lm_alloc(j->ctx, LM_MEM_MISC, (size_t)j->n_state * sizeof *s.stack);
        s.seen = lm_calloc(j->ctx, LM_MEM_MISC, (size_t)j->n_state, sizeof *s.seen);
        fine = s.stack && s.seen;
    }
    set x;
    fine = fine && closure(&s, &from, 1, end, &x) && intern(&s, x) >= 0;
    const int32_t most = 4 * j->n_state + 64;
    for (int32_t k = 0; fine && k < s.n_set; k++) {
        if (det && (s.n_set > most || j->work > DETERMINE)) { *gave_up = true; break; }
        if (!det && j->work > 16 * (int64_t)DETERMINE) {
            lm_ast_fail(j->a, LM_E_RANGE, "the grammar takes too long to compile: too many alternatives inside repetitions");
            fine = false;
        }
        fine = fine && edges_of(&s, k, base, end, det, &all, &to, &sy);
    }
    if (*gave_up) { g->n_state = base; g->n_edge = edges; g->n_call = calls; }
    g->start[r] = base;
    lm_free(j->ctx, s.mem); lm_free(j->ctx, s.set); lm_free(j->ctx, s.table); lm_free(j->ctx, s.stack); lm_free(j->ctx, s.seen);
    lm_free(j->ctx, all.v); lm_free(j->ctx, to.v); lm_free(j->ctx, sy.v);
    return fine;
}

/* ---- 3. order ---- */
static void cycle(job *j, const int32_t *path, int32_t n, int32_t back) {
    lm_str s = { .ctx = j->ctx };
    int32_t k = n - 1;
    while (k > 0 && path[k] != back) k--;
    const char *first = NULL;
    for (; k < n; k++) {
        const char *name = path[k] < j->a->n_rule ? j->a->rule[path[k]].name : NULL;
        if (!name) continue;
        if (!first) first = name;
        lm_str_printf(&s, "%s%s", s.n ? " -> " : "", name);
        if (s.n > 200) { lm_str_puts(&s, " -> …"); break; }
    }
    lm_ast_fail(j->a, LM_E_CONFIG, "left recursion: %s%s%s begins with itself; write it as a repetition or put something before it", s.p ? s.p : "a rule",
                first ? " -> " : "", first ? first : "");
    lm_str_free(&s);
}
static lm_err order(job *j) {
    lm_grammar *g = j->g;
    const int32_t n = g->n_rule;
    int32_t *path = lm_alloc(j->ctx, LM_MEM_MISC, (size_t)(n + 1) * sizeof *path), *at = lm_alloc(j->ctx, LM_MEM_MISC, (size_t)(n + 1) * sizeof *at);
    uint8_t *mark = lm_calloc(j->ctx, LM_MEM_MISC, (size_t)n + 1, 1);
    int32_t next = n;                                                  /* ranks from the back: who is called is done first */
    lm_err err = path && at && mark ? LM_OK : LM_E_NOMEM;
    for (int32_t r = 0; r < n && !err; r++) {
        if (g->start[r] < 0 || mark[r]) continue;
        int32_t d = 0;
        path[d] = r; at[d++] = 0; mark[r] = 1;
        while (d && !err) {
            const lm_gstate *s = &g->state[g->start[path[d - 1]]];
            if (at[d - 1] == s->n_call) { mark[path[d - 1]] = 2; g->rank[path[--d]] = --next; continue; }
            const int32_t to = g->call[s->call + at[d - 1]++].rule;
            if (mark[to] == 1) { cycle(j, path, d, to); err = j->a->err; }
            else if (!mark[to]) { mark[to] = 1; path[d] = to; at[d++] = 0; }
        }
    }
    lm_free(j->ctx, path); lm_free(j->ctx, at); lm_free(j->ctx, mark);
    return err;
}
static lm_err machines(job *j) {
    lm_ast *a = j->a;
    lm_grammar *g = j->g;
    const int32_t most = a->n_rule + a->n_node;                        /* every node could be a counted repetition */
    if (!(g->start = lm_alloc(j->ctx, LM_MEM_MISC, (size_t)(most + 1) * sizeof *g->start)) ||
        !(g->rank = lm_calloc(j->ctx, LM_MEM_MISC, (size_t)(most + 1), sizeof *g->rank)))
        return LM_E_NOMEM;
    for (int32_t r = 0; r < most; r++) g->start[r] = -1;
    g->root = a->root; g->root_empty = j->rempty[a->root]; g->root_ne = j->rsome[a->root];
    int32_t *reached = lm_alloc(j->ctx, LM_MEM_MISC, (size_t)(most + 1) * sizeof *reached), n = 0;
    if (!reached) return LM_E_NOMEM;
    if (g->root_ne) { reached[n++] = g->root; g->start[g->root] = 0; }
    lm_err err = LM_OK;
    for (int32_t k = 0; k < n && !err; k++) {                          /* what is reached from the first rule */
        const int32_t from = g->n_call;
        bool gave_up;
        bool fine = machine(j, reached[k], true, &gave_up);
        if (fine && gave_up) fine = machine(j, reached[k], false, &gave_up);
        if (!fine) { err = a->err ? a->err : LM_E_RANGE; break; }
        for (int32_t c = from; c < g->n_call; c++) {
            const int32_t r = g->call[c].rule;
            if (g->start[r] < 0) { g->start[r] = 0; reached[n++] = r; }
        }
    }
    g->n_rule = j->n_rule;
    lm_free(j->ctx, reached);
    return err ? err : order(j);
}
lm_err lm_grammar_compile(lm_grammar *g, lm_ast *a) {
    job j = { .a = a, .g = g, .ctx = a->ctx, .n_rule = a->n_rule };
    const size_t nn = (size_t)a->n_node + 1, nr = (size_t)a->n_rule + 1;
    lm_err err = LM_E_NOMEM;
    j.ok = lm_calloc(a->ctx, LM_MEM_MISC, nn, 1); j.empty = lm_calloc(a->ctx, LM_MEM_MISC, nn, 1); j.some = lm_calloc(a->ctx, LM_MEM_MISC, nn, 1);
    j.size = lm_calloc(a->ctx, LM_MEM_MISC, nn, sizeof *j.size); j.body = lm_alloc(a->ctx, LM_MEM_MISC, nn * sizeof *j.body);
    j.rok = lm_calloc(a->ctx, LM_MEM_MISC, nr, 1); j.rempty = lm_calloc(a->ctx, LM_MEM_MISC, nr, 1); j.rsome = lm_calloc(a->ctx, LM_MEM_MISC, nr, 1);
    j.node_of = lm_alloc(a->ctx, LM_MEM_MISC, nr * sizeof *j.node_of); j.cap_rule = (int32_t)nr;
    if (!j.ok || !j.empty || !j.some || !j.size || !j.body || !j.rok || !j.rempty || !j.rsome || !j.node_of) goto done;
    for (size_t i = 0; i < nn; i++) j.body[i] = -1;
    for (int32_t r = 0; r < a->n_rule; r++) j.node_of[r] = a->rule[r].node;
    LM_GOTO(sentences(&j), done);
    err = machines(&j);
done:
    lm_free(a->ctx, j.ok); lm_free(a->ctx, j.empty); lm_free(a->ctx, j.some); lm_free(a->ctx, j.size); lm_free(a->ctx, j.body);
    lm_free(a->ctx, j.rok); lm_free(a->ctx, j.rempty); lm_free(a->ctx, j.rsome); lm_free(a->ctx, j.node_of);
    lm_free(a->ctx, j.first); lm_free(a->ctx, j.e); lm_free(a->ctx, j.sym);
    return err;
}
