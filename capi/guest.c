/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "_cgo_export.h"
#include "table.h"

extern char **environ;

/*
 * What Go's linker puts into .init_array to have the runtime started by the
 * dynamic linker. The build renames that section, so that nothing runs at load
 * time and the first call can do it (see the Makefile).
 */
typedef void (*init_function)(int argc, char **argv, char **envp);
extern const init_function __start_nr_go_init[] __attribute__((visibility("hidden")));
extern const init_function __stop_nr_go_init[] __attribute__((visibility("hidden")));

/*
 * runtime.sigtable, made global by the build. Go unblocks SIGSTKFLT, SIGCHLD,
 * SIGPROF and signal 34 on each of its threads, whatever mask it was started
 * with: it would run the host's handlers on them, and so
 * takes SIGCHLD away from hosts that block it to read it from a signalfd
 * (golang/go#55066). There is no setting for that.
 */
struct go_signal {
	int32_t flags;
	const char *name;
	intptr_t name_length;
};
enum { GO_SIGNAL_UNBLOCK = 1 << 7 };
extern struct go_signal go_sigtable[65] __asm__("runtime.sigtable")
	__attribute__((visibility("hidden")));

static void keep_signals_blocked(void)
{
	static const struct {
		int number;
		const char *name;
	} unblocked[] = {
		{ 16, "SIGSTKFLT: stack fault" },
		{ 17, "SIGCHLD: child status has changed" },
		{ 27, "SIGPROF: profiling alarm clock" },
		{ 34, "signal 34" },
	};
	/* Every entry must be what we know, or the table is not. */
	for (size_t i = 0; i < sizeof unblocked / sizeof *unblocked; i++) {
		const struct go_signal *s = &go_sigtable[unblocked[i].number];
		size_t length = strlen(unblocked[i].name);
		if (!(s->flags & GO_SIGNAL_UNBLOCK) || s->name_length != (intptr_t)length ||
		    memcmp(s->name, unblocked[i].name, length) != 0)
			return;
	}
	for (size_t i = 0; i < sizeof unblocked / sizeof *unblocked; i++)
		go_sigtable[unblocked[i].number].flags &= ~GO_SIGNAL_UNBLOCK;
}

/* Starting, and what a forked child sees of it. */
enum { NOT_STARTED, STARTING, RUNNING };
static _Atomic int state;
static _Atomic(int) nobody; /* before the first start */
_Atomic(int) *_Atomic nr_guest_owner = &nobody;

static sigset_t asynchronous; /* all signals but those that a fault raises */

static struct rlimit file_limit;
static bool file_limit_known;

bool nr_guest_file_limit(uint64_t *soft, uint64_t *hard)
{
	*soft = file_limit.rlim_cur;
	*hard = file_limit.rlim_max;
	return file_limit_known;
}

/*
 * The signal stack that Go has made for this thread, which had none at its
 * first crossing, and will use until the thread ends.
 */
static _Thread_local stack_t go_stack;

void nr_guest_enter_go(struct nr_crossing *c)
{
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &c->cancel_state);
	pthread_sigmask(SIG_BLOCK, &asynchronous, &c->mask);
	sigaltstack(go_stack.ss_sp ? &go_stack : NULL, &c->stack);
}

void nr_guest_leave_go(const struct nr_crossing *c)
{
	if (go_stack.ss_sp || c->stack.ss_flags & SS_DISABLE)
		sigaltstack(&c->stack, go_stack.ss_sp ? NULL : &go_stack);
	pthread_sigmask(SIG_SETMASK, &c->mask, NULL);
	pthread_setcancelstate(c->cancel_state, NULL);
}

int nr_guest_refusal(void)
{
	if (atomic_load(&state) == NOT_STARTED)
		return -EBADF;
	/* Since the caller looked another thread may have begun to start. */
	return atomic_load(atomic_load(&nr_guest_owner)) != 0 ? 0 : -ECHILD;
}

