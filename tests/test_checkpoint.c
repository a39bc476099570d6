/* test_checkpoint.c — checkpoints as files, by one process: a whole one, the same cut into shards (slice_rig.h), and every way in which shards and manifest can
 * disagree with each other or with the run. That several ranks write and read them is test_dist.c's. */
#include <sys/stat.h>
#include <unistd.h>
#include "slice_rig.h"
#include "test.h"

static lm_ctx *ctx;
static char root[64], whole[128], cut[128];
static const char *at(const char *name) {
    static char p[8][300];
    static int k;
    snprintf(p[k = (k + 1) % 8], sizeof *p, "%s/%s", root, name);
    return p[k];
}
enum { V = 31 };                                                /* odd: its rows divide by nothing */
static lm_cfg config(const char *family) {
    const bool gpt2 = !strcmp(family, "gpt2");
    lm_cfg c = { .model = lm_model_by_name(family), .vocab = V, .d = 12, .n_layer = 1, .n_head = 2, .n_kv = gpt2 ? 2 : 1, .d_head = 6, .d_ff = 20, .max_pos = 16,
                 .eps = 1e-5, .init_std = 0.2, .tie = gpt2, .bos = -1, .act = gpt2 ? LM_ACT_GELU_TANH : LM_ACT_SILU, .hf_type = family };
    c.rope.d_head = 6; c.rope.base = 10000; c.rope.max_pos = 16;
    return c;
}
typedef struct { lm_store *s; lm_trainer *t; lm_batch b; } rig;
static lm_err rig_new(rig *r, const char *family, const char *optim, bool pure, uint64_t seed) {
    const lm_cfg c = config(family);
    const lm_trainer_opts o = { .batch = 1, .seq = 8, .mm = pure ? LM_BF16 : LM_F32, .pure = pure, .seed = 1,
                                .optim = { .name = optim, .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1,
                                           .muon_lr = 0.02, .muon_momentum = 0.95, .muon_steps = 5 } };
    *r = (rig){ 0 };
    LM_TRY(lm_store_new(&r->s, ctx));
    LM_TRY(lm_model_init(ctx, &c, r->s, seed));
    LM_TRY(lm_trainer_new(&r->t, ctx, &c, r->s, &o));
    return lm_batch_alloc(ctx, &r->b, 1, 8);
}
static void rig_free(rig *r) { lm_batch_free(ctx, &r->b); lm_trainer_free(r->t); lm_store_free(r->s); }
static lm_err steps(rig *r, int from, int to) {
    for (int s = from; s < to; s++) {
        double loss = 0, norm;
        for (int i = 0; i < 8; i++) { r->b.tokens[i] = (s * 7 + i * i) % V; r->b.target[i] = (s * 7 + (i + 1) * (i + 1)) % V; r->b.pos[i] = i; r->b.start[i] = 0; }
        r->b.n_target = 8;
        LM_TRY(lm_trainer_accumulate(r->t, &r->b, s, 0, &loss));
        LM_TRY(lm_trainer_update(r->t, s + 1, 1, 8, &norm));
    }
    return LM_OK;
}
/* Weights and what is written beside them, all bytes. */
static lm_hash128_t everything(rig *r) {
    lm_hasher *h = lm_hasher_new();
    for (int i = 0; i < lm_store_count(r->s); i++) {
        lm_tensor x;
        const char *name = lm_store_name(r->s, i, &x);
        if (!lm_ckpt_param(r->t, name) && !lm_ckpt_state_of(r->t, i)) continue;
        lm_hasher_add(h, name, strlen(name) + 1);
        lm_hasher_add(h, x.data, (size_t)lm_numel(&x) * lm_dtype_size((lm_dtype)x.dtype));
    }
    const lm_hash128_t out = lm_hasher_get(h);
    lm_hasher_free(h);
    return out;
}
static const lm_ckpt_state STATE = { .step = 2, .seqs = 5, .best_val = 1.5, .isa = "" };
static bool equal_files(const char *a, const char *b) {
    char *x, *y;
    size_t n, k;
    if (lm_file_read_all(ctx, a, 1 << 24, &x, &n)) return false;
    if (lm_file_read_all(ctx, b, 1 << 24, &y, &k)) { lm_free(ctx, x); return false; }
    const bool is = n == k && !memcmp(x, y, n);
    lm_free(ctx, x); lm_free(ctx, y);
    return is;
}
/* A folder of shards as a model: loaded (also from the mapping), and written as one that has the bytes of a whole save. */
static lm_err one(void *ud, const char *name, lm_tensor *t) {
    struct { lm_weights *w; lm_store *s; } *x = ud;
    if (lm_store_count(x->s)) LM_TRY(lm_store_remove(x->s, lm_store_name(x->s, 0, NULL)));
    LM_TRY(lm_weights_load_one(x->w, x->s, name));
    return lm_store_get(x->s, name, t) ? LM_OK : LM_E_INTERNAL;
}
static void as_a_model(const char *what, rig *r) {
    struct { lm_weights *w; lm_store *s; } x;
    LM_NEED_OK(ctx, lm_weights_open(&x.w, ctx, cut));
    for (int map = 0; map < 2; map++) {
        LM_NEED_OK(ctx, lm_store_new(&x.s, ctx));
        LM_CHECK_OK(ctx, lm_weights_load(x.w, x.s, &(lm_load_opts){ .dtype = LM_QUANT, .map = map }));
        int bad = 0;
        for (int i = 0; i < lm_trainer_n_params(r->t); i++) {
            lm_tensor a, b;
            const char *name = lm_trainer_param(r->t, i)->name;
            LM_CHECK(lm_store_get(x.s, name, &a) && lm_store_get(r->s, name, &b));
            for (int64_t k = 0; k < lm_numel(&a); k++)
                bad += b.dtype == LM_F32 ? memcmp((float *)a.data + k, (float *)b.data + k, 4) != 0 : lm_bf16_to_f32(((uint16_t *)b.data)[k]) != ((float *)a.data)[k];
        }
        if (bad) { lm_t_fail++; printf("%s: %d numbers differ in the loaded model\n", what, bad); }
        lm_store_free(x.s);
    }
    LM_NEED_OK(ctx, lm_store_new(&x.s, ctx));
    LM_CHECK_OK(ctx, lm_model_save_hf_from(ctx, lm_weights_cfg(x.w), &(lm_param_source){ one, &x }, at("hf"), LM_F32, 0));
    lm_store_free(x.s); lm_weights_close(x.w);
    char a[200], b[200];
    for (int i = 0; i < 2; i++) {
        static const char *const f[] = { "model.safetensors", "config.json" };
        snprintf(a, sizeof a, "%s/%s", whole, f[i]); snprintf(b, sizeof b, "%s/hf/%s", root, f[i]);
        if (!equal_files(a, b)) { lm_t_fail++; printf("%s: %s has other bytes than a whole save\n", what, f[i]); }
    }
    LM_CHECK_OK(ctx, lm_dir_remove(ctx, at("hf")));
}
static void test_shards_are_the_whole(void) {
    static const struct { const char *family, *optim; bool pure; } kinds[] = { { "llama", "adamw", false }, { "gpt2", "muon", false }, { "llama", "adamw", true } };
    for (int k = 0; k < LM_COUNT(kinds); k++) {
        rig r, x;
        lm_ckpt_state st;
        LM_NEED_OK(ctx, rig_new(&r, kinds[k].family, kinds[k].optim, kinds[k].pure, 3));
        LM_NEED_OK(ctx, steps(&r, 0, 2));
        LM_NEED_OK(ctx, lm_ckpt_save(r.t, at("c"), &STATE, 1));
        LM_CHECK_OK(ctx, lm_ckpt_verify(ctx, whole));
        const lm_hash128_t all = everything(&r), weights = lm_trainer_hash(r.t);
        LM_CHECK_OK(ctx, steps(&r, 2, 4));
        const lm_hash128_t later = everything(&r);
        LM_CHECK_OK(ctx, lm_ckpt_load(r.t, whole, &st));
        LM_CHECK(lm_hash_same(everything(&r), all));
        for (int n = 2; n <= 5; n++) {
            char what[80];
            snprintf(what, sizeof what, "%s %s, %d shards", kinds[k].family, kinds[k].optim, n);
            LM_NEED_OK(ctx, cut_checkpoint(ctx, whole, cut, n, NULL));
            LM_CHECK_OK(ctx, lm_ckpt_verify(ctx, cut));
            LM_NEED_OK(ctx, rig_new(&x, kinds[k].family, kinds[k].optim, kinds[k].pure, 4));
            LM_NEED_OK(ctx, steps(&x, 0, 1));                       /* it was elsewhere */
            LM_CHECK(!lm_hash_same(lm_trainer_hash(x.t), weights));
            memset(&st, 0, sizeof st);
            LM_CHECK_OK(ctx, lm_ckpt_load(x.t, cut, &st));
            if (!lm_hash_same(everything(&x), all) || !lm_hash_same(lm_trainer_hash(x.t), weights)) { lm_t_fail++; printf("%s: other bytes\n", what); }
            LM_CHECK(st.step == 2 && st.seqs == 5 && st.best_val == 1.5);
            LM_CHECK_OK(ctx, steps(&x, 2, 4));
            LM_CHECK(lm_hash_same(everything(&x), later));                  /* and the steps that follow */
            rig_free(&x);
            as_a_model(what, &r);
            LM_CHECK_OK(ctx, lm_dir_remove(ctx, cut));
        }
        rig_free(&r);
        LM_CHECK_OK(ctx, lm_dir_remove(ctx, at("c")));
    }
}
/* The hash of weights is one of names, shapes, places and values, and of nothing else. */
static void test_the_hash_of_weights(void) {
    rig r, p;
    lm_tensor w;
    LM_NEED_OK(ctx, rig_new(&r, "llama", "adamw", false, 3));
    LM_NEED_OK(ctx, rig_new(&p, "llama", "adamw", true, 3));
    const lm_hash128_t h = lm_trainer_hash(r.t);
    LM_CHECK(lm_hash_same(h, lm_trainer_hash(r.t)) && (h.lo || h.hi));
    LM_CHECK(lm_store_get(r.s, "model.layers.0.mlp.up_proj.weight", &w));
    float *f = w.data, row[12], was = f[5];
    f[5] += 1e-3f; LM_CHECK(!lm_hash_same(h, lm_trainer_hash(r.t))); f[5] = was;
    memcpy(row, f, sizeof row); memcpy(f, f + 12, sizeof row); memcpy(f + 12, row, sizeof row);
    LM_CHECK(!lm_hash_same(h, lm_trainer_hash(r.t)));                       /* two rows in each other's places */
    memcpy(row, f, sizeof row); memcpy(f, f + 12, sizeof row); memcpy(f + 12, row, sizeof row);
    LM_CHECK(lm_hash_same(h, lm_trainer_hash(r.t)));
    lm_tensor a, b;
    LM_CHECK(lm_store_get(r.s, "model.layers.0.mlp.gate_proj.weight", &a) && lm_store_get(r.s, "model.layers.0.mlp.up_proj.weight", &b));
    for (int64_t i = 0; i < lm_numel(&a); i++) { const float x = ((float *)a.data)[i]; ((float *)a.data)[i] = ((float *)b.data)[i]; ((float *)b.data)[i] = x; }
    LM_CHECK(!lm_hash_same(h, lm_trainer_hash(r.t)));                       /* two matrices of one shape in each other's places */
    /* kept in bf16 or in f32: the same numbers have the same hash */
    for (int i = 0; i < lm_trainer_n_params(p.t); i++) {
        const char *name = lm_trainer_param(p.t, i)->name;
        LM_CHECK(lm_store_get(p.s, name, &a) && lm_store_get(r.s, name, &b));
        lm_convert(b.data, LM_F32, a.data, (lm_dtype)a.dtype, lm_numel(&a));
    }
    LM_CHECK(lm_hash_same(lm_trainer_hash(p.t), lm_trainer_hash(r.t)));
    rig_free(&p); rig_free(&r);
}

