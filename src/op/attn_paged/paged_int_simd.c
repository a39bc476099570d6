/* paged_int_simd.c — values of pages as they lie, and keys that are floats, widened in registers for up to AC_MR rows; scores with keys in blocks where
 * there is no vpdpbusd: vpmaddubsw on AVX2 (|key| times the query with the key's sign), plain C elsewhere. All give the bits of attn_core's products over
 * widened pages. */
#include "op/attn/attn_core.h"
#include "op/attn_paged/paged_few.h"

/* Sixteen numbers of a row that begins at `row`, group g of it. Blocks: times d. */
AC_INLINE void sixteen(const lm_pi_kind kind, const char *row, int64_t g, const float *d, vn *v) {
    const int64_t block = kind == LM_PI_Q8_0 ? 34 : 18;
    if (kind == LM_PI_F32) { AC_EACH(w, AC_NW) v[w] = vn_load((const float *)row + g * AC_V + w * VN); return; }
    const char *p = kind == LM_PI_Q8_0 ? row + g / 2 * block + 2 + g % 2 * 16 : kind == LM_PI_Q4_0 ? row + g / 2 * block + 2 : row + g * 32;
#if defined(LM_ISA_IS_avx512)
    if (kind == LM_PI_F16) { v[0] = (vn)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); return; }
    if (kind == LM_PI_BF16) { v[0] = (vn)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16); return; }
#elif defined(LM_ISA_IS_avx2)
    if (kind == LM_PI_F16) { AC_EACH(w, 2) v[w] = (vn)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 16 * w))); return; }
    if (kind == LM_PI_BF16) { AC_EACH(w, 2) v[w] = (vn)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p + 16 * w))), 16); return; }
#endif
#if defined(LM_ISA_IS_avx512) || defined(LM_ISA_IS_avx2)
    __m128i x = _mm_loadu_si128((const __m128i *)p);
    if (kind == LM_PI_Q4_0) x = _mm_sub_epi8(_mm_and_si128(g % 2 ? _mm_srli_epi16(x, 4) : x, _mm_set1_epi8(15)), _mm_set1_epi8(8));
#if defined(LM_ISA_IS_avx512)
    v[0] = (vn)_mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x)), _mm512_set1_ps(d[g / 2]));
#else
    v[0] = (vn)_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)), _mm256_set1_ps(d[g / 2]));
    v[1] = (vn)_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(x, 8))), _mm256_set1_ps(d[g / 2]));
#endif
#else
    float y[AC_V];
    for (int i = 0; i < AC_V; i++) {
        if (kind == LM_PI_F16 || kind == LM_PI_BF16) { uint16_t h; memcpy(&h, p + 2 * i, 2); y[i] = kind == LM_PI_F16 ? lm_f16_to_f32(h) : lm_bf16_to_f32(h); }
        else y[i] = (float)(kind == LM_PI_Q8_0 ? (int)(int8_t)p[i] : ((uint8_t)p[i] >> (g % 2 * 4) & 15) - 8) * d[g / 2];
    }
    AC_EACH(w, AC_NW) v[w] = vn_load(y + w * VN);
#endif
}
void pi_scales(lm_pi_kind kind, const char *values, int64_t n, float *d) {
    const int64_t block = kind == LM_PI_Q8_0 ? 34 : 18;
    int64_t i = 0;
#if defined(LM_ISA_IS_avx512)
    const __m512i at = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm512_set1_epi32((int)block));
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(d + i, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_i32gather_epi32(at, (const void *)(values + i * block), 1))));
#elif defined(LM_ISA_IS_avx2)
    for (; i < n; i++) { uint16_t h; memcpy(&h, values + i * block, 2); d[i] = _cvtsh_ss(h); }
#endif
    for (; i < n; i++) { uint16_t h; memcpy(&h, values + i * block, 2); d[i] = lm_f16_to_f32(h); }
}
void pi_widen(lm_pi_kind kind, const char *values, const float *d, int64_t D, float *out) {
    const int64_t row = kind == LM_PI_Q8_0 ? D / 32 * 34 : kind == LM_PI_Q4_0 ? D / 32 * 18 : D * 2;
    for (int64_t j = 0; j < AC_BLK; j++, values += row, out += D, d += D / 32)
        for (int64_t g = 0; g < D / AC_V; g++) {
            vn v[AC_NW];
            if (kind == LM_PI_Q8_0) sixteen(LM_PI_Q8_0, values, g, d, v); else sixteen(LM_PI_Q4_0, values, g, d, v);
            AC_EACH(w, AC_NW) vn_store(out + g * AC_V + w * VN, v[w]);
        }
}

