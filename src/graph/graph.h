/* graph.h — values, nodes, named state: what a model is before anything is decided about memory, kernels or devices.
 *
 * A graph is built once by typed builders (op folders) and rewritten by passes: session (paged inference), autodiff, accumulate,
 * recompute, fuse, data parallel. A value is an input (fed each run), a state (named storage that lives across steps: a parameter, a
 * gradient, a moment, KV pages), a constant or a node's output. A node whose row aliases an output writes state: its output is the next
 * *version* of that state; readers of the old version come before it. Building never fails half-way: the first error is kept, builders
 * then return NULL and swallow NULL, and lm_graph_err() tells at the end. Only dimension 0 may carry a runtime extent; its capacity is
 * what memory is planned for.
 *
 * Lifetime: a graph owns its nodes and values (one arena); it borrows the store. Plans copy what they need: a graph may go once planned.
 * Threads:  one builder at a time.  Errors: see lm_graph_err. */
#ifndef LM_GRAPH_H
#define LM_GRAPH_H
#include "base/file.h"
#include "op/op.h"

/* ---- store: named tensors that outlive steps -------------------------------------------------------------------------- */
typedef enum { LM_ROLE_NONE, LM_ROLE_COL, LM_ROLE_ROW, LM_ROLE_EMBED, LM_ROLE_NORM, LM_ROLE_BIAS } lm_role;
typedef struct lm_store lm_store;
lm_err lm_store_new(lm_store **out, lm_ctx *ctx);
void lm_store_free(lm_store *s);
/* Zeroed storage for a named tensor; LM_E_MISMATCH if it is there with another type. *t (may be NULL) borrows. */
lm_err lm_store_add(lm_store *s, const char *name, const lm_type *type, lm_layout layout, lm_mem_tag tag, lm_tensor *t);
/* The same, but the bytes are the caller's, are only read, and outlive the store. LM_E_MISMATCH if the name is there already. */
lm_err lm_store_borrow(lm_store *s, const char *name, const lm_type *type, lm_layout layout, const void *data, lm_tensor *t);
/* The same, but the bytes, `offset` bytes into a file that outlives the store, stay there: data is NULL, and a plan on this processor reads them ahead
 * into a ring, run after run, in the order of its steps (base/stream.h). Only rows as they are (PLAIN); such a tensor is only read. */
lm_err lm_store_away(lm_store *s, const char *name, const lm_type *type, lm_file *file, int64_t offset);
bool lm_store_where(const lm_store *s, const char *name, lm_file **file, int64_t *offset);      /* false: it is not away */
void lm_store_set_ring(lm_store *s, size_t bytes);                      /* for each plan; 0: the least */
size_t lm_store_ring(const lm_store *s);
/* The same without storage (data NULL): enough for a dry plan. */
lm_err lm_store_declare(lm_store *s, const char *name, const lm_type *type, lm_layout layout);
/* Rows of `whole`, from `row` on, under a name of their own: the same memory, which gets room for `rows` rows (zeros below its last). Before
 * the whole is on a device or bound to a plan. */
lm_err lm_store_part(lm_store *s, const char *name, const char *whole, int64_t row, int64_t rows, const lm_type *type);
bool lm_store_is_part(const lm_store *s, int i);
bool lm_store_get(const lm_store *s, const char *name, lm_tensor *t);
lm_err lm_store_remove(lm_store *s, const char *name);
/* On a device: the tensor's memory there (made when first asked for; filled from the host's, zeroed where the host has none). What plans
 * write there is the truth from then on: lm_store_pull brings it all to the host (making room there), lm_store_push takes the host's to
 * the device. Both are nothing where no device is used. */
