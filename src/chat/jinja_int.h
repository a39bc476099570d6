/* jinja_int.h — values, trees and the machine that walks them, for the files of this room.
 *
 * Values are small and immutable but for namespaces, loops and iterators; everything lives in one arena for a rendering, so nothing is freed alone
 * and the memory limit is one counter. Errors stick: the first one is kept in the machine, every function then returns quickly, and what it
 * returned does not matter. So helpers give values, not codes, and loops look at j->err.
 *
 * Lifetime: a tree belongs to its template, values to the machine's arena.  Threads: one machine each.  Errors: j->err and the context's sentence. */
#ifndef LM_CHAT_JINJA_INT_H
#define LM_CHAT_JINJA_INT_H
#include <string.h>
#include "chat/jinja.h"

typedef struct lmj lmj;
typedef enum {
    JV_MISSING, JV_UNDEF, JV_NONE, JV_BOOL, JV_INT, JV_FLOAT, JV_STR, JV_LIST, JV_TUPLE, JV_DICT, JV_NS, JV_RANGE, JV_ITER, JV_VIEW, JV_MACRO, JV_FUNC,
    JV_METHOD, JV_LOOP, JV_CYCLER, JV_JOINER, JV_SLICE
} jv_kind;
/* marks: mark[i] of byte i, or `marked` for all of them where mark is NULL. chars: code points, -1 = not counted yet. */
typedef struct { const char *p; size_t n; int64_t chars; const uint8_t *mark; bool marked, html; } jstr;
typedef struct jlist jlist; typedef struct jdict jdict; typedef struct jrange jrange; typedef struct jiter jiter; typedef struct jview jview;
typedef struct jmacro jmacro; typedef struct jmethod jmethod; typedef struct jloop jloop; typedef struct jcycler jcycler; typedef struct jwhy jwhy;
typedef struct jslice jslice;
typedef struct {
    jv_kind t;
    union {
        bool b; int64_t i; double f; jstr *s; jlist *l; jdict *d; jrange *r; jiter *it; jview *view; jmacro *m; const struct jfunc *fn; jmethod *me; jloop *loop;
        jcycler *cy; const jwhy *why; jslice *sl;
    };
} jv;
struct jwhy { const char *text; };                                   /* the sentence for using an undefined value */
struct jlist { jv *v; int64_t n, cap; };
typedef struct { jv key, val; uint64_t hash; } jpair;
struct jdict { jpair *v; int64_t n, cap; int32_t *slot; int64_t slots; };                     /* slot: an index from 16 pairs on */
struct jrange { int64_t start, stop, step, n; };
struct jslice { jv lo, hi, step; };
typedef enum { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS } jview_kind;
struct jview { jdict *d; jview_kind kind; };
struct jcycler { jlist *items; int64_t at; };                        /* a joiner: items[0] is the separator, at = used */

/* ---- trees ---- */
typedef enum {
    N_CONST, N_NAME, N_LIST, N_TUPLE, N_DICT, N_ATTR, N_ITEM, N_SLICE, N_CALL, N_FILTER, N_TEST, N_NOT, N_NEG, N_POS, N_AND, N_OR, N_COND, N_BINARY, N_CONCAT,
    N_COMPARE, N_NSREF,
    N_TEXT, N_PRINT, N_FOR, N_IF, N_SET, N_SETBLOCK, N_MACRO, N_CALLBLOCK, N_FILTERBLOCK, N_WITH, N_BREAK, N_CONTINUE, N_GENERATION, N_BLOCK, N_REFUSE
} jnode_kind;
typedef enum { OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_FLOORDIV, OP_MOD, OP_POW, OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IN, OP_NOTIN } jop;
typedef struct jnode jnode;
typedef struct { jnode **pos; int n; jstr **name; jnode **val; int n_kw; jnode *star, *star2; } jargs_tree;
struct jnode {
    jnode_kind k; jop op; int line;
    jnode *a, *b, *c;                                                /* operands; for: target, iterable, filter; if: test */
    jnode **kid; int n_kid;                                          /* elements; bodies */
    jnode **other; int n_other;                                      /* else; defaults; values */
    jop *ops;                                                        /* of a comparison: kid[i] op[i] kid[i+1] */
    jstr *name; jstr **params; int n_params;
    jargs_tree *args; jv v;
    const struct jfilter *filter; const struct jtest *test;
    bool recursive, uses_caller, uses_kwargs, uses_varargs;
};

