/*
 * sleepers PROCS COUNT: enter the cgroup of that cgroup.procs, fork COUNT processes that wait,
 * print "ready", and wait.
 */
#include "common.h"

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	enter_cgroup(argv[1]);
	for (int left = atoi(argv[2]); left > 0; left--) {
		pid_t pid = fork();

		if (pid < 0)
			fail("fork");
		if (pid == 0)
			wait_for_ever();
	}
	print_line("ready");
	wait_for_ever();
}
