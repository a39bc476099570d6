/* Rotary tables against transformers (tests/fixtures/rope.safetensors), and what a rotation must do. */
#include "format/json.h"
#include "format/safetensors.h"
#include "op/rope/rope.h"
#include "op/rope_table/rope_table.h"
#include "op_run.h"

static float *read_floats(lm_ctx *ctx, lm_st *st, const char *name, const char *part, int64_t *n) {
    char full[100]; const lm_st_tensor *t; float *p = NULL;
    snprintf(full, sizeof full, "%s.%s", name, part);
    LM_CHECK_OK(ctx, lm_st_need(st, full, &t));
    if ((t = lm_st_find(st, full))) { p = malloc((size_t)t->bytes); *n = t->bytes / 4; LM_CHECK_OK(ctx, lm_st_read(st, t, p, 0, t->bytes)); }
    return p;
}
static double num(const lm_jv *o, const char *key, double def) {
    double x = def;
    LM_CHECK_OK(o->ctx, lm_json_num(o, key, LM_JSON_OPT, def, -1e12, 1e12, &x));
    return x;
}

static void test_against_transformers(void) {
    lm_ctx *ctx; lm_st *st; json_t *js;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    LM_NEED_OK(ctx, lm_st_open(&st, ctx, LM_FIXTURES "/rope.safetensors"));
    const char *text = lm_st_meta(st, "config"), *name;
    LM_NEED_OK(ctx, lm_json_parse(ctx, "config", text, strlen(text), 0, &js));
    lm_jv root = lm_json_root(ctx, "config", js), cases;
    LM_CHECK_OK(ctx, lm_json_obj(&root, "cases", LM_JSON_NEED, &cases));
    json_t *value; int seen = 0;
    int64_t at[8];
    LM_CHECK_OK(ctx, lm_st_read(st, lm_st_find(st, "positions"), at, 0, sizeof at));
    json_object_foreach(cases.v, name, value) {
        lm_jv o, r; const char *kind; bool truncate;
        static const char *const kinds[] = { "default", "linear", "dynamic", "llama3", "yarn" };
        LM_CHECK_OK(ctx, lm_json_obj(&cases, name, LM_JSON_NEED, &o));
        LM_CHECK_OK(ctx, lm_json_obj(&o, "rope_parameters", LM_JSON_NEED, &r));
        LM_CHECK_OK(ctx, lm_json_str(&r, "rope_type", LM_JSON_NEED, NULL, &kind, NULL));
        LM_CHECK_OK(ctx, lm_json_bool(&r, "truncate", LM_JSON_OPT, true, &truncate));
        lm_rope_table_p p = { .d_head = (int)num(&o, "head_dim", 0),
                              .base = num(&r, "rope_theta", 0),
                              .factor = num(&r, "factor", 0),
                              .low_freq_factor = num(&r, "low_freq_factor", 0),
                              .high_freq_factor = num(&r, "high_freq_factor", 0),
                              .original_max_pos = (int64_t)num(&r, "original_max_position_embeddings", 0),
                              .max_pos = (int64_t)num(&o, "max_position_embeddings", 0),
                              .beta_fast = num(&r, "beta_fast", 0),
                              .beta_slow = num(&r, "beta_slow", 0),
                              .mscale = num(&r, "mscale", 0),
                              .mscale_all_dim = num(&r, "mscale_all_dim", 0),
                              .attention_factor = num(&r, "attention_factor", 0),
                              .no_truncate = !truncate };
        int k = 0;
        while (k < LM_COUNT(kinds) && strcmp(kinds[k], kind)) k++;
        LM_CHECK(k < LM_COUNT(kinds));
        p.scaling = (lm_rope_scaling)k;
        const int64_t n = p.d_head / 2; int64_t m = 0;
        float inv[LM_ROPE_MAX_D / 2], attn;
        lm_rope_inv_freq(&p, (int64_t)num(&o, "seq_len", 0), inv, &attn);
        float *want = read_floats(ctx, st, name, "inv_freq", &m), *wa = read_floats(ctx, st, name, "attention_factor", &(int64_t){ 0 });
        LM_CHECK(m == n);
        int off = 0;
        for (int64_t i = 0; i < n; i++) {
            double d = fabs((double)inv[i] - (double)want[i]) / (double)want[i];
            if (d > 1.3e-7) {
                LM_CHECK_NEAR(inv[i], want[i], 1.3e-7 * (double)want[i]);
                break;
            }
            off += inv[i] != want[i];
        }
        LM_CHECK(off * 20 <= n);                                            /* a last bit here and there: their pow is not always rounded correctly */
        LM_CHECK(attn == wa[0]);
        float *cs = read_floats(ctx, st, name, "cos", &m), *sn = read_floats(ctx, st, name, "sin", &m);
        if (p.scaling != LM_ROPE_DYNAMIC) T_OP_KERNELS(&lm_op_rope_table, kr) {   /* the fixture's positions go with another length there */
            int32_t pos[8]; float t[8 * LM_ROPE_MAX_D];
            for (int i = 0; i < 8; i++) pos[i] = (int32_t)at[i];
            lm_call c = { .op = &lm_op_rope_table,
                          .p = &p,
                          .n_in = 1,
                          .n_out = 1,
                          .in = { t_op_1d(pos, LM_I32, 8) },
                          .out = { t_op_2d(t, LM_F32, 8, 2 * n) } };
            LM_CHECK_OK(ctx, t_op_run(kr, &c, ctx));
            double worst = 0;
            for (int i = 0; i < 8; i++) for (int64_t d = 0; d < n; d++) {
                if (inv[d] != want[d]) continue;                            /* another frequency is another angle */
                worst = fmax(worst, fmax(fabs((double)t[i * 2 * n + d] - (double)cs[i * n + d]),
                                         fabs((double)t[i * 2 * n + n + d] - (double)sn[i * n + d])));
            }
            LM_CHECK_NEAR(worst, 0, 2.5e-7 * (double)attn);
        }
        free(want); free(wa); free(cs); free(sn); seen++;
    }
    LM_CHECK(seen >= 20);
    lm_json_free(js); lm_st_close(st); lm_ctx_free(ctx);
}

