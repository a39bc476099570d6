/* test_grammar.c — grammars against their definition: random grammars over small vocabularies, where a token is allowed iff its bytes after the text so far
 * begin a sentence, decided here by recursive descent over the tree; then the notations, limits and what is refused. */
#include "grammar/grammar.h"
#include "test.h"
static lm_ctx *ctx;
static void setup(void) { if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) exit(1); }

/* ---- random grammars: a tree here, GBNF for the library ---- */
enum { NODES = 60, RULES = 4, TEXT = 96 };
typedef enum { TEXT_NODE, CLASS_NODE, SEQ, ALT, REP, CALL } kind;
typedef struct { kind k; int kid[3], n, min, max; char text[4][4]; } node;
static node tree[NODES];
static int n_node, rule_of[RULES];
static uint64_t draws;
static lm_rng rng;
static int below(int n) { return (int)lm_rng_below(rng, draws++, (uint64_t)n); }
static const char *const letters[] = { "a", "b", "c", "\xC3\xA9", "\xC3\xAA" };          /* é ê */

static int grow(int depth, lm_str *s) {
    const int i = n_node++;
    node *x = &tree[i];
    *x = (node){ 0 };
    switch (depth > 4 || n_node > NODES - 24 ? below(2) : below(8)) {
    case 0: {
        const int n = below(6) ? 1 : below(3);
        lm_str_putc(s, '"');
        x->k = TEXT_NODE;
        for (int k = 0; k < n; k++) { const char *c = letters[below(5)]; strcat(x->text[0], c); lm_str_puts(s, c); }
        lm_str_puts(s, "\" ");
        break;
    }
    case 1: {
        static const char *const cls[] = { "[ab] ", "[a-c] ", "[\xC3\xA9-\xC3\xAA] ", "[b\xC3\xA9] " };
        static const char *const of[4][4] = { { "a", "b" }, { "a", "b", "c" }, { "\xC3\xA9", "\xC3\xAA" }, { "b", "\xC3\xA9" } };
        const int c = below(4);
        x->k = CLASS_NODE;
        lm_str_puts(s, cls[c]);
        for (int k = 0; k < 4 && of[c][k]; k++) { strcpy(x->text[k], of[c][k]); x->n++; }
        break;
    }
    case 2: case 3: case 4: {
        const bool alt = below(2);
        const int n = 2 + below(2);
        lm_str_puts(s, "( ");
        for (int k = 0; k < n; k++) { if (k && alt) lm_str_puts(s, "| "); const int kid = grow(depth + 1, s); tree[i].kid[k] = kid; }
        lm_str_puts(s, ") ");
        tree[i].k = alt ? ALT : SEQ; tree[i].n = n;
        break;
    }
    case 5: case 6: {
        static const struct { const char *t; int min, max; } r[] = { { "* ", 0, -1 }, { "+ ", 1, -1 }, { "? ", 0, 1 }, { "{2} ", 2, 2 }, { "{1,3} ", 1, 3 }, { "{2,} ", 2, -1 },
                                                                     { "{0,70} ", 0, 70 }, { "{3,80} ", 3, 80 }, { "{70,} ", 70, -1 }, { "{65} ", 65, 65 }, { "{66,68} ", 66, 68 } };
        const int c = below(LM_COUNT(r));
        lm_str_puts(s, "( ");
        const int kid = grow(depth + 1, s);
        tree[i].kid[0] = kid; tree[i].k = REP; tree[i].min = r[c].min; tree[i].max = r[c].max;
        lm_str_printf(s, ") %s", r[c].t);
        break;
    }
    default: x->k = CALL; x->kid[0] = below(RULES); lm_str_printf(s, "r%d ", x->kid[0]);
    }
    return i;
}
/* ---- the definition ---- */
typedef struct { uint64_t w[(TEXT + 64) / 64]; } set;
static bool has(const set *s, int i) { return s->w[i / 64] >> (i % 64) & 1; }
static void put(set *s, int i) { s->w[i / 64] |= 1ull << (i % 64); }
static bool join(set *s, const set *t) { bool more = false; for (int i = 0; i < LM_COUNT(s->w); i++) { more |= (t->w[i] & ~s->w[i]) != 0; s->w[i] |= t->w[i]; } return more; }
static bool any(const set *s) { for (int i = 0; i < LM_COUNT(s->w); i++) if (s->w[i]) return true; return false; }
static const char *word;
static int word_n, deep;
static bool productive[RULES], gives_up;
static bool sentence(int i) {
    const node *x = &tree[i];
    switch (x->k) {
    case SEQ: for (int k = 0; k < x->n; k++) if (!sentence(x->kid[k])) return false; return true;
    case ALT: for (int k = 0; k < x->n; k++) if (sentence(x->kid[k])) return true; return false;
    case REP: return !x->min || sentence(x->kid[0]);
    case CALL: return productive[x->kid[0]];
    default: return true;
    }
}
typedef struct { bool known, on, prefix; int word; set end; } memo;
static memo memos[NODES][TEXT + 1];                                    /* valid where .word is the number of this word */
static int word_no;
static set match_once(int i, int at, bool *prefix);
static set match(int i, int at, bool *prefix) {
    memo *m = &memos[i][at];
    if (m->word != word_no) *m = (memo){ .word = word_no };
    if (m->on || deep > 3000) { gives_up = true; *prefix = false; return (set){0}; }       /* left recursion */
    if (!m->known) { m->on = true; deep++; m->end = match_once(i, at, &m->prefix); deep--; m->on = false; m->known = true; }
    *prefix = m->prefix;
    return m->end;
}
/* Where node i's sentences that lie in the word from `at` end; *prefix: does one go past the word's end, or to it? */
static set match_once(int i, int at, bool *prefix) {
    const node *x = &tree[i];
    set out = {0};
    *prefix = false;
    if (!sentence(i)) return out;
    switch (x->k) {
    case TEXT_NODE: case CLASS_NODE:
        for (int k = 0; k < (x->k == TEXT_NODE ? 1 : x->n); k++) {
            const int n = (int)strlen(x->text[k]), left = word_n - at;
            if (memcmp(word + at, x->text[k], (size_t)(n < left ? n : left))) continue;
            if (n <= left) put(&out, at + n);
            if (n >= left) *prefix = true;
        }
        break;
    case SEQ: {
        set now = {0};
        put(&now, at);
        for (int k = 0; k < x->n; k++) {
            set next = {0};
            for (int p = at; p <= word_n; p++) if (has(&now, p)) { bool go; const set e = match(x->kid[k], p, &go); join(&next, &e); *prefix |= go; }
            now = next;
        }
        out = now;
        break;
    }
    case ALT: for (int k = 0; k < x->n; k++) { bool go; const set e = match(x->kid[k], at, &go); join(&out, &e); *prefix |= go; } break;
    case REP: {
        set now = {0};
        put(&now, at);
        if (!x->min) join(&out, &now);
        for (int c = 1; (x->max < 0 || c <= x->max) && any(&now); c++) {
            set next = {0};
            for (int p = at; p <= word_n; p++) if (has(&now, p)) { bool go; const set e = match(x->kid[0], p, &go); join(&next, &e); *prefix |= go; }
            const bool more = c >= x->min && join(&out, &next);
            if (!memcmp(&next, &now, sizeof now) && c >= x->min && !more) break;
            now = next;
            if (c > 200) break;
        }
        break;
    }
    case CALL: out = match(rule_of[x->kid[0]], at, prefix); break;
    }
    if (has(&out, word_n)) *prefix = true;
    return out;
}
static bool begins(const char *w, int n, bool *complete) {
    word = w; word_n = n; deep = 0;
    word_no++;
    bool prefix;
    const set e = match(rule_of[0], 0, &prefix);
    *complete = has(&e, n);
    return prefix;
}
/* ---- vocabularies ---- */
enum { V = 160, SEEDS = 200 };
static char piece_text[V][24];
static lm_piece piece[V];
static void vocabulary(void) {
    static const char bytes[] = "abc\xC3\xA9\xAA";
    int n = 0;
    piece[n++] = (lm_piece){ NULL, 0 };                                  /* a control token */
    for (int a = 0; a < 6; a++) { piece_text[n][0] = bytes[a]; piece[n] = (lm_piece){ piece_text[n], 1 }; n++; }
    for (int a = 0; a < 36; a++, n++) { piece_text[n][0] = bytes[a / 6]; piece_text[n][1] = bytes[a % 6]; piece[n] = (lm_piece){ piece_text[n], 2 }; }
    for (; n < V - 3; n++) {
        const int m = 3 + below(n % 7 ? 4 : 18);
        for (int k = 0; k < m; k++) piece_text[n][k] = bytes[below(n % 3 ? 3 : 6)];
        piece[n] = (lm_piece){ piece_text[n], (size_t)m };
    }
    piece[n++] = (lm_piece){ "ab", 2 };                                  /* the same bytes twice */
    piece[n++] = (lm_piece){ "", 0 };                                    /* no bytes */
    piece[n++] = (lm_piece){ "</s>", 4 };                                /* the end token */
}
static bool bit(const uint32_t *m, int i) { return m[i >> 5] >> (i & 31) & 1; }
static void test_masks(void) {
    setup();
    int used = 0, refused = 0, steps = 0;
    int64_t checked = 0, allowed = 0;
    for (int seed = 0; seed < SEEDS; seed++) {
        rng = lm_rng_of((uint64_t)seed, "grammar"); draws = 0; n_node = 0;
        vocabulary();
        lm_str s = { .ctx = ctx };
        for (int r = 0; r < RULES; r++) { lm_str_printf(&s, r ? "r%d ::= " : "root ::= r0\nr0 ::= ", r); rule_of[r] = grow(r == RULES - 1 ? 3 : 1, &s); lm_str_putc(&s, '\n'); }
        memset(productive, 0, sizeof productive);
        for (int k = 0; k <= RULES; k++) for (int r = 0; r < RULES; r++) productive[r] = productive[r] || sentence(rule_of[r]);
        gives_up = false;
        bool complete;
        begins("", 0, &complete);
        lm_grammar *g;
        const lm_err e = lm_grammar_new(&g, ctx, "gbnf", "random", s.p, s.n);
        if (e) {
            const bool fair = strstr(lm_error(ctx), "no text can satisfy") ? !productive[0] : strstr(lm_error(ctx), "left recursion") ? true : false;
            if (!fair) { lm_t_fail++; printf("seed %d: %s: %s\n%s", seed, lm_err_name(e), lm_error(ctx), s.p); }
            refused++; lm_str_free(&s);
            continue;
        }
        if (gives_up && lm_grammar_size_of(g).rules) { lm_t_fail++; printf("seed %d: left recursion was not refused:\n%s", seed, s.p); lm_grammar_free(g); lm_str_free(&s); continue; }
        if (gives_up) { lm_grammar_free(g); lm_str_free(&s); continue; }   /* nothing but the empty text, in circles */
        used++;
        const int32_t eos = V - 1;
        lm_trie *t; lm_masker *m;
        LM_NEED_OK(ctx, lm_trie_new(&t, ctx, piece, V, &eos, 1));
        LM_NEED_OK(ctx, lm_masker_new(&m, ctx, g, t));
        for (int go = 0; go < 2; go++) {
            lm_matcher *x;
            char w[TEXT + 32] = "";
            int n = 0, ids[V];
            LM_NEED_OK(ctx, lm_matcher_new(&x, m));
            for (int step = 0; step < 8 && n < TEXT - 24; step++) {
                const uint32_t *mask;
                LM_NEED_OK(ctx, lm_matcher_mask(x, &mask));
                begins(w, n, &complete);
                int n_ids = 0, wrong = 0;
                for (int i = 0; i < V; i++) {
                    bool c, want;
                    if (i == eos) want = complete;
                    else if (!piece[i].p || !piece[i].n) want = false;
                    else { memcpy(w + n, piece[i].p, piece[i].n); want = begins(w, n + (int)piece[i].n, &c); }
                    if (want != bit(mask, i) && !wrong++) {
                        lm_t_fail++;
                        printf("seed %d, after \"%.*s\", token \"%.*s\": the mask says %d\n%s", seed, n, w, (int)piece[i].n, piece[i].p ? piece[i].p : "", bit(mask, i), s.p);
                    }
                    checked++; allowed += want;
                    if (want && i != eos) ids[n_ids++] = i;
                }
                LM_CHECK(lm_matcher_complete(x) == complete);
                steps++;
                if (!n_ids || wrong) break;
                const int id = ids[below(n_ids)];
                LM_CHECK_OK(ctx, lm_matcher_accept(x, id));
                memcpy(w + n, piece[id].p, piece[id].n); n += (int)piece[id].n;
            }
            if (lm_matcher_complete(x)) {
                const uint32_t *mask;
                LM_CHECK_OK(ctx, lm_matcher_accept(x, eos));
                LM_CHECK(lm_matcher_ended(x));
                LM_CHECK_OK(ctx, lm_matcher_mask(x, &mask));
                for (int i = 0; i < V; i++) LM_CHECK(!bit(mask, i));
                LM_CHECK_ERR(ctx, lm_matcher_accept(x, 1), LM_E_MISMATCH, "does not allow token 1");
            } else LM_CHECK_ERR(ctx, lm_matcher_accept(x, eos), LM_E_MISMATCH, "to end here");
            lm_matcher_free(x);
        }
        lm_masker_free(m); lm_trie_free(t); lm_grammar_free(g); lm_str_free(&s);
        if (lm_t_fail > 20) return;
    }
    if (getenv("LM_GRAMMAR_COUNTS")) printf("%d grammars, %d refused, %d masks, %lld tokens, %lld allowed\n", used, refused, steps, (long long)checked, (long long)allowed);
    LM_CHECK(used > 80 && steps > 400 && allowed > 10000);
}
LM_TEST_MAIN(LM_T1(test_masks))
