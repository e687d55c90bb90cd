/* SPDX-License-Identifier: Apache-2.0 */

/* What the program's descriptors are connected to. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

#define BULK 200000 /* more than any pipe of the kernel's default size holds */

static void check_bulk(const struct buffer *b, const char *what)
{
	CHECK_MEM(b->data, b->len, pattern(BULK), BULK, "%s", what);
}

static void check_file(const char *path, const void *expected, size_t len, const char *what)
{
	struct buffer b = { 0 };

	buffer_read_file(&b, path);
	CHECK_MEM(b.data, b.len, expected, len, "%s", what);
}

static int new_file(const char *name)
{
	return open_file(scratch_file(name, "", 0600), O_RDWR);
}

static void check_unconnected(nr_proc p, int stream)
{
	char byte;

	CHECK_EQ_INT(nr_fd(p, stream), -EINVAL, "stream %d", stream);
	if (stream == NR_STDIN) {
		CHECK_EQ_INT(nr_write(p, "x", 1), -EINVAL);
	} else {
		CHECK_EQ_INT(nr_read(p, stream, &byte, 1), -EINVAL, "stream %d", stream);
	}
}

static void check_connected(nr_proc p, int stream)
{
	int fd = nr_fd(p, stream);

	if (!CHECK(fd >= 0, "stream %d: -%s", stream, nr_errname(fd)))
		return;
	CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK, "stream %d", stream);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC, "stream %d", stream);
}

/* Modes. */

TEST(default_is_pipes_and_inherited_stderr)
{
	struct buffer stderr_file = { 0 };
	struct result *r;
	nr_proc p;

	redirect(STDERR_FILENO, new_file("stderr"));
	p = spawn(OPTIONS(.argv = SH("cat; echo words >&2")));
	check_connected(p, NR_STDIN);
	check_connected(p, NR_STDOUT);
	check_connected(p, NR_EXIT);
	check_unconnected(p, NR_STDERR);
	r = converse(p, WATCH_POLL, "input", 5);
	CHECK_STR(r->out.data, "input");
	buffer_read_file(&stderr_file, scratch_path("stderr"));
	CHECK_STR(stderr_file.data, "words\n");
	release(p);
}

TEST(stdin_null_is_at_its_end)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("copy"), .in = DEV_NULL));
	struct result *r;

	check_unconnected(p, NR_STDIN);
	r = converse(p, WATCH_POLL, NULL, 0);
	CHECK_EQ_INT(r->how.code, 0);
	CHECK_STR(r->out.data, "");
	release(p);
}

TEST(stdin_inherit_is_the_hosts)
{
	nr_proc p;

	redirect(STDIN_FILENO, open_file(scratch_file("input", "from the host", 0600), O_RDONLY));
	p = spawn(OPTIONS(.argv = PROG("copy"), .in = INHERIT));
	check_unconnected(p, NR_STDIN);
	CHECK_STR(converse(p, WATCH_POLL, NULL, 0)->out.data, "from the host");
	release(p);
}

TEST(stdin_fd_is_that_descriptor)
{
	int file = open_file(scratch_file("input", "from a file", 0600), O_RDONLY);
	nr_proc p = spawn(OPTIONS(.argv = PROG("copy"), .in = USE_FD(file)));

	check_unconnected(p, NR_STDIN);
	CHECK_STR(converse(p, WATCH_POLL, NULL, 0)->out.data, "from a file");
	release(p);
	CHECK(fcntl(file, F_GETFD) >= 0, "the host's descriptor was closed");
}

TEST(stdout_null_is_not_connected)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("write", "1", "200000"), .out = DEV_NULL));

	check_unconnected(p, NR_STDOUT);
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
}

TEST(stdout_inherit_is_the_hosts)
{
	nr_proc p;

	redirect(STDOUT_FILENO, new_file("stdout"));
	p = spawn(OPTIONS(.argv = PROG("write", "1", "200000"), .out = INHERIT));
	check_unconnected(p, NR_STDOUT);
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
	check_file(scratch_path("stdout"), pattern(BULK), BULK, "inherited stdout");
}

