/*
 * hold_in_exit PROCS MIB: trace a process that enters the cgroup of that cgroup.procs and allocates
 * so much memory, or with 0 allocates until the kernel kills. Whatever ends that process, it is
 * held in do_exit(), where it still has its memory, until standard input ends.
 *
 * Prints the pid of the process, "ready" when it has the memory, and "exiting" when it is held.
 */
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "common.h"

/* Allocate once the parent traces this process. */
static _Noreturn void run_traced(const char *procs, int mib, int start)
{
	char byte;

	if (read(start, &byte, 1) != 1)
		_exit(1);
	enter_cgroup(procs);
	allocate(mib);
	print_line("ready");
	wait_for_ever();
}

int main(int argc, char **argv)
{
	int start[2], status;
	char byte;
	pid_t pid;

	if (argc != 3 || pipe(start) != 0)
		return 2;
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (pid == 0)
		run_traced(argv[1], atoi(argv[2]), start[0]);
	if (ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACEEXIT) != 0)
		fail("ptrace");
	print_id(pid);
	if (write(start[1], "", 1) != 1)
		fail("write");

	if (waitpid(pid, &status, 0) != pid)
		fail("waitpid");
	if (!WIFSTOPPED(status) || status >> 8 != (SIGTRAP | PTRACE_EVENT_EXIT << 8))
		return 1;
	print_line("exiting");
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	if (ptrace(PTRACE_CONT, pid, NULL, NULL) != 0)
		fail("ptrace");
	return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) ? 0 : 1;
}
