/*
 * sharer PROCS: start another process that shares all of this one's memory, and is a child of this
 * one's parent; say its pid. Then move into the cgroup of that cgroup.procs file, alone, and take
 * memory until the kernel kills.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECE = 1 << 20, STACK = 1 << 16 };

static char stack[STACK] __attribute__((aligned(16)));

static int wait_for_ever(void *nothing)
{
	(void)nothing;
	for (;;)
		pause();
	return 0;
}

int main(int count, char **words)
{
	int procs = count > 1 ? open(words[1], O_WRONLY | O_CLOEXEC) : -1;
	pid_t pid = clone(wait_for_ever, stack + STACK, CLONE_VM | CLONE_PARENT | SIGCHLD, NULL);

	if (pid < 0 || procs < 0 || write(procs, "0", 1) != 1) {
		perror("sharer");
		return 1;
	}
	printf("%d\n", pid);
	fflush(stdout);
	for (;;) {
		void *piece = malloc(PIECE);

		if (!piece)
			return 1;
		memset(piece, 1, PIECE);
	}
}
