/* chat.c — `loam chat`: a conversation at the terminal, or line by line from a program. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "chat/chat.h"
#include "cmd/cmd_common.h"
#include "cmd/cmd_line.h"
#include "cmd/cmd_shipped.h"
#include "cmd/cmd_text.h"

enum { USUAL_CONTEXT = 8192 };
typedef struct {
    lm_cli_common common; const char *system, *template, *session, *cache, *dtype, *kv, *device, *load, *history, *speculate; int64_t max_tokens, context, memory, seed,
        top_k, window;
    double temperature, top_p, min_p, repetition, presence, frequency; lm_strlist stop, set; bool reasoning, stats;
} opts;
static const lm_opt rows[] = {
    LM_CLI_COMMON(opts),
    { LM_OPT_STR, "system", offsetof(opts, system), NULL, 0, 0, NULL, "TEXT", "the system prompt" },
    { LM_OPT_STR, "template", offsetof(opts, template), NULL, 0, 0, NULL, "FILE", "a chat template (Jinja) in place of the model's own" },
    { LM_OPT_STRLIST, "set", offsetof(opts, set), NULL, 0, 0, NULL, "NAME=JSON", "a variable of the template, such as enable_thinking=false (may be repeated)" },
    { LM_OPT_STR, "session", offsetof(opts, session), NULL, 0, 0, NULL, "FILE", "go on with the conversation in FILE if it is there; it is saved at the end" },
    { LM_OPT_STR, "prompt-cache", offsetof(opts, cache), NULL, 0, 0, NULL, "FILE",
        "what was computed, kept between runs: a conversation that begins alike starts at once" },
    { LM_OPT_INT, "max-tokens", offsetof(opts, max_tokens), "0", 0, 1 << 24, NULL, "N", "tokens of an answer at most; 0 = what fits" },
    { LM_OPT_INT, "context", offsetof(opts, context), "0", 0, 1 << 28, NULL, "N", "tokens of context; 0 = what the model states, at most 8192" },
    { LM_OPT_STR, "dtype", offsetof(opts, dtype), "auto", 0, 0, NULL, "T", "weights: auto (as stored), f32, bf16, or a quantized format such as Q8_0" },
    { LM_OPT_STR, "device", offsetof(opts, device), "cpu", 0, 0, NULL, "NAME", "where it runs: cpu, cuda or cuda:N" },
    { LM_OPT_STR, "load", offsetof(opts, load), "read", 0, 0, NULL, "HOW", "weights: read into memory, or map: used where they lie in the file, or read from it as they are used where they do not fit" },
    { LM_OPT_BYTES, "memory-budget", offsetof(opts, memory), "0", 0, 0, NULL, "BYTES", "memory that the model may take; 0 = what is available now" },
    { LM_OPT_STR, "kv", offsetof(opts, kv), "f32", 0, 0, NULL, "T", "key-value pages: f32, bf16, f16, q8_0 or q4_0" },
    { LM_OPT_FLOAT, "temperature", offsetof(opts, temperature), "0.8", 0, 100, NULL, "X", "0 = always the most likely token" },
    { LM_OPT_INT, "top-k", offsetof(opts, top_k), "0", 0, 1 << 28, NULL, "N", "only the N most likely; 0 = off" },
    { LM_OPT_FLOAT, "top-p", offsetof(opts, top_p), "0.95", 0, 1, NULL, "X", "only the most likely with this sum; 1 = off" },
    { LM_OPT_FLOAT, "min-p", offsetof(opts, min_p), "0.05", 0, 1, NULL, "X", "only tokens this share as likely as the best; 0 = off" },
    { LM_OPT_FLOAT, "repetition-penalty", offsetof(opts, repetition), "1", 0.01, 100, NULL, "X", "divides the logits of tokens seen; 1 = off" },
    { LM_OPT_FLOAT, "presence-penalty", offsetof(opts, presence), "0", -100, 100, NULL, "X", "subtracted from tokens seen" },
    { LM_OPT_FLOAT, "frequency-penalty", offsetof(opts, frequency), "0", -100, 100, NULL, "X", "subtracted for each time seen" },
    { LM_OPT_INT, "penalty-window", offsetof(opts, window), "0", 0, 1 << 28, NULL, "N", "tokens the penalties look back at; 0 = all" },
    { LM_OPT_INT, "seed", offsetof(opts, seed), "1", 0, 1ll << 62, NULL, "N", "decides every draw" },
    { LM_OPT_STRLIST, "stop", offsetof(opts, stop), NULL, 0, 0, NULL, "TEXT", "end an answer before this text (may be repeated)" },
    { LM_OPT_BOOL, "reasoning", offsetof(opts, reasoning), "true", 0, 0, NULL, NULL, "show what a model writes between <think> and </think>" },
    { LM_OPT_STR, "history", offsetof(opts, history), NULL, 0, 0, NULL, "FILE",
        "lines typed before; default: loam/chat-history in XDG_STATE_HOME or ~/.local/state, none = keep none" },
    { LM_OPT_STR, "speculate", offsetof(opts, speculate), NULL, 0, 0, NULL, "HOW",
      "lookup: try what followed the last tokens when they stood in the conversation before; the same tokens, sooner where texts repeat" },
    { LM_OPT_BOOL, "stats", offsetof(opts, stats), "false", 0, 0, NULL, NULL, "print rates after each answer" },
    LM_OPT_ROW_END
};

typedef struct chat {
    lm_cli *cli; opts o; loam_model *m; lm_chat_format *f; lm_chat *c; lm_line *line;
    lm_chat_turn last; int64_t turns, draws; bool answered, failed, end, tty, dim;       /* dim: reasoning is being written */
    lm_str event[2];                                                      /* --json: the answer's parts */
} chat;
static volatile int interrupted;
static void on_interrupt(int sig) { (void)sig; interrupted = 1; }

