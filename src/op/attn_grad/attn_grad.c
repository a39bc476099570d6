/* attn_grad — with P_ij = exp(scale * q_i·k_j - lse_i), dP_ij = dO_i·v_j, D_i = dO_i·o_i - dlse_i and dS = scale * P * (dP - D), times 1 - tanh²(s / cap) with a cap:
 * dq = dS k, dk = dSᵀ q, dv = Pᵀ dO (FlashAttention-2, Dao 2023, algorithm 2). */
#include <math.h>
#include <string.h>
#include "op/attn_grad/attn_grad.h"
#include "op/rule.h"

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_attn_p *p = c->p;
    LM_TRY(lm_attn_check(ctx, "attn_grad", p));
    int64_t n = c->in[0].dim[0], dq = (int64_t)p->n_head * p->d_head, dkv = (int64_t)p->n_kv * p->d_head;
    for (int i = 0; i < 8; i++) {
        if (i == 3 || (i > 5 && !lm_has(c, i))) continue;
        LM_TRY(lm_want(ctx, c, i, LM_ANY_FLOAT, 2, 2));
        LM_TRY(lm_want_dims(ctx, c, i, LM_DIMS(n, i == 1 || i == 2 ? dkv : i == 5 || i == 7 ? p->n_head : dq)));
    }
    LM_TRY(lm_want(ctx, c, 3, LM_I32, 1, 1));
    LM_TRY(lm_want_dims(ctx, c, 3, LM_DIMS(n)));
    for (int i = 0; i < 3; i++) out[i] = lm_type_like(&c->in[i]);
    return LM_OK;
}

static void ref(const lm_call *c) {
    const lm_attn_p *p = c->p;
    const int64_t N = c->in[0].dim[0], H = p->n_head, Hk = p->n_kv, D = p->d_head;
    const double *q = lm_f64(&c->in[0]), *k = lm_f64(&c->in[1]), *v = lm_f64(&c->in[2]), *o = lm_f64(&c->in[4]), *lse = lm_f64(&c->in[5]);
    const double *go = lm_has(c, 6) ? lm_f64(&c->in[6]) : NULL, *gl = lm_has(c, 7) ? lm_f64(&c->in[7]) : NULL;
    const int32_t *start = c->in[3].data;
    double *dq = lm_f64(&c->out[0]), *dk = lm_f64(&c->out[1]), *dv = lm_f64(&c->out[2]);
    memset(dq, 0, (size_t)(N * H * D) * 8); memset(dk, 0, (size_t)(N * Hk * D) * 8); memset(dv, 0, (size_t)(N * Hk * D) * 8);
    for (int64_t i = 0; i < N; i++) for (int64_t h = 0; h < H; h++) {
        const int64_t at = (i * H + h) * D, kh = h / (H / Hk);
        double di = gl ? -gl[i * H + h] : 0;
        for (int64_t d = 0; go && d < D; d++) di += go[at + d] * o[at + d];
        const int64_t end = p->both ? lm_attn_end(start, i, N) : i + 1;
        for (int64_t j = lm_attn_first(lm_attn_start(start[i], i), i, p->window); j < end; j++) {
            const int64_t jt = (j * Hk + kh) * D;
            double s = 0, dp = 0;
            for (int64_t d = 0; d < D; d++) { s += q[at + d] * k[jt + d]; dp += go ? go[at + d] * v[jt + d] : 0; }
            const double t = p->cap > 0 ? tanh((double)p->scale * s / (double)p->cap) : 0, z = p->cap > 0 ? (double)p->cap * t : (double)p->scale * s;
            double pij = exp(z - lse[i * H + h]), ds = (double)p->scale * pij * (dp - di) * (1 - t * t);
            for (int64_t d = 0; d < D; d++) {
                dq[at + d] += ds * k[jt + d]; dk[jt + d] += ds * q[at + d];
                if (go) dv[jt + d] += pij * go[at + d];
            }
        }
    }
}

static void cost(const lm_call *c, double *flops, double *bytes) {
    const lm_attn_p *p = c->p;
    (void)bytes;
    *flops = 10.0 * lm_attn_pairs(&c->in[3], p) * p->n_head * p->d_head;
}

lm_value *lm_attn_grad(lm_graph *g, lm_value *q, lm_value *k, lm_value *v, lm_value *start, lm_value *o, lm_value *lse, lm_value *go, lm_value *glse,
                       const lm_attn_p *p) {
    return lm_emit(g, &lm_op_attn_grad, p, 8, (lm_value *[]){ q, k, v, start, o, lse, go, glse });
}

