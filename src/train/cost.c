/* cost.c — see cost.h. */
#include <string.h>
#include "device/cpu.h"
#include "train/cost.h"
#include "train/train_int.h"

/* e: share of the matrix rate; b: share of the bandwidth; logits: bytes that travel for each number of tokens × vocabulary; the last row is the rest. */
typedef struct { const char *op; double e, b, logits; bool attention; } family;
static const family families[] = {
    { "matmul", 0.97, 0.30, 0, false }, { "xent_step", 0.95, 0.30, 24, false }, { "xent", 0.95, 0.30, 12, false },
    { "attn", 0.47, 0.60, 0, true }, { "attn_grad", 0.47, 0.60, 0, true }, { "attn_paged", 0.30, 0.60, 0, false },
    { "add", 0.50, 0.85, 0, false }, { "rmsnorm", 0.50, 0.68, 0, false }, { "rmsnorm_grad", 0.50, 0.85, 0, false }, { "layernorm", 0.50, 0.40, 0, false }, { "layernorm_grad", 0.50, 0.55, 0, false },
    { "rope", 0.50, 0.58, 0, false }, { "swiglu", 0.50, 0.47, 0, false }, { "swiglu_grad", 0.50, 0.68, 0, false }, { "gelu", 0.50, 0.33, 0, false }, { "gelu_grad", 0.50, 0.38, 0, false },
    { "embed", 0.50, 0.50, 0, false }, { "embed_grad", 0.50, 0.30, 0, false },
    { "", 0.50, 0.55, 0, false } };
static const double HAND_OUT = 2e-6;                         /* seconds a step costs several threads beside its work */
enum { BLOCK = 64 };                                         /* keys that attention takes at a time */

static const family *family_of(const char *op) {
    int i = 0;
    while (*families[i].op && strcmp(families[i].op, op)) i++;
    return &families[i];
}
lm_cost lm_cost_of(const lm_machine *m, const lm_plan *p, int64_t seqs, int64_t seq) {
    lm_plan_stats st;
    lm_plan_stats_of(p, &st);
    lm_cost c = { 0, 0, 0 };
    const double last = (double)(lm_cpu_cache(3) ? lm_cpu_cache(3) : (size_t)8 << 20);
    const double held = (double)(st.state_bytes + st.arena_bytes);              /* what a run of the plan walks through */
    const double bw = held > last ? m->read_n : m->mid_n;
    for (int i = 0; i < st.n_steps; i++) {
        const char *op, *kernel; double flops, bytes, work;
        lm_plan_step(p, i, &op, &kernel, &flops, &bytes);
        const family *f = family_of(op);
        const lm_call *k = lm_plan_call(p, i);
        if (f->attention && seqs > 0) flops /= (double)seqs;                    /* planned as if all rows were one document */
        work = f->attention && seqs > 0 ? flops * (1.0 + (double)BLOCK / (double)seq) : flops;
        if (f->logits > 0) bytes += f->logits * (double)k->in[0].dim[0] * (double)k->in[1].dim[0];
        const double rate = f->attention || !strstr(kernel, "bf16") ? m->mm_f32 : m->mm_bf16;
        const double t = work / (f->e * rate) + bytes / (f->b * bw) + (m->threads > 1 ? HAND_OUT : 0.1 * HAND_OUT);
        c.seconds += t; c.flops += flops;
        if (k->op->mm_at) c.matrix_s += t;
    }
    return c;
}
lm_cost lm_cost_step(const lm_machine *m, lm_trainer *t, int64_t accum) {
    lm_cost a = lm_cost_of(m, t->acc, t->o.batch, t->o.seq), u = lm_cost_of(m, t->upd, 0, 0);
    return (lm_cost){ (double)accum * a.seconds + u.seconds, (double)accum * a.flops + u.flops, (double)accum * a.matrix_s + u.matrix_s };
}
size_t lm_cost_memory(const lm_trainer_plan *p, const lm_batch *b, size_t now, size_t peak, size_t largest) {
    size_t save = 8 * largest;                                                /* rows on their way to a file: f32 and as written, a megabyte of numbers at most */
    if (save > (size_t)8 << 20) save = (size_t)8 << 20;
    size_t total = now + p->total + (b ? (size_t)b->n * 4 * sizeof(int32_t) : 0) + save + ((size_t)1 << 20);      /* the last: buffer of metrics.jsonl */
    return total > peak ? total : peak;
}
