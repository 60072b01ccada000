/*
 * member PROCS THREADS: move into the cgroup of that cgroup.procs file, start so many threads
 * beside the first, say "ready", and wait.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *wait_for_ever(void *nothing)
{
	for (;;)
		pause();
	return nothing;
}

int main(int count, char **words)
{
	int procs = count > 2 ? open(words[1], O_WRONLY | O_CLOEXEC) : -1;

	if (procs < 0 || write(procs, "0", 1) != 1) {
		perror("member");
		return 1;
	}
	for (int number = atoi(words[2]); number > 0; number--) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, wait_for_ever, NULL) != 0)
			return 1;
	}
	printf("ready\n");
	fflush(stdout);
	wait_for_ever(NULL);
}
