/* cmd_plan_fit.h — what to change so that a run or a model fits into memory: kinds of change, each tried by dry plans and priced.
 *
 * Kinds are ordered by what they give up: nothing but time first, then other numbers, then what is learnt or seen, then more machines. Of
 * each kind the fastest choice that fits is kept; the first kind that has one is the cheapest change.
 *
 * Lifetime: text in the arena given.  Threads: the main one.  Errors: as planning. */
#ifndef LM_CMD_PLAN_FIT_H
#define LM_CMD_PLAN_FIT_H
#include "cmd/cmd_plan.h"
/* a step's or a written token's; peak and seconds of what does not fit: the least of its kind */
typedef struct { const char *what, *gives_up; bool fits; size_t peak; double seconds; } lm_change;
enum { LM_CHANGES = 12 };
typedef struct { lm_change c[LM_CHANGES]; int n, best; } lm_changes;                                 /* best -1: nothing fits */
lm_err lm_fit_train(lm_ctx *ctx, lm_arena *a, const lm_machine *m, const lm_cfg *c, const lm_trainer_opts *o, int64_t accum, size_t base,
                    size_t have, lm_changes *out);
lm_err lm_fit_serve(lm_ctx *ctx, lm_arena *a, const lm_machine *m, const lm_cfg *c, const lm_serve_opts *o, size_t base, size_t have,
                    lm_changes *out);
/* They in lines, the cheapest first, `most` of them; what was tried in vain is told only where nothing fits. per: what
 * `seconds` is of, NULL: no times are said; now: seconds of what does not fit, 0: not known. */
void lm_changes_say(lm_cli *cli, const lm_changes *s, const char *per, double now, int most);
/* After LM_E_NOMEM: what would make it fit the device, or this machine, of these prices, said; the error's sentence stays the context's. */
void lm_no_fit_train(lm_cli *cli, lm_ctx *ctx, const lm_machine *here, const lm_run_event *e);
void lm_no_fit_serve(lm_cli *cli, lm_ctx *ctx, const lm_cfg *c, const lm_serve_opts *o);
#endif
