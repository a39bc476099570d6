/* cmd_shapes.c — see cmd_shapes.h. */
#include <string.h>
#include "base/pool.h"
#include "cmd/cmd_shapes.h"
#include "device/probe.h"
#include "model/model_int.h"

const lm_shape lm_shapes[] = {
    /* name          what                             family   vocab    d    L  heads kv d_head  ff    context  rope    tied */
    { "tiny-1m",     "1 M parameters",                "llama",  2048,  128,  4,  4,  4, 32,   384,   512,   10000, true },
    { "llama-30m",   "30 M parameters",               "llama",  8192,  512,  8,  8,  8, 64,  1408,  1024,   10000, true },
    { "gpt2-124m",   "GPT-2 small",                   "gpt2",  50257,  768, 12, 12, 12, 64,  3072,  1024,   10000, true },
    { "gpt2-774m",   "GPT-2 large",                   "gpt2",  50257, 1280, 36, 20, 20, 64,  5120,  1024,   10000, true },
    { "smollm-135m", "SmolLM2-135M",                  "llama", 49152,  576, 30,  9,  3, 64,  1536,  2048,  100000, true },
    { "llama-1b",    "Llama-3.2-1B",                  "llama", 128256, 2048, 16, 32, 8, 64,  8192,  4096,  500000, true },
    { "llama-1.1b",  "1.1 B parameters",              "llama", 32768, 2048, 20, 16, 8, 128,  5632,  4096,   10000, true },
    { "llama-7b",    "Llama-2-7B",                    "llama", 32000, 4096, 32, 32, 32, 128, 11008, 4096,   10000, false },
    { NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, false } };

