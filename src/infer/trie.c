/* trie.c — a tokenizer's vocabulary as grammars want it. */
#include "infer/generate.h"

lm_err lm_tok_trie(lm_trie **out, lm_ctx *ctx, const lm_tok *tok, int64_t vocab, const int32_t *more_eos, int n_more) {
    int n;
    const int32_t *of_tok = lm_tok_eos(tok, &n);
    lm_piece *piece = lm_calloc(ctx, LM_MEM_MISC, (size_t)vocab, sizeof *piece);
    int32_t *eos = lm_alloc(ctx, LM_MEM_MISC, (size_t)(n + n_more + 1) * sizeof *eos);
    lm_err err = piece && eos ? LM_OK : LM_E_NOMEM;
    for (int32_t i = 0; !err && i < vocab && i < lm_tok_vocab(tok); i++) {           /* embeddings are padded: such rows write nothing */
        const lm_tok_type t = lm_tok_type_of(tok, i);
        if (t == LM_TOK_NORMAL || t == LM_TOK_ADDED || t == LM_TOK_BYTE) piece[i].p = lm_tok_piece(tok, i, &piece[i].n);
    }
    int m = 0;
    for (int i = 0; !err && i < n + n_more; i++) {
        const int32_t id = i < n ? of_tok[i] : more_eos[i - n];
        bool is_new = id >= 0 && id < vocab;
        for (int k = 0; k < m; k++) is_new &= eos[k] != id;
        if (is_new) eos[m++] = id;
    }
    if (!err) err = lm_trie_new(out, ctx, piece, vocab, eos, m);
    lm_free(ctx, piece); lm_free(ctx, eos);
    return err;
}
lm_err lm_generate_trie(lm_trie **out, const lm_engine *e, const lm_tok *tok) {
    const lm_cfg *cfg = lm_engine_cfg(e);
    return lm_tok_trie(out, lm_engine_ctx(e), tok, cfg->vocab, cfg->eos, cfg->n_eos);
}
