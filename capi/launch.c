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
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../include/netrunner.h"

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
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		if ((size_t)snprintf(path, size, places[i], directory) < size &&
		    access(path, F_OK) == 0)
			return 0;
	return fail(-ENOPKG, why, whylen, SHEPHERD ": neither in %s nor in %s/../libexec/netrunner",
		    directory, directory);
}

/*
 * The children below run in the host's memory until the last of them executes
 * the shepherd, as after vfork(2), so that the host's size does not matter.
 * They make system calls and touch nothing else.
 */
struct launch {
	const char *path;
	int null;
	int control;
	volatile int error;     /* of the step that failed, or 0 */
	volatile bool executed; /* it was the last, execve(2) */
	const char *volatile step;
	volatile pid_t pid;
	char *stack; /* of the second child */
};

enum { STACK = 16 << 10, CONTROL = 3 };

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

/* The second child: becomes the shepherd. */
__attribute__((no_sanitize("address", "undefined"))) static int execute(void *argument)
{
	struct launch *l = argument;
	static const struct kernel_sigaction by_default;
	const uint64_t none = 0;
	const char *const argv[] = { SHEPHERD, "--guardian", NULL };
	const char *const envp[] = { NULL };

	/* Its own session: no terminal's signals, no job control. */
	if (syscall(SYS_setsid) < 0)
		return give_up(l, "setsid");
	/* Programs inherit ignored signals and the mask, through the shepherd. */
	for (int s = 1; s <= 64; s++)
		syscall(SYS_rt_sigaction, s, &by_default, NULL, sizeof none);
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
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
	l->executed = true;
	syscall(SYS_execve, l->path, argv, envp);
	return give_up(l, "execve");
}

/* The first child: is the host's, makes the second one and ends, so that the
 * second one is not. */
__attribute__((no_sanitize("address", "undefined"))) static int orphan(void *argument)
{
	struct launch *l = argument;
	pid_t pid = clone(execute, l->stack + STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, l);
	if (pid < 0)
		return give_up(l, "clone");
	l->pid = pid;
	syscall(SYS_exit, 0);
	return 0;
}

static int launch(struct launch *l, char *why, size_t whylen)
{
	sigset_t all, saved;
	char *stacks = mmap(NULL, 2 * STACK, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stacks == MAP_FAILED)
		return fail(-errno, why, whylen, "mmap: %s", nr_strerror(errno));
	l->stack = stacks + STACK;
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
	munmap(stacks, 2 * STACK);
	if (child < 0)
		return fail(-error, why, whylen, "clone: %s", nr_strerror(error));
	/* Anything before execve(2) is a lack of resources, not of a shepherd. */
	if (l->error)
		return fail(l->executed ? -ENOPKG : -l->error, why, whylen, "%s %s: %s", l->step,
			    l->path, nr_strerror(l->error));
	return 0;
}

int nr_shepherd_launch(const char *path, int *control, int *pidfd, char *why, size_t whylen)
{
	int pair[2];
	struct launch l = { .path = path };
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
	*pidfd = (int)syscall(SYS_pidfd_open, l.pid, 0);
	return 0;
}
