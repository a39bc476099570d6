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
 * Where a rule repeats itself, as inside a string or a name, most tokens are settled without the trie: each is known to be made of some groups of characters
 * (lm_g_group), and if every character of those groups leads back to the same set, all tokens made of them are in; the walk passes them over. What is left
 * of the trie where a rule has ended may be large too (all words, after a blank): then it is treated as the whole is, pair by pair, and kept.
 *
 * A set that was seen before has its whole mask. Masks and walks are dropped when there are too many of them; sets are collected down to those that matchers
 * stand on. None of this changes a bit of a mask. */
#include <string.h>
#include "grammar/grammar_set.h"

enum { MASKS = 256, LOCALS = 1024, MANY_SETS = 1 << 14, MANY_FRAMES = 1 << 19, LEVELS = 3, FEW = 4, MANY = 256, NESTED = 8 };
/* What a pair alone says about the trie below `top`; next: another top of the same pair. */
typedef struct { uint32_t *mask; int32_t *leave, n_leave, cap_leave, top, next; } local;
struct lm_matcher { lm_masker *m; int32_t set; bool ended; struct lm_matcher *next, **at; };
struct lm_masker {
    lm_ctx *ctx; const lm_grammar *g; const lm_trie *t; lm_sets s; lm_matcher *first; int64_t words;
    uint32_t *mask[MASKS]; int n_mask;                                 /* whole masks, by number; buffers are kept when their number is free again */
    local *local; int32_t n_local, cap_local, *local_key;              /* local_key: (LOCALS) the set of each */
    int32_t *path, *at, *to, *left_at, *left;                          /* of one walk: (max_depth + 2); sets, and the children still to be looked at, level by level */
    int32_t *pair, n_pair, cap_pair;                                   /* a stack: for each set being taken apart its keys, bottoms and which are the same */
    uint32_t *work;                                                    /* (words) */
    int64_t made;
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
        m->at = lm_alloc(ctx, LM_MEM_MISC, d * sizeof *m->at);
        m->to = lm_alloc(ctx, LM_MEM_MISC, d * sizeof *m->to);
        m->left = lm_alloc(ctx, LM_MEM_MISC, d * sizeof *m->left);
        m->left_at = lm_alloc(ctx, LM_MEM_MISC, d * sizeof *m->left_at);
        m->local_key = lm_alloc(ctx, LM_MEM_MISC, LOCALS * sizeof *m->local_key);
        m->work = lm_alloc(ctx, LM_MEM_MISC, (size_t)(m->words + 1) * 4);
        if (!m->path || !m->at || !m->to || !m->left || !m->left_at || !m->local_key || !m->work) { err = LM_E_NOMEM; goto fail; }
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
    lm_free(m->ctx, m->local); lm_free(m->ctx, m->local_key); lm_free(m->ctx, m->path); lm_free(m->ctx, m->at); lm_free(m->ctx, m->to); lm_free(m->ctx, m->left); lm_free(m->ctx, m->left_at);
    lm_free(m->ctx, m->pair); lm_free(m->ctx, m->work);
    lm_sets_free(&m->s);
    lm_free(m->ctx, m);
}
int64_t lm_masker_vocab(const lm_masker *m) { return m->t ? m->t->vocab : 0; }
int64_t lm_masker_made(const lm_masker *m) { return m->made; }
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
    for (int32_t i = 0; i < m->n_local; i++) {
        lm_gset *x = &m->s.set[m->local_key[i]];
        m->local[i].next = x->local; x->local = i;
    }
    return LM_OK;
}

