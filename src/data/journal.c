/* journal.c — resume.json and index.json. */
#include "base/file_sys.h"
#include "data/tokenize.h"
#include "format/json.h"
#include <stdio.h>
#include <string.h>

#define MOST ((int64_t)1 << 60)
static const char *const side_name[2] = { "train", "val" };

lm_err lm_made_push(lm_ctx *ctx, lm_side *s, const lm_made *m) {
    if (s->n == s->cap) {
        int cap = s->cap ? 2 * s->cap : 16;
        lm_made *p = lm_realloc(ctx, LM_MEM_DATA, s->made, (size_t)cap * sizeof *p);
        if (!p) return LM_E_NOMEM;
        s->made = p;
        s->cap = cap;
    }
    s->made[s->n++] = *m;
    return LM_OK;
}
lm_err lm_journal_made_from(lm_tokenizing *t) {
    lm_str s = { .ctx = t->ctx };
    char hex[33];
    lm_hash_hex(t->kind.tok, hex);
    lm_str_printf(&s, "tokenize %d\n%s\n%s\n%lld %.17g %d %s\n", (int)LM_SHARD_VERSION, hex, t->o->field ? t->o->field : "text",
                  (long long)t->shard_tokens, t->o->val_fraction, t->ends.eos, t->o->on_error ? t->o->on_error : "fail");
    for (int i = 0; i < t->in.n; i++) {
        const lm_text_file *in = &t->in.v[i];
        lm_str_add(&s, in->name, strlen(in->name) + 1);
        lm_str_printf(&s, "%lld %lld\n", (long long)in->size, (long long)in->mtime);
    }
    lm_err err = lm_str_err(&s);
    if (!err) t->made_from = lm_hash128(s.p, s.n);
    lm_str_free(&s);
    return err;
}

