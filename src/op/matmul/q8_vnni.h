/* q8_vnni.h — what the integer kernels with vpdpbusd share. Include in *_vnni.c files only.
 *
 * Lifetime: per call.  Threads: tiles are independent.  Errors: none. */
#ifndef LM_Q8_VNNI_H
#define LM_Q8_VNNI_H
#include <immintrin.h>
#include <string.h>
#include "op/matmul/q8.h"
#define VN_INLINE static inline __attribute__((always_inline))
/* Bytes of a panel asked for ahead, line by line and in order between the products: all at once they wait for each other, and lines out of order
 * mislead what the hardware asks for by itself. */
enum { LM_Q8_AHEAD = 4608, LM_Q8_PACKED = 22528 /* two packed panels of a piece of k, at most */ };
VN_INLINE void vn_ahead(const char *p, int64_t line) { _mm_prefetch(p + LM_Q8_AHEAD + line * 64, _MM_HINT_T0); }
/* What the next piece reads, asked for into the second-level cache between the products of this one: with few rows of A, reading takes as long as they do,
 * and packing by itself would wait for memory while nothing is multiplied. */
typedef struct { const char *p[2]; int64_t lines, per; } vn_next;        /* lines of each panel still to ask for; how many at a time */
VN_INLINE void vn_ask(vn_next *x) {
    for (int64_t i = 0; i < x->per && x->lines > 0; i++, x->lines--) {
        _mm_prefetch(x->p[0], _MM_HINT_T1); _mm_prefetch(x->p[1], _MM_HINT_T1);
        x->p[0] += 64; x->p[1] += 64;
    }
}
/* Three lines of the next strip's codes, into the second-level cache: a piece of a strip is a few kilobytes, which end before what the hardware asks for by
 * itself has caught up. */
VN_INLINE void vn_ask_strip(const int8_t *q) { for (int i = 0; i < 192; i += 64) _mm_prefetch((const char *)q + i, _MM_HINT_T1); }
/* The micro-kernels of a family. `acc` is C as [row][32 columns]; a panel is sixteen rows of weights from some block on. */
typedef struct {
    int64_t packed;                                        /* bytes of a packed block of a panel */
    int64_t asks;                                          /* how often `rows` asks in a block */
    void (*pack)(const lm_q8 *t, const char *panel, int64_t blocks, void *out);
    /* Rows [m, m1) of A, whole strips from m on, times P packed panels; the second one lies `second` bytes further. */
    void (*rows)(const lm_q8 *t, int P, int64_t m, int64_t m1, int64_t b0, int64_t blocks, const void *w, int64_t second, float *acc,
                 vn_next *next);
    void (*few)(const lm_q8 *t, const char *panel, int64_t m, int R, int64_t b0, int64_t blocks, float *acc);      /* R rows of a strip that begins with m */
} lm_q8_vnni;
extern const lm_q8_vnni lm_qk_vnni;
/* F(r) with the number of rows known when this is compiled: they stay in registers */
#define VN_BY_ROWS(R, F) switch (R) { case 1: F(1); break; case 2: F(2); break; case 3: F(3); break; case 4: F(4); break; case 5: F(5); break; \
    case 6: F(6); break; case 7: F(7); break; default: F(8); break; }
/* many() of a family from its rows(): rows [m, m1) of A in strips, the rest by fours, twos and one; two panels or one; `flag`: which of two kinds of weights
 * rows() is made for, of t. piece_t: a packed block. */
