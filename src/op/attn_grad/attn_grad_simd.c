/* attn_grad_simd.c — five products per (query block, key block), nothing recomputed twice.
 *
 *   phase 0   tile 0 marks where attention never crosses (component starts); the others make D_i = dO_i·o_i - dlse_i
 *   phase 1   tile = kv head × the components that start in 256 tokens: for each key block (64): K and V packed as rows and key-interleaved;
 *             for each head of the group, for each query block (64) that sees it:
 *                 S = Q Kᵀ, dP = dO Vᵀ (lanes are keys)   P, dS in L1/L2   dQ += dS K, dV += Pᵀ dO, dK += dSᵀ Q (lanes are d)
 *
 * One tile owns all rows that meet each other, so every gradient is one chain of additions in memory order: dq_i over keys ascending; dk_j, dv_j over
 * heads of the group, then queries ascending. dq, dk, dv themselves are the accumulators. Scores are made by the micro-kernel of the forward pass. */
#include "op/attn/attn_core.h"
#include "op/attn_grad/attn_grad.h"
enum { SEG = 256, QB = 64, DROWS = 64 };

static float *shared_d(const lm_call *c) { return c->shared; }
static uint8_t *shared_flag(const lm_call *c) { return (uint8_t *)(shared_d(c) + c->in[0].dim[0] * ((const lm_attn_p *)c->p)->n_head); }
static size_t shared_bytes(const lm_call *c) { return (size_t)c->in[0].dim[0] * ((size_t)((const lm_attn_p *)c->p)->n_head * 4 + 1) + 1; }
static int64_t prep_tiles(const lm_call *c) { return c->in[0].dim[0] ? 1 + lm_ceil_div(c->in[0].dim[0], DROWS) : 0; }

static lm_err prep(const lm_call *c, int64_t tile, void *scratch) {
    const lm_attn_p *p = c->p;
    const int64_t N = c->in[0].dim[0], H = p->n_head, D = p->d_head;
    (void)scratch;
    if (tile == 0) {
        const int32_t *start = c->in[3].data;
        uint8_t *flag = shared_flag(c);
        int64_t least = N;
        flag[N] = 1;
        for (int64_t i = N - 1; i >= 0; i--) { least = lm_min64(least, lm_attn_start(start[i], i)); flag[i] = least >= i; }
        return LM_OK;
    }
    const bool go = lm_has(c, 6), gl = lm_has(c, 7);
    const int64_t os = lm_row_stride(&c->in[4]), gs = go ? lm_row_stride(&c->in[6]) : 0, ls = gl ? lm_row_stride(&c->in[7]) : 0;
    for (int64_t i = (tile - 1) * DROWS, end = lm_min64(N, i + DROWS); i < end; i++)
        for (int64_t h = 0; h < H; h++) {
            float sum = 0;
            if (go) {
                const float *x = (const float *)c->in[6].data + i * gs + h * D, *y = (const float *)c->in[4].data + i * os + h * D;
                vn acc[AC_NW] = {{0}};
                int64_t d = 0;
                for (; d + AC_V <= D; d += AC_V) AC_EACH(w, AC_NW) acc[w] = vn_fma(vn_load(x + d + w * VN), vn_load(y + d + w * VN), acc[w]);
                if (d < D) {
                    float tx[AC_V] = {0}, ty[AC_V] = {0};
                    memcpy(tx, x + d, (size_t)(D - d) * 4); memcpy(ty, y + d, (size_t)(D - d) * 4);
                    AC_EACH(w, AC_NW) acc[w] = vn_fma(vn_load(tx + w * VN), vn_load(ty + w * VN), acc[w]);
                }
                sum = ac_sum(acc);
            }
            shared_d(c)[i * H + h] = gl ? sum - ((const float *)c->in[7].data)[i * ls + h] : sum;
        }
    return LM_OK;
}

static int64_t tiles(const lm_call *c) { return lm_ceil_div(c->in[0].dim[0], SEG) * ((const lm_attn_p *)c->p)->n_kv; }
static size_t thread_bytes(const lm_call *c) {
    const int64_t D = ((const lm_attn_p *)c->p)->d_head, Dp = ac_pad(D);
    return (size_t)(AC_BLK * (2 * D + 4 * Dp) + QB * (3 * Dp + 2 * AC_BLK)) * 4;
}
typedef struct {
    const lm_call *c; const lm_attn_p *p;
    int64_t D, Dp; int nv;
    float *kt, *vt, *kr, *vr, *dk, *dv;          /* the key block: interleaved, as rows, its gradients */
    float *q, *go, *dq, *s, *dp;                 /* the query block */
} work;

