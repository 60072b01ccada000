/*
 * grow PROCS HOW NUMBER [DEVICE]: enter the cgroup of that cgroup.procs, and use memory until the
 * kernel kills. It prints a line when the growth begins and after each MiB: the time on
 * CLOCK_BOOTTIME in nanoseconds, and the MiB so far.
 *
 * leak MIB: so many MiB each second. spike SECONDS: after that time, at once. plateau SECONDS: fill
 * the cgroup with page cache of DEVICE, wait, and go on with anonymous memory.
 */
#include <sys/mman.h>
#include <time.h>

#include "common.h"

#define PIECE (1UL << 20)
#define POPULATED (32UL << 20)

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_BOOTTIME, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void print_step(void)
{
	static int mib;

	printf("%lld %d\n", now(), mib++);
	fflush(stdout);
}

static void sleep_until(long long when)
{
	struct timespec time = {when / 1000000000, when % 1000000000};

	while (clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &time, NULL))
		;
}

static _Noreturn void allocate_fast(void)
{
	for (;;) {
		char *piece = mmap(NULL, POPULATED, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (piece == MAP_FAILED)
			fail("mmap");
		/* Emulated, single pages take ten times as long. */
		madvise(piece, POPULATED, MADV_HUGEPAGE);
		for (unsigned long offset = 0; offset < POPULATED; offset += 4096) {
			piece[offset] = 1;
			if ((offset + 4096) % PIECE == 0)
				print_step();
		}
	}
}

int main(int argc, char **argv)
{
	long long begin = now();
	int number = argc > 3 ? atoi(argv[3]) : 0;

	if (argc < 4)
		return 2;
	write_file("/proc/self/oom_score_adj", "1000");
	enter_cgroup(argv[1]);
	if (!strcmp(argv[2], "leak")) {
		print_step();
		for (long long piece = 1;; piece++) {
			allocate(1);
			print_step();
			/* By the clock, so that no delay adds up. */
			sleep_until(begin + piece * 1000000000LL / number);
		}
	}
	if (!strcmp(argv[2], "plateau")) {
		static char read_into[PIECE];
		int device = open(argv[4], O_RDONLY | O_CLOEXEC);

		if (device < 0)
			fail(argv[4]);
		print_step();
		while (read(device, read_into, PIECE) > 0)
			print_step();
		begin = now();
	}
	sleep_until(begin + number * 1000000000LL);
	if (!strcmp(argv[2], "spike"))
		print_step();
	allocate_fast();
}