/* ---- reading ------------------------------------------------------------------------------------------------------ */
static lm_err read_made(const lm_tokenizing *t, const lm_jv *row, lm_made *m) {
    const char *hex;
    int64_t next[2];
    int n;
    LM_TRY(lm_json_int(row, "tokens", LM_JSON_NEED, 0, 0, MOST, &m->sum.tokens));
    LM_TRY(lm_json_int(row, "documents", LM_JSON_NEED, 0, 0, MOST, &m->sum.docs));
    LM_TRY(lm_json_int(row, "bytes", LM_JSON_NEED, 0, 0, MOST, &m->sum.bytes));
    LM_TRY(lm_json_int(row, "size", LM_JSON_NEED, 0, 0, MOST, &m->sum.size));
    LM_TRY(lm_json_str(row, "hash", LM_JSON_NEED, NULL, &hex, NULL));
    if (!lm_hash_parse(hex, &m->sum.hash)) return lm_json_fail(row, LM_E_FORMAT, "\"hash\" is not a hash of 32 hexadecimal digits");
    LM_TRY(lm_json_int(row, "skipped", LM_JSON_NEED, 0, 0, MOST, &m->skipped));
    LM_TRY(lm_json_ints(row, "next", LM_JSON_NEED, 0, MOST, next, 2, &n));
    if (n != 2 || next[0] > t->in.n) return lm_json_fail(row, LM_E_FORMAT, "\"next\": wanted the number of a file and of a document in it");
    m->next = (lm_doc_at){ (int)next[0], next[1] };
    return LM_OK;
}
/* Is the shard there, whole, and the one that the journal means? */
static lm_err check_made(lm_tokenizing *t, const lm_side *s, const lm_made *m, bool *good) {
    char *path;
    lm_file *f = NULL;
    const void *p;
    size_t n;
    lm_shard sh;
    LM_TRY(lm_data_file(t->ctx, &path, s->dir, s->n));
    lm_err err = lm_file_open(&f, t->ctx, path);
    if (!err) err = lm_file_map(f, &p, &n);
    if (!err) err = lm_shard_verify(t->ctx, path, p, n);
    if (!err) err = lm_shard_parse(t->ctx, path, p, n, &sh);
    *good = !err && lm_hash_same(sh.hash, m->sum.hash) && (int64_t)n == m->sum.size;
    if (err && err != LM_E_NOMEM) lm_log(t->ctx, LM_LOG_WARN, "data", "%s; it is made again", lm_error(t->ctx));
    lm_file_close(f);
    lm_free(t->ctx, path);
    return err == LM_E_NOMEM ? err : LM_OK;
}
static lm_err read_sides(lm_tokenizing *t, const lm_jv *root) {
    for (int k = 0; k < 2; k++) {
        lm_jv rows;
        LM_TRY(lm_json_arr(root, side_name[k], LM_JSON_NEED, &rows));
        bool good = true;
        for (size_t i = 0; i < lm_json_len(&rows) && good; i++) {
            lm_jv row;
            lm_made m;
            LM_TRY(lm_json_item(&rows, i, &row));
            LM_TRY(read_made(t, &row, &m));
            LM_TRY(check_made(t, &t->side[k], &m, &good));
            if (good) LM_TRY(lm_made_push(t->ctx, &t->side[k], &m));
        }
    }
    return LM_OK;
}
static lm_err other_data(lm_tokenizing *t) {
    return lm_fail(t->ctx, LM_E_MISMATCH,
                   "%s: holds a finished data set made from other inputs, options or another tokenizer; remove the folder or name another",
                   t->o->out);
}
lm_err lm_journal_read(lm_tokenizing *t, bool *done) {
    json_t *v;
    *done = false;
    lm_err err = lm_json_load(t->ctx, t->journal, 0, &v);
    if (err == LM_E_NOTFOUND) return lm_exists(t->index) ? other_data(t) : LM_OK;
    if (err) return err;
    lm_jv root = lm_json_root(t->ctx, t->journal, v);
    const char *hex;
    lm_hash128_t h;
    LM_GOTO(lm_json_str(&root, "made_from", LM_JSON_NEED, NULL, &hex, NULL), out);
    bool same = lm_hash_parse(hex, &h) && lm_hash_same(h, t->made_from);
    if (lm_exists(t->index)) {
        if (!same) err = other_data(t);
        *done = same;
    } else if (same) err = read_sides(t, &root);
    else
        lm_log(t->ctx, LM_LOG_WARN, "data",
               "%s: the unfinished shards there were made from other inputs, options or another tokenizer: they are thrown away",
               t->o->out);
out:
    lm_json_free(v);
    return err;
}

