/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the library leaves alone in its host: all that a process can see of
 * itself is compared before and after, with each function as the first call.
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
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "state.h"

/* Each function, as the very first call. */

static char text[256];

#define FIRST_CALLS(X)                                                       \
	X(nr_version, nr_version() == NR_VERSION)                            \
	X(nr_version_string, *nr_version_string())                           \
	X(nr_strerror, *nr_strerror(-ENOENT))                                \
	X(nr_errname, strcmp(nr_errname(-ENOENT), "ENOENT") == 0)            \
	X(nr_spawn, nr_spawn(NULL, text, sizeof text) == -EINVAL)            \
	X(nr_why, nr_why(1, text, sizeof text) == -EBADF)                    \
	X(nr_pid, nr_pid(1) == -EBADF)                                       \
	X(nr_fd, nr_fd(1, NR_STDOUT) == -EBADF)                              \
	X(nr_read, nr_read(1, NR_STDOUT, text, sizeof text) == -EBADF)       \
	X(nr_write, nr_write(1, text, 1) == -EBADF)                          \
	X(nr_close_stdin, nr_close_stdin(1) == -EBADF)                       \
	X(nr_close, nr_close(1, NR_STDOUT) == -EBADF)                        \
	X(nr_winsize, nr_winsize(1, 1, 1) == -EBADF)                         \
	X(nr_kill, nr_kill(1, 0) == -EBADF)                                  \
	X(nr_stop, nr_stop(1) == -EBADF)                                     \
	X(nr_wait, nr_wait(1, -1, NULL) == -EBADF)                           \
	X(nr_stats, nr_stats(1, NULL) == -EBADF)                             \
	X(nr_cgroup_get, nr_cgroup_get(1, "a", text, sizeof text) == -EBADF) \
	X(nr_cgroup_set, nr_cgroup_set(1, "a", "b") == -EBADF)               \
	X(nr_release, nr_release(1) == -EBADF)

static const char *const names[] = {
#define NAME(function, holds) #function,
	FIRST_CALLS(NAME)
};

static bool call(size_t i)
{
	size_t n = 0;
#define CALL(function, holds) \
	if (n++ == i)         \
		return (holds);
	FIRST_CALLS(CALL)
	return n == 0;
}

/* In a process in which nothing has called the library. */
static void make_first_call(size_t i)
{
	struct state *before = state_now();
	struct tasks *threads = tasks_now();
	struct fd_list fds, now;
	struct result *r;

	REQUIRE(proc_fds(0, &fds));
	CHECK(call(i), "%s", names[i]);
	/* Only nr_spawn starts anything. */
	bool spawns = strcmp(names[i], "nr_spawn") == 0;
	state_check(before, spawns, names[i]);
	if (!spawns) {
		CHECK_EQ_INT(tasks_now()->count, threads->count, "%s", names[i]);
		REQUIRE(proc_fds(0, &now));
		CHECK_EQ_INT(now.count, fds.count, "%s", names[i]);
		proc_fds_free(&now);
	}
	proc_fds_free(&fds);
	r = run(OPTIONS(.argv = PROG("exit", "7")));
	CHECK_EQ_INT(r->how.code, 7, "after %s", names[i]);
	state_check(before, true, names[i]);
}

/* By number: fork() and exec keep what the parent has set up. */
HOST(with_a_first_call)
{
	make_first_call((size_t)atoi(argv[1]));
}

TEST(each_function_works_as_the_first_call)
{
	for (size_t i = 0; i < COUNT_OF(names); i++)
		host_run(ARGV("with_a_first_call", check_format("%zu", i)));
}

HOST(that_forks_for_each_function)
{
	for (size_t i = 0; i < COUNT_OF(names); i++) {
		pid_t pid = fork();
		int status;

		REQUIRE(pid >= 0);
		if (pid == 0) {
			make_first_call(i);
			_exit(check_has_failed());
		}
		REQUIRE(waitpid(pid, &status, 0) == pid);
		CHECK_EQ_INT(status, 0, "%s", names[i]);
	}
}

TEST(each_function_works_as_the_first_call_in_a_fork)
{
	host_run(ARGV("that_forks_for_each_function"));
}

/* Use of everything. */