TEST(stdout_fd_is_that_descriptor)
{
	int file = new_file("stdout");
	nr_proc p = spawn(OPTIONS(.argv = PROG("write", "1", "200000"), .out = USE_FD(file)));

	check_unconnected(p, NR_STDOUT);
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
	check_file(scratch_path("stdout"), pattern(BULK), BULK, "stdout to a file");
	CHECK(fcntl(file, F_GETFD) >= 0, "the host's descriptor was closed");
}

/* 200 KB on stderr neither hang nor get lost, wherever it goes. */

TEST(stderr_pipe_takes_bulk)
{
	struct result *r = run(OPTIONS(.argv = PROG("write", "2", "200000"), .err = PIPE));

	check_bulk(&r->err, "stderr");
	CHECK_EQ_INT(r->err_end, 0);
	CHECK_EQ_INT(r->out.len, 0);
	CHECK_EQ_INT(r->how.code, 0);
}

TEST(stderr_null_takes_bulk)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("write", "2", "200000"), .err = DEV_NULL));

	check_unconnected(p, NR_STDERR);
	CHECK_EQ_INT(converse(p, WATCH_POLL, NULL, 0)->how.code, 0);
	release(p);
}

static void check_inherited_stderr(nr_stdio err)
{
	const char *name = check_format("stderr-%d", err.mode);
	nr_proc p;

	redirect(STDERR_FILENO, new_file(name));
	p = spawn(OPTIONS(.argv = PROG("write", "2", "200000"), .err = err));
	check_unconnected(p, NR_STDERR);
	CHECK_EQ_INT(converse(p, WATCH_POLL, NULL, 0)->how.code, 0);
	release(p);
	check_file(scratch_path(name), pattern(BULK), BULK, "inherited stderr");
}

TEST(stderr_inherit_takes_bulk)
{
	check_inherited_stderr(INHERIT);
	check_inherited_stderr((nr_stdio){ .mode = NR_STDIO_AUTO });
}

TEST(stderr_fd_takes_bulk)
{
	int file = new_file("stderr");
	nr_proc p = spawn(OPTIONS(.argv = PROG("write", "2", "200000"), .err = USE_FD(file)));

	check_unconnected(p, NR_STDERR);
	CHECK_EQ_INT(converse(p, WATCH_POLL, NULL, 0)->how.code, 0);
	release(p);
	check_file(scratch_path("stderr"), pattern(BULK), BULK, "stderr to a file");
}

TEST(stderr_to_stdout_takes_bulk)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("write", "2", "200000"), .err = TO_STDOUT));
	struct result *r;

	check_unconnected(p, NR_STDERR);
	r = converse(p, WATCH_POLL, NULL, 0);
	check_bulk(&r->out, "stderr on stdout");
	release(p);
}

TEST(stderr_on_a_terminal_takes_bulk)
{
	struct result *r;

	change_environment("PROG", testprog());
	r = run(OPTIONS(.argv = SH("stty raw < /dev/tty; exec \"$PROG\" write 2 200000"),
			.flags = NR_PTY, .in = DEV_NULL));
	check_bulk(&r->out, "stderr on the terminal");
	CHECK_EQ_INT(r->out_end, 0);
	CHECK_EQ_INT(r->how.code, 0);
}

TEST(stderr_to_stdout_keeps_the_order)
{
	const struct buffer *out =
		output_of(OPTIONS(.argv = PROG("alternate", "1000"), .err = TO_STDOUT));
	struct buffer expected = { 0 };

	for (int i = 0; i < 1000; i++) {
		const char *line = check_format("%d\n", i);

		buffer_append(&expected, line, strlen(line));
	}
	CHECK_MEM(out->data, out->len, expected.data, expected.len);
}

