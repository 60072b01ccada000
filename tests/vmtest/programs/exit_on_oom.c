/*
 * exit_on_oom PROCS MIB: enter the cgroup of that cgroup.procs, allocate so much memory, print
 * "ready", and exit as soon as the kernel log has the first line of an OOM report. The kernel has
 * chosen its victim by then, and is still printing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>

#include "common.h"

static char record[8192];

int main(int argc, char **argv)
{
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (argc != 3)
		return 2;
	if (log < 0)
		fail("/dev/kmsg");
	enter_cgroup(argv[1]);
	allocate(atoi(argv[2]));
	if (mlockall(MCL_CURRENT) != 0)
		fail("mlockall");
	lseek(log, 0, SEEK_END);
	print_line("ready");
	/* Not poll(): it wakes up only at the next tick of the clock. */
	for (;;) {
		ssize_t len = read(log, record, sizeof(record) - 1);

		if (len < 0 && errno != EAGAIN && errno != EPIPE)
			fail("read");
		if (len > 0 && memmem(record, len, "invoked oom-killer", 18))
			_exit(0);
	}
}
