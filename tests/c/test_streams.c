/* SPDX-License-Identifier: Apache-2.0 */

/* Moving bytes: the EVENT LOOPS table, row by row and under each watcher. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support.h"

#define MEGABYTES_10 10000000

#define FOR_EACH_WATCHER(kind) for (enum watcher kind = WATCH_SELECT; kind < WATCHERS; kind++)

/* Whole conversations under each way to watch. */

static void check_copied(enum watcher kind, size_t len)
{
	const unsigned char *bytes = pattern(len);
	nr_proc p = spawn(OPTIONS(.argv = ARGV("cat"), .err = PIPE));
	struct result *r = converse(p, kind, bytes, len);
	nr_statistics s = { .size = sizeof s };

	CHECK_EQ_INT(r->written, len, "%s", watcher_name(kind));
	CHECK_EQ_INT(r->in_error, 0);
	CHECK_MEM(r->out.data, r->out.len, bytes, len, "%s", watcher_name(kind));
	CHECK_EQ_INT(r->out_end, 0);
	CHECK_EQ_INT(r->err_end, 0);
	CHECK_EQ_INT(r->status, 0);
	check_code(&r->how, 0, NR_REASON_OWN);
	CHECK_EQ_INT(nr_stats(p, &s), 0);
	CHECK_EQ_INT(s.stdin_bytes, len);
	CHECK_EQ_INT(s.stdout_bytes, len);
	CHECK_EQ_INT(s.stderr_bytes, 0);
	release(p);
}

TEST(loop_without_input)
{
	FOR_EACH_WATCHER(kind)
		check_copied(kind, 0);
}

TEST(loop_with_a_little)
{
	FOR_EACH_WATCHER(kind)
		check_copied(kind, 5);
}

/* Fed and read back in one loop: whoever writes all first deadlocks. */
TEST(loop_with_ten_megabytes)
{
	FOR_EACH_WATCHER(kind)
		check_copied(kind, MEGABYTES_10);
}

TEST(loop_with_both_outputs)
{
	FOR_EACH_WATCHER(kind) {
		nr_proc p = spawn(OPTIONS(.argv = PROG("write", "1", "300000", "2", "300000", "1",
						       "5", "2", "0"),
					  .err = PIPE));
		struct result *r = converse(p, kind, NULL, 0);

		CHECK_EQ_INT(r->out.len, 300005, "%s", watcher_name(kind));
		CHECK_MEM(r->err.data, r->err.len, pattern(300000), 300000);
		check_code(&r->how, 0, NR_REASON_OWN);
		release(p);
	}
}

TEST(loop_with_short_exchanges)
{
	FOR_EACH_WATCHER(kind) {
		nr_proc p = spawn(OPTIONS(.argv = PROG("lines")));
		struct buffer out = { 0 };
		struct watch w;

		watch_open(&w, kind);
		watch_add(&w, 0, nr_fd(p, NR_STDOUT), POLLIN);
		for (int i = 0; i < 100; i++) {
			char answer[64];
			char expected[64];
			ssize_t n = nr_read(p, NR_STDOUT, answer, sizeof answer);

			CHECK_EQ_INT(n, -EAGAIN);
			say_text(p, check_format("%d\n", i));
			/* An answer of one write of few bytes comes in one piece. */
			REQUIRE(watch_wait(&w, (int)check_patience_ms()) == 1, "%s",
				watcher_name(kind));
			n = nr_read(p, NR_STDOUT, answer, sizeof answer - 1);
			REQUIRE(n > 0, "%s: %zd", watcher_name(kind), n);
			answer[n] = '\0';
			snprintf(expected, sizeof expected, "got %d\n", i);
			CHECK_STR(answer, expected);
		}
		watch_remove(&w, 0);
		watch_close(&w);
		CHECK_EQ_INT(nr_close_stdin(p), 0);
		CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
		CHECK_EQ_INT(wait_end(p).code, 0);
		release(p);
	}
}

/* The rows of the table, one by one. */

/* Writes until there is no room. Returns how much went in. */
static size_t fill_stdin(nr_proc p)
{
	const unsigned char *bytes = pattern(1 << 20);
	size_t written = 0;

	for (;;) {
		ssize_t n = nr_write(p, bytes + written % 1024, 65536);

		if (n == -EAGAIN)
			return written;
		REQUIRE(n > 0 && n <= 65536, "%zd", n);
		written += (size_t)n;
		REQUIRE(written < 100 << 20, "a pipe has no end");
	}
}

