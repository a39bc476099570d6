/* sentencepiece models. */
#include "format/spm.h"
#include <stdlib.h>
#include <string.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    lm_spm *m;
    if (lm_spm_parse(&m, ctx, "fuzz.model", data, size)) return 0;
    uint64_t h = lm_hash64(m->charsmap_n ? m->charsmap : (const uint8_t *)"", m->charsmap_n, 0);
    for (int i = 0; i < m->n_piece; i++) {
        const lm_spm_piece *p = &m->piece[i];
        h += lm_hash64(p->s, (size_t)p->n + 1, h);
        if (!p->n || strlen(p->s) != (size_t)p->n || (p->type == LM_SPM_BYTE) != (p->byte >= 0) || p->byte > 255) abort();
    }
    if (m->unk_id < 0 || m->unk_id >= m->n_piece || m->bos_id >= m->n_piece || m->eos_id >= m->n_piece || m->pad_id >= m->n_piece) abort();
    lm_spm_free(m);
    return 0;
}
