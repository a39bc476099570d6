/* npy, llama2.c, sentencepiece, SVG. */
#include "format_test.h"
#include "format/llama2c.h"
#include "format/npy.h"
#include "format/spm.h"
#include "format/svg.h"

static const char *kept(const char *name) {
    static char b[4][1200];
    static int k;
    char *p = b[k++ % 4];
    snprintf(p, sizeof b[0], "%s/%s", getenv("LM_KEEP") ? getenv("LM_KEEP") : t_dir, name);
    return p;
}
static void check_hash(const char *name) {
    size_t n; char *p = t_read(kept(name), &n), got[64];
    snprintf(got, sizeof got, "%zu %016llx", n, (unsigned long long)t_fnv(p, n, T_FNV));
    if (!getenv("LM_KEEP")) LM_CHECK_STR(got, t_expect("written.txt", "file", name));
    lm_free(ctx, p);
}

/* ---- npy ------------------------------------------------------------------------------------------------------- */
static lm_err npy_once(const uint8_t *p, size_t n) {
    lm_npy a; LM_TRY(lm_npy_parse(ctx, "t.npy", p, n, &a));
    if (t_fnv(a.data, a.bytes, T_FNV) == 1) abort();
    return LM_OK;
}
static lm_err npy_text(const char *dict, size_t data) {
    uint8_t b[2048] = "\x93NUMPY\x01\x00"; size_t n = strlen(dict);
    b[8] = (uint8_t)n; b[9] = (uint8_t)(n >> 8); memcpy(b + 10, dict, n);
    uint8_t *q = t_copy(b, 10 + n + data);
    lm_err e = npy_once(q, 10 + n + data);
    free(q);
    return e;
}
static void test_npy(void) {
    t_begin();
    lm_npy a;
    LM_NEED_OK(ctx, lm_npy_load(ctx, t_fix("f4.npy"), &a));
    LM_CHECK(a.dtype == LM_F32 && a.rank == 2 && a.dim[0] == 2 && a.dim[1] == 3 && a.n == 6 && ((const float *)a.data)[5] == 5);
    lm_npy_free(ctx, &a);
    LM_NEED_OK(ctx, lm_npy_load(ctx, t_fix("f8.npy"), &a));
    LM_CHECK(a.dtype == LM_F64 && a.rank == 0 && a.n == 1 && *(const double *)a.data == 2.5);
    lm_npy_free(ctx, &a);
    LM_NEED_OK(ctx, lm_npy_load(ctx, t_fix("i4.npy"), &a));
    LM_CHECK(a.dtype == LM_I32 && a.rank == 1 && a.n == 4 && ((const int32_t *)a.data)[3] == 3);
    lm_npy_free(ctx, &a);
    LM_NEED_OK(ctx, lm_npy_load(ctx, t_fix("i8.npy"), &a));
    LM_CHECK(a.dtype == LM_I64 && a.rank == 3 && a.n == 0 && a.bytes == 0);
    lm_npy_free(ctx, &a);
    LM_NEED_OK(ctx, lm_npy_load(ctx, t_fix("u1.npy"), &a)); LM_CHECK(a.dtype == LM_U8 && a.n == 3); lm_npy_free(ctx, &a);
    LM_NEED_OK(ctx, lm_npy_load(ctx, t_fix("b1.npy"), &a)); LM_CHECK(a.dtype == LM_BOOL && ((const uint8_t *)a.data)[0] == 1); lm_npy_free(ctx, &a);
    LM_NEED_OK(ctx, lm_npy_load(ctx, t_fix("f2.npy"), &a));
    LM_CHECK(a.dtype == LM_F16 && ((const uint16_t *)a.data)[1] == 0x3c00);
    lm_npy_free(ctx, &a);
    LM_NEED_OK(ctx, lm_npy_load(ctx, t_fix("v2.npy"), &a)); LM_CHECK(a.n == 3 && ((const float *)a.data)[2] == 2); lm_npy_free(ctx, &a);
    LM_CHECK_ERR(ctx, lm_npy_load(ctx, t_fix("fortran.npy"), &a), LM_E_UNSUPPORTED, "Fortran order");
    LM_CHECK_ERR(ctx, lm_npy_load(ctx, t_fix("big.npy"), &a), LM_E_UNSUPPORTED, "'>f4'");
#define D(descr, shape) "{'descr': " descr ", 'fortran_order': False, 'shape': " shape "}"
    LM_CHECK_OK(ctx, npy_text(D("\"<f4\"", "(2,)"), 8));
    static const struct { const char *dict; size_t data; lm_err code; const char *say;
    } bad[] = { { D("'<f4'", "(2,)"), 7, LM_E_FORMAT, "needs 8 bytes of data, the file has 7" },
                { D("'<f4'", "(2,)"), 9, LM_E_FORMAT, "the file has 9" },
                { D("'<f4'", "(2)"), 8, LM_E_FORMAT, "not a tuple" },
                { D("'<f4'", "(4294967296, 4294967296)"), 0, LM_E_FORMAT, "overflows" },
                { D("'<f4'", "(4611686018427387904,)"), 0, LM_E_FORMAT, "overflows" },
                { D("'<f4'", "(-1,)"), 0, LM_E_FORMAT, "non-negative" },
                { D("'<f4'", "(99999999999999999999,)"), 0, LM_E_FORMAT, "63 bits" },
                { D("'<f4'", "(1,1,1,1,1,1,1,1,1)"), 4, LM_E_UNSUPPORTED, "8 dimensions" },
                { D("'O'", "(1,)"), 8, LM_E_UNSUPPORTED, "'O'" },
                { D("[('a', '<f4')]", "(1,)"), 4, LM_E_UNSUPPORTED, "plain number" },
                { "{'descr': '<f4', 'shape': (1,)}", 4, LM_E_FORMAT, "wanted the keys" },
                { "{}", 0, LM_E_FORMAT, "wanted the keys" },
                { "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}", 4, LM_E_FORMAT, "twice" },
                { "{'x': 1}", 0, LM_E_FORMAT, "'x' is unknown" },
                { D("'<f4'", "()") "x", 4, LM_E_FORMAT, "after the }" },
                { "{'descr': '<f4', 'fortran_order': 0, 'shape': ()}", 4, LM_E_FORMAT, "True or False" },
                { "", 0, LM_E_FORMAT, "wanted {" },
                { "{'descr", 0, LM_E_FORMAT, "key" } };
    for (int i = 0; i < LM_COUNT(bad); i++) LM_CHECK_ERR(ctx, npy_text(bad[i].dict, bad[i].data), bad[i].code, bad[i].say);
    LM_CHECK_ERR(ctx, npy_once((const uint8_t *)"PK\x03\x04....", 8), LM_E_FORMAT, "not a .npy");
    LM_CHECK_ERR(ctx, npy_once((const uint8_t *)"\x93NUMPY\x02\x00\xff\xff\xff\xff", 12), LM_E_FORMAT, "length");
    size_t n; char *p = t_read(t_fix("f4.npy"), &n);
    t_torture((uint8_t *)p, n, npy_once, true);
    lm_free(ctx, p);
    LM_CHECK_OK(ctx, lm_npy_save(ctx, kept("w_f4.npy"), LM_F32, 2, (int64_t[]){ 2, 3 }, (float[]){ 0, 0.5f, 1, 1.5f, 2, 2.5f }));
    LM_CHECK_OK(ctx, lm_npy_save(ctx, kept("w_f8.npy"), LM_F64, 0, NULL, (double[]){ 2.5 }));
    LM_CHECK_OK(ctx, lm_npy_save(ctx, kept("w_i4.npy"), LM_I32, 1, (int64_t[]){ 4 }, (int32_t[]){ -1, 0, 1, 2 }));
    LM_CHECK_OK(ctx, lm_npy_save(ctx, kept("w_i8.npy"), LM_I64, 3, (int64_t[]){ 2, 0, 3 }, NULL));
    check_hash("w_f4.npy"); check_hash("w_f8.npy"); check_hash("w_i4.npy"); check_hash("w_i8.npy");
    LM_NEED_OK(ctx, lm_npy_load(ctx, kept("w_f4.npy"), &a)); LM_CHECK(a.n == 6 && ((const float *)a.data)[5] == 2.5f); lm_npy_free(ctx, &a);
    LM_CHECK_ERR(ctx, lm_npy_save(ctx, t_at("x"), LM_BF16, 0, NULL, "xx"), LM_E_UNSUPPORTED, "no dtype");
    LM_CHECK_ERR(ctx, lm_npy_save(ctx, t_at("x"), LM_F32, 1, (int64_t[]){ -1 }, "xx"), LM_E_SHAPE, "dimension 0");
    t_end();
}

