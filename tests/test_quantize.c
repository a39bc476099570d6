/* test_quantize.c — mixes, importance matrices, and models written in quantized formats: the same bytes for any threads, nothing half-written. */
#include <unistd.h>
#include "base/file.h"
#include "model/model_quantize.h"
#include "test.h"

static lm_ctx *ctx;
static char t_dir[512];
static void begin(void) {
    const char *tmp = getenv("TMPDIR");
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 })) abort();
    snprintf(t_dir, sizeof t_dir, "%s/loam-test-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(t_dir)) abort();
}
static void end(void) { LM_CHECK_OK(ctx, lm_dir_remove(ctx, t_dir)); lm_ctx_free(ctx); }
static const char *at(const char *name) {
    static char buf[8][640]; static int k;
    char *p = buf[k++ % 8];
    snprintf(p, sizeof buf[0], "%s/%s", t_dir, name);
    return p;
}

/* ---- mixes --------------------------------------------------------------------------------------------------------------- */
/* One letter per layer (2-6: Q2_K … Q6_K, 8: Q8_0, 0 1: Q4_0 Q4_1, N X: IQ4) as llama.cpp gives them, read off its rules by hand for 16 layers. */
static char letter(const lm_quant *q) {
    return !q ? 'h' : !strcmp(q->name, "IQ4_NL") ? 'N' : !strcmp(q->name, "IQ4_XS") ? 'X' : q->name[3] == 'K' ? q->name[1] : !strcmp(q->name, "Q8_0") ? '8'
         : !strcmp(q->name, "Q5_0") ? 'f' : !strcmp(q->name, "Q5_1") ? 'F' : q->name[3];
}
static void row_is(const char *mix, const char *tensor, int64_t cols, int64_t gqa, bool importance, const char *want) {
    char got[32] = "", name[64];
    const lm_mix *m = lm_mix_by_name(mix);
    const int n = (int)strlen(want);
    LM_CHECK(m != NULL);
    for (int i = 0; m && i < n; i++) {
        const lm_quant *wanted;
        snprintf(name, sizeof name, "blk.%d.%s.weight", i, tensor);
        got[i] = letter(lm_mix_pick(m, &(lm_mix_at){ name, cols, i, n, gqa, true, importance }, &wanted));
    }
    if (strcmp(got, want)) printf("%s %s: ", mix, tensor);
    LM_CHECK_STR(got, want);
}
static char head_of(const char *mix, const char *tensor, int64_t cols, bool tied) {
    const lm_quant *wanted;
    return letter(lm_mix_pick(lm_mix_by_name(mix), &(lm_mix_at){ tensor, cols, -1, 16, 1, tied, false }, &wanted));
}
static void mixes(void) {
    row_is("Q4_K_M", "attn_v", 512, 1, false, "6644644644644666");
    row_is("Q4_K_M", "ffn_down", 1536, 1, false, "6644644644644666");
    row_is("Q4_K_M", "attn_q", 512, 1, false, "4444444444444444");
    row_is("Q4_K_M", "ffn_down", 1376, 1, false, "88ff8ff8ff8ff888");           /* 43 · 32: no whole super-blocks */
    row_is("Q4_K_M", "ffn_down", 172, 1, false, "hhhhhhhhhhhhhhhh");
    row_is("Q4_K_S", "attn_v", 512, 1, false, "5555444444444444");
    row_is("Q4_K_S", "ffn_down", 512, 1, false, "5544444444444444");
    row_is("Q5_K_M", "attn_v", 512, 1, false, "6655655655655666");
    row_is("Q5_K_M", "ffn_up", 544, 1, false, "FFFFFFFFFFFFFFFF");
    row_is("Q3_K_M", "attn_v", 512, 1, false, "5544444444444444");
    row_is("Q3_K_M", "ffn_down", 512, 1, false, "5444444444444444");
    row_is("Q3_K_M", "attn_output", 512, 1, false, "4444444444444444");
    row_is("Q3_K_L", "ffn_down", 512, 1, false, "5555555555555555");
    row_is("Q2_K", "attn_v", 512, 2, false, "3333333333333333");
    row_is("Q2_K", "attn_v", 512, 4, false, "4444444444444444");
    row_is("Q2_K", "ffn_gate", 512, 4, false, "2222222222222222");
    row_is("Q2_K", "attn_output", 512, 4, false, "3333333333333333");
    row_is("Q2_K", "ffn_gate", 544, 4, false, "0000000000000000");
    row_is("IQ4_XS", "ffn_down", 512, 1, false, "55XXXXXXXXXXXXXX");
    row_is("IQ4_XS", "ffn_down", 512, 1, true, "XXXXXXXXXXXXXXXX");
    row_is("IQ4_XS", "ffn_up", 544, 1, true, "NNNNNNNNNNNNNNNN");
    row_is("Q4_0", "ffn_down", 512, 1, true, "1100000000000000");
    row_is("Q4_0", "ffn_down", 512, 1, false, "0000000000000000");
    row_is("Q6_K", "attn_v", 512, 8, false, "6666666666666666");
    row_is("Q8_0", "attn_v", 512, 8, false, "8888888888888888");
    LM_CHECK(head_of("Q4_K_M", "token_embd.weight", 512, true) == '6' && head_of("Q4_K_M", "token_embd.weight", 512, false) == '4');
    LM_CHECK(head_of("Q4_K_M", "output.weight", 512, false) == '6' && head_of("Q4_K_M", "output.weight", 544, false) == '8');
    LM_CHECK(head_of("Q4_0", "output.weight", 512, false) == '6' && head_of("Q4_0", "output.weight", 544, false) == '8');
    LM_CHECK(head_of("Q8_0", "output.weight", 512, false) == '8' && head_of("Q2_K", "token_embd.weight", 512, false) == '2');
    LM_CHECK(!lm_mix_by_name("Q4_K_X"));
    for (const lm_mix *m = lm_mixes; m->name; m++) {
        const lm_quant *q = lm_quant_by_name(m->base);
        LM_CHECK(q && q->from_float && lm_mix_by_name(m->name) == m);
        for (const lm_mix *k = lm_mixes; k < m; k++) LM_CHECK(k->file_type != m->file_type);
    }
}

