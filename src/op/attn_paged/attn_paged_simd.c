/* attn_paged_simd.c — decode and prefill over pages. A tile is some consecutive rows × one kv head (or a part of its query heads).
 *
 * Runs of rows with the same sequence walk its pages together: a page is read once for all of them and for all query heads of the tile. f32 pages are
 * used where they lie (they have the packed form already); 16-bit ones, those to be rounded, and widths that are no multiple of 16 pass through scratch.
 * Tile bounds come from N and the head counts alone; small calls are cut finer, down to single rows and four query heads, so that one token can use many
 * threads. Rows of one sequence (guesses that are checked, the last piece of a prompt) are then joined again: the tile of the first one of a group does
 * the group, those of the others find nothing to do. How many rows make a group looks at the number of threads, as nothing else may; bits do not depend on
 * the cut. Few rows read pages as they lie and ask for the next one meanwhile: a page is read once per tile, the floor is the bandwidth of memory. */
#include "op/attn/attn_core.h"
#include "op/attn_paged/attn_paged.h"
#include "op/attn_paged/paged_few.h"
#include "op/attn_sinks/weights.h"

typedef struct { int64_t tokens, group, heads, n_chunk, n_part; } cut;     /* rows of a tile, of a group; parts of one kv head's query heads */
enum { GROUP_MOST = 16 /* rows */, LYING_MOST = 4 * AC_MR /* rows times query heads that read pages as they lie */ };
static cut cut_of(const lm_call *c) {
    const lm_attn_p *p = c->p;
    const int64_t N = c->in[0].dim[0], G = p->n_head / p->n_kv, most = ac_tile_tokens(N, p->n_kv, G);
    cut k = { .tokens = lm_max64(1, lm_min64(most, lm_ceil_div(N * p->n_kv, 64))), .heads = G };
    k.n_chunk = lm_ceil_div(N, k.tokens);
    while (k.heads > 4 && k.n_chunk * p->n_kv * lm_ceil_div(G, k.heads) < 16) k.heads = lm_ceil_div(k.heads, 2);
    k.n_part = lm_ceil_div(G, k.heads);
    /* two tiles with work for each thread, if there are so many, of equal groups */
    const int64_t groups = lm_max64(1, lm_min64(2 * lm_ctx_threads(c->ctx), 16) / (p->n_kv * k.n_part));
    const int64_t wanted = lm_min64(lm_max64(lm_ceil_div(N, groups), lm_ceil_div(AC_MR, k.heads)), lm_min64(GROUP_MOST, most));
    k.group = lm_max64(1, lm_min64(lm_ceil_div(k.n_chunk, lm_max64(1, lm_ceil_div(N, wanted))), most / k.tokens)) * k.tokens;
    return k;
}
static int64_t tiles(const lm_call *c) { cut k = cut_of(c); return k.n_chunk * k.n_part * ((const lm_attn_p *)c->p)->n_kv; }
/* for any N up to capacity */
static int64_t max_rows(const lm_call *c) {
    const lm_attn_p *p = c->p;
    int64_t G = p->n_head / p->n_kv;
    return ac_tile_tokens(c->in[0].dim[0], p->n_kv, G) * G;
}
static size_t int_bytes(const lm_call *c) {                            /* codes of the rows, scales of a page's values */
    const int64_t D = ((const lm_attn_p *)c->p)->d_head, n = max_rows(c);
    return c->in[1].dtype == LM_QUANT ? (size_t)(lm_round_up(n * D, 64) + n * (D / 32) * 8 + AC_BLK * (D / 32) * 4) : 0;
}
static size_t thread_bytes(const lm_call *c) {
    const int64_t D = ((const lm_attn_p *)c->p)->d_head;
    return ac_rows_bytes(max_rows(c), D) + (size_t)(AC_BLK * (D + ac_pad(D))) * 4 + int_bytes(c);
}
static bool rows_and_ids(const lm_call *c) {
    for (int i = 3; i < 6; i++) if (!lm_is_contig(&c->in[i])) return false;
    if (lm_has(c, 6) && !lm_is_f32_vec(&c->in[6])) return false;
    for (int i = 0; i < 2; i++) {
        const lm_tensor *x = i ? &c->out[0] : &c->in[0];
        if (x->dtype != LM_F32 || x->layout != LM_PLAIN || !lm_rows_fold(x)) return false;
    }
    return true;
}
static bool accepts(const lm_call *c) {
    for (int i = 1; i < 3; i++)
        if ((c->in[i].dtype != LM_F32 && c->in[i].dtype != LM_BF16 && c->in[i].dtype != LM_F16) || c->in[i].dtype != c->in[1].dtype || !lm_is_contig(&c->in[i]))
            return false;
    return rows_and_ids(c);
}
static bool accepts_blocks(const lm_call *c) { return lm_kv_blocks(&c->in[1], &c->in[2]) && rows_and_ids(c); }
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

