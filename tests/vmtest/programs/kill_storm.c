/*
 * kill_storm PROCS COUNT: one after the other, let COUNT processes enter the cgroup of that
 * cgroup.procs and allocate until the kernel kills them. Prints the pid of each.
 */
#include <signal.h>
#include <sys/wait.h>

#include "common.h"

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	for (int left = atoi(argv[2]); left > 0; left--) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			enter_cgroup(argv[1]);
			allocate(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			fail("fork");
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
			fprintf(stderr, "kill_storm: %d was not killed\n", pid);
			return 1;
		}
		printf("%d\n", pid);
	}
	return 0;
}
