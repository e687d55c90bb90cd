/* SPDX-License-Identifier: Apache-2.0 */

#define _POSIX_C_SOURCE 200809L
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const int job_streams[JOB_STREAMS] = { NR_STDIN, NR_STDOUT, NR_EXIT };

struct arguments job_arguments(int argc, char **argv)
{
	struct arguments a = { 0 };
	char *rest = NULL;
	int option;

	while ((option = getopt(argc, argv, "t:")) != -1) {
		if (option == 't')
			a.timeout_ms = (int)strtol(optarg, &rest, 10);
		if (option != 't' || *rest || a.timeout_ms <= 0)
			break;
	}
	if (option != -1 || argc - optind < 2) {
		fprintf(stderr, "usage: %s [-t MILLISECONDS] COMMAND FILE...\n", argv[0]);
		exit(2);
	}
	a.command = argv[optind];
	a.files = argv + optind + 1;
	a.n = argc - optind - 1;
	return a;
}

bool job_start(struct job *j, const struct arguments *a, int index)
{
	const char *argv[] = { "sh", "-c", a->command, NULL };
	/* The shepherd keeps the time: the loop needs no timer. */
	nr_options o = { .size = sizeof o, .argv = argv, .timeout_ms = a->timeout_ms };
	char why[256];

	memset(j, 0, sizeof *j);
	j->file = a->files[index];
	j->input = open(j->file, O_RDONLY | O_CLOEXEC);
	if (j->input < 0) {
		perror(j->file);
		return false;
	}
	j->p = nr_spawn(&o, why, sizeof why);
	if (j->p < 0) {
		fprintf(stderr, "%s: %s\n", j->file, why);
		close(j->input);
		return false;
	}
	j->open = JOB_STREAMS;
	return true;
}

/*
 * The file is read when all read before has been written. So a slow program
 * slows the reading down, and 64 KiB is all the memory this takes. One chunk for
 * each call: the others get their turn.
 */
static bool feed(struct job *j)
{
	if (j->start == j->end) {
		ssize_t n = read(j->input, j->buf, sizeof j->buf);
		if (n <= 0)
			return false; /* closing is the program's end of file */
		j->start = 0;
		j->end = (size_t)n;
	}
	ssize_t n = nr_write(j->p, j->buf + j->start, j->end - j->start);
	if (n > 0)
		j->start += (size_t)n;
	return n > 0 || n == -EAGAIN; /* -EPIPE: it does not want more */
}

static void print_line(struct job *j)
{
	printf("%s: %.*s\n", j->file, (int)j->length, j->line);
	j->length = 0;
}

/* Whoever does not read what this prints makes it wait, and so the program. */
static bool drain(struct job *j)
{
	char buf[1 << 14];
	ssize_t n = nr_read(j->p, NR_STDOUT, buf, sizeof buf);

	if (n == -EAGAIN)
		return true;
	for (ssize_t i = 0; i < n; i++) {
		if (buf[i] != '\n')
			j->line[j->length++] = buf[i];
		if (buf[i] == '\n' || j->length == sizeof j->line)
			print_line(j);
	}
	if (n <= 0 && j->length > 0)
		print_line(j);
	return n > 0;
}

static bool ended(struct job *j)
{
	nr_outcome how = { .size = sizeof how };
	int error = nr_wait(j->p, 0, &how);

	if (error == -EAGAIN)
		return true;
	j->failed = error || how.code != 0;
	if (error)
		fprintf(stderr, "%s: %s\n", j->file, nr_strerror(error));
	else if (how.reason == NR_REASON_TIMEOUT)
		fprintf(stderr, "%s: out of time\n", j->file);
	else if (how.signal > 0)
		fprintf(stderr, "%s: signal %d\n", j->file, how.signal);
	else
		fprintf(stderr, "%s: exit %d\n", j->file, how.code);
	return false;
}

bool job_ready(struct job *j, int stream)
{
	switch (stream) {
	case NR_STDIN:
		return feed(j);
	case NR_STDOUT:
		return drain(j);
	default:
		return ended(j);
	}
}

void job_close(struct job *j, int stream)
{
	if (stream == NR_STDIN)
		close(j->input);
	if (stream != NR_EXIT)
		nr_close(j->p, stream);
	/* End and end of output come in either order. */
	if (--j->open == 0)
		nr_release(j->p);
}
