/* option.c — finding rows, text to field, the command line. Writing rows out again is in option_dump.c.
 *
 * A list that still holds its default is told by what stands behind its last element: the mark instead of NULL. The first lm_opt_set() then
 * replaces the list and the next ones append, so that a list in a file means just what it says. */
#define _GNU_SOURCE 1
#include "base/option.h"
#include "base/option_text.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char default_mark[] = "";

static bool same_name(const char *a, const char *b) {
    for (; *a && *b; a++, b++)
        if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b)) return false;
    return *a == *b;
}

const lm_opt *lm_opt_find(const lm_opt *rows, const char *key) {
    for (const lm_opt *r = rows; r->type != LM_OPT_END; r++) if (same_name(r->name, key)) return r;
    return NULL;
}

static size_t field_size(lm_opt_type t) {
    switch (t) {
    case LM_OPT_BOOL: return sizeof(bool);
    case LM_OPT_INT: case LM_OPT_BYTES: return sizeof(int64_t);
    case LM_OPT_FLOAT: return sizeof(double);
    case LM_OPT_STR: return sizeof(const char *);
    case LM_OPT_ENUM: return sizeof(int);
    case LM_OPT_STRLIST: return sizeof(lm_strlist);
    case LM_OPT_END: break;
    }
    return 0;
}

static void *field_of(const lm_opt *r, void *into) { return (char *)into + r->offset; }

/* Copies of all fields, so that a struct half filled can be put back. */
static lm_err keep(lm_ctx *ctx, const lm_opt *rows, void *into, char **saved) {
    size_t n = 0;
    for (const lm_opt *r = rows; r->type != LM_OPT_END; r++) n += field_size(r->type);
    char *p = *saved = lm_alloc(ctx, LM_MEM_MISC, n);
    if (!p) return LM_E_NOMEM;
    for (const lm_opt *r = rows; r->type != LM_OPT_END; p += field_size(r->type), r++) memcpy(p, field_of(r, into), field_size(r->type));
    return LM_OK;
}

static void put_back(const lm_opt *rows, void *into, const char *p) {
    for (const lm_opt *r = rows; r->type != LM_OPT_END; p += field_size(r->type), r++) memcpy(field_of(r, into), p, field_size(r->type));
}

/* ---- text to value ------------------------------------------------------------------------------------------ */

static lm_err wanted(lm_ctx *ctx, const lm_opt *r, const char *got, const char *what) {
    return lm_fail(ctx, LM_E_CONFIG, "%s: got '%s', wanted %s", r->name, got, what);
}

/* min and max both 0: no limit; max below min: only min counts. */
static lm_err in_range(lm_ctx *ctx, const lm_opt *r, const char *got, double v) {
    if (r->min == 0 && r->max == 0) return LM_OK;
    char lo[40], hi[40];
    lm_opt_number(lo, r->min, false);
    lm_opt_number(hi, r->max, false);
    if (r->max < r->min) return v >= r->min ? LM_OK : lm_fail(ctx, LM_E_CONFIG, "%s: got %s, wanted at least %s", r->name, got, lo);
    if (v >= r->min && v <= r->max) return LM_OK;
    return lm_fail(ctx, LM_E_CONFIG, "%s: got %s, wanted %s to %s", r->name, got, lo, hi);
}

static bool digit(char c) { return c >= '0' && c <= '9'; }

/* Decimal digits with single '_' between them, from *s on; false if there are none or too many. */
static bool digits(const char **s, uint64_t *out) {
    const char *p = *s;
    uint64_t v = 0;
    if (!digit(*p)) return false;
    for (; digit(*p) || (*p == '_' && digit(p[1])); p++)
        if (*p != '_' && (__builtin_mul_overflow(v, (uint64_t)10, &v) || __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))) return false;
    *s = p;
    *out = v;
    return true;
}

static lm_err set_int(lm_ctx *ctx, const lm_opt *r, const char *text, int64_t *out) {
    const char *p = text;
    bool minus = *p == '-';
    if (*p == '-' || *p == '+') p++;
    uint64_t v;
    if (!digits(&p, &v) || *p || v > (uint64_t)INT64_MAX + minus) return wanted(ctx, r, text, "a whole number such as 1000 or 1_000");
    int64_t s = minus ? (int64_t)(0 - v) : (int64_t)v;
    LM_TRY(in_range(ctx, r, text, (double)s));
    *out = s;
    return LM_OK;
}

