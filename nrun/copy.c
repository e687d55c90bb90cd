/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nrun.h"

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
	bool ending; /* all has been read; the program does not know yet */
	uint64_t total;
	struct buffer b;
};

/*
 * One of our outputs. O_NONBLOCK would stick to the open file itself and
 * surprise everybody who shares it, such as the shell. So where the kernel lets
 * us we open the same pipe or terminal once more, and that is ours.
 */
struct sink {
	int fd; /* what is written to */
	enum { WAITS_NEVER, SOCKET, WAITS } kind;
};

/* One of the program's outputs, to one of ours. */
struct output {
	int stream;
	int to; /* 1 or 2 */
	bool done;
	bool failed;
	uint64_t total;
	struct sink sink;
	struct buffer b;
};

/* What poll() watches; descriptor -1 is none. */
enum { SIGNALS, OWN_IN, PROG_IN, PROG_OUT, OWN_OUT, PROG_ERR, OWN_ERR, ENDED, SLOTS };

/* So many buffers are moved before poll() looks at everything again. */
enum { ROUNDS = 16 };

static bool progress; /* is shown, and hidden when something else is */

static bool empty(const struct buffer *b)
{
	return b->start == b->end;
}

static struct pollfd watch(int fd, int events)
{
	return (struct pollfd){ .fd = fd, .events = (short)events };
}

static bool ready(int fd, int events)
{
	struct pollfd set = watch(fd, events);

	return poll(&set, 1, 0) > 0;
}

static struct sink open_sink(int fd)
{
	struct sink s = { .fd = fd, .kind = WAITS };
	char path[32];
	struct stat st;
	int again;

	if (fstat(fd, &st) < 0)
		return s;
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))
		s.kind = WAITS_NEVER;
	else if (S_ISSOCK(st.st_mode))
		s.kind = SOCKET;
	else if (S_ISFIFO(st.st_mode) || isatty(fd)) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		again = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (again >= 0)
			s = (struct sink){ .fd = again, .kind = WAITS_NEVER };
	}
	return s;
}

static ssize_t sink_write(const struct sink *s, const char *bytes, size_t len)
{
	ssize_t n;

	switch (s->kind) {
	case SOCKET:
		n = send(s->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case WAITS:
		/* A pipe that poll() calls writable takes this much at once. */
		if (!ready(s->fd, POLLOUT))
			return -EAGAIN;
		n = write(s->fd, bytes, len < PIPE_BUF ? len : PIPE_BUF);
		break;
	default:
		n = write(s->fd, bytes, len);
	}
	return n < 0 ? -errno : n;
}

/* To whoever is at the other end it looks as if the program had done it. */
static void give_away(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0) {
		dup2(null, fd);
		close(null);
	}
}

/*
 * On a terminal the library types the end-of-file character, if the program
 * reads lines. One that reads keys has to make sense of the key itself, and
 * those that are used by hand do.
 */
static void input_end(struct input *in, nr_proc p)
{
	int error = nr_close_stdin(p);
	char eof = 4; /* Ctrl-D */

	if (error == -ENOTTY)
		error = (int)nr_write(p, &eof, 1);
	in->done = error != -EAGAIN;
}

static void input_move(struct input *in, nr_proc p, bool pty)
{
	for (int i = 0; i < ROUNDS && !in->done; i++) {
		struct buffer *b = &in->b;
		ssize_t n;

		if (in->ending) {
			input_end(in, p);
			return;
		}
		if (empty(b)) {
			if (!ready(STDIN_FILENO, POLLIN))
				return;
			n = read(STDIN_FILENO, b->bytes, sizeof b->bytes);
			if (n < 0 && (errno == EINTR || errno == EAGAIN))
				return;
			in->ending = n <= 0;
			if (in->ending)
				continue;
			b->start = 0;
			b->end = (size_t)n;
		}
		n = nr_write(p, b->bytes + b->start, b->end - b->start);
		if (n == -EAGAIN)
			return;
		if (n > 0) {
			b->start += (size_t)n;
			in->total += (uint64_t)n;
			continue;
		}
		/* It does not want more: no error, but for who feeds us. */
		in->done = true;
		nr_close_stdin(p);
		if (!pty)
			give_away(STDIN_FILENO);
	}
}

