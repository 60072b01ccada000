/*
 * idle_threads PROCS THREADS: enter the cgroup of that cgroup.procs, start so many threads beside
 * the first one, print "ready", and wait.
 */
#include <pthread.h>

#include "common.h"

static void *idle(void *unused)
{
	(void)unused;
	wait_for_ever();
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc != 3)
		return 2;
	enter_cgroup(argv[1]);
	for (int left = atoi(argv[2]); left > 0; left--) {
		if (pthread_create(&thread, NULL, idle, NULL) != 0)
			return 1;
	}
	print_line("ready");
	wait_for_ever();
}
