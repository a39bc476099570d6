/* step_hopper_cuda.cu — see step.cuh. Bound by reading the weights.
 *
 *   128 blocks stay for the whole step, one a multiprocessor. Two warps of each ask the copy engine for the weights of all phases of all layers,
 *   its block's rows of each, one after another through a ring of 24 stages of 8 KB (sixteen rows, 256 columns), and for the pages that the block
 *   attends to; they never wait for activations, so memory goes on being read while blocks wait for each other (step_ring.cuh). Of what they
 *   asked for only CAP stages are on their way at once: more than memory needs would stand in front of the activations in every queue between
 *   here and the second-level cache.
 *   Eight warps multiply (mma m16n8k16, the weights on the left, the row the same in all columns on the right). Stage i of the step is warp i %
 *   8's, whatever the phase: each slot of the ring is one warp's alone, which waits for it and frees it by itself. (A slot of several warps'
 *   would be waited for two uses ahead, and a barrier's parity says the same of every second use.) What parts of K gave meets once a phase, and
 *   is added in order.
 *   Phases (a layer has five): q, k, v of the sixteen (or eight) blocks that have one kv head; attention, a part of the tokens a block, then the
 *   parts joined, each block a few numbers; o and the residual; gate, up and silu(gate)·up; down and the residual. Norms are half done: x times
 *   the norm's weights is multiplied, sums are divided by the root of mean square that every block adds up for itself.
 *   Between phases nobody meets: whoever finishes a number writes it to a record of its own, which was all ones before; whoever needs it reads
 *   until it is there. All ones is no number that arithmetic gives (NaNs are 7fff…, to bf16 too). A record is written once a step, so none is
 *   overwritten while it is read; a kernel before this one makes them all ones.
 *   Blocks must all be there at once: the launch is cooperative, and so refused where they cannot be.
 * Bits: the order of additions goes by the shape alone, that of attention's parts by the number of tokens. */
