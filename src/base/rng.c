/* rng.c — Philox 4x32-10 and what is drawn from it.
 *
 * Counter words: index (2), stream (2); key words: seed (2), low first. A draw numbered i uses: one word (u32, uniform), the word pair i
 * (double, below), or for normals the pair that i shares with its neighbour, one taking the cosine, the other the sine. Permutations use
 * blocks with the top index bit set, which no other draw reaches. */
#include "base/base.h"
#include <math.h>
#include <string.h>

lm_rng lm_rng_of(uint64_t seed, const char *stream_name) {
    return (lm_rng){ .seed = seed, .stream = lm_hash64(stream_name, strlen(stream_name), 0) };
}

void lm_rng_block(lm_rng r, uint64_t index, uint32_t out[4]) {
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = (uint32_t)r.stream, c3 = (uint32_t)(r.stream >> 32);
    uint32_t k0 = (uint32_t)r.seed, k1 = (uint32_t)(r.seed >> 32);
    for (int i = 0; i < 10; i++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
    }
    out[0] = c0; out[1] = c1; out[2] = c2; out[3] = c3;
}

uint32_t lm_rng_u32(lm_rng r, uint64_t index) {
    uint32_t w[4];
    lm_rng_block(r, index / 4, w);
    return w[index % 4];
}

static uint64_t pair(lm_rng r, uint64_t index) {
    uint32_t w[4];
    lm_rng_block(r, index / 2, w);
    const uint32_t *p = w + index % 2 * 2;
    return p[0] | (uint64_t)p[1] << 32;
}

float lm_rng_uniform(lm_rng r, uint64_t index) { return (float)(lm_rng_u32(r, index) >> 8) * 0x1p-24f; }
double lm_rng_double(lm_rng r, uint64_t index) { return (double)(pair(r, index) >> 11) * 0x1p-53; }

float lm_rng_normal(lm_rng r, uint64_t index) {
    uint32_t w[4];
    lm_rng_block(r, index / 4, w);
    const uint32_t *p = w + index % 4 / 2 * 2;
    double radius = sqrt(-2 * log((p[0] + 0.5) * 0x1p-32)), angle = 2 * 3.14159265358979323846 * (p[1] * 0x1p-32);
    return (float)(radius * (index % 2 ? sin(angle) : cos(angle)));
}

uint64_t lm_rng_below(lm_rng r, uint64_t index, uint64_t n) { return (uint64_t)((unsigned __int128)pair(r, index) * n >> 64); }

/* A Feistel network permutes [0, 4^half); walking on until the value falls below n permutes [0, n). Each step lands with
 * probability above 1/4. Twelve rounds, because in the smallest domains a half is one or two bits and mixes slowly. */
uint64_t lm_rng_permute(lm_rng r, uint64_t i, uint64_t n) {
    if (n <= 1) return 0;
    int bits = 64 - __builtin_clzll(n - 1), half = (bits + 1) / 2;
    uint32_t mask = (uint32_t)(((uint64_t)1 << half) - 1);
    do {
        uint32_t hi = (uint32_t)(i >> half) & mask, lo = (uint32_t)i & mask, w[4];
        for (uint64_t round = 0; round < 12; round++) {
            lm_rng_block(r, (uint64_t)1 << 63 | round << 40 | (uint64_t)half << 32 | lo, w);
            uint32_t next = hi ^ (w[0] & mask);
            hi = lo;
            lo = next;
        }
        i = (uint64_t)hi << half | lo;
    } while (i >= n);
    return i;
}
