/* grammar_set.h — sets of (state, stack) pairs, interned: the automaton as it is found out.
 *
 * A stack node is a list of ways back: (state to go on in, or a counted repetition with its count; node below). Node 0 has no ways back and stands for
 * "whatever is below": ending there sets LM_GS_EXIT. Node 1 is the end of the text: ending there sets LM_GS_ACCEPT. Equal nodes are one node, equal
 * sets are one set; set 0 is the empty one. A set's row of successors is filled as it is asked for.
 * A count may also be LM_GC_IN or LM_GC_BELOW: so far from both bounds, or from the lower one, that nothing looked at from here reaches them.
 *
 * Lifetime: numbers of sets and nodes hold until lm_sets_collect.  Threads: one.  Errors: LM_E_RANGE where a grammar is too ambiguous. */
#ifndef LM_GRAMMAR_SET_H
#define LM_GRAMMAR_SET_H
#include "grammar/grammar_int.h"
enum { LM_GS_ACCEPT = 1, LM_GS_EXIT = 2, LM_GN_BELOW = 0, LM_GN_END = 1, LM_GC_IN = -1, LM_GC_BELOW = -2 };
typedef struct { int32_t ret, count, node; } lm_gframe;                /* ret: a state, or ~ a call that is repeated */
typedef struct { int32_t at, n; } lm_gstack;
typedef struct { int32_t state, node; } lm_gthread;
typedef struct {
    int32_t *row, at, n, mask, local; uint8_t flags;                   /* row: successors (-1 not known yet), NULL none yet; mask, local: see grammar_mask.c */
    uint8_t loops; bool loops_known;                                   /* groups (lm_g_group) all of whose characters lead back to this very set */
    uint8_t opens;                                                     /* groups some of whose bytes lead on; LM_GG_BEYOND: of all bytes beyond ASCII */
    uint64_t first[4];                                                 /* bytes that lead on */
} lm_gset;
typedef struct lm_sets {
    lm_ctx *ctx; const lm_grammar *g;
    lm_gstack *node; int32_t n_node, cap_node;
    lm_gframe *frame; int32_t n_frame, cap_frame;
    lm_gset *set; int32_t n_set, cap_set;
    lm_gthread *thread; int32_t n_thread, cap_thread;
    int32_t **chunk, n_chunk, cap_chunk, n_row;                        /* rows, CHUNK of them at a time, so that they stay where they are */
    int32_t *node_table, *set_table, n_node_table, n_set_table;
    /* scratch of a closure */
    lm_gthread *ahead; int32_t n_ahead, cap_ahead;
    lm_gthread *out; int32_t n_out, cap_out;
    uint64_t *seen; int32_t n_seen, cap_seen;                          /* open addressing; 0 free */
    lm_gframe *wait; int32_t *wait_next, n_wait, cap_wait, cap_wait_next;
    int32_t *wait_of, *waiting, n_waiting;                             /* (rules) head of the frames that wait for a rule, -1 none; the rules that are waited for */
    uint8_t flags; int64_t work;                                       /* since the caller set it to 0; bounded, so that nothing hangs */
} lm_sets;
lm_err lm_sets_new(lm_sets *s, lm_ctx *ctx, const lm_grammar *g);
void lm_sets_free(lm_sets *s);
lm_err lm_sets_start(lm_sets *s, int32_t *set);                        /* the empty text */
lm_err lm_sets_one(lm_sets *s, int32_t state, int32_t node, int32_t *set);             /* a set of one pair, as it stands */
lm_err lm_sets_frame(lm_sets *s, lm_gframe f, int32_t *node);          /* a node with one way back */
lm_err lm_sets_end(lm_sets *s, const int32_t *node, int32_t n, int32_t *set);          /* where the rules that stand on these nodes have ended */
lm_err lm_sets_fill(lm_sets *s, int32_t set, uint8_t byte, int32_t *to);
static inline lm_err lm_sets_step(lm_sets *s, int32_t set, uint8_t byte, int32_t *to) {
    const int32_t *row = s->set[set].row;
    if (row && row[byte] >= 0) { *to = row[byte]; return LM_OK; }
    return lm_sets_fill(s, set, byte, to);
}
/* What text is made of, in eight groups: a-z, A-Z, 0-9, blank, what a JSON string must escape, other ASCII, what is no valid UTF-8, characters beyond ASCII
 * (whole ones, and the beginning of one where a token ends). A group is all of its characters or nothing: what leads back to a set for each of them one by one
 * does so for any text of them. */
enum { LM_GG_BROKEN = 1 << 6, LM_GG_BEYOND = 1 << 7 };
static inline uint8_t lm_g_group(uint8_t b) {                          /* of an ASCII byte */
    return (uint8_t)(1 << (b >= 'a' && b <= 'z' ? 0 : b >= 'A' && b <= 'Z' ? 1 : b >= '0' && b <= '9' ? 2 : b == ' ' ? 3 : b < 0x20 || b == '"' || b == '\\' ? 4 : 5));
}
lm_err lm_sets_leads(lm_sets *s, int32_t from, int32_t to, uint8_t *groups);           /* groups all of whose characters lead from one set to another */
lm_err lm_sets_loops(lm_sets *s, int32_t set);                         /* makes loops known */
/* Forget all sets but those in live[n], whose numbers become the new ones. */
lm_err lm_sets_collect(lm_sets *s, int32_t **live, int32_t n);
#endif
