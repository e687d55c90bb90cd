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
 * it in no waitpid(2). *pidfd may become -1. 0 or a negative errno with why.
 */
int nr_shepherd_launch(const char *path, int *control, int *pidfd, char *why, size_t whylen);

#endif
