/* SPDX-License-Identifier: Apache-2.0 */

/* What main.rs does, written in C. Each returns 0, or a negative errno. */

#include <errno.h>
#include <netrunner.h>
#include <poll.h>
#include <stdio.h>

static nr_proc spawn(const char *const *argv)
{
	nr_options o = { .size = sizeof o,
			 .argv = argv,
			 .in = { .mode = NR_STDIO_PIPE },
			 .out = { .mode = NR_STDIO_PIPE },
			 .err = { .mode = NR_STDIO_PIPE } };
	char why[512];

	return nr_spawn(&o, why, sizeof why);
}

static int finish(nr_proc p)
{
	nr_outcome how = { .size = sizeof how };
	int error = nr_wait(p, -1, &how);

	nr_release(p);
	return error ? error : how.code == 0 ? 0 : -EIO;
}

int c_spawn(const char *program)
{
	const char *argv[] = { program, NULL };
	nr_proc p = spawn(argv);

	return p < 0 ? (int)p : finish(p);
}

static ssize_t read_some(nr_proc p, int fd, char *buf, size_t len)
{
	ssize_t n;

	while ((n = nr_read(p, NR_STDOUT, buf, len)) == -EAGAIN) {
		struct pollfd one = { .fd = fd, .events = POLLIN };

		poll(&one, 1, -1);
	}
	return n;
}

int c_stream(const char *bytes, char *buf, size_t len)
{
	const char *argv[] = { "head", "-c", bytes, "/dev/zero", NULL };
	nr_proc p = spawn(argv);
	ssize_t n = 0;
	int fd;

	if (p < 0)
		return (int)p;
	fd = nr_fd(p, NR_STDOUT);
	while ((n = read_some(p, fd, buf, len)) > 0)
		continue;
	return n < 0 ? (int)n : finish(p);
}

int c_dialog(int times)
{
	const char *argv[] = { "cat", NULL };
	nr_proc p = spawn(argv);
	char byte = 'x';
	int fd;

	if (p < 0)
		return (int)p;
	fd = nr_fd(p, NR_STDOUT);
	for (int i = 0; i < times; i++)
		if (nr_write(p, &byte, 1) != 1 || read_some(p, fd, &byte, 1) != 1)
			return -EIO;
	nr_close_stdin(p);
	return finish(p);
}
