/* main.c — walks the table of commands. It names none. */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cmd/cmd_common.h"
#include "device/cpu.h"
#include "format/yaml.h"

#define CMD(n) extern const lm_cmd lm_cmd_##n;
#include "cmd_list.inc"
#undef CMD
const lm_cmd *const lm_cmds[] = {
#define CMD(n) &lm_cmd_##n,
#include "cmd_list.inc"
#undef CMD
    NULL };
const lm_cmd *lm_cmd_by_name(const char *name) {
    for (int i = 0; lm_cmds[i]; i++) if (!strcmp(lm_cmds[i]->name, name)) return lm_cmds[i];
    return NULL;
}

static volatile int stop;
static void on_signal(int sig) {
    if (stop) { signal(sig, SIG_DFL); raise(sig); }                 /* the second time means it */
    stop = 1;
}
static void on_log(void *ud, lm_level level, const char *room, const char *msg) {
    const lm_cli *cli = ud;
    if (level > LM_LOG_WARN || cli->quiet) return;
    fprintf(stderr, "%s%s: %s\n", cli->tty ? "\r\033[K" : "", room, msg);
}
static int exit_code(lm_err e) {
    switch (e) {
        case LM_OK: return 0;
        case LM_E_CONFIG: case LM_E_RANGE: case LM_E_NOTFOUND: return 2;
        case LM_E_FORMAT: case LM_E_MISMATCH: case LM_E_DATA: case LM_E_SHAPE: case LM_E_UNSUPPORTED: return 3;
        case LM_E_NOMEM: case LM_E_NOSPACE: return 4;
        case LM_E_CANCELLED: return 130;
        default: return 1;
    }
}
static void usage(FILE *to) {
    fprintf(to, "loam %s: train, adapt, shrink and serve language models\n\nusage: loam COMMAND [options]\n\n", LM_VERSION);
    for (int i = 0; lm_cmds[i]; i++) fprintf(to, "  %-12s %s\n", lm_cmds[i]->name, lm_cmds[i]->summary);
    fprintf(to, "\n`loam COMMAND --help` tells more.\n");
}
static void help(const lm_cmd *c) {
    lm_str s = {0};
    printf("loam %s — %s\n\nusage: loam %s %s\n", c->name, c->summary, c->name, c->usage);
    if (c->details) printf("\n%s\n", c->details);
    lm_opt_help(&s, c->opts);
    printf("\n%s", s.p ? s.p : "");
    lm_str_free(&s);
    if (!c->keys) return;
    printf("\nkeys of CONFIG.yaml, and key=value:\n");
    for (const lm_opt *o = c->keys; o->type != LM_OPT_END; o++) printf("  %-24s %s (%s)\n", o->name, o->help, o->def && *o->def ? o->def : "none");
}
static void rows_json(lm_str *s, const lm_opt *rows) {
    for (const lm_opt *o = rows; o->type != LM_OPT_END; o++) {
        lm_str_puts(s, o == rows ? "\n  {\"name\": " : ",\n  {\"name\": "); lm_str_json(s, o->name, strlen(o->name));
        lm_str_puts(s, ", \"default\": "); lm_str_json(s, o->def ? o->def : "", o->def ? strlen(o->def) : 0);
        lm_str_puts(s, ", \"arg\": "); lm_str_json(s, o->arg ? o->arg : "", o->arg ? strlen(o->arg) : 0);
        lm_str_puts(s, ", \"help\": "); lm_str_json(s, o->help, strlen(o->help)); lm_str_putc(s, '}');
    }
}
/* `loam --help --json`: the whole table, for the man page, completion and docs. */
static void help_json(void) {
    lm_str s = {0};
    lm_str_puts(&s, "{\"version\": \"" LM_VERSION "\", \"commands\": [");
    for (int i = 0; lm_cmds[i]; i++) {
        const lm_cmd *c = lm_cmds[i];
        lm_str_puts(&s, i ? ",\n {\"name\": " : "\n {\"name\": "); lm_str_json(&s, c->name, strlen(c->name));
        lm_str_puts(&s, ", \"summary\": "); lm_str_json(&s, c->summary, strlen(c->summary));
        lm_str_puts(&s, ", \"usage\": "); lm_str_json(&s, c->usage, strlen(c->usage));
        lm_str_puts(&s, ", \"details\": "); lm_str_json(&s, c->details ? c->details : "", c->details ? strlen(c->details) : 0);
        lm_str_puts(&s, ", \"options\": [");
        rows_json(&s, c->opts);
        if (c->keys) { lm_str_puts(&s, "], \"keys\": ["); rows_json(&s, c->keys); }
        lm_str_puts(&s, "]}");
    }
    lm_str_puts(&s, "]}\n");
    fputs(s.p ? s.p : "", stdout);
    lm_str_free(&s);
}
static int report(lm_cli *cli, const char *name, const char *why, lm_err e) {
    lm_cli_progress_end(cli);
    fprintf(stderr, *name ? "loam %s: %s\n" : "loam%s: %s\n", name, why);
    if (cli->json && !cli->answered) {
        lm_str s = {0};
        lm_str_puts(&s, "{\"error\": {\"code\": "); lm_str_json(&s, lm_err_name(e), strlen(lm_err_name(e)));
        lm_str_puts(&s, ", \"message\": "); lm_str_json(&s, why, strlen(why)); lm_str_puts(&s, "}}\n");
        fputs(s.p ? s.p : "", stdout);
        lm_str_free(&s);
    }
    return exit_code(e);
}
static const char *reason(const lm_ctx *ctx, lm_err e) { return ctx && *lm_error(ctx) ? lm_error(ctx) : lm_err_text(e); }
static bool flag(int argc, char **argv, const char *f) {
    for (int i = 1; i < argc; i++) { if (!strcmp(argv[i], "--")) break; if (!strcmp(argv[i], f)) return true; }
    return false;
}
/* Defaults, then the file of --config, then the command line; key=value words are options too, unless the command has keys of its own. */
static lm_err options(lm_cli *cli, lm_ctx *ctx, const lm_cmd *cmd, void *opts, int argc, char **argv, bool *want_help) {
    lm_arena *a = cli->a;
    LM_TRY(lm_opt_parse(ctx, a, cmd->opts, opts, argc, argv, &cli->pos, want_help));
    const char *file = ((const lm_cli_common *)opts)->config;
    const char **word = lm_arena_alloc(a, (size_t)(cli->pos.n + 1) * sizeof *word);
    if (!word) return LM_E_NOMEM;
    if (file && !cmd->settings) {
        lm_yaml y;
        LM_TRY(lm_opt_defaults(ctx, a, cmd->opts, opts));
        LM_TRY(lm_yaml_load(ctx, a, file, &y));
        LM_TRY(lm_yaml_apply(ctx, a, file, &y, "", cmd->opts, opts));
        LM_TRY(lm_opt_parse(ctx, a, cmd->opts, opts, argc, argv, &cli->pos, want_help));
    }
    int n = 0;
    if (file && cmd->settings) word[n++] = file;
    for (int i = 0; i < cli->pos.n; i++) {
        const char *w = cli->pos.v[i], *eq = cmd->settings ? NULL : strchr(w, '=');
        char *key = eq ? lm_arena_printf(a, "%.*s", (int)(eq - w), w) : NULL;
        if (key && lm_opt_find(cmd->opts, key)) LM_TRY(lm_opt_set(ctx, a, cmd->opts, opts, key, eq + 1));
        else word[n++] = w;
    }
    cli->pos = (lm_strlist){ word, n };
    return LM_OK;
}
int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], LM_CMD_MEASURE)) return lm_cmd_machine_child(argc, argv);
    lm_cli cli = { .stop = &stop, .program = argv[0], .tty = isatty(2), .json = flag(argc, argv, "--json") };
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) {
        if (argc > 2 && !strcmp(argv[1], "help") && lm_cmd_by_name(argv[2])) { help(lm_cmd_by_name(argv[2])); return 0; }
        if (cli.json) help_json(); else usage(argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    if (!strcmp(argv[1], "--version")) { printf("loam %s\n", LM_VERSION); return 0; }
    const lm_cmd *cmd = lm_cmd_by_name(argv[1]);
    if (!cmd) {
        const char *names[128]; int n = 0;
        for (; lm_cmds[n] && n < 128; n++) names[n] = lm_cmds[n]->name;
        const char *near = lm_nearest(argv[1], names, n);
        char why[256];
        snprintf(why, sizeof why, "there is no command called %s%s%s", argv[1], near ? "; did you mean " : "; `loam --help` lists them",
                 near ? near : "");
        return report(&cli, "", why, LM_E_CONFIG);
    }
    struct sigaction sa = { .sa_handler = on_signal };
    sigaction(SIGINT, &sa, NULL); sigaction(SIGTERM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    lm_ctx *boot = NULL;                                            /* one thread: for reading options */
    lm_err e = lm_ctx_new(&boot, &(lm_ctx_opts){ .n_threads = 1 });
    void *opts = NULL; bool want_help = false;
    if (!e) e = lm_arena_new(&cli.a, boot, LM_MEM_MISC, 0);
    if (!e && !(opts = lm_arena_alloc(cli.a, cmd->opts_bytes))) e = LM_E_NOMEM;
    if (!e) e = lm_opt_defaults(boot, cli.a, cmd->opts, opts);
    if (!e) e = options(&cli, boot, cmd, opts, argc - 1, argv + 1, &want_help);
    int code = 0;
    if (e) { code = report(&cli, cmd->name, reason(boot, e), e); goto done; }
    if (want_help) { help(cmd); goto done; }
    const lm_cli_common *common = opts;
    cli.opts = opts; cli.json = common->json; cli.quiet = common->quiet;
    uint64_t mask = 0;
    if (common->isa && !(mask = lm_cpu_mask_of(common->isa))) {
        lm_fail(boot, LM_E_CONFIG, "--isa %s: portable, avx2, avx512, avx512bf16 and amx are known", common->isa);
        code = report(&cli, cmd->name, lm_error(boot), LM_E_CONFIG); goto done;
    }
    e = lm_ctx_new(&cli.ctx, &(lm_ctx_opts){ .n_threads = (int)common->threads, .log = on_log, .log_ud = &cli, .isa_mask = mask });
    if (!e) e = cmd->run(&cli);
    lm_cli_progress_end(&cli);
    if (e) code = report(&cli, cmd->name, reason(cli.ctx ? cli.ctx : boot, e), e);
    if (fflush(stdout) || ferror(stdout)) {                         /* a reader that had enough (`| head`) is no error to tell of */
        struct pollfd out = { .fd = 1 };
        const bool left = poll(&out, 1, 0) == 1 && (out.revents & POLLERR);
        if (!code) { if (!left) fprintf(stderr, "loam %s: standard output cannot be written\n", cmd->name); code = 1; }
    }
done:
    lm_ctx_free(cli.ctx);
    lm_arena_free(cli.a);
    lm_ctx_free(boot);
    return code;
}