TEST(stderr_follows_stdout_wherever_it_goes)
{
	int file = new_file("both");
	nr_proc p;

	p = spawn(OPTIONS(.argv = SH("echo 1; echo 2 >&2"), .out = USE_FD(file), .err = TO_STDOUT));
	check_unconnected(p, NR_STDOUT);
	check_unconnected(p, NR_STDERR);
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
	check_file(scratch_path("both"), "1\n2\n", 4, "to a file");

	p = spawn(OPTIONS(.argv = PROG("write", "2", "200000"), .out = DEV_NULL, .err = TO_STDOUT));
	check_unconnected(p, NR_STDERR);
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);

	redirect(STDOUT_FILENO, new_file("inherited"));
	p = spawn(OPTIONS(.argv = SH("echo 1; echo 2 >&2"), .out = INHERIT, .err = TO_STDOUT));
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
	check_file(scratch_path("inherited"), "1\n2\n", 4, "to the host's stdout");
}

TEST(one_descriptor_may_serve_all_streams)
{
	int file = new_file("all");
	nr_proc p = spawn(OPTIONS(.argv = SH("echo 1; echo 2 >&2; echo 3 >&0"), .in = USE_FD(file),
				  .out = USE_FD(file), .err = USE_FD(file)));

	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
	check_file(scratch_path("all"), "1\n2\n3\n", 6, "all in one file");
}

TEST(outputs_are_separate)
{
	struct result *r =
		run(OPTIONS(.argv = PROG("write", "1", "200000", "2", "100000"), .err = PIPE));

	check_bulk(&r->out, "stdout");
	CHECK_MEM(r->err.data, r->err.len, pattern(100000), 100000);
	r = run(OPTIONS(.argv = PROG("write", "2", "200000", "1", "100000"), .err = PIPE));
	check_bulk(&r->err, "stderr");
	CHECK_MEM(r->out.data, r->out.len, pattern(100000), 100000);
}

TEST(all_null_leaves_only_the_exit)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("exit", "4"), .in = DEV_NULL, .out = DEV_NULL,
				  .err = DEV_NULL));

	check_unconnected(p, NR_STDIN);
	check_unconnected(p, NR_STDOUT);
	check_unconnected(p, NR_STDERR);
	check_connected(p, NR_EXIT);
	CHECK_EQ_INT(wait_end(p).code, 4);
	release(p);
}

TEST(unknown_streams_are_invalid)
{
	static const int bad[] = { -1, 4, 5, 100, -1000000, 1000000 };
	nr_proc p = spawn(OPTIONS(.argv = PROG("gate")));
	char byte;

	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		CHECK_EQ_INT(nr_fd(p, bad[i]), -EINVAL, "stream %d", bad[i]);
		CHECK_EQ_INT(nr_read(p, bad[i], &byte, 1), -EINVAL, "stream %d", bad[i]);
		CHECK_EQ_INT(nr_close(p, bad[i]), -EINVAL, "stream %d", bad[i]);
	}
	CHECK_EQ_INT(nr_read(p, NR_STDIN, &byte, 1), -EINVAL);
	CHECK_EQ_INT(nr_read(p, NR_EXIT, &byte, 1), -EINVAL);
	CHECK_EQ_INT(nr_close(p, NR_EXIT), -EINVAL);
	CHECK_EQ_INT(nr_read(p, NR_STDOUT, &byte, 0), -EINVAL);
	CHECK_EQ_INT(nr_write(p, "x", 0), -EINVAL);
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
}

TEST(bytes_pass_unchanged)
{
	unsigned char all[256 * 3];
	struct result *r;

	for (size_t i = 0; i < sizeof all; i++)
		all[i] = (unsigned char)i;
	r = run_with(OPTIONS(.argv = ARGV("cat")), all, sizeof all);
	CHECK_MEM(r->out.data, r->out.len, all, sizeof all);
	memset(all, 0, sizeof all);
	r = run_with(OPTIONS(.argv = ARGV("cat")), all, sizeof all);
	CHECK_MEM(r->out.data, r->out.len, all, sizeof all);
}

