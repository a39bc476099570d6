/* Option rows: values, refusals, the command line, help, and what is dumped read back: YAML by libyaml, JSON by jansson. */
#include "test.h"
#include "base/option.h"
#include <jansson.h>
#include <locale.h>
#include <stdlib.h>
#include <yaml.h>

typedef struct {
    bool quick, loud; int64_t steps, size, any; double lr, clip; const char *name, *path; int mode; lm_strlist stop, files; int64_t inner;
} conf;
static const char *const modes[] = { "greedy", "beam-search", "no", NULL };
static const lm_opt rows[] = {
    { LM_OPT_BOOL, "quick", offsetof(conf, quick), NULL, 0, 0, NULL, NULL, "do less" },
    { LM_OPT_INT, "train.steps", offsetof(conf, steps), "1_000", 1, 1000000, NULL, "N", "optimizer steps" },
    { LM_OPT_BYTES, "max-size", offsetof(conf, size), "1.5GiB", 0, 0, NULL, "BYTES", "most to hold" },
    { LM_OPT_FLOAT, "train.opt.lr", offsetof(conf, lr), "3e-4", 0, 1, NULL, "X", "learning rate" },
    { LM_OPT_STR, "name", offsetof(conf, name), "run", 0, 0, NULL, "TEXT", "what to call it" },
    { LM_OPT_STR, "data.path", offsetof(conf, path), NULL, 0, 0, NULL, "FILE", "where it is" },
    { LM_OPT_ENUM, "mode", offsetof(conf, mode), "beam-search", 0, 0, modes, NULL, "how to search" },
    { LM_OPT_STRLIST, "stop", offsetof(conf, stop), "a,bc", 0, 0, NULL, "TEXT", "where to stop" },
    { LM_OPT_FLOAT, "train.clip", offsetof(conf, clip), "inf", 0, 0, NULL, "X",
      "longest gradient; this text is long on purpose, so that it has to be wrapped over more than one line of help" },
    { LM_OPT_BOOL, "loud", offsetof(conf, loud), "true", 0, 0, NULL, NULL, "say more" },
    { LM_OPT_STRLIST, "a-quite-long-name-for-a-list-of-files", offsetof(conf, files), NULL, 0, 0, NULL, "FILE", "files" },
    { LM_OPT_INT, "any", offsetof(conf, any), NULL, 0, 0, NULL, "N", "any integer" },
    { LM_OPT_INT, "train.opt.inner", offsetof(conf, inner), "5", 2, 0, NULL, "N", "at least two" },
    LM_OPT_ROW_END
};

