/* option_dump.c — rows as help, YAML and JSON. */
#define _GNU_SOURCE 1
#include "base/option.h"
#include "base/option_text.h"
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers ------------------------------------------------------------------------------------------------ */

/* The C locale of glibc is static: nothing is allocated here. */
bool lm_opt_float(const char *text, double *out) {
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c) return false;
    char *end;
    double v = strtod_l(text, &end, c);
    freelocale(c);
    if (end == text || *end) return false;
    *out = v;
    return true;
}

void lm_opt_number(char out[40], double v, bool as_float) {
    if (isnan(v)) { strcpy(out, ".nan"); return; }
    if (isinf(v)) { strcpy(out, v < 0 ? "-.inf" : ".inf"); return; }
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), old = c ? uselocale(c) : (locale_t)0;
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, v);
        if (strtod(out, NULL) == v) break;
    }
    if (v == rint(v) && fabs(v) < 1e15) snprintf(out, 32, "%.0f", v);
    if (c) { uselocale(old); freelocale(c); }
    if (!as_float || strchr(out, '.')) return;
    /* YAML 1.1 readers take 1e-05 for a string and 3 for an integer: 1.0e-05, 3.0 */
    size_t n = strcspn(out, "e");
    memmove(out + n + 2, out + n, strlen(out + n) + 1);
    memcpy(out + n, ".0", 2);
}

/* ---- help --------------------------------------------------------------------------------------------------- */

static void head(lm_str *s, const lm_opt *r) {
    lm_str_printf(s, "  --%s", r->name);
    if (r->type == LM_OPT_BOOL) return;
    lm_str_printf(s, " %s", r->arg ? r->arg : r->type == LM_OPT_ENUM ? "NAME" : r->type == LM_OPT_STR || r->type == LM_OPT_STRLIST ? "TEXT" : "N");
}

#define COLUMN 32                         /* where help starts at the latest */
#define WIDTH 110

/* Words of text from column `at` on; further lines are indented. */
static void wrap(lm_str *s, const char *text, int indent, int *at) {
    while (*text) {
        size_t n = strcspn(text, " ");
        if (*at > indent && *at + (int)n + 1 > WIDTH) {
            lm_str_printf(s, "\n%*s", indent, "");
            *at = indent;
        } else if (*at > indent) { lm_str_putc(s, ' '); ++*at; }
        lm_str_add(s, text, n);
        *at += (int)n;
        for (text += n; *text == ' ';) text++;
    }
}

void lm_opt_help(lm_str *out, const lm_opt *rows) {
    lm_str s = { .ctx = out->ctx };
    int column = 0;
    for (const lm_opt *r = rows; r->type != LM_OPT_END; r++) {
        lm_str_clear(&s);
        head(&s, r);
        if ((int)s.n + 2 > column && (int)s.n + 2 <= COLUMN) column = (int)s.n + 2;
    }
    if (!column) column = COLUMN;
    for (const lm_opt *r = rows; r->type != LM_OPT_END; r++) {
        lm_str_clear(&s);
        head(&s, r);
        size_t from = s.n;
        if ((int)s.n + 2 > column) lm_str_putc(&s, '\n'), from = s.n - 1;
        int pad = column - (s.n && s.p[s.n - 1] == '\n' ? 0 : (int)from), at = column;
        lm_str_printf(&s, "%*s", pad, "");
        if (r->help) wrap(&s, r->help, column, &at);
        lm_str note = { .ctx = out->ctx };
        if (r->type == LM_OPT_ENUM) {
            for (int i = 0; r->choices[i]; i++) lm_str_printf(&note, "%s%s", i ? "|" : "{", r->choices[i]);
            lm_str_puts(&note, "}");
        }
        if (r->def && *r->def && !(r->type == LM_OPT_BOOL && !strcmp(r->def, "false"))) lm_str_printf(&note, "%s(%s)", note.n ? " " : "", r->def);
        if (r->type == LM_OPT_STRLIST) lm_str_printf(&note, "%s[repeatable]", note.n ? " " : "");
        if (note.p) wrap(&s, note.p, column, &at);
        out->bad |= note.bad;
        lm_str_free(&note);
        while (s.n && s.p[s.n - 1] == ' ') s.n--;
        lm_str_add(out, s.p, s.n);
        lm_str_putc(out, '\n');
    }
    out->bad |= s.bad;
    lm_str_free(&s);
}

/* ---- YAML and JSON ------------------------------------------------------------------------------------------ */

/* A plain scalar only where no reader can take it for anything but this text. */
static bool plain_yaml(const char *s) {
    static const char *const taken[] = { "true", "false", "yes", "no", "on", "off", "null", "y", "n" };
    for (int i = 0; i < LM_COUNT(taken); i++) if (!strcasecmp(s, taken[i])) return false;
    static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_/";
    return *s && strchr(first, *s) && !s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_/0123456789.+-")];
}

/* JSON's escapes are YAML's too; on top, YAML will not have some characters raw, and folds its line breaks. All of these are
 * DEL, U+0080-9F, U+2028/9, U+FEFF and U+FFFE/F. */
