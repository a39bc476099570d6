/* cmd_line.c — see cmd_line.h. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <utf8proc.h>
#include "base/file.h"
#include "cmd/cmd_line.h"
#include "format/cursor.h"

enum { MAX_HISTORY = 1000, MAX_HISTORY_BYTES = 4 << 20 };
struct lm_line {
    lm_cli *cli; lm_ctx *ctx; const char *const *names; char *file;
    bool tty, raw; struct termios was;
    char **past; int n_past;
    lm_str in; size_t in_at; bool eof;                                    /* bytes read ahead (pipes) */
    lm_str text, kill; size_t at;                                         /* the line being edited */
    int rows, row;                                                        /* what is on the screen: rows taken, the cursor's */
};
static lm_line *restore;                                                  /* the terminal is one */
static void put_back(void) { if (restore && restore->raw) { tcsetattr(0, TCSADRAIN, &restore->was); restore->raw = false; } }
static void on_end(int sig) { put_back(); signal(sig, SIG_DFL); raise(sig); }

static lm_err remember(lm_line *l, const char *p, size_t n) {
    if (!n || (l->n_past && strlen(l->past[l->n_past - 1]) == n && !memcmp(l->past[l->n_past - 1], p, n))) return LM_OK;
    char *s = lm_alloc(l->ctx, LM_MEM_MISC, n + 1);
    if (!s) return LM_E_NOMEM;
    memcpy(s, p, n);
    s[n] = 0;
    if (l->n_past == MAX_HISTORY) { lm_free(l->ctx, l->past[0]); memmove(l->past, l->past + 1, (MAX_HISTORY - 1) * sizeof *l->past); l->n_past--; }
    l->past[l->n_past++] = s;
    return LM_OK;
}
/* One entry a line; newlines and backslashes inside are written as \n and \\. */
static void read_past(lm_line *l) {
    char *t; size_t n;
    if (!l->file || !lm_exists(l->file) || lm_file_read_all(l->ctx, l->file, MAX_HISTORY_BYTES, &t, &n)) return;
    lm_str s = { .ctx = l->ctx };
    for (size_t i = 0; i < n; i++) {
        if (t[i] == '\n') { if (s.n && lm_utf8_ok(s.p, s.n)) (void)remember(l, s.p, s.n); lm_str_clear(&s); }
        else if (t[i] == '\\' && i + 1 < n) { i++; lm_str_putc(&s, t[i] == 'n' ? '\n' : t[i]); }
        else lm_str_putc(&s, t[i]);
    }
    lm_str_free(&s); lm_free(l->ctx, t);
}
static void write_past(lm_line *l) {
    if (!l->file || !l->tty || !l->n_past) return;
    lm_str s = { .ctx = l->ctx };
    for (int i = 0; i < l->n_past; i++) {
        for (const char *p = l->past[i]; *p; p++) {
            if (*p == '\n') lm_str_puts(&s, "\\n");
            else { if (*p == '\\') lm_str_putc(&s, '\\'); lm_str_putc(&s, *p); }
        }
        lm_str_putc(&s, '\n');
    }
    char *dir = lm_strdup(l->ctx, LM_MEM_MISC, l->file), *slash = dir ? strrchr(dir, '/') : NULL;
    if (slash) { *slash = 0; (void)lm_dir_make(l->ctx, dir); }
    if (!lm_str_err(&s) && s.n <= MAX_HISTORY_BYTES) (void)lm_file_write_atomic(l->ctx, l->file, s.p, s.n);     /* lost history is no failure */
    lm_free(l->ctx, dir); lm_str_free(&s);
}
lm_err lm_line_new(lm_line **out, lm_cli *cli, const char *const *names, const char *history) {
    lm_line *l = lm_calloc(cli->ctx, LM_MEM_MISC, 1, sizeof *l);
    if (!l) return LM_E_NOMEM;
    const char *term = getenv("TERM");
    *l = (lm_line){ .cli = cli, .ctx = cli->ctx, .names = names, .in.ctx = cli->ctx, .text.ctx = cli->ctx, .kill.ctx = cli->ctx };
    l->tty = isatty(0) && isatty(1) && !(term && !strcmp(term, "dumb"));
    l->past = lm_calloc(l->ctx, LM_MEM_MISC, MAX_HISTORY, sizeof *l->past);
    if (history) l->file = lm_strdup(l->ctx, LM_MEM_MISC, history);
    if (!l->past || (history && !l->file)) { lm_line_free(l); return LM_E_NOMEM; }
    if (l->tty) {
        read_past(l);
        restore = l;
        atexit(put_back);
        signal(SIGHUP, on_end); signal(SIGQUIT, on_end);                  /* SIGTERM sets cli->stop: what there is gets saved */
    }
    *out = l;
    return LM_OK;
}
void lm_line_free(lm_line *l) {
    if (!l) return;
    put_back();
    if (restore == l) restore = NULL;
    if (l->past) write_past(l);
    for (int i = 0; l->past && i < l->n_past; i++) lm_free(l->ctx, l->past[i]);
    lm_free(l->ctx, l->past); lm_free(l->ctx, l->file);
    lm_str_free(&l->in); lm_str_free(&l->text); lm_str_free(&l->kill);
    lm_free(l->ctx, l);
}
bool lm_line_is_terminal(const lm_line *l) { return l->tty; }

