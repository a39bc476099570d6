/* run.c — the loop around a trainer. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/build.h"
#include "base/file.h"
#include "device/cpu.h"
#include "dist/dist.h"
#include "format/safetensors.h"
#include "train/report.h"
#include "train/run.h"
#include "train/train_int.h"

typedef struct {
    lm_ctx *ctx; const lm_run_cfg *c; const lm_run_opts *o; lm_comm *comm;
    lm_arena *a;
    lm_tok *tok;
    lm_shards *data, *val_data, **mix;
    lm_source *source;
    lm_cfg model;
    lm_store *store;
    lm_trainer *t;
    lm_loader *loader, *val;
    lm_batch b;
    lm_sched sched;
    int64_t micro, accum;
    lm_ckpt_state st;
    lm_hash128_t cfg_hash, data_hash;
    lm_out *metrics;
    lm_lock *lock;
    bool begun;
    int64_t val_bytes, val_first, val_count;
    double nats_to_bits; double t0; char *ckpt_dir; lm_mesh_kind mesh; lm_dev *dev; lm_comm *dev_comm;
} run;

static char *in_out(run *r, const char *name) { return lm_arena_printf(r->a, "%s/%s", r->c->out, name); }
static bool leader(const run *r) { return r->comm->rank == 0; }
/* Only rank 0 tells and writes. What one rank finds out alone (a folder that is in the way, a full disk) the others learn here, and stop with it. */
static void emit(run *r, lm_run_event *e) { if (r->o->event && leader(r)) r->o->event(r->o->ud, e); }
static lm_err agree(run *r, lm_err e, const char *what) { return lm_comm_agree(r->comm, r->ctx, e, what); }