static void input_watch(const struct input *in, nr_proc p, struct pollfd *set)
{
	if (in->done)
		return;
	if (empty(&in->b) && !in->ending) {
		set[OWN_IN] = watch(STDIN_FILENO, POLLIN);
		/* No events: only to hear that the program has closed it. */
		set[PROG_IN] = watch(nr_fd(p, NR_STDIN), 0);
	} else {
		set[PROG_IN] = watch(nr_fd(p, NR_STDIN), POLLOUT);
	}
}

/*
 * When nobody reads our output any more, then nobody reads the program's: it
 * gets the SIGPIPE that we ignore, and decides itself what follows from that.
 * A terminal of its own hangs up on it.
 */
static void output_broken(struct output *o, nr_proc p, bool pty)
{
	nr_close(p, o->stream);
	if (pty)
		nr_close(p, NR_STDIN);
	o->done = true;
}

static void output_move(struct output *o, nr_proc p, bool pty)
{
	for (int i = 0; i < ROUNDS && !o->done; i++) {
		struct buffer *b = &o->b;
		ssize_t n;

		if (empty(b)) {
			n = nr_read(p, o->stream, b->bytes, sizeof b->bytes);
			if (n == -EAGAIN)
				return;
			if (n <= 0) {
				/* -EFBIG: nr_wait() says so, too. */
				if (n < 0 && n != -EFBIG) {
					say("read: %s", nr_strerror((int)n));
					o->failed = true;
				}
				o->done = true;
				return;
			}
			b->start = 0;
			b->end = (size_t)n;
		}
		if (progress)
			progress_hide(b->bytes[b->end - 1]);
		n = sink_write(&o->sink, b->bytes + b->start, b->end - b->start);
		if (n >= 0) {
			b->start += (size_t)n;
			o->total += (uint64_t)n;
			continue;
		}
		if (n == -EINTR || n == -EAGAIN)
			return;
		if (n != -EPIPE && n != -EIO) {
			say("write: %s", strerror((int)-n));
			o->failed = true;
		}
		output_broken(o, p, pty);
	}
}

static void output_watch(const struct output *o, nr_proc p, struct pollfd *from, struct pollfd *to)
{
	if (o->done)
		return;
	if (empty(&o->b)) {
		*from = watch(nr_fd(p, o->stream), POLLIN);
		/* No events: only to hear that our reader has gone. */
		*to = watch(o->sink.fd, 0);
	} else {
		*to = watch(o->sink.fd, POLLOUT);
	}
}

/* Those that come from outside; SIGKILL and SIGSTOP can't be had. */
static bool is_forwarded(int sig)
{
	struct sigaction is;

	switch (sig) {
	case SIGSEGV: /* our own faults */
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGTRAP:
	case SIGABRT:
	case SIGSYS:
	case SIGKILL:
	case SIGSTOP:
	case SIGTTIN: /* for who uses the terminal: us */
	case SIGTTOU:
	case SIGCHLD:
	case SIGPIPE:
	case SIGURG:
		return false;
	default:
		/* What we were started with, as by nohup(1), holds. */
		return sigaction(sig, NULL, &is) == 0 && is.sa_handler != SIG_IGN;
	}
}

/*
 * Signals are read from a descriptor, in the loop, where everything is allowed
 * that a handler must not do. They have to be blocked for that, and that before
 * the library starts threads. The program does not inherit the mask.
 */
