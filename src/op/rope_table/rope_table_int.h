/* rope_table_int.h — shared by the row and its kernels. */
#ifndef LM_ROPE_TABLE_INT_H
#define LM_ROPE_TABLE_INT_H
#include "op/rope_table/rope_table.h"
int64_t lm_rope_table_len(const lm_call *c);      /* longest position + 1, at least 1 */
#endif
