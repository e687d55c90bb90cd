/* SPDX-License-Identifier: Apache-2.0 */

/* What is run and where: arguments, environment, directory, errors, options. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proc.h"
#include "support.h"

extern char **environ;

/* Fails with this error, and words that name the step and its subject. */
static void check_spawn_error(const nr_options *o, int error, const char *step, const char *subject)
{
	const char *why = spawn_fails(o, error, subject);

	CHECK_CONTAINS(why, nr_strerror(error));
	CHECK_CONTAINS(why, subject);
	if (step)
		CHECK_CONTAINS(why, step);
}

/* Version and error texts. */

TEST(version_is_that_of_the_header)
{
	CHECK_EQ_INT(nr_version(), NR_VERSION);
	CHECK_STR(nr_version_string(),
		  check_format("%d.%d.%d", NR_VERSION_MAJOR, NR_VERSION_MINOR, NR_VERSION_PATCH));
}

TEST(errors_have_names_and_texts)
{
	static const struct {
		int error;
		const char *name;
	} errors[] = {
		{ EPERM, "EPERM" },   { ENOENT, "ENOENT" },       { ESRCH, "ESRCH" },
		{ EINTR, "EINTR" },   { E2BIG, "E2BIG" },         { ENOEXEC, "ENOEXEC" },
		{ EBADF, "EBADF" },   { ECHILD, "ECHILD" },       { EAGAIN, "EAGAIN" },
		{ ENOMEM, "ENOMEM" }, { EACCES, "EACCES" },       { ENOTDIR, "ENOTDIR" },
		{ EINVAL, "EINVAL" }, { EMFILE, "EMFILE" },       { ENOTTY, "ENOTTY" },
		{ EFBIG, "EFBIG" },   { EPIPE, "EPIPE" },         { ELOOP, "ELOOP" },
		{ ENOPKG, "ENOPKG" }, { ETIMEDOUT, "ETIMEDOUT" }, { EOWNERDEAD, "EOWNERDEAD" },
	};

	for (size_t i = 0; i < COUNT_OF(errors); i++) {
		CHECK_STR(nr_errname(errors[i].error), errors[i].name);
		CHECK_STR(nr_errname(-errors[i].error), errors[i].name);
		CHECK_STR(nr_strerror(-errors[i].error), nr_strerror(errors[i].error));
#ifdef __GLIBC__ /* others word them differently; the library does not */
		CHECK_STR(nr_strerror(errors[i].error), strerror(errors[i].error));
#endif
	}
}

TEST(unknown_errors_have_texts_too)
{
	static const int unknown[] = { 0,    41,      58,       134,     -134,     511,
				       4096, 1000000, -1000000, INT_MAX, -INT_MAX, INT_MIN };

	for (size_t i = 0; i < COUNT_OF(unknown); i++) {
		CHECK(nr_errname(unknown[i]) && *nr_errname(unknown[i]), "%d", unknown[i]);
		CHECK(nr_strerror(unknown[i]) && *nr_strerror(unknown[i]), "%d", unknown[i]);
	}
}

/* The buffer for words. */

TEST(why_may_be_missing_or_short)
{
	const nr_options *o = OPTIONS(.argv = ARGV("/nonexistent/program"));
	char whole[512];
	char text[16];

	CHECK_EQ_INT(nr_spawn(o, whole, sizeof whole), -ENOENT);
	CHECK_EQ_INT(nr_spawn(o, NULL, 0), -ENOENT);
	CHECK_EQ_INT(nr_spawn(o, NULL, 100), -ENOENT);

	memset(text, '#', sizeof text);
	CHECK_EQ_INT(nr_spawn(o, text, 0), -ENOENT);
	CHECK(text[0] == '#', "wrote into no space at all");

	CHECK_EQ_INT(nr_spawn(o, text, 1), -ENOENT);
	CHECK(text[0] == '\0' && text[1] == '#');

	memset(text, '#', sizeof text);
	CHECK_EQ_INT(nr_spawn(o, text, 8), -ENOENT);
	CHECK(memcmp(text, whole, 7) == 0 && text[7] == '\0' && text[8] == '#', "\"%.8s\"", text);
}

/* Arguments. */

TEST(arguments_arrive_unchanged)
{
	char bytes[256];
	struct buffer expected = { 0 };
	const char *const *argv;
	const struct buffer *out;

	for (int i = 1; i < 256; i++)
		bytes[i - 1] = (char)i;
	bytes[255] = '\0';
	argv = PROG("args", "", "two words", "\"quoted\" 'twice'", "$HOME `id` \\ *", "line\nbreak",
		    "--", "-x", "\xc3\xa4\xe2\x82\xac", bytes, "");
	for (size_t i = 0; argv[i]; i++)
		buffer_append(&expected, argv[i], strlen(argv[i]) + 1);
	out = output_of(OPTIONS(.argv = argv));
	CHECK_MEM(out->data, out->len, expected.data, expected.len);
}

