/* stream.h — the bytes of a file in order, unpacked on the way when it is gzip or zstd.
 *
 * What a file is, is said by its first bytes; a name that ends in .gz or .zst but holds neither is refused. Members (gzip) and frames
 * (zstd) may follow one another. An end inside a member or frame, a failed checksum and bytes after the last member are errors, so that a
 * cut-off download is never taken for a short corpus. A zstd window of over 128 MiB is refused: memory is bounded by what the format may
 * ask for.
 *
 * Lifetime: the caller closes.  Threads: one.
 * Errors:   LM_E_FORMAT (damaged), else as file.h; the sentence names the file. */
#ifndef LM_DATA_STREAM_H
#define LM_DATA_STREAM_H
#include "base/file.h"
typedef struct lm_stream lm_stream;
lm_err lm_stream_open(lm_stream **out, lm_ctx *ctx, const char *path);
lm_err lm_stream_read(lm_stream *s, void *dst, size_t cap, size_t *n);   /* *n = 0: the end */
int64_t lm_stream_taken(const lm_stream *s);                             /* bytes of the file used up so far */
void lm_stream_close(lm_stream *s);                                      /* NULL is fine */
/* Length of a file name without .gz or .zst. */
size_t lm_stream_bare(const char *path);
#endif
