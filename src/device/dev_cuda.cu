/* dev_cuda.cu — a CUDA device: one stream, plain allocations, recorded work as CUDA graphs.
 *
 * The runtime is linked statically and finds the driver when first called, so the program starts anywhere; a machine without a GPU gets a sentence. */
#include <cuda_runtime.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include "device/cuda_int.cuh"

static lm_cuda *cu(lm_dev *d) { return static_cast<lm_cuda *>(d->impl); }
/* Errors after which a context does nothing more: the memory in it is lost to this process. */
static bool lost(cudaError_t e) {
    switch (e) {
    case cudaErrorIllegalAddress: case cudaErrorMisalignedAddress: case cudaErrorInvalidAddressSpace: case cudaErrorInvalidPc: case cudaErrorIllegalInstruction:
    case cudaErrorHardwareStackError: case cudaErrorLaunchFailure: case cudaErrorLaunchTimeout: case cudaErrorAssert: case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable: case cudaErrorContained: case cudaErrorExternalDevice: case cudaErrorUnknown: return true;
    default: return false;
    }
}
static lm_err failed(lm_dev *d, cudaError_t e, const char *what) {
    if (e == cudaSuccess) return LM_OK;
    return lm_fail(d->ctx, LM_E_DEVICE, "%s: %s: %s%s", d->name, what, cudaGetErrorString(e),
                   lost(e) ? "; the card does nothing more for this process: start it again, and where that fails too look for Xid in the system's log" : "");
}
static cudaStream_t stream(lm_dev *d) { return static_cast<cudaStream_t>(d->stream); }

static lm_err dev_alloc(lm_dev *d, size_t bytes, void **p) {
    void *q = NULL;
    const cudaError_t e = cudaMalloc(&q, bytes ? bytes : 1);
    if (e == cudaErrorMemoryAllocation) {
        size_t free_now = 0, total = 0;
        cudaGetLastError();
        cudaMemGetInfo(&free_now, &total);
        return lm_fail(d->ctx, LM_E_NOMEM, "%s: %.2f GB are wanted, %.2f of %.2f GB are free (this program holds %.2f)", d->name, static_cast<double>(bytes) / 1e9, static_cast<double>(free_now) / 1e9,
                       static_cast<double>(total) / 1e9, static_cast<double>(d->used) / 1e9);
    }
    if (e != cudaSuccess) return failed(d, e, "allocating");
    lm_cuda *c = cu(d);
    if (c->n_block == c->cap_block) {
        const int cap = c->cap_block ? c->cap_block * 2 : 64;
        lm_cuda_block *b = static_cast<lm_cuda_block *>(std::realloc(c->block, static_cast<size_t>(cap) * sizeof *b));
        if (!b) { cudaFree(q); return LM_E_NOMEM; }
        c->block = b; c->cap_block = cap;
    }
    c->block[c->n_block++] = { q, bytes };
    d->used += bytes;
    if (d->used > d->peak) d->peak = d->used;
    *p = q;
    return LM_OK;
}
static void dev_free(lm_dev *d, void *p) {
    lm_cuda *c = cu(d);
    for (int i = c->n_block - 1; p && i >= 0; i--) if (c->block[i].p == p) {
        d->used -= c->block[i].bytes;
        c->block[i] = c->block[--c->n_block];
        break;
    }
    if (p) cudaFree(p);
}
static lm_err dev_room(lm_dev *d, size_t *free_now, size_t *total) { return failed(d, cudaMemGetInfo(free_now, total), "asking for its memory"); }
static lm_err dev_pin(lm_dev *d, size_t bytes, void **p) {
    void *q = NULL;
    LM_TRY(failed(d, cudaHostAlloc(&q, bytes ? bytes : 1, cudaHostAllocDefault), "pinned memory"));
    std::memset(q, 0, bytes);
    *p = q;
    return LM_OK;
}
static void dev_unpin(lm_dev *d, void *p) { (void)d; if (p) cudaFreeHost(p); }
static lm_err dev_zero(lm_dev *d, void *p, size_t n) { return n ? failed(d, cudaMemsetAsync(p, 0, n, stream(d)), "zeroing") : LM_OK; }
/* In a record small copies are kernels, which reach pinned memory as it is: a graph that has other nodes than kernels takes 5 us more for each copy at its
 * ends, and 15 where it follows another such graph. What comes after inputs begins when they are there: a node of nothing between keeps kernels
 * that are launched early from running beside (overlap.cuh). */