static void use_everything(void)
{
	nr_outcome how = { .size = sizeof how };
	nr_statistics s = { .size = sizeof s };
	nr_proc p = spawn(OPTIONS(.argv = PROG("pause"), .err = PIPE, .kill_timeout_ms = 50));
	char why[64];

	run_with(OPTIONS(.argv = ARGV("cat")), pattern(300000), 300000);
	run(OPTIONS(.argv = PROG("tty"), .flags = NR_PTY));
	run(OPTIONS(.argv = PROG("flood"), .output_limit = 10));
	nr_spawn(OPTIONS(.argv = ARGV("/nonexistent")), why, sizeof why);
	nr_wait(p, 5, &how);
	nr_stats(p, &s);
	nr_pid(p);
	nr_why(p, why, sizeof why);
	nr_cgroup_get(p, "memory.peak", why, sizeof why);
	nr_winsize(p, 1, 1);
	nr_kill(p, SIGUSR1);
	nr_write(p, "x", 1);
	nr_close(p, NR_STDERR);
	nr_stop(p);
	nr_wait(p, -1, &how);
	release(p);
}

static void *use_in_thread(void *unused)
{
	struct state *before = state_now();

	use_everything();
	state_check(before, true, "in a thread that calls");
	return unused;
}

/* A thread that never calls. */
static atomic_bool bystander_may_end;
static atomic_int bystander;

static void *stand_by(void *unused)
{
	struct state *before = state_now();

	atomic_store(&bystander, gettid());
	while (!atomic_load(&bystander_may_end))
		usleep(1000);
	state_check(before, true, "in a thread that does not call");
	return unused;
}

static void check_that_all_is_kept(void)
{
	struct state *before = state_now();
	thread *other = thread_start(stand_by, NULL);
	struct tasks *threads;

	EVENTUALLY(atomic_load(&bystander));
	threads = tasks_now();
	run(OPTIONS(.argv = PROG("exit", "0")));
	state_check(before, true, "after the first spawn");
	CHECK(tasks_check_strangers(threads, "after the first spawn") > 0);
	for (int i = 0; i < 5; i++)
		use_everything();
	state_check(before, true, "after use");
	thread_join(thread_start(use_in_thread, NULL));
	state_check(before, true, "after use by a thread");
	tasks_check_strangers(threads, "after use");
	for (size_t i = 0; i < threads->count; i++) {
		const struct task *now = tasks_find(tasks_now(), threads->all[i].id);

		if (CHECK(now, "a thread of the host has gone"))
			CHECK_EQ_INT(now->blocked, threads->all[i].blocked, "thread %zu", i);
	}
	atomic_store(&bystander_may_end, true);
	thread_join(other);
}

HOST(as_it_comes)
{
	check_that_all_is_kept();
}

static void a_handler(int sig)
{
	(void)sig;
}

HOST(with_its_own_of_all)
{
	struct sigaction sa = { .sa_handler = a_handler, .sa_flags = SA_RESTART | SA_NODEFER };
	stack_t stack = { .ss_sp = check_alloc(1 << 16), .ss_size = 1 << 16 };
	struct rlimit limit = { 100, 1000 };
	sigset_t mask;

	sigaddset(&sa.sa_mask, SIGHUP);
	for (int sig = 1; sig <= 64; sig++)
		if (sig != SIGSEGV && sig != SIGBUS)
			sigaction(sig, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	signal(SIGURG, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGURG);
	sigaddset(&mask, SIGPROF);
	sigaddset(&mask, SIGRTMIN);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	raise(SIGUSR1); /* stays pending */
	REQUIRE(sigaltstack(&stack, NULL) == 0);
	REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	umask(0137);
	REQUIRE(chdir("/") == 0);
	for (int fd = 0; fd < 2; fd++)
		REQUIRE(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0);
	prctl(PR_SET_NAME, "a host");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_TIMERSLACK, 60000);
	setitimer(ITIMER_VIRTUAL, &(struct itimerval){ .it_value = { .tv_sec = 1000 } }, NULL);
	REQUIRE(setpriority(PRIO_PROCESS, 0, 3) == 0);
	setenv("GODEBUG", "gctrace=1,inittrace=1", 1);
	setenv("GOMAXPROCS", "1", 1);
	setenv("GOTRACEBACK", "crash", 1);
	check_that_all_is_kept();
}

TEST(host_keeps_all_that_is_its_own)
{
	host_run(ARGV("as_it_comes"));
	host_run(ARGV("with_its_own_of_all"));
}

/* What other threads change while the first call is under way is theirs. */

static atomic_bool started;

