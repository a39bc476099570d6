/* grammar.c — the table of notations; from a text to an automaton. */
#include <string.h>
#include "grammar/grammar_int.h"
#define GRAMMAR(n) extern const lm_grammar_row lm_grammar_##n;
#include "grammar_list.inc"
#undef GRAMMAR
const lm_grammar_row *const lm_grammar_rows[] = {
#define GRAMMAR(n) &lm_grammar_##n,
#include "grammar_list.inc"
#undef GRAMMAR
    NULL };

lm_err lm_grammar_new(lm_grammar **out, lm_ctx *ctx, const char *kind, const char *name, const char *text, size_t n) {
    const lm_grammar_row *row = NULL;
    for (int i = 0; lm_grammar_rows[i]; i++) if (!strcmp(lm_grammar_rows[i]->name, kind)) row = lm_grammar_rows[i];
    if (!row) return lm_fail(ctx, LM_E_CONFIG, "no notation of grammars is called \"%s\"", kind);
    if (n > LM_GRAMMAR_BYTES) return lm_fail(ctx, LM_E_RANGE, "%s: %zu bytes, a grammar may have %d", name, n, LM_GRAMMAR_BYTES);
    lm_grammar *g = lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *g);
    if (!g) return LM_E_NOMEM;
    g->ctx = ctx;
    lm_ast a = { .ctx = ctx, .file = name, .root = -1 };
    lm_err err = row->parse(&a, text, n);
    if (!err) err = a.err;
    if (!err) err = lm_grammar_compile(g, &a);
    lm_ast_free(&a);
    if (err) { lm_grammar_free(g); return err; }
    *out = g;
    return LM_OK;
}
void lm_grammar_free(lm_grammar *g) {
    if (!g) return;
    lm_free(g->ctx, g->state); lm_free(g->ctx, g->edge); lm_free(g->ctx, g->call); lm_free(g->ctx, g->start); lm_free(g->ctx, g->rank);
    lm_free(g->ctx, g);
}
lm_grammar_size lm_grammar_size_of(const lm_grammar *g) {
    lm_grammar_size s = { .states = g->n_state, .edges = g->n_edge + g->n_call };
    for (int32_t r = 0; r < g->n_rule; r++) s.rules += g->start[r] >= 0;
    return s;
}
