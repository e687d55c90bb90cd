/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Spawning, waiting, killing, releasing. Go decides and never blocks; what has
 * to be waited for is waited for here.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "_cgo_export.h"
#include "guest.h"
#include "launch.h"
#include "table.h"

extern char **environ;

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/*
 * wait_for waits until fd is ready, or until the deadline (UINT64_MAX: none):
 * false when that has passed.
 */
static bool wait_for(int fd, short events, uint64_t deadline_ns)
{
	for (;;) {
		int timeout = -1;
		if (deadline_ns != UINT64_MAX) {
			uint64_t now = now_ns();
			uint64_t left = deadline_ns > now ? (deadline_ns - now + 999999) / 1000000
							  : 0;
			timeout = left > INT_MAX ? INT_MAX : (int)left;
		}
		struct pollfd p = { .fd = fd, .events = events };
		int n = poll(&p, 1, timeout);
		if (n > 0)
			return true;
		if (n == 0 && timeout >= 0 && now_ns() >= deadline_ns)
			return false;
	}
}

/*
 * nap is for a descriptor that was ready for nothing: it keeps a rare wait, for
 * what a shepherd is about to say on another descriptor, from spinning.
 */
static void nap(void)
{
	poll(NULL, 0, 1);
}

/*
 * refresh takes what the shepherd has said about a process. The caller is
 * inside its exit gate.
 */
static int refresh(nr_proc p, struct nr_slot *slot, struct nrg_report *report)
{
	int error = 0;
	pthread_mutex_lock(&slot->report_mutex);
	if (!atomic_load_explicit(&slot->final, memory_order_relaxed)) {
		NR_GO(error, nrg_poll(p, &slot->report));
		if (!error && slot->report.phase >= NRG_FAILED)
			atomic_store_explicit(&slot->final, true, memory_order_release);
	}
	if (!error)
		*report = slot->report;
	pthread_mutex_unlock(&slot->report_mutex);
	return error;
}

static int enter_process(nr_proc p, struct nr_slot **slot)
{
	int error = nr_guest_check();
	return error ? error : nr_table_enter(p, NR_EXIT, slot);
}

/* A size that was never set is not read to its end, as in clone3(2). */
enum { MOST_OPTIONS = 4096 };

/*
 * copy_options makes the caller's options as long as ours, see nr_options.size.
 */
static int copy_options(nr_options *to, const nr_options *from, char *why, size_t whylen)
{
	memset(to, 0, sizeof *to);
	if (!from) {
		snprintf(why, whylen, "options: NULL");
		return -EINVAL;
	}
	/* The first release's; fields are only ever added. Nobody adds so many. */
	size_t size = from->size;
	if (size < sizeof *to || size > MOST_OPTIONS) {
		snprintf(why, whylen, "options.size: %zu", size);
		return size < sizeof *to ? -EINVAL : -E2BIG;
	}
	for (size_t i = sizeof *to; i < size; i++)
		if (((const unsigned char *)from)[i]) {
			snprintf(why, whylen,
				 "options: a field at offset %zu that this version does not know",
				 i);
			return -E2BIG;
		}
	memcpy(to, from, sizeof *to);
	if (!to->env)
		to->env = (const char *const *)environ;
	return 0;
}

/* One thread at a time starts a shepherd, the others then have it. */
static pthread_mutex_t launch_mutex = PTHREAD_MUTEX_INITIALIZER;

static int provide_shepherd(nr_proc p, const char *path, char *why, size_t whylen)
{
	int error = 0, needed, control, pidfd;
	pthread_mutex_lock(&launch_mutex);
	NR_GO(needed, nrg_needs_shepherd(p));
	if (needed)
		error = nr_shepherd_launch(path, &control, &pidfd, why, whylen);
	if (needed && !error)
		NR_GO(error, nrg_adopt(p, control, pidfd, why, whylen));
	pthread_mutex_unlock(&launch_mutex);
	return error;
}

/*
 * launch hands a prepared process to its shepherd, starting that where needed.
 * fork(2) is held, for its child would keep the program's ends of the pipes, but
 * not for as long as a shepherd may be busy.
 * One that dies again and again at this very moment is not usable.
 */
static int launch(nr_proc p, const struct nrg_ends *ends, const char *path, char *why,
		  size_t whylen)
{
	int socket = ends->socket, need = ends->launch, error = 0, launches = 0;
	while (need > 0) {
		if (need == NRG_NEED_ROOM) {
			nr_table_allow_fork();
			/* Not for ever: it may be room for descriptors that is missing. */
			wait_for(socket, POLLOUT, now_ns() + 1000000);
			nr_table_hold_fork();
		} else if (launches++ < 3) {
			error = provide_shepherd(p, path, why, whylen);
		} else {
			snprintf(why, whylen, "%s: ends as soon as it has been started", path);
			error = -ENOPKG;
		}
		if (error)
			return error;
		NR_GO(need, nrg_launch(p, &socket, why, whylen));
	}
	return need;
}

