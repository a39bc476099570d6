/* svg.c — see svg.h. Colours: Okabe and Ito's eight (2008), told apart by colour-blind readers too. */
#include "format/svg.h"
#include "base/file.h"
#include "format/cursor.h"
#include <math.h>
#include <stdio.h>

enum { LEFT = 72, RIGHT = 20, TOP = 40, BOTTOM = 52, MAX_TICKS = 24 };
static const char *const color[] = { "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#b8a800" };
typedef struct { bool log; double lo, hi, at, len; } axis;             /* lo, hi in the drawn scale (log10 when log); pixel = at + len * fraction */

static void text(lm_str *s, const char *t) {
    const uint8_t *p = (const uint8_t *)t; size_t n = strlen(t);
    while (n) {
        int k = lm_utf8_len(p, n);
        if (!k) { lm_str_puts(s, "\xef\xbf\xbd"); p++; n--; continue; }
        if (*p == '<') lm_str_puts(s, "&lt;");
        else if (*p == '>') lm_str_puts(s, "&gt;");
        else if (*p == '&') lm_str_puts(s, "&amp;");
        else if (*p == '"') lm_str_puts(s, "&quot;");
        else if (*p < 0x20 || (k == 3 && p[0] == 0xef && p[1] == 0xbf && p[2] >= 0xbe)) lm_str_putc(s, ' ');     /* not XML characters */
        else lm_str_add(s, p, (size_t)k);
        p += k; n -= (size_t)k;
    }
}
static lm_err range(lm_ctx *ctx, const lm_svg_chart *c, bool y, axis *a) {
    double lo = INFINITY, hi = -INFINITY;
    for (int i = 0; i < c->n_series; i++) {
        const lm_svg_series *s = &c->series[i];
        for (int64_t k = 0; k < s->n; k++) {
            if (!isfinite(s->x[k]) || !isfinite(s->y[k])) continue;
            double v = y ? s->y[k] : s->x[k];
            if (a->log && v <= 0)
                return lm_fail(ctx, LM_E_RANGE, "chart \"%s\": %s[%lld] of series \"%s\" is %g; a logarithmic axis wants numbers over 0",
                               c->title ? c->title : "", y ? "y" : "x", (long long)k, s->name ? s->name : "", v);
            lo = fmin(lo, v); hi = fmax(hi, v);
        }
    }
    if (!(lo <= hi)) { lo = a->log ? 1 : 0; hi = a->log ? 10 : 1; }
    if (a->log) { lo = log10(lo); hi = log10(hi); }
    double d = hi / 2 - lo / 2;                                   /* halves: the difference of two doubles may overflow */
    if (!(d > fmax(fabs(lo), fabs(hi)) * 1e-12)) {
        double w = a->log ? 0.5 : fabs(lo) > 1e-300 ? fabs(lo) * 0.05 : 1;
        lo -= w;
        hi += w;
        d = hi / 2 - lo / 2;
    }
    if (y) { lo -= d * 0.08; hi += d * 0.08; }
    if (!isfinite(lo)) lo = -1e308;
    if (!isfinite(hi)) hi = 1e308;
    a->lo = lo; a->hi = hi;
    return LM_OK;
}
static double place(const axis *a, double v) {
    if (a->log) v = log10(v);
    return a->at + a->len * ((v / 2 - a->lo / 2) / (a->hi / 2 - a->lo / 2));
}
static int ticks(const axis *a, int want, double *t) {
    int n = 0;
    if (a->log && a->hi - a->lo >= 1) {
        int from = (int)ceil(a->lo - 1e-9), to = (int)floor(a->hi + 1e-9), every = (to - from) / MAX_TICKS * 2 + 1;
        if (to - from + 1 > 10 && every == 1) every = 2;
        for (int e = from; e <= to && n < MAX_TICKS; e += every) {
            t[n++] = pow(10, e);
            if (a->hi - a->lo < 2.5)
                for (int m = 2; m <= 5 && n < MAX_TICKS; m += 3)
                    if (e + log10(m) <= a->hi) t[n++] = m * pow(10, e);
        }
        return n;
    }
    double lo = a->log ? pow(10, a->lo) : a->lo, hi = a->log ? pow(10, a->hi) : a->hi;
    double raw = (hi / want - lo / want), step = pow(10, floor(log10(raw)));
    if (raw / step > 5) step *= 10;
    else if (raw / step > 2) step *= 5;
    else if (raw / step > 1) step *= 2;
    if (!isfinite(step) || step <= 0) return 0;
    for (double k = ceil(lo / step - 1e-9); k * step <= hi + step * 1e-9 && n < MAX_TICKS; k++) t[n++] = k == 0 ? 0 : k * step;
    return n;
}
static void label(lm_str *s, double v, double span) {
    double m = fabs(v); char b[32];
    if (m < span * 1e-9) v = m = 0;
    if (m >= 1e6 || (m > 0 && m < 1e-4)) snprintf(b, sizeof b, "%.4g", v);
    else snprintf(b, sizeof b, "%.6g", v);
    lm_str_puts(s, b);
}
static void curve(lm_str *s, const lm_svg_series *v, const axis *x, const axis *y, const char *col) {
    bool open = false; int64_t k = 0;
    lm_str_puts(s, "<path fill=\"none\" stroke-width=\"1.6\" stroke-linejoin=\"round\" stroke=\"");
    lm_str_puts(s, col);
    lm_str_puts(s, "\" d=\"");
    while (k < v->n) {
        if (!isfinite(v->x[k]) || !isfinite(v->y[k])) { open = false; k++; continue; }
        double column = floor(place(x, v->x[k])); int64_t first = k, lo = k, hi = k, last = k;
        for (; k < v->n && isfinite(v->x[k]) && isfinite(v->y[k]) && floor(place(x, v->x[k])) == column; k++) {
            if (v->y[k] < v->y[lo]) lo = k;
            if (v->y[k] > v->y[hi]) hi = k;
            last = k;
        }
        int64_t p[4] = { first, lo < hi ? lo : hi, lo < hi ? hi : lo, last };
        for (int i = 0; i < 4; i++) {
            if (i && p[i] == p[i - 1]) continue;
            lm_str_printf(s, "%c%.2f %.2f", open ? 'L' : 'M', place(x, v->x[p[i]]), place(y, v->y[p[i]]));
            open = true;
        }
    }
    lm_str_puts(s, "\"/>\n");
}
static void centred(lm_str *s, double x, double y, int size, const char *extra, const char *t) {
    lm_str_printf(s, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%d\" text-anchor=\"middle\"%s>", x, y, size, extra);
    text(s, t);
    lm_str_puts(s, "</text>\n");
}
lm_err lm_svg_draw(lm_ctx *ctx, lm_str *out, const lm_svg_chart *c) {
    int w = c->width ? c->width : 800, h = c->height ? c->height : 480;
    if (w < 200 || h < 150 || w > 10000 || h > 10000)
        return lm_fail(ctx, LM_E_RANGE, "chart: %d × %d pixels, wanted 200 × 150 to 10000 × 10000", w, h);
    axis x = { .log = c->log_x, .at = LEFT, .len = w - LEFT - RIGHT }, y = { .log = c->log_y, .at = h - BOTTOM, .len = -(h - TOP - BOTTOM) };
    LM_TRY(range(ctx, c, false, &x));
    LM_TRY(range(ctx, c, true, &y));
    lm_str s = { .ctx = ctx };
    double t[MAX_TICKS]; int n;
    lm_str_printf(&s,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" "
                  "fill=\"#222\">\n",
                  w, h, w, h);
    lm_str_printf(&s, "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", w, h);
    n = ticks(&x, w / 110, t);
    for (int i = 0; i < n; i++) {
        double px = place(&x, t[i]);
        lm_str_printf(&s, "<path stroke=\"#ddd\" d=\"M%.2f %dV%d\"/><text x=\"%.2f\" y=\"%d\" font-size=\"12\" text-anchor=\"middle\">", px,
                      TOP, h - BOTTOM, px, h - BOTTOM + 17);
        label(&s, t[i], x.log ? 0 : x.hi - x.lo);
        lm_str_puts(&s, "</text>\n");
    }
    n = ticks(&y, h / 60, t);
    for (int i = 0; i < n; i++) {
        double py = place(&y, t[i]);
        lm_str_printf(&s, "<path stroke=\"#ddd\" d=\"M%d %.2fH%d\"/><text x=\"%d\" y=\"%.2f\" font-size=\"12\" text-anchor=\"end\">", LEFT,
                      py, w - RIGHT, LEFT - 6, py + 4);
        label(&s, t[i], y.log ? 0 : y.hi - y.lo);
        lm_str_puts(&s, "</text>\n");
    }
    lm_str_printf(&s, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#666\"/>\n", LEFT, TOP, w - LEFT - RIGHT,
                  h - TOP - BOTTOM);
    if (c->title) centred(&s, w / 2.0, 24, 16, " font-weight=\"bold\"", c->title);
    if (c->x_title) centred(&s, LEFT + (w - LEFT - RIGHT) / 2.0, h - 12, 13, "", c->x_title);
    if (c->y_title) {
        char turn[64]; double cy = TOP + (h - TOP - BOTTOM) / 2.0;
        snprintf(turn, sizeof turn, " transform=\"rotate(-90 16 %.1f)\"", cy);
        centred(&s, 16, cy, 13, turn, c->y_title);
    }
    for (int i = 0; i < c->n_series; i++) curve(&s, &c->series[i], &x, &y, color[i % LM_COUNT(color)]);
    for (int i = 0, row = 0; i < c->n_series; i++) {
        if (!c->series[i].name) continue;
        int ly = TOP + 18 + 18 * row++;
        lm_str_printf(
            &s, "<path stroke=\"%s\" stroke-width=\"3\" d=\"M%d %dh18\"/><text x=\"%d\" y=\"%d\" font-size=\"12\" text-anchor=\"end\">",
            color[i % LM_COUNT(color)], w - RIGHT - 28, ly - 4, w - RIGHT - 34, ly);
        text(&s, c->series[i].name);
        lm_str_puts(&s, "</text>\n");
    }
    lm_str_puts(&s, "</svg>\n");
    lm_err err = lm_str_err(&s);
    if (err) lm_fail(ctx, err, "chart: out of memory");
    else { lm_str_add(out, s.p, s.n); err = lm_str_err(out); }
    lm_str_free(&s);
    return err;
}
lm_err lm_svg_save(lm_ctx *ctx, const char *path, const lm_svg_chart *c) {
    lm_str s = { .ctx = ctx };
    lm_err err = lm_svg_draw(ctx, &s, c);
    if (!err) err = lm_file_write_atomic(ctx, path, s.p, s.n);
    lm_str_free(&s);
    return err;
}
