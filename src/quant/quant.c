/* quant.c — the table of formats, and storage of weights as the formats see it: how many bytes, where a row lies, a row as floats.
 *
 * lm_storage_bytes() and lm_layout_get_rows() are declared with tensors but live here, because only here a format row is known. */
#include "quant/quant.h"
#include <string.h>

#define QUANT(n) extern const lm_quant lm_quant_##n;
#include "quant_list.inc"
#undef QUANT
const lm_quant *const lm_quants[] = {
#define QUANT(n) &lm_quant_##n,
#include "quant_list.inc"
#undef QUANT
    NULL };

const lm_quant *lm_quant_by_name(const char *name) {
    for (int i = 0; name && lm_quants[i]; i++) if (!strcmp(lm_quants[i]->name, name)) return lm_quants[i];
    return NULL;
}
const lm_quant *lm_quant_by_gguf(int id) {
    for (int i = 0; id >= 0 && lm_quants[i]; i++) if (lm_quants[i]->gguf_id == id) return lm_quants[i];
    return NULL;
}

/* ---- bytes ------------------------------------------------------------------------------------------------------- */
enum { ALIGN = 64 };
static size_t row_bytes(const lm_quant *q, int c, int64_t k) { return (size_t)(k / q->block) * (size_t)q->comp[c].block_bytes; }
/* rows * row bytes, up to the next component's alignment; sizes were checked when the storage was made */
static size_t comp_bytes(const lm_quant *q, int c, int64_t rows, int64_t k) {
    return (size_t)lm_round_up((int64_t)((size_t)rows * row_bytes(q, c, k)), ALIGN);
}
static bool quant_bytes(const lm_quant *q, size_t rows, int64_t k, size_t *out) {
    if (!q || k % q->block) return false;
    size_t total = 0;
    for (int c = 0; c < q->n_comp; c++) {
        size_t b;
        if (!lm_mul_ok((size_t)(k / q->block), (size_t)q->comp[c].block_bytes, &b) || !lm_mul_ok(b, rows, &b)) return false;
        if (c + 1 < q->n_comp) { if (!lm_add_ok(b, ALIGN - 1, &b)) return false; b &= ~(size_t)(ALIGN - 1); }
        if (!lm_add_ok(total, b, &total)) return false;
    }
    if (total > PTRDIFF_MAX) return false;
    *out = total;
    return true;
}
bool lm_storage_bytes(lm_dtype d, const lm_quant *q, lm_layout l, int rank, const int64_t *dim, size_t *out) {
    if (rank < 0 || rank > LM_MAX_RANK || (int)d < 0 || d >= LM_N_DTYPE) return false;
    size_t rows = 1, n, bytes;
    for (int i = 0; i < rank; i++) if (dim[i] < 0) return false;
    const int64_t k = rank ? dim[rank - 1] : 1;
    for (int i = 0; i + 1 < rank; i++) if (!lm_mul_ok(rows, (size_t)dim[i], &rows)) return false;
    if (d == LM_QUANT && l == LM_PANEL16) {
        if (rank < 2 || !q || !q->panels || rows > PTRDIFF_MAX - 15) return false;
        return quant_bytes(q, (size_t)lm_round_up((int64_t)rows, 16), k, out);
    }
    if (d == LM_QUANT) return l == LM_PLAIN && quant_bytes(q, rows, k, out);
    if (l == LM_PLAIN) n = (size_t)k;
    else {
        if (rank != 2 || !((l == LM_PANEL16 && d == LM_F32) || (l == LM_PANEL16X2 && d == LM_BF16))) return false;
        if (rows > PTRDIFF_MAX - 15 || k > INT64_MAX - 31) return false;
        rows = (size_t)lm_round_up((int64_t)rows, 16);
        n = (size_t)(l == LM_PANEL16X2 ? lm_round_up(k, 32) : k);
    }
    if (!lm_mul_ok(rows, n, &n) || !lm_mul_ok(n, lm_dtype_size(d), &bytes) || bytes > PTRDIFF_MAX) return false;
    *out = bytes;
    return true;
}