lm_err lm_store_on_dev(lm_store *s, const char *name, lm_dev *dev, void **p);
lm_err lm_store_pull(lm_store *s);
lm_err lm_store_push(lm_store *s);
/* Another number after each push and each lm_store_changed: what was made from the tensors before then may be old. */
uint64_t lm_store_epoch(const lm_store *s);
void lm_store_changed(lm_store *s);
/* Bytes of a tensor wherever they live: copied inside it, read, written. */
lm_err lm_store_move(lm_store *s, int i, size_t to, size_t from, size_t bytes);
lm_err lm_store_read(lm_store *s, int i, size_t from, void *dst, size_t bytes);
lm_err lm_store_write(lm_store *s, int i, size_t to, const void *src, size_t bytes);
int lm_store_count(const lm_store *s);
const char *lm_store_name(const lm_store *s, int i, lm_tensor *t);      /* in order of adding */

/* ---- values and nodes (fields are read by passes; models use builders only) ---------------------------------------------- */
typedef enum { LM_V_INPUT, LM_V_STATE, LM_V_CONST, LM_V_NODE } lm_vkind;
typedef struct lm_node lm_node;
struct lm_value {
    lm_graph *g; int id; lm_vkind kind; lm_type type; lm_layout layout;
    const char *name;              /* inputs, states; else NULL */
    lm_role role;                  /* states */
    lm_value *state;               /* the state (version 0) this is a version of, or NULL */
    lm_node *node; int out;        /* LM_V_NODE: producer */
    float fill;                    /* LM_V_CONST */
};
struct lm_node {
    const lm_op *op; void *params; int id, block; double order; bool dead, backward;
    int n_in, n_out; lm_value *in[LM_MAX_IN], *out[LM_MAX_OUT];
    uint32_t acc; lm_value *acc_state[LM_MAX_OUT];
};

lm_err lm_graph_new(lm_graph **out, lm_ctx *ctx, lm_store *store);      /* store may be NULL: parameters are then plain f32 */
void lm_graph_free(lm_graph *g);
lm_err lm_graph_err(const lm_graph *g);
lm_ctx *lm_graph_ctx(const lm_graph *g);
lm_arena *lm_graph_arena(lm_graph *g);