/* ---- output ---- */
/* A terminal obeys control characters, and a model may write any: they are shown. */
static void show(const chat *c, const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const unsigned char x = (unsigned char)p[i];
        if (c->tty && ((x < 32 && x != '\n' && x != '\t') || x == 127)) { putchar('^'); putchar(x ^ 64); }
        else if (c->tty && x == 0xc2 && i + 1 < n && (unsigned char)p[i + 1] < 0xa0) { printf("\\x%02x", (unsigned char)p[i + 1]); i++; }
        else putchar(x);
    }
}
static void say(chat *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(chat *c, const char *fmt, ...) {                          /* what is not the model's: dim on a terminal, on stderr otherwise */
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    char *t = n < 0 ? NULL : lm_alloc(c->cli->ctx, LM_MEM_MISC, (size_t)n + 1);
    if (t) vsnprintf(t, (size_t)n + 1, fmt, again);
    va_end(ap); va_end(again);
    if (!t) return;
    if (c->cli->json) {
        lm_str s = { .ctx = c->cli->ctx };
        lm_str_puts(&s, "{\"event\": \"note\", \"text\": "); lm_str_json(&s, t, (size_t)n); lm_str_puts(&s, "}\n");
        if (!s.bad) { fwrite(s.p, 1, s.n, stdout); fflush(stdout); }
        lm_str_free(&s);
    } else if (c->tty) {
        fputs("\033[2m", stdout); show(c, t, (size_t)n); fputs("\033[0m\n", stdout);
        fflush(stdout);
    } else if (!c->cli->quiet) fprintf(stderr, "%s\n", t);
    lm_free(c->cli->ctx, t);
}
static void fail(chat *c, lm_err e) {                                     /* an error that the conversation goes on after */
    const char *why = *lm_error(c->cli->ctx) ? lm_error(c->cli->ctx) : lm_err_text(e);
    if (!c->cli->json) { fprintf(stderr, "%s%s%s\n", c->tty ? "\033[31m" : "", why, c->tty ? "\033[0m" : ""); return; }
    lm_str s = { .ctx = c->cli->ctx };
    lm_str_puts(&s, "{\"event\": \"error\", \"code\": "); lm_str_json(&s, lm_err_name(e), strlen(lm_err_name(e)));
    lm_str_puts(&s, ", \"message\": "); lm_str_json(&s, why, strlen(why)); lm_str_puts(&s, "}\n");
    if (!s.bad) { fwrite(s.p, 1, s.n, stdout); fflush(stdout); }
    lm_str_free(&s);
}
static int on_text(void *ud, lm_chat_part part, const char *p, size_t n) {
    chat *c = ud;
    const bool thinks = part == LM_CHAT_REASONING;
    if (c->cli->json) { lm_str_add(&c->event[part], p, n); return 0; }
    if (thinks && !c->o.reasoning) return 0;
    if (thinks != c->dim) {
        if (c->tty) fputs(thinks ? "\033[2m" : "\033[0m\n\n", stdout);
        else fputs(thinks ? "[reasoning]\n" : "\n[answer]\n", stdout);
        c->dim = thinks;
    }
    show(c, p, n);
    return fflush(stdout) || ferror(stdout);                              /* nobody reads any more: no reason to go on */
}
static void on_dropped(void *ud, int64_t n, const json_t *first) {
    const char *t = json_string_value(json_object_get(first, "content"));
    int k = t ? (int)strcspn(t, "\n") : 0;
    const bool cut = k > 60;
    if (cut) for (k = 60; k && (t[k] & 0xc0) == 0x80;) k--;
    say(ud, "(the context is full: %lld message%s left out of what the model sees, beginning with \"%.*s%s\")", (long long)n,
        n == 1 ? " is" : "s are", k, t ? t : "", cut ? "…" : "");
}
static void on_reading(void *ud, int64_t done, int64_t all) {
    chat *c = ud;
    lm_cli_progress(c->cli, "reading %lld of %lld tokens", (long long)done, (long long)all);
    if (done + 256 >= all) lm_cli_progress_end(c->cli);
}

/* ---- turns ---- */
static const char *line_of_stats(chat *c) {
    const lm_chat_turn *t = &c->last;
    const char *s = lm_arena_printf(c->cli->a, "%lld tokens of prompt, %lld of them reused, the rest in %s · %lld tokens at %.1f tok/s", (long long)t->prompt,
        (long long)t->reused,
                                    lm_cli_time(c->cli->a, t->prefill_s), (long long)t->tokens, t->decode_s > 0 ? (double)(t->tokens - 1) / t->decode_s : 0);
    if (s && c->o.speculate) s = lm_arena_printf(c->cli->a, "%s · %lld proposed, %lld kept", s, (long long)t->drafted, (long long)t->kept);
    return s ? s : "";
}
static void answer_event(chat *c) {
    lm_str s = { .ctx = c->cli->ctx };
    const lm_chat_turn *t = &c->last;
    const lm_str *a = &c->event[LM_CHAT_ANSWER], *r = &c->event[LM_CHAT_REASONING];
    lm_str_puts(&s, "{\"event\": \"answer\", \"text\": "); lm_str_json(&s, a->n ? a->p : "", a->n);
    if (r->n) { lm_str_puts(&s, ", \"reasoning\": "); lm_str_json(&s, r->p, r->n); }
    lm_str_printf(&s, ", \"finish_reason\": \"%s\", \"prompt_tokens\": %lld, \"reused_tokens\": %lld, \"tokens\": %lld, \"left_out\": %lld, \"prefill_s\": %.4f, \"decode_s\": %.4f}\n",
                  lm_stop_name(t->why), (long long)t->prompt, (long long)t->reused, (long long)t->tokens, (long long)t->dropped, t->prefill_s, t->decode_s);
    if (!s.bad) { fwrite(s.p, 1, s.n, stdout); fflush(stdout); c->cli->answered = true; }
    lm_str_free(&s);
}
static lm_err answer(chat *c) {
    const opts *o = &c->o;
    const lm_chat_opts co = { .max_tokens = o->max_tokens,
                              .lookup = o->speculate != NULL,
                              .sample = { .temperature = o->temperature, .top_p = o->top_p, .min_p = o->min_p, .repetition = o->repetition, .presence = o->presence,
                                          .frequency = o->frequency, .top_k = o->top_k, .penalty_window = o->window, .seed = (uint64_t)(o->seed + c->draws++) },
                              .stop = o->stop.v,
                              .n_stop = o->stop.n,
                              .text = on_text,
                              .reading = c->tty ? on_reading : NULL,
                              .dropped = on_dropped,
                              .ud = c,
                              .cancel = &interrupted };
    lm_str_clear(&c->event[0]); lm_str_clear(&c->event[1]);
    c->dim = c->failed = false;
    interrupted = 0;
    const lm_err err = lm_chat_answer(c->c, &co, &c->last);
    if (c->tty) fputs("\033[0m", stdout);
    if (err == LM_E_CANCELLED) {
        lm_cli_progress_end(c->cli);
        say(c, "(interrupted before the answer began; /retry answers, /undo takes the message back)");
        return LM_OK;
    }
    if (err) { c->failed = true; if (!c->cli->json) putchar('\n'); fail(c, err); return err == LM_E_NOMEM || err == LM_E_DEVICE ? err : LM_OK; }
    c->turns++; c->answered = true;
    if (c->cli->json) answer_event(c);
    else {
        putchar('\n');
        if (c->last.why == LM_STOP_CANCELLED) say(c, "(interrupted)");
        else if (c->last.why == LM_STOP_LENGTH) say(c, "(the answer ends here: %s)", o->max_tokens &&
            c->last.tokens >= o->max_tokens ? "--max-tokens is reached" : "the context is full");
        if (o->stats) say(c, "(%s)", line_of_stats(c));
        putchar('\n');
        fflush(stdout);
    }
    interrupted = 0;
    return LM_OK;
}

/* ---- what begins with "/" ---- */
typedef struct { const char *name, *args, *help; lm_err (*fn)(chat *c, const char *arg); } verb;
static lm_err set_one(chat *c, const char *name, const char *value) {     /* one of this program's settings, or a variable of the template */
    static const char *const mine[] = { "temperature", "top-k", "top-p", "min-p", "repetition-penalty", "presence-penalty", "frequency-penalty",
        "penalty-window", "seed", "max-tokens",
                                        "reasoning", "stats" };
    for (int i = 0; i < LM_COUNT(mine); i++)
        if (!strcmp(mine[i], name)) return lm_opt_set(c->cli->ctx, c->cli->a, rows, &c->o, name, value);
    json_t *v;
    LM_TRY(lm_json_parse(c->cli->ctx, name, value, strlen(value), 0, &v));
    return lm_chat_set(c->c, name, v);
}
static lm_err v_help(chat *c, const char *arg);
static lm_err v_clear(chat *c, const char *arg) {
    (void)arg; lm_chat_clear(c->c);
    say(c, "(a new conversation%s)", json_array_size(lm_chat_messages(c->c)) ? "; the system prompt stays" : "");
    return LM_OK;
}
static lm_err v_system(chat *c, const char *arg) {
    if (*arg) {
        LM_TRY(lm_chat_system(c->c, !strcmp(arg, "none") ? "" : arg, !strcmp(arg, "none") ? 0 : strlen(arg)));
        say(c, "(the system prompt is set)"); return LM_OK;
    }
    const json_t *m = json_array_get(lm_chat_messages(c->c), 0);
    const char *role = json_string_value(json_object_get(m, "role"));
    say(c, "%s", role && !strcmp(role, "system") ? json_string_value(json_object_get(m, "content")) : "(there is no system prompt)");
    return LM_OK;
}
static lm_err v_undo(chat *c, const char *arg) {
    (void)arg;
    say(c, lm_chat_undo(c->c, false) ? "(the last message and its answer are gone)" : "(there is nothing to take back)");
    return LM_OK;
}
static lm_err v_retry(chat *c, const char *arg) {
    (void)arg;
    if (lm_chat_undo(c->c, true)) return answer(c);
    say(c, "(there is nothing to answer)");
    return LM_OK;
}
static lm_err need_file(chat *c, const char **arg, const char *what) {
    if (!**arg) *arg = c->o.session ? c->o.session : "";
    return **arg ? LM_OK : lm_fail(c->cli->ctx, LM_E_CONFIG, "/%s wants a file", what);
}
static lm_err v_save(chat *c, const char *arg) {
    LM_TRY(need_file(c, &arg, "save")); LM_TRY(lm_chat_save(c->c, arg));
    say(c, "(saved in %s and %s.kv)", arg, arg); return LM_OK;
}
static lm_err v_load(chat *c, const char *arg) {
    bool warm;
    LM_TRY(need_file(c, &arg, "load"));
    LM_TRY(lm_chat_load(c->c, arg, &warm));
    say(c, "(%zu messages from %s%s)", json_array_size(lm_chat_messages(c->c)), arg, warm ? "" : "; what was computed did not come with them");
    return LM_OK;
}
static lm_err v_stats(chat *c, const char *arg) {
    (void)arg;
    int64_t n = 0;
    LM_TRY(lm_chat_count(c->c, &n));
    say(c, "%zu messages, %lld tokens of %lld of context · %s of key-value pages", json_array_size(lm_chat_messages(c->c)), (long long)n,
        (long long)lm_engine_context(c->m->e),
        lm_cli_bytes(c->cli->a, (double)lm_engine_kv_bytes(c->m->e)));
    if (c->answered) say(c, "last answer: %s", line_of_stats(c));
    return LM_OK;
}
static lm_err v_messages(chat *c, const char *arg) {
    (void)arg;
    const json_t *all = lm_chat_messages(c->c);
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *m = json_array_get(all, i);
        if (c->cli->json) { char *s = json_dumps(m, JSON_COMPACT); printf("{\"event\": \"message\", \"message\": %s}\n", s ? s : "null"); free(s); continue; }
        printf("%s: ", json_string_value(json_object_get(m, "role")));
        const char *t = json_string_value(json_object_get(m, "content"));
        show(c, t ? t : "", t ? strlen(t) : 0);
        putchar('\n');
    }
    fflush(stdout);
    return LM_OK;
}
static lm_err v_set(chat *c, const char *arg) {
    const char *sp = strpbrk(arg, " =");
    if (!*arg) {
        say(c, "temperature %g · top-k %lld · top-p %g · min-p %g · repetition-penalty %g · seed %lld · max-tokens %lld · reasoning %s", c->o.temperature,
            (long long)c->o.top_k, c->o.top_p,
            c->o.min_p, c->o.repetition, (long long)c->o.seed, (long long)c->o.max_tokens, c->o.reasoning ? "true" : "false");
        return LM_OK;
    }
    if (!sp || !sp[1]) return lm_fail(c->cli->ctx, LM_E_CONFIG,
        "/set wants NAME VALUE: one of the settings that /set shows, or a variable of the template with a JSON value");
    char *name = lm_arena_printf(c->cli->a, "%.*s", (int)(sp - arg), arg);
    if (!name) return LM_E_NOMEM;
    LM_TRY(set_one(c, name, sp + 1));
    say(c, "(%s is %s)", name, sp + 1);
    return LM_OK;
}
static lm_err v_quit(chat *c, const char *arg) { (void)arg; c->end = true; return LM_OK; }
static const verb verbs[] = {
    { "help", "", "this list", v_help },
    { "clear", "", "forget the conversation, keep the system prompt", v_clear },
    { "system", "[TEXT]", "show the system prompt, or set it (none: remove it)", v_system },
    { "undo", "", "take back the last message and its answer", v_undo },
    { "retry", "", "another answer to the last message", v_retry },
    { "messages", "", "the conversation so far", v_messages },
    { "save", "[FILE]", "save the conversation and what was computed", v_save },
    { "load", "[FILE]", "go on with a saved conversation", v_load },
    { "stats", "", "tokens, memory, rates", v_stats },
    { "set", "[NAME VALUE]", "show settings, or change one, or a variable of the template", v_set },
    { "quit", "", "end (as ^D does)", v_quit },
};
static lm_err v_help(chat *c, const char *arg) {
    (void)arg;
    for (int i = 0; i < LM_COUNT(verbs); i++) say(c, "/%s %-*s %s", verbs[i].name, 21 - (int)strlen(verbs[i].name), verbs[i].args, verbs[i].help);
    if (c->tty) say(c, "A line that ends with \\ goes on in the next; ^C stops an answer; // begins a message with /.");
    return LM_OK;
}
static lm_err command(chat *c, const char *line) {
    const size_t n = strcspn(line, " ");
    const char *arg = line + n, *names[LM_COUNT(verbs)];
    while (*arg == ' ') arg++;
    for (int i = 0; i < LM_COUNT(verbs); i++) {
        names[i] = verbs[i].name;
        if (strlen(verbs[i].name) == n && !memcmp(verbs[i].name, line, n)) return verbs[i].fn(c, arg);
    }
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)(n < 60 ? n : 60), line);
    const char *near = lm_nearest(word, names, LM_COUNT(verbs));
    return lm_fail(c->cli->ctx, LM_E_CONFIG, "there is no /%s%s%s", word, near ? "; did you mean /" : "; /help lists them", near ? near : "");
}

