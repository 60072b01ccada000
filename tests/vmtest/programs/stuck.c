/*
 * stuck PROCS MIB: trace a process that moves into the cgroup of that cgroup.procs file and takes
 * so much memory, or with 0 takes it until the kernel kills. Whatever ends that process, it is
 * held in its exit, where it still has its memory, until standard input ends.
 *
 * Says the process's pid, "ready" from within it, and "exiting" once it is held.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PIECE = 1 << 20 };

static void say(const char *word)
{
	printf("%s\n", word);
	fflush(stdout);
}

static void fail(const char *what)
{
	perror(what);
	_exit(1);
}

static void held(const char *path, int pieces, int go)
{
	int procs = open(path, O_WRONLY | O_CLOEXEC);
	char byte;

	if (read(go, &byte, 1) != 1)
		_exit(1);
	if (procs < 0 || write(procs, "0", 1) != 1)
		fail(path);
	for (int done = 0; !pieces || done < pieces; done++) {
		void *piece = malloc(PIECE);

		if (!piece)
			_exit(1);
		memset(piece, 1, PIECE);
	}
	say("ready");
	for (;;)
		pause();
}

int main(int count, char **words)
{
	int go[2], status;
	char byte;
	pid_t pid;

	if (count != 3 || pipe(go) != 0)
		return 2;
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (pid == 0)
		held(words[1], atoi(words[2]), go[0]);
	if (ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACEEXIT) != 0)
		fail("ptrace");
	printf("%d\n", pid);
	fflush(stdout);
	if (write(go[1], "", 1) != 1)
		fail("write");

	if (waitpid(pid, &status, 0) != pid)
		fail("waitpid");
	if (!WIFSTOPPED(status) || status >> 8 != (SIGTRAP | PTRACE_EVENT_EXIT << 8))
		return 1;
	say("exiting");
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	if (ptrace(PTRACE_CONT, pid, NULL, NULL) != 0)
		fail("ptrace");
	return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) ? 0 : 1;
}