static lm_ctx *ctx;
static lm_arena *a;
static conf cf;
static void begin(void) {
    LM_CHECK(!lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    LM_CHECK(!lm_arena_new(&a, ctx, LM_MEM_MISC, 0));
    memset(&cf, 0xEE, sizeof cf);
    LM_CHECK_OK(ctx, lm_opt_defaults(ctx, a, rows, &cf));
}
static void end(void) {
    lm_arena_free(a);
    lm_ctx_free(ctx);
}
static lm_err set(const char *k, const char *v) { return lm_opt_set(ctx, a, rows, &cf, k, v); }

static void test_defaults(void) {
    begin();
    LM_CHECK(!cf.quick && cf.loud && cf.steps == 1000 && cf.size == 3LL << 29 && cf.lr == 3e-4 && isinf(cf.clip) && !cf.path &&
             cf.mode == 1 && cf.any == 0 && cf.inner == 5);
    LM_CHECK_STR(cf.name, "run");
    LM_CHECK(cf.stop.n == 2 && cf.files.n == 0);
    LM_CHECK_STR(cf.stop.v[0], "a");
    LM_CHECK_STR(cf.stop.v[1], "bc");
    conf old = cf;
    lm_opt wrong[] = { rows[0], rows[1], rows[3], LM_OPT_ROW_END };
    wrong[2].def = "2";
    LM_CHECK_ERR(ctx, lm_opt_defaults(ctx, a, wrong, &cf), LM_E_INTERNAL, "train.opt.lr: got 2, wanted 0 to 1");
    LM_CHECK(!memcmp(&old, &cf, sizeof cf));
    end();
}

static void test_numbers(void) {
    begin();
    static const struct { const char *text; int64_t v; } ints[] = { { "0", 0 }, { "-5", -5 }, { "+7", 7 }, { "1_000_000", 1000000 }, { "007", 7 },
        { "9223372036854775807", INT64_MAX }, { "-9223372036854775808", INT64_MIN } };
    for (int i = 0; i < LM_COUNT(ints); i++) { LM_CHECK_OK(ctx, set("any", ints[i].text)); LM_CHECK(cf.any == ints[i].v); }
    static const char *const bad[] = { "",
                                       "-",
                                       "1e6",
                                       "1.0",
                                       "0x10",
                                       " 1",
                                       "1 ",
                                       "_1",
                                       "1_",
                                       "1__0",
                                       "9223372036854775808",
                                       "-9223372036854775809",
                                       "99999999999999999999999",
                                       "ten",
                                       "--1" };
    for (int i = 0; i < LM_COUNT(bad); i++) LM_CHECK_ERR(ctx, set("any", bad[i]), LM_E_CONFIG, "any: got '");
    LM_CHECK(cf.any == INT64_MIN);
    LM_CHECK_ERR(ctx, set("train.steps", "0"), LM_E_CONFIG, "train.steps: got 0, wanted 1 to 1000000");
    LM_CHECK_ERR(ctx, set("train_steps", "1"), LM_E_CONFIG, "did you mean 'train.steps'");
    LM_CHECK_ERR(ctx, set("steps", "1"), LM_E_CONFIG, "did you mean 'train.steps'");
    LM_CHECK_ERR(ctx, set("train.opt.inner", "1"), LM_E_CONFIG, "at least 2");
    LM_CHECK_OK(ctx, set("train.opt.inner", "2000000000"));

    static const struct {
        const char *text;
        int64_t v;
    } sizes[] = { { "0", 0 },          { "4096", 4096 },      { "512K", 512 << 10 }, { "512k", 512 << 10 },  { "1.5GiB", 3LL << 29 },
                  { "2G", 2LL << 30 }, { "2GB", 2000000000 }, { "1.5MB", 1500000 },  { "10MiB", 10 << 20 },  { "3B", 3 },
                  { "1T", 1LL << 40 }, { "1_024", 1024 },     { "0.5K", 512 },       { "4 GiB", 4LL << 30 }, { "1.1GiB", 1181116006 },
                  { "7P", 7LL << 50 } };
    for (int i = 0; i < LM_COUNT(sizes); i++) {
        LM_CHECK_OK(ctx, set("max-size", sizes[i].text));
        if (cf.size != sizes[i].v) {
            LM_CHECK(!"size");
            printf("  %s -> %lld\n", sizes[i].text, (long long)cf.size);
        }
    }
    static const char *const no[] = { "", "K", "-1", "1.5", "1.", ".5K", "1KK", "1Ki", "1iB", "1X", "9999999999G", "20000P", "1e3", "1.5.5K" };
    for (int i = 0; i < LM_COUNT(no); i++) LM_CHECK_ERR(ctx, set("max-size", no[i]), LM_E_CONFIG, "max-size: got '");

    static const struct {
        const char *text;
        double v;
    } fl[] = { { "0.1", 0.1 },      { "1e-05", 1e-5 },      { "-3", -3 },      { ".5", 0.5 },
               { "inf", INFINITY }, { "-.inf", -INFINITY }, { "1.0e+3", 1000 } };
    for (int i = 0; i < LM_COUNT(fl); i++) { LM_CHECK_OK(ctx, set("train.clip", fl[i].text)); LM_CHECK(cf.clip == fl[i].v); }
    static const char *const nf[] = { "", "nan", "0x1p3", "1e400", "1,5", "1.5 ", "e", "-", "infinity", "1.2.3" };
    for (int i = 0; i < LM_COUNT(nf); i++) LM_CHECK_ERR(ctx, set("train.clip", nf[i]), LM_E_CONFIG, "train.clip: got '");
    LM_CHECK_ERR(ctx, set("train.opt.lr", "1.5"), LM_E_CONFIG, "train.opt.lr: got 1.5, wanted 0 to 1");
    LM_CHECK_ERR(ctx, set("train.opt.lr", "inf"), LM_E_CONFIG, "wanted 0 to 1");

    LM_CHECK_OK(ctx, set("quick", "Yes"));
    LM_CHECK(cf.quick);
    LM_CHECK_OK(ctx, set("quick", "off"));
    LM_CHECK(!cf.quick);
    LM_CHECK_ERR(ctx, set("quick", "maybe"), LM_E_CONFIG, "true or false");
    LM_CHECK_OK(ctx, set("mode", "beam_search"));
    LM_CHECK(cf.mode == 1);
    LM_CHECK_ERR(ctx, set("mode", "greddy"), LM_E_CONFIG, "mode: got 'greddy', wanted greedy, beam-search or no; did you mean 'greedy'?");
    LM_CHECK_ERR(ctx, set("mode", "zzzzzzzz"), LM_E_CONFIG, "wanted greedy, beam-search or no");
    LM_CHECK(!strstr(lm_error(ctx), "mean"));
    LM_CHECK_OK(ctx, set("max_size", "1"));
    LM_CHECK_ERR(ctx, set("max-sise", "1"), LM_E_CONFIG, "unknown option 'max-sise'; did you mean 'max-size'?");
    LM_CHECK_ERR(ctx, set("qqqqqqqqqqqq", "1"), LM_E_CONFIG, "unknown option 'qqqqqqqqqqqq'");
    LM_CHECK(!lm_opt_find(rows, "nam") && lm_opt_find(rows, "name") == &rows[4]);
    /* a list: the first value takes the default's place, the next ones follow */
    LM_CHECK_OK(ctx, set("stop", "a"));
    LM_CHECK_OK(ctx, set("stop", "x,y"));
    LM_CHECK(cf.stop.n == 2);
    LM_CHECK_STR(cf.stop.v[0], "a");
    LM_CHECK_STR(cf.stop.v[1], "x,y");
    end();
}

static lm_err parse(lm_strlist *pos, bool *help, const char *first, ...) {
    char *argv[20] = { (char *)(uintptr_t)"prog" };
    int n = 1;
    va_list ap;
    va_start(ap, first);
    for (const char *s = first; s; s = va_arg(ap, const char *)) argv[n++] = (char *)(uintptr_t)s;
    va_end(ap);
    return lm_opt_parse(ctx, a, rows, &cf, n, argv, pos, help);
}
#define PARSE(...) parse(&pos, &help, __VA_ARGS__, NULL)

static void test_line(void) {
    begin();
    lm_strlist pos;
    bool help;
    LM_CHECK_OK(ctx, PARSE("in.txt", "--quick", "--max-size", "5K", "--name=x=y", "--no-loud", "train.steps=5", "-", "-3", "--train.steps",
                           "7", "--", "--quick=false"));
    LM_CHECK(cf.quick && cf.size == 5120 && !cf.loud && cf.steps == 7 && !help && pos.n == 5);
    LM_CHECK_STR(cf.name, "x=y");
    if (pos.n == 5) {
        LM_CHECK_STR(pos.v[0], "in.txt");
        LM_CHECK_STR(pos.v[1], "train.steps=5");
        LM_CHECK_STR(pos.v[2], "-");
        LM_CHECK_STR(pos.v[3], "-3");
        LM_CHECK_STR(pos.v[4], "--quick=false");
    }
    LM_CHECK_OK(ctx, PARSE("--quick=false", "--max_size=1", "--any", "-12", "--name="));
    LM_CHECK(!cf.quick && cf.size == 1 && cf.any == -12 && pos.n == 0);
    LM_CHECK_STR(cf.name, "");
    LM_CHECK_OK(ctx, set("stop", "from-file"));
    LM_CHECK_OK(ctx, PARSE("--stop", "a", "--stop=b", "--help"));
    LM_CHECK(help && cf.stop.n == 2);
    LM_CHECK_STR(cf.stop.v[0], "a");
    LM_CHECK_STR(cf.stop.v[1], "b");
    LM_CHECK_OK(ctx, PARSE("-h"));
    LM_CHECK(help);
    conf old = cf;
    pos.n = 77;
    LM_CHECK_ERR(ctx, PARSE("--quick", "--max-sizes", "5"), LM_E_CONFIG, "unknown option '--max-sizes'; did you mean '--max-size'?");
    LM_CHECK_ERR(ctx, PARSE("--hlep"), LM_E_CONFIG, "did you mean '--help'");
    LM_CHECK_ERR(ctx, PARSE("--quick", "--name"), LM_E_CONFIG, "--name: no value given, wanted --name TEXT");
    LM_CHECK_ERR(ctx, PARSE("--name", "--quick"), LM_E_CONFIG, "no value given");
    LM_CHECK_ERR(ctx, PARSE("--quick", "--stop", "q", "--train.steps=x"), LM_E_CONFIG, "--train.steps: got 'x', wanted a whole number");
    LM_CHECK_ERR(ctx, PARSE("--no-name"), LM_E_CONFIG, "no switch");
    LM_CHECK_ERR(ctx, PARSE("--no-quick=1"), LM_E_CONFIG, "takes no value");
    LM_CHECK_ERR(ctx, PARSE("-q"), LM_E_CONFIG, "two dashes");
    LM_CHECK_ERR(ctx, PARSE("--="), LM_E_CONFIG, "unknown option '--'");
    LM_CHECK_ERR(ctx, parse(NULL, NULL, "--quick", "word", NULL), LM_E_CONFIG, "unexpected argument 'word'");
    LM_CHECK_OK(ctx, parse(NULL, NULL, NULL));
    LM_CHECK(!memcmp(&old, &cf, sizeof cf) && pos.n == 77);
    char *none[] = { NULL };
    LM_CHECK_OK(ctx, lm_opt_parse(ctx, a, rows, &cf, 0, none, &pos, &help));
    end();
}

static void test_help(void) {
    begin();
    lm_str s = { .ctx = ctx };
    lm_opt_help(&s, rows);
    LM_CHECK_OK(ctx, lm_str_err(&s));
    LM_CHECK_STR(s.p,
        "  --quick              do less\n"
        "  --train.steps N      optimizer steps (1_000)\n"
        "  --max-size BYTES     most to hold (1.5GiB)\n"
        "  --train.opt.lr X     learning rate (3e-4)\n"
        "  --name TEXT          what to call it (run)\n"
        "  --data.path FILE     where it is\n"
        "  --mode NAME          how to search {greedy|beam-search|no} (beam-search)\n"
        "  --stop TEXT          where to stop (a,bc) [repeatable]\n"
        "  --train.clip X       longest gradient; this text is long on purpose, so that it has to be wrapped over more\n"
        "                       than one line of help (inf)\n"
        "  --loud               say more (true)\n"
        "  --a-quite-long-name-for-a-list-of-files FILE\n"
        "                       files [repeatable]\n"
        "  --any N              any integer\n"
        "  --train.opt.inner N  at least two (5)\n");
    lm_str_free(&s);
    end();
}

/* ---- dumps ---- */
static void from_yaml(yaml_document_t *doc, yaml_node_t *n, const char *prefix) {
    if (n->type != YAML_MAPPING_NODE) { LM_CHECK(!"a map"); return; }
    for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
        yaml_node_t *k = yaml_document_get_node(doc, p->key), *v = yaml_document_get_node(doc, p->value);
        char key[200];
        snprintf(key, sizeof key, "%s%s%s", prefix, *prefix ? "." : "", (char *)k->data.scalar.value);
        if (v->type == YAML_MAPPING_NODE) from_yaml(doc, v, key);
        else if (v->type == YAML_SCALAR_NODE) {
            LM_CHECK(strlen((char *)v->data.scalar.value) == v->data.scalar.length);
            /* a reader that resolves plain scalars must find no text among them that is something else */
            const lm_opt *r = lm_opt_find(rows, key);
            if (r && (r->type == LM_OPT_STR || r->type == LM_OPT_ENUM) && v->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
                const char *t = (char *)v->data.scalar.value;
                LM_CHECK(*t && !strchr("0123456789.+-~", *t) && strcasecmp(t, "null") && strcasecmp(t, "no") && strcasecmp(t, "true") &&
                         strcasecmp(t, "y"));
            }
            LM_CHECK_OK(ctx, set(key, (char *)v->data.scalar.value));
        } else for (yaml_node_item_t *i = v->data.sequence.items.start; i < v->data.sequence.items.top; i++)
            LM_CHECK_OK(ctx, set(key, (char *)yaml_document_get_node(doc, *i)->data.scalar.value));
    }
}

