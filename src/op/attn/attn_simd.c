/* attn_simd.c — attention over dense k, v. A tile is one kv head × about 96 or 192 query rows (tokens × the heads of that kv head).
 *
 *   for each run of tokens with one start:  for each key block that any of them sees:
 *       interleave K to [4][D][16] in thread scratch, V to [64][Dp] where it cannot be read in place (once per tile: a few percent of its arithmetic)
 *       for 6 rows at a time: S (registers) -> softmax (L1) -> O += P V (registers); see attn_core.h
 *
 * Nothing is shared between tiles, so there is one phase. Tiles go from the last tokens to the first: causal tiles late in a document are
 * the long ones. */
#include "op/attn/attn_core.h"

static int64_t chunk(const lm_call *c) { const lm_attn_p *p = c->p; return ac_tile_tokens(c->in[0].dim[0], p->n_kv, p->n_head / p->n_kv); }
static int64_t tiles(const lm_call *c) { return lm_ceil_div(c->in[0].dim[0], chunk(c)) * ((const lm_attn_p *)c->p)->n_kv; }
static int64_t max_rows(const lm_call *c) { const lm_attn_p *p = c->p; return chunk(c) * (p->n_head / p->n_kv); }
static size_t thread_bytes(const lm_call *c) {
    const int64_t D = ((const lm_attn_p *)c->p)->d_head;
    return ac_rows_bytes(max_rows(c), D) + (size_t)(AC_BLK * (D + 2 * ac_pad(D))) * 4;
}

static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    const lm_attn_p *p = c->p;
    const int64_t N = c->in[0].dim[0], D = p->d_head, Dp = ac_pad(D), G = p->n_head / p->n_kv, C = chunk(c), n_chunk = lm_ceil_div(N, C);
    const int64_t at = n_chunk - 1 - tile / p->n_kv, kh = tile % p->n_kv, end = lm_min64(N, (at + 1) * C);
    const int64_t qs = lm_row_stride(&c->in[0]), ks = lm_row_stride(&c->in[1]), vs = lm_row_stride(&c->in[2]),
                  os = lm_row_stride(&c->out[0]), ls = lm_row_stride(&c->out[1]);
    const float *q = (const float *)c->in[0].data + kh * G * D, *k = (const float *)c->in[1].data + kh * D,
                *v = (const float *)c->in[2].data + kh * D;
    const int32_t *start = c->in[3].data;
    float *o = (float *)c->out[0].data + kh * G * D, *lse = (float *)c->out[1].data + kh * G;
    const bool bf16 = p->mm == LM_BF16;
    ac_rows t;
    float *kt = (float *)ac_rows_carve(&t, scratch, max_rows(c), D), *kr = kt + AC_BLK * D, *vr = kr + AC_BLK * Dp;
    t.scale = p->scale; t.cap = p->cap;
    for (int64_t a = at * C, b; a < end; a = b) {                     /* tokens [a, b) share a start */
        const int64_t s = lm_attn_start(start[a], a);
        for (b = a + 1; b < end && lm_attn_start(start[b], b) == s; b++) {}
        const int64_t seen = p->both ? lm_attn_end(start, b - 1, N) : b;                  /* keys before it */
        int64_t first = INT64_MAX;
        t.n = (int)((b - a) * G);
        for (int64_t i = a; i < b; i++) {
            int64_t lo = lm_attn_first(s, i, p->window) - s;
            first = lm_min64(first, lo);
            for (int64_t g = 0; g < G; g++) { t.lo[(i - a) * G + g] = lo; t.hi[(i - a) * G + g] = (p->both ? seen : i + 1) - s; }
            for (int64_t g = 0; g < G; g++) ac_pack_rows(t.q + ((i - a) * G + g) * Dp, q + i * qs + g * D, D, 1, D, bf16);
        }
        ac_rows_reset(&t);
        for (int64_t kb = first & ~INT64_C(63); kb < seen - s; kb += AC_BLK) {
            const int64_t j0 = lm_max64(first - kb, 0), j1 = lm_min64(seen - s - kb, AC_BLK);
            if (bf16 || D % 4) { ac_pack_rows(kr + j0 * Dp, k + (s + kb + j0) * ks, ks, j1 - j0, D, bf16); ac_interleave(kt, kr, Dp, D, j0, j1); }
            else ac_interleave(kt, k + (s + kb) * ks, ks, D, j0, j1);
            if (!bf16 && D == Dp) { ac_step(&t, kb, kt, v + (s + kb) * vs, vs); continue; }      /* V rows serve where they lie */
            ac_pack_rows(vr + j0 * Dp, v + (s + kb + j0) * vs, vs, j1 - j0, D, bf16);
            ac_step(&t, kb, kt, vr, Dp);
        }
        for (int r = 0; r < t.n; r++) lse[(a + r / G) * ls + r % G] = ac_finish(&t, r, o + (a + r / G) * os + r % G * D);
    }
    return LM_OK;
}

extern const lm_kernel LM_ISA_NAME(lm_k_attn)[];
const lm_kernel LM_ISA_NAME(lm_k_attn)[] = { { .name = "attn.f32." LM_ISA_STR,
                                               .needs = LM_ISA_NEEDS,
                                               .order = AC_ORDER("attn"),
                                               .accepts = lm_accepts_rows,
                                               .thread_bytes = thread_bytes,
                                               .n_phase = 1,
                                               .phase = { { tiles, run } } },
                                             { 0 } };
