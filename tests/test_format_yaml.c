/* YAML: what the flat list looks like, what is refused and where, and the way into option rows. */
#include "format_test.h"
#include "format/yaml.h"

static lm_arena *a;
static lm_yaml y;
static lm_err parse(const char *text) { return lm_yaml_parse(ctx, a, "c.yaml", text, strlen(text), &y); }
static void begin(void) { t_begin(); LM_CHECK_OK(ctx, lm_arena_new(&a, ctx, LM_MEM_MISC, 0)); y = (lm_yaml){ 0 }; }
static void end(void) { lm_arena_free(a); t_end(); }
/* "key=value@line" with * after items, ! for null, " for quoted, [] and {} for empty */
static const char *flat(void) {
    static char buf[4096]; size_t n = 0; buf[0] = 0;
    for (int i = 0; i < y.n; i++) {
        const lm_yaml_entry *e = &y.v[i];
        static const char *const mark[] = { "", "*", "[]", "{}" };
        n += (size_t)snprintf(buf + n, sizeof buf - n, "%s%s=%s%s@%d%s", i ? " " : "", e->key, e->value, mark[e->kind], e->line,
                              e->null     ? "!"
                              : e->quoted ? "\""
                                          : "");
    }
    return buf;
}
static void test_flat(void) {
    begin();
    LM_CHECK_OK(ctx, parse("train:\n  steps: 100\n  lr: 3e-4   # a comment\nname: 'x: y'\nfiles: [a.txt, \"b c\"]\nmix:\n  - path: p\n    "
                           "weight: 2\n  - {path: q}\n"
                           "none: ~\nempty:\nquoted: \"null\"\ntext: |\n  two\n  lines\nel: []\nem: {}\n"));
    LM_CHECK_STR(
        flat(),
        "train.steps=100@2 train.lr=3e-4@3 name=x: y@4\" files=a.txt*@5 files=b c*@5\" mix.0.path=p@7 mix.0.weight=2@8 mix.1.path=q@9 "
        "none=~@10! empty=@11! quoted=null@12\" text=two\nlines\n@13\" el=[]@16 em={}@17");
    LM_CHECK_OK(ctx, parse("{\"a\": {\"b\": [1, 2], \"c\":true},\n\t\"d\": \"caf\\u00e9 \\/ \\n\"}"));           /* JSON */
    LM_CHECK_STR(flat(), "a.b=1*@1 a.b=2*@1 a.c=true@1 d=caf\xc3\xa9 / \n@2\"");
    LM_CHECK_OK(ctx, parse("")); LM_CHECK(y.n == 0);
    LM_CHECK_OK(ctx, parse("# nothing\n")); LM_CHECK(y.n == 0);
    LM_CHECK_OK(ctx, parse("---\na.b: 1\na.c: 2\n")); LM_CHECK_STR(flat(), "a.b=1@2 a.c=2@3");
    LM_CHECK_OK(ctx, parse("m: [[1, 2], [3]]\n")); LM_CHECK_STR(flat(), "m.0=1*@1 m.0=2*@1 m.1=3*@1");
    LM_CHECK(lm_yaml_find(&y, "m.1") && !lm_yaml_find(&y, "m"));
    end();
}
static void test_refusals(void) {
    begin();
    static const struct { const char *text; lm_err code; const char *say; } bad[] = {
        { "a: 1\nb: 2\na: 3\n", LM_E_CONFIG, "c.yaml:3: key \"a\" is given twice (first on line 1)" },
        { "a: {b: 1}\na.b: 2\n", LM_E_CONFIG, "c.yaml:2: key \"a.b\" is given twice" },
        { "a: [1]\na: [2]\n", LM_E_CONFIG, "given twice" },
        { "a: 1\na.b: 2\n", LM_E_CONFIG, "but \"a\" is a plain value" },
        { "a: &x 1\nb: *x\n", LM_E_CONFIG, "c.yaml:1: anchors" },
        { "a: *x\n", LM_E_CONFIG, "c.yaml:1: aliases" },
        { "a: !!python/object:os.system x\n", LM_E_CONFIG, "tags" },
        { "a: {<<: {b: 1}}\n", LM_E_CONFIG, "merge keys" },
        { "a: 1\n---\nb: 2\n", LM_E_CONFIG, "c.yaml:2: a second document" },
        { "? {a: 1}\n: 2\n", LM_E_CONFIG, "cannot be a key" },
        { "? [a]\n: 2\n", LM_E_CONFIG, "cannot be a key" },
        { "a: [1, {b: 2}]\n", LM_E_CONFIG, "the list \"a\" mixes" },
        { "a: [{b: 2}, 1]\n", LM_E_CONFIG, "the list \"a\" mixes" },
        { "- 1\n- 2\n", LM_E_FORMAT, "must be a map" },
        { "hello\n", LM_E_FORMAT, "must be a map" },
        { "'': 1\n", LM_E_CONFIG, "an empty key" },
        { "a:\n\tb: 1\n", LM_E_FORMAT, "a tab cannot indent YAML" },
        { "a: 'open\n", LM_E_FORMAT, "c.yaml:2:1:" },
        { "a: [1, 2\n", LM_E_FORMAT, "c.yaml:2:1:" },
        { "a: b: c\n", LM_E_FORMAT, "c.yaml:1:" },
        { "a: \"x\\0y\"\n", LM_E_FORMAT, "NUL" },
        { "\xff\xfe" "a: 1\n", LM_E_FORMAT, "UTF-8" },
        { "a: \x01\n", LM_E_FORMAT, "c.yaml" },
    };
    for (int i = 0; i < LM_COUNT(bad); i++) {
        y.n = -5;
        LM_CHECK_ERR(ctx, parse(bad[i].text), bad[i].code, bad[i].say);
        LM_CHECK(y.n == -5);
    }
    /* limits */
    char *big = malloc(1 << 20); size_t n = 0;
    for (int i = 0; i < 100000; i++) big[n++] = '[';
    LM_CHECK_ERR(ctx, lm_yaml_parse(ctx, a, "c.yaml", big, n, &y), LM_E_FORMAT, "must be a map");
    memcpy(big, "a: ", 3);
    LM_CHECK_ERR(ctx, lm_yaml_parse(ctx, a, "c.yaml", big, n, &y), LM_E_RANGE, "nested deeper than 32");
    memset(big, 'k', 600); memcpy(big + 600, ": 1\n", 4);
    LM_CHECK_ERR(ctx, lm_yaml_parse(ctx, a, "c.yaml", big, 604, &y), LM_E_RANGE, "longer than 512");
    LM_CHECK_ERR(ctx, lm_yaml_parse(ctx, a, "c.yaml", big, (size_t)LM_YAML_MAX_BYTES + 1, &y), LM_E_RANGE, "the limit is");
    n = 0;                                                 /* many keys in linear time */
    for (int i = 0; i < 20000; i++) n += (size_t)sprintf(big + n, "key%d: %d\n", i, i);
    double t = lm_now();
    LM_CHECK_OK(ctx, lm_yaml_parse(ctx, a, "c.yaml", big, n, &y));
    LM_CHECK(y.n == 20000 && lm_now() - t < 5);
    free(big);
    end();
}
typedef struct { int64_t steps; double lr; const char *name; lm_strlist files; bool fast; } opts;
static const lm_opt rows[] = { { LM_OPT_INT, "train.steps", offsetof(opts, steps), "10", 1, 1000, NULL, "N", "" },
                               { LM_OPT_FLOAT, "train.lr", offsetof(opts, lr), "1", 0, 0, NULL, "X", "" },
                               { LM_OPT_STR, "name", offsetof(opts, name), "def", 0, 0, NULL, "S", "" },
                               { LM_OPT_STRLIST, "files", offsetof(opts, files), NULL, 0, 0, NULL, "F", "" },
                               { LM_OPT_BOOL, "fast", offsetof(opts, fast), NULL, 0, 0, NULL, NULL, "" },
                               LM_OPT_ROW_END };
