/* q8_vnni.c — integer products with vpdpbusd: what both families share, and the micro-kernels of formats with blocks of 32: per block of k and row of A,
 * 8 instructions for 16 outputs.
 *
 * Many rows take a piece of k at a time, two panels of which stay in the first-level cache while all rows of A pass; six rows are in
 * registers, so that twelve sums hide the instruction's five cycles. A block costs 96 of them and 36 to turn and add what they give. C is kept in
 * scratch between pieces: in place, rows that are a power of two apart would push each other out of the caches. */
#include "op/matmul/q8_vnni.h"
#include "quant/quant_int.h"

typedef struct { __m512i q[8]; __m512 d, m; } block_t;          /* unsigned codes [quad][row][4], scales, minima */
_Static_assert(2 * LM_Q8_K / 32 * sizeof(block_t) <= LM_Q8_PACKED, "a packed piece");
enum { ROWS = LM_Q8_ROWS, FEW = LM_Q8_FEW, LYING = 11 /* rows of blocks of 32, two strips against a piece of a panel that is in the first-level cache */ };

VN_INLINE __m512i flip(__m512i x) { return _mm512_xor_si512(x, _mm512_set1_epi8((char)128)); }
/* Quad i of a panel's block, without sign. Nibbles of quads i and i + 4 share bytes; fifth bits are 32 to a row, four bytes before the nibbles. */
VN_INLINE __m512i code(const lm_q8_kind kind, const char *p, const int i) {
    if (kind == LM_W_Q8_0) return flip(_mm512_loadu_si512(p + 32 + 64 * i));
    const bool five = kind == LM_W_Q5_0 || kind == LM_W_Q5_1;
    p += lm_q8_mins(kind) ? 64 : 32;
    const __m512i x = _mm512_loadu_si512(p + (five ? 64 : 0) + 64 * (i % 4));
    const __m512i v = _mm512_and_si512(i / 4 ? _mm512_srli_epi16(x, 4) : x, _mm512_set1_epi8(15));
    if (kind == LM_W_IQ4_NL) return _mm512_shuffle_epi8(flip(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)lm_q_iq4))), v);
    if (!five) return v;
    const int b = i / 2 * 0x01010101;                              /* that byte of each row, four times */
    const __m512i h = _mm512_shuffle_epi8(_mm512_loadu_si512(p), _mm512_broadcast_i32x4(_mm_setr_epi32(b, b + 0x04040404, b + 0x08080808, b + 0x0c0c0c0c)));
    return _mm512_mask_add_epi8(v, _mm512_test_epi8_mask(h, _mm512_set1_epi32(i % 2 ? (int)0x80402010 : 0x08040201)), v, _mm512_set1_epi8(16));
}
VN_INLINE void pack_kind(const lm_q8_kind kind, const char *p, int64_t step, int64_t blocks, block_t *out) {
    for (; blocks; blocks--, out++, p += step) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) out->q[i] = code(kind, p, i);
        out->d = vn_halves(p);
        if (lm_q8_mins(kind)) out->m = vn_halves(p + 32);
    }
}
#define KINDS(X) X(Q8_0) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(IQ4_NL)
static void pack(const lm_q8 *t, const char *p, int64_t blocks, void *to) {
    switch (t->kind) {
#define CASE(k) case LM_W_##k: pack_kind(LM_W_##k, p, 16 * t->block, blocks, to); break;
    KINDS(CASE)
#undef CASE
    default: break;
    }
}
/* R rows of A, from the first of a strip on, against P panels over `blocks` blocks from b0 on. */
VN_INLINE void rows(const lm_q8 *t, const bool mins, const int R, const int P, int64_t m, int64_t b0, int64_t blocks, const block_t *w, int64_t second,
                    float *c, vn_next *next) {
    __m512 acc[ROWS][2];
    const int64_t at = lm_q8_at(t, m, b0), strip = t->nb * ROWS * 32;
    const int8_t *q = t->q + at * 32; const float *d = t->d + at; const int32_t *start = t->start + at;
    for (int r = 0; r < R; r++) for (int p = 0; p < P; p++) acc[r][p] = _mm512_load_ps(c + r * 32 + p * 16);
    for (int64_t b = 0; b < blocks; b++, w++, q += ROWS * 32, d += ROWS, start += ROWS) {
        const block_t *const p2[2] = { w, (const block_t *)((const char *)w + second) };
        vn_ask(next);
        vn_ask_strip(q + strip);
        __m512i s[ROWS][2];
        for (int r = 0; r < R; r++) for (int p = 0; p < P; p++) s[r][p] = mins ? _mm512_setzero_si512() : _mm512_set1_epi32(start[r]);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            for (int r = 0; r < R; r++) {
                const __m512i x = vn_quad(q + r * 32 + i * 4);
                for (int p = 0; p < P; p++) s[r][p] = _mm512_dpbusd_epi32(s[r][p], p2[p]->q[i], x);
            }
        for (int r = 0; r < R; r++)
            for (int p = 0; p < P; p++) {
                acc[r][p] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_set1_ps(d[r]), p2[p]->d), _mm512_cvtepi32_ps(s[r][p]), acc[r][p]);
                if (mins) acc[r][p] = _mm512_fmadd_ps(p2[p]->m, _mm512_set1_ps(d[r] * (float)start[r]), acc[r][p]);
            }
    }
    for (int r = 0; r < R; r++) for (int p = 0; p < P; p++) _mm512_store_ps(c + r * 32 + p * 16, acc[r][p]);
}
VN_ALL_ROWS(block_t, lm_q8_mins(t->kind))
/* R rows of A, from the first of a strip on, against one panel as it lies. From seven rows on sums are chains enough by themselves. */
VN_INLINE void few(const lm_q8 *t, const lm_q8_kind kind, const int R, const char *p, int64_t m, int64_t b0, int64_t blocks, float *c) {
    const bool mins = lm_q8_mins(kind);
    const int step = kind == LM_W_Q8_0 ? 544 : kind == LM_W_Q4_1 ? 320 : kind == LM_W_Q5_0 ? 352 : kind == LM_W_Q5_1 ? 384 : 288;
    const bool two = R < 7;
    const int64_t at = lm_q8_at(t, m, b0), S = t->strip;
    const int8_t *q = t->q + at * 32; const float *da = t->d + at; const int32_t *start = t->start + at;
    __m512 acc[FEW];
    for (int r = 0; r < R; r++) acc[r] = _mm512_load_ps(c + r * 32);
    for (int64_t b = 0; b < blocks; b++, p += step, q += S * 32, da += S, start += S) {
        const __m512 d = vn_halves(p);
        __m512i s[FEW], e[FEW];                                            /* two chains of a row */
        for (int r = 0; r < R; r++) { s[r] = mins ? _mm512_setzero_si512() : _mm512_set1_epi32(start[r]); e[r] = _mm512_setzero_si512(); }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const __m512i w0 = code(kind, p, i), w1 = code(kind, p, i + 4);
            for (int l = 2 * i; l < 2 * i + 2 && l * 64 < step; l++) vn_ahead(p, l);
            if (!two) {
                for (int r = 0; r < R; r++) s[r] = _mm512_dpbusd_epi32(s[r], w0, vn_quad(q + r * 32 + 4 * i));
                for (int r = 0; r < R; r++) s[r] = _mm512_dpbusd_epi32(s[r], w1, vn_quad(q + r * 32 + 4 * i + 16));
            } else
                for (int r = 0; r < R; r++) {
                    s[r] = _mm512_dpbusd_epi32(s[r], w0, vn_quad(q + r * 32 + 4 * i));
                    e[r] = _mm512_dpbusd_epi32(e[r], w1, vn_quad(q + r * 32 + 4 * i + 16));
                }
        }
        if (step > 512) vn_ahead(p, 8);
        for (int r = 0; r < R; r++) {
            acc[r] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_set1_ps(da[r]), d), _mm512_cvtepi32_ps(two ? _mm512_add_epi32(s[r], e[r]) : s[r]), acc[r]);
            if (mins) acc[r] = _mm512_fmadd_ps(vn_halves(p + 32), _mm512_set1_ps(da[r] * (float)start[r]), acc[r]);
        }
    }
    for (int r = 0; r < R; r++) _mm512_store_ps(c + r * 32, acc[r]);
}
VN_INLINE void few_kind(const lm_q8 *t, const lm_q8_kind kind, int R, const char *p, int64_t m, int64_t b0, int64_t blocks, float *c) {
#define EACH(r) few(t, kind, r, p, m, b0, blocks, c)
    VN_BY_ROWS(R, EACH)
#undef EACH
}
static void few_rows(const lm_q8 *t, const char *p, int64_t m, int R, int64_t b0, int64_t blocks, float *c) {
    switch (t->kind) {
#define CASE(k) case LM_W_##k: few_kind(t, LM_W_##k, R, p, m, b0, blocks, c); break;
    KINDS(CASE)
#undef CASE
    default: break;
    }
}
static const lm_q8_vnni lm_q8_vnni_32 = { .packed = sizeof(block_t), .asks = 1, .pack = pack, .rows = many, .few = few_rows };

