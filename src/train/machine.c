/* machine.c — see machine.h. */
#include <string.h>
#include "base/pool.h"
#include "device/cpu.h"
#include "device/probe.h"
#include "op/matmul/matmul.h"
#include "train/machine.h"

static lm_err product(lm_graph *g, lm_dtype mm, int64_t m, int64_t n, int64_t k) {
    lm_type tx = LM_TYPE(LM_F32, m, k), tw = LM_TYPE(mm == LM_BF16 ? LM_BF16 : LM_F32, n, k);
    lm_value *x = lm_input(g, "x", &tx), *w = lm_state(g, "w", &tw);
    lm_graph_output(g, "c", lm_matmul_mm(g, x, w, NULL, false, true, mm));
    return lm_graph_err(g);
}
lm_err lm_machine_matmul(lm_ctx *ctx, lm_dtype mm, int64_t m, int64_t n, int64_t k, bool panels, double seconds, double *flops) {
    lm_store *store = NULL; lm_graph *g = NULL; lm_plan *p = NULL;
    lm_err err;
    LM_GOTO(lm_store_new(&store, ctx), done);
    lm_type w = LM_TYPE(mm == LM_BF16 ? LM_BF16 : LM_F32, n, k);
    LM_GOTO(lm_store_add(store, "w", &w, !panels ? LM_PLAIN : mm == LM_BF16 ? LM_PANEL16X2 : LM_PANEL16, LM_MEM_WEIGHTS, NULL), done);
    LM_GOTO(lm_graph_new(&g, ctx, store), done);
    LM_GOTO(product(g, mm, m, n, k), done);
    LM_GOTO(lm_plan_new(&p, ctx, g, &(lm_plan_opts){ .store = store, .create_states = true, .state_tag = LM_MEM_WEIGHTS }), done);
    float *x = lm_plan_input(p, "x", NULL);
    for (int64_t i = 0; i < m * k; i++) x[i] = (float)(i % 13) * 0.01f;
    double best = 1e30, end = lm_now() + seconds;
    for (int i = 0; i < 3 || lm_now() < end; i++) {
        double t = lm_now();
        LM_GOTO(lm_plan_run(p), done);
        t = lm_now() - t;
        if (i && t < best) best = t;
    }
    *flops = 2.0 * (double)m * (double)n * (double)k / best;
done:
    lm_plan_free(p); lm_graph_free(g); lm_store_free(store);
    return err;
}
lm_err lm_machine_measure(lm_ctx *ctx, lm_machine *out) {
    lm_machine m = { .threads = lm_ctx_threads(ctx) };
    lm_ctx *one = NULL;
    m.last_cache = (double)(lm_cpu_cache(3) ? lm_cpu_cache(3) : (size_t)8 << 20);
    m.fma_f32 = lm_probe_fma(ctx, 0.05);
    LM_TRY(lm_machine_matmul(ctx, LM_F32, 512, 2048, 1024, false, 0.15, &m.mm_f32));
    LM_TRY(lm_machine_matmul(ctx, LM_BF16, 512, 2048, 1024, false, 0.15, &m.mm_bf16));
    m.cache_n = lm_probe_read(ctx, (size_t)512 << 10, 0.05);
    m.mid_n = lm_probe_read(ctx, (size_t)8 << 20, 0.05);
    size_t big = lm_memory_available() / 4, l3 = 2 * lm_cpu_cache(3);       /* well beyond the caches */
    if (big > (size_t)1 << 30) big = (size_t)1 << 30;
    if (l3 > (size_t)64 << 20 && big > l3) big = l3;
    m.read_n = lm_probe_read(ctx, big / (size_t)m.threads, 0.15);
    m.map_n = lm_probe_read_small(ctx, big / (size_t)m.threads, 0.15);
    if (m.map_n > m.read_n) m.read_n = m.map_n;                                /* a ceiling is what was seen */
    m.dot8 = lm_probe_dot8(ctx, 0.05);
    LM_TRY(lm_ctx_new(&one, &(lm_ctx_opts){ .n_threads = 1, .isa_mask = lm_ctx_isa_mask(ctx) }));
    m.read_1 = lm_probe_read(one, big / 2, 0.1);
    lm_ctx_free(one);
    if (!(m.fma_f32 > 0 && m.mm_f32 > 0 && m.mm_bf16 > 0 && m.read_n > 0 && m.read_1 > 0 && m.cache_n > 0 && m.mid_n > 0 && m.map_n > 0 && m.dot8 > 0))
        return lm_fail(ctx, LM_E_NOMEM, "there is no memory to measure this machine with");
    LM_TRY(lm_machine_kernels(ctx, &m));
    LM_TRY(lm_machine_weights(ctx, &m));
    for (int i = 0; i < m.n_point; i++) {                                     /* a ceiling is not below what a kernel was seen to reach */
        const double rate = m.point[i].work / m.point[i].seconds;
        if (!strncmp(m.point[i].key, "matmul.f32", 10) && strstr(m.point[i].key, " flops") && rate > m.mm_f32) m.mm_f32 = rate;
        if (!strncmp(m.point[i].key, "matmul.bf16", 11) && strstr(m.point[i].key, " flops") && rate > m.mm_bf16) m.mm_bf16 = rate;
    }
    *out = m;
    return LM_OK;
}
double lm_machine_rate(const lm_machine *m, const char *format) {
    const size_t n = strlen(format);
    double top = 0;
    for (int i = 0; i < m->n_point; i++) {
        const char *at = strstr(m->point[i].key, " flops ");
        if (!at || strncmp(at + 7, format, n) || at[7 + n]) continue;
        const double r = m->point[i].work / m->point[i].seconds;
        if (r > top) top = r;
    }
    return top;
}
bool lm_machine_price(const lm_machine *m, const char *key, double work, double *seconds) {
    int a = 0, b = m->n_point;
    while (a < b) { int c = (a + b) / 2; if (strcmp(m->point[c].key, key) < 0) a = c + 1; else b = c; }
    int n = a;
    while (n < m->n_point && !strcmp(m->point[n].key, key)) n++;
    if (a == n || !(work > 0)) { *seconds = 0; return a < n; }
    const lm_machine_point *p = m->point;
    while (a + 1 < n && p[a + 1].work <= work) a++;                           /* p[a] is the last that is not larger */
    if (work <= p[a].work || a + 1 == n) {
        *seconds = p[a].seconds * work / p[a].work;
        /* handing a step out has a price of its own */
        if (work < p[a].work && *seconds < 0.25 * p[a].seconds) *seconds = p[a].seconds * (0.125 + 0.5 * work / p[a].work);
        return true;
    }
    const double f = (work - p[a].work) / (p[a + 1].work - p[a].work);
    *seconds = p[a].seconds + f * (p[a + 1].seconds - p[a].seconds);
    return true;
}
