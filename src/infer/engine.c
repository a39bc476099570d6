/* engine.c — one plan, many sessions: pages, tables, runs. */
#include <math.h>
#include <string.h>
#include <strings.h>
#include "infer/infer_int.h"
#include "op/follow/follow.h"
#include "op/gather/gather.h"
#include "op/matmul/matmul.h"
#include "op/xent/xent.h"
#include "quant/quant.h"

/* Do weights stay in their file? Then steps read one at a time. */
static bool stays(const lm_store *weights) {
    for (int i = 0; i < lm_store_count(weights); i++) {
        lm_file *f; int64_t o;
        if (lm_store_where(weights, lm_store_name(weights, i, NULL), &f, &o)) return true;
    }
    return false;
}
static lm_err build(lm_engine *e, lm_graph *g) {
    lm_type n = LM_TYPE(LM_I32, e->o.chunk), l = LM_TYPE(LM_I32, e->max_rows), tab = LM_TYPE(LM_I32, e->o.max_seqs, e->pages_per_seq);
    n.ext[0] = (int8_t)lm_extent(g, "N"); l.ext[0] = (int8_t)lm_extent(g, "L");
    lm_model_in in = { .tokens = lm_input(g, "tokens", &n), .pos = lm_input(g, "pos", &n), .start = lm_input(g, "start", &n), .context = e->o.context };
    lm_type best = LM_TYPE(LM_F32, e->max_rows, LM_PEAK_BEST);
    lm_value *chosen = e->o.dev ? lm_state(g, "chosen", &best) : NULL;
    if (e->o.dev) in.tokens = lm_follow(g, in.tokens, lm_input(g, "from", &n), chosen);
    lm_model_out out;
    LM_TRY(e->cfg.model->build(g, &e->cfg, &in, &out));
    lm_value *last = lm_gather(g, out.hidden, lm_input(g, "rows", &l));              /* (L, d) */
    lm_value *logits = lm_model_logits(g, &e->cfg, last, out.head);                         /* (L, V) */
    lm_graph_output(g, "logits", logits);
    if (e->o.dev) {
        lm_type how = LM_TYPE(LM_F32, e->max_rows, 2);
        how.ext[0] = (int8_t)lm_extent(g, "P");                         /* rows with lists: all of a run's, or none */
        lm_value *peaks = lm_peak(g, logits, lm_input(g, "near", &how), chosen);
        lm_graph_output(g, "peaks", peaks);
        lm_graph_output(g, "best", lm_output(peaks, 1));
        e->peaks = true;
    }
    lm_paged pg = { .kv_dtype = e->o.kv,
                    .kv_quant = e->o.kv == LM_QUANT ? e->o.kv_quant : NULL,
                    .n_pages = e->n_pages,
                    .table = lm_input(g, "table", &tab),
                    .seq = lm_input(g, "seq", &n),
                    .pos = in.pos,
                    .slot = lm_input(g, "slot", &n) };
    LM_TRY(lm_pass_session(g, &pg, &e->n_kv_layer));
    LM_TRY(lm_pass_precision(g, e->o.mm));
    LM_TRY(lm_pass_fuse(g, NULL));
    if (!e->o.dev && !stays(e->weights)) LM_TRY(lm_pass_unite(g, NULL, e->o.features, false, NULL));
    if (e->o.dev && e->o.mm == LM_BF16) LM_TRY(lm_pass_storage(g, e->o.dev));
    return lm_graph_err(g);
}
/* In deterministic mode a run has as many rows as one may ask for if each of the plan's kernels does the same with a row however many are beside it (lm_plan_alone;
 * the joins that a device takes in that mode do). A plan with any other keeps to what the kernel of few rows takes at once. */