/* A page as it lies. `v`: its values in f32, where they were widened. */
typedef struct { ac_page pg; pi_values x; lm_pi_keys k; const float *v; } as_it_lies;
static void int_scores(const ac_page *pg, const ac_rows *t, int r, int n, int g0, int g1) { pi_ints(&((const as_it_lies *)pg)->k, r, n, g0, g1, t->s); }
static void float_scores(const ac_page *pg, const ac_rows *t, int r, int n, int g0, int g1) {
    const lm_pi_keys *k = &((const as_it_lies *)pg)->k;
    pi_nt(k->kind, n, g0, g1, t->q + r * t->Dp, t->Dp, k->keys, k->next, t->D, t->scale, t->s);
}
static void lying_values(const ac_page *pg, int n, const float *p, const int *lo, const int *hi, int least, int from, int to, int most, float *o, int64_t ldo) {
    const as_it_lies *a = (const as_it_lies *)pg;
    if (a->v) ac_pv(n, (int)(ldo / AC_V), p, a->v, ldo, lo, hi, least, from, to, most, o, ldo);
    else pi_pv(&a->x, n, p, lo, hi, least, from, to, most, o, ldo);
}

static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    const lm_attn_p *p = c->p;
    const cut k = cut_of(c);
    const int64_t N = c->in[0].dim[0], D = p->d_head, Dp = ac_pad(D), G = p->n_head / p->n_kv, per = c->in[3].dim[1];
    const int64_t part = tile % k.n_part, rest = tile / k.n_part;
    const bool joined = k.group > k.tokens;                                /* then those that read the same pages are neighbours */
    const int64_t kh = joined ? rest / k.n_chunk : rest % p->n_kv, at = joined ? rest % k.n_chunk : k.n_chunk - 1 - rest / p->n_kv;
    const int64_t h0 = kh * G + part * k.heads, nh = lm_min64(k.heads, G - part * k.heads), end = lm_min64(N, (at + 1) * k.tokens);
    const int64_t qs = lm_row_stride(&c->in[0]), os = lm_row_stride(&c->out[0]);
    const float *q = (const float *)c->in[0].data + h0 * D;
    float *o = (float *)c->out[0].data + h0 * D;
    const int32_t *table = c->in[3].data, *seq = c->in[4].data, *pos = c->in[5].data;
    const float *sinks = lm_has(c, 6) ? c->in[6].data : NULL;
    const bool round = p->mm == LM_BF16;
    const lm_dtype kv = (lm_dtype)c->in[1].dtype;
    const bool direct = kv == LM_F32 && !round && D == Dp, blocks = kv == LM_QUANT;
    const bool lying = (kv == LM_BF16 || !round) && D % 32 == 0;
    const lm_pi_kind kind = !blocks ? kv == LM_F32 ? LM_PI_F32 : kv == LM_F16 ? LM_PI_F16 : LM_PI_BF16 : c->in[1].quant->gguf_id == LM_KV_Q8_0 ? LM_PI_Q8_0 : LM_PI_Q4_0;
    const int64_t bytes = blocks ? AC_BLK * D / 32 * c->in[1].quant->comp[0].block_bytes : AC_BLK * D * (int64_t)lm_dtype_size(kv);     /* of a kv head's page */
    ac_rows t;
    float *kt = (float *)ac_rows_carve(&t, scratch, max_rows(c), D), *vr = kt + AC_BLK * D;
    t.scale = p->scale; t.cap = p->cap;
    lm_pi_codes codes = { D, D / 32, (int8_t *)(vr + AC_BLK * Dp), NULL, NULL };
    codes.d = (float *)(codes.q + lm_round_up(max_rows(c) * D, 64)); codes.start = (int32_t *)(codes.d + max_rows(c) * codes.nb);
    float *const dv = (float *)(codes.start + max_rows(c) * codes.nb);
    as_it_lies page_at = { .pg = { blocks ? int_scores : float_scores, lying_values }, .x = { .kind = kind, .D = D, .d = dv },
                           .k = { .kind = kind, .a = &codes, .scale = p->scale } };
    if (D < Dp) memset(vr, 0, (size_t)(AC_BLK * Dp) * 4);
    for (int64_t a = at * k.tokens, b; a < end; a = b) {               /* rows [a, b) are of one sequence */
        b = a + 1;
        if (a % k.group && seq[a] == seq[a - 1]) continue;             /* an earlier one's */
        for (const int64_t to = lm_min64(N, (a / k.group + 1) * k.group); b < to && seq[b] == seq[a];) b++;
        int64_t first = INT64_MAX, last = -1;
        t.n = (int)((b - a) * nh);
        for (int64_t i = a; i < b; i++) {
            const int64_t lo = pos[i] < 0 ? 0 : lm_attn_first(0, pos[i], p->window), hi = pos[i] < 0 ? 0 : (int64_t)pos[i] + 1;
            if (hi > lo) { first = lm_min64(first, lo); last = lm_max64(last, hi - 1); }
            for (int64_t h = 0; h < nh; h++) {
                t.lo[(i - a) * nh + h] = lo; t.hi[(i - a) * nh + h] = hi;
                ac_pack_rows(t.q + ((i - a) * nh + h) * Dp, q + i * qs + h * D, D, 1, D, round);
                if (blocks) pi_codes(&codes, kind, (i - a) * nh + h, t.q + ((i - a) * nh + h) * Dp);
            }
        }
        ac_rows_reset(&t);
        if (last >= 0 && (seq[a] < 0 || seq[a] >= c->in[3].dim[0] || last / AC_BLK >= per)) return LM_E_RANGE;
        for (int64_t kb = first & ~INT64_C(63); kb <= last; kb += AC_BLK) {
            const int64_t page = table[seq[a] * per + kb / AC_BLK];
            if (page < 0 || page >= c->in[1].dim[0]) return LM_E_RANGE;
            const int64_t base = (page * p->n_kv + kh) * AC_BLK * D;
            if (blocks || (lying && t.n <= LYING_MOST)) {
                const int64_t then = kb + AC_BLK <= last ? table[seq[a] * per + kb / AC_BLK + 1] : page;         /* only asked for, so it may be anything */
                const char *kp = c->in[1].data, *vp = c->in[2].data;
                page_at.k.keys = kp + (page * p->n_kv + kh) * bytes; page_at.x.values = vp + (page * p->n_kv + kh) * bytes;
                page_at.k.next = (const char *)((uintptr_t)kp + (uintptr_t)((then * p->n_kv + kh) * bytes));
                page_at.x.next = (const char *)((uintptr_t)vp + (uintptr_t)((then * p->n_kv + kh) * bytes));
                if (blocks) pi_scales(kind, page_at.x.values, AC_BLK * codes.nb, dv);
                page_at.v = NULL;
                if (blocks && t.n > AC_MR) { pi_widen(kind, page_at.x.values, dv, D, vr); page_at.v = vr; }
                ac_step_of(&t, kb, &page_at.pg);
                continue;
            }
            if (direct) { ac_step(&t, kb, (const float *)c->in[1].data + base, (const float *)c->in[2].data + base, D); continue; }
            widen(kt, c->in[1].data, base, AC_BLK * D, kv, round);
            if (D == Dp) widen(vr, c->in[2].data, base, AC_BLK * D, kv, round);
            else for (int64_t j = 0; j < AC_BLK; j++) widen(vr + j * Dp, c->in[2].data, base + j * D, D, kv, round);
            ac_step(&t, kb, kt, vr, Dp);
        }
        for (int r = 0; r < t.n; r++) {
            float *y = o + (a + r / nh) * os + r % nh * D;
            const float lse = ac_finish(&t, r, y);
            if (sinks) sink_keep(y, D, sink_of(vn_set(lse), vn_set(sinks[h0 + r % nh])).keep);
        }
    }
    return LM_OK;
}

extern const lm_kernel LM_ISA_NAME(lm_k_attn_paged)[];
#if defined(LM_ISA_IS_avx512)
#define INT_NEEDS (LM_ISA_NEEDS | LM_CPU_AVX512_VNNI)
#else
#define INT_NEEDS LM_ISA_NEEDS
#endif
#define KERNEL(id, features, ord, takes) { .name = id LM_ISA_STR, .needs = features, .order = AC_ORDER(ord), .accepts = takes, \
    .thread_bytes = thread_bytes, .n_phase = 1, .phase = { { tiles, run } } }
const lm_kernel LM_ISA_NAME(lm_k_attn_paged)[] = { KERNEL("attn_paged.", LM_ISA_NEEDS, "attn", accepts),
                                                   KERNEL("attn_paged.int.", INT_NEEDS, "attn.int", accepts_blocks), { 0 } };
