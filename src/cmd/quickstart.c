/* quickstart.c — `loam quickstart`: the whole program in a few minutes, by the commands that a user types; each is printed before it runs.
 *
 * The commands run as children of this one (the program's own file, /proc/self/exe). Training is killed for real, with SIGKILL, when the
 * metrics file says that half of the steps are done. What is measured comes from the children's --json or from the files they leave. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/file.h"
#include "cmd/cmd_corpus.h"
#include "cmd/cmd_plan.h"
#include "cmd/cmd_shapes.h"
#include "cmd/cmd_shipped.h"
#include "cmd/cmd_text.h"
#include "data/docs.h"
#include "device/probe.h"
#include "format/json.h"
#include "quant/quant.h"

typedef struct { lm_cli_common common; const char *out; int64_t seconds, prompt_tokens; } opts;
static const lm_opt rows[] = {
    LM_CLI_COMMON(opts),
    { LM_OPT_INT, "seconds", offsetof(opts, seconds), "60", 5, 86400, NULL, "N", "how long the model trains, about" },
    { LM_OPT_STR, "out", offsetof(opts, out), "loam-quickstart", 0, 0, NULL, "DIR",
      "folder for everything; one from an earlier quickstart is replaced" },
    { LM_OPT_INT, "tokens", offsetof(opts, prompt_tokens), "120", 1, 4096, NULL, "N", "length of the text that is written at the end" },
    LM_OPT_ROW_END
};
enum { SHORT = 30, MAX_TEXT = 48 << 20, MIN_TEXT = 20000 };
typedef struct { lm_cli *cli; const opts *o; const char *exe, *dir, *threads, *from; double t0; size_t text, held; lm_machine m; lm_str json; } show;

/* ---- children ------------------------------------------------------------------------------------------------------------------------- */
enum { MAX_ARG = 24 };
static pid_t start(show *s, const char *const *argv, int *out_fd) {
    int fd[2];
    if (out_fd && pipe(fd)) return -1;
    fflush(stdout); fflush(stderr);
    const pid_t pid = fork();
    if (!pid) {
        if (out_fd) { dup2(fd[1], 1); close(fd[0]); close(fd[1]); }
        else if (s->cli->json) dup2(2, 1);                          /* standard output belongs to the result */
        execv(s->exe, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    if (out_fd) { close(fd[1]); *out_fd = fd[0]; if (pid < 0) close(fd[0]); }
    return pid;
}
static int finish(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0) if (errno != EINTR) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
static void title(show *s, const char *text) {
    if (s->cli->json) fprintf(stderr, "\n%s (%.0f s)\n", text, lm_now() - s->t0);
    else { lm_cli_say(s->cli, "\n%s", text); }
}
static int words(const char **argv, const show *s, const char *line, char *copy, size_t cap, int *n) {
    snprintf(copy, cap, "%s", line);
    *n = 0;
    argv[(*n)++] = "loam";
    for (char *p = copy; *p && *n < MAX_ARG - 4;) {
        if (*p == ' ') { *p++ = 0; continue; }
        char q = *p == '"' ? *p++ : 0;
        argv[(*n)++] = p;
        while (*p && (q ? *p != '"' : *p != ' ')) p++;
        if (q && *p) *p++ = 0;
    }
    if (s->threads) { argv[(*n)++] = "--threads"; argv[(*n)++] = s->threads; }
    argv[*n] = NULL;
    return *n;
}
/* Show a command and run it. out: its standard output, which then is not shown; lm_str of the caller. */
static lm_err say_and_run(show *s, const char *line, lm_str *out) {
    const char *argv[MAX_ARG + 2]; char copy[4096]; int n, fd = -1;
    fprintf(s->cli->json ? stderr : stdout, "$ %s %s\n", s->cli->program, line);
    words(argv, s, line, copy, sizeof copy, &n);
    if (out || !s->cli->tty) { if (!strstr(line, "--quiet") && !strncmp(line, "train", 5)) argv[n++] = "--quiet"; argv[n] = NULL; }
    const pid_t pid = start(s, argv, out ? &fd : NULL);
    if (pid < 0) return lm_fail(s->cli->ctx, LM_E_IO, "no child process can be started: %s", strerror(errno));
    if (out) {
        char b[4096];
        for (ssize_t k; (k = read(fd, b, sizeof b)) > 0 || (k < 0 && errno == EINTR);) if (k > 0) lm_str_add(out, b, (size_t)k);
        close(fd);
    }
    const int rc = finish(pid);
    if (lm_cli_stopped(s->cli)) return lm_cli_stop_err(s->cli);
    return rc ? lm_fail(s->cli->ctx, LM_E_INTERNAL, "`loam %s` ended with status %d; what it said is above", line, rc) : LM_OK;
}
static lm_err run_line(show *s, lm_str *out, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static lm_err run_line(show *s, lm_str *out, const char *fmt, ...) {
    char line[4096]; va_list ap;
    va_start(ap, fmt); vsnprintf(line, sizeof line, fmt, ap); va_end(ap);
    return say_and_run(s, line, out);
}
/* Numbers of a child's answer: {"a": 1, …}, or the value of the list's member called name. */
static double number(show *s, const lm_str *text, const char *name, const char *key) {
    json_t *j = NULL;
    double v = NAN;
    if (lm_json_parse(s->cli->ctx, "the answer", text->p ? text->p : "", text->n, 0, &j)) return NAN;
    json_t *o = j;
    for (size_t i = 0; name && i < json_array_size(j); i++) {
        const char *n = json_string_value(json_object_get(json_array_get(j, i), "name"));
        if (n && !strcmp(n, name)) o = json_array_get(j, i);
    }
    json_t *x = json_object_get(o, key);
    if (json_is_number(x)) v = json_number_value(x);
    lm_json_free(j);
    return v;
}
/* The last step in a metrics file, and the median of its step times so far. */
static int64_t last_step(show *s, const char *run, double *median, double *rss) {
    char *path = lm_arena_printf(s->cli->a, "%s/metrics.jsonl", run), *text; size_t n;
    int64_t step = 0; int k = 0; static double ms[1 << 16];
    if (!path || !lm_exists(path) || lm_file_read_all(s->cli->ctx, path, (size_t)1 << 30, &text, &n)) return 0;
    for (char *p = text, *e; (e = memchr(p, '\n', (size_t)(text + n - p))); p = e + 1) {
        *e = 0;
        const char *a = strstr(p, "\"step\": "), *b = strstr(p, "\"step_ms\": "), *c = strstr(p, "\"rss\": ");
        if (a) step = strtoll(a + 8, NULL, 10);
        if (b && k < LM_COUNT(ms)) ms[k++] = strtod(b + 11, NULL);
        if (c && rss) { double r = strtod(c + 7, NULL); if (r > *rss) *rss = r; }
    }
    for (int i = 1; i < k; i++) for (int q = i; q > 0 && ms[q] < ms[q - 1]; q--) { double t = ms[q]; ms[q] = ms[q - 1]; ms[q - 1] = t; }
    if (median) *median = k ? ms[k / 2] / 1e3 : 0;
    lm_free(s->cli->ctx, text);
    return step;
}
/* Train, and SIGKILL the child when step `at` is in its metrics. *killed: the last step that was. */
static lm_err killed_run(show *s, const char *run, const char *line, int64_t at, int64_t *killed) {
    const char *argv[MAX_ARG + 2]; char copy[4096]; int n;
    fprintf(s->cli->json ? stderr : stdout, "$ %s %s\n", s->cli->program, line);
    words(argv, s, line, copy, sizeof copy, &n);
    if (!s->cli->tty) { argv[n++] = "--quiet"; argv[n] = NULL; }
    const pid_t pid = start(s, argv, NULL);
    if (pid < 0) return lm_fail(s->cli->ctx, LM_E_IO, "no child process can be started: %s", strerror(errno));
    for (;;) {
        int status;
        const pid_t done = waitpid(pid, &status, WNOHANG);
        if (done == pid) return lm_fail(s->cli->ctx, LM_E_INTERNAL, "`loam %s` ended before it could be killed", line);
        if (lm_cli_stopped(s->cli)) { kill(pid, SIGTERM); finish(pid); return lm_cli_stop_err(s->cli); }
        if (last_step(s, run, NULL, NULL) >= at) break;
        usleep(3000);
    }
    kill(pid, SIGKILL);
    finish(pid);
    lm_cli_progress_end(s->cli);
    *killed = last_step(s, run, NULL, NULL);
    return LM_OK;
}

/* ---- text -------------------------------------------------------------------------------------------------------------------------------- */
typedef struct { lm_ctx *ctx; lm_str *to; } gather;
static lm_err take(void *ud, lm_docs *d, lm_doc_batch *b) {
    gather *g = ud;
    for (int i = 0; i < b->n; i++) {
        if (b->doc[i].bad) return lm_docs_why(d, &b->doc[i]);
        if (g->to->n + b->doc[i].n > MAX_TEXT) return LM_OK;                    /* a few minutes see no more */
        lm_str_add(g->to, b->doc[i].text, b->doc[i].n);
        lm_str_putc(g->to, '\n');
    }
    return lm_str_err(g->to);
}
/* OUT/train.txt and OUT/held-out.txt: the last twentieth, from a line's beginning. */
static lm_err prepare_text(show *s, const char *given) {
    lm_ctx *ctx = s->cli->ctx;
    lm_str text = { .ctx = ctx };
    lm_err err;
    if (given) { gather g = { ctx, &text }; err = lm_docs_each(ctx, given, "text", take, &g); }
    else { char *p; size_t n; if (!(err = lm_cmd_corpus(ctx, &p, &n))) { lm_str_add(&text, p, n); lm_free(ctx, p); err = lm_str_err(&text); } }
    if (!err && text.n < MIN_TEXT)
        err = lm_fail(ctx, LM_E_DATA, "%s has %zu bytes of text; a model wants at least %d to learn from", given, text.n, MIN_TEXT);
    char *a = lm_arena_printf(s->cli->a, "%s/train.txt", s->dir), *b = lm_arena_printf(s->cli->a, "%s/held-out.txt", s->dir);
    if (!err && (!a || !b)) err = LM_E_NOMEM;
    if (!err) {
        size_t held = text.n / 20 < 200000 ? text.n / 20 : 200000, at = text.n - held;
        while (at < text.n - 1 && text.p[at - 1] != '\n' && at < text.n - held + 4000) at++;
        while (at < text.n && ((unsigned char)text.p[at] & 0xc0) == 0x80) at++;     /* not inside a character */
        s->text = at; s->held = text.n - at;
        err = lm_file_write_atomic(ctx, a, text.p, at);
        if (!err) err = lm_file_write_atomic(ctx, b, text.p + at, text.n - at);
    }
    lm_str_free(&text);
    return err;
}
/* Bits per byte of `xz -9e` on the held-out bytes: by liblzma, which is on every Debian. 0: not here. with: the training text goes before,
 * and only what it adds counts. */
static double xz_bits(show *s, bool with) {
    typedef int easy_fn(uint32_t, int, const void *, const uint8_t *, size_t, uint8_t *, size_t *, size_t);
    void *lib = dlopen("liblzma.so.5", RTLD_NOW | RTLD_LOCAL);
    union { void *p; easy_fn *f; } f = { lib ? dlsym(lib, "lzma_easy_buffer_encode") : NULL };
    double bits = 0;
    char *a = NULL, *b = NULL; size_t na = 0, nb = 0;
    char *pa = lm_arena_printf(s->cli->a, "%s/train.txt", s->dir), *pb = lm_arena_printf(s->cli->a, "%s/held-out.txt", s->dir);
    if (f.p && pa && pb && !lm_file_read_all(s->cli->ctx, pb, MAX_TEXT, &b, &nb) && !lm_file_read_all(s->cli->ctx, pa, MAX_TEXT, &a, &na)) {
        uint8_t *in = lm_alloc(s->cli->ctx, LM_MEM_SCRATCH, na + nb + 1), *out = lm_alloc(s->cli->ctx, LM_MEM_SCRATCH, na + nb + 65536);
        const uint32_t preset = 9u | 1u << 31;
        size_t all = 0, before = 0;
        bool ok = in && out;
        if (ok) {
            memcpy(in, a, na); memcpy(in + na, b, nb);
            if (with)
                ok = !f.f(preset, 4, NULL, in, na, out, &before, na + nb + 65536) &&
                     !f.f(preset, 4, NULL, in, na + nb, out, &all, na + nb + 65536);
            else ok = !f.f(preset, 4, NULL, in + na, nb, out, &all, na + nb + 65536);
        }
        if (ok) bits = 8.0 * (double)(all - before) / (double)nb;
        lm_free(s->cli->ctx, in); lm_free(s->cli->ctx, out);
    }
    lm_free(s->cli->ctx, a); lm_free(s->cli->ctx, b);
    if (lib) dlclose(lib);
    return bits;
}

/* ---- the show -------------------------------------------------------------------------------------------------------------------------------- */
static lm_err machine(show *s) {
    lm_arena *a = s->cli->a;
    title(s, "1. What this machine reaches");
    LM_TRY(run_line(s, NULL, "bench ceilings --again"));
    LM_TRY(lm_cmd_machine(s->cli, false, &s->m));
    title(s, "2. What it can train and serve (dry plans, as `plan llama-7b` makes them)");
    const size_t have = lm_memory_available(), base = lm_rss_now();
    static const char *const shape[] = { "llama-1b", "llama-7b" };
    for (int i = 0; i < LM_COUNT(shape); i++) {
        lm_cfg c;
        LM_TRY(lm_shape_cfg(s->cli->ctx, shape[i], &c));
        static const struct {
            const char *name;
            lm_dtype d;
            const char *q;
        } kind[] = { { "bf16", LM_BF16, NULL }, { "Q8_0", LM_F32, "Q8_0" }, { "Q4_0", LM_F32, "Q4_0" } };
        for (int k = 0; k < LM_COUNT(kind); k++) {
            lm_serve_need n;
            LM_TRY(lm_need_serve(
                s->cli->ctx, &s->m, &c,
                &(lm_serve_opts){
                    .dtype = kind[k].d, .quant = kind[k].q ? lm_quant_by_name(kind[k].q) : NULL, .kv = LM_BF16, .context = 2048 },
                base, &n));
            lm_cli_say(s->cli, "  serve %-9s %-5s %9s  prompt %7.1f tok/s  writes %6.1f tok/s  %s", shape[i], kind[k].name,
                       lm_cli_bytes(a, (double)n.peak), 1 / n.prefill_s, 1 / n.decode_s, n.peak <= have ? "fits" : "does not fit");
        }
        const lm_trainer_opts t = { .batch = 1,
                                    .seq = 512,
                                    .mm = LM_BF16,
                                    .recompute = 1 + (int)c.n_layer,
                                    .optim = { .name = "adamw", .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1.0 } };
        lm_train_need n;
        LM_TRY(lm_need_train(s->cli->ctx, &s->m, &c, &t, 1, base, &n));
        lm_cli_say(s->cli, "  train %-9s bf16  %9s  %7.1f tok/s, everything recomputed                %s", shape[i],
                   lm_cli_bytes(a, (double)n.peak), (double)n.tokens / n.seconds, n.peak <= have ? "fits" : "does not fit");
    }
    return LM_OK;
}
/* The model that is adapted: the small one that comes with the program; out of the program's own bytes into DIR, so that commands can name it. */
static lm_err start_from(show *s) {
    LM_TRY(lm_cmd_shipped(s->cli, LM_SHIPPED_SMALL, &s->from));
    if (strncmp(s->from, "/proc/", 6)) return LM_OK;
    char *p, *to = lm_arena_printf(s->cli->a, "%s/" LM_SHIPPED_SMALL ".gguf", s->dir); size_t n;
    if (!to) return LM_E_NOMEM;
    LM_TRY(lm_file_read_all(s->cli->ctx, s->from, (size_t)1 << 30, &p, &n));
    lm_err err = lm_file_write_atomic(s->cli->ctx, to, p, n);
    lm_free(s->cli->ctx, p);
    s->from = to;
    return err;
}
static lm_err write_config(show *s, bool bf16) {
    lm_str y = { .ctx = s->cli->ctx };
    char *path = lm_arena_printf(s->cli->a, "%s/run.yaml", s->dir);
    lm_str_puts(&y, "# A shipped model goes on learning, from your text; `loam train --print-config` shows every key.\ndata:\n  path: ");
    lm_str_printf(&y, "%s/train.txt\n  val_path: %s/held-out.txt\n  seq: 256\nmodel:\n  from: \"%s\"\n", s->dir, s->dir, s->from);
    lm_str_printf(&y,
                  "train:\n  batch: 4\n  dtype: %s\n  val_every: 0\n  checkpoint_every: 25\n  log_every: 1\n  seed: 1\n"
                  "optim:\n  name: muon\n  lr: 0.004\n  muon_lr: 0.01\n  warmup: 10\n  min_lr: 0.05\n  muon_weight_decay: 0.01\n",
                  bf16 ? "bf16" : "f32");
    lm_err err = path ? lm_str_err(&y) : LM_E_NOMEM;
    if (!err) err = lm_file_write_atomic(s->cli->ctx, path, y.p, y.n);
    lm_str_free(&y);
    return err;
}
static lm_err hash_of(show *s, const char *run, int64_t step, char hex[33]) {
    char *path = lm_arena_printf(s->cli->a, "%s/checkpoints/step-%08lld/manifest.json", run, (long long)step);
    json_t *j;
    if (!path) return LM_E_NOMEM;
    LM_TRY(lm_json_load(s->cli->ctx, path, 0, &j));
    lm_jv root = lm_json_root(s->cli->ctx, path, j);
    const char *h;
    lm_err err = lm_json_str(&root, "weights_hash", LM_JSON_NEED, NULL, &h, NULL);
    if (!err) snprintf(hex, 33, "%s", h);
    lm_json_free(j);
    return err;
}
static lm_err kill_and_resume(show *s, double *step_s) {
    char one[33], two[33];
    int64_t at;
    title(s, "5. The same bits, killed or not");
    LM_TRY(run_line(s, NULL, "train %s/run.yaml out=%s/straight train.steps=%d train.checkpoint_every=0", s->dir, s->dir, SHORT));
    char *run = lm_arena_printf(s->cli->a, "%s/killed", s->dir), *straight = lm_arena_printf(s->cli->a, "%s/straight", s->dir);
    char *line = lm_arena_printf(s->cli->a, "train %s/run.yaml out=%s/killed train.steps=%d train.checkpoint_every=7", s->dir, s->dir, SHORT);
    if (!run || !straight || !line) return LM_E_NOMEM;
    LM_TRY(killed_run(s, run, line, SHORT / 2, &at));
    lm_cli_say(s->cli, "(SIGKILL at step %lld)", (long long)at);
    LM_TRY(run_line(s, NULL, "train %s/run.yaml out=%s/killed train.steps=%d train.checkpoint_every=7 --resume", s->dir, s->dir, SHORT));
    LM_TRY(hash_of(s, straight, SHORT, one));
    LM_TRY(hash_of(s, run, SHORT, two));
    last_step(s, straight, step_s, NULL);
    lm_cli_say(s->cli, "weights after %d steps, uninterrupted:      %s\nweights after %d steps, killed and resumed: %s", SHORT, one, SHORT, two);
    if (strcmp(one, two)) return lm_fail(s->cli->ctx, LM_E_MISMATCH, "the resumed run's weights %s are not the uninterrupted run's %s", two, one);
    lm_cli_say(s->cli, "equal, to the bit");
    lm_str_printf(&s->json, ", \"hash_uninterrupted\": \"%s\", \"hash_resumed\": \"%s\", \"killed_at\": %lld", one, two, (long long)at);
    return LM_OK;
}
static lm_err perform(show *s) {
    lm_arena *a = s->cli->a;
    lm_str ans = { .ctx = s->cli->ctx };
    lm_err err;
    double step_s = 0, measured = 0, rss = 0;
    int64_t at;
    LM_GOTO(machine(s), done);
    const bool bf16 = s->m.mm_bf16 > 1.3 * s->m.mm_f32;

    title(s, "3. A model that comes with the program writes");
    LM_GOTO(run_line(s, NULL, "run --prompt \"The old house stood at the end of the lane,\" --max-tokens 60 --repetition-penalty 1.15 --seed 1"),
            done);
    LM_GOTO(start_from(s), done);
    title(s, "4. The plan: the small one learns from the text");
    LM_GOTO(write_config(s, bf16), done);
    LM_GOTO(run_line(s, NULL, "plan %s/run.yaml", s->dir), done);
    LM_GOTO(run_line(s, &ans, "plan %s/run.yaml --json", s->dir), done);
    const double plan_step = number(s, &ans, NULL, "step_s"), plan_peak = number(s, &ans, NULL, "peak");
    lm_str_clear(&ans);
    LM_GOTO(kill_and_resume(s, &step_s), done);

    title(s, "6. Before training: as it was shipped");
    LM_GOTO(run_line(s, &ans, "eval \"%s\" --task perplexity --data %s/held-out.txt --window 256 --stride 192 --json", s->from, s->dir), done);
    const double before = number(s, &ans, NULL, "bpb");
    lm_str_clear(&ans);
    lm_cli_say(s->cli, "%.4f bits per byte", before);

    int64_t steps = (int64_t)((double)s->o->seconds / (step_s > 0 ? step_s : 0.1));
    steps = steps < 2 * SHORT ? 2 * SHORT : steps > 20000 ? 20000 : steps;
    title(s, lm_arena_printf(a, "7. Training for about %lld seconds: %lld steps; killed halfway, and resumed", (long long)s->o->seconds,
                             (long long)steps));
    char *run = lm_arena_printf(a, "%s/model", s->dir),
         *line = lm_arena_printf(a, "train %s/run.yaml out=%s/model train.steps=%lld", s->dir, s->dir, (long long)steps);
    if (!run || !line) { err = LM_E_NOMEM; goto done; }
    LM_GOTO(killed_run(s, run, line, steps / 2, &at), done);
    lm_cli_say(s->cli, "(SIGKILL at step %lld)", (long long)at);
    LM_GOTO(run_line(s, NULL, "%s --resume", line), done);
    last_step(s, run, &measured, &rss);

    title(s, "8. After training");
    LM_GOTO(run_line(s, &ans, "eval %s/model --task perplexity --data %s/held-out.txt --window 256 --stride 192 --json", s->dir, s->dir), done);
    const double after = number(s, &ans, NULL, "bpb");
    lm_str_clear(&ans);
    const double xz = xz_bits(s, false), xz_with = xz > 0 ? xz_bits(s, true) : 0;
    lm_cli_say(s->cli, "held-out text (%s): %.4f bits per byte before training, %.4f after", lm_cli_bytes(a, (double)s->held), before, after);
    if (xz > 0)
        lm_cli_say(s->cli, "`xz -9e` on the same bytes: %.4f; with the training text before them: %.4f. %s", xz, xz_with,
                   after < xz && after < xz_with ? "The model predicts them better than both."
                   : after < xz                  ? "The model is between the two."
                                                 : "xz is still better: a minute is short, try --seconds 600.");
    else lm_cli_say(s->cli, "liblzma is not on this machine, so there is no `xz -9e` to compare with");

    title(s, "9. An 8-bit copy");
    LM_GOTO(run_line(s, &ans, "convert %s/model %s/model-q8.gguf --dtype Q8_0 --json", s->dir, s->dir), done);
    const double q8 = number(s, &ans, NULL, "bytes");
    lm_str_clear(&ans);
    LM_GOTO(run_line(s, &ans, "eval %s/model-q8.gguf --task perplexity --data %s/held-out.txt --window 256 --stride 192 --json", s->dir,
                     s->dir),
            done);
    const double q8_bpb = number(s, &ans, NULL, "bpb");
    lm_str_clear(&ans);
    LM_GOTO(run_line(s, &ans, "bench infer --model %s/model --prompt 256 --gen 128 --json", s->dir), done);
    const double f_pre = number(s, &ans, "prefill", "value"), f_dec = number(s, &ans, "decode", "value");
    lm_str_clear(&ans);
    LM_GOTO(run_line(s, &ans, "bench infer --model %s/model-q8.gguf --prompt 256 --gen 128 --json", s->dir), done);
    const double q_pre = number(s, &ans, "prefill", "value"), q_dec = number(s, &ans, "decode", "value");
    lm_str_clear(&ans);
    char *mp = lm_arena_printf(a, "%s/model/model.safetensors", s->dir);
    lm_file *f;
    double full = 0;
    if (mp && !lm_file_open(&f, s->cli->ctx, mp)) { full = (double)lm_file_size(f); lm_file_close(f); }
    lm_cli_say(s->cli,
               "  f32   %9s   prompt %8.0f tok/s   writes %7.0f tok/s   %.4f bits per byte\n  Q8_0  %9s   prompt %8.0f tok/s   writes "
               "%7.0f tok/s   %.4f bits per byte",
               lm_cli_bytes(a, full), f_pre, f_dec, after, lm_cli_bytes(a, q8), q_pre, q_dec, q8_bpb);

    title(s, "10. It writes");
    LM_GOTO(run_line(s, NULL, "run %s/model --prompt \"The \" --max-tokens %lld --seed 7", s->dir, (long long)s->o->prompt_tokens), done);

    title(s, "11. Predicted and measured");
    lm_cli_say(s->cli, "  a training step   %10s predicted   %10s measured (median)\n  peak memory       %10s predicted   %10s measured",
               lm_cli_time(a, plan_step), lm_cli_time(a, measured), lm_cli_bytes(a, plan_peak), lm_cli_bytes(a, rss));
    LM_GOTO(run_line(s, NULL, "report %s/model", s->dir), done);
    lm_str_printf(&s->json,
                  ", \"bpb_before\": %.6g, \"bpb_after\": %.6g, \"bpb_q8\": %.6g, \"xz_bpb\": %.6g, \"xz_with_text_bpb\": %.6g, \"steps\": "
                  "%lld, \"predicted_step_s\": %.6g, \"step_s\": %.6g, \"predicted_peak\": %.0f, "
                  "\"rss\": %.0f, \"bytes\": %.0f, \"bytes_q8\": %.0f, \"decode_tok_s\": %.6g, \"decode_tok_s_q8\": %.6g",
                  before, after, q8_bpb, xz, xz_with, (long long)steps, plan_step, measured, plan_peak, rss, full, q8, f_dec, q_dec);
    lm_cli_say(s->cli, "\nDone in %s. Everything is in %s/. Next:", lm_cli_time(a, lm_now() - s->t0), s->dir);
    const struct { const char *line, *what;
    } next[] = { { "quickstart MY.txt", "the same with your text" },
                 { "train %s/run.yaml data.path=MY.txt out=my-run", "a run of your own; --resume continues it" },
                 { "run %s/model --prompt \"…\"", "write" },
                 { "run PATH/TO/MODEL --prompt \"…\"", "a Hugging Face folder or a GGUF file" },
                 { "plan PATH/TO/MODEL", "will it fit, and how fast will it be?" },
                 { "convert PATH/TO/MODEL small.gguf --dtype Q8_0", "make it smaller" } };
    for (int i = 0; i < LM_COUNT(next); i++) {
        const char *slot = strstr(next[i].line, "%s");
        char *typed = slot ? lm_arena_printf(a, "%s %.*s%s%s", s->cli->program, (int)(slot - next[i].line), next[i].line, s->dir, slot + 2)
                           : lm_arena_printf(a, "%s %s", s->cli->program, next[i].line);
        int pad = typed ? 64 - (int)strlen(typed) : 0;
        if (typed && strstr(typed, "…")) pad += 2;                                     /* three bytes, one column */
        if (typed) lm_cli_say(s->cli, "  %s%*s%s", typed, pad > 2 ? pad : 2, "", next[i].what);
    }
done:
    lm_str_free(&ans);
    return err;
}
static lm_err folder(show *s) {
    char *mark = lm_arena_printf(s->cli->a, "%s/.quickstart", s->dir);
    if (!mark) return LM_E_NOMEM;
    if (lm_exists(s->dir)) {
        if (!lm_exists(mark))
            return lm_fail(s->cli->ctx, LM_E_CONFIG,
                           "%s is there already and is not from an earlier quickstart; choose another folder with --out", s->dir);
        LM_TRY(lm_dir_remove(s->cli->ctx, s->dir));
    }
    LM_TRY(lm_dir_make(s->cli->ctx, s->dir));
    return lm_file_write_atomic(s->cli->ctx, mark, "", 0);
}
static lm_err run(lm_cli *cli) {
    const opts *o = cli->opts;
    static char exe[4096];
    if (cli->pos.n > 1) return lm_cli_need(cli, 1, "one text, or none for the program's own");
    for (const char *p = o->out; *p; p++)
        if (*p == ' ' || *p == '"')
            return lm_fail(cli->ctx, LM_E_CONFIG, "--out \"%s\": the folder's name is used in command lines here, so no blanks or quotes",
                           o->out);
    const ssize_t k = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (k <= 0) return lm_fail(cli->ctx, LM_E_UNSUPPORTED, "this program's own file cannot be found (/proc/self/exe)");
    exe[k] = 0;
    show s = { .cli = cli, .o = o, .exe = exe, .dir = o->out, .t0 = lm_now(), .json = { .ctx = cli->ctx } };
    if (o->common.threads) s.threads = lm_arena_printf(cli->a, "%lld", (long long)o->common.threads);
    if (cli->pos.n && !lm_exists(cli->pos.v[0])) return lm_fail(cli->ctx, LM_E_NOTFOUND, "%s: there is no such file", cli->pos.v[0]);
    LM_TRY(folder(&s));
    LM_TRY(prepare_text(&s, cli->pos.n ? cli->pos.v[0] : NULL));
    lm_cli_say(cli, "loam quickstart: %s; %s to learn from, %s held out",
               cli->pos.n ? cli->pos.v[0] : "the program's own sources and documentation", lm_cli_bytes(cli->a, (double)s.text),
               lm_cli_bytes(cli->a, (double)s.held));
    lm_str_puts(&s.json, "{\"out\": "); lm_str_json(&s.json, o->out, strlen(o->out));
    lm_err err = perform(&s);
    lm_str_printf(&s.json, ", \"seconds\": %.1f}", lm_now() - s.t0);
    if (!err) err = lm_cli_result(cli, &s.json);
    lm_str_free(&s.json);
    return err;
}
const lm_cmd lm_cmd_quickstart = {
    .name = "quickstart",
    .summary = "adapt a shipped model to a text, here and now, and see everything once",
    .usage = "[TEXT] [--seconds N] [--out DIR]",
    .details =
        "Measures this machine, plans, lets a shipped model write, trains the small one further on TEXT (default: the program's own "
        "sources and\n"
        "documentation), kills and resumes itself, compares with xz, makes an 8-bit copy, writes again. A few minutes; every command is "
        "printed as you would type it.",
    .opts = rows,
    .opts_bytes = sizeof(opts),
    .run = run
};
