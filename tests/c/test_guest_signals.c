/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Hosts that make much of signals: plain handlers in a storm, signalfd(2),
 * sigwait(3). None of their signals ends up in the library's threads.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "state.h"

/* The stack of this thread, if it is one of ours. */
static _Thread_local uintptr_t stack_low, stack_high;

static atomic_long handled[NSIG];
static atomic_long on_strange_threads;
static atomic_long on_strange_stacks;

static void know_this_thread(void)
{
	pthread_attr_t attr;
	void *low;
	size_t size;

	REQUIRE_EQ_INT(pthread_getattr_np(pthread_self(), &attr), 0);
	pthread_attr_getstack(&attr, &low, &size);
	pthread_attr_destroy(&attr);
	stack_low = (uintptr_t)low;
	stack_high = stack_low + size;
}

static void handle(int sig)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	int saved = errno;

	atomic_fetch_add(&handled[sig], 1);
	if (!stack_high)
		atomic_fetch_add(&on_strange_threads, 1);
	else if (here < stack_low || here >= stack_high)
		atomic_fetch_add(&on_strange_stacks, 1);
	errno = saved;
}

static const int storm_signals[] = { SIGUSR1, SIGCHLD, SIGALRM, SIGURG, SIGPROF, SIGSTKFLT };

enum { CALLERS = 4, CALLS = 25000, SPAWN_EACH = 500 };

static atomic_int callers_left;
static atomic_int known;

static void *make_calls(void *arg)
{
	nr_outcome how = { .size = sizeof how };
	nr_statistics s = { .size = sizeof s };
	nr_proc shared = *(nr_proc *)arg;
	const char *const *env = large_environment();
	char why[128], bytes[16];

	know_this_thread();
	atomic_fetch_add(&known, 1);
	for (int i = 0; i < CALLS; i++) {
		switch (i % 5) {
		case 0:
			CHECK_EQ_INT(nr_wait(shared, 0, NULL), -EAGAIN);
			break;
		case 1:
			CHECK_EQ_INT(nr_stats(shared, &s), 0);
			break;
		case 2:
			CHECK_EQ_INT(nr_read(shared, NR_STDOUT, bytes, sizeof bytes), -EAGAIN);
			break;
		case 3:
			CHECK(nr_pid(shared) > 0);
			break;
		case 4:
			CHECK_EQ_INT(nr_why(shared, why, sizeof why), 0);
			break;
		}
		if (i % SPAWN_EACH == 0) {
			nr_proc p = nr_spawn(
				OPTIONS(.argv = PROG("exit", "9"), .env = env, .out = DEV_NULL),
				why, sizeof why);

			REQUIRE(p > 0, "-%s: %s", nr_errname((int)p), why);
			CHECK_EQ_INT(nr_wait(p, (int)check_patience_ms(), &how), 0);
			CHECK_EQ_INT(how.code, 9);
			CHECK_EQ_INT(nr_release(p), 0);
		}
	}
	atomic_fetch_sub(&callers_left, 1);
	return NULL;
}

static void *raise_storm(void *arg)
{
	pthread_t *targets = arg;

	know_this_thread();
	atomic_fetch_add(&known, 1);
	EVENTUALLY(atomic_load(&known) == CALLERS + 1);
	setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 500 }, { 0, 500 } }, NULL);
	for (unsigned i = 0; atomic_load(&callers_left) > 0; i++) {
		int sig = storm_signals[i % COUNT_OF(storm_signals)];

		if (i % 2)
			pthread_kill(targets[i % CALLERS], sig);
		else
			kill(getpid(), sig);
		if (i % 64 == 0)
			sched_yield();
	}
	return NULL;
}

HOST(with_plain_handlers_in_a_storm)
{
	struct sigaction sa = { .sa_handler = handle, .sa_flags = SA_RESTART };
	pthread_t callers[CALLERS];
	struct buffer out = { 0 };
	thread *storm;
	nr_proc p;

	know_this_thread();
	for (size_t i = 0; i < COUNT_OF(storm_signals); i++)
		REQUIRE(sigaction(storm_signals[i], &sa, NULL) == 0);
	p = spawn(OPTIONS(.argv = PROG("pause")));
	read_until(p, NR_STDOUT, &out, "ready\n");
	/* They are joined after the storm has ended: their ids stay good. */
	atomic_store(&callers_left, CALLERS);
	for (size_t i = 0; i < CALLERS; i++)
		REQUIRE_EQ_INT(pthread_create(&callers[i], NULL, make_calls, &p), 0);
	storm = thread_start(raise_storm, callers);
	thread_join(storm);
	for (size_t i = 0; i < CALLERS; i++)
		pthread_join(callers[i], NULL);
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	for (size_t i = 0; i < COUNT_OF(storm_signals); i++)
		CHECK(atomic_load(&handled[storm_signals[i]]) > 100, "signal %d: %ld",
		      storm_signals[i], atomic_load(&handled[storm_signals[i]]));
	CHECK_EQ_INT(atomic_load(&on_strange_threads), 0);
	CHECK_EQ_INT(atomic_load(&on_strange_stacks), 0);
	release(p);
}

TEST(a_hundred_thousand_calls_in_a_storm_of_signals)
{
	host_run(ARGV("with_plain_handlers_in_a_storm"));
}

/*
 * The same with handlers on the threads' signal stacks: threads have none but
 * what they make themselves, so these run on their ordinary ones.
 */
