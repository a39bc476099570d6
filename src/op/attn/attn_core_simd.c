/* attn_core_simd.c — the products of attention's block step: register tiles of up to AC_MR rows × AC_MG groups of 16, one function for each
 * size. By themselves, as their many sizes take long to compile and three ops use them. */
#include "op/attn/attn_core.h"

/* s[r][j] = scale * sum_d a[r][d] kt[j/16][d][j%16] for R rows and G groups of 16 keys. */
AC_INLINE void ac_nt_(const int R, const int G, const float *a, int64_t lda, const float *kt, int64_t D, float scale, float *s) {
    vn acc[AC_MR][AC_MW];
    AC_EACH(r, R) AC_EACH(w, G * AC_NW) acc[r][w] = (vn){0};
    for (int64_t d = 0; d < D; d++) {
        vn k[AC_MW];
        AC_EACH(w, G * AC_NW) k[w] = vn_load(kt + (w / AC_NW * D + d) * AC_V + w % AC_NW * VN);
        AC_EACH(r, R) { vn x = vn_set(a[r * lda + d]); AC_EACH(w, G * AC_NW) acc[r][w] = vn_fma(x, k[w], acc[r][w]); }
    }
    AC_EACH(r, R) AC_EACH(w, G * AC_NW) vn_store(s + r * AC_BLK + w * VN, acc[r][w] * scale);
}
/* c[r][n] += sum over k in [0, kn) of a[r*ars + k*aks] b[k][n], n in G groups of 16. */
AC_INLINE void ac_nn_(const int R, const int G, const float *a, int64_t ars, int64_t aks, const float *b, int64_t ldb, int64_t kn, float *c,
                      int64_t ldc) {
    vn acc[AC_MR][AC_MW];
    AC_EACH(r, R) AC_EACH(w, G * AC_NW) acc[r][w] = vn_load(c + r * ldc + w * VN);
    for (int64_t k = 0; k < kn; k++, b += ldb, a += aks) {
        vn v[AC_MW];
        AC_EACH(w, G * AC_NW) v[w] = vn_load(b + w * VN);
        AC_EACH(r, R) { vn x = vn_set(a[r * ars]); AC_EACH(w, G * AC_NW) acc[r][w] = vn_fma(x, v[w], acc[r][w]); }
    }
    AC_EACH(r, R) AC_EACH(w, G * AC_NW) vn_store(c + r * ldc + w * VN, acc[r][w]);
}
/* c[r][n] += sum over j in [lo_r, hi_r) of p[r][j] v[j][n], j ascending for every row; all rows see [from, to) and look at v nowhere else
 * but in their own range. */
AC_INLINE void ac_pv_(const int R, const int G, const float *p, const float *v, int64_t ldv, const int *lo, const int *hi, int least,
                      int from, int to, int most, float *c, int64_t ldc) {
    vn acc[AC_MR][AC_MW];
#define AC_FRINGE(j) AC_EACH(r, R) if ((j) >= lo[r] && (j) < hi[r]) AC_EACH(w, G * AC_NW) acc[r][w] = vn_fma(vn_set(p[r * AC_BLK + (j)]), vn_load(v + (j) * ldv + w * VN), acc[r][w]);
    AC_EACH(r, R) AC_EACH(w, G * AC_NW) acc[r][w] = vn_load(c + r * ldc + w * VN);
    for (int64_t j = least; j < from; j++) { AC_FRINGE(j) }
    const float *b = v + from * ldv;
    for (int64_t j = from; j < to; j++, b += ldv) {
        vn k[AC_MW];
        AC_EACH(w, G * AC_NW) k[w] = vn_load(b + w * VN);
        AC_EACH(r, R) { vn x = vn_set(p[r * AC_BLK + j]); AC_EACH(w, G * AC_NW) acc[r][w] = vn_fma(x, k[w], acc[r][w]); }
    }
    for (int64_t j = to; j < most; j++) { AC_FRINGE(j) }
#undef AC_FRINGE
    AC_EACH(r, R) AC_EACH(w, G * AC_NW) vn_store(c + r * ldc + w * VN, acc[r][w]);
}
#define AC_G_(R, G, call) case (R) * 8 + (G): call(R, G); break;
#if defined(LM_ISA_IS_avx512)
#define AC_R_(R, call) AC_G_(R, 1, call) AC_G_(R, 2, call) AC_G_(R, 3, call) AC_G_(R, 4, call)
#else
#define AC_R_(R, call) AC_G_(R, 1, call)
#endif
#if defined(LM_ISA_IS_avx512) || defined(LM_ISA_IS_avx2)
#define AC_SWITCH(r, g, call) switch ((r) * 8 + (g)) { AC_R_(1, call) AC_R_(2, call) AC_R_(3, call) AC_R_(4, call) AC_R_(5, call) AC_R_(6, call) default: break; }
#else
#define AC_SWITCH(r, g, call) switch ((r) * 8 + (g)) { AC_R_(1, call) AC_R_(2, call) default: break; }
#endif
void ac_nt(int rows, int g0, int g1, const float *a, int64_t lda, const float *kt, int64_t D, float scale, float *s) {
    for (int r = 0; r < rows; r += AC_MR)
        for (int g = g0; g < g1; g += AC_MG) {
            int mr = rows - r < AC_MR ? rows - r : AC_MR, mg = g1 - g < AC_MG ? g1 - g : AC_MG;
#define AC_CALL(R, G) ac_nt_(R, G, a + r * lda, lda, kt + g * D * AC_V, D, scale, s + r * AC_BLK + g * AC_V)
            AC_SWITCH(mr, mg, AC_CALL)
#undef AC_CALL
        }
}
void ac_nn(int rows, int nv, const float *a, int64_t ars, int64_t aks, const float *b, int64_t ldb, int64_t kn, float *c, int64_t ldc) {
    for (int r = 0; r < rows; r += AC_MR)
        for (int g = 0; g < nv; g += AC_MG) {
            int mr = rows - r < AC_MR ? rows - r : AC_MR, mg = nv - g < AC_MG ? nv - g : AC_MG;
#define AC_CALL(R, G) ac_nn_(R, G, a + r * ars, ars, aks, b + g * AC_V, ldb, kn, c + r * ldc + g * AC_V, ldc)
            AC_SWITCH(mr, mg, AC_CALL)
#undef AC_CALL
        }
}

void ac_pv(int rows, int nv, const float *p, const float *v, int64_t ldv, const int *lo, const int *hi, int least, int from, int to, int most,
           float *c, int64_t ldc) {
    for (int g = 0; g < nv; g += AC_MG) {
        int mg = nv - g < AC_MG ? nv - g : AC_MG;
#define AC_CALL(R, G) ac_pv_(R, G, p, v + g * AC_V, ldv, lo, hi, least, from, to, most, c + g * AC_V, ldc)
        AC_SWITCH(rows, mg, AC_CALL)
#undef AC_CALL
    }
}
