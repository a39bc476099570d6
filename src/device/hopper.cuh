/* hopper.cuh — what kernels for compute capability 9.0 are made of: the copy engine (TMA), barriers in shared memory that count bytes,
 * matrix instructions of a warpgroup (wgmma), registers moved between warpgroups. For *_cuda.cu files.
 *
 * Shape of such a kernel: one warpgroup of producers, whose one thread tells the copy engine what to bring and gives most of its registers
 * away (lm_regs_less), and consumers that wait for tiles on mbarriers and multiply. A ring of stages has two barriers each: `full` gets one
 * arrival and the bytes expected, `empty` one arrival per consumer warp. Parity of the k-th use of a stage is k & 1; a producer's first
 * wait for `empty` is for parity 1, which a fresh barrier has passed.
 *
 * Tiles are bf16 in columns of 64 (128 bytes), swizzled: the 16-byte unit u of row r lies at unit u ^ (r & 7) (lm_swizzled), a base is a multiple of
 * 1024 bytes. A wider tile is several such columns one behind another. One tile serves both ways of being multiplied:
 *   summed along its columns (lm_desc_rows): rows are the operand's M or N; a step of 16 in K is 32 bytes, then the next column of 64
 *   summed along its rows    (lm_desc_cols): columns are M or N, `next` bytes from 64 to the next 64; a step of 16 in K is 2048 bytes
 * The accumulator of 64×N in thread t of the warpgroup: c[4x+e] is row 16·(t/32) + t%32/4 + 8·(e/2), column 8x + 2·(t%4) + e%2. Two
 * neighbours x, x+1 packed to bf16 (lm_frag_of in attn.cuh) are a left operand in registers for the next product.
 *
 * Facts are from the PTX ISA (sections on wgmma, mbarrier, cp.async.bulk). Code is generated for sm_90a alone (LM_HOPPER_CODE); elsewhere
 * bodies are empty and rows say so by needing LM_CUDA_WGMMA.
 *
 * Lifetime: a tensor map holds the address it was made for.  Threads: as CUDA's.  Errors: lm_tma_map: LM_E_UNSUPPORTED where the driver has no such
 * call, LM_E_SHAPE where base or stride is not a multiple of 16 bytes. */
#ifndef LM_HOPPER_CUH
#define LM_HOPPER_CUH
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <cstdint>
extern "C" {
#include "device/device.h"
}
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define LM_HOPPER_CODE 1
#endif

/* ---- host: a map of a bf16 matrix for the copy engine, beyond its edges zero ------------------------------------------------------------ */
/* rank dimensions of such elements, pitch[i] bytes from one of dimension i + 1 to the next; a box's row is 128, 64 or 32 bytes and swizzled so */
static inline lm_err lm_tma_encode_nd(CUtensorMap *m, CUtensorMapDataType type, int row_bytes, const void *base, int rank, const cuuint64_t *dim, const cuuint64_t *pitch,
                                      const cuuint32_t *box) {
    typedef CUresult (*encode_fn)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                                  const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
    static encode_fn encode;                   /* the driver is not linked: it is asked for by name; two threads find the same */
    if (!encode) {
        void *f = NULL; cudaDriverEntryPointQueryResult found;
        if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000, cudaEnableDefault, &found) != cudaSuccess ||
            found != cudaDriverEntryPointSuccess || !f)
            return LM_E_UNSUPPORTED;
        encode = reinterpret_cast<encode_fn>(f);
    }
    const cuuint32_t step[5] = { 1, 1, 1, 1, 1 };
    return encode(m, type, static_cast<cuuint32_t>(rank), const_cast<void *>(base), dim, pitch, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                  row_bytes == 32 ? CU_TENSOR_MAP_SWIZZLE_32B : row_bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS
               ? LM_OK
               : LM_E_SHAPE;
}
/* a matrix of such elements, row_pitch bytes between rows */
static inline lm_err lm_tma_encode(CUtensorMap *m, CUtensorMapDataType type, int row_bytes, const void *base, int64_t rows, int64_t cols,
    int64_t row_pitch,
                                   int box_rows, int box_cols) {
    const cuuint64_t dim[2] = { static_cast<cuuint64_t>(cols), static_cast<cuuint64_t>(rows) }, pitch[1] = { static_cast<cuuint64_t>(row_pitch) };
    const cuuint32_t box[2] = { static_cast<cuuint32_t>(box_cols), static_cast<cuuint32_t>(box_rows) };
    return lm_tma_encode_nd(m, type, row_bytes, base, 2, dim, pitch, box);
}
/* boxes of box_rows × box_cols: 64 columns, swizzled as above, 32 (64 bytes; unit u of row r lies at unit u ^ (r >> 1 & 3)) or 16 (32 bytes; at unit
 * u ^ (r >> 2 & 1), lm_desc_cols16) */
