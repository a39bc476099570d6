/* numa.h — nodes: groups of cores with memory of their own, near to them and far from the others.
 *
 * Memory comes to lie on the node of the thread that first writes to it. So that products read near memory, helpers of a pool stay on one node each
 * (pool.c), where there are several, and weights are read by the member that will multiply them (lm_pool_runs).
 *
 * Lifetime: none.  Threads: any.  Errors: what cannot be read counts as one node. */
#ifndef LM_NUMA_H
#define LM_NUMA_H
#include "base/base.h"
#include <sched.h>                        /* with _GNU_SOURCE */
#define LM_NUMA_FOLDER "/sys/devices/system/node"
enum { LM_NUMA_MOST = 64 };
/* The cores of each node that this process may run on, into set[most]; nodes without such cores are left out. 0: not known. */
int lm_numa_nodes(const char *folder, cpu_set_t *set, int most);
#endif
