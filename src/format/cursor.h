/* cursor.h — a bounded little-endian reader over memory, and the UTF-8 check: what every binary parser here stands on.
 *
 * Each take either succeeds wholly or returns false and moves nothing, so a parser is a chain of && that cannot run past the end. Lengths come
 * from the file as 64-bit numbers and are compared with what is left before they are used, never added to a pointer first.
 *
 * Lifetime: borrows the memory.  Threads: values.  Errors: false = the bytes are not there. */
#ifndef LM_CURSOR_H
#define LM_CURSOR_H
#include "base/base.h"
#include <string.h>
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the binary formats are little-endian and are read in place: this machine's byte order is not supported"
#endif
typedef struct { const uint8_t *base, *p, *end; } lm_cursor;
static inline lm_cursor lm_cursor_of(const void *p, size_t n) {
    static const uint8_t nothing = 0;      /* (NULL, 0) is legal: pointer arithmetic and memcpy want a real address */
    const uint8_t *b = n ? (const uint8_t *)p : &nothing;
    return (lm_cursor){ b, b, b + n }; }
static inline size_t lm_cursor_left(const lm_cursor *c) { return (size_t)(c->end - c->p); }
static inline size_t lm_cursor_at(const lm_cursor *c) { return (size_t)(c->p - c->base); }
static inline bool lm_take(lm_cursor *c, uint64_t n, const uint8_t **out) {
    if (n > lm_cursor_left(c)) return false;
    *out = c->p; c->p += n; return true; }
static inline bool lm_take_copy(lm_cursor *c, void *dst, size_t n) {
    const uint8_t *p; if (!lm_take(c, n, &p)) return false;
    memcpy(dst, p, n); return true; }
static inline bool lm_take_u8(lm_cursor *c, uint8_t *v) { return lm_take_copy(c, v, 1); }
static inline bool lm_take_u32(lm_cursor *c, uint32_t *v) { return lm_take_copy(c, v, 4); }
static inline bool lm_take_i32(lm_cursor *c, int32_t *v) { return lm_take_copy(c, v, 4); }
static inline bool lm_take_f32(lm_cursor *c, float *v) { return lm_take_copy(c, v, 4); }
static inline bool lm_take_u64(lm_cursor *c, uint64_t *v) { return lm_take_copy(c, v, 8); }

/* Length of the well-formed UTF-8 sequence at p (1..4), or 0: overlong forms, surrogates and numbers over U+10FFFF are not well-formed. */
static inline int lm_utf8_len(const uint8_t *p, size_t n) {
    if (!n) return 0;
    uint8_t a = p[0];
    if (a < 0x80) return 1;
    if (a < 0xc2 || a > 0xf4) return 0;
    int len = a < 0xe0 ? 2 : a < 0xf0 ? 3 : 4;
    if (n < (size_t)len) return 0;
    uint8_t lo = a == 0xe0 ? 0xa0 : a == 0xf0 ? 0x90 : 0x80, hi = a == 0xed ? 0x9f : a == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < lo || p[1] > hi) return 0;
    for (int i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return len; }
static inline bool lm_utf8_ok(const void *s, size_t n) {
    const uint8_t *p = (const uint8_t *)s;
    while (n) { int k = lm_utf8_len(p, n); if (!k) return false; p += k; n -= (size_t)k; }
    return true; }
#endif
