/* rule.c — the checks of rule.h. */
#include "op/rule.h"
#include "op/sum/sum.h"
#include "op/sum_rows/sum_rows.h"
#include <stdio.h>

static const char *dims_text(int rank, const int64_t *dim, char *buf, size_t n) {
    size_t at = (size_t)snprintf(buf, n, "(");
    for (int i = 0; i < rank && at < n; i++) at += (size_t)snprintf(buf + at, n - at, i ? ", %lld" : "%lld", (long long)dim[i]);
    if (at < n) snprintf(buf + at, n - at, ")");
    return buf;
}
static const char *have(const lm_tensor *t, char *buf, size_t n) {
    int k = snprintf(buf, n, "%s", t->dtype == LM_QUANT && t->quant ? t->quant->name : lm_dtype_name((lm_dtype)t->dtype));
    if (k > 0 && (size_t)k < n) dims_text(t->rank, t->dim, buf + k, n - (size_t)k);
    return buf;
}

lm_err lm_want(lm_ctx *ctx, const lm_call *c, int i, int dtype, int lo, int hi) {
    const lm_tensor *t = &c->in[i];
    bool ok = dtype == LM_ANY_FLOAT ? lm_dtype_is_float((lm_dtype)t->dtype) && t->dtype != LM_QUANT : t->dtype == dtype;
    char b[120];
    if (!ok) return lm_fail(ctx, LM_E_SHAPE, "%s: input %d: got %s, wanted dtype %s", c->op->name, i, have(t, b, sizeof b),
                            dtype == LM_ANY_FLOAT ? "float" : lm_dtype_name((lm_dtype)dtype));
    if (t->rank < lo || t->rank > hi)
        return lm_fail(ctx, LM_E_SHAPE, "%s: input %d: got %s, wanted rank %d to %d", c->op->name, i, have(t, b, sizeof b), lo, hi);
    return LM_OK;
}

lm_err lm_want_dims(lm_ctx *ctx, const lm_call *c, int i, int rank, const int64_t *dim) {
    const lm_tensor *t = &c->in[i];
    bool ok = t->rank == rank;
    for (int k = 0; ok && k < rank; k++) ok = t->dim[k] == dim[k];
    char b[120], w[100];
    return ok ? LM_OK
              : lm_fail(ctx, LM_E_SHAPE, "%s: input %d: got %s, wanted dimensions %s", c->op->name, i, have(t, b, sizeof b),
                        dims_text(rank, dim, w, sizeof w));
}

lm_err lm_want_like(lm_ctx *ctx, const lm_call *c, int i, int j) {
    LM_TRY(lm_want_dims(ctx, c, i, c->in[j].rank, c->in[j].dim));
    char a[120], b[120];
    return c->in[i].dtype == c->in[j].dtype ? LM_OK
                                            : lm_fail(ctx, LM_E_SHAPE, "%s: input %d: got %s, wanted the dtype of input %d, which is %s",
                                                      c->op->name, i, have(&c->in[i], a, sizeof a), j, have(&c->in[j], b, sizeof b));
}

lm_err lm_want_cols(lm_ctx *ctx, const lm_call *c, int i, int j) {
    LM_TRY(lm_want(ctx, c, i, LM_ANY_FLOAT, 1, 1));
    return lm_want_dims(ctx, c, i, LM_DIMS(lm_cols(&c->in[j])));
}

lm_type lm_type_like(const lm_tensor *t) { return lm_type_make((lm_dtype)t->dtype, t->rank, t->dim); }

lm_err lm_shape_like_first(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    for (int i = 1; i < c->n_in; i++) LM_TRY(lm_want_like(ctx, c, i, 0));
    for (int i = 0; i < c->op->n_out; i++) out[i] = lm_type_like(&c->in[0]);
    return LM_OK;
}

static bool ok(const lm_tensor *t, bool rows) {
    if (t->layout != LM_PLAIN) return false;
    if (t->dtype == LM_I32 || t->dtype == LM_I64) return lm_is_contig(t);
    return t->dtype == LM_F32 && (rows ? lm_rows_fold(t) : lm_is_contig(t));
}
static bool all_ok(const lm_call *c, bool rows) {
    for (int i = 0; i < c->n_in; i++) if (lm_has(c, i) && !ok(&c->in[i], rows)) return false;
    for (int i = 0; i < c->n_out; i++) if (!ok(&c->out[i], rows)) return false;
    return true;
}
bool lm_accepts_rows(const lm_call *c) { return all_ok(c, true); }
bool lm_accepts_flat(const lm_call *c) { return all_ok(c, false); }
bool lm_is_f32_vec(const lm_tensor *t) { return t->dtype == LM_F32 && t->layout == LM_PLAIN && lm_is_contig(t); }

lm_err lm_broadcast_shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_tensor *a = &c->in[0], *b = &c->in[1];
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    LM_TRY(lm_want(ctx, c, 1, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    switch (lm_broadcast_of(a, b)) {
    case LM_B_SAME: LM_TRY(lm_want_dims(ctx, c, 1, a->rank, a->dim)); break;
    case LM_B_ROW: LM_TRY(lm_want_cols(ctx, c, 1, 0)); break;
    case LM_B_SCALAR: break;
    }
    out[0] = lm_type_like(a);
    return LM_OK;
}

lm_value *lm_broadcast_fold(lm_graph *g, lm_value *grad, const lm_value *a, const lm_value *b) {
    const lm_type *ta = lm_type_of(a), *tb = lm_type_of(b);
    lm_tensor va = lm_tensor_of(NULL, ta->dtype, ta->rank, ta->dim), vb = lm_tensor_of(NULL, tb->dtype, tb->rank, tb->dim);
    switch (lm_broadcast_of(&va, &vb)) {
    case LM_B_ROW: return lm_sum_rows(g, grad);
    case LM_B_SCALAR: return lm_sum(g, grad);
    default: return grad;
    }
}
