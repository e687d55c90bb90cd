/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Moves bytes between host and program.
 *
 *     stream VARIANT read MIB PIPE_SIZE PROGRAM [ARGUMENT]...
 *     stream VARIANT echo MIB PROGRAM [ARGUMENT]...
 *     stream VARIANT turn COUNT PROGRAM [ARGUMENT]...
 *     stream VARIANT turn-pty COUNT PROGRAM [ARGUMENT]...
 *     stream netrunner calls ROUNDS PROGRAM [ARGUMENT]...
 *
 * read: all that the program writes, 64 KiB at a time: "read" in MiB/s, and
 * "cpu", what it took of this process's time, in ms. echo: MIB through cat(1) and
 * back, "echo" in ms. turn: a byte, or a line on a terminal, through cat(1) and
 * back, "turn" in us. calls: nr_read() and nr_write() beside read(2) and write(2)
 * on the same pipe, which has bytes or room: "raw:read@1",
 * "netrunner:read@1", ... in ns.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netrunner.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"

static char buf[64 << 10];

static void wait_for(struct pollfd *fds, nfds_t n)
{
	while (poll(fds, n, -1) < 0)
		if (errno != EINTR)
			fail("poll", errno);
}

static ssize_t read_some(const struct way *way, struct program *p)
{
	ssize_t n;

	while ((n = way->read(p, buf, sizeof buf)) == -EAGAIN)
		wait_for(&(struct pollfd){ .fd = p->fds[1], .events = POLLIN }, 1);
	if (n < 0)
		fail("read", n);
	return n;
}

static void set_nonblocking(const struct way *way, struct program *p)
{
	if (is_ours(way))
		return;
	for (int i = 0; i < 2; i++)
		fcntl(p->fds[i], F_SETFL, O_NONBLOCK);
}

static double cpu_ms(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3 +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3;
}

static void read_all(const struct way *way, long mib, uint32_t pipe_size, const char *const *argv)
{
	struct program p;
	int64_t start, bytes = 0;
	double cpu;
	ssize_t n;

	way->start(&p, argv, pipe_size);
	start = now_ns();
	cpu = cpu_ms();
	while ((n = read_some(way, &p)) > 0)
		bytes += n;
	if (bytes != (int64_t)mib << 20)
		fail("read: bytes are missing", EIO);
	printf("read %.1f\n", (double)mib * 1e9 / (double)(now_ns() - start));
	printf("cpu %.1f\n", cpu_ms() - cpu);
	way->wait(&p);
	way->release(&p);
}

static void echo(const struct way *way, long mib, const char *const *argv)
{
	static const char data[64 << 10];
	int64_t start, to_write = (int64_t)mib << 20, to_read = to_write;
	struct program p;

	way->start(&p, argv, 0);
	set_nonblocking(way, &p);
	start = now_ns();
	while (to_read > 0) {
		ssize_t r = way->read(&p, buf, sizeof buf), w = -EAGAIN;

		if (to_write > 0)
			w = way->write(&p, data,
				       to_write < (int64_t)sizeof data ? (size_t)to_write
								       : sizeof data);
		if ((r < 0 && r != -EAGAIN) || r == 0 || (w < 0 && w != -EAGAIN))
			fail("echo", r < 0 && r != -EAGAIN ? r : w);
		to_read -= r > 0 ? r : 0;
		to_write -= w > 0 ? w : 0;
		if (w > 0 && to_write == 0)
			way->close_stdin(&p);
		if (r < 0 && w < 0) {
			struct pollfd fds[] = { { .fd = p.fds[1], .events = POLLIN },
						{ .fd = to_write ? p.fds[0] : -1,
						  .events = POLLOUT } };

			wait_for(fds, 2);
		}
	}
	printf("echo %.2f\n", (double)(now_ns() - start) / 1e6);
	way->wait(&p);
	way->release(&p);
}

static void turn(const struct way *way, long count, bool terminal, const char *const *argv)
{
	struct program p;

	if (terminal)
		way->start_pty(&p, argv);
	else
		way->start(&p, argv, 0);
	set_nonblocking(way, &p);
	for (long i = -50; i < count; i++) {
		ssize_t got = 0, wanted = terminal ? 2 : 1; /* \n is \r\n there */
		int64_t start = now_ns();

		if (way->write(&p, "\n", 1) != 1)
			fail("write", EIO);
		while (got < wanted)
			got += read_some(way, &p);
		if (i >= 0)
			printf("turn %.2f\n", (double)(now_ns() - start) / 1e3);
	}
	way->kill(&p);
	way->wait(&p);
	way->release(&p);
}

/* An end of a pipe of the program's, to be the program. */
static int end_of(pid_t pid, int fd, int flags)
{
	char path[64];
	int end;

	snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
	end = open(path, flags | O_CLOEXEC);
	if (end < 0)
		fail(path, errno);
	return end;
}

static void move(ssize_t n, size_t wanted)
{
	if (n != (ssize_t)wanted)
		fail("moved less than there was", EIO);
}

static void calls(const struct way *way, long rounds, const char *const *argv)
{
	static const size_t sizes[] = { 1, 4 << 10, 64 << 10 };
	struct program p;
	int far_out, far_in;

	way->start(&p, argv, sizeof buf);
	far_out = end_of(way->pid(&p), 1, O_WRONLY);
	far_in = end_of(way->pid(&p), 0, O_RDONLY);
	for (long round = -1; round < rounds; round++) {
		for (size_t s = 0; s < COUNT_OF(sizes); s++) {
			size_t size = sizes[s], times = size == 1 ? 4096 : sizeof buf / size;

			for (int ours = 0; ours < 2; ours++) {
				int64_t start;
				double ns;

				move(write(far_out, buf, size * times), size * times);
				start = now_ns();
				for (size_t i = 0; i < times; i++)
					move(ours ? nr_read(p.id, NR_STDOUT, buf, size)
						  : read(p.fds[1], buf, size),
					     size);
				ns = (double)(now_ns() - start) / (double)times;
				if (round >= 0)
					printf("%s:read@%zu %.1f\n", ours ? "netrunner" : "raw",
					       size, ns);
				start = now_ns();
				for (size_t i = 0; i < times; i++)
					move(ours ? nr_write(p.id, buf, size)
						  : write(p.fds[0], buf, size),
					     size);
				ns = (double)(now_ns() - start) / (double)times;
				if (round >= 0)
					printf("%s:write@%zu %.1f\n", ours ? "netrunner" : "raw",
					       size, ns);
				move(read(far_in, buf, size * times), size * times);
			}
		}
	}
	way->kill(&p);
	way->wait(&p);
	way->release(&p);
}

int main(int argc, char **argv)
{
	const char *const *rest = (const char *const *)argv + 4;
	const char *what = argc > 4 ? argv[2] : "";
	const struct way *way = argc > 4 ? way_by_name(argv[1]) : NULL;

	signal(SIGPIPE, SIG_IGN);
	if (!strcmp(what, "read") && argc > 5)
		read_all(way, number(argv[3]), (uint32_t)number(argv[4]), rest + 1);
	else if (!strcmp(what, "echo"))
		echo(way, number(argv[3]), rest);
	else if (!strcmp(what, "turn"))
		turn(way, number(argv[3]), false, rest);
	else if (!strcmp(what, "turn-pty"))
		turn(way, number(argv[3]), true, rest);
	else if (!strcmp(what, "calls") && is_ours(way))
		calls(way, number(argv[3]), rest);
	else
		return fprintf(stderr, "usage: see the top of stream.c\n"), 2;
	return 0;
}
