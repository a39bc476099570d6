/* test_speculate.c — guesses change nothing: with any draft, good or bad, the tokens are those without, greedy and sampled, for several texts side by side and under a
 * grammar; how many are computed; and their distribution is the model's own (chi-square over 100 000 texts, seeds fixed). */
#include <math.h>
#include "infer/generate.h"
#include "infer/translate.h"
#include "test.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { FEW = 1 };                                                      /* a tenth of the texts: sanitizers look at memory, not at statistics */
#else
enum { FEW = 0 };
#endif
enum { V = 12, CONTEXT = 64 };
typedef struct { lm_store *store; lm_cfg c; lm_engine *e; lm_tok *tok; } model;      /* tok: as a draft; NULL: the model's */
static lm_ctx *ctx;
static lm_tok *tok, *turned, *pairs;                                   /* a to l; the same letters with other ids; letters, and tokens of two of them */
enum { V_PAIRS = V + 36 };
static bool setup(void) {
    static const char text[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"d\":3,\"e\":4,\"f\":5,\"g\":6,\"h\":7,\"i\":8,\"j\":9,\"k\":10,\"l\":11},\"merges\":[]}}";
    if (ctx) return true;
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return false;
    char other[4096], merges[2048] = "";
    int n = snprintf(other, sizeof other, "{\"model\":{\"type\":\"BPE\",\"vocab\":{"), m = 0;
    for (int i = 0; i < V; i++) n += snprintf(other + n, sizeof other - (size_t)n, "%s\"%c\":%d", i ? "," : "", 'a' + V - 1 - i, i);
    const int letters = n;
    n += snprintf(other + n, sizeof other - (size_t)n, "},\"merges\":[]}}");
    if (lm_tok_open_mem(ctx, "tokenizer.json", text, sizeof text - 1, NULL, &tok) || lm_tok_open_mem(ctx, "tokenizer.json", other, (size_t)n, NULL, &turned)) return false;
    n = letters;
    for (int i = 0; i < V_PAIRS - V; i++) {
        n += snprintf(other + n, sizeof other - (size_t)n, ",\"%c%c\":%d", 'a' + i / 6, 'a' + 2 * (i % 6), V + i);
        m += snprintf(merges + m, sizeof merges - (size_t)m, "%s\"%c %c\"", i ? "," : "", 'a' + i / 6, 'a' + 2 * (i % 6));
    }
    n += snprintf(other + n, sizeof other - (size_t)n, "},\"merges\":[%s]}}", merges);
    return !lm_tok_open_mem(ctx, "tokenizer.json", other, (size_t)n, NULL, &pairs);
}
static lm_err model_of(model *m, int64_t vocab, int d, int layers, uint64_t seed, int64_t seqs) {
    *m = (model){ .c = { .model = lm_model_by_name("llama"), .vocab = vocab, .d = d, .n_layer = layers, .n_head = 2, .n_kv = 1, .d_head = d / 2, .d_ff = 2 * d, .max_pos = CONTEXT, .eps = 1e-5,
                         .init_std = 0.6, .tie = true, .bos = -1, .hf_type = "llama" } };
    m->c.rope.d_head = d / 2; m->c.rope.base = 10000; m->c.rope.max_pos = CONTEXT;
    LM_TRY(lm_store_new(&m->store, ctx));
    LM_TRY(lm_model_init(ctx, &m->c, m->store, seed));
    return lm_engine_new(&m->e, ctx, &m->c, m->store, &(lm_engine_opts){ .max_seqs = seqs, .chunk = 64, .mm = LM_F32, .kv = LM_F32 });
}
static lm_err model_new(model *m, int d, int layers, uint64_t seed, int64_t seqs) { return model_of(m, V, d, layers, seed, seqs); }
/* The same model under `turned`: rows of the embedding, which is the head too, in the other order. */
static lm_err model_turned(model *m, int d, int layers, uint64_t seed, int64_t seqs) {
    lm_tensor t;
    LM_TRY(model_new(m, d, layers, seed, seqs));
    if (!lm_store_get(m->store, "model.embed_tokens.weight", &t)) return LM_E_NOTFOUND;
    for (int i = 0; i < V / 2; i++)
        for (int k = 0; k < d; k++) {
            float *a = (float *)t.data + i * d + k, *b = (float *)t.data + (V - 1 - i) * d + k, x = *a;
            *a = *b; *b = x;
        }
    return LM_OK;
}
static void model_free(model *m) { lm_engine_free(m->e); lm_store_free(m->store); }
/* draft: NULL none, or the model; m itself means lookup. */
static lm_err write_text(const model *m, const model *draft, const lm_generate_opts *o, lm_generation *g) {
    static const int32_t prompt[] = { 3, 1, 4 };
    lm_generate_opts go = *o;
    if (draft) {
        const lm_proposer_opts po = { .lines = o->n, .sample = o->sample, .masker = o->masker, .target = m->e, .tok = tok, .draft = draft->e, .draft_tok = draft->tok ? draft->tok : tok };
        LM_TRY(lm_proposer_open(&go.proposer, ctx, draft == m ? "lookup" : "draft", &po));
    }
    const lm_err e = lm_generate(m->e, tok, prompt, 3, &go, g);
    lm_proposer_free(go.proposer);
    return e;
}
static void test_same_tokens(void) {
    if (!setup()) exit(1);
    enum { LINES = 3 };
    enum { DRAFTS = 6 };
    model big, twin, other, twin_turned, mute, two;
    const model *const draft[DRAFTS] = { &twin, &other, &big /* lookup */, &twin_turned, &two, &mute };
    LM_NEED_OK(ctx, model_turned(&twin_turned, 16, 2, 5, LINES)); twin_turned.tok = turned;      /* always right, in another vocabulary */
    LM_NEED_OK(ctx, model_of(&two, V_PAIRS, 8, 1, 9, LINES)); two.tok = pairs;                   /* through text */
    LM_NEED_OK(ctx, model_turned(&mute, 8, 1, 9, LINES)); mute.tok = turned;                     /* seldom right */
    LM_NEED_OK(ctx, model_new(&big, 16, 2, 5, LINES));
    LM_NEED_OK(ctx, model_new(&twin, 16, 2, 5, LINES));                /* always right */
    LM_NEED_OK(ctx, model_new(&other, 8, 1, 9, LINES));                /* seldom */
    lm_grammar *g; lm_trie *trie; lm_masker *mk;
    static const char rules[] = "root ::= [a-d]{3} ([e-h] [a-l]){5,20} \"l\"";
    LM_NEED_OK(ctx, lm_grammar_new(&g, ctx, "gbnf", "test", rules, strlen(rules)));
    LM_NEED_OK(ctx, lm_generate_trie(&trie, big.e, tok));
    LM_NEED_OK(ctx, lm_masker_new(&mk, ctx, g, trie));
    lm_matcher *at;
    int64_t guessed[DRAFTS] = {0}, came[DRAFTS] = {0};
    for (int k = 0; k < (LM_T_WATCHED ? 48 : 96); k++) {
        lm_generate_opts o = { .max_tokens = 5 + k / 2, .guess_always = k % 7 != 0, .n = 1 + k % LINES, .sample = lm_sample_defaults(), .masker = k % 4 == 3 ? mk : NULL, .guesses = 1 + k % 9, .want_logprobs = k % 5 == 0, .top_logprobs = k % 5 ? 0 : 2 };
        const char *stop[] = { "ef" };
        o.sample.seed = (uint64_t)k;
        if (k % 2) o.sample.temperature = 0; else o.sample.temperature = 1.3;
        if (k % 3 == 1) { o.sample.repetition = 1.2; o.sample.dry = 0.8; o.sample.dry_base = 1.75; o.sample.dry_length = 2; }
        if (k % 6 == 2) { o.sample.xtc_probability = 0.5; o.sample.xtc_threshold = 0.1; o.sample.top_k = 7; }
        if (k % 8 == 5) { o.stop = stop; o.n_stop = 1; }
        lm_generation plain, with;
        LM_NEED_OK(ctx, write_text(&big, NULL, &o, &plain));
        for (int d = 0; d < DRAFTS; d++) {
            LM_NEED_OK(ctx, write_text(&big, draft[d], &o, &with));
            for (int i = 0; i < o.n; i++) {
                const lm_generated *a = &plain.out[i], *b = &with.out[i];
                bool same = a->n == b->n && a->why == b->why && a->text_bytes == b->text_bytes && !memcmp(a->tokens, b->tokens, (size_t)a->n * 4) && !memcmp(a->text, b->text, a->text_bytes);
                if (same && a->logprobs) same = !memcmp(a->logprobs, b->logprobs, (size_t)a->n * 4) && !memcmp(a->top_lp, b->top_lp, (size_t)a->n * 8);
                if (!same) { lm_t_fail++; printf("case %d, draft %d, text %d: \"%.*s\" without, \"%.*s\" with guesses\n", k, d, i, (int)a->text_bytes, a->text, (int)b->text_bytes, b->text); }
                if (b->why == LM_STOP_LENGTH && o.guess_always) { guessed[d] += b->drafted; came[d] += b->kept; }      /* else the end made guesses void */
                LM_CHECK(b->runs <= b->n && (b->n < 3 || d == 2 || d == 4 || b->drafted > 0));
                if (!o.masker) continue;
                bool ok;
                LM_NEED_OK(ctx, lm_matcher_new(&at, mk));
                LM_CHECK_OK(ctx, lm_matcher_bytes(at, a->text, a->text_bytes, &ok));
                LM_CHECK(ok && (a->why == LM_STOP_LENGTH || a->why == LM_STOP_STRING || lm_matcher_complete(at)));
                lm_matcher_free(at);
            }
            lm_generation_free(&with);
        }
        lm_generation_free(&plain);
    }
    LM_CHECK(came[3] == guessed[3] && guessed[3] == guessed[0]);       /* so is the one that speaks otherwise, greedy and drawn */
    LM_CHECK(came[5] == came[1] && guessed[5] == guessed[1]);
    LM_CHECK(guessed[4] > 200 && came[4] > 0 && came[4] < guessed[4]);
    LM_CHECK(came[0] == guessed[0] && guessed[0] > 200);               /* the twin is never wrong */
    if (getenv("LM_SPECULATE_COUNTS")) for (int d = 0; d < DRAFTS; d++) printf("draft %d: %lld of %lld\n", d, (long long)came[d], (long long)guessed[d]);
    LM_CHECK(came[1] < guessed[1] && came[1] > 0 && guessed[2] > 50);
    LM_CHECK(lm_engine_free_pages(big.e) == 3 && lm_engine_free_pages(other.e) == 3);
    lm_masker_free(mk); lm_trie_free(trie); lm_grammar_free(g);
    model_free(&big); model_free(&twin); model_free(&other); model_free(&twin_turned); model_free(&two); model_free(&mute);
}
/* p of the first tokens, by the engine alone. */
typedef struct { double p[V]; } probs;
static lm_err softmax(void *ud, int r, int64_t i, const float *z) {
    probs *q = ud; (void)r; (void)i;
    double sum = 0;
    for (int v = 0; v < V; v++) sum += q->p[v] = exp((double)z[v]);
    for (int v = 0; v < V; v++) q->p[v] /= sum;
    return LM_OK;
}
static void after(const model *m, const int32_t *ids, int64_t n, probs *q) {
    lm_session *s;
    LM_NEED_OK(ctx, lm_session_new(&s, m->e));
    LM_CHECK_OK(ctx, lm_engine_run(m->e, &(lm_request){ s, ids, n, LM_WANT_LAST }, 1, softmax, q));
    lm_session_free(s);
}
static void distribution(const char *what, int vocab, lm_tok *t, uint64_t first_seed, int calls) {
    enum { LINES = 50, TOKENS = 4 };
    model big, small;
    LM_NEED_OK(ctx, model_new(&big, 8, 1, 21, LINES));
    LM_NEED_OK(ctx, model_of(&small, vocab, 8, 1, 22, LINES));
    small.tok = t;
    /* guesses are made of the second to the fourth; the last two depend on what was drawn before */
    static int64_t count[V][V];
    memset(count, 0, sizeof count);
    int64_t guessed = 0, came = 0;
    for (int c = 0; c < calls; c++) {
        lm_generate_opts o = { .max_tokens = TOKENS, .n = LINES, .guesses = 4, .guess_always = true, .sample = { .temperature = 1, .top_p = 1, .repetition = 1, .seed = first_seed + (uint64_t)c } };
        lm_generation g;
        LM_NEED_OK(ctx, write_text(&big, &small, &o, &g));
        for (int i = 0; i < LINES; i++) { count[g.out[i].tokens[2]][g.out[i].tokens[3]]++; guessed += g.out[i].drafted; came += g.out[i].kept; }
        lm_generation_free(&g);
    }
    double p[V][V] = {{0}};
    int32_t ids[6] = { 3, 1, 4 };
    probs a, b, c3, d;
    after(&big, ids, 3, &a);
    for (int i = 0; i < V; i++) {
        ids[3] = i; after(&big, ids, 4, &b);
        for (int k = 0; k < V; k++) {
            ids[4] = k; after(&big, ids, 5, &c3);
            for (int l = 0; l < V; l++) {
                ids[5] = l; after(&big, ids, 6, &d);
                for (int m = 0; m < V; m++) p[l][m] += a.p[i] * b.p[k] * c3.p[l] * d.p[m];
            }
        }
    }
    double chi = 0, rest_p = 0, rest_n = 0;
    const double all = (double)LINES * calls;
    int df = -1;
    for (int l = 0; l < V; l++)
        for (int m = 0; m < V; m++) {
            if (p[l][m] * all < 8) { rest_p += p[l][m]; rest_n += (double)count[l][m]; continue; }
            const double e = p[l][m] * all, x = (double)count[l][m] - e;
            chi += x * x / e; df++;
        }
    if (rest_p * all >= 8) { chi += (rest_n - rest_p * all) * (rest_n - rest_p * all) / (rest_p * all); df++; }
    const double w = (cbrt(chi / df) - (1 - 2.0 / (9 * df))) / sqrt(2.0 / (9 * df));        /* Wilson-Hilferty */
    if (w > 4.5 || df < (FEW ? 20 : 60)) { lm_t_fail++; printf("%s: chi-square %g with %d degrees of freedom, %g sigma\n", what, chi, df, w); }
    if (getenv("LM_SPECULATE_COUNTS")) printf("%s: chi-square %.1f, %d degrees of freedom (%.2f sigma); %lld of %lld guesses came true\n", what, chi, df, w, (long long)came, (long long)guessed);
    LM_CHECK(guessed >= LINES * calls && came > guessed / 20 && came < guessed);
    model_free(&big); model_free(&small);
}
static void test_distribution(void) {
    if (!setup()) exit(1);
    distribution("the same vocabulary", V, NULL, 0, FEW ? 200 : 2000);
    distribution("the same letters, other ids", V, turned, 100000, FEW ? 200 : 500);
    distribution("through text", V_PAIRS, pairs, 200000, FEW ? 200 : 2000);
}
/* Between vocabularies as they are: what is translated is the same text. */
static void test_translation(void) {
    if (!setup()) exit(1);
    static const char *const files[] = { "gpt2.json", "llama3.json", "qwen2.json", "llama2.json", "spm.model" };
    static const char *const texts[] = { "Hello, world! It's 1984 again.", " Stra\303\237e, na\xc3\xafve \xe2\x80\x94 \xe6\x97\xa5\xe6\x9c\xac\n\tif (x)  y += 10;\n", "unbelievably" };
    enum { N = LM_COUNT(files) };
    lm_tok *t[N];
    for (int i = 0; i < N; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/tok/%s", LM_FIXTURES, files[i]);
        LM_NEED_OK(ctx, lm_tok_open(ctx, path, NULL, &t[i]));
    }
    int pairs_seen = 0;
    for (int a = 0; a < N; a++)
        for (int b = 0; b < N; b++) {
            lm_translator *x;
            const lm_err e = lm_translator_new(&x, ctx, t[a], lm_tok_vocab(t[a]), t[b], lm_tok_vocab(t[b]));
            if (e == LM_E_MISMATCH) printf("%s to %s: %s\n", files[a], files[b], lm_error(ctx));
            LM_NEED_OK(ctx, e);
            pairs_seen++;
            LM_CHECK(lm_translator_shared(x) >= 0 && lm_translator_shared(x) <= 1 && (a != b || lm_translator_shared(x) > 0.9));
            for (int32_t id = 0; id < lm_tok_vocab(t[b]); id++) {
                const int32_t our = lm_translator_ours(x)[id];
                size_t n, m; const char *p, *q;
                if (our < 0) continue;
                p = lm_tok_piece(t[b], id, &n); q = lm_tok_piece(t[a], our, &m);
                LM_CHECK(n == m && !memcmp(p, q, n) && lm_translator_theirs(x)[our] == id);
            }
            for (int k = 0; k < LM_COUNT(texts); k++) {
                lm_tok_buf ours = { .ctx = ctx }, theirs = { .ctx = ctx }, on = { .ctx = ctx };
                lm_str s = { .ctx = ctx }, w = { .ctx = ctx };
                if (lm_tok_encode(t[a], texts[k], strlen(texts[k]), LM_TOK_ADD, &ours)) { lm_error_clear(ctx); continue; }
                LM_CHECK_OK(ctx, lm_translate(x, ours.id, (int64_t)ours.n, &theirs));
                LM_CHECK_OK(ctx, lm_tok_decode(t[b], theirs.id, theirs.n, 0, &s));
                LM_CHECK_OK(ctx, lm_tok_decode(t[a], ours.id, ours.n, 0, &w));
                const char *p = s.p ? s.p : "", *q = w.p ? w.p : "";
                while (*p == ' ') p++;                                         /* SentencePiece begins a text with a blank of its own */
                while (*q == ' ') q++;
                if (strcmp(p, q)) { lm_t_fail++; printf("%s to %s: \"%s\" became \"%s\"\n", files[a], files[b], q, p); }
                const size_t half = ours.n / 2;
                size_t bytes = 0, len;
                LM_CHECK_OK(ctx, lm_translate_on(x, ours.id, (int64_t)half, " and so on, 7 times", 19, &on));
                for (size_t i = 0; i < on.n; i++) { lm_tok_piece(t[a], on.id[i], &len); bytes += len; }
                LM_CHECK(!on.n || bytes == 19);
                LM_CHECK(on.n > 0 || a == 3 || a == 4);
                lm_tok_buf_free(&ours); lm_tok_buf_free(&theirs); lm_tok_buf_free(&on); lm_str_free(&s); lm_str_free(&w);
            }
            lm_translator_free(x);
        }
    LM_CHECK(pairs_seen == N * N);
    for (int i = 0; i < N; i++) lm_tok_free(t[i]);
}
static void test_refusals(void) {
    if (!setup()) exit(1);
    model big, small;
    LM_NEED_OK(ctx, model_new(&big, 8, 1, 1, 1));
    LM_NEED_OK(ctx, model_new(&small, 8, 1, 2, 1));
    static const char text[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"d\":3,\"e\":4,\"f\":5,\"g\":6,\"h\":7,\"i\":8,\"j\":9,\"k\":10,\"m\":11},\"merges\":[]}}";
    lm_tok *t;
    lm_proposer *p;
    LM_NEED_OK(ctx, lm_tok_open_mem(ctx, "tokenizer.json", text, sizeof text - 1, NULL, &t));
    lm_proposer_opts o = { .lines = 1, .sample = lm_sample_defaults(), .target = big.e, .tok = tok, .draft = small.e, .draft_tok = t };
    LM_CHECK_ERR(ctx, lm_proposer_open(&p, ctx, "draft", &o), LM_E_MISMATCH, "the draft's vocabulary cannot write \"l\"");
    o.draft = NULL;
    LM_CHECK_ERR(ctx, lm_proposer_open(&p, ctx, "draft", &o), LM_E_CONFIG, "a draft model is wanted");
    LM_CHECK_ERR(ctx, lm_proposer_open(&p, ctx, "oracle", &o), LM_E_CONFIG, "no proposer is called");
    lm_tok_free(t);
    model_free(&big); model_free(&small);
}
/* The pace: rows that cost little and guesses that come true are computed, those that do not are left, and trust comes back from guesses that were not computed. */
static void saw(lm_pace *p, int fed, double a_row) { lm_pace_saw(p, fed, 1e-3 * (1 + a_row * fed), 8, 1e-6); }
static void test_pace(void) {
    float sure[8], doubt[8];
    for (int i = 0; i < 8; i++) { sure[i] = 0.95f; doubt[i] = 0.1f; }
    lm_pace p = {0};
    LM_CHECK(lm_pace_feed(&p, sure, 8) == 0 && !lm_pace_more(&p, sure, 0, 8));      /* first a run alone */
    saw(&p, 0, 0.3);
    LM_CHECK(lm_pace_feed(&p, sure, 8) == 8 && lm_pace_feed(&p, doubt, 8) <= 1);
    for (int i = 0; i < 20; i++) { lm_pace_judged(&p, sure[0], false); saw(&p, 1, 0.3); }
    LM_CHECK(lm_pace_feed(&p, sure, 8) == 0);
    for (int i = 0; i < 12; i++) { lm_pace_judged(&p, sure[0], true); saw(&p, 0, 0.3); }      /* judged only */
    LM_CHECK(lm_pace_feed(&p, sure, 8) > 0);
    for (int i = 0; i < 40; i++) { lm_pace_judged(&p, doubt[0], true); lm_pace_judged(&p, sure[0], true); saw(&p, 8, 0.3); }
    LM_CHECK(lm_pace_feed(&p, doubt, 8) >= 3);                            /* what a belief is worth is seen, not believed */
    for (int i = 0; i < 400; i++) saw(&p, i % 9, 1.2);                    /* rows that cost more than runs */
    LM_CHECK(lm_pace_feed(&p, sure, 8) == 0);
    lm_pace d = {0};                                                      /* guesses that cost as much as a run: asked for at times, to see */
    for (int i = 0; i < 40; i++) { lm_pace_judged(&d, 0.5f, i % 2); lm_pace_saw(&d, 1, 1.1e-3, 1, 1e-3); }
    LM_CHECK(!lm_pace_more(&d, sure, 0, 8));
    for (int i = 0; i < 16; i++) lm_pace_saw(&d, 0, 1e-3, 0, 0);
    LM_CHECK(lm_pace_more(&d, sure, 0, 8) && !lm_pace_more(&d, sure, 1, 8));
    lm_pace f = {0};
    lm_pace_saw(&f, 0, 1e-3, 0, 0);                                       /* cheap ones that come true: as many as may be; behind a doubtful one no more */
    for (int i = 0; i < 40; i++) { lm_pace_judged(&f, 0.95f, true); lm_pace_judged(&f, 0.1f, i % 8 == 0); lm_pace_saw(&f, 4, 1.2e-3, 4, 4e-5); }
    LM_CHECK(lm_pace_more(&f, sure, 3, 8) && !lm_pace_more(&f, sure, 8, 8) && !lm_pace_more(&f, doubt, 2, 8));
}
LM_TEST_MAIN(LM_T1(test_pace), LM_T1(test_same_tokens), LM_T1(test_distribution), LM_T1(test_translation), LM_T1(test_refusals))
