/* Text and JSONL files, packed or not: the first byte chooses the name (and so the kind), the rest is the file. Batches of any size give
 * the same documents, each good one is UTF-8, each bad one has its sentence. */
#define _GNU_SOURCE 1
#include "scratch.h"
#include "data/docs.h"
#include "format/cursor.h"
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
static const char *const names[] = { "a.txt", "a.jsonl", "a", "a.txt.gz", "a.jsonl.gz", "a.txt.zst", "a.jsonl.zst", "a.json" };

static lm_err read_all(lm_ctx *ctx, const lm_text_files *in, size_t want, uint64_t *h, int64_t *n) {
    lm_docs *d; lm_doc_batch b;
    LM_TRY(lm_docs_open(&d, ctx, in, NULL));
    lm_err err;
    while (!(err = lm_docs_next(d, want, &b)) && b.n) {
        for (int i = 0; i < b.n; i++, ++*n) {
            const lm_doc *doc = &b.doc[i];
            if (doc->at_file.record != *n) abort();
            if (doc->bad) { if (!lm_docs_why(d, doc) || !strstr(lm_error(ctx), "loam-fuzz")) abort(); }
            else { if (!lm_utf8_ok(doc->text, doc->n)) abort(); *h = lm_hash64(doc->text, doc->n, *h + 1); }
        }
    }
    lm_docs_close(d);
    return err;
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    if (size < 1) return 0;
    const char *name = names[*data & 7], *path;
    scratch_put(name, data + 1, size - 1);
    path = scratch(name);
    lm_text_files in;
    if (lm_text_files_find(ctx, &path, 1, &in)) abort();
    uint64_t a = 0, b = 0; int64_t na = 0, nb = 0;
    const lm_err e = read_all(ctx, &in, (size_t)4 << 20, &a, &na), f = read_all(ctx, &in, 1, &b, &nb);
    if (e != f || (!e && (a != b || na != nb))) abort();
    lm_text_files_free(&in);
    return 0;
}
