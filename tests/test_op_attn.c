/* Attention: as torch has it; paged equals dense to the bit whatever the chunks; stale pages and NaN never leak; threads, tiles and
 * neighbours change nothing. */
#include "op/attn/attn.h"
#include "op/attn_grad/attn_grad.h"
#include "op/attn_paged/attn_paged.h"
#include "op/kv_write/kv_write.h"
#include "format/safetensors.h"
#include "op_run.h"

static lm_ctx *new_ctx(int threads) {
    lm_ctx *ctx = NULL;
    lm_ctx_opts o = { .n_threads = threads };
    LM_CHECK_OK(NULL, lm_ctx_new(&ctx, &o));
    return ctx;
}
typedef struct { int64_t n; lm_attn_p p; float *q, *k, *v, *o, *lse; int32_t *start; } dense;
static dense dense_new(int n_doc, const int64_t *len, lm_attn_p p) {
    dense d = { .p = p };
    for (int i = 0; i < n_doc; i++) d.n += len[i];
    d.q = t_op_floats(d.n * p.n_head * p.d_head); d.k = t_op_floats(d.n * p.n_kv * p.d_head); d.v = t_op_floats(d.n * p.n_kv * p.d_head);
    d.o = t_op_floats(d.n * p.n_head * p.d_head); d.lse = t_op_floats(d.n * p.n_head); d.start = malloc((size_t)d.n * 4);
    for (int64_t i = 0, at = 0; i < n_doc; at += len[i++]) for (int64_t t = 0; t < len[i]; t++) d.start[at + t] = (int32_t)at;
    return d;
}
static void dense_free(dense *d) { free(d->q); free(d->k); free(d->v); free(d->o); free(d->lse); free(d->start); }
static lm_call dense_call(const dense *d) {
    const lm_attn_p *p = &d->p;
    return (lm_call){ .op = &lm_op_attn,
                      .p = p,
                      .n_in = 4,
                      .n_out = 2,
                      .in = { t_op_2d(d->q, LM_F32, d->n, p->n_head * p->d_head), t_op_2d(d->k, LM_F32, d->n, p->n_kv * p->d_head),
                              t_op_2d(d->v, LM_F32, d->n, p->n_kv * p->d_head), t_op_1d(d->start, LM_I32, d->n) },
                      .out = { t_op_2d(d->o, LM_F32, d->n, p->n_head * p->d_head), t_op_2d(d->lse, LM_F32, d->n, p->n_head) } };
}

