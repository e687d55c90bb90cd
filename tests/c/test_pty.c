/* SPDX-License-Identifier: Apache-2.0 */

/* Programs on a terminal. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "support.h"

/* What the program wrote, in the terminal's line endings. */
static const char *terminal_lines(const char *text)
{
	struct buffer b = { 0 };

	for (; *text; text++)
		buffer_append(&b, *text == '\n' ? "\r\n" : text, *text == '\n' ? 2 : 1);
	return b.data;
}

/* It is one. */

TEST(terminal_is_on_all_three_streams)
{
	struct result *r = run(OPTIONS(.argv = PROG("tty"), .flags = NR_PTY));

	CHECK_CONTAINS(value_of(&r->out, "fd0"), "/dev/pts/");
	CHECK_STR(value_of(&r->out, "fd1"), value_of(&r->out, "fd0"));
	CHECK_STR(value_of(&r->out, "fd2"), value_of(&r->out, "fd0"));
	CHECK_EQ_INT(r->how.code, 0);
}

TEST(terminal_controls_the_program)
{
	struct result *r = run(OPTIONS(.argv = PROG("tty"), .flags = NR_PTY));

	CHECK_STR(value_of(&r->out, "dev_tty"), "opens");
	CHECK_STR(value_of(&r->out, "foreground"), "yes");
	CHECK_STR(value_of(&r->out, "session"), "yes");
	CHECK_STR(value_of(&r->out, "leader"), "yes");
}

TEST(program_without_terminal_has_none)
{
	const struct buffer *out =
		output_of(OPTIONS(.argv = PROG("tty"), .err = PIPE, .flags = NR_SESSION));

	CHECK_STR(value_of(out, "fd0"), "-");
	CHECK_STR(value_of(out, "fd1"), "-");
	CHECK_STR(value_of(out, "fd2"), "-");
	CHECK(strcmp(value_of(out, "dev_tty"), "opens") != 0);
}

TEST(terminal_has_a_descriptor_for_each_direction)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("gate"), .flags = NR_PTY));
	int in = nr_fd(p, NR_STDIN);
	int out = nr_fd(p, NR_STDOUT);

	CHECK(in >= 0 && out >= 0 && in != out, "%d and %d", in, out);
	CHECK_EQ_INT(nr_fd(p, NR_STDERR), -EINVAL);
	CHECK(fcntl(in, F_GETFL) & O_NONBLOCK);
	CHECK(fcntl(out, F_GETFL) & O_NONBLOCK);
	CHECK(fcntl(in, F_GETFD) & FD_CLOEXEC);
	CHECK(fcntl(out, F_GETFD) & FD_CLOEXEC);
	release(p);
}

TEST(terminals_are_apart)
{
	nr_proc p = spawn(OPTIONS(.argv = ARGV("cat"), .flags = NR_PTY));
	nr_proc q = spawn(OPTIONS(.argv = ARGV("cat"), .flags = NR_PTY));
	struct buffer p_out = { 0 };
	struct buffer q_out = { 0 };

	say_text(p, "for p\n");
	say_text(q, "for q\n");
	read_until(p, NR_STDOUT, &p_out, "for p\r\nfor p\r\n");
	read_until(q, NR_STDOUT, &q_out, "for q\r\nfor q\r\n");
	release(p);
	release(q);
}

/* Window size. */

TEST(window_is_24_by_80_by_default)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("winsize"), .flags = NR_PTY));
	struct buffer out = { 0 };

	CHECK_STR(read_line(p, NR_STDOUT, &out), "size 24 80");
	release(p);
}

TEST(window_is_as_asked_for_from_the_start)
{
	nr_proc p =
		spawn(OPTIONS(.argv = PROG("winsize"), .flags = NR_PTY, .rows = 50, .cols = 132));
	struct buffer out = { 0 };

	CHECK_STR(read_line(p, NR_STDOUT, &out), "size 50 132");
	release(p);
}

