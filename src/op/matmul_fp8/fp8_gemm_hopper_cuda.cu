/* fp8_gemm_hopper_cuda.cu — see fp8_gemm.cuh. */
#include "device/hopper.cuh"
#include "op/matmul_fp8/fp8_gemm.cuh"

enum { BM = 256, BN = 128, BK = 128, STAGES = 4, A_BYTES = BM * BK, B_BYTES = BN * BK, SA_BYTES = BM * 4, SB_BYTES = BN * 4, HALF = 128 };
enum { AT_B = STAGES * A_BYTES, AT_SA = AT_B + STAGES * B_BYTES, AT_SB = AT_SA + STAGES * SA_BYTES, AT_BAR = AT_SB + STAGES * SB_BYTES,
       SMEM = AT_BAR + STAGES * 16 + 1024 };
struct fp8_args {
    CUtensorMap a, b;
    const float *sa, *sb; int64_t sa_ld, sb_ld;
    const void *add; void *c; float *part; int64_t ld_add, ldc;
    int M, N, kb, tiles_m, tiles_n, splits, add_bf16, c_bf16, acc;      /* kb: blocks of 128 in K */
};
#ifdef LM_HOPPER_CODE
/* c = [c if add +] a b. c is named as read either way: else the compiler takes other registers for it while the last sums are still being used. */
__device__ __forceinline__ void qgmma(float *c, uint64_t a, uint64_t b, int add) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 {" LM_W64 "}, %64, %65, p, 1, 1;\n}" : LM_C64 : "l"(a), "l"(b), "r"(add));
}
__device__ __forceinline__ float lds1(uint32_t at) { float v; asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(at) : "memory"); return v; }
/* This warp has read its stage. */
__device__ __forceinline__ void leave(uint32_t bar) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) lm_mbar_arrive(bar);
}
/* One warpgroup's 64 rows in one half: written from its accumulator. */
__device__ __forceinline__ void put(const fp8_args &x, const float *acc, int row, int col, int split) {
    const int q = threadIdx.x % 4;
#pragma unroll
    for (int e = 0; e < 2; e++) {
        const int r = row + 8 * e;
        const bool in = r < x.M;
        float v[32];
#pragma unroll
        for (int j = 0; j < 16; j++) { v[2 * j] = acc[4 * j + 2 * e]; v[2 * j + 1] = acc[4 * j + 2 * e + 1]; }
        if (x.splits > 1) {
            float *p = x.part + (static_cast<int64_t>(split) * x.M + r) * x.N + col + 2 * q;
#pragma unroll
            for (int j = 0; j < 16; j++) if (in) *reinterpret_cast<float2 *>(p + 8 * j) = make_float2(v[2 * j], v[2 * j + 1]);
            continue;
        }
        if (x.add && in) {
            if (x.add_bf16) {
                const uint32_t *p = reinterpret_cast<const uint32_t *>(static_cast<const __nv_bfloat16 *>(x.add) + r * x.ld_add + col + 2 * q);
                uint32_t h[16];
#pragma unroll
                for (int j = 0; j < 16; j++) h[j] = p[4 * j];
#pragma unroll
                for (int j = 0; j < 16; j++) { v[2 * j] += __uint_as_float(h[j] << 16); v[2 * j + 1] += __uint_as_float(h[j] & 0xffff0000u); }
            } else {
                const float *p = static_cast<const float *>(x.add) + r * x.ld_add + col + 2 * q;
                float2 h[16];
#pragma unroll
                for (int j = 0; j < 16; j++) h[j] = *reinterpret_cast<const float2 *>(p + 8 * j);
#pragma unroll
                for (int j = 0; j < 16; j++) { v[2 * j] += h[j].x; v[2 * j + 1] += h[j].y; }
            }
        }
        if (x.c_bf16) {
            __nv_bfloat16 *p = static_cast<__nv_bfloat16 *>(x.c) + r * x.ldc + col + 8 * q;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                uint32_t w[4];
#pragma unroll
                for (int i = 0; i < 4; i++) w[i] = lm_pack2(v[8 * j + 2 * i], v[8 * j + 2 * i + 1]);
                lm_quad_transpose(w);
                if (in) *reinterpret_cast<uint4 *>(p + 32 * j) = make_uint4(w[0], w[1], w[2], w[3]);
            }
        } else if (in) {
            float *p = static_cast<float *>(x.c) + r * x.ldc + col + 2 * q;
            if (x.acc) {
                float2 h[16];
#pragma unroll
                for (int j = 0; j < 16; j++) h[j] = *reinterpret_cast<const float2 *>(p + 8 * j);
#pragma unroll
                for (int j = 0; j < 16; j++) { v[2 * j] += h[j].x; v[2 * j + 1] += h[j].y; }
            }
#pragma unroll
            for (int j = 0; j < 16; j++) *reinterpret_cast<float2 *>(p + 8 * j) = make_float2(v[2 * j], v[2 * j + 1]);
        }
    }
}
template <bool blocks> __device__ __forceinline__ void gemm(const fp8_args &x) {
    extern __shared__ char raw[];
    const uint32_t base = (lm_smem(raw) + 1023) & ~1023u, full = base + AT_BAR, empty = full + STAGES * 8;
    const int wg = threadIdx.x / 128, first = static_cast<int>(blockIdx.x), step = static_cast<int>(gridDim.x);
    const int total = x.tiles_m * x.tiles_n * x.splits;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) { lm_mbar_init(full + 8 * i, 1); lm_mbar_init(empty + 8 * i, 8); }
        lm_mbar_inited();
    }
    __syncthreads();
    if (wg == 0) {
        lm_regs_less<24>();
        if (threadIdx.x == 0) {
            int k = 0;
            for (int t = first; t < total; t += step) {
                const int n = t % x.tiles_n, m = t / x.tiles_n % x.tiles_m, split = t / (x.tiles_n * x.tiles_m);
                const int b0 = split * x.kb / x.splits, b1 = (split + 1) * x.kb / x.splits, row = m * BM, col = n * BN;
                const int rows = static_cast<int>(x.sa_ld - row < BM ? x.sa_ld - row : BM);
                for (int b = b0; b < b1; b++, k++) {
                    const int s = k % STAGES; const uint32_t bar = full + 8 * s;
                    lm_mbar_wait(empty + 8 * s, (k / STAGES & 1) ^ 1);
                    lm_mbar_expect(bar, A_BYTES + B_BYTES + rows * 4 + (blocks ? 0 : SB_BYTES));
                    lm_tma_get(base + s * A_BYTES, &x.a, b * BK, row, bar);
                    lm_tma_get(base + s * A_BYTES + A_BYTES / 2, &x.a, b * BK, row + HALF, bar);
                    lm_tma_get(base + AT_B + s * B_BYTES, &x.b, b * BK, col, bar);
                    lm_bulk_get(base + AT_SA + s * SA_BYTES, x.sa + b * x.sa_ld + row, rows * 4, bar);
                    if (!blocks) lm_bulk_get(base + AT_SB + s * SB_BYTES, x.sb + b * x.sb_ld + col, SB_BYTES, bar);
                }
            }
        }
    } else {
        lm_regs_more<240>();
        const int w = wg - 1, lane = threadIdx.x % 32, mine = w * HALF + threadIdx.x % 128 / 32 * 16 + lane / 4;
        int k = 0;
        for (int t = first; t < total; t += step) {
            const int n = t % x.tiles_n, m = t / x.tiles_n % x.tiles_m, split = t / (x.tiles_n * x.tiles_m);
            const int b0 = split * x.kb / x.splits, b1 = (split + 1) * x.kb / x.splits, row = m * BM, col = n * BN;
            const float *sb = blocks ? x.sb + static_cast<int64_t>(col / BN) * x.sb_ld : NULL;
            float acc[2][64], tmp[64], next = blocks ? __ldg(sb + b0) : 0.0f;
#pragma unroll
            for (int i = 0; i < 128; i++) acc[i / 64][i % 64] = 0.0f;
#pragma unroll
            for (int i = 0; i < 64; i++) tmp[i] = 0.0f;
            for (int b = b0; b < b1; b++, k++) {
                const int s = k % STAGES;
                const uint32_t ta = base + s * A_BYTES + w * (A_BYTES / 2), tb = base + AT_B + s * B_BYTES,
                    sa = base + AT_SA + s * SA_BYTES + mine * 4;
                const uint32_t sv = base + AT_SB + s * SB_BYTES + lane % 4 * 8;
                const float one = next;
                if (blocks && b + 1 < b1) next = __ldg(sb + b + 1);
                lm_mbar_wait(full + 8 * s, k / STAGES & 1);
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    float r0 = lds1(sa + h * 256), r1 = lds1(sa + h * 256 + 32);
                    if (blocks) { r0 *= one; r1 *= one; }
                    const uint64_t da = lm_desc_rows(ta + h * (A_BYTES / 4)), db = lm_desc_rows(tb);
                    lm_wgmma_fence();
#pragma unroll
                    for (int q = 0; q < 4; q++) qgmma(tmp, da + 2 * q, db + 2 * q, q);
                    lm_wgmma_commit();
                    lm_wgmma_wait<0>();
                    lm_wgmma_pin<64>(tmp);
                    if (blocks && h) leave(empty + 8 * s);
#pragma unroll
                    for (int j = 0; j < 16; j++) {
                        float2 c = make_float2(1.0f, 1.0f);
                        if (!blocks) c = lm_lds2(sv + j * 32);
                        acc[h][4 * j] = fmaf(tmp[4 * j], blocks ? r0 : r0 * c.x, acc[h][4 * j]);
                        acc[h][4 * j + 1] = fmaf(tmp[4 * j + 1], blocks ? r0 : r0 * c.y, acc[h][4 * j + 1]);
                        acc[h][4 * j + 2] = fmaf(tmp[4 * j + 2], blocks ? r1 : r1 * c.x, acc[h][4 * j + 2]);
                        acc[h][4 * j + 3] = fmaf(tmp[4 * j + 3], blocks ? r1 : r1 * c.y, acc[h][4 * j + 3]);
                    }
                    lm_wgmma_pin<64>(acc[h]);                    /* done before the next products want their registers */
                }
                if (!blocks) leave(empty + 8 * s);
            }
#pragma unroll
            for (int h = 0; h < 2; h++) put(x, acc[h], row + mine + h * 64, col, split);
        }
    }
}
#endif
template <bool blocks> __global__ void __launch_bounds__(384, 1) fp8_kernel(const __grid_constant__ fp8_args x) {
#ifdef LM_HOPPER_CODE
    gemm<blocks>(x);
#endif
}
/* parts of K, added in order */
static __global__ void __launch_bounds__(256) fp8_parts(const float *part, int splits, int64_t n, int64_t cols, const lm_cv add, const lm_cv c,
    int acc) {
    const int64_t i = (static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x) * 4;
    if (i >= n) return;
    float4 s = *reinterpret_cast<const float4 *>(part + i);
    for (int k = 1; k < splits; k++) {
        const float4 v = *reinterpret_cast<const float4 *>(part + k * n + i);
        s.x += v.x; s.y += v.y; s.z += v.z; s.w += v.w;
    }
    const float v[4] = { s.x, s.y, s.z, s.w };
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const int64_t r = (i + e) / cols, j = (i + e) % cols;
        float y = v[e];
        if (add.p) y += lm_ld1(add, r * add.rs + j);
        if (acc) y += lm_ld1(c, r * c.rs + j);
        lm_st1(c, r * c.rs + j, y);
    }
}
/* Parts of K: where tiles leave half of a card of 132 multiprocessors idle, but each part at least eight blocks. Of shapes at capacity alone. */
static int splits_of(const lm_fp8_gemm *g) {
    const int64_t tiles = lm_ceil_div(g->sa_ld, BM) * (g->N / BN), kb = g->K / BK;
    int64_t n = tiles ? 132 / tiles : 1;
    if (n > kb / 8) n = kb / 8;
    if (n > 16) n = 16;
    return n < 2 ? 1 : static_cast<int>(n);
}
size_t lm_fp8_gemm_room(const lm_fp8_gemm *g) {
    const int n = splits_of(g);
    return n > 1 ? static_cast<size_t>(n) * static_cast<size_t>(g->M * g->N) * 4 : 0;
}
template <bool blocks> static lm_err launch(const fp8_args *x, int units, cudaStream_t s) {
    static bool set;
    if (!set && cudaFuncSetAttribute(fp8_kernel<blocks>, cudaFuncAttributeMaxDynamicSharedMemorySize, SMEM) != cudaSuccess) return LM_E_DEVICE;
    set = true;
    const int tiles = x->tiles_m * x->tiles_n * x->splits;
    fp8_kernel<blocks><<<static_cast<unsigned>(tiles < units ? tiles : units), 384, SMEM, s>>>(*x);
    return lm_cuda_launched();
}
lm_err lm_fp8_gemm_run(const lm_fp8_gemm *g, int units, void *room, cudaStream_t s) {
    if (!g->M || !g->N) return LM_OK;
    if (g->K % BK || g->N % BN || !g->K || g->M > INT32_MAX - BM || g->N > INT32_MAX || g->K / BK > INT32_MAX / 16) return LM_E_SHAPE;
    fp8_args x = {};
    LM_TRY(lm_tma_map_bytes(&x.a, g->a, g->M, g->K, HALF));
    LM_TRY(lm_tma_map_bytes(&x.b, g->b, g->N, g->K, HALF));
    x.sa = g->sa; x.sb = g->sb; x.sa_ld = g->sa_ld; x.sb_ld = g->sb_ld; x.add = g->add; x.ld_add = g->ld_add; x.add_bf16 = g->add_bf16;
    x.c = g->c; x.ldc = g->ldc; x.c_bf16 = g->c_bf16; x.acc = g->acc; x.M = static_cast<int>(g->M); x.N = static_cast<int>(g->N);
    x.kb = static_cast<int>(g->K / BK); x.tiles_m = static_cast<int>(lm_ceil_div(g->M, BM)); x.tiles_n = static_cast<int>(g->N / BN);
    x.splits = splits_of(g); x.part = static_cast<float *>(room);
    LM_TRY(g->b_blocks ? launch<true>(&x, units, s) : launch<false>(&x, units, s));
    if (x.splits == 1) return LM_OK;
    const lm_cv add = { const_cast<void *>(g->add), g->ld_add, g->add_bf16 }, c = { g->c, g->ldc, g->c_bf16 };
    fp8_parts<<<LM_CUDA_GRID(g->M * g->N, 1024), 256, 0, s>>>(x.part, x.splits, g->M * g->N, g->N, add, c, g->acc && !g->c_bf16);
    return lm_cuda_launched();
}
