/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Hosts that fork, while they use the library and before.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

/* In the child of a fork: how many of its calls are not refused. */
static int calls_not_refused(nr_proc p)
{
	const char *argv[] = { "/bin/true", NULL };
	nr_options o = { .size = sizeof o, .argv = argv };
	nr_statistics s = { .size = sizeof s };
	char bytes[8];

	return (nr_spawn(&o, NULL, 0) != -ECHILD) + (nr_wait(p, -1, NULL) != -ECHILD) +
	       (nr_read(p, NR_STDOUT, bytes, sizeof bytes) != -ECHILD) +
	       (nr_write(p, "x", 1) != -ECHILD) + (nr_kill(p, SIGKILL) != -ECHILD) +
	       (nr_stats(p, &s) != -ECHILD) + (nr_fd(p, NR_EXIT) != -ECHILD) +
	       (nr_stop(p) != -ECHILD) + (nr_close_stdin(p) != -ECHILD) +
	       (nr_release(p) != -ECHILD);
}

/* Pipes and sockets above 2. */
static int count_channels(void)
{
	int count = 0;
	char path[64], target[64];

	for (int fd = 3; fd < 1024; fd++) {
		ssize_t n;

		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		n = readlink(path, target, sizeof target - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		count += strncmp(target, "pipe:", 5) == 0 || strncmp(target, "socket:", 7) == 0;
	}
	return count;
}

static int raw_fork(void)
{
	return (int)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
}

enum { REFUSED = 0, NOT_REFUSED = 1, CHANNELS_LEFT = 2 };

static int exit_code_of(pid_t pid)
{
	int64_t until = check_now_ms() + check_patience_ms();
	int status;
	pid_t n;

	REQUIRE(pid > 0, "fork: %s", strerror(errno));
	while ((n = waitpid(pid, &status, WNOHANG)) == 0)
		if (!check_nap(until)) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			REQUIRE(false, "the child of a fork hangs");
		}
	REQUIRE_EQ_INT(n, pid);
	REQUIRE(WIFEXITED(status), "%#x", status);
	return WEXITSTATUS(status);
}

/* Some threads call while others fork. */

static atomic_int forkers_left;
static int own_channels; /* that the host was started with */

static void *call_on(void *unused)
{
	nr_outcome how = { .size = sizeof how };
	char why[256];

	while (atomic_load(&forkers_left) > 0) {
		nr_proc p =
			nr_spawn(OPTIONS(.argv = PROG("gate", "3"), .err = PIPE), why, sizeof why);

		REQUIRE(p > 0, "-%s: %s", nr_errname((int)p), why);
		CHECK_EQ_INT(nr_write(p, "x", 1), 1);
		CHECK_EQ_INT(nr_wait(p, 0, &how), -EAGAIN);
		CHECK_EQ_INT(nr_close_stdin(p), 0);
		/* Its end of file must come though forks of this moment live on. */
		CHECK_EQ_INT(nr_wait(p, (int)check_patience_ms(), &how), 0);
		CHECK_EQ_INT(how.code, 3);
		CHECK_EQ_INT(nr_release(p), 0);
	}
	return unused;
}

static void *fork_on(void *arg)
{
	bool raw = arg != NULL;

	for (int i = 0; i < 100; i++) {
		pid_t pid = raw ? raw_fork() : fork();

		if (pid == 0) {
			if (calls_not_refused(i + 1))
				_exit(NOT_REFUSED);
			/* The handlers of pthread_atfork(3) have not run there. */
			_exit(!raw && count_channels() > own_channels ? CHANNELS_LEFT : REFUSED);
		}
		CHECK_EQ_INT(exit_code_of(pid), REFUSED, "fork %d", i);
	}
	atomic_fetch_sub(&forkers_left, 1);
	return NULL;
}

HOST(that_forks_in_a_race)
{
	thread *callers[3], *forkers[2];

	atomic_store(&forkers_left, COUNT_OF(forkers));
	own_channels = count_channels();
	run(OPTIONS(.argv = PROG("exit", "0")));
	for (size_t i = 0; i < COUNT_OF(callers); i++)
		callers[i] = thread_start(call_on, NULL);
	for (size_t i = 0; i < COUNT_OF(forkers); i++)
		forkers[i] = thread_start(fork_on, strcmp(argv[1], "raw") ? NULL : argv[1]);
	for (size_t i = 0; i < COUNT_OF(forkers); i++)
		thread_join(forkers[i]);
	for (size_t i = 0; i < COUNT_OF(callers); i++)
		thread_join(callers[i]);
}

