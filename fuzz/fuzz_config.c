/* config.json of every family → lm_cfg: what is accepted can be built and listed, and comes out again the same from the config.json that is
 * written for it. */
#define _GNU_SOURCE 1
#include "format/json.h"
#include "model/model.h"
#include <stdlib.h>
#include <string.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
static lm_err add(void *ud, const char *name, const lm_type *t, lm_role role) {
    uint64_t *h = ud; (void)role;
    if (!*name || t->rank < 1 || t->rank > 2) abort();
    for (int i = 0; i < t->rank; i++) if (t->dim[i] < 1) abort();
    *h = lm_hash64(name, strlen(name), *h + (uint64_t)t->dim[0] + (t->rank > 1 ? 31u * (uint64_t)t->dim[1] : 0));
    return LM_OK;
}
/* A family may refuse what is legal for another, with a sentence. */
static bool params(lm_ctx *ctx, const lm_cfg *c, uint64_t *h) {
    const lm_err e = lm_model_params(ctx, c, add, h);
    if (e && e != LM_E_CONFIG) abort();
    return !e;
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    json_t *j; lm_cfg c = { .bos = -1 }, d = { .bos = -1 };
    if (lm_json_parse(ctx, "config.json", (const char *)data, size, 0, &j)) return 0;
    if (!lm_cfg_from_hf(ctx, "config.json", j, &c) && !lm_cfg_check(ctx, &c) && c.n_layer <= 4) {
        uint64_t h = 0, k = 0;
        json_t *out = NULL;
        if (params(ctx, &c, &h) && !lm_cfg_to_hf(ctx, &c, LM_F32, &out)) {
            if (lm_cfg_from_hf(ctx, "written", out, &d) || lm_cfg_check(ctx, &d)) abort();
            if (d.model != c.model || !params(ctx, &d, &k) || k != h || d.tie != c.tie || d.eps != c.eps || d.rope.scaling != c.rope.scaling) abort();
        }
        json_decref(out);
    }
    lm_json_free(j);
    return 0;
}
