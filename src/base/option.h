/* option.h — options are rows: one table makes command-line flags, --help, YAML keys, the resolved-config file and the docs.
 *
 * A row names a field of a plain struct by offset. lm_opt_defaults() fills the struct, lm_opt_set() assigns one key from text with type and range
 * checked, an unknown key is an error that offers the nearest name. On the command line `--max-tokens 5`, `--max-tokens=5` and, where the command
 * takes overrides, `train.steps=5` all mean the same row; '_' and '-' are equal in names. Strings are copied into the arena given.
 *
 * Lifetime: rows are static const; strings live in the arena.  Threads: none shared.
 * Errors:   LM_E_CONFIG naming the key, what was given and what is wanted. */
#ifndef LM_OPTION_H
#define LM_OPTION_H
#include "base/base.h"
typedef enum { LM_OPT_END, LM_OPT_BOOL, LM_OPT_INT, LM_OPT_FLOAT, LM_OPT_STR, LM_OPT_ENUM, LM_OPT_BYTES, LM_OPT_STRLIST } lm_opt_type;
typedef struct {
    lm_opt_type type;       /* field types: bool, int64_t, double, const char *, int (enum index), int64_t (accepts 2GiB, 512M), lm_strlist */
    const char *name;       /* "max-tokens" or "train.steps" */
    size_t offset;          /* offsetof(struct, field) */
    const char *def;        /* default as text; NULL = 0/false/NULL */
    double min, max;        /* for numbers; both 0 = no limit */
    const char *const *choices;   /* LM_OPT_ENUM: NULL-terminated */
    const char *arg;        /* "N", "FILE"… shown in help; NULL for bool */
    const char *help;
} lm_opt;
typedef struct { const char **v; int n; } lm_strlist;
#define LM_OPT_ROW_END { .type = LM_OPT_END }
lm_err lm_opt_defaults(lm_ctx *ctx, lm_arena *a, const lm_opt *rows, void *into);
lm_err lm_opt_set(lm_ctx *ctx, lm_arena *a, const lm_opt *rows, void *into, const char *key, const char *value);
/* argv[1..]: flags fill `into`; what is not a flag goes to pos (a `key=value` too: the command decides). "--" ends flags.
 * Sets *help when --help is seen. LM_OPT_STRLIST flags may repeat. A bool is --x or --x=false or --no-x. */
lm_err lm_opt_parse(lm_ctx *ctx, lm_arena *a, const lm_opt *rows, void *into, int argc, char **argv, lm_strlist *pos, bool *help);
void lm_opt_help(lm_str *out, const lm_opt *rows);                    /* aligned "  --name ARG   help (default)" lines */
void lm_opt_dump_yaml(lm_str *out, const lm_opt *rows, const void *from);   /* dotted names become nested maps; can be read back */
void lm_opt_dump_json(lm_str *out, const lm_opt *rows, const void *from);
const lm_opt *lm_opt_find(const lm_opt *rows, const char *key);
#endif
