/* test_cmd.c — the program from outside: help, JSON, files through every command, refusals. */
#include <math.h>
#include "cmd_run.h"
#include "device/device.h"
#define F LM_FIXTURES
#define NEED_PROGRAM() do { if (!begin()) LM_SKIP("the program is not built"); } while (0)

static void test_help(void) {
    NEED_PROGRAM();
    json_t *all = json_of(run("--help --json")), *list = json_object_get(all, "commands");
    LM_CHECK(json_array_size(list) >= 14);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *c = json_array_get(list, i);
        ran r = run("%s --help", str(c, "name"));
        LM_CHECK_RC(r, 0);
        LM_CHECK(strstr(r.out, str(c, "summary")) && strstr(r.out, "usage: loam"));
        json_t *o = json_object_get(c, "options");
        for (size_t k = 0; k < json_array_size(o); k++) {
            char flag[80]; snprintf(flag, sizeof flag, "--%s", str(json_array_get(o, k), "name"));
            if (!strstr(r.out, flag)) { lm_t_fail++; printf("loam %s --help does not tell of %s\n", str(c, "name"), flag); }
        }
        done(&r);
        LM_REFUSED(run("%s --no-such-flag", str(c, "name")), 2, "unknown option");
    }
    json_decref(all);
    LM_REFUSED(run("brew"), 2, "there is no command");
    LM_REFUSED(run("quantise"), 2, "did you mean quantize");
    LM_REFUSED(run("tain"), 2, "did you mean train");
    ran r = run("tain --json");
    json_t *j = json_loadb(r.out, r.n_out, 0, NULL);
    LM_CHECK(j && r.rc == 2 && strstr(str(json_object_get(j, "error"), "message"), "did you mean train"));
    json_decref(j); done(&r);
}
static void test_tables(void) {
    NEED_PROGRAM();
    static const char *const t[] = { "models", "ops", "optims", "quants", "samplers", "commands" };
    for (int i = 0; i < LM_COUNT(t); i++) {
        json_t *j = json_of(run("inspect --%s --json", t[i]));
        LM_CHECK(json_array_size(j) >= 2);
        for (size_t k = 0; k < json_array_size(j); k++) LM_CHECK(*str(json_array_get(j, k), "name"));
        json_decref(j);
    }
    json_t *j = json_of(run("kernels --json")), *k = json_object_get(j, "kernels");
    int chosen = 0, portable = 0;
    for (size_t i = 0; i < json_array_size(k); i++) {
        chosen += json_is_true(json_object_get(json_array_get(k, i), "chosen"));
        portable += !*str(json_array_get(k, i), "needs") && !strcmp(str(json_array_get(k, i), "device"), "cpu");
    }
    LM_CHECK(chosen > 30 && portable > 30);
    LM_CHECK(json_is_true(json_object_get(json_object_get(j, "cuda"), "built")) == lm_dev_built());
    json_decref(j);
    j = json_of(run("kernels --isa portable --json")); k = json_object_get(j, "kernels");
    for (size_t i = 0; i < json_array_size(k); i++)
        LM_CHECK(!json_is_true(json_object_get(json_array_get(k, i), "chosen")) || !*str(json_array_get(k, i), "needs"));
    json_decref(j);
    LM_REFUSED(run("kernels --op matmull"), 2, "did you mean matmul");
}
static void test_inspect(void) {
    NEED_PROGRAM();
    const struct {
        const char *path, *kind;
        int tensors;
    } f[] = { { F "/models/llama2-gqa", "Hugging Face model", 21 },
              { F "/format/small.gguf", "GGUF", 4 },
              { F "/format/f4.npy", "NumPy array", 1 },
              { F "/tok/gpt2.json", "tokenizer", 0 },
              { F "/tok/spm.model", "tokenizer", 0 },
              { F "/quant.safetensors", "safetensors", -1 } };
    for (int i = 0; i < LM_COUNT(f); i++) {
        json_t *j = json_of(run("inspect %s --json", f[i].path));
        LM_CHECK_STR(str(j, "kind"), f[i].kind);
        if (f[i].tensors >= 0) LM_CHECK((int)json_array_size(json_object_get(j, "tensors")) == f[i].tensors);
        json_decref(j);
        ran r = run("inspect %s", f[i].path);
        LM_CHECK_RC(r, 0); LM_CHECK(r.n_out > 40); done(&r);
    }
    LM_REFUSED(run("inspect %s", at("nothing")), 2, "nothing");
    LM_REFUSED(run("inspect %s", LM_ROOT "/CMakeLists.txt"), 3, "no kind of file");
    LM_REFUSED(run("inspect %s", LM_ROOT "/src"), 3, "without a model");
}
static void test_tokenizer(void) {
    NEED_PROGRAM();
    static const char text[] = "Hello world! 123 na\xc3\xafve \xf0\x9f\x98\x80\n\ttabs";
    static const char *const toks[] = { F "/tok/gpt2.json", F "/tok/llama3.json", F "/tok/qwen2.json", F "/tok/spm.model", F "/tok/llama2.json" };
    for (int i = 0; i < LM_COUNT(toks); i++) {
        ran enc = run_in(text, sizeof text - 1, "tokenizer encode %s --json", toks[i]);
        LM_CHECK_RC(enc, 0);
        ran dec = run_in(enc.out, enc.n_out, "tokenizer decode %s --json", toks[i]);
        json_t *j = json_of(dec);
        LM_CHECK_STR(str(j, "text"), text);
        json_decref(j);
        ran plain = run_in(text, sizeof text - 1, "tokenizer encode %s --plain", toks[i]);
        ran back = run_in(plain.out, plain.n_out, "tokenizer decode %s", toks[i]);
        LM_CHECK(back.n_out == sizeof text - 1 && !memcmp(back.out, text, sizeof text - 1));
        done(&enc); done(&plain); done(&back);
    }
    json_t *j = json_of(run("tokenizer info %s --json", toks[1]));
    LM_CHECK(num(j, "vocab") > 256 && num(j, "bos") >= 0 && strlen(str(j, "hash")) == 32);
    json_decref(j);
    j = json_of(run("tokenizer train --data %s --vocab 400 --out %s --json", F "/tok/train.txt", at("tk")));
    LM_CHECK(num(j, "vocab") == 400);
    json_decref(j);
    j = json_of(run_in("abc", 3, "tokenizer encode %s --json", at("tk")));
    LM_CHECK(json_array_size(json_object_get(j, "ids")) >= 1);
    json_decref(j);
    LM_REFUSED(run_in("1 2 x", 5, "tokenizer decode %s", toks[0]), 3, "no token id");
    LM_REFUSED(run_in("1,,2", 4, "tokenizer decode %s", toks[0]), 3, "a number is missing");
    LM_REFUSED(run_in("99999999", 8, "tokenizer decode %s", toks[0]), 2, "99999999");
    LM_REFUSED(run_in("\xff\xfe", 2, "tokenizer encode %s", toks[0]), 3, "UTF-8");
    LM_REFUSED(run("tokenizer"), 2, "encode, decode, train, info");
    LM_REFUSED(run("tokenizer encode %s", F "/models/llama3/config.json"), 2, "config.json");
    LM_REFUSED(run("tokenizer train --data %s --out %s", at("nothing"), at("tk2")), 2, "nothing");
    LM_CHECK(!there(at("tk2/tokenizer.json")));
}
static bool same_files(const char *a, const char *b) {
    size_t na = 0, nb = 1; char *x = get_file(a, &na), *y = get_file(b, &nb);
    bool same = x && y && na == nb && !memcmp(x, y, na);
    free(x); free(y);
    return same;
}
static void test_logits(void) {
    NEED_PROGRAM();
    json_t *j = json_of(run("logits %s --ids 1,2,3,4,5,6,7,8,9,10 --out %s --json", F "/models/llama2-gqa", at("a.npy")));
    LM_CHECK(json_array_size(json_object_get(j, "argmax")) == 10);
    json_decref(j);
    size_t n = 0; char *p = get_file(at("a.npy"), &n);
    LM_CHECK(p && n > 128 && !memcmp(p, "\x93NUMPY", 6) && strstr(p + 10, "'<f4'") && strstr(p + 10, "(10, 320)"));
    free(p);
    static const char *const how[] = { "--chunk 1", "--chunk 3", "--threads 7", "--threads 1" };
    for (int i = 0; i < LM_COUNT(how); i++) {
        ran r = run("logits %s --ids 1,2,3,4,5,6,7,8,9,10 --out %s %s", F "/models/llama2-gqa", at("b.npy"), how[i]);
        LM_CHECK_RC(r, 0); done(&r);
        LM_CHECK(same_files(at("a.npy"), at("b.npy")));
    }
    LM_REFUSED(run("logits %s --ids 1,2", F "/models/llama2-gqa"), 2, "--out is missing");
    LM_REFUSED(run("logits %s --ids 1,x --out %s", F "/models/llama2-gqa", at("c.npy")), 3, "no token id");
    LM_REFUSED(run("logits %s --ids 1,320 --out %s", F "/models/llama2-gqa", at("c.npy")), 2, "outside the vocabulary");
    LM_REFUSED(run("logits %s --ids 1,2 --out /proc/none/c.npy", F "/models/llama2-gqa"), 2, "/proc/none");
    LM_CHECK(!there(at("c.npy")));
}
/* The program's view of quantize: the result object, the file it made used again, what it refuses. */
static void test_quantize(void) {
    NEED_PROGRAM();
    static const char src[] = F "/models/llama1";
    put_file(at("text.txt"), "The quick brown fox jumps over the lazy dog. It was a bright cold day.\n", 71);
    json_t *j = json_of(run("quantize %s %s --type Q4_K_M --tokenizer %s --data %s --json", src, at("q.gguf"), F "/models/llama2-gqa", at("text.txt")));
    const json_t *t = json_object_get(j, "tensors");
    LM_CHECK(json_array_size(t) > 10 && json_number_value(json_object_get(j, "ppl_before")) > 1 && json_number_value(json_object_get(j, "ppl_after")) > 1);
    double worst = 0; int quantized = 0;
    for (size_t i = 0; i < json_array_size(t); i++) {
        const json_t *rel = json_object_get(json_array_get(t, i), "relative");
        if (!rel) continue;
        quantized++; worst = fmax(worst, json_number_value(rel));
        LM_CHECK(json_object_get(json_array_get(t, i), "instead_of") || !strcmp(str(json_array_get(t, i), "name"), "output.weight"));  /* rows of 32 */
    }
    LM_CHECK(quantized > 5 && worst > 0 && worst < 0.15);
    json_decref(j);
    ran r = run("quantize %s %s --type Q4_K_M --threads 3 --tokenizer %s --data %s", src, at("q3.gguf"), F "/models/llama2-gqa", at("text.txt"));
    LM_CHECK_RC(r, 0);
    LM_CHECK(strstr(r.out, "instead of Q4_K") && strstr(r.out, "perplexity"));
    LM_CHECK(strstr(r.err, "instead of Q4_K: their rows are no whole blocks"));         /* said aloud */
    done(&r);
    LM_CHECK(same_files(at("q.gguf"), at("q3.gguf")));
    r = run("inspect %s", at("q.gguf")); LM_CHECK_RC(r, 0); LM_CHECK(strstr(r.out, "Q5_0") && strstr(r.out, "loam.quantize.perplexity")); done(&r);
    r = run("logits %s --ids 1,2,3 --out %s", at("q.gguf"), at("q.npy")); LM_CHECK_RC(r, 0); done(&r);
    r = run("quantize %s %s --type Q5_0 --pure --quiet", at("q.gguf"), at("again.gguf")); LM_CHECK_RC(r, 0); done(&r);    /* from quantized */
    LM_REFUSED(run("quantize %s %s", src, at("q.gguf")), 2, "--force");
    LM_REFUSED(run("quantize %s %s --type Q9_9", src, at("n.gguf")), 2, "no such mix");
    LM_REFUSED(run("quantize %s %s --type Q4_K_M --pure", src, at("n.gguf")), 2, "no such format");
    LM_REFUSED(run("quantize %s %s --type IQ1_S --pure", src, at("n.gguf")), 3, "can be read, not made");
    LM_REFUSED(run("quantize %s %s --no-tokenizer --imatrix %s", src, at("n.gguf"), at("text.txt")), 3, "importance");
    LM_REFUSED(run("quantize %s %s --data %s", src, at("n.gguf"), at("none.txt")), 2, "no such file");
    LM_REFUSED(run("quantize %s %s --data %s --no-tokenizer", src, at("n.gguf"), at("text.txt")), 2, "--no-tokenizer");
    LM_REFUSED(run("quantize %s %s --no-tokenizer", F "/models/llama2-gqa", at("n.gguf")), 3, "no matrix of this model");      /* rows of 48 */
    LM_CHECK(!there(at("n.gguf")) && !there(at("n.gguf.part")));
}
static void test_convert(void) {
    NEED_PROGRAM();
    static const char *const m[] = { "llama2-gqa", "gpt2" };
    for (int i = 0; i < LM_COUNT(m); i++) {
        char src[256]; snprintf(src, sizeof src, F "/models/%s", m[i]);
        static const char line[] = "logits %s --ids 5,6,7,8 --out %s --dtype f32";
        ran r = run("convert %s %s", src, at("m.gguf")); LM_CHECK_RC(r, 0); done(&r);
        r = run("convert %s %s --to hf", at("m.gguf"), at("back")); LM_CHECK_RC(r, 0); done(&r);
        r = run(line, src, at("1.npy")); LM_CHECK_RC(r, 0); done(&r);
        r = run(line, at("m.gguf"), at("2.npy")); LM_CHECK_RC(r, 0); done(&r);
        r = run(line, at("back"), at("3.npy")); LM_CHECK_RC(r, 0); done(&r);
        LM_CHECK(same_files(at("1.npy"), at("2.npy")) && same_files(at("1.npy"), at("3.npy")));
        static const char text[] = "The quick brown fox, 42 times.";
        ran a = run_in(text, sizeof text - 1, "tokenizer encode %s", src),
            b = run_in(text, sizeof text - 1, "tokenizer encode %s", at("m.gguf")),
            c = run_in(text, sizeof text - 1, "tokenizer encode %s", at("back"));
        LM_CHECK(a.n_out > 2); LM_CHECK_STR(a.out, b.out); LM_CHECK_STR(a.out, c.out);
        done(&a); done(&b); done(&c);
        LM_REFUSED(run("convert %s %s", src, at("m.gguf")), 2, "--force");
        LM_REFUSED(run("convert %s %s", src, at("back")), 2, "already holds a model");
        LM_REFUSED(run("convert %s %s --dtype Q8_0", src, at("q")), 3, "GGUF has quantized formats");
        LM_REFUSED(run("convert %s %s --dtype Q9_9", src, at("q.gguf")), 2, "Q9_9");
        char cmd[256]; snprintf(cmd, sizeof cmd, "rm -rf '%s' '%s'", at("m.gguf"), at("back"));
        LM_CHECK(!system(cmd));
    }
    /* A splitting of words that GGUF has no name for: nothing is written. */
    LM_REFUSED(run("convert %s %s --tokenizer %s", F "/models/llama2-gqa", at("o.gguf"), F "/tok/falcon.json"), 3, "");
    LM_CHECK(!there(at("o.gguf")));
}
static void test_eval(void) {
    NEED_PROGRAM();
    size_t n; char *text = get_file(F "/tok/train.txt", &n);
    LM_CHECK(text && n > 4000);
    if (text) put_file(at("eval.txt"), text, LM_T_WATCHED ? 4000 : n);
    free(text);
    json_t *j = json_of(run("eval %s --task perplexity --data %s --json", F "/models/llama2-gqa", at("eval.txt")));
    const double nll = num(j, "nll"), tokens = num(j, "tokens");
    LM_CHECK(tokens > 100); LM_CHECK_NEAR(num(j, "ppl"), exp(nll), 1e-6 * exp(nll));
    LM_CHECK_NEAR(num(j, "bpb"), nll * tokens / log(2.0) / num(j, "bytes"), 1e-6 * num(j, "bpb"));
    json_decref(j);
    json_t *k = json_of(run("eval %s --data %s --json --threads 7 --chunk 3 --quiet", F "/models/llama2-gqa", at("eval.txt")));
    LM_CHECK(num(k, "nll") == nll);
    json_decref(k);
    LM_REFUSED(run("eval %s --data %s", F "/models/llama2-gqa", at("nothing")), 2, "no such file");
    LM_REFUSED(run("eval %s --task mmlu --data %s", F "/models/llama2-gqa", F "/tok/train.txt"), 2, "no task");
    LM_REFUSED(run("eval %s", F "/models/llama2-gqa"), 2, "--data is missing");
    put_file(at("empty.txt"), "", 0);
    LM_REFUSED(run("eval %s --data %s", F "/models/llama2-gqa", at("empty.txt")), 3, "empty.txt");
}
static void test_data(void) {
    NEED_PROGRAM();
    static const char lines[] =
        "{\"text\": \"One document.\"}\n{\"text\": \"Another one, somewhat longer than the first.\"}\n\n{\"text\": \"Three.\"}\n";
    put_file(at("d.jsonl"), lines, sizeof lines - 1);
    json_t *j = json_of(run("data tokenize --tokenizer %s --out %s %s --json --quiet", F "/tok/gpt2.json", at("sh"), at("d.jsonl")));
    LM_CHECK(num(j, "documents") == 3 && num(j, "tokens") > 10);
    const double tokens = num(j, "tokens");
    json_decref(j);
    j = json_of(run("data verify %s --json", at("sh"))); LM_CHECK(num(j, "tokens") == tokens); json_decref(j);
    j = json_of(run("verify %s --json", at("sh"))); LM_CHECK(json_array_size(json_object_get(j, "whole")) == 1); json_decref(j);
    j = json_of(run("data inspect %s --tokenizer %s --count 1000 --json", at("sh"), F "/tok/gpt2.json"));
    LM_CHECK(json_array_size(json_object_get(j, "ids")) == (size_t)tokens && json_array_size(json_object_get(j, "document_starts")) == 3);
    json_decref(j);
    LM_REFUSED(run("data inspect %s --tokenizer %s", at("sh"), F "/tok/llama3.json"), 3, "another tokenizer");
    static const char bad[] = "{\"text\": \"fine\"}\n{\"txet\": \"not\"}\n";
    put_file(at("bad.jsonl"), bad, sizeof bad - 1);
    LM_REFUSED(run("data tokenize --tokenizer %s --out %s %s --quiet", F "/tok/gpt2.json", at("sh2"), at("bad.jsonl")), 3, "bad.jsonl:2");
    ran r = run("data tokenize --tokenizer %s --out %s %s --quiet --on-error skip", F "/tok/gpt2.json", at("sh3"), at("bad.jsonl"));
    LM_CHECK_RC(r, 0); done(&r);
    /* One byte of a shard is changed. */
    size_t n; char *p = get_file(at("sh/00000.shard"), &n);
    LM_CHECK(p != NULL);
    if (p) { p[70] ^= 1; put_file(at("sh/00000.shard"), p, n); free(p); LM_REFUSED(run("data verify %s", at("sh")), 3, "00000.shard"); }
}
static void test_bad_models(void) {
    NEED_PROGRAM();
    char cmd[1024];
    snprintf(cmd, sizeof cmd, "cp -r '%s' '%s' && cp -r '%s' '%s'", F "/models/llama3", at("cut"), F "/models/llama3", at("other"));
    LM_CHECK(!system(cmd));
    size_t n; char *p = get_file(at("cut/model.safetensors"), &n);
    put_file(at("cut/model.safetensors"), p, n - 100); free(p);
    LM_REFUSED(run("run %s --prompt a", at("cut")), 3, "model.safetensors");
    LM_REFUSED(run("logits %s --ids 1 --out %s", at("cut"), at("x.npy")), 3, "model.safetensors");
    LM_REFUSED(run("convert %s %s --no-tokenizer", at("cut"), at("x.gguf")), 3, "model.safetensors");
    LM_CHECK(!there(at("x.npy")) && !there(at("x.gguf")));
    p = get_file(at("other/config.json"), &n);
    char *d = strstr(p, "\"intermediate_size\": 52");
    LM_CHECK(d != NULL);
    if (d) {
        d[21] = '9';
        put_file(at("other/config.json"), p, n);
        LM_REFUSED(run("logits %s --ids 1 --out %s", at("other"), at("x.npy")), 3, "mlp");
    }
    free(p);
    LM_REFUSED(run("run %s --prompt a", F "/models/llama3"), 2, "llama3");       /* no tokenizer there */
    LM_REFUSED(run("run %s", at("no-such-model")), 2, "no model");
    LM_REFUSED(run("run %s --max-tokens x", F "/models/llama2-gqa"), 2, "max-tokens");
    LM_REFUSED(run("run %s --temperature -1", F "/models/llama2-gqa"), 2, "temperature");
    LM_REFUSED(run("run %s --dtype f17 --prompt a", F "/models/llama2-gqa"), 2, "f17");
    /* With --json the same sentence as an object. */
    ran r = run("run %s --json", at("no-such-model"));
    json_t *j = json_loadb(r.out, r.n_out, 0, NULL);
    LM_CHECK(j && strstr(str(json_object_get(j, "error"), "message"), "no model"));
    json_decref(j); done(&r);
}
static void test_run(void) {
    NEED_PROGRAM();
    json_t *a = json_of(run("run %s --prompt ab --max-tokens 40 --temperature 0 --json", F "/models/llama2-gqa")),
           *b = json_of(run("run %s --prompt ab --max-tokens 40 --temperature 0 --json --threads 7", F "/models/llama2-gqa"));
    LM_CHECK(json_array_size(json_object_get(a, "tokens")) == 40 || *str(a, "finish_reason"));
    LM_CHECK(json_equal(json_object_get(a, "tokens"), json_object_get(b, "tokens")));
    json_decref(b);
    b = json_of(run("run %s --prompt ab --max-tokens 40 --temperature 0 --json --load map", F "/models/llama2-gqa"));
    LM_CHECK(json_equal(json_object_get(a, "tokens"), json_object_get(b, "tokens")));
    json_decref(a); json_decref(b);
    LM_REFUSED(run("run %s --prompt ab --load fast", F "/models/llama2-gqa"), 2, "load fast: read and map are known");
    /* Options from a file, as key=value, as flags: the later wins. */
    static const char yaml[] = "max-tokens: 9\ntemperature: 0\nprompt: ab\nstop:\n- zzz\n";
    put_file(at("o.yaml"), yaml, sizeof yaml - 1);
    const struct { const char *more; size_t n; } way[] = { { "", 9 }, { "max_tokens=4", 4 }, { "--max-tokens 5", 5 } };
    json_t *full = json_of(run("run %s --prompt ab --max-tokens 9 --temperature 0 --json", F "/models/llama2-gqa"));
    for (int i = 0; i < LM_COUNT(way); i++) {
        a = json_of(run("run %s --config %s %s --json", F "/models/llama2-gqa", at("o.yaml"), way[i].more));
        LM_CHECK(json_array_size(json_object_get(a, "tokens")) == way[i].n);
        LM_CHECK(i || json_equal(json_object_get(a, "tokens"), json_object_get(full, "tokens")));
        json_decref(a);
    }
    LM_REFUSED(run("run %s max-tokenz=4", F "/models/llama2-gqa"), 2, "is too much");
    static const char wrong[] = "max-tokenz: 9\n";
    put_file(at("o.yaml"), wrong, sizeof wrong - 1);
    LM_REFUSED(run("run %s --config %s", F "/models/llama2-gqa", at("o.yaml")), 2,
               "o.yaml:1: unknown option 'max-tokenz'; did you mean 'max-tokens'");
    /* The prompt from standard input. */
    a = json_of(run_in("ab", 2, "run %s --prompt - --max-tokens 9 --temperature 0 --json", F "/models/llama2-gqa"));
    LM_CHECK(json_equal(json_object_get(a, "tokens"), json_object_get(full, "tokens")));
    json_decref(a);
    a = json_of(run_in("ab", 2, "run %s --prompt-file - --max-tokens 9 --temperature 0 --json", F "/models/llama2-gqa"));
    LM_CHECK(json_equal(json_object_get(a, "tokens"), json_object_get(full, "tokens")));
    json_decref(a); json_decref(full);
    a = json_of(run("run %s --prompt ab --max-tokens 5 --n 3 --logprobs 2 --json --seed 3", F "/models/llama2-gqa"));
    LM_CHECK(json_array_size(json_object_get(a, "choices")) == 3 &&
             json_array_size(json_object_get(a, "logprobs")) == json_array_size(json_object_get(a, "tokens")));
    json_decref(a);
}
/* Embeddings are padded: a row that the tokenizer has no id for is a token without text, not an error. */
static void test_padded_vocabulary(void) {
    NEED_PROGRAM();
    char cmd[1024];
    snprintf(cmd, sizeof cmd, "cp -r '%s' '%s' && rm -f '%s'/tokenizer*", F "/models/llama2-gqa", at("padded"), at("padded"));
    LM_CHECK(!system(cmd));
    static const char words[] = "a b ab abc abcd the cat sat ";
    put_file(at("w.txt"), words, sizeof words - 1);
    ran r = run("tokenizer train --data %s --vocab 260 --out %s", at("w.txt"), at("tok260"));
    LM_CHECK_RC(r, 0); done(&r);
    snprintf(cmd, sizeof cmd, "cp '%s'/* '%s'", at("tok260"), at("padded"));
    LM_CHECK(!system(cmd));
    json_t *a = json_of(run("run %s --prompt ab --max-tokens 64 --temperature 2 --top-p 1 --min-p 0 --ignore-eos --logprobs 1 --json",
                            at("padded"))),
           *ids = json_object_get(a, "tokens");
    int beyond = 0;
    for (size_t i = 0; i < json_array_size(ids); i++) beyond += json_integer_value(json_array_get(ids, i)) >= 260;
    LM_CHECK(json_array_size(ids) == 64 && beyond > 0);
    json_decref(a);
}
static void test_plan(void) {
    NEED_PROGRAM();
    calm();
    json_t *j = json_of(run("plan llama-7b --json --memory-budget 8GB"));
    LM_CHECK(num(j, "parameters") == 6738415616.0 && !json_is_true(json_object_get(j, "fits")) && strstr(str(j, "change"), "--dtype"));
    LM_CHECK(num(j, "change_peak") <= 8e9 && num(json_object_get(j, "training"), "peak") > 1e11);
    json_decref(j);
    j = json_of(run("plan %s train.batch=64 data.seq=512 --memory-budget 900MB --json", LM_ROOT "/examples/llama-30m.yaml"));
    LM_CHECK(!json_is_true(json_object_get(j, "fits")) && strstr(str(j, "change"), "train.") && num(j, "change_peak") <= 9e8);
    json_decref(j);
    j = json_of(run("plan %s --json", F "/models/llama2-gqa"));
    LM_CHECK(json_is_true(json_object_get(j, "fits")) && num(j, "decode_tok_s") > 0);
    json_decref(j);
    j = json_of(run("plan %s --json", LM_ROOT "/examples/gpt2-124m.yaml")); LM_CHECK(num(j, "parameters") == 124439808.0); json_decref(j);
    if (!LM_T_WATCHED && there(LM_ROOT "/models/loam-30m.gguf")) {     /* (a sanitizer alone takes more than is budgeted here) of a file: its own formats; in memory, or read from it as it is used, or not at all */
        const char *big = LM_ROOT "/models/loam-30m.gguf";
        j = json_of(run("plan %s --ctx 128 --json", big));
        const double all = num(json_object_get(j, "bytes"), "weights");
        LM_CHECK(all > 15e6 && json_is_true(json_object_get(j, "fits")) && !(num(json_object_get(j, "bytes"), "from_file") > 0));
        json_decref(j);
        j = json_of(run("plan %s --ctx 128 --load map --memory-budget 30MB --json", big));
        LM_CHECK(json_is_true(json_object_get(j, "fits")) && num(json_object_get(j, "bytes"), "from_file") > 1e6 && num(json_object_get(j, "bytes"), "from_file") < all);
        json_decref(j);
        j = json_of(run("plan %s --ctx 128 --memory-budget 30MB --json", big));
        LM_CHECK(!json_is_true(json_object_get(j, "fits")));
        json_decref(j);
        json_t *a = json_of(run("run %s --context 128 --prompt \"The sea\" --temperature 0 --max-tokens 16 --json", big));
        j = json_of(run("run %s --context 128 --prompt \"The sea\" --temperature 0 --max-tokens 16 --load map --memory-budget 30MB --json", big));
        LM_CHECK(*str(a, "text") && json_equal(json_object_get(a, "tokens"), json_object_get(j, "tokens")));
        json_decref(a); json_decref(j);
        LM_REFUSED(run("run %s --context 128 --prompt x --memory-budget 30MB", big), 4, "--load map reads what does not fit");
        LM_REFUSED(run("run %s --context 128 --prompt x --load map --memory-budget 4MB", big), 4, "the model does not fit");
        LM_REFUSED(run("plan %s --load disk", big), 2, "read and map are known");
    }
    LM_REFUSED(run("plan llama-8b"), 2, "llama-8b");
    LM_REFUSED(run("plan model.with=3"), 2, "did you mean");
}
static void test_bench(void) {
    NEED_PROGRAM();
    calm();
    json_t *j = json_of(run("bench infer --shape tiny-1m --prompt 32 --gen 8 --repeat 1 --threads 2 --json"));
    bool pre = false, dec = false;
    for (size_t i = 0; i < json_array_size(j); i++) {
        const json_t *r = json_array_get(j, i);
        pre |= !strcmp(str(r, "name"), "prefill") && num(r, "value") > 0; dec |= !strcmp(str(r, "name"), "decode") && num(r, "value") > 0;
        LM_CHECK(*str(r, "unit") && json_object_get(r, "limit") && json_object_get(r, "peer"));
    }
    LM_CHECK(pre && dec);
    json_decref(j);
    j = json_of(run("bench train --shape tiny-1m --batch 1 --seq 32 --repeat 1 --json")); LM_CHECK(json_array_size(j) >= 3); json_decref(j);
    j = json_of(run("bench infer --model %s --prompt 16 --gen 4 --repeat 1 --json", F "/models/llama2-gqa"));
    LM_CHECK(json_array_size(j) >= 2);
    json_decref(j);
    j = json_of(run("bench lab5 --json"));                                 /* each of its rows is checked against the first */
    LM_CHECK(json_array_size(j) == 12);
    for (size_t i = 0; i < json_array_size(j); i++) LM_CHECK(num(json_array_get(j, i), "value") > 0 && num(json_array_get(j, i), "limit") > 0);
    json_decref(j);
    j = json_of(run("bench plan --repeat 1 --json"));
    LM_CHECK(json_array_size(j) == 10);
    for (size_t i = 0; i < json_array_size(j); i++) LM_CHECK(num(json_array_get(j, i), "value") > 0);
    json_decref(j);
    LM_REFUSED(run("bench infr"), 2, "did you mean infer");
    LM_REFUSED(run("bench infer --device cuda:99"), 3, "cuda:99");
    LM_REFUSED(run("bench infer --device gpu"), 2, "cuda:N");
    LM_REFUSED(run("bench infer --shape gpt3"), 2, "no shape");
}
/* Standard output that cannot be written is an error, not silence. */
static void test_full_stdout(void) {
    NEED_PROGRAM();
    int full = open("/dev/full", O_WRONLY), null = open("/dev/null", O_RDWR);
    if (full < 0) LM_SKIP("no /dev/full");
    char copy[256];
    static const char *const line[] = { "kernels --json", "--help --json", "inspect --ops" };
    for (int i = 0; i < LM_COUNT(line); i++) {
        const pid_t pid = spawn(split(line[i], copy, sizeof copy), null, full, null);
        int st; waitpid(pid, &st, 0);
        if (i != 1) LM_CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 1);
    }
    close(full); close(null);
}
/* Text of a form, with the small shipped model: what --regex, --grammar and --schema promise, the refusals, and that guesses change nothing. */
static void test_form(void) {
    NEED_PROGRAM();
#define SMALL LM_ROOT "/models/loam-3m.gguf"
    if (!there(SMALL)) LM_SKIP("models/loam-3m.gguf is not here");
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":12},\"age\":{\"type\":\"integer\",\"minimum\":7,\"maximum\":99}},\"required\":[\"name\",\"age\"]}",
                      gbnf[] = "root ::= \"<\" word (\", \" word){2} \">\"\nword ::= [a-z]{3,9}\n", bad[] = "{\"properties\":{\"a\":{\"typ\":1}}}";
    put_file(at("s.json"), schema, sizeof schema - 1); put_file(at("g.gbnf"), gbnf, sizeof gbnf - 1); put_file(at("bad.json"), bad, sizeof bad - 1);
    for (int seed = 1; seed <= 3; seed++) {
        json_t *j = json_of(run("run %s --prompt x --regex [0-9]{4}-(ab|cd)+e --temperature 2 --seed %d --max-tokens 60 --json", SMALL, seed));
        const char *t = str(j, "text"), *p = t;
        for (int i = 0; i < 4; i++) LM_CHECK(p[i] >= '0' && p[i] <= '9');
        for (p += 5; !strncmp(p, "ab", 2) || !strncmp(p, "cd", 2); p += 2) continue;
        LM_CHECK(t[4] == '-' && !strcmp(p, "e") && strlen(t) >= 8 && !strcmp(str(j, "finish_reason"), "stop"));
        json_decref(j);
        j = json_of(run("run %s --prompt x --schema %s --temperature %d --seed %d --max-tokens 80 --json", SMALL, at("s.json"), seed - 1, seed));
        json_t *v = json_loads(str(j, "text"), 0, NULL);
        LM_CHECK(v && json_string_length(json_object_get(v, "name")) <= 48 && num(v, "age") >= 7 && num(v, "age") <= 99 && json_object_size(v) == 2);
        json_decref(v); json_decref(j);
        j = json_of(run("run %s --prompt x --grammar %s --temperature 1 --seed %d --max-tokens 80 --json", SMALL, at("g.gbnf"), seed));
        t = str(j, "text");
        LM_CHECK(*t == '<' && t[strlen(t) - 1] == '>' && strstr(t, ", "));
        json_t *k = json_of(run("run %s --prompt x --grammar %s --temperature 1 --seed %d --max-tokens 80 --speculate lookup --json", SMALL, at("g.gbnf"), seed));
        LM_CHECK_STR(str(k, "text"), t);
        json_decref(k);
        k = json_of(run("run %s --prompt x --grammar %s --temperature 1 --seed %d --max-tokens 80 --draft %s --json", SMALL, at("g.gbnf"), seed, SMALL));
        LM_CHECK_STR(str(k, "text"), t);
        LM_CHECK(num(k, "drafted") > 0 && num(k, "runs") > 0);
        json_decref(k); json_decref(j);
    }
    json_t *j = json_of(run("run %s --prompt x --regex a{500} --max-tokens 4 --json", SMALL));
    LM_CHECK_STR(str(j, "finish_reason"), "length");
    json_decref(j);
    LM_REFUSED(run("run %s --schema %s", SMALL, at("bad.json")), 3, "bad.json: /properties/a/typ: this keyword is not supported; did you mean type");
    LM_REFUSED(run("run %s --regex (a", SMALL), 3, "( without its )");
    LM_REFUSED(run("run %s --regex a --schema %s", SMALL, at("s.json")), 2, "exclude each other");
    LM_REFUSED(run("run %s --grammar %s", SMALL, at("no-such.gbnf")), 2, "no-such.gbnf");
    LM_REFUSED(run("run %s --regex a --ignore-eos", SMALL), 2, "exclude each other");
    LM_REFUSED(run("run %s --prompt x --speculate draft", SMALL), 2, "a draft model is wanted");
    LM_REFUSED(run("run %s --prompt x --speculate magic", SMALL), 2, "no proposer is called");
    json_t *plain = json_of(run("run %s --prompt x --temperature 0 --max-tokens 24 --json", SMALL));        /* a draft of another vocabulary */
    j = json_of(run("run %s --prompt x --temperature 0 --max-tokens 24 --draft %s --json", SMALL, F "/models/llama2-gqa"));
    LM_CHECK(*str(plain, "text") && json_equal(json_object_get(plain, "tokens"), json_object_get(j, "tokens")));
    LM_CHECK(json_integer_value(json_object_get(j, "drafted")) > 0);
    json_decref(plain); json_decref(j);
}
LM_TEST_MAIN(LM_T1(test_form), LM_T1(test_help), LM_T1(test_tables), LM_T1(test_inspect), LM_T1(test_tokenizer), LM_T1(test_logits), LM_T1(test_convert), LM_T1(test_quantize),
             LM_T1(test_eval), LM_T1(test_data), LM_T1(test_bad_models), LM_T1(test_run), LM_T1(test_padded_vocabulary), LM_T1(test_plan),
             LM_T1(test_bench), LM_T1(test_full_stdout))
