/* grammar_int.h — the tree of a grammar, the automaton it becomes, and the helpers that rows share.
 *
 * Lifetime: a tree lives while its grammar is made.  Threads: one.
 * Errors:   the first error stays in lm_ast.err; building goes on with node -1, which every builder passes through. */
#ifndef LM_GRAMMAR_INT_H
#define LM_GRAMMAR_INT_H
#include "grammar/grammar.h"
/* ---- the tree ---------------------------------------------------------------------------------------------- */
typedef enum { LM_G_EMPTY, LM_G_NEVER, LM_G_CLASS, LM_G_TEXT, LM_G_SEQ, LM_G_ALT, LM_G_REP, LM_G_RULE } lm_gkind;
typedef struct { uint32_t lo, hi; } lm_grange;                         /* code points, both ends in */
typedef struct { uint8_t kind; int32_t at, n, min, max, depth; } lm_gnode;     /* at, n: ranges, bytes or kids; REP: kid at, max -1 = any; RULE: at */
typedef struct { int32_t node; char *name; } lm_grule;                 /* node -1: not defined yet; name NULL: made by us */
typedef struct lm_ast {
    lm_ctx *ctx; const char *file; lm_err err; int32_t root;           /* root: a rule */
    lm_gnode *node; int32_t n_node, cap_node;
    int32_t *kid, n_kid, cap_kid;
    lm_grange *range; int32_t n_range, cap_range;
    char *byte; int32_t n_byte, cap_byte;
    lm_grule *rule; int32_t n_rule, cap_rule;
    int32_t json[16];                                                  /* rules of grammar_json.c, 1 + number; 0 = not made yet */
} lm_ast;
lm_err lm_ast_fail(lm_ast *a, lm_err e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));   /* "file: sentence"; keeps the first */
void lm_ast_free(lm_ast *a);
int32_t lm_g_empty(lm_ast *a);
int32_t lm_g_never(lm_ast *a);
int32_t lm_g_class(lm_ast *a, const lm_grange *r, int n);              /* any order, may overlap; surrogates are left out; none left = never */
int32_t lm_g_not(lm_ast *a, const lm_grange *r, int n);                /* every other code point */
int32_t lm_g_text(lm_ast *a, const char *p, size_t n);                 /* bytes */
int32_t lm_g_str(lm_ast *a, const char *s);
int32_t lm_g_seq(lm_ast *a, const int32_t *x, int n);
int32_t lm_g_alt(lm_ast *a, const int32_t *x, int n);                  /* n 0 = never */
int32_t lm_g_rep(lm_ast *a, int32_t x, int64_t min, int64_t max);      /* max -1 = any number */
int32_t lm_g_call(lm_ast *a, int32_t rule);
#define LM_G_SEQ(a, ...) lm_g_seq(a, (const int32_t[]){ __VA_ARGS__ }, LM_COUNT(((const int32_t[]){ __VA_ARGS__ })))
#define LM_G_ALT(a, ...) lm_g_alt(a, (const int32_t[]){ __VA_ARGS__ }, LM_COUNT(((const int32_t[]){ __VA_ARGS__ })))
int32_t lm_g_rule(lm_ast *a, const char *name, size_t n);              /* a new rule, not defined; name NULL for ours */
void lm_g_define(lm_ast *a, int32_t rule, int32_t node);
/* Lists that grow while something is parsed; on the context's memory. */
typedef struct { lm_ast *a; int32_t *v; int n, cap; } lm_glist;
void lm_glist_add(lm_glist *l, int32_t x);
void lm_glist_free(lm_glist *l);
typedef struct { lm_ast *a; lm_grange *v; int n, cap; } lm_granges;
void lm_granges_add(lm_granges *l, uint32_t lo, uint32_t hi);
void lm_granges_invert(lm_granges *l);                                 /* sorted and joined, then what is between */
void lm_granges_free(lm_granges *l);
/* One code point of UTF-8 text that must be valid; its length, or 0. */
int lm_g_utf8(const char *p, size_t n, uint32_t *c);

/* ---- regular expressions for other rows ---------------------------------------------------------------------- */
typedef int32_t lm_g_chars(lm_ast *a, const lm_grange *r, int n);      /* a class of characters as the text writes it */
/* The language of re as one node; search: what contains a match (JSON Schema), else what is one from end to end. chars: lm_g_class, or JSON's. */
int32_t lm_g_regex(lm_ast *a, const char *re, size_t n, bool search, lm_g_chars *chars);

