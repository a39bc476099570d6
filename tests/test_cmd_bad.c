/* test_cmd_bad.c — bad input as a user meets it: every way a file, a setting or a disk can be wrong gets one sentence that names it, an
 * exit status, and leaves nothing behind. */
#define _GNU_SOURCE 1
#include <math.h>
#include <sys/mount.h>
#include "cmd_run.h"
#define NEED_PROGRAM() do { if (!begin()) LM_SKIP("the program is not built"); calm(); } while (0)
#define F LM_FIXTURES
#define MODEL F "/models/llama2-gqa"
#define ARGS "data.seq=16 tokenizer.vocab=260 model.d=16 model.n_layer=1 model.n_head=1 model.d_ff=16 train.batch=2 train.steps=4 train.val_every=2 train.val_batches=1 train.checkpoint_every=2 --quiet "

static void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *fmt, ...) {
    char cmd[2000]; va_list ap;
    va_start(ap, fmt); vsnprintf(cmd, sizeof cmd, fmt, ap); va_end(ap);
    const int rc = system(cmd);
    if (rc) { lm_t_fail++; printf("%s: exit status %d\n", cmd, rc); }
}
static void text(void) {
    if (there(at("text"))) return;
    FILE *f = fopen(at("text"), "w");
    for (int i = 0; f && i < 150; i++) fprintf(f, "the cat sat on mat %d and ran.\n", i * i);
    if (f) fclose(f);
}
/* Names under the scratch folder, to see that a refusal leaves nothing. */
static char *listing(void) {
    char cmd[400]; size_t n;
    snprintf(cmd, sizeof cmd,
             "cd '%s' && find . -path ./listing -prune -o -path ./loam -prune -o -name stdin -prune -o -type f -printf '%%p %%s\\n' -o "
             "-type d -printf '%%p\\n' | sort > listing",
             root);
    if (system(cmd)) return NULL;
    return get_file(at("listing"), &n);
}
/* A refusal that leaves the folder as it was. phrases: parts of the sentence, each of which must be there, parted by '|'. */
static void refuse(int line, ran r, int rc, const char *phrases, const char *before) {
    char one[200];
    const char *nl = strchr(r.err, '\n');
    bool bad = r.rc != rc || strncmp(r.err, "loam", 4) || !nl || nl[1];
    for (const char *p = phrases; *p;) {
        const size_t n = strcspn(p, "|");
        snprintf(one, sizeof one, "%.*s", (int)n, p);
        bad |= !strstr(r.err, one);
        p += n + (p[n] == '|');
    }
    char *after = listing();
    if (bad) {
        lm_t_fail++;
        printf("%s:%d: %s: exit status %d, wanted %d and one sentence with \"%s\": %s\n", __FILE__, line, lm_t_name, r.rc, rc, phrases,
               r.err);
    }
    if (before && after && strcmp(before, after)) {
        lm_t_fail++;
        printf("%s:%d: %s: after \"%s\" the folder is another:\n%s--- it was\n%s", __FILE__, line, lm_t_name, r.err, after, before);
    }
    if (getenv("LM_SHOW")) printf("%d %s", r.rc, r.err);
    free(after); done(&r);
}
#define REFUSE(r, rc, phrases) do { char *b_ = listing(); refuse(__LINE__, r, rc, phrases, b_); free(b_); } while (0)

