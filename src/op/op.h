/* op.h — what an op is: one row of facts, one folder. The executor, planner, autodiff and tests walk rows and name no op.
 *
 * A row states the shape rule, a double-precision reference, the gradient (emitting graph nodes), the cost, kernels (best first) and
 * samples. A kernel is a list of up to five phases; a phase is a number of tiles that depends on the problem alone, never on the thread
 * count, and a function that does one tile (counted once for all runs with the same dimensions: the number must not look at data). Tiles
 * of one phase run in any order on any thread; a phase starts when the one before is done. So results do not depend on threads. Kernels
 * allocate nothing and lock nothing: `shared` scratch lives for the node, `scratch` is the thread's. Two kernel rows with the same `order`
 * string give the same bits, and the driver checks it. An output may alias an input (`alias`): that is how state is written (parameters,
 * moments, KV pages). An output that may be *added to* instead of overwritten says so in `acc_ok`; the accumulate pass then sets the bit
 * in call->acc and gives a state as the storage.
 *
 * Lifetime: rows are static const.  Threads: everything here is const or per call.
 * Errors:   shape() names op, input, got and wanted; run() fails only where the outside world can (collectives). */
#ifndef LM_OP_H
#define LM_OP_H
#include "tensor/tensor.h"
#include "quant/quant.h"
#include "device/comm.h"
#include "device/cpu.h"
#include "device/device.h"
enum { LM_MAX_IN = 12, LM_MAX_OUT = 9, LM_MAX_PHASE = 5, LM_MANY = 64 };

typedef struct lm_type {                       /* the static type of a value */
    lm_dtype dtype; const lm_quant *quant;
    int8_t rank, ext[LM_MAX_RANK];             /* ext[i] > 0: dimension i is a capacity, its runtime extent is slot ext[i] */
    int64_t dim[LM_MAX_RANK];
} lm_type;
/* from shape(): this output has as many rows at run time as its type says (a weight gradient, a sum) */
enum { LM_NO_EXTENT = -1 };
lm_type lm_type_make(lm_dtype d, int rank, const int64_t *dim);
#define LM_TYPE(d, ...) lm_type_make(d, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__})

typedef struct lm_op lm_op;
typedef struct lm_call {                       /* one node, bound to memory: what a kernel sees */
    const lm_op *op; const void *p;            /* typed params */
    int n_in, n_out; uint32_t acc;             /* bit i: add into out[i] */
    lm_tensor in[LM_MAX_IN], out[LM_MAX_OUT];  /* dims are the runtime extents while running; data NULL = optional input absent */
    void *shared;                              /* 64-byte aligned scratch of the node, shared_bytes() of it */
    lm_comm *comm; lm_ctx *ctx;
    /* rows of LM_DEV_CUDA: the device, and a word on it that is 0; LM_E_RANGE there = an index was outside */
    lm_dev *dev; int32_t *fault;
    uint32_t fixed;                            /* bit i: no step of the plan writes what input i is: an input of the plan, or a state such as weights when generating */
    bool hold;                                 /* collectives that end an accumulation have nothing to do in this run (lm_plan_hold) */
    int64_t iter;                              /* running number of the repetition of the phase list (lm_kernel.repeat); 0 where there is none */
} lm_call;

typedef struct { const char *p, *end; } lm_span;
enum { LM_SPANS = 3 };
typedef struct {
    int64_t (*tiles)(const lm_call *c);
    lm_err (*run)(const lm_call *c, int64_t tile, void *scratch);
    /* Phases whose tiles walk through weights, neighbours in the order in which these lie: a member takes a run of them, and while it waits it asks for what
     * its next run reads, so that no walk begins cold. Up to LM_SPANS stretches of memory that tiles [t0, t1) read, in order; returns how many: 0 where
     * that is not known. */
    int (*reads)(const lm_call *c, int64_t t0, int64_t t1, lm_span *out);
    /* The same in two: what a member makes in its scratch before its first tile, for itself, so that nobody waits for it; and a tile after that. Executors
     * call both or neither; NULL: run is all there is. */
    lm_err (*begin)(const lm_call *c, void *scratch);
    lm_err (*walk)(const lm_call *c, int64_t tile, void *scratch);
} lm_phase;

