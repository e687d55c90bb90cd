/* SPDX-License-Identifier: Apache-2.0 */

/* What the measuring programs share that needs no library. */

#ifndef BENCH_PROC_H
#define BENCH_PROC_H

#include <errno.h>
#include <stdint.h>
#include <sys/types.h>

#define COUNT_OF(a) (sizeof(a) / sizeof(a)[0])

_Noreturn void fail(const char *what, int64_t error);
int64_t now_ns(void);
long number(const char *text);
pid_t parent_of(pid_t pid);
long private_kib(pid_t pid);

/* Of all threads of a process so far. */
long context_switches(pid_t pid);

/* The soft limit of descriptors becomes the hard one; for root, n at least. */
void allow_descriptors(unsigned n);

/* Memory of this process that a fork would have to copy the page tables of. */
void touch_memory(long mib);

#endif
