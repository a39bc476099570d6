/* rope_table_simd.c — cosine and sine in double, eight lanes, rounded once to f32: the rounding of the angle is the only error that counts.
 *
 * x = n * pi/2 + r with pi/2 in three parts of 33 bits (fdlibm's), so that n * part is exact below n = 2^20; larger angles go to the C library. On
 * |r| <= pi/4 Taylor polynomials to r^15 and r^16: 1e-16. */
#include "op/rope_table/rope_table_int.h"
#include "op/rule.h"
#include "op/simd.h"
enum { ROWS = 64 };
typedef double v8d __attribute__((vector_size(64)));
typedef int64_t v8q __attribute__((vector_size(64)));

static int64_t tiles(const lm_call *c) { return lm_ceil_div(c->in[0].dim[0], ROWS); }
static size_t shared_bytes(const lm_call *c) { (void)c; return (LM_ROPE_MAX_D / 2 + 16) * sizeof(float); }
static int64_t one(const lm_call *c) { return c->in[0].dim[0] ? 1 : 0; }
static lm_err prep(const lm_call *c, int64_t tile, void *scratch) {
    const lm_rope_table_p *p = c->p;
    float *f = c->shared;
    (void)tile; (void)scratch;
    memset(f, 0, shared_bytes(c));
    lm_rope_inv_freq(p, p->scaling == LM_ROPE_DYNAMIC ? lm_rope_table_len(c) : 1, f, f + LM_ROPE_MAX_D / 2);
    return LM_OK;
}
static inline v8d sel(v8q m, v8d a, v8d b) { return (v8d)(((v8q)a & m) | ((v8q)b & ~m)); }
static inline void sincos8(v8d x, v8d *s, v8d *c) {
    const v8d t = x * 0.63661977236758134308 + 6755399441055744.0;          /* 1.5 * 2^52: nearest integer in the low bits */
    const v8d n = t - 6755399441055744.0;
    const v8q k = (v8q)t & 3;
    v8d r = x - n * 1.57079632673412561417e+00; r = r - n * 6.07710050630396597660e-11; r = r - n * 2.02226624871116645580e-21;
    const v8d z = r * r;
    v8d a = z * -7.6471637318198164759e-13 + 1.6059043836821614599e-10;
    a = a * z - 2.5052108385441718775e-08;
    a = a * z + 2.7557319223985890653e-06;
    a = a * z - 1.9841269841269841270e-04;
    a = a * z + 8.3333333333333333333e-03;
    a = a * z - 1.6666666666666666667e-01; a = a * z * r + r;
    v8d b = z * 4.7794773323873852974e-14 - 1.1470745597729724714e-11;
    b = b * z + 2.0876756987868098979e-09;
    b = b * z - 2.7557319223985890653e-07;
    b = b * z + 2.4801587301587301587e-05;
    b = b * z - 1.3888888888888888889e-03;
    b = b * z + 4.1666666666666666667e-02; b = b * z - 0.5; b = b * z + 1.0;
    const v8q odd = -(k & 1), sneg = (k & 2) << 62, cneg = ((k + 1) & 2) << 62;
    *s = (v8d)((v8q)sel(odd, b, a) ^ sneg);
    *c = (v8d)((v8q)sel(odd, a, b) ^ cneg);
}

static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    const lm_rope_table_p *p = c->p;
    const float *f = c->shared, attn = f[LM_ROPE_MAX_D / 2];
    const int32_t *pos = c->in[0].data;
    const int64_t n = p->d_head / 2, end = lm_min64(c->in[0].dim[0], (tile + 1) * ROWS);
    (void)scratch;
    for (int64_t r = tile * ROWS; r < end; r++) {
        float *cs = (float *)c->out[0].data + r * 2 * n, *sn = cs + n;
        const float at = (float)pos[r];
        for (int64_t i = 0; i < n; i += 8) {                                  /* f is zero beyond n */
            v8d x, s, co;
            bool far = false;
            for (int k = 0; k < 8; k++) { const float angle = at * f[i + k]; x[k] = angle; far |= fabsf(angle) > 1.6e6f; }
            if (far) for (int k = 0; k < 8; k++) { s[k] = sin(x[k]); co[k] = cos(x[k]); }
            else sincos8(x, &s, &co);
            for (int k = 0; k < 8 && i + k < n; k++) { cs[i + k] = (float)co[k] * attn; sn[i + k] = (float)s[k] * attn; }
        }
    }
    return LM_OK;
}
/* Results are rounded from an error of 1e-16, but that does not make them equal where contraction differs: sets with FMA are an order of
 * their own. */
#if defined(__FMA__)
#define ORDER "rope_table/fma"
#else
#define ORDER "rope_table"
#endif
extern const lm_kernel LM_ISA_NAME(lm_k_rope_table)[];
const lm_kernel LM_ISA_NAME(lm_k_rope_table)[] = { { .name = "rope_table.f32." LM_ISA_STR,
                                                     .needs = LM_ISA_NEEDS,
                                                     .order = ORDER,
                                                     .accepts = lm_accepts_flat,
                                                     .shared_bytes = shared_bytes,
                                                     .n_phase = 2,
                                                     .phase = { { one, prep }, { tiles, run } } },
                                                   { 0 } };
