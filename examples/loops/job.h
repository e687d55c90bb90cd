/* SPDX-License-Identifier: Apache-2.0 */

/*
 * job - what the loops beside this file have in common: the job that they do,
 * without any loop.
 *
 *     LOOP [-t MILLISECONDS] COMMAND FILE...
 *
 * The shell command runs once for each file, all of them at once. Each reads
 * its file from its stdin; each line that one writes is printed with the name of
 * the file in front of it, and so is how it ended. With -t a command has so many
 * milliseconds. The exit status is 0 if all have ended with status 0, else 1.
 *
 * A loop calls job_start() for each file. Then it watches the three
 * descriptors of each job and calls job_ready() when one of them is ready. When
 * that returns false it stops watching this one and calls job_close().
 */

#ifndef JOB_H
#define JOB_H

#include <stdbool.h>
#include <stddef.h>

#include <netrunner.h>

/* The streams to watch: NR_STDIN when writable, the other two when readable. */
enum { JOB_STREAMS = 3 };
extern const int job_streams[JOB_STREAMS]; /* NR_STDIN, NR_STDOUT, NR_EXIT */

struct job {
	nr_proc p;
	const char *file;
	int input;
	int open; /* streams that job_close() has not closed */
	bool failed;

	/* Of the file: what the program has not taken yet. */
	char buf[1 << 16];
	size_t start;
	size_t end;

	/* Of the output: the front of a line whose rest has not come yet. */
	char line[4096];
	size_t length;
};

/* The command line. Exits with a message if it makes no sense. */
struct arguments {
	const char *command;
	char **files;
	int n;
	int timeout_ms;
};
struct arguments job_arguments(int argc, char **argv);

/* job_start starts a command: false, with a message, if that can't be done. */
bool job_start(struct job *j, const struct arguments *a, int index);

/* job_ready does what can be done without waiting: false if that was the last. */
bool job_ready(struct job *j, int stream);

/* job_close comes after the loop has let go of the descriptor. */
void job_close(struct job *j, int stream);

#endif
