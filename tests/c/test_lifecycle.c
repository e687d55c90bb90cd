/* SPDX-License-Identifier: Apache-2.0 */

/* How programs end: by themselves, by signals, by us; and what is told of it. */

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
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

/* A program that is surely where its command says, after its first line. */
static nr_proc spawn_ready(const nr_options *o)
{
	struct buffer out = { 0 };
	nr_proc p = spawn(o);

	read_until(p, NR_STDOUT, &out, "ready\n");
	return p;
}

static nr_proc spawn_parent(const nr_options *o, pid_t *child)
{
	struct buffer out = { 0 };
	nr_proc p = spawn(o);
	const char *line = read_line(p, NR_STDOUT, &out);

	REQUIRE(sscanf(line, "child %d", child) == 1, "%s", line);
	return p;
}

/* Outcomes. */

TEST(exit_codes_are_told)
{
	static const int codes[] = { 0, 1, 2, 7, 126, 127, 128, 137, 254, 255 };

	for (size_t i = 0; i < COUNT_OF(codes); i++) {
		struct result *r = run(OPTIONS(.argv = PROG("exit", check_format("%d", codes[i]))));

		CHECK_EQ_INT(r->status, 0);
		check_code(&r->how, codes[i], NR_REASON_OWN);
	}
}

TEST(signals_are_told)
{
	static const int signals[] = { SIGHUP,  SIGINT,  SIGKILL, SIGUSR1, SIGSEGV,
				       SIGPIPE, SIGALRM, SIGTERM, SIGSYS };
	const nr_rlimit no_core = { .resource = RLIMIT_CORE };

	for (size_t i = 0; i < COUNT_OF(signals); i++) {
		const char *number = check_format("%d", signals[i]);
		struct result *r = run(
			OPTIONS(.argv = PROG("die", number), .rlimits = &no_core, .nrlimits = 1));

		CHECK_EQ_INT(r->status, 0);
		check_signal(&r->how, signals[i], NR_REASON_OWN);
		CHECK_EQ_INT(r->how.core, 0, "signal %d", signals[i]);
	}
}

/* Whether the kernel here writes a core file at all, seen without the library. */
static bool dumps_core(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ RLIM_INFINITY, RLIM_INFINITY });
		execl(testprog(), "testprog", "die", "6", (char *)NULL);
		_exit(1);
	}
	REQUIRE(pid > 0 && waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) && WCOREDUMP(status);
}

TEST(core_dumps_are_told)
{
	const nr_rlimit core = { .resource = RLIMIT_CORE, .soft = UINT64_MAX, .hard = UINT64_MAX };
	struct result *r;

	change_directory(scratch());
	if (!dumps_core())
		SKIP("no core dumps on this machine");
	r = run(OPTIONS(.argv = PROG("die", "6"), .rlimits = &core, .nrlimits = 1));
	check_signal(&r->how, SIGABRT, NR_REASON_OWN);
	CHECK_EQ_INT(r->how.core, 1);
}

TEST(signal_from_elsewhere_is_the_programs_own_end)
{
	nr_proc p = spawn_ready(OPTIONS(.argv = PROG("pause")));
	nr_outcome how;

	REQUIRE(kill(nr_pid(p), SIGINT) == 0);
	how = wait_end(p);
	check_signal(&how, SIGINT, NR_REASON_OWN);
	release(p);
}

/* The size rule: a caller of an older header, and one of a newer. */

TEST(outcome_smaller_than_ours_is_filled_in_part)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("exit", "5")));
	nr_outcome how;

	wait_end(p);
	memset(&how, 0x55, sizeof how);
	how.size = offsetof(nr_outcome, signal);
	CHECK_EQ_INT(nr_wait(p, 0, &how), 0);
	CHECK_EQ_INT(how.code, 5);
	CHECK_EQ_INT(how.signal, 0x55555555);
	CHECK_EQ_INT(how.reason, 0x55555555);
	CHECK_EQ_INT(how.core, 0x55555555);
	CHECK_EQ_INT(how.size, offsetof(nr_outcome, signal));
	release(p);
}

TEST(outcome_without_size_is_left_alone)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("exit", "5")));
	nr_outcome how;
	int n;

	wait_end(p);
	memset(&how, 0x55, sizeof how);
	how.size = 0;
	n = nr_wait(p, 0, &how);
	CHECK(n == 0 || n == -EINVAL, "%d", n);
	CHECK_EQ_INT(how.code, 0x55555555);
	CHECK_EQ_INT(how.core, 0x55555555);
	release(p);
}

TEST(outcome_larger_than_ours_is_left_alone_beyond)
{
	struct {
		nr_outcome known;
		unsigned char later[64];
	} how;
	nr_proc p = spawn(OPTIONS(.argv = PROG("exit", "5")));

	wait_end(p);
	memset(&how, 0x55, sizeof how);
	how.known.size = sizeof how;
	CHECK_EQ_INT(nr_wait(p, 0, &how.known), 0);
	check_code(&how.known, 5, NR_REASON_OWN);
	for (size_t i = 0; i < sizeof how.later; i++)
		CHECK_EQ_INT(how.later[i], 0x55);
	CHECK_EQ_INT(how.known.size, sizeof how);
	release(p);
}

