/*
 * fill_node NODE [PROCS]: with oom_score_adj 1000, enter the cgroup of that cgroup.procs, if given,
 * and allocate more memory than a NUMA node has: by a memory policy from node NODE only, or with -1
 * from any.
 */
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "common.h"

#define MORE_THAN_A_NODE (1UL << 30)

int main(int argc, char **argv)
{
	int node = argc > 1 ? atoi(argv[1]) : -1;
	unsigned long mask = 1UL << (node < 0 ? 0 : node);

	write_file("/proc/self/oom_score_adj", "1000");
	if (argc > 2)
		enter_cgroup(argv[2]);
	if (node >= 0 && syscall(SYS_set_mempolicy, MPOL_BIND, &mask, sizeof(mask) * 8) != 0)
		fail("set_mempolicy");
	mmap(NULL, MORE_THAN_A_NODE, PROT_READ | PROT_WRITE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_NORESERVE, -1, 0);
	return 1;
}
