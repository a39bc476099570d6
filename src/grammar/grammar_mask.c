/* grammar_mask.c — which tokens may come next: masks per state, and what remains to be checked with the stack at hand.
 *
 * A mask is the union over the pairs of a set. For a pair, the trie is walked once with nothing but the state and the counted repetitions right above it
 * (their counts clipped to what one token can tell apart); below stands "whatever is below". That settles every token that stays inside the rule. A
 * token that leaves it, at some node of the trie, is walked on from there with the real stack; these nodes are kept beside the mask. Inside a
 * JSON string of a vocabulary of 128 000 that is some hundred nodes, most of which die at their first byte.
 *
 *     pair (in string, stack)      mask kept for "in string"          { … all without a quote … }
 *                                  leaves at   "  ",  "},  …      ->  walked from what follows the string here: , or } or :
 *
 * A set that was seen before has its whole mask. Masks and walks are dropped when there are too many of them; sets are collected down to those that matchers
 * stand on. None of this changes a bit of a mask. */
#include <string.h>
#include "grammar/grammar_set.h"

enum { MASKS = 256, LOCALS = 1024, MANY_SETS = 1 << 14, MANY_FRAMES = 1 << 19, LEVELS = 3 };
typedef struct { uint32_t *mask; int32_t *leave, n_leave, cap_leave; } local;
struct lm_matcher { lm_masker *m; int32_t set; bool ended; struct lm_matcher *next, **at; };
struct lm_masker {
    lm_ctx *ctx; const lm_grammar *g; const lm_trie *t; lm_sets s; lm_matcher *first; int64_t words;
    uint32_t *mask[MASKS]; int n_mask;                                 /* whole masks, by number; buffers are kept when their number is free again */
    local *local; int32_t n_local, cap_local, *local_key;              /* local_key: (LOCALS) the set of each */
    int32_t *path; int32_t *left_at, *left, *bottom, *key; int32_t cap_bottom, cap_key;
    uint32_t *work;                                                    /* (words) */
};
lm_err lm_masker_new(lm_masker **out, lm_ctx *ctx, const lm_grammar *g, const lm_trie *t) {
    lm_masker *m = lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *m);
    if (!m) return LM_E_NOMEM;
    m->ctx = ctx; m->g = g; m->t = t;
    lm_err err;
    LM_GOTO(lm_sets_new(&m->s, ctx, g), fail);
    if (t) {
        m->words = lm_ceil_div(t->vocab, 32);
        const size_t d = (size_t)t->max_depth + 2;
        m->path = lm_alloc(ctx, LM_MEM_MISC, d * sizeof *m->path);
        m->left = lm_alloc(ctx, LM_MEM_MISC, d * sizeof *m->left);
        m->left_at = lm_alloc(ctx, LM_MEM_MISC, d * sizeof *m->left_at);
        m->local_key = lm_alloc(ctx, LM_MEM_MISC, LOCALS * sizeof *m->local_key);
        m->work = lm_alloc(ctx, LM_MEM_MISC, (size_t)(m->words + 1) * 4);
        if (!m->path || !m->left || !m->left_at || !m->local_key || !m->work) { err = LM_E_NOMEM; goto fail; }
    }
    *out = m;
    return LM_OK;
