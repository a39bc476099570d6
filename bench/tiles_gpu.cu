/* tiles_gpu.cu — products on tiles_hopper.cuh beside cuBLASLt's, plain and with what their ops do to the tiles (expo.cuh, gated.cuh): `bench/gpu.sh tiles`. */
#include <algorithm>
#include <cmath>
#include <vector>
#include "gpu.cuh"
#include "op/matmul/gated.cuh"
#include "op/matmul/matmul.cuh"
#include "op/xent_step/expo.cuh"
typedef __nv_bfloat16 bf;
template <bool cols> struct plain {
    static constexpr bool PAIRED = false, COLS = cols;
    struct seen {};
    CUtensorMap c;
    __device__ __forceinline__ seen before(int, int) const { return {}; }
#ifdef LM_HOPPER_CODE
    template <int u> __device__ __forceinline__ void slice(seen &, const uint32_t *w, lm_tile_out &o, int row, int col, int) const {
        o.put(&c, lm_tile_row(row), col + 32 * u, w + 8 * u);
    }
#endif
};
static lm_dev *dev;
static cudaStream_t str;
template <class F> static double timed(const F &f, int n = 12) {
    cudaEvent_t a, b; CK(cudaEventCreate(&a)); CK(cudaEventCreate(&b));
    for (int i = 0; i < 3; i++) f();
    CK(cudaStreamSynchronize(str));
    CK(cudaEventRecord(a, str));
    for (int i = 0; i < n; i++) f();
    CK(cudaEventRecord(b, str)); CK(cudaStreamSynchronize(str));
    float ms; CK(cudaEventElapsedTime(&ms, a, b));
    return ms / n;
}
template <class T> static T *room(size_t n) { T *p; CK(cudaMalloc(&p, n * sizeof(T))); CK(cudaMemset(p, 0, n * sizeof(T))); return p; }
/* largest |x − y| / rms(y) over some of it */
static double apart(const bf *x, const bf *y, size_t n) {
    std::vector<bf> a(n), b(n);
    CK(cudaMemcpy(a.data(), x, n * 2, cudaMemcpyDeviceToHost)); CK(cudaMemcpy(b.data(), y, n * 2, cudaMemcpyDeviceToHost));
    double most = 0, sq = 0;
    for (size_t i = 0; i < n; i++) { const double p = static_cast<float>(a[i]), q = static_cast<float>(b[i]); most = std::max(most, std::isfinite(p) ? std::fabs(p - q) : 1e30); sq += q * q; }
    return most / std::sqrt(sq / static_cast<double>(n));
}
struct shape { const char *what; int64_t M, N, K; bool cols; };
static lm_cuda_gemm lib(const shape &q, bf *x, bf *w, bf *c) {
    lm_cuda_gemm g = {};
    g.batch = 1; g.M = q.M; g.N = q.N; g.K = q.K; g.a.p = x; g.a.ld = q.K; g.a.bf16 = true; g.b.p = w; g.b.ld = q.cols ? q.N : q.K; g.b.bf16 = true; g.tb = !q.cols; g.round = true;
    g.c = c; g.ldc = q.N; g.c_bf16 = true;
    return g;
}
int main() {
    lm_ctx *ctx;
    OK(lm_ctx_new(&ctx, NULL));
    OK(lm_dev_open(&dev, ctx, "cuda"));
    str = static_cast<cudaStream_t>(dev->stream);
    const int units = dev->units;
    const shape all[] = { { "gpt2-124m logits", 4096, 50304, 768, false }, { "1.1b logits", 4096, 32000, 2048, false }, { "774m logits", 4096, 50304, 1280, false }, { "124m fc", 65536, 3072, 768, true },
                          { "774m fc", 16384, 5120, 1280, true }, { "1.1b gate up", 16384, 11264, 2048, false }, { "1.1b qkv", 16384, 2560, 2048, false }, { "1.1b down", 16384, 2048, 5632, false }, { "8192", 8192, 8192, 8192, false }, { "odd", 1000, 1096, 712, false }, { "odd cols", 1000, 1096, 712, true } };
    for (const shape &q : all) {
        const size_t nx = q.M * q.K, nw = q.N * q.K, nc = q.M * q.N;
        bf *x = room<bf>(nx), *w = room<bf>(nw), *c = room<bf>(nc), *d = room<bf>(nc), *y = room<bf>(nc);
        fill<<<1024, 256>>>(x, nx, 1.0f, 1); fill<<<1024, 256>>>(w, nw, 1.0f / std::sqrt(static_cast<float>(q.K)), 2);
        CK(cudaDeviceSynchronize());
        const lm_cuda_gemm g = lib(q, x, w, c);
        const lm_tiles t = { x, w, q.K, g.b.ld, q.M, q.N, q.K, 0 };
        plain<false> pr; plain<true> pc;
        OK(lm_tile_map(&pr.c, d, q.M, q.N, q.N)); pc.c = pr.c;
        OK(lm_cuda_gemm_run(dev, &g, NULL, str)); CK(cudaStreamSynchronize(str));
        const double fl = 2e-9 * static_cast<double>(q.M) * static_cast<double>(q.N) * static_cast<double>(q.K);
        std::printf("%-18s %6ld %6ld %5ld", q.what, q.M, q.N, q.K);
        const size_t look = std::min<size_t>(nc, 1 << 22);
        CK(cudaMemset(d, 0, nc * 2));
        if (q.cols) OK(lm_tiles_run<plain<true>>(&t, pc, units, str)); else OK(lm_tiles_run<plain<false>>(&t, pr, units, str));
        CK(cudaStreamSynchronize(str));
        std::printf(" apart %.1e, end %.1e |", apart(d, c, look), apart(d + nc - look, c + nc - look, look));
        const auto four = [&](const char *what, auto &e, const lm_tiles &p, auto library) {
            typedef typename std::remove_reference<decltype(e)>::type E;
            std::printf(" %s", what);
            for (int round = 0; round < 3; round++) {
                const double l = timed(library), a = timed([&] { OK(lm_tiles_run<E>(&p, e, units, str)); });
                std::printf(" lib %.3f (%.0f) own %.3f (%.0f)%s", l, fl / l, a, fl / a, round == 2 ? "\n" : " |");
            }
        };
        const auto library = [&] { OK(lm_cuda_gemm_run(dev, &g, NULL, str)); };
        if (q.cols) four("", pc, t, library); else four("", pr, t, library);
        if (q.N == 50304 || q.N == 32000) {
            float *sh = room<float>(q.M), *part = room<float>(q.M * 256);
            lm_xent_expo e = { {}, sh, part, static_cast<int>(lm_ceil_div(q.N, LM_TILE_N)), static_cast<int>(q.M), static_cast<int>(q.N) - 47 };
            e.z = pr.c;
            four("   exp", e, t, library);
            cudaFree(sh); cudaFree(part);
        }
        if (q.N == 11264) {
            lm_tiles p = t; p.N = 5632; p.half = 5632;
            lm_tile_gated e;
            OK(lm_tile_map(&e.g, d, q.M, 5632, 11264)); OK(lm_tile_map(&e.u, d + 5632, q.M, 5632, 11264)); OK(lm_tile_map(&e.y, y, q.M, 5632, 5632));
            CK(cudaMemset(d, 0, nc * 2));
            four("   gated", e, p, library);
            std::printf("   apart %.1e\n", apart(d, c, look));
        }
        for (bf *p : { x, w, c, d, y }) cudaFree(p);
    }
    return 0;
}
