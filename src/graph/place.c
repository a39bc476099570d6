/* place.c — offsets in one arena for buffers with lifetimes.
 *
 * Buffers are placed one by one, each at the lowest offset that is free of every placed buffer with an overlapping lifetime. Which go
 * first decides the result; no order is best for all graphs, so a few are tried (largest first, longest-lived first, by the product, in
 * step order) until one reaches the largest live set, below which nothing can go, and the smallest total is kept. The placed ones are
 * sorted by offset, so a buffer costs one walk over them. */
#include <stdlib.h>
#include <string.h>
#include "graph/plan_int.h"

typedef enum { BY_SIZE, BY_SIZE_AND_LIFE, BY_LIFE, BY_AREA, BY_STEP, N_ORDER } order;
static int life(const lm_buf *x) { return x->last - x->first + 1; }
static int down(double a, double b) { return (a < b) - (a > b); }
static int tie(const lm_buf *x, const lm_buf *y) { return x->first != y->first ? x->first - y->first : (x > y) - (x < y); }
#define ORDER(name, ...) static int name(const void *a, const void *b) { const lm_buf *x = *(lm_buf *const *)a, *y = *(lm_buf *const *)b; int c = (__VA_ARGS__); return c ? c : tie(x, y); }
ORDER(by_size, down((double)x->bytes, (double)y->bytes))
ORDER(by_size_and_life, x->bytes != y->bytes ? down((double)x->bytes, (double)y->bytes) : life(y) - life(x))
ORDER(by_life, life(x) != life(y) ? life(y) - life(x) : down((double)x->bytes, (double)y->bytes))
ORDER(by_area, down((double)x->bytes * life(x), (double)y->bytes * life(y)))
ORDER(by_step, x->first - y->first ? x->first - y->first : life(y) - life(x))
static int (*const compare[N_ORDER])(const void *, const void *) = { by_size, by_size_and_life, by_life, by_area, by_step };

static size_t place(lm_buf *b, int n, lm_buf **scratch, order o) {
    lm_buf **list = scratch, **placed = scratch + n;
    size_t total = 0;
    int m = 0;
    for (int i = 0; i < n; i++) list[i] = &b[i];
    qsort(list, (size_t)n, sizeof *list, compare[o]);
    for (int i = 0; i < n; i++) {
        lm_buf *x = list[i];
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
size_t lm_place(lm_buf *b, int n, size_t least, lm_buf **scratch) {
    order best = BY_SIZE;
    size_t total = SIZE_MAX, got = SIZE_MAX;
    order o = BY_SIZE;
    for (; o < N_ORDER && total > least; o++) if ((got = place(b, n, scratch, o)) < total) { total = got; best = o; }
    return got == total && best + 1 == o ? total : place(b, n, scratch, best);
}
size_t lm_place_least(const lm_buf *b, int n, int n_step, size_t *at) {
    size_t now = 0, most = 0;
    memset(at, 0, (size_t)(n_step + 2) * sizeof *at);
    /* wraps below zero and back: sums are exact */
    for (int i = 0; i < n; i++) { at[b[i].first] += b[i].bytes; at[b[i].last + 1] -= b[i].bytes; }
    for (int i = 0; i <= n_step; i++) { now += at[i]; if (now > most) most = now; }
    return most;
}