/* Three sequences are fed in turns of changing sizes; before each turn every page is as it was, stale parts NaN. */
static void paged_case(lm_ctx *ctx, lm_attn_p p, lm_dtype kv, int turn) {
    enum { SEQ = 3, PER = 5, POOL = 13 };
    const int64_t len[SEQ] = { 1, 65, LM_T_WATCHED ? 99 : 203 }, hd = p.n_head * p.d_head, kd = p.n_kv * p.d_head, page = LM_KV_PAGE * kd,
                  size = (int64_t)lm_dtype_size(kv);
    dense d = dense_new(SEQ, len, p);
    lm_call dc = dense_call(&d);
    T_OP_KERNELS(&lm_op_attn_paged, k) {
        const lm_kernel *dk = NULL;
        if (strstr(k->name, ".int.")) continue;                            /* pages in blocks: blocks_case */
        T_OP_KERNELS(&lm_op_attn, c) if (c->needs == k->needs) dk = c;
        LM_CHECK(dk);
        LM_CHECK_OK(ctx, t_op_run(dk, &dc, ctx));
        char *kp = malloc((size_t)(POOL * page * size)), *vp = malloc((size_t)(POOL * page * size));
        memset(kp, 0xff, (size_t)(POOL * page * size)); memset(vp, 0xff, (size_t)(POOL * page * size));       /* NaN, f32 or bf16 */
        int32_t table[SEQ * PER], used[SEQ] = {0};
        for (int i = 0; i < SEQ * PER; i++) table[i] = -7;
        for (int i = 0; i < SEQ; i++) for (int j = 0; j <= (len[i] - 1) / LM_KV_PAGE; j++) table[i * PER + j] = (i * 5 + j * 3 + 2) % POOL;
        int bad = 0;
        for (int step = 0, busy = 1; busy; step++) {
            float q[80 * 3 * 256], kk[80 * 3 * 64], vv[80 * 3 * 64], o[80 * 3 * 256];
            int32_t seq[240], pos[240], slot[240]; int64_t row[240]; int n = 0;
            busy = 0;
            for (int s = 0, base = 0; s < SEQ; base += (int)len[s++]) {
                int want = turn ? turn : 1 + (step * 31 + s * 17) % 80;
                for (int t = 0; t < want && used[s] < len[s]; t++, n++) {
                    pos[n] = used[s]++;
                    seq[n] = s;
                    slot[n] = table[s * PER + pos[n] / LM_KV_PAGE] * LM_KV_PAGE + pos[n] % LM_KV_PAGE;
                    row[n] = base + pos[n];
                    memcpy(q + n * hd, d.q + row[n] * hd, (size_t)hd * 4);
                    memcpy(kk + n * kd, d.k + row[n] * kd, (size_t)kd * 4);
                    memcpy(vv + n * kd, d.v + row[n] * kd, (size_t)kd * 4);
                }
                busy |= used[s] < len[s];
            }
            if (step % 3 == 0 && n < 240) {
                pos[n] = -1;
                seq[n] = 0;
                slot[n] = -1;
                row[n] = -1;
                memset(q + n * hd, 0xff, (size_t)hd * 4);
                memset(kk + n * kd, 0xff, (size_t)kd * 4);
                n++;
            }
            const int64_t pd[4] = { POOL, p.n_kv, LM_KV_PAGE, p.d_head };
            lm_tensor tk = lm_tensor_of(kp, kv, 4, pd), tv = lm_tensor_of(vp, kv, 4, pd);
            lm_call w = { .op = &lm_op_kv_write, .p = &(lm_kv_write_p){ p.n_kv, p.d_head }, .n_in = 5, .n_out = 2,
                          .in = { tk, tv, t_op_2d(kk, LM_F32, n, kd), t_op_2d(vv, LM_F32, n, kd), t_op_1d(slot, LM_I32, n) }, .out = { tk, tv } };
            LM_CHECK(lm_op_kv_write.kernels[0]->accepts(&w));
            LM_CHECK_OK(ctx, t_op_run(lm_op_kv_write.kernels[0], &w, ctx));
            lm_call c = { .op = &lm_op_attn_paged,
                          .p = &p,
                          .n_in = 6,
                          .n_out = 1,
                          .out = { t_op_2d(o, LM_F32, n, hd) },
                          .in = { t_op_2d(q, LM_F32, n, hd), tk, tv, t_op_2d(table, LM_I32, SEQ, PER), t_op_1d(seq, LM_I32, n),
                                  t_op_1d(pos, LM_I32, n) } };
            LM_CHECK(k->accepts(&c));
            LM_CHECK_OK(ctx, t_op_run(k, &c, ctx));
            for (int i = 0; i < n; i++) {
                if (row[i] >= 0) bad += !!memcmp(o + i * hd, d.o + row[i] * hd, (size_t)hd * 4);
                else for (int64_t x = 0; x < hd; x++) bad += o[i * hd + x] != 0;
            }
        }
        if (bad) printf("%s, heads %d:%d of %d, turns %d: %d rows differ\n", k->name, p.n_head, p.n_kv, p.d_head, turn, bad);
        LM_CHECK(!bad);
        free(kp); free(vp);
    }
    dense_free(&d);
}
static void test_paged_is_dense(void) {
    lm_ctx *ctx = new_ctx(2);
    paged_case(ctx, (lm_attn_p){ 4, 2, 32, 0, 0.2f, LM_F32 }, LM_F32, 0);
    paged_case(ctx, (lm_attn_p){ 4, 2, 32, 0, 0.2f, LM_F32 }, LM_F32, 1);
    paged_case(ctx, (lm_attn_p){ 4, 2, 32, 77, 0.2f, LM_F32 }, LM_F32, 3);
    paged_case(ctx, (lm_attn_p){ 3, 1, 24, 0, 0.3f, LM_F32 }, LM_F32, 0);
    paged_case(ctx, (lm_attn_p){ 2, 2, 16, 5, 0.3f, LM_BF16 }, LM_BF16, 0);
    paged_case(ctx, (lm_attn_p){ 2, 1, 48, 0, 0.2f, LM_BF16 }, LM_F32, 64);          /* f32 pages, rounded as they are read */
    paged_case(ctx, (lm_attn_p){ 32, 1, 6, 0, 0.5f, LM_F32 }, LM_F32, 2);
    lm_ctx_free(ctx);
}

/* Pages in blocks: a prompt in one run on one thread, and in turns of other sizes on several threads, beside another sequence, give the same bits;
 * pages begin as NaN scales and codes. Each row's result also lies near that of f32 pages. */
