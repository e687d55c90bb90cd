/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Threads of the host that call: with small stacks, cancelled, ending, and
 * still calling when the host ends.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "state.h"

/* Small stacks. */

static nr_proc subject;
static char small_text[256];
static nr_outcome small_how = { .size = sizeof small_how };
static nr_statistics small_statistics = { .size = sizeof small_statistics };
static nr_options small_options;

static void call_spawn(void)
{
	nr_proc p = nr_spawn(&small_options, small_text, sizeof small_text);

	if (p <= 0 || nr_wait(p, -1, &small_how) != 0 || nr_release(p) != 0)
		abort();
}

static void spawn_often(void)
{
	for (int i = 0; i < 40; i++)
		call_spawn();
}

static void call_spawn_that_fails(void)
{
	if (nr_spawn(NULL, small_text, sizeof small_text) != -EINVAL)
		abort();
}

static void call_why(void)
{
	nr_why(subject, small_text, sizeof small_text);
}

static void call_pid(void)
{
	nr_pid(subject);
}

static void call_fd(void)
{
	nr_fd(subject, NR_STDOUT);
}

static void call_read(void)
{
	nr_read(subject, NR_STDOUT, small_text, sizeof small_text);
}

static void call_write(void)
{
	nr_write(subject, "x", 1);
}

static void call_close(void)
{
	nr_close(subject, NR_STDERR);
	nr_close_stdin(subject);
}

static void call_winsize(void)
{
	nr_winsize(subject, 10, 10);
}

static void call_kill(void)
{
	nr_kill(subject, 0);
}

static void call_wait(void)
{
	nr_wait(subject, 0, &small_how);
	nr_wait(subject, 5, &small_how);
}

static void call_stats(void)
{
	nr_stats(subject, &small_statistics);
}

static void call_cgroup(void)
{
	nr_cgroup_get(subject, "memory.peak", small_text, sizeof small_text);
	nr_cgroup_set(subject, "memory.high", "max");
}

static void call_words(void)
{
	nr_strerror(-ENOENT);
	nr_errname(-ENOENT);
	nr_version_string();
}

static void call_stop(void)
{
	nr_stop(subject);
}

static void call_release(void)
{
	nr_release(subject);
}

static const struct {
	const char *name;
	void (*call)(void);
} small_calls[] = {
	{ "spawn", call_spawn },     { "failing", call_spawn_that_fails },
	{ "why", call_why },         { "pid", call_pid },
	{ "fd", call_fd },           { "read", call_read },
	{ "write", call_write },     { "close", call_close },
	{ "winsize", call_winsize }, { "kill", call_kill },
	{ "wait", call_wait },       { "stats", call_stats },
	{ "cgroup", call_cgroup },   { "words", call_words },
	{ "stop", call_stop },       { "release", call_release },
};

static void *call_small(void *arg)
{
	void (*call)(void) = *(void (**)(void))arg;

	call();
	return NULL;
}

static void run_with_stack(size_t size, void (*call)(void))
{
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	REQUIRE_EQ_INT(pthread_attr_setstacksize(&attr, size), 0, "%zu", size);
	REQUIRE_EQ_INT(pthread_create(&t, &attr, call_small, &call), 0);
	pthread_attr_destroy(&attr);
	REQUIRE_EQ_INT(pthread_join(t, NULL), 0);
}

/* ARGV[1]: the stack's size. ARGV[2]: which call, or "all"; only spawn starts the library. */
HOST(with_small_stacks)
{
	const char *const args[] = { testprog(), "exit", "0", NULL };
	size_t size = strtoul(argv[1], NULL, 10);
	bool all = strcmp(argv[2], "all") == 0;

	small_options = (nr_options){ .size = sizeof small_options, .argv = args, .out = DEV_NULL };
	if (all || strcmp(argv[2], "spawn") == 0)
		run_with_stack(size, call_spawn); /* the first call */
	subject = spawn(OPTIONS(.argv = PROG("pause"), .err = PIPE));
	for (int rounds = 0; rounds < (all ? 3 : 1); rounds++)
		for (size_t i = 0; i < COUNT_OF(small_calls); i++)
			if ((rounds == 0 || i == 0) &&
			    (all || strcmp(argv[2], small_calls[i].name) == 0))
				run_with_stack(size, small_calls[i].call);
	if (nr_pid(subject) > 0)
		nr_release(subject);
	/* Go collects garbage on the stack of the thread that has made enough of it. */
	small_options.env = large_environment();
	for (int i = 0; all && i < 5; i++)
		run_with_stack(size, spawn_often);
}

TEST(small_stacks_suffice)
{
#ifdef __SANITIZE_ADDRESS__
	SKIP("AddressSanitizer makes stacks larger");
#endif
	/* As docs/hosting.md promises. Some of it is the C library's own. */
	host_run(ARGV("with_small_stacks", check_format("%ld", sysconf(_SC_THREAD_STACK_MIN)),
		      "all"));
}

/* Threads that end leave nothing. */

static void *call_and_exit(void *unused)
{
	(void)unused;
	run(OPTIONS(.argv = PROG("exit", "0"), .out = DEV_NULL));
	pthread_exit(NULL);
}

