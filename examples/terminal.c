/* SPDX-License-Identifier: Apache-2.0 */

/*
 * terminal - run a program on a new terminal, and be the cable between that
 * one and our own.
 *
 *     terminal [COMMAND [ARG...]]
 *
 * Without a command it runs $SHELL. Keys pass untouched, Ctrl-C and Ctrl-Z
 * included: it is the new terminal that gives them a meaning. Changes of our
 * window's size are passed on. If our stdin is no terminal, its bytes are typed
 * and its end types the end-of-file character.
 *
 * Exits with the program's code, or with 128 + N if signal N ended it.
 */

#define _GNU_SOURCE /* cfmakeraw */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <netrunner.h>

/* Filled only when it is empty: see run.c about flow control. */
struct buffer {
	size_t start;
	size_t end;
	char bytes[1 << 14];
};

enum { KEYS, TYPED, SHOWN, SCREEN, SIGNALS, ENDED, SLOTS };

static struct termios before; /* our terminal, as we found it */
static bool raw;

/* TCSADRAIN, not TCSAFLUSH: what was typed ahead is not to be lost. */
static void raw_mode(void)
{
	struct termios t;

	if (tcgetattr(STDIN_FILENO, &before) < 0)
		return; /* no terminal */
	t = before;
	cfmakeraw(&t);
	raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &t) == 0;
}

/* Also run by atexit(), so that no way out of main() can forget it. */
static void restore_mode(void)
{
	if (raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
	raw = false;
}

/* The size of the window we run in, 0 x 0 if we run in none. */
static struct winsize window(void)
{
	struct winsize w;

	for (int fd = 0; fd <= 2; fd++)
		if (ioctl(fd, TIOCGWINSZ, &w) == 0)
			return w;
	return (struct winsize){ 0 };
}

static void resize(nr_proc p)
{
	struct winsize w = window();

	if (w.ws_row > 0 && w.ws_col > 0)
		nr_winsize(p, w.ws_row, w.ws_col);
}

/*
 * Signals are read from a descriptor, in the loop, where everything is allowed
 * that a handler must not do. They have to be blocked for that. It is done
 * before the first call of the library, so that the threads which that starts
 * do not take the signals either. The program does not inherit the mask.
 */
static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigaddset(&set, SIGTSTP);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -1;
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* Returns the signal if it is one that ends us, otherwise 0. */
static int take_signal(int fd, nr_proc p)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof info) != (ssize_t)sizeof info)
		return 0;
	switch (info.ssi_signo) {
	case SIGWINCH:
		resize(p);
		return 0;
	case SIGTSTP:
		/* Not from our keys, which are raw: someone sent it. */
		restore_mode();
		raise(SIGSTOP);
		raw_mode();
		resize(p);
		return 0;
	default:
		return (int)info.ssi_signo;
	}
}

