/* docs.h — the documents of text and JSONL files, in order, in batches that are checked in parallel.
 *
 * A file is JSONL if its name says so (.jsonl, .ndjson, .json before .gz or .zst) or, when the name says neither that nor .txt, if its
 * first byte is '{'; else all of it is one document. A JSONL line is an object whose member `field` is the text; empty lines are passed
 * over. A folder stands for the files under it that are named .txt, .text, .md, .jsonl, .ndjson or .json (packed or not), folder by
 * folder, sorted by name; names that begin with a dot are not looked at. Everything is UTF-8: a document that is not is a bad one, and so
 * is a line that is not JSON or lacks the field. A byte-order mark at the start of a file is dropped. A batch is what tokenizing takes at
 * a time: some megabytes, cut after whole records, from as many files as it takes. Where a batch ends depends on the bytes of the files
 * alone, and nothing downstream depends on it.
 *
 * Lifetime: a batch borrows its lm_docs and lives until the next one.  Threads: one caller; parsing uses the pool.
 * Errors:   bad documents are marked, and lm_docs_why gives the sentence (file, line, place); what else fails is returned. */
#ifndef LM_DATA_DOCS_H
#define LM_DATA_DOCS_H
#include "base/base.h"
#include "tok/tok.h"
enum { LM_DATA_MAX_DOC = 1 << 30, LM_DATA_MAX_LINE = 128 << 20, LM_DATA_MAX_INPUTS = 1 << 24 };

/* ---- which files ---- */
/* name: inside the folder given, or the file's own; mtime in ns */
typedef struct { char *path; const char *name; int64_t size, mtime; } lm_text_file;
typedef struct { lm_ctx *ctx; lm_text_file *v; int n; int64_t bytes; lm_arena *a; } lm_text_files;
lm_err lm_text_files_find(lm_ctx *ctx, const char *const *paths, int n, lm_text_files *out);
void lm_text_files_free(lm_text_files *in);

/* ---- what is in them ---- */
typedef struct { int input; int64_t record; } lm_doc_at;                             /* file number; number of the document in it, bad ones counted */
typedef struct {
    lm_doc_at at_file;
    const char *text; size_t n;         /* NULL if it is bad */
    int64_t line, offset;               /* 1-based line, 0: the whole file; byte in the unpacked file */
    lm_err bad;
    const char *raw; size_t raw_n, at;  /* the line, or the file, as it stands; its place in the batch's buffer */
    void *json;                         /* what text points into, if not raw */
} lm_doc;
typedef struct { lm_doc *doc; int n; } lm_doc_batch;
typedef struct lm_docs lm_docs;
lm_err lm_docs_open(lm_docs **out, lm_ctx *ctx, const lm_text_files *in, const char *field);   /* borrows both; field NULL = "text" */
/* Start here instead of at the beginning; earlier files are not opened. Before the first batch. */
void lm_docs_start(lm_docs *d, lm_doc_at at);
lm_err lm_docs_next(lm_docs *d, size_t want, lm_doc_batch *b);                       /* about want bytes; b->n = 0: the end */
lm_err lm_docs_why(lm_docs *d, const lm_doc *doc);                                   /* sets the sentence for a bad document, returns its code */
/* Put "file:line: " before the sentence that is there. */
lm_err lm_docs_blame(lm_docs *d, const lm_doc *doc, lm_err code);
int64_t lm_docs_taken(const lm_docs *d);                                             /* bytes of the files used up, as stored */
void lm_docs_close(lm_docs *d);

/* ---- to ids (encode.c) ---- */
/* Ids of the good documents of a batch, appended: document i has ids[start[i]..start[i+1]). One that cannot be encoded becomes a bad one.
 * start has b->n + 1. */
lm_err lm_data_encode(lm_ctx *ctx, const lm_tok *tok, lm_doc_batch *b, lm_tok_buf *ids, size_t **start);      /* *start: lm_free */
/* the sentence for a bad document, parsing or encoding; returns its code */
lm_err lm_data_why(lm_ctx *ctx, const lm_tok *tok, lm_docs *d, const lm_doc *doc);

/* Bytes of text to take at a time, for this many threads. */
static inline size_t lm_docs_want(const lm_ctx *ctx) { return (size_t)lm_min64(lm_max64(lm_ctx_threads(ctx), 2), 16) << 22; }
static inline bool lm_doc_before(lm_doc_at a, lm_doc_at b) { return a.input < b.input || (a.input == b.input && a.record < b.record); }

/* Every document of a file or folder, batch by batch, to fn, bad ones too. For jobs that keep no state on disk. */
typedef lm_err lm_docs_fn(void *ud, lm_docs *d, lm_doc_batch *b);
lm_err lm_docs_each(lm_ctx *ctx, const char *path, const char *field, lm_docs_fn *fn, void *ud);
#endif
