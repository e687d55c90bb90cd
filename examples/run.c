/* SPDX-License-Identifier: Apache-2.0 */

/*
 * run - run one program through libnetrunner, from a poll(2) loop.
 *
 *     run [-t SECONDS] [-k SECONDS] [--stats] [--] COMMAND [ARG...]
 *
 * What run reads goes to the program's stdin; the program's two outputs go to
 * run's own. -t ends it after that time, with SIGTERM, and with SIGKILL -k
 * seconds later (5 if not given; -k 0 is SIGKILL at once). --stats prints a
 * table of nr_stats() on stderr when it has ended.
 *
 * Exits with the program's code, with 128 + N if signal N ended it, or, as
 * timeout(1) does, with 124 if the time was up, 125 if run itself failed, 126
 * if the program could not be executed and 127 if it was not found.
 *
 * There is no signal handler here. The program has a process group of its own,
 * so Ctrl-C ends run alone; the shepherd sees that and ends the program.
 */

#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <netrunner.h>

enum { TIMED_OUT = 124, FAILED = 125, NOT_EXECUTED = 126, NOT_FOUND = 127 };

/*
 * Bytes on their way. It is filled only when it is empty, and that is all the
 * flow control there is: as long as the far side does not take what is in
 * here, the near side is not read, its pipe fills, and its writer waits.
 */
struct buffer {
	size_t start;
	size_t end;
	char bytes[1 << 16];
};

/* Our stdin, to the program. */
struct input {
	bool done;
	struct buffer b;
};

/* One of the program's outputs, to one of ours. */
struct output {
	int stream;
	int to;
	size_t chunk; /* the most that is written at once */
	bool done;
	bool failed;
	struct buffer b;
};

/* What poll() watches; descriptor -1 is none. */
enum { OWN_IN, PROG_IN, PROG_OUT, OWN_OUT, PROG_ERR, OWN_ERR, ENDED, SLOTS };

static bool empty(const struct buffer *b)
{
	return b->start == b->end;
}

static struct pollfd watch(int fd, int events)
{
	return (struct pollfd){ .fd = fd, .events = (short)events };
}

/*
 * Our stdin and outputs stay in blocking mode, because O_NONBLOCK would stick
 * to the file itself and surprise everybody who shares it, such as the shell.
 * A pipe that poll() calls writable takes PIPE_BUF bytes without blocking, so
 * that is the most we write at once. A regular file takes any amount.
 */
static size_t chunk_for(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return sizeof(((struct buffer *)0)->bytes);
	return PIPE_BUF;
}

static void input_watch(const struct input *in, nr_proc p, struct pollfd *set)
{
	if (in->done)
		return;
	if (empty(&in->b)) {
		set[OWN_IN] = watch(STDIN_FILENO, POLLIN);
		/* No events: only to hear that the program has closed it. */
		set[PROG_IN] = watch(nr_fd(p, NR_STDIN), 0);
	} else {
		set[PROG_IN] = watch(nr_fd(p, NR_STDIN), POLLOUT);
	}
}

static void input_move(struct input *in, nr_proc p, const struct pollfd *set)
{
	if (in->done)
		return;
	if (set[OWN_IN].revents != 0) {
		ssize_t n = read(STDIN_FILENO, in->b.bytes, sizeof in->b.bytes);

		if (n > 0) {
			in->b.start = 0;
			in->b.end = (size_t)n;
		} else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
			in->done = true;
		}
	}
	if (set[PROG_IN].revents != 0) {
		ssize_t n = -EPIPE;

		if (!empty(&in->b))
			n = nr_write(p, in->b.bytes + in->b.start, in->b.end - in->b.start);
		if (n > 0)
			in->b.start += (size_t)n;
		else if (n != -EAGAIN)
			in->done = true; /* it does not want more: no error */
	}
	if (in->done)
		nr_close_stdin(p);
}

static void output_watch(const struct output *o, nr_proc p, struct pollfd *from, struct pollfd *to)
{
	if (o->done)
		return;
	if (empty(&o->b)) {
		*from = watch(nr_fd(p, o->stream), POLLIN);
		/* No events: only to hear that our reader has gone. */
		*to = watch(o->to, 0);
	} else {
		*to = watch(o->to, POLLOUT);
	}
}

