/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include "launch.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../include/netrunner.h"
#include "guest.h"
#include "table.h"

#define SHEPHERD "netrunner-shepherd"

static int fail(int error, char *why, size_t whylen, const char *format, ...)
{
	if (why && whylen > 0) {
		va_list arguments;
		va_start(arguments, format);
		vsnprintf(why, whylen, format, arguments);
		va_end(arguments);
	}
	return error;
}

static char *own_directory;

/*
 * find_own_directory tells where the file is that this code is in; it stays NULL
 * when that is unknown. For dladdr(3) a program that it is linked into has the
 * name argv[0], which may not be a path, or none.
 */
static void find_own_directory(void)
{
	Dl_info self, program;
	char *path; /* not on the stack, which may be small */

	if (dladdr((void *)(uintptr_t)find_own_directory, &self) &&
	    !(dladdr((void *)(uintptr_t)getauxval(AT_ENTRY), &program) &&
	      program.dli_fbase == self.dli_fbase))
		path = realpath(self.dli_fname, NULL);
	else
		path = realpath("/proc/self/exe", NULL);
	if (path)
		*strrchr(path, '/') = '\0';
	own_directory = path;
}

int nr_shepherd_path(const char *wanted, char *path, size_t size, char *why, size_t whylen)
{
	if (!wanted)
		wanted = secure_getenv("NETRUNNER_SHEPHERD");
	if (wanted && *wanted) {
		if ((size_t)snprintf(path, size, "%s", wanted) >= size)
			return fail(-ENOPKG, why, whylen, "the shepherd's path is too long");
		return 0;
	}

	/* By a function that thread checkers know. */
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, find_own_directory);
	const char *directory = own_directory;
	if (!directory)
		return fail(-ENOPKG, why, whylen,
			    SHEPHERD ": cannot tell where libnetrunner is; set NETRUNNER_SHEPHERD");
	static const char *const places[] = { "%s/" SHEPHERD, "%s/../libexec/netrunner/" SHEPHERD };
	/* Where it was found, plus one: whoever has found it need not look again. */
	static _Atomic size_t found;
	const size_t known = found;
	for (size_t i = known ? known - 1 : 0; i < sizeof places / sizeof *places; i++)
		if ((size_t)snprintf(path, size, places[i], directory) < size &&
		    (known || access(path, F_OK) == 0)) {
			found = i + 1;
			return 0;
		}
	return fail(-ENOPKG, why, whylen, SHEPHERD ": neither in %s nor in %s/../libexec/netrunner",
		    directory, directory);
}

/*
 * The children below run in the host's memory until each of them executes the
 * shepherd, as after vfork(2), so that the host's size does not matter.
 * They make system calls and touch nothing else.
 */
struct launch {
	const char *path;
	long slack; /* of the host's timers, in ns; 0: not known */
	char slack_argument[40];
	int null;
	int control;
	volatile int error;     /* of the step that failed, or 0 */
	volatile bool executed; /* it was the last, execve(2) */
	const char *volatile step;
	volatile pid_t guardian;
	char *stacks[2]; /* their ends: of guardian and shepherd */
	char shepherd[16];
};

enum { STACK = 16 << 10, CONTROL = 3 };

/* With one processor their runtimes start few threads: see prepareThreads in
 * shepherd/main_linux.go. */
static const char *const environment[] = { "GOMAXPROCS=1", NULL };

/*
 * ThreadSanitizer puts itself before clone(3). It takes the host for the child that
 * shares its memory, and later ends it when it makes a thread.
 */
#ifdef __GLIBC__
extern int __clone(int (*function)(void *), void *stack, int flags, void *argument, ...);
#define clone __clone
#endif

/* The kernel's, which is not libc's. All zero is SIG_DFL. */
struct kernel_sigaction {
	unsigned long words[4];
};

static int give_up(struct launch *l, const char *step)
{
	l->error = errno;
	l->step = step;
	syscall(SYS_exit, 127);
	return 127;
}

static void close_from(unsigned first)
{
	if (syscall(SYS_close_range, first, ~0U, 0) == 0)
		return;
	/* A seccomp filter that does not know it. */
	struct rlimit limit = { 1024, 1024 };
	getrlimit(RLIMIT_NOFILE, &limit);
	rlim_t end = limit.rlim_cur < 1 << 20 ? limit.rlim_cur : 1 << 20;
	for (rlim_t fd = first; fd < end; fd++)
		syscall(SYS_close, (int)fd);
}