/* The host's settings for Go are for the host's Go. */
static bool is_go_setting(const char *variable)
{
	static const char *const names[] = { "GODEBUG=",     "GOGC=",       "GOMAXPROCS=",
					     "GOTRACEBACK=", "GOMEMLIMIT=", "GORACE=" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strncmp(variable, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

/*
 * go_arguments lays out arguments, environment and auxiliary vector as the
 * kernel would. Go keeps pointers into it for ever.
 *
 * asyncpreemptoff: Go's SIGURG would reach the host's threads. The other two
 * keep the runtime from holding cgroup files open.
 */
static char **go_arguments(void)
{
	static const unsigned long tags[] = { AT_PAGESZ, AT_RANDOM, AT_SYSINFO_EHDR,
					      AT_HWCAP,  AT_HWCAP2, AT_SECURE };
	size_t n = 0;
	while (environ && environ[n])
		n++;
	char **block = calloc(n + 2 * (sizeof tags / sizeof *tags) + 8, sizeof *block);
	if (!block)
		return NULL;
	char **p = block;
	*p++ = (char *)"libnetrunner";
	*p++ = NULL;
	*p++ = (char *)"GODEBUG=asyncpreemptoff=1,containermaxprocs=0,updatemaxprocs=0";
	for (size_t i = 0; i < n; i++) {
		char *copy = is_go_setting(environ[i]) ? NULL : strdup(environ[i]);
		if (copy)
			*p++ = copy;
	}
	*p++ = NULL;
	for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
		*p++ = (char *)(uintptr_t)tags[i];
		*p++ = (char *)(uintptr_t)getauxval(tags[i]);
	}
	*p++ = (char *)(uintptr_t)AT_NULL;
	*p++ = NULL;
	return block;
}

/*
 * Go aborts the process when it can't reserve address space or start a thread.
 * probe finds that out before. All threads are made at the start: six of the
 * runtime, and nrg_started's.
 */
static pthread_mutex_t probe_gate = PTHREAD_MUTEX_INITIALIZER;

static void *probe_thread(void *unused)
{
	pthread_mutex_lock(&probe_gate);
	pthread_mutex_unlock(&probe_gate);
	return unused;
}

static int probe(void)
{
	enum { THREADS = 6 + NRG_SPARE_THREADS };
	/* The runtime's 1 GiB, and what malloc(3) reserves for a thread. */
	const size_t arena = ((size_t)1 << 30) + THREADS * ((size_t)96 << 20);
	void *p = mmap(NULL, arena, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	pthread_t threads[THREADS];
	int n = 0;
	pthread_mutex_lock(&probe_gate);
	while (n < THREADS && pthread_create(&threads[n], NULL, probe_thread, NULL) == 0)
		n++;
	pthread_mutex_unlock(&probe_gate);
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	munmap(p, arena);
	return n == THREADS ? 0 : -EAGAIN;
}

/*
 * Go keeps SIGSEGV and SIGBUS, and hands on those that are not its own. It also
 * keeps SA_ONSTACK on 32 and 33, which libc uses among its threads and hides
 * from sigaction(3): setuid(3) in the host interrupts our threads, too.
 */
static bool same_action(const struct sigaction *a, const struct sigaction *b)
{
	return a->sa_handler == b->sa_handler && a->sa_flags == b->sa_flags;
}

/* The kernel's long, for which libc's prctl(3) has only an int. 0: it can't be told. */
long nr_guest_timer_slack(void)
{
	long slack = syscall(SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0);
	return slack > 0 ? slack : 0;
}

static int start_go(void)
{
	static struct sigaction before[NSIG]; /* stacks may be small */
	struct sigaction now, gos;
	sigset_t all, saved;
	char **arguments = go_arguments();
	if (!arguments)
		return -ENOMEM;

	/* The runtime's threads inherit this mask, and keep it. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	for (int s = 1; s < NSIG; s++)
		sigaction(s, NULL, &before[s]);
	file_limit_known = getrlimit(RLIMIT_NOFILE, &file_limit) == 0;
	keep_signals_blocked();

	long slack = nr_guest_timer_slack();
	if (slack > 0)
		prctl(PR_SET_TIMERSLACK, (unsigned long)NR_RUNTIME_SLACK, 0, 0, 0);
	for (const init_function *f = __start_nr_go_init; f < __stop_nr_go_init; f++)
		(*f)(1, arguments, arguments + 2);
	if (slack > 0)
		prctl(PR_SET_TIMERSLACK, (unsigned long)slack, 0, 0, 0);
	struct nr_crossing crossing;
	nr_guest_enter_go(&crossing);
	nrg_started(slack); /* waits until it has */
	nr_guest_leave_go(&crossing);

	/* What another thread of the host has set meanwhile is the host's. */
	sigaction(SIGSEGV, NULL, &gos);
	for (int s = 1; s < NSIG; s++)
		if (s != SIGSEGV && s != SIGBUS && sigaction(s, NULL, &now) == 0 &&
		    !same_action(&now, &before[s]) &&
		    (now.sa_handler == gos.sa_handler || now.sa_handler == before[s].sa_handler))
			sigaction(s, &before[s], NULL);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	return 0;
}

static int map_owner(void)
{
	if (atomic_load(&nr_guest_owner) != &nobody)
		return 0;
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return -ENOMEM;
	_Atomic(int) *expected = &nobody;
	if (madvise(page, size, MADV_WIPEONFORK) != 0) {
		munmap(page, size);
		return -ENOSYS;
	}
	if (!atomic_compare_exchange_strong(&nr_guest_owner, &expected, (_Atomic(int) *)page))
		munmap(page, size);
	return 0;
}

int nr_guest_start(void (*beside)(void *), void *argument)
{
	for (;;) {
		int seen = atomic_load_explicit(&state, memory_order_acquire);
		if (seen != NOT_STARTED) {
			if (atomic_load(atomic_load(&nr_guest_owner)) == 0)
				return -ECHILD; /* forked after the runtime began to start */
			if (seen == RUNNING)
				return 0;
			sched_yield();
			continue;
		}
		int error = map_owner();
		if (error)
			return error;
		/* Before the exchange: a child forked after that must see a wiped page. */
		atomic_store(atomic_load(&nr_guest_owner), getpid());
		if (!atomic_compare_exchange_strong(&state, &seen, STARTING))
			continue;
		sigset_t all, saved;
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &saved);
		sigfillset(&asynchronous);
		static const int synchronous[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
		for (size_t i = 0; i < sizeof synchronous / sizeof *synchronous; i++)
			sigdelset(&asynchronous, synchronous[i]);
		error = nr_table_at_fork();
		if (!error) {
			beside(argument);
			error = probe();
		}
		if (!error)
			error = start_go();
		pthread_sigmask(SIG_SETMASK, &saved, NULL);
		atomic_store_explicit(&state, error ? NOT_STARTED : RUNNING, memory_order_release);
		return error;
	}
}
