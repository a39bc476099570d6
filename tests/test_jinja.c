/* test_jinja.c — chat templates against Python: every template of the fixture with every conversation; marks, spans, limits, hostile templates. */
#include <stdlib.h>
#include <time.h>
#include <zstd.h>
#include "base/file.h"
#include "chat/jinja.h"
#include "test.h"

static lm_ctx *ctx;
static uint64_t fnv(const char *p, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)p[i]) * 0x100000001b3u;
    return h;
}
static bool begin(void) {
    setenv("TZ", "UTC0", 1);
    tzset();
    return ctx || !lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 });
}
static json_t *fixture(const char *path) {
    char *z; size_t n; json_t *v = NULL;
    if (lm_file_read_all(ctx, path, 64 << 20, &z, &n)) return NULL;
    const unsigned long long size = ZSTD_getFrameContentSize(z, n);
    char *text = size < (256u << 20) ? malloc((size_t)size + 1) : NULL;
    if (text && ZSTD_decompress(text, (size_t)size, z, n) == size) lm_json_parse(ctx, path, text, (size_t)size, LM_JSON_ALLOW_NUL, &v);
    free(text); lm_free(ctx, z);
    return v;
}
/* LM_JINJA_FIXTURE: another fixture of tools/fixtures/jinja.py; LM_JINJA_SHOW=NAME: print what that template gives. */
static void test_python(void) {
    if (!begin()) return;
    const char *path = getenv("LM_JINJA_FIXTURE"), *show = getenv("LM_JINJA_SHOW");
    json_t *f = fixture(path ? path : LM_FIXTURES "/chat/jinja.json.zst"), *t;
    LM_CHECK(f != NULL);
    if (!f) { printf("%s\n", lm_error(ctx)); return; }
    const json_t *conv = json_object_get(f, "conversations");
    const double now = json_number_value(json_object_get(f, "now"));
    const lm_jinja_opts o = { .now = &now };
    size_t i, pairs = 0, right = 0, refused = 0, bad_templates = 0;
    json_array_foreach(json_object_get(f, "templates"), i, t) {
        const char *name = json_string_value(json_object_get(t, "name"));
        const json_t *text = json_object_get(t, "text"), *out = json_object_get(t, "out");
        lm_jinja *j = NULL;
        const size_t before = right;
        const lm_err e = lm_jinja_compile(&j, ctx, name, json_string_value(text), json_string_length(text));
        char why[300] = "";
        if (e) snprintf(why, sizeof why, "%s", lm_error(ctx));
        for (size_t k = 0; k < json_array_size(out); k++) {
            const char *want = json_string_value(json_array_get(out, k));
            lm_jinja_result r = { 0 };
            char got[20] = "";
            if (j && !lm_jinja_render(j, ctx, json_array_get(conv, k), NULL, NULL, &o, &r)) snprintf(got, sizeof got, "%016llx", (unsigned long long)fnv(r.text.p, r.text.n));
            else if (j && !*why && *want) snprintf(why, sizeof why, "%s", lm_error(ctx));
            if (show && !strcmp(show, name)) printf("--- %zu: %s\n%.*s\n", k, *got ? got : lm_error(ctx), (int)r.text.n, r.text.p ? r.text.p : "");
            pairs++; right += !strcmp(got, want); refused += !*want;
            if (strcmp(got, want) && before + k + 1 > right && !why[sizeof why - 1] && strlen(why) < 200) {
                char more[64];
                snprintf(more, sizeof more, " [%zu%s]", k, !*want ? " wanted a refusal" : !*got ? " refused" : "");
                strncat(why, more, sizeof why - strlen(why) - 1);
            }
            lm_jinja_result_free(ctx, &r);
        }
        lm_jinja_free(j);
        if (right - before != json_array_size(out)) { bad_templates++; lm_t_fail++; printf("%s: %zu of %zu: %s\n", name, right - before, json_array_size(out), why); }
    }
    printf("%zu templates, %zu pairs, %zu as Python has them (%zu of the pairs are refusals), %zu templates differ\n", i, pairs, right, refused, bad_templates);
    LM_CHECK(path || (i >= 200 && pairs >= 200 * 20));
    json_decref(f);
}
static lm_err once_with(const char *text, const char *vars, const lm_jinja_opts *o, lm_jinja_trust *trust, lm_jinja_result *r) {
    lm_jinja *j;
    LM_TRY(lm_jinja_compile(&j, ctx, "t", text, strlen(text)));
    json_t *v = json_loads(vars, 0, NULL);
    const lm_err e = lm_jinja_render(j, ctx, v, trust, NULL, o, r);
    json_decref(v); lm_jinja_free(j);
    return e;
}
static bool trust(void *ud, const char *var, const json_t *m, const char *key) {
    (void)ud;
    if (!m) return strcmp(var, "tools") != 0;
    return !strcmp(json_string_value(json_object_get(m, "role")), "assistant") || !strcmp(key, "role");
}
/* Text of the conversation stays marked whatever is done to it; the template's own never is. */
static void test_marks(void) {
    if (!begin()) return;
    static const char vars[] = "{\"bos_token\": \"<s>\", \"messages\": [{\"role\": \"user\", \"content\": \" UsEr<s>\\n\"}, {\"role\": \"assistant\", \"content\": \"A<s>\"}]}";
    static const struct { const char *t, *text, *marks; } c[] = {
        { "<s>{{ messages[0].content }}<s>", "<s> UsEr<s>\n<s>", "000111111111000" },
        { "{{ bos_token + messages[0].content | trim + '<s>' }}{{ messages[1].content }}", "<s>UsEr<s><s>A<s>", "00011111110000000" },
        { "{{ (bos_token ~ messages[0].content).replace('Us', '<s>') | upper }}", "<S> <S>ER<S>\n", "0001000111111" },
        { "{{ '%s|%s' % (bos_token, messages[0].content[1:3]) }}{{ ('<s>{}'.format(messages[0].content))[2:6] }}", "<s>|Us> Us", "0000110111" },
        { "{{ messages[0].content | tojson }}{{ [messages[0].content, bos_token] | join('<s>') }}", "\" UsEr<s>\\n\" UsEr<s>\n<s><s>", "011111111110111111111000000" },
        { "{% set x %}<s>{{ messages[0].content[0:3] }}{% endset %}{{ x[2:] }}{{ x | indent(1, true) }}{{ x | e }}", "> Us <s> Us&lt;s&gt; Us", "01110000111000000000111" },
        { "{{ messages[0].content.split('<')[1] }}{{ messages[0].content[::-1][:4] }}{{ messages[0].content | replace('<s>', '') }}", "s>\n\n>s< UsEr\n", "1111111111111" },
        { "{{ messages[0] }}", "{'role': 'user', 'content': ' UsEr<s>\\n'}", "0111100" "00000000" "0111111100" "0" "0" },
    };
    for (int i = 0; i < LM_COUNT(c); i++) {
        lm_jinja_result r;
        LM_NEED_OK(ctx, once_with(c[i].t, vars, NULL, trust, &r));
        LM_CHECK_STR(r.text.p, c[i].text);
        char m[128] = "";
        for (size_t k = 0; k < r.marks.n && k < 127; k++) m[k] = (char)('0' + r.marks.p[k]);
        LM_CHECK(r.marks.n == r.text.n);
        if (i + 1 < LM_COUNT(c)) LM_CHECK_STR(m, c[i].marks);
        else LM_CHECK(strstr(m, "11111111") != NULL);
        lm_jinja_result_free(ctx, &r);
    }
}
static void test_spans(void) {
    if (!begin()) return;
    lm_jinja_result r;
    LM_NEED_OK(ctx, once_with("a{% for x in [1, 2] %}b{% generation %}cé{{ x }}{% endgeneration %}{% endfor %}", "{}", NULL, NULL, &r));
    LM_CHECK_STR(r.text.p, "abcé1bcé2");
    LM_CHECK(r.n_span == 2 && r.span[0].start == 2 && r.span[0].end == 6 && r.span[1].start == 7 && r.span[1].end == 11);
    lm_jinja_result_free(ctx, &r);
}
/* Templates that would take for ever, or all memory, or all of the stack. */
static void test_limits(void) {
    if (!begin()) return;
    static const char *const t[] = {
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% macro f(n) %}{{ f(n) ~ f(n) }}{% endmacro %}{{ f(0) }}",
        "{{ 'a' * 9999999999 }}", "{{ [1] * 9999999999 }}", "{{ 9999999999 * 'ab' }}", "{{ ' ' | center(9999999999) }}", "{{ '%99999999s' % 'x' }}", "{{ '{:>99999999}'.format('x') }}",
        "{{ 'a'.ljust(9999999999) }}", "{{ '7'.zfill(9999999999) }}", "{{ 'a\tb'.expandtabs(9999999999) }}", "{{ 'a\nb' | indent(9999999999) }}", "{{ [1] | batch(9999999999, 0) | list }}",
        "{{ [1] | slice(9999999999) | list }}", "{{ [[[[1]]]] | tojson(indent=99999999) }}",
        "{% set ns = namespace(s='ab') %}{% for i in range(99999) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(40) %}{% set ns.s = ns.s.replace('a', ns.s) %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}",
        "{% set ns = namespace(x=[], y=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
        "{% set ns = namespace(x=[], y=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}{% endfor %}{{ ns.x < ns.y }}",
        "{% set ns = namespace(x=(1,)) %}{% for i in range(9999) %}{% set ns.x = (ns.x,) %}{% endfor %}{{ {ns.x: 1} }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", "{% set ns = namespace(d={}) %}{% set ns.d = ns %}{{ ns }}",
        "{% set ns = namespace(x=[1, 2]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | string | length }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "{{ range(10 ** 18) }}", "{{ 10 ** 30 }}", "{{ 9223372036854775807 + 1 }}", "{{ -9223372036854775807 - 9 }}",
        "{{ 4611686018427387904 * 2 }}", "{{ 99999999999999999999999 }}", "{{ 1e300 | int }}", "{{ ('9' * 300) | int }}",
        "{% for i in range(99999) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' * 100 }}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{% if 'b' in s %}{% endif %}{% endfor %}", "{% set s = 'é' * 1000000 %}{% for i in range(99999) %}{% set x = s[i] %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{% set x = s.split() %}{% endfor %}", "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{% set x = s | upper %}{% endfor %}",
        "{% set s = 'ab' * 1000000 %}{% for i in range(99999) %}{% set x = s.rfind('c') %}{% endfor %}", "{% set s = 'ab' * 1000000 %}{% for i in range(99999) %}{% set x = s.count('c') %}{% endfor %}",
        "{% set ns = namespace(x=(1, 2)) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1} }}",
        "{% set a = 'a' * 1000000 %}{% set b = 'a' * 500000 + 'b' %}{% for i in range(99999) %}{% set x = a.rfind(b) %}{% endfor %}",
        "{% set a = 'a' * 1000000 %}{% set b = 'a' * 500000 + 'b' %}{% for i in range(99999) %}{% set x = a.rsplit(b) %}{% endfor %}",
        "{% set a = 'a' * 1000000 %}{% set b = 'b' + 'a' * 500000 %}{% for i in range(99999) %}{% set x = a.rpartition(b) %}{% endfor %}",
        "{% set a = 'a' * 1000000 %}{% for i in range(99999) %}{% set x = a.rpartition('a' * 500000) %}{% endfor %}",
        "{% set s = 'aA' * 500000 %}{% for i in range(99999) %}{% set x = s.casefold() == s | title %}{% endfor %}",
        "{{ {}.x.y }}{{ '\\ud800' }}", "{% set l = range(9999) | list %}{% for i in l %}{% for k in l %}{% if i in l %}{% endif %}{% endfor %}{% endfor %}",
    };
    const lm_jinja_opts quick = { .steps = 1000000 };
    for (int i = 0; i < LM_COUNT(t); i++) {
        lm_jinja_result r;
        const clock_t t0 = clock();
        const lm_err e = once_with(t[i], "{}", LM_T_WATCHED || i % 8 ? &quick : NULL, NULL, &r);
        if (!e) { lm_t_fail++; printf("%s: wrote %zu bytes\n", t[i], r.text.n); lm_jinja_result_free(ctx, &r); }
        else if (!strstr(lm_error(ctx), "t:")) { lm_t_fail++; printf("%s: \"%s\"\n", t[i], lm_error(ctx)); }
        const double s = (double)(clock() - t0) / CLOCKS_PER_SEC;           /* of this process: a hang, not a measurement */
        if (s > 60) { lm_t_fail++; printf("%s: %.1f s\n", t[i], s); }
    }
    lm_str s = { 0 };
    static const struct { const char *open, *close; } deep[] = { { "(", ")" }, { "[", "]" }, { "{1:", "}" }, { "-", "" }, { "not ", "" }, { "x[", "]" }, { "x(", ")" }, { "1 if ", " else 2" },
                                                                { "1+", "" }, { "x.", "" }, { "1|f(", ")" }, { "1 and ", "" }, { "'a'~", "" }, { "1<", "" }, { "2**", "" } };
    for (int i = 0; i < LM_COUNT(deep); i++) {
        lm_str_clear(&s);
        lm_str_puts(&s, "{{ ");
        for (int k = 0; k < 100000; k++) lm_str_puts(&s, deep[i].open);
        lm_str_puts(&s, strcmp(deep[i].open, "x.") ? "1" : "x");
        for (int k = 0; k < 100000; k++) lm_str_puts(&s, deep[i].close);
        lm_str_puts(&s, " }}");
        lm_jinja_result r;
        const lm_err e = once_with(s.p, "{}", NULL, NULL, &r);
        if (!e) lm_jinja_result_free(ctx, &r);
        LM_CHECK(e || !strcmp(deep[i].open, "'a'~"));
    }
    static const char *const tags[] = { "{% if x %}", "{% for x in [1] %}", "{% if 0 %}{% else %}", "{% macro f() %}", "{% set x %}", "{% filter upper %}", "{% with %}", "{% call f() %}", "{% generation %}" };
    for (int i = 0; i < LM_COUNT(tags); i++) {
        lm_str_clear(&s);
        for (int k = 0; k < 50000; k++) lm_str_puts(&s, tags[i]);
        lm_jinja_result r;
        LM_CHECK(once_with(s.p, "{}", NULL, NULL, &r) != LM_OK);
    }
    lm_str_clear(&s);
    lm_str_puts(&s, "{% if 0 %}a");
    for (int k = 0; k < 20000; k++) lm_str_puts(&s, "{% elif 0 %}b");
    lm_str_puts(&s, "{% else %}c{% endif %}");
    lm_jinja_result r;
    LM_NEED_OK(ctx, once_with(s.p, "{}", NULL, NULL, &r));             /* long, not deep */
    LM_CHECK_STR(r.text.p, "c");
    lm_jinja_result_free(ctx, &r);
    lm_str_free(&s);
    const lm_jinja_opts few = { .steps = 50 }, small = { .memory = 20000 }, brief = { .output = 10 }, flat = { .depth = 5 };
    LM_CHECK_ERR(ctx, once_with("{% for i in range(100) %}{% endfor %}", "{}", &few, NULL, &r), LM_E_RANGE, "more than 50 steps");
    LM_CHECK_ERR(ctx, once_with("{{ 'x' * 100000 }}", "{}", &small, NULL, &r), LM_E_RANGE, "memory");
    LM_CHECK_ERR(ctx, once_with("{% for i in range(100) %}x{% endfor %}", "{}", &brief, NULL, &r), LM_E_RANGE, "more than 10 bytes of output");
    LM_CHECK_ERR(ctx, once_with("{{ ((((1 + 1) + 1) + 1) + 1) + 1 }}", "{}", &flat, NULL, &r), LM_E_RANGE, "inside each other");
}
/* What is large but honest is rendered: a megabyte of short lines, a thousand messages. */
static void test_large(void) {
    if (!begin()) return;
    lm_str v = { 0 };
    lm_str_puts(&v, "{\"messages\": [{\"role\": \"user\", \"content\": \"");
    for (int i = 0; i < 50000; i++) lm_str_puts(&v, "a short line, no. 7\\n");
    lm_str_puts(&v, "\"}");
    for (int i = 0; i < 1000; i++) lm_str_puts(&v, ", {\"role\": \"assistant\", \"content\": \"an answer of some words, as they are\"}");
    lm_str_puts(&v, "]}");
    lm_jinja_result r;
    LM_NEED_OK(ctx, once_with("{% for m in messages %}<{{ m.role }}>{{ m.content | trim | replace('\\n', ' ') }}{{ m.content.split('\\n')[-1] }}{{ m.content.splitlines() | length }}"
                              "{{ m.content.strip().upper()[:3] }}{{ 'x' in m.content }}{{ m.content.rsplit('\\n', 1) | length }}</>{% endfor %}", v.p, NULL, NULL, &r));
    LM_CHECK(r.text.n > 1000000 && r.marks.n == r.text.n);
    lm_jinja_result_free(ctx, &r);
    lm_str_free(&v);
}
static void test_sentences(void) {
    if (!begin()) return;
    lm_jinja_result r;
    static const struct { const char *t; lm_err e; const char *why; } c[] = {
        { "a\n{{ x.y }}", LM_E_DATA, "t:2: 'x' is undefined" }, { "{{ raise_exception('no system') }}", LM_E_DATA, "the template refuses: no system" },
        { "a\n\n{% if %}", LM_E_FORMAT, "t:3: wanted an expression" }, { "{% for x in y %}", LM_E_FORMAT, "'endfor' was expected" }, { "{{ 'a' | upperr }}", LM_E_FORMAT, "No filter named 'upperr'" },
        { "{% include 'a' %}", LM_E_DATA, "needs other templates" }, { "{{ messages.append(1) }}", LM_E_DATA, "unsafe" }, { "{{ '' | random }}", LM_E_DATA, "not supported" },
    };
    for (int i = 0; i < LM_COUNT(c); i++) LM_CHECK_ERR(ctx, once_with(c[i].t, "{\"messages\": []}", NULL, NULL, &r), c[i].e, c[i].why);
    lm_jinja *j;
    LM_CHECK_ERR(ctx, lm_jinja_compile(&j, ctx, "t", "\xff", 1), LM_E_FORMAT, "not UTF-8");
    LM_CHECK_ERR(ctx, lm_jinja_compile(&j, ctx, "t", "", 5 << 20), LM_E_RANGE, "the limit is");
}
/* Every allocation fails once. */
static void test_memory(void) {
    if (!begin()) return;
    static const char t[] = "{% macro m(a) %}{{ a | tojson }}{% endmacro %}{% for x in messages %}{{ m(x) }}{% generation %}{{ x.content | upper }}{% endgeneration %}{% endfor %}{{ 'x' * 200000 }}";
    for (uint64_t n = 1; n < 200; n++) {
        lm_jinja_result r;
        lm_mem_fail_at(ctx, n, false);
        const lm_err e = once_with(t, "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}", NULL, NULL, &r);
        lm_mem_fail_at(ctx, 0, false);
        if (!e) { lm_jinja_result_free(ctx, &r); LM_CHECK(n > 3); break; }
        LM_CHECK(e == LM_E_NOMEM && n < 199);
    }
    lm_ledger l;
    lm_mem_ledger(ctx, &l);
    LM_CHECK(l.now[LM_MEM_TOK] == 0);
}
LM_TEST_MAIN(LM_T1(test_python), LM_T1(test_marks), LM_T1(test_spans), LM_T1(test_limits), LM_T1(test_large), LM_T1(test_sentences), LM_T1(test_memory))
