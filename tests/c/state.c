/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include "state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <locale.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

extern char **environ;

static void note(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void note(struct buffer *b, const char *format, ...)
{
	char line[8192];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof line - 1, format, args);
	va_end(args);
	for (char *c = line; *c; c++)
		if (*c == '\n')
			*c = ' ';
	strcat(line, "\n");
	buffer_append(b, line, strlen(line));
}

/* The kernel's, because libc hides 32 and 33. */
struct kernel_sigaction {
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

#define RESTORER 0x04000000ul /* libc sets it for itself */

#define BIT(sig) (UINT64_C(1) << ((sig)-1))
/* libc's own among threads, which sets them when it needs them. */
#define LIBCS (BIT(32) | BIT(33))
/* Go's, see docs/hosting.md. */
#define GOS (BIT(SIGSEGV) | BIT(SIGBUS))

static void note_signals(struct buffer *b)
{
	uint64_t mask;
	stack_t stack;

	for (int sig = 1; sig <= 64; sig++) {
		struct kernel_sigaction sa = { 0 };

		if (LIBCS & BIT(sig))
			continue;
		syscall(SYS_rt_sigaction, sig, NULL, &sa, sizeof sa.mask);
		sa.flags &= ~RESTORER;
		note(b, "signal-%d handler %p flags %#lx mask %#" PRIx64, sig, sa.handler, sa.flags,
		     sa.mask);
	}
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof mask);
	note(b, "mask %#" PRIx64, mask);
	sigaltstack(NULL, &stack);
	note(b, "stack %p %zu %d", stack.ss_sp, stack.ss_size, stack.ss_flags);
}

/* Of /proc/self/status, what is nobody's business but the process' own. */
static void note_status(struct buffer *b)
{
	/* Not FDSize: a table that has grown for a moment does not shrink. */
	static const char *const keys[] = {
		"Name:",   "Umask:",  "Tgid:",   "PPid:",   "TracerPid:", "Uid:",    "Gid:",
		"Groups:", "NSpid:",  "NSpgid:", "NSsid:",  "SigPnd:",    "ShdPnd:", "SigBlk:",
		"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:",    "NoNew",   "Seccomp",
		"Specul",  "THP_",    "Cpus_",   "Mems_",   "VmLck:",     "VmPin:",  "CoreDum",
	};
	char line[4096];
	FILE *f = fopen("/proc/thread-self/status", "re");

	REQUIRE(f);
	while (fgets(line, sizeof line, f)) {
		uint64_t signals;

		for (size_t i = 0; i < COUNT_OF(keys); i++)
			if (strncmp(line, keys[i], strlen(keys[i])) == 0)
				note(b, "status-%s", line);
		if (sscanf(line, "SigIgn: %" SCNx64, &signals) == 1)
			note(b, "ignored %#" PRIx64, signals & ~LIBCS);
		if (sscanf(line, "SigCgt: %" SCNx64, &signals) == 1)
			note(b, "caught %#" PRIx64, signals & ~LIBCS & ~GOS);
	}
	fclose(f);
}

