/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The process that uses the library: how it may end, what it may do with its
 * signals, children and limits, and what the library leaves alone in it.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

extern char **environ;

/* How a host ends, and its programs with it. */

/*
 * One program of each kind whose end is not a matter of course: on pipes and
 * on a terminal, with a session, deaf to signals, with children, stopped,
 * lingering. Each is where it should be when this returns.
 */
static void start_programs_of_all_kinds(void)
{
	static const uint64_t flags[] = { 0, NR_PTY, NR_SESSION, NR_LINGER };
	struct buffer out[COUNT_OF(flags) * 2] = { 0 };
	struct buffer stopped_out = { 0 };
	nr_proc p;

	for (size_t i = 0; i < COUNT_OF(flags); i++) {
		p = spawn(OPTIONS(.argv = PROG("ignore", "1", "2", "15", "13"), .flags = flags[i]));
		read_until(p, NR_STDOUT, &out[2 * i], "ready");
		p = spawn(OPTIONS(.argv = PROG("family", "stubborn"), .flags = flags[i]));
		read_until(p, NR_STDOUT, &out[2 * i + 1], "child");
	}
	/* Its program has ended, and it is what was left. */
	p = spawn(OPTIONS(.argv = PROG("background", "stubborn", "0"), .flags = NR_LINGER));
	wait_end(p);
	p = spawn(OPTIONS(.argv = PROG("pause")));
	read_until(p, NR_STDOUT, &stopped_out, "ready");
	REQUIRE_EQ_INT(nr_kill(p, SIGSTOP), 0);
	EVENTUALLY(proc_state(nr_pid(p)) == 'T');
}

/* 4 alone, 4 with a child, 1 left behind, 1 stopped. */
#define PROGRAMS_OF_ALL_KINDS (4 + 4 * 2 + 1 + 1)

HOST(that_waits)
{
	start_programs_of_all_kinds();
	tell("ready");
	wait_for_test();
}

static struct host *start_ready(const char *const *argv)
{
	struct host *h = host_start(argv);

	REQUIRE_STR(host_line(h), "ready");
	return h;
}

/* Nothing is left of the hosts of this test, not even a shepherd. */
static void check_all_gone(void)
{
	pid_t pid;

	EVENTUALLY(proc_marked(check_mark(), true, &pid, 1) == 0);
	if (proc_marked(check_mark(), true, &pid, 1)) {
		char text[256];

		proc_describe(pid, text, sizeof text);
		CHECK(false, "left: %s", text);
	}
}

TEST(killed_host_takes_its_programs_along)
{
	struct host *h = start_ready(ARGV("that_waits"));

	CHECK_EQ_INT(count_alive(), PROGRAMS_OF_ALL_KINDS + 1);
	host_kill(h);
	check_all_gone();
}

TEST(killed_hosts_in_a_row)
{
	for (int i = 0; i < 10; i++) {
		struct host *h = start_ready(ARGV("that_waits"));

		host_kill(h);
		check_all_gone();
	}
}

HOST(that_ends_as_told)
{
	start_programs_of_all_kinds();
	tell("ready");
	wait_for_test();
	if (strcmp(argv[1], "_exit") == 0)
		_exit(3);
	if (strcmp(argv[1], "abort") == 0) {
		/* Not by the handlers of sanitizers. */
		signal(SIGABRT, SIG_DFL);
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0 });
		raise(SIGABRT);
	}
	if (strcmp(argv[1], "pthread_exit") == 0)
		pthread_exit(NULL);
	exit(3);
}

TEST(host_that_ends_takes_its_programs_along)
{
	static const char *const ways[] = { "exit", "_exit", "abort" };

	for (size_t i = 0; i < COUNT_OF(ways); i++) {
		struct host *h = start_ready(ARGV("that_ends_as_told", ways[i]));
		int status = host_end(h);

		CHECK_EQ_INT(status, i == 2 ? SIGABRT : 3 << 8, "%s", ways[i]);
		check_all_gone();
	}
}

