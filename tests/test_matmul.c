/* The promises of matmul that a tolerance cannot show: one chain of additions per element, whatever the shape, tile, layout or transposition. */
#include "test.h"
#include "device/cpu.h"
#include "op/matmul/matmul.h"
#include "op/matmul/gemm.h"
#include "op/matmul_each/matmul_each.h"

typedef struct { lm_call c; lm_matmul_p p; float *a, *b, *o; uint16_t *h; void *panel; } prob_t;
static lm_ctx *ctx;
static void *get(size_t n) { void *p = NULL; if (posix_memalign(&p, 64, n ? n : 64)) abort(); return p; }

static void run(const lm_kernel *k, lm_call *c) {
    void *shared = get(k->shared_bytes ? k->shared_bytes(c) : 0), *scratch = get(k->thread_bytes ? k->thread_bytes(c) : 0);
    c->shared = shared;
    const int64_t reps = k->repeat ? k->repeat(c) : 1;
    for (c->iter = 0; c->iter < reps; c->iter++)
        for (int f = 0; f < k->n_phase; f++)
            for (int64_t i = k->phase[f].tiles(c) - 1; i >= 0; i--) LM_CHECK_OK(ctx, k->phase[f].run(c, i, scratch));
    free(shared); free(scratch);
}
static void fill(float *x, int64_t n, const char *name) {
    const lm_rng r = lm_rng_of(7, name);
    for (int64_t i = 0; i < n; i++) x[i] = lm_rng_normal(r, (uint64_t)i);
}
static lm_call call_of(const lm_matmul_p *p, lm_tensor a, lm_tensor b, float *o, int64_t M, int64_t N) {
    return (lm_call){ .op = &lm_op_matmul,
                      .p = p,
                      .n_in = 2,
                      .n_out = 1,
                      .in = { a, b },
                      .out = { lm_tensor_of(o, LM_F32, 2, (int64_t[]){ M, N }) },
                      .ctx = ctx };
}
static lm_tensor mat(void *d, lm_dtype t, int64_t r, int64_t c) { return lm_tensor_of(d, t, 2, (int64_t[]){ r, c }); }
/* A stored as it is or transposed: the same numbers. */
static float *transposed(const float *x, int64_t r, int64_t c) {
    float *y = get((size_t)(r * c) * 4);
    for (int64_t i = 0; i < r; i++) for (int64_t j = 0; j < c; j++) y[j * r + i] = x[i * c + j];
    return y;
}

/* Every kernel of every instruction set of this machine, f(kernel). */
static void each_kernel(lm_call *c, void (*f)(const lm_kernel *k, void *ud), void *ud) {
    const uint64_t have = lm_cpu_features();
    for (int i = 0; lm_op_matmul.kernels[i]; i++)
        for (const lm_kernel *k = lm_op_matmul.kernels[i]; k->name; k++)
            if (k->device == LM_DEV_CPU && !(k->needs & ~have) && k->accepts(c)) f(k, ud);
}

enum { M = 37, N = 83, K = 601 };
static struct { float *a, *at, *b, *bt, *want, *o; lm_tensor pb, px; const lm_matmul_p *p; } s;