static inline lm_err lm_tma_map_of(CUtensorMap *m, const void *base, int64_t rows, int64_t cols, int64_t stride, int box_rows, int box_cols) {
    return lm_tma_encode(m, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, box_cols * 2, base, rows, cols, stride * 2, box_rows, box_cols);
}
/* bytes, contiguous, in boxes of 128 columns */
static inline lm_err lm_tma_map_bytes(CUtensorMap *m, const void *base, int64_t rows, int64_t cols, int box_rows) {
    return lm_tma_encode(m, CU_TENSOR_MAP_DATA_TYPE_UINT8, 128, base, rows, cols, cols, box_rows, 128);
}
static inline lm_err lm_tma_map(CUtensorMap *m, const void *base, int64_t rows, int64_t cols, int64_t stride, int box_rows) {
    return lm_tma_map_of(m, base, rows, cols, stride, box_rows, 64);
}

/* ---- barriers. Addresses of shared memory are numbers throughout. ----------------------------------------------------------------------- */
__device__ __forceinline__ uint32_t lm_smem(const void *p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }
__device__ __forceinline__ uint32_t lm_swizzled(int row, int unit) { return static_cast<uint32_t>(row * 128 + (unit ^ (row & 7)) * 16); }
#ifdef LM_HOPPER_CODE
__device__ __forceinline__ void lm_mbar_init(uint32_t bar, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals));
}
__device__ __forceinline__ void lm_mbar_inited() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void lm_mbar_expect(uint32_t bar, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
__device__ __forceinline__ void lm_mbar_arrive(uint32_t bar) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory"); }
__device__ __forceinline__ void lm_mbar_wait(uint32_t bar, int parity) {
    uint32_t done;
    do {
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done)
                     : "r"(bar), "r"(parity)
                     : "memory");
    } while (!done);
}
__device__ __forceinline__ void lm_bar_sync(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
__device__ __forceinline__ void lm_bar_arrive(int id, int threads) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
/* what this thread wrote to shared memory is seen by matrix instructions and the copy engine after the next barrier */
__device__ __forceinline__ void lm_fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
template <int n> __device__ __forceinline__ void lm_regs_less() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n)); }
template <int n> __device__ __forceinline__ void lm_regs_more() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n)); }

/* ---- clusters: blocks that see each other's shared memory; an address there is this block's, mapped ------------------------------------- */
__device__ __forceinline__ uint32_t lm_cluster_rank() { uint32_t r; asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r)); return r; }
__device__ __forceinline__ uint32_t lm_smem_of(uint32_t at, uint32_t rank) {
    uint32_t r; asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(at), "r"(rank)); return r;
}
__device__ __forceinline__ void lm_cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ __forceinline__ void lm_cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
__device__ __forceinline__ void lm_mbar_wait_cluster(uint32_t bar, int parity) {        /* for what other blocks wrote */
    uint32_t done;
    do {
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done) : "r"(bar), "r"(parity) : "memory");
    } while (!done);
}
/* two floats to another block's shared memory; its barrier gets the eight bytes */
__device__ __forceinline__ void lm_send2(uint32_t to_there, float x, float y, uint32_t bar_there) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(to_there), "f"(x), "f"(y),
                 "r"(bar_there)
                 : "memory");
}