TEST(statistics_follow_the_size_rule)
{
	struct {
		nr_statistics known;
		unsigned char later[64];
	} s;
	nr_proc p = spawn(OPTIONS(.argv = PROG("exit", "5")));

	wait_end(p);
	memset(&s, 0x55, sizeof s);
	s.known.size = offsetof(nr_statistics, writes);
	CHECK_EQ_INT(nr_stats(p, &s.known), 0);
	CHECK_EQ_INT(s.known.stderr_bytes, 0);
	CHECK_EQ_INT(s.known.writes, 0x5555555555555555);
	CHECK_EQ_INT(s.known.involuntary_switches, 0x5555555555555555);

	memset(&s, 0x55, sizeof s);
	s.known.size = sizeof s;
	CHECK_EQ_INT(nr_stats(p, &s.known), 0);
	CHECK(s.known.involuntary_switches != 0x5555555555555555);
	for (size_t i = 0; i < sizeof s.later; i++)
		CHECK_EQ_INT(s.later[i], 0x55);
	release(p);
}

/* Waiting. */

TEST(wait_says_that_it_still_runs)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("gate", "3")));
	nr_outcome how = { .size = sizeof how, .code = 55, .signal = 66, .reason = 77 };
	nr_outcome unchanged = how;
	int64_t start;

	CHECK_EQ_INT(nr_wait(p, 0, &how), -EAGAIN);
	CHECK_EQ_INT(nr_wait(p, 0, NULL), -EAGAIN);
	CHECK_EQ_INT(nr_wait(p, 1, NULL), -ETIMEDOUT);
	start = check_now_ms();
	CHECK_EQ_INT(nr_wait(p, 100, &how), -ETIMEDOUT);
	CHECK(check_now_ms() - start >= 99, "returned after %d ms", (int)(check_now_ms() - start));
	CHECK_EQ_INT(memcmp(&how, &unchanged, sizeof how), 0);
	nr_close_stdin(p);
	CHECK_EQ_INT(wait_end(p).code, 3);
	release(p);
}

TEST(wait_may_be_called_any_number_of_times)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("exit", "3")));
	static const int timeouts[] = { -1, 0, 1, 1000, INT_MAX, -1, 0 };

	for (size_t i = 0; i < COUNT_OF(timeouts); i++) {
		nr_outcome how = { .size = sizeof how };

		if (i == 0)
			CHECK_EQ_INT(nr_wait(p, -1, NULL), 0);
		CHECK_EQ_INT(nr_wait(p, timeouts[i], &how), 0, "timeout %d", timeouts[i]);
		check_code(&how, 3, NR_REASON_OWN);
	}
	CHECK_EQ_INT(nr_wait(p, -1, NULL), 0);
	release(p);
}

static void *wait_in_thread(void *arg)
{
	nr_outcome how = { .size = sizeof how };

	CHECK_EQ_INT(nr_wait(*(nr_proc *)arg, -1, &how), 0);
	check_code(&how, 3, NR_REASON_OWN);
	return NULL;
}

TEST(wait_may_be_called_by_several_threads)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("gate", "3")));
	thread *threads[8];

	for (size_t i = 0; i < COUNT_OF(threads); i++)
		threads[i] = thread_start(wait_in_thread, &p);
	/* The waiting of others hinders nobody. */
	CHECK_EQ_INT(nr_wait(p, 0, NULL), -EAGAIN);
	CHECK_EQ_INT(nr_wait(p, 10, NULL), -ETIMEDOUT);
	CHECK_EQ_INT(output_of(OPTIONS(.argv = PROG("exit")))->len, 0);
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		thread_join(threads[i]);
	release(p);
}

static atomic_int handled;

static void count_handled(int sig)
{
	(void)sig;
	atomic_fetch_add(&handled, 1);
}

struct interruption {
	pthread_t target;
	nr_proc p;
};

static void *interrupt_often(void *arg)
{
	struct interruption *i = arg;

	for (int n = 1; n <= 20; n++) {
		pthread_kill(i->target, SIGUSR1);
		EVENTUALLY(atomic_load(&handled) >= n);
	}
	CHECK_EQ_INT(nr_close_stdin(i->p), 0);
	return NULL;
}

/* -EINTR is not among its results, so a handler must not end the waiting. */
TEST(wait_goes_on_after_signals)
{
	struct sigaction counter = { .sa_handler = count_handled };
	struct sigaction old;
	nr_proc p = spawn(OPTIONS(.argv = PROG("gate", "3")));
	struct interruption i = { pthread_self(), p };
	nr_outcome how = { .size = sizeof how };
	thread *t;

	atomic_store(&handled, 0);
	REQUIRE(sigaction(SIGUSR1, &counter, &old) == 0);
	t = thread_start(interrupt_often, &i);
	CHECK_EQ_INT(nr_wait(p, -1, &how), 0);
	thread_join(t);
	REQUIRE(sigaction(SIGUSR1, &old, NULL) == 0);
	check_code(&how, 3, NR_REASON_OWN);
	release(p);
}