TEST(file_is_executed_under_the_name_of_argv0)
{
	const struct buffer *out =
		output_of(OPTIONS(.argv = ARGV("a name", "args"), .file = testprog()));

	CHECK_MEM(out->data, out->len, "a name\0args", 12);
}

TEST(file_is_looked_up_in_path)
{
	const struct buffer *out;

	scratch_program("found");
	change_environment("PATH", check_format("/nonexistent:%s", scratch()));
	out = output_of(OPTIONS(.argv = ARGV("another name", "args"), .file = "found"));
	CHECK_MEM(out->data, out->len, "another name\0args", 18);
}

/* So many strings of up to 120 KiB that they are len bytes in all. */
static const char **many_strings(const char *first, const char *second, size_t len)
{
	const size_t each = 120 * 1024;
	size_t count = len / each + 3;
	const char **strings = check_alloc((count + 1) * sizeof *strings);
	size_t n = 0;

	strings[n++] = first;
	strings[n++] = second;
	while (len > 1) {
		size_t part = len < each ? len : each;
		char *text = check_alloc(part);

		memset(text, 'a' + (int)(n % 26), part - 1);
		memcpy(text, "N=", part > 2 ? 2 : 0);
		strings[n++] = text;
		len -= part;
	}
	return strings;
}

static void join_strings(struct buffer *b, const char *const *strings)
{
	for (size_t i = 0; strings[i]; i++)
		buffer_append(b, strings[i], strlen(strings[i]) + 1);
}

#define NEARLY_2_MIB (1900 * 1024)

/* The kernel gives arguments and environment a quarter of the stack's limit. */
static void require_usual_stack_limit(void)
{
	struct rlimit r;

	REQUIRE(getrlimit(RLIMIT_STACK, &r) == 0);
	if (r.rlim_cur < (8u << 20) || sysconf(_SC_PAGESIZE) != 4096)
		SKIP("needs a stack limit of 8 MiB and pages of 4 KiB");
}

TEST(two_mebibytes_of_arguments_work)
{
	const char **argv = many_strings(testprog(), "args", NEARLY_2_MIB);
	struct buffer expected = { 0 };
	const struct buffer *out;

	require_usual_stack_limit();
	join_strings(&expected, argv);
	out = output_of(OPTIONS(.argv = argv, .env = ENV("A=1")));
	CHECK_MEM(out->data, out->len, expected.data, expected.len);
}

TEST(two_mebibytes_of_environment_work)
{
	const char **env = many_strings(check_mark(), "A=1", NEARLY_2_MIB);
	struct buffer expected = { 0 };
	const struct buffer *out;

	require_usual_stack_limit();
	join_strings(&expected, env);
	out = output_of(OPTIONS(.argv = PROG("env"), .env = env));
	CHECK_MEM(out->data, out->len, expected.data, expected.len);
}

TEST(fifty_thousand_arguments_work)
{
	const size_t count = 50000;
	const char **argv = check_alloc((count + 3) * sizeof *argv);
	struct buffer expected = { 0 };
	const struct buffer *out;

	argv[0] = testprog();
	argv[1] = "args";
	for (size_t i = 0; i < count; i++)
		argv[i + 2] = check_format("%zu", i);
	join_strings(&expected, argv);
	out = output_of(OPTIONS(.argv = argv));
	CHECK_MEM(out->data, out->len, expected.data, expected.len);
}

TEST(more_than_the_kernel_takes_is_e2big)
{
	const size_t too_long = 128 * 1024 + 1;
	char *one = check_alloc(too_long + 1);

	memset(one, 'x', too_long);
	spawn_fails(OPTIONS(.argv = PROG("exit", one)), E2BIG, "one argument");
	spawn_fails(OPTIONS(.argv = PROG("exit"), .env = ENV(one)), E2BIG, "one variable");
	spawn_fails(OPTIONS(.argv = many_strings(testprog(), "args", 8u << 20)), E2BIG,
		    "all arguments");
	spawn_fails(OPTIONS(.argv = PROG("env"), .env = many_strings("A=1", "B=2", 8u << 20)),
		    E2BIG, "all variables");
	/* The shepherd has survived it. */
	output_of(OPTIONS(.argv = PROG("exit", "0")));
}

