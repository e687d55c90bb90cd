/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The byte path. It is C because a crossing into Go costs more than the system
 * call itself, and stalls while Go collects garbage. It makes its calls by
 * syscall(2), which pthread_cancel(3) does not interrupt: read(2) and its like
 * would never leave the gate.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "_cgo_export.h"
#include "guest.h"
#include "table.h"

/* Linux 6.18. Not in older headers. */
#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x00000100
#endif

/*
 * enter enters the gate of a stream that is connected to the host.
 */
static int enter(nr_proc p, int stream, struct nr_slot **slot)
{
	int error = nr_guest_check();
	if (!error)
		error = nr_table_enter(p, stream, slot);
	if (!error && (*slot)->fd[stream] < 0) {
		nr_table_leave(*slot, stream);
		error = -EINVAL;
	}
	return error;
}

int nr_fd(nr_proc p, int stream)
{
	struct nr_slot *slot;
	if (stream < NR_STDIN || stream > NR_EXIT) {
		int error = nr_guest_check();
		return error ? error : -EINVAL;
	}
	int error = enter(p, stream, &slot);
	if (error)
		return error;
	int fd = slot->fd[stream];
	nr_table_leave(slot, stream);
	return fd;
}

/*
 * grow makes a pipe larger from which more has been read at a stretch than it
 * holds: its program is kept waiting by it. 256 KiB are enough to make the two
 * take turns a quarter as often; more gains nothing.
 */
static void grow(struct nr_slot *slot, int stream, ssize_t n)
{
	enum { USUAL = 64 << 10, LARGE = 256 << 10 };
	uint32_t unbroken = 0;

	if (n > 0) {
		unbroken = atomic_load_explicit(&slot->unbroken[stream], memory_order_relaxed);
		if (unbroken >= USUAL)
			return;
		unbroken += n < USUAL ? (uint32_t)n : USUAL;
		/* EPERM: the user has too many large ones already. */
		if (unbroken >= USUAL && nr_table_grow(slot, stream))
			fcntl(slot->fd[stream], F_SETPIPE_SZ, LARGE);
	}
	atomic_store_explicit(&slot->unbroken[stream], unbroken, memory_order_relaxed);
}

/* The end of a terminal reads as EIO. */
static ssize_t read_stream(struct nr_slot *slot, int stream, void *buf, size_t len)
{
	ssize_t n;
	do
		n = syscall(SYS_read, slot->fd[stream], buf, len);
	while (n < 0 && errno == EINTR);
	int error = errno;
	if (slot->default_pipe[stream])
		grow(slot, stream, n);
	if (n >= 0)
		return n;
	return error == EIO && slot->terminal[stream] ? 0 : -error;
}

/*
 * read_limited delivers no more than output_limit. Only when that much has been
 * delivered, and there is one byte more, is there too much.
 */
static ssize_t read_limited(nr_proc p, struct nr_slot *slot, int stream, void *buf, size_t len)
{
	ssize_t n = -EFBIG;
	bool passed_now = false;

	pthread_mutex_lock(&slot->limit_mutex);
	if (!atomic_load(&slot->limit_reached)) {
		uint64_t delivered =
			atomic_load(&slot->bytes[NR_STDOUT]) + atomic_load(&slot->bytes[NR_STDERR]);
		uint64_t room = slot->output_limit - delivered;
		char more;
		if (room > 0) {
			n = read_stream(slot, stream, buf, len < room ? len : room);
			if (n > 0)
				atomic_fetch_add(&slot->bytes[stream], (uint64_t)n);
		} else {
			n = read_stream(slot, stream, &more, 1);
			if (n > 0) {
				n = -EFBIG;
				passed_now = true;
				atomic_store(&slot->limit_reached, true);
			}
		}
	}
	pthread_mutex_unlock(&slot->limit_mutex);

	if (passed_now) {
		int ignored;
		NR_GO(ignored, nrg_stop(p, NR_REASON_OUTPUT));
		(void)ignored;
	}
	return n;
}

ssize_t nr_read(nr_proc p, int stream, void *buf, size_t len)
{
	struct nr_slot *slot;
	if (stream != NR_STDOUT && stream != NR_STDERR) {
		int error = nr_guest_check();
		return error ? error : -EINVAL;
	}
	int error = enter(p, stream, &slot);
	if (error)
		return error == -EPIPE && len == 0 ? -EINVAL : error;
	ssize_t n = -EINVAL;
	if (len > SSIZE_MAX)
		len = SSIZE_MAX;
	if (len > 0 && buf) {
		if (slot->output_limit) {
			n = read_limited(p, slot, stream, buf, len);
		} else {
			n = read_stream(slot, stream, buf, len);
			if (n > 0)
				atomic_fetch_add_explicit(&slot->bytes[stream], (uint64_t)n,
							  memory_order_relaxed);
		}
		if (n > 0)
			atomic_fetch_add_explicit(&slot->reads, 1, memory_order_relaxed);
		else if (n == 0 && nr_table_is_closed(slot, stream))
			/* Another thread's close, or the end that its release has brought about. */
			n = nr_table_is_closed(slot, NR_EXIT) ? -EBADF : -EPIPE;
	}
	nr_table_leave(slot, stream);
	return n;
}

/*
 * write_masked writes without a SIGPIPE where the kernel can't: the signal is
 * blocked, and taken if it was this write that raised it.
 */