static lm_err apply(const char *text, opts *o) {
    LM_TRY(parse(text));
    LM_TRY(lm_opt_defaults(ctx, a, rows, o));
    return lm_yaml_apply(ctx, a, "c.yaml", &y, "", rows, o);
}
static void test_rows(void) {
    begin();
    opts o;
    LM_CHECK_OK(ctx, apply("train: {steps: 100, lr: 3e-4}\nname: null\nfiles: [a, b]\nfast: true\n", &o));
    LM_CHECK(o.steps == 100 && o.lr == 3e-4 && o.fast && o.files.n == 2);
    LM_CHECK_STR(o.name, "def"); LM_CHECK_STR(o.files.v[1], "b");
    LM_CHECK_ERR(ctx, apply("fast: true\ntrain:\n  stepss: 3\n", &o), LM_E_CONFIG, "c.yaml:3: ");
    LM_CHECK(strstr(lm_error(ctx), "train.steps"));
    LM_CHECK_ERR(ctx, apply("train:\n  steps: many\n", &o), LM_E_CONFIG, "c.yaml:2: ");
    LM_CHECK_ERR(ctx, apply("nope: []\n", &o), LM_E_CONFIG, "nope");
    LM_CHECK_ERR(ctx, apply("nope: ~\n", &o), LM_E_CONFIG, "nope");
    /* what the rows dump can be read back */
    LM_CHECK_OK(ctx, apply("train: {steps: 7}\nname: 'it''s: #1'\nfiles: ['x y', '-']\n", &o));
    lm_str s = { .ctx = ctx };
    lm_opt_dump_yaml(&s, rows, &o);
    opts back;
    LM_CHECK_OK(ctx, apply(s.p, &back));
    LM_CHECK(back.steps == 7 && back.files.n == 2 && back.lr == 1);
    LM_CHECK_STR(back.name, "it's: #1"); LM_CHECK_STR(back.files.v[0], "x y"); LM_CHECK_STR(back.files.v[1], "-");
    lm_str_free(&s);
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, t_at("c.yaml"), "a: 1\n", 5));
    LM_CHECK_OK(ctx, lm_yaml_load(ctx, a, t_at("c.yaml"), &y)); LM_CHECK(y.n == 1);
    end();
}
static lm_err once(const uint8_t *p, size_t n) {
    lm_arena *b; lm_yaml out;
    LM_TRY(lm_arena_new(&b, ctx, LM_MEM_MISC, 1024));
    lm_err e = lm_yaml_parse(ctx, b, "c.yaml", (const char *)p, n, &out);
    lm_arena_free(b);
    return e;
}
static void test_torture(void) {
    begin();
    const char *t = "train:\n  steps: 100\nfiles: [a.txt, \"b \\u00e9\"]\nmix:\n  - {path: p, 'w': ~}\nt: |\n  x\n";
    t_torture((const uint8_t *)t, strlen(t), once, false);
    t_nomem((const uint8_t *)t, strlen(t), once);
    end();
}
LM_TEST_MAIN(LM_T1(test_flat), LM_T1(test_refusals), LM_T1(test_rows), LM_T1(test_torture))