static void *set_handler(void *arg)
{
	struct sigaction sa = { .sa_handler = a_handler };

	while (!atomic_load(&started))
		continue;
	usleep(*(useconds_t *)arg);
	for (int sig = 1; sig < NSIG; sig++)
		if (sig != SIGSEGV && sig != SIGBUS)
			sigaction(sig, &sa, NULL);
	umask(0123);
	setenv("NR_TEST_VARIABLE", "set", 1);
	return NULL;
}

HOST(that_sets_handlers_during_the_first_call)
{
	useconds_t wait = (useconds_t)atoi(argv[1]);
	thread *t = thread_start(set_handler, &wait);

	atomic_store(&started, true);
	run(OPTIONS(.argv = PROG("exit", "0")));
	thread_join(t);
	for (int sig = 1; sig < NSIG; sig++) {
		struct sigaction sa;

		/* Go has handled them for a moment, and what they were is put back. */
		if (sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGPIPE ||
		    sig == SIGURG || sig == SIGKILL || sig == SIGSTOP ||
		    sigaction(sig, NULL, &sa) != 0)
			continue;
		CHECK(sa.sa_handler == a_handler, "signal %d", sig);
	}
	CHECK_EQ_INT(umask(0), 0123);
}

TEST(handlers_set_during_the_first_call_stay)
{
	for (int wait = 0; wait < 3000; wait += 100)
		host_run(
			ARGV("that_sets_handlers_during_the_first_call", check_format("%d", wait)));
}

/* What is added is what docs/hosting.md says. */
HOST(that_counts_what_is_added)
{
	struct fd_list before, now;
	size_t sockets = 0, events = 0, polls = 0;

	REQUIRE(proc_fds(0, &before));
	for (int i = 0; i < 20; i++)
		run(OPTIONS(.argv = PROG("exit", "0")));
	REQUIRE(proc_fds(0, &now));
	for (size_t i = 0; i < now.count; i++) {
		int fd = atoi(now.texts[i]);

		if (proc_fds_has(&before, now.texts[i]))
			continue;
		sockets += strstr(now.texts[i], "socket:") != NULL;
		events += strstr(now.texts[i], "[eventfd]") != NULL;
		polls += strstr(now.texts[i], "[eventpoll]") != NULL;
		CHECK(fd > 2, "%s", now.texts[i]);
		CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC, "%s", now.texts[i]);
	}
	CHECK_EQ_INT(now.count - before.count, 3);
	CHECK(sockets == 1 && events == 1 && polls == 1);
	proc_fds_free(&before);
	proc_fds_free(&now);
}

TEST(three_descriptors_are_added)
{
	host_run(ARGV("that_counts_what_is_added"));
}

/* Nor a shepherd that no program was found for. */
HOST(whose_first_call_fails)
{
	struct fd_list before, now;

	REQUIRE(proc_fds(0, &before));
	spawn_fails(OPTIONS(.argv = ARGV(NULL)), EINVAL, "argv");
	REQUIRE(proc_fds(0, &now));
	CHECK_EQ_INT(now.count - before.count, 2); /* eventfd, epoll */
	proc_fds_free(&before);
	proc_fds_free(&now);
}

TEST(first_call_that_fails_leaves_no_shepherd)
{
	host_run(ARGV("whose_first_call_fails"));
}

/* The host's own writes to a closed pipe. */

static atomic_int sigpipes;

static void count_sigpipe(int sig)
{
	(void)sig;
	atomic_fetch_add(&sigpipes, 1);
}

static int write_to_nobody(void)
{
	int ends[2];
	ssize_t n;

	REQUIRE(pipe(ends) == 0);
	close(ends[0]);
	n = write(ends[1], "x", 1);
	int error = errno;
	close(ends[1]);
	CHECK_EQ_INT(n, -1);
	return error;
}

static void *write_in_thread(void *unused)
{
	int before = atomic_load(&sigpipes);

	run(OPTIONS(.argv = PROG("exit", "0")));
	CHECK_EQ_INT(write_to_nobody(), EPIPE);
	CHECK_EQ_INT(atomic_load(&sigpipes), before + 1);
	return unused;
}