lm_err lm_run_model(lm_ctx *ctx, const lm_run_cfg *c, int64_t vocab, lm_cfg *m) {
    const lm_model *row = lm_model_by_name(c->model.family);
    if (!row) {
        const char *names[64]; int n = 0;
        for (; lm_models[n] && n < 64; n++) names[n] = lm_models[n]->name;
        const char *near = lm_nearest(c->model.family, names, n);
        return lm_fail(ctx, LM_E_CONFIG, "model.family: no architecture is called \"%s\"%s%s", c->model.family,
                       near ? "; did you mean " : "", near ? near : "");
    }
    *m = (lm_cfg){ .model = row,
                   .vocab = vocab,
                   .d = c->model.d,
                   .n_layer = c->model.n_layer,
                   .n_head = c->model.n_head,
                   .n_kv = c->model.n_kv ? c->model.n_kv : c->model.n_head,
                   .d_head = c->model.d_head ? c->model.d_head : c->model.d / c->model.n_head,
                   .max_pos = c->model.max_pos ? c->model.max_pos : c->data.seq,
                   .eps = 1e-5,
                   .init_std = c->model.init_std,
                   .tie = c->model.tie,
                   .bos = -1,
                   .hf_type = row->name };
    m->d_ff = c->model.d_ff;
    row->usual(m);
    if (!c->model.d_head && c->model.d % c->model.n_head)
        return lm_fail(ctx, LM_E_CONFIG,
                       "model.d is %lld: it does not divide among model.n_head = %lld heads (model.d_head sets their size)",
                       (long long)c->model.d, (long long)c->model.n_head);
    m->rope.d_head = (int)m->d_head; m->rope.base = c->model.rope_theta; m->rope.max_pos = m->max_pos;
    if (row->pos_table && m->max_pos < c->data.seq)
        return lm_fail(ctx, LM_E_CONFIG, "model.max_pos is %lld, data.seq %lld: %s has no position beyond its table", (long long)m->max_pos,
                       (long long)c->data.seq, row->name);
    return lm_cfg_check(ctx, m);
}
lm_trainer_opts lm_run_trainer_opts(const lm_run_cfg *c, int64_t micro) {
    return (lm_trainer_opts){ .batch = micro,
                              .seq = c->data.seq,
                              .mm = c->train.dtype == LM_RUN_FP8 ? LM_F8_E4M3 : c->train.dtype ? LM_BF16 : LM_F32,
                              .pure = c->train.dtype == LM_RUN_BF16_PURE,
                              .recompute = (int)c->train.recompute,
                              .gather = (lm_gather_kind)c->train.gather,
                              .memory_budget = c->train.memory_budget,
                              .optim = { .name = c->optim.name,
                                         .lr = c->optim.lr,
                                         .beta1 = c->optim.beta1,
                                         .beta2 = c->optim.beta2,
                                         .eps = c->optim.eps,
                                         .weight_decay = c->optim.weight_decay,
                                         .clip = c->optim.clip,
                                         .muon_lr = c->optim.muon_lr,
                                         .muon_momentum = c->optim.muon_momentum,
                                         .muon_weight_decay = c->optim.muon_weight_decay,
                                         .muon_steps = (int)c->optim.muon_steps },
                              .label_smoothing = c->train.label_smoothing,
                              .z_loss = c->train.z_loss,
                              .dropout = c->train.dropout,
                              .seed = (uint64_t)c->train.seed };
}
/* A file that is not there may have been named by any of several keys. */
static lm_err of_key(run *r, lm_err e, const char *key) { return e == LM_E_NOTFOUND ? lm_fail_in(r->ctx, e, "%s", key) : e; }
static lm_err open_text(run *r, const char *path, lm_shards **out) {
    if (!path) return lm_fail(r->ctx, LM_E_CONFIG, "data.path is not set: a text file, a JSONL file, or a folder made by `loam data tokenize`");
    return lm_is_dir(path) ? lm_shards_open(out, r->ctx, path) : lm_shards_from_text(out, r->ctx, r->tok, path);
}
static lm_err tokenizer(run *r) {
    char *own = in_out(r, "tokenizer.json");
    if (!own) return LM_E_NOMEM;
    if (r->o->resume && lm_exists(own)) return lm_tok_open(r->ctx, own, NULL, &r->tok);
    if (r->c->tokenizer.path) return of_key(r, lm_tok_open(r->ctx, r->c->tokenizer.path, NULL, &r->tok), "tokenizer.path");
    if (r->c->model.from) return of_key(r, lm_tok_open(r->ctx, r->c->model.from, NULL, &r->tok), "model.from");
    if (r->c->data.path && lm_is_dir(r->c->data.path)) {
        char *p = lm_arena_printf(r->a, "%s/tokenizer.json", r->c->data.path);
        return p ? lm_tok_open(r->ctx, p, NULL, &r->tok) : LM_E_NOMEM;
    }
    if (!r->c->data.path) return open_text(r, NULL, NULL);
    return of_key(r, lm_data_train_tokenizer(r->ctx, r->c->data.path, r->c->tokenizer.vocab, &r->tok), "data.path");
}
/* Text, or shards made with this run's tokenizer. */
static lm_err open_data(run *r, const char *path, lm_shards **out) {
    LM_TRY(open_text(r, path, out));
    const lm_hash128_t t = lm_tok_hash(r->tok), d = lm_shards_tok_hash(*out);
    if (lm_hash_same(t, d)) return LM_OK;
    return lm_fail(
        r->ctx, LM_E_MISMATCH,
        "%s was tokenized with another tokenizer than this run's; tokenize it again or set tokenizer.path to the one it was made with",
        path);
}
/* data.path with weight 1, then the sources of data.mix: "PATH:WEIGHT". */
static lm_err open_mix(run *r, int64_t n) {
    const lm_strlist *m = &r->c->data.mix;
    r->source = lm_arena_alloc(r->a, (size_t)(m->n + 1) * sizeof *r->source);
    r->mix = lm_arena_alloc(r->a, (size_t)(m->n + 1) * sizeof *r->mix);
    if (!r->source || !r->mix) return LM_E_NOMEM;
    r->source[0] = (lm_source){ r->data, 1.0, 0, n };
    r->data_hash = lm_shards_hash(r->data);
    for (int i = 0; i < m->n; i++) {
        const char *colon = strrchr(m->v[i], ':'), *num = colon ? colon + 1 : "";
        char *end;
        const double w = strtod(num, &end);
        if (!*num || *end || !(w > 0) || !isfinite(w))
            return lm_fail(r->ctx, LM_E_CONFIG, "data.mix: got '%s', wanted PATH:WEIGHT with a positive weight, such as other.txt:0.5",
                           m->v[i]);
        char *path = lm_arena_printf(r->a, "%.*s", (int)(colon - m->v[i]), m->v[i]);
        if (!path) return LM_E_NOMEM;
        LM_TRY(of_key(r, open_data(r, path, &r->mix[i]), "data.mix"));
        if (lm_shards_tokens(r->mix[i]) < r->c->data.seq + 1)
            return lm_fail(r->ctx, LM_E_DATA, "%s has %lld tokens: not one sequence of data.seq = %lld", path,
                           (long long)lm_shards_tokens(r->mix[i]), (long long)r->c->data.seq);
        r->source[i + 1] = (lm_source){ r->mix[i], w, 0, 0 };
        const lm_hash128_t both[] = { r->data_hash, lm_shards_hash(r->mix[i]) };
        r->data_hash = lm_hash128(both, sizeof both);
    }
    return LM_OK;
}
static lm_err prepare_data(run *r) {
    LM_TRY(tokenizer(r));
    LM_TRY(of_key(r, open_data(r, r->c->data.path, &r->data), "data.path"));
    if (r->c->data.val_path) LM_TRY(of_key(r, open_data(r, r->c->data.val_path, &r->val_data), "data.val_path"));
    int64_t n = lm_shards_tokens(r->data), held = 0;
    if (!r->val_data)
        held = lm_min64(n, lm_max64(r->c->data.val_fraction > 0 ? r->c->data.seq + 1 : 0, (int64_t)(r->c->data.val_fraction * (double)n)));
    if (n - held < r->c->data.seq + 1)
        return lm_fail(
            r->ctx, LM_E_DATA,
            "%s has %lld tokens, %lld of them held out: not one sequence of data.seq = %lld; use more text or a smaller data.seq",
            r->c->data.path, (long long)n, (long long)held, (long long)r->c->data.seq);
    LM_TRY(open_mix(r, n - held));
    const lm_hash128_t both[] = { r->data_hash, r->val_data ? lm_shards_hash(r->val_data) : (lm_hash128_t){0} };
    r->data_hash = lm_hash128(both, sizeof both);
    const lm_loader_opts lo = { .sources = r->source,
                                .n_source = 1 + r->c->data.mix.n,
                                .seq = r->c->data.seq,
                                .seed = (uint64_t)r->c->train.seed,
                                .mask_docs = r->c->data.mask_docs,
                                .shuffle = true };
    LM_TRY(lm_loader_new(&r->loader, r->ctx, &lo));
    r->val_first = r->val_data ? 0 : n - held;
    r->val_count = r->val_data ? lm_shards_tokens(r->val_data) : held;
    if (r->val_count > r->c->data.seq) {
        lm_source v = { r->val_data ? r->val_data : r->data, 1.0, r->val_first, r->val_count };
        lm_loader_opts vo = lo; vo.sources = &v; vo.n_source = 1; vo.shuffle = false;
        LM_TRY(lm_loader_new(&r->val, r->ctx, &vo));
    }
    return LM_OK;
}
/* What a micro-batch is, and the trainer's options for it. */
static lm_err trainer_opts(run *r, lm_trainer_opts *o) {
    const lm_run_cfg *c = r->c;
    const int64_t ranks = r->comm->size, mine = c->train.batch / ranks;
    if (c->train.batch % ranks)
        return lm_fail(r->ctx, LM_E_CONFIG, "train.batch is %lld: it does not divide among %lld ranks", (long long)c->train.batch,
                       (long long)ranks);
    r->micro = c->train.micro_batch ? c->train.micro_batch : mine;
    if (mine % r->micro)
        return lm_fail(r->ctx, LM_E_CONFIG, "a rank has %lld sequences a step: train.micro_batch = %lld does not divide them",
                       (long long)mine, (long long)r->micro);
    r->accum = mine / r->micro;
    *o = lm_run_trainer_opts(c, r->micro);
    o->comm = r->comm; o->mesh = r->mesh; o->dev = r->dev; o->dry = r->o->dry; o->accum = r->accum;
    char *build = lm_arena_alloc(r->a, LM_BUILD_NAME);
    if (!build) return LM_E_NOMEM;
    lm_build_name(build);
    o->version = build;
    return LM_OK;
}
/* Before weights are made, which takes minutes and memory until there is none: is there room for the run? Several ranks hear it from their trainers. */
static lm_err room_for(run *r) {
    lm_trainer_opts o;
    LM_TRY(trainer_opts(r, &o));
    if (r->o->dry || r->comm->size > 1) return LM_OK;
    const lm_err e = lm_trainer_room(r->ctx, &r->model, &o);
    if (e == LM_E_NOMEM) emit(r, &(lm_run_event){ .kind = LM_RUN_NO_FIT, .opts = &o, .model = &r->model, .accum = r->accum });
    return e;
}
static lm_err load_model(run *r) {
    lm_ctx *ctx = r->ctx;
    LM_TRY(lm_store_new(&r->store, ctx));
    if (!r->c->model.from) {
        LM_TRY(lm_run_model(ctx, r->c, lm_tok_vocab(r->tok), &r->model));
        r->model.bos = lm_tok_bos(r->tok);
        int n; const int32_t *eos = lm_tok_eos(r->tok, &n);
        r->model.n_eos = n < 8 ? n : 8;
        for (int i = 0; i < r->model.n_eos; i++) r->model.eos[i] = eos[i];
        LM_TRY(room_for(r));
        return r->o->dry ? LM_OK : lm_trainer_init(ctx, &r->model, r->store, (uint64_t)r->c->train.seed, r->mesh, r->comm);
    }
    lm_weights *w;
    LM_TRY(of_key(r, lm_weights_open(&w, ctx, r->c->model.from), "model.from"));
    r->model = *lm_weights_cfg(w);
    lm_err e = LM_OK;
    if (lm_tok_vocab(r->tok) > r->model.vocab)
        e = lm_fail(ctx, LM_E_MISMATCH, "the tokenizer has %d ids, the model of %s only %lld", lm_tok_vocab(r->tok), r->c->model.from,
                    (long long)r->model.vocab);
    if (!e) e = room_for(r);
    if (!e && !r->o->dry) e = lm_weights_load(w, r->store, &(lm_load_opts){ .dtype = LM_F32 });
    lm_weights_close(w);
    return e;
}
/* A card has too little room for what was planned, or another program's memory is on it: its rank tells of it, where all cards have too little rank 0 alone. All ranks come
 * here together; what was said of the failure stays said. */
