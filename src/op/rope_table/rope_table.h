/* rope_table.h — cosines and sines of rotary positions (Su et al. 2021), with the context extensions that checkpoints name.
 *
 * Rounding points are those of the Hugging Face implementation, because at position 100000 the rounding of a frequency is a visible angle:
 * frequencies are f32, made by the same f32 steps; angle = pos * freq rounded to f32; cosine and sine of that angle rounded to f32; times
 * the attention factor in f32. DYNAMIC depends on the longest position of the call (seq_len = max(pos) + 1 where it exceeds max_pos); all
 * others on nothing but the row: LONG's choice between its two sets is made once for a plan, by the context, so that keys of one text never
 * mix both.
 *
 * Lifetime: values of a graph.  Threads: pure.  Errors: LM_E_SHAPE from the shape rule (which checks the params). */
#ifndef LM_ROPE_TABLE_H
#define LM_ROPE_TABLE_H
#include "op/op.h"
typedef enum { LM_ROPE_NONE, LM_ROPE_LINEAR, LM_ROPE_DYNAMIC, LM_ROPE_LLAMA3, LM_ROPE_YARN, LM_ROPE_LONG } lm_rope_scaling;
enum { LM_ROPE_MAX_D = 512, LM_ROPE_FACTORS = 128 };
typedef struct lm_rope_table_p {
    int d_head;                              /* rotary dimensions: even, the width of the table */
    lm_rope_scaling scaling;
    double base, factor;                     /* factor: LINEAR, DYNAMIC, LLAMA3, YARN, LONG (the last two: 0 = max_pos / original_max_pos) */
    double low_freq_factor, high_freq_factor;      /* LLAMA3 */
    int64_t original_max_pos;                /* LLAMA3, YARN, LONG */
    int64_t max_pos;                         /* DYNAMIC, YARN, LONG: max_position_embeddings */
    double beta_fast, beta_slow;             /* YARN; 0 = 32 and 1 */
    double mscale, mscale_all_dim;           /* YARN; 0 = not given */
    double attention_factor;                 /* YARN, LONG; 0 = derived */
    int64_t context;                         /* LONG: the longest text that is to be run; beyond original_max_pos the long factors */
    float short_factor[LM_ROPE_FACTORS], long_factor[LM_ROPE_FACTORS];       /* LONG: d_head/2 divisors of the frequencies */
    bool no_truncate;                        /* YARN: the correction range is not rounded to whole dimensions ("truncate": false) */
} lm_rope_table_p;
extern const lm_op lm_op_rope_table;
/* pos I32 (N) -> (N, d_head): [cos(pos * f_0) … cos(pos * f_{d/2-1}), sin …] * attention factor. */
lm_value *lm_rope_table(lm_graph *g, lm_value *pos, const lm_rope_table_p *p);
/* d_head/2 frequencies and the factor that cosines and sines are multiplied with. seq_len matters to DYNAMIC only. p passes the shape
 * rule's checks. */
void lm_rope_inv_freq(const lm_rope_table_p *p, int64_t seq_len, float *inv, float *attn_factor);
#endif
