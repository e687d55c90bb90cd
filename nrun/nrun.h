/* SPDX-License-Identifier: Apache-2.0 */

/*
 * nrun - run one program through libnetrunner. See man/nrun.1.
 *
 * main.c starts the program and says how it ended, options.c reads the command
 * line, cgroup.c finds a place for a cgroup, copy.c moves bytes and signals in
 * one poll(2) loop, terminal.c is about ours, and report.c prints.
 */

#ifndef NRUN_H
#define NRUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <netrunner.h>

/* What nrun exits with when it is not the program's own status. */
enum {
	OUT_OF_MEMORY = 122,
	TOO_MUCH_OUTPUT = 123,
	TIMED_OUT = 124,
	FAILED = 125,
	NOT_EXECUTED = 126,
	NOT_FOUND = 127
};

/* What the command line says beyond nr_options. */
struct request {
	nr_options o;
	bool stats;
	bool progress;
	const char *stats_json; /* a file's name, or NULL */
	const char *cgroup;     /* the base to use, or NULL */
	const char *limits[8];  /* for nr_options.cgroup_set */
	size_t nlimits;
};

/* Fills in *r, or prints what is wrong and exits. r->o points into it. */
void parse_options(struct request *r, int argc, char **argv);

/*
 * Below which group may this process have one made? A path for
 * nr_options.cgroup_base, or NULL after having said why there is none.
 */
const char *find_cgroup(void);

/* Blocks the signals that are to be passed on; a signalfd(2) of them, or -1. */
int open_signals(void);

/*
 * Moves bytes and signals until the program has ended and its outputs have
 * been passed on to the last byte; the two come in either order. Returns what
 * nr_wait() does, or 1 if an output could not be written, or 128 + N when
 * signal N came and there was no program left to give it to.
 */
int copy(nr_proc p, const struct request *r, int signals, nr_outcome *how);

/* Our terminal, if stdin is one: no echo, no lines, no keys for signals. */
void terminal_raw(void);
void terminal_restore(void);
/* The size of our window; false if there is none. */
bool terminal_size(uint16_t *rows, uint16_t *cols);

/* A line on stderr, "nrun: ...", with one write(2). */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

void print_stats(nr_proc p, const char *name, const nr_outcome *how);
bool write_stats_json(nr_proc p, const char *path, const nr_outcome *how);

/* A line that is overwritten: bytes both ways, rates, time. */
void progress_start(void);
int progress_due(void); /* milliseconds until the next one, for poll(2) */
void progress_show(uint64_t in, uint64_t out);
/* Before anything else is written to the terminal, which ended with last. */
void progress_hide(char last);

#endif
