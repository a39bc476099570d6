/* quant_fit.c — see quant_fit.h. Sums run in eight lanes of fixed order, so that compilers may use vectors and the bits stay the same. */
#include "quant/quant_fit.h"

enum { N = LM_QK_K, LANES = 8, ROUNDS = 3 };
static const uint16_t HALF_NAN = 0x7e00;
/* NaN compares false: bounds come out */
static inline float bound(float v, float lo, float hi) { v = v > lo ? v : lo; return v < hi ? v : hi; }
static inline float nearest(float v) { return (v + 12582912.0f) - 12582912.0f; }       /* |v| < 2^22; ties to even */
static inline float total(const float *a) { return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7])); }

/* Numbers and weights of a block in units of their largest; *unit 0: all zero; false: something is not finite. */
static bool prepare(const float *x, const float *weight, int n, float *y, float *w, float *unit) {
    float top = 0, heavy = 0; bool ok = true;
    for (int i = 0; i < n; i++) {
        const float a = fabsf(x[i]);
        ok &= a <= 3.402823466e38f;
        top = a > top ? a : top;
        if (weight) heavy = weight[i] > heavy ? weight[i] : heavy;
    }
    *unit = top;
    if (!ok || top == 0) return ok;
    const bool even = !(heavy > 0 && heavy <= 3.402823466e38f);
    for (int i = 0; i < n; i++) {
        y[i] = x[i] / top;
        w[i] = even ? 1 : bound(weight[i] / heavy, 0, 1) + 1e-6f;        /* what nobody weighs is still written sensibly */
    }
    return true;
}
/* A scale as its reader sees it, in the block's unit. */
static float as_half(float d, float unit, uint16_t *h) { *h = lm_f32_to_f16(d * unit); return lm_f16_to_f32(*h) / unit; }