/* ---- running ---- */
typedef struct jscope { struct jscope *up; struct { jstr *name; jv v; } *var; int n, cap; } jscope;
typedef struct { jv *pos; int n; jstr **name; jv *val; int n_kw; } jargs;
typedef struct { lmj *j; char *p; uint8_t *m; size_t n, cap; bool marked; } jbuf;             /* m: marks, once they differ */
typedef enum { IT_ARRAY, IT_STR, IT_KEYS, IT_VALUES, IT_ITEMS, IT_RANGE, IT_FILTERED, IT_NONE } jiter_kind;
struct jiter { jiter_kind k; jv src; int64_t at; size_t byte; jiter *inner; const jnode *node; jscope *scope; };
struct jmacro { const jnode *n; jscope *scope; jstr *name; };
struct jmethod { jv self; const struct jmethod_row *row; };
struct jloop {
    jiter it; int64_t index0, length, depth0; jv after, before, current; jlist *changed;
    const jnode *node; jscope *scope;
};
struct lmj {
    lm_ctx *ctx; lm_arena *a; const lm_jinja *t; lm_err err; int line;
    int64_t steps, max_steps, depth, max_depth; size_t mem, max_mem, max_out;
    jscope *root; jdict *vars; jbuf *out; double now; bool compiling; int flow;      /* flow: 0, or a break or continue on its way */
    lm_jinja_span *span; size_t n_span, cap_span; int capture;       /* capture: outputs that are not the text itself */
};
typedef struct jfilter { const char *name; jv (*fn)(lmj *j, jv v, const jargs *a); } jfilter;
typedef struct jtest { const char *name; bool (*fn)(lmj *j, jv v, const jargs *a); } jtest;
typedef struct jfunc { const char *name; jv (*fn)(lmj *j, const jargs *a); } jfunc;
typedef struct jmethod_row { const char *name; jv (*fn)(lmj *j, jv self, const jargs *a); } jmethod_row;
struct lm_jinja { lm_ctx *ctx; lm_arena *a; char *name, *source; size_t n_source; jnode **body; int n_body; jstr *loop, *caller, *varargs, *kwargs; };

