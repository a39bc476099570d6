/* regex.c — compile and match; the rewriting is in regex_translate.c. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tok/regex.h"
#include <pcre2.h>

enum { MATCH_LIMIT = 1000000, HEAP_LIMIT_KIB = 64 << 10, JIT_STACK_MAX = 1 << 20 };

struct lm_regex { lm_ctx *ctx; pcre2_general_context *general; pcre2_code *code; };
struct lm_regex_state { lm_ctx *ctx; pcre2_general_context *general; pcre2_match_data *data; pcre2_match_context *match; pcre2_jit_stack *stack; };

static void *get(size_t n, void *ud) { return lm_alloc(ud, LM_MEM_TOK, n); }
static void put(void *p, void *ud) { lm_free(ud, p); }

lm_err lm_regex_new(lm_ctx *ctx, const char *pattern, size_t n, lm_regex **out) {
    lm_str s = { .ctx = ctx };
    lm_err err = lm_regex_translate(ctx, pattern, n, &s);
    lm_regex *re = NULL;
    pcre2_compile_context *cc = NULL;
    if (err) goto done;
    re = lm_calloc(ctx, LM_MEM_TOK, 1, sizeof *re);
    if (!re) { err = LM_E_NOMEM; goto done; }
    re->ctx = ctx;
    re->general = pcre2_general_context_create(get, put, ctx);
    cc = re->general ? pcre2_compile_context_create(re->general) : NULL;
    if (!cc) { err = LM_E_NOMEM; goto done; }
    pcre2_set_newline(cc, PCRE2_NEWLINE_LF);
    int code;
    PCRE2_SIZE at;
    re->code = pcre2_compile((PCRE2_SPTR)s.p, s.n, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &at, cc);
    if (!re->code) {
        char why[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        err = lm_fail(ctx, code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED ? LM_E_NOMEM : LM_E_FORMAT,
                      "regular expression \"%.*s\": %s", (int)lm_min64((int64_t)n, 200), pattern, why);
        goto done;
    }
    (void)pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE);       /* where it fails, the interpreter gives the same matches */
    *out = re;
    re = NULL;
done:
    if (cc) pcre2_compile_context_free(cc);
    lm_regex_free(re);
    lm_str_free(&s);
    return err;
}

void lm_regex_free(lm_regex *re) {
    if (!re) return;
    if (re->code) pcre2_code_free(re->code);
    if (re->general) pcre2_general_context_free(re->general);
    lm_free(re->ctx, re);
}

lm_err lm_regex_state_new(lm_ctx *ctx, lm_regex_state **out) {
    lm_regex_state *st = lm_calloc(ctx, LM_MEM_TOK, 1, sizeof *st);
    if (!st) return LM_E_NOMEM;
    st->ctx = ctx;
    st->general = pcre2_general_context_create(get, put, ctx);
    st->data = st->general ? pcre2_match_data_create(1, st->general) : NULL;
    st->match = st->data ? pcre2_match_context_create(st->general) : NULL;
    if (!st->match) { lm_regex_state_free(st); return LM_E_NOMEM; }
    pcre2_set_match_limit(st->match, MATCH_LIMIT);
    pcre2_set_heap_limit(st->match, HEAP_LIMIT_KIB);
    st->stack = pcre2_jit_stack_create(32 << 10, JIT_STACK_MAX, st->general);    /* NULL: JIT is not there, or its own 32 KiB are used */
    if (st->stack) pcre2_jit_stack_assign(st->match, NULL, st->stack);
    *out = st;
    return LM_OK;
}

void lm_regex_state_free(lm_regex_state *st) {
    if (!st) return;
    if (st->stack) pcre2_jit_stack_free(st->stack);
    if (st->match) pcre2_match_context_free(st->match);
    if (st->data) pcre2_match_data_free(st->data);
    if (st->general) pcre2_general_context_free(st->general);
    lm_free(st->ctx, st);
}

lm_err lm_regex_next(const lm_regex *re, lm_regex_state *st, lm_ctx *ctx, const uint8_t *text, size_t n, size_t *from, size_t *s, size_t *e,
                     bool *found) {
    if (*from > n) { *found = false; return LM_OK; }
    int rc = pcre2_match(re->code, text, n, *from, PCRE2_NO_UTF_CHECK, st->data, st->match);
    if (rc == PCRE2_ERROR_NOMATCH) { *found = false; return LM_OK; }
    if (rc < 0) {
        char why[128];
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
        return lm_fail(ctx, rc == PCRE2_ERROR_NOMEMORY ? LM_E_NOMEM : LM_E_DATA,
                       "the tokenizer's regular expression gave up on this text at byte %zu: %s", *from, why);
    }
    const PCRE2_SIZE *o = pcre2_get_ovector_pointer(st->data);
    *s = o[0];
    *e = o[1] < o[0] ? o[0] : o[1];                              /* \K in a lookahead can turn them round */
    *found = true;
    *from = *e;
    if (*e == *s) {
        do ++*from; while (*from < n && (text[*from] & 0xc0) == 0x80);
    }
    return LM_OK;
}
