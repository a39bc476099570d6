/* attn_paged.h — attention of new tokens over keys and values that live in pages (op/kv_write), the incremental form of attn.
 *
 * Query row n is at position pos[n] of sequence seq[n] and sees the positions max(0, pos-window+1) .. pos; position x of sequence s is
 * token x % 64 of page table[s][x / 64]. A row with pos < 0 sees nothing and becomes 0. What lies in pages beyond pos is never looked at.
 * Rows are independent: same bits as attn, whatever else is in the batch; where page dtype and params differ (mm F32 over BF16 pages), the
 * keys and values are the rounded ones.
 *
 * Lifetime: values of a graph.  Threads: one builds a graph.
 * Errors:   LM_E_SHAPE from the shape rule; LM_E_RANGE when running if a table, seq or pos entry points outside. */
#ifndef LM_ATTN_PAGED_H
#define LM_ATTN_PAGED_H
#include "op/attn/attn.h"
extern const lm_op lm_op_attn_paged;
/* q (N, n_head*d_head), kpages and vpages (P, n_kv, 64, d_head), table I32 (S, pages per sequence), seq and pos I32 (N) -> o like q. The row also takes sinks (n_head), see attn_sinks.h. */
lm_value *lm_attn_paged(lm_graph *g, lm_value *q, lm_value *kpages, lm_value *vpages, lm_value *table, lm_value *seq, lm_value *pos,
                        const lm_attn_p *p);
#endif