static void blocks_run(const lm_kernel *k, lm_ctx *ctx, const lm_attn_p *p, const lm_quant *quant, const float *q, const float *kk, const float *vv, int n, int turn,
                       float *out) {
    enum { PER = 4, POOL = 9 };
    const int64_t hd = p->n_head * p->d_head, kd = p->n_kv * p->d_head, pd[4] = { POOL, p->n_kv, LM_KV_PAGE, p->d_head };
    size_t bytes;
    LM_CHECK(lm_storage_bytes(quant ? LM_QUANT : LM_F32, quant, LM_PLAIN, 4, pd, &bytes));
    lm_tensor pool[2];
    for (int i = 0; i < 2; i++) {
        pool[i] = lm_tensor_of(malloc(bytes), quant ? LM_QUANT : LM_F32, 4, pd);
        pool[i].quant = quant; pool[i].layout = quant && !i ? LM_PANEL16 : LM_PLAIN;
        memset(pool[i].data, 0xff, bytes);
    }
    const int32_t table[2 * PER] = { 7, 2, 5, 0, 1, 8, 3, 6 };
    for (int done = 0, m; done < n; done += m) {
        m = turn ? turn < n - done ? turn : n - done : n;
        const int both = turn && turn < 40 ? 2 : 1;                        /* the other sequence: the same rows, first */
        float *qq = malloc((size_t)(2 * n * hd) * 4), *k2 = malloc((size_t)(2 * n * kd) * 4), *v2 = malloc((size_t)(2 * n * kd) * 4), *o = malloc((size_t)(2 * n * hd) * 4);
        int32_t seq[512], pos[512], slot[512];
        for (int b = 0; b < both; b++) for (int i = 0; i < m; i++) {
            const int at = b * m + i, s = both - 1 - b, x = done + i;
            seq[at] = s; pos[at] = x; slot[at] = table[s * PER + x / LM_KV_PAGE] * LM_KV_PAGE + x % LM_KV_PAGE;
            memcpy(qq + at * hd, q + x * hd, (size_t)hd * 4); memcpy(k2 + at * kd, kk + x * kd, (size_t)kd * 4); memcpy(v2 + at * kd, vv + x * kd, (size_t)kd * 4);
        }
        const int rows = both * m;
        lm_call w = { .op = &lm_op_kv_write, .p = &(lm_kv_write_p){ p->n_kv, p->d_head }, .n_in = 5, .n_out = 2,
                      .in = { pool[0], pool[1], t_op_2d(k2, LM_F32, rows, kd), t_op_2d(v2, LM_F32, rows, kd), t_op_1d(slot, LM_I32, rows) }, .out = { pool[0], pool[1] } };
        lm_call c = { .op = &lm_op_attn_paged, .p = p, .n_in = 6, .n_out = 1, .out = { t_op_2d(o, LM_F32, rows, hd) },
                      .in = { t_op_2d(qq, LM_F32, rows, hd), pool[0], pool[1], t_op_2d((void *)(uintptr_t)table, LM_I32, 2, PER), t_op_1d(seq, LM_I32, rows),
                              t_op_1d(pos, LM_I32, rows) } };
        const lm_kernel *wk = lm_kernel_choose(&lm_op_kv_write, &w, LM_DEV_CPU, lm_cpu_features());
        LM_CHECK(wk && k->accepts(&c));
        LM_CHECK_OK(ctx, t_op_run(wk, &w, ctx)); LM_CHECK_OK(ctx, t_op_run(k, &c, ctx));
        memcpy(out + done * hd, o + (both - 1) * m * hd, (size_t)(m * hd) * 4);
        free(qq); free(k2); free(v2); free(o);
    }
    for (int i = 0; i < 2; i++) free(pool[i].data);
}
static void test_blocks(void) {
    enum { N = LM_T_WATCHED ? 99 : 203 };
    const lm_attn_p p[] = { { 8, 2, 64, 0, 0.125f, LM_F32 }, { 3, 1, 96, 77, 0.2f, LM_F32 }, { 2, 2, 32, 0, 0.3f, LM_BF16 }, { 12, 1, 160, 0, 0.1f, LM_F32 } };
    const struct { const char *name; double near; } format[] = { { "Q8_0", 0.03 }, { "Q4_0", 0.3 } };
    lm_ctx *one = new_ctx(1), *three = new_ctx(3);
    for (int f = 0; f < 2; f++) for (int i = 0; i < LM_COUNT(p); i++) {
        const lm_quant *quant = lm_quant_by_name(format[f].name);
        const int64_t hd = p[i].n_head * p[i].d_head, kd = p[i].n_kv * p[i].d_head;
        float *q = t_op_floats(N * hd), *k = t_op_floats(N * kd), *v = t_op_floats(N * kd), *a = malloc((size_t)(N * hd) * 4), *b = malloc((size_t)(N * hd) * 4);
        T_OP_KERNELS(&lm_op_attn_paged, kn) {
            if (!strstr(kn->name, ".int.")) continue;
            blocks_run(kn, one, &p[i], quant, q, k, v, N, 0, a);
            for (int turn = LM_T_WATCHED ? 5 : 1; turn < 90; turn += turn < 6 && !LM_T_WATCHED ? 2 : 29) {
                blocks_run(kn, three, &p[i], quant, q, k, v, N, turn, b);
                if (memcmp(a, b, (size_t)(N * hd) * 4)) printf("%s, %s, case %d, turns of %d: other bits\n", kn->name, quant->name, i, turn);
                LM_CHECK(!memcmp(a, b, (size_t)(N * hd) * 4));
            }
            const lm_kernel *fk = NULL;
            T_OP_KERNELS(&lm_op_attn_paged, x) if (!strstr(x->name, ".int.") && (x->needs & ~kn->needs) == 0 && !fk) fk = x;
            blocks_run(fk, one, &p[i], NULL, q, k, v, N, 0, b);
            double err = 0, all = 0;
            for (int64_t x = 0; x < N * hd; x++) { err += (double)(a[x] - b[x]) * (double)(a[x] - b[x]); all += (double)b[x] * (double)b[x]; }
            if (!(sqrt(err / all) < format[f].near)) printf("%s, %s, case %d: %.4f from f32 pages\n", kn->name, quant->name, i, sqrt(err / all));
            LM_CHECK(sqrt(err / all) < format[f].near && err > 0);
        }
        free(q); free(k); free(v); free(a); free(b);
    }
    lm_ctx_free(one); lm_ctx_free(three);
}