static void round_trip(void) {
    lm_str s = { .ctx = ctx };
    lm_opt_dump_yaml(&s, rows, &cf);
    LM_CHECK_OK(ctx, lm_str_err(&s));
    conf was = cf;
    LM_CHECK_OK(ctx, lm_opt_defaults(ctx, a, rows, &cf));
    yaml_parser_t p;
    yaml_document_t doc;
    yaml_parser_initialize(&p);
    yaml_parser_set_input_string(&p, (unsigned char *)s.p, s.n);
    if (!yaml_parser_load(&p, &doc)) {
        LM_CHECK(!"valid YAML");
        printf("  %s at %zu\n%s", p.problem, p.problem_offset, s.p);
        yaml_parser_delete(&p);
        lm_str_free(&s);
        return;
    }
    from_yaml(&doc, yaml_document_get_root_node(&doc), "");
    yaml_document_delete(&doc);
    yaml_parser_delete(&p);
    LM_CHECK(was.quick == cf.quick && was.loud == cf.loud && was.steps == cf.steps && was.size == cf.size && was.any == cf.any &&
             was.lr == cf.lr && was.clip == cf.clip && was.mode == cf.mode && was.inner == cf.inner);
    LM_CHECK(!was.path == !cf.path);
    LM_CHECK_STR(cf.name, was.name);
    if (cf.path) LM_CHECK_STR(cf.path, was.path);
    if (was.stop.n) LM_CHECK(was.stop.n == cf.stop.n);
    if (was.stop.n == cf.stop.n) for (int i = 0; i < cf.stop.n; i++) LM_CHECK_STR(cf.stop.v[i], was.stop.v[i]);

    lm_str_clear(&s);
    lm_opt_dump_json(&s, rows, &cf);
    json_error_t e;
    json_t *j = json_loadb(s.p, s.n, JSON_REJECT_DUPLICATES, &e);
    LM_CHECK(j);
    if (!j) printf("  %s\n%s", e.text, s.p);
    LM_CHECK_STR(json_string_value(json_object_get(j, "name")), cf.name);
    json_t *train = json_object_get(j, "train");
    LM_CHECK(json_integer_value(json_object_get(train, "steps")) == cf.steps);
    LM_CHECK(json_real_value(json_object_get(json_object_get(train, "opt"), "lr")) == cf.lr);
    LM_CHECK((int)json_array_size(json_object_get(j, "stop")) == cf.stop.n);
    json_decref(j);
    lm_str_free(&s);
}