static void note_files(struct buffer *b)
{
	static const char *const names[] = { "oom_score_adj", "timerslack_ns", "personality",
					     "autogroup",     "loginuid",      "coredump_filter",
					     "limits",        "timers",        "comm",
					     "cgroup" };
	static const char *const links[] = { "cwd",    "root",   "exe",    "ns/mnt",
					     "ns/net", "ns/pid", "ns/user" };
	char text[4096];

	for (size_t i = 0; i < COUNT_OF(names); i++) {
		int fd = open(check_format("/proc/self/%s", names[i]), O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

		text[n > 0 ? n : 0] = '\0';
		note(b, "%s %s", names[i], text);
		if (fd >= 0)
			close(fd);
	}
	for (size_t i = 0; i < COUNT_OF(links); i++) {
		ssize_t n =
			readlink(check_format("/proc/self/%s", links[i]), text, sizeof text - 1);

		text[n > 0 ? n : 0] = '\0';
		note(b, "%s %s", links[i], text);
	}
	for (int fd = 0; fd < 3; fd++) {
		struct stat st = { 0 };

		fstat(fd, &st);
		note(b, "fd-%d flags %#x %#x file %" PRIu64 " owner %d signal %d", fd,
		     fcntl(fd, F_GETFL), fcntl(fd, F_GETFD), (uint64_t)st.st_ino,
		     fcntl(fd, F_GETOWN), fcntl(fd, F_GETSIG));
	}
}

static void note_settings(struct buffer *b)
{
	static const struct {
		const char *name;
		int get;
	} settings[] = { { "dumpable", PR_GET_DUMPABLE },     { "keepcaps", PR_GET_KEEPCAPS },
			 { "timerslack", PR_GET_TIMERSLACK }, { "securebits", PR_GET_SECUREBITS },
			 { "no-thp", PR_GET_THP_DISABLE },    { "io-flusher", PR_GET_IO_FLUSHER } };
	static const int sets[] = { PR_GET_PDEATHSIG, PR_GET_CHILD_SUBREAPER };
	struct sched_param priority = { 0 };
	cpu_set_t cpus;
	char name[17] = "";
	mode_t mode = umask(0);
	int state, type, mcekill;

	umask(mode);
	note(b, "umask %#o", mode);
	for (size_t i = 0; i < COUNT_OF(settings); i++)
		note(b, "%s %d", settings[i].name, prctl(settings[i].get, 0, 0, 0, 0));
	for (size_t i = 0; i < COUNT_OF(sets); i++) {
		int value = -1;

		prctl(sets[i], &value, 0, 0, 0);
		note(b, "prctl-%d %d", sets[i], value);
	}
	mcekill = prctl(PR_MCE_KILL_GET, 0, 0, 0, 0);
	prctl(PR_GET_NAME, name);
	note(b, "name %s", name);
	note(b, "machine-check %d", mcekill);
	for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
		struct itimerval v;

		getitimer(which, &v);
		note(b, "itimer-%d %d %ld", which, v.it_value.tv_sec || v.it_value.tv_usec,
		     (long)v.it_interval.tv_sec);
	}
	errno = 0;
	note(b, "nice %d", getpriority(PRIO_PROCESS, 0));
	sched_getparam(0, &priority);
	note(b, "scheduler %d %d", sched_getscheduler(0), priority.sched_priority);
	note(b, "ioprio %ld", syscall(SYS_ioprio_get, 1, 0));
	CPU_ZERO(&cpus);
	sched_getaffinity(0, sizeof cpus, &cpus);
	note(b, "cpus %d", CPU_COUNT(&cpus));
	for (int i = 0; i < (int)RLIM_NLIMITS; i++) {
		struct rlimit limit = { 0 };

		getrlimit(i, &limit);
		note(b, "limit-%d %#" PRIx64 " %#" PRIx64, i, (uint64_t)limit.rlim_cur,
		     (uint64_t)limit.rlim_max);
	}
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
	pthread_setcancelstate(state, NULL);
	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
	pthread_setcanceltype(type, NULL);
	note(b, "cancel %d %d", state, type);
	note(b, "locale %s", setlocale(LC_ALL, NULL));
	note(b, "group %d session %d", getpgrp(), getsid(0));
	for (char **e = environ; *e; e++)
		note(b, "env %p %s", (void *)*e, *e);
}

struct state *state_now(void)
{
	struct state *s = check_alloc(sizeof *s);

	note_signals(&s->text);
	note_status(&s->text);
	note_files(&s->text);
	note_settings(&s->text);
	return s;
}

void state_check(const struct state *before, bool started, const char *when)
{
	struct state *now = state_now();
	const char *a = before->text.data;
	const char *b = now->text.data;

	while (*a && *b) {
		size_t a_len = strcspn(a, "\n");
		size_t b_len = strcspn(b, "\n");
		bool gos = started && (strncmp(a, check_format("signal-%d ", SIGSEGV), 10) == 0 ||
				       strncmp(a, check_format("signal-%d ", SIGBUS), 9) == 0);

		if (!gos)
			CHECK(a_len == b_len && memcmp(a, b, a_len) == 0, "%s: %.*s became %.*s",
			      when, (int)a_len, a, (int)b_len, b);
		a += a_len + 1;
		b += b_len + 1;
	}
	CHECK(!*a && !*b, "%s: lines were added or removed", when);
}

/* Threads. */

struct tasks *tasks_now(void)
{
	struct tasks *t = check_alloc(sizeof *t);
	DIR *d = opendir("/proc/self/task");
	struct dirent *entry;

	REQUIRE(d);
	while ((entry = readdir(d))) {
		struct task *one = &t->all[t->count];
		char line[4096];
		FILE *f;

		if (*entry->d_name == '.')
			continue;
		REQUIRE(t->count < COUNT_OF(t->all));
		f = fopen(check_format("/proc/self/task/%s/status", entry->d_name), "re");
		if (!f)
			continue; /* it has just ended */
		one->id = atoi(entry->d_name);
		while (fgets(line, sizeof line, f))
			if (sscanf(line, "SigBlk: %" SCNx64, &one->blocked) == 1)
				t->count++;
		fclose(f);
	}
	closedir(d);
	return t;
}

const struct task *tasks_find(const struct tasks *t, pid_t id)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->all[i].id == id)
			return &t->all[i];
	return NULL;
}

size_t tasks_check_strangers(const struct tasks *before, const char *when)
{
	/* All but those that can't be blocked and those of a fault. */
	const uint64_t wanted = ~(BIT(SIGKILL) | BIT(SIGSTOP) | BIT(SIGSEGV) | BIT(SIGBUS) |
				  BIT(SIGFPE) | BIT(SIGILL) | BIT(SIGTRAP) | LIBCS);
	struct tasks *now = tasks_now();
	size_t strangers = 0;

	for (size_t i = 0; i < now->count; i++) {
		const struct task *t = &now->all[i];

		if (tasks_find(before, t->id))
			continue;
		strangers++;
		CHECK((t->blocked & wanted) == wanted, "%s: thread %d does not block %#" PRIx64,
		      when, t->id, wanted & ~t->blocked);
	}
	return strangers;
}