static ssize_t write_masked(int fd, const void *buf, size_t len)
{
	sigset_t pipe, saved, pending;
	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe, &saved);
	bool was_blocked = sigismember(&saved, SIGPIPE) == 1;
	bool was_pending = was_blocked && sigpending(&pending) == 0 &&
			   sigismember(&pending, SIGPIPE) == 1;
	ssize_t n = syscall(SYS_write, fd, buf, len);
	int error = errno;
	if (n < 0 && error == EPIPE && !was_pending) {
		static const struct timespec now;
		while (syscall(SYS_rt_sigtimedwait, &pipe, NULL, &now, sizeof(uint64_t)) < 0 &&
		       errno == EINTR)
			continue;
	}
	if (!was_blocked)
		pthread_sigmask(SIG_SETMASK, &saved, NULL);
	errno = error;
	return n;
}

static ssize_t write_pipe(int fd, const void *buf, size_t len)
{
	static _Atomic bool without_flag; /* the kernel is older than RWF_NOSIGNAL */
	ssize_t n;
	do {
		if (!atomic_load_explicit(&without_flag, memory_order_relaxed)) {
			struct iovec all = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
			/* No offset: -1, in both halves. musl has no function for it before 1.2.5.
			 */
			n = syscall(SYS_pwritev2, fd, &all, 1L, -1L, -1L, RWF_NOSIGNAL);
			if (n >= 0 || (errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS))
				continue;
			atomic_store(&without_flag, true);
		}
		n = write_masked(fd, buf, len);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* A terminal raises no SIGPIPE. Nobody at its other side is EIO. */
static ssize_t write_terminal(struct nr_slot *slot, const char *buf, size_t len)
{
	ssize_t n;
	do
		n = syscall(SYS_write, slot->fd[NR_STDIN], buf, len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EIO ? -EPIPE : -errno;
	if (n == 0)
		return -EAGAIN;
	atomic_store(&slot->last_typed, (unsigned char)buf[n - 1]);
	return n;
}

ssize_t nr_write(nr_proc p, const void *buf, size_t len)
{
	struct nr_slot *slot;
	int error = enter(p, NR_STDIN, &slot);
	if (error)
		return error == -EPIPE && len == 0 ? -EINVAL : error;
	ssize_t n = -EINVAL;
	if (len > SSIZE_MAX)
		len = SSIZE_MAX;
	if (len > 0 && buf)
		n = slot->terminal[NR_STDIN] ? write_terminal(slot, buf, len)
					     : write_pipe(slot->fd[NR_STDIN], buf, len);
	if (n > 0) {
		atomic_fetch_add_explicit(&slot->bytes[NR_STDIN], (uint64_t)n,
					  memory_order_relaxed);
		atomic_fetch_add_explicit(&slot->writes, 1, memory_order_relaxed);
	}
	nr_table_leave(slot, NR_STDIN);
	return n;
}

/*
 * type_end_of_file types the terminal's end-of-file character. In the middle of
 * a line the first one only delivers what there is of it.
 */
static int type_end_of_file(struct nr_slot *slot)
{
	struct termios t;
	int fd = slot->fd[NR_STDIN];
	if (tcgetattr(fd, &t) < 0)
		return errno == EIO ? 0 : -errno; /* EIO: nobody is there to tell */
	if (!(t.c_lflag & ICANON) || t.c_cc[VEOF] == _POSIX_VDISABLE)
		return -ENOTTY;
	char end[2] = { (char)t.c_cc[VEOF], (char)t.c_cc[VEOF] };
	unsigned char last = atomic_load(&slot->last_typed);
	bool line_ended = last == 0 || last == '\n' || (last == '\r' && t.c_iflag & ICRNL) ||
			  last == t.c_cc[VEOF];
	size_t left = line_ended ? 1 : 2;
	while (left > 0) {
		ssize_t n = syscall(SYS_write, fd, end, left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EIO ? 0 : -errno;
		if (n == 0)
			return -EAGAIN;
		left -= (size_t)n;
		atomic_store(&slot->last_typed, t.c_cc[VEOF]);
	}
	return 0;
}

int nr_close(nr_proc p, int stream)
{
	struct nr_slot *slot;
	if (stream < NR_STDIN || stream > NR_STDERR) {
		int error = nr_guest_check();
		return error ? error : -EINVAL;
	}
	int error = enter(p, stream, &slot);
	if (error)
		return error == -EPIPE ? 0 : error; /* closed before */
	if (stream == NR_STDIN && slot->terminal[NR_STDIN])
		error = type_end_of_file(slot);
	if (!error)
		nr_table_close(slot, stream);
	nr_table_leave(slot, stream);
	return error;
}

int nr_close_stdin(nr_proc p)
{
	return nr_close(p, NR_STDIN);
}

int nr_winsize(nr_proc p, uint16_t rows, uint16_t cols)
{
	struct nr_slot *slot;
	int error = enter(p, NR_TERMINAL, &slot);
	if (error)
		return error == -EINVAL ? -ENOTTY : error;
	struct winsize size = { .ws_row = rows, .ws_col = cols };
	if (ioctl(slot->fd[NR_TERMINAL], TIOCSWINSZ, &size) < 0)
		error = -errno;
	nr_table_leave(slot, NR_TERMINAL);
	return error;
}
