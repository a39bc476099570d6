/* svg.h — line charts as SVG text: loss curves, speed against context, recall against time.
 *
 * One chart, some series, linear or logarithmic axes, ticks at 1-2-5 steps or decades, a legend. Long series are thinned to the extremes of each
 * pixel column, so a million steps stay a small file and no spike is lost. Points that are not finite break the line. No scripts, no outside
 * references; text is escaped. The same chart gives the same bytes.
 *
 * Lifetime: borrows everything.  Threads: none shared.
 * Errors:   LM_E_RANGE for a value <= 0 on a logarithmic axis (naming series and index); LM_E_NOMEM. */
#ifndef LM_SVG_H
#define LM_SVG_H
#include "base/base.h"
typedef struct { const char *name; const double *x, *y; int64_t n; } lm_svg_series;
typedef struct {
    const char *title, *x_title, *y_title;          /* NULL: none */
    const lm_svg_series *series; int n_series;
    bool log_x, log_y;
    int width, height;                              /* pixels; 0 = 800 × 480 */
} lm_svg_chart;
lm_err lm_svg_draw(lm_ctx *ctx, lm_str *out, const lm_svg_chart *c);
lm_err lm_svg_save(lm_ctx *ctx, const char *path, const lm_svg_chart *c);
#endif
