/* test_data_shards.c — shard files byte by byte, damage to them, and the documents of every kind of input. */
#include "data/stream.h"
#include "data_test.h"
#include <fcntl.h>
#include <zlib.h>
#include <zstd.h>

static const lm_shard_kind kind = { .vocab = 300, .eos = 7, .tok = { 0x1122334455667788u, 0x99aabbccddeeff00u } };
static lm_err write_shard(lm_ctx *ctx, const char *path, const lm_shard_kind *k, lm_shard_sum *sum) {
    lm_shard_out *w;
    LM_TRY(lm_shard_create(&w, ctx, path, k));
    lm_err err = LM_OK;
    for (int32_t d = 0; d < 5 && !err; d++) {
        for (int32_t i = 0; i < d * 3 && !err; i++) { int32_t id = (d * 50 + i) % k->vocab; err = lm_shard_add(w, &id, 1); }
        if (!err) err = lm_shard_end_doc(w, d * 10);
    }
    if (!err) return lm_shard_finish(w, sum);
    lm_shard_abort(w);
    return err;
}
static uint64_t le(const uint8_t *p, int n) { uint64_t v = 0; for (int i = n; i-- > 0;) v = v << 8 | p[i]; return v; }

/* The layout that docs/rooms/data.md states, read without the reader. */
static void test_layout(void) {
    lm_ctx *ctx = t_ctx(1);
    for (int wide = 0; wide < 2; wide++) {
        lm_shard_kind k = kind;
        if (wide) k.vocab = 65537;
        lm_shard_sum sum;
        size_t n;
        LM_NEED_OK(ctx, write_shard(ctx, t_path("a.shard"), &k, &sum));
        uint8_t *b = (uint8_t *)t_read(t_path("a.shard"), &n), *t = b + n - 80;
        size_t ids = ((size_t)(wide ? 4 : 2) * 30 + 7) / 8 * 8;
        LM_CHECK(n == 64 + ids + 6 * 8 + 80 && sum.size == (int64_t)n && sum.tokens == 30 && sum.docs == 5 && sum.bytes == 100);
        LM_CHECK(!memcmp(b, "loamshrd", 8) && le(b + 8, 4) == 1 && le(b + 12, 4) == (wide ? 32 : 16) &&
                 le(b + 16, 4) == (uint64_t)k.vocab && le(b + 20, 4) == 7);
        LM_CHECK(le(b + 24, 8) == kind.tok.lo && le(b + 32, 8) == kind.tok.hi);
        for (int i = 40; i < 64; i++) LM_CHECK(b[i] == 0);
        for (int d = 0, at = 0; d < 5; at += d++ * 3) {
            LM_CHECK(le(b + 64 + ids + 8 * (size_t)d, 8) == (uint64_t)at);
            for (int i = 0; i < d * 3; i++) LM_CHECK(le(b + 64 + (size_t)(at + i) * (wide ? 4 : 2), wide ? 4 : 2) == (uint64_t)(d * 50 + i));
        }
        LM_CHECK(!memcmp(t, "loamtail", 8) && le(t + 8, 8) == 30 && le(t + 16, 8) == 5 && le(t + 24, 8) == 100);
        lm_hash128_t h = lm_hash128(b, n - 80), own;
        LM_CHECK(le(t + 32, 8) == h.lo && le(t + 40, 8) == h.hi && lm_hash_same(sum.hash, h));
        uint8_t ends[128];
        memcpy(ends, b, 64); memcpy(ends + 64, t, 64);
        own = lm_hash128(ends, 128);
        LM_CHECK(le(t + 64, 8) == own.lo && le(t + 72, 8) == own.hi);
        lm_shard s;
        LM_CHECK_OK(ctx, lm_shard_parse(ctx, "a", b, n, &s));
        LM_CHECK(s.wide == wide && s.n_docs == 5 && s.eos == 7 && lm_shard_doc_of(&s, 0) == 1 && lm_shard_doc_of(&s, 29) == 4 &&
                 lm_shard_doc_of(&s, 3) == 2);
        LM_CHECK_OK(ctx, lm_shard_verify(ctx, "a", b, n));
        /* counts that do not fit the size, offsets that do not rise, under a hash that fits */
        const struct {
            size_t at;
            uint64_t v;
            const char *says;
        } lie[] = { { n - 72, 40, "do not hold" },         { n - 72, UINT64_MAX, "do not hold" },
                    { n - 64, 4, "do not hold" },          { n - 64, (uint64_t)1 << 61, "do not hold" },
                    { n - 56, UINT64_MAX, "do not hold" }, { 16, 0, "vocabulary" },
                    { 12, 300ull << 32 | 24, "24 bits" },  { 64 + ids + 8, 31, "rise" },
                    { 64 + ids + 40, 29, "rise" },         { 64 + ids, 1, "rise" },
                    { 64 + ids + 16, UINT64_MAX, "rise" } };
        for (int i = 0; i < LM_COUNT(lie); i++) {
            uint64_t was;
            memcpy(&was, b + lie[i].at, 8);
            memcpy(b + lie[i].at, &lie[i].v, 8);
            memcpy(ends, b, 64); memcpy(ends + 64, t, 64);
            own = lm_hash128(ends, 128);
            memcpy(t + 64, &own.lo, 8); memcpy(t + 72, &own.hi, 8);
            LM_CHECK_ERR(ctx, lm_shard_parse(ctx, "lie", b, n, &s), LM_E_FORMAT, lie[i].says);
            memcpy(b + lie[i].at, &was, 8);
        }
        lm_free(NULL, b);
    }
    lm_ctx_free(ctx);
    t_done();
}