/* ---- input ---- */
/* With --json a line that begins with { or " is JSON: {"content": TEXT} (and "role"), or TEXT. */
static lm_err input(chat *c, const lm_str *line, bool *ask) {
    const char *p = line->n ? line->p : "";
    *ask = false;
    if (*p == '/' && p[1] != '/') return command(c, p + 1);
    if (!c->cli->json || (*p != '{' && *p != '"')) {
        size_t k = 0;
        while (k < line->n && (p[k] == ' ' || p[k] == '\t')) k++;
        if (k == line->n) return LM_OK;                                   /* nothing was said */
        *ask = true;
        return lm_chat_say(c->c, "user", p + (*p == '/'), line->n - (*p == '/'));
    }
    json_t *v;
    LM_TRY(lm_json_parse(c->cli->ctx, "input", p, line->n, 0, &v));
    const lm_jv root = lm_json_root(c->cli->ctx, "input", v);
    const char *text, *role = "user"; size_t n;
    lm_err err = json_is_string(v) ? lm_json_as_str(&root, &text, &n) : lm_json_str(&root, "content", LM_JSON_NEED, NULL, &text, &n);
    if (!err && !json_is_string(v)) err = lm_json_str(&root, "role", LM_JSON_OPT, "user", &role, NULL);
    if (!err) err = lm_chat_say(c->c, role, text, n);
    *ask = !err && strcmp(role, "assistant") && strcmp(role, "system");
    lm_json_free(v);
    return err;
}
static lm_err talk(chat *c) {
    lm_str line = { .ctx = c->cli->ctx };
    lm_err err = LM_OK;
    while (!c->end && !*c->cli->stop && !err) {
        lm_line_how how = LM_LINE_END;
        bool ask = false;
        interrupted = 0;
        err = lm_line_read(c->line, "> ", &line, &how);
        if (err || how == LM_LINE_END) break;
        if (how == LM_LINE_DROPPED) continue;
        const size_t before = json_array_size(lm_chat_messages(c->c));
        const lm_err e = input(c, &line, &ask);
        if (e) { fail(c, e); if (e == LM_E_NOMEM) err = e; }
        else if (ask) {
            err = answer(c);
            if (c->failed) { lm_chat_keep(c->c, before); say(c, "(the message is taken back)"); }
        }
        if (ferror(stdout)) break;
    }
    lm_str_free(&line);
    return err;
}

