/* place.c — offsets in one arena for buffers with lifetimes.
 *
 * Buffers are placed largest first, each at the lowest offset that is free of every placed buffer with an overlapping lifetime (greedy by size: on transformer graphs within
 * a few per cent of the largest live set, below which nothing can go). The placed ones are kept sorted by offset, so a buffer costs one walk over them. */
#include <stdlib.h>
#include <string.h>
#include "graph/plan_int.h"

static int by_size(const void *a, const void *b) {
    const lm_buf *x = *(lm_buf *const *)a, *y = *(lm_buf *const *)b;
    return x->bytes != y->bytes ? (x->bytes < y->bytes ? 1 : -1) : x->first != y->first ? x->first - y->first : (x > y) - (x < y);
}
size_t lm_place(lm_buf *b, int n, lm_buf **scratch) {
    lm_buf **order = scratch, **placed = scratch + n;
    size_t total = 0;
    int m = 0;
    for (int i = 0; i < n; i++) order[i] = &b[i];
    qsort(order, (size_t)n, sizeof *order, by_size);
    for (int i = 0; i < n; i++) {
        lm_buf *x = order[i];
        x->offset = 0;
        if (!x->bytes) continue;
        size_t at = 0;
        int k = 0;
        for (; k < m; k++) {
            const lm_buf *y = placed[k];
            if (y->first > x->last || x->first > y->last) continue;
            if (y->offset >= at && y->offset - at >= x->bytes) break;
            if (y->offset + y->bytes > at) at = y->offset + y->bytes;
        }
        x->offset = at;
        if (at + x->bytes > total) total = at + x->bytes;
        while (k > 0 && placed[k - 1]->offset > at) k--;
        while (k < m && placed[k]->offset <= at) k++;
        memmove(&placed[k + 1], &placed[k], (size_t)(m - k) * sizeof *placed);
        placed[k] = x; m++;
    }
    return total;
}
size_t lm_place_least(const lm_buf *b, int n, int n_step, size_t *at) {
    size_t now = 0, most = 0;
    memset(at, 0, (size_t)(n_step + 2) * sizeof *at);
    for (int i = 0; i < n; i++) { at[b[i].first] += b[i].bytes; at[b[i].last + 1] -= b[i].bytes; }        /* wraps below zero and back: sums are exact */
    for (int i = 0; i <= n_step; i++) { now += at[i]; if (now > most) most = now; }
    return most;
}