/* ---- pipes ---- */
static lm_err plain(lm_line *l, lm_str *text, lm_line_how *how) {
    for (;;) {
        const char *from = l->in.n > l->in_at ? l->in.p + l->in_at : NULL, *nl = from ? memchr(from, '\n', l->in.n - l->in_at) : NULL;
        if (nl || (l->eof && from)) {
            const size_t n = nl ? (size_t)(nl - from) : l->in.n - l->in_at;
            lm_str_add(text, from, n && from[n - 1] == '\r' ? n - 1 : n);
            l->in_at += n + (nl != NULL);
            *how = LM_LINE_TEXT;
            return lm_str_err(text);
        }
        if (l->eof || *l->cli->stop) { *how = LM_LINE_END; return LM_OK; }
        if (l->in_at) { memmove(l->in.p, l->in.p + l->in_at, l->in.n - l->in_at); l->in.n -= l->in_at; l->in_at = 0; }
        if (l->in.n > LM_LINE_MAX) return lm_fail(l->ctx, LM_E_RANGE, "a line of more than %d bytes", LM_LINE_MAX);
        char b[65536];
        const ssize_t k = read(0, b, sizeof b);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return lm_fail(l->ctx, LM_E_IO, "standard input: %s", strerror(errno));
        if (!k) l->eof = true; else lm_str_add(&l->in, b, (size_t)k);
        LM_TRY(lm_str_err(&l->in));
    }
}