HOST(that_releases_and_exits)
{
	start_programs_of_all_kinds();
	release(spawn(OPTIONS(.argv = PROG("ignore", "15"))));
	release(spawn(OPTIONS(.argv = PROG("pause"), .flags = NR_ASYNC)));
	_exit(0);
}

TEST(host_may_exit_after_release)
{
	for (int i = 0; i < 3; i++) {
		host_run(ARGV("that_releases_and_exits"));
		check_all_gone();
	}
}

/* A fork keeps copies of all descriptors, so nobody sees an end of file. */
HOST(whose_fork_lives_on)
{
	pid_t child;

	start_programs_of_all_kinds();
	child = fork();
	if (child == 0) {
		wait_for_test();
		_exit(0);
	}
	tell("%d", child);
	tell("ready");
	wait_for_test();
}

TEST(killed_host_takes_its_programs_along_though_its_fork_lives)
{
	struct host *h = host_start(ARGV("whose_fork_lives_on"));
	pid_t child = atoi(host_line(h));
	pid_t left[2];

	REQUIRE_STR(host_line(h), "ready");
	host_kill(h);
	EVENTUALLY(proc_marked(check_mark(), true, left, 2) == 1);
	CHECK_EQ_INT(left[0], child);
	CHECK(is_alive(child));
	/* It waits for the end of the stdin that it shared with the host. */
	close(h->in);
	h->in = -1;
	check_all_gone();
}

/* An exec keeps the process id, so nobody sees a death. */
HOST(that_execs)
{
	start_programs_of_all_kinds();
	execl("/proc/self/exe", "host", "--host", "after_exec", (char *)NULL);
	REQUIRE(false, "exec: %s", strerror(errno));
}

HOST(after_exec)
{
	tell("ready");
	wait_for_test();
	/* It is a process like any other, and may use the library. */
	CHECK_EQ_INT(run(OPTIONS(.argv = PROG("exit", "5")))->how.code, 5);
}

TEST(host_that_execs_loses_its_programs)
{
	struct host *h = start_ready(ARGV("that_execs"));
	pid_t left[2];

	EVENTUALLY(proc_marked(check_mark(), true, left, 2) == 1);
	CHECK_EQ_INT(left[0], h->pid);
	CHECK_EQ_INT(host_end(h), 0);
	check_all_gone();
}

/* Children of the host. */

static void check_codes(const char *what)
{
	for (int i = 0; i < 20; i++) {
		struct result *r = run(OPTIONS(.argv = PROG("exit", check_format("%d", i * 7))));

		CHECK_EQ_INT(r->status, 0, "%s", what);
		CHECK_EQ_INT(r->how.code, i * 7, "%s", what);
	}
}

HOST(that_ignores_sigchld)
{
	signal(SIGCHLD, SIG_IGN);
	check_codes("SIGCHLD ignored");
	CHECK(signal(SIGCHLD, SIG_IGN) == SIG_IGN, "the library changed it");
}

HOST(that_wants_no_zombies)
{
	struct sigaction sa = { .sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT };

	sigaction(SIGCHLD, &sa, NULL);
	check_codes("SA_NOCLDWAIT");
}

TEST(host_that_ignores_sigchld_gets_right_codes)
{
	host_run(ARGV("that_ignores_sigchld"));
	host_run(ARGV("that_wants_no_zombies"));
}

#define OWN_CHILDREN 50

static _Atomic pid_t own_children[OWN_CHILDREN];
static atomic_int own_started;
static atomic_bool own_done;

static void *reap_all(void *unused)
{
	int reaped = 0;

	while (reaped < OWN_CHILDREN || !atomic_load(&own_done)) {
		int status;
		pid_t pid = waitpid(-1, &status, 0);
		int i;

		if (pid < 0) {
			REQUIRE_EQ_INT(errno, ECHILD);
			sched_yield();
			continue;
		}
		/* The parent may not yet have noted what fork() gave it. */
		for (i = 0; i < OWN_CHILDREN; i++) {
			int64_t until = check_now_ms() + 1000;

			while (atomic_load(&own_started) <= i && check_nap(until))
				continue;
			if (atomic_load(&own_children[i]) == pid)
				break;
		}
		if (CHECK(i < OWN_CHILDREN, "waitpid(-1) gave a stranger: %d", pid)) {
			CHECK(WIFEXITED(status) && WEXITSTATUS(status) == i, "%#x", status);
			reaped++;
		}
	}
	return unused;
}