/* Peers that use socket pairs fail here: a socket cannot be opened by name. */
TEST(streams_can_be_opened_by_name)
{
	struct result *r = run_with(OPTIONS(.argv = SH("cat < /dev/stdin > /dev/stdout; "
						       "echo 2 > /dev/stderr"),
					    .err = PIPE),
				    "1", 1);

	CHECK_STR(r->out.data, "1");
	CHECK_STR(r->err.data, "2\n");
	CHECK_EQ_INT(r->how.code, 0);
}

/* Descriptors that are not open. */

static int closed_descriptor(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	REQUIRE(fd >= 0 && close(fd) == 0);
	return fd;
}

static void check_bad_fd(const nr_options *o, const char *what)
{
	int n = spawn_error(o, NULL);

	CHECK(n == -EBADF || n == -EINVAL, "%s: -%s", what, nr_errname(n));
}

TEST(descriptors_given_must_be_open)
{
	int bad[] = { -1, -100, INT32_MAX, closed_descriptor() };

	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		const char *what = check_format("descriptor %d", bad[i]);
		nr_fdmap map = { bad[i], 5 };

		check_bad_fd(OPTIONS(.argv = PROG("exit"), .in = USE_FD(bad[i])), what);
		check_bad_fd(OPTIONS(.argv = PROG("exit"), .out = USE_FD(bad[i])), what);
		check_bad_fd(OPTIONS(.argv = PROG("exit"), .err = USE_FD(bad[i])), what);
		check_bad_fd(OPTIONS(.argv = PROG("exit"), .fds = &map, .nfds = 1), what);
	}
}

/* Further descriptors. */

TEST(map_gives_descriptors_under_other_numbers)
{
	int to[2], from[2];
	nr_fdmap maps[2];
	struct buffer b = { 0 };
	nr_proc p;

	open_pipe(to);
	open_pipe(from);
	maps[0] = (nr_fdmap){ to[0], 3 };
	maps[1] = (nr_fdmap){ from[1], 77 };
	p = spawn(OPTIONS(.argv = PROG("copy", "3", "77"), .fds = maps, .nfds = 2));
	close_now(to[0]);
	close_now(from[1]);
	REQUIRE(write(to[1], "through 3 to 77", 15) == 15);
	close_now(to[1]);
	buffer_read_fd(&b, from[0]);
	CHECK_STR(b.data, "through 3 to 77");
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
}

/* Opens the files a, b, c, ... in the given slots of fds. */
static void open_letters(int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		fds[i] = new_file(check_format("%c", (char)('a' + i)));
}

static void check_map(const nr_fdmap *maps, size_t count, const char *what)
{
	const struct buffer *out =
		output_of(OPTIONS(.argv = PROG("fds"), .in = DEV_NULL, .fds = maps, .nfds = count));
	size_t lines = 0;

	for (const char *c = out->data; *c; c++)
		lines += *c == '\n';
	CHECK_EQ_INT(lines, count + 2 + 1, "%s: %s", what, out->data);
	for (size_t i = 0; i < count; i++) {
		char target[4096];
		ssize_t n = readlink(check_format("/proc/self/fd/%d", maps[i].fd), target,
				     sizeof target - 1);

		REQUIRE(n > 0);
		target[n] = '\0';
		CHECK_CONTAINS(out->data, check_format("\n%d %s\n", maps[i].target, target), "%s",
			       what);
	}
}

