/* spm.h — sentencepiece's .model file (a protobuf ModelProto), read.
 *
 * The protobuf wire format is four kinds of field; the reader below knows the ones it wants by number and skips the rest, with every length
 * checked against what is left. Pieces are unique non-empty UTF-8; byte pieces must be spelled exactly <0x00> … <0xFF>; there is one unknown piece.
 * Special ids are found as sentencepiece itself finds them: by the piece's name and type (the numbers in the trainer's spec are what the trainer
 * was asked for, and are not read). Defaults are those of sentencepiece_model.proto.
 *
 * Lifetime: everything lives until lm_spm_free.  Threads: read-only once made.
 * Errors:   LM_E_FORMAT naming field or piece; LM_E_RANGE. */
#ifndef LM_SPM_H
#define LM_SPM_H
#include "base/base.h"
enum { LM_SPM_MAX_PIECES = 1 << 22, LM_SPM_MAX_BYTES = 256 << 20 };
typedef enum { LM_SPM_NORMAL = 1, LM_SPM_UNKNOWN, LM_SPM_CONTROL, LM_SPM_USER_DEFINED, LM_SPM_UNUSED, LM_SPM_BYTE } lm_spm_type;
typedef enum { LM_SPM_UNIGRAM = 1, LM_SPM_BPE, LM_SPM_WORD, LM_SPM_CHAR } lm_spm_model;
/* s NUL-terminated; byte 0..255 for BYTE, else -1 */
typedef struct { const char *s; int n; float score; lm_spm_type type; int byte; } lm_spm_piece;
typedef struct {
    lm_arena *arena;
    lm_spm_piece *piece; int n_piece;
    /* trainer_spec */
    lm_spm_model model_type;
    bool byte_fallback, whitespace_as_suffix;
    int unk_id, bos_id, eos_id, pad_id;                     /* -1: none (never for unk) */
    const char *unk_piece, *bos_piece, *eos_piece, *pad_piece, *unk_surface;
    /* normalizer_spec */
    const char *norm_name;
    bool add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces;
    const uint8_t *charsmap; size_t charsmap_n;             /* precompiled_charsmap as stored */
} lm_spm;
lm_err lm_spm_parse(lm_spm **out, lm_ctx *ctx, const char *name, const void *p, size_t n);
lm_err lm_spm_load(lm_spm **out, lm_ctx *ctx, const char *path);
void lm_spm_free(lm_spm *m);                                /* NULL is fine */
#endif
