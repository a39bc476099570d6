/* json.h — JSON in, through jansson, with limits first and errors that name the place.
 *
 * Text is checked for size and nesting before jansson sees it; duplicate keys, invalid UTF-8, trailing bytes, NaN and integers over 63 bits are
 * refused, so nothing is read in two ways. A value is walked with lm_jv nodes that remember how they were reached: a wrong type or range is
 * reported as "config.json: /rope_scaling/factor: wanted a number of at least 1, got \"x\"". Nodes live on the caller's stack and cost nothing.
 *
 * Lifetime: lm_json_parse gives a reference (lm_json_free); a node borrows its tree, its parent node and its key, so a child must not
 *           be stored over its own parent; strings borrow the tree.
 * Threads:  a tree may be read by many.
 * Errors:   LM_E_FORMAT (not JSON, "file:line:col: …"), LM_E_RANGE (limits, ranges), LM_E_CONFIG (missing, unknown or mistyped key). */
#ifndef LM_JSON_H
#define LM_JSON_H
#include "base/base.h"
#include <jansson.h>
enum { LM_JSON_MAX_DEPTH = 256, LM_JSON_MAX_BYTES = 128 << 20 };
enum { LM_JSON_ALLOW_NUL = 1 };         /* \u0000 inside string values (some tokenizers have it); keys never */
lm_err lm_json_parse(lm_ctx *ctx, const char *name, const char *text, size_t n, unsigned flags, json_t **out);
lm_err lm_json_load(lm_ctx *ctx, const char *path, unsigned flags, json_t **out);
void lm_json_free(json_t *v);           /* NULL is fine */

typedef struct lm_jv {
    lm_ctx *ctx; const char *file;
    const struct lm_jv *up;             /* NULL at the root */
    const char *key; size_t index;      /* how it was reached from up: key, or index when key is NULL */
    json_t *v;                          /* NULL: an optional value that is absent (or null) */
} lm_jv;
typedef enum { LM_JSON_OPT, LM_JSON_NEED } lm_json_mode;
lm_jv lm_json_root(lm_ctx *ctx, const char *file, json_t *v);
/* Fail naming the place: "file: /json/pointer: sentence". */
lm_err lm_json_fail(const lm_jv *at, lm_err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Members of an object. OPT: absent or null gives the default (for obj and arr: child->v NULL). min..max inclusive. */
lm_err lm_json_int(const lm_jv *o, const char *key, lm_json_mode m, int64_t def, int64_t min, int64_t max, int64_t *out);
lm_err lm_json_num(const lm_jv *o, const char *key, lm_json_mode m, double def, double min, double max, double *out);
lm_err lm_json_bool(const lm_jv *o, const char *key, lm_json_mode m, bool def, bool *out);
/* n may be NULL; then NUL inside is refused */
lm_err lm_json_str(const lm_jv *o, const char *key, lm_json_mode m, const char *def, const char **out, size_t *n);
lm_err lm_json_obj(const lm_jv *o, const char *key, lm_json_mode m, lm_jv *child);
lm_err lm_json_arr(const lm_jv *o, const char *key, lm_json_mode m, lm_jv *child);
lm_err lm_json_get(const lm_jv *o, const char *key, lm_json_mode m, lm_jv *child);     /* any type */
/* Every key must be one of names[n]; the nearest one is offered. */
lm_err lm_json_only(const lm_jv *o, const char *const *names, int n);

/* Items of an array, and values already in hand. */
size_t lm_json_len(const lm_jv *arr);                                /* 0 if absent or not an array */
lm_err lm_json_item(const lm_jv *arr, size_t i, lm_jv *child);       /* LM_E_RANGE past the end */
lm_err lm_json_as_int(const lm_jv *v, int64_t min, int64_t max, int64_t *out);
lm_err lm_json_as_num(const lm_jv *v, double min, double max, double *out);
lm_err lm_json_as_bool(const lm_jv *v, bool *out);
lm_err lm_json_as_str(const lm_jv *v, const char **out, size_t *n);
/* An array of integers into dst; *n is what was there; more than cap is an error. Absent optional: *n = 0. */
lm_err lm_json_ints(const lm_jv *o, const char *key, lm_json_mode m, int64_t min, int64_t max, int64_t *dst, int cap, int *n);
#endif
