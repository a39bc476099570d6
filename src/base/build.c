/* build.c — the note "GNU", type 3, of the object that holds this function. */
#define _GNU_SOURCE                                        /* dl_iterate_phdr */
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "base/build.h"

typedef struct { uintptr_t here; const unsigned char *id; } search;
static int look(struct dl_phdr_info *o, size_t size, void *ud) {
    search *s = ud;
    const unsigned char *id = NULL;
    bool ours = false;
    (void)size;
    for (int i = 0; i < o->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &o->dlpi_phdr[i];
        const uintptr_t from = o->dlpi_addr + h->p_vaddr;
        if (h->p_type == PT_LOAD) ours |= s->here >= from && s->here - from < h->p_memsz;
        if (h->p_type != PT_NOTE) continue;
        for (size_t at = 0; at + sizeof(ElfW(Nhdr)) <= h->p_memsz;) {
            const ElfW(Nhdr) *n = (const void *)(from + at);
            const size_t name = (n->n_namesz + 3) & ~(size_t)3, desc = (n->n_descsz + 3) & ~(size_t)3;
            const unsigned char *p = (const unsigned char *)(n + 1);
            if (name + desc > h->p_memsz - at - sizeof *n) break;
            if (n->n_type == NT_GNU_BUILD_ID && n->n_namesz == 4 && !memcmp(p, "GNU", 4) && n->n_descsz >= 6) id = p + name;
            at += sizeof *n + name + desc;
        }
    }
    if (ours) s->id = id;
    return ours;
}
void lm_build_name(char out[LM_BUILD_NAME]) {
    search s = { .here = (uintptr_t)(void *)lm_build_name };
    dl_iterate_phdr(look, &s);
    const int n = snprintf(out, LM_BUILD_NAME, "%.8s", LM_VERSION);
    if (s.id && n > 0) snprintf(out + n, (size_t)(LM_BUILD_NAME - n), " (build %02x%02x%02x%02x%02x%02x)", s.id[0], s.id[1], s.id[2], s.id[3], s.id[4], s.id[5]);
}