/* nr_write() to a program that is gone raises nothing, the host's own does. */
HOST(that_writes_to_nobody)
{
	struct sigaction sa = { .sa_handler = count_sigpipe };
	nr_proc p = spawn(OPTIONS(.argv = PROG("exit", "0")));

	sigaction(SIGPIPE, &sa, NULL);
	wait_end(p);
	EVENTUALLY(nr_write(p, "x", 1) == -EPIPE);
	CHECK_EQ_INT(atomic_load(&sigpipes), 0);
	release(p);
	CHECK_EQ_INT(write_to_nobody(), EPIPE);
	CHECK_EQ_INT(atomic_load(&sigpipes), 1);
	thread_join(thread_start(write_in_thread, NULL));
	CHECK_EQ_INT(atomic_load(&sigpipes), 2);
	signal(SIGPIPE, SIG_IGN);
	run(OPTIONS(.argv = PROG("exit", "0")));
	CHECK_EQ_INT(write_to_nobody(), EPIPE);
	signal(SIGPIPE, SIG_DFL);
	run(OPTIONS(.argv = PROG("exit", "0")));
	write_to_nobody();
	CHECK(false, "survived SIGPIPE");
}

TEST(hosts_own_writes_raise_sigpipe)
{
	struct host *h = host_start(ARGV("that_writes_to_nobody"));

	CHECK_EQ_INT(host_end(h), SIGPIPE);
}

/* atexit(3) */

static char order[16];

static void note_exit(const char *who)
{
	strcat(order, who);
}

static void exit_first_registered(void)
{
	note_exit("a");
	if (strcmp(order, "cba") != 0)
		_exit(9);
	_exit(3);
}

/* The library works to the end. */
static void exit_with_calls(void)
{
	nr_outcome how = { .size = sizeof how };
	const char *argv[] = { "/bin/sh", "-c", "exit 5", NULL };
	nr_proc p = nr_spawn(&(nr_options){ .size = sizeof(nr_options), .argv = argv }, NULL, 0);

	if (p < 0 || nr_wait(p, -1, &how) != 0 || how.code != 5 || nr_release(p) != 0)
		_exit(8);
	note_exit("b");
}

static void exit_last_registered(void)
{
	note_exit("c");
}

HOST(with_exit_handlers)
{
	atexit(exit_first_registered);
	if (strcmp(argv[1], "before") == 0)
		run(OPTIONS(.argv = PROG("exit", "0")));
	atexit(exit_with_calls);
	run(OPTIONS(.argv = PROG("exit", "0")));
	atexit(exit_last_registered);
	exit(0);
}

TEST(exit_handlers_run_in_order_and_may_call)
{
	static const char *const when[] = { "before", "between" };

	for (size_t i = 0; i < COUNT_OF(when); i++) {
		struct host *h = host_start(ARGV("with_exit_handlers", when[i]));

		CHECK_EQ_INT(host_end(h), 3 << 8, "%s", when[i]);
	}
}

/* Limits under which a Go program would die. */

static void spawn_or_not(void)
{
	char why[256];
	int spawned = 0;

	for (int i = 0; i < 3; i++) {
		nr_proc p = nr_spawn(OPTIONS(.argv = PROG("exit", "0"), .out = DEV_NULL), why,
				     sizeof why);

		if (p < 0) {
			CHECK(*why, "%s", nr_errname((int)p));
			continue;
		}
		spawned++;
		nr_wait(p, -1, NULL);
		nr_release(p);
	}
	tell("%d", spawned);
}

HOST(with_little_address_space)
{
	uint64_t size = strtoull(argv[1], NULL, 10) << 20;

	REQUIRE(setrlimit(RLIMIT_AS, &(struct rlimit){ size, size }) == 0);
	spawn_or_not();
}

TEST(little_address_space_is_an_error)
{
#ifdef __SANITIZE_ADDRESS__
	SKIP("AddressSanitizer itself needs terabytes of it");
#endif
	int last = 0;

	for (int size = 100; size <= 4000; size += 150) {
		struct host *h =
			host_start(ARGV("with_little_address_space", check_format("%d", size)));

		last = atoi(host_line(h));
		CHECK_EQ_INT(host_end(h), 0, "%d MiB", size);
	}
	CHECK_EQ_INT(last, 3, "with 4000 MiB");
}

/* root is not limited. */
static void become_nobody(void)
{
	if (geteuid() == 0)
		REQUIRE(setgid(65534) == 0 && setuid(65534) == 0);
}

HOST(with_few_processes)
{
	rlim_t most = strtoul(argv[1], NULL, 10);

	become_nobody();
	REQUIRE(setrlimit(RLIMIT_NPROC, &(struct rlimit){ most, most }) == 0);
	spawn_or_not();
	_exit(check_has_failed()); /* LeakSanitizer needs one more */
}

