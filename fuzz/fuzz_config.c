/* config.json of every family → lm_cfg: what is accepted can be built and listed, and comes out again the same from the config.json that is written for it. */
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
static uint64_t params(lm_ctx *ctx, const lm_cfg *c) {
    uint64_t h = 0;
    if (lm_model_params(ctx, c, add, &h)) abort();
    return h;
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    json_t *j; lm_cfg c = { .bos = -1 }, d = { .bos = -1 };
    if (lm_json_parse(ctx, "config.json", (const char *)data, size, 0, &j)) return 0;
    if (!lm_cfg_from_hf(ctx, "config.json", j, &c) && !lm_cfg_check(ctx, &c) && c.n_layer <= 4) {
        const uint64_t h = params(ctx, &c);
        json_t *out = json_object();
        json_object_set_new(out, "architectures", json_pack("[s]", c.model->hf_archs[0]));
        if (!c.model->to_hf(ctx, &c, out)) {
            if (lm_cfg_from_hf(ctx, "written", out, &d) || lm_cfg_check(ctx, &d)) abort();
            if (d.model != c.model || params(ctx, &d) != h || d.tie != c.tie || d.eps != c.eps || d.rope.scaling != c.rope.scaling) abort();
        }
        json_decref(out);
    }
    lm_json_free(j);
    return 0;
}