enum { CARRIED = 256 << 10 };
static __global__ void __launch_bounds__(256) carry_kernel(char *dst, const char *src, size_t n) {
    const size_t wide = (reinterpret_cast<uintptr_t>(dst) | reinterpret_cast<uintptr_t>(src)) % 16 ? 0 : n / 16, step = static_cast<size_t>(gridDim.x) * 256,
                 first = static_cast<size_t>(blockIdx.x) * 256 + threadIdx.x;
    for (size_t i = first; i < wide; i += step) reinterpret_cast<uint4 *>(dst)[i] = reinterpret_cast<const uint4 *>(src)[i];
    for (size_t i = wide * 16 + first; i < n; i += step) dst[i] = src[i];
}
static bool carried(const lm_dev *d, size_t n) { return n && n <= CARRIED && d->recordings & 1; }
static lm_err carry(lm_dev *d, void *dst, const void *src, size_t n) {
    carry_kernel<<<static_cast<unsigned>((n / 16 + 255) / 256 + 1), 256, 0, stream(d)>>>(static_cast<char *>(dst), static_cast<const char *>(src), n);
    return failed(d, cudaGetLastError(), "copying");
}
static lm_err dev_pause(lm_dev *d) {
    cudaStreamCaptureStatus is;
    cudaGraph_t g = NULL;
    const cudaGraphNode_t *before = NULL;
    cudaGraphNode_t node;
    size_t n = 0;
    LM_TRY(failed(d, cudaStreamGetCaptureInfo(stream(d), &is, NULL, &g, &before, NULL, &n), "recording"));
    LM_TRY(failed(d, cudaGraphAddEmptyNode(&node, g, before, n), "recording"));
    return failed(d, cudaStreamUpdateCaptureDependencies(stream(d), &node, NULL, 1, cudaStreamSetCaptureDependencies), "recording");
}
static lm_err dev_put(lm_dev *d, void *dst, const void *src, size_t n) {
    if (carried(d, n)) { LM_TRY(carry(d, dst, src, n)); return dev_pause(d); }
    return n ? failed(d, cudaMemcpyAsync(dst, src, n, cudaMemcpyHostToDevice, stream(d)), "copying to the device") : LM_OK;
}
static lm_err dev_get(lm_dev *d, void *dst, const void *src, size_t n) {
    if (carried(d, n)) return carry(d, dst, src, n);
    return n ? failed(d, cudaMemcpyAsync(dst, src, n, cudaMemcpyDeviceToHost, stream(d)), "copying from the device") : LM_OK;
}
static lm_err dev_move(lm_dev *d, void *dst, const void *src, size_t n) { return n ? failed(d, cudaMemcpyAsync(dst, src, n, cudaMemcpyDeviceToDevice, stream(d)), "copying on the device") : LM_OK; }
static lm_err dev_sync(lm_dev *d) { return failed(d, cudaStreamSynchronize(stream(d)), "waiting"); }

