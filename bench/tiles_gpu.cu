/* tiles_gpu.cu [WHAT] — products on tiles_hopper.cuh beside cuBLASLt's, plain and with what their ops do to the tiles (expo.cuh, gated.cuh,
 * turned.cuh, squared.cuh): `bench/gpu.sh tiles`. WHAT: only those whose names have it. */
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>
#include "gpu.cuh"
#include "op/matmul/gated.cuh"
#include "op/matmul/matmul.cuh"
#include "op/matmul/squared.cuh"
#include "op/matmul/turned.cuh"
#include "op/xent_step/expo.cuh"
extern "C" {
#include "op/rope/rope.h"
}
typedef __nv_bfloat16 bf;
template <bool cols> struct plain {
    static constexpr bool PAIRED = false, COLS = cols, A_COLS = false, SHARES = false;
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
static bool same(const bf *x, const bf *y, size_t n) {
    std::vector<bf> a(n), b(n);
    CK(cudaMemcpy(a.data(), x, n * 2, cudaMemcpyDeviceToHost)); CK(cudaMemcpy(b.data(), y, n * 2, cudaMemcpyDeviceToHost));
    return !std::memcmp(a.data(), b.data(), n * 2);
}
/* product, then q and k (all columns but 256) turned by the row of rope, over what it reads; and both at once */
template <int D> static void turned(const shape &q, const lm_tiles &t, const lm_cuda_gemm &g, bf *d, bf *y) {
    const int64_t cols = q.N - 256, in[2] = { q.M, cols }, at[2] = { q.M, D };
    float *table = room<float>(q.M * D);
    fill<<<1024, 256>>>(table, q.M * D, 0.6f, 7);
    const lm_rope_p p = { D, D, false, false };
    lm_call c = {};
    c.op = &lm_op_rope; c.p = &p; c.n_in = 2; c.n_out = 1; c.dev = dev;
    c.in[0] = lm_tensor_of(y, LM_BF16, 2, in); c.in[0].stride[0] = q.N; c.in[1] = lm_tensor_of(table, LM_F32, 2, at); c.out[0] = c.in[0];
    const lm_kernel *k = lm_kernel_choose(&lm_op_rope, &c, LM_DEV_CUDA, dev->features);
    plain<false> e; lm_tile_turned<D> f = {};
    OK(lm_tile_map(&e.c, y, q.M, q.N, q.N)); OK(lm_tile_map(&f.y, d, q.M, q.N, q.N));
    f.t = table; f.ld = D; f.rows = static_cast<int>(q.M); f.turned = static_cast<int>(cols);
    CK(cudaMemset(d, 0, q.M * q.N * 2));
    const auto rope = [&] { OK(k->phase[0].run(&c, 0, str)); };
    const auto both = [&] { OK(lm_tiles_run(&t, f, dev->units, str)); };
    OK(lm_tiles_run(&t, e, dev->units, str)); rope(); both();
    CK(cudaStreamSynchronize(str));
    std::printf("   turned, heads of %d: %s |", D, same(d, y, q.M * q.N) ? "the two rows' bits" : "OTHER BITS");
    for (int round = 0; round < 3; round++) {
        const double l = timed([&] { OK(lm_cuda_gemm_run(dev, &g, NULL, str)); rope(); }), r = timed(rope), o = timed(both);
        std::printf(" lib and rope %.3f (rope %.3f) own %.3f%s", l, r, o, round == 2 ? "\n" : " |");
    }
    cudaFree(table);
}
/* A (K,M), B (K,N): a weight's gradient */
static void gradient(const shape &q) {
    const size_t nx = q.M * q.K, nw = q.N * q.K, nc = q.M * q.N;
    bf *x = room<bf>(nx), *w = room<bf>(nw), *c = room<bf>(nc), *d = room<bf>(nc), *y = room<bf>(nc);
    fill<<<1024, 256>>>(x, nx, 1.0f, 1); fill<<<1024, 256>>>(w, nw, 1.0f / std::sqrt(static_cast<float>(q.K)), 2);
    char *share = room<char>(lm_tiles_room(dev->units));
    const int64_t rows = lm_ceil_div(q.M, 128) * 8, tiles = lm_ceil_div(q.N, 256);
    float *part = room<float>(rows * tiles);
    CK(cudaDeviceSynchronize());
    lm_cuda_gemm g = lib(q, x, w, c);
    g.a.ld = q.M; g.b.ld = q.N; g.ta = true; g.tb = false;
    const lm_tiles t = { x, w, q.M, q.N, q.M, q.N, q.K, 0, share }, whole = { x, w, q.M, q.N, q.M, q.N, q.K, 0, NULL };
    lm_tile_squared e = {};
    OK(lm_tile_map(&e.c, d, q.M, q.N, q.N));
    e.part = part; e.rows = static_cast<int>(q.M); e.tiles = static_cast<int>(tiles);
    const auto library = [&] { OK(lm_cuda_gemm_run(dev, &g, NULL, str)); };
    const auto own = [&] { OK(lm_tiles_run(&whole, e, dev->units, str)); };
    const auto shares = [&] { OK(lm_tiles_run(&t, e, dev->units, str)); };
    library(); own(); CK(cudaStreamSynchronize(str));
    const double off = apart(d, c, nc);
    shares(); CK(cudaStreamSynchronize(str));
    const double off2 = apart(d, c, nc);
    CK(cudaMemcpy(y, d, nc * 2, cudaMemcpyDeviceToDevice));
    bool again = true;
    for (int i = 0; i < 3; i++) { shares(); CK(cudaStreamSynchronize(str)); again = again && same(d, y, nc); }
    std::vector<float> p(rows * tiles); std::vector<bf> h(nc);
    CK(cudaMemcpy(p.data(), part, p.size() * 4, cudaMemcpyDeviceToHost)); CK(cudaMemcpy(h.data(), d, nc * 2, cudaMemcpyDeviceToHost));
    double sum = 0, want = 0;
    for (float v : p) sum += v;
    for (bf v : h) want += static_cast<double>(static_cast<float>(v)) * static_cast<float>(v);
    const double fl = 2e-9 * static_cast<double>(q.M) * static_cast<double>(q.N) * static_cast<double>(q.K);
    std::printf("%-18s %6ld %6ld %5ld apart %.1e, shared %.1e, %s, squares %.1e |",
                q.what, q.M, q.N, q.K, off, off2, again ? "same again" : "OTHER BITS", std::fabs(sum / want - 1));
    for (int round = 0; round < 3; round++) {
        const double l = timed(library), o = timed(own), s = timed(shares);
        std::printf(" lib %.3f (%.0f) own %.3f shares %.3f (%.0f)%s", l, fl / l, o, s, fl / s, round == 2 ? "\n" : " |");
    }
    for (bf *v : { x, w, c, d, y }) cudaFree(v);
    cudaFree(share); cudaFree(part);
}
int main(int argc, char **argv) {
    lm_ctx *ctx;
    OK(lm_ctx_new(&ctx, NULL));
    OK(lm_dev_open(&dev, ctx, "cuda"));
    str = static_cast<cudaStream_t>(dev->stream);
    const int units = dev->units;
    const shape all[] = { { "gpt2-124m logits", 4096, 50304, 768, false }, { "1.1b logits", 4096, 32000, 2048, false }, { "774m logits", 4096, 50304, 1280, false }, { "124m fc", 65536, 3072, 768, true },
                          { "774m fc", 16384, 5120, 1280, true }, { "1.1b gate up", 16384, 11264, 2048, false }, { "1.1b qkv", 16384, 2560, 2048, false }, { "1.1b down", 16384, 2048, 5632, false }, { "8192", 8192, 8192, 8192, false }, { "odd", 1000, 1096, 712, false }, { "odd cols", 1000, 1096, 712, true } };
    for (const shape &q : all) {
        if (argc > 1 && !std::strstr(q.what, argv[1])) continue;
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
        if (q.N == 2560) { turned<64>(q, t, g, d, y); turned<128>(q, t, g, d, y); }
        for (bf *p : { x, w, c, d, y }) cudaFree(p);
    }
    const shape weights[] = { { "1.1b dW o", 2048, 2048, 16384, true },      { "1.1b dW qkv", 2560, 2048, 16384, true },
                              { "1.1b dW gate up", 11264, 2048, 16384, true }, { "1.1b dW down", 2048, 5632, 16384, true },
                              { "124m dW o", 768, 768, 65536, true },        { "124m dW qkv", 2304, 768, 65536, true },
                              { "124m dW fc", 3072, 768, 65536, true },      { "124m dW out", 768, 3072, 65536, true },
                              { "774m dW fc", 5120, 1280, 16384, true },     { "odd dW", 1000, 1096, 4104, true } };
    for (const shape &q : weights) if (argc < 2 || std::strstr(q.what, argv[1])) gradient(q);
    return 0;
}