static void require_that_nobody_may_execute(void)
{
	char path[4096];
	struct stat st;

	if (geteuid() != 0)
		return;
	snprintf(path, sizeof path, "%s", testprog());
	for (char *slash; (slash = strrchr(path, '/')) && slash != path;) {
		*slash = '\0';
		if (stat(path, &st) != 0 || !(st.st_mode & S_IXOTH))
			SKIP("%s is not accessible for others", path);
	}
}

TEST(few_processes_are_an_error)
{
	require_that_nobody_may_execute();
	for (int most = 1; most <= 64; most += most < 20 ? 1 : 11) {
		struct host *h = host_start(ARGV("with_few_processes", check_format("%d", most)));

		atoi(host_line(h));
		CHECK_EQ_INT(host_end(h), 0, "%d processes", most);
	}
}

/* No process can be had any more, in the middle of work. */

static atomic_bool enough;

static void *work_on(void *arg)
{
	nr_proc shared = *(nr_proc *)arg;
	char why[256];

	while (!atomic_load(&enough)) {
		nr_proc p = nr_spawn(OPTIONS(.argv = PROG("exit", "0"), .out = DEV_NULL), why,
				     sizeof why);

		if (p > 0) {
			nr_wait(p, -1, NULL);
			nr_release(p);
		}
		for (int i = 0; i < 50; i++) {
			CHECK_EQ_INT(nr_wait(shared, 0, NULL), -EAGAIN);
			CHECK_EQ_INT(nr_kill(shared, 0), 0);
		}
	}
	return NULL;
}

HOST(that_runs_out_of_processes)
{
	thread *threads[6];
	nr_proc p;

	become_nobody();
	p = spawn(OPTIONS(.argv = PROG("pause")));
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		threads[i] = thread_start(work_on, &p);
	REQUIRE(setrlimit(RLIMIT_NPROC, &(struct rlimit){ 1, 1 }) == 0);
	usleep(700 * 1000);
	atomic_store(&enough, true);
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		thread_join(threads[i]);
	release(p);
	_exit(check_has_failed());
}

TEST(running_out_of_processes_does_not_end_the_host)
{
	require_that_nobody_may_execute();
	for (int i = 0; i < 3; i++)
		host_run(ARGV("that_runs_out_of_processes"));
}

/* Why a shepherd can't be started is told by nr_spawn(), and nowhere else. */

HOST(with_a_shepherd)
{
	char why[512];
	nr_proc p =
		nr_spawn(OPTIONS(.argv = PROG("exit", "0"), .shepherd = argv[1]), why, sizeof why);

	tell("%s", p < 0 ? why : "it works");
	_exit(p < 0 ? 0 : 1);
}

TEST(shepherd_that_cannot_start_writes_nothing)
{
	const char *script = "#!/bin/sh\necho out\necho err >&2\nexec cat /nonexistent\n";
	const char *const shepherds[] = { "/nonexistent",
					  "/",
					  scratch_file("empty", "", 0755),
					  scratch_file("text", "no program\n", 0755),
					  scratch_file("unexecutable", script, 0644),
					  scratch_file("script", script, 0755),
					  testprog(),
					  "/bin/false" };
	const char *file = scratch_file("stderr", "", 0600);
	int fd = open_file(file, O_WRONLY | O_APPEND);
	const char *lines[COUNT_OF(shepherds)];
	struct buffer written = { 0 };
	int statuses[COUNT_OF(shepherds)];
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);

	close_later(saved);
	REQUIRE(dup2(fd, STDERR_FILENO) == STDERR_FILENO);
	for (size_t i = 0; i < COUNT_OF(shepherds); i++) {
		struct host *h = host_start(ARGV("with_a_shepherd", shepherds[i]));

		lines[i] = host_line(h);
		statuses[i] = host_end(h);
	}
	/* One that is one, and may not start what it needs. */
	for (int most = 14; most < 24; most += 3)
		host_end(host_start(ARGV("with_few_processes", check_format("%d", most))));
	REQUIRE(dup2(saved, STDERR_FILENO) == STDERR_FILENO);
	for (size_t i = 0; i < COUNT_OF(shepherds); i++) {
		CHECK_EQ_INT(statuses[i], 0, "%s: %s", shepherds[i], lines[i]);
		CHECK_CONTAINS(lines[i], shepherds[i]);
	}
	buffer_read_file(&written, file);
	CHECK_STR(written.data, "");
}