int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (int sig = 1; sig < SIGRTMIN; sig++)
		if (is_forwarded(sig))
			sigaddset(&set, sig);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -1;
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/*
 * Stops the program, then us, so that the shell gets its terminal back. Our own
 * SIGCONT comes after this, and is passed on like any other. It is SIGSTOP,
 * because of SIGTSTP the kernel does not take notice in an orphaned group.
 */
static void suspend(nr_proc p, bool pty)
{
	nr_kill(p, SIGSTOP);
	terminal_restore();
	raise(SIGSTOP);
	nr_kill(p, SIGCONT);
	if (pty)
		terminal_raw();
}

static void resize(nr_proc p)
{
	uint16_t rows, cols;

	if (terminal_size(&rows, &cols))
		nr_winsize(p, rows, cols);
}

/* Returns 128 + N if there is nobody to give signal N to, otherwise 0. */
static int take_signal(int fd, nr_proc p, bool pty)
{
	struct signalfd_siginfo info;
	int sig;

	if (read(fd, &info, sizeof info) != sizeof info)
		return 0;
	sig = (int)info.ssi_signo;
	if (sig == SIGWINCH) {
		if (pty)
			resize(p);
	} else if (sig == SIGTSTP) {
		suspend(p, pty);
		if (pty)
			resize(p); /* it may have been another size meanwhile */
	} else if (nr_kill(p, sig) == -ESRCH && sig != SIGCONT) {
		return 128 + sig;
	}
	return 0;
}

int copy(nr_proc p, const struct request *r, int signals, nr_outcome *how)
{
	static struct input in;
	static struct output out = { .stream = NR_STDOUT, .to = STDOUT_FILENO };
	static struct output err = { .stream = NR_STDERR, .to = STDERR_FILENO };
	bool pty = r->o.flags & NR_PTY;
	int ended = -EAGAIN;

	out.sink = open_sink(out.to);
	err.sink = open_sink(err.to);
	err.done = r->o.err.mode != NR_STDIO_PIPE;
	progress = r->progress && isatty(STDERR_FILENO);
	if (progress)
		progress_start();

	for (;;) {
		struct pollfd set[SLOTS];

		input_move(&in, p, pty);
		output_move(&out, p, pty);
		output_move(&err, p, pty);
		if (ended != -EAGAIN && out.done && err.done)
			break;

		for (int i = 0; i < SLOTS; i++)
			set[i] = watch(-1, 0);
		set[SIGNALS] = watch(signals, POLLIN);
		input_watch(&in, p, set);
		output_watch(&out, p, &set[PROG_OUT], &set[OWN_OUT]);
		output_watch(&err, p, &set[PROG_ERR], &set[OWN_ERR]);
		if (ended == -EAGAIN)
			set[ENDED] = watch(nr_fd(p, NR_EXIT), POLLIN);

		if (poll(set, SLOTS, progress ? progress_due() : -1) < 0 && errno != EINTR) {
			say("poll: %s", strerror(errno));
			return 1;
		}
		if (progress && progress_due() == 0)
			progress_show(in.total, out.total + err.total);

		if (set[SIGNALS].revents) {
			int status = take_signal(signals, p, pty);

			if (status)
				return status;
		}
		/* The far sides may be gone while there is nothing to write. */
		if (set[PROG_IN].revents & (POLLERR | POLLHUP | POLLNVAL)) {
			in.done = true;
			nr_close_stdin(p);
			if (!pty)
				give_away(STDIN_FILENO);
		}
		if (!out.done && set[OWN_OUT].revents & (POLLERR | POLLHUP))
			output_broken(&out, p, pty);
		if (!err.done && set[OWN_ERR].revents & (POLLERR | POLLHUP))
			output_broken(&err, p, pty);
		if (set[ENDED].revents) {
			ended = nr_wait(p, 0, how);
			if (ended != -EAGAIN)
				in.done = true; /* nobody is left to read it */
		}
	}
	if (progress)
		progress_hide('\n');
	return ended == 0 && (out.failed || err.failed) ? 1 : ended;
}
