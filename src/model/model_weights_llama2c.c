/* model_weights_llama2c.c — llama2.c checkpoints: a Llama without names. Layers are stacked; rotary rows are interleaved pairs; text begins
 * with token 1 and ends with 1 or 2. */
#include "format/llama2c.h"
#include "model/model_weights.h"

typedef struct { lm_file *f; lm_l2c head; } source_file;
static const struct { const char *hf; lm_l2c_part_id part;
} parts[] = { { "model.embed_tokens.weight", LM_L2C_TOK_EMB },
              { "model.norm.weight", LM_L2C_NORM },
              { "lm_head.weight", LM_L2C_OUTPUT },
              { "model.layers.%d.input_layernorm.weight", LM_L2C_ATTN_NORM },
              { "model.layers.%d.post_attention_layernorm.weight", LM_L2C_FFN_NORM },
              { "model.layers.%d.self_attn.q_proj.weight", LM_L2C_WQ },
              { "model.layers.%d.self_attn.k_proj.weight", LM_L2C_WK },
              { "model.layers.%d.self_attn.v_proj.weight", LM_L2C_WV },
              { "model.layers.%d.self_attn.o_proj.weight", LM_L2C_WO },
              { "model.layers.%d.mlp.gate_proj.weight", LM_L2C_W1 },
              { "model.layers.%d.mlp.down_proj.weight", LM_L2C_W2 },
              { "model.layers.%d.mlp.up_proj.weight", LM_L2C_W3 } };

static lm_err find(lm_weights *w, lm_weight *e) {
    const source_file *s = w->file;
    int layer;
    const struct lm_name_map *row = lm_model_name_row(w->cfg.model, e->name, &layer);
    for (int i = 0; row && i < LM_COUNT(parts); i++) {
        if (strcmp(parts[i].hf, row->hf)) continue;
        const lm_l2c_part *p = &s->head.part[parts[i].part];
        int64_t count = p->per_layer ? p->dim[0] : 1;
        e->src = lm_arena_printf(w->a, p->per_layer ? "%s, layer %d" : "%s", p->name, layer);
        if (!e->src) return LM_E_NOMEM;
        e->dtype = LM_F32;
        e->offset = (int64_t)p->offset + (p->per_layer ? layer * (int64_t)(p->bytes / (size_t)count) : 0);
        e->perm_heads = row->rope_q ? (int)w->cfg.n_head : row->rope_k ? (int)w->cfg.n_kv : 0;
        return lm_weights_shape(w, e, p->rank - p->per_layer, p->dim + p->per_layer);
    }
    return lm_fail(w->ctx, LM_E_INTERNAL, "%s: llama2.c has no part for %s", w->path, e->name);
}
static lm_err done(lm_weights *w) { (void)w; return LM_OK; }          /* the size of the file was checked against its header */
static lm_err get(lm_weights *w, const lm_weight *e, void *dst, int64_t from, int64_t bytes) {
    return lm_file_pread(((source_file *)w->file)->f, dst, (size_t)bytes, e->offset + from);
}
static lm_err map(lm_weights *w, const lm_weight *e, const void **p) {      /* mapped since it was opened */
    *p = ((source_file *)w->file)->head.base + e->offset;
    return LM_OK;
}
static void close_l2c(lm_weights *w) { lm_file_close(((source_file *)w->file)->f); }
static const lm_weights_source source = { "llama2c", find, done, get, map, NULL, close_l2c };

lm_err lm_weights_open_llama2c(lm_weights *w) {
    source_file *s = lm_arena_alloc(w->a, sizeof *s);
    if (!s) return LM_E_NOMEM;
    LM_TRY(lm_file_open(&s->f, w->ctx, w->path));
    w->source = &source; w->file = s;
    const void *p;
    size_t n;
    LM_TRY(lm_file_map(s->f, &p, &n));
    LM_TRY(lm_l2c_parse(w->ctx, w->path, p, n, &s->head));
    const lm_l2c *h = &s->head;
    const int64_t d_head = h->dim / h->n_head;
    if (!(w->cfg.model = lm_model_by_name("llama"))) return lm_fail(w->ctx, LM_E_UNSUPPORTED, "%s: this build has no llama", w->path);
    const lm_cfg c = { .model = w->cfg.model,
                       .hf_type = "llama",
                       .vocab = h->vocab,
                       .d = h->dim,
                       .n_layer = h->n_layer,
                       .n_head = h->n_head,
                       .n_kv = h->n_kv_head,
                       .d_head = d_head,
                       .d_ff = h->hidden,
                       .max_pos = h->seq_len,
                       .eps = 1e-5,
                       .init_std = 0.02,
                       .tie = h->tied,
                       .bos = 1,
                       .eos = { 1, 2 },
                       .n_eos = 2,
                       .rope = { .d_head = (int)d_head, .base = 10000, .max_pos = h->seq_len } };
    w->cfg = c;
    return LM_OK;
}