typedef enum { LM_DEV_CPU, LM_DEV_CUDA } lm_dev_kind;
typedef struct lm_kernel {
    const char *name;                          /* "matmul.f32.avx512" */
    lm_dev_kind device;
    uint64_t needs;                            /* CPU feature bits; LM_CUDA_* of rows of LM_DEV_CUDA */
    const char *order;                         /* order id of its additions */
    bool (*accepts)(const lm_call *c);         /* dtypes, layouts, params (no data yet); NULL = all that shape() allows in f32/i32 PLAIN contiguous */
    size_t (*shared_bytes)(const lm_call *c);  /* at capacity; NULL = 0 */
    size_t (*thread_bytes)(const lm_call *c);  /* NULL = 0 */
    int n_phase; lm_phase phase[LM_MAX_PHASE];
    int64_t (*repeat)(const lm_call *c);       /* how often the whole phase list runs, with iter = 0, 1, …; a barrier between; NULL = once */
    /* rows of a device: n <= LM_MANY independent calls at once, same bits; plans give it neighbours. NULL: one by one */
    lm_err (*run_many)(const lm_call *const *c, int n, void *scratch);
    unsigned char aside;                       /* rows of a device that run beside others, on its second lane: collectives. 2: its end may be on the third */
    bool alone;                                /* rows of a device: while that is in the mode LM_CUDA_ROW_ALONE, a row's bits do not depend on how many are beside it */
} lm_kernel;

