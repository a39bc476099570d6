/* Saved sessions, read by a real (tiny) engine. The first byte says what the rest is: 'r' the file as it is, 's' the file with its hash made
 * to fit, so that what lies behind it is reached. What loads must have ids of the vocabulary and go on; after any input no page is lost
 * and the good file loads and says what it said. */
#define _GNU_SOURCE 1
#include "scratch.h"
#include "infer/infer.h"
#include "model/model.h"
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
enum { VOCAB = 7, TOKENS = 5, HEADER = 88, HASH_AT = 80, N_AT = 48, PAGE = LM_KV_PAGE * 4 * 4 /* of one state: one head of four */ };
static lm_ctx *ctx; static lm_store *w; static lm_engine *e; static float said[VOCAB]; static int64_t pages;

static lm_err take(void *ud, int r, int64_t i, const float *logits) { (void)r; (void)i; memcpy(ud, logits, sizeof said); return LM_OK; }
static lm_err next(lm_session *s, float *logits) {
    const int32_t id = 3;
    return lm_engine_run(e, &(lm_request){ s, &id, 1, LM_WANT_LAST }, 1, take, logits);
}
/* ids, then a page of keys and one of values each 64 tokens, one hash carried through all pieces */
static void seal(uint8_t *p, size_t size) {
    int64_t n;
    if (size < HEADER) return;
    memcpy(&n, p + N_AT, 8);
    if (n < 0 || n > 128 || (size_t)n * 4 > size - HEADER) return;
    uint64_t h = lm_hash64(p + HEADER, (size_t)n * 4, 0);
    for (size_t at = HEADER + (size_t)n * 4; at + PAGE <= size; at += PAGE) h = lm_hash64(p + at, PAGE, h);
    memcpy(p + HASH_AT, &h, 8);
}
static void set_up(void) {
    lm_cfg c = { .model = lm_model_by_name("llama"), .vocab = VOCAB, .d = 4, .n_layer = 1, .n_head = 1, .n_kv = 1, .d_head = 4, .d_ff = 4, .max_pos = 128,
                 .eps = 1e-5, .init_std = 0.2, .tie = true, .bos = -1, .hf_type = "llama" };
    c.rope.d_head = 4; c.rope.base = 10000; c.rope.max_pos = 128;
    lm_session *s;
    const int32_t ids[TOKENS] = { 1, 2, 6, 0, 4 };
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }) || lm_store_new(&w, ctx) || lm_model_init(ctx, &c, w, 3) ||
        lm_engine_new(&e, ctx, &c, w, &(lm_engine_opts){ .chunk = 16, .kv_tokens = 256, .mm = LM_F32, .kv = LM_F32 }) || lm_session_new(&s, e) ||
        lm_engine_run(e, &(lm_request){ s, ids, TOKENS, LM_WANT_NONE }, 1, NULL, NULL) || lm_session_save(s, scratch("good")) || next(s, said))
        exit(2);
    lm_session_free(s);
    pages = lm_engine_free_pages(e);
    char *good; size_t n;                                          /* seal knows the file: it finds the hash that is there */
    if (lm_file_read_all(ctx, scratch("good"), 1 << 16, &good, &n)) exit(2);
    uint8_t *again = malloc(n);
    if (!again) exit(2);
    memcpy(again, good, n);
    memset(again + HASH_AT, 0, 8);
    seal(again, n);
    if (memcmp(again, good, n)) abort();
    free(again);
    lm_free(ctx, good);
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!e) set_up();
    if (!size || (*data != 'r' && *data != 's')) return 0;
    uint8_t *p = malloc(size);
    if (!p) return 0;
    memcpy(p, data + 1, size - 1);
    if (*data == 's') seal(p, size - 1);
    scratch_put("s", p, size - 1);
    free(p);
    lm_session *s = NULL;
    float logits[VOCAB];
    if (!lm_session_load(&s, e, scratch("s"))) {
        for (int64_t i = 0; i < lm_session_len(s); i++) if (lm_session_ids(s)[i] < 0 || lm_session_ids(s)[i] >= VOCAB) abort();
        (void)next(s, logits);                                     /* its pages may hold anything, and the context may be full */
        lm_session_free(s);
    } else if (!strstr(lm_error(ctx), scratch("s"))) abort();      /* the error names the file */
    if (lm_engine_free_pages(e) != pages) abort();
    if (lm_session_load(&s, e, scratch("good")) || next(s, logits) || memcmp(logits, said, sizeof said)) abort();
    lm_session_free(s);
    return 0;
}
