/* infer.h — sessions: mutable inference timelines over shared read-only weights.
 *
 * An engine is one plan for any mix of prefill and decode: the rows of a run are tokens of any sessions, with their positions, page slots
 * and page tables as integer tensors. A session is a list of pages of 64 tokens; forking shares full pages and copies the last one,
 * truncating drops pages. What a token's row computes does not depend on the other rows, so logits are the same bits for any chunking and
 * any batch (docs/design/bits.md).
 *
 * Lifetime: an engine borrows the store with the weights and outlives its sessions.
 * Threads:  one caller per engine (the scheduler).
 * Errors:   LM_E_NOMEM: no page is free, nothing changed; LM_E_RANGE: past the context, or an id outside the vocabulary. */
#ifndef LM_INFER_H
#define LM_INFER_H
#include "graph/plan.h"
#include "model/model.h"
#include "op/peak/peak.h"
typedef struct lm_engine lm_engine;
typedef struct lm_session lm_session;
typedef struct {
    int64_t context;             /* tokens a session may hold; 0 = the model's */
    int64_t max_seqs;            /* sessions in one run; 0 = 1 */
    /* tokens in one run; 0 = 256. Dynamic rope scaling: the whole context, rows too, since a call's length is part of its mathematics */
    int64_t chunk;
    int64_t rows;                /* rows of logits held at a time, where a call wants all of them; 0 = 32 */
    int64_t kv_tokens;           /* page pool; 0 = max_seqs * context */
    lm_dtype mm, kv;             /* compute dtype (F32, BF16, I8: see lm_pass_precision); dtype of the pages (F32, BF16, F16, QUANT) */
    const lm_quant *kv_quant;    /* with kv QUANT: Q8_0 or Q4_0 (op/kv_write); this processor only, heads of a multiple of 32 */
    lm_dev *dev;                 /* NULL: this processor; else weights must be PLAIN */
    /* A row's bits depend on its own tokens alone on a device too: not on how many rows are beside it, in which order they came or what the chunk
     * was. There a run has at most 64 rows. On this processor it is always so. */
    bool deterministic;
    bool dry;                    /* plan only */
    uint64_t features;           /* lm_plan_opts.features; 0 = the context's */
} lm_engine_opts;
/* The compute dtype that weights ask for: BF16 where all matrices are bf16, I8 where some have a format with panels (Q8_0, Q4_K …: blocks are then
 * multiplied as integers), else F32. */
lm_dtype lm_engine_mm_for(const lm_store *weights);
/* "f32", "bf16", "f16", "q8_0", "q4_0"; LM_E_CONFIG for others */
lm_err lm_engine_kv_of(lm_ctx *ctx, const char *name, lm_dtype *kv, const lm_quant **quant);
lm_err lm_engine_new(lm_engine **out, lm_ctx *ctx, const lm_cfg *cfg, lm_store *weights, const lm_engine_opts *o);
void lm_engine_free(lm_engine *e);
const lm_cfg *lm_engine_cfg(const lm_engine *e);
lm_ctx *lm_engine_ctx(const lm_engine *e);
const lm_plan *lm_engine_plan(const lm_engine *e);
const lm_engine_opts *lm_engine_opts_of(const lm_engine *e);       /* as it was made, defaults filled in */
int64_t lm_engine_context(const lm_engine *e);
size_t lm_engine_kv_bytes(const lm_engine *e);
/* What tells these weights from others of their shape: a hash of norms, biases, embedding and head (their names, shapes, dtypes, first bytes). */
lm_err lm_engine_model(lm_engine *e, uint64_t *id);
int64_t lm_engine_free_pages(const lm_engine *e);

lm_err lm_session_new(lm_session **out, lm_engine *e);
void lm_session_free(lm_session *s);                               /* NULL is fine */
int64_t lm_session_len(const lm_session *s);
lm_err lm_session_fork(const lm_session *s, lm_session **out);
lm_err lm_session_truncate(lm_session *s, int64_t n);              /* to its first n tokens */
/* The session's tokens and pages as a file (checked on reading: its hash, the model's shape, lm_engine_model). */
lm_err lm_session_save(const lm_session *s, const char *path);
lm_err lm_session_load(lm_session **out, lm_engine *e, const char *path);
const int32_t *lm_session_ids(const lm_session *s);                /* the tokens so far */

typedef enum { LM_WANT_NONE, LM_WANT_LAST, LM_WANT_ALL } lm_want_logits;
typedef struct { lm_session *s; const int32_t *ids; int64_t n; lm_want_logits want; } lm_request;
/* Append each request's tokens to its session. row() gets the logits (V) that follow token i of request r, where wanted; a non-OK return
 * stops. Sessions of one call must differ. After any error, also one from row(), every session is as long as it was before the call. */
lm_err lm_engine_run(lm_engine *e, const lm_request *req, int n, lm_err (*row)(void *ud, int r, int64_t i, const float *logits), void *ud);
/* The same for choosing tokens: requests want LM_WANT_LAST or nothing, and where[r] says what is to be known of request r's row (t and gap of
 * lm_peak). row() gets that and no logits where the plan runs on a device, so that logits are not copied; it gets the logits too if more
 * are near than lm_peak lists, and the logits alone (peak NULL) on this processor or where `where` is NULL. */
typedef struct { float t, gap; } lm_near;
lm_err lm_engine_choose(lm_engine *e, const lm_request *req, int n, const lm_near *where,
                        lm_err (*row)(void *ud, int r, const lm_peak_row *peak, const float *logits), void *ud);
/* Greedy steps one after another on a device, each begun before this side has seen the one before: every request is one token, which step 0 appends; step
 * k + 1 appends what step k chose for each (the least id among the largest logits). row() gets that choice of every request as the only candidate (peak, no
 * logits). Ends after `most` steps, after a step behind which go_on() says no, whose successor is then dropped, or where pages or the context end; the last
 * choices are not in the sessions. The same tokens as by lm_engine_choose. Needs lm_engine_ahead. After an error all sessions are as before the call. */
bool lm_engine_ahead(const lm_engine *e, int n);                   /* is it on a device, and are n rows one run? */
lm_err lm_engine_greedy(lm_engine *e, const lm_request *req, int n, int64_t most, lm_err (*row)(void *ud, int r, const lm_peak_row *peak, const float *logits),
                        bool (*go_on)(void *ud), void *ud);
/* log p of each ids[i] given what is before it (lp[0] is 0 for an empty session), by the same kernels that decode: equal to the trainer's
 * to the bit. */
lm_err lm_engine_score(lm_engine *e, lm_session *s, const int32_t *ids, int64_t n, float *lp);
#endif