/* Signals. */

TEST(kill_ends_the_program)
{
	static const int signals[] = { SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGUSR2 };

	for (size_t i = 0; i < COUNT_OF(signals); i++) {
		nr_proc p = spawn_ready(OPTIONS(.argv = PROG("pause")));
		nr_outcome how;

		CHECK_EQ_INT(nr_kill(p, signals[i]), 0);
		how = wait_end(p);
		check_signal(&how, signals[i], NR_REASON_KILLED);
		release(p);
	}
}

/* What the counting program has received, as "SIGNAL:TIMES " in order. */
static const char *received(nr_proc p, struct buffer *out)
{
	say_text(p, "\n");
	return read_line(p, NR_STDOUT, out);
}

TEST(kill_delivers_every_signal_exactly_once)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("count")));
	struct buffer out = { 0 };
	const char *expected = "";

	read_until(p, NR_STDOUT, &out, "ready\n");
	for (int sig = 1; sig <= SIGRTMAX; sig++) {
		const char *now;

		if (sig == SIGKILL || sig == SIGSTOP || (sig >= 32 && sig < SIGRTMIN))
			continue;
		CHECK_EQ_INT(nr_kill(p, sig), 0, "signal %d", sig);
		expected = check_format("%s%d:1 ", expected, sig);
		EVENTUALLY(strlen(now = received(p, &out)) >= strlen(expected));
		CHECK_STR(now, expected);
	}
	CHECK_STR(received(p, &out), expected);
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
}

TEST(kill_delivers_each_of_many)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("count")));
	struct buffer out = { 0 };

	read_until(p, NR_STDOUT, &out, "ready\n");
	for (int i = 1; i <= 100; i++) {
		const char *expected = check_format("%d:%d ", SIGUSR1, i);

		CHECK_EQ_INT(nr_kill(p, SIGUSR1), 0);
		EVENTUALLY(strcmp(received(p, &out), expected) == 0);
	}
	/* Only realtime signals queue, so only they tell of doubles in a burst. */
	for (int i = 0; i < 100; i++)
		CHECK_EQ_INT(nr_kill(p, SIGRTMIN + 1), 0);
	CHECK_EQ_INT(nr_kill(p, SIGRTMIN + 2), 0);
	EVENTUALLY(strstr(received(p, &out), check_format(" %d:1 ", SIGRTMIN + 2)));
	CHECK_STR(received(p, &out),
		  check_format("%d:100 %d:100 %d:1 ", SIGUSR1, SIGRTMIN + 1, SIGRTMIN + 2));
	nr_kill(p, SIGKILL);
	wait_end(p);
	release(p);
}

TEST(kill_hits_the_whole_group)
{
	nr_proc p = spawn_ready(OPTIONS(.argv = PROG("relay")));
	struct buffer out = { 0 };

	for (int i = 0; i < 10; i++) {
		CHECK_EQ_INT(nr_kill(p, SIGUSR1), 0);
		while (out.len < 14 * ((size_t)i + 1))
			read_until(p, NR_STDOUT, &out, "\n");
		CHECK_CONTAINS(out.data + 14 * i, "parent\n");
		CHECK_CONTAINS(out.data + 14 * i, "child.\n");
	}
	nr_kill(p, SIGKILL);
	wait_end(p);
	/* Nobody said more than his ten words. */
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	CHECK_EQ_INT(out.len, 140);
	release(p);
}

TEST(kill_zero_asks_whether_it_runs)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("count")));
	struct buffer out = { 0 };

	read_until(p, NR_STDOUT, &out, "ready\n");
	for (int i = 0; i < 10; i++)
		CHECK_EQ_INT(nr_kill(p, 0), 0);
	CHECK_STR(received(p, &out), "");
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	wait_end(p);
	CHECK_EQ_INT(nr_kill(p, 0), -ESRCH);
	release(p);
}

TEST(kill_after_the_end_is_esrch)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("exit")));

	wait_end(p);
	CHECK_EQ_INT(nr_kill(p, SIGTERM), -ESRCH);
	CHECK_EQ_INT(nr_kill(p, SIGKILL), -ESRCH);
	CHECK_EQ_INT(nr_kill(p, SIGUSR1), -ESRCH);
	release(p);
}

TEST(kill_with_no_such_signal_is_einval)
{
	static const int bad[] = { -1, -9, 65, 66, 128, 1000000, INT_MAX, INT_MIN };
	nr_proc p = spawn_ready(OPTIONS(.argv = PROG("pause")));

	for (size_t i = 0; i < COUNT_OF(bad); i++)
		CHECK_EQ_INT(nr_kill(p, bad[i]), -EINVAL, "signal %d", bad[i]);
	CHECK_EQ_INT(nr_kill(p, 0), 0);
	nr_kill(p, SIGKILL);
	wait_end(p);
	release(p);
}