HOST(whose_threads_come_and_go)
{
	size_t threads;

	for (int i = 0; i < 10; i++)
		thread_join(thread_start(call_and_exit, NULL));
	threads = tasks_now()->count;
	for (int i = 0; i < 200; i++)
		thread_join(thread_start(call_and_exit, NULL));
	/* Go may have had a reason for one or two more. */
	CHECK(tasks_now()->count <= threads + 4, "%zu threads, %zu before", tasks_now()->count,
	      threads);
}

TEST(threads_that_end_leave_nothing)
{
	host_run(ARGV("whose_threads_come_and_go"));
}

/* When nothing happens, no thread of the library wakes up. */

static unsigned long switches_of_others(void)
{
	struct tasks *tasks = tasks_now();
	unsigned long count = 0, n;
	char line[256];

	for (size_t i = 0; i < tasks->count; i++) {
		FILE *f;

		if (tasks->all[i].id == getpid())
			continue;
		f = fopen(check_format("/proc/self/task/%d/status", tasks->all[i].id), "re");
		while (f && fgets(line, sizeof line, f))
			if (sscanf(line, "voluntary_ctxt_switches: %lu", &n) == 1)
				count += n;
		if (f)
			fclose(f);
	}
	return count;
}

static bool two_seconds_are_quiet(void)
{
	unsigned long before = switches_of_others();

	sleep(2);
	return switches_of_others() == before;
}

HOST(that_is_idle)
{
	nr_proc procs[10];

	for (size_t i = 0; i < COUNT_OF(procs); i++)
		procs[i] = spawn(OPTIONS(.argv = PROG("pause"), .err = PIPE));
	EVENTUALLY(two_seconds_are_quiet());
	for (size_t i = 0; i < COUNT_OF(procs); i++)
		release(procs[i]);
}

TEST(idle_library_does_not_wake_up)
{
	host_run(ARGV("that_is_idle"));
}

/* pthread_cancel(3): only nr_wait() is a cancellation point. */

struct victim {
	_Atomic nr_proc p;
	atomic_bool inside; /* of a call that must return */
	atomic_int rounds;
};

#define MUST_RETURN(call)                        \
	do {                                     \
		atomic_store(&v->inside, true);  \
		(void)(call);                    \
		atomic_store(&v->inside, false); \
	} while (0)

static void *be_cancelled(void *arg)
{
	struct victim *v = arg;
	char bytes[512] = "";
	nr_statistics s = { .size = sizeof s };
	nr_proc p;

	for (;;) {
		MUST_RETURN(atomic_store(
			&v->p, nr_spawn(OPTIONS(.argv = PROG("lines"), .err = PIPE,
						.flags = atomic_load(&v->rounds) % 3 ? 0 : NR_PTY,
						.kill_timeout_ms = NR_KILL_NOW),
					NULL, 0)));
		p = atomic_load(&v->p);
		if (p < 0)
			abort();
		MUST_RETURN(nr_write(p, bytes, sizeof bytes));
		MUST_RETURN(nr_read(p, NR_STDOUT, bytes, sizeof bytes));
		MUST_RETURN(nr_kill(p, SIGCONT));
		MUST_RETURN(nr_pid(p));
		MUST_RETURN(nr_stats(p, &s));
		MUST_RETURN(nr_wait(p, 0, NULL));
		nr_wait(p, 1, NULL);
		MUST_RETURN(nr_winsize(p, 10, 10));
		MUST_RETURN(nr_close_stdin(p));
		nr_wait(p, 20, NULL);
		MUST_RETURN(nr_stop(p));
		MUST_RETURN(nr_close(p, NR_STDOUT));
		nr_wait(p, -1, NULL);
		MUST_RETURN((nr_release(p), atomic_store(&v->p, 0)));
		atomic_fetch_add(&v->rounds, 1);
		pthread_testcancel();
	}
}

static size_t descriptors(void)
{
	struct fd_list list;
	size_t count;

	REQUIRE(proc_fds(0, &list));
	count = list.count;
	proc_fds_free(&list);
	return count;
}

HOST(that_cancels_threads)
{
	unsigned seed = (unsigned)time(NULL) ^ (unsigned)getpid();
	size_t before;
	int rounds = 0;

	fprintf(stderr, "seed %u\n", seed);
	for (int i = 0; i < 3; i++)
		run(OPTIONS(.argv = PROG("exit", "0")));
	before = descriptors();
	for (int i = 0; i < 250; i++) {
		struct victim v = { .rounds = i };
		pthread_t t;
		void *value;

		REQUIRE_EQ_INT(pthread_create(&t, NULL, be_cancelled, &v), 0);
		usleep((useconds_t)rand_r(&seed) % 4000);
		REQUIRE_EQ_INT(pthread_cancel(t), 0);
		REQUIRE_EQ_INT(pthread_join(t, &value), 0);
		CHECK(value == PTHREAD_CANCELED);
		CHECK(!atomic_load(&v.inside), "a call did not return");
		rounds += atomic_load(&v.rounds) - i;
		/* The handle is as good as ever. */
		if (atomic_load(&v.p) > 0) {
			nr_stop(v.p);
			CHECK_EQ_INT(nr_wait(v.p, (int)check_patience_ms(), NULL), 0);
			release(v.p);
		}
	}
	CHECK(rounds > 0, "none got through a round");
	CHECK_EQ_INT(descriptors(), before);
	EVENTUALLY(count_alive() == 1); /* this one */
}