static void yaml_text(lm_str *out, const char *text) {
    if (plain_yaml(text)) { lm_str_puts(out, text); return; }
    lm_str s = { .ctx = out->ctx };
    lm_str_json(&s, text, strlen(text));
    for (size_t i = 0, len; i < s.n; i += len) {
        const unsigned char *p = (const unsigned char *)s.p + i;
        unsigned c = p[0];
        len = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;     /* valid UTF-8 by now */
        if (len == 2) c = (c & 0x1F) << 6 | (p[1] & 0x3F);
        if (len == 3) c = (c & 0xF) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3F);
        if ((c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029 || c == 0xFEFF || c == 0xFFFE || c == 0xFFFF) lm_str_printf(out, "\\u%04x", c);
        else lm_str_add(out, p, len);
    }
    out->bad |= s.bad;
    lm_str_free(&s);
}

static void text_as(lm_str *out, const char *text, bool json) {
    if (json) lm_str_json(out, text, strlen(text));
    else yaml_text(out, text);
}

static void value(lm_str *out, const lm_opt *r, const void *from, bool json) {
    const void *f = (const char *)from + r->offset;
    char num[40];
    switch (r->type) {
    case LM_OPT_BOOL: lm_str_puts(out, *(const bool *)f ? "true" : "false"); return;
    case LM_OPT_INT: case LM_OPT_BYTES: lm_str_printf(out, "%lld", (long long)*(const int64_t *)f); return;
    case LM_OPT_FLOAT: {
        double v = *(const double *)f;
        lm_opt_number(num, v, true);
        if (json && !isfinite(v)) lm_str_printf(out, "\"%s\"", num);      /* JSON has no such number */
        else lm_str_puts(out, num);
        return;
    }
    case LM_OPT_STR: {
        const char *s = *(const char *const *)f;
        if (s) text_as(out, s, json);
        else lm_str_puts(out, "null");
        return;
    }
    case LM_OPT_ENUM: text_as(out, r->choices[*(const int *)f], json); return;
    case LM_OPT_STRLIST: {
        const lm_strlist *l = f;
        lm_str_putc(out, '[');
        for (int i = 0; i < l->n; i++) {
            if (i) lm_str_puts(out, ", ");
            text_as(out, l->v[i], json);
        }
        lm_str_putc(out, ']');
        return;
    }
    case LM_OPT_END: return;
    }
}

/* An unset text cannot be written so that it reads back as unset: it stays out, as a comment. */
static bool unset(const lm_opt *r, const void *from) {
    return r->type == LM_OPT_STR && !*(const char *const *)((const char *)from + r->offset);
}

typedef struct { lm_str *out; const lm_opt *rows; const void *from; bool json; } dump;

/* Is row i under the n bytes of prefix, and the first there whose next part is this long text? */
static bool first_of_group(const dump *d, int i, size_t upto) {
    for (int j = 0; j < i; j++) if (!strncmp(d->rows[j].name, d->rows[i].name, upto)) return false;
    return true;
}

static bool any_set(const dump *d, const char *prefix, size_t n) {
    for (const lm_opt *r = d->rows; r->type != LM_OPT_END; r++) if (!strncmp(r->name, prefix, n) && !unset(r, d->from)) return true;
    return false;
}

/* Every row below the first n bytes of prefix; rows of one group need not be neighbours. */
static void level(const dump *d, const char *prefix, size_t n, int depth) {
    bool comma = false;
    for (int i = 0; d->rows[i].type != LM_OPT_END; i++) {
        const lm_opt *r = &d->rows[i];
        if (strncmp(r->name, prefix, n)) continue;
        const char *part = r->name + n, *dot = strchr(part, '.');
        size_t len = dot ? (size_t)(dot - part) : strlen(part);
        if (dot && !first_of_group(d, i, n + len + 1)) continue;
        if (d->json) {
            lm_str_printf(d->out, "%s%*s", comma ? ",\n" : "\n", 2 * depth + 2, "");
            lm_str_json(d->out, part, len);
            lm_str_puts(d->out, ": ");
            if (dot) lm_str_putc(d->out, '{');
        } else {
            bool off = dot ? !any_set(d, r->name, n + len + 1) : unset(r, d->from);
            lm_str_printf(d->out, "%*s%s%.*s:", 2 * depth, "", off ? "# " : "", (int)len, part);
            if (off || dot) lm_str_putc(d->out, '\n');
            else lm_str_putc(d->out, ' ');
            if (off) continue;
        }
        comma = true;
        if (dot) level(d, r->name, n + len + 1, depth + 1);
        else value(d->out, r, d->from, d->json);
        if (d->json) { if (dot) lm_str_printf(d->out, "\n%*s}", 2 * depth + 2, ""); }
        else if (!dot) lm_str_putc(d->out, '\n');
    }
}

void lm_opt_dump_yaml(lm_str *out, const lm_opt *rows, const void *from) {
    dump d = { .out = out, .rows = rows, .from = from };
    level(&d, "", 0, 0);
}

void lm_opt_dump_json(lm_str *out, const lm_opt *rows, const void *from) {
    dump d = { .out = out, .rows = rows, .from = from, .json = true };
    lm_str_putc(out, '{');
    level(&d, "", 0, 0);
    lm_str_puts(out, "\n}\n");
}
