/* cmd_plan_fit.c — see cmd_plan_fit.h. */
#include <stdlib.h>
#include <string.h>
#include "cmd/cmd_plan_fit.h"
#include "cmd/cmd_text.h"
#include "device/device.h"
#include "device/probe.h"
#include "quant/quant.h"

/* ---- ranks that are not there: enough of a communicator to plan with ---- */
static lm_err same_all_reduce(lm_comm *c, float *buf, int64_t n) { (void)c; (void)buf; (void)n; return LM_OK; }
static lm_err same_all_gather(lm_comm *c, const void *mine, size_t bytes, void *all) {
    for (int r = 0; r < c->size; r++) memcpy((char *)all + (size_t)r * bytes, mine, bytes);
    return LM_OK;
}
static lm_err same_reduce_scatter(lm_comm *c, const float *all, int64_t n, float *mine) {
    memcpy(mine, all + c->rank * n, (size_t)n * sizeof *mine);
    return LM_OK;
}
static lm_err same_broadcast(lm_comm *c, void *buf, size_t bytes, int root) { (void)c; (void)buf; (void)bytes; (void)root; return LM_OK; }
static lm_err same_barrier(lm_comm *c) { (void)c; return LM_OK; }
static lm_comm planned_ranks(lm_ctx *ctx, int rank, int size) {
    return (lm_comm){ .name = "plan", .rank = rank, .size = size, .ctx = ctx, .all_reduce = same_all_reduce, .all_gather = same_all_gather,
                      .reduce_scatter = same_reduce_scatter, .broadcast = same_broadcast, .barrier = same_barrier };
}

static void put(lm_changes *s, const char *what, const char *gives_up, bool fits, size_t peak, double seconds) {
    if (s->n == LM_CHANGES) return;
    if (fits && s->best < 0) s->best = s->n;
    s->c[s->n++] = (lm_change){ what, gives_up, fits, peak, seconds };
}
typedef struct { lm_ctx *ctx; lm_arena *a; const lm_machine *m; const lm_cfg *c; int64_t accum; size_t base, have; } search;

