/*
 * sender PROCS: move into the cgroup of that cgroup.procs file, and send to oneself over TCP what
 * is never read, until the kernel kills.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 400 };

static char page[1 << 16];

static void fail(const char *what)
{
	perror(what);
	_exit(1);
}

/* A machine that has just been booted has no network, not even that to itself. */
static void loopback(int any)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

	if (ioctl(any, SIOCSIFFLAGS, &request) != 0)
		fail("lo");
}

int main(int count, char **words)
{
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int procs = count > 1 ? open(words[1], O_WRONLY | O_CLOEXEC) : -1;
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(own);

	if (procs < 0 || write(procs, "0", 1) != 1)
		fail("sender");
	loopback(listening);
	if (bind(listening, (struct sockaddr *)&own, size) != 0 || listen(listening, MOST) != 0 ||
	    getsockname(listening, (struct sockaddr *)&own, &size) != 0)
		fail("listen");
	for (int number = 0; number < MOST; number++) {
		int out = socket(AF_INET, SOCK_STREAM, 0);

		if (out < 0 || connect(out, (struct sockaddr *)&own, size) != 0)
			fail("connect");
		while (send(out, page, sizeof(page), MSG_DONTWAIT) > 0)
			;
	}
	return 1;
}