/* ---- importance ------------------------------------------------------------------------------------------------------------ */
static size_t old_entry(char *p, const char *name, int32_t calls, const float *v, int32_t n) {
    const int32_t len = (int32_t)strlen(name);
    char *q = p;
    memcpy(q, &len, 4); q += 4; memcpy(q, name, (size_t)len); q += len;
    memcpy(q, &calls, 4); q += 4; memcpy(q, &n, 4); q += 4; memcpy(q, v, (size_t)n * 4); q += n * 4;
    return (size_t)(q - p);
}
static lm_err im_gguf(const char *path, float count, float first, int64_t counts) {
    lm_gguf_writer *w;
    const lm_ggml_type *f32 = lm_ggml_by_name("F32");
    LM_TRY(lm_gguf_writer_new(&w, ctx, path, 0));
    const float v[3] = { first, 4, 6 }, c[2] = { count, count };
    lm_err err = lm_gguf_put_str(w, "general.type", "imatrix", 7);
    if (!err) err = lm_gguf_writer_add(w, "a.weight.in_sum2", f32, 2, (int64_t[]){ counts, 3 });
    if (!err) err = lm_gguf_writer_add(w, "a.weight.counts", f32, 2, (int64_t[]){ counts, 1 });
    for (int64_t i = 0; !err && i < counts; i++) err = lm_gguf_writer_write(w, v, sizeof v);
    if (!err) err = lm_gguf_writer_write(w, c, (size_t)counts * 4);
    if (err) { lm_gguf_writer_abort(w); return err; }
    return lm_gguf_writer_commit(w);
}
static void importance(void) {
    begin();
    char b[512];
    const float v[3] = { 2, 4, 6 }, bad[3] = { 1, -1, 2 }, odd[3] = { 1, 2, NAN };
    int64_t n;
    lm_imatrix *m;
    memcpy(b, &(int32_t){ 2 }, 4);
    size_t k = 4 + old_entry(b + 4, "blk.0.attn_q.weight", 2, v, 3);
    const size_t first = k;
    k += old_entry(b + k, "a.weight", 0, v, 3);
    LM_NEED_OK(ctx, lm_imatrix_open_mem(&m, ctx, "im", b, k));
    const float *p = lm_imatrix_find(m, "blk.0.attn_q.weight", &n);
    LM_CHECK(p && n == 3 && p[0] == 1 && p[1] == 2 && p[2] == 3);
    p = lm_imatrix_find(m, "a.weight", &n);
    LM_CHECK(p && p[0] == 1 && p[2] == 1 && !lm_imatrix_find(m, "b.weight", &n) && lm_imatrix_count(m) == 2);
    lm_imatrix_free(m);
    for (size_t cut = 0; cut < k; cut++) LM_CHECK(lm_imatrix_open_mem(&m, ctx, "im", b, cut) == LM_E_FORMAT);
    for (size_t i = 0; i < k; i++) for (int bit = 0; bit < 8; bit++) {             /* any bit turned: an answer or an error */
        b[i] = (char)(b[i] ^ 1 << bit);
        if (!lm_imatrix_open_mem(&m, ctx, "im", b, k)) lm_imatrix_free(m);
        b[i] = (char)(b[i] ^ 1 << bit);
    }
    k = first + old_entry(b + first, "blk.0.attn_q.weight", 1, v, 3);
    LM_CHECK_ERR(ctx, lm_imatrix_open_mem(&m, ctx, "im", b, k), LM_E_FORMAT, "twice");
    k = first + old_entry(b + first, "a.weight", 1, bad, 3);
    LM_CHECK_ERR(ctx, lm_imatrix_open_mem(&m, ctx, "im", b, k), LM_E_FORMAT, "a.weight: importance 1 is -1");
    k = first + old_entry(b + first, "a.weight", 1, odd, 3);
    LM_CHECK_ERR(ctx, lm_imatrix_open_mem(&m, ctx, "im", b, k), LM_E_FORMAT, "importance 2 is");
    memcpy(b, &(int32_t){ INT32_MAX }, 4);
    LM_CHECK_ERR(ctx, lm_imatrix_open_mem(&m, ctx, "im", b, k), LM_E_FORMAT, "cannot be in");
    LM_NEED_OK(ctx, im_gguf(at("im.gguf"), 2, 2, 1));
    LM_NEED_OK(ctx, lm_imatrix_open(&m, ctx, at("im.gguf")));
    p = lm_imatrix_find(m, "a.weight", &n);
    LM_CHECK(p && n == 3 && p[0] == 1 && p[1] == 2 && p[2] == 3);
    lm_imatrix_free(m);
    LM_NEED_OK(ctx, im_gguf(at("im.gguf"), -1, 2, 1));
    LM_CHECK_ERR(ctx, lm_imatrix_open(&m, ctx, at("im.gguf")), LM_E_FORMAT, "a.weight.counts is -1");
    LM_NEED_OK(ctx, im_gguf(at("im.gguf"), 1e-40f, 2, 1));
    LM_CHECK_ERR(ctx, lm_imatrix_open(&m, ctx, at("im.gguf")), LM_E_FORMAT, "a.weight: importance 0 is 2 over");
    LM_NEED_OK(ctx, im_gguf(at("im.gguf"), 1, -2, 1));
    LM_CHECK_ERR(ctx, lm_imatrix_open(&m, ctx, at("im.gguf")), LM_E_FORMAT, "importance 0 is -2");
    LM_NEED_OK(ctx, im_gguf(at("im.gguf"), 1, 2, 2));
    LM_CHECK_ERR(ctx, lm_imatrix_open(&m, ctx, at("im.gguf")), LM_E_UNSUPPORTED, "experts");
    LM_CHECK_ERR(ctx, lm_imatrix_open(&m, ctx, LM_FIXTURES "/gguf/llama3.gguf"), LM_E_FORMAT, "no importance");
    end();
}