TEST(kill_twice_in_a_row)
{
	for (int i = 0; i < 20; i++) {
		nr_proc p = spawn_ready(OPTIONS(.argv = PROG("pause")));
		nr_outcome how;
		int n = nr_kill(p, SIGTERM);

		/* Whether the end was seen already is open, but nothing else is. */
		CHECK_EQ_INT(n, 0);
		n = nr_kill(p, SIGTERM);
		CHECK(n == 0 || n == -ESRCH, "%d", n);
		how = wait_end(p);
		check_signal(&how, SIGTERM, NR_REASON_KILLED);
		release(p);
	}
}

TEST(kill_stops_and_continues)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("lines")));
	struct buffer out = { 0 };
	char byte;

	CHECK_EQ_INT(nr_kill(p, SIGSTOP), 0);
	EVENTUALLY(proc_state(nr_pid(p)) == 'T');
	/* Stopped is neither ended nor lost. */
	CHECK_EQ_INT(nr_wait(p, 0, NULL), -EAGAIN);
	say_text(p, "x\n");
	CHECK_EQ_INT(nr_read(p, NR_STDOUT, &byte, 1), -EAGAIN);
	CHECK_EQ_INT(nr_kill(p, SIGCONT), 0);
	read_until(p, NR_STDOUT, &out, "got x\n");
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	CHECK_EQ_INT(wait_end(p).code, 0);
	release(p);
}

/* Stopping. */

static const char TERM[] = "15";

TEST(stop_lets_the_program_end_by_sigterm)
{
	nr_proc p = spawn_ready(OPTIONS(.argv = PROG("handle", TERM, "4")));
	struct buffer out = { 0 };
	nr_outcome how;

	CHECK_EQ_INT(nr_stop(p), 0);
	CHECK_EQ_INT(nr_stop(p), 0);
	how = wait_end(p);
	check_code(&how, 4, NR_REASON_KILLED);
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	CHECK_STR(out.data, "signal\n");
	CHECK_EQ_INT(nr_stop(p), 0);
	release(p);
}

TEST(stop_ends_by_sigterm)
{
	nr_proc p = spawn_ready(OPTIONS(.argv = PROG("pause")));
	nr_outcome how;

	CHECK_EQ_INT(nr_stop(p), 0);
	how = wait_end(p);
	check_signal(&how, SIGTERM, NR_REASON_KILLED);
	release(p);
}

TEST(stop_kills_after_the_grace)
{
	nr_proc p = spawn_ready(OPTIONS(.argv = PROG("ignore", TERM), .kill_timeout_ms = 300));
	int64_t start = check_now_ms();
	nr_outcome how;

	CHECK_EQ_INT(nr_stop(p), 0);
	how = wait_end(p);
	check_signal(&how, SIGKILL, NR_REASON_KILLED);
	CHECK(check_now_ms() - start >= 290, "killed after %d ms", (int)(check_now_ms() - start));
	release(p);
}

TEST(stop_without_grace_sends_no_sigterm)
{
	nr_proc p = spawn_ready(
		OPTIONS(.argv = PROG("handle", TERM, "4"), .kill_timeout_ms = NR_KILL_NOW));
	struct buffer out = { 0 };
	nr_outcome how;

	CHECK_EQ_INT(nr_stop(p), 0);
	how = wait_end(p);
	check_signal(&how, SIGKILL, NR_REASON_KILLED);
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	CHECK_STR(out.data, "");
	release(p);
}

TEST(stop_reaches_the_group)
{
	pid_t child;
	nr_proc p = spawn_parent(OPTIONS(.argv = PROG("family")), &child);

	CHECK(is_alive(child));
	CHECK_EQ_INT(nr_stop(p), 0);
	CHECK_EQ_INT(wait_end(p).signal, SIGTERM);
	CHECK(!is_alive(child), "the child outlived the stop");
	release(p);

	p = spawn_parent(OPTIONS(.argv = PROG("family", "stubborn"), .kill_timeout_ms = 100),
			 &child);
	CHECK_EQ_INT(nr_stop(p), 0);
	wait_end(p);
	CHECK(!is_alive(child), "the child that ignores SIGTERM outlived the stop");
	release(p);
}

TEST(stop_ends_a_stopped_program)
{
	nr_proc p = spawn_ready(OPTIONS(.argv = PROG("ignore", TERM), .kill_timeout_ms = 100));

	CHECK_EQ_INT(nr_kill(p, SIGSTOP), 0);
	EVENTUALLY(proc_state(nr_pid(p)) == 'T');
	CHECK_EQ_INT(nr_stop(p), 0);
	CHECK_EQ_INT(wait_end(p).signal, SIGKILL);
	release(p);
}

TEST(kill_during_the_grace_still_works)
{
	nr_proc p = spawn_ready(OPTIONS(.argv = PROG("ignore", TERM), .kill_timeout_ms = 60000));
	nr_outcome how;

	CHECK_EQ_INT(nr_stop(p), 0);
	CHECK_EQ_INT(nr_wait(p, 50, NULL), -ETIMEDOUT);
	CHECK_EQ_INT(nr_kill(p, SIGKILL), 0);
	how = wait_end(p);
	check_signal(&how, SIGKILL, NR_REASON_KILLED);
	release(p);
}

/* Time limit. */

