/* cmd_shipped.h — the models that come with the program: loam-30m, which `loam run` takes when no MODEL is named, and loam-3m, small enough to
 * be in the program itself.
 *
 * A name is looked for, in this order: ../share/loam/models beside an installed program, models/ of the tree it was built from (LM_MODELS), the
 * program's own bytes (only what the build was told to embed, docs/building.md). A file or folder of the user's that has such a name comes
 * first, as any path does.
 *
 * Lifetime: paths live as long as the cli's arena; embedded bytes are given as a memory file that stays open until the process ends.
 * Threads:  the main thread.
 * Errors:   LM_E_NOTFOUND says where was looked. */
#ifndef LM_CMD_SHIPPED_H
#define LM_CMD_SHIPPED_H
#include "cmd/cmd.h"
#define LM_SHIPPED_LARGE "loam-30m"
#define LM_SHIPPED_SMALL "loam-3m"
/* name NULL: the large one, or the small one where only that is there. */
lm_err lm_cmd_shipped(lm_cli *cli, const char *name, const char **path);
/* What the user wrote as MODEL: a shipped name becomes its path, all else stays. NULL: the default. */
lm_err lm_cmd_model_path(lm_cli *cli, const char *model, const char **path);
#endif
