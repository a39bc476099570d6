/* schedule.c — learning-rate schedules. */
#include <math.h>
#include "optim/optim.h"
const char *const lm_sched_names[] = { "constant", "linear", "cosine", "wsd", NULL };
double lm_sched_at(const lm_sched *s, int64_t step) {
    if (step < s->warmup) return (double)(step + 1) / (double)s->warmup;
    int64_t from = s->kind == LM_SCHED_WSD ? lm_max64(s->warmup, s->steps - s->decay_steps) : s->warmup;
    if (s->kind == LM_SCHED_CONSTANT || step < from) return 1.0;
    int64_t span = s->steps - from;
    double x = span > 0 ? (double)(step - from) / (double)span : 1.0;
    if (x > 1.0) x = 1.0;
    if (s->kind == LM_SCHED_COSINE) return s->floor + (1.0 - s->floor) * 0.5 * (1.0 + cos(3.14159265358979323846 * x));
    return s->floor + (1.0 - s->floor) * (1.0 - x);
}