TEST(timeout_ends_by_sigterm)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("pause"), .timeout_ms = 100));
	int64_t start = check_now_ms();
	nr_outcome how = wait_end(p);

	check_signal(&how, SIGTERM, NR_REASON_TIMEOUT);
	CHECK(check_now_ms() - start >= 50);
	release(p);
}

/* It also works when nobody calls the library, so only the pipe tells. */
TEST(timeout_needs_no_calls)
{
	struct buffer b = { 0 };
	int ends[2];
	nr_fdmap map;
	nr_proc p;

	open_pipe(ends);
	map = (nr_fdmap){ ends[1], 3 };
	p = spawn(OPTIONS(.argv = PROG("pause"), .timeout_ms = 100, .fds = &map, .nfds = 1));
	close_now(ends[1]);
	wait_ready(ends[0], POLLIN);
	buffer_read_fd(&b, ends[0]);
	CHECK_EQ_INT(b.len, 0);
	CHECK_EQ_INT(wait_end(p).reason, NR_REASON_TIMEOUT);
	release(p);
}

TEST(timeout_lets_the_program_end)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("handle", TERM, "4"), .timeout_ms = 500));
	nr_outcome how = wait_end(p);

	check_code(&how, 4, NR_REASON_TIMEOUT);
	release(p);
}

TEST(timeout_kills_who_ignores_sigterm)
{
	nr_proc p = spawn_ready(
		OPTIONS(.argv = PROG("ignore", TERM), .timeout_ms = 500, .kill_timeout_ms = 100));
	pid_t pid = nr_pid(p);
	nr_outcome how = wait_end(p);

	check_signal(&how, SIGKILL, NR_REASON_TIMEOUT);
	CHECK(!is_alive(pid), "a timeout was told, but the program lives");
	release(p);
}

TEST(timeout_without_grace)
{
	nr_proc p = spawn_ready(OPTIONS(.argv = PROG("handle", TERM, "4"), .timeout_ms = 500,
					.kill_timeout_ms = NR_KILL_NOW));
	nr_outcome how = wait_end(p);

	check_signal(&how, SIGKILL, NR_REASON_TIMEOUT);
	release(p);
}

TEST(timeout_takes_the_group)
{
	pid_t child;
	nr_proc p = spawn_parent(OPTIONS(.argv = PROG("family", "stubborn"), .timeout_ms = 500,
					 .kill_timeout_ms = 100),
				 &child);

	CHECK_EQ_INT(wait_end(p).reason, NR_REASON_TIMEOUT);
	CHECK(!is_alive(child));
	release(p);
}

TEST(timeout_not_reached_changes_nothing)
{
	static const int64_t times[] = {
		60000, INT32_MAX, (int64_t)1 << 40, INT64_MAX / 1000000, INT64_MAX / 1000, INT64_MAX
	};

	for (size_t i = 0; i < COUNT_OF(times); i++) {
		nr_proc p = spawn(OPTIONS(.argv = PROG("gate", "5"), .timeout_ms = times[i],
					  .kill_timeout_ms = times[i]));
		nr_outcome how;

		CHECK_EQ_INT(nr_wait(p, 10, NULL), -ETIMEDOUT, "%jd", (intmax_t)times[i]);
		CHECK_EQ_INT(nr_close_stdin(p), 0);
		how = wait_end(p);
		check_code(&how, 5, NR_REASON_OWN);
		release(p);
	}
}

/* What the program leaves running. */

TEST(background_jobs_are_dead_when_the_end_is_told)
{
	static const char *const kinds[] = { "quiet", "loud", "stubborn" };

	for (size_t i = 0; i < 30; i++) {
		const char *kind = kinds[i % COUNT_OF(kinds)];
		pid_t child;
		nr_proc p = spawn_parent(OPTIONS(.argv = PROG("background", kind, "3")), &child);
		nr_outcome how = wait_end(p);

		CHECK(!is_alive(child), "%s", kind);
		check_code(&how, 3, NR_REASON_OWN);
		release(p);
	}
}

/* Nothing of the background job is waited for, neither its end nor its pipes. */
TEST(background_jobs_are_not_waited_for)
{
	int64_t start = check_now_ms();
	struct result *r = run(OPTIONS(.argv = SH("sleep 100 >/dev/null 2>&1 & exit 0")));

	check_code(&r->how, 0, NR_REASON_OWN);
	r = run(OPTIONS(.argv = SH("sleep 100 & exit 0"), .err = PIPE));
	check_code(&r->how, 0, NR_REASON_OWN);
	CHECK_EQ_INT(r->out_end, 0);
	CHECK(check_now_ms() - start < check_patience_ms());
}

TEST(linger_leaves_the_rest_until_release)
{
	pid_t child;
	nr_proc p = spawn_parent(
		OPTIONS(.argv = PROG("background", "quiet", "3"), .flags = NR_LINGER), &child);
	nr_outcome how = wait_end(p);

	check_code(&how, 3, NR_REASON_OWN);
	CHECK(is_alive(child), "it did not outlive the program");
	output_of(OPTIONS(.argv = PROG("exit")));
	CHECK(is_alive(child));
	release(p);
	EVENTUALLY(!is_alive(child));
}

