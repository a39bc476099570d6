/* step_ring.cuh — what step_hopper_cuda.cu is made of: sizes, records, the ring and the warps that fill it. For that file alone.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: none. */
#ifndef LM_STEP_RING_CUH
#define LM_STEP_RING_CUH
#include "device/hopper.cuh"
#include "op/attn/attn.cuh"
#include "op/matmul/step.cuh"
#include "op/overlap.cuh"
typedef __nv_bfloat16 bf16;
namespace {
enum {
    WARPS = 8,
    CONSUMERS = WARPS * 32,
    ALL = CONSUMERS + 32 * 2,
    COLS = 256,
    BOX = 8 * COLS * 2,
    STAGE = 2 * BOX,
    RING = 24,
    CAP = 8 /* stages on their way */,
    ASK = 2 /* warps that ask */,
    BLOCKS = LM_STEP_BLOCKS,
    D = 2048,
    SD = D / COLS /* stages of a tile */,
    MOST_F = 8192,
    MOST_G = 4,
    ROUND = 16 /* the head's tiles between two meetings */
};
/* universal: eight rows, of d or of d_ff columns, from any address on; pages: rows of 128 bytes */
struct args {
    CUtensorMap wide, deep, pages;
    const char *base, *kv_base;
    lm_step_args s;
};
/* What the heads' number fixes: blocks and rows of a kv head; a record's words. */
template <int KV> struct shape {
    static constexpr int HD = 64, G = D / HD / KV, SPLIT = BLOCKS / KV, GROUP_ROWS = (G + 2) * HD, ROWS = GROUP_ROWS / SPLIT,
                         BOXES = ROWS / 8, TILES = (BOXES + 1) / 2, OWN = D / BLOCKS;
    static constexpr int QKV = 0, PART = QKV + GROUP_ROWS * KV, LSE = PART + BLOCKS * G * HD, ATT = LSE + BLOCKS * G, MID = ATT + D / 2,
                         OUT = MID + D, H = OUT + D;
    static_assert(ROWS % 8 == 0 && TILES * SD <= 16 && OWN == 16 && G <= MOST_G && 512 + WARPS * G * HD * 4 <= MOST_F * 2, "");
    static __host__ __device__ int words(int f) { return H + f / 2; }
};
/* shared memory behind the ring */
enum {
    AT_X0 = RING * STAGE,
    AT_X1 = AT_X0 + D * 2,
    AT_X2 = AT_X1 + D * 2,
    AT_PARTS = AT_X2 + MOST_F * 2,
    AT_SQUARES = AT_PARTS + 8192,
    QP = 136 /* bytes from one query to the next */,
    AT_Q = AT_SQUARES + 64,
    AT_K = AT_Q + 8 * QP,
    AT_V = AT_K + 128,
    AT_PAGES = AT_V + 128,
    AT_FULL = AT_PAGES + LM_STEP_PAGES * 4,
    AT_EMPTY = AT_FULL + RING * 8,
    SHARED = AT_EMPTY + RING * 8
};
static_assert(RING % WARPS == 0 && RING % ASK == 0 && CAP % ASK == 0 && SHARED <= 232448 && 2 * ROUND * SD * 64 <= MOST_F * 2, "");
struct ones {
    uint4 *p;
    int64_t n;
};
__global__ void all_ones(const ones a) {
    lm_let_next_begin();
    lm_wait_before();
    for (int64_t i = blockIdx.x * 256 + threadIdx.x; i < a.n; i += gridDim.x * 256) a.p[i] = make_uint4(~0u, ~0u, ~0u, ~0u);
}
#ifdef LM_HOPPER_CODE
/* ---- records ---- */
__device__ __forceinline__ uint4 get16(const void *p) {
    uint4 v;
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p) : "memory");
    return v;
}
__device__ __forceinline__ uint32_t get4(const void *p) {
    uint32_t v;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
__device__ __forceinline__ void put4(void *p, uint32_t v) {
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
__device__ __forceinline__ bool missing(uint4 v) { return v.x == ~0u || v.y == ~0u || v.z == ~0u || v.w == ~0u; }
/* B times sixteen bytes a thread of `n` times sixteen: asked for at once, those that are not there again; !record: all are there, and may be
 * all ones */
template <int B> __device__ __forceinline__ void take(uint4 *v, const void *from, int n, bool record = true) {
    const uint4 *p = static_cast<const uint4 *>(from) + threadIdx.x;
#pragma unroll
    for (int i = 0; i < B; i++)
        v[i] = static_cast<int>(threadIdx.x) + i * CONSUMERS < n ? get16(p + i * CONSUMERS) : make_uint4(0, 0, 0, 0);
    for (bool again = record; again;) {
        again = false;
#pragma unroll
        for (int i = 0; i < B; i++)
            if (missing(v[i])) {
                again = true;
                v[i] = get16(p + i * CONSUMERS);
            }
    }
}
/* ---- shared memory ---- */
__device__ __forceinline__ void ldsm(uint32_t *r, uint32_t at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
__device__ __forceinline__ void ldsm_t(uint32_t *r, uint32_t at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
__device__ __forceinline__ uint32_t turned(uint32_t x) {
    uint32_t y;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}
__device__ __forceinline__ void stsf(uint32_t at, float v) { asm volatile("st.shared.f32 [%0], %1;" ::"r"(at), "f"(v) : "memory"); }
__device__ __forceinline__ void stsi(uint32_t at, uint32_t v) { asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(v) : "memory"); }
__device__ __forceinline__ void sts2(uint32_t at, uint32_t x, uint32_t y) {
    asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(at), "r"(x), "r"(y) : "memory");
}
__device__ __forceinline__ void stsh(uint32_t at, unsigned short v) {
    asm volatile("st.shared.u16 [%0], %1;" ::"r"(at), "h"(v) : "memory");
}
__device__ __forceinline__ unsigned short ldsh(uint32_t at) {
    unsigned short v;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(at) : "memory");
    return v;
}
__device__ __forceinline__ unsigned short bits(float v) {
    const bf16 b = __float2bfloat16_rn(v);
    return *reinterpret_cast<const unsigned short *>(&b);
}
__device__ __forceinline__ float kept(float v) { return __bfloat162float(__float2bfloat16_rn(v)); }
__device__ __forceinline__ void box(uint32_t to, const CUtensorMap *m, int at, uint32_t bar, uint64_t policy) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, %2, %3}], [%4], %5;" ::
            "r"(to),
        "l"(m), "r"(0), "r"(at), "r"(bar), "l"(policy)
        : "memory");
}
/* A stage: four chains of sums, of which each lane has its row's (c[.][0]) and that of the row eight further (c[.][2]). All is loaded before
 * anything is multiplied: a warp has one stage at a time, so nobody else hides its loads. */