TEST(window_resizes_and_the_program_is_told)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("winsize"), .flags = NR_PTY));
	struct buffer out = { 0 };

	read_until(p, NR_STDOUT, &out, "ready\r\n");
	for (int i = 1; i <= 10; i++) {
		CHECK_EQ_INT(nr_winsize(p, (uint16_t)(10 * i), (uint16_t)(20 * i)), 0);
		CHECK_STR(read_line(p, NR_STDOUT, &out),
			  check_format("size %d %d", 10 * i, 20 * i));
	}
	CHECK_EQ_INT(nr_winsize(p, UINT16_MAX, UINT16_MAX), 0);
	CHECK_STR(read_line(p, NR_STDOUT, &out), "size 65535 65535");
	release(p);
}

TEST(window_without_terminal_is_enotty)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("gate")));

	CHECK_EQ_INT(nr_winsize(p, 10, 10), -ENOTTY);
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	wait_end(p);
	CHECK_EQ_INT(nr_winsize(p, 10, 10), -ENOTTY);
	release(p);
}

/* Input. */

TEST(echo_is_on_by_default)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("lines"), .flags = NR_PTY));
	struct buffer out = { 0 };

	say_text(p, "typed\n");
	read_until(p, NR_STDOUT, &out, "typed\r\ngot typed\r\n");
	CHECK_EQ_INT(out.len, 18);
	release(p);
}

TEST(echo_is_off_on_request)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("lines"), .flags = NR_PTY | NR_PTY_NOECHO));
	struct buffer out = { 0 };

	say_text(p, "one\n");
	read_until(p, NR_STDOUT, &out, "got one\r\n");
	say_text(p, "two\n");
	read_until(p, NR_STDOUT, &out, "got two\r\n");
	CHECK_STR(out.data, "got one\r\ngot two\r\n");
	release(p);
}

static void check_typed(const char *typed, int sig)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("pause"), .flags = NR_PTY));
	struct buffer out = { 0 };
	nr_outcome how;

	read_until(p, NR_STDOUT, &out, "ready\r\n");
	say_text(p, typed);
	how = wait_end(p);
	CHECK_EQ_INT(how.signal, sig);
	CHECK_EQ_INT(how.reason, NR_REASON_OWN);
	release(p);
}

TEST(control_c_typed_interrupts)
{
	check_typed("\x03", SIGINT);
}

TEST(control_backslash_typed_quits)
{
	change_directory(scratch()); /* it may leave a core file */
	check_typed("\x1c", SIGQUIT);
}

/* The shell's foreground jobs get it, as in any terminal. */
TEST(job_control_works)
{
	nr_proc p = spawn(OPTIONS(.argv = ARGV("/bin/sh", "-i"),
				  .env = ENV("PS1=", "PATH=/bin:/usr/bin"),
				  .flags = NR_PTY | NR_PTY_NOECHO));
	struct buffer out = { 0 };

	say_text(p, "sh -c 'echo rea\"\"dy; exec sleep 100'\n");
	read_until(p, NR_STDOUT, &out, "ready\r\n");
	say_text(p, "\x03");
	say_text(p, "echo status $?\n");
	read_until(p, NR_STDOUT, &out, "status 130\r\n");
	say_text(p, "exit 5\n");
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	CHECK_EQ_INT(wait_end(p).code, 5);
	release(p);
}

/* End of input. */

TEST(close_stdin_is_end_of_file)
{
	nr_proc p = spawn(OPTIONS(.argv = ARGV("cat"), .flags = NR_PTY | NR_PTY_NOECHO));
	struct result *r = converse(p, WATCH_POLL, "one\ntwo\n", 8);

	CHECK_STR(r->out.data, "one\r\ntwo\r\n");
	CHECK_EQ_INT(r->out_end, 0);
	check_code(&r->how, 0, NR_REASON_OWN);
	release(p);
}

TEST(close_stdin_is_end_of_file_without_any_input)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("gate", "6"), .flags = NR_PTY));
	struct buffer out = { 0 };

	CHECK_EQ_INT(nr_close_stdin(p), 0);
	CHECK_EQ_INT(wait_end(p).code, 6);
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	release(p);
}

/* The first end-of-file character only delivers the line as far as it goes. */
TEST(close_stdin_is_end_of_file_in_the_middle_of_a_line)
{
	nr_proc p = spawn(OPTIONS(.argv = ARGV("cat"), .flags = NR_PTY | NR_PTY_NOECHO));
	struct result *r = converse(p, WATCH_POLL, "one\nunfinished", 14);

	CHECK_STR(r->out.data, "one\r\nunfinished");
	check_code(&r->how, 0, NR_REASON_OWN);
	release(p);
}

