/* scratch.c — the work space of one encoding thread: word caches, symbol and heap arrays, text buffers.
 *
 * The tokenizer keeps a list of idle ones, so a caller names none: encode takes one, or makes it, and puts it back. Small at first; about
 * 3 MiB each when full. */
#include "tok/tok_int.h"

enum {
    KEEP_BYTES = 4 << 20 /* buffers larger than this are not kept for the next text */,
    FIRST_SETS = LM_WORD_SETS / 64,
    FIRST_SLOTS = LM_LONG_SLOTS / 64
};

void lm_tok_scratch_free(lm_tok_scratch *s) {
    if (!s) return;
    lm_regex_state_free(s->re);
    for (int i = 0; i < 2; i++) {
        lm_str_free(&s->text[i]);
        lm_free(s->ctx, s->hit[i]);
        lm_free(s->ctx, s->span[i]);
    }
    lm_str_free(&s->raw);
    lm_free(s->ctx, s->word);
    lm_free(s->ctx, s->longer);
    lm_free(s->ctx, s->sym);
    lm_free(s->ctx, s->heap);
    lm_free(s->ctx, s);
}

static lm_err scratch_new(lm_ctx *ctx, lm_tok_scratch **out) {
    lm_tok_scratch *s = lm_calloc(ctx, LM_MEM_TOK, 1, sizeof *s);
    if (!s) return LM_E_NOMEM;
    s->ctx = ctx;
    s->text[0].ctx = s->text[1].ctx = s->raw.ctx = ctx;
    s->n_sets = FIRST_SETS;
    s->n_slots = FIRST_SLOTS;
    s->word = lm_calloc(ctx, LM_MEM_TOK, 2 * FIRST_SETS, sizeof *s->word);
    s->longer = s->word ? lm_calloc(ctx, LM_MEM_TOK, FIRST_SLOTS, sizeof *s->longer) : NULL;
    lm_err err = s->longer ? lm_regex_state_new(ctx, &s->re) : LM_E_NOMEM;
    if (err) { lm_tok_scratch_free(s); return err; }
    *out = s;
    return LM_OK;
}

lm_err lm_tok_scratch_get(const lm_tok *t, lm_ctx *ctx, lm_tok_scratch **out) {
    lm_tok *w = (lm_tok *)(uintptr_t)t;                    /* the idle list is the one part that changes; its lock guards it */
    pthread_mutex_lock(&w->lock);
    lm_tok_scratch *s = w->idle;
    if (s) w->idle = s->next;
    pthread_mutex_unlock(&w->lock);
    if (!s) {
        if (scratch_new(t->ctx, &s)) return lm_fail(ctx, LM_E_NOMEM, "out of memory: work space of a tokenizer");
    }
    *out = s;
    return LM_OK;
}

static void trim_str(lm_str *s) { if (s->cap > KEEP_BYTES || s->bad) lm_str_free(s); }
static void trim(lm_ctx *ctx, void **p, int64_t *cap, size_t size) {
    if ((size_t)*cap * size > KEEP_BYTES) { lm_free(ctx, *p); *p = NULL; *cap = 0; }
}

void lm_tok_scratch_put(const lm_tok *t, lm_tok_scratch *s) {
    if (!s) return;
    trim_str(&s->text[0]);
    trim_str(&s->text[1]);
    trim_str(&s->raw);
    trim(s->ctx, (void **)&s->sym, &s->cap_sym, sizeof *s->sym);
    trim(s->ctx, (void **)&s->heap, &s->cap_heap, sizeof *s->heap);
    for (int i = 0; i < 2; i++) {
        trim(s->ctx, (void **)&s->hit[i], &s->cap_hit[i], sizeof *s->hit[i]);
        trim(s->ctx, (void **)&s->span[i], &s->cap_span[i], sizeof *s->span[i]);
    }
    lm_tok *w = (lm_tok *)(uintptr_t)t;
    pthread_mutex_lock(&w->lock);
    s->next = w->idle;
    w->idle = s;
    pthread_mutex_unlock(&w->lock);
}