static void test_dump(void) {
    begin();
    lm_str s = { .ctx = ctx };
    lm_opt_dump_yaml(&s, rows, &cf);
    LM_CHECK_STR(s.p, "quick: false\ntrain:\n  steps: 1000\n  opt:\n    lr: 0.0003\n    inner: 5\n  clip: .inf\nmax-size: "
                      "1610612736\nname: run\n# data:\nmode: beam-search\nstop: [a, bc]\n"
                      "loud: true\na-quite-long-name-for-a-list-of-files: []\nany: 0\n");
    lm_str_clear(&s);
    lm_opt_dump_json(&s, rows, &cf);
    LM_CHECK_STR(s.p, "{\n  \"quick\": false,\n  \"train\": {\n    \"steps\": 1000,\n    \"opt\": {\n      \"lr\": 0.0003,\n      "
                      "\"inner\": 5\n    },\n    \"clip\": \".inf\"\n  },\n"
                      "  \"max-size\": 1610612736,\n  \"name\": \"run\",\n  \"data\": {\n    \"path\": null\n  },\n  \"mode\": "
                      "\"beam-search\",\n  \"stop\": [\"a\", \"bc\"],\n"
                      "  \"loud\": true,\n  \"a-quite-long-name-for-a-list-of-files\": [],\n  \"any\": 0\n}\n");
    lm_str_free(&s);
    round_trip();
    static const char *const texts[] = { "",
                                         " ",
                                         "plain",
                                         "two words",
                                         "true",
                                         "No",
                                         "null",
                                         "~",
                                         "1.5",
                                         "0x1F",
                                         "1_000",
                                         "-",
                                         "- a",
                                         "a: b",
                                         "a:",
                                         "a #b",
                                         "#a",
                                         "'",
                                         "\"",
                                         "\\",
                                         "*x",
                                         "&x",
                                         "!x",
                                         "%x",
                                         "@x",
                                         "`x",
                                         "[a",
                                         "{a}",
                                         "a, b",
                                         "?",
                                         "|",
                                         ">",
                                         "=",
                                         "<<",
                                         "y",
                                         "2020-01-01",
                                         "line\nbreak",
                                         "tab\there",
                                         " lead",
                                         "trail ",
                                         "/usr/share/x.txt",
                                         "C:\\x",
                                         "\x01\x7f",
                                         "\xc2\x85",
                                         "\xe2\x80\xa8",
                                         "\xef\xbb\xbf[bom",
                                         "\xef\xbf\xbe",
                                         "\xf0\x9f\x98\x80 \xc3\xa9",
                                         ".inf",
                                         ".",
                                         "---",
                                         "...",
                                         "1e5",
                                         "-5",
                                         "+1",
                                         "[INST]",
                                         "</s>",
                                         "a\r\nb" };
    for (int i = 0; i < LM_COUNT(texts); i++) {
        LM_CHECK_OK(ctx, lm_opt_defaults(ctx, a, rows, &cf));
        LM_CHECK_OK(ctx, set("name", texts[i]));
        LM_CHECK_OK(ctx, set("data.path", texts[LM_COUNT(texts) - 1 - i]));
        LM_CHECK_OK(ctx, set("mode", i % 2 ? "no" : "greedy"));
        for (int k = 0; k < i % 5; k++) LM_CHECK_OK(ctx, set("stop", texts[(i + k * 7) % LM_COUNT(texts)]));
        round_trip();
    }
    lm_rng r = lm_rng_of(1, "option floats");
    for (uint64_t i = 0; i < 300; i++) {
        double big = exp((lm_rng_double(r, 3 * i) - 0.5) * 1400) * (i % 2 ? 1 : -1);
        char t[64];
        snprintf(t, sizeof t, "%.17g", i % 7 ? big : rint(big));
        LM_CHECK_OK(ctx, set("train.clip", t));
        cf.lr = lm_rng_double(r, 3 * i + 1);
        cf.any = (int64_t)lm_rng_below(r, 3 * i + 2, UINT64_MAX);
        round_trip();
    }
    end();
}

