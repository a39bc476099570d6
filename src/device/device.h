/* device.h — an accelerator as the planner and the executor see it: memory, one ordered stream, copies, recorded work.
 *
 * Everything that touches device memory is put on the device's stream and returns at once; sync() waits for all of it (of
 * the current lane). What was put there between record() and recorded() is not run but kept, and launch() runs it again as one piece (a CUDA
 * graph): the pointers, sizes and extents of then are part of it. Kernel rows of LM_DEV_CUDA get the stream as their `scratch`. A program built without CUDA has
 * lm_dev_open() too; it says so.
 *
 * Lifetime: a device outlives the stores and plans that have memory on it.  Threads: one driver.
 * Errors:  LM_E_UNSUPPORTED: no such device here; LM_E_NOMEM with the figures; LM_E_DEVICE: what the driver says, after which only closing
 *           is sensible. */
#ifndef LM_DEVICE_H
#define LM_DEVICE_H
#include "base/base.h"
/* Features of a device that rows may need (lm_kernel.needs of LM_DEV_CUDA rows). */
enum { LM_CUDA_SM80 = 1 << 0, LM_CUDA_SM90 = 1 << 1, LM_CUDA_BLASLT = 1 << 2 /* cuBLASLt was found at run time */,
       LM_CUDA_WGMMA = 1 << 3 /* compute capability 9.0, and this program has code for sm_90a: device/hopper.cuh */,
       LM_CUDA_ROW_ALONE = 1 << 4 /* a mode, set by who plans and runs (lm_engine_opts.deterministic): no row's bits may depend on how many are beside it */ };
