/* cmd_text.c — see cmd_text.h. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cmd/cmd_text.h"

lm_err lm_cli_stdin(lm_cli *cli, size_t max, char **out, size_t *n) {
    size_t cap = 1 << 16, at = 0;
    char *p = lm_alloc(cli->ctx, LM_MEM_IO, cap);
    if (!p) return LM_E_NOMEM;
    for (;;) {
        ssize_t k = read(0, p + at, cap - 1 - at);
        if (k < 0 && errno == EINTR && !*cli->stop) continue;
        if (k < 0) {
            lm_free(cli->ctx, p);
            return *cli->stop ? lm_cli_stop_err(cli) : lm_fail(cli->ctx, LM_E_IO, "standard input cannot be read: %s", strerror(errno));
        }
        if (!k) break;
        at += (size_t)k;
        if (at > max) {
            lm_free(cli->ctx, p);
            return lm_fail(cli->ctx, LM_E_RANGE, "standard input has over %zu bytes, which is the most that is taken", max);
        }
        if (at + 1 == cap) {
            char *q = lm_realloc(cli->ctx, LM_MEM_IO, p, cap * 2);
            if (!q) { lm_free(cli->ctx, p); return LM_E_NOMEM; }
            p = q; cap *= 2;
        }
    }
    p[at] = 0;
    *out = p; *n = at;
    return LM_OK;
}
lm_err lm_cli_ids(lm_cli *cli, const char *what, const char *text, size_t n, int32_t **ids, int64_t *n_ids) {
    const char *p = text, *end = text + n;
    int64_t cap = 1;
    for (const char *c = p; c < end; c++) cap += *c == ',' || *c == ' ' || *c == '\n' || *c == '\t' || *c == '\r';
    int32_t *v = lm_arena_alloc(cli->a, (size_t)cap * sizeof *v);
    if (!v) return LM_E_NOMEM;
    const char *colon = n ? memchr(text, ':', n) : NULL;                 /* {"ids": […]} */
    if (colon) {
        if (*p != '{' || !memmem(text, (size_t)(colon - text), "\"ids\"", 5))
            return lm_fail(cli->ctx, LM_E_DATA, "%s: wanted a list of token ids or an object with \"ids\"", what);
        p = colon + 1;
    }
    int64_t k = 0;
    bool need = false;                                                   /* after a comma there must be a number */
    while (p < end) {
        if (strchr(" \t\r\n[]}", *p) && *p) { p++; continue; }
        if (*p == ',') {
            if (need || !k)
                return lm_fail(cli->ctx, LM_E_DATA, "%s: a number is missing before byte %lld", what, (long long)(p - text) + 1);
            need = true;
            p++;
            continue;
        }
        char *stop;
        errno = 0;
        long long x = strtoll(p, &stop, 10);
        if (stop == p || (stop < end && !strchr(" ,\t\r\n]}", *stop)))
            return lm_fail(cli->ctx, LM_E_DATA, "%s: \"%.*s\" is no token id", what, (int)(stop == p ? lm_min64(end - p, 12) : stop - p + 1), p);
        if (errno || x < 0 || x > INT32_MAX) return lm_fail(cli->ctx, LM_E_RANGE, "%s: %.*s is no token id", what, (int)(stop - p), p);
        if (k == cap) return lm_fail(cli->ctx, LM_E_DATA, "%s: ids must be separated by commas or blanks", what);
        v[k++] = (int32_t)x; need = false; p = stop;
    }
    if (need) return lm_fail(cli->ctx, LM_E_DATA, "%s: a number is missing at the end", what);
    *ids = v; *n_ids = k;
    return LM_OK;
}
lm_err lm_cli_verb(lm_cli *cli, const char *const *verbs, int *which) {
    lm_str s = { .ctx = cli->ctx };
    int n = 0;
    for (; verbs[n]; n++) lm_str_printf(&s, "%s%s", n ? ", " : "", verbs[n]);
    lm_err err = lm_str_err(&s);
    if (!err && !cli->pos.n) err = lm_fail(cli->ctx, LM_E_CONFIG, "wanted one of: %s; --help tells more", s.p);
    if (!err) {
        for (*which = 0; verbs[*which] && strcmp(verbs[*which], cli->pos.v[0]); (*which)++) continue;
        if (!verbs[*which]) {
            const char *near = lm_nearest(cli->pos.v[0], verbs, n);
            err = near ? lm_fail(cli->ctx, LM_E_CONFIG, "\"%s\" is none of %s; did you mean %s?", cli->pos.v[0], s.p, near)
                       : lm_fail(cli->ctx, LM_E_CONFIG, "\"%s\" is none of %s", cli->pos.v[0], s.p);
        }
    }
    lm_str_free(&s);
    if (!err) { cli->pos.v++; cli->pos.n--; }
    return err;
}
const char *lm_cli_count(lm_arena *a, double n) {
    const char *s = n >= 1e12  ? lm_arena_printf(a, "%.2f T", n / 1e12)
                    : n >= 1e9 ? lm_arena_printf(a, "%.2f G", n / 1e9)
                    : n >= 1e6 ? lm_arena_printf(a, "%.1f M", n / 1e6)
                    : n >= 1e4 ? lm_arena_printf(a, "%.0f k", n / 1e3)
                               : lm_arena_printf(a, "%.0f", n);
    return s ? s : "?";
}
const char *lm_cli_flops(lm_arena *a, double f) {
    const char *s = f >= 1e15   ? lm_arena_printf(a, "%.2f PFLOP", f / 1e15)
                    : f >= 1e12 ? lm_arena_printf(a, "%.2f TFLOP", f / 1e12)
                    : f >= 1e9  ? lm_arena_printf(a, "%.1f GFLOP", f / 1e9)
                                : lm_arena_printf(a, "%.1f MFLOP", f / 1e6);
    return s ? s : "?";
}
bool lm_cli_stopped(const lm_cli *cli) { return cli->stop && *cli->stop; }
lm_err lm_cli_stop_err(lm_cli *cli) { return lm_fail(cli->ctx, LM_E_CANCELLED, "interrupted"); }
