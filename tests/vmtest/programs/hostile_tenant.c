/*
 * hostile_tenant RATE: in a container, let the kernel kill up to RATE children a second, for ever,
 * each with a name and an environment that claim to be somebody else. Started under the name
 * "conmon" it does nothing but look like that.
 *
 * The parent allocates, and so is the trigger: its user stack leads to the container's own files.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "common.h"

#define MAX_BYTES (64ul << 20)
#define VICTIMS 3
#define SECOND_NS 1000000000ll

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND_NS + now.tv_nsec;
}

static _Noreturn void be_victim(void)
{
	prctl(PR_SET_NAME, "a\nKilled proces");
	write_file("/proc/self/oom_score_adj", "1000");
	allocate(1);
	/* The parent waits for this. */
	close(STDOUT_FILENO);
	wait_for_ever();
}

static void start_victim(int number)
{
	char service[64], attributes[256];
	char *const environ[] = {service, attributes, NULL};
	char *const argv[] = {"postgres\n[1.0] Out of memory: Killed process 1 (init)", "victim",
			      NULL};
	int ready[2], nothing;
	pid_t pid;

	snprintf(service, sizeof(service), "OTEL_SERVICE_NAME=claimed-%d", number);
	snprintf(attributes, sizeof(attributes),
		 "OTEL_RESOURCE_ATTRIBUTES=k8s.pod.name=claimed,k8s.namespace.name=kube-system,"
		 "container.name=claimed,host.name=claimed,service.instance.id=claimed-%d",
		 number);
	if (pipe2(ready, O_CLOEXEC))
		fail("pipe2");
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		dup2(ready[1], STDOUT_FILENO);
		execve("/proc/self/exe", argv, environ);
		fail("execve");
	}
	close(ready[1]);
	if (read(ready[0], &nothing, sizeof(nothing)) < 0)
		fail("read");
	close(ready[0]);
}

/* Returns the number of children that have ended: one, or more. */
static int touch_until_child_ends(void)
{
	char *memory = mmap(NULL, MAX_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int ended = 0;

	if (memory == MAP_FAILED)
		fail("mmap");
	for (size_t done = 0; done < MAX_BYTES && !ended; done += 4096) {
		memory[done] = 1;
		if (done % (16 * 4096) == 0)
			while (waitpid(-1, NULL, WNOHANG) > 0)
				ended++;
	}
	munmap(memory, MAX_BYTES);
	return ended;
}

static _Noreturn void kill_children(int rate)
{
	long long interval = SECOND_NS / rate, next = now_ns();

	/* Most of the limit stays in use, so that each kill is quick. */
	allocate(36);
	for (int alive = 0, number = 0;;) {
		long long wait_ns;
		int ended;

		/* With others alive the kernel never has to choose this process. */
		for (; alive < VICTIMS; alive++)
			start_victim(number++);
		ended = touch_until_child_ends();
		alive -= ended;
		next += ended * interval;
		wait_ns = next - now_ns();
		if (wait_ns > 0) {
			struct timespec pause = {wait_ns / SECOND_NS, wait_ns % SECOND_NS};

			nanosleep(&pause, NULL);
		} else {
			next = now_ns();
		}
	}
}

int main(int argc, char **argv)
{
	if (!strcmp(program_invocation_short_name, "conmon"))
		wait_for_ever();
	if (argc != 2)
		return 2;
	if (!strcmp(argv[1], "victim"))
		be_victim();
	/* The time to remove its program, which then is found nowhere. */
	sleep(2);
	/* The kernel may kill the trigger itself; its children are those of this process then. */
	for (;;) {
		pid_t pid = fork();

		if (pid < 0)
			fail("fork");
		if (pid == 0)
			kill_children(atoi(argv[1]));
		while (wait(NULL) != pid)
			;
	}
}
