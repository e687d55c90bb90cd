/* SPDX-License-Identifier: Apache-2.0 */

/*
 * launch - start a shepherd.
 */

#ifndef NR_LAUNCH_H
#define NR_LAUNCH_H

#include <stddef.h>

/*
 * nr_shepherd_path finds the executable: wanted, or if that is NULL
 * $NETRUNNER_SHEPHERD, or beside this shared object, or in
 * ../libexec/netrunner from there. 0 or -ENOPKG with why.
 */
int nr_shepherd_path(const char *wanted, char *path, size_t size, char *why, size_t whylen);

/*
 * nr_shepherd_launch executes it, with the other end of *control as its
 * descriptor 3, as nobody's child: the host gets no SIGCHLD from it and sees
 * it in no waitpid(2). *pidfd, which is its guardian's, may become -1. Forks of the
 * host close both (nr_table_track). 0 or a negative errno with why.
 */
int nr_shepherd_launch(const char *path, int *control, int *pidfd, char *why, size_t whylen);

/*
 * nr_shepherd_launch_ahead executes it for an nr_shepherd_launch() soon, if the host
 * is still what it is now; nr_shepherd_drop_ahead() lets it go if there was none.
 * Only one thread may be in any of these three.
 */
void nr_shepherd_launch_ahead(const char *path);
void nr_shepherd_drop_ahead(void);

#endif