int lm_extent(lm_graph *g, const char *name);                            /* slot number of a named extent (made at first use) */
lm_value *lm_input(lm_graph *g, const char *name, const lm_type *t);
/* A parameter: a state with a role, type from the store where it is there already (bf16, quantized, panels), else f32. d1 = 0: rank 1. */
lm_value *lm_param(lm_graph *g, lm_role role, int64_t d0, int64_t d1, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
lm_value *lm_const(lm_graph *g, const lm_type *t, float fill);
void lm_block(lm_graph *g, int block);                                   /* nodes emitted from now on belong to this block (layer); -1 none */
void lm_graph_output(lm_graph *g, const char *name, lm_value *v);        /* named result: kept alive, readable after a run */

int lm_graph_n_nodes(const lm_graph *g);
lm_node *lm_graph_node(const lm_graph *g, int i);
int lm_graph_n_values(const lm_graph *g);
lm_value *lm_graph_value(const lm_graph *g, int i);
/* How many inputs of nodes not marked dead v is, live or not; counted as the graph grows, so asking for every gradient costs one walk. */
int lm_graph_readers(lm_graph *g, const lm_value *v);
lm_value *lm_graph_find(lm_graph *g, lm_vkind kind, const char *name);     /* an input or a state; NULL if there is none */
int lm_graph_n_outputs(const lm_graph *g);
lm_value *lm_graph_output_at(const lm_graph *g, int i, const char **name);
void lm_graph_set_output(lm_graph *g, int i, lm_value *v);
int lm_graph_n_extents(const lm_graph *g);
const char *lm_graph_extent_name(const lm_graph *g, int slot);
lm_node *lm_node_clone(lm_graph *g, const lm_node *n);                   /* same op, params, inputs; fresh outputs */
void lm_graph_set_phase(lm_graph *g, bool backward);                     /* marks nodes emitted from now on */
/* Live nodes (reaching outputs, or with effects) in execution order: dependencies first, then by `order`. Array in the graph's arena. */
lm_err lm_graph_schedule(lm_graph *g, lm_node ***nodes, int *n);
void lm_call_of(const lm_node *n, lm_call *c);                            /* types only, no data */
void lm_graph_print(const lm_graph *g, lm_str *out);                      /* one line per live node */

/* ---- passes ------------------------------------------------------------------------------------------------------------------- */
/* Reverse-mode autodiff: gin[i] = sum_j d y_j / d wrt_i · seed_j; seeds NULL = ones. gin[i] NULL where y does not depend on wrt_i. */
lm_err lm_autodiff(lm_graph *g, int n_y, lm_value *const *y, lm_value *const *seed, int n_wrt, lm_value *const *wrt, lm_value **gin);
/* Add gradient v into state s at every run (fused into the producer where its row allows). */
lm_err lm_accumulate(lm_graph *g, lm_value *s, lm_value *v);
/* Rewrite rows that mix tokens into their paged session form. *n_layer = how many. */
lm_err lm_pass_session(lm_graph *g, lm_paged *pg, int *n_layer);
/* Replace subgraphs by fused rows (op->pattern) where inner values have no other use. *n_fused may be NULL. */
lm_err lm_pass_fuse(lm_graph *g, int *n_fused);
/* Recompute in the backward: level 0 nothing, 1 cheap ops (no matmul or attention), 1+k also the first k blocks whole. */
lm_err lm_pass_recompute(lm_graph *g, int level);
/* Set the compute dtype of every row that multiplies matrices (op->mm_at): F32, BF16, or I8 = integers where weights are Q8_0, else f32. */
lm_err lm_pass_precision(lm_graph *g, lm_dtype mm);
/* Products of linear layers, their gradients too, in e4m3 tiles (op/quant_fp8): after autodiff and accumulation, of a graph in BF16. *n_fp8 =
 * how many, may be NULL. Counts of what was quantized are added to states of this name, ".0", ".1" and so on behind it. */
#define LM_FP8_STATE "fp8.counts"
lm_err lm_pass_fp8(lm_graph *g, int *n_fp8);
/* Is the node the gradient of a weight that the pass takes in e4m3, and has the device a row for it that stores bf16? */
bool lm_fp8_half(const lm_node *n, lm_dev *dev);
/* Replace groups of nodes by rows that do the same at once (op->unites), where there are kernels for them: on the device, or, where dev is NULL, on a
 * processor with these features (0: this one), rows that are for it (op->here); after autodiff and recomputation, since it may take from both; and again
 * on a device when lm_pass_storage has run (stored) for those that want to know what is bf16. *n_united may be NULL. */
lm_err lm_pass_unite(lm_graph *g, lm_dev *dev, uint64_t features, bool stored, int *n_united);
/* Products read weights as the bf16 copies that an optimizer keeps of them (states), and products of one input become one, whose weights lie one
 * behind the other; before autodiff, for a device. name: of the state that holds the copies of n weights in this order, NULL: not so (n > 1: then one
 * by one). */
typedef const char *(*lm_copy_name)(void *ud, int n, lm_value *const *w);
lm_err lm_pass_products(lm_graph *g, lm_dev *dev, lm_copy_name name, void *ud);
/* Round weights to bf16 once for all products that take them so, where the device has kernels for that. */
lm_err lm_pass_round_once(lm_graph *g, lm_dev *dev);
/* Keep activations as bf16 where the device has kernels for it; the last pass. */
lm_err lm_pass_storage(lm_graph *g, lm_dev *dev);

/* ---- the double interpreter: every node by its reference; the oracle of the tests ---------------------------------------------- */
typedef struct lm_ref lm_ref;
lm_err lm_ref_new(lm_ref **out, lm_graph *g);
void lm_ref_free(lm_ref *r);
void *lm_ref_data(lm_ref *r, lm_value *v);        /* double for floats, ints as typed; inputs and states are the caller's to fill */
lm_err lm_ref_run(lm_ref *r);
#endif
