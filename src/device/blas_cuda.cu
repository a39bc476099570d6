/* blas_cuda.cu — matrix products by cuBLASLt, found at run time: one file runs with and without it.
 *
 * An algorithm is asked for once per problem (shape, leading dimensions, dtypes, alignment, epilogue) and kept, so the same problem has
 * the same bits for the life of the device. For large products the library's next choices are timed as well when the problem is first met (it
 * is up to a quarter off with its first), and the fastest is taken of those that give, on that problem's own numbers, the first one's bits: time
 * decides nothing that shows. Schemes that reduce with atomics are not asked for. The library is column-major: row-major C =
 * A B is its Cᵀ = Bᵀ Aᵀ, so a and b change places. */
#include <dlfcn.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cublasLt.h>
#include "device/cuda_int.cuh"
extern "C" {
#include "device/blas_f16.h"
#include "device/blas_fp8.h"
}

#define CALLS(X)                                                                                                                           \
    X(cublasLtCreate)                                                                                                                      \
    X(cublasLtDestroy) X(cublasLtMatmul) X(cublasLtMatmulAlgoGetHeuristic) X(cublasLtMatmulDescCreate) X(cublasLtMatmulDescDestroy)        \
        X(cublasLtMatmulDescSetAttribute) X(cublasLtMatrixLayoutCreate) X(cublasLtMatrixLayoutDestroy) X(cublasLtMatrixLayoutSetAttribute) \
            X(cublasLtMatmulPreferenceCreate) X(cublasLtMatmulPreferenceDestroy) X(cublasLtMatmulPreferenceSetAttribute)                   \
                X(cublasLtGetVersion)
enum { CACHE = 4096, WORKSPACE = 64 << 20, CHOICES = 16 };
static const double LARGE = 4e10;                  /* operations of a product from which choices are timed */
typedef struct {
    int64_t M, N, K, batch, lda, ldb, ldc, sa, sb, sc, ldaux;
    int ab, c, bias, scaled;                       /* scaled: by 128 of both, or by 128 of a and 128×128 of b */
    unsigned align_a, align_b, align_c;
    bool ta, tb, acc;
} problem;
typedef struct { problem key; cublasLtMatmulDesc_t op; cublasLtMatrixLayout_t a, b, c; cublasLtMatmulAlgo_t algo; bool used; } plan;
typedef struct {
    void *lib; cublasLtHandle_t h; void *workspace; plan *cache; int n;
#define X(f) decltype(&f) p_##f;
    CALLS(X)
#undef X
} blas;
static blas *of(lm_dev *d) { return static_cast<blas *>(static_cast<lm_cuda *>(d->impl)->blas); }