/* ---- x ≈ d·level -------------------------------------------------------------------------------------------------------- */
typedef struct { float xq, qq; } moments;                                /* Σwxq, Σwq² */
typedef struct { const lm_q_scaled *f; float mid[16], value[16]; } levels;
static levels levels_of(const lm_q_scaled *f) {
    levels l = { .f = f };
    for (int i = 0; f->table && i < 16; i++) {
        l.value[i] = f->table[i];
        if (i < 15) l.mid[i] = 0.5f * (float)(f->table[i] + f->table[i + 1]);
    }
    return l;
}
static moments level(const levels *l, const float *x, const float *w, int n, float inverse, float *q) {
    float xq[LANES] = { 0 }, qq[LANES] = { 0 };
    const float lo = (float)l->f->lo, hi = (float)l->f->hi;
    if (!l->f->table) for (int i = 0; i < n; i++) q[i] = nearest(bound(x[i] * inverse, lo, hi));
    else for (int i = 0; i < n; i++) {                                     /* halving among sixteen */
        const float v = x[i] * inverse;
        int k = v > l->mid[7] ? 8 : 0;
        k += v > l->mid[k + 3] ? 4 : 0;
        k += v > l->mid[k + 1] ? 2 : 0;
        k += v > l->mid[k] ? 1 : 0;
        q[i] = l->value[k];
    }
    for (int i = 0; i < n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            const float wq = w[i + k] * q[i + k];
            xq[k] += wq * x[i + k];
            qq[k] += wq * q[i + k];
        }
    return (moments){ total(xq), total(qq) };
}
/* The scale of a group, and its levels. What is maximized is the part of Σwx² that the levels explain. */
static float scale_of(const levels *l, const float *x, const float *w, int n, float *q) {
    const float end = lm_q_extreme(x, n);
    float best = 0, scale = 0, t[N];
    memset(q, 0, (size_t)n * sizeof *q);
    if (end == 0) return 0;
    const int tries = l->f->table ? 12 : 8;
    for (int side = 0; side < 2; side++) {
        const float bottom = (float)(side ? l->f->hi : l->f->lo), spread = l->f->table ? 0.3f * fabsf(bottom) : fabsf(bottom) < 5 ? 1.5f : 1.25f;
        for (int k = 0; k <= tries; k++) {
            const float from = (bottom > 0 ? 1 : -1) * spread * (2.0f * (float)k / (float)tries - 1);
            const moments m = level(l, x, w, n, (bottom + from) / end, t);
            if (m.xq * m.xq > best * m.qq) { best = m.xq * m.xq / m.qq; scale = m.xq / m.qq; memcpy(q, t, (size_t)n * sizeof *q); }
        }
    }
    for (int k = 0; k < 6; k++) {
        const moments m = level(l, x, w, n, lm_q_inverse(scale), t);
        if (!(m.xq * m.xq > best * m.qq)) break;
        best = m.xq * m.xq / m.qq; scale = m.xq / m.qq; memcpy(q, t, (size_t)n * sizeof *q);
    }
    return scale;
}
/* Squared error less Σwx², of levels at a scale. */
static float loss_of(moments m, float scale) { return scale * scale * m.qq - 2 * scale * m.xq; }
/* Levels of all groups for the common scale d, each group with the best of the scales near the one it has; s is changed. */
static float settle(const levels *l, const float *x, const float *w, float d, int reach, int8_t *s, float *q, float *xq, float *qq) {
    const lm_q_scaled *f = l->f;
    float loss = 0, t[N];
    *xq = *qq = 0;
    for (int g = 0; g < f->groups; g++) {
        const int at = g * f->len, mid = s[g];
        float best = 0; moments kept = { 0, 0 }; bool any = false;
        for (int k = -reach; k <= reach; k++) {
            const int c = mid + k;
            if (f->s_hi && (c < f->s_lo || c > f->s_hi)) continue;
            const float scale = f->s_hi ? d * (float)c : d;
            const moments m = level(l, x + at, w + at, f->len, lm_q_inverse(scale), t);
            const float e = loss_of(m, scale);
            if (!any || e < best) { any = true; best = e; kept = m; s[g] = (int8_t)c; memcpy(q + at, t, (size_t)f->len * sizeof *q); }
        }
        loss += best;
        const float c = f->s_hi ? s[g] : 1;
        *xq += c * kept.xq; *qq += c * c * kept.qq;
    }
    return loss;
}
void lm_q_fit_scaled(const lm_q_scaled *f, const float *src, const float *weight, lm_q_scaled_fit *out) {
    const int n = f->groups * f->len;
    float x[N], w[N], q[N], scale[16], unit;
    memset(out, 0, sizeof *out);
    if (!prepare(src, weight, n, x, w, &unit)) { out->d = HALF_NAN; return; }
    if (unit == 0) return;
    const levels l = levels_of(f);
    for (int g = 0; g < f->groups; g++) scale[g] = scale_of(&l, x + g * f->len, w + g * f->len, f->len, q + g * f->len);
    const float end = lm_q_extreme(scale, f->groups);
    float best = 0;
    /* the largest scale at the lower end of its range, which is the longer one; then rounds while they help */
    float d = f->s_hi ? end / (float)f->s_lo : end;
    for (int round = 0; round < ROUNDS; round++) {
        lm_q_scaled_fit y; float xq, qq;
        d = as_half(d, unit, &y.d);
        for (int g = 0; g < f->groups; g++)
            y.s[g] = f->s_hi ? (int8_t)bound(nearest(bound(scale[g] * lm_q_inverse(d), -1e4f, 1e4f)), (float)f->s_lo, (float)f->s_hi) : 1;
        const float loss = settle(&l, x, w, d, f->s_hi ? 1 : 0, y.s, q, &xq, &qq);
        if (round && !(loss < best)) break;
        best = loss;
        memcpy(out->s, y.s, sizeof y.s); out->d = y.d;
        for (int i = 0; i < n; i++) out->level[i] = (int8_t)q[i];
        if (!(qq > 0)) break;
        d = xq / qq;
    }
}