#include <initializer_list>
#include "op/matmul/step_ring.cuh"
namespace {
template <int KV> __global__ void __launch_bounds__(ALL, 1) step(const __grid_constant__ args a) {
#ifdef LM_HOPPER_CODE
    typedef shape<KV> S;
    extern __shared__ __align__(1024) char ring[];
    const lm_step_args &s = a.s;
    const int tid = static_cast<int>(threadIdx.x), warp = __shfl_sync(0xffffffffu, tid / 32, 0), lane = tid % 32,
              b = static_cast<int>(blockIdx.x), hk = b / S::SPLIT, rank = b % S::SPLIT, F = s.f;
    const uint32_t base = lm_smem(ring), full = base + AT_FULL, empty = base + AT_EMPTY, X0 = base + AT_X0, X1 = base + AT_X1,
                   X2 = base + AT_X2;
    int pos = s.pos[0], seq = s.seq[0], slot_now = s.slot[0];
    const bool wrong =
        (pos >= 0 && (seq < 0 || seq >= s.seqs || pos >= s.per * LM_KV_PAGE)) || slot_now >= s.pages * LM_KV_PAGE || s.row[0] != 0;
    if (wrong) {
        if (s.fault && b == 0 && tid == 0) *s.fault = LM_E_RANGE;
        pos = slot_now = -1;
    }
    const tokens tk = tokens_of<S>(pos, rank);
    if (tid == CONSUMERS) {
        for (int i = 0; i < RING; i++) {
            lm_mbar_init(full + 8 * i, 1);
            lm_mbar_init(empty + 8 * i, 1);
        }
        lm_mbar_inited();
    }
    if (tk.to > 0)
        for (int i = tid; i <= (tk.first + tk.to - 1) / 4 - tk.first / 4; i += ALL) {
            int page = s.table[seq * s.per + tk.first / 4 + i];
            if (page < 0 || page >= s.pages) {
                if (s.fault) *s.fault = LM_E_RANGE;
                page = 0;
            }
            stsi(base + AT_PAGES + i * 4, static_cast<uint32_t>(page));
        }
    for (int i = tid; i < 8 * QP / 4; i += ALL) stsi(base + AT_Q + i * 4, 0); /* heads beyond the group's: zero */
    __syncthreads();
    if (warp >= WARPS) {
        if (lane == 0) asks<S, KV>(a, base, tk, b, warp - WARPS);
        return;
    }
    /* ---- the warps that multiply ---- */
    const int g = lane / 4, t = lane % 4;
    const uint32_t wl = base + (lane >> 3 & 1) * BOX + (lane & 7) * 128 + (((lane >> 4) ^ (lane & 7)) * 16), xl = (lane >> 3) * 16;
    int at = 0; /* stages before this phase */
    auto wait = [&](int j) {
        const int i = at + j, use = i / RING, slot = i - use * RING;
        lm_mbar_wait(full + 8 * slot, use & 1);
        return slot;
    };
    auto freed = [&](int slot) {
        __syncwarp();
        if (lane == 0) lm_mbar_arrive(empty + 8 * slot);
    };
    /* n stages, k of them all of a tile's columns; their sums to `to`, sixteen of each */
    auto product = [&](uint32_t x, int n, int k, uint32_t to) {
        for (int j = (warp - at) & (WARPS - 1); j < n; j += WARPS) {
            float c[4][4] = {};
            const int slot = wait(j);
            multiply(c, wl + slot * STAGE, xl + x + j % k * (COLS * 2));
            freed(slot);
            if (t == 0) {
                stsf(to + j * 64 + g * 4, (c[0][0] + c[1][0]) + (c[2][0] + c[3][0]));
                stsf(to + j * 64 + 32 + g * 4, (c[0][2] + c[1][2]) + (c[2][2] + c[3][2]));
            }
        }
        at += n;
        lm_bar_sync(1, CONSUMERS);
    };
    auto sum = [&](uint32_t from, int i, int k) { /* row i, of k parts */
                                                  float y = 0;
#pragma unroll 8
                                                  for (int q = 0; q < k; q++) y += lm_ldsf(from + (i / 16 * k + q) * 64 + i % 16 * 4);
                                                  return y;
    };
    float4 n[D / 4 / CONSUMERS];
    auto norm = [&](const float *w) { /* its weights, long before they are needed */
#pragma unroll
                                      for (int i = 0; i < D / 4 / CONSUMERS; i++)
                                          asm volatile("ld.global.nc.v4.f32 {%0,%1,%2,%3}, [%4];"
                                                       : "=f"(n[i].x), "=f"(n[i].y), "=f"(n[i].z), "=f"(n[i].w)
                                                       : "l"(w + 4 * (tid + i * CONSUMERS)));
    };
    auto take_row = [&](const void *x, int which, bool record) { /* x·norm to X0; its squares' sums, one a warp */
                                                                 uint4 v[D / 4 / CONSUMERS];
                                                                 take<D / 4 / CONSUMERS>(v, x, D / 4, record);
                                                                 float q = 0;
#pragma unroll
                                                                 for (int i = 0; i < D / 4 / CONSUMERS; i++) {
                                                                     const float y[4] = { __uint_as_float(v[i].x), __uint_as_float(v[i].y),
                                                                                          __uint_as_float(v[i].z),
                                                                                          __uint_as_float(v[i].w) };
#pragma unroll
                                                                     for (int e = 0; e < 4; e++) q = fmaf(y[e], y[e], q);
                                                                     sts2(X0 + 8 * (tid + i * CONSUMERS),
                                                                          lm_pack2(y[0] * (n[i].x + s.offset), y[1] * (n[i].y + s.offset)),
                                                                          lm_pack2(y[2] * (n[i].z + s.offset), y[3] * (n[i].w + s.offset)));
                                                                 }
#pragma unroll
                                                                 for (int h = 16; h; h /= 2) q += __shfl_xor_sync(0xffffffffu, q, h);
                                                                 if (lane == 0) stsf(base + AT_SQUARES + which * 32 + warp * 4, q);
                                                                 lm_bar_sync(1, CONSUMERS);
    };
    auto factor = [&](int which) {
        float q = 0;
#pragma unroll
        for (int i = 0; i < WARPS; i++) q += lm_ldsf(base + AT_SQUARES + which * 32 + i * 4);
        return 1.0f / sqrtf(q / static_cast<float>(D) + s.eps);
    };
    const uint32_t P_QKV = base + AT_PARTS, P_O = P_QKV + 1024, P_DOWN = P_O + 1024, P_GATED = P_DOWN + 2048;
    norm(s.layer[0].norm1);
    lm_wait_before();
    const bool mine = tid < 16; /* the residual stream's numbers of this block, held here */
    const int row = b * 16 + tid;
    float res = mine ? s.x[row] : 0;
    const float cs = lm_ld1(s.turn, lane), sn = lm_ld1(s.turn, 32 + lane), s2 = s.scale * LM_LOG2E;
    const int words = S::words(F), own = pos < 0 ? -1 : pos / 16 - tk.first; /* the unit that has this row's token */
    const void *x = s.x;
    for (int l = 0; l < s.layers; l++) {
        uint32_t *const rec = static_cast<uint32_t *>(s.records) + static_cast<int64_t>(l) * words;
        const float *norm2 = s.layer[l].norm2;
        unsigned short *kp = static_cast<unsigned short *>(s.layer[l].kp), *vp = static_cast<unsigned short *>(s.layer[l].vp);
        asm volatile("" : "+l"(norm2), "+l"(kp), "+l"(vp)); /* read from the parameters now, not when they are wanted */
        take_row(x, 0, l > 0);
        norm(norm2);
        product(X0, S::TILES * SD, SD, P_QKV);
        if (tid < S::ROWS) put4(rec + S::QKV + hk * S::GROUP_ROWS + rank * S::ROWS + tid, __float_as_uint(sum(P_QKV, tid, SD) * factor(0)));
        /* ---- q, k, v of the group; the first two turned ---- */
        for (int i = tid; i < S::GROUP_ROWS / 2; i += CONSUMERS) {
            const int h = i / 32;
            const uint32_t *p = rec + S::QKV + hk * S::GROUP_ROWS + h * S::HD + lane;
            uint32_t u = get4(p), v = get4(p + 32);
            while (u == ~0u || v == ~0u) {
                u = get4(p);
                v = get4(p + 32);
            }
            float y = kept(__uint_as_float(u)), z = kept(__uint_as_float(v));
            if (h <= S::G) {
                const float y1 = fmaf(y, cs, -(z * sn));
                z = fmaf(z, cs, y * sn);
                y = y1;
            }
            const uint32_t to = base + (h < S::G ? AT_Q + h * QP : h == S::G ? AT_K : AT_V);
            stsh(to + lane * 2, bits(y));
            stsh(to + 64 + lane * 2, bits(z));
        }
        lm_bar_sync(1, CONSUMERS);
        if (warp == WARPS - 1 && own >= 0 && own < tk.to && slot_now >= 0) { /* to the pages */
            const int x0 = slot_now % LM_KV_PAGE;
            const int64_t head = (static_cast<int64_t>(slot_now / LM_KV_PAGE) * KV + hk) * LM_KV_PAGE * S::HD;
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int d = lane + 32 * e;
                kp[head + (x0 / 16 * S::HD + d) * 16 + x0 % 16] = ldsh(base + AT_K + d * 2);
                vp[head + x0 * S::HD + d] = ldsh(base + AT_V + d * 2);
            }
        }
        const int busy = min(tk.stages, static_cast<int>(WARPS)), turn = (warp - at) & (WARPS - 1);
        if (turn < busy) { /* as decode_hopper_cuda.cu: tokens are rows of both products, heads columns */
            uint32_t q[4][2];
#pragma unroll
            for (int ks = 0; ks < 4; ks++)
#pragma unroll
                for (int e = 0; e < 2; e++) q[ks][e] = static_cast<uint32_t>(lm_ldsi(base + AT_Q + g * QP + (ks * 16 + e * 8 + 2 * t) * 2));
            const int kr = lane / 16 * 2 + lane % 8 / 4, part = lane / 8 % 2;
            const uint32_t at_k = kr * 128 + ((lane % 4 * 2 + part) ^ kr) * 16,
                           at_v = (lane / 16 * 8 + lane % 8) * 128 + (part ^ lane % 8) * 16;
            float o[4][4] = {}, top[2] = { -INFINITY, -INFINITY }, z[2] = {};
            for (int j = turn; j < tk.stages; j += WARPS) {
                const int slot = wait(j);
                for (int i = 0; i < min(tk.each, tk.to - j * tk.each); i++) {
                    const int u = j * tk.each + i, x0 = (tk.first + u) * 16;
                    const uint32_t keys = base + slot * STAGE + i * 4096, values = keys + 2048;
                    if (u == own) { /* this row's token, and zeros for values behind it */
                        const int x1 = pos % 16;
#pragma unroll
                        for (int e = 0; e < 2; e++) {
                            const int d = lane + 32 * e, r = d / 4;
                            stsh(keys + r * 128 + ((d % 4 * 2 + x1 / 8) ^ (r & 7)) * 16 + x1 % 8 * 2, ldsh(base + AT_K + d * 2));
                            stsh(values + x1 * 128 + (d / 8 ^ (x1 & 7)) * 16 + d % 8 * 2, ldsh(base + AT_V + d * 2));
                        }
                        for (int k = lane; k < 16 * 8; k += 32)
                            if (k / 8 > x1) lm_stsi4(values + k * 16, 0, 0, 0, 0);
                        lm_fence_async();
                        __syncwarp();
                    }
                    float c[4] = {}, keep[2];
#pragma unroll
                    for (int ks = 0; ks < 4; ks++) {
                        uint32_t f[4];
                        ldsm_t(f, keys + ks * 512 + (at_k ^ (ks & 1) * 64));
                        lm_mma(c, f, q[ks][0], q[ks][1]);
                    }
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        float most = top[e];
#pragma unroll
                        for (int r = 0; r < 2; r++) {
                            float &v = c[2 * r + e];
                            v = x0 + r * 8 + g > pos ? -INFINITY : v * s2;
                            most = fmaxf(most, v);
                        }
#pragma unroll
                        for (int h = 4; h < 32; h *= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, h));
                        const float zero = most == -INFINITY ? 0.0f : most;
                        keep[e] = lm_exp2(top[e] - zero);
                        top[e] = most;
                        z[e] *= keep[e];
#pragma unroll
                        for (int r = 0; r < 2; r++) {
                            float &v = c[2 * r + e];
                            v = lm_exp2(v - zero);
                            z[e] += v;
                        }
                    }
#pragma unroll
                    for (int d = 0; d < 4; d++)
#pragma unroll
                        for (int e = 0; e < 4; e++) o[d][e] *= keep[e & 1];
                    uint32_t big[2], small[2];
#pragma unroll
                    for (int r = 0; r < 2; r++) {
                        const uint32_t p = lm_pack2(c[2 * r], c[2 * r + 1]);
                        big[r] = turned(p);
                        small[r] = turned(lm_pack2(c[2 * r] - __uint_as_float(p << 16), c[2 * r + 1] - __uint_as_float(p & 0xffff0000u)));
                    }
#pragma unroll
                    for (int d = 0; d < 4; d++) {
                        uint32_t f[4];
                        ldsm_t(f, values + (at_v ^ d * 32));
                        lm_mma(o[d], f, big[0], big[1]);
                        lm_mma(o[d], f, small[0], small[1]);
                    }
                }
                freed(slot);
            }
#pragma unroll
            for (int e = 0; e < 2; e++) {
#pragma unroll
                for (int h = 4; h < 32; h *= 2) z[e] += __shfl_xor_sync(0xffffffffu, z[e], h);
                const int h = 2 * t + e;
                if (h >= S::G) continue;
                if (g == 0) sts2(X2 + (turn * 8 + h) * 8, __float_as_uint(top[e]), __float_as_uint(z[e]));
#pragma unroll
                for (int d = 0; d < 4; d++) {
                    stsf(X2 + 512 + ((turn * S::G + h) * 64 + d * 16 + g) * 4, o[d][e]);
                    stsf(X2 + 512 + ((turn * S::G + h) * 64 + d * 16 + 8 + g) * 4, o[d][2 + e]);
                }
            }
        }
        at += tk.stages;
        lm_bar_sync(1, CONSUMERS);
        for (int i = tid; i < S::G * 64; i += CONSUMERS) { /* the block's part */
            const int h = i / 64;
            float most = -INFINITY, y = 0, z = 0;
            for (int w = 0; w < busy; w++) most = fmaxf(most, lm_ldsf(X2 + (w * 8 + h) * 8));
            const float zero = most == -INFINITY ? 0.0f : most;
            for (int w = 0; w < busy; w++) {
                const float2 u = lm_lds2(X2 + (w * 8 + h) * 8);
                const float f = lm_exp2(u.x - zero);
                y = fmaf(lm_ldsf(X2 + 512 + (w * S::G * 64 + i) * 4), f, y);
                z = fmaf(u.y, f, z);
            }
            put4(rec + S::PART + b * S::G * 64 + i, __float_as_uint(z > 0 ? y / z : 0.0f));
            if (i % 64 == 0) put4(rec + S::LSE + b * S::G + h, __float_as_uint(z > 0 ? most + log2f(z) : -INFINITY));
        }
        if (warp == 0) { /* sixteen numbers from all the group's parts */
            constexpr int HALF = S::SPLIT / 2;
            const int j = rank * S::OWN + lane % 16, from = hk * S::SPLIT + lane / 16 * HALF;
            const uint32_t *po = rec + S::PART + from * S::G * 64 + j, *pl = rec + S::LSE + from * S::G + j / 64;
            uint32_t v[HALF], u[HALF];
#pragma unroll
            for (int i = 0; i < HALF; i++) {
                v[i] = get4(po + i * S::G * 64);
                u[i] = get4(pl + i * S::G);
            }
            for (bool again = true; again;) {
                again = false;
#pragma unroll
                for (int i = 0; i < HALF; i++) {
                    if (v[i] == ~0u) {
                        again = true;
                        v[i] = get4(po + i * S::G * 64);
                    }
                    if (u[i] == ~0u) {
                        again = true;
                        u[i] = get4(pl + i * S::G);
                    }
                }
            }
            __syncwarp();
            float most = -INFINITY, y = 0, z = 0;
#pragma unroll
            for (int i = 0; i < HALF; i++) most = fmaxf(most, __uint_as_float(u[i]));
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 16));
            if (most == -INFINITY) most = 0;
