/* sick_card.c — preloaded into a program that uses a GPU, it makes the program's card fail: once the file SICK_WHEN exists, a kernel of its own in the
 * program's context writes to address 0 of device SICK_DEVICE (0). From then on every call of the program for that card fails, as after any kernel's
 * wrong access. bench/gpu.sh's parts faults and multi_faults use it: cc -shared -fPIC -o sick.so sick_card.c -ldl -lpthread; LD_PRELOAD=sick.so loam train …
 *
 * Lifetime: the program's.  Threads: one of its own.  Errors: said on stderr; the program then runs on as it is. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static const char code[] = ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry sick()\n{\n.reg .b64 a;\n.reg .b32 v;\nmov.u64 a, 0;\nmov.u32 v, 1;\nst.global.u32 [a], v;\nret;\n}\n";
typedef int (*call)();                                                      /* the driver's functions, all of the C calling convention, found by name */
static int failed(const char *what, int rc) {
    if (rc) fprintf(stderr, "sick_card: %s gave %d\n", what, rc);
    return rc;
}
static void *wait_and_fall_ill(void *when) {
    while (access(when, F_OK)) usleep(5000);
    void *lib = dlopen("libcuda.so.1", RTLD_NOW), *context = NULL, *module = NULL, *kernel = NULL;
    const char *device = getenv("SICK_DEVICE");
    if (!lib) { fprintf(stderr, "sick_card: %s\n", dlerror()); return NULL; }
    if (!failed("cuDevicePrimaryCtxRetain", ((call)dlsym(lib, "cuDevicePrimaryCtxRetain"))(&context, device ? atoi(device) : 0)) &&
        !failed("cuCtxSetCurrent", ((call)dlsym(lib, "cuCtxSetCurrent"))(context)) &&
        !failed("cuModuleLoadData", ((call)dlsym(lib, "cuModuleLoadData"))(&module, code)) &&
        !failed("cuModuleGetFunction", ((call)dlsym(lib, "cuModuleGetFunction"))(&kernel, module, "sick")))
        failed("cuLaunchKernel", ((call)dlsym(lib, "cuLaunchKernel"))(kernel, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
    return NULL;
}
__attribute__((constructor)) static void begin(void) {
    char *when = getenv("SICK_WHEN");
    pthread_t t;
    if (when && !pthread_create(&t, NULL, wait_and_fall_ill, when)) pthread_detach(t);
}