/* A program that has set a locale with decimal commas gets the same numbers. */
static void test_locale(void) {
    static const char *const names[] = { "de_DE.UTF-8", "fr_FR.UTF-8", "de_DE.utf8", "de_DE" };
    int got = 0;
    for (int i = 0; i < LM_COUNT(names) && !got; i++) got = setlocale(LC_ALL, names[i]) != NULL;
    char dir[] = "/tmp/loam-locale-XXXXXX", cmd[200];                    /* none is installed: one is made, where there is the source of one */
    if (!got && mkdtemp(dir)) {
        snprintf(cmd, sizeof cmd, "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 >/dev/null 2>&1", dir);
        setenv("LOCPATH", dir, 1);
        got = !system(cmd) && setlocale(LC_ALL, "de_DE.UTF-8");
        unsetenv("LOCPATH");
        snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
        LM_CHECK(!system(cmd));
    }
    if (!got) LM_SKIP("no locale with decimal commas is installed, nor the package locales");
    char comma[8];
    snprintf(comma, sizeof comma, "%.1f", 0.5);
    LM_CHECK_STR(comma, "0,5");
    begin();
    LM_CHECK_OK(ctx, set("train.opt.lr", "0.25"));
    LM_CHECK(cf.lr == 0.25);
    round_trip();
    end();
    setlocale(LC_ALL, "C");
}