/* prepare makes what the program shares with the host, and begins to launch it. */
static int prepare(nr_proc p, struct nr_slot *slot, const nr_options *o, const char *path,
		   struct nrg_ends *ends, char *why, size_t whylen)
{
	int error;
	NR_GO(error, nrg_prepare(p, (nr_options *)(uintptr_t)o, (char *)(uintptr_t)path, ends, why,
				 whylen));
	if (error) {
		nr_table_unreserve(slot);
		return error;
	}
	for (int i = 0; i < 3; i++) {
		slot->fd[i] = ends->stream[i];
		slot->terminal[i] = ends->terminal[i];
		slot->default_pipe[i] = ends->stream[i] >= 0 && !ends->terminal[i] &&
					o->pipe_size == 0;
	}
	slot->fd[NR_EXIT] = ends->exit;
	slot->fd[NR_TERMINAL] = ends->master;
	nr_table_publish(p, slot);
	return 0;
}

/* await_start waits until a program has been executed, or that has failed. */
static int await_start(nr_proc p, struct nr_slot *slot, char *why, size_t whylen)
{
	for (int turns = 0;; turns++) {
		if (turns > 1)
			nap();
		struct nrg_report report;
		int error = refresh(p, slot, &report);
		if (error)
			return error;
		if (report.phase == NRG_FAILED) {
			snprintf(why, whylen, "%s", report.why);
			return -report.error;
		}
		if (report.phase != NRG_STARTING)
			return 0;
		uint64_t greeting_ns = (uint64_t)report.greeting_ms * 1000000u;
		wait_for(slot->fd[NR_EXIT], POLLIN,
			 greeting_ns > 0 ? now_ns() + greeting_ns : UINT64_MAX);
	}
}
static nr_proc run(const nr_options *o, const char *path, char *why, size_t whylen)
{
	struct nr_slot *slot;
	nr_proc p = nr_table_reserve(&slot);
	if (p < 0) {
		snprintf(why, whylen, "a handle: %s", nr_strerror((int)p));
		return p;
	}
	slot->start_ns = now_ns();
	slot->output_limit = o->output_limit;
	nr_table_hold_fork();
	struct nrg_ends ends;
	int error = prepare(p, slot, o, path, &ends, why, whylen);
	if (error) {
		nr_table_allow_fork();
		return error;
	}
	error = launch(p, &ends, path, why, whylen);
	nr_table_allow_fork();
	if (error) {
		int ignored;
		NR_GO(ignored, nrg_abandon(p));
		(void)ignored;
	} else if (!(o->flags & NR_ASYNC)) {
		error = await_start(p, slot, why, whylen);
	}
	if (error) {
		nr_release(p);
		return error;
	}
	*why = '\0';
	return p;
}

/* The first shepherd is started beside the runtime: both take milliseconds. */
struct ahead {
	const char *path;
	bool launched;
};

static void launch_ahead(void *argument)
{
	struct ahead *ahead = argument;
	nr_table_hold_fork(); /* first, as in run() */
	pthread_mutex_lock(&launch_mutex);
	nr_shepherd_launch_ahead(ahead->path);
	ahead->launched = true;
	pthread_mutex_unlock(&launch_mutex);
	nr_table_allow_fork();
}

static int explain_start(int error, char *why, size_t whylen)
{
	snprintf(why, whylen, "%s",
		 error == -ECHILD ? "this is a fork of the process that loaded the library"
				  : "starting the library's runtime");
	return error;
}

static nr_proc spawn(const nr_options *options, char *why, size_t whylen)
{
	char nowhere[1];
	if (!why || whylen == 0) {
		why = nowhere;
		whylen = sizeof nowhere;
	}
	*why = '\0';
	if (nr_guest_check() == -ECHILD)
		return explain_start(-ECHILD, why, whylen);
	nr_options o;
	int error = copy_options(&o, options, why, whylen);
	if (error)
		return error;
	/* Not on the stack, which may be small; and not before a fork has been refused. */
	char *path = malloc(PATH_MAX);
	if (!path) {
		snprintf(why, whylen, "%s", nr_strerror(-ENOMEM));
		return -ENOMEM;
	}
	struct ahead ahead = { .path = path };
	error = nr_shepherd_path(o.shepherd, path, PATH_MAX, why, whylen);
	if (!error && (error = nr_guest_start(launch_ahead, &ahead)) != 0)
		explain_start(error, why, whylen);
	nr_proc p = error ? error : run(&o, path, why, whylen);
	free(path);
	if (ahead.launched) {
		pthread_mutex_lock(&launch_mutex);
		nr_shepherd_drop_ahead();
		pthread_mutex_unlock(&launch_mutex);
	}
	return p;
}