static void start_own_child(int i)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(i);
	REQUIRE(pid > 0);
	atomic_store(&own_children[i], pid);
	atomic_fetch_add(&own_started, 1);
}

HOST(that_waits_for_all_children)
{
	thread *t = thread_start(reap_all, NULL);

	for (int i = 0; i < OWN_CHILDREN; i++) {
		struct result *r;

		start_own_child(i);
		r = run(OPTIONS(.argv = PROG("exit", check_format("%d", i))));
		CHECK_EQ_INT(r->status, 0);
		CHECK_EQ_INT(r->how.code, i);
	}
	atomic_store(&own_done, true);
	thread_join(t);
}

TEST(host_that_waits_for_all_children_sees_no_stranger)
{
	host_run(ARGV("that_waits_for_all_children"));
}

/* Also the start of the shepherd gives no SIGCHLD and no child. */

static atomic_int sigchlds;

static void count_sigchld(int sig)
{
	(void)sig;
	atomic_fetch_add(&sigchlds, 1);
}

HOST(that_counts_sigchld)
{
	struct sigaction sa = { .sa_handler = count_sigchld };

	sigaction(SIGCHLD, &sa, NULL);
	check_codes("SIGCHLD counted");
	CHECK_EQ_INT(atomic_load(&sigchlds), 0);
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

TEST(host_gets_no_sigchld)
{
	host_run(ARGV("that_counts_sigchld"));
}

/* A subreaper gets the orphans of its children. */
HOST(that_is_a_subreaper)
{
	REQUIRE(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
	check_codes("subreaper");
}

TEST(host_may_be_a_subreaper)
{
	host_run(ARGV("that_is_a_subreaper"));
}

/* fork() */

/* In the child of a fork; its exit code tells. */
static int calls_that_are_not_echild(nr_proc p)
{
	nr_outcome how = { .size = sizeof how };
	nr_statistics s = { .size = sizeof s };
	const char *argv[] = { "/bin/true", NULL };
	nr_options o = { .size = sizeof o, .argv = argv };
	char text[64];
	int wrong = 0;

	wrong += nr_spawn(&o, NULL, 0) != -ECHILD;
	wrong += nr_spawn(&o, text, sizeof text) != -ECHILD || strlen(text) >= sizeof text;
	wrong += nr_why(p, text, sizeof text) != -ECHILD;
	wrong += nr_pid(p) != -ECHILD;
	wrong += nr_fd(p, NR_STDOUT) != -ECHILD;
	wrong += nr_read(p, NR_STDOUT, text, sizeof text) != -ECHILD;
	wrong += nr_write(p, "x", 1) != -ECHILD;
	wrong += nr_close_stdin(p) != -ECHILD;
	wrong += nr_close(p, NR_STDOUT) != -ECHILD;
	wrong += nr_winsize(p, 10, 10) != -ECHILD;
	wrong += nr_kill(p, 0) != -ECHILD;
	wrong += nr_kill(p, SIGKILL) != -ECHILD;
	wrong += nr_stop(p) != -ECHILD;
	wrong += nr_wait(p, 0, &how) != -ECHILD;
	wrong += nr_wait(p, -1, NULL) != -ECHILD;
	wrong += nr_stats(p, &s) != -ECHILD;
	wrong += nr_cgroup_get(p, "memory.peak", text, sizeof text) != -ECHILD;
	wrong += nr_cgroup_set(p, "memory.max", "max") != -ECHILD;
	wrong += nr_release(p) != -ECHILD;
	/* These touch nothing that a fork breaks. */
	wrong += nr_version() != NR_VERSION;
	wrong += strcmp(nr_errname(ECHILD), "ECHILD") != 0;
	wrong += !*nr_strerror(ECHILD) || !*nr_version_string();
	return wrong;
}

static void check_forked(pid_t pid, nr_proc p, struct buffer *out)
{
	int status;

	REQUIRE(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status), "wait status %#x", status);
	CHECK_EQ_INT(WEXITSTATUS(status), 0, "calls in the child gave not -ECHILD");
	/* The parent's program has not noticed anything. */
	say_text(p, "x\n");
	read_until(p, NR_STDOUT, out, "got x\n");
}

HOST(that_forks)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("lines")));
	struct buffer out = { 0 };

	for (int i = 0; i < 10; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(calls_that_are_not_echild(p));
		check_forked(pid, p, &out);
		/* pthread_atfork() handlers are not run here. */
		pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
		if (pid == 0)
			_exit(calls_that_are_not_echild(p));
		check_forked(pid, p, &out);
		check_codes("between forks");
	}
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
}

