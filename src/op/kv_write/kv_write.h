/* kv_write.h — put the keys and values of new tokens into pages. Both page tensors are written in place.
 *
 * A page holds LM_KV_PAGE = 64 tokens of one sequence. Both pools have the type (P, n_kv, 64, d_head), f32, bf16, f16 (where what is beyond
 * 65504 becomes infinite), or Q8_0 or Q4_0, where d_head is a multiple of 32 and each 32 numbers of a head become a block, with ggml's codes:
 *     values  [page][kv head][token][d]                                   plain; rows of blocks
 *     keys    [page][kv head][token/16][d][token%16]                      sixteen tokens interleaved: one load is one dimension of 16 keys
 *     keys in blocks                                                      LM_PANEL16 (tensor.h) of (P*n_kv*64, d_head): one load is four dimensions of them
 * Row n goes to token slot[n] % 64 of page slot[n] / 64; a slot below 0 is skipped. No two rows of a call may name one slot.
 *
 * Lifetime: values of a graph.  Threads: one builds a graph.  Errors: LM_E_SHAPE from the shape rule; LM_E_RANGE when running if a slot is
 *           outside the pool. */
#ifndef LM_KV_WRITE_H
#define LM_KV_WRITE_H
#include "op/op.h"
enum { LM_KV_Q4_0 = 2, LM_KV_Q8_0 = 8 };                     /* formats of pages in blocks, by their number in GGUF */
typedef struct lm_kv_write_p { int n_kv, d_head; } lm_kv_write_p;
extern const lm_op lm_op_kv_write;
/* Returns the key pages after the write; output 1 is the value pages. k and v are (N, n_kv*d_head), slot I32 (N). */
lm_value *lm_kv_write(lm_graph *g, lm_value *kpages, lm_value *vpages, lm_value *k, lm_value *v, lm_value *slot, const lm_kv_write_p *p);
/* Shape rules: input i is key or value pages, (pages, n_kv, 64, d_head), in a dtype above. */
lm_err lm_kv_want_pages(lm_ctx *ctx, const lm_call *c, int i, int64_t pages, int64_t n_kv, int64_t d_head);
bool lm_kv_blocks(const lm_tensor *keys, const lm_tensor *values);          /* both are contiguous pages in blocks of one format, in their layouts */
/* Element of (token t of a page's kv head, dimension d) inside the 64*d_head elements of that head. */
static inline int64_t lm_kv_key_at(int64_t t, int64_t d, int64_t d_head) { return ((t >> 4) * d_head + d) * 16 + (t & 15); }
#endif