#pragma unroll
            for (int i = 0; i < HALF; i++) {
                const float f = lm_exp2(__uint_as_float(u[i]) - most);
                y = fmaf(__uint_as_float(v[i]), f, y);
                z += f;
            }
            y += __shfl_xor_sync(0xffffffffu, y, 16);
            z += __shfl_xor_sync(0xffffffffu, z, 16);
            const float o = z > 0 ? y / z : 0.0f, o1 = __shfl_down_sync(0xffffffffu, o, 1);
            if (lane < 16 && lane % 2 == 0) put4(rec + S::ATT + (hk * S::G * 64 + j) / 2, lm_pack2(o, o1));
        }
        {
            uint4 v[1];
            take<1>(v, rec + S::ATT, D / 8);
            lm_stsi4(X1 + 16 * tid, static_cast<int>(v[0].x), static_cast<int>(v[0].y), static_cast<int>(v[0].z), static_cast<int>(v[0].w));
            lm_bar_sync(1, CONSUMERS);
        }
        product(X1, SD, SD, P_O);
        if (mine) {
            res += kept(sum(P_O, tid, SD));
            put4(rec + S::MID + row, __float_as_uint(res));
        }
        take_row(rec + S::MID, 1, true);
        norm(l + 1 < s.layers ? s.layer[l + 1].norm1 : s.norm);
        {
            const int tiles = F / 8 / BLOCKS;
            product(X0, tiles * SD, SD, P_GATED);
            if (warp * 32 < tiles * 8) {
                const float f = factor(1);
                const int i = tid / 8 * 16 + tid % 8;
                const float gate = kept(sum(P_GATED, i, SD) * f), up = kept(sum(P_GATED, i + 8, SD) * f),
                            h = gate / (1.0f + expf(-gate)) * up;
                const float h1 = __shfl_down_sync(0xffffffffu, h, 1);
                if (tid % 2 == 0 && tid < tiles * 8) put4(rec + S::H + (b * tiles * 8 + tid) / 2, lm_pack2(h, h1));
            }
        }
        {
            uint4 v[MOST_F / 8 / CONSUMERS];
            take<MOST_F / 8 / CONSUMERS>(v, rec + S::H, F / 8);
#pragma unroll
            for (int i = 0; i < MOST_F / 8 / CONSUMERS; i++)
                lm_stsi4(X2 + 16 * (tid + i * CONSUMERS), static_cast<int>(v[i].x), static_cast<int>(v[i].y), static_cast<int>(v[i].z),
                         static_cast<int>(v[i].w));
            lm_bar_sync(1, CONSUMERS);
        }
        product(X2, F / COLS, F / COLS, P_DOWN);
        if (mine) {
            res += kept(sum(P_DOWN, tid, F / COLS));
            put4(rec + S::OUT + row, __float_as_uint(res));
        }
        x = rec + S::OUT;
    }
    take_row(x, 0, true);
    const int64_t tiles = (s.vocab + 15) / 16;
    const int t0 = static_cast<int>(b * tiles / BLOCKS), t1 = static_cast<int>((b + 1) * tiles / BLOCKS);
    const float f = factor(0);
    for (int i = 0, turn = 0; i < t1 - t0; i += ROUND, turn ^= 1) {
        const int m = min(static_cast<int>(ROUND), t1 - t0 - i);
        const uint32_t p = X2 + turn * (ROUND * SD * 64);
        product(X0, m * SD, SD, p);
        if (tid < m * 16) s.logits[min(static_cast<int64_t>(t0 + i + tid / 16) * 16, s.vocab - 16) + tid % 16] = sum(p, tid, SD) * f;
    }
