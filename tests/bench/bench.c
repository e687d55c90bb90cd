/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netrunner.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "bench.h"

extern char **environ;

/* The plain ways: the host's own children. */

static void make_pipes(int ours[3], int theirs[3], uint32_t pipe_size)
{
	for (int i = 0; i < 3; i++) {
		int ends[2];

		if (pipe2(ends, O_CLOEXEC))
			fail("pipe2", errno);
		if (pipe_size && fcntl(ends[0], F_SETPIPE_SZ, (int)pipe_size) < 0)
			fail("F_SETPIPE_SZ", errno);
		ours[i] = ends[i == 0];
		theirs[i] = ends[i != 0];
	}
}

static void close_all(int fds[3])
{
	for (int i = 0; i < 3; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

static void start_spawn(struct program *p, const char *const *argv, uint32_t pipe_size)
{
	posix_spawn_file_actions_t actions;
	int theirs[3], error;
	pid_t pid;

	make_pipes(p->fds, theirs, pipe_size);
	posix_spawn_file_actions_init(&actions);
	for (int i = 0; i < 3; i++)
		posix_spawn_file_actions_adddup2(&actions, theirs[i], i);
	error = posix_spawn(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
	if (error)
		fail(argv[0], error);
	posix_spawn_file_actions_destroy(&actions);
	close_all(theirs);
	p->id = pid;
}

static void start_vfork(struct program *p, const char *const *argv, uint32_t pipe_size)
{
	int theirs[3];
	pid_t pid;

	make_pipes(p->fds, theirs, pipe_size);
	pid = vfork();
	if (pid == 0) {
		for (int i = 0; i < 3; i++)
			dup2(theirs[i], i);
		execv(argv[0], (char *const *)argv);
		_exit(127);
	}
	if (pid < 0)
		fail("vfork", errno);
	close_all(theirs);
	p->id = pid;
}

static void start_forkpty(struct program *p, const char *const *argv)
{
	struct termios t;
	int terminal;
	pid_t pid = forkpty(&terminal, NULL, NULL, NULL);

	if (pid == 0) {
		tcgetattr(0, &t);
		t.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(0, TCSANOW, &t);
		execv(argv[0], (char *const *)argv);
		_exit(127);
	}
	if (pid < 0)
		fail("forkpty", errno);
	*p = (struct program){ .id = pid, .fds = { terminal, terminal, -1 } };
}

static ssize_t read_plain(struct program *p, void *buf, size_t len)
{
	ssize_t n = read(p->fds[1], buf, len);

	return n < 0 ? -errno : n;
}

static ssize_t write_plain(struct program *p, const void *buf, size_t len)
{
	ssize_t n = write(p->fds[0], buf, len);

	return n < 0 ? -errno : n;
}

static void close_stdin_plain(struct program *p)
{
	close(p->fds[0]);
	p->fds[0] = -1;
}

static void kill_plain(struct program *p)
{
	kill((pid_t)p->id, SIGKILL);
}

static void wait_plain(struct program *p)
{
	while (waitpid((pid_t)p->id, NULL, 0) < 0)
		if (errno != EINTR)
			fail("waitpid", errno);
}

static size_t wait_any_plain(struct program *all, size_t n)
{
	pid_t pid = waitpid(-1, NULL, 0);

	for (size_t i = 0; i < n; i++)
		if (all[i].id == pid)
			return i;
	fail("waitpid", errno);
}

static void release_plain(struct program *p)
{
	if (p->fds[0] == p->fds[1]) /* a terminal */
		p->fds[0] = -1;
	close_all(p->fds);
	p->id = 0;
}

static pid_t pid_plain(struct program *p)
{
	return (pid_t)p->id;
}

/* Ours. */

static void start_with(struct program *p, const char *const *argv, uint32_t pipe_size,
		       uint64_t flags)
{
	nr_options o = { .size = sizeof o,
			 .flags = flags,
			 .argv = argv,
			 .pipe_size = pipe_size,
			 .in = { .mode = NR_STDIO_PIPE },
			 .out = { .mode = NR_STDIO_PIPE },
			 .err = { .mode = NR_STDIO_PIPE } };
	char why[256];

	p->id = nr_spawn(&o, why, sizeof why);
	if (p->id < 0)
		fail(why, p->id);
	for (int i = 0; i < 3; i++)
		p->fds[i] = nr_fd(p->id, i);
}

static void start_ours(struct program *p, const char *const *argv, uint32_t pipe_size)
{
	start_with(p, argv, pipe_size, 0);
}

static void start_async(struct program *p, const char *const *argv, uint32_t pipe_size)
{
	start_with(p, argv, pipe_size, NR_ASYNC);
}

static void start_own(struct program *p, const char *const *argv, uint32_t pipe_size)
{
	start_with(p, argv, pipe_size, NR_OWN_SHEPHERD);
}

static void start_namespace(struct program *p, const char *const *argv, uint32_t pipe_size)
{
	start_with(p, argv, pipe_size, NR_PID_NAMESPACE);
}

static void start_pty_ours(struct program *p, const char *const *argv)
{
	nr_options o = { .size = sizeof o, .flags = NR_PTY | NR_PTY_NOECHO, .argv = argv };
	char why[256];

	p->id = nr_spawn(&o, why, sizeof why);
	if (p->id < 0)
		fail(why, p->id);
	for (int i = 0; i < 2; i++)
		p->fds[i] = nr_fd(p->id, i);
}

static ssize_t read_ours(struct program *p, void *buf, size_t len)
{
	return nr_read(p->id, NR_STDOUT, buf, len);
}

static ssize_t write_ours(struct program *p, const void *buf, size_t len)
{
	return nr_write(p->id, buf, len);
}

static void close_stdin_ours(struct program *p)
{
	nr_close_stdin(p->id);
	p->fds[0] = -1;
}

static void kill_ours(struct program *p)
{
	nr_kill(p->id, SIGKILL);
}

static void wait_ours(struct program *p)
{
	nr_outcome how = { .size = sizeof how };
	int error = nr_wait(p->id, -1, &how);

	if (error)
		fail("nr_wait", error);
}

static size_t wait_any_ours(struct program *all, size_t n)
{
	struct pollfd *ends = calloc(n, sizeof *ends);
	size_t i = 0;

	for (; i < n; i++)
		ends[i] = (struct pollfd){ .fd = all[i].id ? nr_fd(all[i].id, NR_EXIT) : -1,
					   .events = POLLIN };
	for (;;) {
		poll(ends, n, -1);
		for (i = 0; i < n; i++) {
			if (ends[i].revents && nr_wait(all[i].id, 0, NULL) == 0) {
				free(ends);
				return i;
			}
		}
	}
}

static void release_ours(struct program *p)
{
	nr_release(p->id);
	p->id = 0;
}

static pid_t pid_ours(struct program *p)
{
	return nr_pid(p->id);
}

#define PLAIN(START)                                                                          \
	.start = START, .start_pty = start_forkpty, .read = read_plain, .write = write_plain, \
	.close_stdin = close_stdin_plain, .kill = kill_plain, .wait = wait_plain,             \
	.release = release_plain, .pid = pid_plain, .wait_any = wait_any_plain

#define OURS(START)                                                                          \
	.start = START, .start_pty = start_pty_ours, .read = read_ours, .write = write_ours, \
	.close_stdin = close_stdin_ours, .kill = kill_ours, .wait = wait_ours,               \
	.release = release_ours, .pid = pid_ours, .wait_any = wait_any_ours

static const struct way ways[] = {
	{ .name = "posix_spawn", PLAIN(start_spawn) },
	{ .name = "vfork", PLAIN(start_vfork) },
	{ .name = "netrunner", OURS(start_ours) },
	{ .name = "netrunner-async", OURS(start_async) },
	{ .name = "netrunner-own", OURS(start_own) },
	{ .name = "netrunner-pidns", OURS(start_namespace) },
};

const struct way *way_by_name(const char *name)
{
	for (size_t i = 0; i < COUNT_OF(ways); i++)
		if (!strcmp(ways[i].name, name))
			return &ways[i];
	fail(name, EINVAL);
}

bool is_ours(const struct way *way)
{
	return way->release == release_ours;
}