HOST(with_onstack_handlers)
{
	struct sigaction sa = { .sa_handler = handle, .sa_flags = SA_RESTART | SA_ONSTACK };

	know_this_thread();
	sigaction(SIGUSR1, &sa, NULL);
	for (int i = 0; i < 50; i++) {
		nr_proc p = spawn(OPTIONS(.argv = PROG("exit", "0"), .out = DEV_NULL));

		raise(SIGUSR1);
		wait_end(p);
		raise(SIGUSR1);
		release(p);
		raise(SIGUSR1);
	}
	CHECK_EQ_INT(atomic_load(&handled[SIGUSR1]), 150);
	CHECK_EQ_INT(atomic_load(&on_strange_threads), 0);
	/* AddressSanitizer gives every thread a signal stack. */
#ifndef __SANITIZE_ADDRESS__
	CHECK_EQ_INT(atomic_load(&on_strange_stacks), 0);
#endif
}

TEST(handlers_never_run_on_a_stack_of_go)
{
	host_run(ARGV("with_onstack_handlers"));
}

/* signalfd(2) and sigwait(3) */

static atomic_bool may_rest;

static void *keep_library_busy(void *arg)
{
	const char *const *env = arg;
	char why[128];

	while (!atomic_load(&may_rest)) {
		nr_proc p =
			nr_spawn(OPTIONS(.argv = PROG("exit", "0"), .env = env, .out = DEV_NULL),
				 why, sizeof why);

		REQUIRE(p > 0, "-%s: %s", nr_errname((int)p), why);
		CHECK_EQ_INT(nr_wait(p, -1, NULL), 0);
		CHECK_EQ_INT(nr_release(p), 0);
	}
	return NULL;
}

static void block_all(sigset_t *set)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };

	sigfillset(set);
	for (size_t i = 0; i < COUNT_OF(faults); i++)
		sigdelset(set, faults[i]);
	REQUIRE_EQ_INT(pthread_sigmask(SIG_SETMASK, set, NULL), 0);
}

static bool is_for_us(const sigset_t *set, int sig)
{
	return sigismember(set, sig) == 1 && sig != SIGKILL && sig != SIGSTOP;
}

static void reap(pid_t pid, int code)
{
	int status;

	REQUIRE(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == code, "%#x", status);
}

/* A handler that is never to run: a signal that is taken is not handled. */
static void handle_all(const sigset_t *set)
{
	struct sigaction sa = { .sa_handler = handle };

	for (int sig = 1; sig < NSIG; sig++)
		if (is_for_us(set, sig))
			sigaction(sig, &sa, NULL);
}

static void check_none_handled(void)
{
	for (int sig = 1; sig < NSIG; sig++)
		CHECK_EQ_INT(atomic_load(&handled[sig]), 0, "signal %d", sig);
}

HOST(with_a_signalfd)
{
	struct signalfd_siginfo info;
	thread *busy[2];
	sigset_t set;
	int fd;

	block_all(&set);
	handle_all(&set);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	REQUIRE(fd >= 0);
	for (size_t i = 0; i < COUNT_OF(busy); i++)
		busy[i] = thread_start(keep_library_busy, (void *)large_environment());
	for (int round = 0; round < 5; round++) {
		for (int sig = 1; sig < NSIG; sig++) {
			if (!is_for_us(&set, sig) || sig == SIGCHLD)
				continue;
			REQUIRE(kill(getpid(), sig) == 0);
			wait_ready(fd, POLLIN);
			REQUIRE(read(fd, &info, sizeof info) == sizeof info);
			CHECK_EQ_INT(info.ssi_signo, sig);
		}
	}
	for (int i = 0; i < 50; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(i);
		REQUIRE(pid > 0);
		wait_ready(fd, POLLIN);
		REQUIRE(read(fd, &info, sizeof info) == sizeof info);
		CHECK_EQ_INT(info.ssi_signo, SIGCHLD);
		CHECK_EQ_INT(info.ssi_pid, pid);
		reap(pid, i);
	}
	atomic_store(&may_rest, true);
	for (size_t i = 0; i < COUNT_OF(busy); i++)
		thread_join(busy[i]);
	CHECK(!is_ready(fd, POLLIN), "a signal that nobody sent");
	check_none_handled();
	close(fd);
}

TEST(host_with_a_signalfd_gets_its_signals)
{
	host_run(ARGV("with_a_signalfd"));
}

HOST(that_waits_for_signals)
{
	thread *busy[2];
	siginfo_t info;
	sigset_t set;

	block_all(&set);
	handle_all(&set);
	for (size_t i = 0; i < COUNT_OF(busy); i++)
		busy[i] = thread_start(keep_library_busy, (void *)large_environment());
	for (int i = 0; i < 50; i++) {
		struct timespec patience = { .tv_sec = check_patience_ms() / 1000 };
		pid_t pid = fork();

		if (pid == 0)
			_exit(i);
		REQUIRE(pid > 0);
		CHECK_EQ_INT(sigtimedwait(&set, &info, &patience), SIGCHLD);
		CHECK_EQ_INT(info.si_pid, pid);
		reap(pid, i);
		kill(getpid(), SIGTERM);
		CHECK_EQ_INT(sigtimedwait(&set, &info, &patience), SIGTERM);
	}
	atomic_store(&may_rest, true);
	for (size_t i = 0; i < COUNT_OF(busy); i++)
		thread_join(busy[i]);
	check_none_handled();
}

TEST(host_that_waits_for_signals_gets_them)
{
	host_run(ARGV("that_waits_for_signals"));
}