TEST(map_may_be_many_in_any_order)
{
	int fds[20];
	nr_fdmap maps[20];

	open_letters(fds, COUNT_OF(fds));
	for (size_t i = 0; i < COUNT_OF(fds); i++)
		maps[i] = (nr_fdmap){ fds[i], 3 + (int)i };
	check_map(maps, COUNT_OF(maps), "ascending");
	for (size_t i = 0; i < COUNT_OF(fds); i++)
		maps[i].target = 22 - (int)i;
	check_map(maps, COUNT_OF(maps), "descending");
	for (size_t i = 0; i < COUNT_OF(fds); i++)
		maps[i].target = 3 + (int)(i * 7 % 20) * 40;
	check_map(maps, COUNT_OF(maps), "scattered");
}

/* Targets that are the numbers of other sources are where naive dup2()s fail. */
TEST(map_may_permute_the_hosts_own_numbers)
{
	int fds[6];
	nr_fdmap maps[6];

	open_letters(fds, COUNT_OF(fds));
	for (size_t i = 0; i < COUNT_OF(fds); i++)
		maps[i] = (nr_fdmap){ fds[i], fds[i] };
	check_map(maps, COUNT_OF(maps), "identity");
	for (size_t i = 0; i < COUNT_OF(fds); i++)
		maps[i].target = fds[(i + 1) % COUNT_OF(fds)];
	check_map(maps, COUNT_OF(maps), "rotation");
	for (size_t i = 0; i < COUNT_OF(fds); i++)
		maps[i].target = fds[i ^ 1];
	check_map(maps, COUNT_OF(maps), "swaps");
}

TEST(map_may_give_one_descriptor_many_numbers)
{
	int fd = new_file("shared");
	nr_fdmap maps[10];

	for (size_t i = 0; i < COUNT_OF(maps); i++)
		maps[i] = (nr_fdmap){ fd, 3 + (int)i };
	check_map(maps, COUNT_OF(maps), "one for all");
}

TEST(map_works_beside_every_mode)
{
	int fd = new_file("shared");
	nr_fdmap map = { fd, 3 };
	const struct buffer *out = output_of(OPTIONS(.argv = PROG("fds"), .in = USE_FD(fd),
						     .err = USE_FD(fd), .fds = &map, .nfds = 1));
	const char *path = scratch_path("shared");

	CHECK_CONTAINS(out->data, check_format("0 %s\n", path));
	CHECK_CONTAINS(out->data, check_format("2 %s\n", path));
	CHECK_CONTAINS(out->data, check_format("3 %s\n", path));
}

TEST(map_targets_must_be_good)
{
	static const int bad[] = { 0, 1, 2, -1, INT32_MIN };
	int fd = new_file("file");
	nr_fdmap twice[] = { { fd, 4 }, { fd, 5 }, { fd, 4 } };

	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		nr_fdmap map = { fd, bad[i] };

		spawn_fails(OPTIONS(.argv = PROG("exit"), .fds = &map, .nfds = 1), EINVAL,
			    check_format("target %d", bad[i]));
	}
	spawn_fails(OPTIONS(.argv = PROG("exit"), .fds = twice, .nfds = 3), EINVAL, "twice");
}

/* Beyond the limit on descriptors dup2() must fail, and so must nr_spawn(). */
TEST(map_target_beyond_the_limit_is_an_error)
{
	static const int bad[] = { INT32_MAX, 1 << 30 };
	int fd = new_file("file");

	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		nr_fdmap map = { fd, bad[i] };
		int n = spawn_error(OPTIONS(.argv = PROG("exit"), .fds = &map, .nfds = 1), NULL);

		CHECK(n == -EINVAL || n == -EBADF || n == -EMFILE, "target %d: -%s", bad[i],
		      nr_errname(n));
	}
}

/* Nothing else is open in the program. */