/* ---- files of models, each damaged in one way ---- */
static void good(void) {
    if (!there(at("good"))) {
        ran r = run("convert %s %s --to hf --dtype f32 --quiet", MODEL, at("good"));
        LM_CHECK_RC(r, 0);
        done(&r);
    }
}
/* Copies the model to DIR and edits the header of its safetensors: the first `from` becomes `to` of the same length. */
static void header(const char *dir, const char *from, const char *to) {
    char p[300];
    size_t n, k = strlen(from);
    good();
    shell("rm -rf '%s' && cp -r '%s' '%s'", at(dir), at("good"), at(dir));
    snprintf(p, sizeof p, "%s/model.safetensors", at(dir));
    char *b = get_file(p, &n), *hit = b ? memmem(b, n, from, k) : NULL;
    LM_CHECK(hit && strlen(to) == k);
    if (hit) { memcpy(hit, to, k); put_file(p, b, n); }
    free(b);
}
static void config(const char *dir, const char *sed) {
    good();
    shell("rm -rf '%s' && cp -r '%s' '%s' && sed -i '%s' '%s/config.json'", at(dir), at("good"), at(dir), sed, at(dir));
}
static void test_models(void) {
    NEED_PROGRAM();
    char cut[300];
    static const struct { const char *from, *to; int rc; const char *say; } st[] = {
        { "\"dtype\":\"F32\"", "\"dtype\":\"F33\"", 3, "model.safetensors|F33" },
        { "\"shape\":[", "\"shape\":{", 3, "model.safetensors" },
        { "\"data_offsets\":[0,", "\"data_offsets\":[4,", 3, "model.safetensors" },
        { "lm_head.weight", "lm_head.weighs", 3, "model.safetensors|lm_head.weight" },
        { "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight", 3, "model.safetensors|model.layers.1.mlp.up_proj.weight|twice" },
    };
    for (int i = 0; i < LM_COUNT(st); i++) {
        header("bad", st[i].from, st[i].to);
        REFUSE(run("run %s --prompt a --max-tokens 2", at("bad")), st[i].rc == 3 && i == 3 ? 2 : st[i].rc, st[i].say);
        REFUSE(run("convert %s %s", at("bad"), at("out.gguf")), st[i].rc == 3 && i == 3 ? 2 : st[i].rc, st[i].say);
    }
    snprintf(cut, sizeof cut, "%s/model.safetensors", at("bad"));
    header("bad", "lm_head", "lm_head");
    size_t n; char *p = get_file(cut, &n);
    LM_CHECK(p != NULL);
    if (!p) return;
    const size_t at_[] = { 0, 5, 8, 100, n / 2, n - 1 };
    for (int i = 0; i < LM_COUNT(at_); i++) { put_file(cut, p, at_[i]); REFUSE(run("run %s --prompt a", at("bad")), 3, "model.safetensors"); }
    /* a length that lies */
    p[3] ^= 0x40; put_file(cut, p, n); REFUSE(run("eval %s --data %s", at("bad"), F "/tok/train.txt"), 3, "model.safetensors|header"); p[3] ^= 0x40;
    free(p);
    /* Pickles are never read: not in a folder without safetensors, not by themselves, whatever they are called. */
    static char pickle[5000] = "PK\x03\x04\0\0\x08\x08\0\0archive/data.pkl\x80\x02cposix\nsystem\n";
    shell("rm '%s'", cut);
    snprintf(cut, sizeof cut, "%s/pytorch_model.bin", at("bad"));
    put_file(cut, pickle, sizeof pickle);
    REFUSE(run("run %s --prompt a", at("bad")), 2, "safetensors");
    REFUSE(run("run %s --prompt a", cut), 3, "pytorch_model.bin");
    put_file(at("model.pt"), pickle, sizeof pickle);
    REFUSE(run("run %s --prompt a", at("model.pt")), 3, "neither a Hugging Face folder nor a GGUF file");
    shell("rm '%s'", at("model.pt"));
    static const struct { const char *sed; int rc; const char *say; } cfg[] = {
        { "s/\"hidden_size\": 48/\"hidden_size\": 47/", 3, "config.json|hidden_size" },                    /* the shapes tell */
        { "s/\"num_hidden_layers\": 2/\"num_hidden_layers\": 3/", 2, "model.layers.2" },
        { "s/\"num_hidden_layers\": 2/\"num_hidden_layers\": 1/", 3, "model.layers.1" },
        { "s/\"vocab_size\": [0-9]*/\"vocab_size\": 9/", 3, "9" },
        { "s/\"vocab_size\"/\"vocab_sise\"/", 2, "config.json|vocab_size" },
        { "s/\"hidden_size\": 48/\"hidden_size\": \"48\"/", 2, "config.json|/hidden_size" },
        { "s/LlamaForCausalLM/LamaForCausalLM/", 3, "config.json|LamaForCausalLM" },
        { "s/\"hidden_act\": \"silu\"/\"hidden_act\": \"silly\"/", 3, "config.json|silly" },
        { "s/{/{ \"hidden_size\": 48,/", 3, "config.json|hidden_size" },                                    /* a key twice */
        { "s/}/,}/", 3, "config.json" }, { "s/.*//", 3, "config.json" } };
    for (int i = 0; i < LM_COUNT(cfg); i++) {
        config("bad", cfg[i].sed);
        if (i) REFUSE(run("run %s --prompt a --max-tokens 2", at("bad")), cfg[i].rc, cfg[i].say);
    }
    config("bad", "s/x/x/");
    shell("rm '%s/config.json'", at("bad"));
    REFUSE(run("run %s --prompt a", at("bad")), 2, "config.json");
    /* Shards whose index lies. */
    shell("cp -r '%s' '%s'", F "/format/sharded", at("sharded"));
    shell("cp '%s/config.json' '%s'/", MODEL, at("sharded"));
    shell("cd '%s' && sed -i 's/-of-0/-of-1/' *.index.json", at("sharded"));
    REFUSE(run("inspect %s", at("sharded")), 2, "-of-1");
    shell("rm -rf '%s'", at("bad"));
}
static void test_gguf(void) {
    NEED_PROGRAM();
    ran r = run("convert %s %s --quiet", MODEL, at("m.gguf"));
    LM_CHECK_RC(r, 0); done(&r);
    size_t n; char *p = get_file(at("m.gguf"), &n);
    LM_CHECK(p != NULL);
    if (!p) return;
    const size_t cuts[] = { 3, 10, 24, 200, n / 2, n - 1 };
    for (int i = 0; i < LM_COUNT(cuts); i++) {
        put_file(at("bad.gguf"), p, cuts[i]);
        REFUSE(run("run %s --prompt a", at("bad.gguf")), 3, "bad.gguf");
        REFUSE(run("tokenizer encode %s --json", at("bad.gguf")), 3, "bad.gguf");
    }
    const struct {
        size_t at;
        char bit;
        const char *say;
    } flip[] = { { 0, 1, "bad.gguf" }, { 4, 8, "bad.gguf|version" }, { 15, 1, "bad.gguf" }, { 23, 2, "bad.gguf" }, { 31, 4, "bad.gguf" } };
    for (int i = 0; i < LM_COUNT(flip); i++) {
        p[flip[i].at] ^= flip[i].bit; put_file(at("bad.gguf"), p, n); p[flip[i].at] ^= flip[i].bit;
        REFUSE(run("run %s --prompt a", at("bad.gguf")), 3, flip[i].say);
    }
    free(p);
    shell("rm '%s' '%s'", at("bad.gguf"), at("m.gguf"));
}
static void test_tokenizers(void) {
    NEED_PROGRAM();
    static const struct { const char *name, *body; int rc; const char *say;
    } bad[] = { { "tokenizer.json", "", 3, "tokenizer.json" },
                { "tokenizer.json", "{", 3, "tokenizer.json:1" },
                { "tokenizer.json", "{}", 2, "tokenizer.json|model" },
                { "tokenizer.json", "[1]", 3, "tokenizer.json" },
                { "tokenizer.json", "{\"model\": {\"type\": \"WordPiece\", \"vocab\": {}}}", 3, "tokenizer.json|[UNK]" },
                { "tokenizer.json", "{\"model\": {\"type\": \"WordLevel\", \"vocab\": {}}}", 3, "tokenizer.json|WordLevel" },
                { "tokenizer.json", "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []}}", 3,
                  "tokenizer.json" },
                { "tokenizer.json", "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}}", 3, "tokenizer.json" },
                { "tokenizer.json", "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"\xff\": 0}, \"merges\": []}}", 3, "tokenizer.json:1" },
                { "x.model", "not protobuf at all, just words", 3, "x.model" },
                { "x.tiktoken", "!!!! 0\n", 3, "x.tiktoken" },
                { "x.tiktoken", "YQ== 0\nYg== 0\n", 3, "x.tiktoken" } };
    for (int i = 0; i < LM_COUNT(bad); i++) {
        put_file(at(bad[i].name), bad[i].body, strlen(bad[i].body));
        REFUSE(run_in("a", 1, "tokenizer encode %s --json", at(bad[i].name)), bad[i].rc, bad[i].say);
        unlink(at(bad[i].name));
    }
    REFUSE(run_in("caf\xe9", 4, "tokenizer encode %s --json", F "/tok/gpt2.json"), 3, "UTF-8");
    REFUSE(run_in("[1, 99999999]", 13, "tokenizer decode %s --json", F "/tok/gpt2.json"), 2, "99999999");
    REFUSE(run_in("[1, x]", 6, "tokenizer decode %s --json", F "/tok/gpt2.json"), 3, "x");
}

