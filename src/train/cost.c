/* cost.c — see cost.h. */
#include <stdio.h>
#include <string.h>
#include "op/attn/attn.h"
#include "train/cost.h"
#include "train/train_int.h"

enum { BLOCK = 64, SOFTMAX = 24 };      /* keys that attention takes at a time; a score's exponential and its neighbours in columns of the products */
static const double COMPUTE = 8;       /* operations per byte from which a matrix row is priced by its operations */

/* Attention over whole sequences: planned as one document. */
bool lm_cost_attends(const lm_call *c) { return c->op->session || !strcmp(c->op->name, "attn_paged") || !strcmp(c->op->name, "attn_grad") || !strcmp(c->op->name, "attn_back"); }
static int64_t seen_of(const lm_attn_p *p, int64_t keys) { return p->window > 0 && p->window < keys ? p->window : keys; }
static double pairs(int64_t rows, const lm_attn_p *p) {
    const lm_tensor start = lm_tensor_of(NULL, LM_I32, 1, &rows);
    return lm_attn_pairs(&start, p);
}
double lm_cost_flops(const lm_call *c, double flops, int64_t seqs, int64_t seq) {
    const int64_t rows = c->n_in ? c->in[0].dim[0] : 0;
    if (seqs <= 0 || rows <= 0 || flops <= 0) return flops;
    const lm_attn_p *p = c->p;                                      /* attn, attn_grad, attn_back and attn_paged share their parameters */
    if (!strcmp(c->op->name, "attn_paged")) {                               /* the last rows of each sequence, as many of each */
        const int64_t before = seq - (rows + seqs - 1) / seqs;
        return 4.0 * (double)seqs * (pairs(seq, p) - pairs(before > 0 ? before : 0, p)) * p->n_head * p->d_head;
    }
    if (!lm_cost_attends(c)) return flops;
    const int64_t each = seq < rows ? seq : rows;
    return flops * (pairs(each, p) * (double)rows / (double)each / pairs(rows, p));
}
double lm_cost_work(const lm_call *c, const char *kernel, double *flops, double bytes, int64_t seqs, int64_t seq, char key[LM_MACHINE_KEY]) {
    double work = *flops;
    bool by_flops = c->op->mm_at && work >= COMPUTE * bytes;
    if (lm_cost_attends(c) && seqs > 0) {
        const lm_attn_p *p = c->p;
        *flops = lm_cost_flops(c, *flops, seqs, seq);
        work = *flops * (1.0 + (double)BLOCK / (double)seen_of(p, seq)) * (1.0 + (double)SOFTMAX / (double)p->d_head);
        by_flops = true;
    } else by_flops |= lm_cost_attends(c);                              /* its bytes are stated row by row, and rows share them */
    const lm_tensor *w = c->op->mm_at && c->n_in > 1 ? &c->in[1] : NULL;
    const bool blocks = w && w->dtype == LM_QUANT && w->quant;
    const char *lies = !w                      ? ""
                       : blocks                ? w->quant->name
                       : w->layout != LM_PLAIN ? "panels"
                       : w->dtype == LM_BF16   ? "bf16"
                                               : "";
    snprintf(key, LM_MACHINE_KEY, "%s%s%s%s%s", kernel, by_flops ? " flops" : "", *lies ? " " : "", lies, blocks && w->layout == LM_PLAIN ? " rows" : "");
    return by_flops ? work : bytes;
}
/* Does the step multiply by what lives across runs? */
static bool weights(const lm_call *c) { return c->op->mm_at && c->n_in > 1 && c->in[1].rank == 2; }
static bool priced_cold(const lm_machine *m, const char *key, double work, double *t) {
    char k[LM_MACHINE_KEY + sizeof LM_COST_COLD];
    snprintf(k, sizeof k, "%s%s", key, LM_COST_COLD);
    return lm_machine_price(m, k, work, t);
}
lm_cost lm_cost_of(const lm_machine *m, const lm_plan *p, int64_t seqs, int64_t seq) {
    lm_plan_stats st;
    lm_plan_stats_of(p, &st);
    lm_cost c = { 0, 0, 0, 0 };
    const double held = (double)(st.state_bytes + st.arena_bytes);              /* what a run of the plan walks through */
    const double bw = held > m->last_cache ? m->read_n : m->mid_n;
    for (int i = 0; i < st.n_steps; i++) {
        const char *op, *kernel; double flops, bytes, t;
        char key[LM_MACHINE_KEY];
        lm_plan_step(p, i, &op, &kernel, &flops, &bytes);
        const lm_call *k = lm_plan_call(p, i);
        if (!lm_numel(&k->out[0])) continue;                                   /* an extent of nothing: logits that nobody wants */
        const double work = lm_cost_work(k, kernel, &flops, bytes, seqs, seq, key);
        const bool integers = strstr(kernel, ".q8") || strstr(kernel, ".qk");
        const bool cold = held > m->last_cache && (lm_cost_attends(k) ? !seqs && lm_rows(&k->out[0]) == 1 : weights(k) && work == bytes);
        const double rate = integers && m->dot8 > 0 ? m->dot8 : strstr(kernel, ".bf16") ? m->mm_bf16 : m->mm_f32;
        const double compute = k->op->mm_at ? flops / rate : 0;
        if (!(cold && priced_cold(m, key, work, &t)) && !lm_machine_price(m, key, work, &t)) t = compute + bytes / bw;
        /* what fits into the cache may be there already */
        const double travel = bytes / (bytes > m->last_cache || bw > m->mid_n ? bw : m->mid_n);
        c.roofline += compute > travel ? compute : travel;
        c.seconds += t; c.flops += flops;
        if (k->op->mm_at) c.matrix_s += t;
    }
    return c;
}
lm_cost lm_cost_step(const lm_machine *m, lm_trainer *t, int64_t accum) {
    lm_cost a = lm_cost_of(m, t->acc, t->o.batch, t->o.seq), u = lm_cost_of(m, t->upd, 0, 0);
    return (lm_cost){ (double)accum * a.seconds + u.seconds, (double)accum * a.roofline + u.roofline, (double)accum * a.flops + u.flops,
                      (double)accum * a.matrix_s + u.matrix_s };
}
size_t lm_cost_memory(const lm_trainer_plan *p, const lm_batch *b, size_t now, size_t peak, size_t largest) {
    /* rows on their way to a file: f32 and as written, a megabyte of numbers at most */
    size_t save = 8 * largest;
    if (save > (size_t)8 << 20) save = (size_t)8 << 20;
    /* the last: buffer of metrics.jsonl */
    size_t total = now + p->total + (b ? (size_t)b->n * 4 * sizeof(int32_t) : 0) + save + ((size_t)1 << 20);
    return total > peak ? total : peak;
}
