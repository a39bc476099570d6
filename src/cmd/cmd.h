/* cmd.h — commands as rows: one file each, a table generated from the files, main walks it.
 *
 * A command has a name, one line of help, a usage line, its option rows and a function. What is the same for all is here: the context,
 * threads, instruction set,
 * --json, --help, progress on a terminal or as JSON lines, exit codes, errors as one sentence on stderr (and an object on stdout with --json).
 *
 * Exit codes: 0 done · 1 failed · 2 wrong usage or configuration · 3 unusable input (malformed file, mismatch) · 4 out of memory or disk ·
 * 130 interrupted (work is saved).
 *
 * Lifetime: the cli lives for the process.  Threads: the main thread.  Errors: commands return lm_err; main reports. */
#ifndef LM_CMD_H
#define LM_CMD_H
#include <stdio.h>
#include "base/option.h"
typedef struct lm_cli {
    lm_ctx *ctx; lm_arena *a; const void *opts; lm_strlist pos;        /* the command's option struct; what is not a flag */
    /* tty: stderr is a terminal: draw progress lines; answered: the result is on stdout, an error after it goes to stderr alone */
    bool json, quiet, tty, answered;
    const volatile int *stop;                                          /* set by SIGINT and SIGTERM */
    const char *program;                                               /* argv[0] */
} lm_cli;
/* every command's option struct begins with this */
typedef struct { bool json, quiet; int64_t threads; const char *isa, *config; } lm_cli_common;
#define LM_CLI_COMMON(T)                                                                                                     \
    { LM_OPT_BOOL, "json", offsetof(T, common.json), "false", 0, 0, NULL, NULL, "print one JSON object (progress as JSON lines on stderr)" }, \
    { LM_OPT_BOOL, "quiet", offsetof(T, common.quiet), "false", 0, 0, NULL, NULL, "no progress" },                              \
    { LM_OPT_INT, "threads", offsetof(T, common.threads), "0", 0, 1024, NULL, "N", "compute threads; 0 = one per core" },        \
    { LM_OPT_STR, "isa", offsetof(T, common.isa), NULL, 0, 0, NULL, "NAME", "use at most this instruction set: portable, avx2, avx512, avx512bf16, amx" }, \
    { LM_OPT_STR, "config", offsetof(T, common.config), NULL, 0, 0, NULL, "FILE", "a YAML file of these options; what the command line says, as --key value or key=value, wins" }
typedef struct lm_cmd {
    const char *name, *summary, *usage;        /* "train", "train a model", "CONFIG [key=value …]" */
    const char *details;                       /* paragraphs for --help; may be NULL */
    const lm_opt *opts; size_t opts_bytes;     /* rows end with LM_OPT_ROW_END; the struct begins with lm_cli_common */
    const lm_opt *keys;                        /* of the YAML file and key=value words; NULL: none */
    /* key=value words and --config are not this command's options but keys of its own: they stay in pos, the file first */
    bool settings;
    lm_err (*run)(lm_cli *cli);
} lm_cmd;
extern const lm_cmd *const lm_cmds[];
const lm_cmd *lm_cmd_by_name(const char *name);

/* One status line on a terminal, rewritten in place (at most ten times a second); nothing when not a terminal or quiet. */
void lm_cli_progress(lm_cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void lm_cli_progress_end(lm_cli *cli);                               /* clears it */
/* A line for people: stdout, silent with --json. */
void lm_cli_say(lm_cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A JSON line on stderr when not a terminal (long work without --quiet). */
void lm_cli_event(lm_cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The result object: printed on stdout when --json. Text must be complete JSON. */
lm_err lm_cli_result(lm_cli *cli, const lm_str *json);
lm_err lm_cli_need(lm_cli *cli, int n, const char *what);            /* n positional arguments or a usage error */
const char *lm_cli_bytes(lm_arena *a, double bytes);                 /* "1.25 GB" */
const char *lm_cli_time(lm_arena *a, double seconds);                /* "1h 02m", "3m 20s", "4.2 s" */
#endif