TEST(spawn_keeps_no_pointer)
{
	struct buffer expected = { 0 };
	struct buffer out = { 0 };
	nr_options *o = check_alloc(sizeof *o);
	const char **argv = check_alloc(4 * sizeof *argv);
	const char **env = check_alloc(2 * sizeof *env);
	char *cwd = check_format("%s", scratch());
	char *text = check_format("some text");
	nr_proc p;

	*o = (nr_options){
		.size = sizeof *o, .flags = NR_ASYNC, .argv = argv, .env = env, .cwd = cwd
	};
	argv[0] = check_format("%s", testprog());
	argv[1] = check_format("args");
	argv[2] = text;
	env[0] = check_format("%s", check_mark());
	join_strings(&expected, argv);
	p = spawn(o);
	for (size_t i = 0; argv[i]; i++)
		memset((char *)argv[i], '!', strlen(argv[i]));
	memset((char *)env[0], '!', strlen(env[0]));
	memset(cwd, '!', strlen(cwd));
	memset(argv, 0xff, 4 * sizeof *argv);
	memset(env, 0xff, 2 * sizeof *env);
	memset(o, 0xff, sizeof *o);
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	CHECK_MEM(out.data, out.len, expected.data, expected.len);
	wait_end(p);
	release(p);
}

/* Environment. */

TEST(environment_is_the_hosts_by_default)
{
	struct buffer expected = { 0 };
	const struct buffer *out;

	change_environment("NR_TEST_CHANGED", "after the shepherd was started");
	change_environment("NR_TEST_EMPTY", "");
	join_strings(&expected, (const char *const *)environ);
	out = output_of(OPTIONS(.argv = PROG("env")));
	CHECK_MEM(out->data, out->len, expected.data, expected.len, "%s", out->data);
}

TEST(environment_given_is_exact)
{
	const char *const *env = ENV("B=2", "A=1", "EMPTY=", "A=another", "EQUALS=a=b=c",
				     "SPACES= x ", "LINES=a\nb", "BYTES=\x01\xff");
	struct buffer expected = { 0 };
	const struct buffer *out;

	join_strings(&expected, env);
	out = output_of(OPTIONS(.argv = PROG("env"), .env = env));
	CHECK_MEM(out->data, out->len, expected.data, expected.len, "%s", out->data);
}

TEST(environment_may_be_empty)
{
	const char *const none[] = { NULL };

	CHECK_EQ_INT(output_of(OPTIONS(.argv = PROG("env"), .env = none))->len, 0);
}

/* Directory. */

static const char *program_cwd(const char *cwd)
{
	return value_of(output_of(OPTIONS(.argv = PROG("about"), .cwd = cwd)), "cwd");
}

TEST(directory_is_the_hosts_by_default)
{
	char here[PATH_MAX];

	REQUIRE(getcwd(here, sizeof here));
	CHECK_STR(program_cwd(NULL), here);
	/* Also if the host has moved since the shepherd was started. */
	change_directory(scratch());
	CHECK_STR(program_cwd(NULL), scratch());
}

TEST(directory_may_be_absolute_or_relative)
{
	const char *sub = scratch_dir("sub");

	CHECK_STR(program_cwd("/"), "/");
	CHECK_STR(program_cwd(sub), sub);
	change_directory(scratch());
	CHECK_STR(program_cwd("sub"), sub);
	CHECK_STR(program_cwd("./sub/.."), scratch());
	CHECK_STR(program_cwd("."), scratch());
}

TEST(directory_of_the_host_may_have_been_renamed)
{
	const char *old = scratch_dir("old");
	const char *new = scratch_path("new");

	change_directory(old);
	REQUIRE(rename(old, new) == 0);
	CHECK_STR(program_cwd(NULL), new);
}

TEST(directory_of_the_host_may_have_been_removed)
{
	const char *gone = scratch_dir("gone");

	change_directory(gone);
	REQUIRE(rmdir(gone) == 0);
	output_of(OPTIONS(.argv = PROG("exit", "0")));
	CHECK_STR(program_cwd("/"), "/");
}

TEST(directory_errors_name_chdir)
{
	const char *file = scratch_file("file", "", 0644);
	const char *missing = scratch_path("missing");
	const char *below = scratch_path("file/below");

	check_spawn_error(OPTIONS(.argv = PROG("exit"), .cwd = missing), ENOENT, "chdir", missing);
	check_spawn_error(OPTIONS(.argv = PROG("exit"), .cwd = file), ENOTDIR, "chdir", file);
	check_spawn_error(OPTIONS(.argv = PROG("exit"), .cwd = below), ENOTDIR, "chdir", below);
}

TEST(directory_that_may_not_be_entered_is_eacces)
{
	const char *closed;

	if (geteuid() == 0)
		SKIP("root may enter every directory");
	closed = scratch_dir("closed");
	REQUIRE(chmod(closed, 0) == 0);
	check_spawn_error(OPTIONS(.argv = PROG("exit"), .cwd = closed), EACCES, "chdir", closed);
}