/* ---- values: ac_pv over a page as it lies; G groups of 16 numbers from group g0 on -------------------------------------------------- */
AC_INLINE void pv(const lm_pi_kind kind, const int R, const int G, const pi_values *x, int64_t g0, const float *p, const int *lo, const int *hi, int least,
                  int from, int to, int most, float *c, int64_t ldc) {
    const int64_t row = kind == LM_PI_Q8_0 ? x->D / 32 * 34 : kind == LM_PI_Q4_0 ? x->D / 32 * 18 : kind == LM_PI_F32 ? x->D * 4 : x->D * 2, nb = x->D / 32, part = row * G / (x->D / AC_V);
    vn acc[AC_MR][AC_MW];
    AC_EACH(r, R) AC_EACH(w, G * AC_NW) acc[r][w] = vn_load(c + r * ldc + w * VN);
    for (int64_t j = least; j < most; j++) {
        const char *v = x->values + j * row;
        vn k[AC_MW];
        AC_EACH(g, G) sixteen(kind, v, g0 + g, x->d + j * nb, k + g * AC_NW);
        for (int64_t i = 0; i < part; i += 64) __builtin_prefetch(x->next + j * row + g0 * part / G + i);
        if (j >= from && j < to) AC_EACH(r, R) { const vn y = vn_set(p[r * AC_BLK + j]); AC_EACH(w, G * AC_NW) acc[r][w] = vn_fma(y, k[w], acc[r][w]); }
        else AC_EACH(r, R) if (j >= lo[r] && j < hi[r]) AC_EACH(w, G * AC_NW) acc[r][w] = vn_fma(vn_set(p[r * AC_BLK + j]), k[w], acc[r][w]);
    }
    AC_EACH(r, R) AC_EACH(w, G * AC_NW) vn_store(c + r * ldc + w * VN, acc[r][w]);
}
#if defined(LM_ISA_IS_avx512)
#define PI_GROUPS(R, KIND, call) if (mg == 4) call(KIND, R, 4); else call(KIND, R, 2);
enum { WIDE = 4, NARROW = 2 };
#else
#define PI_GROUPS(R, KIND, call) call(KIND, R, 1);
enum { WIDE = 1, NARROW = 1 };
#endif
#define PI_ROW(R, KIND, call) case R: PI_GROUPS(R, KIND, call) break;
#if defined(LM_ISA_IS_avx512) || defined(LM_ISA_IS_avx2)
#define PI_ROWS(KIND, call) switch (rows) { PI_ROW(1, KIND, call) PI_ROW(2, KIND, call) PI_ROW(3, KIND, call) PI_ROW(4, KIND, call) PI_ROW(5, KIND, call) \
    PI_ROW(6, KIND, call) default: break; } break;
#else
#define PI_ROWS(KIND, call) switch (rows) { PI_ROW(1, KIND, call) PI_ROW(2, KIND, call) default: break; } break;
#endif
void pi_pv(const pi_values *x, int rows, const float *p, const int *lo, const int *hi, int least, int from, int to, int most, float *c, int64_t ldc) {
    const int64_t nv = x->D / AC_V;
    for (int64_t g = 0, mg; g < nv; g += mg) {
        mg = nv - g >= WIDE ? WIDE : NARROW;
#define PI_CALL(KIND, R, G) pv(KIND, R, G, x, g, p, lo, hi, least, from, to, most, c + g * AC_V, ldc)
        switch (x->kind) {
        case LM_PI_F32: PI_ROWS(LM_PI_F32, PI_CALL)
        case LM_PI_BF16: PI_ROWS(LM_PI_BF16, PI_CALL)
        case LM_PI_F16: PI_ROWS(LM_PI_F16, PI_CALL)
        case LM_PI_Q8_0: PI_ROWS(LM_PI_Q8_0, PI_CALL)
        case LM_PI_Q4_0: PI_ROWS(LM_PI_Q4_0, PI_CALL)
        }
#undef PI_CALL
    }
}