/* ---- rows ----------------------------------------------------------------------------------------------------------- */
const void *lm_quant_row(const lm_tensor *t, int c, int64_t r) {
    const int64_t rows = lm_rows(t), k = lm_cols(t);
    const char *p = t->data;
    for (int i = 0; i < c; i++) p += comp_bytes(t->quant, i, rows, k);
    return p + (size_t)r * row_bytes(t->quant, c, k);
}
/* Block b of row r in panels, in or out: its two-byte numbers, then groups of four bytes. */
static void panel_block(const lm_tensor *t, int64_t r, int64_t b, uint8_t *block, bool in) {
    const lm_quant *q = t->quant;
    const int64_t bytes = q->comp[0].block_bytes, blocks = lm_cols(t) / q->block;
    const int head = q->head, halves = head + q->tail;
    uint8_t *p = (uint8_t *)t->data + (r / 16 * blocks + b) * 16 * bytes, *half = p + r % 16 * 2, *group = p + 32 * halves + r % 16 * 4;
    for (int i = 0; i < halves; i++, half += 32) {
        uint8_t *x = block + (i < head ? 2 * i : bytes - 2 * (halves - i));
        if (in) memcpy(half, x, 2); else memcpy(x, half, 2);
    }
    for (int64_t i = 2 * head; i < bytes - 2 * q->tail; i += 4, group += 64) if (in) memcpy(group, block + i, 4); else memcpy(block + i, group, 4);
}
enum { PANEL_BLOCK = 256 };                                   /* bytes of a block that has panels, at most */
void lm_quant_row_get(const lm_tensor *t, int64_t r, float *dst) {
    const void *comp[LM_QUANT_MAX_COMP];
    if (t->layout == LM_PANEL16) {
        uint8_t block[PANEL_BLOCK];
        comp[0] = block;
        for (int64_t b = 0; b < lm_cols(t) / t->quant->block; b++, dst += t->quant->block) {
            panel_block(t, r, b, block, false);
            t->quant->to_float(t->quant, comp, t->quant->block, dst);
        }
        return;
    }
    for (int c = 0; c < t->quant->n_comp; c++) comp[c] = lm_quant_row(t, c, r);
    t->quant->to_float(t->quant, comp, lm_cols(t), dst);
}
void lm_quant_row_put(const lm_tensor *t, int64_t r, const float *src) {
    if (!t->quant->from_float) return;                     /* read-only format: callers check the row before they offer it */
    void *comp[LM_QUANT_MAX_COMP];
    if (t->layout == LM_PANEL16) {
        uint8_t block[PANEL_BLOCK];
        comp[0] = block;
        for (int64_t b = 0; b < lm_cols(t) / t->quant->block; b++, src += t->quant->block) {
            t->quant->from_float(t->quant, src, t->quant->block, comp);
            panel_block(t, r, b, block, true);
        }
        return;
    }
    for (int c = 0; c < t->quant->n_comp; c++) comp[c] = (void *)(uintptr_t)lm_quant_row(t, c, r);
    t->quant->from_float(t->quant, src, lm_cols(t), comp);
}
size_t lm_quant_piece(const lm_tensor *t, const float *x, int64_t n, void *out) {
    const int64_t rows = t->layout == LM_PANEL16 ? 16 : 1, dim[2] = { rows, n / rows };
    lm_tensor piece = lm_tensor_of(out, LM_QUANT, 2, dim);
    piece.quant = t->quant; piece.layout = t->layout;
    for (int64_t r = 0; r < rows; r++) lm_quant_row_put(&piece, r, x + r * dim[1]);
    return (size_t)(n / t->quant->block) * (size_t)t->quant->comp[0].block_bytes;
}
void lm_quant_row_move(const lm_tensor *t, int64_t r, const void *blocks) {
    const uint8_t *from = blocks;
    const int64_t bytes = t->quant->comp[0].block_bytes, n = lm_cols(t) / t->quant->block;
    if (t->layout == LM_PLAIN) memcpy((void *)(uintptr_t)lm_quant_row(t, 0, r), from, (size_t)(n * bytes));
    else for (int64_t b = 0; b < n; b++) panel_block(t, r, b, (uint8_t *)(uintptr_t)from + b * bytes, true);
}
void lm_layout_get_rows(const lm_tensor *w, int64_t row0, int64_t n, float *dst) {
    const int64_t k = lm_cols(w), kp = lm_round_up(k, 32);
    const int64_t ld = w->rank > 1 ? w->stride[w->rank - 2] : k;
    for (int64_t r = row0; r < row0 + n; r++, dst += k) {
        if (w->dtype == LM_QUANT) lm_quant_row_get(w, r, dst);
        else if (w->layout == LM_PANEL16) {
            const float *p = (const float *)w->data + r / 16 * k * 16 + r % 16;
            for (int64_t i = 0; i < k; i++) dst[i] = p[i * 16];
        } else if (w->layout == LM_PANEL16X2) {
            const uint16_t *p = (const uint16_t *)w->data + r / 16 * kp * 16 + r % 16 * 2;
            for (int64_t i = 0; i < k; i++) dst[i] = lm_bf16_to_f32(p[i / 2 * 32 + i % 2]);
        } else lm_convert(dst, LM_F32, (const char *)w->data + (size_t)(r * ld) * lm_dtype_size((lm_dtype)w->dtype), (lm_dtype)w->dtype, k);
    }
}
