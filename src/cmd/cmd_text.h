/* cmd_text.h — small things that several commands print or read.
 *
 * Lifetime: arena strings live as long as the arena.  Threads: none shared.  Errors: as base.h. */
#ifndef LM_CMD_TEXT_H
#define LM_CMD_TEXT_H
#include "cmd/cmd.h"
/* All of standard input, at most `max` bytes; lm_free. */
lm_err lm_cli_stdin(lm_cli *cli, size_t max, char **out, size_t *n);
/* Ids as text: "1,2,3", "1 2 3", "[1, 2, 3]" or {"ids": […]}. Arena array. what: for sentences ("--ids"). */
lm_err lm_cli_ids(lm_cli *cli, const char *what, const char *text, size_t n, int32_t **ids, int64_t *n_ids);
/* Sub-verbs: pos[0] against a NULL-terminated list; its index. The verb is taken off pos. */
lm_err lm_cli_verb(lm_cli *cli, const char *const *verbs, int *which);
const char *lm_cli_count(lm_arena *a, double n);                     /* "1.10 G", "124 M", "3 072" */
const char *lm_cli_flops(lm_arena *a, double f);                     /* "1.25 TFLOP" (put "/s" behind a rate) */
bool lm_cli_stopped(const lm_cli *cli);
lm_err lm_cli_stop_err(lm_cli *cli);                                 /* LM_E_CANCELLED with its sentence */
#endif
