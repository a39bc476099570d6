/* stream.h — stretches of files, read again and again in one order, always ahead of whoever uses them.
 *
 * What does not fit into memory but is needed in the same order every time (a model's weights, token after token) is kept in a ring: every piece has one
 * place, so addresses never change; two threads of its own fill places as soon as their last users are done, straight from the disk (O_DIRECT, where the
 * file system has it), so that the disk never waits while there is room. A cache that forgets what was used longest ago, as the system's does, is the worst for
 * such a reader: it forgets each piece right before it is needed. Pieces are counted from the first use on: piece k is stretch k mod n.
 *
 * Lifetime: belongs to the caller; the files must stay.
 * Threads:  wait and done from any.
 * Errors:   LM_E_NOMEM: the ring is smaller than two of the largest pieces need; LM_E_IO: a read failed, told by the next wait and all after. */
#ifndef LM_STREAM_H
#define LM_STREAM_H
#include "base/file.h"
typedef struct lm_stream lm_stream;
typedef struct { const lm_file *file; int64_t offset; size_t bytes; } lm_stretch;
/* The least ring for these pieces. */
size_t lm_stream_least(const lm_stretch *s, int n);
lm_err lm_stream_new(lm_stream **out, lm_ctx *ctx, const lm_stretch *s, int n, size_t ring);
void lm_stream_free(lm_stream *s);                                        /* NULL is fine */
void *lm_stream_at(const lm_stream *s, int i);                            /* where stretch i is, once a piece of it was waited for */
lm_err lm_stream_wait(lm_stream *s, uint64_t k);                          /* until piece k is there; pieces are waited for in order */
void lm_stream_done(lm_stream *s, uint64_t k);                            /* the pieces before k are needed no more; less than before changes nothing */
/* Bytes read so far, and for how long waits lasted, all waiters together. direct: past the system's cache. */
void lm_stream_stats(lm_stream *s, uint64_t *bytes, double *waited, bool *direct);
/* Bytes a second of a file read so: up to `most` bytes of it from its middle on, `seconds` long at most. 0: it cannot be read. */
double lm_stream_rate(lm_ctx *ctx, const char *path, size_t most, double seconds);
#endif
