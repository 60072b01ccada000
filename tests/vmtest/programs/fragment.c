/*
 * fragment MIB: lock MIB of shared memory, free every second page of it, and request memory in
 * pieces of four pages until the kernel kills.
 *
 * Where vm.compact_unevictable_allowed is 0, compaction moves no locked page.
 */
#define _GNU_SOURCE
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>

#include "common.h"

/* Its array of 256 struct pipe_buffer, of 40 bytes each, is more than two pages. */
#define PIPE_BYTES (1 << 20)

int main(int argc, char **argv)
{
	size_t page = sysconf(_SC_PAGESIZE);
	size_t size = (argc > 1 ? strtoul(argv[1], NULL, 10) : 0) << 20;
	struct rlimit files = {1 << 20, 1 << 20};
	int id = shmget(IPC_PRIVATE, size, IPC_CREAT | 0600);
	char *memory = id < 0 ? MAP_FAILED : shmat(id, NULL, 0);

	write_file("/proc/self/oom_score_adj", "1000");
	if (memory == MAP_FAILED || shmctl(id, SHM_LOCK, NULL) != 0)
		fail("shared memory");
	shmctl(id, IPC_RMID, NULL);
	for (size_t at = 0; at < size; at += page)
		memory[at] = 1;
	for (size_t at = 0; at < size; at += 2 * page)
		if (madvise(memory + at, page, MADV_REMOVE) != 0)
			fail("madvise");
	if (setrlimit(RLIMIT_NOFILE, &files) != 0)
		fail("setrlimit");
	print_line("fragmented");
	for (;;) {
		int ends[2];

		if (pipe(ends) != 0 || fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES) < 0)
			fail("pipe");
	}
}