fail:
    lm_masker_free(m);
    return err;
}
static void drop_locals(lm_masker *m) {
    for (int32_t i = 0; i < m->n_local; i++) {
        lm_free(m->ctx, m->local[i].mask); lm_free(m->ctx, m->local[i].leave);
        m->s.set[m->local_key[i]].local = -1;
    }
    m->n_local = 0;
}
static void drop_masks(lm_masker *m) { for (int32_t i = 0; i < m->s.n_set; i++) m->s.set[i].mask = -1; m->n_mask = 0; }
void lm_masker_free(lm_masker *m) {
    if (!m) return;
    if (m->s.set) drop_locals(m);
    for (int i = 0; i < MASKS; i++) lm_free(m->ctx, m->mask[i]);
    lm_free(m->ctx, m->local); lm_free(m->ctx, m->local_key); lm_free(m->ctx, m->path); lm_free(m->ctx, m->left); lm_free(m->ctx, m->left_at);
    lm_free(m->ctx, m->bottom); lm_free(m->ctx, m->key); lm_free(m->ctx, m->work);
    lm_sets_free(&m->s);
    lm_free(m->ctx, m);
}
int64_t lm_masker_vocab(const lm_masker *m) { return m->t ? m->t->vocab : 0; }
/* Before a set is made: are there too many? Then only what matchers stand on, and what locals begin with, remains. */
static lm_err tidy(lm_masker *m) {
    if (m->s.n_set < MANY_SETS && m->s.n_frame < MANY_FRAMES && m->s.n_row < MANY_SETS) return LM_OK;
    int32_t n = 0;
    for (lm_matcher *x = m->first; x; x = x->next) n++;
    int32_t **live = lm_alloc(m->ctx, LM_MEM_MISC, (size_t)(n + m->n_local + 1) * sizeof *live);
    if (!live) return LM_E_NOMEM;
    n = 0;
    for (lm_matcher *x = m->first; x; x = x->next) live[n++] = &x->set;
    for (int32_t i = 0; i < m->n_local; i++) live[n++] = &m->local_key[i];
    lm_err err = lm_sets_collect(&m->s, live, n);
    lm_free(m->ctx, live);
    if (err) return err;
    m->n_mask = 0;
    for (int32_t i = 0; i < m->n_local; i++) m->s.set[m->local_key[i]].local = i;
    return LM_OK;
}

