/* peer_cuda.cu — memory that processes of one host reach in each other's cards, and meetings that cost no multiprocessor.
 *
 * A block is named by CUDA's handle for other processes. A meeting is memory operations of the stream itself: words of host memory are set and
 * waited for by the card's front end, so that nobody who waits holds a multiprocessor, and they can be recorded in a graph. */
#include <cuda.h>
#include <cuda_runtime.h>
#include <cstring>
#include "device/cuda_int.cuh"

static lm_cuda *cu(lm_dev *d) { return static_cast<lm_cuda *>(d->impl); }
static lm_err failed(lm_dev *d, cudaError_t e, const char *what) {
    if (e == cudaSuccess) return LM_OK;
    cudaGetLastError();
    return lm_fail(d->ctx, LM_E_DEVICE, "%s: %s: %s", d->name, what, cudaGetErrorString(e));
}
static lm_err dev_share(lm_dev *d, const void *p, lm_dev_share *out) {
    const lm_cuda *c = cu(d);
    static_assert(sizeof(cudaIpcMemHandle_t) == sizeof out->handle, "a handle is 64 bytes");
    for (int i = 0; i < c->n_block; i++) {
        const char *at = static_cast<const char *>(c->block[i].p);
        if (static_cast<const char *>(p) < at || static_cast<const char *>(p) >= at + c->block[i].bytes) continue;
        cudaIpcMemHandle_t h;
        LM_TRY(failed(d, cudaIpcGetMemHandle(&h, c->block[i].p), "a handle for other processes"));
        std::memcpy(out->handle, &h, sizeof h);
        out->offset = static_cast<uint64_t>(static_cast<const char *>(p) - at);
        return LM_OK;
    }
    return lm_fail(d->ctx, LM_E_RANGE, "%s: not this device's memory", d->name);
}
static lm_err dev_reach(lm_dev *d, const lm_dev_share *s, void **base) {
    cudaIpcMemHandle_t h;
    std::memcpy(&h, s->handle, sizeof h);
    return failed(d, cudaIpcOpenMemHandle(base, h, cudaIpcMemLazyEnablePeerAccess), "memory of another process");
}
static void dev_unreach(lm_dev *d, void *base) { (void)d; if (base) cudaIpcCloseMemHandle(base); }
static lm_err dev_words(lm_dev *d, void *host, size_t bytes, void **on_dev) {
    if (!on_dev) { cudaHostUnregister(host); return LM_OK; }
    LM_TRY(failed(d, cudaHostRegister(host, bytes, cudaHostRegisterMapped | cudaHostRegisterPortable), "words for meetings"));
    const lm_err e = failed(d, cudaHostGetDevicePointer(on_dev, host, 0), "words for meetings");
    if (e) cudaHostUnregister(host);
    return e;
}
typedef CUresult (*batch_fn)(CUstream, unsigned, CUstreamBatchMemOpParams *, unsigned);
static lm_err find_batch(lm_dev *d, batch_fn *out) {
    static batch_fn batch;
    if (!batch) {
        void *f = NULL;
        cudaDriverEntryPointQueryResult r;
        LM_TRY(failed(d, cudaGetDriverEntryPointByVersion("cuStreamBatchMemOp", &f, 12000, cudaEnableDefault, &r), "looking for the stream's memory operations"));
        if (!f || r != cudaDriverEntryPointSuccess) return lm_fail(d->ctx, LM_E_UNSUPPORTED, "%s: the driver has no memory operations of streams", d->name);
        batch = reinterpret_cast<batch_fn>(f);
    }
    *out = batch;
    return LM_OK;
}
lm_err lm_cuda_set_word(lm_dev *d, void *word, uint32_t v) {
    batch_fn batch = NULL;
    LM_TRY(find_batch(d, &batch));
    CUstreamBatchMemOpParams op;
    std::memset(&op, 0, sizeof op);
    op.writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
    op.writeValue.address = reinterpret_cast<CUdeviceptr>(word);
    op.writeValue.value = v;
    const CUresult e = batch(static_cast<CUstream>(d->stream), 1, &op, 0);
    if (e == CUDA_ERROR_NOT_SUPPORTED) return lm_fail(d->ctx, LM_E_UNSUPPORTED, "%s: no memory operations of streams", d->name);
    return e == CUDA_SUCCESS ? LM_OK : lm_fail(d->ctx, LM_E_DEVICE, "%s: a word: the driver's error %d", d->name, static_cast<int>(e));
}
static lm_err dev_meet(lm_dev *d, uint32_t *const *set, uint32_t *const *await, int n) {
    enum { MOST = 64 };
    batch_fn batch = NULL;
    LM_TRY(find_batch(d, &batch));
    if (n > MOST) return lm_fail(d->ctx, LM_E_UNSUPPORTED, "%s: a meeting of %d; %d are the most", d->name, n, static_cast<int>(MOST));
    CUstreamBatchMemOpParams op[3 * MOST];
    std::memset(op, 0, sizeof op);
    for (int i = 0; i < n; i++) {
        op[i].writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;          /* what is before it on the stream is seen before it */
        op[i].writeValue.address = reinterpret_cast<CUdeviceptr>(set[i]);
        op[i].writeValue.value = 1;
        op[n + i].waitValue.operation = CU_STREAM_MEM_OP_WAIT_VALUE_32;
        op[n + i].waitValue.address = reinterpret_cast<CUdeviceptr>(await[i]);
        op[n + i].waitValue.value = 1;
        op[n + i].waitValue.flags = CU_STREAM_WAIT_VALUE_EQ;
        op[2 * n + i].writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
        op[2 * n + i].writeValue.address = reinterpret_cast<CUdeviceptr>(await[i]);
    }
    for (unsigned at = 0; at < 3u * static_cast<unsigned>(n); at += static_cast<unsigned>(n)) {     /* all are told before anyone is waited for */
        const CUresult e = batch(static_cast<CUstream>(d->stream), static_cast<unsigned>(n), op + at, 0);
        if (e != CUDA_SUCCESS) return lm_fail(d->ctx, LM_E_DEVICE, "%s: a meeting: the driver's error %d", d->name, static_cast<int>(e));
    }
    return LM_OK;
}
void lm_cuda_peer_open(lm_dev *d) { d->share = dev_share; d->reach = dev_reach; d->unreach = dev_unreach; d->words = dev_words; d->meet = dev_meet; }
