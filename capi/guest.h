/* SPDX-License-Identifier: Apache-2.0 */

/*
 * guest - the Go runtime as a guest in a host process.
 *
 * Loading the library starts nothing. The first call that needs Go starts the
 * runtime, with our own arguments, with signals blocked, and with everything
 * that it changes in the process put back. Every thread of the runtime, and
 * every thread of the host while it is inside Go, has the asynchronous signals
 * blocked, so that the host's handlers never run on a goroutine's stack.
 * docs/hosting.md has the list, docs/decisions/0001-late-start.md the reasons.
 */

#ifndef NR_GUEST_H
#define NR_GUEST_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * The process id of the host, in a page that the kernel wipes in a forked
 * child (MADV_WIPEONFORK); also in one by raw clone(2), where no handler of
 * pthread_atfork(3) runs. Zero before the first start, too.
 */
extern _Atomic(int) *_Atomic nr_guest_owner;

/*
 * nr_guest_start makes sure that the runtime runs: 0, or -ECHILD in a forked
 * child, or -ENOMEM or -EAGAIN where Go would abort the process for lack of
 * address space or threads. Who starts it calls beside first, for what takes its
 * time elsewhere; a fork of the host is then noticed.
 */
int nr_guest_start(void (*beside)(void *), void *argument);

/*
 * nr_guest_refusal tells a forked child, -ECHILD, from no handle at all, -EBADF, and
 * from a start that has just begun, 0.
 */
int nr_guest_refusal(void);

/* nr_guest_check is for calls that take a handle and may not need Go. */
static inline int nr_guest_check(void)
{
	_Atomic(int) *owner = atomic_load_explicit(&nr_guest_owner, memory_order_acquire);
	return __builtin_expect(atomic_load_explicit(owner, memory_order_relaxed) != 0, 1)
		       ? 0
		       : nr_guest_refusal();
}

/*
 * Around every call of a function nrg_...: the asynchronous signals are blocked,
 * pthread_cancel(3) waits, and faults in Go have Go's signal stack, which the
 * thread does not keep: a handler of the host's is not to run on it.
 */
struct nr_crossing {
	sigset_t mask;
	stack_t stack;
	int cancel_state;
};

void nr_guest_enter_go(struct nr_crossing *c);
void nr_guest_leave_go(const struct nr_crossing *c);

#define NR_GO(result, call)                    \
	do {                                   \
		struct nr_crossing crossing_;  \
		nr_guest_enter_go(&crossing_); \
		(result) = (call);             \
		nr_guest_leave_go(&crossing_); \
	} while (0)

/*
 * A Go runtime's monitor thread wakes up every 20 us while anything happens. It
 * needn't: with this timer slack, in ns, it comes later. The other threads get that
 * of the host back.
 */
enum { NR_RUNTIME_SLACK = 10000000 };

/* nr_guest_timer_slack is that of the calling thread, in ns; 0: it can't be told. */
long nr_guest_timer_slack(void);

/*
 * nr_guest_file_limit is RLIMIT_NOFILE as it was before the start of the
 * runtime, which raises it. For the runtime's own initialisation.
 */
bool nr_guest_file_limit(uint64_t *soft, uint64_t *hard);

#endif
