/* chat_split.c — reasoning and answer told apart as they come. */
#define _GNU_SOURCE 1                                               /* memmem */
#include <string.h>
#include "chat/chat_int.h"
#include "format/cursor.h"

static void drop(lm_chat_splitter *s, size_t n) { memmove(s->held.p, s->held.p + n, s->held.n - n); s->held.n -= n; }
static int give(lm_chat_splitter *s, size_t n) {
    const lm_chat_part p = s->thinking ? LM_CHAT_REASONING : LM_CHAT_ANSWER;
    size_t from = 0;
    const bool apart = p == LM_CHAT_REASONING || s->part[LM_CHAT_REASONING].n;
    /* what only sets the parts apart */
    while (apart && !s->part[p].n && from < n && (s->held.p[from] == '\n' || (s->held.p[from] == ' ' && p == LM_CHAT_REASONING))) from++;
    const int stop = n > from && s->text ? s->text(s->ud, p, s->held.p + from, n - from) : 0;
    lm_str_add(&s->part[p], s->held.p + from, n - from);
    drop(s, n);
    return stop;
}
int lm_chat_split(lm_chat_splitter *s, const char *p, size_t n) {
    for (size_t k = 0; k < n;) {                                         /* a model may write bytes that are no text; messages are text */
        const int len = lm_utf8_len((const uint8_t *)p + k, n - k);
        if (len && p[k]) lm_str_add(&s->held, p + k, (size_t)len); else lm_str_puts(&s->held, "\xef\xbf\xbd");
        k += len ? (size_t)len : 1;
    }
    int stop = 0;
    while (!stop && s->open && !s->begun && !s->held.bad) {              /* reasoning comes first, and once */
        size_t w = 0;                                                    /* white space before the tag */
        while (w < s->held.n && (s->held.p[w] == '\n' || s->held.p[w] == ' ')) w++;
        if (s->thinking) {
            const size_t m = strlen(s->close);
            const char *at = s->held.n ? memmem(s->held.p, s->held.n, s->close, m) : NULL;
            size_t keep = lm_min64((int64_t)m - 1, (int64_t)s->held.n);
            while (!at && keep && memcmp(s->held.p + s->held.n - keep, s->close, keep)) keep--;
            const size_t some = at ? (size_t)(at - s->held.p) : s->held.n - keep;
            if (some) stop = give(s, some);
            if (!at) return stop;
            drop(s, m);
            s->thinking = false;
            s->begun = true;
        } else {
            const size_t m = strlen(s->open), have = s->held.n - w < m ? s->held.n - w : m;
            if (have && memcmp(s->held.p + w, s->open, have)) { s->begun = true; break; }
            if (w) stop = give(s, w);
            if (have < m) return stop;
            drop(s, m);
            s->thinking = true;
        }
    }
    return stop ? stop : s->held.n ? give(s, s->held.n) : 0;
}
int lm_chat_split_end(lm_chat_splitter *s) { return s->held.n ? give(s, s->held.n) : 0; }
void lm_chat_split_free(lm_chat_splitter *s) { lm_str_free(&s->held); lm_str_free(&s->part[0]); lm_str_free(&s->part[1]); }
