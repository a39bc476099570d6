/* gemm.c — our matrix products beside OpenBLAS (f32) and oneDNN (bf16): same shapes, same run, same threads, turns taken.
 *
 *   gcc -std=gnu17 -O2 -Isrc bench/peers/gemm.c libloam.a -lopenblas -ldnnl -lgomp -lxxhash -lm -lpthread -o gemm
 *   OMP_WAIT_POLICY=passive ./gemm [--threads 1,2] [--only TEXT in "name M"] [--reps N] [--isa avx2] [--cpu] [f32] [bf16] [gemv] [q8] [head]
 * Each figure is the best of N, ours and the peer's measured by turns so that a noisy neighbour hurts both. Columns: GFLOP/s (GB/s of
 * weights for gemv), ratio. A peer's threads must not spin while we run, hence OMP_WAIT_POLICY. */
#define _GNU_SOURCE
#include <cblas.h>
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/pool.h"
#include "device/cpu.h"
#include "op/matmul/matmul.h"
#include "op/xent_step/xent_step.h"
void openblas_set_num_threads(int n);
extern const lm_op lm_op_xent_step;

static double budget = 0.6;             /* seconds per figure and side */
static int threads = 1, min_reps = 3;
static uint64_t features;
static lm_ctx *ctx;
static const char *only;

static void *get(size_t n) { void *p = lm_alloc(ctx, LM_MEM_MISC, n + 64); if (!p) { fprintf(stderr, "out of memory\n"); exit(1); } return p; }
static float *numbers(int64_t n, const char *name) {
    float *p = get((size_t)n * 4); const lm_rng r = lm_rng_of(1, name); uint32_t w[4];
    for (int64_t i = 0; i < n; i += 4) {
        lm_rng_block(r, (uint64_t)i / 4, w);
        for (int k = 0; k < 4 && i + k < n; k++) p[i + k] = (float)((int32_t)w[k]) * 0x1p-31f;
    }
    return p;
}
static uint16_t *bf16_of(const float *x, int64_t n) {
    uint16_t *p = get((size_t)n * 2);
    for (int64_t i = 0; i < n; i++) p[i] = lm_f32_to_bf16(x[i]);
    return p;
}

/* ---- ours ---------------------------------------------------------------------------------------------------------------------- */
typedef struct { const lm_kernel *k; lm_call c; void *scratch[64]; bool begun[64]; const lm_phase *f; } ours_t;
static void tile(void *ud, int64_t i, int ith) {
    ours_t *o = ud;
    if (!o->f->begin) { o->f->run(&o->c, i, o->scratch[ith]); return; }
    if (!o->begun[ith]) o->f->begin(&o->c, o->scratch[ith]);
    o->begun[ith] = true;
    o->f->walk(&o->c, i, o->scratch[ith]);
}
static void run_ours(ours_t *o) {
    const int64_t reps = o->k->repeat ? o->k->repeat(&o->c) : 1;
    for (o->c.iter = 0; o->c.iter < reps; o->c.iter++)
        for (int f = 0; f < o->k->n_phase; f++) { o->f = &o->k->phase[f]; memset(o->begun, 0, sizeof o->begun); lm_pool_tiles(lm_ctx_pool(ctx), o->f->tiles(&o->c), tile, o); }
}
static bool bind(ours_t *o) {
    if (!(o->k = lm_kernel_choose(o->c.op, &o->c, LM_DEV_CPU, features))) return false;
    o->c.shared = get(o->k->shared_bytes ? o->k->shared_bytes(&o->c) : 0);
    for (int i = 0; i < threads; i++) o->scratch[i] = get(o->k->thread_bytes ? o->k->thread_bytes(&o->c) : 0);
    return true;
}
static void unbind(ours_t *o) { lm_free(ctx, o->c.shared); for (int i = 0; i < threads; i++) lm_free(ctx, o->scratch[i]); }
static lm_tensor mat(void *d, lm_dtype t, int64_t r, int64_t c) { return lm_tensor_of(d, t, 2, (int64_t[]){ r, c }); }
static lm_tensor panels(const float *w, lm_dtype t, int64_t N, int64_t K) {
    lm_tensor p = mat(NULL, t, N, K); size_t bytes;
    p.layout = t == LM_F32 ? LM_PANEL16 : LM_PANEL16X2;
    if (!lm_storage_bytes(t, NULL, (lm_layout)p.layout, 2, p.dim, &bytes)) exit(1);
    p.data = get(bytes); memset(p.data, 0, bytes); lm_layout_put_rows(&p, 0, N, w);
    return p;
}

