/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the measuring programs share. Each prints its samples to stdout, one in
 * a line: what was measured, and a number. tests/bench/run.py runs them in turns
 * and does the statistics.
 */

#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proc.h"

/* Spawns before the first that counts. */
#define WARM_UP 3

/* A program with three pipes. */
struct program {
	int64_t id;      /* a handle, or a process id */
	int fds[3];      /* the host's ends; -1: closed */
	int64_t started; /* ns, when its start was asked for */
};

/* A way to run programs. read() and write() return a negative errno. */
struct way {
	const char *name;
	void (*start)(struct program *p, const char *const *argv, uint32_t pipe_size);
	/* start one on a terminal that does not echo */
	void (*start_pty)(struct program *p, const char *const *argv);
	ssize_t (*read)(struct program *p, void *buf, size_t len);
	ssize_t (*write)(struct program *p, const void *buf, size_t len);
	void (*close_stdin)(struct program *p);
	void (*kill)(struct program *p); /* SIGKILL */
	void (*wait)(struct program *p); /* for its end */
	void (*release)(struct program *p);
	pid_t (*pid)(struct program *p);
	/* wait for any of the n to end, and return its index; id 0 is none */
	size_t (*wait_any)(struct program *all, size_t n);
};

/* "posix_spawn", "vfork", "netrunner", ... */
const struct way *way_by_name(const char *name);
bool is_ours(const struct way *way);

#endif
