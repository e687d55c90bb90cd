/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What it costs to end a program, by the number of others that run; and how
 * long programs live when their host is killed. Each next to the least that the
 * kernel takes for it: kill(2) and waitpid(2) by a parent that does no more.
 *
 *     teardown [ROUNDS]
 *
 * All variants take turns in each round, so that they see the same machine.
 * Samples, in us: "VARIANT:end@SIBLINGS", from the kill of one program to its end
 * seen, the mean of a round; "netrunner:shepherd_cpu@SIBLINGS", its processor time
 * for a program's life; "VARIANT:death@PROGRAMS", from the first signal to the last
 * death: of kill(2) in a loop, or SIGKILL of the host.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netrunner.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proc.h"

extern char **environ;

static const int siblings[] = { 0, 10, 100, 1000, 2500 };
static const int herds[] = { 1, 100, 1000 };

/* Ends of one program in a row, in a round. */
#define ENDS 25

/* Two ways to have programs. */

static const char *const idle_argv[] = { "sleep", "1000", NULL };

struct way {
	const char *name;
	int64_t (*start)(void); /* a handle or a process id */
	void (*end)(int64_t p); /* returns when it is dead and reaped */
	pid_t (*pid)(int64_t p);
};

static int64_t start_ours(void)
{
	char why[256];
	nr_proc p = nr_spawn(&(nr_options){ .size = sizeof(nr_options),
					    .argv = idle_argv,
					    .in = { .mode = NR_STDIO_NULL },
					    .out = { .mode = NR_STDIO_NULL } },
			     why, sizeof why);

	if (p < 0)
		fail(why, p);
	return p;
}

static void end_ours(int64_t p)
{
	int n = nr_kill(p, SIGKILL);

	if (n == 0)
		n = nr_wait(p, -1, NULL);
	if (n != 0)
		fail("ending a program", n);
	nr_release(p);
}

static pid_t pid_of_ours(int64_t p)
{
	return nr_pid(p);
}

static int64_t start_plain(void)
{
	pid_t pid;
	int error = posix_spawnp(&pid, "sleep", NULL, NULL, (char *const *)idle_argv, environ);

	if (error)
		fail("posix_spawnp", error);
	return pid;
}

static void end_plain(int64_t pid)
{
	kill((pid_t)pid, SIGKILL);
	while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
		continue;
}

static pid_t pid_of_plain(int64_t pid)
{
	return (pid_t)pid;
}

static const struct way ways[] = {
	{ "kill", start_plain, end_plain, pid_of_plain },
	{ "netrunner", start_ours, end_ours, pid_of_ours },
};

enum { PLAIN, OURS, WAYS };

/* A host is a process of its own that does as it is told, one line at a time. */

struct host {
	pid_t pid;
	int orders;
	int answers;
};

static void tell(int fd, const void *data, size_t len)
{
	if (write(fd, data, len) != (ssize_t)len)
		fail("write", errno);
}

static void hear(int fd, void *data, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = read(fd, (char *)data + got, len - got);

		if (n == 0)
			exit(1); /* the other end has said why */
		if (n < 0 && errno != EINTR)
			fail("read", errno);
		got += n > 0 ? (size_t)n : 0;
	}
}

/* Processor time of a process so far, all threads; 0 for none. */
static int64_t cpu_ns(pid_t pid)
{
	clockid_t clock;
	struct timespec t;

	if (pid == 0 || clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &t))
		return 0;
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* Has n programs for ever, and ends further ones. */
static _Noreturn void sibling_host(const struct way *way, int n, int orders, int answers)
{
	pid_t shepherd = 0;
	char order;

	for (int i = 0; i < n; i++)
		way->start();
	tell(answers, "r", 1);
	for (;;) {
		double result[2];
		int64_t took = 0, cpu;

		if (read(orders, &order, 1) <= 0)
			break;
		if (shepherd == 0 && way == &ways[OURS]) {
			int64_t p = way->start();

			shepherd = parent_of(way->pid(p));
			way->end(p);
		}
		cpu = cpu_ns(shepherd);
		for (int i = 0; i < ENDS; i++) {
			int64_t p = way->start();
			int64_t start = now_ns();

			way->end(p);
			took += now_ns() - start;
		}
		/* Starting them is in here, too; so what matters is its growth. */
		result[1] = (double)(cpu_ns(shepherd) - cpu) / ENDS / 1000;
		result[0] = (double)took / ENDS / 1000;
		tell(answers, result, sizeof result);
	}
	kill(0, SIGKILL); /* the plain ones; ours know by themselves */
	_exit(0);
}