/* ---- walks ---- */
static inline void put(uint32_t *mask, int32_t id) { mask[id >> 5] |= 1u << (id & 31); }
static void put_node(const lm_masker *m, uint32_t *mask, const lm_tnode *x) {
    for (int32_t i = 0; i < x->n_token; i++) put(mask, m->t->order[x->token + i]);
}
/* A subtree all of whose characters lead back to the set: all its tokens at once. *done false: it must be walked. */
static lm_err whole_below(lm_masker *m, const lm_tnode *x, int32_t set, uint32_t *mask, bool *done) {
    *done = false;
    if (x->token_end - x->token - x->n_token < FEW || x->below & LM_GG_BROKEN) return LM_OK;
    if (!m->s.set[set].loops_known) LM_TRY(lm_sets_loops(&m->s, set));
    if (x->below & ~(unsigned)m->s.set[set].loops) return LM_OK;
    for (int32_t k = x->token; k < x->token_end; k++) put(mask, m->t->order[k]);
    *done = true;
    return LM_OK;
}
static void go_down(lm_masker *m, int32_t deep, const lm_tnode *x, int32_t set) { m->path[deep] = set; m->at[deep] = x->kid; m->to[deep] = x[1].kid; }
/* The subtree below node `top` of the trie, from a set. */
static lm_err walk(lm_masker *m, int32_t top, int32_t set, uint32_t *mask) {
    const lm_tnode *node = m->t->node;
    if (!(node[top].next & m->s.set[set].opens)) return LM_OK;
    go_down(m, 0, &node[top], set);
    for (int32_t deep = 0; deep >= 0;) {
        if (m->at[deep] == m->to[deep]) { deep--; continue; }
        const lm_tnode *x = &node[m->at[deep]++];
        int32_t to;
        bool done;
        LM_TRY(lm_sets_step(&m->s, m->path[deep], x->byte, &to));
        if (!to) continue;
        LM_TRY(whole_below(m, x, to, mask, &done));
        if (done) continue;
        put_node(m, mask, x);
        if (x->next & m->s.set[to].opens) go_down(m, ++deep, x, to);
    }
    return LM_OK;
}
/* All tokens of at most so many bytes made of these groups. */
static void put_made_of(const lm_masker *m, uint8_t groups, int32_t most, uint32_t *mask) {
    enum { PIECE = 512 };
    for (int64_t at = 0; at < m->words; at += PIECE) {
        const int64_t n = m->words - at < PIECE ? m->words - at : PIECE;
        uint32_t not[PIECE] = {0};
        for (int k = 0; k < 8; k++) {
            const uint32_t *has = m->t->has[k] + at;
            if (groups >> k & 1) continue;
            for (int64_t w = 0; w < n; w++) not[w] |= has[w];
        }
        for (int64_t w = 0; w < n && most < LM_TRIE_LONG; w++) {       /* eight lengths at once: a byte's highest bit stays where it is not more than most */
            uint32_t few = 0;
            for (int k = 0; k < 4; k++) {
                uint64_t x;
                memcpy(&x, m->t->length + 32 * (at + w) + 8 * k, 8);
                x = (0x0101010101010101ull * (uint64_t)(0x80 + most) - x) & 0x8080808080808080ull;
                few |= (uint32_t)((x >> 7) * 0x0102040810204080ull >> 56) << 8 * k;
            }
            not[w] |= ~few;
        }
        for (int64_t w = 0; w < n; w++) mask[at + w] |= ~not[w];
    }
}
/* Groups of characters of which any text may come: they all lead to one set, and keep it there. */
static lm_err home_of(lm_masker *m, int32_t set, uint8_t *groups) {
    static const uint8_t one[] = "eE5";                                /* what is rare is not worth it */
    int32_t before = 0;
    *groups = 0;
    for (int k = 0; k < 3 && !*groups; k++) {
        int32_t to;
        uint8_t first;
        LM_TRY(lm_sets_step(&m->s, set, one[k], &to));
        if (!to || to == before) continue;
        before = to;
        if (!m->s.set[to].loops_known) LM_TRY(lm_sets_loops(&m->s, to));
        if (!m->s.set[to].loops) continue;
        LM_TRY(lm_sets_leads(&m->s, set, to, &first));
        *groups = m->s.set[to].loops & first;
    }
    return LM_OK;
}
/* A pair far from the bounds of its counts, and how many rounds it may really go: a round eats a byte at least, so shorter texts cannot tell. */
static lm_err unbounded(lm_masker *m, int32_t set, int32_t *far, int32_t *rounds) {
    const lm_gthread t = m->s.thread[m->s.set[set].at];
    lm_gframe f[LEVELS];
    int32_t n = 0, node = t.node;
    *rounds = LM_TRIE_LONG;
    for (; node > LM_GN_END; node = f[n++].node) {                     /* keys have LEVELS at most, one way back each: key_of */
        f[n] = m->s.frame[m->s.node[node].at];
        if (f[n].count < 0) continue;
        const lm_gcall *c = &m->g->call[~f[n].ret];
        if (c->max >= 0 && c->max - f[n].count < *rounds) *rounds = c->max - f[n].count;
        f[n].count = f[n].count < c->min ? LM_GC_BELOW : LM_GC_IN;
    }
    while (n--) LM_TRY(lm_sets_frame(&m->s, (lm_gframe){ f[n].ret, f[n].count, node }, &node));
    return lm_sets_one(&m->s, t.state, node, far);
}
/* Something is left below here: for all nodes on the path where the rule had ended, each once. Every subtree has tokens. */
static lm_err leave_all(lm_masker *m, local *l, int32_t n_left) {
    for (int32_t k = n_left - 1; k >= 0 && m->left[k] >= 0; k--) {
        if (!lm_g_room(m->ctx, (void **)&l->leave, &l->cap_leave, l->n_leave, 1, sizeof *l->leave, INT32_MAX / 2)) return LM_E_NOMEM;
        l->leave[l->n_leave++] = m->left[k];
        m->left[k] = -1;
    }
    return LM_OK;
}
/* The trie below l->top from a set that stands on nothing: the mask, and the nodes where something is left to be checked. */
static lm_err walk_local(lm_masker *m, int32_t set, local *l) {
    const lm_tnode *node = m->t->node;
    int32_t n_left = 0, far, most = 0;                                 /* nodes on the path where the rule had ended: left[], left_at[] the level of their children */
    uint8_t known = 0;                                                 /* tokens made of these groups, of `most` bytes at most, are in the mask */
    if (!l->top) {
        LM_TRY(unbounded(m, set, &far, &most));
        if (most > 0) LM_TRY(home_of(m, far, &known));
        if (most == LM_TRIE_LONG && m->t->max_depth > LM_TRIE_LONG && far != set) known = 0;
    }
    if (known) put_made_of(m, known, most, l->mask);
    go_down(m, 0, &node[l->top], set);
    for (int32_t deep = 0; deep >= 0;) {
        if (m->at[deep] == m->to[deep]) { deep--; continue; }
        const int32_t i = m->at[deep]++;
        const lm_tnode *x = &node[i];
        int32_t to;
        bool done;
        if (!(x->groups & ~(unsigned)known) && x->longest <= most) continue;
        LM_TRY(lm_sets_step(&m->s, m->path[deep], x->byte, &to));
        while (n_left && m->left_at[n_left - 1] > deep) n_left--;
        if (!to) { LM_TRY(leave_all(m, l, n_left)); continue; }
        LM_TRY(whole_below(m, x, to, l->mask, &done));
        if (done) continue;
        put_node(m, l->mask, x);
        if (x[1].kid == x->kid) continue;
        if (m->s.set[to].flags & LM_GS_EXIT) { m->left[n_left] = i; m->left_at[n_left++] = deep + 1; }
        if (x->next & m->s.set[to].opens) go_down(m, ++deep, x, to);
        else LM_TRY(leave_all(m, l, n_left));
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
/* *out -1: no room for another one. */
static lm_err local_of(lm_masker *m, int32_t key, int32_t top, int32_t *out) {
    for (*out = m->s.set[key].local; *out >= 0; *out = m->local[*out].next) if (m->local[*out].top == top) return LM_OK;
    if (m->n_local == LOCALS) return LM_OK;
    if (!lm_g_room(m->ctx, (void **)&m->local, &m->cap_local, m->n_local, 1, sizeof *m->local, LOCALS)) return LM_E_NOMEM;
    local l = { .mask = lm_calloc(m->ctx, LM_MEM_MISC, (size_t)m->words, 4), .top = top };
    lm_err err = l.mask ? walk_local(m, key, &l) : LM_E_NOMEM;
    if (err) { lm_free(m->ctx, l.mask); lm_free(m->ctx, l.leave); return err; }
    l.next = m->s.set[key].local;
    m->local[m->n_local] = l; m->local_key[m->n_local] = key;
    *out = m->s.set[key].local = m->n_local++;
    return LM_OK;
}
/* Is much of the trie below a node open to a set? */
static bool wide(const lm_masker *m, int32_t top, int32_t set) {
    const lm_tnode *x = &m->t->node[top];
    const uint64_t *first = m->s.set[set].first;
    int32_t open = 0;
    if (x->token_end - x->token <= MANY) return false;
    for (const lm_tnode *k = &m->t->node[x->kid]; k < &m->t->node[x[1].kid] && open <= MANY; k++)
        if (first[k->byte >> 6] >> (k->byte & 63) & 1) open += k->token_end - k->token;
    return open > MANY;
}
/* Adds what may come below `top` after a set. */
static lm_err whole(lm_masker *m, int32_t set, int32_t top, int nested, uint32_t *mask) {
    const int32_t n = m->s.set[set].n, at = m->n_pair;                 /* keys at, bottoms at + n, those of one key at + 2n; the stack may move */
    if (!lm_g_room(m->ctx, (void **)&m->pair, &m->cap_pair, at, 3 * n + 1, sizeof *m->pair, INT32_MAX / 2)) return LM_E_NOMEM;
    for (int32_t i = 0; i < n; i++) LM_TRY(key_of(m, m->s.thread[m->s.set[set].at + i], &m->pair[at + i], &m->pair[at + n + i]));
    m->n_pair = at + 3 * n;
    for (int32_t i = 0; i < n; i++) {
        const int32_t key = m->pair[at + i];
        int32_t l, k = 0, below;
        if (key < 0) continue;
        for (int32_t j = i; j < n; j++) if (m->pair[at + j] == key) { m->pair[at + 2 * n + k++] = m->pair[at + n + j]; m->pair[at + j] = -1; }
        if (!nested && m->n_local == LOCALS) drop_locals(m);           /* deeper in, those above are still in use */
        LM_TRY(local_of(m, key, top, &l));
        if (l < 0) { LM_TRY(walk(m, top, set, mask)); break; }         /* all pairs at once, nothing kept */
        for (int64_t w = 0; w < m->words; w++) mask[w] |= m->local[l].mask[w];
        if (!m->local[l].n_leave) continue;
        LM_TRY(lm_sets_end(&m->s, m->pair + at + 2 * n, k, &below));
        if (!m->s.set[below].n) continue;
        for (int32_t j = 0; j < m->local[l].n_leave; j++) {
            const int32_t leave = m->local[l].leave[j];
            if (nested < NESTED && wide(m, leave, below)) LM_TRY(whole(m, below, leave, nested + 1, mask));
            else LM_TRY(walk(m, leave, below, mask));
        }
    }
    m->n_pair = at;
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
    memset(m->mask[m->n_mask], 0, (size_t)m->words * 4);
    m->n_pair = 0; m->made++;
    LM_TRY(whole(m, x->set, 0, 0, m->mask[m->n_mask]));
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