/* ---- data
 * ----------------------------------------------------------------------------------------------------------------------------------------------
 * */
static void test_data(void) {
    NEED_PROGRAM();
    text();
    static const struct { const char *name, *body; size_t n; const char *say;
    } bad[] = { { "d.jsonl", "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n", 0, "d.jsonl:2|text" },
                { "d.jsonl", "{\"text\": \"a\"}\n{\"text\": 5}\n", 0, "d.jsonl:2|text" },
                { "d.jsonl", "{\"text\": \"a\"}\nword\n", 0, "d.jsonl:2" },
                { "d.jsonl", "{\"text\": \"a\xff\"}\n", 0, "d.jsonl:1|UTF-8" },
                { "d.txt", "a\xc3", 0, "d.txt|UTF-8" },
                { "d.txt", "", 0, "no text" },
                { "d.jsonl", "\n\n", 0, "no text" },
                { "d.txt.gz", "not packed", 0, "d.txt.gz" },
                { "d.txt.zst", "not packed", 0, "d.txt.zst" } };
    for (int i = 0; i < LM_COUNT(bad); i++) {
        put_file(at(bad[i].name), bad[i].body, strlen(bad[i].body));
        REFUSE(run("data tokenize --tokenizer %s --out %s %s --quiet", F "/tok/gpt2.json", at("shards"), at(bad[i].name)), 3, bad[i].say);
        REFUSE(run("train data.path=%s out=%s " ARGS, at(bad[i].name), at("run")), 3, i == 5 || i == 6 ? bad[i].name : bad[i].say);
        REFUSE(run("eval %s --data %s --quiet", MODEL, at(bad[i].name)), 3, i == 5 || i == 6 ? bad[i].name : bad[i].say);
        unlink(at(bad[i].name));
    }
    REFUSE(run("data tokenize --tokenizer %s --out %s %s", F "/tok/gpt2.json", at("shards"), at("nothing")), 2, "nothing");
    REFUSE(run("data tokenize --tokenizer %s --out %s %s", at("nothing"), at("shards"), at("text")), 2, "nothing");
    REFUSE(run("data inspect %s", root), 2, "index.json");
    /* Shards: damaged, cut, of another tokenizer. */
    ran r = run("data tokenize --tokenizer %s --out %s %s --quiet", F "/tok/gpt2.json", at("shards"), at("text"));
    LM_CHECK_RC(r, 0); done(&r);
    REFUSE(run("train data.path=%s tokenizer.path=%s out=%s " ARGS, at("shards"), F "/tok/llama3.json", at("run")), 3, "another tokenizer");
    REFUSE(run("data tokenize --tokenizer %s --out %s %s --quiet", F "/tok/llama3.json", at("shards"), at("text")), 3, "shards");
    size_t n; char *p = get_file(at("shards/00000.shard"), &n);
    LM_CHECK(p && n > 200);
    if (p) {
        put_file(at("shards/00000.shard"), p, n - 7); REFUSE(run("data verify %s", at("shards")), 3, "00000.shard");
        p[100] ^= 1; put_file(at("shards/00000.shard"), p, n); REFUSE(run("data verify %s", at("shards")), 3, "00000.shard");
        REFUSE(run("verify %s", at("shards")), 3, "00000.shard");
        p[100] ^= 1;
        p[9] ^= 1;
        put_file(at("shards/00000.shard"), p, n);
        REFUSE(run("train data.path=%s out=%s " ARGS, at("shards"), at("run")), 3, "00000.shard");
    }
    free(p);
    unlink(at("shards/00000.shard"));
    REFUSE(run("data verify %s", at("shards")), 2, "00000.shard");
    shell("rm -r '%s'", at("shards"));
}