/* ---- A --------------------------------------------------------------------------------------------------------------------------------- */
/* lm_q8_row_run, sixteen numbers at a time; the same codes. */
VN_INLINE void quantize(const lm_q8 *t, int weights, const int n, const float *x, int64_t to) {       /* n: unit / 16 */
    const __m512 inf = _mm512_set1_ps(__builtin_inff());
    int8_t *q = t->q + to * n * 16;
    __m512 most = _mm512_abs_ps(_mm512_loadu_ps(x));
    __mmask16 finite = _mm512_cmp_ps_mask(most, inf, _CMP_LT_OQ);
#pragma GCC unroll 16
    for (int i = 1; i < n; i++) {
        const __m512 a = _mm512_abs_ps(_mm512_loadu_ps(x + 16 * i));
        finite &= _mm512_cmp_ps_mask(a, inf, _CMP_LT_OQ);
        most = _mm512_max_ps(most, a);
    }
    if (finite != 0xffff) {
        t->d[to] = __builtin_nanf("");
        for (int i = 0; i < weights; i++) memset(t[i].start + to * lm_q8_starts(t), 0, n > 2 ? LM_Q8_STARTS * 4 : 4);
        memset(q, 0, (size_t)n * 16);
        return;
    }
    const float top = _mm512_reduce_max_ps(most);
    const __m512 scale = _mm512_set1_ps(top > 0 ? 127.0f / top : 0);
    t->d[to] = top / 127.0f;
    if (n == 2) {
        const __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), scale)), b = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), scale));
        _mm_storeu_si128((__m128i *)q, _mm512_cvtepi32_epi8(a)); _mm_storeu_si128((__m128i *)(q + 16), _mm512_cvtepi32_epi8(b));
        lm_q8_start_all(t, weights, (const int32_t[]){ _mm512_reduce_add_epi32(_mm512_add_epi32(a, b)), 0 }, to);
        return;
    }
    int32_t sum[16];
