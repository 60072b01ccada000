/*
 * storm PROCS COUNT: one after the other, have COUNT processes move into the cgroup of that
 * cgroup.procs file and take memory until the kernel kills them; print the pid of each.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PIECE = 1 << 20 };

static void eat(int procs)
{
	if (write(procs, "0", 1) != 1)
		_exit(1);
	for (;;) {
		void *piece = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				   -1, 0);

		if (piece == MAP_FAILED)
			_exit(1);
		memset(piece, 1, PIECE);
	}
}

int main(int count, char **words)
{
	int procs = count > 2 ? open(words[1], O_WRONLY | O_CLOEXEC) : -1;
	int left = count > 2 ? atoi(words[2]) : 0;

	if (procs < 0) {
		perror("storm");
		return 1;
	}
	for (; left > 0; left--) {
		int status;
		pid_t pid = fork();

		if (pid == 0)
			eat(procs);
		if (pid < 0 || waitpid(pid, &status, 0) != pid) {
			perror("storm");
			return 1;
		}
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
			fprintf(stderr, "storm: %d was not killed\n", pid);
			return 1;
		}
		printf("%d\n", pid);
	}
	return 0;
}
