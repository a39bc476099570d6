/* cmd_cli.c — what commands say and how. */
#include <string.h>
#include "cmd/cmd.h"
#include "base/base.h"

void lm_cli_progress(lm_cli *cli, const char *fmt, ...) {
    static double last;                                            /* the terminal is one, so is this */
    if (!cli->tty || cli->quiet || lm_now() - last < 0.1) return;
    last = lm_now();
    char text[512]; va_list ap;
    va_start(ap, fmt); vsnprintf(text, sizeof text, fmt, ap); va_end(ap);
    fprintf(stderr, "\r\033[K%s", text);
    fflush(stderr);
}
void lm_cli_progress_end(lm_cli *cli) { if (cli->tty && !cli->quiet) { fprintf(stderr, "\r\033[K"); fflush(stderr); } }
void lm_cli_say(lm_cli *cli, const char *fmt, ...) {
    if (cli->json) return;
    lm_cli_progress_end(cli);
    va_list ap;
    va_start(ap, fmt); vprintf(fmt, ap); va_end(ap);
    putchar('\n');
    fflush(stdout);
}
void lm_cli_event(lm_cli *cli, const char *fmt, ...) {
    if (cli->tty || cli->quiet) return;
    va_list ap;
    va_start(ap, fmt); vfprintf(stderr, fmt, ap); va_end(ap);
    fputc('\n', stderr);
}
lm_err lm_cli_result(lm_cli *cli, const lm_str *json) {
    LM_TRY(lm_str_err(json));
    if (!cli->json) return LM_OK;
    lm_cli_progress_end(cli);
    fwrite(json->p ? json->p : "{}", 1, json->p ? json->n : 2, stdout);
    putchar('\n');
    cli->answered = true;
    return LM_OK;
}
lm_err lm_cli_need(lm_cli *cli, int n, const char *what) {
    if (cli->pos.n == n) return LM_OK;
    if (cli->pos.n < n) return lm_fail(cli->ctx, LM_E_CONFIG, "wanted %s; --help tells more", what);
    return lm_fail(cli->ctx, LM_E_CONFIG, "\"%s\" is too much: wanted %s", cli->pos.v[n], what);
}
const char *lm_cli_bytes(lm_arena *a, double b) {
    static const char *const unit[] = { "B", "kB", "MB", "GB", "TB", "PB" };
    int u = 0;
    while (b >= 1000.0 && u < 5) { b /= 1000.0; u++; }
    const char *s = lm_arena_printf(a, u == 0 ? "%.0f %s" : b < 10 ? "%.2f %s" : b < 100 ? "%.1f %s" : "%.0f %s", b, unit[u]);
    return s ? s : "?";
}
const char *lm_cli_time(lm_arena *a, double s) {
    const char *t = s >= 3600   ? lm_arena_printf(a, "%dh %02dm", (int)(s / 3600), (int)s / 60 % 60)
                    : s >= 60   ? lm_arena_printf(a, "%dm %02ds", (int)s / 60, (int)s % 60)
                    : s >= 1    ? lm_arena_printf(a, "%.1f s", s)
                    : s >= 1e-3 ? lm_arena_printf(a, "%.1f ms", s * 1e3)
                                : lm_arena_printf(a, "%.1f us", s * 1e6);
    return t ? t : "?";
}