/* Turning back gives x again; <rope(q, i), rope(k, j)> depends on i - j alone; in place equals out of place. */
static void test_rotation(void) {
    lm_ctx *ctx;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    const int32_t pos[6] = { 0, 3, 10, 13, 500, 503 };
    T_OP_KERNELS(&lm_op_rope, k) for (int il = 0; il < 2; il++) {
        lm_rope_table_p tp = { .d_head = 36, .base = 10000 };
        lm_rope_p p = { 48, 36, il, false };
        float t[6 * 36], x[6 * 96], y[6 * 96], z[6 * 96], one[96];
        float *r = t_op_floats(96);
        memcpy(one, r, sizeof one); free(r);
        for (int i = 0; i < 6; i++) memcpy(x + i * 96, one, sizeof one);           /* the same vector at every position: head 0 is q, head 1 is k */
        lm_call tc = { .op = &lm_op_rope_table,
                       .p = &tp,
                       .n_in = 1,
                       .n_out = 1,
                       .in = { t_op_1d((void *)pos, LM_I32, 6) },
                       .out = { t_op_2d(t, LM_F32, 6, 36) } };
        LM_CHECK_OK(ctx, t_op_run(lm_op_rope_table.kernels[2], &tc, ctx));
        lm_call c = { .op = &lm_op_rope,
                      .p = &p,
                      .n_in = 2,
                      .n_out = 1,
                      .in = { t_op_2d(x, LM_F32, 6, 96), t_op_2d(t, LM_F32, 6, 36) },
                      .out = { t_op_2d(y, LM_F32, 6, 96) } };
        LM_CHECK_OK(ctx, t_op_run(k, &c, ctx));
        double dot[3];
        for (int i = 0; i < 3; i++) {
            dot[i] = 0;
            for (int d = 0; d < 48; d++) dot[i] += (double)y[2 * i * 96 + d] * (double)y[(2 * i + 1) * 96 + 48 + d];
        }
        LM_CHECK_NEAR(dot[1], dot[0], 2e-4); LM_CHECK_NEAR(dot[2], dot[0], 2e-4);
        memcpy(z, x, sizeof z);
        c.in[0].data = c.out[0].data = z;
        LM_CHECK_OK(ctx, t_op_run(k, &c, ctx));
        LM_CHECK(!memcmp(z, y, sizeof z));
        p.inverse = true;
        LM_CHECK_OK(ctx, t_op_run(k, &c, ctx));
        for (int i = 0; i < 6 * 96; i++) if (fabsf(z[i] - x[i]) > 1e-5f) { LM_CHECK_NEAR(z[i], x[i], 1e-5); break; }
    }
    lm_ctx_free(ctx);
}
static void test_bad_params(void) {
    lm_ctx *ctx; lm_type out;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    lm_call c = { .op = &lm_op_rope_table, .n_in = 1, .n_out = 1, .in = { t_op_1d(NULL, LM_I32, 4) } };
    static const struct { lm_rope_table_p p; const char *text;
    } rows[] = { { { .d_head = 7, .base = 10000 }, "d_head is 7" },
                 { { .d_head = 8 }, "base is 0" },
                 { { .d_head = 8, .base = 1e4, .scaling = LM_ROPE_LINEAR }, "factor is 0" },
                 { { .d_head = 8, .base = 1e4, .factor = 2, .scaling = LM_ROPE_DYNAMIC }, "max_pos" },
                 { { .d_head = 8, .base = 1e4, .factor = 2, .scaling = LM_ROPE_YARN }, "original_max_pos" },
                 { { .d_head = 8, .base = 1e4, .factor = 2, .scaling = LM_ROPE_LLAMA3, .original_max_pos = 9 }, "low_freq_factor" },
                 { { .d_head = 8, .base = 1e4, .factor = 1, .scaling = 9 }, "number 9" } };
    for (int i = 0; i < LM_COUNT(rows); i++) { c.p = &rows[i].p; LM_CHECK_ERR(ctx, lm_op_rope_table.shape(ctx, &c, &out), LM_E_SHAPE, rows[i].text); }
    lm_ctx_free(ctx);
}
LM_TEST_MAIN(LM_T1(test_against_transformers), LM_T1(test_rotation), LM_T1(test_bad_params))