/* ---- the copy engine -------------------------------------------------------------------------------------------------------------------- */
__device__ __forceinline__ void lm_tma_get(uint32_t to, const CUtensorMap *m, int col, int row, uint32_t bar) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to), "l"(m),
                 "r"(col), "r"(row), "r"(bar)
                 : "memory");
}
/* the same for what is read once: it leaves the second-level cache first */
__device__ __forceinline__ uint64_t lm_once() {
    uint64_t policy; asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy)); return policy;
}
__device__ __forceinline__ void lm_tma_get(uint32_t to, const CUtensorMap *m, int col, int row, uint32_t bar, uint64_t policy) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(
            to),
        "l"(m), "r"(col), "r"(row), "r"(bar), "l"(policy)
        : "memory");
}
__device__ __forceinline__ void lm_tma_prefetch_map(const CUtensorMap *m) { asm volatile("prefetch.tensormap [%0];" ::"l"(m) : "memory"); }
__device__ __forceinline__ void lm_bulk_get(uint32_t to, const void *from, int bytes, uint32_t bar) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes), "r"(bar)
                 : "memory");
}
__device__ __forceinline__ void lm_bulk_put(void *to, uint32_t from, int bytes) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes) : "memory");
}
/* a box from shared memory to the matrix; what lies beyond its edges is not written */
__device__ __forceinline__ void lm_tma_put(const CUtensorMap *m, int col, int row, uint32_t from) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(m), "r"(col), "r"(row), "r"(from) : "memory");
}
/* adds f32 where the memory is; who may add when is the caller's to order */
__device__ __forceinline__ void lm_bulk_add(void *to, uint32_t from, int bytes) {
    asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void lm_bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/* sources of all but the newest `left` groups may be overwritten */
template <int left = 0> __device__ __forceinline__ void lm_bulk_wait_read() { asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(left) : "memory"); }
__device__ __forceinline__ void lm_bulk_wait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }             /* all is written */

/* ---- matrix instructions of a warpgroup ------------------------------------------------------------------------------------------------- */
__device__ __forceinline__ uint64_t lm_desc(uint32_t at, uint32_t lead, uint32_t stride, uint64_t swizzle = 1) {
    return static_cast<uint64_t>((at & 0x3ffff) >> 4) | static_cast<uint64_t>(lead >> 4) << 16 | static_cast<uint64_t>(stride >> 4) << 32 |
           swizzle << 62;
}
__device__ __forceinline__ uint64_t lm_desc_rows(uint32_t at) { return lm_desc(at, 16, 1024); }
__device__ __forceinline__ uint64_t lm_desc_cols(uint32_t at, uint32_t next) { return lm_desc(at, next, 1024); }
/* Rows of 16 columns (32 bytes), summed along rows: columns are M or N, `next` bytes from 16 to the next 16; a step of 16 in K is 512 bytes; a
 * base is a multiple of 256. */
__device__ __forceinline__ uint64_t lm_desc_cols16(uint32_t at, uint32_t next) { return lm_desc(at, next, 256, 3); }
__device__ __forceinline__ void lm_wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void lm_wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int left> __device__ __forceinline__ void lm_wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(left) : "memory"); }
/* keeps the compiler from moving uses of an accumulator over this point */
template <int n> __device__ __forceinline__ void lm_wgmma_pin(float *c) {
#pragma unroll
    for (int i = 0; i < n; i++) asm volatile("" : "+f"(c[i])::"memory");
}
template <int n> __device__ __forceinline__ void lm_wgmma_pin(uint32_t *c) {
#pragma unroll
    for (int i = 0; i < n; i++) asm volatile("" : "+r"(c[i])::"memory");
}
/* lm_wgmma<N>, 16 of K each: ss<ta, tb>(c, a, b): c (64×N) += a b, both described in shared memory; ta, tb: 0 lm_desc_rows, 1 lm_desc_cols.
 * first: c = a b, and what c was is not read (so its registers were free till now). add: c = [c if more +] a b. rs: a is four registers of bf16 pairs, c = [c +] a b.
 * Between fence and commit; results count after wait. */
