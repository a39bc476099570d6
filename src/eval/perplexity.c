/* perplexity.c — see perplexity.h.
 *
 *   window k   [bos] |  seen before: context, run without logits  | new: scored | */
#include "eval/perplexity.h"
#include "data/docs.h"
#include <math.h>
#include <string.h>

typedef struct {
    lm_ctx *ctx; lm_engine *e; const lm_perplexity_opts *o;
    const lm_tok *tok;                    /* NULL: bytes are not counted */
    lm_session *s, *sr;                   /* sr: the reference's */
    float *rows;                          /* (ROWS, vocab) logits of the reference */
    float *lp; int32_t *ids;              /* (window) */
    int32_t bos;                          /* -1: none */
    int64_t room;                         /* ids of a window beside BOS */
    int64_t total, done;                  /* tokens that will be, that are scored */
    double t0;
    lm_perplexity r;
} job;

enum { ROWS = 16 };
static lm_err begin(job *j, lm_ctx *ctx, lm_engine *e, int32_t bos, const lm_perplexity_opts *o) {
    static const lm_perplexity_opts none;
    *j = (job){ .ctx = ctx, .e = e, .o = o ? o : &none, .bos = -1 };
    int64_t context = lm_engine_context(e), window = j->o->window ? j->o->window : context;
    if (j->o->add_bos) {
        if (bos < 0) return lm_fail(ctx, LM_E_CONFIG, "add_bos is set, but the tokenizer has no BOS token");
        j->bos = bos;
    }
    j->room = window - j->o->add_bos;
    if (window > context)
        return lm_fail(ctx, LM_E_CONFIG, "window is %lld tokens, the engine's context holds %lld", (long long)window, (long long)context);
    if (window < 2) return lm_fail(ctx, LM_E_CONFIG, "window is %lld tokens; wanted at least 2", (long long)window);
    int64_t stride = j->o->stride ? j->o->stride : lm_max64(1, j->room / 2);
    if (stride < 1 || stride > j->room)
        return lm_fail(ctx, LM_E_CONFIG, "stride is %lld; wanted 1 to %lld, the tokens of a window%s", (long long)stride,
                       (long long)j->room, j->o->add_bos ? " beside BOS" : "");
    j->r.window = window;
    j->r.stride = stride;
    j->lp = lm_alloc(ctx, LM_MEM_SCRATCH, (size_t)(window + 1) * sizeof *j->lp);
    j->ids = j->lp ? lm_alloc(ctx, LM_MEM_SCRATCH, (size_t)(window + 1) * sizeof *j->ids) : NULL;
    if (!j->ids) return LM_E_NOMEM;
    if (j->o->against) {
        const int64_t V = lm_engine_cfg(e)->vocab;
        if (lm_engine_cfg(j->o->against)->vocab != V)
            return lm_fail(ctx, LM_E_MISMATCH, "the reference has a vocabulary of %lld, the model of %lld", (long long)lm_engine_cfg(j->o->against)->vocab, (long long)V);
        if (lm_engine_context(j->o->against) < window)
            return lm_fail(ctx, LM_E_CONFIG, "window is %lld tokens, the reference's context holds %lld", (long long)window, (long long)lm_engine_context(j->o->against));
        if (!(j->rows = lm_alloc(ctx, LM_MEM_SCRATCH, (size_t)(ROWS * V) * sizeof *j->rows))) return LM_E_NOMEM;
        LM_TRY(lm_session_new(&j->sr, j->o->against));
    }
    return lm_session_new(&j->s, e);
}
static void end(job *j) {
    lm_session_free(j->s); lm_session_free(j->sr);
    lm_free(j->ctx, j->rows);
    lm_free(j->ctx, j->ids);
    lm_free(j->ctx, j->lp);
}
/* Windows of a document of n ids: called for each, and to count beforehand. First token scored, one past the last. */
static bool next_window(const job *j, int64_t n, int64_t *from, int64_t *scored, int64_t *a, int64_t *b) {
    if (*scored >= n) return false;
    *b = lm_min64(*from + j->room, n);
    *a = *scored;
    if (j->bos < 0 && *a == *from) ++*a;                 /* nothing before it */
    *scored = *b;
    *from += j->r.stride;
    return true;
}
static int64_t count(const job *j, int64_t n) {
    int64_t from = 0, scored = 0, a, b, all = 0;
    while (next_window(j, n, &from, &scored, &a, &b)) all += b > a ? b - a : 0;
    return all;
}
/* ids[0, n) follow what both sessions hold; each but the last predicts its next. A few rows at a time: the reference's are kept meanwhile. */
typedef struct { job *j; const int32_t *next; int64_t vocab; } place;
static lm_err keep(void *ud, int r, int64_t i, const float *logits) {
    place *p = ud; (void)r;
    memcpy(p->j->rows + i * p->vocab, logits, (size_t)p->vocab * sizeof *logits);
    return LM_OK;
}
static lm_err compare(void *ud, int r, int64_t i, const float *logits) {
    place *p = ud; (void)r;
    return lm_divergence_add(p->j->o->divergence, p->j->rows + i * p->vocab, logits, p->vocab, p->next[i]);
}
static lm_err score_both(job *j, const int32_t *ids, int64_t n) {
    const double before = j->o->divergence->nll;
    for (int64_t at = 0; at + 1 < n; at += ROWS) {
        const int64_t k = lm_min64(ROWS, n - 1 - at);
        place p = { j, ids + at + 1, lm_engine_cfg(j->e)->vocab };
        LM_TRY(lm_engine_run(j->o->against, &(lm_request){ .s = j->sr, .ids = ids + at, .n = k, .want = LM_WANT_ALL }, 1, keep, &p));
        LM_TRY(lm_engine_run(j->e, &(lm_request){ .s = j->s, .ids = ids + at, .n = k, .want = LM_WANT_ALL }, 1, compare, &p));
    }
    j->r.nll += j->o->divergence->nll - before;
    return LM_OK;
}
static lm_err window(job *j, const int32_t *ids, int64_t from, int64_t a, int64_t b) {
    int64_t k = 0, known = a - from + (j->bos >= 0);     /* context; its last token predicts ids[a] */
    if (j->bos >= 0) j->ids[k++] = j->bos;
    memcpy(j->ids + k, ids + from, (size_t)(b - from) * sizeof *ids);
    k += b - from;
    LM_TRY(lm_session_truncate(j->s, 0));
    if (known > 1) LM_TRY(lm_engine_run(j->e, &(lm_request){ .s = j->s, .ids = j->ids, .n = known - 1 }, 1, NULL, NULL));
    if (j->sr) {
        LM_TRY(lm_session_truncate(j->sr, 0));
        if (known > 1) LM_TRY(lm_engine_run(j->o->against, &(lm_request){ .s = j->sr, .ids = j->ids, .n = known - 1 }, 1, NULL, NULL));
        LM_TRY(score_both(j, j->ids + known - 1, k - known + 1));
    } else LM_TRY(lm_engine_score(j->e, j->s, j->ids + known - 1, k - known + 1, j->lp));
    for (int64_t i = 1; i < k - known + 1 && !j->sr; i++) {        /* lp[0] is of a token that was scored before, or of BOS */
        if (!isfinite(j->lp[i]))
            return lm_fail(j->ctx, LM_E_DATA, "the model gives token %lld (id %d) the log-probability %g", (long long)(a + i - 1),
                           j->ids[known - 1 + i], (double)j->lp[i]);
        j->r.nll -= (double)j->lp[i];
    }
    j->done += b - a;
    double dt = lm_now() - j->t0;
    if (j->o->progress && !j->o->progress(j->o->ud, j->done, j->total, dt > 0 ? (double)j->done / dt : 0, j->r.nll))
        return lm_fail(j->ctx, LM_E_CANCELLED, "stopped after %lld of %lld tokens", (long long)j->done, (long long)j->total);
    return LM_OK;
}
static lm_err document(job *j, const int32_t *ids, int64_t n, int64_t bytes) {
    int64_t from = 0, scored = 0, a, b, last = 0;
    for (int64_t w = 0; next_window(j, n, &from, &scored, &a, &b); last = scored, w += j->r.stride) {
        if (j->tok) for (int64_t i = last; i < a; i++) { size_t k = 0; if (lm_tok_piece(j->tok, ids[i], &k)) bytes -= (int64_t)k; }
        if (b > a) LM_TRY(window(j, ids, w, a, b));
    }
    j->r.bytes += lm_max64(bytes, 0);
    j->r.docs++;
    return LM_OK;
}
static lm_err finish(job *j, lm_perplexity *out) {
    lm_perplexity r = j->r;
    r.tokens = j->done;
    r.ppl = exp(r.nll / (double)r.tokens);
    r.bits_per_byte = r.bytes ? r.nll / (0.69314718055994530942 * (double)r.bytes) : 0;
    r.seconds = lm_now() - j->t0;
    *out = r;
    return LM_OK;
}
/* Documents that lie one after another in ids: document i is start[i] .. start[i+1]. */
static lm_err run(job *j, const int32_t *ids, const size_t *start, const int64_t *bytes, int n, const char *name) {
    for (int i = 0; i < n; i++) j->total += count(j, (int64_t)(start[i + 1] - start[i]));
    if (!j->total)
        return lm_fail(j->ctx, LM_E_DATA, "%s: no token to score: a text needs at least %s", name, j->bos < 0 ? "two tokens" : "one token");
    j->t0 = lm_now();
    for (int i = 0; i < n; i++) LM_TRY(document(j, ids + start[i], (int64_t)(start[i + 1] - start[i]), bytes ? bytes[i] : 0));
    return LM_OK;
}

