/* A command line over the keys of a training run: words are parted by newlines; --flags, key=value. What is accepted is written out as YAML
 * and as arguments again: the same values. */
#define _GNU_SOURCE 1
#include "format/yaml.h"
#include "train/run.h"
#include <stdlib.h>
#include <string.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
static void set_all(lm_ctx *ctx, lm_arena *a, lm_run_cfg *c, const lm_strlist *pos) {
    for (int i = 0; i < pos->n; i++) {
        const char *eq = strchr(pos->v[i], '=');
        char *key = eq ? lm_arena_printf(a, "%.*s", (int)(eq - pos->v[i]), pos->v[i]) : NULL;
        if (key && lm_opt_set(ctx, a, lm_run_options, c, key, eq + 1) && !*lm_error(ctx)) abort();
    }
}
static void round_trip(lm_ctx *ctx, lm_arena *a, const lm_run_cfg *c) {
    lm_run_cfg d; lm_yaml y;
    lm_str s = { .ctx = ctx }, t = { .ctx = ctx };
    lm_opt_dump_yaml(&s, lm_run_options, c);
    if (lm_opt_defaults(ctx, a, lm_run_options, &d) || lm_yaml_parse(ctx, a, "dump.yaml", s.p, s.n, &y) ||
        lm_yaml_apply(ctx, a, "dump.yaml", &y, "", lm_run_options, &d))
        abort();
    lm_opt_dump_yaml(&t, lm_run_options, &d);
    if (s.n != t.n || memcmp(s.p, t.p, s.n)) abort();
    lm_str_free(&s); lm_str_free(&t);
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    lm_arena *a;
    char *text = malloc(size + 1), *argv[66]; int n = 0;
    if (!text || lm_arena_new(&a, ctx, LM_MEM_MISC, 4096)) exit(2);
    memcpy(text, data, size); text[size] = 0;
    argv[n++] = (char *)(uintptr_t)"loam";
    for (char *p = text; n < 65; p++) { argv[n++] = p; if (!(p = strchr(p, '\n'))) break; *p = 0; }
    argv[n] = NULL;
    lm_run_cfg c; lm_strlist pos = {0}; bool help = false;
    if (lm_opt_defaults(ctx, a, lm_run_options, &c)) exit(2);
    if (!lm_opt_parse(ctx, a, lm_run_options, &c, n, argv, &pos, &help)) set_all(ctx, a, &c, &pos);
    else if (!*lm_error(ctx)) abort();
    round_trip(ctx, a, &c);
    lm_arena_free(a); free(text);
    return 0;
}