static void told_no_fit(run *r, lm_err e, const lm_trainer_opts *o) {
    double lead = leader(r) && e == LM_E_NOMEM;
    char why[1500];
    snprintf(why, sizeof why, "%s", lm_error(r->ctx));
    if (lm_comm_sum(r->comm, &lead, 1)) lead = 0;
    lm_fail(r->ctx, e, "%s", why);
    const lm_run_event no = { .kind = LM_RUN_NO_FIT, .opts = o, .model = &r->model, .accum = r->accum };
    if (e == LM_E_NOMEM && (leader(r) || lead == 0) && r->o->event) r->o->event(r->o->ud, &no);
}
static lm_err make_trainer(run *r) {
    const lm_run_cfg *c = r->c;
    lm_trainer_opts o;
    LM_TRY(trainer_opts(r, &o));
    if (r->dev && r->mesh != LM_MESH_SINGLE) {                      /* data and model are ready: now nobody waits for a slow disk inside NCCL */
        LM_TRY(lm_comm_devices(&r->dev_comm, r->comm, r->dev, r->o->link, r->o->nccl));
        o.dev_comm = r->dev_comm;
    }
    const lm_err e = lm_trainer_new(&r->t, r->ctx, &r->model, r->store, &o);
    if (e && r->dev) told_no_fit(r, e, &o);
    LM_TRY(e);
    r->sched = (lm_sched){ .kind = (lm_sched_kind)c->optim.schedule, .warmup = c->optim.warmup, .steps = c->train.steps,
                           .decay_steps = c->optim.decay_steps ? c->optim.decay_steps : c->train.steps / 5, .floor = c->optim.min_lr };
    return LM_OK;
}
static const char *kernels_of(const run *r) { return r->dev ? r->dev->name : lm_cpu_isa_of(lm_cpu_features_of(r->ctx)); }
/* Ranks with other instruction sets round otherwise. What is whole on every rank (all weights under dp, vectors under each mesh) is updated by every rank and would drift
 * apart with nobody to see it: refused. Cards of different names have the same update, bit for bit, and other sums: said. */
