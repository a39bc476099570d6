/* yaml.h — YAML (and so JSON) configuration files as a flat list of (dotted key, text, line).
 *
 *   train:                         train.steps   "100"   line 2
 *     steps: 100                   train.lr      "3e-4"  line 3
 *     lr: 3e-4            ->       files         "a.txt" line 4   (LM_YAML_ITEM)
 *   files: [a.txt, b.txt]          files         "b.txt" line 4   (LM_YAML_ITEM)
 *   mix:                           mix.0.path    "x"     line 6
 *     - {path: x, weight: 2}       mix.0.weight  "2"     line 6
 *
 * The list is what rows of base/option.h want: lm_yaml_apply() hands each pair to lm_opt_set. Values stay text; the row knows the type.
 * What YAML offers beyond that is refused: anchors and aliases (so no bombs), tags, merge keys, several documents, maps as keys, lists that mix
 * scalars with maps, duplicate keys (also "a.b: 1" beside "a: {b: 2}"), NUL characters. Events come from libyaml.
 *
 * Lifetime: the list and its text live in the arena given.
 * Threads:  none shared.
 * Errors:   LM_E_FORMAT "file:line:col: …"; LM_E_CONFIG for duplicates and refused features; LM_E_RANGE for limits. */
#ifndef LM_YAML_H
#define LM_YAML_H
#include "base/base.h"
#include "base/option.h"
enum { LM_YAML_MAX_BYTES = 16 << 20, LM_YAML_MAX_DEPTH = 32, LM_YAML_MAX_KEY = 512, LM_YAML_MAX_ENTRIES = 1 << 20 };
typedef enum { LM_YAML_SCALAR, LM_YAML_ITEM, LM_YAML_EMPTY_LIST, LM_YAML_EMPTY_MAP } lm_yaml_kind;
typedef struct {
    const char *key, *value;            /* value "" for EMPTY kinds */
    int line;                           /* 1-based */
    lm_yaml_kind kind;
    bool quoted;                        /* '…', "…" or a block scalar: never null, never a number by YAML's rules */
    bool null;                          /* plain and empty, ~ or null */
} lm_yaml_entry;
typedef struct { const lm_yaml_entry *v; int n; } lm_yaml;
lm_err lm_yaml_parse(lm_ctx *ctx, lm_arena *a, const char *name, const char *text, size_t n, lm_yaml *out);
lm_err lm_yaml_load(lm_ctx *ctx, lm_arena *a, const char *path, lm_yaml *out);
/* Set rows from the entries under prefix ("train." or ""; it is cut off). Entries outside it are left alone. null leaves the default.
 * Errors get "file:line: " in front. */
lm_err lm_yaml_apply(lm_ctx *ctx, lm_arena *a, const char *name, const lm_yaml *y, const char *prefix, const lm_opt *rows, void *into);
const lm_yaml_entry *lm_yaml_find(const lm_yaml *y, const char *key);      /* the first with this key, or NULL */
#endif
