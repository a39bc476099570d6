/* spm.c — a small protobuf wire reader and the fields of ModelProto. A message that comes twice is merged field by field, as protobuf says. */
#include "format/spm.h"
#include "base/file.h"
#include "format/cursor.h"
#include <math.h>

typedef struct { uint32_t num; int wire; uint64_t v; const uint8_t *p; size_t n; } field;      /* v: varint or fixed; p, n: bytes */
typedef struct { lm_ctx *ctx; const char *name; lm_spm *m; int cap; const uint8_t *base; } state;

static lm_err bad(const state *s, const uint8_t *at, const char *what) {
    return lm_fail(s->ctx, LM_E_FORMAT, "%s: byte %zu: %s", s->name, (size_t)(at - s->base), what);
}
static bool varint(lm_cursor *c, uint64_t *out) {
    uint64_t v = 0; uint8_t b;
    for (int shift = 0; shift < 64; shift += 7) {
        if (!lm_take_u8(c, &b)) return false;
        if (shift == 63 && b > 1) return false;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) { *out = v; return true; }
    }
    return false;
}
static lm_err next_field(const state *s, lm_cursor *c, field *f) {
    uint64_t key, len; uint32_t v32;
    const uint8_t *at = c->p;
    if (!varint(c, &key) || key >> 3 == 0 || key >> 3 > 536870911) return bad(s, at, "a malformed field key");
    f->num = (uint32_t)(key >> 3); f->wire = (int)(key & 7);
    switch (f->wire) {
    case 0: if (varint(c, &f->v)) return LM_OK; break;
    case 1: if (lm_take_u64(c, &f->v)) return LM_OK; break;
    case 2: if (varint(c, &len) && lm_take(c, len, &f->p)) { f->n = (size_t)len; return LM_OK; } break;
    case 5: if (lm_take_u32(c, &v32)) { f->v = v32; return LM_OK; } break;
    default: return bad(s, at, "an unknown wire type");
    }
    return bad(s, at, "the message ends inside a field");
}
static lm_err want(const state *s, const field *f, int wire, const uint8_t *at) {
    return f->wire == wire ? LM_OK : bad(s, at, "a field has the wrong wire type");
}
static lm_err text(const state *s, const field *f, const uint8_t *at, const char **out) {
    LM_TRY(want(s, f, 2, at));
    if (memchr(f->p, 0, f->n) || !lm_utf8_ok(f->p, f->n)) return bad(s, at, "text that is not UTF-8 or holds a NUL");
    char *t = lm_arena_alloc(s->m->arena, f->n + 1);
    if (!t) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory", s->name);
    memcpy(t, f->p, f->n);
    *out = t;
    return LM_OK;
}
static lm_err boolean(const state *s, const field *f, const uint8_t *at, bool *out) { LM_TRY(want(s, f, 0, at)); *out = f->v != 0; return LM_OK; }
static lm_err integer(const state *s, const field *f, const uint8_t *at, int *out) {
    LM_TRY(want(s, f, 0, at));
    *out = (int)(int32_t)(uint32_t)f->v;
    return LM_OK;
}