#define P(h, hk, d, w, sc, t) &(const lm_attn_p){ h, hk, d, w, sc, t, 0, false }
#define PC(h, hk, d, w, sc, t, cap, both) &(const lm_attn_p){ h, hk, d, w, sc, t, cap, both }
#define F(n, m) { 2, { n, m }, 0, 0, 0, 0, 0 }
/* o and lse are inputs like any other here: random ones test the formula, and lse around 0 keeps P moderate. */
#define IN(n, h, hk, d, doc) { F(n, (h) * (d)), F(n, (hk) * (d)), F(n, (hk) * (d)), { 1, { n }, LM_I32, LM_FILL_START, doc, 0, 0 }, F(n, (h) * (d)), F(n, h), F(n, (h) * (d)) }
#define INL(n, h, hk, d, doc) { F(n, (h) * (d)), F(n, (hk) * (d)), F(n, (hk) * (d)), { 1, { n }, LM_I32, LM_FILL_START, doc, 0, 0 }, F(n, (h) * (d)), F(n, h), F(n, (h) * (d)), F(n, h) }
#define INL0(n, h, hk, d, doc) { F(n, (h) * (d)), F(n, (hk) * (d)), F(n, (hk) * (d)), { 1, { n }, LM_I32, LM_FILL_START, doc, 0, 0 }, F(n, (h) * (d)), F(n, h), { 0 }, F(n, h) }
static const lm_sample samples[] = {
    { "one token", P(1, 1, 16, 0, 0.25f, LM_F32), IN(1, 1, 1, 16, 1), 2e-5, 5e-6, -1 },
    { "two blocks and one key", P(2, 2, 16, 0, 0.25f, LM_F32), IN(129, 2, 2, 16, 129), 2e-5, 5e-6, -1 },
    { "d_head 24, odd documents", P(3, 1, 24, 0, 0.2f, LM_F32), IN(65, 3, 1, 24, 13), 2e-5, 5e-6, -1 },
    { "d_head 2", P(2, 1, 2, 0, 0.7f, LM_F32), IN(19, 2, 1, 2, 7), 2e-5, 5e-6, -1 },
    { "d_head 6, window 1", P(2, 2, 6, 1, 0.4f, LM_F32), IN(21, 2, 2, 6, 21), 2e-5, 5e-6, -1 },
    { "grouped heads 4:2, window 17", P(4, 2, 64, 17, 0.125f, LM_F32), IN(200, 4, 2, 64, 111), 2e-5, 5e-6, -1 },
    { "grouped heads 8:1, window 70, dlse", P(8, 1, 32, 70, 0.17f, LM_F32), INL(150, 8, 1, 32, 150), 2e-5, 5e-6, -1 },
    { "dlse alone", P(2, 1, 16, 0, 0.25f, LM_F32), INL0(40, 2, 1, 16, 30), 2e-5, 5e-6, -1 },
    { "d_head 80", P(2, 2, 80, 0, 0.11f, LM_F32), IN(70, 2, 2, 80, 70), 2e-5, 5e-6, -1 },
    { "d_head 96", P(6, 3, 96, 0, 0.1f, LM_F32), IN(33, 6, 3, 96, 30), 2e-5, 5e-6, -1 },
    { "d_head 128", P(4, 1, 128, 0, 0.0884f, LM_F32), IN(100, 4, 1, 128, 65), 2e-5, 5e-6, -1 },
    { "d_head 256", P(2, 1, 256, 90, 0.0625f, LM_F32), IN(130, 2, 1, 256, 128), 2e-5, 5e-6, -1 },
    { "documents of one token", P(2, 1, 16, 0, 0.25f, LM_F32), IN(9, 2, 1, 16, 1), 2e-5, 5e-6, -1 },
    { "many blocks", P(2, 1, 32, 0, 0.17f, LM_F32), IN(333, 2, 1, 32, 300), 2e-5, 5e-6, -1 },
    { "cap", PC(4, 2, 32, 0, 0.4f, LM_F32, 2.5f, false), IN(150, 4, 2, 32, 70), 2e-5, 5e-6, -1 },
    { "cap, window 17, d_head 24, dlse", PC(3, 1, 24, 17, 0.4f, LM_F32, 1.5f, false), INL(75, 3, 1, 24, 75), 2e-5, 5e-6, -1 },
    { "both ways", PC(2, 2, 32, 0, 0.17f, LM_F32, 0, true), IN(140, 2, 2, 32, 50), 2e-5, 5e-6, -1 },
    { "both ways, many blocks", PC(2, 1, 16, 0, 0.25f, LM_F32, 0, true), IN(333, 2, 1, 16, 333), 2e-5, 5e-6, -1 },
    { "both ways, cap, d_head 6, dlse", PC(2, 1, 6, 0, 0.4f, LM_F32, 2, true), INL(77, 2, 1, 6, 25), 2e-5, 5e-6, -1 },
    { "q, k, v rounded to bf16", P(2, 1, 48, 0, 0.14f, LM_BF16), IN(90, 2, 1, 48, 50), 5e-2, 8e-3, -1 },
    { "bf16, d_head 32, documents", P(4, 2, 32, 0, 0.17f, LM_BF16), IN(150, 4, 2, 32, 40), 1e-1, 1e-2, -1 },
    { "bf16, d_head 64, tiles", P(4, 2, 64, 0, 0.125f, LM_BF16), IN(300, 4, 2, 64, 290), 1e-1, 1e-2, -1 },
    { "bf16, d_head 64, eight heads of one", P(8, 1, 64, 0, 0.125f, LM_BF16), IN(270, 8, 1, 64, 200), 1e-1, 1e-2, -1 },
    { "bf16, d_head 64, window, dlse", P(2, 2, 64, 70, 0.125f, LM_BF16), INL(261, 2, 2, 64, 130), 1e-1, 1e-2, -1 },
    { "bf16, d_head 96", P(3, 1, 96, 0, 0.1f, LM_BF16), IN(140, 3, 1, 96, 100), 1e-1, 1e-2, -1 },
    { "bf16, d_head 128", P(4, 1, 128, 100, 0.0884f, LM_BF16), IN(200, 4, 1, 128, 180), 1e-1, 1e-2, -1 },
    { "bf16, d_head 96, grouped heads, window, dlse", P(4, 2, 96, 70, 0.05f, LM_BF16), INL(261, 4, 2, 96, 130), 1e-1, 1e-2, -1 },
    { "bf16, d_head 96, three blocks, documents", P(2, 2, 96, 0, 0.1f, LM_BF16), IN(333, 2, 2, 96, 100), 1e-1, 1e-2, -1 },
    { "bf16, d_head 96, more blocks than multiprocessors", P(24, 12, 96, 12, 0.1f, LM_BF16), IN(1410, 24, 12, 96, 500), 1e-1, 1e-2, -1 },
    { "bf16, d_head 256, one row", P(2, 1, 256, 0, 0.0625f, LM_BF16), IN(1, 2, 1, 256, 1), 1e-1, 1e-2, -1 },
    { "bf16, d_head 256", P(2, 2, 256, 0, 0.0625f, LM_BF16), IN(300, 2, 2, 256, 290), 1e-1, 1e-2, -1 },
    { "bf16, d_head 256, four heads of one", P(4, 1, 256, 0, 0.0625f, LM_BF16), IN(270, 4, 1, 256, 200), 1e-1, 1e-2, -1 },
    { "bf16, d_head 256, grouped heads, window, dlse", P(4, 2, 256, 70, 0.03f, LM_BF16), INL(261, 4, 2, 256, 130), 1e-1, 1e-2, -1 },
    { "bf16, d_head 256, more blocks than multiprocessors", P(8, 8, 256, 12, 0.0625f, LM_BF16), IN(1410, 8, 8, 256, 500), 1e-1, 1e-2, -1 },
    { 0 } };

extern const lm_kernel lm_k_attn_grad_avx512[], lm_k_attn_grad_avx2[], lm_k_attn_grad_portable[];
LM_CUDA_DECLARE(lm_k_attn_grad_hopper); LM_CUDA_DECLARE(lm_k_attn_grad);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_attn_grad_hopper) LM_CUDA_ROWS(lm_k_attn_grad) lm_k_attn_grad_avx512, lm_k_attn_grad_avx2,
                                            lm_k_attn_grad_portable, NULL };
const lm_op lm_op_attn_grad = {
    .name = "attn_grad",
    .math = "dq = dS k, dk = dS' q, dv = P' dO with P = exp(scale q k' - lse), dS = scale P (dO v' - rowsum(dO o) + dlse)",
    .n_in = 6,
    .n_opt = 2,
    .n_out = 3,
    .params_bytes = sizeof(lm_attn_p),
    .mm_at = 1 + offsetof(lm_attn_p, mm),
    .opaque = 8,
    .shape = shape,
    .ref = ref,
    .cost = cost,
    .kernels = kernels,
    .samples = samples
};