/* Outputs with 1, 2 and 7 threads, and through strided views, have the same bits. */
static void test_threads_and_views(void) {
    const int64_t len[] = { 130, 1, 70, 99 };
    const lm_attn_p p = { 4, 2, 40, 90, 0.2f, LM_F32 };
    dense d = dense_new(4, len, p);
    const int64_t hd = p.n_head * p.d_head, kd = p.n_kv * p.d_head, w = hd + 2 * kd, n = d.n;
    float *fused = malloc((size_t)(n * w) * 4), *go = t_op_floats(n * hd), *want[5] = {0};
    for (int64_t i = 0; i < n; i++) {
        memcpy(fused + i * w, d.q + i * hd, (size_t)hd * 4);
        memcpy(fused + i * w + hd, d.k + i * kd, (size_t)kd * 4);
        memcpy(fused + i * w + hd + kd, d.v + i * kd, (size_t)kd * 4);
    }
    float *dq = malloc((size_t)(n * hd) * 4), *dk = malloc((size_t)(n * kd) * 4), *dv = malloc((size_t)(n * kd) * 4);
    T_OP_KERNELS(&lm_op_attn, k) {
        const lm_kernel *gk = NULL;
        T_OP_KERNELS(&lm_op_attn_grad, x) if (x->needs == k->needs) gk = x;
        LM_CHECK(gk);
        for (int threads = 1, first = 1; threads < 8; threads += threads < 2 ? 1 : 5, first = 0) {
            lm_ctx *ctx = new_ctx(threads);
            lm_call c = dense_call(&d);
            if (threads > 1) for (int i = 0; i < 3; i++) { c.in[i].data = fused + (i > 0) * hd + (i > 1) * kd; c.in[i].stride[0] = w; }
            LM_CHECK(k->accepts(&c));
            LM_CHECK_OK(ctx, t_op_run(k, &c, ctx));
            lm_call g = c;
            g.op = &lm_op_attn_grad; g.n_in = 7; g.n_out = 3; g.in[4] = c.out[0]; g.in[5] = c.out[1]; g.in[6] = t_op_2d(go, LM_F32, n, hd);
            g.out[0] = t_op_2d(dq, LM_F32, n, hd); g.out[1] = t_op_2d(dk, LM_F32, n, kd); g.out[2] = t_op_2d(dv, LM_F32, n, kd);
            LM_CHECK(gk->accepts(&g));
            LM_CHECK_OK(ctx, t_op_run(gk, &g, ctx));
            float *got[5] = { d.o, d.lse, dq, dk, dv }; const int64_t size[5] = { n * hd, n * p.n_head, n * hd, n * kd, n * kd };
            for (int i = 0; i < 5; i++) {
                if (first) { free(want[i]); want[i] = malloc((size_t)size[i] * 4); memcpy(want[i], got[i], (size_t)size[i] * 4); }
                else LM_CHECK(!memcmp(want[i], got[i], (size_t)size[i] * 4));
            }
            lm_ctx_free(ctx);
        }
    }
    for (int i = 0; i < 5; i++) free(want[i]);
    free(fused); free(go); free(dq); free(dk); free(dv); dense_free(&d);
}