TEST(forked_child_gets_echild_from_every_function)
{
	host_run(ARGV("that_forks"));
}

/* The child of a child is no different, and an exec ends it. */
HOST(that_forks_twice)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("lines")));
	struct buffer out = { 0 };
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		pid = fork();
		if (pid == 0)
			_exit(calls_that_are_not_echild(p));
		if (waitpid(pid, &status, 0) != pid || status != 0)
			_exit(200);
		execl("/proc/self/exe", "host", "--host", "after_exec", (char *)NULL);
		_exit(201);
	}
	check_forked(pid, p, &out);
	nr_close_stdin(p);
	wait_end(p);
	release(p);
}

TEST(forked_child_may_fork_and_exec)
{
	struct host *h = host_start(ARGV("that_forks_twice"));

	CHECK_STR(host_line(h), "ready");
	CHECK_EQ_INT(host_end(h), 0);
}

/* A forked child that exits runs no destructor that hurts the parent. */
HOST(whose_fork_exits)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("lines")));
	struct buffer out = { 0 };

	for (int i = 0; i < 5; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			calls_that_are_not_echild(p);
			exit(0);
		}
		check_forked(pid, p, &out);
	}
	nr_close_stdin(p);
	wait_end(p);
	release(p);
}

TEST(forked_child_may_exit)
{
	/* Sanitizers cannot look for leaks in the fork of a process with threads. */
	const char *options = getenv("ASAN_OPTIONS");

	change_environment("ASAN_OPTIONS",
			   check_format("%s:detect_leaks=0", options ? options : ""));
	host_run(ARGV("whose_fork_exits"));
}

/* Workers that were forked before the first call have a library of their own. */
HOST(that_forks_before_the_first_call)
{
	pid_t workers[4];

	for (size_t i = 0; i < COUNT_OF(workers); i++) {
		workers[i] = fork();
		REQUIRE(workers[i] >= 0);
		if (workers[i] == 0) {
			check_codes("worker");
			_exit(check_has_failed());
		}
	}
	check_codes("parent of workers");
	for (size_t i = 0; i < COUNT_OF(workers); i++) {
		int status;

		REQUIRE(waitpid(workers[i], &status, 0) == workers[i]);
		CHECK_EQ_INT(status, 0, "worker");
	}
}

TEST(workers_forked_before_the_first_call_work)
{
	host_run(ARGV("that_forks_before_the_first_call"));
}

/* Few descriptors. */

static size_t count_fds(pid_t pid)
{
	struct fd_list list;
	size_t count;

	REQUIRE(proc_fds(pid, &list));
	count = list.count;
	proc_fds_free(&list);
	return count;
}

HOST(with_64_descriptors)
{
	struct rlimit limit = { 64, 64 };
	size_t in_host = 0;
	size_t in_shepherd = 0;
	pid_t shepherd = 0;

	REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	for (int i = 0; i < 2000; i++) {
		nr_proc p = spawn(OPTIONS(.argv = PROG("gate", "7"), .err = PIPE,
					  .flags = i % 20 ? 0 : NR_PTY));

		if (i == 25)
			shepherd = shepherd_of(p);
		CHECK_EQ_INT(nr_close_stdin(p), 0);
		CHECK_EQ_INT(wait_end(p).code, 7, "run %d", i);
		release(p);
		if (i == 25) {
			in_host = count_fds(0);
			in_shepherd = count_fds(shepherd);
		}
	}
	CHECK_EQ_INT(count_fds(0), in_host, "in the host");
	/* Its language's runtime may open a few more once; a leak would be thousands. */
	EVENTUALLY(count_fds(shepherd) <= in_shepherd + 10);
	REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	CHECK_EQ_INT(limit.rlim_cur, 64);
	CHECK_EQ_INT(limit.rlim_max, 64);
}

