/*
 * hog PROCS: move into the cgroup of that cgroup.procs file and take memory until the kernel
 * kills.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECE = 1 << 20 };

int main(int count, char **words)
{
	int procs = count > 1 ? open(words[1], O_WRONLY | O_CLOEXEC) : -1;

	if (procs < 0 || write(procs, "0", 1) != 1) {
		perror("hog");
		return 1;
	}
	for (;;) {
		void *piece = malloc(PIECE);

		if (!piece)
			return 1;
		memset(piece, 1, PIECE);
	}
}
