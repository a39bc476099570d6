/* test_sample.c — every sampler against its definition, computed here the slow way, and the draw against the distribution (chi-square,
 * fixed seeds). */
#include <math.h>
#include "sample/sample.h"
#include "test.h"
enum { V = 40, DRAWS = 40000 };
static lm_ctx *ctx;
static float z[V];
static void setup(void) {
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) exit(1);
    for (int i = 0; i < V; i++) z[i] = 2.5f * lm_rng_normal(lm_rng_of(3, "logits"), (uint64_t)i);
    z[7] = z[3];                                                    /* a tie */
}
static lm_sample_opts plain(void) { return (lm_sample_opts){ .temperature = 1, .top_p = 1, .repetition = 1, .seed = 9 }; }
/* p of the definition: keep flags and temperature → expected probabilities. */
static void expect(const double *logit, const bool *keep, double *p) {
    double top = -1e300, sum = 0;
    for (int i = 0; i < V; i++) if (keep[i] && logit[i] > top) top = logit[i];
    for (int i = 0; i < V; i++) sum += p[i] = keep[i] ? exp(logit[i] - top) : 0;
    for (int i = 0; i < V; i++) p[i] /= sum;
}
static void check(const char *what, const lm_sample_opts *o, const double *p, const int32_t *history, int n_history) {
    lm_sampler *s;
    LM_NEED_OK(ctx, lm_sampler_new(&s, ctx, V, o));
    for (int i = 0; i < n_history; i++) LM_CHECK_OK(ctx, lm_sampler_accept(s, history[i]));
    int64_t count[V] = {0};
    for (int64_t d = 0; d < DRAWS; d++) { int32_t id; LM_NEED_OK(ctx, lm_sampler_pick(s, z, d, &id)); count[id]++; }
    double chi = 0, rest_p = 0, rest_n = 0; int df = -1;
    for (int i = 0; i < V; i++) {
        if (p[i] == 0) { if (count[i]) { lm_t_fail++; printf("%s: token %d was drawn and must not be\n", what, i); } continue; }
        if (p[i] * DRAWS < 8) { rest_p += p[i]; rest_n += (double)count[i]; continue; }
        double e = p[i] * DRAWS, x = (double)count[i] - e; chi += x * x / e; df++;
    }
    if (rest_p * DRAWS >= 8) { double e = rest_p * DRAWS; chi += (rest_n - e) * (rest_n - e) / e; df++; }
    /* Wilson-Hilferty: the chance of more than 4.5 sigma is 3e-6, and the seed is fixed */
    double k = df, w = k > 0 ? (cbrt(chi / k) - (1 - 2 / (9 * k))) / sqrt(2 / (9 * k)) : 0;
    if (w > 4.5) { lm_t_fail++; printf("%s: chi-square %g with %d degrees of freedom\n", what, chi, df); }
    lm_sampler_free(s);
}
static int by_logit(const void *a, const void *b) {
    const int x = *(const int *)a, y = *(const int *)b;
    return z[x] != z[y] ? (z[x] < z[y] ? 1 : -1) : x - y;
}
static void test_temperature(void) {
    setup();
    for (double t = 0.5; t <= 2; t *= 2) {
        double l[V], p[V]; bool keep[V];
        for (int i = 0; i < V; i++) { l[i] = (double)z[i] / t; keep[i] = true; }
        expect(l, keep, p);
        lm_sample_opts o = plain(); o.temperature = t;
        check("temperature", &o, p, NULL, 0);
    }
}
static void truncated(const char *what, int64_t k, double top_p, double min_p) {
    int order[V]; double l[V], p[V], full[V]; bool keep[V], all[V];
    for (int i = 0; i < V; i++) { order[i] = i; l[i] = (double)z[i]; keep[i] = all[i] = true; }
    qsort(order, V, sizeof *order, by_logit);
    if (k) for (int i = (int)k; i < V; i++) keep[order[i]] = false;
    expect(l, keep, full);
    if (top_p < 1) {
        double acc = 0;
        int i = 0;
        for (; i < V; i++) {
            acc += full[order[i]];
            if (acc >= top_p) break;
        }
        for (i++; i < V; i++) keep[order[i]] = false;
    }
    if (min_p > 0) for (int i = 0; i < V; i++) if (exp(l[i] - l[order[0]]) < min_p) keep[i] = false;
    expect(l, keep, p);
    lm_sample_opts o = plain(); o.top_k = k; o.top_p = top_p; o.min_p = min_p;
    (void)all;
    check(what, &o, p, NULL, 0);
}
static void test_truncations(void) {
    setup();
    truncated("top_k 1", 1, 1, 0); truncated("top_k 3", 3, 1, 0); truncated("top_k 39", 39, 1, 0); truncated("top_k over", 400, 1, 0);
    truncated("top_p .9", 0, 0.9, 0); truncated("top_p .3", 0, 0.3, 0); truncated("top_p 0", 0, 0, 0);
    truncated("min_p .05", 0, 1, 0.05); truncated("min_p 1", 0, 1, 1); truncated("all three", 12, 0.8, 0.02);
}
static void test_penalties_and_bias(void) {
    setup();
    const int32_t history[] = { 3, 5, 5, 5, 11, 3 };
    int times[V] = {0};
    for (int i = 0; i < 6; i++) times[history[i]]++;
    double l[V], p[V]; bool keep[V];
    for (int i = 0; i < V; i++) {
        l[i] = (double)z[i]; keep[i] = i != 2;
        if (times[i]) { l[i] = l[i] > 0 ? l[i] / 1.3 : l[i] * 1.3; l[i] -= 0.4 + 0.2 * times[i]; }
        if (i == 9) l[i] += 1.5;
    }
    expect(l, keep, p);
    lm_sample_opts o = plain();
    const int32_t id[] = { 9, 2 }; const float b[] = { 1.5f, -INFINITY };
    o.repetition = 1.3; o.presence = 0.4; o.frequency = 0.2; o.bias_id = id; o.bias = b; o.n_bias = 2;
    check("penalties and bias", &o, p, history, 6);
    for (int i = 0; i < V; i++) l[i] = (double)z[i];                 /* a window of one sees only the last 3 */
    l[3] = l[3] > 0 ? l[3] / 1.3 : l[3] * 1.3;
    for (int i = 0; i < V; i++) keep[i] = true;
    expect(l, keep, p);
    o = plain(); o.repetition = 1.3; o.penalty_window = 1;
    check("penalty window", &o, p, history, 6);
}
static void test_greedy_repeats_and_refuses(void) {
    setup();
    int best = 0;
    for (int i = 1; i < V; i++) if (z[i] > z[best]) best = i;
    lm_sampler *s; int32_t id, again;
    lm_sample_opts o = plain(); o.temperature = 0;
    LM_NEED_OK(ctx, lm_sampler_new(&s, ctx, V, &o));
    LM_CHECK_OK(ctx, lm_sampler_pick(s, z, 0, &id));
    LM_CHECK(id == best);
    float tie[V] = {0}, bad[V] = {0};
    LM_CHECK_OK(ctx, lm_sampler_pick(s, tie, 0, &id));
    LM_CHECK(id == 0);
    bad[4] = NAN;
    LM_CHECK_ERR(ctx, lm_sampler_pick(s, bad, 0, &id), LM_E_RANGE, "token 4");
    lm_sampler_free(s);
    o = plain();
    LM_NEED_OK(ctx, lm_sampler_new(&s, ctx, V, &o));
    for (int64_t k = 0; k < 50; k++) {
        LM_CHECK_OK(ctx, lm_sampler_pick(s, z, k, &id));
        LM_CHECK_OK(ctx, lm_sampler_pick(s, z, k, &again));
        LM_CHECK(id == again);
    }
    lm_sampler_free(s);
    o.top_p = 2;
    LM_CHECK_ERR(ctx, lm_sampler_new(&s, ctx, V, &o), LM_E_CONFIG, "top_p");
    o = plain(); const int32_t out = V; const float one = 1; o.bias_id = &out; o.bias = &one; o.n_bias = 1;
    LM_CHECK_ERR(ctx, lm_sampler_new(&s, ctx, V, &o), LM_E_CONFIG, "token 40");
    int32_t top[5];
    lm_top(z, V, 5, top);
    int order[V];
    for (int i = 0; i < V; i++) order[i] = i;
    qsort(order, V, sizeof *order, by_logit);
    for (int i = 0; i < 5; i++) LM_CHECK(top[i] == order[i]);
}
/* A token chosen from what lm_peak tells of a row, against the choice from all logits. */
static void test_near(void) {
    enum { W = 3000, POS = 300 };
    static float x[W], row[LM_PEAK_COLS];
    setup();
    lm_sample_opts o[5];
    for (int k = 0; k < 5; k++) { o[k] = lm_sample_defaults(); o[k].seed = 3; }
    o[0].temperature = 0; o[1].top_p = 1; o[2].temperature = 1.2; o[2].min_p = 0.01; o[3].top_p = 0.3; o[4].top_k = 5;
    const lm_rng r = lm_rng_of(11, "near");
    for (int k = 0; k < 5; k++) {
        lm_sampler *s;
        float t, gap;
        int listed = 0;
        LM_CHECK_OK(ctx, lm_sampler_new(&s, ctx, W, &o[k]));
        LM_CHECK(lm_sampler_near(s, &t, &gap) == (k != 4));
        for (int64_t p = 0; p < POS && k != 4; p++) {
            float max = -INFINITY; double sum = 0; int n = 0;
            for (int i = 0; i < W; i++) { x[i] = lm_rng_normal(r, (uint64_t)(p * W + i)) * (p % 3 ? 4.0f : 0.7f); max = x[i] > max ? x[i] : max; }
            for (int i = 0; i < W; i++) {
                if (t > 0) sum += (double)expf((x[i] - max) / t);
                if (x[i] >= max - gap && n++ < LM_PEAK_MOST) { row[3 + n] = (float)i; row[3 + LM_PEAK_MOST + n] = x[i]; }
            }
            row[0] = max; row[1] = (float)sum; row[2] = (float)n; row[3] = 0;
            const lm_peak_row pk = lm_peak_of(row);
            if (n > LM_PEAK_MOST) { int32_t no; LM_CHECK_ERR(ctx, lm_sampler_pick_near(s, &pk, p, &no), LM_E_INTERNAL, "near"); continue; }
            int32_t all, few;
            LM_CHECK_OK(ctx, lm_sampler_pick(s, x, p, &all));
            LM_CHECK_OK(ctx, lm_sampler_pick_near(s, &pk, p, &few));
            if (all != few) { lm_t_fail++; printf("options %d, position %lld: %d from all logits, %d from those near the largest\n", k, (long long)p, all, few); }
            listed++;
        }
        LM_CHECK(k == 4 || listed > POS / 2);
        lm_sampler_free(s);
    }
    row[3] = 1;
    const lm_peak_row pk = lm_peak_of(row);
    lm_sampler *s;
    int32_t id;
    LM_CHECK_OK(ctx, lm_sampler_new(&s, ctx, W, &o[0]));
    LM_CHECK_ERR(ctx, lm_sampler_pick_near(s, &pk, 0, &id), LM_E_RANGE, "not finite");
    lm_sampler_free(s);
}
/* Locally typical: by |surprise - entropy|, the nearest first. */
static double off[V];
static int by_off(const void *a, const void *b) {
    const int x = *(const int *)a, y = *(const int *)b;
    return off[x] != off[y] ? (off[x] < off[y] ? -1 : 1) : by_logit(a, b);
}
static void test_typical(void) {
    setup();
    for (double typical = 0.2; typical < 1; typical += 0.35) {
        double l[V], p[V], full[V], h = 0, acc = 0;
        bool keep[V], all[V];
        int order[V];
        for (int i = 0; i < V; i++) { l[i] = (double)z[i] / 1.5; all[i] = true; keep[i] = false; order[i] = i; }
        expect(l, all, full);
        for (int i = 0; i < V; i++) h -= full[i] * log(full[i]);
        for (int i = 0; i < V; i++) off[i] = fabs(-log(full[i]) - h);
        qsort(order, V, sizeof *order, by_off);
        for (int i = 0; i < V && acc < typical; i++) { keep[order[i]] = true; acc += full[order[i]]; }
        expect(l, keep, p);
        lm_sample_opts o = plain(); o.typical = typical; o.temperature = 1.5;
        check("typical", &o, p, NULL, 0);
    }
}
/* XTC: a mixture of the plain distribution and one without the top choices but for the least of them. */
static void test_xtc(void) {
    setup();
    for (int k = 0; k < 3; k++) {
        const double often = k == 0 ? 1 : 0.4, threshold = k == 2 ? 0.45 : 0.05;      /* k 2: one token at most reaches it, nothing changes */
        double l[V], p[V], full[V], cut[V];
        bool keep[V], all[V];
        int least = -1, reach = 0;
        for (int i = 0; i < V; i++) { l[i] = (double)z[i]; all[i] = keep[i] = true; }
        expect(l, all, full);
        for (int i = 0; i < V; i++) if (full[i] >= threshold) { reach++; if (least < 0 || full[i] < full[least]) least = i; }
        for (int i = 0; i < V; i++) if (reach > 1 && full[i] >= threshold && i != least) keep[i] = false;
        expect(l, keep, cut);
        LM_CHECK(k == 2 ? reach < 2 : reach >= 2);
        for (int i = 0; i < V; i++) p[i] = often * cut[i] + (1 - often) * full[i];
        lm_sample_opts o = plain(); o.xtc_probability = often; o.xtc_threshold = threshold;
        check("xtc", &o, p, NULL, 0);
    }
}
/* DRY by its definition: for every token, the longest run of tokens that ends the history and also stands before an earlier occurrence of it. */
static void test_dry(void) {
    setup();
    static const int32_t history[] = { 1, 2, 3, 4, 9, 2, 3, 4, 5, 7, 8, 2, 3, 7, 30, 2, 3, 4, 7, 1, 2, 3, 4 };
    enum { N = LM_COUNT(history) };
    for (int with_break = 0; with_break < 2; with_break++) {
        uint32_t bits[(V + 31) / 32] = {0};
        if (with_break) bits[0] |= 1u << 3;                            /* no repeat across token 3: only "4" is left, too short to matter */
        double l[V], p[V]; bool keep[V];
        int touched = 0;
        for (int v = 0; v < V; v++) {
            int best = 0;
            for (int at = 1; at < N; at++) {
                int m = 0;
                if (history[at] != v || (with_break && v == 3)) continue;
                while (m < at && history[N - 1 - m] == history[at - 1 - m] && !(with_break && history[N - 1 - m] == 3)) m++;
                if (m > best) best = m;
            }
            keep[v] = true;
            l[v] = (double)z[v];
            if (best >= 2) { l[v] -= 0.8 * pow(1.3, best - 2); touched++; }
        }
        LM_CHECK(touched == (with_break ? 0 : 3));
        expect(l, keep, p);
        lm_sample_opts o = plain(); o.dry = 0.8; o.dry_base = 1.3; o.dry_length = 2; o.dry_break = with_break ? bits : NULL;
        check("dry", &o, p, history, N);
    }
}
static void test_allowed_and_cut_back(void) {
    setup();
    uint32_t mask[(V + 31) / 32] = {0};
    double l[V], p[V]; bool keep[V];
    for (int i = 0; i < V; i++) { l[i] = (double)z[i]; keep[i] = i % 3 == 1; if (keep[i]) mask[i >> 5] |= 1u << (i & 31); }
    expect(l, keep, p);
    lm_sample_opts o = plain();
    lm_sampler *s;
    int64_t count[V] = {0};
    LM_NEED_OK(ctx, lm_sampler_new(&s, ctx, V, &o));
    lm_sampler_allow(s, mask);
    float t, gap;
    LM_CHECK(!lm_sampler_near(s, &t, &gap));
    for (int64_t d = 0; d < DRAWS; d++) { int32_t id; LM_NEED_OK(ctx, lm_sampler_pick(s, z, d, &id)); count[id]++; }
    double chi = 0; int df = -1;
    for (int i = 0; i < V; i++) {
        if (!keep[i]) { LM_CHECK(!count[i]); continue; }
        const double e = p[i] * DRAWS, x = (double)count[i] - e;
        if (e >= 8) { chi += x * x / e; df++; }
    }
    LM_CHECK(df > 5 && chi < df + 6 * sqrt(2.0 * df));
    memset(mask, 0, sizeof mask);
    int32_t id;
    LM_CHECK_ERR(ctx, lm_sampler_pick(s, z, 0, &id), LM_E_RANGE, "every token is forbidden");
    lm_sampler_free(s);
    o.temperature = 0; o.presence = 50;                                /* the best token, then what comes when it was seen, then as if it had not been */
    int32_t first, second, again;
    LM_NEED_OK(ctx, lm_sampler_new(&s, ctx, V, &o));
    LM_CHECK_OK(ctx, lm_sampler_pick(s, z, 0, &first));
    LM_CHECK_OK(ctx, lm_sampler_accept(s, first));
    LM_CHECK_OK(ctx, lm_sampler_pick(s, z, 1, &second));
    lm_sampler_truncate(s, 0);
    LM_CHECK_OK(ctx, lm_sampler_pick(s, z, 0, &again));
    LM_CHECK(first != second && again == first && lm_sampler_len(s) == 0);
    lm_sampler_free(s);
    o = plain(); o.typical = 1.5;
    LM_CHECK_ERR(ctx, lm_sampler_new(&s, ctx, V, &o), LM_E_CONFIG, "typical_p");
    o = plain(); o.xtc_threshold = -1;
    LM_CHECK_ERR(ctx, lm_sampler_new(&s, ctx, V, &o), LM_E_CONFIG, "xtc");
    o = plain(); o.dry = 1; o.dry_base = 0;
    LM_CHECK_ERR(ctx, lm_sampler_new(&s, ctx, V, &o), LM_E_CONFIG, "dry_base");
}
/* Two distributions drawn with the same numbers agree at least (1 - d) / (1 + d) of the time (Daliri et al. 2024): what speculation lives on. */
static void test_shared_numbers(void) {
    setup();
    float y[V];
    lm_sample_opts o = plain();
    lm_sampler *s;
    LM_NEED_OK(ctx, lm_sampler_new(&s, ctx, V, &o));
    for (int i = 0; i < V; i++) y[i] = z[i] + 0.7f * lm_rng_normal(lm_rng_of(8, "other"), (uint64_t)i);
    double a[V], b[V], l[V], apart = 0; bool all[V];
    for (int i = 0; i < V; i++) { l[i] = (double)z[i]; all[i] = true; }
    expect(l, all, a);
    for (int i = 0; i < V; i++) l[i] = (double)y[i];
    expect(l, all, b);
    for (int i = 0; i < V; i++) apart += 0.5 * fabs(a[i] - b[i]);
    int same = 0;
    for (int64_t d = 0; d < DRAWS; d++) {
        int32_t i, k;
        LM_NEED_OK(ctx, lm_sampler_pick(s, z, d, &i)); LM_NEED_OK(ctx, lm_sampler_pick(s, y, d, &k));
        same += i == k;
    }
    const double share = same / (double)DRAWS;
    LM_CHECK(apart > 0.1 && share > (1 - apart) / (1 + apart) - 0.01 && share <= 1 - apart + 0.01);
    lm_sampler_free(s);
}
LM_TEST_MAIN(LM_T1(test_typical), LM_T1(test_xtc), LM_T1(test_dry), LM_T1(test_allowed_and_cut_back), LM_T1(test_shared_numbers), LM_T1(test_near), LM_T1(test_temperature), LM_T1(test_truncations), LM_T1(test_penalties_and_bias), LM_T1(test_greedy_repeats_and_refuses))
