/*
 * leaver PROCS MIB: move into the cgroup of that cgroup.procs file, take so much memory, say
 * "ready", and exit as soon as the kernel's log says that somebody has asked for too much. The
 * kernel has then chosen whom to kill, and is still busy with its report.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char record[8192];

int main(int count, char **words)
{
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int procs = count > 2 ? open(words[1], O_WRONLY | O_CLOEXEC) : -1;
	size_t size = count > 2 ? strtoul(words[2], NULL, 10) << 20 : 0;
	void *memory;

	if (log < 0 || procs < 0 || write(procs, "0", 1) != 1) {
		perror("leaver");
		return 1;
	}
	memory = malloc(size);
	if (!memory || mlockall(MCL_CURRENT) != 0)
		return 1;
	memset(memory, 1, size);
	lseek(log, 0, SEEK_END);
	printf("ready\n");
	fflush(stdout);
	/* Not poll(): whoever waits is woken up at the next tick of the clock only. */
	for (;;) {
		ssize_t got = read(log, record, sizeof(record) - 1);

		if (got < 0 && errno != EAGAIN && errno != EPIPE)
			return 1;
		if (got > 0 && memmem(record, got, "invoked oom-killer", 18))
			_exit(0);
	}
}