TEST(row_stdin_gets_writable)
{
	FOR_EACH_WATCHER(kind) {
		nr_proc p = spawn(OPTIONS(.argv = PROG("copy-on-signal"), .out = PIPE));
		struct buffer out = { 0 };
		struct watch w;
		size_t written;

		read_until(p, NR_STDOUT, &out, "waiting\n");
		watch_open(&w, kind);
		watch_add(&w, 0, nr_fd(p, NR_STDIN), POLLOUT);
		written = fill_stdin(p);
		CHECK(written >= 4096);
		CHECK_EQ_INT(watch_wait(&w, 0), 0, "%s: full, and yet ready", watcher_name(kind));
		CHECK_EQ_INT(nr_write(p, "x", 1), -EAGAIN);
		CHECK_EQ_INT(nr_kill(p, SIGUSR1), 0);
		while (nr_write(p, "x", 1) == -EAGAIN)
			REQUIRE(watch_wait(&w, (int)check_patience_ms()) == 1, "%s",
				watcher_name(kind));
		watch_remove(&w, 0);
		watch_close(&w);
		CHECK_EQ_INT(nr_close_stdin(p), 0);
		CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
		CHECK_EQ_INT(out.len, 8 + written + 1);
		CHECK_EQ_INT(wait_end(p).code, 0);
		release(p);
	}
}

TEST(row_stdin_hang_up_is_ready)
{
	FOR_EACH_WATCHER(kind) {
		nr_proc p = spawn(OPTIONS(.argv = PROG("gate")));
		struct watch w;

		watch_open(&w, kind);
		fill_stdin(p);
		watch_add(&w, 0, nr_fd(p, NR_STDIN), POLLOUT);
		CHECK_EQ_INT(nr_kill(p, SIGKILL), 0);
		while (nr_write(p, "x", 1) != -EPIPE)
			REQUIRE(watch_wait(&w, (int)check_patience_ms()) == 1, "%s",
				watcher_name(kind));
		watch_remove(&w, 0);
		watch_close(&w);
		wait_end(p);
		release(p);
	}
}

static void check_output_row(enum watcher kind, int stream)
{
	nr_proc p = spawn(OPTIONS(.argv = stream == NR_STDOUT
						  ? PROG("lines")
						  : SH("while read l; do echo got $l >&2; done"),
				  .err = PIPE));
	struct watch w;
	char byte;

	watch_open(&w, kind);
	CHECK_EQ_INT(nr_read(p, stream, &byte, 1), -EAGAIN);
	watch_add(&w, 0, nr_fd(p, stream), POLLIN);
	CHECK_EQ_INT(watch_wait(&w, 0), 0, "%s: nothing to read, and yet ready",
		     watcher_name(kind));
	for (int i = 0; i < 3; i++) {
		size_t got = 0;
		ssize_t n;

		say_text(p, "x\n");
		while (got < 6) {
			REQUIRE(watch_wait(&w, (int)check_patience_ms()) == 1, "%s",
				watcher_name(kind));
			/* Byte by byte to -EAGAIN: only then may an edge be awaited. */
			while ((n = nr_read(p, stream, &byte, 1)) == 1)
				CHECK_EQ_INT(byte, "got x\n"[got++]);
			REQUIRE_EQ_INT(n, -EAGAIN);
		}
		CHECK_EQ_INT(watch_wait(&w, 0), 0, "%s: drained, and yet ready",
			     watcher_name(kind));
	}
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	/* The end is an event like any other. */
	while (nr_read(p, stream, &byte, 1) == -EAGAIN)
		REQUIRE(watch_wait(&w, (int)check_patience_ms()) == 1, "%s", watcher_name(kind));
	CHECK_EQ_INT(nr_read(p, stream, &byte, 1), 0);
	watch_remove(&w, 0);
	watch_close(&w);
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
}

TEST(row_stdout_gets_readable)
{
	FOR_EACH_WATCHER(kind)
		check_output_row(kind, NR_STDOUT);
}

TEST(row_stderr_gets_readable)
{
	FOR_EACH_WATCHER(kind)
		check_output_row(kind, NR_STDERR);
}

TEST(row_exit_gets_readable_and_stays_so)
{
	FOR_EACH_WATCHER(kind) {
		nr_proc p = spawn(OPTIONS(.argv = PROG("gate", "9")));
		nr_outcome how = { .size = sizeof how };
		struct watch w;

		watch_open(&w, kind);
		CHECK_EQ_INT(nr_wait(p, 0, &how), -EAGAIN);
		watch_add(&w, 0, nr_fd(p, NR_EXIT), POLLIN);
		CHECK_EQ_INT(watch_wait(&w, 0), 0, "%s: running, and yet ready",
			     watcher_name(kind));
		CHECK_EQ_INT(nr_close_stdin(p), 0);
		while (nr_wait(p, 0, &how) == -EAGAIN)
			REQUIRE(watch_wait(&w, (int)check_patience_ms()) == 1, "%s",
				watcher_name(kind));
		check_code(&how, 9, NR_REASON_OWN);
		watch_remove(&w, 0);
		/* Whoever comes later sees it too. */
		for (int i = 0; i < 3; i++) {
			watch_add(&w, 0, nr_fd(p, NR_EXIT), POLLIN);
			CHECK_EQ_INT(watch_wait(&w, 0), 1, "%s", watcher_name(kind));
			watch_remove(&w, 0);
		}
		watch_close(&w);
		release(p);
	}
}