#define VN_ALL_ROWS(piece_t, flag)                                                                                                                  \
    VN_INLINE void all_rows(const lm_q8 *t, const bool kind, const int P, int64_t m, int64_t m1, int64_t b0, int64_t blocks, const piece_t *w,       \
                            int64_t second, float *acc, vn_next *next) {                                                                            \
        for (; m + LM_Q8_ROWS <= m1; m += LM_Q8_ROWS, acc += LM_Q8_ROWS * 32) rows(t, kind, LM_Q8_ROWS, P, m, b0, blocks, w, second, acc, next);     \
        if (m + 4 <= m1) { rows(t, kind, 4, P, m, b0, blocks, w, second, acc, next); m += 4; acc += 4 * 32; }                                       \
        if (m + 2 <= m1) { rows(t, kind, 2, P, m, b0, blocks, w, second, acc, next); m += 2; acc += 2 * 32; }                                       \
        if (m < m1) rows(t, kind, 1, P, m, b0, blocks, w, second, acc, next);                                                                       \
    }                                                                                                                                               \
    static void many(const lm_q8 *t, int P, int64_t m, int64_t m1, int64_t b0, int64_t blocks, const void *w, int64_t second, float *acc,           \
                     vn_next *next) {                                                                                                               \
        const bool kind = (flag);                                                                                                                   \
        if (kind && P == 2) all_rows(t, true, 2, m, m1, b0, blocks, w, second, acc, next);                                                          \
        else if (kind) all_rows(t, true, 1, m, m1, b0, blocks, w, second, acc, next);                                                               \
        else if (P == 2) all_rows(t, false, 2, m, m1, b0, blocks, w, second, acc, next);                                                            \
        else all_rows(t, false, 1, m, m1, b0, blocks, w, second, acc, next);                                                                        \
    }
/* lm_q8_turn, four groups of four bytes of all sixteen rows at a time; the last four may overlap those before. Gathers take twice as long. The sixteen rows
 * behind these lie behind them in one piece: as much of it is asked for as is read of these. */
VN_INLINE void vn_turn(const lm_q8 *t, int64_t n0, int64_t n, int64_t b0, int64_t blocks, char *out) {
    if (n < 16) { lm_q8_turn(t, n0, n, b0, blocks, out); return; }
    const int64_t groups = (t->block - 2 * t->halves) / 4, lines = lm_ceil_div(16 * t->block, 64), row = t->nb * t->block;
    const char *x = lm_q8_row(t, n0, b0), *next = lm_q8_row(t, n0 + 16, 0) + 16 * t->block * b0;
    for (; blocks; blocks--, x += t->block) {
        for (int64_t i = 0; i < lines; i++, next += 64) _mm_prefetch(next, _MM_HINT_T1);
        for (int h = 0; h < t->halves; h++, out += 32)
            for (int j = 0; j < 16; j++) memcpy(out + 2 * j, x + j * row + (h < t->head ? 2 * h : t->block - 2 * (t->halves - h)), 2);
        for (int64_t g = 0; g < groups; g += 4) {
            const int64_t at = 4 * lm_min64(g, groups - 4);
            const char *y = x + 2 * t->head + at;
            __m512i r[4], d[4];
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {                              /* lanes: rows j, j + 4, j + 8, j + 12 */
                r[j] = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(y + j * row)));
                r[j] = _mm512_inserti32x4(r[j], _mm_loadu_si128((const __m128i *)(y + (j + 4) * row)), 1);
                r[j] = _mm512_inserti32x4(r[j], _mm_loadu_si128((const __m128i *)(y + (j + 8) * row)), 2);
                r[j] = _mm512_inserti32x4(r[j], _mm_loadu_si128((const __m128i *)(y + (j + 12) * row)), 3);
            }
            for (int j = 0; j < 4; j += 2) { d[j] = _mm512_unpacklo_epi32(r[j], r[j + 1]); d[j + 1] = _mm512_unpackhi_epi32(r[j], r[j + 1]); }
            char *o = out + 16 * at;
            _mm512_storeu_si512(o, _mm512_unpacklo_epi64(d[0], d[2])); _mm512_storeu_si512(o + 64, _mm512_unpackhi_epi64(d[0], d[2]));
            _mm512_storeu_si512(o + 128, _mm512_unpacklo_epi64(d[1], d[3])); _mm512_storeu_si512(o + 192, _mm512_unpackhi_epi64(d[1], d[3]));
        }
        out += 64 * groups;
    }
}
VN_INLINE __m512i vn_quad(const int8_t *q) { int32_t x; memcpy(&x, q, 4); return _mm512_set1_epi32(x); }
VN_INLINE __m512 vn_halves(const char *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
#endif