enum { ALONE = 64 };
/* The device is shared: its mode is the engine's only while that plans and runs. */
void lm_engine_alone(const lm_engine *e, bool on) {
    if (!e->o.deterministic || !e->o.dev) return;
    if (on) e->o.dev->features |= LM_CUDA_ROW_ALONE; else e->o.dev->features &= ~(uint64_t)LM_CUDA_ROW_ALONE;
}
lm_dtype lm_engine_mm_for(const lm_store *weights) {
    int matrices = 0, bf16 = 0, integers = 0;
    for (int i = 0; i < lm_store_count(weights); i++) {
        lm_tensor t;
        lm_store_name(weights, i, &t);
        if (t.rank != 2) continue;
        matrices++; bf16 += t.dtype == LM_BF16; integers += t.quant && t.quant->panels;
    }
    return integers ? LM_I8 : matrices && bf16 == matrices ? LM_BF16 : LM_F32;
}
lm_err lm_engine_kv_of(lm_ctx *ctx, const char *name, lm_dtype *kv, const lm_quant **quant) {
    static const struct { const char *name, *format; } blocks[] = { { "q8_0", "Q8_0" }, { "q4_0", "Q4_0" } };
    static const lm_dtype known[] = { LM_F32, LM_BF16, LM_F16 };
    lm_dtype d;
    for (int i = 0; i < LM_COUNT(known); i++) if (lm_dtype_parse(name, &d) && d == known[i]) { *kv = d; *quant = NULL; return LM_OK; }
    for (int i = 0; i < LM_COUNT(blocks); i++)
        if (!strcasecmp(name, blocks[i].name)) { *kv = LM_QUANT; *quant = lm_quant_by_name(blocks[i].format); return LM_OK; }
    return lm_fail(ctx, LM_E_CONFIG, "kv %s: f32, bf16, f16, q8_0 and q4_0 are known", name);
}
static lm_err plan_of(lm_engine *e) {
    lm_graph *g = NULL;
    lm_err err;
    e->max_rows = lm_max64(e->o.max_seqs, e->o.rows ? e->o.rows : 32);
    if (e->max_rows > e->o.chunk) e->max_rows = e->o.chunk;
    LM_GOTO(lm_store_new(&e->kv, e->ctx), done);
    LM_GOTO(lm_graph_new(&g, e->ctx, e->weights), done);
    LM_GOTO(build(e, g), done);
    lm_engine_alone(e, true);
    const lm_plan_opts po = { .store = e->weights,
                              .local = e->kv,
                              .create_states = true,
                              .state_tag = LM_MEM_KV,
                              .features = e->o.features,
                              .dev = e->o.dev,
                              .dry = e->o.dry };
    err = lm_plan_new(&e->plan, e->ctx, g, &po);
    lm_engine_alone(e, false);
done:
    lm_graph_free(g);
    return err;
}
lm_err lm_engine_new(lm_engine **out, lm_ctx *ctx, const lm_cfg *cfg, lm_store *weights, const lm_engine_opts *o) {
    if (cfg->model->encoder)
        return lm_fail(ctx, LM_E_UNSUPPORTED, "%s is an encoder: it writes no text and scores none; `loam embed` makes vectors with it", cfg->model->name);
    if (o->kv == LM_QUANT && o->dev)
        return lm_fail(ctx, LM_E_UNSUPPORTED, "key-value pages in blocks (%s) are known on this processor, not on %s: use f32 or bf16 pages there",
                       o->kv_quant ? o->kv_quant->name : "?", o->dev->kind);
    lm_engine *e = lm_calloc(ctx, LM_MEM_KV, 1, sizeof *e);
    if (!e) return LM_E_NOMEM;
    e->ctx = ctx; e->cfg = *cfg; e->o = *o; e->weights = weights;
    if (!e->o.context) e->o.context = cfg->max_pos;
    if (!e->o.max_seqs) e->o.max_seqs = 1;
    if (!e->o.chunk) e->o.chunk = 256;
    if (e->o.chunk < e->o.max_seqs) e->o.chunk = e->o.max_seqs;
    /* a call is one run: its longest position decides */
    if (cfg->rope.scaling == LM_ROPE_DYNAMIC) e->o.chunk = e->o.rows = lm_max64(e->o.chunk, e->o.context);
    if (e->o.deterministic && e->o.dev) {
        if (cfg->rope.scaling == LM_ROPE_DYNAMIC) {
            lm_free(ctx, e);
            return lm_fail(ctx, LM_E_UNSUPPORTED, "deterministic: dynamic rope scaling makes a call's length part of its mathematics: it cannot be cut into runs");
        }
    }
    e->pages_per_seq = lm_ceil_div(e->o.context, LM_KV_PAGE);
    e->n_pages = e->o.kv_tokens ? lm_ceil_div(e->o.kv_tokens, LM_KV_PAGE) : e->o.max_seqs * e->pages_per_seq;
    lm_err err;
    if (e->n_pages >= INT32_MAX / LM_KV_PAGE) {
        err = lm_fail(ctx, LM_E_RANGE, "a key-value pool of %lld pages is too large", (long long)e->n_pages);
        goto fail;
    }
    LM_GOTO(plan_of(e), fail);
    if (e->o.deterministic && e->o.dev && e->o.chunk > ALONE && !lm_plan_alone(e->plan)) {
        lm_plan_free(e->plan); lm_store_free(e->kv);
        e->plan = NULL; e->kv = NULL;
        e->o.chunk = ALONE;
        LM_GOTO(plan_of(e), fail);
    }
    err = LM_E_NOMEM;
    if (!(e->free_page = lm_alloc(ctx, LM_MEM_KV, (size_t)e->n_pages * sizeof *e->free_page)) ||
        !(e->refs = lm_calloc(ctx, LM_MEM_KV, (size_t)e->n_pages + 1, sizeof *e->refs)) ||
        !(e->row_req = lm_alloc(ctx, LM_MEM_KV, (size_t)e->max_rows * sizeof *e->row_req)) ||
        !(e->row_at = lm_alloc(ctx, LM_MEM_KV, (size_t)e->max_rows * sizeof *e->row_at)))
        goto fail;
    for (int64_t i = 0; i < e->n_pages; i++) e->free_page[e->n_free++] = (int32_t)(e->n_pages - 1 - i);
    *out = e; return LM_OK;
fail:
    lm_engine_free(e);
    return err;
}
void lm_engine_free(lm_engine *e) {
    if (!e) return;
    lm_plan_free(e->plan); lm_store_free(e->kv);
    lm_free(e->ctx, e->free_page); lm_free(e->ctx, e->refs); lm_free(e->ctx, e->row_req); lm_free(e->ctx, e->row_at); lm_free(e->ctx, e);
}
const lm_cfg *lm_engine_cfg(const lm_engine *e) { return &e->cfg; }
lm_ctx *lm_engine_ctx(const lm_engine *e) { return e->ctx; }
const lm_plan *lm_engine_plan(const lm_engine *e) { return e->plan; }
const lm_engine_opts *lm_engine_opts_of(const lm_engine *e) { return &e->o; }
int64_t lm_engine_context(const lm_engine *e) { return e->o.context; }
int64_t lm_engine_free_pages(const lm_engine *e) { return e->n_free; }
bool lm_engine_pool(const lm_engine *e, int state) { lm_tensor t; return strcmp(lm_store_name(e->kv, state, &t), "chosen"); }
size_t lm_engine_kv_bytes(const lm_engine *e) {
    size_t n = 0;
    for (int i = 0; i < lm_store_count(e->kv); i++) {
        lm_tensor t; size_t b = 0;
        if (!lm_engine_pool(e, i)) continue;
        lm_store_name(e->kv, i, &t);
        lm_storage_bytes((lm_dtype)t.dtype, t.quant, LM_PLAIN, t.rank, t.dim, &b);
        n += b;
    }
    return n;
}
/* Matrices may stand in the store once more, united; vectors and what has a row for each token do not. */
lm_err lm_engine_model(lm_engine *e, uint64_t *id) {
    enum { SOME = 4096 };
    char *buf = lm_alloc(e->ctx, LM_MEM_IO, SOME);
    if (!buf) return LM_E_NOMEM;
    uint64_t h = 1;
    lm_err err = LM_OK;
    for (int i = 0; !err && i < lm_store_count(e->weights); i++) {
        lm_tensor t; size_t n = 0;
        const char *name = lm_store_name(e->weights, i, &t);
        if (t.rank != 1 && t.dim[0] != e->cfg.vocab) continue;
        h = lm_hash64(name, strlen(name), h); h = lm_hash64(t.dim, (size_t)t.rank * sizeof *t.dim, h); h = lm_hash64(&t.dtype, sizeof t.dtype, h);
        if (t.quant) h = lm_hash64(t.quant->name, strlen(t.quant->name), h);
        if (!lm_storage_bytes((lm_dtype)t.dtype, t.quant, LM_PLAIN, t.rank, t.dim, &n)) n = 0;
        if (n > SOME) n = SOME;
        err = lm_store_read(e->weights, i, 0, buf, n);
        if (!err) h = lm_hash64(buf, n, h);
    }
    lm_free(e->ctx, buf);
    if (!err) *id = h;
    return err;
}