static lm_err set_float(lm_ctx *ctx, const lm_opt *r, const char *text, double *out) {
    const char *p = text + (*text == '-' || *text == '+');
    double v;
    if (!strcmp(p, "inf") || !strcmp(p, ".inf")) v = *text == '-' ? -INFINITY : INFINITY;
    else {
        if (!text[0] || text[strspn(text, "0123456789+-.eE")] || !lm_opt_float(text, &v)) return wanted(ctx, r, text, "a number such as 0.1 or 3e-4");
        if (isinf(v)) return wanted(ctx, r, text, "a number that fits in 64 bits");
    }
    LM_TRY(in_range(ctx, r, text, v));
    *out = v;
    return LM_OK;
}

static lm_err set_bool(lm_ctx *ctx, const lm_opt *r, const char *text, bool *out) {
    static const char *const yes[] = { "true", "yes", "on", "1" }, *const no[] = { "false", "no", "off", "0" };
    for (int i = 0; i < LM_COUNT(yes); i++) {
        if (!strcasecmp(text, yes[i])) { *out = true; return LM_OK; }
        if (!strcasecmp(text, no[i])) { *out = false; return LM_OK; }
    }
    return wanted(ctx, r, text, "true or false");
}

/* 4096, 512K, 1.5GiB, 2G: powers of 1024 unless the unit ends in a plain B (MB, GB), which counts in thousands. */
static lm_err set_bytes(lm_ctx *ctx, const lm_opt *r, const char *text, int64_t *out) {
    static const char what[] = "a size such as 4096, 512K, 1.5GiB or 2G";
    static const char units[] = "KMGTP";
    const char *p = text;
    uint64_t whole, unit = 1;
    if (!digits(&p, &whole)) return wanted(ctx, r, text, what);
    long double part = 0, place = 1;
    if (*p == '.') {
        if (!digit(*++p)) return wanted(ctx, r, text, what);
        for (; digit(*p); p++) part += (place /= 10) * (long double)(*p - '0');
    }
    if (*p == ' ') p++;
    const char *u = *p ? strchr(units, *p == 'k' ? 'K' : *p) : NULL;
    if (u) {
        p++;
        bool thousands = *p == 'B';
        for (int i = 0; i <= u - units; i++) unit *= thousands ? 1000 : 1024;
        if (*p == 'i' && p[1] == 'B') p++;
    }
    if (*p == 'B') p++;
    uint64_t v;
    if (*p || (!u && part > 0)) return wanted(ctx, r, text, what);
    if (__builtin_mul_overflow(whole, unit, &v) || __builtin_add_overflow(v, (uint64_t)(part * (long double)unit + 0.5L), &v) || v > INT64_MAX)
        return wanted(ctx, r, text, "a size that fits in 63 bits");
    LM_TRY(in_range(ctx, r, text, (double)v));
    *out = (int64_t)v;
    return LM_OK;
}

static int n_choices(const lm_opt *r) {
    int n = 0;
    while (r->choices[n]) n++;
    return n;
}

static lm_err set_enum(lm_ctx *ctx, const lm_opt *r, const char *text, int *out) {
    for (int i = 0; r->choices[i]; i++) if (same_name(r->choices[i], text)) { *out = i; return LM_OK; }
    lm_str s = { .ctx = ctx };
    for (int i = 0; r->choices[i]; i++) {
        if (i) lm_str_puts(&s, r->choices[i + 1] ? ", " : " or ");
        lm_str_puts(&s, r->choices[i]);
    }
    const char *near = lm_nearest(text, r->choices, n_choices(r));
    lm_err err = lm_str_err(&s);
    if (!err && near) err = lm_fail(ctx, LM_E_CONFIG, "%s: got '%s', wanted %s; did you mean '%s'?", r->name, text, s.p ? s.p : "nothing", near);
    else if (!err) err = wanted(ctx, r, text, s.p ? s.p : "nothing");
    lm_str_free(&s);
    return err;
}

static lm_err list_add(lm_arena *a, lm_strlist *list, const char *text, size_t n, const char *end) {
    const char **v = lm_arena_alloc(a, ((size_t)list->n + 2) * sizeof *v);
    char *copy = lm_arena_alloc(a, n + 1);
    if (!v || !copy) return LM_E_NOMEM;
    memcpy(copy, text, n);
    if (list->n) memcpy(v, list->v, (size_t)list->n * sizeof *v);
    v[list->n] = copy;
    v[list->n + 1] = end;
    *list = (lm_strlist){ .v = v, .n = list->n + 1 };
    return LM_OK;
}