lm_err lm_cuda_blas_open(lm_dev *d) {
    static const char *const names[] = { "libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13", "libcublasLt.so.12",
                                         "/usr/local/cuda/lib64/libcublasLt.so.12", NULL };
    const int major = CUBLAS_VER_MAJOR;
    void *lib = NULL;
    char want[64];
    std::snprintf(want, sizeof want, ".so.%d", major);
    for (int i = 0; names[i] && !lib; i++) if (std::strstr(names[i], want)) lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    std::snprintf(d->libs, sizeof d->libs, "cuBLASLt %d was not found: products run on loam's own slower kernels", major);
    if (!lib) return LM_OK;
    blas *b = static_cast<blas *>(std::calloc(1, sizeof *b));
    if (!b) { dlclose(lib); return LM_E_NOMEM; }
    b->lib = lib;
    static_cast<lm_cuda *>(d->impl)->blas = b;
    bool all = true;
#define X(f) b->p_##f = reinterpret_cast<decltype(&f)>(dlsym(lib, #f)); all = all && b->p_##f;
    CALLS(X)
#undef X
    b->cache = static_cast<plan *>(std::calloc(CACHE, sizeof *b->cache));
    if (!b->cache) return LM_E_NOMEM;
    if (!all || b->p_cublasLtCreate(&b->h) != CUBLAS_STATUS_SUCCESS) {
        b->h = NULL;
        std::snprintf(d->libs, sizeof d->libs, "cuBLASLt cannot be used: products run on loam's own slower kernels");
        return LM_OK;
    }
    LM_TRY(d->alloc(d, WORKSPACE, &b->workspace));
    const size_t v = b->p_cublasLtGetVersion();
    std::snprintf(d->libs, sizeof d->libs, "cuBLASLt %zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
    d->features |= LM_CUDA_BLASLT;
    return LM_OK;
}
void lm_cuda_blas_close(lm_dev *d) {
    blas *b = of(d);
    if (!b) return;
    for (int i = 0; b->cache && i < CACHE; i++) if (b->cache[i].used) {
        plan *p = &b->cache[i];
        b->p_cublasLtMatrixLayoutDestroy(p->a);
        b->p_cublasLtMatrixLayoutDestroy(p->b);
        b->p_cublasLtMatrixLayoutDestroy(p->c);
        b->p_cublasLtMatmulDescDestroy(p->op);
    }
    if (b->h) b->p_cublasLtDestroy(b->h);
    std::free(b->cache);
    dlclose(b->lib);
    std::free(b);
    static_cast<lm_cuda *>(d->impl)->blas = NULL;
}
enum { BY_ROWS = 1, BY_BLOCKS, BF16 = 1, E4M3, F16 };
static cudaDataType_t type_of(int t) { return t == E4M3 ? CUDA_R_8F_E4M3 : t == F16 ? CUDA_R_16F : t ? CUDA_R_16BF : CUDA_R_32F; }
static unsigned align_of(const void *p) {
    unsigned a = 256;
    while (a > 2 && reinterpret_cast<uintptr_t>(p) % a) a /= 2;
    return a;
}
static bool same(const problem *x, const problem *y) { return !std::memcmp(x, y, sizeof *x); }
static bool layout(blas *b, cublasLtMatrixLayout_t *l, int type, int64_t rows, int64_t cols, int64_t ld, int64_t batch, int64_t stride) {
    if (b->p_cublasLtMatrixLayoutCreate(l, type_of(type), static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), ld) !=
        CUBLAS_STATUS_SUCCESS)
        return false;
    const int32_t n = static_cast<int32_t>(batch);
    return batch == 1 ||
           (b->p_cublasLtMatrixLayoutSetAttribute(*l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &n, sizeof n) == CUBLAS_STATUS_SUCCESS &&
            b->p_cublasLtMatrixLayoutSetAttribute(*l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride) ==
                CUBLAS_STATUS_SUCCESS);
}
static bool large(const problem *k) {
    return k->batch == 1 && 2.0 * static_cast<double>(k->M) * static_cast<double>(k->N) * static_cast<double>(k->K) >= LARGE;
}
/* How scales lie: the library's first operand is b. Where they are is told at each call. */
static bool scales(blas *b, const problem *k, const plan *p) {
#if CUDART_VERSION >= 12090
    const int32_t rows = CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F, blocks = CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F;
    return b->p_cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, k->scaled == BY_BLOCKS ? &blocks : &rows, sizeof rows) ==
               CUBLAS_STATUS_SUCCESS &&
           b->p_cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &rows, sizeof rows) == CUBLAS_STATUS_SUCCESS;
#else
    (void)b; (void)k; (void)p;
    return false;