/* ---- settings
 * ----------------------------------------------------------------------------------------------------------------------------------------------
 * */
static void test_settings(void) {
    NEED_PROGRAM();
    text();
    static const struct { const char *set; const char *say;
    } bad[] = { { "optim.lrr=1", "optim.lr" },
                { "model.d=0", "model.d" },
                { "model.d=1e3", "model.d|whole number" },
                { "train.dtype=fp16", "train.dtype|f32" },
                { "train.batch=-1", "train.batch" },
                { "optim.schedule=cosin", "cosine" },
                { "optim.name=adam", "adamw" },
                { "train.memory_budget=lots", "train.memory_budget" },
                { "model.n_head=3", "model.d|model.n_head = 3" },
                { "train.micro_batch=3", "train.micro_batch" },
                { "mesh=dp", "mesh" },
                { "mesh=tp=2", "mesh" },
                { "mesh=dp=2", "mesh|alone: start 2" },
                { "mesh=fsdp=1x", "mesh|number of ranks" },
                { "mesh=dp=", "mesh|number of ranks" },
                { "train.gather=never", "train.gather|again" },
                { "model.tie=perhaps", "model.tie" },
                { "train.steps", "key=value" },
                { "data.val_fraction=0.99", "data.val_fraction" },
                { "data.seq=100000", "data.seq" },
                { "model.family=llamma", "llama" },
                { "model.from=nowhere", "model.from: |nowhere" },
                { "tokenizer.path=nowhere", "tokenizer.path: |nowhere" },
                { "data.val_path=nowhere", "data.val_path: |nowhere" },
                { "tokenizer.vocab=100", "tokenizer.vocab" } };
    for (int i = 0; i < LM_COUNT(bad); i++) {
        const int rc = !strcmp(bad[i].set, "data.seq=100000") ? 3 : 2;
        REFUSE(run("train " ARGS "data.path=%s out=%s %s", at("text"), at("run"), bad[i].set), rc, bad[i].say);
    }
    static const struct { const char *yaml; const char *say; int rc;
    } y[] = { { "train:\n  steps: 10\n  steps: 11\n", "y.yaml:3|steps", 2 },
              { "train: [1, 2]\n", "y.yaml:1|train", 2 },
              { "train:\n  stesp: 3\n", "y.yaml:2|steps", 2 },
              { "train:\n\tsteps: 3\n", "y.yaml:2", 3 },
              { "optim:\n  lr: fast\n", "y.yaml:2|optim.lr", 2 },
              { "a: &x 1\nb: *x\n", "y.yaml:1", 2 },
              { "", "data.path", 2 },
              { "out: \xff\n", "y.yaml", 3 } };
    for (int i = 0; i < LM_COUNT(y); i++) {
        put_file(at("y.yaml"), y[i].yaml, strlen(y[i].yaml));
        REFUSE(run("train %s %s%s", at("y.yaml"), i == 6 ? "" : "data.path=", i == 6 ? "" : at("text")), y[i].rc, y[i].say);
    }
    REFUSE(run("run %s --prompt a --max-tokens 100000", MODEL), 2, "context");
    REFUSE(run("run %s --prompt a --logit-bias 5", MODEL), 2, "logit-bias");
    REFUSE(run("run %s --prompt a --logit-bias 99999999=1", MODEL), 2, "99999999");
    REFUSE(run("logits %s --ids 1,99999999 --out %s", MODEL, at("x.npy")), 2, "99999999");
    REFUSE(run("eval %s --data %s --task perplexitty", MODEL, at("text")), 2, "perplexity");
    REFUSE(run("convert %s %s --dtype Q9_9", MODEL, at("x.gguf")), 2, "Q9_9");
    unlink(at("y.yaml"));
}

