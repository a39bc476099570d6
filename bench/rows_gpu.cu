/* rows_gpu.cu — the kernels of a decode step of the Llama-1B shape by themselves: `bench/gpu.sh rows`.
 *
 * 16 layers with weights of their own (2.47 GB, so nothing stays in a cache) and pages of 480 tokens, as one CUDA graph: all of it, without
 * attention, and each kind alone; one row also by the kernel that has the whole step; beside a kernel that only reads. Numbers are random; what is right is the driver's and test_infer's matter.
 * Arguments: rows (1 8 16 32 64). */
#include <algorithm>
#include <vector>
#include "gpu.cuh"
#include "op/attn_paged/paged_cuda.cuh"
#include "op/matmul/rows.cuh"
#include "op/matmul/step.cuh"
typedef __nv_bfloat16 bf;
enum { L = 16, D = 2048, F = 8192, KV = 512, V = 128256, B = 64, PER = 8, POS = 479 };
enum { QKV = 1, ATTN = 2, O = 4, GATED = 8, DOWN = 16, HEAD = 32, ALL = 63, ONE = 64 };
static __global__ void read_all(const uint4 *p, size_t n, unsigned *o) {
    uint32_t a = 0;
    for (size_t i = blockIdx.x * 256 + threadIdx.x; i < n; i += static_cast<size_t>(gridDim.x) * 256 * 4) {
        uint4 v[4];
        for (int k = 0; k < 4; k++) {
            const size_t at = i + k * static_cast<size_t>(gridDim.x) * 256;
            v[k] = at < n ? __ldcs(p + at) : make_uint4(0, 0, 0, 0);
        }
        for (int k = 0; k < 4; k++) a ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
    }
    if (a == 0x12345) *o = a;
}
template <class T> static T *made(size_t n, float scale, unsigned seed) {
    T *p;
    CK(cudaMalloc(&p, n * sizeof(T)));
    fill<T><<<1024, 256>>>(p, n, scale, seed);
    return p;
}
struct layer { bf *q, *k, *v, *o, *gate, *up, *down, *kp, *vp; float *n1, *n2; };
static layer ly[L];
static lm_dev dev;
static bf *head, *room, *q, *o, *h;
static float *x0, *x1, *turn, *logits, *squares;
static int32_t *slot, *table, *seq, *pos;
static lm_skinny product(int kind, int M, int K, void *x, int bf16) {
    lm_skinny s = {};
    s.kind = kind; s.M = M; s.K = K; s.x.p = x; s.x.rs = K; s.x.bf16 = bf16; s.fixed = true; s.eps = 1e-5f; s.room = room;
    return s;
}
static void part(lm_skinny *s, bf *w, int rows) { lm_skinny_part &p = s->part[s->n_part++]; p.w = w; p.ld = s->K; p.rows = rows; p.mid_bf16 = 1; }
static void to(lm_cv *v, void *p, int rs, int bf16) { v->p = p; v->rs = rs; v->bf16 = bf16; }
static lm_skinny qkv_of(int M, const layer &y) {
    lm_skinny s = product(LM_SKINNY_QKV, M, D, x0, 0);
    to(&s.norm, y.n1, D, 0); part(&s, y.q, D); part(&s, y.k, KV); part(&s, y.v, KV); to(&s.out, q, D, 1); to(&s.turn, turn, 64, 0);
    s.d = 64; s.kv_bf16 = s.k_bf16 = 1; s.kp = y.kp; s.vp = y.vp; s.slot = slot; s.pages = B * PER;
    return s;
}
static lm_skinny sum_of(int M, int K, bf *x, bf *w, float *res, float *out) {
    lm_skinny s = product(LM_SKINNY_ADD, M, K, x, 1);
    part(&s, w, D); to(&s.res, res, D, 0); to(&s.out, out, D, 0);
    return s;
}
/* the norm between two products in halves, as joins_cuda.cu has it */
static void halves(lm_skinny *a, lm_skinny *b) {
    a->norm_next = b->norm; a->next = room; a->squares = squares;
    b->norm.p = NULL; to(&b->x, room, D, 1); b->parts = squares;
}
static int32_t *row;
static void *records;
static lm_step_args all_of(void) {
    lm_step_args a = {};
    a.layers = L; a.d = D; a.f = F; a.heads = D / 64; a.kv = KV / 64; a.d_head = 64; a.vocab = V;
    a.x = x0; to(&a.turn, turn, 64, 0); a.norm = ly[0].n1; a.head = head; a.logits = logits; a.row = row; a.records = records;
    a.pos = pos; a.seq = seq; a.table = table; a.slot = slot; a.per = PER; a.seqs = B; a.pages = B * PER; a.eps = 1e-5f; a.scale = 0.125f;
    for (int l = 0; l < L; l++) { const layer &y = ly[l]; a.layer[l] = { y.q, y.k, y.v, y.o, y.gate, y.up, y.down, y.n1, y.n2, y.kp, y.vp }; }
    return a;
}
static void step(int M, int what, cudaStream_t s) {
    if (what == ONE) {
        const lm_step_args a = all_of();
        OK(lm_step_run(&a, s));
        return;
    }
    lm_skinny first = qkv_of(M, ly[0]);
    if (what & QKV) OK(lm_skinny_run(&dev, &first, s));
    for (int l = 0; l < L; l++) {
        const layer &y = ly[l];
        if (what & ATTN) {
            paged p = {};
            to(&p.q, q, D, 1); to(&p.o, o, D, 1);
            p.k = y.kp; p.v = y.vp; p.table = table; p.seq = seq; p.pos = pos; p.n = M; p.per = PER; p.pages = B * PER; p.seqs = B;
            p.heads = D / 64; p.kv = KV / 64; p.scale = 0.125f; p.split = 1; p.early = true;
            OK(paged_run<64>(p, NULL, lm_paged_decode_takes(&dev, 64), false, s));
        }
        lm_skinny a = sum_of(M, D, o, y.o, x0, x1), g = product(LM_SKINNY_GATED, M, D, x1, 0), d = sum_of(M, F, h, y.down, x1, x0),
                  n = qkv_of(M, ly[(l + 1) % L]);
        to(&g.norm, y.n2, D, 0); part(&g, y.gate, F); part(&g, y.up, F); to(&g.out, h, F, 1);
        if ((what & O) && (what & GATED)) halves(&a, &g);
        if ((what & DOWN) && (what & QKV) && l + 1 < L) halves(&d, &n);
        if (what & O) OK(lm_skinny_run(&dev, &a, s));
        if (what & GATED) OK(lm_skinny_run(&dev, &g, s));
        if (what & DOWN) OK(lm_skinny_run(&dev, &d, s));
        if ((what & QKV) && l + 1 < L) OK(lm_skinny_run(&dev, &n, s));
    }
    lm_skinny t = product(LM_SKINNY_PLAIN, M, D, room, 1);
    part(&t, head, V); t.part[0].mid_bf16 = 0; to(&t.out, logits, V, 0);
    if (what & HEAD) OK(lm_skinny_run(&dev, &t, s));
}
static double timed(int M, int what, int n) {
    cudaStream_t s; cudaGraph_t g; cudaGraphExec_t x; cudaEvent_t a, b;
    CK(cudaStreamCreate(&s)); CK(cudaEventCreate(&a)); CK(cudaEventCreate(&b));
    CK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    if (M) step(M, what, s);
    else
        read_all<<<132 * 8, 256, 0, s>>>(reinterpret_cast<const uint4 *>(head), static_cast<size_t>(V) * D / 8,
                                         reinterpret_cast<unsigned *>(squares));
    CK(cudaStreamEndCapture(s, &g)); CK(cudaGraphInstantiate(&x, g, 0));
    std::vector<float> t;
    for (int i = 0; i < n + 3; i++) {
        float ms;
        CK(cudaEventRecord(a, s));
        CK(cudaGraphLaunch(x, s));
        CK(cudaEventRecord(b, s));
        CK(cudaStreamSynchronize(s));
        CK(cudaEventElapsedTime(&ms, a, b));
        if (i >= 3) t.push_back(ms * 1e3f);
    }
    std::sort(t.begin(), t.end());
    cudaGraphExecDestroy(x); cudaGraphDestroy(g); cudaEventDestroy(a); cudaEventDestroy(b); cudaStreamDestroy(s);
    return t[t.size() / 2];
}
int main(int argc, char **argv) {
    cudaDeviceProp p;
    CK(cudaGetDeviceProperties(&p, 0));
    dev.units = p.multiProcessorCount; dev.features = LM_CUDA_SM80 | LM_CUDA_SM90 | (p.major == 9 && p.minor == 0 ? LM_CUDA_WGMMA : 0);
    for (int l = 0; l < L; l++) {
        layer &y = ly[l];
        bf **w[] = { &y.q, &y.k, &y.v, &y.o, &y.gate, &y.up, &y.down };
        const size_t rows[] = { D, KV, KV, D, F, F, F };
        for (int i = 0; i < 7; i++) *w[i] = made<bf>(rows[i] * D, 0.02f, static_cast<unsigned>(l * 16 + i));
        y.kp = made<bf>(static_cast<size_t>(B) * PER * 64 * KV, 1, static_cast<unsigned>(l * 16 + 8));
        y.vp = made<bf>(static_cast<size_t>(B) * PER * 64 * KV, 1, static_cast<unsigned>(l * 16 + 9));
        y.n1 = made<float>(D, 1, 3); y.n2 = made<float>(D, 1, 4);
    }
    head = made<bf>(static_cast<size_t>(V) * D, 0.02f, 999);
    room = made<bf>(B * D, 1, 1);
    q = made<bf>(B * D, 1, 2);
    o = made<bf>(B * D, 1, 3);
    h = made<bf>(B * F, 1, 4);
    x0 = made<float>(B * D, 1, 5);
    x1 = made<float>(B * D, 1, 6);
    turn = made<float>(B * 64, 0.7f, 7);
    logits = made<float>(static_cast<size_t>(B) * V, 1, 8);
    squares = made<float>(D / 16 * B, 1, 9);
    std::vector<int32_t> at[4] = { std::vector<int32_t>(B), std::vector<int32_t>(B * PER), std::vector<int32_t>(B), std::vector<int32_t>(B, POS) };
    for (int i = 0; i < B; i++) {
        for (int j = 0; j < PER; j++) at[1][i * PER + j] = (i * PER + j) * 5 % (B * PER);
        at[0][i] = at[1][i * PER + POS / LM_KV_PAGE] * LM_KV_PAGE + POS % LM_KV_PAGE; at[2][i] = i;
    }
    int32_t **where[] = { &slot, &table, &seq, &pos };
    for (int i = 0; i < 4; i++) {
        CK(cudaMalloc(where[i], at[i].size() * 4));
        CK(cudaMemcpy(*where[i], at[i].data(), at[i].size() * 4, cudaMemcpyHostToDevice));
    }
    const lm_step_args one = all_of();
    CK(cudaMalloc(&records, lm_step_bytes(&one)));
    CK(cudaMalloc(&row, 4)); CK(cudaMemset(row, 0, 4));
    CK(cudaDeviceSynchronize());
    const double t = timed(0, 0, 9), bytes = static_cast<double>(V) * D * 2, weights = bytes + L * 2.0 * D * (2.0 * D + 2.0 * KV + 3.0 * F);
    std::printf("%s: read %.3f TB/s, all weights %.0f us\n%-8s %8s %8s %8s %8s %8s %8s %8s %8s\n", p.name, bytes / t / 1e6,
                weights / bytes * t, "rows, us", "all", "no attn", "qkv", "attn", "o", "gate,up", "down", "head");
    static const char *const usual[] = { "1", "8", "16", "32", "64" };
    for (int i = 0; i < (argc > 1 ? argc - 1 : 5); i++) {
        const int M = std::atoi(argc > 1 ? argv[i + 1] : usual[i]);
        if (M < 1 || M > B) { std::printf("rows: 1 to %d\n", B); return 1; }
        std::printf("%-8d %8.1f %8.1f", M, timed(M, ALL, 15), timed(M, ALL & ~ATTN, 15));
        for (int w : { QKV, ATTN, O, GATED, DOWN, HEAD }) std::printf(" %8.1f", timed(M, w, 9) / (w == HEAD ? 1 : L));
        std::printf("\n");
        if (M == 1 && dev.features & LM_CUDA_WGMMA && dev.units >= LM_STEP_BLOCKS) std::printf("%-8d %8.1f in one kernel, with the last norm\n", M, timed(M, ONE, 15));
    }
    return 0;
}
