/* test_ops.c — the driver: every op × sample × kernel row this machine has × thread count, against the double reference; then gradients.
 * Names no op.
 *
 * A case is one sample in one form: contiguous; inputs as row-strided views; other output layouts; fewer rows than capacity, and none;
 * outputs added to; output in place of input 0. A form a kernel does not accept is skipped, but the plain form must have a kernel, on the
 * portable machine too. Checked in each: element and tensor bounds, or equal bits where the sample asks for them; guards of NaN bits on
 * both sides of every buffer; inputs unchanged; outputs and scratch poisoned before; the same bits from 1, 2 and 7 threads and from tiles
 * in reverse order; the same bits from rows with one order id. Gradients: directional derivatives in double through the graph's
 * interpreter, one input at a time, against a fourth-order central difference. Rows for a GPU run where LM_DEVICE in the environment names
 * one (cuda): all buffers, guards and poison included, are copied there and back, so every check is the same; their activations are also
 * stored as bf16 and as f16 where the row takes that; how many rows ran so is printed. Four runs must give the same bits. The driver is itself checked on rows with planted bugs. The
 * seed is printed with a failure; LM_OPS=name,name in the environment runs those alone.
 *
 * The bits of each order id over all samples and forms are hashed and compared with tests/golden/bits.txt: an order id is a promise that no
 * compiler, flag or machine changes. After a change that is meant, `build/tests/test_ops rewrite` writes it anew; lines of orders that this
 * machine has no instructions for are kept. test_ops_amx (LM_SOFT_AMX) runs the rows that need AMX or AVX-512 BF16, whose instructions
 * are functions there, so that they are held to a processor's bits on machines that have neither. */
#include "test.h"
#include <inttypes.h>
#include "base/pool.h"
#include "graph/graph.h"

/* test_ops_amx: the kernels of these instructions alone, which are then functions (soft_amx.h). */
#ifdef LM_SOFT_AMX
enum { SOFT = LM_CPU_AVX512_BF16 | LM_CPU_AMX_BF16 };
#else
enum { SOFT = 0 };
#endif
static lm_ctx *ctx;
static lm_pool *pools[3];                        /* of 1, 2 and 7 */
static uint64_t seed = 20240607, features;
static lm_dev *dev;                              /* NULL: no GPU rows */
static struct { int device_runs, f16_runs, f16_ops, ops, samples, kernels, cases, checks, grads, fails; bool quiet; char where[256]; } st;