/* A folder with two shards: any cut and any flipped bit of any file is an error that names the file, at opening or at verify. */
static lm_err make_folder(lm_ctx *ctx, lm_tok *tok, const char *out) {
    t_doc *d = t_docs(12, 60, 21);
    t_write_jsonl(t_path("in.jsonl"), d, 12);
    t_docs_free(d, 12);
    const char *in[] = { t_path("in.jsonl") };
    return lm_data_tokenize(ctx, tok, &(lm_tokenize_opts){ .out = out, .in = in, .n_in = 1, .shard_tokens = 200, .add_eos = true });
}
static bool found(lm_ctx *ctx, const char *dir, const char *file) {
    lm_shards *s = NULL;
    lm_err e = lm_shards_open(&s, ctx, dir);
    if (!e) e = lm_shards_verify(s);
    bool named = e && strstr(lm_error(ctx), file);
    if (e && !named) printf("the sentence does not name %s: %s\n", file, lm_error(ctx));
    lm_shards_close(s);
    return named;
}
static void test_damage(void) {
    lm_ctx *ctx = t_ctx(1);
    lm_tok *tok = t_tok(ctx, 280);
    LM_NEED_OK(ctx, make_folder(ctx, tok, t_path("out")));
    lm_shards *s;
    LM_NEED_OK(ctx, lm_shards_open(&s, ctx, t_path("out")));
    LM_CHECK(s->n == 2);
    lm_shards_close(s);
    size_t n;
    int missed = 0;
    const char *path = t_path("out/00001.shard");
    uint8_t *b = (uint8_t *)t_read(path, &n);
    for (size_t bit = 0; bit < n * 8; bit++) {                          /* in memory: every bit */
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        lm_err e = lm_shard_verify(ctx, "x.shard", b, n);
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        missed += !e || !strstr(lm_error(ctx), "x.shard");
    }
    for (size_t cut = 0; cut < n; cut++) missed += !lm_shard_verify(ctx, "x.shard", b, cut);
    for (size_t bit = 0; bit < n * 8; bit += n * 8 / 50) {              /* on the disk: some */
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        t_write(path, b, n);
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        missed += !found(ctx, t_path("out"), "00001.shard");
    }
    LM_CHECK(missed == 0);
    for (size_t cut = 0; cut < n; cut += 1 + n / 17) { t_write(path, b, cut); missed += !found(ctx, t_path("out"), "00001.shard"); }
    uint8_t *longer = calloc(1, n + 8);
    memcpy(longer, b, n);
    t_write(path, longer, n + 8);
    missed += !found(ctx, t_path("out"), "00001.shard");
    free(longer);
    LM_CHECK(missed == 0);
    unlink(path);
    LM_CHECK(found(ctx, t_path("out"), "00001.shard"));
    size_t m;
    char *other = t_read(t_path("out/00000.shard"), &m);                /* whole, but the wrong one */
    t_write(path, other, m);
    LM_CHECK(found(ctx, t_path("out"), "00001.shard"));
    lm_free(NULL, other);
    lm_shard like;                                                      /* as many ids, documents and bytes, but others */
    lm_shard_out *lw;
    lm_shard_sum ls;
    LM_NEED_OK(ctx, lm_shard_parse(ctx, "b", b, n, &like));
    LM_NEED_OK(ctx, lm_shard_create(&lw, ctx, path, &(lm_shard_kind){ like.vocab, like.eos, like.tok }));
    for (int64_t d = 0; d < like.n_docs; d++) {
        for (int64_t i = like.doc[d]; i < like.doc[d + 1]; i++) LM_CHECK_OK(ctx, lm_shard_add(lw, (int32_t[]){ 9 }, 1));
        LM_CHECK_OK(ctx, lm_shard_end_doc(lw, d ? 0 : like.n_bytes));
    }
    LM_NEED_OK(ctx, lm_shard_finish(lw, &ls));
    LM_CHECK(ls.size == (int64_t)n);
    LM_CHECK(found(ctx, t_path("out"), "00001.shard"));
    t_write(path, b, n);
    LM_CHECK(!found(ctx, t_path("out"), ""));
    /* the index */
    char *index = t_read(t_path("out/index.json"), &m);
    for (size_t cut = 0; cut + 2 < m; cut += 1 + m / 17) {
        t_write(t_path("out/index.json"), index, cut);
        LM_CHECK(found(ctx, t_path("out"), "index.json"));
    }
    const struct { const char *from, *to, *says;
    } edit[] = { { "loam shards", "loam shores", "wanted \"loam shards\"" }, { "\"00001.shard\"", "\"../x.shard\"", "name of a file" },
                 { "\"00001.shard\"", "\".1.shard\"", "name of a file" },    { "\"vocab\": 280", "\"vocab\": 281", "another tokenizer" },
                 { "\"hash\": \"", "\"hash\": \"g", "hexadecimal" },         { "\"version\": 1", "\"version\": 2", "outside" } };
    for (int i = 0; i < LM_COUNT(edit); i++) {
        char *at = strstr(index, edit[i].from);
        LM_CHECK(at);
        if (!at) continue;
        lm_str t = { .ctx = ctx };
        lm_str_add(&t, index, (size_t)(at - index));
        lm_str_puts(&t, edit[i].to);
        lm_str_puts(&t, at + strlen(edit[i].from));
        t_write(t_path("out/index.json"), t.p, t.n);
        lm_str_free(&t);
        lm_shards *x = NULL;
        lm_err e = lm_shards_open(&x, ctx, t_path("out"));
        if (!e || x || !strstr(lm_error(ctx), edit[i].says)) { lm_t_fail++; printf("%s: %s\n", edit[i].to, e ? lm_error(ctx) : "accepted"); }
        lm_shards_close(x);
    }
    unlink(t_path("out/index.json"));
    LM_CHECK_ERR(ctx, lm_shards_open(&s, ctx, t_path("out")), LM_E_NOTFOUND, "not finished");
    LM_CHECK_ERR(ctx, lm_shards_open(&s, ctx, t_path("nowhere")), LM_E_NOTFOUND, "no such folder");
    /* an id outside the vocabulary under hashes that are right: a writer's mistake, found where it is read */
    lm_shard_kind k = { .vocab = 280, .eos = -1, .tok = lm_tok_hash(tok) };
    lm_shard_out *w;
    lm_shard_sum sum;
    LM_NEED_OK(ctx, lm_shard_create(&w, ctx, t_path("bad.shard"), &k));
    LM_CHECK_OK(ctx, lm_shard_add(w, (int32_t[]){ 1, 279, 280, 2 }, 4));
    LM_CHECK_OK(ctx, lm_shard_end_doc(w, 4));
    LM_CHECK_OK(ctx, lm_shard_finish(w, &sum));
    uint8_t *bad = (uint8_t *)t_read(t_path("bad.shard"), &m);
    lm_shard sh;
    int32_t id[4];
    LM_CHECK_OK(ctx, lm_shard_parse(ctx, "bad.shard", bad, m, &sh));
    LM_CHECK(lm_shard_ids(&sh, 0, 2, id) && !lm_shard_ids(&sh, 0, 3, id) && lm_shard_ids(&sh, 3, 1, id));
    LM_CHECK_ERR(ctx, lm_shard_verify(ctx, "bad.shard", bad, m), LM_E_FORMAT, "outside the vocabulary");
    lm_free(NULL, bad);
    lm_free(NULL, b);
    lm_free(NULL, index);
    lm_tok_free(tok);
    lm_ctx_free(ctx);
    t_done();
}

