/* weights_hash.c — one number for all weights that no rank has to gather: a sum, modulo 2^128, over the rows of all parameters.
 *
 *   Σ XXH3-128( key of the parameter's name and shape, XXH3-128 of the row as f32, the row's number )
 *
 * A sum does not ask in which order, so each rank adds up the rows it speaks for and the ranks' sums are added: equal weights have equal hashes on any mesh and
 * any number of ranks. Rows are taken as f32, which is what checkpoints hold, also where a run keeps them in bf16. A vector is one row. */
#include <string.h>
#include "dist/dist.h"
#include "train/train_int.h"

static void add(lm_hash128_t *s, lm_hash128_t h) { s->lo += h.lo; s->hi += h.hi + (s->lo < h.lo); }
static lm_hash128_t key_of(const lm_optim_param *p) {
    struct { lm_hash128_t name; int64_t dim[LM_MAX_RANK]; } k = { .name = lm_hash128(p->name, strlen(p->name)) };
    memcpy(k.dim, p->type.dim, (size_t)p->type.rank * sizeof *k.dim);
    return lm_hash128(&k, sizeof k);
}
static lm_err add_rows(const lm_trainer *t, int i, float *wide, lm_hash128_t *sum) {
    lm_tensor x;
    lm_logical l;
    int64_t from, n;
    const char *name = t->kept[i].name;
    if (!lm_store_get(t->store, name, &x)) return lm_fail(t->ctx, LM_E_NOTFOUND, "%s is not in memory", name);
    lm_mesh_logical(t, name, &x, &l);
    lm_mesh_share(t, &l, &x, i, &from, &n);
    if (x.rank < 2) n = n > 0;                                       /* a vector is one row */
    const int64_t here = x.rank < 2 ? 1 : x.dim[0], cols = here ? lm_numel(&x) / here : 0;
    const size_t bytes = (size_t)cols * lm_dtype_size((lm_dtype)x.dtype);
    struct { lm_hash128_t key, row; int64_t number; } r = { .key = key_of(&t->param[i]) };
    _Static_assert(sizeof r == 40, "no padding: its bytes are hashed");
    for (int64_t k = 0; k < n; k++) {
        const char *p = (const char *)x.data + (size_t)(from + k - (l.part ? l.from : 0)) * bytes;
        if (x.dtype == LM_BF16) { lm_convert(wide, LM_F32, p, LM_BF16, cols); p = (const char *)wide; }
        r.row = lm_hash128(p, (size_t)cols * sizeof(float));
        r.number = from + k;
        add(sum, lm_hash128(&r, sizeof r));
    }
    return LM_OK;
}
lm_err lm_weights_hash(const lm_trainer *t, lm_hash128_t *h) {
    const int ranks = lm_trainer_ranks(t);
    int64_t most = 0;
    for (int i = 0; i < t->n_param; i++) {
        int64_t cols = 1;
        for (int k = t->param[i].type.rank > 1; k < t->param[i].type.rank; k++) cols *= t->param[i].type.dim[k];
        most = lm_max64(most, cols);
    }
    lm_hash128_t mine = { 0 }, *all = lm_alloc(t->ctx, LM_MEM_MISC, (size_t)ranks * sizeof *all);
    float *wide = lm_alloc(t->ctx, LM_MEM_MISC, (size_t)most * sizeof *wide + 1);
    lm_err err = all && wide ? LM_OK : LM_E_NOMEM;
    for (int i = 0; i < t->n_param && !err; i++) err = add_rows(t, i, wide, &mine);
    if (ranks > 1) err = lm_comm_agree(t->o.comm, t->ctx, err, "hashing the weights");
    if (!err && ranks > 1) err = t->o.comm->all_gather(t->o.comm, &mine, sizeof mine, all);
    else if (!err) all[0] = mine;
    *h = (lm_hash128_t){ 0 };
    for (int r = 0; r < ranks && !err; r++) add(h, all[r]);
    lm_free(t->ctx, wide); lm_free(t->ctx, all);
    return err;
}
lm_hash128_t lm_trainer_hash(const lm_trainer *t) {
    lm_hash128_t h = { 0 };
    lm_err err = t->o.dev ? lm_store_pull(t->store) : LM_OK;
    if (lm_trainer_ranks(t) > 1) err = lm_comm_agree(t->o.comm, t->ctx, err, "hashing the weights");
    return !err && !lm_weights_hash(t, &h) ? h : (lm_hash128_t){ 0 };
}