/* relaxed: while a plan is recorded, memory is named for other processes (peer_cuda.cu) */
static lm_err dev_record(lm_dev *d) { d->recordings++; return failed(d, cudaStreamBeginCapture(stream(d), cudaStreamCaptureModeRelaxed), "recording"); }
static lm_err dev_recorded(lm_dev *d, void **work) {
    cudaGraph_t g = NULL;
    cudaGraphExec_t x = NULL;
    d->recordings++;
    LM_TRY(failed(d, cudaStreamEndCapture(stream(d), &g), "recording"));
    if (!g) return lm_fail(d->ctx, LM_E_DEVICE, "%s: nothing could be recorded", d->name);
    const cudaError_t e = cudaGraphInstantiate(&x, g, 0);
    cudaGraphDestroy(g);
    LM_TRY(failed(d, e, "making a graph"));
    *work = x;
    return LM_OK;
}
static lm_err dev_launch(lm_dev *d, void *work) { return failed(d, cudaGraphLaunch(static_cast<cudaGraphExec_t>(work), stream(d)), "launching a graph"); }
static void dev_forget(lm_dev *d, void *work) { (void)d; if (work) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(work)); }
static lm_err dev_mark(lm_dev *d, int i) {
    cudaEvent_t *e = &cu(d)->mark[i];
    if (!*e) LM_TRY(failed(d, cudaEventCreate(e), "making an event"));
    return failed(d, cudaEventRecordWithFlags(*e, stream(d), d->recordings & 1 ? cudaEventRecordExternal : cudaEventRecordDefault), "an event");
}
static lm_err dev_between(lm_dev *d, int a, int b, double *seconds) {
    float ms = 0;
    LM_TRY(failed(d, cudaEventElapsedTime(&ms, cu(d)->mark[a], cu(d)->mark[b]), "an event"));
    *seconds = static_cast<double>(ms) * 1e-3;
    return LM_OK;
}
/* ---- other lanes: made when they are first asked for, of the highest priority, so that a collective's blocks get multiprocessors first ---- */
static lm_err dev_on(lm_dev *d, int lane) {
    lm_cuda *c = cu(d);
    if (!c->lane[lane]) {
        int least = 0, most = 0;
        cudaDeviceGetStreamPriorityRange(&least, &most);
        LM_TRY(failed(d, cudaStreamCreateWithPriority(&c->lane[lane], cudaStreamNonBlocking, most), "making a stream"));
    }
    d->stream = c->lane[lane];
    return LM_OK;
}
static lm_err dev_fence(lm_dev *d, int i) {
    cudaEvent_t *e = &cu(d)->fence[i];
    if (!*e) LM_TRY(failed(d, cudaEventCreateWithFlags(e, cudaEventDisableTiming), "making an event"));
    return failed(d, cudaEventRecord(*e, stream(d)), "an event");
}
static lm_err dev_after(lm_dev *d, int i) { return failed(d, cudaStreamWaitEvent(stream(d), cu(d)->fence[i], 0), "waiting for an event"); }
static lm_err dev_reached(lm_dev *d, int i) { return failed(d, cudaEventSynchronize(cu(d)->fence[i]), "waiting"); }
static __global__ void note_kernel(volatile int32_t *p, int32_t v) { *p = v; }
/* A kernel, be it of one thread, would wait until some block of lane 0 leaves a multiprocessor: a millisecond, where each stays for its whole kernel. */
static lm_err dev_note(lm_dev *d, int32_t *pinned, int32_t v) {
    const lm_err e = lm_cuda_set_word(d, pinned, static_cast<uint32_t>(v));
    if (e != LM_E_UNSUPPORTED) return e;
    lm_error_clear(d->ctx);
    note_kernel<<<1, 1, 0, stream(d)>>>(pinned, v);
    return failed(d, cudaGetLastError(), "a note");
}
static __global__ void __launch_bounds__(256) add_kernel(float *y, const float *a, const float *x, size_t n) {
    for (size_t i = static_cast<size_t>(blockIdx.x) * 256 + threadIdx.x; i < n; i += static_cast<size_t>(gridDim.x) * 256) y[i] = a[i] + x[i];
}
static __global__ void __launch_bounds__(256) add4_kernel(float4 *y, const float4 *p, const float4 *x, size_t n) {
    for (size_t i = static_cast<size_t>(blockIdx.x) * 256 + threadIdx.x; i < n; i += static_cast<size_t>(gridDim.x) * 256) {
        const float4 a = p[i], b = x[i];
        y[i] = make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
    }
}
static lm_err dev_add(lm_dev *d, float *y, const float *a, const float *x, size_t n) {
    if (!n) return LM_OK;
    const bool wide = n % 4 == 0 && (reinterpret_cast<uintptr_t>(y) | reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(x)) % 16 == 0;
    const size_t items = wide ? n / 4 : n, blocks = (items + 255) / 256;
    const unsigned grid = static_cast<unsigned>(blocks < 4096 ? blocks : 4096);
    if (wide) add4_kernel<<<grid, 256, 0, stream(d)>>>(reinterpret_cast<float4 *>(y), reinterpret_cast<const float4 *>(a), reinterpret_cast<const float4 *>(x), items);
    else add_kernel<<<grid, 256, 0, stream(d)>>>(y, a, x, items);
    return failed(d, cudaGetLastError(), "adding");
}
__device__ __forceinline__ float half_at(const uint16_t *p, size_t i) { return __uint_as_float(static_cast<uint32_t>(p[i]) << 16); }
static __global__ void __launch_bounds__(256) add_half_kernel(float *y, const float *a, const uint16_t *h, const uint16_t *x, size_t n) {
    for (size_t i = static_cast<size_t>(blockIdx.x) * 256 + threadIdx.x; i < n; i += static_cast<size_t>(gridDim.x) * 256)
        y[i] = h ? half_at(h, i) + half_at(x, i) : a ? a[i] + half_at(x, i) : half_at(x, i);
}
/* Eight at a time, of which two bf16: what arrived and what is here. */
static __global__ void __launch_bounds__(256) add_half8_kernel(float4 *y, const uint4 *h, const uint4 *x, size_t n) {
    for (size_t i = static_cast<size_t>(blockIdx.x) * 256 + threadIdx.x; i < n; i += static_cast<size_t>(gridDim.x) * 256) {
        const uint4 a = h[i], b = x[i];
        const auto low = [](uint32_t u, uint32_t v) { return __uint_as_float(u << 16) + __uint_as_float(v << 16); };
        const auto high = [](uint32_t u, uint32_t v) { return __uint_as_float(u & 0xffff0000u) + __uint_as_float(v & 0xffff0000u); };
        y[2 * i] = make_float4(low(a.x, b.x), high(a.x, b.x), low(a.y, b.y), high(a.y, b.y));
        y[2 * i + 1] = make_float4(low(a.z, b.z), high(a.z, b.z), low(a.w, b.w), high(a.w, b.w));
    }
}
static lm_err dev_add_half(lm_dev *d, float *y, const float *a, const uint16_t *h, const uint16_t *x, size_t n) {
    if (!n) return LM_OK;
    const bool wide = h && n % 8 == 0 && (reinterpret_cast<uintptr_t>(y) | reinterpret_cast<uintptr_t>(h) | reinterpret_cast<uintptr_t>(x)) % 16 == 0;
    const size_t items = wide ? n / 8 : n, blocks = (items + 255) / 256;
    const unsigned grid = static_cast<unsigned>(blocks < 4096 ? blocks : 4096);
    if (wide) add_half8_kernel<<<grid, 256, 0, stream(d)>>>(reinterpret_cast<float4 *>(y), reinterpret_cast<const uint4 *>(h), reinterpret_cast<const uint4 *>(x), items);
    else add_half_kernel<<<grid, 256, 0, stream(d)>>>(y, a, h, x, items);
    return failed(d, cudaGetLastError(), "adding");
}
static lm_err dev_idle(lm_dev *d, bool *yes) {
    const cudaError_t e = cudaStreamQuery(stream(d));
    *yes = e == cudaSuccess;
    return e == cudaErrorNotReady ? LM_OK : failed(d, e, "waiting");
}
static lm_err dev_use(lm_dev *d) { return failed(d, cudaSetDevice(cu(d)->ordinal), "choosing the device"); }
static void dev_close(lm_dev *d) {
    lm_cuda *c = cu(d);
    for (int i = 0; i < LM_DEV_LANES; i++) if (c->lane[i]) cudaStreamSynchronize(c->lane[i]);
    lm_cuda_blas_close(d);
    for (int i = 0; i < LM_DEV_MARKS; i++) {
        if (c->mark[i]) cudaEventDestroy(c->mark[i]);
        if (c->fence[i]) cudaEventDestroy(c->fence[i]);
    }
    while (c->n_block) dev_free(d, c->block[c->n_block - 1].p);
    for (int i = 0; i < LM_DEV_LANES; i++) if (c->lane[i]) cudaStreamDestroy(c->lane[i]);
    std::free(c->block);
    lm_ctx *ctx = d->ctx;
    lm_free(ctx, c); lm_free(ctx, d);
}

