#ifndef OTEL_OOM_TEST_COMMON_H
#define OTEL_OOM_TEST_COMMON_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline _Noreturn void fail(const char *what)
{
	perror(what);
	_exit(1);
}

static inline void write_file(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);

	if (file < 0 || write(file, text, strlen(text)) < 0)
		fail(path);
	close(file);
}

/* `procs` is the path of the cgroup's cgroup.procs. */
static inline void enter_cgroup(const char *procs)
{
	write_file(procs, "0");
}

/* Allocate and touch so much memory; with 0, until the kernel kills. */
static inline void allocate(int mib)
{
	for (int done = 0; !mib || done < mib; done++) {
		void *piece = malloc(1 << 20);

		if (!piece)
			_exit(1);
		memset(piece, 1, 1 << 20);
	}
}

static inline void print_line(const char *text)
{
	printf("%s\n", text);
	fflush(stdout);
}

static inline void print_id(pid_t id)
{
	printf("%d\n", id);
	fflush(stdout);
}

static inline _Noreturn void wait_for_ever(void)
{
	for (;;)
		pause();
}

#endif /* OTEL_OOM_TEST_COMMON_H */