/* Refuse with "NAME:LINE: sentence". Gives undefined, so that helpers can return it. */
jv lmj_fail(lmj *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
jv lmj_limit(lmj *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void *lmj_alloc(lmj *j, size_t n);                                   /* zeroed; NULL and an error at the limit */
bool lmj_step(lmj *j, int64_t n);                                    /* false: stop */
bool lmj_enter(lmj *j);                                              /* one deeper; lmj_leave takes it back, also after an error */
static inline void lmj_leave(lmj *j) { j->depth--; }

/* ---- parsing (jinja_lex.c, jinja_parse.c) ---- */
typedef enum { TK_DATA, TK_VAR_BEGIN, TK_VAR_END, TK_BLOCK_BEGIN, TK_BLOCK_END, TK_NAME, TK_STR, TK_INT, TK_FLOAT, TK_OP, TK_EOF } jtok_kind;
typedef struct { jtok_kind k; int line; jstr *s; int64_t i; double f; char op[3]; } jtoken;
jtoken *lmj_lex(lmj *j, const char *src, size_t n, int *n_tok);
void lmj_parse(lmj *j, lm_jinja *t, const jtoken *tok, int n_tok);

/* ---- strings and buffers (jinja_str.c) ---- */
jv lmj_str_of(lmj *j, const char *p, size_t n, bool marked);         /* copies */
jv lmj_lit(lmj *j, const char *text);                                /* unmarked */
jstr *lmj_sub(lmj *j, const jstr *s, size_t from, size_t to);        /* bytes; shares */
int64_t lmj_chars(jstr *s);
size_t lmj_byte_at(jstr *s, int64_t chars);                          /* byte offset of a code point, 0 <= chars <= length */
static inline jv jv_s(jstr *s) { return (jv){ .t = JV_STR, .s = s }; }
void lmj_put(jbuf *b, const char *p, size_t n, bool marked);
void lmj_puts(jbuf *b, const char *text);
void lmj_put_sub(jbuf *b, const jstr *s, size_t from, size_t to);
void lmj_put_char(jbuf *b, uint32_t c, bool marked);
static inline void lmj_put_str(jbuf *b, const jstr *s) { lmj_put_sub(b, s, 0, s->n); }
jv lmj_done(jbuf *b);                                                /* the string so far */
static inline bool lmj_mark_at(const jstr *s, size_t i) { return s->mark ? s->mark[i] : s->marked; }
static inline bool lmj_is(const jstr *s, const char *text) { return s->n == strlen(text) && !memcmp(s->p, text, s->n); }
bool lmj_space(uint32_t c);                                          /* as Python's str.isspace */
bool lmj_alpha(uint32_t c); bool lmj_digit(uint32_t c); bool lmj_numeric(uint32_t c); bool lmj_printable(uint32_t c);
int lmj_upper(uint32_t c, uint32_t out[3]); int lmj_lower(uint32_t c, uint32_t out[3]); int lmj_title(uint32_t c, uint32_t out[3]);
int lmj_fold(uint32_t c, uint32_t out[9]);
bool lmj_is_upper(uint32_t c); bool lmj_is_lower(uint32_t c);
bool lmj_cased_all(const jstr *s, bool upper);                       /* isupper, islower */
jstr *lmj_case(lmj *j, jstr *s, int how);                            /* 'u'pper, 'l'ower, 'c'apitalize, 't'itle, 's'wap */
jstr *lmj_strip(lmj *j, jstr *s, jv chars, int sides);               /* 1 left, 2 right */
int64_t lmj_find(lmj *j, const jstr *s, const jstr *sub, size_t from);                        /* byte offset or -1 */
jv lmj_replace(lmj *j, jstr *s, jstr *old, jstr *new, int64_t count);
jv lmj_splitlines(lmj *j, jstr *s, bool keep);
jv lmj_split(lmj *j, jstr *s, jv sep, int64_t max, bool right);

/* ---- values (jinja_value.c) ---- */
static inline jv jv_i(int64_t i) { return (jv){ .t = JV_INT, .i = i }; }
static inline jv jv_b(bool b) { return (jv){ .t = JV_BOOL, .b = b }; }
static inline jv jv_f(double f) { return (jv){ .t = JV_FLOAT, .f = f }; }
static inline jv jv_none(void) { return (jv){ .t = JV_NONE }; }
jv lmj_undef(lmj *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));             /* with the sentence for its use */
static inline bool jv_is_int(jv v) { return v.t == JV_INT || v.t == JV_BOOL; }
static inline int64_t jv_int(jv v) { return v.t == JV_BOOL ? v.b : v.i; }
static inline bool jv_is_num(jv v) { return jv_is_int(v) || v.t == JV_FLOAT; }
static inline double jv_num(jv v) { return v.t == JV_FLOAT ? v.f : (double)jv_int(v); }
const char *lmj_kind(jv v);                                          /* Python's name of the type */
bool lmj_used(lmj *j, jv v);                                         /* false and an error if it is undefined */
bool lmj_true(lmj *j, jv v);
bool lmj_eq(lmj *j, jv a, jv b);
bool lmj_less(lmj *j, jv a, jv b, jop op);
bool lmj_in(lmj *j, jv item, jv of);
int64_t lmj_len(lmj *j, jv v);                                       /* -1: has none (no error) */
jv lmj_list(lmj *j, int64_t cap);
void lmj_push(lmj *j, jlist *l, jv v);
jv lmj_dict(lmj *j);
void lmj_set(lmj *j, jdict *d, jv key, jv val);
jv *lmj_get(lmj *j, const jdict *d, jv key);                         /* NULL if it is not there */
jv *lmj_gets(lmj *j, const jdict *d, const char *key);
bool lmj_iter(lmj *j, jv v, jiter *it);                              /* false and an error if it cannot be iterated */
bool lmj_next(lmj *j, jiter *it, jv *out);
jlist *lmj_items(lmj *j, jv v);                                      /* all of an iterable; NULL on error */
jv lmj_gen(lmj *j, jlist *l);                                        /* an iterator that is used up, as Python's generators */
jv lmj_index(lmj *j, jv v, jv key);                                  /* v[key] as the sandbox does it */
jv lmj_attr(lmj *j, jv v, jstr *name);                               /* v.name */
jv lmj_binary(lmj *j, jop op, jv a, jv b);
jv lmj_sorted(lmj *j, jlist *keys, jlist *vals, bool reverse);       /* stable */
jv lmj_from_json(lmj *j, const json_t *v, bool marked);
double lmj_round(double x, int64_t digits);

/* ---- text of values (jinja_text.c) ---- */
jstr *lmj_text(lmj *j, jv v);                                        /* str(v) */
void lmj_repr(jbuf *b, jv v);
void lmj_json(jbuf *b, jv v, bool ascii, const jstr *indent, const jstr *comma, const jstr *colon, bool sort, int level);
void lmj_float(char out[40], double x);
jv lmj_percent(lmj *j, jstr *fmt, jv arg);
jv lmj_format(lmj *j, jstr *fmt, const jargs *a);
jv lmj_escape(lmj *j, jv v);
jv lmj_strftime(lmj *j, jstr *fmt);

/* ---- evaluation (jinja_eval.c) ---- */
jv lmj_eval(lmj *j, const jnode *n, jscope *s);
bool lmj_filtered(lmj *j, jiter *it, jv *out);                       /* the next item that passes the loop's filter */
jv lmj_call(lmj *j, jv fn, const jargs *a);
jv lmj_loop_attr(lmj *j, jloop *l, jstr *name);
jv lmj_loop_call(lmj *j, jloop *l, const char *what, const jargs *a);
/* Arguments by position and name: spec is "a b c", a name ending in ! is required. Absent ones are JV_MISSING. */
bool lmj_bind(lmj *j, const char *what, const jargs *a, const char *spec, jv *out);
int64_t lmj_arg_int(lmj *j, const char *what, jv v, int64_t def);
const jfilter *lmj_filter(const jstr *name); const jtest *lmj_test(const jstr *name); const jfunc *lmj_func(const jstr *name);
const jmethod_row *lmj_method(jv v, const jstr *name, bool *unsafe);
#endif