/* start may be anything: rows that reach into an earlier run, negative, above the row. Kernels agree with the reference, gradients included. */
static int32_t start_a(int64_t i) {
    return i < 20 ? -5 : i < 100 ? 0 : i < 140 ? 37 : i < 150 ? (int32_t)i + 3 : i < 280 ? 130 - (int32_t)(i - 150) / 50 : 1 << 30;
}
static int32_t start_b(int64_t i) { return i < 200 ? 0 : i <= 270 ? (int32_t)i : 230; }
static void any_start(int64_t rows, int64_t window, int32_t (*start)(int64_t)) {
    lm_ctx *ctx = new_ctx(1);
    const lm_attn_p p = { 2, 1, 16, window, 0.3f, LM_F32 };
    dense d = dense_new(1, &rows, p);
    const int64_t n = d.n, hd = 32, kd = 16, size[5] = { n * hd, n * 2, n * hd, n * kd, n * kd };
    for (int64_t i = 0; i < n; i++) d.start[i] = start(i);
    double *f[7], *out[5];
    float *go = t_op_floats(n * hd), *src[7] = { d.q, d.k, d.v, NULL, NULL, NULL, go };
    for (int i = 0; i < 7; i++)
        if (src[i]) {
            int64_t m = i == 1 || i == 2 ? n * kd : n * hd;
            f[i] = malloc((size_t)m * 8);
            for (int64_t k = 0; k < m; k++) f[i][k] = (double)src[i][k];
        }
    for (int i = 0; i < 5; i++) out[i] = malloc((size_t)size[i] * 8);
    lm_call r = dense_call(&d);
    for (int i = 0; i < 3; i++) { r.in[i].data = f[i]; r.in[i].dtype = LM_F64; }
    r.out[0].data = out[0]; r.out[1].data = out[1];
    lm_op_attn.ref(&r);
    lm_call rg = r;
    rg.n_in = 7; rg.n_out = 3; rg.in[4] = r.out[0]; rg.in[5] = r.out[1]; rg.in[6] = t_op_2d(f[6], LM_F64, n, hd);
    for (int i = 0; i < 3; i++) rg.out[i] = t_op_2d(out[2 + i], LM_F64, n, i ? kd : hd);
    lm_op_attn_grad.ref(&rg);
    float *dg[3] = { malloc((size_t)(n * hd) * 4), malloc((size_t)(n * kd) * 4), malloc((size_t)(n * kd) * 4) },
          *got[5] = { d.o, d.lse, dg[0], dg[1], dg[2] };
    T_OP_KERNELS(&lm_op_attn, k) {
        lm_call c = dense_call(&d);
        LM_CHECK_OK(ctx, t_op_run(k, &c, ctx));
        T_OP_KERNELS(&lm_op_attn_grad, gk) if (gk->needs == k->needs) {
            lm_call g = c;
            g.op = &lm_op_attn_grad; g.n_in = 7; g.n_out = 3; g.in[4] = c.out[0]; g.in[5] = c.out[1]; g.in[6] = t_op_2d(go, LM_F32, n, hd);
            for (int i = 0; i < 3; i++) g.out[i] = t_op_2d(dg[i], LM_F32, n, i ? kd : hd);
            LM_CHECK_OK(ctx, t_op_run(gk, &g, ctx));
        }
        for (int i = 0; i < 5; i++) {
            double worst = 0;
            for (int64_t x = 0; x < size[i]; x++) worst = fmax(worst, fabs((double)got[i][x] - out[i][x]) / (1 + fabs(out[i][x])));
            LM_CHECK_NEAR(worst, 0, 1e-5);
        }
    }
    for (int i = 0; i < 7; i++) if (src[i]) free(f[i]);
    for (int i = 0; i < 5; i++) free(out[i]);
    for (int i = 0; i < 3; i++) free(dg[i]);
    free(go); dense_free(&d); lm_ctx_free(ctx);
}
static void test_any_start(void) {
    for (int i = 0; i < 2; i++) { t_op_reverse = i; any_start(300, 100, start_a); any_start(400, 0, start_b); any_start(330, 65, start_b); }
    t_op_reverse = false;
}