TEST(two_thousand_runs_with_64_descriptors)
{
	host_run(ARGV("with_64_descriptors"));
}

/* When the limit is reached, that is an error, and it hurts nobody else. */
HOST(that_runs_out_of_descriptors)
{
	struct rlimit limit = { 128, 128 };
	nr_proc procs[64];
	size_t count = 0;
	size_t before;
	char why[256];
	nr_proc p;

	check_codes("before");
	before = count_fds(0);
	REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	while ((p = nr_spawn(OPTIONS(.argv = PROG("lines"), .err = PIPE), why, sizeof why)) > 0) {
		REQUIRE(count < COUNT_OF(procs), "64 programs with 128 descriptors");
		procs[count++] = p;
	}
	CHECK_EQ_INT(p, -EMFILE, "%s", why);
	CHECK(count >= 8, "only %zu programs", count);
	CHECK_EQ_INT(nr_spawn(OPTIONS(.argv = PROG("lines"), .flags = NR_PTY), why, sizeof why),
		     -EMFILE);
	for (size_t i = 0; i < count; i++) {
		struct buffer out = { 0 };

		say_text(procs[i], "x\n");
		read_until(procs[i], NR_STDOUT, &out, "got x\n");
		CHECK_EQ_INT(nr_close_stdin(procs[i]), 0);
		CHECK_EQ_INT(wait_end(procs[i]).code, 0);
		release(procs[i]);
	}
	CHECK_EQ_INT(count_fds(0), before);
	check_codes("after");
}

TEST(running_out_of_descriptors_is_emfile)
{
	host_run(ARGV("that_runs_out_of_descriptors"));
}

/* The shepherd dies. */

static void kill_shepherd(nr_proc p, bool topmost)
{
	pid_t shepherd = shepherd_of(p);

	/* There may be two: one that works, and above it one that watches it. */
	while (topmost && proc_is_shepherd(proc_parent(shepherd)))
		shepherd = proc_parent(shepherd);
	REQUIRE(kill(shepherd, SIGKILL) == 0);
}

/*
 * The next programs get a new shepherd. What only its start needs is closed by
 * one of the next calls.
 */
static void check_life_goes_on(size_t fds_before)
{
	int64_t until = check_now_ms() + check_patience_ms();

	do
		output_of(OPTIONS(.argv = PROG("exit", "0")));
	while (count_fds(0) > fds_before && check_nap(until));
}

static void check_killed_shepherd(bool topmost)
{
	size_t fds_before = count_fds(0);
	nr_proc p = spawn(OPTIONS(.argv = PROG("ignore", "15"), .err = PIPE));
	nr_proc q = spawn(OPTIONS(.argv = PROG("family", "stubborn"), .flags = NR_PTY));
	nr_proc ended = spawn(OPTIONS(.argv = PROG("exit", "3")));
	nr_statistics s = { .size = sizeof s };
	struct buffer out = { 0 };
	pid_t pid = nr_pid(p);
	nr_outcome how;

	read_until(p, NR_STDOUT, &out, "ready\n");
	out = (struct buffer){ 0 };
	read_until(q, NR_STDOUT, &out, "child");
	how = wait_end(ended);
	check_code(&how, 3, NR_REASON_OWN);

	kill_shepherd(p, topmost);
	CHECK_EQ_INT(nr_wait(p, (int)check_patience_ms(), NULL), -EOWNERDEAD);
	CHECK_EQ_INT(nr_wait(q, (int)check_patience_ms(), &how), -EOWNERDEAD);
	CHECK_EQ_INT(nr_wait(p, 0, &how), -EOWNERDEAD);
	CHECK_EQ_INT(nr_wait(p, -1, &how), -EOWNERDEAD);
	CHECK(is_ready(nr_fd(p, NR_EXIT), POLLIN));
	EVENTUALLY(count_alive() == 0);
	CHECK(!is_alive(pid));
	/* What remains of the handle is of use, and does not hang. */
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	CHECK_EQ_INT(nr_kill(p, SIGTERM), -ESRCH);
	CHECK_EQ_INT(nr_stop(p), 0);
	CHECK_EQ_INT(nr_stats(p, &s), 0);
	CHECK_EQ_INT(nr_wait(ended, 0, &how), 0);
	check_code(&how, 3, NR_REASON_OWN);
	release(p);
	release(q);
	release(ended);
	check_life_goes_on(fds_before);
}