TEST(close_stdin_ends_a_shell)
{
	nr_proc p = spawn(OPTIONS(.argv = ARGV("/bin/sh"), .flags = NR_PTY | NR_PTY_NOECHO));
	struct result *r = converse(p, WATCH_EPOLL_EDGE, "false\n", 6);

	CHECK_EQ_INT(r->status, 0);
	CHECK_EQ_INT(r->how.code, 1);
	release(p);
}

TEST(close_stdin_may_be_repeated)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("gate", "6"), .flags = NR_PTY));

	for (int i = 0; i < 3; i++) {
		CHECK_EQ_INT(nr_close_stdin(p), 0);
		CHECK_EQ_INT(nr_fd(p, NR_STDIN), -EPIPE);
		CHECK_EQ_INT(nr_write(p, "x", 1), -EPIPE);
	}
	CHECK_EQ_INT(wait_end(p).code, 6);
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	release(p);
}

TEST(close_stdin_in_raw_mode_is_enotty)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("raw"), .flags = NR_PTY));
	struct buffer out = { 0 };

	read_until(p, NR_STDOUT, &out, "raw\n");
	CHECK_EQ_INT(nr_close_stdin(p), -ENOTTY);
	/* Nothing has happened: neither a byte nor an end came through. */
	say_text(p, "a");
	read_until(p, NR_STDOUT, &out, "\n");
	CHECK_STR(out.data, "raw\n97\n");
	say_text(p, "q");
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
}

TEST(raw_mode_passes_every_byte)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("raw"), .flags = NR_PTY));
	struct buffer out = { 0 };
	struct buffer expected = { 0 };

	read_until(p, NR_STDOUT, &out, "raw\n");
	for (int c = 0; c < 256; c++) {
		unsigned char byte = (unsigned char)c;
		const char *line = check_format("%d\n", c);

		if (c == 'q')
			continue;
		say(p, &byte, 1);
		buffer_append(&expected, line, strlen(line));
		read_until(p, NR_STDOUT, &out, line);
	}
	CHECK_STR(out.data + 4, expected.data);
	say_text(p, "q");
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
}

/* End of output. */

TEST(end_is_zero_and_never_eio)
{
	for (int kind = 0; kind < WATCHERS; kind++) {
		nr_proc p = spawn(OPTIONS(.argv = PROG("exit", "3"), .flags = NR_PTY));
		struct result *r = converse(p, (enum watcher)kind, NULL, 0);
		char byte;

		CHECK_EQ_INT(r->out_end, 0, "%s", watcher_name((enum watcher)kind));
		check_code(&r->how, 3, NR_REASON_OWN);
		for (int i = 0; i < 3; i++)
			CHECK_EQ_INT(nr_read(p, NR_STDOUT, &byte, 1), 0);
		release(p);
	}
}

/* The end is the end of the last that holds the terminal, not of the first. */
TEST(end_comes_after_the_exit)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("exit", "3"), .flags = NR_PTY));
	struct buffer out = { 0 };

	wait_end(p);
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	release(p);
}

TEST(nothing_is_lost_when_the_program_exits_fast)
{
	for (int i = 0; i < 200 && !check_has_failed(); i++) {
		struct result *r;
		char text[2000];

		memset(text, 'a' + i % 26, sizeof text);
		strcpy(text + sizeof text - 5, "last");
		r = run(OPTIONS(.argv = ARGV("x", "args", text), .file = testprog(),
				.flags = NR_PTY));
		CHECK_EQ_INT(r->out.len, 2 + 5 + sizeof text, "run %d", i);
		CHECK_MEM(r->out.data + 7, r->out.len - 7, text, sizeof text, "run %d", i);
		CHECK_EQ_INT(r->out_end, 0);
		CHECK_EQ_INT(r->how.code, 0);
	}
}

/* The same when the exit is waited for before anything is read. */
TEST(nothing_is_lost_when_the_exit_is_seen_first)
{
	for (int i = 0; i < 50 && !check_has_failed(); i++) {
		nr_proc p = spawn(OPTIONS(.argv = SH("echo first; echo last"), .flags = NR_PTY));
		struct buffer out = { 0 };

		CHECK_EQ_INT(wait_end(p).code, 0);
		CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
		CHECK_STR(out.data, terminal_lines("first\nlast\n"), "run %d", i);
		release(p);
	}
}

