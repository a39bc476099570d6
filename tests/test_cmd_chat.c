/* test_cmd_chat.c — `loam chat` from outside: lines from a pipe, JSON, files, refusals; and at a terminal (a pty): every editing key, by what the model
 * was told in the end. */
#define _GNU_SOURCE 1
#include <math.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include "cmd_run.h"
#define F LM_FIXTURES
#define NEED_PROGRAM() do { if (!begin() || !tiny()) LM_SKIP("the program is not built"); } while (0)

/* The tiny model with control tokens and a template. */
static bool tiny(void) {
    static bool did;
    char cmd[2048];
    if (did) return true;
    snprintf(cmd, sizeof cmd, "mkdir -p %s/tiny && cp " F "/models/llama2-gqa/config.json " F "/models/llama2-gqa/model* %s/tiny/ && cp " F "/chat/tokenizer* %s/tiny/", root, root, root);
    return did = !system(cmd);
}
static json_t *lines_of(ran r) {                                            /* an array of the JSON lines */
    json_t *a = json_array();
    for (char *p = strtok(r.out, "\n"); p; p = strtok(NULL, "\n")) {
        json_t *v = json_loads(p, 0, NULL);
        if (!v) { lm_t_fail++; printf("not JSON: %s\n", p); continue; }
        json_array_append_new(a, v);
    }
    return a;
}
static const json_t *line_at(const json_t *a, size_t i, const char *event) {
    const json_t *v = json_array_get(a, i);
    if (strcmp(str(v, "event"), event)) { lm_t_fail++; printf("%s: line %zu is \"%s\", wanted \"%s\"\n", lm_t_name, i, str(v, "event"), event); }
    return v;
}
static ran talk(const char *input, const char *more) { return run_in(input, strlen(input), "chat %s --max-tokens 8 %s", at("tiny"), more); }
static void test_json(void) {
    NEED_PROGRAM();
    ran r = talk("Hello\n{\"content\": \"two\\nlines\"}\n\"text\"\n/retry\n/messages\n/nope\n/clear\n/system\n{\"content\": 5}\n", "--json --system Kind --seed 4");
    LM_CHECK_RC(r, 0);
    json_t *a = lines_of(r);
    for (size_t i = 0; i < 4; i++) {
        const json_t *e = line_at(a, i, "answer");
        LM_CHECK(num(e, "tokens") >= 1 && num(e, "tokens") <= 8 && num(e, "prompt_tokens") > 5 && (*str(e, "finish_reason")) && json_is_string(json_object_get(e, "text")));
        if (i) LM_CHECK(num(e, "reused_tokens") > 5);
    }
    LM_CHECK(num(json_array_get(a, 3), "reused_tokens") == num(json_array_get(a, 3), "prompt_tokens") - 1);
    LM_CHECK_STR(str(json_object_get(line_at(a, 4, "message"), "message"), "content"), "Kind");
    LM_CHECK_STR(str(json_object_get(line_at(a, 7, "message"), "message"), "content"), "two\nlines");
    LM_CHECK(strstr(str(line_at(a, 11, "error"), "message"), "there is no /nope"));
    line_at(a, 12, "note");
    LM_CHECK_STR(str(line_at(a, 13, "note"), "text"), "Kind");
    LM_CHECK(strstr(str(line_at(a, 14, "error"), "message"), "input: /content: wanted a string"));
    json_decref(a); done(&r);
    r = talk("Hello\nagain\n", "--json --seed 4");                          /* the same again */
    ran q = talk("Hello\nagain\n", "--json --seed 4 --threads 3");
    a = lines_of(r);
    json_t *b = lines_of(q);
    for (size_t i = 0; i < 2; i++) LM_CHECK_STR(str(json_array_get(a, i), "text"), str(json_array_get(b, i), "text"));
    json_decref(a); json_decref(b); done(&r); done(&q);
}
static void test_pipe(void) {
    NEED_PROGRAM();
    ran r = talk("Hello\r\n\n   \n/set temperature 0\n/set nothing\n/set temperature x\n//slash\n/undo\n/undo\n/undo\n/sttats\n/stats\n", "--stats");
    LM_CHECK_RC(r, 0);
    LM_CHECK(strstr(r.err, "(temperature is 0)") && strstr(r.err, "/set wants NAME VALUE") && strstr(r.err, "temperature") && strstr(r.err, "did you mean /stats"));
    LM_CHECK(strstr(r.err, "(there is nothing to take back)") && strstr(r.err, "0 messages") && strstr(r.err, "tok/s"));
    LM_CHECK(!strchr(r.out, '>') || !strstr(r.out, "\033"));
    done(&r);
    r = talk("a\n/save\n", "");
    LM_CHECK_RC(r, 0);
    LM_CHECK(strstr(r.err, "/save wants a file"));
    done(&r);
    r = talk("think\n", "--set enable_thinking=true --temperature 0");       /* reasoning is set apart: the prompt begins it */
    LM_CHECK_RC(r, 0);
    LM_CHECK(!strncmp(r.out, "[reasoning]\n", 12));
    done(&r);
    r = talk("think\n", "--set enable_thinking=true --temperature 0 --no-reasoning");
    LM_CHECK(strncmp(r.out, "[reasoning]\n", 12));
    done(&r);
}
static void test_refusals(void) {
    NEED_PROGRAM();
    LM_REFUSED(run("chat " F "/models/llama2-gqa"), 3, "has no chat template, so how it is spoken to is not known; --template FILE gives one");
    LM_REFUSED(run("chat"), 3, "no chat template");                          /* the shipped models are no assistants */
    LM_REFUSED(run("chat /nonexistent"), 2, "/nonexistent");
    LM_REFUSED(run("chat a b"), 2, "is too much");
    LM_REFUSED(run("chat %s --template /nonexistent", at("tiny")), 2, "/nonexistent");
    put_file(at("bad.jinja"), "{% for x %}", 11);
    LM_REFUSED(run("chat %s --template %s", at("tiny"), at("bad.jinja")), 3, "bad.jinja:1: wanted 'in'");
    LM_REFUSED(run("chat %s --set x", at("tiny")), 2, "--set x: wanted NAME=JSON");
    LM_REFUSED(run("chat %s --set x=y", at("tiny")), 3, "x=y:1:1");
    put_file(at("no.jinja"), "{{ raise_exception('never') }}", strlen("{{ raise_exception('never') }}"));
    ran r = run_in("a\n", 2, "chat %s --template %s", at("tiny"), at("no.jinja"));      /* a template that refuses ends a turn, not the program */
    LM_CHECK_RC(r, 0);
    LM_CHECK(strstr(r.err, "the template refuses: never") && strstr(r.err, "(the message is taken back)"));
    done(&r);
    static const char ok[] = "{% for m in messages %}{{ m.content }}{% endfor %}";
    put_file(at("ok.jinja"), ok, sizeof ok - 1);
    r = run_in("ab\n", 3, "chat " F "/models/llama2-gqa --template %s --max-tokens 5 --json", at("ok.jinja"));
    json_t *a = lines_of(r);
    LM_CHECK(r.rc == 0 && num(line_at(a, 0, "answer"), "prompt_tokens") >= 1);
    json_decref(a); done(&r);
}
/* GGUF brings its template: the same answers as from the folder. And a context that fills says so. */
static void test_gguf(void) {
    NEED_PROGRAM();
    ran r = run("convert %s %s", at("tiny"), at("tiny.gguf"));
    LM_CHECK_RC(r, 0); done(&r);
    r = run_in("Hello\nand\n", 10, "chat %s --max-tokens 8 --json --temperature 0", at("tiny.gguf"));
    ran q = talk("Hello\nand\n", "--json --temperature 0");
    json_t *a = lines_of(r), *b = lines_of(q);
    for (size_t i = 0; i < 2; i++) LM_CHECK_STR(str(line_at(a, i, "answer"), "text"), str(line_at(b, i, "answer"), "text"));
    json_decref(a); json_decref(b); done(&r); done(&q);
    char many[2000] = "";
    for (int i = 0; i < 20; i++) strcat(many, "one message more, and then another\n");
    r = run_in(many, strlen(many), "chat %s --max-tokens 8 --context 128 --json --system %s", at("tiny"), "Kind");
    a = lines_of(r);
    bool told = false;
    for (size_t i = 0; i < json_array_size(a); i++) told |= strstr(str(json_array_get(a, i), "text"), "left out of what the model sees, beginning with \"one message more") != NULL;
    LM_CHECK(r.rc == 0 && told && num(json_array_get(a, json_array_size(a) - 1), "left_out") > 0);
    json_decref(a); done(&r);
    char *big = malloc(10001);
    memset(big, 's', 10000);
    big[10000] = 0;
    char *in = malloc(10100);
    const int n = snprintf(in, 10100, "/system %s\n/system\n", big);
    r = run_in(in, (size_t)n, "chat %s --json", at("tiny"));
    a = lines_of(r);
    LM_CHECK_STR(str(line_at(a, 1, "note"), "text"), big);                   /* whole, however long */
    json_decref(a); done(&r); free(big); free(in);
}
/* A base model takes turns at a story, where a template says so. */
static void test_story(void) {
    NEED_PROGRAM();
    ran r = run_in("The captain stood upon the quay.\nIt rained.\n", 44, "chat loam-3m --template " LM_ROOT "/examples/story.jinja --max-tokens 6 --json --speculate lookup");
    LM_CHECK_RC(r, 0);
    json_t *a = lines_of(r);
    LM_CHECK(num(line_at(a, 0, "answer"), "tokens") == 6 && num(line_at(a, 1, "answer"), "reused_tokens") > 6);
    json_decref(a); done(&r);
    LM_REFUSED(run("chat loam-3m --speculate magic"), 2, "--speculate magic: lookup is known");
}
static void test_sessions(void) {
    NEED_PROGRAM();
    char more[600], s[512];
    snprintf(s, sizeof s, "%s", at("s.json"));
    snprintf(more, sizeof more, "--json --session %s", s);
    ran r = talk("Hello\n", more);
    LM_CHECK_RC(r, 0); done(&r);
    LM_CHECK(there(s) && there(at("s.json.kv")));
    r = talk("And?\n/messages\n", more);
    json_t *a = lines_of(r);
    LM_CHECK(strstr(str(line_at(a, 0, "note"), "text"), "2 messages"));
    LM_CHECK(num(line_at(a, 1, "answer"), "reused_tokens") > 5);
    LM_CHECK_STR(str(json_object_get(json_array_get(a, 2), "message"), "content"), "Hello");
    json_decref(a); done(&r);
    snprintf(more, sizeof more, "chat %s --session %s --dtype bf16", at("tiny"), s);
    LM_REFUSED(run("%s", more), 3, "is a conversation with another model");
    size_t n; char *p = get_file(s, &n);
    p[n / 2] ^= 1;
    put_file(s, p, n);
    snprintf(more, sizeof more, "chat %s --session %s", at("tiny"), s);
    r = run("%s", more);
    LM_CHECK_RC(r, 3);
    LM_CHECK(strstr(r.err, "s.json"));
    done(&r); free(p);
    snprintf(more, sizeof more, "--json --prompt-cache %s --system \"A long prompt that two conversations begin with\"", at("cache"));
    r = talk("one\n", more);
    a = lines_of(r);
    LM_CHECK(num(line_at(a, 0, "answer"), "reused_tokens") == 0);
    json_decref(a); done(&r);
    r = talk("two\n", more);
    a = lines_of(r);
    LM_CHECK(num(line_at(a, 0, "answer"), "reused_tokens") > 20);
    json_decref(a); done(&r);
}

