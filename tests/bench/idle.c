/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What programs cost that run and do nothing.
 *
 *     idle VARIANT PROGRAM NUMBER...
 *
 * For each number, in rising order: so many programs with two pipes each are
 * running; then the samples, with "@NUMBER" behind their names, are "exit", us
 * from the start of a further /bin/true to its end seen; and memory (KiB, private)
 * and descriptors of "host", "shepherd" and "guardian": "host_kib", "host_fds", ...
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <netrunner.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define SPAWNS 25

static long descriptors(pid_t pid)
{
	char path[64];
	long n = -2; /* . and .. */
	DIR *dir;

	snprintf(path, sizeof path, "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		fail(path, errno);
	while (readdir(dir))
		n++;
	closedir(dir);
	return pid == getpid() ? n - 1 : n; /* its own */
}

static void report(const char *who, pid_t pid, long n)
{
	printf("%s_kib@%ld %ld\n", who, n, private_kib(pid));
	printf("%s_fds@%ld %ld\n", who, n, descriptors(pid));
}

/* Its stderr is closed, so that 5,000 fit into the usual limit of descriptors. */
static void start_idle(const struct way *way, struct program *p, const char *const *argv)
{
	way->start(p, argv, 0);
	if (is_ours(way))
		nr_close(p->id, NR_STDERR);
	else
		close(p->fds[2]);
	p->fds[2] = -1;
}

int main(int argc, char **argv)
{
	static const char *const true_argv[] = { "/bin/true", NULL };
	const char *idle_argv[] = { argc > 2 ? argv[2] : NULL, "idle", NULL };
	struct program *all;
	const struct way *way;
	long count = 0, most;

	if (argc < 4)
		return fprintf(stderr, "usage: %s VARIANT PROGRAM NUMBER...\n", argv[0]), 2;
	most = number(argv[argc - 1]);
	way = way_by_name(argv[1]);
	allow_descriptors((unsigned)most * 4 + 1024);
	all = calloc((size_t)most, sizeof *all);
	if (!all)
		fail("calloc", ENOMEM);
	for (int i = 3; i < argc; i++) {
		long n = number(argv[i]);

		if (n > most || n < 1)
			fail("rising numbers are wanted", EINVAL);
		for (; count < n; count++)
			start_idle(way, &all[count], idle_argv);
		for (int k = -WARM_UP; k < SPAWNS; k++) {
			struct program p;
			int64_t start = now_ns();

			way->start(&p, true_argv, 0);
			way->wait(&p);
			if (k >= 0)
				printf("exit@%ld %.1f\n", n, (double)(now_ns() - start) / 1e3);
			way->release(&p);
		}
		report("host", getpid(), n);
		if (is_ours(way)) {
			pid_t shepherd = parent_of(way->pid(&all[0]));

			report("shepherd", shepherd, n);
			report("guardian", parent_of(shepherd), n);
		}
	}
	for (long i = 0; i < count; i++)
		way->kill(&all[i]);
	for (long i = 0; i < count; i++) {
		way->wait(&all[i]);
		way->release(&all[i]);
	}
	free(all);
	return 0;
}
