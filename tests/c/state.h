/* SPDX-License-Identifier: Apache-2.0 */

/*
 * state.h - all that can be seen of a process from inside, to compare before
 * and after.
 */

#ifndef STATE_H
#define STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "support.h"

/* Lines "KEY VALUE". Of the calling thread where threads have their own. */
struct state {
	struct buffer text;
};

struct state *state_now(void);

/*
 * state_check notes each line that is different now. SIGSEGV and SIGBUS are
 * Go's after the first spawn, as docs/hosting.md says.
 */
void state_check(const struct state *before, bool started, const char *when);

/* The threads of this process. */
struct task {
	pid_t id;
	uint64_t blocked; /* bit N-1: signal N */
};

struct tasks {
	size_t count;
	struct task all[512];
};

struct tasks *tasks_now(void);
const struct task *tasks_find(const struct tasks *t, pid_t id);

/*
 * tasks_check_strangers checks that every thread that was not there before, and
 * is none of the host's, blocks all signals but those of a fault.
 * Returns how many there are.
 */
size_t tasks_check_strangers(const struct tasks *before, const char *when);

#endif /* STATE_H */
