/* bench_attn.c — attention kernels against the f32 FMA peak of this machine, measured in the same run.
 * usage: bench_attn [threads] [seconds per row] [isa: 0 avx512, 1 avx2, 2 portable] [cpu]
 * The best of the repetitions counts. `cpu` times processor seconds of one thread instead of wall time, for machines that are busy. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/pool.h"
#include "op/attn/attn.h"
#include "op/attn_grad/attn_grad.h"
#include "op/attn_paged/attn_paged.h"
static lm_ctx *ctx; static char *shared, *scratch; static double peak, seconds = 0.3; static int isa; static clockid_t clk = CLOCK_MONOTONIC;
enum { POOL = 64 << 20 };

static double now(void) { struct timespec t; clock_gettime(clk, &t); return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec; }
static float *floats(int64_t n) {
    float *p = aligned_alloc(64, (size_t)lm_round_up(n * 4, 64));
    if (!p) exit(1);
    for (int64_t i = 0; i < n; i++) p[i] = (float)((uint64_t)i * 2654435761u % 2000003) / 1000001.5f - 1;
    return p;
}
#if defined(__x86_64__)
/* Ten independent chains of 512-bit FMAs, nothing else; 256-bit ones where that is all there is. */
#define SPIN(name, isa_name, bytes)                                                                                                        \
    __attribute__((target(isa_name), noinline)) static double name(void) {                                                                  \
        typedef float v __attribute__((vector_size(bytes)));                                                                             \
        v x = {1e-9f}, y = {0}, a0 = x, a1 = x, a2 = x, a3 = x, a4 = x, a5 = x, a6 = x, a7 = x, a8 = x, a9 = x;                              \
        double t0 = now();                                                                                                                \
        for (int i = 0; i < 30000; i++)                                                                                                   \
            __asm__ volatile("vfmadd231ps %10,%11,%0\nvfmadd231ps %10,%11,%1\nvfmadd231ps %10,%11,%2\nvfmadd231ps %10,%11,%3\nvfmadd231ps %10,%11,%4\n" \
                             "vfmadd231ps %10,%11,%5\nvfmadd231ps %10,%11,%6\nvfmadd231ps %10,%11,%7\nvfmadd231ps %10,%11,%8\nvfmadd231ps %10,%11,%9"     \
                             : "+v"(a0), "+v"(a1), "+v"(a2), "+v"(a3), "+v"(a4), "+v"(a5), "+v"(a6), "+v"(a7), "+v"(a8), "+v"(a9) : "v"(x), "v"(y));      \
        return 30000.0 * 10 * (bytes) / 2 / (now() - t0); }
SPIN(spin512, "avx512f", 64)
SPIN(spin256, "avx2,fma", 32)
static double spin(void) { return isa == 0 ? spin512() : spin256(); }
#else
static double spin(void) { return NAN; }
#endif
static void spin_team(void *ud, int ith, int nth) {
    double b = 0;
    (void)nth;
    for (int i = 0; i < 300; i++) b = fmax(b, spin());
    ((double *)ud)[ith] = b;
}