TEST(killed_shepherd_is_eownerdead)
{
	for (int i = 0; i < 5; i++)
		check_killed_shepherd(false);
}

TEST(killed_watcher_of_the_shepherd_is_eownerdead)
{
	for (int i = 0; i < 5; i++)
		check_killed_shepherd(true);
}

static void *wait_for_dead_owner(void *arg)
{
	CHECK_EQ_INT(nr_wait(*(nr_proc *)arg, -1, NULL), -EOWNERDEAD);
	return NULL;
}

TEST(killed_shepherd_wakes_who_waits)
{
	size_t fds_before = count_fds(0);
	nr_proc p = spawn(OPTIONS(.argv = PROG("pause")));
	nr_proc q = spawn(OPTIONS(.argv = PROG("pause")));
	thread *a = thread_start(wait_for_dead_owner, &p);
	thread *b = thread_start(wait_for_dead_owner, &q);

	kill_shepherd(p, false);
	thread_join(a);
	thread_join(b);
	release(p);
	release(q);
	EVENTUALLY(count_alive() == 0);
	check_life_goes_on(fds_before);
}

TEST(killed_shepherd_during_a_grace)
{
	size_t fds_before = count_fds(0);
	nr_proc p = spawn(OPTIONS(.argv = PROG("ignore", "15")));
	struct buffer out = { 0 };

	read_until(p, NR_STDOUT, &out, "ready\n");
	CHECK_EQ_INT(nr_stop(p), 0);
	kill_shepherd(p, false);
	CHECK_EQ_INT(nr_wait(p, (int)check_patience_ms(), NULL), -EOWNERDEAD);
	release(p);
	EVENTUALLY(count_alive() == 0);
	check_life_goes_on(fds_before);
}

/* A terminal's Ctrl-C and a service manager's SIGTERM are for the host. */
TEST(shepherd_is_out_of_reach_of_the_hosts_group)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("lines")));
	struct buffer out = { 0 };
	pid_t shepherd = shepherd_of(p);

	CHECK(getpgid(shepherd) != getpgrp(), "in the host's process group");
	say_text(p, "x\n");
	read_until(p, NR_STDOUT, &out, "got x\n");
	release(p);
}

/* What the library leaves alone. */

/* The C library sets it for itself, and shows it. */
#ifndef SA_RESTORER
#define SA_RESTORER 0x04000000
#endif

struct process_state {
	sigset_t mask;
	struct sigaction actions[NSIG];
	struct rlimit limits[RLIM_NLIMITS];
	mode_t umask;
	char cwd[PATH_MAX];
	stack_t stack;
	int nice;
	struct buffer environment;
	struct fd_list fds;
};

static void get_state(struct process_state *s)
{
	memset(s, 0, sizeof *s);
	pthread_sigmask(SIG_BLOCK, NULL, &s->mask);
	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, NULL, &s->actions[sig]);
	for (int i = 0; i < (int)RLIM_NLIMITS; i++)
		getrlimit(i, &s->limits[i]);
	s->umask = umask(0);
	umask(s->umask);
	REQUIRE(getcwd(s->cwd, sizeof s->cwd));
	sigaltstack(NULL, &s->stack);
	s->nice = getpriority(PRIO_PROCESS, 0);
	for (char **e = environ; *e; e++)
		buffer_append(&s->environment, *e, strlen(*e) + 1);
}