TEST(linger_kills_who_ignores_sigterm_at_release)
{
	pid_t child;
	nr_proc p = spawn_parent(OPTIONS(.argv = PROG("background", "stubborn", "3"),
					 .flags = NR_LINGER, .kill_timeout_ms = 100),
				 &child);

	wait_end(p);
	CHECK(is_alive(child));
	release(p);
	EVENTUALLY(!is_alive(child));
}

TEST(linger_lets_output_come_after_the_exit)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("late"), .flags = NR_LINGER));
	struct buffer out = { 0 };
	char byte;

	CHECK_EQ_INT(wait_end(p).code, 0);
	CHECK_EQ_INT(nr_read(p, NR_STDOUT, &byte, 1), -EAGAIN);
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	CHECK_STR(out.data, "late\n");
	release(p);
}

/* Release. */

TEST(release_ends_a_running_program)
{
	nr_proc p = spawn_ready(OPTIONS(.argv = PROG("pause")));
	pid_t pid = nr_pid(p);

	release(p);
	EVENTUALLY(!is_alive(pid));
}

TEST(release_of_a_program_that_floods)
{
	nr_proc p = spawn(OPTIONS(.argv = ARGV("yes")));
	pid_t pid = nr_pid(p);
	struct buffer out = { 0 };

	read_until(p, NR_STDOUT, &out, "y\ny\ny\n");
	release(p);
	EVENTUALLY(!is_alive(pid));
}

TEST(release_gives_the_grace)
{
	struct buffer b = { 0 };
	int ends[2];
	nr_fdmap map;

	open_pipe(ends);
	map = (nr_fdmap){ ends[1], 3 };
	/* Its stdout is closed by the release, so it speaks by a pipe of ours. */
	release(spawn_ready(
		OPTIONS(.argv = PROG("handle", TERM, "0", "3"), .fds = &map, .nfds = 1)));
	close_now(ends[1]);
	buffer_read_fd(&b, ends[0]);
	CHECK_STR(b.data, "signal\n");
}

TEST(release_kills_after_the_grace)
{
	nr_proc p = spawn_ready(OPTIONS(.argv = PROG("ignore", TERM, "1"), .kill_timeout_ms = 100));
	pid_t pid = nr_pid(p);

	release(p);
	EVENTUALLY(!is_alive(pid));
}

TEST(release_takes_the_group)
{
	pid_t child;
	nr_proc p = spawn_parent(
		OPTIONS(.argv = PROG("family", "stubborn"), .kill_timeout_ms = 100), &child);

	release(p);
	EVENTUALLY(!is_alive(child));
}

static void check_stale(nr_proc p)
{
	nr_outcome how = { .size = sizeof how };
	nr_statistics s = { .size = sizeof s };
	char text[16];

	CHECK_EQ_INT(nr_why(p, text, sizeof text), -EBADF, "%jd", (intmax_t)p);
	CHECK_EQ_INT(nr_pid(p), -EBADF, "%jd", (intmax_t)p);
	CHECK_EQ_INT(nr_fd(p, NR_EXIT), -EBADF, "%jd", (intmax_t)p);
	CHECK_EQ_INT(nr_fd(p, NR_STDOUT), -EBADF, "%jd", (intmax_t)p);
	CHECK_EQ_INT(nr_read(p, NR_STDOUT, text, 1), -EBADF, "%jd", (intmax_t)p);
	CHECK_EQ_INT(nr_write(p, "x", 1), -EBADF, "%jd", (intmax_t)p);
	CHECK_EQ_INT(nr_close_stdin(p), -EBADF, "%jd", (intmax_t)p);
	CHECK_EQ_INT(nr_close(p, NR_STDOUT), -EBADF, "%jd", (intmax_t)p);
	CHECK_EQ_INT(nr_winsize(p, 1, 1), -EBADF, "%jd", (intmax_t)p);
	CHECK_EQ_INT(nr_kill(p, 0), -EBADF, "%jd", (intmax_t)p);
	CHECK_EQ_INT(nr_stop(p), -EBADF, "%jd", (intmax_t)p);
	CHECK_EQ_INT(nr_wait(p, 0, &how), -EBADF, "%jd", (intmax_t)p);
	CHECK_EQ_INT(nr_wait(p, -1, NULL), -EBADF, "%jd", (intmax_t)p);
	CHECK_EQ_INT(nr_stats(p, &s), -EBADF, "%jd", (intmax_t)p);
	CHECK_EQ_INT(nr_cgroup_get(p, "x", text, sizeof text), -EBADF, "%jd", (intmax_t)p);
	CHECK_EQ_INT(nr_cgroup_set(p, "x", "y"), -EBADF, "%jd", (intmax_t)p);
	CHECK_EQ_INT(nr_release(p), -EBADF, "%jd", (intmax_t)p);
}

TEST(handles_never_spawned_are_ebadf)
{
	static const nr_proc bad[] = { 0,         -1,        -2,        -ENOENT,  INT32_MAX,
				       INT64_MAX, INT64_MIN, 1ll << 32, 1ll << 62 };

	for (size_t i = 0; i < COUNT_OF(bad); i++)
		check_stale(bad[i]);
}