/* Where the program is found. */

static void check_runs(const nr_options *o, const char *what)
{
	char why[256];
	nr_proc p = nr_spawn(o, why, sizeof why);
	nr_outcome how;

	if (!CHECK(p > 0, "%s: -%s: %s", what, nr_errname((int)p), why))
		return;
	how = wait_end(p);
	CHECK_EQ_INT(how.code, 7, "%s", what);
	release(p);
}

TEST(path_is_the_hosts_by_default)
{
	scratch_program("tool");
	change_environment("PATH", scratch());
	check_runs(OPTIONS(.argv = ARGV("tool", "exit", "7")), "PATH of the host");
	change_environment("PATH", "/nonexistent");
	check_spawn_error(OPTIONS(.argv = ARGV("tool", "exit", "7")), ENOENT, NULL, "tool");
}

TEST(path_is_that_of_env_if_given)
{
	const char *path = check_format("PATH=%s", scratch());

	scratch_program("tool");
	check_runs(OPTIONS(.argv = ARGV("tool", "exit", "7"), .env = ENV("A=1", path, "B=2")),
		   "PATH of env");
	change_environment("PATH", scratch());
	check_spawn_error(
		OPTIONS(.argv = ARGV("tool", "exit", "7"), .env = ENV("PATH=/nonexistent")), ENOENT,
		NULL, "tool");
}

TEST(path_entry_that_is_empty_is_the_current_directory)
{
	static const char *const paths[] = {
		"", ":", ":/nonexistent", "/nonexistent:", "/nonexistent::/nowhere", "."
	};

	scratch_program("tool");
	change_directory(scratch());
	for (size_t i = 1; i < COUNT_OF(paths); i++) {
		change_environment("PATH", paths[i]);
		check_runs(OPTIONS(.argv = ARGV("tool", "exit", "7")), paths[i]);
	}
}

TEST(path_entry_may_be_relative)
{
	scratch_dir("bin");
	scratch_program("bin/tool");
	change_directory(scratch());
	change_environment("PATH", "nonexistent:bin");
	check_runs(OPTIONS(.argv = ARGV("tool", "exit", "7")), "relative entry");
}

TEST(path_search_goes_on_after_what_cannot_be_executed)
{
	const char *first = scratch_dir("first");
	const char *second = scratch_dir("second");
	const char *third = scratch_dir("third");

	scratch_file("first/tool", "not executable", 0644);
	scratch_dir("second/tool");
	scratch_program("third/tool");
	scratch_file("file", "", 0755);
	change_environment("PATH",
			   check_format("%s/file:%s:%s:%s", scratch(), first, second, third));
	check_runs(OPTIONS(.argv = ARGV("tool", "exit", "7")), "fourth entry");
	/* Nothing better was found: this tells more than ENOENT. */
	change_environment("PATH", check_format("%s:/nonexistent", first));
	check_spawn_error(OPTIONS(.argv = ARGV("tool")), EACCES, NULL, "tool");
}

TEST(path_search_runs_no_shell)
{
	scratch_file("tool", "echo not a program\n", 0755);
	change_environment("PATH", scratch());
	check_spawn_error(OPTIONS(.argv = ARGV("tool")), ENOEXEC, "execve", "tool");
}

TEST(path_is_not_searched_for_names_with_a_slash)
{
	scratch_dir("bin");
	scratch_program("bin/tool");
	change_environment("PATH", scratch());
	check_spawn_error(OPTIONS(.argv = ARGV("bin/tool")), ENOENT, "execve", "bin/tool");
	change_directory(scratch());
	check_runs(OPTIONS(.argv = ARGV("bin/tool", "exit", "7")), "relative name");
}

TEST(relative_name_starts_at_the_programs_directory)
{
	const char *sub = scratch_dir("sub");

	scratch_program("sub/tool");
	check_runs(OPTIONS(.argv = ARGV("./tool", "exit", "7"), .cwd = sub), "in cwd");
	change_directory(scratch());
	check_runs(OPTIONS(.argv = ARGV("./tool", "exit", "7"), .cwd = "sub"), "in cwd");
	check_spawn_error(OPTIONS(.argv = ARGV("sub/tool"), .cwd = "sub"), ENOENT, "execve",
			  "sub/tool");
}

TEST(script_with_interpreter_runs)
{
	check_runs(OPTIONS(.argv = ARGV(scratch_file("script", "#!/bin/sh\nexit 7\n", 0755))),
		   "script");
}

/* What exec says. */

