/* yaml.c — one pass over libyaml's events with a stack of open maps and lists; every path that is opened or set goes into a hash set, which
 * finds duplicates in linear time. */
#include "format/yaml.h"
#include "base/file.h"
#include "format/cursor.h"
#include <string.h>
#include <yaml.h>

typedef enum { PATH_SCALAR = 1, PATH_LIST, PATH_MAP } path_kind;
typedef struct { const char *path; path_kind kind; int line; } path_rec;
typedef struct {
    bool is_map, have_key;
    size_t len;                         /* of the path text down to this container */
    int n;                              /* members so far */
    path_kind items;                    /* of a list: what its items are; 0 = none yet */
    int line;
} frame;
typedef struct {
    lm_ctx *ctx; lm_arena *a; const char *name;
    char path[LM_YAML_MAX_KEY + 1];
    frame stack[LM_YAML_MAX_DEPTH];
    int depth;
    lm_yaml_entry *v; int n, cap;
    path_rec *set; size_t n_set, cap_set;
} state;

static path_rec *set_slot(state *s, const char *path, size_t len) {
    size_t i = lm_hash64(path, len, 0) & (s->cap_set - 1);
    while (s->set[i].path && (strncmp(s->set[i].path, path, len) || s->set[i].path[len])) i = (i + 1) & (s->cap_set - 1);
    return &s->set[i];
}
static lm_err set_grow(state *s) {
    if (s->n_set * 2 < s->cap_set) return LM_OK;
    size_t old_cap = s->cap_set, cap = old_cap ? old_cap * 2 : 64;
    path_rec *old = s->set, *fresh = lm_calloc(s->ctx, LM_MEM_MISC, cap, sizeof *fresh);
    if (!fresh) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory for %zu keys", s->name, cap);
    s->set = fresh; s->cap_set = cap;
    for (size_t i = 0; i < old_cap; i++)
        if (old[i].path) *set_slot(s, old[i].path, strlen(old[i].path)) = old[i];
    lm_free(s->ctx, old);
    return LM_OK;
}
/* Record that path now has this kind; what was there before must not exist. *out is the path's copy in the arena. */
static lm_err note(state *s, path_kind kind, int line, const char **out) {
    LM_TRY(set_grow(s));
    size_t len = strlen(s->path);
    path_rec *r = set_slot(s, s->path, len);
    if (r->path) return lm_fail(s->ctx, LM_E_CONFIG, "%s:%d: key \"%s\" is given twice (first on line %d)", s->name, line, s->path, r->line);
    char *copy = lm_arena_strdup(s->a, s->path);
    if (!copy) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory", s->name);
    *r = (path_rec){ copy, kind, line };
    s->n_set++;
    if (out) *out = copy;
    return LM_OK;
}
static lm_err add(state *s, const char *key, const char *value, int line, lm_yaml_kind kind, bool quoted) {
    if (s->n == s->cap) {
        if (s->n >= LM_YAML_MAX_ENTRIES) return lm_fail(s->ctx, LM_E_RANGE, "%s:%d: more than %d values", s->name, line, (int)LM_YAML_MAX_ENTRIES);
        int cap = s->cap ? s->cap * 2 : 64;
        lm_yaml_entry *v = lm_realloc(s->ctx, LM_MEM_MISC, s->v, (size_t)cap * sizeof *v);
        if (!v) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory for %d values", s->name, cap);
        s->v = v; s->cap = cap;
    }
    bool null = !quoted && kind <= LM_YAML_ITEM &&
                (!*value || !strcmp(value, "~") || !strcmp(value, "null") || !strcmp(value, "Null") || !strcmp(value, "NULL"));
    s->v[s->n++] = (lm_yaml_entry){ key, value, line, kind, quoted, null };
    return LM_OK;
}
static lm_err push_name(state *s, size_t at, const char *name, size_t n, int line) {
    size_t dot = at ? 1 : 0;
    if (n > LM_YAML_MAX_KEY || at + dot + n > LM_YAML_MAX_KEY)
        return lm_fail(s->ctx, LM_E_RANGE, "%s:%d: a key under \"%.*s\" is longer than %d bytes", s->name, line, (int)(at < 60 ? at : 60),
                       s->path, (int)LM_YAML_MAX_KEY);
    if (dot) s->path[at] = '.';
    memcpy(s->path + at + dot, name, n);
    s->path[at + dot + n] = 0;
    return LM_OK;
}
/* A value (scalar, or a container that opens) arrives in the innermost open container: check it fits there and set the path to it. */
static lm_err place(state *s, path_kind kind, int line) {
    if (!s->depth) return LM_OK;
    frame *f = &s->stack[s->depth - 1];
    if (f->is_map) { f->have_key = false; return LM_OK; }
    path_kind as = kind == PATH_SCALAR ? PATH_SCALAR : PATH_MAP;
    s->path[f->len] = 0;
    if (f->items && f->items != as)
        return lm_fail(s->ctx, LM_E_CONFIG, "%s:%d: the list \"%s\" mixes plain values with maps or lists", s->name, line, s->path);
    f->items = as;
    if (as == PATH_MAP) {
        char num[16]; int n = snprintf(num, sizeof num, "%d", f->n);
        LM_TRY(push_name(s, f->len, num, (size_t)n, line));
    }
    f->n++;
    return LM_OK;
}
static lm_err open_container(state *s, bool is_map, int line) {
    if (s->depth == LM_YAML_MAX_DEPTH) return lm_fail(s->ctx, LM_E_RANGE, "%s:%d: nested deeper than %d", s->name, line, (int)LM_YAML_MAX_DEPTH);
    if (!s->depth && !is_map) return lm_fail(s->ctx, LM_E_FORMAT, "%s:%d: the file is a list; it must be a map of keys", s->name, line);
    LM_TRY(place(s, is_map ? PATH_MAP : PATH_LIST, line));
    if (s->depth) LM_TRY(note(s, is_map ? PATH_MAP : PATH_LIST, line, NULL));
    s->stack[s->depth++] = (frame){ .is_map = is_map, .len = strlen(s->path), .line = line };
    return LM_OK;
}
static lm_err close_container(state *s) {
    frame f = s->stack[--s->depth];
    s->path[f.len] = 0;
    if (f.n || !s->depth) return LM_OK;
    char *copy = lm_arena_strdup(s->a, s->path);
    if (!copy) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory", s->name);
    return add(s, copy, "", f.line, f.is_map ? LM_YAML_EMPTY_MAP : LM_YAML_EMPTY_LIST, false);
}
static lm_err scalar(state *s, const yaml_event_t *e, int line) {
    const char *t = (const char *)e->data.scalar.value; size_t n = e->data.scalar.length;
    if (memchr(t, 0, n)) return lm_fail(s->ctx, LM_E_FORMAT, "%s:%d: a value contains a NUL character", s->name, line);
    if (!s->depth) {      /* an empty file gives one empty scalar: no keys at all */
        if (!n && e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) return LM_OK;
        return lm_fail(s->ctx, LM_E_FORMAT, "%s:%d: the file is a single value; it must be a map of keys", s->name, line);
    }
    frame *f = &s->stack[s->depth - 1];
    if (f->is_map && !f->have_key) {
        if (!n) return lm_fail(s->ctx, LM_E_CONFIG, "%s:%d: an empty key", s->name, line);
        if (!strcmp(t, "<<")) return lm_fail(s->ctx, LM_E_CONFIG, "%s:%d: merge keys (<<) are not accepted", s->name, line);
        s->path[f->len] = 0;
        LM_TRY(push_name(s, f->len, t, n, line));
        f->have_key = true; f->n++;
        return LM_OK;
    }
    bool in_list = !f->is_map, first = in_list && !f->n;
    LM_TRY(place(s, PATH_SCALAR, line));
    const char *key = NULL;
    if (in_list && !first) key = s->v[s->n - 1].key;             /* the item before it: same list, same key */
    else if (in_list) { if (!(key = lm_arena_strdup(s->a, s->path))) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory", s->name); }
    else LM_TRY(note(s, PATH_SCALAR, line, &key));
    char *copy = lm_arena_strdup(s->a, t);
    if (!copy) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory", s->name);
    return add(s, key, copy, line, in_list ? LM_YAML_ITEM : LM_YAML_SCALAR, e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE);
}
static lm_err on_event(state *s, const yaml_event_t *e, int *n_doc) {
    int line = (int)e->start_mark.line + 1;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (e->type) {
    case YAML_SCALAR_EVENT: anchor = e->data.scalar.anchor; tag = e->data.scalar.tag; break;
    case YAML_MAPPING_START_EVENT: anchor = e->data.mapping_start.anchor; tag = e->data.mapping_start.tag; break;
    case YAML_SEQUENCE_START_EVENT: anchor = e->data.sequence_start.anchor; tag = e->data.sequence_start.tag; break;
    case YAML_ALIAS_EVENT: return lm_fail(s->ctx, LM_E_CONFIG, "%s:%d: aliases (*name) are not accepted: write the value out", s->name, line);
    case YAML_DOCUMENT_START_EVENT:
        if ((*n_doc)++) return lm_fail(s->ctx, LM_E_CONFIG, "%s:%d: a second document (---); one file is one document", s->name, line);
        return LM_OK;
    case YAML_MAPPING_END_EVENT: case YAML_SEQUENCE_END_EVENT: return close_container(s);
    default: return LM_OK;
    }
    if (anchor) return lm_fail(s->ctx, LM_E_CONFIG, "%s:%d: anchors (&name) are not accepted: write the value out", s->name, line);
    if (tag) return lm_fail(s->ctx, LM_E_CONFIG, "%s:%d: tags (!name) are not accepted", s->name, line);
    if (e->type == YAML_SCALAR_EVENT) return scalar(s, e, line);
    if (s->depth && s->stack[s->depth - 1].is_map && !s->stack[s->depth - 1].have_key)
        return lm_fail(s->ctx, LM_E_CONFIG, "%s:%d: a map or list cannot be a key", s->name, line);
    return open_container(s, e->type == YAML_MAPPING_START_EVENT, line);
}
/* "a: 1" beside "a.b: 2" */
static lm_err check_prefixes(state *s) {
    for (size_t i = 0; i < s->cap_set; i++) {
        const char *p = s->set[i].path;
        if (!p) continue;
        for (const char *dot = strchr(p, '.'); dot; dot = strchr(dot + 1, '.')) {
            path_rec *r = set_slot(s, p, (size_t)(dot - p));
            if (r->path && r->kind == PATH_SCALAR)
                return lm_fail(s->ctx, LM_E_CONFIG, "%s:%d: \"%s\" is set here, but \"%s\" is a plain value (line %d)", s->name,
                               s->set[i].line, p, r->path, r->line);
        }
    }
    return LM_OK;
}
static const char *tab_hint(const char *text, size_t n, size_t line) {       /* libyaml's own sentence does not name the usual cause */
    const char *p = text, *end = text + n;
    for (; line && p < end; p++) line -= *p == '\n';
    while (p < end && *p == ' ') p++;
    return p < end && *p == '\t' ? " (a tab cannot indent YAML: use spaces)" : "";
}
static lm_err run(state *s, yaml_parser_t *p, const char *text, size_t n) {
    int n_doc = 0; yaml_event_t e; bool done = false;
    while (!done) {
        if (!yaml_parser_parse(p, &e)) {
            if (p->error == YAML_MEMORY_ERROR) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory while parsing YAML", s->name);
            if (p->error == YAML_READER_ERROR)
                return lm_fail(s->ctx, LM_E_FORMAT, "%s: byte %zu: %s", s->name, p->problem_offset, p->problem ? p->problem : "unreadable text");
            return lm_fail(s->ctx, LM_E_FORMAT, "%s:%zu:%zu: %s%s%s%s", s->name, p->problem_mark.line + 1, p->problem_mark.column + 1,
                           p->problem ? p->problem : "malformed YAML", p->context ? " " : "", p->context ? p->context : "",
                           tab_hint(text, n, p->problem_mark.line));
        }
        done = e.type == YAML_STREAM_END_EVENT;
        lm_err err = on_event(s, &e, &n_doc);
        yaml_event_delete(&e);
        LM_TRY(err);
    }
    return check_prefixes(s);
}
lm_err lm_yaml_parse(lm_ctx *ctx, lm_arena *a, const char *name, const char *text, size_t n, lm_yaml *out) {
    if (n > LM_YAML_MAX_BYTES) return lm_fail(ctx, LM_E_RANGE, "%s: %zu bytes of YAML, the limit is %d", name, n, (int)LM_YAML_MAX_BYTES);
    if (!lm_utf8_ok(text, n)) return lm_fail(ctx, LM_E_FORMAT, "%s: the file is not UTF-8", name);
    state *s = lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *s);
    if (!s) return lm_fail(ctx, LM_E_NOMEM, "%s: out of memory", name);
    s->ctx = ctx; s->a = a; s->name = name;
    yaml_parser_t p;
    lm_err err = LM_OK;
    if (!yaml_parser_initialize(&p)) err = lm_fail(ctx, LM_E_NOMEM, "%s: out of memory", name);
    if (!err) {
        yaml_parser_set_encoding(&p, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&p, (const unsigned char *)(n ? text : ""), n);
        err = run(s, &p, text, n);
        yaml_parser_delete(&p);
    }
    lm_yaml_entry *v = NULL;
    if (!err && s->n && !(v = lm_arena_alloc(a, (size_t)s->n * sizeof *v))) err = lm_fail(ctx, LM_E_NOMEM, "%s: out of memory", name);
    if (!err) {
        if (s->n) memcpy(v, s->v, (size_t)s->n * sizeof *v);
        *out = (lm_yaml){ v, s->n };
    }
    lm_free(ctx, s->v); lm_free(ctx, s->set); lm_free(ctx, s);
    return err;
}
lm_err lm_yaml_load(lm_ctx *ctx, lm_arena *a, const char *path, lm_yaml *out) {
    char *text; size_t n;
    LM_TRY(lm_file_read_all(ctx, path, LM_YAML_MAX_BYTES, &text, &n));
    lm_err err = lm_yaml_parse(ctx, a, path, text, n, out);
    lm_free(ctx, text);
    return err;
}
lm_err lm_yaml_apply(lm_ctx *ctx, lm_arena *a, const char *name, const lm_yaml *y, const char *prefix, const lm_opt *rows, void *into) {
    size_t n = strlen(prefix);
    for (int i = 0; i < y->n; i++) {
        const lm_yaml_entry *e = &y->v[i];
        if (strncmp(e->key, prefix, n)) continue;
        lm_err err = LM_OK;
        if (e->kind > LM_YAML_ITEM || e->null) {                  /* no text to set, but the key must exist; an empty map may stand for a group */
            const lm_opt *r = e->kind == LM_YAML_EMPTY_MAP ? NULL : lm_opt_find(rows, e->key + n);
            if (e->kind == LM_YAML_EMPTY_LIST && r && r->type == LM_OPT_STRLIST) *(lm_strlist *)((char *)into + r->offset) = (lm_strlist){ 0 };
            else if (e->kind == LM_YAML_EMPTY_LIST || (e->kind != LM_YAML_EMPTY_MAP && !r)) err = lm_opt_set(ctx, a, rows, into, e->key + n, "");
        } else err = lm_opt_set(ctx, a, rows, into, e->key + n, e->value);
        if (err) return lm_fail_in(ctx, err, "%s:%d", name, e->line);
    }
    return LM_OK;
}
const lm_yaml_entry *lm_yaml_find(const lm_yaml *y, const char *key) {
    for (int i = 0; i < y->n; i++)
        if (!strcmp(y->v[i].key, key)) return &y->v[i];
    return NULL;
}