/* ---- runs ------------------------------------------------------------------------------------------------------------------------ */
typedef struct { int32_t *tokens, *from, *pos, *seq, *slot, *rows, *table; int64_t n, l; int32_t *row_req; int64_t *row_at; } feed;
void lm_session_grow(lm_session *s) {
    lm_engine *e = s->e;
    if (s->n % LM_KV_PAGE) return;
    const int32_t p = e->free_page[--e->n_free];
    e->refs[p] = 1; s->page[s->n_page++] = p;
}
static lm_err check_one(lm_engine *e, const lm_request *q, int r) {
    if (q->s->e != e) return lm_fail(e->ctx, LM_E_MISMATCH, "request %d: the session belongs to another engine", r);
    if (q->s->mark) return lm_fail(e->ctx, LM_E_MISMATCH, "request %d: its session is in an earlier request of the same run", r);
    if (q->n < 0 || q->s->n + q->n > e->o.context)
        return lm_fail(e->ctx, LM_E_RANGE, "the session holds %lld tokens and %lld more do not fit the context of %lld", (long long)q->s->n,
                       (long long)q->n, (long long)e->o.context);
    for (int64_t i = 0; i < q->n; i++)
        if (q->ids[i] < 0 || q->ids[i] >= e->cfg.vocab)
            return lm_fail(e->ctx, LM_E_RANGE, "token id %d is outside the vocabulary of %lld", q->ids[i], (long long)e->cfg.vocab);
    return LM_OK;
}
lm_err lm_engine_check(lm_engine *e, const lm_request *req, int n, int *marked) {
    int64_t pages = 0;
    for (*marked = 0; *marked < n; ++*marked) {
        const lm_request *q = &req[*marked];
        LM_TRY(check_one(e, q, *marked));
        q->s->mark = q->s->n + 1;
        pages += lm_ceil_div(q->s->n + q->n, LM_KV_PAGE) - q->s->n_page;
    }
    if (pages <= e->n_free) return LM_OK;
    return lm_fail(e->ctx, LM_E_NOMEM, "the key-value pool is full: %lld pages are needed, %lld are free", (long long)pages, (long long)e->n_free);
}
/* Who hears of rows: one of the two. */
typedef struct {
    lm_err (*row)(void *, int, int64_t, const float *);
    lm_err (*choose)(void *, int, const lm_peak_row *, const float *); const lm_near *where;
    void *ud;
} listener;
static lm_err flush(lm_engine *e, feed *f, const listener *to) {
    if (!f->n) return LM_OK;
    LM_TRY(lm_plan_extent(e->plan, "N", f->n));
    LM_TRY(lm_plan_extent(e->plan, "L", f->l));
    if (e->peaks) LM_TRY(lm_plan_extent(e->plan, "P", f->l));
    const bool peaks = e->peaks && to->where;
    lm_plan_want(e->plan, "logits", !peaks);
    lm_plan_want(e->plan, "peaks", peaks);
    lm_plan_want(e->plan, "best", false);
    lm_engine_alone(e, true);
    const lm_err ran = lm_plan_run(e->plan);
    lm_engine_alone(e, false);
    LM_TRY(ran);
    const float *logits = lm_plan_output(e->plan, "logits", NULL), *peak = peaks ? lm_plan_output(e->plan, "peaks", NULL) : NULL;
    bool here = !peaks;                                                /* are the logits on this side? */
    for (int64_t i = 0; i < f->l; i++) {
        if (!to->choose) { LM_TRY(to->row(to->ud, f->row_req[i], f->row_at[i], logits + i * e->cfg.vocab)); continue; }
        const lm_peak_row p = peak ? lm_peak_of(peak + i * LM_PEAK_COLS) : (lm_peak_row){0};
        const bool all = !peaks || (!p.bad && p.n > LM_PEAK_MOST);
        if (all && !here) { LM_TRY(lm_plan_fetch(e->plan, "logits")); here = true; }
        LM_TRY(to->choose(to->ud, f->row_req[i], peaks ? &p : NULL, all ? logits + i * e->cfg.vocab : NULL));
    }
    f->n = f->l = 0;
    return LM_OK;
}
static lm_err run_all(lm_engine *e, const lm_request *req, int n, const listener *to) {
    float *near = e->peaks ? lm_plan_input(e->plan, "near", NULL) : NULL;
    const bool listens = to->row || to->choose;
    feed f = {
        .tokens = lm_plan_input(e->plan, "tokens", NULL), .from = lm_plan_input(e->plan, "from", NULL), .pos = lm_plan_input(e->plan, "pos", NULL), .seq = lm_plan_input(e->plan, "seq", NULL),
        .slot = lm_plan_input(e->plan, "slot", NULL), .rows = lm_plan_input(e->plan, "rows", NULL), .table = lm_plan_input(e->plan, "table", NULL),
        .row_req = e->row_req, .row_at = e->row_at,
    };
    int64_t seq_row = 0;                                               /* next row of the page table */
    for (int r = 0; r < n; r++) {
        lm_session *s = req[r].s;
        if (seq_row == e->o.max_seqs) { LM_TRY(flush(e, &f, to)); seq_row = 0; }
        bool placed = false;
        for (int64_t i = 0; i < req[r].n; i++) {
            const bool want = listens && (req[r].want == LM_WANT_ALL || (req[r].want == LM_WANT_LAST && i + 1 == req[r].n));
            if (f.n == e->o.chunk || (want && f.l == e->max_rows)) { LM_TRY(flush(e, &f, to)); seq_row = 0; placed = false; }
            lm_session_grow(s);
            if (!placed || s->n % LM_KV_PAGE == 0) {                   /* the table row, again when a page was added */
                if (!placed) { placed = true; s->row = seq_row++; }
                memcpy(f.table + s->row * e->pages_per_seq, s->page, (size_t)s->n_page * sizeof *s->page);
            }
            if (f.from) f.from[f.n] = -1;
            f.tokens[f.n] = req[r].ids[i]; f.pos[f.n] = (int32_t)s->n; f.seq[f.n] = (int32_t)s->row;
            f.slot[f.n] = s->page[s->n / LM_KV_PAGE] * LM_KV_PAGE + (int32_t)(s->n % LM_KV_PAGE);
            if (want && near) { near[2 * f.l] = to->where ? to->where[r].t : 0; near[2 * f.l + 1] = to->where ? to->where[r].gap : 0; }
            if (want) { f.rows[f.l] = (int32_t)f.n; f.row_req[f.l] = r; f.row_at[f.l++] = i; }
            s->id[s->n++] = req[r].ids[i]; f.n++;
        }
    }
    return flush(e, &f, to);
}
void lm_engine_unmark(const lm_request *req, int marked, lm_err err) {
    for (int r = 0; r < marked; r++) {
        lm_session *s = req[r].s;
        if (err) lm_session_drop(s, s->mark - 1);
        s->mark = 0;
    }
}
static lm_err run_marked(lm_engine *e, const lm_request *req, int n, const listener *to) {
    int marked;
    lm_err err = lm_engine_check(e, req, n, &marked);
    if (!err) err = run_all(e, req, n, to);
    lm_engine_unmark(req, marked, err);
    return err;
}
lm_err lm_engine_run(lm_engine *e, const lm_request *req, int n, lm_err (*row)(void *, int, int64_t, const float *), void *ud) {
    return run_marked(e, req, n, &(listener){ .row = row, .ud = ud });
}
lm_err lm_engine_choose(lm_engine *e, const lm_request *req, int n, const lm_near *where,
                        lm_err (*row)(void *, int, const lm_peak_row *, const float *), void *ud) {
    return run_marked(e, req, n, &(listener){ .choose = row, .where = where, .ud = ud });
}
typedef struct { const int32_t *ids; int64_t n, V; float *lp; } score;
static lm_err score_row(void *ud, int r, int64_t i, const float *logits) {
    score *c = ud; (void)r;
    if (i + 1 < c->n) c->lp[i + 1] = logits[c->ids[i + 1]] - lm_row_lse(logits, c->V);
    return LM_OK;
}
lm_err lm_engine_score(lm_engine *e, lm_session *s, const int32_t *ids, int64_t n, float *lp) {
    score c = { ids, n, e->cfg.vocab, lp };
    const lm_request q = { s, ids, n, LM_WANT_ALL };
    if (n) lp[0] = 0;
    return lm_engine_run(e, &q, 1, score_row, &c);
}
