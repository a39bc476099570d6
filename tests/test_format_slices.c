/* test_format_slices.c — folders of slices, written by hand: what is read, and every way in which such a folder can lie. */
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "format/safetensors.h"
#include "test.h"

static lm_ctx *ctx;
static char root[64];
static const char *at(const char *name) {
    static char p[4][200];
    static int k;
    snprintf(p[k = (k + 1) % 4], sizeof *p, "%s/%s", root, name);
    return p[k];
}
static void put(const char *name, const char *header, const void *data, size_t n) {
    char all[4096];
    const uint64_t len = strlen(header);
    memcpy(all, &len, 8); memcpy(all + 8, header, len); memcpy(all + 8 + len, data, n);
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at(name), all, 8 + len + n));
}
static void clean(void) { LM_CHECK_OK(ctx, lm_dir_remove(ctx, root)); LM_CHECK_OK(ctx, lm_dir_make(ctx, root)); }
#define ONE "shard-00001-of-00002.safetensors"
#define TWO "shard-00002-of-00002.safetensors"
#define F "\"format\":\"loam-slices-1\""
#define H " 00000000000000000000000000000000\""
#define W(rows, end) "\"w\":{\"dtype\":\"U8\",\"shape\":[" rows ",2],\"data_offsets\":[0," end "]}"
#define META(x) "{\"__metadata__\":{" F "," x "},"
#define GOOD1 META("\"slice:w\":\"0 3" H) W("2", "4") "}"
#define GOOD2 META("\"slice:w\":\"2 3" H) W("1", "2") "}"
static const uint8_t DATA[64] = { 1, 2, 3, 4, 5, 6, 7, 8 };
static void test_lies(void) {
    static const struct { const char *one; size_t n1; const char *two; size_t n2; lm_err err; const char *says; } bad[] = {
        { GOOD1, 4, META("\"slice:w\":\"3 4" H) W("1", "2") "}", 2, LM_E_FORMAT, "another type or shape" },
        { META("\"slice:w\":\"0 4" H) W("2", "4") "}", 4, META("\"slice:w\":\"3 4" H) W("1", "2") "}", 2, LM_E_FORMAT, "rows 2 to 2 of \"w\" are in no shard" },
        { META("\"slice:w\":\"1 3" H) W("1", "2") "}", 2, GOOD2, 2, LM_E_FORMAT, "rows 0 to 0 of \"w\" are in no shard" },
        { META("\"slice:w\":\"0 4" H) W("2", "4") "}", 4, META("\"slice:w\":\"2 4" H) W("1", "2") "}", 2, LM_E_FORMAT, "rows 3 to 3 of \"w\"" },
        { GOOD1, 4, META("\"slice:w\":\"1 3" H) W("2", "4") "}", 4, LM_E_FORMAT, "row 1 of \"w\" is in" },
        { GOOD1, 4, GOOD1, 4, LM_E_FORMAT, "row 0 of \"w\" is in" },
        { GOOD1, 4, META("\"slice:w\":\"2 3" H) "\"w\":{\"dtype\":\"I8\",\"shape\":[1,2],\"data_offsets\":[0,2]}}", 2, LM_E_FORMAT, "another type" },
        { GOOD1, 4, META("\"slice:w\":\"2 3" H) "\"w\":{\"dtype\":\"U8\",\"shape\":[1,3],\"data_offsets\":[0,3]}}", 3, LM_E_FORMAT, "another type or shape" },
        { GOOD1, 4, META("\"slice:w\":\"2 3" H) "\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, LM_E_FORMAT, "another type or shape" },
        { GOOD1, 4, META("\"slice:w\":\"3 3" H) W("1", "2") "}", 2, LM_E_FORMAT, "are not rows of 3" },
        { GOOD1, 4, META("\"slice:w\":\"9223372036854775807 3" H) W("1", "2") "}", 2, LM_E_FORMAT, "are not rows of 3" },
        { GOOD1, 4, META("\"slice:w\":\"9223372036854775807 9223372036854775807" H) W("1", "2") "}", 2, LM_E_FORMAT, "are not rows of" },
        { GOOD1, 4, META("\"slice:w\":\"0 9223372036854775807" H) W("1", "2") "}", 2, LM_E_FORMAT, "more than 2^63 bytes" },
        { GOOD1, 4, META("\"slice:w\":\"99999999999999999999 3" H) W("1", "2") "}", 2, LM_E_FORMAT, "wanted its first row" },
        { GOOD1, 4, META("\"slice:w\":\"18446744073709551618 3" H) W("1", "2") "}", 2, LM_E_FORMAT, "wanted its first row" },      /* 2 modulo 2^64 */
        { GOOD1, 4, META("\"slice:w\":\"-1 3" H) W("1", "2") "}", 2, LM_E_FORMAT, "wanted its first row" },
        { GOOD1, 4, META("\"slice:w\":\"02 3" H) W("1", "2") "}", 2, LM_E_FORMAT, "wanted its first row" },
        { GOOD1, 4, META("\"slice:w\":\"2  3" H) W("1", "2") "}", 2, LM_E_FORMAT, "wanted its first row" },
        { GOOD1, 4, META("\"slice:w\":\"2 3\"") W("1", "2") "}", 2, LM_E_FORMAT, "wanted its first row" },
        { GOOD1, 4, META("\"slice:w\":\"2 3 0000000000000000000000000000000\"") W("1", "2") "}", 2, LM_E_FORMAT, "and a hash" },
        { GOOD1, 4, META("\"slice:w\":\"2 3 0000000000000000000000000000000G\"") W("1", "2") "}", 2, LM_E_FORMAT, "and a hash" },
        { GOOD1, 4, META("\"slice:w\":\"3 3" H) W("0", "0") "}", 0, LM_E_FORMAT, "is empty" },
        { GOOD1, 4, META("\"slice:w\":\"2 3" H) "\"w\":{\"dtype\":\"U8\",\"shape\":[1,0],\"data_offsets\":[0,0]}}", 0, LM_E_FORMAT, "is empty" },
        { GOOD1, 4, META("\"slice:s\":\"1 2" H) "\"s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, LM_E_FORMAT, "\"s\"" },
        { GOOD1, 4, META("\"slice:v\":\"2 3" H) W("1", "2") "}", 2, LM_E_FORMAT, "no metadata \"slice:w\"" },
        { GOOD1, 4, "{\"__metadata__\":{" F "}," W("1", "2") "}", 2, LM_E_FORMAT, "1 entries of metadata for 1 tensors" },
        { GOOD1, 4, META("\"slice:w\":\"2 3" H ",\"more\":\"\"") W("1", "2") "}", 2, LM_E_FORMAT, "3 entries of metadata" },
        { GOOD1, 4, META("\"slice:w\":\"2 3" H ",\"slice:w\":\"2 3" H) W("1", "2") "}", 2, LM_E_FORMAT, "given twice" },
        { GOOD1, 4, "{\"__metadata__\":{\"format\":\"pt\",\"slice:w\":\"2 3" H "}," W("1", "2") "}", 2, LM_E_FORMAT, "wanted loam-slices-1" },
        { GOOD1, 4, "{" W("1", "2") "}", 2, LM_E_FORMAT, "wanted loam-slices-1" },
        { GOOD1, 4, META("\"slice:w\":\"2 3" H) W("1", "2") "}", 1, LM_E_FORMAT, "data" },
        { GOOD1, 4, NULL, 0, LM_E_NOTFOUND, TWO },
        { NULL, 0, GOOD2, 2, LM_E_NOTFOUND, ONE },
    };
    lm_st *st;
    for (int i = 0; i < LM_COUNT(bad); i++) {
        clean();
        if (bad[i].one) put(ONE, bad[i].one, DATA, bad[i].n1);
        if (bad[i].two) put(TWO, bad[i].two, DATA, bad[i].n2);
        for (int model = 0; model < 2; model++) {
            const lm_err e = model ? lm_st_open(&st, ctx, root) : lm_st_open_slices(&st, ctx, root);
            if (!e) lm_st_close(st);
            if (e != bad[i].err || !strstr(lm_error(ctx), bad[i].says)) {
                lm_t_fail++;
                printf("case %d: %s: %s; wanted \"%s\"\n", i, lm_err_name(e), e ? lm_error(ctx) : "", bad[i].says);
            }
        }
    }
    clean();                                                    /* the same with a good pair, so that the cases above differ in what they say they do */
    put(ONE, GOOD1, DATA, 4); put(TWO, GOOD2, DATA + 4, 2);
    LM_NEED_OK(ctx, lm_st_open_slices(&st, ctx, root));
    lm_st_close(st);
    put("shard-00001-of-00003.safetensors", GOOD1, DATA, 4);
    LM_CHECK_ERR(ctx, lm_st_open_slices(&st, ctx, root), LM_E_FORMAT, "two checkpoints in one folder");
    LM_CHECK(lm_st_is_sliced(ctx, root));
    clean();
    put("shard-00001-of-99999.safetensors", GOOD1, DATA, 4);   /* more than there may be, and names that are not quite such */
    put("shard-1-of-2.safetensors", GOOD1, DATA, 4); put("shard-00003-of-00002.safetensors", GOOD1, DATA, 4);
    LM_CHECK_ERR(ctx, lm_st_open_slices(&st, ctx, root), LM_E_NOTFOUND, "no shard-00001-of-");
    LM_CHECK_ERR(ctx, lm_st_open(&st, ctx, root), LM_E_NOTFOUND, "neither model.safetensors");
    LM_CHECK(!lm_st_is_sliced(ctx, root));
    clean();
}
/* What the writer makes: odd cuts, one tensor in one place, a scalar, a name with '/'; every range of it, by whatever files have it. */
static void test_reads(void) {
    enum { R = 11, C = 3, N = 3 };
    static const int64_t cuts[N + 1] = { 0, 1, 7, R };
    float w[R * C], s = 4, v[2] = { 5, 6 }, got[R * C];
    for (int i = 0; i < R * C; i++) w[i] = (float)i * 1.5f;
    for (int k = 0; k < N; k++) {
        char name[LM_ST_SHARD_NAME];
        lm_st_writer *x;
        lm_hash128_t h = { 0 };
        int64_t bytes = 0;
        const float *p = w + cuts[k] * C;
        const int64_t n = cuts[k + 1] - cuts[k];
        lm_st_shard_name(name, k, N);
        LM_NEED_OK(ctx, lm_st_writer_new(&x, ctx, at(name), 0));
        LM_CHECK_OK(ctx, lm_st_writer_sum(x, &h, &bytes));
        LM_CHECK_OK(ctx, lm_st_writer_slice(x, "w", LM_F32, 2, (int64_t[]){ R, C }, cuts[k], n, lm_hash128(p, (size_t)(n * C) * 4)));
        if (k == 1) LM_CHECK_OK(ctx, lm_st_writer_slice(x, "s", LM_F32, 0, NULL, 0, 1, lm_hash128(&s, 4)));
        if (k == 2) LM_CHECK_OK(ctx, lm_st_writer_slice(x, "optimizer/v", LM_F32, 1, (int64_t[]){ 2 }, 0, 2, lm_hash128(v, 8)));
        LM_CHECK_OK(ctx, lm_st_writer_write(x, p, (size_t)(n * C) * 4));
        if (k == 1) LM_CHECK_OK(ctx, lm_st_writer_write(x, &s, 4));
        if (k == 2) LM_CHECK_OK(ctx, lm_st_writer_write(x, v, 8));
        LM_NEED_OK(ctx, lm_st_writer_commit(x));
        char *all; size_t len;
        LM_NEED_OK(ctx, lm_file_read_all(ctx, at(name), 1 << 20, &all, &len));
        const lm_hash128_t want = lm_hash128(all, len);          /* taken while it was written */
        LM_CHECK(bytes == (int64_t)len && h.lo == want.lo && h.hi == want.hi);
        lm_free(ctx, all);
    }
    lm_st *st;
    const void *map;
    lm_file *f;
    int64_t off;
    LM_CHECK(lm_st_is_sliced(ctx, root));
    LM_NEED_OK(ctx, lm_st_open_slices(&st, ctx, root));
    LM_CHECK(lm_st_count(st) == 3 && lm_st_find(st, "optimizer/v") && lm_st_meta_count(st) == 1 && lm_st_shards(st) == N);
    const lm_st_tensor *t = lm_st_find(st, "w");
    LM_CHECK(t && t->rank == 2 && t->dim[0] == R && t->dim[1] == C && t->bytes == (int64_t)sizeof w && t->n_slice == N);
    for (int64_t a = 0; a <= (int64_t)sizeof w; a++)
        for (int64_t b = a; b <= (int64_t)sizeof w; b++) {
            memset(got, 0xee, sizeof got);
            const lm_err e = lm_st_read(st, t, got, a, b - a);
            if (e || memcmp(got, (char *)w + a, (size_t)(b - a)) || (b - a < (int64_t)sizeof got && ((uint8_t *)got)[b - a] != 0xee)) {
                lm_t_fail++;
                printf("bytes %d to %d\n", (int)a, (int)b);
            }
        }
    LM_CHECK_ERR(ctx, lm_st_read(st, t, got, 1, sizeof w), LM_E_RANGE, "w");
    LM_CHECK(!lm_st_where(st, t, &f, &off) && !lm_st_map(st, t, &map) && !map);
    t = lm_st_find(st, "s");
    LM_CHECK(t && !t->rank && !t->n_slice && lm_st_where(st, t, &f, &off) && !lm_st_map(st, t, &map) && !memcmp(map, &s, 4));
    for (int k = 0; k < N; k++) LM_CHECK_OK(ctx, lm_st_check(st, k));
    LM_NEED_OK(ctx, lm_file_patch(ctx, lm_st_shard_path(st, 1), lm_file_size(f) - 9, "x", 1));
    LM_CHECK_ERR(ctx, lm_st_check(st, 1), LM_E_FORMAT, "rows 1 to 6 of \"w\"");
    LM_CHECK_OK(ctx, lm_st_check(st, 0));
    lm_st_close(st);
    LM_NEED_OK(ctx, lm_st_open(&st, ctx, root));                  /* the model's alone */
    LM_CHECK(lm_st_count(st) == 2 && !lm_st_find(st, "optimizer/v"));
    lm_st_close(st);
    /* every prefix and every bit of a shard: read as it was, or refused */
    size_t n; char *good;
    LM_NEED_OK(ctx, lm_file_read_all(ctx, at("shard-00001-of-00003.safetensors"), 1 << 20, &good, &n));
    for (size_t k = 0; k < n; k++) {
        LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("shard-00001-of-00003.safetensors"), good, k));
        if (!lm_st_open_slices(&st, ctx, root)) { lm_t_fail++; printf("%zu of %zu bytes are a shard\n", k, n); lm_st_close(st); }
    }
    for (size_t k = 0; k < 8 * n; k += LM_T_WATCHED ? 7 : 1) {
        good[k / 8] ^= (char)(1 << k % 8);
        LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("shard-00001-of-00003.safetensors"), good, n));
        if (!lm_st_open_slices(&st, ctx, root)) {                  /* in the data, a hash, a blank, or a name */
            lm_err e = lm_st_check(st, 0);
            t = lm_st_find(st, "w");
            if (!e && (!t || lm_st_read(st, t, got, 0, sizeof w) || memcmp(got, w, sizeof w))) { lm_t_fail++; printf("bit %zu is not noticed\n", k); }
            lm_st_close(st);
        }
        good[k / 8] ^= (char)(1 << k % 8);
    }
    lm_free(ctx, good);
    clean();
}
int main(int argc, char **argv) {
    snprintf(root, sizeof root, "%s/loam-slices-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(root) || lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 1;
    static const lm_t_case cases[] = { LM_T1(test_lies), LM_T1(test_reads) };
    const int rc = lm_t_main(cases, LM_COUNT(cases), argc, argv);
    (void)lm_dir_remove(ctx, root);
    lm_ctx_free(ctx);
    return rc;
}