#endif
}
/* Eight rows of `pitch` bytes beginning at any multiple of 128 bytes from base on: coordinates 0, 0, that multiple. A box is eight rows of COLS
 * columns, pieces of 64 columns one behind another, swizzled. */
lm_err universal(CUtensorMap *m, const void *base, int64_t pitch) {
    const cuuint64_t dim[3] = { 64, 8, cuuint64_t{ 1 } << 31 }, step[2] = { static_cast<cuuint64_t>(pitch), 128 };
    const cuuint32_t piece[3] = { 64, 8, COLS / 64 };
    return lm_tma_encode_nd(m, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 128, base, 3, dim, step, piece);
}
template <int KV> lm_err launch(const args &a, cudaStream_t stream) {
    cudaLaunchConfig_t c = {};
    cudaLaunchAttribute at[2];
    at[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    at[0].val.programmaticStreamSerializationAllowed = 1;
    at[1].id = cudaLaunchAttributeCooperative;
    at[1].val.cooperative = 1;
    c.gridDim = dim3(BLOCKS);
    c.blockDim = dim3(ALL);
    c.dynamicSmemBytes = SHARED;
    c.stream = stream;
    c.attrs = at;
    c.numAttrs = 2;
    if (cudaFuncSetAttribute(step<KV>, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED) != cudaSuccess ||
        cudaFuncSetAttribute(step<KV>, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared) != cudaSuccess)
        return LM_E_DEVICE;
    return cudaLaunchKernelEx(&c, step<KV>, a) == cudaSuccess ? LM_OK : LM_E_DEVICE;
}
int64_t words_of(const lm_step_args *s) { return s->kv == 8 ? shape<8>::words(s->f) : shape<16>::words(s->f); }
} // namespace
bool lm_step_sizes(const lm_step_args *s) {
    return s->layers >= 1 && s->layers <= LM_STEP_LAYERS && s->d == D && s->d_head == 64 && s->heads * s->d_head == D &&
           (s->kv == 8 || s->kv == 16) && s->f >= 1024 && s->f <= MOST_F && s->f % (8 * BLOCKS) == 0 && s->vocab >= 16 &&
           s->vocab < INT32_MAX / 2 && s->per * 4 / (BLOCKS / s->kv) / 4 + 3 <= LM_STEP_PAGES;
}
size_t lm_step_bytes(const lm_step_args *s) { return static_cast<size_t>(s->layers * words_of(s)) * 4; }
static void low(const char **base, std::initializer_list<const void *> v, uintptr_t *rest) {
    for (const void *p : v) {
        *rest |= reinterpret_cast<uintptr_t>(p);
        if (!*base || static_cast<const char *>(p) < *base) *base = static_cast<const char *>(p);
    }
}
static void bases(const lm_step_args *s, const char **w, const char **kv, uintptr_t *rest) {
    *w = *kv = NULL;
    *rest = 0;
    for (int l = 0; l < s->layers; l++) {
        const lm_step_layer &y = s->layer[l];
        low(w, { y.q, y.k, y.v, y.o, y.gate, y.up, y.down }, rest);
        low(kv, { y.kp, y.vp }, rest);
        *rest |= reinterpret_cast<uintptr_t>(y.norm1) << 3 | reinterpret_cast<uintptr_t>(y.norm2) << 3;
    }
    low(w, { s->head }, rest);
    *rest |= reinterpret_cast<uintptr_t>(s->x) << 3 | reinterpret_cast<uintptr_t>(s->norm) << 3;
}
bool lm_step_takes(const lm_dev *d, const lm_step_args *s) {
    const char *w, *kv;
    uintptr_t rest;
    bases(s, &w, &kv, &rest);
    return d && d->features & LM_CUDA_WGMMA && !(d->features & LM_CUDA_ROW_ALONE) && d->units >= BLOCKS && rest % 128 == 0;
}
lm_err lm_step_run(const lm_step_args *s, cudaStream_t stream) {
    args a = {};
    uintptr_t rest;
    a.s = *s;
    bases(s, &a.base, &a.kv_base, &rest);
    LM_TRY(universal(&a.wide, a.base, D * 2));
    LM_TRY(universal(&a.deep, a.base, s->f * 2));
    LM_TRY(lm_tma_map(&a.pages, a.kv_base, INT32_MAX, 64, 64, 16));
    const int64_t n = s->layers * words_of(s) / 4;
    LM_TRY(lm_launch_early(all_ones, ones{ static_cast<uint4 *>(s->records), n }, dim3(BLOCKS), 256, 0, 1, true, stream));
    return s->kv == 8 ? launch<8>(a, stream) : launch<16>(a, stream);
}