static void check_exec_error(const char *file, int error)
{
	check_spawn_error(OPTIONS(.argv = ARGV(file, "x")), error, "execve", file);
	check_spawn_error(OPTIONS(.argv = ARGV("name", "x"), .file = file), error, "execve", file);
}

TEST(exec_errors_are_the_kernels)
{
	char *name = check_alloc(301);
	const char *busy = scratch_program("busy");

	memset(name, 'n', 300);
	check_exec_error(scratch_path("missing"), ENOENT);
	check_exec_error(scratch_file("data", "text\n", 0644), EACCES);
	check_exec_error(scratch_dir("directory"), EACCES);
	check_exec_error(scratch_file("noexec", "no program\n", 0755), ENOEXEC);
	check_exec_error(scratch_file("empty", "", 0755), ENOEXEC);
	check_exec_error(scratch_path("data/below"), ENOTDIR);
	check_exec_error(scratch_file("script", "#!/nonexistent/interpreter\n", 0755), ENOENT);
	check_exec_error(scratch_path(name), ENAMETOOLONG);
	REQUIRE(symlink("loop", scratch_path("loop")) == 0);
	check_exec_error(scratch_path("loop"), ELOOP);
	open_file(busy, O_WRONLY);
	check_exec_error(busy, ETXTBSY);
}

TEST(exec_error_is_worded_as_step_subject_error)
{
	scratch_file("x", "", 0644);
	change_directory(scratch());
	CHECK_STR(spawn_fails(OPTIONS(.argv = ARGV("./x")), EACCES, "./x"),
		  "execve ./x: permission denied");
}

TEST(exec_error_with_every_kind_of_stream)
{
	static const nr_stdio kinds[] = { { 0 },
					  { .mode = NR_STDIO_PIPE },
					  { .mode = NR_STDIO_NULL },
					  { .mode = NR_STDIO_INHERIT } };

	for (size_t i = 0; i < COUNT_OF(kinds); i++)
		for (int pty = 0; pty < 2; pty++)
			check_spawn_error(OPTIONS(.argv = ARGV("/nonexistent"),
						  .flags = pty ? NR_PTY : 0, .in = kinds[i],
						  .out = kinds[i], .err = kinds[i]),
					  ENOENT, "execve", "/nonexistent");
}

/* A hundred failures leave nothing, as the harness checks after each test. */
TEST(exec_errors_leave_nothing_behind)
{
	for (int i = 0; i < 100; i++)
		spawn_fails(OPTIONS(.argv = ARGV("/nonexistent"), .err = PIPE), ENOENT, "exec");
}

/* Options. */

static int spawn_result(const nr_options *o)
{
	char why[256] = "";
	nr_proc p = nr_spawn(o, why, sizeof why);

	if (p > 0) {
		wait_end(p);
		release(p);
		return 0;
	}
	CHECK(*why, "no words for -%s", nr_errname((int)p));
	return (int)p;
}

TEST(options_without_program_are_invalid)
{
	const char *const none[] = { NULL };

	spawn_fails(NULL, EINVAL, "no options");
	spawn_fails(OPTIONS(.argv = NULL), EINVAL, "argv NULL");
	spawn_fails(OPTIONS(.argv = NULL, .file = testprog()), EINVAL, "argv NULL with file");
	spawn_fails(OPTIONS(.argv = none), EINVAL, "argv empty");
	spawn_fails(OPTIONS(.argv = none, .file = testprog()), EINVAL, "argv empty with file");
}

TEST(empty_names_run_nothing)
{
	int n;

	n = spawn_error(OPTIONS(.argv = ARGV("")), NULL);
	CHECK(n == -ENOENT || n == -EINVAL, "argv[0]: %d", n);
	n = spawn_error(OPTIONS(.argv = PROG("exit"), .file = ""), NULL);
	CHECK(n == -ENOENT || n == -EINVAL, "file: %d", n);
	n = spawn_error(OPTIONS(.argv = PROG("exit"), .cwd = ""), NULL);
	CHECK(n == -ENOENT || n == -EINVAL, "cwd: %d", n);
}

TEST(unknown_flags_are_invalid)
{
	const uint64_t known = NR_PTY | NR_PTY_NOECHO | NR_SESSION | NR_ASYNC | NR_LINGER |
			       NR_OWN_SHEPHERD | NR_PID_NAMESPACE | NR_NO_NEW_PRIVS | NR_SET_UID |
			       NR_SET_GID | NR_SET_GROUPS | NR_SET_UMASK | NR_SET_NICE;

	for (int bit = 0; bit < 64; bit++)
		if (!(known >> bit & 1))
			spawn_fails(OPTIONS(.argv = PROG("exit"), .flags = UINT64_C(1) << bit),
				    EINVAL, check_format("flag 1 << %d", bit));
}

