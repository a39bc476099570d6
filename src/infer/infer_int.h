/* infer_int.h — engine and session fields, for the files of this room. */
#ifndef LM_INFER_INT_H
#define LM_INFER_INT_H
#include "infer/infer.h"
struct lm_engine {
    lm_ctx *ctx; lm_cfg cfg; lm_engine_opts o; lm_store *weights, *kv; lm_plan *plan; int n_kv_layer;
    int64_t n_pages, pages_per_seq, max_rows, n_free; int32_t *free_page, *refs;
    bool peaks;                                                     /* the plan has lm_peak's rows beside the logits: on a device */
    int32_t *row_req; int64_t *row_at;                              /* (max_rows) whose logits the rows of a run are */
};
struct lm_session {
    lm_engine *e; int64_t n, n_page, row; int32_t *page, *id;
    int64_t mark;                /* 1 + length before the run that it takes part in; 0 outside */
};
/* To n <= length tokens, where the last page that remains is the session's own (or full). */
void lm_session_drop(lm_session *s, int64_t n);
/* ---- engine.c, for ahead.c ---- */
/* Room for one more token; lm_engine_check saw that there are pages. */
void lm_session_grow(lm_session *s);
/* Everything that can be known beforehand; the sessions of requests [0, *marked) are marked, until lm_engine_unmark: after an error they are as they were. */
lm_err lm_engine_check(lm_engine *e, const lm_request *req, int n, int *marked);
void lm_engine_unmark(const lm_request *req, int marked, lm_err err);
/* Around planning and running: the device is in the engine's mode (deterministic). */
void lm_engine_alone(const lm_engine *e, bool on);
/* Is this state of the engine's one of pages? */
bool lm_engine_pool(const lm_engine *e, int state);
#endif
