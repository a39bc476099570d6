/* qk_vnni.c — products with Q4_K, Q5_K and Q6_K by vpdpbusd: super-blocks of 256 of k, sixteen outputs in a register.
 *
 * Packed for many rows of A, a super-block of a panel is its codes as bytes, a float scale for each group and the minima as pairs of 16 bits. Six rows and
 * two panels are in registers: twelve sums of a group and twelve of a super-block; what has been added up before lies in scratch. For Q4_K 768
 * vpdpbusd come with 276 instructions that turn and add what they give; Q6_K, whose groups are of 16, has 396. */
#include "op/matmul/q8_vnni.h"

typedef struct { __m512i q[64]; __m512 d[16]; __m512i m[4]; __m512 dmin; } super_t;
_Static_assert(2 * LM_Q8_K / 256 * sizeof(super_t) <= LM_Q8_PACKED, "a packed piece");
enum { ROWS = LM_Q8_ROWS };
typedef struct { __m512i s[2], m[2]; } mins_t;              /* four bytes to a row: groups 0-3, 4-7 */

/* quant_int.h's lm_q_scale_min, for all sixteen rows at once */
VN_INLINE mins_t scale_min(const char *p) {
    const __m512i a = _mm512_loadu_si512(p), b = _mm512_loadu_si512(p + 64), c = _mm512_loadu_si512(p + 128);
    const __m512i six = _mm512_set1_epi8(63), low = _mm512_set1_epi8(15), top = _mm512_set1_epi8(48);
    return (mins_t){ { _mm512_and_si512(a, six), _mm512_or_si512(_mm512_and_si512(c, low), _mm512_and_si512(_mm512_srli_epi32(a, 2), top)) },
                     { _mm512_and_si512(b, six),
                       _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32(c, 4), low), _mm512_and_si512(_mm512_srli_epi32(b, 2), top)) } };
}
/* minima as pairs, as A's sums are: (0, 2), (1, 3), (4, 6), (5, 7) */
VN_INLINE __m512i min_pair(const mins_t *s, int j) {
    return j % 2 ? _mm512_srli_epi16(s->m[j / 2], 8) : _mm512_and_si512(s->m[j / 2], _mm512_set1_epi32(0x00ff00ff));
}
VN_INLINE __m512 byte_scale(__m512i x, __m512 d) { return _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_and_si512(x, _mm512_set1_epi32(255)))); }
VN_INLINE __m512 signed_scale(__m512i x, __m512 d) { return _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(x, 24), 24))); }
/* low: bits 0-3 come from x, the others from y; then only the bits of `mask` */
VN_INLINE __m512i join(__m512i x, __m512i y, int mask) {
    return _mm512_and_si512(_mm512_ternarylogic_epi32(_mm512_set1_epi8(15), x, y, 0xca), _mm512_set1_epi8((char)mask));
}
/* Q4_K, Q5_K: quad i of groups 2c (odd 0) and 2c + 1 */
VN_INLINE __m512i code_k(const bool five, const char *p, int c, int i, int odd) {
    const char *low = p + 64 + 192 + (five ? 512 : 0);
    const __m512i x = _mm512_loadu_si512(low + c * 512 + i * 64), v = odd ? _mm512_srli_epi16(x, 4) : x;
    if (!five) return _mm512_and_si512(v, _mm512_set1_epi8(15));
    const __m512i h = _mm512_srlv_epi16(_mm512_loadu_si512(p + 64 + 192 + i * 64), _mm512_set1_epi16((int16_t)(2 * c)));
    return join(v, odd ? _mm512_slli_epi16(h, 3) : _mm512_slli_epi16(h, 4), 31);
}
/* Q6_K: quad i (of 8) of run r (of 4) in a half: 128 codes, low bits in 16 quads, upper ones in 8 */
VN_INLINE __m512i code_6(const char *p, int half, int r, int i) {
    const __m512i x = _mm512_loadu_si512(p + 32 + (half * 16 + r % 2 * 8 + i) * 64), h = _mm512_loadu_si512(p + 32 + 2048 + (half * 8 + i) * 64);
    switch (r) {
    case 0: return join(x, _mm512_slli_epi16(h, 4), 63);
    case 1: return join(x, _mm512_slli_epi16(h, 2), 63);
    case 2: return join(_mm512_srli_epi16(x, 4), h, 63);
    default: return join(_mm512_srli_epi16(x, 4), _mm512_srli_epi16(h, 2), 63);
    }
}
VN_INLINE void pack_kind(const lm_q8_kind kind, const char *p, int64_t step, int64_t blocks, super_t *w) {
    for (; blocks; blocks--, p += step, w++) {
        const __m512 d = vn_halves(p);
        if (kind == LM_W_Q6_K) {
            for (int half = 0; half < 2; half++)
                for (int i = 0; i < 8; i++) {
                    __m512i *q = w->q + half * 32 + i;
                    q[0] = code_6(p, half, 0, i); q[8] = code_6(p, half, 1, i); q[16] = code_6(p, half, 2, i); q[24] = code_6(p, half, 3, i);
                }
            for (int g = 0; g < 16; g += 4) {
                const __m512i s = _mm512_loadu_si512(p + 32 + 3072 + g * 16);
                w->d[g] = signed_scale(s, d); w->d[g + 1] = signed_scale(_mm512_srli_epi32(s, 8), d);
                w->d[g + 2] = signed_scale(_mm512_srli_epi32(s, 16), d); w->d[g + 3] = signed_scale(_mm512_srli_epi32(s, 24), d);
            }
        } else {
            const bool five = kind == LM_W_Q5_K;
            const mins_t s = scale_min(p + 64);
            for (int c = 0; c < 4; c++)
                for (int i = 0; i < 8; i++) {
                    w->q[c * 16 + i] = code_k(five, p, c, i, 0);
                    w->q[c * 16 + 8 + i] = code_k(five, p, c, i, 1);
                }
            for (int g = 0; g < 8; g += 4) {
                const __m512i x = s.s[g / 4];
                w->d[g] = byte_scale(x, d); w->d[g + 1] = byte_scale(_mm512_srli_epi32(x, 8), d);
                w->d[g + 2] = byte_scale(_mm512_srli_epi32(x, 16), d); w->d[g + 3] = byte_scale(_mm512_srli_epi32(x, 24), d);
            }
            for (int j = 0; j < 4; j++) w->m[j] = min_pair(&s, j);
            w->dmin = vn_halves(p + 32);
        }
    }
}
static void pack(const lm_q8 *t, const char *panel, int64_t blocks, void *out) {
    const int64_t step = 16 * t->block;
    if (t->kind == LM_W_Q4_K) pack_kind(LM_W_Q4_K, panel, step, blocks, out);
    else if (t->kind == LM_W_Q5_K) pack_kind(LM_W_Q5_K, panel, step, blocks, out);
    else pack_kind(LM_W_Q6_K, panel, step, blocks, out);
}
/* ---- many rows ------------------------------------------------------------------------------------------------------------------- */
VN_INLINE void rows(const lm_q8 *t, const bool six, const int R, const int P, int64_t m, int64_t b0, int64_t blocks, const super_t *w, int64_t second,
                    float *acc, vn_next *next) {
    const int64_t at = lm_q8_at(t, m, b0), strip = t->nb * ROWS * 256;
    const int8_t *q = t->q + at * 256; const float *d = t->d + at; const int32_t *start = t->start + at * LM_Q8_STARTS;
    const int quads = six ? 4 : 8;
    for (int64_t b = 0; b < blocks; b++, w++, d += ROWS, start += ROWS * LM_Q8_STARTS, q += ROWS * 256) {
        const super_t *const p[2] = { w, (const super_t *)((const char *)w + second) };
        __m512 sum[ROWS][2];
        for (int r = 0; r < R; r++) for (int k = 0; k < P; k++) sum[r][k] = _mm512_setzero_ps();
        for (int g = 0; g < 64 / quads; g++) {
            __m512i s[ROWS][2];
            if (!six || g % 2) { vn_ask(next); vn_ask_strip(q + strip + (six ? g / 2 : g) * 192); }
            for (int r = 0; r < R; r++)
                for (int k = 0; k < P; k++) s[r][k] = six ? _mm512_set1_epi32(start[r * LM_Q8_STARTS + g]) : _mm512_setzero_si512();
#pragma GCC unroll 8
            for (int i = 0; i < quads; i++)
                for (int r = 0; r < R; r++) {
                    const __m512i x = vn_quad(q + r * 256 + (g * quads + i) * 4);
                    for (int k = 0; k < P; k++) s[r][k] = _mm512_dpbusd_epi32(s[r][k], p[k]->q[g * quads + i], x);
                }
            for (int r = 0; r < R; r++) for (int k = 0; k < P; k++) sum[r][k] = _mm512_fmadd_ps(p[k]->d[g], _mm512_cvtepi32_ps(s[r][k]), sum[r][k]);
        }
        for (int r = 0; r < R; r++)
            for (int k = 0; k < P; k++) {
                if (!six) {
                    __m512i u = _mm512_setzero_si512();
                    for (int j = 0; j < 4; j++) u = _mm512_dpwssd_epi32(u, p[k]->m[j], _mm512_set1_epi32(start[r * LM_Q8_STARTS + j]));
                    sum[r][k] = _mm512_fnmadd_ps(p[k]->dmin, _mm512_cvtepi32_ps(u), sum[r][k]);
                }
                float *o = acc + r * 32 + k * 16;
                _mm512_store_ps(o, _mm512_fmadd_ps(_mm512_set1_ps(d[r]), sum[r][k], _mm512_load_ps(o)));
            }
    }
}
VN_ALL_ROWS(super_t, t->kind == LM_W_Q6_K)
/* ---- few rows ---------------------------------------------------------------------------------------------------------------------- */
/* R rows of A, from the first of a strip on, against a panel as it lies. */
VN_INLINE void few(const lm_q8 *t, const lm_q8_kind kind, const int R, const char *p, int64_t m, int64_t b0, int64_t blocks, float *acc) {
    const int64_t step = 16 * t->block, at = lm_q8_at(t, m, b0), S = t->strip;
    const int8_t *q = t->q + at * 256; const float *da = t->d + at; const int32_t *start = t->start + at * LM_Q8_STARTS;
    for (int64_t b = 0; b < blocks; b++, p += step, q += S * 256, da += S, start += S * LM_Q8_STARTS) {
        const __m512 d = vn_halves(p);
        __m512 sum[LM_Q8_FEW];
        for (int r = 0; r < R; r++) sum[r] = _mm512_setzero_ps();
        if (kind == LM_W_Q6_K) {
            for (int half = 0; half < 2; half++)
#pragma GCC unroll 4
                for (int k = 0; k < 4; k++) {
                    const int g = half * 8 + k * 2;
                    const __m512i sc = _mm512_loadu_si512(p + 32 + 3072 + g / 4 * 64);
                    __m512i s[LM_Q8_FEW], e[LM_Q8_FEW];
                    for (int r = 0; r < R; r++) {
                        s[r] = _mm512_set1_epi32(start[r * LM_Q8_STARTS + g]);
                        e[r] = _mm512_set1_epi32(start[r * LM_Q8_STARTS + g + 1]);
                    }
#pragma GCC unroll 4
                    for (int i = 0; i < 4; i++) {
                        vn_ahead(p, (half * 4 + k) * 7 + i);
                        const __m512i w0 = code_6(p, half, k, i), w1 = code_6(p, half, k, i + 4);
                        for (int r = 0; r < R; r++) {
                            s[r] = _mm512_dpbusd_epi32(s[r], w0, vn_quad(q + r * 256 + g * 16 + i * 4));
                            e[r] = _mm512_dpbusd_epi32(e[r], w1, vn_quad(q + r * 256 + g * 16 + 16 + i * 4));
                        }
                    }
                    for (int i = 4; i < 7 && (half < 1 || k < 3); i++) vn_ahead(p, (half * 4 + k) * 7 + i);
                    const __m512 d0 = signed_scale(_mm512_srli_epi32(sc, k % 2 * 16), d), d1 = signed_scale(_mm512_srli_epi32(sc, k % 2 * 16 + 8), d);
                    for (int r = 0; r < R; r++) {
                        sum[r] = _mm512_fmadd_ps(d0, _mm512_cvtepi32_ps(s[r]), sum[r]);
                        sum[r] = _mm512_fmadd_ps(d1, _mm512_cvtepi32_ps(e[r]), sum[r]);
                    }
                }
        } else {
            const bool five = kind == LM_W_Q5_K;
            const int per = five ? 11 : 9;                     /* lines in a quarter of the super-block */
            const mins_t y = scale_min(p + 64);
            for (int half = 0; half < 2; half++) {
                __m512i sc = half ? y.s[1] : y.s[0];
                for (int c = half * 2; c < half * 2 + 2; c++, sc = _mm512_srli_epi32(sc, 16)) {
                    __m512i s[LM_Q8_FEW], e[LM_Q8_FEW];
                    for (int r = 0; r < R; r++) s[r] = e[r] = _mm512_setzero_si512();
#pragma GCC unroll 8
                    for (int i = 0; i < 8; i++) {
                        vn_ahead(p, c * per + i);
                        const __m512i w0 = code_k(five, p, c, i, 0), w1 = code_k(five, p, c, i, 1);
                        for (int r = 0; r < R; r++) {
                            s[r] = _mm512_dpbusd_epi32(s[r], w0, vn_quad(q + r * 256 + c * 64 + i * 4));
                            e[r] = _mm512_dpbusd_epi32(e[r], w1, vn_quad(q + r * 256 + c * 64 + 32 + i * 4));
                        }
                    }
                    for (int i = 8; i < per; i++) vn_ahead(p, c * per + i);
                    const __m512 d0 = byte_scale(sc, d), d1 = byte_scale(_mm512_srli_epi32(sc, 8), d);
                    for (int r = 0; r < R; r++) {
                        sum[r] = _mm512_fmadd_ps(d0, _mm512_cvtepi32_ps(s[r]), sum[r]);
                        sum[r] = _mm512_fmadd_ps(d1, _mm512_cvtepi32_ps(e[r]), sum[r]);
                    }
                }
            }
            const __m512 dmin = vn_halves(p + 32);
            for (int r = 0; r < R; r++) {
                __m512i u = _mm512_setzero_si512();
                for (int j = 0; j < 4; j++) u = _mm512_dpwssd_epi32(u, min_pair(&y, j), _mm512_set1_epi32(start[r * LM_Q8_STARTS + j]));
                sum[r] = _mm512_fnmadd_ps(dmin, _mm512_cvtepi32_ps(u), sum[r]);
            }
        }
        for (int r = 0; r < R; r++) {
            float *o = acc + r * 32;
            _mm512_store_ps(o, _mm512_fmadd_ps(_mm512_set1_ps(da[r]), sum[r], _mm512_load_ps(o)));
        }
    }
}
VN_INLINE void few_kind(const lm_q8 *t, const lm_q8_kind kind, int R, const char *p, int64_t m, int64_t b0, int64_t blocks, float *acc) {
#define EACH(r) few(t, kind, r, p, m, b0, blocks, acc)
    VN_BY_ROWS(R, EACH)
#undef EACH
}
static void few_rows(const lm_q8 *t, const char *p, int64_t m, int R, int64_t b0, int64_t blocks, float *acc) {
    if (t->kind == LM_W_Q4_K) few_kind(t, LM_W_Q4_K, R, p, m, b0, blocks, acc);
    else if (t->kind == LM_W_Q5_K) few_kind(t, LM_W_Q5_K, R, p, m, b0, blocks, acc);
    else few_kind(t, LM_W_Q6_K, R, p, m, b0, blocks, acc);
}
const lm_q8_vnni lm_qk_vnni = { .packed = sizeof(super_t), .asks = 8, .pack = pack, .rows = many, .few = few_rows };
