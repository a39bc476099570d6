/* hash.c — XXH3 from libxxhash. */
#include "base/base.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct lm_hasher { XXH3_state_t *state; };

uint64_t lm_hash64(const void *p, size_t n, uint64_t seed) { return XXH3_64bits_withSeed(p, n, seed); }

lm_hash128_t lm_hash128(const void *p, size_t n) {
    XXH128_hash_t h = XXH3_128bits(p, n);
    return (lm_hash128_t){ .lo = h.low64, .hi = h.high64 };
}

lm_hasher *lm_hasher_new(void) {
    lm_hasher *h = lm_alloc(NULL, LM_MEM_MISC, sizeof *h);
    if (!h) return NULL;
    h->state = XXH3_createState();
    if (!h->state || XXH3_128bits_reset(h->state) != XXH_OK) { lm_hasher_free(h); return NULL; }
    return h;
}

/* An update can only fail on a null pointer. */
void lm_hasher_add(lm_hasher *h, const void *p, size_t n) { if (n) (void)XXH3_128bits_update(h->state, p, n); }

lm_hash128_t lm_hasher_get(const lm_hasher *h) {
    XXH128_hash_t d = XXH3_128bits_digest(h->state);
    return (lm_hash128_t){ .lo = d.low64, .hi = d.high64 };
}

void lm_hasher_free(lm_hasher *h) {
    if (!h) return;
    XXH3_freeState(h->state);
    lm_free(NULL, h);
}

bool lm_hash_parse(const char *hex, lm_hash128_t *out) {
    uint64_t w[2] = {0};
    if (strlen(hex) != 32) return false;
    for (int i = 0; i < 32; i++) {
        char c = hex[i];
        int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (v < 0) return false;
        w[i / 16] = w[i / 16] << 4 | (uint64_t)v;
    }
    *out = (lm_hash128_t){ .lo = w[1], .hi = w[0] };
    return true;
}
void lm_hash_hex(lm_hash128_t h, char out[33]) {
    snprintf(out, 33, "%016llx%016llx", (unsigned long long)h.hi, (unsigned long long)h.lo);
}