/* ---- the screen ---- */
static int width_at(const char *p, size_t n, size_t *len) {
    const int k = lm_utf8_len((const uint8_t *)p, n);
    utf8proc_int32_t c = 0xfffd;
    *len = k > 0 ? (size_t)k : 1;
    if (k > 0) utf8proc_iterate((const utf8proc_uint8_t *)p, k, &c);
    if (c < 32 || c == 127) return 2;                                     /* ^X */
    const int w = utf8proc_charwidth(c);
    return w < 0 ? 0 : w;
}
static void draw(lm_line *l, const char *prompt) {
    struct winsize ws = { 0 };
    const int cols = !ioctl(1, TIOCGWINSZ, &ws) && ws.ws_col > 3 ? ws.ws_col : 80;
    lm_str o = { .ctx = l->ctx };
    if (l->row) lm_str_printf(&o, "\033[%dA", l->row);
    lm_str_puts(&o, "\r\033[J");
    int row = 0, col = 0, at_row = 0, at_col = 0;
    const size_t np = strlen(prompt);
    for (size_t i = 0, k; i < np + l->text.n; i += k) {
        const char *p = i < np ? prompt + i : l->text.p + (i - np);
        if (i == np + l->at) { at_row = row; at_col = col; }
        const int w = width_at(p, (i < np ? np - i : l->text.n - (i - np)), &k);
        if (*p == '\n') { lm_str_puts(&o, "\r\n"); row++; col = 0; continue; }
        if (col + w > cols) { lm_str_puts(&o, "\r\n"); row++; col = 0; }
        if (w == 2 && k == 1 && ((unsigned char)*p < 32 || *p == 127)) { lm_str_putc(&o, '^'); lm_str_putc(&o, (char)(*p ^ 64)); }
        else lm_str_add(&o, p, k);
        col += w;
    }
    if (l->at == l->text.n) { at_row = row; at_col = col; }
    if (at_col >= cols) { lm_str_puts(&o, l->at == l->text.n ? "\r\n" : ""); row += l->at == l->text.n; at_row++; at_col = 0; }
    if (row > at_row) lm_str_printf(&o, "\033[%dA", row - at_row);
    lm_str_putc(&o, '\r');
    if (at_col) lm_str_printf(&o, "\033[%dC", at_col);
    l->rows = row; l->row = at_row;
    if (o.p && !o.bad) { fwrite(o.p, 1, o.n, stdout); fflush(stdout); }
    lm_str_free(&o);
}

