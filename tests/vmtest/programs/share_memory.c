/*
 * share_memory PROCS: start another process that shares all memory with this one and is a child of
 * its parent, and print its pid. Then enter the cgroup of that cgroup.procs, alone, and allocate
 * until the kernel kills.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>

#include "common.h"

static char stack[1 << 16] __attribute__((aligned(16)));

static int idle(void *unused)
{
	(void)unused;
	wait_for_ever();
}

int main(int argc, char **argv)
{
	pid_t pid;

	if (argc != 2)
		return 2;
	pid = clone(idle, stack + sizeof(stack), CLONE_VM | CLONE_PARENT | SIGCHLD, NULL);
	if (pid < 0)
		fail("clone");
	enter_cgroup(argv[1]);
	print_id(pid);
	allocate(0);
}
