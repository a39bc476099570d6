/* machine.h — this machine in numbers, measured once: what plans are priced with and utilization is stated against.
 *
 * Ceilings are a dozen rates: what cores, caches and memory reach. Beside them stand the kernels: for each, how long a step of it took at
 * a few sizes, seen in small models of both families as they train, update and serve (machine_kernels.c). A step of another size is priced
 * between the nearest two, so predictions follow the kernels as they are in this program on this machine; nothing is fitted by hand. A
 * step's size is its operations where those decide, else its bytes; its key is the kernel's name and how its weights lie.
 *
 * Lifetime: a value.  Threads: one caller; the measuring uses the context's pool.
 * Errors:   LM_E_NOMEM. */
#ifndef LM_MACHINE_H
#define LM_MACHINE_H
#include "graph/plan.h"
enum { LM_MACHINE_POINTS = 640, LM_MACHINE_KEY = 48 };
typedef struct { char key[LM_MACHINE_KEY]; double work, seconds; } lm_machine_point;
typedef struct {
    int threads;
    double fma_f32;                          /* flop/s of independent multiply-adds, all threads */
    double mm_f32, mm_bf16;                  /* flop/s that the matrix product rows reach at a size that suits them, all threads */
    double dot8;                             /* products of 8-bit integers, with their additions, as two operations each: from registers, all threads */
    double read_1, read_n;                   /* bytes/s from memory by one thread and by all, in huge pages where the system has them */
    double map_n;                            /* read_n in small pages: weights that lie in a mapped file */
    double cache_n;                          /* bytes/s by all threads from half a megabyte each */
    double mid_n;                            /* the same from eight megabytes each: the last cache, where it is that large */
    double last_cache;                       /* its bytes: what a run of a plan walks through beyond them comes from memory */
    int n_point; lm_machine_point point[LM_MACHINE_POINTS];      /* sorted by key, then work; none: only ceilings are known */
} lm_machine;
/* About three seconds and half a gigabyte; `ctx` has the threads meant. */
lm_err lm_machine_measure(lm_ctx *ctx, lm_machine *m);
/* The card's ceilings in the same places; no kernels' points, so plans are priced at what it can reach at best. Holds 2 GB meanwhile. */
lm_err lm_machine_of_device(lm_dev *d, lm_machine *m);
/* Its second half: the kernels' points. */
lm_err lm_machine_kernels(lm_ctx *ctx, lm_machine *m);
/* Its third: products with weights, by format and by where the weights are. */
lm_err lm_machine_weights(lm_ctx *ctx, lm_machine *m);
/* The most that products with weights of this format were seen to reach, operations a second; 0: not seen. */
double lm_machine_rate(const lm_machine *m, const char *format);
/* Seconds of a step of this key and work, between its points; beyond them time goes with the work. False: the key is not known. */
bool lm_machine_price(const lm_machine *m, const char *key, double work, double *seconds);
/* flop/s of one product C (m,n) = A (m,k) W (n,k)ᵀ in dtype mm (F32, BF16); best of the runs that fit into the time. panels: W as inference
 * keeps it. */
lm_err lm_machine_matmul(lm_ctx *ctx, lm_dtype mm, int64_t m, int64_t n, int64_t k, bool panels, double seconds, double *flops);
#endif
