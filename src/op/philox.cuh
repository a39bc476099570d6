/* philox.cuh — Philox 4x32-10 on a CUDA device: the four words of lm_rng_block. For *_cuda.cu files.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: none. */
#ifndef LM_PHILOX_CUH
#define LM_PHILOX_CUH
#include <stdint.h>
static __device__ __forceinline__ void lm_philox(uint64_t seed, uint64_t stream, uint64_t block, uint32_t *w) {
    uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32), c2 = static_cast<uint32_t>(stream), c3 = static_cast<uint32_t>(stream >> 32);
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const uint32_t h0 = __umulhi(c0, 0xD2511F53u), l0 = c0 * 0xD2511F53u, h2 = __umulhi(c2, 0xCD9E8D57u), l2 = c2 * 0xCD9E8D57u;
        c0 = h2 ^ c1 ^ k0; c1 = l2; c2 = h0 ^ c3 ^ k1; c3 = l0;
    }
    w[0] = c0; w[1] = c1; w[2] = c2; w[3] = c3;
}
#endif