lm_err lm_shape_cfg(lm_ctx *ctx, const char *name, lm_cfg *c) {
    const char *names[32]; int n = 0;
    for (const lm_shape *s = lm_shapes; s->name; s++) {
        names[n++] = s->name;
        if (strcmp(s->name, name)) continue;
        const lm_model *row = lm_model_by_name(s->family);
        if (!row) return lm_fail(ctx, LM_E_UNSUPPORTED, "this build has no architecture called %s", s->family);
        *c = (lm_cfg){ .model = row,
                       .vocab = s->vocab,
                       .d = s->d,
                       .n_layer = s->n_layer,
                       .n_head = s->n_head,
                       .n_kv = s->n_kv,
                       .d_head = s->d_head,
                       .d_ff = s->d_ff,
                       .max_pos = s->max_pos,
                       .eps = 1e-5,
                       .init_std = 0.02,
                       .tie = s->tie,
                       .bos = -1,
                       .hf_type = row->name };
        row->usual(c);
        c->rope.d_head = (int)s->d_head; c->rope.base = s->rope_base; c->rope.max_pos = s->max_pos;
        return lm_cfg_check(ctx, c);
    }
    const char *near = lm_nearest(name, names, n);
    return lm_fail(ctx, LM_E_CONFIG,
                   "no shape is called \"%s\"%s%s; known: tiny-1m, llama-30m, gpt2-124m, gpt2-774m, smollm-135m, llama-1b, llama-1.1b, llama-7b",
                   name, near ? "; did you mean " : "", near ? near : "");
}
typedef enum { COUNT, DECLARE, FILL } doing;
typedef struct { lm_ctx *ctx; const lm_cfg *c; const lm_load_opts *o; lm_store *store; doing doing; float *noise; size_t bytes; } maker;
enum { NOISE = 65521 };                     /* odd: no two rows of a matrix are alike, or thousands of logits would be the largest */
typedef struct { char *to; size_t n; const char *from; size_t period; } spread;
static void spread_tile(void *ud, int64_t t, int ith) {
    spread *s = ud; (void)ith;
    size_t at = (size_t)t * s->period, n = s->n - at < s->period ? s->n - at : s->period;
    memcpy(s->to + at, s->from, n);
}
static lm_err fill(maker *k, const lm_tensor *w) {
    size_t bytes;
    if (!lm_storage_bytes((lm_dtype)w->dtype, w->quant, (lm_layout)w->layout, w->rank, w->dim, &bytes)) return LM_E_RANGE;
    char *unit = lm_alloc(k->ctx, LM_MEM_SCRATCH, (size_t)NOISE * 4);
    if (!unit) return LM_E_NOMEM;
    size_t period;
    if (w->dtype == LM_QUANT) period = lm_quant_piece(w, k->noise, NOISE / (16 * w->quant->block) * 16 * w->quant->block, unit);
    else { period = (size_t)NOISE * lm_dtype_size((lm_dtype)w->dtype); lm_convert(unit, (lm_dtype)w->dtype, k->noise, LM_F32, NOISE); }
    spread s = { w->data, bytes, unit, period };
    lm_pool_tiles(lm_ctx_pool(k->ctx), lm_ceil_div((int64_t)bytes, (int64_t)period), spread_tile, &s);
    lm_free(k->ctx, unit);
    return LM_OK;
}
static lm_err make(void *ud, const char *name, const lm_type *t, lm_role role, bool head) {
    maker *k = ud;
    int layer;
    const struct lm_name_map *row = lm_model_name_row(k->c->model, name, &layer);
    const bool matrix = t->rank == 2, in_out = row && row->transpose,
               multiplied = matrix && !in_out && (role == LM_ROLE_COL || role == LM_ROLE_ROW || head);
    lm_type type = *t; lm_layout layout = LM_PLAIN; lm_tensor w;
    const lm_quant *q = k->o->quant;
    if (q && (q->n_comp != 1 || !q->from_float))
        return lm_fail(k->ctx, LM_E_UNSUPPORTED, "%s: random weights cannot be made in this format", q->name);
    if (q && matrix && t->dim[1] % q->block == 0 &&
        ((multiplied && role != LM_ROLE_EMBED) || (role == LM_ROLE_EMBED && k->o->quant_embed))) {
        type.dtype = LM_QUANT;
        type.quant = q;
        if (k->o->panels && multiplied && q->panels) layout = LM_PANEL16;
    } else if (matrix) {
        if (k->o->dtype != LM_QUANT) type.dtype = k->o->dtype;
        if (k->o->panels && multiplied) layout = type.dtype == LM_BF16 ? LM_PANEL16X2 : LM_PANEL16;
    }
    if (k->doing == COUNT) {
        size_t bytes;
        if (!lm_storage_bytes(type.dtype, type.quant, layout, type.rank, type.dim, &bytes)) return LM_E_RANGE;
        k->bytes += bytes;
        return LM_OK;
    }
    if (k->doing == DECLARE) return lm_store_declare(k->store, name, &type, layout);
    LM_TRY(lm_store_add(k->store, name, &type, layout, LM_MEM_WEIGHTS, &w));
    if (role == LM_ROLE_NORM || role == LM_ROLE_BIAS) {
        for (int64_t i = 0; i < lm_numel(&w); i++) ((float *)w.data)[i] = role == LM_ROLE_NORM ? 1.0f : 0.0f;
        return LM_OK;
    }
    return fill(k, &w);
}
lm_err lm_shape_weights(lm_ctx *ctx, const lm_cfg *c, const lm_load_opts *o, bool do_fill, lm_store *store) {
    maker k = { ctx, c, o, store, do_fill ? COUNT : DECLARE, lm_alloc(ctx, LM_MEM_SCRATCH, (size_t)NOISE * sizeof(float)), 0 };
    if (!k.noise) return LM_E_NOMEM;
    lm_rng r = lm_rng_of(1, "shape");
    for (int i = 0; i < NOISE; i++) k.noise[i] = (float)c->init_std * lm_rng_normal(r, (uint64_t)i);
    lm_err err = LM_OK;
    if (do_fill) {                                                        /* memory that is not there is only missed when it is written to */
        err = lm_model_walk(ctx, c, make, &k);
        k.doing = FILL;
        const size_t have = lm_memory_available();
        if (!err && have && k.bytes > have)
            err = lm_fail(ctx, LM_E_NOMEM, "weights of this shape take %.2f GB of memory, %.2f GB are available", (double)k.bytes / 1e9, (double)have / 1e9);
    }
    if (!err) err = lm_model_walk(ctx, c, make, &k);
    lm_free(ctx, k.noise);
    return err;
}
