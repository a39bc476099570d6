/* cost.c — see cost.h. */
#include <string.h>
#include "device/cpu.h"
#include "train/cost.h"

/* e: share of the matrix rate; b: share of the bandwidth; n: the operation, "" the rest (elementwise, norms, copies). */
typedef struct { const char *op; double e, b; } family;
static const family families[] = {
    { "matmul", 0.90, 0.60 }, { "xent_step", 0.80, 0.60 }, { "xent", 0.80, 0.60 }, { "attn", 0.45, 0.60 }, { "attn_grad", 0.40, 0.60 }, { "attn_paged", 0.30, 0.60 },
    { "", 0.05, 0.60 } };
static const double HAND_OUT = 2e-6;                         /* seconds a step costs several threads beside its work */

static const family *family_of(const char *op) {
    int i = 0;
    while (*families[i].op && strcmp(families[i].op, op)) i++;
    return &families[i];
}
lm_cost lm_cost_of(const lm_machine *m, const lm_plan *p) {
    lm_plan_stats st;
    lm_plan_stats_of(p, &st);
    lm_cost c = { 0, 0 };
    const double last = (double)(lm_cpu_cache(3) ? lm_cpu_cache(3) : (size_t)8 << 20), near = (double)((size_t)1 << 20) * m->threads;
    const double held = (double)(st.state_bytes + st.arena_bytes);              /* what a run of the plan walks through */
    for (int i = 0; i < st.n_steps; i++) {
        const char *op, *kernel; double flops, bytes;
        lm_plan_step(p, i, &op, &kernel, &flops, &bytes);
        const family *f = family_of(op);
        const double rate = strstr(kernel, "bf16") ? m->mm_bf16 : m->mm_f32;
        const double bw = bytes <= near ? m->cache_n * 0.5 : held > last ? m->read_n : m->mid_n;
        const double work = flops / (f->e * rate), move = bytes / (f->b * bw), t = (work > move ? work : move) + (m->threads > 1 ? HAND_OUT : 0.1 * HAND_OUT);
        c.seconds += t;
        if (*f->op) c.matrix_s += t;
    }
    return c;
}
double lm_cost_step(const lm_machine *m, lm_trainer *t, int64_t accum) {
    return (double)accum * lm_cost_of(m, lm_trainer_accumulate_plan(t)).seconds + lm_cost_of(m, lm_trainer_update_plan(t)).seconds;
}
size_t lm_cost_memory(const lm_trainer_plan *p, const lm_batch *b, size_t now, size_t peak, size_t largest) {
    size_t save = 8 * largest;                                                /* rows on their way to a file: f32 and as written, a megabyte of numbers at most */
    if (save > (size_t)8 << 20) save = (size_t)8 << 20;
    size_t total = now + p->total + (b ? (size_t)b->n * 4 * sizeof(int32_t) : 0) + save + ((size_t)2 << 20);
    return total > peak ? total : peak;
}