/* Ends us by the signal that we have held back, so that our parent sees it. */
static void die_of(int sig)
{
	sigset_t set;

	signal(sig, SIG_DFL);
	raise(sig); /* stays pending, for it is blocked */
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static struct pollfd watch(int fd, int events)
{
	return (struct pollfd){ .fd = fd, .events = (short)events };
}

/*
 * The end of our stdin. To a program that reads lines the library types the
 * end-of-file character. One that reads keys has to make sense of the key
 * itself, and those that are used by hand do.
 */
static void type_end(nr_proc p)
{
	char eof = 4; /* Ctrl-D */

	if (nr_close_stdin(p) == -ENOTTY)
		nr_write(p, &eof, 1);
}

/*
 * Copies both ways until the program has ended and all its output is shown.
 * Returns 0, or the signal that ended us, or -1 when there is no screen left;
 * *ended is what nr_wait() said.
 */
static int drive(nr_proc p, int signals, int *ended, nr_outcome *how)
{
	static struct buffer keys, screen;
	bool typing = true, showing = true;

	*ended = -EAGAIN;
	while (*ended == -EAGAIN || showing) {
		struct pollfd set[SLOTS];
		ssize_t n;

		for (int i = 0; i < SLOTS; i++)
			set[i] = watch(-1, 0);
		set[SIGNALS] = watch(signals, POLLIN);
		if (typing && keys.start == keys.end)
			set[KEYS] = watch(STDIN_FILENO, POLLIN);
		else if (typing)
			set[TYPED] = watch(nr_fd(p, NR_STDIN), POLLOUT);
		if (showing && screen.start == screen.end) {
			set[SHOWN] = watch(nr_fd(p, NR_STDOUT), POLLIN);
			set[SCREEN] = watch(STDOUT_FILENO, 0);
		} else if (showing) {
			set[SCREEN] = watch(STDOUT_FILENO, POLLOUT);
		}
		if (*ended == -EAGAIN)
			set[ENDED] = watch(nr_fd(p, NR_EXIT), POLLIN);

		if (poll(set, SLOTS, -1) < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}

		if (set[SIGNALS].revents != 0) {
			int sig = take_signal(signals, p);

			if (sig != 0)
				return sig;
		}

		if (set[KEYS].revents != 0) {
			n = read(STDIN_FILENO, keys.bytes, sizeof keys.bytes);
			if (n > 0) {
				keys.start = 0;
				keys.end = (size_t)n;
			} else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
				type_end(p);
				typing = false;
			}
		}
		if (set[TYPED].revents != 0) {
			n = nr_write(p, keys.bytes + keys.start, keys.end - keys.start);
			if (n > 0)
				keys.start += (size_t)n;
			else if (n != -EAGAIN)
				typing = false; /* nobody is there any more */
		}

		if (set[SHOWN].revents != 0) {
			n = nr_read(p, NR_STDOUT, screen.bytes, sizeof screen.bytes);
			if (n > 0) {
				screen.start = 0;
				screen.end = (size_t)n;
			} else if (n != -EAGAIN) {
				showing = false;
			}
		}
		if (set[SCREEN].revents & POLLOUT) {
			size_t len = screen.end - screen.start;

			/* No more than is sure not to block, see run.c. */
			if (len > PIPE_BUF)
				len = PIPE_BUF;
			n = write(STDOUT_FILENO, screen.bytes + screen.start, len);
			if (n >= 0)
				screen.start += (size_t)n;
			else if (errno != EINTR && errno != EAGAIN)
				return -1;
		} else if (set[SCREEN].revents != 0) {
			return -1;
		}

		if (set[ENDED].revents != 0) {
			*ended = nr_wait(p, 0, how);
			if (*ended != -EAGAIN)
				typing = false;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *shell = getenv("SHELL");
	const char *const fallback[] = { shell != NULL && *shell != '\0' ? shell : "/bin/sh",
					 NULL };
	nr_options o = { .size = sizeof o, .flags = NR_PTY };
	nr_outcome how = { .size = sizeof how };
	struct winsize w = window();
	int signals, sig, ended;
	char why[256];
	nr_proc p;

	o.argv = argc > 1 ? (const char *const *)(argv + 1) : fallback;
	o.rows = w.ws_row;
	o.cols = w.ws_col;

	/* As in run.c: keep 0, 1 and 2 from becoming something else. */
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return 125;

	signal(SIGPIPE, SIG_IGN);
	signals = open_signals();
	if (signals < 0) {
		fprintf(stderr, "terminal: signalfd: %s\n", strerror(errno));
		return 125;
	}

	p = nr_spawn(&o, why, sizeof why);
	if (p < 0) {
		fprintf(stderr, "terminal: %s (%s)\n", why, nr_errname((int)p));
		return p == -ENOENT ? 127 : 126;
	}

	/* Only now: after a failure there was nothing to restore. */
	atexit(restore_mode);
	raw_mode();
	sig = drive(p, signals, &ended, &how);
	restore_mode();

	/*
	 * If the program still runs, then this closes its terminal, which
	 * hangs up on it (SIGHUP), and the shepherd ends what survives that.
	 */
	nr_release(p);
	close(signals);

	if (sig > 0)
		die_of(sig);
	if (sig != 0)
		return 125;
	if (ended < 0) {
		fprintf(stderr, "terminal: %s\n", nr_strerror(ended));
		return 125;
	}
	return how.signal >= 0 ? 128 + how.signal : how.code;
}
