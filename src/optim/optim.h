/* optim.h — optimizers as graph builders: (parameter, accumulated gradient, state) → update nodes. They know nothing of ranks.
 *
 * An optimizer is one file and one row. It declares its states by creating them ("<row>.<slot>.<parameter>") and emits nodes that write
 * the parameter in place; learning rate and the other numbers arrive as one small device input per parameter group, so one plan serves
 * every step. Gradients are sums over tokens; `scale` (one number on the device: clip factor / tokens) turns them into means. The update
 * zeroes the gradient for the next accumulation. Which row a parameter gets: matrices of role COL or ROW the chosen optimizer; embeddings,
 * heads, norms and biases AdamW. Weight decay applies to matrices and embeddings only.
 *
 * Lifetime: rows are static.  Threads: builders as the graph.  Errors: unknown names offer the nearest. */
#ifndef LM_OPTIM_H
#define LM_OPTIM_H
#include "graph/graph.h"
enum { LM_HYPER = 8 };                                   /* floats in a group's input */
typedef struct {                                         /* options of a run (train/ makes the option rows) */
    const char *name;                                    /* "adamw", "muon" */
    double lr, beta1, beta2, eps, weight_decay, clip;    /* clip: global gradient norm, 0 = off */
    double muon_lr, muon_momentum, muon_weight_decay; int muon_steps;
    size_t together;                                     /* bytes of intermediate results that matrices updated at once may take; 0: one by one */
    lm_dtype mm;                                         /* what an update's products are taken in: F32, BF16 */
} lm_optim_cfg;
/* What several ranks change. All are optional; a rank may hold only some rows of a parameter (lm_optim_param.rows). */
typedef struct {
    /* the squared norm of what is held in parts, summed over ranks */
    lm_value *(*norm)(void *ud, lm_graph *g, lm_value *gnorm2);
    lm_value *(*whole)(void *ud, lm_graph *g, lm_value *part, int64_t rows);         /* all rows, for updates that need the matrix */
    lm_value *(*part)(void *ud, lm_graph *g, lm_value *whole);                       /* and this rank's of them */
    lm_err (*done)(void *ud, lm_graph *g, int i, lm_value *now);                     /* parameter i is updated: its next version */
    void *ud;
} lm_optim_hooks;
typedef struct {
    const char *param_name; lm_value *param, *grad, *scale, *hyper;   /* states; (1); (LM_HYPER) */
    const lm_optim_cfg *cfg; const lm_optim_hooks *hooks; int64_t rows;  /* rows of the whole parameter where param is a part, else 0 */
    bool fresh;                                                          /* the gradient need not be cleared */
    lm_value *rng;                                                       /* set: the parameter is bf16 alone and is rounded by chance */
    lm_value *copy;                                                      /* a state that gets the parameter rounded; NULL if build() saw to it */
    lm_value *now;                                                       /* build() leaves the parameter's next version here */
} lm_optim_arg;
typedef struct lm_optim {
    const char *name, *paper;
    bool matrices_only;                                  /* embeddings, heads and vectors then go to adamw */
    lm_err (*build)(lm_graph *g, lm_optim_arg *a, int n);                /* n parameters of one type; more than one as `most` allows */
    int (*most)(const lm_optim_cfg *c, int64_t rows, int64_t cols);      /* whole matrices of this size at once; NULL: one */
    /* The group's numbers at a step (1-based); lr_scale is the schedule's value in [0,1]. */
    void (*hyper)(const lm_optim_cfg *c, double lr_scale, bool decay, int64_t step, float out[LM_HYPER]);
    bool by_chance;                                      /* takes parameters that are kept in bf16 alone */
    int state_copies;                                    /* f32 states per parameter element, for the plan */
    bool half;                                           /* takes gradients in bf16 where they are fresh */
} lm_optim;
extern const lm_optim *const lm_optims[];                /* generated from the files */
const lm_optim *lm_optim_by_name(const char *name);

/* The update graph of a whole model. Inputs it makes: "clip" F32 (2) = {max norm, 1/tokens}, "hyper.<row>.decay", "hyper.<row>.plain" F32
 * (8). Output "gnorm" F32 (1): the norm of the mean gradient before clipping. hooks may be NULL. */
/* A parameter whose type is bf16 is kept so alone: its gradient and moments are f32, its update is rounded by chance, drawn from the input "rng" I64
 * (2): seed, step. */
/* rows != 0: type is one rank's part of so many rows; copy: a state that is kept as the parameter rounded to bf16 (NULL: none); fresh: an
 * accumulation begins by writing the gradient, which is then not cleared here; grad: what the gradient is stored as, F32, or BF16 if lm_optim.half;
 * squares: a state whose n_squares numbers add up to the gradient's squares (n_squares 0: another parameter's have them in); NULL: it is read */
typedef struct {
    const char *name; lm_type type; lm_role role; int64_t rows; const char *copy; bool fresh; lm_dtype grad; const char *squares; int64_t n_squares;
} lm_optim_param;
lm_err lm_optim_build(lm_graph *g, const lm_optim_cfg *c, const lm_optim_param *p, int n, const lm_optim_hooks *hooks);
const lm_optim *lm_optim_for(const lm_optim_cfg *c, const lm_optim_param *p);
static inline bool lm_optim_decays(const lm_optim_param *p) { return p->role == LM_ROLE_COL || p->role == LM_ROLE_ROW || p->role == LM_ROLE_EMBED; }

/* ---- schedules: the factor on the learning rate at a step (0-based) ------------------------------------------------------------ */
typedef enum { LM_SCHED_CONSTANT, LM_SCHED_LINEAR, LM_SCHED_COSINE, LM_SCHED_WSD } lm_sched_kind;
extern const char *const lm_sched_names[];               /* NULL-terminated, in enum order */
/* decay_steps: WSD's last stretch; floor: final factor */
typedef struct { lm_sched_kind kind; int64_t warmup, steps, decay_steps; double floor; } lm_sched;
/* Linear warm-up (step+1)/warmup, then: constant 1; linear or cosine from 1 to floor over the rest; WSD stays 1 and falls linearly to floor
 * over decay_steps (Hu et al. 2024). */
double lm_sched_at(const lm_sched *s, int64_t step);
#endif
