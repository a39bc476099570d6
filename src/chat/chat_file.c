/* chat_file.c — conversations on disk. FILE: {"loam_chat": 1, "checksum", "model", "tokenizer", "from", "messages", "variables", "kv"}. The
 * checksum is XXH3-128 of the object without it, keys sorted, without white space. "kv" says which FILE.kv belongs to it: a hash of its head, in
 * which the hash of all its pages stands. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "chat/chat_int.h"

enum { MAX_FILE = 64 << 20, HEAD = 88 };
static lm_err checksum(lm_chat *c, const json_t *v, char out[33]) {
    char *s = json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS);
    if (!s) return lm_fail(c->ctx, LM_E_NOMEM, "out of memory: a conversation as JSON");
    lm_hash_hex(lm_hash128(s, strlen(s)), out);
    free(s);
    return LM_OK;
}
static lm_err identity(lm_chat *c, char model[17], char tok[33]) {
    uint64_t id;
    LM_TRY(lm_engine_model(c->e, &id));
    snprintf(model, 17, "%016llx", (unsigned long long)id);
    lm_hash_hex(lm_tok_hash(c->tok), tok);
    return LM_OK;
}
static lm_err kv_path(lm_chat *c, const char *path, char **out) {
    lm_str s = { .ctx = c->ctx };
    lm_str_printf(&s, "%s.kv", path);
    if (lm_str_err(&s)) { lm_str_free(&s); return LM_E_NOMEM; }
    *out = s.p;
    return LM_OK;
}
static lm_err head_of(lm_chat *c, const char *kv, char hex[17]) {
    lm_file *f; char head[HEAD];
    LM_TRY(lm_file_open(&f, c->ctx, kv));
    const lm_err err = lm_file_pread(f, head, sizeof head, 0);
    lm_file_close(f);
    if (!err) snprintf(hex, 17, "%016llx", (unsigned long long)lm_hash64(head, sizeof head, 0));
    return err;
}
lm_err lm_chat_save(lm_chat *c, const char *path) {
    char model[17], tok[33], kv[17], sum[33], *kvp = NULL, *text = NULL;
    json_t *v = NULL;
    lm_err err;
    LM_GOTO(identity(c, model, tok), done);
    LM_GOTO(kv_path(c, path, &kvp), done);
    LM_GOTO(lm_session_save(c->s, kvp), done);
    LM_GOTO(head_of(c, kvp, kv), done);
    v = json_pack("{s:i,s:s,s:s,s:I,s:O,s:O,s:s}", "loam_chat", 1, "model", model, "tokenizer", tok, "from", (json_int_t)c->from, "messages", c->messages,
        "variables", c->vars, "kv", kv);
    if (!v) { err = LM_E_NOMEM; goto done; }
    LM_GOTO(checksum(c, v, sum), done);
    if (json_object_set_new(v, "checksum", json_string(sum)) || !(text = json_dumps(v, JSON_INDENT(1)))) { err = LM_E_NOMEM; goto done; }
    err = lm_file_write_atomic(c->ctx, path, text, strlen(text));
done:
    free(text); json_decref(v); lm_free(c->ctx, kvp);
    return err;
}
static lm_err check_messages(const lm_jv *root, json_t **messages, json_t **vars, int64_t *from) {
    lm_jv m, v, item;
    const char *s;
    LM_TRY(lm_json_arr(root, "messages", LM_JSON_NEED, &m));
    LM_TRY(lm_json_obj(root, "variables", LM_JSON_NEED, &v));
    for (size_t i = 0; i < lm_json_len(&m); i++) { LM_TRY(lm_json_item(&m, i, &item)); LM_TRY(lm_json_str(&item, "role", LM_JSON_NEED, NULL, &s, NULL)); }
    LM_TRY(lm_json_int(root, "from", LM_JSON_NEED, 0, 0, (int64_t)lm_json_len(&m), from));
    *messages = m.v; *vars = v.v;
    return LM_OK;
}
lm_err lm_chat_load(lm_chat *c, const char *path, bool *warm) {
    char model[17], tok[33], kv[17], sum[33], *kvp = NULL, *text = NULL;
    const char *is_model, *is_tok, *is_kv, *is_sum;
    json_t *v = NULL, *messages, *vars;
    lm_session *s = NULL;
    int64_t version, from;
    size_t n;
    lm_err err;
    LM_GOTO(identity(c, model, tok), done);
    LM_GOTO(lm_file_read_all(c->ctx, path, MAX_FILE, &text, &n), done);
    LM_GOTO(lm_json_parse(c->ctx, path, text, n, 0, &v), done);
    const lm_jv root = lm_json_root(c->ctx, path, v);
    LM_GOTO(lm_json_int(&root, "loam_chat", LM_JSON_NEED, 0, 1, 1, &version), done);
    LM_GOTO(lm_json_str(&root, "checksum", LM_JSON_NEED, NULL, &is_sum, NULL), done);
    LM_GOTO(lm_json_str(&root, "model", LM_JSON_NEED, NULL, &is_model, NULL), done);
    LM_GOTO(lm_json_str(&root, "tokenizer", LM_JSON_NEED, NULL, &is_tok, NULL), done);
    LM_GOTO(lm_json_str(&root, "kv", LM_JSON_NEED, NULL, &is_kv, NULL), done);
    LM_GOTO(check_messages(&root, &messages, &vars, &from), done);
    json_t *stated = json_incref(json_object_get(v, "checksum"));
    json_object_del(v, "checksum");
    err = checksum(c, v, sum);
    if (!err && strcmp(sum, json_string_value(stated))) err = lm_fail(c->ctx, LM_E_FORMAT, "%s is damaged, or was edited: its checksum does not agree", path);
    json_decref(stated);
    if (err) goto done;
    if (strcmp(is_model, model) || strcmp(is_tok, tok)) { err = lm_fail(c->ctx, LM_E_MISMATCH, "%s is a conversation with another model", path); goto done; }
    LM_GOTO(kv_path(c, path, &kvp), done);
    if (lm_exists(kvp)) {
        LM_GOTO(head_of(c, kvp, kv), done);
        if (strcmp(kv, is_kv)) {
            err = lm_fail(c->ctx, LM_E_MISMATCH, "%s does not belong to %s; without it the conversation is computed again", kvp, path);
            goto done;
        }
        LM_GOTO(lm_session_truncate(c->s, 0), done);                     /* its pages are wanted */
        LM_GOTO(lm_session_load(&s, c->e, kvp), done);
    }
    *warm = s != NULL;
    if (s) { lm_session_free(c->s); c->s = s; }
    json_incref(messages); json_incref(vars);
    json_decref(c->messages); json_decref(c->vars);
    c->messages = messages; c->vars = vars; c->from = (size_t)from;
done:
    json_decref(v); lm_free(c->ctx, kvp); lm_free(c->ctx, text);
    return err;
}
lm_err lm_chat_cache_save(lm_chat *c, const char *path) { return lm_session_save(c->s, path); }
lm_err lm_chat_cache_load(lm_chat *c, const char *path) {
    lm_session *s;
    LM_TRY(lm_session_truncate(c->s, 0));
    LM_TRY(lm_session_load(&s, c->e, path));
    lm_session_free(c->s);
    c->s = s;
    return LM_OK;
}