/* The chain written out: fma over k, bf16 operands rounded where the order says so. */
static void naive(const char *order, bool round) {
    const bool fma = strstr(order, "fma");
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++) {
            float t = 0;
            for (int64_t k = 0; k < K; k++) {
                float x = s.a[m * K + k], y = s.b[n * K + k];
                if (round) { x = lm_bf16_to_f32(lm_f32_to_bf16(x)); y = lm_bf16_to_f32(lm_f32_to_bf16(y)); }
                if (fma) t = fmaf(x, y, t);
                else { volatile float q = x * y; t = t + q; }
            }
            s.want[m * N + n] = t;
        }
}
static void same(const lm_kernel *k, const char *what, const float *want, const float *got, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&want[i], &got[i], 4)) {
            LM_CHECK(!"bits differ");
            printf("    %s: %s: [%lld] %.9g, wanted %.9g\n", k->name, what, (long long)i, got[i], want[i]);
            return;
        }
}
static void all_ways(const lm_kernel *k, void *ud) {
    (void)ud;
    const lm_dtype mm = s.p->mm;
    lm_matmul_p p = { .tb = true, .mm = mm };
    lm_call c = call_of(&p, mat(s.a, LM_F32, M, K), mat(s.b, LM_F32, N, K), s.o, M, N);
    if (strstr(k->order, "fma.k") || strstr(k->order, "mad.k")) naive(k->order, mm == LM_BF16);
    else { run(k, &c); memcpy(s.want, s.o, M * N * 4); }
    const float *a[2] = { s.a, s.at }, *b[2] = { s.bt, s.b };
    for (int ta = 0; ta < 2; ta++) for (int tb = 0; tb < 2; tb++) {
        p = (lm_matmul_p){ .ta = ta, .tb = tb, .mm = mm };
        c = call_of(&p, ta ? mat((void *)(uintptr_t)a[1], LM_F32, K, M) : mat((void *)(uintptr_t)a[0], LM_F32, M, K),
                    tb ? mat((void *)(uintptr_t)b[1], LM_F32, N, K) : mat((void *)(uintptr_t)b[0], LM_F32, K, N), s.o, M, N);
        run(k, &c); same(k, ta ? tb ? "tt" : "tn" : tb ? "nt" : "nn", s.want, s.o, M * N);
    }
    /* fewer rows, fewer columns, panels of both kinds, straight and crossed */
    const int64_t ms[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 33 };
    for (int w = 0; w < 3; w++) {
        lm_tensor b2 = w == 0 ? mat(s.b, LM_F32, N, K) : w == 1 ? s.pb : s.px;
        if (w == 2 && mm != LM_BF16) continue;                        /* bf16 panels hold rounded numbers */
        for (int i = 0; i < LM_COUNT(ms); i++) {
            p = (lm_matmul_p){ .tb = true, .mm = mm };
            c = call_of(&p, mat(s.a + 3 * K, LM_F32, ms[i], K), b2, s.o, ms[i], N);
            run(k, &c); same(k, w == 0 ? "rows nt" : w == 1 ? "rows panel16" : "rows panel16x2", s.want + 3 * N, s.o, ms[i] * N);
        }
    }
    p = (lm_matmul_p){ .tb = true, .mm = mm };
    c = call_of(&p, mat(s.a, LM_F32, M, K), mat(s.b + 20 * K, LM_F32, 41, K), s.o, M, 41);
    run(k, &c);
    for (int64_t m = 0; m < M; m++) same(k, "columns", s.want + m * N + 20, s.o + m * 41, 41);
}
static void setup(void) {
    s.a = get(M * K * 4); s.b = get(N * K * 4); s.want = get(M * N * 4); s.o = get(M * N * 4);
    fill(s.a, M * K, "a"); fill(s.b, N * K, "b");
    s.at = transposed(s.a, M, K); s.bt = transposed(s.b, N, K);
    for (int w = 0; w < 2; w++) {
        size_t bytes; lm_tensor t = mat(NULL, w ? LM_BF16 : LM_F32, N, K); t.layout = w ? LM_PANEL16X2 : LM_PANEL16;
        LM_CHECK(lm_storage_bytes((lm_dtype)t.dtype, NULL, (lm_layout)t.layout, 2, t.dim, &bytes));
        t.data = get(bytes); memset(t.data, 0, bytes); lm_layout_put_rows(&t, 0, N, s.b);
        *(w ? &s.px : &s.pb) = t;
    }
}
static void teardown(void) { free(s.a); free(s.at); free(s.b); free(s.bt); free(s.want); free(s.o); free(s.pb.data); free(s.px.data); }