/* A token that is NaN spoils those who see it and nobody else: not the rows before it in its tile, nor other documents. */
static void test_nan_stays(void) {
    lm_ctx *ctx = new_ctx(2);
    const int64_t len[] = { 50, 100 }, hd = 64, kd = 32, sick[] = { 20, 149, 60 };
    dense d = dense_new(2, len, (lm_attn_p){ 4, 2, 16, 33, 0.3f, LM_F32 });
    float *want = malloc((size_t)(d.n * hd) * 4);
    T_OP_KERNELS(&lm_op_attn, k) for (int t = 0; t < LM_COUNT(sick); t++) {
        lm_call c = dense_call(&d);
        LM_CHECK_OK(ctx, t_op_run(k, &c, ctx));
        memcpy(want, d.o, (size_t)(d.n * hd) * 4);
        float keep[2][32];
        const int64_t at = sick[t];
        memcpy(keep[0], d.k + at * kd, sizeof keep[0]); memcpy(keep[1], d.v + at * kd, sizeof keep[1]);
        for (int64_t x = 0; x < kd; x++) d.k[at * kd + x] = d.v[at * kd + x] = NAN;
        LM_CHECK_OK(ctx, t_op_run(k, &c, ctx));
        int bad = 0;
        for (int64_t i = 0; i < d.n; i++) {
            bool sees = i >= at && i < at + 33 && d.start[i] <= at;
            for (int64_t x = 0; x < hd; x++) bad += sees ? !isnan(d.o[i * hd + x]) : d.o[i * hd + x] != want[i * hd + x];
        }
        LM_CHECK(!bad);
        memcpy(d.k + at * kd, keep[0], sizeof keep[0]); memcpy(d.v + at * kd, keep[1], sizeof keep[1]);
    }
    free(want); dense_free(&d); lm_ctx_free(ctx);
}

/* attn_grad's reference is the derivative of attn's reference: central differences along random directions. */
static void test_gradient(void) {
    const int64_t len[] = { 9, 21 };
    const lm_attn_p p = { 4, 2, 6, 13, 0.6f, LM_F32 };
    dense d = dense_new(2, len, p);
    const int64_t n = d.n, hd = 24, kd = 12, size[3] = { n * hd, n * kd, n * kd };
    const float *src[3] = { d.q, d.k, d.v };
    double *x[3], *dir[3], *g[3], *go = malloc((size_t)(n * hd) * 8), *gl = malloc((size_t)(n * 4) * 8), *o = malloc((size_t)(n * hd) * 8),
                                  *lse = malloc((size_t)(n * 4) * 8);
    for (int i = 0; i < 3; i++) { x[i] = malloc((size_t)size[i] * 8); dir[i] = malloc((size_t)size[i] * 8); g[i] = malloc((size_t)size[i] * 8); }
    for (int64_t k = 0; k < n * hd; k++) go[k] = t_op_uniform() - 0.5;
    for (int64_t k = 0; k < n * 4; k++) gl[k] = t_op_uniform() - 0.5;
    lm_call c = dense_call(&d);
    for (int i = 0; i < 3; i++) c.in[i] = t_op_2d(x[i], LM_F64, n, i ? kd : hd);
    c.out[0] = t_op_2d(o, LM_F64, n, hd); c.out[1] = t_op_2d(lse, LM_F64, n, 4);
    for (int which = 0; which < 3; which++) {
        double f[2], want = 0;
        for (int i = 0; i < 3; i++) for (int64_t k = 0; k < size[i]; k++) dir[i][k] = i == which ? t_op_uniform() - 0.5 : 0;
        for (int side = 0; side < 3; side++) {                            /* 2: at the point itself, for the gradient */
            for (int i = 0; i < 3; i++)
                for (int64_t k = 0; k < size[i]; k++) x[i][k] = (double)src[i][k] + (side == 2 ? 0 : side ? 1e-5 : -1e-5) * dir[i][k];
            lm_op_attn.ref(&c);
            if (side == 2) break;
            f[side] = 0;
            for (int64_t k = 0; k < n * hd; k++) f[side] += go[k] * o[k];
            for (int64_t k = 0; k < n * 4; k++) f[side] += gl[k] * lse[k];
        }
        lm_call gc = c;
        gc.n_in = 8;
        gc.n_out = 3;
        gc.in[4] = c.out[0];
        gc.in[5] = c.out[1];
        gc.in[6] = t_op_2d(go, LM_F64, n, hd);
        gc.in[7] = t_op_2d(gl, LM_F64, n, 4);
        for (int i = 0; i < 3; i++) gc.out[i] = t_op_2d(g[i], LM_F64, n, i ? kd : hd);
        lm_op_attn_grad.ref(&gc);
        for (int64_t k = 0; k < size[which]; k++) want += g[which][k] * dir[which][k];
        LM_CHECK_NEAR((f[1] - f[0]) / 2e-5, want, 1e-8 * (1 + fabs(want)));
    }
    for (int i = 0; i < 3; i++) { free(x[i]); free(dir[i]); free(g[i]); }
    free(go); free(gl); free(o); free(lse); dense_free(&d);
}