/* ---- timing by turns --------------------------------------------------------------------------------------------------------------- */
static bool cpu_time;                    /* --cpu: time the calling thread has computed; only for one thread, on a machine with other work */
static double now(void) {
    struct timespec t;
    if (!cpu_time || threads != 1) return lm_now();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
typedef void fn_t(void *ud);
/* OpenBLAS's helpers spin for 2^26 cycles after a product, on the core that our helper wants; and a helper that slept may wake on the caller's core
 * and stay there until the system moves it. So each turn of several threads begins with a pause and a tenth of a second that is not timed. */
static void settle(fn_t *f, void *ud) {
    if (threads < 2) return;
    nanosleep(&(struct timespec){ .tv_nsec = 40000000 }, NULL);
    for (const double t = lm_now(); lm_now() - t < 0.1; ) f(ud);
}
static void turns(fn_t *a, void *ua, double *ta, fn_t *b, void *ub, double *tb) {
    *ta = *tb = 1e30; double sa = 0, sb = 0;
    for (int i = 0; i < 1000 && (i < min_reps || sa + sb < 2 * budget); i++) {
        if (b) settle(a, ua);
        double t = now(); a(ua); t = now() - t; if (i && t < *ta) *ta = t;
        sa += t;
        if (!b) continue;
        settle(b, ub);
        t = now(); b(ub); t = now() - t; if (i && t < *tb) *tb = t;
        sb += t;
    }
}
static void ours_fn(void *ud) { run_ours(ud); }

/* ---- f32: OpenBLAS ------------------------------------------------------------------------------------------------------------------ */
typedef struct { const char *name; int64_t M, N, K; bool ta, tb; } shape_t;
typedef struct { shape_t s; const float *a, *b; float *c; } blas_t;
static void blas_fn(void *ud) {
    blas_t *p = ud; const shape_t *s = &p->s;
    cblas_sgemm(CblasRowMajor, s->ta ? CblasTrans : CblasNoTrans, s->tb ? CblasTrans : CblasNoTrans, (int)s->M, (int)s->N, (int)s->K, 1,
                p->a, (int)(s->ta ? s->M : s->K), p->b, (int)(s->tb ? s->K : s->N), 0, p->c, (int)s->N);
}
static double check(const float *a, const float *b, int64_t n) {
    double d = 0, w = 0;
    for (int64_t i = 0; i < n; i++) { d += (double)(a[i] - b[i]) * (a[i] - b[i]); w += (double)b[i] * b[i]; }
    return sqrt(d / (w + 1e-30));
}
static void one_f32(const shape_t *s) {
    float *a = numbers(s->M * s->K, "a"), *b = numbers(s->N * s->K, "b"), *c1 = get((size_t)(s->M * s->N) * 4), *c2 = get((size_t)(s->M * s->N) * 4);
    const lm_matmul_p p = { .ta = s->ta, .tb = s->tb };
    ours_t o = { .c = { .op = &lm_op_matmul,
                        .p = &p,
                        .n_in = 2,
                        .n_out = 1,
                        .ctx = ctx,
                        .in = { s->ta ? mat(a, LM_F32, s->K, s->M) : mat(a, LM_F32, s->M, s->K),
                                s->tb ? mat(b, LM_F32, s->N, s->K) : mat(b, LM_F32, s->K, s->N) },
                        .out = { mat(c1, LM_F32, s->M, s->N) } } };
    blas_t bl = { *s, a, b, c2 };
    if (bind(&o)) {
        double t1, t2, f = 2e-9 * (double)s->M * (double)s->N * (double)s->K;
        turns(ours_fn, &o, &t1, blas_fn, &bl, &t2);
        printf("%-6s %d  %-22s %5lld x %5lld x %5lld  %-20s %8.1f  %8.1f  %6.3f   %.1e\n", "f32", threads, s->name, (long long)s->M,
               (long long)s->N, (long long)s->K, o.k->name, f / t1, f / t2, t2 / t1, check(c1, c2, s->M * s->N));
        unbind(&o);
    }
    lm_free(ctx, a); lm_free(ctx, b); lm_free(ctx, c1); lm_free(ctx, c2);
}

/* ---- bf16: oneDNN ------------------------------------------------------------------------------------------------------------------- */
#define DNN(e) do { dnnl_status_t s_ = (e); if (s_) { fprintf(stderr, "%s -> %d\n", #e, (int)s_); exit(1); } } while (0)
typedef struct { dnnl_primitive_t prim; dnnl_exec_arg_t arg[3]; dnnl_stream_t stream; } dnn_t;
static dnnl_engine_t engine;
static void dnn_fn(void *ud) { dnn_t *d = ud; DNN(dnnl_primitive_execute(d->prim, d->stream, 3, d->arg)); DNN(dnnl_stream_wait(d->stream)); }
static dnnl_memory_desc_t md(int64_t r, int64_t c, bool t, dnnl_data_type_t dt) {
    dnnl_memory_desc_t m; const dnnl_dims_t dim = { r, c }, st = { t ? 1 : c, t ? r : 1 };
    DNN(dnnl_memory_desc_init_by_strides(&m, 2, dim, dt, st));
    return m;
}
static void dnn_make(dnn_t *d, const shape_t *s, void *a, void *b, void *c, bool packed, void **held) {
    dnnl_memory_desc_t ma = md(s->M, s->K, s->ta, dnnl_bf16), mb = md(s->K, s->N, s->tb, dnnl_bf16), mc = md(s->M, s->N, false, dnnl_f32), any;
    const dnnl_dims_t bd = { s->K, s->N };
    DNN(dnnl_memory_desc_init_by_tag(&any, 2, bd, dnnl_bf16, dnnl_format_tag_any));
    dnnl_matmul_desc_t desc; dnnl_primitive_desc_t pd; dnnl_memory_t m[3];
    DNN(dnnl_matmul_desc_init(&desc, &ma, packed ? &any : &mb, NULL, &mc));
    DNN(dnnl_primitive_desc_create(&pd, &desc, NULL, engine, NULL));
    const dnnl_memory_desc_t *wb = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    DNN(dnnl_stream_create(&d->stream, engine, dnnl_stream_default_flags));
    DNN(dnnl_memory_create(&m[0], &ma, engine, a));
    DNN(dnnl_memory_create(&m[1], wb, engine, packed ? (*held = get(dnnl_memory_desc_get_size(wb))) : b));
    DNN(dnnl_memory_create(&m[2], &mc, engine, c));
    if (packed) {
        dnnl_memory_t src; dnnl_primitive_desc_t rd; dnnl_primitive_t r;
        DNN(dnnl_memory_create(&src, &mb, engine, b));
        DNN(dnnl_reorder_primitive_desc_create(&rd, &mb, engine, wb, engine, NULL));
        DNN(dnnl_primitive_create(&r, rd));
        DNN(dnnl_primitive_execute(r, d->stream, 2, (dnnl_exec_arg_t[]){ { DNNL_ARG_FROM, src }, { DNNL_ARG_TO, m[1] } }));
        DNN(dnnl_stream_wait(d->stream));
        dnnl_primitive_destroy(r); dnnl_primitive_desc_destroy(rd); dnnl_memory_destroy(src);
    }
    DNN(dnnl_primitive_create(&d->prim, pd));
    d->arg[0] = (dnnl_exec_arg_t){ DNNL_ARG_SRC, m[0] };
    d->arg[1] = (dnnl_exec_arg_t){ DNNL_ARG_WEIGHTS, m[1] };
    d->arg[2] = (dnnl_exec_arg_t){ DNNL_ARG_DST, m[2] };
    dnnl_primitive_desc_destroy(pd);
}
static void one_bf16(const shape_t *s) {
    float *a = numbers(s->M * s->K, "a"), *b = numbers(s->N * s->K, "b"), *c1 = get((size_t)(s->M * s->N) * 4), *c2 = get((size_t)(s->M * s->N) * 4);
    uint16_t *ah = bf16_of(a, s->M * s->K), *bh = bf16_of(b, s->N * s->K);
    const double f = 2e-9 * (double)s->M * (double)s->N * (double)s->K;
    /* way 0: both f32 in memory (rounded while packing); 1: both bf16, plain; 2: bf16 activations, weights in their kernel's layout on both sides */
    for (int way = 0; way < 3; way++) {
        if (way == 2 && !s->tb) continue;
        const lm_matmul_p p = { .ta = s->ta, .tb = s->tb, .mm = LM_BF16 };
        const lm_dtype t = way ? LM_BF16 : LM_F32;
        lm_tensor bt = way == 2 ? panels(b, LM_BF16, s->N, s->K)
                       : s->tb  ? mat(way ? (void *)bh : b, t, s->N, s->K)
                                : mat(way ? (void *)bh : b, t, s->K, s->N);
        ours_t o = { .c = { .op = &lm_op_matmul,
                            .p = &p,
                            .n_in = 2,
                            .n_out = 1,
                            .ctx = ctx,
                            .in = { s->ta ? mat(way ? (void *)ah : a, t, s->K, s->M) : mat(way ? (void *)ah : a, t, s->M, s->K), bt },
                            .out = { mat(c1, LM_F32, s->M, s->N) } } };
        dnn_t d; void *held = NULL;
        dnn_make(&d, s, ah, bh, c2, way == 2, &held);
        if (bind(&o)) {
            double t1, t2;
            turns(ours_fn, &o, &t1, dnn_fn, &d, &t2);
            printf("%-6s %d  %-22s %5lld x %5lld x %5lld  %-20s %8.1f  %8.1f  %6.3f   %.1e\n",
                   way == 0   ? "f32>bf"
                   : way == 1 ? "bf16"
                              : "panel",
                   threads, s->name, (long long)s->M, (long long)s->N, (long long)s->K, o.k->name, f / t1, f / t2, t2 / t1,
                   check(c1, c2, s->M * s->N));
            unbind(&o);
        }
        dnnl_primitive_destroy(d.prim); for (int i = 0; i < 3; i++) dnnl_memory_destroy(d.arg[i].memory);
        dnnl_stream_destroy(d.stream);
        lm_free(ctx, held);
        if (way == 2) lm_free(ctx, bt.data);
    }
    lm_free(ctx, a); lm_free(ctx, b); lm_free(ctx, c1); lm_free(ctx, c2); lm_free(ctx, ah); lm_free(ctx, bh);
}

/* ---- few rows: bandwidth of the weights, beside a plain read of the same bytes --------------------------------------------------------- */
typedef struct { const char *p; size_t n; long sum; int64_t parts; } read_t;
static void read_tile(void *ud, int64_t i, int ith) {
    read_t *r = ud; (void)ith;
    typedef long v8 __attribute__((vector_size(64)));
    const size_t each = r->n / (size_t)r->parts / 512 * 512;
    const v8 *p = (const v8 *)(r->p + (size_t)i * each);
    v8 s[8] = { 0 };
    for (size_t k = 0; k < each / 64; k += 8) for (int j = 0; j < 8; j++) s[j] |= p[k + (size_t)j];
    for (int j = 1; j < 8; j++) s[0] |= s[j];
    __atomic_store_n(&r->sum, s[0][0], __ATOMIC_RELAXED);
}
static void read_fn(void *ud) { read_t *r = ud; lm_pool_tiles(lm_ctx_pool(ctx), r->parts, read_tile, r); }
static void one_gemv(const char *name, int64_t M, int64_t N, int64_t K, lm_dtype mm, lm_layout layout, const lm_quant *q) {
    enum { COPIES = 8 };
    float *a = numbers(M * K, "a"), *b = numbers(N * K, "b"), *c1 = get((size_t)(M * N) * 4);
    const lm_matmul_p p = { .tb = true, .mm = mm };
    lm_tensor bt = q ? mat(NULL, LM_QUANT, N, K) : layout ? panels(b, mm == LM_BF16 ? LM_BF16 : LM_F32, N, K) : mat(b, LM_F32, N, K);
    size_t bytes; bt.quant = q;
    lm_storage_bytes((lm_dtype)bt.dtype, q, (lm_layout)bt.layout, 2, bt.dim, &bytes);
    if (q) { bt.data = get(bytes); for (int64_t i = 0; i < N; i++) lm_quant_row_put(&bt, i, b + i * K); }
    ours_t o = { .c = { .op = &lm_op_matmul,
                        .p = &p,
                        .n_in = 2,
                        .n_out = 1,
                        .ctx = ctx,
                        .in = { mat(a, LM_F32, M, K), bt },
                        .out = { mat(c1, LM_F32, M, N) } } };
    read_t r = { .p = bt.data, .n = bytes, .parts = 64 };
    if (bind(&o)) {
        double t1, t2;
        turns(ours_fn, &o, &t1, read_fn, &r, &t2);
        printf("%-6s %d  %-22s %5lld x %5lld x %5lld  %-20s %8.2f  %8.2f  %6.3f   %.3f ms\n", "gemv", threads, name, (long long)M,
               (long long)N, (long long)K, o.k->name, 1e-9 * (double)bytes / t1, 1e-9 * (double)bytes / t2, t2 / t1, t1 * 1e3);
        unbind(&o);
    }
    if (bt.data != b) lm_free(ctx, bt.data);
    lm_free(ctx, a); lm_free(ctx, b); lm_free(ctx, c1);
}

/* ---- the head: xent_step beside its three products at the speed matmul has --------------------------------------------------------------- */
static void one_head(int64_t N, int64_t V, int64_t d, lm_dtype mm, bool panel) {
    float *x = numbers(N * d, "x"), *w = numbers(V * d, "w"), *dx = get((size_t)(N * d) * 4), *dw = get((size_t)(V * d) * 4),
          *loss = get((size_t)N * 4), *lse = get((size_t)N * 4), *z = get((size_t)(N * V) * 4);
    int32_t *t = get((size_t)N * 4); for (int64_t i = 0; i < N; i++) t[i] = (int32_t)(i * 7919 % V);
    for (int64_t i = 0; i < V * d; i++) w[i] *= 0.1f;
    lm_tensor wt = panel ? panels(w, mm == LM_BF16 ? LM_BF16 : LM_F32, V, d) : mat(w, LM_F32, V, d);
    const lm_xent_step_p p = { .xent = { .mm = mm } };
    ours_t o = { .c = { .op = &lm_op_xent_step,
                        .p = &p,
                        .n_in = 3,
                        .n_out = 4,
                        .ctx = ctx,
                        .in = { mat(x, LM_F32, N, d), wt, lm_tensor_of(t, LM_I32, 1, &N) },
                        .out = { lm_tensor_of(loss, LM_F32, 1, &N), lm_tensor_of(lse, LM_F32, 1, &N), mat(dx, LM_F32, N, d),
                                 mat(dw, LM_F32, V, d) } } };
    const lm_matmul_p m = { .tb = true, .mm = mm };
    ours_t q = { .c = { .op = &lm_op_matmul,
                        .p = &m,
                        .n_in = 2,
                        .n_out = 1,
                        .ctx = ctx,
                        .in = { mat(x, LM_F32, N, d), wt },
                        .out = { mat(z, LM_F32, N, V) } } };
    if (bind(&o) && bind(&q)) {
        double t1, t2, f = 2e-9 * (double)N * (double)V * (double)d;
        turns(ours_fn, &o, &t1, ours_fn, &q, &t2);
        printf("%-6s %d  %-22s %5lld x %5lld x %5lld  %-20s %8.1f  %8.1f  %6.3f   %.1f ms\n", "head", threads,
               panel ? "xent_step, panel W" : "xent_step", (long long)N, (long long)V, (long long)d, o.k->name, 3 * f / t1, f / t2,
               3 * t2 / t1, t1 * 1e3);
        unbind(&o); unbind(&q);
    }
    if (panel) lm_free(ctx, wt.data);
    lm_free(ctx, x); lm_free(ctx, w); lm_free(ctx, dx); lm_free(ctx, dw); lm_free(ctx, loss); lm_free(ctx, lse); lm_free(ctx, z); lm_free(ctx, t);
}

static const shape_t shapes[] = {
    { "square", 512, 512, 512, 0, 0 },      { "square nt", 512, 512, 512, 0, 1 },     { "square tn", 512, 512, 512, 1, 0 },
    { "square", 1024, 1024, 1024, 0, 0 },   { "square nt", 1024, 1024, 1024, 0, 1 },  { "square tn", 1024, 1024, 1024, 1, 0 },
    { "square", 2048, 2048, 2048, 0, 0 },   { "square nt", 2048, 2048, 2048, 0, 1 },  { "square tn", 2048, 2048, 2048, 1, 0 },
    { "square", 4096, 4096, 4096, 0, 0 },   { "square nt", 4096, 4096, 4096, 0, 1 },  { "square tn", 4096, 4096, 4096, 1, 0 },
    { "attn out", 1024, 768, 768, 0, 1 },   { "qkv", 1024, 2304, 768, 0, 1 },         { "mlp up", 1024, 3072, 768, 0, 1 },
    { "mlp down", 1024, 768, 3072, 0, 1 },  { "head", 1024, 50257, 768, 0, 1 },       { "attn out dx", 1024, 768, 768, 0, 0 },
    { "qkv dx", 1024, 768, 2304, 0, 0 },    { "mlp up dx", 1024, 768, 3072, 0, 0 },   { "mlp down dx", 1024, 3072, 768, 0, 0 },
    { "head dx", 1024, 768, 50257, 0, 0 },  { "attn out dw", 768, 768, 1024, 1, 0 },  { "qkv dw", 2304, 768, 1024, 1, 0 },
    { "mlp up dw", 3072, 768, 1024, 1, 0 }, { "mlp down dw", 768, 3072, 1024, 1, 0 }, { "head dw", 50257, 768, 1024, 1, 0 },
};
int main(int argc, char **argv) {
    bool want[5] = { 0 }, any = false; const char *names[5] = { "f32", "bf16", "gemv", "q8", "head" }, *tl = "1,2";
    features = lm_cpu_features();
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--threads") && i + 1 < argc) tl = argv[++i];
        else if (!strcmp(argv[i], "--only") && i + 1 < argc) only = argv[++i];
        else if (!strcmp(argv[i], "--reps") && i + 1 < argc) min_reps = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--budget") && i + 1 < argc) budget = atof(argv[++i]);
        else if (!strcmp(argv[i], "--isa") && i + 1 < argc) features &= lm_cpu_mask_of(argv[++i]);
        else if (!strcmp(argv[i], "--cpu")) cpu_time = true;
        else for (int k = 0; k < 5; k++) if (!strcmp(argv[i], names[k])) want[k] = any = true;
    }
    char cpu[128];
    printf("# %s, isa %s\n# %-6s t  %-22s %21s  %-20s %8s  %8s  %6s\n", lm_cpu_model(cpu, sizeof cpu), lm_cpu_isa_of(features), "type",
           "what", "M x N x K", "kernel", "ours", "peer", "ratio");
    DNN(dnnl_engine_create(&engine, dnnl_cpu, 0));
    for (const char *p = tl; *p; p += strcspn(p, ","), p += *p == ',') {
        threads = atoi(p);
        lm_ctx_opts o = { .n_threads = threads };
        if (lm_ctx_new(&ctx, &o)) return 1;
        openblas_set_num_threads(threads); omp_set_num_threads(threads);
        for (int i = 0; i < LM_COUNT(shapes); i++) {
            char text[64];
            snprintf(text, sizeof text, "%s %lld", shapes[i].name, (long long)shapes[i].M);
            if (only && !strstr(text, only)) continue;
            if (!any || want[0]) one_f32(&shapes[i]);
            if (!any || want[1]) one_bf16(&shapes[i]);
            fflush(stdout);
        }
        if (!any || want[2])
            for (int m = 0; m < 4; m++) {
                static const int64_t ms[] = { 1, 4, 8, 16 };
                one_gemv("f32 panel", ms[m], 50257, 768, LM_F32, LM_PANEL16, NULL);
                one_gemv("f32 panel", ms[m], 3072, 4096, LM_F32, LM_PANEL16, NULL);
                one_gemv("f32 plain", ms[m], 3072, 4096, LM_F32, LM_PLAIN, NULL);
                one_gemv("bf16 panel", ms[m], 50257, 768, LM_BF16, LM_PANEL16X2, NULL);
                one_gemv("bf16 panel", ms[m], 8192, 4096, LM_BF16, LM_PANEL16X2, NULL);
                one_gemv("bf16 from f32 plain", ms[m], 3072, 4096, LM_BF16, LM_PLAIN, NULL);
            }
        if (!any || want[3])
            for (int m = 0; m < 3; m++) {
                static const int64_t ms[] = { 1, 8, 64 };
                one_gemv("q8_0 int", ms[m], 8192, 4096, LM_I8, LM_PLAIN, lm_quant_by_name("Q8_0"));
                one_gemv("q8_0 as f32", ms[m], 8192, 4096, LM_F32, LM_PLAIN, lm_quant_by_name("Q8_0"));
            }
        if (!any || want[4]) {
            one_head(1024, 50257, 768, LM_BF16, false);
            one_head(1024, 50257, 768, LM_BF16, true);
            one_head(512, 50257, 768, LM_F32, false);
        }
        lm_ctx_free(ctx);
    }
    dnnl_engine_destroy(engine);
    return 0;
}
