/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the library costs a host that has just loaded it, and one that idles.
 *
 *     start LIBRARY SECONDS
 *
 * Samples: "dlopen" and "first", the first spawn of /bin/true to its return, in
 * ms; "kib", private memory that both have added to the host; and, with one
 * program that does nothing, for so many seconds, "host_wakeups" and
 * "shepherd_wakeups", context switches per second.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <netrunner.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "proc.h"

static void *symbol(void *library, const char *name)
{
	void *s = dlsym(library, name);

	if (!s)
		fail(name, ENOENT);
	return s;
}

/* Of the threads that are not this one. */
static long others_switches(void)
{
	struct rusage own;

	getrusage(RUSAGE_THREAD, &own);
	return context_switches(getpid()) - own.ru_nvcsw - own.ru_nivcsw;
}

int main(int argc, char **argv)
{
	static const char *const true_argv[] = { "/bin/true", NULL };
	static const char *const idle_argv[] = { "/bin/sleep", "1000", NULL };
	nr_options o = { .size = sizeof o, .argv = true_argv };
	__typeof__(&nr_spawn) spawn;
	__typeof__(&nr_pid) pid;
	__typeof__(&nr_wait) wait;
	__typeof__(&nr_kill) kill;
	__typeof__(&nr_release) release;
	long before = private_kib(getpid()), host, shepherd;
	pid_t shepherd_pid;
	int64_t start, opened, called, spawned;
	unsigned seconds, turns = 0;
	void *library;
	nr_proc p;

	if (argc != 3)
		return fprintf(stderr, "usage: %s LIBRARY SECONDS\n", argv[0]), 2;
	seconds = (unsigned)number(argv[2]);
	start = now_ns();
	library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	opened = now_ns();
	if (!library)
		return fprintf(stderr, "%s\n", dlerror()), 1;
	spawn = (__typeof__(spawn))symbol(library, "nr_spawn");
	pid = (__typeof__(pid))symbol(library, "nr_pid");
	wait = (__typeof__(wait))symbol(library, "nr_wait");
	kill = (__typeof__(kill))symbol(library, "nr_kill");
	release = (__typeof__(release))symbol(library, "nr_release");

	called = now_ns();
	p = spawn(&o, NULL, 0);
	spawned = now_ns();
	if (p < 0 || wait(p, -1, NULL))
		fail("nr_spawn", p);
	release(p);
	printf("dlopen %.3f\nfirst %.3f\nkib %ld\n", (double)(opened - start) / 1e6,
	       (double)(spawned - called) / 1e6, private_kib(getpid()) - before);
	if (seconds == 0)
		return 0;

	o.argv = idle_argv;
	p = spawn(&o, NULL, 0);
	if (p < 0)
		fail("nr_spawn", p);
	shepherd_pid = parent_of(pid(p));
	do { /* until all of it has come to rest, if ever */
		host = others_switches();
		shepherd = context_switches(shepherd_pid);
		sleep(1);
	} while (turns++ < 30 &&
		 others_switches() + context_switches(shepherd_pid) > host + shepherd);
	sleep(seconds);
	printf("host_wakeups %.2f\n", (double)(others_switches() - host) / seconds);
	printf("shepherd_wakeups %.2f\n",
	       (double)(context_switches(shepherd_pid) - shepherd) / seconds);
	kill(p, SIGKILL);
	wait(p, -1, NULL);
	release(p);
	return 0;
}