TEST(forks_in_a_race_with_calls)
{
	host_run(ARGV("that_forks_in_a_race", "fork"));
}

TEST(raw_clones_in_a_race_with_calls)
{
	host_run(ARGV("that_forks_in_a_race", "raw"));
}

/* The first call in a race with forks: whoever has no runtime may start one. */

static atomic_bool go;

static void *first_call(void *unused)
{
	while (!atomic_load(&go))
		continue;
	CHECK_EQ_INT(run(OPTIONS(.argv = PROG("exit", "6")))->how.code, 6);
	return unused;
}

HOST(that_forks_during_the_first_call)
{
	thread *caller = thread_start(first_call, NULL);
	useconds_t wait = (useconds_t)atoi(argv[1]);
	pid_t pid;

	atomic_store(&go, true);
	usleep(wait);
	pid = fork();
	if (pid == 0) {
		const char *args[] = { "/bin/true", NULL };
		if (strcmp(argv[2], "live") == 0)
			for (;;)
				pause();
		nr_proc p = nr_spawn(&(nr_options){ .size = sizeof(nr_options), .argv = args },
				     NULL, 0);

		/* It was forked before the start, or after it began. */
		_exit(p > 0 || p == -ECHILD ? REFUSED : NOT_REFUSED);
	}
	if (strcmp(argv[2], "call") == 0)
		CHECK_EQ_INT(exit_code_of(pid), REFUSED);
	thread_join(caller);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

TEST(forks_during_the_first_call)
{
	for (int wait = 0; wait < 6000; wait += 250)
		host_run(
			ARGV("that_forks_during_the_first_call", check_format("%d", wait), "call"));
}

/* The caller sees the end of its program's output. */
TEST(forks_that_live_during_the_first_call)
{
	for (int wait = 0; wait < 6000; wait += 250)
		host_run(
			ARGV("that_forks_during_the_first_call", check_format("%d", wait), "live"));
}

/* End of file, though a fork lives. */

static void *spawn_some(void *arg)
{
	nr_proc *procs = arg;

	for (int i = 0; i < 30; i++) {
		char why[256];

		procs[i] = nr_spawn(OPTIONS(.argv = PROG("gate", "4"), .err = PIPE,
					    .flags = i % 2 ? NR_ASYNC : 0),
				    why, sizeof why);
		REQUIRE(procs[i] > 0, "-%s: %s", nr_errname((int)procs[i]), why);
	}
	return NULL;
}

HOST(whose_forks_live)
{
	nr_proc procs[30];
	pid_t forks[30];
	thread *t = thread_start(spawn_some, procs);

	for (size_t i = 0; i < COUNT_OF(forks); i++) {
		forks[i] = fork();
		REQUIRE(forks[i] >= 0);
		if (forks[i] == 0)
			for (;;)
				pause();
		usleep(500);
	}
	thread_join(t);
	for (size_t i = 0; i < COUNT_OF(procs); i++) {
		nr_outcome how;

		CHECK_EQ_INT(nr_close_stdin(procs[i]), 0);
		how = wait_end(procs[i]);
		CHECK_EQ_INT(how.code, 4);
		release(procs[i]);
	}
	/* And a closed output is closed. */
	nr_proc flood = spawn(OPTIONS(.argv = PROG("flood")));
	pid_t last = fork();
	if (last == 0)
		for (;;)
			pause();
	CHECK_EQ_INT(nr_close(flood, NR_STDOUT), 0);
	nr_outcome how = wait_end(flood);
	CHECK_EQ_INT(how.signal, SIGPIPE);
	release(flood);
	kill(last, SIGKILL);
	waitpid(last, NULL, 0);
	for (size_t i = 0; i < COUNT_OF(forks); i++) {
		kill(forks[i], SIGKILL);
		CHECK(waitpid(forks[i], NULL, 0) == forks[i]);
	}
}

TEST(programs_see_ends_of_file_though_forks_live)
{
	host_run(ARGV("whose_forks_live"));
}

/* A worker serves with a library of its own, and dies alone. */

static void work(int out)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("lines")));
	struct buffer text = { 0 };

	for (int i = 0; i < 20; i++) {
		CHECK_EQ_INT(run(OPTIONS(.argv = PROG("exit", check_format("%d", i))))->how.code,
			     i);
		say_text(p, "x\n");
		read_until(p, NR_STDOUT, &text, "got x\n");
	}
	REQUIRE(dprintf(out, "%d %d\n", nr_pid(p), check_has_failed()) > 0);
	for (;;)
		pause();
}

