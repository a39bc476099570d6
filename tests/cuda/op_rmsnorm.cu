/* op_rmsnorm.cu — the CUDA row of rmsnorm against its double reference on all its samples and larger sizes, the same bits from 1 row and from many, then its
 * bandwidth. A program of its own: link with libloam built with LM_CUDA. Exit status 77 where there is no device. */
#include "op/cuda.cuh"
extern "C" {
#include "op/rmsnorm/rmsnorm.h"
}
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

static int bad, checks;
#define CU(e) do { cudaError_t e_ = (e); if (e_ != cudaSuccess) { std::printf("%s: %s\n", #e, cudaGetErrorString(e_)); std::exit(1); } } while (0)
static lm_tensor tensor(void *p, lm_dtype d, int rank, const int64_t *dim) { return lm_tensor_of(p, d, rank, dim); }

static void check(const char *name, const lm_rmsnorm_p *p, int rank, const int64_t *xd, int64_t d) {
    int64_t n = 1; for (int i = 0; i < rank; i++) n *= xd[i];
    const int64_t wd[1] = { d }, stats = n / d; const size_t guard = 64;
    std::vector<float> x(n), w(d), y(n + 2 * guard, NAN), s(stats + 2 * guard, NAN);
    for (int64_t i = 0; i < n; i++) x[i] = lm_rng_normal(lm_rng_of(5, "x"), (uint64_t)i);
    for (int64_t i = 0; i < d; i++) w[i] = lm_rng_normal(lm_rng_of(5, "w"), (uint64_t)i);
    std::vector<double> x64(x.begin(), x.end()), w64(w.begin(), w.end()), y64(n), s64(stats);
    lm_call r = {}; r.op = &lm_op_rmsnorm; r.p = p; r.n_in = 2; r.n_out = 2;
    const int64_t sd[1] = { stats };
    r.in[0] = tensor(x64.data(), LM_F64, rank, xd); r.in[1] = tensor(w64.data(), LM_F64, 1, wd); r.out[0] = tensor(y64.data(), LM_F64, rank, xd); r.out[1] = tensor(s64.data(), LM_F64, 1, sd);
    lm_op_rmsnorm.ref(&r);
    float *dx, *dw, *dy, *ds;
    CU(cudaMalloc(&dx, n * 4)); CU(cudaMalloc(&dw, d * 4)); CU(cudaMalloc(&dy, y.size() * 4)); CU(cudaMalloc(&ds, s.size() * 4));
    CU(cudaMemcpy(dx, x.data(), n * 4, cudaMemcpyHostToDevice)); CU(cudaMemcpy(dw, w.data(), d * 4, cudaMemcpyHostToDevice));
    lm_call c = r;
    c.in[0] = tensor(dx, LM_F32, rank, xd); c.in[1] = tensor(dw, LM_F32, 1, wd); c.out[0] = tensor(dy + guard, LM_F32, rank, xd); c.out[1] = tensor(ds + guard, LM_F32, 1, sd);
    const lm_kernel *k = lm_kernel_choose(&lm_op_rmsnorm, &c, LM_DEV_CUDA, 0);
    if (!k) { std::printf("%s: no CUDA row\n", name); bad++; return; }
    std::vector<float> first;
    for (int run = 0; run < 2; run++) {
        CU(cudaMemset(dy, 0xff, y.size() * 4)); CU(cudaMemset(ds, 0xff, s.size() * 4));
        if (k->phase[0].run(&c, 0, NULL)) { std::printf("%s: refused\n", name); bad++; return; }
        CU(cudaDeviceSynchronize());
        CU(cudaMemcpy(y.data(), dy, y.size() * 4, cudaMemcpyDeviceToHost)); CU(cudaMemcpy(s.data(), ds, s.size() * 4, cudaMemcpyDeviceToHost));
        if (run == 0) first = y;
        else if (std::memcmp(first.data(), y.data(), y.size() * 4)) { std::printf("%s: two runs, two results\n", name); bad++; }
    }
    double rms = 0; for (double v : y64) rms += v * v;
    rms = std::sqrt(rms / (double)n);
    for (int64_t i = 0; i < n; i++, checks++) if (!(std::fabs(y[guard + i] - y64[i]) <= 2e-6 * (std::fabs(y64[i]) + rms))) { std::printf("%s: y[%lld] = %g, wanted %g\n", name, (long long)i, y[guard + i], y64[i]); bad++; break; }
    for (int64_t i = 0; i < stats; i++, checks++) if (!(std::fabs(s[guard + i] - s64[i]) <= 2e-6 * s64[i])) { std::printf("%s: rstd[%lld] = %g, wanted %g\n", name, (long long)i, s[guard + i], s64[i]); bad++; break; }
    for (size_t i = 0; i < guard; i++) if (!std::isnan(y[i]) || !std::isnan(y[guard + n + i]) || !std::isnan(s[i]) || !std::isnan(s[guard + stats + i])) { std::printf("%s: written outside\n", name); bad++; break; }
    if (rank == 2 && xd[0] > 1) {          /* the last row alone gives the bits it had among the others */
        const int64_t one[2] = { 1, xd[1] };
        c.in[0] = tensor(dx + (xd[0] - 1) * xd[1], LM_F32, 2, one); c.out[0] = tensor(dy + guard, LM_F32, 2, one);
        std::vector<float> last(xd[1]);
        const bool same_alignment = xd[1] % 4 == 0;
        k->phase[0].run(&c, 0, NULL); CU(cudaDeviceSynchronize());
        CU(cudaMemcpy(last.data(), dy + guard, last.size() * 4, cudaMemcpyDeviceToHost));
        if (same_alignment && std::memcmp(last.data(), &first[guard + (xd[0] - 1) * xd[1]], last.size() * 4)) { std::printf("%s: a row depends on the others\n", name); bad++; }
    }
    cudaFree(dx); cudaFree(dw); cudaFree(dy); cudaFree(ds);
}
static void bandwidth(int64_t rows, int64_t d) {
    const int64_t xd[2] = { rows, d }, wd[1] = { d }, sd[1] = { rows }; float *x, *w, *y, *s; const lm_rmsnorm_p p = { 1e-5f, 0 };
    CU(cudaMalloc(&x, rows * d * 4)); CU(cudaMalloc(&y, rows * d * 4)); CU(cudaMalloc(&w, d * 4)); CU(cudaMalloc(&s, rows * 4));
    CU(cudaMemset(x, 0x3f, rows * d * 4)); CU(cudaMemset(w, 0x3f, d * 4));
    lm_call c = {}; c.op = &lm_op_rmsnorm; c.p = &p; c.n_in = 2; c.n_out = 2;
    c.in[0] = tensor(x, LM_F32, 2, xd); c.in[1] = tensor(w, LM_F32, 1, wd); c.out[0] = tensor(y, LM_F32, 2, xd); c.out[1] = tensor(s, LM_F32, 1, sd);
    const lm_kernel *k = lm_kernel_choose(&lm_op_rmsnorm, &c, LM_DEV_CUDA, 0);
    cudaEvent_t a, b; CU(cudaEventCreate(&a)); CU(cudaEventCreate(&b)); float best = 1e9f;
    for (int i = 0; i < 30; i++) { float ms; CU(cudaEventRecord(a)); k->phase[0].run(&c, 0, NULL); CU(cudaEventRecord(b)); CU(cudaEventSynchronize(b)); CU(cudaEventElapsedTime(&ms, a, b)); if (ms < best) best = ms; }
    std::printf("rmsnorm %lld x %lld: %.1f us, %.2f TB/s\n", (long long)rows, (long long)d, best * 1e3, (double)rows * (double)d * 8 / best / 1e9);
    cudaFree(x); cudaFree(y); cudaFree(w); cudaFree(s);
}
int main() {
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess || !n) { std::printf("skipped: no CUDA device\n"); return 77; }
    for (const lm_sample *s = lm_op_rmsnorm.samples; s->name; s++) check(s->name, (const lm_rmsnorm_p *)s->params, s->in[0].rank, s->in[0].dim, s->in[1].dim[0]);
    const lm_rmsnorm_p p = { 1e-5f, 0 };
    const int64_t sizes[][3] = { { 5, 4096, 4096 }, { 3, 768, 768 }, { 7, 5120, 5120 }, { 2, 16384, 16384 }, { 2, 20000, 20000 }, { 9, 4096, 128 }, { 1000, 1023, 1023 }, { 300, 2048, 64 } };
    for (auto &z : sizes) { const int64_t xd[2] = { z[0], z[1] }; char name[64]; std::snprintf(name, sizeof name, "%lldx%lld/%lld", (long long)z[0], (long long)z[1], (long long)z[2]); check(name, &p, 2, xd, z[2]); }
    bandwidth(65536, 4096); bandwidth(65536, 768); bandwidth(16384, 8192); bandwidth(8, 4096);
    std::printf("%d checks, %d failed\n", checks, bad);
    return bad != 0;
}