/* ---- a terminal ---- */
typedef struct { int fd; pid_t pid; char *seen; size_t n, from; } tty;
static bool tty_open(tty *t, int cols, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static bool tty_open(tty *t, int cols, const char *fmt, ...) {
    char line[2048], copy[2048]; va_list ap;
    va_start(ap, fmt); vsnprintf(line, sizeof line, fmt, ap); va_end(ap);
    *t = (tty){ .fd = posix_openpt(O_RDWR | O_NOCTTY), .seen = calloc(1, 1) };
    if (t->fd < 0 || grantpt(t->fd) || unlockpt(t->fd)) return false;
    struct winsize ws = { .ws_row = 24, .ws_col = (unsigned short)cols };
    ioctl(t->fd, TIOCSWINSZ, &ws);
    if (!(t->pid = fork())) {
        setsid();
        setenv("TERM", "xterm", 1);
        const int s = open(ptsname(t->fd), O_RDWR);                          /* becomes the controlling terminal */
        dup2(s, 0); dup2(s, 1); dup2(s, 2);
        execv(LM_PROGRAM, split(line, copy, sizeof copy));
        _exit(127);
    }
    return true;
}
/* Reads until the text comes (behind what was waited for before). The deadline is for a program that hangs. */
static bool wait_for(tty *t, const char *what) {
    const double end = lm_now() + 60;
    for (;;) {
        char *p = strstr(t->seen + t->from, what);
        if (p) { t->from = (size_t)(p - t->seen) + strlen(what); return true; }
        struct pollfd f = { .fd = t->fd, .events = POLLIN };
        char b[4096];
        ssize_t k = poll(&f, 1, 1000) > 0 ? read(t->fd, b, sizeof b) : 0;
        for (ssize_t i = 0; i < k; i++) if (!b[i]) b[i] = '0';
        if (k > 0) { t->seen = realloc(t->seen, t->n + (size_t)k + 1); memcpy(t->seen + t->n, b, (size_t)k); t->n += (size_t)k; t->seen[t->n] = 0; }
        if (k < 0 || lm_now() > end) { lm_t_fail++; printf("%s: no \"%s\" came; last was: %.400s\n", lm_t_name, what, t->seen + t->from); return false; }
    }
}
static const char ready[] = "\033[?2004h";                                  /* the editor waits for keys */
static bool keys(tty *t, const char *k) { const size_t n = strlen(k); return write(t->fd, k, n) == (ssize_t)n; }
static void turn(tty *t, const char *k) { if (keys(t, k)) wait_for(t, ready); }
static int tty_close(tty *t) {
    int st;
    char b[4096];
    struct pollfd f = { .fd = t->fd, .events = POLLIN };
    while (poll(&f, 1, 20000) > 0 && read(t->fd, b, sizeof b) > 0) continue;  /* to the end */
    while (waitpid(t->pid, &st, 0) < 0 && errno == EINTR) continue;
    close(t->fd); free(t->seen);
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}
static void users_said(const char *path, const char *const *want, int n) {
    json_t *v = json_load_file(path, 0, NULL), *m;
    size_t i; int k = 0;
    LM_CHECK(v != NULL);
    json_array_foreach(json_object_get(v, "messages"), i, m) {
        if (strcmp(str(m, "role"), "user")) continue;
        if (k < n) LM_CHECK_STR(str(m, "content"), want[k]);
        k++;
    }
    LM_CHECK(k == n);
    json_decref(v);
}
static void test_editor(void) {
    NEED_PROGRAM();
    static const struct { const char *keys, *text; } k[] = {
        { "Helo\033[Dl\r", "Hello" },                                        /* left */
        { "\xc3\xbc\xe4\xbd\xa0x\177\001a\r", "a\xc3\xbc\xe4\xbd\xa0" },       /* backspace, ^A, characters of several bytes */
        { "\xe4\xbd\xa0\xe5\xa5\xbd\033[D\033[D\033[3~!\r", "!\xe5\xa5\xbd" },       /* Delete takes a whole character */
        { "one two\027three\r", "one three" },                                /* ^W */
        { "abcdef\001\006\006\013\001\031\r", "cdefab" },                        /* ^K, ^Y */
        { "gone\025kept\r", "kept" },                                         /* ^U */
        { "ab\024\002\024\r", "ba" },                                         /* ^T at the end does nothing, between two turns them */
        { "\033[A\033[A\r", "kept" },                                         /* history: the last, the one before */
        { "draft\020\016!\r", "draft!" },                                     /* ^P and back: the draft is there */
        { "one\\\rtwo\r", "one\ntwo" },                                        /* goes on in the next line */
        { "\033[200~pasted\nlines\t1\033[201~ end\r", "pasted\nlines\t1 end" },
        { "\033[Hx\033[Fy\033OHz\r", "zxy" },                                  /* Home, End, both spellings */
        { "aa bb cc\033b\033bX\033fY\r", "aa XbbY cc" },                        /* words */
        { "\033[99~\033[5~\033[21~ok\r", "ok" },                                     /* keys that mean nothing */
        { "a\xff" "b\xc3(c\r", "ab" "c" },                                     /* bytes that are no text */
        { "a line that is much longer than forty columns and wraps over several rows of the screen\033[H>\r",
          ">a line that is much longer than forty columns and wraps over several rows of the screen" },
    };
    const char *want[LM_COUNT(k)];
    tty t;
    if (!tty_open(&t, 40, "chat %s --max-tokens 3 --context 320 --session %s --history %s --temperature 0", at("tiny"), at("tty.json"), at("hist"))) LM_SKIP("no pty here");
    wait_for(&t, ready);
    for (int i = 0; i < LM_COUNT(k); i++) { want[i] = k[i].text; turn(&t, k[i].keys); }
    turn(&t, "dropped\003");                                                /* ^C: the line is gone */
    turn(&t, "/mess\t\r");                                                  /* Tab */
    LM_CHECK(strstr(t.seen, "/messages") != NULL);
    turn(&t, "/he\tx\025/help\r");
    LM_CHECK(strstr(t.seen, "the conversation so far") != NULL);
    struct termios now;
    keys(&t, "\004");                                                       /* ^D */
    wait_for(&t, "\033[?2004l");
    LM_CHECK(!tcgetattr(t.fd, &now) && (now.c_lflag & (ECHO | ICANON)) == (ECHO | ICANON));
    LM_CHECK(tty_close(&t) == 0);
    users_said(at("tty.json"), want, LM_COUNT(want));
    size_t n; char *h = get_file(at("hist"), &n);
    LM_CHECK(h && strstr(h, "one\\ntwo\n") && strstr(h, "/help\n"));
    free(h);
    if (!tty_open(&t, 80, "chat %s --max-tokens 3 --session %s --history %s", at("tiny"), at("tty2.json"), at("hist"))) return;
    wait_for(&t, ready);
    turn(&t, "\033[A\033[A\033[A\r");                                  /* the history of the run before */
    keys(&t, "\004");
    LM_CHECK(tty_close(&t) == 0);
    users_said(at("tty2.json"), want + LM_COUNT(k) - 1, 1);
}
/* ^C while the model writes stops the answer and nothing else. The model here would go on for sixty thousand tokens. */
static void test_interrupt(void) {
    NEED_PROGRAM();
    char cmd[1200];
    snprintf(cmd, sizeof cmd, "mkdir -p %s/long && cp " F "/models/llama2-gqa/[ct]*.json " F "/models/llama2-gqa/model* %s/long/ && sed -i 's/\"max_position_embeddings\": 320/\"max_position_embeddings\": 65536/' %s/long/config.json",
             root, root, root);                                               /* its tokenizer has no token that ends a text */
    LM_CHECK(!system(cmd));
    static const char loop[] = "{% for m in messages %}{{ m.role[0] }}{{ m.content[:40] }}{% endfor %}";
    put_file(at("loop.jinja"), loop, sizeof loop - 1);
    tty t;
    if (!tty_open(&t, 80, "chat %s --context 65536 --template %s --temperature 0 --history none --session %s", at("long"), at("loop.jinja"), at("int.json"))) LM_SKIP("no pty here");
    wait_for(&t, ready);
    keys(&t, "Go\r");
    wait_for(&t, "\033[?2004l");
    wait_for(&t, "ld");                                                      /* it writes: greedy, so this comes */
    keys(&t, "\003");
    LM_CHECK(wait_for(&t, "(interrupted)") && wait_for(&t, ready));
    keys(&t, "\004");
    LM_CHECK(tty_close(&t) == 0);
    static const char *const want[] = { "Go" };
    users_said(at("int.json"), want, 1);
}
LM_TEST_MAIN(LM_T1(test_json), LM_T1(test_pipe), LM_T1(test_refusals), LM_T1(test_gguf), LM_T1(test_story), LM_T1(test_sessions), LM_T1(test_editor), LM_T1(test_interrupt))