/* The lowest level that fits with these options (memory falls with the level, time rises), else the highest. */
static lm_err lowest_level(const search *s, const lm_trainer_opts *o, int64_t accum, lm_train_need *out) {
    lm_trainer_opts t = *o;
    const int most = 1 + (int)s->c->n_layer;
    t.memory_budget = 0; t.recompute = most;
    LM_TRY(lm_need_train(s->ctx, s->m, s->c, &t, accum, s->base, out));
    if (out->peak > s->have) return LM_OK;
    for (int lo = 0, hi = most - 1; lo <= hi;) {
        lm_train_need n;
        t.recompute = (lo + hi) / 2;
        LM_TRY(lm_need_train(s->ctx, s->m, s->c, &t, accum, s->base, &n));
        if (n.peak <= s->have) { hi = t.recompute - 1; *out = n; } else lo = t.recompute + 1;
    }
    return LM_OK;
}
/* The fastest of all micro-batches of a step of `per_step` sequences, each at its lowest level that fits. */
static lm_err same_numbers(const search *s, const lm_trainer_opts *o, int64_t per_step, lm_train_need *best, bool *fits) {
    *fits = false; best->peak = 0;
    for (int64_t micro = o->batch; micro >= 1; micro = micro > 1 ? micro / 2 : 0) {
        lm_trainer_opts t = *o;
        lm_train_need n;
        if (per_step % micro) continue;
        t.batch = micro;
        LM_TRY(lowest_level(s, &t, per_step / micro, &n));
        const bool ok = n.peak <= s->have;
        if (ok ? !*fits || n.seconds < best->seconds : !*fits && (!best->peak || n.peak < best->peak)) *best = n;
        *fits |= ok;
    }
    return LM_OK;
}
static const char *micro_text(const search *s, const lm_train_need *n, const lm_trainer_opts *o, const char *more) {
    const char *sep = *more ? " " : "";
    if (n->micro == o->batch) return lm_arena_printf(s->a, "%s%strain.recompute=%d", more, sep, n->recompute);
    return lm_arena_printf(s->a, "%s%strain.micro_batch=%lld train.recompute=%d", more, sep, (long long)n->micro, n->recompute);
}
lm_err lm_fit_train(lm_ctx *ctx, lm_arena *a, const lm_machine *m, const lm_cfg *c, const lm_trainer_opts *o, int64_t accum, size_t base,
                    size_t have, lm_changes *out) {
    const search s = { ctx, a, m, c, accum, base, have };
    const int64_t per_step = o->batch * accum;
    lm_train_need n;
    bool fits;
    *out = (lm_changes){ .best = -1 };
    LM_TRY(lowest_level(&s, o, accum, &n));
    put(out, lm_arena_printf(a, "train.recompute=%d", n.recompute), "time only", n.peak <= have, n.peak, n.seconds);
    lm_train_need both;
    LM_TRY(same_numbers(&s, o, per_step, &both, &fits));
    if (both.micro != o->batch) {                                              /* the faster of the two goes first */
        put(out, micro_text(&s, &both, o, ""), "time only", fits, both.peak, both.seconds);
        if (fits && out->c[0].fits && both.seconds < out->c[0].seconds) {
            const lm_change x = out->c[0];
            out->c[0] = out->c[1];
            out->c[1] = x;
            out->best = 0;
        }
    }
    if (o->optim.name && strcmp(o->optim.name, "muon")) {                       /* one moment for matrices instead of two */
        lm_trainer_opts t = *o;
        t.optim.name = "muon"; t.optim.muon_lr = 0.02; t.optim.muon_momentum = 0.95; t.optim.muon_steps = 5;
        LM_TRY(same_numbers(&s, &t, per_step, &n, &fits));
        put(out, micro_text(&s, &n, o, "optim.name=muon"), "another optimizer", fits, n.peak, n.seconds);
    }
    for (int64_t seq = o->seq / 2; seq >= 16; seq /= 2) {                       /* as many tokens in a step: more sequences */
        lm_trainer_opts t = *o;
        const int64_t more = o->seq / seq;
        t.seq = seq;
        LM_TRY(same_numbers(&s, &t, per_step * more, &n, &fits));
        if (!fits && seq / 2 >= 16) continue;
        put(out, micro_text(&s, &n, o, lm_arena_printf(a, "data.seq=%lld train.batch=%lld", (long long)seq, (long long)(per_step * more))),
            "shorter sequences", fits, n.peak, n.seconds);
        break;
    }
    for (int ranks = 2; ranks <= 1024 && o->mesh == LM_MESH_SINGLE; ranks *= 2) {          /* each with its own memory */
        lm_comm comm = planned_ranks(ctx, 0, ranks);
        lm_trainer_opts t = *o;
        t.comm = &comm; t.mesh = LM_MESH_FSDP;
        if (t.dev) t.dev_comm = &comm;
        const int64_t each = lm_max64(1, per_step / ranks);
        t.batch = lm_min64(o->batch, each);
        LM_TRY(same_numbers(&s, &t, each, &n, &fits));
        if (!fits && ranks < 1024) continue;
        const char *text = lm_arena_printf(
            a, "mesh=fsdp=%d%s", ranks, each * ranks > per_step ? lm_arena_printf(a, " train.batch=%lld", (long long)(each * ranks)) : "");
        put(out, micro_text(&s, &n, o, text), "that many processes with so much memory each; time without communication", fits, n.peak, n.seconds);
        break;
    }
    for (int i = 0; i < out->n; i++) if (!out->c[i].what) return LM_E_NOMEM;
    return LM_OK;
}