/* ---- llama2.c -------------------------------------------------------------------------------------------------- */
static lm_err l2c_once(const uint8_t *p, size_t n) {
    lm_l2c m; LM_TRY(lm_l2c_parse(ctx, "t.bin", p, n, &m));
    uint64_t h = T_FNV;
    for (int i = 0; i < LM_N_L2C; i++) h = t_fnv(m.base + m.part[i].offset, m.part[i].bytes, h);
    if (h == 1) abort();
    return LM_OK;
}
static lm_err tok_once(const uint8_t *p, size_t n) {
    lm_l2c_tok t; LM_TRY(lm_l2c_tok_parse(ctx, "tok.bin", p, n, 0, &t));
    uint64_t h = T_FNV;
    for (int i = 0; i < t.n; i++) h = t_fnv(t.v[i].s, (size_t)t.v[i].n, h);
    if (h == 1) abort();
    lm_l2c_tok_free(ctx, &t);
    return LM_OK;
}
static void test_l2c_real(void) {
    const char *p0 = t_data("weights/stories260K/stories260K.bin"), *p1 = t_data("weights/stories260K/stories260K_v1.bin"),
               *pt = t_data("weights/stories260K/tok512.bin");
    if (!p0 || !p1 || !pt) LM_SKIP("LOAM_DATA has no stories260K");
    t_begin();
    size_t n0, n1, nt; char *a = t_read(p0, &n0), *b = t_read(p1, &n1), *t = t_read(pt, &nt), got[64]; lm_l2c x, y; lm_l2c_tok k;
    LM_NEED_OK(ctx, lm_l2c_parse(ctx, "v0", a, n0, &x));
    LM_NEED_OK(ctx, lm_l2c_parse(ctx, "v1", b, n1, &y));
    LM_CHECK(x.version == 0 && y.version == 1 && x.dim == 64 && x.hidden == 172 && x.n_layer == 5 && x.n_head == 8 && x.n_kv_head == 4 &&
             x.vocab == 512 && x.seq_len == 512 && x.tied && y.tied);
    for (int i = 0; i < LM_N_L2C; i++) {
        LM_CHECK(x.part[i].bytes == y.part[i].bytes && !memcmp(x.base + x.part[i].offset, y.base + y.part[i].offset, x.part[i].bytes));
        snprintf(got, sizeof got, "%zu %016llx", x.part[i].bytes,
                 (unsigned long long)t_fnv(x.base + x.part[i].offset, x.part[i].bytes < 4096 ? x.part[i].bytes : 4096, T_FNV));
        if (i != LM_L2C_OUTPUT) LM_CHECK_STR(got, t_expect("format_expect.txt", "l2c", x.part[i].name));
    }
    LM_CHECK(x.part[LM_L2C_WK].rank == 3 && x.part[LM_L2C_WK].dim[0] == 5 && x.part[LM_L2C_WK].dim[1] == 32 &&
             x.part[LM_L2C_WK].dim[2] == 64 && x.part[LM_L2C_OUTPUT].bytes == 0);
    LM_NEED_OK(ctx, lm_l2c_tok_parse(ctx, "tok", t, nt, 512, &k));
    LM_CHECK(k.n == 512 && k.longest == 7 && k.v[0].n == 5 && !memcmp(k.v[0].s, "<unk>", 5) && !memcmp(k.v[3].s, "<0x00>", 6));
    lm_l2c_tok_free(ctx, &k);
    LM_CHECK_ERR(ctx, lm_l2c_tok_parse(ctx, "tok", t, nt, 511, &k), LM_E_MISMATCH, "512 tokens, wanted 511");
    for (size_t cut = 0; cut < 400; cut++) { LM_CHECK(l2c_once((uint8_t *)a, cut) != LM_OK); LM_CHECK(l2c_once((uint8_t *)b, cut) != LM_OK); }
    LM_CHECK_ERR(ctx, lm_l2c_parse(ctx, "v0", a, n0 - 1, &x), LM_E_FORMAT, "ends inside the RoPE tables");
    LM_CHECK_ERR(ctx, lm_l2c_parse(ctx, "v1", b, n1 - 1, &x), LM_E_FORMAT, "ends inside feed_forward.w3");
    lm_free(ctx, a); lm_free(ctx, b); lm_free(ctx, t);
    t_end();
}
static size_t make_l2c(uint8_t *p, const int32_t h[7], bool v1, bool tied) {       /* a whole little model of zeros */
    size_t n = 0, d = (size_t)h[0], f = (size_t)h[1], L = (size_t)h[2], V = (size_t)(h[5] < 0 ? -h[5] : h[5]), hd = d / (size_t)h[3],
           kv = hd * (size_t)h[4];
    if (v1) { memcpy(p, "24ka\x01\0\0\0", 8); n = 8; }
    memcpy(p + n, h, 28); n += 28;
    if (v1) { p[n] = tied; n = 256; }
    n += 4 * (V * d + L * d * 2 + L * d * d * 2 + L * kv * d * 2 + 3 * L * f * d + d + (tied ? 0 : V * d) + (v1 ? 0 : (size_t)h[6] * hd));
    return n;
}
static void test_l2c(void) {
    t_begin();
    uint8_t *p = calloc(1, 1 << 16); lm_l2c m; const int32_t h[7] = { 4, 6, 2, 2, 1, 3, 5 }; size_t n;
    n = make_l2c(p, h, false, true); LM_CHECK_OK(ctx, l2c_once(p, n)); t_torture(p, n, l2c_once, true);
    n = make_l2c(p, (int32_t[]){ 4, 6, 2, 2, 1, -3, 5 }, false, false); LM_CHECK_OK(ctx, lm_l2c_parse(ctx, "t.bin", p, n, &m));
    LM_CHECK(!m.tied && m.vocab == 3 && m.part[LM_L2C_OUTPUT].bytes == 48 && m.part[LM_L2C_OUTPUT].offset == n - 48);
    memset(p, 0, 512);
    n = make_l2c(p, h, true, false);
    LM_CHECK_OK(ctx, lm_l2c_parse(ctx, "t.bin", p, n, &m));
    LM_CHECK(!m.tied && m.version == 1);
    t_torture(p, n, l2c_once, true);
    p[4] = 2; LM_CHECK_ERR(ctx, l2c_once(p, n), LM_E_UNSUPPORTED, "version 2"); p[4] = 1;
    p[36] = 7; LM_CHECK_ERR(ctx, l2c_once(p, n), LM_E_FORMAT, "shared-classifier flag is 7");
    memset(p, 0, 512);
    static const struct {
        int32_t h[7];
        const char *say;
    } bad[] = { { { 0, 6, 2, 2, 1, 3, 5 }, "dim is 0" },           { { -4, 6, 2, 2, 1, 3, 5 }, "dim is -4" },
                { { 4, 1 << 30, 2, 2, 1, 3, 5 }, "hidden_dim" },   { { 4, 6, 0, 2, 1, 3, 5 }, "n_layers is 0" },
                { { 4, 6, 2, 0, 1, 3, 5 }, "n_heads is 0" },       { { 4, 6, 2, 2, 0, 3, 5 }, "n_kv_heads is 0" },
                { { 4, 6, 2, 2, 3, 3, 5 }, "n_kv_heads is 3" },    { { 4, 6, 2, 2, 1, 0, 5 }, "vocab_size is 0" },
                { { 4, 6, 2, 2, 1, INT32_MIN, 5 }, "vocab_size" }, { { 4, 6, 2, 2, 1, 3, -5 }, "max_seq_len is -5" },
                { { 6, 6, 2, 4, 1, 3, 5 }, "do not divide" },      { { 1 << 20, 1 << 20, 1 << 12, 2, 1, 1 << 24, 5 }, "ends inside" } };
    for (int i = 0; i < LM_COUNT(bad); i++) { memcpy(p, bad[i].h, 28); LM_CHECK_ERR(ctx, l2c_once(p, 4096), LM_E_FORMAT, bad[i].say); }
    free(p);
    static const uint8_t tok[] = { 5, 0, 0, 0, 0, 0, 128, 63, 3, 0, 0, 0, 'a', 'b', 'c', 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'z' };
    uint8_t q[sizeof tok]; memcpy(q, tok, sizeof tok); q[27] = 1; q[28] = 'z';
    lm_l2c_tok t;
    LM_NEED_OK(ctx, lm_l2c_tok_parse(ctx, "tok.bin", tok, 23, 0, &t));
    LM_CHECK(t.n == 2 && t.v[0].score == 1 && t.v[0].n == 3 && t.v[1].n == 0);
    lm_l2c_tok_free(ctx, &t);
    t_torture(tok, 23, tok_once, false);
    t_nomem(tok, 23, tok_once);
    memcpy(q, tok, 23); memset(q + 8, 0xff, 4); LM_CHECK_ERR(ctx, tok_once(q, 23), LM_E_FORMAT, "token 0 has -1 bytes");
    memcpy(q, tok, 23); q[8] = 6; LM_CHECK_ERR(ctx, tok_once(q, 23), LM_E_FORMAT, "token 0 has 6 bytes, wanted 0..5");
    memcpy(q, tok, 23); q[6] = 0xc0; q[7] = 0x7f; LM_CHECK_ERR(ctx, tok_once(q, 23), LM_E_FORMAT, "not a number");
    memcpy(q, tok, 23); q[3] = 0x80; LM_CHECK_ERR(ctx, tok_once(q, 23), LM_E_FORMAT, "the longest piece");
    LM_CHECK_ERR(ctx, tok_once(q, 0), LM_E_FORMAT, "empty");
    t_end();
}