static void check_unchanged(const struct process_state *before, const char *when)
{
	struct process_state now;

	get_state(&now);
	for (int sig = 1; sig < NSIG; sig++) {
		const struct sigaction *a = &before->actions[sig];
		const struct sigaction *b = &now.actions[sig];

		CHECK_EQ_INT(sigismember(&now.mask, sig), sigismember(&before->mask, sig),
			     "signal %d in the mask, %s", sig, when);
		/* Go turns faults of its own code into panics. */
		if (sig == SIGSEGV || sig == SIGBUS)
			continue;
		CHECK(a->sa_handler == b->sa_handler &&
			      (a->sa_flags & ~SA_RESTORER) == (b->sa_flags & ~SA_RESTORER),
		      "action of signal %d (%s), %s", sig, strsignal(sig), when);
	}
	for (int i = 0; i < (int)RLIM_NLIMITS; i++) {
		CHECK_EQ_INT(now.limits[i].rlim_cur, before->limits[i].rlim_cur, "limit %d, %s", i,
			     when);
		CHECK_EQ_INT(now.limits[i].rlim_max, before->limits[i].rlim_max, "limit %d, %s", i,
			     when);
	}
	CHECK_EQ_INT(now.umask, before->umask, "%s", when);
	CHECK_STR(now.cwd, before->cwd, "%s", when);
	/* A thread without one may get one, but a thread's own is its own. */
	if (!(before->stack.ss_flags & SS_DISABLE))
		CHECK(now.stack.ss_sp == before->stack.ss_sp &&
			      now.stack.ss_size == before->stack.ss_size,
		      "signal stack, %s", when);
	CHECK_EQ_INT(now.nice, before->nice, "%s", when);
	CHECK_MEM(now.environment.data, now.environment.len, before->environment.data,
		  before->environment.len, "environment, %s", when);
}

static void keep_busy(void)
{
	nr_outcome how = { .size = sizeof how };
	nr_statistics s = { .size = sizeof s };
	nr_proc p = spawn(OPTIONS(.argv = PROG("pause"), .err = PIPE, .kill_timeout_ms = 50));
	char why[64];

	run_with(OPTIONS(.argv = ARGV("cat")), pattern(300000), 300000);
	run(OPTIONS(.argv = PROG("tty"), .flags = NR_PTY));
	nr_spawn(OPTIONS(.argv = ARGV("/nonexistent")), why, sizeof why);
	nr_wait(p, 5, &how);
	nr_stats(p, &s);
	nr_kill(p, SIGUSR1);
	nr_stop(p);
	nr_wait(p, -1, &how);
	release(p);
}

static void a_handler(int sig)
{
	(void)sig;
}

static void *check_in_thread(void *arg)
{
	const struct process_state *before = arg;
	struct process_state mine = *before;

	sigaltstack(NULL, &mine.stack);
	keep_busy();
	check_unchanged(&mine, "in a thread");
	return NULL;
}

static void check_state_is_kept(void)
{
	struct process_state *before = check_alloc(sizeof *before);

	get_state(before);
	CHECK_EQ_INT(nr_version(), NR_VERSION);
	check_unchanged(before, "after nr_version()");
	CHECK_EQ_INT(nr_pid(1), -EBADF);
	check_unchanged(before, "after a call that fails");
	run(OPTIONS(.argv = PROG("exit", "0")));
	check_unchanged(before, "after the first spawn");
	for (int i = 0; i < 5; i++)
		keep_busy();
	check_unchanged(before, "after use");
	thread_join(thread_start(check_in_thread, before));
	check_unchanged(before, "after use by a thread");
}

HOST(with_default_state)
{
	check_state_is_kept();
}