nr_proc nr_spawn(const nr_options *options, char *why, size_t whylen)
{
	int cancel_state;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	nr_proc p = spawn(options, why, whylen);
	if (p == -EIO && why && whylen > 0 && !*why)
		snprintf(why, whylen, "a bug of libnetrunner, of which stderr has more");
	pthread_setcancelstate(cancel_state, NULL);
	return p;
}

int nr_why(nr_proc p, char *why, size_t whylen)
{
	struct nr_slot *slot;
	struct nrg_report report;
	int error = enter_process(p, &slot);
	if (error)
		return error;
	error = refresh(p, slot, &report);
	nr_table_leave(slot, NR_EXIT);
	if (!error && why && whylen > 0)
		snprintf(why, whylen, "%s", report.phase == NRG_FAILED ? report.why : "");
	return error;
}

int nr_pid(nr_proc p)
{
	struct nr_slot *slot;
	struct nrg_report report;
	int error = enter_process(p, &slot);
	if (error)
		return error;
	error = refresh(p, slot, &report);
	nr_table_leave(slot, NR_EXIT);
	if (error)
		return error;
	if (report.phase == NRG_STARTING)
		return -EAGAIN;
	return report.phase == NRG_FAILED ? -ESRCH : report.pid;
}

/*
 * How long nr_kill() waits for the shepherd's answer, which takes two context
 * switches. Later the signal is still sent, and its error is not known.
 */
enum { ANSWER_NS = 20 * 1000 * 1000 };

static int await_answer(nr_proc p, struct nr_slot *slot, uint32_t sequence)
{
	uint64_t deadline = now_ns() + ANSWER_NS;
	for (;;) {
		struct nrg_report report;
		int error = refresh(p, slot, &report);
		if (error)
			return error;
		/* Numbers wrap around. */
		if ((int32_t)(report.answered - sequence) >= 0)
			return report.answered == sequence ? -report.answer_error : 0;
		if (report.phase >= NRG_FAILED)
			return -ESRCH;
		if (!wait_for(slot->fd[NR_EXIT], POLLIN, deadline))
			return 0;
	}
}

int nr_kill(nr_proc p, int sig)
{
	struct nr_slot *slot;
	uint32_t sequence;
	int error = enter_process(p, &slot);
	if (error)
		return error;
	int cancel_state;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	NR_GO(error, nrg_signal(p, sig, &sequence));
	if (!error)
		error = await_answer(p, slot, sequence);
	pthread_setcancelstate(cancel_state, NULL);
	nr_table_leave(slot, NR_EXIT);
	return error;
}

int nr_stop(nr_proc p)
{
	struct nr_slot *slot;
	int error = enter_process(p, &slot);
	if (error)
		return error;
	NR_GO(error, nrg_stop(p, NR_REASON_KILLED));
	nr_table_leave(slot, NR_EXIT);
	return error;
}

static void fill_outcome(nr_outcome *how, const struct nrg_report *report)
{
	nr_outcome full = { .size = how->size,
			    .code = report->code,
			    .signal = report->signal,
			    .reason = report->reason,
			    .core = report->core };
	memcpy(how, &full, how->size < sizeof full ? how->size : sizeof full);
}

/* 0 and the outcome, or why there is none, or -EAGAIN. */
static int outcome(const struct nrg_report *report, nr_outcome *how)
{
	switch (report->phase) {
	case NRG_ENDED:
		if (how)
			fill_outcome(how, report);
		return 0;
	case NRG_FAILED:
		/* -EAGAIN would say that it still runs. */
		return report->error == EAGAIN ? -ENOMEM : -report->error;
	case NRG_LOST:
		return -EOWNERDEAD;
	default:
		return -EAGAIN;
	}
}

/* A thread that is cancelled while it waits leaves the gate. */
static void leave_exit_gate(void *slot)
{
	nr_table_leave(slot, NR_EXIT);
}