/* Kernels, forward and backward, against torch (tests/fixtures/attn.safetensors). */
static void test_against_torch(void) {
    lm_ctx *ctx = new_ctx(2); lm_st *st;
    LM_NEED_OK(ctx, lm_st_open(&st, ctx, LM_FIXTURES "/attn.safetensors"));
    const char *text = lm_st_meta(st, "cases");
    int seen = 0;
    for (; text; seen++, text = strchr(text, ';') ? strchr(text, ';') + 1 : NULL) {
        char name[40], full[64]; long long window; double scale;
        lm_attn_p p = { .mm = LM_F32 };
        LM_CHECK(sscanf(text, "%39s %d %d %d %lld %lf", name, &p.n_head, &p.n_kv, &p.d_head, &window, &scale) == 6);
        p.window = window; p.scale = (float)scale;
        static const char *const part[10] = { "q", "k", "v", "start", "go", "o", "lse", "dq", "dk", "dv" };
        void *data[10]; int64_t n = 0, size[10];
        for (int i = 0; i < 10; i++) {
            const lm_st_tensor *t;
            snprintf(full, sizeof full, "%s.%s", name, part[i]);
            LM_NEED_OK(ctx, lm_st_need(st, full, &t));
            data[i] = malloc((size_t)t->bytes); size[i] = t->bytes / 4; n = t->dim[0];
            LM_CHECK_OK(ctx, lm_st_read(st, t, data[i], 0, t->bytes));
        }
        const int64_t hd = p.n_head * p.d_head, kd = p.n_kv * p.d_head;
        dense d = { .n = n,
                    .p = p,
                    .q = data[0],
                    .k = data[1],
                    .v = data[2],
                    .start = data[3],
                    .o = t_op_floats(n * hd),
                    .lse = t_op_floats(n * p.n_head) };
        float *got[5] = { d.o, d.lse, t_op_floats(n * hd), t_op_floats(n * kd), t_op_floats(n * kd) };
        T_OP_KERNELS(&lm_op_attn, k) T_OP_KERNELS(&lm_op_attn_grad, gk) if (gk->needs == k->needs) {
            lm_call c = dense_call(&d), g = c;
            LM_CHECK_OK(ctx, t_op_run(k, &c, ctx));
            g.op = &lm_op_attn_grad; g.n_in = 7; g.n_out = 3; g.in[4] = c.out[0]; g.in[5] = c.out[1]; g.in[6] = t_op_2d(data[4], LM_F32, n, hd);
            for (int i = 0; i < 3; i++) g.out[i] = t_op_2d(got[2 + i], LM_F32, n, i ? kd : hd);
            LM_CHECK_OK(ctx, t_op_run(gk, &g, ctx));
            for (int i = 0; i < 5; i++) {
                double off = 0, all = 0;
                for (int64_t x = 0; x < size[5 + i]; x++) {
                    double w = (double)((float *)data[5 + i])[x], e = (double)got[i][x] - w;
                    off += e * e;
                    all += w * w;
                }
                LM_CHECK_NEAR(sqrt(off / all), 0, 1e-6);
            }
        }
        for (int i = 0; i < 10; i++) free(data[i]);
        for (int i = 0; i < 5; i++) free(got[i]);
    }
    LM_CHECK(seen == 4);
    lm_st_close(st); lm_ctx_free(ctx);
}

