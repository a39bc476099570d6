/* llama2c.c — see llama2c.h. */
#include "format/llama2c.h"
#include "format/cursor.h"
#include <math.h>

enum { MAX_DIM = 1 << 20, MAX_LAYERS = 1 << 12, MAX_VOCAB = 1 << 24, MAX_SEQ = 1 << 26 };      /* products of three stay below 2^63 */

static lm_err check(lm_ctx *ctx, const char *name, const char *field, int v, int max) {
    return v < 1 || v > max ? lm_fail(ctx, LM_E_FORMAT, "%s: %s is %d, wanted 1..%d", name, field, v, max) : LM_OK;
}
static lm_err read_head(lm_ctx *ctx, const char *name, lm_cursor *c, lm_l2c *m) {
    uint32_t magic = 0; int32_t version = 0, h[7]; lm_cursor peek = *c; uint8_t shared = 0;
    if (lm_take_u32(&peek, &magic) && magic == 0x616b3432u) {
        if (!lm_take_i32(&peek, &version)) return lm_fail(ctx, LM_E_FORMAT, "%s: the file ends in its header", name);
        if (version != 1) return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: version %d; the legacy format and version 1 are read", name, version);
        *c = peek;
    }
    m->version = version;
    if (!lm_take_copy(c, h, sizeof h) || (version && !lm_take_u8(c, &shared)))
        return lm_fail(ctx, LM_E_FORMAT, "%s: the file ends in its header", name);
    if (version && shared > 1) return lm_fail(ctx, LM_E_FORMAT, "%s: the shared-classifier flag is %d, wanted 0 or 1", name, shared);
    m->dim = h[0]; m->hidden = h[1]; m->n_layer = h[2]; m->n_head = h[3]; m->n_kv_head = h[4]; m->seq_len = h[6];
    m->tied = version ? shared : h[5] > 0;
    m->vocab = !version && h[5] < 0 && h[5] != INT32_MIN ? -h[5] : h[5];
    LM_TRY(check(ctx, name, "dim", m->dim, MAX_DIM));
    LM_TRY(check(ctx, name, "hidden_dim", m->hidden, MAX_DIM));
    LM_TRY(check(ctx, name, "n_layers", m->n_layer, MAX_LAYERS));
    LM_TRY(check(ctx, name, "n_heads", m->n_head, m->dim));
    LM_TRY(check(ctx, name, "n_kv_heads", m->n_kv_head, m->n_head));
    LM_TRY(check(ctx, name, "vocab_size", m->vocab, MAX_VOCAB));
    LM_TRY(check(ctx, name, "max_seq_len", m->seq_len, MAX_SEQ));
    if (m->dim % m->n_head || m->n_head % m->n_kv_head || m->dim / m->n_head % 2)
        return lm_fail(ctx, LM_E_FORMAT, "%s: dim %d, n_heads %d and n_kv_heads %d do not divide into even heads", name, m->dim, m->n_head,
                       m->n_kv_head);
    const uint8_t *skip;
    if (version && !lm_take(c, 256 - lm_cursor_at(c), &skip)) return lm_fail(ctx, LM_E_FORMAT, "%s: the file ends in its header", name);
    return LM_OK;
}
lm_err lm_l2c_parse(lm_ctx *ctx, const char *name, const void *p, size_t n, lm_l2c *out) {
    lm_cursor c = lm_cursor_of(p, n); lm_l2c m = { .base = c.base };
    LM_TRY(read_head(ctx, name, &c, &m));
    int64_t L = m.n_layer, d = m.dim, f = m.hidden, V = m.vocab, hd = d / m.n_head, kv = hd * m.n_kv_head;
    const lm_l2c_part shape[LM_N_L2C] = {
        [LM_L2C_TOK_EMB] = { "tok_embeddings", false, 2, { V, d }, 0, 0 },
        [LM_L2C_ATTN_NORM] = { "attention_norm", true, 2, { L, d }, 0, 0 },
        [LM_L2C_WQ] = { "attention.wq", true, 3, { L, d, d }, 0, 0 },
        [LM_L2C_WK] = { "attention.wk", true, 3, { L, kv, d }, 0, 0 },
        [LM_L2C_WV] = { "attention.wv", true, 3, { L, kv, d }, 0, 0 },
        [LM_L2C_WO] = { "attention.wo", true, 3, { L, d, d }, 0, 0 },
        [LM_L2C_FFN_NORM] = { "ffn_norm", true, 2, { L, d }, 0, 0 },
        [LM_L2C_W1] = { "feed_forward.w1", true, 3, { L, f, d }, 0, 0 },
        [LM_L2C_W2] = { "feed_forward.w2", true, 3, { L, d, f }, 0, 0 },
        [LM_L2C_W3] = { "feed_forward.w3", true, 3, { L, f, d }, 0, 0 },
        [LM_L2C_NORM] = { "norm", false, 1, { d }, 0, 0 },
        [LM_L2C_OUTPUT] = { "output", false, 2, { V, d }, 0, 0 },
    };
    enum { ROPE = LM_N_L2C };           /* the legacy format stores cos and sin tables before the output matrix */
    static const uint8_t legacy[] = { LM_L2C_TOK_EMB, LM_L2C_ATTN_NORM, LM_L2C_WQ, LM_L2C_WK,   LM_L2C_WV, LM_L2C_WO,    LM_L2C_FFN_NORM,
                                      LM_L2C_W1,      LM_L2C_W2,        LM_L2C_W3, LM_L2C_NORM, ROPE,      LM_L2C_OUTPUT };
    static const uint8_t v1[] = { LM_L2C_ATTN_NORM, LM_L2C_FFN_NORM, LM_L2C_NORM, LM_L2C_TOK_EMB, LM_L2C_WQ, LM_L2C_WK,
                                  LM_L2C_WV,        LM_L2C_WO,       LM_L2C_W1,   LM_L2C_W2,      LM_L2C_W3, LM_L2C_OUTPUT };
    const uint8_t *order = m.version ? v1 : legacy; int n_order = m.version ? LM_COUNT(v1) : LM_COUNT(legacy);
    for (int i = 0; i < n_order; i++) {
        int k = order[i]; int64_t count = 1; const uint8_t *skip; const char *what = k == ROPE ? "the RoPE tables" : shape[k].name;
        if (k == LM_L2C_OUTPUT && m.tied) { m.part[k] = (lm_l2c_part){ .name = what }; continue; }
        if (k == ROPE) count = (int64_t)m.seq_len * hd;
        else for (int r = 0; r < shape[k].rank; r++) count *= shape[k].dim[r];
        size_t bytes = (size_t)count * 4, at = lm_cursor_at(&c);
        if (!lm_take(&c, bytes, &skip)) return lm_fail(ctx, LM_E_FORMAT, "%s: the file ends inside %s", name, what);
        if (k == ROPE) continue;
        m.part[k] = shape[k]; m.part[k].offset = at; m.part[k].bytes = bytes;
    }
    if (lm_cursor_left(&c)) return lm_fail(ctx, LM_E_FORMAT, "%s: %zu bytes after the last weight", name, lm_cursor_left(&c));
    *out = m;
    return LM_OK;
}