__device__ __forceinline__ void multiply(float (*c)[4], uint32_t w, uint32_t x) {
    uint32_t b[COLS / 32][4], a[COLS / 16][4];
#pragma unroll
    for (int k = 0; k < COLS / 32; k++) {
        ldsm(b[k], x + k * 64);
        ldsm(a[2 * k], (w ^ (k % 2 * 64)) + k / 2 * 1024);
        ldsm(a[2 * k + 1], (w ^ (k % 2 * 64 + 32)) + k / 2 * 1024);
    }
#pragma unroll
    for (int k = 0; k < COLS / 32; k++) {
        lm_mma(c[2 * k % 4], a[2 * k], b[k][0], b[k][1]);
        lm_mma(c[2 * k % 4 + 1], a[2 * k + 1], b[k][2], b[k][3]);
    }
}
/* What a block attends to: units of sixteen tokens, `to` of them from `first` on; as many to a stage as `each`. */
struct tokens {
    int pos, first, to, each, stages;
};
template <class S> __device__ tokens tokens_of(int pos, int rank) {
    const int all = (pos + 16) / 16, per = (all + S::SPLIT - 1) / S::SPLIT;
    tokens t;
    t.pos = pos;
    t.first = min(all, rank * per);
    t.to = min(all, t.first + per) - t.first;
    t.each = per <= WARPS ? 1 : 2;
    t.stages = (t.to + t.each - 1) / t.each;
    return t;
}
/* ---- the warp that asks ---- */
template <class S, int KV> __device__ void asks(const args &a, uint32_t base, const tokens &tk, int b, int me) {
    const uint32_t full = base + AT_FULL, empty = base + AT_EMPTY;
    const int hk = b / S::SPLIT, rank = b % S::SPLIT, F = a.s.f;
    const uint64_t once = lm_once();
    int slot = me, parity = 1, far = me, far_parity = 0, n = 0, turn = 0;
    auto mine = [&] {
        const bool yes = turn == me;
        if (++turn == ASK) turn = 0;
        return yes;
    }; /* every ASK-th stage */
    auto room = [&] {
        if (n++ >= CAP / ASK) {
            lm_mbar_wait(full + 8 * far, far_parity);
            if ((far += ASK) >= RING) {
                far = me;
                far_parity ^= 1;
            }
        }
        lm_mbar_wait(empty + 8 * slot, parity);
    };
    auto next = [&] {
        if ((slot += ASK) >= RING) {
            slot = me;
            parity ^= 1;
        }
    };
    auto at = [&](const void *w, int64_t row, int K) {
        return static_cast<int>((static_cast<const char *>(w) - a.base + row * K * 2) >> 7);
    };
    auto ask = [&](const CUtensorMap *m, int top, int low,
                   bool both) { /* two pieces of eight rows; or one, and what is in the other is not looked at */
                                if (!mine()) return;
                                room();
                                lm_mbar_expect(full + 8 * slot, both ? STAGE : BOX);
                                box(base + slot * STAGE, m, top, full + 8 * slot, once);
                                if (both) box(base + slot * STAGE + BOX, m, low, full + 8 * slot, once);
                                next();
    };
    auto tile = [&](const CUtensorMap *m, int top, int low, int stages, bool both) {
        for (int k = 0; k < stages; k++) ask(m, top + k * (COLS / 64), low + k * (COLS / 64), both);
    };
    for (int l = 0; l < a.s.layers; l++) {
        const lm_step_layer &y = a.s.layer[l];
        auto piece = [&](int i) { /* of the group's q, k, v */
                                  const int row = (rank * S::BOXES + i) * 8;
                                  if (row < S::G * S::HD) return at(y.q, hk * S::G * S::HD + row, D);
                                  if (row < (S::G + 1) * S::HD) return at(y.k, hk * S::HD + row - S::G * S::HD, D);
                                  return at(y.v, hk * S::HD + row - (S::G + 1) * S::HD, D);
        };
#pragma unroll 1
        for (int t = 0; t < S::TILES; t++)
            tile(&a.wide, piece(2 * t), 2 * t + 1 < S::BOXES ? piece(2 * t + 1) : 0, SD, 2 * t + 1 < S::BOXES);
        for (int j = 0; j < tk.stages; j++) {
            const int units = min(tk.each, tk.to - j * tk.each);
            if (!mine()) continue;
            room();
            lm_mbar_expect(full + 8 * slot, units * 4096);
            for (int i = 0; i < units; i++) {
                const int u = tk.first + j * tk.each + i, page = lm_ldsi(base + AT_PAGES + (u / 4 - tk.first / 4) * 4);
                const int64_t from = ((static_cast<int64_t>(page) * KV + hk) * LM_KV_PAGE + u % 4 * 16) * S::HD * 2;
                const uint32_t to = base + slot * STAGE + i * 4096;
                lm_tma_get(to, &a.pages, 0, static_cast<int>((static_cast<const char *>(y.kp) - a.kv_base + from) >> 7), full + 8 * slot);
                lm_tma_get(to + 2048, &a.pages, 0, static_cast<int>((static_cast<const char *>(y.vp) - a.kv_base + from) >> 7),
                           full + 8 * slot);
            }
            next();
        }
        {
            const int o = at(y.o, b * 16, D);
            tile(&a.wide, o, o + 8 * (D / 64), SD, true);
        }
        for (int t = 0, n8 = F / 8 / BLOCKS; t < n8; t++)
            tile(&a.wide, at(y.gate, (b * n8 + t) * 8, D), at(y.up, (b * n8 + t) * 8, D), SD, true);
        {
            const int d = at(y.down, b * 16, F);
            tile(&a.deep, d, d + 8 * (F / 64), F / COLS, true);
        }
    }
    const int64_t tiles = (a.s.vocab + 15) / 16; /* the last one ends with the last row */
    for (int64_t t = b * tiles / BLOCKS, end = (b + 1) * tiles / BLOCKS; t < end; t++) {
        const int h = at(a.s.head, min(t * 16, a.s.vocab - 16), D);
        tile(&a.wide, h, h + 8 * (D / 64), SD, true);
    }
    lm_let_next_begin();
}
#endif
}
#endif