TEST(handles_released_are_ebadf)
{
	nr_proc ended = spawn(OPTIONS(.argv = PROG("exit")));
	nr_proc running = spawn(OPTIONS(.argv = PROG("pause")));

	wait_end(ended);
	release(ended);
	release(running);
	check_stale(ended);
	check_stale(running);
	/* Also when others live in their place. */
	for (int i = 0; i < 10; i++) {
		nr_proc p = spawn(OPTIONS(.argv = PROG("exit")));

		check_stale(ended);
		check_stale(running);
		wait_end(p);
		release(p);
	}
}

struct waiting {
	nr_proc p;
	int timeout_ms;
	atomic_bool started;
};

static void *wait_until_released(void *arg)
{
	struct waiting *w = arg;

	atomic_store(&w->started, true);
	CHECK_EQ_INT(nr_wait(w->p, w->timeout_ms, NULL), -EBADF, "timeout %d", w->timeout_ms);
	return NULL;
}

TEST(release_ends_the_waiting_of_other_threads)
{
	static const int timeouts[] = { -1, -1, 100000, -1 };
	static const uint64_t flags[] = { 0, NR_PTY, NR_ASYNC, NR_ASYNC | NR_PTY };

	for (int round = 0; round < 60; round++) {
		struct waiting waits[COUNT_OF(timeouts)];
		thread *threads[COUNT_OF(timeouts)];
		nr_proc p = spawn(OPTIONS(.argv = PROG("ignore", TERM), .kill_timeout_ms = 50,
					  .flags = flags[round % COUNT_OF(flags)]));

		for (size_t i = 0; i < COUNT_OF(timeouts); i++) {
			waits[i] = (struct waiting){ .p = p, .timeout_ms = timeouts[i] };
			threads[i] = thread_start(wait_until_released, &waits[i]);
			EVENTUALLY(atomic_load(&waits[i].started));
		}
		release(p);
		for (size_t i = 0; i < COUNT_OF(timeouts); i++)
			thread_join(threads[i]);
	}
}

static void *release_in_thread(void *arg)
{
	return (void *)(intptr_t)nr_release(*(nr_proc *)arg);
}

TEST(release_by_threads_succeeds_once)
{
	for (int round = 0; round < 20; round++) {
		nr_proc p = spawn(OPTIONS(.argv = PROG("pause")));
		thread *threads[4];
		int succeeded = 0;

		for (size_t i = 0; i < COUNT_OF(threads); i++)
			threads[i] = thread_start(release_in_thread, &p);
		for (size_t i = 0; i < COUNT_OF(threads); i++) {
			int n = (int)(intptr_t)thread_join(threads[i]);

			succeeded += n == 0;
			CHECK(n == 0 || n == -EBADF, "%d", n);
		}
		CHECK_EQ_INT(succeeded, 1);
	}
}

/* Statistics. */

TEST(statistics_of_a_running_program)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("lines"), .err = PIPE));
	nr_statistics s = { .size = sizeof s };
	struct buffer out = { 0 };
	uint64_t wall;

	CHECK_EQ_INT(nr_stats(p, &s), 0);
	CHECK_EQ_INT(s.size, sizeof s);
	CHECK_EQ_INT(s.stdin_bytes, 0);
	CHECK_EQ_INT(s.stdout_bytes, 0);
	CHECK_EQ_INT(s.stderr_bytes, 0);
	CHECK_EQ_INT(s.writes, 0);
	CHECK_EQ_INT(s.reads, 0);
	CHECK_EQ_INT(s.memory, UINT64_MAX);
	CHECK_EQ_INT(s.processes, UINT64_MAX);
	wall = s.wall_ns;
	CHECK(wall > 0);

	for (int i = 0; i < 10; i++) {
		CHECK_EQ_INT(nr_write(p, "x\n", 2), 2);
		read_until(p, NR_STDOUT, &out, "got x\n");
	}
	CHECK_EQ_INT(nr_stats(p, &s), 0);
	CHECK_EQ_INT(s.stdin_bytes, 20);
	CHECK_EQ_INT(s.stdout_bytes, 60);
	CHECK_EQ_INT(s.stderr_bytes, 0);
	CHECK_EQ_INT(s.writes, 10);
	/* Calls that moved nothing do not count. */
	CHECK(s.reads >= 10 && s.reads <= 60, "%ju reads", (uintmax_t)s.reads);
	CHECK(s.wall_ns > wall);
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	wait_end(p);
	release(p);
}

TEST(statistics_count_only_calls_that_move_bytes)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("gate"), .err = PIPE));
	nr_statistics s = { .size = sizeof s };
	struct buffer out = { 0 };
	char text[64];

	read_until(p, NR_STDOUT, &out, "ready\n");
	for (int i = 0; i < 5; i++) {
		CHECK_EQ_INT(nr_read(p, NR_STDERR, text, sizeof text), -EAGAIN);
		CHECK_EQ_INT(nr_write(p, text, 0), -EINVAL);
	}
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	CHECK_EQ_INT(read_to_end(p, NR_STDERR, &out), 0);
	wait_end(p);
	CHECK_EQ_INT(nr_stats(p, &s), 0);
	CHECK_EQ_INT(s.stdout_bytes, 6);
	CHECK_EQ_INT(s.reads, 1);
	CHECK_EQ_INT(s.writes, 0);
	release(p);
}

