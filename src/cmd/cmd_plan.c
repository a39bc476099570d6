/* cmd_plan.c — see cmd_plan.h. */
#include <string.h>
#include "cmd/cmd_plan.h"
#include "cmd/cmd_shapes.h"

void lm_need_of_trainer(lm_ctx *ctx, const lm_machine *m, lm_trainer *t, int64_t tokens, int64_t accum, int64_t micro, size_t base,
                        lm_train_need *out) {
    lm_trainer_plan p; lm_trainer_plan_of(t, &p);
    size_t largest = 0;
    for (int i = 0; i < lm_trainer_n_params(t); i++) {
        const lm_type *y = &lm_trainer_param(t, i)->type;
        size_t n = 1;
        for (int k = 0; k < y->rank; k++) n *= (size_t)y->dim[k];
        if (n > largest) largest = n;
    }
    lm_batch b = { .n = tokens / accum };
    lm_ledger l; lm_mem_ledger(ctx, &l);
    base += l.now[LM_MEM_GRAPH];                                          /* the plans themselves, which a dry run makes too */
    *out = (lm_train_need){ .params = p.params,
                            .grads = p.grads,
                            .optim = p.optim,
                            .act = lm_max64((int64_t)p.accumulate.arena_bytes, (int64_t)p.update.arena_bytes),
                            .n_params = (int64_t)p.n_params,
                            .scratch = lm_max64((int64_t)p.accumulate.thread_bytes, (int64_t)p.update.thread_bytes),
                            .base = base,
                            .tokens = tokens,
                            .recompute = p.recompute,
                            .micro = micro };
    const lm_cost k = lm_cost_step(m, t, accum);
    out->flops = k.flops; out->seconds = k.seconds; out->roofline = k.roofline;
    out->peak = lm_cost_memory(&p, &b, base, 0, largest);
}
lm_err lm_need_train(lm_ctx *ctx, const lm_machine *m, const lm_cfg *c, const lm_trainer_opts *o, int64_t accum, size_t base, lm_train_need *out) {
    lm_store *store;
    lm_trainer *t = NULL;
    lm_trainer_opts dry = *o;
    dry.dry = true;
    LM_TRY(lm_store_new(&store, ctx));
    lm_err err = lm_trainer_new(&t, ctx, c, store, &dry);
    if (!err) lm_need_of_trainer(ctx, m, t, o->batch * o->seq * accum, accum, o->batch, base, out);
    lm_trainer_free(t); lm_store_free(store);
    return err;
}
/* The engine's plan: a run of `rows` tokens whose logits nobody wants, then of one with its logits. Each row is priced as if it saw the whole context. */
static lm_err engine_cost(lm_ctx *ctx, const lm_machine *m, const lm_cfg *c, lm_store *store, const lm_serve_opts *o, int64_t context,
                          int64_t rows, lm_cost *many, lm_cost *one, lm_plan_stats *st) {
    lm_engine *e;
    LM_TRY(lm_engine_new(&e, ctx, c, store,
                         &(lm_engine_opts){ .context = context, .chunk = rows, .mm = lm_engine_mm_for(store), .kv = o->kv, .kv_quant = o->kv_quant, .dev = o->dev, .dry = true }));
    lm_plan *p = (lm_plan *)(uintptr_t)lm_engine_plan(e);                      /* dry: nobody runs it */
    lm_plan_stats_of(p, st);
    lm_err err = LM_OK;
    for (int i = 0; i < 2 && !err; i++) {
        lm_cost *out = i ? one : many;
        if (!out) continue;
        err = lm_plan_extent(p, "N", i ? 1 : rows);
        if (!err) err = lm_plan_extent(p, "L", i);
        if (err) break;
        lm_plan_reprice(p);
        *out = lm_cost_of(m, p, 0, 0);
    }
    lm_engine_free(e);
    return err;
}
/* room: as lm_load_opts has it. */
static lm_err declare(lm_ctx *ctx, const lm_cfg *c, const lm_serve_opts *o, size_t room, lm_store *store, lm_load_need *need) {
    *need = (lm_load_need){ 0 };
    if (!o->from)
        return lm_shape_weights(ctx, c, &(lm_load_opts){ .dtype = o->quant ? LM_F32 : o->dtype, .quant = o->quant, .quant_embed = o->quant != NULL, .panels = !o->dev },
                                false, store);
    return lm_weights_declare(o->from, store,
                              &(lm_load_opts){ .dtype = o->quant ? LM_QUANT : o->dtype, .quant = o->quant, .panels = !o->dev, .map = o->map && !room, .room = room }, need);
}
static lm_err need_serve(lm_ctx *ctx, const lm_machine *m, const lm_cfg *c, const lm_serve_opts *o, size_t base, size_t room, lm_serve_need *out) {
    lm_store *store;
    LM_TRY(lm_store_new(&store, ctx));
    lm_serve_need n = { .base = base, .context = o->context, .prompt = lm_min64(o->context, 512) };
    lm_plan_stats st, full;
    lm_cost read, write, end;
    lm_load_need need;
    const int64_t rows = lm_min64(256, n.prompt);
    lm_err err = declare(ctx, c, o, room, store, &need);
    if (!err) err = engine_cost(ctx, m, c, store, o, lm_max64(n.prompt / 2, 1), rows, &read, NULL, &st);          /* a prompt's token sees half of it */
    if (!err) err = engine_cost(ctx, m, c, store, o, n.prompt, rows, NULL, &write, &st);
    if (!err) err = engine_cost(ctx, m, c, store, o, o->context, lm_min64(256, o->context), NULL, &end, &full);
    if (!err) {
        n.decode_s = write.seconds; n.decode_roof = write.roofline;
        n.decode_end_s = end.seconds;
        n.prefill_s = read.seconds / (double)rows; n.prefill_roof = read.roofline / (double)rows;
        n.mapped = need.mapped; n.away = need.away; n.ring = need.ring;
        if (n.away && o->disk > 0) {                              /* reading and computing go on side by side: the longer of the two */
            const double s = (double)n.away / o->disk;
            double *const each[] = { &n.decode_s, &n.decode_roof, &n.decode_end_s };
            for (int i = 0; i < LM_COUNT(each); i++) if (*each[i] < s) *each[i] = s;
            if (n.prefill_s < s / (double)rows) n.prefill_s = s / (double)rows;
            if (n.prefill_roof < s / (double)rows) n.prefill_roof = s / (double)rows;
        }
        for (int i = 0; i < lm_store_count(store); i++) {
            lm_tensor t; size_t b = 0;
            lm_store_name(store, i, &t);
            lm_storage_bytes((lm_dtype)t.dtype, t.quant, (lm_layout)t.layout, t.rank, t.dim, &b);
            n.weights += b; n.n_params += lm_numel(&t);
        }
        const size_t out_of_it = n.mapped + n.away;
        n.kv = full.state_bytes > n.weights ? full.state_bytes - n.weights : 0;
        n.scratch = full.arena_bytes + full.thread_bytes;
        n.flops = write.flops;
        n.peak = n.base + (n.weights > out_of_it ? n.weights - out_of_it : 0) + n.ring + n.kv + n.scratch;
        *out = n;
    }
    lm_store_free(store);
    return err;
}
lm_err lm_need_serve(lm_ctx *ctx, const lm_machine *m, const lm_cfg *c, const lm_serve_opts *o, size_t base, lm_serve_need *out) {
    LM_TRY(need_serve(ctx, m, c, o, base, 0, out));
    const size_t slack = lm_api_slack(out->weights), beside = out->kv + out->scratch + slack;              /* as lm_api_open counts */
    if (!o->from || !o->have || out->weights + beside <= o->have) return LM_OK;
    const size_t all = out->peak + out->mapped + slack;
    lm_err err = o->map && o->have > beside ? need_serve(ctx, m, c, o, base, o->have - beside, out) : LM_E_NOMEM;
    if (err != LM_E_NOMEM) return err;
    lm_error_clear(ctx);                                          /* no way: it is told as what it would take */
    out->peak = all;
    return LM_OK;
}
