/* q8_avx2.c — integer products with AVX2: vpmaddubsw of codes without sign and A's. Sums of its pairs stay in 16 bits as long as they fit: a whole group of
 * 32 for four bits, four instructions for five, two for six. Codes of eight bits (Q8_0, IQ4_NL) have |w|, and A takes w's sign. All exact.
 *
 * For many rows a piece of k is unpacked first, and six rows by sixteen outputs are in registers; for a few, codes come from the panel as it
 * lies, eight outputs at a time. */
#include <immintrin.h>
#include <string.h>
#include "op/matmul/q8.h"
#include "quant/quant_int.h"
#define AV_INLINE static inline __attribute__((always_inline))
enum { RM = 6, FEW = 4, AHEAD = 4608 };
typedef struct { __m256i q[8][2]; __m256 d[2], m[2]; } block_t;                              /* [quad][half of the panel] */
typedef struct { __m256i q[64][2]; __m256 d[16][2]; __m256i m[4][2]; __m256 dmin[2]; } super_t;

AV_INLINE __m256i at(const char *p) { return _mm256_loadu_si256((const __m256i *)p); }
AV_INLINE __m256i quad(const int8_t *q) { int32_t x; memcpy(&x, q, 4); return _mm256_set1_epi32(x); }
AV_INLINE __m256 halves(const char *p, int h) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 16 * h))); }
AV_INLINE __m256i and8(__m256i x, int mask) { return _mm256_and_si256(x, _mm256_set1_epi8((char)mask)); }
/* A sum that goes on: without this the compiler makes a tree of the additions, for which there are no registers. */
AV_INLINE __m256i add16(__m256i s, __m256i x) { s = _mm256_add_epi16(s, x); __asm__("" : "+x"(s)); return s; }
AV_INLINE __m256i add32(__m256i s, __m256i x) { s = _mm256_add_epi32(s, x); __asm__("" : "+x"(s)); return s; }
AV_INLINE __m256i pairs(__m256i x) { return _mm256_madd_epi16(x, _mm256_set1_epi16(1)); }
/* ---- codes: quad i of the block, half h of a panel that begins at p ---------------------------------------------------------------- */
AV_INLINE bool is_signed(const lm_q8_kind kind) { return kind == LM_W_Q8_0 || kind == LM_W_IQ4_NL; }
AV_INLINE __m256i code32(const lm_q8_kind kind, const char *p, int i) {
    if (kind == LM_W_Q8_0) return at(p + 32 + 64 * i);
    const bool five = kind == LM_W_Q5_0 || kind == LM_W_Q5_1;
    p += lm_q8_mins(kind) ? 64 : 32;
    const __m256i x = at(p + (five ? 64 : 0) + 64 * (i % 4)), v = and8(i / 4 ? _mm256_srli_epi16(x, 4) : x, 15);
    if (kind == LM_W_IQ4_NL) return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)lm_q_iq4)), v);
    if (!five) return v;
    const int b = i / 2 * 0x01010101;                              /* that byte of each row, four times */
    const __m256i bits = _mm256_set1_epi32(i % 2 ? (int)0x80402010 : 0x08040201);
    const __m256i h = _mm256_shuffle_epi8(at(p), _mm256_broadcastsi128_si256(_mm_setr_epi32(b, b + 0x04040404, b + 0x08080808, b + 0x0c0c0c0c)));
    return _mm256_or_si256(v, and8(_mm256_cmpeq_epi8(_mm256_and_si256(h, bits), bits), 16));
}
AV_INLINE __m256i code(const lm_q8_kind kind, const char *p, int i, int h) {
    p += 32 * h;
    if (kind < LM_W_Q4_K) return code32(kind, p, i);
    if (kind == LM_W_Q6_K) {
        const int half = i / 32, run = i % 32 / 8, k = i % 8;
        const __m256i x = at(p + 32 + (half * 16 + run % 2 * 8 + k) * 64), y = at(p + 32 + 2048 + (half * 8 + k) * 64);
        const __m256i high = run == 0 ? _mm256_slli_epi16(y, 4) : run == 1 ? _mm256_slli_epi16(y, 2) : run == 2 ? y : _mm256_srli_epi16(y, 2);
        return _mm256_or_si256(and8(run / 2 ? _mm256_srli_epi16(x, 4) : x, 15), and8(high, 48));
    }
    const int g = i / 8, k = i % 8;
    const __m256i x = at(p + (kind == LM_W_Q5_K ? 768 : 256) + (g / 2 * 8 + k) * 64), low = and8(g % 2 ? _mm256_srli_epi16(x, 4) : x, 15);
    if (kind == LM_W_Q4_K) return low;
    const __m256i y = at(p + 256 + k * 64);
    return _mm256_or_si256(low, and8(g <= 4 ? _mm256_slli_epi16(y, 4 - g) : _mm256_srli_epi16(y, g - 4), 16));
}
typedef struct { __m256i s[2], m[2]; } mins_t;
AV_INLINE mins_t scale_min(const char *p) {
    const __m256i a = at(p), b = at(p + 64), c = at(p + 128);
    return (mins_t){ { and8(a, 63), _mm256_or_si256(and8(c, 15), and8(_mm256_srli_epi32(a, 2), 48)) },
                     { and8(b, 63), _mm256_or_si256(and8(_mm256_srli_epi32(c, 4), 15), and8(_mm256_srli_epi32(b, 2), 48)) } };
}
AV_INLINE __m256i min_pair(const mins_t *s, int j) {
    return j % 2 ? _mm256_srli_epi16(s->m[j / 2], 8) : _mm256_and_si256(s->m[j / 2], _mm256_set1_epi32(0x00ff00ff));
}
/* scale of group g: byte g % 4 */
AV_INLINE __m256 scale(__m256i x, int g, bool sign, __m256 d) {
    x = _mm256_slli_epi32(x, 24 - g % 4 * 8);
    return _mm256_mul_ps(d, _mm256_cvtepi32_ps(sign ? _mm256_srai_epi32(x, 24) : _mm256_srli_epi32(x, 24)));
}
/* ---- sums of a group: `quads` quads of R rows against HN halves ---------------------------------------------------------------------- */
AV_INLINE int run_of(const lm_q8_kind kind) {
    return is_signed(kind) ? 1 : kind == LM_W_Q6_K ? 2 : kind == LM_W_Q5_K || kind == LM_W_Q5_0 || kind == LM_W_Q5_1 ? 4 : 8;
}
AV_INLINE __m256i product(const lm_q8_kind kind, __m256i w, __m256i x) {
    return is_signed(kind) ? _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)) : _mm256_maddubs_epi16(w, x);
}
/* ---- many rows ------------------------------------------------------------------------------------------------------------------------- */
AV_INLINE void pack32(const lm_q8_kind kind, const char *p, int64_t step, int64_t blocks, block_t *w) {
    for (; blocks; blocks--, p += step, w++)
        for (int h = 0; h < 2; h++) {
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) w->q[i][h] = code(kind, p, i, h);
            w->d[h] = halves(p, h);
            if (lm_q8_mins(kind)) w->m[h] = halves(p + 32, h);
        }
}
AV_INLINE void pack256(const lm_q8_kind kind, const char *p, int64_t step, int64_t blocks, super_t *w) {
    for (; blocks; blocks--, p += step, w++)
        for (int h = 0; h < 2; h++) {
            const __m256 d = halves(p, h);
#pragma GCC unroll 64
            for (int i = 0; i < 64; i++) w->q[i][h] = code(kind, p, i, h);
            if (kind == LM_W_Q6_K) {
                for (int g = 0; g < 16; g++) w->d[g][h] = scale(at(p + 32 + 3072 + g / 4 * 64 + 32 * h), g, true, d);
                continue;
            }
            const mins_t s = scale_min(p + 64 + 32 * h);
            for (int g = 0; g < 8; g++) w->d[g][h] = scale(s.s[g / 4], g, false, d);
            for (int j = 0; j < 4; j++) w->m[j][h] = min_pair(&s, j);
            w->dmin[h] = halves(p + 32, h);
        }
}
/* s[r][h] = sums of `quads` quads from w on (each two halves); x: A's codes there, rows `stride` apart */
AV_INLINE void sums(const lm_q8_kind kind, const int R, const int quads, const __m256i (*w)[2], const int8_t *x, int64_t stride, __m256i (*s)[2]) {
    const int n = run_of(kind);
#pragma GCC unroll 2
    for (int i = 0; i < quads; i += n) {
        __m256i p[RM][2];
#pragma GCC unroll 8
        for (int k = 0; k < n; k++) {
            const __m256i w0 = w[i + k][0], w1 = w[i + k][1];
            for (int r = 0; r < R; r++) {
                const __m256i v = quad(x + r * stride + (i + k) * 4), a = product(kind, w0, v), b = product(kind, w1, v);
                p[r][0] = k ? add16(p[r][0], a) : a; p[r][1] = k ? add16(p[r][1], b) : b;
            }
        }
        for (int r = 0; r < R; r++) for (int h = 0; h < 2; h++) s[r][h] = i ? add32(s[r][h], pairs(p[r][h])) : pairs(p[r][h]);
    }
}
AV_INLINE void rows32(const lm_q8 *t, const lm_q8_kind kind, const int R, int64_t m, int64_t b0, int64_t blocks, const block_t *w, float *acc) {
    int64_t a = lm_q8_at(t, m, b0);
    for (int64_t b = 0; b < blocks; b++, w++, a += t->strip) {
        const int8_t *x = t->q + a * 32;
        __m256i s[RM][2];
        if (is_signed(kind))                                     /* as loops of one quad, so that no sum of 16 bits is kept */
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++)
                for (int r = 0; r < R; r++) {
                    const __m256i v = quad(x + r * 32 + i * 4);
                    for (int h = 0; h < 2; h++) {
                        const __m256i p = pairs(product(kind, w->q[i][h], v));
                        s[r][h] = i ? add32(s[r][h], p) : p;
                    }
                }
        else sums(kind, R, 8, w->q, x, 32, s);
        for (int r = 0; r < R; r++)
            for (int h = 0; h < 2; h++) {
                const bool mins = lm_q8_mins(kind);
                const __m256i v = mins || is_signed(kind) ? s[r][h] : _mm256_add_epi32(s[r][h], _mm256_set1_epi32(t->start[a + r]));
                float *o = acc + r * 16 + h * 8;
                __m256 y = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_set1_ps(t->d[a + r]), w->d[h]), _mm256_cvtepi32_ps(v), _mm256_loadu_ps(o));
                if (mins) y = _mm256_fmadd_ps(w->m[h], _mm256_set1_ps(t->d[a + r] * (float)t->start[a + r]), y);
                _mm256_storeu_ps(o, y);
            }
    }
}
AV_INLINE void rows256(const lm_q8 *t, const lm_q8_kind kind, const int R, int64_t m, int64_t b0, int64_t blocks, const super_t *w, float *acc) {
    const bool six = kind == LM_W_Q6_K;
    const int quads = six ? 4 : 8;
    int64_t a = lm_q8_at(t, m, b0);
    for (int64_t b = 0; b < blocks; b++, w++, a += t->strip) {
        const int32_t *start = t->start + a * LM_Q8_STARTS;
        __m256 sum[RM][2];
        for (int r = 0; r < R; r++) for (int h = 0; h < 2; h++) sum[r][h] = _mm256_setzero_ps();
        for (int g = 0; g < 64 / quads; g++) {
            __m256i s[RM][2];
            sums(kind, R, quads, w->q + g * quads, t->q + a * 256 + g * quads * 4, 256, s);
            for (int r = 0; r < R; r++)
                for (int h = 0; h < 2; h++) {
                    const __m256i v = six ? _mm256_add_epi32(s[r][h], _mm256_set1_epi32(start[r * LM_Q8_STARTS + g])) : s[r][h];
                    sum[r][h] = _mm256_fmadd_ps(w->d[g][h], _mm256_cvtepi32_ps(v), sum[r][h]);
                }
        }
        for (int r = 0; r < R; r++)
            for (int h = 0; h < 2; h++) {
                if (!six) {
                    __m256i u = _mm256_setzero_si256();
                    for (int j = 0; j < 4; j++)
                        u = _mm256_add_epi32(u, _mm256_madd_epi16(w->m[j][h], _mm256_set1_epi32(start[r * LM_Q8_STARTS + j])));
                    sum[r][h] = _mm256_fnmadd_ps(w->dmin[h], _mm256_cvtepi32_ps(u), sum[r][h]);
                }
                float *o = acc + r * 16 + h * 8;
                _mm256_storeu_ps(o, _mm256_fmadd_ps(_mm256_set1_ps(t->d[a + r]), sum[r][h], _mm256_loadu_ps(o)));
            }
    }
}
AV_INLINE void rows(const lm_q8 *t, const lm_q8_kind kind, const int R, int64_t m, int64_t b0, int64_t blocks, const void *w, float *acc) {
    if (kind < LM_W_Q4_K) rows32(t, kind, R, m, b0, blocks, w, acc); else rows256(t, kind, R, m, b0, blocks, w, acc);
}
AV_INLINE void many(const lm_q8 *t, const lm_q8_kind kind, int64_t m, int64_t m1, int64_t b0, int64_t blocks, const void *w, float *acc) {
    for (; m + RM <= m1; m += RM, acc += RM * 16) rows(t, kind, RM, m, b0, blocks, w, acc);
    if (m + 3 <= m1) { rows(t, kind, 3, m, b0, blocks, w, acc); m += 3; acc += 3 * 16; }
    for (; m < m1; m++, acc += 16) rows(t, kind, 1, m, b0, blocks, w, acc);
}
/* ---- few rows: all R, one strip, half of a panel as it lies ---------------------------------------------------------------------------- */
AV_INLINE void few(const lm_q8 *t, const lm_q8_kind kind, const int R, const char *p, int64_t b0, int64_t blocks, float *acc) {
    const bool wide = kind >= LM_W_Q4_K, six = kind == LM_W_Q6_K, mins = wide && !six;
    const int quads = six ? 4 : 8, n = run_of(kind), groups = wide ? 64 / quads : 1,
              lines = six ? 4 : kind == LM_W_Q5_K ? 6 : 5;                        /* of a super-block, asked for with a group of it */
    const int64_t unit = wide ? 256 : 32, step = 16 * t->block;
    for (int64_t b = 0, a = lm_q8_at(t, 0, b0); b < blocks; b++, p += step, a += R) {
        const int32_t *start = t->start + a * (wide ? LM_Q8_STARTS : 1);
        for (int i = 0; i < (wide ? 0 : kind == LM_W_Q8_0 ? 9 : 6); i++) _mm_prefetch(p + AHEAD + 64 * i, _MM_HINT_T0);
        for (int h = 0; h < 2; h++) {
            const __m256 d = halves(p, h);
            mins_t y; if (mins) y = scale_min(p + 64 + 32 * h);
            __m256 sum[FEW];
            for (int r = 0; r < R; r++) sum[r] = _mm256_setzero_ps();
#pragma GCC unroll 16
            for (int g = 0; g < groups; g++) {
                __m256i s[FEW];
                for (int i = g * lines; wide && !h && i < (g + 1) * lines; i++) _mm_prefetch(p + AHEAD + 64 * i, _MM_HINT_T0);
#pragma GCC unroll 8
                for (int i = 0; i < quads; i += n) {
                    __m256i v[FEW];
#pragma GCC unroll 8
                    for (int k = 0; k < n; k++) {
                        const __m256i w = code(kind, p, g * quads + i + k, h);
                        for (int r = 0; r < R; r++) {
                            const __m256i x = product(kind, w, quad(t->q + (a + r) * unit + (g * quads + i + k) * 4));
                            v[r] = k ? add16(v[r], x) : x;
                        }
                    }
                    for (int r = 0; r < R; r++) s[r] = i ? add32(s[r], pairs(v[r])) : pairs(v[r]);
                }
                if (!wide) {
                    for (int r = 0; r < R; r++) {
                        const bool least = lm_q8_mins(kind);
                        const __m256i v = least || is_signed(kind) ? s[r] : _mm256_add_epi32(s[r], _mm256_set1_epi32(start[r]));
                        float *o = acc + r * 16 + h * 8;
                        __m256 f = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_set1_ps(t->d[a + r]), d), _mm256_cvtepi32_ps(v), _mm256_loadu_ps(o));
                        if (least) f = _mm256_fmadd_ps(halves(p + 32, h), _mm256_set1_ps(t->d[a + r] * (float)start[r]), f);
                        _mm256_storeu_ps(o, f);
                    }
                    continue;
                }
                const __m256 dg = six ? scale(at(p + 32 + 3072 + g / 4 * 64 + 32 * h), g, true, d) : scale(y.s[g / 4], g, false, d);
                for (int r = 0; r < R; r++) {
                    const __m256i v = six ? _mm256_add_epi32(s[r], _mm256_set1_epi32(start[r * LM_Q8_STARTS + g])) : s[r];
                    sum[r] = _mm256_fmadd_ps(dg, _mm256_cvtepi32_ps(v), sum[r]);
                }
            }
            if (!wide) continue;
            for (int r = 0; r < R; r++) {
                if (mins) {
                    __m256i u = _mm256_setzero_si256();
                    for (int j = 0; j < 4; j++)
                        u = _mm256_add_epi32(u, _mm256_madd_epi16(min_pair(&y, j), _mm256_set1_epi32(start[r * LM_Q8_STARTS + j])));
                    sum[r] = _mm256_fnmadd_ps(halves(p + 32, h), _mm256_cvtepi32_ps(u), sum[r]);
                }
                float *o = acc + r * 16 + h * 8;
                _mm256_storeu_ps(o, _mm256_fmadd_ps(_mm256_set1_ps(t->d[a + r]), sum[r], _mm256_loadu_ps(o)));
            }
        }
    }
}
AV_INLINE void few_kind(const lm_q8 *t, const lm_q8_kind kind, const char *p, int64_t b0, int64_t blocks, float *acc) {
    if (t->M == 1) few(t, kind, 1, p, b0, blocks, acc);
    else if (t->M == 2) few(t, kind, 2, p, b0, blocks, acc);
    else if (t->M == 3) few(t, kind, 3, p, b0, blocks, acc);
    else few(t, kind, 4, p, b0, blocks, acc);
}
/* ---- A: lm_q8_row_run, eight numbers at a time; the same codes ------------------------------------------------------------------------------ */
AV_INLINE __m256i eight(const float *x, __m256 scale) { return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), scale)); }
AV_INLINE void quantize(const lm_q8 *t, int weights, const int n, const float *x, int64_t to) {           /* n: the unit */
    const __m256 sign = _mm256_set1_ps(-0.0f), inf = _mm256_set1_ps(__builtin_inff());
    int8_t *q = t->q + to * n;
    int32_t sum[16];
    __m256 most = _mm256_setzero_ps(), finite = _mm256_cmp_ps(most, inf, _CMP_LT_OQ);
    for (int i = 0; i < n; i += 8) {
        const __m256 a = _mm256_andnot_ps(sign, _mm256_loadu_ps(x + i));
        finite = _mm256_and_ps(finite, _mm256_cmp_ps(a, inf, _CMP_LT_OQ));
        most = _mm256_max_ps(most, a);
    }
    if (_mm256_movemask_ps(finite) != 255) {
        t->d[to] = __builtin_nanf("");
        for (int i = 0; i < weights; i++) memset(t[i].start + to * lm_q8_starts(t), 0, n > 32 ? LM_Q8_STARTS * 4 : 4);
        memset(q, 0, (size_t)n);
        return;
    }
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    const float top = _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
    const __m256 scale = _mm256_set1_ps(top > 0 ? 127.0f / top : 0);
    t->d[to] = top / 127.0f;
    for (int i = 0; i < n; i += 32) {
        const __m256i a = _mm256_packs_epi32(eight(x + i, scale), eight(x + i + 8, scale)),
                      b = _mm256_packs_epi32(eight(x + i + 16, scale), eight(x + i + 24, scale));
        const __m256i v = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        _mm256_storeu_si256((__m256i *)(q + i), v);
        const __m256i s = _mm256_sad_epu8(_mm256_xor_si256(v, _mm256_set1_epi8((char)128)), _mm256_setzero_si256());      /* eight codes + 128, each */
        const __m256i both = _mm256_add_epi64(s, _mm256_unpackhi_epi64(s, s));
        sum[i / 16] = _mm256_extract_epi32(both, 0) - 2048; sum[i / 16 + 1] = _mm256_extract_epi32(both, 4) - 2048;
    }
    lm_q8_start_all(t, weights, sum, to);
}
static void quantize_rows(const lm_q8_work *w, int64_t m0, int64_t m1) {
    const lm_q8 t = w->t[0];
    for (int64_t m = m0; m < m1; m++) {
        const float *x = (const float *)t.a + m * t.a_rs;
        int64_t to = lm_q8_at(&t, m, 0);
        if (t.unit == 32) for (int64_t b = 0; b < t.nb; b++, x += 32, to += t.strip) quantize(w->t, w->n, 32, x, to);
        else for (int64_t b = 0; b < t.nb; b++, x += 256, to += t.strip) quantize(w->t, w->n, 256, x, to);
    }
}
/* ---- a tile --------------------------------------------------------------------------------------------------------------------------------- */
#define KIND(k) static void many_##k(const lm_q8 *t, int64_t m0, int64_t m1, int64_t b0, int64_t blocks, const char *p, void *w, float *acc) { \
    const lm_q8_kind kind = LM_W_##k; \
    if (t->M <= FEW) { few_kind(t, kind, p, b0, blocks, acc); return; } \
    if (kind < LM_W_Q4_K) pack32(kind, p, 16 * t->block, blocks, w); else pack256(kind, p, 16 * t->block, blocks, w); \
    many(t, kind, m0, m1, b0, blocks, w, acc); }