static int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }
static lm_err add_piece(state *s, const field *f) {
    lm_spm *m = s->m; lm_cursor c = lm_cursor_of(f->p, f->n); field g = { 0 };
    lm_spm_piece p = { .s = "", .type = LM_SPM_NORMAL, .byte = -1 }; int type = LM_SPM_NORMAL;
    while (lm_cursor_left(&c)) {
        const uint8_t *at = c.p;
        LM_TRY(next_field(s, &c, &g));
        if (g.num == 1) { LM_TRY(text(s, &g, at, &p.s)); p.n = (int)g.n; }
        else if (g.num == 2) { LM_TRY(want(s, &g, 5, at)); uint32_t bits = (uint32_t)g.v; memcpy(&p.score, &bits, 4); }
        else if (g.num == 3) LM_TRY(integer(s, &g, at, &type));
    }
    if (!p.n) return lm_fail(s->ctx, LM_E_FORMAT, "%s: piece %d is empty", s->name, m->n_piece);
    if (isnan(p.score)) return lm_fail(s->ctx, LM_E_FORMAT, "%s: the score of piece %d is not a number", s->name, m->n_piece);
    if (type < LM_SPM_NORMAL || type > LM_SPM_BYTE)
        return lm_fail(s->ctx, LM_E_FORMAT, "%s: piece %d is of unknown type %d", s->name, m->n_piece, type);
    p.type = (lm_spm_type)type;
    if (p.type == LM_SPM_BYTE) {
        int hi = p.n == 6 ? hex(p.s[3]) : -1, lo = p.n == 6 ? hex(p.s[4]) : -1;
        if (hi < 0 || lo < 0 || memcmp(p.s, "<0x", 3) || p.s[5] != '>')
            return lm_fail(s->ctx, LM_E_FORMAT, "%s: byte piece %d is spelled \"%.40s\", wanted <0x00>..<0xFF>", s->name, m->n_piece, p.s);
        p.byte = hi * 16 + lo;
    }
    if (m->n_piece == s->cap) {
        if (s->cap >= LM_SPM_MAX_PIECES) return lm_fail(s->ctx, LM_E_RANGE, "%s: more than %d pieces", s->name, (int)LM_SPM_MAX_PIECES);
        int cap = s->cap ? s->cap * 2 : 1024;
        lm_spm_piece *v = lm_realloc(s->ctx, LM_MEM_TOK, m->piece, (size_t)cap * sizeof *v);
        if (!v) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory for %d pieces", s->name, cap);
        m->piece = v; s->cap = cap;
    }
    m->piece[m->n_piece++] = p;
    return LM_OK;
}
static lm_err trainer(state *s, const field *f) {
    lm_cursor c = lm_cursor_of(f->p, f->n); field g = { 0 }; lm_spm *m = s->m; int type;
    while (lm_cursor_left(&c)) {
        const uint8_t *at = c.p;
        LM_TRY(next_field(s, &c, &g));
        switch (g.num) {
        case 3:
            LM_TRY(integer(s, &g, at, &type));
            if (type < LM_SPM_UNIGRAM || type > LM_SPM_CHAR) return bad(s, at, "an unknown model type");
            m->model_type = (lm_spm_model)type;
            break;
        case 24: LM_TRY(boolean(s, &g, at, &m->whitespace_as_suffix)); break;
        case 35: LM_TRY(boolean(s, &g, at, &m->byte_fallback)); break;
        case 44: LM_TRY(text(s, &g, at, &m->unk_surface)); break;
        case 45: LM_TRY(text(s, &g, at, &m->unk_piece)); break;
        case 46: LM_TRY(text(s, &g, at, &m->bos_piece)); break;
        case 47: LM_TRY(text(s, &g, at, &m->eos_piece)); break;
        case 48: LM_TRY(text(s, &g, at, &m->pad_piece)); break;
        default: break;
        }
    }
    return LM_OK;
}
static lm_err normalizer(state *s, const field *f) {
    lm_cursor c = lm_cursor_of(f->p, f->n); field g = { 0 }; lm_spm *m = s->m;
    while (lm_cursor_left(&c)) {
        const uint8_t *at = c.p;
        LM_TRY(next_field(s, &c, &g));
        switch (g.num) {
        case 1: LM_TRY(text(s, &g, at, &m->norm_name)); break;
        case 2: {
            LM_TRY(want(s, &g, 2, at));
            uint8_t *copy = lm_arena_alloc(m->arena, g.n + 1);
            if (!copy) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory", s->name);
            memcpy(copy, g.p, g.n);
            m->charsmap = copy; m->charsmap_n = g.n;
            break;
        }
        case 3: LM_TRY(boolean(s, &g, at, &m->add_dummy_prefix)); break;
        case 4: LM_TRY(boolean(s, &g, at, &m->remove_extra_whitespaces)); break;
        case 5: LM_TRY(boolean(s, &g, at, &m->escape_whitespaces)); break;
        default: break;
        }
    }
    return LM_OK;
}
/* Index the pieces by text: duplicates show, and the special ids are looked up. */
static uint32_t *slot_of(const lm_spm *m, uint32_t *slot, size_t cap, const char *text_) {
    size_t h = lm_hash64(text_, strlen(text_), 0) & (cap - 1);
    while (slot[h] && strcmp(m->piece[slot[h] - 1].s, text_)) h = (h + 1) & (cap - 1);
    return &slot[h];
}
static int control(const lm_spm *m, uint32_t *slot, size_t cap, const char *piece) {
    uint32_t i = *slot_of(m, slot, cap, piece);
    return i && m->piece[i - 1].type == LM_SPM_CONTROL ? (int)i - 1 : -1;
}
static lm_err index_pieces(const state *s) {
    lm_spm *m = s->m; size_t cap = 64;
    while (cap < 2 * (size_t)m->n_piece) cap *= 2;
    uint32_t *slot = lm_calloc(s->ctx, LM_MEM_TOK, cap, sizeof *slot);
    if (!slot) return lm_fail(s->ctx, LM_E_NOMEM, "%s: out of memory", s->name);
    lm_err err = LM_OK;
    for (int i = 0; i < m->n_piece && !err; i++) {
        uint32_t *at = slot_of(m, slot, cap, m->piece[i].s);
        if (*at) err = lm_fail(s->ctx, LM_E_FORMAT, "%s: pieces %u and %d are both \"%.60s\"", s->name, *at - 1, i, m->piece[i].s);
        else if (m->piece[i].type == LM_SPM_UNKNOWN && m->unk_id >= 0)
            err = lm_fail(s->ctx, LM_E_FORMAT, "%s: pieces %d and %d are both of type unknown", s->name, m->unk_id, i);
        else if (m->piece[i].type == LM_SPM_UNKNOWN) m->unk_id = i;
        *at = (uint32_t)i + 1;
    }
    if (!err && m->unk_id < 0) err = lm_fail(s->ctx, LM_E_FORMAT, "%s: no piece is of type unknown", s->name);
    m->bos_id = control(m, slot, cap, m->bos_piece); m->eos_id = control(m, slot, cap, m->eos_piece); m->pad_id = control(m, slot, cap, m->pad_piece);
    lm_free(s->ctx, slot);
    return err;
}
static lm_err parse(state *s, lm_cursor c) {
    field f = { 0 };
    while (lm_cursor_left(&c)) {
        const uint8_t *at = c.p;
        LM_TRY(next_field(s, &c, &f));
        if (f.num < 1 || f.num > 3) continue;
        LM_TRY(want(s, &f, 2, at));
        LM_TRY(f.num == 1 ? add_piece(s, &f) : f.num == 2 ? trainer(s, &f) : normalizer(s, &f));
    }
    lm_spm *m = s->m;
    if (!m->n_piece) return lm_fail(s->ctx, LM_E_FORMAT, "%s: no pieces: not a sentencepiece model", s->name);
    return index_pieces(s);
}
lm_err lm_spm_parse(lm_spm **out, lm_ctx *ctx, const char *name, const void *p, size_t n) {
    if (n > LM_SPM_MAX_BYTES) return lm_fail(ctx, LM_E_RANGE, "%s: %zu bytes, the limit is %d", name, n, (int)LM_SPM_MAX_BYTES);
    lm_arena *a; LM_TRY(lm_arena_new(&a, ctx, LM_MEM_TOK, 0));
    lm_spm *m = lm_arena_alloc(a, sizeof *m);
    if (!m) { lm_arena_free(a); return lm_fail(ctx, LM_E_NOMEM, "%s: out of memory", name); }
    *m = (lm_spm){ .arena = a,
                   .model_type = LM_SPM_UNIGRAM,
                   .unk_id = -1,
                   .bos_id = -1,
                   .eos_id = -1,
                   .pad_id = -1,
                   .unk_piece = "<unk>",
                   .bos_piece = "<s>",
                   .eos_piece = "</s>",
                   .pad_piece = "<pad>",
                   .unk_surface = " \xe2\x81\x87 ",
                   .norm_name = "",
                   .add_dummy_prefix = true,
                   .remove_extra_whitespaces = true,
                   .escape_whitespaces = true };
    lm_cursor c = lm_cursor_of(p, n);
    state s = { .ctx = ctx, .name = name, .m = m, .base = c.base };
    lm_err err = parse(&s, c);
    if (!err) {                         /* pieces move into the arena: one thing to free */
        lm_spm_piece *v = lm_arena_alloc(a, (size_t)m->n_piece * sizeof *v);
        if (v) memcpy(v, m->piece, (size_t)m->n_piece * sizeof *v);
        else err = lm_fail(ctx, LM_E_NOMEM, "%s: out of memory", name);
        lm_free(ctx, m->piece);
        m->piece = v;
    } else lm_free(ctx, m->piece);
    if (err) { lm_arena_free(a); return err; }
    *out = m;
    return LM_OK;
}
lm_err lm_spm_load(lm_spm **out, lm_ctx *ctx, const char *path) {
    char *p; size_t n;
    LM_TRY(lm_file_read_all(ctx, path, LM_SPM_MAX_BYTES, &p, &n));
    lm_err err = lm_spm_parse(out, ctx, path, p, n);
    lm_free(ctx, p);
    return err;
}
void lm_spm_free(lm_spm *m) { if (m) lm_arena_free(m->arena); }
