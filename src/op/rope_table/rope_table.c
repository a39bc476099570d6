/* rope_table — t_n = a * [cos(pos_n f), sin(pos_n f)]; f from rope_table.h's scaling.
 *
 * LINEAR: Chen et al. 2023. DYNAMIC: "NTK-aware" base change, as transformers has it. LLAMA3: Llama 3.1's wavelength bands. YARN: Peng et al. 2023.
 * LONG: LongRoPE (Ding et al. 2024), a divisor for each frequency.
 * This file is compiled without contraction: every f32 step below rounds, as it does in the framework whose checkpoints these are. */
#include <math.h>
#include "op/rope_table/rope_table.h"
#include "op/rope_table/rope_table_int.h"
#include "op/rule.h"

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_rope_table_p *p = c->p;
    if (p->d_head < 2 || p->d_head % 2 || p->d_head > LM_ROPE_MAX_D)
        return lm_fail(ctx, LM_E_SHAPE, "rope_table: d_head is %d, wanted an even number up to %d", p->d_head, LM_ROPE_MAX_D);
    if (!(p->base > 0) || !isfinite(p->base)) return lm_fail(ctx, LM_E_SHAPE, "rope_table: base is %g, wanted a positive number", p->base);
    if (p->scaling != LM_ROPE_NONE && !(p->factor > 0) && !((p->scaling == LM_ROPE_YARN || p->scaling == LM_ROPE_LONG) && p->max_pos > 0))
        return lm_fail(ctx, LM_E_SHAPE, "rope_table: factor is %g, wanted a positive number", p->factor);
    if (p->scaling == LM_ROPE_DYNAMIC && (p->max_pos < 1 || p->d_head < 4))
        return lm_fail(ctx, LM_E_SHAPE, "rope_table: dynamic scaling wants max_pos >= 1 (got %lld) and d_head >= 4", (long long)p->max_pos);
    if ((p->scaling == LM_ROPE_LLAMA3 || p->scaling == LM_ROPE_YARN || p->scaling == LM_ROPE_LONG) && p->original_max_pos < 1)
        return lm_fail(ctx, LM_E_SHAPE, "rope_table: original_max_pos is %lld, wanted a positive number", (long long)p->original_max_pos);
    if (p->scaling == LM_ROPE_LLAMA3 && !(p->low_freq_factor > 0 && p->high_freq_factor > p->low_freq_factor))
        return lm_fail(ctx, LM_E_SHAPE, "rope_table: low_freq_factor %g and high_freq_factor %g, wanted 0 < low < high", p->low_freq_factor,
                       p->high_freq_factor);
    if (p->scaling == LM_ROPE_LONG) {
        if (p->d_head > 2 * LM_ROPE_FACTORS || p->original_max_pos < 2)
            return lm_fail(ctx, LM_E_SHAPE, "rope_table: longrope wants d_head up to %d (got %d) and original_max_pos >= 2 (got %lld)",
                           2 * LM_ROPE_FACTORS, p->d_head, (long long)p->original_max_pos);
        for (int i = 0; i < p->d_head / 2; i++)
            if (!(p->short_factor[i] > 0 && p->long_factor[i] > 0))
                return lm_fail(ctx, LM_E_SHAPE, "rope_table: longrope's factors %d are %g and %g, wanted positive numbers", i,
                               (double)p->short_factor[i], (double)p->long_factor[i]);
    }
    if (p->scaling < LM_ROPE_NONE || p->scaling > LM_ROPE_LONG)
        return lm_fail(ctx, LM_E_SHAPE, "rope_table: scaling number %d is not known", (int)p->scaling);
    LM_TRY(lm_want(ctx, c, 0, LM_I32, 1, 1));
    out[0] = LM_TYPE(LM_F32, c->in[0].dim[0], p->d_head);
    return LM_OK;
}

