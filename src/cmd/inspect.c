/* inspect.c — `loam inspect`: what a file or folder is and what is in it; and the program's own tables.
 *
 * A kind of file is a row: how it is recognized and how its contents are told. Contents go into one description that is printed as lines or as JSON. */
#include <string.h>
#include "base/file.h"
#include "cmd/cmd_common.h"
#include "cmd/cmd_text.h"
#include "format/llama2c.h"
#include "format/npy.h"
#include "format/safetensors.h"
#include "optim/optim.h"
#include "quant/quant.h"

typedef struct { lm_cli_common common; bool tables[6]; int64_t limit; } opts;
static const lm_opt rows[] = {
    LM_CLI_COMMON(opts),
    { LM_OPT_INT, "tensors", offsetof(opts, limit), "40", 0, 1 << 30, NULL, "N", "tensors listed at most in the text output (--json lists all)" },
    { LM_OPT_BOOL, "models", offsetof(opts, tables[0]), "false", 0, 0, NULL, NULL, "list the architectures this program has" },
    { LM_OPT_BOOL, "ops", offsetof(opts, tables[1]), "false", 0, 0, NULL, NULL, "list the operations" },
    { LM_OPT_BOOL, "optims", offsetof(opts, tables[2]), "false", 0, 0, NULL, NULL, "list the optimizers" },
    { LM_OPT_BOOL, "quants", offsetof(opts, tables[3]), "false", 0, 0, NULL, NULL, "list the quantized formats" },
    { LM_OPT_BOOL, "samplers", offsetof(opts, tables[4]), "false", 0, 0, NULL, NULL, "list the samplers" },
    { LM_OPT_BOOL, "commands", offsetof(opts, tables[5]), "false", 0, 0, NULL, NULL, "list the commands" },
    LM_OPT_ROW_END };

