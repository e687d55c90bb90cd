/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nrun.h"

/*
 * If we were started with one of these closed, the library's own descriptors
 * would get its number. open() takes the lowest one free.
 */
static bool open_standard_streams(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return false;
	return true;
}

/* As after 2>&1. One pipe for both then, or their order would be lost. */
static bool outputs_are_one(void)
{
	struct stat out, err;

	return fstat(STDOUT_FILENO, &out) == 0 && fstat(STDERR_FILENO, &err) == 0 &&
	       out.st_dev == err.st_dev && out.st_ino == err.st_ino;
}

/* What nr_spawn() has refused. why begins with the step that failed. */
static int spawn_status(nr_proc error, const char *why)
{
	if (strncmp(why, "execve ", 7) != 0 || error == -ENOPKG)
		return FAILED;
	return error == -ENOENT ? NOT_FOUND : NOT_EXECUTED;
}

int main(int argc, char **argv)
{
	static struct request r = { .o = { .size = sizeof r.o,
					   .in = { .mode = NR_STDIO_PIPE },
					   .out = { .mode = NR_STDIO_PIPE },
					   .err = { .mode = NR_STDIO_PIPE } } };
	nr_outcome how = { .size = sizeof how };
	const char *name;
	char why[1024];
	int signals, ended, status;
	nr_proc p;

	if (!open_standard_streams())
		return FAILED;
	parse_options(&r, argc, argv);
	name = r.o.argv[0];
	if (r.nlimits > 0) {
		r.o.cgroup_set = r.limits;
		if (!r.cgroup)
			r.cgroup = find_cgroup();
		if (!r.cgroup)
			return FAILED;
	}
	r.o.cgroup_base = r.cgroup;
	if (r.o.flags & NR_PTY) {
		r.o.in.mode = r.o.out.mode = r.o.err.mode = NR_STDIO_AUTO;
		terminal_size(&r.o.rows, &r.o.cols);
	} else if (outputs_are_one()) {
		r.o.err.mode = NR_STDIO_STDOUT;
	}

	/*
	 * nr_write() never raises SIGPIPE; this is for our own stdout. The
	 * program starts with the default action all the same.
	 */
	signal(SIGPIPE, SIG_IGN);
	signals = open_signals();
	if (signals < 0) {
		say("signalfd: %s", strerror(errno));
		return FAILED;
	}

	p = nr_spawn(&r.o, why, sizeof why);
	if (p < 0) {
		say("%s (%s)", why, nr_errname((int)p));
		return spawn_status(p, why);
	}

	/* Only now: after a failure there was nothing to restore. */
	if (r.o.flags & NR_PTY)
		terminal_raw();
	ended = copy(p, &r, signals, &how);
	terminal_restore();

	if (ended < 0) {
		say("%s: %s", name, nr_strerror(ended));
		status = FAILED;
	} else if (ended > 0) {
		status = ended == 1 ? FAILED : ended;
	} else {
		status = how.signal >= 0 ? 128 + how.signal : how.code;
		switch (how.reason) {
		case NR_REASON_TIMEOUT:
			say("%s: out of time (--timeout)", name);
			status = TIMED_OUT;
			break;
		case NR_REASON_OUTPUT:
			say("%s: too much output (--max-output)", name);
			status = TOO_MUCH_OUTPUT;
			break;
		case NR_REASON_OOM:
			say("%s: out of memory (--memory)", name);
			status = OUT_OF_MEMORY;
			break;
		}
		if (r.stats)
			print_stats(p, name, &how);
		if (r.stats_json && !write_stats_json(p, r.stats_json, &how))
			status = FAILED;
	}
	nr_release(p);
	return status;
}
