/* SPDX-License-Identifier: Apache-2.0 */

/* Who runs the program, and with what limits. */

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

#define SOMEBODY 54321 /* needs no account */

static void require_root(void)
{
	if (geteuid() != 0)
		SKIP("only root may change the identity");
}

static void require_no_root(void)
{
	if (geteuid() == 0)
		SKIP("root may do all of this");
}

static const char *about(const nr_options *o, const char *key)
{
	return value_of(output_of(o), key);
}

/* A program that everybody may execute, wherever the tests were built. */
static const char *program_for_all(void)
{
	REQUIRE(chmod(scratch(), 0755) == 0);
	return scratch_program("program");
}

/* Without options all is the host's. */

TEST(identity_is_the_hosts_by_default)
{
	const struct buffer *out = output_of(OPTIONS(.argv = PROG("about")));
	mode_t mask = umask(0);
	gid_t groups[1024];
	int ngroups = getgroups(1024, groups);
	const char *list = "";

	umask(mask);
	for (int i = 0; i < ngroups; i++)
		list = check_format("%s%s%u", list, i ? " " : "", groups[i]);
	CHECK_STR(value_of(out, "uid"), check_format("%u %u %u", getuid(), geteuid(), geteuid()));
	CHECK_STR(value_of(out, "gid"), check_format("%u %u %u", getgid(), getegid(), getegid()));
	CHECK_STR(value_of(out, "groups"), list);
	CHECK_STR(value_of(out, "umask"), check_format("%03o", (unsigned)mask));
	CHECK_STR(value_of(out, "nice"), check_format("%d", getpriority(PRIO_PROCESS, 0)));
	CHECK_STR(value_of(out, "no_new_privs"), "0");
}

/* Neither the Go runtime's raised limit nor anything of the shepherd's shows. */
TEST(limits_are_the_hosts_by_default)
{
	const struct buffer *out = output_of(OPTIONS(.argv = PROG("limits")));

	for (int i = 0; i < (int)RLIM_NLIMITS; i++) {
		struct rlimit r;

		/* The one by which the shepherd knows its trees; the kernel has no use for it. */
		if (i == RLIMIT_LOCKS)
			continue;
		REQUIRE(getrlimit(i, &r) == 0);
		CHECK_CONTAINS(check_format("\n%s", out->data),
			       check_format("\n%d %ju %ju\n", i, (uintmax_t)r.rlim_cur,
					    (uintmax_t)r.rlim_max));
	}
}

/* Values of which the flag is not set do not count. */
TEST(values_without_their_flag_are_ignored)
{
	const uint32_t groups[] = { 1, 2 };
	const struct buffer *out =
		output_of(OPTIONS(.argv = PROG("about"), .uid = SOMEBODY, .gid = SOMEBODY,
				  .groups = groups, .ngroups = 2, .umask = 0777, .nice = 19));

	CHECK_STR(value_of(out, "uid"), check_format("%u %u %u", getuid(), geteuid(), geteuid()));
	CHECK_STR(value_of(out, "gid"), check_format("%u %u %u", getgid(), getegid(), getegid()));
	CHECK(strcmp(value_of(out, "umask"), "777") != 0);
	CHECK_STR(value_of(out, "nice"), check_format("%d", getpriority(PRIO_PROCESS, 0)));
}

/* uid, gid, groups. */

TEST(uid_is_set_for_good)
{
	const struct buffer *out;

	require_root();
	out = output_of(OPTIONS(.argv = ARGV(program_for_all(), "about"), .flags = NR_SET_UID,
				.uid = SOMEBODY));
	CHECK_STR(value_of(out, "uid"), "54321 54321 54321");
	CHECK_STR(value_of(out, "gid"), check_format("%u %u %u", getgid(), getegid(), getegid()));
}

