/* cmd_line.h — one line from the person at the terminal, with editing and history; from a pipe, one line as it comes.
 *
 * An editor of our own, since it has to be in the portable program and needs nothing but ANSI sequences: arrows, Home, End, Delete, the Emacs keys
 * (^A ^E ^B ^F ^K ^U ^W ^Y ^T ^L ^P ^N), Tab completion, a line longer than the screen, wide characters, pasted text with its newlines (bracketed
 * paste). A line that ends with "\" goes on in the next. ^C drops the line, ^D on an empty one ends. Where the input is no terminal, or TERM is "dumb",
 * lines are read as they are and no prompt is written.
 *
 * Lifetime: one editor for the process; the terminal is put back after each line, also on signals that end the process.
 * Threads:  the main thread.
 * Errors:   LM_E_RANGE: a line of more than LM_LINE_MAX bytes; LM_E_IO. */
#ifndef LM_CMD_LINE_H
#define LM_CMD_LINE_H
#include "cmd/cmd.h"
enum { LM_LINE_MAX = 16 << 20 };
typedef enum { LM_LINE_TEXT, LM_LINE_DROPPED, LM_LINE_END } lm_line_how;
typedef struct lm_line lm_line;
/* names: what Tab completes a word at the start of the line to, NULL-terminated. history: a file kept between runs; NULL: none. */
lm_err lm_line_new(lm_line **out, lm_cli *cli, const char *const *names, const char *history);
void lm_line_free(lm_line *l);                                            /* NULL is fine */
bool lm_line_is_terminal(const lm_line *l);
lm_err lm_line_read(lm_line *l, const char *prompt, lm_str *text, lm_line_how *how);     /* text without its newline */
#endif
