/*
 * A process for the OOM killer, as its arguments say: each is a word, done one after another, so
 * that a scenario reads as a sentence:
 *
 *     victim enter=/sys/fs/cgroup/x/cgroup.procs threads=8 hold=20 say wait
 *
 * It is C, and static, because a guest is emulated: this starts in a tenth of the time that Python
 * takes. What it cannot do it tells on standard error, and exits with 3.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1UL << 20)
#define MPOL_BIND 2
#define SLEEPER_STACK (64 * 1024)

static void run(char **words);

static void fail(const char *what)
{
	fprintf(stderr, "victim: %s: %s\n", what, strerror(errno));
	exit(3);
}

static void must(int fine, const char *what)
{
	if (!fine)
		fail(what);
}

static void put(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);

	must(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text), path);
	close(file);
}

static void say(const char *what, long number)
{
	printf("%s %ld\n", what, number);
	fflush(stdout);
}

/* Someone who lets us wait has closed or written to our standard input. */
static void await(void)
{
	char byte;

	while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR)
		;
}

static void *sleeper(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static void *rest_of(void *words)
{
	run(words);
	return NULL;
}

static void thread(void *(*does)(void *), void *with)
{
	pthread_t id;

	must((errno = pthread_create(&id, NULL, does, with)) == 0, "pthread_create");
}

static void hold(unsigned long size)
{
	long page = sysconf(_SC_PAGESIZE);
	volatile char *memory =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must((void *)memory != MAP_FAILED, "mmap");
	for (unsigned long at = 0; at < size; at += page)
		memory[at] = 1;
}

/* By write(2), which fails where a page fault would be tried again without end. */
static void fill_file(void)
{
	static char block[64 * 1024];
	int file = memfd_create("fill", MFD_CLOEXEC);

	must(file >= 0, "memfd_create");
	memset(block, 1, sizeof(block));
	while (write(file, block, sizeof(block)) > 0)
		;
	say("refused", errno);
}

static void bind_to(unsigned long node)
{
	unsigned long nodes = 1UL << node;

	must(syscall(SYS_set_mempolicy, MPOL_BIND, &nodes, sizeof(nodes) * 8) == 0,
	     "set_mempolicy");
}

static int sleep_apart(void *unused)
{
	(void)unused;
	for (;;)
		pause();
	return 0;
}

/* Another process, our parent's child, in our memory. */
static void share(void)
{
	char *stack = malloc(SLEEPER_STACK);
	int pid =
		clone(sleep_apart, stack + SLEEPER_STACK, CLONE_VM | CLONE_PARENT | SIGCHLD, NULL);

	must(pid > 0, "clone");
	say("sharer", pid);
}

/* How a child ended, as a shell has it. */
static int ended(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Each of many does the rest, one after another. */
static void storm(int many, char **words)
{
	while (many--) {
		pid_t pid = fork();

		must(pid >= 0, "fork");
		if (pid == 0)
			run(words);
		say("victim", pid);
		must(ended(pid) == 128 + SIGKILL, "a victim was not killed");
	}
	exit(0);
}

/* A child, which may be the first of a PID namespace, does the rest: its fate is ours. */
static void child(char **words)
{
	pid_t pid = fork();

	must(pid >= 0, "fork");
	if (pid == 0)
		run(words);
	say("victim", pid);
	exit(ended(pid));
}

/* Likewise, but we trace it: it stands still at the beginning of its exit, with all that it holds,
 * for as long as we want, and SIGKILL does not change that. */
static void stuck(char **words)
{
	int status;
	pid_t pid = fork();

	must(pid >= 0, "fork");
	if (pid == 0) {
		must(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0, "PTRACE_TRACEME");
		raise(SIGSTOP);
		run(words);
	}
	must(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status), "the child did not stop");
	must(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACEEXIT) == 0, "PTRACE_SETOPTIONS");
	must(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0, "PTRACE_CONT");
	say("victim", pid);
	must(waitpid(pid, &status, 0) == pid && status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8),
	     "the child did not stop at its exit");
	say("stuck", pid);
	await();
	must(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0, "PTRACE_CONT");
	exit(ended(pid));
}

/* Exit of our own accord between our choice by the OOM killer and our kill: while the kernel
 * prints its report. */
static void vanish(void)
{
	char record[8192];
	int log = open("/dev/kmsg", O_RDONLY | O_CLOEXEC);

	must(log >= 0 && lseek(log, 0, SEEK_END) >= 0, "/dev/kmsg");
	say("ready", getpid());
	for (;;) {
		ssize_t got = read(log, record, sizeof(record) - 1);

		must(got > 0 || errno == EPIPE, "/dev/kmsg");
		if (got > 0 && memmem(record, got, "invoked oom-killer", 18))
			_exit(0);
	}
}

static int is(const char *word, const char *name, const char **value)
{
	size_t length = strlen(name);

	*value = word + length;
	return strncmp(word, name, length) == 0;
}

static void run(char **words)
{
	const char *value;

	for (char *word; (word = *words) != NULL; words++) {
		if (is(word, "enter=", &value))
			put(value, "0");
		else if (is(word, "score=", &value))
			put("/proc/self/oom_score_adj", value);
		else if (is(word, "name=", &value))
			must(prctl(PR_SET_NAME, value) == 0, "PR_SET_NAME");
		else if (is(word, "user=", &value))
			must(setuid(atoi(value)) == 0, "setuid");
		else if (is(word, "bind=", &value))
			bind_to(atoi(value));
		else if (is(word, "threads=", &value))
			for (int left = atoi(value); left > 0; left--)
				thread(sleeper, NULL);
		else if (is(word, "hold=", &value))
			hold(atoi(value) * MIB);
		else if (is(word, "storm=", &value))
			storm(atoi(value), words + 1);
		else if (strcmp(word, "thread") == 0) {
			thread(rest_of, words + 1);
			sleeper(NULL);
		} else if (strcmp(word, "leaderless") == 0) {
			thread(rest_of, words + 1);
			syscall(SYS_exit, 0); /* of this thread alone */
		} else if (strcmp(word, "pidns") == 0) {
			must(unshare(CLONE_NEWPID) == 0, "CLONE_NEWPID");
			child(words + 1);
		} else if (strcmp(word, "stuck") == 0)
			stuck(words + 1);
		else if (strcmp(word, "share") == 0)
			share();
		else if (strcmp(word, "vanish") == 0)
			vanish();
		else if (strcmp(word, "fill") == 0)
			fill_file();
		else if (strcmp(word, "say") == 0)
			say("ready", gettid());
		else if (strcmp(word, "await") == 0)
			await();
		else if (strcmp(word, "wait") == 0)
			sleeper(NULL);
		else if (strcmp(word, "eat") == 0)
			for (;;)
				hold(MIB);
		else
			must((errno = EINVAL) == 0, word);
	}
	exit(0);
}

int main(int count, char **words)
{
	(void)count;
	run(words + 1);
}