TEST(bulk_passes_the_terminal)
{
	const struct buffer *out;

	change_environment("PROG", testprog());
	/* No input, because in raw mode there is no end-of-file to type. */
	out = output_of(OPTIONS(.argv = SH("stty raw < /dev/tty; exec \"$PROG\" write 1 1000000"),
				.flags = NR_PTY, .in = DEV_NULL));
	CHECK_MEM(out->data, out->len, pattern(1000000), 1000000);
}

TEST(bulk_passes_the_terminal_in_both_directions)
{
	const size_t lines = 5000;
	struct buffer in = { 0 };
	struct buffer expected = { 0 };
	struct result *r;

	for (size_t i = 0; i < lines; i++) {
		const char *line = check_format("line %zu\n", i);

		buffer_append(&in, line, strlen(line));
		buffer_append(&expected, "got ", 4);
		buffer_append(&expected, terminal_lines(line), strlen(line) + 1);
	}
	r = run_with(OPTIONS(.argv = PROG("lines"), .flags = NR_PTY | NR_PTY_NOECHO), in.data,
		     in.len);
	CHECK_EQ_INT(r->written, in.len);
	CHECK_MEM(r->out.data, r->out.len, expected.data, expected.len);
}

/* The hang-up of the terminal alone would not end this one. */
TEST(release_ends_programs_on_terminals)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("ignore", "1", "15"), .flags = NR_PTY,
				  .kill_timeout_ms = 100));
	pid_t pid = nr_pid(p);
	struct buffer out = { 0 };

	read_until(p, NR_STDOUT, &out, "ready\r\n");
	release(p);
	EVENTUALLY(!is_alive(pid));
}

TEST(closing_the_output_leaves_the_input)
{
	nr_proc p =
		spawn(OPTIONS(.argv = SH("read line; exit 6"), .flags = NR_PTY | NR_PTY_NOECHO));

	CHECK_EQ_INT(nr_close(p, NR_STDOUT), 0);
	CHECK_EQ_INT(nr_fd(p, NR_STDOUT), -EPIPE);
	CHECK(nr_fd(p, NR_STDIN) >= 0);
	CHECK_EQ_INT(nr_winsize(p, 30, 40), 0);
	say_text(p, "x\n");
	CHECK_EQ_INT(wait_end(p).code, 6);
	release(p);
}

TEST(closing_the_output_leaves_the_end_of_input)
{
	for (int i = 0; i < 20 && !check_has_failed(); i++) {
		nr_proc p = spawn(OPTIONS(.argv = PROG("gate", "6"), .flags = NR_PTY));
		struct buffer out = { 0 };
		nr_outcome how;

		read_until(p, NR_STDOUT, &out, "ready\r\n");
		CHECK_EQ_INT(nr_close(p, NR_STDOUT), 0);
		CHECK_EQ_INT(nr_close_stdin(p), 0);
		CHECK_EQ_INT(nr_winsize(p, 30, 40), 0);
		how = wait_end(p);
		check_code(&how, 6, NR_REASON_OWN);
		release(p);
	}
}

/* The program does not read, so the terminal's buffer is full. */
TEST(close_stdin_of_a_full_terminal)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("copy-on-signal"), .flags = NR_PTY | NR_PTY_NOECHO));
	struct buffer out = { 0 };
	char *lines = check_alloc((1 << 20) + 1), name[64];
	size_t written = 0;
	const char *expected;
	int slave, readable;
	ssize_t n;

	for (size_t i = 0; i < 1 << 20; i++)
		lines[i] = "lines\n"[i % 6];
	read_until(p, NR_STDOUT, &out, "waiting\r\n");
	snprintf(name, sizeof name, "/proc/%d/fd/0", nr_pid(p));
	REQUIRE((slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)) >= 0, "%s: %s", name,
		strerror(errno));
	/* A worker of Linux moves what is written to where it is read from: 4 KiB. */
	do {
		REQUIRE_EQ_INT(ioctl(slave, FIONREAD, &readable), 0);
		while ((n = nr_write(p, lines + written, (1 << 20) - written)) > 0)
			written += (size_t)n;
		REQUIRE_EQ_INT(n, -EAGAIN);
	} while (readable < 4096 - 2 * 6);
	close(slave);
	/* There is no room for the end-of-file character, until the program reads. */
	REQUIRE_EQ_INT(nr_close_stdin(p), -EAGAIN);
	CHECK_EQ_INT(nr_kill(p, SIGUSR1), 0);
	while ((n = nr_close_stdin(p)) == -EAGAIN) {
		char chunk[4096];
		ssize_t got = nr_read(p, NR_STDOUT, chunk, sizeof chunk);

		REQUIRE(got > 0 || got == -EAGAIN, "%zd", got);
		if (got > 0)
			buffer_append(&out, chunk, (size_t)got);
	}
	CHECK_EQ_INT(n, 0);
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	lines[written] = '\0';
	expected = terminal_lines(lines);
	CHECK_MEM(out.data + out.seen, out.len - out.seen, expected, strlen(expected));
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
}

