/* ckpt_manifest.c — manifest.json: where a run stood, and the files of its checkpoint with sizes and hashes.
 *
 * The names of the files are not taken from it: it must list the three of a whole checkpoint, or config.json and shard 1 to N of N, in this order. */
#include <string.h>
#include "base/file.h"
#include "format/json.h"
#include "train/train_int.h"

static const char FORMAT[] = "loam-checkpoint-2";
static const char *const whole[LM_CKPT_WHOLE] = { "config.json", "model.safetensors", "optimizer.safetensors" };

lm_err lm_manifest_new(lm_ctx *ctx, int shards, lm_manifest *m) {
    m->sliced = shards > 0; m->n = shards ? shards + 1 : LM_CKPT_WHOLE;
    if (!(m->file = lm_calloc(ctx, LM_MEM_IO, (size_t)m->n, sizeof *m->file))) return LM_E_NOMEM;
    for (int i = 0; i < m->n; i++) {
        if (shards && i) lm_st_shard_name(m->file[i].name, i - 1, shards);
        else snprintf(m->file[i].name, sizeof m->file[i].name, "%s", whole[i]);
    }
    return LM_OK;
}
void lm_manifest_free(lm_ctx *ctx, lm_manifest *m) { lm_free(ctx, m->file); m->file = NULL; m->n = 0; }
/* In pieces: a mapped file would count as this process's memory. */
static lm_err file_hash(lm_ctx *ctx, const char *path, lm_hash128_t *h, int64_t *bytes) {
    enum { PIECE = 1 << 20 };
    lm_file *f;
    LM_TRY(lm_file_open(&f, ctx, path));
    char *p = lm_alloc(ctx, LM_MEM_IO, PIECE);
    lm_hasher *s = lm_hasher_new();
    lm_err e = p && s ? LM_OK : lm_fail(ctx, LM_E_NOMEM, "out of memory hashing %s", path);
    *bytes = lm_file_size(f);
    for (int64_t at = 0; at < *bytes && !e; at += PIECE) {
        const size_t n = (size_t)lm_min64(PIECE, *bytes - at);
        if (!(e = lm_file_pread(f, p, n, at))) lm_hasher_add(s, p, n);
    }
    if (!e) *h = lm_hasher_get(s);
    lm_hasher_free(s); lm_free(ctx, p); lm_file_close(f);
    return e;
}
lm_err lm_manifest_sum(lm_ctx *ctx, const char *path, lm_ckpt_file *f) {
    char *p;
    LM_TRY(lm_path_join(ctx, &p, path, f->name));
    const lm_err err = file_hash(ctx, p, &f->hash, &f->bytes);
    lm_free(ctx, p);
    return err;
}
static void put_hash(lm_str *s, const char *key, lm_hash128_t h) {
    char hex[33];
    lm_hash_hex(h, hex);
    lm_str_printf(s, "  \"%s\": \"%s\",\n", key, hex);
}
lm_err lm_manifest_write(lm_ctx *ctx, const char *path, const lm_manifest *m, const char *mesh) {
    const lm_ckpt_state *st = &m->st;
    lm_str s = { .ctx = ctx };
    char hex[33], *p = NULL;
    lm_str_printf(&s, "{\n  \"format\": \"%s\",\n  \"step\": %lld,\n  \"sequences\": %lld,\n  \"best_val\": %.17g,\n", FORMAT, (long long)st->step,
                  (long long)st->seqs, st->best_val);
    put_hash(&s, "tokenizer_hash", st->tok_hash);
    put_hash(&s, "config_hash", st->config_hash);
    put_hash(&s, "data_hash", st->data_hash);
    put_hash(&s, "weights_hash", m->weights);
    lm_str_puts(&s, "  \"kernels\": "); lm_str_json(&s, st->isa, strlen(st->isa));
    lm_str_puts(&s, ",\n  \"mesh\": "); lm_str_json(&s, mesh, strlen(mesh));
    lm_str_puts(&s, ",\n  \"files\": [");
    for (int i = 0; i < m->n; i++) {
        lm_hash_hex(m->file[i].hash, hex);
        lm_str_printf(&s, "%s\n    { \"name\": \"%s\", \"bytes\": %lld, \"xxh3_128\": \"%s\" }", i ? "," : "", m->file[i].name,
                      (long long)m->file[i].bytes, hex);
    }
    lm_str_puts(&s, "\n  ]\n}\n");
    lm_err err = lm_str_err(&s);
    if (!err) err = lm_path_join(ctx, &p, path, "manifest.json");
    if (!err) err = lm_file_write_atomic(ctx, p, s.p, s.n);
    lm_free(ctx, p); lm_str_free(&s);
    return err;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------------------------ */
static lm_err hex_field(const lm_jv *o, const char *key, lm_hash128_t *h) {
    const char *s;
    LM_TRY(lm_json_str(o, key, LM_JSON_NEED, NULL, &s, NULL));
    return lm_hash_parse(s, h) ? LM_OK : lm_json_fail(o, LM_E_FORMAT, "%s is not 32 hexadecimal digits", key);
}
static lm_err kernels_field(const lm_jv *o, char *isa, size_t cap) {
    const char *s;
    size_t n = 0;
    LM_TRY(lm_json_str(o, "kernels", LM_JSON_NEED, NULL, &s, NULL));
    while (n < cap && s[n] >= ' ' && s[n] <= '~') n++;                        /* it is shown to people */
    snprintf(isa, cap, "%s", n < cap && !s[n] ? s : "");
    return LM_OK;
}
static lm_err files_field(lm_ctx *ctx, const lm_jv *root, lm_manifest *m) {
    lm_jv list, item;
    const char *name;
    LM_TRY(lm_json_arr(root, "files", LM_JSON_NEED, &list));
    const size_t n = lm_json_len(&list);
    if (n < LM_CKPT_WHOLE || n > LM_ST_MAX_SHARDS) return lm_json_fail(&list, LM_E_FORMAT, "%zu files are listed, a checkpoint has %d or more", n, LM_CKPT_WHOLE);
    LM_TRY(lm_json_item(&list, 1, &item));
    LM_TRY(lm_json_str(&item, "name", LM_JSON_NEED, NULL, &name, NULL));
    const bool sliced = strcmp(name, whole[1]);
    if (!sliced && n != LM_CKPT_WHOLE) return lm_json_fail(&list, LM_E_FORMAT, "%zu files are listed, a checkpoint with %s has %d", n, whole[1], LM_CKPT_WHOLE);
    LM_TRY(lm_manifest_new(ctx, sliced ? (int)n - 1 : 0, m));
    for (int i = 0; i < m->n; i++) {
        LM_TRY(lm_json_item(&list, (size_t)i, &item));
        LM_TRY(lm_json_str(&item, "name", LM_JSON_NEED, NULL, &name, NULL));
        if (strcmp(name, m->file[i].name)) return lm_json_fail(&item, LM_E_FORMAT, "the file is %.80s, wanted %s", name, m->file[i].name);
        LM_TRY(lm_json_int(&item, "bytes", LM_JSON_NEED, 0, 0, INT64_MAX / 2, &m->file[i].bytes));
        LM_TRY(hex_field(&item, "xxh3_128", &m->file[i].hash));
    }
    return LM_OK;
}
static lm_err fields(lm_ctx *ctx, const lm_jv *root, lm_manifest *m) {
    const char *format;
    LM_TRY(lm_json_str(root, "format", LM_JSON_NEED, NULL, &format, NULL));
    if (strcmp(format, FORMAT)) return lm_json_fail(root, LM_E_UNSUPPORTED, "the format is \"%.60s\", this program reads %s", format, FORMAT);
    LM_TRY(lm_json_int(root, "step", LM_JSON_NEED, 0, 0, INT64_MAX / 2, &m->st.step));
    LM_TRY(lm_json_int(root, "sequences", LM_JSON_NEED, 0, 0, INT64_MAX / 2, &m->st.seqs));
    LM_TRY(lm_json_num(root, "best_val", LM_JSON_NEED, 0, -1e300, 1e300, &m->st.best_val));
    LM_TRY(hex_field(root, "tokenizer_hash", &m->st.tok_hash));
    LM_TRY(hex_field(root, "config_hash", &m->st.config_hash));
    LM_TRY(hex_field(root, "data_hash", &m->st.data_hash));
    LM_TRY(hex_field(root, "weights_hash", &m->weights));
    LM_TRY(kernels_field(root, m->st.isa, sizeof m->st.isa));
    return files_field(ctx, root, m);
}
lm_err lm_manifest_read(lm_ctx *ctx, const char *path, lm_manifest *m) {
    char *p;
    json_t *j = NULL;
    *m = (lm_manifest){ 0 };
    LM_TRY(lm_path_join(ctx, &p, path, "manifest.json"));
    lm_err err = lm_json_load(ctx, p, 0, &j);
    const lm_jv root = lm_json_root(ctx, p, j);
    if (!err) err = fields(ctx, &root, m);
    lm_json_free(j); lm_free(ctx, p);
    return err;
}
/* Which rows are it? The sentence is about them where that can be found out, else about the file. */
static lm_err damaged(lm_ctx *ctx, const char *path, const lm_manifest *m, int i) {
    lm_st *st;
    lm_err err = LM_OK;
    if (m->sliced && i && !lm_st_open_slices(&st, ctx, path)) {
        err = lm_st_shards(st) == m->n - 1 ? lm_st_check(st, i - 1) : LM_OK;
        lm_st_close(st);
    }
    if (err == LM_E_FORMAT) return err;
    return lm_fail(ctx, LM_E_FORMAT, "%s/%s does not have the hash its manifest states: the file was changed or is damaged", path, m->file[i].name);
}
lm_err lm_manifest_check(lm_ctx *ctx, const char *path, const lm_manifest *m, int first, int step) {
    for (int i = first; i < m->n; i += step) {
        lm_ckpt_file got = m->file[i];
        LM_TRY(lm_manifest_sum(ctx, path, &got));
        if (got.bytes != m->file[i].bytes)
            return lm_fail(ctx, LM_E_FORMAT, "%s/%s has %lld bytes, its manifest says %lld", path, got.name, (long long)got.bytes, (long long)m->file[i].bytes);
        if (!lm_hash_same(got.hash, m->file[i].hash)) return damaged(ctx, path, m, i);
    }
    if (!m->sliced) return LM_OK;
    lm_st *st;
    LM_TRY(lm_st_open_slices(&st, ctx, path));
    const int n = lm_st_shards(st);
    lm_st_close(st);
    return n == m->n - 1 ? LM_OK : lm_fail(ctx, LM_E_FORMAT, "%s holds %d shards, its manifest lists %d", path, n, m->n - 1);
}