/* ---- a description ------------------------------------------------------------------------------------------------------------ */
typedef struct { lm_cli *cli; const char *path, *kind; lm_str meta, tensors, text; int64_t n_meta, n_tensors, limit; double params, bytes; } desc;
static void meta_raw(desc *d, const char *key, const char *json, size_t n, const char *text, int text_n) {
    lm_str_puts(&d->meta, d->n_meta++ ? ", " : "");
    lm_str_json(&d->meta, key, strlen(key));
    lm_str_puts(&d->meta, ": ");
    lm_str_add(&d->meta, json, n);
    lm_str_printf(&d->text, "  %-42s %.*s\n", key, text_n, text);
}
static void meta_str(desc *d, const char *key, const char *s, size_t n) {
    lm_str j = { .ctx = d->cli->ctx };
    lm_str_json(&j, s, n);
    int show = n > 100 ? 100 : (int)n;
    for (int i = 0; i < show; i++) if (s[i] == '\n') show = i;
    if (!lm_str_err(&j)) meta_raw(d, key, j.p, j.n, s, show); else d->meta.bad = true;
    lm_str_free(&j);
}
static void meta_fmt(desc *d, const char *key, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void meta_fmt(desc *d, const char *key, const char *fmt, ...) {       /* a number or a bool: the same text in both */
    char b[160]; va_list ap;
    va_start(ap, fmt); vsnprintf(b, sizeof b, fmt, ap); va_end(ap);
    meta_raw(d, key, b, strlen(b), b, (int)strlen(b));
}
static void tensor(desc *d, const char *name, const char *dtype, int rank, const int64_t *dim, double bytes) {
    lm_str shape = { .ctx = d->cli->ctx };
    double n = 1;
    lm_str_putc(&shape, '[');
    for (int i = 0; i < rank; i++) { lm_str_printf(&shape, i ? ", %lld" : "%lld", (long long)dim[i]); n *= (double)dim[i]; }
    lm_str_putc(&shape, ']');
    lm_str_puts(&d->tensors, d->n_tensors ? ",\n  {\"name\": " : "\n  {\"name\": "); lm_str_json(&d->tensors, name, strlen(name));
    lm_str_printf(&d->tensors, ", \"dtype\": \"%s\", \"shape\": %s, \"bytes\": %.0f}", dtype, shape.p ? shape.p : "[]", bytes);
    if (d->n_tensors < d->limit)
        lm_str_printf(&d->text, "  %-56s %-8s %-20s %s\n", name, dtype, shape.p ? shape.p : "", lm_cli_bytes(d->cli->a, bytes));
    else if (d->n_tensors == d->limit && d->limit) lm_str_puts(&d->text, "  …\n");
    d->n_tensors++; d->params += n; d->bytes += bytes;
    lm_str_free(&shape);
}
static void config(desc *d, const lm_cfg *c) {
    meta_str(d, "architecture", c->model->name, strlen(c->model->name));
    const struct {
        const char *key;
        int64_t v;
    } k[] = { { "vocab", c->vocab },   { "d", c->d },       { "n_layer", c->n_layer }, { "n_head", c->n_head }, { "n_kv", c->n_kv },
              { "d_head", c->d_head }, { "d_ff", c->d_ff }, { "max_pos", c->max_pos }, { "window", c->window }, { "bos", c->bos } };
    for (int i = 0; i < LM_COUNT(k); i++) meta_fmt(d, k[i].key, "%lld", (long long)k[i].v);
    meta_fmt(d, "tied", "%s", c->tie ? "true" : "false");
    if (c->rope.d_head) meta_fmt(d, "rope_base", "%.9g", c->rope.base);
}

/* ---- kinds --------------------------------------------------------------------------------------------------------------------------- */
typedef struct { lm_ctx *ctx; const char *path; const unsigned char *head; size_t n; bool dir; } probe;
static bool ends(const char *s, const char *tail) { size_t a = strlen(s), b = strlen(tail); return a >= b && !strcmp(s + a - b, tail); }
static bool holds(const char *dir, const char *name) {
    char p[4096];
    return (size_t)snprintf(p, sizeof p, "%s/%s", dir, name) < sizeof p && lm_exists(p);
}
static lm_err show_st(desc *d) {
    lm_st *st;
    LM_TRY(lm_st_open(&st, d->cli->ctx, d->path));
    for (int i = 0; i < lm_st_meta_count(st); i++) { const char *k, *v; lm_st_meta_at(st, i, &k, &v); meta_str(d, k, v, strlen(v)); }
    if (lm_st_shards(st) > 1) meta_fmt(d, "shards", "%d", lm_st_shards(st));
    for (int i = 0; i < lm_st_count(st); i++) {
        const lm_st_tensor *t = lm_st_at(st, i);
        tensor(d, t->name, lm_dtype_name(t->dtype), t->rank, t->dim, (double)t->bytes);
    }
    lm_st_close(st);
    return LM_OK;
}
/* A model that this program runs is told with its configuration; one that it does not is told as files, with the reason. */
static lm_err runnable(desc *d) {
    lm_weights *w;
    lm_err err = lm_weights_open(&w, d->cli->ctx, d->path);
    if (err) {
        const char *why = lm_error(d->cli->ctx);
        meta_str(d, "runs", "no", 2); meta_str(d, "why", why, strlen(why));
        return LM_OK;
    }
    config(d, lm_weights_cfg(w));
    lm_weights_close(w);
    return LM_OK;
}
static lm_err show_hf(desc *d) { LM_TRY(runnable(d)); return show_st(d); }
static lm_err gguf_value(desc *d, lm_gguf *g, const char *key, lm_gguf_type type, lm_gguf_type item, int64_t n) {
    if (type == LM_GGUF_STR) { const char *s; size_t len; LM_TRY(lm_gguf_str(g, key, true, NULL, &s, &len)); meta_str(d, key, s, len); }
    else if (type == LM_GGUF_BOOL) { bool b; LM_TRY(lm_gguf_bool(g, key, true, false, &b)); meta_fmt(d, key, "%s", b ? "true" : "false"); }
    else if (type == LM_GGUF_ARR) {
        char *s = lm_arena_printf(d->cli->a, "%lld × %s", (long long)n, lm_gguf_type_name(item));
        if (!s) return LM_E_NOMEM;
        meta_str(d, key, s, strlen(s));
    } else if (type != LM_GGUF_F32 && type != LM_GGUF_F64) {
        int64_t v;
        if (lm_gguf_int(g, key, true, 0, INT64_MIN, INT64_MAX, &v)) meta_str(d, key, "over 63 bits", 12);
        else meta_fmt(d, key, "%lld", (long long)v);
    } else {
        double v;
        if (lm_gguf_num(g, key, true, 0, &v) || !(v == v && v < 1e300 && v > -1e300)) meta_str(d, key, "not a finite number", 19);
        else meta_fmt(d, key, "%.9g", v);
    }
    return LM_OK;
}
static lm_err show_gguf(desc *d) {
    lm_gguf *g;
    LM_TRY(lm_gguf_open(&g, d->cli->ctx, d->path));
    meta_fmt(d, "GGUF version", "%d", lm_gguf_version(g));
    if (lm_gguf_parts(g) > 1) meta_fmt(d, "parts", "%d", lm_gguf_parts(g));
    lm_err err = LM_OK;
    for (int i = 0; i < lm_gguf_n_keys(g) && !err; i++) {
        lm_gguf_type type, item; int64_t n;
        const char *key = lm_gguf_key(g, i, &type, &item, &n);
        err = gguf_value(d, g, key, type, item, n);
    }
    for (int i = 0; i < lm_gguf_count(g); i++) {
        const lm_gguf_tensor *t = lm_gguf_at(g, i);
        tensor(d, t->name, t->type->name, t->rank, t->dim, (double)t->bytes);
    }
    bool weights = lm_gguf_count(g) > 0;
    lm_gguf_close(g);
    return err || !weights ? err : runnable(d);
}
static lm_err map_file(lm_cli *cli, const char *path, lm_file **f, const void **p, size_t *n) {
    LM_TRY(lm_file_open(f, cli->ctx, path));
    lm_err e = lm_file_map(*f, p, n);
    if (e) lm_file_close(*f);
    return e;
}
static lm_err show_llama2c(desc *d) {
    lm_file *f; const void *p; size_t n; lm_l2c m;
    LM_TRY(map_file(d->cli, d->path, &f, &p, &n));
    lm_err err = lm_l2c_parse(d->cli->ctx, d->path, p, n, &m);
    if (!err) {
        meta_fmt(d, "version", "%d", m.version);
        for (int i = 0; i < LM_N_L2C; i++)
            if (m.part[i].rank) tensor(d, m.part[i].name, "F32", m.part[i].rank, m.part[i].dim, (double)m.part[i].bytes);
        err = runnable(d);
    }
    lm_file_close(f);
    return err;
}
static lm_err show_npy(desc *d) {
    lm_npy a;
    LM_TRY(lm_npy_load(d->cli->ctx, d->path, &a));
    tensor(d, "array", lm_dtype_name(a.dtype), a.rank, a.dim, (double)a.bytes);
    lm_npy_free(d->cli->ctx, &a);
    return LM_OK;
}
static lm_err show_tok(desc *d) {
    lm_tok *t;
    LM_TRY(lm_tok_open(d->cli->ctx, d->path, NULL, &t));
    char hex[33]; lm_hash_hex(lm_tok_hash(t), hex);
    int n; const int32_t *eos = lm_tok_eos(t, &n);
    meta_str(d, "kind", lm_tok_kind(t), strlen(lm_tok_kind(t)));
    meta_fmt(d, "vocab", "%d", lm_tok_vocab(t)); meta_fmt(d, "bos", "%d", lm_tok_bos(t)); meta_fmt(d, "eos", "%d", n ? eos[0] : -1);
    meta_fmt(d, "adds_bos", "%s", lm_tok_adds_bos(t) ? "true" : "false"); meta_fmt(d, "chat_template", "%s", lm_tok_template(t) ? "true" : "false");
    meta_str(d, "hash", hex, 32);
    lm_tok_free(t);
    return LM_OK;
}
static lm_err show_manifest(desc *d, const char *name) {          /* the scalar members of a JSON file */
    char *path = lm_arena_printf(d->cli->a, "%s/%s", d->path, name);
    json_t *j;
    if (!path) return LM_E_NOMEM;
    LM_TRY(lm_json_load(d->cli->ctx, path, 0, &j));
    const char *k; json_t *v;
    json_object_foreach(j, k, v) {
        if (json_is_string(v)) meta_str(d, k, json_string_value(v), json_string_length(v));
        else if (json_is_integer(v)) meta_fmt(d, k, "%lld", (long long)json_integer_value(v));
        else if (json_is_real(v)) meta_fmt(d, k, "%.9g", json_real_value(v));
        else if (json_is_array(v)) meta_fmt(d, k, "%zu", json_array_size(v));
    }
    lm_json_free(j);
    return LM_OK;
}
static lm_err show_ckpt(desc *d) {
    LM_TRY(show_manifest(d, "manifest.json"));
    LM_TRY(runnable(d));
    return show_st(d);
}
static lm_err show_shards(desc *d) {
    lm_shards *s;
    LM_TRY(show_manifest(d, "index.json"));
    LM_TRY(lm_shards_open(&s, d->cli->ctx, d->path));
    const double per = (double)lm_shards_bytes(s) / (double)lm_max64(lm_shards_tokens(s), 1);
    meta_fmt(d, "bytes_per_token", "%.4f", per);
    lm_shards_close(s);
    return LM_OK;
}
static lm_err show_run(desc *d) {
    char *path = lm_arena_printf(d->cli->a, "%s/checkpoints", d->path), **names; int n;
    if (!path) return LM_E_NOMEM;
    if (lm_is_dir(path)) {
        LM_TRY(lm_dir_list(d->cli->ctx, path, &names, &n));
        for (int i = 0; i < n; i++) if (!strncmp(names[i], "step-", 5)) meta_str(d, "checkpoint", names[i], strlen(names[i]));
        lm_free(d->cli->ctx, names);
    }
    if (!holds(d->path, "model.safetensors")) return LM_OK;
    return show_hf(d);
}
static bool is_ckpt(const probe *p) {
    return p->dir && holds(p->path, "manifest.json") && (holds(p->path, "model.safetensors") || lm_st_is_sliced(p->ctx, p->path));
}
static bool is_run(const probe *p) { return p->dir && holds(p->path, "config.yaml") && holds(p->path, "metrics.jsonl"); }
static bool is_hf(const probe *p) { return p->dir && (holds(p->path, "model.safetensors") || holds(p->path, "model.safetensors.index.json")); }
static bool is_shards(const probe *p) { return p->dir && holds(p->path, "index.json"); }
static bool is_tok_dir(const probe *p) {
    return p->dir && (holds(p->path, "tokenizer.json") || holds(p->path, "vocab.json") || holds(p->path, "tokenizer.model"));
}
static bool is_gguf(const probe *p) { return p->n >= 4 && !memcmp(p->head, "GGUF", 4); }
static bool is_npy(const probe *p) { return p->n >= 6 && !memcmp(p->head, "\x93NUMPY", 6); }
static bool is_st(const probe *p) {
    return !p->dir && (ends(p->path, ".safetensors") || ends(p->path, ".index.json") ||
                       (p->n >= 9 && p->head[8] == '{' && !p->head[7] && !p->head[6] && !p->head[5]));
}
static bool is_llama2c(const probe *p) {
    return !p->dir && ends(p->path, ".bin") && p->n >= 28 &&
           (!memcmp(p->head, "24ka", 4) || (!p->head[3] && !p->head[7] && !p->head[11] && !p->head[15] && !p->head[19]));
}
static bool is_tok(const probe *p) { return !p->dir; }
static const struct { const char *kind; bool (*is)(const probe *); lm_err (*show)(desc *);
} kinds[] = { { "checkpoint of a training run", is_ckpt, show_ckpt },
              { "training run", is_run, show_run },
              { "Hugging Face model", is_hf, show_hf },
              { "tokenized shards", is_shards, show_shards },
              { "tokenizer", is_tok_dir, show_tok },
              { "GGUF", is_gguf, show_gguf },
              { "NumPy array", is_npy, show_npy },
              { "safetensors", is_st, show_st },
              { "llama2.c checkpoint", is_llama2c, show_llama2c },
              { "tokenizer", is_tok, show_tok } };

static lm_err look(lm_cli *cli, const char *path, desc *d) {
    unsigned char head[64] = {0};
    probe p = { .ctx = cli->ctx, .path = path, .head = head, .dir = lm_is_dir(path) };
    if (!p.dir) {
        lm_file *f;
        LM_TRY(lm_file_open(&f, cli->ctx, path));
        p.n = (size_t)lm_min64(lm_file_size(f), (int64_t)sizeof head);
        lm_err e = lm_file_pread(f, head, p.n, 0);
        lm_file_close(f);
        LM_TRY(e);
    }
    for (int i = 0; i < LM_COUNT(kinds); i++) {
        if (!kinds[i].is(&p)) continue;
        d->kind = kinds[i].kind;
        lm_err err = kinds[i].show(d);
        if (err && kinds[i].is == is_tok && err != LM_E_NOMEM) {
            char *why = lm_arena_strdup(cli->a, lm_error(cli->ctx));
            return lm_fail(cli->ctx, err, "%s is no kind of file that this program knows (as a tokenizer: %s)", path, why ? why : "");
        }
        return err;
    }
    return lm_fail(cli->ctx, LM_E_UNSUPPORTED, "%s is a folder without a model, tokenizer, run or shards", path);
}

/* ---- the program's tables ---------------------------------------------------------------------------------------------------------- */
typedef struct { lm_cli *cli; lm_str *s; bool some; } table;
static void put_row(table *t, int n, const char *const *key, const char *const *value) {
    lm_str_puts(t->s, t->some ? ",\n {" : "\n {"); t->some = true;
    for (int i = 0; i < n; i++) {
        const char *v = value[i] ? value[i] : "";
        if (i) lm_str_puts(t->s, ", ");
        lm_str_json(t->s, key[i], strlen(key[i])); lm_str_puts(t->s, ": "); lm_str_json(t->s, v, strlen(v));
    }
    lm_str_putc(t->s, '}');
    lm_cli_say(t->cli, n > 2 ? "%-18s %-34s %s" : "%-18s %s", value[0], value[1] ? value[1] : "", n > 2 ? value[2] : "");
}
static const char *joined(lm_arena *a, const char *const *v) {
    const char *s = "";
    for (int i = 0; v && v[i] && s; i++) s = lm_arena_printf(a, "%s%s%s", s, i ? ", " : "", v[i]);
    return s;
}
static void models(table *t) {
    for (int i = 0; lm_models[i]; i++)
        put_row(t, 4, (const char *const[]){ "name", "architectures", "paper", "gguf" },
                (const char *const[]){ lm_models[i]->name, joined(t->cli->a, lm_models[i]->hf_archs), lm_models[i]->paper,
                                       joined(t->cli->a, lm_models[i]->gguf_archs) });
}
static void ops(table *t) {
    for (int i = 0; lm_ops[i]; i++)
        put_row(t, 2, (const char *const[]){ "name", "math" }, (const char *const[]){ lm_ops[i]->name, lm_ops[i]->math });
}
static void optims(table *t) {
    for (int i = 0; lm_optims[i]; i++)
        put_row(t, 2, (const char *const[]){ "name", "paper" }, (const char *const[]){ lm_optims[i]->name, lm_optims[i]->paper });
}
static void quants(table *t) {
    for (int i = 0; lm_quants[i]; i++) {
        char bits[32], block[32];
        snprintf(bits, sizeof bits, "%.4g bits per number", lm_quants[i]->bits);
        snprintf(block, sizeof block, "blocks of %d%s", lm_quants[i]->block, lm_quants[i]->from_float ? "" : ", read only");
        put_row(t, 3, (const char *const[]){ "name", "size", "blocks" }, (const char *const[]){ lm_quants[i]->name, bits, block });
    }
}
static void samplers(table *t) {
    for (int i = 0; lm_samplers[i]; i++)
        put_row(t, 2, (const char *const[]){ "name", "math" }, (const char *const[]){ lm_samplers[i]->name, lm_samplers[i]->math });
}
static void commands(table *t) {
    for (int i = 0; lm_cmds[i]; i++)
        put_row(t, 2, (const char *const[]){ "name", "summary" }, (const char *const[]){ lm_cmds[i]->name, lm_cmds[i]->summary });
}
static void (*const tables[])(table *) = { models, ops, optims, quants, samplers, commands };

static lm_err run(lm_cli *cli) {
    const opts *o = cli->opts;
    lm_str s = { .ctx = cli->ctx };
    for (int i = 0; i < LM_COUNT(tables); i++) {
        if (!o->tables[i]) continue;
        LM_TRY(lm_cli_need(cli, 0, "a table or a path, not both"));
        table t = { cli, &s, false };
        lm_str_putc(&s, '['); tables[i](&t); lm_str_puts(&s, "\n]");
        lm_err err = lm_cli_result(cli, &s);
        lm_str_free(&s);
        return err;
    }
    LM_TRY(lm_cli_need(cli, 1, "one file or folder"));
    desc d = { .cli = cli,
               .path = cli->pos.v[0],
               .meta = { .ctx = cli->ctx },
               .tensors = { .ctx = cli->ctx },
               .text = { .ctx = cli->ctx },
               .limit = o->limit };
    lm_err err = look(cli, d.path, &d);
    if (!err && (d.meta.bad || d.tensors.bad || d.text.bad)) err = LM_E_NOMEM;
    if (!err) {
        lm_str_puts(&s, "{\"path\": ");
        lm_str_json(&s, d.path, strlen(d.path));
        lm_str_puts(&s, ", \"kind\": ");
        lm_str_json(&s, d.kind, strlen(d.kind));
        lm_str_printf(&s,
                      ", \"metadata\": {%s}, \"tensors\": [%s], \"totals\": {\"tensors\": %lld, \"parameters\": %.0f, \"bytes\": %.0f}}",
                      d.meta.p ? d.meta.p : "", d.tensors.p ? d.tensors.p : "", (long long)d.n_tensors, d.params, d.bytes);
        lm_cli_say(cli, "%s: %s", d.path, d.kind);
        if (!cli->json) fwrite(d.text.p ? d.text.p : "", 1, d.text.n, stdout);
        if (d.n_tensors)
            lm_cli_say(cli, "%lld tensors · %s numbers · %s", (long long)d.n_tensors, lm_cli_count(cli->a, d.params),
                       lm_cli_bytes(cli->a, d.bytes));
        err = lm_cli_result(cli, &s);
    }
    lm_str_free(&s); lm_str_free(&d.meta); lm_str_free(&d.tensors); lm_str_free(&d.text);
    return err;
}
const lm_cmd lm_cmd_inspect = { .name = "inspect",
                                .summary = "what a file or folder is and what is in it",
                                .usage = "PATH | --models | --ops | --optims | --quants | --samplers | --commands",
                                .details = "PATH: a Hugging Face folder, safetensors, GGUF, a llama2.c checkpoint, a training run or one "
                                           "of its checkpoints, tokenized shards, a tokenizer, a NumPy array.\n"
                                           "Only headers are read.",
                                .opts = rows,
                                .opts_bytes = sizeof(opts),
                                .run = run };