TEST(gid_is_set_for_good)
{
	const struct buffer *out;

	require_root();
	out = output_of(OPTIONS(.argv = ARGV(program_for_all(), "about"), .flags = NR_SET_GID,
				.gid = SOMEBODY));
	CHECK_STR(value_of(out, "gid"), "54321 54321 54321");
	CHECK_STR(value_of(out, "uid"), "0 0 0");
}

TEST(groups_are_exactly_these)
{
	const uint32_t groups[] = { 11, 222, 3333 };

	require_root();
	CHECK_STR(about(OPTIONS(.argv = PROG("about"), .flags = NR_SET_GROUPS, .groups = groups,
				.ngroups = 3),
			"groups"),
		  "11 222 3333");
	CHECK_STR(about(OPTIONS(.argv = PROG("about"), .flags = NR_SET_GROUPS), "groups"), "");
}

/* A shepherd is started while the first call goes on: this may make it too old. */

static atomic_bool started;

static void *change_limit(void *arg)
{
	struct rlimit limit;

	REQUIRE(getrlimit(RLIMIT_CORE, &limit) == 0);
	limit.rlim_cur = 4096;
	while (!atomic_load(&started))
		continue;
	usleep(*(useconds_t *)arg);
	REQUIRE(setrlimit(RLIMIT_CORE, &limit) == 0);
	return NULL;
}

HOST(that_changes_during_the_first_call)
{
	useconds_t wait = (useconds_t)atoi(argv[1]);
	struct rlimit limit = { .rlim_cur = 0 };
	thread *t;

	REQUIRE(getrlimit(RLIMIT_CORE, &limit) == 0);
	if (limit.rlim_max < 4096)
		SKIP("no limit to change");
	limit.rlim_cur = 0;
	REQUIRE(setrlimit(RLIMIT_CORE, &limit) == 0);
	t = thread_start(change_limit, &wait);
	atomic_store(&started, true);
	output_of(OPTIONS(.argv = PROG("exit", "0")));
	thread_join(t);
	CHECK_CONTAINS(output_of(OPTIONS(.argv = PROG("limits")))->data,
		       check_format("\n%d 4096 ", RLIMIT_CORE));
}

TEST(limits_changed_during_the_first_call_count)
{
	for (int wait = 0; wait < 8000; wait += 100)
		host_run(ARGV("that_changes_during_the_first_call", check_format("%d", wait)));
}

/* Groups and limits need the privilege that setting the uid gives away. */
TEST(all_of_the_identity_at_once)
{
	const uint32_t groups[] = { 7, 8 };
	const nr_rlimit limit = { .resource = RLIMIT_NOFILE, .soft = 50, .hard = 60 };
	const nr_options *o;
	const struct buffer *out;
	char expected[64];

	require_root();
	o = OPTIONS(.argv = ARGV(program_for_all(), "about"), .uid = SOMEBODY, .gid = SOMEBODY,
		    .groups = groups, .ngroups = 2, .umask = 027, .nice = -3, .rlimits = &limit,
		    .nrlimits = 1,
		    .flags = NR_SET_UID | NR_SET_GID | NR_SET_GROUPS | NR_SET_UMASK | NR_SET_NICE |
			     NR_NO_NEW_PRIVS);
	out = output_of(o);
	snprintf(expected, sizeof expected, "%d %d %d", SOMEBODY, SOMEBODY, SOMEBODY);
	CHECK_STR(value_of(out, "uid"), expected);
	CHECK_STR(value_of(out, "gid"), expected);
	CHECK_STR(value_of(out, "groups"), "7 8");
	CHECK_STR(value_of(out, "umask"), "027");
	CHECK_STR(value_of(out, "nice"), "-3");
	CHECK_STR(value_of(out, "no_new_privs"), "1");
}