/* ---- models ---------------------------------------------------------------------------------------------------------------- */
static lm_err make_model(const char *dir, int64_t d_ff, bool tie, int64_t broken) {
    const lm_cfg c = { .model = lm_model_by_name("llama"), .vocab = 70, .d = 256, .n_layer = 2, .n_head = 4, .n_kv = 2, .d_head = 64, .d_ff = d_ff,
                       .max_pos = 64, .eps = 1e-5, .init_std = 0.08, .bos = -1, .hf_type = "llama", .tie = tie,
                       .rope = { .d_head = 64, .base = 10000, .max_pos = 64 } };
    lm_store *s;
    lm_tensor t;
    LM_TRY(lm_store_new(&s, ctx));
    lm_err err = lm_model_init(ctx, &c, s, 3);
    if (!err && broken >= 0 && lm_store_get(s, "model.layers.1.mlp.up_proj.weight", &t)) ((float *)t.data)[broken] = NAN;
    if (!err) err = lm_model_save_hf(ctx, &c, s, dir, LM_F32, 0);
    lm_store_free(s);
    return err;
}
static uint64_t fail_alloc;                                           /* > 0: this allocation of the work fails, and all after */
static lm_err quantize(int threads, const char *in, const char *out, const lm_quantize_opts *o, lm_quantized **t, int *n) {
    lm_ctx *c; lm_weights *w;
    LM_TRY(lm_ctx_new(&c, &(lm_ctx_opts){ .n_threads = threads }));
    lm_ledger a, b;
    lm_mem_ledger(c, &a);
    lm_err err = lm_weights_open(&w, c, in);
    lm_quantized *own = NULL;
    if (!err) {
        lm_mem_fail_at(c, fail_alloc, true);
        err = lm_model_quantize(c, w, out, o, &own, n);
        lm_mem_fail_at(c, 0, false);
        lm_weights_close(w);
    }
    if (err) (void)lm_fail(ctx, err, "%s", lm_error(c));
    if (t && own) { *t = malloc((size_t)*n * sizeof **t); memcpy(*t, own, (size_t)*n * sizeof **t); }
    lm_free(c, own);
    lm_mem_ledger(c, &b);
    LM_CHECK(a.total_now == b.total_now);
    lm_ctx_free(c);
    return err;
}
static bool same(const char *a, const char *b) {
    char *p, *q; size_t n, m;
    if (lm_file_read_all(ctx, a, SIZE_MAX / 2, &p, &n) || lm_file_read_all(ctx, b, SIZE_MAX / 2, &q, &m)) return false;
    const bool ok = n == m && !memcmp(p, q, n);
    lm_free(ctx, p); lm_free(ctx, q);
    return ok;
}
static const lm_quantized *find(const lm_quantized *t, int n, const char *name) {
    for (int i = 0; i < n; i++) if (!strcmp(t[i].name, name)) return &t[i];
    return NULL;
}
/* The file against what the table says: types, errors measured here from the loaded numbers, metadata. */
static void check_file(const char *src, const char *out, const lm_quantized *t, int n) {
    lm_weights *a, *b; lm_store *sa, *sb; lm_gguf *g; lm_gguf_strs names; lm_gguf_nums rmse, relative;
    LM_NEED_OK(ctx, lm_weights_open(&a, ctx, src)); LM_NEED_OK(ctx, lm_weights_open(&b, ctx, out));
    LM_NEED_OK(ctx, lm_store_new(&sa, ctx)); LM_NEED_OK(ctx, lm_store_new(&sb, ctx));
    LM_NEED_OK(ctx, lm_weights_load(a, sa, &(lm_load_opts){ .dtype = LM_F32 }));
    LM_NEED_OK(ctx, lm_weights_load(b, sb, &(lm_load_opts){ .dtype = LM_F32 }));
    LM_NEED_OK(ctx, lm_gguf_open(&g, ctx, out));
    LM_NEED_OK(ctx, lm_gguf_arr_str(g, "loam.quantize.tensors", true, &names));
    LM_NEED_OK(ctx, lm_gguf_arr_num(g, "loam.quantize.rmse", true, &rmse));
    LM_NEED_OK(ctx, lm_gguf_arr_num(g, "loam.quantize.relative", true, &relative));
    LM_CHECK(names.n == n && rmse.n == n && relative.n == n && n == lm_store_count(sa));
    for (int i = 0; i < n && i < lm_store_count(sa); i++) {
        lm_tensor x, y;
        const char *hf = lm_store_name(sa, i, &x);
        const lm_gguf_tensor *f = lm_gguf_find(g, t[i].name);
        size_t len; const char *named = lm_gguf_strs_at(&names, i, &len);
        LM_CHECK(named && len == strlen(t[i].name) && !memcmp(named, t[i].name, len));
        LM_CHECK(f && !strcmp(f->type->name, t[i].quant ? t[i].quant->name : t[i].dtype == LM_F16 ? "F16" : "F32") && f->bytes == t[i].bytes);
        LM_CHECK(lm_store_get(sb, hf, &y));
        double e = 0, s = 0;
        for (int64_t k = 0; k < lm_numel(&x); k++) {
            const double u = ((const float *)x.data)[k], v = ((const float *)y.data)[k];
            e += (u - v) * (u - v); s += u * u;
        }
        const double want = t[i].quant ? sqrt(e / (double)lm_numel(&x)) : 0;
        LM_CHECK_NEAR(t[i].rmse, want, 1e-6 * want + 1e-12);
        LM_CHECK_NEAR(lm_gguf_nums_num(&rmse, i), want, 1e-6 * want + 1e-12);
        LM_CHECK_NEAR(lm_gguf_nums_num(&relative, i), t[i].quant ? sqrt(e / s) : 0, 1e-5);
        LM_CHECK(sqrt(e / s) < 0.5);
    }
    lm_gguf_close(g);
    lm_store_free(sa); lm_store_free(sb); lm_weights_close(a); lm_weights_close(b);
}
static void models(void) {
    begin();
    lm_quantized *t; int n;
    LM_NEED_OK(ctx, make_model(at("tied"), 256, true, -1));
    LM_NEED_OK(ctx, make_model(at("odd"), 96, false, -1));
    for (const lm_mix *m = lm_mixes; m->name; m++) {
        if (m->base[0] == 'T') continue;                             /* ternary is no format for these weights */
        const char size = m->name[strlen(m->name) - 1];
        const bool twice = size != 'S' && size != 'L' && !LM_T_WATCHED;       /* the same formats otherwise */
        if (LM_T_WATCHED && (size == 'S' || size == 'L')) continue;
        if (twice) LM_NEED_OK(ctx, quantize(1, at("tied"), at("1.gguf"), &(lm_quantize_opts){ .mix = m }, NULL, &n));
        LM_NEED_OK(ctx, quantize(7, at("tied"), at("7.gguf"), &(lm_quantize_opts){ .mix = m }, &t, &n));
        LM_CHECK(!twice || same(at("1.gguf"), at("7.gguf")));
        check_file(at("tied"), at("7.gguf"), t, n);
        const lm_quantized *e = find(t, n, "token_embd.weight"), *o = find(t, n, "output.weight"), *v = find(t, n, "blk.0.attn_norm.weight");
        LM_CHECK(e && e->quant && !o && v && !v->quant && v->dtype == LM_F32);
        if (e && e->quant) LM_CHECK_STR(e->quant->name, strcmp(m->name, "Q8_0") ? "Q6_K" : "Q8_0");
        free(t);
        LM_NEED_OK(ctx, quantize(2, at("odd"), at("2.gguf"), &(lm_quantize_opts){ .mix = m }, &t, &n));
        check_file(at("odd"), at("2.gguf"), t, n);
        e = find(t, n, "blk.1.ffn_down.weight");                      /* rows of 96 */
        LM_CHECK(e && e->quant && e->wanted && e->quant->block == 32 && (e->quant == e->wanted) == (e->wanted->block == 32));
        free(t);
    }
    for (int f = 0; lm_quants[f]; f++) {
        const lm_quant *q = lm_quants[f];
        if (q->from_float) continue;
        LM_CHECK_ERR(ctx, quantize(1, at("tied"), at("no.gguf"), &(lm_quantize_opts){ .pure = q }, NULL, &n), LM_E_UNSUPPORTED, q->name);
    }
    LM_CHECK(!lm_exists(at("no.gguf")) && !lm_exists(at("no.gguf.part")) && !lm_exists(at("1.gguf.part")));
    end();
}
/* With importance the error that it weighs is no larger than without. */
static void weighted(void) {
    begin();
    lm_quantized *t; int n;
    char *b = malloc(1 << 16); float v[512];
    LM_NEED_OK(ctx, make_model(at("m"), 512, false, -1));
    size_t k = 4;
    memcpy(b, &(int32_t){ 2 }, 4);
    for (int i = 0; i < 512; i++) v[i] = i % 16 ? 0.01f : 9.0f;
    k += old_entry(b + k, "blk.0.ffn_down.weight", 1, v, 512);
    k += old_entry(b + k, "blk.1.attn_q.weight", 1, v, 256);
    lm_imatrix *m;
    LM_NEED_OK(ctx, lm_imatrix_open_mem(&m, ctx, "im", b, k));
    static const char *const names[] = { "Q2_K", "Q3_K_S", "Q4_K_S", "Q5_K_S", "Q4_0", "IQ4_NL" };
    for (int i = 0; i < LM_COUNT(names); i += LM_T_WATCHED ? 2 : 1) {
        const lm_quantize_opts o = { .mix = lm_mix_by_name(names[i]), .imatrix = m, .imatrix_name = "dir/im" };
        LM_NEED_OK(ctx, quantize(2, at("m"), at("w.gguf"), &o, &t, &n));
        const lm_quantized *q = find(t, n, "blk.1.attn_q.weight"), *r = find(t, n, "blk.1.attn_k.weight");
        LM_CHECK(q && q->weighted && q->weighted_rmse < 0.8 * q->rmse && r && !r->weighted && r->weighted_rmse == 0);
        free(t);
    }
    lm_imatrix_free(m);
    const lm_mix *q4 = lm_mix_by_name("Q4_K_M");
    memcpy(b, &(int32_t){ 1 }, 4);
    k = 4 + old_entry(b + 4, "blk.0.ffn_down.weight", 1, v, 256);
    LM_NEED_OK(ctx, lm_imatrix_open_mem(&m, ctx, "im", b, k));
    LM_CHECK_ERR(ctx, quantize(1, at("m"), at("x.gguf"), &(lm_quantize_opts){ .mix = q4, .imatrix = m, .imatrix_name = "im" }, NULL, &n), LM_E_SHAPE, "another model");
    lm_imatrix_free(m);
    k = 4 + old_entry(b + 4, "some.weight", 1, v, 256);
    LM_NEED_OK(ctx, lm_imatrix_open_mem(&m, ctx, "im", b, k));
    LM_CHECK_ERR(ctx, quantize(1, at("m"), at("x.gguf"), &(lm_quantize_opts){ .mix = q4, .imatrix = m, .imatrix_name = "im" }, NULL, &n), LM_E_MISMATCH, "names no matrix");
    lm_imatrix_free(m);
    LM_CHECK(!lm_exists(at("x.gguf")));
    free(b);
    end();
}
static bool stop_at(void *ud, const lm_quantized *t, int i, int n) { (void)t; (void)n; return i < *(int *)ud; }
static lm_err refuse(void *ud, const char *part) { (void)ud; (void)part; return lm_fail(ctx, LM_E_IO, "refused"); }
/* Stopped, refused, broken, or hit by a failing system call anywhere: OUT is not there, or as it was; then it goes through. */
static void interrupted(void) {
    begin();
    int n, k = 4;
    const lm_mix *m = lm_mix_by_name("Q8_0");
    LM_NEED_OK(ctx, make_model(at("m"), 64, true, -1));
    LM_NEED_OK(ctx, make_model(at("nan"), 64, true, 700));
    LM_CHECK_ERR(ctx, quantize(2, at("nan"), at("o.gguf"), &(lm_quantize_opts){ .mix = m }, NULL, &n), LM_E_RANGE, "blk.1.ffn_up.weight");
    LM_CHECK(quantize(2, at("m"), at("o.gguf"), &(lm_quantize_opts){ .mix = m, .progress = stop_at, .ud = &k }, NULL, &n) == LM_E_CANCELLED);
    LM_CHECK(quantize(2, at("m"), at("o.gguf"), &(lm_quantize_opts){ .mix = m, .done = refuse }, NULL, &n) == LM_E_IO);
    LM_CHECK(!lm_exists(at("o.gguf")) && !lm_exists(at("o.gguf.part")));
    LM_NEED_OK(ctx, quantize(2, at("m"), at("want.gguf"), &(lm_quantize_opts){ .mix = m }, NULL, &n));
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("o.gguf"), "old", 3));
    bool through = false;
    for (fail_alloc = 1; fail_alloc < 5000 && !through; fail_alloc += 1 + fail_alloc / (LM_T_WATCHED ? 6 : 16)) {
        const lm_err err = quantize(1, at("m"), at("alloc.gguf"), &(lm_quantize_opts){ .mix = m }, NULL, &n);
        through = !err;
        LM_CHECK((err == LM_E_NOMEM || !err) && lm_exists(at("alloc.gguf")) == !err && !lm_exists(at("alloc.gguf.part")));
    }
    fail_alloc = 0;
    LM_CHECK(through && same(at("alloc.gguf"), at("want.gguf")));
    through = false;
    for (uint64_t call = 1; call < 2000 && !through; call += LM_T_WATCHED ? 1 + call / 8 : 1) {
        lm_file_fail_at(call, 5, true);                               /* EIO, and all after */
        const lm_err err = quantize(1, at("m"), at("o.gguf"), &(lm_quantize_opts){ .mix = m }, NULL, &n);
        lm_file_fail_at(0, 0, false);
        char *p; size_t len;
        LM_NEED_OK(ctx, lm_file_read_all(ctx, at("o.gguf"), 1 << 24, &p, &len));
        through = !err;
        /* the name is given by one call; what fails after it (syncing the folder) finds the whole file there */
        if (err && !(len == 3 && !memcmp(p, "old", 3))) LM_CHECK(same(at("o.gguf"), at("want.gguf")));
        lm_free(ctx, p);
    }
    LM_CHECK(through && same(at("o.gguf"), at("want.gguf")));
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("o.gguf.part"), "rest", 4));      /* of killed processes */
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("o.gguf.part.tmp-77"), "rest", 4));
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("o.gguf.parts"), "another", 7));
    lm_lock *lock;
    LM_NEED_OK(ctx, lm_lock_take(&lock, ctx, at("o.gguf.lock"), "here"));
    LM_CHECK_ERR(ctx, quantize(2, at("m"), at("o.gguf"), &(lm_quantize_opts){ .mix = m }, NULL, &n), LM_E_IO, "in use by process");
    lm_lock_drop(lock);
    LM_NEED_OK(ctx, quantize(2, at("m"), at("o.gguf"), &(lm_quantize_opts){ .mix = m }, NULL, &n));
    LM_CHECK(same(at("o.gguf"), at("want.gguf")) && !lm_exists(at("o.gguf.part")) && !lm_exists(at("o.gguf.part.tmp-77")));
    LM_CHECK(lm_exists(at("o.gguf.parts")) && !lm_exists(at("o.gguf.lock")));
    /* patches: only what is there */
    LM_CHECK_ERR(ctx, lm_gguf_patch(ctx, at("o.gguf"), "loam.quantize.rmse", LM_GGUF_F32, &(float){ 1 }, 1), LM_E_INTERNAL, "is not 1 of type f32");
    LM_CHECK_ERR(ctx, lm_gguf_patch(ctx, at("o.gguf"), "no.such", LM_GGUF_F32, &(float){ 1 }, 1), LM_E_CONFIG, "no.such");
    LM_CHECK_ERR(ctx, lm_file_patch(ctx, at("o.gguf"), INT64_MAX, "x", 1), LM_E_RANGE, "not there");
    end();
}
LM_TEST_MAIN(LM_T1(mixes), LM_T1(importance), LM_T1(models), LM_T1(weighted), LM_T1(interrupted))
