/* SPDX-License-Identifier: Apache-2.0 */

/*
 * pipeline - run two programs, the first one's output being the second one's
 * input, with the bytes passing through this process.
 *
 *     pipeline COMMAND [ARG...] '|' COMMAND [ARG...]
 *
 * A lone "--" serves as well as the bar, which a shell wants quoted. How each
 * of the two ended is printed on stderr; the exit status is the second one's,
 * 128 + N if signal N ended it.
 *
 * This is for a host that wants to see, count or change what passes. One that
 * does not had better make a pipe(2) and give its two ends to the programs as
 * NR_STDIO_FD: then the kernel moves the bytes and the host sleeps.
 */

#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <netrunner.h>

/* One of the two programs. */
struct stage {
	const char *name;
	nr_proc p;
	int ended; /* -EAGAIN: not yet */
	nr_outcome how;
};

/*
 * The way between them. It is read only when everything read before has been
 * written. So a slow second program slows the first one down, and 64 KiB are
 * all the memory this takes, however much passes.
 */
struct link {
	bool open;
	uint64_t total;
	size_t start;
	size_t end;
	char buf[1 << 16];
};

enum { FROM, TO, FIRST_ENDED, SECOND_ENDED, SLOTS };

static struct pollfd watch(int fd, int events)
{
	return (struct pollfd){ .fd = fd, .events = (short)events };
}

static int start(struct stage *s, nr_options *o, char **argv)
{
	char why[256];

	o->size = sizeof *o;
	o->argv = (const char *const *)argv;
	s->name = argv[0];
	s->ended = -EAGAIN;
	s->how.size = sizeof s->how;
	s->p = nr_spawn(o, why, sizeof why);
	if (s->p > 0)
		return 0;
	fprintf(stderr, "pipeline: %s (%s)\n", why, nr_errname((int)s->p));
	return s->p == -ENOENT ? 127 : 126;
}

/*
 * Both ends at once, whichever side it began on. Closing the one gives the
 * second program its end of file, closing the other gives the first one
 * SIGPIPE if it writes on, exactly as with a pipe of the kernel's.
 */
static void link_close(struct link *l, const struct stage *first, const struct stage *second)
{
	l->open = false;
	nr_close(first->p, NR_STDOUT);
	nr_close_stdin(second->p);
}

static void link_watch(const struct link *l, const struct stage *first, const struct stage *second,
		       struct pollfd *set)
{
	if (!l->open)
		return;
	if (l->start == l->end) {
		set[FROM] = watch(nr_fd(first->p, NR_STDOUT), POLLIN);
		/* No events: only to hear that the second will not read on. */
		set[TO] = watch(nr_fd(second->p, NR_STDIN), 0);
	} else {
		set[TO] = watch(nr_fd(second->p, NR_STDIN), POLLOUT);
	}
}

static void link_move(struct link *l, const struct stage *first, const struct stage *second,
		      const struct pollfd *set)
{
	ssize_t n = -EAGAIN;

	if (!l->open)
		return;
	if (l->start == l->end && set[TO].revents != 0) {
		n = -EPIPE;
	} else if (l->start == l->end && set[FROM].revents != 0) {
		n = nr_read(first->p, NR_STDOUT, l->buf, sizeof l->buf);
		if (n > 0) {
			l->start = 0;
			l->end = (size_t)n;
		}
	} else if (l->start < l->end && set[TO].revents != 0) {
		n = nr_write(second->p, l->buf + l->start, l->end - l->start);
		if (n > 0) {
			l->start += (size_t)n;
			l->total += (uint64_t)n;
		}
	}
	/* 0 is the end of the first, -EPIPE that of the second. */
	if (n <= 0 && n != -EAGAIN)
		link_close(l, first, second);
}

static void report(const struct stage *s)
{
	if (s->ended < 0)
		fprintf(stderr, "pipeline: %s: %s\n", s->name, nr_strerror(s->ended));
	else if (s->how.signal >= 0)
		fprintf(stderr, "pipeline: %s: signal %d (%s)\n", s->name, s->how.signal,
			strsignal(s->how.signal));
	else
		fprintf(stderr, "pipeline: %s: exit %d\n", s->name, s->how.code);
}

static int drive(struct stage *first, struct stage *second)
{
	static struct link l = { .open = true };

	while (first->ended == -EAGAIN || second->ended == -EAGAIN) {
		struct pollfd set[SLOTS];

		for (int i = 0; i < SLOTS; i++)
			set[i] = watch(-1, 0);
		link_watch(&l, first, second, set);
		if (first->ended == -EAGAIN)
			set[FIRST_ENDED] = watch(nr_fd(first->p, NR_EXIT), POLLIN);
		if (second->ended == -EAGAIN)
			set[SECOND_ENDED] = watch(nr_fd(second->p, NR_EXIT), POLLIN);

		if (poll(set, SLOTS, -1) < 0) {
			if (errno == EINTR)
				continue;
			fprintf(stderr, "pipeline: poll: %s\n", strerror(errno));
			return 125;
		}

		/*
		 * The end of the first program does not end the link: what it
		 * wrote is still in its pipe, and is read until nr_read() is 0.
		 */
		link_move(&l, first, second, set);
		if (set[FIRST_ENDED].revents != 0)
			first->ended = nr_wait(first->p, 0, &first->how);
		if (set[SECOND_ENDED].revents != 0)
			second->ended = nr_wait(second->p, 0, &second->how);
	}

	report(first);
	report(second);
	fprintf(stderr, "pipeline: %llu bytes passed\n", (unsigned long long)l.total);
	if (second->ended < 0)
		return 125;
	return second->how.signal >= 0 ? 128 + second->how.signal : second->how.code;
}

int main(int argc, char **argv)
{
	struct stage first = { .p = 0 }, second = { .p = 0 };
	nr_options o1 = { .in = { .mode = NR_STDIO_INHERIT } };
	nr_options o2 = { .out = { .mode = NR_STDIO_INHERIT } };
	int bar, status;

	for (bar = 1; bar < argc; bar++)
		if (strcmp(argv[bar], "|") == 0 || strcmp(argv[bar], "--") == 0)
			break;
	if (bar == 1 || bar >= argc - 1) {
		fprintf(stderr, "usage: pipeline COMMAND [ARG...] '|' "
				"COMMAND [ARG...]\n");
		return 125;
	}
	argv[bar] = NULL; /* it ends the first one's arguments */

	/* As in run.c: keep 0, 1 and 2 from becoming something else. */
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return 125;

	/*
	 * Programs run in process groups of their own, and the terminal would
	 * stop one that reads from it there (SIGTTIN).
	 */
	if (isatty(STDIN_FILENO))
		o1.in.mode = NR_STDIO_NULL;

	status = start(&first, &o1, argv + 1);
	if (status == 0)
		status = start(&second, &o2, argv + bar + 1);
	if (status == 0)
		status = drive(&first, &second);

	/* If only one of them was started, this also ends that one. */
	if (first.p > 0)
		nr_release(first.p);
	if (second.p > 0)
		nr_release(second.p);
	return status;
}
