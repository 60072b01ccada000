/*
 * bound NODE [PROCS]: be the kernel's first choice, move into the cgroup of that cgroup.procs file
 * if one is given, and take all memory of a node; of that alone, by a policy, unless it is -1.
 */
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MORE_THAN_A_NODE (1UL << 30)

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
	int node = count > 1 ? atoi(words[1]) : -1;
	unsigned long mask = 1UL << (node < 0 ? 0 : node);

	put("/proc/self/oom_score_adj", "1000");
	if (count > 2)
		put(words[2], "0");
	if (node >= 0 && syscall(SYS_set_mempolicy, MPOL_BIND, &mask, sizeof(mask) * 8) != 0) {
		perror("set_mempolicy");
		return 1;
	}
	mmap(NULL, MORE_THAN_A_NODE, PROT_READ | PROT_WRITE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_NORESERVE, -1, 0);
	return 1;
}
