/* pretok.c — pre-tokenizers: a list of spans, cut finer by each step.
 *
 * A step sees each span as a text of its own (a pattern's ^, $ and lookarounds end there, as in the reference). Steps that change the text (a space
 * or meta symbol put in front, the byte alphabet when later steps must see it) write a new one; otherwise spans point into the old. */
#define _GNU_SOURCE 1      /* memmem */
#include "tok/tok_int.h"
#include "tok/unicode.h"

typedef struct {
    lm_tok_scratch *s;
    int to;                                    /* span list being written */
    int64_t begin;                             /* its length when this input span began */
    lm_split_how how;
    bool invert, prev;                         /* prev: was the last part a match */
    bool pending; lm_tok_span wait;            /* LM_SPLIT_NEXT: a match that waits for what follows */
} cutter;

static lm_err push(lm_tok_scratch *s, int to, size_t a, size_t b) {
    if (a == b) return LM_OK;
    LM_TRY(lm_tok_grow(s->ctx, (void **)&s->span[to], s->n_span[to] + 1, &s->cap_span[to], sizeof(lm_tok_span)));
    s->span[to][s->n_span[to]++] = (lm_tok_span){ a, b };
    return LM_OK;
}

static void begin(cutter *c) { c->begin = c->s->n_span[c->to]; c->prev = false; c->pending = false; }

/* The next part of the span: a match of the pattern, or what is between matches. */
static lm_err part(cutter *c, size_t a, size_t b, bool match) {
    bool m = match != c->invert;
    int64_t *n = &c->s->n_span[c->to];
    bool extend = false;
    switch (c->how) {
    case LM_SPLIT_ISOLATED: break;
    case LM_SPLIT_REMOVED: if (m) return LM_OK; break;
    case LM_SPLIT_CONTIGUOUS: extend = m == c->prev; break;
    case LM_SPLIT_PREVIOUS: extend = m && !c->prev; break;
    case LM_SPLIT_NEXT:
        if (c->pending) {
            c->pending = false;
            if (!m) a = c->wait.s;
            else LM_TRY(push(c->s, c->to, c->wait.s, c->wait.e));
        }
        if (m) { c->pending = true; c->wait = (lm_tok_span){ a, b }; return LM_OK; }
        break;
    }
    c->prev = m;
    if (extend && *n > c->begin) { c->s->span[c->to][*n - 1].e = b; return LM_OK; }
    return push(c->s, c->to, a, b);
}
static lm_err end(cutter *c) { return c->pending ? push(c->s, c->to, c->wait.s, c->wait.e) : LM_OK; }

typedef bool is_char(uint32_t c);
static bool is_number(uint32_t c) { return lm_uc_in(c, LM_UC_SET_N); }
static bool is_space(uint32_t c) { return lm_uc_space(c); }

static lm_err by_char(cutter *c, const uint8_t *p, size_t a, size_t b, is_char *is) {
    size_t last = a;
    int k;
    for (size_t i = a; i < b; i += (size_t)k) {
        if (!is(lm_utf8_get(p + i, &k))) continue;
        if (last < i) LM_TRY(part(c, last, i, false));
        LM_TRY(part(c, i, i + (size_t)k, true));
        last = i + (size_t)k;
    }
    return last < b ? part(c, last, b, false) : LM_OK;
}

/* \w+|[^\w\s]+ kept, white space dropped. */
static int word_kind(uint32_t c) { return lm_uc_word(c) || c == 0x200c || c == 0x200d ? 1 : lm_uc_space(c) ? 0 : 2; }
static lm_err by_words(lm_tok_scratch *s, int to, const uint8_t *p, size_t a, size_t b) {
    size_t from = a;
    int kind = 0, k;
    for (size_t i = a; i < b; i += (size_t)k) {
        int now = word_kind(lm_utf8_get(p + i, &k));
        if (now == kind) continue;
        if (kind) LM_TRY(push(s, to, from, i));
        from = i;
        kind = now;
    }
    return kind ? push(s, to, from, b) : LM_OK;
}

static lm_err by_regex(cutter *c, lm_ctx *ctx, const lm_regex *re, const uint8_t *p, size_t a, size_t b) {
    size_t from = 0, at = a, s, e;
    for (bool found;;) {
        LM_TRY(lm_regex_next(re, c->s->re, ctx, p + a, b - a, &from, &s, &e, &found));
        if (!found) break;
        if (a + s > at) LM_TRY(part(c, at, a + s, false));
        if (e > s) LM_TRY(part(c, a + s, a + e, true));
        at = a + e;
    }
    return at < b ? part(c, at, b, false) : LM_OK;
}

static lm_err by_string(cutter *c, const lm_tok_pre *m, const uint8_t *p, size_t a, size_t b) {
    size_t at = a;
    for (const uint8_t *x; at < b && (x = memmem(p + at, b - at, m->s, m->n)); at = (size_t)(x - p) + m->n) {
        size_t i = (size_t)(x - p);
        if (i > at) LM_TRY(part(c, at, i, false));
        LM_TRY(part(c, i, i + m->n, true));
    }
    return at < b ? part(c, at, b, false) : LM_OK;
}