static void yarn(const lm_rope_table_p *p, const float *pos_freq, float *inv, float *attn) {
    const int d = p->d_head, n = d / 2;
    const double pi = 3.14159265358979323846, factor = p->factor > 0 ? p->factor : (double)p->max_pos / (double)p->original_max_pos;
    const double fast = p->beta_fast > 0 ? p->beta_fast : 32, slow = p->beta_slow > 0 ? p->beta_slow : 1;
    if (p->attention_factor != 0) *attn = (float)p->attention_factor;
    else if (factor <= 1) *attn = 1;
    else if (p->mscale != 0 && p->mscale_all_dim != 0)
        *attn = (float)((0.1 * p->mscale * log(factor) + 1) / (0.1 * p->mscale_all_dim * log(factor) + 1));
    else *attn = (float)(0.1 * log(factor) + 1);
    double low = d * log((double)p->original_max_pos / (fast * 2 * pi)) / (2 * log(p->base)),
           high = d * log((double)p->original_max_pos / (slow * 2 * pi)) / (2 * log(p->base));
    if (!p->no_truncate) { low = floor(low); high = ceil(high); }
    low = fmax(low, 0); high = fmin(high, d - 1);
    if (low == high) high += 0.001;
    for (int i = 0; i < n; i++) {
        float ramp = ((float)i - (float)low) / (float)(high - low);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        float keep = 1.0f - ramp, inter = 1.0f / ((float)factor * pos_freq[i]), extra = 1.0f / pos_freq[i];
        float a = inter * (1.0f - keep), b = extra * keep;
        inv[i] = a + b;
    }
}

void lm_rope_inv_freq(const lm_rope_table_p *p, int64_t seq_len, float *inv, float *attn) {
    const int n = p->d_head / 2;
    double base = p->base;
    float freq[LM_ROPE_MAX_D / 2];
    if (p->scaling == LM_ROPE_DYNAMIC && seq_len > p->max_pos) {        /* there the length is a tensor, so the new base is made in f32 */
        float t = (float)seq_len * (float)p->factor / (float)p->max_pos - (float)(p->factor - 1);
        base = (double)((float)base * (float)pow((double)t, (double)p->d_head / (double)(p->d_head - 2)));
    }
    for (int i = 0; i < n; i++) {
        float e = (float)(2 * i) / (float)p->d_head;
        freq[i] = (float)pow((double)(float)base, (double)e);
        inv[i] = 1.0f / freq[i];
    }
    *attn = 1;
    if (p->scaling == LM_ROPE_LINEAR) for (int i = 0; i < n; i++) inv[i] /= (float)p->factor;
    if (p->scaling == LM_ROPE_YARN) yarn(p, freq, inv, attn);
    if (p->scaling == LM_ROPE_LONG) {
        const float *f = p->context > p->original_max_pos ? p->long_factor : p->short_factor;
        const double factor = p->factor > 0 ? p->factor : (double)p->max_pos / (double)p->original_max_pos;
        for (int i = 0; i < n; i++) inv[i] = 1.0f / (f[i] * freq[i]);
        if (p->attention_factor != 0) *attn = (float)p->attention_factor;
        else if (factor > 1) *attn = (float)sqrt(1 + log(factor) / log((double)p->original_max_pos));
    }
    if (p->scaling == LM_ROPE_LLAMA3) {
        const double old = (double)p->original_max_pos;
        const float factor = (float)p->factor, lo = (float)p->low_freq_factor, band = (float)(p->high_freq_factor - p->low_freq_factor);
        const float long_wave = (float)(old / p->low_freq_factor), short_wave = (float)(old / p->high_freq_factor);
        for (int i = 0; i < n; i++) {
            /* a number over a tensor is its reciprocal times the number there */
            float wave = 1.0f / inv[i] * (float)(2 * 3.14159265358979323846);
            float scaled = wave > long_wave ? inv[i] / factor : inv[i];
            float smooth = (1.0f / wave * (float)old - lo) / band;
            float a = (1.0f - smooth) * scaled / factor, b = smooth * scaled;
            inv[i] = wave < short_wave || wave > long_wave ? scaled : a + b;
        }
    }
}

int64_t lm_rope_table_len(const lm_call *c) {
    const int32_t *pos = c->in[0].data;
    int64_t len = 1;
    for (int64_t i = 0; i < c->in[0].dim[0]; i++) len = lm_max64(len, (int64_t)pos[i] + 1);
    return len;
}

