/* grammar_set.c — one byte on.
 *
 * From a set and a byte: every pair whose state has the byte moves. Then, without eating: where a rule has ended, all ways back of its node go on (which
 * may end again); where a rule is called, its frame waits. When nothing else is left to do, rules begin in the order of their ranks: all frames that wait
 * for one become its node. A rule never is empty, so what begins cannot end at the same place, and its rank is lower than those it calls first, so a
 * node is complete when it is made. A call whose rule is the last thing of the caller hands its caller's ways back on: lists written with recursion at the end
 * do not grow the stack. */
#include <stdlib.h>
#include <string.h>
#include "grammar/grammar_set.h"

enum { FRAMES = 1 << 22, NODES = 1 << 20, SETS = 1 << 20, ROWS = 1 << 16, CHUNK = 64, WORK = 1 << 20, ENOUGH = 1 << 15 };
#define ROOM(arr, more, most) lm_g_room(s->ctx, (void **)&s->arr, &s->cap_##arr, s->n_##arr, more, sizeof *s->arr, most)
lm_err lm_sets_new(lm_sets *s, lm_ctx *ctx, const lm_grammar *g) {
    *s = (lm_sets){ .ctx = ctx, .g = g };
    s->wait_of = lm_alloc(ctx, LM_MEM_MISC, (size_t)(g->n_rule + 1) * sizeof *s->wait_of);
    s->waiting = lm_alloc(ctx, LM_MEM_MISC, (size_t)(g->n_rule + 1) * sizeof *s->waiting);
    if (!s->wait_of || !s->waiting || !ROOM(node, 2, NODES) || !ROOM(set, 1, SETS)) { lm_sets_free(s); return LM_E_NOMEM; }
    for (int32_t r = 0; r < g->n_rule; r++) s->wait_of[r] = -1;
    s->node[0] = s->node[1] = (lm_gstack){0};
    s->n_node = 2;
    s->set[s->n_set++] = (lm_gset){ .mask = -1, .local = -1 };
    return LM_OK;
}
void lm_sets_free(lm_sets *s) {
    lm_ctx *c = s->ctx;
    lm_free(c, s->node); lm_free(c, s->frame); lm_free(c, s->set); lm_free(c, s->thread);
    for (int32_t i = 0; i < s->n_chunk; i++) lm_free(c, s->chunk[i]);
    lm_free(c, s->chunk); lm_free(c, s->node_table);
    lm_free(c, s->set_table); lm_free(c, s->ahead); lm_free(c, s->out); lm_free(c, s->seen); lm_free(c, s->wait); lm_free(c, s->wait_next);
    lm_free(c, s->wait_of); lm_free(c, s->waiting);
    *s = (lm_sets){ .ctx = c };
}
/* ---- interning ---- */
static uint64_t hash_node(const lm_sets *s, int32_t i) { return lm_hash64(s->frame + s->node[i].at, (size_t)s->node[i].n * sizeof *s->frame, 1); }
static uint64_t hash_set(const lm_sets *s, int32_t i) {
    return s->set[i].n ? lm_hash64(s->thread + s->set[i].at, (size_t)s->set[i].n * sizeof *s->thread, s->set[i].flags) : s->set[i].flags * 0x9E3779B97F4A7C15ull;
}
static bool rehash(lm_sets *s, bool sets) {
    int32_t **table = sets ? &s->set_table : &s->node_table, *n = sets ? &s->n_set_table : &s->n_node_table;
    const int32_t m = *n ? 2 * *n : 1024, count = sets ? s->n_set : s->n_node;
    int32_t *t = lm_alloc(s->ctx, LM_MEM_MISC, (size_t)m * sizeof *t);
    if (!t) return false;
    for (int32_t i = 0; i < m; i++) t[i] = -1;
    for (int32_t i = sets ? 1 : 2; i < count; i++) {
        uint64_t h = sets ? hash_set(s, i) : hash_node(s, i);
        while (t[h & (uint64_t)(m - 1)] >= 0) h++;
        t[h & (uint64_t)(m - 1)] = i;
    }
    lm_free(s->ctx, *table);
    *table = t; *n = m;
    return true;
}
/* The node whose frames are the last n of frame[]. */
static lm_err intern_node(lm_sets *s, int32_t n, int32_t *out) {
    if (2 * (s->n_node + 1) > s->n_node_table && !rehash(s, false)) return LM_E_NOMEM;
    if (!ROOM(node, 1, NODES)) return LM_E_RANGE;
    s->node[s->n_node] = (lm_gstack){ s->n_frame - n, n };
    uint64_t h = hash_node(s, s->n_node), mask = (uint64_t)(s->n_node_table - 1);
    for (int32_t i; (i = s->node_table[h & mask]) >= 0; h++)
        if (s->node[i].n == n && !memcmp(s->frame + s->node[i].at, s->frame + s->n_frame - n, (size_t)n * sizeof *s->frame)) {
            s->n_frame -= n;
            *out = i;
            return LM_OK;
        }
    s->node_table[h & mask] = s->n_node;
    *out = s->n_node++;
    return LM_OK;
}
static int by_pair(const void *p, const void *q) {
    const lm_gthread *x = p, *y = q;
    return x->state != y->state ? (x->state < y->state ? -1 : 1) : x->node < y->node ? -1 : x->node > y->node;
}
static lm_err intern_set(lm_sets *s, lm_gthread *t, int32_t n, uint8_t flags, int32_t *out) {
    if (!n && !flags) { *out = 0; return LM_OK; }
    if (n > 1) qsort(t, (size_t)n, sizeof *t, by_pair);
    if (2 * (s->n_set + 1) > s->n_set_table && !rehash(s, true)) return LM_E_NOMEM;
    if (!ROOM(set, 1, SETS) || !ROOM(thread, n, FRAMES)) return LM_E_RANGE;
    if (n) memcpy(s->thread + s->n_thread, t, (size_t)n * sizeof *t);
    s->set[s->n_set] = (lm_gset){ .at = s->n_thread, .n = n, .mask = -1, .local = -1, .flags = flags };
    uint64_t h = hash_set(s, s->n_set), mask = (uint64_t)(s->n_set_table - 1);
    for (int32_t i; (i = s->set_table[h & mask]) >= 0; h++)
        if (s->set[i].n == n && s->set[i].flags == flags && (!n || !memcmp(s->thread + s->set[i].at, t, (size_t)n * sizeof *t))) { *out = i; return LM_OK; }
    lm_gset *x = &s->set[s->n_set];
    for (int32_t i = 0; i < n; i++) for (int k = 0; k < 4; k++) x->first[k] |= s->g->state[t[i].state].first[k];
    for (int k = 0; k < 2; k++)
        for (uint64_t w = x->first[k]; w; w &= w - 1) x->opens |= lm_g_group((uint8_t)(64 * k + __builtin_ctzll(w)));
    if (x->first[2] | x->first[3]) x->opens |= LM_GG_BEYOND;
    s->n_thread += n;
    s->set_table[h & mask] = s->n_set;
    *out = s->n_set++;
    return LM_OK;
}
/* ---- closure ---- */
/* Once per closure: *is_new false if the key was there. Keys: a pair to go on in; a node that has ended (state -1); a tail call (state -2 - rule). */
static lm_err once(lm_sets *s, int32_t state, int32_t node, bool *is_new) {
    const uint64_t key = ((uint64_t)(uint32_t)state << 32 | (uint32_t)node) + 1;
    if (2 * (s->n_seen + 1) > s->cap_seen) {
        const int32_t cap = s->cap_seen ? 2 * s->cap_seen : 256;
        uint64_t *t = lm_calloc(s->ctx, LM_MEM_MISC, (size_t)cap, sizeof *t);
        if (!t) return LM_E_NOMEM;
        for (int32_t i = 0; i < s->cap_seen; i++) {
            if (!s->seen[i]) continue;
            uint64_t h = s->seen[i] * 0x9E3779B97F4A7C15ull >> 20;
            while (t[h & (uint64_t)(cap - 1)]) h++;
            t[h & (uint64_t)(cap - 1)] = s->seen[i];
        }
        lm_free(s->ctx, s->seen);
        s->seen = t; s->cap_seen = cap;
    }
    s->work++;
    const uint64_t mask = (uint64_t)(s->cap_seen - 1);
    uint64_t h = key * 0x9E3779B97F4A7C15ull >> 20;
    *is_new = false;
    for (; s->seen[h & mask]; h++) if (s->seen[h & mask] == key) return LM_OK;
    if (s->n_seen >= 4 * LM_GRAMMAR_THREADS)
        return lm_fail(s->ctx, LM_E_RANGE, "the grammar is too ambiguous here: more than %d ways to go on", 4 * LM_GRAMMAR_THREADS);
    s->seen[h & mask] = key; s->n_seen++;
    *is_new = true;
    return LM_OK;
}
static lm_err push(lm_sets *s, int32_t state, int32_t node) {
    bool is_new;
    LM_TRY(once(s, state, node, &is_new));
    if (!is_new) return LM_OK;
    if (!ROOM(ahead, 1, 8 * LM_GRAMMAR_THREADS)) return LM_E_NOMEM;
    s->ahead[s->n_ahead++] = (lm_gthread){ state, node };
    return LM_OK;
}
static lm_err wait_for(lm_sets *s, int32_t rule, lm_gframe f) {
    s->work++;
    for (int32_t i = s->wait_of[rule], k = 0; i >= 0 && k < 8; i = s->wait_next[i], k++)           /* the usual repeats; the rest go when the node is made */
        if (!memcmp(&s->wait[i], &f, sizeof f)) return LM_OK;
    if (!ROOM(wait, 1, 1 << 18) || !lm_g_room(s->ctx, (void **)&s->wait_next, &s->cap_wait_next, s->n_wait, 1, sizeof *s->wait_next, 1 << 18))
        return lm_fail(s->ctx, LM_E_RANGE, "the grammar is too ambiguous here: too many ways back");
    if (s->wait_of[rule] < 0) s->waiting[s->n_waiting++] = rule;
    s->wait[s->n_wait] = f; s->wait_next[s->n_wait] = s->wait_of[rule];
    s->wait_of[rule] = s->n_wait++;
    return LM_OK;
}
static lm_err ended(lm_sets *s, int32_t node) {
    if (node == LM_GN_BELOW) { s->flags |= LM_GS_EXIT; return LM_OK; }
    if (node == LM_GN_END) { s->flags |= LM_GS_ACCEPT; return LM_OK; }
    bool is_new;
    LM_TRY(once(s, -1, node, &is_new));
    if (!is_new) return LM_OK;
    for (int32_t i = 0; i < s->node[node].n; i++) {
        const lm_gframe f = s->frame[s->node[node].at + i];
        if (f.ret >= 0) { LM_TRY(push(s, f.ret, f.node)); continue; }
        const lm_gcall *c = &s->g->call[~f.ret];
        if (f.count < 0) {                                             /* far from a bound: no need to count */
            if (f.count == LM_GC_IN) LM_TRY(push(s, c->to, f.node));
            LM_TRY(wait_for(s, c->rule, f));
            continue;
        }
        if (f.count >= c->min) LM_TRY(push(s, c->to, f.node));
        if (c->max < 0 || f.count < c->max)
            LM_TRY(wait_for(s, c->rule, (lm_gframe){ f.ret, c->max < 0 && f.count >= c->min ? f.count : f.count + 1, f.node }));
    }
    return LM_OK;
}
static lm_err drain(lm_sets *s) {
    const lm_grammar *g = s->g;
    while (s->n_ahead) {
        const lm_gthread t = s->ahead[--s->n_ahead];
        const lm_gstate *x = &g->state[t.state];
        if (x->n_edge) {
            if (!ROOM(out, 1, 8 * LM_GRAMMAR_THREADS)) return LM_E_RANGE;
            s->out[s->n_out++] = t;
        }
        if (x->final) LM_TRY(ended(s, t.node));
        for (int32_t i = 0; i < x->n_call; i++) {
            const lm_gcall *c = &g->call[x->call + i];
            const lm_gstate *to = &g->state[c->to];
            if (c->min >= 0) { LM_TRY(wait_for(s, c->rule, (lm_gframe){ ~(x->call + i), 1, t.node })); continue; }
            if (t.node > LM_GN_END && to->final && !to->n_edge && !to->n_call) {
                bool is_new;
                LM_TRY(once(s, -2 - c->rule, t.node, &is_new));
                for (int32_t k = 0; is_new && k < s->node[t.node].n; k++) LM_TRY(wait_for(s, c->rule, s->frame[s->node[t.node].at + k]));
            } else LM_TRY(wait_for(s, c->rule, (lm_gframe){ c->to, 0, t.node }));
        }
    }
    return LM_OK;
}
static int by_frame(const void *p, const void *q) { return memcmp(p, q, sizeof(lm_gframe)); }
static lm_err begin(lm_sets *s, int32_t rule) {
    const int32_t at = s->n_frame;
    int32_t n = 0, node;
    for (int32_t i = s->wait_of[rule]; i >= 0; i = s->wait_next[i]) {
        if (!ROOM(frame, 1, FRAMES)) return LM_E_RANGE;
        s->frame[s->n_frame++] = s->wait[i];
    }
    s->wait_of[rule] = -1;
    s->work += s->n_frame - at;
    if (s->n_frame - at > 1) qsort(s->frame + at, (size_t)(s->n_frame - at), sizeof *s->frame, by_frame);
    for (int32_t i = at; i < s->n_frame; i++) if (!n || memcmp(&s->frame[i], &s->frame[at + n - 1], sizeof *s->frame)) s->frame[at + n++] = s->frame[i];
    s->n_frame = at + n;
    LM_TRY(intern_node(s, n, &node));
    return push(s, s->g->start[rule], node);
}
static lm_err close_set(lm_sets *s, int32_t *set) {
    lm_err err = drain(s);
    s->work += 8;
    while (!err && s->n_waiting) {
        if (s->work > WORK) { err = lm_fail(s->ctx, LM_E_RANGE, "the grammar is too ambiguous here: a token takes too long to check"); break; }
        int32_t k = 0;
        for (int32_t i = 1; i < s->n_waiting; i++) if (s->g->rank[s->waiting[i]] < s->g->rank[s->waiting[k]]) k = i;
        const int32_t rule = s->waiting[k];
        s->waiting[k] = s->waiting[--s->n_waiting];
        err = begin(s, rule);
        if (!err) err = drain(s);
    }
    if (!err) err = intern_set(s, s->out, s->n_out, s->flags, set);
    for (int32_t i = 0; i < s->n_waiting; i++) s->wait_of[s->waiting[i]] = -1;       /* after an error */
    if (s->n_seen) {
        if (s->cap_seen > 4096 && s->n_seen < s->cap_seen / 64) { lm_free(s->ctx, s->seen); s->seen = NULL; s->cap_seen = 0; }
        else memset(s->seen, 0, (size_t)s->cap_seen * sizeof *s->seen);
    }
    s->n_ahead = s->n_out = s->n_seen = s->n_wait = s->n_waiting = 0; s->flags = 0;
    return err;
}
lm_err lm_sets_start(lm_sets *s, int32_t *set) {
    if (s->g->root_empty) s->flags |= LM_GS_ACCEPT;
    lm_err err = LM_OK;
    if (s->g->root_ne) err = push(s, s->g->start[s->g->root], LM_GN_END);
    return err ? err : close_set(s, set);
}
lm_err lm_sets_one(lm_sets *s, int32_t state, int32_t node, int32_t *set) {
    lm_gthread t = { state, node };
    return intern_set(s, &t, 1, 0, set);
}
lm_err lm_sets_frame(lm_sets *s, lm_gframe f, int32_t *node) {
    if (!ROOM(frame, 1, FRAMES)) return LM_E_RANGE;
    s->frame[s->n_frame++] = f;
    return intern_node(s, 1, node);
}
lm_err lm_sets_end(lm_sets *s, const int32_t *node, int32_t n, int32_t *set) {
    lm_err err = LM_OK;
    for (int32_t i = 0; i < n && !err; i++) err = ended(s, node[i]);
    int32_t x;
    const lm_err e = close_set(s, &x);
    if (err || e) return err ? err : e;
    *set = x;
    return LM_OK;
}
static lm_err row_of(lm_sets *s, int32_t set) {                        /* bytes that no state has are filled in */
    if (s->n_row % CHUNK == 0) {
        if (!ROOM(chunk, 1, ROWS)) return LM_E_NOMEM;
        if (!(s->chunk[s->n_chunk] = lm_alloc(s->ctx, LM_MEM_MISC, CHUNK * 256 * sizeof(int32_t)))) return LM_E_NOMEM;
        s->n_chunk++;
    }
    int32_t *row = s->chunk[s->n_chunk - 1] + s->n_row % CHUNK * 256;
    const lm_gset *x = &s->set[set];
    for (int b = 0; b < 256; b++) row[b] = x->first[b >> 6] >> (b & 63) & 1 ? -1 : 0;
    s->set[set].row = row; s->n_row++;
    return LM_OK;
}
lm_err lm_sets_fill(lm_sets *s, int32_t set, uint8_t byte, int32_t *to) {
    const lm_gset x = s->set[set];
    if (!(x.first[byte >> 6] >> (byte & 63) & 1)) { *to = 0; return LM_OK; }
    lm_err err = LM_OK;
    int lo = 0, hi = 255;                                              /* bytes that no edge tells from this one */
    for (int32_t i = 0; i < x.n && !err; i++) {
        const lm_gthread t = s->thread[x.at + i];
        const lm_gstate *st = &s->g->state[t.state];
        for (int32_t k = st->edge; k < st->edge + st->n_edge && !err; k++) {
            const lm_gedge e = s->g->edge[k];
            if (e.hi < byte) { if (e.hi >= lo) lo = e.hi + 1; }
            else if (e.lo > byte) { if (e.lo <= hi) hi = e.lo - 1; }
            else {
                if (e.lo > lo) lo = e.lo;
                if (e.hi < hi) hi = e.hi;
                err = push(s, e.to, t.node);
            }
        }
    }
    int32_t y;
    const lm_err e = close_set(s, &y);
    if (err || e) return err ? err : e;
    *to = y;
    if (!x.row && s->n_row == ROWS) return LM_OK;
    if (!x.row) LM_TRY(row_of(s, set));
    for (int k = lo; k <= hi; k++) s->set[set].row[k] = y;
    return LM_OK;
}
/* Bytes lo..hi from a set, and `more` continuations after each: do all of them end at `to`? Known ground is not walked twice. */
static lm_err tails_lead(lm_sets *s, int32_t set, int lo, int hi, int more, int32_t to, bool *yes) {
    int32_t before = -1;
    *yes = true;
    for (int b = lo; b <= hi && *yes; b++) {
        int32_t x;
        LM_TRY(lm_sets_step(s, set, (uint8_t)b, &x));
        if (!x || s->work > ENOUGH) *yes = false;
        else if (!more) *yes = x == to;
        else if (x != before) { before = x; LM_TRY(tails_lead(s, x, 0x80, 0xBF, more - 1, to, yes)); }
    }
    return LM_OK;
}
static lm_err beyond_leads(lm_sets *s, int32_t from, int32_t to, bool *yes) {
    static const struct { uint8_t lo, hi, next_lo, next_hi, more; } lead[] = {            /* Unicode, table 3-7 */
        { 0xC2, 0xDF, 0x80, 0xBF, 0 }, { 0xE0, 0xE0, 0xA0, 0xBF, 1 }, { 0xE1, 0xEC, 0x80, 0xBF, 1 }, { 0xED, 0xED, 0x80, 0x9F, 1 },
        { 0xEE, 0xEF, 0x80, 0xBF, 1 }, { 0xF0, 0xF0, 0x90, 0xBF, 2 }, { 0xF1, 0xF3, 0x80, 0xBF, 2 }, { 0xF4, 0xF4, 0x80, 0x8F, 2 } };
    *yes = true;
    for (size_t i = 0; i < LM_COUNT(lead) && *yes; i++) {
        int32_t before = -1;
        for (int b = lead[i].lo; b <= lead[i].hi && *yes; b++) {
            int32_t x;
            LM_TRY(lm_sets_step(s, from, (uint8_t)b, &x));
            if (!x) *yes = false;
            else if (x != before) { before = x; LM_TRY(tails_lead(s, x, lead[i].next_lo, lead[i].next_hi, lead[i].more, to, yes)); }
        }
    }
    return LM_OK;
}
static lm_err leads(lm_sets *s, int32_t from, int32_t to, uint8_t *groups) {
    static const uint8_t one[] = "eE5 \"-";                            /* of each group: most sets fail here */
    uint8_t g = 0;
    bool yes;
    for (int k = 0; k < 6; k++) {
        int32_t x;
        LM_TRY(lm_sets_step(s, from, one[k], &x));
        if (x == to) g |= (uint8_t)(1 << k);
    }
    for (int b = 0; b < 0x80 && g; b++) {
        const uint8_t bit = lm_g_group((uint8_t)b);
        int32_t x;
        if (!(g & bit)) continue;
        LM_TRY(lm_sets_step(s, from, (uint8_t)b, &x));
        if (x != to) g &= (uint8_t)~bit;
        if (s->work > ENOUGH) g = 0;
    }
    LM_TRY(beyond_leads(s, from, to, &yes));
    *groups = yes ? g | LM_GG_BEYOND : g;
    return LM_OK;
}
/* A short cut must not cost a grammar its token: it has work of its own, and where that is not enough there is none. */
lm_err lm_sets_leads(lm_sets *s, int32_t from, int32_t to, uint8_t *groups) {
    const int64_t work = s->work;
    s->work = 0;
    const lm_err err = leads(s, from, to, groups);
    s->work = work;
    return err;
}
lm_err lm_sets_loops(lm_sets *s, int32_t set) {
    uint8_t g;
    LM_TRY(lm_sets_leads(s, set, set, &g));
    s->set[set].loops = g; s->set[set].loops_known = true;
    return LM_OK;
}
/* ---- forgetting ---- */
static lm_err copy_node(lm_sets *to, const lm_sets *s, int32_t *map, int32_t node, int32_t *out) {       /* without recursion: below first */
    if (node <= LM_GN_END) { *out = node; return LM_OK; }
    int32_t *stack = NULL, cap = 0, n = 0;
    lm_err err = LM_OK;
    if (!lm_g_room(s->ctx, (void **)&stack, &cap, 0, 1, sizeof *stack, NODES)) return LM_E_NOMEM;
    stack[n++] = node;
    while (n && !err) {
        const int32_t x = stack[n - 1];
        bool ready = true;
        if (map[x] >= 0) { n--; continue; }
        for (int32_t i = 0; i < s->node[x].n; i++) {
            const int32_t below = s->frame[s->node[x].at + i].node;
            if (below <= LM_GN_END || map[below] >= 0) continue;
            if (!lm_g_room(s->ctx, (void **)&stack, &cap, n, 1, sizeof *stack, 1 << 26)) { err = LM_E_NOMEM; break; }
            stack[n++] = below; ready = false;
        }
        if (!ready || err) continue;
        for (int32_t i = 0; i < s->node[x].n && !err; i++) {
            lm_gframe f = s->frame[s->node[x].at + i];
            if (f.node > LM_GN_END) f.node = map[f.node];
            if (!lm_g_room(to->ctx, (void **)&to->frame, &to->cap_frame, to->n_frame, 1, sizeof f, FRAMES)) err = LM_E_RANGE;
            else to->frame[to->n_frame++] = f;
        }
        if (err) break;
        lm_gframe *f = to->frame + to->n_frame - s->node[x].n;
        qsort(f, (size_t)s->node[x].n, sizeof *f, by_frame);            /* numbers below have changed */
        err = intern_node(to, s->node[x].n, &map[x]);
        n--;
    }
    lm_free(s->ctx, stack);
    *out = map[node];
    return err;
}
lm_err lm_sets_collect(lm_sets *s, int32_t **live, int32_t n) {
    lm_sets to;
    LM_TRY(lm_sets_new(&to, s->ctx, s->g));
    int32_t *map = lm_alloc(s->ctx, LM_MEM_MISC, (size_t)s->n_node * sizeof *map), *now = lm_alloc(s->ctx, LM_MEM_MISC, (size_t)(n + 1) * sizeof *now);
    lm_gthread *t = NULL;
    int32_t cap = 0;
    lm_err err = map && now ? LM_OK : LM_E_NOMEM;
    for (int32_t i = 0; !err && i < s->n_node; i++) map[i] = -1;
    for (int32_t i = 0; i < n && !err; i++) {
        const lm_gset x = s->set[*live[i]];
        if (!lm_g_room(s->ctx, (void **)&t, &cap, 0, x.n + 1, sizeof *t, FRAMES)) err = LM_E_NOMEM;
        for (int32_t k = 0; k < x.n && !err; k++) { t[k] = s->thread[x.at + k]; err = copy_node(&to, s, map, t[k].node, &t[k].node); }
        if (!err) err = intern_set(&to, t, x.n, x.flags, &now[i]);
    }
    if (!err) {
        for (int32_t i = 0; i < n; i++) *live[i] = now[i];
        lm_sets old = *s;
        *s = to; to = old;
    }
    lm_free(s->ctx, map); lm_free(s->ctx, now); lm_free(s->ctx, t);
    lm_sets_free(&to);
    return err;
}
