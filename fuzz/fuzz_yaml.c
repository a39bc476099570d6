/* YAML text: the flat list must be well-formed, and its entries must survive being applied to option rows. */
#include "format/yaml.h"
#include <stdlib.h>
#include <string.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
typedef struct { int64_t steps; double lr; const char *name; lm_strlist files; bool fast; } opts;
static const lm_opt rows[] = { { LM_OPT_INT, "train.steps", offsetof(opts, steps), "10", 1, 1000, NULL, "N", "" },
                               { LM_OPT_FLOAT, "lr", offsetof(opts, lr), "1", 0, 0, NULL, "X", "" },
                               { LM_OPT_STR, "name", offsetof(opts, name), "def", 0, 0, NULL, "S", "" },
                               { LM_OPT_STRLIST, "files", offsetof(opts, files), NULL, 0, 0, NULL, "F", "" },
                               { LM_OPT_BOOL, "fast", offsetof(opts, fast), NULL, 0, 0, NULL, NULL, "" },
                               LM_OPT_ROW_END };
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    lm_arena *a; lm_yaml y;
    if (lm_arena_new(&a, ctx, LM_MEM_MISC, 4096)) return 0;
    if (!lm_yaml_parse(ctx, a, "fuzz.yaml", (const char *)data, size, &y)) {
        for (int i = 0; i < y.n; i++) {
            const lm_yaml_entry *e = &y.v[i];
            if (!e->key || !e->value || e->line < 1 || strlen(e->key) > LM_YAML_MAX_KEY) abort();
            if (e->kind == LM_YAML_SCALAR && lm_yaml_find(&y, e->key) != e) abort();       /* a scalar's key is unique */
        }
        opts o;
        if (!lm_opt_defaults(ctx, a, rows, &o)) lm_yaml_apply(ctx, a, "fuzz.yaml", &y, "", rows, &o);
    }
    lm_arena_free(a);
    return 0;
}