/* ---- keys that are floats: ac_nt over a page as it lies ------------------------------------------------------------------------------------- */
enum { NT = AC_MG };
AC_INLINE void nt(const lm_pi_kind kind, const int R, const int G, const float *a, int64_t lda, const char *keys, const char *next, int64_t D, float scale, float *s) {
    const int64_t line = kind == LM_PI_F32 ? 64 : 32;                 /* bytes of sixteen keys' numbers d */
    vn acc[AC_MR][AC_MW];
    AC_EACH(r, R) AC_EACH(w, G * AC_NW) acc[r][w] = (vn){0};
    for (int64_t d = 0; d < D; d++) {
        vn k[AC_MW];
        AC_EACH(g, G) {
            sixteen(kind, keys + g * D * line, d, NULL, k + g * AC_NW);
            if (kind == LM_PI_F32 || d % 2 == g % 2) __builtin_prefetch(next + (g * D + d) * line);
        }
        AC_EACH(r, R) { const vn x = vn_set(a[r * lda + d]); AC_EACH(w, G * AC_NW) acc[r][w] = vn_fma(x, k[w], acc[r][w]); }
    }
    AC_EACH(r, R) AC_EACH(w, G * AC_NW) vn_store(s + r * AC_BLK + w * VN, acc[r][w] * scale);
}
void pi_nt(lm_pi_kind kind, int rows, int g0, int g1, const float *a, int64_t lda, const char *keys, const char *next, int64_t D, float scale, float *s) {
    const int64_t line = kind == LM_PI_F32 ? 64 : 32;
    g0 = g0 / NT * NT;                                                /* whole fours of groups: what no row sees is replaced afterwards */
    for (int64_t g = g0; g < g1; g += NT) {
#define PI_CALL(KIND, R, G) nt(KIND, R, NT, a, lda, keys + g * D * line, next + g * D * line, D, scale, s + g * AC_V)
        const int mg = 4;
        (void)mg;
        if (kind == LM_PI_F32) { switch (0) { default: PI_ROWS(LM_PI_F32, PI_CALL) } }
        else if (kind == LM_PI_F16) { switch (0) { default: PI_ROWS(LM_PI_F16, PI_CALL) } }
        else switch (0) { default: PI_ROWS(LM_PI_BF16, PI_CALL) }
#undef PI_CALL
    }
}

