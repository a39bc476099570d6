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
LM_TEST_MAIN(LM_T1(test_near), LM_T1(test_temperature), LM_T1(test_truncations), LM_T1(test_penalties_and_bias), LM_T1(test_greedy_repeats_and_refuses))