/* ---- runs and checkpoints ---- */
static void test_checkpoints(void) {
    NEED_PROGRAM();
    text();
    ran r = run("train " ARGS "train.keep=9 data.path=%s out=%s", at("text"), at("run"));
    LM_CHECK_RC(r, 0); done(&r);
#define AGAIN(more) run("train " ARGS "train.keep=9 data.path=%s out=%s --resume %s", at("text"), at("run"), more)
    REFUSE(AGAIN("optim.lr=0.5"), 3, "another configuration|optim.lr is 0.5|it was 0.001");
    REFUSE(AGAIN("model.d=32"), 3, "model.d is 32|it was 16");
    REFUSE(AGAIN("train.seed=2"), 3, "train.seed is 2");
    shell("cp '%s' '%s' && sed -i 's/cat/dog/' '%s'", at("text"), at("text.old"), at("text"));
    REFUSE(AGAIN(""), 3, "other data|text");
    REFUSE(run("verify %s --steps 2:4", at("run")), 3, "other data");
    shell("mv '%s' '%s'", at("text.old"), at("text"));
    shell("cp '%s' '%s' && cp '%s' '%s'", at("run/tokenizer.json"), at("tok.old"), F "/tok/gpt2.json", at("run/tokenizer.json"));
    REFUSE(AGAIN(""), 3, "tokenizer");
    shell("mv '%s' '%s'", at("tok.old"), at("run/tokenizer.json"));
    shell("sed -i.old 's/seed: 1/seed: 2/' '%s'", at("run/config.yaml"));
    REFUSE(run("verify %s --steps 2:4", at("run")), 3, "config.yaml|changed");
    shell("mv '%s.old' '%s'", at("run/config.yaml"), at("run/config.yaml"));
    r = run("verify %s --steps 2:4 --quiet", at("run")); LM_CHECK_RC(r, 0); done(&r);
    /* A damaged newest checkpoint is passed over, aloud; when none is whole, that is said. */
    const char *steps[] = { "run/checkpoints/step-00000004", "run/checkpoints/step-00000002" };
    char p[300];
    snprintf(p, sizeof p, "%s/manifest.json", at(steps[0]));
    size_t n; char *m = get_file(p, &n);
    LM_CHECK(m != NULL);
    if (!m) return;
    for (int i = 0; i < 4; i++) {
        if (i == 0) put_file(p, m, n / 2);
        if (i == 1) { char *h = strstr(m, "loam-checkpoint-2"); h[16] = '9'; put_file(p, m, n); h[16] = '2'; }
        if (i == 2) { put_file(p, m, n); shell("truncate -s -1 '%s/optimizer.safetensors'", at(steps[0])); }
        if (i == 3) shell("rm '%s/model.safetensors'", at(steps[0]));
        REFUSE(run("verify %s", at(steps[0])), i == 3 ? 2 : 3, i < 2 ? "manifest.json" : i == 2 ? "optimizer.safetensors" : "model.safetensors");
        REFUSE(run("verify %s --steps 2:4", at("run")), i == 3 ? 2 : 3, "step-00000004");
    }
    free(m);
    shell("rm '%s/manifest.json'", at(steps[1]));
    char *before = listing();
    r = AGAIN("");
    LM_CHECK(r.rc == 2 && strstr(r.err, "no whole checkpoint") && !strstr(r.err, ".lock"));
    done(&r);
    char *after = listing();
    LM_CHECK(before && after && !strcmp(before, after));
    free(before); free(after);
    /* A run that was killed before its first checkpoint goes on from the beginning. */
    shell("rm -rf '%s/checkpoints'", at("run"));
    REFUSE(AGAIN("train.seed=7"), 3, "train.seed is 7");
    json_t *j = json_of(run("train " ARGS "train.keep=9 data.path=%s out=%s --resume --json", at("text"), at("run")));
    LM_CHECK(num(j, "steps") == 4);
    json_decref(j);
    shell("rm -r '%s'", at("run"));
}
static pid_t start(const char *line, int out) {
    char copy[4096];
    int null = open("/dev/null", O_RDWR);
    const pid_t pid = spawn(split(line, copy, sizeof copy), null, out < 0 ? null : out, null);
    close(null);
    return pid;
}
static bool wait_for(const char *path, pid_t pid) {
    while (!there(path)) {
        if (waitpid(pid, NULL, WNOHANG)) return false;
        usleep(500);
    }
    return true;
}
static void test_two_at_once(void) {
    NEED_PROGRAM();
    text();
    char line[1000];
    snprintf(line, sizeof line, "train " ARGS "train.steps=1000000 train.val_every=0 data.path=%s out=%s", at("text"), at("run"));
    const pid_t pid = start(line, -1);
    LM_CHECK(wait_for(at("run/checkpoints/step-00000002"), pid));
    char who[40]; snprintf(who, sizeof who, "in use by process %d", (int)pid);
    LM_REFUSED(run("train " ARGS "train.steps=1000000 train.val_every=0 data.path=%s out=%s --resume", at("text"), at("run")), 1, who);
    LM_REFUSED(run("train " ARGS "data.path=%s out=%s", at("text"), at("run")), 2, "already holds a run");
    kill(pid, SIGKILL); waitpid(pid, NULL, 0);
    LM_CHECK(there(at("run/.lock")));                       /* of one that is gone: no hindrance */
    snprintf(line, sizeof line, "train " ARGS "train.steps=1000000 train.val_every=0 data.path=%s out=%s --resume", at("text"), at("run"));
    shell("rm '%s'; cp '%s' '%s'", at("run/metrics.jsonl"), at("text"), at("run/metrics.jsonl"));
    const pid_t again = start(line, -1);
    size_t n;
    for (char *m = NULL; !m || !strstr(m, "\"step\""); usleep(500)) {
        free(m);
        if (waitpid(again, NULL, WNOHANG)) break;
        m = get_file(at("run/metrics.jsonl"), &n);
        if (m && strstr(m, "\"step\"")) {
            free(m);
            break;
        }
    }
    kill(again, SIGTERM);
    int st; LM_CHECK(waitpid(again, &st, 0) == again && WIFEXITED(st) && WEXITSTATUS(st) == 130 && !there(at("run/.lock")));
    shell("rm -r '%s'", at("run"));
}

