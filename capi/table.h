/* SPDX-License-Identifier: Apache-2.0 */

/*
 * table - handles, and the descriptors behind them.
 *
 * A handle is a generation and the index of a slot. Slots are never freed, so
 * that a stale handle can be looked at; a slot that is used again has another
 * generation.
 *
 * Each of a process's descriptors has a gate: one word with the
 * generation, the number of calls that are inside, and whether it is closed.
 * A call enters, uses the descriptor, and leaves. Closing a gate keeps further
 * calls out; the last one inside closes the descriptor. So no call ever uses a
 * number that has become another file, and no lock is held during read(2).
 */

#ifndef NR_TABLE_H
#define NR_TABLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../include/netrunner.h"
#include "bridge.h"

/* The program's terminal, whichever streams are connected to it. */
enum { NR_TERMINAL = NR_EXIT + 1, NR_GATES };

struct nr_slot {
	_Atomic uint64_t gate[NR_GATES]; /* indexed by NR_STDIN ... NR_TERMINAL */
	_Atomic int open_gates;
	uint32_t index;
	struct nr_slot *next_free;

	/*
	 * Constant while a handle exists. A descriptor is -1 if it is not
	 * connected to the host, and before and after; it changes only while
	 * fork(2) is held.
	 */
	int fd[NR_GATES];
	bool terminal[3];
	bool default_pipe[3];  /* a pipe of the kernel's default size */
	uint64_t output_limit; /* 0: none */
	uint64_t start_ns;

	/* The byte path's counters. */
	_Atomic uint64_t bytes[3];
	_Atomic uint64_t reads;
	_Atomic uint32_t unbroken[3]; /* bytes read since it was found empty, see grow() */
	_Atomic bool grown[3];        /* see nr_table_grow */
	_Atomic uint64_t writes;
	_Atomic unsigned char last_typed; /* the last byte written to the terminal, 0: none */

	pthread_mutex_t limit_mutex; /* one read at a time where there is a limit */
	_Atomic bool limit_reached;

	/* What the shepherd has said: see refresh() in lifecycle.c. */
	pthread_mutex_t report_mutex;
	_Atomic bool final; /* the report will not change any more */
	struct nrg_report report;
};

/*
 * nr_table_reserve takes a slot and returns its future handle, or -ENOMEM. No
 * call can enter before nr_table_publish.
 */
nr_proc nr_table_reserve(struct nr_slot **slot);
void nr_table_publish(nr_proc p, struct nr_slot *slot);
void nr_table_unreserve(struct nr_slot *slot);

/*
 * nr_table_enter enters a gate. 0, or -EBADF for a handle that is not one, or
 * -EPIPE for a stream that has been closed.
 */
int nr_table_enter(nr_proc p, int gate, struct nr_slot **slot);
void nr_table_leave(struct nr_slot *slot, int gate);

/* nr_table_close closes a gate that the caller is inside of: false if it was. */
bool nr_table_close(struct nr_slot *slot, int gate);

/* nr_table_is_closed is for calls that wait inside. */
bool nr_table_is_closed(struct nr_slot *slot, int gate);

/*
 * nr_table_grow takes one of the few pipes that may be larger than usual: false
 * if there is none left. It is given back when its gate is closed.
 */
bool nr_table_grow(struct nr_slot *slot, int stream);

/* Descriptors that belong to no process but must not survive in a fork. */
void nr_table_track(int fd);
void nr_table_close_tracked(int fd);

/*
 * nr_table_at_fork arranges that a forked child closes its copies of our
 * descriptors, which would keep the pipes of the parent's programs open.
 * Between hold and allow, while there are descriptors that the table does not
 * know, fork(2) waits; so nothing in between may. It is not recursive.
 */
int nr_table_at_fork(void);
void nr_table_hold_fork(void);
void nr_table_allow_fork(void);

#endif
