/* test_cmd_train.c — training as a user meets it: killed, stopped, resumed, verified, refused; the same weights in every case. */
#include "cmd_run.h"
#define NEED_PROGRAM() do { if (!begin()) LM_SKIP("the program is not built"); calm(); text(); } while (0)
enum { STEPS = 60 };
#define ARGS "data.path=%s data.seq=32 tokenizer.vocab=300 model.d=32 model.n_layer=2 model.n_head=2 model.d_ff=64 train.batch=3 train.dropout=0.1 train.steps=60 train.val_every=20 train.val_batches=2 train.keep=30 "

static void text(void) {
    static bool did;
    if (did) return;
    did = true;
    char *p = malloc(40000); size_t n = 0;
    unsigned x = 1;
    static const char *const word[] = { "the ", "cat ", "sat ", "on ", "a ", "mat, ", "and ", "then ", "it ", "ran.\n" };
    while (n < 39000) { x = x * 1103515245u + 12345u; const char *w = word[(x >> 16) % 10]; memcpy(p + n, w, strlen(w)); n += strlen(w); }
    put_file(at("text"), p, n);
    free(p);
}
static void hash_of_run(const char *out, const char *more, char hex[64]) {
    json_t *j = json_of(run("train " ARGS "out=%s %s --json --quiet", at("text"), out, more));
    snprintf(hex, 64, "%s", str(j, "weights_hash"));
    LM_CHECK(strlen(hex) == 32);
    json_decref(j);
}
static const char *want(void) {                          /* of the uninterrupted run */
    static char hex[64];
    if (!*hex) hash_of_run(at("plain"), "train.checkpoint_every=10", hex);
    return hex;
}
static void test_threads(void) {
    NEED_PROGRAM();
    for (int t = 1; t <= 7; t += t == 1 ? 1 : 5) {
        char hex[64], more[64], out[64];
        snprintf(more, sizeof more, "threads=%d", t); snprintf(out, sizeof out, "t%d", t);
        hash_of_run(at(out), more, hex);
        LM_CHECK_STR(hex, want());
        hash_of_run(at("flag"), t == 1 ? "--threads 1" : t == 2 ? "--threads 2" : "--threads 7", hex);
        LM_CHECK_STR(hex, want());
        char cmd[256]; snprintf(cmd, sizeof cmd, "rm -rf '%s'", at("flag")); LM_CHECK(!system(cmd));
    }
}
static long steps_in(const char *metrics) {
    size_t n; char *p = get_file(metrics, &n); long step = 0;
    for (char *q = p; q && (q = strstr(q, "{\"step\": ")); q++) { if (!strchr(q, '\n')) break; step = strtol(q + 9, NULL, 10); }
    free(p);
    return step;
}
static pid_t start(const char *line) {
    char copy[4096];
    int null = open("/dev/null", O_RDWR);
    const pid_t pid = spawn(split(line, copy, sizeof copy), null, null, null);
    close(null);
    return pid;
}
static void test_ten_kills(void) {
    NEED_PROGRAM();
    char line[2048], metrics[512];
    snprintf(metrics, sizeof metrics, "%s", at("killed/metrics.jsonl"));
    unsigned x = (unsigned)getpid();
    long done_steps = 0, killed_at[10];
    for (int k = 0; k < 10; k++) {
        snprintf(line, sizeof line, "train " ARGS "train.checkpoint_every=2 out=%s --quiet %s", at("text"), at("killed"), k ? "--resume" : "");
        const pid_t pid = start(line);
        x = x * 1103515245u + 12345u;
        const long until = k == 4 ? 0 : done_steps + 3 + (long)(x >> 16) % 3;         /* one of them while it starts */
        while (k != 4 && steps_in(metrics) < until && !waitpid(pid, NULL, WNOHANG)) usleep(500);
        x = x * 1103515245u + 12345u;
        usleep((x >> 16) % (k == 4 ? 30000 : 6000));
        LM_CHECK(!kill(pid, SIGKILL));
        int st;
        if (waitpid(pid, &st, 0) == pid) LM_CHECK(WIFSIGNALED(st));
        else lm_t_fail++;
        const long got = killed_at[k] = steps_in(metrics);
        if (got > done_steps) done_steps = got;
    }
    LM_CHECK(done_steps < STEPS);
    printf("killed ten times, at steps");
    for (int k = 0; k < 10; k++) printf(" %ld", killed_at[k]);
    char hex[64];
    hash_of_run(at("killed"), "train.checkpoint_every=2 --resume", hex);
    printf(" of %d, and resumed: weights %s, uninterrupted %s\n", (int)STEPS, hex, want());
    LM_CHECK_STR(hex, want());
    /* Its metrics are those of a run that was never killed: each step once, in order, with the same loss. */
    size_t na, nb; char *a = get_file(at("plain/metrics.jsonl"), &na), *b = get_file(metrics, &nb), *pa = a, *pb = b;
    LM_CHECK(a && b);
    int lines = 0;
    while (pa && pb && *pa && *pb) {
        char *ea = strchr(pa, '\n'), *eb = strchr(pb, '\n'), *la = strstr(pa, ", \"lr\""), *lb = strstr(pb, ", \"lr\"");
        if (!ea || !eb) break;
        const size_t k = la && la < ea ? (size_t)(la - pa) : (size_t)(ea - pa), m = lb && lb < eb ? (size_t)(lb - pb) : (size_t)(eb - pb);
        if (k != m || memcmp(pa, pb, k)) { lm_t_fail++; printf("metrics differ: %.*s | %.*s\n", (int)k, pa, (int)m, pb); break; }
        pa = ea + 1; pb = eb + 1; lines++;
    }
    LM_CHECK(lines == STEPS + 3 && pa && pb && !*pa && !*pb);
    free(a); free(b);
    char cmd[600]; snprintf(cmd, sizeof cmd, "test -z \"$(find '%s' -name '*.tmp*')\"", at("killed"));
    /* what a kill left half-written is gone */
    if (system(cmd)) { lm_t_fail++; snprintf(cmd, sizeof cmd, "find '%s' -name '*.tmp*'", at("killed")); if (system(cmd)) printf("?\n"); }
}
static void test_stop_and_resume(void) {
    NEED_PROGRAM();
    char line[2048], metrics[512], hex[64];
    snprintf(metrics, sizeof metrics, "%s", at("stopped/metrics.jsonl"));
    static const int sig[] = { SIGTERM, SIGINT };
    for (int i = 0; i < 2; i++) {
        snprintf(line, sizeof line, "train " ARGS "train.checkpoint_every=1000 out=%s --quiet %s", at("text"), at("stopped"), i ? "--resume" : "");
        const pid_t pid = start(line);
        const long from = steps_in(metrics);
        while (steps_in(metrics) < from + 5 && !waitpid(pid, NULL, WNOHANG)) usleep(500);
        kill(pid, sig[i]);
        int st = 0; waitpid(pid, &st, 0);
        LM_CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 130);                           /* saved, although no checkpoint was due */
    }
    hash_of_run(at("stopped"), "--resume", hex);
    LM_CHECK_STR(hex, want());
}
static void test_refusals(void) {
    NEED_PROGRAM();
    want();
    LM_REFUSED(run("train " ARGS "out=%s", at("text"), at("plain")), 2, "already holds a run");
    char hex[64];
    hash_of_run(at("plain"), "train.checkpoint_every=10 --resume", hex);             /* a finished run: nothing to do, success */
    LM_CHECK_STR(hex, want());
    LM_REFUSED(run("train " ARGS "out=%s --resume --quiet model.d=48 model.n_head=3", at("text"), at("plain")), 3, "");
    LM_REFUSED(run("train " ARGS "out=%s --resume --quiet optim.lr=0.5", at("text"), at("plain")), 3, "another configuration");
    LM_REFUSED(run("train " ARGS "out=%s --resume --quiet", at("text"), at("none")), 2, "none");
    LM_REFUSED(run("train data.path=%s train.stps=3", at("text")), 2, "did you mean 'train.steps'");
    LM_REFUSED(run("train data.path=%s train.steps=many", at("text")), 2, "train.steps");
    LM_REFUSED(run("train data.path=%s model.family=lama out=%s --quiet", at("text"), at("x")), 2, "did you mean llama");
    LM_REFUSED(run("train data.path=%s out=%s", at("nothing"), at("x")), 2, "nothing");
    LM_REFUSED(run("train out=%s", at("x")), 2, "data.path");
    LM_REFUSED(run("train"), 2, "configuration file");
    LM_REFUSED(run("train %s", at("no.yaml")), 2, "no.yaml");
    put_file(at("bad.yaml"), "train:\n  steps: 10\n  stesp: 3\n", 30);
    LM_REFUSED(run("train %s data.path=%s", at("bad.yaml"), at("text")), 2, "bad.yaml:3");
    LM_REFUSED(run("train " ARGS "out=/proc/nowhere --quiet", at("text")), 2, "/proc/nowhere");
    put_file(at("short"), "a few words", 11);
    LM_REFUSED(run("train data.path=%s out=%s --quiet", at("short"), at("x")), 3, "short");
    put_file(at("latin1"), "caf\xe9 caf\xe9", 9);
    LM_REFUSED(run("train data.path=%s out=%s --quiet", at("latin1"), at("x")), 3, "UTF-8");
    /* half a terabyte of parameters: told before any is made, with what would fit */
    ran r = run("train data.path=%s data.seq=32 tokenizer.vocab=300 train.batch=4 model.d=65536 model.n_head=512 model.d_ff=262144 model.n_layer=2 out=%s", at("text"), at("x"));
    LM_CHECK(r.rc == 4 && strstr(r.err, "training does not fit this machine") && strstr(r.out, "it does not fit") && strstr(r.out, "gives up"));
    done(&r);
    LM_CHECK(!there(at("x")));
}
/* A disk that is full (a limit on the size of files): the sentence, the exit status, and the checkpoints that were there stay whole. */
static void test_full_disk(void) {
    NEED_PROGRAM();
    char hex[64];
    file_limit = 20000;
    ran r = run("train " ARGS "out=%s train.checkpoint_every=10 --quiet", at("text"), at("full"));
    file_limit = 0;
    LM_CHECK(r.rc != 0 && strstr(r.err, "loam train: ") && !strchr(strchr(r.err, '\n') + 1, '\n'));
    done(&r);
    char cmd[600]; snprintf(cmd, sizeof cmd, "test -z \"$(find '%s/checkpoints' -name 'model.safetensors' 2>/dev/null)\"", at("full"));
    LM_CHECK(!system(cmd));
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", at("full")); LM_CHECK(!system(cmd));
    r = run("train " ARGS "train.checkpoint_every=10 out=%s --quiet train.val_every=0", at("text"), at("full")); LM_CHECK_RC(r, 0); done(&r);
    r = run("verify %s --json", at("full"));
    json_t *j = json_of(r); LM_CHECK(json_array_size(json_object_get(j, "whole")) == 6); json_decref(j);
    hash_of_run(at("full"), "train.checkpoint_every=10 train.val_every=0 --resume", hex);
    LM_CHECK_STR(hex, want());
}
static void test_verify(void) {
    NEED_PROGRAM();
    want();
    json_t *j = json_of(run("verify %s --steps 10:40 --json", at("plain")));
    LM_CHECK(json_is_true(json_object_get(j, "equal")) && !strcmp(str(j, "recorded"), str(j, "computed")));
    json_decref(j);
    j = json_of(run("verify %s --steps 50:60 --json --threads 7", at("plain"))); LM_CHECK_STR(str(j, "computed"), want()); json_decref(j);
    j = json_of(run("verify %s --json", at("plain"))); LM_CHECK(json_array_size(json_object_get(j, "whole")) == 6); json_decref(j);
    char cmd[600]; snprintf(cmd, sizeof cmd, "test -z \"$(find '%s' -name '*.tmp*')\"", at("plain")); LM_CHECK(!system(cmd));
    LM_REFUSED(run("verify %s --steps 10:45", at("plain")), 2, "no checkpoint of step 45");
    LM_REFUSED(run("verify %s --steps 40:10", at("plain")), 2, "greater");
    LM_REFUSED(run("verify %s --steps ten", at("plain")), 2, "A:B");
    LM_REFUSED(run("verify %s", at("nothing")), 2, "nothing");
    /* Recorded weights that no such steps give: a checkpoint of another seed under this one's name. */
    json_t *o = json_of(run("train " ARGS "out=%s train.seed=2 train.checkpoint_every=10 --json --quiet", at("text"), at("seed2")));
    json_decref(o);
    snprintf(cmd, sizeof cmd,
             "cp -r '%s' '%s' && rm -r '%s/checkpoints/step-00000020' && cp -r '%s/checkpoints/step-00000020' '%s/checkpoints/'",
             at("plain"), at("forged"), at("forged"), at("seed2"), at("forged"));
    LM_CHECK(!system(cmd));
    LM_REFUSED(run("verify %s --steps 10:20 --quiet", at("forged")), 3, "steps 10 to 20 give weights");
    size_t n; char *p = get_file(at("forged/checkpoints/step-00000030/optimizer.safetensors"), &n);
    LM_CHECK(p != NULL);
    if (p) { p[n - 5] ^= 4; put_file(at("forged/checkpoints/step-00000030/optimizer.safetensors"), p, n); free(p); }
    LM_REFUSED(run("verify %s --quiet", at("forged")), 3, "optimizer.safetensors");
}
static void test_outputs(void) {
    NEED_PROGRAM();
    want();
    static const char *const left[] = { "config.yaml", "tokenizer.json", "metrics.jsonl",          "model.safetensors",
                                        "config.json", "loss.svg",       "best/model.safetensors", "checkpoints/latest" };
    for (int i = 0; i < LM_COUNT(left); i++) {
        char p[128];
        snprintf(p, sizeof p, "plain/%s", left[i]);
        if (!there(at(p))) {
            lm_t_fail++;
            printf("%s is missing\n", p);
        }
    }
    json_t *j = json_of(run("report %s --json", at("plain")));
    LM_CHECK(num(j, "steps") == STEPS && num(j, "loss") < num(j, "first_loss") && there(at("plain/report.html")));
    json_decref(j);
    j = json_of(run("run %s --prompt \"the cat\" --max-tokens 8 --temperature 0 --json", at("plain")));
    LM_CHECK(json_array_size(json_object_get(j, "tokens")) >= 1);
    json_decref(j);
    j = json_of(run("eval %s --data %s --json --quiet", at("plain"), at("text"))); LM_CHECK(num(j, "bpb") > 0 && num(j, "bpb") < 4); json_decref(j);
    j = json_of(run("train %s out=%s --json --quiet", at("plain/config.yaml"), at("again")));        /* the resolved configuration repeats the run */
    LM_CHECK_STR(str(j, "weights_hash"), want());
    json_decref(j);
    /* Sources with weights: another text decides, refused when not understood, and resumed to the bit. */
    char hex[64], more[700];
    static const char other[] = "one two three four five six seven eight nine ten. ";
    char *p = malloc(20000); size_t k = 0;
    while (k + sizeof other < 20000) { memcpy(p + k, other, sizeof other - 1); k += sizeof other - 1; }
    put_file(at("other"), p, k); free(p);
    snprintf(more, sizeof more, "data.mix=%s:0.5 train.checkpoint_every=20", at("other"));
    hash_of_run(at("mixed"), more, hex);
    LM_CHECK(strcmp(hex, want()));
    char *cfg = get_file(at("mixed/config.yaml"), &k);
    LM_CHECK(cfg && strstr(cfg, "other:0.5"));
    free(cfg);
    j = json_of(run("verify %s --steps 20:60 --json", at("mixed"))); LM_CHECK_STR(str(j, "computed"), hex); json_decref(j);
    LM_REFUSED(run("train " ARGS "out=%s data.mix=%s", at("text"), at("x"), at("other")), 2, "PATH:WEIGHT");
    LM_REFUSED(run("train " ARGS "out=%s data.mix=%s:-1", at("text"), at("x"), at("other")), 2, "positive weight");
    LM_REFUSED(run("train " ARGS "out=%s data.mix=%s:1", at("text"), at("x"), at("nothing")), 2, "nothing");
    ran r = run("train " ARGS "out=%s --dry-run", at("text"), at("dry"));
    LM_CHECK_RC(r, 0);
    LM_CHECK(strstr(r.out, "plan:") && !there(at("dry")));
    done(&r);
    LM_REFUSED(run("report %s", root), 2, "metrics.jsonl");
}
LM_TEST_MAIN(LM_T1(test_threads), LM_T1(test_ten_kills), LM_T1(test_stop_and_resume), LM_T1(test_refusals), LM_T1(test_full_disk),
             LM_T1(test_verify), LM_T1(test_outputs))