/* Another process' traffic and other handles' ends wake nobody. */
TEST(rows_of_other_programs_are_apart)
{
	nr_proc quiet = spawn(OPTIONS(.argv = PROG("gate")));
	struct buffer out = { 0 };

	read_until(quiet, NR_STDOUT, &out, "ready\n");
	for (int i = 0; i < 20; i++)
		output_of(OPTIONS(.argv = PROG("write", "1", "1000")));
	CHECK(!is_ready(nr_fd(quiet, NR_STDOUT), POLLIN));
	CHECK(!is_ready(nr_fd(quiet, NR_EXIT), POLLIN));
	CHECK_EQ_INT(nr_wait(quiet, 0, NULL), -EAGAIN);
	nr_kill(quiet, SIGKILL);
	wait_end(quiet);
	release(quiet);
}

/* A runtime that wants to own what it watches gets a dup(). */
TEST(descriptors_may_be_duplicated_and_used_directly)
{
	nr_proc p = spawn(OPTIONS(.argv = ARGV("cat")));
	int in = fcntl(nr_fd(p, NR_STDIN), F_DUPFD_CLOEXEC, 3);
	int out = fcntl(nr_fd(p, NR_STDOUT), F_DUPFD_CLOEXEC, 3);
	char text[16] = "";

	close_later(in);
	close_later(out);
	REQUIRE(write(in, "direct", 6) == 6);
	wait_ready(out, POLLIN);
	CHECK_EQ_INT(read(out, text, sizeof text), 6);
	CHECK_STR(text, "direct");
	close_now(in);
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
	/* The duplicate outlives the handle. */
	CHECK_EQ_INT(read(out, text, sizeof text), 0);
}

/* Exit and end of output come in either order. */

TEST(output_may_end_before_the_program)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("close-outputs", "6"), .err = PIPE));
	struct buffer out = { 0 };
	char byte;

	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	CHECK_STR(out.data, "last words\n");
	wait_ready(nr_fd(p, NR_STDERR), POLLIN);
	CHECK_EQ_INT(nr_read(p, NR_STDERR, &byte, 1), 0);
	CHECK_EQ_INT(nr_wait(p, 0, NULL), -EAGAIN);
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	CHECK_EQ_INT(wait_end(p).code, 6);
	release(p);
}

TEST(output_may_be_read_after_the_exit)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("write", "1", "60000", "2", "50000"), .err = PIPE));
	struct buffer out = { 0 };
	struct buffer err = { 0 };

	CHECK_EQ_INT(wait_end(p).code, 0);
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	CHECK_EQ_INT(read_to_end(p, NR_STDERR, &err), 0);
	CHECK_MEM(out.data, out.len, pattern(60000), 60000);
	CHECK_MEM(err.data, err.len, pattern(50000), 50000);
	/* The end stays the end. */
	for (int i = 0; i < 3; i++)
		CHECK_EQ_INT(nr_read(p, NR_STDOUT, out.data, 10), 0);
	release(p);
}

/* Bulk. */

struct feeding {
	nr_proc p;
	const unsigned char *bytes;
	size_t len;
};

static void *feed(void *arg)
{
	struct feeding *f = arg;

	say(f->p, f->bytes, f->len);
	CHECK_EQ_INT(nr_close_stdin(f->p), 0);
	return NULL;
}

TEST(ten_megabytes_from_one_thread_to_another)
{
	nr_proc p = spawn(OPTIONS(.argv = ARGV("cat")));
	struct feeding f = { p, pattern(MEGABYTES_10), MEGABYTES_10 };
	struct buffer out = { 0 };
	thread *t = thread_start(feed, &f);

	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	thread_join(t);
	CHECK_MEM(out.data, out.len, f.bytes, f.len);
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
}

TEST(ten_megabytes_are_read_slowly)
{
	struct result *r =
		run_with(OPTIONS(.argv = PROG("sip")), pattern(MEGABYTES_10), MEGABYTES_10);

	CHECK_STR(r->out.data, check_format("%d intact\n", MEGABYTES_10));
}

TEST(sixty_thousand_bytes_are_never_short)
{
	for (int i = 0; i < 200 && !check_has_failed(); i++) {
		const struct buffer *out =
			output_of(OPTIONS(.argv = ARGV("head", "-c", "60000", "/dev/zero")));

		CHECK_EQ_INT(out->len, 60000, "run %d", i);
	}
}