/*
 * When nobody reads our output any more, then nobody reads the program's: it
 * gets the SIGPIPE that we ignore, and decides itself what follows from that.
 */
static void output_broken(struct output *o, nr_proc p)
{
	nr_close(p, o->stream);
	o->done = true;
}

static void output_move(struct output *o, nr_proc p, const struct pollfd *from,
			const struct pollfd *to)
{
	if (o->done)
		return;
	if (to->revents & POLLOUT) {
		size_t len = o->b.end - o->b.start;
		ssize_t n;

		if (len > o->chunk)
			len = o->chunk;
		n = write(o->to, o->b.bytes + o->b.start, len);
		if (n >= 0) {
			o->b.start += (size_t)n;
		} else if (errno == EPIPE) {
			output_broken(o, p);
		} else if (errno != EINTR && errno != EAGAIN) {
			fprintf(stderr, "run: write: %s\n", strerror(errno));
			o->failed = true;
			output_broken(o, p);
		}
	} else if (to->revents != 0) {
		output_broken(o, p);
	} else if (from->revents != 0) {
		ssize_t n = nr_read(p, o->stream, o->b.bytes, sizeof o->b.bytes);

		if (n > 0) {
			o->b.start = 0;
			o->b.end = (size_t)n;
		} else if (n == 0) {
			o->done = true;
		} else if (n != -EAGAIN) {
			fprintf(stderr, "run: read: %s\n", nr_strerror((int)n));
			o->failed = true;
			output_broken(o, p);
		}
	}
}

/*
 * Moves bytes until the program has ended and both outputs have been passed
 * on to the last byte; the two come in either order. Returns what nr_wait()
 * does, or 1 if an output failed.
 */
static int drive(nr_proc p, nr_outcome *how)
{
	static struct input in;
	static struct output out = { .stream = NR_STDOUT, .to = STDOUT_FILENO };
	static struct output err = { .stream = NR_STDERR, .to = STDERR_FILENO };
	int ended = -EAGAIN;

	out.chunk = chunk_for(out.to);
	err.chunk = chunk_for(err.to);

	while (ended == -EAGAIN || !out.done || !err.done) {
		struct pollfd set[SLOTS];

		for (int i = 0; i < SLOTS; i++)
			set[i] = watch(-1, 0);
		input_watch(&in, p, set);
		output_watch(&out, p, &set[PROG_OUT], &set[OWN_OUT]);
		output_watch(&err, p, &set[PROG_ERR], &set[OWN_ERR]);
		if (ended == -EAGAIN)
			set[ENDED] = watch(nr_fd(p, NR_EXIT), POLLIN);

		if (poll(set, SLOTS, -1) < 0) {
			if (errno == EINTR)
				continue;
			fprintf(stderr, "run: poll: %s\n", strerror(errno));
			return 1;
		}

		input_move(&in, p, set);
		output_move(&out, p, &set[PROG_OUT], &set[OWN_OUT]);
		output_move(&err, p, &set[PROG_ERR], &set[OWN_ERR]);
		if (set[ENDED].revents != 0) {
			ended = nr_wait(p, 0, how);
			if (ended != -EAGAIN)
				in.done = true; /* nobody is left to read it */
		}
	}
	if (ended == 0 && (out.failed || err.failed))
		return 1;
	return ended;
}

static void number(const char *name, uint64_t value, const char *unit)
{
	if (value == UINT64_MAX)
		fprintf(stderr, "  %-22s %14s\n", name, "-");
	else
		fprintf(stderr, "  %-22s %14" PRIu64 " %s\n", name, value, unit);
}

static void milliseconds(const char *name, uint64_t ns)
{
	if (ns == UINT64_MAX)
		fprintf(stderr, "  %-22s %14s\n", name, "-");
	else
		fprintf(stderr, "  %-22s %14.3f ms\n", name, (double)ns / 1e6);
}

