/*
 * fill_sockets PROCS: enter the cgroup of that cgroup.procs, and send data to itself over TCP that
 * it never reads, until the kernel kills.
 */
#include <arpa/inet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "common.h"

enum { MAX_CONNECTIONS = 400 };

static char page[1 << 16];

/* A guest that has just booted has no network, not even the loopback interface. */
static void start_loopback(int any_socket)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

	if (ioctl(any_socket, SIOCSIFFLAGS, &request) != 0)
		fail("lo");
}

int main(int argc, char **argv)
{
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(own);

	if (argc != 2)
		return 2;
	enter_cgroup(argv[1]);
	start_loopback(listening);
	if (bind(listening, (struct sockaddr *)&own, size) != 0 ||
	    listen(listening, MAX_CONNECTIONS) != 0 ||
	    getsockname(listening, (struct sockaddr *)&own, &size) != 0)
		fail("listen");
	for (int number = 0; number < MAX_CONNECTIONS; number++) {
		int out = socket(AF_INET, SOCK_STREAM, 0);

		if (out < 0 || connect(out, (struct sockaddr *)&own, size) != 0)
			fail("connect");
		while (send(out, page, sizeof(page), MSG_DONTWAIT) > 0)
			;
	}
	return 1;
}