/* The caller is told to wait; nothing blocks, and nothing is lost. */
TEST(input_stops_while_output_is_not_read)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("copy")));
	const unsigned char *bytes = pattern(4 << 20);
	struct buffer out = { 0 };
	size_t written = 0;
	int quiet = 0;

	/* Full is when the program, too, takes no more for a while. */
	while (quiet < 50) {
		ssize_t n = nr_write(p, bytes + written, (4u << 20) - written);

		REQUIRE(n > 0 || n == -EAGAIN, "%zd", n);
		quiet = n > 0 ? 0 : quiet + 1;
		written += n > 0 ? (size_t)n : 0;
		REQUIRE(written < 4u << 20, "two pipes took 4 MiB");
		if (n < 0)
			poll(&(struct pollfd){ .fd = nr_fd(p, NR_STDIN), .events = POLLOUT }, 1, 2);
	}
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	CHECK_MEM(out.data, out.len, bytes, written);
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
}

TEST(reads_of_every_size_are_intact)
{
	static const size_t sizes[] = {
		1, 2, 3, 7, 63, 64, 1000, 4095, 4096, 4097, 65537, 1 << 20
	};
	unsigned char *chunk = check_alloc(1 << 20);

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		size_t len = sizes[i] < 64 ? 20000 : 500000;
		nr_proc p = spawn(OPTIONS(.argv = PROG("write", "1", check_format("%zu", len))));
		struct buffer out = { 0 };
		ssize_t n;

		for (;;) {
			n = nr_read(p, NR_STDOUT, chunk, sizes[i]);
			REQUIRE(n <= (ssize_t)sizes[i]);
			if (n == -EAGAIN)
				wait_ready(nr_fd(p, NR_STDOUT), POLLIN);
			else if (n > 0)
				buffer_append(&out, chunk, (size_t)n);
			else
				break;
		}
		CHECK_EQ_INT(n, 0);
		CHECK_MEM(out.data, out.len, pattern(len), len, "reads of %zu", sizes[i]);
		wait_end(p);
		release(p);
	}
}

/* Closing. */

TEST(closing_twice_is_fine)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("gate"), .err = PIPE));

	for (int i = 0; i < 3; i++) {
		CHECK_EQ_INT(nr_close(p, NR_STDOUT), 0);
		CHECK_EQ_INT(nr_close(p, NR_STDERR), 0);
		CHECK_EQ_INT(nr_close(p, NR_STDIN), 0);
		CHECK_EQ_INT(nr_close_stdin(p), 0);
	}
	wait_end(p);
	CHECK_EQ_INT(nr_close(p, NR_STDOUT), 0);
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	release(p);
}

TEST(closed_streams_are_epipe)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("pause"), .err = PIPE));

	CHECK_EQ_INT(nr_close_stdin(p), 0);
	CHECK_EQ_INT(nr_close(p, NR_STDOUT), 0);
	CHECK_EQ_INT(nr_close(p, NR_STDERR), 0);
	CHECK_EQ_INT(nr_fd(p, NR_STDIN), -EPIPE);
	CHECK_EQ_INT(nr_fd(p, NR_STDOUT), -EPIPE);
	CHECK_EQ_INT(nr_fd(p, NR_STDERR), -EPIPE);
	CHECK_EQ_INT(nr_write(p, "x", 1), -EPIPE);
	CHECK(nr_fd(p, NR_EXIT) >= 0);
	release(p);
}

TEST(reading_what_was_closed_is_an_error)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("flood", "a")));
	char text[100];
	ssize_t n;

	CHECK_EQ_INT(nr_close(p, NR_STDOUT), 0);
	n = nr_read(p, NR_STDOUT, text, sizeof text);
	CHECK(n == -EPIPE || n == -EINVAL, "%zd", n);
	/* Saying that one will not read on ends a program that keeps writing. */
	CHECK_EQ_INT(wait_end(p).signal, SIGPIPE);
	release(p);
}

TEST(closing_stdin_delivers_what_was_written)
{
	const size_t len = 40000;
	nr_proc p = spawn(OPTIONS(.argv = PROG("copy-on-signal")));
	struct buffer out = { 0 };

	read_until(p, NR_STDOUT, &out, "waiting\n");
	CHECK_EQ_INT(nr_write(p, pattern(len), len), len);
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	CHECK_EQ_INT(nr_kill(p, SIGUSR1), 0);
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	CHECK_MEM(out.data + out.seen, out.len - out.seen, pattern(len), len);
	wait_end(p);
	release(p);
}

/* SIGPIPE. */

static atomic_int sigpipes;

static void count_sigpipe(int sig)
{
	(void)sig;
	atomic_fetch_add(&sigpipes, 1);
}

static nr_proc spawn_deaf_program(void)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("close-stdin")));
	struct buffer out = { 0 };

	read_until(p, NR_STDOUT, &out, "closed\n");
	return p;
}

