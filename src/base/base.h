/* base.h — what every room stands on: errors, context, memory, text, hashes, random numbers, time.
 *
 * Everything fallible returns lm_err (0 is LM_OK) and leaves its outputs untouched on error; a sentence
 * naming the culprit (file, key, tensor, got, wanted) is set on the context by lm_fail(). The library never
 * exits, prints or reads the environment: only cmd/ may. A context carries the log callback, the memory
 * ledger and the thread pool; it is passed first, there are no globals that change.
 * Memory: every allocation has a tag, so a run can print who holds what, and the test kit can fail the nth one.
 *
 * Lifetime: a context outlives everything made with it.
 * Threads:  lm_fail/lm_error are per context and belong to the thread that calls the library; worker threads
 *           report through return codes. Allocation and the ledger are thread-safe.
 * Errors:   see LM_ERR_MAP. */
#ifndef LM_BASE_H
#define LM_BASE_H
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- errors -------------------------------------------------------------------------------------------- */
#define LM_ERR_MAP(X)                                                                            \
    X(OK, "fine")                                                                                \
    X(E_NOMEM, "out of memory")                                                                  \
    X(E_IO, "input or output failed")                                                            \
    X(E_NOSPACE, "no space left on the device")                                                  \
    X(E_NOTFOUND, "not found")                                                                   \
    X(E_FORMAT, "the file is malformed")                                                         \
    X(E_SHAPE, "shapes or types do not match")                                                   \
    X(E_CONFIG, "the configuration is wrong")                                                    \
    X(E_RANGE, "a value is out of range")                                                        \
    X(E_UNSUPPORTED, "not supported here")                                                       \
    X(E_MISMATCH, "two things that must agree do not")                                           \
    X(E_DEVICE, "the device failed")                                                             \
    X(E_COMM, "communication between ranks failed")                                              \
    X(E_CANCELLED, "cancelled")                                                                  \
    X(E_DATA, "the data is unusable")                                                            \
    X(E_INTERNAL, "a bug in loam")
typedef enum {
#define X(name, text) LM_##name,
    LM_ERR_MAP(X)
#undef X
    LM_N_ERR
} lm_err;
const char *lm_err_name(lm_err e);     /* "E_SHAPE" */
const char *lm_err_text(lm_err e);     /* "shapes or types do not match" */
#define LM_TRY(expr) do { lm_err lm_e_ = (expr); if (lm_e_ != LM_OK) return lm_e_; } while (0)
#define LM_GOTO(expr, label) do { if ((err = (expr)) != LM_OK) goto label; } while (0)

typedef enum { LM_LOG_ERROR, LM_LOG_WARN, LM_LOG_INFO, LM_LOG_DEBUG } lm_level;
typedef void lm_log_fn(void *ud, lm_level level, const char *room, const char *msg);