/* ---- disks
 * ---------------------------------------------------------------------------------------------------------------------------------------------------
 * */
static void test_read_only(void) {
    NEED_PROGRAM();
    text();
    if (!geteuid()) {
        static const char *const place = "/sys";       /* root may write anywhere but where nothing can be made */
        REFUSE(run("train " ARGS "data.path=%s out=%s/x", at("text"), place), 1, "/sys/x");
        REFUSE(run("convert %s %s/x.gguf", MODEL, place), 1, "/sys/x.gguf");
        REFUSE(run("logits %s --ids 1 --out %s/x.npy", MODEL, place), 1, "/sys/x.npy");
        REFUSE(run("data tokenize --tokenizer %s --out %s/x %s --quiet", F "/tok/gpt2.json", place, at("text")), 1, "/sys/x");
        return;
    }
    shell("mkdir '%s' && chmod 555 '%s'", at("locked"), at("locked"));
    REFUSE(run("train " ARGS "data.path=%s out=%s", at("text"), at("locked/x")), 1, "locked/x|denied");
    REFUSE(run("convert %s %s", MODEL, at("locked/x.gguf")), 1, "locked/x.gguf|denied");
    REFUSE(run("logits %s --ids 1 --out %s", MODEL, at("locked/x.npy")), 1, "locked/x.npy|denied");
    REFUSE(run("data tokenize --tokenizer %s --out %s %s --quiet", F "/tok/gpt2.json", at("locked/x"), at("text")), 1, "locked/x|denied");
    shell("rmdir '%s'", at("locked"));
}
static void test_full(void) {
    NEED_PROGRAM();
    text();
    char disk[300];
    snprintf(disk, sizeof disk, "%s", at("disk"));
    mkdir(disk, 0755);
    if (mount("loam-test", disk, "tmpfs", 0, "size=128k")) { rmdir(disk); LM_SKIP("no right to mount a small disk"); }
    REFUSE(run("convert %s %s --dtype f32", MODEL, at("disk/m.gguf")), 4, "m.gguf|No space left");
    REFUSE(run("convert %s %s --dtype f32", MODEL, at("disk/hf")), 4, "hf|No space left");
    REFUSE(run("logits %s --ids "
               "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,1,2,3,4,5,6,7,8,9,10,"
               "11,12,13,14,15,16,17,18,19,20,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,"
               "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,1,2,3,4,5,6,7,8,9,10,"
               "11,12,13,14,15,16,17,18,19,20 --out %s",
               MODEL, at("disk/x.npy")),
           4, "x.npy|No space left");
    /* Room for one checkpoint and not for two: training goes on, says so each time, and ends with an error that keeps the first. */
    shell("umount '%s'", disk);
    if (mount("loam-test", disk, "tmpfs", 0, "size=208k")) LM_SKIP("no right to mount a small disk");
    ran r = run("train " ARGS "train.val_every=0 train.steps=6 data.path=%s out=%s/run", at("text"), disk);
    r.rc == 4 ? (void)0 : (void)(lm_t_fail++, printf("exit status %d: %s\n", r.rc, r.err));
    LM_CHECK(strstr(r.err, "the checkpoint of step 6 was not written, earlier ones are untouched") && strstr(r.err, "No space left"));
    done(&r);
    r = run("train " ARGS "train.val_every=0 train.steps=6 data.path=%s out=%s/run", at("text"), disk);
    done(&r);
    r = run("verify %s/run/checkpoints/step-00000002", disk); LM_CHECK_RC(r, 0); done(&r);
    shell("test -z \"$(find '%s' -name '*.tmp*')\"", disk);
    LM_CHECK(!umount(disk) && !rmdir(disk));
}