/* ---- walks ---- */
static inline void put(uint32_t *mask, int32_t id) { mask[id >> 5] |= 1u << (id & 31); }
static void put_node(const lm_masker *m, uint32_t *mask, const lm_tnode *x) {
    for (uint32_t i = 0; i < x->n_token; i++) put(mask, m->t->order[x->token + (int32_t)i]);
}
/* A large subtree all of whose bytes lead back to the set: all its tokens at once. *done false: it must be walked. */
static lm_err whole_below(lm_masker *m, int32_t i, int32_t set, uint32_t *mask, bool *done) {
    const lm_tnode *x = &m->t->node[i];
    *done = false;
    if (x->end - i < 8) return LM_OK;
    if (!m->s.set[set].loops_known) LM_TRY(lm_sets_loops(&m->s, set));
    if (x->groups & ~m->s.set[set].loops || m->s.set[set].flags & LM_GS_EXIT) return LM_OK;
    const int32_t to = x->end < m->t->n_node ? m->t->node[x->end].token : m->t->n_order;
    for (int32_t k = x->token; k < to; k++) put(mask, m->t->order[k]);
    *done = true;
    return LM_OK;
}
/* The subtree below node `top` of the trie, from a set. */
static lm_err walk(lm_masker *m, int32_t top, int32_t set, uint32_t *mask) {
    const lm_tnode *node = m->t->node;
    const int32_t end = node[top].end;
    const uint32_t base = node[top].depth;
    int32_t *path = m->path;
    path[base] = set;
    for (int32_t i = top + 1; i < end;) {
        const lm_tnode *x = &node[i];
        int32_t to;
        LM_TRY(lm_sets_step(&m->s, path[x->depth - 1], (uint8_t)x->byte, &to));
        if (!to) { i = x->end; continue; }
        bool done;
        LM_TRY(whole_below(m, i, to, mask, &done));
        if (done) { i = x->end; continue; }
        path[x->depth] = to;
        if (x->n_token) put_node(m, mask, x);
        i++;
    }
    return LM_OK;
}
/* The whole trie from a set that stands on nothing: the mask, and the nodes where something is left to be checked. */
static lm_err walk_local(lm_masker *m, int32_t set, local *l) {
    const lm_tnode *node = m->t->node;
    int32_t n_left = 0;                                                /* nodes on the path where the rule had ended: left[], their depth left_at[] */
    m->path[0] = set;
    for (int32_t i = 1; i < node[0].end;) {
        const lm_tnode *x = &node[i];
        const int32_t from = m->path[x->depth - 1];
        int32_t to = 0;
        if (from) LM_TRY(lm_sets_step(&m->s, from, (uint8_t)x->byte, &to));
        while (n_left && m->left_at[n_left - 1] >= (int32_t)x->depth) n_left--;
        if (!to && !n_left) { i = x->end; continue; }
        bool done = false;
        if (to) LM_TRY(whole_below(m, i, to, l->mask, &done));
        if (done) { i = x->end; continue; }
        m->path[x->depth] = to;
        if (to && x->n_token) put_node(m, l->mask, x);
        if (!to && x->n_token)                                         /* all above it, each once */
            for (int32_t k = n_left - 1; k >= 0 && m->left[k] >= 0; k--) {
                if (!lm_g_room(m->ctx, (void **)&l->leave, &l->cap_leave, l->n_leave, 1, sizeof *l->leave, INT32_MAX / 2)) return LM_E_NOMEM;
                l->leave[l->n_leave++] = m->left[k];
                m->left[k] = -1;
            }
        if (to && m->s.set[to].flags & LM_GS_EXIT && x->end > i + 1) { m->left[n_left] = i; m->left_at[n_left++] = (int32_t)x->depth; }
        i++;
    }
    return LM_OK;
}
/* A count, or that no token can reach a bound from here: a round eats a byte at least. */
static int32_t clip(const lm_masker *m, int32_t call, int32_t count) {
    const lm_gcall *c = &m->g->call[call];
    const int32_t far = m->t->max_depth + 1;
    if (count < 0) return count;
    if (c->min - count > far) return LM_GC_BELOW;
    return count >= c->min && (c->max < 0 || c->max - count > far) ? LM_GC_IN : count;
}
/* What a pair is kept under, and the node below it. */
static lm_err key_of(lm_masker *m, lm_gthread t, int32_t *key, int32_t *bottom) {
    lm_gframe f[LEVELS];
    int32_t n = 0, node = LM_GN_BELOW;
    *bottom = t.node;
    while (n < LEVELS && *bottom > LM_GN_END && m->s.node[*bottom].n == 1) {
        const lm_gframe x = m->s.frame[m->s.node[*bottom].at];
        if (x.ret >= 0) break;
        f[n++] = x;
        *bottom = x.node;
    }
    while (n--) LM_TRY(lm_sets_frame(&m->s, (lm_gframe){ f[n].ret, clip(m, ~f[n].ret, f[n].count), node }, &node));
    return lm_sets_one(&m->s, t.state, node, key);
}
static lm_err local_of(lm_masker *m, int32_t key, int32_t *out) {
    if (m->s.set[key].local >= 0) { *out = m->s.set[key].local; return LM_OK; }
    if (m->n_local == LOCALS) drop_locals(m);
    if (!lm_g_room(m->ctx, (void **)&m->local, &m->cap_local, m->n_local, 1, sizeof *m->local, LOCALS)) return LM_E_NOMEM;
    local l = { .mask = lm_calloc(m->ctx, LM_MEM_MISC, (size_t)m->words, 4) };
    lm_err err = l.mask ? walk_local(m, key, &l) : LM_E_NOMEM;
    if (err) { lm_free(m->ctx, l.mask); lm_free(m->ctx, l.leave); return err; }
    m->local[m->n_local] = l; m->local_key[m->n_local] = key;
    *out = m->s.set[key].local = m->n_local++;
    return LM_OK;
}
static lm_err whole(lm_masker *m, int32_t set, uint32_t *mask) {
    const int32_t n = m->s.set[set].n;
    memset(mask, 0, (size_t)m->words * 4);
    if (!lm_g_room(m->ctx, (void **)&m->key, &m->cap_key, 0, n + 1, sizeof *m->key, INT32_MAX) ||
        !lm_g_room(m->ctx, (void **)&m->bottom, &m->cap_bottom, 0, 2 * n + 1, sizeof *m->bottom, INT32_MAX))
        return LM_E_NOMEM;
    int32_t *bottom = m->bottom, *same = m->bottom + n;
    for (int32_t i = 0; i < n; i++) LM_TRY(key_of(m, m->s.thread[m->s.set[set].at + i], &m->key[i], &bottom[i]));
    for (int32_t i = 0; i < n; i++) {
        if (m->key[i] < 0) continue;
        int32_t l, k = 0;
        const int32_t key = m->key[i];
        for (int32_t j = i; j < n; j++) if (m->key[j] == key) { same[k++] = bottom[j]; m->key[j] = -1; }
        LM_TRY(local_of(m, key, &l));
        const uint32_t *from = m->local[l].mask;
        for (int64_t w = 0; w < m->words; w++) mask[w] |= from[w];
        if (!m->local[l].n_leave) continue;
        int32_t below;
        LM_TRY(lm_sets_end(&m->s, same, k, &below));
        if (!m->s.set[below].n) continue;
        for (int32_t j = 0; j < m->local[l].n_leave; j++) LM_TRY(walk(m, m->local[l].leave[j], below, mask));
    }
    return LM_OK;
}
lm_err lm_matcher_mask(lm_matcher *x, const uint32_t **out) {
    lm_masker *m = x->m;
    if (!m->t) return lm_fail(m->ctx, LM_E_INTERNAL, "a mask was asked for without a vocabulary");
    if (x->ended) { memset(m->work, 0, (size_t)m->words * 4); *out = m->work; return LM_OK; }
    LM_TRY(tidy(m));
    m->s.work = 0;
    if (m->s.set[x->set].mask >= 0) { *out = m->mask[m->s.set[x->set].mask]; return LM_OK; }
    if (m->n_mask == MASKS) drop_masks(m);
    if (!m->mask[m->n_mask] && !(m->mask[m->n_mask] = lm_alloc(m->ctx, LM_MEM_MISC, (size_t)(m->words + 1) * 4))) return LM_E_NOMEM;
    LM_TRY(whole(m, x->set, m->mask[m->n_mask]));
    if (m->s.set[x->set].flags & LM_GS_ACCEPT) for (int i = 0; i < m->t->n_eos; i++) put(m->mask[m->n_mask], m->t->eos[i]);
    m->s.set[x->set].mask = m->n_mask;
    *out = m->mask[m->n_mask++];
    return LM_OK;
}

