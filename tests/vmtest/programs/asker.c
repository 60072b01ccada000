/*
 * asker PROCS MIB: move into the cgroup of that cgroup.procs file, spared by the kernel, and have a
 * second thread take so much memory. Says that thread's id, and "ready" when it has the memory.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *ask(void *mib)
{
	size_t size = (size_t)atoi(mib) << 20;
	void *memory = malloc(size);

	pthread_setname_np(pthread_self(), "asker-2");
	printf("%d\n", gettid());
	fflush(stdout);
	if (!memory)
		_exit(1);
	memset(memory, 1, size);
	printf("ready\n");
	fflush(stdout);
	return memory;
}

static void put(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);

	if (file < 0 || write(file, text, strlen(text)) < 0) {
		perror(path);
		exit(1);
	}
	close(file);
}

int main(int count, char **words)
{
	pthread_t thread;

	if (count != 3)
		return 2;
	put("/proc/self/oom_score_adj", "-1000");
	put(words[1], "0");
	if (pthread_create(&thread, NULL, ask, words[2]) != 0)
		return 1;
	for (;;)
		pause();
}