#endif
}
/* The library's first operand is b, its second a; rows of its matrices are our columns. */
static lm_err make(lm_dev *d, blas *b, const problem *k, plan *p, cublasLtMatmulHeuristicResult_t *r, int *found) {
    bool ok = b->p_cublasLtMatmulDescCreate(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS;
    const cublasOperation_t opa = k->tb ? CUBLAS_OP_T : CUBLAS_OP_N, opb = k->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    ok = ok && b->p_cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSA, &opa, sizeof opa) == CUBLAS_STATUS_SUCCESS;
    ok = ok && b->p_cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSB, &opb, sizeof opb) == CUBLAS_STATUS_SUCCESS;
    if (k->bias >= 0) {
        const cublasLtEpilogue_t epi = k->ldaux ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_BIAS;
        const cudaDataType_t bt = type_of(k->bias);
        ok = ok && b->p_cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &epi, sizeof epi) == CUBLAS_STATUS_SUCCESS;
        ok = ok && b->p_cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bt, sizeof bt) == CUBLAS_STATUS_SUCCESS;
        ok = ok && (!k->ldaux || b->p_cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &k->ldaux,
                                                                     sizeof k->ldaux) == CUBLAS_STATUS_SUCCESS);
    }
    ok = ok && (!k->scaled || scales(b, k, p));
    ok = ok && (k->tb ? layout(b, &p->a, k->ab, k->K, k->N, k->ldb, k->batch, k->sb) : layout(b, &p->a, k->ab, k->N, k->K, k->ldb, k->batch, k->sb));
    ok = ok && (k->ta ? layout(b, &p->b, k->ab, k->M, k->K, k->lda, k->batch, k->sa) : layout(b, &p->b, k->ab, k->K, k->M, k->lda, k->batch, k->sa));
    ok = ok && layout(b, &p->c, k->c, k->N, k->M, k->ldc, k->batch, k->sc);
    cublasLtMatmulPreference_t pref = NULL;
    ok = ok && b->p_cublasLtMatmulPreferenceCreate(&pref) == CUBLAS_STATUS_SUCCESS;
    const size_t ws = WORKSPACE;
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, aa = k->align_b, ab = k->align_a,
                   ac = k->align_c;
    ok = ok && b->p_cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &ws, sizeof ws) == CUBLAS_STATUS_SUCCESS;
    ok = ok && b->p_cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes) ==
                   CUBLAS_STATUS_SUCCESS;
    ok = ok && b->p_cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &aa, sizeof aa) == CUBLAS_STATUS_SUCCESS;
    ok = ok && b->p_cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &ab, sizeof ab) == CUBLAS_STATUS_SUCCESS;
    ok = ok && b->p_cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &ac, sizeof ac) == CUBLAS_STATUS_SUCCESS;
    ok = ok && b->p_cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &ac, sizeof ac) == CUBLAS_STATUS_SUCCESS;
    const int most = large(k) ? CHOICES : 1;
    std::memset(r, 0, CHOICES * sizeof *r);
    ok = ok && b->p_cublasLtMatmulAlgoGetHeuristic(b->h, p->op, p->a, p->b, p->c, p->c, pref, most, r, found) == CUBLAS_STATUS_SUCCESS && *found;
    if (pref) b->p_cublasLtMatmulPreferenceDestroy(pref);
    p->algo = r[0].algo; p->key = *k; p->used = true;
    if (ok) return LM_OK;
    b->p_cublasLtMatrixLayoutDestroy(p->a);
    b->p_cublasLtMatrixLayoutDestroy(p->b);
    b->p_cublasLtMatrixLayoutDestroy(p->c);
    b->p_cublasLtMatmulDescDestroy(p->op);
    std::memset(p, 0, sizeof *p);
    return lm_fail(d->ctx, LM_E_UNSUPPORTED, "cuBLASLt has no algorithm for %lldx%lldx%lld (batch %lld, ld %lld %lld %lld, types %d %d)",
                   static_cast<long long>(k->M), static_cast<long long>(k->N), static_cast<long long>(k->K),
                   static_cast<long long>(k->batch), static_cast<long long>(k->lda), static_cast<long long>(k->ldb),
                   static_cast<long long>(k->ldc), k->ab, k->c);
}
/* A sum over all bytes of a matrix and where they are; integers, so the order of the additions is of no matter. */
static __global__ void __launch_bounds__(256) digest(const uint32_t *c, int64_t words, int64_t stride, int64_t n, unsigned long long *sum) {
    unsigned long long s = 0;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x; i < n; i += static_cast<int64_t>(gridDim.x) * 256) {
        unsigned long long v = (static_cast<unsigned long long>(i) << 32 | c[i / words * stride + i % words]) * 0x9e3779b97f4a7c15ull;
        v ^= v >> 29; v *= 0xbf58476d1ce4e5b9ull; v ^= v >> 32;
        s += v;
    }
    for (int h = 16; h; h /= 2) s += __shfl_xor_sync(0xffffffffu, s, h);
    if (threadIdx.x % 32 == 0) atomicAdd(sum, s);
}
/* What timing one choice needs. The product goes where the result will be, which the caller makes again, or where that is added to, elsewhere. */
typedef struct { lm_dev *d; blas *b; const lm_dev_gemm *g; plan *p; void *c; unsigned long long *sum; cudaEvent_t from, to; cudaStream_t s; } trial;
static bool attempt(const trial *t, const cublasLtMatmulAlgo_t *algo, float *ms, unsigned long long *sum) {
    const float one = 1, zero = 0; const lm_dev_gemm *g = t->g; const int64_t size = g->c_bf16 ? 2 : 4, words = g->N * size / 4;
    *ms = 1e30f;
    for (int i = 0; i < 4; i++) {
        float x;
        if (cudaEventRecord(t->from, t->s) != cudaSuccess) return false;
        if (t->b->p_cublasLtMatmul(t->b->h, t->p->op, &one, g->b, t->p->a, g->a, t->p->b, &zero, t->c, t->p->c, t->c, t->p->c, algo,
                                   t->b->workspace, WORKSPACE, t->s) != CUBLAS_STATUS_SUCCESS)
            return false;
        if (cudaEventRecord(t->to, t->s) != cudaSuccess || cudaEventSynchronize(t->to) != cudaSuccess ||
            cudaEventElapsedTime(&x, t->from, t->to) != cudaSuccess)
            return false;
        if (i && x < *ms) *ms = x;
    }
    if (cudaMemsetAsync(t->sum, 0, sizeof *sum, t->s) != cudaSuccess) return false;
    digest<<<1024, 256, 0, t->s>>>(static_cast<const uint32_t *>(t->c), words, g->ldc * size / 4, g->M * words, t->sum);
    return cudaMemcpyAsync(sum, t->sum, sizeof *sum, cudaMemcpyDeviceToHost, t->s) == cudaSuccess && cudaStreamSynchronize(t->s) == cudaSuccess;
}
static lm_err tune(lm_dev *d, blas *b, const lm_dev_gemm *g, plan *p, const cublasLtMatmulHeuristicResult_t *r, int found) {
    trial t = { d, b, g, p, g->c, NULL, NULL, NULL, static_cast<cudaStream_t>(d->stream) };
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    const int64_t size = g->c_bf16 ? 2 : 4;
    void *room = NULL, *sum = NULL;
    if (found < 2 || g->N * size % 4 || g->ldc * size % 4 || cudaStreamIsCapturing(t.s, &capture) != cudaSuccess ||
        capture != cudaStreamCaptureStatusNone)
        return LM_OK;
    LM_TRY(d->alloc(d, 256, &sum));
    lm_err e = g->acc ? d->alloc(d, static_cast<size_t>(g->M * g->ldc * size), &room) : LM_OK;
    if (room) t.c = room;
    t.sum = static_cast<unsigned long long *>(sum);
    if (!e && (cudaEventCreate(&t.from) != cudaSuccess || cudaEventCreate(&t.to) != cudaSuccess)) e = LM_E_DEVICE;
    float first = 0, best, ms; unsigned long long want, got;
    if (!e && attempt(&t, &r[0].algo, &first, &want)) {
        best = 0.98f * first;
        for (int i = 1; i < found; i++)
            if (r[i].state == CUBLAS_STATUS_SUCCESS && attempt(&t, &r[i].algo, &ms, &got) && got == want && ms < best) {
                best = ms;
                p->algo = r[i].algo;
            }
    }
    if (t.from) cudaEventDestroy(t.from);
    if (t.to) cudaEventDestroy(t.to);
    d->free(d, room); d->free(d, sum);
    return e;
}
/* half: what 16 bits are. sa, sb: scales of a and b where they are e4m3 (scaled) */
static lm_err multiply(lm_dev *d, const lm_dev_gemm *g, int half, int scaled, const float *sa, const float *sb) {
    blas *b = of(d);
    if (!b || !b->h) return lm_fail(d->ctx, LM_E_INTERNAL, "a product was asked of cuBLASLt, which is not there");
    problem k;
    std::memset(&k, 0, sizeof k);                  /* compared as bytes */
    k.M = g->M; k.N = g->N; k.K = g->K; k.batch = g->batch; k.lda = g->lda; k.ldb = g->ldb; k.ldc = g->ldc;
    if (g->batch > 1) { k.sa = g->sa; k.sb = g->sb; k.sc = g->sc; }
    k.ab = scaled ? static_cast<int>(E4M3) : g->ab_bf16 ? half : 0;
    k.c = g->c_bf16 ? half : 0;
    k.scaled = scaled;
    k.bias = g->bias ? (g->bias_bf16 ? half : 0) : -1;
    k.ldaux = g->aux ? g->ldaux : 0;
    k.ta = g->ta;
    k.tb = g->tb;
    k.acc = g->acc;
    k.align_a = align_of(g->a); k.align_b = align_of(g->b); k.align_c = g->add && align_of(g->add) < align_of(g->c) ? align_of(g->add) : align_of(g->c);
    plan *p = NULL;
    for (uint64_t h = lm_hash64(&k, sizeof k, 0), i = 0; i < CACHE && !p; i++) {
        plan *q = &b->cache[(h + i) % CACHE];
        if (q->used && !same(&q->key, &k)) continue;
        p = q;
    }
    if (!p) return lm_fail(d->ctx, LM_E_RANGE, "more than %d shapes of matrix products", static_cast<int>(CACHE));
    cublasLtMatmulHeuristicResult_t choice[CHOICES]; int found = 0;
    if (!p->used) LM_TRY(make(d, b, &k, p, choice, &found));
    if (g->bias) b->p_cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias, sizeof g->bias);
    if (g->aux) b->p_cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &g->aux, sizeof g->aux);
    if (scaled) {
        b->p_cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &sb, sizeof sb);
        b->p_cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &sa, sizeof sa);
    }
    if (found > 1) LM_TRY(tune(d, b, g, p, choice, found));
    const float one = 1, keep = g->acc ? 1.0f : 0.0f;
    const cublasStatus_t s = b->p_cublasLtMatmul(b->h, p->op, &one, g->b, p->a, g->a, p->b, &keep, g->add ? g->add : g->c, p->c, g->c, p->c, &p->algo,
                                                 b->workspace, WORKSPACE, static_cast<cudaStream_t>(d->stream));
    return s == CUBLAS_STATUS_SUCCESS ? LM_OK
                                      : lm_fail(d->ctx, LM_E_DEVICE, "cuBLASLt: status %d for %lldx%lldx%lld", static_cast<int>(s),
                                                static_cast<long long>(g->M), static_cast<long long>(g->N), static_cast<long long>(g->K));
}
lm_err lm_dev_matmul(lm_dev *d, const lm_dev_gemm *g) { return multiply(d, g, BF16, 0, NULL, NULL); }
lm_err lm_dev_matmul_f16(lm_dev *d, const lm_dev_gemm *g) { return multiply(d, g, F16, 0, NULL, NULL); }
lm_err lm_dev_matmul_fp8(lm_dev *d, const lm_dev_gemm_fp8 *g) {
    lm_dev_gemm t = {};
    t.M = g->M; t.N = g->N; t.K = t.lda = t.ldb = g->K; t.ldc = g->ldc; t.batch = 1; t.a = g->a; t.b = g->b; t.add = g->add == g->c ? NULL : g->add;
    t.c = g->c; t.c_bf16 = g->c_bf16; t.tb = true; t.acc = g->add != NULL;
    return multiply(d, &t, BF16, g->b_blocks ? BY_BLOCKS : BY_ROWS, g->sa, g->sb);
}