/* ---- inputs of every kind ---- */
static void write_gz(const char *path, const char *p, size_t n, size_t member) {
    unlink(path);
    for (size_t at = 0; at < n; at += member) {
        gzFile f = gzopen(path, "ab6");
        size_t k = n - at < member ? n - at : member;
        if (!f || gzwrite(f, p + at, (unsigned)k) != (int)k || gzclose(f) != Z_OK) exit(1);
    }
}
static void write_zst(const char *path, const char *p, size_t n, size_t frame) {
    size_t cap = ZSTD_compressBound(n) + (n / frame + 1) * 64, len = 0;
    char *q = malloc(cap);
    for (size_t at = 0; at < n; at += frame) len += ZSTD_compress(q + len, cap - len, p + at, n - at < frame ? n - at : frame, 3);
    t_write(path, q, len);
    free(q);
}
typedef struct { lm_hasher *h; int64_t n; bool text; } sum_ud;
static lm_err sum_docs(void *ud, lm_docs *d, lm_doc_batch *b) {
    sum_ud *s = ud;
    for (int i = 0; i < b->n; i++) {
        if (b->doc[i].bad) return lm_docs_why(d, &b->doc[i]);
        if (!b->doc[i].n) continue;
        lm_hasher_add(s->h, &b->doc[i].n, sizeof b->doc[i].n);
        lm_hasher_add(s->h, b->doc[i].text, b->doc[i].n);
        s->n++;
    }
    return LM_OK;
}
static lm_err sum_path(lm_ctx *ctx, const char *path, const char *field, lm_hash128_t *h, int64_t *n) {
    sum_ud s = { .h = lm_hasher_new() };
    lm_err e = lm_docs_each(ctx, path, field, sum_docs, &s);
    *h = lm_hasher_get(s.h);
    *n = s.n;
    lm_hasher_free(s.h);
    return e;
}
static void test_kinds(void) {
    lm_ctx *ctx = t_ctx(3);
    enum { N = 700 };
    t_doc *d = t_docs(N, 3000, 5);
    lm_hasher *hh = lm_hasher_new();
    int64_t docs = 0, n;
    for (int i = 0; i < N; i++) if (d[i].n) { lm_hasher_add(hh, &d[i].n, sizeof d[i].n); lm_hasher_add(hh, d[i].p, d[i].n); docs++; }
    lm_hash128_t want = lm_hasher_get(hh), h;
    lm_hasher_free(hh);
    lm_str all = { .ctx = ctx };
    t_jsonl(&all, d, N);
    all.n--;                                                            /* no newline at the end */
    t_write(t_path("a.jsonl"), all.p, all.n);
    t_write(t_path("noname"), all.p, all.n);
    write_gz(t_path("b.jsonl.gz"), all.p, all.n, all.n);
    write_gz(t_path("members.gz"), all.p, all.n, 100003);
    write_zst(t_path("c.jsonl.zst"), all.p, all.n, all.n);
    write_zst(t_path("frames"), all.p, all.n, 70001);
    const char *const names[] = { "a.jsonl", "noname", "b.jsonl.gz", "members.gz", "c.jsonl.zst", "frames" };
    for (int i = 0; i < LM_COUNT(names); i++) {
        LM_CHECK_OK(ctx, sum_path(ctx, t_path(names[i]), NULL, &h, &n));
        if (!lm_hash_same(h, want) || n != docs) { lm_t_fail++; printf("%s: other documents\n", names[i]); }
    }
    /* whole files, a folder of them, with a mark at the start */
    lm_dir_make(ctx, t_path("folder/sub"));
    hh = lm_hasher_new();
    for (int i = 0; i < 30; i++) {
        char name[64];
        snprintf(name, sizeof name, "folder/%s%02d.%s", i % 3 ? "" : "sub/", i, i % 2 ? "txt" : "md");
        lm_str t = { .ctx = ctx };
        lm_str_puts(&t, i % 4 ? "" : "\xef\xbb\xbf");
        lm_str_add(&t, d[i].p, d[i].n);
        t_write(t_path(name), t.p, t.n);
        lm_str_free(&t);
    }
    t_write(t_path("folder/.hidden.txt"), "x", 1);
    t_write(t_path("folder/other.bin"), "x", 1);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < 30; i++)
            if ((i % 3 == 0) == pass && d[i].n) {
                lm_hasher_add(hh, &d[i].n, sizeof d[i].n);
                lm_hasher_add(hh, d[i].p, d[i].n);
            }
    LM_CHECK_OK(ctx, sum_path(ctx, t_path("folder"), NULL, &h, &n));
    LM_CHECK(lm_hash_same(h, lm_hasher_get(hh)));
    lm_hasher_free(hh);
    /* .txt is text, whatever it begins with */
    t_write(t_path("brace.txt"), "{not json", 9);
    LM_CHECK_OK(ctx, sum_path(ctx, t_path("brace.txt"), NULL, &h, &n));
    LM_CHECK(n == 1);
    /* another field; NUL inside */
    const char line[] = "{\"content\": \"a\\u0000b\", \"text\": 5}\n";
    t_write(t_path("f.jsonl"), line, sizeof line - 1);
    LM_CHECK_OK(ctx, sum_path(ctx, t_path("f.jsonl"), "content", &h, &n));
    LM_CHECK(n == 1);
    LM_CHECK_ERR(ctx, sum_path(ctx, t_path("f.jsonl"), NULL, &h, &n), LM_E_DATA, "f.jsonl:1: JSON: /text: wanted a string");
    LM_CHECK_ERR(ctx, sum_path(ctx, t_path("f.jsonl"), "body", &h, &n), LM_E_DATA, "/body: missing");
    /* what is wrong, and where */
    const char bad1[] = "{\"text\": \"fine\"}\n\n{\"text\": \"not\"\n", bad2[] = "{\"text\": \"fine\"}\n{\"text\": \"\xff\"}\n",
               bad3[] = "{\"text\": \"fine\"}\n[1]\n";
    t_write(t_path("bad.jsonl"), bad1, sizeof bad1 - 1);
    LM_CHECK_ERR(ctx, sum_path(ctx, t_path("bad.jsonl"), NULL, &h, &n), LM_E_DATA, "bad.jsonl:3: JSON:1:");
    t_write(t_path("bad.jsonl"), bad2, sizeof bad2 - 1);
    LM_CHECK_ERR(ctx, sum_path(ctx, t_path("bad.jsonl"), NULL, &h, &n), LM_E_DATA, "bad.jsonl:2: not UTF-8 at byte 27 of the file (0xff)");
    t_write(t_path("bad.jsonl"), bad3, sizeof bad3 - 1);
    LM_CHECK_ERR(ctx, sum_path(ctx, t_path("bad.jsonl"), NULL, &h, &n), LM_E_DATA, "bad.jsonl:2: JSON: wanted an object");
    t_write(t_path("bad.txt"), "good \xc3\xa9 then \xc3", 15);
    LM_CHECK_ERR(ctx, sum_path(ctx, t_path("bad.txt"), NULL, &h, &n), LM_E_DATA, "bad.txt: not UTF-8 at byte 13");
    t_write(t_path("bad.txt"), "\xef\xbb\xbf" "ab\xff", 6);
    LM_CHECK_ERR(ctx, sum_path(ctx, t_path("bad.txt"), NULL, &h, &n), LM_E_DATA, "not UTF-8 at byte 5");
    LM_CHECK_ERR(ctx, sum_path(ctx, t_path("none.txt"), NULL, &h, &n), LM_E_NOTFOUND, "none.txt");
    lm_dir_make(ctx, t_path("empty"));
    LM_CHECK_ERR(ctx, sum_path(ctx, t_path("empty"), NULL, &h, &n), LM_E_NOTFOUND, "no file named");
    t_write(t_path("plain.gz"), "hello", 5);
    LM_CHECK_ERR(ctx, sum_path(ctx, t_path("plain.gz"), NULL, &h, &n), LM_E_FORMAT, "plain.gz: is not gzip");
    t_write(t_path("plain.zst"), "", 0);
    LM_CHECK_ERR(ctx, sum_path(ctx, t_path("plain.zst"), NULL, &h, &n), LM_E_FORMAT, "plain.zst: is not zstd");
    /* packed files that are cut off or damaged never pass for shorter ones */
    for (int z = 0; z < 2; z++) {
        size_t len;
        const char *from = t_path(z ? "c.jsonl.zst" : "b.jsonl.gz"), *to = t_path(z ? "cut.jsonl.zst" : "cut.jsonl.gz");
        char *p = t_read(from, &len);
        for (size_t cut = 4; cut < len; cut += 1 + len / 23) {
            t_write(to, p, cut);
            LM_CHECK_ERR(ctx, sum_path(ctx, to, NULL, &h, &n), LM_E_FORMAT, z ? "cut.jsonl.zst" : "cut.jsonl.gz");
        }
        for (size_t at = 20; at < len; at += 1 + len / 23) {
            p[at] ^= 0x10;
            t_write(to, p, len);
            p[at] ^= 0x10;
            lm_err e = sum_path(ctx, to, NULL, &h, &n);
            LM_CHECK(e == LM_E_FORMAT || e == LM_E_DATA || (!e && z));  /* zstd here has no checksum: what still unpacks may differ */
        }
        lm_free(NULL, p);
    }
    lm_str_free(&all);
    t_docs_free(d, N);
    lm_ctx_free(ctx);
    t_done();
}
/* Batches of any size hold the same documents; starting in the middle gives the rest. */
static void test_batches(void) {
    lm_ctx *ctx = t_ctx(2);
    enum { N = 300 };
    t_doc *d = t_docs(N, 900, 8);
    t_write_jsonl(t_path("1.jsonl"), d, 100);
    t_write(t_path("2.txt"), d[100].p, d[100].n);
    t_write_jsonl(t_path("3.jsonl"), d + 101, N - 101);
    const char *paths[] = { t_path("1.jsonl"), t_path("2.txt"), t_path("3.jsonl") };
    lm_text_files in;
    LM_NEED_OK(ctx, lm_text_files_find(ctx, paths, 3, &in));
    const size_t want[] = { 1, 1000, 50000, 1 << 20 };
    for (int w = 0; w < LM_COUNT(want); w++)
        for (int from = 0; from <= N; from += 37) {
            lm_doc_at at = from < 100 ? (lm_doc_at){ 0, from } : from == 100 ? (lm_doc_at){ 1, 0 } : (lm_doc_at){ 2, from - 101 };
            lm_docs *x;
            LM_NEED_OK(ctx, lm_docs_open(&x, ctx, &in, NULL));
            lm_docs_start(x, at);
            int k = from;
            for (lm_doc_batch b; !lm_docs_next(x, want[w], &b) && b.n;)
                for (int i = 0; i < b.n; i++, k++) {
                    bool same = k < N && b.doc[i].n == d[k].n && !memcmp(b.doc[i].text, d[k].p, d[k].n) &&
                                b.doc[i].at_file.record == (k < 100    ? k
                                                            : k == 100 ? 0
                                                                       : k - 101);
                    if (!same) { LM_CHECK(same); k = N + 1; break; }
                }
            LM_CHECK(k == N);
            LM_CHECK(lm_docs_taken(x) == in.bytes);
            lm_docs_close(x);
        }
    lm_text_files_free(&in);
    t_docs_free(d, N);
    lm_ctx_free(ctx);
    t_done();
}
static void test_from_text(void) {
    lm_ctx *ctx = t_ctx(2);
    lm_tok *tok = t_tok(ctx, 280);
    t_doc *d = t_docs(20, 400, 9);
    t_write_jsonl(t_path("a.jsonl"), d, 20);
    lm_shards *s, *f;
    LM_NEED_OK(ctx, lm_shards_from_text(&s, ctx, tok, t_path("a.jsonl")));
    const char *in[] = { t_path("a.jsonl") };
    LM_NEED_OK(ctx, lm_data_tokenize(ctx, tok, &(lm_tokenize_opts){ .out = t_path("out"), .in = in, .n_in = 1, .add_eos = true }));
    LM_NEED_OK(ctx, lm_shards_open(&f, ctx, t_path("out")));
    int64_t n = lm_shards_tokens(s), bytes = 0;
    for (int i = 0; i < 20; i++) bytes += (int64_t)d[i].n;
    LM_CHECK(n == lm_shards_tokens(f) && lm_shards_docs(s) == lm_shards_docs(f) && lm_shards_bytes(s) == bytes && lm_shards_bytes(f) == bytes);
    LM_CHECK(lm_hash_same(lm_shards_tok_hash(s), lm_shards_tok_hash(f)));
    int32_t *a = malloc((size_t)n * 8), *b = a + n;
    LM_CHECK_OK(ctx, lm_shards_get(s, 0, n, a));
    LM_CHECK_OK(ctx, lm_shards_get(f, 0, n, b));
    LM_CHECK(!memcmp(a, b, (size_t)n * 4));
    LM_CHECK_OK(ctx, lm_shards_verify(s));
    /* documents come back as they were, each ended by the end token */
    int64_t at = 0;
    for (int i = 0; i < 20; i++) {
        if (!d[i].n) continue;
        int64_t end = at;
        while (end < n && !lm_tok_is_eos(tok, a[end])) end++;
        lm_str text = { .ctx = ctx };
        LM_CHECK_OK(ctx, lm_tok_decode(tok, a + at, (size_t)(end - at), 0, &text));
        LM_CHECK(text.n == d[i].n && !memcmp(text.p, d[i].p, d[i].n));
        LM_CHECK(lm_shards_doc_start(s, end) == at);
        lm_str_free(&text);
        at = end + 1;
    }
    LM_CHECK(at == n);
    /* the copy of the tokenizer is the same tokenizer */
    lm_tok *copy;
    LM_NEED_OK(ctx, lm_tok_open(ctx, t_path("out/tokenizer.json"), NULL, &copy));
    LM_CHECK(lm_hash_same(lm_tok_hash(copy), lm_shards_tok_hash(f)));
    lm_tok_free(copy);
    free(a);
    lm_shards_close(s);
    lm_shards_close(f);
    t_write(t_path("empty.txt"), "", 0);
    LM_CHECK_ERR(ctx, lm_shards_from_text(&s, ctx, tok, t_path("empty.txt")), LM_E_DATA, "no text");
    /* every allocation may fail */
    lm_ledger before, after;
    for (uint64_t k = 1;; k++) {
        lm_mem_ledger(ctx, &before);
        lm_mem_fail_at(ctx, k, true);
        s = NULL;
        lm_err e = lm_shards_from_text(&s, ctx, tok, t_path("a.jsonl"));
        lm_mem_fail_at(ctx, 0, false);
        if (!e) { lm_shards_close(s); LM_CHECK(k > 10); break; }
        lm_mem_ledger(ctx, &after);
        if (e != LM_E_NOMEM || s) { lm_t_fail++; printf("allocation %d: %s %s\n", (int)k, lm_err_name(e), lm_error(ctx)); }
        LM_CHECK(before.now[LM_MEM_DATA] == after.now[LM_MEM_DATA] && before.now[LM_MEM_IO] == after.now[LM_MEM_IO]);
        if (k > 3000) { LM_CHECK(k <= 3000); break; }
    }
    t_docs_free(d, 20);
    lm_tok_free(tok);
    lm_ctx_free(ctx);
    t_done();
}
static void test_train_tokenizer(void) {
    lm_ctx *ctx = t_ctx(2);
    t_doc *d = t_docs(200, 2000, 10);
    t_write_jsonl(t_path("a.jsonl"), d, 200);
    lm_tok *one, *many;
    LM_NEED_OK(ctx, lm_data_train_tokenizer(ctx, t_path("a.jsonl"), 300, &one));
    LM_CHECK(lm_tok_vocab(one) > 260 && lm_tok_vocab(one) <= 300);
    int n;
    LM_CHECK(lm_tok_eos(one, &n)[0] == 0 && n == 1);
    size_t len;
    const char *end = lm_tok_spelling(one, 0, &len);
    LM_CHECK(len == 13 && !memcmp(end, "<|endoftext|>", 13));
    lm_tok_text *t = calloc(200, sizeof *t);
    for (int i = 0; i < 200; i++) t[i] = (lm_tok_text){ d[i].p, d[i].n };
    LM_NEED_OK(ctx, lm_tok_train(ctx, &(lm_tok_train_opts){ .vocab = 300 }, t, 200, &many));
    LM_CHECK(lm_hash_same(lm_tok_hash(one), lm_tok_hash(many)));
    free(t);
    lm_tok_free(one);
    lm_tok_free(many);
    t_write(t_path("e.txt"), "", 0);
    LM_CHECK_ERR(ctx, lm_data_train_tokenizer(ctx, t_path("e.txt"), 300, &one), LM_E_DATA, "no text");
    t_docs_free(d, 200);
    lm_ctx_free(ctx);
    t_done();
}
LM_TEST_MAIN(LM_T1(test_layout), LM_T1(test_damage), LM_T1(test_kinds), LM_T1(test_batches), LM_T1(test_from_text), LM_T1(test_train_tokenizer))