typedef struct { const lm_call *c; const lm_phase *ph; size_t each; } job;
static void one_tile(void *ud, int64_t tile, int ith) { job *j = ud; if (j->ph->run(j->c, tile, scratch + (size_t)ith * j->each)) exit(1); }
static double best(const lm_op *op, lm_call *c) {
    const lm_kernel *k = op->kernels[isa];
    const size_t each = (size_t)lm_round_up((int64_t)(k->thread_bytes ? k->thread_bytes(c) : 0), 4096);
    if (each * (size_t)lm_ctx_threads(ctx) > POOL || (k->shared_bytes && k->shared_bytes(c) > POOL) || !k->accepts(c)) exit(1);
    double b = 1e9, t00 = now();
    c->shared = shared; c->ctx = ctx;
    for (int r = 0; r < 2 || now() - t00 < seconds; r++) {
        double t0 = now();
        for (int p = 0; p < k->n_phase; p++) {
            job j = { c, &k->phase[p], each };
            lm_pool_tiles(lm_ctx_pool(ctx), k->phase[p].tiles(c), one_tile, &j);
        }
        b = fmin(b, now() - t0);
    }
    return b;
}
#define T2(p, n, m) lm_tensor_of(p, LM_F32, 2, (int64_t[]){ n, m })
#define TI(p, n) lm_tensor_of(p, LM_I32, 1, (int64_t[]){ n })
static void train(int B, int T, int H, int Hk, int D, int64_t window, lm_dtype mm) {         /* q, k, v are views of one fused matrix */
    const int64_t N = (int64_t)B * T, hd = H * D, kd = Hk * D, w = hd + 2 * kd;
    const lm_attn_p p = { H, Hk, D, window, 1 / sqrtf((float)D), mm };
    float *qkv = floats(N * w), *o = floats(N * hd), *lse = floats(N * H), *go = floats(N * hd), *dq = floats(N * hd), *dk = floats(N * kd),
          *dv = floats(N * kd);
    int32_t *start = malloc((size_t)N * 4);
    for (int64_t i = 0; i < N; i++) start[i] = (int32_t)(i / T * T);
    lm_call c = { .op = &lm_op_attn,
                  .p = &p,
                  .n_in = 4,
                  .n_out = 2,
                  .in = { T2(qkv, N, hd), T2(qkv + hd, N, kd), T2(qkv + hd + kd, N, kd), TI(start, N) },
                  .out = { T2(o, N, hd), T2(lse, N, H) } };
    for (int i = 0; i < 3; i++) c.in[i].stride[0] = w;
    const double flops = 4 * lm_attn_pairs(&c.in[3], c.p) * H * D, f = best(&lm_op_attn, &c);
    lm_call g = c;
    g.op = &lm_op_attn_grad; g.n_in = 7; g.n_out = 3; g.in[4] = c.out[0]; g.in[5] = c.out[1]; g.in[6] = T2(go, N, hd);
    g.out[0] = T2(dq, N, hd); g.out[1] = T2(dk, N, kd); g.out[2] = T2(dv, N, kd);
    const double b = best(&lm_op_attn_grad, &g);
    printf("B%-2d T%-4d H%2d/%-2d D%-3d window %-3lld %-4s  forward %8.3f ms %6.1f GF/s %3.0f%%   backward %8.3f ms %6.1f GF/s %3.0f%%\n",
           B, T, H, Hk, D, (long long)window, lm_dtype_name(mm), f * 1e3, flops / f * 1e-9, 100 * flops / f / peak, b * 1e3,
           2.5 * flops / b * 1e-9, 250 * flops / b / peak);
    free(qkv); free(o); free(lse); free(go); free(dq); free(dk); free(dv); free(start);
}
static void decode(int S, int len, int H, int Hk, int D, lm_dtype kv) {
    const int64_t per = (len + 63) / 64, P = S * per, pd[4] = { P, Hk, LM_KV_PAGE, D }, n = P * Hk * LM_KV_PAGE * D;
    const lm_attn_p p = { H, Hk, D, 0, 1 / sqrtf((float)D), kv };
    float *q = floats((int64_t)S * H * D), *o = floats((int64_t)S * H * D), *pages[2] = { floats(n), floats(n) };
    int32_t *table = malloc((size_t)P * 4), *seq = malloc((size_t)S * 4), *pos = malloc((size_t)S * 4);
    for (int i = 0; i < 2 && kv == LM_BF16; i++) lm_convert(pages[i], LM_BF16, pages[i], LM_F32, n);
    for (int64_t i = 0; i < P; i++) table[i] = (int32_t)(i * 7919 % P);
    for (int i = 0; i < S; i++) { seq[i] = i; pos[i] = len - 1; }
    lm_call c = { .op = &lm_op_attn_paged,
                  .p = &p,
                  .n_in = 6,
                  .n_out = 1,
                  .out = { T2(o, S, H * D) },
                  .in = { T2(q, S, H * D), lm_tensor_of(pages[0], kv, 4, pd), lm_tensor_of(pages[1], kv, 4, pd),
                          lm_tensor_of(table, LM_I32, 2, (int64_t[]){ S, per }), TI(seq, S), TI(pos, S) } };
    const double t = best(&lm_op_attn_paged, &c);
    printf("decode %2d sequences of %5d, H%2d/%-2d D%-3d %-4s  %9.1f us  %5.1f GB/s of pages  %6.1f GF/s\n", S, len, H, Hk, D,
           lm_dtype_name(kv), t * 1e6, 2.0 * S * len * Hk * D * (double)lm_dtype_size(kv) / t * 1e-9, 4.0 * S * len * H * D / t * 1e-9);
    free(q); free(o); free(pages[0]); free(pages[1]); free(table); free(seq); free(pos);
}
int main(int argc, char **argv) {
    const int threads = argc > 1 ? atoi(argv[1]) : 2;
    if (argc > 2) seconds = atof(argv[2]);
    if (argc > 3) isa = atoi(argv[3]) % 3;
    if (argc > 4 && !strcmp(argv[4], "cpu")) clk = CLOCK_THREAD_CPUTIME_ID;
    if (threads < 1 || threads > 256 || lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = threads })) return 1;
    if (lm_op_attn.kernels[isa]->needs & ~lm_cpu_features()) { fprintf(stderr, "this machine lacks that instruction set\n"); return 1; }
    shared = aligned_alloc(4096, POOL); scratch = aligned_alloc(4096, POOL);
    if (!shared || !scratch) return 1;
    memset(shared, 0, POOL); memset(scratch, 0, POOL);
    double each[256] = {0};
    lm_pool_run(lm_ctx_pool(ctx), spin_team, each);
    for (int i = 0; i < threads; i++) peak += each[i];
    printf("%d threads; f32 FMA peak %.1f GF/s\n", threads, peak * 1e-9);
    train(1, 1024, 2, 2, 64, 0, LM_F32);
    train(4, 256, 12, 12, 64, 0, LM_F32);
    train(4, 1024, 12, 12, 64, 0, LM_F32);
    train(1, 2048, 12, 12, 64, 0, LM_F32);
    train(4, 1024, 12, 12, 64, 0, LM_BF16);
    train(1, 1024, 16, 4, 128, 0, LM_F32);
    train(1, 1024, 12, 12, 80, 0, LM_F32);
    train(1, 4096, 8, 2, 64, 512, LM_F32);
    train(32, 32, 12, 12, 64, 0, LM_F32);
    decode(1, 2048, 32, 8, 128, LM_F32);
    decode(1, 2048, 32, 8, 128, LM_BF16);
    decode(1, 2048, 12, 12, 64, LM_F32);
    decode(16, 1024, 16, 4, 128, LM_BF16);
    decode(1, 8192, 16, 1, 128, LM_F32);
    lm_ctx_free(ctx); free(shared); free(scratch);
    return 0;
}
