/* bytes.c — GPT-2's byte alphabet: each byte has a printable character, so that a vocabulary of byte strings can be written as text.
 * Printable Latin-1 stands for itself; the other 68 bytes take U+0100 on, in order. */
#include "format/cursor.h"
#include "tok/tok_int.h"
#include "tok/unicode.h"

static bool printable(unsigned b) { return (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae; }

/* How many bytes below b are not printable: 0..32, 127..160, 173. */
static unsigned hidden_before(unsigned b) { return b <= 33 ? b : b <= 127 ? 33 : b <= 161 ? 33 + (b - 127) : b <= 173 ? 67 : 68; }

uint32_t lm_byte_char(uint8_t b) { return printable(b) ? b : 0x100 + hidden_before(b); }

int lm_char_byte(uint32_t c) {
    if (c < 0x100) return printable(c) ? (int)c : -1;
    if (c >= 0x100 + 68) return -1;
    c -= 0x100;
    return (int)(c < 33 ? c : c < 67 ? c - 33 + 127 : 173);
}

void lm_bytes_to_text(const void *p, size_t n, lm_str *out) {
    const uint8_t *b = p;
    uint8_t u[4];
    for (size_t i = 0; i < n; i++) lm_str_add(out, u, (size_t)lm_utf8_put(lm_byte_char(b[i]), u));
}

bool lm_text_to_bytes(const char *s, size_t n, lm_str *out) {
    const uint8_t *p = (const uint8_t *)s, *end = p + n;
    while (p < end) {
        int len = lm_utf8_len(p, (size_t)(end - p));
        if (!len) return false;
        int b = lm_char_byte(lm_utf8_get(p, &len));
        if (b < 0) return false;
        lm_str_putc(out, (char)b);
        p += len;
    }
    return true;
}
