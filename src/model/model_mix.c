/* model_mix.c — see model_mix.h. A rule applies if its place and condition do; the first one counts. */
#include "model/model_mix.h"
#include <string.h>

const lm_mix lm_mixes[] = {
    { "Q8_0", 7, "Q8_0" },      { "Q6_K", 18, "Q6_K" },     { "Q5_K_M", 17, "Q5_K" },   { "Q5_K_S", 16, "Q5_K" },   { "Q4_K_M", 15, "Q4_K" },
    { "Q4_K_S", 14, "Q4_K" },   { "Q3_K_L", 13, "Q3_K" },   { "Q3_K_M", 12, "Q3_K" },   { "Q3_K_S", 11, "Q3_K" },   { "Q2_K", 10, "Q2_K" },
    { "Q2_K_S", 21, "Q2_K" },   { "IQ4_NL", 25, "IQ4_NL" }, { "IQ4_XS", 30, "IQ4_XS" }, { "Q5_1", 9, "Q5_1" },      { "Q5_0", 8, "Q5_0" },
    { "Q4_1", 3, "Q4_1" },      { "Q4_0", 2, "Q4_0" },      { "TQ1_0", 36, "TQ1_0" },   { "TQ2_0", 37, "TQ2_0" },   { NULL, 0, NULL } };
typedef enum { EMBED, VALUES, DOWN, OUT, ELSE } place;
typedef enum { ALWAYS, MORE, FIRST_8TH, FIRST_16TH, FIRST_2, FIRST_4, GQA_4, WEIGHED_8TH, UNWEIGHED_8TH } when;
static const struct { const char *mix; place place; when when; const char *format; } rules[] = {
    { "TQ1_0", EMBED, ALWAYS, "Q4_K" },    { "TQ2_0", EMBED, ALWAYS, "Q4_K" },
    { "Q2_K", VALUES, GQA_4, "Q4_K" },     { "Q2_K", VALUES, ALWAYS, "Q3_K" },      { "Q2_K", DOWN, ALWAYS, "Q3_K" },
    { "Q2_K", OUT, ALWAYS, "Q3_K" },
    { "Q2_K_S", VALUES, GQA_4, "Q4_K" },   { "Q2_K_S", DOWN, FIRST_8TH, "Q4_K" },
    { "Q3_K_M", VALUES, FIRST_2, "Q5_K" }, { "Q3_K_M", VALUES, ALWAYS, "Q4_K" },    { "Q3_K_M", OUT, ALWAYS, "Q4_K" },
    { "Q3_K_M", DOWN, FIRST_16TH, "Q5_K" }, { "Q3_K_M", DOWN, ALWAYS, "Q4_K" },
    { "Q3_K_L", VALUES, ALWAYS, "Q5_K" },  { "Q3_K_L", DOWN, ALWAYS, "Q5_K" },      { "Q3_K_L", OUT, ALWAYS, "Q5_K" },
    { "Q4_K_M", VALUES, MORE, "Q6_K" },    { "Q4_K_M", DOWN, MORE, "Q6_K" },
    { "Q4_K_S", VALUES, FIRST_4, "Q5_K" }, { "Q4_K_S", DOWN, FIRST_8TH, "Q5_K" },
    { "Q5_K_M", VALUES, MORE, "Q6_K" },    { "Q5_K_M", DOWN, MORE, "Q6_K" },
    { "IQ4_NL", VALUES, GQA_4, "Q5_K" },   { "IQ4_NL", DOWN, UNWEIGHED_8TH, "Q5_K" },
    { "IQ4_XS", VALUES, GQA_4, "Q5_K" },   { "IQ4_XS", DOWN, UNWEIGHED_8TH, "Q5_K" },
    { "Q4_0", DOWN, WEIGHED_8TH, "Q4_1" }, { "Q5_0", DOWN, WEIGHED_8TH, "Q5_1" },
};
static const struct { const char *format, *instead; } fallbacks[] = {
    { "Q2_K", "Q4_0" }, { "Q3_K", "Q4_0" }, { "TQ1_0", "Q4_0" }, { "TQ2_0", "Q4_0" }, { "Q4_K", "Q5_0" }, { "Q5_K", "Q5_1" }, { "Q6_K", "Q8_0" },
    { "IQ4_XS", "IQ4_NL" } };

const lm_mix *lm_mix_by_name(const char *name) {
    for (const lm_mix *m = lm_mixes; m->name; m++) if (!strcmp(m->name, name)) return m;
    return NULL;
}
static place place_of(const char *tensor) {
    return !strcmp(tensor, "token_embd.weight") ? EMBED
         : strstr(tensor, "attn_v.weight") || strstr(tensor, "attn_qkv.weight") ? VALUES
         : strstr(tensor, "ffn_down") ? DOWN
         : strstr(tensor, "attn_output.weight") ? OUT : ELSE;
}
static bool holds(when w, const lm_mix_at *at) {
    const int i = at->layer, n = at->n_layer;
    switch (w) {
    case ALWAYS: return true;
    case MORE: return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    case FIRST_8TH: return i < n / 8;
    case FIRST_16TH: return i < n / 16;
    case FIRST_2: return i < 2;
    case FIRST_4: return i < 4;
    case GQA_4: return at->heads_per_kv >= 4;
    case WEIGHED_8TH: return at->importance && i < n / 8;
    case UNWEIGHED_8TH: return !at->importance && i < n / 8;
    }
    return false;
}
const lm_quant *lm_mix_fallback(const lm_quant *q, int64_t cols) {
    if (cols % q->block == 0) return q;
    for (int i = 0; i < LM_COUNT(fallbacks); i++)
        if (!strcmp(fallbacks[i].format, q->name)) { q = lm_quant_by_name(fallbacks[i].instead); break; }
    return q && cols % q->block == 0 ? q : NULL;
}
const lm_quant *lm_mix_pick(const lm_mix *m, const lm_mix_at *at, const lm_quant **wanted) {
    const place p = place_of(at->tensor);
    const char *format = m->base;
    if (!strcmp(at->tensor, "output.weight") || (at->tied && p == EMBED)) {      /* the output embedding, whatever the mix */
        const lm_quant *base = lm_quant_by_name(m->base);
        format = !base || at->cols % base->block || !strcmp(m->base, "Q8_0") ? "Q8_0" : "Q6_K";
    } else for (int i = 0; i < LM_COUNT(rules); i++)
        if (!strcmp(rules[i].mix, m->name) && rules[i].place == p && holds(rules[i].when, at)) { format = rules[i].format; break; }
    /* llama.cpp's 70B: eight heads share a value matrix, so it is small and worth more */
    if (p == VALUES && at->n_layer == 80 && (!strcmp(format, "Q3_K") || !strcmp(format, "Q4_K"))) format = "Q5_K";
    *wanted = lm_quant_by_name(format);
    return *wanted ? lm_mix_fallback(*wanted, at->cols) : NULL;
}