extern "C" int lm_cuda_count(void);
extern "C" int lm_cuda_count(void) { int n = 0; if (cudaGetDeviceCount(&n) != cudaSuccess) { cudaGetLastError(); n = 0; } return n; }
extern "C" lm_err lm_cuda_open(lm_dev **out, lm_ctx *ctx, int ordinal);
extern "C" lm_err lm_cuda_open(lm_dev **out, lm_ctx *ctx, int ordinal) {
    int n = 0, driver = 0;
    const cudaError_t e = cudaGetDeviceCount(&n);
    cudaDriverGetVersion(&driver);
    if (e == cudaErrorInsufficientDriver && driver)
        return lm_fail(ctx, LM_E_UNSUPPORTED, "device cuda:%d: the NVIDIA driver is too old: it knows CUDA %d.%d, this program needs %d.%d", ordinal, driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    if (!driver) return lm_fail(ctx, LM_E_UNSUPPORTED, "device cuda:%d: no NVIDIA driver is here (or this user or container may not see it); device=cpu trains and runs without", ordinal);
    if (e != cudaSuccess || !n) return lm_fail(ctx, LM_E_UNSUPPORTED, "device cuda:%d: no CUDA device is here (%s)", ordinal, e == cudaSuccess ? "none is visible" : cudaGetErrorString(e));
    if (ordinal >= n) return lm_fail(ctx, LM_E_UNSUPPORTED, "device cuda:%d: only %d CUDA device%s visible", ordinal, n, n == 1 ? " is" : "s are");
    cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, ordinal) != cudaSuccess || cudaSetDevice(ordinal) != cudaSuccess)
        return lm_fail(ctx, LM_E_DEVICE, "device cuda:%d: %s", ordinal, cudaGetErrorString(cudaGetLastError()));
    if (p.major < 8) return lm_fail(ctx, LM_E_UNSUPPORTED, "device cuda:%d: %s has compute capability %d.%d; 8.0 or newer is needed", ordinal, p.name, p.major, p.minor);
    cudaFuncAttributes code;                                              /* of any kernel: all are compiled for the same cards */
    const cudaError_t has = cudaFuncGetAttributes(&code, reinterpret_cast<const void *>(note_kernel));
    if (has == cudaErrorNoKernelImageForDevice || has == cudaErrorInvalidPtx || has == cudaErrorUnsupportedPtxVersion)
        return lm_fail(ctx, LM_E_UNSUPPORTED, "device cuda:%d: %s has compute capability %d.%d, for which this program has no code (\"loam kernels\" says what it has): build it with "
                       "-DLM_CUDA_ARCH=\"%d%d;90a;90\"", ordinal, p.name, p.major, p.minor, p.major, p.minor);
    if (has != cudaSuccess) cudaGetLastError();                           /* whatever else it is, the first launch says it better */
    lm_dev *d = static_cast<lm_dev *>(lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *d));
    lm_cuda *c = static_cast<lm_cuda *>(lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *c));
    if (!d || !c) { lm_free(ctx, d); lm_free(ctx, c); return LM_E_NOMEM; }
    *d = {};
    d->kind = "cuda"; d->ctx = ctx; d->impl = c; d->memory = p.totalGlobalMem; d->units = p.multiProcessorCount;
    std::snprintf(d->name, sizeof d->name, "%.100s", p.name);
    d->features = LM_CUDA_SM80 | (p.major >= 9 ? LM_CUDA_SM90 : 0);
#ifdef LM_CUDA_90A
    if (p.major == 9 && p.minor == 0) d->features |= LM_CUDA_WGMMA;
#endif
    d->alloc = dev_alloc; d->free = dev_free; d->room = dev_room; d->pin = dev_pin; d->unpin = dev_unpin; d->zero = dev_zero; d->put = dev_put; d->get = dev_get; d->move = dev_move; d->sync = dev_sync;
    d->record = dev_record; d->recorded = dev_recorded; d->launch = dev_launch; d->forget = dev_forget; d->mark = dev_mark; d->between = dev_between; d->close = dev_close;
    d->on = dev_on; d->fence = dev_fence; d->after = dev_after; d->reached = dev_reached; d->note = dev_note; d->add = dev_add; d->add_half = dev_add_half; d->idle = dev_idle; d->use = dev_use;
    cudaStream_t s = NULL;
    lm_err err = failed(d, cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "making a stream");
    d->stream = c->lane[0] = s; c->ordinal = ordinal;
    lm_cuda_peer_open(d);
    if (!err) err = lm_cuda_blas_open(d);
    if (err) { dev_close(d); return err; }
    *out = d;
    return LM_OK;
}