/* Every allocation fails in turn: nothing changes, nothing leaks. */
static lm_err all_of_it(void) {
    lm_strlist pos;
    bool help;
    LM_TRY(lm_opt_defaults(ctx, a, rows, &cf));
    LM_TRY(PARSE("--stop", "a long text, so that chunks of the arena fill", "--stop=b", "--name",
                 "another text of some length for the arena", "word", "--quick"));
    lm_err bad = PARSE("--stpo=1");
    if (bad != LM_E_CONFIG) return bad;
    bad = set("mode", "x");
    if (bad != LM_E_CONFIG) return bad;
    lm_str s = { .ctx = ctx };
    lm_opt_dump_yaml(&s, rows, &cf);
    lm_opt_dump_json(&s, rows, &cf);
    lm_opt_help(&s, rows);
    lm_err err = lm_str_err(&s);
    lm_str_free(&s);
    return err;
}
static void test_sweep(void) {
    begin();
    lm_arena_free(a);
    LM_CHECK(!lm_arena_new(&a, ctx, LM_MEM_MISC, 96));
    LM_CHECK_OK(ctx, lm_opt_defaults(ctx, a, rows, &cf));
    cf.steps = 5;
    conf start = cf;
    lm_ledger l0, l;
    lm_arena *outer = a;
    lm_mem_ledger(ctx, &l0);
    LM_CHECK(!lm_arena_new(&a, ctx, LM_MEM_MISC, 96));
    LM_CHECK_OK(ctx, all_of_it());
    lm_arena_free(a);
    lm_mem_ledger(ctx, &l);
    uint64_t n = l.n_alloc - l0.n_alloc;
    LM_CHECK(n > 20);
    for (uint64_t k = 2; k <= n; k++) {
        cf = start;
        LM_CHECK(!lm_arena_new(&a, ctx, LM_MEM_MISC, 96));
        lm_mem_fail_at(ctx, k - 1, false);
        LM_CHECK_ERR(ctx, all_of_it(), LM_E_NOMEM, "out of memory");
        lm_mem_fail_at(ctx, 0, false);
        if (k == 2) LM_CHECK(!memcmp(&cf, &start, sizeof cf));
        lm_arena_free(a);
        lm_mem_ledger(ctx, &l);
        LM_CHECK(l.total_now == l0.total_now);
    }
    a = outer;
    end();
}

LM_TEST_MAIN(LM_T1(test_defaults), LM_T1(test_numbers), LM_T1(test_line), LM_T1(test_help), LM_T1(test_dump), LM_T1(test_locale), LM_T1(test_sweep))