static void test_one_chain(void) {
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, NULL));
    setup();
    for (int i = 0; i < 2; i++) {
        const lm_matmul_p p = { .tb = true, .mm = i ? LM_BF16 : LM_F32 };
        s.p = &p;
        lm_call c = call_of(&p, mat(s.a, LM_F32, M, K), mat(s.b, LM_F32, N, K), s.o, M, N);
        each_kernel(&c, all_ways, NULL);
    }
    teardown(); lm_ctx_free(ctx);
}

/* dB of a product whose result feeds a panel weight: reading the weight the other way (crossed) equals reading its plain form. */
static void crossed(const lm_kernel *k, void *ud) {
    lm_call *c = ud;
    const lm_matmul_p *p = c->p;
    float *o1 = get(M * K * 4), *o2 = get(M * K * 4);
    lm_call x = *c; x.out[0].data = o1; run(k, &x);
    x = call_of(p, c->in[0], mat(s.b, LM_F32, N, K), o2, M, K); run(k, &x);
    same(k, "crossed panel", o2, o1, M * K);
    free(o1); free(o2);
}
static void test_crossed(void) {
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, NULL));
    setup();
    for (int i = 0; i < 3; i++) {
        const lm_matmul_p p = { .mm = i ? LM_BF16 : LM_F32 };
        lm_call c = call_of(&p, mat(s.a, LM_F32, M, N), i == 2 ? s.px : s.pb, NULL, M, K);   /* (M,N)·(N,K): the first M*N numbers of a serve as dy */
        each_kernel(&c, crossed, &c);
    }
    teardown(); lm_ctx_free(ctx);
}

/* Adding into C starts the same chain at C; the bias comes last. */
static void adds(const lm_kernel *k, void *ud) {
    lm_call *c = ud;
    float *first = get(M * N * 4), bias[N];
    fill(bias, N, "bias");
    lm_call x = *c; x.out[0].data = first; run(k, &x);
    const bool chain = strstr(k->order, "fma.k") != NULL && ((const lm_matmul_p *)c->p)->mm == LM_F32;
    if (chain) {
        fill(s.o, M * N, "c");
        for (int64_t i = 0; i < M * N; i++) {
            float t = s.o[i];
            for (int64_t q = 0; q < K; q++) t = fmaf(s.a[i / N * K + q], s.b[i % N * K + q], t);
            s.want[i] = t;
        }
        x = *c; x.acc = 1; run(k, &x); same(k, "acc", s.want, s.o, M * N);
    }
    for (int64_t i = 0; i < M * N; i++) s.want[i] = first[i] + bias[i % N];
    x = *c; x.n_in = 3; x.in[2] = lm_tensor_of(bias, LM_F32, 1, (int64_t[]){ N }); run(k, &x); same(k, "bias", s.want, s.o, M * N);
    free(first);
}
static void test_acc_and_bias(void) {
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, NULL));
    setup();
    for (int i = 0; i < 2; i++) {
        const lm_matmul_p p = { .tb = true, .mm = i ? LM_BF16 : LM_F32 };
        lm_call c = call_of(&p, mat(s.a, LM_F32, M, K), mat(s.b, LM_F32, N, K), s.o, M, N);
        each_kernel(&c, adds, &c);
    }
    teardown(); lm_ctx_free(ctx);
}

/* Large enough for several rows of tiles, blocks of k and strips of a transposed A, ragged everywhere: B packed for all tiles, block by
 * block, C added to in between. */