/* The default action of SIGPIPE would end this process. */
TEST(write_to_a_program_that_closed_stdin_is_epipe)
{
	nr_proc p = spawn_deaf_program();

	for (int i = 0; i < 5; i++)
		CHECK_EQ_INT(nr_write(p, "x", 1), -EPIPE);
	CHECK(is_alive(nr_pid(p)));
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	release(p);
}

/* From the first moment: nobody but the program holds its end of the pipe. */
TEST(write_is_epipe_as_soon_as_the_program_closed_stdin)
{
	for (int i = 0; i < 200 && !check_has_failed(); i++) {
		nr_proc p = spawn_deaf_program();

		CHECK_EQ_INT(nr_write(p, "x", 1), -EPIPE, "run %d", i);
		release(p);
	}
}

TEST(write_raises_no_sigpipe)
{
	struct sigaction counter = { .sa_handler = count_sigpipe };
	struct sigaction old;
	nr_proc p = spawn_deaf_program();

	atomic_store(&sigpipes, 0);
	REQUIRE(sigaction(SIGPIPE, &counter, &old) == 0);
	for (int i = 0; i < 100; i++)
		CHECK_EQ_INT(nr_write(p, "x", 1), -EPIPE);
	REQUIRE(sigaction(SIGPIPE, &old, NULL) == 0);
	CHECK_EQ_INT(atomic_load(&sigpipes), 0);
	release(p);
}

/* The host's own pending SIGPIPE is none of the library's business. */
TEST(write_leaves_a_pending_sigpipe)
{
	sigset_t sigpipe, old, pending, now;
	nr_proc p = spawn_deaf_program();

	sigemptyset(&sigpipe);
	sigaddset(&sigpipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &sigpipe, &old);
	CHECK_EQ_INT(nr_write(p, "x", 1), -EPIPE);
	sigpending(&pending);
	CHECK(!sigismember(&pending, SIGPIPE), "nr_write left a SIGPIPE pending");
	raise(SIGPIPE);
	CHECK_EQ_INT(nr_write(p, "x", 1), -EPIPE);
	sigpending(&pending);
	CHECK(sigismember(&pending, SIGPIPE), "nr_write took the host's SIGPIPE");
	pthread_sigmask(SIG_BLOCK, NULL, &now);
	CHECK(sigismember(&now, SIGPIPE));
	sigtimedwait(&sigpipe, NULL, &(struct timespec){ 0 });
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	release(p);
}

TEST(write_after_the_end_is_epipe)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("exit")));

	wait_end(p);
	CHECK_EQ_INT(nr_write(p, "x", 1), -EPIPE);
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	release(p);
}

/* The limit on output. */

static void check_limit(uint64_t limit, const char *out, const char *err, size_t delivered)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("write", "1", out, "2", err), .err = PIPE,
				  .output_limit = limit));
	struct result *r = converse(p, WATCH_POLL, NULL, 0);
	bool within = strtoul(out, NULL, 10) + strtoul(err, NULL, 10) <= limit;
	nr_statistics s = { .size = sizeof s };
	char byte;

	CHECK_EQ_INT(r->out.len + r->err.len, delivered, "limit %ju, %s and %s bytes",
		     (uintmax_t)limit, out, err);
	CHECK_MEM(r->out.data, r->out.len, pattern(r->out.len), r->out.len);
	CHECK_MEM(r->err.data, r->err.len, pattern(r->err.len), r->err.len);
	CHECK_EQ_INT(nr_stats(p, &s), 0);
	CHECK_EQ_INT(s.stdout_bytes, r->out.len);
	CHECK_EQ_INT(s.stderr_bytes, r->err.len);
	if (within) {
		CHECK_EQ_INT(r->out_end, 0, "limit %ju, %s and %s bytes", (uintmax_t)limit, out,
			     err);
		CHECK_EQ_INT(r->err_end, 0);
		check_code(&r->how, 0, NR_REASON_OWN);
	} else {
		CHECK(r->out_end == -EFBIG || r->err_end == -EFBIG, "-%s and -%s",
		      nr_errname(r->out_end), nr_errname(r->err_end));
		if (r->out_end == -EFBIG)
			CHECK_EQ_INT(nr_read(p, NR_STDOUT, &byte, 1), -EFBIG);
	}
	release(p);
}

TEST(limit_not_reached_changes_nothing)
{
	check_limit(300001, "200000", "100000", 300000);
	check_limit(UINT64_MAX, "200000", "100000", 300000);
}

TEST(limit_reached_exactly_is_within)
{
	check_limit(1, "1", "0", 1);
	check_limit(1, "0", "1", 1);
	check_limit(1000, "1000", "0", 1000);
	check_limit(200000, "200000", "0", 200000);
	check_limit(200000, "0", "200000", 200000);
	check_limit(300000, "200000", "100000", 300000);
}