/* ---- beginning and end ---- */
static lm_err context_of(lm_cli *cli, const char *path, int64_t *context) {
    lm_weights *w;
    LM_TRY(lm_weights_open(&w, cli->ctx, path));
    const int64_t most = lm_weights_cfg(w)->max_pos;
    lm_weights_close(w);
    if (!*context) *context = lm_min64(most, USUAL_CONTEXT);
    return LM_OK;
}
static lm_err format_of(chat *c, const char *path) {
    char *text = NULL; size_t n = 0;
    if (c->o.template) LM_TRY(lm_file_read_all(c->cli->ctx, c->o.template, LM_JINJA_MAX_TEMPLATE, &text, &n));
    const lm_err err = lm_chat_format_new(&c->f, c->cli->ctx, c->m->tok.tok, c->o.template ? c->o.template : path, text, n);
    lm_free(c->cli->ctx, text);
    if (err == LM_E_UNSUPPORTED && !c->o.template)
        return lm_fail(c->cli->ctx, err,
            "%s has no chat template, so how it is spoken to is not known; --template FILE gives one, and `loam run` lets it go on with plain text", path);
    return err;
}
static lm_err history_of(chat *c, const char **path) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    *path = c->o.history;
    if (*path && !strcmp(*path, "none")) *path = NULL;
    else if (!*path && state && *state) *path = lm_arena_printf(c->cli->a, "%s/loam/chat-history", state);
    else if (!*path && home && *home) *path = lm_arena_printf(c->cli->a, "%s/.local/state/loam/chat-history", home);
    return LM_OK;
}
static lm_err start(chat *c, const char *path) {
    const opts *o = &c->o;
    const char *names[LM_COUNT(verbs) + 1], *history;
    const char **kept = lm_arena_alloc(c->cli->a, sizeof names);
    if (!kept) return LM_E_NOMEM;
    for (int i = 0; i < LM_COUNT(verbs); i++) if (!(kept[i] = lm_arena_printf(c->cli->a, "/%s", verbs[i].name))) return LM_E_NOMEM;
    LM_TRY(history_of(c, &history));
    LM_TRY(lm_line_new(&c->line, c->cli, kept, history));
    c->tty = lm_line_is_terminal(c->line) && !c->cli->json;
    int64_t context = o->context;
    LM_TRY(context_of(c->cli, path, &context));
    loam_context ctx = { .ctx = c->cli->ctx };
    if (c->tty) lm_cli_progress(c->cli, "loading %s", path);
    LM_TRY((lm_err)loam_model_open(&c->m, &ctx, path,
                                   &(loam_model_options){ .size = sizeof(loam_model_options), .dtype = o->dtype, .kv = o->kv, .load = o->load, .memory = o->memory,
                                       .context = context, .sessions = 1,
                                                          .device = o->device }));
    lm_cli_progress_end(c->cli);
    LM_TRY(format_of(c, path));
    LM_TRY(lm_chat_new(&c->c, c->m->e, c->m->tok.tok, c->f));
    for (int i = 0; i < o->set.n; i++) {
        const char *eq = strchr(o->set.v[i], '=');
        char *name = eq ? lm_arena_printf(c->cli->a, "%.*s", (int)(eq - o->set.v[i]), o->set.v[i]) : NULL;
        if (!name) return lm_fail(c->cli->ctx, LM_E_CONFIG, "--set %s: wanted NAME=JSON", o->set.v[i]);
        json_t *v;
        LM_TRY(lm_json_parse(c->cli->ctx, o->set.v[i], eq + 1, strlen(eq + 1), 0, &v));
        LM_TRY(lm_chat_set(c->c, name, v));
    }
    if (o->session && lm_exists(o->session)) LM_TRY(v_load(c, o->session));
    if (o->cache && lm_exists(o->cache)) LM_TRY(lm_chat_cache_load(c->c, o->cache));
    if (o->system) LM_TRY(lm_chat_system(c->c, o->system, strlen(o->system)));
    if (c->tty) say(c, "%s · context %lld · /help tells what else there is", path, (long long)context);
    return LM_OK;
}
static lm_err run(lm_cli *cli) {
    chat c = { .cli = cli, .o = *(const opts *)cli->opts, .event = { { .ctx = cli->ctx }, { .ctx = cli->ctx } } };
    const char *path;
    if (cli->pos.n > 1) return lm_cli_need(cli, 1, "one model: a Hugging Face folder or a GGUF file");
    if (c.o.speculate && strcmp(c.o.speculate, "lookup")) return lm_fail(cli->ctx, LM_E_CONFIG, "--speculate %s: lookup is known", c.o.speculate);
    LM_TRY(lm_cmd_model_path(cli, cli->pos.n ? cli->pos.v[0] : NULL, &path));
    struct sigaction sa = { .sa_handler = on_interrupt }, was;
    lm_err err = start(&c, path);
    if (!err) {
        sigaction(SIGINT, &sa, &was);
        err = talk(&c);
        if (!err && c.o.session) err = lm_chat_save(c.c, c.o.session);
        if (!err && c.o.cache) err = lm_chat_cache_save(c.c, c.o.cache);
        sigaction(SIGINT, &was, NULL);
    }
    lm_line_free(c.line);
    lm_chat_free(c.c); lm_chat_format_free(c.f); loam_model_free(c.m);
    lm_str_free(&c.event[0]); lm_str_free(&c.event[1]);
    if (!err && *cli->stop) err = lm_cli_stop_err(cli);
    return err;
}
const lm_cmd lm_cmd_chat = { .name = "chat",
                             .summary = "talk with a model",
                             .usage = "MODEL [--system TEXT] [options]",
                             .details = "MODEL is a Hugging Face folder or a GGUF file that comes with a chat template; without one it is refused, since "
                                        "how it is spoken to is then not known (--template FILE gives one). On a terminal: line editing, history, ^C "
                                        "stops an answer, /help lists what else can be said. From a pipe each line is a message. With --json what "
                                        "comes back is one object a line: answer, note, error, message.",
                             .opts = rows,
                             .opts_bytes = sizeof(opts),
                             .run = run };
