/* jinja.h — chat templates: the Jinja language as Hugging Face's libraries run it, in C, for templates nobody should trust.
 *
 * A chat template is a program that comes with the weights. It is compiled to a tree once and walked for each conversation. The language is
 * jinja2's in an immutable sandbox with trim_blocks, lstrip_blocks, loop controls and {% generation %}, its tojson, raise_exception and
 * strftime_now: expressions, filters, tests, for (else, filters, recursion, loop.*), set and namespaces, macros and call blocks, white space
 * control, Python's methods of strings and dicts, slices, % and str.format. The same bytes come out as of Python (tests/test_jinja.c), or it
 * refuses with a sentence. What is not here is refused too: includes, imports and inheritance, |random, |urlize, |wordwrap, |pprint, autoescape, and integers
 * beyond 64 bits. There is no way to the host: values are only what JSON can say, plus what the language makes of them.
 * A template may be hostile. Steps, nesting, memory and output are bounded; what would pass a bound is an error naming it, never a hang.
 *
 * Marks: each byte of the result knows whether it came from a string of the conversation or from the template. A control token in the text
 * of a user is then text (chat/format.h), however the template cut, joined or replaced it.
 *
 * Lifetime: a compiled template belongs to the caller and is immutable.
 * Threads:  any number may render one template, each with its own context.
 * Errors:   LM_E_FORMAT: not a template ("NAME:LINE: …"); LM_E_DATA: what Python would raise, raise_exception's sentence among it;
 *           LM_E_RANGE: a limit; LM_E_UNSUPPORTED: a part of Jinja that is not here. */
#ifndef LM_CHAT_JINJA_H
#define LM_CHAT_JINJA_H
#include "format/json.h"
typedef struct lm_jinja lm_jinja;
enum { LM_JINJA_MAX_TEMPLATE = 4 << 20 };
lm_err lm_jinja_compile(lm_jinja **out, lm_ctx *ctx, const char *name, const char *text, size_t n);
void lm_jinja_free(lm_jinja *t);                                     /* NULL is fine */
const char *lm_jinja_source(const lm_jinja *t, size_t *n);

typedef struct {
    int64_t steps;               /* operations, and bytes that string operations look at / 64; 0 = 10 million, about a second */
    int64_t depth;               /* calls, blocks and values inside each other; 0 = 400 */
    size_t memory, output;       /* bytes; 0 = 256 MiB and 64 MiB */
    const double *now;           /* Unix seconds for strftime_now; NULL = the clock */
} lm_jinja_opts;
typedef struct { size_t start, end; } lm_jinja_span;
typedef struct {
    lm_str text;
    lm_str marks;                /* one byte for each of text: 1 = from the conversation, 0 = the template's own */
    lm_jinja_span *span; size_t n_span;                              /* {% generation %} blocks, in bytes of text */
} lm_jinja_result;
/* vars: a JSON object with what the template sees (messages, tools, add_generation_prompt, bos_token …). A string is the conversation's unless
 * trusted() says otherwise of the place it stands in: it is asked for each member of vars and of each object in the list "messages". NULL:
 * all are. opts may be NULL. On error nothing is given. */
typedef bool lm_jinja_trust(void *ud, const char *var, const json_t *message, const char *key);
lm_err lm_jinja_render(const lm_jinja *t, lm_ctx *ctx, const json_t *vars, lm_jinja_trust *trusted, void *ud, const lm_jinja_opts *opts,
                       lm_jinja_result *out);
void lm_jinja_result_free(lm_ctx *ctx, lm_jinja_result *r);
#endif