TEST(reserved_fields_must_be_zero)
{
	nr_rlimit limit = { .resource = RLIMIT_CORE, .reserved = 1 };

	spawn_fails(OPTIONS(.argv = PROG("exit"), .reserved0 = 1), EINVAL, "reserved0");
	spawn_fails(OPTIONS(.argv = PROG("exit"), .reserved = 1), EINVAL, "reserved");
	spawn_fails(OPTIONS(.argv = PROG("exit"), .reserved = -1), EINVAL, "reserved");
	spawn_fails(OPTIONS(.argv = PROG("exit"), .rlimits = &limit, .nrlimits = 1), EINVAL,
		    "reserved of a limit");
}

TEST(stream_modes_out_of_range_are_invalid)
{
	static const int32_t bad[] = { -1, 6, 7, 100, INT32_MAX, INT32_MIN };

	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		nr_stdio s = { .mode = bad[i] };
		const char *what = check_format("mode %d", bad[i]);

		spawn_fails(OPTIONS(.argv = PROG("exit"), .in = s), EINVAL, what);
		spawn_fails(OPTIONS(.argv = PROG("exit"), .out = s), EINVAL, what);
		spawn_fails(OPTIONS(.argv = PROG("exit"), .err = s), EINVAL, what);
	}
	spawn_fails(OPTIONS(.argv = PROG("exit"), .in = TO_STDOUT), EINVAL, "in to stdout");
	spawn_fails(OPTIONS(.argv = PROG("exit"), .out = TO_STDOUT), EINVAL, "out to stdout");
}

TEST(times_out_of_range_are_invalid)
{
	spawn_fails(OPTIONS(.argv = PROG("exit"), .timeout_ms = -1), EINVAL, "timeout -1");
	spawn_fails(OPTIONS(.argv = PROG("exit"), .timeout_ms = INT64_MIN), EINVAL,
		    "timeout INT64_MIN");
	spawn_fails(OPTIONS(.argv = PROG("exit"), .kill_timeout_ms = -2), EINVAL, "grace -2");
	spawn_fails(OPTIONS(.argv = PROG("exit"), .kill_timeout_ms = INT64_MIN), EINVAL,
		    "grace INT64_MIN");
}

TEST(arrays_need_their_elements)
{
	spawn_fails(OPTIONS(.argv = PROG("exit"), .nfds = 1), EINVAL, "fds");
	spawn_fails(OPTIONS(.argv = PROG("exit"), .nrlimits = 1), EINVAL, "rlimits");
	spawn_fails(OPTIONS(.argv = PROG("exit"), .flags = NR_SET_GROUPS, .ngroups = 1), EINVAL,
		    "groups");
}

/* An options struct in the middle of more memory, as of a newer header. */
static nr_options *sized_options(size_t size, size_t extra)
{
	char *memory = check_alloc(sizeof(nr_options) + extra);
	nr_options *o = (nr_options *)memory;

	*o = (nr_options){ .size = size };
	o->argv = check_alloc(4 * sizeof *o->argv);
	((const char **)o->argv)[0] = testprog();
	((const char **)o->argv)[1] = "exit";
	return o;
}

TEST(size_too_small_is_invalid)
{
	static const size_t bad[] = {
		0, 1, 7, sizeof(size_t), 16, sizeof(nr_options) - 8, sizeof(nr_options) - 1
	};

	for (size_t i = 0; i < COUNT_OF(bad); i++)
		spawn_fails(sized_options(bad[i], 0), EINVAL,
			    check_format("size %zu of %zu", bad[i], sizeof(nr_options)));
}

TEST(size_larger_is_fine_if_the_rest_is_zero)
{
	static const size_t extra[] = { 1, 8, 16, 100, 1000, 3000 };

	for (size_t i = 0; i < COUNT_OF(extra); i++) {
		nr_options *o = sized_options(sizeof *o + extra[i], extra[i]);

		CHECK_EQ_INT(spawn_result(o), 0, "%zu bytes more", extra[i]);
	}
}

TEST(size_larger_with_a_field_set_is_e2big)
{
	static const size_t at[] = { 0, 1, 7, 8, 50, 99 };

	for (size_t i = 0; i < COUNT_OF(at); i++) {
		nr_options *o = sized_options(sizeof *o + 100, 100);

		((char *)(o + 1))[at[i]] = 1;
		spawn_fails(o, E2BIG, check_format("byte %zu after the struct", at[i]));
		/* What lies behind the given size is not looked at. */
		o->size = sizeof *o + at[i];
		CHECK_EQ_INT(spawn_result(o), 0, "byte %zu is outside", at[i]);
		o->size = SIZE_MAX;
		spawn_fails(o, E2BIG, "size SIZE_MAX");
	}
}

