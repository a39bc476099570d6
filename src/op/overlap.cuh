/* overlap.cuh — kernels that begin while the one before them on the stream still runs (programmatic dependent launch, Hopper and later).
 *
 * A kernel launched by lm_launch_early may be started as soon as every block of the kernel before it has said lm_let_next_begin() or ended.
 * Until lm_wait_before() returns it may touch only what no kernel of the plan writes (weights, inputs of the run); after that everything
 * that came before on the stream is complete and visible. Each block of such a kernel must call lm_wait_before before it ends: then a
 * kernel that has waited knows that all of its predecessors are over, and memory can be reused as if they ran one after another. A kernel
 * launched in the usual way waits for everything as ever. On older cards all of this is nothing.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_DEVICE when a launch is refused. */
#ifndef LM_OVERLAP_CUH
#define LM_OVERLAP_CUH
#include "op/cuda.cuh"
__device__ __forceinline__ void lm_let_next_begin() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ __forceinline__ void lm_wait_before() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/* cluster: blocks along x that run together and see each other's shared memory; 1 = none */
template <class A> static lm_err lm_launch_early(void (*kernel)(A), const A &a, dim3 grid, unsigned threads, size_t shared, unsigned cluster, bool early, cudaStream_t s) {
    cudaLaunchConfig_t c = {};
    cudaLaunchAttribute at[2];
    c.gridDim = grid; c.blockDim = dim3(threads); c.dynamicSmemBytes = shared; c.stream = s; c.attrs = at;
    if (early) { at[c.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization; at[c.numAttrs++].val.programmaticStreamSerializationAllowed = 1; }
    if (cluster > 1) { at[c.numAttrs].id = cudaLaunchAttributeClusterDimension; at[c.numAttrs].val.clusterDim.x = cluster; at[c.numAttrs].val.clusterDim.y = 1; at[c.numAttrs++].val.clusterDim.z = 1; }
    if (shared > 48 << 10 && cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)) != cudaSuccess) return LM_E_DEVICE;
    /* one division of the first-level cache for all of these: a change of it waits for the multiprocessor to be empty */
    if (early && cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared) != cudaSuccess) return LM_E_DEVICE;
    return cudaLaunchKernelEx(&c, kernel, a) == cudaSuccess ? LM_OK : LM_E_DEVICE;
}
#endif
