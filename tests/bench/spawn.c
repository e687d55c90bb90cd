/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Starts programs, with three pipes each.
 *
 *     spawn VARIANT spawn COUNT MIB FDS PROGRAM [ARGUMENT]...
 *     spawn VARIANT rate COUNT OUTSTANDING PROGRAM [ARGUMENT]...
 *
 * spawn: one after the other, in a host of MIB of touched memory and FDS more
 * descriptors. Samples, in us from the call: "blocked", when it has returned;
 * "running", when the program says that its main runs (if it is "program
 * stamp"); "exit", when its end has been seen. And "switches", the context
 * switches of the shepherd per program.
 *
 * rate: "rate", programs per second with so many outstanding.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netrunner.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define MAX_OUTSTANDING 64

static pid_t find_shepherd(const struct way *way)
{
	static const char *const argv[] = { "/bin/sleep", "1000", NULL };
	struct program p;
	pid_t shepherd;

	way->start(&p, argv, 0);
	while (nr_pid(p.id) == -EAGAIN) /* NR_ASYNC */
		poll(NULL, 0, 1);
	shepherd = parent_of(way->pid(&p));
	way->kill(&p);
	way->wait(&p);
	way->release(&p);
	return shepherd;
}

static void one_by_one(const struct way *way, long count, const char *const *argv)
{
	bool shared = is_ours(way) && strcmp(way->name, "netrunner-own");
	long switches = 0;
	pid_t shepherd = 0;

	for (long i = -WARM_UP; i < count; i++) {
		int64_t blocked, ended, running = 0;
		struct program p;

		if (i == 0 && shared) {
			shepherd = find_shepherd(way);
			switches = context_switches(shepherd);
		}
		p.started = now_ns();
		way->start(&p, argv, 0);
		blocked = now_ns();
		way->wait(&p);
		ended = now_ns();
		if (way->read(&p, &running, sizeof running) != sizeof running)
			running = 0;
		way->release(&p);
		if (i < 0)
			continue;
		printf("blocked %.1f\n", (double)(blocked - p.started) / 1e3);
		if (running)
			printf("running %.1f\n", (double)(running - p.started) / 1e3);
		printf("exit %.1f\n", (double)(ended - p.started) / 1e3);
	}
	if (shepherd)
		printf("switches %.2f\n",
		       (double)(context_switches(shepherd) - switches) / (double)count);
}

static void side_by_side(const struct way *way, long count, long outstanding,
			 const char *const *argv)
{
	struct program all[MAX_OUTSTANDING] = { 0 };
	long started = -WARM_UP, ended = -WARM_UP;
	int64_t start = 0;

	while (ended < count) {
		size_t i;

		for (i = 0; i < (size_t)outstanding && started < count; i++) {
			if (all[i].id)
				continue;
			/* The first ones are waited for, to warm up. */
			if (started == 0 && ended < 0)
				break;
			if (started++ == 0)
				start = now_ns();
			way->start(&all[i], argv, 0);
		}
		i = way->wait_any(all, (size_t)outstanding);
		way->release(&all[i]);
		ended++;
	}
	printf("rate %.1f\n", (double)count * 1e9 / (double)(now_ns() - start));
}

int main(int argc, char **argv)
{
	const struct way *way;

	if (argc >= 7 && !strcmp(argv[2], "spawn")) {
		way = way_by_name(argv[1]);
		touch_memory(number(argv[4]));
		allow_descriptors(1024);
		for (long i = number(argv[5]); i > 0; i--)
			if (open("/dev/null", O_RDONLY | O_CLOEXEC) < 0)
				fail("/dev/null", errno);
		one_by_one(way, number(argv[3]), (const char *const *)argv + 6);
	} else if (argc >= 6 && !strcmp(argv[2], "rate") && number(argv[4]) <= MAX_OUTSTANDING) {
		way = way_by_name(argv[1]);
		side_by_side(way, number(argv[3]), number(argv[4]), (const char *const *)argv + 5);
	} else {
		fprintf(stderr,
			"usage: %s VARIANT spawn COUNT MIB FDS PROGRAM...\n"
			"       %s VARIANT rate COUNT OUTSTANDING PROGRAM...\n",
			argv[0], argv[0]);
		return 2;
	}
	return 0;
}
