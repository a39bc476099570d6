/* old_driver.c — libcuda.so.1 for tests: the driver of a machine whose card is there, but of a CUDA before this program's (MOCK_CUDA, 11040 if not set). The runtime
 * asks for its version before anything else, so this is all of it (tools/check-cuda.sh).
 *
 * Lifetime, Threads, Errors: none. */
#include <stdlib.h>
#define API __attribute__((visibility("default")))
API int cuInit(unsigned flags);
API int cuDriverGetVersion(int *v);
API int cuInit(unsigned flags) { (void)flags; return 0; }
API int cuDriverGetVersion(int *v) {
    const char *given = getenv("MOCK_CUDA");
    *v = given ? atoi(given) : 11040;
    return 0;
}