TEST(cgroup_files_without_a_cgroup)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("gate")));
	char text[64];
	ssize_t n;

	n = nr_cgroup_get(p, "memory.peak", text, sizeof text);
	CHECK(n == -ENOENT || n == -ENOTSUP, "%zd", n);
	n = nr_cgroup_set(p, "memory.max", "max");
	CHECK(n == -ENOENT || n == -ENOTSUP, "%zd", n);
	nr_kill(p, SIGKILL);
	wait_end(p);
	release(p);
}

/* NR_ASYNC. */

TEST(async_succeeds)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("gate", "3"), .flags = NR_ASYNC));
	struct buffer out = { 0 };
	char why[64] = "unset";
	nr_outcome how;
	int pid;

	EVENTUALLY((pid = nr_pid(p)) != -EAGAIN);
	CHECK(pid > 0);
	read_until(p, NR_STDOUT, &out, "ready\n");
	CHECK(is_alive(pid));
	CHECK_EQ_INT(nr_why(p, why, sizeof why), 0);
	CHECK_STR(why, "");
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	how = wait_end(p);
	check_code(&how, 3, NR_REASON_OWN);
	release(p);
}

TEST(async_failure_comes_by_the_exit_descriptor)
{
	nr_outcome how = { .size = sizeof how, .code = 77 };
	char why[256] = "unset";
	char byte;
	nr_proc p;

	p = spawn(OPTIONS(.argv = ARGV("/nonexistent/program"), .flags = NR_ASYNC));
	wait_ready(nr_fd(p, NR_EXIT), POLLIN);
	CHECK_EQ_INT(nr_wait(p, 0, &how), -ENOENT);
	CHECK_EQ_INT(nr_wait(p, -1, NULL), -ENOENT);
	CHECK_EQ_INT(nr_wait(p, 1000, NULL), -ENOENT);
	CHECK_EQ_INT(nr_why(p, why, sizeof why), 0);
	CHECK_STR(why, "execve /nonexistent/program: no such file or directory");
	CHECK(nr_pid(p) < 0);
	CHECK(is_ready(nr_fd(p, NR_EXIT), POLLIN));
	/* A loop that knows nothing of the failure comes to its end too. */
	wait_ready(nr_fd(p, NR_STDOUT), POLLIN);
	CHECK_EQ_INT(nr_read(p, NR_STDOUT, &byte, 1), 0);
	CHECK_EQ_INT(nr_write(p, "x", 1), -EPIPE);
	CHECK(nr_kill(p, SIGTERM) < 0);
	release(p);
}

TEST(async_failure_in_a_loop)
{
	for (int kind = 0; kind < WATCHERS; kind++) {
		nr_proc p = spawn(OPTIONS(.argv = PROG("exit"), .cwd = "/nonexistent",
					  .flags = NR_ASYNC, .err = PIPE));
		struct result *r = converse(p, (enum watcher)kind, "input", 5);

		CHECK_EQ_INT(r->status, -ENOENT, "%s", watcher_name((enum watcher)kind));
		CHECK_EQ_INT(r->out_end, 0);
		CHECK_EQ_INT(r->err_end, 0);
		release(p);
	}
}

TEST(async_failure_on_a_terminal)
{
	nr_proc p = spawn(OPTIONS(.argv = ARGV("/nonexistent"), .flags = NR_ASYNC | NR_PTY));
	struct result *r = converse(p, WATCH_POLL, NULL, 0);

	CHECK_EQ_INT(r->status, -ENOENT);
	CHECK_EQ_INT(r->out_end, 0);
	release(p);
}

TEST(async_checks_options_at_once)
{
	spawn_fails(OPTIONS(.argv = PROG("exit"), .flags = NR_ASYNC, .reserved = 1), EINVAL,
		    "async");
	spawn_fails(OPTIONS(.argv = NULL, .flags = NR_ASYNC), EINVAL, "async");
}

TEST(async_may_be_released_at_once)
{
	for (int i = 0; i < 50; i++) {
		release(spawn(OPTIONS(.argv = PROG("pause"), .flags = NR_ASYNC)));
		release(spawn(OPTIONS(.argv = ARGV("/nonexistent"), .flags = NR_ASYNC)));
	}
}

TEST(async_may_be_killed_at_once)
{
	for (int i = 0; i < 50; i++) {
		nr_proc p = spawn(OPTIONS(.argv = PROG("pause"), .flags = NR_ASYNC));
		int n;

		/* Not yet executed is not yet killed, but it is never lost. */
		EVENTUALLY((n = nr_kill(p, SIGKILL)) != -EAGAIN);
		CHECK_EQ_INT(n, 0);
		CHECK_EQ_INT(wait_end(p).signal, SIGKILL);
		release(p);
	}
}