lm_err lm_eval_perplexity_ids(lm_ctx *ctx, lm_engine *e, const int32_t *ids, int64_t n, int32_t bos, const lm_perplexity_opts *o,
                              lm_perplexity *out) {
    job j;
    size_t start[2] = { 0, n < 0 ? 0 : (size_t)n };
    lm_err err = begin(&j, ctx, e, bos, o);
    if (!err) err = run(&j, ids, start, NULL, 1, "ids");
    if (!err) err = finish(&j, out);
    end(&j);
    return err;
}
lm_err lm_eval_perplexity(lm_ctx *ctx, lm_engine *e, const lm_tok *tok, const char *text, size_t n, const lm_perplexity_opts *o, lm_perplexity *out) {
    job j;
    lm_tok_buf b = { .ctx = ctx };
    int64_t bytes = (int64_t)n;
    lm_err err = begin(&j, ctx, e, lm_tok_bos(tok), o);
    j.tok = tok;
    if (!err) err = lm_tok_encode(tok, text, n, 0, &b);
    if (!err) err = run(&j, b.id, (size_t[]){ 0, b.n }, &bytes, 1, "the text");
    if (!err) err = finish(&j, out);
    lm_tok_buf_free(&b);
    end(&j);
    return err;
}

/* ---- files -------------------------------------------------------------------------------------------------------- */
typedef struct { lm_ctx *ctx; const lm_tok *tok; lm_tok_buf ids; size_t *start; int64_t *bytes; int n, cap; } docs;
static lm_err gather(void *ud, lm_docs *d, lm_doc_batch *b) {
    docs *g = ud;
    size_t *start = NULL;
    if (g->n + b->n + 1 > g->cap) {
        size_t cap = (size_t)(g->n + b->n) * 2 + 16;
        if (cap > INT32_MAX) return lm_fail(g->ctx, LM_E_RANGE, "too many documents");
        void *p = lm_realloc(g->ctx, LM_MEM_DATA, g->start, cap * sizeof *g->start);
        if (!p) return LM_E_NOMEM;
        g->start = p;
        if (!(p = lm_realloc(g->ctx, LM_MEM_DATA, g->bytes, cap * sizeof *g->bytes))) return LM_E_NOMEM;
        g->bytes = p;
        g->cap = (int)cap;
    }
    lm_err err = lm_data_encode(g->ctx, g->tok, b, &g->ids, &start);
    for (int i = 0; i < b->n && !err; i++) if (b->doc[i].bad) err = lm_data_why(g->ctx, g->tok, d, &b->doc[i]);
    for (int i = 0; i < b->n && !err; i++) {
        g->start[g->n] = start[i];
        g->bytes[g->n++] = (int64_t)b->doc[i].n;
        g->start[g->n] = start[i + 1];
    }
    lm_free(g->ctx, start);
    return err;
}
lm_err lm_eval_perplexity_file(lm_ctx *ctx, lm_engine *e, const lm_tok *tok, const char *path, const lm_perplexity_opts *o, lm_perplexity *out) {
    job j;
    docs g = { .ctx = ctx, .tok = tok, .ids = { .ctx = ctx } };
    lm_err err = begin(&j, ctx, e, lm_tok_bos(tok), o);
    j.tok = tok;
    if (!err) err = lm_docs_each(ctx, path, j.o->field, gather, &g);
    if (!err) err = run(&j, g.ids.id, g.start, g.bytes, g.n, path);
    if (!err) err = finish(&j, out);
    lm_tok_buf_free(&g.ids);
    lm_free(ctx, g.start);
    lm_free(ctx, g.bytes);
    end(&j);
    return err;
}
