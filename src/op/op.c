/* op.c — the table of ops, and the questions that are answered from a row alone. */
#include "op/op.h"
#include <string.h>

#define OP(n) extern const lm_op lm_op_##n;
#include "op_list.inc"
#undef OP
const lm_op *const lm_ops[] = {
#define OP(n) &lm_op_##n,
#include "op_list.inc"
#undef OP
    NULL };

const lm_op *lm_op_by_name(const char *name) {
    for (int i = 0; lm_ops[i]; i++) if (!strcmp(lm_ops[i]->name, name)) return lm_ops[i];
    return NULL;
}

lm_type lm_type_make(lm_dtype d, int rank, const int64_t *dim) {
    lm_type t = { .dtype = d, .rank = (int8_t)rank };
    for (int i = 0; i < LM_MAX_RANK; i++) t.dim[i] = i < rank ? dim[i] : 1;
    return t;
}

/* Overlapping alias storage is counted as read and written, which it is. */
static double tensor_bytes(const lm_tensor *t) {
    size_t n = 0;
    if (t->rank == 0 || !lm_storage_bytes((lm_dtype)t->dtype, t->quant, (lm_layout)t->layout, t->rank, t->dim, &n)) return 0;
    return (double)n;
}

void lm_op_cost(const lm_call *c, double *flops, double *bytes) {
    double f = 0, b = 0;
    for (int i = 0; i < c->n_in; i++) if (lm_has(c, i)) b += tensor_bytes(&c->in[i]);
    for (int i = 0; i < c->n_out; i++) { f += (double)lm_numel(&c->out[i]); b += tensor_bytes(&c->out[i]) * (c->acc >> i & 1 ? 2 : 1); }
    if (c->op->cost) c->op->cost(c, &f, &b);
    else if (c->op->view) f = b = 0;
    *flops = f; *bytes = b;
}

static bool plain_ok(const lm_tensor *t) {
    return (t->dtype == LM_F32 || t->dtype == LM_I32) && t->layout == LM_PLAIN && lm_is_contig(t);
}

bool lm_kernel_default_accepts(const lm_call *c) {
    for (int i = 0; i < c->n_in; i++) if (lm_has(c, i) && !plain_ok(&c->in[i])) return false;
    for (int i = 0; i < c->n_out; i++) if (!plain_ok(&c->out[i])) return false;
    return true;
}

const lm_kernel *lm_kernel_choose(const lm_op *op, const lm_call *c, lm_dev_kind dev, uint64_t features) {
    for (int i = 0; op->kernels && op->kernels[i]; i++)
        for (const lm_kernel *k = op->kernels[i]; k->name; k++)
            if (k->device == dev && !(k->needs & ~features) && (k->accepts ? k->accepts(c) : lm_kernel_default_accepts(c))) return k;
    return NULL;
}