static lm_err by_known(cutter *c, lm_split_fn *fn, const uint8_t *p, size_t a, size_t b) {
    for (const uint8_t *x = p + a, *y; x < p + b; x = y) {
        y = fn(x, p + b);
        LM_TRY(part(c, (size_t)(x - p), (size_t)(y - p), true));
    }
    return LM_OK;
}

/* Rewrites every span of list `from` into o (cleared) and list `to`. */
typedef struct { const lm_tok_pre *m; bool bytes; lm_tok_place at; } rewriting;
static lm_err rewrite(lm_tok_scratch *s, rewriting w, const uint8_t *p, int from, lm_str *o) {
    lm_str_clear(o);
    for (int64_t i = 0; i < s->n_span[from]; i++) {
        lm_tok_span v = s->span[from][i];
        size_t at = o->n;
        if (w.bytes) lm_bytes_to_text(p + v.s, v.e - v.s, o);
        else if (w.m->kind == LM_PRE_BYTES) {
            if (w.m->prefix && p[v.s] != ' ' && (w.at != LM_AT_REST || v.s)) lm_str_putc(o, ' ');
            lm_str_add(o, p + v.s, v.e - v.s);
        } else {
            bool has = p[v.s] == ' ' || (v.e - v.s >= w.m->n && !memcmp(p + v.s, w.m->s, w.m->n));
            bool put = v.s ? !w.m->prefix_first : w.at == LM_AT_START || (w.at == LM_AT_PIECE && !w.m->prefix_first);
            if (!has && w.m->prefix && put) lm_str_add(o, w.m->s, w.m->n);
            for (size_t k = v.s, last = v.s; k <= v.e; k++)
                if (k == v.e || p[k] == ' ') {
                    lm_str_add(o, p + last, k - last);
                    if (k < v.e) lm_str_add(o, w.m->s, w.m->n);
                    last = k + 1;
                }
        }
        s->span[from][i] = (lm_tok_span){ at, o->n };
    }
    return lm_str_err(o);
}

static lm_err cut_all(const lm_tok_pre *m, lm_tok_scratch *s, lm_ctx *ctx, const uint8_t *p, int from) {
    cutter c = { .s = s, .to = !from, .how = m->how, .invert = m->invert };
    s->n_span[!from] = 0;
    for (int64_t i = 0; i < s->n_span[from]; i++) {
        lm_tok_span v = s->span[from][i];
        begin(&c);
        switch (m->kind) {
        case LM_PRE_KNOWN: case LM_PRE_BYTES: LM_TRY(by_known(&c, m->fn, p, v.s, v.e)); break;
        case LM_PRE_REGEX: LM_TRY(by_regex(&c, ctx, m->re, p, v.s, v.e)); break;
        case LM_PRE_STRING: case LM_PRE_META: LM_TRY(by_string(&c, m, p, v.s, v.e)); break;
        case LM_PRE_DIGITS: LM_TRY(by_char(&c, p, v.s, v.e, is_number)); break;
        case LM_PRE_PUNCT: LM_TRY(by_char(&c, p, v.s, v.e, lm_uc_punct8)); break;
        case LM_PRE_SPACE: LM_TRY(by_char(&c, p, v.s, v.e, is_space)); break;
        case LM_PRE_WORDS: LM_TRY(by_words(s, !from, p, v.s, v.e)); break;
        }
        LM_TRY(end(&c));
    }
    return LM_OK;
}

lm_err lm_pre_run(const lm_tok *t, lm_tok_scratch *s, lm_ctx *ctx, const uint8_t *p, size_t n, lm_tok_place at, const uint8_t **base,
                  size_t *base_n, int *which) {
    lm_str *spare[2] = { &s->text[1], &s->raw };
    int cur = 0, buf = 0;
    lm_err err = LM_OK;
    s->n_span[0] = 0;
    LM_GOTO(push(s, 0, 0, n), out_of_memory);
    for (int i = 0; i < t->n_pre; i++) {
        const lm_tok_pre *m = &t->pre[i];
        if (m->kind == LM_PRE_META || (m->kind == LM_PRE_BYTES && m->prefix)) {
            LM_GOTO(rewrite(s, (rewriting){ .m = m, .at = at }, p, cur, spare[buf]), out_of_memory);
            p = (const uint8_t *)spare[buf]->p;
            n = spare[buf]->n;
            buf = !buf;
        }
        if (m->kind == LM_PRE_META ? m->split : m->kind != LM_PRE_BYTES || m->fn) {
            err = cut_all(m, s, ctx, p, cur);
            if (err == LM_E_NOMEM) goto out_of_memory;
            if (err) return err;
            cur = !cur;
        }
        if (i == t->map_at) {
            LM_GOTO(rewrite(s, (rewriting){ .bytes = true }, p, cur, spare[buf]), out_of_memory);
            p = (const uint8_t *)spare[buf]->p;
            n = spare[buf]->n;
            buf = !buf;
        }
    }
    *base = p;
    *base_n = n;
    *which = cur;
    return LM_OK;
out_of_memory:
    return lm_fail(ctx, err, "out of memory: splitting a text of %zu bytes", n);
}
