/*
 * alloc_in_thread PROCS MIB: enter the cgroup of that cgroup.procs, with oom_score_adj -1000, and
 * allocate so much memory in a second thread. Prints the id of that thread, then "ready" when it
 * has the memory.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "common.h"

static void *allocate_in_thread(void *mib)
{
	pthread_setname_np(pthread_self(), "alloc-thread");
	print_id(gettid());
	allocate(atoi(mib));
	print_line("ready");
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc != 3)
		return 2;
	write_file("/proc/self/oom_score_adj", "-1000");
	enter_cgroup(argv[1]);
	if (pthread_create(&thread, NULL, allocate_in_thread, argv[2]) != 0)
		return 1;
	wait_for_ever();
}
