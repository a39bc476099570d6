/* test_python.c — the Python package over the shared library of this build: python/tests/test_loam.py, whose cases are counted as ours. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include "tests/test.h"

int main(void) {
    char line[4000], cmd[4000];
    int cases = 0, failed = 0, skipped = 0, said = 0;
    const char *bin = strrchr(LM_PROGRAM, '/');
    snprintf(cmd, sizeof cmd, "PYTHONDONTWRITEBYTECODE=1 LOAM_ROOT='%s' LOAM_PROGRAM='%s' LOAM_LIBRARY='%.*s/libloam.so' python3 '%s/python/tests/test_loam.py' 2>&1",
             LM_ROOT, LM_PROGRAM, (int)(bin - LM_PROGRAM), LM_PROGRAM, LM_ROOT);
    FILE *f = popen(cmd, "r");
    if (!f) { perror("python3"); return 1; }
    while (fgets(line, sizeof line, f)) {
        said |= sscanf(line, "%d cases, %d failed, %d skipped", &cases, &failed, &skipped) == 3;
        fputs(line, stdout);
    }
    const int rc = pclose(f), bad = !WIFEXITED(rc) || WEXITSTATUS(rc) || !said || !cases;
    if (bad && !failed) printf("%d cases, %d failed, %d skipped\n", cases + 1, 1, skipped);
    return bad;
}