static void check_descriptors(nr_stdio in, nr_stdio out_mode, nr_stdio err, uint64_t flags)
{
	struct buffer list = { 0 };
	int numbers[3];
	int ends[2];
	nr_fdmap map;
	nr_proc p;

	/* The list comes by a descriptor of its own, because stdout varies. */
	open_pipe(ends);
	map = (nr_fdmap){ ends[1], 9 };
	p = spawn(OPTIONS(.argv = SH("exec \"$PROG\" fds >&9"), .in = in, .out = out_mode,
			  .err = err, .flags = flags, .fds = &map, .nfds = 1));
	close_now(ends[1]);
	buffer_read_fd(&list, ends[0]);
	wait_end(p);
	release(p);
	CHECK(sscanf(list.data, "%d %*[^\n]\n%d %*[^\n]\n%d %*[^\n]\n", &numbers[0], &numbers[1],
		     &numbers[2]) == 3 &&
		      numbers[0] == 0 && numbers[1] == 1 && numbers[2] == 2,
	      "%s", list.data);
	const char *last = strstr(list.data, "\n9 ");
	CHECK(last && strcspn(last + 1, "\n") == strlen(last + 1) - 1,
	      "modes %d %d %d, flags %llx: %s", in.mode, out_mode.mode, err.mode,
	      (unsigned long long)flags, list.data);
	CHECK(!strstr(list.data, "nonblocking"), "%s", list.data);
}

TEST(program_has_the_descriptors_asked_for_and_no_other)
{
	static const nr_stdio modes[] = { { .mode = NR_STDIO_AUTO },
					  { .mode = NR_STDIO_PIPE },
					  { .mode = NR_STDIO_NULL },
					  { .mode = NR_STDIO_INHERIT } };
	int leaks[5];
	nr_proc sibling = spawn(OPTIONS(.argv = PROG("pause"), .err = PIPE));

	/* Inheritable descriptors of the host must not get into the program. */
	for (size_t i = 0; i < COUNT_OF(leaks); i++) {
		leaks[i] = open("/dev/zero", O_RDONLY);
		close_later(leaks[i]);
	}
	change_environment("PROG", testprog());
	for (size_t i = 0; i < COUNT_OF(modes); i++)
		for (size_t j = 0; j < COUNT_OF(modes); j++) {
			check_descriptors(modes[i], modes[j], TO_STDOUT, 0);
			check_descriptors(modes[i], PIPE, modes[j], 0);
			check_descriptors(modes[i], modes[j], modes[j], NR_PTY);
		}
	check_descriptors(PIPE, PIPE, PIPE, NR_SESSION);
	check_descriptors(PIPE, PIPE, PIPE, NR_LINGER);
	release(sibling);
}

/* The descriptors of the first spawn's shepherd are the host's inheritable ones. */
HOST(with_inheritable_descriptors)
{
	const struct buffer *out;

	for (int i = 0; i < 10; i++)
		REQUIRE(open("/dev/zero", O_RDONLY) >= 0);
	out = output_of(OPTIONS(.argv = PROG("fds"), .err = PIPE));
	CHECK(!strstr(out->data, "/dev/zero") && !strstr(out->data, "\n3 "), "%s", out->data);
}

TEST(descriptors_open_before_the_shepherd_starts_stay_out)
{
	host_run(ARGV("with_inheritable_descriptors"));
}

/*
 * In a host without 0, 1 and 2 the library's own descriptors get these numbers,
 * and must not be mixed up with the program's.
 */
HOST(without_stdio)
{
	int saved[3];
	struct result *r = NULL;
	nr_proc p = 0;

	for (int fd = 0; fd < 3; fd++) {
		saved[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 100);
		close(fd);
	}
	for (int i = 0; i < 3; i++) {
		p = nr_spawn(OPTIONS(.argv = SH("cat; echo words >&2"), .err = PIPE), NULL, 0);
		if (p < 0)
			break;
		r = converse(p, WATCH_EPOLL, "input", 5);
		nr_release(p);
	}
	/* This breaks the library, but from here on it is only told how it was. */
	for (int fd = 0; fd < 3; fd++)
		dup2(saved[fd], fd);
	REQUIRE(p > 0, "nr_spawn is -%s", nr_errname((int)p));
	CHECK_STR(r->out.data, "input");
	CHECK_STR(r->err.data, "words\n");
	CHECK_EQ_INT(r->how.code, 0);
}

