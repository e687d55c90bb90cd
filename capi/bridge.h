/* SPDX-License-Identifier: Apache-2.0 */

/*
 * bridge - what the C side and the Go side of this directory tell each other.
 * The functions nrg_... are Go's. None of them blocks; where something has to
 * be waited for they say so, and C waits.
 */

#ifndef NR_BRIDGE_H
#define NR_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Threads that nrg_started makes, for whenever the runtime needs one. */
enum { NRG_SPARE_THREADS = 8 };

/* The ends of what nrg_prepare has made that belong to the host, or -1. */
struct nrg_ends {
	int stream[3];
	bool terminal[3];
	int exit;
	int master; /* of the program's terminal */
	int launch; /* what the first nrg_launch has returned, */
	int socket; /* with this */
};

/* What nrg_launch, which nrg_prepare calls first, returns when it has to be called again. */
enum {
	NRG_NEED_SHEPHERD = 1, /* after nrg_adopt */
	NRG_NEED_ROOM = 2,     /* when the socket is writable */
};

/* How far a process has come. */
enum { NRG_STARTING, NRG_RUNNING, NRG_FAILED, NRG_ENDED, NRG_LOST };

enum { NRG_WHY = 512 };

/* What is known about a process. */
struct nrg_report {
	int phase;
	int greeting_ms; /* NRG_STARTING: ask again after that time at the latest; 0: no limit */
	int pid;
	int error; /* NRG_FAILED: a positive errno */
	char why[NRG_WHY];

	int32_t code;
	int32_t signal;
	int32_t reason;
	int32_t core;
	uint64_t end_ns; /* CLOCK_MONOTONIC */

	uint32_t answered;    /* the last signal that the shepherd has answered */
	int32_t answer_error; /* a positive errno, or 0 */
};

/* What it has used; UINT64_MAX: not known. */
struct nrg_usage {
	uint64_t user_ns;
	uint64_t system_ns;
	uint64_t memory;
	uint64_t memory_peak;
	uint64_t processes;
	uint64_t minor_faults;
	uint64_t major_faults;
	uint64_t blocks_in;
	uint64_t blocks_out;
	uint64_t voluntary_switches;
	uint64_t involuntary_switches;
};

#endif