enum { TM = 531, TN = 437, TK = 803 };
static struct { float *a, *at, *b, *bt, *first, *o, bias[TN]; } big;
static void tiles_agree(const lm_kernel *k, void *ud) {
    const lm_dtype mm = *(const lm_dtype *)ud;
    const char *ways[] = { "tiles nn", "tiles nt", "tiles tn", "tiles tt" };
    float *c0 = get((size_t)TM * TN * 4);
    fill(c0, TM * TN, "c");
    for (int w = 0; w < 4; w++) {
        const bool ta = w & 2, tb = w & 1;
        const lm_matmul_p p = { .ta = ta, .tb = tb, .mm = mm };
        lm_call c = call_of(&p, ta ? mat(big.at, LM_F32, TK, TM) : mat(big.a, LM_F32, TM, TK),
                            tb ? mat(big.b, LM_F32, TN, TK) : mat(big.bt, LM_F32, TK, TN), big.o, TM, TN);
        c.n_in = 3; c.in[2] = lm_tensor_of(big.bias, LM_F32, 1, (int64_t[]){ TN }); c.acc = 1;
        memcpy(big.o, c0, (size_t)TM * TN * 4);
        run(k, &c);
        if (w == 0) memcpy(big.first, big.o, (size_t)TM * TN * 4);
        else same(k, ways[w], big.first, big.o, (int64_t)TM * TN);
    }
    if (strstr(k->order, "fma.k"))
        for (int64_t m = 0; m < TM; m += 29)
            for (int64_t n = 0; n < TN; n += 7) {
                float t = c0[m * TN + n];
                for (int64_t q = 0; q < TK; q++) {
                    float x = big.a[m * TK + q], y = big.b[n * TK + q];
                    if (mm == LM_BF16) { x = lm_bf16_to_f32(lm_f32_to_bf16(x)); y = lm_bf16_to_f32(lm_f32_to_bf16(y)); }
                    t = fmaf(x, y, t);
                }
                t += big.bias[n];
                same(k, "tiles, chain", &t, &big.first[m * TN + n], 1);
            }
    free(c0);
}
static void test_tiles(void) {
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, NULL));
    big.a = get(TM * TK * 4); big.b = get(TN * TK * 4); big.first = get(TM * TN * 4); big.o = get(TM * TN * 4);
    fill(big.a, TM * TK, "a"); fill(big.b, TN * TK, "b"); fill(big.bias, TN, "bias");
    big.at = transposed(big.a, TM, TK); big.bt = transposed(big.b, TN, TK);
    for (int i = 0; i < 2; i++) {
        lm_dtype mm = i ? LM_BF16 : LM_F32;
        const lm_matmul_p p = { .tb = true, .mm = mm };
        lm_call c = call_of(&p, mat(big.a, LM_F32, TM, TK), mat(big.b, LM_F32, TN, TK), big.o, TM, TN);
        each_kernel(&c, tiles_agree, &mm);
    }
    free(big.a); free(big.at); free(big.b); free(big.bt); free(big.first); free(big.o);
    lm_ctx_free(ctx);
}

/* Q8_0: exact integers inside a block, blocks added in order: written out in plain C. */
static void q8_chain(const lm_kernel *k, void *ud) {
    lm_call *c = ud;
    enum { QM = 19, QN = 45, QK = 192 };
    static float want[QM * QN], got[QM * QN];
    const uint8_t *wq = c->in[1].data; const float *xs = c->in[0].data;
    const bool fma = !strstr(k->order, "mad");
    for (int m = 0; m < QM; m++) for (int n = 0; n < QN; n++) {
        float acc = 0;
        for (int b = 0; b < QK / 32; b++) {
            const uint8_t *w = wq + (n * (QK / 32) + b) * 34;
            uint16_t h; memcpy(&h, w, 2);
            float top = 0;
            for (int i = 0; i < 32; i++) top = fmaxf(top, fabsf(xs[m * QK + b * 32 + i]));
            int sum = 0;
            for (int i = 0; i < 32; i++) sum += (int)rintf(xs[m * QK + b * 32 + i] * (top > 0 ? 127.0f / top : 0)) * (int8_t)w[2 + i];
            volatile float d = top / 127.0f * lm_f16_to_f32(h), t = d * (float)sum;
            acc = fma ? fmaf(d, (float)sum, acc) : acc + t;
        }
        want[m * QN + n] = acc;
    }
    for (int m = 1; m <= QM; m += 6) {
        c->in[0].dim[0] = c->out[0].dim[0] = m; c->out[0].data = got;
        run(k, c); same(k, "q8 chain", want, got, m * QN);
    }
}
static void test_q8_chain(void) {
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, NULL));
    static float xs[19 * 192], ws[192]; static uint8_t q[45 * 6 * 34];
    const lm_matmul_p p = { .tb = true, .mm = LM_I8 };
    fill(xs, 19 * 192, "x");
    for (int i = 0; i < 32; i++) xs[2 * 192 + i] = 0;                       /* a block of zeros */
    lm_call c = call_of(&p, mat(xs, LM_F32, 19, 192), mat(q, LM_QUANT, 45, 192), NULL, 19, 45);
    c.in[1].quant = lm_quant_by_name("Q8_0");
    for (int n = 0; n < 45; n++) { fill(ws, 192, n % 2 ? "w1" : "w0"); ws[n] *= 3; lm_quant_row_put(&c.in[1], n, ws); }
    for (int b = 0; b < 6; b++) { q[b * 34 + 2] = 0x80; q[b * 34 + 9] = 0x7f; }      /* -128 is legal in a file */
    each_kernel(&c, q8_chain, &c);
    lm_ctx_free(ctx);
}

