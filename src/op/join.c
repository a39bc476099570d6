/* join.c — the table of joins. */
#include "op/join.h"
#ifdef LM_CUDA
extern const lm_join lm_join_step_cuda, lm_join_residual_qkv_cuda, lm_join_residual_gated_cuda, lm_join_qkv_cuda, lm_join_gated_cuda, lm_join_residual_cuda,
    lm_join_many_gated_cuda, lm_join_many_turned_cuda, lm_join_head_peak_cuda, lm_join_picked_norm_cuda, lm_join_begin_cuda;
const lm_join *const lm_joins[] = { &lm_join_step_cuda,          &lm_join_residual_qkv_cuda, &lm_join_residual_gated_cuda, &lm_join_qkv_cuda,
                                    &lm_join_gated_cuda,         &lm_join_residual_cuda,     &lm_join_many_gated_cuda,     &lm_join_many_turned_cuda,
                                    &lm_join_head_peak_cuda,     &lm_join_picked_norm_cuda,  &lm_join_begin_cuda,          NULL };
#else
const lm_join *const lm_joins[] = { NULL };
#endif