typedef struct lm_ctx lm_ctx;
typedef struct {
    int n_threads;                 /* compute threads, the caller included; 0 = one per usable core */
    lm_log_fn *log; void *log_ud;  /* NULL: silent */
    uint64_t isa_mask;             /* features allowed (device/cpu.h); 0 = all this machine has */
} lm_ctx_opts;
lm_err lm_ctx_new(lm_ctx **out, const lm_ctx_opts *opts);    /* opts may be NULL */
void lm_ctx_free(lm_ctx *ctx);                               /* NULL is fine */
/* Set the sentence and return the code, in one line: return lm_fail(ctx, LM_E_SHAPE, "…"). ctx may be NULL. */
lm_err lm_fail(lm_ctx *ctx, lm_err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Put "what: " in front of the sentence that is there already; returns code. */
lm_err lm_fail_in(lm_ctx *ctx, lm_err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Put `to` wherever `from` stands in the sentence: a scratch file's name becomes the one the caller knows. Returns code. */
lm_err lm_fail_as(lm_ctx *ctx, lm_err code, const char *from, const char *to);
const char *lm_error(const lm_ctx *ctx);                     /* the last sentence, "" if none */
void lm_error_clear(lm_ctx *ctx);                            /* it is dealt with */
void lm_log(lm_ctx *ctx, lm_level level, const char *room, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
int lm_ctx_threads(const lm_ctx *ctx);
struct lm_pool *lm_ctx_pool(lm_ctx *ctx);
uint64_t lm_ctx_isa_mask(const lm_ctx *ctx);

/* ---- checked sizes: false on overflow, *out untouched ---------------------------------------------------- */
static inline bool lm_mul_ok(size_t a, size_t b, size_t *out) {
    size_t r; if (__builtin_mul_overflow(a, b, &r)) return false; *out = r; return true; }
static inline bool lm_add_ok(size_t a, size_t b, size_t *out) {
    size_t r; if (__builtin_add_overflow(a, b, &r)) return false; *out = r; return true; }
static inline int64_t lm_min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t lm_max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t lm_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t lm_round_up(int64_t a, int64_t b) { return lm_ceil_div(a, b) * b; }
#define LM_COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

/* ---- memory ---------------------------------------------------------------------------------------------- */
#define LM_MEM_MAP(X) X(MISC, "misc") X(WEIGHTS, "weights") X(GRADS, "gradients") X(OPTIM, "optimizer state") \
    X(ACT, "activations") X(SCRATCH, "scratch") X(KV, "kv cache") X(DATA, "data") X(TOK, "tokenizer") X(GRAPH, "graphs and plans") X(IO, "io buffers")
typedef enum {
#define X(name, text) LM_MEM_##name,
    LM_MEM_MAP(X)
#undef X
    LM_N_MEM
} lm_mem_tag;
const char *lm_mem_name(lm_mem_tag tag);
/* Blocks are 64-byte aligned; those of 2 MiB and more ask for transparent huge pages. NULL + sentence on failure. */
void *lm_alloc(lm_ctx *ctx, lm_mem_tag tag, size_t bytes);        /* contents undefined */
void *lm_calloc(lm_ctx *ctx, lm_mem_tag tag, size_t n, size_t size);   /* zeroed, overflow-checked */
void *lm_realloc(lm_ctx *ctx, lm_mem_tag tag, void *p, size_t bytes);  /* NULL leaves p valid */
void lm_free(lm_ctx *ctx, void *p);                               /* NULL is fine */
char *lm_strdup(lm_ctx *ctx, lm_mem_tag tag, const char *s);
typedef struct { size_t now[LM_N_MEM], peak[LM_N_MEM], total_now, total_peak; uint64_t n_alloc; } lm_ledger;
void lm_mem_ledger(const lm_ctx *ctx, lm_ledger *out);
void lm_mem_reset_peak(lm_ctx *ctx);
/* Fault injection: fail allocation number n from now (1 = the next); sticky = also all after. 0 switches off. */
void lm_mem_fail_at(lm_ctx *ctx, uint64_t n, bool sticky);

/* ---- arena: many small things with one end; nothing is freed alone --------------------------------------- */
typedef struct lm_arena lm_arena;
lm_err lm_arena_new(lm_arena **out, lm_ctx *ctx, lm_mem_tag tag, size_t chunk);   /* chunk 0 = 64 KiB */
void lm_arena_free(lm_arena *a);
void lm_arena_reset(lm_arena *a);                             /* keeps the first chunk */
void *lm_arena_alloc(lm_arena *a, size_t bytes);              /* 16-byte aligned, zeroed; NULL when out of memory */
char *lm_arena_strdup(lm_arena *a, const char *s);
char *lm_arena_printf(lm_arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
size_t lm_arena_used(const lm_arena *a);

/* ---- growable byte string; errors are remembered, check once at the end ---------------------------------- */
/* p is NUL-terminated once anything was added; {.ctx = ctx} is a valid empty one */
typedef struct { lm_ctx *ctx; char *p; size_t n, cap; bool bad; } lm_str;
void lm_str_add(lm_str *s, const void *bytes, size_t n);
void lm_str_puts(lm_str *s, const char *text);
void lm_str_putc(lm_str *s, char c);
void lm_str_printf(lm_str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void lm_str_clear(lm_str *s);                                 /* length 0, buffer kept */
void lm_str_free(lm_str *s);
lm_err lm_str_err(const lm_str *s);                           /* LM_E_NOMEM if any add failed */
/* JSON-escape into s, with the quotes; invalid UTF-8 becomes U+FFFD. */
void lm_str_json(lm_str *s, const char *text, size_t n);
/* Edit distance for "did you mean": the nearest of names[n] to word, or NULL if none is near. */
const char *lm_nearest(const char *word, const char *const *names, int n);

/* ---- hashes ------------------------------------------------------------------------------------------------ */
uint64_t lm_hash64(const void *p, size_t n, uint64_t seed);   /* XXH3 */
typedef struct { uint64_t lo, hi; } lm_hash128_t;
lm_hash128_t lm_hash128(const void *p, size_t n);             /* XXH3-128 */
typedef struct lm_hasher lm_hasher;                           /* streaming XXH3-128 */
lm_hasher *lm_hasher_new(void);                               /* NULL when out of memory */
void lm_hasher_add(lm_hasher *h, const void *p, size_t n);
lm_hash128_t lm_hasher_get(const lm_hasher *h);
void lm_hasher_free(lm_hasher *h);
static inline bool lm_hash_same(lm_hash128_t a, lm_hash128_t b) { return a.lo == b.lo && a.hi == b.hi; }
void lm_hash_hex(lm_hash128_t h, char out[33]);
bool lm_hash_parse(const char *hex, lm_hash128_t *out);         /* what lm_hash_hex writes, and nothing else */

/* ---- random numbers: Philox 4x32-10 (Salmon et al. 2011), counter-based, so nothing but (seed, stream, index)
 * decides a draw: not the thread, the rank, nor what was drawn before. A stream is named after the value it fills. */
typedef struct { uint64_t seed, stream; } lm_rng;
lm_rng lm_rng_of(uint64_t seed, const char *stream_name);
void lm_rng_block(lm_rng r, uint64_t index, uint32_t out[4]); /* block index -> 4 words */
uint32_t lm_rng_u32(lm_rng r, uint64_t index);                /* word index (block index/4) */
float lm_rng_uniform(lm_rng r, uint64_t index);               /* [0,1), 24 bits */
double lm_rng_double(lm_rng r, uint64_t index);               /* [0,1), 53 bits */
float lm_rng_normal(lm_rng r, uint64_t index);                /* Box-Muller in double, rounded once */
uint64_t lm_rng_below(lm_rng r, uint64_t index, uint64_t n);  /* [0,n), n >= 1; unbiased to 2^-64 (multiply-high) */
/* A keyed bijection of [0,n) (Feistel on Philox): position i of a shuffle in O(1), no table. */
uint64_t lm_rng_permute(lm_rng r, uint64_t i, uint64_t n);

/* ---- time ---------------------------------------------------------------------------------------------------- */
double lm_now(void);                                          /* monotonic seconds */
double lm_wall(void);                                         /* Unix seconds */
size_t lm_rss_now(void);                                      /* bytes resident now (/proc/self/statm) */
size_t lm_rss_peak(void);                                     /* VmHWM */
#endif
