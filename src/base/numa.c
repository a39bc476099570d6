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
static bool list_in(const char *path, cpu_set_t *set) {
    char text[4096] = "";
    FILE *f = fopen(path, "r");
    if (!f) return false;
    const bool read = fgets(text, sizeof text, f) && strchr(text, '\n');
    fclose(f);
    return read && cpu_list(text, set);
}
int lm_numa_nodes(const char *folder, cpu_set_t *set, int most) {
    cpu_set_t own, online;                                           /* nodes are numbered as cores are, in the same form */
    char path[512];
    int n = 0;
    if (sched_getaffinity(0, sizeof own, &own)) return 0;            /* more cores than a set holds: as if there were one node */
    snprintf(path, sizeof path, "%s/online", folder);
    if (!list_in(path, &online)) return 0;
    for (int i = 0, left = CPU_COUNT(&online); left && n < most; i++) {
        if (!CPU_ISSET(i, &online)) continue;
        left--;
        snprintf(path, sizeof path, "%s/node%d/cpulist", folder, i);
        if (!list_in(path, &set[n])) return 0;
        CPU_AND(&set[n], &set[n], &own);
        n += CPU_COUNT(&set[n]) > 0;                                 /* memory without cores, or cores that are not ours */
    }
    return n;
}