static lm_err set_row(lm_ctx *ctx, lm_arena *a, const lm_opt *r, void *field, const char *value) {
    switch (r->type) {
    case LM_OPT_BOOL: return set_bool(ctx, r, value, field);
    case LM_OPT_INT: return set_int(ctx, r, value, field);
    case LM_OPT_FLOAT: return set_float(ctx, r, value, field);
    case LM_OPT_BYTES: return set_bytes(ctx, r, value, field);
    case LM_OPT_ENUM: return set_enum(ctx, r, value, field);
    case LM_OPT_STR: {
        const char *copy = lm_arena_strdup(a, value);
        if (!copy) return LM_E_NOMEM;
        *(const char **)field = copy;
        return LM_OK;
    }
    case LM_OPT_STRLIST: {
        lm_strlist list = *(lm_strlist *)field;
        if (list.n && list.v[list.n] == default_mark) list = (lm_strlist){ 0 };
        LM_TRY(list_add(a, &list, value, strlen(value), NULL));
        *(lm_strlist *)field = list;
        return LM_OK;
    }
    case LM_OPT_END: break;
    }
    return lm_fail(ctx, LM_E_INTERNAL, "%s: a row of unknown type %d", r->name, (int)r->type);
}

/* ---- defaults, one key -------------------------------------------------------------------------------------- */

static lm_err default_list(lm_arena *a, const char *def, lm_strlist *out) {
    lm_strlist list = { 0 };
    for (const char *p = def;; p++) {     /* commas part the default's elements; an empty text is an empty list */
        size_t n = strcspn(p, ",");
        if (*def) LM_TRY(list_add(a, &list, p, n, default_mark));
        p += n;
        if (!*p) break;
    }
    *out = list;
    return LM_OK;
}

lm_err lm_opt_defaults(lm_ctx *ctx, lm_arena *a, const lm_opt *rows, void *into) {
    char *saved;
    LM_TRY(keep(ctx, rows, into, &saved));
    lm_err err = LM_OK;
    for (const lm_opt *r = rows; r->type != LM_OPT_END && !err; r++) {
        void *field = field_of(r, into);
        memset(field, 0, field_size(r->type));
        if (!r->def) continue;
        err = r->type == LM_OPT_STRLIST ? default_list(a, r->def, field) : set_row(ctx, a, r, field, r->def);
        if (err && err != LM_E_NOMEM) err = lm_fail_in(ctx, LM_E_INTERNAL, "the default of an option is wrong");
    }
    if (err) put_back(rows, into, saved);
    lm_free(ctx, saved);
    return err;
}

/* dashes: "--" on the command line, "" elsewhere. */
static lm_err unknown(lm_ctx *ctx, const lm_opt *rows, const char *dashes, const char *key) {
    int n = 0;
    while (rows[n].type != LM_OPT_END) n++;
    const char **names = lm_alloc(ctx, LM_MEM_MISC, ((size_t)n + 1) * sizeof *names);
    if (!names) return LM_E_NOMEM;
    for (int i = 0; i < n; i++) names[i] = rows[i].name;
    names[n] = "help";
    const char *near = NULL, *dot = strrchr(key, '.'), *tail = dot ? dot + 1 : key;
    for (int i = 0; i < n && !near; i++) {       /* the right last part, the rest left out or mistaken */
        const char *d = strrchr(rows[i].name, '.');
        if (same_name(d ? d + 1 : rows[i].name, tail)) near = rows[i].name;
    }
    if (!near) near = lm_nearest(key, names, n + (*dashes != 0));
    lm_err err = near ? lm_fail(ctx, LM_E_CONFIG, "unknown option '%s%s'; did you mean '%s%s'?", dashes, key, dashes, near)
                      : lm_fail(ctx, LM_E_CONFIG, "unknown option '%s%s'", dashes, key);
    lm_free(ctx, names);
    return err;
}

lm_err lm_opt_set(lm_ctx *ctx, lm_arena *a, const lm_opt *rows, void *into, const char *key, const char *value) {
    const lm_opt *r = lm_opt_find(rows, key);
    return r ? set_row(ctx, a, r, field_of(r, into), value) : unknown(ctx, rows, "", key);
}

/* ---- the command line --------------------------------------------------------------------------------------- */