TEST(limit_exceeded_by_one_delivers_the_limit)
{
	check_limit(1, "2", "0", 1);
	check_limit(1, "0", "2", 1);
	check_limit(1000, "1001", "0", 1000);
	check_limit(199999, "200000", "0", 199999);
	check_limit(199999, "0", "200000", 199999);
	check_limit(299999, "200000", "100000", 299999);
}

TEST(limit_exceeded_ends_the_program)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("flood", "a"), .output_limit = 100000));
	struct result *r = converse(p, WATCH_POLL, NULL, 0);

	CHECK_EQ_INT(r->out.len, 100000);
	CHECK_EQ_INT(r->out_end, -EFBIG);
	CHECK_EQ_INT(r->status, 0);
	CHECK_EQ_INT(r->how.reason, NR_REASON_OUTPUT);
	CHECK_EQ_INT(r->how.code, -1);
	CHECK(r->how.signal > 0);
	CHECK_EQ_INT(count_alive(), 0);
	release(p);
}

static void go_on(void *shepherd)
{
	kill(*(pid_t *)shepherd, SIGCONT);
}

/* The program dies of the closed pipe before the shepherd gets to kill it. */
TEST(limit_is_the_reason_also_when_the_stream_is_closed_at_once)
{
	for (int i = 0; i < 20; i++) {
		nr_proc p = spawn(OPTIONS(.argv = ARGV("yes"), .output_limit = 1000));
		pid_t *shepherd = check_alloc(sizeof *shepherd);
		pid_t pid = nr_pid(p);
		struct buffer out = { 0 };
		nr_outcome how;

		*shepherd = shepherd_of(p);
		check_defer(go_on, shepherd);
		REQUIRE(kill(*shepherd, SIGSTOP) == 0);
		EVENTUALLY(proc_is_stopped(*shepherd));
		CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), -EFBIG);
		CHECK_EQ_INT(nr_close(p, NR_STDOUT), 0);
		EVENTUALLY(proc_state(pid) == 'Z');
		go_on(shepherd);
		how = wait_end(p);
		CHECK_EQ_INT(how.reason, NR_REASON_OUTPUT, "round %d, signal %d", i, how.signal);
		release(p);
	}
}

TEST(limit_exceeded_ends_the_whole_group)
{
	nr_proc p = spawn(OPTIONS(.argv = SH("sleep 100 & yes; wait"), .output_limit = 10000));
	struct result *r = converse(p, WATCH_POLL, NULL, 0);

	CHECK_EQ_INT(r->out_end, -EFBIG);
	CHECK_EQ_INT(r->how.reason, NR_REASON_OUTPUT);
	CHECK_EQ_INT(count_alive(), 0);
	release(p);
}

/* A limit that the program never reaches while it lives is no reason to wait. */
TEST(limit_reached_exactly_does_not_stop_a_program)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("gate", "5"), .output_limit = 6));
	struct buffer out = { 0 };
	nr_outcome how;

	read_until(p, NR_STDOUT, &out, "ready\n");
	CHECK_EQ_INT(nr_read(p, NR_STDOUT, out.data, 1), -EAGAIN);
	CHECK_EQ_INT(nr_wait(p, 0, NULL), -EAGAIN);
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	how = wait_end(p);
	check_code(&how, 5, NR_REASON_OWN);
	release(p);
}

/* Several threads on one process. */

struct reading {
	_Atomic(nr_proc) p;
	atomic_bool stop;
	char letter;
};

/* Reads until that is no longer possible; each byte must be its own. */
static void *read_own_letters(void *arg)
{
	struct reading *r = arg;
	char chunk[4096];

	while (!check_has_failed()) {
		ssize_t n = nr_read(r->p, NR_STDOUT, chunk, sizeof chunk);

		if (n < 0 && n != -EAGAIN) {
			CHECK(n == -EPIPE || n == -EINVAL || n == -EBADF, "%zd", n);
			return NULL;
		}
		if (n == 0) {
			CHECK(false, "end of stream of a program that floods");
			return NULL;
		}
		for (ssize_t i = 0; i < n; i++)
			if (chunk[i] != r->letter) {
				CHECK(false, "read %c in place of %c", chunk[i], r->letter);
				return NULL;
			}
	}
	return NULL;
}

/*
 * A descriptor that is closed gets its number again at the next spawn: a read
 * under way in another thread must never get the bytes of that one.
 */
