/* test_models.c — the models that are shipped: the files are the ones that were measured, load, write the text that they wrote then, and predict a
 * few pages of a held-out author as well as then (docs/models.md). */
#include <math.h>
#include "base/file.h"
#include "cmd_run.h"

static const struct {
    const char *name, *hash, *text;
    double bpb;
} shipped[] = {
    { "loam-3m", "3b28aef493c2bbf72c98d3e8b08f5f2b",
      " sun was shining in the west.\n\n\"I have been thinking of the weather,\" said the old man, \"", 1.33407 },
    { "loam-30m", "de367d5693c054be7df76326a8daa7b2",
      " sun was shining in the sky.\n\n\"I am going to see my mother,\" said the old man, \"", 1.23828 },
};
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MODELS = 1 };                                            /* the large one is slow here, and goes the same ways */
#else
enum { MODELS = LM_COUNT(shipped) };
#endif
static void test_files(void) {
    lm_ctx *ctx;
    if (lm_ctx_new(&ctx, NULL)) abort();
    size_t all = 0;
    for (int i = 0; i < LM_COUNT(shipped); i++) {
        char path[600], hex[33], *p;
        size_t n;
        snprintf(path, sizeof path, LM_ROOT "/models/%s.gguf", shipped[i].name);
        LM_NEED_OK(ctx, lm_file_read_all(ctx, path, 1 << 26, &p, &n));
        lm_hash_hex(lm_hash128(p, n), hex);
        if (strcmp(hex, shipped[i].hash)) { lm_t_fail++; printf("%s has the hash %s, wanted %s\n", path, hex, shipped[i].hash); }
        lm_free(ctx, p);
        all += n;
    }
    LM_CHECK(all <= 24000000);
    lm_ctx_free(ctx);
}
static void text_of(const char *model, const char *want, const char *more) {
    json_t *j = json_of(run("run %s --prompt \"It was a fine evening, and the\" --temperature 0 --max-tokens 24 --json%s", model, more));
    if (strcmp(str(j, "text"), want)) { lm_t_fail++; printf("%s%s wrote:\n%s\nwanted:\n%s\n", model, more, str(j, "text"), want); }
    json_decref(j);
}
static void test_text(void) {
    if (!begin()) LM_SKIP("the program is not built");
    text_of("loam-3m", shipped[0].text, "");
    text_of("loam-3m", shipped[0].text, " --isa portable");
    if (MODELS > 1) text_of("loam-30m", shipped[1].text, " --isa portable");
    text_of("", shipped[1].text, "");                            /* the default */
    LM_REFUSED(run("run loam-4m --prompt x"), 2, "there is no model at loam-4m");
}
static void test_bits(void) {
    if (!begin()) LM_SKIP("the program is not built");
    for (int i = 0; i < MODELS; i++) {
        json_t *j = json_of(run("eval %s --data %s --window 512 --stride 256 --json --quiet", shipped[i].name,
                                LM_FIXTURES "/text/clive.txt"));
        const double got = num(j, "bpb");
        LM_CHECK(fabs(got / shipped[i].bpb - 1) <= 0.002);
        json_decref(j);
    }
}
/* A mix of formats: the embedding keeps more bits than the rest. */
static void test_mix(void) {
    if (!begin()) LM_SKIP("the program is not built");
    LM_REFUSED(run("convert %s %s --embedding Q9", LM_ROOT "/models/loam-3m.gguf", at("m.gguf")), 2, "--embedding Q9");
    LM_REFUSED(run("convert %s %s --dtype f32 --embedding Q8_0", LM_ROOT "/models/loam-3m.gguf", at("hf")), 2, "OUT a GGUF file");
    json_decref(json_of(run("convert %s %s --dtype Q4_0 --embedding Q8_0 --json", LM_ROOT "/models/loam-3m.gguf", at("m.gguf"))));
    json_t *j = json_of(run("inspect %s --json", at("m.gguf")));
    size_t i, q4 = 0, q8 = 0;
    json_t *t;
    json_array_foreach(json_object_get(j, "tensors"), i, t) {
        const char *type = str(t, "dtype");
        q4 += !strcmp(type, "Q4_0");
        q8 += !strcmp(type, "Q8_0") && !strcmp(str(t, "name"), "token_embd.weight");
    }
    LM_CHECK(q4 == 14 && q8 == 1);
    json_decref(j);
}
LM_TEST_MAIN(LM_T1(test_files), LM_T1(test_text), LM_T1(test_bits), LM_T1(test_mix))