TEST(statistics_after_the_end)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("burn", "200"), .err = PIPE));
	nr_statistics s = { .size = sizeof s };
	nr_statistics again = { .size = sizeof again };

	CHECK_EQ_INT(wait_end(p).code, 0);
	CHECK_EQ_INT(nr_stats(p, &s), 0);
	CHECK(s.user_ns != UINT64_MAX && s.system_ns != UINT64_MAX);
	/* It burnt 200 ms by its own count of both. */
	CHECK(s.user_ns + s.system_ns >= 150000000, "%ju + %ju ns", (uintmax_t)s.user_ns,
	      (uintmax_t)s.system_ns);
	CHECK(s.wall_ns >= 150000000, "%ju ns", (uintmax_t)s.wall_ns);
	CHECK(s.minor_faults > 0 && s.minor_faults != UINT64_MAX);
	CHECK(s.major_faults != UINT64_MAX);
	CHECK(s.blocks_in != UINT64_MAX && s.blocks_out != UINT64_MAX);
	CHECK(s.voluntary_switches != UINT64_MAX && s.involuntary_switches != UINT64_MAX);
	CHECK_EQ_INT(s.memory, UINT64_MAX);
	CHECK_EQ_INT(s.processes, UINT64_MAX);
	/* Time has stopped for it. */
	output_of(OPTIONS(.argv = PROG("exit")));
	CHECK_EQ_INT(nr_stats(p, &again), 0);
	CHECK_EQ_INT(memcmp(&s, &again, sizeof s), 0);
	release(p);
}

TEST(statistics_tell_the_peak_of_memory)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("allocate", "64")));
	nr_statistics s = { .size = sizeof s };

	CHECK_EQ_INT(wait_end(p).code, 0);
	CHECK_EQ_INT(nr_stats(p, &s), 0);
	CHECK(s.memory_peak >= 64u << 20 && s.memory_peak < 200u << 20, "%ju bytes",
	      (uintmax_t)s.memory_peak);
	release(p);
}

/* "the program and what it reaped" */
TEST(statistics_include_reaped_children)
{
	nr_proc p;
	nr_statistics s = { .size = sizeof s };

	change_environment("PROG", testprog());
	p = spawn(OPTIONS(.argv = SH("\"$PROG\" burn 200; exit 0")));
	CHECK_EQ_INT(wait_end(p).code, 0);
	CHECK_EQ_INT(nr_stats(p, &s), 0);
	CHECK(s.user_ns + s.system_ns >= 150000000, "%ju + %ju ns", (uintmax_t)s.user_ns,
	      (uintmax_t)s.system_ns);
	release(p);
}

/* Process ids. */

TEST(pid_is_the_programs)
{
	nr_proc p = spawn(OPTIONS(.argv = PROG("about")));
	struct buffer out = { 0 };
	int pid = nr_pid(p);

	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	CHECK_EQ_INT(atoi(value_of(&out, "pid")), pid);
	wait_end(p);
	release(p);
}

TEST(group_is_the_programs_own)
{
	const struct buffer *out = output_of(OPTIONS(.argv = PROG("about")));

	CHECK_STR(value_of(out, "pgid"), value_of(out, "pid"));
	CHECK(strcmp(value_of(out, "sid"), value_of(out, "pid")) != 0);
}

TEST(session_is_the_programs_own_on_request)
{
	const struct buffer *out = output_of(OPTIONS(.argv = PROG("about"), .flags = NR_SESSION));

	CHECK_STR(value_of(out, "pgid"), value_of(out, "pid"));
	CHECK_STR(value_of(out, "sid"), value_of(out, "pid"));
}

/* Signals that the host blocks or ignores do not reach the program's start. */

static void check_fresh_signals(const char *what)
{
	const struct buffer *out =
		output_of(OPTIONS(.argv = PROG("status", "SigIgn", "SigBlk", "SigCgt")));

	CHECK_STR(value_of(out, "SigIgn"), "0000000000000000", "%s", what);
	CHECK_STR(value_of(out, "SigBlk"), "0000000000000000", "%s", what);
	CHECK_STR(value_of(out, "SigCgt"), "0000000000000000", "%s", what);
}

TEST(programs_start_with_default_signals)
{
	check_fresh_signals("plain host");
}

HOST(that_blocks_and_ignores_signals)
{
	sigset_t all;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_IGN);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	check_fresh_signals("host that ignores and blocks all");
	CHECK_EQ_INT(run(OPTIONS(.argv = PROG("exit", "5")))->how.code, 5);
	CHECK_EQ_INT(run(OPTIONS(.argv = PROG("pause"), .timeout_ms = 50))->how.signal, SIGTERM);
}

TEST(programs_start_with_default_signals_in_every_host)
{
	host_run(ARGV("that_blocks_and_ignores_signals"));
}