/* The program, not the host, has to be allowed to execute and to enter. */
TEST(permissions_are_those_of_the_new_uid)
{
	const char *why;

	require_root();
	scratch_program("private");
	REQUIRE(chmod(scratch_path("private"), 0700) == 0);
	why = spawn_fails(OPTIONS(.argv = ARGV(scratch_path("private")),
				  .flags = NR_SET_UID | NR_SET_GID | NR_SET_GROUPS, .uid = SOMEBODY,
				  .gid = SOMEBODY),
			  EACCES, "program of mode 0700");
	CHECK_CONTAINS(why, "execve");
}

TEST(program_of_another_uid_is_killed_and_stopped)
{
	const char *program = program_for_all();
	nr_proc p;

	require_root();
	p = spawn(OPTIONS(.argv = ARGV(program, "pause"), .flags = NR_SET_UID, .uid = SOMEBODY));
	CHECK_EQ_INT(nr_kill(p, 0), 0);
	CHECK_EQ_INT(nr_kill(p, SIGUSR1), 0);
	CHECK_EQ_INT(wait_end(p).signal, SIGUSR1);
	release(p);
	p = spawn(
		OPTIONS(.argv = ARGV(program, "pause"), .flags = NR_SET_UID, .uid = SOMEBODY + 1));
	release(p);
}

TEST(terminal_of_another_uid_opens)
{
	struct result *r;

	require_root();
	r = run(OPTIONS(.argv = ARGV(program_for_all(), "tty"), .flags = NR_PTY | NR_SET_UID,
			.uid = SOMEBODY));
	CHECK_STR(value_of(&r->out, "dev_tty"), "opens");
	CHECK_CONTAINS(value_of(&r->out, "fd0"), "/dev/pts/");
}

TEST(no_id_is_invalid)
{
	const uint32_t groups[] = { 1, UINT32_MAX };

	spawn_fails(OPTIONS(.argv = PROG("exit"), .flags = NR_SET_UID, .uid = UINT32_MAX), EINVAL,
		    "uid");
	spawn_fails(OPTIONS(.argv = PROG("exit"), .flags = NR_SET_GID, .gid = UINT32_MAX), EINVAL,
		    "gid");
	require_root();
	spawn_fails(OPTIONS(.argv = PROG("exit"), .flags = NR_SET_GROUPS, .groups = groups,
			    .ngroups = 2),
		    EINVAL, "group");
}

TEST(too_many_groups_are_invalid)
{
	const size_t count = 65537; /* NGROUPS_MAX is 65536 */
	uint32_t *groups = check_alloc(count * sizeof *groups);

	spawn_fails(OPTIONS(.argv = PROG("exit"), .flags = NR_SET_GROUPS, .groups = groups,
			    .ngroups = count),
		    EINVAL, "groups");
	spawn_fails(OPTIONS(.argv = PROG("exit"), .flags = NR_SET_GROUPS, .groups = groups,
			    .ngroups = SIZE_MAX),
		    EINVAL, "groups");
}

TEST(identity_without_privilege_is_eperm)
{
	const uint32_t groups[] = { SOMEBODY };
	const char *why;

	require_no_root();
	why = spawn_fails(OPTIONS(.argv = PROG("exit"), .flags = NR_SET_UID, .uid = SOMEBODY),
			  EPERM, "uid");
	CHECK_CONTAINS(why, "uid");
	why = spawn_fails(OPTIONS(.argv = PROG("exit"), .flags = NR_SET_GID, .gid = SOMEBODY),
			  EPERM, "gid");
	CHECK_CONTAINS(why, "gid");
	why = spawn_fails(OPTIONS(.argv = PROG("exit"), .flags = NR_SET_GROUPS, .groups = groups,
				  .ngroups = 1),
			  EPERM, "groups");
	CHECK_CONTAINS(why, "groups");
}

/* umask */

TEST(umask_is_set)
{
	static const uint32_t masks[] = { 0, 022, 077, 0777 };

	for (size_t i = 0; i < COUNT_OF(masks); i++)
		CHECK_STR(about(OPTIONS(.argv = PROG("about"), .flags = NR_SET_UMASK,
					.umask = masks[i]),
				"umask"),
			  check_format("%03o", masks[i]));
}

