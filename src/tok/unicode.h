/* unicode.h — what the splitters need to know of a code point: its general category, White_Space, "word", and whether NFC cares.
 *
 * One table of one Unicode version (tools/gen_unicode.py) serves the hand-written splitters and the translation of patterns for PCRE2, so that both
 * paths of one pattern agree, and agree with the tokenizers of record, whatever the C library or PCRE2 was built with.
 *
 * Lifetime: constant.  Threads: any.  Errors: none; numbers over U+10FFFF are unassigned. */
#ifndef LM_TOK_UNICODE_H
#define LM_TOK_UNICODE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
enum { LM_UC_BLOCK = 128 };
enum { LM_UC_CN, LM_UC_LU, LM_UC_LL, LM_UC_LT, LM_UC_LM, LM_UC_LO, LM_UC_MN, LM_UC_MC, LM_UC_ME, LM_UC_ND, LM_UC_NL, LM_UC_NO,
       LM_UC_PC, LM_UC_PD, LM_UC_PS, LM_UC_PE, LM_UC_PI, LM_UC_PF, LM_UC_PO, LM_UC_SM, LM_UC_SC, LM_UC_SK, LM_UC_SO,
       LM_UC_ZS, LM_UC_ZL, LM_UC_ZP, LM_UC_CC, LM_UC_CF, LM_UC_CS, LM_UC_CO, LM_UC_N };
enum { LM_UC_SPACE = 0x20, LM_UC_WORD = 0x40, LM_UC_NFC = 0x80 /* NFC may change it, reorder it or join it to what is before */ };
typedef struct { uint32_t lo, hi; int cat; } lm_uc_range;
extern const char lm_uc_version[];
extern const char *const lm_uc_names[LM_UC_N];
extern const uint16_t lm_uc_index[0x110000 / LM_UC_BLOCK];
extern const uint8_t lm_uc_blocks[][LM_UC_BLOCK];
extern const lm_uc_range lm_uc_since14[];       /* categories given after Unicode 14, the version of PCRE2 10.42 */
extern const int lm_uc_n_since14;
/* ascending: normalization properties given after Unicode 9; the normalizers of record do not know them */
extern const lm_uc_range lm_uc_after9[];
extern const int lm_uc_n_after9;

static inline unsigned lm_uc(uint32_t c) { return c < 0x110000 ? lm_uc_blocks[lm_uc_index[c / LM_UC_BLOCK]][c % LM_UC_BLOCK] : LM_UC_CN; }
static inline unsigned lm_uc_cat(uint32_t c) { return lm_uc(c) & 31; }
/* Sets of categories as bits. */
#define LM_UC_BIT(cat) (1u << (cat))
#define LM_UC_SET_L (LM_UC_BIT(LM_UC_LU) | LM_UC_BIT(LM_UC_LL) | LM_UC_BIT(LM_UC_LT) | LM_UC_BIT(LM_UC_LM) | LM_UC_BIT(LM_UC_LO))
#define LM_UC_SET_M (LM_UC_BIT(LM_UC_MN) | LM_UC_BIT(LM_UC_MC) | LM_UC_BIT(LM_UC_ME))
#define LM_UC_SET_N (LM_UC_BIT(LM_UC_ND) | LM_UC_BIT(LM_UC_NL) | LM_UC_BIT(LM_UC_NO))
#define LM_UC_SET_P (LM_UC_BIT(LM_UC_PC) | LM_UC_BIT(LM_UC_PD) | LM_UC_BIT(LM_UC_PS) | LM_UC_BIT(LM_UC_PE) | LM_UC_BIT(LM_UC_PI) | LM_UC_BIT(LM_UC_PF) | LM_UC_BIT(LM_UC_PO))
static inline bool lm_uc_in(uint32_t c, unsigned set) { return (set >> lm_uc_cat(c)) & 1; }
static inline bool lm_uc_space(uint32_t c) { return lm_uc(c) & LM_UC_SPACE; }
static inline bool lm_uc_word(uint32_t c) { return lm_uc(c) & LM_UC_WORD; }

/* Decode one character of text already known to be well-formed; *len = its bytes. */
static inline uint32_t lm_utf8_get(const uint8_t *p, int *len) {
    uint32_t a = p[0];
    if (a < 0x80) { *len = 1; return a; }
    if (a < 0xe0) { *len = 2; return (a & 0x1f) << 6 | (p[1] & 0x3f); }
    if (a < 0xf0) { *len = 3; return (a & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f); }
    *len = 4; return (a & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 | (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f); }
static inline int lm_utf8_put(uint32_t c, uint8_t *p) {
    if (c < 0x80) { p[0] = (uint8_t)c; return 1; }
    if (c < 0x800) { p[0] = (uint8_t)(0xc0 | c >> 6); p[1] = (uint8_t)(0x80 | (c & 0x3f)); return 2; }
    if (c < 0x10000) { p[0] = (uint8_t)(0xe0 | c >> 12); p[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f)); p[2] = (uint8_t)(0x80 | (c & 0x3f)); return 3; }
    p[0] = (uint8_t)(0xf0 | c >> 18);
    p[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    p[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    p[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4; }
/* Start of the character that ends just before p (text well-formed, p > begin). */
static inline const uint8_t *lm_utf8_prev(const uint8_t *begin, const uint8_t *p) {
    do p--; while (p > begin && (*p & 0xc0) == 0x80);
    return p; }
#endif