/* ---- building: graph/ defines these; NULL in, NULL out, the first error is kept by the graph ------------------- */
typedef struct lm_graph lm_graph;
typedef struct lm_value lm_value;
/* Emit a node; returns its output 0. params are copied (op->params_bytes). Trailing optional inputs may be left out, inner ones NULL. */
lm_value *lm_emit(lm_graph *g, const lm_op *op, const void *params, int n_in, lm_value *const *in);
lm_value *lm_output(lm_value *v, int i);       /* output i of the node that made v */
const lm_type *lm_type_of(const lm_value *v);
lm_value *lm_ones(lm_graph *g, const lm_type *t);        /* constant 1 (the seed of a gradient) */
bool lm_is_ones(const lm_value *v);
lm_value *lm_state(lm_graph *g, const char *name, const lm_type *t);     /* named storage that lives across steps (version 0) */
lm_value *lm_state_in(lm_graph *g, const char *name, const lm_type *t, lm_layout l);    /* the same, in a layout where it is made anew */
lm_err lm_graph_fail(lm_graph *g, lm_err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void lm_replace(lm_graph *g, lm_value *old, lm_value *now);   /* all uses of old become uses of now (same type) */
typedef struct lm_grad {
    const void *p; int n_in, n_out;
    lm_value *const *in, *const *out, *const *gout;      /* gout[i] NULL: no gradient flows into output i */
    const bool *want;                                    /* per input */
    lm_value **gin;                                      /* to fill where wanted; NULL = zero */
} lm_grad;

/* ---- session form: how a row that mixes tokens is run incrementally ------------------------------------------------ */
typedef struct lm_paged {                      /* given by the inference pass */
    int layer;                                 /* running number of such nodes in the graph */
    lm_dtype kv_dtype; const lm_quant *kv_quant;       /* of the pages; the format where the dtype is QUANT */
    int64_t n_pages;                           /* capacity of the page pool */
    lm_value *table;                           /* I32 (S, P): page numbers of each sequence */
    lm_value *seq, *pos, *slot;                /* I32 (N): sequence row, position in it, page * LM_KV_PAGE + offset to write */
} lm_paged;
enum { LM_KV_PAGE = 64 };                      /* tokens in a page: the block of the online softmax, so paged and dense add in one order */

/* ---- samples: what the driver tests, checks gradients on, and times -------------------------------------------------- */
typedef enum {
    LM_FILL_NORMAL,
    LM_FILL_POSITIVE,
    LM_FILL_ZERO,
    LM_FILL_IDS /* [0,arg) */,
    LM_FILL_IOTA /* i % arg, arg 0: i */,
    LM_FILL_START /* document starts, arg = document length */,
    LM_FILL_ONES,
    LM_FILL_UNIFORM /* [0,1) */
} lm_fill;
typedef struct {
    int8_t rank; int64_t dim[LM_MAX_RANK]; lm_dtype dtype; lm_fill fill; double arg;   /* rank 0 dim 0 = absent optional input; dtype 0 = F32 */
    const char *quant; lm_layout layout;                                               /* quant: format name, data quantized by the driver */
} lm_arg;
typedef struct lm_sample {
    const char *name;                          /* what it exercises; NULL ends the list */
    const void *params;
    lm_arg in[LM_MAX_IN];
    double tol;                                /* per element: |got-ref| <= tol * (|ref| + rms(ref)); 0 = bit-exact */
    double tol_norm;                           /* per tensor: ‖got-ref‖ <= tol_norm * ‖ref‖; 0 = tol */
    double grad_tol;                           /* directional derivative in double, relative; 0 = 1e-6; < 0: no gradient check (say why in name) */
} lm_sample;

struct lm_op {
    const char *name, *math;                   /* one line of mathematics */
    int n_in, n_opt, n_out;                    /* required inputs, optional ones after them, outputs */
    size_t params_bytes;
    int8_t alias[LM_MAX_OUT];                  /* 1 + index of the input that output i is written into; 0 = fresh */
    uint32_t acc_ok;                           /* bit i: output i can be added to */
    uint32_t opaque;                           /* bit i: input i takes part in no gradient (ids, positions) */
    int8_t rows_from;                          /* input whose leading dimension the outputs' leading dimension is: their runtime extent is its */
    int16_t mm_at;                             /* rows that multiply matrices: 1 + offset of `lm_dtype mm` in params (the compute dtype); 0 none */
    bool pure_write;                           /* has effects besides its outputs' values (collectives, state): never removed, never cloned */
    bool meets;                                /* all ranks meet in it: such rows keep their order and never overlap */
    /* set: outputs are views of input 0 (no kernel runs): fill data, dim, stride */
    void (*view)(const lm_call *c, int i, lm_tensor *out);
    /* set: output 0 is nothing but its inputs, input i where `part` says (its data and strides): they may be made there, and no kernel runs */
    void (*part)(const lm_call *c, int i, lm_tensor *t);
    bool inplace_ok;                           /* output 0 may share storage with input 0 (elementwise) */
    bool beside;                               /* of inputs 0 side by side in columns, the rest alike, output 0 is the outputs side by side */
    /* types->in[i].dim/rank/dtype/quant set, data NULL where absent → see lm_has() */
    lm_err (*shape)(lm_ctx *ctx, const lm_call *types, lm_type *out);
    /* F64 contiguous floats (quantized ones dequantized: `quant` still says from what), ints as they are; the truth */
    void (*ref)(const lm_call *c);
    lm_err (*grad)(lm_graph *g, lm_grad *d);   /* NULL: no gradient */
    void (*cost)(const lm_call *c, double *flops, double *bytes);      /* NULL: 1 flop per output element, each tensor once */
    const lm_kernel *const *kernels;           /* NULL-terminated list of {name = NULL}-terminated arrays, best first */
    const lm_sample *samples;
    const char *pattern;                       /* fused rows: "mul(silu(a), b)" over rows' names; variables become inputs in order of first use */
    /* params of the matched nodes in the pattern's reading order; NULL: all equal/none */
    lm_err (*fuse)(lm_ctx *ctx, const void *const *params, int n, void *out);
    /* rows that do at once what several do, for a finished graph (unite.c): letters of their inputs and outputs, and statements that describe
     * what they replace, best first. unite: params of the matched nodes by statement (NULL: an optional one that is not there), types by input
     * (NULL: absent), a bit per output there is; false: not these */
    const char *unite_in, *unite_out, *const *unites;
    bool here;                                 /* also in plans of this processor when nothing is trained; else of a device alone */
    bool (*unite)(const void *const *params, const lm_type *const *in, uint32_t outs, void *out);
    uint32_t sums;                             /* bit i: output i is a sum that goes on growing (the residual stream): stored as f32 in the forward */
    lm_value *(*session)(lm_graph *g, const lm_paged *pg, const void *p, lm_value *const *in);   /* rows that keep tokens: their paged form */
};
extern const lm_op *const lm_ops[];            /* NULL-terminated, generated from the folders */
const lm_op *lm_op_by_name(const char *name);
static inline bool lm_has(const lm_call *c, int i) { return i < c->n_in && c->in[i].rank > 0; }
void lm_op_cost(const lm_call *c, double *flops, double *bytes);
bool lm_kernel_default_accepts(const lm_call *c);
/* First row whose features the machine (masked) has and that accepts the call; NULL if none. */
const lm_kernel *lm_kernel_choose(const lm_op *op, const lm_call *c, lm_dev_kind dev, uint64_t features);

/* ---- one source, several instruction sets: files *_simd.c are compiled once per ISA with LM_ISA set to portable, avx2 or avx512 -------------- */
#define LM_CAT2_(a, b) a##_##b
#define LM_CAT_(a, b) LM_CAT2_(a, b)
#define LM_ISA_NAME(base) LM_CAT_(base, LM_ISA)              /* lm_k_softmax -> lm_k_softmax_avx512 */
#define LM_STR2_(a) #a
#define LM_STR_(a) LM_STR2_(a)
#define LM_ISA_STR LM_STR_(LM_ISA)
#define LM_SIMD_KERNELS(base) extern const lm_kernel base##_avx512[], base##_avx2[], base##_portable[]; \
    static const lm_kernel *const base[] = { base##_avx512, base##_avx2, base##_portable, NULL }
#endif