TEST(umask_out_of_range_is_invalid)
{
	static const uint32_t bad[] = { 01000, 07777, UINT32_MAX };

	for (size_t i = 0; i < COUNT_OF(bad); i++)
		spawn_fails(OPTIONS(.argv = PROG("exit"), .flags = NR_SET_UMASK, .umask = bad[i]),
			    EINVAL, check_format("%o", bad[i]));
}

/* One program's settings are not those of the next. */
TEST(settings_do_not_stick)
{
	const nr_rlimit limit = { .resource = RLIMIT_NOFILE, .soft = 33, .hard = 44 };
	const struct buffer *before = output_of(OPTIONS(.argv = PROG("about")));
	const struct buffer *limits = output_of(OPTIONS(.argv = PROG("limits")));
	const struct buffer *after;

	output_of(OPTIONS(.argv = PROG("exit"), .umask = 0123, .nice = 7, .cwd = "/",
			  .rlimits = &limit, .nrlimits = 1,
			  .flags = NR_SET_UMASK | NR_SET_NICE | NR_NO_NEW_PRIVS));
	after = output_of(OPTIONS(.argv = PROG("about")));
	CHECK_STR(value_of(after, "umask"), value_of(before, "umask"));
	CHECK_STR(value_of(after, "nice"), value_of(before, "nice"));
	CHECK_STR(value_of(after, "cwd"), value_of(before, "cwd"));
	CHECK_STR(value_of(after, "no_new_privs"), value_of(before, "no_new_privs"));
	after = output_of(OPTIONS(.argv = PROG("limits")));
	CHECK_CONTAINS(after->data, strstr(limits->data, "\n11 "));
	CHECK(!strstr(after->data, " 33 44\n"), "%s", after->data);
}

/* nice */

static void check_nice(int32_t nice)
{
	CHECK_STR(about(OPTIONS(.argv = PROG("about"), .flags = NR_SET_NICE, .nice = nice), "nice"),
		  check_format("%d", nice));
}

TEST(nice_is_set)
{
	check_nice(17);
	check_nice(19);
}

TEST(nice_is_set_to_more_urgent)
{
	require_root();
	check_nice(0);
	check_nice(-5);
	check_nice(-20);
}

TEST(nice_out_of_range_is_invalid)
{
	static const int32_t bad[] = { -21, 20, 1000, INT32_MIN, INT32_MAX };

	for (size_t i = 0; i < COUNT_OF(bad); i++)
		spawn_fails(OPTIONS(.argv = PROG("exit"), .flags = NR_SET_NICE, .nice = bad[i]),
			    EINVAL, check_format("nice %d", bad[i]));
}

TEST(nice_without_privilege_is_an_error)
{
	const char *why;
	int n;

	require_no_root();
	n = spawn_error(OPTIONS(.argv = PROG("exit"), .flags = NR_SET_NICE, .nice = -5), &why);
	CHECK(n == -EPERM || n == -EACCES, "-%s", nr_errname(n));
	CHECK_CONTAINS(why, "priority");
}

/* rlimits */

TEST(limits_are_set)
{
	const nr_rlimit limits[] = {
		{ .resource = RLIMIT_NOFILE, .soft = 100, .hard = 200 },
		{ .resource = RLIMIT_CORE, .soft = 0, .hard = 0 },
		{ .resource = RLIMIT_FSIZE, .soft = 1000000, .hard = 2000000 },
		{ .resource = RLIMIT_CPU, .soft = 100, .hard = UINT64_MAX },
		{ .resource = RLIMIT_AS, .soft = UINT64_MAX, .hard = UINT64_MAX },
	};
	const struct buffer *out;

	for (size_t i = 0; i < COUNT_OF(limits); i++) {
		struct rlimit r;

		REQUIRE(getrlimit(limits[i].resource, &r) == 0);
		if (limits[i].hard > r.rlim_max)
			require_root();
	}
	out = output_of(
		OPTIONS(.argv = PROG("limits"), .rlimits = limits, .nrlimits = COUNT_OF(limits)));
	for (size_t i = 0; i < COUNT_OF(limits); i++)
		CHECK_CONTAINS(check_format("\n%s", out->data),
			       check_format("\n%d %ju %ju\n", limits[i].resource,
					    (uintmax_t)limits[i].soft, (uintmax_t)limits[i].hard));
}

