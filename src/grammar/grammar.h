/* grammar.h — text that must have a form: which tokens may come next.
 *
 * A grammar is written in GBNF (llama.cpp's notation), as a JSON Schema or as a regular expression; each is a row that builds one tree of rules, and
 * the tree is compiled into a pushdown automaton over bytes: a small deterministic machine per rule, whose edges are byte ranges, calls of rules and counted
 * repetitions. What a text so far may become is a set of (state, stack) pairs; stacks are shared as in GLL and Earley parsers (equal contexts are one
 * node with several ways back), so an ambiguous grammar costs polynomial time. Sets are interned, so that stepping through known ground is a table
 * look-up. The vocabulary is a trie of bytes: a token may come next iff its bytes lead to a set that is not empty, and every state left after compiling can
 * be completed, so this is exactly "some continuation is a sentence of the grammar". Tokens may end inside a UTF-8 character.
 * Masks follow XGrammar (Dong et al. 2024) and llguidance: for a state, what the trie says without its stack is found once and kept; only tokens that leave
 * the rule are walked with the stack at hand, and the mask of a set seen before is kept whole.
 *
 * Grammars and schemas are hostile input: counts and depths have limits, left recursion, undefined rules, unknown schema keywords and grammars without a
 * sentence are refused by name. Nothing is ignored: a text that leaves here unconstrained does not exist.
 *
 * Lifetime: a masker borrows its grammar and trie, a matcher its masker.
 * Threads:  a grammar and a trie may be read by many; a masker and its matchers belong to one thread at a time.
 * Errors:   LM_E_FORMAT (not in the notation: place and reason), LM_E_CONFIG (undefined, left-recursive, without a sentence, contradicting),
 *           LM_E_UNSUPPORTED (a keyword or construct we do not have), LM_E_RANGE (a limit), LM_E_MISMATCH (a token that is not allowed). */
#ifndef LM_GRAMMAR_H
#define LM_GRAMMAR_H
#include "base/base.h"
enum { LM_GRAMMAR_BYTES = 4 << 20,       /* text of a grammar */
       LM_GRAMMAR_NODES = 1 << 18,       /* parts of its tree */
       LM_GRAMMAR_RULES = 1 << 15,
       LM_GRAMMAR_STATES = 1 << 18,      /* of the automaton; edges eight times as many */
       LM_GRAMMAR_REPEAT = 1 << 20,      /* a count in {m,n}, minLength, maxItems … */
       LM_GRAMMAR_DEPTH = 400,           /* nesting */
       LM_GRAMMAR_THREADS = 1 << 13 };   /* (state, stack) pairs alive at once */

typedef struct lm_grammar lm_grammar;
struct lm_ast;
typedef struct {
    const char *name, *what;
    lm_err (*parse)(struct lm_ast *a, const char *text, size_t n);     /* leaves the rules and a->root */
} lm_grammar_row;
extern const lm_grammar_row *const lm_grammar_rows[];                  /* gbnf, regex, schema; generated from the files; NULL at the end */
/* kind: a row's name. name: what error sentences call the text (a file's path). */
lm_err lm_grammar_new(lm_grammar **out, lm_ctx *ctx, const char *kind, const char *name, const char *text, size_t n);
void lm_grammar_free(lm_grammar *g);                                   /* NULL is fine */
typedef struct { int64_t rules, states, edges; } lm_grammar_size;
lm_grammar_size lm_grammar_size_of(const lm_grammar *g);

/* The vocabulary. piece[i]: the bytes token i writes; p NULL = it may never come (control tokens, padding). eos: may come where the text is complete. */
typedef struct lm_trie lm_trie;
typedef struct { const char *p; size_t n; } lm_piece;
lm_err lm_trie_new(lm_trie **out, lm_ctx *ctx, const lm_piece *piece, int64_t vocab, const int32_t *eos, int n_eos);
void lm_trie_free(lm_trie *t);
int64_t lm_trie_vocab(const lm_trie *t);
int64_t lm_trie_nodes(const lm_trie *t);

/* One grammar over one vocabulary: everything found out so far, shared by its matchers. trie NULL: for bytes only. */
typedef struct lm_masker lm_masker;
lm_err lm_masker_new(lm_masker **out, lm_ctx *ctx, const lm_grammar *g, const lm_trie *t);
void lm_masker_free(lm_masker *m);
int64_t lm_masker_vocab(const lm_masker *m);                           /* of its trie; 0 without one */
int64_t lm_masker_made(const lm_masker *m);                            /* masks that had to be worked out, so far */
/* A text so far. */
typedef struct lm_matcher lm_matcher;
lm_err lm_matcher_new(lm_matcher **out, lm_masker *m);                 /* the empty text */
void lm_matcher_free(lm_matcher *x);
void lm_matcher_copy(lm_matcher *to, const lm_matcher *from);          /* of one masker: to stands where from stands */
/* Bit i: token i may come next. Valid until the next call with this masker. */
lm_err lm_matcher_mask(lm_matcher *x, const uint32_t **mask);
/* LM_E_MISMATCH if the token may not come; nothing changed then. An eos token ends the text: nothing may follow. */
lm_err lm_matcher_accept(lm_matcher *x, int32_t id);
/* The same for bytes; *ok false: no sentence begins so, nothing changed. */
lm_err lm_matcher_bytes(lm_matcher *x, const void *bytes, size_t n, bool *ok);
bool lm_matcher_complete(const lm_matcher *x);                         /* is the text a sentence? */
bool lm_matcher_ended(const lm_matcher *x);                            /* complete, and nothing can follow */
#endif