/* ---- editing ---- */
static void insert(lm_line *l, const char *p, size_t n) {
    const size_t was = l->text.n;
    lm_str_add(&l->text, p, n);
    if (l->text.bad || l->at == was) { l->at += l->text.bad ? 0 : n; return; }
    memmove(l->text.p + l->at + n, l->text.p + l->at, was - l->at);
    memcpy(l->text.p + l->at, p, n);
    l->at += n;
}
static void erase(lm_line *l, size_t from, size_t to, bool keep) {
    if (keep) { lm_str_clear(&l->kill); lm_str_add(&l->kill, l->text.p + from, to - from); }
    memmove(l->text.p + from, l->text.p + to, l->text.n - to + 1);
    l->text.n -= to - from;
    l->at = from;
}
static size_t before(const lm_line *l) { size_t i = l->at; while (i && (l->text.p[--i] & 0xc0) == 0x80) continue; return i; }
static size_t behind(const lm_line *l) { size_t i = l->at; if (i < l->text.n) i++; while (i < l->text.n && (l->text.p[i] & 0xc0) == 0x80) i++; return i; }
static bool byte_in(unsigned char *c) {
    for (;;) {
        const ssize_t k = read(0, c, 1);
        if (k == 1) return true;
        if (k < 0 && errno == EINTR && !(restore && *restore->cli->stop)) continue;
        return false;
    }
}
static bool soon(void) { struct pollfd p = { .fd = 0, .events = POLLIN }; return poll(&p, 1, 50) == 1; }
static void complete(lm_line *l) {
    const char *hit = NULL;
    size_t common = 0;
    if (!l->text.n || memchr(l->text.p, ' ', l->text.n)) return;
    for (int i = 0; l->names && l->names[i]; i++) {
        if (strncmp(l->names[i], l->text.p, l->text.n)) continue;
        if (!hit) { hit = l->names[i]; common = strlen(hit); continue; }
        size_t k = 0;
        while (k < common && hit[k] == l->names[i][k]) k++;
        common = k;
    }
    if (!hit || common < l->text.n) return;
    l->at = l->text.n;
    insert(l, hit + l->text.n, common - l->text.n);
    if (common == strlen(hit)) insert(l, " ", 1);
}
static void recall(lm_line *l, int *which, int to, lm_str *draft) {
    if (to < 0 || to > l->n_past) return;
    if (*which == l->n_past) { lm_str_clear(draft); lm_str_add(draft, l->text.n ? l->text.p : "", l->text.n); }
    *which = to;
    const char *p = to == l->n_past ? draft->p : l->past[to];
    const size_t n = to == l->n_past ? draft->n : strlen(p);
    lm_str_clear(&l->text);
    l->at = 0;
    if (n) insert(l, p, n);
}
typedef enum { KEY_NONE, KEY_UP, KEY_DOWN, KEY_RIGHT, KEY_LEFT, KEY_HOME, KEY_END, KEY_DELETE, KEY_PASTE, KEY_PASTED, KEY_WORD_LEFT, KEY_WORD_RIGHT } key;
static key escape(void) {
    unsigned char c, seq[16]; int n = 0;
    if (!soon() || !byte_in(&c)) return KEY_NONE;
    if (c == 'b') return KEY_WORD_LEFT;
    if (c == 'f') return KEY_WORD_RIGHT;
    if (c != '[' && c != 'O') return KEY_NONE;
    while (n < 15 && byte_in(&seq[n])) { const unsigned char x = seq[n++]; if (x >= 0x40 && x <= 0x7e) break; }
    seq[n] = 0;
    if (!n) return KEY_NONE;
    switch (seq[n - 1]) {
    case 'A': return KEY_UP;
    case 'B': return KEY_DOWN;
    case 'C': return n > 1 ? KEY_WORD_RIGHT : KEY_RIGHT;
    case 'D': return n > 1 ? KEY_WORD_LEFT : KEY_LEFT;
    case 'H': return KEY_HOME;
    case 'F': return KEY_END;
    default: break;
    }
    if (seq[n - 1] != '~') return KEY_NONE;
    switch (atoi((const char *)seq)) {
    case 1: case 7: return KEY_HOME;
    case 4: case 8: return KEY_END;
    case 3: return KEY_DELETE;
    case 200: return KEY_PASTE;
    case 201: return KEY_PASTED;
    default: return KEY_NONE;
    }
}
static void word_left(lm_line *l) { while (l->at && l->text.p[l->at - 1] == ' ') l->at--; while (l->at && l->text.p[l->at - 1] != ' ') l->at--; }
static void word_right(lm_line *l) { while (l->at < l->text.n && l->text.p[l->at] == ' ') l->at++; while (l->at < l->text.n && l->text.p[l->at] != ' ') l->at++; }
static void move(lm_line *l, key k, int *which, lm_str *draft) {
    switch (k) {
    case KEY_UP: recall(l, which, *which - 1, draft); break;
    case KEY_DOWN: recall(l, which, *which + 1, draft); break;
    case KEY_LEFT: l->at = before(l); break;
    case KEY_RIGHT: l->at = behind(l); break;
    case KEY_HOME: l->at = 0; break;
    case KEY_END: l->at = l->text.n; break;
    case KEY_DELETE: if (l->at < l->text.n) { const size_t a = l->at; erase(l, a, behind(l), false); } break;
    case KEY_WORD_LEFT: word_left(l); break;
    case KEY_WORD_RIGHT: word_right(l); break;
    default: break;
    }
}
/* False: this key ends the line; *how says how. */
static bool control(lm_line *l, unsigned char c, int *which, lm_str *draft, lm_line_how *how) {
    const size_t at = l->at;
    switch (c) {
    case 1: l->at = 0; break;                                             /* ^A */
    case 2: l->at = before(l); break;
    case 3: *how = LM_LINE_DROPPED; return false;
    case 4: if (!l->text.n) { *how = LM_LINE_END; return false; } if (at < l->text.n) erase(l, at, behind(l), false); break;
    case 5: l->at = l->text.n; break;
    case 6: l->at = behind(l); break;
    case 8: case 127: if (at) erase(l, before(l), at, false); break;
    case 9: complete(l); break;
    case 11: if (at < l->text.n) { erase(l, at, l->text.n, true); } break;
    case 12: fputs("\033[H\033[2J", stdout); l->row = 0; break;
    case 14: recall(l, which, *which + 1, draft); break;
    case 16: recall(l, which, *which - 1, draft); break;
    case 20: if (at && at < l->text.n) { const size_t b = before(l); char t[8]; const size_t n = at - b;
        if (n < 8) { memcpy(t, l->text.p + b, n); erase(l, b, at, false); l->at = behind(l); insert(l, t, n); } } break;
    case 21: if (at) erase(l, 0, at, true); break;
    case 23: if (at) { word_left(l); const size_t to = l->at; l->at = at; erase(l, to, at, true); } break;
    case 25: if (l->kill.n) insert(l, l->kill.p, l->kill.n); break;
    default: break;
    }
    return true;
}
static lm_err edit(lm_line *l, const char *prompt, lm_line_how *how) {
    lm_str draft = { .ctx = l->ctx };
    int which = l->n_past;
    bool pasting = false;
    unsigned char c;
    lm_str_clear(&l->text);
    lm_str_add(&l->text, "", 0);
    l->at = 0; l->row = l->rows = 0;
    *how = LM_LINE_TEXT;
    draw(l, prompt);
    for (;;) {
        if (!byte_in(&c)) { *how = LM_LINE_END; break; }
        if (pasting && (c == '\r' || c == '\n')) c = '\n';
        else if (c == '\r' || c == '\n') {
            if (!l->text.n || l->text.p[l->text.n - 1] != '\\') break;
            l->at = l->text.n;
            erase(l, l->text.n - 1, l->text.n, false);
            c = '\n';
        }
        if (c == 27) {
            const key k = escape();
            if (k == KEY_PASTE || k == KEY_PASTED) pasting = k == KEY_PASTE;
            else move(l, k, &which, &draft);
        } else if ((c < 32 && c != '\n' && !(pasting && c == 9)) || c == 127) {
            if (!control(l, c, &which, &draft, how)) break;
        } else {
            char u[4] = { (char)c };
            int n = 1;
            const int want = c < 0xc2 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 1;
            while (n < want && byte_in(&c)) u[n++] = (char)c;
            if (lm_utf8_ok(u, (size_t)n)) insert(l, u, (size_t)n);
            if (l->text.n > LM_LINE_MAX) { lm_str_free(&draft); return lm_fail(l->ctx, LM_E_RANGE, "a line of more than %d bytes", LM_LINE_MAX); }
        }
        struct pollfd p = { .fd = 0, .events = POLLIN };
        if (l->text.bad) break;
        if (!pasting || poll(&p, 1, 0) != 1) draw(l, prompt);             /* a paste is drawn once it is there */
    }
    l->at = l->text.n;
    draw(l, prompt);
    fputs(*how == LM_LINE_DROPPED ? "^C\r\n" : "\r\n", stdout);
    fflush(stdout);
    lm_str_free(&draft);
    return lm_str_err(&l->text);
}
lm_err lm_line_read(lm_line *l, const char *prompt, lm_str *text, lm_line_how *how) {
    lm_str_clear(text);
    if (!l->tty) return plain(l, text, how);
    struct termios raw;
    if (tcgetattr(0, &l->was)) return lm_fail(l->ctx, LM_E_IO, "the terminal: %s", strerror(errno));
    raw = l->was;
    raw.c_iflag &= ~(tcflag_t)(BRKINT | ICRNL | INPCK | ISTRIP | IXON);
    raw.c_cflag |= CS8;
    raw.c_lflag &= ~(tcflag_t)(ECHO | ICANON | IEXTEN | ISIG);
    raw.c_cc[VMIN] = 1; raw.c_cc[VTIME] = 0;
    if (tcsetattr(0, TCSADRAIN, &raw)) return lm_fail(l->ctx, LM_E_IO, "the terminal: %s", strerror(errno));
    l->raw = true;
    fputs("\033[?2004h", stdout);
    const lm_err err = edit(l, prompt, how);
    put_back();                                                /* before the terminal hears that the line is over */
    fputs("\033[?2004l", stdout);
    fflush(stdout);
    if (err) return err;
    if (*how == LM_LINE_TEXT) {
        lm_str_add(text, l->text.n ? l->text.p : "", l->text.n);
        LM_TRY(remember(l, l->text.n ? l->text.p : "", l->text.n));
    }
    return lm_str_err(text);
}