#define KINDS(X) X(Q8_0) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(IQ4_NL) X(Q4_K) X(Q5_K) X(Q6_K)
KINDS(KIND)
typedef void step_fn(const lm_q8 *t, int64_t m0, int64_t m1, int64_t b0, int64_t blocks, const char *p, void *w, float *acc);
#define STEP(k) [LM_W_##k] = many_##k,
static step_fn *const steps[] = { KINDS(STEP) };

enum { PACKED = 11264 };
_Static_assert(PACKED >= 2 * sizeof(super_t) && PACKED >= 16 * sizeof(block_t), "a packed piece");
static size_t scratch_bytes(const lm_call *c) { return lm_q8_own(c) + PACKED + LM_Q8_MB * 64 + LM_Q8_TURNED; }
static lm_err walk(const lm_call *c, int64_t i, void *scratch) {
    int64_t m0, m1, n0, n1;
    const lm_q8 *t = lm_q8_tile(c, i, scratch, &m0, &m1, &n0, &n1);
    char *packed = (char *)scratch + t->own;
    float *acc = (float *)(packed + PACKED);
    char *turned = (char *)(acc + LM_Q8_MB * 16);
    for (int64_t n = n0; n < n1; n += 16) {
        const size_t cols = (size_t)lm_min64(16, n1 - n);
        memset(acc, 0, (size_t)(m1 - m0) * 64);
        for (int64_t m = m0; m < m1 && t->acc; m++) memcpy(acc + (m - m0) * 16, t->c + m * t->c_rs + n, cols * 4);
        const int64_t piece = t->panels && t->M <= FEW ? t->nb : LM_Q8_K / t->unit;
        for (int64_t b = 0, blocks; b < t->nb; b += blocks) {
            blocks = lm_min64(piece, t->nb - b);
            const char *panel = turned;
            if (t->panels) panel = lm_q8_panel(t, n, b); else lm_q8_turn(t, n, (int64_t)cols, b, blocks, turned);
            steps[t->kind](t, m0, m1, b, blocks, panel, packed, acc);
        }
        for (int64_t m = m0; m < m1; m++)
            for (int64_t j = 0; j < (int64_t)cols; j++) {
                const float v = acc[(m - m0) * 16 + j];
                t->c[m * t->c_rs + n + j] = t->bias ? v + lm_q8_bias(t, n + j) : v;
            }
    }
    return LM_OK;
}
static lm_err row_tile(const lm_call *c, int64_t i, void *scratch) { (void)scratch; lm_q8_row_tile(c, i, quantize_rows); return LM_OK; }
static lm_err begin(const lm_call *c, void *scratch) { lm_q8_begin(c, scratch, quantize_rows); return LM_OK; }
static lm_err run(const lm_call *c, int64_t i, void *scratch) { begin(c, scratch); return walk(c, i, scratch); }
#define KERNEL(id, ord, takes) { .name = id, .needs = LM_CPU_AVX2, .order = ord, .accepts = takes, .shared_bytes = lm_q8_shared, \
    .thread_bytes = scratch_bytes, .n_phase = 2, .phase = { { lm_q8_row_tiles, row_tile }, { lm_q8_tiles, run, lm_q8_reads, begin, walk } } }
const lm_kernel lm_k_matmul_q8_avx2[] = { KERNEL("matmul.q8.avx2", "q8.k32", lm_q8_accepts), KERNEL("matmul.qk.avx2", "q8.k256", lm_qk_accepts), { 0 } };
const lm_kernel lm_k_matmul_each_q8_avx2[] = { KERNEL("matmul_each.q8.avx2", "q8.k32", lm_q8_accepts),
                                               KERNEL("matmul_each.qk.avx2", "q8.k256", lm_qk_accepts),
                                               { 0 } };