/* One input times each of several weights: the bits of products by themselves, and where tiles say that they read is where the weights lie. */
enum { EM = 75, EK = 768, EN = 150 };
static void spans(const lm_kernel *k, const lm_call *c, int weights) {
    const lm_phase *ph = &k->phase[k->n_phase - 1];
    const int64_t n = ph->tiles(c);
    lm_span all[LM_SPANS], part[LM_SPANS];
    const int have = ph->reads(c, 0, n, all);
    if (!have) { LM_CHECK(c->in[0].dim[0] > 8 || c->in[1].layout == LM_PLAIN); return; }
    LM_CHECK(have == weights);
    for (int w = 0; w < have; w++) {
        size_t bytes;
        const lm_tensor *t = &c->in[1 + w];
        lm_storage_bytes(LM_QUANT, t->quant, LM_PANEL16, 2, t->dim, &bytes);
        LM_CHECK(all[w].p == (const char *)t->data && all[w].end == all[w].p + bytes);
    }
    const char *at = all[0].p;
    int w = 0;
    for (int64_t i = 0; i < n; i++) {                                       /* tile after tile, nothing left out */
        const int got = ph->reads(c, i, i + 1, part);
        LM_CHECK(got == 1);
        if (at == all[w].end) at = all[++w].p;
        LM_CHECK(part[0].p == at && part[0].end > at && part[0].end <= all[w].end);
        at = part[0].end;
    }
    LM_CHECK(w == have - 1 && at == all[w].end);
}
static void test_each(void) {
    static const char *const formats[][3] = { { "Q8_0", "Q4_0", "Q5_1" }, { "Q4_1", "Q4_1", NULL }, { "Q4_K", "Q4_K", "Q6_K" }, { "Q5_K", "Q6_K", NULL },
                                              { "IQ4_NL", "Q5_0", NULL } };
    static const int64_t cols[3] = { EN, 33, 16 }, rows[] = { 1, 3, 8, 9, 40, EM };
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, NULL));
    const uint64_t have = lm_cpu_features();
    float *x = get(EM * EK * 4), *w = get(EN * EK * 4), *want = get(EM * EN * 4), *got[3], bias[EN];
    fill(x, EM * EK, "x"); fill(w, EN * EK, "w"); fill(bias, EN, "bias");
    for (int i = 0; i < 3; i++) got[i] = get(EM * EN * 4);
    int kernels = 0;
    for (int f = 0; f < LM_COUNT(formats); f++)
        for (int panels = 0; panels < 2; panels++) {
            const lm_matmul_p p = { .tb = true, .mm = LM_I8 };
            const int n = formats[f][2] ? 3 : 2;
            lm_call c = { .op = &lm_op_matmul_each, .p = &p, .n_in = 1 + n, .n_out = 3, .ctx = ctx };
            void *data[3] = { NULL, NULL, NULL };
            c.in[0] = mat(x, LM_F32, EM, EK);
            for (int i = 0; i < n; i++) {
                size_t bytes;
                lm_tensor *t = &c.in[1 + i];
                *t = mat(NULL, LM_QUANT, cols[i], EK);
                t->quant = lm_quant_by_name(formats[f][i]); t->layout = panels ? LM_PANEL16 : LM_PLAIN;
                lm_storage_bytes(LM_QUANT, t->quant, (lm_layout)t->layout, 2, t->dim, &bytes);
                t->data = data[i] = get(bytes); memset(data[i], 0, bytes);
                for (int64_t r = 0; r < cols[i]; r++) lm_quant_row_put(t, r, w + (r * 7 + i) % EN * EK);
                c.out[i] = mat(got[i], LM_F32, EM, cols[i]);
            }
            if (f % 2) { c.n_in = 5; c.in[4] = lm_tensor_of(bias, LM_F32, 1, &cols[0]); }       /* of the first product */
            for (int a = 0; lm_op_matmul_each.kernels[a]; a++)
                for (const lm_kernel *k = lm_op_matmul_each.kernels[a]; k->name; k++) {
                    if (k->needs & ~have || !k->accepts(&c)) continue;
                    kernels++;
                    for (int r = 0; r < LM_COUNT(rows); r++) {
                        c.in[0].dim[0] = rows[r];
                        for (int i = 0; i < n; i++) { c.out[i].dim[0] = rows[r]; memset(got[i], 0xff, EM * EN * 4); }
                        spans(k, &c, n);
                        run(k, &c);
                        for (int i = 0; i < n; i++) {
                            lm_call one = call_of(&p, c.in[0], c.in[1 + i], want, rows[r], cols[i]);
                            if (!i && c.n_in == 5) { one.n_in = 3; one.in[2] = c.in[4]; }
                            bool found = false;
                            for (int b = 0; lm_op_matmul.kernels[b] && !found; b++)
                                for (const lm_kernel *q = lm_op_matmul.kernels[b]; q->name && !found; q++)
                                    if (q->device == LM_DEV_CPU && q->needs == k->needs && !strcmp(q->order, k->order) && q->accepts(&one)) { run(q, &one); found = true; }
                            LM_CHECK(found);
                            same(k, "each", want, got[i], rows[r] * cols[i]);
                        }
                    }
                }
            for (int i = 0; i < 3; i++) free(data[i]);
        }
    LM_CHECK(kernels >= LM_COUNT(formats) * 2);
    free(x); free(w); free(want); for (int i = 0; i < 3; i++) free(got[i]);
    lm_ctx_free(ctx);
}

