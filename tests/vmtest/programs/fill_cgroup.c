/* fill_cgroup PROCS: enter the cgroup of that cgroup.procs and allocate until the kernel kills. */
#include "common.h"

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	enter_cgroup(argv[1]);
	allocate(0);
}
