/* qwen_common.h — the config maps that Qwen2 and Qwen3 share.
 *
 * Lifetime, Threads: as model.h.  Errors: as model.h. */
#ifndef LM_QWEN_COMMON_H
#define LM_QWEN_COMMON_H
#include "model/decoder_common.h"
lm_err lm_qwen_from_hf(const lm_jv *j, int64_t d_head, lm_cfg *c);         /* d_head: where head_dim is not given; 0: d / heads */
lm_err lm_qwen_to_hf(const lm_cfg *c, json_t *o);
lm_err lm_qwen_from_gguf(lm_ctx *ctx, lm_gguf *f, const char *arch, lm_cfg *c);
lm_err lm_qwen_to_gguf(lm_ctx *ctx, const lm_cfg *c, const char *arch, lm_gguf_writer *w);
#endif