/* ---- x ≈ s·code + m ------------------------------------------------------------------------------------------------------ */
typedef struct { float w, x, q, xq, qq; } sums;                           /* Σw, Σwx, Σwq, Σwxq, Σwq² */
static sums code(const float *x, const float *w, int n, float inverse, float min, float top, float *q) {
    float a[4][LANES] = { { 0 } };
    sums s = { 0, 0, 0, 0, 0 };
    for (int i = 0; i < n; i++) q[i] = nearest(bound((x[i] - min) * inverse, 0, top));
    for (int i = 0; i < n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            const float wq = w[i + k] * q[i + k];
            a[0][k] += wq;
            a[1][k] += wq * x[i + k];
            a[2][k] += wq * q[i + k];
        }
    s.q = total(a[0]); s.xq = total(a[1]); s.qq = total(a[2]);
    return s;
}
/* Squared error less Σwx². */
static float affine_loss(const sums *s, float scale, float min) {
    return scale * (scale * s->qq - 2 * s->xq + 2 * min * s->q) + min * (min * s->w - 2 * s->x);
}
static void least_squares(const sums *s, bool below, float *scale, float *min) {
    const float det = s->w * s->qq - s->q * s->q;
    *min = s->w > 0 ? s->x / s->w : 0; *scale = 0;
    if (det > 1e-6f * s->w * s->qq) {
        *scale = (s->w * s->xq - s->x * s->q) / det;
        *min = (s->qq * s->x - s->q * s->xq) / det;
    }
    if (below && *min > 0) { *min = 0; *scale = s->qq > 0 ? s->xq / s->qq : 0; }
}
/* Scale and minimum of a group; below: the minimum is not above 0. */
static void affine_of(const float *x, const float *w, int n, int top, bool below, float *scale, float *min) {
    float lo, hi, q[N], sw[LANES] = { 0 }, sx[LANES] = { 0 };
    lm_q_range(x, n, &lo, &hi);
    if (below && lo > 0) lo = 0;
    *scale = 0; *min = lo;
    if (hi <= lo) return;
    for (int i = 0; i < n; i += LANES)
        for (int k = 0; k < LANES; k++) { sw[k] += w[i + k]; sx[k] += w[i + k] * x[i + k]; }
    const float W = total(sw), X = total(sx);
    float best = INFINITY;
    /* ranges a little wider and narrower at either end, in steps: with few levels the outermost numbers are better clipped than followed */
    static const float cut[5] = { -0.2f, 0, 0.25f, 0.5f, 0.8f };
    const int cuts = top < 8 ? 5 : 4;
    const float step = (hi - lo) / (float)top;
    for (int a = 0; a < cuts; a++)
        for (int b = 0; b < cuts; b++) {
            const float low = lo + cut[a] * step, high = hi - cut[b] * step;
            float s = (high - low) / (float)top, m = low;
            for (int k = 0; k < 2; k++) {
                sums t = code(x, w, n, lm_q_inverse(s), m, (float)top, q);
                t.w = W; t.x = X;
                least_squares(&t, below, &s, &m);
                const float e = affine_loss(&t, s, m);
                if (e < best && s > 0) { best = e; *scale = s; *min = m; } else break;
            }
        }
    for (int k = 0; k < 6; k++) {
        float s, m;
        sums t = code(x, w, n, lm_q_inverse(*scale), *min, (float)top, q);
        t.w = W; t.x = X;
        least_squares(&t, below, &s, &m);
        const float e = affine_loss(&t, s, m);
        if (!(e < best && s > 0)) break;
        best = e; *scale = s; *min = m;
    }
}
/* The normal equations of d and dmin over a block: x ≈ d·u + dmin·v with u = s·code, v = -m (or 1). */
typedef struct { float uu, uv, vv, xu, xv; } normal;
static float affine_settle(const lm_q_affine *f, const float *x, const float *w, const sums *fixed, float d, float dmin, int reach,
                           lm_q_affine_fit *y, float *q, normal *eq) {
    float loss = 0, t[N];
    *eq = (normal){ 0, 0, 0, 0, 0 };
    for (int g = 0; g < f->groups; g++) {
        const int at = g * f->len, s0 = y->s[g], m0 = y->m[g];
        float best = 0; sums kept = { 0, 0, 0, 0, 0 }; bool any = false;
        for (int i = -reach; i <= reach; i++)
            for (int j = -reach; j <= reach; j++) {
                const int s = s0 + i, m = m0 + j;
                if (f->s_top && (s < 0 || s > f->s_top || m < 0 || m > f->s_top)) continue;
                const float scale = f->s_top ? d * (float)s : d, min = f->s_top ? -dmin * (float)m : dmin;
                sums u = code(x + at, w + at, f->len, lm_q_inverse(scale), min, (float)f->top, t);
                u.w = fixed[g].w; u.x = fixed[g].x;
                const float e = affine_loss(&u, scale, min);
                if (!any || e < best) {
                    any = true; best = e; kept = u; y->s[g] = (uint8_t)s; y->m[g] = (uint8_t)m;
                    memcpy(q + at, t, (size_t)f->len * sizeof *q);
                }
            }
        loss += best;
        const float s = f->s_top ? y->s[g] : 1, m = f->s_top ? -(float)y->m[g] : 1;
        eq->uu += s * s * kept.qq; eq->uv += s * m * kept.q; eq->vv += m * m * kept.w; eq->xu += s * kept.xq; eq->xv += m * kept.x;
    }
    return loss;
}
void lm_q_fit_affine(const lm_q_affine *f, const float *src, const float *weight, lm_q_affine_fit *out) {
    const int n = f->groups * f->len;
    float x[N], w[N], q[N], scale[16], min[16], unit;
    sums fixed[16];
    memset(out, 0, sizeof *out);
    if (!prepare(src, weight, n, x, w, &unit)) { out->d = out->dmin = HALF_NAN; return; }
    if (unit == 0) return;
    float top_s = 0, top_m = 0;
    for (int g = 0; g < f->groups; g++) {
        affine_of(x + g * f->len, w + g * f->len, f->len, f->top, f->s_top > 0, &scale[g], &min[g]);
        fixed[g] = (sums){ 0, 0, 0, 0, 0 };
        for (int i = 0; i < f->len; i++) { fixed[g].w += w[g * f->len + i]; fixed[g].x += w[g * f->len + i] * x[g * f->len + i]; }
        top_s = scale[g] > top_s ? scale[g] : top_s;
        top_m = -min[g] > top_m ? -min[g] : top_m;
    }
    float best = 0;
    float d = f->s_top ? top_s / (float)f->s_top : scale[0], dmin = f->s_top ? top_m / (float)f->s_top : min[0];
    for (int round = 0; round < ROUNDS; round++) {
        lm_q_affine_fit y; normal eq;
        d = as_half(d, unit, &y.d); dmin = as_half(dmin, unit, &y.dmin);
        for (int g = 0; g < f->groups; g++) {
            y.s[g] = (uint8_t)nearest(bound(scale[g] * lm_q_inverse(d), 0, (float)f->s_top));
            y.m[g] = (uint8_t)nearest(bound(-min[g] * lm_q_inverse(dmin), 0, (float)f->s_top));
        }
        const float loss = affine_settle(f, x, w, fixed, d, dmin, f->s_top ? 1 : 0, &y, q, &eq);
        if (round && !(loss < best)) break;
        best = loss;
        memcpy(out->s, y.s, sizeof y.s); memcpy(out->m, y.m, sizeof y.m); out->d = y.d; out->dmin = y.dmin;
        for (int i = 0; i < n; i++) out->code[i] = (uint8_t)q[i];
        const float det = eq.uu * eq.vv - eq.uv * eq.uv;
        if (det > 1e-6f * eq.uu * eq.vv) {
            d = (eq.vv * eq.xu - eq.uv * eq.xv) / det;
            dmin = (eq.uu * eq.xv - eq.uv * eq.xu) / det;
        } else if (eq.uu > 0) d = eq.xu / eq.uu;
        else break;
        if (f->s_top && !(d > 0 && dmin >= 0)) break;
    }
}