/* ---- matchers ---- */
lm_err lm_matcher_new(lm_matcher **out, lm_masker *m) {
    lm_matcher *x = lm_calloc(m->ctx, LM_MEM_MISC, 1, sizeof *x);
    if (!x) return LM_E_NOMEM;
    x->m = m;
    lm_err err = tidy(m);
    if (!err) err = lm_sets_start(&m->s, &x->set);
    if (err) { lm_free(m->ctx, x); return err; }
    x->next = m->first; x->at = &m->first;
    if (x->next) x->next->at = &x->next;
    m->first = x;
    *out = x;
    return LM_OK;
}
void lm_matcher_free(lm_matcher *x) {
    if (!x) return;
    *x->at = x->next;
    if (x->next) x->next->at = x->at;
    lm_free(x->m->ctx, x);
}
void lm_matcher_copy(lm_matcher *to, const lm_matcher *from) { to->set = from->set; to->ended = from->ended; }
lm_err lm_matcher_bytes(lm_matcher *x, const void *bytes, size_t n, bool *ok) {
    const uint8_t *p = bytes;
    lm_masker *m = x->m;
    if (x->ended || !n) { *ok = !n; return LM_OK; }
    lm_matcher at = { .m = m, .set = x->set, .next = m->first };       /* in the list, so that what it stands on is kept */
    m->first = &at;
    lm_err err = LM_OK;
    m->s.work = 0;
    for (size_t i = 0; i < n && at.set && !err; i++) {
        if (i % 1024 == 0) { err = tidy(m); m->s.work = 0; }
        if (!err) err = lm_sets_step(&m->s, at.set, p[i], &at.set);
    }
    m->first = at.next;
    if (err) return err;
    *ok = at.set != 0;
    if (*ok) x->set = at.set;
    return LM_OK;
}
lm_err lm_matcher_accept(lm_matcher *x, int32_t id) {
    const lm_trie *t = x->m->t;
    if (!t || id < 0 || id >= t->vocab) return lm_fail(x->m->ctx, LM_E_RANGE, "token %d is outside the vocabulary of the grammar", id);
    for (int i = 0; i < t->n_eos; i++) {
        if (t->eos[i] != id) continue;
        if (x->ended || !lm_matcher_complete(x)) return lm_fail(x->m->ctx, LM_E_MISMATCH, "the grammar does not allow the text to end here (token %d)", id);
        x->ended = true;
        return LM_OK;
    }
    bool ok = false;
    if (t->at[id + 1] > t->at[id]) LM_TRY(lm_matcher_bytes(x, t->bytes + t->at[id], t->at[id + 1] - t->at[id], &ok));
    return ok ? LM_OK : lm_fail(x->m->ctx, LM_E_MISMATCH, "the grammar does not allow token %d here", id);
}
bool lm_matcher_complete(const lm_matcher *x) { return x->m->s.set[x->set].flags & LM_GS_ACCEPT; }
bool lm_matcher_ended(const lm_matcher *x) { return x->ended || (lm_matcher_complete(x) && !x->m->s.set[x->set].n); }