static void ref(const lm_call *c) {
    const lm_rope_table_p *p = c->p;
    const int32_t *pos = c->in[0].data;
    const int64_t N = c->in[0].dim[0], n = p->d_head / 2;
    float inv[LM_ROPE_MAX_D / 2], attn;
    lm_rope_inv_freq(p, lm_rope_table_len(c), inv, &attn);
    double *y = lm_f64(&c->out[0]);
    for (int64_t r = 0; r < N; r++) for (int64_t i = 0; i < n; i++) {
        const float angle = (float)pos[r] * inv[i];
        y[r * 2 * n + i] = cos((double)angle) * (double)attn;
        y[r * 2 * n + n + i] = sin((double)angle) * (double)attn;
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    *flops = 30.0 * (double)lm_numel(&c->out[0]);
    *bytes = 4.0 * (double)lm_numel(&c->out[0]);
}

lm_value *lm_rope_table(lm_graph *g, lm_value *pos, const lm_rope_table_p *p) { return lm_emit(g, &lm_op_rope_table, p, 1, &pos); }

#define POS(n, fill, arg) { { 1, { n }, LM_I32, fill, arg, 0, 0 } }
#define P(...) &(const lm_rope_table_p){ __VA_ARGS__ }
static const lm_sample samples[] = {
    { "plain", P(.d_head = 64, .base = 10000), POS(70, LM_FILL_IOTA, 0), 2e-7, 0, -1 },
    { "one row of two", P(.d_head = 2, .base = 10000), POS(1, LM_FILL_IDS, 100), 2e-7, 0, -1 },
    { "far positions", P(.d_head = 128, .base = 500000), POS(40, LM_FILL_IDS, 1 << 20), 2e-7, 0, -1 },
    { "positions beyond exact multiples of pi/2", P(.d_head = 20, .base = 10000), POS(9, LM_FILL_IDS, 2000000000), 2e-7, 0, -1 },
    { "linear", P(.d_head = 32, .scaling = LM_ROPE_LINEAR, .base = 10000, .factor = 4), POS(33, LM_FILL_IDS, 9000), 2e-7, 0, -1 },
    { "dynamic, inside", P(.d_head = 48, .scaling = LM_ROPE_DYNAMIC, .base = 10000, .factor = 2, .max_pos = 2048),
      POS(17, LM_FILL_IDS, 2000), 2e-7, 0, -1 },
    { "dynamic, beyond", P(.d_head = 48, .scaling = LM_ROPE_DYNAMIC, .base = 10000, .factor = 2, .max_pos = 2048),
      POS(50, LM_FILL_IDS, 9000), 2e-7, 0, -1 },
    { "llama3",
      P(.d_head = 128, .scaling = LM_ROPE_LLAMA3, .base = 500000, .factor = 8, .low_freq_factor = 1, .high_freq_factor = 4,
        .original_max_pos = 8192),
      POS(33, LM_FILL_IDS, 100000), 2e-7, 0, -1 },
    { "yarn", P(.d_head = 64, .scaling = LM_ROPE_YARN, .base = 10000, .factor = 16, .original_max_pos = 4096), POS(31, LM_FILL_IDS, 60000),
      2e-7, 0, -1 },
    { "yarn, mscale",
      P(.d_head = 64, .scaling = LM_ROPE_YARN, .base = 10000, .factor = 40, .original_max_pos = 4096, .mscale = 1, .mscale_all_dim = 0.8,
        .no_truncate = true),
      POS(31, LM_FILL_IDS, 60000), 2e-7, 0, -1 },
    { "longrope, short", P(.d_head = 6, .scaling = LM_ROPE_LONG, .base = 10000, .max_pos = 131072, .original_max_pos = 4096, .context = 4096,
                           .short_factor = { 1, 1.1f, 1.5f }, .long_factor = { 1.2f, 9, 40 }), POS(31, LM_FILL_IDS, 4096), 2e-7, 0, -1 },
    { "longrope, long", P(.d_head = 6, .scaling = LM_ROPE_LONG, .base = 10000, .max_pos = 131072, .original_max_pos = 4096, .context = 4097,
                          .short_factor = { 1, 1.1f, 1.5f }, .long_factor = { 1.2f, 9, 40 }), POS(31, LM_FILL_IDS, 100000), 2e-7, 0, -1 },
    { 0 }
};

LM_SIMD_CUDA_KERNELS(lm_k_rope_table);
const lm_op lm_op_rope_table = { .name = "rope_table",
                                 .math = "t_n = a * [cos(pos_n f), sin(pos_n f)]",
                                 .n_in = 1,
                                 .n_out = 1,
                                 .params_bytes = sizeof(lm_rope_table_p),
                                 .opaque = 1,
                                 .shape = shape,
                                 .ref = ref,
                                 .cost = cost,
                                 .kernels = lm_k_rope_table,
                                 .samples = samples };
