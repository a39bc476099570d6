/* model.h — architectures as rows, and weights on disk as a directory of named tensors.
 *
 * An architecture is one file: a config map from Hugging Face and GGUF metadata, and a build function that reads like the paper and emits
 * the graph from tokens to the last hidden state. It says nothing of dtype, device, cache, sharding or fusion. Parameters carry their
 * Hugging Face names. A weights directory (lm_weights) reads headers only; tensors are then read one by one into the store in the dtype
 * and layout asked for. Sources: a Hugging Face folder (safetensors, sharded or not), a GGUF file, a llama2.c checkpoint. Renaming and the
 * row permutation of rotary weights (GGUF and llama2.c store interleaved pairs, Hugging Face half-split) happen here, so that models see
 * one convention.
 *
 * Lifetime: lm_weights owns its files; the store owns what was loaded.  Threads: one loader at a time (it uses the pool inside).
 * Errors:   name file and tensor, got and wanted; a missing or unexpected tensor is an error, never a guess. */
#ifndef LM_MODEL_H
#define LM_MODEL_H
#include "format/gguf.h"
#include "format/json.h"
#include "graph/graph.h"
#include "op/rope_table/rope_table.h"

typedef struct lm_model lm_model;
typedef enum { LM_ACT_SILU, LM_ACT_GELU, LM_ACT_GELU_TANH } lm_act;
typedef enum { LM_POOL_NONE, LM_POOL_MEAN, LM_POOL_CLS, LM_POOL_LAST } lm_pooling;     /* how states become one vector (infer/embed.h) */
typedef struct lm_cfg {                      /* hyper-parameters of a decoder; a family reads those it has */
    const lm_model *model;
    int64_t vocab, d, n_layer, n_head, n_kv, d_head, d_ff, max_pos, window;   /* window 0: full attention */
    int64_t window_first, window_period;     /* layers below the first, and each period-th (0: none), see everything: lm_cfg_window */
    double query_scale;                      /* scores are divided by the root of it; 0: d_head */
    double attn_cap, logit_cap;              /* of attention's scores and of the logits: op/softcap; 0: none */
    double rope_local;                       /* base of the rotary positions in layers with a window; 0: rope serves all layers */
    double eps, init_std, dropout; lm_act act; bool tie, attn_bias, mlp_bias;
    lm_rope_table_p rope;
    int64_t types; lm_pooling pool; bool normalize;     /* encoders: token types; what is stated of vectors */
    int32_t bos, eos[8]; int n_eos;          /* -1: none */
    const char *hf_type;                     /* "llama", "mistral": what config.json says and gets; static or arena string */
} lm_cfg;
/* Keys a token of layer l sees at most, itself included; 0: all. */
static inline int64_t lm_cfg_window(const lm_cfg *c, int l) {
    return l < c->window_first || (c->window_period && (l + 1) % c->window_period == 0) ? 0 : c->window;
}
typedef struct {
    lm_value *tokens, *pos, *start, *rng; double dropout;    /* I32 (N) each; rng NULL or dropout 0: none */
    int64_t context;                         /* tokens of the longest text that is to be run (longrope chooses by it); 0: the model's max_pos */
} lm_model_in;
typedef struct { lm_value *hidden, *head; } lm_model_out;                  /* (N, d) after the last norm; (V, d) output embedding */

struct lm_model {
    const char *name, *paper;
    const char *const *hf_archs;             /* architectures[0] of config.json, NULL-terminated */
    const char *const *gguf_archs;           /* general.architecture */
    lm_err (*from_hf)(const lm_jv *config, lm_cfg *c);
    lm_err (*from_gguf)(lm_ctx *ctx, lm_gguf *f, lm_cfg *c);
    lm_err (*to_hf)(lm_ctx *ctx, const lm_cfg *c, json_t *config);         /* adds the family's keys */
    lm_err (*to_gguf)(lm_ctx *ctx, const lm_cfg *c, lm_gguf_writer *w);
    lm_err (*build)(lm_graph *g, const lm_cfg *c, const lm_model_in *in, lm_model_out *out);
    void (*usual)(lm_cfg *c);                /* for a model made from a few sizes: the activation, and d_ff where it is 0 */
    bool encoder;                            /* sees both ways, has no head: embeds texts, writes none */
    const char *hf_prefix;                   /* names may have it in front: "bert."; NULL: they may lack their own first part */
    const char *const *unused;               /* what their names begin with: tensors that may be there and are not read; NULL-terminated, or NULL */
    bool partial_rope;                       /* may rotate the first dimensions of a head only */
    bool pos_table;                          /* positions are a table of max_pos rows: no text may be longer */
    /* %d is the layer; NULL-terminated. transpose: the model keeps (in, out), GGUF (out, in); rope_q, rope_k: rows that GGUF keeps as
     * interleaved pairs; plus_one: GGUF holds 1 + weight. */
    const struct lm_name_map { const char *hf, *gguf; bool transpose, rope_q, rope_k, plus_one; } *names;
};
/* hidden (N, d) by the output embedding, capped where the model has a cap: (N, V). */
lm_value *lm_model_logits(lm_graph *g, const lm_cfg *c, lm_value *hidden, lm_value *head);
extern const lm_model *const lm_models[];                                  /* generated from the files */
const lm_model *lm_model_by_name(const char *name);
/* Ranges, divisibility, sizes against overflow: nothing after this need check. */
lm_err lm_cfg_check(lm_ctx *ctx, const lm_cfg *c);
lm_err lm_cfg_from_hf(lm_ctx *ctx, const char *file, json_t *config, lm_cfg *c);
/* what lm_cfg_from_hf reads back as c; dtype: of the weights beside it */
lm_err lm_cfg_to_hf(lm_ctx *ctx, const lm_cfg *c, lm_dtype dtype, json_t **config);
/* Every parameter of the model: build once into a throw-away graph and list its states. fn gets name, type, role, in graph order. */
lm_err lm_model_params(lm_ctx *ctx, const lm_cfg *c, lm_err (*fn)(void *ud, const char *name, const lm_type *t, lm_role role), void *ud);
/* Fill the store with random initial weights (f32 PLAIN): normal(0, init_std), output projections of the residual stream scaled by
 * 1/sqrt(2L), norms 1, biases 0; drawn by (seed, name, index). */
