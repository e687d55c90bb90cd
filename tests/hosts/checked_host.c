/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A host that a checker watches: threads that run programs, and a fault of its
 * own on request, which the checker is to find all the same.
 *
 *     checked_host [race|memory|kill]
 */

#include <errno.h>
#include <netrunner.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 4, ROUNDS = 10, LENGTH = 60000 };

static int finished; /* by all threads, under the lock unless a race is wanted */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool race;

static void fail(const char *what, long result)
{
	fprintf(stderr, "%s: %ld\n", what, result);
	exit(1);
}

static nr_proc spawn(const char *script)
{
	const char *argv[] = { "/bin/sh", "-c", script, NULL };
	nr_options o = { .size = sizeof o, .argv = argv };
	char why[256];
	nr_proc p = nr_spawn(&o, why, sizeof why);

	if (p < 0)
		fail(why, p);
	return p;
}

static size_t read_to_end(nr_proc p, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while ((n = nr_read(p, NR_STDOUT, buf + len, size - len)) != 0) {
		struct pollfd out = { .fd = nr_fd(p, NR_STDOUT), .events = POLLIN };
		if (n > 0)
			len += (size_t)n;
		else if (n != -EAGAIN || poll(&out, 1, 60000) != 1)
			fail("nr_read", n);
	}
	return len;
}

static void *run_programs(void *unused)
{
	char *in = malloc(LENGTH), *out = malloc(LENGTH + 1);
	nr_outcome how = { .size = sizeof how };
	long n;

	memset(in, 'x', LENGTH);
	for (int i = 0; i < ROUNDS; i++) {
		nr_proc p = spawn("cat; exit 7");
		/* As much as a pipe holds. */
		if ((n = nr_write(p, in, LENGTH)) != LENGTH || (n = nr_close_stdin(p)))
			fail("nr_write", n);
		n = (long)read_to_end(p, out, LENGTH + 1);
		if (n != LENGTH || memcmp(in, out, LENGTH) != 0)
			fail("the output", n);
		if ((n = nr_wait(p, -1, &how)) || how.code != 7 || (n = nr_release(p)))
			fail("nr_wait", n);
	}
	free(in);
	free(out);
	if (!race)
		pthread_mutex_lock(&lock);
	finished++;
	if (!race)
		pthread_mutex_unlock(&lock);
	return unused;
}

int main(int argc, char **argv)
{
	const char *fault = argc > 1 ? argv[1] : "";
	pthread_t threads[THREADS];

	race = strcmp(fault, "race") == 0;
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, run_programs, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	if (strcmp(fault, "memory") == 0) {
		/* Behind the end: what nr_write() passes on was never there. */
		char *little = malloc(10);
		memset(little, 'y', 10);
		nr_write(spawn("cat"), little, 11);
		free(little);
	}
	if (strcmp(fault, "kill") == 0) {
		for (int i = 0; i < 5; i++) {
			char line[100];
			read_to_end(spawn("exec 3>&1 >/dev/null; setsid sleep 1000 3>&- & "
					  "sleep 1000 3>&- & exec 3>&-; wait"),
				    line, sizeof line);
		}
		puts("ready");
		fflush(stdout);
		pause();
	}
	return finished == 0;
}