template <int N> struct lm_wgmma;
#define LM_W8_0 "%0,%1,%2,%3,%4,%5,%6,%7"
#define LM_W8_1 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define LM_W8_2 ",%16,%17,%18,%19,%20,%21,%22,%23"
#define LM_W8_3 ",%24,%25,%26,%27,%28,%29,%30,%31"
#define LM_W8_4 ",%32,%33,%34,%35,%36,%37,%38,%39"
#define LM_W8_5 ",%40,%41,%42,%43,%44,%45,%46,%47"
#define LM_W8_6 ",%48,%49,%50,%51,%52,%53,%54,%55"
#define LM_W8_7 ",%56,%57,%58,%59,%60,%61,%62,%63"
#define LM_W8_8 ",%64,%65,%66,%67,%68,%69,%70,%71"
#define LM_W8_9 ",%72,%73,%74,%75,%76,%77,%78,%79"
#define LM_W8_10 ",%80,%81,%82,%83,%84,%85,%86,%87"
#define LM_W8_11 ",%88,%89,%90,%91,%92,%93,%94,%95"
#define LM_W8_12 ",%96,%97,%98,%99,%100,%101,%102,%103"
#define LM_W8_13 ",%104,%105,%106,%107,%108,%109,%110,%111"
#define LM_W8_14 ",%112,%113,%114,%115,%116,%117,%118,%119"
#define LM_W8_15 ",%120,%121,%122,%123,%124,%125,%126,%127"
#define LM_W4 "%0,%1,%2,%3"
#define LM_W16 LM_W8_0 LM_W8_1
#define LM_W32 LM_W16 LM_W8_2 LM_W8_3
#define LM_W48 LM_W32 LM_W8_4 LM_W8_5
#define LM_W64 LM_W48 LM_W8_6 LM_W8_7
#define LM_W128 LM_W64 LM_W8_8 LM_W8_9 LM_W8_10 LM_W8_11 LM_W8_12 LM_W8_13 LM_W8_14 LM_W8_15
#define LM_C8(i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]), "+f"(c[i + 6]), "+f"(c[i + 7])
#define LM_N8(i) "=f"(c[i]), "=f"(c[i + 1]), "=f"(c[i + 2]), "=f"(c[i + 3]), "=f"(c[i + 4]), "=f"(c[i + 5]), "=f"(c[i + 6]), "=f"(c[i + 7])
#define LM_N4 "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
#define LM_N8_ LM_N8(0)
#define LM_N16 LM_N8(0), LM_N8(8)
#define LM_N32 LM_N16, LM_N8(16), LM_N8(24)
#define LM_N48 LM_N32, LM_N8(32), LM_N8(40)
#define LM_N64 LM_N48, LM_N8(48), LM_N8(56)
#define LM_N128 LM_N64, LM_N8(64), LM_N8(72), LM_N8(80), LM_N8(88), LM_N8(96), LM_N8(104), LM_N8(112), LM_N8(120)
#define LM_C4 "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
#define LM_C8_ LM_C8(0)
#define LM_C16 LM_C8(0), LM_C8(8)
#define LM_C32 LM_C16, LM_C8(16), LM_C8(24)
#define LM_C48 LM_C32, LM_C8(32), LM_C8(40)
#define LM_C64 LM_C48, LM_C8(48), LM_C8(56)
#define LM_C128 LM_C64, LM_C8(64), LM_C8(72), LM_C8(80), LM_C8(88), LM_C8(96), LM_C8(104), LM_C8(112), LM_C8(120)
/* N columns, R = N/2 registers, then the numbers of the operands behind them */
#define LM_WGMMA(N, R, o0, o1, o2, o3, o4, o5, o6)                                                                                                   \
    template <> struct lm_wgmma<N> {                                                                                                                 \
        template <int ta, int tb> static __device__ __forceinline__ void ss(float *c, uint64_t a, uint64_t b) {                                      \
            asm volatile("{\n.reg .pred p;\nsetp.eq.b32 p, 0, 0;\n"                                                                                  \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" LM_W##R "}, %" #o0 ", %" #o1                                   \
                         ", p, 1, 1, %" #o2 ", %" #o3 ";\n}" : LM_C##R : "l"(a), "l"(b), "n"(ta), "n"(tb));                                          \
        }                                                                                                                                            \
        template <int ta, int tb> static __device__ __forceinline__ void first(float *c, uint64_t a, uint64_t b) {                                   \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 0, 0;\n"                                                                                  \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" LM_W##R "}, %" #o0 ", %" #o1                                   \
                         ", p, 1, 1, %" #o2 ", %" #o3 ";\n}" : LM_N##R : "l"(a), "l"(b), "n"(ta), "n"(tb));                                          \
        }                                                                                                                                            \
        template <int ta, int tb> static __device__ __forceinline__ void add(float *c, uint64_t a, uint64_t b, int more) {                           \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #o4 ", 0;\n"                                                                           \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" LM_W##R "}, %" #o0 ", %" #o1                                   \
                         ", p, 1, 1, %" #o2 ", %" #o3 ";\n}" : LM_C##R : "l"(a), "l"(b), "n"(ta), "n"(tb), "r"(more));                              \
        }                                                                                                                                            \
        template <int tb> static __device__ __forceinline__ void rs(float *c, const uint32_t *a, uint64_t b, int add) {                              \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #o5 ", 0;\n"                                                                           \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" LM_W##R "}, {%" #o0 ",%" #o1 ",%" #o2                          \
                         ",%" #o3 "}, %" #o4 ", p, 1, 1, %" #o6 ";\n}"                                                                               \
                         : LM_C##R : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(tb));                                         \
        }                                                                                                                                            \
    };