lm_err lm_l2c_tok_parse(lm_ctx *ctx, const char *name, const void *p, size_t n, int vocab, lm_l2c_tok *out) {
    lm_cursor c = lm_cursor_of(p, n); int32_t longest, len; const uint8_t *s; lm_l2c_tok t = { 0 };
    if (!lm_take_i32(&c, &longest)) return lm_fail(ctx, LM_E_FORMAT, "%s: the file is empty", name);
    if (longest < 1 || longest > 1 << 20) return lm_fail(ctx, LM_E_FORMAT, "%s: the longest piece is said to have %d bytes", name, longest);
    t.longest = longest;
    for (lm_cursor k = c; lm_cursor_left(&k); t.n++) {                 /* count first: one allocation, bounded by the file */
        float score;
        if (!lm_take_f32(&k, &score) || !lm_take_i32(&k, &len)) return lm_fail(ctx, LM_E_FORMAT, "%s: the file ends inside token %d", name, t.n);
        if (len < 0 || len > longest) return lm_fail(ctx, LM_E_FORMAT, "%s: token %d has %d bytes, wanted 0..%d", name, t.n, len, longest);
        if (isnan(score)) return lm_fail(ctx, LM_E_FORMAT, "%s: the score of token %d is not a number", name, t.n);
        if (!lm_take(&k, (uint64_t)len, &s)) return lm_fail(ctx, LM_E_FORMAT, "%s: the file ends inside token %d", name, t.n);
        if (t.n == MAX_VOCAB) return lm_fail(ctx, LM_E_RANGE, "%s: more than %d tokens", name, (int)MAX_VOCAB);
    }
    if (!t.n || (vocab > 0 && t.n != vocab)) return lm_fail(ctx, LM_E_MISMATCH, "%s: %d tokens, wanted %d", name, t.n, vocab > 0 ? vocab : 1);
    if (!(t.v = lm_calloc(ctx, LM_MEM_TOK, (size_t)t.n, sizeof *t.v))) return lm_fail(ctx, LM_E_NOMEM, "%s: out of memory for %d tokens", name, t.n);
    for (int i = 0; i < t.n; i++) {
        lm_l2c_piece *v = &t.v[i];
        if (!lm_take_f32(&c, &v->score) || !lm_take_i32(&c, &len) || !lm_take(&c, (uint64_t)len, &s)) {
            lm_free(ctx, t.v);
            return lm_fail(ctx, LM_E_INTERNAL, "%s: the file changed while it was read", name);
        }
        v->n = len; v->s = (const char *)s;
    }
    *out = t;
    return LM_OK;
}
void lm_l2c_tok_free(lm_ctx *ctx, lm_l2c_tok *t) { lm_free(ctx, t->v); *t = (lm_l2c_tok){ 0 }; }