/* Calls of memcpy for 256 bytes each would be a fifth of the time where documents are short. */
static inline void copy_row(float *y, const float *x, int64_t D) {
    int64_t d = 0;
    for (; d + AC_V <= D; d += AC_V) lm_v_store(y + d, lm_v_load(x + d));
    if (d < D) memcpy(y + d, x + d, (size_t)(D - d) * 4);
}
static inline void zero_row(float *y, int64_t D) {
    int64_t d = 0;
    for (; d + AC_V <= D; d += AC_V) lm_v_store(y + d, (v16){0});
    if (d < D) memset(y + d, 0, (size_t)(D - d) * 4);
}
static inline void take_rows(float *tmp, const float *src, int64_t stride, int64_t n, int64_t D) {
    for (int64_t i = 0, Dp = ac_pad(D); i < n; i++) copy_row(tmp + i * Dp, src + i * stride, D);
}
static inline void put_rows(float *dst, int64_t stride, const float *tmp, int64_t n, int64_t D) {
    for (int64_t i = 0, Dp = ac_pad(D); i < n; i++) copy_row(dst + i * stride, tmp + i * Dp, D);
}

/* Query rows [a, b) of head h against the key block [j0, j0 + nk), documents starting at s. */
static void block(const work *w, int64_t h, int64_t s, int64_t a, int64_t b, int64_t j0, int64_t nk) {
    const lm_call *c = w->c;
    const int64_t D = w->D, Dp = w->Dp, H = w->p->n_head, qs = lm_row_stride(&c->in[0]), dqs = lm_row_stride(&c->out[0]),
                  ls = lm_row_stride(&c->in[5]);
    const int n = (int)(b - a);
    const bool has_go = lm_has(c, 6), direct = D == Dp;
    const float scale = w->p->scale, cap = w->p->cap, *lse = (const float *)c->in[5].data + h, *di = shared_d(c) + h;
    float *dq = (float *)c->out[0].data + a * dqs + h * D;
    int lo[QB], hi[QB];
    ac_pack_rows(w->q, (const float *)c->in[0].data + a * qs + h * D, qs, n, D, w->p->mm == LM_BF16);
    if (has_go) { int64_t gs = lm_row_stride(&c->in[6]); ac_pack_rows(w->go, (const float *)c->in[6].data + a * gs + h * D, gs, n, D, false); }
    for (int r = 0; r < n; r++) {
        int64_t from = lm_max64(lm_attn_first(s, a + r, w->p->window) - j0, 0), to = w->p->both ? nk : lm_min64(a + r + 1 - j0, nk);
        lo[r] = from > AC_BLK ? AC_BLK : (int)from; hi[r] = (int)to;
    }
    for (int r = 0; r < n; r += AC_MR) {
        const int m = n - r < AC_MR ? n - r : AC_MR;
        int from = AC_BLK, to = 0;
        for (int i = r; i < r + m; i++) if (lo[i] < hi[i]) { if (lo[i] < from) from = lo[i]; if (hi[i] > to) to = hi[i]; }
        if (from >= to) { memset(w->s + r * AC_BLK, 0, (size_t)m * AC_BLK * 4); memset(w->dp + r * AC_BLK, 0, (size_t)m * AC_BLK * 4); continue; }
        const int g0 = from / AC_V, g1 = (to + AC_V - 1) / AC_V;
        ac_nt(m, g0, g1, w->q + r * Dp, Dp, w->kt, D, scale, w->s + r * AC_BLK);
        if (has_go) ac_nt(m, g0, g1, w->go + r * Dp, Dp, w->vt, D, 1.0f, w->dp + r * AC_BLK);
        for (int i = r; i < r + m; i++) {
            float *x = w->s + i * AC_BLK, *y = w->dp + i * AC_BLK;
            const float e = lse[(a + i) * ls], dd = di[(a + i) * H];
            const uint64_t bits = ac_bits(lo[i], hi[i]);
            for (int g = 0; g < AC_BLK; g += VN) {
                if (g < g0 * AC_V || g >= g1 * AC_V) { vn_store(x + g, (vn){0}); vn_store(y + g, (vn){0}); continue; }
                vn sc = vn_load(x + g), dp = has_go ? vn_load(y + g) : (vn){0};
                vn slope = { 0 };
                if (cap > 0) { const vn t = vn_tanh(sc * vn_set(1.0f / cap)); slope = 1.0f - t * t; sc = t * vn_set(cap); }
                if (bits != ~UINT64_C(0)) sc = ac_pick(bits >> g, sc, vn_set(-INFINITY));
                vn pr = ac_exp(sc - e, false), ds = (dp - dd) * scale * pr;
                if (cap > 0) ds *= slope;
                if (bits != ~UINT64_C(0)) ds = ac_pick(bits >> g, ds, (vn){0});             /* dp of keys not seen is anything */
                vn_store(x + g, pr); vn_store(y + g, ds);
            }
        }
        float *acc = direct ? dq + r * dqs : w->dq;
        if (!direct) take_rows(acc, dq + r * dqs, dqs, m, D);
        ac_nn(m, w->nv, w->dp + r * AC_BLK + from, AC_BLK, 1, w->kr + from * Dp, Dp, to - from, acc, direct ? dqs : Dp);
        if (!direct) put_rows(dq + r * dqs, dqs, acc, m, D);
    }
    for (int j = 0; j < (int)nk; j += AC_MR) {
        const int m = (int)nk - j < AC_MR ? (int)nk - j : AC_MR;
        /* hi grows with the row, lo too: the rows that see any of these keys are a range */
        int from = 0, to = n;
        while (from < to && hi[from] <= j) from++;
        while (to > from && lo[to - 1] >= j + m) to--;
        if (from >= to) continue;
        if (has_go) ac_nn(m, w->nv, w->s + from * AC_BLK + j, 1, AC_BLK, w->go + from * Dp, Dp, to - from, w->dv + j * Dp, Dp);
        ac_nn(m, w->nv, w->dp + from * AC_BLK + j, 1, AC_BLK, w->q + from * Dp, Dp, to - from, w->dk + j * Dp, Dp);
    }
}