/* ---- JSON as text (grammar_json.c): each a rule made once -------------------------------------------------------- */
int32_t lm_gj_ws(lm_ast *a);                                           /* between tokens: nothing, a space, or a newline and some indentation */
int32_t lm_gj_char(lm_ast *a);                                         /* one character inside a string, escaped or not */
int32_t lm_gj_chars(lm_ast *a, const lm_grange *r, int n);             /* characters of a class, escaped only where JSON wants it */
int32_t lm_gj_string(lm_ast *a);
int32_t lm_gj_number(lm_ast *a);
int32_t lm_gj_integer(lm_ast *a);
int32_t lm_gj_any(lm_ast *a);                                          /* any value */
int32_t lm_gj_object(lm_ast *a);
int32_t lm_gj_array(lm_ast *a);
int32_t lm_gj_list(lm_ast *a, int32_t item, int64_t min, int64_t max); /* "[" items "]" */
/* Decimal bounds "[-]digits[.digits]" or NULL; open: the bound itself is out. integer: no fraction is written. */
int32_t lm_gj_range(lm_ast *a, const char *lo, bool lo_open, const char *hi, bool hi_open, bool integer);
int32_t lm_gj_format(lm_ast *a, const char *format);                   /* what is between the quotes; -1: not known */
int lm_gj_formats(const char **names, int most);                       /* how many there are */

/* ---- the automaton ------------------------------------------------------------------------------------------------- */
typedef struct { uint8_t lo, hi; int32_t to; } lm_gedge;
typedef struct { int32_t rule, to, min, max; } lm_gcall;               /* min -1: a call; else min..max times, one after the other (max -1 = any) */
typedef struct { int32_t edge, n_edge, call, n_call; bool final; uint64_t first[4]; } lm_gstate;
struct lm_grammar {
    lm_ctx *ctx;
    lm_gstate *state; int32_t n_state, cap_state;
    lm_gedge *edge; int32_t n_edge, cap_edge;
    lm_gcall *call; int32_t n_call, cap_call;
    int32_t *start, *rank; int32_t n_rule;                             /* (n_rule) start -1: not used; rank: callers at the same place come first */
    int32_t root; bool root_empty, root_ne;                            /* may the text be empty; may it be anything else */
};
lm_err lm_grammar_compile(lm_grammar *g, lm_ast *a);
/* Byte sequences of the code points lo..hi: *n rows of up to four ranges; at most 16 rows. */
typedef struct { uint8_t lo[4], hi[4]; int n; } lm_gutf8;
int lm_g_utf8_ranges(uint32_t lo, uint32_t hi, lm_gutf8 out[16]);

/* ---- the vocabulary ------------------------------------------------------------------------------------------------- */
/* Level by level, so that the children of a node lie side by side, from kid to the next node's. token: into order; its own, then those of its subtree to
 * token_end. longest: bytes of the longest of these, at most LM_TRIE_LONG. In groups (lm_g_group): next: its children's bytes; below: all bytes below it, with
 * LM_GG_BROKEN where they do not begin with a character; groups: what the tokens of its subtree are made of. */
enum { LM_TRIE_LONG = 127 };
typedef struct { int32_t kid, token, token_end; uint16_t n_token; uint8_t longest, byte, next, groups, below; } lm_tnode;
struct lm_trie {
    lm_ctx *ctx; lm_tnode *node; int32_t n_node, max_depth;            /* and one node more, whose kid is n_node */
    int32_t *order, n_order;                                           /* tokens sorted by bytes */
    char *bytes; uint32_t *at;                                         /* (vocab + 1) bytes of token i; at[i] == at[i+1]: none */
    uint32_t *has[8];                                                  /* per group, a bit for each token: has it bytes of it? What has no bytes: as if broken */
    uint8_t *length;                                                   /* (vocab, rounded up to 32) bytes of a token, at most LM_TRIE_LONG */
    int64_t vocab; int32_t *eos; int n_eos;
};
/* Makes room in an array of a struct on `ctx`; false after an error sentence. */
bool lm_g_room(lm_ctx *ctx, void **p, int32_t *cap, int32_t n, int32_t more, size_t size, int32_t most);
#endif