static lm_err same_kernels(run *r) {
    enum { NAME = 64 };
    char mine[NAME] = "", *all = lm_alloc(r->ctx, LM_MEM_MISC, (size_t)r->comm->size * NAME);
    snprintf(mine, sizeof mine, "%.63s", kernels_of(r));
    lm_err e = agree(r, all ? LM_OK : LM_E_NOMEM, "comparing kernels");
    if (!e) e = r->comm->all_gather(r->comm, mine, NAME, all);
    for (int i = 1; i < r->comm->size && !e; i++) {
        const char *other = all + (size_t)i * NAME;
        if (!strcmp(other, all)) continue;
        if (!r->dev)
            e = lm_fail(r->ctx, LM_E_MISMATCH, "rank 0 has %s kernels, rank %d %s: what both hold would drift apart. Start all ranks with --isa and a set that all of them have", all, i, other);
        else if (leader(r)) lm_log(r->ctx, LM_LOG_WARN, "train", "rank 0 has a %s, rank %d a %s: the run's bits depend on which rank is where", all, i, other);
        break;
    }
    lm_free(r->ctx, all);
    return e;
}
/* Bytes that the held-out targets stand for: nats per token become bits per byte. */
static lm_err validate(run *r, double *loss, double *bpb) {
    double sum = 0; int64_t n = 0, bytes = 0;
    const int64_t all = r->micro * r->comm->size;                               /* windows that the ranks do at a time */
    /* on any number of ranks the same */
    int64_t windows = lm_loader_epoch_seqs(r->val),
            want = r->c->train.val_batches * (r->c->train.micro_batch ? r->c->train.micro_batch : r->c->train.batch);
    if (want > windows) want = windows;
    for (int64_t base = 0; base < want; base += all) {
        const int64_t s = base + r->comm->rank * r->micro;
        LM_TRY(lm_loader_fill(r->val, &r->b, (uint64_t)s));
        int64_t rows = lm_max64(0, lm_min64(r->micro, want - s)) * r->c->data.seq;
        for (int64_t i = rows; i < r->b.n; i++) r->b.target[i] = -1;            /* a last, shorter micro-batch, or none for this rank */
        LM_TRY(lm_trainer_eval(r->t, &r->b, &sum));
        for (int64_t i = 0; i < rows; i++)
            if (r->b.target[i] >= 0) {
                size_t len;
                n++;
                if (lm_tok_piece(r->tok, r->b.target[i], &len)) bytes += (int64_t)len;
            }
    }
    double v[3] = { sum, (double)n, (double)bytes };
    LM_TRY(lm_comm_sum(r->comm, v, 3));
    *loss = v[1] > 0 ? v[0] / v[1] : NAN;
    *bpb = v[2] > 0 ? v[0] / log(2.0) / v[2] : NAN;
    return LM_OK;
}
static lm_err save_weights(run *r, const char *dir) {
    LM_TRY(agree(r, leader(r) ? lm_dir_make(r->ctx, dir) : LM_OK, "making the folder"));
    LM_TRY(lm_trainer_save_hf(r->t, dir));
    return agree(r, leader(r) ? lm_tok_save(r->ctx, r->tok, dir) : LM_OK, "writing the tokenizer");
}
/* A full disk is no reason to throw a run away while its last checkpoint is whole: said aloud, and tried again at the next occasion. Where
 * there is none (must), it is an error. */