static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    const lm_attn_p *p = c->p;
    const int64_t N = c->in[0].dim[0], D = p->d_head, Dp = ac_pad(D), G = p->n_head / p->n_kv, kh = tile % p->n_kv, seg = tile / p->n_kv;
    const int64_t ks = lm_row_stride(&c->in[1]), vs = lm_row_stride(&c->in[2]), qo = lm_row_stride(&c->out[0]),
                  ko = lm_row_stride(&c->out[1]), vo = lm_row_stride(&c->out[2]);
    const float *k = (const float *)c->in[1].data + kh * D, *v = (const float *)c->in[2].data + kh * D;
    const int32_t *start = c->in[3].data;
    float *dq = (float *)c->out[0].data + kh * G * D, *dk = (float *)c->out[1].data + kh * D, *dv = (float *)c->out[2].data + kh * D;
    const uint8_t *flag = shared_flag(c);
    const bool bf16 = p->mm == LM_BF16;
    work w = { .c = c, .p = p, .D = D, .Dp = Dp, .nv = (int)(Dp / AC_V) };
    w.kt = scratch;
    w.vt = w.kt + AC_BLK * D;
    w.kr = w.vt + AC_BLK * D;
    w.vr = w.kr + AC_BLK * Dp;
    w.dk = w.vr + AC_BLK * Dp;
    w.dv = w.dk + AC_BLK * Dp;
    w.q = w.dv + AC_BLK * Dp; w.go = w.q + QB * Dp; w.dq = w.go + QB * Dp; w.s = w.dq + QB * Dp; w.dp = w.s + QB * AC_BLK;
    if (D < Dp) memset(w.dk, 0, (size_t)(2 * AC_BLK * Dp) * 4), memset(w.dq, 0, (size_t)(QB * Dp) * 4);   /* pads stay finite */
    for (int64_t ca = seg * SEG, cb; ca < lm_min64(N, (seg + 1) * SEG); ca = cb) {
        for (cb = ca + 1; !flag[cb]; cb++) {}
        if (!flag[ca]) continue;
        for (int64_t i = ca; i < cb; i++) {
            zero_row(dq + i * qo, G * D); zero_row(dk + i * ko, D); zero_row(dv + i * vo, D);
        }
        for (int64_t ra = ca, rb; ra < cb; ra = rb) {                  /* rows [ra, rb) share a start */
            const int64_t s = lm_attn_start(start[ra], ra);
            for (rb = ra + 1; rb < cb && lm_attn_start(start[rb], rb) == s; rb++) {}
            for (int64_t j0 = s + ((lm_attn_first(s, ra, p->window) - s) & ~INT64_C(63)); j0 < rb; j0 += AC_BLK) {
                const int64_t nk = lm_min64(AC_BLK, rb - j0);
                ac_pack_rows(w.kr, k + j0 * ks, ks, nk, D, bf16);
                ac_pack_rows(w.vr, v + j0 * vs, vs, nk, D, bf16);
                ac_interleave(w.kt, w.kr, Dp, D, 0, nk); ac_interleave(w.vt, w.vr, Dp, D, 0, nk);
                take_rows(w.dk, dk + j0 * ko, ko, nk, D); take_rows(w.dv, dv + j0 * vo, vo, nk, D);
                const int64_t last = p->window > 0 ? lm_min64(rb, j0 + nk - 1 + p->window) : rb;      /* rows after it see nothing here */
                for (int64_t h = kh * G; h < (kh + 1) * G; h++)
                    for (int64_t a = p->both ? ra : lm_max64(ra, j0); a < last; a += QB) block(&w, h, s, a, lm_min64(a + QB, last), j0, nk);
                put_rows(dk + j0 * ko, ko, w.dk, nk, D); put_rows(dv + j0 * vo, vo, w.dv, nk, D);
            }
        }
    }
    return LM_OK;
}

extern const lm_kernel LM_ISA_NAME(lm_k_attn_grad)[];
const lm_kernel LM_ISA_NAME(lm_k_attn_grad)[] = { { .name = "attn_grad.f32." LM_ISA_STR,
                                                    .needs = LM_ISA_NEEDS,
                                                    .order = AC_ORDER("attn_grad"),
                                                    .accepts = lm_accepts_rows,
                                                    .shared_bytes = shared_bytes,
                                                    .thread_bytes = thread_bytes,
                                                    .n_phase = 2,
                                                    .phase = { { prep_tiles, prep }, { tiles, run } } },
                                                  { 0 } };