/* ---- keys in blocks --------------------------------------------------------------------------------------------------------------------- */
void pi_codes(const lm_pi_codes *c, lm_pi_kind kind, int64_t r, const float *x) {
    for (int64_t b = 0; b < c->nb; b++, x += 32) {
        int8_t *q = c->q + r * c->D + b * 32;
        float top = 0;
        bool finite = true;
        int32_t sum = 0;
        for (int i = 0; i < 32; i++) { const float v = fabsf(x[i]); finite &= v < INFINITY; top = v > top ? v : top; }
        const float scale = top > 0 ? 127.0f / top : 0;
        /* adding and taking 1.5 * 2^23 rounds to the nearest integer, ties to even */
        for (int i = 0; i < 32; i++) { q[i] = finite ? (int8_t)(int32_t)((x[i] * scale + 12582912.0f) - 12582912.0f) : 0; sum += q[i]; }
        c->d[r * c->nb + b] = finite ? top / 127.0f : NAN;
        c->start[r * c->nb + b] = sum * (kind == LM_PI_Q8_0 ? -128 : -8);
    }
}
#if defined(LM_ISA_IS_avx512)
void pi_ints(const lm_pi_keys *k, int r, int rows, int g0, int g1, float *s) { lm_pi_nt_vnni(k, r, rows, g0, g1, s); }
#elif defined(LM_ISA_IS_avx2)
/* Eight keys: half h of a group. Sums of Q4_0's eight products of 15 * 127 * 2 fit into 16 bits, those of Q8_0 do one by one. */
AC_INLINE void half_group(const lm_pi_kind kind, const int R, const lm_pi_keys *k, int r0, int g, int h, float *s) {
    const int64_t nb = k->a->nb, step = kind == LM_PI_Q8_0 ? 544 : 288;
    const int8_t *q = k->a->q + r0 * k->a->D;
    const char *p = k->keys + g * nb * step;
    __m256 acc[LM_PI_ROWS];
    AC_EACH(r, R) acc[r] = _mm256_setzero_ps();
    for (int64_t b = 0; b < nb; b++, p += step) {
        const __m256 dk = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 16 * h)));
        __m256i x[LM_PI_ROWS];
        for (int64_t i = h * (step / 2); i < (h + 1) * (step / 2); i += 64) __builtin_prefetch(k->next + (g * nb + b) * step + i);
        AC_EACH(r, R) x[r] = _mm256_setzero_si256();
        AC_EACH(i, 8) {
            __m256i w = _mm256_loadu_si256((const __m256i *)(p + 32 + 64 * (kind == LM_PI_Q8_0 ? i : i % 4) + 32 * h));
            if (kind == LM_PI_Q4_0) w = _mm256_and_si256(i / 4 ? _mm256_srli_epi16(w, 4) : w, _mm256_set1_epi8(15));
            const __m256i size = _mm256_abs_epi8(w);
            AC_EACH(r, R) {
                int32_t four;
                memcpy(&four, q + r * k->a->D + b * 32 + i * 4, 4);
                const __m256i y = _mm256_set1_epi32(four);
                if (kind == LM_PI_Q4_0) x[r] = _mm256_add_epi16(x[r], _mm256_maddubs_epi16(w, y));
                else x[r] = _mm256_add_epi32(x[r], _mm256_madd_epi16(_mm256_maddubs_epi16(size, _mm256_sign_epi8(y, w)), _mm256_set1_epi16(1)));
            }
        }
        AC_EACH(r, R) {
            if (kind == LM_PI_Q4_0) x[r] = _mm256_add_epi32(_mm256_madd_epi16(x[r], _mm256_set1_epi16(1)), _mm256_set1_epi32(k->a->start[(r0 + r) * nb + b]));
            acc[r] = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_set1_ps(k->a->d[(r0 + r) * nb + b]), dk), _mm256_cvtepi32_ps(x[r]), acc[r]);
        }
    }
    AC_EACH(r, R) _mm256_storeu_ps(s + r * AC_BLK + g * 16 + h * 8, _mm256_mul_ps(acc[r], _mm256_set1_ps(k->scale)));
}
void pi_ints(const lm_pi_keys *k, int r, int rows, int g0, int g1, float *s) {
    for (int g = g0; g < g1; g++) for (int h = 0; h < 2; h++)
#define PI_CALL(KIND, R, G) half_group(KIND, R, k, r, g, h, s)
        if (k->kind == LM_PI_Q8_0) { switch (0) { default: PI_ROWS(LM_PI_Q8_0, PI_CALL) } }
        else switch (0) { default: PI_ROWS(LM_PI_Q4_0, PI_CALL) }
#undef PI_CALL
}
#else
void pi_ints(const lm_pi_keys *k, int r, int rows, int g0, int g1, float *s) {
    const int64_t nb = k->a->nb, step = k->kind == LM_PI_Q8_0 ? 544 : 288;
    for (int i = 0; i < rows; i++)
        for (int j = g0 * 16; j < g1 * 16; j++) {
            float acc = 0;
            for (int64_t b = 0; b < nb; b++) {
                const char *p = k->keys + (j / 16 * nb + b) * step;
                const int8_t *q = k->a->q + (r + i) * k->a->D + b * 32;
                int32_t sum = 0;
                uint16_t half;
                memcpy(&half, p + j % 16 * 2, 2);
                for (int x = 0; x < 32; x++) {
                    const int at = k->kind == LM_PI_Q8_0 ? x : x % 16;
                    const uint8_t byte = (uint8_t)p[32 + at / 4 * 64 + j % 16 * 4 + at % 4];
                    sum += q[x] * (k->kind == LM_PI_Q8_0 ? (int)(int8_t)byte : (byte >> (x / 16 * 4) & 15) - 8);
                }
                acc += k->a->d[(r + i) * nb + b] * lm_f16_to_f32(half) * (float)sum;
            }
            s[i * AC_BLK + j] = acc * k->scale;
        }
}
#endif
