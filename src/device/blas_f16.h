/* blas_f16.h — products of IEEE half by the vendor's library: lm_dev_matmul (device/device.h) where what a flag calls bf16 is half instead.
 *
 * Lifetime: none.  Threads: as lm_dev_matmul's.  Errors: LM_E_UNSUPPORTED where the library has no algorithm for a shape. */
#ifndef LM_DEVICE_BLAS_F16_H
#define LM_DEVICE_BLAS_F16_H
#include "device/device.h"
lm_err lm_dev_matmul_f16(lm_dev *d, const lm_dev_gemm *g);
#endif
