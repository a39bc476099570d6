/* xent_amx.h — logits of a chunk on AMX, with the statistics of their rows: shared by xent and xent_step; only files *_amx.c include this.
 *
 * Logits lie in tiles of 16x16 floats, [row group of 16][column group of 16], 1 KiB each, so a run of 16 columns of a row is one line and
 * runs are 1 KiB apart. A work item makes LM_XENT_BLOCK columns for some row groups: W's panels are read in place or packed into scratch,
 * and each 32 rows get their block statistics while their logits are in L1 and L2.
 *
 * Lifetime, Threads, Errors: as xent_core.h. */
#ifndef LM_XENT_AMX_H
#define LM_XENT_AMX_H
#include "op/matmul/amx.h"
#include "op/xent/xent_core.h"
typedef struct { lm_xent_stat s; float sum; } lm_xent_part;   /* of a row and block; sum of the logits */
typedef struct {
    const lm_call *c; const lm_xent_p *p;
    /* rows of the chunk; blocks of k, of columns; rows of an item (a multiple of 32), items per column block */
    int64_t row0, N, V, d, nk, n_b, mb, n_m;
    char *x;                                       /* packed A [row group][k][1 KiB] */
    lm_xent_part *part;                            /* [block][row] */
    float *zt;                                     /* [row]: logit of the target */
    float *z;                                      /* logits, or NULL: each item has its own */
} lm_xent_amx;
size_t lm_xent_amx_scratch(const lm_call *c);
int64_t lm_xent_amx_items(const lm_xent_amx *t);
void lm_xent_amx_logits(const lm_xent_amx *t, int64_t i, char *scratch);
static inline int64_t lm_xent_amx_nb(int64_t V) { return lm_ceil_div(V, LM_XENT_BLOCK); }
#endif
