/* step_join_cuda.cu — the join of a decoder's layers, last norm and logits, for one row: step.cuh. */
#include "op/matmul/step.cuh"
extern "C" {
#include "op/attn_paged/attn_paged.h"
#include "op/join.h"
#include "op/kv_write/kv_write.h"
#include "op/matmul/matmul.h"
#include "op/rmsnorm/rmsnorm.h"
#include "op/rope/rope.h"
}
/* calls of a layer, in the pattern's order; then of what follows the last one */
enum { NORM1, Q, K, V, TURN_K, TURN_Q, WRITE, ATTN, O, RES1, NORM2, GATE, UP, GATED, DOWN, RES2, EACH };
enum { NORM, GATHER, LOGITS };
/* x Wᵀ, bf16 both, W without gaps, (rows, cols); stored as bf16 or f32 */
static bool product(const lm_call *c, int64_t rows, int64_t cols, lm_dtype to) {
    const lm_matmul_p *p = static_cast<const lm_matmul_p *>(c->p);
    const lm_tensor *w = &c->in[1];
    return !p->ta && p->tb && !p->fold && p->mm == LM_BF16 && !c->acc && !lm_has(c, 2) && c->in[0].rank == 2 && w->rank == 2 &&
           w->layout == LM_PLAIN && w->dtype == LM_BF16 && lm_is_contig(w) && w->dim[0] == rows && w->dim[1] == cols &&
           c->in[0].dim[1] == cols && c->out[0].dtype == to;
}
static bool norm(const lm_call *c, const lm_rmsnorm_p *as, int64_t d) {
    const lm_rmsnorm_p *p = static_cast<const lm_rmsnorm_p *>(c->p);
    return c->in[0].rank == 2 && c->in[0].dtype == LM_F32 && c->in[1].rank == 1 && c->in[1].dtype == LM_F32 && c->in[1].dim[0] == d &&
           lm_is_contig(&c->in[1]) && p->eps == as->eps && p->offset == as->offset;
}
/* All but addresses and the number of rows; false where the shape is another. */
static bool fill(lm_step_args *s, const lm_call *const *c, int times) {
    const lm_call *const *end = c + EACH * times;
    const lm_attn_p *at = static_cast<const lm_attn_p *>(c[ATTN]->p);
    const lm_rmsnorm_p *n = static_cast<const lm_rmsnorm_p *>(c[NORM1]->p);
    if (times > LM_STEP_LAYERS) return false;
    *s = {};
    s->layers = times;
    s->d = static_cast<int>(c[NORM1]->in[0].dim[1]);
    s->f = static_cast<int>(c[GATE]->in[1].dim[0]);
    s->heads = at->n_head;
    s->kv = at->n_kv;
    s->d_head = at->d_head;
    s->vocab = end[LOGITS]->in[1].dim[0];
    s->eps = n->eps;
    s->offset = n->offset;
    s->scale = at->scale;
    s->per = c[ATTN]->in[3].dim[1];
    s->seqs = c[ATTN]->in[3].dim[0];
    s->pages = c[ATTN]->in[1].dim[0];
    if (!lm_step_sizes(s)) return false;
    const int64_t d = s->d, kv = static_cast<int64_t>(s->kv) * s->d_head;
    for (int l = 0; l < times; l++) {
        const lm_call *const *y = c + EACH * l;
        const lm_attn_p *a = static_cast<const lm_attn_p *>(y[ATTN]->p);
        const lm_kv_write_p *w = static_cast<const lm_kv_write_p *>(y[WRITE]->p);
        if (!norm(y[NORM1], n, d) || !norm(y[NORM2], n, d) || !product(y[Q], d, d, LM_BF16) || !product(y[K], kv, d, LM_BF16) ||
            !product(y[V], kv, d, LM_BF16) || !product(y[O], d, d, LM_BF16) || !product(y[GATE], s->f, d, LM_BF16) ||
            !product(y[UP], s->f, d, LM_BF16) || !product(y[DOWN], d, s->f, LM_BF16))
            return false;
        if (a->n_head != s->heads || a->n_kv != s->kv || a->d_head != s->d_head || a->window || a->cap != 0 || a->both ||
            a->mm != LM_BF16 || a->scale != s->scale || w->n_kv != s->kv || w->d_head != s->d_head)
            return false;
        for (int i = TURN_K; i <= TURN_Q; i++) {
            const lm_rope_p *r = static_cast<const lm_rope_p *>(y[i]->p);
            if (r->d_head != s->d_head || r->rotary != s->d_head || r->interleaved || r->inverse || !lm_cuda_float(&y[i]->in[1]))
                return false;
        }
        for (int i = 0; i < 2; i++)
            if (y[WRITE]->in[i].dtype != LM_BF16 || !lm_is_contig(&y[WRITE]->in[i])) return false;
        for (int i = RES1; i <= RES2; i += RES2 - RES1)
            if (y[i]->in[0].dtype != LM_F32 || y[i]->out[0].dtype != LM_F32 || y[i]->in[0].rank != 2) return false;
        if (!lm_is_contig(&y[ATTN]->in[3]) || y[ATTN]->in[3].dim[1] != s->per) return false;
    }
    return norm(end[NORM], n, d) && product(end[LOGITS], s->vocab, d, LM_F32) && end[LOGITS]->out[0].rank == 2;
}
static size_t shared(const lm_call *const *c, int times) {
    lm_step_args s;
    return fill(&s, c, times) ? lm_step_bytes(&s) : 0;
}
static void places(lm_step_args *s, const lm_call *const *c, int times, void *records) {
    const lm_call *const *end = c + EACH * times;
    s->x = static_cast<const float *>(c[NORM1]->in[0].data);
    s->turn = lm_cv_of(&c[TURN_K]->in[1]);
    s->norm = static_cast<const float *>(end[NORM]->in[1].data);
    s->head = end[LOGITS]->in[1].data;
    s->logits = static_cast<float *>(end[LOGITS]->out[0].data);
    s->row = static_cast<const int32_t *>(end[GATHER]->in[1].data);
    s->table = static_cast<const int32_t *>(c[ATTN]->in[3].data);
    s->seq = static_cast<const int32_t *>(c[ATTN]->in[4].data);
    s->pos = static_cast<const int32_t *>(c[ATTN]->in[5].data);
    s->slot = static_cast<const int32_t *>(c[WRITE]->in[4].data);
    s->fault = c[ATTN]->fault;
    s->records = records;
    for (int l = 0; l < times; l++) {
        const lm_call *const *y = c + EACH * l;
        s->layer[l] = { y[Q]->in[1].data,
                        y[K]->in[1].data,
                        y[V]->in[1].data,
                        y[O]->in[1].data,
                        y[GATE]->in[1].data,
                        y[UP]->in[1].data,
                        y[DOWN]->in[1].data,
                        static_cast<const float *>(y[NORM1]->in[1].data),
                        static_cast<const float *>(y[NORM2]->in[1].data),
                        y[WRITE]->out[0].data,
                        y[WRITE]->out[1].data };
    }
}
/* one row, and nothing that is read before the kernel in front is over is written by the plan */
static bool accepts(const lm_call *const *c, int times) {
    const lm_call *const *end = c + EACH * times;
    lm_step_args s;
    if (lm_has(c[ATTN], 6) || c[NORM1]->in[0].dim[0] != 1 || end[GATHER]->in[1].dim[0] != 1 || !fill(&s, c, times)) return false;
    places(&s, c, times, NULL);
    if ((c[ATTN]->fixed & 0x38) != 0x38 || !(c[WRITE]->fixed >> 4 & 1) || !(end[GATHER]->fixed >> 1 & 1) ||
        !(end[LOGITS]->fixed >> 1 & 1) || !(end[NORM]->fixed >> 1 & 1))
        return false;
    for (int l = 0; l < times; l++)
        for (int i : { NORM1, Q, K, V, O, NORM2, GATE, UP, DOWN })
            if (!(c[EACH * l + i]->fixed >> 1 & 1)) return false;
    return lm_step_takes(c[Q]->dev, &s);
}
static lm_err run(const lm_call *const *c, int times, void *records, void *scratch) {
    lm_step_args s;
    if (!fill(&s, c, times)) return LM_E_INTERNAL;
    places(&s, c, times, records);
    return lm_step_run(&s, LM_CUDA_STREAM(scratch));
}
extern "C" {
extern const lm_join lm_join_step_cuda;
const lm_join lm_join_step_cuda = { "layers, norm, logits of one row",
                                    "y=rmsnorm(x,w); q=matmul(y,a); k=matmul(y,b); v=matmul(y,c); s=rope(k,T); r=rope(q,T); "
                                    "z=kv_write(m,n,s,v,I); o=attn_paged(r,z,u,B,S,P); p=matmul(o,d); "
                                    "e=add(x,p); f=rmsnorm(e,g); h=matmul(f,i); j=matmul(f,l); t=swiglu(h,j); 1=matmul(t,2); 3=add(e,1) | "
                                    "y=rmsnorm(x,w); g=gather(y,i); o=matmul(g,h)",
                                    LM_DEV_CUDA,
                                    LM_CUDA_WGMMA,
                                    1u << WRITE | 1u << (EACH + LOGITS),
                                    NULL,
                                    NULL,
                                    shared,
                                    accepts,
                                    run };
}
