/* SPDX-License-Identifier: Apache-2.0 */

/*
 * proc.h - what /proc tells about processes, for checks that must not rely on
 * the library under test.
 */

#ifndef PROC_H
#define PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * Every program that a test starts has this variable in its environment, with
 * a value that only this test of this run has. So it is found again whatever
 * became of its parents, and a process id used twice misleads nobody.
 */
#define MARK_NAME "NR_TEST_MARK"

/* The open descriptors of a process, one text "NUMBER TARGET" for each. */
struct fd_list {
	size_t count;
	char (*texts)[512];
};

/* proc_fds lists the descriptors of pid, or of this process for 0. */
bool proc_fds(pid_t pid, struct fd_list *list);
void proc_fds_free(struct fd_list *list);
bool proc_fds_has(const struct fd_list *list, const char *text);

/*
 * proc_has_mark tells whether a variable in the process' environment begins
 * with this. It is false for a zombie too: it has no environment any more.
 */
bool proc_has_mark(pid_t pid, const char *mark);

/*
 * proc_marked stores the processes with the mark, and returns how many there
 * are, which may be more than max. A shepherd lives as long as its host, so it
 * is counted only on request.
 */
size_t proc_marked(const char *mark, bool shepherds, pid_t *pids, size_t max);

/* proc_parent is 0 if there is no such process. */
pid_t proc_parent(pid_t pid);

/* proc_state is the letter of ps(1), or 0. */
char proc_state(pid_t pid);
/* Whether all threads of a process have been stopped by SIGSTOP. */
bool proc_is_stopped(pid_t pid);

bool proc_is_shepherd(pid_t pid);

/* proc_describe writes "PID (command line)". */
void proc_describe(pid_t pid, char *buf, size_t len);

#endif /* PROC_H */