/* ---- refusals ----------------------------------------------------------------------------------------------------------------------------- */
static bool is(const cut_slice *s, const char *name, int shard) { return !strcmp(s->name, name) && s->shard == shard; }
#define UP "model.layers.0.mlp.up_proj.weight"
static bool missing(cut_slice *s, int k) { (void)k; return !is(s, UP, 1); }
static bool no_moment(cut_slice *s, int k) { (void)k; return strcmp(s->name, "optimizer/adamw.m." UP) != 0; }
static bool moved(cut_slice *s, int k) { (void)k; if (is(s, UP, 1)) s->first--; return true; }
static bool shorter(cut_slice *s, int k) { (void)k; if (is(s, UP, 1)) s->rows--; return true; }
static bool taller(cut_slice *s, int k) { (void)k; if (!strcmp(s->name, UP)) s->dim[0]++; return true; }
static bool fewer(cut_slice *s, int k) { (void)k; if (!strcmp(s->name, UP)) { if (s->shard) return false; s->dim[0] = s->rows; } return true; }
static bool swapped(cut_slice *s, int k) { (void)k; if (!strcmp(s->name, UP)) s->shard = !s->shard; return true; }       /* as good as the other */
static bool exchanged(cut_slice *s, int k) { (void)k; if (!strcmp(s->name, UP)) s->first = s->first ? 0 : 10; return true; }
static bool integers(cut_slice *s, int k) { (void)k; if (!strcmp(s->name, "optimizer/adamw.m." UP)) s->dtype = LM_I32; return true; }
static bool renamed(cut_slice *s, int k) { (void)k; if (!strcmp(s->name, UP)) snprintf(s->name, sizeof s->name, "../" UP); return true; }
static void refuses(rig *r, const char *what, lm_err want, const char *says, bool verifies) {
    lm_ckpt_state st;
    const lm_err v = lm_ckpt_verify(ctx, cut);
    if (verifies ? v != LM_OK : v != want || !strstr(lm_error(ctx), says)) {
        lm_t_fail++;
        printf("%s: verifying: %s: %s\n", what, lm_err_name(v), v ? lm_error(ctx) : "");
    }
    const lm_err e = lm_ckpt_load(r->t, cut, &st);
    if (e != want || (e && !strstr(lm_error(ctx), says))) { lm_t_fail++; printf("%s: %s: %s; wanted \"%s\"\n", what, lm_err_name(e), e ? lm_error(ctx) : "", says); }
    LM_CHECK_OK(ctx, lm_dir_remove(ctx, cut));
}
static void test_shards_that_lie(void) {
    rig r;
    static const struct { const char *what; cut_opts o; lm_err err; const char *says; bool verifies; } bad[] = {
        { "a slice left out", { missing }, LM_E_FORMAT, "rows 10 to 19 of \"" UP "\" are in no shard" },
        { "vectors twice", { .again = true }, LM_E_FORMAT, "row 0 of \"" },
        { "a slice one row too early", { moved }, LM_E_FORMAT, "row 9 of \"" UP "\" is in" },
        { "a slice that ends too early", { shorter }, LM_E_FORMAT, "rows 19 to 19 of \"" UP "\" are in no shard" },
        { "a row too many", { taller }, LM_E_FORMAT, "rows 20 to 20 of \"" UP "\"" },
        { "rows too few", { fewer }, LM_E_MISMATCH, UP ": got F32 (10, 12), this run's configuration wants F32 (20, 12)", true },
        { "no moment", { no_moment }, LM_E_NOTFOUND, "optimizer/adamw.m." UP, true },
        { "a moment of integers", { integers }, LM_E_MISMATCH, "got I32", true },
        { "another name", { renamed }, LM_E_NOTFOUND, UP, true },
        { "rows in each other's places", { exchanged }, LM_E_MISMATCH, "do not have the hash the manifest states", true },
        { "files in each other's places", { swapped }, LM_OK, "", true } };
    LM_NEED_OK(ctx, rig_new(&r, "llama", "adamw", false, 3));
    LM_NEED_OK(ctx, steps(&r, 0, 2));
    LM_NEED_OK(ctx, lm_ckpt_save(r.t, at("c"), &STATE, 1));
    const lm_hash128_t all = everything(&r);
    for (int i = 0; i < LM_COUNT(bad); i++) {
        const lm_err e = cut_checkpoint(ctx, whole, cut, 2, &bad[i].o);
        if (e) { lm_t_fail++; printf("%s: cannot be made: %s\n", bad[i].what, lm_error(ctx)); }
        refuses(&r, bad[i].what, bad[i].err, bad[i].says, bad[i].verifies);
    }
    lm_ckpt_state st;
    LM_CHECK_OK(ctx, lm_ckpt_load(r.t, whole, &st));
    LM_CHECK(lm_hash_same(everything(&r), all));
    rig_free(&r);
    LM_CHECK_OK(ctx, lm_dir_remove(ctx, at("c")));
}
/* FROM becomes TO in the manifest, the first time it is there. */
static void edit_manifest(const char *from, const char *to) {
    char path[200], *m;
    size_t n;
    lm_str s = { .ctx = ctx };
    snprintf(path, sizeof path, "%s/manifest.json", cut);
    LM_NEED_OK(ctx, lm_file_read_all(ctx, path, 1 << 20, &m, &n));
    char *p = strstr(m, from);
    LM_CHECK(p != NULL);
    if (p) { lm_str_add(&s, m, (size_t)(p - m)); lm_str_puts(&s, to); lm_str_puts(&s, p + strlen(from)); LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, path, s.p, s.n)); }
    lm_str_free(&s); lm_free(ctx, m);
}
static void test_manifests_that_lie(void) {
    rig r;
    char path[300], other[300];
    LM_NEED_OK(ctx, rig_new(&r, "llama", "adamw", false, 3));
    LM_NEED_OK(ctx, steps(&r, 0, 2));
    LM_NEED_OK(ctx, lm_ckpt_save(r.t, at("c"), &STATE, 1));
    static const struct { const char *from, *to; lm_err err; const char *says; } edits[] = {
        { "loam-checkpoint-2", "loam-checkpoint-1", LM_E_UNSUPPORTED, "this program reads loam-checkpoint-2" },
        { "\"shard-00001-of-00002.safetensors\"", "\"../c/step-00000002/model.safetensors\"", LM_E_FORMAT, "wanted shard-00001-of-00002.safetensors" },
        { "\"shard-00001-of-00002.safetensors\"", "\"/etc/passwd\"", LM_E_FORMAT, "wanted shard-00001-of-00002.safetensors" },
        { "\"shard-00001-of-00002.safetensors\"", "\"shard-00002-of-00002.safetensors\"", LM_E_FORMAT, "wanted shard-00001" },
        { "\"shard-00001-of-00002.safetensors\"", "\"model.safetensors\"", LM_E_FORMAT, "wanted optimizer.safetensors" },
        { "\"shard-00002-of-00002.safetensors\"", "\"shard-00002-of-00003.safetensors\"", LM_E_FORMAT, "wanted shard-00002-of-00002" },
        { "\"config.json\"", "\"config.yaml\"", LM_E_FORMAT, "wanted config.json" },
        { "\"bytes\": ", "\"bytes\": -", LM_E_RANGE, "bytes" },
        { "\"bytes\": ", "\"bytes\": 9223372036854775807", LM_E_FORMAT, "" },
        { "\"bytes\": ", "\"bytes\": 1", LM_E_FORMAT, "its manifest says 1" },
        { "\"xxh3_128\": \"", "\"xxh3_128\": \"0", LM_E_FORMAT, "32 hexadecimal digits" },
        { "\"files\": [", "\"files\": [], \"more\": [", LM_E_FORMAT, "0 files are listed" },
        { "    { \"name\": \"config.json\"", "    { \"name\": \"config.json\", \"name\": \"x\"", LM_E_FORMAT, "" },
        { "\"step\": 2", "\"step\": -2", LM_E_RANGE, "step" } };
    for (int i = 0; i < LM_COUNT(edits); i++) {
        LM_NEED_OK(ctx, cut_checkpoint(ctx, whole, cut, 2, NULL));
        edit_manifest(edits[i].from, edits[i].to);
        lm_ckpt_state st;
        const lm_err e = lm_ckpt_load(r.t, cut, &st);
        if (!e || (edits[i].err != LM_E_RANGE && e != edits[i].err) || !strstr(lm_error(ctx), edits[i].says)) {
            lm_t_fail++;
            printf("%s → %s: %s: %s\n", edits[i].from, edits[i].to, lm_err_name(e), e ? lm_error(ctx) : "");
        }
        LM_CHECK(lm_ckpt_verify(ctx, cut) == e);
        LM_CHECK_OK(ctx, lm_dir_remove(ctx, cut));
    }
    /* another run's weights under this one's manifest */
    LM_NEED_OK(ctx, cut_checkpoint(ctx, whole, cut, 2, NULL));
    char hex[33];
    lm_manifest m;
    LM_NEED_OK(ctx, lm_manifest_read(ctx, cut, &m));
    lm_hash_hex(m.weights, hex);
    lm_manifest_free(ctx, &m);
    edit_manifest(hex, "00000000000000000000000000000000");
    refuses(&r, "another hash of weights", LM_E_MISMATCH, "do not have the hash the manifest states", true);
    /* damage, and what is not there */
    for (int k = 0; k < 6; k++) {
        LM_NEED_OK(ctx, cut_checkpoint(ctx, whole, cut, 3, NULL));
        snprintf(path, sizeof path, "%s/shard-00002-of-00003.safetensors", cut); snprintf(other, sizeof other, "%s/shard-00003-of-00003.safetensors", cut);
        lm_st *st;
        LM_NEED_OK(ctx, lm_st_open_slices(&st, ctx, cut));
        const lm_st_tensor *up = lm_st_find(st, UP);
        int64_t last = 0;
        for (int i = 0; i < lm_st_count(st); i++) last += lm_st_at(st, i)->bytes;
        LM_CHECK(up && last);
        lm_st_close(st);
        struct stat sb;
        LM_CHECK(!stat(path, &sb));
        static const struct { const char *what; lm_err err; const char *says; } done[] = {
            { "a changed byte", LM_E_FORMAT, "do not have the hash that is stated for them" },
            { "a changed header", LM_E_FORMAT, "shard-00002-of-00003.safetensors does not have the hash" },
            { "a cut shard", LM_E_FORMAT, "its manifest says" },
            { "no shard", LM_E_NOTFOUND, "shard-00002-of-00003.safetensors" },
            { "a shard in another's place", LM_E_NOTFOUND, "shard-00002-of-00003" },
            { "a shard of another set", LM_E_FORMAT, "two checkpoints in one folder" } };
        if (k == 0) LM_CHECK_OK(ctx, lm_file_patch(ctx, path, sb.st_size - 1, "\x7f", 1));
        if (k == 1) LM_CHECK_OK(ctx, lm_file_patch(ctx, path, 12, "\x7f", 1));
        if (k == 2) LM_CHECK(!truncate(path, sb.st_size - 1));
        if (k == 3) LM_CHECK(!unlink(path));
        if (k == 4) LM_CHECK(!rename(path, other));
        if (k == 5) { snprintf(other, sizeof other, "%s/shard-00001-of-00002.safetensors", cut); LM_CHECK(!link(path, other)); }
        refuses(&r, done[k].what, done[k].err, done[k].says, false);
    }
    rig_free(&r);
    LM_CHECK_OK(ctx, lm_dir_remove(ctx, at("c")));
}
int main(int argc, char **argv) {
    snprintf(root, sizeof root, "%s/loam-ckpt-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(root) || lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 1;
    snprintf(whole, sizeof whole, "%s/c/step-00000002", root); snprintf(cut, sizeof cut, "%s/cut", root);
    static const lm_t_case cases[] = { LM_T1(test_shards_are_the_whole), LM_T1(test_the_hash_of_weights), LM_T1(test_shards_that_lie),
                                       LM_T1(test_manifests_that_lie) };
    const int rc = lm_t_main(cases, LM_COUNT(cases), argc, argv);
    (void)lm_dir_remove(ctx, root);
    lm_ctx_free(ctx);
    return rc;
}
