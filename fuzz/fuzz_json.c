/* JSON text: parse with and without NUL, walk the tree with the typed getters, print an error for every node. */
#include "format/json.h"
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
static void walk(const lm_jv *v, int depth) {
    int64_t i; double d; bool b; const char *s; size_t n; lm_jv c;
    lm_json_as_int(v, -5, 5, &i); lm_json_as_num(v, -5, 5, &d); lm_json_as_bool(v, &b); lm_json_as_str(v, &s, NULL); lm_json_as_str(v, &s, &n);
    for (size_t k = 0; k < lm_json_len(v) && k < 8; k++)
        if (!lm_json_item(v, k, &c)) walk(&c, depth + 1);
    if (!json_is_object(v->v)) return;
    const char *key; json_t *x; int64_t few[4]; int k;
    json_object_foreach(v->v, key, x) {
        lm_json_int(v, key, LM_JSON_OPT, 0, 0, 9, &i); lm_json_ints(v, key, LM_JSON_NEED, 0, 9, few, 4, &k); lm_json_obj(v, key, LM_JSON_OPT, &c);
        if (!lm_json_get(v, key, LM_JSON_NEED, &c) && depth < LM_JSON_MAX_DEPTH) walk(&c, depth + 1);
    }
    static const char *const names[] = { "a", "hidden_size" };
    lm_json_only(v, names, 2);
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    for (unsigned flags = 0; flags < 2; flags++) {
        json_t *v;
        if (lm_json_parse(ctx, "fuzz.json", (const char *)data, size, flags, &v)) continue;
        lm_jv r = lm_json_root(ctx, "fuzz.json", v);
        walk(&r, 0);
        lm_json_free(v);
    }
    return 0;
}