TEST(read_and_close_from_two_threads)
{
	for (int i = 0; i < 100 && !check_has_failed(); i++) {
		struct reading r = { .letter = 'a' };
		nr_proc next;
		thread *readers[2];
		char byte;

		r.p = spawn(OPTIONS(.argv = PROG("flood", "a")));
		for (size_t j = 0; j < COUNT_OF(readers); j++)
			readers[j] = thread_start(read_own_letters, &r);
		while (nr_read(r.p, NR_STDOUT, &byte, 1) == -EAGAIN)
			continue;
		if (i % 2) {
			CHECK_EQ_INT(nr_close(r.p, NR_STDOUT), 0);
			next = spawn(OPTIONS(.argv = PROG("flood", "b")));
			release(r.p);
		} else {
			release(r.p);
			next = spawn(OPTIONS(.argv = PROG("flood", "b")));
		}
		for (size_t j = 0; j < COUNT_OF(readers); j++)
			thread_join(readers[j]);
		release(next);
	}
}

static void *write_until_closed(void *arg)
{
	struct reading *r = arg;
	char chunk[512];

	memset(chunk, r->letter, sizeof chunk);
	while (!check_has_failed()) {
		ssize_t n = nr_write(r->p, chunk, sizeof chunk);

		if (n < 0 && n != -EAGAIN) {
			CHECK(n == -EPIPE || n == -EBADF, "%zd", n);
			return NULL;
		}
	}
	return NULL;
}

TEST(write_and_close_from_two_threads)
{
	for (int i = 0; i < 100 && !check_has_failed(); i++) {
		struct reading r = { .letter = 'a' };
		struct buffer out = { 0 };
		nr_proc next;
		thread *t;

		r.p = spawn(OPTIONS(.argv = PROG("sip")));
		t = thread_start(write_until_closed, &r);
		if (i % 2)
			CHECK_EQ_INT(nr_close_stdin(r.p), 0);
		else
			release(r.p);
		next = spawn(OPTIONS(.argv = ARGV("cat")));
		thread_join(t);
		if (i % 2)
			release(r.p);
		CHECK_EQ_INT(nr_close_stdin(next), 0);
		CHECK_EQ_INT(read_to_end(next, NR_STDOUT, &out), 0);
		CHECK_EQ_INT(out.len, 0, "wrote to another program: %.10s", out.data);
		wait_end(next);
		release(next);
	}
}

/* Two readers share a stream: every byte comes exactly once. */
static void *count_bytes(void *arg)
{
	nr_proc p = *(nr_proc *)arg;
	char chunk[1000];
	uintptr_t total = 0;

	for (;;) {
		ssize_t n = nr_read(p, NR_STDOUT, chunk, sizeof chunk);

		if (n == -EAGAIN) {
			wait_ready(nr_fd(p, NR_STDOUT), POLLIN);
			continue;
		}
		CHECK(n >= 0, "%zd", n);
		if (n <= 0)
			return (void *)total;
		total += (uintptr_t)n;
	}
}

TEST(readers_share_a_stream)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("write", "1", "3000000")));
	thread *readers[4];
	nr_statistics s = { .size = sizeof s };
	uintptr_t total = 0;

	for (size_t i = 0; i < COUNT_OF(readers); i++)
		readers[i] = thread_start(count_bytes, &p);
	for (size_t i = 0; i < COUNT_OF(readers); i++)
		total += (uintptr_t)thread_join(readers[i]);
	CHECK_EQ_INT(total, 3000000);
	CHECK_EQ_INT(nr_stats(p, &s), 0);
	CHECK_EQ_INT(s.stdout_bytes, 3000000);
	wait_end(p);
	release(p);
}

/* The limit is one sum, also when two threads read at once. */
TEST(limit_holds_for_readers_at_once)
{
	for (int i = 0; i < 20; i++) {
		nr_proc p = spawn(
			OPTIONS(.argv = PROG("write", "1", "500000"), .output_limit = 500000));
		thread *readers[4];
		uintptr_t total = 0;
		nr_outcome how;

		for (size_t j = 0; j < COUNT_OF(readers); j++)
			readers[j] = thread_start(count_bytes, &p);
		for (size_t j = 0; j < COUNT_OF(readers); j++)
			total += (uintptr_t)thread_join(readers[j]);
		CHECK_EQ_INT(total, 500000);
		how = wait_end(p);
		check_code(&how, 0, NR_REASON_OWN);
		release(p);
	}
}

/*
 * Misuse at random: any function with any argument at any time. Only that the
 * process lives, that results are known ones, and that all ends is checked.
 */

#define MISUSED 6

struct misuse {
	_Atomic(nr_proc) *procs;
	unsigned seed;
};

static unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1103515245u + 12345u;
	return *seed >> 16 & 0x7fff;
}