/* Streams beside the terminal. */

/* The end of input is no hang-up, also where no output holds the terminal. */
TEST(close_stdin_is_end_of_file_beside_an_output_pipe)
{
	for (int i = 0; i < 20 && !check_has_failed(); i++) {
		/* Not cat: busybox's does sendfile(2), and Linux 6.1 lets readers wait for that. */
		struct result *r = run_with(OPTIONS(.argv = PROG("copy"), .out = PIPE, .err = PIPE,
						    .flags = NR_PTY | NR_PTY_NOECHO),
					    "one\ntwo", 7);

		CHECK_STR(r->out.data, "one\ntwo");
		check_code(&r->how, 0, NR_REASON_OWN);
	}
}

TEST(stderr_may_be_a_pipe_beside_the_terminal)
{
	nr_proc p = spawn(OPTIONS(.argv = SH("echo out; echo err >&2; test -t 0 && test -t 1 && "
					     "! test -t 2"),
				  .flags = NR_PTY, .err = PIPE));
	struct result *r;

	CHECK(nr_fd(p, NR_STDERR) >= 0);
	r = converse(p, WATCH_EPOLL, NULL, 0);
	CHECK_STR(r->out.data, "out\r\n");
	CHECK_STR(r->err.data, "err\n");
	CHECK_EQ_INT(r->err_end, 0);
	CHECK_EQ_INT(r->how.code, 0);
	release(p);
}

TEST(stdout_may_be_a_pipe_beside_the_terminal)
{
	struct result *r = run(OPTIONS(.argv = PROG("tty"), .flags = NR_PTY, .out = PIPE));

	CHECK_CONTAINS(value_of(&r->out, "fd0"), "/dev/pts/");
	CHECK_STR(value_of(&r->out, "fd1"), "-");
	CHECK_STR(value_of(&r->out, "dev_tty"), "opens");
	CHECK(!strchr(r->out.data, '\r'));
}

TEST(stdin_may_be_a_pipe_beside_the_terminal)
{
	struct result *r = run_with(OPTIONS(.argv = ARGV("cat"), .flags = NR_PTY, .in = PIPE),
				    "no\x03 keys\x04", 9);

	CHECK_STR(r->out.data, "no\x03 keys\x04");
	CHECK_EQ_INT(r->how.code, 0);
}

TEST(streams_may_all_be_pipes_beside_the_terminal)
{
	nr_proc p = spawn(OPTIONS(.argv = SH("cat; echo err >&2; echo tty > /dev/tty"),
				  .flags = NR_PTY, .in = PIPE, .out = PIPE, .err = PIPE));
	struct result *r = converse(p, WATCH_POLL, "in", 2);

	CHECK_STR(r->out.data, "in");
	CHECK_STR(r->err.data, "err\n");
	CHECK_EQ_INT(r->how.code, 0);
	CHECK_EQ_INT(nr_winsize(p, 10, 10), 0);
	release(p);
}

TEST(background_jobs_on_the_terminal_die_too)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("background", "loud", "3"), .flags = NR_PTY));
	struct buffer out = { 0 };
	pid_t child;

	REQUIRE(sscanf(read_line(p, NR_STDOUT, &out), "child %d", &child) == 1);
	CHECK_EQ_INT(wait_end(p).code, 3);
	CHECK(!is_alive(child));
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	release(p);
}
