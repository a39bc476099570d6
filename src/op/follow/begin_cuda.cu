/* begin_cuda.cu — what begins a step of a decoder in one kernel: tokens that the run before chose, the rotation table, the tokens' rows. */
#include "op/rope_table/rope_table.cuh"
extern "C" {
#include "op/join.h"
#include "op/peak/peak.h"
}
enum { WIDE = 8, MANY = 64 /* rows from which a kernel each is as good */ };
struct args {
    lm_rope_args rope; int tables;
    const int32_t *token, *from; const float *best; int64_t chosen;
    lm_cv w, x; int64_t rows, d, n;
    int32_t *follow_fault, *embed_fault;
};
/* the first `tables` blocks have the table */
static __global__ void __launch_bounds__(256) begin(const __grid_constant__ args a) {
    lm_let_next_begin();
    if (static_cast<int>(blockIdx.x) < a.tables) { lm_rope_entry(a.rope, static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x); return; }
    const int64_t i = (static_cast<int64_t>(blockIdx.x - static_cast<unsigned>(a.tables)) * 256 + threadIdx.x) * WIDE;
    lm_wait_before();
    if (i >= a.n) return;
    const int64_t r = i / a.d, k = i - r * a.d;
    const int from = a.from[r];
    if (from >= a.chosen && a.follow_fault) *a.follow_fault = LM_E_RANGE;
    const int id = from < 0 || from >= a.chosen ? a.token[r] : static_cast<int32_t>(a.best[static_cast<int64_t>(from) * LM_PEAK_BEST + 1]);
    float f[WIDE] = {};
    if (id < 0 || id >= a.rows) { if (a.embed_fault) *a.embed_fault = LM_E_RANGE; }
    else lm_ldv<WIDE>(a.w, id * a.w.rs + k, f);
    lm_stv<WIDE>(a.x, r * a.x.rs + k, f);
}
/* ---- 0 t=follow(a,f,c) 1 r=rope_table(p) 2 x=embed(w,t) ---- */
static bool begin_ok(const lm_call *const *c) {
    const lm_tensor *w = &c[2]->in[0], *x = &c[2]->out[0];
    if (static_cast<const lm_rope_table_p *>(c[1]->p)->scaling == LM_ROPE_DYNAMIC || !lm_cuda_accepts_f32(c[1])) return false;
    if (!lm_is_contig(&c[1]->out[0])) return false;
    if (!lm_cuda_float(w) || !lm_cuda_float(x) || c[0]->in[0].dim[0] < 1 || c[0]->in[0].dim[0] > MANY) return false;
    if (c[0]->in[2].dtype != LM_F32) return false;
    for (int i = 0; i < 3; i++) if (!lm_is_contig(&c[0]->in[i])) return false;
    const lm_cv v[2] = { lm_cv_of(w), lm_cv_of(x) };
    return lm_cuda_vec8(v, 2, w->dim[1]);
}
static lm_err run(const lm_call *const *c, void *scratch) {
    const lm_tensor *w = &c[2]->in[0];
    args a = {};
    a.rope = lm_rope_args_of(c[1]);
    a.tables = static_cast<int>(LM_CUDA_GRID(a.rope.rows * a.rope.n, 256));
    a.token = static_cast<const int32_t *>(c[0]->in[0].data); a.from = static_cast<const int32_t *>(c[0]->in[1].data);
    a.best = static_cast<const float *>(c[0]->in[2].data); a.chosen = c[0]->in[2].dim[0];
    a.w = lm_cv_of(w); a.x = lm_cv_of(&c[2]->out[0]); a.rows = w->dim[0]; a.d = w->dim[1]; a.n = c[0]->in[0].dim[0] * a.d;
    a.follow_fault = c[0]->fault; a.embed_fault = c[2]->fault;
    const unsigned blocks = static_cast<unsigned>(a.tables) + static_cast<unsigned>(LM_CUDA_GRID(a.n, 256 * WIDE));
    return lm_launch_early(begin, a, dim3(blocks), 256, 0, 1, true, LM_CUDA_STREAM(scratch));
}
extern "C" {
extern const lm_join lm_join_begin_cuda;
const lm_join lm_join_begin_cuda = {
    "chosen tokens, rotation table, their rows", "t=follow(a,f,c); r=rope_table(p); x=embed(w,t)", LM_DEV_CUDA, LM_CUDA_SM90, 2 | 4, begin_ok, run
};
}
