/* gpu.cuh — what the benchmarks of kernels by themselves share: errors end the program with their line, numbers that repeat nowhere.
 *
 * Lifetime: none.  Threads: one.  Errors: end the program. */
#ifndef LM_BENCH_GPU_CUH
#define LM_BENCH_GPU_CUH
#include <cstdio>
#include <cstdlib>
#include "op/cuda.cuh"
#define CK(x)                                                                                                                              \
    do {                                                                                                                                   \
        const cudaError_t e_ = (x);                                                                                                        \
        if (e_ != cudaSuccess) {                                                                                                           \
            std::printf("%s, line %d: %s\n", __FILE__, __LINE__, cudaGetErrorString(e_));                                                  \
            std::exit(1);                                                                                                                  \
        }                                                                                                                                  \
    } while (0)
#define OK(...)                                                                                                                            \
    do {                                                                                                                                   \
        const lm_err e_ = (__VA_ARGS__);                                                                                                   \
        if (e_) {                                                                                                                          \
            std::printf("%s, line %d: error %d, %s\n", __FILE__, __LINE__, static_cast<int>(e_), cudaGetErrorString(cudaGetLastError()));   \
            std::exit(1);                                                                                                                  \
        }                                                                                                                                  \
    } while (0)
template <class T> __global__ void fill(T *p, size_t n, float scale, unsigned seed) {
    for (size_t i = blockIdx.x * 256 + threadIdx.x; i < n; i += static_cast<size_t>(gridDim.x) * 256) {
        unsigned z = static_cast<unsigned>(i) * 2654435761u ^ seed * 40503u;
        z ^= z >> 16;
        z *= 0x85ebca6bu;
        z ^= z >> 13;
        z *= 0xc2b2ae35u;
        z ^= z >> 16;
        p[i] = static_cast<T>((static_cast<float>(z >> 8) / 8388608.0f - 1.0f) * 1.7f * scale);
    }
}
#endif