/* ---- serving: weights and pages in fewer bits, most faithful first; then a shorter context ---- */
static double bits_of(lm_dtype d, const lm_quant *q) { return q ? 8.0 * (double)q->comp[0].block_bytes / (double)q->block : d == LM_BF16 ? 16 : 32; }
/* Of a file's matrices: of all of them together. */
static double bits_from(const lm_serve_opts *o) {
    double bits = 0, numbers = 0;
    for (int i = 0; i < lm_weights_count(o->from); i++) {
        lm_weight_info k;
        lm_weights_info(o->from, i, &k);
        if (k.rank != 2) continue;
        bits += 8 * (double)k.bytes; numbers += (double)k.dim[0] * (double)k.dim[1];
    }
    return o->dtype == LM_QUANT && !o->quant && numbers > 0 ? bits / numbers : bits_of(o->dtype, o->quant);
}
lm_err lm_fit_serve(lm_ctx *ctx, lm_arena *a, const lm_machine *m, const lm_cfg *c, const lm_serve_opts *o, size_t base, size_t have,
                    lm_changes *out) {
    static const struct {
        const char *name;
        lm_dtype dtype;
        const char *quant;
        const char *gives_up;
    } kinds[] = { { NULL, LM_F32, NULL, "pages rounded to bf16" },
                  { "bf16", LM_BF16, NULL, "weights rounded to bf16" },
                  { "Q8_0", LM_F32, "Q8_0", "8-bit weights" },
                  { "Q4_0", LM_F32, "Q4_0", "4-bit weights" } };
    const double stored = o->from ? bits_from(o) : bits_of(o->dtype, o->quant);
    *out = (lm_changes){ .best = -1 };
    for (int k = 0; k < LM_COUNT(kinds); k++)
        for (int kv = 0; kv < 2; kv++) {
            lm_serve_opts t = *o;
            lm_serve_need n;
            if (kinds[k].quant && o->dev) continue;                             /* a device holds numbers, not blocks of them */
            if (kinds[k].name) {
                t.dtype = kinds[k].dtype;
                t.quant = kinds[k].quant ? lm_quant_by_name(kinds[k].quant) : NULL;
                if (bits_of(t.dtype, t.quant) >= stored) continue;
            }
            if (kv) t.kv = LM_BF16;
            if (kv ? o->kv != LM_F32 : !kinds[k].name) continue;                /* nothing that is not so already */
            LM_TRY(lm_need_serve(ctx, m, c, &t, base, &n));
            const char *what = lm_arena_printf(a, "%s%s%s%s", kinds[k].name ? "--dtype " : "", kinds[k].name ? kinds[k].name : "",
                                               kinds[k].name && kv ? " " : "", kv ? "--kv bf16" : "");
            put(out, what, kinds[k].gives_up, n.peak <= have, n.peak, n.decode_s);
            if (n.peak <= have) k = LM_COUNT(kinds), kv = 2;                      /* coarser ones need not be tried */
        }
    const char *pages = o->kv_quant ? o->kv_quant->gguf_id == 8 ? "q8_0" : "q4_0" : o->kv == LM_F16 ? "f16" : "bf16";
    for (int pass = 0; pass < 2; pass++) {                                      /* as it is; then with everything in as few bits as there are */
        lm_serve_opts t = *o;
        lm_serve_need n = { .peak = 0 };
        bool fits = false;
        if (pass) { if (t.kv == LM_F32) t.kv = LM_BF16; if (o->dev) { t.dtype = LM_BF16; t.quant = NULL; } else if (stored > 5) { t.dtype = LM_F32; t.quant = lm_quant_by_name("Q4_0"); } }
        for (t.context = o->context / 2; t.context >= 128 && !fits; t.context /= 2) {
            LM_TRY(lm_need_serve(ctx, m, c, &t, base, &n));
            fits = n.peak <= have;
        }
        if (!n.peak) break;
        put(out,
            lm_arena_printf(a, "%s%s%s%s--ctx %lld", pass && o->dev ? "--dtype bf16 " : pass && stored > 5 ? "--dtype Q4_0 " : "", pass ? "--kv " : "", pass ? pages : "", pass ? " " : "",
                            (long long)n.context),
            pass && !o->dev ? "4-bit weights, shorter texts" : "shorter texts", fits, n.peak, n.decode_s);
        if (out->best >= 0) break;
    }
    for (int i = 0; i < out->n; i++) if (!out->c[i].what) return LM_E_NOMEM;
    return LM_OK;
}