typedef struct { unsigned char handle[64]; uint64_t offset; } lm_dev_share;   /* a place in a block of device memory, for other processes */
typedef struct lm_dev lm_dev;
struct lm_dev {
    const char *kind;                        /* "cuda" */
    bool stepwise;                           /* plans wait after every step and record nothing, so that whatever fails has a name: "cuda:0,stepwise" */
    uint64_t recordings;                     /* how often record() and recorded() were called: a point set before the last is none within it */
    char name[128], libs[256];               /* the card; libraries found at run time, or why not */
    lm_ctx *ctx; void *impl, *stream;
    uint64_t features; size_t memory, used, peak; int units;      /* bytes of the card; held by us now and at most; multiprocessors */
    lm_err (*alloc)(lm_dev *d, size_t bytes, void **p);            /* 256-byte aligned */
    void (*free)(lm_dev *d, void *p);                              /* NULL is fine */
    lm_err (*room)(lm_dev *d, size_t *free, size_t *total);        /* bytes that could be allocated now, by anyone, and of the card */
    lm_err (*pin)(lm_dev *d, size_t bytes, void **p);              /* host memory that copies run to and from without waiting, and that kernels can write; zeroed */
    void (*unpin)(lm_dev *d, void *p);
    lm_err (*zero)(lm_dev *d, void *p, size_t bytes);
    lm_err (*put)(lm_dev *d, void *dst, const void *host, size_t bytes);
    lm_err (*get)(lm_dev *d, void *host, const void *src, size_t bytes);
    lm_err (*move)(lm_dev *d, void *dst, const void *src, size_t bytes);
    lm_err (*sync)(lm_dev *d);
    lm_err (*record)(lm_dev *d);
    lm_err (*recorded)(lm_dev *d, void **work);
    lm_err (*launch)(lm_dev *d, void *work);
    void (*forget)(lm_dev *d, void *work);
    lm_err (*mark)(lm_dev *d, int i);                              /* a point in time on the stream, of a recording: set anew by each launch; i in 0 … LM_DEV_MARKS-1 */
    lm_err (*between)(lm_dev *d, int a, int b, double *seconds);   /* after sync */
    /* Lanes: what is put goes to lane 0 until on() names another; lanes run at once but where a fence orders them. A recording covers
     * all if what is on lanes 1 and 2 begins after a fence of lane 0 and lane 0 ends after it. Lane 1 is for ranks that meet, lane 2 for
     * what their meetings leave to be done by multiprocessors. */
    lm_err (*on)(lm_dev *d, int lane);                             /* `stream` is that lane's from now on */
    lm_err (*fence)(lm_dev *d, int i);                             /* point i: what is on the current lane by now; i in 0 … LM_DEV_MARKS-1 */
    lm_err (*after)(lm_dev *d, int i);                             /* the current lane goes on when point i, as last set, is reached */
    lm_err (*reached)(lm_dev *d, int i);                           /* waits here until it is */
    lm_err (*note)(lm_dev *d, int32_t *pinned, int32_t v);         /* *pinned = v when the lane gets there */
    lm_err (*add)(lm_dev *d, float *y, const float *a, const float *x, size_t n);  /* y = a + x; y may be a */
    lm_err (*add_half)(lm_dev *d, float *y, const float *a, const uint16_t *h, const uint16_t *x, size_t n);  /* the same where x is bf16; a is f32 (y may be it), or h bf16, or neither: y = x */
    lm_err (*idle)(lm_dev *d, bool *yes);                          /* has the current lane nothing left to do? Does not wait */
    lm_err (*use)(lm_dev *d);                                      /* the calling thread works with this device */
    /* Memory that other processes of this host reach, and meetings with them; NULL: not on this device. */
    lm_err (*share)(lm_dev *d, const void *p, lm_dev_share *out);   /* p: in a block from alloc() */
    lm_err (*reach)(lm_dev *d, const lm_dev_share *s, void **base); /* the other's block, to be read and written here; once for each handle */
    void (*unreach)(lm_dev *d, void *base);
    lm_err (*words)(lm_dev *d, void *host, size_t bytes, void **on_dev);   /* host memory of a shared mapping, for meet(); on_dev NULL: no longer */
    /* On the current lane, when all before it is done: every word of `set` becomes 1, then what follows waits for every word of `await` to be 1,
     * and makes it 0. Holds no multiprocessor. */
    lm_err (*meet)(lm_dev *d, uint32_t *const *set, uint32_t *const *await, int n);
    /* Set: a device whose rows are the processor's (the tests' fake one): f(copy of arg) is put on the lane. */
    lm_err (*run)(lm_dev *d, lm_err (*f)(void *arg), const void *arg, size_t bytes);
    void (*close)(lm_dev *d);
};
enum { LM_DEV_MARKS = 4096, LM_DEV_LANES = 3, LM_DEV_POINTS = LM_DEV_MARKS - 18 /* of fence(): plans; behind them: communicators */,
       LM_DEV_SIDES = LM_DEV_MARKS - 2 /* the ends of two runs in flight (lm_plan_side) */ };
/* name: "cuda" or "cuda:N"; with ",stepwise" behind it plans wait after every step (lm_dev.stepwise). */
lm_err lm_dev_open(lm_dev **out, lm_ctx *ctx, const char *name);
void lm_dev_close(lm_dev *d);                                      /* NULL is fine */
int lm_dev_count(void); /* CUDA devices that are visible; 0 where there is none, or no CUDA in the program */
bool lm_dev_built(void);                                           /* whether this program has CUDA rows at all */

/* ---- matrix products by the vendor's library, for rows that need LM_CUDA_BLASLT --------------------------------------------------------------- */
/* Row-major C (M,N) = op(A) op(B) [+ bias] [+ C], f32 sums, no atomics: the same bits each time. Each is f32, or bf16 where its flag says
 * so (a and b alike). add: with acc, what is added, laid out as C, where that is not what C was. aux: it gets op(A) op(B) + bias, as C is stored, and C the gelu of that (tanh form). */
typedef struct {
    int64_t M, N, K, batch, lda, ldb, ldc, sa, sb, sc;             /* leading dimensions and batch strides in elements */
    const void *a, *b, *bias, *add; void *c, *aux; int64_t ldaux; bool ab_bf16, c_bf16, bias_bf16, ta, tb, acc;
} lm_dev_gemm;
lm_err lm_dev_matmul(lm_dev *d, const lm_dev_gemm *g);            /* LM_E_UNSUPPORTED: the library has no algorithm for this shape */
#endif
