/* test_grammar.c — grammars against their definition: random grammars over small vocabularies, where a token is allowed iff its bytes after the text so far
 * begin a sentence, decided here by recursive descent over the tree; then the notations, limits and what is refused. */
#include "format/json.h"
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

/* A vocabulary large enough for whole groups of tokens and whole subtrees to be taken at once: each token's bit against its bytes, one by one. */
enum { WIDE = 9000, WIDE_STEPS = 12 };
static int wide_vocabulary(lm_piece *p, char (*text)[32]) {
    static const char *const part[] = { "a", "e", "th", "ing", "on", "B", "E", "St", "0", "5", "19", " ", " ", "  ", "_", "-", ".", ",", ": ", "(", ")", "+", " = ", "\"", "\\", "{", "}", "[", "]",
        "\n", "\t", "\x01", "\x7F", "\xC3\xA9", "\xC3\xBC", "\xCE\xB1", "\xE6\xBC\xA2", "\xE5\xAD\x97", "\xEA\xB0\x80", "\xF0\x9F\x98\x80", "\xF4\x8F\xBF\xBF",
        "\xC3", "\xA9", "\xE6", "\xE6\xBC", "\xF0\x9F", "\x98\x80", "\xED\xA0\x80", "\xC0\x80", "\xF5", "\xE0\x80\x80", "\xFF" };
    int n = 0;
    p[n++] = (lm_piece){ NULL, 0 };
    for (int b = 0; b < 256; b++, n++) { text[n][0] = (char)b; p[n] = (lm_piece){ text[n], 1 }; }
    while (n < WIDE - 1) {
        const int many = 1 + below(6), plain = below(3);               /* a third of letters and digits, a third of text with all characters, a third of anything */
        char *to = text[n];
        size_t m = 0;
        for (int k = 0; k < many; k++) {
            const char *x = part[below(!plain ? 13 : plain == 1 ? 41 : (int)LM_COUNT(part))];
            memcpy(to + m, x, strlen(x)); m += strlen(x);
        }
        p[n++] = (lm_piece){ to, m };
    }
    p[n++] = (lm_piece){ "</s>", 4 };
    return n;
}
static void test_wide_masks(void) {
    setup();
    static const struct { const char *kind, *text, *begin; } g[] = {
        { "schema", "true", "" }, { "schema", "true", "{\"a\": \"" }, { "schema", "{\"type\":\"string\",\"maxLength\":200}", "\"" }, { "schema", "{\"type\":\"string\",\"minLength\":3,\"maxLength\":9}", "\"th" },
        { "schema", "{\"type\":\"string\",\"minLength\":5,\"maxLength\":14}", "\"" }, { "schema", "{\"type\":\"string\",\"minLength\":2,\"maxLength\":40}", "\"e" },
        { "schema", "{\"type\":\"array\",\"minItems\":2,\"maxItems\":4,\"items\":{\"type\":\"string\",\"maxLength\":6}}", "[\"on" },
        { "gbnf", "root ::= ([a-zA-Z ]{1,7} [,.] \" \"?){2,5} | ([a-z] [a-z]? [a-z]?){3,8} | [0-9]{2,11}\n", "" }, { "gbnf", "root ::= ((([a-z0-9]{1,3} \"_\"?){1,3} \"-\"?){1,4} \".\"){0,3}\n", "" },
        { "schema", "{\"type\":\"string\",\"pattern\":\"^[a-z \\u00e9]*$\"}", "\"" },
        { "schema", "{\"type\":\"object\",\"properties\":{\"on\":{\"type\":\"string\"},\"the\":{\"type\":\"integer\"}},\"required\":[\"on\"],\"additionalProperties\":{\"type\":\"boolean\"}}", "{\"" },
        { "gbnf", "root ::= line+\nline ::= sum \" = \" number \"\\n\"\nsum ::= product | product ws [-+] ws sum\nproduct ::= factor | factor ws [*/] ws product\n"
                  "factor ::= number | name | \"(\" sum \")\"\nnumber ::= [0-9]+ (\".\" [0-9]+)?\nname ::= [a-z] [a-z0-9_]*\nws ::= \" \"*\n", "" },
        { "gbnf", "root ::= [^\"\\x00-\\x1f]* \"\\\"\" [a-zA-Z]+ ([ ,] [a-zA-Z]+)*\n", "" }, { "gbnf", "root ::= \"\\\"\" [^\"]* \"\\\"\" | [\\u0080-\\U0010FFFF]+ [a-z]*\n", "" },
        { "gbnf", "root ::= (word \" \")* word\nword ::= [a-z]+ | [A-Z] [a-z]* | [0-9]{1,4} | [\\u4e00-\\u9fff]+\n", "" }, { "regex", "[\\x20-\\u07FF]*(\\n[a-z]+)*", "" } };
    static char text[WIDE][32];
    static lm_piece p[WIDE];
    int64_t allowed = 0, checked = 0;
    for (int i = 0; i < LM_COUNT(g); i++) {
        lm_trie *t; lm_grammar *gr; lm_masker *m;
        const int32_t eos = WIDE - 1;
        rng = lm_rng_of((uint64_t)i, "wide"); draws = 0;
        LM_NEED_OK(ctx, lm_trie_new(&t, ctx, p, wide_vocabulary(p, text), &eos, 1));
        LM_NEED_OK(ctx, lm_grammar_new(&gr, ctx, g[i].kind, "wide", g[i].text, strlen(g[i].text)));
        LM_NEED_OK(ctx, lm_masker_new(&m, ctx, gr, t));
        for (int go = 0; go < 3; go++) {
            lm_matcher *x, *y;
            bool ok = true;
            LM_NEED_OK(ctx, lm_matcher_new(&x, m));
            LM_NEED_OK(ctx, lm_matcher_new(&y, m));
            LM_CHECK_OK(ctx, lm_matcher_bytes(x, g[i].begin, strlen(g[i].begin), &ok));
            LM_CHECK(ok);
            for (int step = 0; step < WIDE_STEPS && !lm_matcher_ended(x); step++) {
                const uint32_t *mask;
                int ids[WIDE], n = 0, wrong = 0;
                LM_NEED_OK(ctx, lm_matcher_mask(x, &mask));
                for (int k = 0; k < WIDE - 1; k++) {
                    bool want = false;
                    lm_matcher_copy(y, x);
                    if (p[k].n) LM_CHECK_OK(ctx, lm_matcher_bytes(y, p[k].p, p[k].n, &want));
                    if (want != bit(mask, k) && !wrong++) { lm_t_fail++; printf("%s, %s: step %d, token %d \"%.*s\": the mask says %d\n", g[i].text, g[i].begin, step, k, (int)p[k].n, p[k].p, bit(mask, k)); }
                    if (want) ids[n++] = k;
                }
                LM_CHECK(bit(mask, eos) == lm_matcher_complete(x));
                checked += WIDE; allowed += n;
                if (!n || wrong) break;
                LM_CHECK_OK(ctx, lm_matcher_accept(x, ids[below(n)]));
            }
            lm_matcher_free(x); lm_matcher_free(y);
        }
        lm_masker_free(m); lm_grammar_free(gr); lm_trie_free(t);
    }
    if (getenv("LM_GRAMMAR_COUNTS")) printf("wide: %lld tokens, %lld allowed\n", (long long)checked, (long long)allowed);
    LM_CHECK(allowed > 100000);
}
/* ---- notations ---- */
/* 2: a sentence, 1: the beginning of one, 0: neither, -1: an error */
static int says(const lm_grammar *g, const char *text, size_t n) {
    lm_masker *m; lm_matcher *x;
    bool ok = false;
    if (lm_masker_new(&m, ctx, g, NULL)) return -1;
    lm_err e = lm_matcher_new(&x, m);
    if (!e) e = lm_matcher_bytes(x, text, n, &ok);
    const int r = e ? -1 : !ok ? 0 : lm_matcher_complete(x) ? 2 : 1;
    if (x) lm_matcher_free(x);
    lm_masker_free(m);
    return r;
}
static void good_and_bad(const char *notation, const char *grammar, const char *const *good, const char *const *bad) {
    lm_grammar *g;
    LM_NEED_OK(ctx, lm_grammar_new(&g, ctx, notation, "test", grammar, strlen(grammar)));
    for (; *good; good++) if (says(g, *good, strlen(*good)) != 2) { lm_t_fail++; printf("%s: \"%s\" is a sentence\n", grammar, *good); }
    for (; *bad; bad++) if (says(g, *bad, strlen(*bad)) == 2) { lm_t_fail++; printf("%s: \"%s\" is no sentence\n", grammar, *bad); }
    lm_grammar_free(g);
}
#define L(...) (const char *const[]){ __VA_ARGS__, NULL }
static void test_gbnf(void) {
    setup();
    good_and_bad("gbnf", "root ::= \"a\" | b+ # comment\nb ::=\n  [x-z] | \"\\x41\\u00e9\\n\\\"\\\\\"\n  | .  \"!\"", L("a", "x", "xyz", "A\xC3\xA9\n\"\\", "?!", "\xF0\x9F\x98\x80!x"), L("", "aa", "?", "A"));
    good_and_bad("gbnf", "root ::= (\"a\"\n  \"b\")* [^a-z\\]]{2} (c-d){,2} c-d{3,}\nc-d ::= \"-\"", L("12---", "abab12---", "\xC3\xA9\xE2\x82\xAC-----", "12--------"), L("12--", "a2---", "]1---"));
    good_and_bad("gbnf", "root ::= object\nobject ::= \"{\" ws (pair (\",\" ws pair)*)? \"}\" ws\npair ::= string \":\" ws value\nvalue ::= object | string | [0-9]+ ws\n"
                         "string ::= \"\\\"\" ([^\"\\\\] | \"\\\\\" .)* \"\\\"\" ws\nws ::= [ \\t\\n]*", L("{}", "{ \"a\" : {\"b\":12 }, \"\\\"\": \"x\" } "), L("{,}", "{\"a\"}", "{\"a\":}"));
    /* ambiguous in many ways at every parenthesis: linear here */
    char high[402] = "";
    memset(high, 0x28, 200); high[200] = 0x31; memset(high + 201, 0x29, 200);
    good_and_bad("gbnf", "root ::= e\ne ::= t | t \"+\" e | t \"-\" e\nt ::= f | f \"*\" t | f \"/\" t\nf ::= \"(\" e \")\" | [0-9]+ | [0-9] [0-9]*", L(high, "(1+2)*3/(4-5)"), L("(1", "1+", "()"));
    /* recursion at the end does not grow the stack, at the middle it does */
    char *list = malloc(200001);
    for (int i = 0; i < 200000; i++) list[i] = "a,"[i % 2];
    list[199999] = 0;
    good_and_bad("gbnf", "root ::= \"a\" | \"a,\" root", L(list), L(""));
    good_and_bad("gbnf", "root ::= (\"a\" \",\"?){100000}", L(list), L("a"));
    free(list);
    static const struct { const char *text; lm_err e; const char *why; } bad[] = {
        { "", LM_E_CONFIG, "no rule called root" }, { "a ::= \"x\"", LM_E_CONFIG, "no rule called root" }, { "root = \"x\"", LM_E_FORMAT, "line 1, column 6: wanted ::=" },
        { "root ::= \"x", LM_E_FORMAT, "literal does not end" }, { "root ::= [a", LM_E_FORMAT, "class does not end" }, { "root ::= (\"a\"", LM_E_FORMAT, "( without its )" },
        { "root ::= \"a\")", LM_E_FORMAT, "does not end here" }, { "root ::= *", LM_E_FORMAT, "nothing to repeat" }, { "root ::= \"a\"{3,2}", LM_E_FORMAT, "below the smallest" },
        { "root ::= \"a\"{x}", LM_E_FORMAT, "wanted a number" }, { "root ::= \"a\"{99999999}", LM_E_RANGE, "a repetition of" }, { "root ::= \"\\q\"", LM_E_FORMAT, "unknown escape" },
        { "root ::= \"\\ud800\"", LM_E_FORMAT, "no character" }, { "root ::= \"\xFF\"", LM_E_FORMAT, "not UTF-8" }, { "root ::= [z-a]", LM_E_FORMAT, "runs backwards" },
        { "root ::= a", LM_E_CONFIG, "\"a\" is used and not defined" }, { "root ::= \"a\"\nroot ::= \"b\"", LM_E_CONFIG, "line 2, column 1: this rule is defined a second time" },
        { "root ::= root \"a\" | \"a\"", LM_E_CONFIG, "left recursion: root -> root" }, { "root ::= a\na ::= b? c\nb ::= \"b\"\nc ::= a \"x\" | \"y\"", LM_E_CONFIG, "a -> c -> a" },
        { "root ::= \"a\" root", LM_E_CONFIG, "no text can satisfy" }, { "root ::= <think> \"a\"", LM_E_UNSUPPORTED, "over text" }, { "root ::= [^\\x00-\\U0010FFFF]", LM_E_CONFIG, "no text" },
    };
    for (int i = 0; i < LM_COUNT(bad); i++) { lm_grammar *g; LM_CHECK_ERR(ctx, lm_grammar_new(&g, ctx, "gbnf", "test", bad[i].text, strlen(bad[i].text)), bad[i].e, bad[i].why); }
}
static void test_regex(void) {
    setup();
    good_and_bad("regex", "a|b*c{2}|(?:de)+?f$", L("a", "cc", "bbbcc", "def", "dedef"), L("", "b", "c", "aa", "de"));
    good_and_bad("regex", "^\\d{3}-[\\w.\\-]+@(x|y)\\.\\u0041\\x42\\t$", L("123-a_b.c-9@x.AB\t"), L("12-a@x.AB\t", "123-@x.AB\t"));
    good_and_bad("regex", "[^\\d\\s]\\S\\D.[\\]^a\\b-]", L("ab-?]", "\xC3\xA9xyz^", "abcd\b", "abcd-"), L("1bcda", "a\tcda", "ab1da", "abc\na"));
    good_and_bad("regex", "(a*)*b|(x?y?)*z", L("aaab", "b", "xyyxz", "z"), L("aaa", "x"));
    static const struct { const char *text; lm_err e; const char *why; } bad[] = {
        { "(a", LM_E_FORMAT, "( without its )" }, { "a)", LM_E_FORMAT, ") without its (" }, { "[a", LM_E_FORMAT, "class without its ]" }, { "*a", LM_E_FORMAT, "nothing to repeat" },
        { "a**", LM_E_FORMAT, "repetition of a repetition" }, { "a{2", LM_E_FORMAT, "wanted }" }, { "a{,2}", LM_E_FORMAT, "wanted {n}" }, { "a(?=b)", LM_E_UNSUPPORTED, "lookaround" },
        { "(?<!b)a", LM_E_UNSUPPORTED, "lookaround" }, { "(a)\\1", LM_E_UNSUPPORTED, "back reference" }, { "\\bword", LM_E_UNSUPPORTED, "word boundary" }, { "\\p{L}", LM_E_UNSUPPORTED, "Unicode" },
        { "a^b", LM_E_UNSUPPORTED, "^ inside" }, { "(a$)b", LM_E_UNSUPPORTED, "$ inside" }, { "[b-a]", LM_E_FORMAT, "backwards" }, { "\\", LM_E_FORMAT, "lone backslash" }, { "a{9999999}", LM_E_RANGE, "repetition of" },
        { "[^\\d\\D]", LM_E_CONFIG, "no text" }, { "(?i)a", LM_E_UNSUPPORTED, "kind of group" },
    };
    for (int i = 0; i < LM_COUNT(bad); i++) { lm_grammar *g; LM_CHECK_ERR(ctx, lm_grammar_new(&g, ctx, "regex", "test", bad[i].text, strlen(bad[i].text)), bad[i].e, bad[i].why); }
}
/* Texts that PyPI jsonschema accepts and refuses (tools/fixtures/grammar.py). */
static void test_schemas(void) {
    setup();
    json_t *all, *c, *t;
    size_t i, k;
    int good = 0, bad = 0, refused = 0;
    LM_NEED_OK(ctx, lm_json_load(ctx, LM_FIXTURES "/grammar/schemas.json", 0, &all));
    json_array_foreach(json_object_get(all, "cases"), i, c) {
        char *s = json_dumps(json_object_get(c, "schema"), JSON_ENCODE_ANY);
        lm_grammar *g;
        const lm_err e = lm_grammar_new(&g, ctx, "schema", "schema", s, strlen(s));
        if (e) { lm_t_fail++; printf("%s: %s\n", s, lm_error(ctx)); free(s); continue; }
        json_array_foreach(json_object_get(c, "good"), k, t)
            if (says(g, json_string_value(t), json_string_length(t)) == 2) good++; else { lm_t_fail++; printf("%s: %s satisfies it\n", s, json_string_value(t)); }
        json_array_foreach(json_object_get(c, "bad"), k, t)
            if (says(g, json_string_value(t), json_string_length(t)) != 2) bad++; else { lm_t_fail++; printf("%s: %s does not satisfy it\n", s, json_string_value(t)); }
        lm_grammar_free(g);
        free(s);
    }
    json_array_foreach(json_object_get(all, "refused"), i, c) {
        char *s = json_dumps(json_object_get(c, "schema"), JSON_ENCODE_ANY);
        const char *why = json_string_value(json_object_get(c, "why"));
        lm_grammar *g;
        if (!lm_grammar_new(&g, ctx, "schema", "schema", s, strlen(s))) { lm_t_fail++; printf("%s was not refused (%s)\n", s, why); lm_grammar_free(g); }
        else if (!strstr(lm_error(ctx), why)) { lm_t_fail++; printf("%s: %s; wanted %s\n", s, lm_error(ctx), why); }
        else refused++;
        free(s);
    }
    if (getenv("LM_GRAMMAR_COUNTS")) printf("%d texts accepted, %d texts rejected, %d schemas refused\n", good, bad, refused);
    LM_CHECK(good > 100 && bad > 1000 && refused > 20);
    lm_json_free(all);
}
/* What is made to be large: a clear error or a small automaton, soon. */
static void test_limits(void) {
    setup();
    lm_str s = { .ctx = ctx };
    lm_grammar *g;
    lm_str_puts(&s, "root ::= ");
    for (int i = 0; i < 1000; i++) lm_str_putc(&s, '(');
    LM_CHECK_ERR(ctx, lm_grammar_new(&g, ctx, "gbnf", "test", s.p, s.n), LM_E_RANGE, "too deep");
    lm_str_clear(&s);
    lm_str_puts(&s, "root ::= ((((\"a\"{1000}){1000}){1000}){1000}){1000}");
    LM_CHECK_OK(ctx, lm_grammar_new(&g, ctx, "gbnf", "test", s.p, s.n));
    LM_CHECK(lm_grammar_size_of(g).states < 100 && says(g, "aaaa", 4) == 1);
    lm_grammar_free(g);
    lm_str_clear(&s);
    lm_str_puts(&s, "root ::= \"a\"");
    for (int i = 0; i < 300000; i++) lm_str_puts(&s, " \"a\"");
    LM_CHECK_ERR(ctx, lm_grammar_new(&g, ctx, "gbnf", "test", s.p, s.n), LM_E_RANGE, "too large");
    lm_str_clear(&s);                                                /* deterministic, it has 2^20 states */
    lm_str_puts(&s, "(a|b)*a(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)");
    LM_CHECK_OK(ctx, lm_grammar_new(&g, ctx, "regex", "test", s.p, s.n));
    LM_CHECK(says(g, "abbbbbbbbbbbbbbbbbbbb", 21) == 2 && says(g, "bbbbbbbbbbbbbbbbbbbbb", 21) == 1);
    lm_grammar_free(g);
    lm_str_clear(&s);
    for (int i = 0; i < 300; i++) lm_str_puts(&s, "{\"allOf\":[");
    LM_CHECK(lm_grammar_new(&g, ctx, "schema", "test", s.p, s.n) != LM_OK);
    lm_str_clear(&s);                                                /* every level twice: 2^40 if written out */
    lm_str_puts(&s, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{");
    for (int i = 0; i < 40; i++) lm_str_printf(&s, "\"d%d\":{\"type\":\"array\",\"prefixItems\":[{\"$ref\":\"#/$defs/d%d\"},{\"$ref\":\"#/$defs/d%d\"}]},", i, i + 1, i + 1);
    lm_str_puts(&s, "\"d40\":{\"type\":\"null\"}}}");
    LM_CHECK_OK(ctx, lm_grammar_new(&g, ctx, "schema", "test", s.p, s.n));
    lm_grammar_free(g);
    lm_str_clear(&s);
    lm_str_puts(&s, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{");
    for (int i = 0; i < 40; i++) lm_str_printf(&s, "\"d%d\":{\"allOf\":[{\"$ref\":\"#/$defs/d%d\"},{\"$ref\":\"#/$defs/d%d\"}]},", i, i + 1, i + 1);
    lm_str_puts(&s, "\"d40\":{\"type\":\"null\"}}}");
    LM_CHECK_OK(ctx, lm_grammar_new(&g, ctx, "schema", "test", s.p, s.n));
    LM_CHECK(says(g, "null", 4) == 2 && says(g, "1", 1) == 0);
    lm_grammar_free(g);
    lm_str_free(&s);
}
/* The nth allocation fails: an error, nothing leaked, and the next attempt works. */
static void test_memory(void) {
    setup();
    static const char text[] = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"pattern\":\"^[a-z]+$\"},\"b\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"number\",\"minimum\":2}]}},\"additionalProperties\":true}";
    static const char doc[] = "{\"a\": \"xyz\", \"b\": {\"b\": 12.5, \"other\": [1, {}]}}";
    vocabulary();
    const int32_t eos = V - 1;
    lm_ledger before, after;
    lm_mem_ledger(ctx, &before);
    for (uint64_t n = 1;; n++) {
        lm_grammar *g = NULL; lm_trie *t = NULL; lm_masker *m = NULL; lm_matcher *x = NULL;
        const uint32_t *mask;
        bool ok = false;
        lm_mem_fail_at(ctx, n, false);
        lm_err e = lm_grammar_new(&g, ctx, "schema", "test", text, sizeof text - 1);
        if (!e) e = lm_trie_new(&t, ctx, piece, V, &eos, 1);
        if (!e) e = lm_masker_new(&m, ctx, g, t);
        if (!e) e = lm_matcher_new(&x, m);
        if (!e) e = lm_matcher_mask(x, &mask);
        if (!e) e = lm_matcher_bytes(x, doc, sizeof doc - 1, &ok);
        if (!e) e = lm_matcher_mask(x, &mask);
        lm_mem_fail_at(ctx, 0, false);
        if (e && x) LM_CHECK_OK(ctx, lm_matcher_mask(x, &mask));
        lm_matcher_free(x); lm_masker_free(m); lm_trie_free(t); lm_grammar_free(g);
        if (!e) { LM_CHECK(ok && n > 50); break; }
        if (n > 5000) { LM_CHECK(!"it ends"); break; }
    }
    lm_mem_ledger(ctx, &after);
    LM_CHECK(after.total_now == before.total_now);
}
LM_TEST_MAIN(LM_T1(test_masks), LM_T1(test_wide_masks), LM_T1(test_gbnf), LM_T1(test_regex), LM_T1(test_schemas), LM_T1(test_limits), LM_T1(test_memory))