/* ---- said ------------------------------------------------------------------------------------------------------------------------------------ */
void lm_changes_say(lm_cli *cli, const lm_changes *s, const char *per, double now, int most) {
    lm_arena *a = cli->a;
    if (s->best < 0) lm_cli_say(cli, "it does not fit, and no change that was tried makes it fit:");
    for (int k = -1; k < s->n && most > 0; k++) {                                /* the cheapest that fits first */
        const int i = k < 0 ? s->best : k;
        if (i < 0 || (k >= 0 && i == s->best)) continue;
        const lm_change *c = &s->c[i];
        const char *time = per ? lm_arena_printf(a, "%s %s", lm_cli_time(a, c->seconds), per) : "", *peak = lm_cli_bytes(a, (double)c->peak);
        const char *slower = per && now > 0 ? lm_arena_printf(a, "%+.0f %%; ", 100 * (c->seconds / now - 1)) : "";
        if (k < 0)
            lm_cli_say(cli, "it does not fit; the cheapest change that does: %s → %s%s%s (%sgives up: %s)", c->what, peak, per ? ", " : "", time ? time : "",
                       slower ? slower : "", c->gives_up);
        else lm_cli_say(cli, "  %-60s %10s  %s  %s; gives up: %s", c->what, peak, time ? time : "", c->fits ? "fits" : "does not fit", c->gives_up);
        most--;
    }
}
static size_t room(lm_dev *d) {
    size_t now = 0, total = 0;
    return d->room(d, &now, &total) ? 0 : now - now / 32;
}
/* How fast the card is cannot be measured where its memory is taken: then changes are ordered by round rates, and no times are said. */
static bool ceilings(lm_dev *d, lm_machine *m) {
    if (room(d) > (size_t)3 << 30 && !lm_machine_of_device(d, m) && m->mm_bf16 > 0) return true;
    *m = (lm_machine){ .threads = d->units, .mm_f32 = 1e13, .mm_bf16 = 1e14, .read_1 = 1e12, .read_n = 1e12, .cache_n = 1e12, .mid_n = 1e12 };
    return false;
}
typedef struct { lm_ctx *ctx; char *text; } kept;
static kept keep(lm_ctx *ctx) { return (kept){ ctx, strdup(lm_error(ctx)) }; }
static void put_back(kept k) {
    lm_error_clear(k.ctx);
    if (k.text) lm_fail(k.ctx, LM_E_NOMEM, "%s", k.text);
    free(k.text);
}
void lm_no_fit_train(lm_cli *cli, lm_ctx *ctx, const lm_machine *here, const lm_run_event *e) {
    const kept k = keep(ctx);
    lm_machine m = *here;
    lm_changes s;
    lm_trainer_opts o = *e->opts;
    const bool timed = !o.dev || ceilings(o.dev, &m);
    const size_t have = o.dev ? room(o.dev) : lm_memory_available();
    lm_comm alone = planned_ranks(ctx, o.comm ? o.comm->rank : 0, o.comm ? o.comm->size : 1);
    if (alone.size > 1) o.comm = o.dev_comm = &alone;                            /* the other ranks do not plan with us */
    if (!lm_fit_train(ctx, cli->a, &m, e->model, &o, e->accum, 0, have, &s))
        lm_changes_say(cli, &s, !o.dev ? "a step" : timed ? "a step at the card's ceilings" : NULL, 0, 6);
    put_back(k);
}
void lm_no_fit_serve(lm_cli *cli, lm_ctx *ctx, const lm_cfg *c, const lm_serve_opts *o) {
    const kept k = keep(ctx);
    lm_machine m;
    lm_changes s;
    const bool timed = ceilings(o->dev, &m);
    if (!lm_fit_serve(ctx, cli->a, &m, c, o, 0, room(o->dev), &s)) lm_changes_say(cli, &s, timed ? "a token at the card's ceilings" : NULL, 0, 6);
    put_back(k);
}
