/* embed.c — see embed.h. */
#include <math.h>
#include <string.h>
#include "infer/embed.h"

struct lm_embedder { lm_ctx *ctx; lm_cfg cfg; lm_embed_opts o; lm_plan *plan; };
static lm_err build(lm_embedder *e, lm_graph *g) {
    lm_type n = LM_TYPE(LM_I32, e->o.rows);
    n.ext[0] = (int8_t)lm_extent(g, "N");
    lm_model_in in = { .tokens = lm_input(g, "tokens", &n), .pos = lm_input(g, "pos", &n), .start = lm_input(g, "start", &n), .context = e->o.longest };
    lm_model_out out;
    LM_TRY(e->cfg.model->build(g, &e->cfg, &in, &out));
    lm_graph_output(g, "hidden", out.hidden);
    LM_TRY(lm_pass_precision(g, e->o.mm));
    LM_TRY(lm_pass_fuse(g, NULL));
    return lm_graph_err(g);
}
lm_err lm_embedder_new(lm_embedder **out, lm_ctx *ctx, const lm_cfg *cfg, lm_store *weights, const lm_embed_opts *o) {
    const lm_pooling pool = o->pool ? o->pool : cfg->pool;
    if (pool == LM_POOL_NONE)
        return lm_fail(ctx, LM_E_CONFIG, "the model does not say how a text's states become one vector (mean, cls or last)");
    lm_embedder *e = lm_calloc(ctx, LM_MEM_KV, 1, sizeof *e);
    if (!e) return LM_E_NOMEM;
    e->ctx = ctx; e->cfg = *cfg; e->o = *o;
    e->o.pool = pool;
    e->o.normalize = o->normalize ? o->normalize : cfg->normalize ? 1 : -1;
    if (!e->o.longest) e->o.longest = lm_min64(cfg->max_pos, 512);
    if (e->o.rows < e->o.longest) e->o.rows = e->o.longest;
    lm_graph *g = NULL;
    lm_err err;
    LM_GOTO(lm_graph_new(&g, ctx, weights), done);
    LM_GOTO(build(e, g), done);
    err = lm_plan_new(&e->plan, ctx, g, &(lm_plan_opts){ .store = weights });
done:
    lm_graph_free(g);
    if (err) lm_embedder_free(e); else *out = e;
    return err;
}
void lm_embedder_free(lm_embedder *e) {
    if (!e) return;
    lm_plan_free(e->plan); lm_free(e->ctx, e);
}
/* h (n, d) of one text to one vector: sums in double, tokens in order. */
static void pool(const lm_embedder *e, const float *h, int64_t n, float *v) {
    const int64_t d = e->cfg.d;
    if (e->o.pool == LM_POOL_MEAN)
        for (int64_t j = 0; j < d; j++) {
            double s = 0;
            for (int64_t i = 0; i < n; i++) s += (double)h[i * d + j];
            v[j] = (float)(s / (double)n);
        }
    else memcpy(v, h + (e->o.pool == LM_POOL_LAST ? n - 1 : 0) * d, (size_t)d * 4);
    if (e->o.normalize < 0) return;
    double s = 0;
    for (int64_t j = 0; j < d; j++) s += (double)v[j] * (double)v[j];
    const double by = s > 0 ? 1 / sqrt(s) : 0;
    for (int64_t j = 0; j < d; j++) v[j] = (float)((double)v[j] * by);
}
static lm_err check(const lm_embedder *e, const int32_t *ids, const size_t *start, size_t n) {
    for (size_t t = 0; t < n; t++) {
        const int64_t len = (int64_t)(start[t + 1] - start[t]);
        if (len < 1) return lm_fail(e->ctx, LM_E_RANGE, "text %zu has no tokens", t + 1);
        if (len > e->o.longest)
            return lm_fail(e->ctx, LM_E_RANGE, "text %zu has %lld tokens; at most %lld are taken", t + 1, (long long)len, (long long)e->o.longest);
        for (size_t i = start[t]; i < start[t + 1]; i++)
            if (ids[i] < 0 || ids[i] >= e->cfg.vocab)
                return lm_fail(e->ctx, LM_E_RANGE, "text %zu: token id %d is outside the vocabulary of %lld", t + 1, ids[i], (long long)e->cfg.vocab);
    }
    return LM_OK;
}
lm_err lm_embed_texts(lm_embedder *e, const int32_t *ids, const size_t *start, size_t n, float *vectors) {
    LM_TRY(check(e, ids, start, n));
    const int64_t d = e->cfg.d;
    int32_t *tok = lm_plan_input(e->plan, "tokens", NULL), *pos = lm_plan_input(e->plan, "pos", NULL), *first = lm_plan_input(e->plan, "start", NULL);
    for (size_t a = 0, b; a < n; a = b) {                               /* texts [a, b) make a run */
        int64_t rows = 0;
        for (b = a; b < n && rows + (int64_t)(start[b + 1] - start[b]) <= e->o.rows; b++) {
            const int64_t at = rows, len = (int64_t)(start[b + 1] - start[b]);
            for (int64_t i = 0; i < len; i++, rows++) {
                tok[rows] = ids[start[b] + (size_t)i];
                if (pos) pos[rows] = (int32_t)i;
                if (first) first[rows] = (int32_t)at;
            }
        }
        LM_TRY(lm_plan_extent(e->plan, "N", rows));
        LM_TRY(lm_plan_run(e->plan));
        const float *h = lm_plan_output(e->plan, "hidden", NULL);
        for (size_t t = a; t < b; t++) {
            pool(e, h, (int64_t)(start[t + 1] - start[t]), vectors + (int64_t)t * d);
            h += (int64_t)(start[t + 1] - start[t]) * d;
        }
    }
    return LM_OK;
}