int nr_wait(nr_proc p, int timeout_ms, nr_outcome *how)
{
	struct nr_slot *slot;
	int error = enter_process(p, &slot);
	if (error)
		return error;
	if (timeout_ms < -1 || (how && how->size < sizeof how->size)) {
		nr_table_leave(slot, NR_EXIT);
		return -EINVAL;
	}
	uint64_t deadline = timeout_ms < 0 ? UINT64_MAX
					   : now_ns() + (uint64_t)timeout_ms * 1000000u;
	pthread_cleanup_push(leave_exit_gate, slot);
	for (int turns = 0;; turns++) {
		if (turns > 2)
			nap();
		struct nrg_report report;
		error = refresh(p, slot, &report);
		if (!error && nr_table_is_closed(slot, NR_EXIT))
			error = -EBADF; /* released by another thread, whatever came of it */
		if (!error)
			error = outcome(&report, how);
		if (error != -EAGAIN || timeout_ms == 0)
			break;
		if (!wait_for(slot->fd[NR_EXIT], POLLIN, deadline)) {
			error = -ETIMEDOUT;
			break;
		}
	}
	pthread_cleanup_pop(1);
	return error;
}

int nr_release(nr_proc p)
{
	struct nr_slot *slot;
	int error = enter_process(p, &slot);
	if (error)
		return error;
	if (!nr_table_close(slot, NR_EXIT)) {
		nr_table_leave(slot, NR_EXIT);
		return -EBADF; /* another thread's nr_release() */
	}
	/* First: a read under way must not see an end that we bring about. */
	for (int gate = 0; gate < NR_GATES; gate++) {
		struct nr_slot *same;
		if (gate != NR_EXIT && nr_table_enter(p, gate, &same) == 0) {
			nr_table_close(same, gate);
			nr_table_leave(same, gate);
		}
	}
	/* Tells the shepherd, and wakes who waits. */
	NR_GO(error, nrg_release(p));
	nr_table_leave(slot, NR_EXIT);
	return error;
}

int nr_stats(nr_proc p, nr_statistics *s)
{
	struct nr_slot *slot;
	struct nrg_report report;
	struct nrg_usage usage;
	int error = enter_process(p, &slot);
	if (error)
		return error;
	if (!s || s->size < sizeof s->size) {
		error = -EINVAL;
	} else {
		NR_GO(error, nrg_usage(p, &usage));
		if (!error)
			error = refresh(p, slot, &report);
	}
	if (!error) {
		nr_statistics full = {
			.size = s->size,
			.stdin_bytes = atomic_load(&slot->bytes[NR_STDIN]),
			.stdout_bytes = atomic_load(&slot->bytes[NR_STDOUT]),
			.stderr_bytes = atomic_load(&slot->bytes[NR_STDERR]),
			.writes = atomic_load(&slot->writes),
			.reads = atomic_load(&slot->reads),
			.wall_ns = UINT64_MAX,
			.user_ns = usage.user_ns,
			.system_ns = usage.system_ns,
			.memory = usage.memory,
			.memory_peak = usage.memory_peak,
			.processes = usage.processes,
			.minor_faults = usage.minor_faults,
			.major_faults = usage.major_faults,
			.blocks_in = usage.blocks_in,
			.blocks_out = usage.blocks_out,
			.voluntary_switches = usage.voluntary_switches,
			.involuntary_switches = usage.involuntary_switches,
		};
		if (report.phase == NRG_ENDED)
			full.wall_ns =
				report.end_ns > slot->start_ns ? report.end_ns - slot->start_ns : 0;
		else if (report.phase < NRG_FAILED)
			full.wall_ns = now_ns() - slot->start_ns;
		memcpy(s, &full, s->size < sizeof full ? s->size : sizeof full);
	}
	nr_table_leave(slot, NR_EXIT);
	return error;
}

ssize_t nr_cgroup_get(nr_proc p, const char *file, char *buf, size_t len)
{
	struct nr_slot *slot;
	size_t length = 0;
	int error = enter_process(p, &slot);
	if (error)
		return error;
	if (buf && len > 0)
		*buf = '\0';
	if (!file || (!buf && len > 0))
		error = -EINVAL;
	else
		NR_GO(error, nrg_cgroup_get(p, (char *)file, buf, len, &length));
	nr_table_leave(slot, NR_EXIT);
	return error ? error : (ssize_t)length;
}

int nr_cgroup_set(nr_proc p, const char *file, const char *value)
{
	struct nr_slot *slot;
	int error = enter_process(p, &slot);
	if (error)
		return error;
	if (!file || !value)
		error = -EINVAL;
	else
		NR_GO(error, nrg_cgroup_set(p, (char *)file, (char *)value));
	nr_table_leave(slot, NR_EXIT);
	return error;
}