HOST(that_preforks)
{
	struct {
		pid_t pid;
		pid_t program;
		int in;
	} workers[4];

	for (size_t i = 0; i < COUNT_OF(workers); i++) {
		int ends[2];

		REQUIRE(pipe(ends) == 0);
		workers[i].pid = fork();
		REQUIRE(workers[i].pid >= 0);
		if (workers[i].pid == 0) {
			work(ends[1]);
			_exit(0);
		}
		close(ends[1]);
		workers[i].in = ends[0];
	}
	for (size_t i = 0; i < COUNT_OF(workers); i++) {
		char line[64] = "";
		int failed = 1;

		wait_ready(workers[i].in, POLLIN);
		REQUIRE(read(workers[i].in, line, sizeof line - 1) > 0);
		REQUIRE(sscanf(line, "%d %d", &workers[i].program, &failed) == 2, "%s", line);
		CHECK_EQ_INT(failed, 0);
		CHECK(is_alive(workers[i].program));
	}
	/* The master, too. */
	CHECK_EQ_INT(run(OPTIONS(.argv = PROG("exit", "7")))->how.code, 7);
	for (size_t i = 0; i < COUNT_OF(workers); i++) {
		kill(workers[i].pid, SIGKILL);
		CHECK(waitpid(workers[i].pid, NULL, 0) == workers[i].pid);
		EVENTUALLY(!is_alive(workers[i].program));
		for (size_t j = i + 1; j < COUNT_OF(workers); j++)
			CHECK(is_alive(workers[j].program), "worker %zu took it along", i);
		close(workers[i].in);
	}
	/* Workers of a master that has called get none, unless they exec. */
	pid_t late = fork();
	if (late == 0)
		_exit(calls_not_refused(1) ? NOT_REFUSED : REFUSED);
	CHECK_EQ_INT(exit_code_of(late), REFUSED);
	late = fork();
	if (late == 0) {
		execl("/proc/self/exe", "host", "--host", "that_was_executed", (char *)NULL);
		_exit(99);
	}
	CHECK_EQ_INT(exit_code_of(late), 0);
}

HOST(that_was_executed)
{
	CHECK_EQ_INT(run(OPTIONS(.argv = PROG("exit", "7")))->how.code, 7);
}

TEST(workers_have_libraries_of_their_own)
{
	host_run(ARGV("that_preforks"));
}

/* A thread that has called forks, and its copy ends as a thread does. */

static void *fork_and_return(void *arg)
{
	int *code = arg;
	pid_t pid;

	run(OPTIONS(.argv = PROG("exit", "0")));
	pid = fork();
	if (pid == 0) {
		if (calls_not_refused(1))
			_exit(NOT_REFUSED);
		pthread_exit(NULL); /* the only thread: exits with 0 */
	}
	*code = exit_code_of(pid);
	return NULL;
}

HOST(whose_thread_forks)
{
	for (int i = 0; i < 10; i++) {
		int code = -1;

		thread_join(thread_start(fork_and_return, &code));
		CHECK_EQ_INT(code, 0);
	}
}

TEST(fork_of_a_thread_may_end_as_a_thread)
{
	/* Sanitizers cannot look for leaks in the fork of a process with threads. */
	const char *options = getenv("ASAN_OPTIONS");

	change_environment("ASAN_OPTIONS",
			   check_format("%s:detect_leaks=0", options ? options : ""));
	host_run(ARGV("whose_thread_forks"));
}