#define LM_W8_ LM_W8_0
LM_WGMMA(8, 4, 4, 5, 6, 7, 8, 9, 10)
LM_WGMMA(16, 8_, 8, 9, 10, 11, 12, 13, 14)
LM_WGMMA(32, 16, 16, 17, 18, 19, 20, 21, 22)
LM_WGMMA(64, 32, 32, 33, 34, 35, 36, 37, 38)
LM_WGMMA(96, 48, 48, 49, 50, 51, 52, 53, 54)
LM_WGMMA(128, 64, 64, 65, 66, 67, 68, 69, 70)
LM_WGMMA(256, 128, 128, 129, 130, 131, 132, 133, 134)
/* 16×16 of bf16 to shared memory: a left operand's registers as rows of 16 bytes; lane l gives the address of row l%8 of the 8×8 in register l/8 */
__device__ __forceinline__ void lm_stsm(uint32_t at, const uint32_t *r) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(at), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
}
__device__ __forceinline__ void lm_sts4(uint32_t at, const float *v) {
    asm volatile("st.shared.v4.f32 [%0], {%1,%2,%3,%4};" ::"r"(at), "f"(v[0]), "f"(v[1]), "f"(v[2]), "f"(v[3]) : "memory");
}
__device__ __forceinline__ void lm_lds4_add(float *v, uint32_t at) {
    float x, y, z, w;
    asm volatile("ld.shared.v4.f32 {%0,%1,%2,%3}, [%4];" : "=f"(x), "=f"(y), "=f"(z), "=f"(w) : "r"(at) : "memory");
    v[0] += x; v[1] += y; v[2] += z; v[3] += w;
}
__device__ __forceinline__ float2 lm_lds2(uint32_t at) {
    float2 v; asm volatile("ld.shared.v2.f32 {%0,%1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(at)); return v;
}
__device__ __forceinline__ float lm_ldsf(uint32_t at) { float v; asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(at) : "memory"); return v; }
__device__ __forceinline__ int4 lm_ldsi4(uint32_t at) {
    int4 v; asm volatile("ld.shared.v4.s32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(at) : "memory"); return v;
}
__device__ __forceinline__ int lm_ldsi(uint32_t at) { int v; asm volatile("ld.shared.s32 %0, [%1];" : "=r"(v) : "r"(at) : "memory"); return v; }
__device__ __forceinline__ void lm_stsi4(uint32_t at, int x, int y, int z, int w) {
    asm volatile("st.shared.v4.s32 [%0], {%1,%2,%3,%4};" ::"r"(at), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}
/* words between CTAs: a turn is waited for with acquire and passed on with release */
__device__ __forceinline__ int lm_turn_now(const int *p) {
    int v; asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(v) : "l"(p) : "memory"); return v;
}
__device__ __forceinline__ void lm_turn_set(int *p, int v) { asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(p), "r"(v) : "memory"); }
#endif
/* Four words of four neighbouring lanes transposed: lane q gets word q of each, in order of lanes. */
__device__ __forceinline__ void lm_quad_transpose(uint32_t *w) {
    const int q = threadIdx.x & 3;
#pragma unroll
    for (int s = 1; s < 4; s *= 2)
#pragma unroll
        for (int i = 0; i < 4; i++) if (!(i & s)) {
            const bool up = q & s;
            const uint32_t got = __shfl_xor_sync(0xffffffffu, up ? w[i] : w[i + s], s);
            if (up) w[i] = got; else w[i + s] = got;
        }
}
#endif