TEST(async_many_at_once)
{
	nr_proc procs[64];

	for (size_t i = 0; i < COUNT_OF(procs); i++)
		procs[i] = spawn(
			OPTIONS(.argv = PROG("exit", check_format("%zu", i)), .flags = NR_ASYNC));
	for (size_t i = 0; i < COUNT_OF(procs); i++) {
		nr_outcome how = wait_end(procs[i]);

		check_code(&how, (int)i, NR_REASON_OWN);
		release(procs[i]);
	}
}

/* Handles. */

TEST(handles_are_positive_and_never_used_twice)
{
	nr_proc seen[100];

	for (size_t i = 0; i < COUNT_OF(seen); i++) {
		seen[i] = spawn(OPTIONS(.argv = PROG("exit")));
		for (size_t j = 0; j < i; j++)
			CHECK(seen[i] != seen[j]);
		wait_end(seen[i]);
		release(seen[i]);
	}
}

static void *spawn_often(void *arg)
{
	const char *word = arg;

	for (int i = 0; i < 25 && !check_has_failed(); i++) {
		const struct buffer *out = output_of(OPTIONS(.argv = PROG("args", word)));

		CHECK_CONTAINS(out->data + out->len - strlen(word) - 1, word);
	}
	return NULL;
}

TEST(threads_may_spawn_at_once)
{
	static char words[8][8] = {
		"one", "two", "three", "four", "five", "six", "seven", "eight"
	};
	thread *threads[8];

	for (size_t i = 0; i < COUNT_OF(threads); i++)
		threads[i] = thread_start(spawn_often, words[i]);
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		thread_join(threads[i]);
}

/*
 * The shepherd's executable. Each is tried by a host of its own, because a
 * shepherd that runs already needs none.
 */

HOST(with_bad_shepherd)
{
	const nr_options *o = OPTIONS(.argv = ARGV("/bin/true"), .shepherd = argv[1]);

	/* The first failure must not leave a state that breaks what follows. */
	for (int i = 0; i < atoi(argv[2]); i++)
		CHECK_CONTAINS(spawn_fails(o, ENOPKG, argv[1]), argv[1]);
	output_of(OPTIONS(.argv = PROG("exit", "0")));
}

static void check_bad_shepherd(const char *path)
{
	host_run(ARGV("with_bad_shepherd", path, "3"));
}

TEST(shepherd_that_is_none_is_enopkg)
{
	check_bad_shepherd("/nonexistent/shepherd");
	check_bad_shepherd("/");
	check_bad_shepherd("/dev/null");
	check_bad_shepherd(scratch_file("data", "text\n", 0644));
	check_bad_shepherd(scratch_file("noexec", "text\n", 0755));
	check_bad_shepherd("/bin/true");
	check_bad_shepherd("/bin/false");
	check_bad_shepherd("/bin/cat");
	check_bad_shepherd(scratch_file("echo", "#!/bin/sh\nexec cat <&3 >&3\n", 0755));
	check_bad_shepherd(scratch_file("talk", "#!/bin/sh\nexec yes >&3\n", 0755));
	check_bad_shepherd(scratch_file("crash", "#!/bin/sh\nkill -SEGV $$\n", 0755));
}

/* Something that neither answers nor ends is given up, and killed. */
TEST(shepherd_that_says_nothing_is_enopkg)
{
	const char *pids = scratch_path("pids");
	const char *mute = scratch_file(
		"mute", check_format("#!/bin/sh\necho $$ >>%s\nexec sleep 100\n", pids), 0755);
	struct buffer b = { 0 };
	int count = 0;

	host_run(ARGV("with_bad_shepherd", mute, "1"));
	buffer_read_file(&b, pids);
	for (char *line = b.data; *line; count++) {
		pid_t pid = (pid_t)strtol(line, &line, 10);

		line++;
		/* Whoever they were left to may take its time to reap them. */
		EVENTUALLY(proc_state(pid) == 0 || proc_state(pid) == 'Z');
	}
	CHECK_EQ_INT(count, 2); /* it and its guardian */
}

HOST(with_bad_shepherd_in_environment)
{
	CHECK_CONTAINS(spawn_fails(OPTIONS(.argv = ARGV("/bin/true")), ENOPKG, "environment"),
		       getenv("NETRUNNER_SHEPHERD"));
}

TEST(shepherd_may_be_named_by_the_environment)
{
	change_environment("NETRUNNER_SHEPHERD", "/nonexistent/shepherd");
	host_run(ARGV("with_bad_shepherd_in_environment"));
}
