/* cmd_shipped.c — see cmd_shipped.h. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/file.h"
#include "cmd/cmd_shipped.h"

#ifdef LM_EMBED_MODEL
__asm__(".section .rodata\n.balign 64\nlm_model_first:\n.incbin \"" LM_EMBED_MODEL "\"\nlm_model_last:\n.byte 0\n.previous\n");
extern const char first[] __asm__("lm_model_first"), last[] __asm__("lm_model_last");
/* Files are mapped and read by path everywhere: the bytes become a file in memory, /proc/self/fd/N. */
static lm_err embedded(lm_cli *cli, const char *name, const char **path) {
    static int fd = -1;
    if (strcmp(name, LM_EMBED_NAME)) return LM_E_NOTFOUND;
    if (fd < 0) {
        fd = memfd_create(name, MFD_CLOEXEC);
        if (fd < 0) return lm_fail(cli->ctx, LM_E_IO, "a file in memory for the program's own model cannot be had: %s", strerror(errno));
        for (const char *p = first; p < last;) {
            const ssize_t k = write(fd, p, (size_t)(last - p));
            if (k < 0 && errno == EINTR) continue;
            if (k <= 0) { close(fd); fd = -1; return lm_fail(cli->ctx, LM_E_IO, "the program's own model cannot be unpacked: %s", strerror(errno)); }
            p += k;
        }
    }
    *path = lm_arena_printf(cli->a, "/proc/self/fd/%d", fd);
    return *path ? LM_OK : LM_E_NOMEM;
}
#else
static lm_err embedded(lm_cli *cli, const char *name, const char **path) { (void)cli; (void)name; (void)path; return LM_E_NOTFOUND; }
#endif
static lm_err find(lm_cli *cli, const char *name, const char **path) {
    char exe[4096];
    const ssize_t k = readlink("/proc/self/exe", exe, sizeof exe - 1);
    char *slash = NULL;
    if (k > 0) { exe[k] = 0; slash = strrchr(exe, '/'); }
    if (slash) {
        *path = lm_arena_printf(cli->a, "%.*s/../share/loam/models/%s.gguf", (int)(slash - exe), exe, name);
        if (!*path) return LM_E_NOMEM;
        if (lm_exists(*path)) return LM_OK;
    }
    *path = lm_arena_printf(cli->a, LM_MODELS "/%s.gguf", name);
    if (!*path) return LM_E_NOMEM;
    return lm_exists(*path) ? LM_OK : embedded(cli, name, path);
}
lm_err lm_cmd_shipped(lm_cli *cli, const char *name, const char **path) {
    lm_err err = find(cli, name ? name : LM_SHIPPED_LARGE, path);
    if (err == LM_E_NOTFOUND && !name) err = find(cli, LM_SHIPPED_SMALL, path);
    if (err != LM_E_NOTFOUND) return err;
    return lm_fail(cli->ctx, err, "no shipped model is there (%s.gguf): neither in ../share/loam/models beside the program nor in %s; name a MODEL",
                   name ? name : LM_SHIPPED_LARGE, LM_MODELS);
}
lm_err lm_cmd_model_path(lm_cli *cli, const char *model, const char **path) {
    if (model && (lm_exists(model) || (strcmp(model, LM_SHIPPED_LARGE) && strcmp(model, LM_SHIPPED_SMALL)))) { *path = model; return LM_OK; }
    return lm_cmd_shipped(cli, model, path);
}
