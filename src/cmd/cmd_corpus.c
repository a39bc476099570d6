/* cmd_corpus.c — see cmd_corpus.h. */
#include <zstd.h>
#include "cmd/cmd_corpus.h"

__asm__(".section .rodata\n.balign 16\nlm_corpus_first:\n.incbin \"" LM_CORPUS "\"\nlm_corpus_last:\n.byte 0\n.previous\n");
extern const char first[] __asm__("lm_corpus_first"), last[] __asm__("lm_corpus_last");

lm_err lm_cmd_corpus(lm_ctx *ctx, char **text, size_t *n) {
    const size_t z = (size_t)(last - first);
    const unsigned long long size = ZSTD_getFrameContentSize(first, z);
    if (size > (1ull << 30)) return lm_fail(ctx, LM_E_INTERNAL, "the text in the program is damaged");
    char *p = lm_alloc(ctx, LM_MEM_DATA, (size_t)size + 1);
    if (!p) return LM_E_NOMEM;
    const size_t got = ZSTD_decompress(p, (size_t)size, first, z);
    if (ZSTD_isError(got) || got != size) { lm_free(ctx, p); return lm_fail(ctx, LM_E_INTERNAL, "the text in the program is damaged"); }
    p[size] = 0;
    *text = p; *n = (size_t)size;
    return LM_OK;
}