static lm_err unless_full(run *r, lm_err e, int64_t step, bool must) {
    double v[2] = { e == LM_E_NOSPACE, e != LM_E_NOSPACE && e != LM_E_COMM };       /* any rank's disk, and nothing else is wrong */
    char why[1200];
    if (must || !e) return e;
    snprintf(why, sizeof why, "%s", lm_error(r->ctx));
    LM_TRY(lm_comm_sum(r->comm, v, 2));
    if (v[0] == 0 || v[1] > 0) return lm_fail(r->ctx, e, "%s", why);
    if (leader(r)) lm_log(r->ctx, LM_LOG_WARN, "train", "step %lld: %s; training goes on and tries again next time", (long long)step, why);
    return LM_OK;
}
static lm_err checkpoint(run *r, int64_t step, bool must) {
    r->st.step = step; r->st.seqs = step * r->c->train.batch;
    r->st.tok_hash = lm_tok_hash(r->tok);
    r->st.config_hash = r->cfg_hash;
    r->st.data_hash = r->data_hash;
    snprintf(r->st.isa, sizeof r->st.isa, "%.63s", kernels_of(r));
    LM_TRY(agree(r, r->metrics ? lm_out_flush(r->metrics) : LM_OK, "writing metrics.jsonl"));
    const lm_err err = lm_ckpt_save(r->t, r->ckpt_dir, &r->st, (int)r->c->train.keep);
    if (err) return unless_full(r, err, step, must);
    lm_run_event e = { .kind = LM_RUN_CKPT, .step = step, .text = r->ckpt_dir };
    emit(r, &e);
    return LM_OK;
}
static lm_err validation_point(run *r, int64_t step, lm_run_event *last) {
    double loss, bpb;
    if (!r->val) return LM_OK;
    LM_TRY(validate(r, &loss, &bpb));
    bool best = !(loss >= r->st.best_val);
    if (best) {
        char *d = in_out(r, "best");
        LM_TRY(agree(r, d ? LM_OK : LM_E_NOMEM, "naming a folder"));
        const lm_err err = save_weights(r, d);
        if (!err) r->st.best_val = loss;
        LM_TRY(unless_full(r, err, step, false));
    }
    last->val_loss = loss; last->val_bpb = bpb;
    lm_run_event e = { .kind = LM_RUN_VAL, .step = step, .val_loss = loss, .val_bpb = bpb, .best = best };
    emit(r, &e);
    if (!leader(r)) return agree(r, LM_OK, "writing metrics.jsonl");
    lm_str s = { .ctx = r->ctx };
    lm_str_printf(&s, "{\"step\": %lld, \"val_loss\": %.9g, \"val_bpb\": %.9g, \"best\": %s}\n", (long long)step, loss, bpb, best ? "true" : "false");
    lm_err err = lm_str_err(&s) ? LM_E_NOMEM : lm_out_write(r->metrics, s.p, s.n);
    lm_str_free(&s);
    return agree(r, err, "writing metrics.jsonl");
}
static lm_err sample_point(run *r, int64_t step) {
    if (!r->o->sample) return LM_OK;
    LM_TRY(lm_trainer_pull(r->t));
    /* the engine wants whole matrices: rank 0 holds them for the moment of the sample */
    lm_store *whole = NULL;
    lm_err err = LM_OK;
    if (r->mesh == LM_MESH_FSDP) {
        if (leader(r)) err = lm_store_new(&whole, r->ctx);
        err = agree(r, err, "sampling");
        if (!err) err = lm_trainer_whole(r->t, whole);
    }
    lm_str s = { .ctx = r->ctx };
    if (!err && leader(r))
        err = r->o->sample(r->o->ud, r->ctx, &r->model, whole ? whole : r->store, r->tok, r->c->train.sample_prompt,
                           r->c->train.sample_tokens, &s);
    lm_run_event e = { .kind = LM_RUN_SAMPLE, .step = step, .text = s.p ? s.p : "" };
    if (!err) emit(r, &e);
    lm_str_free(&s);
    lm_store_free(whole);
    return agree(r, err, "sampling");
}
/* Of all ranks, since the last line: the largest numbers, the parts that became zero, how many were not finite. */
static lm_err fp8_counts(run *r, int64_t n[LM_FP8_ALL_COUNTS]) {
    const size_t bytes = LM_FP8_ALL_COUNTS * sizeof *n;
    int64_t *all = lm_alloc(r->ctx, LM_MEM_MISC, (size_t)r->comm->size * bytes);
    lm_err e = agree(r, all ? lm_trainer_fp8_counts(r->t, n) : LM_E_NOMEM, "reading the counts of fp8");
    if (!e) e = r->comm->all_gather(r->comm, n, bytes, all);
    for (int i = 0; i < LM_FP8_ALL_COUNTS && !e; i++) {
        n[i] = all[i];
        for (int k = 1; k < r->comm->size; k++) {
            const int64_t x = all[k * LM_FP8_ALL_COUNTS + i];
            n[i] = i % LM_FP8_COUNTS == LM_FP8_AMAX ? lm_max64(n[i], x) : n[i] + x;          /* of numbers that are not negative the bits are in their order */
        }
    }
    lm_free(r->ctx, all);
    return e;
}
static void fp8_metrics(lm_str *s, const int64_t n[LM_FP8_ALL_COUNTS]) {
    static const char *const group[LM_FP8_GROUPS] = { "activations", "gradients", "weights" };
    lm_str_puts(s, ", \"fp8\": {");
    for (int i = 0; i < LM_FP8_GROUPS; i++) {
        const int64_t *c = n + i * LM_FP8_COUNTS;
        const uint32_t bits = (uint32_t)c[LM_FP8_AMAX]; float most;
        memcpy(&most, &bits, sizeof most);
        lm_str_printf(s, "%s\"%s\": {\"amax\": %.4g, \"flushed\": %.4g, \"not_finite\": %lld}", i ? ", " : "", group[i], (double)fminf(most, FLT_MAX),
                      (double)c[LM_FP8_FLUSHED] / (double)lm_max64(c[LM_FP8_ELEMENTS], 1), (long long)c[LM_FP8_ODD]);
    }
    lm_str_puts(s, "}");
}
static lm_err one_step(run *r, int64_t step, lm_run_event *e, bool *stop) {
    double loss = 0, tokens = 0, norm, t = lm_now();
    /* go on to the end of the accumulation: other ranks wait in the gathers of each micro-batch */
    lm_err failed = LM_OK;
    for (int64_t m = 0; m < r->accum && (!failed || r->comm->size > 1); m++) {
        uint64_t first = (uint64_t)(step * r->c->train.batch + (m * r->comm->size + r->comm->rank) * r->micro);
        lm_err err = lm_loader_fill(r->loader, &r->b, first);
        if (!err || r->comm->size > 1) { lm_err e2 = lm_trainer_accumulate(r->t, &r->b, step, m, &loss); if (!err) err = e2; }
        if (err && !failed) failed = err;
        tokens += (double)r->b.n_target;
    }
    LM_TRY(agree(r, failed, "a step"));
    /* ranks hear a signal at different moments: they stop after the same step */
    double v[3] = { loss, tokens, r->o->stop && *r->o->stop ? 1 : 0 };
    LM_TRY(lm_comm_sum(r->comm, v, 3));
    loss = v[0]; tokens = v[1]; *stop = v[2] > 0;
    double f = lm_sched_at(&r->sched, step);
    LM_TRY(lm_trainer_update(r->t, step + 1, f, tokens, &norm));
    double dt = lm_now() - t;
    e->kind = LM_RUN_STEP;
    e->step = step + 1;
    e->steps = r->c->train.steps;
    e->loss = loss / (tokens > 0 ? tokens : 1);
    e->lr = r->c->optim.lr * f;
    e->grad_norm = norm;
    e->tokens = (int64_t)tokens; e->seen += (int64_t)tokens; e->step_s = dt; e->tok_s = tokens / dt;
    e->eta_s = e->eta_s > 0 ? 0.9 * e->eta_s + 0.1 * dt * (double)(r->c->train.steps - step - 1) : dt * (double)(r->c->train.steps - step - 1);
    e->rss = lm_rss_now();
    if ((step + 1) % r->c->train.log_every) return LM_OK;
    int64_t fp8[LM_FP8_ALL_COUNTS];
    if (r->c->train.dtype == LM_RUN_FP8) LM_TRY(fp8_counts(r, fp8));
    if (!leader(r)) return agree(r, LM_OK, "writing metrics.jsonl");
    lm_str s = { .ctx = r->ctx };
    lm_str_printf(&s,
                  "{\"step\": %lld, \"loss\": %.9g, \"lr\": %.6g, \"grad_norm\": %.6g, \"tokens\": %lld, \"tok_s\": %.1f, \"step_ms\": "
                  "%.3f, \"rss\": %zu",
                  (long long)e->step, e->loss, e->lr, e->grad_norm, (long long)e->seen, e->tok_s, dt * 1e3, e->rss);
    if (r->c->train.dtype == LM_RUN_FP8) fp8_metrics(&s, fp8);
    lm_str_puts(&s, "}\n");
    lm_err err = lm_str_err(&s) ? LM_E_NOMEM : lm_out_write(r->metrics, s.p, s.n);
    if (!err) err = lm_out_flush(r->metrics);
    lm_str_free(&s);
    return agree(r, err, "writing metrics.jsonl");
}
static lm_err loop(run *r) {
    int64_t steps = r->c->train.steps, from = r->st.step;
    lm_run_event e = { .steps = steps, .seen = 0 };
    lm_trainer_plan plan; lm_trainer_plan_of(r->t, &plan);
    lm_run_event start = { .kind = LM_RUN_START,
                           .step = from,
                           .steps = steps,
                           .plan = &plan,
                           .flops = plan.accumulate.flops * (double)(r->accum) + plan.update.flops };
    emit(r, &start);
    e.flops = start.flops;
    for (int64_t s = from; s < steps; s++) {
        bool last = s + 1 == steps, stop;
        LM_TRY(one_step(r, s, &e, &stop));
        emit(r, &e);
        if (last || (r->c->train.val_every && (s + 1) % r->c->train.val_every == 0)) LM_TRY(validation_point(r, s + 1, &e));
        if (r->c->train.sample_every && ((s + 1) % r->c->train.sample_every == 0 || last)) LM_TRY(sample_point(r, s + 1));
        if (last || stop || (r->c->train.checkpoint_every && (s + 1) % r->c->train.checkpoint_every == 0)) LM_TRY(checkpoint(r, s + 1, last || stop));
        if (stop && !last)
            return lm_fail(r->ctx, LM_E_CANCELLED, "stopped at step %lld; the checkpoint is written, --resume continues",
                           (long long)(s + 1));
    }
    LM_TRY(save_weights(r, r->c->out));
    LM_TRY(agree(r, leader(r) ? lm_run_curves(r->ctx, r->c->out) : LM_OK, "drawing the curves"));
    lm_run_event end = { .kind = LM_RUN_END,
                         .step = steps,
                         .steps = steps,
                         .loss = e.loss,
                         .val_loss = e.val_loss,
                         .val_bpb = e.val_bpb,
                         .hash = lm_trainer_hash(r->t),
                         .rss = lm_rss_peak() };
    emit(r, &end);
    return LM_OK;
}
/* A run that ended before its first checkpoint: its folder is there, and nothing that could be one. */
static lm_err no_step_yet(run *r, bool *none) {
    char **names;
    int n;
    *none = r->begun;
    if (!*none || !lm_exists(r->ckpt_dir)) return LM_OK;
    LM_TRY(lm_dir_list(r->ctx, r->ckpt_dir, &names, &n));
    for (int i = 0; i < n; i++) if (!strncmp(names[i], "step-", 5) && !strstr(names[i], ".tmp")) *none = false;
    lm_free(r->ctx, names);
    return LM_OK;
}
/* The checkpoint that rank 0 chose, on every rank (lm_arena); NULL: there is none yet, begin at the beginning. */
static lm_err newest(run *r, char **path) {
    char *found;
    bool none = false;
    *path = NULL;
    LM_TRY(agree(r, leader(r) ? no_step_yet(r, &none) : LM_OK, "looking for a checkpoint"));
    LM_TRY(r->comm->broadcast(r->comm, &none, sizeof none, 0));
    if (none) return LM_OK;
    LM_TRY(lm_ckpt_find(r->ctx, r->comm, r->ckpt_dir, &found));
    *path = lm_arena_strdup(r->a, found);
    lm_free(r->ctx, found);
    return agree(r, *path ? LM_OK : LM_E_NOMEM, "naming the checkpoint");
}
/* What a checkpoint was made with, against what is here now. */
static lm_err same_run(run *r, const char *found, const char *config) {
    lm_ctx *ctx = r->ctx;
    const char *what = "";
    if (!found || !lm_hash_same(r->st.config_hash, r->cfg_hash)) LM_TRY(lm_run_cfg_differs(ctx, r->a, config, r->c, &what));
    if (!found) return *what ? lm_fail(ctx, LM_E_MISMATCH, "%s was begun with another configuration: %s", r->c->out, what) : LM_OK;
    if (!lm_hash_same(r->st.config_hash, r->cfg_hash)) {
        return lm_fail(
            ctx, LM_E_MISMATCH,
            "%s was written under another configuration%s%s (%s holds it; model, data, optimizer and batch keys must be equal to resume)",
            found, *what ? ": " : "", what, config);
    }
    if (!lm_hash_same(r->st.tok_hash, lm_tok_hash(r->tok)))
        return lm_fail(ctx, LM_E_MISMATCH,
                       "%s was written with another tokenizer than %s/tokenizer.json: put the old one back, or start a new run", found,
                       r->c->out);
    if (!lm_hash_same(r->st.data_hash, r->data_hash))
        return lm_fail(ctx, LM_E_MISMATCH,
                       "%s was written while training on other data than %s%s%s hold%s now: put the old data back, or start a new run from "
                       "these weights (model.from)",
                       found, r->c->data.path, r->c->data.val_path ? " and " : "", r->c->data.val_path ? r->c->data.val_path : "",
                       r->c->data.val_path ? "" : "s");
    const char *isa = kernels_of(r);
    if (leader(r) && strncmp(r->st.isa, isa, sizeof r->st.isa - 1))
        lm_log(ctx, LM_LOG_WARN, "train",
               "%s was written with %s kernels, this run has %s: it goes on, but not to the bit as it would have there", found,
               *r->st.isa ? r->st.isa : "unknown", isa);
    return LM_OK;
}
static lm_err lock(run *r) {
    char *path = in_out(r, ".lock");
    return path ? lm_lock_take(&r->lock, r->ctx, path, r->c->out) : LM_E_NOMEM;
}
/* Rank 0's part of beginning: a folder of one's own. */
static lm_err taken(run *r) {
    return lm_fail(r->ctx, LM_E_CONFIG, "%s already holds a run: add --resume to continue it, or choose another out", r->c->out);
}
static lm_err fresh_folder(run *r, const char *metrics) {
    if (lm_exists(r->ckpt_dir) || lm_exists(metrics)) return taken(r);
    LM_TRY(lm_dir_make(r->ctx, r->c->out));
    LM_TRY(lock(r));
    if (lm_exists(r->ckpt_dir) || lm_exists(metrics)) return taken(r);                  /* by one that was quicker */
    return lm_tok_save(r->ctx, r->tok, r->c->out);
}
static lm_err open_outputs(run *r) {
    lm_ctx *ctx = r->ctx;
    lm_str yaml = { .ctx = ctx };
    lm_opt_dump_yaml(&yaml, lm_run_options, r->c);
    lm_err err = lm_str_err(&yaml);
    r->cfg_hash = lm_run_cfg_hash(r->c);
    char *metrics = in_out(r, "metrics.jsonl"), *config = in_out(r, "config.yaml"), *mark = in_out(r, ".lock"), *found = NULL;
    if (!err && (!metrics || !config || !mark || !(r->ckpt_dir = in_out(r, "checkpoints")))) err = LM_E_NOMEM;
    r->st.best_val = 1e300;
    LM_GOTO(agree(r, err, "naming the outputs"), done);
    if (r->o->resume) {
        r->begun = lm_exists(config) || lm_exists(mark);               /* before the lock makes the mark */
        LM_GOTO(agree(r, leader(r) && lm_is_dir(r->c->out) ? lock(r) : LM_OK, "taking the folder"), done);
        LM_GOTO(newest(r, &found), done);
        if (found) LM_GOTO(agree(r, lm_ckpt_peek(ctx, found, &r->st), "reading the checkpoint"), done);
        LM_GOTO(agree(r, same_run(r, found, config), "comparing with the checkpoint"), done);
        if (found) LM_GOTO(lm_ckpt_load(r->t, found, &r->st), done);
        else if (leader(r)) {
            lm_log(ctx, LM_LOG_WARN, "train", "%s holds no checkpoint yet: the run begins at step 0", r->c->out);
            if ((err = lm_tok_save(ctx, r->tok, r->c->out))) { err = agree(r, err, "opening the outputs"); goto done; }
        }
        if (leader(r)) err = lm_run_trim_metrics(ctx, metrics, r->st.step);
        const char *places[] = { r->c->out, r->ckpt_dir, in_out(r, "best") };
        for (int i = 0; i < LM_COUNT(places) && leader(r) && !err; i++) err = places[i] ? lm_run_sweep(ctx, places[i]) : LM_E_NOMEM;
    } else if (leader(r)) err = fresh_folder(r, metrics);
    if (leader(r) && !err) err = lm_file_write_atomic(ctx, config, yaml.p, yaml.n);
    if (leader(r) && !err) err = lm_out_append(&r->metrics, ctx, metrics);
    LM_GOTO(agree(r, err, "opening the outputs"), done);
    if (!leader(r) && !lm_exists(config))
        err = lm_fail(ctx, LM_E_CONFIG,
                      "rank %d does not see %s, which rank 0 wrote: several ranks write checkpoints together, and want one folder on a file system that "
                      "they share",
                      r->comm->rank, config);
    err = agree(r, err, "looking for the run's folder");
done:
    lm_str_free(&yaml);
    return err;
}
/* Between the parts of beginning: nothing is written yet. */
static lm_err not_stopped(run *r) {
    double v[1] = { r->o->stop && *r->o->stop };
    LM_TRY(lm_comm_sum(r->comm, v, 1));
    return v[0] > 0 && !r->o->dry ? lm_fail(r->ctx, LM_E_CANCELLED, "interrupted before the first step: nothing was changed") : LM_OK;
}
lm_err lm_train_run(lm_ctx *ctx, const lm_run_cfg *c, const lm_run_opts *o) {
    run r = { .ctx = ctx, .c = c, .o = o, .comm = o->comm ? o->comm : lm_comm_self(), .t0 = lm_now() };
    lm_err err;
    LM_GOTO(lm_arena_new(&r.a, ctx, LM_MEM_MISC, 0), done);
    LM_GOTO(lm_mesh_of(ctx, c->mesh, r.comm->size, &r.mesh), done);
    if (c->device && strcmp(c->device, "cpu")) LM_GOTO(agree(&r, lm_dist_device(&r.dev, ctx, r.comm, c->device), "opening the device"), done);
    LM_GOTO(agree(&r, prepare_data(&r), "opening the data"), done);
    LM_GOTO(not_stopped(&r), done);
    lm_run_event d = { .kind = LM_RUN_DATA,
                       .data_tokens = lm_shards_tokens(r.data),
                       .data_bytes = lm_shards_bytes(r.data),
                       .val_tokens = r.val_count,
                       .vocab = lm_tok_vocab(r.tok) };
    emit(&r, &d);
    LM_GOTO(agree(&r, load_model(&r), "making the model"), done);
    LM_GOTO(same_kernels(&r), done);
    LM_GOTO(make_trainer(&r), done);
    LM_GOTO(agree(&r, lm_batch_alloc(ctx, &r.b, r.micro, c->data.seq), "making room for a batch"), done);
    lm_trainer_plan plan; lm_trainer_plan_of(r.t, &plan);
    lm_run_event p = { .kind = LM_RUN_PLAN,
                       .plan = &plan,
                       .trainer = r.t,
                       .accum = r.accum,
                       .steps = c->train.steps,
                       .flops = plan.accumulate.flops * (double)r.accum + plan.update.flops };
    emit(&r, &p);
    if (o->dry) goto done;
    LM_GOTO(not_stopped(&r), done);
    LM_GOTO(open_outputs(&r), done);
    err = loop(&r);
done:
    if (r.metrics) {
        char why[1500]; snprintf(why, sizeof why, "%s", lm_error(ctx));
        const lm_err e = lm_out_commit(r.metrics);
        if (err) lm_fail(ctx, err, "%s", why); else err = e;         /* the first failure is the one to tell of */
    }
    lm_lock_drop(r.lock);
    lm_batch_free(ctx, &r.b); lm_loader_free(r.val); lm_loader_free(r.loader); 
    if (err && r.dev_comm && r.dev_comm->stop) r.dev_comm->stop(r.dev_comm);          /* or freeing memory would wait for what waits for others */
    lm_trainer_free(r.t);
    if (r.dev_comm) r.dev_comm->free(r.dev_comm);
    lm_store_free(r.store); lm_dev_close(r.dev);
    for (int i = 0; r.mix && i < c->data.mix.n; i++) lm_shards_close(r.mix[i]);
    lm_shards_close(r.val_data); lm_shards_close(r.data); lm_tok_free(r.tok); lm_arena_free(r.a);
    return err;
}