lm_err lm_model_init(lm_ctx *ctx, const lm_cfg *c, lm_store *store, uint64_t seed);

/* ---- weights on disk ------------------------------------------------------------------------------------------------------ */
typedef struct lm_weights lm_weights;
typedef struct { const char *name; lm_dtype dtype; const lm_quant *quant; int rank; int64_t dim[LM_MAX_RANK]; uint64_t bytes; } lm_weight_info;
/* path: Hugging Face folder, .gguf file, llama2.c .bin. Headers only. */
lm_err lm_weights_open(lm_weights **out, lm_ctx *ctx, const char *path);
void lm_weights_close(lm_weights *w);
const lm_cfg *lm_weights_cfg(const lm_weights *w);
const char *lm_weights_kind(const lm_weights *w);                          /* "huggingface", "gguf", "llama2c" */
int lm_weights_count(const lm_weights *w);
void lm_weights_info(const lm_weights *w, int i, lm_weight_info *info);    /* by Hugging Face name, logical shape */
typedef struct {
    /* LM_F32 or LM_BF16 to convert floats (BF16: embeddings of wider floats become F32, as in training); LM_QUANT (any value it has on
     * disk) = keep as stored */
    lm_dtype dtype;
    const lm_quant *quant;       /* != NULL: quantize matrices of role COL/ROW (and EMBED if quant_embed) to this format while loading */
    bool quant_embed, panels;    /* panels: matrices that are only multiplied go straight into PANEL layouts */
    /* Matrices and vectors that the file holds as kernels take them (whole tensors of one dtype, aligned; f32 and quantized matrices are then not put into
     * panels) are not copied but lie in a read-only mapping of the file until lm_weights_close, which comes after the store has gone.
     * No bit of a result changes. A file that is cut meanwhile ends the process (SIGBUS). */
    bool map;
    /* Bytes of memory for weights, 0: as many as they take. What does not fit stays in its file (lm_store_away): matrices that are only multiplied and lie
     * there as kernels take them, spread over the layers. LM_E_NOMEM where that is not enough. The file must stay until lm_weights_close. */
    size_t room;
    const volatile int *stop;    /* becomes non-zero: LM_E_CANCELLED after the blocks in hand; may be NULL */
} lm_load_opts;
lm_err lm_weights_load(lm_weights *w, lm_store *store, const lm_load_opts *o);
lm_err lm_weights_load_one(lm_weights *w, lm_store *store, const char *name);      /* one parameter as F32 (PLAIN) */
/* Its files into the page cache while other things are done (lm_file_ahead), what loading copies out of a mapping first: for what has room in memory. */
lm_err lm_weights_ahead(lm_weights *w, const lm_load_opts *o);
/* The types and layouts that loading would make, without storage: enough for dry plans. need (may be NULL): bytes in all; of them mapped; of them read from
 * the file as they are used, through a ring of so many. */
typedef struct { size_t all, mapped, away, ring; } lm_load_need;
lm_err lm_weights_declare(lm_weights *w, lm_store *store, const lm_load_opts *o, lm_load_need *need);
/* Config and weights (f32 or bf16) as a Hugging Face folder that transformers loads. Tied heads are written once. max_shard 0: one file. */
lm_err lm_model_save_hf(lm_ctx *ctx, const lm_cfg *c, const lm_store *store, const char *dir, lm_dtype dtype, uint64_t max_shard);
/* The same from parameters that are not all in memory, or that may not be wanted to the end: fetch() is called once for each, in the order of
 * lm_model_params, and what it gives (of the parameter's shape, stored in any way) is read before the next call. An error of its own ends
 * the saving, which leaves nothing. */
typedef struct { lm_err (*fetch)(void *ud, const char *name, lm_tensor *t); void *ud; } lm_param_source;
lm_err lm_model_save_hf_from(lm_ctx *ctx, const lm_cfg *c, const lm_param_source *from, const char *dir, lm_dtype dtype, uint64_t max_shard);
lm_err lm_model_save_config(lm_ctx *ctx, const lm_cfg *c, const char *dir, lm_dtype dtype);     /* of such a folder, what is not weights */
/* One GGUF file; quant NULL keeps dtype. Tokenizer metadata are added by the caller through the callback (may be NULL). */
lm_err lm_model_save_gguf(lm_ctx *ctx, const lm_cfg *c, const lm_store *store, const char *path, lm_dtype dtype, const lm_quant *quant,
                          lm_err (*extra)(void *ud, lm_gguf_writer *w), void *ud);
/* The same from parameters that are not all in memory, with the embedding and the head in a format of their own (NULL: as the other
 * matrices): a few more bits pay there. */
lm_err lm_model_save_gguf_from(lm_ctx *ctx, const lm_cfg *c, const lm_param_source *from, const char *path, lm_dtype dtype, const lm_quant *quant,
                               const lm_quant *embed, lm_err (*extra)(void *ud, lm_gguf_writer *w), void *ud);
#endif