static void test_shapes_refuse(void) {
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, NULL));
    lm_type out[LM_MAX_OUT]; float x;
    const lm_matmul_p p = { .tb = true };
    lm_call c = call_of(&p, mat(NULL, LM_F32, 3, 4), mat(NULL, LM_F32, 5, 6), &x, 3, 5);
    LM_CHECK_ERR(ctx, lm_op_matmul.shape(ctx, &c, out), LM_E_SHAPE, "4 in input 0, 6 in input 1");
    c.in[1] = mat(NULL, LM_I32, 5, 4);
    LM_CHECK_ERR(ctx, lm_op_matmul.shape(ctx, &c, out), LM_E_SHAPE, "input 1");
    c.in[1] = mat(NULL, LM_F32, 5, 4); c.in[1].dtype = LM_QUANT;
    const lm_matmul_p q = { 0 }; c.p = &q;
    LM_CHECK_ERR(ctx, lm_op_matmul.shape(ctx, &c, out), LM_E_SHAPE, "quantized");
    lm_ctx_free(ctx);
}
LM_TEST_MAIN(LM_T1(test_one_chain), LM_T1(test_crossed), LM_T1(test_acc_and_bias), LM_T1(test_tiles), LM_T1(test_q8_chain), LM_T1(test_each), LM_T1(test_shapes_refuse))