static void print_stats(nr_proc p, const char *name)
{
	nr_statistics s = { .size = sizeof s };
	int err = nr_stats(p, &s);

	if (err < 0) {
		fprintf(stderr, "run: nr_stats: %s\n", nr_strerror(err));
		return;
	}
	fprintf(stderr, "%s\n", name);
	number("stdin", s.stdin_bytes, "bytes");
	number("stdout", s.stdout_bytes, "bytes");
	number("stderr", s.stderr_bytes, "bytes");
	number("writes", s.writes, "");
	number("reads", s.reads, "");
	milliseconds("wall", s.wall_ns);
	milliseconds("user", s.user_ns);
	milliseconds("system", s.system_ns);
	number("peak memory", s.memory_peak, "bytes");
	number("minor faults", s.minor_faults, "");
	number("major faults", s.major_faults, "");
	number("blocks read", s.blocks_in, "");
	number("blocks written", s.blocks_out, "");
	number("voluntary switches", s.voluntary_switches, "");
	number("involuntary switches", s.involuntary_switches, "");
}

static int usage(void)
{
	fprintf(stderr, "usage: run [-t SECONDS] [-k SECONDS] [--stats] [--] "
			"COMMAND [ARG...]\n");
	return FAILED;
}

/* Reads "1.5" as 1500 milliseconds, rounded up; -1 if it is no such number. */
static int64_t parse_seconds(const char *text)
{
	char *end;
	double ms = strtod(text, &end) * 1000;

	if (end == text || *end != '\0' || !(ms >= 0 && ms <= 1e15))
		return -1;
	return (int64_t)ms + ((double)(int64_t)ms < ms);
}

static int exit_status(int ended, const nr_outcome *how, const char *name)
{
	if (ended < 0) {
		fprintf(stderr, "run: %s: %s\n", name, nr_strerror(ended));
		return FAILED;
	}
	if (ended > 0)
		return FAILED;
	if (how->reason == NR_REASON_TIMEOUT)
		return TIMED_OUT;
	return how->signal >= 0 ? 128 + how->signal : how->code;
}

int main(int argc, char **argv)
{
	nr_options o = { .size = sizeof o,
			 .in = { .mode = NR_STDIO_PIPE },
			 .out = { .mode = NR_STDIO_PIPE },
			 .err = { .mode = NR_STDIO_PIPE } };
	nr_outcome how = { .size = sizeof how };
	bool stats = false;
	char why[256];
	nr_proc p;
	int i, status;

	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		const char *option = argv[i];
		int64_t ms;

		if (strcmp(option, "--") == 0) {
			i++;
			break;
		}
		if (strcmp(option, "--stats") == 0) {
			stats = true;
			continue;
		}
		if ((strcmp(option, "-t") != 0 && strcmp(option, "-k") != 0) || ++i == argc)
			return usage();
		ms = parse_seconds(argv[i]);
		if (ms < 0)
			return usage();
		if (option[1] == 't')
			o.timeout_ms = ms;
		else
			o.kill_timeout_ms = ms > 0 ? ms : NR_KILL_NOW;
	}
	if (i >= argc)
		return usage();
	o.argv = (const char *const *)(argv + i);

	/*
	 * If we were started with one of these closed, the library's own
	 * descriptors would get its number. open() takes the lowest one free.
	 */
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return FAILED;

	/*
	 * nr_write() never raises SIGPIPE; this is for our own stdout. The
	 * program starts with the default action all the same.
	 */
	signal(SIGPIPE, SIG_IGN);

	p = nr_spawn(&o, why, sizeof why);
	if (p < 0) {
		fprintf(stderr, "run: %s (%s)\n", why, nr_errname((int)p));
		switch (p) {
		case -ENOENT:
			return NOT_FOUND;
		case -EINVAL:
		case -ENOPKG:
			return FAILED;
		default:
			return NOT_EXECUTED;
		}
	}

	status = exit_status(drive(p, &how), &how, argv[i]);
	if (stats)
		print_stats(p, argv[i]);
	nr_release(p);
	return status;
}
