/* attn_paged_simd.c — decode and prefill over pages. A tile is some consecutive rows × one kv head (or a part of its query heads).
 *
 * Inside a tile, runs of rows with the same sequence walk its pages together: a page is read once for all of them and for all query heads
 * of the tile. f32 pages are used where they lie (they have the packed form already); 16-bit ones, those to be rounded, and widths that are
 * no multiple of 16 pass through scratch. Tile bounds come from N and the head counts alone; small calls are cut finer, down to single
 * rows and four query heads, so that one token can use many threads. Bits do not depend on the cut. Decode reads each page once per tile:
 * its floor is the bandwidth of memory. */
#include "op/attn/attn_core.h"
#include "op/attn_paged/attn_paged.h"

typedef struct { int64_t tokens, heads, n_chunk, n_part; } cut;     /* per tile; parts of one kv head's query heads */
static cut cut_of(const lm_call *c) {
    const lm_attn_p *p = c->p;
    const int64_t N = c->in[0].dim[0], G = p->n_head / p->n_kv;
    cut k = { .tokens = lm_max64(1, lm_min64(ac_tile_tokens(N, p->n_kv, G), lm_ceil_div(N * p->n_kv, 64))), .heads = G };
    k.n_chunk = lm_ceil_div(N, k.tokens);
    while (k.heads > 4 && k.n_chunk * p->n_kv * lm_ceil_div(G, k.heads) < 16) k.heads = lm_ceil_div(k.heads, 2);
    k.n_part = lm_ceil_div(G, k.heads);
    return k;
}
static int64_t tiles(const lm_call *c) { cut k = cut_of(c); return k.n_chunk * k.n_part * ((const lm_attn_p *)c->p)->n_kv; }
/* for any N up to capacity */
static int64_t max_rows(const lm_call *c) {
    const lm_attn_p *p = c->p;
    int64_t G = p->n_head / p->n_kv;
    return ac_tile_tokens(c->in[0].dim[0], p->n_kv, G) * G;
}
static size_t thread_bytes(const lm_call *c) {
    const int64_t D = ((const lm_attn_p *)c->p)->d_head;
    return ac_rows_bytes(max_rows(c), D) + (size_t)(AC_BLK * (D + ac_pad(D))) * 4;
}
static bool accepts(const lm_call *c) {
    for (int i = 1; i < 3; i++)
        if ((c->in[i].dtype != LM_F32 && c->in[i].dtype != LM_BF16 && c->in[i].dtype != LM_F16) || c->in[i].dtype != c->in[1].dtype || !lm_is_contig(&c->in[i]))
            return false;
    for (int i = 3; i < 6; i++) if (!lm_is_contig(&c->in[i])) return false;
    return c->in[0].dtype == LM_F32 && lm_rows_fold(&c->in[0]) && c->out[0].dtype == LM_F32 && lm_rows_fold(&c->out[0]);
}
/* n page numbers to f32, rounded if asked. */
static inline void widen(float *dst, const void *page, int64_t at, int64_t n, lm_dtype from, bool round) {
    int64_t i = 0;
    if (from == LM_F16) {
        const uint16_t *s = (const uint16_t *)page + at;
#if defined(LM_ISA_IS_avx512)
        for (; i + AC_V <= n; i += AC_V) _mm512_storeu_ps(dst + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(s + i))));
#elif defined(LM_ISA_IS_avx2)
        for (; i + 8 <= n; i += 8) _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(s + i))));
#endif
        for (; i < n; i++) dst[i] = lm_f16_to_f32(s[i]);
        if (round) widen(dst, dst, 0, n, LM_F32, true);
        return;
    }
    if (from == LM_BF16) { const uint16_t *s = (const uint16_t *)page + at; for (; i < n; i++) dst[i] = lm_bf16_to_f32(s[i]); return; }
    const float *s = (const float *)page + at;
    for (; i + AC_V <= n; i += AC_V) { v16 v = lm_v_load(s + i); lm_v_store(dst + i, round ? ac_round_bf16(v) : v); }
    if (i < n) { v16 v = lm_v_loadn(s + i, n - i); lm_v_storen(dst + i, round ? ac_round_bf16(v) : v, n - i); }
}

