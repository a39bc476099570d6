/* A template and (behind a line "%%%") the JSON it is rendered with: compile, render with small limits, and check that every byte has its mark, that
 * the text is UTF-8, that spans lie inside, and that a second rendering gives the same. */
#include <stdlib.h>
#include <string.h>
#include "chat/jinja.h"
#include "format/cursor.h"
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    static const char cut[] = "\n%%%\n", some[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi \\u00e9\"}, {\"role\": \"assistant\", \"content\": null, \"tool_calls\": "
                              "[{\"function\": {\"name\": \"f\", \"arguments\": {\"a\": 1.5, \"b\": [true, null]}}}]}], \"tools\": null, \"add_generation_prompt\": true, \"bos_token\": \"<s>\"}";
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    size_t n = size;
    for (size_t i = 0; i + sizeof cut - 1 <= size; i++) if (!memcmp(data + i, cut, sizeof cut - 1)) { n = i; break; }
    const char *vars = n < size ? (const char *)data + n + sizeof cut - 1 : some;
    const size_t n_vars = n < size ? size - n - (sizeof cut - 1) : sizeof some - 1;
    json_t *v = NULL;
    lm_jinja *t = NULL;
    if (lm_json_parse(ctx, "vars", vars, n_vars, LM_JSON_ALLOW_NUL, &v)) return 0;
    const double now = 1.5e9;
    const lm_jinja_opts o = { .steps = 50000, .depth = 100, .memory = 4 << 20, .output = 1 << 20, .now = &now };
    lm_jinja_result r, q;
    if (json_is_object(v) && !lm_jinja_compile(&t, ctx, "fuzz", (const char *)data, n) && !lm_jinja_render(t, ctx, v, NULL, NULL, &o, &r)) {
        if (r.marks.n != r.text.n || r.text.n > (1 << 20) + 65536) abort();
        if (r.text.n && !lm_utf8_ok(r.text.p, r.text.n)) abort();
        for (size_t i = 0; i < r.n_span; i++) if (r.span[i].start > r.span[i].end || r.span[i].end > r.text.n) abort();
        if (lm_jinja_render(t, ctx, v, NULL, NULL, &o, &q)) abort();
        if (q.text.n != r.text.n || (q.text.n && (memcmp(q.text.p, r.text.p, q.text.n) || memcmp(q.marks.p, r.marks.p, q.text.n)))) abort();
        lm_jinja_result_free(ctx, &q); lm_jinja_result_free(ctx, &r);
    }
    lm_jinja_free(t); lm_json_free(v);
    return 0;
}
