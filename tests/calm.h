/* calm.h — this machine's ceilings (cmd_machine.c), for all tests of a build that start the program: measured by whichever comes first; the others wait
 * for it rather than measure beside it. Good enough however busy the machine was, so that nothing measures again. One thread's stand for all: no test here
 * depends on rates, and each measurement takes a quarter of a minute in which nothing else runs (test_cmd measures two threads' beside the others).
 *
 * Lifetime: as long as the program they were measured with.  Threads: any processes.  Errors: a failed check. */
#ifndef LM_TEST_CALM_H
#define LM_TEST_CALM_H
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "test.h"
static const char calm_cache[] = LM_PROGRAM "-tests-cache";         /* XDG_CACHE_HOME */

static void calm_shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void calm_shell(const char *fmt, ...) {
    char cmd[4096]; va_list ap;
    va_start(ap, fmt); vsnprintf(cmd, sizeof cmd, fmt, ap); va_end(ap);
    if (system(cmd)) { lm_t_fail++; printf("%s failed\n", cmd); }
}
__attribute__((unused)) static void calm(void) {
    static bool did;
    if (did) return;
    did = true;
    mkdir(calm_cache, 0777);
    const int lock = open(LM_PROGRAM "-tests-cache/lock", O_RDWR | O_CREAT, 0666);
    LM_CHECK(lock >= 0 && !flock(lock, LOCK_EX));
    struct stat mark, program;
    if (stat(LM_PROGRAM "-tests-cache/calm", &mark) || stat(LM_PROGRAM, &program) || mark.st_mtime < program.st_mtime) {
        calm_shell("XDG_CACHE_HOME='%s' '%s' bench ceilings --json --quiet --threads 1 > /dev/null", calm_cache, LM_PROGRAM);
        calm_shell("sed -i 's/\"share\": [0-9.]*/\"share\": 1/' '%s'/loam/*.json", calm_cache);
        for (int t = 2; t <= 7; t += 5)
            calm_shell("for f in '%s'/loam/machine-*-1.json; do sed 's/\"threads\": 1,/\"threads\": %d,/' \"$f\" > \"${f%%-1.json}-%d.json\"; done", calm_cache, t, t);
        calm_shell("touch '%s/calm'", calm_cache);
    }
    close(lock);
}
#endif