/* Pointers out of the pool are refused, not followed. */
static void test_out_of_range(void) {
    lm_ctx *ctx = new_ctx(1);
    float q[16] = {0}, o[16], pool[2 * 64 * 16] = {0}, pool2[2 * 64 * 16] = {0};
    const lm_attn_p p = { 1, 1, 16, 0, 1, LM_F32 };
    static const struct { int32_t table[2], seq, pos; lm_err want;
    } rows[] = { { { 0, 1 }, 0, 127, LM_OK },     { { 0, 1 }, 0, 128, LM_E_RANGE }, { { 0, 2 }, 0, 64, LM_E_RANGE },
                 { { 0, 2 }, 0, 63, LM_OK },      { { -1, 0 }, 0, 3, LM_E_RANGE },  { { 0, 1 }, 1, 3, LM_E_RANGE },
                 { { 0, 1 }, -1, 3, LM_E_RANGE }, { { 0, 1 }, -1, -1, LM_OK },      { { 0, 1 }, 0, INT32_MAX, LM_E_RANGE } };
    lm_tensor kp = lm_tensor_of(pool, LM_F32, 4, (int64_t[]){ 2, 1, 64, 16 }), vp = kp;
    vp.data = pool2;
    T_OP_KERNELS(&lm_op_attn_paged, k)
        for (int i = 0; i < LM_COUNT(rows) && !strstr(k->name, ".int."); i++) {
            int32_t table[2] = { rows[i].table[0], rows[i].table[1] }, seq = rows[i].seq, pos = rows[i].pos;
            lm_call c = { .op = &lm_op_attn_paged,
                          .p = &p,
                          .n_in = 6,
                          .n_out = 1,
                          .out = { t_op_2d(o, LM_F32, 1, 16) },
                          .in = { t_op_2d(q, LM_F32, 1, 16), kp, vp, t_op_2d(table, LM_I32, 1, 2), t_op_1d(&seq, LM_I32, 1),
                                  t_op_1d(&pos, LM_I32, 1) } };
            LM_CHECK(t_op_run(k, &c, ctx) == rows[i].want);
        }
    int32_t slot = 128;
    lm_call w = { .op = &lm_op_kv_write,
                  .p = &(lm_kv_write_p){ 1, 16 },
                  .n_in = 5,
                  .n_out = 2,
                  .in = { kp, vp, t_op_2d(q, LM_F32, 1, 16), t_op_2d(q, LM_F32, 1, 16), t_op_1d(&slot, LM_I32, 1) },
                  .out = { kp, vp } };
    LM_CHECK(t_op_run(lm_op_kv_write.kernels[0], &w, ctx) == LM_E_RANGE);
    lm_type out[2];
    lm_call bad = { .op = &lm_op_attn, .p = &(lm_attn_p){ 3, 2, 16, 0, 1, LM_F32 }, .n_in = 4, .n_out = 2 };
    LM_CHECK_ERR(ctx, lm_op_attn.shape(ctx, &bad, out), LM_E_SHAPE, "3 heads over 2 kv heads");
    bad.p = &(lm_attn_p){ 2, 2, 258, 0, 1, LM_F32 };
    LM_CHECK_ERR(ctx, lm_op_attn.shape(ctx, &bad, out), LM_E_SHAPE, "d_head is 258");
    lm_ctx_free(ctx);
}
/* No rows: nothing to do, in every kernel. */
static void test_no_rows(void) {
    lm_ctx *ctx = new_ctx(2);
    const lm_attn_p p = { 2, 1, 16, 0, 1, LM_F32 };
    dense d = dense_new(1, &(int64_t){ 0 }, p);
    lm_call c = dense_call(&d), g = c;
    T_OP_KERNELS(&lm_op_attn, k) LM_CHECK_OK(ctx, t_op_run(k, &c, ctx));
    g.n_in = 7; g.n_out = 3; g.in[4] = c.out[0]; g.in[5] = c.out[1]; g.in[6] = c.out[0]; g.out[0] = c.in[0]; g.out[1] = c.in[1]; g.out[2] = c.in[2];
    T_OP_KERNELS(&lm_op_attn_grad, k) LM_CHECK_OK(ctx, t_op_run(k, &g, ctx));
    dense_free(&d); lm_ctx_free(ctx);
}
LM_TEST_MAIN(LM_T1(test_paged_is_dense), LM_T1(test_blocks), LM_T1(test_threads_and_views), LM_T1(test_any_start), LM_T1(test_nan_stays), LM_T1(test_gradient),
             LM_T1(test_against_torch), LM_T1(test_out_of_range), LM_T1(test_no_rows))