static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    const lm_attn_p *p = c->p;
    const cut k = cut_of(c);
    const int64_t N = c->in[0].dim[0], D = p->d_head, Dp = ac_pad(D), G = p->n_head / p->n_kv, per = c->in[3].dim[1];
    const int64_t part = tile % k.n_part, kh = tile / k.n_part % p->n_kv, at = k.n_chunk - 1 - tile / k.n_part / p->n_kv;
    const int64_t h0 = kh * G + part * k.heads, nh = lm_min64(k.heads, G - part * k.heads), end = lm_min64(N, (at + 1) * k.tokens);
    const int64_t qs = lm_row_stride(&c->in[0]), os = lm_row_stride(&c->out[0]);
    const float *q = (const float *)c->in[0].data + h0 * D;
    float *o = (float *)c->out[0].data + h0 * D;
    const int32_t *table = c->in[3].data, *seq = c->in[4].data, *pos = c->in[5].data;
    const bool round = p->mm == LM_BF16;
    const lm_dtype kv = (lm_dtype)c->in[1].dtype;
    const bool direct = kv == LM_F32 && !round && D == Dp;
    ac_rows t;
    float *kt = (float *)ac_rows_carve(&t, scratch, max_rows(c), D), *vr = kt + AC_BLK * D;
    t.scale = p->scale; t.cap = p->cap;
    if (D < Dp) memset(vr, 0, (size_t)(AC_BLK * Dp) * 4);
    for (int64_t a = at * k.tokens, b; a < end; a = b) {               /* rows [a, b) are of one sequence */
        for (b = a + 1; b < end && seq[b] == seq[a]; b++) {}
        int64_t first = INT64_MAX, last = -1;
        t.n = (int)((b - a) * nh);
        for (int64_t i = a; i < b; i++) {
            const int64_t lo = pos[i] < 0 ? 0 : lm_attn_first(0, pos[i], p->window), hi = pos[i] < 0 ? 0 : (int64_t)pos[i] + 1;
            if (hi > lo) { first = lm_min64(first, lo); last = lm_max64(last, hi - 1); }
            for (int64_t h = 0; h < nh; h++) {
                t.lo[(i - a) * nh + h] = lo; t.hi[(i - a) * nh + h] = hi;
                ac_pack_rows(t.q + ((i - a) * nh + h) * Dp, q + i * qs + h * D, D, 1, D, round);
            }
        }
        ac_rows_reset(&t);
        if (last >= 0 && (seq[a] < 0 || seq[a] >= c->in[3].dim[0] || last / AC_BLK >= per)) return LM_E_RANGE;
        for (int64_t kb = first & ~INT64_C(63); kb <= last; kb += AC_BLK) {
            const int64_t page = table[seq[a] * per + kb / AC_BLK];
            if (page < 0 || page >= c->in[1].dim[0]) return LM_E_RANGE;
            const int64_t base = (page * p->n_kv + kh) * AC_BLK * D;
            if (direct) { ac_step(&t, kb, (const float *)c->in[1].data + base, (const float *)c->in[2].data + base, D); continue; }
            widen(kt, c->in[1].data, base, AC_BLK * D, kv, round);
            if (D == Dp) widen(vr, c->in[2].data, base, AC_BLK * D, kv, round);
            else for (int64_t j = 0; j < AC_BLK; j++) widen(vr + j * Dp, c->in[2].data, base + j * D, D, kv, round);
            ac_step(&t, kb, kt, vr, Dp);
        }
        for (int r = 0; r < t.n; r++) ac_finish(&t, r, o + (a + r / nh) * os + r % nh * D);
    }
    return LM_OK;
}

extern const lm_kernel LM_ISA_NAME(lm_k_attn_paged)[];
const lm_kernel LM_ISA_NAME(lm_k_attn_paged)[] = { { .name = "attn_paged." LM_ISA_STR,
                                                     .needs = LM_ISA_NEEDS,
                                                     .order = AC_ORDER("attn"),
                                                     .accepts = accepts,
                                                     .thread_bytes = thread_bytes,
                                                     .n_phase = 1,
                                                     .phase = { { tiles, run } } },
                                                   { 0 } };