__attribute__((no_sanitize("address", "undefined"))) static int execute(struct launch *l,
									const char *const argv[])
{
	static const uint64_t none;

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
	l->executed = true;
	syscall(SYS_execve, l->path, argv, environment);
	return give_up(l, "execve");
}

/* The third child, of the second: becomes the shepherd. */
__attribute__((no_sanitize("address", "undefined"))) static int become_shepherd(void *argument)
{
	struct launch *l = argument;
	const char *const argv[] = { SHEPHERD, l->slack_argument, NULL };

	/* Until it watches its guardian. */
	if (syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return give_up(l, "prctl PR_SET_PDEATHSIG");
	if (l->slack > 0)
		syscall(SYS_prctl, PR_SET_TIMERSLACK, NR_RUNTIME_SLACK, 0, 0, 0);
	return execute(l, argv);
}

/* Writes a number as text, which snprintf(3) must not do here. */
__attribute__((no_sanitize("address", "undefined"))) static char *decimal(char *end, pid_t number)
{
	for (*--end = '\0'; number > 0; number /= 10)
		*--end = (char)('0' + number % 10);
	return end;
}

/*
 * The second child: becomes the guardian. The shepherd is its child and is
 * executed first, so that both come up at the same time.
 */
__attribute__((no_sanitize("address", "undefined"))) static int become_guardian(void *argument)
{
	struct launch *l = argument;
	static const struct kernel_sigaction by_default;
	const uint64_t size = sizeof(uint64_t);

	/* Its own session: no terminal's signals, no job control. */
	if (syscall(SYS_setsid) < 0)
		return give_up(l, "setsid");
	/* Programs inherit ignored signals and the mask, through the shepherd. */
	for (int s = 1; s <= 64; s++)
		syscall(SYS_rt_sigaction, s, &by_default, NULL, size);
	/* Out of the way of what they become. */
	int null = (int)syscall(SYS_fcntl, l->null, F_DUPFD, CONTROL + 1);
	int control = (int)syscall(SYS_fcntl, l->control, F_DUPFD, CONTROL + 1);
	if (null < 0 || control < 0)
		return give_up(l, "fcntl F_DUPFD");
	for (int fd = 0; fd <= CONTROL; fd++)
		if (syscall(SYS_dup3, fd == CONTROL ? control : null, fd, 0) < 0)
			return give_up(l, "dup3");
	/* Whatever the host has open without close-on-exec stays the host's. */
	close_from(CONTROL + 1);
	if (syscall(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return give_up(l, "prctl PR_SET_CHILD_SUBREAPER");
	pid_t shepherd = clone(become_shepherd, l->stacks[1], CLONE_VM | CLONE_VFORK | SIGCHLD, l);
	if (shepherd < 0)
		return give_up(l, "clone");
	if (l->error)
		syscall(SYS_exit, 127);
	syscall(SYS_close, CONTROL);
	const char *const argv[] = { SHEPHERD, "--guardian",
				     decimal(l->shepherd + sizeof l->shepherd, shepherd), NULL };
	return execute(l, argv);
}

/* The first child: is the host's, makes the second one and ends, so that the
 * second one is not. */
__attribute__((no_sanitize("address", "undefined"))) static int orphan(void *argument)
{
	struct launch *l = argument;
	pid_t pid = clone(become_guardian, l->stacks[0], CLONE_VM | CLONE_VFORK | SIGCHLD, l);
	if (pid < 0)
		return give_up(l, "clone");
	l->guardian = pid;
	syscall(SYS_exit, 0);
	return 0;
}

static int launch(struct launch *l, char *why, size_t whylen)
{
	sigset_t all, saved;
	char *stacks = mmap(NULL, 3 * STACK, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stacks == MAP_FAILED)
		return fail(-errno, why, whylen, "mmap: %s", nr_strerror(errno));
	l->stacks[0] = stacks + 2 * STACK;
	l->stacks[1] = stacks + 3 * STACK;
	/* No handler of the host may run in the children. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	/* No signal at its end, and no zombie for a waitpid(2) of the host. */
	pid_t child = clone(orphan, stacks + STACK, CLONE_VM | CLONE_VFORK, l);
	int error = errno;
	if (child > 0)
		while (waitpid(child, NULL, __WALL) < 0 && errno == EINTR)
			continue;
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	munmap(stacks, 3 * STACK);
	if (child < 0)
		return fail(-error, why, whylen, "clone: %s", nr_strerror(error));
	/* Anything before execve(2) is a lack of resources, not of a shepherd. */
	if (l->error)
		return fail(l->executed ? -ENOPKG : -l->error, why, whylen, "%s %s: %s", l->step,
			    l->path, nr_strerror(l->error));
	return 0;
}

static int launch_now(const char *path, int *control, int *pidfd, char *why, size_t whylen)
{
	int pair[2];
	struct launch l = { .path = path, .slack = nr_guest_timer_slack() };
	snprintf(l.slack_argument, sizeof l.slack_argument, "--timer-slack=%ld", l.slack);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(-errno, why, whylen, "socketpair: %s", nr_strerror(errno));
	for (int i = 0; i < 2; i++) {
		/* A host that has closed 0, 1 or 2 may open them at any time. */
		int moved = pair[i] > 2 ? pair[i] : fcntl(pair[i], F_DUPFD_CLOEXEC, 3);
		if (moved != pair[i])
			close(pair[i]);
		pair[i] = moved;
	}
	l.null = open("/dev/null", O_RDWR | O_CLOEXEC);
	l.control = pair[1];
	int error;
	if (pair[0] < 0 || pair[1] < 0 || l.null < 0)
		error = fail(-errno, why, whylen, "open /dev/null: %s", nr_strerror(errno));
	else
		error = launch(&l, why, whylen);
	if (l.null >= 0)
		close(l.null);
	if (pair[1] >= 0)
		close(pair[1]);
	if (error) {
		if (pair[0] >= 0)
			close(pair[0]);
		return error;
	}
	*control = pair[0];
	nr_table_track(*control);
	*pidfd = (int)syscall(SYS_pidfd_open, l.guardian, 0);
	if (*pidfd >= 0)
		nr_table_track(*pidfd);
	return 0;
}

/* What a shepherd inherits, by which core.identity tells whether it is still of use. */
struct identity {
	uid_t uids[3];
	gid_t gids[3];
	int groups;
	gid_t group[64];
	int nice;
	struct rlimit limits[RLIM_NLIMITS];
};

static bool identify(struct identity *id)
{
	memset(id, 0, sizeof *id);
	for (int i = 0; i < RLIM_NLIMITS; i++)
		getrlimit(i, &id->limits[i]);
	id->nice = getpriority(PRIO_PROCESS, 0);
	id->groups = getgroups((int)(sizeof id->group / sizeof *id->group), id->group);
	return id->groups >= 0 && getresuid(&id->uids[0], &id->uids[1], &id->uids[2]) == 0 &&
	       getresgid(&id->gids[0], &id->gids[1], &id->gids[2]) == 0;
}

static struct {
	char *path; /* NULL: there is none */
	int control, pidfd;
	struct identity identity;
} ahead;

void nr_shepherd_launch_ahead(const char *path)
{
	if (ahead.path || !identify(&ahead.identity))
		return;
	char *copy = strdup(path);
	if (copy && launch_now(path, &ahead.control, &ahead.pidfd, NULL, 0) == 0)
		ahead.path = copy;
	else
		free(copy); /* nr_shepherd_launch() will tell */
}

void nr_shepherd_drop_ahead(void)
{
	if (!ahead.path)
		return;
	nr_table_close_tracked(ahead.control);
	if (ahead.pidfd >= 0)
		nr_table_close_tracked(ahead.pidfd);
	free(ahead.path);
	ahead.path = NULL;
}

int nr_shepherd_launch(const char *path, int *control, int *pidfd, char *why, size_t whylen)
{
	static struct identity now;
	if (ahead.path && strcmp(ahead.path, path) == 0 && identify(&now) &&
	    memcmp(&now, &ahead.identity, sizeof now) == 0) {
		*control = ahead.control;
		*pidfd = ahead.pidfd;
		free(ahead.path);
		ahead.path = NULL;
		return 0;
	}
	return launch_now(path, control, pidfd, why, whylen);
}