TEST(host_without_stdio_works)
{
	host_run(ARGV("without_stdio"));
}

/* Pipes. */

TEST(pipe_size_is_what_a_pipe_holds)
{
	static const uint32_t sizes[] = { 4096, 65536, 262144, 1048576, 100000 };

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		nr_proc p =
			spawn(OPTIONS(.argv = PROG("pause"), .err = PIPE, .pipe_size = sizes[i]));

		for (int stream = NR_STDIN; stream <= NR_STDERR; stream++) {
			int size = fcntl(nr_fd(p, stream), F_GETPIPE_SZ);

			/* The kernel rounds up to a power of two of pages. */
			CHECK(size >= (int)sizes[i] && size < 2 * (int)sizes[i],
			      "%d for %u, stream %d", size, sizes[i], stream);
		}
		release(p);
	}
}

enum { USUAL_PIPE = 65536, GROWN_PIPE = 262144, GROWN_PIPES = 64 };

/* A program whose output waits in a full pipe. */
static nr_proc spawn_flood(uint32_t pipe_size)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("flood"), .pipe_size = pipe_size));
	int waiting = 0;

	EVENTUALLY(ioctl(nr_fd(p, NR_STDOUT), FIONREAD, &waiting) == 0 && waiting == USUAL_PIPE);
	return p;
}

/* Reads so many bytes of which none has to be waited for; the pipe's size then. */
static int size_after(nr_proc p, size_t bytes)
{
	char buf[1000];

	while (bytes > 0) {
		size_t len = bytes < sizeof buf ? bytes : sizeof buf;

		CHECK_EQ_INT(nr_read(p, NR_STDOUT, buf, len), len);
		bytes -= len;
	}
	return fcntl(nr_fd(p, NR_STDOUT), F_GETPIPE_SZ);
}

TEST(pipe_grows_that_holds_up_its_program)
{
	nr_proc p = spawn_flood(0);

	CHECK_EQ_INT(size_after(p, USUAL_PIPE - 1), USUAL_PIPE);
	CHECK_EQ_INT(size_after(p, 1), GROWN_PIPE);
	release(p);
	p = spawn_flood(USUAL_PIPE); /* who asks for a size has it */
	CHECK_EQ_INT(size_after(p, USUAL_PIPE), USUAL_PIPE);
	release(p);
}

TEST(pipe_grows_only_while_few_have)
{
	nr_proc p[GROWN_PIPES + 2];

	for (int i = 0; i < GROWN_PIPES + 2; i++) {
		p[i] = spawn_flood(0);
		CHECK_EQ_INT(size_after(p[i], USUAL_PIPE),
			     i < GROWN_PIPES ? GROWN_PIPE : USUAL_PIPE);
	}
	CHECK_EQ_INT(nr_close(p[0], NR_STDOUT), 0);
	release(p[1]);
	release(p[GROWN_PIPES]); /* which has not grown */
	p[1] = spawn_flood(0);
	CHECK_EQ_INT(size_after(p[1], USUAL_PIPE), GROWN_PIPE);
	p[GROWN_PIPES] = spawn_flood(0);
	CHECK_EQ_INT(size_after(p[GROWN_PIPES], USUAL_PIPE), GROWN_PIPE);
	release(p[GROWN_PIPES + 1]);
	p[GROWN_PIPES + 1] = spawn_flood(0);
	CHECK_EQ_INT(size_after(p[GROWN_PIPES + 1], USUAL_PIPE), USUAL_PIPE);
	for (int i = 0; i < GROWN_PIPES + 2; i++)
		release(p[i]);
}

TEST(pipe_size_small_carries_bulk)
{
	struct result *r =
		run_with(OPTIONS(.argv = PROG("copy"), .pipe_size = 4096), pattern(BULK), BULK);

	check_bulk(&r->out, "through small pipes");
}
