#include "../src/op/attn_paged/decode_hopper_cuda.cu"
int lm_tune[8] = { 1, 2, 1, 0, 4, 1 };                                  /* NT, slots, trigger, ahead, warps, early */
lm_err lm_trial_decode(const paged &x, cudaStream_t s) {
    paged p = x;
    if (!lm_tune[5]) p.early = false;
    const how h = { lm_tune[1], lm_tune[3], lm_tune[2] == 0 };
    if (lm_tune[4] == 8) return lm_tune[0] == 1 ? launch<64, 1, 1, 8>(p, h, s) : launch<64, 1, 2, 8>(p, h, s);
    if (lm_tune[4] == 2) return lm_tune[0] == 1 ? launch<64, 1, 1, 2>(p, h, s) : launch<64, 1, 2, 2>(p, h, s);
    return lm_tune[0] == 1 ? launch<64, 1, 1, 4>(p, h, s) : launch<64, 1, 2, 4>(p, h, s);
}
