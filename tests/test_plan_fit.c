/* test_plan_fit.c — changes that make a training run fit on a device, by dry plans for the fake one: each kind is planned, more cards included. */
#include "fake_dev.h"
#include "test.h"
#include "cmd/cmd_plan_fit.h"
#include "cmd/cmd_shapes.h"

const lm_cmd *const lm_cmds[] = { NULL };                              /* the commands' own parts want the list */
static bool has(const lm_changes *s, const char *what) {
    for (int i = 0; i < s->n; i++) if (strstr(s->c[i].what, what)) return true;
    return false;
}
static void test_changes_on_a_device(void) {
    lm_ctx *ctx; lm_arena *a; lm_cfg c; lm_changes s;
    LM_CHECK(!lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    LM_NEED_OK(ctx, lm_arena_new(&a, ctx, LM_MEM_MISC, 0));
    LM_NEED_OK(ctx, lm_shape_cfg(ctx, "tiny-1m", &c));
    lm_dev *d = fake_open(ctx, 1);
    const lm_machine m = { .threads = 1, .mm_f32 = 1e13, .mm_bf16 = 1e14, .read_1 = 1e12, .read_n = 1e12, .cache_n = 1e12, .mid_n = 1e12 };
    const lm_trainer_opts o = { .batch = 16, .seq = 128, .mm = LM_F32, .recompute = -1, .optim = { .name = "adamw" }, .dev = d };
    LM_NEED_OK(ctx, lm_fit_train(ctx, a, &m, &c, &o, 1, 0, 15 << 20, &s));          /* less than one card can do: only more cards */
    LM_CHECK(s.n == 5 && has(&s, "recompute") && has(&s, "micro_batch") && has(&s, "muon") && has(&s, "data.seq") && has(&s, "mesh=fsdp="));
    LM_CHECK(s.best == 4 && strstr(s.c[4].what, "fsdp") && s.c[4].peak <= 15 << 20);
    LM_NEED_OK(ctx, lm_fit_train(ctx, a, &m, &c, &o, 1, 0, (size_t)30 << 20, &s));  /* time alone is enough */
    LM_CHECK(s.best >= 0 && !strcmp(s.c[s.best].gives_up, "time only") && s.c[s.best].peak <= (size_t)30 << 20);
    lm_dev_close(d); lm_arena_free(a); lm_ctx_free(ctx);
}
LM_TEST_MAIN(LM_T1(test_changes_on_a_device))