/* Has n programs, says which, and waits for its end. */
static _Noreturn void herd_host(const struct way *way, int n, int orders, int answers)
{
	char order;

	for (int i = 0; i < n; i++) {
		pid_t pid = way->pid(way->start());

		tell(answers, &pid, sizeof pid);
	}
	(void)!read(orders, &order, 1);
	_exit(0);
}

typedef void host_main(const struct way *way, int n, int orders, int answers);

static struct host start_host(host_main *run, const struct way *way, int n)
{
	int orders[2], answers[2];
	struct host h;

	if (pipe2(orders, O_CLOEXEC) || pipe2(answers, O_CLOEXEC))
		fail("pipe2", errno);
	h.pid = fork();
	if (h.pid < 0)
		fail("fork", errno);
	if (h.pid == 0) {
		setpgid(0, 0);
		/* No host may have the ends of another. */
		dup2(orders[0], STDIN_FILENO);
		dup2(answers[1], STDOUT_FILENO);
		syscall(SYS_close_range, 3, ~0u, 0);
		run(way, n, STDIN_FILENO, STDOUT_FILENO);
	}
	close(orders[0]);
	close(answers[1]);
	h.orders = orders[1];
	h.answers = answers[0];
	return h;
}

static void end_host(struct host *h)
{
	close(h->orders);
	close(h->answers);
	waitpid(h->pid, NULL, 0);
}

static void measure_siblings(int rounds)
{
	struct host hosts[WAYS][COUNT_OF(siblings)];

	for (size_t i = 0; i < COUNT_OF(siblings); i++) {
		for (int w = 0; w < WAYS; w++) {
			char ready;

			hosts[w][i] = start_host(sibling_host, &ways[w], siblings[i]);
			hear(hosts[w][i].answers, &ready, 1);
		}
	}
	for (int round = 0; round < rounds; round++) {
		for (size_t i = 0; i < COUNT_OF(siblings); i++) {
			for (int w = 0; w < WAYS; w++) {
				double result[2];

				tell(hosts[w][i].orders, "e", 1);
				hear(hosts[w][i].answers, result, sizeof result);
				if (round == 0)
					continue; /* to warm up */
				printf("%s:end@%d %.1f\n", ways[w].name, siblings[i], result[0]);
				if (w == OURS)
					printf("%s:shepherd_cpu@%d %.1f\n", ways[w].name,
					       siblings[i], result[1]);
			}
		}
	}
	for (size_t i = 0; i < COUNT_OF(siblings); i++)
		for (int w = 0; w < WAYS; w++)
			end_host(&hosts[w][i]);
}

/* From the first signal to the last death. The plain ones are killed by us. */
static double kill_herd(int w, int n)
{
	struct host h = start_host(herd_host, &ways[w], n);
	struct pollfd *deaths = calloc((size_t)n, sizeof *deaths);
	pid_t *pids = calloc((size_t)n, sizeof *pids);
	int64_t start;

	if (!deaths || !pids)
		fail("calloc", ENOMEM);
	for (int i = 0; i < n; i++) {
		hear(h.answers, &pids[i], sizeof *pids);
		deaths[i].fd = (int)syscall(SYS_pidfd_open, pids[i], 0);
		deaths[i].events = POLLIN;
		if (deaths[i].fd < 0)
			fail("pidfd_open", errno);
	}
	start = now_ns();
	if (w == OURS)
		kill(h.pid, SIGKILL);
	else
		for (int i = 0; i < n; i++)
			kill(pids[i], SIGKILL);
	for (int i = 0; i < n; i++) /* one by one: the last decides */
		while (poll(&deaths[i], 1, -1) != 1)
			continue;
	double us = (double)(now_ns() - start) / 1000;

	for (int i = 0; i < n; i++)
		close(deaths[i].fd);
	end_host(&h);
	free(deaths);
	free(pids);
	return us;
}

static void measure_herds(int rounds)
{
	for (int round = 0; round < rounds; round++)
		for (size_t i = 0; i < COUNT_OF(herds); i++)
			for (int w = 0; w < WAYS; w++)
				printf("%s:death@%d %.1f\n", ways[w].name, herds[i],
				       kill_herd(w, herds[i]));
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 21;

	if (rounds < 2) {
		fprintf(stderr, "usage: %s [ROUNDS]\n", argv[0]);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	allow_descriptors(1 << 16);
	setvbuf(stdout, NULL, _IOLBF, 0);
	measure_siblings(rounds);
	measure_herds(rounds < 11 ? rounds : 11);
	return 0;
}