static void report(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void report(const char *fmt, ...) {
    st.fails++;
    if (st.quiet) return;
    lm_t_fail++;
    va_list ap; va_start(ap, fmt); printf("%s: ", st.where); vprintf(fmt, ap); printf(" (seed %llu)\n", (unsigned long long)seed); va_end(ap);
}
#define NEED(cond, ...) do { st.checks++; if (!(cond)) report(__VA_ARGS__); } while (0)

/* ---- guarded buffers ------------------------------------------------------------------------------------------------------------- */
enum { GUARD = 256 };
typedef struct { unsigned char *base, *p; size_t n; } buf;
static buf buf_new(size_t n) {
    buf b = { .n = n };
    if (posix_memalign((void **)&b.base, 64, lm_round_up((int64_t)n, 64) + 2 * GUARD)) abort();
    b.p = b.base + GUARD;
    for (size_t i = 0; i < GUARD; i++) b.base[i] = b.p[n + i] = "\xa5\xc3\xf9\x7f"[i % 4];
    return b;
}
static bool buf_ok(const buf *b) {
    for (size_t i = 0; i < GUARD; i++)
        if (b->base[i] != (unsigned char)"\xa5\xc3\xf9\x7f"[i % 4] || b->p[b->n + i] != (unsigned char)"\xa5\xc3\xf9\x7f"[i % 4])
            return false;
    return true;
}
static void buf_free(buf *b) { free(b->base); *b = (buf){ 0 }; }

/* ---- tensors of a case: storage as kernels see it, and the logical double (or integer) copy the reference sees ------------------------- */
typedef struct { lm_tensor t, ref; buf store, before, refbuf; } arg;
static bool is_float(const lm_tensor *t) { return t->dtype == LM_QUANT || lm_dtype_is_float((lm_dtype)t->dtype); }
static size_t ref_size(lm_dtype d) { return d == LM_QUANT || lm_dtype_is_float(d) ? sizeof(double) : lm_dtype_size(d); }
static size_t storage(const lm_tensor *t) {
    size_t n = 0;
    if (!lm_storage_bytes((lm_dtype)t->dtype, t->quant, (lm_layout)t->layout, t->rank, t->dim, &n)) abort();
    if (t->layout == LM_PLAIN && t->dtype != LM_QUANT && t->rank > 1 && !lm_is_contig(t))
        n = (size_t)(lm_rows(t) * t->stride[t->rank - 2]) * lm_dtype_size((lm_dtype)t->dtype);
    return n;
}
/* Logical doubles of a float tensor, from its storage. */
static void to_double(const lm_tensor *t, double *out) {
    int64_t rows = lm_rows(t), cols = lm_cols(t);
    if (t->dtype == LM_QUANT || t->layout != LM_PLAIN) {
        float *row = malloc((size_t)cols * 4 + 4);
        for (int64_t r = 0; r < rows; r++) { lm_layout_get_rows(t, r, 1, row); lm_convert(out + r * cols, LM_F64, row, LM_F32, cols); }
        free(row);
        return;
    }
    int64_t ld = t->rank > 1 ? t->stride[t->rank - 2] : cols;
    for (int64_t r = 0; r < rows; r++)
        lm_convert(out + r * cols, LM_F64, (const char *)t->data + (size_t)(r * ld) * lm_dtype_size((lm_dtype)t->dtype), (lm_dtype)t->dtype,
                   cols);
}
static void from_float(const lm_tensor *t, const float *x) {
    int64_t rows = lm_rows(t), cols = lm_cols(t);
    if (t->dtype == LM_QUANT) for (int64_t r = 0; r < rows; r++) lm_quant_row_put(t, r, x + r * cols);
    else if (t->layout != LM_PLAIN) lm_layout_put_rows(t, 0, rows, x);
    else {
        int64_t ld = t->rank > 1 ? t->stride[t->rank - 2] : cols;
        for (int64_t r = 0; r < rows; r++)
            lm_convert((char *)t->data + (size_t)(r * ld) * lm_dtype_size((lm_dtype)t->dtype), (lm_dtype)t->dtype, x + r * cols, LM_F32,
                       cols);
    }
}
/* A format that is only read: random bytes, each block drawn again until its numbers are of ordinary size (a scale's exponent is any, otherwise). */
static void random_blocks(const lm_tensor *t, lm_rng r) {
    const lm_quant *q = t->quant; uint64_t at = 0; float *f = malloc((size_t)q->block * 4);
    for (int64_t row = 0; row < lm_rows(t); row++) for (int64_t b = 0; b < lm_cols(t) / q->block; b++) for (bool good = false; !good;) {
        const void *comp[LM_QUANT_MAX_COMP];
        for (int c = 0; c < q->n_comp; c++) {
            unsigned char *p = (unsigned char *)(uintptr_t)lm_quant_row(t, c, row) + b * q->comp[c].block_bytes;
            for (int i = 0; i < q->comp[c].block_bytes; i++) p[i] = (unsigned char)lm_rng_u32(r, at++);
            comp[c] = p;
        }
        q->to_float(q, comp, q->block, f);
        float most = 0; good = true;
        for (int i = 0; i < q->block; i++) { good = good && isfinite(f[i]) && fabsf(f[i]) < 4; most = fmaxf(most, fabsf(f[i])); }
        good = good && most > 0.01f;
    }
    free(f);
}
static double draw(const lm_arg *a, lm_rng r, int64_t i) {
    int64_t n = a->arg > 0 ? (int64_t)a->arg : 0;
    switch (a->fill) {
    case LM_FILL_NORMAL: return (double)lm_rng_normal(r, (uint64_t)i);
    case LM_FILL_POSITIVE: return 0.1 + fabs((double)lm_rng_normal(r, (uint64_t)i));
    case LM_FILL_ZERO: return 0;
    case LM_FILL_IDS: return (double)lm_rng_below(r, (uint64_t)i, (uint64_t)lm_max64(n, 1));
    case LM_FILL_IOTA: return (double)(n ? i % n : i);
    case LM_FILL_START: return (double)(i / lm_max64(n, 1) * lm_max64(n, 1));
    case LM_FILL_ONES: return 1;
    case LM_FILL_UNIFORM: return (double)lm_rng_uniform(r, (uint64_t)i);
    }
    return 0;
}
/* The first n numbers drawn for input i: of one filling they are always the same, so they are kept. */
static const double *drawn(const lm_arg *a, lm_rng r, int i, int64_t n) {
    static struct { int fill; double arg, *x; int64_t n, room; } kept[LM_MAX_IN];
    if (kept[i].fill != (int)a->fill || kept[i].arg != (double)a->arg) kept[i].n = 0;
    kept[i].fill = (int)a->fill; kept[i].arg = (double)a->arg;
    if (n > kept[i].room || !kept[i].x) {
        kept[i].room = n + n / 2 + 1;
        if (!(kept[i].x = realloc(kept[i].x, (size_t)kept[i].room * sizeof(double)))) abort();
    }
    for (; kept[i].n < n; kept[i].n++) kept[i].x[kept[i].n] = draw(a, r, kept[i].n);
    return kept[i].x;
}
static void fill_int(void *p, lm_dtype d, int64_t i, double v) {
    switch (lm_dtype_size(d)) {
    case 1: ((int8_t *)p)[i] = (int8_t)v; break;
    case 2: ((int16_t *)p)[i] = (int16_t)v; break;
    case 4: ((int32_t *)p)[i] = (int32_t)v; break;
    default: ((int64_t *)p)[i] = (int64_t)v;
    }
}
static lm_dtype dtype_of(const lm_arg *a) { return a->quant ? LM_QUANT : a->dtype; }
static lm_type type_of(const lm_arg *a) {
    lm_type t = lm_type_make(dtype_of(a), a->rank, a->dim);
    if (a->quant) t.quant = lm_quant_by_name(a->quant);
    return t;
}
/* Input i of a sample; pad > 0: rows lie in wider ones whose rest is NaN; rows: runtime rows of dimension 0 (the rest of the storage is NaN
 * or far out). */
static bool arg_make(arg *x, const lm_sample *s, int i, int64_t pad, int64_t rows) {
    const lm_arg *a = &s->in[i];
    *x = (arg){ .t = lm_tensor_of(NULL, dtype_of(a), a->rank, a->dim) };
    x->t.layout = (int8_t)a->layout; x->t.quant = type_of(a).quant;
    if (a->quant && !x->t.quant) return false;
    if (pad)
        for (int k = a->rank - 2; k >= 0; k--)
            x->t.stride[k] = k == a->rank - 2 ? a->dim[a->rank - 1] + pad : x->t.stride[k + 1] * a->dim[k + 1];
    x->store = buf_new(storage(&x->t)); x->t.data = x->store.p;
    memset(x->store.p, x->t.layout == LM_PLAIN && x->t.dtype != LM_QUANT ? 0xff : 0, x->store.n);
    x->ref = lm_tensor_of(NULL, is_float(&x->t) ? LM_F64 : (lm_dtype)x->t.dtype, a->rank, a->dim);
    x->ref.quant = x->t.quant;
    char name[24]; snprintf(name, sizeof name, "input %d", i);
    lm_rng r = lm_rng_of(seed, name);
    if (rows >= 0) { x->t.dim[0] = x->ref.dim[0] = rows; x->ref = lm_tensor_of(NULL, (lm_dtype)x->ref.dtype, a->rank, x->ref.dim); x->ref.quant = x->t.quant; }
    int64_t n = lm_numel(&x->t);
    x->refbuf = buf_new((size_t)n * ref_size((lm_dtype)x->t.dtype)); x->ref.data = x->refbuf.p;
    const double *d = drawn(a, r, i, n);
    if (is_float(&x->t)) {
        float *f = malloc((size_t)n * 4 + 4);
        for (int64_t k = 0; k < n; k++) f[k] = (float)d[k];
        if (x->t.dtype == LM_QUANT && !x->t.quant->from_float) random_blocks(&x->t, r); else from_float(&x->t, f);
        free(f);
        to_double(&x->t, x->ref.data);
    } else
        for (int64_t k = 0; k < n; k++) {
            fill_int(x->t.data, (lm_dtype)x->t.dtype, k, d[k]);
            fill_int(x->ref.data, (lm_dtype)x->t.dtype, k, d[k]);
        }
    x->before = buf_new(x->store.n); memcpy(x->before.p, x->store.p, x->store.n);
    return true;
}
static void arg_free(arg *x) { buf_free(&x->store); buf_free(&x->before); buf_free(&x->refbuf); }
/* Bounds of one output. `base`: what was there before an accumulating run, or NULL. */
static void compare(const lm_sample *s, int o, const lm_tensor *got, const lm_tensor *ref, const double *base) {
    int64_t n = lm_numel(got);
    if (!is_float(got)) {
        NEED(!memcmp(got->data, ref->data, (size_t)n * lm_dtype_size((lm_dtype)got->dtype)),
             "output %d: integers differ from the reference", o);
        return;
    }
    double *g = malloc((size_t)n * 8 + 8), sum = 0, err = 0, worst = 0; const double *r = ref->data; int64_t at = -1;
    to_double(got, g);
    for (int64_t i = 0; i < n; i++) if (isfinite(r[i])) sum += r[i] * r[i];
    double rms = n ? sqrt(sum / (double)n) : 0, tol_norm = s->tol_norm > 0 ? s->tol_norm : s->tol;
    for (int64_t i = 0; i < n; i++) {
        double want = r[i], room = s->tol * (fabs(r[i]) + rms);
        if (base) { want += base[i]; room = (s->tol > 1e-6 ? s->tol : 1e-6) * (fabs(r[i]) + rms + fabs(base[i])); }
        if (s->tol == 0 && !base) {        /* the reference rounded once to the output's dtype, bit for bit */
            float f; lm_convert(&f, LM_F32, &want, LM_F64, 1);
            uint64_t q = 0; lm_convert(&q, (lm_dtype)got->dtype, &want, LM_F64, 1); lm_convert(&want, LM_F64, &q, (lm_dtype)got->dtype, 1);
        }
        if (isnan(want) ? isnan(g[i]) : isinf(want) ? g[i] == want : fabs(g[i] - want) <= room) {
            if (isfinite(want)) err += (g[i] - want) * (g[i] - want);
            continue;
        }
        double over = isfinite(g[i]) ? fabs(g[i] - want) : INFINITY;
        if (at < 0 || over > worst) { worst = over; at = i; }
    }
    NEED(at < 0, "output %d: element %lld is %.9g, wanted %.9g within %g of it and of rms %.3g", o, (long long)at, at < 0 ? 0 : g[at],
         at < 0 ? 0 : r[at] + (base ? base[at] : 0), s->tol, rms);
    if (at < 0 && s->tol > 0 && !base)
        NEED(sqrt(err) <= tol_norm * sqrt(sum), "output %d: ‖got - ref‖ = %.3g, wanted %g of ‖ref‖ = %.3g", o, sqrt(err), tol_norm,
             sqrt(sum));
    free(g);
}
/* Pads of panel storage are zero: writing the logical values into zeroed storage gives the same bytes. */
static void check_pads(int o, const lm_tensor *t, size_t bytes) {
    if (t->layout == LM_PLAIN) return;
    int64_t n = lm_numel(t); double *d = malloc((size_t)n * 8 + 8); float *f = malloc((size_t)n * 4 + 4);
    to_double(t, d); lm_convert(f, LM_F32, d, LM_F64, n);
    lm_tensor z = *t; z.data = calloc(1, bytes + 1); from_float(&z, f);
    NEED(!memcmp(z.data, t->data, bytes), "output %d: the pads of its panels are not zero", o);
    free(z.data); free(d); free(f);
}

/* ---- running one kernel on a team ------------------------------------------------------------------------------------------------------- */
typedef struct { const lm_kernel *k; const lm_call *c; lm_pool *pool; bool reverse; buf scratch[8]; lm_err err; } team;
static void team_run(void *ud, int ith, int nth) {
    team *t = ud; lm_call c = *t->c;
    const int64_t times = t->k->repeat ? t->k->repeat(&c) : 1;
    for (c.iter = 0; c.iter < times; c.iter++)
        for (int ph = 0; ph < t->k->n_phase; ph++) {
            const int64_t n = t->k->phase[ph].tiles(&c);
            for (int64_t i = ith; i < n; i += nth) {
                int64_t tile = t->reverse == (ith & 1) ? i : ith + ((n - 1 - ith) / nth) * nth - (i - ith);   /* odd members go backwards */
                lm_err e = t->k->phase[ph].run(&c, tile, t->scratch[ith].p);
                if (e) __atomic_store_n(&t->err, e, __ATOMIC_RELAXED);
            }
            if (nth > 1) lm_team_barrier(t->pool);
        }
}
/* The same on a device: each tensor's storage with its guards goes there and comes back; scratch is poisoned and guarded there. */
enum { DEV_BYTES = 256 << 20 };
static lm_err run_on_device(const lm_kernel *k, lm_call *c) {
    static char *mem;
    struct { unsigned char *host; char *there; size_t n; } reg[LM_MAX_IN + LM_MAX_OUT]; int n_reg = 0; size_t at = 0;
    lm_call d = *c;
    d.dev = dev;
    if (!mem) { void *p; LM_TRY(dev->alloc(dev, DEV_BYTES, &p)); mem = p; }
    for (int i = 0; i < c->n_in + c->n_out; i++) {
        lm_tensor *t = i < c->n_in ? &d.in[i] : &d.out[i - c->n_in];
        if (!t->rank || !t->data) continue;
        unsigned char *base = (unsigned char *)t->data - GUARD; int q = 0;
        while (q < n_reg && reg[q].host != base) q++;
        if (q == n_reg) {
            reg[n_reg].host = base; reg[n_reg].n = storage(t) + 2 * GUARD; reg[n_reg].there = mem + at;
            at += (reg[n_reg++].n + 255) & ~(size_t)255;
            if (at > DEV_BYTES / 2) { report("the sample is too large for this driver"); return LM_E_NOMEM; }
            LM_TRY(dev->put(dev, reg[q].there, reg[q].host, reg[q].n));
        }
        t->data = reg[q].there + GUARD;
    }
    const size_t sh = k->shared_bytes ? k->shared_bytes(c) : 0;
    unsigned char guard[2 * GUARD]; int32_t fault[2] = { 0, 0 };
    char *shared = mem + at; at += (sh + 2 * GUARD + 511) & ~(size_t)255;
    if (at + 256 > DEV_BYTES) { report("the sample is too large for this driver"); return LM_E_NOMEM; }
    unsigned char *poison = malloc(sh + 2 * GUARD); memset(poison, 0xff, sh + 2 * GUARD);
    LM_TRY(dev->put(dev, shared, poison, sh + 2 * GUARD));
    d.shared = sh ? shared + GUARD : NULL; d.fault = (int32_t *)(mem + at);
    LM_TRY(dev->put(dev, d.fault, fault, 8));
    lm_err e = LM_OK;
    const lm_call *alone = &d;
    static int turn;                             /* rows that take several calls are run both ways, to the same bits */
    if (k->run_many && turn++ % 2) e = k->run_many(&alone, 1, dev->stream);
    else for (int ph = 0; ph < k->n_phase && !e; ph++)
        for (int64_t i = 0, n = k->phase[ph].tiles(&d); i < n && !e; i++) e = k->phase[ph].run(&d, i, dev->stream);
    for (int q = 0; q < n_reg; q++) LM_TRY(dev->get(dev, reg[q].host, reg[q].there, reg[q].n));
    LM_TRY(dev->get(dev, guard, shared, GUARD));
    LM_TRY(dev->get(dev, guard + GUARD, shared + GUARD + sh, GUARD));
    LM_TRY(dev->get(dev, fault, d.fault, 4));
    lm_err se = dev->sync(dev);
    free(poison);
    /* nothing more can be had from the device */
    if (se) { printf("%s: %s\n", st.where, lm_error(ctx)); fflush(stdout); exit(1); }
    for (int i = 0; i < 2 * GUARD; i++) if (guard[i] != 0xff) { report("shared scratch: written outside of %zu bytes", sh); break; }
    st.device_runs++;
    return e ? e : (lm_err)fault[0];
}
static lm_err run_kernel(const lm_kernel *k, lm_call *c, lm_pool *pool, bool reverse) {
    if (k->device == LM_DEV_CUDA) return run_on_device(k, c);
    team t = { .k = k, .c = c, .pool = pool, .reverse = reverse };
    int nth = lm_pool_size(pool);
    buf shared = buf_new(k->shared_bytes ? k->shared_bytes(c) : 0);
    memset(shared.p, 0xff, shared.n); c->shared = shared.n ? shared.p : NULL;
    size_t tb = k->thread_bytes ? k->thread_bytes(c) : 0;
    for (int i = 0; i < nth; i++) { t.scratch[i] = buf_new(tb); memset(t.scratch[i].p, 0xff, tb); }
    lm_pool_run(pool, team_run, &t);
    NEED(buf_ok(&shared), "shared scratch: written outside of %zu bytes", shared.n);
    for (int i = 0; i < nth; i++) { NEED(buf_ok(&t.scratch[i]), "thread scratch: written outside of %zu bytes", tb); buf_free(&t.scratch[i]); }
    buf_free(&shared); c->shared = NULL;
    return t.err;
}

/* ---- bits of the order ids ------------------------------------------------------------------------------------------------------------ */
#define BITS LM_ROOT "/tests/golden/bits.txt"
static struct { char op[40], order[40]; uint64_t hash; bool seen; } bits[512];
static int n_bits;
static int bits_of(const char *op, const char *order) {
    int i = 0;
    while (i < n_bits && (strcmp(bits[i].op, op) || strcmp(bits[i].order, order))) i++;
    if (i == LM_COUNT(bits)) abort();
    if (i == n_bits) { snprintf(bits[i].op, sizeof bits[i].op, "%s", op); snprintf(bits[i].order, sizeof bits[i].order, "%s", order); n_bits++; }
    return i;
}
/* One NaN stands for all: which one an instruction gives depends on the order of its operands. */
static void bits_add(const char *op, const char *order, const lm_tensor *t, const buf *b) {
    const int i = bits_of(op, order);
    uint32_t *w = malloc(b->n + 4);
    memcpy(w, b->p, b->n);
    if (t->dtype == LM_F32) for (size_t k = 0; k < b->n / 4; k++) if ((w[k] & 0x7fffffff) > 0x7f800000) w[k] = 0x7fc00000;
    bits[i].hash = lm_hash64(w, b->n, bits[i].hash); bits[i].seen = true;
    free(w);
}

/* ---- a case: a sample in one form ------------------------------------------------------------------------------------------------------------ */
/* from != 0: runtime rows of dimensions equal to it */
typedef struct {
    const char *name;
    uint32_t strided;
    int64_t from, to;
    lm_layout layout;
    bool acc, inplace, threads;
    uint32_t half_in, half_out;
    lm_dtype half;                               /* what those are stored as */
} form;
typedef struct { const char *order; buf out[LM_MAX_OUT]; } kept;
enum { MAX_KEPT = 16 };

static int n_inputs(const lm_op *op, const lm_sample *s) {
    int n = op->n_in + op->n_opt;
    while (n > op->n_in && s->in[n - 1].rank == 0) n--;
    return n;
}
static bool has_kernel_for(const lm_op *op, const lm_call *c, const lm_kernel *k) {
    (void)op;
    return k->accepts ? k->accepts(c) : lm_kernel_default_accepts(c);
}
static bool shares_order(const lm_op *op, const lm_kernel *k) {
    for (int a = 0; op->kernels[a]; a++)
        for (const lm_kernel *q = op->kernels[a]; q->name; q++)
            if (q->device == LM_DEV_CUDA && q->order && k->order && !strcmp(q->order, k->order)) return true;
    return false;
}
/* Does a row of the device take this call? */
static bool taken(const lm_op *op, const lm_call *c) {
    lm_call kc = *c;
    for (int i = 0; i < kc.n_in; i++) kc.in[i].data = NULL;
    for (int o = 0; o < kc.n_out; o++) kc.out[o].data = NULL;
    for (int a = 0; op->kernels && op->kernels[a]; a++)
        for (const lm_kernel *k = op->kernels[a]; k->name; k++)
            if (k->device == LM_DEV_CUDA && dev && !(k->needs & ~dev->features) && has_kernel_for(op, &kc, k)) return true;
    return false;
}
static bool alias_target(const lm_op *op, int i) { for (int o = 0; o < op->n_out; o++) if (op->alias[o] == i + 1) return true; return false; }

/* Returns how many kernels ran; -1 where shape() refuses the form. */
static int run_case(const lm_op *op, const lm_sample *s, const form *f) {
    lm_call c = { .op = op, .p = s->params, .n_in = n_inputs(op, s), .n_out = op->n_out, .comm = lm_comm_self(), .ctx = ctx }, rc = c;
    arg in[LM_MAX_IN] = { 0 }; lm_type ot[LM_MAX_OUT]; memset(ot, 0, sizeof ot); int ran = 0; bool skip = false;
    lm_sample half = *s; const lm_sample *const own = s; uint32_t rounded = 0;
    /* activations stored in 16 bits: the reference sees what is stored, outputs are rounded once more (half has three bits more than bf16) */
    if (f->half_in || f->half_out) {
        for (int i = 0; i < c.n_in; i++) if (f->half_in >> i & 1) half.in[i].dtype = f->half;
        s = &half;
    }
    for (int i = 0; i < c.n_in; i++) {
        const lm_arg *a = &s->in[i];
        if (!a->rank) continue;
        if (!arg_make(&in[i], s, i, f->strided >> i & 1 ? 5 : 0, f->from && a->dim[0] == f->from ? f->to : -1)) {
            report("no format %s", a->quant);
            skip = true;
        }
        c.in[i] = in[i].t; rc.in[i] = in[i].ref;
    }
    lm_call tc = c;
    for (int i = 0; i < tc.n_in; i++) { tc.in[i].data = NULL; if (f->half_in >> i & 1) tc.in[i].dtype = LM_F32; }
    if (!skip) {
        lm_err e = op->shape(ctx, &tc, ot);
        if (e && !f->from) report("shape: %s: %s", lm_err_name(e), lm_error(ctx));
        if (e || (f->layout == LM_PANEL16 && (ot[0].rank != 2 || ot[0].dtype != LM_F32)) ||
            (f->layout == LM_PANEL16X2 && (ot[0].rank != 2 || ot[0].dtype != LM_BF16)))
            skip = true;
    }
    if (skip) { for (int i = 0; i < c.n_in; i++) arg_free(&in[i]); return -1; }
    for (int o = 0; o < op->n_out; o++) if (f->half_out >> o & 1 && ot[o].dtype == LM_F32) { ot[o].dtype = f->half; rounded |= 1u << o; }
    if (rounded) {
        const double part = f->half == LM_F16 ? 0.125 : 1;
        half.tol = fmax(own->tol, 0) + part * 5e-3; half.tol_norm = (own->tol_norm > 0 ? own->tol_norm : own->tol) + part * 4e-3;
    } else if (f->half_in && half.tol == 0) half.tol = 1e-7;
    /* outputs and their references */
    buf store[LM_MAX_OUT] = { 0 }, refs[LM_MAX_OUT] = { 0 }, first[LM_MAX_OUT] = { 0 }; double *base[LM_MAX_OUT] = { 0 };
    for (int o = 0; o < op->n_out; o++) {
        int al = op->alias[o] - 1;
        lm_tensor t = lm_tensor_of(NULL, ot[o].dtype, ot[o].rank, ot[o].dim);
        t.quant = ot[o].quant;
        if (al >= 0) { t = in[al].t; memcpy(t.dim, in[al].t.dim, sizeof t.dim); }
        else if (o == 0) t.layout = (int8_t)f->layout;
        if (!t.rank) { c.out[o] = rc.out[o] = t; continue; }
        if (al < 0) { store[o] = buf_new(storage(&t)); t.data = store[o].p; } else t.data = in[al].store.p;
        first[o] = buf_new(al < 0 ? store[o].n : in[al].store.n);
        c.out[o] = t;
        rc.out[o] = lm_tensor_of(NULL, is_float(&t) ? LM_F64 : (lm_dtype)t.dtype, t.rank, t.dim);
        rc.out[o].quant = t.quant;
        refs[o] = buf_new((size_t)lm_numel(&t) * ref_size((lm_dtype)t.dtype)); memset(refs[o].p, 0xff, refs[o].n);
        if (al >= 0) memcpy(refs[o].p, in[al].refbuf.p, refs[o].n);
        rc.out[o].data = refs[o].p;
    }
    /* A form in 16 bits that no row takes, or that changes nothing, needs no reference. */
    if ((f->half_in || f->half_out) && ((!f->half_in && !rounded) || (!op->view && !taken(op, &c)))) goto done;
    /* The reference depends on what inputs hold, not on where they lie: forms with the same numbers have it once. */
    static struct { const lm_op *op; const lm_sample *of; buf out[LM_MAX_OUT]; } known;
    const bool whole = !f->from && !f->half_in && !f->half_out, again = whole && known.op == op && known.of == s;
    if (again) { for (int o = 0; o < op->n_out; o++) if (refs[o].base) memcpy(refs[o].p, known.out[o].p, refs[o].n); }
    else op->ref(&rc);
    if (whole && !again) {
        known.op = op; known.of = s;
        for (int o = 0; o < LM_MAX_OUT; o++) {
            buf_free(&known.out[o]);
            if (refs[o].base) { known.out[o] = buf_new(refs[o].n); memcpy(known.out[o].p, refs[o].p, refs[o].n); }
        }
    }
    for (int o = 0; o < op->n_out; o++) NEED(!refs[o].base || buf_ok(&refs[o]), "output %d: the reference writes outside its buffer", o);
    for (int i = 0; i < c.n_in; i++) NEED(!in[i].refbuf.base || buf_ok(&in[i].refbuf), "input %d: the reference writes outside its buffer", i);
    if (op->view) {
        for (int o = 0; o < op->n_out; o++) if (c.out[o].rank) {
            lm_tensor v = c.out[o]; op->view(&c, o, &v);
            NEED(v.rank == ot[o].rank && lm_cols(&v) == lm_cols(&c.out[o]), "output %d: the view has another shape", o);
            compare(s, o, &v, &rc.out[o], NULL); ran++;
        }
    }
    bool inplace = f->inplace && op->inplace_ok && storage(&c.in[0]) == storage(&c.out[0]) && c.in[0].dtype == c.out[0].dtype &&
                   c.in[0].layout == c.out[0].layout;
    if (f->inplace && !inplace) goto done;
    if (inplace) c.out[0].data = in[0].store.p;
    if (f->acc) {
        c.acc = op->acc_ok;
        for (int o = 0; o < op->n_out; o++) if (c.acc >> o & 1) {
            int64_t n = lm_numel(&c.out[o]); base[o] = malloc((size_t)n * 8 + 8);
            for (int64_t i = 0; i < n; i++) base[o][i] = (double)lm_rng_normal(lm_rng_of(seed, "accumulated"), (uint64_t)i);
        }
    }
    kept same[MAX_KEPT]; int n_same = 0;
    for (int a = 0; op->kernels && op->kernels[a]; a++) for (const lm_kernel *k = op->kernels[a]; k->name; k++) {
        lm_call kc = c;
        for (int i = 0; i < kc.n_in; i++) kc.in[i].data = NULL;
        for (int o = 0; o < kc.n_out; o++) kc.out[o].data = NULL;
        if (k->device == LM_DEV_CUDA ? !dev || (k->needs & ~dev->features) : k->needs & ~features) continue;
        if (dev && k->device == LM_DEV_CPU && !shares_order(op, k)) continue;        /* the processor's rows have their own run */
        if (((f->half_in || f->half_out) && k->device != LM_DEV_CUDA) || !has_kernel_for(op, &kc, k)) continue;
        ran++;
        if (SOFT && !(k->needs & SOFT)) continue;
        bool f16 = false;
        for (int i = 0; i < c.n_in; i++) f16 |= c.in[i].dtype == LM_F16 && c.in[i].rank;
        for (int o = 0; o < c.n_out; o++) f16 |= c.out[o].dtype == LM_F16 && c.out[o].rank;
        st.f16_runs += f16;
        char where[256]; memcpy(where, st.where, sizeof where);
        snprintf(st.where, sizeof st.where, "%.60s, \"%.50s\", %.40s, %.50s", op->name, s->name, f->name, k->name);
        lm_err err = LM_OK; bool have_first = false;
        for (int run = 0; run < (!f->threads ? 1 : LM_T_WATCHED ? 2 : 4); run++) {
            for (int i = 0; i < c.n_in; i++) if (in[i].store.base) memcpy(in[i].store.p, in[i].before.p, in[i].store.n);
            for (int o = 0; o < op->n_out; o++) {
                if (!store[o].base) continue;
                memset(store[o].p, 0xff, store[o].n);
                if (base[o]) {
                    int64_t n = lm_numel(&c.out[o]); float *b = malloc((size_t)n * 4 + 4);
                    for (int64_t i = 0; i < n; i++) b[i] = (float)base[o][i];
                    from_float(&c.out[o], b); free(b);
                }
            }
            static const int pool_of[4] = { 1, LM_T_WATCHED ? 2 : 0, 2, 0 };
            err = run_kernel(k, &c, pools[f->threads ? pool_of[run] : 1], run == (LM_T_WATCHED ? 1 : 3));
            if (err) break;
            for (int o = 0; o < op->n_out; o++) {
                if (!c.out[o].rank) continue;
                if (!have_first) memcpy(first[o].p, c.out[o].data, first[o].n);
                else NEED(!memcmp(first[o].p, c.out[o].data, first[o].n), "output %d: the bits depend on threads or tile order (run %d)", o, run);
            }
            have_first = true;
        }
        if (err) { if (!(f->from && err == LM_E_RANGE)) report("run: %s", lm_err_name(err)); memcpy(st.where, where, sizeof where); continue; }
        for (int o = 0; o < op->n_out; o++) {
            NEED(!store[o].base || buf_ok(&store[o]), "output %d: written outside its buffer", o);
            /* an output with 16 bits of its own is exact where the sample is */
            const bool exact = own->tol == 0 && !(rounded >> o & 1) && (c.out[o].dtype == LM_BF16 || c.out[o].dtype == LM_F16);
            if (c.out[o].rank) { compare(exact ? own : s, o, &c.out[o], &rc.out[o], base[o]); check_pads(o, &c.out[o], first[o].n); }
        }
        for (int i = 0; i < c.n_in; i++) if (in[i].store.base) {
            NEED(buf_ok(&in[i].store), "input %d: written outside its buffer", i);
            if (!alias_target(op, i) && !(inplace && i == 0)) NEED(!memcmp(in[i].store.p, in[i].before.p, in[i].store.n), "input %d: changed", i);
        }
        if (k->order) {
            int q = 0;
            while (q < n_same && strcmp(same[q].order, k->order)) q++;
            if (q < n_same)
                for (int o = 0; o < op->n_out; o++)
                    NEED(!first[o].base || !memcmp(same[q].out[o].p, first[o].p, first[o].n),
                         "output %d: other bits than another row of order \"%s\"", o, k->order);
            else if (n_same < MAX_KEPT) {
                same[n_same].order = k->order;
                for (int o = 0; o < op->n_out; o++) {
                    same[n_same].out[o] = buf_new(first[o].n);
                    if (first[o].n) memcpy(same[n_same].out[o].p, first[o].p, first[o].n);
                    if (k->device == LM_DEV_CPU && first[o].n) bits_add(op->name, k->order, &c.out[o], &first[o]);
                }
                n_same++;
            }
        }
        memcpy(st.where, where, sizeof where);
    }
    for (int q = 0; q < n_same; q++) for (int o = 0; o < op->n_out; o++) buf_free(&same[q].out[o]);
    if (ran && !dev && f->threads && op->kernels && !f->half_in && !f->half_out) {
        lm_call kc = c;
        for (int i = 0; i < kc.n_in; i++) kc.in[i].data = NULL;
        for (int o = 0; o < kc.n_out; o++) kc.out[o].data = NULL;
        NEED(lm_kernel_choose(op, &kc, LM_DEV_CPU, LM_CPU_PORTABLE), "no kernel for a machine without vector instructions");
    }
    st.kernels += ran; st.cases++;
done:
    for (int i = 0; i < c.n_in; i++) arg_free(&in[i]);
    for (int o = 0; o < op->n_out; o++) { buf_free(&store[o]); buf_free(&refs[o]); buf_free(&first[o]); free(base[o]); }
    return ran;
}

/* The leading dimension of output 0, 0 if it is written into an input. */
static int64_t lead_of_out(const lm_op *op, const lm_sample *s) {
    lm_call c = { .op = op, .p = s->params, .n_in = n_inputs(op, s), .n_out = op->n_out, .ctx = ctx };
    lm_type ot[LM_MAX_OUT];
    memset(ot, 0, sizeof ot);
    for (int i = 0; i < c.n_in; i++) {
        lm_type t = type_of(&s->in[i]);
        c.in[i] = lm_tensor_of(NULL, t.dtype, t.rank, t.dim);
        c.in[i].quant = t.quant;
    }
    return op->alias[0] || op->shape(ctx, &c, ot) ? 0 : ot[0].dim[0];
}
static bool knows_layouts(const lm_op *op) {
    for (const lm_sample *s = op->samples; s->name; s++) for (int i = 0; i < n_inputs(op, s); i++) if (s->in[i].layout != LM_PLAIN) return true;
    return false;
}

/* Activations in 16 bits: inputs of `floats` together, alone, and those that were taken alone; outputs in `mask`. */
static void run_half(const lm_op *op, const lm_sample *s, int n, uint32_t floats, uint32_t mask, lm_dtype half, const char *const *names) {
    if (mask) run_case(op, s, &(form){ .name = names[0], .half_out = mask, .half = half });
    if (floats) run_case(op, s, &(form){ .name = names[1], .half_in = floats, .half_out = mask, .half = half, .threads = true });
    uint32_t some = 0;
    for (int i = 0; i < n && floats & (floats - 1); i++)
        if (floats >> i & 1 && run_case(op, s, &(form){ .name = names[2], .half_in = 1u << i, .half_out = mask, .half = half }) > 0) some |= 1u << i;
    if (some != floats && some & (some - 1)) run_case(op, s, &(form){ .name = names[3], .half_in = some, .half_out = mask, .half = half, .threads = true });
    if (floats && op->acc_ok && !mask) run_case(op, s, &(form){ .name = names[4], .half_in = floats, .acc = true, .half = half });
}
static void run_sample(const lm_op *op, const lm_sample *s) {
    static const struct {
        lm_layout l;
        const char *name;
    } layouts[] = { { LM_PLAIN, "plain" }, { LM_PANEL16, "output in panels" }, { LM_PANEL16X2, "output in bf16 panels" } };
    int n = n_inputs(op, s), ran = 0; uint32_t views = 0;
    st.samples++;
    for (int l = 0; l < (knows_layouts(op) ? 3 : 1); l++)
        ran += lm_max64(0, run_case(op, s, &(form){ .name = layouts[l].name, .layout = layouts[l].l, .threads = true }));
    NEED(ran > 0 || dev, "no kernel takes this sample");
    for (int i = 0; i < n; i++) {
        const lm_arg *a = &s->in[i]; lm_tensor t = { .dtype = (int8_t)dtype_of(a) };
        if (a->rank > 1 && a->layout == LM_PLAIN && !a->quant && is_float(&t) && !alias_target(op, i)) views |= 1u << i;
    }
    if (views && run_case(op, s, &(form){ .name = "inputs are views", .strided = views }) == 0)
        for (int i = 0; i < n; i++) if (views >> i & 1) run_case(op, s, &(form){ .name = "one input is a view", .strided = 1u << i });
    /* Fewer rows: the leading dimension of output 0, and of input 0, wherever it stands; shape() says where that makes no sense. Not where
     * it also counts what ids point to: rows of a state, of an integer table, of pages. */
    int64_t lead[2] = { lead_of_out(op, s), s->in[0].rank > 1 && s->in[0].layout == LM_PLAIN && !s->in[0].quant ? s->in[0].dim[0] : 0 };
    for (int q = 0; q < 2; q++) {
        bool skip = lead[q] == 0 || (q == 1 && lead[1] == lead[0]);
        for (int k = 0; k < n; k++) if (s->in[k].rank && s->in[k].dim[0] == lead[q]) {
            lm_tensor t = { .dtype = (int8_t)dtype_of(&s->in[k]) };
            skip |= s->in[k].layout != LM_PLAIN || s->in[k].quant || alias_target(op, k) || s->in[k].rank == 4 ||
                    (s->in[k].rank > 1 && !is_float(&t));
        }
        if (skip) continue;
        run_case(op, s, &(form){ .name = "no rows", .from = lead[q], .to = 0 });
        if (lead[q] > 1) run_case(op, s, &(form){ .name = "fewer rows than capacity", .from = lead[q], .to = (lead[q] + 1) / 2 });
    }
    if (op->acc_ok) {
        lm_tensor t = { .dtype = (int8_t)dtype_of(&s->in[0]) };
        int r = run_case(op, s, &(form){ .name = "added to", .acc = true, .threads = true });
        NEED(r > 0 || dev || !is_float(&t) || t.dtype != LM_F32, "no kernel adds to its output");
    }
    if (op->inplace_ok) run_case(op, s, &(form){ .name = "in place", .inplace = true });
    uint32_t floats = 0;
    for (int i = 0; i < n; i++)
        if (s->in[i].rank > 1 && s->in[i].dtype == LM_F32 && !s->in[i].quant && s->in[i].layout == LM_PLAIN && !alias_target(op, i))
            floats |= 1u << i;
    /* no output, the first, all (statistics stay as they are: such a form is then not taken) */
    if (dev && !op->alias[0]) for (uint32_t out = 0; out < 3; out++) {
        const uint32_t mask = out == 2 ? ~0u : out;
        run_half(op, s, n, floats, mask, LM_BF16, (const char *[]){ "bf16 outputs", "bf16 inputs", "one bf16 input", "each bf16 input it takes", "bf16 inputs, added to" });
        run_half(op, s, n, floats, mask, LM_F16, (const char *[]){ "f16 outputs", "f16 inputs", "one f16 input", "each f16 input it takes", "f16 inputs, added to" });
    }
}
static int run_op(const lm_op *op) {
    int before = st.fails, f16_before = st.f16_runs; bool f16 = false;
    snprintf(st.where, sizeof st.where, "%s", op->name);
    NEED(op->math && op->math[0] && op->shape && op->ref, "the row lacks math, shape or ref");
    NEED(op->samples && op->samples[0].name, "the row has no sample");
    const char *most = getenv("LM_SAMPLES");                              /* how many of each op: for tools under which a launch takes a second */
    for (const lm_sample *s = op->samples; s && s->name && (!most || s - op->samples < atoi(most)); s++) {
        snprintf(st.where, sizeof st.where, "%s, \"%s\"", op->name, s->name);
        run_sample(op, s);
    }
    st.ops++;
    if (st.f16_runs > f16_before) st.f16_ops++;
    for (int a = 0; dev && op->kernels && op->kernels[a]; a++)
        for (const lm_kernel *k = op->kernels[a]; k->name; k++) f16 |= k->device == LM_DEV_CUDA && !(k->needs & ~dev->features) && strstr(k->name, ".f16");
    snprintf(st.where, sizeof st.where, "%s", op->name);
    NEED(!f16 || most || st.f16_runs > f16_before, "its row for f16 took no sample");
    return st.fails - before;
}

/* ---- gradients ---- */
typedef struct {
    lm_graph *g;
    lm_ref *r;
    lm_value *in[LM_MAX_IN], *gin[LM_MAX_IN], *out[LM_MAX_OUT], *seed[LM_MAX_OUT];
    lm_type ot[LM_MAX_OUT];
    uint32_t outs;
    bool ones;
    int n;
} tape;
static int64_t type_numel(const lm_type *t) { int64_t n = 1; for (int i = 0; i < t->rank; i++) n *= t->dim[i]; return n; }
static void tape_free(tape *t) { lm_ref_free(t->r); lm_graph_free(t->g); }
/* Graph of one node and its gradient with the outputs in `outs` seeded: by inputs, or by ones, the only seed of rows that fuse a loss with
 * its gradient. */
static lm_err tape_make(tape *t, const lm_op *op, const lm_sample *s, uint32_t outs, bool ones) {
    *t = (tape){ .n = n_inputs(op, s), .outs = outs, .ones = ones };
    LM_TRY(lm_graph_new(&t->g, ctx, NULL));
    for (int i = 0; i < t->n; i++) {
        if (!s->in[i].rank) continue;
        char name[24]; snprintf(name, sizeof name, "x%d", i);
        lm_type ty = type_of(&s->in[i]);
        t->in[i] = lm_input(t->g, name, &ty);
    }
    lm_value *v = lm_emit(t->g, op, s->params, t->n, t->in), *y[LM_MAX_OUT], *sd[LM_MAX_OUT], *wrt[LM_MAX_IN], *gi[LM_MAX_IN];
    int ny = 0, nw = 0, map[LM_MAX_IN];
    LM_TRY(lm_graph_err(t->g));
    for (int o = 0; o < op->n_out; o++) {
        t->out[o] = lm_output(v, o);
        if (!(outs >> o & 1)) continue;
        char name[24]; snprintf(name, sizeof name, "seed%d", o);
        t->ot[o] = *lm_type_of(t->out[o]);
        sd[ny] = t->seed[o] = ones ? lm_ones(t->g, &t->ot[o]) : lm_input(t->g, name, &t->ot[o]); y[ny++] = t->out[o];
        lm_graph_output(t->g, name + 4, t->out[o]);
    }
    for (int i = 0; i < t->n; i++) if (t->in[i] && !(op->opaque >> i & 1)) {
        lm_tensor ty = { .dtype = (int8_t)lm_type_of(t->in[i])->dtype };
        if (is_float(&ty) && ty.dtype != LM_QUANT) { map[nw] = i; wrt[nw++] = t->in[i]; }
    }
    LM_TRY(lm_autodiff(t->g, ny, y, sd, nw, wrt, gi));
    for (int k = 0; k < nw; k++) {
        t->gin[map[k]] = gi[k];
        char name[24]; snprintf(name, sizeof name, "g%d", map[k]);
        if (gi[k]) lm_graph_output(t->g, name, gi[k]);
    }
    LM_TRY(lm_graph_err(t->g));
    for (int i = 0; i < lm_graph_n_outputs(t->g); i++) {                    /* a gradient may have replaced the node by one that does both */
        const char *name; lm_value *now = lm_graph_output_at(t->g, i, &name);
        if (name[0] >= '0' && name[0] < '0' + LM_MAX_OUT) t->out[name[0] - '0'] = now;
    }
    return lm_ref_new(&t->r, t->g);
}
static double tape_loss(tape *t) {
    double L = 0;
    LM_CHECK_OK(ctx, lm_ref_run(t->r));
    for (int o = 0; o < LM_MAX_OUT; o++) if (t->outs >> o & 1) {
        const double *y = lm_ref_data(t->r, t->out[o]), *w = t->ones ? NULL : lm_ref_data(t->r, t->seed[o]);
        for (int64_t i = 0, n = type_numel(&t->ot[o]); i < n; i++) L += y[i] * (w ? w[i] : 1);
    }
    return L;
}
static void grad_check(const lm_op *op, const lm_sample *s, uint32_t outs) {
    tape t;
    lm_err e = tape_make(&t, op, s, outs, false);
    if (e == LM_E_UNSUPPORTED && outs & 1) { tape_free(&t); e = tape_make(&t, op, s, outs, true); }
    if (e) {
        if (!(e == LM_E_UNSUPPORTED && !(outs & 1))) report("gradient of outputs 0x%x: %s: %s", outs, lm_err_name(e), lm_error(ctx));
        tape_free(&t);
        return;
    }
    arg in[LM_MAX_IN] = { 0 };
    for (int i = 0; i < t.n; i++) if (t.in[i]) {
        if (!arg_make(&in[i], s, i, 0, -1)) { report("no such format"); goto done; }
        memcpy(lm_ref_data(t.r, t.in[i]), in[i].ref.data, in[i].refbuf.n);
    }
    for (int o = 0; o < LM_MAX_OUT; o++) if (outs >> o & 1 && !t.ones) {
        double *w = lm_ref_data(t.r, t.seed[o]);
        for (int64_t i = 0, n = type_numel(&t.ot[o]); i < n; i++)
            w[i] = (double)lm_rng_normal(lm_rng_of(seed, "cotangent"), (uint64_t)i + ((uint64_t)o << 40));
    }
    tape_loss(&t);
    double tol = s->grad_tol > 0 ? s->grad_tol : 1e-6;
    double *grad[LM_MAX_IN] = { 0 };
    for (int i = 0; i < t.n; i++) if (t.gin[i]) { grad[i] = malloc(in[i].refbuf.n + 8); memcpy(grad[i], lm_ref_data(t.r, t.gin[i]), in[i].refbuf.n); }
    for (int i = 0; i < t.n; i++) {
        lm_tensor ty = in[i].t;
        if (!t.in[i] || (op->opaque >> i & 1) || !is_float(&ty) || ty.dtype == LM_QUANT) continue;
        double *x = lm_ref_data(t.r, t.in[i]), *v = malloc(in[i].refbuf.n + 8), along = 0, sq = 0, L[4];
        const double *x0 = in[i].ref.data, h = 1e-3;
        int64_t n = lm_numel(&in[i].t);
        for (int64_t k = 0; k < n; k++) {
            v[k] = (double)lm_rng_normal(lm_rng_of(seed, "direction"), (uint64_t)k);
            double d = grad[i] ? grad[i][k] * v[k] : 0; along += d; sq += d * d;
        }
        static const double step[4] = { -2, -1, 1, 2 };
        for (int q = 0; q < 4; q++) { for (int64_t k = 0; k < n; k++) x[k] = x0[k] + step[q] * h * v[k]; L[q] = tape_loss(&t); }
        memcpy(x, x0, in[i].refbuf.n);
        double fd = (L[0] - 8 * L[1] + 8 * L[2] - L[3]) / (12 * h), scale = fmax(fmax(fabs(fd), fabs(along)), sqrt(sq)),
               noise = 1e-12 * (fabs(L[0]) + fabs(L[3])) / h;
        st.grads++;
        NEED(fabs(fd - along) <= tol * scale + noise,
             "gradient of input %d from outputs 0x%x: along a direction %.12g, by differences %.12g (%s)", i, outs, along, fd,
             grad[i] ? "tolerance exceeded" : "no gradient given");
        free(v);
    }
    for (int i = 0; i < t.n; i++) free(grad[i]);
done:
    for (int i = 0; i < t.n; i++) arg_free(&in[i]);
    tape_free(&t);
}
static int grad_op(const lm_op *op) {
    int before = st.fails;
    if (!op->grad) return 0;
    for (const lm_sample *s = op->samples; s && s->name; s++) {
        if (s->grad_tol < 0 || (LM_T_WATCHED && s > op->samples + 1)) continue;
        snprintf(st.where, sizeof st.where, "%s, \"%s\"", op->name, s->name);
        lm_call c = { .op = op, .p = s->params, .n_in = n_inputs(op, s), .n_out = op->n_out, .ctx = ctx };
        lm_type ot[LM_MAX_OUT];
        memset(ot, 0, sizeof ot);
        for (int i = 0; i < c.n_in; i++) {
            const lm_arg *a = &s->in[i];
            c.in[i] = lm_tensor_of(NULL, dtype_of(a), a->rank, a->dim);
            c.in[i].quant = type_of(a).quant;
        }
        if (op->shape(ctx, &c, ot)) { report("shape: %s", lm_error(ctx)); continue; }
        uint32_t all = 0;
        for (int o = 0; o < op->n_out; o++) {
            lm_tensor t = { .dtype = (int8_t)ot[o].dtype };
            if (ot[o].rank && is_float(&t)) { grad_check(op, s, 1u << o); all |= 1u << o; }
        }
        if (all & (all - 1)) {            /* all that have one, together */
            uint32_t some = 0;
            for (int o = 0; o < op->n_out; o++) if (all >> o & 1) {
                tape t; lm_err e = tape_make(&t, op, s, 1u << o, false);
                tape_free(&t);
                if (!e) some |= 1u << o;
            }
            if (some & (some - 1)) grad_check(op, s, some);
        }
    }
    return st.fails - before;
}

/* ---- rows with planted bugs: each must be caught ---- */
static lm_err fake_shape(lm_ctx *x, const lm_call *c, lm_type *out) {
    (void)x;
    out[0] = lm_type_make((lm_dtype)c->in[0].dtype, c->in[0].rank, c->in[0].dim);
    return LM_OK;
}
static void fake_ref(const lm_call *c) {
    for (int64_t i = 0; i < lm_numel(&c->in[0]); i++) ((double *)c->out[0].data)[i] = 2 * ((const double *)c->in[0].data)[i];
}
static int64_t fake_tiles(const lm_call *c) { return lm_ceil_div(lm_numel(&c->out[0]), 8); }
static size_t fake_scratch(const lm_call *c) { (void)c; return 32; }
static lm_err fake_run(const lm_call *c, int64_t tile, int bug, void *scratch) {
    const float *x = c->in[0].data; float *y = c->out[0].data; int64_t n = lm_numel(&c->out[0]), end = lm_min64(tile * 8 + 8, n);
    static _Thread_local int64_t last; int64_t prev = last; last = tile;
    for (int64_t i = tile * 8; i < end; i++) {
        float v = bug == 13 ? 2.0001f * x[i] : 2 * x[i];
        y[i] = c->acc & 1 && bug != 6 ? y[i] + v : v;
    }
    if (bug == 1 && end == n) y[n] = 0;                                    /* one past the end */
    if (bug == 2 && tile == 0) y[-1] = 0;                                  /* one before */
    if (bug == 3 && end == n) y[n - 1] = -y[n - 1];                        /* a sign */
    if (bug == 4 && end == n && n > 1) y[n - 1] = NAN;                     /* not written */
    if (bug == 5 && tile == 0) ((float *)c->in[0].data)[0] += 1;           /* an input changed */
    if (bug == 7 && tile > prev && tile) y[tile * 8] = y[tile * 8] * (1 + 1e-7f);   /* depends on the order of tiles */
    if (bug == 8 && tile == 0) ((float *)scratch)[8] = 0;                  /* past the scratch */
    if (bug == 9) y[end - 1] += ((float *)scratch)[0];                     /* scratch not cleared */
    if (bug == 10 && c->out[0].data == c->in[0].data && end == n) y[n - 1] *= 2;   /* wrong in place */
    return bug == 11 ? LM_E_INTERNAL : LM_OK;
}
#define FAKE(b) static lm_err fake_##b(const lm_call *c, int64_t t, void *s) { return fake_run(c, t, b, s); }
FAKE(0) FAKE(1) FAKE(2) FAKE(3) FAKE(4) FAKE(5) FAKE(6) FAKE(7) FAKE(8) FAKE(9) FAKE(10) FAKE(11) FAKE(13)
static bool fake_takes_views(const lm_call *c) { (void)c; return true; }
static lm_err fake_grad(lm_graph *g, lm_grad *d) { (void)g; d->gin[0] = d->gout[0]; return LM_OK; }      /* of 2x it is 2 dy */
static void test_planted(void) {
    static lm_err (*const runs[])(const lm_call *, int64_t, void *) = { fake_0, fake_1, fake_2, fake_3,  fake_4,  fake_5, fake_6,
                                                                        fake_7, fake_8, fake_9, fake_10, fake_11, fake_0, fake_13 };
    static const lm_sample samples[] = { { .name = "fake", .in = { { .rank = 2, .dim = { 5, 9 } } }, .tol = 1e-6 }, { 0 } };
    for (int bug = 0; bug < LM_COUNT(runs); bug++) {
        lm_kernel k[2] = {
            { .name = "fake", .order = "fake", .thread_bytes = fake_scratch, .n_phase = 1, .phase = { { fake_tiles, runs[bug] } } }, { 0 }
        };
        if (bug == 12) k[0].accepts = fake_takes_views;                    /* takes views but reads them as contiguous */
        const lm_kernel *list[] = { k, NULL };
        lm_op op = { .name = "fake",
                     .math = "y = 2x",
                     .n_in = 1,
                     .n_out = 1,
                     .acc_ok = 1,
                     .inplace_ok = true,
                     .shape = fake_shape,
                     .ref = fake_ref,
                     .kernels = list,
                     .samples = samples };
        st.quiet = true; int caught = run_op(&op); st.quiet = false;
        if (bug ? caught == 0 : caught != 0) { lm_t_fail++; printf("planted bug %d: %d checks failed\n", bug, caught); }
    }
    lm_kernel good = { .name = "fake.a", .order = "same", .n_phase = 1, .phase = { { fake_tiles, fake_0 } } }, off = good;
    off.name = "fake.b"; off.phase[0].run = fake_13;                       /* within a loose bound, but not the same bits */
    const lm_kernel two[] = { good, off, { 0 } }, *list[] = { two, NULL };
    const lm_sample loose[] = { { .name = "fake", .in = { { .rank = 2, .dim = { 5, 9 } } }, .tol = 1e-2 }, { 0 } };
    lm_op op = { .name = "fake",
                 .math = "y = 2x",
                 .n_in = 1,
                 .n_out = 1,
                 .shape = fake_shape,
                 .ref = fake_ref,
                 .kernels = list,
                 .samples = loose,
                 .grad = fake_grad };
    st.quiet = true; int order = run_op(&op), grad = grad_op(&op); st.quiet = false;
    LM_CHECK(order > 0);
    LM_CHECK(grad > 0);
    memset(&st, 0, sizeof st);
    n_bits = 0;
    memset(bits, 0, sizeof bits);
}

static bool chosen(const char *name) {
    const char *list = getenv("LM_OPS"); size_t n = strlen(name);
    if (!list) return true;
    for (const char *p = list; (p = strstr(p, name)); p += n) if ((p == list || p[-1] == ',') && (p[n] == 0 || p[n] == ',')) return true;
    return false;
}
static bool concerned(const lm_op *op) {
    bool any = !SOFT;
    for (int a = 0; op->kernels && op->kernels[a]; a++) for (const lm_kernel *k = op->kernels[a]; k->name; k++) any |= (k->needs & SOFT) != 0;
    return any;
}
static void test_kernels(void) {
    for (int i = 0; lm_ops[i]; i++) if (chosen(lm_ops[i]->name) && concerned(lm_ops[i])) run_op(lm_ops[i]);
}
static bool rewrite;
static void test_bits(void) {
    static int n_known; static struct { char op[40], order[40]; uint64_t hash; } known[512];
    if (dev || !n_bits) return;                                            /* test_kernels was not asked for, or ran on a device */
    FILE *f = fopen(BITS, "r");
    while (f && n_known < LM_COUNT(known) && fscanf(f, "%39s %39s %" SCNx64, known[n_known].op, known[n_known].order, &known[n_known].hash) == 3) n_known++;
    if (f) fclose(f);
    if (rewrite) {
        for (int k = 0; k < n_known; k++) {
            const int i = bits_of(known[k].op, known[k].order);
            if (!bits[i].seen && lm_op_by_name(known[k].op)) { bits[i].hash = known[k].hash; bits[i].seen = true; }
        }
        if (!(f = fopen(BITS, "w"))) { lm_t_fail++; return; }
        for (int o = 0; lm_ops[o]; o++)
            for (int i = 0; i < n_bits; i++)
                if (!strcmp(bits[i].op, lm_ops[o]->name) && bits[i].seen) fprintf(f, "%s %s %016" PRIx64 "\n", bits[i].op, bits[i].order, bits[i].hash);
        fclose(f);
        return;
    }
    int met = 0;
    for (int i = 0; i < n_bits; i++) {
        if (!bits[i].seen || !strcmp(bits[i].op, "fake")) continue;
        int k = 0;
        while (k < n_known && (strcmp(known[k].op, bits[i].op) || strcmp(known[k].order, bits[i].order))) k++;
        if (k == n_known) {                                                /* orders of bf16 instructions, where the file was made without */
            if (!(features & (LM_CPU_AVX512_BF16 | LM_CPU_AMX_BF16))) lm_t_fail++;
            printf("%s: order \"%s\" is not in tests/golden/bits.txt (build/tests/test_ops rewrite adds it)\n", bits[i].op, bits[i].order);
            continue;
        }
        met++;
        if (known[k].hash != bits[i].hash) { lm_t_fail++; printf("%s: order \"%s\" gives bits %016" PRIx64 ", promised %016" PRIx64 "\n", bits[i].op, bits[i].order, bits[i].hash, known[k].hash); }
    }
    LM_CHECK(met > 0);
}
static void test_gradients(void) {
    for (int i = 0; lm_ops[i]; i++) if (chosen(lm_ops[i]->name)) grad_op(lm_ops[i]);
}
static void test_table(void) {
    for (int i = 0; lm_ops[i]; i++) {
        const lm_op *op = lm_ops[i];
        LM_CHECK(lm_op_by_name(op->name) == op);
        LM_CHECK(op->n_in + op->n_opt <= LM_MAX_IN && op->n_out >= 1 && op->n_out <= LM_MAX_OUT);
        for (int o = 0; o < op->n_out; o++) LM_CHECK(op->alias[o] <= op->n_in + op->n_opt);
        for (int a = 0; op->kernels && op->kernels[a]; a++)
            for (const lm_kernel *k = op->kernels[a]; k->name; k++) LM_CHECK(k->order && k->n_phase >= 1 && k->n_phase <= LM_MAX_PHASE);
        /* the cost of every sample is a finite number, at least the bytes of one output */
        for (const lm_sample *s = op->samples; s && s->name; s++) {
            lm_call c = { .op = op, .p = s->params, .n_in = n_inputs(op, s), .n_out = op->n_out, .ctx = ctx };
            lm_type ot[LM_MAX_OUT];
            memset(ot, 0, sizeof ot);
            double f = -1, b = -1;
            for (int k = 0; k < c.n_in; k++) {
                const lm_arg *x = &s->in[k];
                c.in[k] = lm_tensor_of(NULL, dtype_of(x), x->rank, x->dim);
                c.in[k].quant = type_of(x).quant;
                c.in[k].layout = (int8_t)x->layout;
            }
            LM_CHECK_OK(ctx, op->shape(ctx, &c, ot));
            for (int o = 0; o < op->n_out; o++) { c.out[o] = lm_tensor_of(NULL, ot[o].dtype, ot[o].rank, ot[o].dim); c.out[o].quant = ot[o].quant; }
            lm_op_cost(&c, &f, &b);
            if (!(isfinite(f) && isfinite(b) && f >= 0 && b >= 0)) {
                lm_t_fail++;
                printf("%s, \"%s\": cost %g flops, %g bytes\n", op->name, s->name, f, b);
            }
        }
    }
    LM_CHECK(!lm_op_by_name("no such op"));
}

int main(int argc, char **argv) {
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 1;
    features = lm_cpu_features();
    if (SOFT && !(features & LM_CPU_AVX512)) { printf("skipped: the software tiles need AVX-512\n"); return 77; }
    features |= SOFT;
    if (getenv("LM_DEVICE")) {
        if (lm_dev_open(&dev, ctx, getenv("LM_DEVICE"))) { printf("%s\n", lm_error(ctx)); return 1; }
        printf("%s, %s\n", dev->name, dev->libs);
    }
    static const int sizes[3] = { 1, 2, 7 };
    for (int i = 0; i < 3; i++) if (lm_pool_new(&pools[i], ctx, sizes[i])) return 1;
    static const lm_t_case soft_cases[] = { LM_T1(test_kernels), LM_T1(test_bits) };
    static const lm_t_case cases[] = { LM_T1(test_planted), LM_T1(test_table), LM_T1(test_kernels), LM_T1(test_bits), LM_T1(test_gradients) };
    if (argc > 1 && !strcmp(argv[1], "rewrite")) { rewrite = true; argc = 1; }
    int rc = SOFT ? lm_t_main(soft_cases, LM_COUNT(soft_cases), argc, argv) : lm_t_main(cases, LM_COUNT(cases), argc, argv);
    if (dev) printf("%d runs on %s; %d kernel runs with f16, of %d ops\n", st.device_runs, dev->name, st.f16_runs, st.f16_ops);
    lm_dev_close(dev);
    printf("%d ops, %d samples, %d kernel runs in %d cases, %d gradient checks, %d checks\n", st.ops, st.samples, st.kernels, st.cases,
           st.grads, st.checks);
    for (int i = 0; i < 3; i++) lm_pool_free(pools[i]);
    lm_ctx_free(ctx);
    return rc;
}