HOST(with_state_of_its_own)
{
	struct sigaction sa = { .sa_handler = a_handler, .sa_flags = SA_RESTART | SA_NODEFER };
	struct rlimit limit = { 100, 1000 };
	stack_t stack = { .ss_sp = check_alloc(1 << 16), .ss_size = 1 << 16 };
	sigset_t mask;

	/* No SA_ONSTACK: as CPython and others install theirs. */
	for (int sig = 1; sig < NSIG; sig++)
		if (sig != SIGSEGV && sig != SIGBUS)
			sigaction(sig, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGURG);
	sigaddset(&mask, SIGPROF);
	sigaddset(&mask, SIGRTMIN + 3);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	REQUIRE(sigaltstack(&stack, NULL) == 0);
	REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	umask(0137);
	REQUIRE(chdir("/") == 0);
	setenv("GODEBUG", "gctrace=1,inittrace=1,schedtrace=1", 1);
	setenv("GOMAXPROCS", "1", 1);
	setenv("GOGC", "1", 1);
	setenv("GOTRACEBACK", "crash", 1);
	check_state_is_kept();
}

TEST(host_keeps_its_state)
{
	host_run(ARGV("with_default_state"));
	host_run(ARGV("with_state_of_its_own"));
}

/* Nothing of it is there before it is used. */
HOST(that_never_calls)
{
	char line[256];
	FILE *f = fopen("/proc/self/status", "re");
	int threads = 0;

	REQUIRE(f);
	while (fgets(line, sizeof line, f))
		sscanf(line, "Threads: %d", &threads);
	fclose(f);
	CHECK_EQ_INT(threads, 1);
	for (int sig = 1; sig < NSIG; sig++) {
		struct sigaction sa;

		/* Sanitizers have handlers of their own for faults. */
		if (sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE)
			continue;
		if (sigaction(sig, NULL, &sa) == 0)
			CHECK(sa.sa_handler == SIG_DFL, "signal %d", sig);
	}
}

TEST(library_that_is_not_used_does_nothing)
{
	host_run(ARGV("that_never_calls"));
}

/* A storm of signals at handlers without SA_ONSTACK, while the library works. */

static atomic_bool storm_over;

static void *send_signals(void *arg)
{
	pthread_t target = *(pthread_t *)arg;

	while (!atomic_load(&storm_over)) {
		pthread_kill(target, SIGUSR1);
		kill(getpid(), SIGUSR2);
		sched_yield();
	}
	return NULL;
}

HOST(in_a_storm_of_signals)
{
	/*
	 * They restart what they interrupt: this is about the library's calls,
	 * not about the test's own.
	 */
	struct sigaction sa = { .sa_handler = count_sigchld, .sa_flags = SA_RESTART };
	pthread_t self = pthread_self();
	nr_outcome how = { .size = sizeof how };
	char why[128];
	thread *t;

	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGUSR2, &sa, NULL);
	t = thread_start(send_signals, &self);
	for (int i = 0; i < 100; i++) {
		nr_proc p = nr_spawn(OPTIONS(.argv = PROG("exit", "9"), .out = DEV_NULL), why,
				     sizeof why);

		REQUIRE(p > 0, "-%s: %s", nr_errname((int)p), why);
		CHECK_EQ_INT(nr_wait(p, (int)check_patience_ms(), &how), 0);
		CHECK_EQ_INT(how.code, 9);
		release(p);
	}
	atomic_store(&storm_over, true);
	thread_join(t);
	CHECK(atomic_load(&sigchlds) > 0);
}

TEST(host_survives_a_storm_of_signals)
{
	host_run(ARGV("in_a_storm_of_signals"));
}

/* Work of many threads, each with programs of its own. */

static void *work(void *arg)
{
	size_t len = 1000 + (size_t)(uintptr_t)arg * 20000;

	for (int i = 0; i < 20 && !check_has_failed(); i++) {
		struct result *r =
			run_with(OPTIONS(.argv = ARGV("cat"), .err = PIPE), pattern(len), len);

		CHECK_MEM(r->out.data, r->out.len, pattern(len), len);
		CHECK_EQ_INT(r->how.code, 0);
	}
	return NULL;
}

TEST(threads_have_programs_of_their_own)
{
	thread *threads[8];

	for (size_t i = 0; i < COUNT_OF(threads); i++)
		threads[i] = thread_start(work, (void *)(uintptr_t)i);
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		thread_join(threads[i]);
}