static void needs_cancellation(void)
{
#ifdef __SANITIZE_ADDRESS__
	SKIP("AddressSanitizer takes the frames that a cancelled thread has left for errors");
#endif
}

TEST(threads_may_be_cancelled_anywhere)
{
	needs_cancellation();
	host_run(ARGV("that_cancels_threads"));
}

static void *wait_for_ever(void *arg)
{
	nr_wait(*(nr_proc *)arg, -1, NULL);
	return NULL;
}

TEST(wait_is_a_cancellation_point)
{
	needs_cancellation();
	nr_proc p = spawn(OPTIONS(.argv = PROG("pause")));
	pthread_t threads[4];

	for (size_t i = 0; i < COUNT_OF(threads); i++)
		REQUIRE_EQ_INT(pthread_create(&threads[i], NULL, wait_for_ever, &p), 0);
	for (size_t i = 0; i < COUNT_OF(threads); i++) {
		void *value;

		REQUIRE_EQ_INT(pthread_cancel(threads[i]), 0);
		REQUIRE_EQ_INT(pthread_join(threads[i], &value), 0);
		CHECK(value == PTHREAD_CANCELED);
	}
	CHECK_EQ_INT(nr_wait(p, 0, NULL), -EAGAIN);
	release(p);
}

/* The host ends while its threads call. */

static atomic_int busy;

static void *call_for_ever(void *unused)
{
	for (;;) {
		nr_proc p = nr_spawn(OPTIONS(.argv = PROG("ignore", "1", "2", "15"),
					     .kill_timeout_ms = NR_KILL_NOW),
				     NULL, 0);

		atomic_fetch_add(&busy, 1);
		nr_wait(p, 2, NULL);
		nr_release(p);
	}
	return unused;
}

static void *exit_from_thread(void *arg)
{
	if (strcmp(arg, "_exit") == 0)
		_exit(3);
	exit(3);
}

static void call_at_exit(void)
{
	nr_proc p = nr_spawn(OPTIONS(.argv = PROG("pause")), NULL, 0);

	if (p < 0)
		_exit(9);
}

HOST(that_ends_while_threads_call)
{
	for (int i = 0; i < 4; i++)
		thread_start(call_for_ever, NULL);
	spawn(OPTIONS(.argv = PROG("family", "stubborn")));
	spawn(OPTIONS(.argv = PROG("family", "stubborn"), .flags = NR_SESSION));
	EVENTUALLY(atomic_load(&busy) > 8);
	if (strcmp(argv[1], "in a thread") == 0) {
		thread_start(exit_from_thread, argv[2]);
		for (;;)
			pause();
	}
	if (strcmp(argv[1], "main thread ends") == 0) {
		thread_start(exit_from_thread, argv[2]);
		pthread_exit(NULL);
	}
	if (strcmp(argv[1], "handler") == 0)
		atexit(call_at_exit);
	if (strcmp(argv[2], "quick_exit") == 0)
		quick_exit(3);
	exit_from_thread(argv[2]);
}

TEST(host_may_end_while_threads_call)
{
	static const char *const ways[][2] = { { "here", "exit" },
					       { "here", "_exit" },
					       { "here", "quick_exit" },
					       { "handler", "exit" },
					       { "in a thread", "exit" },
					       { "in a thread", "_exit" },
					       { "main thread ends", "exit" } };
	const char *options = getenv("ASAN_OPTIONS");

	/* What threads have at the end of the process is no leak. */
	change_environment("ASAN_OPTIONS",
			   check_format("%s:detect_leaks=0", options ? options : ""));
	for (size_t i = 0; i < COUNT_OF(ways); i++) {
		struct host *h =
			host_start(ARGV("that_ends_while_threads_call", ways[i][0], ways[i][1]));
		int status = host_end(h);
		pid_t left;

		CHECK_EQ_INT(status, 3 << 8, "%s: %s", ways[i][0], ways[i][1]);
		EVENTUALLY(proc_marked(check_mark(), true, &left, 1) == 0);
	}
}

/* First calls. */

static atomic_int ready;

static void *call_with_others(void *count)
{
	atomic_fetch_add(&ready, 1);
	while (atomic_load(&ready) < *(int *)count)
		continue;
	run(OPTIONS(.argv = PROG("exit", "0")));
	return NULL;
}

HOST(whose_threads_call_first)
{
	thread *threads[4];
	int count = COUNT_OF(threads);

	for (int i = 0; i < count; i++)
		threads[i] = thread_start(call_with_others, &count);
	for (int i = 0; i < count; i++)
		thread_join(threads[i]);
}

TEST(threads_may_make_the_first_call_at_once)
{
	for (int i = 0; i < 50; i++)
		host_run(ARGV("whose_threads_call_first"));
}