/* ---- sentencepiece --------------------------------------------------------------------------------------------- */
static lm_err spm_once(const uint8_t *p, size_t n) {
    lm_spm *m; LM_TRY(lm_spm_parse(&m, ctx, "t.model", p, n));
    uint64_t h = t_fnv(m->charsmap, m->charsmap_n, T_FNV);
    for (int i = 0; i < m->n_piece; i++) h = t_fnv(m->piece[i].s, (size_t)m->piece[i].n + 1, h);
    h = t_fnv(m->unk_surface, strlen(m->unk_surface), h) + strlen(m->unk_piece) + strlen(m->bos_piece) + strlen(m->eos_piece) +
        strlen(m->pad_piece) + strlen(m->norm_name);
    if (h == 1) abort();
    lm_spm_free(m);
    return LM_OK;
}
static void spm_compare(const char *name, const char *path) {
    lm_spm *m; char got[128]; uint64_t h = T_FNV;
    LM_NEED_OK(ctx, lm_spm_load(&m, ctx, path));
    for (int i = 0; i < m->n_piece; i++) {
        const lm_spm_piece *p = &m->piece[i]; uint8_t kind = p->type == LM_SPM_USER_DEFINED ? 1 : (uint8_t)p->type;
        h = t_fnv(p->s, (size_t)p->n + 1, h); h = t_fnv(&p->score, 4, h); h = t_fnv(&kind, 1, h);
    }
    snprintf(got, sizeof got, "%d %d %d %d %d %016llx", m->n_piece, m->unk_id, m->bos_id, m->eos_id, m->pad_id, (unsigned long long)h);
    LM_CHECK_STR(got, t_expect("format_expect.txt", "spm", name));
    lm_spm_free(m);
}
static void test_spm(void) {
    t_begin();
    spm_compare("spm_bpe", t_fix("spm_bpe.model")); spm_compare("spm_unigram", t_fix("spm_unigram.model"));
    lm_spm *m;
    LM_NEED_OK(ctx, lm_spm_load(&m, ctx, t_fix("spm_bpe.model")));
    LM_CHECK(m->model_type == LM_SPM_BPE && m->byte_fallback && m->add_dummy_prefix && m->remove_extra_whitespaces &&
             m->escape_whitespaces && m->charsmap_n == 0);
    LM_CHECK_STR(m->norm_name, "identity"); LM_CHECK_STR(m->unk_surface, " \xe2\x81\x87 ");
    int bytes = 0;
    for (int i = 0; i < m->n_piece; i++)
        if (m->piece[i].type == LM_SPM_BYTE) {
            LM_CHECK(m->piece[i].byte == bytes);
            bytes++;
        } else LM_CHECK(m->piece[i].byte == -1);
    LM_CHECK(bytes == 256);
    lm_spm_free(m);
    LM_NEED_OK(ctx, lm_spm_load(&m, ctx, t_fix("spm_unigram.model")));
    LM_CHECK(m->model_type == LM_SPM_UNIGRAM && !m->byte_fallback && !m->add_dummy_prefix && m->piece[3].type == LM_SPM_USER_DEFINED);
    LM_CHECK_STR(m->piece[3].s, "<sep>");
    lm_spm_free(m);
    static const char *const real[] = { "llama2", "mistral-v1", "test_model" }; int seen = 0;
    for (int i = 0; i < 3; i++) {
        char rel[128];
        snprintf(rel, sizeof rel, "tokenizers/sentencepiece/%s.model", real[i]);
        const char *p = t_data(rel);
        if (p) {
            spm_compare(real[i], p);
            seen++;
        }
    }
    const char *p = t_data("tokenizers/sentencepiece/test_model.model");
    if (p) {
        LM_NEED_OK(ctx, lm_spm_load(&m, ctx, p));
        LM_CHECK_STR(m->norm_name, "nfkc");
        LM_CHECK(m->charsmap_n > 200000 && m->model_type == LM_SPM_UNIGRAM);
        lm_spm_free(m);
    }
    t_end();
    if (!seen) LM_SKIP("LOAM_DATA has no sentencepiece models");
}
static lm_err spm_bytes(const char *b, size_t n) { uint8_t *q = t_copy(b, n); lm_err e = spm_once(q, n); free(q); return e; }
#define SPM(lit) spm_bytes(lit, sizeof lit - 1)
static void test_spm_malformed(void) {
    t_begin();
    LM_CHECK_OK(ctx, SPM("\x0a\x05\x0a\x01" "a" "\x18\x02"));
    LM_CHECK_ERR(ctx, SPM(""), LM_E_FORMAT, "no pieces");
    LM_CHECK_ERR(ctx, SPM("\x0a\x00"), LM_E_FORMAT, "piece 0 is empty");
    LM_CHECK_ERR(ctx, SPM("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" "a"), LM_E_FORMAT, "ends inside a field");
    LM_CHECK_ERR(ctx, SPM("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02" "a"), LM_E_FORMAT, "ends inside a field");
    LM_CHECK_ERR(ctx, SPM("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), LM_E_FORMAT, "field key");
    LM_CHECK_ERR(ctx, SPM("\x02\x00"), LM_E_FORMAT, "field key");
    LM_CHECK_ERR(ctx, SPM("\x0b"), LM_E_FORMAT, "unknown wire type");
    LM_CHECK_ERR(ctx, SPM("\x08\x01"), LM_E_FORMAT, "wrong wire type");
    LM_CHECK_ERR(ctx, SPM("\x0a\x04\x0a\x7f" "ab"), LM_E_FORMAT, "ends inside a field");
    LM_CHECK_ERR(ctx, SPM("\x0a\x03\x0a\x01\xff"), LM_E_FORMAT, "not UTF-8");
    LM_CHECK_ERR(ctx, SPM("\x0a\x03\x0a\x01\x00"), LM_E_FORMAT, "NUL");
    LM_CHECK_ERR(ctx, SPM("\x0a\x05\x0a\x01" "a" "\x18\x07"), LM_E_FORMAT, "piece 0 is of unknown type 7");
    LM_CHECK_ERR(ctx, SPM("\x0a\x03\x0a\x01" "a" "\x0a\x03\x0a\x01" "a"), LM_E_FORMAT, "pieces 0 and 1 are both \"a\"");
    LM_CHECK_ERR(ctx, SPM("\x0a\x08\x0a\x01" "a" "\x15\x00\x00\xc0\x7f"), LM_E_FORMAT, "not a number");
    LM_CHECK_ERR(ctx, SPM("\x0a\x0a\x0a\x06<0x-1>\x18\x06"), LM_E_FORMAT, "byte piece 0 is spelled \"<0x-1>\"");
    LM_CHECK_ERR(ctx, SPM("\x0a\x0b\x0a\x07<0x100>\x18\x06"), LM_E_FORMAT, "byte piece 0");
    LM_CHECK_ERR(ctx, SPM("\x0a\x03\x0a\x01" "a"), LM_E_FORMAT, "no piece is of type unknown");
    LM_CHECK_ERR(ctx, SPM("\x0a\x05\x0a\x01" "a" "\x18\x02\x0a\x05\x0a\x01" "b" "\x18\x02"), LM_E_FORMAT, "pieces 0 and 1 are both of type unknown");
    LM_CHECK_ERR(ctx, SPM("\x12\x02\x18\x09"), LM_E_FORMAT, "unknown model type");
    size_t n; char *p = t_read(t_fix("spm_unigram.model"), &n);
    t_torture((uint8_t *)p, n, spm_once, false);
    t_nomem((uint8_t *)p, n, spm_once);
    lm_free(ctx, p);
    t_end();
}

/* ---- SVG ------------------------------------------------------------------------------------------------------- */
static void test_svg(void) {
    t_begin();
    enum { N = 20000 };
    double *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y), bx[] = { 1, 10, 100, 1000 }, by[] = { 4, 3, NAN, 2 };
    for (int i = 0; i < N; i++) { x[i] = i + 1; y[i] = 5 / (1 + i * 0.01) + (i == 12345 ? 3 : 0); }
    lm_svg_series s[] = { { "loss & <b>\"", x, y, N }, { "other", bx, by, 4 } };
    lm_svg_chart c = { .title = "A \xc3\xa9 \x01 \xff title", .x_title = "step", .y_title = "loss", .series = s, .n_series = 2, .log_x = true };
    LM_CHECK_OK(ctx, lm_svg_save(ctx, kept("chart.svg"), &c));
    check_hash("chart.svg");
    lm_str out = { .ctx = ctx };
    LM_CHECK_OK(ctx, lm_svg_draw(ctx, &out, &c));
    LM_CHECK(out.n < 80000);                              /* thinned */
    LM_CHECK(strstr(out.p, ">step</text>") && strstr(out.p, "loss &amp; &lt;b&gt;&quot;") && strstr(out.p, "\xef\xbf\xbd title") &&
             strstr(out.p, ">1000</text>") && !strstr(out.p, "nan") && !strstr(out.p, "inf"));
    lm_str_clear(&out);
    c.log_x = false;
    LM_CHECK_OK(ctx, lm_svg_draw(ctx, &out, &c));
    LM_CHECK(strstr(out.p, ">5000</text>") && strstr(out.p, ">20000</text>"));
    bx[2] = 0; by[2] = 2; c.log_x = true; lm_str_clear(&out);
    LM_CHECK_ERR(ctx, lm_svg_draw(ctx, &out, &c), LM_E_RANGE, "x[2] of series \"other\" is 0");
    LM_CHECK(out.n == 0);
    c.log_x = false; c.width = 5; LM_CHECK_ERR(ctx, lm_svg_draw(ctx, &out, &c), LM_E_RANGE, "5 ");
    c.width = 0; c.n_series = 0; LM_CHECK_OK(ctx, lm_svg_draw(ctx, &out, &c));                              /* nothing to draw is an empty chart */
    /* one spike of 20 000 points: its top must be drawn (y 1 is at 8/108 of the axis from the top) */
    for (int i = 0; i < N; i++) y[i] = i == 7777;
    s[0].name = NULL; c = (lm_svg_chart){ .series = s, .n_series = 1, .height = 480 }; lm_str_clear(&out);
    LM_CHECK_OK(ctx, lm_svg_draw(ctx, &out, &c));
    char top[32]; snprintf(top, sizeof top, " %.2f", 428 - 388 * (1 + 0.04) / 1.08);
    LM_CHECK(strstr(out.p, top));
    static double e[][2] = { { 0, 0 }, { 1e308, -1e308 }, { 5e-324, 5e-324 }, { 1e300, 1e300 }, { INFINITY, NAN }, { -7, -7 }, { 1, 1 + 1e-15 } };
    for (int i = 0; i < LM_COUNT(e); i++)
        for (int k = 0; k < 4; k++) {
            lm_svg_series one = { "e", e[i], e[i], 2 }; lm_svg_chart d = { .series = &one, .n_series = 1, .log_x = k & 1, .log_y = k >> 1 };
            lm_str_clear(&out);
            lm_err err = lm_svg_draw(ctx, &out, &d);
            LM_CHECK(err == LM_OK || (k && err == LM_E_RANGE));
            if (!err) LM_CHECK(!strstr(out.p, "nan") && !strstr(out.p, "inf"));
        }
    lm_str_free(&out);
    free(x); free(y);
    t_end();
}
LM_TEST_MAIN(LM_T1(test_npy), LM_T1(test_l2c_real), LM_T1(test_l2c), LM_T1(test_spm), LM_T1(test_spm_malformed), LM_T1(test_svg))