#pragma GCC unroll 4
    for (int i = 0; i < n; i += 4) {                           /* sums of sixteen codes are lanes of 128 bits */
        for (int k = i; k < i + 4; k++)
            _mm_storeu_si128((__m128i *)(q + 16 * k), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16 * k), scale))));
        __m512i v = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), _mm512_loadu_si512(q + 16 * i));
        v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_CDAB));
        v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_BADC));
        _mm_storeu_si128((__m128i *)(sum + i), _mm512_castsi512_si128(_mm512_maskz_compress_epi32(0x1111, v)));
    }
    lm_q8_start_all(t, weights, sum, to);
}
static void quantize_rows(const lm_q8_work *w, int64_t m0, int64_t m1) {
    const lm_q8 t = w->t[0];
    for (int64_t m = m0; m < m1; m++) {
        const float *x = (const float *)t.a + m * t.a_rs;
        int64_t to = lm_q8_at(&t, m, 0);
        if (t.unit == 32) for (int64_t b = 0; b < t.nb; b++, x += 32, to += t.strip) quantize(w->t, w->n, 2, x, to);
        else for (int64_t b = 0; b < t.nb; b++, x += 256, to += t.strip) quantize(w->t, w->n, 16, x, to);
    }
}

/* ---- a tile -------------------------------------------------------------------------------------------------------------------------- */
/* scratch: A's codes if there are few rows, two packed panels of a piece, C of the tile's rows and 32 columns, a piece of a turned panel */
static size_t scratch_bytes(const lm_call *c) { return lm_q8_own(c) + LM_Q8_PACKED + LM_Q8_MB * 128 + LM_Q8_TURNED; }
/* The piece after this one: further on in the same panels, or where the next two begin, which with few rows may be another item's. */
static vn_next next_piece(const lm_q8 *t, const lm_q8_vnni *f, int64_t rows, int64_t n, int64_t n1, int64_t b) {
    vn_next x = { .lines = 0 };
    const int64_t piece = LM_Q8_K / t->unit;
    if (!t->panels) return x;
    if (b == t->nb) { b = 0; n += 32; }
    if (n >= (t->M <= LM_Q8_MID ? t->N : n1)) return x;
    x.p[0] = lm_q8_panel(t, n, b); x.p[1] = n + 16 < t->N ? lm_q8_panel(t, n + 16, b) : x.p[0];
    x.lines = lm_ceil_div(lm_min64(piece, t->nb - b) * 16 * t->block, 64);
    x.per = lm_ceil_div(x.lines, lm_ceil_div(rows, ROWS) * piece * f->asks);
    return x;
}
static lm_err tile(const lm_call *call, int64_t i, void *scratch, const lm_q8_vnni *f) {
    int64_t m0, m1, n0, n1;
    const lm_q8 *t = lm_q8_tile(call, i, scratch, &m0, &m1, &n0, &n1);
    char *w = (char *)scratch + t->own, *turned = w + LM_Q8_PACKED + LM_Q8_MB * 128;
    float *acc = (float *)(w + LM_Q8_PACKED);
    const int64_t piece = LM_Q8_K / t->unit, second = piece * f->packed;
    const bool lying = t->M <= FEW || (t->panels && t->unit == 32 && t->M <= LYING);
    for (int64_t n = n0; n < n1; n += 32) {
        const int64_t cols = lm_min64(32, n1 - n);
        const int P = cols > 16 ? 2 : 1;
        const uint32_t mask = cols == 32 ? 0xffffffffu : (1u << cols) - 1;
        const __mmask16 in[2] = { (__mmask16)mask, (__mmask16)(mask >> 16) };
        float bias[32] = { 0 };
        for (int64_t j = 0; j < cols && t->bias; j++) bias[j] = lm_q8_bias(t, n + j);
        for (int64_t m = m0; m < m1; m++)
            for (int p = 0; p < P; p++)
                _mm512_store_ps(acc + (m - m0) * 32 + p * 16, t->acc ? _mm512_maskz_loadu_ps(in[p], t->c + m * t->c_rs + n + p * 16) : _mm512_setzero_ps());
        for (int64_t b = 0, blocks; b < t->nb; b += blocks) {
            blocks = t->panels && t->M <= FEW ? t->nb : lm_min64(piece, t->nb - b);
            for (int p = 0; p < P; p++) {
                const char *panel = turned;
                if (t->panels) panel = lm_q8_panel(t, n + p * 16, b); else vn_turn(t, n + p * 16, lm_min64(16, cols - p * 16), b, blocks, turned);
                if (lying) for (int64_t m = 0; m < t->M; m += t->strip) f->few(t, panel, m, (int)lm_min64(t->strip, t->M - m), b, blocks, acc + m * 32 + p * 16);
                else f->pack(t, panel, blocks, w + p * second);
            }
            if (lying) continue;
            vn_next next = next_piece(t, f, m1 - m0, n, n1, b + blocks);
            f->rows(t, P, m0, m1, b, blocks, w, second, acc, &next);
        }
        for (int64_t m = m0; m < m1; m++)
            for (int p = 0; p < P; p++) {
                const __m512 v = _mm512_load_ps(acc + (m - m0) * 32 + p * 16);
                _mm512_mask_storeu_ps(t->c + m * t->c_rs + n + p * 16, in[p], t->bias ? _mm512_add_ps(v, _mm512_loadu_ps(bias + p * 16)) : v);
            }
    }
    return LM_OK;
}
static lm_err row_tile(const lm_call *c, int64_t i, void *scratch) { (void)scratch; lm_q8_row_tile(c, i, quantize_rows); return LM_OK; }
static lm_err begin(const lm_call *c, void *scratch) { lm_q8_begin(c, scratch, quantize_rows); return LM_OK; }
static lm_err walk_32(const lm_call *c, int64_t i, void *scratch) { return tile(c, i, scratch, &lm_q8_vnni_32); }
static lm_err walk_256(const lm_call *c, int64_t i, void *scratch) { return tile(c, i, scratch, &lm_qk_vnni); }
static lm_err run_32(const lm_call *c, int64_t i, void *scratch) { begin(c, scratch); return walk_32(c, i, scratch); }
static lm_err run_256(const lm_call *c, int64_t i, void *scratch) { begin(c, scratch); return walk_256(c, i, scratch); }
#define KERNEL(id, ord, takes, f) { .name = id, .needs = LM_CPU_AVX2 | LM_CPU_AVX512 | LM_CPU_AVX512_VNNI, .order = ord, .accepts = takes, \
    .shared_bytes = lm_q8_shared, .thread_bytes = scratch_bytes, .n_phase = 2, \
    .phase = { { lm_q8_row_tiles, row_tile }, { lm_q8_tiles, run_##f, lm_q8_reads, begin, walk_##f } } }
const lm_kernel lm_k_matmul_q8_vnni[] = { KERNEL("matmul.q8.vnni", "q8.k32", lm_q8_accepts, 32),
                                          KERNEL("matmul.qk.vnni", "q8.k256", lm_qk_accepts, 256),
                                          { 0 } };
const lm_kernel lm_k_matmul_each_q8_vnni[] = { KERNEL("matmul_each.q8.vnni", "q8.k32", lm_q8_accepts, 32),
                                               KERNEL("matmul_each.qk.vnni", "q8.k256", lm_qk_accepts, 256),
                                               { 0 } };