static nr_proc spawn_anything(unsigned *seed)
{
	static const char *const commands[] = { "gate", "flood", "exit", "copy", "pause", "lines" };
	static const uint64_t flags[] = { 0,          NR_ASYNC, NR_PTY, NR_PTY | NR_ASYNC,
					  NR_SESSION, NR_LINGER };
	const char *argv[] = { testprog(), commands[next_random(seed) % COUNT_OF(commands)], NULL };
	nr_options o = { .size = sizeof o, .argv = argv };

	o.flags = flags[next_random(seed) % COUNT_OF(flags)];
	o.err.mode = next_random(seed) % 2 ? NR_STDIO_PIPE : NR_STDIO_NULL;
	o.output_limit = next_random(seed) % 2 ? 0 : 100000;
	o.timeout_ms = next_random(seed) % 4 ? 0 : 20;
	o.kill_timeout_ms = next_random(seed) % 2 ? NR_KILL_NOW : 50;
	if (next_random(seed) % 10 == 0)
		o.file = "/nonexistent";
	return nr_spawn(&o, NULL, 0);
}

static bool is_known_result(long long n)
{
	static const int errors[] = { EBADF, EAGAIN, EPIPE,  EINVAL,    ESRCH,
				      EFBIG, ENOENT, ENOTTY, ETIMEDOUT, ENOTSUP };

	if (n >= 0)
		return true;
	for (size_t i = 0; i < COUNT_OF(errors); i++)
		if (n == -errors[i])
			return true;
	return false;
}

static long long misuse_once(struct misuse *m, unsigned *seed, const char **call)
{
	/* What happens often in a host is there more than once. */
	static const char *const calls[] = {
		"nr_spawn", "nr_spawn", "nr_release", "nr_read", "nr_read",        "nr_read",
		"nr_write", "nr_write", "nr_close",   "nr_kill", "nr_stop",        "nr_wait",
		"nr_stats", "nr_pid",   "nr_fd",      "nr_why",  "nr_close_stdin", "nr_winsize"
	};
	static const int streams[] = { 0, 1, 2, 3, 1, 2, 0, -1, 4, 99 };
	_Atomic(nr_proc) *slot = &m->procs[next_random(seed) % MISUSED];
	nr_proc p = next_random(seed) % 50 ? *slot : (nr_proc)next_random(seed) - 100;
	int stream = streams[next_random(seed) % COUNT_OF(streams)];
	nr_statistics s = { .size = sizeof s };
	nr_outcome how = { .size = sizeof how };
	char buf[3000];

	memset(buf, 'x', sizeof buf);
	*call = calls[next_random(seed) % COUNT_OF(calls)];
	if (strcmp(*call, "nr_spawn") == 0) {
		/* As many live as there are slots. */
		p = atomic_exchange(slot, spawn_anything(seed));
		return p > 0 ? nr_release(p) : 0;
	}
	if (strcmp(*call, "nr_release") == 0)
		return nr_release(p);
	if (strcmp(*call, "nr_read") == 0)
		return nr_read(p, stream, buf, next_random(seed) % sizeof buf);
	if (strcmp(*call, "nr_write") == 0)
		return nr_write(p, buf, next_random(seed) % sizeof buf);
	if (strcmp(*call, "nr_close") == 0)
		return nr_close(p, stream);
	if (strcmp(*call, "nr_close_stdin") == 0)
		return nr_close_stdin(p);
	if (strcmp(*call, "nr_kill") == 0)
		return nr_kill(p, (int)next_random(seed) % 70 - 2);
	if (strcmp(*call, "nr_stop") == 0)
		return nr_stop(p);
	if (strcmp(*call, "nr_wait") == 0)
		return nr_wait(p, (int)next_random(seed) % 5, &how);
	if (strcmp(*call, "nr_stats") == 0)
		return nr_stats(p, &s);
	if (strcmp(*call, "nr_winsize") == 0)
		return nr_winsize(p, (uint16_t)next_random(seed), (uint16_t)next_random(seed));
	if (strcmp(*call, "nr_pid") == 0)
		return nr_pid(p);
	if (strcmp(*call, "nr_why") == 0)
		return nr_why(p, buf, sizeof buf);
	return nr_fd(p, stream);
}

static void *misuse(void *arg)
{
	struct misuse *m = arg;
	unsigned seed = m->seed;

	for (int i = 0; i < 1500 && !check_has_failed(); i++) {
		const char *call = "";
		long long n = misuse_once(m, &seed, &call);

		CHECK(is_known_result(n), "%s is %lld (-%s), seed %u", call, n, nr_errname((int)n),
		      m->seed);
	}
	return NULL;
}

TEST(misuse_by_eight_threads)
{
	_Atomic(nr_proc) procs[MISUSED];
	struct misuse misuses[8];
	thread *threads[8];

	for (size_t i = 0; i < MISUSED; i++)
		procs[i] = 0;
	for (size_t i = 0; i < COUNT_OF(threads); i++) {
		misuses[i] = (struct misuse){ procs, (unsigned)(getpid() * 8 + (int)i) };
		threads[i] = thread_start(misuse, &misuses[i]);
	}
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		thread_join(threads[i]);
	for (size_t i = 0; i < MISUSED; i++)
		if (procs[i] > 0)
			nr_release(procs[i]);
}