/* ---- writing ------------------------------------------------------------------------------------------------------ */
static void put_sum(lm_str *s, const lm_shard_sum *sum, int number) {
    char hex[33];
    lm_hash_hex(sum->hash, hex);
    lm_str_printf(s, "\"file\": \"%05d.shard\", \"tokens\": %lld, \"documents\": %lld, \"bytes\": %lld, \"size\": %lld, \"hash\": \"%s\"",
                  number, (long long)sum->tokens, (long long)sum->docs, (long long)sum->bytes, (long long)sum->size, hex);
}
static lm_err put_file(lm_ctx *ctx, const char *path, lm_str *s) {
    lm_err err = lm_str_err(s);
    if (!err) err = lm_file_write_atomic(ctx, path, s->p, s->n);
    lm_str_free(s);
    return err;
}
lm_err lm_journal_write(lm_tokenizing *t) {
    lm_str s = { .ctx = t->ctx };
    char hex[33];
    lm_hash_hex(t->made_from, hex);
    lm_str_printf(&s, "{\n  \"format\": \"loam tokenize\",\n  \"made_from\": \"%s\"", hex);
    for (int k = 0; k < 2; k++) {
        lm_str_printf(&s, ",\n  \"%s\": [", side_name[k]);
        for (int i = 0; i < t->side[k].n; i++) {
            const lm_made *m = &t->side[k].made[i];
            lm_str_puts(&s, i ? ",\n    { " : "\n    { ");
            put_sum(&s, &m->sum, i);
            lm_str_printf(&s, ", \"next\": [%d, %lld], \"skipped\": %lld }", m->next.input, (long long)m->next.record, (long long)m->skipped);
        }
        lm_str_puts(&s, t->side[k].n ? "\n  ]" : "]");
    }
    lm_str_puts(&s, "\n}\n");
    return put_file(t->ctx, t->journal, &s);
}
lm_err lm_index_write(lm_tokenizing *t, int k) {
    const lm_side *side = &t->side[k];
    lm_shard_sum all = {0};
    for (int i = 0; i < side->n; i++) {
        all.tokens += side->made[i].sum.tokens;
        all.docs += side->made[i].sum.docs;
        all.bytes += side->made[i].sum.bytes;
    }
    lm_str s = { .ctx = t->ctx };
    char hex[33], *path;
    const char *field = t->o->field ? t->o->field : "text";
    lm_hash_hex(t->kind.tok, hex);
    lm_str_printf(&s,
                  "{\n  \"format\": \"loam shards\",\n  \"version\": %d,\n  \"ids\": \"u%d\",\n  \"vocab\": %d,\n  \"bos\": %d,\n  "
                  "\"eos\": %d,\n  \"tokenizer\": { \"hash\": \"%s\" },\n",
                  (int)LM_SHARD_VERSION, lm_vocab_wide(t->kind.vocab) ? 32 : 16, t->kind.vocab, t->ends.bos, t->ends.eos, hex);
    lm_str_puts(&s, "  \"field\": ");
    lm_str_json(&s, field, strlen(field));
    lm_str_printf(
        &s, ",\n  \"part\": \"%s\",\n  \"val_fraction\": %.17g,\n  \"input_files\": %d,\n  \"input_bytes\": %lld,\n  \"skipped\": %lld,\n",
        side_name[k], t->o->val_fraction, t->in.n, (long long)t->in.bytes, (long long)t->skipped);
    lm_str_printf(&s, "  \"tokens\": %lld,\n  \"documents\": %lld,\n  \"bytes\": %lld,\n  \"shards\": [", (long long)all.tokens,
                  (long long)all.docs, (long long)all.bytes);
    for (int i = 0; i < side->n; i++) {
        lm_str_puts(&s, i ? ",\n    { " : "\n    { ");
        put_sum(&s, &side->made[i].sum, i);
        lm_str_puts(&s, " }");
    }
    lm_str_puts(&s, side->n ? "\n  ]\n}\n" : "]\n}\n");
    lm_err err = lm_path_join(t->ctx, &path, side->dir, "index.json");
    if (err) { lm_str_free(&s); return err; }
    err = put_file(t->ctx, path, &s);
    lm_free(t->ctx, path);
    return err;
}

/* ---- sweeping ----------------------------------------------------------------------------------------------------- */
static bool stale(const char *name, int n_kept) {
    static const char *const ours[] = { "index.json.tmp-", "resume.json.tmp-", "tokenizer.json.tmp-", "tokenizer_config.json.tmp-" };
    for (int i = 0; i < LM_COUNT(ours); i++) if (!strncmp(name, ours[i], strlen(ours[i]))) return true;
    int number, end = 0;
    if (sscanf(name, "%d.shard%n", &number, &end) != 1 || end < 11 || name[0] < '0' || name[0] > '9') return false;
    return name[end] ? !strncmp(name + end, ".tmp-", 5) : number >= n_kept;
}
lm_err lm_journal_sweep(lm_tokenizing *t) {
    for (int k = 0; k < 2; k++) {
        const lm_side *s = &t->side[k];
        char **names;
        int n;
        if (!lm_is_dir(s->dir)) continue;
        LM_TRY(lm_dir_list(t->ctx, s->dir, &names, &n));
        lm_err err = LM_OK;
        for (int i = 0; i < n && !err; i++) {
            char *path;
            if (!stale(names[i], s->n)) continue;
            if ((err = lm_path_join(t->ctx, &path, s->dir, names[i]))) break;
            if (lm_sys_unlink(path) && errno != ENOENT) err = lm_sys_fail(t->ctx, errno, "cannot remove", path);
            lm_free(t->ctx, path);
        }
        lm_free(t->ctx, names);
        LM_TRY(err);
    }
    return LM_OK;
}