/* ---- interruptions
 * -----------------------------------------------------------------------------------------------------------------------------------------------
 * */
/* Until the program listens for SIGINT. */
static bool listens(pid_t pid) {
    for (int i = 0; i < 20000; i++, usleep(500)) {
        char p[64]; size_t n; snprintf(p, sizeof p, "/proc/%d/status", (int)pid);
        char *s = get_file(p, &n), *c = s ? strstr(s, "SigCgt:") : NULL;
        const bool yes = c && (strtoull(c + 7, NULL, 16) & 1u << (SIGINT - 1));
        free(s);
        if (!s) return false;
        if (yes) return true;
    }
    return false;
}
/* A model of 48 M zeros, 190 MB of which the disk has none: work for a second or more. */
static void big_model(const char *path) {
    enum { D = 512, H = 1024, L = 12, V = 32000 };
    const int64_t n = (int64_t)V * D + L * (int64_t)(2 * D + 4 * D * D + 3 * D * H) + D;
    const int32_t head[] = { 0x616b3432, 1, D, H, L, 8, 8, V, 256 };
    FILE *f = fopen(path, "wb");
    LM_CHECK(f && fwrite(head, sizeof head, 1, f) == 1 && fputc(1, f) == 1);              /* shared output matrix */
    if (f) { LM_CHECK(!fflush(f) && !ftruncate(fileno(f), 256 + n * 4)); fclose(f); }
}
/* loam convert, stopped when the first byte of what it writes is on the disk: what was there stays, nothing else is, and again it is done. */
static void interrupt_convert(const char *out, const char *dtype, int sig) {
    char line[1000], copy[1000], err[4096] = "", seek[600];
    int e[2], null = open("/dev/null", O_RDWR), st = 0;
    snprintf(line, sizeof line, "convert %s %s --no-tokenizer --dtype %s --isa portable --threads 1 --quiet", at("big.bin"), at(out), dtype);
    snprintf(seek, sizeof seek, "find '%s' -newer '%s' -type f -size +0 ! -name log | grep -q .", root, at("mark"));
    put_file(at("mark"), "", 0);
    LM_CHECK(!pipe(e));
    const pid_t pid = spawn(split(line, copy, sizeof copy), null, null, e[1]);
    setpriority(PRIO_PROCESS, (id_t)pid, 19);                                             /* on a busy machine we come first */
    close(e[1]); close(null);
    bool ended = false;
    while (system(seek) && !(ended = waitpid(pid, &st, WNOHANG) == pid)) usleep(500);
    kill(pid, sig);
    size_t n = 0; ssize_t k;
    while (n + 1 < sizeof err && (k = read(e[0], err + n, sizeof err - 1 - n)) > 0) n += (size_t)k;
    err[n] = 0; close(e[0]);
    if (!ended) LM_CHECK(waitpid(pid, &st, 0) == pid);
    if (!WIFEXITED(st) || WEXITSTATUS(st) != 130 || !strstr(err, "interrupted")) {
        lm_t_fail++;
        printf("loam %s: wanted exit status 130 and \"interrupted\": %d %s\n", line, st, err);
    }
    LM_CHECK(!there(at(out)));
    shell("test -z \"$(find '%s' -newer '%s' ! -name mark -type f)\"", root, at("mark"));
    ran r = run("convert %s %s --no-tokenizer --dtype %s --quiet", at("big.bin"), at(out), dtype);
    LM_CHECK_RC(r, 0);
    done(&r);
    r = run("inspect %s --json", at(out));
    LM_CHECK_RC(r, 0);
    done(&r);
    shell("rm -r '%s'", at(out));
}
static void interrupt(const char *line, int sig, const char *say, bool first_byte) {
    int e[2], o[2], null = open("/dev/null", O_RDWR), st = 0;
    char copy[4096], err[4096] = "", c;
    LM_CHECK(!pipe(e) && !pipe(o));
    const pid_t pid = spawn(split(line, copy, sizeof copy), null, o[1], e[1]);
    close(e[1]); close(o[1]); close(null);
    LM_CHECK(listens(pid));
    if (first_byte) LM_CHECK(read(o[0], &c, 1) == 1);
    kill(pid, sig);
    size_t n = 0; ssize_t k;
    char drop[4096];
    while (read(o[0], drop, sizeof drop) > 0) continue;
    while (n + 1 < sizeof err && (k = read(e[0], err + n, sizeof err - 1 - n)) > 0) n += (size_t)k;
    err[n] = 0;
    close(e[0]); close(o[0]);
    LM_CHECK(waitpid(pid, &st, 0) == pid);
    if (!WIFEXITED(st) || WEXITSTATUS(st) != 130 || !strstr(err, say)) {
        lm_t_fail++;
        printf("loam %.60s…: wanted exit status 130 and \"%s\": %d %s\n", line, say, st, err);
    }
}
static void test_interrupts(void) {
    NEED_PROGRAM();
    text();
    char line[1000];
    /* Work without an end, so that only the signal ends it. */
    snprintf(line, sizeof line, "run %s --prompt ab --max-tokens 200 --n 900 --ignore-eos --isa portable --threads 1 --json", MODEL);
    interrupt(line, SIGINT, "interrupted", false);
    put_file(at("long"), "the end of it ", 14);
    /* 450 kB */
    shell("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do cat '%s' '%s' > '%s.2' && mv '%s.2' '%s'; done", at("long"), at("long"),
          at("long"), at("long"), at("long"));
    snprintf(line, sizeof line, "eval %s --data %s --stride 1 --window 64 --isa portable --threads 1 --quiet", MODEL, at("long"));
    interrupt(line, SIGTERM, "stopped after", false);
    /* over one batch */
    shell("awk 'BEGIN { for (i = 0; i < 150000; i++) print \"{\\\"text\\\": \\\"the cat sat on the mat and ran away from it, and then it "
          "came back\\\"}\" }' > '%s'",
          at("long.jsonl"));
    snprintf(line, sizeof line, "data tokenize --tokenizer %s --out %s %s --shard-tokens 100000 --threads 2 --quiet", F "/tok/gpt2.json",
             at("shards"), at("long.jsonl"));
    interrupt(line, SIGINT, "same command goes on", false);
    LM_CHECK(!there(at("shards/index.json")) && !there(at("shards/.lock")));
    shell("test -z \"$(find '%s' -name '*.tmp*')\"", at("shards"));
    ran r = run("data tokenize --tokenizer %s --out %s %s --shard-tokens 100000 --threads 2 --quiet", F "/tok/gpt2.json", at("shards"),
                at("long.jsonl"));
    LM_CHECK_RC(r, 0);
    done(&r);
    r = run("data tokenize --tokenizer %s --out %s %s --shard-tokens 100000 --threads 1 --quiet", F "/tok/gpt2.json", at("whole"),
            at("long.jsonl"));
    LM_CHECK_RC(r, 0);
    done(&r);
    shell("diff -r '%s' '%s'", at("shards"), at("whole"));
    /* Before the first step nothing is written. */
    snprintf(line, sizeof line, "train data.path=%s tokenizer.path=%s model.d=32 model.n_layer=1 train.steps=1000000 out=%s --quiet",
             at("long.jsonl"), F "/tok/gpt2.json", at("early"));
    interrupt(line, SIGINT, "nothing was changed", false);
    LM_CHECK(!there(at("early")));
    big_model(at("big.bin"));
    interrupt_convert("big.gguf", "Q8_0", SIGINT);
    interrupt_convert("big", "f16", SIGTERM);
    shell("rm '%s' '%s'", at("big.bin"), at("mark"));
    shell("rm -r '%s' '%s' '%s' '%s'", at("shards"), at("whole"), at("long"), at("long.jsonl"));
}
LM_TEST_MAIN(LM_T1(test_models), LM_T1(test_gguf), LM_T1(test_tokenizers), LM_T1(test_data), LM_T1(test_settings), LM_T1(test_checkpoints),
             LM_T1(test_two_at_once), LM_T1(test_read_only), LM_T1(test_full), LM_T1(test_interrupts))
