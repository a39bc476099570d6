/* numa.c — which cores share memory of their own: /sys/devices/system/node. */
#define _GNU_SOURCE 1
#include "base/internal.h"
#include "base/numa.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "0-3,8,10-11"; false: something else stands there */
static bool cpu_list(const char *s, cpu_set_t *set) {
    CPU_ZERO(set);
    while (*s && *s != '\n') {
        char *end, *digits = (char *)s;
        const long from = strtol(s, &end, 10);
        long to = from;
        if (end != s && *end == '-') { digits = end + 1; to = strtol(digits, &end, 10); }
        if (end == digits || from < 0 || to < from || to >= CPU_SETSIZE || (*end && !strchr(",\n", *end))) return false;
        for (long i = from; i <= to; i++) CPU_SET((int)i, set);
        s = *end == ',' ? end + 1 : end;
    }
    return true;
}
int lm_numa_nodes(const char *folder, cpu_set_t *set, int most) {
    enum { NUMBERS = 256 };                                          /* of nodes; there may be gaps */
    cpu_set_t own;
    int n = 0;
    if (sched_getaffinity(0, sizeof own, &own)) return 0;            /* more cores than a set holds: as if there were one node */
    for (int i = 0; i < NUMBERS && n < most; i++) {
        char path[512], text[4096] = "";
        snprintf(path, sizeof path, "%s/node%d/cpulist", folder, i);
        FILE *f = fopen(path, "r");
        if (!f) continue;
        const bool read = fgets(text, sizeof text, f) && strchr(text, '\n');
        fclose(f);
        if (!read || !cpu_list(text, &set[n])) return 0;
        CPU_AND(&set[n], &set[n], &own);
        n += CPU_COUNT(&set[n]) > 0;                                 /* memory without cores, or cores that are not ours */
    }
    return n;
}