TEST(limits_are_in_force)
{
	const nr_rlimit limit = { .resource = RLIMIT_FSIZE, .soft = 1000, .hard = 1000 };
	nr_proc p;

	change_directory(scratch());
	change_environment("PROG", testprog());
	p = spawn(OPTIONS(.argv = SH("exec \"$PROG\" write 1 2000 > file"), .rlimits = &limit,
			  .nrlimits = 1));
	CHECK_EQ_INT(wait_end(p).signal, SIGXFSZ);
	release(p);
}

TEST(limits_that_do_not_exist_are_invalid)
{
	static const int bad[] = { -1, 16, 17, 100, INT32_MAX, INT32_MIN };

	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		nr_rlimit limit = { .resource = bad[i], .soft = 1, .hard = 1 };

		spawn_fails(OPTIONS(.argv = PROG("exit"), .rlimits = &limit, .nrlimits = 1), EINVAL,
			    check_format("resource %d", bad[i]));
	}
}

TEST(limits_of_which_soft_exceeds_hard_are_invalid)
{
	const nr_rlimit limits[] = {
		{ .resource = RLIMIT_NOFILE, .soft = 100, .hard = 200 },
		{ .resource = RLIMIT_CORE, .soft = 2, .hard = 1 },
		{ .resource = RLIMIT_CORE, .soft = UINT64_MAX, .hard = 0 },
	};

	spawn_fails(OPTIONS(.argv = PROG("exit"), .rlimits = limits, .nrlimits = 2), EINVAL,
		    "2 > 1");
	spawn_fails(OPTIONS(.argv = PROG("exit"), .rlimits = limits + 2, .nrlimits = 1), EINVAL,
		    "infinity > 0");
}

TEST(limits_without_privilege_are_eperm)
{
	struct rlimit r;
	nr_rlimit limit = { .resource = RLIMIT_NOFILE };
	const char *why;

	require_no_root();
	REQUIRE(getrlimit(RLIMIT_NOFILE, &r) == 0);
	limit.soft = limit.hard = (uint64_t)r.rlim_max + 1;
	why = spawn_fails(OPTIONS(.argv = PROG("exit"), .rlimits = &limit, .nrlimits = 1), EPERM,
			  "hard limit raised");
	CHECK_CONTAINS(why, "limit");
}

/* no_new_privs */

TEST(no_new_privs_is_set)
{
	CHECK_STR(about(OPTIONS(.argv = PROG("about"), .flags = NR_NO_NEW_PRIVS), "no_new_privs"),
		  "1");
}

TEST(no_new_privs_takes_the_effect_of_setuid_bits)
{
	const char *program;
	const nr_options *o;

	require_root();
	program = program_for_all();
	REQUIRE(chmod(program, 04755) == 0);
	o = OPTIONS(.argv = ARGV(program, "about"), .flags = NR_SET_UID, .uid = SOMEBODY);
	if (strcmp(about(o, "uid"), "54321 0 0") != 0)
		SKIP("setuid programs have no effect in %s", scratch());
	o = OPTIONS(.argv = ARGV(program, "about"), .flags = NR_SET_UID | NR_NO_NEW_PRIVS,
		    .uid = SOMEBODY);
	CHECK_STR(about(o, "uid"), "54321 54321 54321");
}