typedef struct {
    lm_ctx *ctx; lm_arena *a; const lm_opt *rows; void *into;
    char **argv; int argc, i;
    bool *seen;                           /* per row: a list's first flag replaces what a file or default gave */
    const char **pos; int n_pos;
    bool help;
} line;

/* argv[i] is "--name", "--name=value" or "--no-name". */
static lm_err flag(line *l) {
    const char *arg = l->argv[l->i] + 2, *eq = strchr(arg, '=');
    char *name = lm_arena_strdup(l->a, arg);
    if (!name) return LM_E_NOMEM;
    if (eq) name[eq - arg] = 0;
    const lm_opt *r = lm_opt_find(l->rows, name);
    const char *value = eq ? eq + 1 : NULL;
    if (!r && !eq && !strcmp(name, "help")) { l->help = true; return LM_OK; }
    if (!r && !strncmp(name, "no-", 3) && (r = lm_opt_find(l->rows, name + 3))) {
        if (r->type != LM_OPT_BOOL) return lm_fail(l->ctx, LM_E_CONFIG, "--%s: %s is no switch that could be turned off", name, r->name);
        if (eq) return lm_fail(l->ctx, LM_E_CONFIG, "--%s takes no value; use --%s=%s", name, r->name, value);
        value = "false";
    }
    if (!r) return unknown(l->ctx, l->rows, "--", name);
    if (!value && r->type == LM_OPT_BOOL) value = "true";
    if (!value) {
        const char *next = l->i + 1 < l->argc ? l->argv[l->i + 1] : NULL;
        if (!next || !strncmp(next, "--", 2))
            return lm_fail(l->ctx, LM_E_CONFIG, "--%s: no value given, wanted --%s %s", r->name, r->name, r->arg ? r->arg : "VALUE");
        value = next;
        l->i++;
    }
    void *field = field_of(r, l->into);
    if (r->type == LM_OPT_STRLIST && !l->seen[r - l->rows]) memset(field, 0, sizeof(lm_strlist));
    l->seen[r - l->rows] = true;
    lm_err err = set_row(l->ctx, l->a, r, field, value);
    if (err == LM_E_CONFIG) lm_fail(l->ctx, err, "--%s", lm_error(l->ctx));
    return err;
}

static lm_err word(line *l) {
    const char *copy = lm_arena_strdup(l->a, l->argv[l->i]);
    if (!copy) return LM_E_NOMEM;
    l->pos[l->n_pos++] = copy;
    return LM_OK;
}

static lm_err parse(line *l) {
    bool flags = true;
    for (l->i = 1; l->i < l->argc; l->i++) {
        const char *arg = l->argv[l->i];
        if (flags && !strcmp(arg, "--")) flags = false;
        else if (flags && !strcmp(arg, "-h")) l->help = true;
        else if (flags && !strncmp(arg, "--", 2)) LM_TRY(flag(l));
        else if (flags && arg[0] == '-' && arg[1] && !digit(arg[1]) && arg[1] != '.')
            return lm_fail(l->ctx, LM_E_CONFIG, "unknown option '%s': options begin with two dashes", arg);
        else LM_TRY(word(l));
    }
    return LM_OK;
}

lm_err lm_opt_parse(lm_ctx *ctx, lm_arena *a, const lm_opt *rows, void *into, int argc, char **argv, lm_strlist *pos, bool *help) {
    size_t n_rows = 0;
    while (rows[n_rows].type != LM_OPT_END) n_rows++;
    line l = { .ctx = ctx, .a = a, .rows = rows, .into = into, .argv = argv, .argc = argc };
    l.seen = lm_arena_alloc(a, n_rows);
    l.pos = lm_arena_alloc(a, ((size_t)(argc > 0 ? argc : 0) + 1) * sizeof *l.pos);
    if (!l.seen || !l.pos) return LM_E_NOMEM;
    char *saved;
    LM_TRY(keep(ctx, rows, into, &saved));
    lm_err err = parse(&l);
    if (!err && !pos && l.n_pos) err = lm_fail(ctx, LM_E_CONFIG, "unexpected argument '%s'", l.pos[0]);
    if (err) put_back(rows, into, saved);
    lm_free(ctx, saved);
    if (err) return err;
    if (pos) *pos = (lm_strlist){ .v = l.pos, .n = l.n_pos };
    if (help) *help = l.help;
    return LM_OK;
}
