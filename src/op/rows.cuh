/* rows.cuh — rows that are reduced and then rewritten (norms, softmax and their gradients) on a CUDA device: for *_cuda.cu files.
 *
 * A group of T threads has a row: T = 32 (four rows to a block), 128 or 512. Each thread holds up to four times eight numbers of it in
 * registers between the sums and the writing, so memory is touched once. Rows that are longer than 16384 or not aligned are walked one
 * number at a time by 256 threads, again for each sum. A row's sums depend on its length and alignment alone. */
#ifndef LM_ROWS_CUH
#define LM_ROWS_CUH
#include "op/cuda.cuh"
enum { LM_ROW_V = 4 };
template <int T> __device__ __forceinline__ int64_t lm_row_index() { return T == 32 ? static_cast<int64_t>(blockIdx.x) * 4 + threadIdx.y : static_cast<int64_t>(blockIdx.x); }
#define LM_ROW_EACH(T, i, k, d) _Pragma("unroll") for (int i = 0; i < LM_ROW_V; i++) if (const int k = (static_cast<int>(threadIdx.x) + i * T) * 8; k < (d))
/* K<T> is a kernel template taking args by value; args has `rows`. slow: the plain kernel of 256 threads. */
#define LM_ROW_LAUNCH(K, slow, a, wide, d, stream) do {                                                                                      \
    if (!(a).rows) return LM_OK;                                                                                                              \
    if ((a).rows > INT32_MAX) return LM_E_RANGE;                                                                                              \
    const unsigned n_ = static_cast<unsigned>((a).rows);                                                                                      \
    if ((wide) && (d) <= 32 * 8 * LM_ROW_V) K<32><<<(n_ + 3) / 4, dim3(32, 4), 0, stream>>>(a);                                                \
    else if ((wide) && (d) <= 128 * 8 * LM_ROW_V) K<128><<<n_, 128, 0, stream>>>(a);                                                          \
    else if ((wide) && (d) <= 512 * 8 * LM_ROW_V) K<512><<<n_, 512, 0, stream>>>(a);                                                          \
    else slow<<<n_, 256, 0, stream>>>(a);                                                                                                     \
    return lm_cuda_launched(); } while (0)
#endif
